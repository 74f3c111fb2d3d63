"""Columns of any library as codes: labels, groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

__all__ = ["encode_groups", "encode_labels", "python_value", "to_array", "to_label_array"]


def to_array(X: Any) -> Any:
    """Return a torch tensor as a NumPy array on the CPU, anything else as it came."""
    if hasattr(X, "detach") and hasattr(X, "cpu"):
        tensor = X.detach().cpu()
        # NumPy has no bfloat16; float32 holds each of its values exactly.
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return X


def _natural(values: Any) -> NDArray[Any]:
    """Return a column of any library as a 1-D array of a plain NumPy dtype.

    pandas' nullable, categorical and Arrow-backed columns become bool, int64,
    float64 or object (strings) arrays; missing values must be gone already.
    """
    array = np.asarray(values)
    if array.dtype.kind == "O":
        # infer_objects turns an object array of Python bools or numbers into that dtype.
        import pandas as pd

        array = pd.Series(array).infer_objects().to_numpy()
    return np.asarray(array, dtype=object) if array.dtype.kind in "OTS" else array


def _column(values: Any, name: str) -> NDArray[Any]:
    """Return one column without missing values as a NumPy array, or say what is missing."""
    import pandas as pd

    values = to_array(values)
    missing = np.asarray(
        pd.isna(values if hasattr(values, "dtype") else np.asarray(values, object))
    )
    if missing.any():
        raise ValueError(
            f"{name} holds {int(missing.sum())} missing values (NaN or None) in {len(missing)} "
            "rows. Drop those rows, or give the missing ones a value of their own, for example "
            "'unknown'."
        )
    return _natural(values)


def to_label_array(y: Any, *, name: str = "y") -> NDArray[Any]:
    """Return labels of any library as a 1-D NumPy array.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, 1)
        Lists, arrays, tensors, or Series of any dtype. A column vector is
        flattened with scikit-learn's DataConversionWarning.
    name : str, default="y"
        What to call it in errors.

    Returns
    -------
    ndarray of shape (n,)
        Of dtype bool, int, float, or object for strings.

    Raises
    ------
    ValueError
        For missing values or more than one column.
    """
    y = to_array(y)
    if getattr(y, "ndim", 1) != 1 or not hasattr(y, "dtype"):
        y = column_or_1d(y, warn=True)
    return _column(y, name)


def encode_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted classes and the code of each row's class.

    Parameters
    ----------
    y : array-like of shape (n,)
        Class labels of any dtype.

    Returns
    -------
    classes : ndarray of shape (k,)
        Sorted.
    codes : ndarray of shape (n,), int64
        ``classes[codes]`` equals ``y``.

    Raises
    ------
    ValueError
        For missing or continuous labels, or fewer than two classes.
    """
    if y is None:
        raise ValueError(
            "This classifier requires y to be passed, but the target y is None; expected one "
            "label per row of X."
        )
    labels = to_label_array(y)
    if labels.dtype.kind == "f" and np.isinf(labels).any():
        raise ValueError("Input y contains infinity; expected class labels.")
    try:
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
    except TypeError as error:
        types = sorted({type(label).__name__ for label in labels})
        raise TypeError(
            f"y mixes labels of the types {types}, which have no order; make them all text, for "
            "example by astype(str), or all numbers."
        ) from error
    if len(labels) == 0:
        raise ValueError("y is empty: 0 labels where at least one row per class is needed.")
    if len(classes) < 2:
        raise ValueError(
            f"y holds one class only, {python_value(classes[0])!r} in all {len(labels)} rows; "
            "a classifier needs at least two classes."
        )
    return classes, codes.astype(np.int64)


def encode_groups(
    sensitive_features: Any, n_rows: int, *, name: str = "sensitive_features"
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the groups and the code of each row's group.

    Parameters
    ----------
    sensitive_features : array-like of shape (n,) or (n, c)
        One column of any dtype, or several, whose combinations that occur are
        the groups.
    n_rows : int
        Number of rows expected.
    name : str, default="sensitive_features"
        What to call it in errors.

    Returns
    -------
    groups : ndarray of shape (G,)
        Sorted values; tuples of values where there are several columns.
    codes : ndarray of shape (n,), int64
        Group of each row.

    Raises
    ------
    ValueError
        For missing values or another number of rows.
    """
    values = to_array(sensitive_features)
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise ValueError(
            f"{name} is {values!r}; expected one value for each of the {n_rows} rows, as an array, "
            "a list or a column such as frame['sex']."
        )
    if not hasattr(values, "shape"):
        rows = values if hasattr(values, "__array__") else list(values)
        values = np.asarray(rows, dtype=object)
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] == 0):
        raise ValueError(
            f"{name} has shape {values.shape}; expected (n,) or (n, columns), one row per sample."
        )
    if len(values) != n_rows:
        raise ValueError(
            f"{name} has {len(values)} rows but X has {n_rows}; expected one group per row of X."
        )
    if values.ndim == 1:
        return _encode_column(_column(values, name))
    names = getattr(values, "columns", range(values.shape[1]))
    columns = [
        values.iloc[:, j] if hasattr(values, "iloc") else values[:, j] for j in range(len(names))
    ]
    if len(columns) == 1:
        return _encode_column(_column(columns[0], name))
    encoded = [
        _encode_column(_column(column, f"{name} column {label!r}"))
        for label, column in zip(names, columns, strict=True)
    ]
    cells, codes = np.unique(
        np.column_stack([column_codes for _, column_codes in encoded]), axis=0, return_inverse=True
    )
    groups = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        groups[i] = tuple(
            python_value(values[code]) for (values, _), code in zip(encoded, cell, strict=True)
        )
    return groups, codes.reshape(-1).astype(np.int64)


def _encode_column(column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    try:
        values, codes = np.unique(column, return_inverse=True)
    except TypeError:  # values of several types have no order: take that of their names
        import pandas as pd

        first_codes, found = pd.factorize(column)
        order = sorted(range(len(found)), key=lambda i: (str(type(found[i])), str(found[i])))
        values = np.empty(len(found), dtype=object)
        values[:] = [found[i] for i in order]
        codes = np.argsort(order)[first_codes]
    return values, codes.astype(np.int64)


def python_value(value: Any) -> Any:
    """Return a NumPy scalar as a Python one, so that groups print and hash plainly."""
    return value.item() if isinstance(value, np.generic) else value
