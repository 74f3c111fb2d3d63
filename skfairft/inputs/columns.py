"""Columns of any library as plain NumPy arrays, or one sentence about why not.

What leaves is one-dimensional, of dtype bool, int, float, complex, datetime, text or object, in
the machine's byte order, without missing values; equal values are equal in it, and different ones
differ.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Iterator, Set
from decimal import Decimal
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tensors import is_tensor
from .words import shown

__all__ = [
    "as_array",
    "column_with_missing",
    "holds_rows",
    "is_row",
    "plain_column",
    "types_of",
]

Array = NDArray[Any]


def plain_column(column: Any, name: str, *, instead: str = "'unknown'") -> Array:
    """Return one column (n,) of any library as bool, int, float, complex, dates or objects.

    Parameters
    ----------
    column : array-like, n values
        Of any library.
    name, instead : str
        What to call it, and what may stand for a missing value, in errors.

    Raises
    ------
    ValueError
        For missing values, and for values that cannot be told apart reliably: of types that
        are not hashable, numbers beside True and False, vectors.
    """
    array, missing = _flat_column(column, name)
    if missing.any():
        raise ValueError(
            f"{name} holds {int(missing.sum())} missing values (NaN or None) in {len(missing)} "
            "rows. Drop those rows, or give the missing ones a value of their own, for example "
            f"{instead}."
        )
    return _typed(array, name) if array.dtype.kind == "O" else _native(array, name)


def column_with_missing(column: Any, name: str) -> tuple[Array, NDArray[np.bool_]]:
    """Return the values that are not missing, as `plain_column`, and which rows (n,) lack one.

    Examples
    --------
    >>> values, missing = column_with_missing(["a", None, "b"], "s")
    >>> values.tolist(), missing.tolist()
    (['a', 'b'], [False, True, False])
    """
    array, missing = _flat_column(column, name)
    return plain_column(array[~missing], name), missing


def _flat_column(column: Any, name: str) -> tuple[Array, NDArray[np.bool_]]:
    """Return one column (n,), as it is, and which rows lack a value."""
    if isinstance(column, np.ma.MaskedArray):
        mask, column = np.ma.getmaskarray(column), column.data.astype(object)
        column[mask] = None
    array = as_array(column, name)
    if array.dtype.kind in "TSV":  # NumPy's text of variable width hides what is missing
        absent = getattr(array.dtype, "na_object", None)
        array = array.astype(object)
        if isinstance(absent, str):
            array[array == absent] = None
    if array.dtype.kind == "O" and array.ndim == 1:
        array = _scalars(array)
    # A tuple in a table's cell is one value.
    nested = [kind for kind in types_of(array) if holds_rows(kind) and kind is not tuple]
    if array.ndim != 1 or nested:
        raise ValueError(
            f"{name} holds a vector in each row; expected one value per row. Give each entry a "
            "column of its own."
        )
    import pandas as pd

    return array, np.asarray(pd.isna(array))


def as_array(values: Any, name: str) -> Array:
    """Return what a library holds as an array; a list as one of its items, whatever they are."""
    if not hasattr(values, "__array__") and not isinstance(values, memoryview):
        return np.fromiter(values, dtype=object, count=len(values))
    try:
        return np.asarray(values)
    except Exception as error:  # of whatever kind the library raises
        raise ValueError(
            f"{name} is a {type(values).__name__} that NumPy cannot read ({shown(error)}); "
            "expected one value per row, for example as a list."
        ) from error


def types_of(array: Array) -> set[type]:
    """Return the types of the values of an object array, nothing of another one."""
    return set(map(type, array.tolist())) if array.dtype.kind == "O" else set()


def holds_rows(kind: type) -> bool:
    """Tell whether values of a type may be several ones: tuples, arrays, other columns."""
    if issubclass(kind, (list, tuple, np.ndarray)):
        return True
    column = hasattr(kind, "__array__") and hasattr(kind, "__len__")
    return column and not issubclass(kind, np.generic)


def is_row(value: Any) -> bool:
    """Tell whether a value is several ones: a tuple, list or array, or another library's column.

    Examples
    --------
    >>> is_row((1, 2)), is_row("ab")
    (True, False)
    """
    return holds_rows(type(value)) and getattr(value, "ndim", 1) > 0


def _scalars(array: Array) -> Array:
    """Return an object array with Python's values in place of other libraries' scalars."""
    if types_of(array) <= {str, int, float, bool, type(None)}:
        return array
    return np.fromiter(map(_scalar, array), dtype=object, count=len(array))


def _scalar(value: Any) -> Any:
    if value is np.ma.masked:
        return None
    if isinstance(value, Decimal):  # a signaling NaN cannot even be compared
        return None if value.is_nan() else value
    if (isinstance(value, np.ndarray) or is_tensor(value)) and value.ndim == 0:
        return _scalar(value[()] if isinstance(value, np.ndarray) else value.item())
    if isinstance(value, np.void):  # a row of a structured array
        value = value.item()
    if isinstance(value, tuple):
        import pandas as pd

        parts = tuple(map(_scalar, value))
        return None if any(pd.isna(part) is True for part in parts) else parts
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        return value.item()  # of a date it would be a number
    return value.as_py() if hasattr(value, "as_py") else value  # Arrow's


def _typed(array: Array, name: str) -> Array:
    """Return an object array without missing values in the dtype of its values."""
    types = types_of(array)
    if all(issubclass(kind, str) for kind in types):
        return array
    for kind in {*_kinds(array)} if tuple in types else types:
        if _by_identity(kind) or not issubclass(kind, Hashable) or issubclass(kind, Set):
            raise ValueError(
                f"{name} holds values of the type {kind.__name__}, which cannot be told apart by "
                "what they hold; expected text, numbers, booleans or dates. Convert them, for "
                "example to text."
            )
    if bool in types and any(issubclass(kind, Number) for kind in types - {bool}):
        raise ValueError(
            f"{name} mixes True and False with numbers, and True == 1; expected one or the other. "
            "Convert the column, for example by astype(int) or astype(str)."
        )
    if any(issubclass(kind, str) for kind in types):
        return array
    import pandas as pd

    found = pd.Series(array).infer_objects().to_numpy()
    rounded = found.dtype.kind in "fc" and not np.all(found == array)
    # Beside floats, a whole number above 2**53 would become another one.
    return array if rounded or found.dtype.kind == "O" else _native(found, name)


def _kinds(values: Iterable[Any]) -> Iterator[type]:
    """Yield the types of values, and of what tuples among them hold."""
    for value in values:
        yield type(value)
        if isinstance(value, tuple):
            yield from _kinds(value)


def _by_identity(kind: type) -> bool:
    """Tell whether two values of a type differ whatever they hold; an Enum's members are unique."""
    methods = vars(object)
    return all(getattr(kind, name) is methods[name] for name in ("__eq__", "__hash__"))


def _native(array: Array, name: str) -> Array:
    """Return numbers or dates in native byte order, and in a dtype that pandas has, too."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind in "mM" and np.datetime_data(array.dtype)[0] == "ns":
        # Python has no nanoseconds: as a label 2020 would be 1577836800000000000.
        coarse = array.astype(f"{array.dtype.kind}8[us]")
        return coarse if np.array_equal(coarse, array) else array
    if array.dtype.type not in (np.longdouble, np.clongdouble):
        return array
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what overflows
        double = array.astype(np.float64 if array.dtype.kind == "f" else np.complex128)
    if not np.array_equal(double, array):
        raise ValueError(
            f"{name} holds numbers of dtype {array.dtype} that double precision cannot hold; "
            "round them, for example by astype(float)."
        )
    return double
