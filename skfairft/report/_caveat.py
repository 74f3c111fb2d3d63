"""One thing to know before a report's numbers are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Caveat", "shortened"]

# More details than this are no longer read.
_MOST_DETAILS = 24


@dataclass(frozen=True)
class Caveat:
    """Something to know before the numbers are used.

    Parameters
    ----------
    topic : str
        In a few words.
    text : str
        In sentences; plain text.
    found : bool, default=True
        Whether it follows from this model and these rows. False: it is true of any such report.
    details : tuple of str, default=()
        What the text speaks of, one item each; of many, the first and how many more.
    """

    topic: str
    text: str
    found: bool = True
    details: tuple[str, ...] = ()


def shortened(details: Sequence[str]) -> tuple[str, ...]:
    """Return details that can still be read, and how many more there are.

    Examples
    --------
    >>> shortened(["a"]), shortened(["a"] * 30)[-1]
    (('a',), 'and 6 more')
    """
    more = len(details) - _MOST_DETAILS
    return (*details[:_MOST_DETAILS], *([f"and {more:,} more"] if more > 0 else []))
