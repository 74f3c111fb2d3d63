"""Refusals: parameters that would have no effect, or contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any

from ..head.start import scores_classes
from ..inputs.warn import warn_user
from ..inputs.words import shown
from ..lowrank.importance import heads_of
from ..parity.constraints import largest_distance
from ..parity.table import TABLE
from .base import Solver
from .registry import resolve_solver

__all__ = [
    "check_fairness_parameters",
    "check_weight_or_bound",
    "names_folds",
    "penalty_of",
    "report_idle_folds",
    "report_void",
    "weight_of",
]

# Defaults of the classifier: what is not at them is to act.
_CV, _IMPORTANCE = 5, "fisher"


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
    weight, bound = clf.fairness_weight, clf.difference_bound
    if clf.constraint is None and (weight or bound is not None):
        name = "fairness_weight" if weight else "difference_bound"
        raise ValueError(
            f"{name}={getattr(clf, name)} has nothing to act on, because constraint is None; set "
            'constraint="demographic_parity" or another one.'
        )
    if weight is not None and bound is not None and clf.constraint is not None:
        raise ValueError(
            f"fairness_weight={weight} and difference_bound={bound} are both set, but a bound "
            "makes fit look for the weight; set one of them to None."
        )
    if bound is not None and clf.constraint is not None:
        largest = largest_distance(clf.constraint)
        if bound >= largest:
            raise ValueError(
                f"difference_bound={bound} asks for nothing: the distance of {clf.constraint!r} "
                f"is at most {largest}. Set a smaller bound, or constraint=None."
            )
    solver = resolve_solver(clf.solver)
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
    if bound is None and clf.confidence is not None:
        raise ValueError(
            f"confidence={clf.confidence} would have no effect: it says how sure difference_bound "
            "is to be, which is None. Set one, or leave it at None. (path.choose has its own.)"
        )


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
    if clf.constraint is None or TABLE[clf.constraint].weight is not None:
        return  # it has a weight of its own
    if clf.fairness_weight is not None or clf.difference_bound is not None:
        return
    if TABLE[clf.constraint].largest:
        raise ValueError(
            f"constraint={clf.constraint!r} does nothing by itself; set difference_bound (the "
            "largest rate that may be left in a group, such as 0.3) or fairness_weight (in [0, 1], "
            "its part beside accuracy; at 1 all rows are decided alike)."
        )
    else:
        raise ValueError(
            f"constraint={clf.constraint!r} does nothing by itself; set fairness_weight (the share "
            "of the disparity to take away, such as 0.8; 0 for none) or difference_bound (the "
            "largest distance that may be left, such as 0.05). fairness_path(clf, X, y, "
            "sensitive_features=groups) shows what each weight costs."
        )


def weight_of(clf: Any) -> float:
    """Return the weight of fairness of a classifier without a bound: its own or the constraint's.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier
    >>> weight_of(FairLowRankHeadClassifier(constraint="worst_group"))
    0.9
    """
    if clf.fairness_weight is not None or clf.constraint is None:
        return clf.fairness_weight or 0.0
    return TABLE[clf.constraint].weight or 0.0


def penalty_of(clf: Any) -> float | str:
    """Return a classifier's ``C``, or what its solver takes where that is None."""
    if clf.C is not None:
        given: float | str = clf.C
        return given
    # Of a rare cell there are few rows, however many there are in all.
    worst = clf.constraint is not None and TABLE[clf.constraint].largest
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
    if own and clf.difference_bound is None and not chooses:
        warn_user(
            f"cv={shown(clf.cv)} has no effect on the head: it judges difference_bound, which is "
            "None. Set one, or leave it at its default.",
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
