"""The columns that groups are intersections of, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .encoding import column_names, column_orders, in_order
from .words import one_line, shown

__all__ = ["Column", "columns_of", "level_name"]


class Column(NamedTuple):
    """A sensitive column: its name, its levels, and the number (G,) of each group's level."""

    name: str
    levels: tuple[Any, ...]
    codes: NDArray[np.int64]


def columns_of(groups: NDArray[Any], sensitive_features: Any) -> tuple[Column, ...]:
    """Return the columns that groups (G,) are intersections of; none where there is one column.

    Levels are sorted, those of ordered categories in their order. ``sensitive_features``, as they
    were given, name the columns; those without a name, or of one name, are called "column 0" and
    so on.

    Examples
    --------
    >>> groups = np.empty(2, dtype=object)
    >>> groups[:] = [("f", 1), ("m", 1)]
    >>> [(each.name, each.levels) for each in columns_of(groups, [["f", 1], ["m", 1]])]
    [('column 0', ('f', 'm')), ('column 1', (1,))]
    """
    values = groups.tolist()
    if not values or not isinstance(values[0], tuple):
        return ()
    n_columns = len(values[0])
    names = column_names(sensitive_features)
    if not len(set(names)) == len(names) == n_columns:
        names = [f"column {j}" for j in range(n_columns)]
    orders = column_orders(sensitive_features)
    orders = orders if len(orders) == n_columns else [None] * n_columns
    parts = zip(names, zip(*values, strict=True), orders, strict=True)
    return tuple(Column(name, *_levels(part, order)) for name, part, order in parts)


def _levels(
    part: Sequence[Any], order: list[Any] | None
) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    """Return the distinct values of a column in their order, and the code of each."""
    number: dict[Any, int] = {}
    codes = np.array([number.setdefault(value, len(number)) for value in part], dtype=np.int64)
    found = np.fromiter(number, dtype=object, count=len(number))
    if order is not None and set(number) <= set(order):
        places = np.argsort([order.index(value) for value in found])
        return tuple(found[places]), np.argsort(places)[codes].astype(np.int64)
    levels, codes = in_order(codes, found)
    return tuple(levels), codes


def level_name(column: str, level: Any) -> str:
    """Return a level in words.

    Examples
    --------
    >>> level_name("sex", "f"), level_name("column 1", 3)
    ("sex='f'", 'column 1=3')
    """
    return f"{one_line(column)}={shown(level)}"
