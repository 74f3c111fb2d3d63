"""Caveats that follow from the model of a report, and from the path that it was chosen from.

Each function looks at one thing and yields the caveats that follow, none where nothing does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..parity.names import DISTANCES, split_rate
from ._caveat import Caveat
from ._caveats_rows import missing_from
from ._words import between, number

if TYPE_CHECKING:
    import pandas as pd

    from ._result import ModelReport

__all__ = ["bound", "constraint", "inferred_group", "path", "wrapper"]

_HEADLINES = {
    "demographic_parity": "demographic_parity_distance",
    "equalized_odds": "equalized_odds_distance",
}
_RATE_OF = {"true_positive_rate_parity": "tpr", "false_positive_rate_parity": "fpr"}


class _Distance(NamedTuple):
    """A distance between groups with its interval, NaN where there is none."""

    name: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.value)} {between(self.low, self.high)}".strip()


def wrapper(report: ModelReport) -> Iterator[Caveat]:
    """Say that what is around the classifier decides."""
    if report.wrapper is not None:
        yield Caveat(
            "Decisions of a wrapper",
            f"The decisions measured are those of a {report.wrapper} around the classifier, and "
            "may be others than the classifier's own. The head, its constraint and its bound are "
            "described without it.",
        )


def constraint(report: ModelReport) -> Iterator[Caveat]:
    """Say that no constraint was in force."""
    summary = report.summary
    if summary.constraint is not None and summary.fairness_weight:
        return
    words = str(summary.constraint).replace("_", " ")
    if summary.constraint is None:
        reason = "No parity was asked for."
    elif summary.difference_bound is None:
        reason = f"{words.capitalize()} was named, but with a weight of 0."
    else:
        reason = (
            f"{words.capitalize()} was asked for within {summary.difference_bound:g}. On the rows "
            "that the fit held out, the head of weight 0 "
            + ("met that already." if _met(report) else "came nearest to it.")
        )
    yield Caveat(
        "No constraint",
        f"{reason} A low rank and a neutralized importance do not bring it by themselves: how much "
        "the groups differ is left to the data and the features.",
    )


def bound(report: ModelReport) -> Iterator[Caveat]:
    """Compare the bound that was asked for with what was reached, in the fit and here."""
    summary, here = report.summary, _held_distance(report)
    asked = summary.difference_bound
    if asked is None or here is None:
        return
    if not _met(report):
        assert summary.difference is not None
        low, high = summary.difference_interval or (np.nan, np.nan)
        at_fit = f"{number(summary.difference)} {between(low, high)}".strip()
        yield Caveat(
            "Bound not met in the fit",
            f"A {here.name} of at most {asked:g} was asked for. On the rows that the fit held out "
            f"for it, no weight that was tried reached it; the nearest was {at_fit}.",
        )
    groups = report.fairness.by_group.index.tolist()
    unseen = missing_from(summary.groups or (), groups)
    if len(unseen) == len(groups):
        return  # the bound was asked for between others
    among = " Groups that the fit has not seen are among these rows." if unseen else ""
    if np.isnan(here.value):
        yield Caveat("Bound not checked", f"The {here.name} is undefined on these rows.")
    elif here.value > asked:
        yield Caveat(
            "Bound missed on these rows",
            f"A {here.name} of at most {asked:g} was asked for. On these rows it is {here}. The "
            f"bound is one on the rows that the fit held out, not on every other.{among}",
        )
    elif here.high > asked:
        yield Caveat(
            "Bound within reach of chance",
            f"On these rows the {here.name} is {here}, within the bound of {asked:g}; its "
            "interval reaches beyond the bound. On other rows of the same kind it may be above."
            f"{among}",
        )


def inferred_group(report: ModelReport) -> Iterator[Caveat]:
    """Say how the plug-in rule decides."""
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


def path(report: ModelReport) -> Iterator[Caveat]:
    """Compare the model's point of the path with the point of no weight in other distances."""
    if report.path is None or report.chosen is None:
        return
    table: Any = report.path.table
    mine = table.loc[report.chosen]
    here = "its distance on the rows of this report stands above."
    if _same_numbers(report, mine):
        here = "the numbers of this report are the same, and take that with them."
    yield Caveat(
        "Chosen on the curve's rows",
        f"The points of the trade-off were measured on {report.path.n_held_out:,} rows that were "
        "held out for the path. A point that was chosen there looks a little better there than it "
        f"is; {here}",
    )
    if report.unconstrained is None or report.unconstrained == report.chosen:
        return
    plain = table.loc[report.unconstrained]
    for other, column in _HEADLINES.items():
        before, after = (_shown(row, column) for row in (plain, mine))
        if other != report.path.constraint and mine[column] > plain[column] and before != after:
            yield Caveat(
                f"{other.replace('_', ' ').capitalize()} got worse",
                f"From the path's head without a constraint to this one, the {DISTANCES[other]} "
                f"went from {before} to {after}, on the rows of the path. Parity of one kind can "
                "cost another.",
            )


def _met(report: ModelReport) -> bool:
    """Tell whether the fit met its bound on the rows that it held out; without a bound it did."""
    reached, asked = report.summary.difference, report.summary.difference_bound
    return reached is None or asked is None or reached <= asked


def _held_distance(report: ModelReport) -> _Distance | None:
    """Return the distance of the model's constraint on the report's rows, None without one."""
    held, fairness = report.summary.constraint, report.fairness
    if held is None:
        return None
    if held in _HEADLINES:
        row = fairness.headline.loc[_HEADLINES[held]]
    else:  # of several classes, the one in which the groups differ most
        table = fairness.differences
        table = table[[split_rate(name)[0] == _RATE_OF[held] for name in table.index]]
        values = table["value"].to_numpy(dtype=np.float64)
        row = table.iloc[0 if np.isnan(values).all() else int(np.nanargmax(values))]
    value, low, high = row[["value", "low", "high"]].to_numpy(dtype=np.float64)
    return _Distance(DISTANCES[held], float(value), float(low), float(high))


def _same_numbers(report: ModelReport, point: pd.Series) -> bool:
    """Tell whether the path was measured on the report's own rows, by all that both hold."""
    assert report.path is not None
    headline = report.fairness.headline["value"].astype(float)
    same = np.allclose(headline, point[headline.index].astype(float), equal_nan=True)
    return same and report.path.n_held_out == int(report.counts.to_numpy().sum())


def _shown(row: pd.Series, column: str) -> str:
    return f"{number(row[column])} {between(row[f'{column}_low'], row[f'{column}_high'])}".strip()
