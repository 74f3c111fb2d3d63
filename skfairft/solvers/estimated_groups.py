"""Groups on some of the rows: the others count in each group by how likely it is.

With ``P(y, g | x) = P(y | x) P(g | x, y)`` a head of cells is fitted by maximum likelihood to rows
whose group is a distribution: a row of unknown group is divided into one part for each group, with
the share ``P(g | x, y)`` of its weight, see `skfairft.rows.parts`. The shares are those of a head
that knows the label, learnt from the rows whose group is known, see
`skfairft.head.group_shares`. So the label is learnt from all rows, and of the groups the likelihood
has the same expectation as if all were known, where the shares are right.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..head.group_shares import GroupHead, fit_group_head, group_strength
from ..rows.tensor_rows import TensorRows
from .problem import Problem

__all__ = ["EstimatedGroups"]


@dataclass(frozen=True)
class EstimatedGroups:
    """What is known of the groups of a problem's rows, and with which strength it was learnt."""

    head: GroupHead
    C: float

    @classmethod
    def of(cls, problem: Problem, C: float | None = None) -> EstimatedGroups:
        """Learn from the rows of a problem whose group is known; None chooses the strength."""
        rows = problem.as_they_are
        shape: dict[str, int] = {"n_classes": problem.n_classes, "n_groups": problem.n_groups}
        if C is None:
            C = group_strength(rows, **shape, codes=problem.strength_folds)
        return cls(fit_group_head(rows, **shape, C=C), C)

    def shares(self, rows: TensorRows) -> Tensor:
        """Return the probabilities (n, G) of the groups of rows with labels."""
        return self.head.shares(rows.Z, rows.y)

    def divided(self, problem: Problem) -> Problem:
        """Return a problem of parts of its rows, each of which has a group."""
        return problem.divided(self.shares(problem.rows))
