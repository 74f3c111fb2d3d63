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

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from ..parity.constraints import Parity
from ..rows.tensor_rows import effective_rows

__all__ = ["cell_scores", "solve_multipliers", "votes"]

# The rule's indicator is smoothed to a softmax of these temperatures, one after the other:
# probabilities differ by far more than the last one.
_TEMPERATURES = (0.1, 0.03, 0.01, 0.003)
_MAX_ITER = 100
# Relative improvement at which the search ends. At the last temperature the dual is so stiff that
# SciPy's 2e-9 ends it while rates are still off by 0.07.
_FTOL = 1e-13
# A share this near the one before starts so well that the last two temperatures are enough.
_NEAR = 0.1

# Rows beyond this many only move the multipliers by a fraction of their statistical error.
_MOST_ROWS = 100_000
# Of a cell with so few rows all are taken.
_RARE_ROWS = 1000

# Rates that differ by less than this share of what chance makes are the same.
_NO_SPREAD = 0.03
# Expected share of the rows of a moment below which a head knows nothing of them.
_LEAST_SHARE = 1e-12

Floats = NDArray[np.float64]


def cell_scores(parity: Parity, multipliers: Tensor, count: Tensor) -> Tensor:
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
    right = torch.eye(len(count), dtype=torch.float64)[:, None, :]
    return right - parity.spend(multipliers / share)


def solve_multipliers(
    p: Tensor,
    w: Tensor,
    parity: Parity,
    *,
    n_groups: int,
    removed: Floats,
    cells: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the rules that remove shares of the disparity, at the least loss of accuracy.

    For each share r, the dual of: maximize the expected accuracy such that no moment's largest
    and smallest rates differ by more than ``(1 - r)`` times the largest such difference of the
    unconstrained rule. It is convex, with one unknown per moment and ordered pair of groups.

    Parameters
    ----------
    p : Tensor of shape (n, k * G), float64
        Probability of each cell (y, g), at column ``y * G + g``.
    w : Tensor of shape (n,), float64
        Sample weights.
    parity : Parity
        The moments.
    n_groups : int
        Number of groups G.
    removed : ndarray of shape (q,)
        Shares in [0, 1], in any order; those near each other in turn start each other.
    cells : Tensor of shape (n,), int64, optional
        True label and group of each row, ``y * G + g``. With them nothing is removed where the
        rows' own rates do not differ: of groups that are alike, but of unequal size, the
        probabilities differ a little, and no rule that depends on them could mend that.

    Returns
    -------
    multipliers : Tensor of shape (q, m, G), float64
        Rows of sum 0.
    count : Tensor of shape (k, G), float64
        Expected weight of each cell, for `cell_scores`.

    Raises
    ------
    ValueError
        If the probabilities of all rows of some moment are zero, as after a training that diverged.

    Examples
    --------
    >>> from skfairft.parity.constraints import parity
    >>> p = torch.tensor([[0.1, 0.2, 0.0, 0.7], [0.6, 0.0, 0.4, 0.0]]).double().repeat(50, 1)
    >>> rule = parity("demographic_parity", 2)
    >>> multipliers, count = solve_multipliers(
    ...     p, torch.ones(100).double(), rule, n_groups=2, removed=np.array([0.0, 1.0])
    ... )
    >>> multipliers[0].tolist(), bool(multipliers[1, 0, 0] < 0)
    ([[0.0, 0.0]], True)
    """
    if len(p) > _MOST_ROWS:
        rows, w = _some_rows(w, cells)
        p, cells = p[rows], None if cells is None else cells[rows]
    share = (w / w.sum()).numpy()
    P = np.ascontiguousarray(p.numpy().T)  # sums over cells and classes are then over rows
    count = (w @ p).reshape(-1, n_groups)
    k, m = len(count), len(parity.events)
    if not bool((parity.counts(count) > _LEAST_SHARE * count.sum()).all()):
        raise ValueError(
            "The head of solver='plug_in' gives some group, or some class of a group, no "
            "probability on any row that it was trained on: its training did not come near to "
            "an end. Use a smaller lr, or leave optimizer, lr and batch_size at None; or train for "
            "more epochs."
        )

    def rule(multipliers: Floats, temperature: float) -> tuple[float, Floats, Floats]:
        """Return the expected score of the smoothed rule, its rates (m, G) and decisions (k, n)."""
        scores = cell_scores(parity, torch.from_numpy(multipliers), count).numpy()
        score = scores.reshape(k * n_groups, k).T @ P
        best = score.max(axis=0)
        decision = np.exp((score - best) / temperature)
        total = decision.sum(axis=0)
        decision *= share / total
        value = float(share @ (best + temperature * np.log(total)))
        mass = torch.from_numpy(P @ decision.T).reshape(k, n_groups, k)
        return value, parity.rates(mass, count / count.sum()).numpy(), decision

    def solve(bound: float, start: Floats, temperatures: tuple[float, ...]) -> Floats:
        # A multiplier for each ordered pair of groups, whose difference up to the bound is free.
        x = _between_pairs(start).ravel()
        for temperature in temperatures:

            def dual(x: Floats, temperature: float = temperature) -> tuple[float, Floats]:
                pairs = x.reshape(m, n_groups, n_groups)
                value, rates, _ = rule(_of_groups(pairs), temperature)
                gradient = bound - (rates[:, :, None] - rates[:, None, :])
                return value + bound * float(x.sum()), gradient.ravel()

            found = minimize(
                dual,
                x,
                jac=True,
                method="L-BFGS-B",
                bounds=[(0.0, None)] * len(x),
                options={"maxiter": _MAX_ITER, "ftol": _FTOL},
            )
            x = found.x
        return _of_groups(x.reshape(m, n_groups, n_groups))

    none = np.zeros((m, n_groups))
    _, rates, decision = rule(none, _TEMPERATURES[-1])
    spread = _spread(rates)
    if cells is not None:
        own = torch.zeros(k * n_groups, k, dtype=torch.float64)
        own.index_add_(0, cells, torch.from_numpy(decision.T.copy()))
        own_count = torch.bincount(cells, w / w.sum(), minlength=k * n_groups)
        found = parity.rates(own.reshape(k, n_groups, k), own_count.reshape(k, n_groups))
        if _spread(found.numpy()) <= _NO_SPREAD / effective_rows(w) ** 0.5:
            spread = 0.0
    out = np.zeros((len(removed), m, n_groups))
    start, before = none, -np.inf
    for i in np.argsort(removed, kind="stable"):
        if removed[i] > 0.0 and spread > 0.0:
            near = removed[i] - before <= _NEAR
            temperatures = _TEMPERATURES[-2:] if near else _TEMPERATURES
            start = out[i] = solve((1.0 - float(removed[i])) * spread, start, temperatures)
            before = removed[i]
    return torch.from_numpy(out), count


def _some_rows(w: Tensor, cells: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the numbers of some rows, and their weights: all of rare cells, others at random."""
    counted = torch.nonzero(w)[:, 0]
    rare = torch.zeros(len(counted), dtype=torch.bool)
    if cells is not None:
        own = cells[counted]
        rare = torch.bincount(own)[own] <= _RARE_ROWS
    kept, others = counted[rare], counted[~rare]
    size = min(max(_MOST_ROWS - len(kept), 0), len(others))
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))
    drawn = others[order[:size]]
    share = len(others) / size if size else 1.0
    return torch.cat([kept, drawn]), torch.cat([w[kept], share * w[drawn]])


def _spread(rates: Floats) -> float:
    """Return the largest difference between groups of any moment's rates (m, G)."""
    return float((np.nanmax(rates, axis=1) - np.nanmin(rates, axis=1)).max())


def _of_groups(pairs: Floats) -> Floats:
    """Return the multipliers (m, G) of groups, with rows of sum 0, for those of pairs (m, G, G)."""
    out: Floats = pairs.sum(axis=2) - pairs.sum(axis=1)
    return out


def _between_pairs(multipliers: Floats) -> Floats:
    """Return multipliers of pairs that are those of groups in sum, and as small as can be."""
    up, down = np.maximum(multipliers, 0.0), np.maximum(-multipliers, 0.0)
    total = up.sum(axis=1, keepdims=True)
    out: Floats = (up / np.where(total > 0.0, total, 1.0))[:, :, None] * down[:, None, :]
    return out


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
