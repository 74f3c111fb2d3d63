"""Logistic regression on standardized features that are never copied, block by block.

The objective is that of scikit-learn's LogisticRegression, divided by the sum of the weights:

``sum_i s_i loss(z_i V + c, y_i) + l2 / 2 * ||U||^2``, with ``V = diag(1 / scale) U`` and
``c = b - mean V``,

where ``s_i`` is the share of row i in the sum of the weights, ``U`` (d, m) are the weights on
standardized features and ``b`` (m,) is the intercept; m is 1 with two classes (the margin of the
second), otherwise the number of classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn import functional as F

from ..inputs.warn import warn_user
from ..lowrank.moments import Moments
from ..rows.blocks import map_blocks
from ..rows.mapped import Features, block_rows
from ..rows.tensor_rows import TensorRows

__all__ = ["fit_logistic", "refit_bias"]

# Tighter than scikit-learn's 1e-4: the fine-tuning starts where this ends, and a step there
# costs more.
_GRADIENT_TOL = 3e-7
_LOSS_TOL = 64 * float(np.finfo(np.float64).eps)
_MAX_ITER = 10_000
# Pairs of vectors that L-BFGS remembers: each saves some passes over the features and costs
# next to nothing.
_MEMORY = 30

# Mean loss below which the classes are separable: of others hardly any row is that certain.
_SEPARATE = 1e-4

# Newton's method for a bias alone ends here: a gradient's rounding is some 1e-16.
_BIAS_STEPS, _BIAS_TOL = 100, 1e-12
# Share of the decrease that the slope promises for which a step is taken.
_ARMIJO = 0.25

# Second moments of some rows precondition the problem: of all rows up to this many products, so
# that the order of the rows does not show where that costs nothing, otherwise of some rows per
# feature. To them a share of the mean variance is added. With fewer rows or no such share, chance
# directions of the sample cost more iterations than the true ones save.
_SAMPLE_PRODUCTS = 2**28
_SAMPLE_ROWS = 4
_SAMPLE_RIDGE = 0.03
_LEAST_CURVATURE = 1e-6  # where all of them are constant
# Those moments cost d^3, which saves some dozens of passes that cost n d each; and d^2 memory.
_SAMPLE_COST = 0.003
_SAMPLE_FEATURES = 4096
_ALONE = 1e3


def fit_logistic(
    rows: TensorRows, n_classes: int, l2: float, moments: Moments
) -> tuple[Tensor, Tensor]:
    """Minimize the objective above.

    Parameters
    ----------
    rows : TensorRows
        Features, encoded labels 0..k-1 and sample weights.
    n_classes : int
        Number of classes k.
    l2 : float
        Strength of the penalty.
    moments : Moments
        What standardizes the features.

    Returns
    -------
    weight, bias : Tensor of shape (d, m) and (m,), float64
        ``V`` and ``c``: on raw features.

    Warns
    -----
    ConvergenceWarning
        If there is no penalty and the classes are separable: then there is no minimum.

    Examples
    --------
    >>> Z, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0, 1])
    >>> as_they_are = Moments(torch.zeros(1).double(), torch.ones(1).double())
    >>> weight, bias = fit_logistic(TensorRows(Z, y), 2, 0.25, as_they_are)
    >>> weight.shape, bias.shape
    (torch.Size([1, 1]), torch.Size([1]))
    """
    objective = _Objective(rows, n_classes, l2, moments)

    def stop(_: Any) -> None:
        # Not L-BFGS's own test, which would look at the preconditioned gradient.
        if objective.steepness <= _GRADIENT_TOL:
            raise StopIteration

    result = minimize(
        objective,
        np.zeros((rows.Z.shape[1] + 1) * objective.width),
        jac=True,
        method="L-BFGS-B",
        callback=stop,
        options={
            "maxiter": _MAX_ITER,
            "maxfun": 100 * _MAX_ITER,
            "maxls": 50,
            "maxcor": _MEMORY,
            "gtol": 0.0,
            "ftol": _LOSS_TOL,
        },
    )
    if l2 == 0.0 and result.fun < _SEPARATE:
        warn_user(
            "Without a penalty (C=inf) a linear head for these rows has no optimum: their classes "
            "can be told apart without an error, so that larger weights are always better. Where "
            "training ends is arbitrary, and probabilities are 0 or 1; set a finite C.",
            ConvergenceWarning,
        )
    return objective.raw(objective.standardized(result.x))


def refit_bias(rows: TensorRows, weight: Tensor, bias: Tensor) -> Tensor:
    """Minimize the weighted cross-entropy over the bias alone.

    Afterwards the mean probability of each class is its share of the rows.

    Newton's method. Where the loss is so far from a quadratic that its step does not pay, that of
    generalized iterative scaling [1]_, which cannot fail to: the logarithm of the classes' shares
    minus that of their mean probabilities.

    Parameters
    ----------
    rows : TensorRows
        Each label 0..k-1 has a row of positive weight. The logits (n, k) are computed once, and
        held in memory.
    weight : Tensor of shape (d, k), float64
        Weight of the head.
    bias : Tensor of shape (k,), float64
        Where to start. A constant added to all of it changes no probability: its mean is kept.

    Returns
    -------
    Tensor of shape (k,), float64
        The bias.

    References
    ----------
    .. [1] J. N. Darroch and D. Ratcliff, "Generalized iterative scaling for log-linear models",
       The Annals of Mathematical Statistics 43(5), 1972.

    Examples
    --------
    >>> rows = TensorRows(torch.zeros(4, 1), torch.tensor([0, 1, 1, 1]))
    >>> bias = refit_bias(rows, torch.zeros(1, 2).double(), torch.zeros(2).double())
    >>> torch.softmax(bias, dim=0)
    tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    k = len(bias)
    y, row_share = rows.y, rows.w / rows.w.sum()
    class_share = torch.bincount(y, row_share, minlength=k)
    logits = torch.cat([*map_blocks(lambda _, block: block @ weight, rows.Z)])

    def loss_at(bias: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the loss, the log of the mean probabilities (k,) and the Hessian (k, k)."""

        def part(of: slice, block: Tensor) -> tuple[float, Tensor, Tensor]:
            log_p = torch.log_softmax(block + bias, dim=1)
            share = row_share[of, None]
            value = -float((share * log_p.gather(1, y[of, None])).sum())
            p = log_p.exp()
            return value, torch.logsumexp(log_p + share.log(), dim=0), -(p.T @ (p * share))

        values, logs, products = zip(*map_blocks(part, logits), strict=True)
        log_mean = torch.logsumexp(torch.stack(logs), dim=0)
        return sum(values), log_mean, torch.stack(products).sum(dim=0) + log_mean.exp().diag()

    loss, log_mean, hessian = loss_at(bias)
    for _ in range(_BIAS_STEPS):
        gradient = log_mean.exp() - class_share
        if float(gradient.abs().max()) <= _BIAS_TOL:
            break
        # The Hessian of a softmax is singular along the constants, which change nothing. Where it
        # is singular otherwise the step is not finite, and so is not taken.
        step, _ = torch.linalg.solve_ex(hessian + 1.0 / k, -gradient)
        found = loss_at(bias + step)
        if not found[0] <= loss + _ARMIJO * float(gradient @ step) + _LOSS_TOL * loss:
            step = class_share.log() - log_mean
            found = loss_at(bias + step)
        bias = bias + step - step.mean()
        loss, log_mean, hessian = found
    return bias


class _Objective:
    """The objective and its gradient, as scipy wants them: of one flat vector.

    The vector holds ``K^-1 U`` and below it ``b``, where ``K K^T`` is close to the inverse of the
    second derivatives, so that L-BFGS sees a problem that is almost equally curved in all
    directions.
    """

    def __init__(self, rows: TensorRows, n_classes: int, l2: float, moments: Moments) -> None:
        self._Z, self._y, self._share, self._l2 = rows.Z, rows.y, rows.w / rows.w.sum(), l2
        self._mean, self._scale = moments
        self.width = 1 if n_classes == 2 else n_classes
        self._factor = _inverse_factor(rows.Z, self._share, l2, moments)
        #: Largest entry of the last gradient with respect to ``U`` and ``b``.
        self.steepness = float("inf")

    def standardized(self, flat: NDArray[np.float64]) -> Tensor:
        """Return ``U`` and below it ``b``, shape (d + 1, m)."""
        parameters = torch.from_numpy(flat).reshape(-1, self.width).clone()
        if self._factor is not None:
            parameters[:-1] = self._factor @ parameters[:-1]
        return parameters

    def raw(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``V`` and ``c``."""
        weight = parameters[:-1] / self._scale[:, None]
        return weight, parameters[-1] - self._mean @ weight

    def __call__(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the objective and its gradient."""
        parameters = self.standardized(flat)
        weight, bias = self.raw(parameters)
        loss = 0.5 * self._l2 * float(parameters[:-1].square().sum())
        gradient = torch.zeros(self.width, len(self._mean) + 1, dtype=torch.float64)
        slope, slope_sum = gradient[:, :-1], gradient[:, -1]

        # The loss and its derivatives while the block is in the cache: one pass, not two.
        def part(rows: slice, block: Tensor) -> tuple[float, Tensor, Tensor]:
            output = block @ weight + bias
            value, residual = _loss_and_residual(output, self._y[rows], self._share[rows])
            return value, residual.T @ block, residual.sum(dim=0)  # faster than block.T @ residual

        for value, block_slope, block_sum in map_blocks(part, self._Z):
            loss += value
            slope += block_slope
            slope_sum += block_sum
        slope -= slope_sum[:, None] * self._mean
        slope /= self._scale
        slope += self._l2 * parameters[:-1].T
        self.steepness = float(gradient.abs().max())
        gradient = gradient.T.contiguous()
        if self._factor is not None:
            gradient[:-1] = self._factor.T @ gradient[:-1]
        return loss, gradient.numpy().ravel()


def _loss_and_residual(output: Tensor, y: Tensor, share: Tensor) -> tuple[float, Tensor]:
    """Return the weighted loss of a block, and its gradient at the outputs (n, m)."""
    if output.shape[1] == 1:
        sign = (2 * y - 1)[:, None]
        margin = sign * output
        loss = -float(share @ F.logsigmoid(margin)[:, 0])
        return loss, -sign * torch.sigmoid(-margin) * share[:, None]
    log_p = torch.log_softmax(output, dim=1)
    loss = -float(share @ log_p.gather(1, y[:, None])[:, 0])
    own = torch.ones(1, 1, dtype=torch.float64).expand(len(y), 1)
    residual = log_p.exp().scatter_add_(1, y[:, None], -own)
    return loss, residual.mul_(share[:, None])


def _inverse_factor(Z: Features, share: Tensor, l2: float, moments: Moments) -> Tensor | None:
    """Return ``K`` (d, d) with ``K K^T`` about the inverse of the second derivatives.

    They are those at zero, over some of the rows. None where there are too few rows for it, or it
    would cost more than it saves.
    """
    counted, (mean, scale) = torch.nonzero(share)[:, 0], moments
    n, d = len(counted), len(mean)
    # A penalty far above the curvature of the loss, which is at most 1/4, makes all directions
    # alike by itself.
    if n < max(_SAMPLE_ROWS * d, _SAMPLE_COST * d**2) or d > _SAMPLE_FEATURES or l2 > _ALONE:
        return None
    n_rows = n if n * d**2 <= _SAMPLE_PRODUCTS else _SAMPLE_ROWS * d
    sample = counted[torch.arange(n_rows) * n // n_rows]
    # Single precision, because it only has to be close.
    gram = torch.zeros(d, d, dtype=torch.float32)
    for rows in sample.split(block_rows(d)):
        block = (Z[rows].double() - mean) / scale * share[rows].sqrt()[:, None]
        block = block.float()
        gram.addmm_(block.T, block)
    # A quarter is the most that p (1 - p) can be.
    gram *= 0.25 / float(share[sample].sum())
    gram.diagonal().add_(l2 + _SAMPLE_RIDGE * float(gram.diagonal().mean()) + _LEAST_CURVATURE)
    factor = torch.linalg.cholesky(gram)
    # The explicit inverse: a product with it takes a tenth of the time of a triangular solve.
    return torch.linalg.solve_triangular(
        factor.T, torch.eye(d, dtype=gram.dtype), upper=True
    ).double()
