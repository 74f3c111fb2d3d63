"""How far the estimates that decide are from what came: of the labels, and of cells with groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..classifier import FairLowRankHeadClassifier
from ..inputs.encoding import encode_groups, to_label_array
from ..inputs.tables import weight_column
from ..metrics.calibration import calibration_table, group_bins
from ..predicting import Estimates

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["of_cells", "of_labels"]

_BINS: dict[str, Any] = {"n_bins": 10, "strategy": "quantile"}


def of_labels(
    clf: FairLowRankHeadClassifier,
    estimates: Estimates,
    y: Any,
    sensitive_features: Any,
    sample_weight: Any,
    positive: Any,
    level: float,
) -> pd.DataFrame:
    """Return the calibration of the estimates of the label, by group; of few rows it is NaN."""
    found = group_bins(
        y,
        estimates.labels,
        sensitive_features=sensitive_features,
        labels=clf.classes_,
        pos_label=positive,
        sample_weight=sample_weight,
        confidence_level=level,
        **_BINS,
    )
    return calibration_table(found, level)


def of_cells(
    clf: FairLowRankHeadClassifier,
    estimates: Estimates,
    y: Any,
    sensitive_features: Any,
    sample_weight: Any,
    level: float,
) -> pd.DataFrame | None:
    """Return the calibration of the probabilities of class and group together, by cell.

    It is over the rows of groups that the fit has seen; None without such, and without cells.
    """
    if estimates.cells is None or estimates.of is None:
        return None
    import pandas as pd

    labels = to_label_array(y)
    groups, codes = encode_groups(sensitive_features, len(labels))
    number = {group: code for code, group in enumerate(clf.groups_.tolist())}
    group = np.array([number.get(each, -1) for each in groups.tolist()])[codes]
    w = weight_column(sample_weight, "sample_weight", len(labels))
    there = (group >= 0) & (w > 0.0)
    if not there.any():
        return None
    classes = clf.classes_.tolist()
    tables = []
    for j, (label, own) in enumerate(estimates.of):
        came = (labels == clf.classes_[label]) & (group == own)
        found = group_bins(
            came[there],
            estimates.cells[there, j],
            sensitive_features=None,
            labels=[False, True],
            pos_label=True,
            sample_weight=w[there],
            confidence_level=level,
            **_BINS,
        )
        tables.append(calibration_table(found, level).assign(count=int(came[there].sum())))
    keys = [(classes[label], clf.groups_.tolist()[own]) for label, own in estimates.of]
    whole = pd.concat(tables, ignore_index=True)
    columns = [
        pd.Index([key[i] for key in keys], dtype=object, tupleize_cols=False) for i in (0, 1)
    ]
    whole.index = pd.MultiIndex.from_arrays(columns, names=["class", "group"])
    return whole
