"""Linear heads by logistic regression: one on all rows, and one for each fold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..lowrank.moments import Moments, column_moments
from ..rows.tensor_rows import TensorRows
from .logistic import fit_logistic, fit_logistic_folds

__all__ = ["HALVES", "fit_linear_head", "fit_linear_heads_of_folds"]

# Two scores whose difference is a given one.
HALVES = torch.tensor([-0.5, 0.5], dtype=torch.float64)


def fit_linear_head(
    rows: TensorRows, n_classes: int, C: float, moments: Moments | None = None
) -> tuple[Tensor, Tensor]:
    """Fit scikit-learn's LogisticRegression on standardized features.

    Parameters
    ----------
    rows : TensorRows
        Features, encoded labels 0..k-1 and sample weights.
    n_classes : int
        Number of classes k.
    C : float
        Inverse strength of the L2 penalty on the standardized weights.
    moments : Moments, optional
        Those of the features, if they are known.

    Returns
    -------
    weight, bias : Tensor of shape (d, k) and (k,), float64
        In raw coordinates. With two classes the columns are ``-w/2`` and ``w/2``.

    Examples
    --------
    >>> Z, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0, 1])
    >>> weight, bias = fit_linear_head(TensorRows(Z, y), 2, 1.0)
    >>> (-bias / weight[0]).round(decimals=3).tolist()
    [1.5, 1.5]
    """
    moments = column_moments(rows.Z, rows.w) if moments is None else moments
    weight, bias = fit_logistic(rows, n_classes, 1 / (C * float(rows.w.sum())), moments)
    return (weight * HALVES, bias * HALVES) if n_classes == 2 else (weight, bias)


def fit_linear_heads_of_folds(
    rows: TensorRows,
    n_classes: int,
    C: float,
    held_out: Tensor,
    whole: tuple[Tensor, Tensor],
    weights: Sequence[Tensor] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Fit the rows outside each fold, as `fit_linear_head` does.

    Parameters
    ----------
    rows, n_classes, C
        As for `fit_linear_head`.
    held_out : Tensor of shape (n,), int64
        The fold of each row, 0..F-1, or -1 for rows that all fits have.
    whole : (weight, bias)
        What `fit_linear_head` returns for all rows.
    weights : sequence of Tensor of shape (n,), optional
        As for `fit_logistic_folds`.

    Returns
    -------
    list of (weight, bias)
        One of each fold.

    Examples
    --------
    >>> rows = TensorRows(torch.arange(8.0)[:, None], torch.tensor([0, 0, 1, 0, 1, 0, 1, 1]))
    >>> whole = fit_linear_head(rows, 2, 1.0)
    >>> (weight, _), _ = fit_linear_heads_of_folds(rows, 2, 1.0, torch.arange(8) % 2, whole)
    >>> alone, _ = fit_linear_head(rows.take([1, 3, 5, 7]), 2, 1.0)
    >>> bool((weight - alone).abs().max() < 1e-4)
    True
    """
    weight, bias = whole
    near = (weight.diff(dim=1), bias.diff()) if n_classes == 2 else whole
    found = fit_logistic_folds(rows, n_classes, C, held_out, near, weights=weights)
    return [(W * HALVES, b * HALVES) if n_classes == 2 else (W, b) for W, b in found]
