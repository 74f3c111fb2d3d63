"""The table of constraints: which rates each compares, and what rates and distances are called.

Plain numbers and words. Penalty, plug-in rule, closed form, bound, path, metrics, displays and
reports read this table and name no constraint, so a constraint is added by a row.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "RATES",
    "REPORTED",
    "STATED",
    "TABLE",
    "Constraint",
    "Rate",
    "by_metric",
    "by_ratio",
    "metric_of",
    "ratio_of",
    "split_rate",
]


@dataclass(frozen=True)
class Rate:
    """A rate of rows, of one class, the positive one, against the rest.

    Parameters
    ----------
    name : str
        In words.
    short : str
        In a word.
    counted : tuple ((negative, negative), (negative, positive)) of pairs of numbers
        What a row adds to the numerator, by [true][predicted], 0 for negative and 1 for positive.
    of : tuple (negative, positive) of numbers
        What a row adds to the denominator, by its true label.
    pooled : bool, default=False
        Whether both are summed over all classes, each the positive one in turn, before they are
        divided: a rate of no class in particular.

    Examples
    --------
    >>> RATES["tpr"].of, RATES["tpr"].counted
    ((0, 1), ((0, 0), (0, 1)))
    """

    name: str
    short: str
    counted: tuple[tuple[float, float], tuple[float, float]]
    of: tuple[float, float]
    pooled: bool = False

    @property
    def cells(self) -> dict[tuple[int, int], float]:
        """What is counted, by (true, predicted), without zeros."""
        each = {(t, p): self.counted[t][p] for t in (0, 1) for p in (0, 1)}
        return {cell: n for cell, n in each.items() if n}

    @property
    def of_all(self) -> bool:
        """Whether it is of all rows, whatever their labels."""
        return self.pooled or self.of[0] == self.of[1]

    @property
    def predictions_alone(self) -> bool:
        """Whether, among the rows that it is of, predictions matter and true labels do not.

        Then scores whose mean among these rows is the same in all groups are what equal rates come
        to, to first order.
        """
        others, own = self.counted
        same = all(self.of[0] * a == self.of[1] * b for a, b in zip(own, others, strict=True))
        return same and not self.pooled


@dataclass(frozen=True)
class Constraint:
    """What is to be the same in all groups, or as good as can be in the worst of them.

    Parameters
    ----------
    title : str
        Its name in words.
    rates : tuple of str
        Names of the rates; the distance adds up their largest differences.
    distance : str
        What that distance is called.
    meaning : str, default=""
        What it is, where its name does not say so.
    largest : bool, default=False
        Whether the largest rate counts, which is to be small, and not how far rates are apart. The
        "distance" is that rate.
    each_class : bool, default=False
        Whether the rates are those of every class in turn, also of two.
    metric : str, default=""
        What its number is called in tables; the empty name is the constraint's with "_distance".
    weight : float, default=None
        The weight of fairness where none is given and no bound.

    Examples
    --------
    >>> TABLE["equalized_odds"].rates
    ('tpr', 'fpr')
    """

    title: str
    rates: tuple[str, ...]
    distance: str
    meaning: str = ""
    largest: bool = False
    each_class: bool = False
    metric: str = ""
    weight: float | None = None

    @property
    def of_all(self) -> bool:
        """Whether its rates are of all rows, so that no group has to have any one class."""
        return all(RATES[name].of_all for name in self.rates)

    @property
    def predictions_alone(self) -> bool:
        """Whether true labels do not matter at all."""
        kinds = [RATES[name] for name in self.rates]
        return all(kind.predictions_alone and kind.of_all for kind in kinds)


# By (true, predicted). A row that is decided wrong is a false positive of one class, and each row
# is a positive of one class, however many there are.
RATES = {
    "selection_rate": Rate("selection rate", "selection", ((0, 1), (0, 1)), of=(1, 1)),
    "tpr": Rate("true positive rate", "TPR", ((0, 0), (0, 1)), of=(0, 1)),
    "fpr": Rate("false positive rate", "FPR", ((0, 1), (0, 0)), of=(1, 0)),
    "fnr": Rate("false negative rate", "FNR", ((0, 0), (1, 0)), of=(0, 1)),
    "tnr": Rate("true negative rate", "TNR", ((1, 0), (0, 0)), of=(1, 0)),
    "error": Rate("error rate", "error", ((0, 1), (0, 0)), of=(0, 1), pooled=True),
}
"""Rates by their name, the columns of a report."""

TABLE = {
    "demographic_parity": Constraint(
        "demographic parity",
        ("selection_rate",),
        "demographic parity distance",
        "largest difference of selection rates",
    ),
    "equalized_odds": Constraint(
        "equalized odds",
        ("tpr", "fpr"),
        "equalized odds distance",
        "difference of true plus of false positive rates",
    ),
    "true_positive_rate_parity": Constraint(
        "true positive rate parity", ("tpr",), "largest difference of true positive rates"
    ),
    "false_positive_rate_parity": Constraint(
        "false positive rate parity", ("fpr",), "largest difference of false positive rates"
    ),
    "true_negative_rate_parity": Constraint(
        "true negative rate parity", ("tnr",), "largest difference of true negative rates"
    ),
    "false_negative_rate_parity": Constraint(
        "false negative rate parity", ("fnr",), "largest difference of false negative rates"
    ),
    "error_rate_parity": Constraint(
        "error rate parity", ("error",), "largest difference of error rates"
    ),
    # A row of a class that is decided otherwise is a false negative of that class.
    "worst_group": Constraint(
        "worst group",
        ("fnr",),
        "worst-group error",
        "largest error rate of a class of a group",
        largest=True,
        each_class=True,
        metric="worst_group_error",
        weight=0.9,
    ),
    "worst_error_rate": Constraint(
        "worst error rate",
        ("error",),
        "largest error rate",
        "that of the group in which it is largest",
        largest=True,
        metric="worst_error_rate",
        weight=0.9,
    ),
    # At a weight of 1 all rows are decided alike: what is to be held is named by a bound.
    "worst_false_negative_rate": Constraint(
        "worst false negative rate",
        ("fnr",),
        "largest false negative rate",
        "1 minus the least true positive rate of a group",
        largest=True,
        metric="worst_false_negative_rate",
    ),
    "worst_false_positive_rate": Constraint(
        "worst false positive rate",
        ("fpr",),
        "largest false positive rate",
        "that of the group in which it is largest",
        largest=True,
        metric="worst_false_positive_rate",
    ),
}
"""Constraints by their name, that of fairlearn's moments where it has them."""

# What every report tells of each group; FNR and TNR are what these leave to 1.
REPORTED = ("selection_rate", "tpr", "fpr", "error")

# Constraints whose numbers every report and every path states: those of the paper, and the worst.
STATED = ("demographic_parity", "equalized_odds", "worst_group")


def by_metric() -> dict[str, str]:
    """Return the constraints by what `metric_of` calls them.

    Examples
    --------
    >>> by_metric()["equalized_odds_distance"]
    'equalized_odds'
    """
    return {metric_of(name): name for name in TABLE}


def by_ratio() -> dict[str, str]:
    """Return the constraints that compare rates by what `ratio_of` calls their ratio.

    Examples
    --------
    >>> by_ratio()["equalized_odds_ratio"]
    'equalized_odds'
    """
    return {ratio_of(name): name for name, row in TABLE.items() if not row.largest}


def ratio_of(constraint: str) -> str:
    """Return what the smallest ratio of a constraint's rates is called.

    Examples
    --------
    >>> ratio_of("equalized_odds")
    'equalized_odds_ratio'
    """
    return f"{constraint}_ratio"


def metric_of(constraint: str) -> str:
    """Return what the number is called that says how far decisions are from a constraint.

    Examples
    --------
    >>> metric_of("equalized_odds"), metric_of("worst_group")
    ('equalized_odds_distance', 'worst_group_error')
    """
    return TABLE[constraint].metric or f"{constraint}_distance"


def split_rate(name: str) -> tuple[str, str | None]:
    """Return the rate and the positive label, None where there is one only, of a column's name.

    Examples
    --------
    >>> split_rate("tpr"), split_rate("fpr[a[0]]")
    (('tpr', None), ('fpr', 'a[0]'))
    """
    rate, bracket, label = name.partition("[")
    return rate, label.removesuffix("]") if bracket else None
