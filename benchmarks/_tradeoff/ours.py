"""Curves of `fairness_path`, by solver. None of them needs the group at prediction."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from torch import Tensor

from skfairft import FairLowRankHeadClassifier, fairness_path
from skfairft.head.measure import forget
from skfairft.head.modules import head_scores
from skfairft.rows.mapped import as_features

from .data import Part, Split
from .peers import Candidates, method, strength

# 25 weights each, and 13 thresholds unless said otherwise; those on the front of val stay.


def _path(
    split: Split, constraint: str, seed: int, thresholds: int = 13, **settings: Any
) -> Candidates:
    """Yield the points of a path that is fitted on train and measured on val."""
    train, val = split.train, split.val
    clf = FairLowRankHeadClassifier(
        constraint=constraint, C=strength(split), random_state=seed, device="cpu"
    )
    ranks = settings.pop("ranks", None)
    with warnings.catch_warnings():
        # Of training that max_epochs ended: some weights near 1 take longer.
        warnings.simplefilter("ignore")
        path = fairness_path(
            clf.set_params(**settings),
            train.Z,
            train.y,
            sensitive_features=train.s,
            ranks=ranks,
            thresholds=thresholds,
            held_out=(val.Z, val.y, val.s),
            n_boot=0,
        )
    features: dict[int, Tensor] = {}
    for row, found in zip(path.table.itertuples(), path.classifiers, strict=True):
        label = f"{row.solver} rank={row.rank} weight={row.fairness_weight:.3g}"
        yield f"{label} share={row.positive_share:.3g}", _Predict(found, features)


class _Predict:
    """Predict, without what would be repeated for each of a hundred heads: checks, conversion."""

    def __init__(self, clf: FairLowRankHeadClassifier, features: dict[int, Tensor]) -> None:
        self.head, self.features = clf.head_, features

    def __call__(self, part: Part) -> np.ndarray:
        if id(part) not in self.features:
            self.features[id(part)] = as_features(part.Z).double()
        return head_scores(self.head, self.features[id(part)]).argmax(dim=1).numpy()


# What a stored result holds for each candidate, and for all of them.
JOINED, TIMES = ("labels", "val", "test"), ("seconds", "cpu_seconds")

PLUG_IN: dict[str, Any] = {"solver": "plug_in"}
LOW_RANKS: dict[str, Any] = {"solver": "plug_in", "ranks": [2, 3]}
# The covariance of all rows, pooled.
CLOSED: dict[str, Any] = {
    "solver": "closed_form",
    "importance": "covariance",
    "group_weights": "proportional",
}
TRAINED: dict[str, Any] = {"solver": "fine_tune"}


def _register(name: str, *paths: dict[str, Any], thresholds: int = 13) -> None:
    @method(f"ours, {name}", classes=(2, 3))
    def run(split: Split, constraint: str, seed: int) -> Candidates:
        forget()
        for settings in paths:
            yield from _path(split, constraint, seed, thresholds, **settings)


_register("plug-in", PLUG_IN)
_register("plug-in, own thresholds", PLUG_IN, thresholds=1)
_register("plug-in, ranks 2, 3 and full", PLUG_IN, LOW_RANKS)
_register("closed form", CLOSED)
_register("closed form, Fisher metric", {"solver": "closed_form", "rank": 1})
_register("trained", TRAINED)

# Curves made of others': their candidates together, at the price of all.
UNIONS = {
    "ours, plug-in and closed form": [
        "ours, plug-in, ranks 2, 3 and full",
        "ours, closed form",
    ],
    "ours, all solvers": [
        "ours, plug-in, ranks 2, 3 and full",
        "ours, closed form",
        "ours, trained",
    ],
}


def add_unions(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return results and, where all of its members are there, each union."""
    found = {(r["dataset"], r["seed"], r["constraint"], r["method"]): r for r in results}
    out = list(results)
    for dataset, seed, constraint in dict.fromkeys(key[:3] for key in found):
        for name, members in UNIONS.items():
            parts = [found.get((dataset, seed, constraint, member)) for member in members]
            if all(part is not None and part["error"] is None for part in parts):
                union = {key: [each for part in parts for each in part[key]] for key in JOINED}
                times = {key: sum(part.get(key, 0.0) for part in parts) for key in TIMES}
                out.append({**parts[0], **union, **times, "method": name})
    return out
