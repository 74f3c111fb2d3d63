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
from ..parity.constraints import Parity, parity
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
        What ``difference`` measures.
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

    def __repr__(self) -> str:
        # The fields' own would print every classifier with its network.
        on_front = int(self.table["on_front"].sum())
        return (
            f"<{type(self).__name__}: {len(self.table):,} points, {on_front:,} on the front, "
            f"{self.constraint} on {self.judged_on}>"
        )

    @property
    def judged_on(self) -> str:
        """How many rows judged the points, and how, in words."""
        how = "rows out of fold" if self.out_of_fold else "held-out rows"
        by = "" if self.levels is None else ", each sensitive column by itself"
        return f"{self.n_judged:,} {how}{', groups known' if self.known_groups else ''}{by}"

    def limits(self, confidence: float = 0.95) -> NDArray[np.float64]:
        """Return what each point's distance on other rows is within, with some confidence.

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
        return self._limits(np.arange(len(self.table)), confidence).high

    def choose(
        self,
        difference_bound: float | None = None,
        *,
        confidence: float | None = None,
        by: str = "error",
    ) -> int:
        """Return the row that is best in something, of those whose difference is within a bound.

        Parameters
        ----------
        difference_bound : float or None, default=None
            Largest difference. None is no bound, with ``by="worst_group"`` alone.
        confidence : float, default=None
            With which the difference of the chosen classifier is to be within the bound on other
            rows, in [0.5, 1); 0.95 is a good choice. Then each solver and rank is followed from the
            weight of the smallest confidence limit towards weaker ones, as long as the limit is
            within the bound, and the least error of these is chosen. Points with moved thresholds
            are not asked. The confidence is divided among solvers and ranks. None takes the
            judged rows' difference for the difference.
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
            If no difference is defined, for a confidence that is not in [0.5, 1) or has no bound,
            or for another ``by``.

        Warns
        -----
        FairnessWarning
            If there is none: then the row of the smallest difference, or limit, is returned.
        """
        if by not in _BY:
            raise ValueError(f"by={shown(by)}; expected one of {list(_BY)}.")
        if difference_bound is None:
            if by == "error" or confidence is not None:
                raise ValueError(
                    f"choose(by={by!r}, confidence={confidence}) got no difference_bound: set one. "
                    'Without a bound by="worst_group" chooses.'
                )
            return self._best(self.table.index, by)
        if not is_number(Real, difference_bound) or np.isnan(difference_bound):
            raise ValueError(f"difference_bound={shown(difference_bound)}; expected a number.")
        if self.table["difference"].isna().all():
            raise ValueError(
                "The difference is undefined at every point: the judged rows lack a class that "
                "the constraint asks for in all groups but one. Judge by more rows."
            )
        if confidence is not None:
            return self._certified(difference_bound, confidence, by)
        within = self.table[self.table["difference"] <= difference_bound]
        if len(within):
            return self._best(within.index, by)
        nearest = int(np.nanargmin(self.table["difference"].to_numpy()))
        what = "largest rate" if self._rule.largest else "difference"
        warn_user(
            f"No point has a {what} of at most {difference_bound}; the nearest has "
            f"{self.table['difference'].iloc[nearest]:.3f}, on {self.judged_on}.",
            FairnessWarning,
        )
        return nearest

    def _best(self, index: Any, by: str) -> int:
        rows = self.table.loc[index]
        order = np.lexsort([rows[name] for name in reversed(_BY[by])])
        return int(rows.index.to_numpy()[order[0]])

    def _certified(self, bound: float, confidence: float, by: str) -> int:
        _check_confidence(confidence)
        own = self.table[self.table["positive_share"] == 1.0]
        curves = [
            part.index.to_numpy() for _, part in own.groupby(own["solver"] + own["rank"].map(repr))
        ]
        level = 1.0 - (1.0 - confidence) / len(curves)
        certified: list[int] = []
        nearest = (np.inf, 0)
        for curve in curves:
            curve = curve[np.argsort(self.table.loc[curve, "fairness_weight"].to_numpy())]
            limits = self._limits(curve, level).high
            if np.isnan(limits).all():
                continue
            at = int(np.nanargmin(limits))
            nearest = min(nearest, (limits[at], int(curve[at])))
            while at >= 0 and limits[at] <= bound:
                certified.append(int(curve[at]))
                at -= 1
        if certified:
            return self._best(certified, by)
        limit, row = nearest
        wanted = float(
            rows_needed(
                self._rule,
                self.decisions[row],
                self.squares[row],
                bound,
                n_rows=self.n_judged,
                inflation=self._inflation,
                confidence=level,
                tuned=bool(self.tuned[row]),
            )
        )
        more = f"At that weight {rows_in_words(wanted, self.n_judged)}."
        warn_user(
            f"No point is within {bound} with confidence={confidence}, on "
            f"{self.judged_on}: the smallest bound that one is within, as it is chosen among them, "
            f"is {limit:.3f}. {more} That point is returned.",
            FairnessWarning,
        )
        return row

    @property
    def _rule(self) -> Parity:
        return parity(
            self.constraint,
            self.decisions.shape[-1],
            positives=self.positives,
            levels=self.levels,
        )

    @property
    def _inflation(self) -> float:
        return REFIT if self.out_of_fold else 1.0

    def _limits(self, rows: NDArray[np.int64], confidence: float) -> DistanceLimits:
        return distance_limits(
            self._rule,
            self.decisions[rows],
            self.squares[rows],
            confidence=confidence,
            inflation=self._inflation,
            tuned=self.tuned[rows],
        )


def _check_confidence(confidence: Any) -> None:
    if not (is_number(Real, confidence) and 0.5 <= confidence < 1.0):
        raise ValueError(f"confidence={shown(confidence)}; expected a number in [0.5, 1).")
