"""The dual of the plug-in rule: the multipliers of a moment and a group, for a share of disparity.

What they mean is in `skfairft.solvers.rule`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from ..parity.constraints import Parity
from ..rows.tensor_rows import effective_rows
from .rule import cell_scores

__all__ = [
    "TEMPERATURES",
    "ParityDual",
    "SmoothedRule",
    "ascend",
    "refuse_absent",
    "solve_multipliers",
    "some_rows",
]

# The rule's indicator is smoothed to a softmax of these temperatures, one after the other:
# probabilities differ by far more than the last one.
TEMPERATURES = (0.1, 0.03, 0.01, 0.003)
_MAX_ITER = 100
# Relative improvement at which the search ends. At the last temperature the dual is so stiff that
# SciPy's 2e-9 ends it while rates are still off by 0.07.
_FTOL = 1e-13
# Newton's method ends where the next step promises less than this.
_DUAL_TOL, _ARMIJO, _LEAST_STEP = 1e-11, 1e-3, 1e-8
_SURE = 36.0  # margins, in temperatures, of which the rounded chance is 0 or 1
_LEAST_CURVATURE = 1e-6  # of the dual, where no row is near the boundary
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


def solve_multipliers(
    p: Tensor,
    w: Tensor,
    parity: Parity,
    *,
    n_groups: int,
    removed: Floats,
    cells: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the rules that remove several shares of the disparity; see `ParityDual`.

    Parameters
    ----------
    p, w, parity, n_groups, cells
        As for `ParityDual`.
    removed : ndarray of shape (q,)
        Shares in [0, 1], in any order; those near each other in turn start each other.

    Returns
    -------
    multipliers : Tensor of shape (q, m, G), float64
        Rows of sum 0. Here and below levels stand in place of groups where ``parity`` has them.
    count : Tensor of shape (k, G), float64
        Expected weight of each cell, for `cell_scores`.

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
    dual = ParityDual(p, w, parity, n_groups=n_groups, cells=cells)
    shape = parity.present(n_groups).shape
    out = torch.zeros(len(removed), *shape, dtype=torch.float64)
    for i in np.argsort(removed, kind="stable"):
        out[i] = dual.at(float(removed[i]))
    return out, dual.count


class ParityDual:
    """The rules that remove shares of the disparity, at the least loss of accuracy.

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
    cells : Tensor of shape (n,), int64, optional
        True label and group of each row, ``y * G + g``. With them nothing is removed where the
        rows' own rates do not differ: of groups that are alike, but of unequal size, the
        probabilities differ a little, and no rule that depends on them could mend that.

    Raises
    ------
    ValueError
        If the probabilities of all rows of some moment are zero, as after a training that diverged.

    Examples
    --------
    >>> from skfairft.parity.constraints import parity
    >>> p = torch.tensor([[0.1, 0.2, 0.0, 0.7], [0.6, 0.0, 0.4, 0.0]]).double().repeat(50, 1)
    >>> rule = parity("demographic_parity", 2)
    >>> dual = ParityDual(p, torch.ones(100).double(), rule, n_groups=2)
    >>> dual.at(0.0).tolist(), dual.at(1.0).shape
    ([[0.0, 0.0]], torch.Size([1, 2]))
    """

    def __init__(
        self, p: Tensor, w: Tensor, parity: Parity, *, n_groups: int, cells: Tensor | None = None
    ) -> None:
        rows, w = some_rows(w, cells)
        p, cells = p[rows], None if cells is None else cells[rows]
        self._parity = parity
        self._smoothed = SmoothedRule(p, w, n_groups)
        #: Expected weight (k, G) of each cell, for `cell_scores`.
        self.count = self._smoothed.count
        present = torch.from_numpy(parity.present(n_groups))
        refuse_absent(parity.counts(self.count)[present] / self.count.sum())
        none = np.zeros(present.shape)
        plain = self._smoothed.plain()
        self._spread = _spread(plain.rates(parity))
        if cells is not None and self._smoothed.alike(parity, plain, cells):
            self._spread = 0.0
        self._solved = {0.0: none}

    @cached_property
    def _two_groups(self) -> _TwoGroups | None:
        if self.count.shape != (2, 2) or self._parity.levels is not None:
            return None
        return _TwoGroups(self._smoothed.P, self._smoothed.share, self._parity, self.count)

    def at(self, removed: float) -> Tensor:
        """Return the multipliers (m, G), rows of sum 0, that remove a share in [0, 1]."""
        if self._spread == 0.0:
            return torch.from_numpy(self._solved[0.0].copy())
        if removed not in self._solved:
            before = max(share for share in self._solved if share < removed)
            near = before > 0.0 and removed - before <= _NEAR
            temperatures = TEMPERATURES[-2:] if near else TEMPERATURES
            bound = (1.0 - removed) * self._spread
            solve = self._solve if self._two_groups is None else self._two_groups.solve
            self._solved[removed] = solve(bound, self._solved[before], temperatures)
        return torch.from_numpy(self._solved[removed].copy())

    def scores(self, removed: float) -> Tensor:
        """Return the `cell_scores` (k, G, k) of a share."""
        return cell_scores(self._parity, self.at(removed), self.count)

    def idle(self) -> bool:
        """Tell whether there is nothing to take away."""
        return not bool(self.at(1.0).any())

    def _solve(self, bound: float, start: Floats, temperatures: tuple[float, ...]) -> Floats:
        # A multiplier for each ordered pair of groups, whose difference up to the bound is free; a
        # place that is none has no rate, and where it would be the multiplier stays 0.
        m, n_groups = start.shape

        def dual(x: Floats, temperature: float) -> tuple[float, Floats]:
            multipliers = torch.from_numpy(_of_groups(x.reshape(m, n_groups, n_groups)))
            found = self._smoothed.at(
                cell_scores(self._parity, multipliers, self.count), temperature
            )
            rates = found.rates(self._parity)
            gradient = bound - np.nan_to_num(rates[:, :, None] - rates[:, None, :])
            return found.value + bound * float(x.sum()), gradient.ravel()

        x = ascend(dual, _between_pairs(start).ravel(), temperatures)
        return _of_groups(x.reshape(m, n_groups, n_groups))


def ascend(
    dual: Callable[[Floats, float], tuple[float, Floats]],
    x: Floats,
    temperatures: tuple[float, ...],
    most: float | None = None,
) -> Floats:
    """Return the x >= 0 of least dual, one temperature after the other.

    Parameters
    ----------
    dual : callable
        Maps x and a temperature to value and gradient.
    x : ndarray of shape (q,)
        Where to start.
    temperatures : tuple of float
        From the first to the last.
    most : float, optional
        The most that each x may be.

    Examples
    --------
    >>> ascend(lambda x, t: (float(x @ x) / 2 - x[0], x - [1.0, 0.0]), np.ones(2), (1.0,)).round(6)
    array([1., 0.])
    """
    for temperature in temperatures:
        found = minimize(
            dual,
            x,
            args=(temperature,),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, most)] * len(x),
            options={"maxiter": _MAX_ITER, "ftol": _FTOL},
        )
        x = found.x
    return x


class _Expected(NamedTuple):
    """What a smoothed rule comes to, in expectation over rows."""

    value: float  # of the score
    mass: Floats  # (k, G, k), the table of its decisions
    decision: Floats  # (k, n), of each row its part of them
    cells: Floats  # (k, G), the share of each cell

    def rates(self, parity: Parity) -> Floats:
        """Return its rates (m, G)."""
        return parity.rates(self.mass, self.cells)


class SmoothedRule:
    """Rules by sums of the cells' probabilities, with a softmax in place of the best class.

    Parameters
    ----------
    p, w, n_groups
        As for `ParityDual`.

    Examples
    --------
    >>> p = torch.tensor([[0.1, 0.2, 0.0, 0.7], [0.6, 0.0, 0.4, 0.0]]).double()
    >>> rule = SmoothedRule(p, torch.ones(2).double(), 2)
    >>> round(rule.plain().value, 3), rule.count.shape
    (0.65, torch.Size([2, 2]))
    """

    def __init__(self, p: Tensor, w: Tensor, n_groups: int) -> None:
        self._w = w
        self.share: Floats = (w / w.sum()).numpy()
        #: Sums over cells and classes are over rows (k G, n).
        self.P = np.ascontiguousarray(p.numpy().T)
        #: Expected weight (k, G) of each cell.
        self.count = (w @ p).reshape(-1, n_groups)
        self._cells: Floats = (self.count / self.count.sum()).numpy()

    def at(self, scores: Tensor, temperature: float) -> _Expected:
        """Return what the rule of `cell_scores` (k, G, k) comes to."""
        k, n_groups = self.count.shape
        score = scores.numpy().reshape(k * n_groups, k).T @ self.P
        best = score.max(axis=0)
        decision = np.exp((score - best) / temperature)
        total = decision.sum(axis=0)
        decision *= self.share / total
        value = float(self.share @ (best + temperature * np.log(total)))
        mass = (self.P @ decision.T).reshape(k, n_groups, k)
        return _Expected(value, mass, decision, self._cells)

    def plain(self) -> _Expected:
        """Return what the most accurate rule comes to."""
        k, n_groups = self.count.shape
        own = torch.eye(k, dtype=torch.float64)[:, None, :].expand(k, n_groups, k)
        return self.at(own.contiguous(), TEMPERATURES[-1])

    def alike(self, parity: Parity, plain: _Expected, cells: Tensor) -> bool:
        """Tell whether the rows' own rates by a rule differ by no more than a little chance."""
        k, n_groups = self.count.shape
        own = torch.zeros(k * n_groups, k, dtype=torch.float64)
        own.index_add_(0, cells, torch.from_numpy(plain.decision.T.copy()))
        count = torch.bincount(cells, self._w / self._w.sum(), minlength=k * n_groups)
        found = parity.rates(own.reshape(k, n_groups, k), count.reshape(k, n_groups))
        return _spread(found.numpy()) <= _NO_SPREAD / effective_rows(self._w) ** 0.5


class _TwoGroups:
    """The dual for two classes and two groups: one unknown for each moment, by Newton's method.

    Its value is ``sum(share * T * log(1 + exp(margin / T)))`` and terms linear in the multipliers
    ``u``, with margins that are linear in them, too; and ``bound * |u|``, whose kink the quadratic
    model keeps.
    """

    def __init__(self, P: Floats, share: Floats, parity: Parity, count: Tensor) -> None:
        m = len(parity.events)
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
        units = torch.eye(m, dtype=torch.float64)[:, :, None] * signs
        free = cell_scores(parity, torch.zeros_like(units[0]), count)
        # By moment, cell and class.
        slopes = torch.stack([cell_scores(parity, unit, count) - free for unit in units])
        flat, of_moments = free.flatten(0, 1).numpy(), slopes.flatten(1, 2).numpy()
        self._share = share
        self._free = (flat[:, 1] - flat[:, 0]) @ P
        self._slopes = (of_moments[:, :, 1] - of_moments[:, :, 0]) @ P  # (m, n)
        self._linear = of_moments[:, :, 0] @ (P @ share)

    def solve(self, bound: float, start: Floats, temperatures: tuple[float, ...]) -> Floats:
        """Return the multipliers (m, 2) of the groups."""
        u = start[:, 0].copy()
        for temperature in temperatures:
            u = self._at(temperature, bound, u)
        return np.stack([u, -u], axis=1)

    def _value(self, u: Floats, temperature: float, bound: float) -> tuple[float, _Decided]:
        """Return the objective, and what is decided there."""
        margin = self._free + u @ self._slopes
        near = np.flatnonzero(np.abs(margin) < _SURE * temperature)
        close, share = margin[near] / temperature, self._share[near]
        rest = np.exp(-np.abs(close))
        loss = float(self._share @ np.maximum(margin, 0.0))
        loss += temperature * float(share @ np.log1p(rest))
        q = (margin > 0.0).astype(np.float64)
        q[near] = np.where(close > 0.0, 1.0, rest) / (1.0 + rest)
        total = loss + float(self._linear @ u) + bound * float(np.abs(u).sum())
        return total, _Decided(q, near, share * q[near] * (1.0 - q[near]) / temperature)

    def _at(self, temperature: float, bound: float, u: Floats) -> Floats:
        value, decided = self._value(u, temperature, bound)
        for _ in range(_MAX_ITER):
            slope = self._slopes @ (self._share * decided.q) + self._linear
            near = self._slopes[:, decided.near]
            hessian = (near * decided.curvature) @ near.T
            hessian.flat[:: len(u) + 1] += _LEAST_CURVATURE
            step = _lasso_step(hessian, slope, u, bound)
            gain = float(slope @ step) + bound * float(np.abs(u + step).sum() - np.abs(u).sum())
            if gain >= -_DUAL_TOL:
                break
            size = 1.0
            while size > _LEAST_STEP:
                there, next_decided = self._value(u + size * step, temperature, bound)
                if there <= value + _ARMIJO * size * gain:
                    break
                size /= 2.0
            else:
                break
            u, value, decided = u + size * step, there, next_decided
        return u


class _Decided(NamedTuple):
    """Chances of the second class (n,), the rows near the boundary, and the curvature there."""

    q: Floats
    near: NDArray[np.int64]
    curvature: Floats


def _lasso_step(hessian: Floats, slope: Floats, u: Floats, bound: float) -> Floats:
    """Return the ``s`` of least ``slope s + s H s / 2 + bound * |u + s|``."""
    side = np.sign(u)
    if side.all():  # as a rule no kink is crossed
        step: Floats = np.linalg.solve(hessian, -(slope + bound * side)).astype(np.float64)
        if (np.sign(u + step) == side).all():
            return step
    step = np.zeros(len(u))
    for _ in range(_MAX_ITER):  # else coordinate by coordinate
        before = step.copy()
        for i in range(len(u)):
            rest = slope[i] + hessian[i] @ step - hessian[i, i] * step[i]
            end = u[i] - rest / hessian[i, i]  # without the kink
            step[i] = np.sign(end) * max(abs(end) - bound / hessian[i, i], 0.0) - u[i]
        if np.abs(step - before).max() <= 1e-12:
            break
    return step


def refuse_absent(shares: Tensor) -> None:
    """Refuse expected shares of the rows, those that rates are of, of which some are zero.

    Examples
    --------
    >>> refuse_absent(torch.tensor([0.5, 0.0]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: The head of solver='plug_in' gives some group, or some class of a group, no ...
    """
    if not bool((shares > _LEAST_SHARE).all()):
        raise ValueError(
            "The head of solver='plug_in' gives some group, or some class of a group, no "
            "probability on any row that it was trained on: its training did not come near to "
            "an end. Use a smaller lr, or leave optimizer, lr and batch_size at None; or train "
            "for more epochs."
        )


def some_rows(w: Tensor, cells: Tensor | None) -> tuple[Tensor | slice, Tensor]:
    """Return which rows a dual takes, and their weights: of many all of rare cells, others drawn.

    Weights and cells (n,) are those for `ParityDual`.

    Examples
    --------
    >>> rows, w = some_rows(torch.ones(150_000), None)
    >>> len(rows), w.sum().round().item()
    (100000, 150000.0)
    """
    if len(w) <= _MOST_ROWS:
        return slice(None), w
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
