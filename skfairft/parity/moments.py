"""Moments: rates that are to be equal between groups, or small, and how far they are from that.

Everything here is a function of one table of sums over rows, additive over batches and machines:

========= ============== ==================================================================
``mass``  (k, G, k)      sum of ``w p_j`` over the rows of true label y and group g, by
                         [y, g, j], where ``p`` is a probability or a decision (0 or 1)
``count`` (k, G)         sum of ``w`` over the same rows
rates     (..., m, G)    of each group, for each of m moments of the constraint
========= ============== ==================================================================

A moment is a rate with coefficients ``C`` and ``E`` of the true and the predicted label::

    rate[m, g] = sum_yj C[m, y, j] mass[y, g, j] / sum_y E[m, y] count[y, g]

They are those of `skfairft.parity.table`, between a positive class c and the rest: ``counted[y ==
c][j == c]`` and ``of[y == c]``. With two classes c is ``classes_[1]``; with more, each class in
turn, as in `skfairft.metrics`; or it is the one that is asked for. A pooled rate sums both over
all c.

Where each sensitive column is compared by itself, sums and counts are those of its levels, see
`skfairft.parity.levels`: there is a moment for each of x columns, and L levels in place of groups.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.words import shown
from .arrays import Numbers, as_in, highest, library, lowest
from .levels import Levels
from .table import RATES, Rate
from .tally import Floats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Parity",
    "divide",
    "extremes",
    "largest",
    "largest_sum",
    "moments",
    "nonzero",
    "shortfall",
    "spread",
]

# Tables of few classes are summed as they are, by all coefficients; of many most are zero.
_MOST_COEFFICIENTS = 2**12


@dataclass(frozen=True)
class Parity:
    """Moments: some rates of each positive class in turn.

    Parameters
    ----------
    kinds : tuple of Rate
        The rates; those of one class are neighbours.
    positives : range
        The classes.
    events : ndarray of shape (m, k)
        ``E``, how much rows of a true label count: 0 or 1, or see `moments`.
    class_weight : ndarray of shape (k,) or None
        See `moments`.
    largest : bool, default=False
        Whether the largest rate counts, and not how far rates are apart.
    levels : Levels, optional
        What is compared in place of groups; "G" below is then L, and there are x times as many
        moments.
    ratio : bool, default=False
        Whether rates are compared by their ratio, and not by their difference. The "distance" is
        then how much the smallest ratio falls short of 1.
    """

    kinds: tuple[Rate, ...]
    positives: range
    events: Floats
    class_weight: Floats | None = None
    largest: bool = False
    levels: Levels | None = None
    ratio: bool = False

    @property
    def least_groups(self) -> int:
        """How many groups must have a rate for it to be measured: to be compared, two."""
        return 1 if self.largest else 2

    @property
    def conditions(self) -> Floats | None:
        """The events, each once, within which a score's mean is to be equal: (c, k).

        None if no mean of scores tells of the rates, because they ask whether predictions are
        right, or because they are not to be equal. With more than two classes, rates that know the
        true label ask for it within each label that they are of: the rows of several labels
        together are no event of their own, because how a group's rows divide over them is not the
        head's doing.
        """
        if self.largest or not all(kind.predictions_alone for kind in self.kinds):
            return None
        n_classes = self.events.shape[1]
        distinct = list(dict.fromkeys(map(tuple, self.events.tolist())))
        if n_classes > 2 and not all(kind.of_all for kind in self.kinds):
            return np.eye(n_classes)[self.events.any(axis=0)]
        return np.array(distinct)

    @property
    def n_columns(self) -> int:
        """How many columns are compared, each by itself; intersections are one."""
        return 1 if self.levels is None else len(self.levels.columns)

    def present(self, n_groups: int) -> NDArray[np.bool_]:
        """Return which places of the rates (m, G) are of groups, or levels."""
        if self.levels is None:
            return np.ones((len(self.events), n_groups), dtype=np.bool_)
        n_classes, kinds = len(self.events) // len(self.kinds), len(self.kinds)
        return np.tile(self.levels.present.repeat(kinds, axis=0), (n_classes, 1))

    def origin(self, moment: int) -> tuple[int, int]:
        """Return the number of a moment's event, and of its column."""
        own, kind = divmod(moment, len(self.kinds))
        of_class, column = divmod(own, self.n_columns)
        return of_class * len(self.kinds) + kind, column

    def name(self, moment: int, place: int, groups: Sequence[Any]) -> str:
        """Return what a rate is of in words: one of ``groups`` (G,), or a level."""
        if self.levels is None:
            return shown(groups[place])
        return self.levels.name(self.origin(moment)[1], place)

    def compared(self, values: Numbers) -> Numbers:
        """Return sums of what is compared: (..., m, G) of groups; of levels see `Levels`."""
        return values if self.levels is None else self.levels.merged(values, kinds=len(self.kinds))

    def paid(self, prices: Numbers) -> Numbers:
        """Return the prices that groups pay, the transpose of `compared`."""
        return prices if self.levels is None else self.levels.divided(prices, kinds=len(self.kinds))

    def counts(self, count: Numbers) -> Numbers:
        """Return what the rates are shares of: (..., k, G) -> (..., m, G)."""
        return self.compared(as_in(self.events, count) @ count)

    def of_cells(self, prices: Numbers) -> Numbers:
        """Return what a row adds to ``sum(prices * counts)``, the transpose of `counts`: (k, G)."""
        return as_in(self.events, prices).T @ self.paid(prices)

    def behind(self, rows: Numbers) -> Numbers:
        """Return `counts` of rows, whatever weights their classes have."""
        return self.compared(as_in((self.events > 0).astype(np.float64), rows) @ rows)

    def fewest_groups(self, count: Floats) -> int:
        """Return in how many groups the rate that has rows in the fewest has them."""
        return int((self.counts(count) > 0).sum(axis=-1).min())

    def sums(self, mass: Numbers) -> Numbers:
        """Return the numerators of the rates, ``sum_yj C mass``: (..., k, G, k) -> (..., m, G)."""
        return self.compared(self.sums_of_groups(mass))

    def sums_of_groups(self, mass: Numbers) -> Numbers:
        """Return `sums` of the groups, whatever is compared."""
        if self._coefficients is None:
            return self._sums(mass)
        by_cell = mass.swapaxes(-1, -2).reshape(*mass.shape[:-3], -1, mass.shape[-2])
        return as_in(self._coefficients, mass) @ by_cell

    def spend(self, prices: Tensor) -> Tensor:
        """Return what a row adds to ``sum(prices * sums)``: (m, G) -> (k, G, k).

        By true label, group and predicted label: the transpose of `sums`.

        Examples
        --------
        A false positive of group 0 costs 2, of group 1 it costs 3:

        >>> import torch
        >>> moments(["fpr"], 2).spend(torch.tensor([[2.0, 3.0]]).double()).tolist()
        [[[0.0, 2.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]]
        """
        k, prices = self.events.shape[1], self.paid(prices)
        if self._coefficients is not None:
            by_cell = prices.T @ as_in(self._coefficients, prices)
            return by_cell.reshape(-1, k, k).swapaxes(0, 1)
        torch = library(prices)
        with torch.enable_grad():
            mass = prices.new_zeros(k, prices.shape[1], k, requires_grad=True)
            (out,) = torch.autograd.grad(self._sums(mass), mass, prices)
        return out

    @cached_property
    def _coefficients(self) -> Floats | None:
        """``C`` as a matrix (m, k * k), to sum small tables at once; None where it is large."""
        m, k = self.events.shape
        if m * k * k > _MOST_COEFFICIENTS:
            return None
        one_each = np.eye(k * k).reshape(k * k, k, 1, k)
        return np.ascontiguousarray(self._sums(one_each)[..., 0].T)

    def _sums(self, mass: Numbers) -> Numbers:
        """Return `sums` from the parts of the table that each kind of rate counts."""
        xp = library(mass)
        if self.class_weight is not None:
            mass = mass / as_in(self.class_weight, mass)[:, None, None]
        parts = self._against_the_rest(mass)
        own = slice(self.positives.start, self.positives.stop)
        by_kind = []  # each (..., G, c)
        for kind in self.kinds:
            total = reduce(operator.add, (n * parts[cell] for cell, n in kind.cells.items()))
            if kind.pooled:
                total = xp.broadcast_to(total.sum(-1)[..., None], total.shape)
            by_kind.append(total[..., own])
        by_class = xp.stack(by_kind, -1)
        return by_class.reshape(*by_class.shape[:-2], -1).swapaxes(-1, -2)

    def _against_the_rest(self, mass: Numbers) -> dict[tuple[int, int], Numbers]:
        """Return sums (..., G, k) of each class against the rest, by (true, predicted).

        They are sums, not differences of totals, in which small weights would drown.
        """
        others = as_in(1.0 - np.eye(mass.shape[-1]), mass)
        wrong = mass * others[:, None, :]
        wrongly = wrong.sum(-3)
        # Of the other classes' rows, those that are not predicted it.
        rest = mass.sum(-1).swapaxes(-1, -2) @ others - wrongly
        missed, right = wrong.sum(-1).swapaxes(-1, -2), library(mass).diagonal(mass, 0, -3, -1)
        return {(1, 1): right, (1, 0): missed, (0, 1): wrongly, (0, 0): rest}

    def rates(self, mass: Numbers, count: Numbers) -> Numbers:
        """Return rates (..., m, G) of tables (..., k, G, k), (k, G); NaN without such a row.

        Examples
        --------
        Of group 0 both rows are predicted 1, of group 1 none:

        >>> mass = np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
        >>> moments(["selection_rate"], 2).rates(mass, mass.sum(axis=-1))
        array([[1., 0.]])
        """
        return divide(self.sums(mass), self.counts(count))

    def gaps(self, rates: Numbers, count: Numbers) -> Numbers:
        """Return the rates (..., m, G) minus those of all groups pooled; NaN stays NaN."""
        counts = self.counts(count)
        sums = (library(rates).nan_to_num(rates, nan=0.0) * counts).sum(-1)
        return rates - (sums / nonzero(counts.sum(-1)))[..., None]

    def distance(self, rates: Numbers) -> Numbers:
        """Return the distance between groups: rates (..., m, G) -> (...).

        The largest rate minus the smallest, summed over the moments of a class (true and false
        positive rate for equalized odds, as in `equalized_odds_distance`), and of these the
        largest over classes, and over columns. Where the largest rate counts, nothing is
        subtracted; by ratio it is the largest `shortfall` of any moment. Rates that are NaN are
        left out.

        Examples
        --------
        >>> rates = np.array([[0.9, 0.7], [0.2, 0.1]])
        >>> round(moments(["tpr", "fpr"], 2).distance(rates).item(), 3)
        0.3
        """
        return self.joined(self._by_class(self.apart(rates)))

    def known_distance(self, rates: Numbers, rounding: float = 0.0) -> Numbers:
        """Return `distance` of what is known: a moment of too few rates counts as 0.

        With ``rounding`` a difference x counts as ``(x^2 + rounding^2)^1/2 - rounding``, which has
        no kink where the rates are equal.
        """
        xp = library(rates)
        apart = xp.nan_to_num(self.apart(rates), nan=0.0)
        if rounding:
            apart = xp.sqrt(apart**2 + rounding**2) - rounding
        return self.joined(self._by_class(apart))

    def apart(self, rates: Numbers) -> Numbers:
        """Return how far the rates of a moment are from the constraint: (..., G) -> (...)."""
        if self.ratio:
            return shortfall(rates)
        return largest(rates) if self.largest else spread(rates)

    def joined(self, apart: Numbers) -> Numbers:
        """Return the distance that those of r rates of c classes make: (..., c, r) -> (...)."""
        return largest_sum(apart.reshape(*apart.shape[:-2], -1, 1) if self.ratio else apart)

    def _by_class(self, values: Numbers) -> Numbers:
        """Return values (..., m) by class (and column) and rate, (..., c, r)."""
        return values.reshape(*values.shape[:-1], -1, len(self.kinds))


def divide(sums: Numbers, counts: Numbers) -> Numbers:
    """Return the quotient, NaN where there is nothing to divide by."""
    # Not 0 / 0: what is left out later would still have a derivative that is NaN.
    return library(sums).where(counts > 0, sums / nonzero(counts), np.nan)


def extremes(rates: Numbers) -> tuple[Numbers, Numbers]:
    """Return the smallest and the largest rate: (..., G) -> (...) twice.

    Rates that are NaN are left out; of fewer than two others both are NaN.
    """
    xp = library(rates)
    unknown = xp.isnan(rates)
    if rates.shape[-1] > 1 and not unknown.any():
        return lowest(rates), highest(rates)
    alone = (~unknown).sum(-1) < 2
    low = lowest(xp.where(unknown, np.inf, rates))
    high = highest(xp.where(unknown, -np.inf, rates))
    return xp.where(alone, np.nan, low), xp.where(alone, np.nan, high)


def largest(rates: Numbers) -> Numbers:
    """Return the largest rate: (..., G) -> (...); those that are NaN are left out.

    Examples
    --------
    >>> largest(np.array([[0.5, 0.25, np.nan], [np.nan, np.nan, np.nan]])).tolist()
    [0.5, nan]
    """
    xp = library(rates)
    found = highest(xp.where(xp.isnan(rates), -np.inf, rates))
    return xp.where(found == -np.inf, np.nan, found)


def spread(rates: Numbers) -> Numbers:
    """Return the largest rate minus the smallest: (..., G) -> (...).

    Rates that are NaN are left out; of fewer than two others it is NaN.

    Examples
    --------
    >>> spread(np.array([[0.5, 0.25, np.nan], [0.5, np.nan, np.nan]])).tolist()
    [0.25, nan]
    """
    low, high = extremes(rates)
    return high - low


def shortfall(rates: Numbers) -> Numbers:
    """Return 1 minus the smallest rate divided by the largest: (..., G) -> (...).

    Rates that are NaN are left out; of fewer than two others it is NaN. Rates that are all 0 are
    the same.

    Examples
    --------
    >>> shortfall(np.array([[0.5, 0.25, np.nan], [0.0, 0.0, 0.0]])).tolist()
    [0.5, 0.0]
    """
    low, high = extremes(rates)
    return 1.0 - library(rates).where(high == 0.0, 1.0, low / nonzero(high))


def largest_sum(spreads: Numbers) -> Numbers:
    """Return the distance that spreads (..., c, r) of r rates of c classes make: (...).

    Summed over the rates, and of that the largest over classes. A class whose sum is NaN is left
    out; it is NaN if all are.

    Examples
    --------
    >>> float(largest_sum(np.array([[0.25, 0.5], [np.nan, 1.0]])))
    0.75
    """
    per_class = spreads.sum(-1)
    return per_class[..., 0] if per_class.shape[-1] == 1 else largest(per_class)


def moments(
    rates: Sequence[str],
    n_classes: int,
    *,
    positives: range | None = None,
    class_weight: Floats | None = None,
    largest: bool = False,
    levels: Levels | None = None,
) -> Parity:
    """Return the moments of some rates.

    Parameters
    ----------
    rates : sequence of str
        Names of `RATES`.
    n_classes : int
        Number of classes k.
    positives : range, optional
        The positive classes, in turn. None is class 1 of two, and each of several.
    class_weight : ndarray of shape (k,), optional
        Factors of the classes, > 0, in the weights of the rows that the moments are taken of. A
        rate is one of the rows as they are: the moments divide by them.
    largest : bool, default=False
        As for `Parity`.
    levels : Levels, optional
        As for `Parity`.

    Examples
    --------
    >>> moments(["tpr", "error"], 3, positives=range(2, 3)).events.tolist()
    [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if positives is None:
        positives = range(int(n_classes == 2), n_classes)
    rule = _moments(tuple(rates), n_classes, positives, largest)
    if class_weight is not None:
        rule = replace(rule, events=rule.events / class_weight, class_weight=class_weight)
    return rule if levels is None else replace(rule, levels=levels)


@lru_cache(maxsize=64)  # a scorer asks for the same ones again and again
def _moments(rates: tuple[str, ...], n_classes: int, positives: range, largest: bool) -> Parity:
    kinds = tuple(RATES[name] for name in rates)
    if all(kind.pooled for kind in kinds):
        positives = positives[:1]  # which one does not matter
    own = np.eye(n_classes)
    events = [kind.of[0] * (1.0 - own) + kind.of[1] * own for kind in kinds]
    events = [
        np.broadcast_to(each.sum(axis=0), each.shape) if kind.pooled else each
        for kind, each in zip(kinds, events, strict=True)
    ]
    events = [each[j] for j in positives for each in events]
    return Parity(kinds, positives, np.stack(events), largest=largest)


def nonzero(counts: Numbers) -> Numbers:
    """Return counts to divide sums by that are zero where the counts are."""
    return library(counts).where(counts > 0, counts, 1.0)
