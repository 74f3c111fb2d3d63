"""Area under the ROC curve with its standard error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

__all__ = ["auc_with_error"]


def auc_with_error(
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error after DeLong et al. [1]_.

    Parameters
    ----------
    labels : ndarray of shape (n,), int64
        Encoded labels 0..k-1, of which each occurs.
    scores : ndarray of shape (n, k)
        Logits: what is added to all scores of a row has no effect. With two classes the
        difference of the two counts; with more the probabilities they stand for, and the area is
        the mean over classes, each against the rest.
    weights : ndarray of shape (n,), default=None
        Sample weights, non-negative; None is 1 each. Rows of weight zero do not count. A common
        factor of all weights has no effect.

    Returns
    -------
    area, error : float
        NaN where a class does not occur, or only in rows of weight zero.

    Notes
    -----
    Each class has the sides P, its own rows, and N, the rest, with sums of weights W_P and W_N. Let
    c(i, j) be 1 if i in P has a larger score than j in N, 1/2 if the same one, and 0 otherwise::

        V_i = sum_{j in N} w_j c(i, j) / W_N        V_j = sum_{i in P} w_i c(i, j) / W_P
        A = sum_{i in P} w_i V_i / W_P = sum_{j in N} w_j V_j / W_N

    A row r of side S has the influence ``w_r (V_r - A) / W_S`` on the area A, which is w_r times
    the derivative of A by w_r. The variance is the sum of the squared influences, the infinitesimal
    jackknife [2]_. On a side of m rows an influence is multiplied by ``sqrt(m / (m - 1))``: without
    weights this is DeLong's variance. Influences on several classes are averaged before they are
    squared.

    What varies is which rows are in the sample, each with its weight, as in a bootstrap over rows.
    So a row of weight 2 is the row twice for the area, but not for the error: it is one
    observation.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or
       more correlated receiver operating characteristic curves", Biometrics 44(3), 1988.
    .. [2] B. Efron, "Nonparametric estimates of standard error: the jackknife, the bootstrap and
       other methods", Biometrika 68(3), 1981.

    Examples
    --------
    >>> scores = np.array([[0.0, -1.0], [0.0, 1.0], [0.0, 0.5], [0.0, 2.0]])
    >>> area, error = auc_with_error(np.array([0, 0, 1, 1]), scores)
    >>> area, round(error, 3)
    (0.75, 0.354)
    >>> auc_with_error(np.array([0, 0, 1, 1]), scores, np.array([3.0, 1.0, 1.0, 1.0]))[0]
    0.875
    """
    w = np.ones(len(labels)) if weights is None else weights
    counted = w > 0
    labels, scores, w = labels[counted], scores[counted], w[counted]
    k = scores.shape[1]
    if k == 2:
        sides = [(1, scores[:, 1] - scores[:, 0])]
    else:
        sides = list(enumerate(log_softmax(scores, axis=1).T))
    areas, influence = [], np.zeros(len(labels))
    for label, score in sides:
        own = labels == label
        if own.all() or not own.any():
            return float("nan"), float("nan")
        # Of each row, the share of the other side's weight that it is ranked rightly against.
        below = _weights_below(score, w * np.stack([~own, own]))
        right = np.where(own, below[0] / w[~own].sum(), 1.0 - below[1] / w[own].sum())
        area = float(np.average(right[own], weights=w[own]))
        areas.append(area)
        for side in (own, ~own):
            size = int(side.sum())
            # A lone row has no variance to estimate.
            spread = np.sqrt(size * max(size - 1, 1))
            influence[side] += w[side] / w[side].mean() * (right[side] - area) / spread
    return float(np.mean(areas)), float(np.sqrt((influence**2).sum()) / len(sides))


def _weights_below(score: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums (2, n) of each of two weights (2, n) below each score (n,), ties by half."""
    order = np.argsort(score)
    ordered = score[order]
    total = np.zeros((2, len(score) + 1))
    np.cumsum(weights[:, order], axis=1, out=total[:, 1:])
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(starts, append=len(score))
    out = np.empty((2, len(score)))
    out[:, order] = ((total[:, starts] + total[:, starts + sizes]) / 2.0).repeat(sizes, axis=1)
    return out
