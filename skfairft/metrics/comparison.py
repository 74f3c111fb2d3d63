"""What has changed between two reports, of rows that have nothing to do with each other.

Each number has confidence limits of its own in both reports. The limits of their difference follow
from these (MOVER, the method of variance estimates recovery): with d = now - then ::

    upper = d + sqrt((high of now - now)^2 + (then - low of then)^2)
    lower = d - sqrt((now - low of now)^2 + (high of then - then)^2)

Of m numbers each is given the level ``1 - (1 - level) / m``, so that all intervals hold together
with the level of the report (Bonferroni): where nothing has changed, none of them is said to have
moved, in 95 of 100 comparisons or more.

Newcombe (1998), Stat. Med. 17; Zou and Donner (2008), Stat. Med. 27.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..inputs.words import group_name, named, one_line, shown
from ..parity.cells import Cells
from ..parity.counts import statistics
from ..parity.intervals import intervals
from .bounds import asked_of, bound_words, bounds_table
from .facts import Facts
from .printed import Printed
from .tables import Row, Table, measured, number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ReportComparison", "compared"]

# Of a number: its scope, its group (None of all rows), and its name.
Key = tuple[str, Any, str]


@dataclass(frozen=True, eq=False, repr=False)
class ReportComparison(Printed):
    r"""What has changed since an earlier report; `FairnessReport.compare` makes one.

    Printing it shows what moved, and the bounds.

    Parameters
    ----------
    table : DataFrame
        Each number that both reports have. Columns: ``scope`` ("distance", "overall" or "group"),
        ``group`` (a tuple of several columns; None of all rows), ``metric``, ``then``, ``now``,
        ``change`` (now minus then), ``low`` and ``high`` (its interval, all of which hold together
        with ``confidence_level``), and ``moved``: whether the interval leaves 0 out. Beside the
        metrics of the reports there are ``base_rate``, the share of rows that have the positive
        label, and of a group ``share``, that of the rows that are its own. F1, of which there
        are no such limits, is not there.
    bounds : DataFrame or None
        Each bound of the later report, else of the earlier one: ``constraint``, ``form``,
        ``bound``, and ``value``, ``low``, ``high`` and ``holds`` on the rows of both, with
        ``_then`` or ``_now`` behind them. None where neither has bounds.
    new_groups, gone_groups : tuple
        Groups that the other report does not have.
    n_rows : tuple of two ints
        Rows of the earlier report, and of the later one.
    confidence_level : float
        Of all intervals of the changes together; those of the bounds are each by itself.

    Examples
    --------
    >>> from skfairft.metrics import fairness_report
    >>> sex = ["f"] * 500 + ["m"] * 500
    >>> then = fairness_report(
    ...     [0, 1] * 500, [0, 1] * 500, sensitive_features=sex, n_boot=0,
    ...     constraint="demographic_parity", difference_bound=0.1,
    ... )
    >>> pred = [0, 0, 0, 1] * 125 + [0, 1] * 250
    >>> change = fairness_report([0, 1] * 500, pred, sensitive_features=sex, n_boot=0).compare(then)
    >>> print(str(change).split("\n")[0])
    9 of 20 numbers moved: 1,000 rows, and 1,000 earlier
    >>> change.bounds[["holds_then", "holds_now"]].to_numpy().tolist()
    [['yes', 'no']]
    """

    _heading: ClassVar[str] = "Fairness, then and now"

    table: pd.DataFrame
    bounds: pd.DataFrame | None
    new_groups: tuple[Any, ...]
    gone_groups: tuple[Any, ...]
    n_rows: tuple[int, int]
    confidence_level: float

    @property
    def moved(self) -> pd.DataFrame:
        """The rows of ``table`` whose numbers moved more than chance explains."""
        return self.table[self.table["moved"]]

    def _lead(self) -> list[str]:
        then, now = self.n_rows
        n = int(self.table["moved"].sum())
        of = f"{n or 'none'} of {len(self.table)} numbers moved"
        lines = [f"{of[0].upper()}{of[1:]}: {now:,} rows, and {then:,} earlier"]
        lines.append(
            f"[low, high]: intervals of the changes, {100 * self.confidence_level:g} % for all of "
            "them together"
        )
        for word, groups in (("new", self.new_groups), ("gone", self.gone_groups)):
            if groups:
                lines.append(f"{word} groups: {named(groups)}")
        return lines

    def _tables(self) -> list[Table]:
        rows: list[Row] = [
            [
                "all rows" if group is None else group_name(group),
                one_line(metric),
                number(then),
                number(now),
                measured(change, low, high),
            ]
            for _, group, metric, then, now, change, low, high, _ in self.moved.itertuples(
                index=False
            )
        ]
        header = ["group", "what moved", "then", "now", "change"]
        tables = [Table("", header, rows, 2)] if rows else []
        if self.bounds is not None:
            asked: list[Row] = [
                [text, measured(*then), holds_then, measured(*now), holds_now]
                for text, then, holds_then, now, holds_now in zip(
                    bound_words(self.bounds),
                    self.bounds[["value_then", "low_then", "high_then"]].to_numpy(),
                    self.bounds["holds_then"],
                    self.bounds[["value_now", "low_now", "high_now"]].to_numpy(),
                    self.bounds["holds_now"],
                    strict=True,
                )
            ]
            tables.append(Table("", ["asked for", "then", "held", "now", "holds"], asked))
        return tables


def compared(now: Facts, then: Facts) -> ReportComparison:
    """Return what `FairnessReport.compare` does."""
    import pandas as pd

    if type(then) is not type(now):
        raise TypeError(
            f"earlier is a {type(then).__name__}; expected a FairnessReport. (load_report reads "
            "one from its file; a ModelReport has one as its fairness.)"
        )
    for what, of in (
        ("sensitive columns", lambda report: list(report.by_group.index.names)),
        ("the positive class", lambda report: report.positive),
        ("distances between", lambda report: report.groups),
    ):
        if of(then) != of(now):
            raise ValueError(
                f"The earlier report has {what} {shown(of(then))}, this one {shown(of(now))}; only "
                "reports of the same can be compared."
            )
    level = now.confidence_level
    numbers = [_numbers(report.cells, level) for report in (then, now)]
    both = [
        key
        for key in numbers[1]
        if not any(np.isnan(each.get(key, (np.nan,))[0]) for each in numbers)
    ]
    sure = 1.0 - (1.0 - level) / max(len(both), 1)
    numbers = [_numbers(report.cells, sure) for report in (then, now)]
    records = []
    for key in both:
        (a, a_low, a_high), (b, b_low, b_high) = (each[key] for each in numbers)
        change = b - a
        low = change - np.hypot(b - b_low, a_high - a)
        high = change + np.hypot(b_high - b, a - a_low)
        records.append((*key, a, b, change, low, high, bool(low > 0.0 or high < 0.0)))
    columns = ["scope", "group", "metric", "then", "now", "change", "low", "high", "moved"]
    table = pd.DataFrame.from_records(records, columns=columns)
    table["group"] = pd.Series([group for _, group, _ in both], dtype=object)  # None stays None
    before, after = (report.by_group.index.tolist() for report in (then, now))
    new = [group for group in after if group not in before]
    gone = [group for group in before if group not in after]
    alike = next((pair for pair in product(gone, new) if str(pair[0]) == str(pair[1])), None)
    if alike is not None:
        raise ValueError(
            f"The earlier report has the group {alike[0]!r} ({type(alike[0]).__name__}), this one "
            f"{alike[1]!r} ({type(alike[1]).__name__}); only groups of one type can be compared."
        )
    return ReportComparison(
        table=table.astype({"moved": bool}),
        bounds=_bounds(then, now),
        new_groups=tuple(new),
        gone_groups=tuple(gone),
        n_rows=(int(then.overall["count"]), int(now.overall["count"])),
        confidence_level=level,
    )


def _numbers(cells: Cells, level: float) -> dict[Key, tuple[float, float, float]]:
    """Return value, low and high of all that is compared, in the order of the table."""
    found = {}
    groups = cells.groups.tolist()

    def take(cells: Cells, scope: str, called: str, names: dict[str, str] | None) -> None:
        """Note the numbers of a scope; of given names only those, as they stand for others."""
        values = statistics(cells, cells.mass)[scope]
        ends = intervals(cells, n_boot=0, level=level, random_state=None)[scope]
        for metric, value in values.items():
            name = metric if names is None else names.get(metric)
            if name is None or metric in ("f1", "weighted_f1_error"):
                continue
            if scope == "group":
                for g, group in enumerate(groups):
                    found[called, group, name] = (value[g], *ends[metric][:, g])
            else:
                found[called, None, name] = (value, *ends[metric])

    true = _by_true_label(cells)
    take(cells, "headline", "distance", None)
    base = {
        name: name.replace("selection_rate", "base_rate", 1)
        for name in statistics(true, true.mass)["group"]
        if name.startswith("selection_rate")
    }
    take(cells, "overall", "overall", None)
    take(true, "overall", "overall", base)
    take(_by_share(cells), "group", "group", {"selection_rate": "share"})
    take(true, "group", "group", base)
    take(cells, "group", "group", None)
    return {key: (float(v), float(low), float(high)) for key, (v, low, high) in found.items()}


def _by_true_label(cells: Cells) -> Cells:
    """Return rows decided as they are labelled: their selection rate is the base rate."""

    def turned(table: Any) -> Any:
        return table.swapaxes(-1, -2)

    return replace(
        cells, rows=turned(cells.rows), mass=turned(cells.mass), squares=turned(cells.squares)
    )


def _by_share(cells: Cells) -> Cells:
    """Return all rows for each group, its own selected: the selection rate is its share."""

    def shares(table: Any) -> Any:
        own = table.sum(axis=(1, 2))
        out = np.zeros((len(own), 2, 2))
        out[:, 0, 0], out[:, 0, 1] = own.sum() - own, own
        return out

    return replace(
        cells,
        labels=np.arange(2),
        positives=range(1, 2),
        rows=shares(cells.rows),
        mass=shares(cells.mass),
        squares=shares(cells.squares),
        constraints=(),
        ratios=(),
        levels=None,
    )


def _bounds(then: Facts, now: Facts) -> pd.DataFrame | None:
    import pandas as pd

    demands = asked_of(now.bounds) or asked_of(then.bounds)
    if not demands:
        return None
    asked = ["constraint", "form", "bound"]
    before, after = (
        bounds_table(report.cells, demands, now.confidence_level) for report in (then, now)
    )
    ends = (
        each.drop(columns=asked).add_suffix(end)
        for each, end in ((before, "_then"), (after, "_now"))
    )
    return pd.concat([after[asked], *ends], axis=1)
