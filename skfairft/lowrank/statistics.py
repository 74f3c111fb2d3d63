"""Statistics of a layer: what they have in common, and one pass over the rows for several.

A statistic is an accumulator. `update` takes in rows of the layer's inputs, `merge` those that
another accumulator has seen, and `result` returns what they amount to, frozen. How rows were cut
into batches, and in which order these were merged, changes no more than the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Protocol, Self, TypeVar

from torch import Tensor

from ..rows.blocks import map_runs
from ..rows.mapped import Features, block_slices

__all__ = ["Statistic", "fill"]

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


def fill(
    Z: Features,
    parts: Mapping[Key, tuple[Callable[[], Statistic], Callable[[slice, Tensor], tuple[Any, ...]]]],
) -> dict[Key, Any]:
    """Fill several statistics in one pass over the rows, some blocks at a time.

    Parameters
    ----------
    Z : Tensor or MappedFeatures of shape (n, d)
        Inputs of the layer.
    parts : mapping of any name to (new, given)
        What makes an empty accumulator, and what its ``update`` is given of a block, a function
        of its rows (a slice) and their features (m, d) in float64.

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
    ...     "moments": (lambda: ColumnMoments(2), lambda rows, X: (X,)),
    ...     "cells": (lambda: CellMeans(2, 1, 2), lambda rows, X: (X, y[rows], codes[rows])),
    ... })
    >>> found["moments"].result().mean.tolist(), found["cells"].result().weights.tolist()
    ([0.5, 0.5], [[1.0], [1.0]])
    """

    def of_run(blocks: Iterator[tuple[slice, Tensor]]) -> dict[Key, Any]:
        found: dict[Key, Any] = {name: new() for name, (new, _) in parts.items()}
        for rows, X in blocks:
            for name, (_, given) in parts.items():
                found[name].update(*given(rows, X))
        return found

    length = max(1, min(math.isqrt(len(block_slices(Z))), _RUN))
    runs = map_runs(of_run, Z, length=length)
    total = next(runs, None)
    if total is None:  # no rows
        return {name: new() for name, (new, _) in parts.items()}
    for found in runs:
        for name, statistic in found.items():
            total[name].merge(statistic)
    return total
