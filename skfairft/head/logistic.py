"""Logistic regression on standardized features, for one fit or one for each fold.

The objective is that of `skfairft.head.objective`. Its minimum is found by L-BFGS about its second
derivatives (`skfairft.head.curvature`), anew where that pays: Newton's method, with updates in
place of most of its matrices. Several fits on the same features go side by side, one pass for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from ..inputs.warn import warn_user
from ..lowrank.moments import ColumnMoments, Moments
from ..rows.blocks import reduce_blocks
from ..rows.tensor_rows import TensorRows
from .curvature import assembly_cost, kronecker, moved, newton, second_derivatives
from .descent import Solve, descend
from .objective import Objective, Problem

__all__ = ["fit_logistic", "fit_logistic_folds", "moments_outside"]

# Mean loss below which the classes are separable: of others hardly any row is that certain.
_SEPARATE = 1e-4
# Passes that second derivatives save a fit which starts next to its end.
_NEWTON_SAVES = 20
# Largest entry of the gradient at the end. Near it each step gains digits, so that almost all that
# there are cost hardly more than scikit-learn's 1e-4. Then neither the order of the rows shows, nor
# where a fit started: one from the solution of other rows must not remember them.
_EXACT = 1e-12
# What only judges needs less of it: it is as far from what it stands for as a fifth of the rows.
_OF_FOLDS = 1e-7


def fit_logistic(
    rows: TensorRows,
    n_classes: int,
    l2: float,
    moments: Moments,
    start: tuple[Tensor, Tensor] | None = None,
    tol: float = _EXACT,
) -> tuple[Tensor, Tensor]:
    """Minimize the objective of one fit.

    Parameters
    ----------
    rows : TensorRows
        Features, encoded labels 0..k-1 and sample weights.
    n_classes : int
        Number of classes k.
    l2 : float
        Strength of the penalty.
    moments : Moments
        What standardizes the features.
    start : (weight, bias), optional
        Where to start, as what is returned. It saves time if it is close, and changes the result
        by no more than the tolerance of the gradient.
    tol : float, default=1e-12
        Of each entry of the gradient.

    Returns
    -------
    weight, bias : Tensor of shape (d, m) and (m,), float64
        ``V`` and ``c``: on raw features.

    Warns
    -----
    ConvergenceWarning
        If there is no penalty and the classes are separable: then there is no minimum.

    Examples
    --------
    >>> Z, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0, 1])
    >>> as_they_are = Moments(torch.zeros(1).double(), torch.ones(1).double())
    >>> weight, bias = fit_logistic(TensorRows(Z, y), 2, 0.25, as_they_are)
    >>> weight.shape, bias.shape
    (torch.Size([1, 1]), torch.Size([1]))
    """
    problem = Problem(rows.w.double() / rows.w.sum(), l2, moments)
    objective = Objective(rows, n_classes, [problem])
    theta = objective.zero(problem) if start is None else objective.standardized(problem, start)
    # Where all weights are zero, the cheaper form is as good.
    if start is not None and assembly_cost(objective) <= _NEWTON_SAVES:
        solve = _newton_at(objective, problem, theta)
    else:
        solve = kronecker(objective, problem)
    return _minimize(objective, [theta], [solve], tol)[0]


def fit_logistic_folds(
    rows: TensorRows,
    n_classes: int,
    C: float,
    held_out: Tensor,
    whole: tuple[Tensor, Tensor],
    moments: list[Moments] | None = None,
    tol: float = _OF_FOLDS,
    weights: Sequence[Tensor] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Fit the rows outside each fold, as `fit_logistic` does, all at once.

    Each fit starts from the solution on all rows, with the second derivatives there of its own
    rows: the sum over the other folds, so that all fits take one assembly. Features are read once
    in a pass for all fits, and not copied.

    Parameters
    ----------
    rows : TensorRows
        Features, encoded labels 0..k-1 and sample weights.
    n_classes : int
        Number of classes k.
    C : float
        Inverse strength of the penalty: ``l2`` of a fit is 1 / (C times the sum of its weights).
    held_out : Tensor of shape (n,), int64
        The fold of each row, 0..F-1, or -1 for rows that all fits have.
    whole : (weight, bias)
        The solution on all rows, as `fit_logistic` returns it.
    moments : list of Moments, optional
        What standardizes the features of each fold's fit; None are the moments of its rows.
    tol : float, default=1e-7
        Of each entry of the gradient.
    weights : sequence of Tensor of shape (n,), optional
        Those that each fold's fit gives the rows, in place of ``rows.w``; the moments are of that.

    Returns
    -------
    list of (weight, bias)
        Of each fold, the solution on the rows outside it.

    Examples
    --------
    >>> rows = TensorRows(torch.arange(6.0)[:, None], torch.tensor([0, 1, 0, 1, 0, 1]))
    >>> whole = torch.zeros(1, 1).double(), torch.zeros(1).double()
    >>> folds = fit_logistic_folds(rows, 2, 1.0, torch.tensor([0, 0, 0, 1, 1, 1]), whole)
    >>> len(folds), folds[0][0].shape
    (2, torch.Size([1, 1]))
    """
    n_folds = int(held_out.max()) + 1 if moments is None else len(moments)
    if moments is None:
        moments = moments_outside(rows, held_out, n_folds)
    total = float(rows.w.sum())
    everything = Problem(rows.w.double() / total, 1.0 / (C * total), moments[0])
    problems = []
    for fold, own_moments in enumerate(moments):
        own = everything.share if weights is None else weights[fold] / total
        share = torch.where(held_out == fold, 0.0, own)
        kept = float(share.sum())
        problems.append(Problem(share / kept, everything.l2 / kept, own_moments))
    objective = Objective(rows, n_classes, problems)
    starts = [objective.standardized(problem, whole) for problem in problems]
    if assembly_cost(objective, n_folds) > _NEWTON_SAVES * n_folds:
        # One for all: on wide features it takes as long as many passes.
        return _minimize(objective, starts, [kronecker(objective, everything)] * n_folds, tol)
    parts = second_derivatives(objective, everything, starts[0], held_out, n_folds)
    solves = []
    # In each fit's own coordinates: otherwise it remembers features that its rows do not have.
    for fold, problem in enumerate(problems):
        others = parts[torch.arange(len(parts)) != fold].sum(dim=0)
        others /= float(everything.share[held_out != fold].sum())
        solves.append(newton(moved(others, moments[0], problem.moments), problem.l2))
    return _minimize(objective, starts, solves, tol)


def _minimize(
    objective: Objective, starts: list[Tensor], solves: list[Solve], tol: float
) -> list[tuple[Tensor, Tensor]]:
    """Return ``V`` and ``c`` of each problem."""
    cost = assembly_cost(objective)
    descents = [
        descend(theta, solve, partial(_newton_at, objective, problem), cost, tol)
        for problem, theta, solve in zip(objective.problems, starts, solves, strict=True)
    ]
    asked = {i: next(descent) for i, descent in enumerate(descents)}
    found: dict[int, tuple[float, Tensor]] = {}
    while asked:
        for i, answer in objective(asked).items():
            try:
                asked[i] = descents[i].send(answer)
            except StopIteration as end:
                found[i] = end.value
                del asked[i]
    ends = [(problem, *found[i]) for i, problem in enumerate(objective.problems)]
    if any(problem.l2 == 0.0 and loss < _SEPARATE for problem, loss, _ in ends):
        warn_user(
            "Without a penalty (C=inf) a linear head for these rows has no optimum: their classes "
            "can be told apart without an error, so that larger weights are always better. Where "
            "training ends is arbitrary, and probabilities are 0 or 1; set a finite C.",
            ConvergenceWarning,
        )
    return [objective.raw(problem, theta) for problem, _, theta in ends]


def _newton_at(objective: Objective, problem: Problem, theta: Tensor) -> Solve:
    """Return what multiplies with the inverse of the second derivatives at parameters."""
    return newton(second_derivatives(objective, problem, theta)[-1], problem.l2)


def moments_outside(rows: TensorRows, held_out: Tensor, n_folds: int) -> list[Moments]:
    """Return the moments of the rows outside each fold, in one pass; -1 is in none."""
    d, folds = rows.Z.shape[1], range(-1, n_folds)

    def of_each(block: Tensor, codes: Tensor, w: Tensor) -> list[ColumnMoments]:
        own = [torch.nonzero(codes == fold)[:, 0] for fold in folds]
        return [ColumnMoments(d).update(block[each], w[each]) for each in own]

    def merged(total: list[ColumnMoments], found: list[ColumnMoments]) -> list[ColumnMoments]:
        return [part.merge(new) for part, new in zip(total, found, strict=True)]

    parts = reduce_blocks(of_each, merged, rows.Z, held_out, rows.w)
    assert parts is not None
    outside = []
    for fold in range(n_folds):
        joined = ColumnMoments(d)
        for other, part in zip(folds, parts, strict=True):
            if other != fold:
                joined.merge(part)
        outside.append(joined.result())
    return outside
