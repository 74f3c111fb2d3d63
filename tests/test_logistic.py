"""The first head's objective and optimum, against scikit-learn and a float64 oracle."""

import contextlib

import numpy as np
import pytest
import torch
from oracles import logistic_objective
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skfairft.head import curvature, logistic
from skfairft.head.curvature import kronecker, moved, newton, second_derivatives
from skfairft.head.descent import descend
from skfairft.head.logistic import fit_logistic, fit_logistic_folds
from skfairft.head.objective import Objective, Problem
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


def head(Z, y, w, n_classes, C, start=None):
    l2 = 1 / (C * float(w.sum()))
    return fit_logistic(TensorRows(Z, y, w), n_classes, l2, column_moments(Z, w), start)


def fit(Z, y, w, n_classes, C, start=None):
    """Fit, and return scores as scikit-learn gives them."""
    weight, bias = head(Z, y, w, n_classes, C, start)
    scores = (Z.double() @ weight + bias).numpy()
    return scores[:, 0] if n_classes == 2 else scores - scores.mean(axis=1, keepdims=True)


def reference(Z, y, w, C):
    X = StandardScaler().fit(Z.numpy(), sample_weight=w.numpy()).transform(Z.numpy())
    model = LogisticRegression(C=C, tol=1e-12, max_iter=10_000)
    scores = model.fit(X, y.numpy(), sample_weight=w.numpy()).decision_function(X)
    return scores if scores.ndim == 1 else scores - scores.mean(axis=1, keepdims=True)


# What there is to know of the second derivatives: everything, their Kronecker form with a penalty
# that is exact or shared out, or that of the classes alone.
METHODS = {
    "newton": {},
    "eigen": {"_NEWTON_ENTRIES": 0},
    "cholesky": {"_NEWTON_ENTRIES": 0, "_EIGEN_FEATURES": 0},
    "classes": {"_NEWTON_ENTRIES": 0, "_SAMPLE_FEATURES": 0},
}
BY_EACH = pytest.mark.parametrize("method", METHODS)


def switch(monkeypatch, method):
    for name, value in METHODS[method].items():
        monkeypatch.setattr(curvature, name, value)
    if method == "newton":  # As if second derivatives cost nothing.
        monkeypatch.setattr(logistic, "assembly_cost", lambda *args: 0.0)


def count(monkeypatch, function, *args):
    """Return how often objectives, and second derivatives, are computed."""
    calls = {"__call__": 0, "second_derivatives": 0}

    def counted(place, name):
        inner = getattr(place, name)

        def outer(*args):
            calls[name] += 1
            return inner(*args)

        return outer

    with monkeypatch.context() as patch:
        for place, name in zip((Objective, logistic), calls, strict=True):
            patch.setattr(place, name, counted(place, name))
        function(*args)
    return tuple(calls.values())


class TestOptimum:
    @BY_EACH
    @pytest.mark.parametrize("C", [0.01, 100.0, np.inf])
    @pytest.mark.parametrize("n_classes", [2, pytest.param(3, marks=pytest.mark.slow), 8])
    @pytest.mark.some(2)
    def test_is_that_of_logistic_regression(self, tight, n_classes, C, method, monkeypatch):
        switch(monkeypatch, method)
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

    @BY_EACH
    @pytest.mark.parametrize("C", [1.0, np.inf])
    def test_of_separable_classes_is_finite(self, C, method, monkeypatch):
        switch(monkeypatch, method)
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

    @BY_EACH
    @pytest.mark.parametrize("offset", [0.0, 1e4])
    def test_constant_features_and_large_offsets(self, tight, offset, method, monkeypatch):
        switch(monkeypatch, method)
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

    @BY_EACH
    def test_fewer_rows_than_features(self, tight, method, monkeypatch):
        switch(monkeypatch, method)
        rows = make_rows(n=20, d=40)
        np.testing.assert_allclose(fit(*rows, 2, 1.0), reference(*rows, 1.0), atol=1e-5)

    @BY_EACH
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_its_gradient_is_zero(self, n_classes, method, monkeypatch):
        switch(monkeypatch, method)
        Z, y, w = make_rows(n_classes)
        weight, bias = head(Z, y, w, n_classes, 1.0)
        (mean, scale), total = column_moments(Z, w), float(w.sum())
        X = ((Z - mean) / scale).numpy()
        theta = np.vstack([(weight * scale[:, None]).numpy(), bias + mean @ weight]).T

        def objective(theta):
            args = X, y.numpy(), w.numpy(), 1.0
            return logistic_objective(theta[:, :-1], theta[:, -1], *args) / total

        for index in np.ndindex(theta.shape):
            step = np.zeros_like(theta)
            step[index] = 1e-4
            slope = (objective(theta + step) - objective(theta - step)) / 2e-4
            assert abs(slope) < 1e-6
        # Control.
        theta[0] += 0.1
        assert abs(objective(theta + step) - objective(theta - step)) / 2e-4 > 1e-4

    @BY_EACH
    def test_weights_are_repeats(self, tight, method, monkeypatch):
        switch(monkeypatch, method)
        Z, y, w = make_rows(3)
        w = w.ceil().clamp(max=3)
        times = w.long()
        repeated = Z.repeat_interleave(times, 0), y.repeat_interleave(times)
        weight, bias = head(*repeated, torch.ones(int(w.sum())).double(), 3, 1.0)
        for ours, theirs in zip(head(Z, y, w, 3, 1.0), (weight, bias), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)

    @BY_EACH
    @pytest.mark.parametrize("C", [1e-12, 1e12])
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_of_next_to_no_weights_and_next_to_no_penalty(self, n_classes, C, method, monkeypatch):
        switch(monkeypatch, method)
        rows = make_rows(n_classes)
        ours, theirs = fit(*rows, n_classes, C), reference(*rows, C if C < 1 else np.inf)
        np.testing.assert_allclose(ours, theirs, atol=1e-3)

    @BY_EACH
    @pytest.mark.parametrize("C", [1.0, np.inf])
    def test_a_class_without_rows_has_no_probability(self, C, method, monkeypatch):
        switch(monkeypatch, method)
        Z, y, w = make_rows(3)
        scores = torch.from_numpy(fit(Z, y, w, 4, C))
        assert torch.softmax(scores, dim=1)[:, 3].max() < 1e-5
        others = scores[:, :3] - scores[:, :3].mean(dim=1, keepdim=True)
        np.testing.assert_allclose(others, reference(Z, y, w, C), atol=1e-3)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_does_not_depend_on_the_features_type(self, n_classes):
        Z, y, w = make_rows(n_classes)
        Z = Z.float()
        atol = 1e-9
        np.testing.assert_allclose(
            fit(Z, y, w, n_classes, 1.0), fit(Z.double(), y, w, n_classes, 1.0), atol=atol
        )

    @pytest.mark.parametrize("n_classes", [2, 9])
    def test_blocks_do_not_show(self, tight, n_classes, monkeypatch):
        # With nine classes and five features, blocks are cut to the outputs.
        rows = make_rows(n_classes)
        whole = fit(*rows, n_classes, 1.0)
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 70)
        np.testing.assert_allclose(fit(*rows, n_classes, 1.0), whole, atol=1e-7)


class TestObjective:
    @staticmethod
    def make(Z, y, w, n_classes, l2=0.1, n_problems=1):
        moments = column_moments(Z, w)
        problems = [
            Problem((w + i) / (w + i).sum(), l2 * (i + 1), moments) for i in range(n_problems)
        ]
        return Objective(TensorRows(Z, y, w), n_classes, problems), problems

    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_is_the_oracle_s_and_its_gradient_that_of_differences(self, n_classes, monkeypatch):
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 35)  # many blocks
        Z, y, w = make_rows(n_classes, n=100)
        mean, scale = column_moments(Z, w)
        C, total = 0.3, float(w.sum())
        objective, _ = self.make(Z, y, w, n_classes, 1 / (C * total))
        rng = np.random.default_rng(0)
        X = ((Z - mean) / scale).numpy()
        theta = torch.from_numpy(rng.normal(size=(objective.width, D + 1)))
        value, gradient = objective({0: theta})[0]
        args = X, y.numpy(), w.numpy(), C
        oracle = logistic_objective(theta[:, :-1].numpy(), theta[:, -1].numpy(), *args)
        assert value == pytest.approx(oracle / (C * total), rel=1e-10)
        for index in np.ndindex(*theta.shape):
            step = torch.zeros_like(theta)
            step[index] = 1e-5
            above, below = (objective({0: theta + sign * step})[0][0] for sign in (1, -1))
            slope = (above - below) / 2e-5
            assert float(gradient[index]) == pytest.approx(slope, rel=1e-6, abs=1e-8)

    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_several_are_the_same_as_each_alone(self, n_classes):
        Z, y, w = make_rows(n_classes)
        objective, _ = self.make(Z, y, w, n_classes, n_problems=3)
        rng = np.random.default_rng(0)
        thetas = {i: torch.from_numpy(rng.normal(size=(objective.width, D + 1))) for i in (2, 0)}
        together = objective(thetas)
        for i, theta in thetas.items():
            value, gradient = objective({i: theta})[i]
            assert together[i][0] == pytest.approx(value, rel=1e-12)
            torch.testing.assert_close(together[i][1], gradient, rtol=1e-10, atol=1e-13)
        assert together[0][0] != pytest.approx(together[2][0], rel=1e-3)  # control

    def test_keeps_its_precision_where_rows_are_certain(self):
        Z, y, w = torch.tensor([[-40.0], [40.0]]), torch.tensor([0, 1]), torch.ones(2).double()
        moments = Moments(torch.zeros(1).double(), torch.ones(1).double())
        objective = Objective(TensorRows(Z, y, w), 2, [Problem(w / 2, 0.0, moments)])
        value, gradient = objective({0: torch.tensor([[1.0, 0.0]]).double()})[0]
        assert value == pytest.approx(np.exp(-40.0), rel=1e-9)
        assert float(gradient[0, 0]) == pytest.approx(-40 * np.exp(-40.0), rel=1e-9)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_blocks_and_files_do_not_show(self, n_classes, monkeypatch):
        Z, y, w = make_rows(n_classes)
        array = mapped.allocate_features(tuple(Z.shape), "float64", limit=0)
        array[:] = Z.numpy()
        objective, _ = self.make(Z, y, w, n_classes)
        theta = np.random.default_rng(0).normal(size=(objective.width, D + 1))
        theta = torch.from_numpy(theta)
        expected = objective({0: theta})[0]
        for rows in (400, 399, 7, 1):
            monkeypatch.setattr(mapped, "_BLOCK_ROWS", rows)
            for features in (Z, mapped.MappedFeatures(array)):
                value, gradient = self.make(features, y, w, n_classes)[0]({0: theta})[0]
                assert value == pytest.approx(expected[0], rel=1e-12)
                torch.testing.assert_close(gradient, expected[1], rtol=1e-9, atol=1e-12)


class TestCurvature:
    """What multiplies with the inverse of second derivatives, against them."""

    @staticmethod
    def hessian(objective, theta):
        """Second derivatives by differences of the gradient, (m (d + 1), m (d + 1))."""
        columns = []
        for index in np.ndindex(*theta.shape):
            step = torch.zeros_like(theta)
            step[index] = 1e-5
            above, below = (objective({0: theta + sign * step})[0][1] for sign in (1, -1))
            columns.append(((above - below) / 2e-5).ravel())
        return torch.stack(columns)

    @staticmethod
    def by_output(hessian):
        """The part of each output's own parameters."""
        m = len(hessian) // (D + 1)
        parts = hessian.reshape(m, D + 1, m, D + 1)
        return torch.stack([parts[i, :, i] for i in range(m)])

    @staticmethod
    def gradient_like(theta, seed=1):
        """One that no constant is part of."""
        gradient = torch.from_numpy(np.random.default_rng(seed).normal(size=theta.shape))
        return gradient - gradient.mean(dim=0) if len(gradient) > 1 else gradient

    @pytest.mark.parametrize("n_classes", [2, 3, 5])
    @pytest.mark.parametrize("cut", [False, True])
    def test_newton_is_the_inverse_of_the_second_derivatives(self, n_classes, cut, monkeypatch):
        if cut:
            monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 35)
        objective, (problem,) = TestObjective.make(*make_rows(n_classes, n=100), n_classes)
        theta = np.random.default_rng(0).normal(size=(objective.width, D + 1))
        theta = torch.from_numpy(theta)
        gradient = self.gradient_like(theta)
        found = second_derivatives(objective, problem, theta)[-1]
        step = newton(found, problem.l2)(gradient)
        own = self.by_output(self.hessian(objective, theta))
        inverse = torch.linalg.solve(own, gradient)
        expected = inverse - inverse.mean(dim=0) if len(own) > 1 else inverse
        torch.testing.assert_close(step, expected, rtol=1e-3, atol=1e-3)
        other = self.by_output(self.hessian(objective, 0.0 * theta))  # control: of another head
        assert (torch.linalg.solve(other, gradient) - inverse).abs().max() > 0.01

    @pytest.mark.parametrize("n_classes", [2, 3, 5])
    def test_the_kronecker_form_is_exact_for_a_head_without_weights(self, n_classes, monkeypatch):
        monkeypatch.setattr(curvature, "_SAMPLE_RIDGE", 0.0)
        objective, (problem,) = TestObjective.make(*make_rows(n_classes, n=100), n_classes)
        theta = objective.zero(problem)
        gradient = self.gradient_like(theta)
        step = kronecker(objective, problem)(gradient)
        hessian = self.hessian(objective, theta)
        torch.testing.assert_close(
            (hessian @ step.ravel()).view_as(step), gradient, rtol=1e-3, atol=1e-3
        )

    def test_a_singular_matrix_still_gives_a_step_downhill(self):
        theta = torch.zeros(3, D + 1)
        gradient = self.gradient_like(theta)
        for matrix in (0.0, -1e-6):
            step = newton(matrix * torch.eye(D + 1).expand(3, -1, -1), 0.0)(gradient)
            assert step.isfinite().all()
            assert (step * gradient).sum() > 0

    def test_moves_to_the_coordinates_of_other_moments(self):
        Z, y, w = make_rows(3)
        theta = torch.from_numpy(np.random.default_rng(0).normal(size=(3, D + 1)))
        objective, (problem,) = TestObjective.make(Z, y, w, 3)
        others = Moments(problem.moments.mean + 0.3, problem.moments.scale * 1.7)
        there = Problem(problem.share, 0.1, others)
        same = objective.standardized(there, objective.raw(problem, theta))
        here = second_derivatives(objective, problem, theta)[-1]
        ours = moved(here, problem.moments, others)
        expected = second_derivatives(objective, there, same)[-1]
        torch.testing.assert_close(ours.float(), expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("products", [0, 2**28])
    def test_leaves_rows_of_weight_zero_out(self, products, monkeypatch):
        monkeypatch.setattr(curvature, "_SAMPLE_PRODUCTS", products)
        Z, y, w = make_rows(3)
        w[::2] = 0.0
        moments = column_moments(Z, w)
        gradient = self.gradient_like(torch.zeros(3, D + 1))

        def step(Z, y, w):
            problem = Problem(w / w.sum(), 0.1, moments)
            return kronecker(Objective(TensorRows(Z, y, w), 3, [problem]), problem)(gradient)

        kept = step(Z, y, w)
        Z[::2] *= 1e30
        assert torch.equal(step(Z, y, w), kept)
        torch.testing.assert_close(step(Z[1::2], y[1::2], w[1::2]), kept, rtol=1e-4, atol=1e-5)

    def test_of_folds_are_those_of_their_rows(self):
        Z, y, w = make_rows(3)
        objective, (problem,) = TestObjective.make(Z, y, w, 3)
        theta = torch.from_numpy(np.random.default_rng(0).normal(size=(3, D + 1)))
        held_out = torch.arange(len(y)) % 3 - 1
        found = second_derivatives(objective, problem, theta, held_out, 2)
        for fold in (-1, 0, 1):
            own = Problem(problem.share * (held_out == fold), 0.1, problem.moments)
            alone = second_derivatives(objective, own, theta)[-1]
            torch.testing.assert_close(found[fold], alone, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(found[0], found[1], rtol=1e-2)  # control


class TestPasses:
    """How often the features are read, which no clock says."""

    def rare(self):
        """Features that are mostly zero, as a network's are: their curvature moves a lot."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2000, 6))
        Z = np.maximum(x @ rng.normal(size=(6, 40)) - rng.exponential(2.0, size=40), 0.0)
        logits = x @ rng.normal(size=(6, 4)) + rng.gumbel(size=(2000, 4))
        y = torch.from_numpy(logits.argmax(axis=1))
        return torch.from_numpy(Z), y, torch.ones(2000).double()

    def test_second_derivatives_save_most(self, monkeypatch):
        rows = self.rare()
        cost = curvature.assembly_cost(TestObjective.make(*rows, 4)[0])
        ours, assembled = count(monkeypatch, fit, *rows, 4, 1.0)
        switch(monkeypatch, "eigen")
        without, none = count(monkeypatch, fit, *rows, 4, 1.0)
        assert assembled > 0 == none
        assert ours + assembled * cost < 0.5 * without

    @pytest.mark.parametrize("method", ["eigen", "cholesky"])
    @pytest.mark.parametrize("n_classes", [2, 4])
    @pytest.mark.some(2)
    def test_second_moments_save_some(self, n_classes, method, monkeypatch):
        rows = make_rows(n_classes, n=2000, d=100)
        for name in ("ours", "plain"):
            with monkeypatch.context() as patch:
                switch(patch, method if name == "ours" else "classes")
                if name == "ours":
                    ours, _ = count(patch, fit, *rows, n_classes, 1.0)
                else:
                    plain, _ = count(patch, fit, *rows, n_classes, 1.0)
        assert ours < 0.6 * plain

    def test_no_width_costs_several_times_the_passes_of_a_little_less(self, monkeypatch):
        # Once all preconditioning ended where n < 0.003 d^2: here, between these two.
        counts = []
        for d in (500, 620):
            rng = np.random.default_rng(0)
            base = rng.normal(size=(1000, d)) * np.geomspace(1, 0.03, d)
            Z = torch.from_numpy(base @ np.linalg.qr(rng.normal(size=(d, d)))[0])
            y = torch.from_numpy((base[:, :50].sum(axis=1) > rng.logistic(size=1000)).astype(int))
            counts.append(count(monkeypatch, fit, Z, y, torch.ones(1000).double(), 2, 1.0)[0])
        assert counts[1] < 1.5 * counts[0]


class TestStart:
    @BY_EACH
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_from_anywhere_comes_the_same(self, tight, n_classes, method, monkeypatch):
        switch(monkeypatch, method)
        Z, y, w = make_rows(n_classes)
        expected = fit(Z, y, w, n_classes, 1.0)
        rng = np.random.default_rng(0)
        for size in (0.0, 1.0, 100.0):
            m = 1 if n_classes == 2 else n_classes
            start = [torch.from_numpy(size * rng.normal(size=shape)) for shape in ((D, m), m)]
            found = fit(Z, y, w, n_classes, 1.0, start)
            np.testing.assert_allclose(found, expected, atol=1e-6)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_the_end_is_left_at_once(self, n_classes, monkeypatch):
        Z, y, w = make_rows(n_classes)
        end = head(Z, y, w, n_classes, 1.0)
        assert count(monkeypatch, head, Z, y, w, n_classes, 1.0, end)[0] == 1
        for ours, given in zip(head(Z, y, w, n_classes, 1.0, end), end, strict=True):
            torch.testing.assert_close(ours, given, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_a_near_start_saves_passes(self, n_classes, monkeypatch):
        Z, y, w = make_rows(n_classes)
        start = head(Z, y, w, n_classes, 1.0)
        w[::10] = 0.0
        cold = count(monkeypatch, head, Z, y, w, n_classes, 1.0)[0]
        assert count(monkeypatch, head, Z, y, w, n_classes, 1.0, start)[0] < cold


class TestFolds:
    @staticmethod
    def alone(Z, y, w, held_out, fold, n_classes, C):
        w = torch.where(held_out == fold, 0.0, w)
        return head(Z, y, w, n_classes, C)

    @BY_EACH
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("n_folds", [2, 5])
    @pytest.mark.some(2)
    def test_are_the_fits_without_each_fold(self, tight, n_folds, n_classes, method, monkeypatch):
        switch(monkeypatch, method)
        Z, y, w = make_rows(n_classes)
        w[7:20] = 0.0
        held_out = torch.arange(len(y)) % n_folds
        Z[held_out == 1, 2] *= 50.0  # moments differ
        whole = head(Z, y, w, n_classes, 1.0)
        found = fit_logistic_folds(TensorRows(Z, y, w), n_classes, 1.0, held_out, whole)
        assert len(found) == n_folds
        for fold, ours in enumerate(found):
            theirs = self.alone(Z, y, w, held_out, fold, n_classes, 1.0)
            for one, other in zip(ours, theirs, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert (found[0][0] - whole[0]).abs().max() > 1e-3  # control

    @BY_EACH
    def test_a_feature_or_a_class_may_be_in_one_fold_alone(self, tight, method, monkeypatch):
        switch(monkeypatch, method)
        Z, y, w = make_rows(3)
        held_out = torch.arange(len(y)) % 4
        Z[held_out != 1, 2] = 7.0
        y[(held_out != 2) & (y == 2)] = 0
        whole = head(Z, y, w, 3, 1.0)
        found = fit_logistic_folds(TensorRows(Z, y, w), 3, 1.0, held_out, whole)
        for fold, (weight, bias) in enumerate(found):
            other_weight, other_bias = self.alone(Z, y, w, held_out, fold, 3, 1.0)
            ours, theirs = (
                torch.softmax(Z @ weight + bias, 1),
                torch.softmax(Z @ other_weight + other_bias, 1),
            )
            seen = held_out != fold
            torch.testing.assert_close(ours[seen], theirs[seen], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_are_read_together(self, n_classes, monkeypatch):
        Z, y, w = make_rows(n_classes)
        held_out = torch.arange(len(y)) % 5
        whole = head(Z, y, w, n_classes, 1.0)
        rows = TensorRows(Z, y, w)
        together = count(monkeypatch, fit_logistic_folds, rows, n_classes, 1.0, held_out, whole)
        each = [
            count(monkeypatch, self.alone, Z, y, w, held_out, fold, n_classes, 1.0)
            for fold in range(5)
        ]
        assert together[0] < min(passes for passes, _ in each)
        if n_classes == 2:  # of more classes they are of each by itself, and may be renewed
            assert together[1] == 1

    def test_lie_in_a_file(self):
        Z, y, w = make_rows(3)
        array = mapped.allocate_features(tuple(Z.shape), "float64", limit=0)
        array[:] = Z.numpy()
        held_out = torch.arange(len(y)) % 3
        whole = head(Z, y, w, 3, 1.0)
        pairs = [
            fit_logistic_folds(TensorRows(features, y, w), 3, 1.0, held_out, whole)
            for features in (Z, array)
        ]
        for ours, theirs in zip(*pairs, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)

    def test_warn_of_separable_classes_once(self):
        Z, y, w = make_rows()
        Z[:, 0] += 100.0 * y
        zero = torch.zeros(D, 1).double(), torch.zeros(1).double()
        held_out = torch.arange(len(y)) % 2
        with pytest.warns(ConvergenceWarning, match="no optimum") as caught:
            fit_logistic_folds(TensorRows(Z, y, w), 2, np.inf, held_out, zero)
        assert len(caught) == 1


class TestDescend:
    """What a better matrix costs, and when it is worth that."""

    @staticmethod
    def renewed_after(cost):
        """Return after how many evaluations there is a better matrix; None if there is none."""
        scale = torch.logspace(0, -6, 60, dtype=torch.float64)
        calls = []

        def renew(theta):
            calls.append(evaluations)
            return lambda gradient: gradient / scale

        descent = descend(torch.ones(60).double(), lambda gradient: gradient, renew, cost, 1e-12)
        evaluations, at = 1, next(descent)
        with contextlib.suppress(StopIteration):
            while True:
                at = descent.send((float((scale * at * at).sum()) / 2.0, scale * at))
                evaluations += 1
        return calls[0] if calls else None

    def test_a_slow_one_gets_a_matrix_that_costs_more_than_it_has_spent(self):
        assert self.renewed_after(2.0) <= 10
        # Forty tell how fast the gradient falls, whatever it costs, if more are to come.
        assert 45 <= self.renewed_after(60.0) <= 60

    @pytest.mark.slow
    def test_none_that_costs_more_than_what_is_to_come(self):
        assert self.renewed_after(1e6) is None


def test_folds_count_in_what_is_assembled(monkeypatch):
    objective = TestObjective.make(*make_rows(), 2)[0]
    entries = (D + 1) ** 2
    monkeypatch.setattr(curvature, "_NEWTON_ENTRIES", 4 * entries)
    costs = [curvature.assembly_cost(objective, n_folds) for n_folds in (0, 3, 4)]
    assert np.isfinite(costs).tolist() == [True, True, False]
