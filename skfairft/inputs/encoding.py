"""Columns of any library as codes: labels, groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from .categories import in_category_order
from .columns import column_with_missing, plain_column
from .exceptions import FairnessWarning
from .lazy import is_lazy
from .tables import Table, read_table
from .warn import warn_user
from .words import listed

__all__ = [
    "IN_FIT",
    "column_names",
    "column_orders",
    "encode_groups",
    "encode_labels",
    "in_order",
    "known_groups",
    "label_order",
    "one_column",
    "python_value",
    "to_label_array",
    "whole_labels",
]


def to_label_array(y: Any, *, name: str = "y") -> NDArray[Any]:
    """Return labels of any library as a 1-D NumPy array: bool, int, float, or text.

    A column vector (n, 1) is flattened with scikit-learn's DataConversionWarning.

    Raises
    ------
    ValueError
        For missing values or more than one column.
    TypeError
        For sparse data.
    """
    table = read_table(y, name)
    if len(table.shape) == 2 and table.shape[1] == 1:
        _warn_of_column_vector(name)
    elif len(table.shape) != 1:
        raise ValueError(
            f"{name} should be a 1d array, got an array of shape {table.shape} instead; expected "
            "one label per row."
        )
    return plain_column(table.columns[0], name)


def label_order(y: Any, *, name: str = "y") -> list[Any] | None:
    """Return the categories of labels, or of one column of groups, in their order.

    None where they have none, as values in a list or an array.

    Examples
    --------
    >>> import pandas as pd
    >>> label_order(pd.Categorical(["low"], ["low", "high"], ordered=True)), label_order(["low"])
    (['low', 'high'], None)
    """
    if isinstance(y, (list, tuple, np.ndarray)):
        return None
    orders = read_table(y, name).orders
    return orders[0] if len(orders) == 1 else None


def one_column(y: Any, *, name: str = "y") -> Any:
    """Return labels as `to_label_array`, and those of Dask as they are, flattened as there.

    Examples
    --------
    >>> import dask.array
    >>> one_column(["a", "b"]).tolist(), one_column(dask.array.zeros(2)).shape
    (['a', 'b'], (2,))
    """
    if not is_lazy(y):
        return to_label_array(y, name=name)
    # An object that is Delayed has any attribute.
    if not hasattr(type(y), "ndim") or y.ndim != 2 or y.shape[1] != 1:
        return y
    _warn_of_column_vector(name)
    return y.iloc[:, 0] if hasattr(type(y), "iloc") else y[:, 0]


def _warn_of_column_vector(name: str) -> None:
    warn_user(
        f"A column-vector {name} was passed when a 1d array was expected. Please change the "
        f"shape of {name} to (n_samples,), for example by ravel().",
        DataConversionWarning,
    )


def whole_labels(y: Any, *, name: str = "y") -> NDArray[Any]:
    """Return labels as `to_label_array`; numbers that are not whole are a ValueError."""
    labels = to_label_array(y, name=name)
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.trunc(labels)):
        raise ValueError(
            f"{name} holds values that are not whole numbers, such as "
            f"{labels[labels != np.trunc(labels)][0]:.4g}; expected class labels. Turn scores or "
            "probabilities into labels first, for example with predict."
        )
    return labels


def encode_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted classes (k,) and the code (n,) of each row's class.

    ``classes[codes]`` equals ``y``: text, whole numbers or booleans.

    Raises
    ------
    ValueError
        For missing or continuous labels, or fewer than two classes.
    TypeError
        For labels of other or of several types.
    """
    if y is None:
        raise ValueError(
            "This classifier requires y to be passed, but the target y is None; expected one "
            "label per row of X."
        )
    labels = to_label_array(y)
    if labels.dtype.kind == "f" and np.isinf(labels).any():
        raise ValueError("Input y contains infinity; expected class labels.")
    _check_label_types(labels)
    try:
        check_classification_targets(labels)
    except ValueError as error:
        raise ValueError(
            f"{error} To decide by ranges of a number, cut it: pandas.cut(y, 4, labels=False). A "
            "number itself this package does not predict; fairlearn's reductions bound its error "
            "in every group (BoundedGroupLoss)."
        ) from error
    if len(labels) == 0:
        raise ValueError("y is empty: 0 labels where at least one row per class is needed.")
    _warn_of_written([labels], ["y"], "class")
    classes, codes = _encode_column(labels)
    if len(classes) < 2:
        raise ValueError(
            f"y holds one class only, {python_value(classes[0])!r} in all {len(labels)} rows; "
            "a classifier needs at least two classes."
        )
    if isinstance(y, (list, tuple)) and isinstance(classes[0], str):
        # As elsewhere in scikit-learn; but in NumPy's text zeros at the end get lost.
        text = classes.astype(str)
        classes = text if np.array_equal(text, classes) else classes
    return classes, codes


def _check_label_types(labels: NDArray[Any]) -> None:
    """Refuse labels that scikit-learn's metrics and searches would not take from `predict`."""
    found = set(map(type, labels.tolist())) if labels.dtype.kind == "O" else {labels.dtype.type}
    types = sorted(kind.__name__ for kind in found)
    if labels.dtype.kind == "c":
        raise ValueError(
            "Complex data not supported: y holds complex numbers; expected text, whole numbers or "
            "booleans. Pass the real part."
        )
    if bytes in found:
        raise TypeError(
            f"y holds labels of the type {types[0]}; expected text, whole numbers or booleans. "
            "Pass [label.decode() for label in y]."
        )
    if labels.dtype.kind != "O" or all(issubclass(kind, str) for kind in found):
        return
    if any(issubclass(kind, str) for kind in found):
        raise TypeError(
            f"y mixes labels of the types {types}, which have no order; make them all text, for "
            "example by astype(str), or all numbers."
        )
    raise TypeError(
        f"y holds labels of the types {types}; expected text, booleans or whole numbers of at most "
        "64 bits. Convert them, for example by astype(int) or astype(str)."
    )


# What else there is to do where groups are missing: in `fit`, and elsewhere.
IN_FIT = (
    "'unknown'. With solver=\"plug_in\" fit can do without some of them: missing_groups="
    '"estimate" learns the label from all rows and the group from those that have it'
)
_ELSEWHERE = (
    "'unknown'. What is measured needs the group of each row; only fit can do without some "
    '(missing_groups="estimate")'
)


def encode_groups(
    sensitive_features: Any,
    n_rows: int,
    *,
    name: str = "sensitive_features",
    rows_of: str = "X",
    missing: str = "error",
    instead: str = _ELSEWHERE,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the groups (G,) and the code (n,) of each row's group.

    Parameters
    ----------
    sensitive_features : array-like of shape (n,) or (n, c)
        One column of any dtype, or several, whose combinations that occur are the groups: the
        sorted values, or tuples of them. Those of ordered categories keep their order.
    n_rows : int
        Number of rows expected.
    name, rows_of : str
        What to call it, and what has these rows, in errors.
    missing : {"error", "estimate"}, default="error"
        What a missing value is: an error, or of a row whose group is not known, with the code -1.
        So is a row of which any of several columns lacks its value.
    instead : str
        What may be done about a missing value, for the error.

    Raises
    ------
    ValueError
        For missing values, another number of rows, and what `plain_column` refuses; if no row has
        a group.
    TypeError
        For sparse data.

    Examples
    --------
    >>> groups, codes = encode_groups(["b", None, "a"], 3, missing="estimate")
    >>> groups.tolist(), codes.tolist()
    (['a', 'b'], [1, -1, 0])
    """
    table = _group_table(sensitive_features, n_rows, name=name, rows_of=rows_of)
    called = [
        name if len(table.columns) == 1 else f"{name} column {j if label is None else label!r}"
        for j, label in enumerate(table.names)
    ]
    if missing == "error":
        columns = [
            plain_column(column, each, instead=instead)
            for column, each in zip(table.columns, called, strict=True)
        ]
        _warn_of_written(columns, called, "group")
        return _encode_columns(columns, table.orders)
    found = [column_with_missing(*each) for each in zip(table.columns, called, strict=True)]
    known = ~np.any([absent for _, absent in found], axis=0)
    if not known.any():
        raise ValueError(
            f"{name} is missing in each of the {n_rows} rows; expected the group of some. Pass "
            "those that are known, or no groups at all."
        )
    columns = [values[known[~absent]] for values, absent in found]
    _warn_of_written(columns, called, "group")
    groups, own = _encode_columns(columns, table.orders)
    codes = np.full(n_rows, -1, dtype=np.int64)
    codes[known] = own
    return groups, codes


# What missing values become where a column is made text.
_WRITTEN = ("nan", "NaN", "<NA>", "NaT")
_REMEDIES = {"group": "Pass the column as it was before", "class": "Leave these rows out"}


def _warn_of_written(columns: Sequence[NDArray[Any]], called: Sequence[str], kind: str) -> None:
    """Warn of texts that are missing values by all appearance: they are a group or class here."""
    for column, name in zip(columns, called, strict=True):
        if column.dtype.kind not in "OU":
            continue
        for text in _WRITTEN:
            rows = int(np.count_nonzero(column == text))
            if rows:
                warn_user(
                    f"{name} holds the text {text!r} in {rows} of {len(column)} rows, which "
                    f"astype(str) makes of missing values: they are a {kind} of their own here. "
                    f"{_REMEDIES[kind]}, or give the {kind} another name.",
                    FairnessWarning,
                )


def _encode_columns(
    columns: Sequence[NDArray[Any]], orders: Sequence[list[Any] | None]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the groups and the codes of one column, or of the combinations of several."""
    encoded = [_encode_column(*each) for each in zip(columns, orders, strict=True)]
    if len(encoded) == 1:
        return encoded[0]
    cells, codes = np.unique(
        np.column_stack([column_codes for _, column_codes in encoded]), axis=0, return_inverse=True
    )
    groups = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        groups[i] = tuple(
            python_value(values[code]) for (values, _), code in zip(encoded, cell, strict=True)
        )
    return groups, codes.reshape(-1).astype(np.int64)


def _group_table(sensitive_features: Any, n_rows: int, *, name: str, rows_of: str) -> Table:
    table = read_table(sensitive_features, name, n_rows=n_rows)
    if len(table.shape) not in (1, 2) or len(table.columns) == 0:
        raise ValueError(
            f"{name} has shape {table.shape}; expected (n,) or (n, columns), one row per sample."
        )
    if table.shape[0] != n_rows:
        raise ValueError(
            f"{name} has {table.shape[0]} rows but {rows_of} has {n_rows}; expected one group per "
            f"row of {rows_of}.{_if_names(sensitive_features)}"
        )
    return table


def _if_names(given: Any) -> str:
    """Return a hint, if what is given may be names of columns."""
    few = isinstance(given, (list, tuple)) and len(given) < 10
    if not few or not all(isinstance(each, str) for each in given):
        return ""
    return f" If these are names of columns, pass the columns themselves: frame[{list(given)}]."


def known_groups(
    sensitive_features: Any, groups: NDArray[Any], n_rows: int, names: Sequence[str] = ()
) -> NDArray[np.int64]:
    """Return the code (n,) of each row's group among those of `fit`, -1 where it is not known.

    Parameters
    ----------
    sensitive_features : array-like of shape (n,) or (n, c)
        As for `encode_groups`, but values may be missing.
    groups : ndarray of shape (G,)
        Those of `fit`.
    n_rows : int
        Number of rows expected.
    names : sequence of str, optional
        Of the columns of `fit`, where there were several with names.

    Raises
    ------
    ValueError
        As `encode_groups`, for columns of other names, and if no row is of a group of `fit`, though
        some name one.

    Warns
    -----
    FairnessWarning
        If rows name a group that `fit` has not seen.

    Examples
    --------
    >>> known_groups(["b", None, "a"], np.array(["a", "b"]), 3).tolist()
    [1, -1, 0]
    """
    name = "sensitive_features"
    table = _group_table(sensitive_features, n_rows, name=name, rows_of="X")
    given = column_names(sensitive_features)
    if names and given and given != list(names):
        raise ValueError(
            f"{name} has the columns {given}, but fit got {list(names)}; pass these, in this order."
        )
    missing = np.zeros(n_rows, dtype=bool)
    columns = []
    for column in table.columns:
        values, absent = column_with_missing(column, name)
        whole = np.empty(n_rows, dtype=object)
        whole[~absent] = [python_value(value) for value in values.tolist()]
        columns.append(whole)
        missing |= absent
    rows = columns[0].tolist() if len(columns) == 1 else list(zip(*columns, strict=True))
    number = {value: code for code, value in enumerate(groups.tolist())}
    codes = np.full(n_rows, -1, dtype=np.int64)
    there = np.flatnonzero(~missing)
    codes[there] = [number.get(rows[i], -1) for i in there]
    strange = there[codes[there] < 0]
    if len(strange):
        found = list(dict.fromkeys(rows[i] for i in strange))
        said = (
            f"{len(strange)} of {n_rows} rows are of groups that fit has not seen, "
            f"[{listed(found)}]"
        )
        if len(strange) == len(there):
            raise ValueError(
                f"In sensitive_features {said}, and none of those that it has: "
                f"[{listed(groups.tolist())}]. Pass the groups as fit got them, or None for all "
                "rows whose group is not known."
            )
        warn_user(
            f"In sensitive_features {said}: they are decided as rows of unknown group.",
            FairnessWarning,
        )
    return codes


def column_names(sensitive_features: Any) -> list[str]:
    """Return the names that the columns came with; none where there are none.

    Examples
    --------
    >>> import pandas as pd
    >>> column_names(pd.DataFrame({"sex": [0], "age": [1]})), column_names([0, 1])
    (['sex', 'age'], [])
    """
    if is_lazy(sensitive_features):  # Dask knows a frame's names by an empty one
        sensitive_features = getattr(sensitive_features, "_meta", [])
    table = read_table(sensitive_features, "sensitive_features")
    names = table.names
    if len(table.shape) == 1:
        names = [getattr(sensitive_features, "name", None)]
    # polars calls a Series without a name "".
    return [str(name) for name in names if name is not None and str(name) != ""]


def column_orders(sensitive_features: Any) -> list[list[Any] | None]:
    """Return the categories of each column in their order; None of a column that has none.

    Examples
    --------
    >>> import pandas as pd
    >>> age = pd.Categorical(["old", "new"], ["new", "old"], ordered=True)
    >>> column_orders(pd.DataFrame({"sex": [0, 1], "age": age}))
    [None, ['new', 'old']]
    """
    if is_lazy(sensitive_features):
        sensitive_features = getattr(sensitive_features, "_meta", [])
    return read_table(sensitive_features, "sensitive_features").orders


def _encode_column(
    column: NDArray[Any], order: Sequence[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the distinct values of a plain column, sorted or in an order, and the codes."""
    if order is not None:
        return in_category_order(*_encode_column(column), order)
    if column.dtype.kind != "O":
        values, codes = np.unique(column, return_inverse=True)
        # -0.0 and 0.0 are one group; which of them came first must not name it.
        return (values + 0 if values.dtype.kind == "f" else values), codes.astype(np.int64)
    return encode_objects(column)


def encode_objects(column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the distinct values of a column of objects in their order, and the codes.

    They are compared by hash: np.unique takes "neither smaller" for equal, and pandas before 3.0
    takes texts for equal that are so up to a character zero.

    Examples
    --------
    >>> values, codes = encode_objects(np.array(["b", "a", "b"], dtype=object))
    >>> values.tolist(), codes.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    number: dict[Any, int] = {}
    codes = [number.setdefault(value, len(number)) for value in column]
    found = np.fromiter(number, dtype=object, count=len(number))
    return in_order(np.array(codes, dtype=np.int64), found)


def in_order(codes: NDArray[Any], found: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return distinct values in their order, or in that of their names, and the codes in it.

    ``found[codes]`` is the column (n,).

    Examples
    --------
    >>> values, codes = in_order(np.array([0, 1, 0]), np.array(["b", "a"], dtype=object))
    >>> values.tolist(), codes.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    try:
        order = sorted(range(len(found)), key=found.__getitem__)
    except (TypeError, ValueError):
        # Values of several types, or periods of several lengths, have no order.
        order = sorted(range(len(found)), key=lambda i: (str(type(found[i])), str(found[i])))
    values = np.fromiter((found[i] for i in order), dtype=object, count=len(found))
    return values, np.argsort(order)[codes].astype(np.int64)


def python_value(value: Any) -> Any:
    """Return a NumPy scalar as a Python one, so that groups print and hash plainly."""
    return value.item() if isinstance(value, np.generic) else value
