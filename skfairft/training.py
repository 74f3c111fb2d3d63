"""Fine-tuning of a head with skorch, block by block, on features in memory or in a file."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import unpack_data
from torch import Tensor, nn
from tqdm.auto import tqdm

from .head import StandardizedHead
from .mapped import (
    Features,
    MappedFeatures,
    as_features,
    block_rows,
    block_slices,
    double_block,
    is_mapped,
)

__all__ = ["HeadNet", "TensorBatches", "TensorRows", "fine_tune"]

# Rows per step of the minibatch optimizers: a tenth of the rows, so that an epoch is some
# steps on small data, up to a size at which skorch's bookkeeping per batch is a small part
# of the time even for narrow heads.
_MINIBATCH_SHARE, _MINIBATCH_LEAST, _MINIBATCH_MOST = 0.1, 32, 1024
_MINIBATCH_LR = 0.001


# Share of a GPU's free memory that features may take; larger ones go there block by block.
_DEVICE_SHARE = 0.5


class TensorRows(torch.utils.data.Dataset[Any]):
    """Features, labels and weights, cut by slices or index tensors.

    Parameters
    ----------
    Z : Tensor, MappedFeatures or array of shape (n, d)
        Features.
    y : Tensor of shape (n,), int64, optional
        Encoded labels; None for prediction.
    w : Tensor of shape (n,), float64, optional
        Sample weights.
    """

    def __init__(self, Z: Any, y: Tensor | None = None, w: Tensor | None = None) -> None:
        if is_mapped(Z):
            Z = as_features(Z)
        self.Z: Features = Z if isinstance(Z, MappedFeatures) else torch.as_tensor(Z)
        self.y = torch.zeros(len(self.Z), dtype=torch.int64) if y is None else y
        self.w = torch.ones(len(self.Z), dtype=torch.float64) if w is None else w

    def __len__(self) -> int:
        return len(self.Z)

    def __getitem__(self, rows: Any) -> tuple[dict[str, Features], Tensor]:
        # The weights travel with the features: skorch's scoring callbacks expect labels in y.
        return {"Z": self._features(rows), "w": self.w[rows]}, self.y[rows]

    def _features(self, rows: Any) -> Features:
        """Return features as a tensor; mapped ones of more than a block stay where they are."""
        if isinstance(self.Z, Tensor):
            return self.Z[rows]
        Z = self.Z.take(rows)
        return Z[:] if len(Z) <= block_rows(Z.shape[1]) else Z

    def take(self, index: NDArray[np.int64] | None) -> TensorRows:
        """Return some of the rows by their numbers; None is all of them."""
        if index is None:
            return self
        Z = self.Z[index] if isinstance(self.Z, Tensor) else self.Z.take(index)
        return TensorRows(Z, self.y[index], self.w[index])

    def with_unit_mean_weights(self) -> TensorRows:
        """Return the rows with weights scaled to mean 1."""
        return TensorRows(self.Z, self.y, self.w / self.w.mean())

    def to(self, device: torch.device) -> TensorRows:
        """Return the rows on a device; features too large for it stay, and go in blocks."""
        Z = self.Z.to(device) if isinstance(self.Z, Tensor) and _fits(self.Z, device) else self.Z
        return TensorRows(Z, self.y.to(device), self.w.to(device))


def _fits(Z: Tensor, device: torch.device) -> bool:
    if device.type != "cuda" or Z.device == device:
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return Z.nbytes <= _DEVICE_SHARE * free


class TensorBatches:
    """Iterate over `TensorRows` in slices: skorch's iterator, without a DataLoader.

    A DataLoader fetches row by row and collates, which costs more than the head's
    own arithmetic.

    Parameters
    ----------
    dataset : TensorRows
        What to iterate over.
    batch_size : int
        Rows per batch. If that is all of them, they are passed on uncopied and in
        their order.
    seed : int, optional
        Shuffle anew in each epoch, from a generator of its own; None keeps the order.
    """

    def __init__(self, dataset: TensorRows, batch_size: int, seed: int | None = None) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Any]:
        n_rows = len(self.dataset)
        if n_rows <= self.batch_size:
            yield self.dataset[:]
        elif self._generator is None:
            for start in range(0, n_rows, self.batch_size):
                yield self.dataset[start : start + self.batch_size]
        else:
            order = torch.randperm(n_rows, generator=self._generator)
            if isinstance(self.dataset.Z, Tensor):
                order = order.to(self.dataset.Z.device)
            for rows in order.split(self.batch_size):
                yield self.dataset[rows]


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
    """skorch net of a `StandardizedHead`, with an L2 penalty in its training loss.

    The training loss is ``mean(w * cross-entropy) + l2 / 2 * ||weights||^2``, the
    objective of scikit-learn's LogisticRegression divided by the number of rows.
    Batches of more than a block of rows (`block_rows`) are worked off block by block:
    their losses and gradients add up to the batch's.

    Parameters
    ----------
    module : StandardizedHead
        The head.
    *args
        As for skorch's NeuralNetClassifier.
    l2 : float
        Strength of the penalty.
    **kwargs
        As for skorch's NeuralNetClassifier.
    """

    def __init__(self, module: Any, *args: Any, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(module, *args, **kwargs)
        self.l2 = l2

    # Only what training needs: scoring each epoch would cost as much as the epoch itself.
    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring("train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring("valid_loss")),
            ("print_log", PrintLog()),
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
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        logits: Tensor | None = None
        room = None
        for rows in slices:
            block, room = double_block(Z, rows, room)
            part = {"Z": block, "w": inputs["w"][rows]}
            y_pred = self.infer(part, **fit_params)
            # Backward at once: the graph of one block is held, not that of all rows.
            share = len(y_pred) / len(y)
            loss = share * self.get_loss(y_pred, y[rows], X=part, training=False)
            loss.backward()
            total += loss.detach()
            if logits is None:
                logits = y_pred.new_empty(len(y), y_pred.shape[1])
            logits[rows] = y_pred.detach()
        if self.l2:
            penalty = self._penalty()
            penalty.backward()
            total += penalty.detach()
        assert logits is not None
        return {"loss": total, "y_pred": logits}

    def get_loss(
        self, y_pred: Tensor, y_true: Any, X: Any = None, training: bool = False
    ) -> Tensor:
        """Return the loss of one batch, with the penalty while training."""
        loss = (self.criterion_(y_pred, y_true) * X["w"]).mean()
        return loss + self._penalty() if training and self.l2 else loss

    def _penalty(self) -> Tensor:
        return 0.5 * self.l2 * self.module_.squared_norm()

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> HeadNet:
        """Train, and keep only whole epochs in the history."""
        self._epoch_start: dict[str, Tensor] | None = None
        super().partial_fit(X, y, classes, **fit_params)
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

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Remember the parameters, in case the epoch does not end."""
        super().on_epoch_begin(net, **kwargs)
        state = self.module_.state_dict()
        self._epoch_start = {name: value.clone() for name, value in state.items()}

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


def fine_tune(
    module: StandardizedHead,
    train: TensorRows,
    valid: TensorRows | None,
    *,
    n_classes: int,
    l2: float,
    nonlinear: bool = False,
    optimizer: type[torch.optim.Optimizer] | None,
    optimizer_kwargs: dict[str, Any] | None,
    lr: float | None,
    weight_decay: float,
    batch_size: int | None,
    max_epochs: int,
    tol: float | None,
    patience: int,
    callbacks: Any,
    device: torch.device,
    seed: int,
    verbose: int,
) -> HeadNet:
    """Train a head and return its skorch net.

    Parameters
    ----------
    module : StandardizedHead
        Trained in place.
    train, valid : TensorRows
        Training rows, and the hold-out for early stopping (None: stop on the
        training loss instead).
    n_classes : int
        Number of classes.
    l2 : float
        See `HeadNet`.
    nonlinear : bool, default=False
        Whether the head has an activation inside; then the default optimizer is AdamW.
    optimizer, optimizer_kwargs, lr, weight_decay, batch_size, max_epochs, tol
        As for `FairLowRankHeadClassifier`.
    patience : int
        Epochs without a relative improvement of ``tol`` after which to stop.
    callbacks : list or None
        More skorch callbacks.
    device : torch.device
        Where to train.
    seed : int
        Of the shuffling, and of dropout in the tail.
    verbose : int
        1 shows a progress bar, 2 skorch's table.

    Returns
    -------
    HeadNet
        Trained, or only initialized with ``max_epochs=0``.

    Raises
    ------
    ValueError
        If the training diverged, or the optimizer has no weight decay to set.

    Warns
    -----
    ConvergenceWarning
        If ``max_epochs`` ended the training before the loss settled.
    UserWarning
        If it was interrupted.
    """
    if optimizer is None:
        full_batch = lr is None and batch_size is None and not nonlinear
        optimizer = torch.optim.LBFGS if full_batch else torch.optim.AdamW
    settings = dict(optimizer_kwargs or {})
    if "weight_decay" in inspect.signature(optimizer).parameters:
        settings = {"weight_decay": weight_decay, **settings}
    elif weight_decay:
        raise ValueError(
            f"weight_decay={weight_decay} does not go with {optimizer.__name__}, which has none; "
            "use C for an L2 penalty, or optimizer=torch.optim.AdamW."
        )
    if issubclass(optimizer, torch.optim.LBFGS):
        settings = {"line_search_fn": "strong_wolfe", "history_size": 20, **settings}
        lr = 1.0 if lr is None else lr
        batch_size = -1 if batch_size is None else batch_size
    else:
        lr = _MINIBATCH_LR if lr is None else lr
        if batch_size is None:
            share = int(_MINIBATCH_SHARE * len(train))
            batch_size = min(max(share, _MINIBATCH_LEAST), _MINIBATCH_MOST)
    own: list[Any] = list(callbacks or [])
    if valid is not None:
        own.append(
            ("early_stopping", EarlyStopping("valid_loss", patience, tol or 0.0, load_best=True))
        )
    elif tol is not None:
        own.append(("convergence", EarlyStopping("train_loss", patience, tol)))
    if verbose == 1:
        own.append(("epoch_bar", EpochBar(max_epochs)))
    net = HeadNet(
        module,
        criterion=nn.CrossEntropyLoss,
        criterion__reduction="none",
        classes=list(range(n_classes)),
        l2=l2,
        optimizer=optimizer,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        dataset=TensorRows,
        iterator_train=TensorBatches,
        iterator_train__seed=seed,
        iterator_valid=TensorBatches,
        train_split=None if valid is None else partial(_hold_out, valid=valid.to(device)),
        callbacks=own,
        device=device,
        verbose=max(0, verbose - 1),
        **{f"optimizer__{name}": value for name, value in settings.items()},
    )
    net.initialize()
    if max_epochs > 0:
        # Dropout in the tail draws from torch's global generators.
        cuda = device.type == "cuda"
        forked = torch.random.fork_rng(devices=[device] if cuda else [])
        with forked:
            torch.default_generator.manual_seed(seed)
            if cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            net.partial_fit(train.to(device), None)
        _report_end(net, max_epochs, tol)
    # The net outlives the training: let it not hold on to the hold-out rows.
    net.train_split = None
    return net


# skorch.helper.predefined_split does the same, but importing it imports scikit-learn's
# pipelines, a tenth of a second.
def _hold_out(
    train: TensorRows, y: None = None, *, valid: TensorRows
) -> tuple[TensorRows, TensorRows]:
    return train, valid


def _report_end(net: HeadNet, max_epochs: int, tol: float | None) -> None:
    """Say so if the training diverged or ended before its time."""
    if not all(bool(parameter.isfinite().all()) for parameter in net.module_.parameters()):
        raise ValueError(
            f"Training diverged: after {len(net.history)} epochs of "
            f"{type(net.optimizer_).__name__} with lr={net.lr} the head's parameters are not "
            "finite. Use a smaller lr, or leave optimizer, lr and batch_size at None."
        )
    if net.interrupted_:
        warnings.warn(
            f"Training was interrupted; the head holds what was trained in {len(net.history)} "
            "whole epochs.",
            UserWarning,
            stacklevel=6,
        )
    elif tol is not None and len(net.history) >= max_epochs and not net.stopped_early():
        warnings.warn(
            f"Training stopped after max_epochs={max_epochs} before the loss settled to within "
            f"tol={tol}. An undertrained head can look fairer than it is: raise max_epochs, or "
            "set tol=None to train for a fixed number of epochs.",
            ConvergenceWarning,
            stacklevel=6,
        )
