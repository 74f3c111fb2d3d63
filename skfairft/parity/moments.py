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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, reduce
from typing import Any

import torch
from torch import Tensor

from ..inputs.words import shown
from .levels import Levels
from .table import RATES, Rate

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
    events : Tensor of shape (m, k), float64
        ``E``, how much rows of a true label count: 0 or 1, or see `moments`.
    class_weight : Tensor of shape (k,), float64, or None
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
    events: Tensor
    class_weight: Tensor | None = None
    largest: bool = False
    levels: Levels | None = None
    ratio: bool = False

    @property
    def least_groups(self) -> int:
        """How many groups must have a rate for it to be measured: to be compared, two."""
        return 1 if self.largest else 2

    @property
    def conditions(self) -> Tensor | None:
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
            return torch.eye(n_classes, dtype=torch.float64)[self.events.any(dim=0)]
        return torch.tensor(distinct, dtype=torch.float64)

    @property
    def n_columns(self) -> int:
        """How many columns are compared, each by itself; intersections are one."""
        return 1 if self.levels is None else len(self.levels.columns)

    def present(self, n_groups: int) -> Tensor:
        """Return which places of the rates (m, G) are of groups, or levels: bool."""
        if self.levels is None:
            return torch.ones(len(self.events), n_groups, dtype=torch.bool)
        n_classes = len(self.events) // len(self.kinds)
        by_column = self.levels.present[:, None].expand(n_classes, -1, len(self.kinds), -1)
        return by_column.flatten(0, 2)

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

    def compared(self, values: Tensor) -> Tensor:
        """Return sums of what is compared: (..., m, G) of groups; of levels see `Levels`."""
        return values if self.levels is None else self.levels.merged(values, kinds=len(self.kinds))

    def paid(self, prices: Tensor) -> Tensor:
        """Return the prices that groups pay, the transpose of `compared`."""
        return prices if self.levels is None else self.levels.divided(prices, kinds=len(self.kinds))

    def counts(self, count: Tensor) -> Tensor:
        """Return what the rates are shares of: (..., k, G) -> (..., m, G)."""
        return self.compared(self.events @ count)

    def fewest_groups(self, count: Tensor) -> int:
        """Return in how many groups the rate that has rows in the fewest has them."""
        return int((self.counts(count) > 0).sum(dim=-1).min())

    def sums(self, mass: Tensor) -> Tensor:
        """Return the numerators of the rates, ``sum_yj C mass``: (..., k, G, k) -> (..., m, G)."""
        return self.compared(self.sums_of_groups(mass))

    def sums_of_groups(self, mass: Tensor) -> Tensor:
        """Return `sums` of the groups, whatever is compared."""
        if self._coefficients is None:
            return self._sums(mass)
        return self._coefficients @ mass.transpose(-1, -2).flatten(-3, -2)

    def spend(self, prices: Tensor) -> Tensor:
        """Return what a row adds to ``sum(prices * sums)``: (m, G) -> (k, G, k).

        By true label, group and predicted label: the transpose of `sums`.

        Examples
        --------
        A false positive of group 0 costs 2, of group 1 it costs 3:

        >>> moments(["fpr"], 2).spend(torch.tensor([[2.0, 3.0]]).double()).tolist()
        [[[0.0, 2.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]]
        """
        k, prices = self.events.shape[1], self.paid(prices)
        if self._coefficients is not None:
            return (prices.T @ self._coefficients).reshape(-1, k, k).transpose(0, 1)
        with torch.enable_grad():
            mass = prices.new_zeros(k, prices.shape[1], k, requires_grad=True)
            (out,) = torch.autograd.grad(self._sums(mass), mass, prices)
        return out

    @cached_property
    def _coefficients(self) -> Tensor | None:
        """``C`` as a matrix (m, k * k), to sum small tables at once; None where it is large."""
        m, k = self.events.shape
        if m * k * k > _MOST_COEFFICIENTS:
            return None
        one_each = torch.eye(k * k, dtype=torch.float64).reshape(k * k, k, 1, k)
        return self._sums(one_each)[..., 0].T.contiguous()

    def _sums(self, mass: Tensor) -> Tensor:
        """Return `sums` from the parts of the table that each kind of rate counts."""
        if self.class_weight is not None:
            mass = mass / self.class_weight[:, None, None]
        parts = self._against_the_rest(mass)
        own = slice(self.positives.start, self.positives.stop)
        by_kind = []  # each (..., G, c)
        for kind in self.kinds:
            total = reduce(torch.add, (n * parts[cell] for cell, n in kind.cells.items()))
            if kind.pooled:
                total = total.sum(dim=-1, keepdim=True).expand_as(total)
            by_kind.append(total[..., own])
        return torch.stack(by_kind, dim=-1).flatten(-2).transpose(-1, -2)

    def _against_the_rest(self, mass: Tensor) -> dict[tuple[int, int], Tensor]:
        """Return sums (..., G, k) of each class against the rest, by (true, predicted).

        They are sums, not differences of totals, in which small weights would drown.
        """
        others = 1.0 - torch.eye(mass.shape[-1], dtype=mass.dtype)
        wrong = mass * others[:, None, :]
        wrongly = wrong.sum(dim=-3)
        # Of the other classes' rows, those that are not predicted it.
        rest = mass.sum(dim=-1).transpose(-1, -2) @ others - wrongly
        missed, right = wrong.sum(dim=-1).transpose(-1, -2), mass.diagonal(dim1=-3, dim2=-1)
        return {(1, 1): right, (1, 0): missed, (0, 1): wrongly, (0, 0): rest}

    def rates(self, mass: Tensor, count: Tensor) -> Tensor:
        """Return rates (..., m, G) of tables (..., k, G, k), (k, G); NaN without such a row.

        Examples
        --------
        Of group 0 all rows are predicted 1, of group 1 none:

        >>> from skfairft.parity.constraints import mass_table
        >>> from skfairft.rows.tensor_rows import TensorRows
        >>> y, s = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
        >>> rows = TensorRows(torch.zeros(4, 1), y, None, s)
        >>> p = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]).double()
        >>> mass, count = mass_table(p, rows, n_groups=2)
        >>> moments(["selection_rate"], 2).rates(mass, count)
        tensor([[1., 0.]], dtype=torch.float64)
        """
        return divide(self.sums(mass), self.counts(count))

    def gaps(self, rates: Tensor, count: Tensor) -> Tensor:
        """Return the rates (..., m, G) minus those of all groups pooled; NaN stays NaN."""
        counts = self.counts(count)
        sums = (rates.nan_to_num(nan=0.0) * counts).sum(dim=-1, keepdim=True)
        return rates - sums / nonzero(counts.sum(dim=-1, keepdim=True))

    def distance(self, rates: Tensor) -> Tensor:
        """Return the distance between groups: rates (..., m, G) -> (...).

        The largest rate minus the smallest, summed over the moments of a class (true and false
        positive rate for equalized odds, as in `equalized_odds_distance`), and of these the
        largest over classes, and over columns. Where the largest rate counts, nothing is
        subtracted; by ratio it is the largest `shortfall` of any moment. Rates that are NaN are
        left out.

        Examples
        --------
        >>> rates = torch.tensor([[0.9, 0.7], [0.2, 0.1]])
        >>> round(moments(["tpr", "fpr"], 2).distance(rates).item(), 3)
        0.3
        """
        return self.joined(self._by_class(self.apart(rates)))

    def known_distance(self, rates: Tensor, rounding: float = 0.0) -> Tensor:
        """Return `distance` of what is known: a moment of too few rates counts as 0.

        With ``rounding`` a difference x counts as ``(x^2 + rounding^2)^1/2 - rounding``, which has
        no kink where the rates are equal.
        """
        apart = self.apart(rates).nan_to_num(nan=0.0)
        if rounding:
            apart = (apart.square() + rounding**2).sqrt() - rounding
        return self.joined(self._by_class(apart))

    def apart(self, rates: Tensor) -> Tensor:
        """Return how far the rates of a moment are from the constraint: (..., G) -> (...)."""
        if self.ratio:
            return shortfall(rates)
        return largest(rates) if self.largest else spread(rates)

    def joined(self, apart: Tensor) -> Tensor:
        """Return the distance that those of r rates of c classes make: (..., c, r) -> (...)."""
        return largest_sum(apart.flatten(-2)[..., None] if self.ratio else apart)

    def _by_class(self, values: Tensor) -> Tensor:
        """Return values (..., m) by class (and column) and rate, (..., c, r)."""
        return values.unflatten(-1, (-1, len(self.kinds)))


def divide(sums: Tensor, counts: Tensor) -> Tensor:
    """Return the quotient, NaN where there is nothing to divide by."""
    if not sums.requires_grad:
        return sums / counts  # of no rows the sum is zero, too
    # Not 0 / 0: what is left out later would still have a derivative that is NaN.
    return torch.where(counts > 0, sums / nonzero(counts), torch.nan)


def extremes(rates: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest rate: (..., G) -> (...) twice.

    Rates that are NaN are left out; of fewer than two others both are NaN.
    """
    unknown = rates.isnan()
    if rates.shape[-1] > 1 and not unknown.any():
        return rates.amin(dim=-1), rates.amax(dim=-1)
    alone = (~unknown).sum(dim=-1) < 2
    low = rates.masked_fill(unknown, torch.inf).amin(dim=-1)
    high = rates.masked_fill(unknown, -torch.inf).amax(dim=-1)
    return low.masked_fill(alone, torch.nan), high.masked_fill(alone, torch.nan)


def largest(rates: Tensor) -> Tensor:
    """Return the largest rate: (..., G) -> (...); those that are NaN are left out.

    Examples
    --------
    >>> largest(torch.tensor([[0.5, 0.25, torch.nan], [torch.nan, torch.nan, torch.nan]])).tolist()
    [0.5, nan]
    """
    found = rates.masked_fill(rates.isnan(), -torch.inf).amax(dim=-1)
    return found.masked_fill(found == -torch.inf, torch.nan)


def spread(rates: Tensor) -> Tensor:
    """Return the largest rate minus the smallest: (..., G) -> (...).

    Rates that are NaN are left out; of fewer than two others it is NaN.

    Examples
    --------
    >>> spread(torch.tensor([[0.5, 0.25, torch.nan], [0.5, torch.nan, torch.nan]])).tolist()
    [0.25, nan]
    """
    low, high = extremes(rates)
    return high - low


def shortfall(rates: Tensor) -> Tensor:
    """Return 1 minus the smallest rate divided by the largest: (..., G) -> (...).

    Rates that are NaN are left out; of fewer than two others it is NaN. Rates that are all 0 are
    the same.

    Examples
    --------
    >>> shortfall(torch.tensor([[0.5, 0.25, torch.nan], [0.0, 0.0, 0.0]])).tolist()
    [0.5, 0.0]
    """
    low, high = extremes(rates)
    return 1.0 - torch.where(high == 0.0, 1.0, low / nonzero(high))


def largest_sum(spreads: Tensor) -> Tensor:
    """Return the distance that spreads (..., c, r) of r rates of c classes make: (...).

    Summed over the rates, and of that the largest over classes. A class whose sum is NaN is left
    out; it is NaN if all are.

    Examples
    --------
    >>> largest_sum(torch.tensor([[0.25, 0.5], [torch.nan, 1.0]])).item()
    0.75
    """
    per_class = spreads.sum(dim=-1)
    if per_class.shape[-1] == 1:
        return per_class[..., 0]
    largest = per_class.nan_to_num(nan=-torch.inf).amax(dim=-1)
    return torch.where(per_class.isnan().all(dim=-1), torch.nan, largest)


def moments(
    rates: Sequence[str],
    n_classes: int,
    *,
    positives: range | None = None,
    class_weight: Tensor | None = None,
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
    class_weight : Tensor of shape (k,), float64, optional
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
    own = torch.eye(n_classes, dtype=torch.float64)
    events = [kind.of[0] * (1.0 - own) + kind.of[1] * own for kind in kinds]
    events = [
        each.sum(dim=0).expand(n_classes, -1) if kind.pooled else each
        for kind, each in zip(kinds, events, strict=True)
    ]
    events = [each[j] for j in positives for each in events]
    return Parity(kinds, positives, torch.stack(events), largest=largest)


def nonzero(counts: Tensor) -> Tensor:
    """Return counts to divide sums by that are zero where the counts are."""
    return torch.where(counts > 0, counts, 1.0)
