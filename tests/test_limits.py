"""Limits of a distance between groups: against all contrasts in a loop, and with known truth."""

import math
from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
from oracles import parity_moments
from scipy.optimize import brentq
from scipy.stats import norm, studentized_range

from skfairft.parity import contrasts, limits
from skfairft.parity.chance import chance_quantile, chance_size
from skfairft.parity.constraints import parity
from skfairft.parity.limits import distance_limits, rows_needed
from skfairft.parity.moments import Parity
from skfairft.parity.rate_limits import effective_rows, wilson_limits
from skfairft.parity.table import Rate

DP, EO, ERROR = "demographic_parity", "equalized_odds", "error_rate_parity"
CONSTRAINTS = (DP, EO, "false_negative_rate_parity", ERROR)
# Sums of some hundred numbers in another order; a root halves the digits where it is near 0.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def make_rows(n=300, k=2, n_groups=3, seed=0):
    """Groups, labels, decisions and weights that go with the decisions."""
    rng = np.random.default_rng(seed)
    s = rng.choice(n_groups, n, p=rng.dirichlet(np.full(n_groups, 5.0)))
    y = rng.integers(k, size=n)
    right = rng.random(n) < np.linspace(0.1, 0.9, n_groups)[s]
    otherwise = np.where(rng.random(n) < 0.6, s % k, rng.integers(k, size=n))
    decision = np.where(right, y, otherwise)
    return s, y, decision, rng.exponential(size=n) * (1.0 + 3.0 * (decision == 1))


def tables(s, y, decision, w, k=2, n_groups=3):
    """Return the sums of weights and of squared weights, each (G, k, k)."""
    found = np.zeros((2, n_groups, k, k))
    np.add.at(found[0], (s, y, decision), w)
    np.add.at(found[1], (s, y, decision), w**2)
    return found


def slow_rows(x, w):
    """Effective rows of outcomes x (n,) with weights, in a loop."""
    total, squares = sum(w), sum(each**2 for each in w)
    rate = sum(a * b for a, b in zip(w, x, strict=True)) / total
    kish = total**2 / squares
    if not 0 < sum(x) < len(x):
        return rate, kish
    residual = sum((b * (a - rate)) ** 2 for a, b in zip(x, w, strict=True))
    return rate, min(kish, rate * (1 - rate) * total**2 / residual)


@cache
def slow_wilson(rate, n, z):
    """Return the limits p at which the rate is z standard errors of p away."""

    def away(p):
        return (rate - p) ** 2 - z**2 * p * (1 - p) / n

    # A rate of 0 or 1 is one of the roots itself.
    low = 0.0 if rate == 0 else brentq(away, 0.0, min(rate, 1 - 1e-12), xtol=1e-15)
    return low, 1.0 if rate == 1 else brentq(away, max(rate, 1e-12), 1.0, xtol=1e-15)


def slow_limits(s, y, decision, w, constraint, k, n_groups, confidence, inflation):
    """Return distance, low and high from rows, by all contrasts of all classes."""
    z, found = norm.ppf(confidence), []
    level = (2 * confidence - 1) ** (1 / len(parity_moments(constraint, k)))
    for kinds in parity_moments(constraint, k):
        groups = []  # of each kind, of each group with such rows: rate, low, high
        for counted, event in kinds:
            known = []
            for g in range(n_groups):
                inside = [i for i in range(len(y)) if s[i] == g and y[i] in event and w[i] > 0]
                if inside:
                    x = [int(counted(y[i], decision[i])) for i in inside]
                    known.append(slow_rows(x, [w[i] for i in inside]))
            groups.append(known)
        if min(map(len, groups)) < 2:
            continue
        z_low = chance_quantile(max(map(len, groups)), len(kinds), level)
        for pairs in product(*(permutations(known, 2) for known in groups)):
            d = sum(i[0] - j[0] for i, j in pairs)
            up = down = 0.0
            for (a, n), (b, m) in pairs:
                n, m = n / inflation**2, m / inflation**2
                up += (slow_wilson(a, n, z)[1] - a) ** 2 + (b - slow_wilson(b, m, z)[0]) ** 2
                down += (a - slow_wilson(a, n, z_low)[0]) ** 2
                down += (slow_wilson(b, m, z_low)[1] - b) ** 2
            found.append((d, d - math.sqrt(down), d + math.sqrt(up)))
    distance = max(d for d, *_ in found)
    low = min(low for d, low, _ in found if d > distance - 1e-12)  # where some are equally far
    return distance, max(0.0, low), max(high for *_, high in found)


class TestDistanceLimits:
    @pytest.mark.parametrize("constraint", CONSTRAINTS)
    @pytest.mark.parametrize(("k", "n_groups"), [(2, 2), (2, 5), (3, 2), (3, 4)])
    @pytest.mark.parametrize("inflation", [1.0, 1.1])
    def test_all_contrasts_in_a_loop(self, constraint, k, n_groups, inflation):
        some = []
        for seed in range(3):
            rows = make_rows([120, 500, 500][seed], k, n_groups, seed)
            expected = slow_limits(*rows, constraint, k, n_groups, 0.95, inflation)
            some.append((tables(*rows, k, n_groups), expected))
        both, expected = np.stack([each for each, _ in some], axis=1), [e for _, e in some]
        found = distance_limits(parity(constraint, k), *both, inflation=inflation)
        np.testing.assert_allclose(
            np.stack([found.distance, found.low, found.high], axis=1), expected, **CLOSE
        )
        assert found.low.max() > 0.02

    def test_kinds_of_different_groups(self):
        """Of the last group no row has label 1."""
        s, y, decision, w = make_rows(500)
        kept = (s < 2) | (y == 0)
        rows = s[kept], y[kept], decision[kept], w[kept]
        found = distance_limits(parity(EO, 2), *tables(*rows))
        distance, low, high = slow_limits(*rows, EO, 2, 3, 0.95, 1.0)
        assert low > 0.02
        assert (found.distance, found.low, found.high) == pytest.approx((distance, low, high))

    def test_blocks_change_nothing(self, monkeypatch):
        both = np.stack([tables(*make_rows(900, 3, 7, seed), 3, 7) for seed in range(9)], axis=1)
        rule = parity(EO, 3)
        whole = distance_limits(rule, *both)
        for module in (limits, contrasts):
            monkeypatch.setattr(module, "BLOCK_ELEMENTS", 500)
        assert np.array_equal(distance_limits(rule, *both).high, whole.high)

    def test_thirty_groups_by_all_pairs_of_one_kind_after_the_other(self):
        """All 870^2 contrasts, as one matrix."""
        rng = np.random.default_rng(0)
        table = rng.integers(0, 40, size=(30, 2, 2)) * rng.integers(1, 50, size=(30, 1, 1)) + 1.0
        sums = []
        for label in (1, 0):
            n = table[:, label].sum(axis=-1)
            rate = table[:, label, 1] / n
            low, high = wilson_limits(rate, n, 1.6)
            i, j = np.array(list(permutations(range(30), 2))).T
            sums.append((rate[i] - rate[j], (high - rate)[i] ** 2 + (rate - low)[j] ** 2))
        (d, v), (e, u) = sums
        expected = (d[:, None] + e + np.sqrt(v[:, None] + u)).max()
        found = distance_limits(parity(EO, 2), table, table, confidence=norm.cdf(1.6))
        assert found.high == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("constraint", CONSTRAINTS)
    def test_the_order_of_groups_classes_and_tables_does_not_matter(self, constraint):
        both = np.stack([tables(*make_rows(400, 3, 4, seed), 3, 4) for seed in range(3)], axis=1)
        rule = parity(constraint, 3)
        found = distance_limits(rule, *both)
        turned = both[:, [2, 0, 1]][:, :, [3, 1, 0, 2]][..., [1, 2, 0], :][..., [1, 2, 0]]
        again = distance_limits(rule, *turned)
        for name in ("distance", "low", "high"):
            expected = getattr(found, name)[[2, 0, 1]]
            np.testing.assert_allclose(getattr(again, name), expected, **CLOSE)

    def test_ties_do_not_depend_on_the_order(self):
        """Two groups have the largest rate, one of them few rows: it has the wider lower limit."""
        table = np.array([[[0, 0], [90, 10]], [[0, 0], [4, 6]], [[0, 0], [400, 600]]], dtype=float)
        rule = parity(DP, 2)
        lows = [
            distance_limits(rule, table[list(order)], table[list(order)]).low.item()
            for order in permutations(range(3))
        ]
        np.testing.assert_allclose(lows, lows[0], rtol=1e-12)
        table[1] = [[0, 0], [4.01, 5.99]]  # now the other one alone is the largest
        assert distance_limits(rule, table, table).low > lows[0] + 0.1

    def test_ties_but_for_rounding(self):
        """All of two groups are selected: their rates are 1, or by the order of sums almost."""
        w = np.random.default_rng(0).exponential(size=(2, 60, 10, 2))
        w[1, :, 2:] = 0.0  # two rows of one label
        table = np.zeros((60, 3, 2, 2))
        squares = table.copy()
        for g in range(2):
            table[:, g, :, 1], squares[:, g, :, 1] = w[g].sum(axis=1), (w[g] ** 2).sum(axis=1)
        table[:, 2, :, 0] = squares[:, 2, :, 0] = 500.0
        found = distance_limits(parity(DP, 2), table, squares)
        alone = distance_limits(parity(DP, 2), table[:, 1:], squares[:, 1:])
        assert (found.low < alone.low).all()  # of three groups, with the limits of the same two

    def test_of_several_classes(self):
        """The lower limit is that of the class that is furthest apart."""
        table = np.array([[[0, 0, 0], [0, 900, 100], [0, 5, 5]]] * 2, dtype=float)
        table[1, 1] = [0, 300, 700]
        rule = parity("true_positive_rate_parity", 3)
        found = distance_limits(rule, table, table)
        assert found.distance == pytest.approx(0.6)
        assert 0.5 < found.low < found.distance

    @pytest.mark.parametrize("constraint", CONSTRAINTS)
    def test_the_limits_hold_the_distance_and_part_with_confidence(self, constraint):
        rng = np.random.default_rng(0)
        table = rng.poisson(1.5, size=(400, 3, 2, 2)) * rng.integers(1, 9, size=(400, 3, 1, 1))
        table = table.astype(float)
        rule = parity(constraint, 2)
        before = distance_limits(rule, table, table, confidence=0.5)
        known = ~np.isnan(before.distance)
        assert 0 < (~known).sum() < 100 or constraint in (DP, ERROR)
        assert np.array_equal(np.isnan(before.low), ~known)
        assert np.array_equal(np.isnan(before.high), ~known)
        # z = 0: nothing is added but the roots of what rounding leaves of squares.
        np.testing.assert_allclose(before.high, before.distance, atol=1e-7)
        np.testing.assert_allclose(before.low, before.distance, atol=0.01)
        for confidence in (0.8, 0.95, 0.999):
            found = distance_limits(rule, table, table, confidence=confidence)
            assert (found.low <= before.low)[known].all()
            assert (found.high >= before.high - 1e-12)[known].all()  # both may be the largest
            assert (found.low >= 0.0)[known].all()
            before = found

    @pytest.mark.parametrize("constraint", CONSTRAINTS)
    def test_they_close_by_the_root_of_the_rows(self, constraint):
        table = np.array([[[900, 300], [200, 700]], [[600, 300], [300, 300]]], dtype=float)
        rule = parity(constraint, 2)
        few, many = (distance_limits(rule, n * table, n * table) for n in (1.0, 100.0))
        assert (many.high - many.distance) / (few.high - few.distance) == pytest.approx(0.1, 0.05)
        assert (many.distance - many.low) / (few.distance - few.low) == pytest.approx(0.1, 0.05)

    def test_inflation_is_fewer_rows(self):
        table, squares = tables(*make_rows())
        rule = parity(EO, 2)
        wider = distance_limits(rule, table, squares, inflation=2.0)
        # A quarter of the rows, all of 4 times the weight: the same sums, squares 4 times as large.
        fewer = distance_limits(rule, table, 4.0 * squares)
        assert wider.high == pytest.approx(fewer.high, abs=1e-12)
        assert wider.low == pytest.approx(fewer.low, abs=1e-12)
        assert wider.high > distance_limits(rule, table, squares).high

    def test_a_group_without_such_rows_is_left_out(self):
        table, squares = tables(*make_rows(), n_groups=4)  # none of the last
        table[2, 1] = squares[2, 1] = 0.0  # and no positive of another
        for constraint, kept in ((DP, 3), ("true_positive_rate_parity", 2)):
            found = distance_limits(parity(constraint, 2), table, squares)
            alone = distance_limits(parity(constraint, 2), table[:kept], squares[:kept])
            assert found == alone

    def test_a_lone_group_has_no_distance(self):
        table = np.zeros((3, 2, 2))
        table[1] = 5.0
        found = distance_limits(parity(DP, 2), table, table)
        assert np.isnan([found.distance, found.low, found.high]).all()

    def test_a_class_of_one_group_is_left_out(self):
        """Class 2 occurs in group 0 only: its true positive rate has none to be compared with."""
        table = np.zeros((2, 3, 3))
        table[:, :2] = np.arange(12).reshape(2, 2, 3) + 1.0
        lone = table.copy()
        lone[0, 2] = [1.0, 2.0, 40.0]
        rule = parity("true_positive_rate_parity", 3)
        assert distance_limits(rule, lone, lone) == distance_limits(rule, table, table)


class TestEffectiveRows:
    @pytest.mark.parametrize("constraint", CONSTRAINTS)
    @pytest.mark.parametrize("k", [2, 3])
    def test_without_weights_they_are_the_rows(self, constraint, k):
        s, y, decision, _ = make_rows(5000, k)
        table, squares = tables(s, y, decision, np.ones(len(y)), k)
        rule = parity(constraint, k)
        expected = rule.counts(table.sum(axis=-1).T)
        assert np.array_equal(effective_rows(rule, table, squares), expected)

    @pytest.mark.parametrize("constraint", CONSTRAINTS)
    @pytest.mark.parametrize("weight", [7.0, 0.1, 1e-9])
    def test_one_weight_for_all_changes_nothing(self, constraint, weight):
        s, y, decision, _ = make_rows(400, 3)
        rule = parity(constraint, 3)
        ones = tables(s, y, decision, np.ones(len(y)), 3)
        same = tables(s, y, decision, np.full(len(y), weight), 3)
        np.testing.assert_allclose(
            effective_rows(rule, *same), effective_rows(rule, *ones), rtol=1e-12
        )
        a, b = distance_limits(rule, *ones), distance_limits(rule, *same)
        assert a.high == pytest.approx(b.high, rel=1e-12)
        assert a.low == pytest.approx(b.low, rel=1e-12)

    @pytest.mark.parametrize("constraint", CONSTRAINTS)
    def test_a_weight_of_2_is_less_than_the_row_twice(self, constraint):
        s, y, decision, _ = make_rows(400)
        w = np.random.default_rng(1).integers(1, 4, size=400).astype(float)
        twice = (np.repeat(each, w.astype(int)) for each in (s, y, decision))
        weighted, repeated = tables(s, y, decision, w), tables(*twice, np.ones(int(w.sum())))
        assert np.array_equal(weighted[0], repeated[0])
        rule = parity(constraint, 2)
        assert (effective_rows(rule, *weighted) < 0.95 * effective_rows(rule, *repeated)).all()
        a, b = distance_limits(rule, *weighted), distance_limits(rule, *repeated)
        assert a.distance == b.distance
        assert a.high > b.high
        assert a.low <= b.low

    def test_weights_that_go_with_a_rare_decision_count_less_than_kish_says(self):
        table = np.array([[[90.0, 10.0 * 5.0], [0.0, 0.0]]])  # ten rows of weight 5
        squares = np.array([[[90.0, 10.0 * 25.0], [0.0, 0.0]]])
        rows = effective_rows(parity(DP, 2), table, squares).item()
        rate, expected = slow_rows([0] * 90 + [1] * 10, [1.0] * 90 + [5.0] * 10)
        assert rate == pytest.approx(50 / 140)
        assert rows == pytest.approx(expected)
        assert rows < 0.7 * 140**2 / 340

    def test_where_all_decisions_are_the_same_they_are_kish_s(self):
        """Sums in another order leave a little of the other decision, which is no weight."""
        rng = np.random.default_rng(0)
        w = rng.exponential(size=(400, 3, 3)) ** 3
        everyone = np.zeros((400, 3, 3, 3))
        everyone[:, 0, :, 1] = w.sum(axis=1)
        squares = np.zeros((400, 3, 3, 3))
        squares[:, 0, :, 1] = (w**2).sum(axis=1)
        rows = effective_rows(parity(DP, 3), everyone, squares)
        kish = w.sum(axis=(1, 2)) ** 2 / (w**2).sum(axis=(1, 2))
        np.testing.assert_allclose(rows[..., 0], np.repeat(kish[:, None], 3, axis=1), rtol=1e-12)
        assert (rows[..., 1:] == 0.0).all()

    @pytest.mark.parametrize(("constraint", "k"), [(DP, 20), (ERROR, 4)])
    def test_nor_is_it_among_many_classes(self, constraint, k):
        """Without the floor of what is a weight some are less than half."""
        kept = np.zeros((k, k))
        kept[:, 1] = 1.0  # all are decided 1 ...
        if constraint == ERROR:
            kept = 1.0 - np.eye(k)  # ... or all are wrong
        w = np.random.default_rng(0).exponential(size=(400, 1, k, k)) ** 3 * kept
        rows = effective_rows(parity(constraint, k), w, w**2)
        kish = w.sum(axis=(2, 3)) ** 2 / (w**2).sum(axis=(2, 3))
        np.testing.assert_allclose(rows, np.broadcast_to(kish[:, None], rows.shape), rtol=1e-12)

    def test_a_pooled_rate_is_of_each_row_once(self):
        s, y, decision, w = make_rows(200)
        # Of either class and the rest in turn: each row twice, by its label and by the other.
        agree = Rate("", "", ((1, 0), (0, 1)), of=(1, 1), pooled=True)
        rule = Parity((agree,), range(1), np.full((1, 2), 2.0))
        ones = tables(s, y, decision, np.ones(200))
        assert np.array_equal(effective_rows(rule, *ones)[0], np.bincount(s))
        right = (y == decision).astype(int)
        for weight in (w, 1.0 + 9.0 * (right == (s == 0))):
            rows = effective_rows(rule, *tables(s, y, decision, weight))[0]
            expected = [slow_rows(right[s == g], weight[s == g])[1] for g in range(3)]
            np.testing.assert_allclose(rows, expected, rtol=1e-12)

    def test_weights_far_apart(self):
        """Of a decision whose weight is 1e-9 of all, the rows are still of those of a loop."""
        x, w = [1] * 30 + [0] * 30, [1e-9] * 30 + [1.0] * 30
        table = np.array([[[sum(w[30:]), sum(w[:30])], [0.0, 0.0]]])
        squares = np.array([[[30.0, 30e-18], [0.0, 0.0]]])
        expected = slow_rows(x, w)[1]
        assert effective_rows(parity(DP, 2), table, squares).item() == pytest.approx(expected, 1e-5)


class TestWilson:
    @pytest.mark.parametrize("z", [0.5, 1.645, 3.0])
    @pytest.mark.parametrize("n", [1.0, 7.5, 400.0, 1e6])
    def test_roots_of_the_equation(self, z, n):
        rates = np.array([0.0, 0.01, 0.5, 0.7, 1.0])
        low, high = wilson_limits(rates, np.array(n), z)
        expected = [slow_wilson(rate, n, z) for rate in rates]
        np.testing.assert_allclose(np.stack([low, high], axis=1), expected, **CLOSE)

    def test_rounding_moves_no_limit_over_its_rate(self):
        rng = np.random.default_rng(0)
        rates = np.r_[0.0, 1.0, np.nextafter(1.0, 2.0), rng.random(1000)]
        for z in (0.0, 1.96):
            low, high = wilson_limits(rates, np.array(12345.0), z)
            assert (low <= rates).all()
            assert (high >= rates).all()


class TestByChance:
    """What equal groups are apart, in errors of the contrast of the extremes."""

    def test_sizes_in_closed_form(self):
        """The range of two normals is one's size, times the root of 2."""
        assert chance_size(2, 1) == pytest.approx(1.0, abs=1e-4)
        assert chance_size(2, 2) == pytest.approx(math.sqrt(1 + 2 / math.pi), abs=1e-4)

    @pytest.mark.parametrize(("n_groups", "kinds"), [(2, 2), (4, 1), (4, 2), (30, 2)])
    def test_drawn(self, n_groups, kinds):
        drawn = np.random.default_rng(0).normal(size=(100_000, kinds, n_groups))
        drawn = np.ptp(drawn, axis=-1).sum(axis=-1) / math.sqrt(2 * kinds)
        square, error = (drawn**2).mean(), (drawn**2).std() / math.sqrt(len(drawn))
        assert chance_size(n_groups, kinds) ** 2 == pytest.approx(square, abs=4 * error)
        for level in (0.5, 0.9, 0.95):
            within = (drawn < chance_quantile(n_groups, kinds, level)).mean()
            assert within == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 1e5))

    @pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
    def test_quantiles_of_one_kind_are_tukey_s(self, level):
        for n_groups in (2, 3, 6, 30):
            expected = studentized_range.ppf(level, n_groups, np.inf) / math.sqrt(2)
            assert chance_quantile(n_groups, 1, level) == pytest.approx(expected, abs=1e-4)
        assert chance_quantile(2, 1, level) == pytest.approx(norm.ppf((1 + level) / 2), abs=1e-4)

    def test_quantiles_of_two_kinds_in_two_groups(self):
        """|u| + |v| over the root of 2 is the larger of two other normals' sizes."""
        expected = norm.ppf((1 + math.sqrt(0.95)) / 2)
        assert chance_quantile(2, 2, 0.95) == pytest.approx(expected, abs=1e-4)


class TestRowsNeeded:
    table = np.array([[[200, 300], [250, 250]], [[260, 240], [240, 260]]], dtype=float)

    @pytest.mark.parametrize(("bound", "z"), [(0.08, norm.ppf(0.8)), (0.6, norm.ppf(0.9))])
    def test_the_formula(self, bound, z):
        """Of 1,000 rows each 550 and 500 are selected; far above that chance alone matters."""
        p, q = (550 + 1) / 1002, (500 + 1) / 1002
        error = 1.1 * math.sqrt(p * (1 - p) / 1002 + q * (1 - q) / 1002)
        remaining = math.sqrt(0.05**2 - error**2) if bound < 0.1 else 0.0
        expected = 2000 * ((norm.ppf(0.95) + z) * error / (bound - remaining)) ** 2
        rule = parity(DP, 2)
        found = rows_needed(rule, self.table, self.table, bound, n_rows=2000, inflation=1.1)
        assert found == pytest.approx(expected, abs=1.1)
        assert found == np.ceil(found)

    def test_out_of_reach(self):
        rule = parity(DP, 2)
        assert rows_needed(rule, self.table, self.table, 0.02, n_rows=2000) == np.inf
        assert np.isnan(rows_needed(rule, self.table[:1], self.table[:1], 0.1, n_rows=1000))

    def test_all_or_nothing(self):
        """Where no row is selected, still some are needed."""
        table = np.array([[[50.0, 0.0], [0.0, 0.0]]] * 2)
        assert 10 < rows_needed(parity(DP, 2), table, table, 0.05, n_rows=100) < 1000

    @pytest.mark.parametrize("n_groups", [2, 4])
    @pytest.mark.parametrize(("constraint", "bound"), [(DP, 0.1), (EO, 0.25)])
    def test_so_many_are_enough_in_four_samples_of_five(self, constraint, bound, n_groups):
        """Equal groups: the plan that half of the samples of 500 rows stay below."""
        rule = parity(constraint, 2)
        few = draw(EQUAL * n_groups, (1.0, 1.0), 500, constraint)[1:]
        n = int(np.median(rows_needed(rule, *few, bound, n_rows=500)))
        many = draw(EQUAL * n_groups, (1.0, 1.0), n, constraint)[1:]
        met = (distance_limits(rule, *many).high <= bound).mean()
        assert met == pytest.approx(0.8, abs=0.05)

    def test_of_distant_groups_too(self):
        rule = parity(DP, 2)
        plans = rows_needed(rule, *draw(APART[2], (1.0, 1.0), 2000, DP)[1:], 0.2, n_rows=2000)
        n = int(np.median(plans))
        many = draw(APART[2], (1.0, 1.0), n, DP)[1:]
        assert (distance_limits(rule, *many).high <= 0.2).mean() == pytest.approx(0.8, abs=0.1)


def draw(rates, weight, n, constraint, n_draws=2000):
    """Return the true distance and tables of samples of n rows, of weights and of their squares.

    ``rates`` (G, 2) are the shares that decisions select, by group and label, ``weight`` (2,) what
    a row of a label weighs.
    """
    rates, w = np.asarray(rates), np.asarray(weight)[:, None]
    p = np.stack([1 - rates, rates], axis=-1) * np.array([0.55, 0.45])[:, None] / len(rates)
    rng = np.random.default_rng(n)
    counts = rng.multinomial(n, p.ravel(), n_draws).reshape(-1, *p.shape).astype(float)
    return distance_limits(parity(constraint, 2), p * w, p * w).distance, counts * w, counts * w**2


def share_within(truth, found):
    return ((found.low <= truth + 1e-12) & (truth <= found.high)).mean()


EQUAL = [[0.3, 0.55]]
APART = {2: [[0.3, 0.6], [0.2, 0.45]], 4: [[0.35, 0.65], [0.2, 0.45], [0.28, 0.5], [0.28, 0.55]]}
NOISE = 3 * math.sqrt(0.05 * 0.95 / 2000)  # of a share of 2,000 draws, at most


@pytest.mark.parametrize("constraint", [DP, EO])
@pytest.mark.parametrize("n_groups", [2, 4])
@pytest.mark.parametrize("n", [400, 2000])
@pytest.mark.parametrize("weight", [(1.0, 1.0), (1.0, 5.0)])
class TestCoverage:
    def test_apart(self, constraint, n_groups, n, weight):
        rule = parity(constraint, 2)
        truth, *both = draw(APART[n_groups], weight, n, constraint)
        assert truth > 0.1
        # At a bound that is the true distance, "within it" is said wrongly in 5 %.
        assert (distance_limits(rule, *both).high < truth).mean() <= 0.05 + NOISE
        assert share_within(truth, distance_limits(rule, *both, confidence=0.975)) >= 0.93

    def test_equal(self, constraint, n_groups, n, weight):
        """Above 0 is said wrongly in 5 %, not more and not much less."""
        rule = parity(constraint, 2)
        truth, *both = draw(EQUAL * n_groups, weight, n, constraint)
        assert truth < 1e-12
        within = share_within(truth, distance_limits(rule, *both, confidence=0.975))
        assert 0.95 - NOISE <= within <= 0.975


class TestControls:
    """What the parts of the limits are for."""

    def test_the_observed_distance_is_no_limit(self):
        truth, *both = draw(APART[2], (1.0, 1.0), 2000, DP)
        assert (distance_limits(parity(DP, 2), *both).distance < truth).mean() > 0.4

    def test_weights_are_no_rows(self):
        truth, table, _ = draw(APART[2], (1.0, 5.0), 2000, DP)
        found = distance_limits(parity(DP, 2), table, table, confidence=0.975)
        assert share_within(truth, found) < 0.9

    def test_the_lower_limit_allows_for_the_choice_of_the_extremes(self, monkeypatch):
        truth, *both = draw(EQUAL * 4, (1.0, 1.0), 2000, EO)
        monkeypatch.setattr(limits, "chance_quantile", lambda *_: norm.ppf(0.975))
        found = distance_limits(parity(EO, 2), *both, confidence=0.975)
        assert share_within(truth, found) < 0.6
