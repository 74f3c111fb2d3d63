"""Statistics of a layer: what they have in common, and one pass over the rows for several.

A statistic is an accumulator. `update` takes in rows of the layer's inputs, `merge` those that
another accumulator has seen, and `result` returns what they amount to, frozen. How rows were cut
into batches, and in which order these were merged, changes no more than the last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol, Self, TypeVar

from torch import Tensor

from ..rows.blocks import map_blocks
from ..rows.mapped import Features

__all__ = ["Statistic", "fill"]

Key = TypeVar("Key", bound=Hashable)


class Statistic(Protocol):
    """What all statistics can do; ``update`` takes what each of them needs of its rows."""

    def merge(self, other: Self) -> Self:
        """Add another accumulator's rows to this one's and return itself."""

    def result(self) -> Any:
        """Return the statistic so far, which later updates do not change."""


def fill(Z: Features, parts: Mapping[Key, Callable[[slice, Tensor], Statistic]]) -> dict[Key, Any]:
    """Fill several statistics in one pass over the rows, some blocks at a time.

    Parameters
    ----------
    Z : Tensor or MappedFeatures of shape (n, d)
        Inputs of the layer.
    parts : mapping of any name to callable
        Each returns a new accumulator of a block, given its rows (a slice) and their features
        (m, d) in float64, as for `map_blocks`.

    Returns
    -------
    dict
        For each name the accumulator of all rows. Blocks are merged in the order of the rows, so
        that the number of threads changes no digit.

    Examples
    --------
    >>> import torch
    >>> from skfairft.lowrank.gaps import CellMeans
    >>> from skfairft.lowrank.moments import ColumnMoments
    >>> Z, y, codes = torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 0])
    >>> found = fill(Z, {
    ...     "moments": lambda rows, block: ColumnMoments(2).update(block),
    ...     "cells": lambda rows, block: CellMeans(2, 1, 2).update(block, y[rows], codes[rows]),
    ... })
    >>> found["moments"].result().mean.tolist(), found["cells"].result().weights.tolist()
    ([0.5, 0.5], [[1.0], [1.0]])
    """

    def part(rows: slice, block: Tensor) -> dict[Key, Any]:
        return {name: make(rows, block) for name, make in parts.items()}

    blocks = map_blocks(part, Z)
    total = next(blocks, None)
    if total is None:  # no rows
        return part(slice(0, 0), Z[:0].double())
    for found in blocks:
        for name, statistic in found.items():
            total[name].merge(statistic)
    return total
