"""Limits of the smallest ratio: against all pairs by root finding, and with known truth."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from skfairft.parity import contrasts, ratio_limits
from skfairft.parity.chance import chance_quantile
from skfairft.parity.limits import limits_between
from skfairft.parity.rate_limits import wilson_limits


def limits(rates, rows, confidence=0.975):
    """Return (2, ...) of rates (..., G)."""
    rates, rows = np.array(rates), np.array(rows)
    return np.stack(ratio_limits.ratio_limits(rates, rows, confidence=confidence))


def slow_wilson(rate, n, z):
    low, high = wilson_limits(np.array(rate), np.array(n), z)
    return low.item(), high.item()


def slow_limits(rates, rows, confidence):
    """Return low and high from the equations, pair by pair."""
    known = [(a, n) for a, n in zip(rates, rows, strict=True) if not math.isnan(a)]
    if len(known) < 2 or max(a for a, _ in known) == 0:
        return math.nan, math.nan
    z, lows = norm.ppf(confidence), []
    z_high = chance_quantile(len(known), 1, 2 * confidence - 1)
    for (a, n), (b, m) in permutations(known, 2):
        down, up = a - slow_wilson(a, n, z)[0], slow_wilson(b, m, z)[1] - b

        def away(r, a=a, b=b, down=down, up=up):
            return a - r * b - math.hypot(down, r * up)

        lows.append(brentq(away, 0.0, 1e9, xtol=1e-15, rtol=1e-14) if a > 0 else 0.0)
    smallest, largest = min(a for a, _ in known), max(a for a, _ in known)
    highs = []
    for a, n in known:
        for b, m in known:
            if a == smallest and b == largest:
                up, down = slow_wilson(a, n, z_high)[1] - a, b - slow_wilson(b, m, z_high)[0]
                away = [r * b - a - math.hypot(up, r * down) for r in (0.0, 1.0)]
                if away[1] <= 0:
                    highs.append(1.0)
                    continue
                highs.append(
                    brentq(
                        lambda r, a=a, b=b, up=up, down=down: r * b - a - math.hypot(up, r * down),
                        0.0,
                        1.0,
                        xtol=1e-15,
                    )
                )
    return min(lows), max(highs)


def made(n_tables, n_groups, seed=0):
    """Rates and rows of groups of many sizes, some alike, some 0 or 1 or undefined."""
    rng = np.random.default_rng(seed)
    rows = rng.choice([3, 10, 40, 40, 200, 1500], size=(n_tables, n_groups)).astype(float)
    rates = np.round(rng.random((n_tables, n_groups)) * rows) / rows
    rates[rng.random(rates.shape) < 0.1] = 0.0
    rates[rng.random(rates.shape) < 0.1] = 1.0
    gone = rng.random(rates.shape) < 0.1
    return np.where(gone, np.nan, rates), np.where(gone, 0.0, rows)


class TestLimits:
    @pytest.mark.parametrize("n_groups", [1, 2, 3, 6])
    @pytest.mark.parametrize("confidence", [0.7, 0.975, 0.9995])
    def test_all_pairs_by_root_finding(self, n_groups, confidence):
        rates, rows = made(60, n_groups)
        expected = [slow_limits(*each, confidence) for each in zip(rates, rows, strict=True)]
        # Rates and their limits are known to 1e-16; a root halves the digits where it is near 0.
        np.testing.assert_allclose(limits(rates, rows, confidence).T, expected, atol=1e-8)

    def test_many_groups_of_other_sizes(self):
        rng = np.random.default_rng(1)
        rows = rng.integers(5, 3000, size=40).astype(float)
        rates = rng.binomial(rows.astype(int), 0.3) / rows
        found = limits(rates, rows)
        np.testing.assert_allclose(found, slow_limits(rates, rows, 0.975), atol=1e-8)

    def test_they_hold_the_observed_ratio(self):
        rates, rows = made(2000, 4)
        low, high = limits(rates, rows)
        least, most = np.nanmin(rates, axis=1), np.nanmax(rates, axis=1)
        known = ((~np.isnan(rates)).sum(axis=1) > 1) & (most > 0)
        assert 0 < (~known).sum() < 200
        assert np.array_equal(np.isnan(low), ~known)
        assert np.array_equal(np.isnan(high), ~known)
        ratio = (least[known] / most[known], low[known], high[known])
        assert (ratio[1] <= ratio[0]).all()
        assert (ratio[0] <= ratio[2]).all()
        assert (ratio[1] >= 0).all()
        assert (ratio[2] <= 1).all()
        assert ((ratio[1] > 0) == (least[known] > 0)).all()

    def test_below_1_if_and_only_if_the_difference_is_above_0(self):
        rates, rows = made(2000, 3)
        _, high = limits(rates, rows)
        apart = limits_between(*(each[:, None, None] for each in (rates, rows)), confidence=0.975)
        known = ~np.isnan(high)
        assert np.array_equal(high[known] < 1, apart.low[known] > 0)
        assert 0.1 < (high[known] < 1).mean() < 0.9

    def test_more_confidence_is_wider(self):
        rates, rows = made(500, 4)
        (low, high), (lower, higher) = (limits(rates, rows, each) for each in (0.9, 0.99))
        known = ~np.isnan(low)
        assert (lower <= low)[known].all()
        assert (higher >= high)[known].all()
        assert (lower < low)[known].mean() > 0.3

    def test_the_order_of_groups_and_tables_does_not_matter(self):
        rates, rows = made(200, 4)
        turned = limits(rates[::-1, [2, 0, 3, 1]], rows[::-1, [2, 0, 3, 1]])
        np.testing.assert_allclose(turned[:, ::-1], limits(rates, rows), rtol=1e-12)

    def test_ten_thousand_times_the_rows_close_them_by_a_hundred(self):
        rates = np.array([0.3, 0.5])
        few, many = (limits(rates, np.full(2, n)) for n in (1e3, 1e7))
        assert (many[1] - many[0]) / (few[1] - few[0]) == pytest.approx(0.01, rel=0.05)

    def test_blocks_change_nothing(self, monkeypatch):
        rates, rows = made(50, 6)
        whole = limits(rates, rows)
        monkeypatch.setattr(contrasts, "BLOCK_ELEMENTS", 20)
        np.testing.assert_array_equal(limits(rates, rows), whole)

    def test_shapes(self):
        rates, rows = made(6, 3)
        assert limits(rates[0], rows[0]).shape == (2,)
        cube = limits(rates.reshape(3, 2, 3), rows.reshape(3, 2, 3))
        np.testing.assert_array_equal(cube.reshape(2, 6), limits(rates, rows))


def draw(rates, n, shares=None, n_draws=2000):
    """Return the true ratio, and rates and rows (n_draws, G) of samples of n rows."""
    rates = np.asarray(rates)
    rng = np.random.default_rng(n)
    shares = np.full(len(rates), 1 / len(rates)) if shares is None else shares
    rows = rng.multinomial(n, shares, n_draws)
    return rates.min() / rates.max(), rng.binomial(rows, rates) / rows, rows


NOISE = 3 * math.sqrt(0.05 * 0.95 / 2000)  # of a share of 2,000 draws
EQUAL = [[0.5] * 2, [0.1] * 2, [0.5] * 4, [0.1] * 4]
APART = [[0.5, 0.4], [0.2, 0.05], [0.9, 0.6], [0.5, 0.4, 0.45, 0.3], [0.2, 0.1, 0.1, 0.05]]


@pytest.mark.parametrize("n", [400, 2000])
class TestCoverage:
    @pytest.mark.parametrize("rates", EQUAL)
    def test_equal(self, rates, n):
        """Below 1 is said wrongly in 5 %, not more."""
        truth, *drawn = draw(rates, n)
        low, high = limits(*drawn)
        within = ((low <= truth) & (truth <= high)).mean()
        assert 0.95 - NOISE <= within <= 0.98

    @pytest.mark.parametrize("rates", APART)
    def test_apart(self, rates, n):
        truth, *drawn = draw(rates, n)
        low, high = limits(*drawn)
        assert ((low <= truth) & (truth <= high)).mean() >= 0.93
        # At a bound that is the true ratio, "at least that" is said wrongly in 2.5 %.
        assert (low > truth).mean() <= 0.025 + NOISE
        assert (high < truth).mean() <= 0.025 + NOISE

    def test_groups_of_other_sizes(self, n):
        for rates in ([0.3] * 3, [0.3, 0.2, 0.25]):
            truth, *drawn = draw(rates, n, shares=[0.7, 0.2, 0.1])
            low, high = limits(*drawn)
            assert ((low <= truth + 1e-12) & (truth <= high)).mean() >= 0.93


def test_control_the_choice_of_the_extremes_matters(monkeypatch):
    truth, *drawn = draw([0.5] * 4, 2000)
    monkeypatch.setattr(ratio_limits, "chance_quantile", lambda *_: norm.ppf(0.975))
    assert (truth <= limits(*drawn)[1]).mean() < 0.85


def test_control_the_lower_limit_of_the_observed_extremes_alone_is_none():
    """Of two groups that are nearly alike the other one may be the smaller, and unknown."""
    rates, rows = np.array([0.30, 0.31, 0.6]), np.array([5000.0, 20.0, 5000.0])
    alone = limits(rates[[0, 2]], rows[[0, 2]])[0]
    assert limits(rates, rows)[0] < 0.6 * alone
