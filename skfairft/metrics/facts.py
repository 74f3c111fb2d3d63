"""The numbers of a fairness report, apart from how they are shown.

`FairnessReport` says what each is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..parity.cells import Cells

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Facts"]


@dataclass(frozen=True, eq=False, repr=False)
class Facts:
    """What was counted, and what follows from it."""

    by_group: pd.DataFrame
    group_intervals: pd.DataFrame
    overall: pd.Series
    overall_intervals: pd.DataFrame
    differences: pd.DataFrame
    ratios: pd.DataFrame
    headline: pd.DataFrame
    confidence_level: float
    n_boot: int
    support: pd.DataFrame
    positive: Any
    cells: Cells
    groups: str = "intersections"
    of_column: dict[str, Any] = field(default_factory=dict)
    by_column: pd.DataFrame | None = None
    bounds: pd.DataFrame | None = None
