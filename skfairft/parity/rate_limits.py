"""Confidence limits of each rate by itself, from tables of decisions, with weights.

The tables are those of `skfairft.parity.limits`: sums of the weights, and of the squared weights.

Wilson (1927), J. Am. Stat. Assoc. 22; Kish (1965), Survey Sampling.
"""

from __future__ import annotations

import numpy as np

from .cells import Floats
from .counts import as_mass
from .moments import Parity, nonzero

__all__ = ["effective_rows", "wilson_limits"]


def effective_rows(rule: Parity, table: Floats, squares: Floats) -> Floats:
    """Return how many rows without weights would tell as much of each rate.

    With W and S the sums of weights and of their squares over the rows that a rate is of, and W_1,
    S_1, W_0, S_0 those of rows that count in it and of rows that do not, the smaller of::

        W^2 / S                                        (Kish) and
        W^2 / (S_1 W_0 / W_1 + S_0 W_1 / W_0)

    The second is ``r (1 - r) / variance`` of a weighted mean r, linearised: ``sum w^2 (x - r)^2 /
    W^2``. It is less where those of the outcome that is rarer have the larger weights, and is not
    asked where one of the outcomes does not occur.

    Parameters
    ----------
    rule, table, squares :
        As for `distance_limits`.

    Returns
    -------
    ndarray of shape (..., m, G)
        In the order of `Parity.rates`; 0 where there are none. A pooled rate is of each row once.

    Examples
    --------
    Two of three rows count, the first with weight 2:

    >>> from skfairft.parity.constraints import parity
    >>> table = np.array([[[1.0, 3.0], [0.0, 0.0]]])
    >>> squares = np.array([[[1.0, 5.0], [0.0, 0.0]]])
    >>> rule = parity("demographic_parity", 2)
    >>> effective_rows(rule, table, table).item()
    4.0
    >>> round(effective_rows(rule, table, squares).item(), 3)
    2.667
    """
    mass, squared = as_mass(table), as_mass(squares)
    total, total_squared = (rule.behind(each.sum(axis=-1)) for each in (mass, squared))
    once = rule.events.max(axis=-1, keepdims=True)
    counted = (rule.sums_of_groups(each) / nonzero(once) for each in (mass, squared))
    hit, hit_squared = map(rule.compared, counted)
    missed, missed_squared = total - hit, total_squared - hit_squared
    # What is left of sums over the cells that cancel is no weight.
    rounding = total * (table.shape[-1] ** 2 * np.finfo(np.float64).eps)
    mean_hit, mean_missed = (
        np.where(weight > rounding, squares / nonzero(weight), 0.0)
        for weight, squares in ((hit, hit_squared), (missed, missed_squared))
    )
    largest = np.maximum(total_squared, mean_hit * missed + mean_missed * hit)
    return total * (total / nonzero(largest))


def wilson_limits(rates: Floats, rows: Floats, z: float | Floats) -> tuple[Floats, Floats]:
    """Return the lower and the upper limit of rates, each z standard errors away.

    The roots p of ``(rate - p)^2 = z^2 p (1 - p) / rows``; NaN stays NaN.

    Examples
    --------
    >>> low, high = wilson_limits(np.array([0.0, 0.5]), np.array([10.0, 10.0]), 1.96)
    >>> [round(each, 3) for each in low.tolist() + high.tolist()]
    [0.0, 0.237, 0.278, 0.763]
    """
    centre = rates * rows + z**2 / 2.0
    half = z * np.sqrt(np.maximum(rates * (1.0 - rates), 0.0) * rows + z**2 / 4.0)
    # Rounding must not move a limit over its rate.
    low = np.minimum((centre - half) / (rows + z**2), rates)
    return low, np.maximum((centre + half) / (rows + z**2), rates)
