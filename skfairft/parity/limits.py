"""Confidence limits of the distance between groups, from tables of decisions.

========= ================ ==================================================================
table     (..., G, k, k)   sum of the weights in the cell [g, true, predicted]; leading axes,
                           if any, are candidates: heads, multipliers, thresholds
squares   (..., G, k, k)   sum of the squared weights there; without weights the same table
rates     (..., c, r, G)   of each group, for each of r kinds of rate of c positive classes
rows      (..., c, r, G)   n, the rows without weights that would tell as much of each rate
========= ================ ==================================================================

Each rate has limits l and h of its own, see `skfairft.parity.rate_limits`. A *contrast* is what a
distance is the largest of: of one class, for each kind of rate an ordered pair of different groups,
and of these the sum of ``rate_i - rate_j``. With d the value of a contrast, its limits are (MOVER,
the method of variance estimates recovery)::

    upper = d + sqrt(sum_i (h_i - rate_i)^2 + sum_j (rate_j - l_j)^2)
    lower = d - sqrt(sum_i (rate_i - l_i)^2 + sum_j (h_j - rate_j)^2)

The distance is within a bound if and only if all contrasts are. So it is safe to say so if the
upper limit of each contrast, at its own confidence, is within it (an intersection-union test): the
upper limit of the distance is the largest of them, and nothing need be corrected for how many there
are.

Where the largest rate counts, the contrasts are the rates, one by one: the upper limit is the
largest of theirs, and 1 if there is a rate that no row tells of. The lower limit is the largest of
theirs, too, each at the level at which all hold together.

The lower limit is that of the contrast of the observed extremes, and at least 0. These were chosen
because they are far apart, so its z is larger: what equal groups exceed by chance, see
`chance_quantile`. Where the rates were made alike on the same rows, that is so upwards, too: see
`skfairft.parity.tied`.

Where each sensitive column is compared by itself, the columns of a class are classes of their own
here. Their rates are of the same rows, so that their errors are not independent, as those that
are drawn or multiplied here; of normal errors all that is said here then errs to the safe side
(Royen's inequality: what is near 0 together is so more often than if each were by itself).

By ratio a distance is how much the smallest ratio falls short of 1, so that its limits are 1 minus
those of `skfairft.parity.ratio_limits`: the upper one is the largest of the moments', the lower one
as well, each at the level at which all hold together.

Zou and Donner (2008), Stat. Med. 27; Berger (1982), Technometrics 24.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from .cells import Floats
from .chance import chance_quantile, chance_size
from .contrasts import (
    BLOCK_ELEMENTS,
    Ends,
    Pairs,
    first_places,
    largest_before,
    ordered_pairs,
    taken,
)
from .counts import as_mass
from .moments import Parity, largest, shortfall
from .rate_limits import effective_rows, wilson_limits
from .ratio_limits import ratio_limits
from .tied import tied_limit

__all__ = ["DistanceLimits", "distance_limits", "limits_between", "rows_needed"]

# More rows than so many times those that there are, nobody gets.
_MOST_TIMES = 1e6


@dataclass(frozen=True)
class DistanceLimits:
    """Distances between groups with their limits.

    Parameters
    ----------
    distance, low, high : ndarray of shape (...)
        One of each table; NaN where fewer than two groups have the rates.
    """

    distance: Floats
    low: Floats
    high: Floats


def distance_limits(
    rule: Parity,
    table: Floats,
    squares: Floats,
    *,
    confidence: float = 0.95,
    inflation: float = 1.0,
    tuned: bool | NDArray[np.bool_] = False,
) -> DistanceLimits:
    """Return the distance between groups in each table, with a lower and an upper limit.

    Parameters
    ----------
    rule : Parity
        The moments of the constraint, of rows as they are (without ``class_weight``).
    table, squares : ndarray of shape (..., G, k, k)
        Sums of weights and of squared weights, see the module.
    confidence : float, default=0.95
        Of the upper limit alone, in [0.5, 1). Both limits together are an interval of
        ``2 * confidence - 1``: for one of 95 %, 0.975.
    inflation : float, default=1.0
        By how much to widen each rate's error: it is one of ``rows / inflation**2`` rows. More than
        1 pays for decisions that are not quite those of the head that is handed out, because that
        one is fitted anew on all rows.
    tuned : bool or ndarray of shape (...), default=False
        Whether the decisions were found on these rows, so that several rates are the highest by
        design: then the upper limit is at least `tied_limit`.

    Returns
    -------
    DistanceLimits
        Of shape (...). Rates that are NaN are left out, as in `Parity.distance`.

    Examples
    --------
    Of 100 rows of each group 60 and 50 are selected, of ten times as many the same shares:

    >>> import numpy as np
    >>> from skfairft.parity.constraints import parity
    >>> one = np.array([[[20.0, 30.0], [20.0, 30.0]], [[25.0, 25.0], [25.0, 25.0]]])
    >>> tables = np.stack([one, 10 * one])
    >>> found = distance_limits(parity("demographic_parity", 2), tables, tables)
    >>> found.distance.round(3).tolist()
    [0.1, 0.1]
    >>> found.low.round(3).tolist(), found.high.round(3).tolist()
    ([0.0, 0.063], [0.212, 0.136])
    """
    rates, rows = _rates_and_rows(rule, table, squares)
    if rule.largest:
        found = _limits_of_largest(rates, rows / inflation**2, confidence)
        # Of a rate that no row tells of nothing can be said but that it is at most 1.
        present = rule.present(table.shape[-3]).reshape(rates.shape[-3:])
        unknown = (np.isnan(rates) & present).any(axis=(-3, -2, -1))
        found = replace(found, high=np.where(unknown & ~np.isnan(found.high), 1.0, found.high))
    elif rule.ratio:
        found = _limits_of_shortfall(rates, rows / inflation**2, confidence)
    else:
        found = limits_between(rates, rows / inflation**2, confidence=confidence)
    alike = np.array(np.broadcast_to(tuned, found.high.shape))
    if alike.any():
        z, own, high = max(1.0, float(norm.ppf(confidence))), rates[alike], np.array(found.high)
        limits = wilson_limits(own, rows[alike] / inflation**2, z)
        tied = tied_limit(rule, own, *limits, z, confidence)
        high[alike] = np.maximum(high[alike], tied)
        found = replace(found, high=high)
    return found


def _limits_of_largest(rates: Floats, rows: Floats, confidence: float) -> DistanceLimits:
    """Return the largest of rates (..., c, 1, G) with its limits."""
    flat, behind = (each.reshape(*each.shape[:-3], -1) for each in (rates, rows))
    known = np.maximum((~np.isnan(flat)).sum(axis=-1), 1)
    # That no lower limit of so many is above its rate; they are of different rows.
    z = np.array(norm.ppf(confidence ** (1.0 / known)))
    low, _ = wilson_limits(flat, behind, z[..., None])
    _, high = wilson_limits(flat, behind, float(norm.ppf(confidence)))
    return DistanceLimits(*(largest(each) for each in (flat, low, high)))


def _limits_of_shortfall(rates: Floats, rows: Floats, confidence: float) -> DistanceLimits:
    """Return the largest shortfall of the ratios of rates (..., c, r, G) with its limits."""
    rates, rows = (each.reshape(*each.shape[:-3], -1, each.shape[-1]) for each in (rates, rows))
    below = shortfall(rates)
    none = np.isnan(below)
    moments = max(1, int((~none).sum(axis=-1).max()))
    each = (2.0 * confidence - 1.0) ** (1.0 / moments)
    lowest, _ = ratio_limits(rates, rows, confidence=confidence)
    _, highest = ratio_limits(rates, rows, confidence=(1.0 + each) / 2.0)
    # Of rates that are all 0 nothing is known of the ratio.
    low, high = 1.0 - np.nan_to_num(highest, nan=1.0), 1.0 - np.nan_to_num(lowest, nan=0.0)
    return DistanceLimits(
        *(largest(np.where(none, np.nan, values)) for values in (below, low, high))
    )


def limits_between(rates: Floats, rows: Floats, *, confidence: float = 0.95) -> DistanceLimits:
    """Return `distance_limits` of rates that are known, of so many effective rows.

    Parameters
    ----------
    rates, rows : ndarray of shape (..., c, r, G)
        See the module; NaN and 0 where a group has no such rows.
    confidence : float, default=0.95
        As for `distance_limits`.

    Examples
    --------
    Each of two rates by itself, as one kind of one class:

    >>> rates = np.array([[0.6, 0.5], [0.3, 0.3]])[:, None, None]
    >>> found = limits_between(rates, np.full_like(rates, 100.0))
    >>> found.distance.round(3).tolist(), found.high.round(3).tolist()
    ([0.1, 0.0], [0.212, 0.106])
    """
    low, high = wilson_limits(rates, rows, float(norm.ppf(confidence)))
    upper = _upper(rates, (high - rates) ** 2, (rates - low) ** 2)

    ends, (n_classes, kinds) = Ends.of(rates), rates.shape[-3:-1]
    # One of several classes is the furthest apart by chance, too.
    level = (2.0 * confidence - 1.0) ** (1.0 / n_classes)
    z = ends.by_chance(lambda n_groups: chance_quantile(n_groups, kinds, level))
    low, high = wilson_limits(rates, rows, z[..., None, None])
    variance = ends.variance((high - rates) ** 2, (rates - low) ** 2)
    lower = -ends.most(np.sqrt(variance) - ends.apart)  # of what least is known of
    return DistanceLimits(ends.distance, np.maximum(lower, 0.0), upper)


def rows_needed(
    rule: Parity,
    table: Floats,
    squares: Floats,
    bound: float,
    *,
    n_rows: int,
    inflation: float = 1.0,
    confidence: float = 0.95,
    power: float = 0.8,
    tuned: bool = False,
) -> Floats:
    """Return how many rows it would take to find the distance within a bound.

    The standard error s of the contrast of the extremes shrinks by the square root of the number of
    rows. Part of the observed distance D is chance: that of equal groups has a root mean square of
    ``chance_size s``. What remains, ``D_f``, is taken for the distance of many rows. There must be
    room below the bound for the error above D_f, and for what equal groups have by chance::

        D_f  = sqrt(max(0, D^2 - (chance_size s)^2))
        rows = n_rows (s max((z_confidence + z_power) / (bound - D_f),
                             (z_confidence + chance_quantile(power)) / bound))^2

    Where the largest rate counts, it is the most that any rate takes,
    ``n_rows (s (z_confidence + z_power) / (bound - rate))^2``. By ratio, it is how many bring the
    upper limit of the same rates within the bound, at ``z_confidence + z_power``.

    Parameters
    ----------
    rule, table, squares, inflation :
        As for `distance_limits`.
    bound : float
        What the upper limit is to be at most.
    n_rows : int
        Number of rows in the table.
    confidence : float, default=0.95
        Of the upper limit.
    power : float, default=0.8
        Share of the samples of so many rows in which the upper limit is within the bound.
    tuned : bool, default=False
        As for `distance_limits`, of one table: then it is at least as many rows as bring the limit
        of the same rates within the bound. By ratio it is of one table, too.

    Returns
    -------
    ndarray of shape (...)
        Whole numbers; inf where more rows do not help, because D_f is not below the bound. NaN
        where the distance is.

    Notes
    -----
    A plan, not a promise: it takes the groups for equally large and, with several classes, the one
    that is furthest apart for the only one. The error s, times ``inflation``, is that of Agresti
    and Caffo (2000), Am. Stat. 54, with a row of either outcome added to each group: never 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skfairft.parity.constraints import parity
    >>> table = np.array([[[20.0, 30.0], [20.0, 30.0]], [[25.0, 25.0], [25.0, 25.0]]])
    >>> rule = parity("demographic_parity", 2)
    >>> [rows_needed(rule, table, table, b, n_rows=200).item() for b in (0.2, 0.1, 0.04)]
    [364.0, 7614.0, inf]
    """
    rates, rows = _rates_and_rows(rule, table, squares)
    shrunk = (rates * rows + 1.0) / (rows + 2.0)
    variance = shrunk * (1.0 - shrunk) / (rows + 2.0)
    z, z_power = float(norm.ppf(confidence)), float(norm.ppf(power))
    given: Any = {"n_rows": n_rows, "inflation": inflation, "tuned": tuned}
    if rule.ratio:
        surer = float(norm.cdf(z + z_power))
        return _enough(rule, table, squares, bound, confidence=surer, **given)
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is left
        if rule.largest:
            left = bound - rates.reshape(*rates.shape[:-3], -1)
            error = inflation * np.sqrt(variance.reshape(left.shape))
            times = (z + z_power) / left * error
        else:
            ends, kinds = Ends.of(rates), rates.shape[-2]
            error = inflation * np.sqrt(ends.variance(variance, variance))
            chance = ends.by_chance(lambda n_groups: chance_size(n_groups, kinds)) * error
            left = bound - np.sqrt(np.maximum(ends.apart**2 - chance**2, 0.0))
            z_chance = ends.by_chance(lambda n_groups: chance_quantile(n_groups, kinds, power))
            times = np.maximum((z + z_power) / left, (z + z_chance) / bound) * error
        wanted = np.where(left <= 0.0, np.inf, np.ceil(n_rows * times**2))
    found = largest(wanted) if rule.largest else ends.most(wanted)
    if not tuned or not np.isfinite(found):
        return found
    return np.maximum(found, _enough(rule, table, squares, bound, confidence=confidence, **given))


def _enough(
    rule: Parity,
    table: Floats,
    squares: Floats,
    bound: float,
    *,
    n_rows: int,
    inflation: float,
    confidence: float,
    tuned: bool,
) -> Floats:
    """Return how many rows like those of one table bring the limit of its rates within a bound."""

    def within(factor: float) -> bool:
        limits = distance_limits(
            rule,
            factor * table,
            factor * squares,
            confidence=confidence,
            inflation=inflation,
            tuned=tuned,
        )
        return bool(limits.high <= bound)

    low, high = 0.0, np.log(_MOST_TIMES)  # of the factor's logarithm
    if not within(_MOST_TIMES):
        return np.array(np.inf)
    while high - low > 0.01:
        middle = (low + high) / 2.0
        low, high = (low, middle) if within(float(np.exp(middle))) else (middle, high)
    return np.ceil(n_rows * np.exp(np.array(high)))


def _rates_and_rows(rule: Parity, table: Floats, squares: Floats) -> tuple[Floats, Floats]:
    """Return rates and effective rows by class and kind, (..., c, r, G)."""
    mass = as_mass(table)
    rates = rule.rates(mass, mass.sum(axis=-1))
    rows = effective_rows(rule, table, squares)
    shape = *rates.shape[:-2], -1, len(rule.kinds), rates.shape[-1]
    return rates.reshape(shape), rows.reshape(shape)


def _upper(rates: Floats, above: Floats, below: Floats) -> Floats:
    """Return the largest upper limit (...) of all contrasts of rates (..., c, r, G).

    ``above`` and ``below`` are squared distances from the rates to their limits.
    """
    flat = (each.reshape(-1, *each.shape[-2:]) for each in (rates, above, below))
    found = [_largest_sum_of(*_fronts(pairs)) for pairs in ordered_pairs(*flat)]
    highest = np.concatenate(found).reshape(rates.shape[:-2]).max(axis=-1)
    return np.where(np.isinf(highest), np.nan, highest)


def _fronts(pairs: Pairs) -> tuple[Floats, Floats]:
    """Return difference and variance of the pairs that no other pair beats, each (b, r, f).

    One that has less of both than another of the same kind is in no contrast of the largest limit;
    of the 870 pairs of thirty groups few are left. Places that remain have difference -inf.
    """
    flat = *pairs.none.shape[:-2], -1
    difference = np.where(pairs.none, -np.inf, pairs.larger - pairs.smaller).reshape(flat)
    variance = np.where(pairs.none, 0.0, pairs.above + pairs.below).reshape(flat)
    order = np.argsort(-difference, axis=-1, kind="stable")
    difference, variance = taken(difference, order), taken(variance, order)
    beaten = variance <= largest_before(variance)
    kept = first_places(~beaten)
    return taken(np.where(beaten, -np.inf, difference), kept), taken(variance, kept)


def _largest_sum_of(differences: Floats, variances: Floats) -> Floats:
    """Return the largest sum of differences plus root of the variances' sum: (b, r, f) -> (b,).

    One place is taken of each of the r kinds, in all combinations.
    """
    kinds, width = differences.shape[-2:]
    size = max(1, BLOCK_ELEMENTS // width**kinds)
    found = []
    for start in range(0, len(differences), size):
        difference, variance = (each[start : start + size] for each in (differences, variances))
        d, v = difference[:, 0], variance[:, 0]
        for kind in range(1, kinds):
            d = (d[:, :, None] + difference[:, kind, None]).reshape(len(d), -1)
            v = (v[:, :, None] + variance[:, kind, None]).reshape(len(v), -1)
        found.append((d + np.sqrt(v)).max(axis=-1))
    return np.concatenate(found)
