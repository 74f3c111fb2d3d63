"""The objective of logistic regressions on the same rows, block by block.

It is that of scikit-learn's LogisticRegression, divided by the sum of the weights:

``sum_i s_i loss(z_i V + c, y_i) + l2 / 2 * ||U||^2``, with ``V = diag(1 / scale) U`` and
``c = b - mean V``,

where ``s_i`` is the share of row i in the sum of the weights, ``U`` (d, m) are the weights on
standardized features, which are never copied, and ``b`` (m,) is the intercept; m is 1 with two
classes (the margin of the second), otherwise the number of classes.

The parameters are one tensor ``theta`` (m, d + 1): ``U^T`` and, as the last column, ``b``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from ..lowrank.moments import Moments
from ..rows.blocks import Features, reduce_blocks
from ..rows.mapped import block_rows
from ..rows.tensor_rows import TensorRows

__all__ = ["Objective", "Problem", "added", "pieces", "summed"]

# Of a class without rows: its gradient is below the tolerance then.
_LEAST_SHARE = 1e-7


@dataclass(frozen=True)
class Problem:
    """What sets a fit apart from others on the same rows.

    Parameters
    ----------
    share : Tensor of shape (n,), float64
        Of each row in the sum of the weights: their sum is 1.
    l2 : float
        Strength of the penalty.
    moments : Moments
        What standardizes the features.
    """

    share: Tensor
    l2: float
    moments: Moments


class Objective:
    """The objectives of some problems on the same rows, with their gradients, in one pass.

    Parameters
    ----------
    rows : TensorRows
        Features (n, d) and encoded labels 0..k-1; weights are those of the problems.
    n_classes : int
        Number of classes k.
    problems : list of Problem
        They are called by their place in it.

    Examples
    --------
    >>> rows = TensorRows(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]))
    >>> as_they_are = Moments(torch.zeros(1).double(), torch.ones(1).double())
    >>> objective = Objective(rows, 2, [Problem(torch.full((2,), 0.5).double(), 0.0, as_they_are)])
    >>> objective({0: torch.zeros(1, 2).double()})
    {0: (0.6931471805599453, tensor([[-0.5000,  0.0000]], dtype=torch.float64))}
    """

    def __init__(self, rows: TensorRows, n_classes: int, problems: list[Problem]) -> None:
        self.rows, self.n_classes, self.problems = rows, n_classes, problems
        self.width = 1 if n_classes == 2 else n_classes

    def class_shares(self, problem: Problem) -> Tensor:
        """Return the share of each class (k,): positive, so that it has a logarithm."""
        shares = torch.bincount(self.rows.y, problem.share, minlength=self.n_classes)
        return shares.clamp(min=_LEAST_SHARE)

    def zero(self, problem: Problem) -> Tensor:
        """Return the parameters of the best head that looks at no feature."""
        log_share = self.class_shares(problem).log()
        theta = torch.zeros(self.width, len(problem.moments.mean) + 1, dtype=torch.float64)
        theta[:, -1] = log_share - log_share.mean() if self.width > 1 else log_share.diff()
        return theta

    def standardized(self, problem: Problem, raw: tuple[Tensor, Tensor]) -> Tensor:
        """Return parameters that give the same probabilities as ``V`` and ``c``."""
        (mean, scale), (weight, bias) = problem.moments, raw
        theta = torch.cat([(weight * scale[:, None]).T, (bias + mean @ weight)[:, None]], dim=1)
        return theta - theta.mean(dim=0) if self.width > 1 else theta

    def raw(self, problem: Problem, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``V`` and ``c``."""
        mean, scale = problem.moments
        weight = theta[:, :-1].T / scale[:, None]
        return weight, theta[:, -1] - mean @ weight

    def __call__(self, thetas: dict[int, Tensor]) -> dict[int, tuple[float, Tensor]]:
        """Return objective and gradient of some problems at parameters, by their places."""
        asked = [self.problems[i] for i in thetas]
        raws = [self.raw(*each) for each in zip(asked, thetas.values(), strict=True)]
        weight = torch.cat([weight.T for weight, _ in raws])
        bias = torch.cat([bias for _, bias in raws])[:, None]
        shape = len(asked), self.width, -1

        # The loss and its derivatives while the block is in the cache: one pass, not two.
        def part(block: Tensor, y: Tensor, *shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # Outputs by rows: a softmax over the first dimension is some times faster.
            output = torch.addmm(bias, weight, block.T).reshape(shape)
            loss, residual = _loss_and_residual(output, y, torch.stack(shares))
            residual = residual.reshape(len(weight), -1)
            return loss, residual @ block, residual.sum(dim=1)

        shares = (problem.share for problem in asked)
        losses, slopes, sums = summed(part, len(weight), self.rows.Z, self.rows.y, *shares)
        found = {}
        for (i, theta), problem, loss, slope, total in zip(
            thetas.items(), asked, losses, slopes.reshape(shape), sums.reshape(shape), strict=True
        ):
            (mean, scale), inner = problem.moments, theta[:, :-1]
            slope = (slope - total * mean) / scale + problem.l2 * inner
            penalty = 0.5 * problem.l2 * float(inner.square().sum())
            found[i] = float(loss) + penalty, torch.cat([slope, total], dim=1)
        return found


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


def summed(
    part: Callable[..., tuple[Tensor, ...]], width: int, Z: Features, *columns: Tensor
) -> list[Tensor]:
    """Return the sums of what a function returns for each block of rows.

    It is called as by `map_blocks`, with fewer rows where it makes more outputs (``width``) of a
    row than there are features: they would take more memory than these.

    Examples
    --------
    >>> summed(lambda block: (block.sum(dim=0),), 1, torch.ones(3, 2))
    [tensor([3., 3.], dtype=torch.float64)]
    """

    def cut(*block: Tensor) -> list[Tensor]:
        return reduce(added, (list(part(*piece)) for piece in pieces([block], width)))

    found = reduce_blocks(cut, added, Z, *columns)
    assert found is not None
    return found


def pieces(blocks: Iterable[tuple[Tensor, ...]], width: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield blocks of rows in parts of which ``width`` numbers a row take no more memory.

    A block is features (m, d), and columns of as many rows.

    Examples
    --------
    >>> [len(part) for part, in pieces([(torch.ones(9, 2),)], 2**18)]
    [4, 4, 1]
    """
    for block in blocks:
        size = block_rows(max(width, block[0].shape[1]))
        yield from zip(*(column.split(size) for column in block), strict=True)


def added(total: list[Tensor], found: list[Tensor]) -> list[Tensor]:
    """Return the sums of tensors, of which the first take up the others.

    Examples
    --------
    >>> added([torch.ones(2), torch.zeros(1)], [torch.ones(2), torch.ones(1)])
    [tensor([2., 2.]), tensor([1.])]
    """
    for sum_, tensor in zip(total, found, strict=True):
        sum_ += tensor
    return total
