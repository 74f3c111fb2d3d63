"""Measuring a model for its report: check at the door, predict once, count, and collect facts."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._version import __version__
from ..classifier import FairLowRankHeadClassifier
from ..displays._tradeoff_points import peer_points
from ..inputs.by_name import by_name
from ..inputs.encoding import encode_groups, one_column, python_value, to_label_array
from ..inputs.exceptions import FairnessWarning
from ..inputs.feature_table import refuse_mapping
from ..inputs.index_order import warn_of_index_order
from ..inputs.lazy import computed, is_lazy
from ..inputs.lengths import refuse_other_length
from ..inputs.warn import warn_user
from ..metrics.assembly import free_names
from ..metrics.report import FairnessReport
from ..metrics.scores import fairness_report
from ..parity.demands import Demand
from ..parity.tally import sorts_of_rows
from ..path import FairnessPath
from ..predicting import Estimates, decisions_and_estimates
from ..summary.inside import deciding_wrapper, features_input, final_classifier
from ..summary.read import summarize
from ._calibration import of_cells, of_labels
from ._facts import TITLE
from ._result import ModelReport
from ._told import as_told, check_told

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["model_report"]

_LIBRARIES = ("numpy", "scikit-learn", "torch", "skorch", "fairlearn")

# A parameter's text is cut to this; dictionaries of group weights can be long.
_MOST_CHARACTERS = 80


@by_name
def model_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    known_groups: bool = False,
    path: FairnessPath | None = None,
    peers: Any = None,
    title: str | None = TITLE,
    date: Any = None,
    n_boot: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
) -> ModelReport:
    """Measure a fitted model and report what it is, what it does to each group, and what to know.

    Pass rows that had no part in fitting the model or in choosing it.

    Parameters
    ----------
    estimator : FairLowRankHeadClassifier, or Pipeline or search around one
        Fitted. The rates are of its positive class, ``pos_label_``, the distances between its
        ``groups``.
    X : array-like, tensor, DataFrame or sequence, n rows
        As for its `predict`; each row is predicted once. Of a collection of Dask that is done chunk
        by chunk, where these lie; decisions and estimates, some numbers for each row, come here.
    y : array-like of shape (n,)
        True labels, of the classes of the fit. As groups and weights they may be a collection of
        Dask, see `skfairft.metrics.fairness_report`.
    sensitive_features : array-like of shape (n,) or (n, c)
        Group of each row, for the measurement only unless ``known_groups``; several columns stand
        for their intersections. They may be other groups than those of the fit.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows in all rates; counts stay numbers of rows.
    known_groups : bool, default=False
        Measure ``predict(X, sensitive_features=sensitive_features)``, for use where the groups of
        the rows are known and may be used; the report says so.
    path : FairnessPath, default=None
        The trade-off to show. If the model is one of its points, that point is marked.
    peers : mapping, DataFrame or None, default=None
        Other systems to draw beside the path, as for `FairnessTradeoffDisplay.from_path`.
    title : str or None, default="Model report"
        Heading of the page; None, and an empty text, are the default.
    date : str or date, default=None
        Shown as given. None shows none, so that the same report is the same text.
    n_boot : int, default=1000
        Resamples behind the intervals of F1 and of the error, 100 - F1; 0 for none.
    confidence_level : float, default=0.95
        Nominal coverage of each interval.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the resamples.

    Returns
    -------
    ModelReport
        With ``to_html()``, ``save(file)``, ``to_card()`` and ``to_markdown()``.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        For an estimator without a FairLowRankHeadClassifier, or a path that is none.
    ValueError
        For missing groups, other lengths, labels that the model was not fitted on, labels of
        one class only, peers without a path or not in one of their forms, or ``known_groups`` of a
        model that cannot use them.

    Warns
    -----
    FairnessWarning
        For groups that were not seen in the fit, and as `fairness_report` for rates that are
        undefined. Both also stand among the caveats.

    See Also
    --------
    fairness_report : The tables by group alone, of any predictions.
    fairness_path : Computes a path.

    Examples
    --------
    >>> from sklearn.model_selection import train_test_split
    >>> from skfairft import FairLowRankHeadClassifier, model_report
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=2000, disparity=0.4, random_state=0)
    >>> X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, random_state=0)
    >>> clf = FairLowRankHeadClassifier(
    ...     constraint="demographic_parity", difference_bound=0.1, confidence=0.95,
    ...     solver="plug_in", random_state=0,
    ... ).fit(X, y, sensitive_features=s)
    >>> report = model_report(clf, X_test, y_test, sensitive_features=s_test, random_state=0)
    >>> int(report.counts.to_numpy().sum()) == len(y_test)
    True
    >>> report.save("report.html")
    """
    clf = final_classifier(estimator)
    summary, wrapper = summarize(estimator), deciding_wrapper(estimator)
    if known_groups:
        check_told(clf, wrapper)
        # A search passes nothing on to the predict of what it found.
        estimator = getattr(estimator, "best_estimator_", estimator)
        summary = as_told(summary, clf)
    _check_path(path, peers)
    if path is not None and path.known_groups != known_groups:
        raise ValueError(
            f"path has known_groups={path.known_groups}, but the report known_groups="
            f"{known_groups}; set both alike, so that curve and rates are of the same predictions."
        )
    if path is not None and path.pos_label != clf.pos_label_:
        raise ValueError(
            f"path has pos_label={path.pos_label!r}, but the model pos_label_={clf.pos_label_!r}; "
            "draw a path of the same pos_label, so that curve and rates are of the same class."
        )
    if path is not None and path.groups != clf.groups:
        raise ValueError(
            f"path has groups={path.groups!r}, but the model groups={clf.groups!r}; draw a path of "
            "the same groups, so that curve and rates are of the same distance."
        )
    refuse_mapping(X)
    if sensitive_features is None:
        raise ValueError(
            "sensitive_features is None, but the report compares groups: pass the group of each "
            "row of X, an array, a list or a column such as frame['sex']."
        )
    truth = one_column(y)
    for given, name, one in ((truth, "y", "label"), (sample_weight, "sample_weight", "weight")):
        if given is not None and not (is_lazy(given) or is_lazy(X)):
            refuse_other_length(given, name, X, one=one)
    columns, tally = sorts_of_rows({"y": truth, "sensitive_features": sensitive_features})
    labels, rows = to_label_array(columns["y"]), tally and tally.rows
    groups, codes = encode_groups(columns["sensitive_features"], len(labels))
    warn_of_index_order(
        X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
    )
    label_codes = _label_codes(labels, clf.classes_, rows)
    if summary.groups_given:
        _warn_unseen(groups.tolist(), clf.groups_.tolist())
    told = {"sensitive_features": sensitive_features} if known_groups else {}
    decided, estimates = _decided(estimator, clf, wrapper, X, told)
    fairness = _measured(
        truth,
        decided,
        groups=clf.groups,
        sensitive_features=sensitive_features,
        sample_weight=sample_weight,
        pos_label=clf.pos_label_,
        constraint=summary.constraints,
        **_bounds_of(summary.demands),
        n_boot=n_boot,
        confidence_level=confidence_level,
        random_state=random_state,
    )
    label_table, cell_table = None, None
    if estimates is not None:
        y, s, w = computed(truth, sensitive_features, sample_weight)
        label_table = of_labels(clf, estimates, y, s, w, clf.pos_label_, confidence_level)
        cell_table = None if told else of_cells(clf, estimates, y, s, w, confidence_level)
    return ModelReport(
        title=title,
        summary=summary,
        fairness=fairness,
        counts=_counts(label_codes, codes, rows, clf.classes_, fairness),
        calibration=label_table,
        cell_calibration=cell_table,
        group_importance=clf.group_importance_,
        importance=clf.importance_,
        singular_values=clf.singular_values_,
        features=_feature_names(clf),
        path=path,
        chosen=None if path is None or wrapper is not None else _row_of(path, clf),
        peers=peers,
        parameters=_parameters(clf),
        versions=_versions(clf),
        weighted=sample_weight is not None,
        known_groups=known_groups,
        wrapper=wrapper,
        date=date,
    )


def _decided(
    estimator: Any,
    clf: FairLowRankHeadClassifier,
    wrapper: str | None,
    X: Any,
    told: dict[str, Any],
) -> tuple[Any, Estimates | None]:
    """Return decisions, and what they rest on where the classifier makes them; of one pass."""
    own = type(clf).predict is FairLowRankHeadClassifier.predict
    if wrapper is not None or not own:
        return estimator.predict(X, **told), None
    return decisions_and_estimates(clf, features_input(estimator, X), **told)


def _check_path(path: Any, peers: Any) -> None:
    if path is not None and not isinstance(path, FairnessPath):
        raise TypeError(
            f"path is a {type(path).__name__}; expected the FairnessPath that fairness_path "
            "returns. (A file name goes to the report's save.)"
        )
    if peers is not None and path is None:
        raise ValueError("peers are drawn beside a path, but path is None; pass path=, too.")
    peer_points(peers)


def _label_codes(
    labels: NDArray[Any], classes: NDArray[Any], rows: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return the code of each label's class, shape (m,), or say which labels the model has not.

    ``rows`` (m,) are the numbers of rows that have them; None is one each.
    """
    number = {label: code for code, label in enumerate(classes.tolist())}
    given, codes = encode_groups(labels, len(labels), name="y")
    unknown = [label for label in given.tolist() if label not in number]
    if unknown:
        raise ValueError(
            f"y holds {unknown[:5]}, but the model was fitted on the classes {classes.tolist()}; "
            "pass the labels in the same form, and leave other rows out."
        )
    if len(given) < 2:
        n_rows = len(labels) if rows is None else rows.sum()
        raise ValueError(
            f"y holds one class only, {given.tolist()[0]!r} in all {n_rows} rows; the report "
            "compares true and false positive rates, which takes rows of at least two classes."
        )
    return np.array([number[label] for label in given.tolist()])[codes]


def _warn_unseen(groups: list[Any], fitted: list[Any]) -> None:
    unseen = [group for group in groups if group not in fitted]
    if unseen:
        warn_user(
            f"The model was fitted with the groups {fitted[:5]}{' ...' * (len(fitted) > 5)}; it "
            f"has not seen {unseen[:5]}{' ...' * (len(unseen) > 5)}, {len(unseen)} of the "
            f"{len(groups)} groups of these rows. They are in the report, with a caveat.",
            FairnessWarning,
        )


def _measured(*args: Any, **kwargs: Any) -> FairnessReport:
    """Return the fairness report; its warnings point to the caller's line, not to this one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FairnessWarning)
        fairness = fairness_report(*args, **kwargs)
    for each in caught:
        warn_user(str(each.message), each.category)
    return fairness


def _bounds_of(demands: Sequence[Demand]) -> dict[str, list[float | None]]:
    """Return the bounds of a model as those of a fairness report: a list of each kind."""
    names = list(dict.fromkeys(demand.constraint for demand in demands))
    if not names:
        return {}
    found: dict[str, list[float | None]] = {
        "difference_bound": [None] * len(names),
        "ratio_bound": [None] * len(names),
    }
    for demand in demands:
        kind = "ratio_bound" if demand.ratio else "difference_bound"
        found[kind][names.index(demand.constraint)] = demand.bound
    return found


def _counts(
    label_codes: NDArray[np.int64],
    codes: NDArray[np.int64],
    rows: NDArray[np.int64] | None,
    classes: NDArray[Any],
    fairness: FairnessReport,
) -> pd.DataFrame:
    """Return the number of rows by group, in the order of the report, and class."""
    index = fairness.by_group.index
    table = np.zeros((len(index), len(classes)), dtype=np.int64)
    np.add.at(table, (codes, label_codes), 1 if rows is None else rows)
    import pandas as pd

    # A group's column may be called as a class is.
    labels = classes.tolist()
    index = index.set_names(free_names([*map(str, index.names)], {"class", *labels}))
    return pd.DataFrame(table, index=index, columns=pd.Index(labels, name="class"))


def _row_of(path: FairnessPath, clf: FairLowRankHeadClassifier) -> int | None:
    """Return the row of the path whose head is the classifier's, even if it was loaded from a file.

    Heads are compared, not settings: a path of other rows has the same settings.
    """
    mine, found = clf.head_.state_dict(), []
    for row, other in zip(path.table.index, path.classifiers, strict=True):
        theirs = other.head_.state_dict()
        if mine.keys() == theirs.keys() and all(
            torch.equal(mine[name], theirs[name]) for name in mine
        ):
            found.append((other.fairness_weight_ != clf.fairness_weight_, int(row)))
    # Two weights can lead to one head.
    return min(found)[1] if found else None


def _feature_names(clf: FairLowRankHeadClassifier) -> tuple[str, ...] | None:
    """Return the names of the head's features where they are the columns of X."""
    if clf.feature_extractor_ is not None or not hasattr(clf, "feature_names_in_"):
        return None
    return tuple(map(str, clf.feature_names_in_))


def _parameters(clf: FairLowRankHeadClassifier) -> dict[str, tuple[str, bool]]:
    """Return each parameter as text, those of a solver too, and whether it is not the default."""
    defaults, given = type(clf)().get_params(deep=False), clf.get_params(deep=False)
    if not isinstance(clf.solver, str):
        changed = clf.solver.changed()
        for name, value in clf.solver.get_params(deep=False).items():
            given[f"solver__{name}"] = value
            # What is not given may be anything but what is.
            defaults[f"solver__{name}"] = ... if name in changed else value
    found = {
        name: (_as_text(value), _as_text(value) != _as_text(defaults[name]))
        for name, value in given.items()
    }
    if not isinstance(clf.C, Number):  # the fit has found one, or taken its solver's
        text, is_set = found["C"]
        found["C"] = f"{text} ({clf.C_:.6g} in use)", is_set
    return found


def _as_text(value: Any) -> str:
    """Return a parameter in a few characters; of an object, its class: its repr may hold paths."""
    value = python_value(value)
    if isinstance(value, (list, tuple)):
        text = f"[{', '.join(map(_as_text, value))}]"
    elif isinstance(value, dict):
        text = f"{{{', '.join(f'{_as_text(k)}: {_as_text(v)}' for k, v in value.items())}}}"
    elif value is None or isinstance(value, (str, bool, Number, np.ndarray)):
        text = " ".join(repr(value).split())
    else:
        text = value.__name__ if isinstance(value, type) else type(value).__name__
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."


def _versions(clf: FairLowRankHeadClassifier) -> dict[str, str]:
    """Return the versions of what was used, also of what the backbone and preprocess come from."""
    extractor = clf.feature_extractor_
    parts = [] if extractor is None else [extractor.preprocess, *extractor.module.modules()]
    homes = {str(getattr(part, "__module__", None)).partition(".")[0] for part in parts}
    libraries = {}
    for name in [*_LIBRARIES, *sorted(homes - {__name__.partition(".")[0]})]:
        with suppress(PackageNotFoundError):  # such as the user's own module
            libraries[name] = version(name)
    return {"skfairft": __version__, "Python": platform.python_version(), **libraries}
