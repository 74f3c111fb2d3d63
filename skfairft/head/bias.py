"""The bias that fits best when the weights of a head are given."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..rows.blocks import map_blocks
from ..rows.tensor_rows import TensorRows

__all__ = ["refit_bias"]

# Newton's method ends here: a gradient's rounding is some 1e-16.
_STEPS, _GRADIENT_TOL = 100, 1e-12
# Share of the decrease that the slope promises for which a step is taken.
_ARMIJO = 0.25
# Rounding of the loss.
_LOSS_TOL = 64 * float(np.finfo(np.float64).eps)


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
    logits = torch.cat([*map_blocks(lambda block: block @ weight, rows.Z)])

    def loss_at(bias: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the loss, the log of the mean probabilities (k,) and the Hessian (k, k)."""

        def part(block: Tensor, y: Tensor, share: Tensor) -> tuple[float, Tensor, Tensor]:
            log_p = torch.log_softmax(block + bias, dim=1)
            share = share[:, None]
            value = -float((share * log_p.gather(1, y[:, None])).sum())
            p = log_p.exp()
            return value, torch.logsumexp(log_p + share.log(), dim=0), -(p.T @ (p * share))

        values, logs, products = zip(*map_blocks(part, logits, y, row_share), strict=True)
        log_mean = torch.logsumexp(torch.stack(logs), dim=0)
        return sum(values), log_mean, torch.stack(products).sum(dim=0) + log_mean.exp().diag()

    loss, log_mean, hessian = loss_at(bias)
    for _ in range(_STEPS):
        gradient = log_mean.exp() - class_share
        if float(gradient.abs().max()) <= _GRADIENT_TOL:
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
