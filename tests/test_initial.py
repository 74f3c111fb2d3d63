import copy

import numpy as np
import pytest
import torch
from oracles import moments
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from torch import nn

from skfairft.head import start as initial
from skfairft.head.outputs import fit_linear_head
from skfairft.head.start import (
    StartingHead,
    _mapped_rows,
    check_head,
    column_moments,
    previous_head,
    scores_classes,
    starting_head,
)
from skfairft.lowrank.layer import LowRankHead
from skfairft.rows import mapped
from skfairft.rows.tensor_rows import TensorRows

SCALES = np.array([1.0, 1e-3, 50.0, 1e4, 2.0])
SHIFTS = np.array([0.0, 3.0, -1e3, 1e5, 0.1])


def make_rows(n_classes=2, n=300, seed=0):
    """Features of very different scales, labels that depend on them, and uneven weights."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, 5))
    logits = base @ rng.normal(size=(5, n_classes)) + rng.gumbel(size=(n, n_classes))
    Z = torch.from_numpy(base * SCALES + SHIFTS)
    return Z, torch.from_numpy(logits.argmax(axis=1)), torch.from_numpy(rng.exponential(size=n))


def make_layer(width, bias=True):
    layer = nn.Linear(5, width, bias=bias)
    generator = torch.Generator().manual_seed(width)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=generator)
    return layer


def scores(weight, bias, Z):
    return Z @ weight + bias


class TestColumnMoments:
    def test_equal_the_weighted_formulas(self):
        Z, _, w = make_rows()
        mean, scale = moments(Z, w)
        for factor in (1.0, 1e-6, 1e6):  # only the shares of the weights matter
            ours = column_moments(Z, factor * w)
            np.testing.assert_allclose(ours[0].numpy(), mean.astype(float), rtol=1e-12)
            np.testing.assert_allclose(ours[1].numpy(), scale.astype(float), rtol=1e-12)
        # Control: without weights they are others.
        assert not np.allclose(column_moments(Z, torch.ones_like(w))[1], ours[1], rtol=1e-3)

    @pytest.mark.parametrize("order", ["as drawn", "sorted"])
    def test_one_pass_over_blocks_is_as_good_as_two(self, order, monkeypatch):
        # Sorted, each block has quite another mean than all rows.
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 35)
        Z, _, w = make_rows()
        if order == "sorted":
            Z = Z.sort(dim=0).values
        for value, expected in zip(column_moments(Z, w), moments(Z, w), strict=True):
            np.testing.assert_allclose(value.numpy(), expected.astype(float), rtol=1e-12)

    def test_a_block_without_weight_does_not_count(self, monkeypatch):
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 35)
        Z, _, w = make_rows()
        for empty in (slice(0, 21), slice(70, 98), slice(280, 300)):
            kept = w.clone()
            kept[empty] = 0.0
            counted = kept > 0
            for ours, removed in zip(
                column_moments(Z, kept), column_moments(Z[counted], kept[counted]), strict=True
            ):
                torch.testing.assert_close(ours, removed, rtol=1e-12, atol=0)

    def test_blocks_of_rows_do_not_show(self):
        rng = np.random.default_rng(0)
        Z = np.linspace(-1, 5, 2**14 + 3)[:, None] + rng.normal(size=(2**14 + 3, 2))
        w = rng.exponential(size=len(Z))
        ours = column_moments(torch.from_numpy(Z), torch.from_numpy(w))
        for value, expected in zip(ours, moments(Z, w), strict=True):
            np.testing.assert_allclose(value.numpy(), expected.astype(float), rtol=1e-12)

    def test_are_accurate_far_from_zero(self):
        Z = torch.from_numpy(np.random.default_rng(0).normal(loc=1e6, size=(5000, 3)))
        mean, scale = column_moments(Z, torch.ones(5000).double())
        np.testing.assert_allclose(scale.numpy(), np.std(Z.numpy() - 1e6, axis=0), rtol=1e-9)
        np.testing.assert_allclose(mean.numpy(), 1e6 + np.mean(Z.numpy() - 1e6, axis=0), rtol=1e-14)
        # Control: the mean of squares minus the squared mean loses most of its digits.
        naive = (Z.square().mean(dim=0) - mean.square()).abs().sqrt()
        assert ((naive - scale).abs() / scale).max() > 1e-6

    def test_float32_features_are_summed_in_float64(self):
        Z = torch.from_numpy(np.random.default_rng(0).normal(loc=100, size=(40_000, 2))).float()
        mean, scale = column_moments(Z, torch.ones(40_000).double())
        expected = moments(Z.double(), np.ones(40_000))
        np.testing.assert_allclose(mean.numpy(), expected[0].astype(float), rtol=1e-13)
        np.testing.assert_allclose(scale.numpy(), expected[1].astype(float), rtol=1e-12)

    @pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e6, 1e-30])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_constant_feature_has_its_magnitude_as_scale(self, value, dtype):
        # 0.1 has no exact mean in binary, so the deviations are not exactly zero.
        Z = torch.full((999, 1), value, dtype=dtype)
        w = torch.from_numpy(np.random.default_rng(0).exponential(size=999))
        mean, scale = column_moments(Z, w)
        assert scale.item() == (abs(float(Z[0, 0])) or 1.0)
        assert mean.item() == pytest.approx(value, rel=1e-7)

    def test_constant_means_relative_to_the_largest_magnitude(self):
        sign = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)
        for magnitude in (1e-9, 1.0, 1e9):
            above, below = (magnitude * (1 + share * sign) for share in (1.01e-7, 0.99e-7))
            _, scale = column_moments(torch.stack([above, below], dim=1), torch.ones(100).double())
            assert scale[0].item() == pytest.approx(1.01e-7 * magnitude, rel=1e-6)
            assert scale[1].item() == pytest.approx(magnitude)

    def test_weight_zero_stands_for_a_removed_row(self):
        Z, _, w = make_rows()
        w[:10] = 0.0
        Z[:10] = 1e15  # next to which the other rows would look constant
        for ours, removed in zip(column_moments(Z, w), column_moments(Z[10:], w[10:]), strict=True):
            torch.testing.assert_close(ours, removed, rtol=1e-12, atol=0)


class TestFitLinearHead:
    @pytest.mark.parametrize("C", [0.01, 1.0])
    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_is_logistic_regression_on_standardized_features(self, n_classes, C):
        Z, y, w = make_rows(n_classes)
        X = StandardScaler().fit(Z.numpy(), sample_weight=w.numpy()).transform(Z.numpy())
        model = LogisticRegression(C=C, tol=1e-10, max_iter=1000)
        model.fit(X, y, sample_weight=w.numpy())
        weight, bias = fit_linear_head(TensorRows(Z, y, w), n_classes, C)
        assert weight.shape == (5, n_classes)
        assert weight.dtype == bias.dtype == torch.float64
        ours = scores(weight, bias, Z).numpy()
        if n_classes == 2:
            ours = ours[:, 1] - ours[:, 0]
        np.testing.assert_allclose(ours, model.decision_function(X), rtol=1e-6, atol=1e-6)

    def test_columns_of_two_classes_sum_to_zero(self):
        weight, bias = fit_linear_head(TensorRows(*make_rows()), 2, 1.0)
        assert torch.equal(weight[:, 0], -weight[:, 1])
        assert bias.sum().abs() < 1e-9 * bias.abs().max()
        assert (weight != 0).all()

    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_does_not_depend_on_the_units_of_the_features(self, n_classes):
        Z, y, w = make_rows(n_classes)
        moved = (Z - 5.0) * torch.tensor([1e3, 1e3, 1e-2, 1e-4, -1.0]).double()
        before = scores(*fit_linear_head(TensorRows(Z, y, w), n_classes, 0.1), Z)
        after = scores(*fit_linear_head(TensorRows(moved, y, w), n_classes, 0.1), moved)
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
        # Control: the penalty of the plain model depends on them, even on rows of one scale.
        plain = LogisticRegression(C=0.1, max_iter=1000)
        X = StandardScaler().fit_transform(Z.numpy())
        one = plain.fit(X, y, sample_weight=w.numpy()).decision_function(X)
        X[:, 0] /= 100
        two = plain.fit(X, y, sample_weight=w.numpy()).decision_function(X)
        assert np.abs(one - two).max() > 0.1

    def test_integer_weights_stand_for_repeated_rows(self):
        Z, y, w = make_rows()
        times = w.ceil().long().clamp(max=3)
        weighted = fit_linear_head(TensorRows(Z, y, times.double()), 2, 1.0)
        Z_rep, y_rep = Z.repeat_interleave(times, dim=0), y.repeat_interleave(times)
        repeated = fit_linear_head(
            TensorRows(Z_rep, y_rep, torch.ones(len(y_rep)).double()), 2, 1.0
        )
        torch.testing.assert_close(scores(*weighted, Z), scores(*repeated, Z), rtol=1e-4, atol=1e-4)

    def test_a_constant_feature_gets_no_weight(self):
        Z, y, w = make_rows()
        Z[:, 2] = 1e3
        weight, bias = fit_linear_head(TensorRows(Z, y, w), 2, 1.0)
        assert weight.isfinite().all()
        assert bias.isfinite().all()
        assert weight[2].abs().max() < 1e-9

    def test_does_not_change_its_arguments(self):
        rows = make_rows()
        before = [t.clone() for t in rows]
        fit_linear_head(TensorRows(*rows), 2, 1.0)
        assert all(torch.equal(t, old) for t, old in zip(rows, before, strict=True))


def activations():
    return [[nn.ReLU()], [nn.Tanh()], [nn.Identity()], [nn.LayerNorm(3, elementwise_affine=False)]]


class TestStartingHead:
    def test_none_is_fitted(self):
        Z, y, w = make_rows(4)
        start = starting_head(None, TensorRows(Z, y, w), 4, 1.0)
        weight, bias = fit_linear_head(TensorRows(Z, y, w), 4, 1.0)
        assert torch.equal(start.weight, weight)
        assert torch.equal(start.bias, bias)
        assert start.tail is None

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_layer_as_wide_as_the_classes_is_taken_as_it_is(self, bias, wrapped):
        Z, y, w = make_rows(4)
        linear = make_layer(4, bias)
        start = starting_head(
            nn.Sequential(linear) if wrapped else linear, TensorRows(Z, y, w), 4, 1.0
        )
        assert torch.equal(start.weight, linear.weight.detach().double().T)
        assert torch.equal(start.bias, linear.bias.double() if bias else torch.zeros(4).double())
        assert start.tail is None
        expected = copy.deepcopy(linear).double()(Z)
        torch.testing.assert_close(start.output(Z), expected.detach())

    @pytest.mark.parametrize("width", [1, 3, 5])
    @pytest.mark.parametrize("bias", [True, False])
    def test_a_layer_of_another_width_gets_an_output_layer(self, width, bias):
        Z, y, w = make_rows(4)
        linear = make_layer(width, bias).double()
        start = starting_head(linear, TensorRows(Z, y, w), 4, 1.0)
        hidden = linear(Z).detach()
        torch.testing.assert_close(start.output(Z), hidden)
        expected = scores(*fit_linear_head(TensorRows(hidden, y, w), 4, 1.0), hidden)
        torch.testing.assert_close(start.tail(start.output(Z)), expected, rtol=1e-6, atol=1e-6)
        assert [type(part) for part in start.tail] == [nn.Linear]

    @pytest.mark.parametrize("after", activations())
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_an_activation_makes_it_a_hidden_layer_of_any_width(self, after, n_classes):
        # With three classes the layer is as wide as there are classes.
        Z, y, w = make_rows(n_classes)
        Z = (Z - torch.from_numpy(SHIFTS)) / torch.from_numpy(SCALES)
        head = nn.Sequential(make_layer(3), *after).double()
        start = starting_head(head, TensorRows(Z, y, w), n_classes, 1.0)
        with torch.no_grad():
            hidden = head(Z)
        expected = scores(*fit_linear_head(TensorRows(hidden, y, w), n_classes, 1.0), hidden)
        torch.testing.assert_close(start.tail(start.output(Z)), expected, rtol=1e-6, atol=1e-6)
        assert type(start.tail[0]) is type(after[0])
        assert start.tail[-1].out_features == n_classes

    def test_dropout_in_it_does_not_act_on_the_fit(self):
        Z, y, w = make_rows()
        linear = make_layer(3)
        without = starting_head(nn.Sequential(linear, nn.ReLU()), TensorRows(Z, y, w), 2, 1.0)
        head = nn.Sequential(linear, nn.ReLU(), nn.Dropout(0.5))
        start = starting_head(head, TensorRows(Z, y, w), 2, 1.0)
        assert torch.equal(start.tail(start.output(Z)), without.tail(without.output(Z)))

    def test_everything_is_float64_on_the_cpu(self):
        Z, y, w = make_rows()
        start = starting_head(nn.Sequential(make_layer(3), nn.ReLU()), TensorRows(Z, y, w), 2, 1.0)
        tensors = [start.weight, start.bias, *start.tail.parameters()]
        assert {tensor.dtype for tensor in tensors} == {torch.float64}
        assert start.output(Z.float()).dtype == torch.float64

    @pytest.mark.parametrize("width", [2, 3])
    @pytest.mark.parametrize("activation", [True, False])
    def test_leaves_the_module_as_it_was(self, width, activation):
        Z, y, w = make_rows()
        linear = make_layer(width)
        head = nn.Sequential(linear, nn.ReLU()) if activation else linear
        head.train().requires_grad_(False)
        before = copy.deepcopy(head.state_dict())
        start = starting_head(head, TensorRows(Z, y, w), 2, 1.0)
        start.weight.zero_()
        start.bias.zero_()
        assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
        assert head.training
        assert not any(parameter.requires_grad for parameter in head.parameters())
        if activation:
            assert head[1].training
            assert start.tail[0] is not head[1]

    @pytest.mark.parametrize("head", [None, make_layer(2), make_layer(3)])
    def test_leaves_the_global_random_states_alone(self, head):
        Z, y, w = make_rows()
        numpy_global = check_random_state(None)
        torch_state, numpy_state = torch.get_rng_state(), numpy_global.get_state()[1].copy()
        starting_head(head, TensorRows(Z, y, w), 2, 1.0)
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert np.array_equal(numpy_global.get_state()[1], numpy_state)

    @pytest.mark.parametrize("head", [nn.Linear(7, 2), nn.Sequential(nn.Linear(7, 3), nn.ReLU())])
    def test_another_number_of_features_is_an_error(self, head):
        with pytest.raises(ValueError, match=r"takes 7 features but the data has 5: .*head=None"):
            starting_head(head, TensorRows(*make_rows()), 2, 1.0)

    @pytest.mark.parametrize(
        "head",
        [
            nn.ReLU(),
            nn.Bilinear(5, 5, 2),
            nn.Sequential(),
            nn.Sequential(nn.ReLU(), nn.Linear(5, 2)),
            nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2)),
            nn.Sequential(nn.Linear(5, 3), nn.PReLU()),
            nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3, affine=False)),  # has buffers
        ],
    )
    def test_what_is_no_linear_layer_and_activation_is_an_error(self, head):
        name = type(head).__name__
        with pytest.raises(
            ValueError, match=rf"head is {name}; expected an nn\.Linear.*split_head"
        ):
            starting_head(head, TensorRows(*make_rows()), 2, 1.0)

    def test_output_layer_scale_is_that_of_its_inputs(self):
        Z, y, w = make_rows()
        head = nn.Sequential(make_layer(3), nn.Tanh()).double()
        start = starting_head(head, TensorRows(Z, y, w), 2, 1.0)
        with torch.no_grad():
            _, scale = column_moments(head(Z), w)
        torch.testing.assert_close(start.output_layer_scale(Z, w), scale)
        assert starting_head(None, TensorRows(Z, y, w), 2, 1.0).output_layer_scale(Z, w) is None

    def test_outputs_that_outgrow_memory_go_to_a_file(self, monkeypatch):
        Z, y, w = make_rows()
        head = nn.Sequential(make_layer(3), nn.Tanh())
        expected = starting_head(head, TensorRows(Z, y, w), 2, 1.0)
        monkeypatch.setattr(initial, "_HIDDEN_BYTES", 100)
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 35)
        start = starting_head(head, TensorRows(Z, y, w), 2, 1.0)
        # Other blocks, other rounding.
        for ours, theirs in zip(start.tail.parameters(), expected.tail.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            start.output_layer_scale(Z, w), expected.output_layer_scale(Z, w), rtol=1e-12, atol=0
        )
        hidden = _mapped_rows(torch.tanh, Z)
        assert isinstance(hidden, mapped.MappedFeatures)
        assert torch.equal(hidden[:], torch.tanh(Z))


class TestPreviousHead:
    @pytest.mark.parametrize("low_rank", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_the_same_function(self, low_rank, dtype):
        rng = np.random.default_rng(0)
        A, B, b = (torch.from_numpy(rng.normal(size=shape)) for shape in ((5, 2), (2, 3), 3))
        head = LowRankHead(A, B, b) if low_rank else LowRankHead(A @ B, None, b)
        head = head.to(dtype)
        exact = copy.deepcopy(head).double()
        start = previous_head(head)
        Z = torch.from_numpy(rng.normal(size=(20, 5)))
        assert isinstance(start, StartingHead)
        assert start.weight.dtype == start.bias.dtype == torch.float64
        assert not start.weight.requires_grad
        assert start.tail is None
        torch.testing.assert_close(start.output(Z), exact(Z).detach(), rtol=1e-6, atol=1e-6)

    def test_takes_a_copy_of_the_tail(self):
        rng = np.random.default_rng(0)
        A, b = (torch.from_numpy(rng.normal(size=shape)) for shape in ((5, 3), 3))
        fitted = nn.Sequential(LowRankHead(A, None, b), nn.Tanh(), nn.Linear(3, 2).double())
        Z = torch.from_numpy(rng.normal(size=(20, 5)))
        expected = fitted(Z).detach()
        start = previous_head(fitted)
        torch.testing.assert_close(start.tail(start.output(Z)).detach(), expected)
        with torch.no_grad():
            start.tail[-1].weight.zero_()
        assert torch.equal(fitted(Z), expected)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Chain(nn.Sequential):
    def forward(self, x):
        return -super().forward(x)


def hooked():
    layer = nn.Linear(4, 2)
    layer.register_forward_hook(lambda *args: None)
    return layer


class TestWhatIsNoHead:
    @pytest.mark.parametrize(
        "head",
        [
            Doubled(4, 2),
            Chain(nn.Linear(4, 2), nn.ReLU()),
            hooked(),
            nn.Linear(4, 2, dtype=torch.complex64),
            nn.Linear(4, 2, device="meta"),
        ],
    )
    def test_more_than_its_layers(self, head):
        with pytest.raises(ValueError, match="does more than its layers say"):
            check_head(head)

    @pytest.mark.parametrize(
        ("after", "words"),
        [
            (nn.Softmax(dim=0), "rows that depend on each other"),
            (nn.BatchNorm1d(3, affine=False, track_running_stats=False), "failed on three rows|"),
            (nn.Flatten(0), "no row of numbers"),
            (nn.Unflatten(1, (3, 1)), "no row of numbers"),
            (nn.MaxPool2d(9), "failed on three rows"),
        ],
    )
    def test_what_follows_does_not_act_on_each_row(self, after, words):
        with pytest.raises(ValueError, match=words):
            check_head(nn.Sequential(nn.Linear(4, 3), after))

    @pytest.mark.parametrize(
        "head",
        [
            nn.Linear(4, 2, bias=False),
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)),
            nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Dropout(0.5)),
            nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1)),
            nn.Linear(4, 2, dtype=torch.float16),
        ],
    )
    def test_a_head_is_left_as_it_was(self, head):
        before = {name: value.clone() for name, value in head.state_dict().items()}
        mode = head.training
        check_head(head)
        assert head.training is mode
        assert all(torch.equal(before[name], value) for name, value in head.state_dict().items())


def test_a_sigmoid_of_one_output_is_kept_where_there_are_three_classes():
    head = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    assert scores_classes(head, 2)
    assert not scores_classes(head, 3)
    rng = np.random.default_rng(0)
    Z, y = torch.from_numpy(rng.normal(size=(60, 4))), torch.from_numpy(rng.integers(3, size=60))
    start = starting_head(head, TensorRows(Z, y, torch.ones(60).double()), 3, 1.0)
    assert [type(part).__name__ for part in start.tail] == ["Sigmoid", "Linear"]
