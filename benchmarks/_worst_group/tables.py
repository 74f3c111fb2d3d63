"""Tables of the rows: by task, and differences to group DRO."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import t as student

__all__ = ["PEER", "differences", "markdown", "measured"]

PEER = "group DRO"
WHAT = {
    "worst cell": "The accuracy of the worst cell",
    "worst group": "The accuracy of the worst group",
    "accuracy": "The accuracy of all rows",
    "balanced": "The mean accuracy of the two classes",
}
HEAD = """# The worst group: tables

As `benchmarks/worst_group.py` wrote them, whose first lines say what each is. Accuracies are in
percent, on test rows, and all figures means ± standard deviations over the seeds ({seeds}).
"""


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with their accuracies in percent.

    Counts are (label 0 of each group, label 1 of each group). Cells without test rows count as
    neither the worst nor any other.
    """
    found = []
    for row in rows.itertuples():
        n = np.reshape(row.tested, (2, -1)).astype(float)
        right = np.reshape(row.right, (2, -1)).astype(float)
        with np.errstate(invalid="ignore"):
            cells, groups = right / n, right.sum(axis=0) / n.sum(axis=0)
        found.append(
            {
                "worst cell": np.nanmin(cells),
                "worst group": np.nanmin(groups),
                "accuracy": right.sum() / n.sum(),
                "balanced": np.mean(right.sum(axis=1) / n.sum(axis=1)),
            }
        )
    return pd.concat([rows, 100.0 * pd.DataFrame(found, index=rows.index)], axis=1)


def differences(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return, by method and task, a number minus group DRO's, paired over the seeds.

    Columns are mean, std, and the ends of Student's 95 % interval.
    """
    table = rows.pivot(index=["task", "seed"], columns="method", values=what)
    out = []
    for method in dict.fromkeys(rows["method"]):
        if method == PEER:
            continue
        paired = (table[method] - table[PEER]).dropna()
        for task in dict.fromkeys(rows["task"]):
            if task not in paired.index.get_level_values("task"):
                continue
            each = paired.loc[task]
            half = student.ppf(0.975, len(each) - 1) * each.std() / len(each) ** 0.5
            mean = each.mean()
            out.append(
                {"method": method, "task": task, "mean": mean, "std": each.std()}
                | {"low": mean - half, "high": mean + half}
            )
    return pd.DataFrame(out)


def markdown(rows: pd.DataFrame) -> str:
    """Return all tables."""
    rows = measured(rows)
    seeds = rows.groupby("task", sort=False)["seed"].nunique()
    same = seeds.nunique() == 1
    told = str(seeds.iloc[0]) if same else ", ".join(f"{task}: {n}" for task, n in seeds.items())
    parts = [HEAD.format(seeds=told), f"## Tasks\n\n{_tasks(rows)}"]
    if PEER in set(rows["method"]) and rows["method"].nunique() > 1:
        parts.append(f"## Against {PEER}\n\n{_verdicts(rows)}")
    parts += [f"## {title}\n\n{_by_task(rows, what)}" for what, title in WHAT.items()]
    parts.append(f"## CPU seconds to choose and fit\n\n{_by_task(rows, 'cpu', '.2f')}")
    parts.append(f"## Each cell\n\n{_cells(rows)}")
    return "\n".join(parts)


def _table(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _tasks(rows: pd.DataFrame) -> str:
    header = ["task", "groups", "rows fitted", "rows tested"]
    header += ["smallest cell, fitted", "smallest cell, tested"]
    lines = []
    for task, own in rows.drop_duplicates(["task", "seed"]).groupby("task", sort=False):
        fitted, tested = (np.stack(own[name]) for name in ("fitted", "tested"))
        sizes = [f"{counts.sum(axis=1).mean():,.0f}" for counts in (fitted, tested)]
        least = [counts.min(axis=1) for counts in (fitted, tested)]
        spans = [f"{a.min()}" if np.ptp(a) == 0 else f"{a.min()} to {a.max()}" for a in least]
        lines.append([str(task), str(fitted.shape[1] // 2), *sizes, *spans])
    return _table(header, lines)


def _by_task(rows: pd.DataFrame, what: str, form: str = ".1f") -> str:
    tasks = list(dict.fromkeys(rows["task"]))
    lines = []
    for method, own in rows.groupby("method", sort=False):
        of = own.groupby("task")[what].agg(["mean", "std"])
        shown = [
            f"{of.loc[task, 'mean']:{form}} ± {of.loc[task, 'std']:{form}}"
            if task in of.index
            else ""
            for task in tasks
        ]
        lines.append([str(method), *shown])
    return _table(["method", *tasks], lines)


def _verdicts(rows: pd.DataFrame) -> str:
    """Return the differences over the tasks, and those of the worst cell by task."""
    header = ["worst cell", "tasks", "ahead (surely)", "behind (surely)", "mean ± sd over tasks"]
    header += ["accuracy: mean ± sd over tasks", "times as long (median)"]
    worst, all_rows = (differences(rows, what) for what in ("worst cell", "accuracy"))
    times = rows.groupby(["method", "task"])["cpu"].mean()
    lines, by_task = [], []
    tasks = list(dict.fromkeys(rows["task"]))
    for method, own in worst.groupby("method", sort=False):
        other = all_rows[all_rows["method"] == method]["mean"]
        ahead, behind = own["mean"] > 0, own["mean"] < 0
        longer = np.median([times[method, task] / times[PEER, task] for task in own["task"]])
        lines.append(
            [
                str(method),
                str(len(own)),
                f"{ahead.sum()} ({(own['low'] > 0).sum()})",
                f"{behind.sum()} ({(own['high'] < 0).sum()})",
                f"{own['mean'].mean():+.1f} ± {own['mean'].std():.1f}",
                f"{other.mean():+.1f} ± {other.std():.1f}",
                f"{longer:.2g}",
            ]
        )
        of = own.set_index("task")
        shown = [
            f"{of.loc[task, 'mean']:+.1f} ± {of.loc[task, 'std']:.1f}" if task in of.index else ""
            for task in tasks
        ]
        by_task.append([str(method), *shown])
    text = f"{_table(header, lines)}\nThe worst cell by task, mean ± standard deviation of the "
    return text + f"paired differences:\n\n{_table(['method', *tasks], by_task)}"


def _cells(rows: pd.DataFrame) -> str:
    """Return the mean accuracy of each cell by task and method."""
    parts = ["Means over the seeds; y0 g1 is label 0 in group 1.\n"]
    for task, own in rows.groupby("task", sort=False):
        n_groups = len(own["tested"].iloc[0]) // 2
        names = [f"y{y} g{g}" for y in (0, 1) for g in range(n_groups)]
        lines = []
        for method, runs in own.groupby("method", sort=False):
            n, right = (np.stack(runs[name]).astype(float) for name in ("tested", "right"))
            with np.errstate(invalid="ignore"):
                means = 100.0 * np.nanmean(right / n, axis=0)
            lines.append([str(method), *(f"{mean:.1f}" for mean in means)])
        parts.append(_table([str(task), *names], lines))
    return "\n".join(parts)
