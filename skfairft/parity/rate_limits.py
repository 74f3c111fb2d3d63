"""Confidence limits of each rate by itself, from tables of decisions, with weights.

The tables are those of `skfairft.parity.limits`: sums of the weights, and of the squared weights.

Wilson (1927), J. Am. Stat. Assoc. 22; Kish (1965), Survey Sampling.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
    >>> table = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]]).double().numpy()
    >>> squares = torch.tensor([[[1.0, 5.0], [0.0, 0.0]]]).double().numpy()
    >>> rule = parity("demographic_parity", 2)
    >>> effective_rows(rule, table, table).item()
    4.0
    >>> round(effective_rows(rule, table, squares).item(), 3)
    2.667
    """
    mass, squared = as_mass(table), as_mass(squares)
    unit, once = (rule.events > 0).to(mass.dtype), rule.events.amax(dim=-1, keepdim=True)
    behind = (unit @ each.sum(dim=-1) for each in (mass, squared))
    total, total_squared = map(rule.compared, behind)
    counted = (rule.sums_of_groups(each) / once for each in (mass, squared))
    hit, hit_squared = map(rule.compared, counted)
    missed, missed_squared = total - hit, total_squared - hit_squared
    # What is left of sums over the cells that cancel is no weight.
    rounding = total * (table.shape[-1] ** 2 * torch.finfo(mass.dtype).eps)
    mean_hit, mean_missed = (
        torch.where(weight > rounding, squares / nonzero(weight), 0.0)
        for weight, squares in ((hit, hit_squared), (missed, missed_squared))
    )
    largest = torch.maximum(total_squared, mean_hit * missed + mean_missed * hit)
    return (total * (total / nonzero(largest))).numpy()


def wilson_limits(rates: Tensor, rows: Tensor, z: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower and the upper limit of rates, each z standard errors away.

    The roots p of ``(rate - p)^2 = z^2 p (1 - p) / rows``; NaN stays NaN.

    Examples
    --------
    >>> low, high = wilson_limits(torch.tensor([0.0, 0.5]), torch.tensor([10.0, 10.0]), 1.96)
    >>> [round(each, 3) for each in low.tolist() + high.tolist()]
    [0.0, 0.237, 0.278, 0.763]
    """
    centre = rates * rows + z**2 / 2.0
    half = z * ((rates * (1.0 - rates)).clamp(min=0.0) * rows + z**2 / 4.0).sqrt()
    # Rounding must not move a limit over its rate.
    low = torch.minimum((centre - half) / (rows + z**2), rates)
    return low, torch.maximum((centre + half) / (rows + z**2), rates)
