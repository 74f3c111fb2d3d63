"""Rows of unknown group as parts: one in each group, with a share of the weight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .mapped import MappedFeatures
from .tensor_rows import TensorRows

__all__ = ["Parts"]

# Up to this many numbers (512 MiB in float64) the features of parts are copied; beyond it they are
# read from where they are.
_COPIED = 2**26


@dataclass(frozen=True)
class Parts:
    """Rows (m,), some of which are parts of the same one of n rows.

    ``sum_g`` of the weights of a row's parts is its weight, so that a sum over parts is one over
    rows whose group is a distribution: a mean, a log-likelihood, a table of decisions.

    Parameters
    ----------
    rows : TensorRows
        The parts, with labels, weights and groups, in the order of the rows.
    of : Tensor of shape (m,), int64
        Number of the row that each is a part of, ascending, each of 0..n-1.

    Examples
    --------
    >>> rows = TensorRows(torch.eye(2), torch.tensor([0, 1]), None, torch.tensor([1, -1]))
    >>> parts = Parts.divided(rows, torch.tensor([[0.5, 0.5], [0.25, 0.75]]).double())
    >>> parts.of.tolist(), parts.rows.codes.tolist(), parts.rows.w.tolist()
    ([0, 1, 1], [1, 0, 1], [1.0, 0.25, 0.75])
    """

    rows: TensorRows
    of: Tensor

    @classmethod
    def divided(cls, rows: TensorRows, shares: Tensor) -> Parts:
        """Divide the rows whose group is not known, with the code -1, by shares (n, G).

        A row whose group is known stays whole, and so does one of weight zero.
        """
        assert rows.codes is not None
        n_groups = shares.shape[1]
        known = rows.codes >= 0
        whole = known | (rows.w == 0.0)
        of = torch.repeat_interleave(torch.where(whole, 1, n_groups))
        first = torch.searchsorted(of, torch.arange(len(rows)))
        own = torch.arange(len(of)) - first[of]
        codes = torch.where(whole[of], rows.codes.clamp(min=0)[of], own)
        w = torch.where(whole[of], 1.0, shares[of, codes]) * rows.w[of]
        Z = rows.here().Z
        if isinstance(Z, Tensor) and len(of) * Z.shape[1] <= _COPIED:
            Z = Z[of]
        else:
            Z = (MappedFeatures(Z.numpy()) if isinstance(Z, Tensor) else Z).take(of.numpy())
        return cls(TensorRows(Z, rows.y[of], w, codes), of)

    @property
    def n_rows(self) -> int:
        """How many rows they are parts of."""
        return int(self.of[-1]) + 1

    @property
    def alone(self) -> Tensor:
        """Which are a whole row, whose group is known or which has no weight: (m,)."""
        return (torch.bincount(self.of) == 1)[self.of]

    @cached_property
    def whole(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the cells (n,) of the rows and their weights, and the number of a part of each.

        A cell is a code of label and group, of which "not known" is one.
        """
        assert self.rows.codes is not None
        of, n_groups = self.of.numpy(), int(self.rows.codes.max()) + 1
        first = np.searchsorted(of, np.arange(self.n_rows))
        group = np.where(self.alone.numpy()[first], self.rows.codes.numpy()[first], n_groups)
        cells = self.rows.y.numpy()[first] * (n_groups + 1) + group
        w = np.bincount(of, self.rows.w.numpy()).astype(np.float64)
        return cells.astype(np.int64), first.astype(np.int64), w

    def weights(self, shares: Tensor) -> Tensor:
        """Return the weights (m,) that the parts have by other shares (n, G)."""
        assert self.rows.codes is not None
        w = torch.from_numpy(self.whole[2])[self.of]
        return torch.where(self.alone, 1.0, shares[self.of, self.rows.codes]) * w

    def of_rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the parts of some rows, ascending."""
        return np.flatnonzero(np.isin(self.of.numpy(), numbers))

    def take(self, index: NDArray[np.int64]) -> Parts:
        """Return some of the parts, all of a row or none, by their ascending numbers."""
        return Parts(self.rows.take(index), torch.unique(self.of[index], return_inverse=True)[1])

    def drawn(self) -> NDArray[np.int64]:
        """Return the number of one part of each row (n,), drawn by the shares; always the same."""
        of, w = self.of.numpy(), self.rows.w.numpy()
        _, first, total = self.whole
        before = np.cumsum(w) - w
        at = before[first] + np.random.default_rng(0).random(len(first)) * total
        chosen = np.searchsorted(np.cumsum(w), at, side="right")
        return np.clip(chosen, first, np.append(first[1:], len(of)) - 1)
