"""Mean and scale of each feature, in one pass over the rows."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..rows.blocks import Features
from .means import Means, counted
from .statistics import Part, fill

__all__ = ["ColumnMoments", "Moments", "column_moments"]

# A feature whose standard deviation is below this share of its largest magnitude is constant.
_CONSTANT = 1e-7


class Moments(NamedTuple):
    """Mean and scale of each feature; the frozen result of `ColumnMoments`.

    Parameters
    ----------
    mean, scale : Tensor of shape (d,), float64
        The scale is the standard deviation; that of a constant feature is its magnitude, or 1
        where that is 0.

    Examples
    --------
    >>> Moments(torch.tensor([3.0]), torch.tensor([4.0])).size
    tensor([5.])
    """

    mean: Tensor
    scale: Tensor

    @property
    def size(self) -> Tensor:
        """Root mean square of each feature, (d,): positive."""
        return (self.mean.square() + self.scale.square()).sqrt()


class ColumnMoments:
    """Accumulate mean, variance and largest magnitude of each feature.

    Each batch has a mean and a variance about it, which are joined as `Means.joined` says: one
    pass over the features is as accurate as two, whatever their offset and their order.

    Examples
    --------
    >>> moments = ColumnMoments(2).update(torch.tensor([[0.0, 5.0]]))
    >>> moments.merge(ColumnMoments(2).update(torch.tensor([[2.0, 5.0]]))).result()
    Moments(mean=tensor([1., 5.], dtype=torch.float64), scale=tensor([1., 5.], dtype=torch.float64))
    """

    def __init__(self, n_features: int) -> None:
        self._means = Means.none(1, n_features)
        self._variance = self._peak = torch.zeros(n_features, dtype=torch.float64)

    def update(self, Z: Tensor, w: Tensor | None = None) -> ColumnMoments:
        """Add a batch of rows and return itself; without weights each row counts 1."""
        Z, w = counted(Z, w)
        if not len(Z):
            return self
        total = w.sum()
        share = w / total
        shift = share @ Z
        X = Z - shift
        away = share @ X  # what the rounding of the shift has left of the mean
        variance = share @ X.square_()
        peak = torch.maximum(Z.amax(dim=0), -Z.amin(dim=0))
        means = Means(total[None].cpu(), shift.cpu(), away[None].cpu())
        return self._join(means, variance.cpu(), peak.cpu())

    def merge(self, other: ColumnMoments) -> ColumnMoments:
        """Add another accumulator's rows to this one's and return itself."""
        return self._join(other._means, other._variance, other._peak)

    def _join(self, means: Means, variance: Tensor, peak: Tensor) -> ColumnMoments:
        self._means, share, step = self._means.joined(means)
        between = (share * (1.0 - share))[:, None] * step.square()
        self._variance = self._variance.lerp(variance, share) + between[0]
        self._peak = torch.maximum(self._peak, peak)
        return self

    def result(self) -> Moments:
        """Return the moments so far, which later updates do not change; means of no row are NaN."""
        scale, peak = self._variance.sqrt(), self._peak
        # A constant feature minus its mean leaves the rounding of the mean: as large as the
        # feature.
        least = torch.where(peak > 0.0, peak, 1.0)
        return Moments(self._means.means[0], torch.where(scale > _CONSTANT * peak, scale, least))


def column_moments(Z: Features, w: Tensor) -> Moments:
    """Weighted mean and standard deviation of each feature (n, d) of rows of weights (n,).

    Examples
    --------
    >>> column_moments(torch.tensor([[0.0, 5.0], [2.0, 5.0]]), torch.ones(2)).mean
    tensor([1., 5.], dtype=torch.float64)
    """
    part = Part(partial(ColumnMoments, Z.shape[1]), (w,))
    return fill(Z, {"moments": part})["moments"].result()
