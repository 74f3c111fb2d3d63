"""Weighted means of cells of rows, of which other statistics are made.

A mean is held in two parts, ``shift + away``: a number near all features, which is the same for all
cells, and how far a cell's mean is from it. Their difference is what covariances and gaps between
groups are made of, and so a large offset of the features costs it no digits: the difference of two
shifts is rounded to its own size, not to theirs. All this in one pass, and after any merge.

Tensor layout, throughout the statistics:

=========== ========= ===========================================================================
``Z``       (n, d)    input of a layer, one row per sample
``cells``   (n,)      cell of each row, integers in 0..c-1: its group, or its true label and group
``w``       (n,)      sample weights; only their ratios matter, and a weight of zero is no row
=========== ========= ===========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Means", "counted"]


@dataclass(frozen=True)
class Means:
    """Weighted means of cells of rows.

    Parameters
    ----------
    weights : Tensor of shape (c,), float64
        Sum of the sample weights of each cell.
    shift : Tensor of shape (d,), float64
        Any numbers near the features.
    away : Tensor of shape (c, d), float64
        The mean of each cell minus the shift; zero where a cell has no rows.

    Examples
    --------
    >>> Means(torch.tensor([2.0, 0.0]), torch.tensor([5.0]), torch.tensor([[1.0], [0.0]])).means
    tensor([[6.],
            [nan]])
    """

    weights: Tensor
    shift: Tensor
    away: Tensor

    @classmethod
    def none(cls, n_cells: int, n_features: int) -> Means:
        """Return the means of no rows."""
        zeros = torch.zeros(n_cells + 1, n_features, dtype=torch.float64)
        return cls(torch.zeros(n_cells, dtype=torch.float64), zeros[0], zeros[1:])

    @property
    def means(self) -> Tensor:
        """The means, shape (c, d): NaN where a cell has no rows."""
        return torch.where(self.weights[:, None] > 0, self.shift + self.away, torch.nan)

    def joined(self, other: Means) -> tuple[Means, Tensor, Tensor]:
        """Return the means of the rows of both, and what statistics about them need [1]_.

        Returns
        -------
        means : Means
            Of the rows of both.
        share : Tensor of shape (c,), float64
            The other's share in the weight of each cell; 0 where it has no rows.
        step : Tensor of shape (c, d), float64
            The other's mean minus this one's. With ``f = share``, second moments about the means
            join to ``(1 - f) V + f V' + f (1 - f) step step^T``.

        References
        ----------
        .. [1] T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample
           variance", The American Statistician 37(3), 1983.

        Examples
        --------
        >>> one, zero = torch.ones(1).double(), torch.zeros(1, 1).double()
        >>> both, share, step = Means(one, 2 * one, zero).joined(Means(one, 6 * one, zero))
        >>> both.means.item(), share.item(), step.item()
        (4.0, 0.5, 4.0)
        """
        if not bool(self.weights.any()):
            # Not by arithmetic: the distance from no shift at all is as long as the offset.
            return other, (other.weights > 0).double(), other.away
        weights = self.weights + other.weights
        share = torch.where(weights > 0, other.weights / weights, 0.0)
        step = (other.shift - self.shift) + other.away - self.away
        return Means(weights, self.shift, self.away + share[:, None] * step), share, step


def counted(Z: Tensor, w: Tensor | None, *columns: Tensor) -> tuple[Tensor, ...]:
    """Return features and weights in float64, and columns, of the rows whose weight is not zero.

    No weights are 1 for each row; columns are tensors (n,) such as groups.

    Examples
    --------
    >>> counted(torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 3.0]), torch.tensor([0, 1]))
    (tensor([[2.]], dtype=torch.float64), tensor([3.], dtype=torch.float64), tensor([1]))
    """
    weight = torch.ones(len(Z)) if w is None else w
    tensors = [each.to(Z.device) for each in (Z.double(), weight.double(), *columns)]
    kept = tensors[1] > 0
    return tuple(tensors if bool(kept.all()) else (each[kept] for each in tensors))
