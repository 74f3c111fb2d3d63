"""Rows of X that lie in chunks on other machines: read, cut alike, and called with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.feature_table import refuse_mapping
from ..inputs.lazy import LazyRows, as_one, compute, delayed_call, parts_of

__all__ = ["Chunks", "Place", "by_chunk", "read_chunks"]


@dataclass(frozen=True)
class Place:
    """Where some rows are from.

    Parameters
    ----------
    chunk : int
        The number of their chunk.
    start, stop : int or None
        The numbers of the first row and of the one after the last, where they are known.
    """

    chunk: int
    start: int | None
    stop: int | None

    def said(self, row: int | None) -> str:
        """Return where an error is from, and which row of the chunk is the first to make it."""
        if self.start is None or self.stop is None:
            first = "" if row is None else f", first in row {row} of it"
            return f"In chunk {self.chunk} of X{first}"
        first = "" if row is None else f", first in row {self.start + row}"
        return f"In chunk {self.chunk} of X, rows {self.start} to {self.stop - 1}{first}"


@dataclass(frozen=True)
class Chunks(LazyRows):
    """Rows of X in chunks.

    Parameters
    ----------
    parts : tuple of Delayed
        The rows of each chunk: an array, a frame, or a list.
    lengths : tuple of int
        Number of rows of each; None where that is not known.
    index : pandas.Index, optional
        That of all rows, where they have one.
    """

    parts: tuple[Any, ...]
    lengths: tuple[int | None, ...]
    index: Any = None

    def __len__(self) -> int:
        if any(n is None for n in self.lengths):
            raise TypeError("The lengths of some chunks are not known.")
        return sum(n for n in self.lengths if n is not None)

    @property
    def ends(self) -> list[tuple[int | None, int | None]]:
        """The first row of each chunk and the one after its last, as far as they are known."""
        at: list[int | None] = [0]
        for n in self.lengths:
            at.append(None if n is None or at[-1] is None else at[-1] + n)
        return list(pairwise(at))

    def head(self, n: int) -> Any:
        """Bring the first rows of the first chunk that has some here, n of them at most."""
        for part, length in zip(self.parts, self.lengths, strict=True):
            if length == 0:
                continue
            (rows,) = compute([delayed_call(_taken, part, slice(0, n))])
            if len(rows):
                return rows
        raise ValueError("X has 0 rows; at least one is needed.")

    def map(self, function: Callable[..., Any], shared: Any, *columns: Any) -> list[Any]:
        """Return what calls ``function(shared, rows, *columns)`` with each chunk's rows.

        The shared object is sent to each worker once. A column is what a chunk's rows have, chunk
        by chunk. An error of the function says which chunk it is about, and which row is the first
        to make it.
        """
        once = as_one(shared)
        return [
            delayed_call(_called, function, once, part, Place(i, *ends), *rest)
            for i, (part, ends, *rest) in enumerate(
                zip(self.parts, self.ends, *columns, strict=True)
            )
        ]

    def cut(self, column: NDArray[Any] | None) -> list[Any]:
        """Return a column of as many rows in parts like these chunks; None is None for each."""
        if column is None:
            return [None] * len(self.parts)
        return [as_one(column[slice(*ends)]) for ends in self.ends]


def read_chunks(X: Any, *, counted: bool = True) -> Chunks:
    """Return the chunks of rows of a Dask collection, see `parts_of`.

    Lengths that are not known are ``counted`` first, for which the chunks come into being once
    more, or stay unknown.

    Examples
    --------
    >>> import dask.array
    >>> read_chunks(dask.array.ones((5, 2), chunks=(3, 1))).lengths
    (3, 2)
    """
    if isinstance(X, Chunks):
        return X
    parts, lengths = parts_of(X, "X")
    index = None
    if counted and hasattr(type(X), "npartitions") and hasattr(type(X), "index"):  # a frame
        indices = compute([delayed_call(_index, part) for part in parts])
        lengths, index = tuple(map(len, indices)), indices[0].append(indices[1:])
    elif counted and any(map(np.isnan, lengths)):
        lengths = tuple(compute([delayed_call(_length, part) for part in parts]))
    return Chunks(tuple(parts), tuple(None if np.isnan(n) else int(n) for n in lengths), index)


def by_chunk(
    call: Callable[..., Any],
    shared: Any,
    X: Any,
    *columns: NDArray[Any] | None,
    dtype: Any,
    n_columns: int | None = None,
) -> Any:
    """Return ``call(shared, rows, *columns)`` of all chunks as an array of Dask.

    Parameters
    ----------
    call : callable
        Returns an array (m,) or (m, n_columns), of a chunk of m rows, one at least.
    shared : object
        Sent to each worker once.
    X : collection of Dask
        See `read_chunks`.
    *columns : ndarray of n rows, or None
        What else there is of each row; None stays None. Lengths of chunks have to be known then.
    dtype : dtype
        Of the array.
    n_columns : int, optional
        None is an array of one axis.
    """
    import dask.array

    X = read_chunks(X, counted=any(column is not None for column in columns))
    rest = () if n_columns is None else (n_columns,)
    call = partial(_unless_empty, call, np.empty((0, *rest), dtype))
    tasks = X.map(call, shared, *map(X.cut, columns))
    return dask.array.concatenate(
        [
            dask.array.from_delayed(task, (np.nan if n is None else n, *rest), dtype)
            for task, n in zip(tasks, X.lengths, strict=True)
        ]
    )


def _unless_empty(
    call: Callable[..., Any], empty: NDArray[Any], shared: Any, rows: Any, *columns: Any
) -> Any:
    return call(shared, rows, *columns) if len(rows) else empty


def _length(rows: Any) -> int:
    refuse_mapping(rows)
    return rows.shape[0] if hasattr(rows, "shape") else len(rows)


def _index(rows: Any) -> Any:
    return rows.index


def _taken(rows: Any, part: slice) -> Any:
    return rows.iloc[part] if hasattr(rows, "iloc") else rows[part]


def _called(
    function: Callable[..., Any], shared: Any, rows: Any, place: Place, *columns: Any
) -> Any:
    """Call a function with a chunk's rows, and say which they are where it fails."""
    try:
        return function(shared, rows, *columns)
    except MemoryError:
        raise
    except Exception as error:
        row = _first_failing(function, shared, rows, columns)
        where = place.said(row)
        # What others raise may take other arguments than a text.
        for kind in (TypeError, ValueError):
            if isinstance(error, kind):
                raise kind(f"{where}: {error}") from error
        raise RuntimeError(f"{where}: {type(error).__name__}: {error}") from error


def _first_failing(
    function: Callable[..., Any], shared: Any, rows: Any, columns: Sequence[Any]
) -> int | None:
    """Return the number of the first row that a function fails with; None if it is no single one.

    Halves are tried, so that it takes as long as the rows did.
    """
    start, stop = 0, len(rows)
    while stop - start > 1:
        middle = (start + stop) // 2
        start, stop = (
            (start, middle)
            if _fails(function, shared, rows, columns, slice(start, middle))
            else (middle, stop)
        )
    return start if _fails(function, shared, rows, columns, slice(start, stop)) else None


def _fails(
    function: Callable[..., Any], shared: Any, rows: Any, columns: Sequence[Any], part: slice
) -> bool:
    own = [None if column is None else _taken(column, part) for column in columns]
    try:
        function(shared, _taken(rows, part), *own)
    except Exception:
        return True
    return False
