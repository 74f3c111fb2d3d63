"""A fairness report as what JSON holds; `skfairft.metrics.files` reads it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..inputs.values import CannotWriteError, pack
from ..inputs.words import shown
from .facts import Facts

__all__ = ["FORMAT", "as_json"]

# Name and version of the files.
FORMAT = ["skfairft fairness report", 1]


def as_json(report: Facts, numbers: list[dict[Any, Any]]) -> dict[str, Any]:
    """Return each number, of scope, group and metric, and the counts that they follow from."""
    for row in numbers:
        row |= {"group": _plain(row["group"]), "metric": str(row["metric"])}
        row |= {name: _known(row[name]) for name in ("value", "low", "high")}
    cells, f1 = report.cells, report.group_intervals["f1"]
    names = [str(name) for name in report.by_group.index.names]
    bounds = [] if report.bounds is None else report.bounds.to_dict("records")
    return {
        "format": FORMAT,
        "columns": {
            name: [*map(_packed, report.of_column[name].cells.groups.tolist())]
            if report.of_column
            else []
            for name in names
        },
        "groups": [*map(_packed, cells.groups.tolist())],
        "labels": [*map(_packed, cells.labels.tolist())],
        "positives": [cells.positives.start, cells.positives.stop],
        "between": report.groups,
        "constraints": cells.constraints,
        "ratios": cells.ratios,
        "bounds": [
            {name: each[name] for name in ("constraint", "form", "bound")} for each in bounds
        ],
        "confidence_level": report.confidence_level,
        "n_boot": report.n_boot,
        "f1": {
            "overall": [*map(_known, report.overall_intervals.loc["f1"].to_numpy().tolist())],
            "groups": [[*map(_known, ends)] for ends in f1.to_numpy().tolist()],
        },
        "rows": cells.rows.tolist(),
        "mass": cells.mass.tolist(),
        "squares": cells.squares.tolist(),
        "numbers": numbers,
    }


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number


def _packed(value: Any) -> Any:
    try:
        return pack(value)
    except CannotWriteError as error:
        raise TypeError(
            f"{shown(value)} is a {error}, which JSON does not hold; name labels and groups by "
            "texts or numbers."
        ) from None


def _plain(group: Any) -> Any:
    """Return a group as a reader of JSON knows it: a list of several columns, else a text."""
    if isinstance(group, tuple):
        return [*map(_plain, group)]
    return group if group is None or isinstance(group, (str, bool, int)) else str(group)
