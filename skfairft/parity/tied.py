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
import torch
from scipy.stats import norm, qmc
from torch import Tensor

from .cells import Floats
from .moments import largest_sum, spread

__all__ = ["tied_limit"]

# Of a Sobol sequence, which fills the space more evenly than chance: a power of two.
_DRAWS = 2**13


def tied_limit(rates: Tensor, low: Tensor, high: Tensor, z: float, confidence: float) -> Floats:
    """Return the quantile of the distance of rates that err as far as their limits say.

    Parameters
    ----------
    rates, low, high : Tensor of shape (b, c, r, G), float64
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
    Errors are normal, of another size upwards than downwards, and independent; they are drawn
    evenly, always the same, and belong to the groups by their size, whatever their order.

    Examples
    --------
    A rate of two groups, of error 0.05. Where it is the same, the limit is that of both sides:

    >>> rates = torch.tensor([[0.5, 0.5], [0.5, 0.7]]).double()[:, None, None]
    >>> tied_limit(rates, rates - 0.05, rates + 0.05, 1.0, 0.95).round(2).tolist()
    [0.14, 0.32]
    """
    order = torch.from_numpy(np.lexsort((rates.numpy(), (high - low).numpy())))
    rates, low, high = (each.gather(-1, order) for each in (rates, low, high))
    draws = _normal(rates.shape[-2], rates.shape[-1])
    found = np.empty(len(rates))
    for i in range(len(rates)):  # one after the other: of many groups each takes some memory
        size = torch.where(draws > 0.0, high[i] - rates[i], rates[i] - low[i]) / z
        moved = (rates[i] + size * draws).clamp(0.0, 1.0)
        found[i] = float(largest_sum(spread(moved)).quantile(confidence))
    return found


@lru_cache(maxsize=4)
def _normal(kinds: int, n_groups: int) -> Tensor:
    """Return errors (s, 1, r, G), the same for all classes."""
    if kinds * n_groups > qmc.Sobol.MAXDIM:
        drawn = np.random.default_rng(0).standard_normal((_DRAWS, kinds * n_groups))
    else:
        sequence = qmc.Sobol(kinds * n_groups, scramble=False).fast_forward(1)  # after the zeros
        drawn = norm.ppf(sequence.random(_DRAWS - 1))
    return torch.from_numpy(drawn.reshape(-1, 1, kinds, n_groups))
