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
from .factorization import floor_importance, neutralize, regularized_metric
from .fisher import FisherStatistics
from .moments import Moments

__all__ = ["IMPORTANCES", "Measurements", "Metric", "heads_of", "needs_covariance", "weigh"]

# Share of its diagonal added to the covariance as a metric, so that directions in which the
# features hardly vary on these rows do not look free.
_COVARIANCE_RIDGE = 0.01


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
        regularized_metric(moment, measured.moments.scale, _COVARIANCE_RIDGE),
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
