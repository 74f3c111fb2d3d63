"""Stores that remember the features of rows, in memory or in a folder that processes share.

A store maps (namespace, key) to a row of features. The namespace is a fingerprint (bytes) of the
module and its settings; keys (n, 2) are 128-bit hashes of the rows as two uint64; features (n, d)
are float32 or float64. Rows are kept in blocks of up to 2 MiB. A key is found through an index in
memory, a block is read and evicted as a whole: the least recently used first. With a namespace
goes its witness: what it takes to see whether the module still gives what is stored
(``skfairft.feature_store.witness``).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TypeAlias

from .disk import DiskStore, resolved
from .memory import MemoryStore

__all__ = ["Store", "get_store"]

# What the process remembers if it is not told otherwise: memory, and files for what outgrows it.
_PROCESS_BYTES, _SPILL_BYTES = 2**29, 10 * 2**30

Store: TypeAlias = MemoryStore | DiskStore


def get_store(memory: str | os.PathLike[str] | Store | None = None) -> Store:
    """Return the store that a ``memory`` parameter stands for.

    None is the one `MemoryStore` of this process, a path its one `DiskStore` for that folder, and
    a store is itself.

    Examples
    --------
    >>> from skfairft.feature_store import get_store
    >>> get_store(None) is get_store(None)
    True
    """
    if isinstance(memory, (MemoryStore, DiskStore)):
        return memory
    if memory is not None and not isinstance(memory, (str, os.PathLike)):
        raise TypeError(
            f"memory is a {type(memory).__name__}; expected None, a folder (str or path), a "
            "MemoryStore or a DiskStore. For a joblib.Memory give its location."
        )
    folder = None if memory is None else resolved(memory)
    with _SHARED_LOCK:
        if folder not in _SHARED:
            _SHARED[folder] = (
                MemoryStore(_PROCESS_BYTES, spill_bytes=_SPILL_BYTES)
                if folder is None
                else DiskStore(folder)
            )
        return _SHARED[folder]


_SHARED: dict[Path | None, Store] = {}
_SHARED_LOCK = threading.Lock()
