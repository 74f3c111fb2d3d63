"""Loss, gradient and table of all rows at once, summed where their features lie."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..parity.penalty import probabilities, weighed_mass
from ..parity.sums import mass_table
from ..rows.blocks import reduce_blocks
from ..rows.tensor_rows import TensorRows
from .objective import added

__all__ = ["loss_and_gradient", "loss_and_mass"]


def loss_and_mass(
    module: nn.Module,
    rows: TensorRows,
    *,
    n_groups: int | None = None,
    summed: Callable[[Tensor], Tensor] = probabilities,
) -> tuple[Tensor, Tensor | None]:
    """Return the mean weighted cross-entropy of a linear head, and the table of its probabilities.

    Parameters
    ----------
    module : nn.Module
        Maps features (m, d) to logits (m, k), each row by itself.
    rows : TensorRows
        All rows, with their groups where there is a number of these.
    n_groups : int, optional
        Number of groups G; None makes no table.
    summed : callable, default=probabilities
        What of the logits the table sums, see `ParityPenalty.summed`.

    Returns
    -------
    loss : Tensor
        Of one number.
    mass : Tensor of shape (k, G, k), or None
        As `mass_table` returns it.

    Examples
    --------
    >>> rows = TensorRows(torch.zeros(2, 3).double(), torch.tensor([0, 1]))
    >>> loss_and_mass(nn.Linear(3, 2, bias=False).double(), rows)
    (tensor(0.6931, dtype=torch.float64), None)
    """
    part = partial(_loss_and_mass, module, n_groups, summed)
    loss, *mass = reduce_blocks(part, added, rows.Z, rows.y, rows.w, rows.codes) or []
    return loss / len(rows), mass[0] if mass else None


def loss_and_gradient(
    module: nn.Module,
    rows: TensorRows,
    slope: Tensor | None = None,
    summed: Callable[[Tensor], Tensor] = probabilities,
) -> tuple[Tensor, list[Tensor]]:
    """Return the mean weighted cross-entropy of a linear head, and the gradient of its parameters.

    Parameters
    ----------
    module, rows
        As for `loss_and_mass`.
    slope : Tensor of shape (k, G, k), optional
        The gradient is that of the loss and of a penalty, see `ParityPenalty.slope`.
    summed : callable, default=probabilities
        As for `loss_and_mass`.

    Returns
    -------
    loss : Tensor
        Of one number, without the penalty.
    gradient : list of Tensor
        In the order of the parameters.

    Examples
    --------
    >>> rows = TensorRows(torch.ones(1, 1).double(), torch.tensor([1]))
    >>> module = nn.Linear(1, 2, bias=False).double()
    >>> _ = nn.init.zeros_(module.weight)
    >>> loss_and_gradient(module, rows)[1][0].tolist()
    [[0.5], [-0.5]]
    """
    part = partial(_loss_and_gradient, module, slope, summed, len(rows))
    loss, *gradient = reduce_blocks(part, added, rows.Z, rows.y, rows.w, rows.codes) or []
    return loss, gradient


def _loss_and_mass(
    module: nn.Module,
    n_groups: int | None,
    summed: Callable[[Tensor], Tensor],
    block: Tensor,
    y: Tensor,
    w: Tensor,
    codes: Tensor | None,
) -> list[Tensor]:
    with torch.no_grad():
        logits = module(block)
        found = [w @ F.cross_entropy(logits, y, reduction="none")]
        if n_groups is not None:
            rows = TensorRows(block, y, w, codes)
            found.append(mass_table(summed(logits), rows, n_groups=n_groups)[0])
    return found


def _loss_and_gradient(
    module: nn.Module,
    slope: Tensor | None,
    summed: Callable[[Tensor], Tensor],
    n_rows: int,
    block: Tensor,
    y: Tensor,
    w: Tensor,
    codes: Tensor | None,
) -> list[Tensor]:
    with torch.enable_grad():
        logits = module(block)
        loss = w @ F.cross_entropy(logits, y, reduction="none") / n_rows
        total = loss
        if slope is not None:
            rows = TensorRows(block, y, w, codes)
            total = loss + weighed_mass(summed(logits), rows, slope)
        # Not backward: threads would add to the same gradients.
        gradient = torch.autograd.grad(total, [*module.parameters()])
        return [loss.detach(), *(each.contiguous() for each in gradient)]
