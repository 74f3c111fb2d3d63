"""What feature stores have in common: checks, locks, and gathering rows from chunks."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import filelock  # noqa: F401, see the end of this file
import numpy as np
from numpy.typing import NDArray

from ..exceptions import FeatureStoreWarning
from .key_index import ROW_BITS, ChunkIndex, Keys, distinct

__all__ = ["KEY_BYTES", "BaseStore", "Found", "StoreInfo", "check_same", "checked_keys", "portions"]

CHUNK_BYTES = 2**21
"""Most bytes of features in a chunk (of several rows): what is read and evicted at once."""

KEY_BYTES = 16

FORK_SECONDS = 10.0
"""How long a fork waits for a thread to end its work on a store."""

Found: TypeAlias = tuple[NDArray[np.bool_], NDArray[Any] | None]


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds, and how often it was of use.

    Parameters
    ----------
    rows : int
        Rows stored.
    bytes, max_bytes : int
        Size of features and keys, and its bound.
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
    """What both stores share: checks, locking, counting, and gathering rows from chunks."""

    def __init__(self, max_bytes: int) -> None:
        if not isinstance(max_bytes, (int, np.integer)) or max_bytes < 1:
            raise ValueError(
                f"max_bytes is {max_bytes!r}; expected a positive number of bytes, such as 2**30 "
                "(1 GiB)."
            )
        self.max_bytes = int(max_bytes)
        self._lock = threading.RLock()
        self._hits = self._misses = 0
        self._notices: list[str] = []
        _STORES.add(self)

    def lookup(self, namespace: bytes, keys: Keys) -> Found:
        """Return the features that are stored.

        Parameters
        ----------
        namespace : bytes
            Fingerprint of the module and its settings.
        keys : ndarray of shape (n, 2), uint64
            Row keys; the same one may occur several times.

        Returns
        -------
        found : ndarray of shape (n,), bool
            Which keys are stored.
        features : ndarray of shape (found.sum(), d) or None
            A copy of their features, in the order of the keys; None if there are none.
        """
        keys = checked_keys(keys)
        with self._session():
            found, features = self._find(namespace, keys)
            hits = int(found.sum())
            self._hits += hits
            self._misses += len(keys) - hits
        return found, features

    def put(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        """Store features; rows already stored are skipped, old chunks make room.

        Parameters
        ----------
        namespace : bytes
            Fingerprint of the module and its settings.
        keys : ndarray of shape (n, 2), uint64
            Row keys.
        features : ndarray of shape (n, d), float32 or float64
            Copied. If they alone exceed ``max_bytes``, the first of them are kept.

        Raises
        ------
        ValueError
            If shapes do not fit, or rows of another width or dtype are stored.
        """
        keys = checked_keys(keys)
        features = np.asarray(features)
        if features.ndim != 2 or len(features) != len(keys) or features.shape[1] == 0:
            raise ValueError(
                f"features have shape {features.shape}; expected ({len(keys)}, d), one row per key."
            )
        if features.dtype not in (np.float32, np.float64):
            raise ValueError(f"features are {features.dtype}; expected float32 or float64.")
        if len(keys):
            with self._session():
                self._store(namespace, keys, features)

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        """One thread at a time; warnings are given last, as they may be turned into errors."""
        with self._lock:
            yield
            notices, self._notices = self._notices, []
        for notice in notices:
            warnings.warn(notice, FeatureStoreWarning, stacklevel=4)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    def _gather(self, index: ChunkIndex[Any], keys: Keys, read: Callable[[int], Any]) -> Found:
        """Collect rows chunk by chunk; ``read`` returns a chunk's features, None if it is lost."""
        positions = index.find(keys)
        rows = np.flatnonzero(positions >= 0)
        if not len(rows):
            return positions >= 0, None
        rows = rows[np.argsort(positions[rows], kind="stable")]
        chunks = positions[rows] >> ROW_BITS
        places = positions[rows] & ((1 << ROW_BITS) - 1)
        target = np.cumsum(positions >= 0)[rows] - 1
        out: NDArray[Any] | None = None
        starts = np.flatnonzero(np.diff(chunks, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            features = read(int(chunks[start]))
            if features is None:
                positions[rows[start:stop]] = -1
                continue
            if out is None:
                out = np.empty((len(rows), features.shape[1]), dtype=features.dtype)
            out[target[start:stop]] = features[places[start:stop]]
        found = positions >= 0
        if out is not None and found.sum() < len(out):
            out = out[found[np.sort(rows)]]
        return found, out

    @abstractmethod
    def _find(self, namespace: bytes, keys: Keys) -> Found: ...

    @abstractmethod
    def _store(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None: ...


def checked_keys(keys: Keys) -> Keys:
    if not isinstance(keys, np.ndarray) or keys.dtype != np.uint64 or keys.shape[1:] != (2,):
        got = f"{keys.dtype} {keys.shape}" if isinstance(keys, np.ndarray) else type(keys).__name__
        raise ValueError(f"keys are {got}; expected uint64 (n, 2), one 128-bit hash per row.")
    return keys


def check_same(width: int, size: int, features: NDArray[Any]) -> None:
    if (width, size) != (features.shape[1], features.dtype.itemsize):
        raise ValueError(
            f"features are {features.dtype} of width {features.shape[1]}, but float{8 * size} of "
            f"width {width} are stored under the same namespace. Give each module its own."
        )


def portions(
    index: ChunkIndex[Any], keys: Keys, features: NDArray[Any], max_bytes: int
) -> Iterator[NDArray[np.intp]]:
    """Iterate over the row numbers of chunks: new keys only, as many as the bound allows."""
    width, size = features.shape[1], features.dtype.itemsize
    rows = np.flatnonzero(distinct(keys) & (index.find(keys) < 0))
    rows = rows[: max_bytes // (width * size + KEY_BYTES)]
    step = min(max(1, CHUNK_BYTES // (width * size)), 1 << (ROW_BITS - 1))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


_STORES: weakref.WeakSet[BaseStore] = weakref.WeakSet()
_held: list[BaseStore] = []


def _before_fork() -> None:
    # A thread in the midst of its work would leave half-done state, and locked mutexes inside
    # SQLite, to the child. Not without limit: rather such a child than a parent that hangs.
    _held[:] = [store for store in list(_STORES) if store._lock.acquire(timeout=FORK_SECONDS)]


def _after_fork_in_parent() -> None:
    for store in _held:
        store._lock.release()
    _held.clear()


def _after_fork_in_child() -> None:
    _held.clear()
    for store in list(_STORES):
        store._after_fork()


if hasattr(os, "register_at_fork"):
    # Hooks run last registered first. filelock's must run after ours: they hold up its locks,
    # which a thread may need to end its work. So filelock is imported before this line.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
