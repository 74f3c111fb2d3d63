"""The accuracy of the worst cell of label and group: ours beside what others do about it.

Methods are linear heads on the same frozen, standardized features (``_worst_group/peers.py``, and
``ours.py``), and all have the same rows, those of train and val with their groups. What others
choose (strengths, adjustments, thresholds), they choose on val or out of fold, and are then fitted
to all of these rows; no test row is seen before the end. Ours are fitted once.

Rules, written before the run: ten seeds of each task, of faces with other people in test, of
sentences with other documents. On test rows: the accuracy of each cell, the least of them ("worst
cell"), the least of a group, the share of all rows that is right, the mean of the two classes'
shares ("balanced"). Seconds are those of one thread with the features at hand, choice included, and
CPU seconds those of the process. Differences to group DRO are paired over the seeds, with mean and
standard deviation; "surely" is where Student's 95 % interval is on one side of 0; over the tasks,
mean and standard deviation of the tasks' means. Every task, method and seed is in the tables, and a
method that fails is named.

The smallest cells are small: the worst cell's accuracy then moves by points from split to split.
The table of tasks says how many rows they have.

Each run is stored in ``--results`` at once, and what is there is not run again; ``--rows`` makes
the tables of the rows that ``--json`` stored. Run ``python benchmarks/worst_group.py [--tasks lfw
bank] [--methods DFR] [--json FILE] [--markdown FILE]``; faces, bank, communities and sentences need
SKFAIRFT_DATA (benchmarks/README.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _shared.program import options_of, rows_of, write
from _tradeoff.data import Split, load, missing
from _tradeoff.peers import together
from _worst_group import ours, peers, tables
from _worst_group.choice import METHODS, cells_of

__all__ = ["METHODS", "TASKS", "main", "ours", "peers", "run_one"]

TASKS = (
    *("celeba", "celeba-blond", "lfw", "adult-64-sex-race", "adult-64-race-sex-6", "bank"),
    *("communities", "sentences", "sentences-source", "adult-64-500", "bank-500"),
)


def run_one(split: Split, name: str) -> dict[str, Any]:
    """Return the row of a method on a task: counts of each cell, labels first."""
    wall, cpu = time.perf_counter(), time.process_time()
    fit = METHODS[name](split)
    seconds = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    test, cells = split.test, 2 * split.n_groups
    right = np.asarray(fit.predict(test.Z)).ravel() == test.y
    codes = cells_of(test, split.n_groups)
    return {
        "key": f"{split.name}|{split.seed}|{name}",
        "task": split.name,
        "seed": split.seed,
        "method": name,
        "chosen": fit.chosen,
        **{key: round(value, 4) for key, value in seconds.items()},
        "gap": fit.more.get("gap"),
        "fitted": np.bincount(cells_of(together(split), split.n_groups), minlength=cells).tolist(),
        "tested": np.bincount(codes, minlength=cells).tolist(),
        "right": np.bincount(codes[right], minlength=cells).tolist(),
    }


def runs(
    task: str, methods: list[str], seeds: int, cache: Path, done: set[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a task that are not done. What fails is named and not stored."""
    for seed in range(seeds):
        due = [name for name in methods if f"{task}|{seed}|{name}" not in done]
        if not due:
            continue
        split = load(task, seed, cache)
        for name in due:
            try:
                yield run_one(split, name)
            except Exception as error:
                print(f"{task}, seed {seed}, {name} failed: {type(error).__name__}: {error}")


def main() -> None:
    """Run what is not there, and summarize."""
    parser = options_of(__doc__, tasks=TASKS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    options = parser.parse_args()
    rows = rows_of(
        options,
        options.tasks,
        lambda task, done: runs(task, options.methods, options.seeds, options.cache, done),
        lacking=missing,
        wanted=lambda row: row["seed"] < options.seeds and row["method"] in options.methods,
    )
    if not rows:
        return
    tasks, methods = (list(dict.fromkeys(row["task"] for row in rows)), list(METHODS))
    rows.sort(key=lambda row: (tasks.index(row["task"]), row["seed"], methods.index(row["method"])))
    write(options, rows, tables.markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
