"""What a search on a cluster of Dask sends: 12 fits on two worker processes, and one here.

The same search, each time on a new cluster of two processes of this machine:

- **joblib**: under ``joblib.parallel_config("dask")``;
- **on_cluster**: under `skfairft.distributed.on_cluster`, given the backbone, X, y and the groups;
- **features first**: the workers extract the features, and the search is over heads on these;
- **features given**: the search alone, of features that are here.

Counted are the bytes that client, scheduler and workers write to each other over TCP, by Dask's own
count of what it writes, in units of the backbone's pickle. The features are remembered in a folder,
and how often each row ran is counted, too. Seconds are of one run.

Run ``python -m _scaling.search_bytes [--mebibytes N] [--rows N] [--json FILE]`` in ``benchmarks/``.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
import torch
from _shared.timing import machine
from distributed import Client
from sklearn.model_selection import GridSearchCV
from torch import nn

from _scaling.traffic import counted_cluster, total
from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.datasets import make_biased_classification
from skfairft.distributed import on_cluster
from skfairft.feature_store.witness import MOST_ROWS
from skfairft.metrics import fairness_scorer

WEIGHTS, FOLDS, PIECES = [0.0, 0.3, 0.6, 0.9], 3, 8

Row = dict[str, Any]
Data = tuple[np.ndarray, np.ndarray, np.ndarray]


class Backbone(nn.Module):
    """A network with one large layer, which writes down the rows that run."""

    def __init__(self, bytes_: int, log: Path) -> None:
        super().__init__()
        width = math.isqrt(bytes_ // 4)
        self.layers = nn.Sequential(
            nn.Linear(20, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 64),
        )
        self.log = log

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (n, 64) of n rows."""
        if len(x) > MOST_ROWS:  # of fewer another look is taken
            with self.log.open("a") as file:
                file.write("".join(f"{value!r}\n" for value in x[:, 0].tolist()))
        return self.layers(x)


def search_of(extractor: FrozenFeatureExtractor | None) -> GridSearchCV:
    """Return a search over weights of a constraint, and so 12 fits and that of the best."""
    clf = FairLowRankHeadClassifier(
        extractor, constraint="demographic_parity", fairness_weight=0.0, solver="closed_form"
    ).set_fit_request(sensitive_features=True)
    scoring = {
        "error": fairness_scorer("weighted_f1_error"),
        "distance": fairness_scorer("demographic_parity_distance"),
    }
    grid = {"fairness_weight": WEIGHTS}
    return GridSearchCV(clf, grid, scoring=scoring, refit="error", cv=FOLDS, error_score="raise")


def by_joblib(client: Client, extractor: FrozenFeatureExtractor, data: Data) -> GridSearchCV:
    """Search as joblib does it by itself."""
    X, y, s = data
    with joblib.parallel_config("dask", client=client), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        return search_of(extractor).fit(X, y, sensitive_features=s)


def by_on_cluster(client: Client, extractor: FrozenFeatureExtractor, data: Data) -> GridSearchCV:
    """Search with what the fits have in common sent ahead."""
    X, y, s = data
    with on_cluster(extractor, X, y, s, client=client):
        return search_of(extractor).fit(X, y, sensitive_features=s)


def by_features(client: Client, extractor: FrozenFeatureExtractor, data: Data) -> GridSearchCV:
    """Extract the features on the cluster, then search over heads on them."""
    with on_cluster(extractor, client=client):
        extract = joblib.delayed(extractor.transform)
        pieces = joblib.Parallel()(extract(piece) for piece in np.array_split(data[0], PIECES))
    return of_features(client, np.concatenate(pieces), data)


def by_given(client: Client, extractor: FrozenFeatureExtractor, data: Data) -> GridSearchCV:
    """Extract the features here, then search over heads on them."""
    return of_features(client, extractor.transform(data[0]), data)


def of_features(client: Client, Z: np.ndarray, data: Data) -> GridSearchCV:
    """Search over heads."""
    _, y, s = data
    with on_cluster(Z, y, s, client=client):
        return search_of(None).fit(Z, y, sensitive_features=s)


WAYS = {
    "joblib": by_joblib,
    "on_cluster": by_on_cluster,
    "features first": by_features,
    "features given": by_given,
}


def results(search: GridSearchCV) -> np.ndarray:
    """Return what a search has found: errors and distances of its candidates."""
    names = ("mean_test_error", "mean_test_distance")
    return np.stack([search.cv_results_[name] for name in names])


def measured(mebibytes: float, n_rows: int) -> Iterator[Row]:
    """Yield what each way takes, beside a search here."""
    X, y, s = make_biased_classification(n_rows, 20, disparity=0.4, random_state=0)
    data = X.astype(np.float32), y, s
    expected = None
    for way in ("here", *WAYS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            torch.default_generator.manual_seed(0)  # the same weights each time
            backbone = Backbone(int(mebibytes * 2**20), folder / "log")
            extractor = FrozenFeatureExtractor(backbone, memory=folder / "features")
            row: Row = {"way": way, "backbone": len(pickle.dumps(backbone)), "rows": n_rows}
            if way == "here":
                start = time.perf_counter()
                search = search_of(extractor).fit(data[0], y, sensitive_features=s)
                row |= {"bytes": 0, "seconds": time.perf_counter() - start}
                expected = results(search)
            else:
                with counted_cluster() as client:
                    before, start = total(client), time.perf_counter()
                    search = WAYS[way](client, extractor, data)
                    seconds = time.perf_counter() - start
                    row |= {"bytes": total(client) - before, "seconds": seconds}
            ran = Counter((folder / "log").read_text().split())
            yield row | {
                "ratio": row["bytes"] / row["backbone"],
                "times each row ran": max(ran.values()),
                "largest difference": float(np.abs(results(search) - expected).max()),
            }


def main() -> None:
    """Print the table, and store its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mebibytes", type=float, default=48.0, help="of the backbone")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sklearn.set_config(enable_metadata_routing=True)
    found = []
    for row in measured(options.mebibytes, options.rows):
        found.append(row)
        print(
            f"{row['way']}: {row['bytes'] / 1e6:.1f} MB, {row['ratio']:.2f} backbones of "
            f"{row['backbone'] / 1e6:.1f} MB, {row['seconds']:.1f} s, each row "
            f"{row['times each row ran']} times, results differ by {row['largest difference']:.2g}",
            flush=True,
        )
    if options.json:
        report = {"machine": machine("dask", "joblib", "scikit-learn"), "rows": found}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
