import dataclasses

import numpy as np
import pytest
import torch
from oracles import alternating_least_squares, eckart_young, weighted_error

from skfairft.factorization import (
    IMPORTANCE_FLOOR,
    floor_importance,
    neutralize,
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
            # Full rank needs no weights, so the floored row comes back, to ten digits.
            torch.testing.assert_close(A @ B, W, rtol=0, atol=1e-9)


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
        assert {t.dtype for t in (svd.importance, svd.U, svd.S, svd.Vt)} == {torch.float64}
        exact = weighted_svd(W.detach().double(), importance.float().double())
        torch.testing.assert_close(svd.S, exact.S, rtol=1e-12, atol=0)
        assert not svd.factors(2)[0].requires_grad

    def test_result_is_frozen_and_its_factors_are_copies(self):
        svd = weighted_svd(*make())
        before = svd.Vt.clone()
        for factor in svd.factors(2):
            factor.zero_()
        assert torch.equal(svd.Vt, before)
        with pytest.raises(dataclasses.FrozenInstanceError):
            svd.S = before


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
