"""No parameter is ignored in silence.

Over all pairs of settings: given the first, the second changes the result of a fit, is refused, is
reported, or is void for a reason that the documentation gives.
"""

import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skfairft import FairLowRankHeadClassifier
from skfairft.datasets import make_biased_classification
from skfairft.solvers.registry import SOLVERS

ROWS = make_biased_classification(140, 6, n_classes=3, disparity=0.5, random_state=0)
# Of groups of one size equal weights change nothing.
X, Y, S = (part[(np.arange(140) % 7 > 0) | (ROWS[2] == 1)] for part in ROWS)
# Of a lower rank and with a constraint the head that is factorized first is no end of training.
BASE = {
    "rank": 1,
    "constraint": "demographic_parity",
    "fairness_weight": 0.7,
    "random_state": 0,
}


class Moves(Callback):
    """Changes what is trained, so that it shows whether it runs."""

    def on_epoch_end(self, net, **kwargs):
        with torch.no_grad():
            net.module_.head.bias[0] += 1.0


def layer(seed, *sizes):
    weights = np.random.default_rng(seed).normal(size=(sizes[1], sizes[0]))
    linear = nn.Linear(*sizes)
    linear.load_state_dict({"weight": torch.tensor(weights), "bias": torch.zeros(sizes[1])})
    return linear


OF_CLASSIFIER = {
    "feature_extractor": {"feature_extractor": layer(0, 6, 6)},
    "head": {"head": layer(1, 6, 3)},
    "hidden head": {"head": nn.Sequential(layer(2, 6, 4), nn.Tanh())},
    "no rank": {"rank": None},
    "a rank as a share": {"rank": 0.99},
    "uniform": {"importance": "uniform"},
    "covariance": {"importance": "covariance"},
    "fisher_by_group": {"importance": "fisher_by_group"},
    "group_weights": {"group_weights": [0.95, 0.05]},
    "minimax": {"group_weights": "minimax"},
    "neutral_loss": {"neutral_loss": True},
    "no constraint": {"constraint": None, "fairness_weight": None},
    "equalized_odds": {"constraint": "equalized_odds"},
    "error_rate_parity": {"constraint": "error_rate_parity"},
    "pos_label": {"pos_label": 2},
    "fairness_weight": {"fairness_weight": 0.4},
    "no fairness_weight": {"fairness_weight": 0.0},
    "difference_bound": {"difference_bound": 0.1, "fairness_weight": None},
    "confidence": {"confidence": 0.9},
    "missing_groups": {"missing_groups": "estimate"},
    "cv": {"cv": 0.4},
    "C": {"C": 0.01},
    "class_weight": {"class_weight": {0: 5.0, 1: 1.0, 2: 1.0}},
    "warm_start": {"warm_start": True},
    "random_state": {"random_state": 1},
}
OF_SOLVER = {
    "max_epochs": {"solver__max_epochs": 1},
    "untrained": {"solver__max_epochs": 0},
    "lr": {"solver__lr": 0.02},
    "batch_size": {"solver__batch_size": 40},
    "optimizer": {"solver__optimizer": torch.optim.SGD},
    "optimizer_kwargs": {"solver__optimizer_kwargs": {"max_iter": 2}},
    "weight_decay": {"solver__weight_decay": 0.3},
    "early_stopping": {"solver__early_stopping": True},
    "validation_fraction of the solver": {"solver__validation_fraction": 0.4},
    "n_iter_no_change": {"solver__n_iter_no_change": 3},
    "tol": {"solver__tol": 0.5},
    "no tol": {"solver__tol": None},
    "callbacks": {"solver__callbacks": [Moves()]},
    "calibrate": {"solver__calibrate": False},
    "standardize": {"solver__standardize": False},
}
SETTINGS = {**OF_CLASSIFIER, **OF_SOLVER}


def result(solver, settings):
    """Return what a fit leaves, "refused", or "reported"."""
    clf = FairLowRankHeadClassifier(solver=solver, **BASE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if settings.get("warm_start"):
                same = {name: settings[name] for name in settings if name in ("head", "rank")}
                clf.set_params(**same, C=0.1, class_weight={0: 1.0, 1: 3.0, 2: 1.0})
                clf.fit(X, Y, sensitive_features=S)
                clf.set_params(C=1.0, class_weight=None)
            clf.set_params(**settings).fit(X, Y, sensitive_features=S)
        except ValueError:
            return "refused"
    said = " ".join(str(each.message) for each in caught)
    if "no effect" in said or "nothing to act on" in said:
        return "reported"
    importances = clf.importance_, clf.group_importance_.ravel(), clf.singular_values_
    scores = clf.decision_function(X).ravel()
    return np.concatenate([scores, *importances, [clf.rank_, clf.n_iter_]])


def alike(a, b):
    return not isinstance(a, str) and not isinstance(b, str) and np.array_equal(a, b)


# Reasons of mathematics, all of them in the documentation of one of the two.
NO_CONSTRAINT = "at a weight of 0 a constraint is none"
ONE_EPOCH = "after one epoch there is nothing to stop"
EACH_IS_LARGE = "where every improvement is a large one it does not matter which count"
NO_STOP = "nothing stops, so that nothing depends on when"
AT_THE_END = "the head that training starts from is its end"
VOID = {
    ("calibrate", "no fairness_weight"): NO_CONSTRAINT,
    ("equalized_odds", "no fairness_weight"): NO_CONSTRAINT,
    ("error_rate_parity", "no fairness_weight"): NO_CONSTRAINT,
    ("pos_label", "no fairness_weight"): NO_CONSTRAINT,
    ("pos_label", "no constraint"): "only reports are of its rates then",
    ("pos_label", "error_rate_parity"): "an error is one whatever the class",
    ("early_stopping", "hidden head"): "it is 'auto', which stops such a head early",
    ("n_iter_no_change", "max_epochs"): ONE_EPOCH,
    ("no tol", "max_epochs"): ONE_EPOCH,
    ("tol", "max_epochs"): ONE_EPOCH,
    ("no tol", "early_stopping"): EACH_IS_LARGE,
    ("no tol", "hidden head"): EACH_IS_LARGE,
    ("tol", "early_stopping"): EACH_IS_LARGE,
    ("tol", "hidden head"): EACH_IS_LARGE,
    ("n_iter_no_change", "batch_size"): NO_STOP,
    ("n_iter_no_change", "optimizer"): NO_STOP,
    ("no tol", "batch_size"): NO_STOP,
    ("no tol", "optimizer"): NO_STOP,
    ("optimizer_kwargs", "no tol"): AT_THE_END,
    ("optimizer_kwargs", "no rank"): AT_THE_END,
    ("tol", "no rank"): AT_THE_END,
    ("tol", "C"): AT_THE_END,
    ("tol", "difference_bound"): AT_THE_END,  # each head starts at the one before
    ("tol", "callbacks"): NO_STOP,
}
# What is drawn with a seed; without these a linear head needs none.
DRAWS = {
    *("difference_bound", "lr", "batch_size", "optimizer", "weight_decay", "early_stopping"),
    "hidden head",
}


def ignored(solver, pairs):
    """Return those of the pairs of which one setting changes nothing beside the other."""
    alone = {"": result(solver, {})}
    found = set()
    for a, b in pairs:
        if SETTINGS[a].keys() & SETTINGS[b].keys():
            continue
        for name in {a, b} - alone.keys():
            alone[name] = result(solver, SETTINGS[name])
            found |= {(name, "")} if alike(alone[name], alone[""]) else set()
        both = result(solver, {**SETTINGS[a], **SETTINGS[b]})
        found |= {(b, a)} if alike(both, alone[a]) else set()
        found |= {(a, b)} if alike(both, alone[b]) else set()
    return found


def void(pair, solver):
    what, beside = pair
    draws = beside in DRAWS and solver != "closed_form"
    # Where nothing is cut, as by this share, PlugIn's epochs stay where they start.
    uncut = [("untrained", "no rank"), ("untrained", "a rank as a share")]
    stays = pair in uncut and solver == "plug_in"
    # The closed form, from which training starts, holds the mean scores of all classes.
    closed = solver == "closed_form" or (solver == "fine_tune" and beside == "untrained")
    all_alike = what == "pos_label" and closed
    if what == "missing_groups":  # all groups are known here
        return True
    return pair in VOID or stays or all_alike or (what == "random_state" and not draws)


# A bound is a search, as long as all the others together.
PAIRS = [pair for pair in combinations(SETTINGS, 2) if "difference_bound" not in pair]
PARTS = 40


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(PAIRS[:: 3 * PARTS], id="few"),
        *(
            pytest.param(PAIRS[part::PARTS], marks=pytest.mark.slow, id=str(part))
            for part in range(PARTS)
        ),
    ],
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_setting_is_ignored_beside_another(solver, pairs):
    found = ignored(solver, pairs)
    assert sorted(pair for pair in found if not void(pair, solver)) == []


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_nor_beside_a_bound(solver):
    found = ignored(solver, [(name, "difference_bound") for name in SETTINGS])
    assert sorted(pair for pair in found if not void(pair, solver)) == []
