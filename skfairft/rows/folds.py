"""Which rows are judged by a head that has not seen them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import check_cv

from ..inputs.words import shown
from .hold_out import hold_out

__all__ = ["Fold", "Folds", "read_folds", "stratified_folds"]

Numbers = NDArray[np.int64]


class Fold(NamedTuple):
    """Numbers of the rows to fit, and of those to judge, ascending."""

    train: Numbers
    test: Numbers


@dataclass(frozen=True)
class Folds:
    """Rows to judge, each in one fold.

    Parameters
    ----------
    parts : tuple of Fold
        None of the rows to judge is in two of them, nor in its fold's rows to fit.
    refit : bool
        Whether the head that is handed out is fitted on all rows; else on the one fold's.
    """

    parts: tuple[Fold, ...]
    refit: bool

    @property
    def judged(self) -> Numbers:
        """Numbers of all rows to judge, ascending."""
        return np.sort(np.concatenate([part.test for part in self.parts]))

    def codes(self, w: NDArray[np.float64]) -> Numbers | None:
        """Return the fold (n,) of each row, -1 for rows in none.

        None if some fold is not fitted to all the other rows of weight ``w`` (n,) above 0.
        """
        codes = np.full(len(w), -1)
        for i, part in enumerate(self.parts):
            codes[part.test] = i
        for i, part in enumerate(self.parts):
            others = (codes != i) & (w > 0)
            if not np.isin(np.flatnonzero(others), part.train).all():
                return None
        return codes


def stratified_folds(
    cells: Numbers,
    w: NDArray[np.float64],
    n_folds: int,
    random_state: np.random.RandomState,
    *,
    kept: Sequence[Numbers] | None = None,
) -> Folds:
    """Divide rows among folds, alike from each cell.

    A cell (n,) is a code for each pair of class and group. Rows of weight zero are fitted in all
    folds and judged in none, and so are those that a fold cannot do without.

    Parameters
    ----------
    cells, w, n_folds, random_state
        As for `read_folds`.
    kept : sequence of ndarray of shape (n,), optional
        Codes of what each fold is to be fitted on some row of. None is the cells: rows that are
        alone in theirs are judged in none.

    Examples
    --------
    >>> cells = np.repeat([0, 1, 2], [10, 5, 1])
    >>> folds = stratified_folds(cells, np.ones(16), 5, np.random.RandomState(0))
    >>> [np.bincount(cells[part.test]).tolist() for part in folds.parts]
    [[2, 1], [2, 1], [2, 1], [2, 1], [2, 1]]
    >>> len(folds.judged)
    15
    """
    counted = np.flatnonzero(w)
    alone = np.bincount(cells[counted])[cells[counted]] == 1
    order = random_state.permutation(counted[~alone])
    order = order[np.argsort(cells[order], kind="stable")]
    if kept is not None:
        alone = counted[alone]
        order = np.concatenate([order, alone[np.lexsort([code[alone] for code in kept])]])
    number = np.full(len(w), -1)
    number[order] = np.arange(len(order)) % n_folds
    for code in kept or ():
        # A value whose rows are all in one fold is taken out of it.
        first, last = np.full(code.max() + 1, n_folds), np.full(code.max() + 1, -2)
        np.minimum.at(first, code[counted], number[counted])
        np.maximum.at(last, code[counted], number[counted])
        number[(first == last)[code]] = -1
    tests = [np.flatnonzero(number == i) for i in range(n_folds)]
    everything = np.arange(len(w))
    parts = [Fold(np.delete(everything, test), test) for test in tests if len(test)]
    if len(parts) < 2:
        raise ValueError(
            f"cv={n_folds} cannot divide {int((number >= 0).sum())} rows (those that the heads of "
            "folds can do without); expected some for two folds or more. Gather more rows."
        )
    return Folds(tuple(parts), refit=True)


def _numbers(side: Any) -> NDArray[Any]:
    """Return row numbers or a mask; an empty list is of numbers."""
    found = np.asarray(side)
    return found if found.size else found.astype(np.int64)


def read_folds(
    cv: Any,
    cells: Numbers,
    labels: Numbers,
    w: NDArray[np.float64],
    random_state: np.random.RandomState,
    kept: Sequence[Numbers] | None = None,
) -> Folds:
    """Return the folds that a parameter ``cv`` stands for.

    Parameters
    ----------
    cv : int, float, splitter or iterable
        As for the classifier.
    cells, labels : ndarray of shape (n,)
        Codes of class and group together, and of the class.
    w : ndarray of shape (n,)
        Weights; rows of weight zero are not judged.
    random_state : RandomState
        Of folds and of rows held out.
    kept : sequence of ndarray of shape (n,), optional
        As for `stratified_folds`.

    Raises
    ------
    ValueError
        For splits that judge a row twice, or by a head that was fitted to it.

    Examples
    --------
    >>> y = np.array([0, 1] * 4)
    >>> given = [(np.arange(4), np.arange(4, 8)), (np.arange(4, 8), np.arange(4))]
    >>> folds = read_folds(given, y, y, np.ones(8), np.random.RandomState(0))
    >>> [part.test.tolist() for part in folds.parts], folds.refit
    ([[4, 5, 6, 7], [0, 1, 2, 3]], True)
    """
    everything = np.arange(len(w))
    if isinstance(cv, Integral):
        return stratified_folds(cells, w, int(cv), random_state, kept=kept)
    if isinstance(cv, Real):
        test = hold_out(cells, w, float(cv), random_state)
        return Folds((Fold(np.delete(everything, test), test),), refit=False)
    parts = []
    times = np.zeros(len(w), dtype=np.int64)
    try:
        splits = list(check_cv(cv).split(np.zeros((len(w), 1)), labels))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"cv={shown(cv)} does not split {len(w)} rows: {str(error).rstrip('.')}. Expected a "
            "splitter that needs no groups, or pairs of row numbers, to fit and to judge, such as "
            "cv=list(GroupKFold(5).split(X, y, people))."
        ) from error
    for i, split in enumerate(splits):
        try:
            train, test = (np.sort(everything[_numbers(side)]) for side in split)
        except (IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"cv's split {i} does not name rows of {len(w)}: {error}. Expected two arrays of "
                "row numbers, to fit and to judge."
            ) from error
        for side in (train, test):
            twice = side[:-1][side[1:] == side[:-1]]
            if len(twice):
                raise ValueError(
                    f"cv's split {i} names row {twice[0]} more than once; expected each row once "
                    "at most. A row that is to count twice has sample_weight 2."
                )
        test = test[w[test] > 0]
        times[test] += 1
        both = np.intersect1d(train, test)
        if len(both):
            raise ValueError(
                f"cv's split {i} has {len(both)} rows, {both[0]} first, on both sides; expected "
                "rows to judge that are not fitted."
            )
        if not len(train) or not len(test):
            raise ValueError(
                f"cv's split {i} has {len(train)} rows to fit and {len(test)} to judge (of weight "
                "above 0); expected some of both."
            )
        parts.append(Fold(train, test))
    if not parts:
        raise ValueError(
            "cv gives no split; expected at least one. An iterator can be used once: pass a list."
        )
    if times.max() > 1:
        raise ValueError(
            f"cv judges row {times.argmax()} {times.max()} times; expected splits that judge each "
            "row once at most, such as those of KFold."
        )
    return Folds(tuple(parts), refit=True)
