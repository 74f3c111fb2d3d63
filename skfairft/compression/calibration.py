"""One pass of the rows through the model: what goes through its layers, group by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches
from ..backbone.frozen import frozen, locked
from ..inputs.warn import warn_user
from ..inputs.words import joined, listed
from ..lowrank.maps import LayerMap
from ..lowrank.network import LayerStatistics
from .outputs import Meaning, gradients_of

__all__ = ["Calibration", "Hook", "calibrate", "graded_layers", "hooked"]

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
    positions : dict of str to float
        How many positions of its output a row has in each layer, in the mean.
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
        source = _source(stack, batches.device)

        def note(name: str) -> Hook:
            def see(given: Tensor, output: Tensor) -> Tensor:
                def judge(h: Tensor) -> None:
                    reached[name] = name not in reached and bool(torch.isfinite(h).all())

                return _probed(output, source, judge)

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
        If a layer gets other inputs than some positions of each row, or no gradient.
    """
    notes = {
        name: _Notes(
            name,
            LayerStatistics(
                seen, n_groups, gradients=name in graded, fisher=fisher and name in graded
            ),
            lenient,
        )
        for name, seen in layers.items()
    }
    outputs: list[Tensor] = []
    inputs: list[Tensor] | None = [] if keep and len(layers) == 1 else None
    last: str | None = None
    with ExitStack() as stack:
        stack.enter_context(locked(model))
        stack.enter_context(frozen(model, batches.device))
        source = None if gradients is None else _source(stack, batches.device)
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
                if y is not None:
                    targets = gradients.labels(y[rows], out.detach())
                else:
                    assert gradients.draw is not None
                    targets = gradients.draw(out.detach(), generator)
                gradients_of(gradients.loss(out, targets).sum(), [source])
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


Hook = Callable[[Tensor, Tensor], Tensor | None]


@contextmanager
def hooked(model: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Show what goes into and comes out of layers to functions while the context lasts.

    What one returns is the output from then on; None leaves it.

    Examples
    --------
    >>> layer, shapes = nn.Linear(2, 1), []
    >>> with hooked(layer, {"": lambda given, output: shapes.append((given.shape, output.shape))}):
    ...     _ = layer(torch.ones(5, 2))
    >>> shapes
    [(torch.Size([5, 2]), torch.Size([5, 1]))]
    """

    def watch(see: Hook) -> Any:
        def note(part: nn.Module, args: Any, named: Any, output: Tensor) -> Tensor | None:
            return see(args[0] if args else next(iter(named.values())), output)

        return note

    with ExitStack() as stack:
        for name, see in hooks.items():
            part = model.get_submodule(name)
            handle = part.register_forward_hook(watch(see), with_kwargs=True)
            stack.callback(handle.remove)
        yield


@dataclass
class _Notes:
    """What is noted of one layer, batch by batch."""

    name: str
    statistics: LayerStatistics
    lenient: bool
    refused: bool = False
    rows: int = 0
    positions: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.int64))
    sure: bool = False  # that the first axis is that of the rows
    calls: int = 0
    over: bool = False  # the forward pass; activations that are checkpointed are computed again
    held: Tensor | None = None
    given: list[Tensor] = field(default_factory=list)
    output: Tensor | None = None
    graded: bool = False

    def begin(
        self,
        codes: Tensor,
        source: Tensor | None,
        order: dict[str, tuple[int, int]] | None,
        *,
        keep: bool,
    ) -> None:
        """Prepare for a batch of rows of groups (m,)."""
        self.codes, self.source, self.order, self.keep = codes, source, order, keep
        self.calls, self.over, self.graded = 0, False, False

    def see(self, given: Tensor, output: Tensor) -> Tensor | None:
        """Note a call; gradients as they come."""
        if self.over:
            return None
        self.calls += 1
        if self.refused or self.calls > 1:
            return None
        seen, n_rows = self.statistics.seen, len(self.codes)
        if given.is_nested or not seen.takes(given, n_rows):
            shape = "any lengths, nested," if given.is_nested else f"shape {tuple(given.shape)}"
            self.refuse(
                f"gets inputs of {shape} for {n_rows} rows; expected {seen.expected(n_rows)}"
            )
            return None
        self.sure = self.sure or not seen.is_ambiguous(given)
        with torch.no_grad():
            fixed = given.detach(), output.detach()
            self.statistics.update(*fixed, self.codes)
            before, after = seen.features(fixed[0]).shape[1], seen.positions(fixed[1]).shape[1]
            self.positions += torch.tensor([before, after]) * n_rows
        if self.order is not None:  # it is held, so that its number stays its own
            # What inference mode made has no version, and may be another each time.
            version = -len(self.order) if given.is_inference() else given._version
            self.order[self.name] = id(given), version
            self.held, self.output = given, fixed[1]
        if self.keep:  # copies: what comes after may write into them
            self.given, self.output = [fixed[0].clone()], fixed[1].clone()
        if self.source is None:
            return None
        inputs = fixed[0].clone() if self.statistics.fisher is not None else None
        codes = self.codes

        def note(h: Tensor) -> None:
            if not bool(torch.isfinite(h).all()):
                raise ValueError(
                    f"The gradient of the loss at the layer {self.name!r} is NaN or infinite."
                )
            self.graded = True
            self.statistics.update_gradients(inputs, h.detach(), codes)

        return _probed(output, self.source, note)

    def end(self) -> None:
        """Judge a batch that is over."""
        if self.calls == 0 or self.refused:
            return
        if self.calls > 1:
            self.refuse(f"is called {self.calls} times for a batch; expected once")
            return
        if self.source is not None and not self.graded:
            raise ValueError(
                f"No gradient of the loss comes to the layer {self.name!r}: what follows detaches "
                "it, or does not use it. Leave it out, or take importance='covariance'."
            )
        self.rows += len(self.codes)

    @property
    def mean_positions(self) -> tuple[float, float]:
        """Positions of a row, before and after."""
        before, after = (self.positions / self.rows).tolist()
        return before, after

    def is_all(self, out: Tensor) -> bool:
        """Tell whether what it gave in this batch is what the model gave."""
        return self.output is not None and torch.equal(self.output, out.detach())

    def forget(self) -> None:
        """Let go of a batch."""
        self.held, self.given, self.output = None, [], None

    def refuse(self, why: str) -> None:
        if not self.lenient:
            raise ValueError(
                f"The layer {self.name!r} {why}. Leave it out: pass layers= without it."
            )
        self.refused = True

    def is_unsure(self, n_rows: int) -> bool:
        """Tell whether it can be cut if the first axis is that of the rows, which is not clear."""
        return self.rows == n_rows and not (self.refused or self.sure)

    def is_good(self, n_rows: int) -> bool:
        """Tell whether it ran for all rows as it can be cut."""
        if not self.rows:
            return False
        if self.rows < n_rows:
            self.refuse(
                f"ran for {self.rows} of {n_rows} rows, in some batches only, so that not all "
                "groups can be told"
            )
        elif self.is_unsure(n_rows):
            self.refuse(
                "gets inputs of which another axis than the first is as long as a batch, so that "
                "it cannot be told which is that of the rows: pass another batch_size"
            )
        return not self.refused


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


def _source(stack: ExitStack, device: torch.device) -> Tensor:
    """Compute gradients while a context lasts; return what they are gradients of, a zero."""
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    return torch.zeros((), device=device, requires_grad=True)


def _probed(output: Tensor, source: Tensor, note: Callable[[Tensor], None]) -> Tensor:
    """Return an output plus zero, whose gradient is shown as it comes, and not kept."""
    out = output + source.to(output)
    if out.requires_grad:  # not within no_grad
        out.register_hook(note)
    return out
