"""Logistic regression on standardized features that are never copied, block by block.

The objective is that of scikit-learn's LogisticRegression, divided by the sum of the weights:

``sum_i s_i loss(z_i V + c, y_i) + l2 / 2 * ||U||^2``, with ``V = diag(1 / scale) U`` and
``c = b - mean V``,

where ``s_i`` is the share of row i in the sum of the weights, ``U`` (d, m) are the weights on
standardized features and ``b`` (m,) is the intercept; m is 1 with two classes (the margin of the
second), otherwise the number of classes.

Inside, the parameters are one tensor (m, d + 1): ``U^T`` and, as the last column, ``b``. They are
found by L-BFGS [1]_ about a matrix close to the second derivatives: first their Kronecker form,
``Cov(classes) (x) Cov(features) + l2``, which is exact where all weights are zero; then, where that
pays, the second derivatives themselves (Newton's method, with updates in place of most of its
matrices). Several fits on the same features go side by side, one pass for all.

References
----------
.. [1] J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, Springer 2006,
   section 7.2.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn import functional as F

from ..inputs.warn import warn_user
from ..lowrank.moments import ColumnMoments, Moments
from ..rows.blocks import map_blocks
from ..rows.mapped import Features, block_rows
from ..rows.tensor_rows import TensorRows

__all__ = ["fit_logistic", "fit_logistic_folds", "moments_outside", "refit_bias"]

# Tighter than scikit-learn's 1e-4: the fine-tuning starts where this ends, and a step there
# costs more. It also keeps a fit that starts from other rows' solution from remembering them.
_GRADIENT_TOL = 3e-7
# Rounding of the loss: below it, a step is judged by the gradient.
_LOSS_TOL = 64 * float(np.finfo(np.float64).eps)
_MAX_ITER, _MAX_HALVINGS = 10_000, 50
# Share of the promised decrease for which L-BFGS takes a step, and the promise near the end.
_LEAST_DECREASE, _LAST_DECREASE = 1e-4, 1e-13
# Of a class without rows: its gradient is below the tolerance then.
_LEAST_SHARE = 1e-7
# Pairs of vectors that L-BFGS remembers: each saves some passes over the features and costs
# next to nothing.
_MEMORY = 30

# Mean loss below which the classes are separable: of others hardly any row is that certain.
_SEPARATE = 1e-4

# Newton's method for a bias alone ends here: a gradient's rounding is some 1e-16.
_BIAS_STEPS, _BIAS_TOL = 100, 1e-12
# Share of the decrease that the slope promises for which a step is taken.
_ARMIJO = 0.25

# Second derivatives of up to so many parameters are assembled: 32 MiB, and three times that while
# they are factorized.
_NEWTON_PARAMETERS = 2048
# At the pace so far, they must save so many passes besides those that they cost as much as; and a
# matrix has so many passes, and as many as it has cost, to show its pace.
_NEWTON_PASSES = 5
# Passes that they save a fit which starts next to its end.
_NEWTON_SAVES = 20
# To each curvature a share of it is added, for the rounding of single precision: more where that
# does not do. Where all rows are certain there is none.
_ROUNDED, _ROUNDED_MORE, _CERTAIN = 1e-7, 100.0, 1e-5

# Second moments of some rows precondition the problem: of all rows up to this many products, so
# that the order of the rows does not show where that costs nothing, otherwise of some rows per
# feature. To them a share of the mean variance is added. With no such share, chance directions
# of the sample cost more iterations than the true ones save.
_SAMPLE_PRODUCTS = 2**28
_SAMPLE_ROWS, _SAMPLE_ROWS_WIDE = 4, 2
_SAMPLE_RIDGE = 0.03
_LEAST_CURVATURE = 1e-6  # where all of them are constant
_SAMPLE_FEATURES = 4096  # their square is held in memory
_SAMPLE_SAVES = 150  # passes, on wide features
_ALONE = 1e3
# More features are wide: an eigendecomposition takes longer than the passes that it saves.
_EIGEN_FEATURES = 1024

# (m, d + 1) -> (m, d + 1): a gradient times the inverse of a matrix.
_Solve = Callable[[Tensor], Tensor]


def fit_logistic(
    rows: TensorRows,
    n_classes: int,
    l2: float,
    moments: Moments,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimize the objective above.

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
    problem = _Problem(rows.w.double() / rows.w.sum(), l2, moments)
    objective = _Objective(rows, n_classes, [problem])
    if start is not None:
        theta = objective.standardized(problem, start)
        if objective.assembly_cost <= _NEWTON_SAVES:
            return objective.minimize(
                [theta],
                [objective.newton(objective.curvature(problem, theta, problem.share)[0], l2)],
            )[0]
    else:
        theta = objective.zero(problem)
    return objective.minimize([theta], [objective.kronecker(problem)])[0]


def fit_logistic_folds(
    rows: TensorRows,
    n_classes: int,
    C: float,
    held_out: Tensor,
    whole: tuple[Tensor, Tensor],
    moments: list[Moments] | None = None,
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
    if moments is None:
        moments = moments_outside(rows, held_out, int(held_out.max()) + 1)
    n_folds = len(moments)
    held_out = torch.where(held_out < 0, n_folds, held_out)  # a part that no fit is without
    w, everywhere = rows.w.double(), rows.w / rows.w.sum()
    outside = [torch.where(held_out == fold, 0.0, w) for fold in range(n_folds)]
    problems = [
        _Problem(own / own.sum(), 1.0 / (C * float(own.sum())), own_moments)
        for own, own_moments in zip(outside, moments, strict=True)
    ]
    objective = _Objective(rows, n_classes, problems)
    starts = [objective.standardized(problem, whole) for problem in problems]
    if objective.assembly_cost <= _NEWTON_SAVES * n_folds:
        parts = objective.curvature(problems[0], starts[0], w, held_out, n_folds + 1)
        solves = [
            objective.newton(
                _moved(
                    parts[torch.arange(n_folds + 1) != fold].sum(dim=0)
                    / float(outside[fold].sum()),
                    problems[0].moments,
                    problem.moments,
                ),
                problem.l2,
            )
            for fold, problem in enumerate(problems)
        ]
    else:  # One for all: on wide features it takes as long as many passes.
        l2 = 1.0 / (C * float(w.sum()))
        solves = [objective.kronecker(_Problem(everywhere, l2, problems[0].moments))] * n_folds
    return objective.minimize(starts, solves)


def refit_bias(rows: TensorRows, weight: Tensor, bias: Tensor) -> Tensor:
    """Minimize the weighted cross-entropy over the bias alone.

    Afterwards the mean probability of each class is its share of the rows.

    Newton's method. Where the loss is so far from a quadratic that its step does not pay, that of
    generalized iterative scaling [1]_, which cannot fail to: the logarithm of the classes' shares
    minus that of their mean probabilities.

    Parameters
    ----------
    rows : TensorRows
        Each label 0..k-1 has a row of positive weight. The logits (n, k) are computed once, and
        held in memory.
    weight : Tensor of shape (d, k), float64
        Weight of the head.
    bias : Tensor of shape (k,), float64
        Where to start. A constant added to all of it changes no probability: its mean is kept.

    Returns
    -------
    Tensor of shape (k,), float64
        The bias.

    References
    ----------
    .. [1] J. N. Darroch and D. Ratcliff, "Generalized iterative scaling for log-linear models",
       The Annals of Mathematical Statistics 43(5), 1972.

    Examples
    --------
    >>> rows = TensorRows(torch.zeros(4, 1), torch.tensor([0, 1, 1, 1]))
    >>> bias = refit_bias(rows, torch.zeros(1, 2).double(), torch.zeros(2).double())
    >>> torch.softmax(bias, dim=0)
    tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    k = len(bias)
    y, row_share = rows.y, rows.w / rows.w.sum()
    class_share = torch.bincount(y, row_share, minlength=k)
    logits = torch.cat([*map_blocks(lambda _, block: block @ weight, rows.Z)])

    def loss_at(bias: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the loss, the log of the mean probabilities (k,) and the Hessian (k, k)."""

        def part(of: slice, block: Tensor) -> tuple[float, Tensor, Tensor]:
            log_p = torch.log_softmax(block + bias, dim=1)
            share = row_share[of, None]
            value = -float((share * log_p.gather(1, y[of, None])).sum())
            p = log_p.exp()
            return value, torch.logsumexp(log_p + share.log(), dim=0), -(p.T @ (p * share))

        values, logs, products = zip(*map_blocks(part, logits), strict=True)
        log_mean = torch.logsumexp(torch.stack(logs), dim=0)
        return sum(values), log_mean, torch.stack(products).sum(dim=0) + log_mean.exp().diag()

    loss, log_mean, hessian = loss_at(bias)
    for _ in range(_BIAS_STEPS):
        gradient = log_mean.exp() - class_share
        if float(gradient.abs().max()) <= _BIAS_TOL:
            break
        # The Hessian of a softmax is singular along the constants, which change nothing. Where it
        # is singular otherwise the step is not finite, and so is not taken.
        step, _ = torch.linalg.solve_ex(hessian + 1.0 / k, -gradient)
        found = loss_at(bias + step)
        if not found[0] <= loss + _ARMIJO * float(gradient @ step) + _LOSS_TOL * loss:
            step = class_share.log() - log_mean
            found = loss_at(bias + step)
        bias = bias + step - step.mean()
        loss, log_mean, hessian = found
    return bias


@dataclass(frozen=True)
class _Problem:
    """What sets a fit apart from others on the same rows: shares (n,), penalty and moments."""

    share: Tensor
    l2: float
    moments: Moments


class _Objective:
    """The objectives of some problems on the same rows, with gradients and second derivatives."""

    def __init__(self, rows: TensorRows, n_classes: int, problems: list[_Problem]) -> None:
        self._Z, self._y, self._w = rows.Z, rows.y, rows.w.double()
        self._n_classes, self._problems = n_classes, problems
        self.width = 1 if n_classes == 2 else n_classes
        (n, d), m = rows.Z.shape, self.width
        # Outputs whose second derivatives have an inverse: the sum of all is free.
        self._free = max(1, m - 1)
        # The one left out is the class of most rows: of a rare one, as the last would be, single
        # precision would lose the curvature.
        frequent = int(torch.bincount(self._y, self._w, minlength=n_classes).argmax())
        self._turn = 0 if m == 1 else m - 1 - frequent
        self._pass_cost = n * (0.27 * m * d + 10.0 * m + 0.3 * d)
        # Nanoseconds, of which only the ratio matters: of a pass, of a pair of classes, whose
        # product is in single precision, and of factors.
        pairs = math.comb(n_classes, 2)
        gram = (d + 1) ** 2 * n / 35.0 + 1e5
        size = self._free * (d + 1)
        #: What assembling second derivatives costs, in passes.
        self.assembly_cost = (pairs * gram + size**3 / 36.0) / self._pass_cost
        if size > _NEWTON_PARAMETERS:
            self.assembly_cost = math.inf

    def kronecker(self, problem: _Problem) -> _Solve:
        """Return the inverse that `_kronecker` gives, with the pass of this objective."""
        return _kronecker(self._Z, problem, self._class_shares(problem), self._pass_cost)

    def newton(self, curvature: Tensor, l2: float) -> _Solve:
        """Return the inverse of second derivatives that `curvature` gave."""
        solve, turn = _newton(curvature, l2), self._turn
        return lambda gradient: solve(gradient.roll(turn, dims=0)).roll(-turn, dims=0)

    def _class_shares(self, problem: _Problem) -> Tensor:
        """Return the share of each class (k,): positive, so that it has a logarithm."""
        shares = torch.bincount(self._y, problem.share, minlength=self._n_classes)
        return shares.clamp(min=_LEAST_SHARE)

    def zero(self, problem: _Problem) -> Tensor:
        """Return the parameters of the best head that looks at no feature."""
        log_share = self._class_shares(problem).log()
        theta = torch.zeros(self.width, len(problem.moments.mean) + 1, dtype=torch.float64)
        theta[:, -1] = log_share - log_share.mean() if self.width > 1 else log_share.diff()
        return theta

    def standardized(self, problem: _Problem, raw: tuple[Tensor, Tensor]) -> Tensor:
        """Return parameters that give the same probabilities as weights and biases."""
        (mean, scale), (weight, bias) = problem.moments, raw
        theta = torch.cat([(weight * scale[:, None]).T, (bias + mean @ weight)[:, None]], dim=1)
        return theta - theta.mean(dim=0) if self.width > 1 else theta

    def raw(self, problem: _Problem, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``V`` and ``c``."""
        mean, scale = problem.moments
        weight = theta[:, :-1].T / scale[:, None]
        return weight, theta[:, -1] - mean @ weight

    def minimize(self, starts: list[Tensor], solves: list[_Solve]) -> list[tuple[Tensor, Tensor]]:
        """Return ``V`` and ``c`` of each problem."""
        descents = [
            self._descend(*each) for each in zip(self._problems, starts, solves, strict=True)
        ]
        asked = {i: next(descent) for i, descent in enumerate(descents)}
        found: dict[int, tuple[float, Tensor]] = {}
        while asked:
            answers = self(asked)
            for i, answer in answers.items():
                try:
                    asked[i] = descents[i].send(answer)
                except StopIteration as end:
                    found[i] = end.value
                    del asked[i]
        if any(
            problem.l2 == 0.0 and found[i][0] < _SEPARATE
            for i, problem in enumerate(self._problems)
        ):
            warn_user(
                "Without a penalty (C=inf) a linear head for these rows has no optimum: their "
                "classes can be told apart without an error, so that larger weights are always "
                "better. Where training ends is arbitrary, and probabilities are 0 or 1; set a "
                "finite C.",
                ConvergenceWarning,
            )
        return [self.raw(problem, found[i][1]) for i, problem in enumerate(self._problems)]

    def _descend(
        self, problem: _Problem, theta: Tensor, solve: _Solve
    ) -> Generator[Tensor, tuple[float, Tensor], tuple[float, Tensor]]:
        """L-BFGS: yield where to evaluate, take what is found there, return the minimum."""
        loss, gradient = yield theta
        pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=_MEMORY)
        passes, first = 0, math.nan
        for _ in range(_MAX_ITER):
            if float(gradient.abs().max()) <= _GRADIENT_TOL:
                break
            step = -_times_inverse(gradient, pairs, solve)
            slope = float((gradient * step).sum())
            if passes == 0:
                first = slope
            elif self._newton_pays(passes, first, slope):
                solve = self.newton(self.curvature(problem, theta, problem.share)[0], problem.l2)
                pairs.clear()
                step = -solve(gradient)
                passes, first = 0, float((gradient * step).sum())
                slope = first
            size, at_most = 1.0, loss + _LOSS_TOL * max(1.0, abs(loss))
            for _ in range(_MAX_HALVINGS):
                new = theta + size * step
                new_loss, new_gradient = yield new
                passes += 1
                if new_loss <= at_most + _LEAST_DECREASE * size * slope:
                    break
                size *= 0.5
            else:
                break
            # Where rounding hides what a step does to the loss, and the gradient does not fall.
            if new_loss >= loss and new_gradient.abs().max() >= gradient.abs().max():
                break
            moved, turned = new - theta, new_gradient - gradient
            inner = float((moved * turned).sum())
            if inner > 0.0:
                pairs.append((moved, turned, inner))
            theta, loss, gradient = new, new_loss, new_gradient
        return loss, theta

    def _newton_pays(self, passes: int, first: float, now: float) -> bool:
        """Tell whether second derivatives cost less than what is left at the pace so far.

        It is told from the decrease that the steps promise, the first since the last matrix and
        the next one: unlike the gradient it has no units.
        """
        cost = self.assembly_cost + _NEWTON_PASSES
        if passes < cost or now >= -_LAST_DECREASE:
            return False
        pace = math.log(first / now) / passes
        return pace <= 0.0 or math.log(-now / _LAST_DECREASE) / pace > cost

    def __call__(self, thetas: dict[int, Tensor]) -> dict[int, tuple[float, Tensor]]:
        """Return objective and gradient of some problems at parameters, by their numbers."""
        asked = [self._problems[i] for i in thetas]
        raws = [self.raw(*each) for each in zip(asked, thetas.values(), strict=True)]
        weight = torch.cat([weight.T for weight, _ in raws])
        bias = torch.cat([bias for _, bias in raws])[:, None]
        share = torch.stack([problem.share for problem in asked])

        # The loss and its derivatives while the block is in the cache: one pass, not two.
        def part(rows: slice, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # Outputs by rows: a softmax over the first dimension is some times faster.
            output = torch.addmm(bias, weight, block.T).reshape(len(asked), self.width, -1)
            loss, residual = _loss_and_residual(output, self._y[rows], share[:, rows])
            residual = residual.reshape(len(weight), -1)
            return loss, residual @ block, residual.sum(dim=1)

        loss, slope, slope_sum = _summed(part, self._Z, len(weight))
        slope = slope.reshape(len(asked), self.width, -1)
        slope_sum = slope_sum.reshape(len(asked), self.width, 1)
        found = {}
        for i, problem in enumerate(asked):
            (mean, scale), theta = problem.moments, list(thetas.values())[i]
            inner = (slope[i] - slope_sum[i] * mean) / scale + problem.l2 * theta[:, :-1]
            penalty = 0.5 * problem.l2 * float(theta[:, :-1].square().sum())
            found[list(thetas)[i]] = float(loss[i]) + penalty, torch.cat([inner, slope_sum[i]], 1)
        return found

    def curvature(
        self,
        problem: _Problem,
        theta: Tensor,
        w: Tensor,
        part_of: Tensor | None = None,
        n_parts: int = 1,
    ) -> Tensor:
        """Return the second derivatives of the loss, summed over each part of the rows.

        Shape (parts, a, d + 1, a, d + 1): of all outputs but one, which minus the sum of the
        others stands for. Single precision is enough for what only directs a step.
        """
        mean, scale = problem.moments
        weight, bias = self.raw(problem, theta)
        part_of = torch.zeros_like(self._y) if part_of is None else part_of
        shape = (n_parts, *2 * (self._free, len(mean) + 1))

        def part(rows: slice, block: Tensor) -> tuple[Tensor]:
            output = torch.addmm(bias[:, None], weight.T, block.T)
            if self.width == 1:
                output = torch.cat([torch.zeros_like(output), output])
            p = torch.softmax(output, dim=0).float().roll(self._turn, dims=0)
            X = torch.ones(len(block), len(mean) + 1)
            X[:, :-1] = (block - mean) / scale
            sums = torch.zeros(shape)
            for i in range(len(sums)):
                own = torch.nonzero((part_of[rows] == i) & (w[rows] > 0.0))[:, 0]
                _add_curvature(sums[i], X[own], p[:, own], w[rows][own].float())
            return (sums,)

        return _summed(part, self._Z, self.width)[0]


def _summed(
    part: Callable[[slice, Tensor], tuple[Tensor, ...]], Z: Features, width: int
) -> list[Tensor]:
    """Return the sums of what a function returns for each block of rows.

    Where there are more outputs than features, blocks are cut to the outputs' size.
    """
    step = block_rows(max(width, Z.shape[1]))

    def cut(rows: slice, block: Tensor) -> list[Tensor]:
        starts = range(0, len(block), step)
        cuts = [slice(start, min(start + step, len(block))) for start in starts]
        return added(
            part(slice(rows.start + each.start, rows.start + each.stop), block[each])
            for each in cuts
        )

    def added(found: Iterable[Iterable[Tensor]]) -> list[Tensor]:
        sums: list[Tensor] = []
        for tensors in found:
            if sums:
                for total, tensor in zip(sums, tensors, strict=True):
                    total += tensor
            else:
                sums = list(tensors)
        return sums

    return added(map_blocks(cut, Z))


def _loss_and_residual(output: Tensor, y: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted losses (F,) of a block, and their gradients at the outputs (F, m, n)."""
    if output.shape[1] == 1:
        sign = (2 * y - 1).double()
        margin = sign * output[:, 0]
        loss = -(share * F.logsigmoid(margin)).sum(dim=1)
        return loss, -(sign * share * torch.sigmoid(-margin))[:, None]
    log_p = torch.log_softmax(output, dim=1)
    own = y.expand(len(output), 1, -1)
    loss = -(share * log_p.gather(1, own)[:, 0]).sum(dim=1)
    minus = -torch.ones(1, 1, 1, dtype=torch.float64)
    residual = log_p.exp_().scatter_add_(1, own, minus.expand_as(own))
    return loss, residual.mul_(share[:, None])


def _add_curvature(sums: Tensor, X: Tensor, p: Tensor, w: Tensor) -> None:
    """Add the second derivatives (a, d, a, d) of the loss of rows X (n, d), probabilities (k, n).

    They are the sum over pairs of classes of ``p_a p_b (e_a - e_b) (e_a - e_b)^T (x) z z^T``: so
    no digit is lost where a class is certain.
    """
    last = len(p) - 1
    for a, b in combinations(range(len(p)), 2):
        gram = X.T @ (X * (w * p[a] * p[b])[:, None])
        sums[a, :, a] += gram
        if b < last:
            sums[b, :, b] += gram
            sums[a, :, b] -= gram
            sums[b, :, a] -= gram


def _moved(curvature: Tensor, old: Moments, new: Moments) -> Tensor:
    """Return second derivatives (a, d + 1, a, d + 1) in the coordinates of other moments."""
    ratio = F.pad(old.scale / new.scale, (0, 1), value=1.0)
    shift = (old.mean - new.mean) / new.scale
    moved = curvature.double()
    # New features are the old ones times the ratio plus the shift: once on each side.
    for _ in range(2):
        last = moved[:, -1:]
        moved = moved * ratio[:, None, None]
        moved[:, :-1] += shift[:, None, None] * last
        moved = moved.permute(2, 3, 0, 1)
    return moved


def _newton(curvature: Tensor, l2: float) -> _Solve:
    """Return what multiplies with the inverse of second derivatives (a, d + 1, a, d + 1)."""
    a, size = curvature.shape[:2]
    m = 1 if a == 1 else a + 1
    matrix = curvature.double()
    # The outputs of a step have a sum of zero: that of the others counts, too.
    shared = torch.eye(a, dtype=torch.float64) - (1.0 / m if m > 1 else 0.0)
    for i, j in product(range(a), repeat=2):
        matrix[i, :, j].diagonal()[:-1].add_(l2 * float(shared[i, j]))
    matrix = matrix.reshape(a * size, a * size)
    # A share of each curvature, so that no unit and no rare class shows.
    diagonal = torch.diag(matrix.diagonal().abs() + _CERTAIN)
    more, failed = _ROUNDED, True
    while failed:
        factor, info = torch.linalg.cholesky_ex(matrix + more * diagonal)
        more, failed = more * _ROUNDED_MORE, bool(info)

    def solve(gradient: Tensor) -> Tensor:
        step = torch.cholesky_solve(gradient[:a].reshape(-1, 1), factor).reshape(a, size)
        if m == 1:
            return step
        return F.pad(step, (0, 0, 0, 1)) - step.sum(dim=0) / m

    return solve


def _kronecker(Z: Features, problem: _Problem, class_shares: Tensor, pass_cost: float) -> _Solve:
    """Return what multiplies with about the inverse of the second derivatives.

    They are those of a head that looks at no feature, over some of the rows:
    ``(diag(pi) - pi pi^T) (x) gram + l2``.
    """
    l2 = problem.l2
    if len(class_shares) == 2:
        class_curvature = class_shares.prod().reshape(1)
        classes = torch.ones(1, 1, dtype=torch.float64)
    else:
        class_curvature, classes = torch.linalg.eigh(
            class_shares.diag() - torch.outer(class_shares, class_shares)
        )
        # Without the constants, which change no probability.
        class_curvature, classes = class_curvature[1:], classes[:, 1:]
    inner = _features_inverse(_gram(Z, problem, pass_cost), class_curvature[:, None], l2)

    def solve(gradient: Tensor) -> Tensor:
        turned = classes.T @ gradient
        turned[:, -1] /= class_curvature
        turned[:, :-1] = inner(turned[:, :-1])
        return classes @ turned

    return solve


def _features_inverse(gram: Tensor | None, curvature: Tensor, l2: float) -> _Solve:
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


def _gram(Z: Features, problem: _Problem, pass_cost: float) -> Tensor | None:
    """Return second moments (d, d) of some rows' features, with a share of the mean on top.

    None where they would cost more than they save.
    """
    counted, (mean, scale) = torch.nonzero(problem.share)[:, 0], problem.moments
    n, d = len(counted), len(mean)
    per_feature = _SAMPLE_ROWS if d <= _EIGEN_FEATURES else _SAMPLE_ROWS_WIDE
    n_rows = n if n * d**2 <= _SAMPLE_PRODUCTS else min(n, per_feature * d)
    cost = n_rows * d**2 / 35.0 + d**3 / 70.0
    # A penalty far above the curvature of the loss, which is at most 1/4, makes all directions
    # alike by itself.
    if cost > _SAMPLE_SAVES * pass_cost or d > _SAMPLE_FEATURES or problem.l2 > _ALONE:
        return None
    sample = counted[torch.arange(n_rows) * n // n_rows]
    # Single precision, because it only has to be close.
    gram = torch.zeros(d, d, dtype=torch.float32)
    for rows in sample.split(block_rows(d)):
        block = (Z[rows].double() - mean) / scale * problem.share[rows].sqrt()[:, None]
        block = block.float()
        gram.addmm_(block.T, block)
    gram /= float(problem.share[sample].sum())
    gram.diagonal().add_(_SAMPLE_RIDGE * float(gram.diagonal().mean()) + _LEAST_CURVATURE)
    return gram


def _times_inverse(
    gradient: Tensor, pairs: Iterable[tuple[Tensor, Tensor, float]], solve: _Solve
) -> Tensor:
    """Multiply with the inverse that L-BFGS updates by pairs of a step and its turn: [1]_."""
    pairs, left, shares = list(pairs), gradient.clone(), []
    for moved, turned, inner in reversed(pairs):
        shares.append(float((moved * left).sum()) / inner)
        left -= shares[-1] * turned
    left = solve(left)
    for (moved, turned, inner), share in zip(pairs, reversed(shares), strict=True):
        left += (share - float((turned * left).sum()) / inner) * moved
    return left


def moments_outside(rows: TensorRows, held_out: Tensor, n_folds: int) -> list[Moments]:
    """Return the moments of the rows outside each fold, in one pass; -1 is in none."""
    held_out = torch.where(held_out < 0, n_folds, held_out)
    parts = [ColumnMoments(rows.Z.shape[1]) for _ in range(n_folds + 1)]

    def block_parts(of: slice, block: Tensor) -> list[ColumnMoments]:
        found = []
        for fold in range(n_folds + 1):
            own = torch.nonzero(held_out[of] == fold)[:, 0]
            found.append(ColumnMoments(block.shape[1]).update(block[own], rows.w[of][own]))
        return found

    for found in map_blocks(block_parts, rows.Z):
        for part, new in zip(parts, found, strict=True):
            part.merge(new)
    outside = []
    for fold in range(n_folds):
        joined = ColumnMoments(rows.Z.shape[1])
        for other in range(n_folds + 1):
            if other != fold:
                joined.merge(parts[other])
        outside.append(joined.result())
    return outside
