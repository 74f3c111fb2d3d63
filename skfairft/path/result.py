"""A path that was traced: its table, its classifiers, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..classifier import FairLowRankHeadClassifier
from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..inputs.words import shown
from ..parity.constraints import Parity
from ..parity.counts import as_mass
from ..parity.demands import Demand, check_bounds, read_demands
from ..parity.judge import REFIT
from ..parity.levels import Levels
from ..parity.limits import DistanceLimits, distance_limits, rows_needed
from ..solvers.bound import rows_in_words
from .settings import is_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FairnessPath"]

# The columns that are to be least, the first one first.
_BY = {
    "error": ["weighted_f1_error", "difference"],
    "worst_group": ["worst_group_error", "weighted_f1_error"],
}


@dataclass(frozen=True, repr=False)
class FairnessPath:
    """Points of a trade-off, and the classifier of each.

    Parameters
    ----------
    table : DataFrame
        One row per point. Columns: ``solver`` (its name, or with other parameters than the
        defaults its repr), ``rank`` (as asked for), ``fairness_weight``,
        ``positive_share`` (see `fairness_path`), then each metric on the judged rows with the
        ends of its 95 % interval in columns ``_low`` and ``_high``, and ``on_front``: no other
        point has less error and no more difference, or less difference and no more error.
    classifiers : sequence of FairLowRankHeadClassifier
        The fitted classifiers, in the order of the rows, each made when it is first asked for.
    constraint : str
        What ``difference`` measures; of several, the first one.
    decisions, squares : ndarray of shape (p, G, k, k)
        Of each point, by group, true label and decision: the sum of the weights of the judged
        rows, and of their squares.
    tuned : ndarray of shape (p,), bool
        Whether the solver of a point finds its votes on the judged rows ("plug_in", out of fold):
        then its limits heed that rates are alike there by design.
    n_judged : int
        Number of judged rows, without those of weight zero.
    out_of_fold : bool
        Whether the classifiers are fitted on these rows, too, and heads of other folds judged
        them; else they were held out.
    known_groups : bool, default=False
        Whether the points are of predictions that are told the groups.
    pos_label : label or None, default=None
        The positive class of the classifiers; None where each of several is in turn.
    positives : range or None, default=None
        Its code, or theirs; None is the second of two, and each of several.
    groups : {"intersections", "columns"}, default="intersections"
        Between what the distances are, as for the classifiers.
    levels : Levels or None, default=None
        The levels of several columns that are compared one by one.
    others : tuple of str, default=()
        Further constraints that the classifiers keep, each with a column of its own in the table.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, fairness_path
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=1000, disparity=0.4, random_state=0)
    >>> clf = FairLowRankHeadClassifier(
    ...     constraint="demographic_parity", solver="plug_in", random_state=0
    ... )
    >>> path = fairness_path(clf, X, y, sensitive_features=s, weights=5, thresholds=1)
    >>> path.constraint, len(path.table), len(path.classifiers)
    ('demographic_parity', 5, 5)
    >>> path
    <FairnessPath: 5 points, 5 on the front, demographic_parity on 1,000 rows out of fold>
    >>> bool(path.table.loc[path.choose(difference_bound=0.1), "difference"] <= 0.1)
    True
    """

    table: pd.DataFrame
    classifiers: Sequence[FairLowRankHeadClassifier]
    constraint: str
    decisions: NDArray[np.float64]
    squares: NDArray[np.float64]
    tuned: NDArray[np.bool_]
    n_judged: int
    out_of_fold: bool
    known_groups: bool = False
    pos_label: Any = None
    positives: range | None = None
    groups: str = "intersections"
    levels: Levels | None = None
    others: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # The fields' own would print every classifier with its network.
        on_front = int(self.table["on_front"].sum())
        return (
            f"<{type(self).__name__}: {len(self.table):,} points, {on_front:,} on the front, "
            f"{' and '.join([self.constraint, *self.others])} on {self.judged_on}>"
        )

    @property
    def judged_on(self) -> str:
        """How many rows judged the points, and how, in words."""
        how = "rows out of fold" if self.out_of_fold else "held-out rows"
        by = "" if self.levels is None else ", each sensitive column by itself"
        return f"{self.n_judged:,} {how}{', groups known' if self.known_groups else ''}{by}"

    def limits(self, confidence: float = 0.95) -> NDArray[np.float64]:
        """Return what each point's ``difference`` on other rows is within, with some confidence.

        Parameters
        ----------
        confidence : float, default=0.95
            Of each limit by itself, in [0.5, 1).

        Returns
        -------
        ndarray of shape (p,)
            In the order of the rows of the table.

        Raises
        ------
        ValueError
            For another confidence.
        """
        _check_confidence(confidence)
        rule = self._rule_of(Demand(self.constraint))
        return self._limits(np.arange(len(self.table)), confidence, rule).high

    def choose(
        self,
        difference_bound: float | Sequence[float | None] | None = None,
        *,
        ratio_bound: float | Sequence[float | None] | None = None,
        confidence: float | None = None,
        by: str = "error",
    ) -> int:
        """Return the row that is best in something, of those that are within bounds.

        Parameters
        ----------
        difference_bound : float, list of float or None, default=None
            Largest difference, or largest rate. Of several constraints each has its own at its
            place, None for none, and one number is for all.
        ratio_bound : float, list of float or None, default=None
            The least that the smallest rate of a group may be, divided by the largest; as for the
            classifier. Without any bound, ``by="worst_group"`` alone chooses.
        confidence : float, default=None
            With which the chosen classifier is to be within the bounds on other
            rows, in [0.5, 1); 0.95 is a good choice. Then each solver and rank is followed from the
            weight whose confidence limit is the furthest within the bound towards weaker ones, as
            long as the limit is within it, and the least error of these is chosen; of several
            bounds from the weakest weight whose limits are within all. Points with moved thresholds
            are not asked. The confidence is divided among solvers and ranks, and among bounds. None
            takes the judged rows' difference for the difference. With several bounds a fit with
            them (``difference_bound=``, ``ratio_bound=``) as a rule has less error than a point of
            the path, at which all constraints have one weight.
        by : {"error", "worst_group"}, default="error"
            What is to be least, ``weighted_f1_error`` or ``worst_group_error``; the other one
            decides where several are.

        Returns
        -------
        int
            For ``table.loc`` and ``classifiers``.

        Raises
        ------
        ValueError
            If no difference is defined, for bounds that are no numbers, or not as many as there
            are constraints, for a confidence that is not in [0.5, 1) or has no bound, or for
            another ``by``.

        Warns
        -----
        FairnessWarning
            If there is none: then the row that comes nearest to it is returned.

        Examples
        --------
        The four-fifths rule:

        >>> from skfairft import FairLowRankHeadClassifier, fairness_path
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=1000, disparity=0.4, random_state=0)
        >>> clf = FairLowRankHeadClassifier(
        ...     constraint="demographic_parity", solver="plug_in", random_state=0
        ... )
        >>> path = fairness_path(clf, X, y, sensitive_features=s, weights=9)
        >>> bool(path.table.loc[path.choose(ratio_bound=0.8), "ratio"] >= 0.8)
        True
        """
        if by not in _BY:
            raise ValueError(f"by={shown(by)}; expected one of {list(_BY)}.")
        names = [self.constraint, *self.others]
        given = {"difference_bound": difference_bound, "ratio_bound": ratio_bound}
        for name, value in given.items():
            check_bounds(name, value, names)
        demands = [each for each in read_demands(names, **given) if each.bound is not None]
        if not demands:
            if by == "error" or confidence is not None:
                raise ValueError(
                    f"choose(by={by!r}, confidence={confidence}) got no difference_bound: set one, "
                    'or ratio_bound. Without a bound by="worst_group" chooses.'
                )
            return self._best(self.table.index, by)
        rules = [self._rule_of(each) for each in demands]
        distances = [self._distances(rule) for rule in rules]
        if any(np.isnan(each).all() for each in distances):
            raise ValueError(
                "The difference is undefined at every point: the judged rows lack a class that "
                "the constraint asks for in all groups but one. Judge by more rows."
            )
        if confidence is not None:
            return self._certified(demands, confidence, by)
        most = [each.most for each in demands]
        beyond = np.max([each - m for each, m in zip(distances, most, strict=True)], axis=0)
        within = self.table.index[beyond <= 0.0]
        if len(within):
            return self._best(within, by)
        nearest = int(np.nanargmin(beyond))
        missed = [
            f"{_at_most(demand)}; the nearest has {demand.told(float(each[nearest])):.3f}"
            for demand, each in zip(demands, distances, strict=True)
            if not each[nearest] <= demand.most
        ]
        warn_user(f"No point has {' and '.join(missed)}, on {self.judged_on}.", FairnessWarning)
        return nearest

    def _best(self, index: Any, by: str) -> int:
        rows = self.table.loc[index]
        order = np.lexsort([rows[name] for name in reversed(_BY[by])])
        return int(rows.index.to_numpy()[order[0]])

    def _certified(self, demands: list[Demand], confidence: float, by: str) -> int:
        _check_confidence(confidence)
        own = self.table[self.table["positive_share"] == 1.0]
        curves = [
            part.index.to_numpy() for _, part in own.groupby(own["solver"] + own["rank"].map(repr))
        ]
        level = 1.0 - (1.0 - confidence) / (len(curves) * len(demands))
        certified: list[int] = []
        nearest = (np.inf, 0)
        for curve in curves:
            curve = curve[np.argsort(self.table.loc[curve, "fairness_weight"].to_numpy())]
            beyond = np.max(
                [
                    self._limits(curve, level, self._rule_of(each)).high - each.most
                    for each in demands
                ],
                axis=0,
            )
            if np.isnan(beyond).all():
                continue
            at = int(np.nanargmin(beyond))
            nearest = min(nearest, (beyond[at], int(curve[at])))
            certified += curve[_in_sequence(beyond, len(demands))].tolist()
        if certified:
            return self._best(certified, by)
        row = nearest[1]
        here = np.array([row])
        limits = [float(self._limits(here, level, self._rule_of(each)).high[0]) for each in demands]
        wanted = max(self._rows_needed(row, each, level) for each in demands)
        more = f"At that weight {rows_in_words(wanted, self.n_judged)}."
        asked = " and ".join(f"{each}" for each in demands)
        able = " and ".join(
            f"the {'largest' if demand.ratio else 'smallest'} bound that one is within, as it is "
            f"chosen among them, is {demand.told(limit):.3f}"
            for demand, limit in zip(demands, limits, strict=True)
            if not limit <= demand.most
        )
        warn_user(
            f"No point is within {asked} with confidence={confidence}, on {self.judged_on}: "
            f"{able}. {more} That point is returned.",
            FairnessWarning,
        )
        return row

    def _rows_needed(self, row: int, demand: Demand, level: float) -> float:
        wanted = rows_needed(
            self._rule_of(demand),
            self.decisions[row],
            self.squares[row],
            demand.most,
            n_rows=self.n_judged,
            inflation=self._inflation,
            confidence=level,
            tuned=bool(self.tuned[row]),
        )
        return float(wanted)

    def _rule_of(self, demand: Demand) -> Parity:
        return demand.rule(self.decisions.shape[-1], positives=self.positives, levels=self.levels)

    def _distances(self, rule: Parity) -> NDArray[np.float64]:
        mass = as_mass(self.decisions)
        return rule.distance(rule.rates(mass, mass.sum(dim=-1))).numpy()

    @property
    def _inflation(self) -> float:
        return REFIT if self.out_of_fold else 1.0

    def _limits(self, rows: NDArray[np.int64], confidence: float, rule: Parity) -> DistanceLimits:
        return distance_limits(
            rule,
            self.decisions[rows],
            self.squares[rows],
            confidence=confidence,
            inflation=self._inflation,
            tuned=self.tuned[rows],
        )


def _in_sequence(beyond: NDArray[np.float64], n_bounds: int) -> list[int]:
    """Return which points of a curve (m,), by weight, are taken to be within the bounds.

    They are neighbours: from the one that is the furthest within towards weaker ones. Of several
    bounds they are those from the weakest on: at the strongest weights all rows may be decided
    alike, which is surely within.

    Examples
    --------
    >>> beyond = np.array([0.2, -0.1, -0.2, 0.1, -0.3])
    >>> _in_sequence(beyond, 1), _in_sequence(beyond, 2)
    ([4], [1, 2])
    """
    within = beyond <= 0.0
    if not within.any():
        return []
    at, step = (int(np.nanargmin(beyond)), -1) if n_bounds == 1 else (int(within.argmax()), 1)
    found = []
    while 0 <= at < len(within) and within[at]:
        found.append(at)
        at += step
    return found


def _at_most(demand: Demand) -> str:
    """Return what a bound asks for, in words."""
    return f"a {demand.form} of at {'least' if demand.ratio else 'most'} {demand.bound}"


def _check_confidence(confidence: Any) -> None:
    if not (is_number(Real, confidence) and 0.5 <= confidence < 1.0):
        raise ValueError(f"confidence={shown(confidence)}; expected a number in [0.5, 1).")
