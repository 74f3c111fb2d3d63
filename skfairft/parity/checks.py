"""Refusals: groups that lack the rows which a constraint compares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.encoding import python_value
from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..inputs.words import joined, listed, shown
from .constraints import Parity, parity
from .demands import Demand
from .levels import Levels
from .table import TABLE
from .tally import Floats

__all__ = ["check_constraint", "check_judged", "check_known", "refuse_alone"]

# The standard error of a rate of so many rows is a tenth.
_FEW = 20

# What fewer rows of known group say of all the others would be chance.
_FEWEST_KNOWN = 5

_GROUPS = {1: "one group", 2: "two groups"}


def check_constraint(
    constraint: str,
    classes: NDArray[Any],
    groups: NDArray[Any],
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    w: NDArray[np.float64],
    *,
    positives: range | None = None,
    levels: Levels | None = None,
) -> None:
    """Refuse a constraint on rates that some groups do not have; what is to be small may lack some.

    Classes and groups are named by ``classes`` and ``groups``, encoded by ``labels`` and ``codes``
    (n,); ``w`` (n,) are sample weights, ``positives`` the codes of positive classes, as for
    `parity`, and ``levels`` what is compared in place of groups.
    """
    rule = parity(constraint, len(classes), positives=positives, levels=levels)
    missing: list[str] = []
    counts = rule.counts(_count(labels, codes, w, (len(classes), len(groups))))
    for m, g in np.argwhere((counts == 0) & rule.present(len(groups))).tolist():
        wanted = [python_value(c) for c in classes[rule.events[rule.origin(m)[0]] > 0]]
        name = rule.name(m, g, groups.tolist())
        note = f"{name} has no row of class {listed(wanted, separator=' or ')}"
        missing += [] if note in missing else [note]
    if missing and rule.largest:
        warn_user(
            f"constraint={constraint!r} is about the error of each class of each group, but "
            f"{joined(missing)} (or only rows of weight zero). What is not there is left out.",
            FairnessWarning,
        )
    elif missing:
        free = [name for name, row in TABLE.items() if row.of_all and not row.largest]
        several = levels is None and isinstance(groups.tolist()[0], tuple)
        by_column = (
            ' groups="columns" compares each column by itself, of whose levels fewer lack rows.'
        )
        raise ValueError(
            f"constraint={constraint!r} compares rates that some groups do not have: "
            f"{joined(missing)} (or only rows of weight zero). Merge groups or gather more "
            f"rows; {' and '.join(free)} ask for no class of their own.{by_column * several}"
        )


def check_judged(
    demand: Demand,
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    *,
    shape: tuple[int, int],
    confidence: float | None = None,
    positives: range | None = None,
    levels: Levels | None = None,
) -> None:
    """Refuse rows to judge a bound on which groups cannot be compared, and warn of few.

    Labels and groups (m,) are those of rows of positive weight; ``shape`` is (k, G), and
    ``positives`` and ``levels`` as for `parity`. With a confidence few rows are heeded by the
    limit, and not warned of.

    That is a ValueError if some rate of the constraint has rows in fewer than two groups, and a
    FairnessWarning if some rate is the mean of a few rows.

    Examples
    --------
    >>> y, s = np.array([0, 1, 1]), np.array([0, 1, 1])
    >>> demand = Demand("true_positive_rate_parity", bound=0.1)
    >>> check_judged(demand, y, s, shape=(2, 2))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: difference_bound=0.1 needs rows to judge of at least two groups ...
    """
    count = _count(labels, codes, None, shape)
    rule = demand.rule(shape[0], positives=positives, levels=levels)
    counts = rule.counts(count)
    if rule.fewest_groups(count) < rule.least_groups:
        raise ValueError(
            f"{demand} needs rows to judge of at least {_GROUPS[rule.least_groups]} for each rate "
            f"of {demand.constraint!r}, but some rate has them in {_fewest(rule, counts)}, among "
            f"{len(labels)} rows. Judge by more (cv=5 takes all in turn that are not the only ones "
            "of their class in their group) or merge groups."
        )
    fewest = int(counts[counts > 0].min())
    if (confidence or 0.5) <= 0.5 and fewest < _FEW:
        warn_user(
            f"{demand} is judged by {len(labels)} rows, and some rate by "
            f"{fewest} of them: a {demand.form} that meets the bound there can be far beyond it on "
            "others. Judge by more (cv=5 takes all of them in turn), merge groups, or set "
            "confidence=0.95, which heeds that.",
            FairnessWarning,
        )


def check_known(
    demands: tuple[Demand, ...],
    classes: NDArray[Any],
    groups: NDArray[Any],
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    w: NDArray[np.float64],
    *,
    sure: bool = False,
    positives: range | None = None,
    levels: Levels | None = None,
) -> None:
    """Refuse groups of which hardly any row is known to be one, and warn where a bound is of few.

    Rows (n,) are as for `check_constraint`, those of unknown group with the code -1. Of the group
    of the others nothing is known but from these: fewer than 5 in a group, or in what a rate of a
    constraint is of, are a ValueError. That the difference of two rates of so few rows has a
    standard error, ``(1/4 (1/n_0 + 1/n_1))^1/2``, of more than half its bound is a
    FairnessWarning, unless bounds are held with a confidence (``sure``); n are the rows of the two
    groups that have the fewest. With ``levels`` the
    rates are theirs, but what is learnt are still the groups.

    Examples
    --------
    >>> s = np.array([0] * 3 + [1] * 5 + [-1] * 9)
    >>> names = np.array(["no", "yes"]), np.array(["a", "b"])
    >>> check_known((), *names, 0 * s, s, np.ones(17))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: missing_groups="estimate" learns the groups from the 8 of 17 rows that have one, ...
    """
    known = (codes >= 0) & (w > 0.0)
    count = _count(labels[known], codes[known], None, (len(classes), len(groups)))
    notes = [
        f"{int(n)} of group {shown(python_value(group))}"
        for group, n in zip(groups, count.sum(axis=0), strict=True)
        if n < _FEWEST_KNOWN
    ]
    among = (
        f'missing_groups="estimate" learns the groups from the {int(known.sum())} of {len(codes)} '
        "rows that have one"
    )
    named = groups.tolist()
    rules = [each.rule(len(classes), positives=positives, levels=levels) for each in demands]
    for rule in [] if notes else rules:
        counts = rule.counts(count)
        few = (counts < _FEWEST_KNOWN) & rule.present(len(groups))
        if rule.largest:  # what is not there is left out
            few &= counts > 0
        for m, g in np.argwhere(few).tolist():
            of = [python_value(c) for c in classes[rule.events[rule.origin(m)[0]] > 0]]
            note = (
                f"{int(counts[m, g])} of class {listed(of, separator=' or ')} in "
                f"{'group ' if levels is None else ''}{rule.name(m, g, named)}"
            )
            notes += [] if note in notes else [note]
    if notes:
        raise ValueError(
            f"{among}, but these are only {joined(notes)} (without rows of weight zero); expected "
            f"at least {_FEWEST_KNOWN} of each. Learn the groups of more rows, or merge groups."
        )
    for demand, rule in zip(demands, rules, strict=True):
        if demand.bound is None or demand.ratio or sure:
            continue
        counts = np.where(rule.present(len(groups)), rule.counts(count), np.inf)
        fewest = np.sort(counts, axis=1)[:, : rule.least_groups]
        error = np.sqrt((0.25 / np.maximum(fewest, 1.0)).sum(axis=1))
        if (worst := float(error.max())) > demand.bound / 2.0:
            rows = " and ".join(f"{int(n)}" for n in fewest[int(error.argmax())])
            warn_user(
                f"{among}. Some rate is of {rows} of them, whose standard error is up to "
                f"{worst:.3f}: more than half of {demand}. A distance within it here can be far "
                "beyond it on others. Learn the groups of more rows, allow a larger difference, or "
                "set confidence=0.95, which heeds that.",
                FairnessWarning,
            )


def refuse_alone(
    constraint: str,
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    w: Floats,
    *,
    shape: tuple[int, int],
    name: str = "held_out",
    positives: range | None = None,
    levels: Levels | None = None,
) -> None:
    """Refuse rows on which groups cannot be compared; arrays (n,), and ``shape`` is (k, G).

    ``positives`` and ``levels`` are as for `parity`.

    Those on which some rate of the constraint has rows in fewer than two groups are a ValueError.

    Examples
    --------
    >>> y, s = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    >>> refuse_alone("true_positive_rate_parity", y, s, np.ones(4), shape=(2, 2))
    >>> w = np.array([1.0, 0.0, 1.0, 1.0])
    >>> refuse_alone(  # doctest: +ELLIPSIS
    ...     "true_positive_rate_parity", y, s, w, shape=(2, 2)
    ... )
    Traceback (most recent call last):
    ...
    ValueError: held_out needs rows of at least two groups for each rate of ...
    """
    count = _count(labels, codes, w, shape)
    rule = parity(constraint, shape[0], positives=positives, levels=levels)
    if rule.fewest_groups(count) < rule.least_groups:
        raise ValueError(
            f"{name} needs rows of at least {_GROUPS[rule.least_groups]} for each rate of "
            f"{constraint!r}, but some "
            f"rate has them in {_fewest(rule, rule.counts(count))}, among "
            f"{np.count_nonzero(w)} rows of positive weight. Judge by more or merge groups."
        )


def _fewest(rule: Parity, counts: Floats) -> str:
    """Return in how many groups, or levels of a column, the rate in the fewest has rows."""
    there = (counts > 0).sum(axis=-1)
    moment = int(there.argmin())
    if rule.levels is None:
        return f"{int(there[moment])} of {counts.shape[-1]} groups"
    column = rule.levels.columns[rule.origin(moment)[1]]
    return f"{int(there[moment])} of {len(column.levels)} levels of {shown(column.name)}"


def _count(labels: Any, codes: Any, w: Any, shape: tuple[int, int]) -> Floats:
    """Return the weight of the rows of each label and group, (k, G)."""
    flat = np.bincount(labels * shape[1] + codes, w, shape[0] * shape[1])
    return flat.astype(np.float64).reshape(shape)
