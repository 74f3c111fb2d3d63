"""Moments: rates that are to be equal between groups, and by how much they differ.

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
turn, as in `skfairft.metrics`. A pooled rate sums both over all c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor

from .table import RATES, Rate

__all__ = ["Parity", "divide", "extremes", "largest_sum", "moments", "spread"]


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
    """

    kinds: tuple[Rate, ...]
    positives: range
    events: Tensor
    class_weight: Tensor | None = None

    @property
    def conditions(self) -> Tensor | None:
        """The events, each once, within which a score's mean is to be equal: (c, k).

        None if no mean of scores tells of the rates, because they ask whether predictions are
        right. With more than two classes, rates that know the true label ask for it within each
        label: the rows of all other labels together are no event of their own, because how a
        group's rows divide over them is not the head's doing.
        """
        if not all(kind.predictions_alone for kind in self.kinds):
            return None
        n_classes = self.events.shape[1]
        distinct = list(dict.fromkeys(map(tuple, self.events.tolist())))
        if n_classes > 2 and len(distinct) > 1:
            return torch.eye(n_classes, dtype=torch.float64)
        return torch.tensor(distinct, dtype=torch.float64)

    def counts(self, count: Tensor) -> Tensor:
        """Return what the rates are shares of: (..., k, G) -> (..., m, G)."""
        return self.events @ count

    def fewest_groups(self, count: Tensor) -> int:
        """Return in how many groups the rate that has rows in the fewest has them."""
        return int((self.counts(count) > 0).sum(dim=-1).min())

    def sums(self, mass: Tensor) -> Tensor:
        """Return the numerators of the rates, ``sum_yj C mass``: (..., k, G, k) -> (..., m, G)."""
        if self.class_weight is not None:
            mass = mass / self.class_weight[:, None, None]
        parts = self._against_the_rest(mass)
        by_kind = []  # each (..., G, c)
        for kind in self.kinds:
            total = reduce(torch.add, (_times(n, parts[cell]) for cell, n in kind.cells.items()))
            if kind.pooled:
                total = total.sum(dim=-1, keepdim=True).expand_as(total)
            by_kind.append(total[..., self._own])
        return torch.stack(by_kind, dim=-1).flatten(-2).transpose(-1, -2)

    def _against_the_rest(self, mass: Tensor) -> dict[tuple[int, int], Tensor]:
        """Return sums (..., G, k) of each class against the rest, by (true, predicted).

        They are sums, not differences of totals, in which small weights would drown.
        """
        wanted = {cell for kind in self.kinds for cell in kind.cells}
        parts = {(1, 1): mass.diagonal(dim1=-3, dim2=-1)}
        if wanted != {(1, 1)}:
            wrong = mass * self._others[:, None, :]
        if (1, 0) in wanted:
            parts[1, 0] = wrong.sum(dim=-1).transpose(-1, -2)
        if (0, 1) in wanted or (0, 0) in wanted:
            parts[0, 1] = wrong.sum(dim=-3)
        if (0, 0) in wanted:  # of the other classes' rows, those that are not predicted it
            parts[0, 0] = mass.sum(dim=-1).transpose(-1, -2) @ self._others - parts[0, 1]
        return parts

    def spend(self, prices: Tensor) -> Tensor:
        """Return what a row adds to ``sum(prices * sums)``: (m, G) -> (k, G, k).

        By true label, group and predicted label: the transpose of `sums`.

        Examples
        --------
        A false positive of group 0 costs 2, of group 1 it costs 3:

        >>> moments(["fpr"], 2).spend(torch.tensor([[2.0, 3.0]]).double()).tolist()
        [[[0.0, 2.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]]
        """
        zero = prices.new_zeros(self.events.shape[1], prices.shape[1])
        # Of each class against the rest, (k, G), by (true, predicted).
        price = dict.fromkeys([(1, 1), (1, 0), (0, 1), (0, 0)], zero)
        by_kind = prices.unflatten(0, (-1, len(self.kinds))).unbind(dim=1)  # each (c, G)
        for kind, own in zip(self.kinds, by_kind, strict=True):
            if kind.pooled:
                each = own.sum(dim=0).expand_as(zero)
            else:
                each = zero.clone()
                each[self._own] = own
            for cell, n in kind.cells.items():
                price[cell] = price[cell] + _times(n, each)
        # A row that is decided right is a true positive of its class and a true negative of the
        # others; another one is missed by its class, and a false positive of that which it gets.
        rest = price[0, 0]
        right = rest.sum(dim=0) - rest + price[1, 1]
        out = (rest.sum(dim=0) - rest + price[1, 0])[:, :, None] + (price[0, 1] - rest).T
        out.diagonal(dim1=0, dim2=2).copy_(right.T)
        return out if self.class_weight is None else out / self.class_weight[:, None, None]

    @cached_property
    def _own(self) -> slice:
        return slice(self.positives.start, self.positives.stop)

    @cached_property
    def _others(self) -> Tensor:
        """Which labels are not a class's own, (k, k)."""
        return 1.0 - torch.eye(self.events.shape[1], dtype=self.events.dtype)

    def rates(self, mass: Tensor, count: Tensor) -> Tensor:
        """Return the rate of each moment and group, NaN where a group has no such row.

        Parameters
        ----------
        mass : Tensor of shape (..., k, G, k)
            See the module.
        count : Tensor of shape (k, G)
            See the module.

        Returns
        -------
        Tensor of shape (..., m, G)
            In [0, 1].

        Examples
        --------
        Of group 0 all rows are predicted 1, of group 1 none:

        >>> from skfairft.parity.constraints import mass_table
        >>> y, s = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
        >>> p = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]).double()
        >>> mass, count = mass_table(p, y, s, torch.ones(4).double(), n_groups=2)
        >>> moments(["selection_rate"], 2).rates(mass, count)
        tensor([[1., 0.]], dtype=torch.float64)
        """
        return divide(self.sums(mass), self.counts(count))

    def gaps(self, rates: Tensor, count: Tensor) -> Tensor:
        """Return the rates (..., m, G) minus those of all groups pooled; NaN stays NaN."""
        counts = self.counts(count)
        sums = (rates.nan_to_num(nan=0.0) * counts).sum(dim=-1, keepdim=True)
        return rates - sums / _nonzero(counts.sum(dim=-1, keepdim=True))

    def distance(self, rates: Tensor) -> Tensor:
        """Return the distance between groups: rates (..., m, G) -> (...).

        The largest rate minus the smallest, summed over the moments of a class (true and false
        positive rate for equalized odds, as in `equalized_odds_distance`), and of these the
        largest over classes. Rates that are NaN are left out.

        Examples
        --------
        >>> rates = torch.tensor([[0.9, 0.7], [0.2, 0.1]])
        >>> round(moments(["tpr", "fpr"], 2).distance(rates).item(), 3)
        0.3
        """
        return largest_sum(self._by_class(spread(rates)))

    def known_distance(self, rates: Tensor, rounding: float = 0.0) -> Tensor:
        """Return `distance` of what is known: a moment of fewer than two rates counts as 0.

        With ``rounding`` a difference x counts as ``(x^2 + rounding^2)^1/2 - rounding``, which has
        no kink where the rates are equal.
        """
        apart = spread(rates).nan_to_num(nan=0.0)
        if rounding:
            apart = (apart.square() + rounding**2).sqrt() - rounding
        return largest_sum(self._by_class(apart))

    def _by_class(self, values: Tensor) -> Tensor:
        """Return values (..., m) by class and rate, (..., c, r)."""
        return values.unflatten(-1, (-1, len(self.kinds)))


def divide(sums: Tensor, counts: Tensor) -> Tensor:
    """Return the quotient, NaN where there is nothing to divide by.

    Examples
    --------
    >>> divide(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    # Not 0 / 0: what is left out later would still have a derivative that is NaN.
    return torch.where(counts > 0, sums / _nonzero(counts), torch.nan)


def extremes(rates: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest rate: (..., G) -> (...) twice.

    Rates that are NaN are left out; of fewer than two others both are NaN.

    Examples
    --------
    >>> low, high = extremes(torch.tensor([[0.5, 0.25, torch.nan], [0.5, torch.nan, torch.nan]]))
    >>> low.tolist(), high.tolist()
    ([0.25, nan], [0.5, nan])
    """
    unknown = rates.isnan()
    alone = (~unknown).sum(dim=-1) < 2
    low = rates.masked_fill(unknown, torch.inf).amin(dim=-1)
    high = rates.masked_fill(unknown, -torch.inf).amax(dim=-1)
    return low.masked_fill(alone, torch.nan), high.masked_fill(alone, torch.nan)


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
    largest = per_class.nan_to_num(nan=-torch.inf).amax(dim=-1)
    return torch.where(per_class.isnan().all(dim=-1), torch.nan, largest)


def moments(
    rates: Sequence[str],
    n_classes: int,
    *,
    positives: range | None = None,
    class_weight: Tensor | None = None,
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

    Examples
    --------
    >>> moments(["tpr", "error"], 3, positives=range(2, 3)).events.tolist()
    [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]
    """
    kinds = tuple(RATES[name] for name in rates)
    if positives is None:
        positives = range(int(n_classes == 2), n_classes)
    if all(kind.pooled for kind in kinds):
        positives = positives[:1]  # which one does not matter
    own = torch.eye(n_classes, dtype=torch.float64)
    events = [kind.of[0] * (1.0 - own) + kind.of[1] * own for kind in kinds]
    events = [
        each.sum(dim=0).expand(n_classes, -1) if kind.pooled else each
        for kind, each in zip(kinds, events, strict=True)
    ]
    rows = torch.stack([each[j] for j in positives for each in events])
    return Parity(
        kinds,
        positives,
        rows if class_weight is None else rows / class_weight,
        class_weight,
    )


def _times(n: float, values: Tensor) -> Tensor:
    """Return a multiple; most are once."""
    return values if n == 1 else n * values


def _nonzero(counts: Tensor) -> Tensor:
    """Return counts to divide sums by that are zero where the counts are."""
    return torch.where(counts > 0, counts, 1.0)
