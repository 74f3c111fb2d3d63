"""Bounds that were asked for, beside what rows say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..parity.cells import Cells
from ..parity.demands import Demand
from ..parity.intervals import limits_of
from .tables import Row, measured

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["asked_of", "bound_rows", "bound_words", "bounds_table"]


def bounds_table(cells: Cells, demands: Sequence[Demand], level: float) -> pd.DataFrame:
    """Return a row for each bound: what it is of, its value here, and whether it holds.

    It holds ("yes") where all of the interval is within the bound, and does not ("no") where all
    of it is beyond; between these rows do not tell ("unclear").

    Examples
    --------
    >>> from skfairft.parity.cells import count_cells
    >>> cells = count_cells([1, 0] * 500, [1, 0] * 500, ["a", "a", "b", "b"] * 250, None, None)
    >>> table = bounds_table(cells, [Demand("demographic_parity", bound=0.2)], 0.95)
    >>> table[["constraint", "form", "bound", "holds"]].to_numpy().tolist()
    [['demographic_parity', 'difference', 0.2, 'yes']]
    """
    import pandas as pd

    found = []
    for demand in demands:
        value, low, high = map(
            float, limits_of(cells, demand.constraint, level, ratio=demand.ratio)
        )
        nearer, further = (high, low) if demand.ratio else (low, high)
        holds = "unclear"
        if np.isnan(value):
            holds = "undefined"
        elif demand.kept(further):
            holds = "yes"
        elif not demand.kept(nearer):
            holds = "no"
        found.append((demand.constraint, demand.form, demand.bound, value, low, high, holds))
    columns = ["constraint", "form", "bound", "value", "low", "high", "holds"]
    return pd.DataFrame.from_records(found, columns=columns)


def asked_of(bounds: pd.DataFrame | None) -> list[Demand]:
    """Return the demands that a table is of; none of None."""
    if bounds is None:
        return []
    rows = bounds[["constraint", "form", "bound"]].itertuples(index=False)
    return [Demand(name, ratio=form == "ratio", bound=bound) for name, form, bound in rows]


def bound_rows(bounds: pd.DataFrame) -> list[Row]:
    """Return a table's rows: the bound in words, the value with its interval, whether it holds."""
    numbers = bounds[["value", "low", "high"]].to_numpy()
    parts = zip(bound_words(bounds), numbers, bounds["holds"], strict=True)
    return [[text, measured(*number), holds] for text, number, holds in parts]


def bound_words(bounds: pd.DataFrame) -> list[str]:
    """Return each bound in words."""
    return [
        f"{demand.metric} {'>=' if demand.ratio else '<='} {demand.bound:g}"
        for demand in asked_of(bounds)
    ]
