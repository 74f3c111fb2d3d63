"""Where rows lie: from 128-bit row keys to blocks, without a Python object per row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ROW_BITS", "KeyIndex", "Keys", "Numbers", "distinct"]

Keys = NDArray[np.uint64]
Numbers = NDArray[np.int64]

ROW_BITS = 24
"""A place is ``block << ROW_BITS | row``, so a block has fewer than 2**24 rows."""


class _Run(NamedTuple):
    """Entries sorted by the first word of their keys."""

    first: NDArray[np.uint64]
    second: NDArray[np.uint64]
    places: Numbers


class KeyIndex:
    """Which block of rows holds a key, and in which row.

    Entries lie in sorted runs, each at least twice as long as the next, so there are
    few of them. Of two keys with the same first word of 64 bits only one is found for
    sure: the other may count as missing, which costs a run and is never wrong.

    Examples
    --------
    >>> import numpy as np
    >>> index = KeyIndex()
    >>> keys = np.array([[7, 1], [3, 2]], dtype=np.uint64)
    >>> block = index.add(keys)
    >>> places = index.find(np.array([[3, 2], [3, 9], [7, 1]], dtype=np.uint64))
    >>> (places & (2**ROW_BITS - 1)).tolist(), (places >= 0).tolist()
    ([1, 16777215, 0], [True, False, True])
    >>> index.drop(block)
    >>> index.find(keys)
    array([-1, -1])
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._live = np.zeros(0, dtype=bool)

    def add(self, keys: Keys) -> int:
        """Add a block whose rows have these keys (n, 2); return its number."""
        block = self.next
        # Live last: an interrupt before leaves a block that is not found.
        self._live = np.append(self._live, False)
        order = np.argsort(keys[:, 0])
        new = _Run(keys[order, 0], keys[order, 1], (block << ROW_BITS) + order)
        runs = list(self._runs)
        while runs and len(runs[-1].first) < 2 * len(new.first):
            new = self._merged(runs.pop(), new, block)
        self._runs = [*runs, new]
        self._live[block] = True
        return block

    @property
    def next(self) -> int:
        """The number that the next block will have."""
        return len(self._live)

    def drop(self, block: int) -> None:
        """Forget a block; its keys are not found from here on."""
        self._live[block : block + 1] = False  # nothing, if an interrupt came before it was added
        entries = sum(len(run.first) for run in self._runs)
        if entries > 4096 and not self._live.any():
            self._runs = []

    def find(self, keys: Keys) -> Numbers:
        """Return the places (n,) of keys (n, 2), -1 where no block holds a key."""
        places = np.full(len(keys), -1, dtype=np.int64)
        # By their size, for then those that are searched one after the other lie side by side.
        rows = np.argsort(keys[:, 0])
        for run in self._runs:
            first, second = keys[rows].T
            at = np.searchsorted(run.first, first)
            np.minimum(at, len(run.first) - 1, out=at)
            hit = (run.first[at] == first) & (run.second[at] == second)
            hit[hit] = self._live[run.places[at[hit]] >> ROW_BITS]
            places[rows[hit]] = run.places[at[hit]]
            rows = rows[~hit]
        return places

    def _merged(self, old: _Run, new: _Run, block: int) -> _Run:
        """Merge two runs, without what is of dropped blocks; one is about to live."""
        first, second, places = (np.concatenate(pair) for pair in zip(old, new, strict=True))
        blocks = places >> ROW_BITS
        kept = np.flatnonzero(self._live[blocks] | (blocks == block))
        kept = kept[np.argsort(first[kept], kind="stable")]
        return _Run(first[kept], second[kept], places[kept])


def distinct(keys: Keys) -> NDArray[np.bool_]:
    """Return the mask (n,) of the rows whose key (n, 2) occurs for the first time."""
    first = np.sort(keys[:, 0])
    if not (first[1:] == first[:-1]).any():
        return np.ones(len(keys), dtype=bool)
    mask = np.zeros(len(keys), dtype=bool)
    mask[np.unique(keys, axis=0, return_index=True)[1]] = True
    return mask
