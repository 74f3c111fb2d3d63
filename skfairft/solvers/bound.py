"""The weakest weight of fairness whose head meets a bound on rows that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..parity.judge import JudgedRows
from .trials import Trial, Trials

__all__ = ["BoundSearch", "KnownGroups", "rows_in_words", "weakest_weight"]

# A grid first, because the distance of judged decisions is not monotone in the weight; then
# the interval before the weight found is halved this often: steps of 0.003 in the weight.
_GRID = np.linspace(0.0, 1.0, 21)
_HALVINGS = 4
# With a confidence it is walked through in this many steps: no weight beyond one that failed.
_STEPS = 4

_LEVEL = 0.95


class KnownGroups(NamedTuple):
    """What a bound led to for predictions that are told the groups."""

    fairness_weight: float
    difference: float
    interval: tuple[float, float]
    limit: float
    met: bool


@dataclass(frozen=True)
class BoundSearch:
    """What meets a bound, or comes nearest to it.

    Parameters
    ----------
    trial : Trial
        The weight, and the scores of the judged rows.
    distance : float
        Between groups, of the constraint, on these rows.
    interval : ndarray of shape (2,)
        Of the distance on other rows, 95 %.
    limit : float
        What the distance on other rows is within, at the confidence that was asked for; without
        one, at 95 %.
    rows : float
        How many rows it would take to be within the bound by that limit; infinite if the
        constraint does not reach it.
    """

    trial: Trial
    distance: float
    interval: NDArray[np.float64]
    limit: float
    rows: float


def weakest_weight(
    trials: Trials,
    judge: JudgedRows,
    bound: float,
    *,
    confidence: float | None = None,
    known: bool = False,
) -> BoundSearch:
    """Find the least weight whose distance on the judged rows, or its limit, is within a bound.

    With a confidence, weights are tried in an order that the rows do not choose beyond its start:
    from the one of the least limit towards weaker ones, until one's limit is above the bound. Each
    is a test at its own level, and no test comes after one that failed, so that none need be
    corrected for the others (a fixed sequence [1]_).

    Parameters
    ----------
    trials : Trials
        Of the solver.
    judge : JudgedRows
        The rows that they are judged by, and the constraint.
    bound : float
        On the distance.
    confidence : float, optional
        With which the distance is to be within the bound on other rows, in [0.5, 1).
    known : bool, default=False
        Whether the groups are known where rows are decided.

    Returns
    -------
    BoundSearch
        If no weight meets the bound, the one of the smallest distance, or limit.

    Warns
    -----
    FairnessWarning
        If what meets the bound decides all rows alike.

    Raises
    ------
    KeyboardInterrupt
        If the training of a head was interrupted: a search of which the rest is missing has no
        answer.

    References
    ----------
    .. [1] W. Maurer, L. A. Hothorn and W. Lehmacher, "Multiple comparisons in drug clinical trials
       and preclinical assays: a-priori ordered hypotheses", Biometrie in der chemisch-
       pharmazeutischen Industrie 6, 1995.
    """
    if not known:  # else it was said of the same rows
        judge.warn_of_empty()
    if confidence is None:
        found = _nearest(trials, bound, known, lambda trial: judge.distance(trial.scores))
    else:
        level = confidence
        found = _certified(trials, bound, known, lambda trial: judge.limit(trial.scores, level))
    limits = judge.limits(found.scores, (1.0 + _LEVEL) / 2.0)
    level = _LEVEL if confidence is None else confidence
    out = BoundSearch(
        found,
        distance=float(limits.distance),
        interval=np.array([limits.low, limits.high]),
        limit=judge.limit(found.scores, level),
        rows=judge.rows_needed(found.scores, bound, level),
    )
    decided = found.scores.argmax(dim=1)
    reached = out.distance if confidence is None else out.limit
    if reached <= bound and len(decided.unique()) == 1:
        warn_user(
            f"difference_bound={bound} is met by a head that decides all {judge.n_rows} judged "
            f"rows alike, at fairness_weight={found.weight:.3g}: parity of no use. Allow a larger "
            "difference, centre the features, or try another solver, rank or importance.",
            FairnessWarning,
        )
    return out


def rows_in_words(wanted: float, n_rows: int) -> str:
    """Return how many rows it would take, to one digit and more than there are.

    Examples
    --------
    >>> rows_in_words(1234.0, 900), rows_in_words(800.0, 900)
    ('it would take about 2,000 rows like the 900', 'it would take some more rows like the 900')
    """
    if np.isinf(wanted):
        return "the constraint does not reach it, whatever the number of rows"
    unit = 10.0 ** np.floor(np.log10(max(wanted, 1.0)))
    about = np.ceil(wanted / unit) * unit
    much = "some more" if wanted <= n_rows else f"about {about:,.0f}"
    return f"it would take {much} rows like the {n_rows:,}"


def _nearest(
    trials: Trials, bound: float, known: bool, distance: Callable[[Trial], float]
) -> Trial:
    """Return the weakest trial within the bound, else that of the smallest distance."""
    tried: list[tuple[float, Trial]] = []
    for trial in trials.path(_GRID, known=known):
        tried.append((distance(trial), trial))
        if tried[-1][0] <= bound:
            break
    reached, found = min(tried, key=lambda one: one[0])
    if reached <= bound and len(tried) > 1:
        low = tried[-2][1].weight
        for _ in range(_HALVINGS):
            middle = trials.between((low + found.weight) / 2.0, found, known=known)
            if distance(middle) <= bound:
                found = middle
            else:
                low = middle.weight
    return found


def _certified(trials: Trials, bound: float, known: bool, limit: Callable[[Trial], float]) -> Trial:
    """Return the weakest trial within the bound in sequence, else that of the smallest limit."""
    tried = list(trials.path(_GRID, known=known))
    limits = [limit(trial) for trial in tried]
    at = int(np.argmin(limits))
    if not limits[at] <= bound:
        return tried[at]
    while at > 0 and limits[at - 1] <= bound:
        at -= 1
    found = tried[at]
    if at > 0:
        for weight in np.linspace(_GRID[at], _GRID[at - 1], _STEPS + 1)[1:-1].tolist():
            weaker = trials.between(weight, found, known=known)
            if not limit(weaker) <= bound:
                break
            found = weaker
    return found
