"""One budget divided over the layers of a network: the rank of each."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Offer", "divide", "least_cost", "same_share"]


@dataclass(frozen=True)
class Offer:
    """What ranks of a layer cost and bring.

    Parameters
    ----------
    gains : Tensor of shape (m,), float64
        What each rank more spares, largest first.
    unit, base : float
        A rank r costs ``base + r unit``.
    whole : float
        What the layer costs uncut, which spares all that there is.
    """

    gains: Tensor
    unit: float
    base: float
    whole: float

    @property
    def most(self) -> int:
        """The highest rank that costs less than the whole; may be 0."""
        ranks = -((self.base - self.whole) // self.unit) - 1
        return max(0, min(len(self.gains), int(ranks)))


def same_share(offers: Mapping[str, Offer], budget: float) -> dict[str, int | None]:
    """Return ranks such that each layer has the same share of what it costs whole.

    Layers that have more at rank 1, or are no cheaper cut, take that, and leave the others less.

    Raises
    ------
    ValueError
        If rank 1 of each costs more than the budget.

    Examples
    --------
    >>> import torch
    >>> offer = Offer(torch.ones(10), 20.0, 0.0, 100.0)
    >>> same_share({"a": offer, "b": offer}, 100.0)
    {'a': 2, 'b': 2}
    """
    if budget >= sum(offer.whole for offer in offers.values()):
        return dict.fromkeys(offers)
    ranks = _cheapest(offers, budget)
    apart = [name for name, rank in ranks.items() if rank is None]
    while True:
        free = [name for name in offers if name not in apart]
        left = budget - sum(_cost(offers[name], ranks[name]) for name in apart)
        share = left / (sum(offers[name].whole for name in free) or 1.0)
        more = [name for name in free if _cost(offers[name], 1) > share * offers[name].whole]
        if not more:
            break
        apart += more
    for name in free:
        offer = offers[name]
        rank = int((share * offer.whole - offer.base) // offer.unit)
        ranks[name] = max(1, min(rank, offer.most))
    return ranks


def divide(offers: Mapping[str, Offer], budget: float) -> dict[str, int | None]:
    """Return the rank of each layer, None of those that stay whole, for a budget.

    Rank by rank to the layer that it spares most for what it costs; a layer is left whole where
    that spares more for what it costs than its next rank.

    Raises
    ------
    ValueError
        If rank 1 of each costs more than the budget.

    Examples
    --------
    >>> import torch
    >>> steep, flat = torch.tensor([8.0, 1.0, 0.1]).double(), torch.tensor([4.0, 3.0, 2.0]).double()
    >>> divide({"a": Offer(steep, 2.0, 0.0, 9.0), "b": Offer(flat, 2.0, 0.0, 9.0)}, 8.0)
    {'a': 1, 'b': 3}
    """
    ranks = _cheapest(offers, budget)
    sums = {name: offer.gains.clamp_min(0.0).cumsum(0).tolist() for name, offer in offers.items()}
    left = budget - sum(_cost(offers[name], rank) for name, rank in ranks.items())
    heap: list[tuple[float, int, str, int | None]] = []
    order = {name: place for place, name in enumerate(offers)}

    def propose(name: str, *, whole: bool) -> None:
        offer, rank, spared = offers[name], ranks[name], sums[name]
        if rank is None:
            return
        steps: list[tuple[float, int | None]] = []
        if rank < offer.most:
            steps.append(((spared[rank] - spared[rank - 1]) / offer.unit, rank + 1))
        if whole:
            more = offer.whole - _cost(offer, rank)
            gain = (spared[-1] - spared[rank - 1]) / more if more > 0.0 else float("inf")
            steps.append((gain, None))
        if steps:
            worth, step = max(steps, key=lambda each: (each[0], each[1] is None))
            heapq.heappush(heap, (-worth, order[name], name, step))

    for name in offers:
        propose(name, whole=True)
    while heap:
        _, _, name, step = heapq.heappop(heap)
        cost = _cost(offers[name], step) - _cost(offers[name], ranks[name])
        if cost <= left:
            left -= cost
            ranks[name] = step
            propose(name, whole=True)
        elif step is None:  # one more rank may still fit
            propose(name, whole=False)
    return ranks


def _cost(offer: Offer, rank: int | None) -> float:
    return offer.whole if rank is None else offer.base + rank * offer.unit


def least_cost(offers: Mapping[str, Offer]) -> float:
    """Return what rank 1 of each layer costs, or the whole where that is no more.

    Examples
    --------
    >>> import torch
    >>> least_cost({"a": Offer(torch.ones(3), 5.0, 1.0, 9.0), "b": Offer(torch.ones(3), 5.0, 0, 4)})
    10.0
    """
    return sum(_cost(offer, 1 if offer.most else None) for offer in offers.values())


def _cheapest(offers: Mapping[str, Offer], budget: float) -> dict[str, int | None]:
    """Return rank 1 of each layer, None of those that cost no more whole."""
    least = least_cost(offers)
    if least > budget:
        whole = sum(offer.whole for offer in offers.values())
        raise ValueError(
            f"The budget is {budget / whole:.3g} of what the layers cost whole; rank 1 of each "
            f"takes {least / whole:.3g}. Pass more, or name fewer layers."
        )
    return {name: 1 if offer.most else None for name, offer in offers.items()}
