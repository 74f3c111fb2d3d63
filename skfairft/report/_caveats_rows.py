"""Caveats that follow from the rows of a report.

Each function looks at one thing and yields the caveats that follow, none where nothing does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inputs.words import group_name, named
from ..metrics.assembly import FEW_ROWS
from ._caveat import Caveat, shortened
from ._words import rate_name

if TYPE_CHECKING:
    from ._result import ModelReport

__all__ = [
    "base_rates",
    "classes",
    "few_rows",
    "groups",
    "intervals",
    "missing_from",
    "undefined",
]

# Base rates nearer than this are alike for what the caveat on them says.
_UNLIKE_BASE_RATES = 0.05


def missing_from(known: Iterable[Any], groups: Iterable[Any]) -> list[Any]:
    """Return the groups that are not among those known.

    Examples
    --------
    >>> missing_from("ab", "bc")
    ['c']
    """
    known = set(known)
    return [group for group in groups if group not in known]


def groups(report: ModelReport) -> Iterator[Caveat]:
    """Compare the groups of the report with those of the fit."""
    summary, here = report.summary, report.fairness.by_group.index.tolist()
    if len(here) == 1:
        yield Caveat(
            "One group",
            f"All rows belong to the group {group_name(here[0])}. There is no one to compare it "
            "with: every distance is undefined.",
        )
    if not summary.groups_given:
        yield Caveat(
            "Fitted without groups",
            "The model was fitted without sensitive features. Its importance is pooled over all "
            "rows, and nothing in it was asked of the groups of this report.",
        )
        return
    fitted = summary.groups or ()
    unseen, absent = missing_from(fitted, here), missing_from(here, fitted)
    if len(unseen) == len(here):
        yield Caveat(
            "Other groups than in the fit",
            f"The model was fitted with the groups {named(fitted)}. The report compares "
            f"{named(here)}; nothing was asked for between these.",
        )
        return
    if unseen:
        yield Caveat(
            "Groups not seen in the fit",
            f"{named(unseen)}: no row of the fit was of this kind. What the model does to them "
            "is measured here, but nothing was asked for.",
        )
    if absent:
        yield Caveat(
            "Groups without rows here",
            f"{named(absent)}: in the fit, but not among these rows. The report says nothing of "
            "them.",
        )


def classes(report: ModelReport) -> Iterator[Caveat]:
    """Name the classes of the fit that no row has."""
    empty = [label for label in report.counts.columns if not report.counts[label].any()]
    if empty:
        yield Caveat(
            "Classes without rows here",
            f"{named(empty)}: a class of the fit, but of no row of this report. How well the "
            "model finds such rows cannot be said.",
        )


def few_rows(report: ModelReport) -> Iterator[Caveat]:
    """Name the groups with few rows, in all or behind one of their rates."""
    support, totals = report.fairness.support, report.counts.sum(axis=1)
    details = []
    for group, row, total in zip(
        support.index.tolist(), support.to_numpy().tolist(), totals.tolist(), strict=True
    ):
        few = [
            f"{_rows(n)} behind the {rate_name(metric)}"
            for metric, n in zip(support.columns, row, strict=True)
            if n < FEW_ROWS
        ]
        if few:  # too few in all is said once, not for each rate
            text = _rows(total) if total < FEW_ROWS else ", ".join(few)
            details.append(f"{group_name(group)}: {text}")
    if details:
        yield Caveat(
            "Small groups",
            f"Fewer than {FEW_ROWS} rows stand behind some of the rates. Chance moves such a "
            "rate a lot, and can make it the largest or the smallest of all.",
            details=shortened(details),
        )


def undefined(report: ModelReport) -> Iterator[Caveat]:
    """Name the rates that are shares of nothing."""
    table = report.fairness.by_group
    missing = [
        f"{rate_name(metric)} of {group_name(group)}"
        for metric in table.columns
        for group, value in zip(table.index.tolist(), table[metric], strict=True)
        if np.isnan(value)
    ]
    if missing:
        yield Caveat(
            "Undefined rates",
            f"There is no row{' with a weight' if report.weighted else ''} of which some rates "
            "could be a share. A comparison leaves the group out, and is undefined if fewer than "
            "two groups remain.",
            details=shortened(missing),
        )


def base_rates(report: ModelReport) -> Iterator[Caveat]:
    """Say what demographic parity costs where labels differ; only of rows that count alike."""
    binary = report.counts.shape[1] == 2
    if report.summary.constraint != "demographic_parity" or not binary or report.weighted:
        return
    share = report.counts.iloc[:, 1] / report.counts.sum(axis=1)
    lowest, highest = int(share.argmin()), int(share.argmax())
    if share.iloc[highest] - share.iloc[lowest] < _UNLIKE_BASE_RATES:
        return
    low, high = (
        f"{share.iloc[i]:.3f} in group {group_name(share.index.tolist()[i])}"
        for i in (lowest, highest)
    )
    yield Caveat(
        "The labels differ between groups",
        f"The share of class {report.counts.columns[1]} among the labels is {low} and {high}. "
        "With such labels equal shares of decisions mean unequal true or false positive rates, "
        "unless the decisions have nothing to do with the labels.",
    )


def intervals(report: ModelReport) -> Iterator[Caveat]:
    """Say what the intervals, or their absence, do not show."""
    fairness = report.fairness
    if report.weighted:
        yield Caveat("Weighted rows", "Rates are of weighted rows; counts are numbers of rows.")
    if fairness.n_boot == 0:
        yield Caveat(
            "No intervals",
            "None were computed (n_boot=0). How far chance alone could move a number cannot be "
            "seen.",
        )
        return
    flat = [
        f"{rate_name(metric)} of {group_name(group)}: {value:.0f}"
        for metric in fairness.group_intervals.columns.unique(0)
        for group, value in zip(
            fairness.by_group.index.tolist(), fairness.by_group[metric], strict=True
        )
        if value in (0.0, 1.0)
    ]
    if flat:
        yield Caveat(
            "Intervals without width",
            "A rate of exactly 0 or 1 resamples to itself, be there many rows or few. That its "
            "interval has no width is not certainty.",
            details=shortened(flat),
        )


def _rows(n: int) -> str:
    return f"{n:,} row{'s' * (n != 1)}"
