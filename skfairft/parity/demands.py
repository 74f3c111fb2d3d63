"""What is asked of the rates: constraints, each with a bound of its own, or a weight.

Plain words and numbers, as they are given; `skfairft.parity.moments` has the arithmetic. Inside a
bound is one on a distance, of which less is better: for ratios how much they fall short of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

from ..inputs.words import shown
from .constraints import Parity, largest_distance, parity
from .levels import Levels
from .table import TABLE, metric_of, ratio_of
from .tally import Floats

__all__ = ["FORMS", "Bound", "Demand", "check_bounds", "each_of", "read_demands"]

FORMS = ("difference", "ratio", "largest rate")
"""What can be bounded."""


class Bound(NamedTuple):
    """A bound, and what was reached on the rows that judged it.

    Parameters
    ----------
    constraint : str
        Its name.
    form : {"difference", "ratio", "largest rate"}
        What is bounded: of a ratio from below, of the others from above.
    bound : float
        As it was asked for.
    value : float
        What was reached on the judged rows. A largest difference is never negative, and so tends
        to be more there than on many rows, and a smallest ratio less.
    interval : tuple of two floats
        95 % interval of it on other rows, which heeds that the head is fitted anew on all rows.
    limit : float
        What it is within on other rows, with the confidence that was asked for (None: 0.95), which
        several bounds divide among them.
    met : bool
        Whether the value meets the bound, or with a confidence the limit.
    """

    constraint: str
    form: str
    bound: float
    value: float
    interval: tuple[float, float]
    limit: float
    met: bool


@dataclass(frozen=True)
class Demand:
    """A constraint with what it is held to; without either, it follows a common weight.

    Parameters
    ----------
    constraint : str
        One of `skfairft.parity.table`.
    ratio : bool, default=False
        Whether the bound is one on the smallest ratio of rates.
    bound : float, optional
        As it is given.
    weight : float, optional
        In [0, 1].

    Examples
    --------
    The four-fifths rule, and what is left of it inside:

    >>> rule = Demand("demographic_parity", ratio=True, bound=0.75)
    >>> rule.form, rule.most, rule.told(0.5)
    ('ratio', 0.25, 0.5)
    """

    constraint: str
    ratio: bool = False
    bound: float | None = None
    weight: float | None = None

    def __str__(self) -> str:
        """Return the bound as a parameter."""
        return f"{'ratio' if self.ratio else 'difference'}_bound={self.bound}"

    @property
    def form(self) -> str:
        """What is bounded."""
        if self.ratio:
            return "ratio"
        return "largest rate" if TABLE[self.constraint].largest else "difference"

    @property
    def metric(self) -> str:
        """What reports call that which is bounded."""
        return ratio_of(self.constraint) if self.ratio else metric_of(self.constraint)

    @property
    def most(self) -> float:
        """The largest distance within the bound."""
        assert self.bound is not None
        return 1.0 - self.bound if self.ratio else self.bound

    def kept(self, told: float) -> bool:
        """Tell whether a value, as it is called, is within the bound."""
        assert self.bound is not None
        return told >= self.bound if self.ratio else told <= self.bound

    def told(self, distance: float) -> float:
        """Return a distance as it is called: the ratio, where it falls short of 1 by it."""
        return 1.0 - distance if self.ratio else distance

    def rule(
        self,
        n_classes: int,
        class_weight: Floats | None = None,
        *,
        positives: range | None = None,
        levels: Levels | None = None,
    ) -> Parity:
        """Return the moments; arguments as for `parity`."""
        return parity(
            self.constraint,
            n_classes,
            class_weight,
            positives=positives,
            levels=levels,
            ratio=self.ratio,
        )


def each_of(value: Any, n_constraints: int) -> list[Any]:
    """Return what is given for each of several constraints: a list of as many, or one for all.

    Examples
    --------
    >>> each_of(0.1, 2), each_of([0.1, None], 2)
    ([0.1, 0.1], [0.1, None])
    """
    several = isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1
    return list(value) if several else [value] * n_constraints


def read_demands(
    constraint: str | Sequence[str] | None,
    *,
    fairness_weight: Any = None,
    difference_bound: Any = None,
    ratio_bound: Any = None,
) -> tuple[Demand, ...]:
    """Return the demands that parameters of the classifier make, which are valid.

    A constraint with both bounds makes two.

    Examples
    --------
    >>> for each in read_demands(
    ...     ["demographic_parity", "worst_error_rate"],
    ...     difference_bound=[None, 0.25],
    ...     ratio_bound=[0.75, None],
    ... ):
    ...     print(each.constraint, each.form, each.bound)
    demographic_parity ratio 0.75
    worst_error_rate largest rate 0.25
    """
    if constraint is None:
        return ()
    names = [constraint] if isinstance(constraint, str) else list(constraint)
    weights, differences, ratios = (
        each_of(given, len(names)) for given in (fairness_weight, difference_bound, ratio_bound)
    )
    demands: list[Demand] = []
    for name, weight, difference, ratio in zip(names, weights, differences, ratios, strict=True):
        if difference is not None:
            demands.append(Demand(name, bound=_plain(difference)))
        if ratio is not None:
            demands.append(Demand(name, ratio=True, bound=_plain(ratio)))
        if difference is None and ratio is None:
            demands.append(Demand(name, weight=weight))
    return tuple(demands)


def _plain(bound: Any) -> float:
    """Return a bound as it is; of other real numbers, such as fractions, as floating point."""
    return bound if isinstance(bound, (int, float)) else float(bound)


def check_bounds(name: str, value: Any, constraints: list[str]) -> None:
    """Refuse bounds that are no numbers, or not one for each constraint.

    Examples
    --------
    >>> check_bounds("ratio_bound", 80, ["demographic_parity"])
    Traceback (most recent call last):
    ...
    ValueError: ratio_bound=80; expected a number in (0, 1].
    """
    several = each_of(value, len(constraints))
    ratio = name == "ratio_bound"

    def right(each: Any) -> bool:
        if isinstance(each, bool) or not isinstance(each, Real):
            return each is None
        return 0.0 < float(each) <= 1.0 if ratio else 0.0 <= float(each) < math.inf

    if not all(map(right, several)) or len(several) != len(constraints):
        more = ""
        if len(constraints) > 1:
            more = f", or a list of {len(constraints)}, for each of {constraints}"
        of = " in (0, 1]" if ratio else ", 0 or more"
        raise ValueError(f"{name}={shown(value)}; expected a number{of}{more}.")
    for each, constraint in zip(several, constraints, strict=True):
        if not ratio and each is not None and each >= largest_distance(constraint):
            raise ValueError(
                f"difference_bound={each} asks for nothing: the distance of {constraint!r} is at "
                f"most {largest_distance(constraint)}. Set a smaller bound."
            )
        if ratio and each is not None and TABLE[constraint].largest:
            raise ValueError(
                f"ratio_bound={each} is one on rates that are compared between groups, but "
                f"{constraint!r} is about the largest alone; set difference_bound."
            )
