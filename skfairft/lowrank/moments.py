"""Mean and scale of each feature, in one pass over the rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rows.blocks import map_blocks
from ..rows.mapped import Features

__all__ = ["Moments", "column_moments"]

# A feature whose standard deviation is below this share of its largest magnitude is constant.
_CONSTANT = 1e-7

Moments = tuple[Tensor, Tensor]


def column_moments(Z: Features, w: Tensor) -> Moments:
    """Weighted mean and standard deviation of each feature, in float64.

    Each block has a mean and a sum of squares about it; these are merged as in [1]_, so that one
    pass over the features is as accurate as two.

    Parameters
    ----------
    Z : Tensor or MappedFeatures of shape (n, d)
        Features.
    w : Tensor of shape (n,), float64
        Sample weights.

    Returns
    -------
    mean, scale : Tensor of shape (d,), float64
        The scale of a constant feature is its magnitude, or 1 where that is 0.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample
       variance", The American Statistician 37(3), 1983.

    Examples
    --------
    >>> import torch
    >>> column_moments(torch.tensor([[0.0, 5.0], [2.0, 5.0]]), torch.ones(2).double())
    (tensor([1., 5.], dtype=torch.float64), tensor([1., 5.], dtype=torch.float64))
    """
    share = w / w.sum()
    seen = 0.0
    mean, square, peak = (torch.zeros(Z.shape[1], dtype=torch.float64) for _ in range(3))

    def part(rows: slice, block: Tensor) -> tuple[float, Tensor, Tensor, Tensor] | None:
        weight = share[rows]
        # Rows of weight zero count for nothing, in the peak either.
        if not bool(weight.all()):
            block, weight = block[weight > 0], weight[weight > 0]
        if not len(weight):
            return None
        total = float(weight.sum())
        block_mean = weight @ block / total
        block_square = weight @ (block - block_mean).square_()
        return total, block_mean, block_square, torch.linalg.vector_norm(block, torch.inf, dim=0)

    for moments in map_blocks(part, Z):
        if moments is None:
            continue
        total, block_mean, block_square, block_peak = moments
        away = block_mean - mean
        square += block_square + away.square() * (seen * total / (seen + total))
        seen += total
        mean += away * (total / seen)
        peak = torch.maximum(peak, block_peak)
    scale = square.sqrt()
    # A constant feature minus its mean leaves the rounding of the mean: as large as the feature.
    return mean, torch.where(scale > _CONSTANT * peak, scale, torch.where(peak > 0.0, peak, 1.0))
