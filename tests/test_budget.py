"""One budget over several layers: against all ranks that there are, one by one."""

import itertools

import numpy as np
import pytest
import torch

from skfairft.lowrank.budget import Offer, divide, least_cost, same_share

SEEDS = pytest.mark.parametrize("seed", range(50))


def offers_of(seed, n_layers=3):
    """Layers of all kinds; some cost more at rank 1 than whole."""
    rng = np.random.default_rng(seed)
    return {
        f"layer {i}": Offer(
            torch.from_numpy(np.sort(rng.exponential(size=rng.integers(1, 6)))[::-1].copy()),
            float(rng.integers(1, 8)),
            float(rng.integers(0, 4)),
            float(rng.integers(1, 40)),
        )
        for i in range(n_layers)
    }


def whole_of(offers):
    return sum(offer.whole for offer in offers.values())


def ways(offer):
    """All that a layer may be: rank, cost, what it spares; None is the whole."""
    ranks = [r for r in range(1, len(offer.gains) + 1) if offer.base + r * offer.unit < offer.whole]
    return [(None, offer.whole, float(offer.gains.sum()))] + [
        (r, offer.base + r * offer.unit, float(offer.gains[:r].sum())) for r in ranks
    ]


def totals(offers, ranks):
    """Cost and gain of chosen ranks, each of which is one of the ways."""
    chosen = [next(w for w in ways(offers[name]) if w[0] == r) for name, r in ranks.items()]
    return sum(cost for _, cost, _ in chosen), sum(gain for *_, gain in chosen)


def best(offers, budget):
    every = itertools.product(*map(ways, offers.values()))
    fitting = [way for way in every if sum(cost for _, cost, _ in way) <= budget]
    return max(sum(gain for *_, gain in way) for way in fitting)


def longest_step(offers):
    """The most that one step of any layer spares: from rank 1 to the whole."""
    return max(float(offer.gains[1:].sum()) for offer in offers.values())


def budgets(offers, n=12):
    low, high = least_cost(offers), whole_of(offers)
    return [low + (high - low) * share for share in np.linspace(0.0, 1.0, n)]


@SEEDS
class TestAnyBudget:
    @pytest.mark.parametrize("way", [divide, same_share])
    def test_is_kept_and_each_layer_has_a_rank_of_its_own(self, way, seed):
        offers = offers_of(seed)
        for budget in budgets(offers):
            ranks = way(offers, budget)
            assert list(ranks) == list(offers)
            assert totals(offers, ranks)[0] <= budget + 1e-9

    @pytest.mark.parametrize("way", [divide, same_share])
    def test_at_its_least_is_rank_1_and_at_its_most_the_whole(self, way, seed):
        offers = offers_of(seed)
        least, most = (way(offers, each(offers)) for each in (least_cost, whole_of))
        cheapest = [min(ways(offer), key=lambda w: w[1])[1] for offer in offers.values()]
        assert totals(offers, least)[0] == least_cost(offers) == sum(cheapest)
        assert set(most.values()) == {None}
        with pytest.raises(ValueError, match=r"rank 1 of each takes .* Pass more, or name fewer"):
            way(offers, 0.99 * least_cost(offers))

    def test_misses_the_best_of_all_ranks_by_less_than_a_step(self, seed):
        """Greedy along hulls: what is left over was too little for one step of one layer."""
        offers = offers_of(seed)
        for budget in budgets(offers):
            found = totals(offers, divide(offers, budget))[1]
            assert best(offers, budget) - longest_step(offers) <= found <= best(offers, budget)

    def test_leaves_less_over_than_the_next_rank_of_each_layer(self, seed):
        offers = offers_of(seed)
        for budget in budgets(offers):
            ranks = divide(offers, budget)
            left = budget - totals(offers, ranks)[0]
            for name, rank in ranks.items():
                higher = [c for r, c, _ in ways(offers[name]) if rank is not None and r == rank + 1]
                now = [c for r, c, _ in ways(offers[name]) if r == rank]
                assert not higher or higher[0] - now[0] > left - 1e-9

    def test_does_not_depend_on_units_of_cost_or_gain(self, seed):
        offers = offers_of(seed)
        other = {
            name: Offer(1024 * each.gains, each.unit * 8, each.base * 8, each.whole * 8)
            for name, each in offers.items()
        }
        for budget in budgets(offers):
            for way in (divide, same_share):
                assert way(other, 8 * budget) == way(offers, budget)

    def test_in_same_shares_none_has_more_than_its_own_but_at_rank_1(self, seed):
        offers = offers_of(seed)
        for budget in budgets(offers)[:-1]:
            for name, rank in same_share(offers, budget).items():
                cost = totals(offers, {name: rank})[0]
                share = budget / whole_of(offers)
                cheapest = min(c for _, c, _ in ways(offers[name]))
                assert cost <= max(share * offers[name].whole + 1e-9, cheapest)


@pytest.mark.parametrize("seed", range(20))
def test_with_steps_of_one_size_the_division_is_the_best(seed):
    """Ranks of all layers cost the same, and none is worth leaving whole."""
    rng = np.random.default_rng(seed)
    offers = {
        str(i): Offer(
            torch.from_numpy(np.sort(rng.exponential(size=5))[::-1].copy()), 1.0, 0.0, 1e3
        )
        for i in range(3)
    }
    for budget in range(3, 15):
        assert totals(offers, divide(offers, float(budget)))[1] == pytest.approx(
            best(offers, float(budget))
        )


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_ties_are_shared_in_the_order_of_the_layers(gain):
    offer = Offer(torch.full((4,), gain).double(), 2.0, 0.0, 20.0)
    offers = dict.fromkeys("abc", offer)
    assert divide(offers, 12.0) == divide(dict.fromkeys("abc", offer), 13.9)
    assert sum(divide(offers, 12.0).values()) == 6  # the budget is spent, whatever it spares


def test_a_layer_is_left_whole_where_that_spares_most_for_its_cost():
    """Its last ranks spare much, and the whole costs little more than they."""
    steep = Offer(torch.tensor([9.0, 0.1, 0.1, 0.1]).double(), 2.0, 0.0, 20.0)
    flat = Offer(torch.ones(4).double(), 2.0, 0.0, 5.0)
    assert divide({"steep": steep, "flat": flat}, 7.0) == {"steep": 1, "flat": None}
    # Control: not where it does not fit; then what fits is one rank more.
    assert divide({"steep": steep, "flat": flat}, 6.9) == {"steep": 1, "flat": 2}


def test_gains_that_rounding_made_negative_are_none():
    offer = Offer(torch.tensor([1.0, 0.0, -1e-9]).double(), 1.0, 0.0, 9.0)
    assert divide({"a": offer, "b": offer}, 6.0) == {"a": 3, "b": 3}


@pytest.mark.parametrize("positions", [29.585719933296527, 45.20613157153955, 3.0])
def test_a_rank_that_rounding_makes_as_costly_as_the_whole_becomes_the_whole(positions):
    """Of a layer of 12 to 12 whose rows have so many positions in the mean."""
    offer = Offer(torch.ones(12).double(), 24 * positions, 0.0, 144 * positions)
    ranks = divide({"a": offer, "b": offer}, 264 * positions)
    assert totals({"a": offer, "b": offer}, ranks)[0] <= 264 * positions
    assert divide({"a": offer}, 144 * positions * (1 + 1e-9)) == {"a": None}
