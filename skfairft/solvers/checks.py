"""Refusals: parameters that would have no effect, or contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..head.start import scores_classes
from ..inputs.warn import warn_user
from ..inputs.words import did_you_mean, shown
from ..lowrank.importance import heads_of
from ..parity.constraints import largest_distance
from ..parity.demands import Demand, each_of, read_demands
from ..parity.table import TABLE
from .base import Solver
from .registry import resolve_solver

__all__ = [
    "check_fairness_parameters",
    "check_weight_or_bound",
    "demands_of",
    "names_folds",
    "penalty_of",
    "report_idle_folds",
    "report_void",
    "weight_of",
]

# Defaults of the classifier: what is not at them is to act.
_CV, _IMPORTANCE = 5, "fisher"

# What is asked of the rates, and between what.
_ASKED = {"fairness_weight": (0, 1), "difference_bound": (0, 2), "ratio_bound": (0, 1)}


def check_fairness_parameters(clf: Any) -> None:
    """Refuse parameters of fairness that would have no effect, or contradict each other.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        Whose parameters are valid one by one.

    Raises
    ------
    ValueError
        Saying which, and what to do.
    """
    solver = resolve_solver(clf.solver)
    _check_demands(clf, solver)
    if clf.neutral_loss and solver.votes:
        raise ValueError(
            f"neutral_loss=True weights the groups anew, but solver={solver.name!r} needs "
            "probabilities of the rows as they are; set neutral_loss=False or another solver."
        )
    if clf.neutral_loss and isinstance(clf.group_weights, str) and clf.group_weights == "minimax":
        raise ValueError(
            'neutral_loss=True with group_weights="minimax", which are found where the head is '
            "cut, after it was fitted; set group_weights=None, or weights of the groups."
        )
    if clf.missing_groups == "estimate" and not solver.estimates_groups:
        raise ValueError(
            f'missing_groups="estimate" learns the groups of rows that have none, but solver='
            f'{solver.name!r} needs the group of each row. Set solver="plug_in", or '
            'missing_groups="error" and drop the rows without a group.'
        )
    by_group = heads_of(clf.importance) == "by_group"
    if by_group and (clf.head is not None or solver.votes or clf.warm_start):
        given, instead = "warm_start=True", "warm_start=False"
        if clf.head is not None:
            given, instead = f"head={type(clf.head).__name__}", "head=None"
        elif solver.votes:
            given, instead = f"solver={solver.name!r}", "another solver"
        raise ValueError(
            f"importance={clf.importance!r} fits a linear head of the classes on the rows of "
            f"each group, and does not go with {given}; set {instead}, or another importance."
        )
    bounded = any(each.bound is not None for each in demands_of(clf))
    if clf.confidence is not None and not bounded:
        raise ValueError(
            f"confidence={clf.confidence} would have no effect: it says how sure difference_bound "
            "or ratio_bound is to be, which are None. Set one, or leave it at None. (path.choose "
            "has its own.)"
        )


def _check_demands(clf: Any, solver: Solver) -> None:
    """Refuse what is asked of the rates if it is not valid, or contradicts itself."""
    given = {name: getattr(clf, name) for name in _ASKED}
    if clf.constraint is None:
        idle = [
            name
            for name, value in given.items()
            if value is not None and (name != "fairness_weight" or np.any(value))
        ]
        if idle:
            raise ValueError(
                f"{idle[0]}={shown(given[idle[0]])} has nothing to act on, because constraint is "
                'None; set constraint="demographic_parity" or another one.'
            )
        return
    names = [clf.constraint] if isinstance(clf.constraint, str) else list(clf.constraint)
    unknown = [name for name in names if not isinstance(name, str) or name not in TABLE]
    if not names or unknown or len(set(names)) < len(names):
        hint = did_you_mean(unknown[0], TABLE) if unknown and isinstance(unknown[0], str) else ""
        raise ValueError(
            f"constraint={shown(clf.constraint)}; expected a constraint or a list of different "
            f"ones, of {sorted(TABLE)}.{hint}"
        )
    if len(names) > 1 and not solver.several:
        raise ValueError(
            f"constraint={shown(clf.constraint)} are {len(names)}, but solver={solver.name!r} "
            'keeps one. Set solver="plug_in", or one constraint.'
        )
    for name, value in given.items():
        _check_numbers(name, value, names)
    each = [each_of(value, len(names)) for value in given.values()]
    for name, weight, difference, ratio in zip(names, *each, strict=True):
        of = f" of {name!r}" if len(names) > 1 else ""
        for called, bound in (("difference_bound", difference), ("ratio_bound", ratio)):
            if weight is not None and bound is not None:
                raise ValueError(
                    f"fairness_weight={weight} and {called}={bound}{of} are both set, but a bound "
                    "makes fit look for the weight; set one of them to None."
                )
        if difference is not None and difference >= largest_distance(name):
            raise ValueError(
                f"difference_bound={difference} asks for nothing: the distance of {name!r} "
                f"is at most {largest_distance(name)}. Set a smaller bound, or constraint=None."
            )
        if ratio is not None and TABLE[name].largest:
            raise ValueError(
                f"ratio_bound={ratio} is one on rates that are compared between groups, but "
                f"{name!r} is about the largest alone; set difference_bound (the largest that may "
                f"be left), and ratio_bound to None{' at its place' * bool(of)}."
            )


def _check_numbers(name: str, value: Any, constraints: list[str]) -> None:
    """Refuse what is no number in the parameter's range, or no list of one for each constraint."""
    several = each_of(value, len(constraints))
    low, high = _ASKED[name]
    right = [
        each is None
        or (
            isinstance(each, Real)
            and not isinstance(each, bool)
            and low <= float(each) <= high
            and (float(each) > 0.0 or name != "ratio_bound")
        )
        for each in several
    ]
    if len(several) == len(constraints) and all(right):
        return
    of = "(0, 1]" if name == "ratio_bound" else f"[{low}, {high}]"
    raise ValueError(
        f"{name}={shown(value)} for constraint={shown(constraints)}; expected a number in {of}, or "
        f"a list of {len(constraints)}, a number or None for each constraint."
    )


def demands_of(clf: Any) -> tuple[Demand, ...]:
    """Return what a classifier with valid parameters asks of the rates.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier
    >>> demands_of(FairLowRankHeadClassifier(constraint="demographic_parity", ratio_bound=0.8))
    (Demand(constraint='demographic_parity', ratio=True, bound=0.8, weight=None),)
    """
    return read_demands(clf.constraint, **{name: getattr(clf, name) for name in _ASKED})


def check_weight_or_bound(clf: Any) -> None:
    """Refuse a constraint that nothing says the strength of.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        To be fitted by itself: `fairness_path` sets weights.

    Raises
    ------
    ValueError
        If it has a constraint, but neither a weight nor a bound.
    """
    demands = demands_of(clf)
    for demand in demands:
        row = TABLE[demand.constraint]
        if demand.bound is not None or demand.weight is not None:
            continue
        if len(demands) == 1 and row.weight is not None:
            continue  # it has a weight of its own
        begin = f"constraint={demand.constraint!r} does nothing by itself; set difference_bound "
        if len(demands) > 1:
            begin = f"constraint={shown(clf.constraint)}, but nothing is set for "
            begin += f"{demand.constraint!r}; set at its place difference_bound "
        if row.largest:
            raise ValueError(
                f"{begin}(the largest rate that may be left in a group, such as 0.3) or "
                "fairness_weight (in [0, 1], its part beside accuracy; at 1 all rows are decided "
                "alike)."
            )
        raise ValueError(
            f"{begin}(the largest distance that may be left, such as 0.05), ratio_bound (the least "
            "that the smallest rate may be of the largest, such as 0.8) or fairness_weight (the "
            "share of the disparity to take away, such as 0.8; 0 for none). fairness_path(clf, X, "
            "y, sensitive_features=groups) shows what each weight costs."
        )


def weight_of(clf: Any) -> float:
    """Return the weight of fairness of a classifier without a bound: its own or the constraint's.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier
    >>> weight_of(FairLowRankHeadClassifier(constraint="worst_group"))
    0.9
    """
    demands = demands_of(clf)
    if not demands:
        return 0.0
    own, given = TABLE[demands[0].constraint].weight or 0.0, demands[0].weight
    return own if given is None else given


def penalty_of(clf: Any) -> float | str:
    """Return a classifier's ``C``, or what its solver takes where that is None."""
    if clf.C is not None:
        given: float | str = clf.C
        return given
    # Of a rare cell there are few rows, however many there are in all.
    worst = any(TABLE[each.constraint].largest for each in demands_of(clf))
    pretrained = clf.head is not None and not resolve_solver(clf.solver).votes
    return "auto" if worst and not pretrained else resolve_solver(clf.solver).default_C


def names_folds(cv: Any) -> bool:
    """Tell whether ``cv`` says which rows belong together: a splitter or pairs.

    Examples
    --------
    >>> names_folds(5), names_folds([([0], [1]), ([1], [0])])
    (False, True)
    """
    return not isinstance(cv, Real)


def report_void(tried: Sequence[Any], n_classes: int) -> None:
    """Say of parameters that nothing acts on, though a search may pass there on its way.

    Parameters
    ----------
    tried : sequence of FairLowRankHeadClassifier
        The classifier, with each of the ranks and solvers that it is tried with; said is what acts
        in none.
    n_classes : int
        Number of classes k.

    Warns
    -----
    UserWarning
        Saying which, and why.
    """
    void = [dict(_void(clf, resolve_solver(clf.solver), n_classes)) for clf in tried]
    for name, (given, why) in void[0].items():
        if all(name in each for each in void):
            warn_user(
                f"{given} has no effect on the head: {why}, or leave it at its default.",
                UserWarning,
            )


def report_idle_folds(clf: Any) -> None:
    """Say so if a classifier has folds of its own, but no bound that they judge.

    Warns
    -----
    UserWarning
        Saying so.
    """
    own = not (isinstance(clf.cv, int) and clf.cv == _CV)
    chooses = penalty_of(clf) == "auto" and names_folds(clf.cv)
    bounded = any(each.bound is not None for each in demands_of(clf))
    if own and not bounded and not chooses:
        warn_user(
            f"cv={shown(clf.cv)} has no effect on the head: it judges difference_bound and "
            "ratio_bound, which are None. Set one, or leave it at its default.",
            UserWarning,
        )


def _void(clf: Any, solver: Solver, n_classes: int) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield parameters without effect, as given, and why; what is at its default is none."""
    constrained = clf.constraint is not None  # a weight of 0 is one of a curve
    whole = clf.rank is None and not (constrained and solver.starts_with_constraint)
    why = "rank=None cuts nothing, which could be weighted. Set a rank"
    if whole and clf.importance != _IMPORTANCE:
        yield "importance", (f"importance={clf.importance!r}", why)
    unweighted = clf.importance == "uniform"
    found = isinstance(clf.group_weights, str) and clf.group_weights == "minimax"
    uncut = whole or (found and clf.rank is None)  # by what is cut these weights are found
    if clf.group_weights is not None and (uncut or unweighted):
        why = why if uncut else "importance='uniform' weights nothing. Set another importance"
        yield "group_weights", (f"group_weights={clf.group_weights!r}", why)
    pretrained = clf.head is not None and scores_classes(clf.head, n_classes) and not solver.votes
    going_on = clf.warm_start and hasattr(clf, "head_")
    if (pretrained or going_on) and not solver.trains:
        where = "goes on from the last fit's" if going_on else "is pre-trained"
        why = f"that {where}, and {solver.label()} trains nothing. Set another solver"
        if clf.C is not None:
            yield "C", (f"C={clf.C!r}", why)
        if clf.class_weight is not None and not constrained and (whole or unweighted):
            yield "class_weight", (f"class_weight={clf.class_weight!r}", why)
        if clf.neutral_loss and not constrained:
            yield "neutral_loss", ("neutral_loss=True", why)
    for names, why in solver.idle(clf.head, n_classes):
        for name in names:
            yield f"solver__{name}", (f"{name} of {type(solver).__name__}", why)
