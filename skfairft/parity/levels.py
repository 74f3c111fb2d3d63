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

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..inputs.levels import Column, columns_of, level_name
from ..inputs.words import shown

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

    >>> import numpy as np
    >>> groups = np.empty(3, dtype=object)
    >>> groups[:] = [("f", "a"), ("f", "b"), ("m", "b")]
    >>> levels = Levels(columns_of(groups, groups.tolist()))
    >>> levels.merged(torch.tensor([[1.0, 2.0, 4.0]]).double(), kinds=1).tolist()
    [[3.0, 4.0], [1.0, 6.0]]
    >>> levels.name(1, 0)
    "column 1='a'"
    """

    columns: tuple[Column, ...]

    @cached_property
    def member(self) -> Tensor:
        """Which groups each level has, (x, L, G), float64."""
        width = max(len(column.levels) for column in self.columns)
        places = [torch.from_numpy(column.codes) for column in self.columns]
        out = torch.zeros(len(places), width, len(places[0]), dtype=torch.float64)
        for own, codes in zip(out, places, strict=True):
            own[codes, torch.arange(len(codes))] = 1.0
        return out

    @property
    def present(self) -> Tensor:
        """Which places are levels, (x, L), bool."""
        return self.member.any(dim=-1)

    def merged(self, values: Tensor, *, kinds: int) -> Tensor:
        """Return sums of levels: (..., m, G) -> (..., m x, L), of so many kinds for each class."""
        by_class = values.unflatten(-2, (-1, kinds))
        out = torch.einsum("xlg,...crg->...cxrl", self.member.to(values.dtype), by_class)
        return out.flatten(-4, -2)

    def divided(self, prices: Tensor, *, kinds: int) -> Tensor:
        """Return what each group pays by the prices of its levels: (m x, L) -> (m, G).

        The transpose of `merged`.
        """
        by_column = prices.unflatten(-2, (-1, len(self.columns), kinds))
        return torch.einsum("xlg,cxrl->crg", self.member, by_column).flatten(0, 1)

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

    >>> import numpy as np
    >>> levels_asked("columns", np.array(["f", "m"]), ["f", "m"]) is None
    True
    """
    return levels_of(how, columns_of(groups, sensitive_features))


def levels_of(how: str, columns: Sequence[Column]) -> Levels | None:
    """Return the levels to compare of some columns; None where groups are compared as they are."""
    check_groups_word(how)
    several = tuple(each for each in columns if len(each.levels) > 1)
    return Levels(several) if several and how == "columns" else None
