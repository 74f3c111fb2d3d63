"""Empirical Fisher information of a linear layer, by group and in closed form.

Tensor layout, used throughout:

========= ============ ====================================================
``Z``     (n, d)       input of the layer, one row per sample
``e``     (n,)         squared norm of the loss gradient at the layer's output
``codes`` (n,)         group of each row, integers in 0..G-1
``w``     (n,)         sample weights; a weight of 2 stands for the row twice
========= ============ ====================================================

For a linear layer the gradient of one sample's loss with respect to the weight
matrix is the outer product of the layer's input ``z`` with the gradient ``h``
at its output, so the Fisher diagonal (Eq. 1) summed over the columns of row
``i`` is ``z_i**2 * sum_j h_j**2 = z_i**2 * e``. No per-sample gradient is ever
formed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ..rows.tensor_rows import TensorRows
from .statistics import Part, fill

__all__ = [
    "FisherStatistics",
    "GroupFisher",
    "gradient_energy",
    "layer_fisher",
    "softmax_gradient_energy",
]

# Rows are squared in blocks of about this many numbers: they stay in a core's cache, so Z * Z is
# never written to main memory.
_BLOCK_ELEMENTS = 2**18


def softmax_gradient_energy(logits: Tensor, y: Tensor) -> Tensor:
    """Squared norm of the cross-entropy gradient at logits: (n, k), labels (n,) -> ``e`` (n,).

    The gradient is ``softmax(logits) - onehot(y)``. Its own-class entry
    ``p_y - 1`` is computed as minus the sum of the other probabilities, which
    keeps full relative precision for samples that are already well classified.

    Examples
    --------
    >>> import torch
    >>> softmax_gradient_energy(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.5000])
    """
    if logits.shape[1] == 2:  # in a twentieth of the time
        margin = (logits[:, 1] - logits[:, 0]) * (1 - 2 * y)
        return 2.0 * torch.sigmoid(margin).square_()
    others = torch.softmax(logits, dim=1).scatter_(1, y[:, None], 0.0)
    return others.sum(dim=1).square_() + others.square_().sum(dim=1)


def gradient_energy(
    output: Tensor, y: Tensor, tail: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Squared norm ``e`` (n,) of the loss gradient at a linear layer's output (n, k0).

    The tail is what follows the layer, mapping (n, k0) to logits (n, k) row by row; None means that
    the layer's output already is the logits. ``y`` (n,) are encoded labels.

    Examples
    --------
    >>> import torch
    >>> gradient_energy(torch.zeros(1, 2), torch.tensor([0]), tail=lambda h: 2 * h)
    tensor([2.])
    """
    if tail is None:
        return softmax_gradient_energy(output, y)
    with torch.enable_grad():
        leaf = output.detach().requires_grad_()
        # Rows do not interact, so the gradient of the sum holds each row's own gradient.
        # A copy, because an activation may work in place.
        loss = F.cross_entropy(tail(leaf.clone()), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient.square().sum(dim=1)


@dataclass(frozen=True)
class FisherStatistics:
    """Sums behind the per-group Fisher information; the frozen result of `GroupFisher`.

    Parameters
    ----------
    squares : Tensor of shape (G, d), float64
        ``sum of w * z**2 * e`` over the rows of each group.
    weights : Tensor of shape (G,), float64
        Sum of the sample weights of each group.
    counts : Tensor of shape (G,), int64
        Number of rows of each group.

    Examples
    --------
    >>> import torch
    >>> Z = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    >>> one = torch.ones(2)
    >>> GroupFisher(1, 2).update(Z, one, torch.tensor([0, 0])).result().fisher
    tensor([[5., 2.]], dtype=torch.float64)
    """

    squares: Tensor
    weights: Tensor
    counts: Tensor

    @property
    def fisher(self) -> Tensor:
        """Row-summed Fisher diagonal ``F_g`` (Eq. 1), shape (G, d).

        The mean over a group's rows of squared per-sample gradients. A group
        without rows has no mean: its row is NaN.
        """
        return self.squares / self.weights[:, None]

    @property
    def importance(self) -> Tensor:
        """Importance ``I_g = sqrt(F_g)`` of each row of the weight matrix, shape (G, d)."""
        return self.fisher.sqrt()


class GroupFisher:
    """Accumulate the Fisher information of a linear layer, group by group.

    Sums and counts in float64, never means: the result does not depend on how
    the rows were cut into batches, and accumulators of different batches or
    machines can be merged.

    Examples
    --------
    >>> import torch
    >>> Z = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> fisher = GroupFisher(n_groups=2, n_features=2)
    >>> fisher.update(Z, torch.tensor([0.5, 1.0]), torch.tensor([0, 1])).result().fisher
    tensor([[0.5000, 0.0000],
            [0.0000, 4.0000]], dtype=torch.float64)
    """

    def __init__(self, n_groups: int, n_features: int) -> None:
        self._squares = torch.zeros(n_groups, n_features, dtype=torch.float64)
        self._weights = torch.zeros(n_groups, dtype=torch.float64)
        self._counts = torch.zeros(n_groups, dtype=torch.int64)

    def update(self, Z: Tensor, e: Tensor, codes: Tensor, w: Tensor | None = None) -> GroupFisher:
        """Add a batch of rows and return itself; without weights each row counts 1.

        Rows of weight zero are none.
        """
        if w is not None and not bool((kept := w > 0).all()):
            Z, e, codes, w = (each[kept.to(each.device)] for each in (Z, e, codes, w))
        n_groups, n_features = self._squares.shape
        weight = torch.ones_like(e, dtype=torch.float64) if w is None else w.to(e.device).double()
        self._weights += torch.bincount(codes, weight, minlength=n_groups).cpu()
        self._counts += torch.bincount(codes, minlength=n_groups).cpu()
        rows = max(1, _BLOCK_ELEMENTS // max(1, n_features))
        energy = (e.double() * weight).to(Z.device)
        groups = torch.arange(n_groups, device=codes.device)[:, None]
        for start in range(0, len(Z), rows):
            block = slice(start, start + rows)
            masked = torch.where(codes[block] == groups, energy[block], 0.0)  # (G, rows)
            # In float64 before the sum: how a product adds up its terms, and so how much float32
            # would lose on the way, depends on the processor.
            self._squares += (masked @ Z[block].double().square()).cpu()
        return self

    def merge(self, other: GroupFisher) -> GroupFisher:
        """Add another accumulator's rows to this one's and return itself."""
        self._squares += other._squares
        self._weights += other._weights
        self._counts += other._counts
        return self

    def result(self) -> FisherStatistics:
        """Return the statistics so far, which later updates do not change."""
        return FisherStatistics(self._squares.clone(), self._weights.clone(), self._counts.clone())


def layer_fisher(
    rows: TensorRows,
    *,
    n_groups: int,
    layer: Callable[[Tensor], Tensor],
    tail: Callable[[Tensor], Tensor] | None = None,
) -> FisherStatistics:
    """Per-group Fisher statistics of a linear layer's weight matrix, summed over its columns.

    Parameters
    ----------
    rows : TensorRows
        Inputs of the layer, with labels, weights and groups; read block by block, in float64.
    n_groups : int
        Number of groups ``G``.
    layer : callable
        The linear layer, (n, d) -> (n, k0).
    tail : callable, optional
        What follows it, see `gradient_energy`.

    Examples
    --------
    >>> import torch
    >>> rows = TensorRows(torch.eye(2), torch.tensor([0, 1]), None, torch.tensor([0, 1]))
    >>> zero = torch.zeros(2, 2).double()
    >>> layer_fisher(rows, n_groups=2, layer=lambda Z: Z @ zero).fisher
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]], dtype=torch.float64)
    """
    assert rows.codes is not None

    def given(Z: Tensor, y: Tensor, codes: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        return Z, gradient_energy(layer(Z), y, tail), codes, w

    new = partial(GroupFisher, n_groups, rows.Z.shape[1])
    part = Part(new, (rows.y, rows.codes, rows.w), given)
    return fill(rows.Z, {"fisher": part})["fisher"].result()
