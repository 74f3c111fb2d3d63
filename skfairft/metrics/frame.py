"""Groups as an index of pandas, and the numbers of a report as fairlearn's ``MetricFrame``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["exact_index", "metric_frame"]


def exact_index(groups: list[Any], names: list[str]) -> pd.Index:
    """Return the groups as an index, of objects where another dtype would change them."""
    import pandas as pd

    columns = [groups] if len(names) == 1 else [list(c) for c in zip(*groups, strict=True)]
    exact = [
        pd.Index(column, dtype=None if _is_kept(column) else object, name=name)
        for column, name in zip(columns, names, strict=True)
    ]
    return exact[0] if len(names) == 1 else pd.MultiIndex.from_arrays(exact, names=names)


def metric_frame(by_group: pd.DataFrame, overall: pd.Series) -> Any:
    """Return a MetricFrame of numbers that are known, those of each group and those of all rows.

    Its metrics look them up: its rows are the groups, so one row is a group, and more are all.
    """
    from fairlearn.metrics import MetricFrame

    def known(metric: str) -> Callable[..., Any]:
        def value(rows: NDArray[np.int64], _: Any) -> Any:
            return by_group[metric].iloc[rows[0]] if len(rows) == 1 else overall[metric]

        return value

    rows = np.arange(len(by_group))
    return MetricFrame(
        metrics={metric: known(str(metric)) for metric in by_group},
        y_true=rows,
        y_pred=rows,
        sensitive_features=_sortable(by_group.index),
    )


def _is_kept(values: list[Any]) -> bool:
    """Tell whether pandas keeps each value: beside floats it rounds whole numbers."""
    import pandas as pd

    return bool(pd.Index(values).tolist() == values)


def _sortable(index: pd.Index) -> pd.DataFrame:
    """Return the groups as fairlearn takes them: each column must have an order.

    Where a column has none, its values being of several types, or pandas would change them,
    their ``repr`` stands in, in which 1 and "1" still differ.
    """
    columns = index.to_frame(index=False)
    for name, column in columns.items():
        try:
            sorted(column)
            kept = column.dtype != object or _is_kept(column.tolist())
        except TypeError:
            kept = False
        if not kept:
            columns[name] = column.map(repr)
    return columns
