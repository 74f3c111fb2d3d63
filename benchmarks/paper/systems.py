"""The systems of the paper, as settings of the estimator, and what is measured of each.

=================== ====================================================================
TL                  rank=None: the layer is retrained as it is
f+SVD, rank r       cut by a plain SVD (importance="uniform"), then fine-tuned
paper, rank r       cut by the SVD weighted with neutralized importance, then fine-tuned
..., as written     trained as Algorithm 1 is written: AdamW moves Eq. 4's very factors A and B (TL:
                    the layer itself), in the features as they are; ours standardizes the features
                    and makes the factors equally large
paper, heads by     the other reading of section 3.3: each group's importance is that of a linear
group               head which is fitted on its rows alone
Retrain+DP, +EO     loss + intensity x distance (constraint, calibrate=False), at full rank;
                    of the head only, the distance without its kinks (`smooth`), or of the whole
                    network (`pretrain.retrain`)
fine_tune, plug_in, our own constrained heads
closed_form
pre-trained         the network as it was pre-trained, on the new task's rows
=================== ====================================================================

A linear head is trained by the estimator's default, full-batch L-BFGS, to its optimum. A layer with
an output layer behind it has no unique optimum and overfits: AdamW, and a tenth of the training
rows held out to stop by. C is chosen on val for TL (`choose_C`), and is then everyone's.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier, FineTune
from skfairft.head.measure import forget
from skfairft.metrics import (
    demographic_parity_distance,
    equalized_odds_distance,
    weighted_f1_error,
)

from .smooth import narrowing
from .tasks import Part, Task

# What an output layer behind a pre-trained one is trained with, besides the defaults.
HIDDEN = {"lr": 1e-3, "early_stopping": True}
LINEAR_C, HIDDEN_C = (1e-3, 1e-2, 1e-1, 1.0), (1e-2, 1.0)

# Settings of these names are the solver's.
OF_TRAINING = FineTune().get_params().keys()

Row = dict[str, Any]


def tl() -> dict[str, Any]:
    """Return the settings of plain transfer learning."""
    return {"rank": None}


def svd(rank: int | float) -> dict[str, Any]:
    """Return the settings of f+SVD."""
    return {"rank": rank, "importance": "uniform"}


def paper(rank: int | float, **settings: Any) -> dict[str, Any]:
    """Return the settings of the paper's method."""
    return {"rank": rank, **settings}


def penalized(constraint: str, intensity: float) -> dict[str, Any]:
    """Return the settings of Retrain+DP or Retrain+EO, of a linear head only; intensity > 0."""
    return {
        "constraint": constraint,
        "fairness_weight": intensity,
        "calibrate": False,
        **narrowing(),
    }


def constrained(solver: str, constraint: str, weight: float) -> dict[str, Any]:
    """Return the settings of one of our own constrained heads, of the lowest rank that serves it.

    A two-class head has rank 1; the plug-in rule's, of two labels in two groups, has rank 3. They
    start from a head that is fitted on the features, not from the pre-trained one.
    """
    own = {
        "fine_tune": {"rank": 1},
        "closed_form": {"rank": 1, "importance": "covariance", "group_weights": "proportional"},
        "plug_in": {"rank": 3},
    }[solver]
    return {
        "head": None,
        "solver": solver,
        "constraint": constraint,
        "fairness_weight": weight,
        **own,
    }


def main_three(rank: int) -> dict[str, dict[str, Any]]:
    """Return the systems of the paper's main comparison."""
    return {"TL": tl(), "f+SVD": svd(rank), "paper": paper(rank)}


def as_written(system: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of a system trained as Algorithm 1 is written."""
    return f"{system}, as written", settings | {"standardize": False}


def by_group(rank: int) -> dict[str, Any]:
    """Return the settings of the paper's method with importance from heads of each group."""
    return paper(rank, importance="fisher_by_group")


def measure(part: Part, predicted: np.ndarray, prefix: str = "") -> Row:
    """Return the paper's three measures, and the gap between the groups' accuracies.

    Err is 100 - weighted F1 in percent; ΔEO the sum of the differences in true and false positive
    rate; ``gap`` the largest difference between the groups' accuracies, in percentage points.
    """
    groups = {"sensitive_features": part.s}
    right = predicted == part.y
    by_group = [right[part.s == g].mean() for g in np.unique(part.s)]
    return {
        f"{prefix}Err": weighted_f1_error(part.y, predicted),
        f"{prefix}DDP": demographic_parity_distance(part.y, predicted, **groups),
        f"{prefix}DEO": equalized_odds_distance(part.y, predicted, **groups),
        f"{prefix}gap": 100 * float(max(by_group) - min(by_group)),
    }


def fitted(task: Task, C: float, **settings: Any) -> FairLowRankHeadClassifier:
    """Return an estimator that is fitted on a task's training rows, its warnings left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train = task.train
        return estimator(task, C, **settings).fit(train.Z, train.y, sensitive_features=train.s)


def estimator(task: Task, C: float, **settings: Any) -> FairLowRankHeadClassifier:
    """Return an estimator on a task's features."""
    training = HIDDEN if task.hidden and "head" not in settings else {}
    settings = {"head": task.head, "C": C, "random_state": task.seed, **training, **settings}
    how = {name: settings.pop(name) for name in OF_TRAINING & settings.keys()}
    if how.get("max_epochs") == 0:
        how = {"max_epochs": 0}
    if how:
        settings["solver"] = FineTune(**how)
    return FairLowRankHeadClassifier(**settings, device="cpu")


def fit(task: Task, system: str, C: float, settings: dict[str, Any], **columns: Any) -> Row:
    """Fit a system on a task's training rows and measure it on val and test.

    Parameters
    ----------
    task : Task
        The task.
    system : str
        Name for the row.
    C : float
        Of `choose_C`.
    settings : dict
        Parameters of the estimator.
    **columns
        More columns of the row.
    """
    clf = estimator(task, C, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        clf.fit(task.train.Z, task.train.y, sensitive_features=task.train.s)
        seconds = time.perf_counter() - start
    return {
        "system": system,
        **columns,
        "C": C,
        "parameters": sum(p.numel() for p in clf.head_.parameters()),
        "cosine": least_cosine(clf.group_importance_),
        "seconds": seconds,
        "warnings": sorted({each.category.__name__ for each in caught}),
        **measures(task, clf.predict),
    }


def measures(task: Task, predict: Callable[[Any], np.ndarray], inputs: str = "Z") -> Row:
    """Return what a predictor's val and test rows give, those of val with "val " before them."""
    with warnings.catch_warnings():
        # A rate that is undefined is NaN in the row; the report counts those.
        warnings.simplefilter("ignore")
        return {
            **measure(task.test, predict(getattr(task.test, inputs))),
            **measure(task.val, predict(getattr(task.val, inputs)), "val "),
        }


def network_row(task: Task, system: str, network: nn.Sequential, **columns: Any) -> Row:
    """Return the row of a whole network, which takes a task's inputs rather than its features."""

    def predict(X: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(X)).argmax(dim=1).numpy()

    return {"system": system, **columns, **measures(task, predict, "X")}


def least_cosine(importance: np.ndarray) -> float:
    """Return the least cosine between two groups' importances; 1: nothing to neutralize."""
    lengths = np.linalg.norm(importance, axis=1, keepdims=True)
    unit = importance / np.where(lengths > 0, lengths, 1.0)
    return float((unit @ unit.T).min())


def choose_C(task: Task) -> float:
    """Return the C, of a small grid, with which TL has the least error on val."""
    grid = HIDDEN_C if task.hidden else LINEAR_C
    errors = [
        weighted_f1_error(task.val.y, fitted(task, C, **tl()).predict(task.val.Z)) for C in grid
    ]
    forget()
    return grid[int(np.argmin(errors))]


def epochs_of(epochs: int | None) -> dict:
    """Return the settings of exactly so many epochs; None is until the training ends itself."""
    if epochs is None:
        return {}
    # Of AdamW for every layer: L-BFGS would be at its optimum after one epoch.
    stop = {"early_stopping": False, "tol": None}
    return {"max_epochs": 0} if epochs == 0 else {"max_epochs": epochs, "lr": 1e-3, **stop}


@dataclass
class Bench:
    """What an experiment works on: a task, C for its fits, and whether to be quick about it."""

    task: Task
    C: float
    quick: bool = False

    def fit(self, system: str, settings: dict, **columns) -> Row:
        """Return the row of one fit; ``columns`` may hold its settings, to be found by."""
        return fit(self.task, system, self.C, settings, **columns)
