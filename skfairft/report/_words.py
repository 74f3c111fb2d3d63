"""Rates, numbers and text as the page and the card show them."""

from __future__ import annotations

import re
from typing import Any

from ..displays._tradeoff_points import ERROR_NAME
from ..inputs.words import group_name, one_line
from ..metrics.tables import Cell, measured, number
from ..parity.table import RATES, TABLE, by_metric, by_ratio, split_rate
from ._facts import Facts

__all__ = [
    "RATES_ARE",
    "calibration_is",
    "distances_are",
    "headline_name",
    "markdown",
    "of_path",
    "percent",
    "positive_class",
    "predicting",
    "rate_name",
]

RATES_ARE = (
    "The selection rate is the share of positive decisions; the true (false) positive rate is "
    "their share among the rows whose label is positive (negative)."
)

_COLUMNS = {name: rate.name for name, rate in RATES.items()} | {"f1": "weighted F1"}


def rate_name(metric: str) -> str:
    """Return the name of a column of the fairness report, such as ``tpr`` or ``tpr[a]``.

    Examples
    --------
    >>> rate_name("tpr"), rate_name("tpr[a]")
    ('true positive rate', 'true positive rate, class a')
    """
    name, label = split_rate(metric)
    return _COLUMNS[name] + ("" if label is None else f", class {one_line(label)}")


def headline_name(metric: str) -> str:
    """Return the name of a number of the fairness report's headline.

    Examples
    --------
    >>> headline_name("equalized_odds_distance")
    'equalized odds distance'
    """
    if metric == "weighted_f1_error":
        return ERROR_NAME
    if metric in by_ratio():
        return f"smallest ratio, {TABLE[by_ratio()[metric]].title}"
    return TABLE[by_metric()[metric]].distance


def positive_class(facts: Facts) -> str:
    """Return which class the rates take for positive, in a sentence.

    Of a model of several classes it can be one, too: where only two are among labels and decisions.
    """
    if facts.fairness.positive is None:
        return "Each class in turn is the positive one, against the rest."
    return f"The positive class is {group_name(facts.fairness.positive)}."


def distances_are(facts: Facts) -> str:
    """Return what the distances and the worst group are, in sentences."""
    words = (
        "The demographic parity distance is the largest difference between two groups in the "
        "selection rate. The equalized odds distance is the sum of the largest differences in true "
        "and in false positive rate, at most 2."
    )
    if facts.fairness.positive is None:
        words += " Of several classes, each is that of the class in which it is largest."
    if facts.by_column:
        words += (
            " Groups are here those of each sensitive column by itself, and each distance that of "
            "the column in which it is largest."
        )
    return f"{words} The worst-group error is the largest error rate of a class of a group."


def calibration_is(facts: Facts) -> str:
    """Return what is measured of the estimates, in sentences, or why it is not."""
    if facts.calibration is None:
        return (
            "Not measured: the decisions are not the classifier's own, nor need its estimates be "
            "those that they rest on."
        )
    which = "The estimate is that of predict_proba."
    if facts.summary.cells:
        which = "The estimate is that of predict_label_proba, before the votes, " + (
            "of rows whose group is told." if facts.known_groups else "from the features alone."
        )
    return (
        f"{which} The bias is its mean minus the share of the class; the calibration error how far "
        "it typically is from that share among rows of such an estimate, without what chance adds. "
        "Where the lower end of the interval is above 0 it is more than chance. Calibrated is not "
        "accurate."
    )


def of_path(row: Any, column: str, digits: int = 3) -> Cell:
    """Return a number of a row of a path's table, with its interval."""
    numbers = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    return measured(*numbers, digits=digits)


def percent(value: Any, digits: int = 1) -> str:
    r"""Return a number of hundredths with its sign, which stay on one line.

    Examples
    --------
    >>> percent(12.345)
    '12.3\xa0%'
    """
    shown = number(value, digits)
    return shown if shown == "undefined" else f"{shown}\N{NO-BREAK SPACE}%"


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


def predicting(facts: Facts) -> str:
    """Return whether the groups were passed to predict."""
    if facts.known_groups:
        return "The groups of the rows were passed to predict, and decided with the features."
    return (
        "No group is passed to predict; what the features say of the group, the head can use all "
        "the same."
    )
