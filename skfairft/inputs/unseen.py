"""Characters that are in a text but not seen in it, or that change how the rest of it is seen.

These are control characters, line breaks among them, what reverses the direction of the text, what
has no width, halves of surrogate pairs, and what no text may hold. In a name they would make two
names look alike, break a page, a file or a picture, or command a terminal.
"""

from __future__ import annotations

import re
from unicodedata import bidirectional, category, combining

__all__ = ["doubled", "escaped"]

# Controls, formats, surrogates, separators of lines and of paragraphs.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# The flags of England, Scotland and Wales are spelled in letters without width, which are kept
# there alone: elsewhere they can hide a sentence.
_FLAG = re.compile("(\U0001f3f4[\U000e0061-\U000e007a]{3,6}\U000e007f)")

_BACKSLASHES = re.compile(r"\\+")
_ESCAPE = re.compile(r"x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}")

# Of the canonical combining classes, that of what joins consonants in the scripts of India.
_VIRAMA = 9


def escaped(text: str, *, keep: str = "") -> str:
    r"""Return a text with what is unseen written as in a Python string.

    Letters, marks and pictures of all scripts stay as they are, and so do the characters in
    ``keep``. A joiner, or non-joiner, of letters stays where it is part of how a word or a picture
    is written: after a virama, before an Arabic letter, between pictures.

    Examples
    --------
    >>> print(escaped("a\x1b[31m b\u202ec \ud800"), escaped("é 日本 שלום 👩‍🔬 می‌شود"))
    a\x1b[31m b\u202ec \ud800 é 日本 שלום 👩‍🔬 می‌شود
    """
    if text.isprintable():
        return text
    # Every second part is a flag.
    parts = _FLAG.split(text)
    parts[::2] = [
        "".join(
            _escape(char) if char not in keep and _is_unseen(part, at) else char
            for at, char in enumerate(part)
        )
        for part in parts[::2]
    ]
    return "".join(parts)


def doubled(text: str) -> str:
    r"""Return a text with those backslashes doubled that `escaped` would make ambiguous.

    They stand before what reads like an escape, or before what will be one.

    Examples
    --------
    >>> print(doubled(r"\x1b \frac{1}{2} C:\new"))
    \\x1b \frac{1}{2} C:\new
    """

    def double(run: re.Match[str]) -> str:
        end = run.end()
        before_escape = _ESCAPE.match(text, end) or (end < len(text) and _is_unseen(text, end))
        return run[0] * 2 if before_escape else run[0]

    return _BACKSLASHES.sub(double, text)


def _is_unseen(text: str, at: int) -> bool:
    char = text[at]
    if char in "\u200c\u200d" and at > 0:
        return not _joins(text[at - 1], text[at + 1 : at + 2] or " ")
    code = ord(char)
    # The last two of each plane and 32 more are no characters; a file of SVG may not hold them.
    return category(char) in _UNSEEN or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _joins(before: str, after: str) -> bool:
    """Tell whether a joiner between two characters is part of how they are written."""
    if category(before) in _UNSEEN:
        return False
    if combining(before) == _VIRAMA or bidirectional(after) == "AL":
        return True
    # A picture may have a colour of skin (Sk), or a mark that it is one (Mn), behind it.
    return category(before) in {"So", "Sk", "Mn"} and category(after) == "So"


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
