"""Intervals of all that a report says: limits of rates and of what compares them, and resamples.

A rate has Wilson limits; differences and distances have those of the contrasts between groups, see
`skfairft.parity.limits`, ratios those of `skfairft.parity.ratio_limits`. F1 is resampled; of its
difference and its ratio between groups, which resamples do not hold where groups are alike, there
is no interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from .bootstrap import bootstrap_counts, generator, percentiles
from .cells import Cells, Floats
from .constraints import parity
from .counts import Statistics, as_mass, columns, reported_rates, weighted_f1, with_pooled
from .limits import distance_limits, limits_between
from .rate_limits import effective_rows, wilson_limits
from .ratio_limits import ratio_limits
from .table import metric_of, ratio_of

__all__ = ["intervals", "limits_of"]


def intervals(cells: Cells, *, n_boot: int, level: float, random_state: Any) -> Statistics:
    """Return low and high (2, ...) of each value of `statistics`, which they hold.

    Without resamples those of F1 are NaN, and of its difference and its ratio they are anyway.
    """
    bounds = _limits(cells, level)
    f1 = _resampled_f1(cells, n_boot=n_boot, level=level, random_state=random_state)
    bounds["headline"]["weighted_f1_error"] = 100.0 * (1.0 - f1[::-1, -1])
    bounds["overall"]["f1"], bounds["group"]["f1"] = f1[:, -1], f1[:, :-1]
    bounds["difference"]["f1"] = bounds["ratio"]["f1"] = np.full(2, np.nan)
    return bounds


def limits_of(
    cells: Cells, constraint: str, level: float, *, ratio: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Return the distance of a constraint, or the smallest ratio, and its interval of a level."""
    asked = parity(
        constraint,
        len(cells.labels),
        positives=cells.positives,
        levels=cells.levels,
        ratio=ratio,
    )
    confidence = (1.0 + level) / 2.0
    found = distance_limits(asked, cells.mass, cells.squares, confidence=confidence)
    if ratio:
        return 1.0 - found.distance, 1.0 - found.high, 1.0 - found.low
    return found.distance, found.low, found.high


def _limits(cells: Cells, level: float) -> Statistics:
    """Return the limits of rates, of their differences and ratios, and of distances."""
    rule = reported_rates(cells)
    counts, squares = with_pooled(cells.mass), with_pooled(cells.squares)
    mass, confidence = as_mass(counts), (1.0 + level) / 2.0
    rates = rule.rates(mass, mass.sum(axis=-1))  # (m, G + 1)
    rows = effective_rows(rule, counts, squares)
    own = np.stack(wilson_limits(rates, rows, float(norm.ppf(confidence))))
    rates, rows = rates[:, :-1], rows[:, :-1]

    def of(constraint: str, ratio: bool) -> Floats:
        return np.stack(limits_of(cells, constraint, level, ratio=ratio)[1:])

    # (2, m), a rate as the one kind of the one class.
    found = limits_between(rates[:, None, None], rows[:, None, None], confidence=confidence)
    each = np.stack([found.low, found.high])
    ratios = np.stack(ratio_limits(rates, rows, confidence=confidence))  # (2, m)
    at = columns(cells)
    return {
        "headline": {
            **{metric_of(name): of(name, False) for name in cells.constraints},
            **{ratio_of(name): of(name, True) for name in cells.ratios},
        },
        "overall": {name: own[:, m, -1] for name, m in at.items()},
        "group": {name: own[:, m, :-1] for name, m in at.items()},
        "difference": {name: each[:, m] for name, m in at.items()},
        "ratio": {name: ratios[:, m] for name, m in at.items()},
    }


def _resampled_f1(cells: Cells, *, n_boot: int, level: float, random_state: Any) -> Floats:
    """Return percentile intervals (2, G + 1) of F1, last of all rows; NaN if n_boot is 0."""
    f1 = weighted_f1(with_pooled(cells.mass))
    if cells.kinds is None or n_boot == 0:
        return np.full((2, len(f1)), np.nan)
    blocks = bootstrap_counts(cells.kinds, cells.mass.shape, n_boot, generator(random_state))
    samples = [weighted_f1(with_pooled(block)) for block in blocks]
    return percentiles(f1, np.concatenate(samples), level)
