"""Fingerprints of modules, callables and settings: 128 bits of what they would compute.

Every value becomes 16 bytes, `skfairft.feature_store.digest.node` of a tag, a payload and its
parts.
All that is held counts, whatever it is for: tensors, attributes, settings, the generators of
random numbers. The user's own functions and classes are known by their bytecode and by what they
take from closures and from their modules, those of installed libraries by name and version.

No fingerprint sees everything (files, the environment, a patched library): what is stored under
it is looked at again (`skfairft.feature_store.witness`).
"""

from __future__ import annotations

import copyreg
import marshal
import re
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .anatomy import anatomy, graph_of
from .bytecode import globals_in, imports_in, names_in, remembered, steps_of
from .digest import UnknownContentError, node, tensor_node
from .library import library, library_of_function

__all__ = ["UnknownContentError", "fingerprint"]


def fingerprint(*parts: Any, versions: bool = True) -> bytes:
    """Return 16 bytes that stand for modules, functions, tokenizers, settings, containers of them.

    The same parts have the same fingerprint in every process, and so have copies
    and pickles of them. Device, ``requires_grad``, docstrings, annotations and line
    numbers do not count.

    Parameters
    ----------
    *parts
        What to look at.
    versions : bool, default=True
        Whether those of installed libraries count, or only their names.

    Returns
    -------
    bytes of length 16
        The fingerprint.

    Raises
    ------
    UnknownContentError
        A TypeError. If a part holds tensors without data (on the meta device), or an object
        that neither has attributes nor can be pickled, or is nested too deeply.

    Notes
    -----
    The order of a dictionary counts, for a function may loop over it; that of a
    set and of an object's attributes does not. Locks, files, threads, loggers and
    the like count by their type only; of thread-local and context variables the
    value here and now.

    Examples
    --------
    >>> import copy
    >>> from torch import nn
    >>> module = nn.Linear(2, 3)
    >>> fingerprint(module, "float32") == fingerprint(copy.deepcopy(module), "float32")
    True
    >>> fingerprint(module, "float32") == fingerprint(nn.Linear(2, 3), "float32")
    False
    """
    try:
        return _Encoder(versions).encode(parts)
    except UnknownContentError:
        raise
    except RecursionError as error:
        raise UnknownContentError(
            f"Parts of types {[type(part).__name__ for part in parts]} are nested too deeply for "
            "a fingerprint. Hold long chains of objects in a list."
        ) from error
    except Exception as error:  # whatever the code of what is held raises when it is looked at
        raise UnknownContentError(
            f"Something that is held cannot be looked at ({type(error).__name__}: {error})."
        ) from error


_PLAIN = {type(None), type(...), bool, int, float, complex, str, bytes}
# Bookkeeping of torch, and of torch.fx (whose code is in the forward method).
_MODULE_STATE = {
    *vars(nn.Module()),
    "_compiled_call_impl",
    "_is_torch_compile",
    "_is_hf_initialized",
} - {"training"}
_GRAPH_STATE = {"_graph", "_code", "_lineno_map", "_prologue_start", "_tracer_cls", "meta"} | {
    "_tracer_extras", "shape_env", "_replace_hooks", "_create_node_hooks", "_erase_node_hooks",
    "_deepcopy_hooks",
}  # fmt: skip
_ORIGIN = {"name_or_path", "_name_or_path", "_commit_hash", "transformers_version"}
_NOT_METHODS = {"__annotate__", "__annotate_func__"}
_FUNCTIONS = (types.FunctionType, classmethod, staticmethod, property)


class _Encoder:
    """Digests of values, each computed once."""

    def __init__(self, versions: bool = True) -> None:
        self.versions = versions
        self.known: dict[int, bytes] = {}
        self.open: dict[int, int] = {}
        self.alive: list[Any] = []  # so that no identity is given twice

    def encode(self, value: Any) -> bytes:
        if _is_plain(value):
            return node(b"plain", marshal.dumps(value, 0))
        key = id(value)
        known = self.known.get(key)
        if known is not None:
            return known
        if key in self.open:  # how far up a cycle leads is the same in every copy
            return node(b"cycle", b"%d" % (len(self.open) - self.open[key]))
        self.open[key] = len(self.open)
        digest = self._compound(value)
        del self.open[key]
        self.known[key] = digest
        self.alive.append(value)
        return digest

    def _source(self, library: str | None) -> str:
        """Return name and version of a library as they count; nothing of the user's own code."""
        return library or "" if self.versions else (library or "").partition(" ")[0]

    def _all(self, values: Iterable[Any]) -> Iterator[bytes]:
        return map(self.encode, values)

    def _compound(self, value: Any) -> bytes:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.CodeType):
            return _code(value)
        if isinstance(value, types.ModuleType):
            if (source := library(value.__name__)) is not None:
                return node(b"module", f"{self._source(source)} {value.__name__}".encode())
            return self._attributes({k: v for k, v in vars(value).items() if k[:2] != "__"})
        container = isinstance(value, (dict, list, tuple, set, frozenset, deque))
        if container and not isinstance(value, Enum):
            return self._container(value)
        if (found := anatomy(value)) is not None:
            kind, content, parts = found
            return node(kind, content, self._all(parts))
        return node(b"object", b"", [self.encode(type(value)), self._reduced(value)])

    def _container(self, value: Any) -> bytes:
        kind = type(value)
        if kind in (dict, list, tuple) and _holds_plain(value):
            # At once: a vocabulary has tens of thousands of entries.
            items = [*value.items()] if kind is dict else [*value]
            return node(kind.__name__.encode() + b" of plain", marshal.dumps(items, 0))
        if isinstance(value, dict):
            children = [each for item in value.items() for each in self._all(item)]
        elif isinstance(value, (set, frozenset)):
            # Alone, for the order of a set differs between processes and a cycle would tell.
            children = sorted(_Encoder(self.versions).encode(item) for item in value)
        else:
            children = [*self._all(value), *self._all([value.maxlen] if kind is deque else [])]
        # A subclass, such as a namedtuple or a Counter, may have a state of its own.
        own = [] if kind.__module__ == "builtins" else [self.encode(kind), self._state(value)]
        return node(kind.__name__.encode(), b"%d" % len(children), children + own)

    def _tensor(self, value: Tensor) -> bytes:
        if is_lazy(value):
            return node(b"lazy", str(value.dtype).encode())
        if hasattr(value, "__tensor_flatten__"):
            names, context = value.__tensor_flatten__()
            parts = [getattr(value, name) for name in names]
            return node(b"tensors", b"", self._all((type(value).__qualname__, parts, context)))
        # What torch.compile, and libraries that load weights, note on a tensor is no part of it.
        own = {
            name: each
            for name, each in getattr(value, "__dict__", {}).items()
            if not name.startswith(("_dynamo", "_is_hf"))
        }
        if own:
            return node(b"tensor", b"", [tensor_node(value), self._attributes(own)])
        return tensor_node(value)

    def _function(self, function: types.FunctionType) -> bytes:
        # Not under a name that functools.wraps could have copied from the function inside.
        source = library_of_function(function)
        own = [*self._all((function.__defaults__, function.__kwdefaults__))]
        own += map(self._cell, function.__closure__ or ())
        own.append(self._attributes(vars(function)))
        code = function.__code__
        if source is not None:
            home = function.__globals__["__name__"]
            name = f"{self._source(source)} {home} {code.co_qualname}"
            return node(b"function", name.encode(), own)
        return node(b"function", _code(code), [*own, *self._globals(function)])

    def _cell(self, cell: types.CellType) -> bytes:
        try:
            return self.encode(cell.cell_contents)
        except ValueError:
            return node(b"empty")

    def _globals(self, function: types.FunctionType) -> Iterator[bytes]:
        """Yield what the names that a function takes from its module, or imports, stand for."""
        space, names = function.__globals__, names_in(function.__code__)
        package = space.get("__package__") or ""
        for name in sorted(globals_in(function.__code__)):
            if name in space:
                yield node(b"global", name.encode(), [self._named(space[name], names, ())])
        for name in sorted(imports_in(function.__code__)):
            for full in (name, f"{package}.{name}"):
                if full in sys.modules and library(full) is None:
                    found = self._named(sys.modules[full], names, ())
                    yield node(b"import", full.encode(), [found])

    def _named(self, value: Any, names: frozenset[str], inside: tuple[int, ...]) -> bytes:
        """Return the digest of a global; of the user's own modules what the function may read."""
        if not isinstance(value, types.ModuleType) or library(value.__name__) is not None:
            return self.encode(value)
        if id(value) in inside:
            return node(b"cycle")
        items = vars(value)
        used = [
            node(b"item", key.encode(), [self._named(items[key], names, (*inside, id(value)))])
            for key in sorted(names & items.keys())
        ]
        return node(b"user module", b"", used)

    def _class(self, kind: type) -> bytes:
        source = library(kind.__module__)
        name = f"{self._source(source)} {kind.__qualname__}"
        # A class that a library made of the user's own is not found under its name.
        found = getattr(sys.modules.get(kind.__module__), kind.__qualname__, kind)
        if source is not None and found is kind:
            patches = [
                self._attributes(_patches(base)) if library(base.__module__) else self.encode(base)
                for base in kind.__mro__
            ]
            return node(b"class", f"{kind.__module__} {name}".encode(), patches)
        members = {}
        for key, value in vars(kind).items():
            if not (key.startswith("__") and key.endswith("__")):
                if not isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)):
                    members[key] = value
            elif key not in _NOT_METHODS and (isinstance(value, _FUNCTIONS) or _acts(value)):
                members[key] = value
        bases = [base for base in kind.__bases__ if base is not object]
        return node(b"class", name.encode(), [*self._all(bases), self._attributes(members)])

    def _attributes(self, state: dict[str, Any]) -> bytes:
        """Return the digest of named values, in any order; a text about them does not count."""
        items = sorted((name, value) for name, value in state.items() if name != "__doc__")
        plain = [item for item in items if _is_plain(item[1])]
        others = [item for item in items if not _is_plain(item[1])]
        payload = marshal.dumps((plain, [key for key, _ in others]), 0)
        return node(b"attributes", payload, [self.encode(value) for _, value in others])

    def _state(self, value: Any) -> bytes:
        """Return the digest of the attributes of an object, slots included."""
        kind = type(value)
        state = dict(getattr(value, "__dict__", {}))
        for base in kind.__mro__:
            for name, member in vars(base).items():
                if isinstance(member, types.MemberDescriptorType) and hasattr(value, name):
                    state[name] = getattr(value, name)
        return self._attributes(state)

    def _reduced(self, value: Any) -> bytes:
        """Return the digest of what pickling keeps of an object, or of its attributes."""
        kind = type(value)
        try:
            registered = copyreg.dispatch_table.get(kind)
            reduced = registered(value) if registered else value.__reduce_ex__(4)
        except Exception as error:  # whatever an object that cannot be pickled may raise
            if hasattr(value, "__dict__") or hasattr(kind, "__slots__"):
                return self._state(value)
            raise UnknownContentError(
                f"A {kind.__module__}.{kind.__qualname__} has no attributes and cannot be pickled "
                f"({error}): its content is not known."
            ) from error
        if isinstance(reduced, str):
            return self.encode(reduced)
        function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        named = isinstance(state, dict) and all(type(key) is str for key in state)
        if named:
            state = self._without_origin(kind, state)
        own = self._attributes(state) if named else self.encode(state)
        parts = (function, arguments, [*(items or ())], [*(pairs or ())])
        return node(b"reduced", b"", [*self._all(parts), own])

    def _module(self, module: nn.Module) -> bytes:
        if "_orig_mod" in module._modules and type(module).__name__ == "OptimizedModule":
            inside = self.encode(module._modules["_orig_mod"])  # torch.compile
            hooks = self._hooks(module)
            return node(b"compiled", b"", [*hooks, inside]) if hooks else inside
        if isinstance(module, torch.jit.ScriptModule):
            return self._script(module)
        kind = type(module)
        state = vars(module)
        own = state
        if kind.__getstate__ is not object.__getstate__:  # what pickling keeps of it
            with suppress(Exception):  # a parametrized module refuses to be pickled
                own = module.__getstate__()
        own = {key: item for key, item in own.items() if key not in _MODULE_STATE}
        own = self._without_origin(kind, own)
        if kind.__module__ == "torch.fx.graph_module":
            own = {key: item for key, item in own.items() if key not in _GRAPH_STATE}
        tensors = {**module._parameters, **module._buffers}
        # In order, for nn.Sequential runs its children as they come.
        children = [
            node(b"child", name.encode(), [self.encode(child)])
            for name, child in module._modules.items()
        ]
        hooks = self._hooks(module)
        parts = [self.encode(kind), self._attributes(own), self._attributes(tensors)]
        return node(b"nn.Module", b"%d" % len(hooks), [*parts, *hooks, *children])

    def _without_origin(self, kind: type, state: dict[str, Any]) -> dict[str, Any]:
        """Return attributes without where a model of Hugging Face came from, if versions go, too.

        The folder of a checkpoint is another one on another machine.
        """
        if self.versions or all(base.__module__[:13] != "transformers." for base in kind.__mro__):
            return state
        return {name: value for name, value in state.items() if name not in _ORIGIN}

    def _hooks(self, module: nn.Module) -> list[bytes]:
        state = vars(module)
        return [
            node(kept.encode(), b"%d" % (key in state[f"{kept}_with_kwargs"]), [self.encode(hook)])
            for kept in ("_forward_pre_hooks", "_forward_hooks")
            for key, hook in state[kept].items()
        ]

    def _script(self, module: Any) -> bytes:
        """Return the digest of a TorchScript module: its graph and all that the graph reads."""
        parts: list[Any] = []
        for name, part in module.named_modules():
            text = graph_of(part)
            constants = part.code_with_constants[1].const_mapping if text else {}
            read = sorted(set(re.findall(r'GetAttr\[name="(\w+)"\]', text)))
            core = getattr(part, "_c", None)
            values = [core.getattr(key) for key in read if core is not None and core.hasattr(key)]
            plain = [each for each in values if not isinstance(each, torch._C.ScriptObject)]
            parts.append((name, text, constants, plain))
        return node(b"script", b"", self._all((parts, dict(module.state_dict()))))


def _acts(value: Any) -> bool:
    """Tell whether what stands in a class acts as a method, as a ``functools.partialmethod``."""
    slots = (types.MemberDescriptorType, types.GetSetDescriptorType)
    return hasattr(type(value), "__get__") and not isinstance(value, slots)


def _is_plain(value: Any) -> bool:
    """Tell whether marshal writes a value by its content and exact type alone."""
    kind = type(value)
    return kind in _PLAIN or (kind is tuple and all(type(item) in _PLAIN for item in value))


def _holds_plain(value: Any) -> bool:
    """Tell whether all that a dict, list or tuple holds is plain."""
    if isinstance(value, dict) and not _PLAIN.issuperset(map(type, value.values())):
        return False
    return _PLAIN.issuperset(map(type, value))


@remembered
def _code(code: types.CodeType) -> bytes:
    return node(b"code", b"", map(_Encoder().encode, steps_of(code)))


def _patches(kind: type) -> dict[str, Any]:
    """Return the functions of the user's own that a library's class was given."""
    return {
        name: value
        for name, value in vars(kind).items()
        if isinstance(value, types.FunctionType) and library_of_function(value) is None
    }
