"""From rows, and their groups if these are told, to what a fitted classifier says of them."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.utils.validation import _num_samples, check_is_fitted
from torch import nn

from .backbone.by_chunk import to_send
from .fitting import features_of
from .head.modules import cell_probabilities, head_scores, label_head
from .inputs.encoding import known_groups
from .inputs.exceptions import FairnessWarning
from .inputs.index_order import warn_of_index_order
from .inputs.lazy import computed, is_lazy
from .inputs.warn import warn_user
from .rows.blocks import Features
from .rows.chunks import by_chunk, read_chunks

__all__ = ["Estimates", "check_told", "decisions_and_estimates", "outputs"]

# Decisions, and what they rest on, as numbers in one row.
_ESTIMATES = "estimates"


def outputs(clf: Any, method: str, X: Any, sensitive_features: Any) -> Any:
    """Return what a method of a fitted classifier does.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        Fitted.
    method : {"predict", "predict_proba", "predict_log_proba", "predict_label_proba", \
"decision_function"}
        Which one.
    X, sensitive_features
        As for the method.

    Returns
    -------
    ndarray or dask.array.Array
        Of rows of Dask it is not computed yet. Groups that are told are looked up at once, in all
        rows.
    """
    check_is_fitted(clf, "head_")
    lazy = is_lazy(X)
    if lazy:
        X = read_chunks(X, counted=sensitive_features is not None)
    codes = None if sensitive_features is None else _told_codes(clf, X, sensitive_features)
    if not lazy:
        return _of_rows((clf, method), X, codes)
    sent = copy.copy(clf)
    if sent.feature_extractor_ is not None:
        sent.feature_extractor_ = to_send(sent.feature_extractor_)
    of_classes, width = method == "predict", len(clf.classes_)
    one = of_classes or (method == "decision_function" and width == 2)
    if method == _ESTIMATES:
        width += 1 + (len(clf.head_[-1].groups) if clf.solver_.votes else 0)
    return by_chunk(
        _of_rows,
        (sent, method),
        X,
        codes,
        dtype=clf.classes_.dtype if of_classes else np.float64,
        n_columns=None if one else width,
    )


def _of_rows(shared: tuple[Any, str], X: Any, codes: NDArray[np.int64] | None) -> NDArray[Any]:
    """Return what the method of a classifier does, of rows that are here."""
    clf, method = shared
    if method == _ESTIMATES:
        return _estimates(clf, features_of(clf, X), codes)
    head = label_head(clf.head_) if method == "predict_label_proba" else clf.head_
    logits = _logits(head, features_of(clf, X), codes)
    if method == "predict":
        return clf.classes_[logits.argmax(axis=1)]
    if method == "decision_function":
        return logits[:, 1] - logits[:, 0] if len(clf.classes_) == 2 else logits
    return (log_softmax if method == "predict_log_proba" else softmax)(logits, axis=1)


class Estimates(NamedTuple):
    """What the decisions of n rows rest on.

    ``labels`` (n, k) are the estimated probabilities of the classes. Of a head whose cells vote,
    ``cells`` (n, c) are those of the cells of label and group, ``of`` their codes (class, group),
    by which ``labels`` are sums; else both are None.
    """

    labels: NDArray[np.float64]
    cells: NDArray[np.float64] | None
    of: list[tuple[int, int]] | None


def decisions_and_estimates(
    clf: Any, X: Any, sensitive_features: Any = None
) -> tuple[NDArray[Any], Estimates]:
    """Return the decisions (n,) of a fitted classifier and what they rest on, of one pass.

    Parameters are as for its ``predict``. Of rows of Dask the result comes here.
    """
    (found,) = computed(outputs(clf, _ESTIMATES, X, sensitive_features))
    k = len(clf.classes_)
    decided, labels, cells = found[:, 0].astype(np.int64), found[:, 1 : k + 1], found[:, k + 1 :]
    if not clf.solver_.votes:
        return clf.classes_[decided], Estimates(labels, None, None)
    vote = clf.head_[-1]
    of = list(zip(vote.labels.tolist(), vote.groups.tolist(), strict=True))
    return clf.classes_[decided], Estimates(labels, cells, of)


def _estimates(clf: Any, Z: Features, codes: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return the class that is decided for, estimates of classes, and those of cells: (n, .)."""
    parts = [
        _logits(clf.head_, Z, codes).argmax(axis=1)[:, None],
        softmax(_logits(label_head(clf.head_), Z, codes), axis=1),
    ]
    if clf.solver_.votes:
        parts.append(cell_probabilities(clf.head_, Z).numpy())
    return np.concatenate(parts, axis=1)


def _told_codes(clf: Any, X: Any, sensitive_features: Any) -> NDArray[np.int64]:
    """Return the groups (n,) of the rows among those of `fit`, -1 where one is not known."""
    (sensitive_features,) = computed(sensitive_features)
    warn_of_index_order(X=X, sensitive_features=sensitive_features)
    check_told(clf, "sensitive_features were given to a prediction")
    return known_groups(sensitive_features, clf.groups_, _num_samples(X), clf.sensitive_names_in_)


def check_told(clf: Any, given: str) -> None:
    """Look whether a fitted classifier may be told the groups of the rows that it decides.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        Fitted.
    given : str
        What asks for it, for the error.

    Raises
    ------
    ValueError
        If its head cannot use them.

    Warns
    -----
    FairnessWarning
        If its bound is not met when it is told them.
    """
    if not clf.solver_.votes:
        raise ValueError(
            f"{given}, but heads of {clf.solver_.label()} cannot use them; leave that out, or set "
            'solver="plug_in".'
        )
    told = getattr(clf, "known_groups_", None)  # of a bound
    if told is not None and not told.met:
        missed = [each for each in told.bounds if not each.met]
        certified = clf.confidence is not None
        reached = " and ".join(
            f"their {each.form} is {each.value:.3f}, its interval {each.interval[0]:.3f} to "
            f"{each.interval[1]:.3f}"
            + (f", its limit {each.limit:.3f} for {each.bound:g}" if certified else "")
            for each in missed
        )
        warn_user(
            "A bound of fit was not met for predictions that are told the groups"
            f"{f' with confidence={clf.confidence}' * certified}: {reached}. See known_groups_.",
            FairnessWarning,
        )


def _logits(head: nn.Module, Z: Features, codes: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return the scores (n, k) of rows; they are finite."""
    told = None if codes is None else torch.from_numpy(np.array(codes))
    scores: NDArray[np.float64] = head_scores(head, Z, told).numpy()
    beyond = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(beyond):
        raise ValueError(
            f"The scores of {len(beyond)} rows of X, row {beyond[0]} first, are beyond double "
            "precision: their features are far outside of what the head was fitted on. Mend or "
            "drop such rows."
        )
    return scores
