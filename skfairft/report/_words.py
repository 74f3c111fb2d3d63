"""Rates, numbers and text as the page and the card show them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inputs.words import group_name
from ..parity.names import RATES, split_rate

if TYPE_CHECKING:
    from ._result import ModelReport

__all__ = [
    "PREDICTING",
    "between",
    "distances_are",
    "markdown",
    "number",
    "percent",
    "positive_class",
    "rate_name",
]

PREDICTING = (
    "No group is passed to predict; what the features say of the group, the head can use all the "
    "same."
)

_COLUMNS = RATES | {"error": "error", "f1": "weighted F1"}


def rate_name(metric: str) -> str:
    """Return the name of a column of the fairness report, such as ``tpr`` or ``tpr[a]``.

    Examples
    --------
    >>> rate_name("tpr"), rate_name("tpr[a]")
    ('true positive rate', 'true positive rate, class a')
    """
    name, label = split_rate(metric)
    return _COLUMNS[name] + ("" if label is None else f", class {label}")


def positive_class(report: ModelReport) -> str:
    """Return which class the rates take for positive, in a sentence.

    Of a model of several classes it can be one, too: where only two are among labels and decisions.
    """
    if report.fairness.positive is None:
        return "Each class in turn is the positive one, against the rest."
    return f"The positive class is {group_name(report.fairness.positive)}."


def distances_are(report: ModelReport) -> str:
    """Return what the two distances are, in sentences."""
    words = (
        "The demographic parity distance is the largest difference between two groups in the "
        "selection rate. The equalized odds distance is the sum of the largest differences in true "
        "and in false positive rate, at most 2."
    )
    if report.fairness.positive is None:
        words += " Of several classes, each is that of the class in which it is largest."
    return words


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
