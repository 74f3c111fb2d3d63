"""Columns that belong together have as many rows."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import _num_samples

__all__ = ["refuse_other_length"]


def refuse_other_length(values: Any, name: str, X: Any, *, one: str) -> None:
    """Refuse a column that has not one value for each row of X.

    ``one`` is what each row has one of.

    Examples
    --------
    >>> refuse_other_length([0, 1], "y", [[1.0], [2.0], [3.0]], one="label")
    Traceback (most recent call last):
    ...
    ValueError: y has 2 rows but X has 3; expected one label per row of X.
    """
    own, rows = _num_samples(values), _num_samples(X)
    if own != rows:
        raise ValueError(
            f"{name} has {own} rows but X has {rows}; expected one {one} per row of X."
        )
