"""What scikit-learn needs to carry a torch module as an estimator's parameter."""

from __future__ import annotations

import copy
from typing import Self

import torch
from sklearn.base import BaseEstimator, clone
from torch import nn

from .feature_store import DiskStore, MemoryStore

# What clones share with their original.
_SHARED = (nn.Module, MemoryStore, DiskStore)

__all__ = ["ModuleParamsMixin", "describe_module", "resolve_device"]


def describe_module(module: nn.Module) -> str:
    """Return a module in one line: its class and number of parameters, or its short repr."""
    if not any(True for _ in module.children()):
        return repr(module)
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{type(module).__name__}(...{count:,} parameters)"


def resolve_device(device: str | torch.device | None, default: torch.device) -> torch.device:
    """Return the torch device that a ``device`` parameter names.

    Parameters
    ----------
    device : str, torch.device or None
        "auto" is a CUDA GPU where there is one, else ``default``; so is None,
        without looking for a GPU.
    default : torch.device
        Where the data or module already is.
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

    def __init__(self, module: nn.Module) -> None:
        self._text = describe_module(module)

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

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        return BaseEstimator.__repr__(self._with_short_modules(), N_CHAR_MAX)

    def _with_short_modules(self) -> Self:
        shown = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, nn.Module):
                setattr(shown, name, _OneLine(value))
            elif isinstance(value, ModuleParamsMixin):
                setattr(shown, name, value._with_short_modules())
        return shown
