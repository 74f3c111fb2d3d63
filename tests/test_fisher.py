import dataclasses
import math

import numpy as np
import pytest
import torch
from oracles import group_fisher, loop_gradients, vmap_gradients
from torch import nn
from torch.nn import functional as F

from skfairft.lowrank import fisher
from skfairft.lowrank.fisher import (
    FisherStatistics,
    GroupFisher,
    gradient_energy,
    layer_fisher,
    softmax_gradient_energy,
)
from skfairft.rows import mapped
from skfairft.rows.tensor_rows import TensorRows

TAILS = {"none": [], "identity": [nn.Identity()], "relu": [nn.ReLU()], "tanh": [nn.Tanh()]}


class Problem:
    """Random rows and a layer (d, k0), with a tail to k logits unless it is "none"."""

    def __init__(self, tail="none", n=60, d=7, k=5, n_groups=3, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        hidden = k if tail == "none" else 4
        self.n_groups = n_groups
        self.Z = randn(n, d)
        self.weight, self.bias = randn(d, hidden), randn(hidden)
        self.tail = None
        if tail != "none":
            self.tail = nn.Sequential(*TAILS[tail], nn.Linear(hidden, k)).double()
            with torch.no_grad():
                self.tail[-1].weight.copy_(randn(k, hidden))
                self.tail[-1].bias.copy_(randn(k))
        self.y = torch.randint(k, (n,), generator=generator)
        self.codes = torch.randint(n_groups, (n,), generator=generator)
        self.w = randn(n).exp()

    def layer(self, Z):
        return Z @ self.weight + self.bias

    def statistics(self, w=None):
        w = torch.ones(len(self.Z)) if w is None else w
        return layer_fisher(
            TensorRows(self.Z, self.y, w, self.codes),
            n_groups=self.n_groups,
            layer=self.layer,
            tail=self.tail,
        )

    def gradients(self, oracle):
        return oracle(self.weight, self.bias, self.Z, self.y, self.tail)


def exact_rows(seed=0, n=64, d=5):
    """Rows whose sums are exact in float64, so that results can be compared bit by bit."""
    generator = torch.Generator().manual_seed(seed)
    Z = torch.randint(-8, 9, (n, d), generator=generator).double()
    e = torch.randint(0, 16, (n,), generator=generator).double() / 8
    codes = torch.randint(3, (n,), generator=generator)
    w = torch.randint(0, 4, (n,), generator=generator).double()
    return Z, e, codes, w


def accumulate(*rows):
    return GroupFisher(3, 5).update(*rows)


def assert_identical(ours, theirs):
    for field in dataclasses.fields(FisherStatistics):
        assert torch.equal(getattr(ours, field.name), getattr(theirs, field.name)), field.name


class TestClosedForm:
    @pytest.mark.parametrize("oracle", [loop_gradients, vmap_gradients])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("n_groups", [1, 3])
    @pytest.mark.parametrize("k", [2, 5])
    @pytest.mark.parametrize("tail", TAILS)
    @pytest.mark.some(2)
    def test_equals_squared_per_sample_gradients(self, tail, k, n_groups, weighted, oracle):
        problem = Problem(tail, k=k, n_groups=n_groups)
        w = problem.w if weighted else None
        expected = group_fisher(problem.gradients(oracle), problem.codes, n_groups, w)
        statistics = problem.statistics(w)
        torch.testing.assert_close(statistics.fisher, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(statistics.importance, expected.sqrt(), rtol=1e-12, atol=0)

    def test_is_not_the_square_of_the_mean_gradient(self):
        problem = Problem()
        gradients = problem.gradients(loop_gradients)
        of_mean = torch.stack(
            [gradients[problem.codes == g].mean(dim=0).square().sum(dim=1) for g in range(3)]
        )
        assert (problem.statistics().fisher > 2 * of_mean).all()

    def test_groups_differ_from_each_other(self):
        # Otherwise the comparisons above could not tell a group from the pool.
        rows = Problem().statistics().fisher
        assert ((rows[0] - rows[1]).abs() > 1e-3 * rows[0]).all()

    def test_scaling_a_feature_by_c_scales_its_fisher_by_c_squared(self):
        problem = Problem()
        before = problem.statistics().fisher
        c = torch.ones(7, dtype=torch.float64)
        c[2] = 10.0
        # The same function of the scaled feature.
        problem.Z, problem.weight = problem.Z * c, problem.weight / c[:, None]
        after = problem.statistics().fisher
        torch.testing.assert_close(after, before * c.square(), rtol=1e-12, atol=0)

    @pytest.mark.parametrize("tail", ["none", "tanh"])
    def test_curvature_of_the_kl_divergence(self, tail):
        # For labels averaged over the model the Fisher information is the second derivative
        # of KL(theta || theta + delta): with delta = eps in one entry of row i, summed over
        # the row's entries, KL = eps^2 / 2 F_i. The mean of +eps and -eps has no cubic term.
        problem = Problem(tail, n=20, d=4, k=3, n_groups=1)
        follow = problem.tail or nn.Identity()
        with torch.no_grad():
            log_p = F.log_softmax(follow(problem.layer(problem.Z)), dim=1)
            curvature = torch.zeros(4, dtype=torch.float64)
            eps = 1e-3
            for i in range(4):
                for j in range(problem.weight.shape[1]):
                    for signed in (eps, -eps):
                        moved = problem.weight.clone()
                        moved[i, j] += signed
                        log_q = F.log_softmax(follow(problem.Z @ moved + problem.bias), dim=1)
                        kl = (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()
                        curvature[i] += kl / eps**2
        observed = problem.statistics().fisher[0]
        n, k = log_p.shape
        problem.Z = problem.Z.repeat_interleave(k, dim=0)
        problem.y = torch.arange(k).repeat(n)
        problem.codes = torch.zeros(n * k, dtype=torch.int64)
        true = problem.statistics(log_p.exp().flatten()).fisher[0]
        torch.testing.assert_close(true, curvature, rtol=1e-4, atol=0)
        # Control: with the observed labels it is another quantity.
        assert ((observed - curvature).abs() > 1e-2 * curvature).all()


class TestGradientEnergy:
    @pytest.mark.parametrize("k", [2, 3, 50])
    def test_equals_the_textbook_form(self, k):
        generator = torch.Generator().manual_seed(0)
        logits = 3 * torch.randn(200, k, generator=generator, dtype=torch.float64)
        y = torch.randint(k, (200,), generator=generator)
        p = torch.softmax(logits, dim=1)
        textbook = p.square().sum(dim=1) - 2 * p.gather(1, y[:, None])[:, 0] + 1
        torch.testing.assert_close(
            softmax_gradient_energy(logits, y), textbook, rtol=1e-10, atol=1e-14
        )

    def test_keeps_relative_precision_for_confident_samples(self):
        margin = torch.linspace(0, 40, 81)
        logits = torch.stack([margin, torch.zeros(81), -torch.ones(81)], dim=1)
        y = torch.zeros(81, dtype=torch.int64)
        a, b = torch.exp(-margin.double()), torch.exp(-1 - margin.double())
        exact = ((a + b) ** 2 + a**2 + b**2) / (1 + a + b) ** 2
        # The smallest is a subnormal number of float32, which holds fewer digits.
        normal = exact > 1e-36
        ours = softmax_gradient_energy(logits, y).double()
        assert ((ours - exact).abs() / exact)[normal].max() < 1e-5
        assert (ours > 0).all()
        # Control: in float32 the textbook form has no correct digit left from a margin of 10 on.
        p = torch.softmax(logits, dim=1)
        textbook = (p.square().sum(dim=1) - 2 * p[:, 0] + 1).double()
        assert ((textbook - exact).abs() / exact)[margin > 10].min() > 0.1

    def test_leaves_the_logits_unchanged(self):
        logits = torch.tensor([[1.0, 2.0]])
        softmax_gradient_energy(logits, torch.tensor([0]))
        assert logits.tolist() == [[1.0, 2.0]]

    def test_identity_tail_equals_no_tail(self):
        problem = Problem()
        output = problem.layer(problem.Z)
        torch.testing.assert_close(
            gradient_energy(output, problem.y, nn.Identity()),
            gradient_energy(output, problem.y),
            rtol=1e-12,
            atol=1e-15,
        )

    def test_works_without_gradients_and_leaves_none_behind(self):
        problem = Problem("tanh")
        output = problem.layer(problem.Z)
        expected = gradient_energy(output, problem.y, problem.tail)
        with torch.no_grad():
            e = gradient_energy(output, problem.y, problem.tail)
        assert torch.equal(e, expected)
        assert not e.requires_grad
        assert all(parameter.grad is None for parameter in problem.tail.parameters())


class TestAccumulation:
    @pytest.mark.parametrize("seed", range(5))
    def test_any_cut_and_any_order_give_the_same_sums(self, seed):
        Z, e, codes, w = exact_rows(seed)
        whole = accumulate(Z, e, codes, w).result()
        rng = np.random.default_rng(seed)
        cuts = np.sort(rng.integers(0, 65, size=6))  # empty batches among them
        batched = GroupFisher(3, 5)
        for part in np.split(rng.permutation(64), cuts):
            batched.update(Z[part], e[part], codes[part], w[part])
        assert_identical(batched.result(), whole)

    def test_blocks_inside_an_update_do_not_matter(self, monkeypatch):
        rows = exact_rows()
        whole = accumulate(*rows).result()
        monkeypatch.setattr(fisher, "_BLOCK_ELEMENTS", 35)  # 7 rows of 5, and one left over
        assert_identical(accumulate(*rows).result(), whole)
        monkeypatch.setattr(fisher, "_BLOCK_ELEMENTS", 1)  # less than a row
        assert_identical(accumulate(*rows).result(), whole)

    def test_merge_equals_one_pass_in_any_order_and_grouping(self):
        Z, e, codes, w = exact_rows()
        whole = accumulate(Z, e, codes, w).result()

        def part(i):
            rows = slice(20 * i, 20 * i + (20 if i < 2 else 24))
            return accumulate(Z[rows], e[rows], codes[rows], w[rows])

        assert_identical(part(0).merge(part(1)).merge(part(2)).result(), whole)
        assert_identical(part(2).merge(part(0)).merge(part(1)).result(), whole)
        assert_identical(part(0).merge(part(1).merge(part(2))).result(), whole)
        # Control: no part is negligible.
        assert not torch.equal(part(0).merge(part(1)).result().squares, whole.squares)

    def test_merge_changes_only_the_receiver(self):
        rows = exact_rows()
        other = accumulate(*rows)
        before = other.result()
        ours = accumulate(*rows).merge(other)
        assert_identical(other.result(), before)
        assert torch.equal(ours.result().squares, 2 * before.squares)
        # They share no memory either.
        ours.update(*rows)
        assert_identical(other.result(), before)

    def test_result_is_frozen(self):
        rows = exact_rows()
        accumulator = accumulate(*rows)
        result = accumulator.result()
        squares, weights, counts = (
            result.squares.clone(),
            result.weights.clone(),
            result.counts.clone(),
        )
        accumulator.update(*rows)
        assert_identical(result, FisherStatistics(squares, weights, counts))
        assert torch.equal(accumulator.result().counts, 2 * counts)
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.squares = squares

    def test_integer_weights_stand_for_repeated_rows(self):
        Z, e, codes, w = exact_rows()
        times = w.long()
        weighted = accumulate(Z, e, codes, w).result()
        repeated = accumulate(
            Z.repeat_interleave(times, dim=0),
            e.repeat_interleave(times),
            codes.repeat_interleave(times),
        ).result()
        assert torch.equal(weighted.fisher, repeated.fisher)
        assert torch.equal(weighted.weights, repeated.counts.double())
        assert torch.equal(weighted.counts, torch.bincount(codes[w > 0]))
        assert not torch.equal(weighted.fisher, accumulate(Z, e, codes).result().fisher)

    def test_weight_zero_stands_for_a_removed_row(self):
        Z, e, codes, w = exact_rows()
        kept = w > 0
        assert not kept.all()
        zeroed = accumulate(Z, e, codes, w).result()
        removed = accumulate(Z[kept], e[kept], codes[kept], w[kept]).result()
        assert torch.equal(zeroed.squares, removed.squares)
        assert torch.equal(zeroed.weights, removed.weights)

    def test_scaling_all_weights_changes_nothing(self):
        Z, e, codes, w = exact_rows()
        fisher_of = accumulate(Z, e, codes, w).result().fisher
        assert torch.equal(accumulate(Z, e, codes, 4 * w).result().fisher, fisher_of)

    def test_a_group_without_rows_is_nan_and_leaves_the_others_alone(self):
        Z, e, codes, _ = exact_rows()
        rows = codes != 1
        statistics = accumulate(Z[rows], e[rows], codes[rows]).result()
        assert statistics.counts[1] == 0
        assert statistics.weights[1] == 0
        assert statistics.fisher[1].isnan().all()
        assert statistics.importance[1].isnan().all()
        assert torch.equal(
            statistics.fisher[[0, 2]], accumulate(Z, e, codes).result().fisher[[0, 2]]
        )

    def test_an_always_zero_feature_has_zero_fisher(self):
        Z, e, codes, w = exact_rows()
        Z[:, 3] = 0.0
        result = accumulate(Z, e, codes, w).result().fisher
        assert (result[:, 3] == 0).all()
        assert (result[:, [0, 1, 2, 4]] > 0).all()

    @pytest.mark.parametrize("batch_size", [50_000, 50])
    def test_float32_rows_are_summed_in_float64(self, batch_size):
        n = 50_000
        generator = torch.Generator().manual_seed(0)
        Z = torch.randn(n, 10, generator=generator)
        e, w = torch.rand(n, generator=generator), torch.rand(n, generator=generator)
        codes = torch.randint(2, (n,), generator=generator)
        accumulator = GroupFisher(2, 10)
        for rows in torch.arange(n).split(batch_size):
            accumulator.update(Z[rows], e[rows], codes[rows], w[rows])
        ours = accumulator.result().squares
        terms = Z.double().square() * (e.double() * w.double())[:, None]
        for g in range(2):
            # fsum rounds once, at the end. No term is negative, so that a sum in any order is
            # within n eps of it.
            exact = np.array([math.fsum(column) for column in terms[codes == g].T.tolist()])
            error = np.abs(ours[g].numpy() / exact - 1)
            assert error.max() < n * np.finfo(np.float64).eps
            # Control: float32 could not even hold these sums.
            assert np.abs(exact.astype(np.float32) / exact - 1).max() > 1e-9


class TestLayerFisher:
    @pytest.mark.parametrize("tail", ["none", "relu"])
    def test_equals_one_update_across_the_pass_boundary(self, tail, monkeypatch):
        problem = Problem(tail)
        e = gradient_energy(problem.layer(problem.Z), problem.y, problem.tail)
        once = GroupFisher(3, 7).update(problem.Z, e, problem.codes, problem.w).result()
        for pass_rows in (60, 59, 7, 1):
            monkeypatch.setattr(mapped, "_BLOCK_ROWS", pass_rows)
            passes = problem.statistics(problem.w)
            assert torch.equal(passes.counts, once.counts)
            torch.testing.assert_close(passes.weights, once.weights, rtol=1e-14, atol=0)
            torch.testing.assert_close(passes.squares, once.squares, rtol=1e-13, atol=0)

    def test_float32_features_are_close_to_the_float64_oracle(self):
        problem = Problem()
        expected = problem.statistics(problem.w).fisher
        problem.Z = problem.Z.float()
        ours = problem.statistics(problem.w).fisher
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)


def test_rows_of_weight_zero_are_none():
    rng = np.random.default_rng(0)
    Z, e, w = (torch.from_numpy(rng.uniform(1, 2, size=n)) for n in ((9, 3), 9, 9))
    codes = torch.arange(9) % 2
    w[4:] = 0.0
    expected = GroupFisher(2, 3).update(Z[:4], e[:4], codes[:4], w[:4]).result()
    Z[4:] = torch.inf  # of which a product with zero is no number
    found = GroupFisher(2, 3).update(Z, e, codes, w).result()
    assert torch.equal(found.fisher, expected.fisher)
    assert torch.equal(found.counts, expected.counts)
