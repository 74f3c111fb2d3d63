"""The limit of rates that were made alike: against integrals, and on decisions made alike."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm, studentized_range

from skfairft.parity.constraints import parity
from skfairft.parity.limits import distance_limits, rows_needed
from skfairft.parity.tied import tied_limit

LEVELS = [0.8, 0.95]
PARITY = parity("demographic_parity", 2)


def limit_of(rates, error, level):
    """Of one kind of rate, whose errors are the same upwards and downwards."""
    rates, error = np.array(rates)[None, None, None], np.array(error)
    return float(tied_limit(PARITY, rates, rates - error, rates + error, 1.0, level)[0])


def tables(rates, n):
    """Return tables (1, G, 2, 2) of n rows of each group, and of each label half."""
    n = np.broadcast_to(n, len(rates))
    found = np.zeros((1, len(rates), 2, 2))
    for group, (rate, size) in enumerate(zip(rates, n, strict=True)):
        found[0, group] = size / 2 * np.array([1.0 - rate, rate])
    return found


@pytest.mark.parametrize("level", LEVELS)
class TestLimit:
    def test_of_rates_far_apart_is_that_of_one_contrast(self, level):
        z = float(norm.ppf(level))
        for errors in ([0.01, 0.02], [0.03, 0.001]):
            expected = 0.4 + z * np.hypot(*errors)
            assert limit_of([0.2, 0.6], errors, level) == pytest.approx(expected, abs=3e-3)

    @pytest.mark.parametrize("n_groups", [2, 4, 6])
    def test_of_equal_rates_is_that_of_the_range(self, level, n_groups):
        expected = 0.02 * float(studentized_range.ppf(level, n_groups, np.inf))
        found = limit_of([0.5] * n_groups, 0.02, level)
        assert found == pytest.approx(expected, rel=0.03)

    def test_of_two_above_and_two_below(self, level):
        """The larger of two normals minus the smaller of two others, by an integral."""

        def within(limit, error=0.03, apart=0.1):
            def part(x):  # the smaller of two below is x
                density = 2.0 * norm.sf(x) * norm.pdf(x)
                return density * norm.cdf((limit - apart) / error + x) ** 2

            return quad(part, -8.0, 8.0)[0] - level

        expected = brentq(within, 0.0, 1.0)
        found = limit_of([0.4, 0.4, 0.5, 0.5], 0.03, level)
        # One of the upper two may also be below a lower one; hardly any draw has that.
        assert found == pytest.approx(expected, abs=3e-3)
        assert found > limit_of([0.4, 0.5], 0.03, level) + 0.01

    @pytest.mark.parametrize("n_classes", [3, 6, 300])
    def test_of_several_classes_is_that_of_the_largest_of_their_ranges(self, level, n_classes):
        """Equal rates of two groups in each class: the largest of so many absolute differences."""
        rates = np.full((1, n_classes, 1, 2), 0.5)
        found = tied_limit(PARITY, rates, rates - 0.02, rates + 0.02, 1.0, level)[0]
        each = level ** (1.0 / n_classes)
        assert found == pytest.approx(0.02 * np.sqrt(2.0) * norm.ppf((1.0 + each) / 2), rel=0.03)

    def test_the_order_of_classes_does_not_matter(self, level):
        rates = np.random.default_rng(0).uniform(0.3, 0.5, size=(1, 4, 2, 3))
        limits = [
            tied_limit(PARITY, each, each - 0.03, each + 0.02, 1.0, level)[0]
            for each in (rates, rates[:, [2, 0, 3, 1]])
        ]
        assert np.ptp(limits) < 1e-12

    def test_errors_of_two_sides(self, level):
        rates, large, small = np.array([0.3, 0.7])[None, None, None], 0.04, 0.01
        outwards, inwards = np.array([large, small]), np.array([small, large])
        # Of the lower rate the lower side counts, and of the upper one the upper side.
        apart = tied_limit(PARITY, rates, rates - outwards, rates + inwards, 1.0, level)[0]
        together = tied_limit(PARITY, rates, rates - inwards, rates + outwards, 1.0, level)[0]
        z = float(norm.ppf(level))
        assert apart > 0.4 + z * large > 0.4 + z * small > together - 0.01


class TestDistanceLimits:
    @pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds"])
    def test_is_at_least_that_of_the_contrasts(self, constraint):
        rule, found = parity(constraint, 2), np.concatenate([tables([0.3, 0.5, 0.5], 200)] * 2)
        plain = distance_limits(rule, found, found)
        tuned = distance_limits(rule, found, found, tuned=np.array([True, False]))
        assert tuned.high[0] > plain.high[0] + 0.005
        assert tuned.high[1] == plain.high[1]
        np.testing.assert_array_equal(tuned.low, plain.low)

    @pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds"])
    def test_the_order_of_groups_does_not_matter(self, constraint):
        rule, sizes = parity(constraint, 2), np.array([100, 300, 300, 50])
        found = tables([0.5, 0.45, 0.5, 0.45], sizes)
        limits = [
            distance_limits(rule, each, each, tuned=True).high.item()
            for each in (found, found[:, [2, 0, 3, 1]], found[:, [3, 2, 1, 0]])
        ]
        assert np.ptp(limits) < 1e-12

    def test_groups_without_rows_are_left_out(self):
        rule, found = parity("demographic_parity", 2), tables([0.5, 0.4, 0.4], [200, 100, 0])
        expected = distance_limits(rule, found[:, :2], found[:, :2], tuned=True).high
        np.testing.assert_allclose(
            distance_limits(rule, found, found, tuned=True).high, expected, atol=3e-3
        )
        alone = tables([0.5, 0.4], [200, 0])
        assert np.isnan(distance_limits(rule, alone, alone, tuned=True).high).all()

    @pytest.mark.parametrize("n_groups", [3, 4, 6])
    def test_holds_where_rates_were_made_alike(self, n_groups):
        """Thresholds by group, set where the observed rates are the two ends of a distance."""
        rng, n, rule = np.random.default_rng(0), 300, parity("demographic_parity", 2)
        ends = np.where(np.arange(n_groups) % 2, 0.55, 0.45)
        table = tables(ends, n)
        plain, tuned = (
            distance_limits(rule, table, table, tuned=each).high.item() for each in (False, True)
        )
        # Of n scores the k-th largest is the threshold: the true rate above it is Beta.
        above = n * ends
        true = rng.beta(above, n + 1 - above, size=(4000, n_groups))
        distance = np.ptp(true, axis=1)
        assert (distance > plain).mean() > 0.07
        assert (distance > tuned).mean() < 0.06


@pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds"])
@pytest.mark.parametrize("n_groups", [2, 4, 8])
def test_so_many_rows_bring_the_limit_within_a_bound(constraint, n_groups):
    rule, bound = parity(constraint, 2), 0.1
    table = tables(0.5 + 0.03 * (np.arange(n_groups) % 2), 100)[0]
    settings = {"inflation": 1.1, "confidence": 0.95, "tuned": True}
    wanted = float(rows_needed(rule, table, table, bound, n_rows=100 * n_groups, **settings))
    if constraint == "demographic_parity":
        many = table * wanted / (100 * n_groups)
        assert distance_limits(rule, many, many, **settings).high <= bound
    without = rows_needed(rule, table, table, bound, n_rows=100 * n_groups, confidence=0.95)
    assert wanted >= float(without)
    assert np.isinf(rows_needed(rule, table, table, 0.02, n_rows=100 * n_groups, **settings))
