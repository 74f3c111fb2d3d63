"""Heads of some weights of fairness, and their scores of rows that they have not seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..head.modules import head_scores
from ..inputs.warn import no_warnings
from ..rows.folds import Folds
from ..rows.parts import Parts
from ..rows.tensor_rows import TensorRows
from .fitter import HeadFitter
from .problem import FittedHead

__all__ = ["HeldOut", "OutOfFold", "Trial", "Trials"]


class Trial(NamedTuple):
    """What one weight of fairness leads to.

    Parameters
    ----------
    weight : float or tuple of float
        The weight; of several bounds one of each.
    scores : Tensor of shape (n, k)
        Of the rows to judge.
    heads : tuple of FittedHead
        What gave the scores, fold by fold.
    fitted : FittedHead or None
        The head to hand out, where it was trained for it.
    """

    weight: Any
    scores: Tensor
    heads: tuple[FittedHead, ...] = ()
    fitted: FittedHead | None = None


class Trials(ABC):
    """Heads of any weight, judged by rows that they have not seen.

    Parameters
    ----------
    rows : TensorRows
        The rows to judge, without the weights of the classes.
    refit : bool
        Whether the head that is handed out is fitted on these rows, too, and so is another one
        than those that gave the scores.
    tuned : bool, default=False
        Whether what gives the scores was found on these rows, in part.
    parts : Parts, optional
        Of which the rows are those, if the groups of some are not known.
    """

    def __init__(
        self, rows: TensorRows, *, refit: bool, tuned: bool = False, parts: Parts | None = None
    ) -> None:
        self.rows, self.refit, self.tuned, self.parts = rows, refit, tuned, parts
        #: Whether each of several bounds can have a weight of its own.
        self.separate = False

    @abstractmethod
    def path(self, weights: Any, *, known: bool = False, heads: bool = False) -> Iterator[Trial]:
        """Try several weights in their order.

        Parameters
        ----------
        weights : ndarray of shape (m,)
            Of fairness.
        known : bool, default=False
            Whether the rows' groups are known where they are decided; of solvers that can use them.
        heads : bool, default=False
            Whether the heads to hand out are asked for.

        Raises
        ------
        KeyboardInterrupt
            If the training of a head to judge was interrupted.
        """

    @abstractmethod
    def between(self, weight: Any, near: Any, *, known: bool = False) -> Trial:
        """Try another weight, not far from one that was tried; or one for each of the bounds."""

    @abstractmethod
    def maker(self, trial: Trial, known: Trial | None = None) -> Callable[[], FittedHead]:
        """Return what makes the head to hand out, which holds no features of rows.

        With ``known`` the head decides rows of known groups as that trial did.
        """


class HeldOut(Trials):
    """One head for each weight, judged by rows that were held out."""

    def __init__(self, fitter: HeadFitter, rows: TensorRows) -> None:
        super().__init__(rows, refit=False)
        self._fitter = fitter

    def path(self, weights: Any, *, known: bool = False, heads: bool = False) -> Iterator[Trial]:
        """Fit a head for each weight, near the one before; as `Trials.path`."""
        for weight, fitted in zip(weights, self._fitter.fit_path(weights), strict=True):
            yield self._judged(float(weight), fitted)

    def between(self, weight: Any, near: Any, *, known: bool = False) -> Trial:
        """Fit a head near another one; as `Trials.between`."""
        return self._judged(weight, self._fitter.fit(weight, near.fitted))

    def maker(self, trial: Trial, known: Trial | None = None) -> Callable[[], FittedHead]:
        """Hand out the head that was judged; as `Trials.maker`."""
        assert trial.fitted is not None
        return partial(_itself, trial.fitted)

    def _judged(self, weight: float, fitted: FittedHead) -> Trial:
        if fitted.interrupted:
            raise KeyboardInterrupt
        return Trial(weight, head_scores(fitted.head, self.rows.Z), (fitted,), fitted)


class OutOfFold(Trials):
    """A head for each weight and fold, judged by the fold's rows; one on all rows to hand out."""

    def __init__(
        self, whole: HeadFitter, parts: Sequence[HeadFitter], folds: Folds, rows: TensorRows
    ) -> None:
        judged = folds.judged
        super().__init__(rows.take(judged), refit=True)
        self._whole, self._parts = whole, parts
        self._places = [np.searchsorted(judged, fold.test) for fold in folds.parts]
        self._tests = [rows.take(fold.test).Z for fold in folds.parts]

    def path(self, weights: Any, *, known: bool = False, heads: bool = False) -> Iterator[Trial]:
        """Fit the heads of each weight, near those of the one before; as `Trials.path`."""
        whole = self._whole.fit_path(weights) if heads else repeat(None)
        paths = [part.fit_path(weights) for part in self._parts]
        for weight, fitted in zip(weights, whole, strict=heads):
            with no_warnings():  # what there is to say is said of the head on all rows
                found = tuple(next(path) for path in paths)
            if fitted is not None and fitted.interrupted:
                raise KeyboardInterrupt
            yield self._judged(float(weight), found)._replace(fitted=fitted)

    def between(self, weight: Any, near: Any, *, known: bool = False) -> Trial:
        """Fit heads near others; as `Trials.between`."""
        with no_warnings():
            found = tuple(
                part.fit(weight, head) for part, head in zip(self._parts, near.heads, strict=True)
            )
        return self._judged(weight, found)

    def maker(self, trial: Trial, known: Trial | None = None) -> Callable[[], FittedHead]:
        """Hand out a head that is fitted on all rows; as `Trials.maker`."""
        return partial(
            _itself, self._whole.fit(trial.weight) if trial.fitted is None else trial.fitted
        )

    def _judged(self, weight: float, heads: tuple[FittedHead, ...]) -> Trial:
        if any(fitted.interrupted for fitted in heads):
            raise KeyboardInterrupt
        parts = [head_scores(fitted.head, Z) for fitted, Z in zip(heads, self._tests, strict=True)]
        scores = torch.empty(len(self.rows), parts[0].shape[1], dtype=torch.float64)
        for places, part in zip(self._places, parts, strict=True):
            scores[places] = part
        return Trial(weight, scores, heads)


def _itself(fitted: FittedHead) -> FittedHead:
    return fitted
