"""The scores as tables of Markdown: means ± standard deviations over the seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from .score import ASKED, BASELINE, BUDGETS, REFERENCES, paired
from .synthetic import SYNTHETIC, bayes_front

SYMBOL = {"demographic_parity": "ΔDP", "equalized_odds": "ΔEO"}
OURS = "ours, "
OWN = f"{OURS}plug-in"
SLOWEST = f"{ASKED}ExponentiatedGradient"
VOLUME = "hypervolume 1.5"
# Tasks that are shown side by side.
FAMILIES = {
    "Adult": (
        *("adult-10", "adult-64", "adult-128", "adult-64-sex-race", "adult-64-race-sex-6"),
        "adult-64-hours-3",
    ),
    "Other tables, and few rows": (
        *("bank", "communities", "communities-3", "adult-64-500", "bank-500"),
    ),
    "Faces": ("lfw", "celeba", "celeba-blond", "celeba-young"),
    "Known populations": tuple(SYNTHETIC),
}


def table_of(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table of Markdown.

    Examples
    --------
    >>> print(table_of(["a", "b"], [[1, 2]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    header = list(header)
    lines = [header, None, *rows]
    return "\n".join(
        "|---" * len(header) + "|" if line is None else f"| {' | '.join(map(str, line))} |"
        for line in lines
    )


def words(constraint: str) -> str:
    """Return a constraint as a title."""
    return constraint.replace("_", " ").capitalize()


def overview(scores: pd.DataFrame, column: str = VOLUME) -> str:
    """Return tables of a score of each method on each task, by families of tasks.

    Mean ± standard deviation over the seeds; methods without the group at prediction first, each
    part by the mean over the tasks.
    """
    scores = scores[scores["method"] != BASELINE]
    out = []
    for constraint, of_one in scores.groupby("constraint", sort=True):
        for family, members in FAMILIES.items():
            part = of_one[of_one["dataset"].isin(members)]
            if not len(part):
                continue
            needs = part.groupby("method")["needs_group"].first()
            tasks = list(dict.fromkeys(part["dataset"]))
            table = part.groupby(["method", "dataset"])[column].agg(["mean", "std"])
            # A method that lacks a task is not ranked higher for that.
            level = table["mean"].unstack().fillna(0.0).mean(axis=1)
            rows = []
            for name in sorted(level.index, key=lambda name: (needs[name], -level[name])):
                known = [(name, task) in table.index for task in tasks]
                rows.append(
                    [
                        f"{name}{' *' if needs[name] else ''}",
                        *(
                            _cell(table.loc[(name, task)], 3) if there else "-"
                            for task, there in zip(tasks, known, strict=True)
                        ),
                    ]
                )
            title = f"**{words(constraint)}: {family[0].lower() + family[1:]}**"
            title = title.replace("adult", "Adult")
            out += [title, "", table_of(["method", *tasks], rows), ""]
    return "\n".join(out)


def verdicts(
    scores: pd.DataFrame, ours: str = OWN, column: str = VOLUME, *, least: bool = False
) -> str:
    """Return how one of ours fares against each other method, over all tasks.

    For each constraint the number of tasks on which its mean is better, or worse, and on how many
    of these Student's 95 % interval of the paired difference is wholly on that side; and the mean
    of the differences "ours minus it" over the tasks. More is better, or with ``least`` less.
    """
    needs = scores.groupby("method")["needs_group"].first()
    constraints = sorted(scores["constraint"].unique())
    cells: dict[str, list[Any]] = {}
    gains: dict[str, list[float]] = {}
    for n_before, constraint in enumerate(constraints):
        pairs = paired(scores[scores["constraint"] == constraint], ours, column)
        if not len(pairs):
            continue
        pairs = pairs[(pairs["seeds"] > 1) & (pairs["peer"] != BASELINE)]
        for peer, found in pairs.groupby("peer", sort=False):
            gain = found["difference"]
            more = f"{(gain > 0).sum()} ({(found['difference low'] > 0).sum()})"
            less = f"{(gain < 0).sum()} ({(found['difference high'] < 0).sum()})"
            row = cells.setdefault(peer, ["-"] * 3 * n_before)
            row += [*([less, more] if least else [more, less]), f"{gain.mean():+.3f}"]
            gains.setdefault(peer, []).append(-gain.mean() if least else gain.mean())
    header = ["ours, against"]
    for constraint in constraints:
        header += [f"{SYMBOL[constraint]}: {what}" for what in ("ahead", "behind", "mean")]
    order = sorted(cells, key=lambda peer: (needs[peer], np.mean(gains[peer])))
    rows = [
        [f"{peer}{' *' if needs[peer] else ''}", *cells[peer], *["-"] * (len(header) - 1)][
            : len(header)
        ]
        for peer in order
    ]
    return table_of(header, rows) + "\n"


def at_budgets(scores: pd.DataFrame, ours: str = OWN) -> str:
    """Return Err plus excess at each budget, of one of ours and the best peer of each task.

    The best is that of the lowest mean among those that do not need the group at prediction.
    """
    out = []
    for constraint, of_one in scores.groupby("constraint", sort=True):
        rows = []
        for task, part in of_one.groupby("dataset", sort=False):
            cells = [task]
            for budget in BUDGETS[constraint]:
                cells += _beside(part, ours, f"cost at {budget}", "{:.2f}", least=True)
            rows.append(cells)
        header = ["task"]
        for budget in BUDGETS[constraint]:
            header += [
                f"ours, {SYMBOL[constraint]} ≤ {budget}",
                "best peer",
                "its",
                "ours minus it",
            ]
        out += [f"**{words(constraint)}**", "", table_of(header, rows), ""]
    return "\n".join(out)


def best_there_is(tasks: Iterable[str], constraints: Iterable[str]) -> list[dict[str, Any]]:
    """Return the least Err within each budget that decisions without the group can have."""
    found: dict[tuple[str, str], pd.DataFrame] = {}
    rows = []
    for task, constraint in product([task for task in tasks if task in SYNTHETIC], constraints):
        kind = task.rpartition("-")[0], constraint  # whatever the number of rows
        if kind not in found:
            found[kind] = bayes_front(task, constraint, BUDGETS[constraint])
        here = found[kind][["bound", "Err"]].to_dict("records")
        rows += [{"dataset": task, "constraint": constraint, **row} for row in here]
    return rows


def regrets(scores: pd.DataFrame, best: Iterable[Mapping[str, Any]], methods: Iterable[str]) -> str:
    """Return how far methods are from the best that features allow, in populations that are known.

    Err plus excess at each budget, less the Err of the Bayes-optimal decisions within it.

    Parameters
    ----------
    scores : DataFrame
        Of `score`.
    best : iterable of mappings
        Of `best_there_is`.
    methods : iterable of str
        Which to show.
    """
    least = {(row["dataset"], row["constraint"], row["bound"]): row["Err"] for row in best}
    out = []
    for constraint, of_one in scores.groupby("constraint", sort=True):
        tasks = [task for task in dict.fromkeys(of_one["dataset"]) if task in SYNTHETIC]
        if not tasks:
            continue
        for budget in BUDGETS[constraint]:
            rows = []
            for name in methods:
                own = of_one[of_one["method"] == name]
                cells = [name]
                for task in tasks:
                    cost = own.loc[own["dataset"] == task, f"cost at {budget}"]
                    cost = cost - least[task, constraint, budget]
                    cells.append(_cell({"mean": cost.mean(), "std": cost.std()}, 2))
                rows.append(cells)
            limits = [f"{least[task, constraint, budget]:.2f}" for task in tasks]
            header = ["method", *(task.removeprefix("synthetic-") for task in tasks)]
            title = f"**{words(constraint)}, {SYMBOL[constraint]} ≤ {budget}**"
            table = table_of(header, [["least Err that there is", *limits], *rows])
            out += [title, "", table, ""]
    return "\n".join(out)


def times(scores: pd.DataFrame, ours: Iterable[str]) -> str:
    """Return what each of ours takes, and how often ExponentiatedGradient's six bounds take it.

    CPU seconds; the ratios are medians over the seeds.
    """
    keys = ["dataset", "constraint", "seed"]
    seconds = scores.set_index([*keys, "method"])["CPU seconds"].unstack("method")
    seconds = seconds.loc[list(dict.fromkeys(zip(*(scores[key] for key in keys), strict=True)))]
    ours = [name for name in ours if name in seconds]
    rows = []
    for (task, constraint), part in seconds.groupby(level=[0, 1], sort=False):
        cells = [task, SYMBOL[constraint]]
        for name in ours:
            if not part[name].notna().any():
                cells.append("-")
                continue
            there = SLOWEST in part and (part[SLOWEST] / part[name]).notna().any()
            ratio = f" ({(part[SLOWEST] / part[name]).median():.1f})" if there else ""
            cells.append(f"{part[name].mean():.2f}{ratio}")
        rows.append(cells)
    return table_of(["task", "Δ", *(name.removeprefix(OURS) for name in ours)], rows) + "\n"


def best_peers(scores: pd.DataFrame, column: str = VOLUME) -> dict[tuple[str, str], str]:
    """Return the peer without the group of the highest mean, for each (task, constraint)."""
    parts = scores.groupby(["dataset", "constraint"], sort=False)
    found = {key: _best_peer(part, column, least=False) for key, part in parts}
    return {key: name for key, name in found.items() if name is not None}


def _best_peer(part: pd.DataFrame, column: str, least: bool) -> str | None:
    peers = part[~part["needs_group"] & ~part["method"].str.startswith(OURS)]
    means = peers[peers["method"] != BASELINE].groupby("method")[column].mean().dropna()
    if not len(means):
        return None
    return str(means.idxmin() if least else means.idxmax())


def _beside(
    part: pd.DataFrame, ours: str, column: str, form: str, *, least: bool = False
) -> list[str]:
    """Return a score of ours, the best peer's name and score, and the difference with interval."""
    best = _best_peer(part, column, least)
    pairs = paired(part, ours, column)
    if best is None or not len(pairs):
        return ["-"] * 4
    (row,) = pairs[pairs["peer"] == best].to_dict("records")
    low, mid, high = (row[f"difference{end}"] for end in (" low", "", " high"))
    signed = form.replace(":", ":+")
    difference = f"{signed.format(mid)} ({signed.format(low)} to {signed.format(high)})"
    return [form.format(row["ours"]), best, form.format(row["peer's"]), difference]


def asked_table(scores: pd.DataFrame, column: str = VOLUME) -> str:
    """Return a table for each constraint of what tools gave that were asked for bounds.

    Means over the seeds: hypervolume, error, what a distance exceeds its bound by, the share of
    bounds exceeded, and Err plus 100 times the excess. Of ours also the difference of hypervolume
    to each other, paired, with Student's 95 % interval.
    """
    out = []
    columns = {column: 3, "mean Err": 2, "excess": 3, "above": 2, "mean cost": 2}
    header = ["dataset", "method", "hypervolume", "Err", "excess", "above", "Err + excess"]
    ours = f"{ASKED}ours"
    for constraint, part in scores.groupby("constraint", sort=True):
        out += [f"**{constraint.replace('_', ' ').capitalize()}**", ""]
        out += [f"| {' | '.join([*header, 'ours minus it, 95 %'])} |", "|---" * 8 + "|"]
        pairs = paired(part, ours, column).set_index(["dataset", "peer"])
        for (dataset, name), rows in part.groupby(["dataset", "method"], sort=False):
            numbers = [f"{rows[c].mean():.{digits}f}" for c, digits in columns.items()]
            star = " *" if rows["needs_group"].iloc[0] else ""
            beside = ""
            if name != ours and (dataset, name) in pairs.index:
                pair = pairs.loc[(dataset, name)]
                low, high = pair["difference low"], pair["difference high"]
                beside = f"{pair['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
            cells = [dataset, name.removeprefix(ASKED) + star, *numbers, beside]
            out.append(f"| {' | '.join(cells)} |")
        out.append("")
    return "\n".join(out)


def against_peers(scores: pd.DataFrame, ours: str = OWN, column: str = VOLUME) -> str:
    """Return a table of a method of ours beside the best peer of each task and constraint.

    The best is that of the highest mean among those that do not need the group at prediction.
    """
    rows = []
    for (task, constraint), part in scores.groupby(["dataset", "constraint"], sort=False):
        cells = _beside(part, ours, column, "{:.3f}")
        known = cells[0] != "-" and float(cells[2]) > 0.0
        ratio = f"{float(cells[0]) / float(cells[2]):.2f}" if known else "-"
        rows.append([task, SYMBOL[constraint], *cells, ratio])
    header = ["task", "Δ", "ours", "best peer", "its", "ours minus it, 95 %", "ratio"]
    return table_of(header, rows) + "\n"


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Return means and standard deviations over the seeds, by dataset, constraint and method.

    The columns are pairs (score, "mean" or "std"); of "missed" the mean is a share.
    """
    keys = ["dataset", "constraint", "method"]
    grouped = scores.drop(columns=["front", "needs_group"]).groupby(keys, sort=False)
    numbers = [
        name
        for name in scores.columns
        if name not in (*keys, "front", "needs_group", "seed", "failed", "why")
    ]
    parts = {}
    for name in numbers:
        values = pd.to_numeric(scores[name]).groupby([scores[key] for key in keys], sort=False)
        parts[name, "mean"], parts[name, "std"] = values.mean(), values.std()
    out = pd.DataFrame(parts)
    out["seeds", "count"] = grouped["failed"].count()
    out["failed", "count"] = grouped["failed"].sum()
    return out


def markdown(scores: pd.DataFrame) -> str:
    """Return a table for each dataset and constraint: mean ± standard deviation over the seeds.

    A star marks the methods that need the group at prediction.
    """
    table = summary(scores)
    needs = scores.groupby("method")["needs_group"].first()
    out = []
    for (dataset, constraint), part in table.groupby(level=[0, 1], sort=False):
        delta = "ΔDP" if constraint == "demographic_parity" else "ΔEO"
        budgets = BUDGETS[constraint]
        out += [f"### {dataset}, {constraint.replace('_', ' ')}", ""]
        header = ["method", "seeds", "candidates", *(f"hypervolume, {t} Err0" for t in REFERENCES)]
        for budget in budgets:
            wanted = f"{delta} ≤ {budget} on val"
            header += [f"Err, {wanted}", f"its {delta}", "Err + excess", "missed"]
            header.append(f"best Err, {delta} ≤ {budget}")
        header += ["seconds", "CPU seconds"]
        out += [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
        part = part.sort_values(("hypervolume 1.5", "mean"), ascending=False)
        for (_, _, name), row in part.iterrows():
            seeds, failed = int(row["seeds", "count"]), int(row["failed", "count"])
            cells = [f"{name}{' *' if needs[name] else ''}"]
            cells.append(f"{seeds - failed}" + (f" ({failed} failed)" if failed else ""))
            if failed == seeds:
                out.append(f"| {' | '.join(cells)} |" + " |" * (len(header) - 2))
                continue
            cells.append(f"{row['candidates', 'mean']:.0f}")
            cells += [_cell(row[f"hypervolume {times}"], 3) for times in REFERENCES]
            for budget in budgets:
                cells += [_cell(row[f"Err at {budget}"], 2), _cell(row[f"Δ at {budget}"], 3)]
                cells.append(_cell(row[f"cost at {budget}"], 2))
                cells.append(f"{row[f'missed at {budget}', 'mean'] * (seeds - failed):.0f}")
                cells.append(_cell(row[f"best at {budget}"], 2))
            cells += [_cell(row["seconds"], 2), _cell(row["CPU seconds"], 2)]
            out.append(f"| {' | '.join(cells)} |")
        out.append("")
    return "\n".join(out)


def _cell(values: Any, digits: int) -> str:
    mean, std = float(values["mean"]), float(values["std"])
    if np.isnan(mean):
        return "-"
    return f"{mean:.{digits}f}" + ("" if np.isnan(std) else f" ± {std:.{digits}f}")
