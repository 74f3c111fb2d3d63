"""What the figures share: names, looks, means with bars, and files that come out the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .experiments import EXPERIMENTS
from .labels import task_label
from .paired import Interval, by_seed, difference, interval, pick

WIDTH = 7.0  # inches; 100 pixels each where the page gives a figure 700
RC = {
    "svg.hashsalt": "skfairft",
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.0,
    "lines.solid_capstyle": "butt",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0.0,
    "ytick.minor.size": 0.0,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
}

# In the order in which they are drawn.
TASKS = tuple(dict.fromkeys(task for each in EXPERIMENTS.values() for task in each.tasks))
DIFFERENCES = {"Err": "Err (points)", "DDP": "ΔDP", "DEO": "ΔEO"}

MINUS = "\N{MINUS SIGN}"

# Okabe and Ito's colours, which most colour-blind people tell apart.
BLACK, GREY = "#000000", "#7F7F7F"
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILION, PURPLE = "#D55E00", "#CC79A7"
LOOKS: dict[str, dict[str, Any]] = {
    "TL": {"color": BLACK, "marker": "s", "linestyle": ":"},
    "f+SVD": {"color": ORANGE, "marker": "o", "linestyle": "--"},
    "paper": {"color": BLUE, "marker": "^", "linestyle": "-"},
    "paper, proportional": {"color": PURPLE, "marker": "v", "linestyle": "-."},
    "paper, heads by group": {"color": GREEN, "marker": "D", "linestyle": "-."},
}
NAMES = {
    "paper": "the paper's method",
    "paper, proportional": "the same, groups by their size",
    "paper, heads by group": "the same, heads of each group",
}
SERIES: tuple[dict[str, Any], ...] = tuple(
    {"color": colour, "marker": marker}
    for colour, marker in ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"))
)
THIN: dict[str, Any] = {"elinewidth": 0.8, "markersize": 3.5, "linewidth": 1.0}


def label(task: str) -> str:
    """Return a task's name in two lines, about as long as each other."""
    pieces = task_label(task).split(", ")
    breaks = [(", ".join(pieces[:i]), ", ".join(pieces[i:])) for i in range(1, len(pieces))]
    return "\n".join(min(breaks, key=lambda lines: max(map(len, lines))))


def tasks_of(rows: pd.DataFrame) -> list[str]:
    """Return the tasks of rows, in the order of `TASKS`."""
    here = set(rows["task"])
    return [task for task in TASKS if task in here]


def seeds_of(rows: pd.DataFrame) -> str:
    """Return "n seeds", or their range if the tasks differ."""
    counts = rows.groupby("task")["seed"].nunique()
    low, high = counts.min(), counts.max()
    if low == high:
        return "1 seed" if low == 1 else f"{low} seeds"
    return f"{low} to {high} seeds"


def spread(rows: pd.DataFrame) -> str:
    """Return what bars of standard deviations are, for a figure's foot."""
    return f"Mean ± standard deviation, {seeds_of(rows)}."


def confidence(rows: pd.DataFrame) -> str:
    """Return what bars of intervals are, for a figure's foot."""
    return f"Mean of the paired differences with 95 % interval, {seeds_of(rows)}."


def canvas(
    height: float, rows: int = 1, columns: int = 1, **settings: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of the common width and its axes (rows, columns)."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **settings)


def finish(figure: Figure, foot: str, columns: int | None = None) -> Figure:
    """Add one legend of all labels, above, and the foot below."""
    handles: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    if handles:
        figure.legend(
            handles.values(),
            handles,
            loc="outside upper center",
            ncols=columns or len(handles),
            frameon=False,
        )
    figure.supxlabel(foot, fontsize=7.0, color="0.3")
    return figure


def bars_of(found: Iterable[Interval]) -> np.ndarray:
    """Return the lengths (2, m) of intervals to both sides of their means."""
    return np.array([[each.mean - each.low, each.high - each.mean] for each in found]).T


def curve(ax: Axes, rows: pd.DataFrame, column: str, by: str, **look: Any) -> None:
    """Draw mean and standard deviation over the seeds, at each value of ``by``."""
    found = {x: interval(part[column]) for x, part in rows.groupby(by)}
    found = {x: each for x, each in found.items() if each.n}
    if not found:
        return
    ax.plot(list(found), [each.mean for each in found.values()], markersize=3.5, **look)
    # All bars as one broken line: as a line each they would be a fifth of the SVG.
    ends = [(each.mean - each.std, each.mean + each.std, np.nan) for each in found.values()]
    ax.plot(np.repeat(list(found), 3), np.ravel(ends), color=look["color"], linewidth=0.8)


def differences(
    rows: pd.DataFrame, column: str, ours: dict[str, Any], other: dict[str, Any]
) -> Interval:
    """Return the paired difference between two selections, that of nothing if either is empty."""
    if not len(pick(rows, **ours)) or not len(pick(rows, **other)):
        return interval(np.array([]))
    return difference(by_seed(rows, column, **ours), by_seed(rows, column, **other))


def forest(ax: Axes, heights: Sequence[float], found: Sequence[Interval], **look: Any) -> None:
    """Draw means with their intervals, one at each height."""
    kept = [(y, each) for y, each in zip(heights, found, strict=True) if each.n]
    if kept:
        ax.errorbar(
            [each.mean for _, each in kept],
            [y for y, _ in kept],
            xerr=bars_of(each for _, each in kept),
            **THIN | {"linestyle": "none"} | look,
        )


def list_tasks(ax: Axes, tasks: Sequence[str], labelled: bool = True) -> None:
    """Name tasks at heights 0, -1, ... with lines between them."""
    ax.set_yticks(-np.arange(len(tasks)), [label(task) if labelled else "" for task in tasks])
    ax.set_ylim(0.5 - len(tasks), 0.5)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", visible=True)
    ax.locator_params(axis="x", nbins=4)
    for edge in range(1, len(tasks)):
        ax.axhline(0.5 - edge, color="0.85", linewidth=0.6, zorder=0)


def number_ticks(ax: Axes, axis: str, ticks: Iterable[float]) -> None:
    """Put plain numbers at those of the ticks that are within the limits of an axis."""
    low, high = getattr(ax, f"get_{axis}lim")()
    shown = [tick for tick in ticks if low <= tick <= high]
    names = [f"{tick:g}".replace("-", MINUS) for tick in shown]
    getattr(ax, f"set_{axis}ticks")(shown, names)
    getattr(ax, f"set_{axis}ticks")([], minor=True)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as SVG and PNG, without dates or versions in them."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # settled: not again for each file
    text = StringIO()
    figure.savefig(text, format="svg", dpi=120, metadata={"Date": None, "Creator": None})
    (folder / f"{name}.svg").write_text(slim(text.getvalue()), encoding="utf-8")
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})


def slim(svg: str) -> str:
    """Return a shorter SVG that looks the same: no comments, unused names or needless digits.

    Numbers keep one decimal, in points; those below 1 are scales and keep all.
    """
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    svg = re.sub(r"<g>\n(<(?:path|use)[^>]*/>)\n</g>", r"\1", svg.replace("<g/>\n", ""))
    # A marker's definition has its stroke, so that each use of it need not.
    svg = re.sub(r"<use [^>]*>", lambda use: re.sub(r'; stroke[^;"]*', "", use[0]), svg)
    svg = svg.replace("; ", ";").replace(": ", ":")
    return re.sub(r"(?<![\d.])([1-9]\d*\.\d)\d+", r"\1", svg)
