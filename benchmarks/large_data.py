"""A fit to features larger than memory should be: seconds and peak memory, against in memory.

Features of a fixed seed are written to a file block by block; then the same fit runs in two
processes of its own, once on the mapped file and once on the features in memory. Reported are
its seconds, its peak resident memory beside that of the interpreter after its imports and a tiny
fit (mapped pages count while they are resident), and how far the two results are apart.

Run ``python benchmarks/large_data.py [--rows N] [--features D] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from skfairft import FairLowRankHeadClassifier

WRITE_ROWS, LATENT = 10_000, 32


def blocks(rows: int, features: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield features like those after a ReLU, labels and two groups that go with the labels."""
    shared = np.random.default_rng(0)
    scale = np.arange(1, LATENT + 1) ** -0.5  # a spectrum that decays
    mix = shared.normal(size=(LATENT, features)).astype(np.float32)
    direction = shared.normal(size=LATENT)
    for number, start in enumerate(range(0, rows, WRITE_ROWS)):
        rng = np.random.default_rng([1, number])
        part = slice(start, min(start + WRITE_ROWS, rows))
        size = part.stop - part.start
        s = rng.integers(2, size=size)
        latent = rng.normal(size=(size, LATENT)) * scale
        latent[:, 0] += 0.7 * s
        y = (latent @ direction + 0.8 * s + rng.logistic(size=size) > 0.4).astype(np.int64)
        noise = rng.normal(size=(size, features), scale=0.5).astype(np.float32)
        yield part, np.maximum(latent.astype(np.float32) @ mix + noise, 0), y, s


def write(folder: Path, rows: int, features: int) -> None:
    """Write X, y and s to a folder."""
    shape = (rows, features)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, shape)
    y, s = np.empty((2, rows), np.int64)
    for part, *values in blocks(rows, features):
        X[part], y[part], s[part] = values
    X.flush()
    np.save(folder / "y.npy", y)
    np.save(folder / "s.npy", s)


def peak() -> int:
    """Return the most memory in bytes that was resident so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(folder: Path, lies: str) -> None:
    """Fit in this process and write what came of it; run in a process of its own."""
    tiny = np.random.default_rng(0).normal(size=(100, 8))
    half = np.arange(100) % 2
    FairLowRankHeadClassifier(rank=1).fit(tiny, half, sensitive_features=half // 2 + half)
    baseline = peak()
    X = np.load(folder / "X.npy", mmap_mode="r" if lies == "file" else None)
    y, s = np.load(folder / "y.npy"), np.load(folder / "s.npy")
    start = time.perf_counter()
    clf = FairLowRankHeadClassifier(rank=2).fit(X, y, sensitive_features=s)
    fitted = time.perf_counter()
    proba = clf.predict_proba(X)[:, 1]
    predicted = time.perf_counter()
    np.savez(
        folder / f"{lies}.npz",
        proba=proba,
        weight=clf.head_.weight.detach().numpy(),
        bias=clf.head_.bias.detach().numpy(),
    )
    result = {
        "fit_s": fitted - start,
        "predict_s": predicted - fitted,
        "peak_beside_baseline_MiB": (peak() - baseline) / 2**20,
        "baseline_MiB": baseline / 2**20,
        "epochs": len(clf.history_),
        "accuracy": float(((proba > 0.5) == y).mean()),
    }
    (folder / f"{lies}.json").write_text(json.dumps(result))


def main() -> None:
    """Write the data, measure both fits and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        folder, step = Path(args.step[0]), args.step[1]
        warnings.simplefilter("ignore")
        if step == "write":
            write(folder, args.rows, args.features)
        else:
            measure(folder, step)
        return

    def run(folder: Path, step: str) -> None:
        """Run one step in a process of its own: a child's peak begins with its parent's."""
        size = ["--rows", str(args.rows), "--features", str(args.features)]
        command = [sys.executable, __file__, *size, "--step", str(folder), step]
        subprocess.run(command, check=True)

    results: dict[str, object] = {
        "rows": args.rows,
        "features": args.features,
        "features_MiB": args.rows * args.features * 4 / 2**20,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        run(folder, "write")
        results["write_s"] = time.perf_counter() - start
        outputs = []
        for lies in ("file", "memory"):
            run(folder, lies)
            results[lies] = json.loads((folder / f"{lies}.json").read_text())
            outputs.append(dict(np.load(folder / f"{lies}.npz")))
        for key in ("weight", "bias", "proba"):
            difference = np.abs(outputs[0][key] - outputs[1][key]).max()
            results[f"largest_difference_{key}"] = float(difference)
    text = json.dumps(results, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
