"""Constraints by name, and their moments, which are described in `skfairft.parity.moments`."""

from __future__ import annotations

from dataclasses import replace

from .levels import Levels
from .moments import Parity, moments
from .table import TABLE
from .tally import Floats

__all__ = [
    "CONSTRAINTS",
    "Parity",
    "largest_distance",
    "parity",
]

CONSTRAINTS = tuple(TABLE)
"""Names of the constraints, those of fairlearn's moments where it has them."""


def largest_distance(constraint: str) -> int:
    """Return the largest `Parity.distance` that rates can have: 1 for each that it adds up.

    Examples
    --------
    >>> largest_distance("demographic_parity"), largest_distance("equalized_odds")
    (1, 2)
    """
    return len(TABLE[constraint].rates)


def parity(
    constraint: str,
    n_classes: int,
    class_weight: Floats | None = None,
    *,
    positives: range | None = None,
    levels: Levels | None = None,
    ratio: bool = False,
) -> Parity:
    """Return the moments of one of `CONSTRAINTS`, compared by ``ratio`` or not; as `moments`.

    Examples
    --------
    >>> odds = parity("equalized_odds", 2)
    >>> odds.positives, odds.events.tolist()
    (range(1, 2), [[0.0, 1.0], [1.0, 0.0]])
    """
    row = TABLE[constraint]
    found = moments(
        row.rates,
        n_classes,
        positives=range(n_classes) if row.each_class else positives,
        class_weight=class_weight,
        largest=row.largest,
        levels=levels,
    )
    return replace(found, ratio=True) if ratio else found
