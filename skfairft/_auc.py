"""Area under the ROC curve with its standard error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import rankdata

__all__ = ["auc_with_error"]


def auc_with_error(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error after DeLong et al. [1]_.

    Parameters
    ----------
    labels : ndarray of shape (n,), int64
        Encoded labels 0..k-1, of which each occurs.
    scores : ndarray of shape (n, k)
        Logits: what is added to all scores of a row has no effect. With two classes the
        difference of the two counts; with more the probabilities they stand for, and the area is
        the mean over classes, each against the rest.

    Returns
    -------
    area, error : float
        NaN where a class does not occur.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or
       more correlated receiver operating characteristic curves", Biometrics 44(3), 1988.

    Examples
    --------
    >>> scores = np.array([[0.0, -1.0], [0.0, 1.0], [0.0, 0.5], [0.0, 2.0]])
    >>> area, error = auc_with_error(np.array([0, 0, 1, 1]), scores)
    >>> area, round(error, 3)
    (0.75, 0.354)
    """
    k = scores.shape[1]
    if k == 2:
        sides = [(1, scores[:, 1] - scores[:, 0])]
    else:
        sides = list(enumerate(log_softmax(scores, axis=1).T))
    areas, influence = [], np.zeros(len(labels))
    for label, score in sides:
        own = labels == label
        n_own, n_other = int(own.sum()), int((~own).sum())
        if not n_own or not n_other:
            return float("nan"), float("nan")
        # Of each row, the share of rows on the other side that it is ranked rightly against.
        rank = rankdata(score)
        right = np.empty(len(score))
        right[own] = (rank[own] - rankdata(score[own])) / n_other
        right[~own] = 1.0 - (rank[~own] - rankdata(score[~own])) / n_own
        area = float(right[own].mean())
        areas.append(area)
        for side, size in ((own, n_own), (~own, n_other)):
            # A lone row has no variance to estimate.
            influence[side] += (right[side] - area) / np.sqrt(size * max(size - 1, 1))
    return float(np.mean(areas)), float(np.sqrt((influence**2).sum()) / len(sides))
