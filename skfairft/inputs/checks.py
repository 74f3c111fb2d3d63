"""What `fit` checks before it starts: groups and weights."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight

from .encoding import IN_FIT, encode_groups, python_value
from .exceptions import FairnessWarning
from .lengths import refuse_other_length
from .tables import number_column
from .warn import warn_user
from .words import joined, listed, shown

__all__ = [
    "LARGEST",
    "check_group_weights",
    "check_groups",
    "check_groups_have_classes",
    "check_weights",
    "class_factors",
    "found_weights",
]

LARGEST = 1e100
"""Sums of squares of such numbers, times weights, are still far from the limits of float64."""

# The importance of a group is a mean over its rows; below this many it is mostly noise.
MIN_GROUP_ROWS = 2
# Up to so many groups may be as small as they are; more of them need some rows each.
_FEW_GROUPS, _ROWS_PER_GROUP = 20, 5

_ROUTING_HINT = (
    "Inside a Pipeline or GridSearchCV, enable "
    "sklearn.set_config(enable_metadata_routing=True) and call "
    ".set_fit_request(sensitive_features=True) on the classifier."
)


def check_groups(
    sensitive_features: Any,
    group_weights: Any,
    classes: NDArray[Any],
    labels: NDArray[np.int64],
    *,
    needed_by: str | None = None,
    missing: str = "error",
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
    needed_by : str or None
        The parameter that makes no sense without at least two groups.
    missing : {"error", "estimate"}, default="error"
        As for `encode_groups`.

    Returns
    -------
    groups : ndarray of shape (G,)
        See `encode_groups`; ``["all"]`` without sensitive features.
    codes : ndarray of shape (n,), int64
        Group of each row, -1 where it is not known.

    Raises
    ------
    ValueError
        As `encode_groups`, for group weights without groups, for fewer than two groups
        where they are needed, and for so many that they have hardly any rows each.

    Warns
    -----
    FairnessWarning
        If there are no groups, one, some that are too thin for a statement, or so many numbers
        that they seem to be measured.
    """
    if sensitive_features is not None:
        groups, codes = encode_groups(
            sensitive_features, len(labels), missing=missing, instead=IN_FIT
        )
        known = codes >= 0
        if needed_by is not None and len(groups) == 1:
            raise ValueError(
                f"{needed_by} needs at least two groups to compare, but all {known.sum()} rows "
                f"{'' if known.all() else 'whose group is known '}belong to the group "
                f"{shown(python_value(groups[0]))}."
            )
        _refuse_scattered(groups, int(known.sum()))
        _report_thin_groups(groups, codes[known], classes, labels[known])
        return groups, codes
    if needed_by is not None:
        raise ValueError(
            f"{needed_by} needs groups, but fit got no sensitive_features; pass "
            f"fit(X, y, sensitive_features=groups). {_ROUTING_HINT}"
        )
    if group_weights is not None and not isinstance(group_weights, str):
        raise ValueError(
            "group_weights are set but fit got no sensitive_features to apply them to; pass "
            "fit(X, y, sensitive_features=groups)."
        )
    warn_user(
        "fit got no sensitive_features: the importance is pooled over all rows, and nothing "
        "is neutralized between groups. Pass fit(X, y, sensitive_features=groups). "
        f"{_ROUTING_HINT}",
        FairnessWarning,
    )
    return np.array(["all"], dtype=object), np.zeros(len(labels), dtype=np.int64)


def _refuse_scattered(groups: NDArray[Any], n_rows: int) -> None:
    """Refuse groups of hardly any rows each, and warn of many that are numbers."""
    if len(groups) <= _FEW_GROUPS:
        return
    numbers = groups.dtype.kind in "fiu"
    what = f"sensitive_features has {len(groups)} groups"
    if numbers:
        low, high = python_value(groups.min()), python_value(groups.max())
        what = f"sensitive_features has {len(groups)} distinct numbers from {low:g} to {high:g}"
    bins = "Is it continuous? Cut it into a few ranges, for example pandas.cut(values, 4)."
    if n_rows < _ROWS_PER_GROUP * len(groups):
        raise ValueError(
            f"{what} among {n_rows} rows, fewer than {_ROWS_PER_GROUP} rows a group: nothing can "
            f"be said of any. {bins if numbers else 'Merge groups, or pass fewer columns.'}"
        )
    if numbers:
        warn_user(f"{what}, each of which is a group of its own. {bins}", FairnessWarning)


def _report_thin_groups(
    groups: NDArray[Any],
    codes: NDArray[np.int64],
    classes: NDArray[Any],
    labels: NDArray[np.int64],
) -> None:
    """Warn, with counts, of groups on which no statement about fairness can rest."""
    if len(groups) == 1:
        warn_user(
            f"sensitive_features is constant: all {len(codes)} rows belong to the group "
            f"{shown(python_value(groups[0]))}. There is nothing to neutralize; the importance is "
            "that of the whole data.",
            FairnessWarning,
        )
        return
    cells = np.bincount(codes * len(classes) + labels, minlength=len(groups) * len(classes))
    cells = cells.reshape(len(groups), len(classes))
    notes = []
    for group, row in zip(groups, cells, strict=True):
        name = shown(python_value(group))
        if row.sum() < MIN_GROUP_ROWS:
            notes.append(f"{name} has {row.sum()} row")
        elif (row == 0).any():
            absent = listed(map(python_value, classes[row == 0]))
            notes.append(f"{name} has no row of class [{absent}] among its {row.sum()}")
    if notes:
        warn_user(
            f"Some groups are too thin for their importance to mean much: {joined(notes)}. "
            "Merge groups, gather more rows, or lower their group_weights.",
            FairnessWarning,
        )


def check_groups_have_classes(
    needed_by: str,
    classes: NDArray[Any],
    groups: NDArray[Any],
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    w: NDArray[np.float64],
) -> None:
    """Refuse groups without rows of some class.

    Parameters
    ----------
    needed_by : str
        The parameter that needs them.
    classes, groups : ndarray
        Encoded by ``labels`` and ``codes``.
    labels, codes : ndarray of shape (n,), int64
        Class and group of each row.
    w : ndarray of shape (n,)
        Sample weights; rows of weight zero are none.

    Raises
    ------
    ValueError
        Naming the groups and the classes.
    """
    cells = np.bincount(
        (codes * len(classes) + labels)[w > 0], minlength=len(groups) * len(classes)
    )
    notes = [
        f"{shown(python_value(group))} has no row of class "
        f"[{listed(map(python_value, classes[row == 0]))}]"
        for group, row in zip(groups, cells.reshape(len(groups), -1), strict=True)
        if not row.all()
    ]
    if notes:
        raise ValueError(
            f"{needed_by} fits a head on the rows of each group, which need rows of all classes: "
            f"{joined(notes)}. Merge groups, gather more rows, or take another importance."
        )


def class_factors(
    class_weight: Any, classes: NDArray[Any], labels: NDArray[np.int64], w: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what multiplies the weights of each class's rows.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        As elsewhere in scikit-learn. "balanced" makes the classes' total weights equal: a weight
        of 2 stands for the row twice.
    classes, labels
        As for `check_groups`.
    w : ndarray of shape (n,)
        Sample weights.

    Returns
    -------
    ndarray of shape (k,), float64

    Raises
    ------
    ValueError
        For a negative or missing weight.

    Examples
    --------
    >>> class_factors("balanced", np.array([0, 1]), np.array([0, 0, 1]), np.array([1.0, 2.0, 1.0]))
    array([0.66666667, 2.        ])
    """
    totals = np.bincount(labels, weights=w, minlength=len(classes))
    if isinstance(class_weight, str):
        return w.sum() / (len(classes) * np.where(totals > 0.0, totals, 1.0))
    factors = np.ones(len(classes))
    factors[labels] = compute_sample_weight(class_weight, classes[labels])
    if not (factors >= 0.0).all():
        raise ValueError(
            f"class_weight={class_weight!r} has a negative or missing weight; expected numbers of "
            "at least 0."
        )
    return factors


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
        For another length, a negative, missing or extreme weight, or a class without weight.
    """
    if sample_weight is not None and not isinstance(sample_weight, Real):
        sample_weight = number_column(sample_weight, "sample_weight")
        refuse_other_length(sample_weight, "sample_weight", labels, one="weight")
    w = _check_sample_weight(
        sample_weight, labels, dtype=np.float64, ensure_non_negative=True, copy=True
    )
    w *= class_factors(class_weight, classes, labels, w)[labels]
    counted = w[w > 0]
    odd = counted[(counted < 1.0 / LARGEST) | (counted > LARGEST)]
    if len(odd):
        raise ValueError(
            f"sample_weight times class_weight is {odd[0]:.3g} for some row; expected 0, or a "
            f"number of {1.0 / LARGEST:g} to {LARGEST:g}. A weight of 2 stands for the row twice."
        )
    totals = np.bincount(labels, weights=w)
    if not totals.all():
        raise ValueError(
            "sample_weight times class_weight is zero for every row of the classes "
            f"[{listed(map(python_value, classes[totals == 0]))}]; drop their rows."
        )
    return w


def found_weights(group_weights: Any) -> tuple[Any, bool]:
    """Return group weights, and whether they are to be found; until then they are equal.

    Examples
    --------
    >>> found_weights("minimax"), found_weights("proportional")
    ((None, True), ('proportional', False))
    """
    minimax = isinstance(group_weights, str) and group_weights == "minimax"
    return None if minimax else group_weights, minimax


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
            f"[{listed(name for name, n in zip(names, counts, strict=True) if not n)}]; drop "
            "their rows."
        )
    if group_weights is None:
        return np.full(len(groups), 1.0 / len(groups))
    if isinstance(group_weights, str):
        if group_weights != "proportional":
            raise ValueError(
                f"group_weights={group_weights!r} is not known; expected None, 'proportional', "
                "'minimax', a dict or an array with one weight for each of the groups "
                f"[{listed(names)}]."
            )
        return counts / counts.sum()
    if hasattr(group_weights, "to_dict"):  # a Series names its groups, as a dict does
        group_weights = group_weights.to_dict()
    if isinstance(group_weights, Mapping):
        unknown = [group for group in group_weights if group not in names]
        if unknown:
            raise ValueError(
                f"group_weights names the groups [{listed(unknown)}], which do not occur in "
                f"sensitive_features; the groups are [{listed(names)}]."
            )
        absent = [name for name in names if name not in group_weights]
        if absent:
            raise ValueError(
                f"group_weights has no weight for the groups [{listed(absent)}]; give each group "
                "one, 0.0 for a group whose importance is not to count."
            )
        group_weights = [group_weights[name] for name in names]
    try:
        weights = np.asarray(group_weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"group_weights={group_weights!r}; expected None, 'proportional', 'minimax', a dict or "
            f"numbers, one for each of the groups [{listed(names)}]."
        ) from None
    if weights.shape != (len(groups),):
        raise ValueError(
            f"group_weights has shape {weights.shape}; expected {(len(groups),)}, one weight for "
            f"each of the groups [{listed(names)}], in this order."
        )
    if not np.all(np.isfinite(weights)) or np.any(weights < 0) or weights.sum() == 0:
        raise ValueError(
            f"group_weights are {weights.tolist()}; expected finite weights >= 0, at least one of "
            "them positive."
        )
    weights = weights / weights.max()  # whose sum cannot overflow
    return weights / weights.sum()
