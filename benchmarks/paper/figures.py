"""The figures: those of the paper's own figures and tables here, the others in figures_beyond.

Each is a function of all rows (`runs.read`) to a figure; None if it has nothing to draw. Tasks that
were not run are left out, and so are values that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import figures_beyond
from .drawing import (
    BLACK,
    BLUE,
    DIFFERENCES,
    GREEN,
    GREY,
    LOOKS,
    MINUS,
    NAMES,
    ORANGE,
    PURPLE,
    RC,
    SKY,
    THIN,
    VERMILION,
    canvas,
    confidence,
    differences,
    finish,
    forest,
    label,
    list_tasks,
    save,
    seeds_of,
    spread,
    tasks_of,
)
from .labels import MEASURES, bias_of
from .paired import Interval, interval, pick
from .tasks import INTENSITIES, PENALTIES
from .verdicts import PAPERS_TASKS, PRE_TRAINED, TABLE_2

GROUPS = (("men", ORANGE, "o"), ("women", BLUE, "^"))
DRAWN_NETWORKS = {
    "adult": "$f_B$",
    "adult, f_F DP 0.1": "$f_F$, DP 0.1",
    "adult, f_F DP 0.9": "$f_F$, DP 0.9",
    "adult, f_F EO 0.9": "$f_F$, EO 0.9",
}


def figure1(frame: pd.DataFrame) -> Figure | None:
    """Two principal components of the rows predicted as positive, by group."""
    rows = pick(frame, experiment="figure1")
    tasks = [task for task in DRAWN_NETWORKS if (rows["task"] == task).any()]
    if not tasks:
        return None
    figure, axes = canvas(1.5 + 2.1 * -(-len(tasks) // 2), -(-len(tasks) // 2), 2)
    for ax, task in zip(axes.flat, tasks, strict=False):
        part = pick(rows, task=task)
        probe = interval(part["probe"])
        deviation = f" ± {probe.std:.3f}" if probe.n > 1 else ""
        ax.set_title(f"{DRAWN_NETWORKS[task]}: probe AUC {probe.mean:.3f}{deviation}")
        ax.set(xlabel="first component", ylabel="second component")
        ax.locator_params(nbins=5)
        drawn = part[part["points"].notna()] if "points" in part else part[:0]
        if len(drawn):
            points, groups = (np.array(drawn[key].iloc[0]) for key in ("points", "groups"))
            for group, (name, colour, marker) in enumerate(GROUPS):
                x, y = points[groups == group].T
                # As pixels: hundreds of markers would make the SVG large.
                look = {"s": 9, "alpha": 0.6, "linewidths": 0, "rasterized": True}
                ax.scatter(x, y, c=colour, marker=marker, label=name, **look)
            # A few rows with a very large capital gain would squeeze all others into a corner.
            low, high = np.percentile(points, (4, 96), axis=0)
            margin = 0.3 * (high - low)
            ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
            ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
    for ax in axes.flat[len(tasks) :]:
        ax.remove()
    return finish(
        figure,
        "Test rows predicted as positive, equally many of each group, of one split; the few "
        "farthest lie outside.\nAUC of a linear probe for the group in all ten features: mean ± "
        f"standard deviation, {seeds_of(rows)}.",
    )


def figure3(frame: pd.DataFrame) -> Figure | None:
    """Fisher information of each weight by group, and the groups' cosines over the tasks."""
    rows = pick(frame, experiment="figure3")
    rows = rows[~rows["task"].str.contains("f_F")]
    if not len(rows):
        return None
    figure, axes = canvas(3.2, 1, 2, width_ratios=(1.25, 1))
    left, right = axes[0]
    small = pick(rows, task="adult", system="pre-trained", groups="true").sort_values("seed")
    if "fisher" in small:
        small = small[small["fisher"].notna()]
    if len(small):
        entries = np.array(small["fisher"].iloc[0]).reshape(2, -1)
        numbers = np.arange(1, entries.shape[1] + 1)
        shown = np.where(entries > 0, entries, np.nan)
        left.vlines(numbers, *shown, color="0.75", linewidth=1.0, zorder=1)
        for values, (name, colour, marker) in zip(shown, GROUPS, strict=True):
            left.plot(numbers, values, marker, color=colour, markersize=4.5, label=name)
        left.set(yscale="log", xticks=numbers[::2], xlabel="weight of the 10x2 layer")
        left.set(ylabel="Fisher information", title="Adult, pre-trained layer, one split")
    tasks = tasks_of(rows)
    for groups, look in (
        ("true", {"color": BLUE, "marker": "o", "label": "true groups"}),
        ("shuffled", {"color": GREY, "marker": "D", "label": "shuffled groups"}),
    ):
        for y, task in enumerate(tasks):
            part = pick(rows, task=task, groups=groups)
            # Where there is no pre-trained layer, the one that was fitted first is what is cut.
            at = "pre-trained" if (part["system"] == "pre-trained").any() else "fitted"
            values = pick(part, system=at)["cosine"]
            right.plot(values, [-y] * len(values), ".", color=look["color"], alpha=0.25)
            found = interval(values)
            right.errorbar(found.mean, -y, xerr=found.std, **THIN | {"linestyle": "none"} | look)
            look = look | {"label": None}
    list_tasks(right, tasks)
    right.set(xlabel="cosine of the groups' importances", title="All tasks, each split a dot")
    return finish(figure, f"Cosines: {spread(rows)[0].lower()}{spread(rows)[1:]}")


def figure4(frame: pd.DataFrame) -> Figure | None:
    """TL, f+SVD and the paper's method on the paper's three datasets."""
    rows = pick(frame, experiment="figure4")
    return _bars(rows[rows["task"].isin(PAPERS_TASKS.values())])


def figure4_more(frame: pd.DataFrame) -> Figure | None:
    """TL, f+SVD and the paper's method on the further tasks."""
    rows = pick(frame, experiment="figure4")
    return _bars(rows[~rows["task"].isin(PAPERS_TASKS.values())])


def _bars(rows: pd.DataFrame) -> Figure | None:
    if not len(rows):
        return None
    tasks = tasks_of(rows)
    figure, axes = canvas(1.1 + 0.62 * len(tasks), 1, 3)
    for ax, column in zip(axes[0], MEASURES, strict=True):
        for place, system in enumerate(("TL", "f+SVD", "paper")):
            found = [interval(pick(rows, task=t, system=system)[column]) for t in tasks]
            ax.barh(
                -np.arange(len(tasks)) + 0.27 * (1 - place),
                [each.mean for each in found],
                0.25,
                xerr=[each.std for each in found],
                color=GREY if system == "TL" else LOOKS[system]["color"],
                hatch={"f+SVD": "////"}.get(system),
                edgecolor="white",
                linewidth=0,
                label=NAMES.get(system, system),
                error_kw={"elinewidth": 0.8},
            )
        list_tasks(ax, tasks, labelled=ax is axes[0, 0])
        ax.set(xlabel=MEASURES[column])
    return finish(figure, spread(rows))


def figure4_paired(frame: pd.DataFrame) -> Figure | None:
    """Differences of the paper's method to TL and to f+SVD, split by split."""
    rows = pick(frame, experiment="figure4")
    if not len(rows):
        return None
    tasks = tasks_of(rows)
    figure, axes = canvas(1.2 + 0.45 * len(tasks), 1, 3)
    for ax, column in zip(axes[0], MEASURES, strict=True):
        ax.axvline(0, color="0.4", linewidth=0.8)
        for up, other in ((0.15, "TL"), (-0.15, "f+SVD")):
            found = [
                differences(pick(rows, task=t), column, {"system": "paper"}, {"system": other})
                for t in tasks
            ]
            look = LOOKS[other] | {
                "linestyle": "none",
                "label": f"the paper's method {MINUS} {other}",
            }
            forest(ax, up - np.arange(len(tasks)), found, **look)
        list_tasks(ax, tasks, labelled=ax is axes[0, 0])
        ax.set(xlabel=f"difference in {DIFFERENCES[column]}")
        ax.locator_params(axis="x", nbins=3)
    return finish(figure, confidence(rows))


def table2(frame: pd.DataFrame) -> Figure | None:
    """Bias and error of fair networks, before and after their head is fine-tuned."""
    rows = pick(frame, experiment="table2")
    if not len(rows):
        return None
    looks = {
        "pre-trained": {"color": GREEN, "marker": "o", "label": "pre-trained"},
        "TL": LOOKS["TL"] | {"label": "after TL"},
        "paper": LOOKS["paper"] | {"label": "after the paper's method"},
    }
    figure, axes = canvas(4.4, 2, 2, sharey="row")
    for kind, panels in zip(PENALTIES, axes.T, strict=True):
        names = ["adult", *(f"adult, f_F {kind} {i}" for i in INTENSITIES)]
        for ax, measure in zip(panels, (bias_of(kind), "Err"), strict=True):
            for shift, (system, look) in zip((-0.18, 0, 0.18), looks.items(), strict=True):
                found = [interval(pick(rows, task=t, system=system)[measure]) for t in names]
                places = shift + np.arange(len(names))
                means, deviations = ([getattr(e, k) for e in found] for k in ("mean", "std"))
                ax.errorbar(places, means, yerr=deviations, **THIN | look | {"linestyle": "none"})
                # Table 2 has no row of TL; of f_B the text has the pre-trained network only.
                at = {"pre-trained": 0, "paper": 1}.get(system)
                if at is None:
                    continue
                theirs = [TABLE_2[kind, i][at][measure != "Err"] for i in INTENSITIES]
                theirs = [PRE_TRAINED[measure] if at == 0 else np.nan, *theirs]
                hollow = {"markersize": 6, "markerfacecolor": "none", "linestyle": "none"}
                hollow["label"] = f"{look['label']}: in the paper"
                ax.errorbar(places, theirs, **look | hollow)
            ax.set_ylabel(MEASURES[measure])
            ticks = ["$f_B$", *(f"$f_F$, {kind} {i}" for i in INTENSITIES)]
            ax.set_xticks(range(len(names)), ticks)
            ax.grid(axis="x", visible=False)
    axes[0, 0].set_ylim(bottom=0)  # once all is drawn: both panels share it
    return finish(figure, f"Adult. {spread(rows)} Hollow: figures of the paper's Table 2.", 3)


# Kind of point or line in table3: label, and looks. Those of one head are drawn inside each other.
_ONE_HEAD = {
    "pre-trained": {"color": GREEN, "marker": "*", "markersize": 8},
    "TL": {"color": BLACK, "marker": "s", "markersize": 8, "markerfacecolor": "none"},
    "f+SVD": {"color": ORANGE, "marker": "o", "markersize": 5.5, "markerfacecolor": "none"},
    "paper": {"color": BLUE, "marker": "^", "markersize": 3.5},
}
_LINES = {
    "Retrain+{}": ("Retrain, head", {"color": VERMILION, "marker": "D"}),
    "whole network, Retrain+{}": (
        "Retrain, whole network",
        {"color": VERMILION, "marker": "X", "linestyle": ":", "markersize": 5},
    ),
    "ours {}, plug_in": ("ours, plug_in", {"color": GREEN, "marker": "P"}),
    "ours {}, closed_form": ("ours, closed_form", {"color": SKY, "marker": "v"}),
    "ours {}, fine_tune": (
        "ours, fine_tune",
        {"color": PURPLE, "marker": "o", "linestyle": "--"},
    ),
}


def table3(frame: pd.DataFrame) -> Figure | None:
    """Err against bias on Adult, of systems with a constraint in fine-tuning and without."""
    return _tradeoffs(pick(frame, experiment="table3", task="adult"))


def table3_faces(frame: pd.DataFrame) -> Figure | None:
    """Err against bias on the face tasks."""
    rows = pick(frame, experiment="table3")
    return _tradeoffs(rows[rows["task"] != "adult"])


def _tradeoffs(rows: pd.DataFrame) -> Figure | None:
    if not len(rows):
        return None
    tasks = tasks_of(rows)
    figure, axes = canvas(1.3 + 2.9 * len(tasks), len(tasks), 2)
    for line, task in zip(axes, tasks, strict=True):
        part = pick(rows, task=task)
        for ax, kind in zip(line, PENALTIES, strict=True):
            _tradeoff(ax, part, kind)
            ax.set(
                xlabel=f"{MEASURES[bias_of(kind)]}  (what +{kind} is for)", ylabel=MEASURES["Err"]
            )
            ax.set_xlim(left=-0.02 * ax.get_xlim()[1])
            ax.grid(axis="x", visible=True)
            ax.locator_params(axis="x", nbins=6)
            ax.set_title(label(task))
    ours = rows.loc[rows["system"].str.startswith("ours"), "intensity"].unique()
    weights = ", ".join(f"{weight:g}" for weight in np.sort(ours))
    return finish(
        figure,
        f"Lines: intensity 0.1, 0.5, 0.9 (Retrain), weight {weights} (ours).\n{spread(rows)}",
        4,
    )


def _tradeoff(ax: Axes, rows: pd.DataFrame, kind: str) -> None:
    bias = bias_of(kind)
    for system, (name, look) in _LINES.items():
        part = pick(rows, system=system.format(kind))
        found = [(interval(at[bias]), interval(at["Err"])) for _, at in part.groupby("intensity")]
        _cloud(ax, found, **{"linestyle": "-"} | look | {"label": name})
    for system, look in _ONE_HEAD.items():
        part = pick(rows, system=system)
        if len(part):
            found = [(interval(part[bias]), interval(part["Err"]))]
            _cloud(ax, found, **look, linestyle="none", label=NAMES.get(system, system))


def _cloud(ax: Axes, found: list[tuple[Interval, Interval]], **look) -> None:
    found = [(x, y) for x, y in found if x.n and y.n]
    if not found:
        return
    (bar, *_rest) = ax.errorbar(
        [x.mean for x, _ in found],
        [y.mean for _, y in found],
        xerr=[x.std for x, _ in found],
        yerr=[y.std for _, y in found],
        **THIN | {"elinewidth": 0.4} | look,
    )
    bar.set_zorder(3)


FIGURES: dict[str, Callable[[pd.DataFrame], Figure | None]] = {
    each.__name__: each
    for each in (
        figure1,
        figure3,
        figure4,
        figure4_more,
        figure4_paired,
        table2,
        table3,
        table3_faces,
        *figures_beyond.FIGURES,
    )
}
# The experiment that a figure shows, and what it says.
CAPTIONS: dict[str, tuple[str, str]] = {
    name: (name.split("_")[0], draw.__doc__.strip().rstrip(".")) for name, draw in FIGURES.items()
}


def draw_all(frame: pd.DataFrame, folder: Path) -> list[str]:
    """Write each figure that has rows as SVG and PNG into a folder; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with rc_context(RC):
        for name, draw in FIGURES.items():
            figure = draw(frame)
            if figure is not None:
                save(figure, folder, name)
                drawn.append(name)
    return drawn
