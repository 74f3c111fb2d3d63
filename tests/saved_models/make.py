"""Write the models of the format that this version writes; later versions have to load them.

Run once, before a format is published: ``python tests/saved_models/make.py``. A folder that is
there already is not written again.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier, FineTune, FrozenFeatureExtractor
from skfairft.saving.folder import FORMAT

HERE = Path(__file__).parent


def rows():
    """Return X, y, groups: 60 rows of three classes and two sensitive columns."""
    i = np.arange(60)
    X = np.stack([np.sin(i * (j + 1.3)) for j in range(4)], axis=1).round(6)
    y = np.array(["no", "perhaps", "yes"])[(X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0.5)]
    groups = np.column_stack([np.array(["f", "m"])[i % 2], np.array(["old", "young"])[i // 2 % 2]])
    return X, y, groups


def backbone():
    """Return a network with the same weights everywhere."""
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh())
    with torch.no_grad():
        for tensor in network.parameters():
            flat = torch.arange(tensor.numel(), dtype=torch.float32)
            tensor.copy_(((flat * 7) % 11 / 8 - 0.6).reshape(tensor.shape))
    return network


MODELS = {
    "features": lambda: {"rank": 1, "class_weight": "balanced"},
    "hidden": lambda: {
        "head": nn.Sequential(nn.Linear(4, 5), nn.LeakyReLU(0.2)),
        "rank": 2,
        "solver": FineTune(optimizer=torch.optim.SGD, batch_size=20, max_epochs=2, tol=None),
        "random_state": 0,
    },
    "backbone": lambda: {"feature_extractor": backbone(), "rank": 0.9, "importance": "covariance"},
    "layer": lambda: {
        "feature_extractor": FrozenFeatureExtractor(backbone(), layer="1", batch_size=7),
        "solver": "closed_form",
        "constraint": "demographic_parity",
        "fairness_weight": 0.5,
    },
    "plug_in": lambda: {
        "solver": "plug_in",
        "constraint": "demographic_parity",
        "difference_bound": 0.9,
        "cv": 2,
        "random_state": 0,
    },
}


def fitted(name):
    """Return a classifier that is fitted on the rows."""
    X, y, groups = rows()
    torch.manual_seed(0)
    sensitive = groups if name != "plug_in" else groups[:, 0]
    return FairLowRankHeadClassifier(**MODELS[name]()).fit(X, y, sensitive_features=sensitive)


def main():
    for name in MODELS:
        folder = HERE / f"format_{FORMAT}" / name
        if folder.exists():
            print(f"{folder} is there already")
            continue
        clf = fitted(name)
        clf.save(folder, backbone=name == "backbone")
        scores = clf.decision_function(rows()[0][:5])
        (folder / "scores.json").write_text(json.dumps(scores.tolist()))


if __name__ == "__main__":
    main()
