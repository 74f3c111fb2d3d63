"""Columns of Dask, read chunk by chunk where these lie.

Rows belong together by their place, as elsewhere. Where the chunks of two columns end at different
rows they are cut, so that what is called gets the same rows of each column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .lazy import compute, delayed_call, parts_of, persist
from .tables import read_table

__all__ = ["map_chunks"]

T = TypeVar("T")


class _Column(NamedTuple):
    """Chunks of a column, the first rows first, and the number of the row after each."""

    chunks: list[Any]
    ends: NDArray[np.int64]


def map_chunks(
    function: Callable[[dict[str, Any], dict[str, str]], T], columns: Mapping[str, Any]
) -> list[T]:
    """Return what a function makes of each stretch of rows, in their order; only that comes here.

    Parameters
    ----------
    function : callable
        Of the columns' rows (m, ...) by name, as the library of their chunks holds them, and of
        what to call each in errors: which chunk, and which rows.
    columns : mapping of str to array, Dask collection or list of Delayed
        Of n rows each, by name. An array of NumPy lies here, and its rows are sent.

    Raises
    ------
    ValueError
        For columns of different lengths, and for none of any rows.

    Notes
    -----
    Chunks of unknown lengths are computed first, and stay where they are until the function has
    seen them. So no chunk is computed twice.

    Examples
    --------
    >>> import dask.array
    >>> y, s = dask.array.arange(5, chunks=3), np.array([0, 0, 1, 1, 1])
    >>> map_chunks(lambda rows, called: (rows["s"].tolist(), called["y"]), {"y": y, "s": s})
    [([0, 0, 1], 'chunk 0 of y (rows 0 to 2)'), ([1, 1], 'chunk 1 of y (rows 3 to 4)')]
    """
    parts: dict[str, tuple[list[Any], Any]] = {}
    for name, values in columns.items():
        here = isinstance(values, np.ndarray)
        parts[name] = ([values], (len(values),)) if here else parts_of(values, name)
    found = _measured(parts)
    ends = [column.ends for column in found.values()]
    first, n_rows = next(iter(found)), ends[0][-1]
    for name, own in zip(found, ends, strict=True):
        if own[-1] != n_rows:
            raise ValueError(
                f"{name} has {own[-1]} rows but {first} has {n_rows}; expected one value per row."
            )
    if n_rows == 0:
        raise ValueError(f"{first} has 0 rows; expected at least one.")
    tasks = []
    for start, stop in pairwise(np.unique(np.concatenate([[0], *ends])).tolist()):
        rows, called = {}, {}
        for name, column in found.items():
            i, rows[name] = _rows_of(column, start, stop)
            called[name] = f"chunk {i} of {name} (rows {start} to {stop - 1})"
        tasks.append(delayed_call(function, rows, called))
    return compute(tasks)


def _measured(columns: dict[str, tuple[list[Any], Any]]) -> dict[str, _Column]:
    """Return the columns with the ends of their chunks, which are computed if these are unknown."""
    unknown = [name for name, (_, lengths) in columns.items() if np.isnan(lengths).any()]
    kept = iter(persist([chunk for name in unknown for chunk in columns[name][0]]))
    for name in unknown:
        chunks = [next(kept) for _ in columns[name][0]]
        called = [f"chunk {i} of {name}" for i in range(len(chunks))]
        columns = columns | {name: (chunks, tuple(map(_counted, chunks, called)))}
    (known,) = compute([[lengths for _, lengths in columns.values()]])
    return {
        name: _Column(chunks, np.cumsum(lengths))
        for (name, (chunks, _)), lengths in zip(columns.items(), known, strict=True)
    }


def _counted(chunk: Any, name: str) -> Any:
    return delayed_call(_n_rows, chunk, name)


def _n_rows(chunk: Any, name: str) -> int:
    return (*read_table(chunk, name).shape, 1)[0]


def _rows_of(column: _Column, start: int, stop: int) -> tuple[int, Any]:
    """Return rows of a column, which lie in one chunk, and the number of that."""
    i = int(np.searchsorted(column.ends, start, side="right"))
    chunk, begin = column.chunks[i], int(column.ends[i - 1]) if i else 0
    if (start, stop) == (begin, column.ends[i]):
        return i, chunk
    if isinstance(chunk, np.ndarray):
        return i, chunk[start:stop]
    return i, delayed_call(_cut, chunk, start - begin, stop - begin)


def _cut(chunk: Any, start: int, stop: int) -> Any:
    return chunk.iloc[start:stop] if hasattr(chunk, "iloc") else chunk[start:stop]
