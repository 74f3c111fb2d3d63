"""One pass of the rows through the model: what goes through its layers, group by group."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches
from ..backbone.frozen import frozen, locked
from ..lowrank.network import LayerStatistics, watched
from .outputs import Meaning, gradients_of

__all__ = ["Calibration", "calibrate", "graded_layers"]

# Of more outputs, their second moments take longer than all else.
_MOST_OUTPUTS = 2048


@dataclass
class Calibration:
    """What a pass saw.

    Parameters
    ----------
    statistics : dict of str to LayerStatistics
        Of each layer that ran.
    outputs : Tensor of shape (n, ...), on the CPU
        Of the model; empty where they were not asked for.
    inputs : Tensor of shape (n, d) or None
        Of the one layer whose outputs are the model's; None if there is none.
    """

    statistics: dict[str, LayerStatistics]
    outputs: Tensor
    inputs: Tensor | None


def graded_layers(
    model: nn.Module, batches: ModuleBatches, layers: dict[str, nn.Linear], meaning: Meaning
) -> set[str]:
    """Return the names of the layers to which gradients of the loss come, by the first batch.

    Those of more than 2,048 outputs are left out. None where the model does not run such that
    gradients can be had, or where the loss is a function, whose labels cannot be drawn.

    Raises
    ------
    ValueError
        If its outputs are not what the loss takes.
    """
    if meaning.draw is None:
        return set()
    rows, arguments = next(iter(batches))
    with ExitStack() as stack:
        stack.enter_context(locked(model))
        stack.enter_context(frozen(model, batches.device))
        probes = _probed(stack, model, layers)
        try:
            out = batches.run(model, arguments, rows.stop - rows.start)
        except ValueError:  # if it is not because of gradients, the next one says so
            return set()
        targets = meaning.draw(out.detach(), torch.Generator().manual_seed(0))
        loss = meaning.loss(out, targets).sum()
        ran = {name: made[0] for name, made in probes.items() if len(made) == 1}
        try:
            given = gradients_of(loss, list(ran.values()))
        except (RuntimeError, ValueError):  # what it needs is written over, or not kept
            return set()
    return {
        name
        for name, h in zip(ran, given, strict=True)
        if h is not None
        and bool(torch.isfinite(h).all())
        and layers[name].out_features <= _MOST_OUTPUTS
    }


def calibrate(
    model: nn.Module,
    batches: ModuleBatches,
    codes: Tensor,
    layers: dict[str, nn.Linear],
    *,
    n_groups: int,
    graded: set[str],
    gradients: Meaning | None,
    y: Tensor | None,
    keep: bool,
    lenient: bool,
    generator: torch.Generator,
) -> Calibration:
    """Run all rows through the model, in evaluation mode, and return what its layers saw.

    Parameters
    ----------
    model : nn.Module
        It is left as it was.
    batches : ModuleBatches
        The rows.
    codes : Tensor of shape (n,)
        Their groups.
    layers : dict of str to nn.Linear
        Those that are watched.
    n_groups : int
        Number of groups.
    graded : set of str
        Those of which gradients at the outputs are wanted, too.
    gradients : Meaning or None
        Of whose loss; None where none are wanted.
    y : Tensor or None
        Labels; None: they are drawn from what the model says.
    keep : bool
        Whether outputs are wanted.
    lenient : bool
        Whether layers that cannot be cut are left out; else they are refused.
    generator : torch.Generator
        To draw with.

    Raises
    ------
    ValueError
        If a layer gets other inputs than one row (d,) of each sample, or no gradient.
    """
    found: dict[str, LayerStatistics] = {}
    counts = dict.fromkeys(layers, 0)
    refused: set[str] = set()
    outputs: list[Tensor] = []
    inputs: list[Tensor] | None = [] if keep and len(layers) == 1 else None
    with ExitStack() as stack:
        stack.enter_context(locked(model))
        stack.enter_context(frozen(model, batches.device))
        probes = {} if gradients is None else _probed(stack, model, graded)
        seen = stack.enter_context(watched(model, layers))
        for rows, arguments in batches:
            size = rows.stop - rows.start
            out = batches.run(model, arguments, size)
            slopes: dict[str, Tensor] = {}
            if gradients is not None:
                if y is not None:
                    targets = gradients.labels(y[rows], out.detach())
                else:
                    assert gradients.draw is not None
                    targets = gradients.draw(out.detach(), generator)
                ran = {name: made[0] for name, made in probes.items() if len(made) == 1}
                given = gradients_of(gradients.loss(out, targets).sum(), list(ran.values()))
                slopes = {name: _usable(name, h) for name, h in zip(ran, given, strict=True)}
            with torch.no_grad():
                for name, calls in seen.items():
                    if name in refused or not calls:
                        continue
                    try:
                        Z = _only(name, calls, size)
                    except ValueError:
                        if not lenient:
                            raise
                        refused.add(name)
                        found.pop(name, None)
                        continue
                    if name not in found:
                        found[name] = LayerStatistics(
                            layers[name], n_groups, gradients=name in graded
                        )
                    found[name].update(Z, codes[rows], slopes.get(name))
                    counts[name] += size
                if keep:
                    outputs.append(out.detach().cpu())
                if inputs is not None:
                    (calls,) = seen.values()
                    whole = bool(calls) and torch.equal(calls[0][1], out.detach())
                    inputs = [*inputs, calls[0][0].cpu()] if whole else None
            for calls in seen.values():
                calls.clear()
            for made in probes.values():
                made.clear()
    for name in [name for name in found if counts[name] < len(codes)]:
        if not lenient:
            raise ValueError(
                f"The layer {name!r} ran for {counts[name]} of {len(codes)} rows, in some batches "
                "only, so that not all groups can be told. Leave it out: pass layers= without it."
            )
        del found[name]
    return Calibration(
        found,
        torch.cat(outputs) if outputs else torch.empty(0),
        None if inputs is None else torch.cat(inputs),
    )


def _probed(stack: ExitStack, model: nn.Module, names: Iterable[str]) -> dict[str, list[Tensor]]:
    """Compute gradients while a context lasts; return where each layer's probes will be."""
    probes: dict[str, list[Tensor]] = {name: [] for name in names}
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    for name, made in probes.items():
        handle = model.get_submodule(name).register_forward_hook(_probe(made))
        stack.callback(handle.remove)
    return probes


def _probe(made: list[Tensor]) -> Any:
    """Return a hook that adds zeros to a layer's output, whose gradient is that of the output."""

    def add(part: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        made.append(torch.zeros_like(output, requires_grad=True))
        return output + made[-1]

    return add


def _usable(name: str, h: Tensor | None) -> Tensor:
    """Return a gradient at a layer's outputs, or refuse what is none."""
    if h is None:
        raise ValueError(
            f"No gradient of the loss comes to the layer {name!r}: what follows detaches it, or "
            "does not use it. Leave it out, or take importance='covariance'."
        )
    if not bool(torch.isfinite(h).all()):
        raise ValueError(f"The gradient of the loss at the layer {name!r} is NaN or infinite.")
    return h


def _only(name: str, calls: list[tuple[Tensor, Tensor]], n_rows: int) -> Tensor:
    """Return the inputs (n, d) of a layer that ran once."""
    (Z, _), *more = calls
    if more:
        raise ValueError(
            f"The layer {name!r} is called {len(calls)} times for a batch; expected once. Leave it "
            "out: pass layers= without it."
        )
    if Z.ndim != 2 or len(Z) != n_rows:
        raise ValueError(
            f"The layer {name!r} gets inputs of shape {tuple(Z.shape)} for {n_rows} rows; expected "
            f"({n_rows}, features). Layers on tokens or positions cannot be cut: leave it out, and "
            "pass layers= without it."
        )
    return Z
