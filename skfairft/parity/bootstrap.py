"""Resampled rows, drawn as tables of counts, and percentile intervals."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from .cells import Floats
from .tally import Kinds

__all__ = ["bootstrap_counts", "generator", "percentiles"]

# Resamples are drawn in blocks of about this many numbers (32 MiB of float64).
BLOCK_ELEMENTS = 2**22
# What a drawn row and another cell cost, in kinds.
_ROW, _CELL = 0.15, 200.0


def bootstrap_counts(
    kinds: Kinds, shape: tuple[int, ...], n_boot: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Draw the tables of counts that resampling the rows with replacement would give.

    A resample only matters through how many rows of each kind it holds, a kind being a cell
    and a weight, and those numbers are multinomial: the same distribution as a loop over
    resampled rows, at the price of the number of kinds. Where almost each row has a weight of its
    own, it is faster to draw how many rows of each cell there are, and then which ones.

    The ``place`` of the kinds is the flat index of a cell in a table of ``shape`` (G, k, k); one
    kind may be there several times. Yields blocks (b, G, k, k), ``n_boot`` tables in all.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> kinds = Kinds(np.array([0, 0, 3]), None, None)
    >>> (block,) = bootstrap_counts(kinds, (1, 2, 2), 5, rng)
    >>> block.shape, block.sum(axis=(1, 2, 3)).tolist()
    ((5, 1, 2, 2), [3.0, 3.0, 3.0, 3.0, 3.0])
    """
    code = kinds.place
    weight = np.ones(len(code)) if kinds.weight is None else kinds.weight
    number = np.ones(len(code), dtype=np.int64) if kinds.number is None else kinds.number
    if not weight.all():  # a row of weight zero is none
        code, weight, number = code[weight > 0], weight[weight > 0], number[weight > 0]
    order = np.lexsort((weight, code))
    code, weight, number = code[order], weight[order], number[order]
    new_cell = np.diff(code, prepend=-1) != 0
    first = np.flatnonzero(new_cell | (np.diff(weight, prepend=0.0) != 0))  # of each kind
    cells, weight, number = code[new_cell], weight[first], np.add.reduceat(number, first)
    n_rows = int(number.sum())
    first_kind = np.flatnonzero(new_cell[first])  # of each cell
    size = int(np.prod(shape))
    rows_are_cheaper = _ROW * n_rows + _CELL * len(cells) < len(number)
    block = max(1, BLOCK_ELEMENTS // max(size, 1 if rows_are_cheaper else len(number)))
    for start in range(0, n_boot, block):
        n_tables = min(block, n_boot - start)
        table = np.zeros((n_tables, size))
        if rows_are_cheaper:
            in_cell = np.add.reduceat(number, first_kind)
            draws = rng.multinomial(n_rows, in_cell / n_rows, n_tables)
            weights = np.split(np.repeat(weight, number), np.cumsum(in_cell)[:-1])
            for row, drawn in zip(table, draws, strict=True):
                row[cells] = [
                    own[rng.integers(len(own), size=times, dtype=np.uint32)].sum()
                    for own, times in zip(weights, drawn, strict=True)
                ]
        else:
            draws = rng.multinomial(n_rows, number / n_rows, n_tables)
            table[:, cells] = np.add.reduceat(draws * weight, first_kind, axis=1)
        yield table.reshape(-1, *shape)


def percentiles(value: Floats, samples: Floats, level: float) -> Floats:
    """Return percentile intervals (2, ...) of values (...), stretched to hold them.

    Of a maximum or a minimum most resamples may be on one side. Samples (b, ...) that are NaN are
    left out; where there is no other the interval is NaN.

    Examples
    --------
    >>> samples = np.linspace(0.05, 0.25, 41)[:, None] + [0.0, np.nan]
    >>> percentiles(np.array([0.01, 0.5]), samples, 0.95).round(3).tolist()
    [[0.01, nan], [0.245, nan]]
    """
    tail = (1.0 - level) / 2.0
    with warnings.catch_warnings():  # undefined in every resample: NaN is the answer
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, high = np.nanquantile(samples, [tail, 1.0 - tail], axis=0)
    return np.stack([np.minimum(low, value), np.maximum(high, value)])


def generator(random_state: Any) -> np.random.Generator:
    """Return a generator for what scikit-learn's functions take as ``random_state``."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31, size=4))
    return np.random.default_rng(random_state)
