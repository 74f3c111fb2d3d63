"""The metric of the weighted SVD by name: how much an error in each direction counts.

An importance is one row of the table at the end of this file: a function of what was measured and
of the groups' shares, and what it needs to be measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from .covariance import CovarianceStatistics
from .factorization import floor_importance, neutralize, regularized_metric, resolve_rank
from .fisher import FisherStatistics
from .means import Means
from .moments import Moments
from .neutral import minimax_cut

__all__ = [
    "COVARIANCE_RIDGE",
    "IMPORTANCES",
    "Measurements",
    "Metric",
    "fisher_squares",
    "gaps_of",
    "group_moments",
    "heads_of",
    "minimax_shares",
    "needs_covariance",
    "sizes_of",
    "weigh",
]

COVARIANCE_RIDGE = 0.01
"""Share of its diagonal added to the covariance as a metric.

So that directions in which the features hardly vary on these rows do not look free.
"""


class Measurements(Protocol):
    """What an importance is a function of, besides the groups' shares."""

    @property
    def moments(self) -> Moments:
        """Mean and scale of each feature."""

    @property
    def statistics(self) -> FisherStatistics:
        """Fisher information of each group."""

    @property
    def covariance(self) -> CovarianceStatistics | None:
        """Covariance of each group; None where `needs_covariance` says no."""


class Metric(NamedTuple):
    """What the SVD is weighted with.

    Parameters
    ----------
    importance : Tensor of shape (d,), float64
        Positive importance of each feature: ``I_N`` (Eq. 2) with its floor, or ones.
    metric : Tensor of shape (d,) or (d, d), float64
        As for `parity_svd`: the importance, or a matrix.
    """

    importance: Tensor
    metric: Tensor


def weigh(name: str, measured: Measurements, shares: Tensor) -> Metric:
    """Return the metric of an importance, one of `IMPORTANCES`.

    ``measured`` has a covariance where `needs_covariance` says so, and the Fisher information of
    the heads that `heads_of` names; ``shares`` (G,) are ``w_g`` of Eq. 2, non-negative with sum 1.

    Warns
    -----
    FairnessWarning
        If the Fisher importance is to weigh, and is zero for every feature.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> Z, e, codes = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.ones(2), torch.tensor([0, 1])
    >>> from skfairft.lowrank.fisher import GroupFisher
    >>> from skfairft.lowrank.moments import column_moments
    >>> measured = SimpleNamespace(
    ...     moments=column_moments(Z, e), statistics=GroupFisher(2, 2).update(Z, e, codes).result()
    ... )
    >>> weigh("fisher", measured, torch.tensor([0.5, 0.5]).double()).metric
    tensor([2., 1.], dtype=torch.float64)
    >>> weigh("uniform", measured, torch.tensor([0.5, 0.5]).double()).metric
    tensor([1., 1.], dtype=torch.float64)
    """
    return _TABLE[name].weigh(measured, shares)


def group_moments(
    name: str,
    V: Tensor,
    covariance: CovarianceStatistics | None,
    fisher: FisherStatistics | None,
    shares: Tensor,
    *,
    about: Tensor | None = None,
) -> Tensor:
    """Return what a change of the weights by a matrix V (d, m) costs each group: (G, m, m).

    That is ``V^T C_g V``, of which the trace is the cost. The metric ``C_g`` is the identity for
    "uniform", that of each group's Fisher importance for "fisher" and "fisher_by_group", and else
    the second moments of the inputs about a mean, with a ridge.

    Parameters
    ----------
    name : str
        One of `IMPORTANCES`.
    V : Tensor of shape (d, m), float64
        The change.
    covariance, fisher : CovarianceStatistics, FisherStatistics or None
        Of the layer's inputs; what the name needs.
    shares : Tensor of shape (G,), float64
        Weights of the groups.
    about : Tensor of shape (G,), float64, optional
        Weights of the groups in the mean; None is the shares.

    Examples
    --------
    >>> group_moments("uniform", torch.eye(2), None, None, torch.ones(3) / 3).shape
    torch.Size([3, 2, 2])
    """
    n_groups = len(shares)
    if name == "uniform":
        return (V.T @ V).expand(n_groups, -1, -1)
    if name in ("fisher", "fisher_by_group"):
        assert fisher is not None
        size = None
        if covariance is not None:
            means = shares @ covariance.means.means.nan_to_num()
            size = sizes_of(means, covariance.variance(shares))
        own = fisher_squares(fisher, shares, size, apart=True)
        return torch.stack([(V * each[:, None]).T @ V for each in own])
    assert covariance is not None
    gaps = gaps_of(covariance.means, shares if about is None else about) @ V
    within = torch.stack([V.T @ each @ V for each in covariance.covariances])
    ridge = COVARIANCE_RIDGE * ((V * covariance.variance(shares)[:, None]).T @ V)
    return within + gaps[:, :, None] * gaps[:, None, :] + ridge


def gaps_of(means: Means, shares: Tensor) -> Tensor:
    """Return how far each group's mean is from all of theirs, weighted (G,): (G, d).

    Examples
    --------
    >>> means = Means(torch.ones(2), torch.zeros(1), torch.tensor([[1.0], [3.0]]))
    >>> gaps_of(means, torch.tensor([0.5, 0.5])).flatten()
    tensor([-1.,  1.])
    """
    centre = shares @ means.means.nan_to_num() - means.shift
    return torch.where(means.weights[:, None] > 0, means.away - centre, 0.0)


def sizes_of(mean: Tensor, variance: Tensor) -> Tensor:
    """Return the root mean square of each feature, (d,); 1 of one that is always 0.

    Examples
    --------
    >>> sizes_of(torch.tensor([3.0, 0.0]), torch.tensor([16.0, 0.0]))
    tensor([5., 1.])
    """
    size = (variance + mean.square()).sqrt()
    return torch.where(size > 0.0, size, 1.0)


def fisher_squares(
    fisher: FisherStatistics, shares: Tensor, size: Tensor | None, *, apart: bool
) -> Tensor:
    """Return squares of the Fisher importance of each input, with its floor: (G, d).

    Parameters
    ----------
    fisher : FisherStatistics
        Of each group.
    shares : Tensor of shape (G,), float64
        Weights of the groups.
    size : Tensor of shape (d,) or None
        As for `floor_importance`.
    apart : bool
        Whether it is each group's own; else that of Eq. 2 for all.

    Examples
    --------
    >>> from skfairft.lowrank.fisher import GroupFisher
    >>> Z, one = torch.tensor([[2.0, 1.0]]), torch.ones(1)
    >>> found = GroupFisher(1, 2).update(Z, one, torch.tensor([0])).result()
    >>> fisher_squares(found, one.double(), None, apart=False)
    tensor([[4., 1.]], dtype=torch.float64)
    """
    own = fisher.importance.nan_to_num()
    own = own if apart else neutralize(own, shares).expand(len(shares), -1)
    if not own.any():  # then nothing is weighted
        return torch.ones_like(own)
    return torch.stack([floor_importance(each, size) for each in own]).square()


def minimax_shares(
    name: str, measured: Measurements, W: Tensor, rank: int | float, shares: Tensor
) -> Tensor:
    """Return the groups' weights (G,) under which the best cut of weights (d, k) is worst.

    By :func:`~skfairft.lowrank.neutral.minimax_cut`; a rank that is a share of energy is that under
    the ``shares`` given.
    """
    R = torch.linalg.qr(W.T, mode="r").R  # W = R^T Q^T
    own = measured.statistics.weights
    moments = group_moments(
        name,
        R.T,
        measured.covariance,
        measured.statistics,
        shares,
        about=own / own.sum(),  # as `weigh` does
    )
    values = torch.linalg.eigvalsh(torch.einsum("g,gij->ij", shares, moments)).flip(0)
    return minimax_cut(moments, resolve_rank(rank, values.clamp_min(0.0).sqrt())).shares


def needs_covariance(name: str) -> bool:
    """Tell whether an importance needs the covariance of each group."""
    return _TABLE[name].covariance


def heads_of(name: str) -> str:
    """Return whose heads' Fisher information an importance takes: "pooled" or "by_group"."""
    return _TABLE[name].heads


def _neutral(measured: Measurements, shares: Tensor) -> Tensor | None:
    """Return the neutralized Fisher importance with its floor; None where it is zero."""
    importance = neutralize(measured.statistics.importance, shares)
    return floor_importance(importance, measured.moments.size) if importance.any() else None


def _ones(measured: Measurements) -> Tensor:
    return torch.ones_like(measured.moments.scale)


def _fisher(measured: Measurements, shares: Tensor) -> Metric:
    importance = _neutral(measured, shares)
    if importance is None:
        warn_user(
            "The Fisher importance is zero for every feature: all features are zero, or "
            "the head already fits every row with certainty. The SVD is not weighted.",
            FairnessWarning,
        )
        importance = _ones(measured)
    return Metric(importance, importance)


def _uniform(measured: Measurements, shares: Tensor) -> Metric:
    return Metric(_ones(measured), _ones(measured))


def _covariance(measured: Measurements, shares: Tensor) -> Metric:
    """Of each group about the common mean, and of these the weighted mean (Eq. 2)."""
    assert measured.covariance is not None
    moment = measured.covariance.about_mean(shares)
    importance = _neutral(measured, shares)
    return Metric(
        _ones(measured) if importance is None else importance,
        regularized_metric(moment, measured.moments.scale, COVARIANCE_RIDGE),
    )


@dataclass(frozen=True)
class _Importance:
    """A row of the table: the metric, and what it needs."""

    weigh: Callable[[Measurements, Tensor], Metric]
    covariance: bool = False
    heads: str = "pooled"


_TABLE = {
    "fisher": _Importance(_fisher),
    "fisher_by_group": _Importance(_fisher, heads="by_group"),
    "uniform": _Importance(_uniform),
    "covariance": _Importance(_covariance, covariance=True),
}

IMPORTANCES = tuple(_TABLE)
"""Names of the importances."""
