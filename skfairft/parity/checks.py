"""Refusals: groups that lack the rows which a constraint compares."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..inputs.encoding import python_value
from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..inputs.words import joined, listed, shown
from .constraints import cell_counts, parity
from .table import RATES, TABLE

__all__ = ["check_constraint", "check_held_out", "refuse_alone"]

# The standard error of a rate of so many rows is a tenth.
_FEW_HELD_OUT = 20


def check_constraint(
    constraint: str | None,
    classes: NDArray[Any],
    groups: NDArray[Any],
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    w: NDArray[np.float64],
) -> None:
    """Refuse a constraint on rates that some groups do not have.

    Parameters
    ----------
    constraint : str or None
        One of `CONSTRAINTS`.
    classes, groups : ndarray
        Encoded by ``labels`` and ``codes``.
    labels, codes : ndarray of shape (n,), int64
        Class and group of each row.
    w : ndarray of shape (n,)
        Sample weights.

    Raises
    ------
    ValueError
        Naming the groups and the classes.
    """
    if constraint is None:
        return
    rule = parity(constraint, len(classes))
    table = cell_counts(
        *map(torch.from_numpy, (labels, codes, w)), n_classes=len(classes), n_groups=len(groups)
    )
    missing: list[str] = []
    counts = rule.counts(table).numpy()
    for m, g in np.argwhere(counts == 0):
        wanted = [python_value(c) for c in classes[rule.events[m].numpy() > 0]]
        name = shown(python_value(groups[g]))
        note = f"{name} has no row of class {listed(wanted, separator=' or ')}"
        missing += [] if note in missing else [note]
    if missing:
        free = [name for name, row in TABLE.items() if all(RATES[r].of_all for r in row.rates)]
        raise ValueError(
            f"constraint={constraint!r} compares rates that some groups do not have: "
            f"{joined(missing)} (or only rows of weight zero). Merge groups or gather more "
            f"rows; {' and '.join(free)} ask for no class of their own."
        )


def check_held_out(
    constraint: str,
    bound: float,
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    *,
    shape: tuple[int, int],
) -> None:
    """Refuse held-out rows on which groups cannot be compared, and warn of few.

    Parameters
    ----------
    constraint : str
        One of `CONSTRAINTS`.
    bound : float
        As given to the classifier, for the error.
    labels, codes : ndarray of shape (m,), int64
        Label and group of each held-out row, all of positive weight.
    shape : tuple (k, G)
        Numbers of classes and of groups.

    Raises
    ------
    ValueError
        If some rate of the constraint has rows in fewer than two groups.

    Warns
    -----
    FairnessWarning
        If some rate is the mean of a few rows.

    Examples
    --------
    >>> y, s = np.array([0, 1, 1]), np.array([0, 1, 1])
    >>> check_held_out(  # doctest: +ELLIPSIS
    ...     "true_positive_rate_parity", 0.1, y, s, shape=(2, 2)
    ... )
    Traceback (most recent call last):
    ...
    ValueError: difference_bound=0.1 needs held-out rows of at least two groups ...
    """
    n_classes, n_groups = shape
    y, s, one = torch.from_numpy(labels), torch.from_numpy(codes), torch.ones(len(labels)).double()
    count = cell_counts(y, s, one, n_classes=n_classes, n_groups=n_groups)
    rule = parity(constraint, n_classes)
    compared, counts = rule.fewest_groups(count), rule.counts(count)
    if compared < 2:
        raise ValueError(
            f"difference_bound={bound} needs held-out rows of at least two groups for each rate of "
            f"{constraint!r}, but some rate has them in {compared} of {n_groups} "
            f"groups, among {len(labels)} rows. Hold out more (validation_fraction) or merge "
            "groups."
        )
    fewest = int(counts[counts > 0].min())
    if fewest < _FEW_HELD_OUT:
        warn_user(
            f"difference_bound={bound} is judged on {len(labels)} held-out rows, and some rate on "
            f"{fewest} of them: a distance that is within the bound there can be far beyond it on "
            "others. Hold out more (validation_fraction) or merge groups.",
            FairnessWarning,
        )


def refuse_alone(
    constraint: str, labels: Tensor, codes: Tensor, w: Tensor, *, shape: tuple[int, int]
) -> None:
    """Refuse rows on which groups cannot be compared.

    Parameters
    ----------
    constraint : str
        One of `CONSTRAINTS`.
    labels, codes : Tensor of shape (n,), int64
        Class and group of each row.
    w : Tensor of shape (n,)
        Weights.
    shape : tuple (k, G)
        Numbers of classes and of groups.

    Raises
    ------
    ValueError
        If some rate of the constraint has rows in fewer than two groups.

    Examples
    --------
    >>> y, s = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    >>> refuse_alone("true_positive_rate_parity", y, s, torch.ones(4), shape=(2, 2))
    >>> w = torch.tensor([1.0, 0.0, 1.0, 1.0])
    >>> refuse_alone(  # doctest: +ELLIPSIS
    ...     "true_positive_rate_parity", y, s, w, shape=(2, 2)
    ... )
    Traceback (most recent call last):
    ...
    ValueError: held_out needs rows of at least two groups for each rate of ...
    """
    n_classes, n_groups = shape
    count = cell_counts(labels, codes, w.double(), n_classes=n_classes, n_groups=n_groups)
    compared = parity(constraint, n_classes).fewest_groups(count)
    if compared < 2:
        raise ValueError(
            f"held_out needs rows of at least two groups for each rate of {constraint!r}, but some "
            f"rate has them in {compared} of {n_groups} groups, among "
            f"{int(w.count_nonzero())} rows of positive weight. Hold out more or merge groups."
        )
