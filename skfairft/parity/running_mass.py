"""The table of all rows' probabilities, kept up while minibatches change the head."""

from __future__ import annotations

from torch import Tensor

from .constraints import mass_table

__all__ = ["RunningMass"]


class RunningMass:
    """The table ``mass`` of all rows, from the probabilities that each of them had last.

    A group that is rare has a few rows in some minibatches and none in others; its rates in a
    batch are noise. Here each batch replaces its own rows only, so that the rates are those of all
    rows, most of them a few steps old.

    Parameters
    ----------
    p : Tensor of shape (n, k), float64
        Probabilities; they are written to.
    y, codes : Tensor of shape (n,), int64
        True label and group of each row.
    w : Tensor of shape (n,), float64
        Sample weights.
    n_groups : int
        Number of groups G.

    Attributes
    ----------
    mass : Tensor of shape (k, G, k), float64
        See `skfairft.parity.constraints`.

    Examples
    --------
    >>> import torch
    >>> p, y, s = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]), torch.tensor([0, 1])
    >>> running = RunningMass(p, y, s, torch.ones(2), n_groups=2)
    >>> running.mass[1, 1].tolist()
    [1.0, 0.0]
    >>> running.update(torch.tensor([1]), torch.tensor([[0.25, 0.75]]))[1, 1].tolist()
    [0.25, 0.75]
    """

    def __init__(self, p: Tensor, y: Tensor, codes: Tensor, w: Tensor, *, n_groups: int) -> None:
        self._p, self._y, self._codes, self._w = p, y, codes, w
        self._n_groups = n_groups
        self.refresh()

    def __len__(self) -> int:
        return len(self._y)

    def refresh(self) -> None:
        """Sum anew, so that the rounding of many updates does not add up."""
        self.mass, _ = mass_table(self._p, self._y, self._codes, self._w, n_groups=self._n_groups)

    def update(self, numbers: Tensor, p: Tensor) -> Tensor:
        """Replace the probabilities of some rows and return the table.

        Parameters
        ----------
        numbers : Tensor of shape (B,), int64
            Which rows, each at most once.
        p : Tensor of shape (B, k), float64
            Their new probabilities.

        Returns
        -------
        Tensor of shape (k, G, k), float64
            ``mass``, of all rows.
        """
        change, _ = mass_table(
            p - self._p[numbers],
            self._y[numbers],
            self._codes[numbers],
            self._w[numbers],
            n_groups=self._n_groups,
        )
        self._p[numbers] = p
        self.mass = self.mass + change
        return self.mass
