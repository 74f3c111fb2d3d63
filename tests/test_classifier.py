"""Algorithm 1 against an independent calculation, the baselines, and weights."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from flat import flat
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch.callbacks import Callback
from torch import nn

from skfairft import FairLowRankHeadClassifier, FairnessWarning, FineTune
from skfairft.datasets import fetch_adult, make_biased_classification
from skfairft.lowrank.factorization import IMPORTANCE_FLOOR


def make_data(n=300, n_classes=2, n_groups=2, n_features=10, seed=0):
    return make_biased_classification(
        n,
        n_features,
        n_classes=n_classes,
        n_groups=n_groups,
        n_informative=max(4, n_classes),
        disparity=0.5,
        random_state=seed,
    )


def linear(n_in, n_out, seed=0):
    """A layer as from pre-training: weights of very different size from row to row."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    with torch.no_grad():
        weight = torch.randn(n_out, n_in, generator=generator)
        layer.weight.copy_(weight * torch.logspace(-1, 0.3, n_in))
        layer.bias.copy_(torch.randn(n_out, generator=generator))
    return layer


def weight_of(layer):
    """Weight, inputs by outputs, and bias of a layer in float64."""
    return layer.weight.detach().double().numpy().T, layer.bias.detach().double().numpy()


def softmax(logits):
    p = np.exp(logits - logits.max())
    return p / p.sum()


def fisher_by_loop(Z, y, s, residual, w=None):
    """Eq. 1, row by row: the outer product of input and gradient, squared, averaged."""
    w = np.ones(len(Z)) if w is None else w
    rows = []
    for g in np.unique(s):
        total = np.zeros(Z.shape[1])
        for n in np.flatnonzero(s == g):
            total += w[n] * (np.outer(Z[n], residual(Z[n], y[n])) ** 2).sum(axis=1)
        rows.append(total / w[s == g].sum())
    return np.array(rows)


def factorize(W, importance, rank):
    """Eq. 4 by numpy: factors, singular values."""
    U, S, Vt = np.linalg.svd(np.diag(importance) @ W, full_matrices=False)
    A = np.diag(1 / importance) @ U[:, :rank] @ np.diag(S[:rank])
    return A, Vt[:rank], S


def linear_residual(W, b):
    """Gradient of one row's cross-entropy at the logits."""
    return lambda z, y: softmax(z @ W + b) - np.eye(len(b))[y]


class TestAlgorithm:
    @pytest.mark.parametrize(("n_classes", "n_groups"), [(2, 2), (5, 2), (3, 4)])
    @pytest.mark.parametrize("rank", [1, 2])
    def test_pretrained_head_equals_plain_numpy(self, n_classes, n_groups, rank):
        X, y, s = make_data(n_classes=n_classes, n_groups=n_groups)
        layer = linear(10, n_classes)
        W, b = weight_of(layer)
        fisher = fisher_by_loop(X, y, s, linear_residual(W, b))
        shares = np.arange(1, n_groups + 1) / np.arange(1, n_groups + 1).sum()
        importance = (shares[:, None] * np.sqrt(fisher)).sum(axis=0)
        A, B, S = factorize(W, importance, rank)

        clf = FairLowRankHeadClassifier(
            head=layer, rank=rank, group_weights=shares, solver=FineTune(max_epochs=0)
        ).fit(X, y, sensitive_features=s)
        np.testing.assert_allclose(clf.group_importance_, np.sqrt(fisher), rtol=1e-10)
        np.testing.assert_allclose(clf.importance_, importance, rtol=1e-10)
        np.testing.assert_allclose(clf.singular_values_, S, rtol=1e-8, atol=1e-12 * S[0])
        np.testing.assert_allclose(clf.head_.weight.detach(), A @ B, atol=1e-10)
        np.testing.assert_allclose(clf.head_.A.detach().abs(), np.abs(A), atol=1e-10)
        np.testing.assert_allclose(clf.head_.B.detach().abs(), np.abs(B), atol=1e-10)
        np.testing.assert_array_equal(clf.head_.bias.detach(), b)
        assert clf.rank_ == rank
        logits = X @ A @ B + b
        expected = logits[:, 1] - logits[:, 0] if n_classes == 2 else logits
        np.testing.assert_allclose(clf.decision_function(X), expected, atol=1e-9)
        # Controls: the groups differ, and so does the cut that ignores the importance.
        assert np.ptp(np.sqrt(fisher), axis=0).max() > 0.05 * importance.max()
        if rank < n_classes - 1:
            plain, _, _ = factorize(W, np.ones(10), rank)
            assert not np.allclose(np.abs(plain), np.abs(A), atol=1e-3)

    @pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.Tanh()])
    def test_hidden_head_equals_plain_numpy(self, activation):
        X, y, s = make_data(n_classes=3)
        layer = linear(10, 6)
        W, b = weight_of(layer)
        head = layer if activation is None else nn.Sequential(layer, activation)
        clf = FairLowRankHeadClassifier(head=head, rank=2, solver=FineTune(max_epochs=0))
        clf.fit(X, y, sensitive_features=s)
        Wo, bo = weight_of(clf.head_[-1])

        def act(h):
            if activation is None:
                return h, np.ones_like(h)
            if isinstance(activation, nn.ReLU):
                return np.maximum(h, 0), (h > 0).astype(float)
            return np.tanh(h), 1 - np.tanh(h) ** 2

        def residual(z, label):
            value, slope = act(z @ W + b)
            return slope * (Wo @ (softmax(value @ Wo + bo) - np.eye(3)[label]))

        fisher = fisher_by_loop(X, y, s, residual)
        importance = np.sqrt(fisher).mean(axis=0)
        A, B, S = factorize(W, importance, 2)
        np.testing.assert_allclose(clf.group_importance_, np.sqrt(fisher), rtol=1e-8)
        np.testing.assert_allclose(clf.singular_values_, S, rtol=1e-8)
        np.testing.assert_allclose(clf.head_[0].weight.detach(), A @ B, atol=1e-8)
        np.testing.assert_array_equal(clf.head_[0].bias.detach(), b)
        logits = act(X @ A @ B + b)[0] @ Wo + bo
        np.testing.assert_allclose(clf.decision_function(X), logits, atol=1e-8)
        # The new output layer is the logistic regression on the layer's own outputs.
        hidden = act(X @ W + b)[0]
        expected = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-9, max_iter=5000))
        expected.fit(hidden, y)
        found = np.array([softmax(row) for row in hidden @ Wo + bo])
        np.testing.assert_allclose(found, expected.predict_proba(hidden), atol=2e-3)

    def test_a_fitted_linear_head_goes_through_the_same_steps(self):
        X, y, s = make_data(n_classes=4)
        dense = FairLowRankHeadClassifier(solver=FineTune(max_epochs=0)).fit(
            X, y, sensitive_features=s
        )
        W, b = dense.head_.weight.detach().numpy(), dense.head_.bias.detach().numpy()
        fisher = fisher_by_loop(X, y, s, linear_residual(W, b))
        A, B, _ = factorize(W, np.sqrt(fisher).mean(axis=0), 2)
        cut = FairLowRankHeadClassifier(rank=2, solver=FineTune(max_epochs=0)).fit(
            X, y, sensitive_features=s
        )
        np.testing.assert_allclose(cut.head_.weight.detach(), A @ B, atol=1e-9)

    def test_the_pretrained_head_is_not_changed(self):
        X, y, s = make_data()
        head = nn.Sequential(linear(10, 6), nn.ReLU())
        before = {name: value.clone() for name, value in head.state_dict().items()}
        clf = FairLowRankHeadClassifier(head=head, rank=2, solver=FineTune(max_epochs=3, tol=None))
        clf.fit(X, y, sensitive_features=s)
        assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
        assert clf.head is head
        # Control: the classifier's own copy has been trained.
        assert not torch.allclose(clf.head_[0].weight.T.float(), before["0.weight"])

    def test_dead_features_get_the_floor_and_do_no_harm(self):
        X, y, s = make_data(n_classes=3)
        X[:, 4] = 0.0
        layer = linear(10, 3)
        clf = FairLowRankHeadClassifier(head=layer, rank=1, solver=FineTune(max_epochs=0))
        clf.fit(X, y, sensitive_features=s)
        assert (clf.group_importance_[:, 4] == 0).all()
        size = np.sqrt(np.mean(X**2, axis=0))
        size[4] = 1.0  # as for every constant feature
        largest = (clf.importance_ / size).max()
        assert clf.importance_[4] == pytest.approx(IMPORTANCE_FLOOR * largest)
        for epochs in (0, 100):
            clf = FairLowRankHeadClassifier(head=layer, rank=2, solver=FineTune(max_epochs=epochs))
            clf.fit(X, y, sensitive_features=s)
            assert np.isfinite(clf.decision_function(X + 1.0)).all()

    @pytest.mark.parametrize("max_epochs", [0, 100])
    @pytest.mark.parametrize("rank", [1, 2])
    def test_units_do_not_matter(self, rank, max_epochs):
        """Features of a language model were seen to have a spread of 1e-33 beside others of 1."""
        X, y, s = make_data(n_classes=3)
        units = np.ones(10)
        units[[3, 7]] = 2.0**-110
        units[5] = 2.0**40
        clf = FairLowRankHeadClassifier(rank=rank, solver=FineTune(max_epochs=max_epochs))
        expected = clf.fit(X, y, sensitive_features=s).predict_proba(X)
        found = clf.fit(X * units, y, sensitive_features=s).predict_proba(X * units)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


class TestBaselines:
    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_full_rank_is_logistic_regression(self, n_classes):
        X, y, s = make_data(n_classes=n_classes)
        X = X * np.logspace(-2, 2, 10) + 3.0
        clf = FairLowRankHeadClassifier(C=0.3, solver=FineTune(tol=1e-7)).fit(
            X, y, sensitive_features=s
        )
        assert clf.head_.B is None
        assert clf.rank_ == n_classes
        reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, tol=1e-9))
        expected = reference.fit(X, y).predict_proba(X)
        np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-4)
        other = LogisticRegression(C=0.1, tol=1e-9)
        control = make_pipeline(StandardScaler(), other).fit(X, y).predict_proba(X)
        assert np.abs(control - expected).max() > 5e-3

    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_enough_rank_reaches_the_same_optimum(self, n_classes):
        X, y, s = make_data(n_classes=n_classes)
        full = FairLowRankHeadClassifier(solver=FineTune(tol=1e-7)).fit(X, y, sensitive_features=s)
        cut = FairLowRankHeadClassifier(rank=n_classes - 1, solver=FineTune(tol=1e-7))
        cut.fit(X, y, sensitive_features=s)
        assert cut.head_.A.shape == (10, n_classes - 1)
        assert cut.head_.B.shape == (n_classes - 1, n_classes)
        np.testing.assert_allclose(cut.predict_proba(X), full.predict_proba(X), atol=1e-3)

    def test_uniform_importance_is_the_plain_svd(self):
        X, y, s = make_data(n_classes=4)
        layer = linear(10, 4)
        W, _ = weight_of(layer)
        clf = FairLowRankHeadClassifier(
            head=layer, rank=2, importance="uniform", solver=FineTune(max_epochs=0)
        )
        clf.fit(X, y, sensitive_features=s)
        U, S, Vt = np.linalg.svd(W, full_matrices=False)
        np.testing.assert_allclose(clf.head_.weight.detach(), U[:, :2] * S[:2] @ Vt[:2], atol=1e-10)
        np.testing.assert_allclose(clf.singular_values_, S, rtol=1e-10)
        np.testing.assert_array_equal(clf.importance_, np.ones(10))
        # Eckart and Young: no rank-2 matrix is nearer; the Fisher-weighted one is farther.
        weighted = FairLowRankHeadClassifier(head=layer, rank=2, solver=FineTune(max_epochs=0))
        weighted.fit(X, y, sensitive_features=s)
        distance = np.linalg.norm(W - clf.head_.weight.detach().numpy())
        assert distance == pytest.approx(np.sqrt((S[2:] ** 2).sum()))
        assert np.linalg.norm(W - weighted.head_.weight.detach().numpy()) > distance + 1e-3

    def test_group_weights(self):
        X, y, s = make_data(n_groups=3)
        s = np.where((s == 2) & (np.arange(len(s)) % 3 > 0), 1, s)  # groups of unequal size
        names = np.array(["a", "b", "c"])[s]

        def fit(weights, sample_weight=None):
            clf = FairLowRankHeadClassifier(
                head=linear(10, 2), rank=1, group_weights=weights, solver=FineTune(max_epochs=0)
            )
            return clf.fit(X, y, sample_weight=sample_weight, sensitive_features=names)

        equal = fit(None)
        each = equal.group_importance_
        np.testing.assert_allclose(equal.importance_, each.mean(axis=0), rtol=1e-12)
        one = fit({"a": 0, "b": 1.0, "c": 0})
        np.testing.assert_allclose(one.importance_, each[1], rtol=1e-12)
        unequal = fit({"c": 6, "b": 1, "a": 3})
        np.testing.assert_allclose(unequal.importance_, [0.3, 0.1, 0.6] @ each, rtol=1e-12)
        by_array = fit([3, 1, 6])
        np.testing.assert_array_equal(by_array.importance_, unequal.importance_)
        np.testing.assert_array_equal(by_array.decision_function(X), unequal.decision_function(X))
        shares = np.bincount(s) / len(s)
        np.testing.assert_allclose(fit("proportional").importance_, shares @ each, rtol=1e-12)
        w = np.random.default_rng(0).integers(1, 4, size=len(s)).astype(float)
        weighted = fit("proportional", w)
        shares = np.bincount(s, w) / w.sum()
        expected = shares @ weighted.group_importance_
        np.testing.assert_allclose(weighted.importance_, expected, rtol=1e-12)

    def test_group_weights_do_not_move_the_training_objective(self):
        """They choose where training starts; with enough rank it ends at the same optimum."""
        X, y, s = make_data()
        proba = [
            FairLowRankHeadClassifier(rank=1, group_weights=weights, solver=FineTune(tol=1e-7))
            .fit(X, y, sensitive_features=s)
            .predict_proba(X)
            for weights in ([1, 0], [0, 1])
        ]
        np.testing.assert_allclose(*proba, atol=1e-3)


class TestGroups:
    def test_names_and_order_of_the_groups_do_not_matter(self):
        X, y, s = make_data(n_classes=3, n_groups=3)
        reference = FairLowRankHeadClassifier(rank=2).fit(X, y, sensitive_features=s)
        renamed = FairLowRankHeadClassifier(rank=2)
        renamed.fit(X, y, sensitive_features=np.array(["z", "m", "a"])[s])
        assert renamed.groups_.tolist() == ["a", "m", "z"]
        np.testing.assert_allclose(
            renamed.group_importance_, reference.group_importance_[::-1], rtol=1e-12
        )
        np.testing.assert_allclose(
            renamed.decision_function(X), reference.decision_function(X), atol=1e-6
        )

    @pytest.mark.parametrize("rank", [None, 2])
    @pytest.mark.parametrize("width", [None, 3, 6])
    def test_order_of_rows_does_not_matter(self, rank, width):
        X, y, s = make_data(n_classes=3)
        order = np.random.default_rng(0).permutation(len(X))
        # The fit of two layers has no single optimum, and rounding may choose where it stops.
        epochs = 0 if width == 6 else 100
        head = None if width is None else linear(10, width, seed=2)
        first, second = (
            FairLowRankHeadClassifier(head=head, rank=rank, solver=FineTune(max_epochs=epochs))
            .fit(X[rows], y[rows], sensitive_features=s[rows])
            .predict_proba(X)
            for rows in (np.arange(len(X)), order)
        )
        np.testing.assert_allclose(first, second, atol=1e-6)

    def test_several_columns_are_their_intersections(self):
        pd = pytest.importorskip("pandas")
        X, y, s = make_data(n_groups=4)
        frame = pd.DataFrame({"sex": np.array(["f", "m"])[s // 2], "old": (s % 2).astype(bool)})
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=frame)
        assert clf.groups_.tolist() == [("f", False), ("f", True), ("m", False), ("m", True)]
        plain = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(clf.group_importance_, plain.group_importance_)
        weights = {("f", False): 1, ("f", True): 2, ("m", False): 3, ("m", True): 4}
        named = FairLowRankHeadClassifier(rank=1, group_weights=weights)
        named.fit(X, y, sensitive_features=frame)
        expected = np.array([0.1, 0.2, 0.3, 0.4]) @ plain.group_importance_
        np.testing.assert_allclose(named.importance_, expected, rtol=1e-12)
        # Combinations that do not occur are no groups.
        rows = s != 1
        fewer = FairLowRankHeadClassifier(rank=1)
        fewer.fit(X[rows], y[rows], sensitive_features=frame[rows])
        assert fewer.groups_.tolist() == [("f", False), ("m", False), ("m", True)]
        one_column = FairLowRankHeadClassifier(rank=1)
        one_column.fit(X, y, sensitive_features=frame[["sex"]])
        assert one_column.groups_.tolist() == ["f", "m"]

    def test_without_groups_the_importance_is_pooled_and_that_is_said(self):
        X, y, _ = make_data()
        with pytest.warns(FairnessWarning, match="pooled over all rows") as record:
            clf = FairLowRankHeadClassifier(rank=1).fit(X, y)
        assert len(record) == 1
        assert record[0].filename == __file__
        assert clf.groups_.tolist() == ["all"]
        assert clf.group_importance_.shape == (1, 10)
        pooled = FairLowRankHeadClassifier(
            head=linear(10, 2), rank=1, solver=FineTune(max_epochs=0)
        )
        with pytest.warns(FairnessWarning):
            pooled.fit(X, y)
        W, b = weight_of(linear(10, 2))
        fisher = fisher_by_loop(X, y, np.zeros(len(X)), linear_residual(W, b))
        np.testing.assert_allclose(pooled.importance_, np.sqrt(fisher[0]), rtol=1e-10)


class TestWeights:
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_a_weight_repeats_the_row(self, n_classes):
        X, y, s = make_data(n_classes=n_classes)
        w = np.random.default_rng(0).integers(0, 4, size=len(X))
        again = np.repeat(np.arange(len(X)), w)
        # With a pre-trained head nothing is fitted before the Fisher information.
        exact = {"head": linear(10, n_classes), "rank": 1, "max_epochs": 0}
        for settings, tolerance in ((exact, 1e-11), ({"rank": 1, "tol": 1e-8}, 2e-4)):
            weighted = FairLowRankHeadClassifier(**flat(**settings)).fit(
                X, y, sample_weight=w, sensitive_features=s
            )
            repeated = FairLowRankHeadClassifier(**flat(**settings))
            repeated.fit(X[again], y[again], sensitive_features=s[again])
            np.testing.assert_allclose(
                weighted.importance_, repeated.importance_, rtol=10 * tolerance
            )
            np.testing.assert_allclose(
                weighted.predict_proba(X), repeated.predict_proba(X), atol=tolerance
            )
            plain = FairLowRankHeadClassifier(**flat(**settings)).fit(X, y, sensitive_features=s)
            assert np.abs(plain.predict_proba(X) - weighted.predict_proba(X)).max() > 2e-3

    def test_rows_of_weight_zero_are_as_if_absent(self):
        X, y, s = make_data()
        w = np.arange(len(X)) % 3 > 0
        X[~w] = 1e6
        zero = FairLowRankHeadClassifier(rank=1).fit(X, y, sample_weight=w, sensitive_features=s)
        absent = FairLowRankHeadClassifier(rank=1).fit(X[w], y[w], sensitive_features=s[w])
        np.testing.assert_allclose(zero.predict_proba(X[w]), absent.predict_proba(X[w]), atol=1e-4)
        np.testing.assert_allclose(zero.group_importance_, absent.group_importance_, rtol=1e-4)

    @pytest.mark.parametrize("labels", [(0, 1, 2), ("a", "b", "c"), (-1.0, 0.0, 5.0)])
    def test_class_weight_is_a_sample_weight(self, labels):
        X, y, s = make_data(n_classes=3)
        names = np.array(labels)[y]
        values = np.array([1.0, 3.0, 0.5])
        by_class = FairLowRankHeadClassifier(
            rank=1, class_weight=dict(zip(labels, values, strict=True))
        ).fit(X, names, sensitive_features=s)
        by_row = FairLowRankHeadClassifier(rank=1)
        by_row.fit(X, names, sample_weight=values[y], sensitive_features=s)
        np.testing.assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))
        both = FairLowRankHeadClassifier(
            rank=1, class_weight=dict(zip(labels, values, strict=True))
        )
        both.fit(X, names, sample_weight=1 / values[y], sensitive_features=s)
        plain = FairLowRankHeadClassifier(rank=1).fit(X, names, sensitive_features=s)
        np.testing.assert_allclose(both.predict_proba(X), plain.predict_proba(X), atol=1e-12)
        assert np.abs(plain.predict_proba(X) - by_row.predict_proba(X)).max() > 0.05

    def test_balanced_classes(self):
        X, y, s = make_data(n_classes=3)
        rows = (y != 2) | (np.arange(len(y)) % 4 == 0)
        X, y, s = X[rows], y[rows], s[rows]
        balanced = FairLowRankHeadClassifier(rank=1, class_weight="balanced")
        balanced.fit(X, y, sensitive_features=s)
        w = len(y) / (3 * np.bincount(y))[y]
        by_row = FairLowRankHeadClassifier(rank=1).fit(X, y, sample_weight=w, sensitive_features=s)
        np.testing.assert_allclose(balanced.predict_proba(X), by_row.predict_proba(X), atol=1e-10)
        assert w.max() > 2 * w.min()

    def test_scaling_all_weights_scales_only_the_penalty(self):
        """As in scikit-learn's LogisticRegression, whose loss is a sum over rows."""
        X, y, s = make_data()
        ten = np.full(len(X), 10.0)
        for settings in ({"rank": 1}, {"head": linear(10, 6), "rank": 2, "max_epochs": 0}):
            heavy, less_penalty, plain = (
                FairLowRankHeadClassifier(**flat(C=C, **settings))
                .fit(X, y, sample_weight=w, sensitive_features=s)
                .predict_proba(X)
                for C, w in ((0.01, ten), (0.1, None), (0.01, None))
            )
            np.testing.assert_allclose(heavy, less_penalty, atol=1e-4)
            assert np.abs(plain - heavy).max() > 0.01
        scaled, unscaled = (
            FairLowRankHeadClassifier(head=linear(10, 2), rank=1, solver=FineTune(max_epochs=0))
            .fit(X, y, sample_weight=w, sensitive_features=s)
            .importance_
            for w in (ten, None)
        )
        np.testing.assert_allclose(scaled, unscaled, rtol=1e-12)


class TestRank:
    def test_float_keeps_the_share_of_energy(self):
        X, y, s = make_data(n_classes=5, n_features=12)
        layer = linear(12, 5)

        def fit(rank):
            clf = FairLowRankHeadClassifier(head=layer, rank=rank, solver=FineTune(max_epochs=0))
            return clf.fit(X, y, sensitive_features=s)

        energy = np.cumsum(fit(None).singular_values_ ** 2)
        energy /= energy[-1]
        for rank in range(1, 6):
            assert fit(float(energy[rank - 1]) - 1e-9).rank_ == rank
            if rank < 5:
                assert fit(float(energy[rank - 1]) + 1e-9).rank_ == rank + 1
        assert fit(1.0).rank_ == 5
        assert fit(np.int64(3)).head_.A.shape == (12, 3)
        assert fit(None).rank_ == 5
        assert fit(None).head_.B is None

    def test_too_large_is_used_as_the_largest_with_one_warning(self):
        X, y, s = make_data(n_classes=3)
        with pytest.warns(UserWarning, match=r"rank=7 is above min\(d, k\) = 3.*using 3") as record:
            large = FairLowRankHeadClassifier(rank=7).fit(X, y, sensitive_features=s)
        assert len(record) == 1
        assert record[0].filename == __file__
        assert large.rank_ == 3
        exact = FairLowRankHeadClassifier(rank=3).fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(large.decision_function(X), exact.decision_function(X))

    def test_more_rank_never_fits_worse(self):
        X, y, s = make_data(n_classes=6, n_features=12, n=600)
        losses = [
            FairLowRankHeadClassifier(rank=rank)
            .fit(X, y, sensitive_features=s)
            .history_[-1]["train_loss"]
            for rank in (1, 2, 3, 5)
        ]
        assert all(a > b for a, b in itertools.pairwise(losses))


class TestPrecision:
    @pytest.mark.parametrize("hidden", [False, True])
    def test_large_data_are_converted_block_by_block(self, monkeypatch, hidden):
        """Above a size, no copy of float32 features is kept in float64; the result is the same."""
        X, y, s = make_data(n_classes=3)
        X = (X + 100.0).astype(np.float32)
        settings = {"rank": 2}
        if hidden:
            settings = {"head": linear(10, 6), "rank": 2, "solver": FineTune(max_epochs=0)}
        fits = []
        for limit, dtype in ((2**26, torch.float64), (0, torch.float32)):
            seen = set()

            class Watch(Callback):
                def on_train_begin(self, net, X=None, seen=seen, **kwargs):
                    seen.add(X.Z.dtype)

            monkeypatch.setattr("skfairft.fitting._DOUBLE_LIMIT", limit)
            clf = FairLowRankHeadClassifier(
                **(settings if hidden else flat(**settings, solver=FineTune(callbacks=[Watch()])))
            )
            fits.append(clf.fit(X, y, sensitive_features=s))
            assert seen == (set() if hidden else {dtype})
            assert {parameter.dtype for parameter in clf.head_.parameters()} == {torch.float64}
        kept, converted = fits
        np.testing.assert_allclose(converted.importance_, kept.importance_, rtol=1e-12)
        np.testing.assert_allclose(converted.predict_proba(X), kept.predict_proba(X), rtol=1e-9)
        # to_torch is for features as they come, which are float32.
        found = converted.to_torch()(torch.from_numpy(X)).detach()
        np.testing.assert_allclose(found, converted.decision_function(X), rtol=1e-6)


class TestAccuracy:
    """No tuning, at least as accurate as LogisticRegression, in points, averaged over splits."""

    def mean_points(self, splits, ranks):
        ours = {rank: [] for rank in ranks}
        reference = []
        for X, y, s, seed in splits:
            parts = train_test_split(X, y, s, test_size=0.4, random_state=seed, stratify=y)
            X_train, X_test, y_train, y_test, s_train, _ = parts
            model = LogisticRegression(max_iter=5000).fit(X_train, y_train)
            reference.append(100 * model.score(X_test, y_test))
            for rank in ranks:
                clf = FairLowRankHeadClassifier(rank=rank)
                clf.fit(X_train, y_train, sensitive_features=s_train)
                ours[rank].append(100 * clf.score(X_test, y_test))
        return {rank: np.mean(points) for rank, points in ours.items()}, np.mean(reference)

    def test_synthetic(self):
        splits = [(*make_data(1000, seed=seed), seed) for seed in range(10)]
        ours, reference = self.mean_points(splits, [1, None])
        assert min(ours.values()) >= reference - 0.2
        splits = [(*make_data(1000, 4, 3, 20, seed=seed), seed) for seed in range(5)]
        ours, reference = self.mean_points(splits, [1, 3, None])
        assert min(ours[3], ours[None]) >= reference - 0.2
        assert ours[1] < reference - 5  # control: one dimension does not tell four classes apart

    def test_digits(self):
        X, y = load_digits(return_X_y=True)
        s = X.mean(axis=1) > np.median(X.mean(axis=1))
        ours, reference = self.mean_points([(X, y, s, seed) for seed in range(3)], [9, 10, None])
        assert min(ours.values()) >= reference - 0.2

    @pytest.mark.slow
    def test_features_of_a_network_on_adult(self):
        splits = [(*adult_features(seed), seed) for seed in range(4)]
        ours, reference = self.mean_points(splits, [1, None])
        assert min(ours.values()) >= reference - 0.2


def adult_features(seed):
    """64 features of the 40 % of Adult that a small network was not trained on."""
    X, y, s = fetch_adult(return_X_y_s=True)
    numbers = X.select_dtypes("number")
    onehot = OneHotEncoder(sparse_output=False).fit_transform(X.select_dtypes("category"))
    inputs = np.hstack([StandardScaler().fit_transform(numbers), onehot]).astype(np.float32)
    first, second = train_test_split(
        np.arange(len(y)), test_size=0.4, random_state=seed, stratify=y
    )
    rows, labels = torch.from_numpy(inputs[first]), torch.from_numpy(y.to_numpy()[first])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Linear(rows.shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        model = nn.Sequential(body, nn.Linear(64, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(3):
            for batch in torch.randperm(len(rows)).split(256):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(rows[batch]), labels[batch]).backward()
                optimizer.step()
    with torch.no_grad():
        Z = body(torch.from_numpy(inputs[second])).numpy()
    return Z, y.to_numpy()[second], s["sex"].to_numpy()[second]


class TestOneScoreForTwoClasses:
    """A head trained with a binary cross-entropy is the head of two classes that it is."""

    @pytest.mark.parametrize(
        "wrap", [lambda layer: layer, lambda x: nn.Sequential(x, nn.Sigmoid())]
    )
    def test_keeps_its_probabilities(self, wrap):
        X, y, s = make_data()
        layer = linear(10, 1)
        clf = FairLowRankHeadClassifier(head=wrap(layer), solver=FineTune(max_epochs=0))
        p = clf.fit(X, y, sensitive_features=s).predict_proba(X)
        W, b = weight_of(layer)
        np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-(X @ W + b)[:, 0])), atol=1e-12)
        assert clf.head_.weight.shape == (10, 2)
        assert clf.rank_ == 2  # that of a full matrix
        assert clf.set_params(rank=1).fit(X, y, sensitive_features=s).rank_ == 1
        np.testing.assert_allclose(clf.predict_proba(X), p, atol=1e-12)

    def test_is_trained_as_a_linear_head(self):
        X, y, s = make_data()
        clf = FairLowRankHeadClassifier(head=linear(10, 1)).fit(X, y, sensitive_features=s)
        fitted = FairLowRankHeadClassifier().fit(X, y, sensitive_features=s)
        np.testing.assert_allclose(clf.predict_proba(X), fitted.predict_proba(X), atol=1e-3)
        assert type(clf.net_.optimizer_).__name__ == "LBFGS"

    def test_of_three_classes_is_a_hidden_layer(self):
        X, y, s = make_data(n_classes=3)
        clf = FairLowRankHeadClassifier(head=linear(10, 1), solver=FineTune(max_epochs=0))
        assert len(clf.fit(X, y, sensitive_features=s).head_) == 2


class TestWhatAFitTells:
    def test_n_iter_is_the_number_of_epochs(self):
        X, y, s = make_data()
        clf = FairLowRankHeadClassifier(solver=FineTune(lr=0.01, max_epochs=3, tol=None))
        assert clf.fit(X, y, sensitive_features=s).n_iter_ == 3 == len(clf.history_)
        assert (
            clf.set_params(solver=FineTune(max_epochs=0)).fit(X, y, sensitive_features=s).n_iter_
            == 0
        )

    @pytest.mark.parametrize("k", [2, 4])
    def test_logarithms_of_probabilities(self, k):
        X, y, s = make_data(n_classes=k)
        clf = FairLowRankHeadClassifier().fit(X, y, sensitive_features=s)
        logs = clf.predict_log_proba(X)
        np.testing.assert_allclose(np.exp(logs), clf.predict_proba(X), rtol=1e-12)
        far = clf.predict_log_proba(1e6 * X)  # where probabilities are 0
        assert np.isfinite(far).all()
        assert (clf.predict_proba(1e6 * X) == 0).any()

    def test_columns_that_are_the_group_are_named(self):
        X, y, s = make_data()
        sex, age = np.array(["f", "m"])[s], np.arange(300) // 3 % 2
        frame = pd.DataFrame(X).rename(columns=str).assign(other=0.0, man=s, old=age)
        groups = pd.DataFrame({"sex": sex, "age": age})
        with pytest.warns(FairnessWarning, match=r"\['man', 'old'\]"):
            FairLowRankHeadClassifier().fit(frame, y, sensitive_features=groups)
        with pytest.warns(FairnessWarning, match=r"\['man'\]"):
            FairLowRankHeadClassifier().fit(frame, y, sensitive_features=sex)


def test_group_weights_act_on_the_covariance():
    """They weigh the second moments of each group about the common mean."""
    X, y, s = make_data(n_classes=4, n_groups=3)
    s = np.where((s == 2) & (np.arange(len(s)) % 3 > 0), 1, s)
    layer, mean = linear(10, 4), X.mean(axis=0)
    moments = np.stack(
        [(X[s == g] - mean).T @ (X[s == g] - mean) / (s == g).sum() for g in range(3)]
    )
    shares = np.bincount(s) / len(s)
    np.testing.assert_allclose(np.tensordot(shares, moments, 1), np.cov(X.T, bias=True), atol=1e-12)
    settings = {"head": layer, "rank": 2, "importance": "covariance", "max_epochs": 0}
    W, _ = weight_of(layer)
    for group_weights, expected in (
        (None, np.full(3, 1 / 3)),
        ("proportional", shares),
        ({0: 0.0, 1: 3.0, 2: 1.0}, np.array([0.0, 0.75, 0.25])),
    ):
        clf = FairLowRankHeadClassifier(**flat(group_weights=group_weights, **settings))
        clf.fit(X, y, sensitive_features=s)
        metric = np.tensordot(expected, moments, 1) + 0.01 * np.diag(X.var(axis=0))
        values = np.linalg.eigvalsh(W.T @ metric @ W)[::-1]
        np.testing.assert_allclose(clf.singular_values_**2, values, rtol=1e-8)


class TestClassWeight:
    @pytest.mark.parametrize("k", [2, 3])
    def test_balanced_counts_a_weight_of_two_as_the_row_twice(self, k):
        X, y, s = make_data(n_classes=k)
        w = np.random.default_rng(0).integers(0, 4, size=len(y))
        rows = np.repeat(np.arange(len(y)), w)
        clf = FairLowRankHeadClassifier(class_weight="balanced", C=0.1)
        weighted = clf.fit(X, y, sensitive_features=s, sample_weight=w).predict_proba(X)
        repeated = clf.fit(X[rows], y[rows], sensitive_features=s[rows]).predict_proba(X)
        np.testing.assert_allclose(weighted, repeated, atol=1e-6)


class TestExtremeFeatures:
    @pytest.mark.parametrize("size", [1e12, 1e20, 1e60])
    def test_a_large_constant_changes_nothing(self, size):
        X, y, s = make_data()
        plain = FairLowRankHeadClassifier().fit(X, y, sensitive_features=s).predict_proba(X)
        for value in (size / 3, -size):
            wide = np.column_stack([X, np.full(len(X), value)])
            found = FairLowRankHeadClassifier().fit(wide, y, sensitive_features=s)
            np.testing.assert_allclose(found.predict_proba(wide), plain, atol=1e-4)

    def test_float32_up_to_its_limit_without_a_warning_of_numpy(self):
        X, y, s = make_data()
        wide = np.column_stack([X, np.where(s, 3e38, -3e38)]).astype(np.float32)
        with pytest.warns(FairnessWarning, match=r"\[10\]"):  # the group, and nothing else
            clf = FairLowRankHeadClassifier().fit(wide, y, sensitive_features=s)
        assert np.isfinite(clf.predict_proba(wide)).all()

    def test_units_too_different_for_an_unweighted_closed_form(self):
        X, y, s = make_data(n_groups=3)
        X[:, 2] *= 1e12
        held = {"constraint": "demographic_parity", "fairness_weight": 1.0, "random_state": 0}
        clf = FairLowRankHeadClassifier(**flat(solver="closed_form", importance="uniform", **held))
        with pytest.raises(ValueError, match="their units are too different"):
            clf.fit(X, y, sensitive_features=s)
        for importance in ("fisher", "covariance"):
            clf.set_params(importance=importance).fit(X, y, sensitive_features=s)
            scores = clf.decision_function(X)
            means = [scores[s == g].mean() for g in range(3)]
            assert np.ptp(means) < 1e-6 * scores.std()
