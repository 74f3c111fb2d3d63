"""Layers cut one after the other, each by what it gets behind those that are cut already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches
from ..backbone.forward import Arguments
from ..backbone.frozen import frozen, locked
from ..backbone.module_copy import copy_module
from ..feature_store.digest import tensor_node
from ..feature_store.explain import changes
from ..lowrank.covariance import CovarianceStatistics
from ..lowrank.cut import cut_after, cut_layer
from ..lowrank.maps import LayerMap
from ..lowrank.network import LayerPairs, replace_layer
from .calibration import Calibration
from .watching import Hook, hooked

__all__ = ["cut_in_turn"]

# Most bytes of what layers ahead give in the model that are held until it is their turn.
_ROOM = 2**30


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
    before which none is cut, as by themselves. The rows are read again for each stage, and run
    through the copy up to where it ends; through the model once for as many stages as a gigabyte
    holds what their layers give.

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
    batches, codes = batches.only(codes >= 0), codes[codes >= 0]
    stages = [[name for name in stage if name in ranks] for stage in found.stages]
    stages = [names for names in stages if names]
    stops = _may_stop(small, batches, found, stages)
    if not stops:
        small = copy_module(model, type(model).__name__)
    with ExitStack() as stack:
        for each in (model, small):
            stack.enter_context(locked(each))
            stack.enter_context(frozen(each, batches.device))
        uncut = _Uncut(model, batches, found, stages, stops)
        for number, names in enumerate(uncut.stages):
            batches.begin(f"cutting {names[0]}" + " and others" * (len(names) > 1))
            pairs = _pairs(uncut, number, small, codes, len(mixing)) if number else {}
            for name in names:
                settings = {"importance": importances[name], "shares": shares, "mixing": mixing}
                own, rank = found.statistics[name], ranks[name]
                if number:
                    made = cut_after(own, pairs[name], rank, **settings)  # type: ignore[arg-type]
                else:
                    made = cut_layer(own, rank, **settings).layer  # type: ignore[arg-type]
                small = replace_layer(small, name, made.eval())
    return small


class _Uncut:
    """The model, and what its layers give: of some stages ahead it is held until their turn."""

    def __init__(
        self,
        model: nn.Module,
        batches: ModuleBatches,
        found: Calibration,
        stages: list[list[str]],
        stops: bool,
    ) -> None:
        self.model, self.batches, self.found, self.stages = model, batches, found, stages
        self.stops = stops
        self._held: dict[str, list[Tensor]] = {}
        self._contents: list[dict[int | str, Any]] = []  # of the batches that these are of

    def layers(self, names: list[str]) -> dict[str, LayerMap]:
        """Return layers as maps."""
        return {name: self.found.statistics[name].seen for name in names}

    def of_stage(self, number: int) -> Iterator[tuple[slice, Arguments, dict[str, Tensor]]]:
        """Yield each batch, and what the sides of a stage's layers are in the model.

        Rows that come otherwise than when these were held are refused: the copy must get what the
        model got.
        """
        names = self.stages[number]
        if names[0] in self._held:
            held = {name: self._held.pop(name) for name in names}
            for batch, (rows, arguments) in enumerate(self.batches):
                if _contents(arguments) != self._contents[batch]:
                    raise ValueError(
                        "Rows come otherwise than when they were first read: preprocess, or the "
                        "dataset, draws by chance, or has changed. Pass one that does not."
                    )
                yield rows, arguments, {name: each[batch] for name, each in held.items()}
            return
        ahead = self._ahead(number)
        self._held, self._contents = {name: [] for name in ahead}, []
        for rows, arguments in self.batches:
            sides = self._run(rows, arguments, names + ahead)
            for name in ahead:
                self._held[name].append(sides.pop(name).cpu())
            if ahead:
                self._contents.append(_contents(arguments))
            yield rows, arguments, sides

    def _run(self, rows: slice, arguments: Arguments, names: list[str]) -> dict[str, Tensor]:
        """Return the sides of layers in the model, which may write into what it is given."""
        given = {k: v.clone() if isinstance(v, Tensor) else v for k, v in arguments.items()}
        n_rows = rows.stop - rows.start
        return self.sides(self.model, given, n_rows, names)

    def sides(
        self, model: nn.Module, arguments: Arguments, n_rows: int, names: list[str]
    ) -> dict[str, Tensor]:
        """Return what the sides of layers are in a model."""
        layers = self.layers(names)
        return _sides(model, self.batches, arguments, n_rows, layers, stops=self.stops)

    def _ahead(self, number: int) -> list[str]:
        """Return the layers of the stages behind one for which there is room."""
        names: list[str] = []
        room = float(_ROOM)
        for stage in self.stages[number + 1 :]:
            for name, seen in self.layers(stage).items():
                numbers = seen.width * seen.side_positions(*self.found.positions[name])
                room -= len(self.batches) * numbers * seen.stored.element_size()
            if room < 0.0:
                break
            names += stage
        return names


def _may_stop(
    model: nn.Module, batches: ModuleBatches, found: Calibration, stages: list[list[str]]
) -> bool:
    """Tell whether a model is as it was after a forward that ended early.

    One that puts something back at its end is not; a model that is not either way is changed here.
    """
    index = torch.arange(min(2, len(batches)))

    def run() -> None:
        for names in stages[1:]:
            layers = {name: found.statistics[name].seen for name in names}
            _sides(model, batches, batches.some(index), len(index), layers, stops=True)

    with frozen(model, batches.device):
        try:
            changed, _ = changes(run, model, None)
        except ValueError:  # if it is not because of that, the next run says so
            return False
    return not changed


def _contents(arguments: Arguments) -> dict[int | str, Any]:
    """Return what tells arguments from others; of what has no content that can be told, nothing."""

    def content(value: Any) -> Any:
        if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_nested:
            return tensor_node(value)
        return value if type(value) in (bool, int, str) else type(value)

    return {name: content(value) for name, value in arguments.items()}


def _pairs(
    uncut: _Uncut, number: int, small: nn.Module, codes: Tensor, n_groups: int
) -> dict[str, CovarianceStatistics]:
    """Return what the sides of a stage's layers were in the model and are in its copy."""
    layers = uncut.layers(uncut.stages[number])
    pairs = {name: LayerPairs(seen, n_groups) for name, seen in layers.items()}
    for rows, arguments, before in uncut.of_stage(number):
        after = uncut.sides(small, arguments, rows.stop - rows.start, list(layers))
        for name, own in pairs.items():
            u, v = before[name], after[name]
            if u.shape != v.shape:
                raise _moved(name)
            own.update(u.to(v.device), v, codes[rows])
    return {name: own.result() for name, own in pairs.items()}


def _moved(name: str) -> ValueError:
    return ValueError(
        f"The layer {name!r} does not get as many positions, or does not run, once layers before "
        "it are cut: the model's forward depends on what they give. Leave it out, or pass "
        "sequential=False."
    )


def _sides(
    model: nn.Module,
    batches: ModuleBatches,
    arguments: Arguments,
    n_rows: int,
    layers: Mapping[str, LayerMap],
    *,
    stops: bool,
) -> dict[str, Tensor]:
    """Return the sides (n, T, m) of layers for a batch, if it may without what is behind them."""
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
            if stops and len(sides) == len(layers):
                raise _EnoughSeen

        return see

    notes = {name: note(name, own) for name, own in layers.items()}
    with suppress(_EnoughSeen), torch.no_grad(), hooked(model, notes):
        batches.run(model, arguments, n_rows)
    for name in layers:
        if name not in sides:
            raise _moved(name)
    return sides
