"""Parity constraints: which rates are to be equal between groups, and by how much they differ.

Everything here is a function of one table of sums over rows, additive over batches and machines:

========= ============== ==================================================================
``mass``  (k, G, k)      sum of ``w p_j`` over the rows of true label y and group g, by
                         [y, g, j], where ``p`` is a probability or a decision (0 or 1)
``count`` (k, G)         sum of ``w`` over the same rows
rates     (..., m, G)    of each group, for each of m moments of the constraint
========= ============== ==================================================================

A moment is a rate ``P(prediction = j | true label in an event, group)``. With two classes j is
``classes_[1]``; with more, each class in turn against the rest, as in `skfairft.metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "CONSTRAINTS",
    "Parity",
    "ParityPenalty",
    "cell_counts",
    "largest_distance",
    "mass_table",
    "parity",
    "weighed_mass",
]

# Whether the rates among a label's own rows, among all other rows, or among all rows count.
_EVENTS: dict[str, tuple[str, ...]] = {
    "demographic_parity": ("any",),
    "equalized_odds": ("own", "other"),
    "true_positive_rate_parity": ("own",),
    "false_positive_rate_parity": ("other",),
}

# Differences below it are not told from none in the penalty "distance".
_ROUNDING = 1e-4

CONSTRAINTS = tuple(_EVENTS)
"""Names of the constraints, those of fairlearn's moments."""


def largest_distance(constraint: str) -> int:
    """Return the largest `Parity.distance` that rates can have: 1 for each that it adds up.

    Examples
    --------
    >>> largest_distance("demographic_parity"), largest_distance("equalized_odds")
    (1, 2)
    """
    return len(_EVENTS[constraint])


@dataclass(frozen=True)
class Parity:
    """The moments of a constraint.

    Parameters
    ----------
    constraint : str
        One of `CONSTRAINTS`.
    labels : Tensor of shape (m,), int64
        The predicted label whose rate each moment is. Moments of one label are
        neighbours.
    events : Tensor of shape (m, k), float64
        How much rows of a true label count: 0 or 1, or see `parity`.
    """

    constraint: str
    labels: Tensor
    events: Tensor

    @property
    def conditions(self) -> Tensor:
        """The events, each once, within which a score's mean is to be equal: (c, k).

        With more than two classes, all but demographic parity ask for it within each true label:
        the rows of all other labels together are no event of their own, because how a group's
        rows divide over them is not the head's doing.
        """
        n_classes = self.events.shape[1]
        if n_classes > 2 and self.constraint != "demographic_parity":
            return torch.eye(n_classes, dtype=torch.float64)
        return torch.tensor(
            list(dict.fromkeys(map(tuple, self.events.tolist()))), dtype=torch.float64
        )

    def counts(self, count: Tensor) -> Tensor:
        """Return what the rates are shares of: (..., k, G) -> (..., m, G)."""
        return self.events @ count

    def fewest_groups(self, count: Tensor) -> int:
        """Return in how many groups the rate that has rows in the fewest has them."""
        return int((self.counts(count) > 0).sum(dim=-1).min())

    def rates(self, mass: Tensor, count: Tensor) -> Tensor:
        """Return the rate of each moment and group, NaN where a group has no such row.

        Parameters
        ----------
        mass : Tensor of shape (..., k, G, k)
            See the module.
        count : Tensor of shape (k, G)
            See the module.

        Returns
        -------
        Tensor of shape (..., m, G)
            In [0, 1].

        Examples
        --------
        Of group 0 all rows are predicted 1, of group 1 none:

        >>> y, s = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
        >>> p = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]).double()
        >>> mass, count = mass_table(p, y, s, torch.ones(4).double(), n_groups=2)
        >>> parity("demographic_parity", 2).rates(mass, count)
        tensor([[1., 0.]], dtype=torch.float64)
        """
        taken = mass.movedim(-1, -3)[..., self.labels, :, :]  # (..., m, k, G)
        sums = (taken * self.events[:, :, None]).sum(dim=-2)
        counts = self.counts(count)
        # Not 0 / 0: what is left out later would still have a derivative that is NaN.
        return torch.where(counts > 0, sums / _nonzero(counts), torch.nan)

    def gaps(self, rates: Tensor, count: Tensor) -> Tensor:
        """Return the rates (..., m, G) minus those of all groups pooled; NaN stays NaN."""
        counts = self.counts(count)
        sums = (rates.nan_to_num(nan=0.0) * counts).sum(dim=-1, keepdim=True)
        return rates - sums / _nonzero(counts.sum(dim=-1, keepdim=True))

    def distance(self, rates: Tensor) -> Tensor:
        """Return the distance between groups: rates (..., m, G) -> (...).

        The largest rate minus the smallest, summed over the moments of a label (true and false
        positive rate for equalized odds, as in `equalized_odds_distance`), and of these the
        largest over labels. Rates that are NaN are left out.

        Examples
        --------
        >>> rates = torch.tensor([[0.9, 0.7], [0.2, 0.1]])
        >>> round(parity("equalized_odds", 2).distance(rates).item(), 3)
        0.3
        """
        per_label = self._per_label(self.spread(rates))
        largest = per_label.nan_to_num(nan=-torch.inf).amax(dim=-1)
        return torch.where(per_label.isnan().all(dim=-1), torch.nan, largest)

    def known_distance(self, rates: Tensor, rounding: float = 0.0) -> Tensor:
        """Return `distance` of what is known: a moment of fewer than two rates counts as 0.

        With ``rounding`` a difference x counts as ``(x^2 + rounding^2)^1/2 - rounding``, which has
        no kink where the rates are equal.
        """
        spread = self.spread(rates).nan_to_num(nan=0.0)
        if rounding:
            spread = (spread.square() + rounding**2).sqrt() - rounding
        return self._per_label(spread).amax(dim=-1)

    def spread(self, rates: Tensor) -> Tensor:
        """Return the largest rate minus the smallest: (..., m, G) -> (..., m).

        Rates that are NaN are left out; of fewer than two others it is NaN.
        """
        high = rates.nan_to_num(nan=-torch.inf).amax(dim=-1)
        low = rates.nan_to_num(nan=torch.inf).amin(dim=-1)
        known = (~rates.isnan()).sum(dim=-1) >= 2
        return torch.where(known, high - low, torch.nan)

    def _per_label(self, spread: Tensor) -> Tensor:
        """Sum over the moments of a label, which are neighbours."""
        return spread.unflatten(-1, (-1, len(_EVENTS[self.constraint]))).sum(dim=-1)


def parity(constraint: str, n_classes: int, class_weight: Tensor | None = None) -> Parity:
    """Return the moments of a constraint.

    Parameters
    ----------
    constraint : str
        One of `CONSTRAINTS`.
    n_classes : int
        Number of classes k.
    class_weight : Tensor of shape (k,), float64, optional
        Factors of the classes, > 0, in the weights of the rows that the moments are taken of. A
        rate is one of the rows as they are: the events divide by them.

    Examples
    --------
    >>> odds = parity("equalized_odds", 2)
    >>> odds.labels.tolist(), odds.events.tolist()
    ([1, 1], [[0.0, 1.0], [1.0, 0.0]])
    """
    own = torch.eye(n_classes, dtype=torch.float64)
    events = {"any": torch.ones_like(own), "own": own, "other": 1.0 - own}
    positives = [1] if n_classes == 2 else list(range(n_classes))
    kinds = _EVENTS[constraint]
    rows = torch.stack([events[kind][j] for j in positives for kind in kinds])
    return Parity(
        constraint,
        torch.tensor(positives).repeat_interleave(len(kinds)),
        rows if class_weight is None else rows / class_weight,
    )


def mass_table(
    p: Tensor, y: Tensor, codes: Tensor, w: Tensor, *, n_groups: int
) -> tuple[Tensor, Tensor]:
    """Sum predictions and weights by true label and group.

    Parameters
    ----------
    p : Tensor of shape (n, k), float64
        Probabilities, or one-hot decisions.
    y, codes : Tensor of shape (n,), int64
        True label and group of each row.
    w : Tensor of shape (n,), float64
        Sample weights.
    n_groups : int
        Number of groups G.

    Returns
    -------
    mass : Tensor of shape (k, G, k), float64
        Differentiable in ``p``.
    count : Tensor of shape (k, G), float64
        See the module.
    """
    k = p.shape[1]
    mass = p.new_zeros(k * n_groups, k).index_add(0, y * n_groups + codes, p * w[:, None])
    return mass.reshape(k, n_groups, k), cell_counts(y, codes, w, n_classes=k, n_groups=n_groups)


def cell_counts(y: Tensor, codes: Tensor, w: Tensor, *, n_classes: int, n_groups: int) -> Tensor:
    """Sum weights by true label and group, the ``count`` of the module.

    Parameters
    ----------
    y, codes : Tensor of shape (n,), int64
        True label and group of each row.
    w : Tensor of shape (n,), float64
        Sample weights.
    n_classes, n_groups : int
        Number of classes k and of groups G.

    Returns
    -------
    Tensor of shape (k, G), float64
        Zero where there is no such row.

    Examples
    --------
    >>> y, s = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1])
    >>> cell_counts(y, s, torch.tensor([1.0, 2.0, 3.0]), n_classes=2, n_groups=2)
    tensor([[1., 0.],
            [0., 5.]])
    """
    count = w.new_zeros(n_classes * n_groups).index_add(0, y * n_groups + codes, w)
    return count.reshape(n_classes, n_groups)


@dataclass(frozen=True)
class ParityPenalty:
    """What a head's disparity costs in training, with probabilities in place of decisions.

    Parameters
    ----------
    parity : Parity
        The moments of the constraint.
    count : Tensor of shape (k, G), float64
        Of the training rows, with the weights they are trained with; see the module.
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
    >>> y, s = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    >>> p = torch.tensor([[0.2, 0.8], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]]).double()
    >>> mass, count = mass_table(p, y, s, torch.ones(4).double(), n_groups=2)
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
        rates = self.parity.rates(mass, self.count)
        if self.form == "distance":
            return self.strength * self.parity.known_distance(rates, _ROUNDING)
        gaps = self.parity.gaps(rates, self.count)
        return self.strength * gaps.nan_to_num(nan=0.0).square().sum()

    def slope(self, mass: Tensor) -> tuple[Tensor, Tensor]:
        """Return the penalty of a table and its derivative (k, G, k) by the table.

        By the chain rule the gradient of the penalty by any parameter is that of
        ``sum(slope * mass)`` at a fixed slope, a sum over rows: see `weighed_mass`.
        """
        with torch.enable_grad():
            leaf = mass.detach().clone().requires_grad_()
            value = self.value(leaf)
            (slope,) = torch.autograd.grad(value, leaf)
        return value.detach(), slope


def weighed_mass(p: Tensor, y: Tensor, codes: Tensor, w: Tensor, slope: Tensor) -> Tensor:
    """Return ``sum(slope * mass)`` of some rows, a number, without the table.

    Parameters
    ----------
    p : Tensor of shape (n, k), float64
        Probabilities; the result is differentiable in them.
    y, codes, w : Tensor of shape (n,)
        As for `mass_table`.
    slope : Tensor of shape (k, G, k), float64
        Coefficient of each entry of the table.

    Examples
    --------
    >>> y, s, w = torch.tensor([0, 1]), torch.tensor([1, 0]), torch.ones(2).double()
    >>> p = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).double()
    >>> slope = torch.arange(8).reshape(2, 2, 2).double()
    >>> mass, _ = mass_table(p, y, s, w, n_groups=2)
    >>> float((slope * mass).sum()), float(weighed_mass(p, y, s, w, slope))
    (7.25, 7.25)
    """
    per_row = slope.flatten(0, 1).index_select(0, y * slope.shape[1] + codes)  # (n, k)
    return (per_row * p * w[:, None]).sum()


def _nonzero(counts: Tensor) -> Tensor:
    """Return counts to divide sums by that are zero where the counts are."""
    return torch.where(counts > 0, counts, 1.0)
