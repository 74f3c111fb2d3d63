"""From features to a fitted head: measure, factorize, train, for any weight of fairness.

Knows tensors, not scikit-learn. What does not depend on the weight is done once.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..head.logistic import refit_bias
from ..head.measure import measure
from ..head.modules import CellVote, LowRankHead, StandardizedHead, head_scores, split_tail
from ..head.start import StartingHead, previous_head, refit_output
from ..head.training import HeadNet, fine_tune
from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..lowrank.factorization import (
    ParitySVD,
    WeightedSVD,
    floor_importance,
    neutralize,
    parity_svd,
    regularized_metric,
    resolve_rank,
)
from ..lowrank.gaps import disparity_directions, distinct_directions, feature_covariance
from ..parity.constraints import Parity, ParityPenalty, cell_counts, parity
from ..rows.hold_out import hold_out
from ..rows.tensor_rows import TensorRows, effective_rows
from .rule import cell_scores, solve_multipliers, votes
from .strength import penalty_strength, stiffness

__all__ = ["FitProblem", "FittedHead", "HeadFitter", "HeadSettings"]


# Share of its diagonal added to the covariance as a metric, so that directions in which the
# features hardly vary on these rows do not look free.
_COVARIANCE_RIDGE = 0.01

# Share of the disparity that the closed form at a weight of 1 may leave by rounding.
_LEFT = 1e-3


@dataclass(frozen=True)
class HeadSettings:
    """What a head is fitted with: parameters of `FairLowRankHeadClassifier`, checked.

    Parameters
    ----------
    head, rank, importance, C, constraint, solver, calibrate, validation_fraction
        As for the classifier.
    group_shares : callable
        Maps the weights (G,) of the groups' rows to ``w_g`` of Eq. 2, (G,).
    early_stopping : bool
        Whether to hold rows out.
    training : mapping
        More arguments of `fine_tune`.
    """

    head: nn.Module | None
    rank: int | float | None
    importance: str
    group_shares: Callable[[NDArray[Any]], NDArray[np.float64]]
    C: float
    constraint: str | None
    solver: str
    calibrate: bool
    early_stopping: bool
    validation_fraction: float
    training: Mapping[str, Any]


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
    singular_values : Tensor of shape (m,)
        Of the weighted matrix.
    """

    head: nn.Module
    net: HeadNet
    rank: int
    group_importance: Tensor
    importance: Tensor
    singular_values: Tensor

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the training before its time."""
        return bool(getattr(self.net, "interrupted_", False))

    def with_head(self, head: nn.Module) -> FittedHead:
        """Return the same with another head."""
        return replace(self, head=head)


@dataclass(frozen=True)
class FitProblem:
    """What `fit` was given, checked and encoded.

    Parameters
    ----------
    rows : TensorRows
        Features, labels, weights and groups.
    sample_weight : Tensor of shape (n,)
        Of the rows, without the weights of the classes.
    class_weight : Tensor of shape (k,)
        Those of the classes.
    held_out : ndarray of int64, or None
        Numbers of the rows to judge on, and not to fit.
    """

    rows: TensorRows
    sample_weight: Tensor
    class_weight: Tensor
    held_out: NDArray[np.int64] | None = None

    @property
    def as_they_are(self) -> TensorRows:
        """All rows, without the weights of the classes."""
        return TensorRows(self.rows.Z, self.rows.y, self.sample_weight, self.rows.codes)

    def split(self) -> tuple[TensorRows, TensorRows | None]:
        """Return the rows to fit and those to judge on, if there are any."""
        if self.held_out is None:
            return self.rows, None
        rest = np.delete(np.arange(len(self.rows)), self.held_out)
        # Weights of the classes say how to train; what is true of the rows is theirs alone.
        return self.rows.take(rest), self.as_they_are.take(self.held_out)


def split_rows(
    rows: TensorRows, n_groups: int, fraction: float, random_state: np.random.RandomState
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the rows to fit and of those held out, alike from each cell."""
    assert rows.codes is not None
    cells = (rows.y * n_groups + rows.codes).numpy()
    held_out = hold_out(cells, rows.w.numpy(), fraction, random_state)
    return np.delete(np.arange(len(cells)), held_out), held_out


class HeadFitter:
    """Fits heads of any fairness weight to the same rows.

    Parameters
    ----------
    data : TensorRows
        Features, encoded labels, sample weights times those of the classes, and group codes.
    n_classes, n_groups : int
        Numbers of classes k and of groups G.
    settings : HeadSettings
        How to fit.
    random_state : RandomState
        Of the hold-out for early stopping, and of the training.
    class_weight : Tensor of shape (k,), float64, optional
        The weights of the classes. They say how to train; the rates of a constraint are those of
        the rows without them.
    fitted : nn.Module, optional
        An earlier fit's head to go on from.

    Raises
    ------
    ValueError
        For a pre-trained head or an earlier one that does not suit.
    """

    def __init__(
        self,
        data: TensorRows,
        *,
        n_classes: int,
        n_groups: int,
        settings: HeadSettings,
        random_state: np.random.RandomState,
        class_weight: Tensor | None = None,
        fitted: nn.Module | None = None,
    ) -> None:
        self._settings = settings
        self._n_classes, self._n_groups = n_classes, n_groups
        self._parity: Parity | None = None
        if settings.constraint is not None:
            self._parity = parity(settings.constraint, n_classes, class_weight)
        self._rows: TensorRows = data
        self._held_out: TensorRows | None = None
        if settings.early_stopping:
            rest, held_out = split_rows(data, n_groups, settings.validation_fraction, random_state)
            self._rows, self._held_out = data.take(rest), data.take(held_out)
        self._seed = int(random_state.randint(np.iinfo(np.int32).max))
        # The plug-in rule's head tells cells of label and group apart, those that occur.
        self._cells: Tensor | None = None
        self._n_outputs = n_classes
        if settings.solver == "plug_in":
            self._cells = torch.unique(self._cell_codes(self._rows))
            self._n_outputs = len(self._cells)
        self._target = self._with_targets(self._rows)
        assert self._rows.codes is not None
        self._measured = measure(
            self._rows.Z,
            self._target.y,
            self._rows.codes,
            self._rows.w,
            n_groups=n_groups,
            n_classes=self._n_outputs,
            C=settings.C,
            head=settings.head,
            hidden=self._cells is not None,
            start=None if fitted is None or self._constrained else self._earlier(fitted),
        )
        # A head that is fair already says nothing of how much disparity there is to remove.
        self._near = fitted if self._constrained else None
        self._reported_alike = False
        self._importance = self._neutralized()
        self._report_rank()

    def fit(self, weight: float = 0.0, near: FittedHead | None = None) -> FittedHead:
        """Fit the head of one fairness weight.

        Parameters
        ----------
        weight : float, default=0.0
            In [0, 1]; without a constraint it has no effect.
        near : FittedHead, optional
            That of a weight near by, from which training starts.
        """
        if self._cells is not None:
            return self._voting(np.array([weight]))[0]
        weight = weight if self._constrained else 0.0
        if weight > 0.0:
            self._report_alike()
        trained = self._settings.solver == "fine_tune"
        found = self._decomposition.at(weight)
        nearest = self._near if near is None else near.head
        if nearest is not None and trained and self._suits(nearest, found):
            return self._finish(*split_tail(nearest), found.S, weight)
        head, tail = self._cut(found, weight), self._measured.start.tail
        if weight > 0.0:
            head, tail = self._refit(head, tail)
        return self._finish(head, tail, found.S, weight, trained=trained)

    def unconstrained(self) -> nn.Module:
        """Return the head that a constraint starts from, at full rank."""
        start = self._measured.start
        layers: list[nn.Module] = [LowRankHead(start.weight, None, start.bias)]
        layers += [] if start.tail is None else start.tail
        if self._cells is not None:
            labels = nn.functional.one_hot(self._cells // self._n_groups, self._n_classes)
            layers.append(CellVote(labels.double()))
        return nn.Sequential(*layers)

    def fit_path(self, weights: NDArray[np.float64]) -> Iterator[FittedHead]:
        """Fit a head for each of several weights, in their order, each near the one before."""
        if self._cells is not None:
            yield from self._voting(weights)
            return
        near = None
        for weight in weights:
            near = self.fit(float(weight), near)
            yield near

    @property
    def _constrained(self) -> bool:
        """Whether a weight acts on the head that is trained, and not on what follows it."""
        return self._parity is not None and self._cells is None

    def _suits(self, head: nn.Module, found: WeightedSVD) -> bool:
        """Tell whether a head has the rank that is asked for, and else the shape of the start."""
        start = self._measured.start
        first, tail = split_tail(head)
        if first.weight.shape != start.weight.shape or (tail is None) != (start.tail is None):
            return False
        rank = self._settings.rank
        wanted = None if rank is None else resolve_rank(rank, found.S)
        return wanted == (None if first.B is None else len(first.B))

    def _cell_codes(self, rows: TensorRows) -> Tensor:
        assert rows.codes is not None
        return rows.y * self._n_groups + rows.codes

    def _with_targets(self, rows: TensorRows) -> TensorRows:
        """Return rows whose labels are what the head is to tell apart."""
        if self._cells is None:
            return rows
        return TensorRows(
            rows.Z, torch.searchsorted(self._cells, self._cell_codes(rows)), rows.w, rows.codes
        )

    def _earlier(self, fitted: nn.Module) -> StartingHead:
        """Return the head of an earlier fit as a start, without its votes."""
        if self._cells is None:
            return previous_head(fitted)
        *layers, vote = fitted.children()
        if not isinstance(vote, CellVote) or len(vote.vote) != self._n_outputs:
            raise ValueError(
                "warm_start=True goes on from a head for other cells of class and group than the "
                f"{self._n_outputs} of this data; set warm_start=False."
            )
        return previous_head(layers[0] if len(layers) == 1 else nn.Sequential(*layers))

    def _neutralized(self) -> Tensor:
        """Return the importance in use (Eq. 2, with its floor), or ones."""
        importance = neutralize(self._measured.statistics.importance, self._group_shares())
        if self._settings.importance == "uniform":
            return torch.ones_like(importance)
        if not importance.any():
            if self._settings.importance == "fisher":
                warn_user(
                    "The Fisher importance is zero for every feature: all features are zero, or "
                    "the head already fits every row with certainty. The SVD is not weighted.",
                    FairnessWarning,
                )
            return torch.ones_like(importance)
        mean, scale = self._measured.moments
        return floor_importance(importance, (mean.square() + scale.square()).sqrt())

    def _group_shares(self) -> Tensor:
        """Return the weights of the groups (G,), with sum 1."""
        weights = self._measured.statistics.weights.numpy()
        return torch.from_numpy(self._settings.group_shares(weights))

    def _report_rank(self) -> None:
        rank, shape = self._settings.rank, tuple(self._measured.start.weight.shape)
        if isinstance(rank, Integral) and rank > min(shape):
            warn_user(
                f"rank={rank} is above min(d, k) = {min(shape)}, the rank of any head of shape "
                f"{shape}; using {min(shape)}.",
                UserWarning,
            )

    @cached_property
    def _decomposition(self) -> ParitySVD:
        """The weighted SVD (Eq. 4), and with it that of every fairness weight."""
        rows, start, moments = self._rows, self._measured.start, self._measured.moments
        metric = self._importance
        if self._settings.importance == "covariance":
            assert rows.codes is not None
            # Of each group about the common mean, and of these the weighted mean (Eq. 2).
            by_group = self._group_shares() / self._measured.statistics.weights
            covariance = feature_covariance(rows.Z, rows.w * by_group[rows.codes], moments)
            metric = regularized_metric(covariance, moments[1], _COVARIANCE_RIDGE)
        return parity_svd(start.weight, metric, self._directions)

    @cached_property
    def _directions(self) -> Tensor:
        """The directions (d, q) in which the groups' mean features differ."""
        rows, moments = self._rows, self._measured.moments
        if self._parity is None or self._cells is not None:
            return torch.zeros(rows.Z.shape[1], 0, dtype=torch.float64)
        assert rows.codes is not None
        directions = disparity_directions(
            rows.Z,
            rows.y,
            rows.codes,
            rows.w,
            self._parity.conditions,
            n_groups=self._n_groups,
            moments=moments,
        )
        return distinct_directions(directions, moments[1], effective_rows(rows.w))

    def _cut(self, found: WeightedSVD, weight: float) -> LowRankHead:
        """Return the head at its rank; ``rank=None`` has no factors."""
        start, rank = self._measured.start, self._settings.rank
        if rank is not None:
            return LowRankHead(*found.factors(resolve_rank(rank, found.S)), start.bias)
        A, B = found.factors(len(found.S))
        return LowRankHead(A @ B if weight > 0.0 else start.weight, None, start.bias)

    def _refit(
        self, head: LowRankHead, tail: nn.Sequential | None
    ) -> tuple[LowRankHead, nn.Sequential | None]:
        """Refit what follows the weights, which the closed form has moved: the thresholds."""
        rows, weight, bias = self._rows, head.weight.detach(), head.bias.detach()
        if tail is None:
            bias = refit_bias(rows.Z, rows.y, rows.w, weight, bias)
            return LowRankHead(head.A, head.B, bias), None
        layer = StartingHead(weight, bias, tail)
        return head, refit_output(layer, rows.Z, rows.y, rows.w, self._n_classes, self._settings.C)

    def _finish(
        self,
        head: LowRankHead,
        tail: nn.Sequential | None,
        singular_values: Tensor,
        weight: float,
        *,
        trained: bool = True,
    ) -> FittedHead:
        """Fine-tune a head, unless it is to stay as it is."""
        rows, training = self._target, dict(self._settings.training)
        if not trained:
            training["max_epochs"] = 0
        module = self._standardized(head, tail)
        penalty = self._penalty(weight) if trained else None
        if penalty is None:  # groups would only be carried along
            rows = TensorRows(rows.Z, rows.y, rows.w)
        net = fine_tune(
            module,
            rows.with_unit_mean_weights(),
            self._validation(penalty),
            penalty=penalty,
            n_classes=self._n_outputs,
            l2=self._l2,
            seed=self._seed,
            **training,
        )
        # L-BFGS remembers dozens of vectors as long as all parameters; a pickle needs none.
        net.optimizer_.state.clear()
        # The way through standardized features rounds; an untrained head needs none of it.
        untouched = head if tail is None else nn.Sequential(head, *copy.deepcopy(tail))
        return FittedHead(
            head=module.fold() if training["max_epochs"] else untouched,
            net=net,
            rank=min(head.weight.shape) if head.B is None else len(head.B),
            group_importance=self._measured.statistics.importance,
            importance=self._importance,
            singular_values=singular_values,
        )

    @property
    def _l2(self) -> float:
        # LogisticRegression penalizes ||w||^2 / 2 for the margin w of two classes; their two
        # columns -w/2 and w/2 have half that norm.
        columns = 2.0 if self._n_outputs == 2 else 1.0
        return columns / (self._settings.C * float(self._rows.w.sum()))

    def _standardized(self, head: LowRankHead, tail: nn.Sequential | None) -> StandardizedHead:
        return StandardizedHead(
            head, tail, *self._measured.moments, self._output_scale, torch.float64
        )

    @cached_property
    def _output_scale(self) -> Tensor | None:
        return self._measured.start.output_layer_scale(self._rows.Z, self._rows.w)

    def _validation(self, penalty: ParityPenalty | None) -> TensorRows | None:
        if self._held_out is None:
            return None
        rows = self._with_targets(self._held_out)
        if penalty is None:
            rows = TensorRows(rows.Z, rows.y, rows.w)
        return rows.with_unit_mean_weights()

    def _penalty(self, weight: float) -> ParityPenalty | None:
        if self._parity is None or self._cells is not None or weight == 0.0:
            return None
        rows = self._rows.with_unit_mean_weights()
        assert rows.codes is not None
        count = cell_counts(
            rows.y, rows.codes, rows.w, n_classes=self._n_classes, n_groups=self._n_groups
        )
        if not self._settings.calibrate:
            return ParityPenalty(self._parity, count, weight, "distance")
        return ParityPenalty(self._parity, count, penalty_strength(self._stiffness, weight))

    @cached_property
    def _stiffness(self) -> float:
        """How much penalty a share of the disparity takes, at the head without a constraint."""
        assert self._parity is not None
        start = self._measured.start
        dense = LowRankHead(start.weight, None, start.bias)
        return stiffness(
            self._standardized(dense, start.tail),
            self._rows.with_unit_mean_weights(),
            self._parity,
            l2=self._l2,
        )

    def _check_directions(self) -> None:
        """Refuse features among which the metric cannot find all directions of disparity."""
        W = self._measured.start.weight
        A, B = self._decomposition.at(1.0).factors(min(W.shape))
        before, after = (self._directions.T @ M for M in (W, A @ B))
        terms = self._directions.abs().T @ W.abs()  # of which a head that is fair has a small sum
        if float(after.norm()) > _LEFT * max(float(before.norm()), 1e-9 * float(terms.norm())):
            raise ValueError(
                f"solver='closed_form' with importance={self._settings.importance!r} cannot take "
                "away the disparity of these features: their units are too different. Standardize "
                'them, for example with StandardScaler, or set importance="covariance".'
            )

    def _report_alike(self, alike: bool | None = None) -> None:
        """Say once if a constraint has nothing to act on."""
        if alike is None and self._settings.solver == "closed_form":
            alike = not len(self._decomposition.s)
            self._check_directions()
        elif alike is None:
            alike = self._settings.calibrate and math.isinf(self._stiffness)
        if alike and not self._reported_alike:
            self._reported_alike = True
            what = "the groups do not differ in what the head can use, such as copies of each other"
            if self._cells is not None:
                what = "the decisions without a constraint do not differ between groups"
            warn_user(
                f"constraint={self._settings.constraint!r} has nothing to act on: on the rows that "
                f"are fitted {what}, and the head is that without a constraint. On other rows, "
                "where groups are not alike, its decisions may differ between them.",
                FairnessWarning,
            )

    @cached_property
    def _cell_head(self) -> FittedHead:
        """The head that tells cells of label and group apart."""
        found = self._decomposition.at(0.0)
        return self._finish(self._cut(found, 0.0), self._measured.start.tail, found.S, 0.0)

    def _voting(self, weights: NDArray[np.float64]) -> list[FittedHead]:
        """Return the head of cells with the votes of each fairness weight (`plug_in`)."""
        assert self._cells is not None
        fitted, k = self._cell_head, self._n_classes
        if self._parity is None:
            tables = torch.eye(k, dtype=torch.float64)[:, None, :].expand(-1, self._n_groups, -1)
            scores = tables[None].expand(len(weights), -1, -1, -1)
        else:
            p = torch.zeros(len(self._rows), k * self._n_groups, dtype=torch.float64)
            p[:, self._cells] = torch.softmax(head_scores(fitted.head, self._rows.Z), dim=1)
            assert self._rows.codes is not None
            multipliers, count = solve_multipliers(
                p,
                self._rows.w,
                self._parity,
                n_groups=self._n_groups,
                removed=weights,
                cells=self._cell_codes(self._rows),
            )
            if weights.any() and not bool(multipliers.any()):
                self._report_alike(True)
            scores = torch.stack([cell_scores(self._parity, one, count) for one in multipliers])
        layers = list(fitted.head.children()) or [fitted.head]
        return [
            replace(
                fitted,
                head=nn.Sequential(
                    *copy.deepcopy(layers), CellVote(votes(each.flatten(0, 1)[self._cells]))
                ),
            )
            for each in scores
        ]
