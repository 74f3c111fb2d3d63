"""What single values consist of, where their attributes do not say it."""

from __future__ import annotations

import contextvars
import functools
import io
import random
import re
import threading
import types
import weakref
from collections.abc import Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from .digest import array_node
from .library import library

__all__ = ["Anatomy", "anatomy", "graph_of"]

# Kind, own content, and the parts that it holds.
Anatomy = tuple[bytes, bytes, Sequence[Any]]

_BY_REPR = {range, slice, torch.dtype, torch.device, type(NotImplemented)}
# What their state says is where they are, not what they compute.
_BY_TYPE_ONLY = {
    "_contextvars", "_ctypes", "_io", "_queue", "_socket", "_thread", "_weakref", "_weakrefset",
    "asyncio", "concurrent", "ctypes", "io", "logging", "multiprocessing", "queue", "socket",
    "sqlite3", "tempfile", "threading", "tqdm", "weakref",
}  # fmt: skip
_FUNCTIONS = (types.FunctionType, classmethod, staticmethod, property)


def anatomy(value: Any) -> Anatomy | None:
    """Return kind, content and parts of a value; None where its attributes are what it is."""
    kind = type(value)
    if isinstance(value, types.MethodType):
        return b"method", b"", (value.__func__, value.__self__)
    if isinstance(value, types.BuiltinFunctionType):
        owner = value.__self__
        return b"builtin", _name(value), [None if isinstance(owner, types.ModuleType) else owner]
    if isinstance(value, (classmethod, staticmethod)):
        return kind.__name__.encode(), b"", [value.__func__]
    if isinstance(value, property):
        return b"property", b"", (value.fget, value.fset, value.fdel)
    if isinstance(value, Enum):
        own = {} if library(kind.__module__) else vars(kind)
        methods = {name: each for name, each in own.items() if isinstance(each, _FUNCTIONS)}
        return b"enum", _name(value), (kind.__qualname__, value.value, methods)
    if kind in _BY_REPR:
        return b"repr", repr(value).encode(), ()
    if isinstance(value, PurePath):
        return b"path", str(value).encode("utf-8", "surrogatepass"), ()
    if isinstance(value, re.Pattern):
        return b"pattern", b"", (value.pattern, value.flags)
    if isinstance(value, (np.ndarray, np.generic, np.dtype)):
        return _of_numpy(value)
    return _of_reference(value) or _of_library(value)


def _of_numpy(value: Any) -> Anatomy:
    if isinstance(value, np.dtype):
        return b"dtype", repr(value).encode(), ()
    if isinstance(value, np.ma.MaskedArray):
        return b"masked", b"", (value.data, np.ma.getmaskarray(value))
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.kind == "T":
        return b"objects", b"", (array.shape, array.ravel().tolist())
    return type(value).__name__.encode(), array_node(array), ()


def _of_reference(value: Any) -> Anatomy | None:
    """Return what stands elsewhere: in a thread, a context, a weak reference, a generator."""
    if isinstance(value, threading.local):
        return b"local", b"", (type(value), dict(vars(value)))
    if isinstance(value, contextvars.ContextVar):
        try:
            found = value.get()
        except LookupError:
            found = None
        return b"context", value.name.encode(), [found]
    if isinstance(value, weakref.ref):
        return b"reference", b"", [value()]
    if isinstance(value, (weakref.WeakKeyDictionary, weakref.WeakValueDictionary)):
        return b"references", b"", [dict(value)]
    if isinstance(value, (io.StringIO, io.BytesIO)):
        return b"buffer", b"", (value.tell(), value.getvalue())
    if isinstance(value, functools._lru_cache_wrapper):
        return b"wrapped", _name(value), [value.__wrapped__]
    if (state := _random_state(value)) is not None:
        return b"random", b"", (type(value), state)
    return None


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


def _of_library(value: Any) -> Anatomy | None:
    """Return what a library's object holds where Python does not look, or has no need to."""
    kind = type(value)
    home = kind.__module__
    modules = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if library(home) is not None and not _BY_TYPE_ONLY.isdisjoint(modules):
        return b"type only", b"", [kind]
    if home.startswith(("torch._C", "torch._ops", "torch.jit")):
        # The graph of a scripted function; an operator says its name.
        text = str(value) if home == "torch._ops" else graph_of(value)
        return b"type only", text.encode(), [kind]
    if home.startswith("tokenizers") and hasattr(value, "to_str"):
        return b"tokenizer", value.to_str().encode(), ()
    if home.startswith("PIL.") and hasattr(value, "tobytes"):
        return b"image", b"", (value.mode, value.size, value.tobytes(), value.getpalette())
    # Not a time, which has no dimensions and pickles by its value.
    if home.startswith("pandas.") and hasattr(value, "to_numpy") and hasattr(value, "ndim"):
        frame = [value.iloc[:, i] for i in range(value.shape[1])] if value.ndim == 2 else [value]
        axes = [axis.to_numpy() for axis in getattr(value, "axes", ())]
        return b"pandas", b"", (kind.__name__, [each.to_numpy() for each in frame], axes)
    return None


def graph_of(script: Any) -> str:
    """Return what TorchScript runs, without where it was written and how often it was loaded."""
    text = str(script.inlined_graph) if hasattr(script, "graph") else ""
    return re.sub(r" *#.*|(___torch_mangle_\d+\.?|\.___torch_mangle_\d+)", "", text)


def _name(value: Any) -> bytes:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return f"{getattr(value, '__module__', '')} {name or getattr(value, 'name', '')}".encode()
