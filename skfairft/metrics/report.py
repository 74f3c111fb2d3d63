"""The fairness report as its reader gets it: the numbers, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..inputs.words import group_name, group_parts, one_line
from .bounds import bound_rows
from .comparison import ReportComparison, compared
from .facts import Facts
from .frame import metric_frame
from .printed import Printed
from .tables import Row, Table, free_name, measured
from .written import as_json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "FEW_ROWS", "FairnessReport", "column_rows", "few_rows", "group_rows"]

# A share of 30 rows has a standard error of up to 0.09: below that a note is due.
FEW_ROWS = 30

# Of groups with few rows that are named one by one.
_MOST_NOTES = 20

# What a table with intervals holds.
COLUMNS = ["value", "low", "high"]


class FairnessReport(Printed, Facts):
    r"""Error and rates by group, compared, with intervals; `fairness_report` makes one.

    Printing it shows tables. ``low`` and ``high`` of F1 are NaN if ``n_boot`` is 0, and of its
    difference and its ratio always.

    Parameters
    ----------
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
        In the same columns ``weighted_f1_error`` in percent, ``demographic_parity_distance`` and
        ``equalized_odds_distance``, the paper's three numbers, then ``worst_group_error``, and
        distances or ratios of the constraints that were asked for.
    confidence_level : float
        Nominal coverage of each interval.
    n_boot : int
        Number of resamples behind the intervals of F1.
    support : DataFrame
        Number of rows that each rate is a share of, without weights; one row per group, one column
        per rate.
    positive : object
        The label that the rates take for positive; None where each of several is in turn.
    cells : Cells
        The rows counted by group, true label and decision: all that the numbers follow from.
    groups : {"intersections", "columns"}, default="intersections"
        Between what the distances of the headline are.
    of_column : dict of str to FairnessReport
        The report of each sensitive column by itself, by its name in the index of ``by_group``,
        without resamples; empty where there is one column.
    by_column : DataFrame or None, default=None
        The distances side by side: a row for each column by itself, and last "intersections";
        columns are those of the headline with their ends in ``_low`` and ``_high``. None where
        there is one column.
    bounds : DataFrame or None, default=None
        What was asked for: a row for each bound, with columns constraint, form ("difference",
        "ratio", "largest rate"), bound, value, low, high, and holds: "yes" where the whole interval
        is within the bound, "no" where it is all beyond, else "unclear". None without a bound.

    Examples
    --------
    >>> from skfairft.metrics import fairness_report
    >>> y, pred = [1, 1, 0, 0] * 50, [1, 1, 1, 0, 1, 0, 0, 0] * 25
    >>> sex = ["f", "f", "f", "f", "m", "m", "m", "m"] * 25
    >>> report = fairness_report(y, pred, sensitive_features=sex, n_boot=0)
    >>> lead, headline, by_group, between = str(report).split("\n\n")
    >>> print(lead, headline, between, sep="\n\n")
    Fairness report: 200 rows, 2 groups
    positive class: 1
    [low, high]: 95 % intervals, none of F1 (n_boot=0)
    <BLANKLINE>
    headline                      value     [low, high]
    weighted_f1_error (%)        25.000
    demographic_parity_distance   0.500  [0.368, 0.605]
    equalized_odds_distance       1.000  [0.751, 1.189]
    worst_group_error             0.500  [0.334, 0.634]
    <BLANKLINE>
    between groups  difference     [low, high]  ratio     [low, high]
    selection_rate       0.500  [0.368, 0.605]  0.333  [0.231, 0.470]
    tpr                  0.500  [0.349, 0.634]  0.500  [0.366, 0.641]
    fpr                  0.500  [0.349, 0.634]  0.000  [0.000, 0.148]
    error                0.000  [0.000, 0.119]  1.000  [0.622, 1.000]
    f1                   0.000                  1.000
    """

    _heading: ClassVar[str] = "Fairness report"

    @property
    def notes(self) -> tuple[str, ...]:
        """A note on each group with few rows, in all or behind one of its rates.

        Of more than 20 the last says how many there are besides.
        """
        found = few_rows(self, lambda rate: f"for {one_line(rate)}")
        told = [f"few rows: {group_name(group)} has {text}" for group, text in found[:_MOST_NOTES]]
        if len(found) > _MOST_NOTES:
            told.append(
                f"few rows: {len(found) - _MOST_NOTES:,} groups besides; of a number, such as an "
                "age, ranges would have more (pandas.cut)"
            )
        return tuple(told)

    @cached_property
    def frame(self) -> Any:
        """The same point values as fairlearn's ``MetricFrame``, built when it is asked for.

        Its own bootstrap is not initialised. It lists intersections that do not occur, too, and
        calls the difference of a lone defined group 0. A sensitive column whose values mix types
        appears in it, and only in it, as their ``repr``.
        """
        return metric_frame(self.by_group, self.overall)

    def to_frame(self) -> pd.DataFrame:
        """Return every number in one long table.

        Returns
        -------
        DataFrame
            Columns scope ("headline", "column", "overall", "group", "difference", "ratio"), group
            (a tuple for intersections; in scope "column" the name of a sensitive column, or
            "intersections"; else None), metric, value, low, high.

        Examples
        --------
        >>> from skfairft.metrics import fairness_report
        >>> s = ["a", "a", "b", "b"] * 20
        >>> report = fairness_report([0, 1] * 40, [0, 1] * 40, sensitive_features=s, n_boot=0)
        >>> report.to_frame()["scope"].value_counts().to_dict()
        {'group': 12, 'overall': 6, 'difference': 5, 'ratio': 5, 'headline': 4}
        """
        import pandas as pd

        *groups, overall = self._numbers()
        metrics = self.by_group.columns
        parts = [
            ("headline", None, self.headline.index, self.headline.to_numpy()),
            *(
                ("column", name, self.headline.index[1:], numbers)
                for name, numbers in column_distances(self).items()
            ),
            ("overall", None, metrics, overall),
            *(
                ("group", group, metrics, numbers)
                for group, numbers in zip(self.by_group.index.tolist(), groups, strict=True)
            ),
            ("difference", None, self.differences.index, self.differences.to_numpy()),
            ("ratio", None, self.ratios.index, self.ratios.to_numpy()),
        ]
        rows = [
            (scope, group, metric, *values)
            for scope, group, names, numbers in parts
            for metric, values in zip(names, numbers.tolist(), strict=True)
        ]
        frame = pd.DataFrame.from_records(rows, columns=["scope", "group", "metric", *COLUMNS])
        # As they are: None is no missing text.
        return frame.assign(group=pd.Series([row[1] for row in rows], dtype=object))

    def to_json(self) -> str:
        """Return the report as JSON: each number, and the counts that they follow from.

        Returns
        -------
        str
            An object. ``numbers`` is a list of what `to_frame` holds, undefined ones null;
            `skfairft.metrics.load_report` reads the others.

        Raises
        ------
        TypeError
            For labels or groups of a kind that has no place in JSON, such as objects of your own.

        Examples
        --------
        >>> import json
        >>> from skfairft.metrics import fairness_report
        >>> s = ["a", "a", "b", "b"] * 20
        >>> report = fairness_report([0, 1] * 40, [0, 1] * 40, sensitive_features=s, n_boot=0)
        >>> json.loads(report.to_json())["numbers"][1]["metric"]
        'demographic_parity_distance'
        """
        return json.dumps(
            as_json(self, self.to_frame().to_dict("records")), indent=1, allow_nan=False
        )

    def compare(self, earlier: FairnessReport) -> ReportComparison:
        """Return what has changed since an earlier report, beyond chance, and what has not.

        Parameters
        ----------
        earlier : FairnessReport
            Of other rows, with the same sensitive columns, positive class and ``groups``; as saved
            and read again by `skfairft.metrics.load_report`.

        Returns
        -------
        ReportComparison
            Rates, shares of the groups and distances then and now, which of them moved, and
            whether the bounds still hold.

        Raises
        ------
        TypeError
            For what is no such report.
        ValueError
            If it is of other columns, of another positive class, or compares other groups.

        Examples
        --------
        Of 500 women fewer get a "yes" than before:

        >>> from skfairft.metrics import fairness_report
        >>> sex = ["f"] * 500 + ["m"] * 500
        >>> y = [0, 1] * 500
        >>> then = fairness_report(y, [0, 1] * 500, sensitive_features=sex, n_boot=0)
        >>> pred = [0, 0, 0, 1] * 125 + [0, 1] * 250
        >>> now = fairness_report(y, pred, sensitive_features=sex, n_boot=0)
        >>> change = now.compare(then)
        >>> change.moved[["group", "metric", "change"]].iloc[-2:].to_numpy().tolist()
        [['f', 'tpr', -0.5], ['f', 'error', 0.25]]
        """
        return compared(self, earlier)

    def _notes(self) -> tuple[str, ...]:
        return self.notes

    def _makers(self) -> dict[str, Callable[[], str]]:
        return {".json": self.to_json}

    def _numbers(self) -> NDArray[np.float64]:
        """Return value, low and high of each column, of each group and last of all rows.

        Shape (G + 1, columns, 3). The first column, of counts, has no intervals.
        """
        table = np.full((len(self.by_group) + 1, self.by_group.shape[1], 3), np.nan)
        table[:-1, :, 0], table[-1, :, 0] = self.by_group, self.overall
        table[:-1, 1:, 1:] = self.group_intervals.to_numpy().reshape(len(self.by_group), -1, 2)
        table[-1, 1:, 1:] = self.overall_intervals
        return table

    def _lead(self) -> list[str]:
        lead = f"Fairness report: {self.overall['count']:.0f} rows, {len(self.by_group)} groups"
        several = self.positive is None
        which = "each in turn, against the rest" if several else group_name(self.positive)
        level = f"[low, high]: {100 * self.confidence_level:g} % intervals"
        if self.n_boot:
            level += f", of F1 from {self.n_boot} resamples of the rows"
        else:
            level += ", none of F1 (n_boot=0)"
        by = ["distances: of each sensitive column by itself, the largest"]
        by = by if self.groups == "columns" and self.of_column else []
        return [lead, f"positive class: {which}", *by, level]

    def _tables(self) -> list[Table]:
        names = [one_line(name) for name in self.by_group.index.names]
        taken = {group_parts(group)[0] for group in self.by_group.index}
        pooled = [free_name("overall", taken, "all groups"), *[""] * (len(names) - 1)]
        percent = self.headline.rename(index={"weighted_f1_error": "weighted_f1_error (%)"})
        headline: list[Row] = [
            [metric, *measured(*numbers)]
            for metric, numbers in zip(percent.index, percent.to_numpy(), strict=True)
        ]
        both = self.differences.to_numpy(), self.ratios.to_numpy()
        compared: list[Row] = [
            [one_line(metric), *measured(*difference), *measured(*ratio)]
            for metric, difference, ratio in zip(self.differences.index, *both, strict=True)
        ]
        header = [*names, *map(one_line, self.by_group)]
        crossed = self.groups == "columns" and bool(self.of_column)
        between = "between intersections" if crossed else "between groups"
        ends = "[low, high]"
        sides = [Table("", ["by column", *self.headline.index[1:]], column_rows(self))]
        asked = [] if self.bounds is None else bound_rows(self.bounds)
        return [
            Table("", ["headline", "value", "[low, high]"], headline),
            *([Table("", ["asked for", "value", "holds"], asked)] if asked else []),
            *(sides if self.of_column else []),
            Table("", header, group_rows(self, pooled, str, 2), len(names)),
            Table("", [between, "difference", ends, "ratio", ends], compared),
        ]


def column_distances(report: FairnessReport) -> dict[str, NDArray[np.float64]]:
    """Return value, low and high (c, 3) of the distances of each column, and of intersections."""
    if report.by_column is None:
        return {}
    numbers = report.by_column.to_numpy().reshape(len(report.by_column), -1, 3)
    return dict(zip(report.by_column.index, numbers, strict=True))


def column_rows(report: FairnessReport) -> list[Row]:
    """Return a table's rows: each column by itself, then the intersections, by distance."""
    return [
        [one_line(name), *(measured(*each) for each in numbers)]
        for name, numbers in column_distances(report).items()
    ]


def few_rows(report: FairnessReport, behind: Callable[[str], str]) -> list[tuple[Any, str]]:
    """Return each group with few rows, and how many: in all, or behind which of its rates.

    ``behind`` makes the name of a rate such words.
    """
    found = []
    table = report.support
    for i, total in enumerate(report.by_group["count"].tolist()):
        few = table.iloc[i][table.iloc[i] < FEW_ROWS]
        if len(few):  # too few in all is said once, not for each rate
            texts = [f"{_rows(n)} {behind(str(rate))}" for rate, n in few.items()]
            text = _rows(total) if total < FEW_ROWS else ", ".join(texts)
            found.append((table.index[i], text))
    return found


def _rows(n: int) -> str:
    return f"{n:,} row{'s' * (n != 1)}"


def group_rows(
    report: FairnessReport, pooled: list[str], counted: Callable[[int], str], digits: int
) -> list[Row]:
    """Return a table's rows: each group's name, number of rows, and rates with their intervals.

    ``pooled`` names the last row, that of all groups together; ``counted`` makes a number of rows a
    text; ``digits`` are those of the intervals, the rates have 3.
    """
    names = [*map(group_parts, report.by_group.index.tolist()), pooled]
    return [
        [*name, counted(int(count)), *(measured(*rate, ends=digits) for rate in rates)]
        for name, ((count, *_), *rates) in zip(names, report._numbers(), strict=True)
    ]
