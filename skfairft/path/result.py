"""A path that was traced: its table, its classifiers, and the choice among them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
from .written import write_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FairnessPath"]

# The columns that are to be least, the first one first.
_BY = {
    "error": ["weighted_f1_error", "difference"],
    "difference": ["difference", "weighted_f1_error"],
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
        return f"<{type(self).__name__}: {self._said()}>"

    def _said(self) -> str:
        return (
            f"{len(self.table):,} points, {len(self.front):,} on the front, "
            f"{' and '.join([self.constraint, *self.others])} on {self.judged_on}"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the points on the front, by their row of the table."""
        names = [name for name in self.table if not str(name).endswith(("_low", "_high"))]
        front = self.front[names].drop(columns="on_front")
        table = front.to_html(float_format="{:.4g}".format, max_rows=30, border=0)
        return f"<p><b>{type(self).__name__}</b>: {escape(self._said())}</p>{table}"

    @property
    def front(self) -> pd.DataFrame:
        """The rows of ``table`` that are on the front, from the least ``difference`` on.

        Their index is that of ``table``, and of ``classifiers``.
        """
        return self.table[self.table["on_front"]].sort_values("difference")

    def plot(self, **shown: Any) -> Any:
        """Draw error against difference, as `FairnessTradeoffDisplay.from_path` does.

        Parameters
        ----------
        **shown
            Of that method, such as ``chosen=path.choose(0.05)``, ``ax`` or ``peers``.

        Returns
        -------
        FairnessTradeoffDisplay
            With ``ax_`` and ``figure_`` of matplotlib.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier, fairness_path
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=1000, disparity=0.4, random_state=0)
        >>> clf = FairLowRankHeadClassifier(
        ...     constraint="demographic_parity", solver="plug_in", random_state=0
        ... )
        >>> path = fairness_path(clf, X, y, sensitive_features=s, weights=5)
        >>> display = path.plot(chosen=path.choose(difference_bound=0.1))
        >>> display.ax_.get_xlabel()
        'error: 100 - weighted F1 (%)'
        """
        # By its name: what draws looks into this room, and nothing here depends on it.
        displays = import_module("skfairft.displays")
        return displays.FairnessTradeoffDisplay.from_path(self, **shown)

    def save(self, folder: str | os.PathLike[str], *, backbone: bool = False) -> None:
        """Write the path with all its classifiers to a folder, without code.

        `skfairft.load_path` reads it. The files hold JSON and numbers, as of the classifier's
        ``save``, and of the backbone, which all points share, a fingerprint.

        Parameters
        ----------
        folder : str or path-like
            Made where it is not there. What is saved in it is replaced, at once and as a whole.
        backbone : bool, default=False
            Whether to write the backbone's weights, too.

        Raises
        ------
        ValueError
            As of `FairLowRankHeadClassifier.save`.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier, fairness_path, load_path
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=1000, disparity=0.4, random_state=0)
        >>> clf = FairLowRankHeadClassifier(
        ...     constraint="demographic_parity", solver="plug_in", random_state=0
        ... )
        >>> path = fairness_path(clf, X, y, sensitive_features=s, weights=3, thresholds=1)
        >>> path.save("path")
        >>> again = load_path("path")
        >>> again.choose(0.1) == path.choose(0.1), again.table.equals(path.table)
        (True, True)
        """
        write_path(self, folder, backbone=backbone)

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
        error_bound: float | None = None,
        confidence: float | None = None,
        by: str | None = None,
        costs: ArrayLike | None = None,
    ) -> int:
        """Return the row that is best in something, of those that are within bounds.

        Parameters
        ----------
        difference_bound : float, list of float or None, default=None
            Largest difference, or largest rate. Of several constraints each has its own at its
            place, None for none, and one number is for all.
        ratio_bound : float, list of float or None, default=None
            The least that the smallest rate of a group may be, divided by the largest; as for the
            classifier. Without any bound, ``by="worst_group"`` or ``costs`` alone choose.
        error_bound : float, default=None
            Largest ``weighted_f1_error`` on the judged rows, in percent. Alone it chooses the least
            difference within it; beside other bounds it leaves out what has more error.
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
        by : {"error", "difference", "worst_group"}, default=None
            What is to be least: ``weighted_f1_error``, ``difference`` or ``worst_group_error``;
            where several are, the difference or the error decides. None is "error", with an
            ``error_bound`` alone "difference".
        costs : array-like of shape (k, k), default=None
            What a row costs by its true class (row) and the class that is decided for (column), in
            the order of ``classes_``: then the mean cost is to be least, in place of ``by``.

        Returns
        -------
        int
            For ``table.loc`` and ``classifiers``.

        Raises
        ------
        ValueError
            If no difference is defined, for bounds that are no numbers, or not as many as there
            are constraints, for a confidence that is not in [0.5, 1) or has no bound, for
            another ``by`` or one beside ``costs``, or for costs of another shape.

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

        What parity there is for two points of error, and where a missed positive costs as much as
        three false ones:

        >>> least = path.table["weighted_f1_error"].min()
        >>> fair = path.choose(error_bound=least + 2.0)
        >>> bool(path.table.loc[fair, "weighted_f1_error"] <= least + 2.0)
        True
        >>> cheap = path.choose(0.1, costs=[[0, 1], [3, 0]])
        """
        if by is None:
            alone = difference_bound is None and ratio_bound is None and error_bound is not None
            by = "difference" if alone else "error"
        elif not isinstance(by, str) or by not in _BY:
            raise ValueError(f"by={shown(by)}; expected one of {list(_BY)}.")
        elif costs is not None:
            raise ValueError(
                f"by={shown(by)} and costs are both set, but one thing is to be least; leave one "
                "out."
            )
        least = [self.table[name].to_numpy() for name in _BY[by]]
        if costs is not None:
            least = [self._costs(costs), least[0]]
        names = [self.constraint, *self.others]
        given = {"difference_bound": difference_bound, "ratio_bound": ratio_bound}
        for name, value in given.items():
            check_bounds(name, value, names)
        demands = [each for each in read_demands(names, **given) if each.bound is not None]
        rows = self._of_little_error(error_bound)
        if not demands:
            chooses = by == "worst_group" or costs is not None or error_bound is not None
            if not chooses or confidence is not None:
                why = (
                    f"confidence={confidence} is that of a bound between groups, but there is none"
                    if confidence is not None
                    else f"choose(by={by!r}) got no difference_bound"
                )
                raise ValueError(
                    f"{why}: set difference_bound or ratio_bound. Without one, and without a "
                    'confidence, by="worst_group", error_bound or costs choose.'
                )
            return self._best(rows, least)
        rules = [self._rule_of(each) for each in demands]
        distances = [self._distances(rule) for rule in rules]
        if any(np.isnan(each).all() for each in distances):
            raise ValueError(
                "The difference is undefined at every point: the judged rows lack a class that "
                "the constraint asks for in all groups but one. Judge by more rows."
            )
        if confidence is not None:
            return self._certified(demands, confidence, least, rows)
        most = [each.most for each in demands]
        beyond = np.max([each - m for each, m in zip(distances, most, strict=True)], axis=0)
        within = rows[beyond[rows] <= 0.0]
        if len(within):
            return self._best(within, least)
        nearest = int(rows[np.nanargmin(beyond[rows])])
        missed = [
            f"{_at_most(demand)}; the nearest has {demand.told(float(each[nearest])):.3f}"
            for demand, each in zip(demands, distances, strict=True)
            if not each[nearest] <= demand.most
        ]
        among = "" if error_bound is None else f" among those of an error within {error_bound:g} %"
        warn_user(
            f"No point{among} has {' and '.join(missed)}, on {self.judged_on}.", FairnessWarning
        )
        return nearest

    def _best(self, rows: NDArray[np.int64], least: list[NDArray[np.float64]]) -> int:
        """Return the row in which the first of some columns is least, then the next."""
        return int(rows[np.lexsort([column[rows] for column in reversed(least)])[0]])

    def _of_little_error(self, bound: Any) -> NDArray[np.int64]:
        """Return the rows whose error is within a bound, or the one that is nearest to it."""
        error = self.table["weighted_f1_error"].to_numpy()
        if bound is None:
            return np.arange(len(error))
        if not is_number(Real, bound) or np.isnan(bound):
            raise ValueError(f"error_bound={shown(bound)}; expected a number, in percent.")
        if (error <= bound).any():
            return np.flatnonzero(error <= bound)
        warn_user(
            f"No point has an error of at most {bound:g} %, on {self.judged_on}; the least is "
            f"{error.min():.3f} %.",
            FairnessWarning,
        )
        return np.array([int(error.argmin())])

    def _costs(self, costs: Any) -> NDArray[np.float64]:
        """Return the mean cost of a row at each point."""
        k = self.decisions.shape[-1]
        try:
            table = np.asarray(costs, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"costs={shown(costs)}; expected ({k}, {k}) numbers, by true class and decided "
                "class, such as [[0, 1], [5, 0]] where a missed yes costs five times a wrong one."
            ) from error
        if table.shape != (k, k) or not np.isfinite(table).all():
            raise ValueError(
                f"costs has shape {table.shape}; expected ({k}, {k}) finite numbers, by true class "
                "and decided class."
            )
        mass = self.decisions.sum(axis=1)
        return (mass * table).sum(axis=(1, 2)) / mass.sum(axis=(1, 2))

    def _certified(
        self,
        demands: list[Demand],
        confidence: float,
        least: list[NDArray[np.float64]],
        rows: NDArray[np.int64],
    ) -> int:
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
        left = np.intersect1d(certified, rows).astype(np.int64)
        if len(left):
            return self._best(left, least)
        if certified:
            error = self.table["weighted_f1_error"].to_numpy()
            row = self._best(np.array(certified), [error])
            warn_user(
                "No point is within the bounds with this confidence and within error_bound: the "
                f"least error of those within the bounds is {error[row]:.3f}. That point is "
                "returned.",
                FairnessWarning,
            )
            return row
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
        return rule.distance(rule.rates(mass, mass.sum(axis=-1)))

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
