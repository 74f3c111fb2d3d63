"""Parameters of estimators as JSON and back: plain values, solvers, optimizers, splitters."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import model_selection
from torch import nn

from ..inputs.values import CannotWriteError, pack, unpack
from ..solvers.base import Solver
from ..solvers.registry import SOLVERS
from .modules import Tensors, module_of, written_module

__all__ = ["NotSaved", "read_parameter", "written_parameter"]

_SOLVERS = {kind.__name__: kind for kind in SOLVERS.values()}
_OPTIMIZERS: dict[str | None, type] = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)
}
_SPLITTERS = {
    name: kind
    for name, kind in vars(model_selection).items()
    if inspect.isclass(kind) and issubclass(kind, model_selection.BaseCrossValidator)
} | {
    kind.__name__: kind
    for kind in (
        *(model_selection.ShuffleSplit, model_selection.StratifiedShuffleSplit),
        *(model_selection.GroupShuffleSplit, model_selection.RepeatedKFold),
        *(model_selection.RepeatedStratifiedKFold, model_selection.PredefinedSplit),
    )
}


@dataclass(frozen=True)
class NotSaved:
    """Stands for a parameter that was not saved; `fit` refuses it.

    Parameters
    ----------
    what : str
        What it was.
    """

    what: str

    def __repr__(self) -> str:
        return f"<not saved: {self.what}>"


def written_parameter(name: str, value: Any, tensors: Tensors, lost: list[str]) -> Any:
    """Return a parameter as what JSON holds; what cannot be written is noted in ``lost``."""
    try:
        return _written(name, value, tensors, lost)
    except CannotWriteError as error:
        lost.append(f"{name} ({error})")
        return {"not saved": str(error)}


def _written(name: str, value: Any, tensors: Tensors, lost: list[str]) -> Any:
    kind = type(value)
    if isinstance(value, nn.Module):
        return {"module": written_module(value, name, tensors)}
    if isinstance(value, Solver):
        if _SOLVERS.get(kind.__name__) is not kind:
            raise CannotWriteError(f"{kind.__module__}.{kind.__qualname__}")
        settings = value.get_params(deep=False)
        return {
            kind.__name__: {
                key: written_parameter(f"{name}.{key}", each, tensors, lost)
                for key, each in settings.items()
            }
        }
    if any(value is optimizer for optimizer in _OPTIMIZERS.values()):
        return {"optimizer": value.__name__}
    if isinstance(value, np.random.RandomState):
        return {"RandomState": pack(value.get_state(legacy=False))}
    if _SPLITTERS.get(kind.__name__) is kind:
        held = {**getattr(value, "cvargs", {}), **vars(value)}  # the first of repeated ones
        settings = {key: held[key] for key in inspect.signature(kind).parameters}
        written = {
            key: _written(f"{name}.{key}", each, tensors, lost) for key, each in settings.items()
        }
        return {"splitter": [kind.__name__, written]}
    if kind.__module__.partition(".")[0] == "pandas" and kind.__name__ == "Series":
        value = dict(zip(value.index.tolist(), value.tolist(), strict=True))
    return pack(value)


def _checked_state(state: Any) -> Any:
    """Return what NumPy does not check itself of the state of its generator."""
    key, place = state["state"]["key"], state["state"]["pos"]
    if key.shape != (624,) or key.dtype != np.uint32 or not 0 <= place <= 624:
        raise ValueError("The state of a RandomState is none.")
    return state


def read_parameter(name: str, written: Any, tensors: Tensors) -> Any:
    """Return what `written_parameter` was given; anything else is a ValueError."""
    if not isinstance(written, dict) or len(written) != 1:
        return unpack(written)
    ((kind, content),) = written.items()
    if kind == "not saved":
        return NotSaved(str(content))
    if kind == "module":
        return module_of(content, name, tensors)
    if kind == "optimizer" and content in _OPTIMIZERS:
        return _OPTIMIZERS[content]
    try:
        if kind in _SOLVERS:
            settings = {
                str(key): read_parameter(f"{name}.{key}", each, tensors)
                for key, each in content.items()
            }
            return _SOLVERS[kind](**settings)
        if kind == "splitter" and content[0] in _SPLITTERS:
            settings = {
                key: read_parameter(name, each, tensors) for key, each in content[1].items()
            }
            return _SPLITTERS[content[0]](**settings)
        if kind == "RandomState":
            state = np.random.RandomState()
            state.set_state(_checked_state(unpack(content)))
            return state
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ValueError(f"{name} cannot be read ({error}).") from error
    return unpack(written)
