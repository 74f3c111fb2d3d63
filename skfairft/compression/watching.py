"""What goes through the layers of a model, and which gradients come to them, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..lowrank.network import LayerStatistics

__all__ = ["Hook", "Notes", "gradient_source", "hooked", "probed"]

Hook = Callable[[Tensor, Tensor], Tensor | None]


@contextmanager
def hooked(model: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Show what goes into and comes out of layers to functions while the context lasts.

    What one returns is the output from then on; None leaves it. Compiled parts run as they are
    written: code that was compiled before calls no hooks.

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
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        for name, see in hooks.items():
            part = model.get_submodule(name)
            handle = part.register_forward_hook(watch(see), with_kwargs=True)
            stack.callback(handle.remove)
        yield


@dataclass
class Notes:
    """What is noted of one layer, batch by batch."""

    name: str
    statistics: LayerStatistics
    lenient: bool
    refused: bool = False
    rows: int = 0
    positions: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.int64))
    sure: bool = False  # that the first axis is that of the rows
    nested: bool = False  # what it gets
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

    def look(self, given: Tensor, output: Tensor) -> None:
        """Leave a layer out that gets nested tensors, as it may where no gradients are computed."""
        if given.is_nested:
            self.nested = True
            self.refuse(
                f"gets nested tensors; expected {self.statistics.seen.expected(given.size(0))}. "
                "Pass split_attention(model), or set enable_nested_tensor=False of "
                "nn.TransformerEncoder"
            )

    def see(self, given: Tensor, output: Tensor) -> Tensor | None:
        """Note a call; gradients as they come."""
        if self.over:
            return None
        self.calls += 1
        if self.refused or self.calls > 1:
            return None
        seen, n_rows = self.statistics.seen, len(self.codes)
        if given.is_nested:
            self.look(given, output)
            return None
        if not seen.takes(given, n_rows):
            self.refuse(
                f"gets inputs of shape {tuple(given.shape)} for {n_rows} rows; expected "
                f"{seen.expected(n_rows)}"
            )
            return None
        if not bool(torch.isfinite(given.detach()).all()):
            raise ValueError(
                f"The layer {self.name!r} gets NaN or infinity in some rows, which what follows "
                "hides. Fill the gaps of X, or leave the layer out: pass layers= without it."
            )
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

        return probed(output, self.source, note)

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
        """Leave the layer out, or say why it cannot be cut."""
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


def gradient_source(stack: ExitStack, device: torch.device) -> Tensor:
    """Compute gradients while a context lasts; return what they are gradients of, a zero."""
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    return torch.zeros((), device=device, requires_grad=True)


def probed(output: Tensor, source: Tensor, note: Callable[[Tensor], None]) -> Tensor:
    """Return an output plus zero, whose gradient is shown as it comes, and not kept."""
    out = output + source.to(output)
    if out.requires_grad:  # not within no_grad
        out.register_hook(note)
    return out
