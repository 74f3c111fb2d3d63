import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skfairft.head.modules import (
    StandardizedHead,
    head_scores,
    single_score_head,
    split_tail,
)
from skfairft.lowrank.layer import LowRankHead
from skfairft.rows import mapped

D, HIDDEN, K = 6, 5, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def randomize(module, seed=0):
    """Overwrite every parameter."""
    g = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g, dtype=torch.float64))
    return module


def make_parts(low_rank, tail, k=K):
    """A layer to standardize and its tail (None, or an activation and an output layer)."""
    width = HIDDEN if tail else k
    head = LowRankHead(
        randn(D, 2 if low_rank else width, seed=1),
        randn(2, width, seed=2) if low_rank else None,
        randn(width, seed=3),
    )
    if not tail:
        return head, None
    return head, randomize(nn.Sequential(nn.Tanh(), nn.Linear(HIDDEN, k)).double(), seed=4)


def make_head(low_rank, tail, k=K):
    head, rest = make_parts(low_rank, tail, k)
    return head if rest is None else nn.Sequential(head, *rest)


def standardize(head, tail, seed=5):
    shift, scale = 3 * randn(D, seed=seed), randn(D, seed=seed + 1).exp()
    output_scale = None if tail is None else randn(HIDDEN, seed=seed + 2).exp()
    return StandardizedHead(head, tail, shift, scale, output_scale, torch.float64)


every_head = pytest.mark.parametrize(
    ("low_rank", "tail"), [(False, False), (True, False), (False, True), (True, True)]
)


class TestLowRankHead:
    def test_is_the_product_of_its_factors(self):
        A, B, b, Z = randn(D, 2, seed=1), randn(2, K, seed=2), randn(K, seed=3), randn(9, D)
        expected = Z.numpy() @ A.numpy() @ B.numpy() + b.numpy()
        np.testing.assert_allclose(LowRankHead(A, B, b)(Z).detach().numpy(), expected, rtol=1e-13)
        np.testing.assert_allclose(
            LowRankHead(A, B, b).weight.detach().numpy(), A.numpy() @ B.numpy(), rtol=1e-13
        )

    def test_without_second_factor_is_a_linear_layer(self):
        linear = nn.Linear(D, K).double()
        head = LowRankHead(linear.weight.T, None, linear.bias)
        torch.testing.assert_close(head(randn(9, D)), linear(randn(9, D)))

    def test_takes_features_of_any_precision(self):
        head = make_head(True, False)
        assert head(randn(9, D).float()).dtype == torch.float64
        assert copy.deepcopy(head).float()(randn(9, D)).dtype == torch.float32

    def test_copies_what_it_is_made_of(self):
        A, B, b = randn(D, 2, seed=1), randn(2, K, seed=2), randn(K, seed=3)
        before = [t.clone() for t in (A, B, b)]
        randomize(LowRankHead(A, B, b))
        assert all(torch.equal(t, old) for t, old in zip((A, B, b), before, strict=True))

    def test_parameters_are_contiguous_for_lbfgs(self):
        head = LowRankHead(randn(2, D).T, randn(K, 2).T, randn(K))
        assert all(parameter.is_contiguous() for parameter in head.parameters())

    def test_repr_tells_the_rank(self):
        assert "rank=2," in repr(make_head(True, False))
        assert "rank=full," in repr(make_head(False, False))


class TestStandardizedHead:
    @every_head
    @pytest.mark.parametrize("seed", [5, 15, 25])
    def test_is_the_same_function_of_raw_features(self, low_rank, tail, seed):
        head, rest = make_parts(low_rank, tail)
        Z = randn(20, D)
        standardized = standardize(head, rest, seed)
        torch.testing.assert_close(
            standardized(Z), make_head(low_rank, tail)(Z), rtol=1e-11, atol=1e-11
        )
        # Control: the parameters are others.
        assert not torch.allclose(standardized.head.A, head.A)
        assert not torch.allclose(standardized.head.bias, head.bias)

    @every_head
    def test_parameters_act_on_standardized_features(self, low_rank, tail):
        head, rest = make_parts(low_rank, tail)
        module = randomize(standardize(head, rest))
        Z = randn(20, D)
        output = (Z - module.shift) / module.scale @ module.head.weight + module.head.bias
        expected = output if module.tail is None else module.tail(output)
        torch.testing.assert_close(module(Z), expected, rtol=1e-11, atol=1e-11)

    @every_head
    @pytest.mark.parametrize("seed", [5, 15])
    def test_fold_is_the_same_function_after_training(self, low_rank, tail, seed):
        module = standardize(*make_parts(low_rank, tail), seed)
        untrained = module(randn(20, D))
        randomize(module, seed)
        folded = module.fold()
        trained = module(randn(20, D))
        torch.testing.assert_close(folded(randn(20, D)), trained, rtol=1e-11, atol=1e-11)
        assert not torch.allclose(trained, untrained)
        first, _ = split_tail(folded)
        assert (first.B is not None) == low_rank

    @every_head
    def test_fold_undoes_standardizing(self, low_rank, tail):
        head, rest = make_parts(low_rank, tail)
        folded = standardize(head, rest).fold()
        first, original = split_tail(folded)[0], split_tail(make_head(low_rank, tail))[0]
        # The factors come back balanced: their product is what stays.
        torch.testing.assert_close(first.weight, original.weight, rtol=1e-12, atol=1e-12)
        found = folded.state_dict()
        for name, value in make_head(low_rank, tail).state_dict().items():
            if not name.endswith((".A", ".B")) and name not in ("A", "B"):
                torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)

    def test_the_factors_to_train_are_equally_large_in_each_direction(self):
        def sizes(head):
            return head.A.norm(dim=0), head.B.norm(dim=1)

        head = LowRankHead(1e3 * randn(D, 2, seed=1), 1e-3 * randn(2, K, seed=2), randn(K))
        A, B = sizes(head)
        assert (A / B > 1e4).all()
        A, B = sizes(standardize(head, None).head)
        torch.testing.assert_close(A, B, rtol=1e-12, atol=0)

    def test_a_direction_that_is_zero_can_still_be_trained(self):
        # B would have no gradient from a zero A, nor A from a zero B.
        head = LowRankHead(torch.eye(D, 2).double(), torch.zeros(2, K).double(), randn(K))
        head.B.data[0, 0] = 1.0
        module = standardize(head, None)
        assert torch.linalg.matrix_rank(module.head.B) == 2
        torch.testing.assert_close(module(randn(9, D)), head(randn(9, D)), rtol=1e-12, atol=1e-12)

    @every_head
    def test_shares_nothing_with_the_head_it_is_made_of_or_folded_to(self, low_rank, tail):
        head, rest = make_parts(low_rank, tail)
        module = standardize(head, rest)
        folded = module.fold()
        raw, scores = make_head(low_rank, tail), folded(randn(9, D))
        randomize(module)
        assert torch.equal(head.A, split_tail(raw)[0].A)
        assert rest is None or torch.equal(rest[-1].weight, raw[-1].weight)
        assert torch.equal(folded(randn(9, D)), scores)
        before = module(randn(9, D))
        randomize(folded, seed=1)
        assert torch.equal(module(randn(9, D)), before)

    def test_folded_head_predicts(self):
        # Training leaves the module in training mode, where dropout is at work.
        head, _ = make_parts(False, True)
        tail = nn.Sequential(nn.Dropout(0.5), nn.Linear(HIDDEN, K)).double()
        module = standardize(head, tail).train()
        assert not torch.equal(module(randn(20, D)), module(randn(20, D)))
        folded = module.fold()
        assert torch.equal(folded(randn(20, D)), folded(randn(20, D)))
        torch.testing.assert_close(folded(randn(20, D)), module.eval()(randn(20, D)))

    def test_float32_parameters_fold_to_float32(self):
        head, rest = make_parts(True, True)
        shift, scale = randn(D), randn(D, seed=1).exp()
        module = StandardizedHead(head, rest, shift, scale, torch.ones(HIDDEN), torch.float32)
        assert {p.dtype for p in module.parameters()} == {torch.float32}
        folded = module.fold()
        assert {p.dtype for p in folded.parameters()} == {torch.float32}
        torch.testing.assert_close(
            folded(randn(9, D)), make_head(True, True)(randn(9, D)).float(), rtol=1e-4, atol=1e-4
        )

    @every_head
    def test_only_weights_and_biases_are_trained(self, low_rank, tail):
        module = standardize(*make_parts(low_rank, tail))
        names = {"head.A", "head.bias"}
        names |= {"head.B"} if low_rank else set()
        names |= {"tail.1.weight", "tail.1.bias"} if tail else set()
        assert {name for name, _ in module.named_parameters()} == names

    @every_head
    def test_squared_norm_is_that_of_the_dense_weights_on_standardized_features(
        self, low_rank, tail
    ):
        module = randomize(standardize(*make_parts(low_rank, tail)))
        if tail:
            dense = torch.diag(module.output_scale) @ module.tail[-1].weight.T
        else:
            dense = module.head.weight
        expected = dense.square().sum()
        torch.testing.assert_close(module.squared_norm(), expected, rtol=1e-13, atol=0)
        parameters = list(module.parameters())
        ours = torch.autograd.grad(module.squared_norm(), parameters, allow_unused=True)
        theirs = torch.autograd.grad(expected, parameters, allow_unused=True)
        for (name, _), gradient, oracle in zip(
            module.named_parameters(), ours, theirs, strict=True
        ):
            # Biases are not penalized, nor is a layer before an output layer.
            assert (gradient is None) == (oracle is None), name
            if gradient is not None:
                torch.testing.assert_close(gradient, oracle, rtol=1e-12, atol=1e-12)

    def test_output_scale_makes_the_norm_independent_of_the_activations_scale(self):
        # The same classifier, its hidden units ten times as large.
        head, tail = make_parts(False, True)
        small = StandardizedHead(
            head, tail, torch.zeros(D), torch.ones(D), torch.ones(HIDDEN), torch.float64
        )
        with torch.no_grad():
            tail[-1].weight /= 10
        large = StandardizedHead(
            head, tail, torch.zeros(D), torch.ones(D), 10 * torch.ones(HIDDEN), torch.float64
        )
        torch.testing.assert_close(large.squared_norm(), small.squared_norm())


class TestHeadScores:
    @every_head
    def test_do_not_depend_on_the_other_rows(self, low_rank, tail):
        head = make_head(low_rank, tail).float()
        Z = 10 * randn(40, D).float()
        whole = head_scores(head, Z)
        assert whole.dtype == torch.float64
        parts = torch.cat([head_scores(head, Z[i : i + 7]) for i in range(0, 40, 7)])
        single = torch.cat([head_scores(head, Z[i : i + 1]) for i in range(40)])
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
        torch.testing.assert_close(single, whole, rtol=0, atol=1e-12)
        order = torch.randperm(40, generator=generator())
        torch.testing.assert_close(head_scores(head, Z[order]), whole[order], rtol=0, atol=1e-12)

    @pytest.mark.parametrize("rows", [1, 7, 40])
    def test_of_a_float32_head_are_those_of_float64(self, rows):
        head = LowRankHead(randn(512, K, seed=1), None, randn(K, seed=2)).float()
        Z = 10 * randn(40, 512).float()
        scores = torch.cat([head_scores(head, part) for part in Z.split(rows)]).numpy()
        A, b = head.A.detach().double().numpy(), head.bias.detach().double().numpy()
        terms = np.concatenate(
            [Z.double().numpy()[:, :, None] * A, np.broadcast_to(b, (40, 1, K))], axis=1
        )
        exact = np.apply_along_axis(math.fsum, 1, terms)
        # However a processor orders a sum of n terms, it is within n eps of their sizes.
        bound = 513 * np.finfo(np.float64).eps * np.abs(terms).sum(axis=1)
        assert (np.abs(scores - exact) <= bound).all()
        # Control: float32 could not even hold these scores.
        assert (np.abs(exact.astype(np.float32) - exact) > 100 * bound).any()

    @every_head
    def test_slices_do_not_show(self, low_rank, tail, monkeypatch):
        head, Z = make_head(low_rank, tail), randn(40, D)
        with torch.no_grad():
            expected = head(Z)
        for rows in (40, 39, 7, 1):
            monkeypatch.setattr(mapped, "_BLOCK_ROWS", rows)
            torch.testing.assert_close(head_scores(head, Z), expected, rtol=0, atol=1e-12)

    def test_leave_the_head_in_its_own_precision(self):
        head = make_head(True, True).float()
        scores = head_scores(head, randn(9, D))
        assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}
        assert not scores.requires_grad

    def test_no_rows_have_no_scores(self):
        assert head_scores(make_head(True, True), randn(0, D)).shape == (0, K)


class TestSingleScoreHead:
    @every_head
    def test_is_the_difference_of_the_logits(self, low_rank, tail):
        head, Z = make_head(low_rank, tail, k=2), randn(20, D)
        logits = head(Z)
        score = single_score_head(head)(Z)
        assert score.shape == (20,)
        torch.testing.assert_close(score, logits[:, 1] - logits[:, 0])
        assert single_score_head(head)(Z[:1]).shape == (1,)

    @every_head
    def test_does_not_change_or_share_the_head(self, low_rank, tail):
        head = make_head(low_rank, tail, k=2)
        before = head(randn(20, D))
        randomize(single_score_head(head))
        assert torch.equal(head(randn(20, D)), before)

    @every_head
    def test_keeps_precision_and_the_global_random_state(self, low_rank, tail):
        head = make_head(low_rank, tail, k=2).float()
        state = torch.get_rng_state()
        single = single_score_head(head)
        assert torch.equal(torch.get_rng_state(), state)
        assert {parameter.dtype for parameter in single.parameters()} == {torch.float32}


@every_head
def test_split_tail_takes_a_head_apart(low_rank, tail):
    head, Z = make_head(low_rank, tail), randn(9, D)
    first, rest = split_tail(head)
    assert isinstance(first, LowRankHead)
    assert (rest is not None) == tail
    output = first(Z)
    assert torch.equal(output if rest is None else rest(output), head(Z))


@every_head
@pytest.mark.parametrize("standardized", [False, True])
def test_pickle_and_state_dict_round_trips(low_rank, tail, standardized):
    def make():
        if standardized:
            return standardize(*make_parts(low_rank, tail))
        return make_head(low_rank, tail)

    module, Z = randomize(make(), seed=9), randn(9, D)
    expected = module(Z)
    assert not torch.allclose(make()(Z), expected)
    assert torch.equal(pickle.loads(pickle.dumps(module))(Z), expected)
    other = make()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(Z), expected)
