"""Matrices close to the second derivatives of `Objective`, and what multiplies with their inverse.

First their Kronecker form, ``Cov(classes) (x) Cov(features) + l2``, which is exact where all
weights are zero; then, where that pays, the second derivatives of each class themselves. Single
precision is enough for what only directs a step. All costs are in passes over the features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ..lowrank.moments import Moments
from ..rows.blocks import reduce_runs
from ..rows.dask import DaskFeatures
from ..rows.mapped import block_rows
from .descent import Solve
from .objective import Objective, Problem, pieces

__all__ = ["assembly_cost", "kronecker", "moved", "newton", "second_derivatives"]

# Second derivatives of up to so many entries, of all folds, are assembled: 128 MiB in each thread,
# and four times that while they are factorized. It is 5,791 features of two classes.
_NEWTON_ENTRIES = 2**25
# Blocks of rows whose sums are added up in place.
_RUN = 8
# To each curvature a share of it is added, for the rounding of single precision, and a hundred
# times more as often as that does not do. Where all rows are certain there is none.
_ROUNDED, _CERTAIN = 1e-7, 1e-5

# Second moments precondition the problem: of all rows up to this many products, so that the order
# of the rows does not show where that costs nothing, otherwise of some rows per feature.
_SAMPLE_PRODUCTS = 2**28
_SAMPLE_ROWS = 3
# With no such variance on top, chance directions of the sample cost more passes than the true
# ones save.
_SAMPLE_RIDGE = 0.03
# What they save, at most, and how many features may have them: their square is held in memory.
_SAMPLE_SAVES, _SAMPLE_FEATURES = 150, 4096
# A penalty far above the curvature of the loss, which is at most 1/4, makes all directions alike
# by itself.
_ALONE = 1e3
# Of more features an eigendecomposition takes longer than the passes that it saves.
_EIGEN_FEATURES = 1024


def _pass_cost(objective: Objective) -> float:
    """Return nanoseconds of a pass, of which only the ratio to others matters."""
    n, d = objective.rows.Z.shape
    return n * (objective.width + 1) * (0.3 * d + 10.0)


def assembly_cost(objective: Objective, n_folds: int = 0) -> float:
    """Return what second derivatives cost, infinite where they are too large.

    With folds, those of the rows outside each of them.

    Examples
    --------
    >>> from skfairft.rows.tensor_rows import TensorRows
    >>> narrow, wide = (TensorRows(torch.zeros(10, d), torch.arange(10) % 2) for d in (5, 50))
    >>> assembly_cost(Objective(narrow, 2, [])) < assembly_cost(Objective(wide, 2, []))
    True
    """
    n, d = objective.rows.Z.shape
    entries = objective.width * (d + 1) ** 2
    if entries * (n_folds + 1) > _NEWTON_ENTRIES:
        return math.inf
    # One factorization; of folds one each, and as much again to sum and to move what it is of.
    factors = max(1, 2 * n_folds) * entries * (d + 1) / 36.0
    return (n * (entries / 35.0 + 6.0 * d) + factors) / _pass_cost(objective)


def second_derivatives(
    objective: Objective,
    problem: Problem,
    theta: Tensor,
    held_out: Tensor | None = None,
    n_folds: int = 0,
) -> Tensor:
    """Return each output's second derivatives of the loss, summed over the rows of each fold.

    Parameters
    ----------
    objective : Objective
        Its rows are summed.
    problem : Problem
        Their shares and moments; the penalty is left out.
    theta : Tensor of shape (m, d + 1)
        Parameters where the derivatives are taken.
    held_out : Tensor of shape (n,), int64, optional
        The fold of each row, or -1 for none, as which all count by default.
    n_folds : int, default=0
        Number of folds F.

    Returns
    -------
    Tensor of shape (F + 1, m, d + 1, d + 1), float32
        The last is of the rows in no fold.

    Examples
    --------
    >>> from skfairft.rows.tensor_rows import TensorRows
    >>> rows = TensorRows(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]))
    >>> as_they_are = Moments(torch.zeros(1).double(), torch.ones(1).double())
    >>> problem = Problem(torch.full((2,), 0.5).double(), 0.0, as_they_are)
    >>> objective = Objective(rows, 2, [problem])
    >>> second_derivatives(objective, problem, torch.zeros(1, 2).double())[-1, 0]
    tensor([[0.2500, 0.0000],
            [0.0000, 0.2500]])
    """
    mean, scale = problem.moments
    weight, bias = objective.raw(problem, theta)
    held_out = torch.full_like(objective.rows.y, -1) if held_out is None else held_out
    m, size = len(theta), len(mean) + 1

    def of_run(blocks: Iterator[tuple[Tensor, ...]]) -> Tensor:
        sums = torch.zeros(n_folds + 1, m, size, size)
        for block, share, folds in pieces(blocks, m):
            output = torch.addmm(bias[:, None], weight.T, block.T)
            p = torch.sigmoid(output) if m == 1 else torch.softmax(output, dim=0)
            # In double precision: a class may be almost certain.
            curvature = (share * p * (1.0 - p)).float()
            X = torch.ones(len(block), size)
            torch.div(block - mean, scale, out=X[:, :-1])
            for fold in range(-1, n_folds):
                own = torch.nonzero((folds == fold) & (share > 0.0))[:, 0]
                features, curved = X[own], curvature[:, own, None]
                for output_sums, each in zip(sums[fold], curved, strict=True):
                    output_sums.addmm_(features.T, features * each)
        return sums

    Z = objective.rows.Z
    found = reduce_runs(of_run, Tensor.add_, Z, problem.share, held_out, length=_RUN)
    assert found is not None
    return found


def moved(curvature: Tensor, old: Moments, new: Moments) -> Tensor:
    """Return second derivatives (m, d + 1, d + 1) in the coordinates of other moments.

    Examples
    --------
    >>> old, new = (Moments(torch.zeros(1), torch.tensor([scale])) for scale in (4.0, 2.0))
    >>> moved(torch.eye(2)[None], old, new)
    tensor([[[4., 0.],
             [0., 1.]]], dtype=torch.float64)
    """
    # New features are the old ones times the ratio plus the shift: once on each side.
    change = F.pad(old.scale / new.scale, (0, 1), value=1.0).diag().double()
    change[:-1, -1] = (old.mean - new.mean) / new.scale
    return change @ curvature.double() @ change.T


def newton(curvature: Tensor, l2: float) -> Solve:
    """Return what multiplies with the inverse of each output's second derivatives and a penalty.

    What one output's parameters change in the derivatives by another's is left out: with it there
    would be as many times more entries as there are outputs, and no fewer steps.

    Parameters
    ----------
    curvature : Tensor of shape (m, d + 1, d + 1)
        As in `second_derivatives`.
    l2 : float
        Strength of the penalty.

    Returns
    -------
    Solve
        Of gradients (m, d + 1), whose sum over several outputs is zero, as that of steps is.

    Examples
    --------
    >>> newton(torch.eye(2)[None], 1.0)(torch.ones(1, 2).double())
    tensor([[0.5000, 1.0000]], dtype=torch.float64)
    """
    matrix = curvature.to(torch.float64, copy=True)
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    # A share of each curvature, so that no unit and no rare class shows.
    ridge = _ROUNDED * (diagonal.abs() + _CERTAIN)
    diagonal[:, :-1] += l2
    for more in range(10):  # with the last it is next to diagonal
        diagonal += ridge * 100.0**more
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not failed.any():
            break

    def solve(gradient: Tensor) -> Tensor:
        step = torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
        return step - step.mean(dim=0) if len(step) > 1 else step

    return solve


def kronecker(objective: Objective, problem: Problem) -> Solve:
    """Return what multiplies with about the inverse of the second derivatives.

    They are those of a head that looks at no feature, over some of the rows:
    ``(diag(pi) - pi pi^T) (x) gram + l2``, where ``pi`` are the shares of the classes.

    Parameters
    ----------
    objective : Objective
        It has the rows, whose labels and features are needed.
    problem : Problem
        One with their shares, the penalty and the moments.

    Returns
    -------
    Solve
        Of gradients (m, d + 1), as `newton` returns it.

    Examples
    --------
    >>> from skfairft.rows.tensor_rows import TensorRows
    >>> rows = TensorRows(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]))
    >>> as_they_are = Moments(torch.zeros(1).double(), torch.ones(1).double())
    >>> problem = Problem(torch.full((2,), 0.5).double(), 0.25, as_they_are)
    >>> solve = kronecker(Objective(rows, 2, [problem]), problem)
    >>> solve(torch.ones(1, 2).double()).round(decimals=1)
    tensor([[2., 4.]], dtype=torch.float64)
    """
    pi, l2 = objective.class_shares(problem), problem.l2
    if len(pi) == 2:
        curvature, classes = pi.prod().reshape(1, 1), torch.ones(1, 1, dtype=torch.float64)
    else:
        values, vectors = torch.linalg.eigh(pi.diag() - torch.outer(pi, pi))
        # Without the constants, which change no probability.
        curvature, classes = values[1:, None], vectors[:, 1:]
    inner = _features_inverse(_gram(objective, problem), curvature, l2)

    def solve(gradient: Tensor) -> Tensor:
        turned = classes.T @ gradient
        return classes @ torch.cat([inner(turned[:, :-1]), turned[:, -1:] / curvature], dim=1)

    return solve


def _features_inverse(gram: Tensor | None, curvature: Tensor, l2: float) -> Solve:
    """Return what divides rows i of (a, d) by ``curvature[i] * gram + l2``."""
    if gram is None:
        return lambda rows: rows / (curvature + l2)
    if len(curvature) > 1 and len(gram) <= _EIGEN_FEATURES:
        values, vectors = (each.double() for each in torch.linalg.eigh(gram))
        divisor = curvature * values.clamp(min=0.0) + l2
        return lambda rows: (rows @ vectors / divisor) @ vectors.T
    # With one output this is exact. With several it shares the penalty out to both factors, so
    # that it is about right where it is the larger part and where it is the smaller one.
    gram.diagonal().add_(l2 / float(curvature.mean()))
    factor = torch.linalg.cholesky(gram)
    # The explicit inverse: a product with it takes a tenth of the time of a triangular solve.
    inverse = torch.linalg.solve_triangular(factor.T, torch.eye(len(gram)), upper=True)
    divisor = curvature + (l2 if len(curvature) > 1 else 0.0)
    return lambda rows: ((rows / divisor).float() @ inverse @ inverse.T).double()


def _gram(objective: Objective, problem: Problem) -> Tensor | None:
    """Return second moments (d, d) of some rows' features, with a variance on top.

    None where they would cost more than they save.
    """
    counted, (mean, scale) = torch.nonzero(problem.share)[:, 0], problem.moments
    n, d = len(counted), len(mean)
    # Rows of a cluster are brought here for it: these are few.
    everything = n * d**2 <= _SAMPLE_PRODUCTS and not isinstance(objective.rows.Z, DaskFeatures)
    n_rows = n if everything else min(n, _SAMPLE_ROWS * d)
    cost = (n_rows * d**2 / 35.0 + d**3 / 70.0) / _pass_cost(objective)
    if cost > _SAMPLE_SAVES or d > _SAMPLE_FEATURES or problem.l2 > _ALONE:
        return None
    sample = counted[torch.arange(n_rows) * n // n_rows]
    gram = torch.zeros(d, d)
    for rows in sample.split(block_rows(d)):
        block = objective.rows.Z[rows].double().sub_(mean).div_(scale)
        block = block.mul_(problem.share[rows].sqrt()[:, None]).float()
        gram.addmm_(block.T, block)
    gram /= float(problem.share[sample].sum())
    gram.diagonal().add_(_SAMPLE_RIDGE)
    return gram
