"""How strong a parity penalty must be to take away a given share of the disparity.

Let ``L`` be the training loss with its L2 penalty, ``H`` its Hessian where it is least, ``g0`` the
gaps there (m G,) and ``A`` (m G, p) their derivative by the parameters. To first order the minimum
of ``L + mu ||g||^2`` has the gaps::

    g = (I + 2 mu A H^-1 A^T)^-1 g0

so with ``u = A^T g0 / ||g0||`` and ``c = 2 u^T H^-1 u`` the strength ``mu = w / (1 - w) / c``
leaves the share ``1 - w`` of them: exactly so for one moment and two groups, where all gaps have
one direction. With more, what is left in the direction of ``g0`` is at least that share, since
``v^T (I + M)^-1 v >= 1 / (1 + v^T M v)`` for a unit vector v.

The parameters are those of the last linear layer on standardized inputs, (p,) as (d + 1, k) with
the bias below the weights. There ``H`` is that of a softmax: for a row of inputs x and
probabilities q, ``(diag(q) - q q^T) * x x^T``, of which only products with vectors are formed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from operator import add

import torch
from torch import Tensor, nn

from ..head.modules import StandardizedHead
from ..parity.constraints import Parity
from ..parity.sums import mass_table
from ..rows.blocks import map_blocks, reduce_blocks
from ..rows.tensor_rows import TensorRows

__all__ = ["penalty_strength", "stiffness"]

# What w / (1 - w) is for w = 1. To first order it leaves a thousandth of the gaps; much more would
# make the loss a rounding error of the objective, and which of the fair heads is best undecided.
_MOST_ODDS = 1e3
# Gaps of probabilities that are rounding errors.
_NO_GAP = 1e-12
# Were groups drawn at random, the parts that rows have in the slope of the gaps would add up as a
# random walk does. A thirtieth of that is none: copies of each other whose features are rounded, or
# constant features.
_ALIKE = 0.03
# Conjugate gradients end when the last steps together added less than this share to c.
_SHARE_TOL = 0.003
_LAST_STEPS = 5
_MOST_STEPS = 300


def stiffness(module: StandardizedHead, train: TensorRows, parity: Parity, *, l2: float) -> float:
    """Return how strong a penalty it takes to move the gaps, ``1 / c``.

    Parameters
    ----------
    module : StandardizedHead
        The head where the loss without the penalty is least, or close to it.
    train : TensorRows
        Training rows with their groups.
    parity : Parity
        The moments that are to be equal.
    l2 : float
        Strength of the L2 penalty, as for `HeadNet`.

    Returns
    -------
    float
        ``1 / (2 u^T H^-1 u)``; infinite if the head cannot change the gaps, because its features
        are the same in all groups, or constant.

    Examples
    --------
    >>> from skfairft.parity.constraints import parity
    >>> from skfairft.lowrank.layer import LowRankHead
    >>> head = LowRankHead(torch.tensor([[-1.0, 1.0]]), None, torch.zeros(2))
    >>> one, y, s = torch.ones(1), torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    >>> module = StandardizedHead(head, None, one, one, None, torch.float64)
    >>> rows = TensorRows(torch.tensor([[0.0], [1.5], [0.5], [2.0]]), y, None, s)
    >>> moments = parity("demographic_parity", 2)
    >>> free, held = (stiffness(module, rows, moments, l2=l2) for l2 in (0.1, 10.0))
    >>> free < held
    True
    """
    assert train.codes is not None
    layer = _OutputLayer(module, train, l2)
    levels = parity.levels  # these know how many groups there are, whichever are in these rows
    n_groups = int(train.codes.max()) + 1 if levels is None else levels.member.shape[-1]
    mass, count = mass_table(layer.p, train, n_groups=n_groups)
    leaf = mass.requires_grad_()
    gaps = parity.gaps(parity.rates(leaf, count), count).nan_to_num(nan=0.0)
    direction = gaps.detach()
    if float(direction.norm()) <= _NO_GAP:
        # There is parity now, as for a constant head; where training leads there may be none.
        direction = torch.zeros_like(direction)
        direction[:, 0] = 1.0
    (slope,) = torch.autograd.grad((gaps * direction).sum() / direction.norm(), leaf)
    u = layer.pull_back(slope, train)
    if float(u.norm()) <= _ALIKE * layer.random_walk(slope, train):
        return math.inf
    c = 2.0 * _inverse_form(layer.hessian, u)
    return 1.0 / c if c > 0.0 else math.inf


def penalty_strength(stiffness: float, weight: float) -> float:
    """Return the strength of `ParityPenalty` that takes away about a share of the gaps.

    Parameters
    ----------
    stiffness : float
        What `stiffness` returns.
    weight : float
        The share w in [0, 1]; 1 is nearly all of them, see ``_MOST_ODDS``.

    Returns
    -------
    float
        ``mu = w / (1 - w) / c``; 0 where the head cannot change the gaps.

    Examples
    --------
    >>> [penalty_strength(2.0, weight) for weight in (0.0, 0.5, 0.75, 1.0)]
    [0.0, 2.0, 6.0, 2000.0]
    """
    odds = min(weight / (1.0 - weight), _MOST_ODDS) if weight < 1 else _MOST_ODDS
    return odds * stiffness if math.isfinite(stiffness) else 0.0


class _OutputLayer:
    """Derivatives by the parameters (d + 1, k) of a head's last linear layer."""

    def __init__(self, module: StandardizedHead, train: TensorRows, l2: float) -> None:
        exact = copy.deepcopy(module).double().eval().requires_grad_(False)
        self._Z, self._l2 = train.Z, l2
        self._body: nn.Module = nn.Identity()
        self._shift, self._scale = exact.shift, exact.scale
        p = map_blocks(lambda block: torch.softmax(exact(block), dim=1), train.Z)
        self.p = torch.cat(list(p))
        if exact.tail is not None:
            assert exact.output_scale is not None
            self._shift, self._scale = torch.zeros_like(exact.output_scale), exact.output_scale
            exact.tail = nn.Sequential(*list(exact.tail)[:-1])
            self._body = exact
        self._share = train.w / train.w.sum()

    def hessian(self, V: Tensor) -> Tensor:
        """Return the product of the loss's Hessian with (d + 1, k)."""
        weight = V[:-1] / self._scale[:, None]
        bias = V[-1] - self._shift @ weight

        def change(X: Tensor, p: Tensor, share: Tensor) -> Tensor:
            return share[:, None] * _softmax_change(p, X @ weight + bias)

        product = self._sum(change, self.p, self._share)
        product[:-1] += self._l2 * V[:-1]
        return product

    def pull_back(self, slope: Tensor, train: TensorRows) -> Tensor:
        """Return the gradient (d + 1, k) of ``sum(slope * mass)``; slope is (k, G, k)."""
        return self._sum(partial(_slopes, slope), *self._columns(train))

    def random_walk(self, slope: Tensor, train: TensorRows) -> float:
        """Return how large the sum of `pull_back` would be if each row's part had a random sign."""
        body, shift, scale = self._body, self._shift, self._scale

        def part(block: Tensor, *columns: Tensor) -> float:
            X = (body(block) - shift) / scale
            sizes = _slopes(slope, X, *columns).square().sum(dim=1)
            return float(sizes @ (1.0 + X.square().sum(dim=1)))

        return math.sqrt(reduce_blocks(part, add, self._Z, *self._columns(train)) or 0.0)

    def _columns(self, train: TensorRows) -> tuple[Tensor, ...]:
        assert train.codes is not None
        return self.p, train.y, train.codes, train.w

    def _sum(self, change: Callable[..., Tensor], *columns: Tensor) -> Tensor:
        """Sum the outer products of standardized inputs (m, d), and 1, with (m, k)."""
        body, shift, scale = self._body, self._shift, self._scale

        def part(block: Tensor, *columns: Tensor) -> Tensor:
            X = body(block)
            by_output = change(X, *columns)
            total = by_output.sum(dim=0)
            # Inputs are not copied to standardize them: the small product is.
            centred = X.T @ by_output - shift[:, None] * total
            return torch.cat([centred / scale[:, None], total[None]])

        product = reduce_blocks(part, Tensor.add_, self._Z, *columns)
        assert product is not None
        return product


def _slopes(slope: Tensor, X: Tensor, p: Tensor, y: Tensor, codes: Tensor, w: Tensor) -> Tensor:
    """Return the derivatives (m, k) of ``sum(slope * mass)`` by the logits of some rows."""
    return w[:, None] * _softmax_change(p, slope[y, codes])


def _softmax_change(p: Tensor, change: Tensor) -> Tensor:
    """Multiply rows (m, k) by ``diag(p) - p p^T``, the derivative of softmax by the logits."""
    return p * (change - (p * change).sum(dim=1, keepdim=True))


def _inverse_form(hessian: Callable[[Tensor], Tensor], u: Tensor) -> float:
    """Return ``u^T H^-1 u`` by conjugate gradients, to a relative error of about `_SHARE_TOL`.

    The steps' terms ``a ||r||^2`` are positive and add up to it (Hestenes and Stiefel, 1952), so
    that they tell when to stop; a residual would not. ``H`` may be singular where ``u`` has no
    part: a softmax does not change with the sum over classes, and ``u`` neither.
    """
    gains: list[float] = []
    residual, direction = u.clone(), u.clone()
    size = float(u.square().sum())
    for _ in range(_MOST_STEPS):
        product = hessian(direction)
        curvature = float((direction * product).sum())
        if curvature <= 0.0:
            break  # u, and with it every direction, is zero
        step = size / curvature
        gains.append(step * size)
        if sum(gains[-_LAST_STEPS:]) <= _SHARE_TOL * sum(gains) and len(gains) > _LAST_STEPS:
            break
        residual -= step * product
        before, size = size, float(residual.square().sum())
        direction = residual + (size / before) * direction
    return sum(gains)
