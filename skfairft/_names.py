"""What rates, distances and groups are called: in plots, summaries, reports and errors alike."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from ._report import group_parts

__all__ = ["DISTANCES", "RATES", "did_you_mean", "group_name", "listed", "split_rate"]

# More names than this in one sentence are no longer read; the rest is counted.
_MOST_NAMES = 8

RATES = {
    "selection_rate": "selection rate",
    "tpr": "true positive rate",
    "fpr": "false positive rate",
}

# By the constraint that holds it.
DISTANCES = {
    "demographic_parity": "demographic parity distance",
    "equalized_odds": "equalized odds distance",
    "true_positive_rate_parity": "largest difference of true positive rates",
    "false_positive_rate_parity": "largest difference of false positive rates",
}


def group_name(group: Any) -> str:
    """Return the name of a group on one line; an intersection's parts stand side by side.

    Examples
    --------
    >>> group_name(("f", 3)), group_name("f")
    ('f / 3', 'f')
    """
    return " / ".join(group_parts(group))


def split_rate(name: str) -> tuple[str, str | None]:
    """Return the rate and the positive label, None where there is one only, of a column's name.

    Examples
    --------
    >>> split_rate("tpr"), split_rate("fpr[a[0]]")
    (('tpr', None), ('fpr', 'a[0]'))
    """
    rate, bracket, label = name.partition("[")
    return rate, label.removesuffix("]") if bracket else None


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return a sentence that names the nearest of the known names, or nothing.

    Examples
    --------
    >>> did_you_mean("trp", ["tpr", "fpr"]), did_you_mean("x", ["tpr"])
    (" Did you mean 'tpr'?", '')
    """
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def listed(names: Iterable[Any]) -> str:
    """Return names of groups or classes in a sentence; of many, the first and how many more.

    Examples
    --------
    >>> listed("ab"), listed(range(10))
    ('a, b', '0, 1, 2, 3, 4, 5, 6, 7 and 2 more')
    """
    texts = [group_name(name) for name in names]
    more = len(texts) - _MOST_NAMES
    return ", ".join(texts[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
