"""Error and group fairness of predicted labels: distances, scorers, and a report.

Everything here is a function of one table, the (weighted) number of rows in each cell
(group, true label, predicted label), and of the rows of `skfairft.parity.table`.

With two classes there is one positive label. With more, each label is the positive one
in turn, against the rest, and a distance is the largest over labels. A rate that is
undefined, such as the true positive rate of a group without positives, is NaN and a
`FairnessWarning`, never 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sklearn
from numpy.typing import NDArray
from sklearn.metrics import make_scorer

from ..inputs.words import did_you_mean
from ..parity.cells import HOW_TO_ROUTE, count_cells, count_labels
from ..parity.counts import distances_of, warn_undefined, weighted_f1
from ..parity.table import PAPER, REPORTED, TABLE
from .assembly import build_report
from .report import FairnessReport

__all__ = [
    "FairnessReport",
    "constraint_distance",
    "demographic_parity_distance",
    "equalized_odds_distance",
    "fairness_report",
    "fairness_scorer",
    "weighted_f1_error",
]

_DISTANCE = "_distance"


def constraint_distance(
    y_true: Any,
    y_pred: Any,
    *,
    constraint: str,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
) -> float:
    """How far decisions are from a constraint: what a ``difference_bound`` is a bound on.

    The largest difference between groups in the rate that the constraint compares; of
    ``"equalized_odds"`` the sum of two. With more than two classes, the largest over the classes,
    each against the rest, except for ``"error_rate_parity"``, whose rate is one of all classes.

    Parameters
    ----------
    y_true, y_pred
        As in `demographic_parity_distance`.
    constraint : str
        A ``constraint`` of `skfairft.FairLowRankHeadClassifier`, such as "error_rate_parity".
    sensitive_features, sample_weight
        As in `demographic_parity_distance`.
    pos_label : label, default=None
        As in `demographic_parity_distance`. An error is one whatever the positive label.

    Returns
    -------
    float
        In [0, 1], of equalized odds in [0, 2]; 0 is parity. A group without rows that a rate is a
        share of is named by a `FairnessWarning`, and left out; NaN if fewer than two remain.

    Raises
    ------
    ValueError
        For an unknown constraint, and as in `demographic_parity_distance`.

    Examples
    --------
    Half of group a's rows are decided wrong and none of group b's:

    >>> from skfairft.metrics import constraint_distance
    >>> constraint_distance(
    ...     [0, 1, 0, 1],
    ...     [1, 1, 0, 1],
    ...     constraint="error_rate_parity",
    ...     sensitive_features=["a", "a", "b", "b"],
    ... )
    0.5
    """
    _check_constraint(constraint)
    return _distance(constraint, y_true, y_pred, sensitive_features, sample_weight, pos_label)


def _check_constraint(constraint: str) -> None:
    if constraint not in TABLE:
        raise ValueError(
            f"constraint={constraint!r} is unknown.{did_you_mean(constraint, TABLE)} The "
            f"constraints are {sorted(TABLE)}."
        )


def _distance(
    constraint: str,
    y_true: Any,
    y_pred: Any,
    sensitive_features: Any,
    sample_weight: Any,
    pos_label: Any,
) -> float:
    """Return the distance of a constraint, and warn of rates that are undefined."""
    cells = count_cells(y_true, y_pred, sensitive_features, sample_weight, pos_label)
    counts = cells.count(cells.weight)
    warn_undefined(cells, counts, TABLE[constraint].rates)
    return float(distances_of(counts, [constraint], cells.positives)[constraint])


def demographic_parity_distance(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
) -> float:
    """Largest difference between groups in the rate of positive predictions.

    ``max_g P(prediction = positive | g) - min_g P(prediction = positive | g)``, the paper's
    demographic parity distance and fairlearn's ``demographic_parity_difference``. With more
    than two classes, the largest of these over the classes, each against the rest.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels. Of the true ones only the set of values matters here.
    sensitive_features : array-like of shape (n,) or (n, columns)
        The group of each row; several columns stand for their intersections.
    sample_weight : array-like of shape (n,), default=None
        Weights >= 0; an integer weight counts the row as often.
    pos_label : label, default=None
        The positive label. None takes 1 (or True) if all labels are in {-1, 0, 1}, else the
        larger of two labels; of more than two labels it takes each in turn. With two labels
        the choice does not change the distance.

    Returns
    -------
    float
        In [0, 1]; 0 is parity. NaN, with a `FairnessWarning`, if there is one group only.

    Raises
    ------
    ValueError
        For missing groups or labels, other lengths, bad weights, or an unknown ``pos_label``.

    Examples
    --------
    >>> from skfairft.metrics import demographic_parity_distance
    >>> demographic_parity_distance(
    ...     [0, 1, 0, 1], [1, 1, 0, 1], sensitive_features=["a", "a", "b", "b"]
    ... )
    0.5
    """
    return _distance(
        "demographic_parity", y_true, y_pred, sensitive_features, sample_weight, pos_label
    )


def equalized_odds_distance(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
) -> float:
    """Sum of the largest differences between groups in true and in false positive rate.

    ``(max_g TPR_g - min_g TPR_g) + (max_g FPR_g - min_g FPR_g)``, the paper's equalized odds
    distance: a sum, in [0, 2]. Beware when comparing numbers: fairlearn's
    ``equalized_odds_difference`` is by default the *larger* of the two terms; with
    ``agg="mean"`` it is half of this sum. With more than two classes, the largest sum over
    the classes, each against the rest.

    Parameters
    ----------
    y_true, y_pred, sensitive_features, sample_weight, pos_label
        As in `demographic_parity_distance`.

    Returns
    -------
    float
        In [0, 2]; 0 is parity. A group without positives (negatives) has no true (false)
        positive rate: a `FairnessWarning` names it, and it is left out of that difference,
        which is NaN if fewer than two groups remain. Of several classes, one whose sum is NaN
        is left out too.

    Raises
    ------
    ValueError
        As in `demographic_parity_distance`.

    Examples
    --------
    Half of group a's negatives are predicted positive and none of group b's; all positives
    are found in both:

    >>> from skfairft.metrics import equalized_odds_distance
    >>> equalized_odds_distance(
    ...     [1, 0, 0, 1, 0], [1, 1, 0, 1, 0], sensitive_features=["a", "a", "a", "b", "b"]
    ... )
    0.5
    """
    return _distance("equalized_odds", y_true, y_pred, sensitive_features, sample_weight, pos_label)


def weighted_f1_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Return the paper's error in percent, ``100 * (1 - weighted F1)``.

    The weighted F1 is the mean of the classes' F1 scores with their true frequencies as
    weights, scikit-learn's ``f1_score(average="weighted", zero_division=0)``.

    Parameters
    ----------
    y_true, y_pred, sample_weight
        As in `demographic_parity_distance`.

    Returns
    -------
    float
        In [0, 100], in percent.

    Raises
    ------
    ValueError
        For missing labels, other lengths, or bad weights.

    Examples
    --------
    >>> from skfairft.metrics import weighted_f1_error
    >>> round(weighted_f1_error([0, 0, 1, 1], [0, 0, 0, 1]), 2)
    26.67
    """
    return float(100.0 * (1.0 - weighted_f1(count_labels(y_true, y_pred, sample_weight))))


class _NoScore:
    """What a scorer returns if no groups reached it: something that is not a number.

    An exception would not do. With its default ``error_score=nan`` a search turns one into
    NaN, warns, and still declares a best candidate; but it refuses a score that is not a
    number with an error, whatever ``error_score`` is.
    """

    def __rmul__(self, sign: float) -> _NoScore:
        return self

    def __float__(self) -> float:
        raise ValueError(repr(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Refuse arithmetic, before which not all of scikit-learn looks whether it is a number."""
        raise ValueError(repr(self))

    def __repr__(self) -> str:
        return (
            f"no score, because no sensitive_features reached the scorer. {HOW_TO_ROUTE} Where "
            "none can be passed, as in permutation_importance, score with a function of "
            "(estimator, X, y) that knows the groups."
        )


class _GroupMetric:
    """A constraint's distance as a scorer calls it: groups may have failed to arrive."""

    def __init__(self, constraint: str) -> None:
        self._constraint = constraint
        self.__name__ = constraint + _DISTANCE  # shown in the scorer's repr

    def __call__(
        self, y_true: Any, y_pred: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> float | _NoScore:
        if sensitive_features is None:
            return _NoScore()
        return _distance(self._constraint, y_true, y_pred, sensitive_features, sample_weight, None)


def fairness_scorer(name: str) -> Any:
    """Return a scikit-learn scorer for the error or a distance, smaller being better.

    The scorer predicts labels and returns minus the metric. Scorers of distances already request
    ``sensitive_features``: what is passed to ``GridSearchCV.fit`` reaches them, once metadata
    routing is enabled. It need not be enabled when this is called.

    Parameters
    ----------
    name : str
        "weighted_f1_error", or a constraint of `constraint_distance` with "_distance" behind it,
        such as "demographic_parity_distance".

    Returns
    -------
    scorer
        As of `sklearn.metrics.make_scorer`. ``sample_weight`` is not requested; use
        ``set_score_request`` to decide on it where weights are routed.

    Raises
    ------
    ValueError
        For an unknown name.

    Notes
    -----
    Forgotten groups stop a search with a ValueError, even with ``error_score=nan``: the scorer
    then returns an object that is not a number, which scikit-learn refuses.

    Examples
    --------
    >>> import numpy as np, sklearn
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skfairft.metrics import fairness_scorer
    >>> rng = np.random.default_rng(0)
    >>> X, s = rng.normal(size=(200, 3)), rng.integers(2, size=200)
    >>> y = (X[:, 0] + s > 0.5).astype(int)
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     search = GridSearchCV(
    ...         LogisticRegression(), {"C": [0.1, 1.0]},
    ...         scoring=fairness_scorer("demographic_parity_distance"),
    ...     ).fit(X, y, sensitive_features=s)
    >>> search.best_params_
    {'C': 0.1}
    """
    known = ["weighted_f1_error", *(constraint + _DISTANCE for constraint in TABLE)]
    if name not in known:
        raise ValueError(
            f"Unknown scorer {name!r}.{did_you_mean(name, known)} The scorers are {sorted(known)}."
        )
    if name == "weighted_f1_error":
        return make_scorer(weighted_f1_error, greater_is_better=False)
    metric = _GroupMetric(name.removesuffix(_DISTANCE))
    scorer = make_scorer(metric, greater_is_better=False)
    # set_score_request exists only where routing is enabled. The weights' request stays None,
    # scikit-learn's default: weights that are routed without a decision are an error.
    with sklearn.config_context(enable_metadata_routing=True):
        return scorer.set_score_request(sensitive_features=True, sample_weight=None)


def fairness_report(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
    constraint: str | None = None,
    n_boot: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
) -> FairnessReport:
    """Error and rates by group, their differences and ratios, with confidence intervals.

    Point values come through fairlearn's ``MetricFrame``; the intervals are percentiles over
    bootstrap resamples of the rows. A resample of rows only matters through its cell counts,
    which are multinomial, so these are drawn directly: milliseconds for any number of rows.
    With ``sample_weight`` one count per distinct (cell, weight) is drawn, in blocks of
    memory: with 30,000 different weights about a second.

    Parameters
    ----------
    y_true, y_pred, sensitive_features, sample_weight, pos_label
        As in `demographic_parity_distance`. With weights, the column ``count`` still counts
        rows.
    constraint : str, default=None
        As in `constraint_distance`: its distance is then in the headline, too, where it is not
        there anyway.
    n_boot : int, default=1000
        Number of resamples; 0 leaves the intervals NaN.
    confidence_level : float, default=0.95
        Nominal coverage of each interval by itself, in (0, 1).
    random_state : int, RandomState, Generator or None, default=None
        Seed of the resamples. NumPy's global state is neither used nor changed.

    Returns
    -------
    FairnessReport
        Columns by group: ``count``, ``selection_rate``, ``tpr``, ``fpr``, ``error`` (share of
        wrong labels) and ``f1`` (weighted F1 inside the group), in [0, 1]. With more than two
        classes the first three rates are ``selection_rate[c]`` and so on for each class ``c``.

    Raises
    ------
    ValueError
        As in `constraint_distance`, and for ``n_boot`` or ``confidence_level`` out of range.

    Notes
    -----
    The intervals cover the sampling of these evaluation rows for one fixed set of predictions.
    They do not cover what another training run or training set would give. Resamples in which
    a statistic is undefined are left out of its interval. A rate of exactly 0 or 1 resamples
    to itself, so its interval has no width: a lack of rows, not certainty.

    A distance or difference is a maximum minus a minimum, never negative, and so biased
    upward, the more the smaller and the more numerous the groups: noise alone separates them.
    Its resamples carry that bias twice. That its interval lies above 0 is thus no evidence of
    a disparity; look at the intervals of the groups.

    Examples
    --------
    >>> from skfairft.metrics import fairness_report
    >>> y, pred = [1, 1, 0, 0] * 50, [1, 1, 1, 0, 1, 0, 0, 0] * 25
    >>> sex = ["f", "f", "f", "f", "m", "m", "m", "m"] * 25
    >>> report = fairness_report(y, pred, sensitive_features=sex, random_state=0)
    >>> report.by_group.loc["f", ["count", "selection_rate", "tpr", "fpr"]].to_dict()
    {'count': 100.0, 'selection_rate': 0.75, 'tpr': 1.0, 'fpr': 0.5}
    >>> report.headline["value"].round(3)
    weighted_f1_error              25.0
    demographic_parity_distance     0.5
    equalized_odds_distance         1.0
    Name: value, dtype: float64
    """
    if constraint is not None:
        _check_constraint(constraint)
    cells = count_cells(y_true, y_pred, sensitive_features, sample_weight, pos_label)
    if constraint is not None and constraint not in PAPER:
        cells = replace(cells, constraints=(*PAPER, constraint))
    warn_undefined(cells, cells.count(cells.weight), REPORTED)
    return build_report(
        cells,
        sensitive_features,
        n_boot=n_boot,
        confidence_level=confidence_level,
        random_state=random_state,
    )
