"""As the paper writes it: Eq. 4's very factors trained, and importance from heads of each group."""

import numpy as np
import pytest
import torch
from flat import trained
from sklearn.linear_model import LogisticRegression
from torch import nn

from skfairft import FairLowRankHeadClassifier, FineTune
from skfairft.datasets import make_biased_classification

EPOCHS, RATE = 20, 0.05


@pytest.fixture(scope="module")
def data():
    """Features of other sizes and places than standardized ones."""
    X, y, s = make_biased_classification(200, 8, n_classes=4, disparity=0.5, random_state=0)
    return X * np.linspace(0.3, 2.0, 8) + np.linspace(-1.0, 1.0, 8), y, s


def written(**settings):
    return FineTune(
        max_epochs=EPOCHS,
        optimizer=torch.optim.SGD,
        lr=RATE,
        batch_size=200,
        tol=None,
        **settings,
    )


def descend(A, B, bias, X, y, penalty=lambda A, B: 0.0):
    """Plain descent on cross-entropy, as anybody would write Algorithm 1's last step."""
    parameters = [nn.Parameter(part.detach().clone()) for part in (A, B, bias)]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    for _ in range(EPOCHS):
        A, B, bias = parameters
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(X @ A @ B + bias, y) + penalty(A, B)
        loss.backward()
        optimizer.step()
    return [part.detach() for part in parameters]


@pytest.mark.parametrize("C", [np.inf, 0.1])
def test_trains_the_factors_of_eq_4(data, C):
    X, y, s = data
    start = FairLowRankHeadClassifier(rank=2, C=C, solver=FineTune(max_epochs=0))
    start.fit(X, y, sensitive_features=s)
    inputs, labels = torch.from_numpy(X), torch.from_numpy(y)
    scale = torch.from_numpy(X.std(axis=0))[:, None]

    def penalty(A, B):
        return (scale * (A @ B)).square().sum() / (2 * C * len(X))

    expected = descend(start.head_.A, start.head_.B, start.head_.bias, inputs, labels, penalty)
    clf = FairLowRankHeadClassifier(rank=2, C=C, solver=written(standardize=False))
    head = clf.fit(X, y, sensitive_features=s).head_
    for found, wanted in zip((head.A, head.B, head.bias), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-9, atol=1e-12)
    # Control: in standardized features and with balanced factors it goes another way.
    other = clf.set_params(solver=written()).fit(X, y, sensitive_features=s).head_
    assert float((other.weight - expected[0] @ expected[1]).detach().norm()) > 0.05


def test_the_loss_is_the_same(data):
    """Both ways lead to one end, with and without a hidden layer's scale in the penalty."""
    X, y, s = data
    ends = [
        FairLowRankHeadClassifier(
            solver=FineTune(standardize=standardize, tol=1e-12, max_epochs=500), C=0.1
        )
        .fit(X, y, sensitive_features=s)
        .predict_proba(X)
        for standardize in (True, False)
    ]
    np.testing.assert_allclose(*ends, atol=1e-4)


@pytest.mark.parametrize("constraint", ["demographic_parity", "error_rate_parity"])
def test_a_constraint_acts(data, constraint):
    X, y, s = data
    found = []
    for weight in (0.0, 0.9):
        clf = FairLowRankHeadClassifier(
            rank=3,
            constraint=constraint,
            fairness_weight=weight,
            solver=FineTune(standardize=False),
        )
        p = clf.fit(X, y, sensitive_features=s).predict_proba(X)
        if constraint == "error_rate_parity":
            p = 1.0 - p[np.arange(len(y)), y][:, None]
        found.append(np.abs(p[s == 0].mean(axis=0) - p[s == 1].mean(axis=0)).max())
    assert found[1] < 0.5 * found[0]


@pytest.mark.parametrize(
    "head", [nn.Sequential(nn.Linear(8, 6), nn.ReLU()), nn.Linear(8, 6), nn.Linear(8, 4)]
)
def test_trains_any_head(data, head):
    X, y, s = data
    torch.manual_seed(0)
    solver = FineTune(standardize=False, max_epochs=3, lr=0.01, tol=None, early_stopping=False)
    clf = FairLowRankHeadClassifier(head=head, rank=2, solver=solver, random_state=0)
    clf.fit(X, y, sensitive_features=s)
    losses = clf.history_[:, "train_loss"]
    assert losses[-1] < losses[0]
    with torch.no_grad():
        scores = clf.head_(torch.from_numpy(X)).numpy()
    np.testing.assert_array_equal(scores, clf.decision_function(X))


class TestHeadsOfEachGroup:
    def test_their_importance_is_that_of_scikit_learns_heads(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(rank=1, importance="fisher_by_group", C=0.5)
        clf.fit(X, y, sensitive_features=s)
        for group, found in zip(clf.groups_, clf.group_importance_, strict=True):
            rows, labels = X[s == group], y[s == group]
            standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
            peer = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(standard, labels)
            residual = peer.predict_proba(standard) - (labels[:, None] == peer.classes_)
            fisher = np.einsum("nd,nk->d", rows**2, residual**2) / len(rows)
            np.testing.assert_allclose(found, np.sqrt(fisher), rtol=2e-3)
        pooled = FairLowRankHeadClassifier(rank=1, C=0.5).fit(X, y, sensitive_features=s)
        assert np.abs(pooled.group_importance_ / clf.group_importance_ - 1.0).max() > 0.02

    def test_one_group_is_the_head_itself(self, data):
        X, y, _ = data
        with pytest.warns(UserWarning, match="no sensitive_features"):
            clf = FairLowRankHeadClassifier(rank=1, importance="fisher_by_group").fit(X, y)
        with pytest.warns(UserWarning, match="no sensitive_features"):
            pooled = FairLowRankHeadClassifier(rank=1).fit(X, y)
        np.testing.assert_allclose(clf.importance_, pooled.importance_, rtol=1e-3)

    @pytest.mark.parametrize(
        ("params", "named"),
        [
            ({"head": nn.Linear(8, 4)}, "head=Linear"),
            ({"solver": trained("plug_in")}, "solver='plug_in'"),
            ({"warm_start": True}, "warm_start=True"),
        ],
    )
    def test_what_does_not_go_with_it(self, data, params, named):
        X, y, s = data
        clf = FairLowRankHeadClassifier(rank=1, importance="fisher_by_group", **params)
        with pytest.raises(ValueError, match=f"fits a linear head .* does not go with {named}"):
            clf.fit(X, y, sensitive_features=s)

    def test_a_group_without_a_class_is_named(self, data):
        X, y, s = data
        keep = (s == 0) | (y != 2)
        names = np.array(["f", "m"])[s[keep]]
        clf = FairLowRankHeadClassifier(rank=1, importance="fisher_by_group")
        with (
            pytest.warns(UserWarning, match="too thin"),
            pytest.raises(ValueError, match=r"'m' has no row of class \[2\]. Merge groups"),
        ):
            clf.fit(X[keep], y[keep], sensitive_features=names)
