"""One pass of the rows through the model: what goes through its layers, group by group."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches
from ..backbone.frozen import frozen, locked
from ..inputs.warn import warn_user
from ..inputs.words import joined, listed
from ..lowrank.maps import LayerMap
from ..lowrank.network import LayerStatistics
from .outputs import Meaning, gradients_of
from .watching import Hook, Notes, gradient_source, hooked, probed

__all__ = ["Calibration", "calibrate", "graded_layers"]

# Of moments that are wider, their own take longer than all else.
_MOST_OUTPUTS = 2048


@dataclass
class Calibration:
    """What a pass saw.

    Parameters
    ----------
    statistics : dict of str to LayerStatistics
        Of each layer that ran, in the order in which they did.
    outputs : Tensor of shape (n, ...), on the CPU
        Of the model; empty where they were not asked for.
    inputs : Tensor of shape (n, ...) or None
        Of the one layer whose outputs are the model's; None if there is none.
    stages : list of list of str
        The same layers, those that get the same input together: none of a stage is behind another.
    positions : dict of str to tuple of float
        How many positions of its input and of its output a row has in each layer, in the mean.
    last : str or None
        The layer whose outputs are the model's.
    """

    statistics: dict[str, LayerStatistics]
    outputs: Tensor
    inputs: Tensor | None
    stages: list[list[str]]
    positions: dict[str, tuple[float, float]]
    last: str | None


def graded_layers(
    model: nn.Module, batches: ModuleBatches, layers: Mapping[str, LayerMap], meaning: Meaning
) -> set[str]:
    """Return the names of the layers to which gradients of the loss come, by the first batch.

    Those whose narrower side is wider than 2,048 are left out. None where the model does not run
    such that gradients can be had, or where the loss is a function, whose labels cannot be drawn.

    Raises
    ------
    ValueError
        If its outputs are not what the loss takes.
    """
    if meaning.draw is None:
        return set()
    reached: dict[str, bool] = {}
    rows, arguments = next(iter(batches))
    with ExitStack() as stack:
        stack.enter_context(locked(model))
        stack.enter_context(frozen(model, batches.device))
        source = gradient_source(stack, batches.device)

        def note(name: str) -> Hook:
            def see(given: Tensor, output: Tensor) -> Tensor:
                def judge(h: Tensor) -> None:
                    reached[name] = name not in reached and bool(torch.isfinite(h).all())

                return probed(output, source, judge)

            return see

        stack.enter_context(hooked(model, {name: note(name) for name in layers}))
        try:
            out = batches.run(model, arguments, rows.stop - rows.start)
        except ValueError:  # if it is not because of gradients, the next one says so
            return set()
        targets = meaning.draw(out.detach(), torch.Generator().manual_seed(0))
        loss = meaning.loss(out, targets).sum()
        try:
            gradients_of(loss, [source])
        except (RuntimeError, ValueError):  # what it needs is written over, or not kept
            return set()
    return {name for name, ok in reached.items() if ok and layers[name].width <= _MOST_OUTPUTS}


def calibrate(
    model: nn.Module,
    batches: ModuleBatches,
    codes: Tensor,
    layers: Mapping[str, LayerMap],
    *,
    n_groups: int,
    graded: set[str],
    gradients: Meaning | None,
    fisher: bool = False,
    temperature: float = 1.0,
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
        Their groups; negative of those that are not counted.
    layers : mapping of str to LayerMap
        Those that are watched.
    n_groups : int
        Number of groups.
    graded : set of str
        Those of which gradients at the outputs are wanted, too.
    gradients : Meaning or None
        Of whose loss; None where none are wanted.
    fisher : bool, default=False
        Whether their Fisher information is wanted.
    temperature : float, default=1
        What log-odds are divided by before gradients are taken. A loss that is sure of all rows has
        none, however much a cut that is no small step would change it.
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
        If what the model gives for a row is another in another batch, or each time; if a layer gets
        other inputs than some positions of each row, or no gradient.
    """
    notes = {
        name: Notes(
            name,
            LayerStatistics(
                seen, n_groups, gradients=name in graded, fisher=fisher and name in graded
            ),
            lenient,
        )
        for name, seen in layers.items()
    }
    with hooked(model, {name: note.look for name, note in notes.items()}):
        batches.look(model)
    outputs: list[Tensor] = []
    inputs: list[Tensor] | None = [] if keep and len(layers) == 1 else None
    last: str | None = None
    with ExitStack() as stack:
        stack.enter_context(locked(model))
        stack.enter_context(frozen(model, batches.device))
        source = None if gradients is None else gradient_source(stack, batches.device)
        stack.enter_context(hooked(model, {name: note.see for name, note in notes.items()}))
        order: dict[str, tuple[int, int]] = {}
        for rows, arguments in batches:
            first = rows.start == 0
            for name, note in notes.items():
                own = source if name in graded else None
                note.begin(codes[rows], own, order if first else None, keep=len(layers) == 1)
            out = batches.run(model, arguments, rows.stop - rows.start)
            for note in notes.values():
                note.over = True
            if gradients is not None and source is not None:
                said = out / temperature if gradients.logits else out
                if y is not None:
                    targets = gradients.labels(y[rows], out.detach())
                else:
                    assert gradients.draw is not None
                    targets = gradients.draw(said.detach(), generator)
                gradients_of(gradients.loss(said, targets).sum(), [source])
            for note in notes.values():
                note.end()
            if first:
                ends = [n for n, note in notes.items() if note.is_all(out)]
                last = ends[0] if ends else None
            if keep:
                outputs.append(out.detach().cpu())
            if inputs is not None:
                (note,) = notes.values()
                inputs = [*inputs, note.given[0].cpu()] if note.is_all(out) else None
            for note in notes.values():
                note.forget()
    unsure = [name for name, note in notes.items() if note.is_unsure(len(codes))]
    if lenient and unsure:
        warn_user(
            f"The layers [{listed(unsure)}] are left out: another axis of their inputs than the "
            "first is as long as a batch, so that it cannot be told which is that of the rows. "
            "Pass another batch_size.",
            UserWarning,
        )
    nested = [name for name, note in notes.items() if note.nested]
    if nested:
        warn_user(
            f"The layers [{listed(nested)}] are left out: they get nested tensors. Pass "
            "split_attention(model), or set enable_nested_tensor=False of nn.TransformerEncoder.",
            UserWarning,
        )
    good = {name: note for name, note in notes.items() if note.is_good(len(codes))}
    stages: dict[tuple[int, int], list[str]] = {}
    for name, given in order.items():
        if name in good:
            stages.setdefault(given, []).append(name)
    found = {name: good[name].statistics for names in stages.values() for name in names}
    return Calibration(
        found,
        _joined(outputs) if outputs else torch.empty(0),
        None if inputs is None else torch.cat(inputs),
        list(stages.values()),
        {name: good[name].mean_positions for name in found},
        last if last in found else None,
    )


def _joined(outputs: list[Tensor]) -> Tensor:
    """Return outputs of batches as those of all rows."""
    shapes = sorted({str(tuple(each.shape[1:])) for each in outputs})
    if len(shapes) > 1:
        raise ValueError(
            f"The model gives outputs of other shapes in each batch, of a row {joined(shapes)}; "
            "expected one shape. Pad all rows to one length, or take refine=None and "
            "group_weights=None."
        )
    return torch.cat(outputs)
