"""What the comparisons of `neutralization` could have shown, whatever they did show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from .neutralization import EQUAL_ERR, LEAST, SIGNIFICANCE

MEASURED = ("Err", *LEAST)


@dataclass(frozen=True)
class Sides:
    """In how many comparisons a measure is lower and higher, each test by itself.

    ``chance`` is how many it would be on either side if nothing differed. Two heads that are the
    same are on neither side, and cannot be there by chance.
    """

    lower: int
    higher: int
    chance: float


def same_heads(outcomes: pd.DataFrame) -> pd.Series:
    """Tell which comparisons have the same measures in every seed."""
    ends = [f"{m} {end}" for m in MEASURED for end in ("low", "high")]
    return (outcomes[ends] == 0).all(axis=1)


def could_help(outcomes: pd.DataFrame) -> pd.Series:
    """Tell which comparisons show equal Err, as help requires, of heads that are not the same."""
    return (outcomes["Err high"] <= EQUAL_ERR) & ~same_heads(outcomes)


def surely_worse(outcomes: pd.DataFrame) -> pd.Series:
    """Tell in which comparisons Err is more than equal beyond doubt."""
    return outcomes["Err low"] > EQUAL_ERR


def sides(outcomes: pd.DataFrame, measure: str) -> Sides:
    """Count the one-sided tests of a measure that are significant without any adjustment."""
    below, above = outcomes[f"{measure} p below"], outcomes[f"{measure} p above"]
    # Of what is 0 in every seed both p-values are 1.
    tests = below.notna() & ~((below == 1) & (above == 1))
    return Sides(
        int((below < SIGNIFICANCE).sum()),
        int((above < SIGNIFICANCE).sum()),
        float(SIGNIFICANCE * tests.sum()),
    )


def visible(outcomes: pd.DataFrame, measure: str) -> pd.Series:
    """Return how much lower a measure would have to be in the mean to count as lower.

    Significant at the standard error that the seeds have, and at least `LEAST`. All tests of both
    measures count, as for the first of Holm's steps: next to others that are significant, a little
    less may do. A true difference of just this size is found about half the time.
    """
    tests = sum(int(outcomes[f"{m} p below"].notna().sum()) for m in LEAST)
    critical = stats.t.ppf(1 - SIGNIFICANCE / tests, outcomes[f"{measure} n"] - 1)
    return np.maximum(LEAST[measure], critical * outcomes[f"{measure} error"])
