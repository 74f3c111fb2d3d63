"""What was measured of a model: the facts that page, card, figures and caveats read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..displays import FisherImportanceDisplay, SingularSpectrumDisplay
from ..inputs.words import one_line
from ..metrics.report import FairnessReport
from ..path import FairnessPath
from ..summary.model import ModelSummary

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TITLE", "Facts"]

TITLE = "Model report"


@dataclass(frozen=True, eq=False, repr=False)
class Facts:
    """What was measured of a model, field by field as `ModelReport` describes it."""

    title: str | None
    summary: ModelSummary
    fairness: FairnessReport
    counts: pd.DataFrame
    calibration: pd.DataFrame | None
    cell_calibration: pd.DataFrame | None
    group_importance: NDArray[np.float64]
    importance: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    features: tuple[str, ...] | None
    path: FairnessPath | None
    chosen: int | None
    peers: Any
    parameters: dict[str, tuple[str, bool]]
    versions: dict[str, str]
    weighted: bool
    known_groups: bool
    wrapper: str | None
    date: Any

    @property
    def heading(self) -> str:
        """The title in one line, or what such a page is called where it has none."""
        return one_line(self.title) if self.title else TITLE

    @property
    def by_column(self) -> bool:
        """Whether the headline's distances are of each of several sensitive columns by itself."""
        return self.fairness.groups == "columns" and self.fairness.by_column is not None

    @property
    def similarity(self) -> NDArray[np.float64]:
        """Cosine between the groups' importances, (G, G); NaN for a group without any."""
        return FisherImportanceDisplay(
            group_importance=self.group_importance, importance=None, groups=self.summary.groups
        ).similarity

    @property
    def energy(self) -> NDArray[np.float64]:
        """Share of the squared singular values that the first r of them hold, for each r."""
        return SingularSpectrumDisplay(singular_values=self.singular_values).kept

    @property
    def unconstrained(self) -> int | None:
        """The row of the path that is this model's without a constraint; None if there is none."""
        if self.path is None or self.chosen is None:
            return None
        table = self.path.table
        # The rank is None, a whole number or a share: 1 and 1.0 differ.
        like = table[["solver", "rank"]].map(repr)
        same = (like == like.loc[self.chosen]).all(axis=1)
        plain = (table["fairness_weight"] == 0.0) & (table["positive_share"] == 1.0)
        rows = table.index[same & plain]
        return int(rows[0]) if len(rows) else None
