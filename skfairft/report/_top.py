"""The head of the page: main numbers, and what to know first."""

from __future__ import annotations

import numpy as np

from ..inputs.words import group_name, one_line
from ..metrics.markup import Html, tag
from ..metrics.tables import measured
from ..parity.table import split_rate
from ._caveat import Caveat
from ._facts import Facts
from ._words import headline_name, percent

__all__ = ["header"]


def header(facts: Facts, caveats: tuple[Caveat, ...], nav: Html) -> Html:
    """Return the head of the page, with the links to its sections at the end."""
    eyebrow = f"skfairft · {one_line(facts.date)}" if facts.date else "skfairft"
    return tag(
        "header",
        tag("p", eyebrow, class_="eyebrow"),
        tag("h1", facts.heading),
        tag("p", _lead(facts), class_="lead"),
        _tiles(facts),
        _found(caveats),
        nav,
    )


def _lead(facts: Facts) -> str:
    """Return the main numbers in two sentences."""
    fairness = facts.fairness
    table = fairness.by_group
    rates = [name for name in map(str, table.columns) if name.startswith("selection_rate")]
    names = [group_name(group) for group in table.index.tolist()]
    rows = f"{int(fairness.overall['count']):,} rows"
    wrong = percent(fairness.headline.loc["weighted_f1_error", "value"])
    error = f"The error (100 - weighted F1) is {wrong}."
    if len(table) == 1:
        return f"Measured on {rows} of one group, {names[0]}. {error}"
    # Of several classes, the one in which the groups differ most.
    differences = fairness.differences.loc[rates, "value"].astype(float)
    if differences.isna().all():
        return f"Measured on {rows}; rates are defined in one group only. {error}"
    widest = str(differences.idxmax())
    label = split_rate(widest)[1]
    label = group_name(fairness.positive) if label is None else one_line(label)
    values = table[widest].to_numpy(dtype=np.float64)
    low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
    if values[low] == values[high]:
        shares = f"{percent(100 * values[low])} of the rows of each of {len(names)} groups"
    else:
        shares = (
            f"{percent(100 * values[low])} of the rows of group {names[low]} and in "
            f"{percent(100 * values[high])} of those of group {names[high]}"
        )
    more = f", the lowest and the highest share of {len(names)} groups" if len(names) > 2 else ""
    return f"On {rows}, the model decides for class {label} in {shares}{more}. {error}"


def _tiles(facts: Facts) -> Html:
    fairness, summary = facts.fairness, facts.summary
    tiles = []
    for metric in map(str, fairness.headline.index):
        name, unit, digits = headline_name(metric), "", 3
        if metric == "weighted_f1_error":
            name, unit, digits = "error, 100 - weighted F1", "\N{NO-BREAK SPACE}%", 1
        value, note = measured(*fairness.headline.loc[metric], digits=digits)
        tiles.append((name, f"{value}{unit}", note))
    if summary.head_parameters is not None:
        tiles.append(
            ("parameters of the head", f"{summary.head_parameters:,}", summary.describe_rank())
        )
    shown = [
        tag(
            "div",
            tag("dt", name),
            tag("dd", value, class_="value"),
            tag("dd", note, class_="note") if note else None,
        )
        for name, value, note in tiles
    ]
    return tag("dl", shown, class_="tiles")


def _found(caveats: tuple[Caveat, ...]) -> Html | None:
    """Return the topics of what was found, linked to their text."""
    found = [caveat for caveat in caveats if caveat.found]
    links = [
        tag("li", tag("a", caveat.topic, href=f"#caveat-{i}"))
        for i, caveat in enumerate(found, start=1)
    ]
    lead = tag("p", tag("strong", "Know first, about this model and these rows:"))
    return tag("div", lead, tag("ul", links), class_="found") if found else None
