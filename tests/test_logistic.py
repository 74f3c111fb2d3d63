"""The first head's objective and optimum, against scikit-learn and a float64 oracle."""

import contextlib

import numpy as np
import pytest
import torch
from oracles import logistic_objective
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skfairft.head import logistic
from skfairft.head.logistic import _inverse_factor, _Objective, fit_logistic, refit_bias
from skfairft.lowrank.moments import Moments, column_moments
from skfairft.rows import mapped
from skfairft.rows.tensor_rows import TensorRows

D = 5


def make_rows(n_classes=2, n=400, d=D, seed=0, offset=0.0):
    """Correlated features with a wide spectrum, labels that depend on them, uneven weights."""
    rng = np.random.default_rng(seed)
    mix = np.geomspace(1, 0.03, d)[:, None] * np.linalg.qr(rng.normal(size=(d, d)))[0]
    base = rng.normal(size=(n, d))
    logits = base @ rng.normal(size=(d, n_classes)) + rng.gumbel(size=(n, n_classes))
    Z = (base @ mix + 0.1 * rng.normal(size=d)) * rng.exponential(size=d) + offset
    tensors = Z, logits.argmax(axis=1), rng.exponential(size=n)
    return tuple(map(torch.from_numpy, tensors))


def fit(Z, y, w, n_classes, C):
    """Fit, and return scores as scikit-learn gives them."""
    weight, bias = fit_logistic(
        TensorRows(Z, y, w), n_classes, 1 / (C * float(w.sum())), column_moments(Z, w)
    )
    scores = (Z.double() @ weight + bias).numpy()
    return scores[:, 0] if n_classes == 2 else scores - scores.mean(axis=1, keepdims=True)


def reference(Z, y, w, C):
    X = StandardScaler().fit(Z.numpy(), sample_weight=w.numpy()).transform(Z.numpy())
    model = LogisticRegression(C=C, tol=1e-12, max_iter=10_000)
    scores = model.fit(X, y.numpy(), sample_weight=w.numpy()).decision_function(X)
    return scores if scores.ndim == 1 else scores - scores.mean(axis=1, keepdims=True)


@pytest.fixture
def tight(monkeypatch):
    monkeypatch.setattr(logistic, "_GRADIENT_TOL", 1e-11)
    monkeypatch.setattr(logistic, "_LOSS_TOL", 0.0)


PRECONDITIONED = pytest.mark.parametrize("preconditioned", [True, False])


def switch(monkeypatch, preconditioned):
    if not preconditioned:
        monkeypatch.setattr(logistic, "_SAMPLE_FEATURES", 0)


class TestOptimum:
    @PRECONDITIONED
    @pytest.mark.parametrize("C", [0.01, 1.0, 100.0, np.inf])
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_is_that_of_logistic_regression(self, tight, n_classes, C, preconditioned, monkeypatch):
        switch(monkeypatch, preconditioned)
        rows = make_rows(n_classes)
        ours, theirs = fit(*rows, n_classes, C), reference(*rows, C)
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
        # Control: another penalty shows.
        assert np.abs(fit(*rows, n_classes, 0.003) - theirs).max() > 1e-2

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_stops_closer_to_it_than_scikit_learn(self, n_classes):
        Z, y, w = make_rows(n_classes)
        exact = reference(Z, y, w, 1.0)
        X = StandardScaler().fit(Z.numpy(), sample_weight=w.numpy()).transform(Z.numpy())
        model = LogisticRegression().fit(X, y, sample_weight=w.numpy())
        theirs = model.decision_function(X)
        if n_classes > 2:
            theirs -= theirs.mean(axis=1, keepdims=True)
        ours = fit(Z, y, w, n_classes, 1.0)
        assert np.abs(ours - exact).max() < 1e-4
        assert np.abs(ours - exact).max() < np.abs(theirs - exact).max()

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_zero_weights_stand_for_removed_rows(self, tight, n_classes):
        Z, y, w = make_rows(n_classes)
        w[:150] = 0.0
        Z[:150] *= 1e6
        kept = fit(Z, y, w, n_classes, 1.0)[150:]
        removed = fit(Z[150:], y[150:], w[150:], n_classes, 1.0)
        atol = 1e-6 * np.abs(removed).max()
        # The mean over rows, which the classes' scores are relative to, is another one.
        np.testing.assert_allclose(kept, removed, atol=atol)

    @PRECONDITIONED
    @pytest.mark.parametrize("C", [1.0, np.inf])
    def test_of_separable_classes_is_finite(self, C, preconditioned, monkeypatch):
        switch(monkeypatch, preconditioned)
        Z, y, w = make_rows()
        Z[:, 0] += 100.0 * y
        with contextlib.ExitStack() as stack:
            if np.inf == C:
                stack.enter_context(pytest.warns(ConvergenceWarning, match="no optimum"))
            scores = fit(Z, y, w, 2, C)
        assert np.isfinite(scores).all()
        assert ((scores > 0) == y.bool().numpy()).all()
        if np.isfinite(C):
            theirs = reference(Z, y, w, C)
            np.testing.assert_allclose(scores, theirs, atol=1e-3 * np.abs(theirs).max())

    @PRECONDITIONED
    @pytest.mark.parametrize("offset", [0.0, 1e4])
    def test_constant_features_and_large_offsets(self, tight, offset, preconditioned, monkeypatch):
        switch(monkeypatch, preconditioned)
        Z, y, w = make_rows(3)
        Z[:, 3] = 7.0
        scores = fit(Z, y, w, 3, 1.0)
        np.testing.assert_allclose(fit(Z + offset, y, w, 3, 1.0), scores, atol=1e-4)
        others = Z[:, [0, 1, 2, 4]]
        np.testing.assert_allclose(scores, reference(others, y, w, 1.0), atol=1e-5)

    def test_all_features_constant(self):
        Z, y, w = make_rows()
        scores = fit(torch.ones_like(Z), y, w, 2, 1.0)
        share = float(w[y == 1].sum() / w.sum())
        np.testing.assert_allclose(scores, np.log(share / (1 - share)), rtol=1e-4)

    @PRECONDITIONED
    def test_fewer_rows_than_features(self, tight, preconditioned, monkeypatch):
        switch(monkeypatch, preconditioned)
        rows = make_rows(n=20, d=40)
        np.testing.assert_allclose(fit(*rows, 2, 1.0), reference(*rows, 1.0), atol=1e-5)


class TestObjective:
    @PRECONDITIONED
    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_is_the_oracle_s_and_its_gradient_that_of_differences(
        self, n_classes, preconditioned, monkeypatch
    ):
        switch(monkeypatch, preconditioned)
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 35)  # many blocks
        Z, y, w = make_rows(n_classes)
        mean, scale = column_moments(Z, w)
        C, total = 0.3, float(w.sum())
        objective = _Objective(
            TensorRows(Z, y, w), n_classes, 1 / (C * total), Moments(mean, scale)
        )
        assert (objective._factor is not None) == preconditioned
        rng = np.random.default_rng(0)
        X = ((Z - mean) / scale).numpy()
        for _ in range(3):
            flat = rng.normal(size=(D + 1) * objective.width)
            value, gradient = objective(flat)
            *coef, intercept = objective.standardized(flat).numpy()
            oracle = logistic_objective(np.array(coef).T, intercept, X, y.numpy(), w.numpy(), C)
            assert value == pytest.approx(oracle / (C * total), rel=1e-10)
            for i in range(len(flat)):
                step = 1e-5 * (np.arange(len(flat)) == i)
                slope = (objective(flat + step)[0] - objective(flat - step)[0]) / 2e-5
                assert gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-8)

    def test_keeps_its_precision_where_rows_are_certain(self):
        Z, y, w = torch.tensor([[-40.0], [40.0]]), torch.tensor([0, 1]), torch.ones(2).double()
        zero, one = torch.zeros(1).double(), torch.ones(1).double()
        objective = _Objective(TensorRows(Z, y, w), 2, 0.0, Moments(zero, one))
        value, gradient = objective(np.array([1.0, 0.0]))
        assert value == pytest.approx(np.exp(-40.0), rel=1e-9)
        assert gradient[0] == pytest.approx(-40 * np.exp(-40.0), rel=1e-9)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_blocks_and_files_do_not_show(self, n_classes, monkeypatch):
        # The preconditioner, of which single precision is enough, would round differently.
        switch(monkeypatch, False)
        Z, y, w = make_rows(n_classes)
        array = mapped.allocate_features(tuple(Z.shape), "float64", limit=0)
        array[:] = Z.numpy()
        moments = column_moments(Z, w)
        flat = np.random.default_rng(0).normal(size=(D + 1) * (1 if n_classes == 2 else 3))
        expected = _Objective(TensorRows(Z, y, w), n_classes, 0.1, moments)(flat)
        for rows in (400, 399, 7, 1):
            monkeypatch.setattr(mapped, "_BLOCK_ROWS", rows)
            found = [
                _Objective(TensorRows(features, y, w), n_classes, 0.1, moments)(flat)
                for features in (Z, mapped.MappedFeatures(array))
            ]
            for value, gradient in found:
                assert value == pytest.approx(expected[0], rel=1e-12)
                np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-12)


class TestPreconditioner:
    def count(self, monkeypatch, preconditioned, rows):
        calls = []

        class Counted(_Objective):
            def __call__(self, flat):
                calls.append(1)
                return super().__call__(flat)

        with monkeypatch.context() as patch:
            switch(patch, preconditioned)
            patch.setattr(logistic, "_Objective", Counted)
            fit(*rows, 2, 1.0)
        return len(calls)

    @pytest.mark.parametrize("sampled", [False, True])
    def test_saves_passes(self, sampled, monkeypatch):
        rows = make_rows(n=2000, d=100)
        if sampled:
            monkeypatch.setattr(logistic, "_SAMPLE_PRODUCTS", 0)
        plain, ours = (self.count(monkeypatch, which, rows) for which in (False, True))
        assert ours < 0.6 * plain

    def test_is_an_inverse_factor_of_the_second_derivatives(self):
        Z, _, w = make_rows()
        mean, scale = column_moments(Z, w)
        share = w / w.sum()
        factor = _inverse_factor(Z, share, 0.5, Moments(mean, scale))
        X = (Z - mean) / scale
        hessian = 0.25 * X.T @ (share[:, None] * X)
        expected = hessian + (0.5 + 0.03 * hessian.diagonal().mean() + 1e-6) * torch.eye(D)
        torch.testing.assert_close(
            torch.linalg.inv(factor @ factor.T), expected, rtol=1e-4, atol=1e-5
        )

    def test_is_left_out_where_it_costs_too_much(self):
        def factor(n, d):
            Z = torch.randn(n, d, generator=torch.Generator().manual_seed(0)).double()
            zero, one = torch.zeros(d).double(), torch.ones(d).double()
            return _inverse_factor(Z, torch.full((n,), 1 / n).double(), 0.1, Moments(zero, one))

        assert factor(39, 10) is None
        assert factor(40, 10) is not None

    @pytest.mark.parametrize("sampled", [False, True])
    def test_leaves_rows_of_weight_zero_out(self, sampled, monkeypatch):
        if sampled:
            monkeypatch.setattr(logistic, "_SAMPLE_PRODUCTS", 0)
        Z, _, w = make_rows()
        w[::2] = 0.0
        moments = column_moments(Z, w)
        kept = _inverse_factor(Z, w / w.sum(), 0.1, moments)
        w = w[1::2]
        removed = _inverse_factor(Z[1::2], w / w.sum(), 0.1, moments)
        torch.testing.assert_close(kept, removed, rtol=1e-5, atol=1e-6)


class TestRefitBias:
    @staticmethod
    def mean_probability(Z, w, weight, bias):
        p = torch.softmax(Z.double() @ weight + bias, dim=1)
        return w @ p / w.sum()

    @staticmethod
    def make_head(k, seed=1):
        rng = np.random.default_rng(seed)
        return torch.from_numpy(rng.normal(size=(D, k))), torch.from_numpy(rng.normal(size=k))

    @pytest.mark.parametrize("k", [2, 3, 7])
    def test_mean_probabilities_become_the_classes_shares(self, k):
        Z, y, w = make_rows(k)
        weight, bias = self.make_head(k)
        share = torch.bincount(y, w) / w.sum()
        found = refit_bias(TensorRows(Z, y, w), weight, bias)
        torch.testing.assert_close(
            self.mean_probability(Z, w, weight, found), share, rtol=0, atol=1e-12
        )
        before = self.mean_probability(Z, w, weight, bias)
        assert (before - share).abs().max() > 0.01  # control

    @pytest.mark.parametrize("k", [2, 3, 7])
    def test_is_the_minimum_that_a_general_solver_finds(self, k):
        Z, y, w = make_rows(k)
        weight, bias = self.make_head(k)

        def loss(bias):
            logits = (Z @ weight).numpy() + bias
            log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            return -(w.numpy() / w.sum().item()) @ log_p[np.arange(len(y)), y.numpy()]

        found = refit_bias(TensorRows(Z, y, w), weight, bias).numpy()
        reference = minimize(loss, bias.numpy(), method="BFGS", options={"gtol": 1e-8})
        assert loss(found) <= reference.fun + 1e-12
        np.testing.assert_allclose(
            found - found.mean(), reference.x - reference.x.mean(), atol=1e-5
        )

    @pytest.mark.parametrize("k", [2, 3])
    def test_keeps_the_mean_of_the_bias_and_ignores_it(self, k):
        Z, y, w = make_rows(k)
        weight, bias = self.make_head(k)
        found = refit_bias(TensorRows(Z, y, w), weight, bias)
        assert float(found.mean()) == pytest.approx(float(bias.mean()), abs=1e-14)
        torch.testing.assert_close(refit_bias(TensorRows(Z, y, w), weight, bias + 5.0), found + 5.0)
        torch.testing.assert_close(refit_bias(TensorRows(Z, y, w), weight, found), found)

    @pytest.mark.parametrize("start", [30.0, -1e3, 1e5])
    @pytest.mark.parametrize("size", [1.0, 30.0])
    def test_comes_back_from_where_all_probabilities_are_zero_or_one(self, start, size):
        # There the Hessian is zero, so that Newton's step is of any length, and the loss a kink.
        Z, y, w = make_rows(3)
        weight, bias = self.make_head(3)
        weight = size * weight
        far = bias + torch.tensor([start, 0.0, -start])
        share = torch.bincount(y, w) / w.sum()
        found = refit_bias(TensorRows(Z, y, w), weight, far)
        torch.testing.assert_close(
            self.mean_probability(Z, w, weight, found), share, rtol=0, atol=1e-10
        )

    def test_a_fitted_head_keeps_its_bias(self, tight):
        Z, y, w = make_rows(3)
        weight, bias = fit_logistic(TensorRows(Z, y, w), 3, 0.01, column_moments(Z, w))
        torch.testing.assert_close(
            refit_bias(TensorRows(Z, y, w), weight, bias), bias, rtol=0, atol=1e-8
        )
        other = refit_bias(TensorRows(Z, y, w), 0.5 * weight, bias)
        assert (other - bias).abs().max() > 0.01  # control: another weight wants another

    def test_weights_are_repeats(self):
        Z, y, _ = make_rows(3)
        weight, bias = self.make_head(3)
        w = torch.arange(len(y)).remainder(4).double()
        repeats = w.long()
        found = refit_bias(
            TensorRows(
                Z.repeat_interleave(repeats, 0),
                y.repeat_interleave(repeats),
                torch.ones(int(w.sum())).double(),
            ),
            weight,
            bias,
        )
        torch.testing.assert_close(
            refit_bias(TensorRows(Z, y, w), weight, bias), found, rtol=0, atol=1e-12
        )

    def test_blocks_change_nothing(self, monkeypatch):
        Z, y, w = make_rows(3)
        weight, bias = self.make_head(3)
        whole = refit_bias(TensorRows(Z, y, w), weight, bias)
        monkeypatch.setattr(mapped, "_BLOCK_ROWS", 7)
        torch.testing.assert_close(
            refit_bias(TensorRows(Z, y, w), weight, bias), whole, rtol=0, atol=1e-12
        )
