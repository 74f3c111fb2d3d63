"""Neutralized importance and the weighted SVD: pure functions on float64 tensors.

``W`` is always (d, k), inputs by outputs: the transpose of ``nn.Linear.weight``.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

__all__ = [
    "IMPORTANCE_FLOOR",
    "WeightedSVD",
    "floor_importance",
    "neutralize",
    "resolve_rank",
    "weighted_svd",
]

IMPORTANCE_FLOOR = 1e-6
"""Smallest importance, as a share of the largest one, that enters the SVD.

Both per size of the feature, so that units do not matter. A feature that never
fires has zero Fisher information, and Eq. 4 divides by the importance.
Importances of features that do fire were seen to span up to 5.5 decades, so the
floor of 6 decades leaves them alone; in float64 the division still keeps ten digits.
"""

# Shares of energy are compared up to rounding, so that rank=1.0 means "all that is not noise".
_ENERGY_TOLERANCE = 1e-12
# Entries of a singular vector that differ by less than this share count as equally large.
_TIE_TOLERANCE = 1e-6


def neutralize(group_importance: Tensor, group_weights: Tensor) -> Tensor:
    """Weighted mean of the groups' importances (Eq. 2).

    Parameters
    ----------
    group_importance : Tensor of shape (G, d)
        ``I_g``, one row per group.
    group_weights : Tensor of shape (G,)
        ``w_g``, non-negative with sum 1; the paper's Eq. 2 has 1/2 and 1/2.

    Returns
    -------
    Tensor of shape (d,)
        ``I_N = sum_g w_g I_g``.

    Examples
    --------
    >>> import torch
    >>> neutralize(torch.tensor([[1.0, 3.0], [3.0, 5.0]]), torch.tensor([0.5, 0.5]))
    tensor([2., 4.])
    """
    return group_weights @ group_importance


def floor_importance(importance: Tensor, size: Tensor | None = None) -> Tensor:
    """Raise importances per size below `IMPORTANCE_FLOOR` times the largest one to that value.

    Parameters
    ----------
    importance : Tensor of shape (d,)
        Non-negative importances, at least one of them positive.
    size : Tensor of shape (d,), optional
        Positive size of each feature, such as its root mean square. With it
        ``diag(importance) W`` stays what it is when a feature is measured in other
        units. None is 1 each.

    Returns
    -------
    Tensor of shape (d,)
        Strictly positive importances.

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


@dataclass(frozen=True)
class WeightedSVD:
    """``diag(I) W = U diag(S) Vt``, with the factors of Eq. 4 at any rank.

    Parameters
    ----------
    importance : Tensor of shape (d,), float64
        The strictly positive weights ``I``.
    U : Tensor of shape (d, m), float64
        Left singular vectors, m = min(d, k).
    S : Tensor of shape (m,), float64
        Singular values, largest first.
    Vt : Tensor of shape (m, k), float64
        Right singular vectors.

    Examples
    --------
    >>> import torch
    >>> W = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> A, B = weighted_svd(W, torch.ones(2)).factors(rank=1)
    >>> A @ B
    tensor([[2., 0.],
            [0., 0.]], dtype=torch.float64)
    """

    importance: Tensor
    U: Tensor
    S: Tensor
    Vt: Tensor

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return ``A = diag(I)^-1 U_r S_r`` (d, r) and ``B = Vt_r`` (r, k) (Eq. 4)."""
        A = self.U[:, :rank] * self.S[:rank] / self.importance[:, None]
        return A, self.Vt[:rank].clone()


def weighted_svd(W: Tensor, importance: Tensor) -> WeightedSVD:
    """Singular value decomposition of ``diag(importance) W`` in float64 (Eq. 4).

    Truncating it at rank r minimizes the Frobenius norm of
    ``diag(importance) (W - A B)`` over all A (d, r), B (r, k) (Eckart-Young).

    Parameters
    ----------
    W : Tensor of shape (d, k)
        Weight matrix, inputs by outputs.
    importance : Tensor of shape (d,)
        Strictly positive row weights; see `floor_importance`.

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
    scale = importance.detach().double().cpu()
    U, S, Vt = torch.linalg.svd(scale[:, None] * W.detach().double().cpu(), full_matrices=False)
    # LAPACK leaves the signs free; fixing them makes the factors a function of W alone. The two
    # columns of a two-class head are equal but for sign and rounding, which must not decide.
    size = Vt.abs()
    largest = size >= (1.0 - _TIE_TOLERANCE) * size.amax(dim=1, keepdim=True)
    sign = torch.sign(Vt.gather(1, largest.int().argmax(dim=1, keepdim=True)))  # (m, 1)
    return WeightedSVD(scale, U * sign.T, S, Vt * sign)


def resolve_rank(rank: int | float, singular_values: Tensor) -> int:
    """Return the number of singular values that ``rank`` asks for.

    Parameters
    ----------
    rank : int or float
        An int >= 1 is taken as it is, at most ``len(singular_values)``. A float
        in (0, 1] is the share of energy (sum of squared singular values) to
        keep: the smallest rank that reaches it.
    singular_values : Tensor of shape (m,)
        Largest first.

    Returns
    -------
    int
        Between 1 and m.

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
