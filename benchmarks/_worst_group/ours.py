"""The package's heads for the worst cell, and for the worst group, of train and val together.

Nothing is chosen here: no grid, no val. What `C="auto"` chooses, it chooses from the same rows.
"""

from __future__ import annotations

import warnings
from typing import Any

from _tradeoff.data import Split
from _tradeoff.peers import together
from sklearn.model_selection import StratifiedGroupKFold

from skfairft import FairLowRankHeadClassifier

from .choice import Fit, method


def fitted(split: Split, constraint: str, solver: str, **settings: Any) -> Fit:
    """Return the classifier, fitted as a user would."""
    both = together(split)
    if split.people is not None:  # nobody is in two folds, by which C is chosen
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=split.seed)
        cells = both.y * split.n_groups + both.s
        settings["cv"] = list(folds.split(both.Z, cells, groups=split.people))
    clf = FairLowRankHeadClassifier(
        constraint=constraint,
        solver=solver,
        **{"C": "auto", "random_state": split.seed, "device": "cpu", **settings},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of groups of few rows: they are in the tables
        clf.fit(both.Z, both.y, sensitive_features=both.s)
    return Fit(clf.predict, f"{constraint}, {solver}")


@method("ours, plug-in")
def plug_in(split: Split) -> Fit:
    """Return the plug-in rule for the worst cell."""
    return fitted(split, "worst_group", "plug_in")


@method("ours, trained")
def trained(split: Split) -> Fit:
    """Return a head trained for the worst cell."""
    return fitted(split, "worst_group", "fine_tune")


@method("ours, plug-in, groups alone")
def plug_in_groups(split: Split) -> Fit:
    """Return the plug-in rule for the group of the largest error."""
    return fitted(split, "worst_error_rate", "plug_in")


@method("ours, trained, groups alone")
def trained_groups(split: Split) -> Fit:
    """Return a head trained for the group of the largest error."""
    return fitted(split, "worst_error_rate", "fine_tune")
