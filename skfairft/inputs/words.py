"""Values, names and groups in sentences: in errors, plots, summaries and reports alike.

Each name goes through `one_line` once on its way to a reader, and each repr through `shown`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from .unseen import doubled, escaped

__all__ = [
    "did_you_mean",
    "group_name",
    "group_parts",
    "joined",
    "listed",
    "named",
    "one_line",
    "shown",
]

# More names than this in one sentence are no longer read; the rest is counted.
_MOST_NAMES = 8

# What is longer no longer helps in a message.
_LONGEST = 200
_MOST_LISTED = 5


def shown(value: Any) -> str:
    """Return the repr of a value on one line; of a long one, its two ends.

    Examples
    --------
    >>> shown("a"), len(shown("a" * 1000))
    ("'a'", 200)
    """
    text = escaped(repr(value).replace("\n", " "))
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[: half - 5]} ... {text[-half:]}"


def listed(items: Iterable[Any], *, separator: str = ", ") -> str:
    """Return values on one line: the first five, and how many more there are.

    Examples
    --------
    >>> listed(["a", "b"]), listed(range(400))
    ("'a', 'b'", '0, 1, 2, 3, 4, and 395 more')
    """
    names = [shown(item) for item in items]
    return joined(names, separator=separator)


def joined(notes: Sequence[str], *, separator: str = "; ") -> str:
    """Return notes on one line: the first five, and how many more there are."""
    more = len(notes) - _MOST_LISTED
    return separator.join([*notes[:_MOST_LISTED], *([f"and {more} more"] if more > 0 else [])])


def one_line(value: Any) -> str:
    r"""Return a name as text of one line, in which nothing is unseen.

    Line breaks, control characters and the like are written as in a Python string. Backslashes that
    would then be read as such an escape are doubled, so that two names are never one text; once
    only, as a second time would double them again.

    Examples
    --------
    >>> print(one_line("a\nb"), one_line(r"a\x0ab"), one_line(r"C:\new"))
    a\x0ab a\\x0ab C:\new
    """
    return escaped(doubled(str(value)))


def group_parts(group: Any) -> list[str]:
    """Return what names a group, one text per sensitive column."""
    return [one_line(part) for part in (group if isinstance(group, tuple) else (group,))]


def group_name(group: Any) -> str:
    """Return the name of a group on one line; an intersection's parts stand side by side.

    Examples
    --------
    >>> group_name(("f", 3)), group_name("f")
    ('f / 3', 'f')
    """
    return " / ".join(group_parts(group))


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return a sentence that names the nearest of the known names, or nothing.

    Examples
    --------
    >>> did_you_mean("trp", ["tpr", "fpr"]), did_you_mean("x", ["tpr"])
    (" Did you mean 'tpr'?", '')
    """
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def named(names: Iterable[Any], *, longest: int = sys.maxsize) -> str:
    """Return names of groups or classes in a sentence; of many, the first and how many more.

    Names of more letters than ``longest`` are cut.

    Examples
    --------
    >>> named("ab"), named(range(10)), named(["abcdef"], longest=5)
    ('a, b', '0, 1, 2, 3, 4, 5, 6, 7 and 2 more', 'ab...')
    """
    texts = [group_name(name) for name in names]
    texts = [text if len(text) <= longest else f"{text[: longest - 3]}..." for text in texts]
    more = len(texts) - _MOST_NAMES
    return ", ".join(texts[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
