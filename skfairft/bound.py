"""The weakest weight of fairness whose head meets a bound on rows that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ._warn import warn_user
from .constraints import cell_counts, parity
from .exceptions import FairnessWarning
from .fitting import FittedHead, HeadFitter
from .head import head_scores
from .judge import JudgedRows, interval_around

__all__ = ["BoundSearch", "check_held_out", "weakest_weight"]

# A grid first, because the distance of held-out decisions is not monotone in the weight; then
# the interval before the weight found is halved this often: steps of 0.003 in the weight.
_GRID = np.linspace(0.0, 1.0, 21)
_HALVINGS = 4

_N_BOOT = 1000

# The standard error of a rate of so many rows is a tenth.
_FEW_HELD_OUT = 20


@dataclass(frozen=True)
class BoundSearch:
    """A head that meets a bound, or comes nearest to it.

    Parameters
    ----------
    fitted : FittedHead
        The head.
    weight : float
        Its fairness weight.
    distance : float
        Between groups, of the constraint, on the held-out rows.
    interval : ndarray of shape (2,)
        Of the distance, see `interval_around`.
    """

    fitted: FittedHead
    weight: float
    distance: float
    interval: NDArray[np.float64]


def check_held_out(
    constraint: str,
    bound: float,
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    *,
    shape: tuple[int, int],
) -> None:
    """Refuse held-out rows on which groups cannot be compared, and warn of few.

    Parameters
    ----------
    constraint : str
        One of `CONSTRAINTS`.
    bound : float
        As given to the classifier, for the error.
    labels, codes : ndarray of shape (m,), int64
        Label and group of each held-out row, all of positive weight.
    shape : tuple (k, G)
        Numbers of classes and of groups.

    Raises
    ------
    ValueError
        If some rate of the constraint has rows in fewer than two groups.

    Warns
    -----
    FairnessWarning
        If some rate is the mean of a few rows.

    Examples
    --------
    >>> y, s = np.array([0, 1, 1]), np.array([0, 1, 1])
    >>> check_held_out(  # doctest: +ELLIPSIS
    ...     "true_positive_rate_parity", 0.1, y, s, shape=(2, 2)
    ... )
    Traceback (most recent call last):
    ...
    ValueError: difference_bound=0.1 needs held-out rows of at least two groups ...
    """
    n_classes, n_groups = shape
    y, s, one = torch.from_numpy(labels), torch.from_numpy(codes), torch.ones(len(labels)).double()
    count = cell_counts(y, s, one, n_classes=n_classes, n_groups=n_groups)
    rule = parity(constraint, n_classes)
    compared, counts = rule.fewest_groups(count), rule.counts(count)
    if compared < 2:
        raise ValueError(
            f"difference_bound={bound} needs held-out rows of at least two groups for each rate of "
            f"{constraint!r}, but some rate has them in {compared} of {n_groups} "
            f"groups, among {len(labels)} rows. Hold out more (validation_fraction) or merge "
            "groups."
        )
    fewest = int(counts[counts > 0].min())
    if fewest < _FEW_HELD_OUT:
        warn_user(
            f"difference_bound={bound} is judged on {len(labels)} held-out rows, and some rate on "
            f"{fewest} of them: a distance that is within the bound there can be far beyond it on "
            "others. Hold out more (validation_fraction) or merge groups.",
            FairnessWarning,
        )


def weakest_weight(
    fitter: HeadFitter,
    held_out: JudgedRows,
    bound: float,
    random_state: np.random.RandomState,
) -> BoundSearch:
    """Find the least weight whose head's distance on held-out rows is within a bound.

    Parameters
    ----------
    fitter : HeadFitter
        Of the other rows.
    held_out : JudgedRows
        The rows, and the constraint.
    bound : float
        On the distance.
    random_state : RandomState
        Of the bootstrap.

    Returns
    -------
    BoundSearch
        If no weight meets the bound, the one of the smallest distance.

    Raises
    ------
    KeyboardInterrupt
        If the training of a head was interrupted: a search of which the rest is missing has no
        answer.
    """
    held_out.warn_of_empty()

    def cells(fitted: FittedHead) -> NDArray[np.int64]:
        return held_out.cells(head_scores(fitted.head, held_out.rows.Z))

    def distance(fitted: FittedHead) -> float:
        if fitted.interrupted:
            raise KeyboardInterrupt
        return float(held_out.distances(held_out.table(cells(fitted))[None])[0])

    tried: list[tuple[float, float, FittedHead]] = []  # distance, weight, head
    for weight, fitted in zip(_GRID, fitter.fit_path(_GRID), strict=True):
        tried.append((distance(fitted), float(weight), fitted))
        if tried[-1][0] <= bound:
            break
    reached, weight, fitted = min(tried, key=lambda one: one[0])
    if reached <= bound and len(tried) > 1:
        low = tried[-2][1]
        for _ in range(_HALVINGS):
            middle = (low + weight) / 2.0
            between = fitter.fit(middle, fitted)
            there = distance(between)
            if there <= bound:
                reached, weight, fitted = there, middle, between
            else:
                low = middle
    drawn = held_out.resampled(cells(fitted), _N_BOOT, random_state.randint(2**31, size=4))
    samples = np.concatenate([held_out.distances(block) for block in drawn])
    return BoundSearch(fitted, weight, reached, interval_around(reached, samples))
