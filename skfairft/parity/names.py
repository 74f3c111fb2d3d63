"""What rates and distances are called: in plots, summaries, reports and errors alike."""

from __future__ import annotations

__all__ = ["DISTANCES", "RATES", "split_rate"]

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


def split_rate(name: str) -> tuple[str, str | None]:
    """Return the rate and the positive label, None where there is one only, of a column's name.

    Examples
    --------
    >>> split_rate("tpr"), split_rate("fpr[a[0]]")
    (('tpr', None), ('fpr', 'a[0]'))
    """
    rate, bracket, label = name.partition("[")
    return rate, label.removesuffix("]") if bracket else None
