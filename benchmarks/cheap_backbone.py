"""What remembering rows costs where the backbone is cheap: the store's share of a whole fit.

A linear layer with ReLU in place of a backbone; each fit starts with an empty store, a module that
is not known yet, and nothing measured before. The share is the median time of an extraction with
``memory=None`` minus that with ``memory=False``, by the median time of the fit.

Run ``python benchmarks/cheap_backbone.py [--json FILE]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.datasets import make_biased_classification
from skfairft.feature_store import get_store
from skfairft.head.measure import forget

REPEATS, WIDTH = 11, 64
CASES = [(500, 14), (2_000, 14), (5_000, 14), (12_000, 14), (50_000, 14), (20_000, 784)]


def seconds(action: Callable[[], Any]) -> float:
    """Return the time that an action takes, as for the first time."""
    get_store(None).clear()
    forget()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(rows: int, features: int) -> dict[str, float]:
    """Return median seconds of extraction without and with a store, and of the fit."""
    X, y, s = make_biased_classification(rows, features, random_state=0)
    X = X.astype(np.float32) if features > 100 else X
    times: dict[str, list[float]] = {"without": [], "with": [], "fit": []}
    for _ in range(REPEATS):

        def extractor(memory: Any) -> FrozenFeatureExtractor:
            module = nn.Sequential(nn.Linear(features, WIDTH), nn.ReLU())
            return FrozenFeatureExtractor(module, memory=memory)

        for name, memory in (("without", False), ("with", None)):
            ours = extractor(memory)
            times[name].append(seconds(lambda: ours.fit_transform(X)))  # noqa: B023
        clf = FairLowRankHeadClassifier(extractor(None), rank=2)
        times["fit"].append(seconds(lambda: clf.fit(X, y, sensitive_features=s)))  # noqa: B023
    result = {name: statistics.median(values) for name, values in times.items()}
    return {**result, "share": (result["with"] - result["without"]) / result["fit"]}


def main() -> None:
    """Measure all sizes and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {}
    for rows, features in CASES:
        found = results[f"{rows} x {features}"] = measure(rows, features)
        milliseconds = ", ".join(f"{name} {1e3 * found[name]:.1f} ms" for name in list(found)[:3])
        print(f"{rows:6} x {features}: {milliseconds}; the store's share {found['share']:.1%}")
    if options.json:
        versions = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        options.json.write_text(json.dumps({**results, **versions}, indent=2) + "\n")


if __name__ == "__main__":
    main()
