"""Scorers of the error and of distances, to which groups are routed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sklearn
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, make_scorer

from ..inputs.words import did_you_mean, shown
from ..parity.cells import HOW_TO_ROUTE
from ..parity.levels import check_groups_word
from ..parity.table import by_metric, by_ratio
from .scores import distance_of, weighted_f1_error

__all__ = ["fairness_scorer"]

# What `make_scorer` makes; searches let several of these share their predictions.
_SCORER = type(make_scorer(accuracy_score))


class _NoScore:
    """What a scorer returns if no groups reached it: something that is not a number.

    An exception would not do. With its default ``error_score=nan`` a search turns one into
    NaN, warns, and still declares a best candidate; but it refuses a score that is not a
    number with an error, whatever ``error_score`` is.
    """

    def __init__(self, why: str = "") -> None:
        self._why = why

    def __rmul__(self, sign: float) -> _NoScore:
        return self

    def __neg__(self) -> _NoScore:
        return self

    def __float__(self) -> float:
        raise ValueError(repr(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Refuse arithmetic, before which not all of scikit-learn looks whether it is a number."""
        raise ValueError(repr(self))

    def __repr__(self) -> str:
        return self._why or (
            f"no score, because no sensitive_features reached the scorer. {HOW_TO_ROUTE} Where "
            "none can be passed, as in permutation_importance, score with a function of "
            "(estimator, X, y) that knows the groups."
        )


class _GroupMetric:
    """A distance or a ratio as a scorer calls it: groups may have failed to arrive."""

    def __init__(self, name: str, pos_label: Any, groups: str) -> None:
        self._ratio = name in by_ratio()
        self._constraint = (by_metric() | by_ratio())[name]
        self._pos_label, self._groups = pos_label, groups
        self.__name__ = name  # shown in the scorer's repr

    def __call__(
        self,
        y_true: Any,
        y_pred: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
        pos_label: Any = None,
    ) -> float | _NoScore:
        if sensitive_features is None:
            return _NoScore()
        own = self._pos_label is not None
        found = distance_of(
            *(self._constraint, y_true, y_pred, sensitive_features, sample_weight),
            self._pos_label if own else pos_label,
            self._groups,
            ratio=self._ratio,
            absent=not own,  # a classifier's positive class need not be among some rows
        )
        return 1.0 - found if self._ratio else found


class _GroupScorer(_SCORER):  # type: ignore[misc,valid-type]
    """scikit-learn's scorer, which tells the metric the positive class of what it scores."""

    def _score(self, method_caller: Any, estimator: Any, *args: Any, **kwargs: Any) -> Any:
        positive = _positive_of(estimator)
        told = {} if positive is None else {"pos_label": positive}
        return super()._score(method_caller, estimator, *args, **kwargs, **told)


class _ToldScorer:
    """A scorer that passes the groups to `predict`, too; routed as another one is.

    Parameters
    ----------
    metric : callable
        Of true labels, predictions and groups.
    routed : scorer
        With the requests.
    sign : float
        That the metric is multiplied by.
    """

    def __init__(self, metric: Callable[..., Any], routed: Any, sign: float) -> None:
        self._metric, self._routed, self._sign = metric, routed, sign

    def __call__(
        self, estimator: Any, X: Any, y_true: Any, sample_weight: Any = None, **routed: Any
    ) -> Any:
        groups = routed.get("sensitive_features")
        if groups is None:
            return _NoScore()
        try:
            predicted = estimator.predict(X, sensitive_features=groups)
        except Exception as error:  # which a search would turn into NaN
            return _NoScore(f"no score, because predict did not take the groups: {error}")
        given = {} if sample_weight is None else {"sample_weight": sample_weight}
        given |= {"sensitive_features": groups, "pos_label": _positive_of(estimator)}
        return self._sign * self._metric(y_true, predicted, **given)

    def set_score_request(self, **requests: Any) -> _ToldScorer:
        """Say what is to be passed on; as of other scorers."""
        self._routed.set_score_request(**requests)
        return self

    def get_metadata_routing(self) -> Any:
        """Return what is to be passed on."""
        return self._routed.get_metadata_routing()

    def __repr__(self) -> str:
        return f"{self._routed!r}, told the groups"


def _positive_of(estimator: Any) -> Any:
    """Return the positive class of a model, or of the one inside of it; None if it says none."""
    while estimator is not None and not hasattr(estimator, "pos_label_"):
        steps = getattr(estimator, "steps", None)
        inside = getattr(estimator, "best_estimator_", getattr(estimator, "estimator_", None))
        estimator = steps[-1][1] if steps else inside
    return getattr(estimator, "pos_label_", None)


def _error(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
) -> float:
    """Return the error; the groups have told the classifier only."""
    return weighted_f1_error(y_true, y_pred, sample_weight=sample_weight)


def fairness_scorer(
    name: str,
    *,
    known_groups: bool = False,
    pos_label: Any = None,
    groups: str = "intersections",
) -> Any:
    """Return a scikit-learn scorer for the error, a distance or a ratio.

    The scorer predicts labels and returns minus the metric, of a ratio the ratio: more is better.
    Scorers of distances and ratios already request
    ``sensitive_features``: what is passed to ``GridSearchCV.fit`` reaches them, once metadata
    routing is enabled. It need not be enabled when this is called.

    Parameters
    ----------
    name : str
        "weighted_f1_error", "worst_group_error", "worst_error_rate", or another constraint of
        `constraint_distance` with "_distance" behind it, such as "demographic_parity_distance",
        or with "_ratio", as in `constraint_ratio`.
    known_groups : bool, default=False
        Pass the groups to `predict`, too, for use where they are known: of classifiers that take
        them there. In pipelines that needs ``set_predict_request(sensitive_features=True)``.
    pos_label : label, default=None
        The positive label of a distance, as in `constraint_distance`. None is that of the
        classifier that is scored, or that is inside of the pipeline or search, where it has one
        (``pos_label_``). The error has none.
    groups : {"intersections", "columns"}, default="intersections"
        Between what a distance is, as in `demographic_parity_distance`; as the classifier's.

    Returns
    -------
    scorer
        As of `sklearn.metrics.make_scorer`. ``sample_weight`` is not requested; use
        ``set_score_request`` to decide on it where weights are routed.

    Raises
    ------
    ValueError
        For an unknown name, other ``groups``, and for a ``pos_label`` or ``groups`` of the error.

    Notes
    -----
    Forgotten groups stop a search with a ValueError, even with ``error_score=nan``: the scorer
    then returns an object that is not a number, which scikit-learn refuses.

    Called with collections of Dask a scorer counts these by chunk, as the metrics do.

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
    known = ["weighted_f1_error", *by_metric(), *by_ratio()]
    if name not in known:
        raise ValueError(
            f"Unknown scorer {name!r}.{did_you_mean(name, [known[0], *by_metric()])} The scorers "
            f"are {sorted([known[0], *by_metric()])}; of constraints that compare rates also with "
            '"_ratio" in place of "_distance".'
        )
    error = name == "weighted_f1_error"
    if error and pos_label is not None:
        raise ValueError(
            f"pos_label={shown(pos_label)}, but weighted_f1_error is one of all classes; leave it "
            "out, or score by a distance."
        )
    check_groups_word(groups)
    if error and groups != "intersections":
        raise ValueError(
            f"groups={shown(groups)}, but weighted_f1_error is one of all rows; leave it out, or "
            "score by a distance."
        )
    if error and not known_groups:
        return make_scorer(weighted_f1_error, greater_is_better=False)
    metric = _error if error else _GroupMetric(name, pos_label, groups)
    more = name in by_ratio()
    scorer = make_scorer(metric, greater_is_better=more)
    scorer.__class__ = _GroupScorer
    # set_score_request exists only where routing is enabled. The weights' request stays None,
    # scikit-learn's default: weights that are routed without a decision are an error.
    with sklearn.config_context(enable_metadata_routing=True):
        scorer.set_score_request(sensitive_features=True, sample_weight=None)
    return _ToldScorer(metric, scorer, 1.0 if more else -1.0) if known_groups else scorer
