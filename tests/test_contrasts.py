"""Which pairs of groups are looked at: against all of them."""

from itertools import permutations

import numpy as np
import pytest

from skfairft.parity.contrasts import ordered_pairs


def made(n_tables, n_groups, seed, ties):
    rng = np.random.default_rng(seed)
    rates = rng.random((n_tables, 1, n_groups))
    above, below = rng.random((2, n_tables, 1, n_groups)) * rng.choice([0.01, 1.0])
    if ties:
        rates, above, below = (np.round(each * 3) / 3 for each in (rates, above, below))
    rates[rng.random(rates.shape) < 0.15] = np.nan
    return rates, above, below


def difference(a, above, b, below):
    return a - b + np.sqrt(above + below)


def minus_ratio(a, above, b, below):
    """Larger with a and above and below, smaller with b."""
    return (a + above) / (b + 0.1 - below / 20)


def steep(a, above, b, below):
    """What is above and below alone, and only then the rates."""
    return 1e6 * (above + below) + a - b


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n_groups", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("function", [difference, minus_ratio, steep])
def test_the_most_extreme_of_all_pairs_is_among_them(function, n_groups, ties):
    for seed in range(10):
        values = made(40, n_groups, seed, ties)
        (pairs,) = ordered_pairs(*values)
        found = np.where(pairs.none, -np.inf, function(*pairs[:4]))
        expected = []
        for rate, over, under in zip(*(each[:, 0] for each in values), strict=True):
            known = np.flatnonzero(~np.isnan(rate))
            each = [
                function(rate[i], over[i], rate[j], under[j]) for i, j in permutations(known, 2)
            ]
            expected.append(max(each, default=-np.inf))
        assert np.array_equal(found.max(axis=(1, 2, 3)), expected)


def test_one_that_is_beaten_by_one_other_is_needed():
    """Group 1 beats group 0 on both sides, and has no pair with itself."""
    rates = np.array([[[0.5, 0.5]]])
    wide = np.array([[[0.1, 0.9]]])
    (pairs,) = ordered_pairs(rates, wide, wide)
    assert sorted((pairs.above + pairs.below)[~pairs.none].tolist()) == pytest.approx([1.0, 1.0])


def test_few_of_many_groups_are_looked_at():
    rng = np.random.default_rng(0)
    rows = rng.integers(5, 500, 3000)
    rates = (rng.binomial(rows, 0.3) / rows)[None, None]
    wide = (1.0 / rows)[None, None]
    (pairs,) = ordered_pairs(rates, wide, wide)
    assert pairs.none.size < 3000
