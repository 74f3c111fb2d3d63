"""The table of all rows' probabilities, kept up while minibatches change the head."""

from __future__ import annotations

from torch import Tensor

from ..rows.tensor_rows import TensorRows

__all__ = ["RunningMass"]


class RunningMass:
    """The table ``mass`` (k, G, k) of all rows, from the probabilities that each had last.

    A group that is rare has a few rows in some minibatches and none in others; its rates in a
    batch are noise. Here each batch replaces its own rows only, so that the rates are those of all
    rows, most of them a few steps old.

    Parameters
    ----------
    p : Tensor of shape (n, k), float64
        Probabilities; they are written to.
    rows : TensorRows
        With labels, weights and groups.
    n_groups : int
        Number of groups G.

    Examples
    --------
    >>> import torch
    >>> rows = TensorRows(torch.eye(2), torch.tensor([0, 1]), None, torch.tensor([0, 1]))
    >>> running = RunningMass(torch.tensor([[1.0, 0.0], [1.0, 0.0]]).double(), rows, n_groups=2)
    >>> running.mass[1, 1].tolist()
    [1.0, 0.0]
    >>> new = torch.tensor([[0.25, 0.75]]).double()
    >>> running.update(torch.tensor([1]), new)[1, 1].tolist()
    [0.25, 0.75]
    """

    def __init__(self, p: Tensor, rows: TensorRows, *, n_groups: int) -> None:
        self._p, self._n_groups = p, n_groups
        self._w, self._cells = rows.w[:, None], rows.cells(n_groups)
        self.refresh()

    def __len__(self) -> int:
        return len(self._p)

    def refresh(self) -> None:
        """Sum anew, so that the rounding of many updates does not add up."""
        k = self._p.shape[1]
        self.mass = self._p.new_zeros(k, self._n_groups, k)
        self._add(self._cells, self._p * self._w)

    def update(self, numbers: Tensor, p: Tensor) -> Tensor:
        """Replace the probabilities (B, k) of some rows, each at most once; return the table."""
        self._add(self._cells[numbers], (p - self._p[numbers]) * self._w[numbers])
        self._p[numbers] = p
        return self.mass

    def _add(self, cells: Tensor, weighted: Tensor) -> None:
        self.mass = self.mass.flatten(0, 1).index_add(0, cells, weighted).view_as(self.mass)
