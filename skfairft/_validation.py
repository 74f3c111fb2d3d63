"""What `fit` checks before it starts: groups and weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight

from ._encoding import encode_groups, python_value
from .exceptions import FairnessWarning

__all__ = ["check_group_weights", "check_groups", "check_weights"]

# The importance of a group is a mean over its rows; below this many it is mostly noise.
MIN_GROUP_ROWS = 2

# Warnings point to the line that called fit, which calls check_groups.
_STACKLEVEL = 3

_ROUTING_HINT = (
    "Inside a Pipeline or GridSearchCV, enable "
    "sklearn.set_config(enable_metadata_routing=True) and call "
    ".set_fit_request(sensitive_features=True) on the classifier."
)


def check_groups(
    sensitive_features: Any, group_weights: Any, classes: NDArray[Any], labels: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return groups and codes; without sensitive features one group, and a warning.

    Parameters
    ----------
    sensitive_features : array-like of shape (n,) or (n, c), or None
        As given to `fit`.
    group_weights
        As given to the classifier.
    classes : ndarray of shape (k,)
        Class labels.
    labels : ndarray of shape (n,), int64
        Class of each row.

    Returns
    -------
    groups : ndarray of shape (G,)
        See `encode_groups`; ``["all"]`` without sensitive features.
    codes : ndarray of shape (n,), int64
        Group of each row.

    Raises
    ------
    ValueError
        As `encode_groups`, and for group weights without groups.

    Warns
    -----
    FairnessWarning
        If there are no groups, one, or some that are too thin for a statement.
    """
    if sensitive_features is not None:
        groups, codes = encode_groups(sensitive_features, len(labels))
        _report_thin_groups(groups, codes, classes, labels)
        return groups, codes
    if group_weights is not None and not isinstance(group_weights, str):
        raise ValueError(
            "group_weights are set but fit got no sensitive_features to apply them to; pass "
            "fit(X, y, sensitive_features=groups)."
        )
    warnings.warn(
        "fit got no sensitive_features: the importance is pooled over all rows, and nothing "
        "is neutralized between groups. Pass fit(X, y, sensitive_features=groups). "
        f"{_ROUTING_HINT}",
        FairnessWarning,
        stacklevel=_STACKLEVEL,
    )
    return np.array(["all"], dtype=object), np.zeros(len(labels), dtype=np.int64)


def _report_thin_groups(
    groups: NDArray[Any],
    codes: NDArray[np.int64],
    classes: NDArray[Any],
    labels: NDArray[np.int64],
) -> None:
    """Warn, with counts, of groups on which no statement about fairness can rest."""
    if len(groups) == 1:
        warnings.warn(
            f"sensitive_features is constant: all {len(codes)} rows belong to the group "
            f"{python_value(groups[0])!r}. There is nothing to neutralize; the importance is "
            "that of the whole data.",
            FairnessWarning,
            stacklevel=_STACKLEVEL + 1,
        )
        return
    cells = np.bincount(codes * len(classes) + labels, minlength=len(groups) * len(classes))
    cells = cells.reshape(len(groups), len(classes))
    notes = []
    for group, row in zip(groups, cells, strict=True):
        name = repr(python_value(group))
        if row.sum() < MIN_GROUP_ROWS:
            notes.append(f"{name} has {row.sum()} row")
        elif (row == 0).any():
            absent = [python_value(label) for label in classes[row == 0]]
            notes.append(f"{name} has no row of class {absent} among its {row.sum()}")
    if notes:
        warnings.warn(
            f"Some groups are too thin for their importance to mean much: {'; '.join(notes)}. "
            "Merge groups, gather more rows, or lower their group_weights.",
            FairnessWarning,
            stacklevel=_STACKLEVEL + 1,
        )


def check_weights(
    sample_weight: Any, class_weight: Any, classes: NDArray[Any], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return sample weights times class weights.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or None
        As given to `fit`.
    class_weight : dict, "balanced" or None
        As elsewhere in scikit-learn.
    classes, labels
        As for `check_groups`.

    Returns
    -------
    ndarray of shape (n,), float64
        Non-negative, positive somewhere in each class.

    Raises
    ------
    ValueError
        For another length, a negative or missing weight, or a class without weight.
    """
    w = _check_sample_weight(
        sample_weight, labels, dtype=np.float64, ensure_non_negative=True, copy=True
    )
    w *= compute_sample_weight(class_weight, classes[labels])
    totals = np.bincount(labels, weights=w)
    if not totals.all():
        raise ValueError(
            "sample_weight times class_weight is zero for every row of the classes "
            f"{classes[totals == 0].tolist()}; drop their rows."
        )
    return w


def check_group_weights(
    group_weights: Any, groups: NDArray[Any], counts: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the weights ``w_g`` of Eq. 2 in the order of ``groups``, with sum 1.

    Parameters
    ----------
    group_weights : None, "proportional", mapping, Series or array-like of shape (G,)
        None is 1/G each; "proportional" follows ``counts``; a mapping, or the index
        of a Series, names a weight for each group.
    groups : ndarray of shape (G,)
        The groups found in the data.
    counts : ndarray of shape (G,)
        Sum of the sample weights of each group, positive.

    Returns
    -------
    ndarray of shape (G,)
        Non-negative, sum 1.

    Raises
    ------
    ValueError
        For an unknown or missing group, another length, a negative or non-finite
        weight, weights that are all zero, or a group whose rows all have sample
        weight zero.
    """
    names = [python_value(group) for group in groups]
    if not counts.all():
        raise ValueError(
            "sample_weight times class_weight is zero for every row of the groups "
            f"{[name for name, count in zip(names, counts, strict=True) if not count]}; drop "
            "their rows."
        )
    if group_weights is None:
        return np.full(len(groups), 1.0 / len(groups))
    if isinstance(group_weights, str):
        if group_weights != "proportional":
            raise ValueError(
                f"group_weights={group_weights!r} is not known; expected None, 'proportional', a "
                f"dict or an array with one weight for each of the groups {names}."
            )
        return counts / counts.sum()
    if hasattr(group_weights, "to_dict"):  # a Series names its groups, as a dict does
        group_weights = group_weights.to_dict()
    if isinstance(group_weights, Mapping):
        unknown = [group for group in group_weights if group not in names]
        if unknown:
            raise ValueError(
                f"group_weights names the groups {unknown}, which do not occur in "
                f"sensitive_features; the groups are {names}."
            )
        absent = [name for name in names if name not in group_weights]
        if absent:
            raise ValueError(
                f"group_weights has no weight for the groups {absent}; give each group one, 0.0 "
                "for a group whose importance is not to count."
            )
        group_weights = [group_weights[name] for name in names]
    weights = np.asarray(group_weights, dtype=np.float64)
    if weights.shape != (len(groups),):
        raise ValueError(
            f"group_weights has shape {weights.shape}; expected {(len(groups),)}, one weight for "
            f"each of the groups {names}, in this order."
        )
    if not np.all(np.isfinite(weights)) or np.any(weights < 0) or weights.sum() == 0:
        raise ValueError(
            f"group_weights are {weights.tolist()}; expected finite weights >= 0, at least one of "
            "them positive."
        )
    return weights / weights.sum()
