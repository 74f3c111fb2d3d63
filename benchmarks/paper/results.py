"""What both pages are made of: the rows, the findings, and all comparisons with their outcomes."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from .claims import findings
from .neutralization import FORMS, compare, compare_constrained
from .verdicts import Finding

OUTCOMES = {
    "helps": "helps",
    "costs": "less bias, not equal Err",
    "mixed": "mixed",
    "hurts": "hurts",
    "no difference": "no difference",
}


@dataclass(frozen=True)
class Results:
    """Rows, and what follows from them by the rules that were settled before."""

    frame: pd.DataFrame  # of `store.read`
    found: list[Finding]
    outcomes: pd.DataFrame  # of the method, by `neutralization.compare`
    forms: dict[str, pd.DataFrame]  # of its other forms that were run
    control: pd.DataFrame  # of the systems with a constraint


def results(frame: pd.DataFrame) -> Results:
    """Judge the rows once for both pages."""
    forms = {name: compare(frame, form) for name, form in FORMS.items()}
    forms = {name: each for name, each in forms.items() if len(each)}
    return Results(frame, findings(frame), compare(frame), forms, compare_constrained(frame))


def outcome_counts(outcomes: pd.DataFrame) -> dict[str, int]:
    """Return how many comparisons have each outcome, by names for a text."""
    return {key.replace(" ", "_"): (outcomes["outcome"] == key).sum() for key in OUTCOMES}
