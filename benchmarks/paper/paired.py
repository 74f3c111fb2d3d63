"""Means, and differences between two systems seed by seed.

All intervals are Student's, 95 %, over the seeds. The seeds' splits overlap, so they are a little
too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its interval, and the p-values of "it is below 0" and "above 0"."""

    mean: float
    low: float
    high: float
    std: float
    n: int
    p_below: float
    p_above: float

    @property
    def below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0

    @property
    def above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    def within(self, margin: float) -> bool:
        """Tell whether the whole interval is within a margin around 0."""
        return -margin < self.low and self.high < margin


def interval(values: np.ndarray | pd.Series) -> Interval:
    """Return mean and interval of one value per seed; what is not finite is left out."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    n = len(values)
    if n < 2:
        mean = float(values.mean()) if n else np.nan
        return Interval(mean, np.nan, np.nan, np.nan, n, np.nan, np.nan)
    mean, std = float(values.mean()), float(values.std(ddof=1))
    if std == 0:
        # All seeds agree; where two systems are the same head, on neither side of 0.
        return Interval(mean, mean, mean, 0.0, n, float(mean >= 0), float(mean <= 0))
    error = std / np.sqrt(n)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * error)
    below, above = (float(p(mean / error, n - 1)) for p in (stats.t.cdf, stats.t.sf))
    return Interval(mean, mean - half, mean + half, std, n, below, above)


def pick(frame: pd.DataFrame, **where) -> pd.DataFrame:
    """Return the rows with these values; None stands for a missing one."""
    keep = np.ones(len(frame), dtype=bool)
    for column, value in where.items():
        if column not in frame:
            keep &= value is None
        elif value is None:
            keep &= frame[column].isna().to_numpy()
        else:
            keep &= (frame[column] == value).to_numpy()
    return frame[keep]


def by_seed(frame: pd.DataFrame, column: str, **where) -> pd.Series:
    """Return a column of one system by seed.

    Raises
    ------
    ValueError
        If ``where`` leaves several rows of a seed.
    """
    rows = pick(frame, **where)
    if rows["seed"].duplicated().any():
        raise ValueError(f"{where} is more than one row of a seed")
    return rows.set_index("seed")[column].sort_index()


def difference(a: pd.Series, b: pd.Series) -> Interval:
    """Return the interval of a - b over the seeds that both have."""
    return interval((a - b).dropna())


def ratio(a: pd.Series, b: pd.Series) -> Interval:
    """Return the interval of a / b: the exponential of that of the mean log ratio.

    Its p-values are those of "a is below b" and "above b".
    """
    found = interval(np.log(a / b).dropna())
    return Interval(
        *(float(np.exp(x)) for x in (found.mean, found.low, found.high)),
        found.std,
        found.n,
        found.p_below,
        found.p_above,
    )


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for their number (Holm 1979); NaN stays and does not count."""
    p = np.asarray(p, dtype=np.float64)
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    factors = len(order) - np.arange(len(order))
    out[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return out
