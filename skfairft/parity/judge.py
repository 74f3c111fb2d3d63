"""Decisions measured on rows that their head has not seen, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..rows.parts import Parts
from ..rows.tensor_rows import TensorRows
from .bootstrap import bootstrap_counts
from .constraints import Parity, parity
from .counts import as_mass, distances_of, weighted_f1
from .limits import DistanceLimits, distance_limits, rows_needed
from .sums import cell_counts
from .table import STATED, metric_of
from .tally import Kinds

__all__ = ["REFIT", "JudgedRows", "interval_around", "pareto_front"]

Floats = NDArray[np.float64]

_LEVEL = 0.95

# What is true of heads of four fifths of the rows is a little less sure of the one of all: the
# error of a rate is wider by this. Measured: 0.92 to 1.15 over 40 settings.
REFIT = 1.1

# Of a cell without a row of known group so many are taken: its limits then are 0 and 1.
_LEAST_ROWS = 1e-6
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class JudgedRows:
    """Rows and what decisions about them are measured by.

    ``rule`` has the moments of the constraint, ``groups`` (G,) the groups' names. ``refit`` says
    that the head that is handed out is another one than those that decide, fitted on all rows;
    ``tuned`` that the votes of those that decide were found on these rows. ``positives`` are the
    codes of the positive classes, as for `parity`, and ``others`` further constraints that the
    decisions are for.

    Where the groups of some rows are not known, ``rows`` are their ``parts``: such a row counts in
    each group by how likely it is. What that tells of a group rests on the rows whose group is
    known, as if the others of a label were copies of those: limits are of no more rows.
    """

    rows: TensorRows
    rule: Parity
    groups: NDArray[Any]
    refit: bool = False
    tuned: bool = False
    positives: range | None = None
    parts: Parts | None = None
    others: tuple[str, ...] = ()

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.rows) if self.parts is None else self.parts.n_rows

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (G, k, k) of a table of decisions: by group, true label and decision."""
        n_classes = self.rule.events.shape[1]
        return len(self.groups), n_classes, n_classes

    def warn_of_empty(self) -> None:
        """Warn of groups, or levels, without rows that a rate of the constraint is a mean over."""
        rule = self.rule
        n_groups, n_classes, _ = self.shape
        counts = cell_counts(self.rows, n_classes=n_classes, n_groups=n_groups).numpy()
        present = rule.present(n_groups)
        absent = (rule.compared(np.ones_like(rule.events) @ counts) == 0) & present
        lacking = (rule.counts(counts) == 0) & present & ~absent
        for places, what in (
            (
                absent,
                "None of the rows to judge is of the groups {}; these are left out of what is "
                "judged. A group's only row cannot be judged by a head that was fitted on the "
                "group: gather more rows of it, or merge groups.",
            ),
            (
                lacking,
                "The rows to judge of the groups {} lack a class that the constraint asks for (the "
                "only row of one is kept to fit); that is left out of what is judged. Judge by "
                "more rows, or merge groups.",
            ),
        ):
            if names := self._names(places):
                warn_user(what.format(f"[{', '.join(names)}]"), FairnessWarning)

    def _names(self, places: NDArray[np.bool_]) -> list[str]:
        """Return the names of those groups, or levels, of which some place (m, G) is true."""
        groups, found = self.groups.tolist(), np.argwhere(places.T).tolist()
        return list(dict.fromkeys(self.rule.name(m, g, groups) for g, m in found))

    def cells(self, scores: Tensor) -> NDArray[np.int64]:
        """Return the flat index of each row's cell in a table, for scores (n, k)."""
        assert self.rows.codes is not None
        k = scores.shape[1]
        return ((self.rows.codes * k + self.rows.y) * k + scores.argmax(dim=1)).numpy()

    def table(self, cells: NDArray[np.int64]) -> Floats:
        """Return the weights of decisions as a table (G, k, k)."""
        flat = np.bincount(cells, self.rows.w.numpy(), int(np.prod(self.shape)))
        return flat.reshape(self.shape).astype(np.float64)

    def running(self, order: NDArray[np.int64]) -> Floats:
        """Return the weights (n, G, k) by group and label of the rows up to each in an order."""
        assert self.rows.codes is not None
        n_groups, n_classes, _ = self.shape
        at = (self.rows.codes * n_classes + self.rows.y).numpy()[order]
        out = np.zeros((len(at), n_groups * n_classes))
        out[np.arange(len(at)), at] = self.rows.w.numpy()[order]
        return np.cumsum(out, axis=0, out=out).reshape(-1, n_groups, n_classes)

    def squares(self, cells: NDArray[np.int64]) -> Floats:
        """Return the squared weights of decisions as a table (G, k, k)."""
        if self.parts is not None:
            return self.table(cells) * self._stood_for[:, :, None]
        flat = np.bincount(cells, self.rows.w.square().numpy(), int(np.prod(self.shape)))
        return flat.reshape(self.shape).astype(np.float64)

    @cached_property
    def _stood_for(self) -> Floats:
        """What a row of known group stands for, by group and label: (G, k).

        With W the weight of a cell's parts, and n its effective rows of known group, W / n: the sum
        of squares of n weights of that size is ``W^2 / n``, so that a rate has the variance of one
        of n rows (`effective_rows`). That is more than the variance of the mean over parts: with
        shares q that are right, a share 1 / c of the rows known, and d - r the decisions about
        their rate, the sum over parts corrected by the known rows has the variance
        ``E[(d - r)^2 q (q + c (1 - q))]``, and the known rows alone ``E[(d - r)^2 q c]``.
        """
        assert self.parts is not None
        assert self.rows.codes is not None
        n_groups, n_classes, _ = self.shape
        known, w = self.parts.alone.double(), self.rows.w
        at = self.rows.codes * n_classes + self.rows.y
        total, sums, squares = (
            torch.bincount(at, each, n_groups * n_classes)
            for each in (w, w * known, w.square() * known)
        )
        rows = torch.where(squares > 0.0, sums.square() / squares.clamp(min=_TINY), 0.0)
        found = total / rows.clamp(min=_LEAST_ROWS)
        return found.reshape(n_groups, n_classes).numpy()

    def distance(self, scores: Tensor) -> float:
        """Return the distance between the groups, decided by scores (n, k)."""
        return float(self.distances(self.table(self.cells(scores))[None])[0])

    def limits(self, scores: Tensor, confidence: float) -> DistanceLimits:
        """Return the distance by scores (n, k) with its limits, see `distance_limits`."""
        cells = self.cells(scores)
        return distance_limits(
            self.rule,
            self.table(cells),
            self.squares(cells),
            confidence=confidence,
            inflation=self.inflation,
            tuned=self.tuned,
        )

    def limit(self, scores: Tensor, confidence: float) -> float:
        """Return what the distance by scores (n, k) is within on other rows."""
        return float(self.limits(scores, confidence).high)

    def rows_needed(self, scores: Tensor, bound: float, confidence: float) -> float:
        """Return how many rows it would take to be within a bound, see `rows_needed`."""
        cells = self.cells(scores)
        wanted = rows_needed(
            self.rule,
            self.table(cells),
            self.squares(cells),
            bound,
            n_rows=self.n_rows,
            inflation=self.inflation,
            confidence=confidence,
            tuned=self.tuned,
        )
        return float(wanted)

    @property
    def inflation(self) -> float:
        """By how much the error of a rate is wider, because the head is fitted anew."""
        return REFIT if self.refit else 1.0

    def resampled(self, cells: NDArray[np.int64], n_boot: int, seed: Any) -> Iterator[Floats]:
        """Yield tables of resampled rows in blocks (b, G, k, k); the same rows for a seed."""
        rng = np.random.default_rng(seed)
        kinds = Kinds(cells, self.rows.w.numpy(), None)
        if self.parts is not None:  # a row is drawn as a whole
            kinds = Kinds(cells[self.parts.drawn()], self.parts.whole[2], None)
        return bootstrap_counts(kinds, self.shape, n_boot, rng)

    def ranked(self, scores: Tensor) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Return labels, scores and weights of rows (n,), for scores (m, k) of their parts."""
        y, w = self.rows.y.numpy(), self.rows.w.numpy()
        if self.parts is None:
            return y, scores.numpy(), w
        drawn = self.parts.drawn()
        return y[drawn], scores.numpy()[drawn], self.parts.whole[2]

    def distances(self, tables: Floats) -> Floats:
        """Return the distance between the groups in each table: (b, G, k, k) -> (b,)."""
        return self._apart(self.rule, tables)

    def metrics(self, tables: Floats) -> dict[str, Floats]:
        """Return error, distances, ratio and accuracy of tables (b, G, k, k), each (b,)."""
        pooled = tables.sum(axis=-3)
        stated = distances_of(tables, self._stated, self.positives, self.rule.levels)
        ratio = np.full(len(tables), np.nan)
        if self._compares:
            ratio = 1.0 - self._apart(self._by_ratio, tables)
        return {
            "weighted_f1_error": 100.0 * (1.0 - weighted_f1(pooled)),
            "difference": self.distances(tables),
            "ratio": ratio,
            **{metric_of(name): each for name, each in stated.items()},
            "accuracy": np.trace(pooled, axis1=-2, axis2=-1) / pooled.sum(axis=(-2, -1)),
        }

    def intervals(
        self, tables: Floats, squares: Floats, tuned: NDArray[np.bool_]
    ) -> dict[str, Floats]:
        """Return 95 % intervals (b, 2) of the distances in `metrics`, of tables (b, G, k, k).

        Those of the constraints heed where decisions were ``tuned`` (b,) for them on these rows.
        """
        rules = {
            "difference": self.rule,
            **({"ratio": self._by_ratio} if self._compares else {}),
            **{
                metric_of(name): parity(
                    name, self.shape[-1], positives=self.positives, levels=self.rule.levels
                )
                for name in self._stated
            },
        }
        asked = [self.rule.kinds, *(rules[metric_of(name)].kinds for name in self.others)]
        found = {}
        for name, rule in rules.items():
            limits = distance_limits(
                rule,
                tables,
                squares,
                confidence=(1.0 + _LEVEL) / 2.0,
                inflation=self.inflation,
                tuned=tuned & (rule.kinds in asked),
            )
            ends = [limits.low, limits.high]
            if rule.ratio:
                ends = [1.0 - limits.high, 1.0 - limits.low]
            found[name] = np.stack(ends, axis=-1)
        return {"ratio": np.full((len(tables), 2), np.nan), **found}

    @property
    def _stated(self) -> tuple[str, ...]:
        return (*STATED, *(name for name in self.others if name not in STATED))

    @property
    def _compares(self) -> bool:
        """Whether rates are compared, so that they have a ratio."""
        return not self.rule.largest

    @property
    def _by_ratio(self) -> Parity:
        return replace(self.rule, ratio=True)

    @staticmethod
    def _apart(rule: Parity, tables: Floats) -> Floats:
        mass = as_mass(tables)
        return rule.distance(rule.rates(mass, mass.sum(axis=-1)))


def interval_around(value: float, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 95 % percentile interval (2,) of resampled values, stretched to hold the value.

    F1 is no mean, so that resamples may lie to one side of the rows that they are drawn from.
    Samples that are NaN are left out; without any other it is NaN.

    Examples
    --------
    >>> interval_around(0.01, np.linspace(0.05, 0.25, 41)).round(3).tolist()
    [0.01, 0.245]
    """
    known = samples[~np.isnan(samples)]
    if not len(known):
        return np.full(2, np.nan)
    tail = (1.0 - _LEVEL) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return np.array([np.fmin(low, value), np.fmax(high, value)])


def pareto_front(error: ArrayLike, *differences: ArrayLike) -> NDArray[np.bool_]:
    """Tell which points (m,) no other point beats: less of one and no more of the others.

    Of errors and of each of the differences less is better; NaN is beaten by all.

    Examples
    --------
    >>> pareto_front([1.0, 2.0, 3.0, 3.0], [0.3, 0.4, 0.1, 0.1]).tolist()
    [True, False, True, True]
    """
    given = np.asarray([error, *differences], dtype=np.float64)
    values = np.nan_to_num(given, nan=np.inf)
    no_more = (values[:, :, None] <= values[:, None, :]).all(axis=0)
    less = (values[:, :, None] < values[:, None, :]).any(axis=0)
    beaten = (no_more & less).any(axis=0)
    return np.asarray(np.isfinite(values).all(axis=0) & ~beaten, dtype=np.bool_)
