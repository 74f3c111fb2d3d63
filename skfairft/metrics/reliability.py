r"""How far probabilities are from the frequencies that they are of: in bins, with what chance adds.

Of the rows of a bin, with weights w of sum W, residuals ``r = y - p`` and their weighted mean d:

========== =========================================================================
expected   ``sum w^2 p (1 - p) / W^2``, the variance of d if all is calibrated
sampled    ``sum w^2 (r - d)^2 / W^2 * m / (m - 1)`` with ``m = W^2 / sum w^2``, an
           estimate of it whether or not it is
========== =========================================================================

The mean of ``d^2`` over bins, each with its share of the weight, is too large by the mean of the
variances, which is taken off (Broecker 2012; Kumar, Liang and Ma 2019). Its interval inverts a
noncentral chi-squared distribution of the same mean and variance (as Steiger and Lind's of the
RMSEA), with the larger of the two variances in each bin: of rare outcomes the sampled one is often
too small, and away from calibration the expected one can be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import ncx2, norm

from ..parity.rate_limits import wilson_limits
from .report import FEW_ROWS

__all__ = ["Bins", "Measured", "bins", "mean_error", "root_error", "rows_alike", "wilson"]

Floats = NDArray[np.float64]

# Of sums that are compared with a share of all.
_ROUNDING = 1e-12


class Bins(NamedTuple):
    """Rows of one group in b bins of their probabilities; each field is (b,)."""

    rows: NDArray[np.int64]
    share: Floats  # of the weight
    predicted: Floats
    observed: Floats
    alike: Floats  # rows without weights that would tell as much of a mean (Kish)
    effective: Floats  # and as much of the share observed
    residual: Floats  # observed minus predicted
    expected: Floats  # variances of it, see above
    sampled: Floats
    fourth: Floats  # its fourth cumulant if all is calibrated


class Measured(NamedTuple):
    """A number, and the ends of its interval."""

    value: float
    low: float
    high: float


def bins(y: Floats, p: Floats, w: Floats, *, n_bins: int, strategy: str) -> Bins:
    """Return what is to be known of rows (n,) in bins that hold some.

    Parameters
    ----------
    y : ndarray of shape (n,), float64
        1 or 0.
    p : ndarray of shape (n,), float64
        Probabilities of 1.
    w : ndarray of shape (n,), float64
        Positive weights.
    n_bins : int
        At most; of equal weight, fewer where not each would have 30 rows.
    strategy : {"quantile", "uniform"}
        Bins of equal weight, or of equal width. Rows of equal probability are in one bin.

    Examples
    --------
    >>> y, p = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.1, 0.4, 0.6, 0.9])
    >>> found = bins(y, p, np.ones(4), n_bins=2, strategy="uniform")
    >>> found.predicted.tolist(), found.observed.tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """
    if strategy == "uniform":
        edges = np.linspace(0.0, 1.0, n_bins + 1)[1:-1]
    else:
        n_bins = min(n_bins, max(1, int(rows_alike(w) / FEW_ROWS * (1 + _ROUNDING))))
        order = np.argsort(p, kind="stable")
        mass = np.cumsum(w[order])
        wanted = mass[-1] * np.arange(1, n_bins) / n_bins
        edges = p[order][np.searchsorted(mass, wanted * (1 - _ROUNDING))]
    at, code = np.unique(np.searchsorted(edges, p), return_inverse=True)

    def total(values: Floats) -> Floats:
        return np.bincount(code, values, len(at)).astype(np.float64)

    mass, squares = total(w), total(w**2)
    predicted, observed = total(w * p) / mass, total(w * y) / mass
    residual = total(w * (y - p)) / mass
    chance = p * (1.0 - p)
    expected = total(w**2 * chance) / mass**2
    m = mass**2 / squares
    spread = total(w**2 * (y - p - residual[code]) ** 2) / mass**2
    alone = m < 2.0 - _ROUNDING
    sampled = np.where(alone, expected, spread * m / np.where(alone, 1.0, m - 1.0))
    return Bins(
        rows=np.bincount(code, minlength=len(at)),
        share=mass / mass.sum(),
        predicted=predicted,
        observed=observed,
        alike=m,
        effective=_effective(y, w, total),
        residual=residual,
        expected=expected,
        sampled=sampled,
        fourth=total(w**4 * chance * (1.0 - 6.0 * chance)) / mass**4,
    )


def rows_alike(w: Floats) -> float:
    """Return how many rows without weights tell as much of a mean (Kish)."""
    return float(w.sum() ** 2 / (w**2).sum())


def _effective(y: Floats, w: Floats, total: Callable[[Floats], Floats]) -> Floats:
    """Return the rows behind the shares observed; as `skfairft.parity.rate_limits`."""
    hit, missed = total(w * y), total(w * (1.0 - y))
    squares, of_hit, of_missed = total(w**2), total(w**2 * y), total(w**2 * (1.0 - y))
    both = (hit > 0.0) & (missed > 0.0)
    a, b = np.where(both, hit, 1.0), np.where(both, missed, 1.0)
    unlike = np.where(both, of_hit * b / a + of_missed * a / b, 0.0)
    return (hit + missed) ** 2 / np.maximum(squares, unlike)


def wilson(found: Bins, level: float) -> Floats:
    """Return Wilson's limits (b, 2) of the shares observed."""
    rates, z = np.clip(found.observed, 0.0, 1.0), float(norm.ppf((1.0 + level) / 2.0))
    return np.stack(wilson_limits(rates, found.effective, z), axis=1)


def mean_error(found: Bins, level: float) -> Measured:
    """Return predicted minus observed over all rows, and its interval.

    Examples
    --------
    >>> y, p = np.tile([0.0, 1.0], 50), np.full(100, 0.6)
    >>> found = bins(y, p, np.ones(100), n_bins=1, strategy="quantile")
    >>> [round(each, 3) for each in mean_error(found, 0.95)]
    [0.1, 0.002, 0.198]
    """
    value = -float(found.share @ found.residual)
    inside = found.share**2 @ found.sampled
    between = (found.share**2 / found.alike) @ (found.residual + value) ** 2
    variance = max(float(found.share**2 @ found.expected), float(inside + between))
    half = float(norm.ppf((1.0 + level) / 2.0)) * float(variance) ** 0.5
    return Measured(value, max(value - half, -1.0), min(value + half, 1.0))


def root_error(found: Bins, level: float) -> Measured:
    """Return the root of the mean squared error of the bins, debiased, and its interval.

    Examples
    --------
    >>> y, p = np.tile([0.0, 1.0], 50), np.full(100, 0.6)
    >>> found = bins(y, p, np.ones(100), n_bins=1, strategy="quantile")
    >>> [round(each, 3) for each in root_error(found, 0.95)]
    [0.086, 0.0, 0.198]
    """
    w, d = found.share, found.residual
    total = float(w @ d**2)
    value = max(total - float(w @ found.sampled), 0.0) ** 0.5
    v = np.maximum(found.expected, found.sampled)
    mean = float(w @ v)
    if mean <= 0.0:  # all is certain, and so is what is off
        return Measured(value, value, value)
    unit = float(w**2 @ (v**2 + np.maximum(found.fourth, 0.0) / 2.0)) / mean
    if total > 0.0:  # where most of it is in the bins that vary most, so does the sum
        unit = max(unit, float(w**2 @ (v * d**2)) / total)
    tail = (1.0 - level) / 2.0
    low, high = (
        float(np.sqrt(unit * _noncentrality(total / unit, mean / unit, q)))
        for q in (1.0 - tail, tail)
    )
    return Measured(value, min(low, value), max(high, value))


def _noncentrality(x: float, df: float, q: float) -> float:
    """Return that of which the distribution function at x is q; 0 if none is."""

    def above(noncentrality: float) -> float:
        return float(ncx2.cdf(x, df, noncentrality)) - q

    if above(0.0) <= 0.0:
        return 0.0
    most = 2.0 * max(x, 1.0)
    while above(most) > 0.0:
        most *= 2.0
    return float(brentq(above, 0.0, most))
