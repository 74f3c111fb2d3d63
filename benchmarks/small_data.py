"""Time to fit a head on small data, against what a user might do instead.

Ratios in one run, each the median over repetitions in turn:

- ours: FairLowRankHeadClassifier with default settings, everything included;
- logistic regression: scikit-learn's, on standardized features;
- plain skorch: NeuralNetClassifier on ``nn.Linear`` with skorch's own data loading, 20 epochs of
  Adam in batches of 128, no validation split;
- bare torch: the same 20 epochs in a plain loop over index slices.

The last two know nothing of groups. Run ``python benchmarks/small_data.py [--json FILE]``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import sklearn
import skorch
import torch
from _shared.timing import in_turn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from skfairft import FairLowRankHeadClassifier
from skfairft.datasets import make_biased_classification
from skfairft.head.measure import forget

EPOCHS, BATCH = 20, 128


def ours(X: np.ndarray, y: np.ndarray, s: np.ndarray) -> object:
    """Fit with default settings, as for the first time."""
    forget()
    return FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)


def logistic_regression(X: np.ndarray, y: np.ndarray, s: np.ndarray) -> object:
    """Fit scikit-learn's classifier."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, y)


def plain_skorch(X: np.ndarray, y: np.ndarray, s: np.ndarray) -> object:
    """Fit a linear layer with skorch as its tutorial does."""
    net = NeuralNetClassifier(
        nn.Linear,
        module__in_features=X.shape[1],
        module__out_features=2,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        train_split=None,
        verbose=0,
    )
    return net.fit(X, y)


def bare_torch(X: np.ndarray, y: np.ndarray, s: np.ndarray) -> object:
    """Fit a linear layer in a plain loop."""
    head = nn.Linear(X.shape[1], 2)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    inputs, labels = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    return head


def main() -> None:
    """Time all systems on several sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    systems: dict[str, Callable] = {
        "ours": ours,
        "logistic regression": logistic_regression,
        "plain skorch": plain_skorch,
        "bare torch": bare_torch,
    }
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "skorch": skorch.__version__,
        "scikit-learn": sklearn.__version__,
        "threads": torch.get_num_threads(),
    }
    rows = []
    for n_rows, n_features in ((200, 16), (2_000, 64), (12_000, 64), (50_000, 128)):
        X, y, s = make_biased_classification(n_rows, n_features, class_sep=0.3, random_state=0)
        X, y = X.astype(np.float32), y.astype(np.int64)
        seconds = in_turn(
            {name: partial(fit, X, y, s) for name, fit in systems.items()}, options.repeats
        )
        median = {name: statistics.median(values) for name, values in seconds.items()}
        rows.append({"rows": n_rows, "features": n_features, "seconds": median})
        text = ", ".join(
            f"{name} {value:.3f} s ({value / median['ours']:.1f}x)"
            for name, value in median.items()
        )
        print(f"{n_rows:>6} x {n_features}: {text}", flush=True)
    print(versions)
    if options.json:
        options.json.write_text(json.dumps({"versions": versions, "results": rows}, indent=1))


if __name__ == "__main__":
    main()
