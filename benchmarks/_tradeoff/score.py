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
        row |= {"failed": r["error"] is not None, "front": None}
        if row["failed"]:
            row["why"] = r["error"].splitlines()[0][:150]
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
