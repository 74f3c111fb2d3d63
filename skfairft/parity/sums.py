"""The tables of sums over rows that moments are functions of, see `skfairft.parity.moments`."""

from __future__ import annotations

from torch import Tensor

from ..rows.tensor_rows import TensorRows

__all__ = ["cell_counts", "mass_table"]


def mass_table(p: Tensor, rows: TensorRows, *, n_groups: int) -> tuple[Tensor, Tensor]:
    """Sum predictions and weights by true label and group.

    Parameters
    ----------
    p : Tensor of shape (n, k), float64
        Probabilities, or one-hot decisions.
    rows : TensorRows
        Labels, weights and groups of the same rows.
    n_groups : int
        Number of groups G.

    Returns
    -------
    mass : Tensor of shape (k, G, k), float64
        Differentiable in ``p``.
    count : Tensor of shape (k, G), float64
        As `cell_counts`.
    """
    k = p.shape[1]
    cells, w = rows.cells(n_groups), rows.w
    mass = p.new_zeros(k * n_groups, k).index_add(0, cells, p * w[:, None])
    count = w.new_zeros(k * n_groups).index_add(0, cells, w)
    return mass.reshape(k, n_groups, k), count.reshape(k, n_groups)


def cell_counts(rows: TensorRows, *, n_classes: int, n_groups: int) -> Tensor:
    """Sum weights by true label and group, (k, G): zero where there is no such row.

    Examples
    --------
    >>> import torch
    >>> y, w = torch.tensor([0, 1, 1]), torch.tensor([1.0, 2.0, 3.0])
    >>> cell_counts(TensorRows(torch.zeros(3, 1), y, w, y), n_classes=2, n_groups=2)
    tensor([[1., 0.],
            [0., 5.]])
    """
    count = rows.w.new_zeros(n_classes * n_groups).index_add(0, rows.cells(n_groups), rows.w)
    return count.reshape(n_classes, n_groups)
