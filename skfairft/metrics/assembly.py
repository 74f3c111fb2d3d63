"""The numbers of a fairness report, rates and intervals, as tables of pandas."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inputs.encoding import column_names
from ..inputs.levels import Column
from ..parity.cells import Cells
from ..parity.counts import statistics, support
from ..parity.demands import Demand
from ..parity.intervals import intervals, limits_of
from ..parity.table import metric_of, ratio_of
from .bounds import bounds_table
from .frame import exact_index
from .report import COLUMNS, FairnessReport
from .tables import free_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["build_report", "free_names", "group_names", "report_names"]

# What the two levels of the columns of ``group_intervals`` are called.
_LEVELS = ["metric", "bound"]


def report_names(sensitive_features: Any, cells: Cells) -> list[str]:
    """Return the names of sensitive columns in a report, as of `group_names`."""
    metrics = statistics(cells, cells.mass)["group"]
    # fairlearn keeps y_true and y_pred in the same table as the groups.
    taken = {"y_true", "y_pred", "count", *metrics, *_LEVELS, *COLUMNS}
    return group_names(sensitive_features, cells.groups.tolist()[0], taken)


def group_names(sensitive_features: Any, group: Any, taken: Collection[Any]) -> list[str]:
    """Return one name per sensitive column: the caller's, or group, group_0, group_1, ...

    Examples
    --------
    >>> group_names([["f", 1], ["m", 2]], ("f", 1), ())
    ['group_0', 'group_1']
    """
    columns = len(group) if isinstance(group, tuple) else 1
    names = column_names(sensitive_features)
    if not len(set(names)) == columns == len(names):
        return ["group"] if columns == 1 else [f"group_{j}" for j in range(columns)]
    return free_names(names, taken)


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


def build_report(
    cells: Cells,
    names: list[str],
    columns: Sequence[Column],
    *,
    n_boot: Any,
    confidence_level: float,
    random_state: Any,
    groups: str,
    demands: Sequence[Demand] = (),
) -> FairnessReport:
    """Assemble the report behind `skfairft.metrics.fairness_report`.

    ``cells`` holds the rows of the report, and the levels that its headline compares; ``names`` are
    those of the sensitive columns in its tables, as of `report_names`, and ``columns`` what these
    are where there are several.
    """
    if isinstance(n_boot, bool) or not isinstance(n_boot, Integral) or n_boot < 0:
        raise ValueError(f"n_boot={n_boot!r}; expected a whole number >= 0, 0 for no resamples.")
    if not 0.0 < confidence_level < 1.0:
        raise ValueError(f"confidence_level={confidence_level!r}; expected a number in (0, 1).")
    level = float(confidence_level)
    report = replace(
        _report(cells, names, int(n_boot), level, random_state),
        groups=groups,
        bounds=bounds_table(cells, demands, level) if demands else None,
    )
    if not columns:
        return report
    of_column = {}
    for name, column in zip(names, columns, strict=True):
        own = np.fromiter(column.levels, dtype=object, count=len(column.levels))
        alone = replace(cells.merged([column]), groups=own)
        of_column[name] = _report(alone, [name], 0, level, None)
    by_column = _by_column(cells, of_column, level)
    return replace(report, of_column=of_column, by_column=by_column)


def _report(
    cells: Cells, names: list[str], n_boot: int, level: float, random_state: Any
) -> FairnessReport:
    """Return the report of groups whose columns have these names."""
    import pandas as pd

    values = statistics(cells, cells.mass)
    metrics = list(values["group"])
    index = exact_index(cells.groups.tolist(), names)
    bounds = intervals(cells, n_boot=n_boot, level=level, random_state=random_state)

    def with_bounds(scope: str) -> pd.DataFrame:
        numbers = [[float(v), *bounds[scope][m]] for m, v in values[scope].items()]
        return pd.DataFrame(numbers, list(values[scope]), COLUMNS)

    both = [(metric, bound) for metric in metrics for bound in ("low", "high")]
    overall = with_bounds("overall")
    count = cells.rows.sum(axis=(1, 2)).astype(np.int64)
    return FairnessReport(
        by_group=pd.DataFrame({"count": count, **values["group"]}, index=index),
        group_intervals=pd.DataFrame(
            np.concatenate([bounds["group"][m] for m in metrics]).T,
            index=index,
            columns=pd.MultiIndex.from_tuples(both, names=_LEVELS),
        ),
        overall=pd.Series({"count": float(count.sum()), **overall["value"]}),
        overall_intervals=overall[["low", "high"]],
        differences=with_bounds("difference"),
        ratios=with_bounds("ratio"),
        headline=with_bounds("headline"),
        confidence_level=level,
        n_boot=n_boot,
        support=pd.DataFrame(support(cells, cells.rows), index=index).astype(np.int64),
        positive=cells.labels.tolist()[cells.positives[0]] if len(cells.positives) == 1 else None,
        cells=replace(cells, kinds=None),
    )


def _by_column(cells: Cells, of_column: dict[str, FairnessReport], level: float) -> pd.DataFrame:
    """Return the distances of each column by itself, and last of the intersections."""
    import pandas as pd

    crossed = replace(cells, levels=None)
    limits = {metric_of(each): limits_of(crossed, each, level) for each in cells.constraints}
    limits |= {ratio_of(each): limits_of(crossed, each, level, ratio=True) for each in cells.ratios}
    rows = [
        {
            f"{metric}{end}": report.headline.loc[metric, at]
            for metric in limits
            for end, at in zip(("", "_low", "_high"), COLUMNS, strict=True)
        }
        for report in of_column.values()
    ]
    last: dict[str, float] = {}
    for metric, (value, low, high) in limits.items():
        last |= {metric: float(value), f"{metric}_low": float(low), f"{metric}_high": float(high)}
    name = free_name("intersections", of_column, "all")
    return pd.DataFrame([*rows, last], index=[*of_column, name], dtype=np.float64)
