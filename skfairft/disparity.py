"""How the features differ between groups: the directions that linear parity is about.

Sums over rows in float64, of features minus a shift, block by block: the mean feature of each
true label and group, and the covariance of all. See `skfairft.fisher` for the tensors' layout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .constraints import Parity
from .initial import Moments
from .mapped import Features
from .parallel import map_blocks

__all__ = ["disparity_directions", "feature_covariance"]


def disparity_directions(
    Z: Features,
    y: Tensor,
    codes: Tensor,
    w: Tensor,
    parity: Parity,
    *,
    n_groups: int,
    moments: Moments,
) -> Tensor:
    """Return by how much each group's mean features differ from those of all groups.

    The mean score of a linear head ``M`` (d, k) differs between groups by ``D^T M``; where that is
    zero, no linear function of the scores has a mean that differs between them.

    Parameters
    ----------
    Z : Tensor or MappedFeatures of shape (n, d)
        Features.
    y, codes : Tensor of shape (n,), int64
        Encoded label and group of each row.
    w : Tensor of shape (n,), float64
        Sample weights.
    parity : Parity
        Whose conditions say of which true labels the rows count.
    n_groups : int
        Number of groups G.
    moments : tuple of Tensors of shape (d,), float64
        `column_moments` of the features; the mean is subtracted, so that a large offset of the
        features costs no digits.

    Returns
    -------
    D : Tensor of shape (d, q), float64
        One column for each event and, within it, each group. A group without rows in an event
        has none there.

    Examples
    --------
    >>> from skfairft.constraints import parity
    >>> from skfairft.initial import column_moments
    >>> Z, y, codes = torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 1])
    >>> w, any_label = torch.ones(2).double(), parity("demographic_parity", 2)
    >>> moments = column_moments(Z, w)
    >>> disparity_directions(Z, y, codes, w, any_label, n_groups=2, moments=moments)
    tensor([[ 0.5000, -0.5000],
            [-0.5000,  0.5000]], dtype=torch.float64)
    """
    n_classes, shift = parity.events.shape[1], moments[0]
    cells = y * n_groups + codes
    total = torch.zeros(n_classes * n_groups, len(shift), dtype=torch.float64)

    def part(rows: slice, block: Tensor) -> Tensor:
        away = (block - shift).mul_(w[rows, None])
        return torch.zeros_like(total).index_add_(0, cells[rows], away)

    for block_total in map_blocks(part, Z):
        total += block_total
    count = torch.bincount(cells, w, minlength=len(total)).reshape(n_classes, n_groups)
    total = total.reshape(n_classes, n_groups, -1)

    columns = [torch.zeros(len(shift), 0, dtype=torch.float64)]
    for share in parity.conditions:
        counts, totals = share @ count, torch.einsum("k,kgd->dg", share, total)
        there = counts > 0
        pooled = totals.sum(dim=1, keepdim=True) / counts.sum()
        columns.append(totals[:, there] / counts[there] - pooled)
    return torch.cat(columns, dim=1)


def feature_covariance(Z: Features, w: Tensor, moments: Moments) -> Tensor:
    """Return the weighted covariance of the features.

    Parameters
    ----------
    Z : Tensor or MappedFeatures of shape (n, d)
        Features.
    w : Tensor of shape (n,), float64
        Sample weights.
    moments : tuple of Tensors of shape (d,), float64
        `column_moments` of the features.

    Returns
    -------
    Tensor of shape (d, d), float64
        ``sum_i w_i (z_i - mean) (z_i - mean)^T / sum_i w_i``.

    Examples
    --------
    >>> from skfairft.initial import column_moments
    >>> Z, w = torch.tensor([[0.0, 5.0], [2.0, 5.0]]), torch.ones(2).double()
    >>> feature_covariance(Z, w, column_moments(Z, w))
    tensor([[1., 0.],
            [0., 0.]], dtype=torch.float64)
    """
    mean = moments[0]
    share = w / w.sum()

    def part(rows: slice, block: Tensor) -> Tensor:
        away = block - mean
        return away.T @ (away * share[rows, None])

    total = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for block_total in map_blocks(part, Z):
        total += block_total
    return total
