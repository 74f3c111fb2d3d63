"""The weakest weight of fairness whose head meets a bound on rows that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._bootstrap import bootstrap_counts
from ._warn import warn_user
from .batches import TensorRows
from .constraints import Parity, cell_counts
from .exceptions import FairnessWarning
from .fitting import FittedHead, HeadFitter
from .head import head_scores

__all__ = [
    "BoundSearch",
    "decision_counts",
    "distances",
    "interrupted",
    "interval_around",
    "warn_of_empty",
    "weakest_weight",
]

# A grid first, because the distance of held-out decisions is not monotone in the weight; then
# the interval before the weight found is halved this often: steps of 0.003 in the weight.
_GRID = np.linspace(0.0, 1.0, 21)
_HALVINGS = 4

_N_BOOT = 1000
_LEVEL = 0.95


@dataclass(frozen=True)
class BoundSearch:
    """A head that meets a bound, or comes nearest to it.

    Parameters
    ----------
    fitted : FittedHead
        The head.
    weight : float
        Its fairness weight.
    distance : float
        Between groups, of the constraint, on the held-out rows.
    interval : ndarray of shape (2,)
        Of the distance, see `interval_around`.
    """

    fitted: FittedHead
    weight: float
    distance: float
    interval: NDArray[np.float64]


def decision_counts(scores: Tensor, rows: TensorRows, n_groups: int) -> NDArray[np.int64]:
    """Return the flat index of each row's cell (group, label, decision), shape (n,)."""
    assert rows.codes is not None
    k = scores.shape[1]
    return ((rows.codes * k + rows.y) * k + scores.argmax(dim=1)).numpy()


def distances(parity: Parity, tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each table of decisions: (b, G, k, k) -> (b,).

    Parameters
    ----------
    parity : Parity
        The moments.
    tables : ndarray of shape (b, G, k, k)
        Weights by group, true label and decision.
    """
    mass = torch.from_numpy(tables).transpose(1, 2)  # (b, k, G, k)
    return parity.distance(parity.rates(mass, mass.sum(dim=-1))).numpy()


def interval_around(value: float, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 95 % percentile interval of resampled values, stretched to hold the value itself.

    A distance is never negative, so that near parity most resamples have more of it than the rows
    that they are drawn from.

    Parameters
    ----------
    value : float
        Of the rows.
    samples : ndarray of shape (b,)
        Of resamples; NaN is left out.

    Returns
    -------
    ndarray of shape (2,)
        NaN without a sample.

    Examples
    --------
    >>> interval_around(0.01, np.linspace(0.05, 0.25, 41)).round(3).tolist()
    [0.01, 0.245]
    """
    known = samples[~np.isnan(samples)]
    if not len(known):
        return np.full(2, np.nan)
    tail = (1.0 - _LEVEL) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return np.array([np.fmin(low, value), np.fmax(high, value)])


def interrupted(fitted: FittedHead) -> bool:
    """Tell whether Ctrl-C ended the training of a head before its time."""
    return bool(getattr(fitted.net, "interrupted_", False))


def warn_of_empty(parity: Parity, rows: TensorRows, groups: NDArray[Any]) -> None:
    """Warn of groups without held-out rows that a rate of the constraint is a mean over.

    Parameters
    ----------
    parity : Parity
        The moments.
    rows : TensorRows
        Held-out rows, with groups.
    groups : ndarray of shape (G,)
        Names of the groups.
    """
    empty = (_moment_counts(parity, rows, len(groups)) == 0).any(dim=0).numpy()
    if empty.any():
        warn_user(
            f"The held-out rows of the groups {groups[empty].tolist()} lack a class that the "
            "constraint asks for; these groups are left out of a difference. Hold out more rows.",
            FairnessWarning,
        )


def _moment_counts(parity: Parity, rows: TensorRows, n_groups: int) -> Tensor:
    """Return the weight (m, G) of the rows that each rate is a mean over."""
    assert rows.codes is not None
    n_classes = parity.events.shape[1]
    return parity.counts(
        cell_counts(rows.y, rows.codes, rows.w, n_classes=n_classes, n_groups=n_groups)
    )


def weakest_weight(
    fitter: HeadFitter,
    held_out: TensorRows,
    parity: Parity,
    *,
    groups: NDArray[Any],
    n_classes: int,
    bound: float,
    random_state: np.random.RandomState,
) -> BoundSearch:
    """Find the least weight whose head's distance on held-out rows is within a bound.

    Parameters
    ----------
    fitter : HeadFitter
        Of the other rows.
    held_out : TensorRows
        With groups.
    parity : Parity
        The moments of the fitter's constraint.
    groups : ndarray of shape (G,)
        Names of the groups.
    n_classes : int
        Number of classes.
    bound : float
        On `Parity.distance`.
    random_state : RandomState
        Of the bootstrap.

    Returns
    -------
    BoundSearch
        If no weight meets the bound, the one of the smallest distance.

    Raises
    ------
    ValueError
        If the held-out rows have no distance.
    KeyboardInterrupt
        If the training of a head was interrupted: a search of which the rest is missing has no
        answer.
    """
    n_groups = len(groups)
    compared = (_moment_counts(parity, held_out, n_groups) > 0).sum(dim=1)
    if (compared < 2).any():
        raise ValueError(
            f"difference_bound={bound} needs held-out rows of at least two groups for each rate of "
            f"{parity.constraint!r}, but some rate has them in {int(compared.min())} of {n_groups} "
            f"groups, among {len(held_out)} rows. Hold out more (validation_fraction) or merge "
            "groups."
        )
    warn_of_empty(parity, held_out, groups)
    shape = n_groups, n_classes, n_classes
    weights = held_out.w.numpy()

    def judge(weight: float, fitted: FittedHead) -> BoundSearch:
        if interrupted(fitted):
            raise KeyboardInterrupt
        code = decision_counts(head_scores(fitted.head, held_out.Z), held_out, n_groups)
        size = int(np.prod(shape))
        table = np.bincount(code, weights, size).reshape(1, *shape).astype(np.float64)
        rng = np.random.default_rng(seed)
        drawn = bootstrap_counts(code, weights, shape, _N_BOOT, rng)
        samples = np.concatenate([distances(parity, block) for block in drawn])
        distance = float(distances(parity, table)[0])
        return BoundSearch(fitted, weight, distance, interval_around(distance, samples))

    seed = random_state.randint(2**31, size=4)
    before: BoundSearch | None = None
    nearest: BoundSearch | None = None
    for weight, fitted in zip(_GRID, fitter.fit_path(_GRID), strict=True):
        found = judge(float(weight), fitted)
        if nearest is None or found.distance < nearest.distance:
            nearest = found
        if found.distance <= bound:
            break
        before = found
    assert nearest is not None
    if nearest.distance > bound or before is None:
        return nearest
    found = nearest
    low = before.weight
    for _ in range(_HALVINGS):
        middle = (low + found.weight) / 2.0
        between = judge(middle, fitter.fit(middle, found.fitted))
        if between.distance <= bound:
            found = between
        else:
            low = middle
    return found
