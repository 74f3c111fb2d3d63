"""What disparity costs in training: a function of the table of sums, and of it a sum over rows.

``mass`` and ``count`` are those of `skfairft.parity.constraints`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..rows.tensor_rows import TensorRows
from .constraints import Parity
from .moments import divide, nonzero

__all__ = ["ParityPenalty", "weighed_mass"]

# Differences below it are not told from none in the penalty "distance".
_ROUNDING = 1e-4


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
    form : {"squared_gaps", "distance"}, default="squared_gaps"
        "squared_gaps" is ``strength * sum(gaps**2)`` over moments and groups, smooth; its strength
        comes from `skfairft.solvers.strength`. "distance" is ``strength * distance(rates)``: the
        disparity itself as `Parity.distance` measures it, but for kinks rounded off within 1e-4,
        at which L-BFGS would stop far from the optimum. The second is our reading of the
        baselines Retrain+DP and Retrain+EO of the paper (arXiv:2403.00625), which trains with
        "loss + intensity x penalty", intensities 0.1, 0.5 and 0.9, without saying what the penalty
        is. In both, rates of cells without rows are left out.

    Examples
    --------
    >>> from skfairft.parity.constraints import mass_table, parity
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
    form: Literal["squared_gaps", "distance"] = "squared_gaps"

    def value(self, mass: Tensor) -> Tensor:
        """Return the penalty of a table (k, G, k); differentiable."""
        return self._of_rates(self.parity.rates(mass, self.count))

    def _of_rates(self, rates: Tensor) -> Tensor:
        if self.form == "distance":
            return self.strength * self.parity.known_distance(rates, _ROUNDING)
        gaps = self.parity.gaps(rates, self.count)
        return self.strength * gaps.nan_to_num(nan=0.0).square().sum()

    def slope(self, mass: Tensor) -> tuple[Tensor, Tensor]:
        """Return the penalty of a table and its derivative (k, G, k) by the table.

        By the chain rule the gradient of the penalty by any parameter is that of
        ``sum(slope * mass)`` at a fixed slope, a sum over rows: see `weighed_mass`.
        """
        parity, counts = self.parity, self.parity.counts(self.count)
        with torch.enable_grad():
            rates = divide(parity.sums(mass.detach()), counts).requires_grad_()
            value = self._of_rates(rates)
            (by_rate,) = torch.autograd.grad(value, rates)
        # A rate is a sum over the table, divided; its derivative is the same for every table.
        return value.detach(), parity.spend(by_rate / nonzero(counts))


def weighed_mass(p: Tensor, rows: TensorRows, slope: Tensor) -> Tensor:
    """Return ``sum(slope * mass)`` of some rows, a number, without the table (k, G, k).

    Differentiable in the probabilities ``p`` (n, k).

    Examples
    --------
    >>> from skfairft.parity.constraints import mass_table
    >>> rows = TensorRows(torch.eye(2), torch.tensor([0, 1]), None, torch.tensor([1, 0]))
    >>> p = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).double()
    >>> slope = torch.arange(8).reshape(2, 2, 2).double()
    >>> mass, _ = mass_table(p, rows, n_groups=2)
    >>> float((slope * mass).sum()), float(weighed_mass(p, rows, slope))
    (7.25, 7.25)
    """
    per_row = slope.flatten(0, 1).index_select(0, rows.cells(slope.shape[1]))  # (n, k)
    return (per_row * p * rows.w[:, None]).sum()
