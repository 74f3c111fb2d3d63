"""From features to a head of some rank, for any weight of fairness: what all solvers share.

Knows tensors, not scikit-learn. What does not depend on the weight is done once.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from numbers import Integral
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn

from ..head.measure import chosen_strength, measure
from ..head.modules import RawHead, StandardizedHead
from ..head.start import has_activation, previous_head
from ..head.training import fine_tune
from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..lowrank.factorization import ParitySVD, WeightedSVD, parity_svd, resolve_rank
from ..lowrank.gaps import distinct_directions
from ..lowrank.importance import heads_of, minimax_shares, needs_covariance, weigh
from ..lowrank.layer import LowRankHead
from ..parity.constraints import Parity, parity
from ..parity.penalty import ParityPenalty
from ..rows.tensor_rows import TensorRows, effective_rows
from .problem import FittedHead, Problem

__all__ = ["HeadFitter", "warn_of_alike"]

# What `fine_tune` takes where nothing is trained.
_UNTRAINED: Mapping[str, Any] = MappingProxyType(
    {
        "optimizer": None,
        "optimizer_kwargs": None,
        "lr": None,
        "weight_decay": 0.0,
        "batch_size": None,
        "max_epochs": 0,
        "tol": None,
        "patience": None,
        "callbacks": None,
    }
)


def _size(penalty: ParityPenalty | None) -> float:
    """Return how many times as large as the loss it is with a penalty that is a loss, too."""
    return 1.0 if penalty is None or penalty.form != "worst" else 1.0 + penalty.strength


class HeadFitter(ABC):
    """Fits heads of any fairness weight to the same rows.

    Parameters
    ----------
    problem : Problem
        Rows, and how to fit.
    seed : int or RandomState
        Of the hold-out for early stopping, and of the training.
    early_share : float, optional
        Share of the rows held out for early stopping.
    training : mapping, optional
        How to train: arguments of `fine_tune`. None is not at all.

    Raises
    ------
    ValueError
        For a pre-trained head or an earlier one that does not suit.
    """

    def __init__(
        self,
        problem: Problem,
        seed: Any,
        *,
        early_share: float | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        random_state = check_random_state(seed)
        self._problem = problem
        self._training = _UNTRAINED if training is None else training
        self.parity: Parity | None = None
        self.C: float  # of the penalty; chosen, where it is not given
        if problem.constraint is not None:
            self.parity = parity(
                problem.constraint,
                problem.n_classes,
                problem.class_weight,
                positives=problem.positives,
                levels=problem.levels,
            )
        self._rows, self._held_out = problem.rows, None
        self._codes, self._parts = problem.strength_folds, problem.parts
        if early_share is not None:
            rest, held_out = problem.held_out(early_share, random_state)
            self._rows = problem.rows.take(rest)
            self._held_out = problem.rows.take(held_out)
            self._codes, self._parts = problem.strength_of(rest)
        self._seed = int(random_state.randint(np.iinfo(np.int32).max))
        self._reported_alike = False
        self._prepare()
        self._report_rank()

    def _prepare(self) -> None:
        """Measure the rows with what the head is to tell apart: the classes."""
        self._n_outputs = self._problem.n_classes
        self._target = self._rows
        self._measure(None if self.parity is not None else self._problem.earlier)

    def _measure(self, earlier: nn.Module | None, *, hidden: bool = False) -> None:
        problem, rows = self._problem, self._rows
        constrained = self.parity is not None and not hidden
        self.C = (
            chosen_strength(
                self._in_training,
                n_classes=self._n_outputs,
                head=problem.head,
                codes=self._codes,
                alike=hidden and any(rule.largest for rule in problem.rules()),
                parts=self._parts,
            )
            if isinstance(problem.C, str)
            else problem.C
        )
        self._measured = measure(
            self._target,
            n_groups=problem.n_groups,
            n_classes=self._n_outputs,
            C=self.C,
            head=problem.head,
            hidden=hidden,
            start=None if earlier is None else previous_head(earlier),
            labels=rows.y if constrained else None,
            n_labels=problem.n_classes,
            covariance=needs_covariance(problem.importance),
            heads=heads_of(problem.importance),
        )
        self._shares = self._group_shares()
        if problem.minimax and problem.rank is not None:
            self._shares = minimax_shares(
                problem.importance,
                self._measured,
                self._measured.start.weight,
                problem.rank,
                self._shares,
            )
        self._metric = weigh(problem.importance, self._measured, self._shares)

    @abstractmethod
    def fit(self, weight: float = 0.0, near: FittedHead | None = None) -> FittedHead:
        """Fit the head of one fairness weight.

        Parameters
        ----------
        weight : float, default=0.0
            In [0, 1]; without a constraint it has no effect.
        near : FittedHead, optional
            That of a weight near by, from which training may start.
        """

    def fit_path(self, weights: NDArray[np.float64]) -> Iterator[FittedHead]:
        """Fit a head for each of several weights, in their order, each near the one before."""
        near = None
        for weight in weights:
            near = self.fit(float(weight), near)
            yield near

    def unconstrained(self) -> nn.Module:
        """Return the head that a constraint starts from, at full rank."""
        start = self._measured.start
        dense = LowRankHead(start.weight, None, start.bias)
        return nn.Sequential(dense, *([] if start.tail is None else start.tail))

    def _cell_codes(self, rows: TensorRows) -> Tensor:
        return rows.cells(self._problem.n_groups)

    def _group_shares(self) -> Tensor:
        """Return the weights of the groups (G,), with sum 1."""
        weights = self._measured.statistics.weights.numpy()
        return torch.from_numpy(self._problem.group_shares(weights))

    def _report_rank(self) -> None:
        rank, shape = self._problem.rank, tuple(self._measured.start.weight.shape)
        if isinstance(rank, Integral) and rank > min(shape):
            warn_user(
                f"rank={rank} is above min(d, k) = {min(shape)}, the rank of any head of shape "
                f"{shape}; using {min(shape)}.",
                UserWarning,
            )

    @cached_property
    def _decomposition(self) -> ParitySVD:
        """The weighted SVD (Eq. 4), and with it that of every fairness weight."""
        return parity_svd(self._measured.start.weight, self._metric.metric, self._directions)

    @cached_property
    def _directions(self) -> Tensor:
        """The directions (d, q) in which the mean features differ between what is compared."""
        problem, cells, moments = self._problem, self._measured.cells, self._measured.moments
        conditions = None if self.parity is None else self.parity.conditions
        if cells is None or conditions is None:
            return torch.zeros(self._rows.Z.shape[1], 0, dtype=torch.float64)
        member = None if problem.levels is None else torch.from_numpy(problem.levels.member)
        directions = cells.directions(torch.from_numpy(conditions), member)
        return distinct_directions(directions, moments[1], effective_rows(self._rows.w))

    def _cut(self, found: WeightedSVD, weight: float) -> LowRankHead:
        """Return the head at its rank; ``rank=None`` has no factors."""
        start, rank = self._measured.start, self._problem.rank
        A, B = found.factors(len(found.S) if rank is None else resolve_rank(rank, found.S))
        weight_matrix = start.weight if rank is None and weight == 0.0 else A @ B
        bias = start.bias
        if self._metric.metric.ndim == 2:
            # A covariance is about the mean: what it says of the scores holds if those of the mean
            # stay, wherever the features have their zero. Eq. 4 keeps the bias.
            bias = bias + self._measured.moments.mean @ (start.weight - weight_matrix)
        return LowRankHead(weight_matrix, None, bias) if rank is None else LowRankHead(A, B, bias)

    def _finish(
        self,
        head: LowRankHead,
        tail: nn.Sequential | None,
        singular_values: Tensor,
        penalty: ParityPenalty | None = None,
        *,
        train: bool = True,
    ) -> FittedHead:
        """Train a head, unless it is to stay as it is."""
        problem, rows = self._problem, self._target
        if penalty is None:  # groups would only be carried along
            rows = TensorRows(rows.Z, rows.y, rows.w)
        module, training = self._module(head, tail), self._training if train else _UNTRAINED
        net = fine_tune(
            module,
            rows.with_unit_mean_weights(),
            self._validation(penalty),
            penalty=penalty,
            n_classes=self._n_outputs,
            l2=self._l2 * _size(penalty),
            nonlinear=has_activation(problem.head, problem.n_classes),
            seed=self._seed,
            device=problem.device,
            verbose=problem.verbose,
            **training,
        )
        # L-BFGS remembers dozens of vectors as long as all parameters; a pickle needs none.
        net.optimizer_.state.clear()
        # The way through standardized features rounds; an untrained head needs none of it.
        untouched = head if tail is None else nn.Sequential(head, *copy.deepcopy(tail))
        found = module.fold() if training["max_epochs"] else untouched
        if not all(bool(values.isfinite().all()) for values in found.state_dict().values()):
            raise ValueError(
                "The head that was fitted holds numbers that are not finite. Measure the columns "
                "of X in other units, or leave optimizer, lr and batch_size at None."
            )
        return FittedHead(
            head=found,
            net=net,
            rank=min(head.weight.shape) if head.B is None else len(head.B),
            group_importance=self._measured.statistics.importance,
            importance=self._metric.importance,
            group_weights=self._shares,
            singular_values=singular_values,
            C=self.C,
        )

    @property
    def _in_training(self) -> TensorRows:
        """What is fitted, with weights like those that its losses have in training."""
        return self._target

    @property
    def _l2(self) -> float:
        # LogisticRegression penalizes ||w||^2 / 2 for the margin w of two classes; their two
        # columns -w/2 and w/2 have half that norm.
        columns = 2.0 if self._n_outputs == 2 else 1.0
        return columns / (self.C * float(self._rows.w.sum()))

    def _module(self, head: LowRankHead, tail: nn.Sequential | None) -> StandardizedHead | RawHead:
        """Return what is trained."""
        return self._standardized(head, tail)

    def _standardized(self, head: LowRankHead, tail: nn.Sequential | None) -> StandardizedHead:
        return StandardizedHead(
            head, tail, *self._measured.moments, self._output_scale, torch.float64
        )

    @cached_property
    def _output_scale(self) -> Tensor | None:
        return self._measured.start.output_layer_scale(self._rows.Z, self._rows.w)

    def _with_targets(self, rows: TensorRows) -> TensorRows:
        """Return rows whose labels are what the head is to tell apart."""
        return rows

    def _validation(self, penalty: ParityPenalty | None) -> TensorRows | None:
        if self._held_out is None:
            return None
        rows = self._with_targets(self._held_out)
        if penalty is None:
            rows = TensorRows(rows.Z, rows.y, rows.w)
        return rows.with_unit_mean_weights()

    def _report_alike(self, what: str) -> None:
        """Say once that a constraint has nothing to act on."""
        if not self._reported_alike:
            self._reported_alike = True
            warn_of_alike(self._problem.constraint, what)


def warn_of_alike(constraint: str | None, what: str) -> None:
    """Warn that a constraint has nothing to act on."""
    warn_user(
        f"constraint={constraint!r} has nothing to act on: on the rows that "
        f"are fitted {what}, and the head is that without a constraint. On other rows, "
        "where groups are not alike, its decisions may differ between them.",
        FairnessWarning,
    )
