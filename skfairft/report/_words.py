"""Names, numbers and lists as the page and the card show them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from .._report import group_parts

__all__ = [
    "CONSTRAINTS",
    "DISTANCES",
    "RATES",
    "between",
    "group_name",
    "listed",
    "markdown",
    "number",
    "percent",
    "rate_name",
]

# More names than this in one sentence are no longer read; the rest is counted.
_MAX_LISTED = 8

CONSTRAINTS = {
    "demographic_parity": "demographic parity",
    "equalized_odds": "equalized odds",
    "true_positive_rate_parity": "true positive rate parity",
    "false_positive_rate_parity": "false positive rate parity",
}

DISTANCES = {
    "demographic_parity": "demographic parity distance",
    "equalized_odds": "equalized odds distance",
    "true_positive_rate_parity": "largest difference of true positive rates",
    "false_positive_rate_parity": "largest difference of false positive rates",
}

RATES = {
    "selection_rate": "selection rate",
    "tpr": "true positive rate",
    "fpr": "false positive rate",
    "error": "error",
    "f1": "weighted F1",
}


def rate_name(metric: str) -> str:
    """Return the name of a column of the fairness report, such as ``tpr`` or ``tpr[a]``.

    Examples
    --------
    >>> rate_name("tpr"), rate_name("tpr[a]")
    ('true positive rate', 'true positive rate, class a')
    """
    name, bracket, label = metric.partition("[")
    return RATES[name] + (f", class {label[:-1]}" if bracket else "")


def group_name(group: Any) -> str:
    """Return the name of a group on one line; an intersection's parts stand side by side.

    Examples
    --------
    >>> group_name(("f", 3)), group_name("f")
    ('f / 3', 'f')
    """
    return " / ".join(group_parts(group))


def listed(names: Iterable[Any]) -> str:
    """Return names in a sentence; of many, the first and how many more.

    Examples
    --------
    >>> listed("ab"), listed(range(10))
    ('a, b', '0, 1, 2, 3, 4, 5, 6, 7 and 2 more')
    """
    texts = [str(name) for name in names]
    more = len(texts) - _MAX_LISTED
    return ", ".join(texts[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def number(value: Any, digits: int = 3) -> str:
    """Return a number, or that it is undefined.

    Examples
    --------
    >>> number(0.12345), number(float("nan"))
    ('0.123', 'undefined')
    """
    return "undefined" if np.isnan(value) else f"{value:.{digits}f}"


def percent(value: Any, digits: int = 1) -> str:
    r"""Return a number of hundredths with its sign, which stay on one line.

    Examples
    --------
    >>> percent(12.345)
    '12.3\xa0%'
    """
    shown = number(value, digits)
    return shown if shown == "undefined" else f"{shown}\N{NO-BREAK SPACE}%"


def between(low: Any, high: Any, digits: int = 3) -> str:
    """Return an interval, or nothing where there is none.

    Examples
    --------
    >>> between(0.1, 0.25), between(float("nan"), float("nan"))
    ('[0.100, 0.250]', '')
    """
    return "" if np.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def markdown(text: str) -> str:
    r"""Return text that Markdown shows as it is, also in a table.

    Examples
    --------
    >>> print(markdown("*a*|<b> a_b _c_ < & [0, 1] [d](e) &lt;"))
    \*a\*\|&lt;b> a_b \_c\_ < & [0, 1] [d\](e) &amp;lt;
    """
    plain = re.sub(r"&(?=[#\w]+;)", "&amp;", " ".join(text.split()))
    plain = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain)
    # An underscore inside a word, and brackets that are no link, mean nothing.
    return re.sub(r"([\\`*|~$#]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:]))", r"\\\1", plain)
