"""The store of a process: its memory, and a temporary folder for what outgrows it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Found, StoreInfo
from .disk import DiskStore
from .key_index import Keys
from .memory import MemoryStore

__all__ = ["ProcessStore"]


class ProcessStore:
    """Memory up to a bound, then a temporary folder: what ``memory=None`` stands for.

    Of features that outgrow the bound by themselves, the first would be forgotten
    while the last are stored, and each pass over the rows would find none of them.
    They go to a folder that is gone with the process. A pickle or deep copy is an
    empty store with the same bound.

    Parameters
    ----------
    memory : MemoryStore
        Holds what fits.

    Examples
    --------
    >>> from skfairft.feature_store import MemoryStore
    >>> store = ProcessStore(MemoryStore(max_bytes=100))
    >>> keys = np.arange(20, dtype=np.uint64).reshape(10, 2)
    >>> store.put(b"module", keys, np.ones((10, 8), dtype=np.float32))
    >>> store.info().rows
    10
    >>> store.clear()
    """

    def __init__(self, memory: MemoryStore) -> None:
        self.memory = memory
        self._lock = threading.RLock()
        self._outgrown: set[bytes] = set()
        self._disk: DiskStore | None = None
        self._hits = self._misses = 0

    def __repr__(self) -> str:
        return f"ProcessStore({self.memory!r})"

    def __reduce__(self) -> Any:
        return ProcessStore, (self.memory,)

    def lookup(self, namespace: bytes, keys: Keys) -> Found:
        """Return which keys are stored and their features, as `MemoryStore.lookup`."""
        with self._lock:
            found, features = self.memory.lookup(namespace, keys)
            if self._disk is not None and namespace in self._outgrown and not found.all():
                rest = np.flatnonzero(~found)
                also, more = self._disk.lookup(namespace, keys[rest])
                found, features = _merged(found, features, rest[also], more)
            self._hits += int(found.sum())
            self._misses += int((~found).sum())
        return found, features

    def put(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        """Store features, as `MemoryStore.put`."""
        with self._lock:
            size = self.memory.size_of(namespace) + keys.nbytes + features.nbytes
            if namespace not in self._outgrown and size <= self.memory.max_bytes:
                self.memory.put(namespace, keys, features)
                return
            self._outgrown.add(namespace)
            if self._disk is None:
                folder = tempfile.mkdtemp(prefix="skfairft-features-")
                weakref.finalize(self, _remove, folder, os.getpid())
                self._disk = DiskStore(folder)
            self._disk.put(namespace, keys, features)

    def claim(self, namespace: bytes, keys: Keys) -> NDArray[np.bool_]:
        """Return True for each of the keys (n, 2): nobody else computes for this process."""
        return np.ones(len(keys), dtype=bool)

    def release(self, namespace: bytes, keys: Keys | None = None) -> None:
        """Do nothing: there are no claims."""

    def wait(self, namespace: bytes, keys: Keys, poll: float = 0.05) -> None:
        """Return at once: there is nobody to wait for."""

    def info(self) -> StoreInfo:
        """Return what is stored, and the hits and misses."""
        with self._lock:
            parts = [self.memory.info()] + ([self._disk.info()] if self._disk else [])
            rows = sum(part.rows for part in parts)
            size = sum(part.bytes for part in parts)
            bound = sum(part.max_bytes for part in parts)
            return StoreInfo(rows, size, bound, self._hits, self._misses)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.memory.clear()
            if self._disk is not None:
                self._disk.clear()
            self._outgrown.clear()
            self._hits = self._misses = 0


def _merged(
    found: NDArray[np.bool_], features: NDArray[Any] | None, also: NDArray[Any], more: Any
) -> Found:
    """Add the features of the keys at some positions to those found."""
    if more is None:
        return found, features
    both = found.copy()
    both[also] = True
    merged = np.empty((int(both.sum()), more.shape[1]), dtype=more.dtype)
    place = np.cumsum(both) - 1
    if features is not None:
        merged[place[found]] = features
    merged[place[also]] = more
    return both, merged


def _remove(folder: str, pid: int) -> None:
    """Remove the folder, but not from a process that was forked from its owner."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
