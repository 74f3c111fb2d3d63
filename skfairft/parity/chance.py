"""How far apart the rates of equal groups are by chance.

If all rates have error e, the distance is e times the sum of K ranges, each of G standard normals,
one for each kind of rate, and the error of the contrast of the extremes, see
`skfairft.parity.limits`, is ``e sqrt(2 K)``. All here is in units of that.
"""

from __future__ import annotations

import math
from functools import lru_cache, reduce

import numpy as np
from scipy.stats import norm

from .cells import Floats

__all__ = ["chance_quantile", "chance_size"]


def chance_size(n_groups: int, kinds: int) -> float:
    """Return the root mean square of the distance of equal groups, in errors of a contrast.

    Of ranges with mean d and variance v it is ``sqrt((v + K d^2) / 2)``; the mean is
    ``d sqrt(K / 2)``.

    Examples
    --------
    >>> [round(chance_size(g, k), 2) for g, k in [(2, 1), (2, 2), (4, 1), (4, 2)]]
    [1.0, 1.28, 1.58, 2.15]
    """
    distance, below = _distances_by_chance(n_groups, kinds)
    return float(np.diff(below, prepend=0.0) @ distance**2) ** 0.5


def chance_quantile(n_groups: int, kinds: int, level: float) -> float:
    """Return what a share of the distances of equal groups are within, in the same errors.

    At least z of that level, two-sided, which is what it is of two groups and one kind. Of one kind
    it is Tukey's for all pairs of means, the quantile of the studentized range over ``sqrt(2)``.

    Examples
    --------
    >>> [round(chance_quantile(g, k, 0.95), 2) for g, k in [(2, 1), (2, 2), (4, 1), (4, 2)]]
    [1.96, 2.24, 2.57, 3.15]
    """
    distance, below = _distances_by_chance(n_groups, kinds)
    half = (distance[1] - distance[0]) / 2.0
    return float(max(norm.ppf((1.0 + level) / 2.0), np.interp(level, below, distance + half)))


@lru_cache(maxsize=256)
def _distances_by_chance(n_groups: int, kinds: int) -> tuple[Floats, Floats]:
    """Return distances (p,) and the probability (p,) of at most half a step more."""
    step, x = 0.01, np.linspace(-9.0, 9.0, 181)[:, None]  # smooth: its sum is the integral
    ranges = np.arange(1400) * step
    # The smallest of the groups is x, the others are in (x, x + range).
    within = (norm.cdf(x + ranges) - norm.cdf(x)) ** (n_groups - 1)
    one = np.diff((n_groups * norm.pdf(x) * within).sum(axis=0) * 0.1, prepend=0.0)
    mass = reduce(np.convolve, [one] * kinds)
    distance = (np.arange(len(mass)) - kinds / 2) * step / math.sqrt(2 * kinds)
    return distance.astype(np.float64), mass.cumsum()
