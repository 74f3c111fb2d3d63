"""With what a head is trained: optimizer and callbacks, checked before anything is computed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from skorch.callbacks import Callback
from torch import nn

__all__ = ["Optimization", "check_callbacks", "resolve_optimizer"]

# Rows per step of the minibatch optimizers: a tenth of the rows, so that an epoch is some
# steps on small data, up to a size at which skorch's bookkeeping per batch is a small part
# of the time even for narrow heads.
_MINIBATCH_SHARE, _MINIBATCH_LEAST, _MINIBATCH_MOST = 0.1, 32, 1024
_MINIBATCH_LR = 0.001
_MINIBATCH_PATIENCE = 5

# What training writes into its history only where rows are held out.
_OF_HOLD_OUT = ("valid_loss", "valid_loss_best")


@dataclass(frozen=True)
class Optimization:
    """An optimizer and its settings.

    Parameters
    ----------
    optimizer : subclass of torch.optim.Optimizer
        What takes the steps.
    settings : mapping
        Its arguments besides the learning rate.
    lr : float
        Learning rate.
    batch_size : int or None
        Rows per step; -1 is all, None depends on their number, see `rows_per_step`.
    patience : int
        Epochs without improvement after which training stops.
    """

    optimizer: type[torch.optim.Optimizer]
    settings: Mapping[str, Any]
    lr: float
    batch_size: int | None
    patience: int

    def rows_per_step(self, n_rows: int) -> int:
        """Return the number of rows per step, -1 for all of them.

        Examples
        --------
        >>> chosen = resolve_optimizer(None, None, lr=0.01, weight_decay=0.0, batch_size=None)
        >>> chosen.rows_per_step(100), chosen.rows_per_step(5000)
        (32, 500)
        """
        if self.batch_size is not None:
            return self.batch_size
        return min(max(int(_MINIBATCH_SHARE * n_rows), _MINIBATCH_LEAST), _MINIBATCH_MOST)


def resolve_optimizer(
    optimizer: Any,
    optimizer_kwargs: Mapping[str, Any] | None,
    *,
    lr: float | None,
    weight_decay: float,
    batch_size: int | None,
    nonlinear: bool = False,
    patience: int | None = None,
) -> Optimization:
    """Return the optimizer that parameters of `FairLowRankHeadClassifier` stand for.

    Parameters
    ----------
    optimizer, optimizer_kwargs, lr, weight_decay, batch_size
        As for the classifier.
    nonlinear : bool, default=False
        Whether the head has an activation inside; then the default optimizer is AdamW.
    patience : int or None, default=None
        As ``n_iter_no_change`` of the classifier.

    Raises
    ------
    ValueError
        For what is no optimizer, and for arguments that it does not take.

    Examples
    --------
    >>> chosen = resolve_optimizer(None, None, lr=None, weight_decay=0.0, batch_size=None)
    >>> chosen.optimizer.__name__, chosen.rows_per_step(5000)
    ('LBFGS', -1)
    """
    known = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)
    if optimizer is not None and not known:
        raise ValueError(
            f"optimizer is {optimizer!r}; expected None or a subclass of torch.optim.Optimizer: "
            "the class itself, such as torch.optim.AdamW, not its name or an instance."
        )
    if optimizer is None:
        full_batch = lr is None and batch_size is None and not nonlinear
        optimizer = torch.optim.LBFGS if full_batch else torch.optim.AdamW
    given = dict(optimizer_kwargs or {})
    for name, value in (("lr", lr), ("weight_decay", weight_decay or None)):
        if name in given and (name == "lr" or value is not None):
            raise ValueError(
                f"optimizer_kwargs has {name}={given[name]!r}, which is a parameter of the "
                f"classifier, too; set {name}={given[name]!r} there and leave it out here."
            )
    settings = given
    if "weight_decay" in inspect.signature(optimizer).parameters:
        settings = {"weight_decay": weight_decay, **given}
    elif weight_decay:
        raise ValueError(
            f"weight_decay={weight_decay} does not go with {optimizer.__name__}, which has none; "
            "use C for an L2 penalty, or optimizer=torch.optim.AdamW."
        )
    if issubclass(optimizer, torch.optim.LBFGS):
        settings = {"line_search_fn": "strong_wolfe", "history_size": 20, **settings}
        chosen = Optimization(
            optimizer,
            settings,
            lr=1.0 if lr is None else lr,
            batch_size=-1 if batch_size is None else batch_size,
            patience=1 if patience is None else patience,
        )
    else:
        chosen = Optimization(
            optimizer,
            settings,
            lr=_MINIBATCH_LR if lr is None else lr,
            batch_size=batch_size,
            patience=_MINIBATCH_PATIENCE if patience is None else patience,
        )
    _try(chosen)
    return chosen


def _try(chosen: Optimization) -> None:
    """Make the optimizer once, of parameters like those of a head, to hear what it refuses."""
    settings = {name: value for name, value in chosen.settings.items() if name != "param_groups"}
    parameters = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    try:
        chosen.optimizer(parameters, lr=chosen.lr, **settings)  # type: ignore[call-arg]
    except Exception as error:
        raise ValueError(
            f"{chosen.optimizer.__name__} cannot train a head with lr={chosen.lr} and "
            f"{dict(settings)}: {type(error).__name__}: {error}. Change optimizer or "
            "optimizer_kwargs."
        ) from error


def check_callbacks(callbacks: Any, *, held_out: bool) -> None:
    """Refuse callbacks that cannot run.

    Parameters
    ----------
    callbacks : list or None
        As for the classifier.
    held_out : bool
        Whether there are rows whose loss is measured while training.

    Raises
    ------
    ValueError
        For what is no callback of skorch, and for one that waits for the loss of held-out rows
        where none are.

    Examples
    --------
    >>> from skorch.callbacks import EarlyStopping
    >>> check_callbacks([EarlyStopping()], held_out=False)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: callbacks has EarlyStopping(monitor='valid_loss'), but no rows are held out ...
    """
    for item in callbacks or []:
        callback = item[1] if isinstance(item, (tuple, list)) and len(item) == 2 else item
        if callback is None and callback is not item:
            continue  # skorch's way to switch a named one off
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(
                f"callbacks has {item!r} of type {type(item).__name__}; expected callbacks of "
                "skorch, such as skorch.callbacks.EpochScoring('accuracy'), or tuples (name, "
                "callback)."
            )
        monitor = _monitored(callback, kind)
        if not held_out and monitor in _OF_HOLD_OUT:
            raise ValueError(
                f"callbacks has {kind.__name__}(monitor={monitor!r}), but no rows are held out "
                "whose loss that is; set early_stopping=True, or monitor='train_loss'."
            )


def _monitored(callback: Any, kind: type) -> Any:
    """Return the name of the loss that a callback waits for; None where it has none."""
    if callback is not kind:
        return getattr(callback, "monitor", None)
    default = inspect.signature(kind).parameters.get("monitor")
    return None if default is None else default.default
