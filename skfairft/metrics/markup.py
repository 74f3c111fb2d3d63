"""HTML built from elements, in which text is escaped unless it was built here itself."""

from __future__ import annotations

import html

__all__ = ["Html", "tag"]

# Elements that have no content, and no closing tag.
_VOID = frozenset({"img", "meta", "col", "br"})


class Html(str):
    """Text that is markup already; any other text is escaped when it is put into an element."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: object) -> Html:
    """Return an element.

    Parameters
    ----------
    name : str
        Of the element.
    *children : str, Html or None
        Text is escaped, markup is taken as it is, None is left out.
    **attributes : object
        Values are escaped, None and False leave the attribute out. A trailing underscore of a
        name is dropped (``class_``), other underscores become hyphens.

    Returns
    -------
    Html
        The element.

    Examples
    --------
    >>> tag("p", "a < b ", tag("strong", "R&D"), class_="note")
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
    inner = "".join(
        child if isinstance(child, Html) else html.escape(child, quote=False)
        for child in children
        if child is not None
    )
    return Html(f"<{name}{given}>{inner}</{name}>")
