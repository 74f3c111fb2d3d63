"""Tables of any library as columns: pandas, polars, Arrow, torch, NumPy, Python's containers."""

from __future__ import annotations

from collections.abc import Mapping, Set
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from .categories import category_order
from .columns import as_array, holds_rows, is_row, plain_column, types_of
from .tensors import to_array
from .words import shown

__all__ = [
    "Table",
    "number_column",
    "read_table",
    "refuse_weightless",
    "weight_column",
    "weight_values",
]


class Table(NamedTuple):
    """Columns of one length, not yet looked into."""

    shape: tuple[int, ...]
    names: list[Any]  # None where a column came without
    columns: list[Any]
    orders: list[list[Any] | None]  # of categories, None where a column's values have none


def read_table(values: Any, name: str, *, n_rows: int | None = None) -> Table:
    """Return the columns of a table of n rows, or of one column.

    A frame, an array of two axes, a MultiIndex and a structured array have columns; so has a
    list or a column whose values are tuples, lists or arrays of one length. The shape is ``(n,)``
    for one column that came as such, otherwise (n, columns). Errors call it by its name, and say
    how many rows are expected.

    Raises
    ------
    ValueError
        For what has no rows or no order of rows, and for rows of different lengths.
    TypeError
        For sparse data, and tensors that hold no plain numbers.
    """
    _refuse_rowless(values, name, "each row" if n_rows is None else f"each of the {n_rows} rows")
    values = to_array(values, name)
    named = _named_columns(values)
    if named is not None:
        columns = [column for _, column in named]
        n = len(columns[0]) if columns else len(values)
        orders = [category_order(column) for column in columns]
        return Table((n, len(columns)), [label for label, _ in named], columns, orders)
    array = values if isinstance(values, np.ma.MaskedArray) else as_array(values, name)
    if array.ndim == 1 and array.dtype.kind == "O":
        array = _rows_of(array, name)
    if array.ndim == 2:
        width = array.shape[1]
        return Table(array.shape, [None] * width, [*array.T], [None] * width)
    return Table(array.shape, [None], [array], [category_order(values)])


def number_column(values: Any, name: str) -> NDArray[np.float64]:
    """Return one number per row, such as weights, in double precision (n,).

    A ValueError is raised as by `plain_column`, and for several columns and other values.
    """
    table = read_table(values, name)
    if len(table.shape) != 1:
        raise ValueError(f"{name} has shape {table.shape}; expected one number per row.")
    column = plain_column(table.columns[0], name, instead="0")
    numbers = column.dtype.kind in "biuf" or all(
        isinstance(value, Number) and not isinstance(value, complex) for value in column
    )
    if not numbers or column.dtype.kind in "cmM":
        raise ValueError(
            f"{name} holds values like {shown(column.tolist()[0])}; expected a number per row."
        )
    return column.astype(np.float64)


def weight_column(
    values: Any, name: str, n_rows: int, *, rows_of: str = "X"
) -> NDArray[np.float64]:
    """Return sample weights (n,), ones for None: finite, at least 0, and some of them positive."""
    if values is None:
        return np.ones(n_rows)
    w = weight_values(values, name, n_rows, rows_of=rows_of)
    refuse_weightless(w, name, n_rows)
    return w


def refuse_weightless(w: NDArray[np.float64], name: str, n_rows: int) -> None:
    """Refuse weights, or sums of them, that are all zero."""
    if not w.any():
        raise ValueError(
            f"{name} is zero for all {n_rows} rows; expected a positive weight in some."
        )


def weight_values(values: Any, name: str, n_rows: int, *, rows_of: str) -> NDArray[np.float64]:
    """Return the weights (n,) of some rows among others: finite, and at least 0."""
    w = number_column(values, name)
    if len(w) != n_rows:
        raise ValueError(
            f"{name} has {len(w)} rows but {rows_of} has {n_rows}; expected one weight per row of "
            f"{rows_of}."
        )
    if (wrong := ~(np.isfinite(w) & (w >= 0.0))).any():
        raise ValueError(
            f"{name} holds {w[wrong][0]:g} in row {np.flatnonzero(wrong)[0]}; expected finite "
            "numbers of at least 0. A row that is not to count has weight 0."
        )
    return w


def _refuse_rowless(values: Any, name: str, rows: str) -> None:
    """Raise an error for what has no rows, or none in an order."""
    if issparse(values):
        raise TypeError(
            f"{name} is a sparse matrix of shape {values.shape}; expected dense values. Pass "
            f"{name}.toarray()."
        )
    kind, sized = type(values).__name__, hasattr(values, "__len__")
    readable = sized and hasattr(values, "__getitem__")
    readable = readable or hasattr(values, "__array__") or hasattr(values, "__iter__")
    found = remedy = ""
    if isinstance(values, Mapping):
        found = f"a mapping ({kind}) with {shown(list(values)[:5])}"
        remedy = f". Pass the column itself, or a table such as pandas.DataFrame({name})"
    elif isinstance(values, Set):
        found, remedy = f"a {kind}, which has no order", ", in the order of the rows"
    elif not sized and hasattr(values, "collect"):  # polars' frame that is not computed yet
        found, remedy = f"a {kind}, which holds no rows yet", f". Pass {name}.collect()"
    elif isinstance(values, (str, bytes, bytearray, type)) or not readable:
        found, remedy = shown(values), ", as an array, a list or a column of a frame"
    elif not sized and not hasattr(values, "__array__"):
        found, remedy = f"a {kind}, which can be read only once", f". Pass list({name})"
    if found:
        raise ValueError(f"{name} is {found}; expected one value for {rows}{remedy}.")


def _named_columns(values: Any) -> list[tuple[Any, Any]] | None:
    """Return the columns with their labels of what has such, None of anything else."""
    if hasattr(values, "iloc") and hasattr(values, "columns"):  # labels may repeat
        return [(label, values.iloc[:, j]) for j, label in enumerate(values.columns)]
    if hasattr(values, "get_level_values"):  # pandas' indices
        levels = range(values.nlevels)
        if len(levels) == 1:
            return None
        return [(values.names[j], values.get_level_values(j)) for j in levels]
    if hasattr(values, "get_columns"):  # polars
        return [(column.name, column) for column in values.get_columns()]
    if hasattr(values, "column_names") and hasattr(values, "columns"):  # Arrow
        return list(zip(values.column_names, values.columns, strict=True))
    fields = getattr(getattr(values, "dtype", None), "names", None)
    return None if fields is None else [(field, values[field]) for field in fields]


def _rows_of(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return a column of rows of one length as an array of two axes, another one as it is."""
    if not any(map(holds_rows, types_of(array))):
        return array
    lengths = {len(value) if is_row(value) else -1 for value in array}
    if len(lengths) > 1:
        found = ["single values" if n < 0 else f"rows of {n}" for n in sorted(lengths)]
        raise ValueError(
            f"{name} is ragged: it holds {' and '.join(found[:4])}; expected one value, or the "
            "same number of values, in each row."
        )
    (width,) = lengths
    if width < 0:
        return array
    table = np.empty((len(array), width), dtype=object)
    for i, row in enumerate(array):
        for j, value in enumerate(row):
            table[i, j] = value
    return table
