"""How the features differ between groups: the directions that linear parity is about.

Sums over rows in float64, of features minus a shift, block by block: the mean feature of each
true label and group, and the covariance of all. See `skfairft.lowrank.fisher` for
the tensors' layout.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..rows.blocks import map_blocks
from ..rows.mapped import Features, block_rows, block_slices
from .moments import Moments

__all__ = ["disparity_directions", "distinct_directions", "feature_covariance", "group_columns"]

# Means of groups that differ by less than this share of what chance makes are the same. In standard
# deviations chance makes 1 / sqrt(n); copies whose features are rounded, to float32 beside a large
# offset or to 16 bits, differ by 1e-3 of that.
_NO_DIFFERENCE = 0.03
# So many rows besides the first of each group make a coincidence unlikely, also of two values.
_LEAST_REPEATED = 20
# Rows that are looked at first.
_SCREENED = 256


def disparity_directions(
    Z: Features,
    y: Tensor,
    codes: Tensor,
    w: Tensor,
    conditions: Tensor,
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
    conditions : Tensor of shape (c, k), float64
        How much rows of each true label count in each event within which means are compared.
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
    >>> from skfairft.lowrank.moments import column_moments
    >>> Z, y, codes = torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 1])
    >>> w, any_label = torch.ones(2).double(), torch.ones(1, 2).double()
    >>> moments = column_moments(Z, w)
    >>> disparity_directions(Z, y, codes, w, any_label, n_groups=2, moments=moments)
    tensor([[ 0.5000, -0.5000],
            [-0.5000,  0.5000]], dtype=torch.float64)
    """
    n_classes, shift = conditions.shape[1], moments[0]
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
    for share in conditions:
        counts, totals = share @ count, torch.einsum("k,kgd->dg", share, total)
        there = counts > 0
        pooled = totals.sum(dim=1, keepdim=True) / counts.sum()
        columns.append(totals[:, there] / counts[there] - pooled)
    return torch.cat(columns, dim=1)


def distinct_directions(D: Tensor, scale: Tensor, n_rows: float) -> Tensor:
    """Return as many directions as there are, without those that are rounding errors.

    The groups' means minus the mean of all, each times its group's weight, add up to zero, so that
    there are always fewer directions than columns. Groups that are alike, such as counterfactual
    copies of each other or columns standardized within each group, have none.

    Parameters
    ----------
    D : Tensor of shape (d, p), float64
        `disparity_directions`.
    scale : Tensor of shape (d,), float64
        Positive scale of each feature, such as that of `column_moments`.
    n_rows : float
        `effective_rows` of the weights.

    Returns
    -------
    Tensor of shape (d, q), float64
        Of the same ``D D^T``, up to rounding.

    Examples
    --------
    >>> D = torch.tensor([[1.0, -1.0, 0.0], [1e-9, 0.0, 1e-9]]).double()
    >>> distinct_directions(D, torch.ones(2).double(), n_rows=100).abs().round(decimals=4)
    tensor([[1.4142],
            [0.0000]], dtype=torch.float64)
    """
    U, s, _ = torch.linalg.svd(D / scale[:, None], full_matrices=False)
    kept = s > _NO_DIFFERENCE / n_rows**0.5
    return scale[:, None] * (U[:, kept] * s[kept])


def group_columns(Z: Features, codes: Tensor) -> list[int]:
    """Return the features that are the group itself, or part of it, such as its dummy variable.

    Each has one value in each group, and not the same in all.

    Parameters
    ----------
    Z : Tensor or MappedFeatures of shape (n, d)
        Features.
    codes : Tensor of shape (n,), int64
        Encoded group of each row.

    Returns
    -------
    list of int
        Numbers of the features; none where most groups have a single row.

    Examples
    --------
    >>> codes = torch.arange(100) % 2
    >>> group_columns(torch.stack([torch.arange(100.0), 1.0 - 2.0 * codes], dim=1), codes)
    [1]
    """
    _, firsts, numbers = np.unique(codes.numpy(), return_index=True, return_inverse=True)
    first, group = torch.from_numpy(firsts), torch.from_numpy(numbers)
    if len(codes) < len(first) + _LEAST_REPEATED:
        return []
    values = torch.cat([Z[part] for part in first.split(block_rows(Z.shape[1]))])
    columns = torch.nonzero((values != values[:1]).any(dim=0))[:, 0]
    few = slice(0, min(_SCREENED, block_rows(Z.shape[1])))
    for rows in (few, *block_slices(Z)):  # few columns pass the first rows
        if not len(columns):
            break
        same = Z[rows][:, columns] == values[:, columns][group[rows]]
        columns = columns[same.all(dim=0)]
    return columns.tolist()


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
    >>> from skfairft.lowrank.moments import column_moments
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
