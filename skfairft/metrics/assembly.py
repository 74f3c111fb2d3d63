"""The numbers of a fairness report: fairlearn's ``MetricFrame``, intervals, and notes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.encoding import column_names
from ..inputs.words import group_parts
from ..parity.bootstrap import bootstrap_intervals
from ..parity.counts import Cells, Floats, by_label, denominators, statistics
from .report import COLUMNS, FairnessReport, free_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["build_report", "free_names"]

# A share of 30 rows has a standard error of up to 0.09: below that a note is due.
FEW_ROWS = 30

# What the two levels of the columns of ``group_intervals`` are called.
_LEVELS = ["metric", "bound"]


def _group_names(sensitive_features: Any, group: Any, metrics: list[str]) -> list[str]:
    """Return one name per sensitive column: the caller's, or group, group_0, group_1, ..."""
    columns = len(group) if isinstance(group, tuple) else 1
    names = column_names(sensitive_features)
    if not len(set(names)) == columns == len(names):
        return ["group"] if columns == 1 else [f"group_{j}" for j in range(columns)]
    # fairlearn keeps y_true and y_pred in the same table as the groups.
    return free_names(names, {"y_true", "y_pred", "count", *metrics, *_LEVELS, *COLUMNS})


def free_names(names: list[str], taken: Collection[Any]) -> list[str]:
    """Return distinct names of sensitive columns, marked where a table uses them itself.

    With names that are taken pandas cannot turn the levels of the index into columns.

    Examples
    --------
    >>> free_names(["sex", "count"], {"count", "tpr"})
    ['sex', 'count (group)']
    """
    free: list[str] = []
    for name in names:  # a mark must not make the name of another column
        others = {*taken, *names, *free}
        free.append(free_name(name, others, "group") if name in taken else name)
    return free


def _is_kept(values: list[Any]) -> bool:
    """Tell whether pandas keeps each value: beside floats it rounds whole numbers."""
    import pandas as pd

    return bool(pd.Index(values).tolist() == values)


def _exact_index(groups: list[Any], names: list[str]) -> pd.Index:
    """Return the groups as an index, of objects where another dtype would change them."""
    import pandas as pd

    if len(names) == 1:
        dtype = None if _is_kept(groups) else object
        return pd.Index(groups, name=names[0], dtype=dtype)
    columns = [list(column) for column in zip(*groups, strict=True)]
    return pd.MultiIndex.from_arrays(
        [pd.Index(column, dtype=None if _is_kept(column) else object) for column in columns],
        names=names,
    )


def _sortable(index: pd.Index) -> pd.Index:
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
    return columns.set_index(list(columns)).index


def _few_rows(cells: Cells, behind: dict[str, Floats], rows: Floats) -> list[str]:
    """Return a note on each group with few rows, in all or behind one of its rates."""
    notes = []
    for g, group in enumerate(cells.groups.tolist()):
        total = int(rows[g].sum())
        few = [f"{int(n[g])} rows for {name}" for name, n in behind.items() if n[g] < FEW_ROWS]
        if few:  # too few in all is said once, not for each rate
            text = f"{total} rows" if total < FEW_ROWS else ", ".join(few)
            notes.append(f"few rows: {' / '.join(group_parts(group))} has {text}")
    return notes


def _metric_frame(
    cells: Cells, metrics: list[str], counts: Floats, rows: Floats, index: pd.Index
) -> Any:
    """Return the MetricFrame over occupied cells in place of rows: the same numbers, sooner."""
    from fairlearn.metrics import MetricFrame

    size = counts.shape[1] * counts.shape[2]
    occupied = np.flatnonzero(rows)
    features = index.to_frame(index=False).iloc[occupied // size]

    def count(cell: NDArray[np.int64], _: Any) -> int:
        return int(rows.flat[cell].sum())

    def metric(name: str) -> Callable[..., float]:
        def value(cell: NDArray[np.int64], _: Any) -> float:
            table = np.bincount(cell % size, counts.flat[cell], size).astype(np.float64)
            return float(statistics(cells, table.reshape(1, *cells.shape[1:]))["overall"][name])

        return value

    return MetricFrame(
        metrics={"count": count, **{name: metric(name) for name in metrics}},
        y_true=occupied,
        y_pred=occupied,
        sensitive_features=features.reset_index(drop=True),
    )


def build_report(
    cells: Cells,
    sensitive_features: Any,
    *,
    n_boot: Any,
    confidence_level: float,
    random_state: Any,
) -> FairnessReport:
    """Assemble the report behind `skfairft.metrics.fairness_report`.

    ``cells`` holds the rows of the report; ``sensitive_features``, as the caller passed
    them, only name the columns.
    """
    import pandas as pd

    if isinstance(n_boot, bool) or not isinstance(n_boot, Integral) or n_boot < 0:
        raise ValueError(f"n_boot={n_boot!r}; expected a whole number >= 0, 0 for no intervals.")
    if not 0.0 < confidence_level < 1.0:
        raise ValueError(f"confidence_level={confidence_level!r}; expected a number in (0, 1).")
    groups = cells.groups.tolist()
    rows, counts = cells.count(None), cells.count(cells.weight)
    behind = by_label(cells, denominators(rows, cells.positives))
    values = statistics(cells, counts)
    metrics = list(values["group"])
    index = _exact_index(groups, _group_names(sensitive_features, groups[0], metrics))
    frame_index = _sortable(index)
    frame = _metric_frame(cells, metrics, counts, rows, frame_index)
    bounds = bootstrap_intervals(
        cells, values, n_boot=int(n_boot), level=confidence_level, random_state=random_state
    )

    def with_bounds(points: pd.Series, scope: str) -> pd.DataFrame:
        return pd.DataFrame(
            [[points[m], *bounds[scope][m]] for m in points.index], points.index, COLUMNS
        )

    # fairlearn also lists intersections that do not occur, and calls the difference of a
    # lone defined group 0: neither is a finding.
    by_group = frame.by_group.reindex(frame_index).set_axis(index).astype({"count": np.int64})
    compared = by_group[metrics].notna().sum() >= 2
    both = [(metric, bound) for metric in metrics for bound in ("low", "high")]
    return FairnessReport(
        frame=frame,
        by_group=by_group,
        group_intervals=pd.DataFrame(
            np.concatenate([bounds["group"][m] for m in metrics]).T,
            index=index,
            columns=pd.MultiIndex.from_tuples(both, names=_LEVELS),
        ),
        overall=frame.overall,
        overall_intervals=pd.DataFrame(
            [bounds["overall"][m] for m in metrics], metrics, ["low", "high"]
        ),
        differences=with_bounds(frame.difference()[metrics].where(compared), "difference"),
        ratios=with_bounds(frame.ratio()[metrics].where(compared), "ratio"),
        headline=with_bounds(
            pd.Series({name: float(value) for name, value in values["headline"].items()}),
            "headline",
        ),
        confidence_level=float(confidence_level),
        n_boot=int(n_boot),
        support=pd.DataFrame(behind, index=index).astype(np.int64),
        positive=cells.labels.tolist()[cells.positives[0]] if len(cells.positives) == 1 else None,
        notes=tuple(_few_rows(cells, behind, rows)),
    )
