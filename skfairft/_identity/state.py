"""Which attributes and objects running a module changes, and which libraries are trusted.

The paths of `skfairft._identity.bytecode` are followed on the objects at hand, from the forward
passes, hooks and callables into the methods and functions that they call.
"""

from __future__ import annotations

import builtins
import functools
import importlib.metadata
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath
from types import CellType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.jit import ScriptModule

from .bytecode import ITEM, CodeFacts, Path, code_facts

__all__ = ["Changes", "library", "library_of_function", "methods_of_class"]

_MUTABLE = (list, dict, set, deque, bytearray, np.ndarray, Tensor)
_MUTATORS = {
    "add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "fill", "insert",
    "move_to_end", "pop", "popitem", "popleft", "put", "remove", "resize", "reverse", "rotate",
    "setdefault", "sort", "subtract", "update",
}  # fmt: skip
# Their functions change what they are given only in ways that are named above, and are many.
_NOT_FOLLOWED = {"torch", "numpy", "pandas", "scipy", "PIL"}
_INSTALLED = tuple(
    f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


@functools.cache
def library(module: str) -> str | None:
    """Return name and version of the installed library that a module is part of.

    Parameters
    ----------
    module : str
        Dotted name.

    Returns
    -------
    str or None
        Such as "torch 2.13.0"; None for the user's own code, which is known by its bytecode.

    Examples
    --------
    >>> import numpy
    >>> library("numpy.linalg") == f"numpy {numpy.__version__}"
    True
    >>> library("__main__") is None
    True
    """
    name = module.partition(".")[0]
    if name in ("__main__", "__mp_main__"):
        return None
    found = sys.modules.get(name)
    file = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), None)
    if file is None:
        return "python" if name in sys.stdlib_module_names else None
    if "site-packages" in (parts := FilePath(file).parts) or "dist-packages" in parts:
        version = getattr(found, "__version__", None)
        if not isinstance(version, str):
            try:
                version = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                version = "?"
        return f"{name} {version}"
    if file.startswith(_INSTALLED):
        return "python"
    return f"torch {found.__version__}" if name == "torch" and found else None


def library_of_function(function: FunctionType) -> str | None:
    """Return the library whose code a function is; functools.wraps cannot disguise it."""
    return library(str(function.__globals__.get("__name__", "__main__")))


def methods_of_class(kind: type, name: str) -> Iterable[Any]:
    """Yield what the classes of a method resolution order define under a name."""
    return (vars(base)[name] for base in kind.__mro__ if name in vars(base))


class Changes:
    """What running modules and callables changes.

    Parameters
    ----------
    parts : iterable
        Modules, callables, and containers of them.

    Attributes
    ----------
    attributes : set of (int, str)
        Identity of an object, or of the dictionary of a Python module, and the name of its
        attribute that is rebound.
    objects : set of int
        Identities of containers, arrays, tensors and closure cells changed in place.

    Examples
    --------
    >>> class Counter:
    ...     rows, scale = 0, 2.0
    ...     def __call__(self, x):
    ...         self.rows += len(x)
    ...         return x * self.scale
    >>> counter = Counter()
    >>> Changes([counter]).attributes == {(id(counter), "rows")}
    True
    """

    def __init__(self, parts: Iterable[Any]) -> None:
        self.attributes: set[tuple[int, str]] = set()
        self.objects: set[int] = set()
        self._seen: set[Any] = set()
        self._alive: list[Any] = []  # so that no identity is given twice
        for part in parts:
            self._enter(part)

    def _enter(self, part: Any) -> None:
        if isinstance(part, (list, tuple, dict)) and id(part) in self._seen:
            return
        self._seen.add(id(part))
        if isinstance(part, (list, tuple)):
            for item in part:
                self._enter(item)
        elif isinstance(part, dict):
            for item in part.values():
                self._enter(item)
        else:
            self._run(part, ())

    def _run(self, function: Any, arguments: Sequence[list[Any]]) -> None:
        """Follow a callable; each argument is the list of objects that it may be."""
        if isinstance(function, nn.Module):
            self._run_module(function)
        elif isinstance(function, MethodType):
            self._run(function.__func__, ([function.__self__], *arguments))
        elif isinstance(function, functools.partial):
            self._run(function.func, (*([each] for each in function.args), *arguments))
        elif isinstance(function, FunctionType):
            self._run_function(function, arguments)
        elif hasattr(function, "__wrapped__"):  # lru_cache
            self._run(function.__wrapped__, arguments)
        elif not isinstance(function, type):
            call = next(iter(methods_of_class(type(function), "__call__")), None)
            if isinstance(call, FunctionType):
                self._run(call, ([function], *arguments))

    def _run_module(self, module: nn.Module) -> None:
        if (id(module), "module") in self._seen:
            return
        for part in module.modules():
            self._seen.add((id(part), "module"))
            state = vars(part)
            forward = state.get("forward")
            if forward is not None:
                self._run(forward, ())
            elif not isinstance(part, ScriptModule):
                self._run(type(part).forward, ([part],))
            for hooks in ("_forward_pre_hooks", "_forward_hooks"):
                for hook in state[hooks].values() if state.get(hooks) else ():
                    self._run(hook, ([part],))

    def _run_function(self, function: FunctionType, arguments: Sequence[list[Any]]) -> None:
        source = library_of_function(function)
        name = (source or "").partition(" ")[0]
        if name in _NOT_FOLLOWED or name == "python" or (source and not any(arguments)):
            if hasattr(function, "__wrapped__"):  # torch.no_grad() as a decorator
                self._run(function.__wrapped__, arguments)
            return
        key = (id(function), *(tuple(map(id, each)) for each in arguments))
        if key in self._seen:
            return
        self._seen.add(key)
        self._alive.append((function, arguments))
        facts = code_facts(function.__code__)
        frame = _Frame(function, arguments)
        self._note(facts, frame)
        for path, passed in facts.calls:
            values = [[obj for each in value for obj in frame.find(each)] for value in passed]
            for called in frame.find(path):
                self._run(called, values)
        for path in facts.uses:
            self._run_used(path, frame)
        if "super" in facts.globals and arguments:
            for owner in arguments[0]:
                for attribute in facts.attributes:
                    for method in methods_of_class(type(owner), attribute):
                        if isinstance(method, FunctionType):
                            self._run(method, ([owner],))
        if hasattr(function, "__wrapped__"):
            self._run(function.__wrapped__, arguments)

    def _note(self, facts: CodeFacts, frame: _Frame) -> None:
        for *owner, name in facts.stores:
            if owner:
                for obj in frame.find(tuple(owner)):
                    holder = vars(obj) if isinstance(obj, ModuleType) else obj
                    self.attributes.add((id(holder), name))
            elif name[0] == "global":
                self.attributes.add((id(frame.function.__globals__), name[1]))
            elif name[1] in frame.cells:
                self.objects.add(id(frame.cells[name[1]]))
        for path in facts.mutations:
            for obj in frame.find(path):
                if isinstance(obj, _MUTABLE):
                    self.objects.add(id(obj))
                else:
                    for method in methods_of_class(type(obj), "__setitem__"):
                        self._run(method, ([obj],))

    def _run_used(self, path: Path, frame: _Frame) -> None:
        """Follow what is named: a method may be passed on, a property runs, append changes."""
        name = path[-1]
        if len(path) > 1:
            in_place = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
            for obj in frame.find(path[:-1]):
                if isinstance(obj, _MUTABLE) and (
                    in_place if isinstance(obj, Tensor) else name in _MUTATORS
                ):
                    self.objects.add(id(obj))
                else:
                    found = next(iter(methods_of_class(type(obj), name)), None)
                    if isinstance(found, property) and found.fget is not None:
                        self._run(found.fget, ([obj],))
        for obj in frame.find(path):
            if isinstance(obj, (FunctionType, MethodType)):
                self._run(obj, ())


class _Frame:
    """One function with its arguments, where paths lead to objects."""

    def __init__(self, function: FunctionType, arguments: Sequence[list[Any]]) -> None:
        self.function = function
        self.arguments = arguments
        names = function.__code__.co_freevars
        self.cells: dict[str, CellType] = dict(zip(names, function.__closure__ or (), strict=True))
        self._found: dict[Path, list[Any]] = {}

    def find(self, path: Path) -> list[Any]:
        """Return the objects that a path leads to; none if that takes running something."""
        found = self._found.get(path)
        if found is None:
            if len(path) == 1:
                found = self._root(*path[0])
            else:
                found = [each for obj in self.find(path[:-1]) for each in _step(obj, path[-1])]
            self._found[path] = found
        return found

    def _root(self, kind: str, name: Any) -> list[Any]:
        if kind == "arg":
            return self.arguments[name] if name < len(self.arguments) else []
        if kind == "global":
            known = self.function.__globals__
            known = known if name in known else vars(builtins)
            return [known[name]] if name in known else []
        cell = self.cells.get(name)
        try:
            return [] if cell is None else [cell.cell_contents]
        except ValueError:  # a variable that is not set yet
            return []


def _step(obj: Any, name: str) -> Iterable[Any]:
    """Return what an attribute or the items of an object are, without running its code."""
    if name == ITEM:
        if isinstance(obj, (Tensor, np.ndarray)):
            return (obj,)  # a view of it
        if isinstance(obj, nn.Module):
            return obj._modules.values()
        if isinstance(obj, dict):
            return obj.values()
        return obj if isinstance(obj, (list, tuple, set, deque)) else ()
    if name == "__class__":
        return (type(obj),)
    if isinstance(obj, Tensor) and name == "data":
        return (obj,)
    state: dict[str, Any] = getattr(obj, "__dict__", {})
    if isinstance(obj, type):
        return (_bind(each, None, obj) for each in [*methods_of_class(obj, name)][:1])
    if name in state:
        return (state[name],)
    if isinstance(obj, nn.Module):
        for registered in (obj._modules, obj._buffers, obj._parameters):
            if name in registered:
                return (registered[name],)
    return (_bind(each, obj, type(obj)) for each in [*methods_of_class(type(obj), name)][:1])


def _bind(found: Any, obj: Any, kind: type) -> Any:
    if isinstance(found, FunctionType) and obj is not None:
        return MethodType(found, obj)
    if isinstance(found, classmethod):
        return MethodType(found.__func__, kind)
    if isinstance(found, staticmethod):
        return found.__func__
    if isinstance(found, MemberDescriptorType) and obj is not None:
        return getattr(obj, found.__name__, None)  # a slot
    return found
