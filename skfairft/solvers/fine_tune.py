"""`FineTune`: the factors are trained, against a penalty on the disparity of probabilities."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from ..head.modules import RawHead, StandardizedHead, split_tail
from ..inputs.warn import warn_user
from ..lowrank.factorization import WeightedSVD, resolve_rank
from ..lowrank.layer import LowRankHead
from ..parity.moments import nonzero
from ..parity.penalty import ParityPenalty
from ..parity.sums import cell_counts
from ..rows.tensor_rows import TensorRows
from .closed_form import ClosedFormFitter, refuse_unheld
from .fitter import HeadFitter
from .problem import FittedHead, Problem
from .strength import penalty_strength, stiffness
from .trained import TrainedSolver

__all__ = ["FineTune"]

# Part of all rows together beside the cells, where the strength of the penalty is chosen.
_ALL_ROWS = 0.1

# Features in whose units a training was seen to end far from its optimum.
_FAR = 30.0


class FineTune(TrainedSolver):
    """Train the two factors of the head with skorch, against a penalty on disparity.

    The penalty is on the differences between groups of the mean probabilities. A weight of
    fairness w makes it ``w / (1 - w) / c`` strong, with c such that about the share w of the
    disparity is taken away, whatever the data. For ``constraint="worst_group"`` it is the mean loss
    of the worst cell: a weight w minimizes ``(1 - w) loss + w worst``, group DRO at 1. Training
    starts from the closed form of the same weight. ``solver="fine_tune"`` stands for
    ``FineTune()``.

    Parameters
    ----------
    max_epochs : int, default=100
        Most epochs; training stops before when the loss settles. 0 returns the factorization
        untouched, and no other parameter has an effect.
    lr : float or None, default=None
        Learning rate. None is 1 for L-BFGS and 0.001 for other optimizers.
    batch_size : int or None, default=None
        Rows per step. None is all rows for L-BFGS, and for other optimizers a tenth
        of the rows, between 32 and 1024.
    optimizer : subclass of torch.optim.Optimizer or None, default=None
        None is full-batch L-BFGS, deterministic and without a learning rate to
        choose; or AdamW if ``lr`` or ``batch_size`` is given, or the head has an
        activation.
    optimizer_kwargs : dict or None, default=None
        More arguments of the optimizer.
    weight_decay : float, default=0.0
        Weight decay of the optimizer, beside the classifier's ``C``; not for L-BFGS.
    early_stopping : bool or "auto", default="auto"
        Hold out ``validation_fraction`` of the rows, stratified by class and group,
        stop when their loss no longer improves, and keep the best epoch. The
        held-out rows are used for nothing else. "auto" does so for a head with an
        activation, which would overfit; a linear head has its penalty ``C``.
    validation_fraction : float, default=0.1
        Share of rows held out for early stopping.
    n_iter_no_change : int or None, default=None
        Epochs without improvement after which the training stops. None is 1 for
        L-BFGS, each of whose epochs is up to 20 iterations, and 5 for other optimizers.
    tol : float or None, default=1e-4
        Least relative improvement of the loss that counts. None trains for exactly
        ``max_epochs``, with early stopping it counts every improvement.
    callbacks : list of skorch callbacks or None, default=None
        Run during the training.
    calibrate : bool, default=True
        False trains on ``loss + fairness_weight * distance``, with probabilities in
        place of predictions in the distance: our reading of the baselines Retrain+DP and
        Retrain+EO of [1]_, with weights 0.1, 0.5 and 0.9. At a weight of 0 both are no penalty.
    standardize : bool, default=True
        Train in standardized features and with factors that are equally large, so that steps of
        one size suit all. False trains the very factors A and B of Eq. 4 and the bias, as
        Algorithm 1 of [1]_ is written: the loss is the same function of the head, the way that
        an optimizer takes is not.

    References
    ----------
    .. [1] Y. Zhang and F. Zhou, "Bias Mitigation in Fine-tuning Pre-trained Models
       for Enhanced Fairness and Efficiency", arXiv:2403.00625, 2024.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, FineTune
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=300, random_state=0)
    >>> clf = FairLowRankHeadClassifier(rank=1, solver=FineTune(max_epochs=0))
    >>> clf.fit(X, y, sensitive_features=s).n_iter_  # the factors as the SVD gives them
    0
    >>> clf.set_params(solver__max_epochs=50).fit(X, y, sensitive_features=s).n_iter_ > 0
    True
    """

    name: ClassVar[str] = "fine_tune"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TrainedSolver._parameter_constraints,
        "calibrate": ["boolean"],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        *,
        max_epochs: int = 100,
        lr: float | None = None,
        batch_size: int | None = None,
        optimizer: type[torch.optim.Optimizer] | None = None,
        optimizer_kwargs: dict[str, Any] | None = None,
        weight_decay: float = 0.0,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = None,
        tol: float | None = 1e-4,
        callbacks: list[Any] | None = None,
        calibrate: bool = True,
        standardize: bool = True,
    ) -> None:
        super().__init__(
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            optimizer=optimizer,
            optimizer_kwargs=optimizer_kwargs,
            weight_decay=weight_decay,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            callbacks=callbacks,
        )
        self.calibrate = calibrate
        self.standardize = standardize

    @property
    def takes_share(self) -> bool:
        """Whether a weight of fairness is a share; of the paper's penalty it is a factor."""
        return self.calibrate

    def check(self, *, constraint: str | None, warm_start: bool) -> None:
        """Refuse settings that are invalid, or contradict each other; as `Solver.check`."""
        super().check(constraint=constraint, warm_start=warm_start)
        if not self.trains:
            refuse_unheld(constraint)
            if warm_start and constraint is not None:
                raise ValueError(
                    "warm_start=True goes on training a head, and FineTune(max_epochs=0) trains "
                    "none under a constraint; set warm_start=False or max_epochs."
                )
        if not self.calibrate and constraint is None:
            raise ValueError(
                "calibrate=False of FineTune is a way to train against a constraint, but "
                'constraint is None; set constraint="demographic_parity" or another one, or '
                "calibrate=True."
            )

    def fitter(self, problem: Problem, seed: Any) -> HeadFitter:
        """Return what fits heads of any weight to the rows of a problem."""
        if not self.trains:
            return ClosedFormFitter(problem, seed)
        return _FineTuneFitter(
            problem,
            seed,
            early_share=self.early_share(problem.head, problem.n_classes),
            training=self._training(),
            standardize=self.standardize,
            calibrate=self.calibrate,
        )


class _FineTuneFitter(ClosedFormFitter):
    """Trains each head from the closed form of its weight, or from a head near by."""

    def __init__(
        self, problem: Problem, seed: Any, *, calibrate: bool, standardize: bool, **settings: Any
    ) -> None:
        self._calibrate, self._standardize = calibrate, standardize
        super().__init__(problem, seed, **settings)
        # A head that is fair already says nothing of how much disparity there is to remove.
        self._near = None if problem.constraint is None else problem.earlier
        if not standardize:
            self._report_units()

    def fit(self, weight: float = 0.0, near: FittedHead | None = None) -> FittedHead:
        """Train the head of one fairness weight."""
        weight = weight if self.parity is not None else 0.0
        calibrated = self._calibrate and self.parity is not None and not self.parity.largest
        if weight > 0.0 and calibrated and math.isinf(self._stiffness):
            self._report_alike(
                "the groups do not differ in what the head can use, such as copies of each other"
            )
        found = self._decomposition.at(weight)
        nearest = self._near if near is None else near.head
        if nearest is not None and self._suits(nearest, found):
            head, tail = split_tail(nearest)
        else:
            head, tail = self._closed_form(found, weight)
        return self._finish(head, tail, found.S, self._penalty(weight))

    def _module(self, head: LowRankHead, tail: nn.Sequential | None) -> StandardizedHead | RawHead:
        if self._standardize:
            return self._standardized(head, tail)
        return RawHead(head, tail, self._measured.moments.scale, self._output_scale, torch.float64)

    @property
    def _in_training(self) -> TensorRows:
        """What is fitted; for the worst cell, whichever it is, with as much weight for each cell.

        There is less to go by than the number of rows says, and the penalty is to heed that.
        """
        rule, rows = self.parity, self._rows
        if rule is None or not rule.largest or rows.codes is None:
            return rows
        n_classes, n_groups = self._problem.n_classes, self._problem.n_groups
        count = rule.counts(cell_counts(rows, n_classes=n_classes, n_groups=n_groups))
        each = torch.where(count > 0, 1.0 / nonzero(count), 0.0) / (count > 0).sum()
        factors = (1.0 - _ALL_ROWS) * rule.of_cells(each) + _ALL_ROWS / rows.w.sum()
        w = rows.w * factors.flatten()[rows.cells(n_groups)]
        return TensorRows(rows.Z, rows.y, w * (rows.w.sum() / w.sum()), rows.codes)

    def _report_units(self) -> None:
        """Say so if steps in the units of these features would not suit them."""
        mean, scale = self._measured.moments
        if float((mean.abs() / scale).max()) > _FAR or float(scale.max() / scale.min()) > _FAR:
            warn_user(
                "standardize=False trains in the units of the features, and these lie far from 0 "
                f"or differ in size (by more than {_FAR:g} standard deviations or times): training "
                "may end far from the best head without a word. Standardize the features, or "
                "leave it at True.",
                UserWarning,
            )

    def _suits(self, head: nn.Module, found: WeightedSVD) -> bool:
        """Tell whether a head has the rank that is asked for, and else the shape of the start."""
        start, rank = self._measured.start, self._problem.rank
        first, tail = split_tail(head)
        if first.weight.shape != start.weight.shape or (tail is None) != (start.tail is None):
            return False
        wanted = None if rank is None else resolve_rank(rank, found.S)
        return wanted == (None if first.B is None else len(first.B))

    def _penalty(self, weight: float) -> ParityPenalty | None:
        if self.parity is None or weight == 0.0:
            return None
        rows, problem = self._rows.with_unit_mean_weights(), self._problem
        count = cell_counts(rows, n_classes=problem.n_classes, n_groups=problem.n_groups)
        if not self._calibrate:
            return ParityPenalty(self.parity, count, weight, "distance")
        if self.parity.largest:
            return ParityPenalty(self.parity, count, penalty_strength(1.0, weight), "worst")
        return ParityPenalty(self.parity, count, penalty_strength(self._stiffness, weight))

    @cached_property
    def _stiffness(self) -> float:
        """How much penalty a share of the disparity takes, at the head without a constraint."""
        assert self.parity is not None
        start = self._measured.start
        return stiffness(
            self._standardized(LowRankHead(start.weight, None, start.bias), start.tail),
            self._rows.with_unit_mean_weights(),
            self.parity,
            l2=self._l2,
        )
