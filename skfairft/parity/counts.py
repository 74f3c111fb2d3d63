"""Rows counted by group, true label and predicted label, and what follows from the counts.

Everything that `skfairft.metrics` says is a function of one table, the (weighted) number
of rows in each cell (group, true label, predicted label), found in one pass over the rows:

========== ================= ===================================================
``counts`` (..., G, k, k)    sum of the weights in the cell [g, true, predicted];
                             leading axes, if any, are bootstrap resamples
a rate     (..., G, c)       of each group, for each of the c positive labels
a distance (...,)            largest rate minus smallest rate over the G groups
========== ================= ===================================================
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.encoding import encode_groups, in_order, to_label_array
from ..inputs.exceptions import FairnessWarning
from ..inputs.index_order import warn_of_index_order
from ..inputs.tables import number_column
from ..inputs.words import shown

__all__ = [
    "HOW_TO_ROUTE",
    "Cells",
    "by_label",
    "count_cells",
    "count_labels",
    "demographic_parity",
    "denominators",
    "equalized_odds",
    "rates_of",
    "statistics",
    "warn_undefined",
    "weighted_f1",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Statistics = dict[str, dict[str, Floats]]  # arrays by scope and metric

# A warning that lists more rates than this no longer helps; the rest is counted.
_MAX_LISTED = 8

HOW_TO_ROUTE = (
    "In a search or cross-validation call sklearn.set_config(enable_metadata_routing=True), use "
    "scoring=fairness_scorer(...), and pass the groups to fit: "
    "GridSearchCV(...).fit(X, y, sensitive_features=s)."
)


@dataclass(frozen=True)
class Cells:
    """Rows counted by group, true label and predicted label."""

    groups: Array  # (G,)
    labels: Array  # (k,), sorted union of true and predicted labels
    positives: NDArray[np.int64]  # (c,), codes of the labels that are positive in turn
    code: NDArray[np.int64]  # (n,), flat index of each row's cell
    weight: Floats | None  # (n,)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (G, k, k) of a table of counts."""
        return len(self.groups), len(self.labels), len(self.labels)

    def count(self, weight: Floats | None) -> Floats:
        """Return the table (G, k, k); without weights, of plain row numbers."""
        flat = np.bincount(self.code, weights=weight, minlength=int(np.prod(self.shape)))
        return flat.reshape(self.shape).astype(np.float64)


def count_cells(
    y_true: Any, y_pred: Any, sensitive_features: Any, sample_weight: Any, pos_label: Any
) -> Cells:
    """Validate, encode, and find each row's cell."""
    if sensitive_features is None:
        raise ValueError(
            "sensitive_features is None, but a distance between groups needs the group of each "
            f"row: pass sensitive_features=, an array with one group per row. {HOW_TO_ROUTE}"
        )
    labels, true, pred = _encode_labels(y_true, y_pred)
    n = len(true)
    groups, codes = encode_groups(sensitive_features, n, rows_of="y_true")
    warn_of_index_order(
        y_true=y_true,
        y_pred=y_pred,
        sensitive_features=sensitive_features,
        sample_weight=sample_weight,
    )
    labels, positives = _positive_labels(labels, pos_label)
    code = (codes * len(labels) + true) * len(labels) + pred
    return Cells(groups, labels, positives, code, _check_weight(sample_weight, n))


def count_labels(y_true: Any, y_pred: Any, sample_weight: Any) -> Floats:
    """Return the table (k, k) of all rows, without groups."""
    labels, true, pred = _encode_labels(y_true, y_pred)
    weight = _check_weight(sample_weight, len(true))
    k = len(labels)
    counts = np.bincount(true * k + pred, weights=weight, minlength=k * k)
    return counts.reshape(k, k).astype(np.float64)


def _encode_labels(y_true: Any, y_pred: Any) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted union (k,) of the labels, and both arrays as codes (n,)."""
    true, pred = to_label_array(y_true, name="y_true"), to_label_array(y_pred, name="y_pred")
    _check_length("y_pred", pred, len(true))
    if len(true) == 0:
        raise ValueError("y_true has 0 rows; expected at least one.")
    for name, y in (("y_true", true), ("y_pred", pred)):
        if y.dtype.kind == "f" and not np.array_equal(y, np.trunc(y)):
            raise ValueError(
                f"{name} holds values that are not whole numbers, such as "
                f"{y[y != np.trunc(y)][0]:.4g}; expected class labels. Turn scores or "
                "probabilities into labels first, for example with predict."
            )
    if _family(true) != _family(pred):
        raise _unlike(true, pred)
    import pandas as pd  # hashes strings, where np.unique sorts them: 20 times faster

    both = np.concatenate([true, pred])
    if both.dtype.kind == "O":
        labels, codes = in_order(*pd.factorize(both))
    else:
        codes, labels = pd.factorize(both, sort=True)
    true_codes, pred_codes = codes[: len(true)], codes[len(true) :]
    occurs = [np.bincount(each, minlength=len(labels)) > 0 for each in (true_codes, pred_codes)]
    types = [set(map(type, labels[each].tolist())) for each in occurs]
    if types[0].isdisjoint(types[1]) and not (occurs[0] & occurs[1]).any():
        raise _unlike(true, pred)  # as bytes are text that no text equals
    return labels, true_codes, pred_codes


def _family(labels: Array) -> str:
    """Return what two columns of labels must share, so that one can equal the other."""
    kind = labels.dtype.kind
    return "number" if kind in "biuf" else "object" if kind in "OU" else kind


def _unlike(true: Array, pred: Array) -> ValueError:
    return ValueError(
        f"y_true holds labels like {shown(true.tolist()[0])} and y_pred labels like "
        f"{shown(pred.tolist()[0])}; expected labels of one type in both."
    )


def _positive_labels(labels: Array, pos_label: Any) -> tuple[Array, NDArray[np.int64]]:
    """Return the labels (k,) and the codes (c,) of those that are positive in turn."""
    names = labels.tolist()
    if pos_label is not None:
        if pos_label not in names:
            raise ValueError(
                f"pos_label={pos_label!r} occurs neither in y_true nor in y_pred; the labels "
                f"are {names}."
            )
        return labels, np.array([names.index(pos_label)])
    if len(names) > 2:
        return labels, np.arange(len(names))
    if all(name in (-1, 0, 1) for name in names):
        if 1 not in names:  # all rows negative: the positive label exists, without rows
            labels = np.append(labels, np.ones(1, dtype=labels.dtype))
        return labels, np.array([labels.tolist().index(1)])
    return labels, np.array([len(names) - 1])


def _check_length(name: str, values: Any, n: int) -> None:
    if len(values) != n:
        raise ValueError(
            f"{name} has {len(values)} rows but y_true has {n}; expected one value per row."
        )


def _check_weight(sample_weight: Any, n: int) -> Floats | None:
    if sample_weight is None:
        return None
    weight = number_column(sample_weight, "sample_weight")
    _check_length("sample_weight", weight, n)
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError(
            "sample_weight holds values that are negative, infinite or NaN, or zeros only; "
            "expected finite weights >= 0, at least one of them positive."
        )
    return weight


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN where there is nothing to divide by."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def denominators(counts: Floats, positives: NDArray[np.int64]) -> dict[str, Floats]:
    """Return what each rate is a share of: (..., G, k, k) -> (..., G, c) by name."""
    true = counts.sum(axis=-1)
    # The negatives are summed, not found as total minus positives, in which small weights
    # would drown.
    other = true @ (1.0 - np.eye(true.shape[-1]))
    total = np.broadcast_to(true.sum(axis=-1, keepdims=True), true.shape)
    return {
        "selection_rate": total[..., positives],
        "tpr": true[..., positives],
        "fpr": other[..., positives],
    }


def rates_of(counts: Floats, positives: NDArray[np.int64]) -> dict[str, Floats]:
    """Return selection, true positive and false positive rate, each (..., G, c)."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    false = (counts * (1.0 - np.eye(counts.shape[-1]))).sum(axis=-2)
    parts = {"selection_rate": hit + false, "tpr": hit, "fpr": false}
    shares = denominators(counts, positives)
    return {name: _divide(parts[name][..., positives], shares[name]) for name in shares}


def _spread(rate: Floats, axis: int = -2) -> Floats:
    """Return max minus min over the groups that define the rate, NaN if fewer than two do."""
    difference = np.fmax.reduce(rate, axis=axis) - np.fmin.reduce(rate, axis=axis)
    return np.where((~np.isnan(rate)).sum(axis=axis) >= 2, difference, np.nan)


def _ratio(rate: Floats, axis: int) -> Floats:
    """Return min over max over the groups that define the rate, NaN if fewer than two do."""
    ratio = _divide(np.fmin.reduce(rate, axis=axis), np.fmax.reduce(rate, axis=axis))
    return np.where((~np.isnan(rate)).sum(axis=axis) >= 2, ratio, np.nan)


def demographic_parity(rates: dict[str, Floats]) -> Floats:
    """Return the demographic parity distance: (..., G, c) -> (...)."""
    return np.asarray(np.fmax.reduce(_spread(rates["selection_rate"]), axis=-1))


def equalized_odds(rates: dict[str, Floats]) -> Floats:
    """Return the equalized odds distance: (..., G, c) -> (...)."""
    return np.asarray(np.fmax.reduce(_spread(rates["tpr"]) + _spread(rates["fpr"]), axis=-1))


def _error(counts: Floats) -> Floats:
    """Return the share of wrong labels, (..., k, k) -> (...)."""
    wrong = counts * (1.0 - np.eye(counts.shape[-1]))
    return _divide(wrong.sum(axis=(-2, -1)), counts.sum(axis=(-2, -1)))


def weighted_f1(counts: Floats) -> Floats:
    """Return the F1 of each label, averaged with the labels' true counts as weights."""
    true, hit = counts.sum(axis=-1), np.diagonal(counts, axis1=-2, axis2=-1)
    # A label that occurs nowhere has weight 0; its F1 only must not be NaN.
    f1 = np.nan_to_num(_divide(2.0 * hit, true + counts.sum(axis=-2)))
    return _divide((f1 * true).sum(axis=-1), true.sum(axis=-1))


def by_label(cells: Cells, rates: dict[str, Floats]) -> dict[str, Floats]:
    """Split arrays (..., G, c) into a report's columns (..., G), named tpr or tpr[label]."""
    return {
        name if len(cells.positives) == 1 else f"{name}[{cells.labels[code]}]": rate[..., j]
        for name, rate in rates.items()
        for j, code in enumerate(cells.positives)
    }


def statistics(cells: Cells, counts: Floats) -> Statistics:
    """Return all that a report says of ``counts`` (..., G, k, k), by scope and metric.

    The arrays are (..., G) in scope "group" and (...) in "headline", "overall",
    "difference" and "ratio". Of ``cells`` only the labels matter: the counts may be those
    of other rows or of another number of groups.
    """
    pooled = counts.sum(axis=-3, keepdims=True)
    rates = rates_of(counts, cells.positives)
    group, overall = (
        {**by_label(cells, shares), "error": _error(table), "f1": weighted_f1(table)}
        for table, shares in ((counts, rates), (pooled, rates_of(pooled, cells.positives)))
    )
    return {
        "headline": {
            "weighted_f1_error": 100.0 * (1.0 - overall["f1"][..., 0]),
            "demographic_parity_distance": demographic_parity(rates),
            "equalized_odds_distance": equalized_odds(rates),
        },
        "overall": {name: values[..., 0] for name, values in overall.items()},
        "group": group,
        "difference": {name: _spread(values, axis=-1) for name, values in group.items()},
        "ratio": {name: _ratio(values, axis=-1) for name, values in group.items()},
    }


def warn_undefined(cells: Cells, rates: dict[str, Floats]) -> None:
    """Warn, once and with counts, of a lone group and of rates (G, c) that are undefined."""
    if len(cells.groups) > 1 and not any(np.isnan(values).any() for values in rates.values()):
        return
    rows = cells.count(None)
    needed = denominators(rows, cells.positives)
    notes = []
    if len(cells.groups) == 1:
        notes.append(
            f"all {len(cells.code)} rows belong to the group {shown(cells.groups.tolist()[0])}, "
            "which has no one to be compared with: a distance between groups is NaN"
        )
    kinds = {
        "selection_rate": "selection rate of label {0!r} in group {1} ({2} rows",
        "tpr": "true positive rate of label {0!r} in group {1} ({2} rows, {3} with it",
        "fpr": "false positive rate of label {0!r} in group {1} ({2} rows, {3} without it",
    }
    undefined = []
    for name, values in rates.items():
        for g, j in np.argwhere(np.isnan(values)):
            count = int(needed[name][g, j])
            label = cells.labels.tolist()[cells.positives[j]]
            place = (label, shown(cells.groups.tolist()[g]), int(rows[g].sum()), count)
            undefined.append(kinds[name].format(*place) + (", weight 0)" if count else ")"))
    if undefined:
        more = len(undefined) - _MAX_LISTED
        notes.append(
            f"undefined and NaN: the {'; the '.join(undefined[:_MAX_LISTED])}"
            f"{f'; and {more} more' if more > 0 else ''}. A comparison leaves such a group out, "
            "and is NaN if fewer than two groups remain"
        )
    if notes:
        warnings.warn(f"{'. Also '.join(notes)}.", FairnessWarning, stacklevel=3)
