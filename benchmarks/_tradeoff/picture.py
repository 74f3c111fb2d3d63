"""The picture of the curves."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from .score import BASELINE
from .tables import OURS, SYMBOL

__all__ = ["plot"]

# Of ours, what a figure shows; the others are parts of these.
DRAWN = {
    "ours, closed form": "#56B4E9",
    "ours, plug-in": "#0072B2",
    "ours, trained, held out": "black",
}


def plot(scores: pd.DataFrame, path: Any) -> None:
    """Draw a panel for each dataset and constraint, and save the figure.

    A curve is, at each disparity, the mean over the seeds of the lowest test Err among the front's
    points of at most that disparity; it begins where all seeds have such a point.
    """
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    scores = scores[~scores["failed"] & scores["front"].notna()]
    drawn = [
        name
        for name in dict.fromkeys(scores["method"])
        if name in DRAWN or not name.startswith(OURS)
    ]
    peers = [name for name in drawn if name not in DRAWN]
    looks = {name: {"color": colour, "linewidth": 2.2} for name, colour in DRAWN.items()}
    looks |= {
        name: {"color": colour, "linewidth": 1.0}
        for name, colour in zip(peers, itertools.cycle(plt.get_cmap("tab20").colors), strict=False)
    }
    panels = list(
        itertools.product(sorted(set(scores["constraint"])), dict.fromkeys(scores["dataset"]))
    )
    columns = 3
    figure, axes = plt.subplots(
        -(-len(panels) // columns),
        columns,
        figsize=(13, 3.3 * -(-len(panels) // columns) + 1),
        squeeze=False,
        layout="constrained",
    )
    labels: dict[str, Any] = {}
    for ax, (constraint, dataset) in zip(axes.flat, panels, strict=False):
        here = scores[(scores["constraint"] == constraint) & (scores["dataset"] == dataset)]
        base = here[here["method"] == BASELINE]["front"]
        start = np.mean([front[0] for front in base], axis=0)
        levels = np.linspace(0, 1.15 * start[1], 200)
        (labels[BASELINE],) = ax.plot(start[1], start[0], "k*", markersize=10, zorder=4)
        for name in peers + [name for name in DRAWN if name in drawn]:
            part = here[here["method"] == name]
            if name == BASELINE or not len(part):
                continue
            curves = np.array([_lowest(front, levels) for front in part["front"]])
            style = "--" if part["needs_group"].iloc[0] else "-"
            (labels[name],) = ax.plot(levels, curves.mean(axis=0), style, **looks[name])
        ax.set(xlim=(0, levels[-1]), ylim=(0.95 * start[0], 1.5 * start[0]))
        ax.set_title(f"{dataset}, {len(base)} seeds", fontsize="medium")
        ax.set_xlabel(SYMBOL[constraint])
        ax.set_ylabel("Err (%)")
    for ax in list(axes.flat)[len(panels) :]:
        ax.remove()
    figure.legend(labels.values(), labels, loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _lowest(front: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the lowest Err of the points with at most each level of disparity, NaN if none."""
    within = front[None, :, 1] <= levels[:, None]
    lowest = np.where(within, front[None, :, 0], np.inf).min(axis=1)
    return np.where(np.isfinite(lowest), lowest, np.nan)
