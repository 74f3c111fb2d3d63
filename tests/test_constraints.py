import dataclasses
import itertools

import numpy as np
import pytest
import torch
from oracles import PARITIES, group_rate, parity_moments, parity_penalty

from skfairft.metrics import demographic_parity_distance, equalized_odds_distance
from skfairft.parity import moments as moments_module
from skfairft.parity.constraints import parity
from skfairft.parity.counts import weighted_f1
from skfairft.parity.levels import levels_asked
from skfairft.parity.penalty import ParityPenalty, weighed_mass
from skfairft.parity.sums import cell_counts, mass_table
from skfairft.parity.table import TABLE
from skfairft.rows.tensor_rows import TensorRows

SHAPES = list(itertools.product((2, 3), (2, 3)))
FORMS = ["squared_gaps", "distance"]


def make_predictions(k, n_groups, n=60, seed=0):
    """Logits that differ between groups, labels, groups and weights."""
    rng = np.random.default_rng(seed)
    y, codes = rng.integers(k, size=n), rng.integers(n_groups, size=n)
    logits = rng.normal(size=(n, k)) + codes[:, None] * np.arange(k) + 2 * np.eye(k)[y]
    tensors = logits, y, codes, rng.exponential(size=n)
    return tuple(map(torch.from_numpy, tensors))


def table(logits, y, codes, w, n_groups):
    return mass_table(
        torch.softmax(logits, dim=1), TensorRows(logits, y, w, codes), n_groups=n_groups
    )


class TestTable:
    @pytest.mark.parametrize(("k", "n_groups"), SHAPES)
    def test_of_blocks_add_up(self, k, n_groups):
        data = make_predictions(k, n_groups)
        mass, count = table(*data, n_groups)
        halves = [
            table(*(values[rows] for values in data), n_groups)
            for rows in (slice(25), slice(25, None))
        ]
        torch.testing.assert_close(halves[0][0] + halves[1][0], mass, rtol=1e-13, atol=0)
        torch.testing.assert_close(halves[0][1] + halves[1][1], count, rtol=1e-13, atol=0)
        torch.testing.assert_close(mass.sum(dim=-1), count, rtol=1e-13, atol=0)

    def test_a_weight_of_two_is_the_row_twice(self):
        logits, y, codes, w = make_predictions(3, 2)
        times = w.ceil().long()
        weighted = table(logits, y, codes, times.double(), 2)
        repeated = table(
            *(values.repeat_interleave(times, dim=0) for values in (logits, y, codes)),
            torch.ones(int(times.sum())).double(),
            2,
        )
        plain = table(logits, y, codes, torch.ones_like(w), 2)
        for ours, theirs, control in zip(weighted, repeated, plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)
            assert not torch.allclose(ours, control)

    def test_counts_are_those_of_the_table(self):
        logits, y, codes, w = make_predictions(3, 2)
        count = cell_counts(TensorRows(logits, y, w, codes), n_classes=3, n_groups=2)
        assert torch.equal(count, table(logits, y, codes, w, 2)[1])

    def test_weighed_by_a_slope_is_a_sum_over_rows(self):
        logits, y, codes, w = make_predictions(3, 2)
        slope = torch.randn(3, 2, 3).double()
        mass, _ = table(logits, y, codes, w, 2)
        p = torch.softmax(logits, dim=1)
        ours = weighed_mass(p, TensorRows(p, y, w, codes), slope)
        torch.testing.assert_close(ours, (slope * mass).sum(), rtol=1e-12, atol=1e-12)

    def test_rows_without_groups_are_refused(self):
        logits, y, _, w = make_predictions(3, 2)
        with pytest.raises(ValueError, match=r"have no groups.*give TensorRows codes"):
            mass_table(logits, TensorRows(logits, y, w), n_groups=2)


class TestSums:
    """Of few classes they are a product with all coefficients, of many they are not."""

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("constraint", PARITIES)
    @pytest.mark.parametrize(("k", "n_groups"), SHAPES)
    def test_both_ways_are_one(self, monkeypatch, constraint, k, n_groups, weighted):
        class_weight = np.arange(1.0, k + 1.0) if weighted else None
        small = parity(constraint, k, class_weight)
        assert small._coefficients is not None
        monkeypatch.setattr(moments_module, "_MOST_COEFFICIENTS", 0)
        large = dataclasses.replace(small)  # with nothing remembered
        rng = np.random.default_rng(0)
        masses = torch.from_numpy(rng.random((5, k, n_groups, k)))
        prices = torch.from_numpy(rng.normal(size=(len(small.events), n_groups)))
        torch.testing.assert_close(small.sums(masses), large.sums(masses), rtol=1e-13, atol=0)
        torch.testing.assert_close(small.spend(prices), large.spend(prices), rtol=1e-13, atol=1e-15)
        spent = (small.spend(prices) * masses[0]).sum()
        torch.testing.assert_close((prices * small.sums(masses[0])).sum(), spent)
        assert large._coefficients is None

    def test_the_same_moments_are_made_once(self):
        assert parity("equalized_odds", 2) is parity("equalized_odds", 2)
        assert parity("equalized_odds", 2) is not parity("equalized_odds", 3)

    @pytest.mark.parametrize("constraint", PARITIES)
    def test_small_weights_do_not_drown(self, constraint):
        mass = torch.full((3, 2, 3), 1e-20, dtype=torch.float64)
        mass[:, 1] = 1e20
        sums = parity(constraint, 3).sums(mass)
        torch.testing.assert_close(sums[:, 0] * 1e40, sums[:, 1], rtol=1e-13, atol=0)


def all_that_follows(rule, mass, prices):
    """What a rule makes of a table (3, k, G, k), in arrays or in tensors."""
    count, at = mass.sum(-1), prices[0]
    rates = rule.rates(mass, count)
    each = rates[0]
    return {
        "rates": rates,
        "gaps": rule.gaps(rates, count),
        "apart": rule.apart(rates),
        "distance": rule.distance(rates),
        "known_distance": rule.known_distance(rates, 1e-4),
        "behind": rule.behind(count),
        "of_cells": rule.of_cells(at),
        "paid": rule.paid(at),
        "largest": moments_module.largest(each),
        "spread": moments_module.spread(each),
    }


class TestArraysAndTensors:
    @pytest.mark.parametrize("by_column", [False, True])
    @pytest.mark.parametrize("k", [2, 3, 13])
    @pytest.mark.parametrize("constraint", TABLE)
    def test_are_computed_with_alike(self, constraint, k, by_column):
        rng = np.random.default_rng(0)
        groups = np.empty(4, dtype=object)
        groups[:] = [("f", 0), ("f", 1), ("m", 0), ("m", 2)]
        levels = levels_asked("columns", groups, groups.tolist()) if by_column else None
        mass = rng.exponential(size=(3, k, 4, k))
        mass[0, :, 3] = 0.0  # rates of nothing
        for ratio in (False,) if TABLE[constraint].largest else (False, True):
            rule = parity(constraint, k, rng.random(k) + 0.5, levels=levels, ratio=ratio)
            prices = rng.normal(size=(1, *rule.present(4).shape))
            ours = all_that_follows(rule, mass, prices)
            theirs = all_that_follows(rule, *map(torch.from_numpy, (mass, prices)))
            for name, found in ours.items():
                assert isinstance(found, np.ndarray | np.float64), name
                assert isinstance(theirs[name], torch.Tensor), name
                # Of sums of some hundred numbers; a gap is a difference.
                np.testing.assert_allclose(found, theirs[name], rtol=1e-13, atol=1e-14)
            assert np.isnan(ours["rates"]).any()

    def test_of_single_precision_stay_so(self):
        mass = torch.rand(2, 3, 2)
        found = parity("equalized_odds", 2).rates(mass, mass.sum(dim=-1))
        assert found.dtype == torch.float32


class TestWithoutRows:
    @pytest.mark.parametrize("form", FORMS)
    def test_the_derivative_is_finite(self, form):
        mass = torch.rand(2, 3, 2).double()
        mass[:, 2] = 0.0
        penalty = ParityPenalty(parity("equalized_odds", 2), mass.sum(dim=-1), 1.0, form)
        (gradient,) = torch.autograd.grad(penalty.value(mass.requires_grad_()), mass)
        assert gradient.isfinite().all()
        torch.testing.assert_close(gradient, penalty.slope(mass)[1])
        assert gradient.any()

    def test_the_f1_is_nan(self):
        assert np.isnan(weighted_f1(np.zeros((2, 2))))
        assert weighted_f1(np.eye(2)) == 1.0


class TestRates:
    @pytest.mark.parametrize("constraint", PARITIES)
    @pytest.mark.parametrize(("k", "n_groups"), SHAPES)
    def test_and_gaps_are_those_of_the_definition(self, constraint, k, n_groups):
        logits, y, codes, w = make_predictions(k, n_groups)
        p = torch.softmax(logits, dim=1)
        mass, count = mass_table(p, TensorRows(p, y, w, codes), n_groups=n_groups)
        moments = parity(constraint, k)
        rates = moments.rates(mass, count)
        gaps = moments.gaps(rates, count)
        expected = [m for of_class in parity_moments(constraint, k) for m in of_class]
        assert rates.shape == gaps.shape == (len(expected), n_groups)
        for row, (counted, event) in enumerate(expected):
            pooled = group_rate(p, y, codes, w, counted, event, set(range(n_groups)))
            for group in range(n_groups):
                rate = group_rate(p, y, codes, w, counted, event, {group})
                assert rates[row, group].item() == pytest.approx(rate.item(), rel=1e-12)
                assert gaps[row, group].item() == pytest.approx((rate - pooled).item(), rel=1e-9)

    @pytest.mark.parametrize(("k", "n_groups"), SHAPES)
    @pytest.mark.parametrize(
        ("constraint", "metric"),
        [
            ("demographic_parity", demographic_parity_distance),
            ("equalized_odds", equalized_odds_distance),
        ],
    )
    def test_of_decisions_have_the_distance_of_the_metrics(self, constraint, metric, k, n_groups):
        logits, y, codes, w = make_predictions(k, n_groups, n=300)
        decisions = logits.argmax(dim=1)
        mass, count = mass_table(
            torch.eye(k).double()[decisions], TensorRows(logits, y, w, codes), n_groups=n_groups
        )
        moments = parity(constraint, k)
        ours = moments.distance(moments.rates(mass, count)).item()
        theirs = metric(
            y.numpy(), decisions.numpy(), sensitive_features=codes.numpy(), sample_weight=w.numpy()
        )
        assert ours == pytest.approx(theirs, rel=1e-12)
        assert ours > 0.05

    def test_take_many_tables_at_once(self):
        data = [make_predictions(3, 2, seed=seed) for seed in range(4)]
        count = table(*data[0], 2)[1]
        moments = parity("equalized_odds", 3)
        masses = [table(logits, *data[0][1:], 2)[0] for logits, *_ in data]
        each = [moments.rates(mass, count) for mass in masses]
        together = moments.rates(torch.stack(masses), count)
        assert torch.equal(together, torch.stack(each))
        assert torch.equal(moments.gaps(together, count)[2], moments.gaps(each[2], count))
        distances = torch.stack([moments.distance(rates) for rates in each])
        assert torch.equal(moments.distance(together), distances)


class TestEmptyCells:
    """Group 2 has no positives."""

    def data(self):
        logits, y, codes, w = make_predictions(2, 3)
        keep = (y == 0) | (codes != 2)
        return tuple(values[keep] for values in (logits, y, codes, w))

    def test_have_no_rate_and_leave_the_others_alone(self):
        data = self.data()
        moments = parity("equalized_odds", 2)
        mass, count = table(*data, 3)
        rates = moments.rates(mass, count)
        assert rates.isnan().tolist() == [[False, False, True], [False, False, False]]
        without = (data[2] != 2) | (data[1] == 1)
        fewer = moments.rates(*table(*(values[without] for values in data), 3))
        torch.testing.assert_close(rates[0, :2], fewer[0, :2], rtol=1e-13, atol=0)
        assert torch.equal(moments.gaps(rates, count).isnan(), rates.isnan())
        spread = (rates[0, 0] - rates[0, 1]).abs() + rates[1].max() - rates[1].min()
        assert moments.distance(rates).item() == pytest.approx(spread.item(), rel=1e-12)

    def test_leave_a_moment_out_where_fewer_than_two_groups_have_a_rate(self):
        logits, y, codes, w = self.data()
        keep = (y == 0) | (codes == 0)
        mass, count = table(*(values[keep] for values in (logits, y, codes, w)), 3)
        moments = parity("equalized_odds", 2)
        rates = moments.rates(mass, count)
        assert moments.distance(rates).isnan()
        false_positive = rates[1].max() - rates[1].min()
        assert moments.known_distance(rates) == false_positive
        assert torch.isfinite(ParityPenalty(moments, count, 1.0).value(mass))

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("constraint", PARITIES)
    def test_have_a_finite_slope_also_for_rows_of_weight_zero(self, constraint, form):
        logits, y, codes, w = make_predictions(2, 3)
        w = torch.where((y == 1) & (codes == 2), 0.0, w)
        mass, count = table(logits, y, codes, w, 3)
        assert count[1, 2] == 0
        value, slope = ParityPenalty(parity(constraint, 2), count, 3.0, form).slope(mass)
        assert value > 0
        assert slope.isfinite().all()

    @pytest.mark.parametrize("form", FORMS)
    def test_of_all_groups_cost_nothing(self, form):
        logits, _, codes, w = make_predictions(2, 2)
        mass, count = table(logits, torch.zeros_like(codes), codes, w, 2)
        penalty = ParityPenalty(parity("true_positive_rate_parity", 2), count, 3.0, form)
        value, slope = penalty.slope(mass)
        assert value == 0
        assert not slope.any()


class TestPenalty:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("constraint", PARITIES)
    @pytest.mark.parametrize(("k", "n_groups"), SHAPES)
    @pytest.mark.some(2)
    def test_value_and_gradient_are_those_of_the_definition(self, constraint, form, k, n_groups):
        logits, y, codes, w = make_predictions(k, n_groups)
        leaf = logits.requires_grad_()
        p = torch.softmax(leaf, dim=1)
        expected = 7.0 * parity_penalty(p, y, codes, w, constraint, n_groups, form)
        (oracle,) = torch.autograd.grad(expected, leaf)
        mass, count = table(leaf, y, codes, w, n_groups)
        penalty = ParityPenalty(parity(constraint, k), count, 7.0, form)
        assert penalty.value(mass).item() == pytest.approx(expected.item(), rel=1e-12)
        (gradient,) = torch.autograd.grad(penalty.value(mass), leaf)
        torch.testing.assert_close(gradient, oracle, rtol=1e-10, atol=1e-14)
        assert oracle.abs().max() > 1e-4
        # By the chain rule, through numbers that know nothing of the parameters.
        value, slope = penalty.slope(mass.detach())
        assert value == penalty.value(mass)
        assert not value.requires_grad
        weighed = weighed_mass(torch.softmax(leaf, dim=1), TensorRows(logits, y, w, codes), slope)
        torch.testing.assert_close(
            torch.autograd.grad(weighed, leaf)[0], oracle, rtol=1e-10, atol=1e-14
        )

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("constraint", PARITIES)
    def test_does_not_change_with_the_scale_of_the_weights(self, constraint, form):
        logits, y, codes, w = make_predictions(3, 2)
        mass, count = table(logits, y, codes, w, 2)
        penalty = ParityPenalty(parity(constraint, 3), count, 1.0, form)
        scaled = dataclasses.replace(penalty, count=5.0 * count)
        assert scaled.value(5.0 * mass).item() == pytest.approx(penalty.value(mass).item())
        # Which takes both.
        assert scaled.value(mass).item() != pytest.approx(penalty.value(mass).item())

    @pytest.mark.parametrize("constraint", PARITIES)
    def test_is_zero_at_parity_and_only_there(self, constraint):
        logits, y, codes, w = make_predictions(2, 2)
        both = [torch.cat([values, values]) for values in (logits, y, w)]
        mirrored = torch.cat([codes, 1 - codes])
        mass, count = table(both[0], both[1], mirrored, both[2], 2)
        for form in FORMS:
            penalty = ParityPenalty(parity(constraint, 2), count, 1.0, form)
            assert penalty.value(mass).item() == pytest.approx(0.0, abs=1e-14)
            mass_apart, count_apart = table(logits, y, codes, w, 2)
            apart = dataclasses.replace(penalty, count=count_apart)
            assert apart.value(mass_apart) > 1e-6
