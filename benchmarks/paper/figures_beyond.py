"""Figures of what goes beyond the paper's: weights, ranks, classes, rows, epochs, Fisher choices.

Each is a function of all rows to a figure, as in `figures`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .drawing import (
    BLACK,
    BLUE,
    DIFFERENCES,
    LOOKS,
    MINUS,
    NAMES,
    SERIES,
    THIN,
    VERMILION,
    bars_of,
    canvas,
    confidence,
    curve,
    differences,
    finish,
    forest,
    label,
    list_tasks,
    number_ticks,
    seeds_of,
    spread,
    tasks_of,
)
from .labels import MEASURES, task_label
from .paired import by_seed, interval, pick, ratio

# Who is group 1.
SECOND = {"adult": "women", "adult, hidden layer": "women", "celeba, resnet18, layer": "men"}
LAST = -1  # stands for "until training ends" among numbers of epochs
STAGES = {False: "before training", True: "after training"}


def _tl_line(ax: Axes, rows: pd.DataFrame, column: str) -> None:
    """Draw TL, which has neither rank nor weights: its mean as a line, its deviation as a band."""
    found = interval(rows[column])
    if found.n:
        ax.axhline(found.mean, color=BLACK, linestyle=":", linewidth=1.0, label="TL")
        if np.isfinite(found.std):
            band = (found.mean - found.std, found.mean + found.std)
            ax.axhspan(*band, color=BLACK, alpha=0.08, linewidth=0)


def weights(frame: pd.DataFrame) -> Figure | None:
    """Err, ΔDP and ΔEO by the weight of the second group, before and after training."""
    rows = pick(frame, experiment="weights")
    if not len(rows):
        return None
    lines = [(task, trained) for task in tasks_of(rows) for trained in (False, True)]
    figure, axes = canvas(0.8 + 1.2 * len(lines), len(lines), 3)
    for line, (task, trained) in zip(axes, lines, strict=True):
        part = pick(rows, task=task, trained=trained)
        for ax, column in zip(line, MEASURES, strict=True):
            _tl_line(ax, pick(part, system="TL"), column)
            look = LOOKS["paper"] | {"label": NAMES["paper"]}
            curve(ax, pick(part, system="paper"), column, "group_weight", **look)
            ax.locator_params(axis="y", nbins=3)
            ax.set_ylabel(MEASURES[column])
            ax.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0", "", "0.5", "", "1"))
            _only_below(ax, trained, f"weight of {SECOND.get(task, 'the second group')}")
        line[1].set_title(f"{task_label(task)}: {STAGES[trained]}", fontweight="bold")
    return finish(figure, spread(rows))


def _only_below(ax: Axes, below: bool, name: str) -> None:
    """Name and number the horizontal axis of the lowest panel only, of panels that share it."""
    ax.set_xlabel(name if below else "")
    ax.tick_params(labelbottom=below)


def ranks(frame: pd.DataFrame) -> Figure | None:
    """Parameters, seconds and differences to TL by rank, one line for each task."""
    rows = pick(frame, experiment="ranks")
    if not len(rows):
        return None
    figure, axes = canvas(5.2, 2, 2)
    kept, seconds, *others = axes.flat
    # Lines beside each other rather than on top of each other.
    tasks = tasks_of(rows)
    spread_out = 1.06 ** (2 * np.arange(len(tasks)) - len(tasks) + 0.5)
    for task, shift, look in zip(tasks, spread_out, SERIES, strict=False):
        part = pick(rows, task=task)
        tl = pick(part, system="TL")
        for system, style in (("paper", "-"), ("f+SVD", "--")):
            own = pick(part, system=system)
            asked = np.sort(own["rank_asked"].unique())
            at = asked * shift * (1.06 if system == "f+SVD" else 1.0)
            full = look | {"linestyle": style, "label": label(task)}
            if system == "f+SVD":
                full |= {"markerfacecolor": "white", "label": None}
            else:
                shares = own.groupby("rank_asked")["parameters"].mean() / tl["parameters"].mean()
                kept.plot(asked, 100 * shares, **full, markersize=3.5, linewidth=1.0)
            pairs = [(by_seed(own, "seconds", rank_asked=r), by_seed(tl, "seconds")) for r in asked]
            found = [ratio(*pair) for pair in pairs]
            _line(seconds, at, found, full)
            for ax, column in zip(others, ("Err", "DDP"), strict=True):
                found = [
                    differences(part, column, {"system": system, "rank_asked": r}, {"system": "TL"})
                    for r in asked
                ]
                _line(ax, at, found, full)
    black = {"color": BLACK, "marker": "o", "markersize": 3.5, "linewidth": 1.0}
    seconds.plot([], [], linestyle="-", label="solid: the paper's method", **black)
    seconds.plot([], [], linestyle="--", label="dashed: f+SVD", markerfacecolor="white", **black)
    for ax in axes.flat:
        numbers = np.sort(rows["rank_asked"].dropna().unique())
        ax.set_xscale("log", base=2)
        ax.set_xticks(numbers, [f"{number:.0f}" for number in numbers])
        ax.set_xlabel("rank")
    for ax, equal, name in (
        (kept, 100, "parameters kept (%)"),
        (seconds, 1, "seconds of fit, ratio to TL"),
    ):
        ax.axhline(equal, color="0.4", linewidth=0.8)
        ax.set(yscale="log", ylabel=name)
        number_ticks(ax, "y", [equal * step for step in (0.01, 0.03, 0.1, 0.3, 1, 3, 10)])
    for ax, column in zip(others, ("Err", "DDP"), strict=True):
        ax.axhline(0, color="0.4", linewidth=0.8)
        ax.set_ylabel(f"{DIFFERENCES[column]} {MINUS} TL")
    return finish(figure, confidence(rows).replace("differences", "ratios and differences"), 2)


def _line(ax: Axes, x: Any, found: list, look: dict[str, Any]) -> None:
    kept = [(at, each) for at, each in zip(x, found, strict=True) if each.n]
    if kept:
        ax.errorbar(
            [at for at, _ in kept],
            [each.mean for _, each in kept],
            yerr=bars_of(each for _, each in kept),
            **THIN | look,
        )


def many(frame: pd.DataFrame) -> Figure | None:
    """Several classes or groups: Err, ΔDP and ΔEO by rank, after training."""
    return _many(frame, True)


def many_before(frame: pd.DataFrame) -> Figure | None:
    """Several classes or groups: Err, ΔDP and ΔEO by rank, before training."""
    return _many(frame, False)


def _many(frame: pd.DataFrame, trained: bool) -> Figure | None:
    rows = pick(frame, experiment="many", trained=trained)
    if not len(rows):
        return None
    tasks = tasks_of(rows)
    figure, axes = canvas(0.8 + 1.35 * len(tasks), len(tasks), 3)
    for line, task in zip(axes, tasks, strict=True):
        part = pick(rows, task=task)
        for ax, column in zip(line, MEASURES, strict=True):
            _tl_line(ax, pick(part, system="TL"), column)
            for shift, system in ((0.96, "f+SVD"), (1.0, "paper"), (1.04, "paper, proportional")):
                own = pick(part, system=system)
                own = own.assign(at=own["rank_asked"] * shift)
                curve(ax, own, column, "at", **LOOKS[system], label=NAMES.get(system, system))
            numbers = np.sort(part["rank_asked"].dropna().unique())
            ax.set_xscale("log", base=2)
            ax.set_xticks(numbers, [f"{number:.0f}" for number in numbers])
            ax.minorticks_off()
            ax.locator_params(axis="y", nbins=3)
            ax.set(ylabel=MEASURES[column], xlabel="rank" if task == tasks[-1] else "")
        line[1].set_title(task_label(task), fontweight="bold")
    return finish(figure, f"{STAGES[trained].capitalize()}. {spread(rows)}")


def few(frame: pd.DataFrame) -> Figure | None:
    """Err, ΔDP and ΔEO by the number of training rows."""
    rows = pick(frame, experiment="few")
    if not len(rows):
        return None
    tasks = tasks_of(rows)
    figure, axes = canvas(0.8 + 1.35 * len(tasks), len(tasks), 3)
    for line, task in zip(axes, tasks, strict=True):
        part = pick(rows, task=task)
        # The main comparison's rank: 1 for last layers, of which no other is run, else 2.
        rank = min(2, part["rank_asked"].max())
        for ax, column in zip(line, MEASURES, strict=True):
            for shift, system in ((0.95, "TL"), (1.0, "f+SVD"), (1.05, "paper")):
                own = pick(part, system=system, rank_asked=None if system == "TL" else rank)
                own = own.assign(at=own["rows"] * shift)
                curve(ax, own, column, "at", **LOOKS[system], label=NAMES.get(system, system))
            numbers = np.sort(part["rows"].unique())
            ax.set_xscale("log")
            ax.set_xticks(numbers, [f"{number:.0f}" for number in numbers])
            ax.minorticks_off()
            ax.locator_params(axis="y", nbins=3)
            ax.set_ylabel(MEASURES[column])
            _only_below(ax, task == tasks[-1], "training rows")
        line[1].set_title(f"{task_label(task)}: rank {rank:.0f}", fontweight="bold")
    return finish(figure, spread(rows))


def budget(frame: pd.DataFrame) -> Figure | None:
    """Differences to TL by the number of epochs, both trained as long."""
    return _by_epochs(pick(frame, experiment="budget"), ("f+SVD", "paper"))


def budget_written(frame: pd.DataFrame) -> Figure | None:
    """Differences to TL by the number of epochs, all trained as Algorithm 1 is written."""
    return _by_epochs(pick(frame, experiment="budget"), ("f+SVD", "paper"), ", as written")


def reading(frame: pd.DataFrame) -> Figure | None:
    """Differences to TL by the number of epochs, of both readings, where classes are several."""
    rows = pick(frame, experiment="reading")
    if not len(rows):
        return None
    # Two classes have the start and the end only, which are the same head by either reading.
    rows = rows[rows["task"].isin(rows[rows["max_epochs"] > 0]["task"])]
    return _by_epochs(rows, ("f+SVD", "paper", "paper, heads by group"))


def _by_epochs(rows: pd.DataFrame, systems: tuple[str, ...], suffix: str = "") -> Figure | None:
    rows = rows[rows["system"].isin([f"{system}{suffix}" for system in ("TL", *systems)])]
    if not len(rows):
        return None
    rows = rows.assign(epochs_asked=rows["max_epochs"].fillna(LAST))
    numbers = sorted(rows["epochs_asked"].unique(), key=lambda n: np.inf if n == LAST else n)
    places = 0.2 * (np.arange(len(systems)) - (len(systems) - 1) / 2)
    tasks = tasks_of(rows)
    figure, axes = canvas(0.8 + 1.5 * len(tasks), len(tasks), 2)
    for line, task in zip(axes, tasks, strict=True):
        part = pick(rows, task=task)
        # Linear up to the threshold, logarithmic beyond it: starts are off by much more.
        for ax, (column, linear) in zip(line, {"Err": 1.0, "DDP": 0.05}.items(), strict=True):
            ax.axhline(0, color="0.4", linewidth=0.8)
            for shift, system in zip(places, systems, strict=True):
                found = [
                    differences(
                        part,
                        column,
                        {"system": f"{system}{suffix}", "epochs_asked": n},
                        {"system": f"TL{suffix}", "epochs_asked": n},
                    )
                    for n in numbers
                ]
                name = f"{NAMES.get(system, system)} {MINUS} TL"
                _line(ax, shift + np.arange(len(numbers)), found, LOOKS[system] | {"label": name})
            ax.set_yscale("symlog", linthresh=linear)
            low, high = ax.get_ylim()
            ax.set_ylim(min(low, -1.1 * linear), max(high, 1.1 * linear))
            wide = high - low > 6 * linear
            steps = linear * np.array([1, 5, 30] if wide else [0.5, 1, 3])
            number_ticks(ax, "y", [*-steps, 0, *steps])
            ticks = ["end" if n == LAST else f"{n:.0f}" for n in numbers]
            ax.set_xticks(range(len(numbers)), ticks)
            ax.set_ylabel(f"{DIFFERENCES[column]} {MINUS} TL")
            if task == tasks[-1]:
                ax.set_xlabel("epochs")
            ax.set_title(label(task))
    foot = "Axes linear within ±1 point and ±0.05, logarithmic beyond."
    return finish(figure, f"{confidence(rows)} {foot}")


# Fisher information, where it is taken: looks.
CHOICES = {
    ("empirical", "pre-trained"): {"color": BLUE, "marker": "o"},
    ("true", "pre-trained"): {"color": BLUE, "marker": "o", "markerfacecolor": "white"},
    ("empirical", "fitted"): {"color": VERMILION, "marker": "s"},
    ("true", "fitted"): {"color": VERMILION, "marker": "s", "markerfacecolor": "white"},
}


def fisher(frame: pd.DataFrame) -> Figure | None:
    """Empirical or true Fisher information, at the pre-trained or the fitted layer."""
    rows = pick(frame, experiment="fisher")
    if not len(rows):
        return None
    tasks = tasks_of(rows)
    figure, axes = canvas(1.1 + 1.1 * len(tasks), 2, 3)
    for (kind, at), up, look in zip(CHOICES, (0.3, 0.1, -0.1, -0.3), CHOICES.values(), strict=True):
        heights = up - np.arange(len(tasks))
        ours = {"system": "paper", "fisher": kind, "at": at}
        look = look | {"label": f"{kind} Fisher, {at} layer"}
        for ax, column in zip(axes[:, 0], ("cosine", "cosine with empirical"), strict=True):
            found = [interval(pick(rows, task=t, trained=False, **ours)[column]) for t in tasks]
            kept = [(each, y) for each, y in zip(found, heights, strict=True) if each.n]
            if kept:
                ax.errorbar(
                    [each.mean for each, _ in kept],
                    [y for _, y in kept],
                    xerr=[each.std for each, _ in kept],
                    **THIN | {"linestyle": "none"} | look,
                )
        for line, trained in zip(axes, STAGES, strict=True):
            for ax, column in zip(line[1:], ("Err", "DDP"), strict=True):
                found = [
                    differences(
                        pick(rows, task=t, trained=trained), column, ours, {"system": "f+SVD"}
                    )
                    for t in tasks
                ]
                forest(ax, heights, found, **look)
    for ax in axes.flat:
        list_tasks(ax, tasks, labelled=ax in axes[:, 0])
    axes[0, 0].set_xlabel("cosine between the groups")
    axes[1, 0].set_xlabel("cosine with the empirical one")
    for line, stage in zip(axes, STAGES.values(), strict=True):
        for ax, column in zip(line[1:], ("Err", "DDP"), strict=True):
            ax.axvline(0, color="0.4", linewidth=0.8, zorder=1)
            ax.set(xlabel=f"{DIFFERENCES[column]} {MINUS} f+SVD", title=stage)
    return finish(
        figure,
        "Cosines: mean ± standard deviation; differences: paired, 95 % interval; "
        f"{seeds_of(rows)}.",
        2,
    )


FIGURES = (weights, ranks, many, many_before, few, budget, budget_written, reading, fisher)
