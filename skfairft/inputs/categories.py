"""Categories that have an order, and values in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import plain_column

__all__ = ["category_order", "in_category_order"]


def category_order(column: Any) -> list[Any] | None:
    """Return the categories of a column in their order, None where they have none.

    An ordered categorical of pandas has such an order, an Enum of polars, and an ordered dictionary
    of Arrow. They are Python's values, as those of the column are; of dates, which have an order
    anyway, there are none.

    Examples
    --------
    >>> import pandas as pd
    >>> size = pd.Series(["S", "L", "S"], dtype=pd.CategoricalDtype(["S", "M", "L"], ordered=True))
    >>> category_order(size), category_order(size.astype(str))
    (['S', 'M', 'L'], None)
    """
    categories = _categories(column)
    if categories is None:
        return None
    plain = plain_column(categories, "the categories")
    return None if plain.dtype.kind in "mM" else plain.tolist()


def _categories(column: Any) -> Any:
    dtype = getattr(column, "dtype", None)
    if getattr(dtype, "ordered", None) is True:  # pandas
        return dtype.categories  # type: ignore[union-attr]
    kind = type(dtype)
    if kind.__name__ == "Enum" and kind.__module__.startswith("polars"):
        return dtype.categories  # type: ignore[union-attr]
    if getattr(getattr(column, "type", None), "ordered", None) is True:  # Arrow
        if hasattr(column, "combine_chunks"):
            column = column.unify_dictionaries().combine_chunks()
        return column.dictionary
    return None


def in_category_order(
    values: NDArray[Any], codes: NDArray[np.int64], order: Sequence[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return distinct values in the order of categories, and the codes in it.

    ``values[codes]`` is the column (n,).

    Examples
    --------
    >>> values, codes = in_category_order(np.array(["L", "S"]), np.array([1, 0]), ["S", "M", "L"])
    >>> values.tolist(), codes.tolist()
    (['S', 'L'], [0, 1])
    """
    place = {value: i for i, value in enumerate(order)}
    ranks = [place.get(value, len(order)) for value in values.tolist()]
    sequence = np.argsort(ranks, kind="stable")
    return values[sequence], np.argsort(sequence)[codes].astype(np.int64)
