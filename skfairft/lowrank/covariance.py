"""Covariance of a layer's inputs, group by group; see `skfairft.lowrank.means` for the layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .means import Means, counted
from .variance import VarianceStatistics

__all__ = ["CovarianceStatistics", "GroupCovariance"]

# A covariance is symmetric: of what is below its diagonal, only what is this near is computed.
_PANEL = 256


@dataclass(frozen=True)
class CovarianceStatistics:
    """Mean and covariance of each group; the frozen result of `GroupCovariance`.

    Parameters
    ----------
    means : Means
        Weight and mean of each of G groups.
    covariances : Tensor of shape (G, d, d), float64
        Of each group about its own mean; zero where a group has no rows.
    """

    means: Means
    covariances: Tensor

    def variance(self, shares: Tensor) -> Tensor:
        """Return the variance (d,) of each feature about the mean that the groups have together.

        As `about_mean`'s, the shares (G,) say how much each group counts.
        """
        own = self.covariances.diagonal(dim1=1, dim2=2)
        return VarianceStatistics(self.means, own).variance(shares)

    def about_mean(self, shares: Tensor) -> Tensor:
        """Return the weighted mean of the groups' second moments about the mean of all rows.

        Parameters
        ----------
        shares : Tensor of shape (G,), float64
            How much each group counts, ``w_g`` of Eq. 2; of groups with rows, at least one is
            positive. With the groups' own weights it is the covariance of all rows.

        Returns
        -------
        Tensor of shape (d, d), float64
            ``sum_g w_g C_g / sum_g w_g`` with ``C_g`` the mean over the rows of group g of
            ``(z - mean) (z - mean)^T``, over the groups that have rows.

        Examples
        --------
        >>> Z, codes = torch.tensor([[0.0], [2.0], [6.0], [8.0]]), torch.tensor([0, 0, 1, 1])
        >>> found = GroupCovariance(2, 1).update(Z, codes).result()
        >>> found.covariances.flatten().tolist()
        [1.0, 1.0]
        >>> found.about_mean(torch.tensor([0.5, 0.5]).double()).item(), Z.var(correction=0).item()
        (10.0, 10.0)
        """
        weights = self.means.weights
        shares = torch.where(weights > 0, shares.to(weights), 0.0)
        shares = shares / shares.sum()
        gaps = self.means.away - (weights / weights.sum()) @ self.means.away
        within = (shares @ self.covariances.flatten(1)).reshape(self.covariances.shape[1:])
        return within + gaps.T @ (gaps * shares[:, None])


class GroupCovariance:
    """Accumulate the covariance of a layer's inputs, group by group.

    It holds as many (d, d) matrices as groups have come.

    Examples
    --------
    >>> Z, codes = torch.tensor([[0.0], [2.0], [7.0]]), torch.tensor([0, 0, 1])
    >>> covariance = GroupCovariance(2, 1).update(Z, codes)
    >>> covariance.merge(GroupCovariance(2, 1).update(Z + 1.0, codes)).result().covariances
    tensor([[[1.2500]],
    <BLANKLINE>
            [[0.2500]]], dtype=torch.float64)
    """

    def __init__(self, n_groups: int, n_features: int) -> None:
        self._means = Means.none(n_groups, n_features)
        self._covariances: dict[int, Tensor] = {}

    def update(self, Z: Tensor, codes: Tensor, w: Tensor | None = None) -> GroupCovariance:
        """Add a batch of rows and return itself; without weights each row counts 1."""
        Z, w, codes = counted(Z, w, codes)
        if not len(Z):
            return self
        shift = (w / w.sum()) @ Z
        weights = torch.bincount(codes, w, minlength=len(self._means.weights))
        away = Z.new_zeros(self._means.away.shape)
        centred = {}
        for group in torch.unique(codes).tolist():
            own = codes == group
            share = w[own] / weights[group]
            rows = Z[own].sub_(shift)
            away[group] = share @ rows
            rows -= away[group]
            centred[group] = rows, share
        means, shares, step = self._means.joined(Means(weights.cpu(), shift.cpu(), away.cpu()))
        for group, (rows, share) in centred.items():
            f = float(shares[group])
            # The distance of the means is one row more: all in one product, in place.
            rows = torch.cat([rows, step[group, None].to(rows)])
            self._add(group, rows, torch.cat([f * share, share.new_tensor([f * (1.0 - f)])]), f)
        self._means = means
        return self

    def _add(self, group: int, rows: Tensor, share: Tensor, f: float) -> None:
        """Replace a group's matrix C by ``(1 - f) C + rows^T diag(share) rows``."""
        d = rows.shape[1]
        if group not in self._covariances:
            self._covariances[group] = torch.zeros(d, d, dtype=torch.float64)
        own, left, right = self._covariances[group], rows.T, rows * share[:, None]
        for i, j in _panels(d):
            if rows.is_cpu:
                own[i, j].addmm_(left[i], right[:, j], beta=1.0 - f)
            else:
                own[i, j].mul_(1.0 - f).add_((left[i] @ right[:, j]).cpu())

    def merge(self, other: GroupCovariance) -> GroupCovariance:
        """Add another accumulator's rows to this one's and return itself."""
        self._means, shares, step = self._means.joined(other._means)
        for group, covariance in other._covariances.items():
            own = self._covariances.get(group)
            if own is None:
                self._covariances[group] = covariance.clone()
                continue
            f, between = float(shares[group]), step[group]
            for i, j in _panels(len(own)):
                own[i, j].lerp_(covariance[i, j], f)
                own[i, j].addr_(between[i], between[j], alpha=f * (1.0 - f))
        return self

    def result(self) -> CovarianceStatistics:
        """Return the statistics so far, which later updates do not change."""
        n_groups, d = self._means.away.shape
        covariances = torch.empty(n_groups, d, d, dtype=torch.float64)
        for group, out in enumerate(covariances):
            own = self._covariances.get(group)
            if own is None:
                out.zero_()
                continue
            for i, j in _panels(d):
                out[j, i], out[i, j] = own[i, j].T, own[i, j]
                out[i, i] = 0.5 * (own[i, i] + own[i, i].T)  # whose halves are rounded apart
        return CovarianceStatistics(self._means, covariances)


def _panels(d: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of panels that hold the upper half of a (d, d) matrix."""
    for start in range(0, d, _PANEL):
        yield slice(start, start + _PANEL), slice(start, d)
