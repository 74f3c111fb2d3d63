"""What a cut of a whole network costs a rare group: ways to cut, within one budget.

Networks, rows and groups are those of `_networks.tasks`: a ResNet-18 that tells 35 attributes of
faces, MobileNetV2, and MiniLM with a head on income. Of groups that were chosen before any was
looked at, one is made 5 % of 1,500 rows (MiniLM: 500), of which a fifth are held out to judge
training by; the network is cut by the others. Budgets are shares of the layers' parameters, chosen
on a draw that is not counted such that the best cut without groups begins to fail at the larger and
fails at the smaller. What counts is the rise of the log loss on rows of other people, or where
there are no labels the divergence from the uncut network, of the group that loses most.

=============================== =================================================================
SVD                             plain, each layer the same share of its parameters
FWSVD                           weighted by the Fisher information of all rows
the paper                       by the mean of the groups' Fisher information
covariance, pooled              such that outputs change least over all rows (SVD-LLM, CorDA)
K-FAC, pooled                   outputs weighted by the loss's gradients at temperature 2, ranks by
                                what the loss loses per parameter; all rows alike
K-FAC, equal                    the same with groups alike, gradients of labels as the network says
K-FAC, equal, by labels         the same by the true ones
in turn, pooled                 the same, each layer behind those that are cut; all rows alike
in turn, equal                  the same with groups alike
in turn, minimax                the best for the worst group of pooled, equal, and one that follows
                                what the groups lose: what ``compress`` does
distilled: covariance, pooled   a cut and three epochs of distillation by the best of three rates,
                                all rows alike
distilled: pooled               begun with "in turn, pooled"
distilled: drawn                begun with "in turn, minimax", rare groups drawn more often
distilled: thin                 the same, but only the thin layers learn
=============================== =================================================================

Rules written before the run. A cell is a network, grouping and budget; its value for a method the
mean over the draws. Asked for: "in turn, minimax" over the best of SVD, FWSVD, the paper and
pooled covariance, in hindsight and by cell, at most .6, and over "K-FAC, pooled" and "in turn,
pooled" never above 1.05; "distilled: drawn" over "distilled: pooled" at most .75 for the worst
group and at most 1.2 over all rows, as they are in the calibration rows.

Each cut is stored in ``--results`` at once, and what is there is not done again; tables leave out
draws that have not ended. Run ``python benchmarks/networks.py [--tasks resnet18] [--draws 5]
[--json FILE] [--markdown FILE] [--plot FILE]``; ``--rows`` makes tables and picture of such rows,
``--smoke`` cuts a small network.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from _networks.bench import BLIND, BUDGETS, CUTS, LABELLED, METHODS, ROWS, Bench, forget
from _networks.tasks import GROUPINGS, TASKS, missing
from _shared.program import options_of, rows_of, write
from _shared.timing import in_turn, machine


def cuts(name: str, draws: int, cache: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a task that are not done."""
    for draw, grouping in product(range(draws), GROUPINGS[name]):
        keys = {
            (budget, method): f"{name}|{grouping}|{budget}|{draw}|{method}"
            for budget, method in product(BUDGETS[name], METHODS)
            if name in LABELLED or not method.endswith("by labels")
        }
        if done.issuperset(keys.values()):
            continue
        forget()
        bench = Bench(TASKS[name](grouping, draw, ROWS[name], cache), draw)
        whole = sum(each.numel() for each in bench.task.model.parameters())
        for (budget, method), key in keys.items():
            if key in done:
                continue
            start = time.process_time()
            make = bench.cut if method in CUTS else bench.distilled
            small = make(method, budget)
            seconds = time.process_time() - start
            yield {
                "key": key,
                "task": name,
                "grouping": grouping,
                "budget": budget,
                "draw": draw,
                "method": method,
                "parameters": sum(each.numel() for each in small.parameters()) / whole,
                "CPU seconds": round(seconds, 2),
                **{k: float(f"{v:.6g}") for k, v in bench.measure(small).items()},
            }


def seconds(names: list[str], cache: Path) -> dict[str, Any]:
    """Return seconds for a row of each network, whole and cut, by one thread, in turn."""
    found = []
    for name in names:
        n = 100 if name == "smoke" else 300
        bench = Bench(TASKS[name](GROUPINGS[name][0], 0, n, cache), 0)
        models = {"whole": bench.task.model}
        models |= {f"{budget:g}": bench.cut("K-FAC, pooled", budget) for budget in BUDGETS[name]}
        for size in (1, 64):
            rows, arguments = next(iter(replace(bench.batches, batch_size=size)))
            with torch.no_grad():
                systems = {
                    key: partial(
                        bench.batches.run, each.eval(), arguments, len(range(*rows.indices(n)))
                    )
                    for key, each in models.items()
                }
                spent = in_turn(systems, 31 if size == 1 else 11)
            whole = median(spent["whole"])
            for key, each in models.items():
                found.append(
                    {
                        "network": name,
                        "budget": key,
                        "rows": size,
                        "parameters": sum(part.numel() for part in each.parameters()),
                        "seconds for a row": median(spent[key]) / size,
                        "whole / cut": whole / median(spent[key]),
                    }
                )
    return {"machine": machine(), "rows": found}


def seconds_table(found: dict[str, Any]) -> str:
    """Return the table of seconds."""
    lines = ["| network | share of the layers' parameters | parameters | 1 row | 64 rows |"]
    lines.append("|---" * 5 + "|")
    frame = pd.DataFrame(found["rows"])
    for (name, budget), own in frame.groupby(["network", "budget"], sort=False):
        cells = [
            f"{1000 * row['seconds for a row']:.2g} ms ({row['whole / cut']:.2f} x)"
            for _, row in own.iterrows()
        ]
        size = f"{int(own['parameters'].iloc[0]):,}"
        lines.append(f"| {name} | {budget} | {size} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


MINIMAX, POOLED = "in turn, minimax", "distilled: pooled"
# The ratio of which to which, of what, and what was asked for; None of what was only measured.
RULES: tuple[tuple[str, str, str, float | None], ...] = (
    (MINIMAX, "best blind", "worst", 0.6),
    (MINIMAX, "K-FAC, pooled", "worst", 1.05),
    ("K-FAC, equal", "K-FAC, pooled", "worst", None),
    ("K-FAC, equal", "K-FAC, equal, by labels", "worst", None),
    (MINIMAX, "in turn, pooled", "worst", 1.05),
    ("in turn, equal", "in turn, pooled", "worst", None),
    ("in turn, pooled", "best blind", "worst", None),
    ("distilled: drawn", POOLED, "worst", 0.75),
    ("distilled: drawn", POOLED, "all", 1.2),
    ("distilled: thin", "distilled: drawn", "worst", None),
    ("distilled: covariance, pooled", POOLED, "worst", None),
)
NAMES = {
    "resnet18": "ResNet-18, attributes of faces",
    "mobilenet_v2": "MobileNetV2, ImageNet's classes",
    "minilm": "MiniLM, income from sentences",
}
HEAD = """# What a cut of a network costs a rare group: tables

As `benchmarks/networks.py` wrote them, whose first lines say what each is; what they say is in
[the guide](guide/compression.md#networks).
"""


def whole(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of groupings and draws that have all methods at all budgets."""
    sizes = {
        name: len(BUDGETS[name]) * sum(name in LABELLED or "labels" not in each for each in METHODS)
        for name in TASKS
    }
    found = rows.groupby(["task", "grouping", "draw"])["key"].transform("size")
    return rows[found == rows["task"].map(sizes)]


def of_cells(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return a line for each cell: means over the draws of a rise, by method."""
    table = rows.pivot_table(
        index=["task", "grouping", "budget"], columns="method", values=f"rise {what}", sort=False
    )
    table = table.reindex(columns=list(METHODS))
    table["best blind"] = table[list(BLIND)].min(axis=1)
    return table


def asked(rows: pd.DataFrame) -> str:
    """Return the table of ratios: medians by network, the largest, and what was asked for.

    The last one says what drawing can gain at most: where all groups lose the same, the worst one
    loses as much as all rows do.
    """
    tasks = list(dict.fromkeys(rows["task"]))
    lines = [
        f"| ratio | of | asked for | {' | '.join(tasks)} | largest | cells |",
        "|---" * (5 + len(tasks)) + "|",
    ]
    found = {what: of_cells(rows, what) for what in ("worst", "all")}
    ratios = [
        (f"{over} / {under}", what, limit, found[what][over] / _risen(found[what][under]))
        for over, under, what, limit in RULES
    ]
    least = found["all"][POOLED] / _risen(found["worst"][POOLED])
    ratios.append((f"{POOLED}, all rows / worst group", "", None, least))
    for name, what, limit, ratio in ratios:
        if not ratio.notna().any():
            continue
        middle = ratio.groupby(level="task", sort=False).median()
        shown = " | ".join(
            "" if np.isnan(each) else f"{each:.2f}" for each in (middle.get(t) for t in tasks)
        )
        most = "" if limit is None else f"{limit:g}"
        lines.append(
            f"| {name} | {what} | {most} | {shown} | {ratio.max():.2f} | "
            f"{int(ratio.notna().sum())} |"
        )
    return "\n".join(lines) + "\n"


def _risen(rises: pd.Series) -> pd.Series:
    return rises.where(rises > 0.0)


def markdown(rows: pd.DataFrame) -> str:
    """Return the tables: what was asked for, and the rises."""
    parts = [HEAD, "## What was asked for\n\n" + asked(rows)]
    methods = [name for name in METHODS if name in set(rows["method"])]
    for what, title in (("worst", "the worst group's"), ("all", "over all rows")):
        rises = rows.groupby(["task", "budget", "method"], sort=False)[f"rise {what}"]
        found = rises.agg(["mean", "std"])
        cells = list(rows[["task", "budget"]].drop_duplicates().itertuples(index=False, name=None))
        lines = ["| method | " + " | ".join(f"{task}, {budget:g}" for task, budget in cells) + " |"]
        lines.append("|---" * (1 + len(cells)) + "|")
        for method in methods:
            texts = [
                "{:.3g} ± {:.2g}".format(*found.loc[(*cell, method)]).removesuffix(" ± nan")
                if (*cell, method) in found.index
                else ""
                for cell in cells
            ]
            lines.append(f"| {method} | {' | '.join(texts)} |")
        parts.append(
            f"## The rise, {title}\n\nBy network and share of its parameters: means ± standard "
            "deviations over groupings and draws.\n\n" + "\n".join(lines) + "\n"
        )
    return "\n".join(parts)


LOOKS: dict[str, dict[str, Any]] = {
    "SVD": {"color": "#999999"},
    "covariance, pooled": {"color": "#E69F00"},
    "K-FAC, pooled": {"color": "#56B4E9"},
    "in turn, pooled": {"color": "#0072B2"},
    MINIMAX: {"color": "#009E73"},
    POOLED: {"color": "#CC79A7"},
    "distilled: drawn": {"color": "#D55E00"},
}


def plot(rows: pd.DataFrame, path: Any) -> None:
    """Draw what each group loses by budget, a column for each network, and save the figure.

    On a logarithmic axis: what is cut well loses a twentieth of what is cut badly.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    plt.switch_backend("Agg")
    tasks = list(dict.fromkeys(rows["task"]))
    figure, axes = plt.subplots(
        2,
        len(tasks),
        figsize=(4.2 * len(tasks), 6.4),
        squeeze=False,
        sharex="col",
        sharey="col",
        layout="constrained",
    )
    for column, task in zip(axes.T, tasks, strict=True):
        own = rows[rows["task"] == task]
        for ax, group in zip(column, ("rare", "others"), strict=True):
            for name, look in LOOKS.items():
                if name not in set(own["method"]):
                    continue
                means = own[own["method"] == name].groupby("budget")[f"rise {group}"].mean()
                ax.plot(means.index, means, "o-", markersize=4, label=name, **look)
            if (own[["rise rare", "rise others"]] > 0.0).all(axis=None):
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                ax.yaxis.set_major_formatter("{x:g}")
                ax.yaxis.set_minor_formatter(NullFormatter())
            ax.set_xscale("log")
            budgets = sorted(set(own["budget"]))
            ax.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
            ax.xaxis.set_tick_params(which="minor", bottom=False, labelbottom=False)
        column[0].set_title(NAMES.get(task, task))
        column[1].set_xlabel("share of the layers' parameters")
    for ax, group in zip(axes[:, 0], ("the rare group loses", "the others lose"), strict=True):
        ax.set_ylabel(f"what {group} (nats)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Run what is not there, and summarize."""
    parser = options_of(__doc__, tasks=[n for n in TASKS if n != "smoke"], seeds="draws", n=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="draw the rises")
    parser.add_argument("--smoke", action="store_true", help="small, on made-up rows")
    parser.add_argument("--seconds", type=Path, help="measure how long a row takes, and write it")
    options = parser.parse_args()
    tasks = ["smoke"] if options.smoke else options.tasks
    if options.seconds:
        torch.set_num_threads(options.threads)
        measured = seconds([name for name in tasks if missing(name) is None], options.cache)
        options.seconds.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        print(seconds_table(measured))
        return
    rows = rows_of(
        options,
        tasks,
        lambda name, done: cuts(name, 1 if options.smoke else options.draws, options.cache, done),
        lacking=missing,
        wanted=lambda row: row["draw"] < options.draws,
    )
    if not rows:
        return
    frame = whole(pd.DataFrame(rows))
    if frame.empty:
        return
    write(options, rows, markdown(frame))
    if options.plot:
        plot(frame, options.plot)


if __name__ == "__main__":
    main()
