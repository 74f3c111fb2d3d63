"""The classifier inside pipelines, searches and other estimators around it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from sklearn.base import ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

__all__ = [
    "deciding_wrapper",
    "features_input",
    "final_classifier",
    "label_probabilities",
    "path_inside",
]

# What moves a threshold alone; probabilities inside are as good.
_THRESHOLDS = ("FixedThresholdClassifier", "TunedThresholdClassifierCV")


def final_classifier(estimator: Any) -> Any:
    """Return the fitted `FairLowRankHeadClassifier` inside an estimator.

    Parameters
    ----------
    estimator : FairLowRankHeadClassifier, Pipeline, GridSearchCV, or a nest of these
        Of a pipeline its last step is taken, of a search its ``best_estimator_``, of
        what wraps one other estimator (a tuned threshold, say) that.

    Returns
    -------
    FairLowRankHeadClassifier
        The object itself, not a copy.

    Raises
    ------
    TypeError
        If there is none inside.
    NotFittedError
        If it is not fitted, or a search kept no fitted estimator (``refit=False``).

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skfairft import FairLowRankHeadClassifier
    >>> from skfairft.datasets import make_biased_classification
    >>> from skfairft.summary import final_classifier
    >>> X, y, s = make_biased_classification(n_samples=500, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), FairLowRankHeadClassifier(rank=1))
    >>> _ = pipeline.fit(X, y, fairlowrankheadclassifier__sensitive_features=s)
    >>> final_classifier(pipeline).rank_
    1
    """
    path = path_inside(estimator)
    for outer, inner in pairwise(path):
        if inner is not _fitted_inside(outer):
            check_is_fitted(outer)
            raise NotFittedError(
                f"{type(outer).__name__} is fitted but keeps no fitted classifier to predict "
                "by. Of a search, set refit=True or, with several scores, refit to the name "
                "of one; else pass the classifier itself."
            )
    check_is_fitted(path[-1], "head_")
    return path[-1]


def features_input(estimator: Any, X: Any) -> Any:
    """Return X as the classifier inside an estimator gets it.

    Parameters
    ----------
    estimator : as for `final_classifier`
        Fitted.
    X : as for ``estimator.predict``
        n rows.

    Returns
    -------
    same as X, or what the last transformer before the classifier returns
        Through the steps before the classifier, where it is in a pipeline; else X itself.

    Raises
    ------
    TypeError, NotFittedError
        As `final_classifier`.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from skfairft import FairLowRankHeadClassifier
    >>> from skfairft.datasets import make_biased_classification
    >>> from skfairft.summary import features_input
    >>> X, y, s = make_biased_classification(n_samples=500, random_state=0)
    >>> pipeline = make_pipeline(MinMaxScaler(), FairLowRankHeadClassifier(rank=1))
    >>> _ = pipeline.fit(X, y, fairlowrankheadclassifier__sensitive_features=s)
    >>> Z = features_input(pipeline, X)
    >>> Z.shape, float(Z.min()), float(Z.max().round(6))
    ((500, 10), 0.0, 1.0)
    """
    final_classifier(estimator)
    for outer in path_inside(estimator):
        if len(getattr(outer, "steps", ())) > 1:
            X = outer[:-1].transform(X)
    return X


def label_probabilities(estimator: Any, X: Any) -> Any:
    """Return an estimator's estimates of the probability of each class, and the classes.

    Parameters
    ----------
    estimator : classifier, Pipeline or search
        Fitted.
    X : as for its ``predict_proba``
        n rows.

    Returns
    -------
    probabilities : array of shape (n, k)
        Where a `FairLowRankHeadClassifier` decides, alone or by a threshold that was moved around
        it, its ``predict_label_proba``; else what ``predict_proba`` gives, as of a calibration
        around it, or of any other classifier.
    classes : ndarray of shape (k,)

    Raises
    ------
    TypeError
        For an estimator without ``predict_proba``.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=500, random_state=0)
    >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
    >>> p, classes = label_probabilities(clf, X)
    >>> p.shape, classes.tolist()
    ((500, 2), [0, 1])
    """
    try:
        own = deciding_wrapper(estimator) in (None, *_THRESHOLDS)
    except TypeError:  # it is someone else's
        own = False
    if own:
        clf = final_classifier(estimator)
        return clf.predict_label_proba(features_input(estimator, X)), clf.classes_
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"estimator is a {_kind(estimator)} without predict_proba; expected a fitted "
            "classifier that estimates probabilities, or a pipeline or search around one."
        )
    return estimator.predict_proba(X), estimator.classes_


def deciding_wrapper(estimator: Any) -> str | None:
    """Return the class of what decides around the classifier, such as a tuned threshold, or None.

    Pipelines and searches predict what the classifier inside predicts; others may not.

    Examples
    --------
    >>> from sklearn.model_selection import FixedThresholdClassifier
    >>> from skfairft import FairLowRankHeadClassifier
    >>> clf = FairLowRankHeadClassifier()
    >>> deciding_wrapper(FixedThresholdClassifier(clf)), deciding_wrapper(clf)
    ('FixedThresholdClassifier', None)
    """
    for outer in path_inside(estimator)[:-1]:
        same = hasattr(outer, "steps") or hasattr(outer, "best_estimator_")
        if not same and not isinstance(outer, FrozenEstimator):
            return type(outer).__name__
    return None


def path_inside(estimator: Any) -> list[Any]:
    """Return the estimators from the outermost one to the classifier."""
    path = [estimator]
    while not _is_head_classifier(path[-1]):
        inner = _fitted_inside(path[-1])
        if inner is None:
            inner = getattr(path[-1], "estimator", None)
        if inner is None or isinstance(path[-1], type):
            names = ", in it ".join(map(_kind, path))
            raise TypeError(
                f"Got {names}; expected a FairLowRankHeadClassifier, a Pipeline with one as its "
                "last step, or a search such as GridSearchCV over one of these."
            )
        path.append(inner)
    return path


def _is_head_classifier(estimator: Any) -> bool:
    from ..backbone.modules import ModuleParamsMixin  # with torch, that other displays do without

    # Of this package's two estimators, which share the first class, the classifier is one.
    return isinstance(estimator, ModuleParamsMixin) and isinstance(estimator, ClassifierMixin)


def _fitted_inside(estimator: Any) -> Any:
    """Return the one estimator by which another predicts; None if there is none (yet)."""
    if getattr(estimator, "steps", None):
        return estimator.steps[-1][1]
    for name in ("best_estimator_", "estimator_"):
        if hasattr(estimator, name):
            return getattr(estimator, name)
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else None


def _kind(estimator: Any) -> str:
    if isinstance(estimator, type):
        return f"the class {estimator.__name__} itself, not an object of it"
    return type(estimator).__name__
