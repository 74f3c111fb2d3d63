"""What a cut of a layer costs a rare group, by how rare it is: the law of the neutral cut.

Layers of three trained models, cut on calibration rows of which a group is a given share, and
measured on rows of other people, group by group:

- **faces**: the 512x35 head of a ResNet-18 that tells attributes of CelebA (loss "sigmoid"); the
  rise of the log loss by labels.
- **imagenet**: MobileNetV2's 1280x1000 head on the same images ("softmax"); the divergence from the
  uncut model, for want of labels, and the share of first classes that stay.
- **table**: the 64x64 hidden layer of a network on UCI Adult, a new one per draw ("softmax"); the
  divergence. (Changed after a first draw: there the log loss by labels fell as often as it rose.)

Groups, the rare one named in `GROUPINGS`, are made so rare by leaving out rows. Methods: the plain
SVD, pooled Fisher (FWSVD), the paper's mean of the groups' Fisher, pooled covariance (SVD-LLM,
CorDA), one like FairLRF [1]_ (a tenth of the entries of the SVD's factors set to zero, those whose
saliency for the group of the lower loss is most above that for the other), K-FAC pooled and
neutral, and the neutral cut with equal weights and "minimax"; and of pooled, equal and minimax
covariance what distillation with the same weights makes, and (added after the run) of K-FAC.

Rules written before the run. A cell is a layer, grouping, share and rank; its value for a method
the mean over the draws of the worst group's rise. Blind are the plain SVD, pooled Fisher, the paper
and pooled covariance, of which each cell takes the best in hindsight. Asked for, at shares of at
most .05: neutral over the best blind cut at most .8 in the median; distilled neutral over that at
most .5; distilled minimax over pooled distillation at most .7; no ratio above 1.05 in any cell, at
any share; the rise over all rows within 5 % of pooled distillation's in the median.

References
----------
.. [1] Y. Guo, J. Xia and Y. Shi, "FairLRF: achieving fairness through sparse low rank
   factorization", arXiv:2511.16549, 2025.

Each cut is stored in ``--results`` at once, and what is there is not done again. Run ``python
benchmarks/rare_groups.py [--tasks faces] [--draws 5] [--json FILE] [--markdown FILE] [--plot
FILE]``; ``--rows`` makes tables and picture of such rows, ``--smoke`` takes made-up ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _shared import faces
from _shared.adult import load_adult
from _shared.program import options_of, rows_of, write
from _shared.rare_rows import Rows, rises
from _tradeoff.data import pretrain
from torch import Tensor, nn

from skfairft import compress
from skfairft.compression.outputs import MEANINGS
from skfairft.datasets import fetch_adult
from skfairft.lowrank.layer import LowRankLinear

SHARES = (0.5, 0.2, 0.05, 0.02, 0.01)
MOST_ROWS = 12_000
FACES = ("Wearing_Hat", "Pale_Skin", "Straight_Hair", "Wearing_Lipstick")
GROUPINGS = {
    "faces": FACES,
    "imagenet": FACES,
    "table": ("female", "not White", "60 or older", "born elsewhere"),
    "smoke": ("other",),
}
RANKS = {"faces": (2, 4, 8, 16), "imagenet": (8, 64), "table": (1, 2, 4, 8), "smoke": (2,)}
# The large head at two shares and by fewer rows: each training of it takes half a minute.
SOME_SHARES = {"imagenet": (0.5, 0.05)}
FEWER_ROWS = {"imagenet": 4_000}
BLIND = ("SVD", "Fisher, pooled", "the paper", "covariance, pooled")
POOLED, MINIMAX = {"group_weights": "proportional"}, {"group_weights": "minimax"}
COVARIANCE, KFAC = {"importance": "covariance"}, {"importance": "kfac"}
DISTILLED = {"refine": "distill"}
METHODS: dict[str, dict[str, Any]] = {
    "SVD": {"importance": "uniform"},
    "Fisher, pooled": {"importance": "fisher", **POOLED},
    "the paper": {"importance": "fisher"},
    "covariance, pooled": {**COVARIANCE, **POOLED},
    "like FairLRF": {},
    "K-FAC, pooled": {**KFAC, **POOLED},
    "K-FAC, equal": KFAC,
    "K-FAC, minimax": {**KFAC, **MINIMAX},
    "covariance, equal": COVARIANCE,
    "covariance, minimax": {**COVARIANCE, **MINIMAX},
    "distilled, pooled": {**COVARIANCE, **DISTILLED, **POOLED},
    "distilled, equal": {**COVARIANCE, **DISTILLED},
    "distilled, minimax": {**COVARIANCE, **DISTILLED, **MINIMAX},
    "distilled from K-FAC, equal": {**KFAC, **DISTILLED},
    "distilled from K-FAC, minimax": {**KFAC, **DISTILLED, **MINIMAX},
}


@dataclass(frozen=True)
class Task:
    """A model, its layer, what its outputs mean, and rows to calibrate and to test."""

    model: nn.Module
    layer: str
    loss: str
    calibration: Rows
    test: Rows


def made_rare(rows: Rows, share: float, rng: np.random.Generator, most: int = MOST_ROWS) -> Rows:
    """Return rows of which so many are of the rare group, as many as there are up to a number."""
    rare, others = np.flatnonzero(rows.rare), np.flatnonzero(~rows.rare)
    n = min(most, int(len(rare) / share), int(len(others) / (1.0 - share)))
    size = max(2, round(share * n))
    kept = [rng.choice(rare, size, replace=False), rng.choice(others, n - size, replace=False)]
    return rows.take(np.sort(np.concatenate(kept)))


@lru_cache(maxsize=2)
def _faces(backbone: str, cache: Path) -> tuple[faces.Faces, nn.Linear, Tensor | None]:
    found, head = faces.load_faces("celeba", backbone, cache), faces.backbone_head(backbone)
    names = _attributes() if backbone == "resnet18" else None
    y = None if names is None else torch.tensor(found.attributes[names].to_numpy()).float()
    return found, head.float(), y


def _attributes() -> list[str]:
    stored = torch.load(faces._weights("resnet18"), weights_only=True)
    return list(stored["attributes"])


def _of_faces(grouping: str, draw: int, cache: Path, *, backbone: str, loss: str) -> Task:
    found, head, y = _faces(backbone, cache)
    rows = Rows(torch.from_numpy(found.Z), y, found.attributes[grouping].to_numpy() == 1)
    people = np.random.default_rng(draw).permutation(found.people.max() + 1)
    first = np.isin(found.people, people[: len(people) // 2])
    return Task(head, "", loss, rows.take(np.flatnonzero(first)), rows.take(np.flatnonzero(~first)))


@lru_cache(maxsize=1)
def _adult(draw: int) -> tuple[nn.Module, Tensor, pd.DataFrame]:
    adult, (X, _, s) = load_adult(draw), fetch_adult(return_X_y_s=True)
    model = pretrain(adult.X[adult.pre], adult.y[adult.pre], draw, 64)
    own = adult.task
    table = pd.DataFrame(
        {
            "female": s["sex"] == "Female",
            "not White": s["race"] != "White",
            "60 or older": X["age"] >= 60,
            "born elsewhere": X["native-country"] != "United-States",
        }
    )
    return model, torch.from_numpy(adult.X[own]), table.iloc[own]


def _of_table(grouping: str, draw: int, cache: Path) -> Task:
    model, X, table = _adult(draw)
    rows = Rows(X, None, table[grouping].to_numpy())
    order = np.random.default_rng(draw).permutation(len(X))
    halves = np.array_split(order, 2)
    return Task(model, "2", "softmax", rows.take(halves[0]), rows.take(halves[1]))


def _made_up(grouping: str, draw: int, cache: Path) -> Task:
    rng = np.random.default_rng(draw)
    rare = rng.random(600) < 0.5
    X = rng.normal(size=(600, 12)) * np.where(
        rare[:, None], np.arange(12) + 1, np.arange(12, 0, -1)
    )
    with torch.random.fork_rng():
        torch.manual_seed(draw)
        model = nn.Linear(12, 6)
    inputs = torch.from_numpy(X).float()
    y = model(inputs).detach().argmax(1)
    rows = Rows(inputs, y, rare)
    return Task(model, "", "softmax", rows.take(np.arange(300)), rows.take(np.arange(300, 600)))


TASKS: dict[str, Callable[[str, int, Path], Task]] = {
    "faces": partial(_of_faces, backbone="resnet18", loss="sigmoid"),
    "imagenet": partial(_of_faces, backbone="mobilenet_v2", loss="softmax"),
    "table": _of_table,
    "smoke": _made_up,
}


def cut(task: Task, rows: Rows, rank: int, **settings: Any) -> nn.Module:
    """Return the model with its layer cut."""
    return compress(
        task.model,
        rows.X,
        sensitive_features=rows.rare,
        rank=rank,
        layers=[task.layer],
        loss=task.loss,
        batch_size=MOST_ROWS,
        **settings,
    )


def like_fairlrf(task: Task, rows: Rows, rank: int) -> nn.Module:
    """Return the plain SVD without a tenth of its factors' entries, see [1]_ above."""
    small = cut(task, rows, rank, importance="uniform")
    layer = small.get_submodule(task.layer)
    assert isinstance(layer, LowRankLinear)
    meaning = MEANINGS[task.loss]
    saliency, losses = [], []
    factors = [layer.down.weight, layer.up.weight]
    generator = torch.Generator().manual_seed(0)
    for rare in (False, True):
        X = rows.X[torch.from_numpy(rows.rare == rare)]
        out = small(X)
        y = None if rows.y is None else rows.y[torch.from_numpy(rows.rare == rare)]
        assert meaning.draw is not None
        y = meaning.draw(task.model(X).detach(), generator) if y is None else y
        each = meaning.loss(out, y)
        losses.append(float(each.detach().mean()))
        # The diagonal of the Hessian by that of the Fisher information, by parts of the rows.
        squares = [torch.zeros_like(factor) for factor in factors]
        for part in each.split(8):
            grads = torch.autograd.grad(part.mean(), factors, retain_graph=True)
            squares = [a + g.square() for a, g in zip(squares, grads, strict=True)]
        saliency.append([a / (len(X) / 8) for a in squares])
    better, worse = (0, 1) if losses[0] < losses[1] else (1, 0)
    with torch.no_grad():
        scores = [
            (saliency[better][i] - saliency[worse][i]) * factor.square()
            for i, factor in enumerate(factors)
        ]
        line = torch.cat([score.flatten() for score in scores]).quantile(0.9)
        for factor, score in zip(factors, scores, strict=True):
            factor[score > line] = 0.0
    return small


def measure(task: Task, small: nn.Module, share: float) -> dict[str, float]:
    """Return the rise of each group and of all, and the share of decisions that stay."""
    with torch.no_grad():
        before, after = task.model(task.test.X), small(task.test.X)
    return rises(MEANINGS[task.loss], before, after, task.test, share)


def cuts(name: str, draws: int, cache: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a task that are not done."""
    for draw, grouping in product(range(draws), GROUPINGS[name]):
        task: Task | None = None
        for share, rank in product(SOME_SHARES.get(name, SHARES), RANKS[name]):
            for method, settings in METHODS.items():
                key = f"{name}|{grouping}|{share}|{rank}|{draw}|{method}"
                if key in done:
                    continue
                task = TASKS[name](grouping, draw, cache) if task is None else task
                seed = np.random.default_rng([draw, round(1000 * share)])
                most = FEWER_ROWS.get(name, MOST_ROWS)
                rows = made_rare(task.calibration, share, seed, most)
                start = time.process_time()
                if method == "like FairLRF":
                    small = like_fairlrf(task, rows, rank)
                else:
                    small = cut(task, rows, rank, random_state=draw, **settings)
                seconds = time.process_time() - start
                yield {
                    "key": key,
                    "task": name,
                    "grouping": grouping,
                    "share": share,
                    "rank": rank,
                    "draw": draw,
                    "method": method,
                    "n": len(rows.rare),
                    "CPU seconds": round(seconds, 3),
                    **{
                        what: float(f"{value:.6g}")
                        for what, value in measure(task, small, share).items()
                    },
                }


def of_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each cell: means over the draws of the worst group's rise, by method."""
    keys = ["task", "grouping", "share", "rank"]
    worst = rows.pivot_table(index=keys, columns="method", values="rise worst", sort=False)
    total = rows.pivot_table(index=keys, columns="method", values="rise all", sort=False)
    blind = worst[list(BLIND)].min(axis=1)
    out = pd.DataFrame(index=worst.index)
    out["the paper / Fisher pooled"] = worst["the paper"] / worst["Fisher, pooled"]
    for name in ("the paper", "like FairLRF", "K-FAC, pooled", "K-FAC, equal", "K-FAC, minimax"):
        out[f"{name} / best blind"] = worst[name] / blind
    for name in ("equal", "minimax"):
        out[f"{name} / best blind"] = worst[f"covariance, {name}"] / blind
        out[f"{name} / pooled"] = worst[f"covariance, {name}"] / worst["covariance, pooled"]
        out[f"all rows: {name} / pooled"] = (
            total[f"covariance, {name}"] / total["covariance, pooled"]
        )
        out[f"distilled {name} / best blind"] = worst[f"distilled, {name}"] / blind
        pooled = worst["distilled, pooled"]
        out[f"distilled {name} / distilled pooled"] = worst[f"distilled, {name}"] / pooled
        every = total["distilled, pooled"]
        out[f"all rows: distilled {name} / pooled"] = total[f"distilled, {name}"] / every
        started = worst[f"distilled from K-FAC, {name}"]
        out[f"distilled from K-FAC, {name} / best blind"] = started / blind
        out[f"distilled {name}: from K-FAC / from covariance"] = (
            started / worst[f"distilled, {name}"]
        )
        started = total[f"distilled from K-FAC, {name}"]
        every = total[f"distilled, {name}"]
        out[f"all rows: distilled {name}: from K-FAC / from covariance"] = started / every
    return out


# What is asked for: of which ratio, at which shares, what over the cells, at most.
ASKED = [
    ("equal / best blind", 0.05, "median", 0.8),
    ("minimax / best blind", 0.05, "median", 0.8),
    ("distilled equal / best blind", 0.05, "median", 0.5),
    ("distilled minimax / best blind", 0.05, "median", 0.5),
    ("distilled minimax / distilled pooled", 0.05, "median", 0.7),
    ("equal / best blind", 0.5, "max", 1.05),
    ("minimax / best blind", 0.5, "max", 1.05),
    ("distilled equal / distilled pooled", 0.5, "max", 1.05),
    ("distilled minimax / distilled pooled", 0.5, "max", 1.05),
    ("all rows: distilled equal / pooled", 0.05, "median", 1.05),
    ("all rows: distilled minimax / pooled", 0.05, "median", 1.05),
]


def asked(rows: pd.DataFrame) -> str:
    """Return a table of what was asked for and what came out.

    "below 1" and "above 1" are the numbers of cells, "(in each draw)" those where all draws agree.
    """
    cells = of_cells(rows)
    draws = [of_cells(own) for _, own in rows.groupby("draw")]
    tasks = list(dict.fromkeys(cells.index.get_level_values("task")))
    head = ["ratio", "shares up to", "asked for", "all tasks", *tasks]
    head += ["below 1 (in each draw)", "above 1 (in each draw)"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for ratio, most, of, limit in ASKED:
        chosen = cells.index.get_level_values("share") <= most
        own = cells.loc[chosen, ratio]
        each = np.array([draw.loc[own.index, ratio] for draw in draws])
        found = [own.agg(of), *own.groupby(level="task", sort=False).agg(of)]
        counts = [
            f"{int((sign * own < sign).sum())} ({int((sign * each < sign).all(axis=0).sum())})"
            for sign in (1, -1)
        ]
        numbers = [f"{of} {limit:g}", *(f"{value:.2f}" for value in found), *counts]
        lines.append(f"| {ratio} | {most:g} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


HEAD = """# What a cut costs a rare group: tables

As `benchmarks/rare_groups.py` wrote them, whose first lines say what each is; what they say is in
[the guide](guide/compression.md#when-neutralization-helps).
"""
LAYERS = {
    "faces": "35 attributes of faces, 512 x 35",
    "imagenet": "1,000 classes, 1280 x 1000",
    "table": "hidden layer on Adult, 64 x 64",
}
LOOKS: dict[str, dict[str, Any]] = {
    "the paper / best blind": {"color": "#999999"},
    "equal / best blind": {"color": "#56B4E9"},
    "minimax / best blind": {"color": "#0072B2"},
    "K-FAC, equal / best blind": {"color": "#009E73"},
    "distilled from K-FAC, equal / best blind": {"color": "#CC79A7"},
    "distilled minimax / distilled pooled": {"color": "#D55E00", "linestyle": "--"},
}


def plot(rows: pd.DataFrame, path: Any) -> None:
    """Draw the ratios by the share of the rare group, a panel for each task, and save the figure.

    Lines are medians over groupings and ranks, dots the cells.
    """
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    cells = of_cells(rows).reset_index()
    tasks = list(dict.fromkeys(cells["task"]))
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(4 * len(tasks), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, task in zip(axes.flat, tasks, strict=True):
        own = cells[cells["task"] == task]
        for place, (name, look) in enumerate(LOOKS.items()):
            aside = own["share"] * 1.06 ** (place - 2)
            ax.scatter(aside, own[name], s=5, alpha=0.35, color=look["color"])
            middle = own.groupby("share")[name].median()
            ax.plot(middle.index, middle, marker="o", markersize=4, label=name, **look)
        ax.axhline(1.0, color="black", linewidth=0.8)
        shares = sorted(set(own["share"]))
        ax.set(
            xscale="log",
            yscale="log",
            title=LAYERS.get(task, task),
            xlabel="share of the rare group",
        )
        ax.set_xticks(shares, [f"{share:g}" for share in shares])
        ax.minorticks_off()
        ticks = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.5, 7.0)
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0, 0].set_ylabel("the worst group's rise, as a ratio")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def markdown(rows: pd.DataFrame) -> str:
    """Return the tables: what was asked for, ratios by task and share, and the rises."""
    cells = of_cells(rows)
    parts = [
        HEAD,
        "## What was asked for\n\n" + asked(rows),
        "## By share of the rare group\n\nMedians over groupings and ranks (largest).\n",
    ]
    for task, own in cells.groupby(level="task", sort=False):
        by_share = own.groupby(level="share", sort=False)
        middle, most = by_share.median(), by_share.max()
        lines = [f"| {task} | " + " | ".join(f"{share:g}" for share in middle.index) + " |"]
        lines.append("|---" * (1 + len(middle)) + "|")
        for name in cells.columns:
            shown = (f"{a:.2f} ({b:.2f})" for a, b in zip(middle[name], most[name], strict=True))
            lines.append(f"| {name} | {' | '.join(shown)} |")
        parts.append("\n".join(lines) + "\n")
    table = rows.pivot_table(
        index=["task", "share", "rank"], columns="method", values="rise worst", sort=False
    )[list(METHODS)].sort_index(ascending=[True, False, True])
    lines = ["| task | share | rank | " + " | ".join(METHODS) + " |"]
    lines.append("|---" * (3 + len(METHODS)) + "|")
    for (task, share, rank), row in table.iterrows():
        rises = " | ".join(f"{value:.3g}" for value in row)
        lines.append(f"| {task} | {share:g} | {rank} | {rises} |")
    title = "## The worst group's rise\n\nMeans over groupings and draws.\n\n"
    parts.append(title + "\n".join(lines))
    return "\n".join(parts) + "\n"


def main() -> None:
    """Run what is not there, and summarize."""
    parser = options_of(__doc__, tasks=[n for n in TASKS if n != "smoke"], seeds="draws", n=5)
    parser.add_argument("--plot", type=Path, help="draw the ratios")
    parser.add_argument("--smoke", action="store_true", help="small, on made-up rows")
    options = parser.parse_args()
    rows = rows_of(
        options,
        ["smoke"] if options.smoke else options.tasks,
        lambda name, done: cuts(name, options.draws, options.cache, done),
        lacking=_lacking,
        wanted=lambda row: row["draw"] < options.draws,
    )
    if not rows:
        return
    frame = pd.DataFrame(rows)
    write(options, rows, markdown(frame))
    if options.plot:
        plot(frame, options.plot)


def _lacking(name: str) -> str | None:
    backbone = {"faces": "resnet18", "imagenet": "mobilenet_v2"}.get(name)
    return None if backbone is None else faces.missing("celeba", backbone)


if __name__ == "__main__":
    main()
