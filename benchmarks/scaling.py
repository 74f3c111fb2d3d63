"""Fits on a cluster of Dask: seconds, memory of the workers, bytes over the network, and a plan.

All on two processes of one thread each on this machine, unless it says otherwise:

- **rows**: fits of n generated rows x 256 features, made where they lie, by workers of 1 GB each;
  beside the same fit in memory where that is small enough. The fits are the closed form of
  demographic parity at half its weight, and the plug-in rule with a bound of .05 at a confidence of
  95 %, by five folds;
- **workers**: the closed form, and a network over images, by one worker and by two;
- **here**: what a row takes of the memory of this process, client and scheduler, at its peak;
- **passes**: the same sum over all rows, by as many workers as threads of one process and chunks of
  a few rows: what the scheduler takes for each chunk.

Counted are the bytes that client, scheduler and workers write to each other over TCP, by Dask's own
count; peaks are resident bytes of a worker's process, of which torch itself takes about 400 MB.

Run ``python benchmarks/scaling.py [--tasks NAME ...] [--results FILE] [--json FILE]
[--page FILE]`` with nothing else running; what is in ``--results`` is not measured again, and
``--rows FILE`` makes the tables of what ``--json`` wrote. A page takes each table where it says
``<!-- task -->``, and the plan where it says ``<!-- plan -->``. ``--smoke`` is small and stores
nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _scaling import generated
from _scaling.traffic import counted_cluster, peaks, total
from _shared.rows import resumed
from _shared.timing import machine
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.rows import dask as chunked
from skfairft.rows.blocks import reduce_blocks

D, CHUNK = 256, 50_000
FITS: dict[str, dict[str, Any]] = {
    "closed form": {
        "constraint": "demographic_parity",
        "fairness_weight": 0.5,
        "solver": "closed_form",
    },
    "plug-in, a bound": {
        "constraint": "demographic_parity",
        "difference_bound": 0.05,
        "confidence": 0.95,
        "solver": "plug_in",
    },
}

# Whose memory here is measured.
HERE = {**FITS, "plug-in, a bound by a tenth": {**FITS["plug-in, a bound"], "cv": 0.1}}

Row = dict[str, Any]


class Passes:
    """Counts computations on the cluster, and their seconds."""

    def __enter__(self) -> Passes:
        self.seconds: list[float] = []
        self._original = chunked.compute

        def counted(tasks: Any) -> Any:
            start = time.perf_counter()
            found = self._original(tasks)
            self.seconds.append(time.perf_counter() - start)
            return found

        chunked.compute = counted
        return self

    def __exit__(self, *error: Any) -> None:
        chunked.compute = self._original


def of_rows(small: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield fits by their numbers of rows."""
    sizes = [3000] if small else [100_000, 1_000_000, 10_000_000]
    for n in sizes:
        for name in FITS:
            if n == sizes[-1] and name != "closed form" and not small:
                continue  # an hour
            yield f"{n:,} rows, {name}", lambda n=n, name=name: _fit(n, name, small)


def _fit(n: int, name: str, small: bool) -> Row:
    d, chunk = (8, 500) if small else (D, CHUNK)
    chunk = min(chunk, -(-n // 4))
    with counted_cluster(memory_limit="1GB") as client, Passes() as passes:
        idle = max(client.run(_resident).values())
        X, y, s = generated.chunked(n, d, chunk)
        before, start = total(client), time.perf_counter()
        with peaks(client) as found:
            clf = FairLowRankHeadClassifier(random_state=0, **FITS[name])
            clf.fit(X, y, sensitive_features=s)
        seconds, sent = time.perf_counter() - start, total(client) - before
        row = {
            "rows": n,
            "features": d,
            "seconds": seconds,
            "passes": len(passes.seconds),
            "seconds of a pass": statistics.median(passes.seconds),
            "peak": max(found),
            "idle": idle,
            "bytes per row": sent / n,
            "bytes per row and pass": sent / n / len(passes.seconds),
            "features per row": 4 * d,
        }
    if n <= 1_000_000:
        X, y, s = generated.here(n, d, chunk)
        start = time.perf_counter()
        here = FairLowRankHeadClassifier(random_state=0, **FITS[name])
        here.fit(X, y, sensitive_features=s)
        row["seconds in memory"] = time.perf_counter() - start
        ours, theirs = (each.decision_function(X) for each in (clf, here))
        row |= {
            "alike": float(((ours > 0) == (theirs > 0)).mean()),
            "scores apart": float(np.abs(ours - theirs).max()),
        }
    return row


def of_workers(small: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield a fit of features, and one with a network, by one worker and by two."""
    for workers in (1, 2):
        yield f"closed form, {workers}", lambda workers=workers: _by(workers, small, _features)
        yield f"a network, {workers}", lambda workers=workers: _by(workers, small, _images)


def _by(workers: int, small: bool, fit: Callable[[bool], None]) -> Row:
    with counted_cluster(workers) as client:
        fit(True)  # the first one of a process also sets up torch
        start = time.perf_counter()
        fit(small)
        return {"workers": len(client.nthreads()), "seconds": time.perf_counter() - start}


def _features(small: bool) -> None:
    X, y, s = generated.chunked(*((3000, 8, 500) if small else (1_000_000, D, CHUNK)))
    FairLowRankHeadClassifier(**FITS["closed form"]).fit(X, y, sensitive_features=s)


def _images(small: bool) -> None:
    n, side = (200, 16) if small else (8000, 32)
    X, y, s = generated.chunked(n, 3 * side**2, n // 8)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        layers = [nn.Unflatten(1, (3, side, side))]
        for inner, outer in ((3, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    extractor = FrozenFeatureExtractor(network)
    FairLowRankHeadClassifier(extractor, **FITS["closed form"]).fit(X, y, sensitive_features=s)


def of_here(small: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield fits whose rows are many and small."""
    for name in HERE:
        yield name, lambda name=name: _here(20_000 if small else 4_000_000, name)


def _here(n: int, name: str) -> Row:
    with counted_cluster() as client:
        clf = FairLowRankHeadClassifier(**HERE[name])
        for rows in (2000, n):
            X, y, s = generated.chunked(rows, 4, rows // 8)
            before = _resident()
            with peaks(client, own=True) as found:
                clf.fit(X, y, sensitive_features=s)
        return {"rows": n, "bytes per row": max(0, found[-1] - before) / n}


def of_passes(small: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield sums over many small chunks."""
    for workers, chunks in [(2, 8)] if small else [(2, 100), (2, 1000), (20, 1000)]:
        yield f"{workers} workers, {chunks:,} chunks", lambda w=workers, c=chunks: _pass(w, c)


def _pass(workers: int, chunks: int) -> Row:
    import dask.array as da

    # In one process: of the workers only what they say to the scheduler is of interest.
    with counted_cluster(workers, processes=False, memory_limit=0), Passes() as passes:
        X = da.zeros((chunks * 10, 4), chunks=(10, 4))
        chunked._CHUNK_BYTES, before = 10 * 4 * 8, chunked._CHUNK_BYTES
        Z = chunked.DaskFeatures.of(X)
        chunked._CHUNK_BYTES = before
        for _ in range(4):
            reduce_blocks(_sum, torch.add, Z)
    median = statistics.median(passes.seconds[1:])
    return {"workers": workers, "chunks": chunks, "seconds": median, "per chunk": median / chunks}


def _sum(block: torch.Tensor) -> torch.Tensor:
    return block.sum(dim=0)


def _resident() -> int:
    import psutil

    return psutil.Process().memory_info().rss


TASKS = {"rows": of_rows, "workers": of_workers, "here": of_here, "passes": of_passes}


def measured(task: str, small: bool, done: set[str]) -> Iterator[Row]:
    """Yield the rows of a task that are not done."""
    for name, action in TASKS[task](small):
        if (key := f"{task}|{name}") in done:
            continue
        found = {
            name: float(f"{value:.4g}") if isinstance(value, float) else value
            for name, value in action().items()
        }
        yield {"key": key, "task": task, "name": name, **found, "machine": machine("dask")}


def tables(rows: list[Row]) -> dict[str, str]:
    """Return a table for each task."""
    own = {task: [row for row in rows if row["task"] == task] for task in TASKS}
    found = {}
    if own["rows"]:
        lines = [
            "| fit | seconds | passes | seconds of a pass | peak of a worker | bytes per row | "
            "seconds in memory | decisions alike |",
            "|---" * 8 + "|",
        ]
        for row in own["rows"]:
            here = row.get("seconds in memory")
            lines.append(
                f"| {row['name']} | {row['seconds']:.3g} | {row['passes']} | "
                f"{row['seconds of a pass']:.2g} | {row['peak'] / 1e6:.0f} MB | "
                f"{row['bytes per row']:.3g} | {'' if here is None else f'{here:.3g}'} | "
                f"{'' if here is None else _share(row['alike'])} |"
            )
        found["rows"] = "\n".join(lines)
    if own["workers"]:
        lines = ["| | one worker, seconds | two | times as fast |", "|---|---|---|---|"]
        for what in dict.fromkeys(row["name"].rpartition(",")[0] for row in own["workers"]):
            one, two = (row["seconds"] for row in own["workers"] if row["name"].startswith(what))
            lines.append(f"| {what} | {one:.3g} | {two:.3g} | {one / two:.2f} |")
        found["workers"] = "\n".join(lines)
    if own["here"]:
        lines = ["| | bytes per row |", "|---|---|"]
        lines += [f"| {row['name']} | {row['bytes per row']:.0f} |" for row in own["here"]]
        found["here"] = "\n".join(lines)
    if own["passes"]:
        lines = ["| workers | chunks | seconds of a pass | ms per chunk |", "|---|---|---|---|"]
        lines += [
            f"| {row['workers']} | {row['chunks']:,} | {row['seconds']:.2g} | "
            f"{1e3 * row['per chunk']:.2g} |"
            for row in sorted(own["passes"], key=lambda row: (row["workers"], row["chunks"]))
        ]
        found["passes"] = "\n".join(lines)
    if any(row["key"] == "passes|20 workers, 1,000 chunks" for row in rows):
        lines = ["| 100,000,000 rows x 2,048 features, 100 workers | |", "|---|---|"]
        plan = planned(rows, 100_000_000, 2048, 100, 50_000)
        found["plan"] = "\n".join([*lines, *(f"| {what} | {much} |" for what, much in plan)])
    return found


def planned(rows: list[Row], n: int, d: int, workers: int, chunk: int) -> Iterator[tuple[str, str]]:
    """Yield what the closed form would take of n rows x d features, by what was measured."""
    by_key = {row["key"]: row for row in rows}
    most = by_key["rows|10,000,000 rows, closed form"]
    per_number = 2 * most["seconds of a pass"] / (most["rows"] * most["features"])
    chunks, passes = -(-n // chunk), most["passes"]
    work = n * d * per_number / workers
    of_chunks = chunks * by_key["passes|20 workers, 1,000 chunks"]["per chunk"]
    chunk_bytes = 4 * chunk * d
    of_worker = most["idle"] + (most["peak"] - most["idle"]) / (4 * CHUNK * D) * chunk_bytes
    scores = most["bytes per row"]
    yield "features, on the disks of the workers", f"{4 * n * d / workers / 1e9:.1f} GB each"
    yield f"chunks of {chunk:,} rows", f"{chunks:,}, of {chunk_bytes / 1e6:.0f} MB"
    yield "a pass: the products, one thread per worker", f"{work:.1f} s"
    yield "a pass: what the scheduler takes for its chunks", f"{of_chunks:.1f} s"
    yield f"{passes} passes, whichever is longer", f"{passes * max(work, of_chunks) / 60:.0f} min"
    yield "memory of a worker", f"{of_worker / 1e9:.1f} GB"
    yield "bytes over the network", f"{scores * n / 1e9:.0f} GB, through the scheduler"
    for name in HERE:
        here = by_key[f"here|{name}"]["bytes per row"]
        yield f"memory of client and scheduler, {name}", f"{here * n / 1e9:.0f} GB"


def _share(value: float) -> str:
    return "all" if value == 1.0 else f"{100 * value:.4g} %"


def filled(page: str, found: dict[str, str]) -> str:
    """Return a page with its tables in place of those that it has."""
    for name, table in found.items():
        page = re.sub(
            rf"<!-- {name} -->\n.*?(?=<!-- end -->)",
            lambda _, name=name, table=table: f"<!-- {name} -->\n\n{table}\n\n",
            page,
            flags=re.DOTALL,
        )
    return page


def main() -> None:
    """Measure, and write tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    default = Path(tempfile.gettempdir()) / "skfairft-scaling.jsonl"
    parser.add_argument("--results", type=Path, default=default)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.rows:
        rows = json.loads(options.rows.read_text())
    else:
        rows = []
        for task in options.tasks:
            if options.smoke:
                rows += measured(task, True, set())
            else:
                found = resumed(options.results, partial(measured, task, False))
                rows += [row for row in found if row["task"] == task]
    found = tables(rows)
    print("\n\n".join(found.values()))
    if options.json and not options.smoke:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.page:
        options.page.write_text(filled(options.page.read_text(), found))


if __name__ == "__main__":
    main()
