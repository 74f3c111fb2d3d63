"""Groups of equal weight in the loss of a head: what it does to the group of few rows.

Tasks of the trade-off with two groups. Of the rows to fit, either group is left as many as make it
a given share; heads with ``neutral_loss`` on and off are tested on rows with the shares as they
are. (Two classes have a head of rank 1; three are fitted at full rank and at 1.) Differences, on
minus off, are paired over the seeds, with Student's 95 % interval.

The rule, written before the run: it becomes the default if at shares of at most .05 the worst
group's log loss falls in most cells (task, rare group, share, rank), and surely in more than it
surely rises in, while the error, the mean of both groups', rises by at most a quarter of a point in
the mean of the cells.

Run ``python benchmarks/neutral_loss.py [--seeds 10] [--json FILE] [--markdown FILE]``; rows are
stored in ``--results`` at once, and what is there is not done again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _shared.program import options_of, rows_of, write
from _tradeoff.data import Split, load, missing
from scipy.stats import t as student

from skfairft import FairLowRankHeadClassifier, FairnessWarning
from skfairft.metrics import demographic_parity_distance, equalized_odds_distance

TASKS = ("adult-64", "adult-64-hours-3", "bank", "communities", "lfw", "celeba", "synthetic-2-8000")
SHARES = (0.2, 0.05, 0.02)
RANKS = {"adult-64-hours-3": (None, 1)}
KEYS = ["task", "rare", "share", "rank"]
WHAT = ("worst loss", "rare loss", "mean loss", "worst Err", "rare Err", "mean Err", "ΔDP", "ΔEO")


def of_share(s: np.ndarray, rare: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return numbers of rows, as many as there are of which so many are of the rare group."""
    few, many = np.flatnonzero(s == rare), np.flatnonzero(s != rare)
    n = min(int(len(few) / share), int(len(many) / (1.0 - share)))
    size = max(2, round(share * n))
    return np.sort(
        np.concatenate(
            [rng.choice(few, size, replace=False), rng.choice(many, n - size, replace=False)]
        )
    )


def measure(clf: FairLowRankHeadClassifier, split: Split, rare: int) -> dict[str, float]:
    """Return losses and errors by group, and distances, on test rows."""
    X, y, s = split.test.Z, split.test.y, split.test.s
    p = clf.predict_proba(X)
    loss = -np.log(np.clip(p[np.arange(len(y)), y], 1e-12, None))
    wrong = 100.0 * (p.argmax(1) != y)
    losses, errors = ([of[s == group].mean() for group in (0, 1)] for of in (loss, wrong))
    who = {"sensitive_features": s}
    return {
        "worst loss": max(losses),
        "rare loss": losses[rare],
        "mean loss": np.mean(losses),
        "worst Err": max(errors),
        "rare Err": errors[rare],
        "mean Err": np.mean(errors),
        "ΔDP": demographic_parity_distance(y, p.argmax(1), **who),
        "ΔEO": equalized_odds_distance(y, p.argmax(1), **who),
    }


def fits(name: str, seeds: int, cache: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a task that are not done."""
    ranks = RANKS.get(name, (None,))
    for seed, rare, share, rank in product(range(seeds), (0, 1), SHARES, ranks):
        key = f"{name}|{rare}|{share}|{rank}|{seed}"
        if key in done:
            continue
        split = load(name, seed, cache)
        rng = np.random.default_rng([seed, rare, round(1000 * share)])
        rows = of_share(split.train.s, rare, share, rng)
        Z, y, s = split.train.Z[rows], split.train.y[rows], split.train.s[rows]
        row: dict[str, Any] = {
            "key": key,
            "task": name,
            "rare": rare,
            "share": share,
            "rank": rank or 0,
            "seed": seed,
            "n": len(rows),
        }
        for neutral in (False, True):
            clf = FairLowRankHeadClassifier(
                rank=rank, neutral_loss=neutral, C="auto", random_state=seed
            ).fit(Z, y, sensitive_features=s)
            found = measure(clf, split, rare)
            kind = "on" if neutral else "off"
            row |= {f"{what} {kind}": round(float(value), 5) for what, value in found.items()}
        yield row


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean, and ends of Student's 95 % interval, of on minus off, paired over the seeds."""
    out = []
    for cell, own in rows.groupby(KEYS, sort=False):
        line = dict(zip(KEYS, cell, strict=True))
        for what in WHAT:
            each = own[f"{what} on"] - own[f"{what} off"]
            half = student.ppf(0.975, len(each) - 1) * each.std() / len(each) ** 0.5
            line |= {what: each.mean(), f"{what} low": each.mean() - half}
            line |= {f"{what} high": each.mean() + half, f"{what} off": own[f"{what} off"].mean()}
        out.append(line)
    return pd.DataFrame(out)


def verdict(rows: pd.DataFrame, what: str = "worst loss") -> dict[str, float]:
    """Return how often a number is lower, higher, and surely so, at shares of at most .05."""
    cells = differences(rows[rows["share"] <= 0.05])
    return {
        "cells": len(cells),
        "lower": int((cells[what] < 0).sum()),
        "surely lower": int((cells[f"{what} high"] < 0).sum()),
        "surely higher": int((cells[f"{what} low"] > 0).sum()),
        "mean": float(cells[what].mean()),
    }


def markdown(rows: pd.DataFrame) -> str:
    """Return the verdicts and a table of the cells."""
    lines = ["| on minus off | cells | lower | surely | surely higher | mean |", "|---" * 6 + "|"]
    for what in WHAT:
        of = verdict(rows, what)
        lines.append(
            f"| {what} | {of['cells']} | {of['lower']} | {of['surely lower']} | "
            f"{of['surely higher']} | {of['mean']:+.3f} |"
        )
    lines += ["", f"| {' | '.join([*KEYS, *WHAT])} |", "|---" * (4 + len(WHAT)) + "|"]
    for cell in differences(rows).to_dict("records"):
        parts = [
            f"{cell[what]:+.3f} ({cell[f'{what} low']:+.3f} to {cell[f'{what} high']:+.3f})"
            for what in WHAT
        ]
        rank = cell["rank"] or "full"
        name = f"{cell['task']} | {cell['rare']} | {cell['share']:g} | {rank}"
        lines.append(f"| {name} | {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is not there, and summarize."""
    options = options_of(__doc__, tasks=TASKS).parse_args()
    warnings.simplefilter("ignore", FairnessWarning)  # of groups made thin
    rows = rows_of(
        options,
        options.tasks,
        lambda task, done: fits(task, options.seeds, options.cache, done),
        lacking=missing,
        wanted=lambda row: row["seed"] < options.seeds,
    )
    if rows:
        write(options, rows, markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
