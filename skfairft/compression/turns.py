"""Layers cut one after the other, each by what it gets behind those that are cut already."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress

import torch
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches
from ..backbone.forward import Arguments
from ..backbone.frozen import frozen, locked
from ..lowrank.covariance import CovarianceStatistics
from ..lowrank.cut import cut_after, cut_layer
from ..lowrank.maps import LayerMap
from ..lowrank.network import LayerPairs, replace_layer
from .calibration import Calibration
from .watching import Hook, hooked

__all__ = ["cut_in_turn"]


class _EnoughSeen(BaseException):
    """What is behind the layers that are looked at need not run."""


def cut_in_turn(
    model: nn.Module,
    small: nn.Module,
    batches: ModuleBatches,
    codes: Tensor,
    found: Calibration,
    ranks: Mapping[str, int],
    *,
    importances: Mapping[str, str],
    shares: Tensor,
    mixing: Tensor,
) -> nn.Module:
    """Cut the layers of a copy in the order in which they run, and return it.

    Each is cut such that, on what it gets in the copy, it gives what it gave in the model; those
    before which none is cut, as by themselves. The rows are read again for each stage, up to
    where it ends.

    Parameters
    ----------
    model, small : nn.Module
        The model, left as it was, and its copy, which is changed.
    batches : ModuleBatches
        The rows.
    codes : Tensor of shape (n,)
        Their groups; negative of those that are not counted.
    found : Calibration
        What the layers of the model see.
    ranks : mapping of str to int
        Of the layers that are cut.
    importances : mapping of str to str
        "covariance" or "kfac" of each.
    shares, mixing : Tensor of shape (G,) and (G, G)
        As for `skfairft.lowrank.cut.cut_layer`.
    """
    with ExitStack() as stack:
        for each in (model, small):
            stack.enter_context(locked(each))
            stack.enter_context(frozen(each, batches.device))
        begun = False
        for stage in found.stages:
            names = [name for name in stage if name in ranks]
            if not names:
                continue
            batches.begin(f"cutting {names[0]}" + " and others" * (len(names) > 1))
            seen = {name: found.statistics[name].seen for name in names}
            pairs = _pairs(model, small, batches, codes, seen, len(mixing)) if begun else {}
            for name in names:
                settings = {"importance": importances[name], "shares": shares, "mixing": mixing}
                own, rank = found.statistics[name], ranks[name]
                if begun:
                    made = cut_after(own, pairs[name], rank, **settings)  # type: ignore[arg-type]
                else:
                    made = cut_layer(own, rank, **settings).layer  # type: ignore[arg-type]
                small = replace_layer(small, name, made.eval())
            begun = True
    return small


def _pairs(
    model: nn.Module,
    small: nn.Module,
    batches: ModuleBatches,
    codes: Tensor,
    layers: Mapping[str, LayerMap],
    n_groups: int,
) -> dict[str, CovarianceStatistics]:
    """Return what the sides of uncut layers were in the model and are in its copy."""
    pairs = {name: LayerPairs(seen, n_groups) for name, seen in layers.items()}
    for rows, arguments in batches:
        n_rows = rows.stop - rows.start
        given = {k: v.clone() if isinstance(v, Tensor) else v for k, v in arguments.items()}
        before = _sides(model, batches, given, n_rows, layers)
        after = _sides(small, batches, arguments, n_rows, layers)
        for name, own in pairs.items():
            u, v = before.get(name), after.get(name)
            if u is None or v is None or u.shape != v.shape:
                raise ValueError(
                    f"The layer {name!r} does not get as many positions, or does not run, once "
                    "layers before it are cut: the model's forward depends on what they give. "
                    "Leave it out, or pass sequential=False."
                )
            own.update(u, v, codes[rows])
    return {name: own.result() for name, own in pairs.items()}


def _sides(
    model: nn.Module,
    batches: ModuleBatches,
    arguments: Arguments,
    n_rows: int,
    layers: Mapping[str, LayerMap],
) -> dict[str, Tensor]:
    """Return the sides (n, T, m) of layers for a batch, without running what is behind them all."""
    sides: dict[str, Tensor] = {}

    def note(name: str, seen: LayerMap) -> Hook:
        def see(given: Tensor, output: Tensor) -> None:
            if given.is_nested:
                raise ValueError(
                    f"The layer {name!r} gets nested tensors where no gradients are computed. Pass "
                    "split_attention(model), enable_nested_tensor=False, or layers= without it."
                )
            # A copy: what comes after may write into it.
            sides[name] = seen.seen(given.detach(), output.detach()).clone()
            if len(sides) == len(layers):
                raise _EnoughSeen

        return see

    notes = {name: note(name, own) for name, own in layers.items()}
    with suppress(_EnoughSeen), torch.no_grad(), hooked(model, notes):
        batches.run(model, arguments, n_rows)
    return sides
