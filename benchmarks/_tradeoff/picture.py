"""Pictures: curves of some tasks, and the lead on all."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from .score import BASELINE, paired
from .tables import OWN, SYMBOL, VOLUME, best_peers

__all__ = ["lowest", "plot_curves", "plot_lead"]

TASKS = ["adult-64", "adult-64-500", "bank", "communities", "lfw", "synthetic-4-2000"]
LOOKS: dict[str, dict[str, Any]] = {
    "GridSearch": {"color": "#009E73"},
    "ExponentiatedGradient": {"color": "#D55E00"},
    "OxonFair, inferred group": {"color": "#CC79A7"},
    "fairret": {"color": "#E69F00"},
    "LinearPost": {"color": "#999999"},
    "FairProjection": {"color": "black", "linewidth": 0.8},
    "ThresholdOptimizer": {"color": "#D55E00", "linestyle": ":"},
    "ours, plug-in, group known": {"color": "#0072B2", "linestyle": ":"},
    OWN: {"color": "#0072B2", "linewidth": 2.4},
}


def plot_curves(scores: pd.DataFrame, path: Any) -> None:
    """Draw a panel for some tasks and each constraint, and save the figure.

    A curve is, at each disparity, the mean over the seeds of the lowest test Err among the front's
    points of at most that disparity; it begins where all seeds have such a point.
    """
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    scores = scores[~scores["failed"] & scores["front"].notna()]
    tasks = [task for task in TASKS if task in set(scores["dataset"])]
    panels = list(itertools.product(sorted(set(scores["constraint"])), tasks))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(12, 2.9 * rows + 0.6), squeeze=False, layout="constrained"
    )
    labels: dict[str, Any] = {}
    for ax, (constraint, task) in zip(axes.flat, panels, strict=False):
        here = scores[(scores["constraint"] == constraint) & (scores["dataset"] == task)]
        base = here[here["method"] == BASELINE]["front"]
        start = np.mean([front[0] for front in base], axis=0)
        levels = np.linspace(0, 1.15 * start[1], 200)
        (labels[BASELINE],) = ax.plot(start[1], start[0], "k*", markersize=10, zorder=4)
        for name, look in LOOKS.items():
            part = here[here["method"] == name]
            if len(part):
                curves = np.array([lowest(front, levels) for front in part["front"]])
                shown = name if not part["needs_group"].iloc[0] else f"{name} *"
                (labels[shown],) = ax.plot(levels, curves.mean(axis=0), **look)
        ax.set(xlim=(0, levels[-1]), ylim=(0.95 * start[0], 1.5 * start[0]))
        ax.set_title(f"{task}, {len(base)} seeds", fontsize="medium")
        ax.set_xlabel(SYMBOL[constraint])
        ax.set_ylabel("Err (%)")
    for ax in list(axes.flat)[len(panels) :]:
        ax.remove()
    figure.legend(labels.values(), labels, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def plot_lead(scores: pd.DataFrame, path: Any) -> None:
    """Draw ours minus the best peer and minus ExponentiatedGradient, on every task, and save it."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    pairs = paired(scores, OWN, VOLUME)
    best = best_peers(scores, VOLUME)
    constraints = sorted(set(scores["constraint"]))
    tasks = list(dict.fromkeys(scores["dataset"]))
    figure, axes = plt.subplots(
        1,
        len(constraints),
        figsize=(11, 0.3 * len(tasks) + 1.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    looks = {
        "the best peer of each task, in hindsight": ("#0072B2", "o", 0.15),
        "ExponentiatedGradient": ("#D55E00", "s", -0.15),
    }
    for ax, constraint in zip(axes.flat, constraints, strict=True):
        of_one = pairs[pairs["constraint"] == constraint].set_index(["dataset", "peer"])
        for label, (color, marker, shift) in looks.items():
            for place, task in enumerate(tasks):
                peer = best.get((task, constraint)) if "best" in label else label
                if (task, peer) not in of_one.index:
                    continue
                low, mid, high = (
                    of_one.loc[(task, peer), f"difference{end}"] for end in (" low", "", " high")
                )
                ax.errorbar(
                    mid,
                    len(tasks) - 1 - place + shift,
                    xerr=[[mid - low], [high - mid]],
                    color=color,
                    marker=marker,
                    markersize=4,
                    linewidth=1.2,
                    label=label if place == 0 else None,
                )
        ax.axvline(0.0, color="black", linewidth=0.8)
        ax.set_yticks(range(len(tasks)), tasks[::-1])
        ax.set_title(SYMBOL[constraint], fontsize="medium")
        ax.set_xlabel("hypervolume, ours minus")
        ax.grid(axis="y", alpha=0.3)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def lowest(front: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the lowest Err of the points with at most each level of disparity, NaN if none."""
    within = front[None, :, 1] <= levels[:, None]
    lowest = np.where(within, front[None, :, 0], np.inf).min(axis=1)
    return np.where(np.isfinite(lowest), lowest, np.nan)
