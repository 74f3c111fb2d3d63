"""A store in the memory of a process."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .base import KEY_BYTES, BaseStore, Found, StoreInfo, check_same, checked_keys, portions
from .key_index import ChunkIndex, Keys

__all__ = ["MemoryStore"]


class _Chunk(NamedTuple):
    namespace: bytes
    features: NDArray[Any]

    @property
    def bytes(self) -> int:
        return self.features.nbytes + KEY_BYTES * len(self.features)


class MemoryStore(BaseStore):
    """Remembers features in the memory of this process.

    A pickle or deep copy is an empty store with the same bound.

    Parameters
    ----------
    max_bytes : int, default=2**30
        Bound on the bytes of features and keys; the least recently used go first.

    Examples
    --------
    >>> import numpy as np
    >>> from skfairft.feature_store import MemoryStore
    >>> store = MemoryStore()
    >>> keys = np.array([[1, 2], [3, 4]], dtype=np.uint64)
    >>> store.put(b"module", keys, np.ones((2, 5), dtype=np.float32))
    >>> found, features = store.lookup(b"module", keys[[1, 1]])
    >>> found, features.shape
    (array([ True,  True]), (2, 5))
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        super().__init__(max_bytes)
        self._forget()

    def _forget(self) -> None:
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()  # the least recently used first
        self._indexes: dict[bytes, ChunkIndex[None]] = {}
        self._bytes = self._next = 0

    def __repr__(self) -> str:
        return f"MemoryStore(max_bytes={self.max_bytes})"

    def __reduce__(self) -> Any:
        return MemoryStore, (self.max_bytes,)

    def claim(self, namespace: bytes, keys: Keys) -> NDArray[np.bool_]:
        """Return True for each of the keys (n, 2): no other process can compute for this store."""
        return np.ones(len(checked_keys(keys)), dtype=bool)

    def release(self, namespace: bytes, keys: Keys | None = None) -> None:
        """Do nothing: there are no claims."""

    def wait(self, namespace: bytes, keys: Keys, poll: float = 0.05) -> None:
        """Return at once: there is nobody to wait for."""

    def info(self) -> StoreInfo:
        """Return what is stored, and the hits and misses.

        Returns
        -------
        StoreInfo
            Rows, bytes, the bound on bytes, hits and misses.
        """
        with self._lock:
            rows = sum(len(chunk.features) for chunk in self._chunks.values())
            return StoreInfo(rows, self._bytes, self.max_bytes, self._hits, self._misses)

    def size_of(self, namespace: bytes) -> int:
        """Return the bytes that features and keys of a namespace take."""
        with self._lock:
            chunks = self._chunks.values()
            return sum(chunk.bytes for chunk in chunks if chunk.namespace == namespace)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._forget()
            self._hits = self._misses = 0

    def _find(self, namespace: bytes, keys: Keys) -> Found:
        def read(number: int) -> NDArray[Any]:
            self._chunks.move_to_end(number)
            return self._chunks[number].features

        return self._gather(self._indexes.get(namespace, ChunkIndex()), keys, read)

    def _store(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        index = self._indexes.setdefault(namespace, ChunkIndex())
        if index.chunks:
            stored = self._chunks[next(iter(index.chunks))].features
            check_same(stored.shape[1], stored.dtype.itemsize, features)
        for rows in portions(index, keys, features, self.max_bytes):
            chunk = _Chunk(namespace, features[rows])  # a copy, as rows is an array
            try:
                while self._bytes + chunk.bytes > self.max_bytes:
                    number, old = self._chunks.popitem(last=False)
                    self._bytes -= old.bytes
                    self._drop(old.namespace, number)
                number, self._next = self._next, self._next + 1
                self._chunks[number] = chunk
                self._bytes += chunk.bytes
                self._indexes[namespace] = index  # eviction may have removed it
                index.add([(number, keys[rows], None)])
            except BaseException:  # an interrupt between two of these lines
                self._mend()
                raise

    def _mend(self) -> None:
        """Keep the chunks that are both here and in an index."""
        listed = {number for index in self._indexes.values() for number in index.chunks}
        for number in set(self._chunks) - listed:
            del self._chunks[number]
        for index in self._indexes.values():
            for number in set(index.chunks) - set(self._chunks):
                index.drop(number)
        self._bytes = sum(chunk.bytes for chunk in self._chunks.values())

    def _drop(self, namespace: bytes, number: int) -> None:
        index = self._indexes[namespace]
        index.drop(number)
        if not index.chunks:
            del self._indexes[namespace]
