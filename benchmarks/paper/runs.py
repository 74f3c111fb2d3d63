"""Runs of the experiments, one JSON file per task and seed: what is stored is not run again.

A unit is one experiment on one task under one seed. Interrupted runs lose the units at work only;
failed units are reported, not stored, and run again the next time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from _shared.faces import load_faces
from tqdm.auto import tqdm

from skfairft import FairLowRankHeadClassifier
from skfairft.datasets import make_biased_classification

from .experiments import EXPERIMENTS
from .systems import Bench, choose_C
from .tasks import Store, Task, faces_of, few_rows, load, missing, with_train

PACKAGES = ("skfairft", "torch", "skorch", "scikit-learn", "fairlearn", "numpy", "scipy")
QUICK_ROWS, QUICK_IMAGES = 500, 1000


@dataclass(frozen=True)
class Unit:
    """One experiment on one task under one seed."""

    experiment: str
    task: str
    seed: int

    def path(self, folder: Path) -> Path:
        """Return the file of its rows."""
        slug = re.sub(r"[^a-zA-Z0-9.]+", "-", f"{self.experiment} {self.task}")
        return folder / f"{slug}.{self.seed}.json"


def units(experiments: Iterable[str], seeds: Iterable[int]) -> tuple[list[Unit], dict[str, str]]:
    """Return what can be run, seed by seed, and for each task that cannot what it lacks."""
    lacking: dict[str, str] = {}
    wanted = []
    for seed in seeds:
        for name in experiments:
            for task in EXPERIMENTS[name].tasks:
                if task not in lacking and (lack := missing(task)) is not None:
                    lacking[task] = lack
                if task not in lacking:
                    wanted.append(Unit(name, task, seed))
    # Tasks of the same data one after another: a process keeps the last data in memory.
    wanted.sort(key=lambda unit: (unit.seed, unit.task.split(", ")[:2], unit.experiment))
    return wanted, lacking


def extract(wanted: Iterable[Unit], store: Store) -> None:
    """Extract the features of all face data that the units need, once, with all cores."""
    for source in dict.fromkeys(faces_of(unit.task) for unit in wanted):
        if source is not None:
            load_faces(*source, store.folder, store.limit)


def store_of(cache: Path, quick: bool) -> Store:
    """Return the store of a run."""
    return Store(cache, QUICK_IMAGES if quick else None)


def run_unit(unit: Unit, cache: Path, quick: bool) -> dict[str, Any]:
    """Compute the rows of a unit."""
    experiment = EXPERIMENTS[unit.experiment]
    task = load(unit.task, unit.seed, store_of(cache, quick))
    if quick:
        task = _smaller(task)
    start = time.perf_counter()
    C = _strength(task, cache, quick) if experiment.fits else 1.0
    rows = list(experiment.rows(Bench(task, C, quick)))
    return {
        "experiment": unit.experiment,
        "task": unit.task,
        "seed": unit.seed,
        "seconds": time.perf_counter() - start,
        "rows": rows,
    }


def _smaller(task: Task) -> Task:
    return with_train(task, few_rows(task.train, min(QUICK_ROWS, len(task.train.y)), task.seed))


def _strength(task: Task, cache: Path, quick: bool) -> float:
    """Return `choose_C` of a task, which all of its experiments share."""
    slug = re.sub(r"[^a-zA-Z0-9.]+", "-", task.name)
    path = cache / f"C-{slug}-{task.seed}{'-quick' if quick else ''}.json"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _write(path, choose_C(task))
    return float(json.loads(path.read_text()))


def _start_process() -> None:
    """Prepare a process of the pool: one thread each, the pool uses the cores."""
    # Ctrl-C reaches all processes of a terminal: the parent ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    # The first fit of a process loads what the others find loaded, and would seem slow.
    X, y, s = make_biased_classification(100, random_state=0)
    FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
    # Rows name the warnings of their fits; those of loading data were said before.
    warnings.filterwarnings("ignore", message="IProgress not found")


def _work(unit: Unit, cache: Path, results: Path, quick: bool) -> tuple[Unit, str | None]:
    """Run and store a unit; return it and, if it failed, why."""
    try:
        _write(unit.path(results), run_unit(unit, cache, quick))
    except Exception:
        return unit, traceback.format_exc()
    return unit, None


def run(
    experiments: list[str], seeds: Iterable[int], cache: Path, results: Path, quick: bool, jobs: int
) -> int:
    """Run the units that are not stored yet; return how many failed.

    Parameters
    ----------
    experiments : list of str
        Names in `EXPERIMENTS`.
    seeds : iterable of int
        Seeds of splits and networks.
    cache, results : path
        Folders of features and networks, and of the units' rows.
    quick : bool
        On 1,000 images of each dataset and 500 training rows.
    jobs : int
        Processes.
    """
    results.mkdir(parents=True, exist_ok=True)
    wanted, lacking = units(experiments, seeds)
    for task, lack in lacking.items():
        print(f"{task} is left out: {lack}", file=sys.stderr)
    due = [unit for unit in wanted if not unit.path(results).exists()]
    if not due:
        return 0
    about = _about(results)
    start = time.perf_counter()
    extract(due, store_of(cache, quick))
    about["extraction seconds"] += time.perf_counter() - start
    _write(results / "about.json", about)
    before, start = about["seconds"], time.perf_counter()
    failed = 0
    # Spawned: forked children of a process that has used torch's threads may hang.
    work = partial(_work, cache=cache, results=results, quick=quick)
    pool = get_context("spawn").Pool(jobs, _start_process)
    with pool, tqdm(total=len(due), unit="unit", mininterval=1) as bar:
        for unit, error in pool.imap_unordered(work, due):
            bar.set_postfix_str(f"{unit.experiment}, {unit.task}, seed {unit.seed}")
            bar.update()
            if error is not None:
                failed += 1
                tqdm.write(f"{unit} failed:\n{error}", file=sys.stderr)
            about["seconds"] = before + time.perf_counter() - start
            _write(results / "about.json", about)
    return failed


def _about(results: Path) -> dict[str, Any]:
    """Return where and with what this runs, and the seconds that it took so far."""
    path = results / "about.json"
    if path.exists():
        return json.loads(path.read_text())
    return {
        "versions": {package: metadata.version(package) for package in PACKAGES},
        "python": ".".join(map(str, sys.version_info[:3])),
        "cores": os.cpu_count(),
        "seconds": 0.0,
        "extraction seconds": 0.0,
    }


def read(results: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return all stored rows, with experiment, task and seed, and what they ran on.

    In the order of `EXPERIMENTS`.
    """
    stored = [json.loads(path.read_text()) for path in results.glob("*.[0-9]*.json")]
    places = [(name, task) for name, each in EXPERIMENTS.items() for task in each.tasks]
    stored.sort(key=lambda unit: (places.index((unit["experiment"], unit["task"])), unit["seed"]))
    keys = ("experiment", "task", "seed")
    rows = [{key: unit[key] for key in keys} | row for unit in stored for row in unit["rows"]]
    return rows, _about(results)


def is_whole(rows: list[dict[str, Any]]) -> bool:
    """Tell whether rows hold every task of every experiment on ten seeds."""
    there = {(row["experiment"], row["task"], row["seed"]) for row in rows}
    return there >= {
        (name, task, seed)
        for name, each in EXPERIMENTS.items()
        for task in each.tasks
        for seed in range(10)
    }


def _write(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    unfinished = path.with_suffix(f".{os.getpid()}.partial")
    unfinished.write_text(json.dumps(value))
    unfinished.replace(path)
