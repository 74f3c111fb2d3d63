"""Caveats that follow from the rows of a report.

Each function looks at one thing and yields the caveats that follow, none where nothing does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..inputs.words import group_name, named
from ..metrics.report import FEW_ROWS
from ..metrics.report import few_rows as few_rows_of
from ..parity.table import TABLE
from ._caveat import Caveat, shortened
from ._facts import Facts
from ._words import rate_name

__all__ = [
    "base_rates",
    "classes",
    "few_rows",
    "groups",
    "intervals",
    "missing_from",
    "one_decision",
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


def groups(facts: Facts) -> Iterator[Caveat]:
    """Compare the groups of the report with those of the fit."""
    summary, here = facts.summary, facts.fairness.by_group.index.tolist()
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


def classes(facts: Facts) -> Iterator[Caveat]:
    """Name the classes of the fit that no row has."""
    empty = [label for label in facts.counts.columns if not facts.counts[label].any()]
    if empty:
        yield Caveat(
            "Classes without rows here",
            f"{named(empty)}: a class of the fit, but of no row of this report. How well the "
            "model finds such rows cannot be said.",
        )


def few_rows(facts: Facts) -> Iterator[Caveat]:
    """Name the groups with few rows, in all or behind one of their rates."""
    found = few_rows_of(facts.fairness, lambda rate: f"behind the {rate_name(rate)}")
    details = [f"{group_name(group)}: {text}" for group, text in found]
    if details:
        yield Caveat(
            "Small groups",
            f"Fewer than {FEW_ROWS} rows stand behind some of the rates. Chance moves such a "
            "rate a lot, and can make it the largest or the smallest of all.",
            details=shortened(details),
        )


def one_decision(facts: Facts) -> Iterator[Caveat]:
    """Say that all rows are decided alike, which is parity of no use."""
    overall = facts.fairness.overall
    rates = [overall[name] for name in overall.index if str(name).startswith("selection_rate")]
    if rates and all(rate in (0.0, 1.0) for rate in rates):
        yield Caveat(
            "One decision for all",
            "The model decides all of these rows alike. That is parity, and of no use: no one is "
            "told apart.",
        )


def undefined(facts: Facts) -> Iterator[Caveat]:
    """Name the rates that are shares of nothing."""
    table = facts.fairness.by_group
    missing = [
        f"{rate_name(metric)} of {group_name(group)}"
        for metric in table.columns
        for group, value in zip(table.index.tolist(), table[metric], strict=True)
        if np.isnan(value)
    ]
    if missing:
        yield Caveat(
            "Undefined rates",
            f"There is no row{' with a weight' if facts.weighted else ''} of which some rates "
            "could be a share. A comparison leaves the group out, and is undefined if fewer than "
            "two groups remain.",
            details=shortened(missing),
        )


def base_rates(facts: Facts) -> Iterator[Caveat]:
    """Say what demographic parity costs where labels differ; only of rows that count alike."""
    binary = facts.counts.shape[1] == 2
    held = [TABLE[name] for name in facts.summary.constraints]
    alone = any(row.predictions_alone and not row.largest for row in held)
    if not alone or not binary or facts.weighted:
        return
    labels = facts.counts.columns.tolist()
    positive = labels.index(facts.fairness.positive)
    share = facts.counts.iloc[:, positive] / facts.counts.sum(axis=1)
    lowest, highest = int(share.argmin()), int(share.argmax())
    if share.iloc[highest] - share.iloc[lowest] < _UNLIKE_BASE_RATES:
        return
    low, high = (
        f"{share.iloc[i]:.3f} in group {group_name(share.index.tolist()[i])}"
        for i in (lowest, highest)
    )
    yield Caveat(
        "The labels differ between groups",
        f"The share of class {group_name(labels[positive])} among the labels is {low} and "
        f"{high}. With such labels equal shares of decisions mean unequal true or false positive "
        "rates, unless the decisions have nothing to do with the labels.",
    )


def intervals(facts: Facts) -> Iterator[Caveat]:
    """Say what the intervals, or their absence, do not show."""
    fairness = facts.fairness
    if facts.weighted:
        yield Caveat("Weighted rows", "Rates are of weighted rows; counts are numbers of rows.")
    if fairness.n_boot == 0:
        yield Caveat(
            "No intervals of F1",
            "None were computed (n_boot=0). How far chance alone could move it, and with it the "
            "error, cannot be seen.",
        )
        return
    groups = zip(fairness.by_group.index.tolist(), fairness.by_group["f1"], strict=True)
    flat = [f"{group_name(group)}: {value:.0f}" for group, value in groups if value in (0.0, 1.0)]
    if flat:
        yield Caveat(
            "Intervals without width",
            "A weighted F1 of exactly 0 or 1 resamples to itself, be there many rows or few. That "
            "its interval has no width is not certainty; look at that of the error rate.",
            details=shortened(flat),
        )
