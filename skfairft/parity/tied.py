"""The upper limit of a distance whose rates were made alike on the rows that measure them.

Where decisions are found on the rows that judge them, as the votes of `skfairft.solvers.plug_in`
are, the rates of several groups are the highest at once, and those of several the lowest: what
chance has added to one and taken from another was balanced. On other rows it is not. The distance
there is that of the observed rates, each with an error of its own, and its quantile is larger than
the upper limit of any one contrast.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.stats import norm, qmc

from .cells import Floats
from .contrasts import taken
from .moments import Parity

__all__ = ["tied_limit"]

# Of a Sobol sequence, which fills the space more evenly than chance: a power of two.
_DRAWS = 2**13
# Classes whose errors are drawn at once hold at most this many numbers.
_NUMBERS = 2**23


def tied_limit(
    rule: Parity, rates: Floats, low: Floats, high: Floats, z: float, confidence: float
) -> Floats:
    """Return the quantile of the distance of rates that err as far as their limits say.

    Parameters
    ----------
    rule : Parity
        Whose distance it is.
    rates, low, high : ndarray of shape (b, c, r, G)
        See `skfairft.parity.limits`; rates, and their limits z errors away. NaN is left out.
    z : float
        Of the limits.
    confidence : float
        Of the quantile.

    Returns
    -------
    ndarray of shape (b,)
        NaN where fewer than two groups have the rates.

    Notes
    -----
    Errors are normal, of another size upwards than downwards, and independent, of classes, too;
    they are drawn evenly, always the same, and belong to the groups by their size, whatever their
    order.

    Examples
    --------
    A rate of two groups, of error 0.05. Where it is the same, the limit is that of both sides:

    >>> from skfairft.parity.constraints import parity
    >>> rates = np.array([[0.5, 0.5], [0.5, 0.7]])[:, None, None]
    >>> rule = parity("demographic_parity", 2)
    >>> tied_limit(rule, rates, rates - 0.05, rates + 0.05, 1.0, 0.95).round(2).tolist()
    [0.14, 0.32]
    """
    order = np.lexsort((rates, high - low))
    rates, low, high = (taken(each, order) for each in (rates, low, high))
    n_classes, kinds, n_groups = rates.shape[1:]
    step = max(1, _NUMBERS // (_DRAWS * kinds * n_groups))
    found = np.empty(len(rates))
    for i in range(len(rates)):  # one after the other, some classes at a time: it takes memory
        # Classes by their rates, whatever their order.
        by_rate = np.lexsort(rates[i].reshape(n_classes, -1).T)
        rate, below, above = (each[i, by_rate] for each in (rates, rates - low, high - rates))
        spreads = []
        for start in range(0, n_classes, step):
            of = slice(start, start + step)
            draws = _normal(start, len(rate[of]), kinds, n_groups)
            error = np.where(draws > 0.0, above[of], below[of]) / z * draws
            spreads.append(rule.apart(np.clip(rate[of] + error, 0.0, 1.0)))
        found[i] = np.quantile(rule.joined(np.concatenate(spreads, axis=1)), confidence)
    return found


@lru_cache(maxsize=4)
def _normal(first: int, n_classes: int, kinds: int, n_groups: int) -> Floats:
    """Return errors (s, c, r, G) of some classes, from a first one on."""
    size = n_classes * kinds * n_groups
    if first or size > qmc.Sobol.MAXDIM:
        drawn = np.random.default_rng(first).standard_normal((_DRAWS - 1, size))
    else:
        sequence = qmc.Sobol(size, scramble=False).fast_forward(1)  # after the zeros
        drawn = norm.ppf(sequence.random(_DRAWS - 1))
    return drawn.reshape(-1, n_classes, kinds, n_groups)
