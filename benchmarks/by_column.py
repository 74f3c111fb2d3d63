"""Parity of each sensitive column by itself, or of their intersections: what each costs and brings.

Adult with 64 features: income, with sex and race (White, Black, other) as two sensitive columns.
For each bound on the demographic parity distance heads are fitted on train and val together, and
tested on the rest:

- ``plug_in`` with ``groups="columns"``, and with intersections, each with a ``difference_bound``;
- fairlearn's ``ExponentiatedGradient`` around a logistic regression. It takes several columns for
  their intersections, and has no way to ask for each column by itself in one go: intersections are
  what its user would ask for. Beside it stands a trick that does ask for the same as ours: each row
  twice, once with its sex as its group and once with its race. Its bound is one on the difference
  to all rows; half of ours promises as much.

The rules, written before the run. By columns is worth its place if, at every bound, it has surely
less error than by intersections with the same solver, and no surely larger distance by column than
the reduction of the rows twice (paired over seeds, Student's 95 %). It is the better way to the
same demand if at every bound its error is not surely larger than that reduction's. What it does
not promise, the distance between intersections, stands beside it, whatever it is.

Run ``python benchmarks/by_column.py [--seeds 10] [--json FILE] [--markdown FILE]``; rows are stored
in ``--results`` at once, and what is there is not done again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _shared.program import options_of, rows_of, write
from _tradeoff.data import Part, load
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from skfairft import FairLowRankHeadClassifier, FairnessWarning
from skfairft.metrics import demographic_parity_distance, weighted_f1_error

TASK = "adult-64-race-sex-6"
BOUNDS = (0.1, 0.05, 0.02)
WHAT = ("Err", "by column", "intersections", "seconds")

Predict = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray, pd.DataFrame, float, int], Predict]


def columns_of(part: Part) -> pd.DataFrame:
    """Return sex and race of rows, whose groups the task numbers."""
    names = pd.DataFrame({"sex": part.s % 2, "race": part.s // 2})
    return names.replace({"sex": {0: "m", 1: "f"}, "race": {0: "White", 1: "Black", 2: "other"}})


def plug_in(
    Z: np.ndarray, y: np.ndarray, s: pd.DataFrame, bound: float, seed: int, *, groups: str
) -> Predict:
    """Fit the plug-in rule with a bound."""
    clf = FairLowRankHeadClassifier(
        constraint="demographic_parity",
        groups=groups,
        difference_bound=bound,
        solver="plug_in",
        random_state=seed,
    )
    return clf.fit(Z, y, sensitive_features=s).predict


def unconstrained(
    Z: np.ndarray, y: np.ndarray, s: pd.DataFrame, bound: float, seed: int
) -> Predict:
    """Fit the same head without a constraint."""
    clf = FairLowRankHeadClassifier(solver="plug_in", random_state=seed)
    return clf.fit(Z, y, sensitive_features=s).predict


def reduction(
    Z: np.ndarray, y: np.ndarray, s: pd.DataFrame, bound: float, seed: int, *, twice: bool
) -> Predict:
    """Fit fairlearn's reduction; of rows that are there twice each column is a group by itself."""
    from fairlearn.reductions import DemographicParity, ExponentiatedGradient

    groups: Any = s
    if twice:
        Z, y = np.concatenate([Z, Z]), np.concatenate([y, y])
        groups = np.concatenate([s["sex"].to_numpy(), s["race"].to_numpy()])
    model = ExponentiatedGradient(
        LogisticRegression(max_iter=1000), DemographicParity(difference_bound=bound / 2.0)
    )
    model.fit(Z, y, sensitive_features=groups)
    return partial(model.predict, random_state=seed)


METHODS: dict[str, Fit] = {
    "no constraint": unconstrained,
    "plug_in, columns": partial(plug_in, groups="columns"),
    "plug_in, intersections": partial(plug_in, groups="intersections"),
    "reduction, rows twice": partial(reduction, twice=True),
    "reduction, intersections": partial(reduction, twice=False),
}


def fits(seeds: int, cache: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows that are not done."""
    for seed, bound, name in product(range(seeds), BOUNDS, METHODS):
        key = f"{name}|{bound}|{seed}"
        if key in done or (name == "no constraint" and bound != BOUNDS[0]):
            continue
        split = load(TASK, seed, cache)
        Z, y = (
            np.concatenate([getattr(part, field) for part in (split.train, split.val)])
            for field in ("Z", "y")
        )
        s = pd.concat([columns_of(split.train), columns_of(split.val)], ignore_index=True)
        start = time.perf_counter()
        predict = METHODS[name](Z.astype(np.float64), y, s, bound, seed)
        seconds = time.perf_counter() - start
        own, pred = columns_of(split.test), predict(split.test.Z.astype(np.float64))
        yield {
            "key": key,
            "method": name,
            "bound": bound,
            "seed": seed,
            "n": len(y),
            "Err": weighted_f1_error(split.test.y, pred),
            **{
                what: demographic_parity_distance(
                    split.test.y, pred, sensitive_features=own, groups=groups
                )
                for what, groups in (("by column", "columns"), ("intersections", "intersections"))
            },
            "seconds": round(seconds, 2),
        }


def paired(rows: pd.DataFrame, what: str, bound: float, first: str, second: str) -> list[float]:
    """Return mean and ends of Student's 95 % interval of first minus second, over the seeds."""
    table = rows[rows["bound"] == bound].pivot(index="seed", columns="method", values=what)
    each = table[first] - table[second]
    half = student.ppf(0.975, len(each) - 1) * each.std() / len(each) ** 0.5
    return [each.mean(), each.mean() - half, each.mean() + half]


def verdict(rows: pd.DataFrame) -> dict[str, bool]:
    """Return what the rules say."""
    own = "plug_in, columns"
    cheaper = [paired(rows, "Err", b, own, "plug_in, intersections")[2] < 0.0 for b in BOUNDS]
    as_near = [paired(rows, "by column", b, own, "reduction, rows twice")[1] <= 0.0 for b in BOUNDS]
    as_good = [paired(rows, "Err", b, own, "reduction, rows twice")[1] <= 0.0 for b in BOUNDS]
    return {"worth its place": all(cheaper) and all(as_near), "the better way": all(as_good)}


def markdown(rows: pd.DataFrame) -> str:
    """Return a table of means, and one of paired differences."""
    lines = [
        "| bound | | error (%) | by column | intersections | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for (bound, name), own in rows.groupby(["bound", "method"], sort=False):
        of = own[list(WHAT)].mean()
        shown = "" if name == "no constraint" else f"{bound:g}"
        lines.append(
            f"| {shown} | {name} | {of['Err']:.2f} | {of['by column']:.3f} | "
            f"{of['intersections']:.3f} | {of['seconds']:.0f} |"
        )
    lines += [
        "",
        "| bound | by columns minus | error | by column | intersections |",
        "|---" * 5 + "|",
    ]
    others = [name for name in METHODS if name not in ("no constraint", "plug_in, columns")]
    for bound, other in product(BOUNDS, others):
        parts = []
        for what, digits in (("Err", 2), ("by column", 3), ("intersections", 3)):
            mean, low, high = paired(rows, what, bound, "plug_in, columns", other)
            parts.append(f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})")
        lines.append(f"| {bound:g} | {other} | {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is not there, and summarize."""
    options = options_of(__doc__).parse_args()
    warnings.simplefilter("ignore", FairnessWarning)
    rows = rows_of(
        options,
        ["rows"],
        lambda task, done: fits(options.seeds, options.cache, done),
        wanted=lambda row: row["seed"] < options.seeds,
    )
    frame = pd.DataFrame(rows)
    write(options, rows, markdown(frame), verdict(frame))


if __name__ == "__main__":
    main()
