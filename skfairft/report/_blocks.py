"""Parts of the page that come several times: tables, figures, caveats, halves."""

from __future__ import annotations

import base64

from ..metrics.markup import Child, Html, tag
from ..metrics.tables import Cell, Table
from ._caveat import Caveat
from ._figures import Figure

# A figure is not shown smaller than this share of its size.
_LEAST = 0.62

# A longer name of a row is broken into lines.
_LONG = 28

__all__ = ["pair", "shown_caveat", "shown_figure", "shown_table"]


def pair(left: Child, right: Child) -> Html:
    """Return two blocks side by side where there is room."""
    return tag("div", tag("div", left), tag("div", right), class_="pair")


def shown_figure(figures: dict[str, Figure] | None, key: str) -> Html:
    """Return a figure, or how to get it."""
    if figures is None:
        words = "Figures need matplotlib, which was not installed: pip install 'skfairft[plots]'."
        return tag("p", words, class_="quiet")
    if key not in figures:
        return tag("p", "Not drawn: there are too many groups and classes.", class_="quiet")
    figure = figures[key]
    # A picture of its own: inline, the style and the names inside would be the whole page's.
    source = f"data:image/svg+xml;base64,{base64.b64encode(figure.data).decode('ascii')}"
    size = {"width": figure.width, "height": figure.height}
    least = f"min-width:{_LEAST * figure.width:.0f}px"  # below, on a phone, it scrolls
    image = tag("img", src=source, alt=figure.alt, style=least, **size)
    box = tag("div", image, class_="scroll", role="region", aria_label=figure.caption, tabindex=0)
    return tag("figure", box, tag("figcaption", figure.caption))


def shown_caveat(caveat: Caveat, name: str | None = None) -> Html:
    """Return an item of a list of caveats, to be linked to by its name."""
    details = tag("ul", [tag("li", each) for each in caveat.details]) if caveat.details else None
    return tag("li", tag("strong", caveat.topic), caveat.text, details, id=name)


def shown_table(name: str, table: Table | None) -> Child:
    """Return a caption, and a table, if there is one, that scrolls sideways in its own box."""
    if table is None:
        return None
    label = f"table-{name}"
    head = [
        tag("th" if text else "td", text, scope="col" if text else None, class_=_name(table, j))
        for j, text in enumerate(table.header)
    ]
    body = [
        tag(
            "tr",
            [_cell(table, j, cell) for j, cell in enumerate(row)],
            class_="all" if table.total and i == len(table.rows) - 1 else None,
        )
        for i, row in enumerate(table.rows)
    ]
    inner = tag("table", tag("thead", tag("tr", head)), tag("tbody", body), aria_labelledby=label)
    return [
        tag("p", table.caption, class_="caption", id=label),
        tag("div", inner, class_="scroll", role="region", aria_labelledby=label, tabindex=0),
    ]


def _name(table: Table, j: int) -> str | None:
    return "name" if j < table.names else None


def _cell(table: Table, j: int, cell: Cell | str) -> Html:
    text, note = (cell, "") if isinstance(cell, str) else cell
    if j < table.names:
        long = " long" if len(text) > _LONG else ""
        return tag("th", text, scope="row", class_=f"name{long}")
    return tag("td", text, tag("span", note, class_="interval") if note else None)
