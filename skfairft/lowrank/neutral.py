"""The cut of a layer that is best for the groups: a fair principal component analysis of outputs.

With ``C_g`` the second moments of a layer's inputs in group g, the outputs of a cut ``M`` of the
weights ``W`` differ there by ``||C_g^1/2 (W - M)||^2`` in the mean. Weighted over the groups, that
is least for ``M = W P``, P the projection on the top eigenvectors of ``sum_g w_g W^T C_g W``: so
groups come in as small matrices ``A_g = W^T C_g W`` of the outputs alone, and the choice of P is
fair PCA [1]_. The worst group's difference is least, by duality, for the weights whose best cut is
worst.

References
----------
.. [1] S. Samadi, U. Tantipongpipat, J. Morgenstern, M. Singh and S. Vempala, "The price of fair
   PCA: one extra dimension", NeurIPS 2018; U. Tantipongpipat, S. Samadi, M. Singh,
   J. Morgenstern and S. Vempala, "Multi-criteria dimensionality reduction with applications to
   fairness", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.optimize import linprog, minimize_scalar
from torch import Tensor

__all__ = ["NeutralCut", "minimax_cut", "weighted_cut"]

# The search for the weights of two groups ends where their losses are alike to a share of all that
# there is, or where the weights are alike to so much; the rotation where halving does.
_LOSSES_TOL, _SHARES_TOL, _HALVINGS = 1e-14, 1e-15, 60
# Cutting planes end where bound and value agree to this share.
_PLANES, _PLANES_TOL = 200, 1e-9


class NeutralCut(NamedTuple):
    """A projection of a layer's outputs, and what it costs each group.

    Parameters
    ----------
    V : Tensor of shape (k, r), float64
        Orthonormal; the cut of weights W (d, k) is ``W V V^T``.
    losses : Tensor of shape (G,), float64
        ``||C_g^1/2 (W - W V V^T)||^2`` of each group.
    shares : Tensor of shape (G,), float64
        Weights of the groups under which the cut is the best one. Where others are as good, those
        that `weighted_cut` makes of these weights are the best for the group that loses most.
    bound : float
        A value below which no cut of this rank brings the largest loss.
    """

    V: Tensor
    losses: Tensor
    shares: Tensor
    bound: float


def weighted_cut(moments: Tensor, rank: int, shares: Tensor) -> NeutralCut:
    """Return the cut that changes the outputs least, weighted over the groups.

    Parameters
    ----------
    moments : Tensor of shape (G, k, k), float64
        ``W^T C_g W`` of each group: symmetric, positive semidefinite.
    rank : int
        1 to k.
    shares : Tensor of shape (G,), float64
        Non-negative, with sum 1.

    Examples
    --------
    >>> moments = torch.stack([torch.diag(torch.tensor([4.0, 1.0])), torch.eye(2)]).double()
    >>> cut = weighted_cut(moments, 1, torch.tensor([0.5, 0.5]).double())
    >>> cut.losses
    tensor([1., 1.], dtype=torch.float64)
    """
    mean = torch.einsum("g,gij->ij", shares, moments)
    kept = [len(mean) - rank, len(mean) - 1]
    # Of a few eigenvectors of many this takes a third of the time.
    values, vectors = eigh(mean.numpy(), subset_by_index=kept, check_finite=False)
    V = torch.from_numpy(vectors).flip(1).contiguous()
    bound = float(mean.diagonal().sum()) - float(values.sum())
    return NeutralCut(V, _losses(moments, V), shares, max(0.0, bound))


def minimax_cut(moments: Tensor, rank: int) -> NeutralCut:
    """Return the cut whose largest loss over the groups is least.

    For two groups it is exact: bisection on their weights, and where eigenvalues tie there, a
    rotation between the cuts on both sides, all of which are best for these weights. For more it
    is the best cut that cutting planes come by, whose largest loss is never above that of equal
    weights; `NeutralCut.bound` tells how far it may be from the least.

    Parameters
    ----------
    moments, rank
        As for `weighted_cut`.

    Examples
    --------
    >>> moments = torch.stack([torch.diag(torch.tensor([4.0, 0.0, 1.0])),
    ...                        torch.diag(torch.tensor([0.0, 2.0, 1.0]))]).double()
    >>> cut = minimax_cut(moments, 1)
    >>> cut.losses.round(decimals=6), round(cut.bound, 6)
    (tensor([2.3333, 2.3333], dtype=torch.float64), 2.333333)
    """
    n_groups = len(moments)
    equal = weighted_cut(moments, rank, torch.full((n_groups,), 1.0 / n_groups).double())
    # The mean of the losses: if that is all of the largest, as where nothing is lost, no other
    # weights do better, and rounding must not choose among them.
    if _largest(equal) - equal.bound <= _alike(moments):
        return equal
    return _of_two(moments, rank) if n_groups == 2 else _of_several(moments, rank, equal)


def _alike(moments: Tensor) -> float:
    """Return by how much losses differ through rounding."""
    eps = torch.finfo(torch.float64).eps
    share = max(_LOSSES_TOL, len(moments[0]) * eps)
    return share * float(moments.diagonal(dim1=1, dim2=2).sum(1).max())


def _losses(moments: Tensor, V: Tensor) -> Tensor:
    kept = torch.einsum("kr,gkl,lr->g", V, moments, V)
    return (moments.diagonal(dim1=1, dim2=2).sum(1) - kept).clamp_min(0.0)


def _of_two(moments: Tensor, rank: int) -> NeutralCut:
    def at(share: float) -> NeutralCut:
        return weighted_cut(moments, rank, torch.tensor([1.0 - share, share], dtype=torch.float64))

    def gap(cut: NeutralCut) -> float:
        return float(cut.losses[1] - cut.losses[0])

    # The more the second group counts, the less it loses beside the first.
    low, high, left, right = 0.0, 1.0, at(0.0), at(1.0)
    if gap(left) <= 0.0 or gap(right) >= 0.0:
        return left if gap(left) <= 0.0 else right
    alike = _alike(moments)
    for step in count():
        # Where the line between both ends meets zero, and the middle now and then: at a tie the gap
        # jumps, and lines alone would creep.
        slope = gap(left) - gap(right)
        middle = low + (high - low) * (0.5 if step % 3 == 2 else gap(left) / slope)
        cut = at(middle)
        if abs(gap(cut)) <= alike:
            return cut
        if gap(cut) > 0.0:
            low, left = middle, cut
        else:
            high, right = middle, cut
        if high - low <= _SHARES_TOL:
            break
    # Both are best for these weights up to rounding, and so is all between them.
    V = _Way(left.V, right.V).root(lambda V: float(_losses(moments, V).diff()))
    nearer = min((left, right), key=_largest)
    return NeutralCut(V, _losses(moments, V), nearer.shares, max(left.bound, right.bound))


def _of_several(moments: Tensor, rank: int, equal: NeutralCut) -> NeutralCut:
    """Kelley's cutting planes: weights against the best mixture of the cuts found so far."""
    n_groups = len(moments)
    cuts = [equal]
    mixture = np.ones(1)
    scale = float(cuts[0].losses.max()) or 1.0
    for _ in range(_PLANES):
        costs = torch.stack([cut.losses for cut in cuts]).numpy() / scale
        # The largest t with t <= costs @ shares for each cut; its prices are the mixture.
        found = linprog(
            np.append(np.zeros(n_groups), -1.0),
            A_ub=np.column_stack([-costs, np.ones(len(cuts))]),
            b_ub=np.zeros(len(cuts)),
            A_eq=[[1.0] * n_groups + [0.0]],
            b_eq=[1.0],
            bounds=[(0.0, None)] * (n_groups + 1),
        )
        if found.status != 0:  # losses of too different sizes for the solver
            break
        mixture = -found.ineqlin.marginals
        shares = torch.from_numpy(np.maximum(found.x[:-1], 0.0))
        cuts.append(weighted_cut(moments, rank, shares / shares.sum()))
        if -found.fun - max(cut.bound for cut in cuts) / scale <= _PLANES_TOL:
            break
    # The mixture has the least largest loss, but more directions than allowed: the first of them.
    used = [(price, cut.V) for price, cut in zip(mixture, cuts, strict=False) if price > 0.0]
    mixed = sum((price * (V @ V.T) for price, V in used), torch.zeros_like(moments[0]))
    V = torch.linalg.eigh(mixed).eigenvectors[:, -rank:].flip(1)
    nearest = min(cuts, key=_largest).shares
    best = min((*cuts, NeutralCut(V, _losses(moments, V), nearest, 0.0)), key=_largest)
    # On the ways from the best to those of the mixture there may be a better one.
    for _, other in used:
        way = _Way(best.V, other)
        tried = [(_largest_on(moments, way.at(share)), share) for share in np.linspace(0, 1, 17)]
        near = min(tried)[1]
        found = minimize_scalar(
            lambda share, way=way: _largest_on(moments, way.at(share)),
            bounds=(max(0.0, near - 1 / 16), min(1.0, near + 1 / 16)),
            method="bounded",
            options={"xatol": 1e-12},
        )
        if found.fun < _largest(best):
            V = way.at(float(found.x))
            best = NeutralCut(V, _losses(moments, V), nearest, 0.0)
    return best._replace(shares=nearest, bound=max(cut.bound for cut in cuts))


def _largest(cut: NeutralCut) -> float:
    return float(cut.losses.max())


def _largest_on(moments: Tensor, V: Tensor) -> float:
    return float(_losses(moments, V).max())


class _Way:
    """The shortest way between two subspaces, given by orthonormal bases (k, r)."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        U, self._cosines, Wt = torch.linalg.svd(left.T @ right)
        self._start, stop = left @ U, right @ Wt.T  # principal vectors, pair by pair
        away = stop - self._start * self._cosines
        sines = away.norm(dim=0)
        # An arc cosine loses half the digits of a small angle.
        self._angles = torch.atan2(sines, self._cosines)
        self._away = torch.where(sines > 0.0, away / sines, 0.0)

    def at(self, share: float) -> Tensor:
        """Return a basis after a share of the way."""
        V = self._start * torch.cos(share * self._angles)
        return torch.linalg.qr(V + self._away * torch.sin(share * self._angles))[0]

    def root(self, function: Callable[[Tensor], float]) -> Tensor:
        """Return a basis where a function of it goes from above zero to below."""
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if function(self.at(middle)) > 0.0 else (low, middle)
        return self.at(high)
