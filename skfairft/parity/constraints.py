"""Constraints by name, and the tables of sums over rows that their moments are functions of.

``mass``, ``count`` and the moments are described in `skfairft.parity.moments`.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..rows.tensor_rows import TensorRows
from .levels import Levels
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


def parity(
    constraint: str,
    n_classes: int,
    class_weight: Tensor | None = None,
    *,
    positives: range | None = None,
    levels: Levels | None = None,
    ratio: bool = False,
) -> Parity:
    """Return the moments of one of `CONSTRAINTS`, compared by ``ratio`` or not; as `moments`.

    Examples
    --------
    >>> odds = parity("equalized_odds", 2)
    >>> odds.positives, odds.events.tolist()
    (range(1, 2), [[0.0, 1.0], [1.0, 0.0]])
    """
    row = TABLE[constraint]
    found = moments(
        row.rates,
        n_classes,
        positives=range(n_classes) if row.each_class else positives,
        class_weight=class_weight,
        largest=row.largest,
        levels=levels,
    )
    return replace(found, ratio=True) if ratio else found


def mass_table(p: Tensor, rows: TensorRows, *, n_groups: int) -> tuple[Tensor, Tensor]:
    """Sum predictions and weights by true label and group.

    Parameters
    ----------
    p : Tensor of shape (n, k), float64
        Probabilities, or one-hot decisions.
    rows : TensorRows
        Labels, weights and groups of the same rows.
    n_groups : int
        Number of groups G.

    Returns
    -------
    mass : Tensor of shape (k, G, k), float64
        Differentiable in ``p``.
    count : Tensor of shape (k, G), float64
        As `cell_counts`.
    """
    k = p.shape[1]
    cells, w = rows.cells(n_groups), rows.w
    mass = p.new_zeros(k * n_groups, k).index_add(0, cells, p * w[:, None])
    count = w.new_zeros(k * n_groups).index_add(0, cells, w)
    return mass.reshape(k, n_groups, k), count.reshape(k, n_groups)


def cell_counts(rows: TensorRows, *, n_classes: int, n_groups: int) -> Tensor:
    """Sum weights by true label and group, (k, G): zero where there is no such row.

    Examples
    --------
    >>> import torch
    >>> y, w = torch.tensor([0, 1, 1]), torch.tensor([1.0, 2.0, 3.0])
    >>> cell_counts(TensorRows(torch.zeros(3, 1), y, w, y), n_classes=2, n_groups=2)
    tensor([[1., 0.],
            [0., 5.]])
    """
    count = rows.w.new_zeros(n_classes * n_groups).index_add(0, rows.cells(n_groups), rows.w)
    return count.reshape(n_classes, n_groups)
