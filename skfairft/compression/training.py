"""Training of a cut model on what the whole one says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches
from ..backbone.frozen import frozen
from ..lowrank.network import LayerStatistics
from .calibration import Calibration
from .distill import distill, objective_of
from .outputs import Meaning
from .sampled import distill_sampled

__all__ = ["Training"]


@dataclass(frozen=True)
class Training:
    """A cut model and what it is trained by.

    Parameters
    ----------
    small : nn.Module
        It is changed in place.
    cut : iterable of str
        Its thin layers.
    batches, found, codes
        Rows, what a pass saw, groups.
    held_out : Tensor of shape (n,), bool
        Rows that are not trained on.
    meaning : Meaning
        Of the outputs.
    shares : Tensor of shape (G,) or None
        Weights of the groups; None is the largest.
    mixing : Tensor of shape (G, G)
        What each group's mean is a mean of.
    """

    small: nn.Module
    cut: Iterable[str]
    batches: ModuleBatches
    found: Calibration
    codes: Tensor
    held_out: Tensor
    meaning: Meaning
    shares: Tensor | None
    mixing: Tensor

    @property
    def positions(self) -> list[float]:
        """How many positions a row has in each thin layer, in the mean."""
        return [self.found.positions[name][1] for name in self.cut]

    def in_full_batches(self, max_iter: int) -> bool:
        """Train the thin layers by L-BFGS, see `distill`; return whether that was a gain."""
        layers = {name: self.small.get_submodule(name) for name in self.cut}
        parameters = [parameter for layer in layers.values() for parameter in layer.parameters()]
        scales = [
            size
            for name, layer in layers.items()
            for size in _scales(layer, self.found.statistics[name])
        ]

        def through_layer() -> Iterator[tuple[slice, Tensor]]:
            # All that depends on the thin layer is its output, which is the model's.
            (layer,) = layers.values()
            assert self.found.inputs is not None
            yield slice(0, len(self.codes)), layer(self.found.inputs.to(self.batches.device))

        with self._open(parameters):
            best = distill(
                parameters,
                scales,
                through_layer if self.found.inputs is not None else self._through_model,
                self.found.outputs,
                self.codes,
                self.held_out,
                self.meaning.divergence,
                self.shares,
                mixing=self.mixing,
                max_iter=max_iter,
            )
        return best > 0

    def in_epochs(
        self, max_epochs: int, *, drawn: Tensor, everything: bool, generator: torch.Generator
    ) -> bool:
        """Train the thin layers, or all that learns, by AdamW, see `distill_sampled`.

        Returns whether that was a gain.
        """
        prefixes = tuple(f"{name}." if name else "" for name in self.cut)
        parameters = {
            name: parameter
            for name, parameter in self.small.named_parameters()
            if name.startswith(prefixes) or (everything and parameter.requires_grad)
        }
        with self._open(parameters.values()):
            return distill_sampled(
                self.small,
                parameters,
                self.batches,
                self.found.outputs,
                self.codes,
                self.held_out,
                self.meaning.divergence,
                lambda each, codes: objective_of(each, codes, self.mixing, self.shares),
                drawn=drawn,
                max_epochs=max_epochs,
                generator=generator,
            )

    def _through_model(self) -> Iterator[tuple[slice, Tensor]]:
        return self.batches.outputs(self.small)

    @contextmanager
    def _open(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        """Let parameters have gradients, in evaluation mode, while the context lasts."""
        with ExitStack() as stack:
            stack.enter_context(frozen(self.small, self.batches.device))
            stack.enter_context(torch.inference_mode(False))
            for parameter in parameters:
                stack.callback(parameter.requires_grad_, parameter.requires_grad)
                parameter.requires_grad_(True)
            yield


def _scales(layer: nn.Module, statistics: LayerStatistics) -> list[float]:
    """Return the size of each parameter's entries; of the bias, by how much the outputs vary."""
    inputs = statistics.inputs.result()
    n = inputs.means.weights
    spread = statistics.seen.spread(inputs.variance(n / n.sum()).clamp_min(0.0))
    assert isinstance(layer.weight, Tensor)
    W = layer.weight.detach().double().cpu().flatten(1)
    sizes = {
        name: float(parameter.detach().double().square().mean().sqrt())
        for name, parameter in layer.named_parameters()
    }
    sizes["up.bias"] = float((W.square() @ spread).mean().sqrt())
    return [size or 1.0 for size in sizes.values()]
