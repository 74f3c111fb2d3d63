"""Confidence limits of the smallest rate of the groups, divided by the largest.

With a and b the rates of two groups, l and h the limits of each, the limits R of ``a / b`` are
where the contrast ``a - R b`` has the limit 0 (MOVER, see `skfairft.parity.limits`)::

    lower:  a - R b = sqrt((a - l_a)^2 + R^2 (h_b - b)^2)
    upper:  R b - a = sqrt((h_a - a)^2 + R^2 (b - l_b)^2)

The smallest ratio is at least R if and only if those of all ordered pairs of groups are. So its
lower limit is the smallest of theirs, each at its own confidence (an intersection-union test). The
upper limit is that of the observed extremes, and at most 1, with the larger z that allows for their
choice: it is below 1 if and only if the lower limit of their difference is above 0.

Donner and Zou (2012), Stat. Methods Med. Res. 21.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from .cells import Floats
from .chance import chance_quantile
from .contrasts import Ends, Pairs, ordered_pairs
from .moments import extremes, nonzero
from .rate_limits import wilson_limits

__all__ = ["ratio_limits"]


def ratio_limits(rates: Floats, rows: Floats, *, confidence: float) -> tuple[Floats, Floats]:
    """Return the lower and the upper limit (...) of the smallest ratio of rates (..., G).

    Parameters
    ----------
    rates, rows : ndarray of shape (..., G)
        Of each group, and how many effective rows they are of; NaN where a group has none.
    confidence : float
        Of the lower limit alone, as for `limits_between`.

    Returns
    -------
    low, high : ndarray of shape (...)
        NaN where fewer than two groups have the rate, or all rates are 0.

    Examples
    --------
    >>> rates = np.array([[0.6, 0.3], [0.6, 0.6], [0.6, 0.0], [0.0, 0.0]])
    >>> low, high = ratio_limits(rates, np.full_like(rates, 100.0), confidence=0.975)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.355, 0.797, 0.0, nan], [0.696, 1.0, 0.062, nan])
    """
    low, high = wilson_limits(rates, rows, float(norm.ppf(confidence)))
    flat = (each.reshape(-1, 1, rates.shape[-1]) for each in (rates, high - rates, rates - low))
    rate, above, below = flat
    found = [_lowest(pairs) for pairs in ordered_pairs(rate, above**2, below**2)]
    lower = np.concatenate(found).reshape(rates.shape[:-1])

    ends = Ends.of(rates[..., None, None, :])
    z = ends.by_chance(lambda n_groups: chance_quantile(n_groups, 1, 2.0 * confidence - 1.0))
    low, high = wilson_limits(rates, rows, z)
    apart = ((each**2)[..., None, None, :] for each in (high - rates, rates - low))
    over, under = (each[..., 0, 0] for each in ends.widest(*apart))
    a, b = extremes(rates)
    left = b**2 - under
    # A larger rate that may be 0 says nothing of the ratio.
    tells = left > 0.0
    left = np.where(tells, left, 1.0)
    upper = (a * b + np.sqrt(over * left + under * a**2)) / left
    upper = np.where(tells, np.minimum(upper, 1.0), 1.0)
    return np.where(b > 0.0, lower, np.nan), np.where(b > 0.0, upper, np.nan)


def _lowest(pairs: Pairs) -> Floats:
    """Return the smallest lower limit (b,) of the smaller rate over the larger."""
    a, b, over, under = pairs.smaller, pairs.larger, pairs.above, pairs.below
    left = np.maximum(a**2 - under, 0.0)  # of a rate of 0 it is 0, but for rounding
    low = left / nonzero(a * b + np.sqrt(b**2 * under + over * left))
    return np.where(pairs.none, np.inf, low).min(axis=(1, 2, 3))
