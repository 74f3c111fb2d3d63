"""The plug-in rule: which class to predict, given the probabilities of label and group together.

Among all rules that see x but not the group, the most accurate one whose rates differ between
groups by no more than a bound decides by sums of ``P(label y, group g | x)``, each with a weight
that depends on the constraint alone (Menon and Williamson 2018 [1]_; with several classes and
groups Xian and Zhao 2024 [2]_). So a head that estimates the probabilities of these cells carries
every point of the trade-off: another weight of fairness only takes another small table of votes.

.. [1] A. K. Menon and R. C. Williamson, "The cost of fairness in binary classification",
   FAT* 2018.
.. [2] R. Xian and H. Zhao, "A unified post-processing framework for group fairness in
   classification", arXiv:2405.04025, 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..parity.constraints import Parity
from ..parity.moments import nonzero

__all__ = ["cell_scores", "votes"]


def cell_scores(parity: Parity, multipliers: Tensor, count: Tensor, right: float = 1.0) -> Tensor:
    """Return what a cell of label and group adds to the score of each class.

    The Lagrangian of "accuracy, with the rates of all groups equal": a row of the cell (y, g)
    predicted j counts 1 if y = j, minus, for each moment, its coefficient of (y, j) times the
    group's multiplier, divided by the share of rows that the moment's rate is a mean over.

    Parameters
    ----------
    parity : Parity
        The moments.
    multipliers : Tensor of shape (m, G), float64
        One per moment and group; a rule of parity has rows of sum 0.
    count : Tensor of shape (k, G), float64
        Weight of each cell.
    right : float, default=1.0
        What a right decision counts.

    Returns
    -------
    Tensor of shape (k, G, k), float64
        By label, group and predicted label.

    Examples
    --------
    >>> from skfairft.parity.constraints import parity
    >>> multipliers = torch.tensor([[0.1, -0.1]]).double()
    >>> count = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).double()
    >>> cell_scores(parity("demographic_parity", 2), multipliers, count)[:, :, 1]
    tensor([[-0.2000,  0.2000],
            [ 0.8000,  1.2000]], dtype=torch.float64)
    """
    share = parity.counts(count) / count.sum()
    own = torch.eye(len(count), dtype=torch.float64)[:, None, :]
    return right * own - parity.spend(multipliers / nonzero(share))


def votes(scores: Tensor) -> Tensor:
    """Return cell scores as probabilities with which a cell votes for each class.

    The class with the most votes is that of the highest score: a constant added to the scores of
    a cell, or a common factor, changes no decision. Without a constraint each cell votes for its
    own label, and the votes of a row are its class probabilities.

    Parameters
    ----------
    scores : Tensor of shape (c, k), float64
        By cell and class.

    Returns
    -------
    Tensor of shape (c, k), float64
        Rows are non-negative with sum 1.

    Examples
    --------
    >>> votes(torch.tensor([[1.0, 0.0], [0.0, 1.5]]).double())
    tensor([[0.8333, 0.1667],
            [0.0000, 1.0000]], dtype=torch.float64)
    """
    k = scores.shape[1]
    total = scores.sum(dim=1, keepdim=True)
    size = float((total - k * scores).max())
    out = (scores + (size - total) / k) / size
    return out.clamp_min(0.0)  # of rounding
