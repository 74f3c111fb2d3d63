"""The weakest weight of fairness whose head meets a bound on rows that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..parity.demands import Bound, Demand
from ..parity.judge import JudgedRows
from .trials import Trial, Trials

__all__ = [
    "BoundSearch",
    "KnownGroups",
    "in_words",
    "only_bound",
    "rows_in_words",
    "weakest_weight",
]

# A grid first, because the distance of judged decisions is not monotone in the weight; then
# the interval before the weight found is halved this often: steps of 0.003 in the weight.
_GRID = np.linspace(0.0, 1.0, 21)
_HALVINGS = 4
# Of several limits each is drawn by steps, until all bounds are met, and then weakened by itself.
_STEP, _WEAKENINGS = 0.05, 6
# With a confidence it is walked through in this many steps: no weight beyond one that failed.
_STEPS = 4

_LEVEL = 0.95


def only_bound(bounds: Sequence[Bound], name: str) -> Bound:
    """Return the bound, or raise an AttributeError where there are several, or one on a ratio.

    Examples
    --------
    >>> odds = Bound("equalized_odds", "difference", 0.1, 0.05, (0.0, 0.2), 0.15, True)
    >>> only_bound([odds], "difference_").value
    0.05
    """
    if len(bounds) > 1 or bounds[0].form == "ratio":
        raise AttributeError(f"{name} is that of one bound, on a difference: see bounds_.")
    return bounds[0]


class KnownGroups(NamedTuple):
    """What bounds led to for predictions that are told the groups.

    Parameters
    ----------
    fairness_weight : float or tuple of float
        The weight, or of several constraints the weights.
    bounds : tuple of Bound
        What was reached.
    """

    fairness_weight: float | tuple[float, ...]
    bounds: tuple[Bound, ...]

    @property
    def met(self) -> bool:
        """Whether all bounds were met."""
        return all(each.met for each in self.bounds)

    @property
    def difference(self) -> float:
        """What was reached of the only bound, on the judged rows."""
        return only_bound(self.bounds, "difference").value

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of it on other rows."""
        return only_bound(self.bounds, "interval").interval

    @property
    def limit(self) -> float:
        """What it is within on other rows, with the confidence."""
        return only_bound(self.bounds, "limit").limit


@dataclass(frozen=True)
class BoundSearch:
    """What meets all bounds, or comes nearest to it.

    Parameters
    ----------
    trial : Trial
        The weight, and the scores of the judged rows.
    bounds : tuple of Bound
        What was reached of each.
    rows : float
        How many rows it would take to be within the bounds by their limits; infinite if the
        constraint does not reach them.
    """

    trial: Trial
    bounds: tuple[Bound, ...]
    rows: float


def weakest_weight(
    trials: Trials,
    judges: Sequence[JudgedRows],
    demands: Sequence[Demand],
    *,
    confidence: float | None = None,
    known: bool = False,
) -> BoundSearch:
    """Find the least weight whose distances on the judged rows, or limits, are within bounds.

    With a confidence, weights are tried in an order that the rows do not choose beyond its start:
    from the one of the least limit towards weaker ones, until one's limit is above the bound. Each
    is a test at its own level, and no test comes after one that failed, so that none need be
    corrected for the others (a fixed sequence [1]_). What is compared between weights that do not
    meet several bounds is by how much the distance, or limit, that is the furthest above its bound
    is above it. Where each bound can have a weight of its own, those that are not met are drawn on
    until all are, and then each is weakened, as far as all stay met. That brings several limits to
    their bounds at once, and tests many weights, so that the confidence is divided among the
    bounds.

    Parameters
    ----------
    trials : Trials
        Of the solver.
    judges : sequence of JudgedRows
        The rows that they are judged by, once for each bound, with the constraint.
    demands : sequence of Demand
        Those with a bound, in the same order.
    confidence : float, optional
        With which each distance is to be within its bound on other rows, in [0.5, 1).
    known : bool, default=False
        Whether the groups are known where rows are decided.

    Returns
    -------
    BoundSearch
        If no weight meets all bounds, the one that comes nearest to it.

    Warns
    -----
    FairnessWarning
        If what meets the bounds decides all rows alike.

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
        for judge in judges:
            judge.warn_of_empty()
    asked = list(zip(judges, demands, strict=True))
    level = _LEVEL if confidence is None else confidence
    if trials.separate:
        level = 1.0 - (1.0 - level) / len(asked)

    def beyond(trial: Trial) -> list[float]:
        if confidence is None:
            return [judge.distance(trial.scores) - each.most for judge, each in asked]
        return [judge.limit(trial.scores, level) - each.most for judge, each in asked]

    def excess(trial: Trial) -> float:
        return max(beyond(trial))

    along = _nearest if confidence is None else _certified
    if trials.separate and len(asked) > 1:
        found = _of_several(trials, known, beyond, len(asked))
        if excess(found) > 0.0:  # perhaps where all are drawn alike
            found = min(found, along(trials, known, excess), key=excess)
        if excess(found) <= 0.0:
            found = _weakened(trials, known, excess, found, len(asked))
    else:
        found = along(trials, known, excess)
    met_by = None if confidence is None else level
    reached = tuple(_reached(judge, each, found, level, met_by) for judge, each in asked)
    out = BoundSearch(
        found,
        reached,
        rows=max(judge.rows_needed(found.scores, demand.most, level) for judge, demand in asked),
    )
    decided = found.scores.argmax(dim=1)
    met = all(each.met for each in reached)
    if len(decided.unique()) == 1 and (met or len(asked) > 1):
        at = "" if trials.separate else f", at fairness_weight={found.weight:.3g}"
        told = "told the groups, " if known else ""
        warn_user(
            f"{told}{in_words(reached)} led to a head that "
            f"decides all {judges[0].n_rows} judged rows alike{at}: parity of no use. Ask for "
            "less, centre the features, or try another solver, rank or importance.",
            FairnessWarning,
        )
    return out


def _reached(
    judge: JudgedRows, demand: Demand, trial: Trial, level: float, confidence: float | None
) -> Bound:
    """Return what was reached of a bound."""
    limits = judge.limits(trial.scores, (1.0 + _LEVEL) / 2.0)
    limit = judge.limit(trial.scores, level)
    distance = float(limits.distance)
    assert demand.bound is not None
    low, high = sorted([demand.told(float(limits.low)), demand.told(float(limits.high))])
    return Bound(
        demand.constraint,
        demand.form,
        demand.bound,
        demand.told(distance),
        (low, high),
        demand.told(limit),
        bool((distance if confidence is None else limit) <= demand.most),
    )


def in_words(bounds: Sequence[Bound], of_all: int = 1) -> str:
    """Return what was asked for, as parameters; some of so many.

    Examples
    --------
    >>> odds = Bound("equalized_odds", "difference", 0.1, 0.05, (0.0, 0.2), 0.15, True)
    >>> in_words([odds])
    'difference_bound=0.1'
    >>> in_words([odds, odds._replace(form="ratio", bound=0.8)])
    'difference_bound=0.1 of equalized_odds and ratio_bound=0.8 of equalized_odds'
    """
    named = [
        f"{'ratio' if each.form == 'ratio' else 'difference'}_bound={each.bound}" for each in bounds
    ]
    if max(len(bounds), of_all) == 1:
        return named[0]
    of_each = zip(named, bounds, strict=True)
    return " and ".join(f"{name} of {each.constraint}" for name, each in of_each)


def rows_in_words(wanted: float, n_rows: int) -> str:
    """Return how many rows it would take, to one digit and more than there are.

    Examples
    --------
    >>> rows_in_words(1234.0, 900), rows_in_words(800.0, 900)
    ('it would take about 2,000 rows like the 900', 'it would take some more rows like the 900')
    """
    if np.isinf(wanted):
        return (
            f"the {n_rows:,} rows are themselves beyond it, by chance or not, and so do not tell "
            "how many it would take"
        )
    unit = 10.0 ** np.floor(np.log10(max(wanted, 1.0)))
    about = np.ceil(wanted / unit) * unit
    much = "some more" if wanted <= n_rows else f"about {about:,.0f}"
    return f"it would take {much} rows like the {n_rows:,}"


def _of_several(
    trials: Trials, known: bool, beyond: Callable[[Trial], list[float]], n_bounds: int
) -> Trial:
    """Return the first trial within all bounds, else that of the smallest excess.

    From none of the limits drawn on, in each step those are drawn further whose bounds are not met.
    """
    weights, tried = [0.0] * n_bounds, []
    while True:
        trial = trials.between(tuple(weights), None, known=known)
        excess = beyond(trial)
        tried.append((max(excess), trial))
        further = [i for i in range(n_bounds) if excess[i] > 0.0 and weights[i] < 1.0]
        if not further:
            return min(tried, key=lambda one: one[0])[1]
        for i in further:
            weights[i] = min(1.0, weights[i] + _STEP)


def _nearest(trials: Trials, known: bool, excess: Callable[[Trial], float]) -> Trial:
    """Return the weakest trial that exceeds no bound, else that of the smallest excess."""
    tried: list[tuple[float, Trial]] = []
    for trial in trials.path(_GRID, known=known):
        tried.append((excess(trial), trial))
        if tried[-1][0] <= 0.0:
            break
    reached, found = min(tried, key=lambda one: one[0])
    if reached <= 0.0 and len(tried) > 1:
        low = tried[-2][1].weight
        for _ in range(_HALVINGS):
            middle = trials.between((low + found.weight) / 2.0, found, known=known)
            if excess(middle) <= 0.0:
                found = middle
            else:
                low = middle.weight
    return found


def _weakened(
    trials: Trials, known: bool, excess: Callable[[Trial], float], found: Trial, n_bounds: int
) -> Trial:
    """Return a trial of weights of their own, each as weak as the others let it be."""
    alike = not isinstance(found.weight, tuple)
    weights = [found.weight] * n_bounds if alike else list(found.weight)
    for i in range(len(weights)):
        low = 0.0
        for _ in range(_WEAKENINGS):
            middle = (low + weights[i]) / 2.0
            tried = tuple(middle if j == i else each for j, each in enumerate(weights))
            trial = trials.between(tried, found, known=known)
            if excess(trial) <= 0.0:
                found, weights[i] = trial, middle
            else:
                low = middle
    return found


def _certified(trials: Trials, known: bool, excess: Callable[[Trial], float]) -> Trial:
    """Return the weakest trial within the bounds in sequence, else that of the smallest excess."""
    tried = list(trials.path(_GRID, known=known))
    beyond = [excess(trial) for trial in tried]
    at = int(np.argmin(beyond))
    if not beyond[at] <= 0.0:
        return tried[at]
    while at > 0 and beyond[at - 1] <= 0.0:
        at -= 1
    found = tried[at]
    if at > 0:
        for weight in np.linspace(_GRID[at], _GRID[at - 1], _STEPS + 1)[1:-1].tolist():
            weaker = trials.between(weight, found, known=known)
            if not excess(weaker) <= 0.0:
                break
            found = weaker
    return found
