"""Covariance of a layer's inputs, group by group; see `skfairft.lowrank.means` for the layout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .means import Means, counted

__all__ = ["CovarianceStatistics", "GroupCovariance"]


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

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return self.means.nbytes + self.covariances.nbytes

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
        within = torch.einsum("g,gij->ij", shares, self.covariances)
        return within + gaps.T @ (gaps * shares[:, None])


class GroupCovariance:
    """Accumulate the covariance of a layer's inputs, group by group.

    It holds as many (d, d) matrices as groups have come.

    Parameters
    ----------
    n_groups : int
        Number of groups G.
    n_features : int
        Width d of the layer's input.

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
        """Add a batch of rows and return itself.

        Parameters
        ----------
        Z : Tensor of shape (n, d)
            Inputs of the layer.
        codes : Tensor of shape (n,), int64
            Group of each row.
        w : Tensor of shape (n,), optional
            Sample weights; None means 1 for each row. Rows of weight zero count for nothing.
        """
        Z, w, codes = counted(Z, w, codes)
        if not len(Z):
            return self
        shift = (w / w.sum()) @ Z
        weights = torch.bincount(codes, w, minlength=len(self._means.weights))
        away = Z.new_zeros(self._means.away.shape)
        covariances = {}
        for group in torch.unique(codes).tolist():
            own = codes == group
            share = w[own] / weights[group]
            rows = Z[own].sub_(shift)
            away[group] = share @ rows
            rows -= away[group]
            covariances[group] = (rows.T @ (rows * share[:, None])).cpu()
        return self._join(Means(weights.cpu(), shift.cpu(), away.cpu()), covariances)

    def merge(self, other: GroupCovariance) -> GroupCovariance:
        """Add another accumulator's rows to this one's and return itself."""
        new = {g: C.clone() for g, C in other._covariances.items() if g not in self._covariances}
        return self._join(other._means, other._covariances | new)

    def _join(self, means: Means, covariances: dict[int, Tensor]) -> GroupCovariance:
        """Join statistics whose matrices are kept where a group is new."""
        self._means, share, step = self._means.joined(means)
        for group, covariance in covariances.items():
            own = self._covariances.setdefault(group, covariance)
            if own is not covariance:
                f = float(share[group])
                own.lerp_(covariance, f).addr_(step[group], step[group], alpha=f * (1.0 - f))
        return self

    def result(self) -> CovarianceStatistics:
        """Return the statistics so far, which later updates do not change."""
        n_groups, d = self._means.away.shape
        covariances = torch.zeros(n_groups, d, d, dtype=torch.float64)
        for group, covariance in self._covariances.items():
            covariances[group] = covariance
        return CovarianceStatistics(self._means, covariances)
