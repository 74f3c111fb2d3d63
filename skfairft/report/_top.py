"""The head of the page: main numbers, and what to know first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..inputs.words import group_name
from ..parity.names import DISTANCES, split_rate
from ._markup import Html, tag
from ._words import between, number, percent

if TYPE_CHECKING:
    from ._result import ModelReport

__all__ = ["header"]


def header(report: ModelReport, nav: Html) -> Html:
    """Return the head of the page, with the links to its sections at the end."""
    eyebrow = "skfairft" if report.date is None else f"skfairft · {report.date}"
    return tag(
        "header",
        tag("p", eyebrow, class_="eyebrow"),
        tag("h1", report.title),
        tag("p", _lead(report), class_="lead"),
        _tiles(report),
        _found(report),
        nav,
    )


def _lead(report: ModelReport) -> str:
    """Return the main numbers in two sentences."""
    fairness = report.fairness
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
    label = split_rate(widest)[1] or group_name(fairness.positive)
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


def _tiles(report: ModelReport) -> Html:
    fairness, summary = report.fairness, report.summary
    names = {
        "weighted_f1_error": ("error, 100 - weighted F1", percent, 1),
        "demographic_parity_distance": (DISTANCES["demographic_parity"], number, 3),
        "equalized_odds_distance": (DISTANCES["equalized_odds"], number, 3),
    }
    tiles = []
    for metric, (name, show, digits) in names.items():
        value, low, high = fairness.headline.loc[metric, ["value", "low", "high"]]
        tiles.append((name, show(value, digits), between(low, high, digits)))
    if summary.head_parameters is not None:
        tiles.append(
            ("parameters of the head", f"{summary.head_parameters:,}", summary.describe_rank())
        )
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", name),
                tag("dd", value, class_="value"),
                tag("dd", note, class_="note") if note else None,
            )
            for name, value, note in tiles
        ),
        class_="tiles",
    )


def _found(report: ModelReport) -> Html | None:
    """Return the topics of what was found, linked to their text."""
    found = [caveat for caveat in report.caveats if caveat.found]
    if not found:
        return None
    links = [
        tag("li", tag("a", caveat.topic, href=f"#caveat-{i}"))
        for i, caveat in enumerate(found, start=1)
    ]
    return tag(
        "div",
        tag("p", tag("strong", "Know first, about this model and these rows:")),
        tag("ul", *links),
        class_="found",
    )
