"""A store in the memory of a process, and in temporary files for what outgrows it."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

from numpy.typing import NDArray

from ..rows.mapped import allocate_features, is_mapped, release_pages
from .base import KEY_BYTES, BaseStore, Found, Kind, StoreInfo, gather, portions
from .key_index import KeyIndex, Keys

__all__ = ["MemoryStore"]


class MemoryStore(BaseStore):
    """Remembers features in the memory of this process.

    A pickle or deep copy is an empty store with the same bounds.

    Parameters
    ----------
    max_bytes : int, default=2**30
        Bound on the bytes of features and keys; the least recently used go first.
    spill_bytes : int, default=0
        Of a module whose features outgrow ``max_bytes`` by themselves the first would be
        forgotten while the last are stored, and no pass over the rows would find any.
        What is too much is kept in temporary files up to this bound; they are gone with
        the store. 0 keeps none.

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

    def __init__(self, max_bytes: int = 2**30, *, spill_bytes: int = 0) -> None:
        super().__init__(max_bytes)
        self.spill_bytes = spill_bytes
        self._forget_all()

    def _forget_all(self) -> None:
        # The least recently used first.
        self._blocks: OrderedDict[tuple[bytes, int], NDArray[Any]] = OrderedDict()
        self._indexes: dict[bytes, KeyIndex] = {}
        self._witnesses: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        spill = f", spill_bytes={self.spill_bytes}" if self.spill_bytes else ""
        return f"MemoryStore(max_bytes={self.max_bytes}{spill})"

    def __reduce__(self) -> Any:
        return partial(MemoryStore, spill_bytes=self.spill_bytes), (self.max_bytes,)

    def info(self) -> StoreInfo:
        """Return what is stored, and the hits and misses.

        Returns
        -------
        StoreInfo
            Rows, bytes, the bound on bytes, hits, misses.
        """
        with self._lock:
            rows = sum(map(len, self._blocks.values()))
            size = sum(map(_size, self._blocks.values()))
            size += sum(map(len, self._witnesses.values()))
            bound = self.max_bytes + self.spill_bytes
            return StoreInfo(rows, size, bound, self._hits, self._misses)

    def forget(self, namespace: bytes) -> None:
        """Forget the rows and the witness of a namespace."""
        with self._lock:
            self._witnesses.pop(namespace, None)
            self._indexes.pop(namespace, None)
            for key in [key for key in self._blocks if key[0] == namespace]:
                del self._blocks[key]

    def witness(self, namespace: bytes) -> bytes | None:
        """Return what `put_witness` kept for a namespace, None if there is nothing."""
        return self._witnesses.get(namespace)

    def put_witness(self, namespace: bytes, content: bytes) -> None:
        """Keep some bytes with a namespace, in place of earlier ones."""
        if len(content) <= self.max_bytes // 2:
            self._witnesses[namespace] = content

    def _find(self, namespace: bytes, keys: Keys) -> Found:
        index = self._indexes.get(namespace, KeyIndex())

        def read(number: int) -> NDArray[Any] | None:
            key = namespace, number
            if key not in self._blocks:  # an interrupt came before the index heard of it
                index.drop(number)
                return None
            self._blocks.move_to_end(key)
            return self._blocks[key]

        def kind(number: int) -> Kind:
            block = self._blocks.get((namespace, number))
            return (0, 0) if block is None else (block.shape[1], block.itemsize)

        found, features = gather(index, keys, kind, read)
        for key in [key for key in self._blocks if key[0] == namespace]:
            release_pages(self._blocks[key])
        return found, features

    def _store(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        index = self._indexes.get(namespace, KeyIndex())
        own = (b for (kind, _), b in self._blocks.items() if kind == namespace and not is_mapped(b))
        needed = sum(map(_size, own)) + keys.nbytes + features.nbytes
        spilled = needed > self.max_bytes and self.spill_bytes > 0
        bound = self.max_bytes - len(self._witnesses.get(namespace, b""))
        bound = self.spill_bytes if spilled else bound
        for rows in portions(index, keys, features, bound):
            shape = len(rows), features.shape[1]
            block = allocate_features(shape, features.dtype, limit=0 if spilled else None)
            block[:] = features[rows]
            release_pages(block)
            self._evict(bound - _size(block), spilled, namespace)
            self._indexes[namespace] = index
            self._blocks[namespace, index.next] = block
            index.add(keys[rows])

    def _evict(self, bound: int, spilled: bool, kept: bytes) -> None:
        """Drop the least recently used blocks of memory, or of files, down to a bound.

        The witness of a namespace goes with its last block, but for one that is kept.
        """
        sizes = {k: _size(b) for k, b in self._blocks.items() if is_mapped(b) == spilled}
        size = sum(sizes.values())
        others = (len(content) for key, content in self._witnesses.items() if key != kept)
        size += 0 if spilled else sum(others)
        for (namespace, number), own in sizes.items():
            if size <= bound:
                return
            size -= own
            del self._blocks[namespace, number]
            self._indexes[namespace].drop(number)
            if namespace != kept and not any(key[0] == namespace for key in self._blocks):
                size -= len(self._witnesses.pop(namespace, b""))
                del self._indexes[namespace]


def _size(block: NDArray[Any]) -> int:
    return block.nbytes + KEY_BYTES * len(block)
