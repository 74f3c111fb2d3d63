"""What to know before a report's numbers are used, derived from its facts.

Each function looks at one thing and returns the caveats that follow, none where nothing does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .._assembly import FEW_ROWS
from ._words import CONSTRAINTS, DISTANCES, between, group_name, listed, number, rate_name

if TYPE_CHECKING:
    from ._result import ModelReport

__all__ = ["Caveat", "Distance", "find_caveats", "held_distance"]

# Base rates nearer than this are alike for what the caveat on them says.
_UNLIKE_BASE_RATES = 0.05

_HEADLINES = {
    "demographic_parity": "demographic_parity_distance",
    "equalized_odds": "equalized_odds_distance",
}
_RATE_OF = {"true_positive_rate_parity": "tpr", "false_positive_rate_parity": "fpr"}


@dataclass(frozen=True)
class Caveat:
    """Something to know before the numbers are used.

    Parameters
    ----------
    topic : str
        In a few words.
    text : str
        In sentences; plain text.
    found : bool, default=True
        Whether it follows from this model and these rows. False: it is true of any such report.
    details : tuple of str, default=()
        What the text speaks of, one item each.
    """

    topic: str
    text: str
    found: bool = True
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Distance:
    """A distance between groups with its interval, NaN where there is none."""

    name: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.value)} {between(self.low, self.high)}".strip()


def held_distance(report: ModelReport) -> Distance | None:
    """Return the distance of the model's constraint on the report's rows, None without one."""
    constraint, fairness = report.summary.constraint, report.fairness
    if constraint is None:
        return None
    if constraint in _HEADLINES:
        row = fairness.headline.loc[_HEADLINES[constraint]]
    else:  # of several classes, the one in which the groups differ most
        rate = _RATE_OF[constraint]
        table = fairness.differences
        table = table[[name.partition("[")[0] == rate for name in table.index]]
        values = table["value"].to_numpy(dtype=np.float64)
        row = table.iloc[0 if np.isnan(values).all() else int(np.nanargmax(values))]
    value, low, high = row[["value", "low", "high"]].to_numpy(dtype=np.float64)
    return Distance(DISTANCES[constraint], float(value), float(low), float(high))


def find_caveats(report: ModelReport) -> tuple[Caveat, ...]:
    """Return the caveats of a report, those found first."""
    finders = (
        _groups,
        _classes,
        _few_rows,
        _undefined,
        _constraint,
        _bound,
        _inferred_group,
        _other_distance,
        _base_rates,
        _intervals,
        _always,
    )
    return tuple(caveat for find in finders for caveat in find(report))


def _groups(report: ModelReport) -> Iterator[Caveat]:
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
    fitted = list(summary.groups or ())
    unseen, absent = _missing(here, fitted), _missing(fitted, here)
    if len(unseen) == len(here):
        yield Caveat(
            "Other groups than in the fit",
            f"The model was fitted with the groups {_names(fitted)}. The report compares "
            f"{_names(here)}; nothing was asked for between these.",
        )
        return
    if unseen:
        yield Caveat(
            "Groups not seen in the fit",
            f"{_names(unseen)}: no row of the fit was of this kind. What the model does to them "
            "is measured here, but nothing was asked for.",
        )
    if absent:
        yield Caveat(
            "Groups without rows here",
            f"{_names(absent)}: in the fit, but not among these rows. The report says nothing of "
            "them.",
        )


def _classes(report: ModelReport) -> Iterator[Caveat]:
    empty = [label for label in report.counts.columns if not report.counts[label].any()]
    if empty:
        yield Caveat(
            "Classes without rows here",
            f"{listed(empty)}: the model can predict it, but no row of this report has it. How "
            "well it is found cannot be said.",
        )


def _few_rows(report: ModelReport) -> Iterator[Caveat]:
    details = []
    for group, row in zip(
        report.counts.index.tolist(), report.counts.to_numpy().tolist(), strict=True
    ):
        total, classes = sum(row), report.counts.columns
        few = [
            f"{_rows(n)} of class {label}"
            for label, n in zip(classes, row, strict=True)
            if n < FEW_ROWS
        ]
        if len(classes) > 2:
            few += [
                f"{_rows(total - n)} of other classes than {label}"
                for label, n in zip(classes, row, strict=True)
                if total - n < FEW_ROWS
            ]
        if few:  # too few in all is said once, not for each class
            text = _rows(total) if total < FEW_ROWS else ", ".join(few)
            details.append(f"{group_name(group)}: {text}")
    if details:
        yield Caveat(
            "Small groups",
            f"Fewer than {FEW_ROWS} rows stand behind some of the rates. Chance moves such a "
            "rate a lot, and can make it the largest or the smallest of all.",
            details=tuple(details),
        )


def _undefined(report: ModelReport) -> Iterator[Caveat]:
    table = report.fairness.by_group
    missing = tuple(
        f"{rate_name(metric)} of {group_name(group)}"
        for metric in table.columns
        for group, value in zip(table.index.tolist(), table[metric], strict=True)
        if np.isnan(value)
    )
    if missing:
        yield Caveat(
            "Undefined rates",
            "There is no row of which some rates could be a share. A comparison leaves the group "
            "out, and is undefined if fewer than two groups remain.",
            details=missing,
        )


def _constraint(report: ModelReport) -> Iterator[Caveat]:
    summary = report.summary
    if summary.constraint is not None and summary.fairness_weight > 0:
        return
    reason = (
        "No parity was asked for."
        if summary.constraint is None
        else f"{CONSTRAINTS[summary.constraint].capitalize()} was named, but with a weight of 0."
    )
    yield Caveat(
        "No constraint",
        f"{reason} A low rank and a neutralized importance do not bring it by themselves: the "
        "groups differ as much as the data and the backbone make them.",
    )


def _bound(report: ModelReport) -> Iterator[Caveat]:
    summary, here = report.summary, held_distance(report)
    bound = summary.difference_bound
    if bound is None or here is None:
        return
    if summary.difference is not None and not summary.difference <= bound:
        low, high = summary.difference_interval or (np.nan, np.nan)
        at_fit = f"{number(summary.difference)} {between(low, high)}".strip()
        yield Caveat(
            "Bound not met in the fit",
            f"A {here.name} of at most {bound:g} was asked for. On the rows that the fit held out "
            f"for it, no weight reached it; the nearest was {at_fit}.",
        )
    groups = report.fairness.by_group.index.tolist()
    if len(_missing(groups, summary.groups or ())) == len(groups):
        return  # the bound was asked for between others
    if np.isnan(here.value):
        yield Caveat("Bound not checked", f"The {here.name} is undefined on these rows.")
    elif here.value > bound:
        yield Caveat(
            "Bound missed on these rows",
            f"A {here.name} of at most {bound:g} was asked for. On these rows it is {here}. The "
            "bound holds on the rows that the fit held out, not on every other.",
        )
    elif here.high > bound:
        yield Caveat(
            "Bound within reach of chance",
            f"On these rows the {here.name} is {here}, within the bound of {bound:g}; its "
            "interval reaches beyond the bound. On other rows of the same kind it may be above.",
        )


def _inferred_group(report: ModelReport) -> Iterator[Caveat]:
    summary = report.summary
    if summary.solver != "plug_in" or summary.fairness_weight == 0:
        return
    yield Caveat(
        "The group is inferred",
        "No group is needed to predict, because the head estimates it: it holds the probability "
        "of each class and group together, and decides by both. Two rows with the same chance of "
        "a class can be decided differently because the features of one speak for one group. "
        "Where the use of the group in a decision is unlawful or unwanted, an estimate of it may "
        "be no better. Ask before it is deployed.",
    )
    yield Caveat(
        "Probabilities are votes",
        "predict_proba gives the shares of the votes that decide. They are not estimates of how "
        "likely a class is, and not to be used as such.",
    )


def _other_distance(report: ModelReport) -> Iterator[Caveat]:
    """Compare the model's point of the path with the point of no weight in the other distance."""
    plain = report.unconstrained
    if report.path is None or report.chosen is None:
        return
    table: Any = report.path.table
    mine = table.loc[report.chosen]
    yield Caveat(
        "Chosen on the curve's rows",
        f"The points of the trade-off were measured on {report.path.n_held_out:,} rows that the "
        "path held out. A point that was chosen there looks a little better there than it is; "
        "its distance on the rows of this report stands above.",
    )
    if plain is None or plain == report.chosen:
        return
    asked = report.path.constraint
    for other, column in _HEADLINES.items():
        before, after = table.at[plain, column], mine[column]
        if other != asked and after > before:
            yield Caveat(
                f"{CONSTRAINTS[other].capitalize()} got worse",
                f"The constraint on {CONSTRAINTS[asked]} moved the {DISTANCES[other]} from "
                f"{_with_interval(table.loc[plain], column)} to {_with_interval(mine, column)} "
                "on the rows of the path. Parity of one kind can cost another.",
            )


def _base_rates(report: ModelReport) -> Iterator[Caveat]:
    constraint = report.summary.constraint
    if constraint != "demographic_parity" or report.counts.shape[1] != 2:
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


def _intervals(report: ModelReport) -> Iterator[Caveat]:
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
    bounds = fairness.group_intervals
    flat = tuple(
        f"{rate_name(metric)} of {group_name(group)}: {value:.0f}"
        for metric in bounds.columns.unique(0)
        for group, value, low, high in zip(
            bounds.index.tolist(),
            fairness.by_group[metric],
            bounds[metric]["low"],
            bounds[metric]["high"],
            strict=True,
        )
        if low == high
    )
    if flat:
        yield Caveat(
            "Intervals without width",
            "A rate of exactly 0 or 1 resamples to itself. That is a lack of rows, not certainty.",
            details=flat,
        )


def _always(report: ModelReport) -> Iterator[Caveat]:
    columns = report.fairness.by_group.index.nlevels
    said = {
        "These rows": "Nothing here can tell whether they took part in fitting or choosing the "
        "model. If they did, the numbers are better than on new rows.",
        "Intervals": "They cover the drawing of these rows, for this one model. They do not cover "
        "another training run, other training rows, or a world that changes.",
        "Distances": "A largest difference is never negative, so chance alone makes it positive, "
        "the more so the smaller and the more numerous the groups. Its interval above 0 is no "
        "evidence; look at the intervals of the groups.",
        "Groups": "Only the groups named here were compared"
        + (", and not their intersections with any other." if columns == 1 else ".")
        + " Of people inside a group, and of groups that no one recorded, nothing is said.",
        "Labels": "Error, true and false positive rates take the label for the truth. They cannot "
        "tell whether it is right, or just, or carries past decisions on.",
        "Decisions": "Rates of decisions are not what decisions do to people. Parity on these "
        "rows is not fairness. Those who are affected should be in the room where it is decided "
        "what the model is for, and whether.",
    }
    for topic, text in said.items():
        yield Caveat(topic, text, found=False)


def _rows(n: int) -> str:
    return f"{n} row{'s' * (n != 1)}"


def _missing(groups: Iterable[Any], known: Iterable[Any]) -> list[Any]:
    known = set(known)
    return [group for group in groups if group not in known]


def _names(groups: Iterable[Any]) -> str:
    return listed(map(group_name, groups))


def _with_interval(row: pd.Series, column: str) -> str:
    return f"{number(row[column])} {between(row[f'{column}_low'], row[f'{column}_high'])}".strip()
