"""Curves of `fairness_path`, by solver.

Theirs are the rows of train and val together: each is judged by a head of other folds, and the head
that is measured on test is fitted to all of them, which is how the package is used. "held out" is
what the peers do: fitted on train, judged on val; trained heads are judged so because each takes so
long to fit.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold

from skfairft import FairLowRankHeadClassifier, FairnessPath, fairness_path
from skfairft.head.measure import forget
from skfairft.head.modules import head_scores
from skfairft.rows.mapped import as_features

from .data import Part, Split
from .peers import METHODS, Curve, Method, together

# 25 weights each, and 13 thresholds unless said otherwise; those on the front stay.


def trace(split: Split, constraint: str, seed: int, **settings: Any) -> FairnessPath:
    """Return a path of the rows of train and val, or with ``held_out=True`` of train alone."""
    ranks, thresholds = settings.pop("ranks", None), settings.pop("thresholds", 13)
    known, apart = settings.pop("known_groups", False), settings.pop("held_out", False)
    rows, val = split.train if apart else together(split), split.val
    given: dict[str, Any] = {}
    if apart:
        given["held_out"] = (val.Z, val.y, val.s)
    elif split.people is not None:  # nobody is in two folds
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        cells = rows.y * split.n_groups + rows.s
        given["cv"] = list(folds.split(rows.Z, cells, groups=split.people))
    clf = FairLowRankHeadClassifier(constraint=constraint, random_state=seed, device="cpu")
    with warnings.catch_warnings():
        # Of training that max_epochs ended: some weights near 1 take longer.
        warnings.simplefilter("ignore")
        return fairness_path(
            clf.set_params(**settings),
            rows.Z,
            rows.y,
            sensitive_features=rows.s,
            ranks=ranks,
            thresholds=thresholds,
            known_groups=known,
            n_boot=0,
            **given,
        )


def decided(path: FairnessPath, numbers: Any, part: Part, *, known: bool) -> list[np.ndarray]:
    """Return what some of a path's classifiers decide, without checking the rows each time."""
    Z = as_features(part.Z).double()
    codes = torch.from_numpy(part.s) if known else None
    heads = [path.classifiers[i].head_ for i in numbers]
    return [head_scores(head, Z, codes).argmax(dim=1).numpy() for head in heads]


PLUG_IN: dict[str, Any] = {"solver": "plug_in"}
LOW_RANKS: dict[str, Any] = {"solver": "plug_in", "ranks": [2, 3]}
# The covariance of all rows, pooled.
CLOSED: dict[str, Any] = {
    "solver": "closed_form",
    "importance": "covariance",
    "group_weights": "proportional",
    "C": "auto",
}
TRAINED: dict[str, Any] = {"solver": "fine_tune", "C": "auto"}


def _register(name: str, *paths: dict[str, Any], known_groups: bool = False, **more: Any) -> None:
    def run(split: Split, constraint: str, seed: int) -> Curve:
        forget()
        curve = Curve(counts=[])
        start = time.perf_counter()
        for settings in paths:
            own = {**settings, **more, "known_groups": known_groups}
            path = trace(split, constraint, seed, **own)
            numbers = range(len(path.classifiers))
            for row in path.table.itertuples():
                label = f"{row.solver} rank={row.rank} weight={row.fairness_weight:.3g}"
                curve.labels.append(f"{label} share={row.positive_share:.3g}")
            curve.test += decided(path, numbers, split.test, known=known_groups)
            assert curve.counts is not None
            curve.counts += path.decisions.astype(int).tolist()
        curve.seconds = time.perf_counter() - start
        return curve

    METHODS[f"ours, {name}"] = Method(run, needs_group=known_groups, classes=(2, 3))


_register("plug-in", PLUG_IN)
_register("plug-in, own thresholds", PLUG_IN, thresholds=1)
_register("plug-in, held out", PLUG_IN, held_out=True)
_register("plug-in, C=1", PLUG_IN, C=1.0)
_register("plug-in, ranks 2, 3 and full", PLUG_IN, LOW_RANKS)
_register("plug-in, group known", PLUG_IN, known_groups=True)
_register("closed form", CLOSED)
_register("closed form, Fisher metric", {"solver": "closed_form", "rank": 1, "C": "auto"})
_register("trained, held out", TRAINED, held_out=True)
