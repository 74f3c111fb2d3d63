"""What a method is: a choice on val, then a fit to the rows of train and val."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _tradeoff.data import Part, Split

__all__ = [
    *("METHODS", "Fit", "best_on_val", "cell_accuracies", "cells_of", "decide", "method"),
    "people_of",
]


@dataclass(frozen=True)
class Fit:
    """What a method gives: labels of rows, what it chose, and numbers to be kept."""

    predict: Callable[[np.ndarray], np.ndarray]
    chosen: str
    more: dict[str, float] = field(default_factory=dict)


METHODS: dict[str, Callable[[Split], Fit]] = {}


def method(name: str) -> Callable[[Any], Any]:
    """Register a function of a split as a method."""

    def register(run: Callable[..., Fit]) -> Callable[..., Fit]:
        METHODS[name] = run
        return run

    return register


def decide(w: np.ndarray, Z: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """Return labels by a head (d + 1,) whose last weight is the intercept."""
    return (Z @ w[:-1] + w[-1] > threshold).astype(np.int64)


def cells_of(part: Part, n_groups: int) -> np.ndarray:
    """Return codes of label and group."""
    return part.y * n_groups + part.s


def people_of(split: Split, part: str) -> np.ndarray | None:
    """Return whose the rows of "train" are, or those of train and val; None if all differ."""
    if split.people is None or part != "train":
        return split.people
    return split.people[: len(split.train.y)]


def cell_accuracies(part: Part, predicted: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the accuracy of each cell, NaN where there is no row."""
    cells = cells_of(part, n_groups)
    right = np.bincount(cells, predicted == part.y, minlength=2 * n_groups)
    with np.errstate(invalid="ignore"):
        return right / np.bincount(cells, minlength=2 * n_groups)


def best_on_val(
    split: Split, tried: Iterable[tuple[Any, np.ndarray]], *, worst: bool = True
) -> Any:
    """Return the settings whose labels of val have the best worst cell.

    Of several, those with the best mean over cells, and of these the first.

    Parameters
    ----------
    split : Split
        The task.
    tried : iterable of (settings, labels)
        What was tried, the strongest penalty first.
    worst : bool, default=True
        By the worst cell, else by the share of all rows that is right.
    """
    best, found = (-np.inf, -np.inf), None
    for settings, predicted in tried:
        of_cells = cell_accuracies(split.val, predicted, split.n_groups)
        first = np.nanmin(of_cells) if worst else np.mean(predicted == split.val.y)
        score = (round(float(first), 9), round(float(np.nanmean(of_cells)), 9))
        if score > best:
            best, found = score, settings
    return found
