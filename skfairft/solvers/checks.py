"""Refusals: parameters that would have no effect, or contradict each other."""

from __future__ import annotations

from typing import Any

from ..head.start import parse_head, scores_classes
from ..parity.constraints import largest_distance

__all__ = ["check_fairness_parameters", "check_head_for_solver", "check_weight_or_bound"]


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
    if clf.warm_start and clf.solver == "closed_form":
        raise ValueError(
            "warm_start=True goes on training a head, and solver='closed_form' trains none; set "
            "warm_start=False or another solver."
        )
    if not clf.calibrate and clf.solver != "fine_tune":
        raise ValueError(
            f"calibrate=False is a way to train, and solver={clf.solver!r} does not train against "
            'a penalty; set solver="fine_tune" or calibrate=True.'
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


def check_head_for_solver(head: Any, solver: str, n_classes: int) -> None:
    """Refuse what is no head, and one of the classes where label and group together are needed.

    Parameters
    ----------
    head, solver
        As given to the classifier.
    n_classes : int
        Number of classes k.

    Raises
    ------
    ValueError
        As `parse_head`, and for the scores of the classes with ``solver="plug_in"``.
    """
    if head is None:
        return
    linear, _ = parse_head(head)
    if solver == "plug_in" and scores_classes(head, n_classes):
        raise ValueError(
            f"head has {linear.out_features} outputs, for the {n_classes} classes, but "
            "solver='plug_in' needs the probabilities of label and group together, which such a "
            "head does not hold. Pass head=None, or the hidden layer before it."
        )
