"""Caveats that follow from the model of a report, and from the path that it was chosen from.

Each function looks at one thing and yields the caveats that follow, none where nothing does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inputs.words import group_name
from ..metrics.tables import measured
from ..parity.demands import Bound
from ..parity.table import STATED, TABLE, metric_of, ratio_of
from ._caveat import Caveat, shortened
from ._caveats_rows import missing_from
from ._facts import Facts
from ._words import of_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "bound",
    "by_column",
    "calibration",
    "constraint",
    "estimated_groups",
    "path",
    "solver",
    "wrapper",
]


def wrapper(facts: Facts) -> Iterator[Caveat]:
    """Say that what is around the classifier decides."""
    if facts.wrapper is not None:
        yield Caveat(
            "Decisions of a wrapper",
            f"The decisions measured are those of a {facts.wrapper} around the classifier, and "
            "may be others than the classifier's own. The head, its constraint and its bound are "
            "described without it.",
        )


_PROMISED = {
    True: "The bound is one on the rows that judged it in the fit, not on every other.",
    False: "The bound was to hold on rows like those of the fit, with the confidence that was "
    "asked for: by chance it does not on some, and these may be of another kind.",
}


def constraint(facts: Facts) -> Iterator[Caveat]:
    """Say that no constraint was in force."""
    summary = facts.summary
    if summary.constrained:
        return
    words = " and ".join(TABLE[name].title for name in summary.constraints).capitalize()
    if not summary.demands:
        reason = "No parity was asked for."
    elif not summary.bounds:
        reason = f"{words} was named, but with a weight of 0."
    else:
        asked = " and ".join(f"{each.bound:g}" for each in summary.bounds)
        reason = (
            f"{words} was asked for within {asked}. On the rows "
            "that judged it in the fit, the head of weight 0 "
            + ("met that already." if summary.met else "came nearest to it.")
        )
    yield Caveat(
        "No constraint",
        f"{reason} A low rank and a neutralized importance do not bring it by themselves: how much "
        "the groups differ is left to the data and the features.",
    )


def by_column(facts: Facts) -> Iterator[Caveat]:
    """Say what parity of each column by itself leaves open, and how far their pairs are apart."""
    summary, table = facts.summary, facts.fairness.by_column
    if table is None or not facts.by_column:
        return
    for name in summary.constraints:
        metric, row = metric_of(name), TABLE[name]
        ends = [f"{metric}{end}" for end in ("", "_low", "_high")]
        crossed = measured(*table.iloc[-1][ends])
        single = measured(*facts.fairness.headline.loc[metric])
        yield Caveat(
            "Each column by itself",
            f"{row.title.capitalize()} was asked for of each sensitive column by "
            f"itself, not of their intersections. On these rows the {row.distance} is {single} by "
            f"column, and {crossed} between the intersections. One can be small where the other is "
            "large.",
        )


def bound(facts: Facts) -> Iterator[Caveat]:
    """Compare the bounds that were asked for with what was reached, in the fit and here."""
    for asked in facts.summary.bounds:
        yield from _bound(facts, asked)


def _bound(facts: Facts, asked: Bound) -> Iterator[Caveat]:
    """Compare a bound that was asked for with what was reached, in the fit and here."""
    summary, ratio = facts.summary, asked.form == "ratio"
    name = TABLE[asked.constraint].distance
    metric = metric_of(asked.constraint)
    if ratio:
        metric, name = (
            ratio_of(asked.constraint),
            f"smallest ratio of {TABLE[asked.constraint].title}",
        )
    value, low, high = facts.fairness.headline.loc[metric].to_numpy(dtype=np.float64)
    here = measured(value, low, high)
    if not asked.met:
        at_fit = measured(asked.value, *asked.interval)
        said = f"no weight that was tried reached it; the nearest was {at_fit}"
        if summary.confidence:
            said = (
                f"it could not be certified with confidence {summary.confidence:g}: the "
                f"{'largest' if ratio else 'smallest'} bound that could is {asked.limit:.3f}, "
                f"where the {'ratio' if ratio else 'distance'} was {at_fit}"
            )
        yield Caveat(
            "Bound not met in the fit",
            f"A bound of {asked.bound:g} on the {name} was asked for. On the rows that judged it "
            f"in the fit, {said}.",
        )
    groups = facts.fairness.by_group.index.tolist()
    unseen = missing_from(summary.groups or (), groups)
    if len(unseen) == len(groups):
        return  # the bound was asked for between others
    among = " Groups that the fit has not seen are among these rows." if unseen else ""
    if np.isnan(value):
        yield Caveat("Bound not checked", f"The {name} is undefined on these rows.")
    elif value < asked.bound if ratio else value > asked.bound:
        yield Caveat(
            "Bound missed on these rows",
            f"A bound of {asked.bound:g} on the {name} was asked for. On these rows it is {here}. "
            f"{_PROMISED[summary.confidence is None]}{among}",
        )
    elif low < asked.bound if ratio else high > asked.bound:
        yield Caveat(
            "Bound within reach of chance",
            f"On these rows the {name} is {here}, within the bound of {asked.bound:g}; its "
            "interval reaches beyond the bound. On other rows of the same kind it may be "
            f"{'below' if ratio else 'above'}.{among}",
        )


def solver(facts: Facts) -> Iterator[Caveat]:
    """Say what the solver says of its models."""
    summary = facts.summary
    for topic, text in summary.told_caveats if facts.known_groups else summary.solver_caveats:
        yield Caveat(topic, text)


def estimated_groups(facts: Facts) -> Iterator[Caveat]:
    """Say that the fit did not know the groups of all rows."""
    if facts.summary.rows_with_group is not None:
        known, rows = facts.summary.rows_with_group
        yield Caveat(
            "Groups estimated in the fit",
            f"Of the {rows:,} rows of the fit {known:,} came with their group. The others counted "
            "in each group by how likely it was, given features and label. If rows of one group "
            "lack it more often than rows of another with the same features and label, that is "
            "off, and nothing in the fit can tell.",
        )


def calibration(facts: Facts) -> Iterator[Caveat]:
    """Name the groups, and the cells of a rule, whose estimates are off by more than chance."""
    summary, told = facts.summary, facts.known_groups
    chance = f"{50 * (1 - facts.fairness.confidence_level):.3g}"
    by_chance = f"By chance that is said of up to {chance} of 100 that are calibrated."
    weighted = ""
    if facts.parameters["class_weight"][1]:
        weighted = " With class_weight the fit counts classes otherwise than these rows."
    rule = (
        "The rule decides by them, and is the most accurate one of its parity only where they are "
        "right."
    )
    levels = facts.fairness.by_group.index.nlevels
    groups = _off(facts.calibration, lambda key: _group_and_class(key, levels))
    if groups:
        why = ""
        if summary.cells and told:
            why = f" {rule}"
        elif summary.cells:
            why = (
                " From the features alone that is so, too, where the labels of rows with the same "
                "features differ between groups; the rule decides by cells of class and group."
            )
        elif summary.constrained:
            why = " A constraint moves these estimates, as it moves the decisions."
        yield Caveat(
            "Estimates are not calibrated",
            "In some groups the estimated probability of a class is off by more than chance would "
            f"have it.{why}{weighted} {by_chance}",
            details=shortened(groups),
        )
    cells = _off(facts.cell_calibration, lambda key: f"class {key[0]} in group {key[1]}")
    if cells:
        yield Caveat(
            "The rule's cells are not calibrated",
            "The probabilities of some cells of class and group are off by more than chance would "
            f"have it. {rule}{weighted} {by_chance}",
            details=shortened(cells),
        )


def _group_and_class(key: list[Any], levels: int) -> str:
    label = "".join(f", class {each}" for each in key[levels:])
    return f"group {' / '.join(key[:levels])}{label}"


def _off(table: pd.DataFrame | None, name: Callable[[list[str]], str]) -> list[str]:
    """Return how far estimates are off where that is more than chance, one text each."""
    found = []
    for key, row in () if table is None else table.iterrows():
        if row["error_low"] > 0.0:
            parts = [group_name(part) for part in (key if isinstance(key, tuple) else (key,))]
            error = measured(*(row[f"error{end}"] for end in ("", "_low", "_high")))
            mean = f"{abs(row['bias']):.3f} too {'high' if row['bias'] > 0.0 else 'low'}"
            found.append(f"{name(parts)}: {error}; on average {mean}")
    return found


def path(facts: Facts) -> Iterator[Caveat]:
    """Compare the model's point of the path with the point of no weight in other distances."""
    if facts.path is None or facts.chosen is None:
        return
    table: Any = facts.path.table
    mine = table.loc[facts.chosen]
    here = "its distance on the rows of this report stands above."
    if _same_numbers(facts, mine):
        here = "the numbers of this report are the same, and take that with them."
    yield Caveat(
        "Chosen on the curve's rows",
        f"The points of the trade-off were measured on {facts.path.judged_on}. A point that was "
        f"chosen there looks a little better there than it is; {here}",
    )
    if facts.unconstrained is None or facts.unconstrained == facts.chosen:
        return
    plain = table.loc[facts.unconstrained]
    asked = (facts.path.constraint, *facts.path.others)
    for other in STATED:
        column = metric_of(other)
        before, after = (str(of_path(row, column)) for row in (plain, mine))
        if other not in asked and mine[column] > plain[column] and before != after:
            yield Caveat(
                f"{TABLE[other].title.capitalize()} got worse",
                "From the path's head without a constraint to this one, the "
                f"{TABLE[other].distance} went from {before} to {after}, on the rows of the path. "
                "Parity of one kind can cost another.",
            )


def _same_numbers(facts: Facts, point: pd.Series) -> bool:
    """Tell whether the path was measured on the report's own rows, by all that both hold."""
    assert facts.path is not None
    headline = facts.fairness.headline["value"].astype(float)
    headline = headline[headline.index.intersection(point.index)]
    same = np.allclose(headline, point[headline.index].astype(float), equal_nan=True)
    return same and facts.path.n_judged == int(facts.counts.to_numpy().sum())
