"""What scikit-learn needs to carry a torch module as an estimator's parameter."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

import torch
from sklearn.base import BaseEstimator, clone
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..feature_store import DiskStore, MemoryStore
from ..feature_store.fingerprint import fingerprint
from ..inputs.requests import requests_of, set_requests
from ..onnx import OnnxModule
from .named import by_name, rebuilt
from .plain import plain_module, torch_module

# What clones share with their original.
_SHARED = (nn.Module, MemoryStore, DiskStore)

__all__ = [
    "ModuleParamsMixin",
    "all_or_nothing",
    "around",
    "count_parameters",
    "digest_of_weights",
    "named_weights",
    "resolve_device",
    "without_tensors",
]


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Put back the attributes of an estimator whose fit did not end, for whatever reason.

    Examples
    --------
    >>> from contextlib import suppress
    >>> class Estimator: pass
    >>> estimator = Estimator()
    >>> with suppress(ValueError), all_or_nothing(estimator):
    ...     estimator.classes_ = [0, 1]
    ...     raise ValueError
    >>> hasattr(estimator, "classes_")
    False
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def count_parameters(module: nn.Module) -> int | None:
    """Return the number of a module's parameters; None if they cannot be counted.

    Those of an ONNX model are in a file that torch does not look into, those of a lazy
    module are not there before it first runs.
    """
    if any(isinstance(part, OnnxModule) for part in module.modules()):
        return None
    if any(is_lazy(parameter) for parameter in module.parameters()):
        return None
    return sum(parameter.numel() for parameter in module.parameters())


def named_weights(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return parameters and buffers by name, tied ones under each.

    Buffers that are not saved with a module are left out: some are filled in as it runs.

    Examples
    --------
    >>> [name for name, _ in named_weights(nn.Linear(2, 1))]
    ['weight', 'bias']
    """
    return [
        *module.named_parameters(remove_duplicate=False),
        *(
            (f"{prefix}.{name}" if prefix else name, buffer)
            for prefix, part in module.named_modules(remove_duplicate=False)
            for name, buffer in part._buffers.items()
            if buffer is not None and name not in part._non_persistent_buffers_set
        ),
    ]


def digest_of_weights(module: nn.Module) -> str:
    """Return 32 hexadecimal digits that stand for the names and values of `named_weights`.

    Examples
    --------
    >>> module = nn.BatchNorm1d(2)
    >>> before = digest_of_weights(module)
    >>> _ = module(torch.ones(3, 2))  # in training mode that fills the buffers
    >>> digest_of_weights(module) == before
    False
    """
    module = getattr(module, "_orig_mod", module)  # of torch.compile
    # What others note on a tensor is no part of its values.
    named = [
        (name, each if is_lazy(each) else each.detach()) for name, each in named_weights(module)
    ]
    return fingerprint(named, versions=False).hex()


def resolve_device(device: str | torch.device | None, default: torch.device) -> torch.device:
    """Return the torch device that a ``device`` parameter names.

    "auto" is a CUDA GPU where there is one, else the default, where the data or module already
    is; so is None, without looking for a GPU.
    """
    if device is None or (device == "auto" and not torch.cuda.is_available()):
        return default
    if device == "auto":
        return torch.device("cuda")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here ({str(error).splitlines()[0]}); "
            "use 'auto', 'cpu', or the name of a device that torch finds."
        ) from error


class _OneLine:
    """Stands for a module where an estimator's parameters are printed."""

    def __init__(self, module: nn.Module, *, size: bool) -> None:
        count = count_parameters(module) if size else None
        inside = "..." if count is None else f"...{count:,} parameters"
        whole = not any(True for _ in module.children())
        self._text = repr(module) if whole else f"{type(module).__name__}({inside})"

    def __repr__(self) -> str:
        return self._text


class ModuleParamsMixin:
    """Share torch modules between clones, and keep them out of the repr.

    ``sklearn.clone`` deep-copies what is not an estimator: a grid search would
    hold a copy of the backbone for each fit. The modules here are never
    modified, so clones can share them, and stores are there to be shared.
    """

    def __sklearn_clone__(self) -> Self:
        params = self.get_params(deep=False)  # type: ignore[attr-defined]
        new = type(self)(
            **{
                name: value if isinstance(value, _SHARED) else clone(value, safe=False)
                for name, value in params.items()
            }
        )
        # What clone() carries over besides parameters. Not deepcopy: a request refers to its
        # estimator, and with that to the modules.
        for name in ("_metadata_request", "_sklearn_output_config"):
            if hasattr(self, name):
                setattr(new, name, clone(getattr(self, name), safe=False))
        if hasattr(self, "_skl_callbacks"):
            new._skl_callbacks = self._skl_callbacks  # type: ignore[attr-defined]
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes as plain ones, for who writes objects by them, as skops does."""
        state = without_tensors(vars(self))
        if "_metadata_request" in state:  # it holds the estimator itself
            state["_metadata_request"] = requests_of(self)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = {
            name: torch_module(value) if isinstance(value, nn.Module) else value
            for name, value in state.items()
        }
        requests = state.get("_metadata_request")
        if isinstance(requests, dict):
            del state["_metadata_request"]
        super().__setstate__(state)  # type: ignore[misc]
        if isinstance(requests, dict):
            set_requests(self, requests)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return what pickles and copies hold: the modules as they are."""
        state = dict(vars(self))
        return rebuilt, (type(self), by_name(state)), state

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        return BaseEstimator.__repr__(self._with_short_modules(), N_CHAR_MAX)

    def _get_params_html(self, *args: Any, **kwargs: Any) -> Any:
        """Return scikit-learn's table of parameters (from 1.7 on) with short modules."""
        # The table cuts a text of more than 30 characters in its middle.
        shown = self._with_short_modules(size=False)
        return super(ModuleParamsMixin, shown)._get_params_html(*args, **kwargs)  # type: ignore[misc]

    def _with_short_modules(self, *, size: bool = True) -> Self:
        shown: Any = copy.copy(self)
        cls: Any = type(self)
        shown.__class__ = _printed_class(cls)
        for name, value in vars(self).items():
            if isinstance(value, nn.Module):
                setattr(shown, name, _OneLine(value, size=size))
            elif isinstance(value, ModuleParamsMixin):
                setattr(shown, name, value._with_short_modules(size=size))
        return shown


def without_tensors(state: dict[str, Any]) -> dict[str, Any]:
    """Return attributes with plain modules in place of torch's."""
    return {
        name: plain_module(value) if isinstance(value, nn.Module) else value
        for name, value in state.items()
    }


def around(extractor: Any, module: nn.Module) -> Any:
    """Return an extractor with the same attributes around another module."""
    new = copy.copy(extractor)
    new.module = module
    return new


@cache
def _printed_class(cls: Any) -> Any:
    """Return the class again, printed by scikit-learn, which breaks lines only of its own repr."""
    own = {"__repr__": BaseEstimator.__repr__, "__doc__": cls.__doc__, "__module__": cls.__module__}
    return type(cls.__name__, (cls,), own)
