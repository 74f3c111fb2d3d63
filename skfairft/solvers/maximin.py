"""The multipliers under which the largest rate is least: a game against the worst cell.

Of rates ``r_u(d)`` of a decision d, such as the errors of the cells of class and group, and a
weight t, the rule is wanted that maximizes::

    (1 - t) accuracy(d) - t max_u r_u(d)

The dual has one unknown per rate, a distribution lambda over them::

    min over lambda of  E[max_j sum_c score_c,j(lambda) P(c | x)],

where a cell c that is predicted j scores ``1 - t`` if j is its class, minus ``t lambda_u /
share_u`` for each rate u in which it counts. At a solution lambda is positive for the rates that
are the largest, which *bind*. Kelley's method [1]_: each lambda that is tried gives a rule, and
with it a plane that lies below the dual, ``(1 - t) accuracy - t sum_u lambda_u r_u``; the next
lambda is where the largest of all planes is least, a linear program of a few unknowns. The value
there is a lower bound of the dual, and the least that was seen an upper one. The planes of one
weight are those of all: what was found for one helps the next.

References
----------
.. [1] Kelley, "The cutting-plane method for solving convex programs", J. SIAM 8, 1960.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from ..parity.constraints import Parity
from ..parity.levels import Levels
from .dual import refuse_absent
from .rule import cell_scores

__all__ = ["MaximinDual", "Worst", "WorstGroup", "worst_group"]

Floats = NDArray[np.float64]

# Certified distance to the optimum at which the search ends, as a share of all rows: far below the
# statistical error of any rate.
_GAP = 1e-4
_MOST_CUTS = 500
# A rate whose lambda is below this does not bind.
_BINDS = 1e-2


class Worst(NamedTuple):
    """What a rule was to reach by the probabilities that it was found with.

    Parameters
    ----------
    rates : ndarray of shape (m, G)
        Expected rates of the rule, NaN where there are no rows.
    shares : ndarray of shape (m, G)
        Lambda, with sum 1: those above 0 bind.
    limit : float
        No rule that sees the same probabilities has a smaller largest rate, whatever its accuracy:
        minus the value of the dual at a weight of 1.
    accuracy, plain_accuracy : float
        Expected, of the rule and of the one without a weight.
    rows : ndarray of shape (m, G), int64
        How many rows each rate is of.
    """

    rates: Floats
    shares: Floats
    limit: float
    accuracy: float
    plain_accuracy: float
    rows: NDArray[np.int64]


class WorstGroup(NamedTuple):
    """What the votes of a classifier are to reach in the worst cell, by the head's probabilities.

    A cell is a pair of class and group, or for rates that are one of each group None and a group:
    for ``constraint="worst_error_rate"``, and for false negative and false positive rates of one
    class, where the rows are those that the rate is of. With ``groups="columns"`` a level of a
    column stands for the group, such as "sex='f'".

    Parameters
    ----------
    error : float
        Expected error of the worst cell.
    limit : float
        Less than that no decisions by these probabilities have: minus the value of the dual.
    binding : tuple of (class, group, share)
        The cells whose errors the votes hold down together, and their parts in it, with sum 1 up
        to rounding: more weight on one of them is less for another.
    smallest : (class, group)
        The cell of the fewest rows.
    rows : int
        How many these are.
    accuracy, plain_accuracy : float
        Expected accuracy with these votes, and without a weight: their difference is the price.
        With ``class_weight`` it is that of rows so weighted.
    """

    error: float
    limit: float
    binding: tuple[tuple[Any, Any, float], ...]
    smallest: tuple[Any, Any]
    rows: int
    accuracy: float
    plain_accuracy: float


def worst_group(
    worst: Worst, classes: NDArray[Any], groups: NDArray[Any], levels: Levels | None = None
) -> WorstGroup:
    """Return what was found with names of classes and groups, or levels, for its cells.

    Examples
    --------
    >>> rates, shares = np.array([[0.25, 0.125]]), np.array([[1.0, 0.0]])
    >>> worst = Worst(rates, shares, 0.25, 0.8, 0.9, np.array([[30, 70]]))
    >>> worst_group(worst, np.array(["no", "yes"]), np.array(["a", "b"])).binding
    ((None, 'a', 1.0),)
    """
    n_columns = 1 if levels is None else len(levels.columns)
    own = classes.tolist() if len(worst.rates) == n_columns * len(classes) else [None]
    labels = [label for label in own for _ in range(n_columns)]

    def cell(m: int, g: int) -> tuple[Any, Any]:
        name = groups.tolist()[g] if levels is None else levels.name(m % n_columns, g)
        return labels[m], name

    order = sorted(np.argwhere(worst.shares > 0.0).tolist(), key=lambda u: -worst.shares[tuple(u)])
    there = np.where(worst.rows > 0, worst.rows, np.iinfo(np.int64).max)
    m, g = np.unravel_index(int(there.argmin()), there.shape)
    return WorstGroup(
        error=float(np.nanmax(worst.rates)),
        limit=worst.limit,
        binding=tuple((*cell(i, j), float(worst.shares[i, j])) for i, j in order),
        smallest=cell(int(m), int(g)),
        rows=int(worst.rows[m, g]),
        accuracy=worst.accuracy,
        plain_accuracy=worst.plain_accuracy,
    )


class MaximinDual:
    """The rules of each weight between accuracy and the worst rate; see the module.

    Parameters
    ----------
    p, w, parity, n_groups
        As for `ParityDual`.
    rows : Tensor of shape (k, G), int64, optional
        Number of rows of each label and group; rates without rows are left out. None is all of all.

    Raises
    ------
    ValueError
        If the probabilities of all rows of a rate that has rows are zero.

    Examples
    --------
    Of the second class's rows those of group 1 look more like the first class:

    >>> from skfairft.parity.constraints import parity
    >>> p = torch.tensor([[0.8, 0.0, 0.2, 0.0], [0.0, 0.6, 0.0, 0.4]]).double().repeat(50, 1)
    >>> dual = MaximinDual(p, torch.ones(100).double(), parity("worst_group", 2), n_groups=2)
    >>> dual.at(1.0).shape, float(dual.at(1.0).sum())
    (torch.Size([2, 2]), 1.0)
    """

    def __init__(
        self, p: Tensor, w: Tensor, parity: Parity, *, n_groups: int, rows: Tensor | None = None
    ) -> None:
        self._parity = parity
        self._share = (w / w.sum()).numpy()
        self._P = np.ascontiguousarray(p.numpy().T)
        #: Expected weight (k, G) of each cell, for `cell_scores`.
        self.count = (w @ p).reshape(-1, n_groups)
        self._cells: Floats = (self.count / self.count.sum()).numpy()
        k = len(self.count)
        rows = torch.full((k, n_groups), len(p)) if rows is None else rows
        # Rows, whatever weights their classes have.
        behind = parity.behind(rows.double())
        there = behind > 0
        refuse_absent(parity.counts(self.count)[there] / self.count.sum())
        self._there, self._rows = there.numpy(), behind.long().numpy()
        self._cuts: list[tuple[float, Floats]] = []  # accuracy and rates of the rules found so far
        self._solved: dict[float, Floats] = {}
        self._limit = 0.0

    def at(self, weight: float) -> Tensor:
        """Return the multipliers (m, G) of a weight in [0, 1]: lambda times the weight."""
        if weight not in self._solved:
            self._solved[weight] = self._solve(weight)
        return weight * torch.from_numpy(self._solved[weight].copy())

    def scores(self, weight: float) -> Tensor:
        """Return what each cell adds to the score of each class, (k, G, k)."""
        return self._scores(weight, self.at(weight))

    def idle(self) -> bool:
        """Tell whether there is nothing to take away: some rate always is the largest."""
        return False

    def worst(self, weight: float) -> Worst:
        """Return what the rule of a weight was to reach."""
        self.at(weight), self.at(1.0)
        shares = self._solved[weight]
        _, accuracy, rates = self._rule(weight, shares)
        _, plain, _ = self._rule(0.0, shares)
        return Worst(
            rates=np.where(self._there, rates, np.nan),
            shares=np.where(shares > _BINDS, shares, 0.0),
            limit=self._limit,
            accuracy=accuracy,
            plain_accuracy=plain,
            rows=self._rows,
        )

    def _scores(self, weight: float, multipliers: Tensor) -> Tensor:
        return cell_scores(self._parity, multipliers, self.count, right=1.0 - weight)

    def _rule(self, weight: float, shares: Floats) -> tuple[float, float, Floats]:
        """Return the value of the dual at lambda (m, G), the rule's accuracy and rates (m, G)."""
        k, n_groups = self.count.shape
        multipliers = weight * torch.from_numpy(shares)
        scores = self._scores(weight, multipliers).numpy().reshape(k * n_groups, k)
        score = scores.T @ self._P
        decided = score.argmax(axis=0)
        value = float(self._share @ score.max(axis=0))
        decision = np.zeros_like(score)
        decision[decided, np.arange(len(decided))] = self._share
        mass = (self._P @ decision.T).reshape(k, n_groups, k)
        rates = np.nan_to_num(self._parity.rates(mass, self._cells))
        accuracy = float(mass.diagonal(0, 0, 2).sum())
        return value, accuracy, rates

    def _solve(self, weight: float) -> Floats:
        """Return the lambda (m, G) whose rule has the best objective."""
        free = self._there.ravel()
        least, best, chosen = np.inf, -np.inf, self._there / self._there.sum()
        below, shares = -np.inf, chosen
        if self._cuts:  # of other weights
            below, shares = self._least_of_planes(weight, free)
        for _ in range(_MOST_CUTS):
            value, accuracy, rates = self._rule(weight, shares)
            least = min(least, value)
            reached = (1.0 - weight) * accuracy - weight * float(rates.max())
            if reached > best:
                best, chosen = reached, shares
            if least - max(below, best) <= _GAP:
                break
            self._cuts.append((accuracy, rates.ravel()[free]))
            below, shares = self._least_of_planes(weight, free)
        if weight == 1.0:
            self._limit = max(0.0, -least)
        return chosen

    def _least_of_planes(self, weight: float, free: NDArray[np.bool_]) -> tuple[float, Floats]:
        """Return the least of the largest plane, and where it is."""
        accuracy = np.array([each for each, _ in self._cuts])
        rates = np.stack([each for _, each in self._cuts])
        size = rates.shape[1]
        found = linprog(
            np.append(np.zeros(size), 1.0),
            A_ub=np.column_stack([-weight * rates, -np.ones(len(rates))]),
            b_ub=-(1.0 - weight) * accuracy,
            A_eq=np.append(np.ones(size), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0.0, None)] * size + [(None, None)],
            method="highs",
        )
        shares = np.zeros(self._there.size)
        shares[free] = np.maximum(found.x[:-1], 0.0)
        return float(found.x[-1]), (shares / shares.sum()).reshape(self._there.shape)
