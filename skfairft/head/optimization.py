"""With what a head is trained: optimizer and callbacks, checked before anything is computed."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from skorch.callbacks import Callback
from skorch.callbacks.scoring import ScoringBase
from torch import nn

from ..backbone.modes import seeded, training_modes

__all__ = ["Optimization", "check_callbacks", "resolve_optimizer"]

# Rows per step of the minibatch optimizers: a tenth of the rows, so that an epoch is some
# steps on small data, up to a size at which skorch's bookkeeping per batch is a small part
# of the time even for narrow heads.
_MINIBATCH_SHARE, _MINIBATCH_LEAST, _MINIBATCH_MOST = 0.1, 32, 1024
_MINIBATCH_LR = 0.001
_MINIBATCH_PATIENCE = 5

_CPU = torch.device("cpu")

# The callbacks that training has in any case.
_OWN_NAMES = (
    *("epoch_timer", "train_loss", "valid_loss", "print_log"),
    *("early_stopping", "convergence", "epoch_bar"),
)

# What training writes into its history only where rows are held out.
_OF_HOLD_OUT = ("valid_loss", "valid_loss_best")


@dataclass(frozen=True)
class Optimization:
    """An optimizer and its settings.

    ``settings`` are its arguments besides the learning rate. A batch size of -1 is all rows, None
    depends on their number, see `rows_per_step`. Training stops after ``patience`` epochs without
    improvement.
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
    device: torch.device = _CPU,
) -> Optimization:
    """Return the optimizer that parameters of `FineTune` stand for.

    They are named as there, but for ``patience``, its ``n_iter_no_change``. With ``nonlinear``, an
    activation inside the head, the default optimizer is AdamW. ``device`` is where it is to train.

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
    ours = optimizer is None and lr is None and not weight_decay and not optimizer_kwargs
    if optimizer is None:
        full_batch = lr is None and batch_size is None and not nonlinear
        optimizer = torch.optim.LBFGS if full_batch else torch.optim.AdamW
    given = dict(optimizer_kwargs or {})
    for name, value in (("lr", lr), ("weight_decay", weight_decay or None)):
        if name in given and (name == "lr" or value is not None):
            raise ValueError(
                f"optimizer_kwargs has {name}={given[name]!r}, which is a parameter of the "
                f"solver, too; set {name}={given[name]!r} there and leave it out here."
            )
    settings = given
    if "weight_decay" in inspect.signature(optimizer).parameters:
        settings = {"weight_decay": weight_decay, **given}
    elif weight_decay:
        raise ValueError(
            f"weight_decay={weight_decay} does not go with {optimizer.__name__}, which has none; "
            "use C for an L2 penalty, or optimizer=torch.optim.AdamW."
        )
    own_lr, own_batch_size, own_patience = _MINIBATCH_LR, None, _MINIBATCH_PATIENCE
    if issubclass(optimizer, torch.optim.LBFGS):
        settings = {"line_search_fn": "strong_wolfe", "history_size": 20, **settings}
        own_lr, own_batch_size, own_patience = 1.0, -1, 1
    chosen = Optimization(
        optimizer,
        settings,
        lr=own_lr if lr is None else lr,
        batch_size=own_batch_size if batch_size is None else batch_size,
        patience=own_patience if patience is None else patience,
    )
    if not ours:
        _try(chosen, device)
    return chosen


def _try(chosen: Optimization, device: torch.device) -> None:
    """Take a step with parameters like those of a head, to hear what the optimizer refuses."""
    given = {name: value for name, value in chosen.settings.items() if name != "param_groups"}
    groups = chosen.settings.get("param_groups", [])  # of skorch, by names of parameters
    pairs = isinstance(groups, (list, tuple)) and all(
        isinstance(each, (list, tuple)) and len(each) == 2 and isinstance(each[1], Mapping)
        for each in groups
    )
    if not pairs:
        raise ValueError(
            f"optimizer_kwargs has param_groups={groups!r}; expected a list of pairs of a "
            "parameter's name and a dict, as skorch takes it."
        )

    def loss() -> Any:
        for parameter in parameters:
            parameter.grad = None
        value = torch.stack([parameter.square().sum() for parameter in parameters]).sum()
        value.backward()
        return value

    try:
        # Those of torch draw no random numbers.
        draws = not chosen.optimizer.__module__.startswith("torch.optim")
        with training_modes(), seeded(0, _CPU) if draws else contextlib.nullcontext():
            parameters = [nn.Parameter(torch.ones(n).double()) for n in ((2, 2), (2,))]
            optimizer: Any = chosen.optimizer(parameters, lr=chosen.lr, **given)  # type: ignore[call-arg]
            if callable(getattr(optimizer, "train", None)):
                optimizer.train()
            if device.type == "cpu":  # some options ask for another
                optimizer.step(loss)
        if chosen.settings.get("max_iter", 1) < 1:
            raise ValueError("it would take no step")
    except AssertionError:
        return  # of these parameters, maybe, and not of the head's
    except Exception as error:
        raise ValueError(
            f"{chosen.optimizer.__name__} cannot train a head with lr={chosen.lr} and "
            f"{dict(chosen.settings)}: {type(error).__name__}: {error}. Change optimizer or "
            "optimizer_kwargs."
        ) from error


def check_callbacks(callbacks: Any, *, held_out: bool) -> None:
    """Refuse callbacks that cannot run, with or without held-out rows whose loss is measured.

    Raises
    ------
    ValueError
        For what is no callback of skorch, and for one that waits for the loss of held-out rows,
        or scores them, where there are none.

    Examples
    --------
    >>> from skorch.callbacks import EarlyStopping
    >>> check_callbacks([EarlyStopping()], held_out=False)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: callbacks has EarlyStopping(monitor='valid_loss'), but no rows are held out ...
    """
    names = [item[0] for item in callbacks or [] if isinstance(item, (tuple, list)) and item]
    if len(set(map(str, names))) < len(names):
        raise ValueError(f"callbacks has two of one name among {names}; give each its own.")
    for item in callbacks or []:
        named = isinstance(item, (tuple, list)) and len(item) == 2
        if named and (item[0] in _OWN_NAMES or not isinstance(item[0], str)):
            raise ValueError(
                f"callbacks has one called {item[0]!r}; expected a name as text, other than those "
                f"of the training itself: {', '.join(_OWN_NAMES)}."
            )
        callback = item[1] if named else item
        if callback is None and callback is not item:
            continue  # skorch's way to leave out a named one
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(
                f"callbacks has {item!r} of type {type(item).__name__}; expected callbacks of "
                "skorch, such as skorch.callbacks.EpochScoring('accuracy'), or tuples (name, "
                "callback)."
            )
        if (
            issubclass(kind, ScoringBase)
            and not held_out
            and not _setting(callback, kind, "on_train")
        ):
            raise ValueError(
                f"callbacks has {kind.__name__} of held-out rows, but no rows are held out; set "
                "early_stopping=True, or on_train=True of the callback."
            )
        monitor = _setting(callback, kind, "monitor")
        if not held_out and monitor in _OF_HOLD_OUT:
            raise ValueError(
                f"callbacks has {kind.__name__}(monitor={monitor!r}), but no rows are held out "
                "whose loss that is; set early_stopping=True, or monitor='train_loss'."
            )


def _setting(callback: Any, kind: type, name: str) -> Any:
    """Return an argument of a callback, or of a class of them its default; None if it has none."""
    if callback is not kind:
        return getattr(callback, name, None)
    default = inspect.signature(kind).parameters.get(name)
    return None if default is None else default.default
