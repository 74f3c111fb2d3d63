"""Constraints by name, and the tables of sums over rows that their moments are functions of.

``mass``, ``count`` and the moments are described in `skfairft.parity.moments`.
"""

from __future__ import annotations

from torch import Tensor

from .moments import Parity, moments
from .table import TABLE

__all__ = [
    "CONSTRAINTS",
    "Parity",
    "cell_counts",
    "largest_distance",
    "mass_table",
    "parity",
]

CONSTRAINTS = tuple(TABLE)
"""Names of the constraints, those of fairlearn's moments where it has them."""


def largest_distance(constraint: str) -> int:
    """Return the largest `Parity.distance` that rates can have: 1 for each that it adds up.

    Examples
    --------
    >>> largest_distance("demographic_parity"), largest_distance("equalized_odds")
    (1, 2)
    """
    return len(TABLE[constraint].rates)


def parity(constraint: str, n_classes: int, class_weight: Tensor | None = None) -> Parity:
    """Return the moments of a constraint.

    Parameters
    ----------
    constraint : str
        One of `CONSTRAINTS`.
    n_classes : int
        Number of classes k.
    class_weight : Tensor of shape (k,), float64, optional
        As for `moments`.

    Examples
    --------
    >>> odds = parity("equalized_odds", 2)
    >>> odds.positives, odds.events.tolist()
    (range(1, 2), [[0.0, 1.0], [1.0, 0.0]])
    """
    return moments(TABLE[constraint].rates, n_classes, class_weight=class_weight)


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
    >>> import torch
    >>> y, s = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1])
    >>> cell_counts(y, s, torch.tensor([1.0, 2.0, 3.0]), n_classes=2, n_groups=2)
    tensor([[1., 0.],
            [0., 5.]])
    """
    count = w.new_zeros(n_classes * n_groups).index_add(0, y * n_groups + codes, w)
    return count.reshape(n_classes, n_groups)
