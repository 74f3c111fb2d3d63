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
the tables of the rows that ``--docs`` stored. ``--docs`` writes both: worst_group.json.gz and
worst_group_tables.md. Run ``python benchmarks/worst_group.py [--tasks lfw bank] [--methods DFR]
[--docs docs]``; faces, bank, communities and sentences need SKFAIRFT_DATA (benchmarks/README.md).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _shared.rows import packed, resumed, unpacked
from _tradeoff.data import DEFAULT_CACHE, Split, load, missing
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of features")
    parser.add_argument(
        "--results", type=Path, default=Path(tempfile.gettempdir()) / "skfairft-worst-group"
    )
    parser.add_argument("--docs", type=Path, help="folder to write rows and tables to")
    parser.add_argument("--rows", type=Path, help="rows to make the tables of, as --docs wrote")
    options = parser.parse_args()
    rows = unpacked(options.rows) if options.rows else _run(options)
    if not rows:
        return
    text = tables.markdown(pd.DataFrame(rows))
    if options.docs is None:
        print(text)
        return
    (options.docs / "worst_group_tables.md").write_text(text, encoding="utf-8")
    (options.docs / "worst_group.json.gz").write_bytes(packed(rows))


def _run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what is not there, and return the rows that are asked for, in one order."""
    torch.set_num_threads(1)
    options.results.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for task in options.tasks:
        lacking = missing(task)
        if lacking is not None:
            print(f"{task} is left out: {lacking}")
            continue
        made = partial(runs, task, options.methods, options.seeds, options.cache)
        found = resumed(options.results / f"{task}.jsonl", made)
        own = [
            row for row in found if row["seed"] < options.seeds and row["method"] in options.methods
        ]
        order = {name: i for i, name in enumerate(METHODS)}
        rows += sorted(own, key=lambda row: (row["seed"], order[row["method"]]))
    return rows


if __name__ == "__main__":
    main()
