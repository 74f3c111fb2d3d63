"""Bounds on ratios, and several bounds at once: what they cost, and who keeps them.

Adult with 64 features by sex, bank by age and CelebA (Wavy_Hair by Male), as `_tradeoff.data`
makes them. Methods (``_several/methods.py``) have the rows of train and val, and are measured on
test: the error (100 minus weighted F1), the accuracy, what was reached of each bound, and the
excess, the largest by which one was missed, 0 where all hold. No method is told the groups at
prediction.

Ratios: demographic parity with the smallest selection rate at least 0.8 or 0.9 of the largest.

- ``plug_in`` with this ``ratio_bound``, without and with a ``confidence`` of 95 %; ``fine_tune``,
  which takes long, at 0.8 alone;
- the path of ``plug_in`` over differences, of whose points the one of least error that has the
  ratio is chosen;
- fairlearn's ``ExponentiatedGradient`` around the logistic regression of the trade-off. Its
  ``ratio_bound`` is one on the ratio of each group's rate to that of *all rows*, and the ratio
  between groups may be less. "As written" gives it the same number; "translated" the one that,
  with two groups of these sizes, asks for the same as ours does.

Several: two pairs of demands.

- "parity and rate": the demographic parity difference and the worst false negative rate, each at
  most half of what the logistic regression without a constraint, fitted on train, has on val, to
  two digits;
- "ratio and odds": a demographic parity ratio of at least 0.8, and an equalized odds difference of
  at most 0.2.

Of these ``plug_in`` keeps both, without and with a confidence. Others tighten *one*, until both
hold on the rows that judge: of the path of ``plug_in`` of the first or of the second, with its
moved thresholds, the point of least error that meets both; or the reduction, which takes one
constraint only, with the largest of eight bounds on its difference whose model of train meets both
on val, fitted again on both parts. (It has no constraint on a largest rate, and is left out on the
faces, where it would take longer than all else.)

Rules, written before the run. Ten seeds, five of the faces. Differences are paired over the seeds,
and "surely" is where Student's 95 % interval is on one side of 0. In a cell, a task with what is
asked, ours is *ahead* of a peer if it is surely better in error or in the second number and surely
worse in neither, *behind* the other way round, *mixed* if surely better in one and surely worse in
the other, else *level*. The second number is the ratio that was reached, and for several the
excess.

- Ratios: ``plug_in`` is worth its place if it is ahead of or level with the translated reduction
  in each of the six cells, and ahead in at least three; ``fine_tune`` likewise, of three cells and
  two.
- Several: ``plug_in`` is worth its place if in each of the six cells it meets both bounds on the
  judged rows in as many runs as each of the two paths, is ahead of or level with both, and in at
  least three ahead of the better one: that which meets both more often and, at a tie, has less
  error.

Whether bounds hold on test rows stands beside it: a bound without a confidence is met on the
judged rows, and so on others about every other time, several of them less often.

Seconds are not measured: fits of one seed share a head. Run ``python benchmarks/several.py
[--seeds 10] [--json FILE] [--markdown FILE]``; rows are stored in ``--results`` at once, and what
is there is not done again. Faces and bank need SKFAIRFT_DATA (benchmarks/README.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _several import tables
from _several.methods import METHODS_OF_RATIOS, METHODS_OF_SEVERAL, Asked, Method, reached
from _shared.program import options_of, rows_of, seeds_of, write
from _tradeoff.data import Split, load, missing
from _tradeoff.peers import linear

from skfairft.metrics import weighted_f1_error
from skfairft.parity.demands import Demand

TASKS = ("adult-64", "bank", "celeba")
IMAGES = ("celeba",)
SEEDS_OF_IMAGES = 5
RATIOS = (0.8, 0.9)
DIGITS = 5


def levels(split: Split) -> list[float]:
    """Return the bounds of "parity and rate": half of what is there without a constraint."""
    train, val = split.train, split.val
    predicted = linear(split).fit(train.Z, train.y).predict(val.Z)
    asked = (Demand("demographic_parity"), Demand("worst_false_negative_rate"))
    return [round(reached(each, val, predicted) / 2.0, 2) for each in asked]


def asked_of(split: Split) -> dict[str, Asked]:
    """Return what is asked on a task, by its name."""
    parity, rate = levels(split)
    return {
        **{
            f"ratio {ratio}": (Demand("demographic_parity", ratio=True, bound=ratio),)
            for ratio in RATIOS
        },
        "parity and rate": (
            Demand("demographic_parity", bound=parity),
            Demand("worst_false_negative_rate", bound=rate),
        ),
        "ratio and odds": (
            Demand("demographic_parity", ratio=True, bound=0.8),
            Demand("equalized_odds", bound=0.2),
        ),
    }


def methods_of(task: str, name: str, asked: Asked) -> dict[str, Method]:
    """Return the methods that are run for what is asked."""
    found = dict(METHODS_OF_RATIOS if len(asked) == 1 else METHODS_OF_SEVERAL)
    left_out = {"fine_tune"} if name != "ratio 0.8" else set()
    if task in IMAGES:
        left_out |= {each for each in found if "tightened" in each}
    if name == "parity and rate":
        left_out.add("reduction, the second tightened")
    return {each: method for each, method in found.items() if each not in left_out}


def measured(split: Split, asked: Asked, method: Method) -> dict[str, Any]:
    """Fit, and return what is measured on test rows."""
    fit, test = method(split, asked, split.seed), split.test
    predicted = np.asarray(fit.predict(test.Z))
    values = [reached(each, test, predicted) for each in asked]
    excess = [
        each.bound - value if each.ratio else value - each.bound
        for each, value in zip(asked, values, strict=True)
        if each.bound is not None
    ]
    return {
        "bounds": [each.bound for each in asked],
        "met": fit.met,
        "reached": [round(value, DIGITS) for value in values],
        "excess": float(max(0.0, *excess)),
        "Err": float(weighted_f1_error(test.y, predicted)),
        "accuracy": float(100.0 * np.mean(predicted == test.y)),
    }


def fits(task: str, seeds: int, cache: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a task that are not done."""
    for seed in range(seeds):
        split = load(task, seed, cache)
        for name, asked in asked_of(split).items():
            for called, method in methods_of(task, name, asked).items():
                key = f"{task}|{seed}|{name}|{called}"
                if key not in done:
                    of = {"key": key, "task": task, "seed": seed, "asked": name, "method": called}
                    yield of | measured(split, asked, method)


def main() -> None:
    """Run what is not there, and summarize."""
    options = options_of(__doc__, tasks=TASKS).parse_args()
    # Of bounds that are not met, and of training that max_epochs ended.
    warnings.simplefilter("ignore")
    seeds = seeds_of(options.seeds, TASKS, IMAGES, SEEDS_OF_IMAGES)
    rows = rows_of(
        options,
        options.tasks,
        lambda task, done: fits(task, seeds[task], options.cache, done),
        lacking=missing,
        wanted=lambda row: row["seed"] < seeds[row["task"]],
    )
    if rows:
        frame = pd.DataFrame(rows)
        write(options, rows, tables.markdown(frame), tables.verdict(frame))


if __name__ == "__main__":
    main()
