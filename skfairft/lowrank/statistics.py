"""Statistics of a layer: what they have in common, and one pass over the rows for several.

A statistic is an accumulator. `update` takes in rows of the layer's inputs, `merge` those that
another accumulator has seen, and `result` returns what they amount to, frozen. How rows were cut
into batches, and in which order these were merged, changes no more than the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from torch import Tensor

from ..rows.blocks import Features, reduce_runs
from ..rows.mapped import block_rows

__all__ = ["Part", "Statistic", "fill"]

Key = TypeVar("Key", bound=Hashable)

# Most blocks that one accumulator takes in before it is merged: a merge of matrices costs about as
# much as an update. Fewer blocks are runs that are as many as they are long, for threads to share.
_RUN = 8


class Statistic(Protocol):
    """What all statistics can do; ``update`` takes what each of them needs of its rows."""

    @property
    def update(self) -> Callable[..., Self]:
        """Add a batch of rows and return itself."""

    def merge(self, other: Self) -> Self:
        """Add another accumulator's rows to this one's and return itself."""

    def result(self) -> Any:
        """Return the statistic so far, which later updates do not change."""


class Part(NamedTuple):
    """One of several statistics to `fill`.

    Parameters
    ----------
    new : callable
        Makes an empty accumulator.
    columns : tuple of Tensor of n rows
        What else there is of each row.
    given : callable, optional
        Returns what ``update`` is given of a block, a function of its features (m, d) in float64
        and of the same rows of the columns. None is these themselves.
    """

    new: Callable[[], Statistic]
    columns: tuple[Tensor, ...] = ()
    given: Callable[..., tuple[Any, ...]] | None = None

    def update(self, statistic: Statistic, X: Tensor, *columns: Tensor) -> None:
        """Add a block of rows to an accumulator."""
        statistic.update(*((X, *columns) if self.given is None else self.given(X, *columns)))


def fill(Z: Features, parts: Mapping[Key, Part]) -> dict[Key, Any]:
    """Fill several statistics in one pass over the rows, some blocks at a time.

    Parameters
    ----------
    Z : Tensor, MappedFeatures or DaskFeatures of shape (n, d)
        Inputs of the layer.
    parts : mapping of any name to Part
        What to fill.

    Returns
    -------
    dict
        For each name the accumulator of all rows. Which blocks share an accumulator depends on
        their number alone, and these are merged in the order of the rows, so that the number of
        threads changes no digit.

    Examples
    --------
    >>> import torch
    >>> from skfairft.lowrank.gaps import CellMeans
    >>> from skfairft.lowrank.moments import ColumnMoments
    >>> Z, y, codes = torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 0])
    >>> found = fill(Z, {
    ...     "moments": Part(lambda: ColumnMoments(2)),
    ...     "cells": Part(lambda: CellMeans(2, 1, 2), (y, codes)),
    ... })
    >>> found["moments"].result().mean.tolist(), found["cells"].result().weights.tolist()
    ([0.5, 0.5], [[1.0], [1.0]])
    """
    columns = [column for part in parts.values() for column in part.columns]
    widths = {name: len(part.columns) for name, part in parts.items()}
    runs = -(-len(Z) // block_rows(Z.shape[1]))
    # Without the columns of all rows, which are no part of what is to be done with a block.
    found = reduce_runs(
        partial(_of_run, {name: part._replace(columns=()) for name, part in parts.items()}, widths),
        _merged,
        Z,
        *columns,
        length=max(1, min(math.isqrt(runs), _RUN)),
    )
    return {name: part.new() for name, part in parts.items()} if found is None else found


def _of_run(
    parts: Mapping[Key, Part], widths: Mapping[Key, int], blocks: Iterator[tuple[Tensor, ...]]
) -> dict[Key, Any]:
    """Return new accumulators of some blocks."""
    found: dict[Key, Any] = {name: part.new() for name, part in parts.items()}
    for X, *columns in blocks:
        rest = iter(columns)
        for name, part in parts.items():
            part.update(found[name], X, *islice(rest, widths[name]))
    return found


def _merged(total: dict[Key, Any], found: dict[Key, Any]) -> dict[Key, Any]:
    for name, statistic in found.items():
        total[name].merge(statistic)
    return total
