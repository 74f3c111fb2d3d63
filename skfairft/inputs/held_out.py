"""Rows that a path is measured on, looked at before its extractor runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .encoding import column_names, encode_groups, to_label_array
from .feature_table import refuse_mapping, refuse_odd_rows
from .index_order import warn_of_index_order
from .lengths import refuse_other_length
from .tables import weight_column
from .words import listed

__all__ = ["HeldOut", "read_held_out", "refuse_other_columns", "refuse_other_width"]


class HeldOut(NamedTuple):
    """Rows to measure on, checked as far as they can be without the classifier."""

    X: Any
    y: tuple[NDArray[Any], NDArray[np.int64]]  # values, and the code (n,) of each row's
    sensitive_features: tuple[NDArray[Any], NDArray[np.int64]]
    w: NDArray[np.float64]  # (n,)
    names: list[str]  # of several columns of groups; empty where they have none

    def encoded(
        self, classes: NDArray[Any], groups: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return class and group (n,) of each row, as codes of those of the training rows.

        A label or a group that these do not have is a ValueError.
        """
        return (
            _recoded(*self.y, classes, "held_out's y"),
            _recoded(*self.sensitive_features, groups, "held_out's sensitive_features"),
        )


def _recoded(
    values: NDArray[Any], codes: NDArray[np.int64], known: NDArray[Any], name: str
) -> NDArray[np.int64]:
    number = {value: code for code, value in enumerate(known.tolist())}
    unknown = [value for value in values.tolist() if value not in number]
    if unknown:
        raise ValueError(
            f"{name} holds [{listed(unknown)}], but the training rows only "
            f"[{listed(known.tolist())}]; drop the other rows, or train with such rows too."
        )
    own = np.array([number[value] for value in values.tolist()], dtype=np.int64)
    return own[codes]


def read_held_out(X: Any, y: Any, sensitive_features: Any, sample_weight: Any = None) -> HeldOut:
    """Check rows to measure on, all but their features and whether the classifier knows them.

    They are given as to `fairness_path`. A ValueError is raised if there are none, and for what
    `fit` would refuse; a class or a group may be without weight.

    Examples
    --------
    >>> given = read_held_out(np.zeros((3, 2)), [0, 1, 1], ["m", "f", "m"])
    >>> given.encoded(np.array([0, 1]), np.array(["f", "m"]))
    (array([0, 1, 1]), array([1, 0, 1]))
    """
    labels = to_label_array(y, name="held_out's y")
    refuse_mapping(X)
    refuse_odd_rows(X)
    refuse_other_length(labels, "held_out's y", X, one="label")
    if not len(labels):
        raise ValueError(
            "held_out has no rows; expected some of at least two groups. Pass them, or have a "
            "share of the training rows held out, by cv=0.25."
        )
    warn_of_index_order(
        X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
    )
    return HeldOut(
        X,
        encode_groups(labels, len(labels), name="held_out's y"),
        encode_groups(sensitive_features, len(labels), name="held_out's sensitive_features"),
        weight_column(sample_weight, "held_out's sample_weight", len(labels)),
        column_names(sensitive_features),
    )


def refuse_other_width(held_out: Any, X: Any) -> None:
    """Refuse rows of another number of columns than the training rows, where both have a shape.

    They are features that no extractor is to take: it may take rows of several lengths.

    Examples
    --------
    >>> refuse_other_width(np.zeros((5, 3)), np.zeros((9, 4)))
    Traceback (most recent call last):
    ...
    ValueError: held_out's X has rows of shape (3,) but X has rows of shape (4,); expected the same
    columns in both.
    """
    found, expected = (tuple(getattr(rows, "shape", ()))[1:] for rows in (held_out, X))
    if found and expected and found != expected:
        raise ValueError(
            f"held_out's X has rows of shape {found} but X has rows of shape {expected}; expected "
            "the same columns in both."
        )


def refuse_other_columns(held_out: HeldOut, sensitive_features: Any) -> None:
    """Refuse groups in columns of other names, or in another order, than the training rows'.

    Examples
    --------
    >>> import pandas as pd
    >>> groups = pd.DataFrame({"sex": ["f", "m"], "old": [0, 1]})
    >>> given = read_held_out(np.zeros((2, 2)), [0, 1], groups[["old", "sex"]])
    >>> refuse_other_columns(given, groups)
    Traceback (most recent call last):
    ...
    ValueError: held_out's sensitive_features has the columns ['old', 'sex'], but those of the
    training rows are ['sex', 'old']; pass these, in this order.
    """
    expected = column_names(sensitive_features)
    if len(expected) > 1 and held_out.names and held_out.names != expected:
        raise ValueError(
            f"held_out's sensitive_features has the columns {held_out.names}, but those of the "
            f"training rows are {expected}; pass these, in this order."
        )
