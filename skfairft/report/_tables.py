"""The tables of a report as text, the same for the page and the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..inputs.words import group_name, group_parts, one_line
from ..metrics.report import FEW_ROWS, column_rows, group_rows
from ..metrics.tables import Row, Table, free_name, measured, number
from ..parity.table import STATED, TABLE, metric_of
from ._facts import Facts
from ._words import headline_name, of_path, rate_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "by_column",
    "calibration",
    "cells",
    "compared",
    "counts",
    "distances",
    "importance",
    "parameters",
    "rates",
    "similarity",
    "spectrum",
    "tradeoff",
    "versions",
]

# What stands beside a number of rows that is below FEW_ROWS.
_FEW = "†"

# Of many features or singular values the first.
_MOST_ROWS = 10

# A square table of more groups is not read.
_MOST_GROUPS = 20


def counts(facts: Facts) -> Table:
    """Return the rows by group and class; with two classes also the share of the positive one."""
    table = facts.counts
    classes = [group_name(label) for label in table.columns]
    binary, labels = len(classes) == 2, table.columns.tolist()
    positive = labels.index(facts.fairness.positive) if facts.fairness.positive in labels else 1

    def line(name: list[str], row: NDArray[np.int64]) -> Row:
        share = [number(row[positive] / row.sum())] if binary else []
        return [*name, *map(_count, row), _count(row.sum()), *share]

    names = [*map(group_parts, table.index.tolist()), _pooled(facts)]
    numbers = [*table.to_numpy(), table.to_numpy().sum(axis=0)]
    body = [line(name, row) for name, row in zip(names, numbers, strict=True)]
    share = [f"share of {classes[positive]}"] if binary else []
    header = [*_columns(facts), *(f"class {each}" for each in classes), "all rows", *share]
    few = f" {_FEW} fewer than {FEW_ROWS} rows." if (table < FEW_ROWS).to_numpy().any() else ""
    caption = f"Rows by group and true class.{few}"
    return Table(caption, header, body, table.index.nlevels, total=True)


def distances(facts: Facts) -> Table:
    """Return the headline numbers."""
    fairness = facts.fairness
    body: list[Row] = []
    for name in map(str, fairness.headline.index):
        digits = 2 if name == "weighted_f1_error" else 3
        cell = measured(*fairness.headline.loc[name], digits=digits)
        body.append([headline_name(name), *cell])
    level = f"{100 * fairness.confidence_level:g} % interval"
    between = "the groups"
    if facts.by_column:
        between = "the levels of each sensitive column by itself"
    caption = f"Error, distances between {between}, in which 0 is parity, and the worst of them."
    return Table(caption, ["", "value", level], body)


def by_column(facts: Facts) -> Table | None:
    """Return the distances of each sensitive column by itself beside those of intersections."""
    table = facts.fairness.by_column
    if table is None:
        return None
    metrics = map(str, facts.fairness.headline.index[1:])
    caption = "The distances of each sensitive column by itself, and of their intersections."
    return Table(caption, ["", *map(headline_name, metrics)], column_rows(facts.fairness))


def rates(facts: Facts) -> Table:
    """Return every rate of every group."""
    fairness = facts.fairness
    metrics = fairness.overall_intervals.index
    body = group_rows(fairness, _pooled(facts), _count, 3)
    header = [*_columns(facts), "rows", *map(rate_name, metrics)]
    return Table(
        "Rates of each group, with intervals.",
        header,
        body,
        fairness.by_group.index.nlevels,
        total=True,
    )


def calibration(facts: Facts) -> Table | None:
    """Return how far the estimates of the label are off, by group, if that was measured."""
    table = facts.calibration
    if table is None:
        return None
    classes = [
        one_line(name) for name in table.index.names[facts.fairness.by_group.index.nlevels :]
    ]
    header = [*_columns(facts), *classes, "rows", *_OFF]
    body = _off(table, [group_parts(each) for each in table.index.tolist()])
    return Table("Calibration of the estimated probability.", header, body, table.index.nlevels)


def cells(facts: Facts) -> Table | None:
    """Return how far the probabilities of cells are off, of a rule that decides by them."""
    table = facts.cell_calibration
    if table is None:
        return None
    names = [[group_name(label), group_name(group)] for label, group in table.index.tolist()]
    caption = "Calibration of the cells of class and group, over all rows."
    return Table(caption, ["class", "group", "rows in it", *_OFF], _off(table, names), 2)


_OFF = ("mean estimate", "share", "bias", "calibration error")


def _off(table: pd.DataFrame, names: list[list[str]]) -> list[Row]:
    body: list[Row] = []
    for name, (_, row) in zip(names, table.iterrows(), strict=True):
        bias, error = (
            measured(*(row[f"{what}{end}"] for end in ("", "_low", "_high")))
            for what in ("bias", "error")
        )
        means = (number(row[each]) for each in ("predicted", "observed"))
        body.append([*name, _count(int(row["count"])), *means, bias, error])
    return body


def compared(facts: Facts) -> Table:
    """Return the largest minus, and the smallest divided by the largest, value over the groups."""
    both = facts.fairness.differences, facts.fairness.ratios
    body: list[Row] = [
        [rate_name(m), *(measured(*table.loc[m]) for table in both)] for m in both[0].index
    ]
    caption = "Largest minus smallest, and smallest divided by largest, value over the groups."
    return Table(caption, ["", "difference", "ratio"], body)


def importance(facts: Facts) -> Table:
    """Return the importance of the features that count most."""
    neutralized = facts.summary.weighting.mean is not None  # else facts.importance is ones
    used = facts.importance if neutralized else facts.group_importance.mean(axis=0)
    order = np.argsort(-used, kind="stable")[:_MOST_ROWS]
    shown = facts.group_importance if facts.summary.groups_given else np.empty((0, 0))
    groups = (facts.summary.groups or ()) if len(shown) else ()
    names = facts.features
    body: list[Row] = []
    for j in order.tolist():
        name = f"feature\N{NO-BREAK SPACE}{j}" if names is None else one_line(names[j])
        body.append([name, f"{used[j]:#.3g}", *(f"{row[j]:#.3g}" for row in shown)])
    header = ["", "neutralized" if neutralized else "plain mean", *map(group_name, groups)]
    total = len(facts.importance)
    which = f"the {_MOST_ROWS} most important of {total}" if total > _MOST_ROWS else f"the {total}"
    caption = f"Importance (square root of Fisher) of {which} features."
    return Table(caption, header, body)


def similarity(facts: Facts) -> Table | None:
    """Return the cosine between the importances of each two groups, if they can be read."""
    if not 1 < len(facts.group_importance) <= _MOST_GROUPS:
        return None
    names = [group_name(group) for group in facts.summary.groups or ()]
    body: list[Row] = [
        [name, *map(number, row)] for name, row in zip(names, facts.similarity, strict=True)
    ]
    return Table("Cosine between the groups' importances.", ["", *names], body)


def spectrum(facts: Facts) -> Table:
    """Return the singular values, and the energy up to each."""
    total = len(facts.singular_values)
    shown = zip(facts.singular_values, facts.energy, range(1, _MOST_ROWS + 1), strict=False)
    body: list[Row] = [[f"{r}", f"{v:.4g}", number(e, 4)] for v, e, r in shown]
    first = f"The first {_MOST_ROWS} of {total}" if total > _MOST_ROWS else f"The {total}"
    caption = f"{first} singular values."
    return Table(caption, ["rank", "singular value", "energy up to it"], body)


def tradeoff(facts: Facts) -> Table | None:
    """Return the model's point of the path beside that without a constraint."""
    if facts.path is None:
        return None
    rows = {"this model": facts.chosen}
    if facts.unconstrained != facts.chosen:
        rows = {"without a constraint": facts.unconstrained, **rows}
    columns = {"weighted_f1_error": "error (%)"}
    stated = dict.fromkeys([*STATED, *facts.path.others])
    columns |= {metric_of(name): TABLE[name].distance for name in stated}
    if facts.path.constraint not in STATED:
        columns["difference"] = TABLE[facts.path.constraint].distance
    shown = {name: facts.path.table.loc[at] for name, at in rows.items() if at is not None}
    if not shown:
        return None
    moved = any(row["positive_share"] != 1.0 for row in shown.values())
    body: list[Row] = [
        [
            name,
            f"{row['fairness_weight']:.3g}",
            *([f"{row['positive_share']:.3g}"] if moved else []),
            *(of_path(row, c, 2 if c == "weighted_f1_error" else 3) for c in columns),
        ]
        for name, row in shown.items()
    ]
    caption = f"On {facts.path.judged_on}."
    if moved:
        caption += (
            " A moved threshold makes the positive decisions so many times those of the weight's "
            "own head."
        )
    header = ["", "fairness weight", *(["positive decisions, times"] if moved else [])]
    return Table(caption, [*header, *columns.values()], body)


def parameters(facts: Facts) -> Table:
    """Return the parameters that differ from their defaults."""
    body: list[Row] = [
        [name, text] for name, (text, changed) in facts.parameters.items() if changed
    ]
    return Table("Parameters that were set.", ["parameter", "value"], body, names=2)


def versions(facts: Facts) -> Table:
    """Return what the report was made with."""
    body: list[Row] = [list(each) for each in facts.versions.items()]
    return Table("Versions.", ["made with", "version"], body)


def _columns(facts: Facts) -> list[str]:
    """Return what the columns that name the groups are called."""
    return [one_line(name) for name in facts.fairness.by_group.index.names]


def _pooled(facts: Facts) -> list[str]:
    """Return the name of all groups together, in these columns."""
    index = facts.fairness.by_group.index
    pooled = free_name("all groups", {group_parts(group)[0] for group in index}, "total")
    return [pooled.replace(" ", "\N{NO-BREAK SPACE}"), *[""] * (index.nlevels - 1)]


def _count(rows: int) -> str:
    return f"{rows:,}{f' {_FEW}' if rows < FEW_ROWS else ''}"
