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

import contextvars
import copyreg
import dis
import functools
import io
import marshal
import random
import re
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import PurePath
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .digest import array_node, node, tensor_node
from .library import library, library_of_function

__all__ = ["UnknownContentError", "fingerprint", "globals_in"]


class UnknownContentError(TypeError):
    """Something is held whose content cannot be told."""


def fingerprint(*parts: Any) -> bytes:
    """Return 128 bits that stand for modules, callables and settings.

    The same parts have the same fingerprint in every process, and so have copies
    and pickles of them. Device, ``requires_grad``, docstrings, annotations and line
    numbers do not count.

    Parameters
    ----------
    *parts : Any
        Anything: modules, functions, tokenizers, numbers, containers of them.

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
        return _Encoder().encode(parts)
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
_BY_REPR = {range, slice, torch.dtype, torch.device, type(NotImplemented)}
# What their state says is where they are, not what they compute.
_BY_TYPE_ONLY = {
    "_contextvars", "_ctypes", "_io", "_queue", "_socket", "_thread", "_weakref", "_weakrefset",
    "asyncio", "concurrent", "ctypes", "io", "logging", "multiprocessing", "queue", "socket",
    "sqlite3", "tempfile", "threading", "tqdm", "weakref",
}  # fmt: skip
# Bookkeeping of torch, and of torch.fx (whose code is in the forward method).
_MODULE_STATE = {*vars(nn.Module()), "_compiled_call_impl", "_is_torch_compile"} - {"training"}
_GRAPH_STATE = {"_graph", "_code", "_lineno_map", "_prologue_start", "_tracer_cls", "meta"} | {
    "_tracer_extras", "shape_env", "_replace_hooks", "_create_node_hooks", "_erase_node_hooks",
    "_deepcopy_hooks",
}  # fmt: skip
_NOT_METHODS = {"__annotate__", "__annotate_func__"}
_FUNCTIONS = (types.FunctionType, classmethod, staticmethod, property)
_SIGNATURE_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200  # *args, **kwargs, generator, coroutine
# Held by code object, not by function or class: a patched method has another code object.
_codes: WeakKeyDictionary[types.CodeType, bytes] = WeakKeyDictionary()
_names_in: WeakKeyDictionary[types.CodeType, frozenset[str]] = WeakKeyDictionary()
_globals_in: WeakKeyDictionary[types.CodeType, frozenset[str]] = WeakKeyDictionary()


class _Encoder:
    """Digests of values, each computed once."""

    def __init__(self) -> None:
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
        if isinstance(value, types.MethodType):
            return node(b"method", b"", self._all((value.__func__, value.__self__)))
        if isinstance(value, types.ModuleType):
            if (source := library(value.__name__)) is not None:
                return node(b"module", f"{source} {value.__name__}".encode())
            return self._attributes({k: v for k, v in vars(value).items() if k[:2] != "__"})
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__ if not isinstance(value.__self__, types.ModuleType) else None
            return node(b"builtin", _name(value), [self.encode(owner)])
        if isinstance(value, types.CodeType):
            return _code(value)
        if isinstance(value, (np.ndarray, np.generic, np.dtype)):
            return self._numpy(value)
        if isinstance(value, Enum):
            kind = type(value)
            own = {} if library(kind.__module__) else vars(kind)
            methods = {name: each for name, each in own.items() if isinstance(each, _FUNCTIONS)}
            parts = [*self._all((kind.__qualname__, value.value)), self._attributes(methods)]
            return node(b"enum", _name(value), parts)
        if isinstance(value, (classmethod, staticmethod)):
            return node(type(value).__name__.encode(), b"", [self.encode(value.__func__)])
        if isinstance(value, property):
            return node(b"property", b"", self._all((value.fget, value.fset, value.fdel)))
        if type(value) in _BY_REPR:
            return node(b"repr", repr(value).encode())
        if isinstance(value, PurePath):
            return node(b"path", str(value).encode("utf-8", "surrogatepass"))
        if isinstance(value, re.Pattern):
            return node(b"pattern", b"", self._all((value.pattern, value.flags)))
        if isinstance(value, (dict, list, tuple, set, frozenset, deque)):
            return self._container(value)
        return self._object(value)

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
            children = sorted(_Encoder().encode(item) for item in value)
        else:
            children = [*self._all(value), *self._all([value.maxlen] if kind is deque else [])]
        # A subclass, such as a namedtuple or a Counter, may have a state of its own.
        own = [] if kind.__module__ == "builtins" else [self.encode(kind), self._state(value)]
        return node(kind.__name__.encode(), b"%d" % len(children), children + own)

    def _tensor(self, value: Tensor) -> bytes:
        if is_lazy(value):
            return node(b"lazy", str(value.dtype).encode())
        if value.is_meta:
            raise UnknownContentError(
                f"A tensor of shape {tuple(value.shape)} is on the meta device and has no values. "
                "Load the weights first."
            )
        if hasattr(value, "__tensor_flatten__"):
            names, context = value.__tensor_flatten__()
            parts = [getattr(value, name) for name in names]
            return node(b"tensors", b"", self._all((type(value).__qualname__, parts, context)))
        if own := getattr(value, "__dict__", None):
            return node(b"tensor", b"", [tensor_node(value), self._attributes(own)])
        return tensor_node(value)

    def _numpy(self, value: Any) -> bytes:
        if isinstance(value, np.dtype):
            return node(b"dtype", repr(value).encode())
        if isinstance(value, np.ma.MaskedArray):
            return node(b"masked", b"", self._all((value.data, np.ma.getmaskarray(value))))
        array = np.asarray(value)
        if array.dtype.hasobject or array.dtype.kind == "T":
            return node(b"objects", b"", self._all((array.shape, array.ravel().tolist())))
        return node(type(value).__name__.encode(), b"", [array_node(array)])

    def _function(self, function: types.FunctionType) -> bytes:
        # Not under a name that functools.wraps could have copied from the function inside.
        source = library_of_function(function)
        own = [*self._all((function.__defaults__, function.__kwdefaults__))]
        own += map(self._cell, function.__closure__ or ())
        own.append(self._attributes(vars(function)))
        code = function.__code__
        if source is not None:
            name = f"{source} {function.__globals__['__name__']} {code.co_qualname}"
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
        for name in sorted(names):  # what it may import
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
        name = f"{source or ''} {kind.__qualname__}"
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
            elif isinstance(value, _FUNCTIONS) and key not in _NOT_METHODS:
                members[key] = value
        bases = [base for base in kind.__bases__ if base is not object]
        return node(b"class", name.encode(), [*self._all(bases), self._attributes(members)])

    def _attributes(self, state: dict[str, Any]) -> bytes:
        """Return the digest of named values, in any order."""
        items = sorted(state.items(), key=lambda item: item[0])
        plain = [item for item in items if _is_plain(item[1])]
        others = [item for item in items if not _is_plain(item[1])]
        payload = marshal.dumps((plain, [key for key, _ in others]), 0)
        return node(b"attributes", payload, [self.encode(value) for _, value in others])

    def _state(self, value: Any) -> bytes:
        """Return the digest of the attributes of an object, slots included."""
        kind = type(value)
        state = {k: v for k, v in getattr(value, "__dict__", {}).items() if k != "__doc__"}
        for base in kind.__mro__:
            for name, member in vars(base).items():
                if isinstance(member, types.MemberDescriptorType) and hasattr(value, name):
                    state[name] = getattr(value, name)
        return self._attributes(state)

    def _object(self, value: Any) -> bytes:
        kind = type(value)
        if isinstance(value, threading.local):
            return node(b"local", b"", self._all((kind, dict(vars(value)))))
        if isinstance(value, contextvars.ContextVar):
            try:
                found = value.get()
            except LookupError:
                found = None
            return node(b"context", value.name.encode(), [self.encode(found)])
        if isinstance(value, weakref.ref):
            return node(b"reference", b"", [self.encode(value())])
        if isinstance(value, (weakref.WeakKeyDictionary, weakref.WeakValueDictionary)):
            return node(b"references", b"", [self.encode(dict(value))])
        if isinstance(value, (io.StringIO, io.BytesIO)):
            return node(b"buffer", b"", self._all((value.tell(), value.getvalue())))
        if (state := _random_state(value)) is not None:
            return node(b"random", b"", self._all((kind, state)))
        modules = {base.__module__.partition(".")[0] for base in kind.__mro__}
        if library(kind.__module__) is not None and not _BY_TYPE_ONLY.isdisjoint(modules):
            return node(b"type only", b"", [self.encode(kind)])
        if kind.__module__.startswith(("torch._C", "torch._ops", "torch.jit")):
            # The graph of a scripted function; an operator says its name.
            text = str(value) if kind.__module__ == "torch._ops" else _graph(value)
            return node(b"type only", text.encode(), [self.encode(kind)])
        if kind.__module__.startswith("tokenizers") and hasattr(value, "to_str"):
            return node(b"tokenizer", value.to_str().encode())
        if kind.__module__.startswith("PIL.") and hasattr(value, "tobytes"):
            parts = (value.mode, value.size, value.tobytes(), value.getpalette())
            return node(b"image", b"", self._all(parts))
        if kind.__module__.startswith("pandas.") and hasattr(value, "to_numpy"):
            axes = getattr(value, "axes", ())
            columns = (
                [value.iloc[:, i].to_numpy() for i in range(value.shape[1])]
                if (value.ndim == 2)
                else value.to_numpy()
            )
            names = [axis.to_numpy() for axis in axes]
            return node(b"pandas", b"", self._all((kind.__name__, columns, names)))
        if isinstance(value, functools._lru_cache_wrapper):
            return node(b"wrapped", _name(value), [self.encode(value.__wrapped__)])
        return node(b"object", b"", [self.encode(kind), self._reduced(value)])

    def _reduced(self, value: Any) -> bytes:
        """Return the digest of what pickling keeps of an object, or of its attributes."""
        kind = type(value)
        usual = all(
            getattr(kind, name) is getattr(object, name)
            for name in ("__reduce__", "__reduce_ex__", "__getstate__")
        )
        seen = hasattr(value, "__dict__") or hasattr(kind, "__slots__")
        if usual and seen:
            return self._state(value)
        try:
            registered = copyreg.dispatch_table.get(kind)
            reduced = registered(value) if registered else value.__reduce_ex__(4)
        except Exception as error:  # whatever an object that cannot be pickled may raise
            if seen:
                return self._state(value)
            raise UnknownContentError(
                f"A {kind.__module__}.{kind.__qualname__} has no attributes and cannot be pickled "
                f"({error}): its content is not known."
            ) from error
        if isinstance(reduced, str):
            return self.encode(reduced)
        function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        named = isinstance(state, dict) and all(type(key) is str for key in state)
        own = self._attributes(state) if named else self.encode(state)
        parts = (function, arguments, [*(items or ())], [*(pairs or ())])
        return node(b"reduced", b"", [*self._all(parts), own])

    def _module(self, module: nn.Module) -> bytes:
        if "_orig_mod" in module._modules and type(module).__name__ == "OptimizedModule":
            return self.encode(module._modules["_orig_mod"])  # torch.compile
        if isinstance(module, torch.jit.ScriptModule):
            return self._script(module)
        kind = type(module)
        state = vars(module)
        own = state
        if kind.__getstate__ is not object.__getstate__:  # what pickling keeps of it
            with suppress(Exception):  # a parametrized module refuses to be pickled
                own = module.__getstate__()
        own = {key: item for key, item in own.items() if key not in _MODULE_STATE}
        if kind.__module__ == "torch.fx.graph_module":
            own = {key: item for key, item in own.items() if key not in _GRAPH_STATE}
        tensors = {**module._parameters, **module._buffers}
        # In order, for nn.Sequential runs its children as they come.
        children = [
            node(b"child", name.encode(), [self.encode(child)])
            for name, child in module._modules.items()
        ]
        hooks = [
            node(kept.encode(), b"%d" % (key in state[f"{kept}_with_kwargs"]), [self.encode(hook)])
            for kept in ("_forward_pre_hooks", "_forward_hooks")
            for key, hook in state[kept].items()
        ]
        parts = [
            self.encode(kind),
            self._attributes(own),
            self._attributes(tensors),
        ]
        return node(b"nn.Module", b"%d" % len(hooks), [*parts, *hooks, *children])

    def _script(self, module: Any) -> bytes:
        """Return the digest of a TorchScript module: its graph and all that the graph reads."""
        parts: list[Any] = []
        for name, part in module.named_modules():
            text = _graph(part)
            constants = part.code_with_constants[1].const_mapping if text else {}
            read = sorted(set(re.findall(r'GetAttr\[name="(\w+)"\]', text)))
            core = getattr(part, "_c", None)
            values = [core.getattr(key) for key in read if core is not None and core.hasattr(key)]
            plain = [each for each in values if not isinstance(each, torch._C.ScriptObject)]
            parts.append((name, text, constants, plain))
        return node(b"script", b"", self._all((parts, dict(module.state_dict()))))


def _is_plain(value: Any) -> bool:
    """Tell whether marshal writes a value by its content and exact type alone."""
    kind = type(value)
    return kind in _PLAIN or (kind is tuple and all(type(item) in _PLAIN for item in value))


def _holds_plain(value: Any) -> bool:
    """Tell whether all that a dict, list or tuple holds is plain."""
    if isinstance(value, dict) and not _PLAIN.issuperset(map(type, value.values())):
        return False
    return _PLAIN.issuperset(map(type, value))


def _code(code: types.CodeType) -> bytes:
    """Return the digest of bytecode: what it does, not where it was written."""
    known = _codes.get(code)
    if known is None:
        # Constants count where they are loaded: a docstring never is, and shifts their numbers.
        alone = _Encoder()
        parameters = code.co_argcount + code.co_kwonlyargcount
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        header = [counts, code.co_flags & _SIGNATURE_FLAGS, code.co_varnames[:parameters]]
        header += [code.co_freevars, code.co_exceptiontable]
        steps = [
            # Python 3.11 does not say what the names of keyword arguments are.
            (step.opname, _argument(code, step))
            for step in dis.get_instructions(code)
            if step.opname not in ("CACHE", "EXTENDED_ARG", "NOP", "RESUME")
        ]
        known = _codes[code] = node(b"code", b"", map(alone.encode, (header, steps)))
    return known


def _argument(code: types.CodeType, step: dis.Instruction) -> Any:
    if step.opname == "KW_NAMES" and step.arg is not None:
        return code.co_consts[step.arg]
    return step.argval


def _graph(script: Any) -> str:
    """Return what TorchScript runs, without where it was written and how often it was loaded."""
    text = str(script.inlined_graph) if hasattr(script, "graph") else ""
    return re.sub(r" *#.*|(___torch_mangle_\d+\.?|\.___torch_mangle_\d+)", "", text)


def _name(value: Any) -> bytes:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return f"{getattr(value, '__module__', '')} {name or getattr(value, 'name', '')}".encode()


def names_in(code: types.CodeType) -> frozenset[str]:
    """Return the names that bytecode may look up as globals or attributes, or import."""
    known = _names_in.get(code)
    if known is None:
        inner = (names_in(each) for each in code.co_consts if isinstance(each, types.CodeType))
        known = _names_in[code] = frozenset(code.co_names).union(*inner)
    return known


def globals_in(code: types.CodeType) -> frozenset[str]:
    """Return the names that bytecode looks up as globals."""
    known = _globals_in.get(code)
    if known is None:
        inner = (globals_in(each) for each in code.co_consts if isinstance(each, types.CodeType))
        own = {
            step.argval
            for step in dis.get_instructions(code)
            if step.opname.startswith("LOAD_")
            and ("GLOBAL" in step.opname or "NAME" in step.opname)
        }
        known = _globals_in[code] = frozenset(own).union(*inner)
    return known


def _patches(kind: type) -> dict[str, Any]:
    """Return the functions of the user's own that a library's class was given."""
    return {
        name: value
        for name, value in vars(kind).items()
        if isinstance(value, types.FunctionType) and library_of_function(value) is None
    }


def _random_state(value: Any) -> Any:
    """Return where a generator of random numbers stands; None for other objects."""
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, (np.random.RandomState, np.random.BitGenerator)):
        return value.__getstate__()
    return None
