"""Reports on predictions that are told the groups of the rows."""

from __future__ import annotations

from dataclasses import replace

from ..classifier import FairLowRankHeadClassifier
from ..summary.model import ModelSummary

__all__ = ["as_told", "check_told"]


def check_told(clf: FairLowRankHeadClassifier, wrapper: str | None) -> None:
    """Refuse a model, or a wrapper around it, whose predictions cannot be told the groups."""
    if not clf.solver_.votes:
        raise ValueError(
            "known_groups=True measures predictions that are told the groups, and heads of "
            f"{clf.solver_.label()} cannot use them; set known_groups=False, or fit with "
            'solver="plug_in".'
        )
    if wrapper is not None:
        raise ValueError(
            "known_groups=True measures predictions that are told the groups, but those of a "
            f"{wrapper} are of X alone; set known_groups=False, or pass the classifier inside it."
        )


def as_told(summary: ModelSummary, clf: FairLowRankHeadClassifier) -> ModelSummary:
    """Return the summary of predictions that are told the groups, which have their own weight."""
    found = getattr(clf, "known_groups_", None)  # of a bound
    if found is not None:
        summary = replace(summary, fairness_weight=found.fairness_weight, bounds=found.bounds)
    # Without a weight, too, the group decides; what is said of other predictions as well is due
    # to the weight.
    solver = clf.solver_
    said = [
        each for each in solver.told_caveats if summary.constrained or each not in solver.caveats
    ]
    return replace(summary, told_caveats=tuple(said))
