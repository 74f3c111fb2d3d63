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
from typing import NamedTuple

import torch
from torch import Tensor

from .moments import extremes, largest_sum

__all__ = ["BLOCK_ELEMENTS", "Ends", "Pairs", "first_places", "ordered_pairs"]

# Pairs are looked at in blocks of about this many numbers (8 MiB of float64).
BLOCK_ELEMENTS = 2**20

# Rates that differ by less are the same, but for the order in which their sums were taken.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Ends:
    """Which of rates (..., c, r, G) are the smallest and the largest.

    Parameters
    ----------
    smallest, largest : Tensor of shape (..., c, r, G), bool
        Where several are, all of them.
    apart : Tensor of shape (..., c)
        The distance of each class.
    furthest : Tensor of shape (..., c), bool
        Whether it is the largest.
    distance : Tensor of shape (...)
        The largest; NaN where no class has any.
    n_groups : Tensor of shape (..., c), int64
        How many groups are compared, at most, in a kind.

    Examples
    --------
    >>> ends = Ends.of(torch.tensor([[[0.5, 0.25, 0.5]]]).double())
    >>> ends.largest.flatten().tolist(), ends.distance.item(), ends.n_groups.item()
    ([True, False, True], 0.25, 3)
    """

    smallest: Tensor
    largest: Tensor
    apart: Tensor
    furthest: Tensor
    distance: Tensor
    n_groups: Tensor

    @classmethod
    def of(cls, rates: Tensor) -> Ends:
        """Return those of rates (..., c, r, G), of which NaN are left out."""
        low, high = extremes(rates)
        apart, distance = (high - low).sum(dim=-1), largest_sum(high - low)
        return cls(
            smallest=rates <= low[..., None] + _ROUNDING,
            largest=rates >= high[..., None] - _ROUNDING,
            apart=apart,
            furthest=apart >= distance[..., None] - _ROUNDING,
            distance=distance,
            n_groups=(~rates.isnan()).sum(dim=-1).amax(dim=-1),
        )

    def widest(self, above: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
        """Return (..., c, r): the most above a smallest rate, and below a largest one."""
        return (
            above.masked_fill(~self.smallest, -torch.inf).amax(dim=-1),
            below.masked_fill(~self.largest, -torch.inf).amax(dim=-1),
        )

    def variance(self, above: Tensor, below: Tensor) -> Tensor:
        """Return the sum (..., c) of both over the kinds."""
        smallest, largest = self.widest(above, below)
        return (smallest + largest).sum(dim=-1)

    def most(self, values: Tensor) -> Tensor:
        """Return the largest value (...) of (..., c) of the classes that are furthest apart."""
        found = values.masked_fill(~self.furthest, -torch.inf).amax(dim=-1)
        return torch.where(self.distance.isnan(), torch.nan, found)

    def by_chance(self, function: Callable[[int], float]) -> Tensor:
        """Return a function of the number of groups, (..., c)."""
        numbers, which = self.n_groups.clamp(min=1).unique(return_inverse=True)
        return torch.tensor([function(n) for n in numbers.tolist()], dtype=torch.float64)[which]


class Pairs(NamedTuple):
    """Ordered pairs of one of u groups, for the larger rate, and one of l, for the smaller."""

    larger: Tensor  # (b, r, u, 1), rates
    above: Tensor  # (b, r, u, 1)
    smaller: Tensor  # (b, r, 1, l), rates
    below: Tensor  # (b, r, 1, l)
    none: Tensor  # (b, r, u, l), whether that is no pair


def ordered_pairs(rates: Tensor, above: Tensor, below: Tensor) -> Iterator[Pairs]:
    """Yield, in blocks, pairs of groups among which the most extreme of all pairs is.

    Of any function of a pair (i, j) of different groups that does not fall with rate_i, above_i and
    below_j, and does not rise with rate_j: upper limits of differences, lower limits of ratios. All
    here are (b, r, G); groups whose rate is NaN are in no pair.

    Examples
    --------
    Of five groups with as many rows two are looked at on each side:

    >>> rates = torch.tensor([[[0.5, 0.125, 1.0, 0.25, 0.75]]])
    >>> (pairs,) = ordered_pairs(rates, torch.ones(1, 1, 5), torch.ones(1, 1, 5))
    >>> pairs.larger.flatten().tolist(), pairs.smaller.flatten().tolist()
    ([1.0, 0.75], [0.125, 0.25])
    """
    # Group i' beats i if it comes before it in the order of the rates and has as much above: then
    # (i', j) is as extreme as (i, j), and is a pair unless i' is j. If two groups beat i, one of
    # them is not j. It can stand in for i, and so on until fewer than two beat it; that ends,
    # because each comes before the last. The same then holds of j, the order turned around.
    upper, lower = _hardly_beaten(rates, above), _hardly_beaten(-rates, below)
    both = (upper[..., :, None], lower[..., None, :])
    size = max(1, BLOCK_ELEMENTS // (rates.shape[-2] * upper.shape[-1] * lower.shape[-1]))
    for block in zip(*(each.split(size) for each in (rates, above, below, *both)), strict=True):
        rate, over, under, i, j = block

        def taken(values: Tensor, groups: Tensor) -> Tensor:
            flat = groups.flatten(-2).clamp(min=0)
            return values.gather(-1, flat).reshape(groups.shape)

        none = (i < 0) | (j < 0) | (i == j)
        yield Pairs(taken(rate, i), taken(over, i), taken(rate, j), taken(under, j), none)


def _hardly_beaten(rates: Tensor, variance: Tensor) -> Tensor:
    """Return the groups (..., f) of (..., G) that fewer than two others beat, see `ordered_pairs`.

    The largest rate comes first. Places that remain are -1; a rate that is NaN is of no group.
    """
    unknown = rates.isnan()
    order = rates.masked_fill(unknown, -torch.inf).argsort(dim=-1, descending=True)
    variance = variance.masked_fill(unknown, -1.0).gather(-1, order)
    # The second largest so far is the largest of all that were less than the largest before them.
    second = torch.minimum(variance, _before(variance)).cummax(dim=-1).values
    kept = variance > _before(second)
    places = first_places(kept)
    return order.masked_fill(~kept, -1).gather(-1, places)


def _before(values: Tensor) -> Tensor:
    """Return the largest value before each, at first -1."""
    found = values.cummax(dim=-1).values.roll(1, dims=-1)
    found[..., 0] = -1.0
    return found


def first_places(kept: Tensor) -> Tensor:
    """Return the places that are kept, and as many others as it takes for all to have as many.

    Examples
    --------
    >>> first_places(torch.tensor([[False, True, True], [False, False, True]])).tolist()
    [[1, 2], [2, 0]]
    """
    width = max(1, int(kept.sum(dim=-1).max()))
    return (~kept).to(torch.uint8).argsort(dim=-1, stable=True)[..., :width]
