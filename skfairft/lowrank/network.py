"""Layers of a network: which are cut, what goes through them meanwhile, and what takes their place.

Must not know the groups' names: they are codes here, as everywhere in this room.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .covariance import GroupCovariance
from .fisher import GroupFisher
from .layer import LowRankLinear

__all__ = [
    "LayerStatistics",
    "OutputMoments",
    "does_more",
    "linear_layers",
    "replace_layer",
    "watched",
]


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the ``nn.Linear`` layers of a model by name, each once, of that very class.

    Only those whose weights are parameters of their own, and real numbers; not the two thin layers
    of a `LowRankLinear`.

    Examples
    --------
    >>> list(linear_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))))
    ['0', '2']
    """
    thin = {
        part
        for whole in model.modules()
        if isinstance(whole, LowRankLinear)
        for part in whole.children()
    }
    return {
        name: part
        for name, part in model.named_modules()
        # Of a pruned layer the weight is made of others.
        if type(part) is nn.Linear
        and part._parameters.get("weight") is not None
        and part.weight.is_floating_point()
        and part not in thin
    }


def does_more(layer: nn.Linear) -> bool:
    """Tell whether a layer has hooks or a forward of its own, which another would not have.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> handle = layer.register_forward_hook(lambda part, args, output: 2 * output)
    >>> does_more(layer), does_more(nn.Linear(2, 2))
    (True, False)
    """
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(layer) or any(getattr(layer, name) for name in hooks)


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """Put a layer in the place of another, wherever that is, and return the model.

    The layer itself, if that is all of it.

    Examples
    --------
    >>> replace_layer(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "0", nn.Identity())
    Sequential(
      (0): Identity()
      (1): ReLU()
    )
    """
    if not name:
        return layer
    old = model.get_submodule(name)
    for part in model.modules():
        for own, child in part._modules.items():
            if child is old:
                part._modules[own] = layer
    return model


@contextmanager
def watched(
    model: nn.Module, names: Iterable[str]
) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Collect what goes into and comes out of layers while the context lasts.

    Yields
    ------
    dict
        For each name a pair (input, output) for each call of the layer, as they come; to be
        emptied by whoever reads it.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> with watched(layer, [""]) as seen:
    ...     _ = layer(torch.ones(5, 2))
    >>> [tensor.shape for tensor in seen[""][0]]
    [torch.Size([5, 2]), torch.Size([5, 1])]
    """
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in names}

    def watch(name: str) -> Any:
        def note(part: nn.Module, args: Any, named: Any, output: Any) -> None:
            given = args[0] if args else named["input"]
            # Copies: what comes after may write into them.
            seen[name].append((given.detach().clone(), output.detach().clone()))

        return note

    with ExitStack() as stack:
        for name in seen:
            part = model.get_submodule(name)
            handle = part.register_forward_hook(watch(name), with_kwargs=True)
            stack.callback(handle.remove)
        yield seen


class OutputMoments:
    """Accumulate the second moments of the loss's gradient at a layer's outputs, by group.

    Examples
    --------
    >>> moments = OutputMoments(1, 2)
    >>> moments.update(torch.tensor([[1.0, -1.0], [3.0, 0.0]]), torch.tensor([0, 0])).result()
    tensor([[[ 5.0000, -0.5000],
             [-0.5000,  0.5000]]], dtype=torch.float64)
    """

    def __init__(self, n_groups: int, n_outputs: int) -> None:
        self._sums = torch.zeros(n_groups, n_outputs, n_outputs, dtype=torch.float64)
        self._counts = torch.zeros(n_groups, dtype=torch.float64)

    def update(self, h: Tensor, codes: Tensor) -> OutputMoments:
        """Add gradients (n, k) of rows of groups (n,), and return itself."""
        h = h.double()
        for group in torch.unique(codes).tolist():
            own = h[codes == group]
            self._sums[group] += (own.T @ own).cpu()
            self._counts[group] += len(own)
        return self

    def merge(self, other: OutputMoments) -> OutputMoments:
        """Add another accumulator's rows to this one's and return itself."""
        self._sums += other._sums
        self._counts += other._counts
        return self

    def result(self) -> Tensor:
        """Return the mean of each group, shape (G, k, k); zero for a group without rows."""
        return self._sums / self._counts.clamp_min(1.0)[:, None, None]


class LayerStatistics:
    """All that a cut of a linear layer is made of: moments of its inputs and of its gradients.

    Parameters
    ----------
    layer : nn.Linear
        The layer, (d) to (k).
    n_groups : int
        Number of groups.
    gradients : bool
        Whether gradients come, too.
    """

    def __init__(self, layer: nn.Linear, n_groups: int, *, gradients: bool) -> None:
        d, k = layer.in_features, layer.out_features
        self.inputs = GroupCovariance(n_groups, d)
        self.fisher = GroupFisher(n_groups, d) if gradients else None
        self.outputs = OutputMoments(n_groups, k) if gradients else None

    def update(self, Z: Tensor, codes: Tensor, h: Tensor | None = None) -> LayerStatistics:
        """Add inputs (n, d), groups (n,) and gradients at the outputs (n, k) of some rows."""
        codes = codes.to(Z.device)
        self.inputs.update(Z, codes)
        if h is not None and self.fisher is not None and self.outputs is not None:
            self.fisher.update(Z.double(), h.double().square().sum(dim=1), codes)
            self.outputs.update(h, codes)
        return self
