"""What of a module changed between two looks, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

from .fingerprint import UnknownContentError, fingerprint, globals_in
from .library import library, library_of_function

__all__ = ["changed_names", "state_by_name"]

_CODE = (FunctionType, ModuleType, type)


def state_by_name(module: nn.Module, preprocess: Any) -> dict[str, bytes]:
    """Return a digest of each thing that a module and a preprocess hold, by its name.

    Parameters
    ----------
    module : nn.Module
        Its parameters, buffers and attributes, and those of all its parts.
    preprocess : callable or None
        Its attributes, or the variables that it closes over.

    Examples
    --------
    >>> before = state_by_name(module := nn.Linear(2, 1), None)
    >>> module.calls = 1
    >>> changed_names(before, state_by_name(module, None))
    ['module.calls']
    """
    found: dict[str, bytes] = {}
    for name, value in [*_of_module(module), *_of_callable("preprocess", preprocess)]:
        try:
            found[name] = fingerprint(value)
        except UnknownContentError:
            found[name] = b""
    return found


def changed_names(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Return the names whose digests differ, or that only one of the two has."""
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name)]


def _of_module(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, part in module.named_modules():
        prefix = f"module.{path}." if path else "module."
        own = {**vars(part), **part._parameters, **part._buffers}
        for name in own.keys() - vars(nn.Module()).keys():
            yield prefix + name, own[name]
        kind = type(part)
        if library(kind.__module__) is None:
            for name, value in vars(kind).items():
                if isinstance(value, FunctionType):
                    yield from _of_callable(f"{kind.__name__}.{name}", value)
                elif not name.startswith("__"):
                    yield f"{kind.__name__}.{name}", value
        for hook in [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]:
            yield from _of_callable("a hook", hook)


def _of_callable(title: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, MethodType):
        value = value.__self__
    if isinstance(value, FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            with suppress(ValueError):  # a variable that is not set yet
                if not isinstance(cell.cell_contents, _CODE):
                    yield f"the variable {name} of {title}", cell.cell_contents
        if library_of_function(value) is None:
            for name in globals_in(value.__code__) & value.__globals__.keys():
                found = value.__globals__[name]
                if not isinstance(found, _CODE):
                    yield f"the global variable {name}", found
    elif value is not None:
        state = getattr(value, "__dict__", {})
        yield from ((f"{title}.{name}", item) for name, item in state.items())
        if not state:
            yield title, value
