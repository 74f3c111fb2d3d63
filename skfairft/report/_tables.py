"""The tables of a report as text, the same for the page and the card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..inputs.words import group_name, group_parts
from ..metrics.assembly import FEW_ROWS
from ..metrics.report import free_name
from ..parity.names import DISTANCES
from ._words import between, number, rate_name

if TYPE_CHECKING:
    from ._result import ModelReport

__all__ = ["Cell", "Table"]

# What stands beside a number of rows that is below FEW_ROWS.
_FEW = "†"

# Of many features or singular values the first.
_MOST_ROWS = 10

# A square table of more groups is not read.
_MOST_GROUPS = 20


class Cell(NamedTuple):
    """A number as text, and its interval."""

    text: str
    note: str = ""


class Table(NamedTuple):
    """A table: leading columns that name the row, others that hold numbers."""

    caption: str
    header: list[str]
    rows: list[list[Cell]]
    names: int = 1
    total: bool = False  # whether the last row is that of all groups together


def counts(report: ModelReport) -> Table:
    """Rows by group and class; with two classes also the share of the second."""
    table = report.counts
    binary = table.shape[1] == 2
    share = [f"share of {_line(table.columns[1])}"] if binary else []
    body = [
        [
            *_names(group),
            *(_count(n) for n in row),
            _count(int(row.sum())),
            *([Cell(number(row[1] / row.sum()))] if binary else []),
        ]
        for group, row in zip(table.index.tolist(), table.to_numpy(), strict=True)
    ]
    total = table.to_numpy().sum(axis=0)
    body.append(
        [
            *_overall(report),
            *(Cell(f"{n:,}") for n in total),
            Cell(f"{total.sum():,}"),
            *([Cell(number(total[1] / total.sum()))] if binary else []),
        ]
    )
    header = [*_header(report), *(f"class {_line(c)}" for c in table.columns), "all rows", *share]
    few = f" {_FEW} fewer than {FEW_ROWS} rows." if (table < FEW_ROWS).to_numpy().any() else ""
    caption = f"Rows by group and true class.{few}"
    return Table(caption, header, body, table.index.nlevels, total=True)


def distances(report: ModelReport) -> Table:
    """Return the headline numbers."""
    table = report.fairness.headline
    names = {
        "weighted_f1_error": "error: 100 - weighted F1 (%)",
        "demographic_parity_distance": DISTANCES["demographic_parity"],
        "equalized_odds_distance": DISTANCES["equalized_odds"],
    }
    digits = {"weighted_f1_error": 2}
    body = [
        [Cell(names[m]), *_apart(table.loc[m], digits.get(m, 3), report.fairness.n_boot)]
        for m in table.index
    ]
    header = ["", "value", *_interval_header(report)]
    return Table("Error, and distances between the groups, in which 0 is parity.", header, body)


def rates(report: ModelReport) -> Table:
    """Return every rate of every group."""
    fairness = report.fairness
    metrics = fairness.overall_intervals.index.tolist()
    body = []
    for i, group in enumerate(fairness.by_group.index.tolist()):
        bounds = fairness.group_intervals.iloc[i]
        values = fairness.by_group.iloc[i]
        cells = [_with_note(values[m], bounds[m, "low"], bounds[m, "high"]) for m in metrics]
        body.append([*_names(group), _count(int(values["count"])), *cells])
    overall = [
        _with_note(fairness.overall[m], *fairness.overall_intervals.loc[m, ["low", "high"]])
        for m in metrics
    ]
    body.append([*_overall(report), Cell(f"{int(fairness.overall['count']):,}"), *overall])
    header = [*_header(report), "rows", *map(rate_name, metrics)]
    caption = "Rates of each group" + (", with intervals." if fairness.n_boot else ".")
    return Table(caption, header, body, fairness.by_group.index.nlevels, total=True)


def compared(report: ModelReport) -> Table:
    """Largest minus, and smallest divided by largest, value over the groups."""
    fairness = report.fairness
    body = [
        [
            Cell(rate_name(m)),
            *(_with_note(*table.loc[m, ["value", "low", "high"]]) for table in _both(report)),
        ]
        for m in fairness.differences.index
    ]
    header = ["", "difference", "ratio"]
    caption = "Largest minus smallest, and smallest divided by largest, value over the groups."
    return Table(caption, header, body)


def importance(report: ModelReport) -> Table:
    """Return the importance of the features that count most."""
    uniform = report.summary.importance == "uniform"  # then report.importance is ones
    used = report.group_importance.mean(axis=0) if uniform else report.importance
    order = np.argsort(-used, kind="stable")[:_MOST_ROWS]
    shown = report.group_importance if report.summary.groups_given else np.empty((0, 0))
    groups = (report.summary.groups or ()) if len(shown) else ()
    names = report.features
    body = [
        [
            Cell(f"feature\N{NO-BREAK SPACE}{j}" if names is None else names[j]),
            Cell(f"{used[j]:#.3g}"),
            *(Cell(f"{row[j]:#.3g}") for row in shown),
        ]
        for j in order.tolist()
    ]
    header = ["", "plain mean" if uniform else "neutralized", *map(group_name, groups)]
    total = len(report.importance)
    which = f"the {_MOST_ROWS} most important of {total}" if total > _MOST_ROWS else f"the {total}"
    caption = f"Importance (square root of Fisher) of {which} features."
    return Table(caption, header, body)


def similarity(report: ModelReport) -> Table | None:
    """Return the cosine between the importances of each two groups, if they can be read."""
    if not 1 < len(report.group_importance) <= _MOST_GROUPS:
        return None
    names = [group_name(group) for group in report.summary.groups or ()]
    body = [
        [Cell(name), *(Cell(number(value)) for value in row)]
        for name, row in zip(names, report.similarity, strict=True)
    ]
    return Table("Cosine between the groups' importances.", ["", *names], body)


def spectrum(report: ModelReport) -> Table:
    """Return the singular values, and the energy up to each."""
    body = [
        [Cell(str(r)), Cell(f"{value:.4g}"), Cell(number(share, 4))]
        for r, (value, share) in enumerate(
            zip(report.singular_values, report.energy, strict=True), start=1
        )
    ][:_MOST_ROWS]
    caption = f"{_first(len(report.singular_values)).capitalize()} singular values."
    return Table(caption, ["rank", "singular value", "energy up to it"], body)


def tradeoff(report: ModelReport) -> Table | None:
    """Return the model's point of the path beside that without a constraint."""
    if report.path is None:
        return None
    rows = {"this model": report.chosen}
    if report.unconstrained != report.chosen:
        rows = {"without a constraint": report.unconstrained, **rows}
    columns = {
        "weighted_f1_error": "error (%)",
        "demographic_parity_distance": DISTANCES["demographic_parity"],
        "equalized_odds_distance": DISTANCES["equalized_odds"],
    }
    if report.path.constraint not in ("demographic_parity", "equalized_odds"):
        columns["difference"] = DISTANCES[report.path.constraint]
    shown = {name: report.path.table.loc[at] for name, at in rows.items() if at is not None}
    if not shown:
        return None
    moved = any(row["positive_share"] != 1.0 for row in shown.values())
    body = [
        [
            Cell(name),
            Cell(f"{row['fairness_weight']:.3g}"),
            *([Cell(f"{row['positive_share']:.3g}")] if moved else []),
            *(
                _with_note(
                    row[c], row[f"{c}_low"], row[f"{c}_high"], 2 if c.endswith("error") else 3
                )
                for c in columns
            ),
        ]
        for name, row in shown.items()
    ]
    caption = f"On the {report.path.n_held_out:,} rows that were held out for the path."
    if moved:
        caption += (
            " A moved threshold makes the positive decisions so many times those of the weight's "
            "own head."
        )
    header = ["", "fairness weight", *(["positive decisions, times"] if moved else [])]
    return Table(caption, [*header, *columns.values()], body)


def parameters(report: ModelReport) -> Table:
    """Return the parameters that differ from their defaults."""
    changed = [(name, text) for name, (text, set_) in report.parameters.items() if set_]
    body = [[Cell(name), Cell(text)] for name, text in changed]
    return Table("Parameters that were set.", ["parameter", "value"], body, names=2)


def versions(report: ModelReport) -> Table:
    """Return what the report was made with."""
    body = [[Cell(name), Cell(text)] for name, text in report.versions.items()]
    return Table("Versions.", ["made with", "version"], body)


def _both(report: ModelReport) -> Sequence[pd.DataFrame]:
    return report.fairness.differences, report.fairness.ratios


def _line(value: Any) -> str:
    return " ".join(group_parts(value))


def _names(group: Any) -> list[Cell]:
    return [Cell(part) for part in group_parts(group)]


def _header(report: ModelReport) -> list[str]:
    return [_line(str(name)) for name in report.fairness.by_group.index.names]


def _overall(report: ModelReport) -> list[Cell]:
    index = report.fairness.by_group.index
    pooled = free_name("all groups", {group_parts(group)[0] for group in index}, "total")
    return [Cell(pooled.replace(" ", "\N{NO-BREAK SPACE}")), *[Cell("")] * (index.nlevels - 1)]


def _count(rows: int) -> Cell:
    return Cell(f"{rows:,}{f' {_FEW}' if rows < FEW_ROWS else ''}")


def _with_note(value: Any, low: Any, high: Any, digits: int = 3) -> Cell:
    return Cell(number(value, digits), between(low, high, digits))


def _apart(row: pd.Series, digits: int, n_boot: int) -> list[Cell]:
    """Return value and interval as two cells."""
    value = Cell(number(row["value"], digits))
    return [value, Cell(between(row["low"], row["high"], digits))] if n_boot else [value]


def _interval_header(report: ModelReport) -> list[str]:
    level = 100 * report.fairness.confidence_level
    return [f"{level:g} % interval"] if report.fairness.n_boot else []


def _first(total: int) -> str:
    return f"the {total}" if total <= _MOST_ROWS else f"the first {_MOST_ROWS} of {total}"
