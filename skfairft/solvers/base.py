"""What every solver is: settings of its own, and a fitter of heads for each weight of fairness."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from numbers import Number
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from ..inputs.warn import no_warnings
from ..rows.folds import Folds
from ..rows.tensor_rows import TensorRows
from .fitter import HeadFitter
from .problem import Problem
from .trials import HeldOut, OutOfFold, Trials

__all__ = ["Solver"]


class Solver(BaseEstimator):
    """How a head comes to meet a constraint; see its subclasses.

    Other rooms ask a solver what it needs, and do not compare names.
    """

    name: ClassVar[str]
    """What ``solver=`` calls it."""
    needs_groups: ClassVar[bool] = False
    """Whether it needs groups without a constraint, too."""
    votes: ClassVar[bool] = False
    """Whether its head tells cells of class and group apart, which vote for classes, and so can use
    a group that is known at prediction."""
    estimates_groups: ClassVar[bool] = False
    """Whether it can do with groups on some of the rows."""
    starts_with_constraint: ClassVar[bool] = True
    """Whether the metric of the cut acts through a constraint, also where the rank is whole."""
    several: ClassVar[bool] = False
    """Whether it can keep several constraints at once."""
    default_C: ClassVar[float | str] = 1.0
    """Strength of the penalty where none is given."""
    caveats: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Topic and text of what to know of a model that it fitted with a weight above 0."""
    told_caveats: ClassVar[tuple[tuple[str, str], ...]] = ()
    """The same where the model is told the groups of the rows that it decides."""

    @property
    def takes_share(self) -> bool:
        """Whether a weight of fairness is a share of the disparity to take away."""
        return True

    @property
    def trains(self) -> bool:
        """Whether a head is trained, beyond the first one that is factorized."""
        return False

    def check(self, *, constraint: str | None, warm_start: bool) -> None:
        """Refuse settings that are invalid, or contradict each other.

        Parameters
        ----------
        constraint, warm_start
            As given to the classifier.

        Raises
        ------
        ValueError
            Saying which, and what to do.
        """
        self._validate_params()

    def check_head(self, head: nn.Module | None, n_classes: int, device: torch.device) -> None:
        """Refuse what does not go with a head for so many classes.

        Parameters
        ----------
        head : nn.Module or None
            As given to the classifier.
        n_classes : int
            Number of classes k.
        device : torch.device
            Where it would be trained.

        Raises
        ------
        ValueError
            Saying what, and what to do.
        """

    def early_share(self, head: nn.Module | None, n_classes: int) -> float | None:
        """Return the share of the rows held out to stop the training early; None is none."""
        return None

    def advice(self, importance: str) -> str:
        """Return what to try where a weight did little."""
        return "try another solver"

    @abstractmethod
    def fitter(self, problem: Problem, seed: Any) -> HeadFitter:
        """Return what fits heads of any weight to the rows of a problem.

        Parameters
        ----------
        problem : Problem
            Rows, and how to fit.
        seed : int or RandomState
            Of the rows held out for early stopping, and of the training.
        """

    def trials(self, problem: Problem, seed: Any, held_out: TensorRows | None = None) -> Trials:
        """Return what judges heads by rows that they have not seen.

        Parameters
        ----------
        problem : Problem
            With its folds, if nothing is held out.
        seed : int
            As for `fitter`.
        held_out : TensorRows, optional
            Rows to judge that are none of the problem's.
        """
        folds = problem.folds
        if held_out is None:
            assert folds is not None
            if folds.refit:
                return self._out_of_fold(problem, seed, folds)
            problem, held_out = problem.apart()
        return self._held_out(problem, seed, held_out)

    def _held_out(self, problem: Problem, seed: Any, rows: TensorRows) -> Trials:
        return HeldOut(self.fitter(problem, seed), rows)

    def _out_of_fold(self, problem: Problem, seed: Any, folds: Folds) -> Trials:
        whole = self.fitter(replace(problem, folds=None), seed)
        problem = replace(problem, C=whole.C)
        with no_warnings():  # what there is to say is said of the head on all rows
            parts = [self.fitter(problem.fitted_to(fold.train), seed) for fold in folds.parts]
        return OutOfFold(whole, parts, folds, problem.as_they_are)

    def changed(self) -> dict[str, Any]:
        """Return the parameters that are not at their defaults."""
        defaults = inspect.signature(type(self)).parameters
        given = self.get_params(deep=False)
        return {name: value for name, value in given.items() if value != defaults[name].default}

    def idle(self, head: nn.Module | None, n_classes: int) -> Iterator[tuple[list[str], str]]:
        """Yield names of parameters that nothing acts on, and why, with what to do.

        Parameters
        ----------
        head, n_classes
            As for `check_head`.
        """
        yield from ()

    def label(self) -> str:
        """Return its name, or where its settings are not the defaults, what they are.

        Examples
        --------
        >>> from skfairft import FineTune, PlugIn
        >>> PlugIn().label(), FineTune(optimizer=torch.optim.SGD, max_epochs=5).label()
        ('plug_in', 'FineTune(max_epochs=5, optimizer=SGD)')
        """
        settings = ", ".join(f"{name}={_short(value)}" for name, value in self.changed().items())
        own = "name" in vars(type(self))  # and not that of a solver that this one extends
        return self.name if own and not settings else f"{type(self).__name__}({settings})"


def _short(value: Any) -> str:
    """Return a setting in a word or two; of a callback or the like, its class."""
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_short(each)}' for name, each in value.items())}}}"
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, Number)):
        return repr(value)
    return value.__name__ if isinstance(value, type) else type(value).__name__
