"""Refusals: parameters that would have no effect, or contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..head.start import scores_classes
from ..inputs.warn import warn_user
from ..lowrank.importance import heads_of
from ..parity.constraints import largest_distance
from .base import Solver
from .registry import resolve_solver

__all__ = ["check_fairness_parameters", "check_weight_or_bound", "report_void"]

# Defaults of the classifier: what is not at them is to act.
_VALIDATION_FRACTION, _IMPORTANCE, _STRENGTH = 0.1, "fisher", 1.0


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
    if heads_of(clf.importance) == "by_group":
        solver = resolve_solver(clf.solver)
        if clf.head is not None or solver.votes or clf.warm_start:
            given = "warm_start=True" if clf.warm_start else f"solver={solver.name!r}"
            given = given if clf.head is None else f"head={type(clf.head).__name__}"
            raise ValueError(
                f"importance={clf.importance!r} fits a linear head of the classes on the rows of "
                f"each group, and does not go with {given}; set head=None, another solver or "
                "warm_start=False, or another importance."
            )
    if bound is None and clf.validation_fraction != _VALIDATION_FRACTION:
        raise ValueError(
            f"validation_fraction={clf.validation_fraction} would have no effect: it is the share "
            "of the rows that difference_bound is judged on, which is None. Set one, or leave it "
            "at its default. (What FineTune and PlugIn hold out to stop early is their own "
            "validation_fraction.)"
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
    if clf.constraint is not None and clf.fairness_weight is None and clf.difference_bound is None:
        raise ValueError(
            f"constraint={clf.constraint!r} does nothing by itself; set fairness_weight (the share "
            "of the disparity to take away, such as 0.8; 0 for none) or difference_bound (the "
            "largest distance that may be left, such as 0.05). fairness_path(clf, X, y, "
            "sensitive_features=groups) shows what each weight costs."
        )


def report_void(clf: Any, n_classes: int) -> None:
    """Say of parameters that nothing acts on, though a search may pass there on its way.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        Whose parameters are checked.
    n_classes : int
        Number of classes k.

    Warns
    -----
    UserWarning
        Saying which, and why.
    """
    for names, why in _void(clf, resolve_solver(clf.solver), n_classes):
        given = " and ".join(f"{name}={getattr(clf, name)!r}" for name in names)
        warn_user(
            f"{given} {'have' if len(names) > 1 else 'has'} no effect on the head: {why}, or leave "
            f"{'them at their defaults' if len(names) > 1 else 'it at its default'}.",
            UserWarning,
        )


def _void(clf: Any, solver: Solver, n_classes: int) -> Iterator[tuple[list[str], str]]:
    """Yield names of parameters without effect, and why; what is at its default is none."""
    changed = [] if clf.group_weights is None else ["group_weights"]
    if clf.rank is None and (clf.constraint is None or not solver.starts_with_constraint):
        changed = ([] if clf.importance == _IMPORTANCE else ["importance"]) + changed
        if changed:
            yield changed, "rank=None cuts nothing, which could be weighted. Set a rank"
    elif clf.importance == "uniform" and changed:
        yield changed, "importance='uniform' weights nothing. Set another importance"
    pretrained = clf.head is not None and scores_classes(clf.head, n_classes) and not solver.votes
    going_on = clf.warm_start and hasattr(clf, "head_")
    if clf.C != _STRENGTH and (pretrained or going_on) and not solver.trains:
        why = "goes on from the last fit's" if going_on else "is pre-trained"
        yield ["C"], f"that {why}, and {solver.label()} trains nothing. Set another solver"
