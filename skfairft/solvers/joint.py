"""The dual of the plug-in rule for several demands at once, and for bounds on ratios.

The most accurate rule is wanted whose rates keep all limits: of a difference ``r_i - r_j <= b``, of
a largest rate ``r_i <= b``, of a ratio ``rho r_i - r_j <= 0``, for each ordered pair of groups i, j
and each moment. Each of these has a multiplier ``x >= 0``, and the dual is convex in them::

    min over x >= 0 of  E[max_j sum_c score_c,j(u) P(c | x)] + b sum x

with ``u_i`` the price of the rate of group i: the sum of its multipliers, each times what the rate
counts in the limit (1, -1, or rho). There may be no rule that keeps all limits. So no multiplier
is above a large number: what is beyond a limit then costs so many times as much accuracy. Where a
distance adds up the differences of several rates, as of equalized odds, the limit is one on the
sum, and ``b`` times the largest of their sums of multipliers takes the place of ``b sum x``: with
more of one rate's multipliers the others' cost nothing.

How far the limits are drawn is one number t in [0, 1], so that rules of several demands are one
path. With D the distance of the rule without any, and E the least that one demand by itself can
reach (0, and for a largest rate the value of its `MaximinDual`), a demand of bound b has the limit

======================== ==============================================
``max(D, b)`` to ``b``   for t from 0 to 1/2
``b`` to ``min(E, b)``   for t from 1/2 to 1
======================== ==============================================

in straight lines; one of a weight w of its own ``D - w (D - E)``, whatever t is; and one without
either ``D - t (D - E)``. Each demand of a bound can also have a t of its own.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..parity.constraints import Parity
from ..parity.demands import Demand
from .dual import TEMPERATURES, SmoothedRule, ascend, refuse_absent, some_rows
from .maximin import MaximinDual
from .rule import cell_scores

__all__ = ["JointDual"]

Floats = NDArray[np.float64]
#: How far limits are drawn: all alike, or each that has a bound.
Drawn = float | tuple[float, ...]

# Accuracy that a rate beyond its limit costs, at most, times as much as it is beyond it.
_MOST = 100.0
# A t this near the one before starts so well that the last two temperatures are enough.
_NEAR = 0.1


class JointDual:
    """The rules of each t between no demand and all that a head can do; see the module.

    Parameters
    ----------
    p, w, n_groups, cells
        As for `ParityDual`.
    demands : tuple of Demand
        What is asked for.
    rules : tuple of Parity
        Their moments, with the weights of classes that the probabilities are those of.
    rows : Tensor of shape (k, G), int64, optional
        As for `MaximinDual`.

    Raises
    ------
    ValueError
        As `ParityDual`.

    Examples
    --------
    Group 0 is selected less; the smallest selection rate is to be four fifths of the largest:

    >>> demand = Demand("demographic_parity", ratio=True, bound=0.8)
    >>> p = torch.tensor([[0.1, 0.2, 0.0, 0.7], [0.6, 0.0, 0.4, 0.0]]).double().repeat(50, 1)
    >>> dual = JointDual(
    ...     p, torch.ones(100).double(), (demand,), (demand.rule(2),), n_groups=2
    ... )
    >>> dual.at(0.0)[0].tolist(), bool(dual.at(0.5)[0].any())
    ([[0.0, 0.0]], True)
    """

    def __init__(
        self,
        p: Tensor,
        w: Tensor,
        demands: tuple[Demand, ...],
        rules: tuple[Parity, ...],
        *,
        n_groups: int,
        cells: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> None:
        self._whole = p, w, rows, n_groups
        taken, w = some_rows(w, cells)
        p, cells = p[taken], None if cells is None else cells[taken]
        self._demands, self._rules = demands, rules
        self._smoothed = SmoothedRule(p, w, n_groups)
        #: Expected weight (k, G) of each cell, for `cell_scores`.
        self.count = self._smoothed.count
        plain = self._smoothed.plain()
        self._plain, self._idle = [], []
        for rule in rules:
            counts = rule.counts(self.count)
            asked = torch.from_numpy(rule.present(n_groups))
            if rule.largest and rows is not None:
                asked = rule.behind(rows.double()) > 0
            refuse_absent(counts[asked] / self.count.sum())
            self._plain.append(float(rule.distance(plain.rates(rule))))
            self._idle.append(
                not rule.largest and cells is not None and self._smoothed.alike(rule, plain, cells)
            )
        sizes = [rule.present(n_groups).shape for rule in rules]
        self._shapes = [
            shape if rule.largest else (*shape, shape[1])
            for rule, shape in zip(rules, sizes, strict=True)
        ]
        self._ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        self._solved: dict[Drawn, Floats] = {}

    @cached_property
    def _least(self) -> list[float]:
        """The least distance that each demand by itself can reach."""
        p, w, rows, n_groups = self._whole
        found = []
        for rule in self._rules:
            least = 0.0
            if rule.largest:
                worst = MaximinDual(p, w, rule, n_groups=n_groups, rows=rows).worst(1.0)
                least = worst.limit
            found.append(least)
        return found

    def limits(self, t: Drawn) -> list[float]:
        """Return the limit of each demand's distance; of those with a bound each may have its t."""
        found = []
        drawn = iter(t if isinstance(t, tuple) else [t] * len(self._demands))
        for i, (demand, plain, idle) in enumerate(
            zip(self._demands, self._plain, self._idle, strict=True)
        ):
            at = next(drawn) if demand.weight is None else demand.weight
            if demand.bound is None:
                limit = plain
                if at > 0.0 and not idle:
                    limit = plain - at * max(0.0, plain - self._least[i])
                found.append(np.inf if idle or at == 0.0 else limit)
            elif at <= 0.5:
                found.append(demand.most + (1.0 - 2.0 * at) * max(0.0, plain - demand.most))
            else:
                least = min(self._least[i], demand.most)
                found.append(demand.most - (2.0 * at - 1.0) * (demand.most - least))
        return found

    def shares(self, t: Drawn) -> list[float]:
        """Return what each limit takes away, as a share of what can be taken away.

        Examples
        --------
        >>> demand = Demand("worst_error_rate")
        >>> p = torch.tensor([[0.6, 0.0, 0.0, 0.4], [0.0, 0.4, 0.6, 0.0]]).double()
        >>> dual = JointDual(
        ...     p, torch.ones(2).double(), (demand,), (demand.rule(2),), n_groups=2
        ... )
        >>> dual.shares(0.25)
        [0.25]
        """
        found = []
        for i, (limit, plain) in enumerate(zip(self.limits(t), self._plain, strict=True)):
            room = plain - self._least[i] if limit < plain else 0.0
            found.append(min(1.0, (plain - limit) / room) if room > 0.0 else 0.0)
        return found

    def at(self, t: Drawn) -> list[Tensor]:
        """Return the prices (m, G) of the rates of each demand."""
        return [torch.from_numpy(each) for each in self._prices(self._solution(t), self.limits(t))]

    def idle(self) -> bool:
        """Tell whether the rows' own rates are alike in all that is asked for."""
        asked = [
            alike
            for demand, alike in zip(self._demands, self._idle, strict=True)
            if demand.bound is not None or demand.weight != 0.0
        ]
        return bool(asked) and all(asked)

    def scores(self, t: Drawn) -> Tensor:
        """Return what each cell adds to the score of each class, (k, G, k)."""
        return self._scores(self._prices(self._solution(t), self.limits(t)))

    def _before(self, t: Drawn) -> tuple[Floats, bool]:
        """Return the multipliers to start from, and whether they are those of a t near this one."""
        none = np.zeros(int(self._ends[-1]))
        if isinstance(t, tuple):  # the last one that was tried
            tried = [each for each in self._solved if isinstance(each, tuple)]
            if not tried:
                return none, False
            apart = max(abs(a - b) for a, b in zip(t, tried[-1], strict=True))
            before = self._solved[tried[-1]]
            return before, apart <= _NEAR and bool(before.any())
        weaker = [each for each in self._solved if not isinstance(each, tuple) and each < t]
        if not weaker:
            return none, False
        before = self._solved[max(weaker)]
        return before, t - max(weaker) <= _NEAR and bool(before.any())

    def _solution(self, t: Drawn) -> Floats:
        if t not in self._solved:
            start, near = self._before(t)
            limits = self.limits(t)
            if all(limit >= plain for limit, plain in zip(limits, self._plain, strict=True)):
                self._solved[t] = np.zeros_like(start)
                return self._solved[t]

            def dual(x: Floats, temperature: float) -> tuple[float, Floats]:
                found = self._smoothed.at(self._scores(self._prices(x, limits)), temperature)
                value, slopes = found.value, []
                for rule, limit, own in zip(self._rules, limits, self._split(x), strict=True):
                    cost, slope = _of_limit(rule, limit, own, found.rates(rule), temperature)
                    value += cost
                    slopes.append(slope.ravel())
                return value, np.concatenate(slopes)

            temperatures = TEMPERATURES[-2:] if near else TEMPERATURES
            self._solved[t] = ascend(dual, start, temperatures, _MOST)
        return self._solved[t]

    def _split(self, x: Floats) -> list[Floats]:
        parts = np.split(x, self._ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _prices(self, x: Floats, limits: list[float]) -> list[Floats]:
        """Return the prices (m, G) of the rates of each demand, for all multipliers (q,)."""
        found = []
        for rule, limit, own in zip(self._rules, limits, self._split(x), strict=True):
            if rule.largest:
                found.append(own.copy())
            else:
                kept = 1.0 - limit if rule.ratio and np.isfinite(limit) else 1.0
                found.append(kept * own.sum(axis=2) - own.sum(axis=1))
        return found

    def _scores(self, prices: list[Floats]) -> Tensor:
        k, n_groups = self.count.shape
        own = torch.eye(k, dtype=torch.float64)[:, None, :].expand(k, n_groups, k)
        for rule, price in zip(self._rules, prices, strict=True):
            own = own + cell_scores(rule, torch.from_numpy(price), self.count, right=0.0)
        return own


def _of_limit(
    rule: Parity, limit: float, x: Floats, rates: Floats, temperature: float
) -> tuple[float, Floats]:
    """Return what the multipliers of a limit add to the dual, and the dual's slope in them."""
    rates = np.nan_to_num(rates)
    if not np.isfinite(limit):  # nothing is asked
        return float(x.sum()), np.ones_like(x)
    if rule.largest:
        return limit * float(x.sum()), limit - rates
    if rule.ratio:
        return 0.0, rates[:, None, :] - (1.0 - limit) * rates[:, :, None]
    # By class and rate: the largest sum of multipliers of a class, smoothed as the rule is.
    sums = x.sum(axis=(1, 2)).reshape(-1, len(rule.kinds)) / temperature
    top = sums.max(axis=1, keepdims=True)
    part = np.exp(sums - top)
    total = part.sum(axis=1, keepdims=True)
    cost = limit * temperature * float((top + np.log(total)).sum())
    price = limit * (part / total).ravel()
    return cost, price[:, None, None] - (rates[:, :, None] - rates[:, None, :])
