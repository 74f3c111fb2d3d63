"""Points of compressed networks from their reports, as a display takes them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inputs.words import listed, shown
from ._common import check_known

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "by_system", "check_groups", "measure_of", "points_table"]

COLUMNS = ("system", "x", "group", "value", "low", "high", "n")
_ENDS = ("", "_low", "_high")


def _is_report(given: Any) -> bool:
    return hasattr(given, "by_group") and hasattr(given, "parameters")


def by_system(reports: Any) -> tuple[dict[Any, dict[float, Any]], bool]:
    """Return the reports by system and x, and whether they came as lists."""
    expected = (
        "expected a mapping of numbers to what compression_report returns, such as {0.1: report}, "
        "a list of such reports, or a mapping of names to either or to one report."
    )
    kinds = (Mapping, list, tuple)
    if not isinstance(reports, kinds) or not len(reports):
        held = "empty" if isinstance(reports, kinds) else f"a {type(reports).__name__}"
        raise ValueError(f"reports is {held}; {expected}")
    systems: dict[Any, Any] = {"": reports}
    if isinstance(reports, Mapping) and all(isinstance(each, kinds) for each in reports.values()):
        systems = dict(reports)
    elif isinstance(reports, Mapping) and all(isinstance(name, str) for name in reports):
        systems = {name: [report] for name, report in reports.items()}
    lists = [not isinstance(each, Mapping) for each in systems.values()]
    if any(lists) and not all(lists):
        raise ValueError(
            "reports has lists and mappings; expected one of the two, so that x is the same in all."
        )
    for system, own in systems.items():
        which = f"reports[{system!r}]" if system != "" else "reports"
        inside = own.values() if isinstance(own, Mapping) else own
        other = [type(each).__name__ for each in inside if not _is_report(each)]
        if other or not len(own):
            what = f"holds [{listed(other)}]" if other else "is empty"
            raise ValueError(f"{which} {what}; {expected}")
    return {system: _points(own) for system, own in systems.items()}, all(lists)


def _points(own: Any) -> dict[float, Any]:
    """Return the reports of a system by x."""
    if isinstance(own, Mapping):
        for x in own:
            if not isinstance(x, Real) or isinstance(x, bool) or not np.isfinite(float(x)):
                raise ValueError(
                    f"A report has x={x!r}; expected a finite number, such as the budget or the "
                    "rank. Names of systems have mappings: {'mine': {0.1: report}}."
                )
        return {float(x): report for x, report in own.items()}
    found: dict[float, Any] = {}
    for report in own:
        before, after = report.parameters
        if not before or after is None:
            raise ValueError(
                f"A report has parameters={report.parameters!r}, of which no share can be taken; "
                "pass a mapping of numbers to reports in place of a list."
            )
        if after / before in found:
            raise ValueError(
                f"Two reports are of networks with {after:,} of {before:,} parameters; expected "
                "one for each share. Pass a mapping of names to lists, one for each system."
            )
        found[after / before] = report
    return found


def check_groups(systems: Mapping[Any, Mapping[float, Any]]) -> None:
    """Refuse reports of different groups."""
    first: list[Any] | None = None
    for system, points in systems.items():
        for x, report in points.items():
            own = report.by_group.index.tolist()
            first = own if first is None else first
            if own != first:
                of = f" of {shown(system)}" if system != "" else ""
                raise ValueError(
                    f"The report at x={x:g}{of} has the groups [{listed(own[:-1])}], and the first "
                    f"one [{listed(first[:-1])}]; expected the same groups in all."
                )


def measure_of(reports: list[Any], measure: str | None) -> str:
    """Return the measure that is drawn: that which is asked for, if all reports have it."""
    known = [
        name
        for name in map(str, reports[0].by_group)
        if all(f"{name}{end}" in report.by_group for report in reports for end in _ENDS)
    ]
    if measure is None:
        measure = "loss_rise" if "loss_rise" in known else "divergence"
    check_known(measure, known, "measure")
    return measure


def points_table(systems: Mapping[Any, Mapping[float, Any]], measure: str) -> pd.DataFrame:
    """Return the rows of a display."""
    import pandas as pd

    rows = [
        (system, x, group, *numbers)
        for system, points in systems.items()
        for x, report in sorted(points.items())
        for group, *numbers in zip(
            report.by_group.index.tolist(),
            *(report.by_group[f"{measure}{end}"].tolist() for end in _ENDS),
            report.by_group["n"].tolist(),
            strict=True,
        )
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
