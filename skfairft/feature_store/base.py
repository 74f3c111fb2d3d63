"""What feature stores have in common: checks, locks, and gathering rows from blocks."""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .key_index import ROW_BITS, KeyIndex, Keys, distinct

__all__ = ["KEY_BYTES", "BaseStore", "Found", "Kind", "StoreInfo", "gather", "portions"]

BLOCK_BYTES = 2**21
"""Most bytes of features in a block (of several rows): what is read and evicted at once."""

ROW_BYTES = 3 * 2**24
"""Rows of more bytes of features are not kept."""

KEY_BYTES = 16

Found: TypeAlias = tuple[NDArray[np.bool_], NDArray[Any] | None]

Kind: TypeAlias = tuple[int, int]
"""Width of a block and bytes per number."""


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds, and how often it was of use.

    Parameters
    ----------
    rows : int
        Rows stored.
    bytes, max_bytes : int
        Size of features and keys, of files with their headers; and its bound.
    hits, misses : int
        Rows looked up and found, or not, by this store object since it was made or cleared.
    folder : str or None
        Where it lies; None for a store in memory.

    Examples
    --------
    >>> StoreInfo(rows=2, bytes=48, max_bytes=10**6, hits=3, misses=2, folder=None)
    StoreInfo(rows=2, bytes=48, max_bytes=1000000, hits=3, misses=2, folder=None)
    """

    rows: int
    bytes: int
    max_bytes: int
    hits: int
    misses: int
    folder: str | None = None


class BaseStore(ABC):
    """What the stores share: checks, one thread at a time, counting."""

    def __init__(self, max_bytes: int) -> None:
        if not isinstance(max_bytes, (int, np.integer)) or max_bytes < 1:
            raise ValueError(
                f"max_bytes is {max_bytes!r}; expected a positive number of bytes, such as 2**30 "
                "(1 GiB)."
            )
        self.max_bytes = int(max_bytes)
        self._lock = threading.RLock()
        self._hits = self._misses = 0
        _STORES.add(self)

    def lookup(self, namespace: bytes, keys: Keys, *, again: bool = False) -> Found:
        """Return the features that are stored.

        Parameters
        ----------
        namespace : bytes of length 16
            Fingerprint of the module and its settings.
        keys : ndarray of shape (n, 2), uint64
            Row keys; the same one may occur several times.
        again : bool, default=False
            Whether all of them were missing a moment ago, and are counted as such.

        Returns
        -------
        found : ndarray of shape (n,), bool
            Which keys are stored. Of rows of several widths or dtypes only those count that
            are like the first.
        features : ndarray of shape (found.sum(), d) or None
            A copy of their features, in the order of the keys; None if there are none.
        """
        _check_keys(keys)
        with self._lock:
            found, features = self._find(namespace, keys)
            hits = int(found.sum())
            self._hits += hits
            self._misses += (0 if again else len(keys)) - hits
        return found, features

    def put(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        """Store features; rows already stored are skipped, old blocks make room.

        Parameters
        ----------
        namespace : bytes of length 16
            Fingerprint of the module and its settings.
        keys : ndarray of shape (n, 2), uint64
            Row keys.
        features : ndarray of shape (n, d), float32 or float64
            Copied. If they alone exceed ``max_bytes``, the first of them are kept. Rows of more
            than 48 MiB are not.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit, or features are not finite.
        """
        _check_keys(keys)
        features = np.asarray(features)
        if features.ndim != 2 or len(features) != len(keys) or features.shape[1] == 0:
            raise ValueError(
                f"features have shape {features.shape}; expected ({len(keys)}, d), one row per key."
            )
        if features.dtype not in (np.float32, np.float64):
            raise ValueError(f"features are {features.dtype}; expected float32 or float64.")
        if not np.isfinite(features).all():
            raise ValueError("features hold NaN or infinity; expected finite numbers.")
        if len(keys):
            with self._lock:
                self._store(namespace, keys, features)

    def clear(self) -> None:
        """Forget everything; what is in a folder, for other processes too."""
        with self._lock:
            self._forget_all()
            self._hits = self._misses = 0

    def working(self, namespace: bytes) -> AbstractContextManager[Any]:
        """Return a context in which no other process computes rows of the namespace."""
        return nullcontext()

    @abstractmethod
    def _forget_all(self) -> None: ...

    @abstractmethod
    def _find(self, namespace: bytes, keys: Keys) -> Found: ...

    @abstractmethod
    def _store(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None: ...


def gather(
    index: KeyIndex,
    keys: Keys,
    kind: Callable[[int], Kind],
    read: Callable[[int], NDArray[Any] | None],
) -> Found:
    """Collect rows block by block.

    ``kind`` tells a block's width and bytes per number; only those like the first count, so that
    no more room is made than there is to read. ``read`` returns its features, None if it is lost.
    """
    places = index.find(keys)
    rows = np.flatnonzero(places >= 0)
    rows = rows[np.argsort(places[rows], kind="stable")]
    blocks = places[rows] >> ROW_BITS
    bounds = pairwise([*np.flatnonzero(np.diff(blocks, prepend=-1)), len(rows)])
    parts = [(int(blocks[start]), rows[start:stop]) for start, stop in bounds]
    kinds = [kind(block) for block, _ in parts]
    wanted = np.zeros(len(keys), dtype=bool)
    for (_, part), each in zip(parts, kinds, strict=True):
        wanted[part] = each == kinds[0]
    found, target = wanted.copy(), np.cumsum(wanted) - 1
    out: NDArray[Any] | None = None
    for (block, part), each in zip(parts, kinds, strict=True):
        features = read(block) if each == kinds[0] else None
        if features is None:
            found[part] = False
            continue
        if out is None:
            out = np.empty((int(wanted.sum()), features.shape[1]), dtype=features.dtype)
        out[target[part]] = features[places[part] & ((1 << ROW_BITS) - 1)]
    if out is not None and not found[wanted].all():
        out = out[found[wanted]]
    return found, out


def portions(
    index: KeyIndex, keys: Keys, features: NDArray[Any], max_bytes: int
) -> Iterator[NDArray[np.intp]]:
    """Iterate over the row numbers of blocks: new keys only, as many as the bound allows."""
    row_bytes = features.shape[1] * features.dtype.itemsize
    rows = np.flatnonzero(distinct(keys) & (index.find(keys) < 0))
    rows = rows[: max_bytes // (row_bytes + KEY_BYTES) if row_bytes <= ROW_BYTES else 0]
    step = min(max(1, BLOCK_BYTES // row_bytes), 1 << (ROW_BITS - 1))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _check_keys(keys: Keys) -> None:
    if not isinstance(keys, np.ndarray) or keys.dtype != np.uint64 or keys.shape[1:] != (2,):
        got = f"{keys.dtype} {keys.shape}" if isinstance(keys, np.ndarray) else type(keys).__name__
        raise ValueError(f"keys are {got}; expected uint64 (n, 2), one 128-bit hash per row.")


_STORES: weakref.WeakSet[BaseStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # A thread that held a lock is not in the child. What it left half done is as after an
    # interrupt: nothing wrong is found.
    for store in list(_STORES):
        store._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
