"""What of a module changed between two looks, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

from .bytecode import globals_in
from .digest import UnknownContentError
from .fingerprint import fingerprint
from .library import library, library_of_function

__all__ = ["changes"]

_CODE = (FunctionType, ModuleType, type)


def changes(run: Callable[[], Any], module: nn.Module, preprocess: Any) -> tuple[str, Any]:
    """Return the names of what a call changes in a module and a preprocess, and what it returns.

    They hold parameters, buffers and attributes, and those of all parts; a function the variables
    that it closes over, and the globals that it uses.

    Examples
    --------
    >>> module = nn.Linear(2, 1)
    >>> changes(lambda: setattr(module, "calls", 1), module, None)
    ('module.calls', None)
    """
    before = _digests(module, preprocess)
    found = run()
    after = _digests(module, preprocess)
    names = sorted(name for name in before | after if before.get(name) != after.get(name))
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else ""), found


def _digests(module: nn.Module, preprocess: Any) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, value in [*_of_module(module), *_of_callable("preprocess", preprocess)]:
        try:
            found[name] = fingerprint(value)
        except UnknownContentError:
            found[name] = b""
    return found


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
