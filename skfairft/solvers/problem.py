"""What there is to solve: rows and how to fit them, and a fitted head as the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..head.training import HeadNet
from ..parity.constraints import Parity
from ..parity.demands import Demand
from ..parity.levels import Levels
from ..rows.folds import Folds
from ..rows.hold_out import hold_out
from ..rows.parts import Parts
from ..rows.tensor_rows import TensorRows
from .maximin import Worst

__all__ = ["FittedHead", "Problem"]


@dataclass(frozen=True)
class Problem:
    """What `fit` was given, checked and encoded.

    Parameters
    ----------
    rows : TensorRows
        Features, encoded labels, sample weights times those of the classes, and group codes, -1
        where the group is not known.
    sample_weight : Tensor of shape (n,), float64
        Of the rows, without the weights of the classes.
    class_weight : ndarray of shape (k,)
        Those of the classes. They say how to train; the rates of a constraint are those of the
        rows without them.
    classes, groups : ndarray of shape (k,) and (G,)
        Their names.
    head, rank, importance, C
        As for the classifier.
    demands : tuple of Demand
        What is asked of the rates; none without a constraint.
    group_shares : callable
        Maps the weights (G,) of the groups' rows to ``w_g`` of Eq. 2, (G,).
    device : torch.device
        Where to train.
    verbose : int
        As for the classifier.
    minimax : bool, default=False
        Whether the weights ``w_g`` are to be such that the group that a cut costs most is cost
        least; ``group_shares`` are then where that begins.
    folds : Folds, optional
        Which rows to judge, by heads that have not seen them.
    strength_folds : ndarray of shape (n,), optional
        The fold of each row by which ``C="auto"`` chooses, where these are given; of parts that of
        each row that they are parts of.
    earlier : nn.Module, optional
        An earlier fit's head to go on from.
    positives : range, optional
        Codes of the positive classes, as for `parity`.
    levels : Levels, optional
        What the constraint compares in place of groups, as for `parity`.
    parts : Parts, optional
        Of which the rows are those, if some had no group and were divided.
    """

    rows: TensorRows
    sample_weight: Tensor
    class_weight: NDArray[np.float64]
    classes: NDArray[Any]
    groups: NDArray[Any]
    head: nn.Module | None
    rank: int | float | None
    importance: str
    C: float | str
    demands: tuple[Demand, ...]
    group_shares: Callable[[NDArray[Any]], NDArray[np.float64]]
    device: torch.device
    verbose: int = 0
    minimax: bool = False
    folds: Folds | None = None
    strength_folds: NDArray[np.int64] | None = None
    earlier: nn.Module | None = None
    positives: range | None = None
    levels: Levels | None = None
    parts: Parts | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes k."""
        return len(self.classes)

    @property
    def n_groups(self) -> int:
        """Number of groups G."""
        return len(self.groups)

    @property
    def constraint(self) -> str | None:
        """The first constraint, of most the only one."""
        return self.demands[0].constraint if self.demands else None

    @property
    def joint(self) -> bool:
        """Whether there is more to keep than the difference, or the largest rate, of one."""
        return len(self.demands) > 1 or any(each.ratio for each in self.demands)

    def rules(self, *, as_trained: bool = False) -> tuple[Parity, ...]:
        """Return the moments of each demand, of rows as they are or with the classes' weights."""
        weight = self.class_weight if as_trained else None
        asked: dict[str, Any] = {"positives": self.positives, "levels": self.levels}
        return tuple(each.rule(self.n_classes, weight, **asked) for each in self.demands)

    @property
    def complete(self) -> bool:
        """Whether each row's group is known."""
        assert self.rows.codes is not None
        return bool((self.rows.codes >= 0).all())

    @property
    def as_they_are(self) -> TensorRows:
        """All rows, without the weights of the classes."""
        return TensorRows(self.rows.Z, self.rows.y, self.sample_weight, self.rows.codes)

    @property
    def with_groups(self) -> TensorRows:
        """The rows whose group is known, without the weights of the classes."""
        rows = self.as_they_are
        if self.complete:
            return rows
        assert rows.codes is not None
        return rows.take(torch.nonzero(rows.codes >= 0)[:, 0].numpy())

    def divided(self, shares: Tensor) -> Problem:
        """Return the problem in which rows of unknown group are parts, by shares (n, G)."""
        parts = Parts.divided(self.rows, shares)
        whole = torch.where(self.rows.w > 0.0, self.rows.w, 1.0)[parts.of]
        alone = self.sample_weight[parts.of] * (parts.rows.w / whole)
        return replace(self, rows=parts.rows, sample_weight=alone, folds=None, parts=parts)

    def held_out(
        self, share: float, random_state: np.random.RandomState
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of the rows to fit, and of some to stop by, alike from each cell."""
        everything = np.arange(len(self.rows))
        if self.parts is None:
            test = hold_out(
                self.rows.cells(self.n_groups).numpy(), self.rows.w.numpy(), share, random_state
            )
        else:
            cells, _, w = self.parts.whole
            test = self.parts.of_rows(hold_out(cells, w, share, random_state))
        return np.delete(everything, test), test

    def strength_of(
        self, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64] | None, Parts | None]:
        """Return folds and parts of some rows by their numbers, as `choose_strength` takes them."""
        codes, parts, own = self.strength_folds, None, numbers
        if self.parts is not None:
            parts, own = self.parts.take(numbers), np.unique(self.parts.of.numpy()[numbers])
        return None if codes is None else codes[own], parts

    def fitted_to(self, train: NDArray[np.int64]) -> Problem:
        """Return the problem in which only some rows have a weight; features are shared."""
        w, alone = torch.zeros_like(self.rows.w), torch.zeros_like(self.sample_weight)
        w[train], alone[train] = self.rows.w[train], self.sample_weight[train]
        rows = TensorRows(self.rows.Z, self.rows.y, w, self.rows.codes)
        return replace(self, rows=rows, sample_weight=alone, folds=None)

    def apart(self) -> tuple[Problem, TensorRows]:
        """Return the problem of the rows to fit, and the rows that are held out from it."""
        assert self.folds is not None
        (fold,) = self.folds.parts
        fitted = replace(
            self,
            rows=self.rows.take(fold.train),
            sample_weight=self.sample_weight[fold.train],
            folds=None,
            strength_folds=None,
        )
        # Weights of the classes say how to train; what is true of the rows is theirs alone.
        return fitted, self.as_they_are.take(fold.test)


@dataclass(frozen=True)
class FittedHead:
    """A head and how it came about.

    Parameters
    ----------
    head : nn.Module
        Maps features (n, d) to logits (n, k), float64, on the CPU.
    net : HeadNet
        What trained it.
    rank : int
        Of the factors; min(d, k) without factors.
    group_importance : Tensor of shape (G, d)
        ``I_g``.
    importance : Tensor of shape (d,)
        What weighted the SVD.
    group_weights : Tensor of shape (G,)
        ``w_g``, with sum 1.
    singular_values : Tensor of shape (m,)
        Of the weighted matrix.
    C : float
        Inverse strength of the penalty.
    worst : Worst, optional
        What its votes are to reach in the worst cell.
    shares, known_shares : tuple of float, optional
        Of several demands, or of a ratio, what each limit takes away; the second where groups are
        known.
    """

    head: nn.Module
    net: HeadNet
    rank: int
    group_importance: Tensor
    importance: Tensor
    group_weights: Tensor
    singular_values: Tensor
    C: float
    worst: Worst | None = None
    shares: tuple[float, ...] | None = None
    known_shares: tuple[float, ...] | None = None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the training before its time."""
        return bool(getattr(self.net, "interrupted_", False))

    def with_head(self, head: nn.Module) -> FittedHead:
        """Return the same with another head."""
        return replace(self, head=head)
