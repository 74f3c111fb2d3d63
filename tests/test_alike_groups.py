"""Where groups are alike there is nothing to take away, and nothing is taken away."""

import numpy as np
import pandas as pd
import pytest
from fairlearn.preprocessing import CorrelationRemover

from skfairft import FairLowRankHeadClassifier, FairnessWarning
from skfairft.constraints import CONSTRAINTS

SOLVERS = ["fine_tune", "closed_form", "plug_in"]


def make_copies(seed, n=300, d=4, dtype=np.float64):
    """Each row once in each of two groups, as counterfactual augmentation makes them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = (X[:, 0] + 0.3 * rng.normal(size=n) > 0).astype(int)
    order = rng.permutation(2 * n)
    X, y, s = np.r_[X, X][order], np.r_[y, y][order], np.repeat([0, 1], n)[order]
    return X.astype(dtype), y, s


def make_groups(seed, n=600, d=6):
    """Features whose mean differs between a rare group and the others."""
    rng = np.random.default_rng(seed)
    s = (rng.random(n) < 0.25).astype(int)
    X = rng.normal(size=(n, d)) + s[:, None] * rng.normal(size=d)
    return X, (X[:, 0] + 0.4 * rng.normal(size=n) > 0).astype(int), s


def proba(X, y, s, **params):
    clf = FairLowRankHeadClassifier(random_state=0, **params)
    return clf.fit(X, y, sensitive_features=s).predict_proba(X)


def unchanged(X, y, s, **params):
    """The probabilities of a constraint, which says that it has nothing to act on."""
    with pytest.warns(FairnessWarning, match="has nothing to act on"):
        return proba(X, y, s, **params)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("weight", [0.5, 1.0])
@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_that_are_in_each_group_keep_their_head(solver, weight, constraint, dtype):
    held = {"solver": solver, "constraint": constraint}
    for seed in range(4):
        data = make_copies(seed, dtype=dtype)
        plain = proba(*data, solver=solver)
        fair = unchanged(*data, **held, fairness_weight=weight)
        if solver == "plug_in":  # whose probabilities are votes: the decisions
            assert np.mean(fair.argmax(axis=1) != plain.argmax(axis=1)) < 0.01
        else:
            np.testing.assert_allclose(fair, plain, atol=1e-3)


@pytest.mark.filterwarnings("ignore:constraint=.* has nothing to act on")
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_bound_finds_nothing_to_do(solver):
    X, y, s = make_copies(0)
    clf = FairLowRankHeadClassifier(
        constraint="demographic_parity",
        difference_bound=0.2,
        validation_fraction=0.3,
        solver=solver,
        random_state=0,
    ).fit(X, y, sensitive_features=s)
    assert clf.fairness_weight_ == 0.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_closed_form_finds_no_direction_in_columns_of_the_same_mean(dtype):
    X, y, s = make_groups(0)
    same = pd.DataFrame(X).groupby(s).transform(lambda x: (x - x.mean()) / x.std()).to_numpy()
    held = {"solver": "closed_form", "constraint": "demographic_parity", "fairness_weight": 1.0}
    for importance in ("fisher", "covariance"):
        data = (same.astype(dtype), y, s)
        fair = unchanged(*data, importance=importance, **held)
        plain = proba(*data, importance=importance, solver="closed_form")
        np.testing.assert_allclose(fair, plain, atol=1e-5)
    # Where the means differ it does find one.
    moved = proba(X, y, s, **held) - proba(X, y, s, solver="closed_form")
    assert np.abs(moved).max() > 0.1


def test_after_fairlearns_correlation_remover():
    X, y, s = make_groups(2)
    X = CorrelationRemover(sensitive_feature_ids=[X.shape[1]]).fit_transform(np.c_[X, s])
    held = {"solver": "closed_form", "constraint": "demographic_parity", "fairness_weight": 1.0}
    np.testing.assert_allclose(
        unchanged(X, y, s, **held), proba(X, y, s, solver="closed_form"), atol=1e-6
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_features_without_information_give_the_base_rate(constant, solver):
    for seed in range(15):
        rng = np.random.default_rng(seed)
        y, s = rng.integers(2, size=(2, 76))
        held = {"constraint": "equalized_odds", "fairness_weight": 0.3, "solver": solver}
        p = unchanged(np.full((76, 6), constant), y, s, importance="uniform", **held)
        if solver == "plug_in":
            assert y.mean() == 0.5 or (p.argmax(axis=1) == (y.mean() > 0.5)).all()
        else:
            np.testing.assert_allclose(p[:, 1], y.mean(), atol=0.01)
