"""The weakest weight of fairness whose head meets a bound on rows that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..head.modules import head_scores
from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..parity.judge import JudgedRows, interval_around
from .fitter import HeadFitter
from .problem import FittedHead

__all__ = ["BoundSearch", "weakest_weight"]

# A grid first, because the distance of held-out decisions is not monotone in the weight; then
# the interval before the weight found is halved this often: steps of 0.003 in the weight.
_GRID = np.linspace(0.0, 1.0, 21)
_HALVINGS = 4

_N_BOOT = 1000


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

    Warns
    -----
    FairnessWarning
        If what meets the bound decides all rows alike.

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
    decided = cells(fitted)
    if reached <= bound and len(np.unique(decided % held_out.shape[-1])) == 1:
        warn_user(
            f"difference_bound={bound} is met by a head that decides all {len(decided)} held-out "
            f"rows alike, at fairness_weight={weight:.3g}: parity of no use. Allow a larger "
            "difference, centre the features, or try another solver, rank or importance.",
            FairnessWarning,
        )
    drawn = held_out.resampled(decided, _N_BOOT, random_state.randint(2**31, size=4))
    samples = np.concatenate([held_out.distances(block) for block in drawn])
    return BoundSearch(fitted, weight, reached, interval_around(reached, samples))
