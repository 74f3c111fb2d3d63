"""Where rows lie: maps from 128-bit row keys to positions, without a Python object per row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
T = TypeVar("T")

ROW_BITS = 24
"""A position is ``chunk << ROW_BITS | row``; so a chunk has fewer than 2**24 rows."""


class _Run(NamedTuple):
    """Entries sorted by the first word of their keys; no key occurs twice."""

    first: NDArray[np.uint64]
    second: NDArray[np.uint64]
    positions: NDArray[np.int64]


class KeyIndex:
    """A map from keys to positions that grows by batches.

    Entries lie in sorted runs, each at least twice as long as the next, so
    there are few of them, and an entry is merged into a longer run only
    log2(n) times. Of equal keys, the one added last counts.

    Examples
    --------
    >>> import numpy as np
    >>> index = KeyIndex()
    >>> keys = np.array([[7, 1], [3, 2]], dtype=np.uint64)
    >>> index.add(keys, np.array([10, 20]))
    >>> index.find(np.array([[3, 2], [3, 9], [7, 1]], dtype=np.uint64))
    array([20, -1, 10])
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run.first) for run in self._runs)

    def add(self, keys: Keys, positions: NDArray[np.int64]) -> None:
        """Map keys (n, 2) to positions (n,)."""
        if not len(keys):
            return
        runs, new = list(self._runs), _sorted_run(keys[:, 0], keys[:, 1], positions)
        while runs and len(runs[-1].first) < 2 * len(new.first):
            older = runs.pop()
            new = _sorted_run(*(np.concatenate(pair) for pair in zip(older, new, strict=True)))
        # One assignment: an interrupt leaves the index as it was, or complete.
        self._runs = [*runs, new]

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the positions (n,) of keys (n, 2), -1 where a key is unknown."""
        found = np.full(len(keys), -1, dtype=np.int64)
        if not self._runs:
            return found
        # Sorted queries walk through a run's memory instead of jumping about in it.
        rows = np.argsort(keys[:, 0])
        for run in reversed(self._runs):
            first, second = keys[rows, 0], keys[rows, 1]
            at = np.searchsorted(run.first, first)
            pending = np.arange(len(rows))
            while len(pending):
                pending = pending[at[pending] < len(run.first)]
                pending = pending[run.first[at[pending]] == first[pending]]
                match = run.second[at[pending]] == second[pending]
                hit = pending[match]
                found[rows[hit]] = run.positions[at[hit]]
                # Another key with the same first word: rare among hashes, but possible.
                pending = pending[~match]
                at[pending] += 1
            rows = rows[found[rows] < 0]
        return found

    def entries(self) -> tuple[Keys, NDArray[np.int64]]:
        """Return all keys (n, 2) and positions (n,), the oldest first."""
        if not self._runs:
            return np.empty((0, 2), dtype=np.uint64), np.empty(0, dtype=np.int64)
        first, second, positions = (np.concatenate(part) for part in zip(*self._runs, strict=True))
        return np.column_stack([first, second]), positions


def _sorted_run(
    first: NDArray[np.uint64], second: NDArray[np.uint64], positions: NDArray[np.int64]
) -> _Run:
    """Sort entries given from old to new; of equal keys keep the newest."""
    order = np.argsort(first)
    if (first[order[1:]] == first[order[:-1]]).any():
        order = np.lexsort((np.arange(len(first)), second, first))
        older = (first[order[1:]] == first[order[:-1]]) & (second[order[1:]] == second[order[:-1]])
        order = order[~np.append(older, False)]
    return _Run(first[order], second[order], positions[order])


def distinct(keys: Keys) -> NDArray[np.bool_]:
    """Return the mask (n,) of the rows whose key (n, 2) occurs for the first time."""
    first = np.sort(keys[:, 0])
    if not (first[1:] == first[:-1]).any():
        return np.ones(len(keys), dtype=bool)
    mask = np.zeros(len(keys), dtype=bool)
    mask[np.unique(keys, axis=0, return_index=True)[1]] = True
    return mask


def keys_of(blob: object) -> Keys | None:
    """Return the keys (n, 2) in little-endian bytes, None if there cannot be any in it."""
    if not isinstance(blob, bytes) or len(blob) % 16:
        return None
    return np.frombuffer(blob, dtype="<u8").astype(np.uint64, copy=False).reshape(-1, 2)


class ChunkIndex(Generic[T]):
    """Which chunk of rows holds a key, and in which row.

    Attributes
    ----------
    chunks : dict
        From the number of each chunk to what the store keeps of it.
    """

    def __init__(self) -> None:
        self.chunks: dict[int, T] = {}
        self._index = KeyIndex()
        self._n_rows: dict[int, int] = {}
        self._live: NDArray[np.int64] | None = None

    def add(self, chunks: Iterable[tuple[int, Keys, T]]) -> None:
        """Add chunks: number, keys (n, 2) and what to keep. Adding one again changes nothing."""
        added = list(chunks)
        if not added:
            return
        spans = [(chunk << ROW_BITS) + np.arange(len(keys)) for chunk, keys, _ in added]
        self._index.add(np.concatenate([keys for _, keys, _ in added]), np.concatenate(spans))
        # Keys of a chunk that is not (yet) listed are not found, so an interrupt does no harm.
        self._live = None
        for chunk, keys, kept in added:
            self._n_rows[chunk] = len(keys)
            self.chunks[chunk] = kept

    def drop(self, chunk: int) -> None:
        """Forget a chunk; its keys are not found from here on."""
        self._live = None
        self.chunks.pop(chunk, None)
        self._n_rows.pop(chunk, None)

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the positions (n,) of keys (n, 2), -1 where none of the chunks holds a key."""
        self._forget_dropped()
        positions = self._index.find(keys)
        positions[~self._is_live(positions)] = -1
        return positions

    def _is_live(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self._live is None:
            self._live = np.array(sorted(self.chunks), dtype=np.int64)
        if not len(self._live):
            return np.zeros(len(positions), dtype=bool)
        chunks = positions >> ROW_BITS
        at = np.minimum(np.searchsorted(self._live, chunks), len(self._live) - 1)
        return self._live[at] == chunks

    def _forget_dropped(self) -> None:
        """Rebuild the index when most of it is of chunks that are gone."""
        if len(self._index) > 2 * sum(self._n_rows.values()) + 4096:
            keys, positions = self._index.entries()
            live = self._is_live(positions)
            fresh = KeyIndex()
            fresh.add(keys[live], positions[live])
            self._index = fresh
