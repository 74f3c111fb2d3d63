"""The cut that is best for all groups: against bounds, grids and the singular value decomposition.

A lower bound that a cut attains proves both. So tests compare the largest loss with `bound`, and
`bound` with the losses of other cuts.
"""

from functools import cache

import numpy as np
import pytest
import torch

from skfairft.lowrank.factorization import regularized_metric, weighted_svd
from skfairft.lowrank.neutral import minimax_cut, weighted_cut

K = 6
ROUNDING = 1e-12  # of sums of K^2 products, beside the largest of the traces


def moments_of(n_groups, k=K, rank=K, seed=0):
    """Second moments of groups that have nothing in common, with traces of about 1."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(n_groups, k, rank))
    sizes = np.linalg.norm(roots, axis=(1, 2)) * rng.uniform(0.9, 1.1, size=n_groups)
    return torch.from_numpy(roots @ roots.swapaxes(1, 2) / sizes[:, None, None] ** 2)


def diagonal(*entries):
    return torch.diag_embed(torch.tensor(entries, dtype=torch.float64))


def even(moments):
    return torch.full((len(moments),), 1.0 / len(moments), dtype=torch.float64)


def size_of(moments):
    return float(moments.diagonal(dim1=1, dim2=2).sum(1).max())


def losses_of(moments, V):
    """As they are defined: of roots C^1/2 (I - V V^T), by group, in Frobenius' norm."""
    values, vectors = torch.linalg.eigh(moments)
    roots = vectors * values.clamp_min(0.0).sqrt()[:, None]
    left = roots.mT @ (torch.eye(len(V)).double() - V @ V.T)
    return left.square().sum((1, 2))


def random_bases(k, rank, n, seed=0):
    return torch.linalg.qr(torch.from_numpy(np.random.default_rng(seed).normal(size=(n, k, rank))))[
        0
    ]


TWO = {
    "random": moments_of(2),
    "of low rank": moments_of(2, rank=2),
    "of rank one": moments_of(2, rank=1),
    "of uneven sizes": moments_of(2) * torch.tensor([1.0, 1e-4])[:, None, None],
    "small": 1e-12 * moments_of(2),
    "large": 1e12 * moments_of(2),
    "ties": diagonal([4, 0, 1, 1, 1, 1], [0, 2, 1, 1, 1, 1]),
    "many ties": diagonal([4, 0, 1, 1, 0, 2], [0, 4, 1, 1, 2, 0]),
    "ties all over": diagonal([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]),
    "ties within one group": diagonal([1, 1, 1, 1, 1, 1], [3, 2, 1, 0, 0, 0]),
    "ties rotated": (Q := random_bases(K, K, 1)[0])
    @ diagonal([3, 3, 0, 0, 1, 1], [0, 0, 3, 3, 1, 1])
    @ Q.T,
    "the same": moments_of(1).expand(2, -1, -1),
    "in proportion": moments_of(1) * torch.tensor([1.0, 3.0])[:, None, None],
    "one of zeros": torch.stack([moments_of(1)[0], torch.zeros(K, K).double()]),
    "zeros": torch.zeros(2, K, K).double(),
}


def assert_sound(cut, moments, rank):
    """What holds of every cut; no cut at all has a largest loss below the bound."""
    k, rounding = moments.shape[1], ROUNDING * size_of(moments)
    assert cut.V.shape == (k, rank)
    torch.testing.assert_close(cut.V.T @ cut.V, torch.eye(rank).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(cut.losses, losses_of(moments, cut.V), rtol=0, atol=rounding)
    assert (cut.shares >= 0.0).all()
    assert float(cut.shares.sum()) == pytest.approx(1.0, abs=1e-9)
    others = [losses_of(moments, V) for V in random_bases(k, rank, 20)]
    for losses in (cut.losses, weighted_cut(moments, rank, even(moments)).losses, *others):
        assert cut.bound <= float(losses.max()) + rounding


class TestWeighted:
    @pytest.mark.parametrize("shape", [(10, 4), (4, 4), (5, 2)])
    @pytest.mark.parametrize("metric", ["importance", "matrix"])
    def test_is_the_weighted_svd(self, metric, shape):
        """`C^1/2 W` cut by projection of the outputs is the truncated decomposition of itself."""
        rng = np.random.default_rng(0)
        d, k = shape
        W = torch.from_numpy(rng.normal(size=shape))
        C = torch.diag(torch.from_numpy(rng.uniform(0.01, 1.0, size=d)))
        if metric == "matrix":
            C = regularized_metric(moments_of(1, d)[0], torch.ones(d))
        svd = weighted_svd(W, C)
        for rank in range(1, k + 1):
            A, B = svd.factors(rank)
            cut = weighted_cut((W.T @ C @ W)[None], rank, torch.ones(1).double())
            torch.testing.assert_close(W @ cut.V @ cut.V.T, A @ B, rtol=0, atol=1e-9)
            lost = float(svd.S[rank:].square().sum())
            assert cut.bound == pytest.approx(lost, abs=1e-9)
            assert cut.losses.item() == pytest.approx(lost, abs=1e-9)

    @pytest.mark.parametrize("shares", [[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    def test_is_numpys_svd_of_all_roots_together(self, shares):
        roots = np.random.default_rng(0).normal(size=(3, 5, K))
        moments = torch.from_numpy(roots.swapaxes(1, 2) @ roots)
        stacked = np.concatenate([np.sqrt(s) * root for s, root in zip(shares, roots, strict=True)])
        _, S, Vt = np.linalg.svd(stacked)
        shares = torch.tensor(shares, dtype=torch.float64)
        cut = weighted_cut(moments, 2, shares)
        np.testing.assert_allclose(cut.V @ cut.V.T, Vt[:2].T @ Vt[:2], atol=1e-10)
        assert cut.bound == pytest.approx((S[2:] ** 2).sum())
        assert float(shares @ cut.losses) == pytest.approx(cut.bound)
        assert_sound(cut, moments, 2)


@pytest.mark.parametrize("name", TWO)
class TestTwoGroups:
    @pytest.mark.parametrize("rank", [1, 2, 3, K - 1, K])
    def test_the_largest_loss_is_its_lower_bound(self, name, rank):
        moments = TWO[name]
        cut = minimax_cut(moments, rank)
        assert_sound(cut, moments, rank)
        assert float(cut.losses.max()) - cut.bound <= 1e-10 * size_of(moments)

    def test_these_weights_have_no_better_cut(self, name):
        """Of the shares that come with it the cut is the best, and the groups that count tie."""
        moments = TWO[name]
        cut, rounding = minimax_cut(moments, 2), 1e-10 * size_of(TWO[name])
        best = weighted_cut(moments, 2, cut.shares)
        assert float(cut.shares @ (cut.losses - best.losses)) <= rounding
        assert (cut.losses[cut.shares > 1e-6] >= cut.losses.max() - rounding * 1e6).all()


class TestTwoGroupsByHand:
    @pytest.mark.parametrize("seed", range(8))
    def test_of_two_outputs_no_angle_is_better(self, seed):
        moments = moments_of(2, k=2, seed=seed)
        angles = torch.linspace(0.0, np.pi, 20_001).double()
        V = torch.stack([angles.cos(), angles.sin()])
        kept = torch.einsum("kn,gkl,ln->gn", V, moments, V)
        largest = (moments.diagonal(dim1=1, dim2=2).sum(1)[:, None] - kept).max(0).values
        found = float(minimax_cut(moments, 1).losses.max())
        assert found <= float(largest.min()) + 1e-12
        # No loss changes faster than by its trace a radian.
        assert found >= float(largest.min()) - size_of(moments) * float(angles[1])

    def test_one_group_has_all_the_weight(self):
        """One loses more than the other even in its own best cut, which is then the cut."""
        moments = torch.stack([100.0 * moments_of(1)[0], 0.01 * moments_of(1, seed=1)[0]])
        own = weighted_cut(moments[:1], 2, torch.ones(1).double())
        for order in ([0, 1], [1, 0]):
            cut = minimax_cut(moments[order], 2)
            assert cut.shares[order].tolist() == [1.0, 0.0]
            assert float(cut.losses.max()) == pytest.approx(own.bound)
        torch.testing.assert_close(minimax_cut(moments[:1], 2).V, own.V)

    def test_otherwise_both_lose_the_same(self):
        moments = moments_of(2)
        cut, plain = minimax_cut(moments, 2), weighted_cut(moments, 2, even(moments))
        assert abs(float(cut.losses.diff())) < ROUNDING * size_of(moments)
        assert abs(float(plain.losses.diff())) > 0.01 * size_of(moments)  # control

    @pytest.mark.parametrize("change", ["order", "basis", "unit"])
    def test_it_is_the_same_of_the_same(self, change):
        moments = moments_of(2)
        plain, Q = minimax_cut(moments, 2), random_bases(K, K, 1)[0]
        other, back, unit = {
            "order": (moments.flip(0), lambda V: V, 1.0),
            "basis": (Q @ moments @ Q.T, lambda V: Q.T @ V, 1.0),
            "unit": (1e6 * moments, lambda V: V, 1e6),
        }[change]
        cut = minimax_cut(other, 2)
        V = back(cut.V)
        torch.testing.assert_close(V @ V.T, plain.V @ plain.V.T, rtol=0, atol=1e-8)
        assert cut.bound == pytest.approx(unit * plain.bound)


@cache
def of_several(n_groups, seed):
    """Moments, their cut of rank 2, and that of equal weights; kept, as planes take their time."""
    moments = moments_of(n_groups, k=4, seed=seed)
    return moments, minimax_cut(moments, 2), weighted_cut(moments, 2, even(moments))


class TestSeveralGroups:
    @pytest.mark.parametrize(
        ("n_groups", "seed"),
        [(3, 0), *(pytest.param(3, seed, marks=pytest.mark.slow) for seed in (1, 2)), (5, 0)],
    )
    def test_lies_between_its_bound_and_equal_weights(self, n_groups, seed):
        moments, cut, equal = of_several(n_groups, seed)
        assert_sound(cut, moments, 2)
        assert float(cut.losses.max()) <= float(equal.losses.max())

    def test_is_mostly_better_than_equal_weights(self):
        cuts = [of_several(3, seed)[1:] for seed in range(3)]
        gains = [float(cut.losses.max() / equal.losses.max()) for cut, equal in cuts]
        assert np.median(gains) < 0.97

    @pytest.mark.parametrize("seed", range(3))
    def test_no_weights_of_the_groups_give_a_higher_bound(self, seed):
        moments, cut, _ = of_several(3, seed)
        steps = 40
        grid = [
            [i / steps, j / steps, 1.0 - (i + j) / steps]
            for i in range(steps + 1)
            for j in range(steps + 1 - i)
        ]
        mixed = torch.einsum("ng,gij->nij", torch.tensor(grid).double(), moments)
        bounds = torch.linalg.eigvalsh(mixed)[:, :-2].sum(1)
        assert float(bounds.max()) <= cut.bound * (1.0 + 1e-8)  # the planes' tolerance is 1e-9
        # A bound is no flatter than the losses that it is a mean of.
        assert float(bounds.max()) >= cut.bound - size_of(moments) / steps

    def test_the_order_of_the_groups_does_not_matter(self):
        moments, cut, _ = of_several(3, 0)
        order = [2, 0, 1]
        other = minimax_cut(moments[order], 2)
        assert other.bound == pytest.approx(cut.bound, rel=1e-7)
        # Where a bound is flat, its tolerance is the square of that of where it is attained.
        torch.testing.assert_close(other.losses, cut.losses[order], rtol=1e-3, atol=0.0)

    @pytest.mark.parametrize("more", ["a copy", "nothing"])
    @pytest.mark.parametrize("kind", ["random", "ties", "the same"])
    def test_a_copy_of_a_group_and_one_that_loses_nothing_change_nothing(self, kind, more):
        moments = TWO[kind]
        third = moments[1:] if more == "a copy" else torch.zeros_like(moments[1:])
        cut, three = minimax_cut(moments, 1), minimax_cut(torch.cat([moments, third]), 1)
        near = 1e-6 * size_of(moments)
        assert three.bound == pytest.approx(cut.bound, abs=near)
        assert float(three.losses.max()) == pytest.approx(float(cut.losses.max()), abs=near)

    @pytest.mark.parametrize("n_groups", [2, 3])
    def test_where_all_lose_alike_weights_are_equal(self, n_groups):
        """Or nothing: any weights would do, and rounding must not choose."""
        moments = moments_of(n_groups)
        alike = moments[:1].expand(n_groups, -1, -1)
        for cut in (minimax_cut(moments, K), minimax_cut(alike, 2)):
            np.testing.assert_allclose(cut.shares, 1.0 / n_groups)

    def test_of_very_different_energies_it_is_no_worse_than_equal_weights(self):
        rows = [[3e-5, 3e-5], [200.0, 200.0], [-3e-6, 2e-6]]
        moments = torch.stack([torch.outer(r, r) for r in torch.tensor(rows).double()])
        equal = weighted_cut(moments, 1, torch.full((3,), 1 / 3).double())
        cut = minimax_cut(moments, 1)
        assert cut.bound <= float(cut.losses.max()) <= float(equal.losses.max())

    def test_at_full_rank_nobody_loses(self):
        cut = minimax_cut(moments_of(3), K)
        assert float(cut.losses.max()) <= ROUNDING * size_of(moments_of(3))


class TestOtherWeights:
    """How far from the least the largest loss is with weights that do not look for it."""

    @pytest.mark.parametrize(("n_groups", "seed"), [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (5, 0)])
    def test_are_within_a_factor_of_one_over_the_smallest(self, n_groups, seed):
        """Equal ones so within the number of groups, the groups' own shares of rows within more."""
        moments, cut, equal = of_several(n_groups, seed)
        rounding, own = ROUNDING * size_of(moments), torch.softmax(torch.arange(n_groups) / 1.0, 0)
        assert float(equal.losses.max()) <= n_groups * cut.bound + rounding
        losses = weighted_cut(moments, 2, own.double()).losses
        assert float(losses.max()) <= cut.bound / float(own.min()) + rounding

    @pytest.mark.parametrize("shares", [[0.5, 0.5], [0.95, 0.05]])
    def test_no_smaller_factor_would_do(self, shares):
        """One direction each; what the rare group loses is just not worth its weight."""
        shares = torch.tensor(shares, dtype=torch.float64)
        rare = (1.0 - 1e-6) * float(shares[0] / shares[1])
        moments = diagonal([1.0, 0.0], [0.0, rare])
        largest = float(weighted_cut(moments, 1, shares).losses.max())
        least = minimax_cut(moments, 1)
        # Both lose 1 - c^2 = rare c^2.
        assert float(least.losses.max()) == pytest.approx(rare / (1.0 + rare))
        assert largest / least.bound == pytest.approx(1.0 / float(shares.min()), rel=1e-5)
