"""Each sensitive column by itself: its levels are unions of the groups, and the rates are theirs.

========== ============= ===================================================================
``member`` (x, L, G)     1 where a group is part of level l, of each of x columns
sums       (..., m, G)   of each group, for each of m moments
merged     (..., m x, L) of each level: by class, then by column, then by kind of rate
========== ============= ===================================================================

L is the largest number of levels. A column of fewer has places without rows behind its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.levels import Column, columns_of, level_name
from ..inputs.words import shown
from .arrays import Numbers, as_in
from .tally import Floats

__all__ = ["GROUPS", "Levels", "check_groups_word", "levels_asked", "levels_of"]

GROUPS = ("intersections", "columns")
"""What is compared where there are several sensitive columns."""


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels of several columns.

    Parameters
    ----------
    columns : tuple of Column
        Those of more than one level: with one there is nothing to compare.

    Examples
    --------
    Two columns of two levels each, of which three pairs occur:

    >>> groups = np.empty(3, dtype=object)
    >>> groups[:] = [("f", "a"), ("f", "b"), ("m", "b")]
    >>> levels = Levels(columns_of(groups, groups.tolist()))
    >>> levels.merged(np.array([[1.0, 2.0, 4.0]]), kinds=1).tolist()
    [[3.0, 4.0], [1.0, 6.0]]
    >>> levels.name(1, 0)
    "column 1='a'"
    """

    columns: tuple[Column, ...]

    @cached_property
    def member(self) -> Floats:
        """Which groups each level has, (x, L, G)."""
        width = max(len(column.levels) for column in self.columns)
        out = np.zeros((len(self.columns), width, len(self.columns[0].codes)))
        for own, column in zip(out, self.columns, strict=True):
            own[column.codes, np.arange(len(column.codes))] = 1.0
        return out

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which places are levels, (x, L)."""
        return self.member.max(axis=-1) > 0.0

    def merged(self, values: Numbers, *, kinds: int) -> Numbers:
        """Return sums of levels: (..., m, G) -> (..., m x, L), of so many kinds for each class."""
        by_class = values.reshape(*values.shape[:-2], -1, 1, kinds, values.shape[-1])
        out = by_class @ as_in(self.member, values).swapaxes(-1, -2)  # (..., c, x, r, L)
        return out.reshape(*values.shape[:-2], -1, out.shape[-1])

    def divided(self, prices: Numbers, *, kinds: int) -> Numbers:
        """Return what each group pays by the prices of its levels: (m x, L) -> (m, G).

        The transpose of `merged`.
        """
        by_column = prices.reshape(-1, len(self.columns), kinds, prices.shape[-1])
        out = (by_column @ as_in(self.member, prices)).sum(1)  # (c, r, G)
        return out.reshape(-1, out.shape[-1])

    def name(self, column: int, level: int) -> str:
        """Return a level in words, such as ``sex='f'``."""
        own = self.columns[column]
        return level_name(own.name, own.levels[level])


def check_groups_word(how: Any) -> None:
    """Refuse another word than those of `GROUPS`.

    Examples
    --------
    >>> check_groups_word("columns")
    >>> check_groups_word("column")
    Traceback (most recent call last):
    ...
    ValueError: groups='column'; expected one of ['intersections', 'columns'].
    """
    if not isinstance(how, str) or how not in GROUPS:
        raise ValueError(f"groups={shown(how)}; expected one of {list(GROUPS)}.")


def levels_asked(how: str, groups: NDArray[Any], sensitive_features: Any) -> Levels | None:
    """Return the levels to compare, None where groups (G,) are compared as they are.

    Parameters
    ----------
    how : str
        One of `GROUPS`.
    groups, sensitive_features
        As for `columns_of`.

    Raises
    ------
    ValueError
        For another word.

    Examples
    --------
    One column is its own levels:

    >>> levels_asked("columns", np.array(["f", "m"]), ["f", "m"]) is None
    True
    """
    return levels_of(how, columns_of(groups, sensitive_features))


def levels_of(how: str, columns: Sequence[Column]) -> Levels | None:
    """Return the levels to compare of some columns; None where groups are compared as they are."""
    check_groups_word(how)
    several = tuple(each for each in columns if len(each.levels) > 1)
    return Levels(several) if several and how == "columns" else None
