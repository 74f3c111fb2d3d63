"""The fairness report as its reader gets it: the numbers, and how they are shown."""

from __future__ import annotations

import html
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..inputs.words import group_parts, one_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "FairnessReport", "free_name"]

# What a table with intervals holds.
COLUMNS = ["value", "low", "high"]

# Printed tables wider than this are continued below, the group names repeated.
_MAX_WIDTH = 120

_ALIGN = ("left", "right")

# Styles stand in the elements: notebooks and mail programs drop style sheets.
_PAGE = "font-family:sans-serif;font-size:14px;overflow-x:auto"
_TABLE = "border-collapse:collapse;margin:0 0 1.2em;font-variant-numeric:tabular-nums"
_CELL = "padding:3px 10px;border-bottom:1px solid #ddd;white-space:nowrap"


class _Table(NamedTuple):
    header: list[str]
    rows: list[list[str]]
    names: int  # leading columns that name the row; the others hold numbers


@dataclass(frozen=True, eq=False, repr=False)
class FairnessReport:
    """Error and rates by group, compared, with intervals; `fairness_report` makes one.

    Printing it shows tables; ``low`` and ``high`` are NaN throughout if ``n_boot`` is 0.

    Parameters
    ----------
    frame : fairlearn.metrics.MetricFrame
        The point values. Its own bootstrap is not initialised. One of several sensitive
        columns whose values mix types appears here, and only here, as their ``repr``.
    by_group : DataFrame
        One row per group, one column per metric; ``count`` is a number of rows. The index has the
        names of the sensitive columns. One that the tables use themselves is marked, such as
        ``count (group)``; columns of one name, and without any, are called ``group_0`` and so on.
    group_intervals : DataFrame
        The same rows; columns (metric, "low") and (metric, "high"), so that
        ``group_intervals["tpr"]`` has the columns low and high.
    overall : Series
        The metrics over all rows, the groups pooled.
    overall_intervals : DataFrame
        Indexed by metric, with columns low and high.
    differences, ratios : DataFrame
        Largest minus, and smallest divided by largest, value over the groups; indexed by
        metric, with columns value, low, high. NaN if fewer than two groups define it.
    headline : DataFrame
        The paper's three numbers, in the same columns: ``weighted_f1_error`` in percent,
        ``demographic_parity_distance``, ``equalized_odds_distance``.
    confidence_level : float
        Nominal coverage of each interval.
    n_boot : int
        Number of bootstrap resamples.
    support : DataFrame
        Number of rows that each rate is a share of, without weights; one row per group, one column
        per rate.
    positive : object
        The label that the rates take for positive; None where each of several is in turn.
    notes : tuple of str
        Groups with few rows.

    Examples
    --------
    >>> from skfairft.metrics import fairness_report
    >>> y, pred = [1, 1, 0, 0] * 50, [1, 1, 1, 0, 1, 0, 0, 0] * 25
    >>> sex = ["f", "f", "f", "f", "m", "m", "m", "m"] * 25
    >>> report = fairness_report(y, pred, sensitive_features=sex, n_boot=0)
    >>> print(report)
    Fairness report: 200 rows, 2 groups
    No intervals (n_boot=0)
    <BLANKLINE>
    headline                      value
    weighted_f1_error (%)        25.000
    demographic_parity_distance   0.500
    equalized_odds_distance       1.000
    <BLANKLINE>
    group    count  selection_rate    tpr    fpr  error     f1
    f          100           0.750  1.000  0.500  0.250  0.733
    m          100           0.250  0.500  0.000  0.250  0.733
    overall    200           0.500  0.750  0.250  0.250  0.750
    <BLANKLINE>
    between groups  difference  ratio
    selection_rate       0.500  0.333
    tpr                  0.500  0.500
    fpr                  0.500  0.000
    error                0.000  1.000
    f1                   0.000  1.000
    """

    frame: Any
    by_group: pd.DataFrame
    group_intervals: pd.DataFrame
    overall: pd.Series
    overall_intervals: pd.DataFrame
    differences: pd.DataFrame
    ratios: pd.DataFrame
    headline: pd.DataFrame
    confidence_level: float
    n_boot: int
    support: pd.DataFrame
    positive: Any
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return every number in one long table.

        Returns
        -------
        DataFrame
            Columns scope ("headline", "overall", "group", "difference", "ratio"), group (a
            tuple for intersections, None outside scope "group"), metric, value, low, high.

        Examples
        --------
        >>> from skfairft.metrics import fairness_report
        >>> s = ["a", "a", "b", "b"] * 20
        >>> report = fairness_report([0, 1] * 40, [0, 1] * 40, sensitive_features=s, n_boot=0)
        >>> report.to_frame()["scope"].value_counts().to_dict()
        {'group': 12, 'overall': 6, 'difference': 5, 'ratio': 5, 'headline': 3}
        """
        import pandas as pd

        def records(scope: str, table: pd.DataFrame, group: Any = None) -> list[tuple[Any, ...]]:
            return [
                (scope, group, metric, *numbers)
                for metric, numbers in zip(table.index, table.to_numpy().tolist(), strict=True)
            ]

        rows = records("headline", self.headline)
        rows += records("overall", _join(self.overall, self.overall_intervals))
        for i, group in enumerate(self.by_group.index.tolist()):
            rows += records("group", _join(self.by_group.iloc[i], self._bounds_of(i)), group)
        rows += records("difference", self.differences) + records("ratio", self.ratios)
        columns = ["scope", "group", "metric", "value", "low", "high"]
        return pd.DataFrame.from_records(rows, columns=columns)

    def to_markdown(self) -> str:
        """Return the report as text with pipe tables.

        Returns
        -------
        str
            GitHub-flavoured Markdown; markup in group names is escaped.

        Examples
        --------
        >>> from skfairft.metrics import fairness_report
        >>> s = ["a", "a", "b", "b"] * 20
        >>> report = fairness_report([0, 1] * 40, [0, 1] * 40, sensitive_features=s, n_boot=0)
        >>> report.to_markdown().splitlines()[4:7]
        ['| headline | value |', '| :--- | ---: |', '| weighted_f1_error (%) | 0.000 |']
        """

        def line(cells: list[str]) -> str:
            return f"| {' | '.join(_escape_markdown(cell) for cell in cells)} |"

        blocks = [f"**{self._lead()[0]}**", *self._lead()[1:]]
        for table in self._tables():
            numbers = len(table.header) - table.names
            rule = f"| {' | '.join([':---'] * table.names + ['---:'] * numbers)} |"
            blocks.append("\n".join([line(table.header), rule, *map(line, table.rows)]))
        blocks += [_escape_markdown(note) for note in self.notes]
        return "\n\n".join(blocks) + "\n"

    def to_html(self) -> str:
        """Return the report as an HTML fragment without scripts or outside resources.

        Returns
        -------
        str
            One ``div``; group names are escaped.

        Examples
        --------
        >>> from skfairft.metrics import fairness_report
        >>> s = ["<a>", "<a>", "b", "b"] * 20
        >>> report = fairness_report([0, 1] * 40, [0, 1] * 40, sensitive_features=s, n_boot=0)
        >>> "<a>" in report.to_html()
        False
        """

        def line(cells: list[str], names: int, tag: str) -> str:
            parts = [
                f'<{"th" if j < names else tag} style="{_CELL};text-align:{_ALIGN[j >= names]}">'
                f"{html.escape(cell)}</{'th' if j < names else tag}>"
                for j, cell in enumerate(cells)
            ]
            return f"<tr>{''.join(parts)}</tr>"

        blocks = [f"<p>{html.escape(text)}</p>" for text in self._lead()]
        for table in self._tables():
            head = line(table.header, table.names, "th")
            body = "".join(line(row, table.names, "td") for row in table.rows)
            blocks.append(
                f'<table style="{_TABLE}"><thead>{head}</thead><tbody>{body}</tbody></table>'
            )
        blocks += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return f'<div class="skfairft-report" style="{_PAGE}">\n' + "\n".join(blocks) + "\n</div>"

    _repr_html_ = to_html

    def __str__(self) -> str:
        blocks = ["\n".join(self._lead()), *map(_text_table, self._tables())]
        if self.notes:
            blocks.append("\n".join(self.notes))
        return "\n\n".join(blocks)

    __repr__ = __str__

    def _bounds_of(self, i: int) -> pd.DataFrame:
        """Return the intervals of one group in the form of ``overall_intervals``."""
        bounds = self.overall_intervals.copy()
        bounds[:] = self.group_intervals.iloc[i].to_numpy().reshape(-1, 2)
        return bounds

    def _lead(self) -> list[str]:
        lead = f"Fairness report: {self.overall['count']:.0f} rows, {len(self.by_group)} groups"
        if self.n_boot == 0:
            return [lead, "No intervals (n_boot=0)"]
        level = f"{100 * self.confidence_level:g} %"
        return [lead, f"[low, high]: {level} intervals, {self.n_boot} resamples of the rows"]

    def _tables(self) -> list[_Table]:
        def triple(table: pd.DataFrame, metric: str) -> list[str]:
            row = table.loc[metric]
            shown = [_show(row["value"]), _bracket(row["low"], row["high"])]
            return shown if self.n_boot else shown[:1]

        def numbers(values: pd.Series, bounds: pd.DataFrame) -> list[str]:
            shown = [
                f"{_show(values[metric])} {_bracket(low, high, digits=2)}".strip()
                for metric, (low, high) in zip(bounds.index, bounds.to_numpy(), strict=True)
            ]
            return [f"{values['count']:.0f}", *shown]

        metrics = self.overall_intervals.index.tolist()
        names = [one_line(name) for name in self.by_group.index.names]
        groups = [
            [*group_parts(group), *numbers(self.by_group.iloc[i], self._bounds_of(i))]
            for i, group in enumerate(self.by_group.index.tolist())
        ]
        blank = [""] * (len(names) - 1)
        pooled = free_name("overall", {row[0] for row in groups}, "all groups")
        groups.append([pooled, *blank, *numbers(self.overall, self.overall_intervals)])
        interval = ["[low, high]"] if self.n_boot else []
        return [
            _Table(
                ["headline", "value", *interval],
                [
                    [f"{m} (%)" if m == "weighted_f1_error" else m, *triple(self.headline, m)]
                    for m in self.headline.index
                ],
                1,
            ),
            _Table([*names, "count", *metrics], groups, len(names)),
            _Table(
                ["between groups", "difference", *interval, "ratio", *interval],
                [[m, *triple(self.differences, m), *triple(self.ratios, m)] for m in metrics],
                1,
            ),
        ]


def _join(values: pd.Series, bounds: pd.DataFrame) -> pd.DataFrame:
    """Return columns value, low, high, the bounds NaN where there are none (the counts)."""
    return bounds.reindex(values.index)[["low", "high"]].assign(value=values)[COLUMNS]


def _show(value: Any) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def _bracket(low: Any, high: Any, digits: int = 3) -> str:
    return "" if np.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def free_name(name: str, taken: Collection[Any], mark: str) -> str:
    """Return a name, with a mark behind it where it is taken.

    Examples
    --------
    >>> free_name("overall", {"a", "b"}, "all"), free_name("overall", {"overall"}, "all")
    ('overall', 'overall (all)')
    """
    while name in taken:
        name = f"{name} ({mark})"
    return name


def _escape_markdown(text: str) -> str:
    return html.escape(text, quote=False).replace("\\", "&#92;").replace("|", "\\|")


def _text_table(table: _Table) -> str:
    """Align columns, names to the left; continue below what is too wide."""
    padded = []
    for j, column in enumerate(zip(table.header, *table.rows, strict=True)):
        width = max(map(len, column))
        align = str.ljust if j < table.names else str.rjust
        padded.append([align(cell, width) for cell in column])
    blocks = [padded[: table.names]]
    for cells in padded[table.names :]:
        used = sum(len(part[0]) + 2 for part in blocks[-1])
        if used + len(cells[0]) > _MAX_WIDTH and len(blocks[-1]) > table.names:
            blocks.append(padded[: table.names])
        blocks[-1].append(cells)
    lines = ["\n".join("  ".join(row).rstrip() for row in zip(*b, strict=True)) for b in blocks]
    return "\n\n".join(lines)
