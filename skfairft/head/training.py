"""Fine-tuning of a head with skorch, block by block, on features in memory or in a file."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from functools import partial
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import unpack_data
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..backbone.modes import seeded
from ..inputs.warn import warn_user
from ..parity.penalty import ParityPenalty, weighed_mass
from ..parity.running_mass import RunningMass
from ..parity.sums import cell_counts, mass_table
from ..rows.dask import DaskFeatures
from ..rows.mapped import block_slices, double_block
from ..rows.tensor_rows import TensorBatches, TensorRows
from .modules import RawHead, StandardizedHead
from .optimization import resolve_optimizer
from .whole import loss_and_gradient, loss_and_mass

__all__ = ["HeadNet", "TensorBatches", "TensorRows", "fine_tune"]

# Training has made a head worse that ends with more than this many times the loss that it began
# with, and more than that of a head which gives all classes the same probability, or far more.
_RISE, _FAR_RISE = 2.0, 10.0


class EpochBar(Callback):
    """A progress bar with one tick per epoch and the current losses beside it."""

    def __init__(self, max_epochs: int) -> None:
        self.max_epochs = max_epochs

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=self.max_epochs, unit="epoch", desc="fine-tuning")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Advance it."""
        row = net.history[-1]
        losses = {name: f"{row[name]:.4f}" for name in ("train_loss", "valid_loss") if name in row}
        self.bar_.set_postfix(losses, refresh=False)
        self.bar_.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close it."""
        self.bar_.close()
        del self.bar_


class HeadNet(NeuralNetClassifier):
    """skorch net of a `StandardizedHead` or `RawHead`, with an L2 penalty in its training loss.

    The training loss is ``mean(w * cross-entropy) + l2 / 2 * ||weights||^2``, the
    objective of scikit-learn's LogisticRegression divided by the number of rows.
    Batches of more than a block of rows (`block_rows`) are worked off block by block:
    their losses and gradients add up to the batch's.

    A parity penalty adds ``value(mass)`` (see `ParityPenalty`), where the table ``mass``
    is that of all rows, also in minibatches: see `RunningMass`. The gradient of a batch of
    B of n rows is ``n / B`` times that by its own rows' probabilities, so that over an
    epoch the gradients average to that of all rows. The loss of the hold-out includes the
    penalty at its own table.

    Besides ``l2``, the strength of the L2 penalty, and ``penalty``, a `ParityPenalty` of the
    training rows, without which these need no groups, parameters are skorch's.
    """

    # While training in minibatches.
    _running: RunningMass | None = None

    def __init__(
        self,
        module: Any,
        *args: Any,
        l2: float = 0.0,
        penalty: ParityPenalty | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, *args, **kwargs)
        self.l2 = l2
        self.penalty = penalty

    # Only what training needs: scoring each epoch would cost as much as the epoch itself.
    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring("train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring("valid_loss")),
            *([("print_log", PrintLog())] if self.verbose else []),
        ]

    def check_data(self, X: Any, y: Any = None) -> None:
        """Do nothing: the labels come with the rows."""

    def infer(self, x: dict[str, Any], **fit_params: Any) -> Tensor:
        """Return the logits of one batch."""
        Z = x["Z"]
        slices = block_slices(Z)
        if len(slices) <= 1:
            return super().infer(Z[:], **fit_params)
        # Of a room that is used again nothing may be kept for a backward pass.
        again = not torch.is_grad_enabled()
        logits, room = [], None
        for rows in slices:
            block, room = double_block(Z, rows, room if again else None)
            logits.append(super().infer(block, **fit_params))
        return torch.cat(logits)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Return loss and logits of one batch, and add the gradient to the parameters."""
        inputs, y = unpack_data(batch)
        Z = inputs["Z"]
        slices = block_slices(Z)
        if len(slices) <= 1:
            return super().train_step_single(batch, **fit_params)
        self._set_training(True)
        if isinstance(Z, DaskFeatures):
            return self._step_on_cluster(_rows_of(inputs, y))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        logits: Tensor | None = None
        slope: Tensor | None = None
        if self.penalty is not None:
            # The penalty is no sum over rows, but its gradient is, once the table is known.
            with torch.no_grad():
                ahead = self.infer(inputs, **fit_params)
            value, slope = self._penalty_at(ahead, y, inputs)
            total += value
        room = None
        for rows in slices:
            block, room = double_block(Z, rows, room)
            part = {name: values[rows] for name, values in inputs.items() if name != "Z"}
            part["Z"] = block
            y_pred = self.infer(part, **fit_params)
            # Backward at once: the graph of one block is held, not that of all rows.
            share = len(y_pred) / len(y)
            loss = share * self.get_loss(y_pred, y[rows], X=part, training=False)
            total += loss.detach()
            if slope is not None:
                loss = loss + self._weighed(y_pred, y[rows], part, slope)
            loss.backward()
            if logits is None:
                logits = y_pred.new_empty(len(y), y_pred.shape[1])
            logits[rows] = y_pred.detach()
        if self.l2:
            shrinkage = self._shrinkage()
            shrinkage.backward()
            total += shrinkage.detach()
        assert logits is not None
        return {"loss": total, "y_pred": logits}

    def _step_on_cluster(self, rows: TensorRows) -> dict[str, Tensor]:
        """Return the loss of all rows, and add its gradient; their logits stay where they are."""
        total = torch.zeros((), dtype=torch.float64)
        if self.penalty is not None:
            mass = self._table_of_all(rows)[1]
            assert mass is not None
            value, slope = self.penalty.slope(mass)
            total += value
            loss, gradient = loss_and_gradient(self.module_, rows, slope, self.penalty.summed)
        else:
            loss, gradient = loss_and_gradient(self.module_, rows)
        for parameter, own in zip(self.module_.parameters(), gradient, strict=True):
            parameter.grad = own  # skorch has cleared it before
        total += loss
        if self.l2:
            shrinkage = self._shrinkage()
            shrinkage.backward()
            total += shrinkage.detach()
        return {"loss": total, "y_pred": torch.empty(0)}

    def get_loss(
        self, y_pred: Tensor, y_true: Any, X: Any = None, training: bool = False
    ) -> Tensor:
        """Return the loss of one batch, with the penalties while training."""
        loss = (self.criterion_(y_pred, y_true) * X["w"]).mean()
        if not training:
            return loss
        if self.penalty is not None:
            value, slope = self._penalty_at(y_pred, y_true, X)
            weighed = self._weighed(y_pred, y_true, X, slope)
            loss = loss + value + (weighed - weighed.detach())  # value, with the gradient
        return loss + self._shrinkage() if self.l2 else loss

    def objective(self, rows: TensorRows) -> float:
        """Return what training lowers, of all rows at once and without dropout."""
        inputs, y = rows[:]
        self._set_training(False)
        if isinstance(inputs["Z"], DaskFeatures):
            loss, mass = self._table_of_all(rows)
            value = loss + self.penalty.value(mass) if self.penalty and mass is not None else loss
            return float(value + self._shrinkage().detach())
        with torch.no_grad():
            logits = self.infer(inputs)
            value = (self.criterion_(logits, y) * rows.w).mean()
            if self.l2:
                value = value + self._shrinkage()
            if self.penalty is not None:
                mass, _ = self._table(self.penalty.summed(logits), rows)
                value = value + self.penalty.value(mass.cpu()).to(self.device)
        return float(value)

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Return loss and logits of the hold-out, the loss with its own disparity."""
        step = super().validation_step(batch, **fit_params)
        if self.penalty is not None:
            rows = _rows_of(*unpack_data(batch))
            mass, count = self._table(self.penalty.summed(step["y_pred"]), rows)
            held_out = dataclasses.replace(self.penalty, count=count.cpu())
            step["loss"] = step["loss"] + held_out.value(mass.cpu()).to(self.device)
        return step

    def _table(self, p: Tensor, rows: TensorRows) -> tuple[Tensor, Tensor]:
        assert self.penalty is not None
        return mass_table(p, rows, n_groups=self.penalty.count.shape[1])

    def _table_of_all(self, rows: TensorRows) -> tuple[Tensor, Tensor | None]:
        """Return the loss of rows on a cluster and, with a penalty, their table."""
        if self.penalty is None:
            return loss_and_mass(self.module_, rows)
        n_groups = self.penalty.count.shape[1]
        return loss_and_mass(self.module_, rows, n_groups=n_groups, summed=self.penalty.summed)

    def _weighed(self, logits: Tensor, y: Tensor, inputs: Any, slope: Tensor) -> Tensor:
        """Return a number whose gradient is the penalty's, see `ParityPenalty.slope`."""
        assert self.penalty is not None
        return weighed_mass(self.penalty.summed(logits), _rows_of(inputs, y), slope)

    def _shrinkage(self) -> Tensor:
        return 0.5 * self.l2 * self.module_.squared_norm()

    def _penalty_at(self, logits: Tensor, y: Tensor, inputs: Any) -> tuple[Tensor, Tensor]:
        """Bring the table up to date with a batch, and return the penalty there and its slope.

        The slope is scaled by what the batch's rows stand for.
        """
        assert self.penalty is not None
        p = self.penalty.summed(logits.detach())
        share = 1.0
        if self._running is None:
            mass, _ = self._table(p, _rows_of(inputs, y))
        else:
            mass = self._running.update(inputs["numbers"], p)
            share = len(y) / len(self._running)
        # On the CPU, where dozens of operations on a few numbers take the least time.
        value, slope = self.penalty.slope(mass.cpu())
        return value.to(self.device), slope.to(self.device) / share

    def _keep_table(self, train: TensorRows) -> None:
        """At the start of an epoch of minibatches, fill the table or sum it anew."""
        assert self.penalty is not None
        if self.batch_size == -1 or len(train) <= self.batch_size:
            return  # each batch has its own
        if self._running is not None:
            self._running.refresh()
            return
        self._set_training(True)
        with torch.no_grad():
            p = self.penalty.summed(self.infer(train[:][0]))
        n_groups = self.penalty.count.shape[1]
        self._running = RunningMass(p, train, n_groups=n_groups)

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> HeadNet:
        """Train, and keep only whole epochs in the history."""
        self._epoch_start: dict[str, Tensor] | None = None
        try:
            super().partial_fit(X, y, classes, **fit_params)
        finally:
            self._running = None
        if self._epoch_start is not None:
            # Not before: at the end of the training callbacks look at the last row.
            del self.history_[-1]
            self._epoch_start = None
        return self

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **kwargs: Any) -> HeadNet:
        """Train; after an interruption, keep the parameters of the last whole epoch."""
        self.interrupted_ = False
        try:
            super().fit_loop(X, y, epochs=epochs, **kwargs)
        except KeyboardInterrupt:
            self.interrupted_ = not self.stopped_early()
            # L-BFGS may be caught far out on a line search: fall back to the epoch's start.
            if self._epoch_start is not None:
                self.module_.load_state_dict(self._epoch_start)
            raise  # skorch's partial_fit takes it from here
        return self

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        """Remember the parameters, in case the epoch does not end."""
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        state = self.module_.state_dict()
        self._epoch_start = {name: value.clone() for name, value in state.items()}
        if self.penalty is not None:
            self._keep_table(dataset_train)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Forget them again."""
        super().on_epoch_end(net, **kwargs)
        self._epoch_start = None

    def stopped_early(self) -> bool:
        """Tell whether an EarlyStopping callback, ours or the user's, ended the training."""
        return any(
            isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
            for _, callback in self.callbacks_
        )


def _rows_of(inputs: Any, y: Tensor) -> TensorRows:
    """Return the rows of a batch as it comes from `TensorBatches`."""
    return TensorRows(inputs["Z"], y, inputs["w"], inputs.get("codes"))


def fine_tune(
    module: StandardizedHead | RawHead,
    train: TensorRows,
    valid: TensorRows | None,
    *,
    n_classes: int,
    l2: float,
    penalty: ParityPenalty | None = None,
    nonlinear: bool = False,
    optimizer: type[torch.optim.Optimizer] | None,
    optimizer_kwargs: dict[str, Any] | None,
    lr: float | None,
    weight_decay: float,
    batch_size: int | None,
    max_epochs: int,
    tol: float | None,
    patience: int | None,
    callbacks: Any,
    device: torch.device,
    seed: int,
    verbose: int,
) -> HeadNet:
    """Train a head and return its skorch net.

    Parameters
    ----------
    module : StandardizedHead or RawHead
        Trained in place; with ``max_epochs=0`` it is left as it is.
    train, valid : TensorRows
        Training rows, and the hold-out for early stopping (None: stop on the
        training loss instead).
    n_classes, l2, penalty
        As for `HeadNet`. A penalty of strength 0 is none.
    nonlinear : bool, default=False
        Whether the head has an activation inside; then the default optimizer is AdamW.
    patience : int or None
        Epochs without a relative improvement of ``tol`` after which to stop; None as for
        ``n_iter_no_change``.
    seed : int
        Of the shuffling, and of dropout in the tail.
    optimizer, optimizer_kwargs, lr, weight_decay, batch_size, max_epochs, tol, callbacks, device
        As for `FineTune`.
    verbose : int
        1 shows a progress bar, 2 skorch's table.

    Raises
    ------
    ValueError
        If the training diverged, the optimizer cannot train with its arguments, a callback asks
        for what is not recorded, or the penalty is that of other rows.

    Warns
    -----
    ConvergenceWarning
        If ``max_epochs`` ended the training before the loss settled, or it ended far above
        where it began.
    """
    if penalty is not None and penalty.strength == 0:
        penalty = None
    if penalty is not None:
        _check_rows(penalty, train, valid)
    chosen = resolve_optimizer(
        optimizer,
        optimizer_kwargs,
        lr=lr,
        weight_decay=weight_decay,
        batch_size=batch_size,
        nonlinear=nonlinear,
        patience=patience,
    )
    batch_size = chosen.rows_per_step(len(train))
    # A linear head that takes all rows at each step needs sums only. Anything else needs the rows.
    sums = module.tail is None and valid is None and not callbacks and device.type == "cpu"
    if max_epochs > 0 and not (sums and not 0 < batch_size < len(train)):
        train, valid = train.here(), None if valid is None else valid.here()
    own: list[Any] = list(callbacks or [])
    if valid is not None:
        own.append(
            (
                "early_stopping",
                EarlyStopping("valid_loss", chosen.patience, tol or 0.0, load_best=True),
            )
        )
    elif tol is not None:
        own.append(("convergence", EarlyStopping("train_loss", chosen.patience, tol)))
    if verbose == 1:
        own.append(("epoch_bar", EpochBar(max_epochs)))
    net = HeadNet(
        module,
        criterion=nn.CrossEntropyLoss,
        criterion__reduction="none",
        classes=list(range(n_classes)),
        l2=l2,
        penalty=penalty,
        optimizer=chosen.optimizer,
        lr=chosen.lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        dataset=TensorRows,
        iterator_train=TensorBatches,
        iterator_train__seed=seed,
        iterator_valid=TensorBatches,
        # The hold-out's disparity is that of all its rows, not the mean over batches.
        iterator_valid__batch_size=batch_size if penalty is None else -1,
        train_split=None if valid is None else partial(_hold_out, valid=valid.to(device)),
        callbacks=own,
        device=device,
        verbose=max(0, verbose - 1),
        **{f"optimizer__{name}": value for name, value in chosen.settings.items()},
    )
    net.initialize()
    if max_epochs > 0:
        start = {name: value.clone() for name, value in net.module_.state_dict().items()}
        draws = module.tail is not None or optimizer is not None or bool(callbacks)
        with seeded(seed, device) if draws else contextlib.nullcontext():
            try:
                net.partial_fit(train.to(device), None)
            except KeyError as error:
                if "was not found in history" not in str(error):
                    raise
                raise ValueError(
                    f"One of the callbacks {callbacks} asked the history of the training for "
                    f"{error}, which holds {_columns(net)}. Change what it monitors."
                ) from error
        _report_end(net, max_epochs, tol)
        # The line search of L-BFGS never rises, but on rows that change at each step.
        if not issubclass(chosen.optimizer, torch.optim.LBFGS) or 0 < batch_size < len(train):
            _report_rise(net, start, train.to(device))
    # The net outlives the training: let it not hold on to the hold-out rows.
    net.train_split = None
    return net


def _check_rows(penalty: ParityPenalty, train: TensorRows, valid: TensorRows | None) -> None:
    if train.codes is None or (valid is not None and valid.codes is None):
        raise ValueError("A parity penalty needs the groups of the rows: give TensorRows codes.")
    n_classes, n_groups = penalty.count.shape
    count = cell_counts(train, n_classes=n_classes, n_groups=n_groups)
    if not torch.allclose(count.cpu(), penalty.count):
        raise ValueError(
            f"The parity penalty is that of rows with the weights {penalty.count.tolist()} by "
            f"class and group, but the training rows have {count.tolist()}; use the weights as "
            "they are in training."
        )


# skorch.helper.predefined_split does the same, but importing it imports scikit-learn's
# pipelines, a tenth of a second.
def _hold_out(
    train: TensorRows, y: None = None, *, valid: TensorRows
) -> tuple[TensorRows, TensorRows]:
    return train, valid


def _report_rise(net: HeadNet, start: dict[str, Tensor], rows: TensorRows) -> None:
    """Say so if the head is worse than the one that training began with, on all rows."""
    end = {name: value.clone() for name, value in net.module_.state_dict().items()}
    after = net.objective(rows)
    net.module_.load_state_dict(start)
    before = net.objective(rows)
    net.module_.load_state_dict(end)
    if after > max(_RISE * before, min(math.log(len(net.classes_)), _FAR_RISE * before)):
        warn_user(
            f"Training made the head worse: its loss was {before:.4g} before and is {after:.4g} "
            f"after {len(net.history)} epochs of {type(net.optimizer_).__name__} with "
            f"lr={net.lr}. Use a smaller lr, or leave optimizer, lr and batch_size at None.",
            ConvergenceWarning,
        )


def _columns(net: HeadNet) -> list[str]:
    """Return what the history has of an epoch that has ended, or of the first."""
    return [name for name in (net.history[0] if len(net.history) else {}) if name != "batches"]


def _report_end(net: HeadNet, max_epochs: int, tol: float | None) -> None:
    """Say so if the training diverged or ended before its time."""
    if not all(bool(parameter.isfinite().all()) for parameter in net.module_.parameters()):
        raise ValueError(
            f"Training diverged: after {len(net.history)} epochs of "
            f"{type(net.optimizer_).__name__} with lr={net.lr} the head's parameters are not "
            "finite. Use a smaller lr, or leave optimizer, lr and batch_size at None."
        )
    if net.interrupted_:
        return
    if tol is not None and len(net.history) >= max_epochs and not net.stopped_early():
        warn_user(
            f"Training stopped after max_epochs={max_epochs} before the loss settled to within "
            f"tol={tol}. An undertrained head can look fairer than it is: raise max_epochs, or "
            "set tol=None to train for a fixed number of epochs.",
            ConvergenceWarning,
        )
