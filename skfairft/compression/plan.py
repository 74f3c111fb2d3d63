"""Which layers of a model are cut, to which ranks, and by which weights of the groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches
from ..backbone.frozen import frozen
from ..backbone.module_copy import copy_module
from ..inputs.warn import warn_user
from ..lowrank.budget import Offer, divide, least_cost, same_share
from ..lowrank.cut import SideMetric, cut_layer
from ..lowrank.factorization import resolve_rank
from ..lowrank.network import replace_layer
from .calibration import Calibration
from .distill import divergences_of, means_of
from .turns import cut_in_turn

__all__ = ["Plan"]

# What the last layer takes of a budget, at most, if it is left whole without being asked for.
_SMALL = 0.1

Small = tuple[nn.Module, dict[str, int]]


@dataclass(frozen=True)
class Plan:
    """All that is known before the first layer is cut.

    Parameters
    ----------
    model : nn.Module
        It is left as it was.
    batches : ModuleBatches
        The rows.
    codes : Tensor of shape (n,)
        Their groups; negative of those that the cut must not know.
    found : Calibration
        What the layers see.
    importances : mapping of str to str
        By layer.
    rank : int, float, mapping or None
        As for `compress`.
    budget : (str, float) or None
        "parameters" or "flops", and the share.
    named : bool
        Whether the layers are named, so that none may be left out.
    sequential : bool
        Whether layers are cut in turn, if there are several.
    mixing : Tensor of shape (G, G)
        As for `skfairft.lowrank.cut.cut_layer`.
    """

    model: nn.Module
    batches: ModuleBatches
    codes: Tensor
    found: Calibration
    importances: Mapping[str, str]
    rank: int | float | Mapping[str, int | float] | None
    budget: tuple[str, float] | None
    named: bool
    sequential: bool
    mixing: Tensor

    def cut(self, shares: Tensor | None) -> Small:
        """Return the cut copy of the model, and the rank of each layer that is cut.

        The shares (G,) are weights of the groups; None is the least largest loss, layer by layer.
        """
        ranks = self.ranks(shares)
        small = copy_module(self.model, type(self.model).__name__)
        if shares is not None and self.sequential and len(ranks) > 1:
            small = cut_in_turn(
                self.model,
                small,
                self.batches,
                self.codes,
                self.found,
                ranks,
                importances=self.importances,
                shares=shares,
                mixing=self.mixing,
            )
        else:
            for name, rank in ranks.items():
                made = cut_layer(
                    self.found.statistics[name],
                    rank,
                    importance=self.importances[name],
                    shares=shares,
                    mixing=self.mixing,
                ).layer
                small = replace_layer(small, name, made)
        for name in ranks:  # in the mode of what it replaces, and frozen if that was
            old = self.model.get_submodule(name)
            learns = any(parameter.requires_grad for parameter in old.parameters())
            small.get_submodule(name).train(old.training).requires_grad_(learns)
        return small, ranks

    def least_worst(self, divergence: Callable[[Tensor, Tensor], Tensor]) -> Small:
        """Return the cut in which the group that diverges most does so least.

        Of three cuts: groups weighted by their rows, alike, and by how much the second of these has
        each diverge.
        """
        known = self.codes[self.codes >= 0]
        counts = torch.bincount(known, minlength=len(self.mixing)).double()
        equal = torch.full_like(counts, 1.0 / len(counts))
        # All rows alike need borrow none.
        pooled = replace(self, mixing=torch.eye(len(counts), dtype=torch.float64))
        tried = [pooled.cut(counts / counts.sum()), self.cut(equal)]
        damage = [self._damage(small, divergence) for small, _ in tried]
        told = damage[-1].clamp_min(0.0)  # a loss that is a function may be below
        if float(told.sum()) > 0.0:
            tried.append(self.cut(told / told.sum()))
            damage.append(self._damage(tried[-1][0], divergence))
        worst = [float(each.max()) for each in damage]
        return tried[worst.index(min(worst))]

    @property
    def in_turn(self) -> bool:
        """Whether there are several layers to cut, one after the other."""
        return self.sequential and len(self.found.statistics) > 1

    def ranks(self, shares: Tensor | None) -> dict[str, int]:
        """Return the rank of each layer that is cut.

        Raises
        ------
        ValueError
            If the budget is less than rank 1 of each takes.

        Warns
        -----
        UserWarning
            If a layer that was named is no smaller cut than whole.
        """
        values = {name: self._metric(name, shares).values for name in self.found.statistics}
        if self.budget is not None:
            return self._within(values)
        ranks: dict[str, int] = {}
        for name, own in values.items():
            asked = self.rank[name] if isinstance(self.rank, Mapping) else self.rank
            assert asked is not None
            seen = self.found.statistics[name].seen
            rank = min(resolve_rank(asked, own.clamp_min(0.0).sqrt()), seen.most)
            if seen.thin_size(rank) >= seen.size:
                if not self.named:
                    continue
                warn_user(
                    f"The layer {name!r}, {seen.d} to {seen.k}, has no fewer parameters at rank "
                    f"{rank}; pass a lower rank, or leave it out.",
                    UserWarning,
                )
            ranks[name] = rank
        return ranks

    def _within(self, values: Mapping[str, Tensor]) -> dict[str, int]:
        """Return ranks within the budget."""
        assert self.budget is not None
        what, share = self.budget
        offers: dict[str, Offer] = {}
        for name, own in values.items():
            seen = self.found.statistics[name].seen
            gains = own.clamp_min(0.0)[: seen.most]
            if what == "parameters":
                offers[name] = Offer(gains, seen.unit, seen.k, seen.size)
            else:
                unit, whole = seen.work(*self.found.positions[name])
                offers[name] = Offer(gains, unit, 0.0, whole)
        budget = share * sum(offer.whole for offer in offers.values())
        if all(self.importances[name] == "kfac" for name in offers):
            # What the loss loses, which is one thing in all layers.
            ranks = divide(offers, budget)
        else:
            last = self.found.last
            if not self.named and last in offers and offers[last].whole <= _SMALL * budget:
                # Of what is small and last the least can be spared, where all others get theirs.
                others = {name: offer for name, offer in offers.items() if name != last}
                left = budget - offers[last].whole
                if least_cost(others) <= left:
                    offers, budget = others, left
            ranks = same_share(offers, budget)
        return {name: rank for name, rank in ranks.items() if rank is not None}

    def _metric(self, name: str, shares: Tensor | None) -> SideMetric:
        return SideMetric(self.found.statistics[name], self.importances[name], shares, self.mixing)

    def _damage(self, small: nn.Module, divergence: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return each group's mean divergence from the model, (G,)."""
        known = self.codes >= 0
        with frozen(small, self.batches.device):
            outputs = self.batches.only(known).outputs(small)
            each = divergences_of(outputs, self.found.outputs[known], divergence)
        # Of its own rows: with others' in it a rare group would seem to lose as little as they.
        own = torch.eye(len(self.mixing), dtype=torch.float64)
        return means_of(each, self.codes[known], own)
