"""The contrasts between groups that limits are taken of: the observed extremes, and ordered pairs.

========= ============== =========================================================================
rates     (..., c, r, G) of each group, for each of r kinds of rate of c positive classes
above     (..., c, r, G) squared distance from each rate to its upper limit
below     (..., c, r, G) squared distance from each rate to its lower limit
========= ============== =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .moments import extremes, largest_sum
from .tally import Floats

__all__ = [
    "BLOCK_ELEMENTS",
    "Ends",
    "Pairs",
    "first_places",
    "largest_before",
    "ordered_pairs",
    "taken",
]

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Pairs are looked at in blocks of about this many numbers (8 MiB of float64).
BLOCK_ELEMENTS = 2**20

# Rates that differ by less are the same, but for the order in which their sums were taken.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Ends:
    """Which of rates (..., c, r, G) are the smallest and the largest.

    Parameters
    ----------
    smallest, largest : ndarray of shape (..., c, r, G), bool
        Where several are, all of them.
    apart : ndarray of shape (..., c)
        The distance of each class.
    furthest : ndarray of shape (..., c), bool
        Whether it is the largest.
    distance : ndarray of shape (...)
        The largest; NaN where no class has any.
    n_groups : ndarray of shape (..., c), int64
        How many groups are compared, at most, in a kind.

    Examples
    --------
    >>> ends = Ends.of(np.array([[[0.5, 0.25, 0.5]]]))
    >>> ends.largest.ravel().tolist(), float(ends.distance), ends.n_groups.item()
    ([True, False, True], 0.25, 3)
    """

    smallest: Flags
    largest: Flags
    apart: Floats
    furthest: Flags
    distance: Floats
    n_groups: Places

    @classmethod
    def of(cls, rates: Floats) -> Ends:
        """Return those of rates (..., c, r, G), of which NaN are left out."""
        low, high = extremes(rates)
        apart, distance = (high - low).sum(axis=-1), largest_sum(high - low)
        return cls(
            smallest=rates <= low[..., None] + _ROUNDING,
            largest=rates >= high[..., None] - _ROUNDING,
            apart=apart,
            furthest=apart >= distance[..., None] - _ROUNDING,
            distance=distance,
            n_groups=(~np.isnan(rates)).sum(axis=-1).max(axis=-1),
        )

    def widest(self, above: Floats, below: Floats) -> tuple[Floats, Floats]:
        """Return (..., c, r): the most above a smallest rate, and below a largest one, or 0."""
        return (
            np.where(self.smallest, above, 0.0).max(axis=-1),
            np.where(self.largest, below, 0.0).max(axis=-1),
        )

    def variance(self, above: Floats, below: Floats) -> Floats:
        """Return the sum (..., c) of both over the kinds."""
        smallest, largest = self.widest(above, below)
        total: Floats = (smallest + largest).sum(axis=-1)
        return total

    def most(self, values: Floats) -> Floats:
        """Return the largest value (...) of (..., c) of the classes that are furthest apart."""
        found = np.where(self.furthest, values, -np.inf).max(axis=-1)
        return np.where(np.isnan(self.distance), np.nan, found)

    def by_chance(self, function: Callable[[int], float]) -> Floats:
        """Return a function of the number of groups, (..., c)."""
        numbers, which = np.unique(np.maximum(self.n_groups, 1), return_inverse=True)
        found = np.array([function(n) for n in numbers.tolist()])
        return found[which].reshape(self.n_groups.shape)


class Pairs(NamedTuple):
    """Ordered pairs of one of u groups, for the larger rate, and one of l, for the smaller."""

    larger: Floats  # (b, r, u, 1), rates
    above: Floats  # (b, r, u, 1)
    smaller: Floats  # (b, r, 1, l), rates
    below: Floats  # (b, r, 1, l)
    none: Flags  # (b, r, u, l), whether that is no pair


def ordered_pairs(rates: Floats, above: Floats, below: Floats) -> Iterator[Pairs]:
    """Yield, in blocks, pairs of groups among which the most extreme of all pairs is.

    Of any function of a pair (i, j) of different groups that does not fall with rate_i, above_i and
    below_j, and does not rise with rate_j: upper limits of differences, lower limits of ratios. All
    here are (b, r, G); groups whose rate is NaN are in no pair.

    Examples
    --------
    Of five groups with as many rows two are looked at on each side:

    >>> rates = np.array([[[0.5, 0.125, 1.0, 0.25, 0.75]]])
    >>> (pairs,) = ordered_pairs(rates, np.ones((1, 1, 5)), np.ones((1, 1, 5)))
    >>> pairs.larger.ravel().tolist(), pairs.smaller.ravel().tolist()
    ([1.0, 0.75], [0.125, 0.25])
    """
    # Group i' beats i if it comes before it in the order of the rates and has as much above: then
    # (i', j) is as extreme as (i, j), and is a pair unless i' is j. If two groups beat i, one of
    # them is not j. It can stand in for i, and so on until fewer than two beat it; that ends,
    # because each comes before the last. The same then holds of j, the order turned around.
    upper, lower = _hardly_beaten(rates, above), _hardly_beaten(-rates, below)
    size = max(1, BLOCK_ELEMENTS // (rates.shape[-2] * upper.shape[-1] * lower.shape[-1]))
    for start in range(0, len(rates), size):
        block = slice(start, start + size)
        i, j = upper[block], lower[block]
        larger, over = (taken(each[block], i)[..., :, None] for each in (rates, above))
        smaller, under = (taken(each[block], j)[..., None, :] for each in (rates, below))
        i, j = i[..., :, None], j[..., None, :]
        yield Pairs(larger, over, smaller, under, none=(i < 0) | (j < 0) | (i == j))


def _hardly_beaten(rates: Floats, variance: Floats) -> Places:
    """Return the groups (..., f) of (..., G) that fewer than two others beat, see `ordered_pairs`.

    The largest rate comes first. Places that remain are -1; a rate that is NaN is of no group.
    """
    unknown = np.isnan(rates)
    order = np.argsort(np.where(unknown, np.inf, -rates), axis=-1, kind="stable")
    variance = taken(np.where(unknown, -1.0, variance), order)
    # The second largest so far is the largest of all that were less than the largest before them.
    second = np.minimum(variance, largest_before(variance))
    kept = variance > largest_before(second)
    return taken(np.where(kept, order, -1), first_places(kept))


def taken(values: NDArray[Any], places: Places) -> NDArray[Any]:
    """Return the values (..., f) at places (..., f) of (..., G)."""
    return np.take_along_axis(values, places, axis=-1)


def largest_before(values: Floats) -> Floats:
    """Return the largest value before each, at first -1.

    Examples
    --------
    >>> largest_before(np.array([2.0, 1.0, 3.0])).tolist()
    [-1.0, 2.0, 2.0]
    """
    found = np.full_like(values, -1.0)
    np.maximum.accumulate(values[..., :-1], axis=-1, out=found[..., 1:])
    return found


def first_places(kept: Flags) -> Places:
    """Return the places that are kept, and as many others as it takes for all to have as many.

    Examples
    --------
    >>> first_places(np.array([[False, True, True], [False, False, True]])).tolist()
    [[1, 2], [2, 0]]
    """
    width = max(1, int(kept.sum(axis=-1).max()))
    return np.argsort(~kept, axis=-1, kind="stable")[..., :width]
