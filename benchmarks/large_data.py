"""A fit to features larger than memory should be: seconds and peak memory, against in memory.

The same fit runs in processes of its own:

- dataset: on a torch dataset that makes its rows as they are asked for, through a
  FrozenFeatureExtractor, which memory-maps the features;
- file: on the features in a mapped file, without an extractor;
- memory: on the features in memory.

Reported are its seconds, its peak resident memory beside that of the interpreter after its imports
and a tiny fit (mapped pages count while they are resident), and how far the results are apart.

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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor

BLOCK_ROWS, LATENT = 10_000, 32


class Inputs(Dataset):
    """Inputs of a ReLU, made block by block when they are asked for."""

    def __init__(self, rows: int, features: int) -> None:
        self.rows, self.features = rows, features
        shared = np.random.default_rng(0)
        self.scale = np.arange(1, LATENT + 1) ** -0.5  # a spectrum that decays
        self.mix = shared.normal(size=(LATENT, features)).astype(np.float32)
        self.direction = shared.normal(size=LATENT)
        self.last: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return self.rows

    def block(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return inputs, labels, and two groups that go with the labels."""
        if self.last[0] != number:
            rng = np.random.default_rng([1, number])
            size = min(BLOCK_ROWS, self.rows - number * BLOCK_ROWS)
            s = rng.integers(2, size=size)
            latent = rng.normal(size=(size, LATENT)) * self.scale
            latent[:, 0] += 0.7 * s
            y = (latent @ self.direction + 0.8 * s + rng.logistic(size=size) > 0.4).astype(np.int64)
            noise = rng.normal(size=(size, self.features), scale=0.5).astype(np.float32)
            self.last = number, (latent.astype(np.float32) @ self.mix + noise, y, s)
        return self.last[1]

    def __getitem__(self, row: int) -> torch.Tensor:
        number, place = divmod(row, BLOCK_ROWS)
        return torch.from_numpy(self.block(number)[0][place])


def write(folder: Path, rows: int, features: int) -> None:
    """Write X, what a ReLU makes of the inputs, y and s to a folder."""
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (rows, features))
    y, s = np.empty((2, rows), np.int64)
    inputs = Inputs(rows, features)
    for start in range(0, rows, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        block, y[part], s[part] = inputs.block(start // BLOCK_ROWS)
        X[part] = np.maximum(block, 0)
    X.flush()
    np.save(folder / "y.npy", y)
    np.save(folder / "s.npy", s)


def peak() -> int:
    """Return the most memory in bytes that was resident so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(folder: Path, lies: str, features: int) -> None:
    """Fit in this process and write what came of it; run in a process of its own."""
    tiny = np.random.default_rng(0).normal(size=(100, 8))
    half = np.arange(100) % 2
    FairLowRankHeadClassifier(rank=1).fit(tiny, half, sensitive_features=half // 2 + half)
    baseline = peak()
    y, s = np.load(folder / "y.npy"), np.load(folder / "s.npy")
    extractor: Any = None
    if lies == "dataset":
        extractor = FrozenFeatureExtractor(nn.ReLU())
        X: Any = Inputs(len(y), features)
    else:
        X = np.load(folder / "X.npy", mmap_mode="r" if lies == "file" else None)
    start = time.perf_counter()
    clf = FairLowRankHeadClassifier(extractor, rank=2).fit(X, y, sensitive_features=s)
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
            measure(folder, step, args.features)
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
        for lies in ("dataset", "file", "memory"):
            run(folder, lies)
            results[lies] = json.loads((folder / f"{lies}.json").read_text())
            outputs.append(dict(np.load(folder / f"{lies}.npz")))
        for key in ("weight", "bias", "proba"):
            differences = [np.abs(other[key] - outputs[-1][key]).max() for other in outputs[:-1]]
            results[f"largest_difference_{key}"] = float(max(differences))
    text = json.dumps(results, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
