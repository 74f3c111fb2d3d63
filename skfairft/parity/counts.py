"""What follows from rows counted by group, true label and predicted label.

Everything that `skfairft.metrics` says is a function of one table:

========== ================= ===================================================
``counts`` (..., G, k, k)    sum of the weights in the cell [g, true, predicted];
                             leading axes, if any, are bootstrap resamples
a rate     (..., G, c)       of each group, for each of the c positive labels
a distance (...,)            of a constraint between the G groups
========== ================= ===================================================

Rates and distances are those of `skfairft.parity.moments`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..inputs.words import shown
from .cells import Cells, Floats
from .constraints import parity
from .levels import Levels
from .moments import Parity, divide, extremes, moments
from .table import RATES, REPORTED, metric_of, ratio_of

__all__ = [
    "Statistics",
    "as_mass",
    "columns",
    "distances_of",
    "reported_rates",
    "statistics",
    "support",
    "warn_undefined",
    "weighted_f1",
    "with_pooled",
]

Statistics = dict[str, dict[str, Floats]]  # arrays by scope and metric

# A warning that lists more rates than this no longer helps; the rest is counted.
_MAX_LISTED = 8


def as_mass(counts: Floats) -> Floats:
    """Return counts (..., G, k, k) as the table (..., k, G, k) that moments are functions of."""
    return counts.swapaxes(-3, -2)


def with_pooled(counts: Floats) -> Floats:
    """Return counts with those of all groups together as the last: (..., G + 1, k, k)."""
    return np.concatenate([counts, counts.sum(axis=-3, keepdims=True)], axis=-3)


def reported_rates(cells: Cells) -> Parity:
    """Return the moments of the rates that a report is made of."""
    return moments(REPORTED, len(cells.labels), positives=cells.positives)


def distances_of(
    counts: Floats,
    constraints: Sequence[str],
    positives: range | None = None,
    levels: Levels | None = None,
    *,
    ratio: bool = False,
) -> dict[str, Floats]:
    """Return the distance of each constraint between the groups of counts: (..., G, k, k) -> (...).

    With ``levels`` between those of each column. By ``ratio`` it is 1 minus the smallest one.

    Examples
    --------
    >>> counts = np.array([[[1.0, 1.0], [0.0, 2.0]], [[2.0, 0.0], [1.0, 1.0]]])
    >>> found = distances_of(counts, ["equalized_odds", "error_rate_parity"])
    >>> {name: float(distance) for name, distance in found.items()}
    {'equalized_odds': 1.0, 'error_rate_parity': 0.0}
    """
    mass, found = as_mass(counts), {}
    for name in constraints:
        rule = parity(name, counts.shape[-1], positives=positives, levels=levels, ratio=ratio)
        found[name] = rule.distance(rule.rates(mass, mass.sum(axis=-1)))
    return found


def weighted_f1(counts: Floats) -> Floats:
    """Return the F1 of each label, averaged with the labels' true counts as weights.

    (..., k, k) -> (...), NaN without any row.
    """
    true, hit = counts.sum(axis=-1), np.diagonal(counts, axis1=-2, axis2=-1)
    either, total = true + counts.sum(axis=-2), true.sum(axis=-1)
    # A label that occurs nowhere has weight 0; its F1 only must not be NaN.
    f1 = 2.0 * hit / np.where(either > 0.0, either, 1.0)
    mean: Floats = (f1 * true).sum(axis=-1) / np.where(total > 0.0, total, np.nan)
    return mean


def columns(cells: Cells) -> dict[str, int]:
    """Return a report's columns, named tpr or tpr[label], each with the number of its moment."""
    found = {}
    for r, name in enumerate(REPORTED):
        several = len(cells.positives) > 1 and not RATES[name].pooled
        for j, code in enumerate(cells.positives if several else cells.positives[:1]):
            found[f"{name}[{cells.labels[code]}]" if several else name] = j * len(REPORTED) + r
    return found


def support(cells: Cells, counts: Floats) -> dict[str, Floats]:
    """Return what each of a report's rates is a share of: (..., G, k, k) -> (..., G) by column."""
    rule = moments(REPORTED, counts.shape[-1], positives=cells.positives)
    behind = rule.counts(as_mass(counts).sum(axis=-1))
    return {name: behind[..., m, :] for name, m in columns(cells).items()}


def statistics(cells: Cells, counts: Floats) -> Statistics:
    """Return all that a report says of ``counts`` (..., G, k, k), by scope and metric.

    The arrays are (..., G) in scope "group" and (...) in "headline", "overall",
    "difference" and "ratio". Of ``cells`` only what is asked of the labels matters: the counts may
    be those of other rows or of another number of groups.
    """
    rule = reported_rates(cells)
    among = cells.positives, cells.levels
    distances = distances_of(counts, cells.constraints, *among)
    below = distances_of(counts, cells.ratios, *among, ratio=True)
    counts = with_pooled(counts)
    mass = as_mass(counts)
    # One column more, the F1: (..., m + 1, G + 1).
    known = rule.rates(mass, mass.sum(axis=-1))
    known = np.concatenate([known, weighted_f1(counts)[..., None, :]], axis=-2)
    group, overall = known[..., :-1], known[..., -1]
    low, high = extremes(group)
    difference, ratio = high - low, divide(low, high)
    at = columns(cells) | {"f1": -1}
    return {
        "headline": {
            "weighted_f1_error": 100.0 * (1.0 - overall[..., -1]),
            **{metric_of(name): distance for name, distance in distances.items()},
            **{ratio_of(name): 1.0 - distance for name, distance in below.items()},
        },
        "overall": {name: overall[..., m] for name, m in at.items()},
        "group": {name: group[..., m, :] for name, m in at.items()},
        "difference": {name: difference[..., m] for name, m in at.items()},
        "ratio": {name: ratio[..., m] for name, m in at.items()},
    }


def warn_undefined(
    cells: Cells,
    counts: Floats,
    rates: Sequence[str],
    *,
    compared: bool = True,
    name: Callable[[Any], str] = shown,
) -> None:
    """Warn, once and with numbers of rows, of rates that are of nothing.

    Where groups are ``compared`` a lone one is warned of, too. ``name`` makes a group words.
    """
    rule = moments(rates, len(cells.labels), positives=cells.positives)

    def behind(counts: Floats) -> Floats:
        return rule.counts(as_mass(counts).sum(axis=-1))

    weight = behind(counts)
    alone = compared and len(cells.groups) == 1
    if not alone and weight.all():
        return
    table = cells.rows
    rows = behind(table)
    notes = []
    if alone:
        notes.append(
            f"all {int(table.sum())} rows belong to the group {shown(cells.groups.tolist()[0])}, "
            "which has no one to be compared with: a distance between groups is NaN"
        )
    undefined = []
    for r, rate in enumerate(rates):
        own = slice(r, r + 1 if RATES[rate].pooled else None, len(rates))
        for g, j in np.argwhere(weight[own].T == 0):
            label = "" if RATES[rate].pooled else f" of label {_label(cells, j)!r}"
            undefined.append(
                f"{RATES[rate].name}{label} in group {name(cells.groups.tolist()[g])} "
                f"({int(table[g].sum())} rows{_behind(rate, int(rows[own][j, g]))})"
            )
    if undefined:
        more = len(undefined) - _MAX_LISTED
        notes.append(
            f"undefined and NaN: the {'; the '.join(undefined[:_MAX_LISTED])}"
            f"{f'; and {more} more' if more > 0 else ''}. "
            + (
                "A comparison leaves such a group out, and is NaN if fewer than two groups remain"
                if compared
                else "They are left out of the largest"
            )
        )
    if notes:
        warn_user(f"{'. Also '.join(notes)}.", FairnessWarning)


def _label(cells: Cells, j: int) -> Any:
    return cells.labels.tolist()[cells.positives[j]]


def _behind(name: str, rows: int) -> str:
    """Return which rows a rate without a weight is a share of, and how many."""
    of = RATES[name].of
    which = "" if RATES[name].of_all else f", {rows} with{'' if of[1] else 'out'} it"
    return which + (", weight 0" if rows else "")
