"""Features whose rows lie in chunks on the machines of a Dask cluster, where blocks are worked on.

Rows stay where they are: functions travel there, and what they return comes back, merged on the
way where it is a sum. Columns of a number per row, such as labels and weights, are sent once, in
as few bytes as they take. What a lost machine had is made anew by Dask, from where it came from.

Dask is imported where it is called: who has features there has it.
"""

from __future__ import annotations

import copy
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from xxhash import xxh3_128

from ..inputs.lazy import (
    as_one,
    beside,
    compute,
    delayed_call,
    local_directory,
    persist,
)
from .mapped import LocalFeatures, MappedFeatures, allocate_features, as_features, release_pages

__all__ = ["DaskFeatures"]

T = TypeVar("T")

# So many results are merged by one task.
_MERGED = 8
# Chunks of features are of about so many bytes, unless they are larger to begin with, or would be
# fewer than can share the work.
_CHUNK_BYTES, _LEAST_CHUNKS = 2**25, 4
# Columns that the cluster keeps: those of a few fits at a time.
_COLUMNS = 32
# A column with so few different values is sent as a byte per row.
_FEW_VALUES = 2**8


class DaskFeatures:
    """Features (n, d) in chunks, each an array (m, d) that a Dask object stands for.

    Parameters
    ----------
    chunks : sequence of Delayed
        Rows that the cluster keeps, as `of` makes them: they are read in each pass.
    lengths : sequence of int
        Number of rows of each.
    n_features : int
        Number of features d.
    dtype : dtype
        float32 or float64.

    Examples
    --------
    >>> import dask.array
    >>> Z = DaskFeatures.of(dask.array.from_array(np.eye(3, 2), chunks=2))
    >>> Z.shape, Z[1:].tolist()
    ((3, 2), [[0.0, 1.0], [0.0, 0.0]])
    >>> Z.take(np.array([1]))[:].tolist()
    [[0.0, 1.0]]
    """

    def __init__(
        self, chunks: Sequence[Any], lengths: Sequence[int], n_features: int, dtype: DTypeLike
    ) -> None:
        there = [(chunk, n) for chunk, n in zip(chunks, lengths, strict=True) if n]
        self._chunks = [chunk for chunk, _ in there]
        self._ends = np.cumsum([n for _, n in there], dtype=np.int64)
        self._n_features, self.dtype = n_features, np.dtype(dtype)
        # Of all rows of the chunks, the numbers of these; None is all of them.
        self._index: NDArray[np.int64] | None = None
        self._sent: OrderedDict[bytes, list[Any]] = OrderedDict()
        self._here: LocalFeatures | None = None
        self.token = uuid.uuid4().bytes
        """Stands for the content: no other features have it."""

    @classmethod
    def of(cls, array: Any) -> DaskFeatures:
        """Let the cluster make and keep an array of Dask (n, d), whose chunks are of whole rows.

        Small neighbouring chunks become one: each costs some milliseconds in each pass. Which ones
        depends on the array alone, and so do the last digits of sums.
        """
        parts, lengths = array.to_delayed().ravel().tolist(), np.array(array.chunks[0])
        size = int(lengths.sum()) * array.shape[1] * array.dtype.itemsize
        wanted = min(len(parts), max(-(-size // _CHUNK_BYTES), _LEAST_CHUNKS))
        # By where the middle of a chunk is among all rows.
        middles = np.cumsum(lengths) - lengths / 2
        group = np.floor(middles / max(1, lengths.sum()) * wanted).astype(int)
        runs = [np.flatnonzero(group == i).tolist() for i in np.unique(group)]
        chunks = [delayed_call(_kept, *(parts[i] for i in run)) for run in runs]
        joined = [int(lengths[run].sum()) for run in runs]
        return cls(persist(chunks), joined, array.shape[1], array.dtype)

    def __len__(self) -> int:
        if self._index is not None:
            return len(self._index)
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features, (n, d)."""
        return len(self), self._n_features

    def __getitem__(self, rows: Any) -> Tensor:
        """Bring some rows here, by a slice or by their numbers, as a tensor (m, d)."""
        wanted = self._numbers(rows)
        own = np.searchsorted(self._ends, wanted, side="right")
        starts = np.concatenate([[0], self._ends])
        found = np.empty((len(wanted), self._n_features), self.dtype)
        places = [np.flatnonzero(own == i) for i in np.unique(own)]
        tasks = [
            delayed_call(_picked, self._chunks[own[at[0]]], wanted[at] - starts[own[at[0]]])
            for at in places
        ]
        for at, part in zip(places, compute(tasks), strict=True):
            found[at] = part
        return torch.from_numpy(found)

    def take(self, rows: Any) -> DaskFeatures:
        """Return some rows, by a slice or by their ascending numbers, without moving them."""
        chosen = self._numbers(rows)
        if (chosen[1:] <= chosen[:-1]).any():
            raise ValueError("Rows that lie on a cluster are taken in their order.")
        if len(chosen) == len(self):
            return self
        new = copy.copy(self)
        new._index = chosen
        new._sent, new._here = OrderedDict(), None
        new.token = xxh3_128(self.token + chosen.tobytes()).digest()
        return new

    def map(
        self,
        function: Callable[[MappedFeatures, Sequence[Tensor | None]], T],
        columns: Sequence[Tensor | None] = (),
    ) -> Iterator[T]:
        """Yield what a function returns of each chunk's rows, in order.

        Parameters
        ----------
        function : callable
            Of the rows' features, and of the columns' values of the same rows.
        columns : sequence of Tensor of n rows, or None
            What else there is of each row.
        """
        yield from compute(self._tasks(function, columns))

    def reduce(
        self,
        function: Callable[[MappedFeatures, Sequence[Tensor | None]], T | None],
        merge: Callable[[T, T], T],
        columns: Sequence[Tensor | None] = (),
    ) -> T | None:
        """Return what a function returns of all chunks' rows, merged where these are.

        ``merge`` may change its first argument. None stands for no rows.
        """
        tasks, shared = self._tasks(function, columns), as_one(merge)
        while len(tasks) > 1:
            parts = [tasks[i : i + _MERGED] for i in range(0, len(tasks), _MERGED)]
            tasks = [delayed_call(_merged, shared, *part) for part in parts]
        found: list[T | None] = compute(tasks)
        return found[0] if found else None

    def apply(
        self,
        function: Callable[[MappedFeatures, Sequence[Tensor | None]], NDArray[np.float64]],
        n_features: int,
    ) -> DaskFeatures:
        """Return other features, what a function returns of each chunk's, kept where they are.

        Parameters
        ----------
        function : callable
            As for `map`; it returns an array (m, n_features).
        n_features : int
            How many it makes of each row.
        """
        chunks = persist([delayed_call(_kept, task) for task in self._tasks(function, ())])
        return DaskFeatures(chunks, self._lengths.tolist(), n_features, np.float64)

    def local(self, limit: int | None, folder: str | Path | None = None) -> LocalFeatures:
        """Bring all rows here, chunk by chunk: to memory, or as `allocate_features` beyond a limit.

        They are brought once, and kept as long as these features are.

        Returns
        -------
        Tensor or MappedFeatures of shape (n, d)
        """
        if self._here is not None:
            return self._here
        room, at = allocate_features(self.shape, self.dtype, limit=limit, folder=folder), 0
        for task in self._tasks(_rows, ()):
            (part,) = compute([task])
            room[at : at + len(part)] = part
            at += len(part)
            release_pages(room)
        self._here = as_features(room)
        return self._here

    @property
    def _lengths(self) -> NDArray[np.int64]:
        """Number of these rows in each chunk."""
        ends = self._ends if self._index is None else np.searchsorted(self._index, self._ends)
        return np.diff(ends, prepend=0)

    def _numbers(self, rows: Any) -> NDArray[np.int64]:
        """Return the numbers of some of these rows among those of the chunks."""
        everything = np.arange(len(self)) if self._index is None else self._index
        return everything[rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)]

    def _tasks(self, function: Callable[..., Any], columns: Sequence[Tensor | None]) -> list[Any]:
        """Return what calls a function with each chunk and its part of the columns."""
        shared = as_one(function)
        sent = [None if column is None else self._placed(column) for column in columns]
        kept: list[Any] = [None] * len(self._chunks)
        if self._index is not None:
            mask = np.zeros(self._ends[-1], dtype=bool)
            mask[self._index] = True
            kept = self._placed(torch.from_numpy(mask), self._ends)
        tasks = []
        for i, (there, chunk) in enumerate(beside(self._chunks)):
            with there:
                own = (part and part[i] for part in sent)
                tasks.append(delayed_call(_run, shared, chunk, kept[i], *own))
        return tasks

    def _placed(self, column: Tensor, ends: NDArray[np.int64] | None = None) -> list[Any]:
        """Return the parts of a column on the cluster; what was sent already is there."""
        array = column.detach().contiguous().numpy()
        digest = xxh3_128(f"{array.dtype} {array.shape}".encode())
        digest.update(array.data)
        key = digest.digest()
        if key not in self._sent:
            ends = np.cumsum(self._lengths) if ends is None else ends
            parts = [_Packed.of(part) for part in np.split(array, ends[:-1])]
            self._sent[key] = persist([as_one(part) for part in parts])
            while len(self._sent) > _COLUMNS:
                self._sent.popitem(last=False)
        self._sent.move_to_end(key)
        return self._sent[key]


class _Packed(NamedTuple):
    """Values of some rows: as they are, or as the number of one of a few."""

    values: NDArray[Any]
    codes: NDArray[np.uint8] | int | None = None  # of one value how often it is there

    @classmethod
    def of(cls, column: NDArray[Any]) -> _Packed:
        """Pack a part of a column."""
        if column.ndim > 1:
            return cls(column.copy())
        values, codes = np.unique(column, return_inverse=True)
        if len(values) == 1:
            return cls(values, len(column))
        if len(values) > _FEW_VALUES:
            return cls(column.copy())
        return cls(values, codes.astype(np.uint8))

    def tensor(self) -> Tensor:
        """Unpack it."""
        if self.codes is None:
            return torch.from_numpy(self.values.copy())
        if isinstance(self.codes, int):
            return torch.from_numpy(np.repeat(self.values, self.codes))
        return torch.from_numpy(self.values[self.codes])


def _run(function: Callable[..., T], chunk: _Chunk, rows: _Packed | None, *columns: Any) -> T:
    """Call a function with a chunk's rows, at the worker that has them."""
    index = None if rows is None else np.flatnonzero(rows.tensor().numpy())
    given = [None if column is None else column.tensor() for column in columns]
    return function(MappedFeatures(chunk.array, index), given)


def _rows(Z: MappedFeatures, columns: Any) -> NDArray[Any]:
    return Z[:].numpy()


class _Chunk:
    """Rows that a worker keeps, and that are kept likewise where Dask sends them.

    They lie in a file without a name, among what Dask itself puts on the worker's disk, and are
    read block by block: how many they are does not matter to its memory. Dask, which would move
    large objects to disk and back as a whole, takes this for a small one.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        return _kept, (np.array(self.array),)


def _kept(*parts: NDArray[Any]) -> _Chunk:
    """Keep parts of neighbouring rows as one: in memory, if this is no worker of a cluster."""
    folder = local_directory()
    limit = None if folder is None else 0
    shape = sum(map(len, parts)), parts[0].shape[1]
    room, at = allocate_features(shape, parts[0].dtype, limit=limit, folder=folder), 0
    for part in parts:
        room[at : at + len(part)] = part
        at += len(part)
    release_pages(room)
    return _Chunk(room)


def _picked(chunk: _Chunk, rows: NDArray[np.int64]) -> NDArray[Any]:
    found = np.array(chunk.array[rows])
    release_pages(chunk.array)
    return found


def _merged(merge: Callable[[T, T], T], *parts: T | None) -> T | None:
    """Merge neighbouring results; the first is copied, for a task may run again."""
    there = [part for part in parts if part is not None]
    return reduce(merge, there[1:], copy.deepcopy(there[0])) if there else None
