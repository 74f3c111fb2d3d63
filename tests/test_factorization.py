import dataclasses
import math

import numpy as np
import pytest
import torch
from oracles import alternating_least_squares, eckart_young, weighted_error
from scipy.optimize import minimize

from skfairft.lowrank.factorization import (
    DIRECTION_TOLERANCE,
    IMPORTANCE_FLOOR,
    METRIC_RIDGE,
    floor_importance,
    neutralize,
    parity_svd,
    regularized_metric,
    resolve_rank,
    weighted_svd,
)

SHAPES = [(10, 4), (4, 10), (6, 6), (12, 2), (3, 1), (1, 3)]


def make(d=10, k=4, seed=0):
    """A weight matrix and importances that span four decades."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(d, k, generator=generator, dtype=torch.float64)
    exponent = 4 * torch.rand(d, generator=generator, dtype=torch.float64) - 2
    return W, 10**exponent


def make_metric(d=10, seed=0):
    """A symmetric positive definite matrix whose eigenvalues span four decades."""
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    return Q * torch.logspace(-2, 2, d, dtype=torch.float64) @ Q.T


def make_directions(d=10, groups=3, events=1, seed=0):
    """Group means minus the overall mean, of unequal groups, in each event: rank-deficient."""
    generator = torch.Generator().manual_seed(seed)
    columns = []
    for _ in range(events):
        means = torch.randn(d, groups, generator=generator, dtype=torch.float64)
        share = torch.softmax(torch.randn(groups, generator=generator, dtype=torch.float64), 0)
        columns.append(means - (means @ share)[:, None])
    return torch.cat(columns, dim=1)


def matrix_of(metric):
    return torch.diag(metric.square()) if metric.ndim == 1 else metric


def metric_error(W, metric, M):
    """||C^1/2 (M - W)||^2."""
    return float(((M - W) * (matrix_of(metric) @ (M - W))).sum())


def fitted_lambda(W, metric, D, weight):
    """Lambda by bisection on ||D^T M|| of the full-rank solution, from the method's formula."""
    C = matrix_of(metric)

    def left(strength):
        M = torch.linalg.solve(C + strength * D @ D.T, C @ W)
        return float((D.T @ M).norm() / (D.T @ W).norm())

    low, high = 0.0, 1.0
    while left(high) > 1 - weight:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > 1 - weight else (low, middle)
    return middle


def best_of_restarts(loss, size, restarts=8):
    """Least loss that L-BFGS finds from random starts."""

    def flat(x):
        leaf = torch.from_numpy(x).requires_grad_()
        value = loss(leaf)
        return value.item(), torch.autograd.grad(value, leaf)[0].numpy()

    options = {"maxiter": 20_000, "maxfun": 10**6, "gtol": 1e-12, "ftol": 1e-16}
    rng = np.random.default_rng(0)
    return min(
        minimize(flat, rng.normal(size=size), jac=True, method="L-BFGS-B", options=options).fun
        for _ in range(restarts)
    )


METRICS = pytest.mark.parametrize(
    "metric", [make()[1], make_metric()], ids=["importance", "matrix"]
)
DIRECTIONS = pytest.mark.parametrize(
    "D",
    [
        make_directions(groups=2)[:, :1],
        make_directions(groups=2),
        make_directions(groups=4),
        make_directions(groups=3, events=2),
        make_directions(groups=8, events=2),
    ],
    ids=["one", "two groups", "four groups", "two events", "as many as features"],
)


def two_class_head(seed):
    """A head as logistic regression leaves it: columns -w/2 and w/2."""
    W, importance = make(d=6, k=1, seed=seed)
    return W * torch.tensor([-0.5, 0.5], dtype=torch.float64), importance


class TestNeutralize:
    def test_is_equation_2(self):
        generator = torch.Generator().manual_seed(0)
        importance = torch.rand(3, 8, generator=generator, dtype=torch.float64)
        weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
        expected = [
            sum(float(weights[g]) * float(importance[g, i]) for g in range(3)) for i in range(8)
        ]
        assert neutralize(importance, weights).tolist() == pytest.approx(expected, rel=1e-14)

    @pytest.mark.parametrize("group", [0, 1, 2])
    def test_one_hot_weights_give_that_group_alone(self, group):
        importance = torch.rand(3, 8, generator=torch.Generator().manual_seed(0)).double()
        assert torch.equal(
            neutralize(importance, torch.eye(3, dtype=torch.float64)[group]), importance[group]
        )

    def test_equal_groups_stay_as_they_are(self):
        row = torch.rand(8, generator=torch.Generator().manual_seed(0)).double()
        weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
        torch.testing.assert_close(neutralize(torch.stack([row, row]), weights), row)


class TestFloor:
    def test_raises_below_the_floor_and_only_there(self):
        edge = 4.0 * IMPORTANCE_FLOOR
        above, below = edge * (1 + 1e-12), edge * (1 - 1e-12)
        importance = torch.tensor([4.0, above, below, 0.0, 1.0], dtype=torch.float64)
        assert floor_importance(importance).tolist() == [4.0, above, edge, edge, 1.0]

    def test_is_relative_to_the_largest(self):
        importance = torch.tensor([0.0, 1e-9, 0.5, 2.0], dtype=torch.float64)
        for c in (2.0**-40, 2.0**40):
            assert torch.equal(floor_importance(c * importance), c * floor_importance(importance))

    def test_is_relative_to_the_size_of_each_feature(self):
        importance = torch.tensor([0.0, 1e-9, 0.5, 2.0], dtype=torch.float64)
        size = torch.tensor([2.0**-100, 2.0**30, 1.0, 4.0], dtype=torch.float64)
        found = floor_importance(importance * size, size)
        assert torch.equal(found, floor_importance(importance) * size)
        assert not torch.equal(floor_importance(importance * size), found)  # control

    def test_does_not_change_its_argument(self):
        importance = torch.tensor([0.0, 1.0])
        floor_importance(importance)
        assert importance.tolist() == [0.0, 1.0]

    @pytest.mark.parametrize("rank", [1, 2, 4])
    def test_a_feature_that_never_fires_leaves_the_factors_finite_and_correct(self, rank):
        W, importance = make()
        importance[3] = 0.0
        # Control: without the floor Eq. 4 divides by zero.
        assert not weighted_svd(W, importance).factors(rank)[0].isfinite().all()
        floored = floor_importance(importance)
        A, B = weighted_svd(W, floored).factors(rank)
        assert A.isfinite().all()
        assert weighted_error(W, floored, A, B) == pytest.approx(
            eckart_young(W, floored, rank), rel=1e-6, abs=1e-9
        )
        if rank == 4:
            # Full rank needs no weights, so the floored row comes back, to all its digits.
            torch.testing.assert_close(A @ B, W, rtol=0, atol=1e-13)


class TestWeightedSVD:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_full_rank_reproduces_the_matrix(self, shape):
        W, importance = make(*shape)
        A, B = weighted_svd(W, importance).factors(min(shape))
        assert A.shape == (shape[0], min(shape))
        assert B.shape == (min(shape), shape[1])
        torch.testing.assert_close(A @ B, W, rtol=0, atol=1e-11)

    def test_is_a_decomposition_of_the_weighted_matrix(self):
        W, importance = make()
        svd = weighted_svd(W, importance)
        identity = torch.eye(4, dtype=torch.float64)
        torch.testing.assert_close(svd.U.T @ svd.U, identity)
        torch.testing.assert_close(svd.Vt @ svd.Vt.T, identity)
        torch.testing.assert_close(svd.U * svd.S @ svd.Vt, importance[:, None] * W)
        assert (svd.S.diff() <= 0).all()

    def test_factors_are_equation_4(self):
        W, importance = make()
        svd = weighted_svd(W, importance)
        A, B = svd.factors(3)
        expected = torch.diag(importance).inverse() @ svd.U[:, :3] @ torch.diag(svd.S[:3])
        torch.testing.assert_close(A, expected)
        assert torch.equal(B, svd.Vt[:3])

    @pytest.mark.parametrize("rank", [1, 2, 3])
    @pytest.mark.parametrize("shape", [(10, 4), (4, 10), (6, 6)])
    def test_truncation_attains_the_eckart_young_bound(self, shape, rank):
        W, importance = make(*shape)
        bound = eckart_young(W, importance, rank)
        A, B = weighted_svd(W, importance).factors(rank)
        assert weighted_error(W, importance, A, B) == pytest.approx(bound, rel=1e-8)
        # Control: the plain SVD, the paper's f+SVD, is another approximation and a worse one.
        plain = weighted_svd(W, torch.ones_like(importance)).factors(rank)
        assert weighted_error(W, importance, *plain) > 1.05 * bound

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_no_other_factors_of_the_rank_do_better(self, rank):
        W, importance = make()
        ours = weighted_error(W, importance, *weighted_svd(W, importance).factors(rank))
        found = [
            weighted_error(W, importance, *alternating_least_squares(W, importance, rank, seed))
            for seed in range(3)
        ]
        assert min(found) >= ours * (1 - 1e-12)
        # Control: the search is a serious one, it comes to the same error.
        assert min(found) == pytest.approx(ours, rel=1e-6)

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_no_gradient_descends_from_it(self, rank):
        W, importance = make()
        A, B = (factor.requires_grad_() for factor in weighted_svd(W, importance).factors(rank))
        loss = (importance[:, None] * (W - A @ B)).square().sum()
        gradients = torch.autograd.grad(loss, (A, B))
        scale = float((importance[:, None] * W).square().sum())
        assert max(float(g.abs().max()) for g in gradients) < 1e-10 * scale
        # Small steps in random directions all go up.
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _ in range(50):
                a = A + 1e-3 * torch.randn(A.shape, generator=generator, dtype=A.dtype)
                b = B + 1e-3 * torch.randn(B.shape, generator=generator, dtype=B.dtype)
                assert (importance[:, None] * (W - a @ b)).square().sum() > loss

    def test_uniform_importance_is_the_plain_svd(self):
        W, _ = make()
        A, B = weighted_svd(W, torch.full((10,), 3.0)).factors(2)
        U, S, Vt = np.linalg.svd(W.numpy(), full_matrices=False)
        torch.testing.assert_close(A @ B, torch.from_numpy((U[:, :2] * S[:2]) @ Vt[:2]))

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_scaling_the_importance_changes_nothing(self, rank):
        W, importance = make()
        A, B = weighted_svd(W, importance).factors(rank)
        for c in (1e-8, 3.0, 1e8):
            a, b = weighted_svd(W, c * importance).factors(rank)
            torch.testing.assert_close(a, A, rtol=1e-8, atol=1e-10)
            torch.testing.assert_close(b, B, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("matrix", [two_class_head, lambda seed: make(seed=seed)])
    def test_permuting_features_permutes_the_first_factor(self, matrix, seed):
        # With two classes the entries of B are equal but for sign and rounding: the signs of
        # the factors must not depend on that rounding.
        W, importance = matrix(seed)
        order = torch.randperm(len(W), generator=torch.Generator().manual_seed(seed))
        A, B = weighted_svd(W, importance).factors(1)
        a, b = weighted_svd(W[order], importance[order]).factors(1)
        torch.testing.assert_close(a, A[order])
        torch.testing.assert_close(b, B)

    @pytest.mark.parametrize("seed", range(8))
    def test_the_largest_entry_of_each_row_of_B_is_positive(self, seed):
        Vt = weighted_svd(*make(seed=seed)).Vt
        assert torch.equal(Vt.max(dim=1).values, Vt.abs().max(dim=1).values)
        # Of two equally large entries the first.
        first, second = weighted_svd(*two_class_head(seed)).Vt[0]
        assert first > 0 > second

    def test_the_signs_of_the_matrix_do_not_reach_B(self):
        W, importance = make()
        A, B = weighted_svd(W, importance).factors(3)
        a, b = weighted_svd(-W, importance).factors(3)
        torch.testing.assert_close(b, B)
        torch.testing.assert_close(a, -A)

    def test_float32_weights_are_decomposed_in_float64(self):
        W, importance = make()
        W = W.float().requires_grad_()
        svd = weighted_svd(W, importance.float())
        assert {t.dtype for t in (svd.A, svd.U, svd.S, svd.Vt)} == {torch.float64}
        exact = weighted_svd(W.detach().double(), importance.float().double())
        torch.testing.assert_close(svd.S, exact.S, rtol=1e-12, atol=0)
        assert not svd.factors(2)[0].requires_grad

    def test_result_is_frozen_and_its_factors_are_copies(self):
        svd = weighted_svd(*make())
        before = svd.A.clone(), svd.Vt.clone()
        for factor in svd.factors(2):
            factor.zero_()
        assert torch.equal(svd.A, before[0])
        assert torch.equal(svd.Vt, before[1])
        with pytest.raises(dataclasses.FrozenInstanceError):
            svd.S = before[1]


class TestMatrixMetric:
    def test_a_diagonal_one_is_the_importance_squared(self):
        W, importance = make()
        A, B = weighted_svd(W, torch.diag(importance.square())).factors(2)
        a, b = weighted_svd(W, importance).factors(2)
        torch.testing.assert_close(A @ B, a @ b)
        torch.testing.assert_close(B, b)

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_truncation_attains_the_eckart_young_bound(self, rank):
        (W, _), C = make(), make_metric()
        values, vectors = torch.linalg.eigh(C)
        root = vectors * values.sqrt() @ vectors.T
        bound = torch.linalg.svdvals(root @ W)[rank:].square().sum().item()
        svd = weighted_svd(W, C)
        A, B = svd.factors(rank)
        assert metric_error(W, C, A @ B) == pytest.approx(bound, rel=1e-9)
        torch.testing.assert_close(svd.S, torch.linalg.svdvals(root @ W))
        # Control: its diagonal alone is another metric.
        a, b = weighted_svd(W, C.diagonal().sqrt()).factors(rank)
        assert metric_error(W, C, a @ b) > 1.05 * bound

    @pytest.mark.parametrize("rank", [1, 2, 4])
    def test_a_change_of_coordinates_changes_nothing(self, rank):
        # z -> z T turns the weights of the same function into T^-1 W, its covariance into T^T C T.
        (W, importance), C = make(), make_metric()
        T = torch.randn(10, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        D = make_directions()
        for weight in (0.0, 0.4, 1.0):
            A, B = parity_svd(W, C, D).at(weight).factors(rank)
            a, b = parity_svd(T.inverse() @ W, T.T @ C @ T, T.T @ D).at(weight).factors(rank)
            torch.testing.assert_close(T @ a, A, rtol=1e-7, atol=1e-8)
            torch.testing.assert_close(b, B, rtol=1e-7, atol=1e-8)
        # Control: of an importance only the scales are free.
        if rank < 4:
            A, B = weighted_svd(W, importance).factors(rank)
            a, b = weighted_svd(T.inverse() @ W, importance).factors(rank)
            assert not torch.allclose(T @ a @ b, A @ B, rtol=1e-2)

    @pytest.mark.parametrize("noise", [0.0, 1e-32])
    def test_a_singular_one_becomes_definite_by_a_share_of_the_sizes(self, noise):
        C = make_metric()
        duplicate, dead = torch.eye(10, dtype=torch.float64), torch.eye(10, dtype=torch.float64)
        duplicate[:, 1] = 3 * duplicate[:, 0]  # feature 1 is three times feature 0
        dead[4, 4] = 0.0
        singular = dead @ duplicate.T @ C @ duplicate @ dead
        W, _ = make()
        D = dead @ duplicate.T @ make_directions()
        with pytest.raises(torch.linalg.LinAlgError):
            weighted_svd(W, singular)  # control
        # What rounding leaves of a constant feature must not count as a feature.
        singular[4, 4], D[4] = noise, noise**0.5
        size = singular.diagonal().sqrt()
        size[4] = 1.0
        metric = regularized_metric(singular, size)
        for weight in (0.0, 0.5, 1.0):
            A, B = parity_svd(W, metric, D).at(weight).factors(4)
            torch.testing.assert_close((A @ B)[4], W[4], rtol=0, atol=1e-6)
            left = float((D.T @ A @ B).norm() / (D.T @ W).norm())
            assert left == pytest.approx(1 - weight, abs=1e-9)

    @pytest.mark.parametrize(("share", "definite"), [(1.0, True), (1e-8, False)])
    def test_the_least_ridge_is_enough_for_equal_features(self, share, definite):
        # Ten copies of one feature: rounding alone can make an eigenvalue negative.
        copies = 10.0 ** torch.arange(-5, 5, dtype=torch.float64)
        moment = torch.outer(copies, copies)
        metric = regularized_metric(moment, copies, share * METRIC_RIDGE)
        W = make()[0] / copies[:, None]
        if not definite:
            with pytest.raises(torch.linalg.LinAlgError):
                weighted_svd(W, metric)
            return
        A, B = weighted_svd(W, metric).factors(4)
        torch.testing.assert_close(copies @ A @ B, copies @ W, rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("ridge", [METRIC_RIDGE, 0.05])
    def test_the_ridge_does_not_depend_on_units(self, ridge):
        C, units = make_metric(), 10.0 ** torch.arange(-5, 5, dtype=torch.float64)
        size = C.diagonal().sqrt()
        found = regularized_metric(units[:, None] * C * units, units * size, ridge)
        expected = units[:, None] * regularized_metric(C, size, ridge) * units
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
        torch.testing.assert_close(
            regularized_metric(C, size, ridge), C + ridge * torch.diag(C.diagonal())
        )

    def test_the_ridge_does_not_change_its_argument(self):
        C = make_metric()
        before = C.clone()
        regularized_metric(C, torch.ones(10))
        assert torch.equal(C, before)


class TestParitySVD:
    @METRICS
    @DIRECTIONS
    @pytest.mark.parametrize("k", [1, 2, 4])
    @pytest.mark.parametrize("weight", [0.0, 1e-9, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9, 1.0])
    @pytest.mark.some(4)
    def test_the_weight_is_the_share_of_disparity_removed(self, metric, D, weight, k):
        W = make()[0][:, :k]
        A, B = parity_svd(W, metric, D).at(weight).factors(k)
        left = float((D.T @ A @ B).norm() / (D.T @ W).norm())
        assert left == pytest.approx(1 - weight, rel=1e-9, abs=1e-12)

    @METRICS
    def test_one_direction_has_the_lambda_of_the_design(self, metric):
        W, _ = make()
        D, C = make_directions()[:, :1], matrix_of(metric)
        for weight in (0.1, 0.5, 0.99):
            strength = weight / (1 - weight) / (D.T @ torch.linalg.solve(C, D))
            expected = torch.linalg.solve(C + strength * D @ D.T, C @ W)
            A, B = parity_svd(W, metric, D).at(weight).factors(4)
            torch.testing.assert_close(A @ B, expected)

    @METRICS
    @DIRECTIONS
    @pytest.mark.parametrize("rank", [1, 2, 4])
    def test_is_the_methods_formula(self, metric, D, rank):
        W, C = make()[0], matrix_of(metric)
        strength = fitted_lambda(W, metric, D, 0.7)
        H = C + strength * D @ D.T
        values, vectors = torch.linalg.eigh(H)
        root = vectors * values.sqrt() @ vectors.T
        U, S, Vt = torch.linalg.svd(root @ torch.linalg.solve(H, C @ W), full_matrices=False)
        expected = torch.linalg.solve(root, (U * S)[:, :rank] @ Vt[:rank])
        A, B = parity_svd(W, metric, D).at(0.7).factors(rank)
        torch.testing.assert_close(A @ B, expected, rtol=1e-6, atol=1e-8)

    @METRICS
    @pytest.mark.parametrize("weight", [0.3, 0.9])
    @pytest.mark.parametrize("rank", [1, 2])
    @pytest.mark.some(2)
    def test_no_restart_of_a_search_does_better(self, metric, weight, rank):
        W, C = make()[0], matrix_of(metric)
        D = C @ make_directions()  # so that they matter in the metric
        strength = fitted_lambda(W, metric, D, weight)

        def objective(M):
            away = M - W
            return (away * (C @ away)).sum() + strength * (D.T @ M).square().sum()

        A, B = parity_svd(W, metric, D).at(weight).factors(rank)
        ours = float(objective(A @ B))
        root = torch.linalg.cholesky(C, upper=True)

        def loss(x):  # in coordinates where the search is well conditioned
            a, b = x[: 10 * rank].reshape(10, rank), x[10 * rank :].reshape(rank, 4)
            return objective(torch.linalg.solve_triangular(root, a, upper=True) @ b)

        found = best_of_restarts(loss, 14 * rank)
        assert found >= ours * (1 - 1e-8)
        assert found == pytest.approx(ours, rel=1e-6)  # control: the search is a serious one
        # Control: truncating the unpenalized matrix is worse.
        a, b = weighted_svd(W, metric).factors(rank)
        assert float(objective(a @ b)) > 1.01 * ours

    @METRICS
    @DIRECTIONS
    @pytest.mark.parametrize("rank", [1, 2, 4])
    def test_weight_one_is_exact_linear_parity(self, metric, D, rank):
        W, _ = make()
        path = parity_svd(W, metric, D)
        A, B = path.at(1.0).factors(rank)
        assert A.isfinite().all()
        assert (D.T @ A @ B).abs().max() < 1e-10
        # Control: not before.
        A, B = path.at(0.99).factors(rank)
        assert (D.T @ A @ B).abs().max() > 1e-5

    @METRICS
    @pytest.mark.parametrize("rank", [1, 2, 4])
    def test_weight_one_is_the_nearest_matrix_with_parity(self, metric, rank):
        W, C = make()[0], matrix_of(metric)
        D = C @ make_directions()
        A, B = parity_svd(W, metric, D).at(1.0).factors(rank)
        ours = metric_error(W, metric, A @ B)
        if rank == 4:
            # Equality-constrained least squares, one column of W at a time, by its KKT system.
            basis = torch.linalg.svd(D, full_matrices=False).U[:, :2]
            zero = torch.zeros(2, 2, dtype=torch.float64)
            kkt = torch.cat([torch.cat([C, basis], 1), torch.cat([basis.T, zero], 1)])
            right = torch.cat([C @ W, torch.zeros(2, 4, dtype=torch.float64)])
            torch.testing.assert_close(A @ B, torch.linalg.solve(kkt, right)[:10])
            return
        # Every M with D^T M = 0 is N X, so that the search needs no constraint.
        N = torch.linalg.svd(D).U[:, 2:]
        root = torch.linalg.cholesky(N.T @ C @ N, upper=True)

        def loss(x):
            a, b = x[: 8 * rank].reshape(8, rank), x[8 * rank :].reshape(rank, 4)
            away = N @ torch.linalg.solve_triangular(root, a, upper=True) @ b - W
            return (away * (C @ away)).sum()

        found = best_of_restarts(loss, 12 * rank)
        assert found >= ours * (1 - 1e-8)
        assert found == pytest.approx(ours, rel=1e-6)
        # Control: truncating first and projecting then is worse.
        a, b = weighted_svd(W, metric).factors(rank)
        a, b = parity_svd(a @ b, metric, D).at(1.0).factors(rank)
        assert metric_error(W, metric, a @ b) > 1.001 * ours

    def test_a_general_solver_under_constraints_agrees(self):
        W, C, D = make(d=5, k=3)[0], make_metric()[:5, :5], make_directions(d=5, groups=3)[:, :2]

        def loss(x):
            away = np.outer(x[:5], x[5:]) - W.numpy()
            return float((away * (C.numpy() @ away)).sum())

        parity = {"type": "eq", "fun": lambda x: D.numpy().T @ x[:5]}
        rng = np.random.default_rng(0)
        options = {"maxiter": 2000, "ftol": 1e-14}
        runs = [
            minimize(loss, rng.normal(size=8), constraints=parity, method="SLSQP", options=options)
            for _ in range(8)
        ]
        found = min(runs, key=lambda run: run.fun)
        assert np.abs(parity["fun"](found.x)).max() < 1e-12
        A, B = parity_svd(W, C, D).at(1.0).factors(1)
        assert found.fun == pytest.approx(metric_error(W, C, A @ B), rel=1e-6)

    @METRICS
    @DIRECTIONS
    def test_weight_zero_is_equation_4_bit_for_bit(self, metric, D):
        W, _ = make()
        ours, plain = parity_svd(W, metric, D).at(0.0), weighted_svd(W, metric)
        for rank in (1, 2, 4):
            for factor, expected in zip(ours.factors(rank), plain.factors(rank), strict=True):
                assert torch.equal(factor, expected)
        assert torch.equal(ours.S, plain.S)

    @METRICS
    def test_a_path_is_its_points(self, metric):
        W, D = make()[0], make_directions(groups=3, events=2)
        path = parity_svd(W, metric, D)
        errors = []
        for weight in np.linspace(0, 1, 25):
            A, B = path.at(weight).factors(2)
            alone = parity_svd(W, metric, D).at(weight).factors(2)
            assert torch.equal(A, alone[0])
            assert torch.equal(B, alone[1])
            errors.append(metric_error(W, metric, torch.cat([A]) @ B))
        full = [
            metric_error(W, metric, path.at(w).A @ path.at(w).Vt) for w in np.linspace(0, 1, 25)
        ]
        assert full == sorted(full)  # less disparity costs more
        assert errors[-1] > errors[0]

    @METRICS
    def test_is_continuous_at_its_ends(self, metric):
        W, D = make()[0], make_directions()
        path = parity_svd(W, metric, D)
        for end, near in ((0.0, 1e-9), (1.0, 1 - 1e-9)):
            for rank in (1, 4):
                A, B = path.at(end).factors(rank)
                a, b = path.at(near).factors(rank)
                torch.testing.assert_close(a @ b, A @ B, rtol=1e-4, atol=1e-6)

    @METRICS
    def test_repeated_directions_count_once_at_weight_one(self, metric):
        W, D = make()[0], make_directions(groups=2)
        independent = D[:, :1]
        A, B = parity_svd(W, metric, independent).at(1.0).factors(2)
        for repeated in (D, torch.cat([D, 3 * D, 0 * D], dim=1)):
            a, b = parity_svd(W, metric, repeated).at(1.0).factors(2)
            torch.testing.assert_close(a @ b, A @ B)

    def test_directions_of_rounding_are_none(self):
        W, importance = make()[0], torch.ones(10)
        D = torch.zeros(10, 2, dtype=torch.float64)
        D[0, 0] = 1.0
        for size, kept in ((1.01, 2), (0.99, 1)):
            D[1, 1] = size * DIRECTION_TOLERANCE
            A, B = parity_svd(W, importance, D).at(1.0).factors(4)
            assert (A @ B)[:2].abs().amax(dim=1).lt(1e-12).sum() == kept

    @METRICS
    @pytest.mark.parametrize("columns", [0, 3])
    def test_without_disparity_every_weight_is_the_same(self, metric, columns):
        W = make()[0]
        W[:3] = 0.0
        D = torch.zeros(10, columns, dtype=torch.float64)
        D[:3] = torch.eye(3, dtype=torch.float64)[:, :columns]
        if metric.ndim == 2:  # W has no gap in either sense
            metric = torch.block_diag(metric[:3, :3], metric[3:, 3:])
        A, B = weighted_svd(W, metric).factors(2)
        for weight in (0.0, 0.5, 1.0):
            a, b = parity_svd(W, metric, D).at(weight).factors(2)
            torch.testing.assert_close(a @ b, A @ B)

    def test_directions_of_very_different_size_keep_the_share_exact(self):
        # The equation for lambda has roots over many decades.
        W = make()[0]
        D = torch.zeros(10, 3, dtype=torch.float64)
        D[0, 0], D[1, 1], D[2, 2] = 1e6, 1.0, 1e-2
        W[:3] = torch.tensor([[1e-6], [1.0], [1e2]])  # the same disparity in each
        for weight in (0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-9):
            A, B = parity_svd(W, torch.ones(10), D).at(weight).factors(4)
            left = float((D.T @ A @ B).norm() / (D.T @ W).norm())
            # The damping acts twice, each time up to rounding of what it acts on; the second time
            # that is the root of what is left.
            rel = 100 * torch.finfo(torch.float64).eps / math.sqrt(1 - weight)
            assert left == pytest.approx(1 - weight, rel=rel, abs=0)

    def test_rounding_in_large_rows_does_not_reach_small_ones(self):
        size = torch.logspace(-8, 8, 10, dtype=torch.float64)
        W = size[:, None] * make()[0]
        for metric in (torch.ones(10), torch.eye(10), size.flip(0)):
            A, B = parity_svd(W, metric, torch.zeros(10, 0)).at(0.5).factors(4)
            torch.testing.assert_close(A @ B / size[:, None], make()[0], rtol=0, atol=1e-13)

    @METRICS
    @pytest.mark.parametrize("c", [1e-100, 1e-8, 1e8, 1e100])
    def test_sizes_of_directions_and_metric_do_not_matter(self, metric, c):
        W, D = make()[0], make_directions()
        A, B = parity_svd(W, metric, D).at(0.6).factors(2)
        for a, b in (
            parity_svd(W, metric, c * D).at(0.6).factors(2),
            parity_svd(W, c * metric, D).at(0.6).factors(2),
        ):
            torch.testing.assert_close(a, A, rtol=1e-8, atol=1e-10)
            torch.testing.assert_close(b, B, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("weight", [0.5, 1.0])
    def test_rounding_does_not_decide_the_signs(self, seed, weight):
        W, importance = two_class_head(seed)
        D = make_directions(d=6, seed=seed)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        A, B = parity_svd(W, importance, D).at(weight).factors(1)
        a, b = parity_svd(W[order], importance[order], D[order]).at(weight).factors(1)
        torch.testing.assert_close(a, A[order])
        torch.testing.assert_close(b, B)


class TestResolveRank:
    # Shares of energy: 16/30, 25/30, 29/30, 1.
    S = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)

    @pytest.mark.parametrize(
        ("rank", "expected"),
        [
            (1, 1),
            (3, 3),
            (4, 4),
            (5, 4),
            (10**12, 4),
            (np.int64(2), 2),
            (np.uint8(9), 4),
            (1e-300, 1),
            (16 / 30 - 1e-9, 1),
            (16 / 30, 1),  # reached exactly
            (16 / 30 + 1e-9, 2),
            (25 / 30, 2),
            (25 / 30 + 1e-9, 3),
            (29 / 30, 3),
            (0.99, 4),
            (1.0, 4),
            (np.float64(0.8), 2),
            (np.float32(0.5), 1),
        ],
    )
    def test_table(self, rank, expected):
        resolved = resolve_rank(rank, self.S)
        assert resolved == expected
        assert type(resolved) is int

    def test_an_int_and_a_float_of_one_differ(self):
        assert resolve_rank(1, self.S) == 1
        assert resolve_rank(1.0, self.S) == 4

    def test_all_energy_leaves_noise_out(self):
        # Singular values of 1e-6 hold 1e-12 of the energy: that is the tolerance.
        assert resolve_rank(1.0, torch.tensor([1.0, 1e-7], dtype=torch.float64)) == 1
        assert resolve_rank(1.0, torch.tensor([1.0, 1e-5], dtype=torch.float64)) == 2

    @pytest.mark.parametrize("rank", [1, 0.5, 1.0])
    def test_a_matrix_of_zeros_has_rank_one(self, rank):
        assert resolve_rank(rank, torch.zeros(3, dtype=torch.float64)) == 1

    @pytest.mark.parametrize("seed", range(3))
    def test_is_the_smallest_rank_that_reaches_the_share(self, seed):
        S = torch.rand(30, generator=torch.Generator().manual_seed(seed)).double()
        S = S.sort(descending=True).values
        shares = np.linspace(0.001, 1, 400)
        ranks = [resolve_rank(share, S) for share in shares]
        assert ranks == sorted(ranks)
        assert ranks[0] == 1
        assert ranks[-1] == 30
        for share, rank in zip(shares, ranks, strict=True):
            energy = [float(value) ** 2 for value in S]
            assert sum(energy[:rank]) >= share * sum(energy) * (1 - 1e-11)
            assert sum(energy[: rank - 1]) < share * sum(energy)
