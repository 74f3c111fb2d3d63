"""What the solvers share that train a head: how to train."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ..head.optimization import check_callbacks, resolve_optimizer
from ..head.start import has_activation
from .base import Solver

__all__ = ["TrainedSolver"]

# Parameters that ask for nothing where they are False or empty.
_EMPTY = ("early_stopping", "callbacks", "optimizer_kwargs")


class TrainedSolver(Solver):
    """A solver that trains a head; parameters as for `FineTune`."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "optimizer": "no_validation",  # see resolve_optimizer, whose error says more
        "optimizer_kwargs": [dict, None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "callbacks": [list, None],
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
    ) -> None:
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.optimizer_kwargs = optimizer_kwargs
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.callbacks = callbacks

    @property
    def trains(self) -> bool:
        """Whether there is an epoch of training."""
        return self.max_epochs > 0

    def idle(self, head: nn.Module | None, n_classes: int) -> Iterator[tuple[list[str], str]]:
        """Yield parameters of a training that does not take place, or does not stop early."""
        asked = [name for name, value in self.changed().items() if value or name not in _EMPTY]
        if not self.trains:
            if names := [name for name in asked if name != "max_epochs"]:
                yield names, "max_epochs=0 trains nothing. Set max_epochs"
            return
        stops = self.early_share(head, n_classes) is not None
        if not stops and "validation_fraction" in asked:
            why = "early_stopping={!r} holds no rows out with this head. Set early_stopping=True"
            yield ["validation_fraction"], why.format(self.early_stopping)
        if not stops and self.tol is None and self.n_iter_no_change is not None:
            yield ["n_iter_no_change"], "tol=None trains for exactly max_epochs. Set tol"

    def check_head(self, head: nn.Module | None, n_classes: int, device: torch.device) -> None:
        """Refuse an optimizer or callbacks that cannot run; as `Solver.check_head`."""
        resolve_optimizer(
            self.optimizer,
            self.optimizer_kwargs,
            lr=self.lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            nonlinear=has_activation(head, n_classes),
            device=device,
        )
        check_callbacks(self.callbacks, held_out=self.early_share(head, n_classes) is not None)

    def early_share(self, head: nn.Module | None, n_classes: int) -> float | None:
        """Return the share of the rows held out to stop by; as `Solver.early_share`."""
        auto = self.early_stopping == "auto"
        wanted = has_activation(head, n_classes) if auto else self.early_stopping
        return self.validation_fraction if wanted and self.trains else None

    def _training(self) -> dict[str, Any]:
        """Return the arguments of `fine_tune`."""
        return {
            "optimizer": self.optimizer,
            "optimizer_kwargs": self.optimizer_kwargs,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "batch_size": self.batch_size,
            "max_epochs": self.max_epochs,
            "tol": self.tol,
            "patience": self.n_iter_no_change,
            "callbacks": self.callbacks,
        }
