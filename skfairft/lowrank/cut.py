"""A layer cut in two, by what its inputs and gradients say: one function, many methods.

=============== ==================== ============================================================
importance      weights of the       what it is
                groups
=============== ==================== ============================================================
"uniform"       any                  the plain SVD
"fisher"        "proportional"       nearly the Fisher-weighted SVD of one group for all [1]_
"fisher"        equal                the paper's, Eqs. 2 to 4
"covariance"    "proportional"       data-aware SVD, whatever the groups [2]_
"covariance"    equal, "minimax"     the group-neutral cut, a fair PCA of the outputs
"kfac"          any                  the same with outputs weighted by their gradients' moments
=============== ==================== ============================================================

References
----------
.. [1] Y.-C. Hsu et al., "Language model compression with weighted low-rank factorization",
   ICLR 2022.
.. [2] X. Wang et al., "SVD-LLM", ICLR 2025; Y. Yang et al., "CorDA", NeurIPS 2024.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .covariance import CovarianceStatistics
from .factorization import METRIC_RIDGE, resolve_rank
from .importance import COVARIANCE_RIDGE, fisher_squares, gaps_of, sizes_of
from .maps import LayerMap
from .network import LayerStatistics
from .neutral import minimax_cut, weighted_cut

__all__ = [
    "CUTS",
    "Cut",
    "SideMetric",
    "borrowing",
    "cut_after",
    "cut_layer",
    "needs_gradients",
]

CUTS = ("uniform", "fisher", "covariance", "kfac")
"""Names of the importances."""

# How many times the ridge of a cut by itself: on draws that no figure counts one took a tenth off
# MobileNetV2's rise and added a fifteenth to ResNet-18's.
_RIDGES = 3.0


class Cut(NamedTuple):
    """A layer cut in two, and how.

    Parameters
    ----------
    layer : LowRankLinear or LowRankConv
        What takes the layer's place, of the same dtype and device.
    shares : Tensor of shape (G,), float64
        The groups' weights; those that were found, if the largest loss was to be least.
    losses : Tensor of shape (G,), float64
        What the cut costs each group, as the importance measures it, with what it borrows.
    singular_values : Tensor of shape (m,), float64
        Of the side, largest first; their squares are the energy.
    """

    layer: nn.Module
    shares: Tensor
    losses: Tensor
    singular_values: Tensor


def needs_gradients(importance: str) -> bool:
    """Tell whether an importance needs the loss's gradient at the layer's outputs."""
    return importance in ("fisher", "kfac")


def borrowing(counts: Tensor, rows: float) -> Tensor:
    """Return the matrix (G, G) by which each group's mean borrows rows of all groups.

    What is seen of a group of few rows is theirs by chance as well. So its mean is that of its own
    n rows and of so many of all: ``(n mean_g + rows mean) / (n + rows)``.

    Parameters
    ----------
    counts : Tensor of shape (G,)
        Rows of each group.
    rows : float
        How many to borrow.

    Examples
    --------
    >>> borrowing(torch.tensor([100.0, 300.0]), 100.0)
    tensor([[0.6250, 0.3750],
            [0.0625, 0.9375]], dtype=torch.float64)
    """
    counts = counts.double()
    own = torch.where(counts > 0, counts / (counts + rows).clamp_min(1e-300), 0.0)
    return own.diag() + (1.0 - own)[:, None] * (counts / counts.sum())


def cut_layer(
    statistics: LayerStatistics,
    rank: int | float,
    *,
    importance: str,
    shares: Tensor | None,
    mixing: Tensor | None = None,
) -> Cut:
    """Return a layer cut to a rank.

    The bias takes up what the cut changes at the mean, weighted as the groups are.

    Parameters
    ----------
    statistics : LayerStatistics
        Of the layer, and of its gradients where `needs_gradients` says so.
    rank : int or float
        As for `resolve_rank`.
    importance : str
        One of `CUTS`.
    shares : Tensor of shape (G,) or None
        Weights of the groups, non-negative with sum 1; None: such that the largest loss of a group
        is least.
    mixing : Tensor of shape (G, G), optional
        What each group's loss is a mean of; see `borrowing`. None is each group's own.

    Raises
    ------
    ValueError
        If squares of its inputs, weights or gradients overflow.

    Examples
    --------
    >>> from skfairft.lowrank.maps import LayerMap
    >>> layer = nn.Linear(3, 2).double()
    >>> Z, codes = torch.eye(3).double(), torch.tensor([0, 0, 1])
    >>> seen = LayerStatistics(LayerMap(layer), 2, gradients=False).update(Z, layer(Z), codes)
    >>> cut = cut_layer(seen, 2, importance="covariance", shares=None)
    >>> bool(torch.allclose(cut.layer(Z), layer(Z)))
    True
    """
    metric = SideMetric(statistics, importance, shares, mixing)
    values = metric.values
    singular = values.clamp_min(0.0).sqrt()
    r = min(resolve_rank(rank, singular), statistics.seen.most)
    if shares is None:
        found = minimax_cut(metric.moments, r)
    else:
        found = weighted_cut(metric.moments, r, metric.weights)
    return Cut(metric.thin(found.V), found.shares, found.losses, singular)


def cut_after(
    statistics: LayerStatistics,
    pairs: CovarianceStatistics,
    rank: int,
    *,
    importance: str,
    shares: Tensor,
    mixing: Tensor | None = None,
) -> nn.Module:
    """Return a layer cut such that it gives what it gave, on what it gets behind cut layers.

    That is reduced-rank regression [1]_ of the side as it was on the side as it is: with ``u`` and
    ``v`` these, ``C`` their moments with a ridge, weighted over the groups, and ``N`` the root of
    what errors count, the fit ``v C_vv^-1 C_vu`` is projected on the top eigenvectors of
    ``N^T C_uv C_vv^-1 C_vu N``. The ridge is that of noise in the inputs, of three hundredths of
    their variances, which the side has as it was and as it is: three times that of a cut by itself,
    because what is fitted to few rows is a whole map.

    Parameters
    ----------
    statistics : LayerStatistics
        Of the layer in the uncut network.
    pairs : CovarianceStatistics
        What `LayerPairs` saw, (G, 2 m).
    rank : int
        At least 1.
    importance, shares, mixing
        As for `cut_layer`: "covariance" or "kfac", and weights.

    References
    ----------
    .. [1] A. J. Izenman, "Reduced-rank regression for the multivariate linear model", Journal of
       Multivariate Analysis 5(2), 1975.

    Examples
    --------
    >>> from skfairft.lowrank.maps import LayerMap
    >>> from skfairft.lowrank.network import LayerPairs
    >>> layer = nn.Linear(3, 3, bias=False).double()
    >>> Z, codes, one = torch.randn(50, 3).double(), torch.zeros(50).long(), torch.ones(1).double()
    >>> seen = LayerStatistics(LayerMap(layer), 1, gradients=False).update(Z, layer(Z), codes)
    >>> pairs = LayerPairs(seen.seen, 1)  # what comes now is half of what came
    >>> both = seen.seen.positions(layer(Z)), seen.seen.positions(layer(Z / 2))
    >>> found = cut_after(
    ...     seen, pairs.update(*both, codes).result(), 3, importance="covariance", shares=one
    ... )
    >>> bool((found(Z / 2) - layer(Z)).abs().mean() < 0.1 * layer(Z).abs().mean())
    True
    """
    metric = SideMetric(statistics, importance, shares, mixing)
    seen, m = statistics.seen, statistics.seen.width
    moment = _weighted(pairs, metric.given)
    _refuse_overflow(seen, moment)
    ridge = _RIDGES * metric.ridge
    C_uv = moment[:m, m:] + ridge
    C_vv = moment[m:, m:] + ridge
    means = pairs.means.means.nan_to_num()
    centre = metric.given @ means
    # A unit that is dead has no variance but for rounding; each has its own units.
    sizes = C_vv.diagonal() + METRIC_RIDGE * centre[m:].square()
    least = torch.where(sizes > 0.0, sizes, float(sizes.max()) or 1.0)
    C_vv = C_vv + METRIC_RIDGE * least.diag()
    fit = torch.linalg.solve(C_vv, C_uv.T)  # v to u
    N = metric.root
    top = weighted_cut((N.T @ C_uv @ fit @ N)[None], min(rank, seen.most), torch.ones(1).double())
    return metric.thin(top.V, fit, centre[:m], centre[m:])


class SideMetric:
    """What an error on the side of a layer costs, by an importance and weights of the groups.

    Parameters
    ----------
    statistics, importance, shares, mixing
        As for `cut_layer`.

    Attributes
    ----------
    weights, given : Tensor of shape (G,), float64
        Of the groups, and with what they borrow.
    root : Tensor of shape (m, m), float64
        N: an error e of the side costs ``|e N|^2``.
    ridge : Tensor of shape (m, m), float64
        What noise of the inputs is on the side.
    moments : Tensor of shape (G, m, m), float64
        ``N^T C_g N`` of each group, with what it borrows.
    """

    def __init__(
        self,
        statistics: LayerStatistics,
        importance: str,
        shares: Tensor | None,
        mixing: Tensor | None,
    ) -> None:
        self._seen = seen = statistics.seen
        inputs, side = statistics.inputs.result(), statistics.moments.result()
        n_groups = len(side.means.weights)
        mixing = torch.eye(n_groups, dtype=torch.float64) if mixing is None else mixing
        equal = torch.full((n_groups,), 1.0 / n_groups, dtype=torch.float64)
        self.weights = equal if shares is None else shares.double()
        self.given = self.weights @ mixing
        gradients = None
        if importance == "kfac":
            assert statistics.gradients is not None
            gradients = torch.einsum("g,gij->ij", self.given, statistics.gradients.result())
            _refuse_overflow(seen, gradients)
        self.root = seen.root(gradients)
        variance = inputs.variance(self.given)
        self.ridge = COVARIANCE_RIDGE * seen.moments_of(seen.spread(variance))
        if importance == "uniform":
            plain = seen.moments_of(torch.ones(seen.d, dtype=torch.float64))
            moments = plain.expand(n_groups, -1, -1)
        elif importance == "fisher":
            assert statistics.fisher is not None
            size = sizes_of(self.given @ inputs.means.means.nan_to_num(), variance)
            squares = fisher_squares(
                statistics.fisher.result(), self.given, seen.spread(size), apart=shares is None
            )
            moments = torch.stack([seen.moments_of(each) for each in squares])
        else:
            gaps = gaps_of(side.means, self.given)
            moments = side.covariances + gaps[:, :, None] * gaps[:, None, :] + self.ridge
        moments = self.root.T @ moments @ self.root
        self.moments = torch.einsum("gh,hij->gij", mixing, moments)
        _refuse_overflow(seen, self.moments)
        self._centre = self.given @ side.means.means.nan_to_num()

    @property
    def values(self) -> Tensor:
        """Eigenvalues (m,) of the moments weighted over the groups, largest first."""
        mean = torch.einsum("g,gij->ij", self.weights, self.moments)
        return torch.linalg.eigvalsh(mean).flip(0)

    def thin(
        self,
        V: Tensor,
        fit: Tensor | None = None,
        u: Tensor | None = None,
        v: Tensor | None = None,
    ) -> nn.Module:
        """Return the layer that keeps directions V (m, r) of errors, orthonormal.

        Behind layers that are cut ``fit`` (m, m) makes of the side as it is what it was, and u and
        v (m,) are the means of both.
        """
        # Gradients may be of any size, and half precision holds few.
        N = self.root / (float(self.root.abs().max()) or 1.0)
        down, up = N @ V, torch.linalg.solve(N.T, V).T
        if fit is not None:
            down = fit @ down
        u = self._centre if u is None else u
        return self._seen.cut(down, up, u, u if v is None else v)


def _weighted(found: CovarianceStatistics, shares: Tensor) -> Tensor:
    """Return second moments about the common mean, groups weighted."""
    gaps = gaps_of(found.means, shares)
    within = torch.einsum("g,gij->ij", shares, found.covariances)
    return within + gaps.T @ (gaps * shares[:, None])


def _refuse_overflow(seen: LayerMap, moments: Tensor) -> None:
    if not bool(torch.isfinite(moments).all()):
        raise ValueError(
            f"The inputs, weights or gradients of a layer of {seen.d} to {seen.k} are so large "
            "that their squares overflow; scale what the model takes, or leave it out."
        )
