"""A linear layer cut in two, by what its inputs and gradients say: one function, many methods.

=============== ==================== ============================================================
importance      weights of the       what it is
                groups
=============== ==================== ============================================================
"uniform"       any                  the plain SVD
"fisher"        "proportional"       nearly the Fisher-weighted SVD of one group for all [1]_
"fisher"        equal                the paper's, Eqs. 2 to 4
"covariance"    "proportional"       data-aware SVD, whatever the groups [2]_
"covariance"    equal, "minimax"     the group-neutral cut, a fair PCA of the outputs
"kfac"          any                  the same with outputs weighted by their gradients' moments
=============== ==================== ============================================================

References
----------
.. [1] Y.-C. Hsu et al., "Language model compression with weighted low-rank factorization",
   ICLR 2022.
.. [2] X. Wang et al., "SVD-LLM", ICLR 2025; Y. Yang et al., "CorDA", NeurIPS 2024.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .factorization import METRIC_RIDGE, resolve_rank
from .importance import group_moments
from .layer import LowRankLinear
from .network import LayerStatistics
from .neutral import minimax_cut, weighted_cut

__all__ = ["CUTS", "Cut", "borrowing", "cut_layer", "needs_gradients"]

CUTS = ("uniform", "fisher", "covariance", "kfac")
"""Names of the importances."""


class Cut(NamedTuple):
    """A layer cut in two, and how.

    Parameters
    ----------
    layer : LowRankLinear
        What takes the layer's place, of the same dtype and device.
    shares : Tensor of shape (G,), float64
        The groups' weights; those that were found, if the largest loss was to be least.
    losses : Tensor of shape (G,), float64
        What the cut costs each group, as the importance measures it, with what it borrows.
    singular_values : Tensor of shape (min(d, k),), float64
        Largest first; their squares are the energy.
    """

    layer: LowRankLinear
    shares: Tensor
    losses: Tensor
    singular_values: Tensor


def needs_gradients(importance: str) -> bool:
    """Tell whether an importance needs the loss's gradient at the layer's outputs."""
    return importance in ("fisher", "kfac")


def borrowing(counts: Tensor, rows: float) -> Tensor:
    """Return the matrix (G, G) by which each group's mean borrows rows of all groups.

    What is seen of a group of few rows is theirs by chance as well. So its mean is that of its own
    n rows and of so many of all: ``(n mean_g + rows mean) / (n + rows)``.

    Parameters
    ----------
    counts : Tensor of shape (G,)
        Rows of each group.
    rows : float
        How many to borrow.

    Examples
    --------
    >>> borrowing(torch.tensor([100.0, 300.0]), 100.0)
    tensor([[0.6250, 0.3750],
            [0.0625, 0.9375]], dtype=torch.float64)
    """
    counts = counts.double()
    own = torch.where(counts > 0, counts / (counts + rows).clamp_min(1e-300), 0.0)
    return own.diag() + (1.0 - own)[:, None] * (counts / counts.sum())


def cut_layer(
    layer: nn.Linear,
    statistics: LayerStatistics,
    rank: int | float,
    *,
    importance: str,
    shares: Tensor | None,
    mixing: Tensor | None = None,
) -> Cut:
    """Return a layer cut to a rank.

    The bias takes up what the cut changes at the mean of the inputs, weighted as the groups are:
    ``b + mean^T (W - A B)``.

    Parameters
    ----------
    layer : nn.Linear
        With weights ``W^T`` (k, d); it is not changed.
    statistics : LayerStatistics
        Of its inputs, and of its gradients where `needs_gradients` says so.
    rank : int or float
        As for `resolve_rank`.
    importance : str
        One of `CUTS`.
    shares : Tensor of shape (G,) or None
        Weights of the groups, non-negative with sum 1; None: such that the largest loss of a group
        is least.
    mixing : Tensor of shape (G, G), optional
        What each group's loss is a mean of; see `borrowing`. None is each group's own.

    Raises
    ------
    ValueError
        If squares of its inputs, weights or gradients overflow.

    Examples
    --------
    >>> layer = nn.Linear(3, 2).double()
    >>> Z, codes = torch.eye(3).double(), torch.tensor([0, 0, 1])
    >>> seen = LayerStatistics(layer, 2, gradients=False).update(Z, codes)
    >>> cut = cut_layer(layer, seen, 2, importance="covariance", shares=None)
    >>> bool(torch.allclose(cut.layer(Z), layer(Z)))
    True
    """
    W = layer.weight.detach().double().cpu().T
    inputs = statistics.inputs.result()
    n_groups = len(inputs.means.weights)
    mixing = torch.eye(n_groups, dtype=torch.float64) if mixing is None else mixing
    equal = torch.full((n_groups,), 1.0 / n_groups, dtype=torch.float64)
    weights = equal if shares is None else shares.double()
    given = weights @ mixing
    outputs = None
    if importance == "kfac":
        assert statistics.outputs is not None
        gradients = torch.einsum("g,gij->ij", given, statistics.outputs.result())
        _refuse_overflow(layer, gradients)
        outputs = _root(gradients)
    # W = R^T Q^T. What the layer sees, in the directions of Q: (G, m, m), m = min(d, k).
    Q, R = torch.linalg.qr((W if outputs is None else W @ outputs).T)
    moments = group_moments(
        importance,
        R.T,
        inputs,
        None if statistics.fisher is None else statistics.fisher.result(),
        given,
        apart=shares is None,
    )
    mixed = torch.einsum("gh,hij->gij", mixing, moments)
    _refuse_overflow(layer, mixed)
    values = torch.linalg.eigvalsh(torch.einsum("g,gij->ij", weights, mixed)).flip(0)
    singular = values.clamp_min(0.0).sqrt()
    r = resolve_rank(rank, singular)
    found = minimax_cut(mixed, r) if shares is None else weighted_cut(mixed, r, weights)
    A, B = R.T @ found.V, (Q @ found.V).T
    if outputs is not None:
        # Gradients may be of any size, and half precision holds few.
        size = float(outputs.abs().max())
        A, B = A / size, torch.linalg.solve(outputs.T / size, B.T).T
    bias = None if layer.bias is None else layer.bias.detach().double().cpu()
    shift = (given @ inputs.means.means.nan_to_num()) @ (W - A @ B)
    bias = shift if bias is None else bias + shift
    small = LowRankLinear(*(each.to(layer.weight) for each in (A, B, bias)))
    return Cut(small, found.shares, found.losses, singular)


def _refuse_overflow(layer: nn.Linear, moments: Tensor) -> None:
    if not bool(torch.isfinite(moments).all()):
        raise ValueError(
            f"The inputs, weights or gradients of a layer of {layer.in_features} to "
            f"{layer.out_features} are so large that their squares overflow; scale what the model "
            "takes, or leave it out."
        )


def _root(moment: Tensor) -> Tensor:
    """Return an invertible symmetric root of a positive semidefinite matrix (k, k)."""
    values, vectors = torch.linalg.eigh(moment)
    least = METRIC_RIDGE * float(values[-1]) or 1.0
    return (vectors * values.clamp_min(least).sqrt()) @ vectors.T
