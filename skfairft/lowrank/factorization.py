"""Neutralized importance, the weighted SVD, and the same penalized for disparity.

Pure functions on float64 tensors.

``W`` is always (d, k), inputs by outputs: the transpose of ``nn.Linear.weight``.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

__all__ = [
    "DIRECTION_TOLERANCE",
    "IMPORTANCE_FLOOR",
    "METRIC_RIDGE",
    "ParitySVD",
    "WeightedSVD",
    "floor_importance",
    "neutralize",
    "parity_svd",
    "regularized_metric",
    "resolve_rank",
    "weighted_svd",
]

IMPORTANCE_FLOOR = 1e-6
"""Smallest importance, as a share of the largest one, that enters the SVD.

Both per size of the feature, so that units do not matter. A feature that never
fires has zero Fisher information, and Eq. 4 divides by the importance.
Importances of features that do fire were seen to span up to 5.5 decades, so the
floor of 6 decades leaves them alone. The division costs no digits: see `ParitySVD.at`.
"""

METRIC_RIDGE = 1e-10
"""Least share of the features' squared sizes that is added to a metric that may be singular.

A constant or a redundant feature makes a covariance singular. Ten decades leave all
others alone, and what rounding leaves of a zero group gap is 1e-16 divided by the
root of this: 1e-11, below `DIRECTION_TOLERANCE`.
"""

DIRECTION_TOLERANCE = 1e-9
"""Disparity directions smaller than this share of the largest one, in the metric, are rounding.

The groups' means minus the mean of all, each times its group's weight, add up to zero, so that
there are always fewer directions than columns.
"""

# Shares of energy are compared up to rounding, so that rank=1.0 means "all that is not noise".
_ENERGY_TOLERANCE = 1e-12
# Entries of a singular vector that differ by less than this share count as equally large.
_TIE_TOLERANCE = 1e-6

# Newton's method for lambda: steps double the digits once close, and at worst cube lambda before.
_NEWTON_STEPS, _NEWTON_TOLERANCE = 100, 1e-15


def neutralize(group_importance: Tensor, group_weights: Tensor) -> Tensor:
    """Weighted mean ``I_N = sum_g w_g I_g`` of the groups' importances (Eq. 2).

    (G, d), (G,) -> (d,). The weights are non-negative with sum 1; the paper's are 1/2 and 1/2.

    Examples
    --------
    >>> import torch
    >>> neutralize(torch.tensor([[1.0, 3.0], [3.0, 5.0]]), torch.tensor([0.5, 0.5]))
    tensor([2., 4.])
    """
    return group_weights @ group_importance


def floor_importance(importance: Tensor, size: Tensor | None = None) -> Tensor:
    """Raise importances (d,) per size below `IMPORTANCE_FLOOR` times the largest one to that value.

    At least one of them is positive. ``size`` (d,) is the positive size of each feature, such as
    its root mean square: with it ``diag(importance) W`` stays what it is when a feature is measured
    in other units. None is 1 each.

    Examples
    --------
    >>> import torch
    >>> floor_importance(torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64))
    tensor([2.0000e-06, 5.0000e-01, 2.0000e+00], dtype=torch.float64)
    """
    if size is None:
        size = torch.ones_like(importance)
    largest = float((importance / size).max())
    return torch.maximum(importance, IMPORTANCE_FLOOR * largest * size)


def regularized_metric(moment: Tensor, size: Tensor, ridge: float = METRIC_RIDGE) -> Tensor:
    """Return ``moment + ridge * diag(size)^2``, which is definite: (d, d), (d,) -> (d, d).

    The moment is symmetric and positive semidefinite, such as a covariance; the size that of each
    feature, such as the scale of `column_moments`. Measuring a feature in other units, in both,
    changes nothing. Not the diagonal: of a constant feature that is zero or rounding. The ridge is
    at least `METRIC_RIDGE` where features may be constant or collinear.

    Examples
    --------
    >>> import torch
    >>> covariance = torch.tensor([[4.0, 2.0], [2.0, 1.0]])
    >>> regularized_metric(covariance, torch.tensor([2.0, 1.0]), ridge=0.5)
    tensor([[6.0000, 2.0000],
            [2.0000, 1.5000]], dtype=torch.float64)
    """
    metric = moment.detach().double().cpu().clone()
    metric.diagonal().add_(ridge * size.detach().double().cpu().square())
    return metric


@dataclass(frozen=True)
class WeightedSVD:
    """A matrix (d, k) as factors ``A B`` of any rank, best in a metric (Eq. 4).

    Parameters
    ----------
    A : Tensor of shape (d, m), float64
        First factor at full rank, m = min(d, k). That of rank r is its first r columns.
    U : Tensor of shape (d, m), float64
        Left singular vectors of what was decomposed.
    S : Tensor of shape (m,), float64
        Singular values, largest first.
    Vt : Tensor of shape (m, k), float64
        Right singular vectors; the first r rows are the second factor of rank r.

    Examples
    --------
    >>> import torch
    >>> W = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> A, B = weighted_svd(W, torch.ones(2)).factors(rank=1)
    >>> A @ B
    tensor([[2., 0.],
            [0., 0.]], dtype=torch.float64)
    """

    A: Tensor
    U: Tensor
    S: Tensor
    Vt: Tensor

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return ``A`` (d, r) and ``B = Vt_r`` (r, k)."""
        return self.A[:, :rank].clone(), self.Vt[:rank].clone()


def weighted_svd(W: Tensor, metric: Tensor) -> WeightedSVD:
    """Singular value decomposition of ``C^1/2 W`` in float64 (Eq. 4).

    Truncating it at rank r minimizes the Frobenius norm of ``C^1/2 (W - A B)`` over all
    A (d, r), B (r, k) (Eckart-Young). The paper's C is ``diag(I_N)^2``.

    Parameters
    ----------
    W : Tensor of shape (d, k)
        Weight matrix, inputs by outputs.
    metric : Tensor of shape (d,) or (d, d)
        An importance ``I`` of each row, strictly positive, that stands for ``C = diag(I)^2``;
        see `floor_importance`. Or a symmetric, positive definite ``C``; see
        `regularized_metric`.

    Returns
    -------
    WeightedSVD
        With a fixed sign: the largest entry of each row of ``Vt`` is positive; of
        entries equal up to rounding, the first.

    Examples
    --------
    >>> import torch
    >>> weighted_svd(torch.eye(2), torch.tensor([3.0, 1.0])).S
    tensor([3., 1.], dtype=torch.float64)
    """
    return parity_svd(W, metric, torch.zeros(len(W), 0)).at(0.0)


@dataclass(frozen=True)
class ParitySVD:
    """Low-rank matrices between a given one and linear parity, for every fairness weight.

    Of rank r, `at` gives the A (d, r) and B (r, k) that minimize

    ``||C^1/2 (A B - W)||^2 + lambda ||D^T A B||^2``.

    Let ``C = R^T R``, ``V = R W`` and ``R^-T D = Q diag(s) P^T``, a thin SVD. Then
    ``H = R^T (I + lambda Q diag(s)^2 Q^T) R`` is ``C + lambda D D^T``; with
    ``t = (1 + lambda s^2)^-1/2`` and ``T = I - Q diag(1 - t) Q^T`` the minimum is at the truncated
    SVD ``U S V'`` of ``T V``, as ``A = R^-1 T U S`` and ``B = V'``; at full rank it is
    ``H^-1 C W``. Only T depends on lambda, and at its limit it is a projection: ``D^T A B = 0``.

    Parameters
    ----------
    root : Tensor of shape (d,) or (d, d), float64
        ``R``, upper triangular; its diagonal where it has no other entries.
    V : Tensor of shape (d, k), float64
        See above.
    Q : Tensor of shape (d, q), float64
        An orthonormal basis of the directions; q is their rank.
    s : Tensor of shape (q,), float64
        Singular values as shares of the largest one, in (0, 1].
    """

    root: Tensor
    V: Tensor
    Q: Tensor
    s: Tensor

    def at(self, weight: float) -> WeightedSVD:
        """Return the decomposition for a fairness weight.

        Parameters
        ----------
        weight : float
            The share of disparity to remove, in [0, 1]: lambda is such that at full rank
            ``||D^T A B|| = (1 - weight) ||D^T W||`` (Frobenius norm). 1 is the limit of
            infinite lambda.
        """
        shrink = self._shrink(weight)
        damped = self._damp(self.V, shrink)
        U, S, Vt = torch.linalg.svd(damped, full_matrices=False)
        # LAPACK leaves the signs free; fixing them makes the factors a function of W alone. The
        # two columns of a two-class head are equal but for sign and rounding, which must not
        # decide.
        size = Vt.abs()
        largest = size >= (1.0 - _TIE_TOLERANCE) * size.amax(dim=1, keepdim=True)
        sign = torch.sign(Vt.gather(1, largest.int().argmax(dim=1, keepdim=True)))  # (m, 1)
        U, Vt = U * sign.T, Vt * sign
        # U S, but with the rounding of each row in that row alone: that of U is as large in small
        # rows as in large ones, and what divides a small row makes it larger still.
        rows = damped @ Vt.T
        return WeightedSVD(_solve(self.root, self._damp(rows, shrink)), U, S, Vt)

    def _damp(self, X: Tensor, shrink: Tensor) -> Tensor:
        """Return ``T X``."""
        return X - self.Q @ ((1.0 - shrink)[:, None] * (self.Q.T @ X))

    def _shrink(self, weight: float) -> Tensor:
        """Return ``t`` (q,) for a fairness weight.

        At full rank the disparity along direction i is ``g_i t_i^2``. So the share that is left is
        ``sum(g_i^2 / (1 + lambda s_i^2)^2)^1/2`` for g of norm 1. Its inverse is a power mean of
        functions linear in lambda, hence concave: Newton's method from the left goes up to the
        solution, never beyond it; for one direction in one step.
        """
        if weight >= 1.0:
            return torch.zeros_like(self.s)
        squares = self.s.square()
        gaps = squares * (self.Q.T @ self.V).square().sum(dim=1)  # g^2
        if weight <= 0.0 or not gaps.any():
            return torch.ones_like(self.s)
        gaps = gaps / gaps.sum()
        target = 1.0 / (1.0 - weight)
        strength = target - 1.0  # lambda, were all directions as large as the largest
        for _ in range(_NEWTON_STEPS):
            growth = 1.0 + strength * squares
            mean = float((gaps / growth.square()).sum()) ** -0.5
            slope = mean**3 * float((gaps * squares / growth**3).sum())
            step = (target - mean) / slope
            strength += step
            if step <= _NEWTON_TOLERANCE * strength:
                break
        return (1.0 + strength * squares).rsqrt()


def parity_svd(W: Tensor, metric: Tensor, D: Tensor) -> ParitySVD:
    """Prepare the disparity-penalized SVD of a matrix for all fairness weights.

    Parameters
    ----------
    W : Tensor of shape (d, k)
        Weight matrix, inputs by outputs.
    metric : Tensor of shape (d,) or (d, d)
        As for `weighted_svd`.
    D : Tensor of shape (d, p)
        Disparity directions, such as those of `CellStatistics`. They may be linearly dependent, up
        to `DIRECTION_TOLERANCE`, and p may be 0.

    Returns
    -------
    ParitySVD
        Its `ParitySVD.at` costs an SVD of a (d, k) matrix and a product with ``R^-1``: for the few
        columns of a two-class head a fraction of a millisecond.

    Examples
    --------
    >>> W, D = torch.eye(2), torch.tensor([[1.0], [0.0]])
    >>> path = parity_svd(W, torch.ones(2), D)
    >>> for weight in (0.0, 0.5, 1.0):
    ...     A, B = path.at(weight).factors(rank=2)
    ...     print(round((D.T.double() @ A @ B).norm().item(), 6))
    1.0
    0.5
    0.0
    """
    W, metric, D = (tensor.detach().double().cpu() for tensor in (W, metric, D))
    root = metric if metric.ndim == 1 else torch.linalg.cholesky(metric, upper=True)
    V = root[:, None] * W if root.ndim == 1 else root @ W
    Q, s, _ = torch.linalg.svd(_solve(root, D, transposed=True), full_matrices=False)
    kept = s > DIRECTION_TOLERANCE * s[:1]
    return ParitySVD(root, V, Q[:, kept], s[kept] / s[:1])


def _solve(root: Tensor, X: Tensor, *, transposed: bool = False) -> Tensor:
    """Return ``R^-1 X``, or ``R^-T X``, for an upper triangular or diagonal ``R``."""
    if root.ndim == 1:
        return X / root[:, None]
    if transposed:
        return torch.linalg.solve_triangular(root.T, X, upper=False)
    return torch.linalg.solve_triangular(root, X, upper=True)


def resolve_rank(rank: int | float, singular_values: Tensor) -> int:
    """Return the number of singular values (m,), largest first, that ``rank`` asks for: 1 to m.

    An int >= 1 is taken as it is, at most m. A float in (0, 1] is the share of energy (sum of
    squared singular values) to keep: the smallest rank that reaches it.

    Examples
    --------
    >>> import torch
    >>> S = torch.tensor([2.0, 1.0, 0.0])
    >>> resolve_rank(5, S), resolve_rank(0.8, S), resolve_rank(1.0, S)
    (3, 1, 2)
    """
    if isinstance(rank, Integral):
        return min(int(rank), len(singular_values))
    energy = singular_values.double().square().cumsum(0)
    target = float(rank) * float(energy[-1]) * (1.0 - _ENERGY_TOLERANCE)
    return min(int((energy < target).sum()) + 1, len(singular_values))
