"""How the features differ between groups: the directions that linear parity is about.

They come from the mean features of each true label and group; see `skfairft.lowrank.means` for
the tensors' layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..rows.blocks import Features, reduce_blocks
from ..rows.mapped import block_rows
from .means import Means, counted

__all__ = ["CellMeans", "CellStatistics", "distinct_directions", "group_columns"]

# Means of groups that differ by less than this share of what chance makes are the same. In standard
# deviations chance makes 1 / sqrt(n); copies whose features are rounded, to float32 beside a large
# offset or to 16 bits, differ by 1e-3 of that.
_NO_DIFFERENCE = 0.03
# So many rows besides the first of each group make a coincidence unlikely, also of two values.
_LEAST_REPEATED = 20
# Rows that are looked at first.
_SCREENED = 256


@dataclass(frozen=True)
class CellStatistics:
    """Weight and mean features of each true label and group; the frozen result of `CellMeans`.

    Parameters
    ----------
    cells : Means
        Of k times G cells, those of a label side by side.
    n_groups : int
        Number of groups G.
    """

    cells: Means
    n_groups: int

    @property
    def weights(self) -> Tensor:
        """Sum of the sample weights of each cell, shape (k, G)."""
        return self.cells.weights.reshape(-1, self.n_groups)

    @property
    def means(self) -> Tensor:
        """Mean features of each cell, shape (k, G, d): NaN where it has no rows."""
        return self.cells.means.unflatten(0, (-1, self.n_groups))

    def directions(self, conditions: Tensor, member: Tensor | None = None) -> Tensor:
        """Return by how much each group's mean features differ from those of all groups.

        The mean score of a linear head ``M`` (d, k0) differs between groups by ``D^T M``; where
        that is zero, no linear function of the scores has a mean that differs between them.

        Parameters
        ----------
        conditions : Tensor of shape (c, k), float64
            How much rows of each true label count in each event within which means are compared.
        member : Tensor of shape (x, L, G), float64, optional
            Which groups are in each of L unions, in x ways to divide them, within each of which the
            unions' means are compared. None is each group by itself.

        Returns
        -------
        D : Tensor of shape (d, q), float64
            One column for each event and, within it, each group, or union. One without rows in an
            event has none there.

        Examples
        --------
        >>> y, codes = torch.tensor([0, 1]), torch.tensor([0, 1])
        >>> cells = CellMeans(n_labels=2, n_groups=2, n_features=2).update(torch.eye(2), y, codes)
        >>> cells.result().directions(torch.ones(1, 2).double())
        tensor([[ 0.5000, -0.5000],
                [-0.5000,  0.5000]], dtype=torch.float64)
        """
        away = self.cells.away.unflatten(0, (-1, self.n_groups))
        columns = [away.new_zeros(away.shape[2], 0)]
        for condition in conditions:
            weights = condition[:, None] * self.weights  # (k, G)
            weights = weights / weights.sum()
            sums = torch.einsum("kg,kgd->gd", weights, away), weights.sum(dim=0)
            for own in [None] if member is None else member:
                total, counts = sums if own is None else (own @ sums[0], own @ sums[1])
                there = counts > 0
                means = (total[there] / counts[there, None]).T
                columns.append(means - means @ (counts[there] / counts[there].sum())[:, None])
        return torch.cat(columns, dim=1)


class CellMeans:
    """Accumulate the mean features of each true label and group.

    Examples
    --------
    >>> Z, y, codes = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), torch.tensor([1, 1])
    >>> CellMeans(1, 2, 1).update(Z, y, codes).result().means.flatten()
    tensor([nan, 2.], dtype=torch.float64)
    """

    def __init__(self, n_labels: int, n_groups: int, n_features: int) -> None:
        self._n_groups = n_groups
        self._means = Means.none(n_labels * n_groups, n_features)

    def update(self, Z: Tensor, y: Tensor, codes: Tensor, w: Tensor | None = None) -> CellMeans:
        """Add a batch of rows and return itself; without weights each row counts 1."""
        Z, w, cells = counted(Z, w, y * self._n_groups + codes)
        if not len(Z):
            return self
        shift = (w / w.sum()) @ Z
        weights = torch.bincount(cells, w, minlength=len(self._means.weights))
        X = (Z - shift).mul_((w / weights[cells])[:, None])
        away = X.new_zeros(self._means.away.shape).index_add_(0, cells, X)
        self._means, *_ = self._means.joined(Means(weights.cpu(), shift.cpu(), away.cpu()))
        return self

    def merge(self, other: CellMeans) -> CellMeans:
        """Add another accumulator's rows to this one's and return itself."""
        self._means, *_ = self._means.joined(other._means)
        return self

    def result(self) -> CellStatistics:
        """Return the means so far, which later updates do not change."""
        return CellStatistics(self._means, self._n_groups)


def distinct_directions(D: Tensor, scale: Tensor, n_rows: float) -> Tensor:
    """Return as many directions as there are, without those that are rounding errors.

    The groups' means minus the mean of all, each times its group's weight, add up to zero, so that
    there are always fewer directions than columns. Groups that are alike, such as counterfactual
    copies of each other or columns standardized within each group, have none.

    ``D`` (d, p) comes from `CellStatistics.directions`, the positive ``scale`` (d,) of the features
    from `column_moments`, ``n_rows`` from `effective_rows`. What is returned, (d, q), has the same
    ``D D^T``, up to rounding.

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
    """Return the numbers of the features that are the group itself, or part of it, as its dummy is.

    Each has one value in each group, and not the same in all. None where most groups have a single
    row. ``codes`` (n,) are the rows' groups.

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
    values = torch.cat([Z[part] for part in first.split(block_rows(Z.shape[1]))]).double()
    columns = torch.nonzero((values != values[:1]).any(dim=0))[:, 0]
    few = slice(0, min(_SCREENED, block_rows(Z.shape[1])))
    columns = columns[_of_group(Z[few].double(), group[few], values, columns)]
    if len(columns):  # which few pass
        same = partial(_of_group, values=values, columns=columns)
        found = reduce_blocks(same, torch.logical_and, Z, group)
        assert found is not None
        columns = columns[found]
    return columns.tolist()


def _of_group(block: Tensor, group: Tensor, values: Tensor, columns: Tensor) -> Tensor:
    """Tell which columns have the value of the row's group in all rows."""
    return (block[:, columns] == values[:, columns][group]).all(dim=0)
