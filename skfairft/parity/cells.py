"""Rows counted by group, true label and predicted label, found in one pass over them.

=========== ================= ====================================================
``rows``    (G, k, k)         number of rows in the cell [g, true, predicted]
``mass``    (G, k, k)         sum of their weights
``squares`` (G, k, k)         sum of the squares of these
=========== ================= ====================================================

Weights are in units of a power of two, see `skfairft.parity.tally`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.categories import in_category_order
from ..inputs.encoding import (
    encode_groups,
    encode_objects,
    label_order,
    python_value,
    whole_labels,
)
from ..inputs.exceptions import FairnessWarning
from ..inputs.index_order import warn_of_index_order
from ..inputs.levels import Column
from ..inputs.positive import code_of, only
from ..inputs.warn import warn_user
from ..inputs.words import listed, shown
from .levels import Levels
from .table import STATED
from .tally import Floats, Kinds, sorts_of_rows, tally_rows

__all__ = ["HOW_TO_ROUTE", "Cells", "Floats", "count_cells", "count_labels"]

Array = NDArray[Any]

HOW_TO_ROUTE = (
    "In a search or cross-validation call sklearn.set_config(enable_metadata_routing=True), use "
    "scoring=fairness_scorer(...), and pass the groups to fit: "
    "GridSearchCV(...).fit(X, y, sensitive_features=s)."
)


@dataclass(frozen=True)
class Cells:
    """Rows counted by group, true label and predicted label."""

    groups: Array  # (G,)
    labels: Array  # (k,), union of true and predicted labels, sorted or in their own order
    positives: range  # codes of the c labels that are positive in turn
    rows: Floats  # (G, k, k), as are the next two
    mass: Floats
    squares: Floats
    kinds: Kinds | None  # of the rows of each cell, where resamples are wanted
    constraints: tuple[str, ...] = STATED  # whose distances are wanted
    ratios: tuple[str, ...] = ()  # and whose smallest ratios
    levels: Levels | None = None  # between which they are; None is between groups

    def merged(self, columns: Sequence[Column]) -> Cells:
        """Return the same rows by the levels of some columns, one column's after the other's.

        Groups are ``(name of the column, level)``. There are no kinds, which are of one group.
        """
        groups = np.empty(sum(len(column.levels) for column in columns), dtype=object)
        groups[:] = [(column.name, level) for column in columns for level in column.levels]

        def summed(table: Floats) -> Floats:
            parts = []
            for column in columns:
                part = np.zeros((len(column.levels), *table.shape[1:]))
                np.add.at(part, column.codes, table)
                parts.append(part)
            return np.concatenate(parts)

        return replace(
            self,
            groups=groups,
            rows=summed(self.rows),
            mass=summed(self.mass),
            squares=summed(self.squares),
            kinds=None,
            levels=None,
        )


def count_cells(
    y_true: Any,
    y_pred: Any,
    sensitive_features: Any,
    sample_weight: Any,
    pos_label: Any,
    *,
    resampled: bool = False,
    absent: bool = False,
) -> Cells:
    """Validate, encode and count; columns of Dask by chunk, where these lie.

    With ``resampled`` there are kinds of rows to draw resamples from. A ``pos_label`` that does not
    occur is a label without rows where it may be ``absent``; it is, with a warning, where all rows
    have one label, and an error where there are others.
    """
    if sensitive_features is None:
        raise ValueError(
            "sensitive_features is None, but a distance between groups needs the group of each "
            f"row: pass sensitive_features=, an array with one group per row. {HOW_TO_ROUTE}"
        )
    columns, tally = sorts_of_rows(
        {"y_true": y_true, "y_pred": y_pred, "sensitive_features": sensitive_features},
        sample_weight,
        resampled=resampled,
    )
    labels, true, pred = _encode_labels(columns["y_true"], columns["y_pred"])
    _check_alike(labels, true, pred)
    order = _common_order(columns["y_true"], columns["y_pred"])
    if order is not None:
        labels, true, pred = _ordered(labels, true, pred, order)
    n = len(true)
    groups, codes = encode_groups(columns["sensitive_features"], n, rows_of="y_true")
    warn_of_index_order(
        y_true=y_true,
        y_pred=y_pred,
        sensitive_features=sensitive_features,
        sample_weight=sample_weight,
    )
    labels, positives = _positive_labels(
        labels, pos_label, ordered=order is not None, absent=absent
    )
    tally = tally or tally_rows(sample_weight, n)
    shape = len(groups), len(labels), len(labels)
    code = (codes * len(labels) + true) * len(labels) + pred
    kinds = tally.kinds and tally.kinds._replace(place=code[tally.kinds.place])
    return Cells(groups, labels, positives, *tally.tables(code, shape), kinds)


def count_labels(y_true: Any, y_pred: Any, sample_weight: Any) -> Floats:
    """Return the table (k, k) of the weight of all rows, without groups."""
    columns, tally = sorts_of_rows({"y_true": y_true, "y_pred": y_pred}, sample_weight)
    labels, true, pred = _encode_labels(columns["y_true"], columns["y_pred"])
    tally, k = tally or tally_rows(sample_weight, len(true)), len(labels)
    _, mass, _ = tally.tables(true * k + pred, (k, k))
    return mass


def _encode_labels(y_true: Any, y_pred: Any) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted union (k,) of the labels, and both arrays as codes (n,)."""
    true, pred = whole_labels(y_true, name="y_true"), whole_labels(y_pred, name="y_pred")
    if len(pred) != len(true):
        raise ValueError(
            f"y_pred has {len(pred)} rows but y_true has {len(true)}; expected one value per row."
        )
    if len(true) == 0:
        raise ValueError("y_true has 0 rows; expected at least one.")
    if _family(true) != _family(pred):
        raise _unlike(true, pred)
    both = np.concatenate([true, pred])
    if both.dtype.kind == "O":
        labels, codes = encode_objects(both)
    else:
        import pandas as pd  # hashes, where np.unique sorts: 20 times faster

        codes, labels = pd.factorize(both, sort=True)
    true_codes, pred_codes = codes[: len(true)], codes[len(true) :]
    occurs = [np.bincount(each, minlength=len(labels)) > 0 for each in (true_codes, pred_codes)]
    types = [set(map(type, labels[each].tolist())) for each in occurs]
    if types[0].isdisjoint(types[1]) and not (occurs[0] & occurs[1]).any():
        raise _unlike(true, pred)  # as bytes are text that no text equals
    return labels, true_codes, pred_codes


def _check_alike(labels: Array, true: NDArray[np.int64], pred: NDArray[np.int64]) -> None:
    """Refuse labels that are written in two ways, and warn where that may be.

    Rates of labels that nobody is told are alike in all groups, and say nothing.
    """
    held, told = (labels[np.unique(codes)].tolist() for codes in (true, pred))
    if len(held) == 1 or not set(held).isdisjoint(told):
        return
    said = (
        f"No prediction is one of the true labels: y_true holds [{listed(held)}], y_pred "
        f"[{listed(told)}]."
    )
    if len(told) > 1 or not {_bare(each) for each in held}.isdisjoint(map(_bare, told)):
        raise ValueError(f"{said} Write the labels alike in both.")
    warn_user(f"{said} If these are the same, write them alike in both.", FairnessWarning)


def _bare(label: Any) -> str:
    """Return a label as a text of its letters, digits and signs, all small."""
    return "".join(sign for sign in str(label).casefold() if sign.isalnum() or sign in "<=>+-")


def _common_order(y_true: Any, y_pred: Any) -> list[Any] | None:
    """Return the order of the labels' categories, of either column; None where there is none."""
    true, pred = (label_order(y, name=n) for y, n in ((y_true, "y_true"), (y_pred, "y_pred")))
    if true is None or pred is None:
        return pred if true is None else true
    longer, shorter = (true, pred) if len(true) >= len(pred) else (pred, true)
    if [label for label in longer if label in shorter] != shorter:
        raise ValueError(
            f"The categories of y_true are in the order [{listed(true)}], those of y_pred in the "
            f"order [{listed(pred)}]; expected one order. Give both the same, for example by "
            "y_pred.cat.set_categories(y_true.cat.categories, ordered=True)."
        )
    return longer


def _ordered(
    labels: Array, true: NDArray[np.int64], pred: NDArray[np.int64], order: list[Any]
) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Return labels in the order of their categories, and the codes (n,) of both columns in it.

    Of two categories both are labels, whether or not a row has them: the last one is positive.
    """
    strange = [label for label in labels.tolist() if label not in order]
    if strange:
        raise ValueError(
            f"Of y_true and y_pred one has the ordered categories [{listed(order)}], and the other "
            f"holds [{listed(strange)}], of which the order says nothing; add these to the "
            "categories, or convert the labels by astype(str)."
        )
    if len(order) == 2 and len(labels) == 1:
        (own,) = labels.tolist()
        labels = np.array([own, order[1 - order.index(own)]], dtype=labels.dtype)
    labels, codes = in_category_order(labels, np.concatenate([true, pred]), order)
    return labels, codes[: len(true)], codes[len(true) :]


def _family(labels: Array) -> str:
    """Return what two columns of labels must share, so that one can equal the other."""
    kind = labels.dtype.kind
    return "number" if kind in "biuf" else "object" if kind in "OU" else kind


def _unlike(true: Array, pred: Array) -> ValueError:
    return ValueError(
        f"y_true holds labels like {shown(true.tolist()[0])} and y_pred labels like "
        f"{shown(pred.tolist()[0])}; expected labels of one type in both."
    )


def _is_another(label: Any, labels: Array) -> bool:
    """Tell whether it could be one more of the labels, which are of a type."""
    given = np.asarray(label)
    label = python_value(label)  # what is missing equals nothing, or says that it cannot tell
    return given.ndim == 0 and (label == label) is True and _family(given) == _family(labels)


def _positive_labels(
    labels: Array, pos_label: Any, *, ordered: bool, absent: bool
) -> tuple[Array, range]:
    """Return the labels (k,) and the codes (c,) of those that are positive in turn."""
    names = labels.tolist()
    if pos_label is not None:
        code = code_of(pos_label, names)
        if code is None and len(names) == 1 and not absent and _is_another(pos_label, labels):
            warn_user(
                f"No row has the label pos_label={shown(pos_label)}, nor is any decided so: y_true "
                f"and y_pred hold nothing but {shown(names[0])}.",
                FairnessWarning,
            )
            absent = True
        if code is None and absent:
            found = np.empty(len(names) + 1, dtype=object)
            found[:] = [*names, python_value(pos_label)]
            return found, only(len(names))
        if code is None:
            raise ValueError(
                f"pos_label={shown(pos_label)} occurs neither in y_true nor in y_pred; the labels "
                f"are {names}."
            )
        return labels, only(code)
    if len(names) > 2:
        return labels, range(len(names))
    if not ordered and all(name in (-1, 0, 1) for name in names):
        if 1 not in names:  # all rows negative: the positive label exists, without rows
            labels = np.append(labels, np.ones(1, dtype=labels.dtype))
        return labels, only(labels.tolist().index(1))
    return labels, only(len(names) - 1)
