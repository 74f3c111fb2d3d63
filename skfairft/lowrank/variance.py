"""Variance of each feature of a layer's inputs, by group; see `skfairft.lowrank.means`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .means import Means, counted

__all__ = ["GroupVariance", "VarianceStatistics"]


@dataclass(frozen=True)
class VarianceStatistics:
    """Mean and variance of each feature in each group; the frozen result of `GroupVariance`.

    Parameters
    ----------
    means : Means
        Weight and mean of each of G groups.
    variances : Tensor of shape (G, d), float64
        Of each group about its own mean; zero where a group has no rows.
    """

    means: Means
    variances: Tensor

    def variance(self, shares: Tensor) -> Tensor:
        """Return the variance (d,) of each feature about the mean that the groups have together.

        The shares (G,) say how much each group counts; their sum is 1.
        """
        centre = shares @ self.means.away
        return shares @ (self.variances + (self.means.away - centre).square())


class GroupVariance:
    """Accumulate mean and variance of each feature, group by group.

    Examples
    --------
    >>> Z, codes = torch.tensor([[0.0], [2.0], [7.0]]), torch.tensor([0, 0, 1])
    >>> found = GroupVariance(2, 1).update(Z, codes)
    >>> found.merge(GroupVariance(2, 1).update(Z + 1.0, codes)).result().variances
    tensor([[1.2500],
            [0.2500]], dtype=torch.float64)
    """

    def __init__(self, n_groups: int, n_features: int) -> None:
        self._means = Means.none(n_groups, n_features)
        self._variances = torch.zeros(n_groups, n_features, dtype=torch.float64)

    def update(self, Z: Tensor, codes: Tensor, w: Tensor | None = None) -> GroupVariance:
        """Add a batch of rows and return itself; without weights each row counts 1."""
        Z, w, codes = counted(Z, w, codes)
        if not len(Z):
            return self
        shift = (w / w.sum()) @ Z
        X = Z - shift
        weights = torch.bincount(codes, w, minlength=len(self._means.weights))
        share = (w / weights[codes])[:, None]
        zeros = X.new_zeros(self._variances.shape)
        away = zeros.index_add(0, codes, share * X)
        variances = zeros.index_add(0, codes, share * (X - away[codes]).square())
        return self._join(Means(weights.cpu(), shift.cpu(), away.cpu()), variances.cpu())

    def merge(self, other: GroupVariance) -> GroupVariance:
        """Add another accumulator's rows to this one's and return itself."""
        return self._join(other._means, other._variances)

    def _join(self, means: Means, variances: Tensor) -> GroupVariance:
        self._means, share, step = self._means.joined(means)
        f = share[:, None]
        self._variances = self._variances.lerp(variances, f) + f * (1.0 - f) * step.square()
        return self

    def result(self) -> VarianceStatistics:
        """Return the statistics so far, which later updates do not change."""
        return VarianceStatistics(self._means, self._variances)
