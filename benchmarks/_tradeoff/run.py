"""Runs, each stored as one JSON file: what exists is not computed again.

A file holds the candidates' labels and, on val and on test, the confusion counts of each group,
(candidates, groups, true label, predicted label): all metrics follow from them.
"""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from .data import TASKS, Part, Split, load
from .peers import METHODS, Method, strength

PACKAGES = (
    *("skfairft", "fairlearn", "concept-erasure", "fairret", "oxonfair", "aif360", "error-parity"),
    *("scikit-learn", "torch", "numpy"),
)


def confusion(part: Part, predicted: Iterable[np.ndarray], n_groups: int, k: int) -> list[Any]:
    """Return counts (candidates, G, k, k) as lists."""
    base = (part.s * k + part.y) * k
    tables = [np.bincount(base + p, minlength=k * k * n_groups) for p in predicted]
    return [table.reshape(n_groups, k, k).tolist() for table in tables]


def applies(method: Method, dataset: str, constraint: str) -> bool:
    """Tell whether a method takes a task."""
    taken = method.datasets is None or dataset in method.datasets
    taken = taken and TASKS[dataset].n_classes in method.classes
    return taken and constraint in method.constraints


def path_of(results: Path, dataset: str, seed: int, constraint: str, name: str) -> Path:
    """Return the file of one run."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return results / f"{dataset}.{seed}.{constraint}.{slug}.json"


def versions() -> dict[str, str]:
    """Return the packages' versions, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def run_one(split: Split, constraint: str, name: str) -> dict[str, Any]:
    """Run a method on a task; an error becomes part of the result."""
    method = METHODS[name]
    out: dict[str, Any] = {
        "dataset": split.name,
        "seed": split.seed,
        "constraint": constraint,
        "method": name,
        "needs_group": method.needs_group,
        "C": strength(split),
        "versions": versions(),
        "error": None,
    }
    start = _cpu_seconds()
    try:
        curve = method.run(split, constraint, split.seed)
    except Exception as error:
        out["error"] = f"{type(error).__name__}: {error}"
        out["traceback"] = traceback.format_exc()[-2000:]
        return out
    shape = split.n_groups, split.n_classes
    return {
        **out,
        "labels": curve.labels,
        "val": confusion(split.val, curve.val, *shape) if curve.counts is None else curve.counts,
        "test": confusion(split.test, curve.test, *shape),
        "seconds": round(curve.seconds, 4),
        "cpu_seconds": round(_cpu_seconds() - start, 4),
    }


def _cpu_seconds() -> float:
    """Return the processor time of this process and its children, which other load spares."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def run_all(
    datasets: list[str],
    constraints: list[str],
    methods: list[str],
    seeds: Iterable[int],
    cache: Path,
    results: Path,
    retry: bool = False,
) -> None:
    """Run what is not in the folder ``results`` yet: seed by seed, the first methods first.

    Parameters
    ----------
    datasets, constraints, methods : list of str
        What to run.
    seeds : iterable of int
        Splits.
    cache, results : path
        Folders of features and of results.
    retry : bool, default=False
        Run again what failed before.
    """
    results.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        splits: dict[str, Split] = {}
        todo = [
            (name, dataset, constraint)
            for name in methods
            for dataset in datasets
            for constraint in constraints
            if applies(METHODS[name], dataset, constraint)
            and _is_due(path_of(results, dataset, seed, constraint, name), retry)
        ]
        failed = 0
        bar = tqdm(todo, desc=f"seed {seed}", unit="curve", mininterval=1)
        for name, dataset, constraint in bar:
            if dataset not in splits:
                splits[dataset] = load(dataset, seed, cache)
            bar.set_postfix_str(f"{name}, {dataset}, {failed} failed")
            result = run_one(splits[dataset], constraint, name)
            failed += result["error"] is not None
            if result["error"] is not None:
                tqdm.write(f"{name}, {dataset}, {constraint}, seed {seed}: {result['error'][:200]}")
            path = path_of(results, dataset, seed, constraint, name)
            partial = path.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(json.dumps(result))
            partial.replace(path)


def _is_due(path: Path, retry: bool) -> bool:
    if not path.exists():
        return True
    return retry and json.loads(path.read_text())["error"] is not None


def read(results: Path) -> list[dict[str, Any]]:
    """Return all stored results."""
    return [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
