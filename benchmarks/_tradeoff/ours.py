"""Curves of `fairness_path`, by solver. None of them needs the group at prediction."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from skfairft import FairLowRankHeadClassifier, fairness_path
from skfairft.head import head_scores
from skfairft.mapped import as_features
from skfairft.measure import forget

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
    for row, found in zip(path.table.itertuples(), path.classifiers, strict=True):
        label = f"{row.solver} rank={row.rank} weight={row.fairness_weight:.3g}"
        yield f"{label} share={row.positive_share:.3g}", _Predict(found)


class _Predict:
    """Predict, without the checks of X that would be repeated for each of a hundred heads."""

    def __init__(self, clf: FairLowRankHeadClassifier) -> None:
        self.head = clf.head_

    def __call__(self, part: Part) -> np.ndarray:
        return head_scores(self.head, as_features(part.Z)).argmax(dim=1).numpy()


PLUG_IN: dict[str, Any] = {"solver": "plug_in"}
LOW_RANKS: dict[str, Any] = {"solver": "plug_in", "ranks": [2, 3]}
CLOSED: dict[str, Any] = {"solver": "closed_form", "importance": "covariance"}
TRAINED: dict[str, Any] = {"solver": "fine_tune"}


def _register(name: str, *paths: dict[str, Any], thresholds: int = 13) -> None:
    @method(f"ours, {name}")
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
_register("plug-in and closed form", PLUG_IN, LOW_RANKS, CLOSED)
_register("all solvers", PLUG_IN, LOW_RANKS, CLOSED, TRAINED)
