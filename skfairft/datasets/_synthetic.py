"""Synthetic classification data whose disparity is known."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..inputs.randomness import generator

__all__ = ["make_biased_classification"]

# Proportions that miss a sum of 1 by less were meant to sum to 1 and were rounded.
_PROPORTION_TOLERANCE = 1e-6


def make_biased_classification(
    n_samples: int = 1000,
    n_features: int = 10,
    *,
    n_informative: int = 4,
    n_proxies: int = 2,
    n_classes: int = 2,
    n_groups: int = 2,
    disparity: float = 0.3,
    group_proportions: ArrayLike | None = None,
    class_sep: float = 1.0,
    proxy: float = 1.0,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Make a classification problem whose labels have a known disparity.

    For two classes, the share of class 1 rises linearly over the groups::

        P(y = 1 | g) = 1/2 + disparity * (g / (n_groups - 1) - 1/2),   g = 0 .. n_groups - 1

    from ``1/2 - disparity/2`` in the first group to ``1/2 + disparity/2`` in the
    last. For more classes, this is the share of all classes but class 0, and the
    classes 1, 2, ... divide it equally. The shares hold as counts, not on
    average: class 0 has the nearest whole number of rows in each group. So the share
    of class 0 in the first group exceeds that in the last by ``disparity``, up to
    ``1 / (rows of the smaller group)``. With two classes this is the demographic
    parity distance of the labels; with more, each other class differs by
    ``disparity / (n_classes - 1)``.

    A row of class y and group g has the features::

        x = e + [ m_y | proxy * t_g / sqrt(n_proxies) * 1 | 0 ],   e ~ N(0, I)

    The first ``n_informative`` columns tell the class: any two of their means
    ``m_0, m_1, ...`` are ``2 * class_sep`` apart, in directions drawn at random.
    The next ``n_proxies`` columns tell the group, with ``t_g`` rising linearly
    from -1 to 1. The remaining columns are noise. Because group and class go
    together, a classifier gains by using the proxies, and then repeats the
    disparity; this is the bias in the data's name.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    n_features : int, default=10
        Number of columns of X; at least ``n_informative + n_proxies``.
    n_informative : int, default=4
        Number of columns that depend on the class; at least ``n_classes``.
    n_proxies : int, default=2
        Number of columns that depend on the group; at least 1. The strength of
        the proxies together does not depend on their number.
    n_classes : int, default=2
        Number of classes; at least 2.
    n_groups : int, default=2
        Number of groups; at least 2.
    disparity : float, default=0.3
        Difference of ``P(y != 0)`` between the last group and the first, in
        [0, 1]. At 1 the first group has rows of class 0 only and the last none.
    group_proportions : array-like of shape (n_groups,), default=None
        Share of the rows in each group, positive with sum 1; None is the same
        share for each. Sizes are rounded so that they add up to ``n_samples``.
    class_sep : float, default=1.0
        Half the distance between the means of two classes, in standard
        deviations of the noise, >= 0. With two classes, no disparity and no
        proxy, the best classifier is right with probability ``Phi(class_sep)``,
        Phi being the normal distribution function.
    proxy : float, default=1.0
        Half the distance between the first group's mean and the last one's, in
        standard deviations of the noise, >= 0. With 0 the group leaves no trace:
        given the class, X does not depend on it.
    random_state : int, RandomState, Generator or None, default=None
        An int makes the result reproducible; None draws a new one each time.
        NumPy's global random state is neither read nor changed.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float64
        Features.
    y : ndarray of shape (n_samples,), int64
        Classes, 0 to ``n_classes - 1``.
    sensitive_features : ndarray of shape (n_samples,), int64
        Groups, 0 to ``n_groups - 1``.

    Raises
    ------
    ValueError
        For a parameter out of its range, or a group without a row.

    Notes
    -----
    Rows are in random order. With the same ``random_state``, changing
    ``class_sep`` or ``proxy`` moves the rows but keeps y, the groups and the noise.

    Examples
    --------
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, disparity=0.4, random_state=0)
    >>> X.shape
    (1000, 10)
    >>> [float(y[s == g].mean()) for g in (0, 1)]
    [0.3, 0.7]
    """
    _check_int("n_samples", n_samples, 1)
    _check_int("n_classes", n_classes, 2)
    _check_int("n_groups", n_groups, 2)
    _check_int("n_informative", n_informative, n_classes, " (n_classes)")
    _check_int("n_proxies", n_proxies, 1)
    _check_int("n_features", n_features, n_informative + n_proxies, " (n_informative + n_proxies)")
    _check_number("disparity", disparity, 1.0)
    _check_number("class_sep", class_sep, np.inf)
    _check_number("proxy", proxy, np.inf)
    rng = generator(random_state)

    sizes = _apportion(n_samples, _proportions(group_proportions, n_groups))
    if 0 in sizes:
        raise ValueError(
            f"n_samples={n_samples} and group_proportions={group_proportions!r} leave no row for "
            f"group {sizes.index(0)}: the groups' sizes are {sizes}. Ask for more rows or fewer "
            "groups, or raise that group's proportion."
        )
    s_sorted = np.repeat(np.arange(n_groups), sizes)
    y_sorted = np.concatenate(
        [
            np.repeat(np.arange(n_classes), _class_counts(size, rate, n_classes))
            for size, rate in zip(
                sizes, 0.5 + disparity * np.linspace(-0.5, 0.5, n_groups), strict=True
            )
        ]
    )
    order = rng.permutation(n_samples)
    y, s = y_sorted[order].astype(np.int64), s_sorted[order].astype(np.int64)

    # Orthonormal rows lie sqrt(2) apart.
    directions = np.linalg.qr(rng.standard_normal((n_informative, n_classes)))[0].T
    means = np.sqrt(2.0) * class_sep * (directions - directions.mean(axis=0))
    shift = proxy * np.linspace(-1.0, 1.0, n_groups) / np.sqrt(n_proxies)
    X = rng.standard_normal((n_samples, n_features))
    X[:, :n_informative] += means[y]
    X[:, n_informative : n_informative + n_proxies] += shift[s, None]
    return X, y, s


def _check_int(name: str, value: Any, low: int, source: str = "") -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name}={value!r}; expected an integer >= {low}{source}.")


def _check_number(name: str, value: Any, high: float) -> None:
    number = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    if not number or not np.isfinite(value) or not 0.0 <= value <= high:
        expected = "a finite number >= 0" if np.isinf(high) else f"a number in [0, {high:g}]"
        raise ValueError(f"{name}={value!r}; expected {expected}.")


def _proportions(group_proportions: ArrayLike | None, n_groups: int) -> NDArray[np.float64]:
    """Return the groups' shares with sum 1."""
    if group_proportions is None:
        return np.full(n_groups, 1.0 / n_groups)
    shares: NDArray[np.float64] = np.array(group_proportions, dtype=np.float64)
    if shares.shape != (n_groups,):
        raise ValueError(
            f"group_proportions has shape {shares.shape}; expected ({n_groups},), one share for "
            "each of the n_groups groups."
        )
    # In this form the conditions fail for NaN, too.
    if not (shares > 0).all() or not abs(shares.sum() - 1.0) <= _PROPORTION_TOLERANCE:
        raise ValueError(
            f"group_proportions={shares.tolist()} with sum {shares.sum():g}; expected positive "
            "shares with sum 1."
        )
    shares /= shares.sum()
    return shares


def _class_counts(size: int, rate: float, n_classes: int) -> list[int]:
    """Return how many of a group's rows each class has, where ``rate`` is P(y != 0)."""
    first, others = _apportion(size, [1.0 - rate, rate])
    # Class 0 is rounded on its own: rounding all classes together could move it by a whole row.
    return [first, *_apportion(others, np.full(n_classes - 1, 1.0 / (n_classes - 1)))]


def _apportion(total: int, shares: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Split a whole number by shares with sum 1 into whole numbers (largest remainders)."""
    exact = total * np.asarray(shares)
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")
    counts[largest[: total - counts.sum()]] += 1
    return [int(count) for count in counts]
