"""`PlugIn`: a head of cells of class and group, and the most accurate rule of parity by them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..head.modules import CellVote, head_scores
from ..head.start import parse_head, scores_classes
from ..rows.tensor_rows import TensorRows
from .fitter import HeadFitter
from .problem import FittedHead, Problem
from .rule import cell_scores, solve_multipliers, votes
from .trained import TrainedSolver

__all__ = ["PlugIn"]


class PlugIn(TrainedSolver):
    """Decide by the most accurate rule of parity, from probabilities of class and group together.

    The head estimates the probabilities of the cells of class and group (here a rank below
    ``k G - 1`` bites); a small table of votes, one for each weight of fairness, turns them into
    classes [1]_. It estimates the group from the features, and needs it at `fit` only.
    ``solver="plug_in"`` stands for ``PlugIn()``.

    Parameters
    ----------
    max_epochs, lr, batch_size, optimizer, optimizer_kwargs, weight_decay, early_stopping, \
validation_fraction, n_iter_no_change, tol, callbacks
        Of the training of the head of cells; as for `FineTune`.

    References
    ----------
    .. [1] A. K. Menon and R. C. Williamson, "The cost of fairness in binary classification",
       FAT* 2018.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, PlugIn
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=500, disparity=0.4, random_state=0)
    >>> clf = FairLowRankHeadClassifier(
    ...     constraint="demographic_parity", fairness_weight=1.0, solver=PlugIn(max_epochs=50)
    ... ).fit(X, y, sensitive_features=s)
    >>> selected = clf.predict(X) == 1
    >>> bool(abs(selected[s == 0].mean() - selected[s == 1].mean()) < 0.05)
    True
    """

    name: ClassVar[str] = "plug_in"
    needs_groups: ClassVar[bool] = True
    votes: ClassVar[bool] = True
    starts_with_constraint: ClassVar[bool] = False
    caveats: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "The group is inferred",
            "No group is needed to predict, because the head estimates it: it holds the "
            "probability of each class and group together, and decides by both. Two rows with the "
            "same chance of a class can be decided differently because the features of one speak "
            "for one group. Where the use of the group in a decision is unlawful or unwanted, an "
            "estimate of it may be no better. Ask before it is deployed.",
        ),
        (
            "Probabilities are votes",
            "predict_proba gives the shares of the votes that decide. They are not estimates of "
            "how likely a class is, and not to be used as such.",
        ),
    )

    def check_head(self, head: nn.Module | None, n_classes: int, device: torch.device) -> None:
        """Refuse a head of the classes, too, which knows no groups; as `Solver.check_head`."""
        super().check_head(head, n_classes, device)
        if head is not None and scores_classes(head, n_classes):
            linear, _ = parse_head(head)
            raise ValueError(
                f"head has {linear.out_features} outputs, for the {n_classes} classes, but "
                "solver='plug_in' needs the probabilities of label and group together, which such "
                "a head does not hold. Pass head=None, or the hidden layer before it."
            )

    def fitter(self, problem: Problem, seed: Any) -> HeadFitter:
        """Return what fits heads of any weight to the rows of a problem."""
        return _PlugInFitter(
            problem,
            seed,
            early_share=self.early_share(problem.head, problem.n_classes),
            training=self._training(),
        )


class _PlugInFitter(HeadFitter):
    """Trains one head of cells, and finds votes for each weight."""

    def _prepare(self) -> None:
        # Cells that occur; others have no rows to be told apart by.
        self._cells = torch.unique(self._cell_codes(self._rows))
        self._n_outputs = len(self._cells)
        self._target = self._with_targets(self._rows)
        earlier = self._problem.earlier
        self._measure(None if earlier is None else self._without_votes(earlier), hidden=True)

    def _with_targets(self, rows: TensorRows) -> TensorRows:
        codes = torch.searchsorted(self._cells, self._cell_codes(rows))
        return TensorRows(rows.Z, codes, rows.w, rows.codes)

    def _without_votes(self, earlier: nn.Module) -> nn.Module:
        """Return the layers of an earlier fit's head before its votes."""
        *layers, vote = earlier.children()
        if not isinstance(vote, CellVote) or len(vote.vote) != self._n_outputs:
            raise ValueError(
                "warm_start=True goes on from a head for other cells of class and group than the "
                f"{self._n_outputs} of this data; set warm_start=False."
            )
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def fit(self, weight: float = 0.0, near: FittedHead | None = None) -> FittedHead:
        """Return the head of cells with the votes of one fairness weight."""
        return self._voting(np.array([weight]))[0]

    def fit_path(self, weights: NDArray[np.float64]) -> Iterator[FittedHead]:
        """Yield the head of cells with the votes of each weight, all found together."""
        yield from self._voting(weights)

    def unconstrained(self) -> nn.Module:
        """Return the head that a constraint starts from, whose cells vote for their own class."""
        own = self._cells // self._problem.n_groups
        labels = nn.functional.one_hot(own, self._problem.n_classes)
        return nn.Sequential(*super().unconstrained().children(), CellVote(labels.double()))

    @cached_property
    def _cell_head(self) -> FittedHead:
        found = self._decomposition.at(0.0)
        return self._finish(self._cut(found, 0.0), self._measured.start.tail, found.S)

    def _voting(self, weights: NDArray[np.float64]) -> list[FittedHead]:
        fitted = self._cell_head
        layers = list(fitted.head.children()) or [fitted.head]
        return [
            replace(
                fitted,
                head=nn.Sequential(
                    *copy.deepcopy(layers), CellVote(votes(each.flatten(0, 1)[self._cells]))
                ),
            )
            for each in self._scores(weights, fitted.head)
        ]

    def _scores(self, weights: NDArray[np.float64], head: nn.Module) -> list[Tensor]:
        """Return the scores (k, G, k) of cells for each weight."""
        k, n_groups, rows = self._problem.n_classes, self._problem.n_groups, self._rows
        if self._parity is None:
            own = torch.eye(k, dtype=torch.float64)[:, None, :].expand(-1, n_groups, -1)
            return [own] * len(weights)
        p = torch.zeros(len(rows), k * n_groups, dtype=torch.float64)
        p[:, self._cells] = torch.softmax(head_scores(head, rows.Z), dim=1)
        multipliers, count = solve_multipliers(
            p,
            rows.w,
            self._parity,
            n_groups=n_groups,
            removed=weights,
            cells=self._cell_codes(rows),
        )
        if weights.any() and not bool(multipliers.any()):
            self._report_alike("the decisions without a constraint do not differ between groups")
        return [cell_scores(self._parity, one, count) for one in multipliers]
