"""The points of a path: heads with their thresholds, and what is measured of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..parity.auc import auc_with_error
from ..parity.judge import JudgedRows, interval_around, pareto_front
from ..parity.table import metric_of
from ..solvers.problem import FittedHead

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["METRICS", "Candidate", "candidate_of", "moved", "on_front", "point_table"]

# The columns of the table that have an interval, and what the curve is about.
METRICS = (
    "weighted_f1_error",
    "difference",
    "ratio",
    "demographic_parity_distance",
    "equalized_odds_distance",
    "worst_group_error",
    "accuracy",
    "roc_auc",
)

# Thresholds at which the share of positive decisions is this many times the head's own.
_LEAST_SHARE, _MOST_SHARE = 0.7, 1.3

# Margins that differ by less than this share of the largest one are not told apart: copies of a row
# may have other last digits, and a threshold between them would tell how they were rounded.
_SAME_MARGIN = 1e-9

# Two-sided 95 % of a normal distribution.
_NORMAL = 1.959964


class Candidate(NamedTuple):
    """A head and its decisions on the judged rows."""

    label: str  # of its solver
    settings: dict[str, Any]
    make: Callable[[], FittedHead]
    scores: Tensor  # (n, k), by heads that have not seen the rows
    share: float  # of positive decisions, as a multiple of the head's own
    shift: Tensor  # (k,), which added to the scores leads to it
    table: NDArray[np.float64]  # (G, k, k)
    tuned: bool  # whether the votes were found on the judged rows


def candidate_of(
    label: str,
    settings: dict[str, Any],
    scores: Tensor,
    make: Callable[[], FittedHead],
    judge: JudgedRows,
    tuned: bool,
) -> Candidate:
    """Return a head as a candidate, at its own threshold."""
    shift = torch.zeros(scores.shape[1], dtype=torch.float64)
    table = judge.table(judge.cells(scores))
    return Candidate(label, settings, make, scores, 1.0, shift, table, tuned)


def moved(candidate: Candidate, thresholds: int, judge: JudgedRows) -> Iterator[Candidate]:
    """Yield a two-class head with other thresholds."""
    positive = 1 if judge.positives is None else judge.positives[0]
    # Towards the positive class; by the sign of the score where that is the second.
    sign = 2.0 * positive - 1.0
    margin = sign * (candidate.scores[:, 1] - candidate.scores[:, 0]).numpy()
    w = judge.rows.w.numpy()
    own = w[(candidate.scores.argmax(dim=1) == positive).numpy()].sum()
    total = w.sum()
    order = np.argsort(margin)
    low, high = margin[order][:-1], margin[order][1:]
    between = np.flatnonzero(high - low > _SAME_MARGIN * np.abs(margin).max(initial=0.0))
    above = total - np.cumsum(w[order])[between]
    refused = judge.running(order)
    for share in np.linspace(_LEAST_SHARE, _MOST_SHARE, thresholds):
        wanted = share * own
        if abs(share - 1.0) < 1e-9 or not 0.0 < wanted < total or not len(between):
            continue
        at = between[np.abs(above - wanted).argmin()]
        threshold = float((low[at] + high[at]) / 2.0)
        shift = torch.tensor([0.5, -0.5], dtype=torch.float64) * (sign * threshold)
        decided = [refused[at], refused[-1] - refused[at]]
        table = np.stack(decided if positive else decided[::-1], axis=-1)
        yield candidate._replace(share=float(share), shift=shift, table=table)


def point_table(
    candidates: list[Candidate],
    judge: JudgedRows,
    cells: list[NDArray[np.int64]],
    decisions: NDArray[np.float64],
    squares: NDArray[np.float64],
    n_boot: int,
    seed: int,
) -> pd.DataFrame:
    """Return the table of all points."""
    import pandas as pd

    points, intervals = (
        judge.metrics(decisions),
        judge.intervals(decisions, squares, np.array([each.tuned for each in candidates])),
    )
    records = []
    areas: dict[int, tuple[float, float]] = {}  # a moved threshold changes no rank
    for i, each in enumerate(candidates):
        record = {**each.settings, "solver": each.label, "positive_share": each.share}
        drawn = []
        if n_boot:
            drawn = [judge.metrics(block) for block in judge.resampled(cells[i], n_boot, seed)]
        for name, values in points.items():
            samples = np.concatenate([np.empty(0), *(block[name] for block in drawn)])
            if name in intervals:
                low, high = intervals[name][i]
            else:
                low, high = interval_around(values[i], samples)
            record |= {name: values[i], f"{name}_low": low, f"{name}_high": high}
        if id(each.scores) not in areas:
            areas[id(each.scores)] = auc_with_error(*judge.ranked(each.scores))
        area, error = areas[id(each.scores)]
        record |= {
            "roc_auc": area,
            "roc_auc_low": max(area - _NORMAL * error, 0.0),
            "roc_auc_high": min(area + _NORMAL * error, 1.0),
        }
        records.append(record)
    frame = pd.DataFrame.from_records(records)
    frame["rank"] = pd.Series([each["rank"] for each in records], dtype=object)  # None stays None
    frame["on_front"] = on_front(frame, judge)
    return frame


def on_front(points: Any, judge: JudgedRows) -> NDArray[np.bool_]:
    """Tell which points (m,) no other beats, in error and in all that was asked for."""
    asked = ["difference", *map(metric_of, judge.others)]
    return pareto_front(points["weighted_f1_error"], *(points[name] for name in asked))
