"""What disparity, or the worst cell, costs in training: a function of a table of sums over rows.

``mass`` and ``count`` are those of `skfairft.parity.constraints`; for the worst cell ``mass`` sums
the rows' losses, ``-log p_j``, in place of their probabilities ``p_j``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..rows.tensor_rows import TensorRows
from .constraints import Parity
from .moments import divide, nonzero

__all__ = ["ParityPenalty", "losses", "probabilities", "weighed_mass"]

# Differences below it are not told from none in the penalty "distance".
_ROUNDING = 1e-4
# Losses that differ by less than about this are not told from each other in the penalty "worst".
_SOFT = 0.005


def probabilities(logits: Tensor) -> Tensor:
    """Return probabilities (n, k) in float64.

    Examples
    --------
    >>> probabilities(torch.zeros(1, 2)).tolist()
    [[0.5, 0.5]]
    """
    return torch.softmax(logits.double(), dim=1)


def losses(logits: Tensor) -> Tensor:
    """Return the cross-entropy (n, k) that each label would have, in float64.

    Examples
    --------
    >>> losses(torch.zeros(1, 2)).round(decimals=3).tolist()
    [[0.693, 0.693]]
    """
    return -torch.log_softmax(logits.double(), dim=1)


@dataclass(frozen=True)
class ParityPenalty:
    """What a head's disparity costs in training, with probabilities in place of decisions.

    Parameters
    ----------
    parity : Parity
        The moments of the constraint.
    count : Tensor of shape (k, G), float64
        Weight of the training rows by label and group, as they are trained with.
    strength : float
        What the disparity is multiplied by, >= 0.
    form : {"squared_gaps", "distance", "worst"}, default="squared_gaps"
        "squared_gaps" is ``strength * sum(gaps**2)`` over moments and groups, smooth; its strength
        comes from `skfairft.solvers.strength`. "distance" is ``strength * distance(rates)``: the
        disparity itself as `Parity.distance` measures it, but for kinks rounded off within 1e-4,
        at which L-BFGS would stop far from the optimum. The second is our reading of the
        baselines Retrain+DP and Retrain+EO of the paper (arXiv:2403.00625), which trains with
        "loss + intensity x penalty", intensities 0.1, 0.5 and 0.9, without saying what the penalty
        is. "worst" is ``strength`` times the largest mean cross-entropy of the rows that a rate is
        of, smoothed: ``0.005 log(sum(exp(loss / 0.005)))``. With it training is group DRO [1]_ of
        all rows at once, mixed with their mean loss. In all, cells without rows are left out.

    References
    ----------
    .. [1] Sagawa et al., "Distributionally robust neural networks", ICLR 2020.

    Examples
    --------
    >>> from skfairft.parity.constraints import parity
    >>> from skfairft.parity.sums import mass_table
    >>> y, s = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    >>> rows = TensorRows(torch.zeros(4, 1), y, None, s)
    >>> p = torch.tensor([[0.2, 0.8], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]]).double()
    >>> mass, count = mass_table(p, rows, n_groups=2)
    >>> moments = parity("demographic_parity", 2)
    >>> round(ParityPenalty(moments, count, 10.0).value(mass).item(), 6)
    0.8
    >>> round(ParityPenalty(moments, count, 10.0, "distance").value(mass).item(), 2)
    4.0
    """

    parity: Parity
    count: Tensor
    strength: float
    form: Literal["squared_gaps", "distance", "worst"] = "squared_gaps"

    @property
    def summed(self) -> Callable[[Tensor], Tensor]:
        """What of the rows' logits (n, k) the table sums, (n, k)."""
        return losses if self.form == "worst" else probabilities

    def value(self, mass: Tensor) -> Tensor:
        """Return the penalty of a table (k, G, k); differentiable."""
        return self._of_rates(divide(self._sums(mass), self.parity.counts(self.count)))

    def _sums(self, mass: Tensor) -> Tensor:
        if self.form != "worst":
            return self.parity.sums(mass)
        return self.parity.counts(mass.diagonal(dim1=0, dim2=2).T)  # each row's own loss

    def _spend(self, prices: Tensor) -> Tensor:
        if self.form != "worst":
            return self.parity.spend(prices)
        return torch.diag_embed(self.parity.of_cells(prices).T, dim1=0, dim2=2)

    def _of_rates(self, rates: Tensor) -> Tensor:
        if self.form == "worst":
            known = rates.masked_fill(rates.isnan(), -torch.inf).flatten()
            return self.strength * _SOFT * torch.logsumexp(known / _SOFT, dim=0)
        if self.form == "distance":
            return self.strength * self.parity.known_distance(rates, _ROUNDING)
        gaps = self.parity.gaps(rates, self.count)
        return self.strength * gaps.nan_to_num(nan=0.0).square().sum()

    def slope(self, mass: Tensor) -> tuple[Tensor, Tensor]:
        """Return the penalty of a table and its derivative (k, G, k) by the table.

        By the chain rule the gradient of the penalty by any parameter is that of
        ``sum(slope * mass)`` at a fixed slope, a sum over rows: see `weighed_mass`.
        """
        counts = self.parity.counts(self.count)
        with torch.enable_grad():
            rates = divide(self._sums(mass.detach()), counts).requires_grad_()
            value = self._of_rates(rates)
            (by_rate,) = torch.autograd.grad(value, rates)
        # A rate is a sum over the table, divided; its derivative is the same for every table.
        return value.detach(), self._spend(by_rate / nonzero(counts))


def weighed_mass(p: Tensor, rows: TensorRows, slope: Tensor) -> Tensor:
    """Return ``sum(slope * mass)`` of some rows, a number, without the table (k, G, k).

    Differentiable in the probabilities ``p`` (n, k).

    Examples
    --------
    >>> from skfairft.parity.sums import mass_table
    >>> rows = TensorRows(torch.eye(2), torch.tensor([0, 1]), None, torch.tensor([1, 0]))
    >>> p = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).double()
    >>> slope = torch.arange(8).reshape(2, 2, 2).double()
    >>> mass, _ = mass_table(p, rows, n_groups=2)
    >>> float((slope * mass).sum()), float(weighed_mass(p, rows, slope))
    (7.25, 7.25)
    """
    per_row = slope.flatten(0, 1).index_select(0, rows.cells(slope.shape[1]))  # (n, k)
    return (per_row * p * rows.w[:, None]).sum()
