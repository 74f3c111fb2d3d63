"""Scores of curves, from the stored confusion counts.

Err is 100 minus weighted F1, ΔDP the largest difference between groups in selection rate, ΔEO the
sum of those in true and false positive rate (groups without such rows are left out).

- **front**: the candidates that are Pareto-minimal in (Err, Δ) on val. Their test points are what
  a method is judged by: what to choose is decided on val, never on test.
- **hypervolume**: the area that the front's test points dominate up to the reference point
  (1.5 Err0, Δ0), as a share of the box between that and (Err0, 0), where (Err0, Δ0) is the test
  point of the unconstrained logistic regression on the same split. It is 0 for a method that
  gains nothing on logistic regression and 1 for parity at no cost; beyond the reference, points
  count nothing. A second reference, 2 Err0, shows how much hangs on that choice.
- **at a budget**: the candidate of lowest val Err among those with val Δ within the budget, and
  its test Err and Δ; if none is within, the one of the smallest val Δ, counted as missed. Its cost
  is Err plus 100 times what Δ exceeds the budget by. Besides,
  the lowest test Err among the front's points whose test Δ is within the budget, which peeks at
  test (NaN if there is none).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from skfairft.parity.counts import distances_of, weighted_f1

BUDGETS = {"demographic_parity": (0.05, 0.02), "equalized_odds": (0.10, 0.05)}
REFERENCES = (1.5, 2.0)  # times the error of logistic regression
BASELINE = "logistic regression"
ASKED = "asked, "


def measures(counts: Any, constraint: str) -> np.ndarray:
    """Return (m, 2), Err and the constraint's Δ, of counts (m, G, 2, 2)."""
    counts = np.asarray(counts, dtype=np.float64)
    error = 100.0 * (1.0 - weighted_f1(counts.sum(axis=1)))
    return np.column_stack([error, distances_of(counts, [constraint])[constraint]])


def pareto(points: np.ndarray) -> np.ndarray:
    """Return the rows of ``points`` (m, 2) that no other dominates, by rising first coordinate.

    Of equal points the first is kept; rows with NaN are left out.
    """
    rows = np.flatnonzero(np.isfinite(points).all(axis=1))
    rows = rows[np.lexsort((points[rows, 1], points[rows, 0]))]
    before = np.minimum.accumulate(np.concatenate([[np.inf], points[rows, 1]]))[:-1]
    return rows[points[rows, 1] < before]


def hypervolume(points: np.ndarray, reference: tuple[float, float]) -> float:
    """Return the area dominated by ``points`` (m, 2) within ``reference``."""
    points = points[np.isfinite(points).all(axis=1)]
    points = points[(points < reference).all(axis=1)]
    front = points[pareto(points)]
    if len(front) == 0:
        return 0.0
    right = np.append(front[1:, 0], reference[0])
    return float(((right - front[:, 0]) * (reference[1] - front[:, 1])).sum())


def at_budget(val: np.ndarray, test: np.ndarray, budget: float) -> dict[str, float]:
    """Return test Err and Δ of what val would choose, and the best on test within the budget."""
    finite = np.isfinite(val).all(axis=1)
    within = finite & (val[:, 1] <= budget)
    if within.any():
        chosen = np.flatnonzero(within)[val[within, 0].argmin()]
    elif finite.any():
        chosen = np.flatnonzero(finite)[val[finite, 1].argmin()]
    else:
        return {"Err": np.nan, "Δ": np.nan, "cost": np.nan, "missed": True, "best": np.nan}
    front = test[pareto(val)]
    excess = max(0.0, float(test[chosen, 1]) - budget)
    best = front[front[:, 1] <= budget, 0]
    return {
        "Err": float(test[chosen, 0]),
        "Δ": float(test[chosen, 1]),
        "cost": float(test[chosen, 0]) + 100.0 * excess,
        "missed": not within.any(),
        "best": float(best.min()) if len(best) else np.nan,
    }


def score(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each result, failures included.

    The column "front" holds the test points (f, 2) of the val front.
    """
    base = {
        (r["dataset"], r["seed"], r["constraint"]): measures(r["test"], r["constraint"])[0]
        for r in results
        if r["method"] == BASELINE and r["error"] is None
    }
    rows = []
    for r in results:
        row: dict[str, Any] = {
            key: r[key] for key in ("dataset", "constraint", "method", "needs_group", "seed")
        }
        rows.append(row)
        row["failed"] = r["error"] is not None
        start = base.get((r["dataset"], r["seed"], r["constraint"]))
        if row["failed"] or start is None:
            continue
        test = measures(r["test"], r["constraint"])
        asked = r["method"].startswith(ASKED)
        # Who was asked for a bound each has chosen already.
        val = test if asked else measures(r["val"], r["constraint"])
        front = test if asked else test[pareto(val)]
        row |= {"candidates": len(val), "on front": len(front), "seconds": r["seconds"]}
        row["CPU seconds"] = r.get("cpu_seconds", np.nan)
        for times in REFERENCES:
            area = hypervolume(front, (times * start[0], start[1]))
            row[f"hypervolume {times}"] = area / ((times - 1) * start[0] * start[1])
        if asked:
            bounds = np.array([float(label.removeprefix("bound=")) for label in r["labels"]])
            excess = np.maximum(0.0, test[:, 1] - bounds)
            row |= {"above": float((excess > 0.0).mean()), "excess": float(excess.mean())}
            row |= {"mean Err": float(test[:, 0].mean()), "front": front}
            row["mean cost"] = row["mean Err"] + 100.0 * row["excess"]
            continue
        for budget in BUDGETS[r["constraint"]]:
            found = at_budget(val, test, budget)
            row |= {f"{name} at {budget}": value for name, value in found.items()}
        row["front"] = front
    return pd.DataFrame(rows)


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Return means and standard deviations over the seeds, by dataset, constraint and method.

    The columns are pairs (score, "mean" or "std"); of "missed" the mean is a share.
    """
    keys = ["dataset", "constraint", "method"]
    grouped = scores.drop(columns=["front", "needs_group"]).groupby(keys, sort=False)
    numbers = [
        name
        for name in scores.columns
        if name not in (*keys, "front", "needs_group", "seed", "failed")
    ]
    parts = {}
    for name in numbers:
        values = pd.to_numeric(scores[name]).groupby([scores[key] for key in keys], sort=False)
        parts[name, "mean"], parts[name, "std"] = values.mean(), values.std()
    out = pd.DataFrame(parts)
    out["seeds", "count"] = grouped["failed"].count()
    out["failed", "count"] = grouped["failed"].sum()
    return out


def paired(scores: pd.DataFrame, ours: str, column: str = "hypervolume 1.5") -> pd.DataFrame:
    """Compare a method with each other one, seed by seed, with 95 % intervals.

    Parameters
    ----------
    scores : DataFrame
        Of `score`.
    ours : str
        The method.
    column : str
        What to compare.

    Returns
    -------
    DataFrame
        For each dataset, constraint and peer: the means, the difference "ours - peer" with
        Student's interval over the seeds, and the ratio ours / peer, the exponential of the mean
        log ratio with its interval, where all values are positive (else NaN: the difference is
        what counts then).
    """
    rows = []
    for (dataset, constraint), part in scores.groupby(["dataset", "constraint"], sort=False):
        table = part.pivot_table(index="seed", columns="method", values=column)
        if ours not in table:
            continue
        for peer in table.columns.drop(ours):
            both = table[[ours, peer]].dropna()
            a, b = both[ours].to_numpy(), both[peer].to_numpy()
            row = {"dataset": dataset, "constraint": constraint, "peer": peer, "seeds": len(a)}
            row |= {"ours": a.mean(), "peer's": b.mean()} if len(a) else {}
            low, mid, high = t_interval(a - b)
            row |= {"difference": mid, "difference low": low, "difference high": high}
            positive = len(a) > 0 and (a > 0).all() and (b > 0).all()
            low, mid, high = t_interval(np.log(a / b)) if positive else [np.nan] * 3
            row |= {"ratio": np.exp(mid), "ratio low": np.exp(low), "ratio high": np.exp(high)}
            rows.append(row)
    return pd.DataFrame(rows)


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Return low, mean and high of Student's interval of a mean."""
    n = len(values)
    if n == 0:
        return np.nan, np.nan, np.nan
    mean = float(values.mean())
    if n == 1:
        return np.nan, mean, np.nan
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return mean - half, mean, mean + half


SYMBOL = {"demographic_parity": "ΔDP", "equalized_odds": "ΔEO"}
OURS = "ours, "
SLOWEST = "ExponentiatedGradient"
# Of ours, what a figure shows; the others are parts of these.
DRAWN = {"ours, closed form": "#56B4E9", "ours, plug-in": "#0072B2", "ours, all solvers": "black"}


def overview(scores: pd.DataFrame, column: str = "hypervolume 1.5") -> str:
    """Return a table for each constraint: hypervolume of each method on each dataset.

    Mean ± standard deviation over the seeds; methods without the group at prediction first, each
    part by the mean over the datasets.
    """
    needs = scores.groupby("method")["needs_group"].first()
    out = []
    for constraint, part in scores[scores["method"] != BASELINE].groupby("constraint", sort=True):
        datasets = list(dict.fromkeys(part["dataset"]))
        table = part.groupby(["method", "dataset"])[column].agg(["mean", "std"])
        level = table["mean"].unstack().mean(axis=1)
        order = sorted(level.index, key=lambda name: (needs[name], -level[name]))
        out += [f"**{constraint.replace('_', ' ').capitalize()}**", ""]
        out += [f"| method | {' | '.join(datasets)} |", "|---" * (1 + len(datasets)) + "|"]
        for name in order:
            cells = []
            for dataset in datasets:
                known = (name, dataset) in table.index
                cells.append(_cell(table.loc[(name, dataset)], 3) if known else "-")
            out.append(f"| {name}{' *' if needs[name] else ''} | {' | '.join(cells)} |")
        out.append("")
    return "\n".join(out)


def asked_table(scores: pd.DataFrame, column: str = "hypervolume 1.5") -> str:
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


def against_peers(scores: pd.DataFrame, ours: str, column: str = "hypervolume 1.5") -> str:
    """Return a table of a method of ours beside the best peer of each dataset and constraint.

    The best is that of the highest mean among those that do not need the group at prediction.
    """
    peers = scores[~scores["needs_group"] & ~scores["method"].str.startswith(OURS)]
    pairs = paired(scores, ours, column)
    if not len(pairs):
        return ""
    seconds = scores.pivot_table(
        index=["dataset", "constraint", "seed"], columns="method", values="CPU seconds"
    )
    header = ["dataset", "Δ", "ours", "best peer", "its", "difference, 95 %", "ratio of means"]
    header += ["CPU seconds", "EG's / ours"]
    out = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for (dataset, constraint), part in peers.groupby(["dataset", "constraint"], sort=False):
        best = part.groupby("method")[column].mean().idxmax()
        rows = pairs[
            (pairs["dataset"] == dataset)
            & (pairs["constraint"] == constraint)
            & (pairs["peer"] == best)
        ]
        if not len(rows):
            continue
        row = rows.iloc[0]
        time = seconds.loc[(dataset, constraint)]
        faster = time[SLOWEST] / time[ours] if SLOWEST in time else pd.Series([np.nan])
        mine, theirs = row["ours"], row["peer's"]
        cells = [dataset, SYMBOL[constraint], f"{mine:.3f}", best, f"{theirs:.3f}"]
        low, high = row["difference low"], row["difference high"]
        cells += [f"{row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"]
        cells += [f"{mine / theirs:.2f}", f"{time[ours].mean():.2f}"]
        out.append(f"| {' | '.join([*cells, f'{faster.median():.0f}'])} |")
    return "\n".join([*out, ""])


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
