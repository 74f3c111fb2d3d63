"""The plug-in rule: the optimum of a linear program, and the votes that carry it out."""

import numpy as np
import pytest
import torch
from oracles import PARITIES, randomized_optimum
from scipy.special import softmax

from skfairft.parity.constraints import parity
from skfairft.parity.moments import spread
from skfairft.solvers import dual as plug_in
from skfairft.solvers.dual import solve_multipliers
from skfairft.solvers.rule import cell_scores, votes

# What the smoothing of the rule may cost: its last temperature.
SMOOTHING = plug_in.TEMPERATURES[-1]
SIZES = [(2, 2), (2, 3), (3, 2), (3, 3)]


def make_points(k, n_groups, n=6, seed=0, surer=1.0):
    """Points with weights and exact probabilities of label and group, which go together.

    The labels of the last group may be surer than those of the first: else groups err alike.
    """
    rng = np.random.default_rng(seed)
    side = np.linspace(-1.0, 1.0, n_groups)
    towards = rng.normal(size=(n, 1))
    group = softmax(2.0 * towards * side, axis=1)
    logits = rng.normal(size=(n, 1, k)) + 0.5 * side[:, None] * np.linspace(-1.0, 1.0, k)
    logits = logits + 0.8 * towards[:, :, None] * np.linspace(-1.0, 1.0, k)
    p = softmax(surer ** side[:, None] * logits, axis=2)
    cells = (p * group[:, :, None]).transpose(0, 2, 1)  # (n, k, G)
    return torch.from_numpy(cells.reshape(n, -1)), torch.from_numpy(rng.uniform(1, 3, size=n))


def surer(constraint):
    return 2.0 if constraint == "error_rate_parity" else 1.0


def solve(p, w, constraint, removed, k, n_groups):
    rule = parity(constraint, k)
    return rule, *solve_multipliers(p, w, rule, n_groups=n_groups, removed=np.array(removed))


def soft_decisions(p, scores, temperature):
    """What the rule decides, points of equal scores split."""
    return torch.softmax(p @ scores.flatten(0, 1) / temperature, dim=1)


def rates_of(decisions, p, w, rule, k, n_groups):
    """Expected rates (m, G) of decisions (n, k)."""
    mass = (p * w[:, None]).T @ decisions
    count = (w @ p).reshape(k, n_groups)
    return rule.rates(mass.reshape(k, n_groups, k), count)


def spread_of(decisions, p, w, rule, k, n_groups):
    return float(spread(rates_of(decisions, p, w, rule, k, n_groups)).max())


def accuracy_of(decisions, p, w, k):
    by_label = p.reshape(len(p), k, -1).sum(dim=2)
    return float((w / w.sum()) @ (by_label * decisions).sum(dim=1))


def argmax(scores):
    return torch.eye(scores.shape[1], dtype=torch.float64)[scores.argmax(dim=1)]


class TestOptimum:
    @pytest.mark.parametrize("removed", [[0.3, 0.7, 1.0], np.linspace(0.05, 1.0, 20)])
    @pytest.mark.parametrize(("k", "n_groups"), SIZES)
    @pytest.mark.parametrize("constraint", PARITIES)
    @pytest.mark.some(4)
    def test_is_that_of_the_linear_program(self, constraint, k, n_groups, removed):
        p, w = make_points(k, n_groups, seed=2, surer=surer(constraint))
        rule, multipliers, count = solve(p, w, constraint, removed, k, n_groups)
        own = argmax(p.reshape(len(p), k, n_groups).sum(dim=2))
        free = cell_scores(rule, torch.zeros_like(multipliers[0]), count)
        before = spread_of(soft_decisions(p, free, SMOOTHING), p, w, rule, k, n_groups)
        assert before > 0.1
        share = w / w.sum()
        for r, one in list(zip(removed, multipliers, strict=True))[-3:]:
            bound = (1.0 - r) * before
            best = randomized_optimum(p, w, constraint, k, n_groups, bound)
            scores = cell_scores(rule, one, count)
            # The dual is at least the optimum at any multipliers; here it is no more.
            dual = share @ (p @ scores.flatten(0, 1)).amax(dim=1) + bound * one.clamp_min(0.0).sum()
            assert best - 1e-9 <= dual <= best + SMOOTHING
            # And the rule is as accurate, and within the bound.
            soft = soft_decisions(p, scores, SMOOTHING)
            assert accuracy_of(soft, p, w, k) == pytest.approx(best, abs=SMOOTHING)
            assert spread_of(soft, p, w, rule, k, n_groups) <= bound + SMOOTHING
        # Control: without a bound more is possible.
        assert accuracy_of(own, p, w, k) > best + 2 * SMOOTHING


def make_rows(k=2, n_groups=2, n=1500, **settings):
    """Probabilities of rows without ties, of weight 1 each."""
    p, w = make_points(k, n_groups, n, **settings)
    return p, torch.ones_like(w)


class TestRows:
    @pytest.mark.parametrize(("k", "n_groups"), SIZES)
    @pytest.mark.parametrize("constraint", PARITIES)
    @pytest.mark.some(2)
    def test_the_weight_is_the_share_of_the_spread_removed(self, constraint, k, n_groups):
        p, w = make_rows(k, n_groups, surer=surer(constraint))
        removed = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
        rule, multipliers, count = solve(p, w, constraint, removed, k, n_groups)
        scores = [cell_scores(rule, one, count) for one in multipliers]
        decisions = [argmax(p @ each.flatten(0, 1)) for each in scores]
        if constraint == "error_rate_parity":
            # All that brings it is to err more in the group that errs less. Rows that are surely of
            # that group tie, and the optimum errs on some of them at random; argmax errs on fewer.
            hard = [spread_of(each, p, w, rule, k, n_groups) for each in decisions]
            assert (np.diff(hard) < 0.0).all()
            assert hard[-1] < 0.35 * hard[0]
            decisions = [soft_decisions(p, each, SMOOTHING) for each in scores]
        spreads = [spread_of(each, p, w, rule, k, n_groups) for each in decisions]
        assert spreads[0] > 0.1
        np.testing.assert_allclose(spreads, (1.0 - removed) * spreads[0], atol=0.01)
        # At no more loss than it takes: accuracy falls, the faster the more is removed.
        accuracy = [accuracy_of(each, p, w, k) for each in decisions]
        assert (np.diff(accuracy) < 0.001).all()
        assert (np.diff(accuracy, 2) < 0.002).all()
        # Control: the tolerance would tell another share.
        assert 0.25 * spreads[0] > 0.02

    def test_weight_zero_is_the_most_probable_label(self):
        p, w = make_rows(3, 2)
        rule, multipliers, count = solve(p, w, "equalized_odds", [0.0, 1.0], 3, 2)
        scores = [cell_scores(rule, one, count).flatten(0, 1) for one in multipliers]
        expected = p.reshape(-1, 3, 2).sum(dim=2).argmax(dim=1)
        assert torch.equal((p @ scores[0]).argmax(dim=1), expected)
        assert not multipliers[0].any()
        assert not torch.equal((p @ scores[1]).argmax(dim=1), expected)

    @pytest.mark.parametrize("n_groups", [2, 3])
    @pytest.mark.parametrize("constraint", PARITIES)
    def test_multipliers_of_a_moment_sum_to_zero(self, constraint, n_groups):
        p, w = make_rows(2, n_groups, surer=surer(constraint))
        _, multipliers, _ = solve(p, w, constraint, [0.5, 1.0], 2, n_groups)
        assert (multipliers.abs().amax(dim=(1, 2)) > 0.01).all()
        torch.testing.assert_close(
            multipliers.sum(dim=2), torch.zeros(2, len(multipliers[0])).double()
        )

    def test_the_order_of_shares_does_not_matter(self):
        p, w = make_rows()
        removed = np.array([0.9, 0.2, 0.0, 0.5, 0.9])
        order = np.argsort(removed)
        _, mixed, _ = solve(p, w, "equalized_odds", removed, 2, 2)
        _, sorted_, _ = solve(p, w, "equalized_odds", removed[order], 2, 2)
        assert torch.equal(mixed[order], sorted_)
        # Alone each is the same to the precision of the optimizer.
        _, alone, _ = solve(p, w, "equalized_odds", [0.9], 2, 2)
        torch.testing.assert_close(alone[0], mixed[0], atol=0.005, rtol=0.0)
        assert not torch.allclose(mixed[0], mixed[3], atol=0.05)

    def test_a_weight_of_two_is_the_row_twice(self):
        p, _ = make_rows(2, 3)
        w = torch.from_numpy(np.random.default_rng(0).integers(0, 4, size=len(p))).double()
        repeated = p.repeat_interleave(w.long(), dim=0)
        _, weighted, count = solve(p, w, "equalized_odds", [0.5, 1.0], 2, 3)
        ones = torch.ones(len(repeated)).double()
        _, expected, expected_count = solve(repeated, ones, "equalized_odds", [0.5, 1.0], 2, 3)
        torch.testing.assert_close(count, expected_count)
        torch.testing.assert_close(weighted, expected, atol=1e-3, rtol=0.0)
        # Control: the weights matter.
        _, other, _ = solve(p, torch.ones(len(p)).double(), "equalized_odds", [0.5, 1.0], 2, 3)
        assert not torch.allclose(other, expected, atol=3e-3)

    def test_of_many_rows_some_are_taken_from_all_over(self, monkeypatch):
        p, w = make_rows(n=4000)
        p = p[p[:, 0].argsort()]  # the first rows are not like the last
        _, full, count = solve(p, w, "demographic_parity", [0.5, 1.0], 2, 2)
        monkeypatch.setattr(plug_in, "_MOST_ROWS", 1000)
        _, found, some = solve(p, w, "demographic_parity", [0.5, 1.0], 2, 2)
        torch.testing.assert_close(found, full, atol=0.02, rtol=0.0)
        torch.testing.assert_close(some, count, rtol=0.1, atol=0.0)
        assert not torch.equal(found, full)
        # A thousand rows are none too many.
        _, same, _ = solve(p[:1000], w[:1000], "demographic_parity", [1.0], 2, 2)
        monkeypatch.setattr(plug_in, "_MOST_ROWS", 10**5)
        assert torch.equal(same, solve(p[:1000], w[:1000], "demographic_parity", [1.0], 2, 2)[1])

    def test_those_taken_do_not_depend_on_a_pattern_in_the_order(self, monkeypatch):
        """Groups in turn: every other row is of one group."""
        p, w = make_rows(n=4000)
        order = p[:, 0].argsort()
        p = torch.stack([p[order[:2000]], p[order[2000:].flip(0)]], dim=1).flatten(0, 1)
        _, full, count = solve(p, w, "demographic_parity", [1.0], 2, 2)
        monkeypatch.setattr(plug_in, "_MOST_ROWS", 2000)
        _, found, some = solve(p, w, "demographic_parity", [1.0], 2, 2)
        torch.testing.assert_close(found, full, atol=0.02, rtol=0.0)
        torch.testing.assert_close(some, count, rtol=0.1, atol=0.0)

    def test_parity_from_the_start_needs_no_multipliers(self):
        """Groups that x says nothing of."""
        label = torch.from_numpy(np.random.default_rng(0).dirichlet([1, 1], size=500))
        p = torch.stack([0.3 * label, 0.7 * label], dim=2).flatten(1)
        rule, multipliers, count = solve(
            p, torch.ones(500).double(), "demographic_parity", [1.0], 2, 2
        )
        scores = cell_scores(rule, multipliers[0], count).flatten(0, 1)
        assert torch.equal((p @ scores).argmax(dim=1), label.argmax(dim=1))


@pytest.mark.parametrize(("k", "n_groups"), SIZES)
@pytest.mark.parametrize("constraint", PARITIES)
def test_cell_scores_are_the_lagrangian(constraint, k, n_groups):
    """Of any decisions the mean score is the accuracy minus multipliers times rates."""
    p, w = make_points(k, n_groups)
    rng = np.random.default_rng(3)
    rule, count = parity(constraint, k), (w @ p).reshape(k, n_groups)
    multipliers = torch.from_numpy(rng.normal(size=(len(rule.events), n_groups)))
    decisions = torch.from_numpy(rng.dirichlet(np.ones(k), size=len(p)))
    scores = p @ cell_scores(rule, multipliers, count).flatten(0, 1)
    found = float((w / w.sum()) @ (scores * decisions).sum(dim=1))
    cost = float((multipliers * rates_of(decisions, p, w, rule, k, n_groups)).sum())
    assert abs(cost) > 0.01
    assert found == pytest.approx(accuracy_of(decisions, p, w, k) - cost, abs=1e-12)


class TestVotes:
    @pytest.fixture
    def scores(self):
        return torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)))

    def test_are_distributions(self, scores):
        found = votes(scores)
        assert float(found.min()) == pytest.approx(0.0, abs=1e-15)
        assert (found >= 0.0).all()
        torch.testing.assert_close(found.sum(dim=1), torch.ones(6).double())

    def test_decide_as_the_scores(self, scores):
        p = torch.from_numpy(np.random.default_rng(1).dirichlet(np.full(6, 0.3), size=2000))
        expected = (p @ scores).argmax(dim=1)
        assert expected.bincount().min() > 100
        assert torch.equal((p @ votes(scores)).argmax(dim=1), expected)

    def test_know_neither_constants_nor_a_common_factor(self, scores):
        rng = np.random.default_rng(2)
        constants = torch.from_numpy(rng.normal(size=(6, 1)))
        torch.testing.assert_close(votes(5.0 * (scores + constants)), votes(scores))
        # Control: a factor of one cell's own is another rule.
        factors = torch.from_numpy(rng.uniform(0.2, 2.0, size=(6, 1)))
        assert not torch.allclose(votes(factors * scores), votes(scores), atol=0.01)

    @pytest.mark.parametrize("k", [2, 3])
    def test_without_a_constraint_each_cell_votes_for_its_label(self, k):
        scores = torch.eye(k).double().repeat_interleave(2, dim=0)
        torch.testing.assert_close(votes(scores), scores)
