"""Rows counted by group, true label and predicted label, found in one pass over them.

========== ================= ===================================================
``counts`` (G, k, k)         sum of the weights in the cell [g, true, predicted]
========== ================= ===================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.encoding import encode_groups, in_order, to_label_array
from ..inputs.index_order import warn_of_index_order
from ..inputs.tables import weight_column
from ..inputs.words import shown
from .table import PAPER

__all__ = ["HOW_TO_ROUTE", "Cells", "Floats", "count_cells", "count_labels"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

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
    positives: range  # codes of the c labels that are positive in turn
    code: NDArray[np.int64]  # (n,), flat index of each row's cell
    weight: Floats | None  # (n,)
    constraints: tuple[str, ...] = PAPER  # whose distances are wanted

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
    return Cells(groups, labels, positives, code, _weights(sample_weight, n))


def count_labels(y_true: Any, y_pred: Any, sample_weight: Any) -> Floats:
    """Return the table (k, k) of all rows, without groups."""
    labels, true, pred = _encode_labels(y_true, y_pred)
    weight, k = _weights(sample_weight, len(true)), len(labels)
    counts = np.bincount(true * k + pred, weights=weight, minlength=k * k)
    return counts.reshape(k, k).astype(np.float64)


def _weights(sample_weight: Any, n: int) -> Floats | None:
    if sample_weight is None:  # plain numbers of rows are counted faster
        return None
    return weight_column(sample_weight, "sample_weight", n, rows_of="y_true")


def _encode_labels(y_true: Any, y_pred: Any) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted union (k,) of the labels, and both arrays as codes (n,)."""
    true, pred = to_label_array(y_true, name="y_true"), to_label_array(y_pred, name="y_pred")
    if len(pred) != len(true):
        raise ValueError(
            f"y_pred has {len(pred)} rows but y_true has {len(true)}; expected one value per row."
        )
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


def _positive_labels(labels: Array, pos_label: Any) -> tuple[Array, range]:
    """Return the labels (k,) and the codes (c,) of those that are positive in turn."""
    names = labels.tolist()
    if pos_label is not None:
        if pos_label not in names:
            raise ValueError(
                f"pos_label={pos_label!r} occurs neither in y_true nor in y_pred; the labels "
                f"are {names}."
            )
        return labels, _only(names.index(pos_label))
    if len(names) > 2:
        return labels, range(len(names))
    if all(name in (-1, 0, 1) for name in names):
        if 1 not in names:  # all rows negative: the positive label exists, without rows
            labels = np.append(labels, np.ones(1, dtype=labels.dtype))
        return labels, _only(labels.tolist().index(1))
    return labels, _only(len(names) - 1)


def _only(code: int) -> range:
    return range(code, code + 1)
