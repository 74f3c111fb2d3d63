"""Groups that count alike where a head is fitted and trained, and weights that are found."""

import numpy as np
import pytest
import torch
from flat import flat

from skfairft import FairLowRankHeadClassifier, FineTune
from skfairft.datasets import make_biased_classification

DP = "demographic_parity"


@pytest.fixture(scope="module")
def data():
    """Three classes, and a group of a tenth."""
    X, y, s = make_biased_classification(500, 8, n_classes=3, disparity=0.5, random_state=0)
    kept = (s == 1) | (np.arange(500) % 9 == 0)
    return X[kept], y[kept], s[kept]


def fit(data, repeated=None, w=None, **params):
    X, y, s = data
    rows = np.arange(len(y)) if repeated is None else np.repeat(np.arange(len(y)), repeated)
    clf = FairLowRankHeadClassifier(**flat(**{"rank": 1, "random_state": 0, **params}))
    w = None if w is None else w[rows]
    return clf.fit(X[rows], y[rows], sensitive_features=s[rows], sample_weight=w)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "closed_form", "importance": "covariance"},
        {"constraint": DP, "fairness_weight": 0.5},
        {"group_weights": [0.8, 0.2], "class_weight": {0: 1.0, 1: 2.0, 2: 1.0}},
    ],
)
class TestLoss:
    def test_is_that_of_rows_so_weighted(self, data, params):
        X, y, s = data
        shares = np.array(params.get("group_weights", [0.5, 0.5]))
        by_class = np.array([1.0, 2.0, 1.0])[y] if "class_weight" in params else np.ones(len(y))
        factor = shares * by_class.sum() / np.bincount(s, by_class)
        found = fit(data, neutral_loss=True, **params)
        expected = fit(data, w=factor[s], **params)
        np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-6)
        np.testing.assert_allclose(found.group_weights_, shares)
        assert np.abs(found.predict_proba(X) - fit(data, **params).predict_proba(X)).max() > 0.01

    def test_does_not_depend_on_how_many_rows_a_group_has(self, data, params):
        X, y, s = data
        found = fit(data, neutral_loss=True, **params)
        repeated = np.where(s == 0, 3, 1)
        by_class = np.array([1.0, 2.0, 1.0])[y] if "class_weight" in params else np.ones(len(y))
        C = by_class.sum() / (by_class * repeated).sum()  # that of the sum of all weights
        more = fit(data, repeated, neutral_loss=True, C=C, **params)
        np.testing.assert_allclose(found.predict_proba(X), more.predict_proba(X), atol=1e-5)


def test_what_is_judged_is_judged_as_it_is(data):
    """A bound is one on the rows' own rates; these are the same with any weights of groups."""
    X, _, s = data
    clf = fit(data, constraint=DP, difference_bound=0.2, neutral_loss=True, solver="closed_form")
    rates = [np.bincount(clf.predict(X[s == g]), minlength=3) / (s == g).sum() for g in (0, 1)]
    low, high = clf.difference_interval_
    assert low <= np.abs(rates[0] - rates[1]).max() <= high


@pytest.mark.parametrize(
    ("params", "groups", "words"),
    [
        ({"solver": "plug_in", "constraint": DP}, True, "solver='plug_in' needs probabilities"),
        ({"group_weights": "minimax"}, True, "found where the head is cut"),
        ({}, False, "fit got no sensitive_features"),
        ({"group_weights": [1, 0]}, True, r"a weight of 0 for the groups \[1\] in group_weights"),
    ],
)
def test_refusals(data, params, groups, words):
    X, y, s = data
    clf = FairLowRankHeadClassifier(neutral_loss=True, rank=1, **params)
    with pytest.raises(ValueError, match=words):
        clf.fit(X, y, sensitive_features=s if groups else None)


@pytest.mark.parametrize("params", [{}, {"importance": "covariance", "solver": "closed_form"}])
def test_minimax_weights_are_alike_where_nothing_is_cut(data, params):
    """No group loses anything, and rounding, or a name, must not choose one."""
    X, y, s = data
    settings = {"constraint": DP, "fairness_weight": 0.5} | params
    fits = [
        fit((X, (y > 0).astype(int), groups), group_weights=weights, **settings)
        for groups in (s, 1 - s)
        for weights in ("minimax", None)
    ]
    for clf in fits:
        np.testing.assert_allclose(clf.group_weights_, 0.5)
        np.testing.assert_allclose(clf.predict_proba(X), fits[0].predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("importance", ["covariance", "fisher"])
def test_minimax_weights_are_those_of_the_worst_group(data, importance):
    """No other weights make the largest change in the importance's metric smaller."""
    X, _, s = data

    def cut(group_weights, rank=1):
        settings = {"importance": importance, "group_weights": group_weights}
        return fit(data, solver=FineTune(max_epochs=0), rank=rank, **settings)

    whole = cut(None, rank=2).head_.weight.detach()  # of three classes that is all of it

    def worst(clf):
        change = whole - clf.head_.weight.detach()
        if importance == "covariance":
            moved = torch.from_numpy(X - X.mean(0)) @ change
            return max(float(moved[s == g].square().sum(1).mean()) for g in (0, 1))
        squares = torch.from_numpy(clf.group_importance_).square() @ change.square()
        return float(squares.sum(1).max())

    found = cut("minimax")
    weights = found.group_weights_
    assert weights.sum() == pytest.approx(1.0)
    assert not np.allclose(weights, 0.5)
    np.testing.assert_allclose(found.decision_function(X), cut(weights).decision_function(X))
    others = [worst(cut([1.0 - share, share])) for share in np.linspace(0.0, 1.0, 21)]
    # Eq. 2 is of roots, a covariance has a ridge and another centre.
    assert worst(found) <= min(others) * 1.05
