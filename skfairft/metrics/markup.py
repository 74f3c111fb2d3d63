"""HTML built from elements, in which text is escaped unless it was built here itself."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Child", "Html", "tag"]

# Elements that have no content, and no closing tag.
_VOID = frozenset({"img", "meta", "col", "br"})


class Html(str):
    """Text that is markup already; any other text is escaped when it is put into an element."""

    __slots__ = ()


Child: TypeAlias = "Html | str | Sequence[Child] | None"


def tag(name: str, /, *children: Child, **attributes: object) -> Html:
    """Return an element.

    Of its children text is escaped, markup is taken as it is, a list is what it holds, and None is
    nothing. Of its attributes values are escaped, None and False leave one out; a trailing
    underscore of a name is dropped (``class_``), other underscores become hyphens.

    Examples
    --------
    >>> tag("p", "a < b ", [None, tag("strong", "R&D")], class_="note")
    '<p class="note">a &lt; b <strong>R&amp;D</strong></p>'
    >>> tag("img", alt='"', src="a.svg", hidden=None)
    '<img alt="&quot;" src="a.svg">'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{_markup(children)}</{name}>")


def _markup(child: Child) -> str:
    if child is None or isinstance(child, Html):
        return child or ""
    if isinstance(child, str):
        return html.escape(child, quote=False)
    return "".join(map(_markup, child))
