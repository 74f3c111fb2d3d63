"""Tables of text, and numbers and intervals as they stand in them."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .markup import Html, tag

__all__ = [
    "Cell",
    "Row",
    "Table",
    "escape_markdown",
    "free_name",
    "html_table",
    "measured",
    "number",
    "pipe_table",
    "text_table",
]

# Styles stand in the elements: notebooks and mail programs drop style sheets.
_TABLE = "border-collapse:collapse;margin:0 0 1.2em;font-variant-numeric:tabular-nums"
_CELL = "padding:3px 10px;border-bottom:1px solid #ddd;white-space:nowrap;text-align:"

# Printed tables wider than this are continued below, the names of the rows repeated.
_MAX_WIDTH = 120


class Cell(NamedTuple):
    """A number as text, and its interval."""

    text: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.note}".strip()


Row: TypeAlias = "list[Cell | str]"


class Table(NamedTuple):
    """A table: leading columns that name the row, others that hold numbers."""

    caption: str
    header: list[str]
    rows: list[Row]
    names: int = 1
    total: bool = False  # whether the last row is that of all groups together


def number(value: Any, digits: int = 3) -> str:
    """Return a number, or that it is undefined.

    Examples
    --------
    >>> number(0.12345), number(float("nan"))
    ('0.123', 'undefined')
    """
    return "undefined" if np.isnan(value) else f"{value:.{digits}f}"


def measured(value: Any, low: Any, high: Any, *, digits: int = 3, ends: int | None = None) -> Cell:
    """Return a number with its interval, if it has one, whose ends may have other digits.

    Examples
    --------
    >>> str(measured(0.2, 0.1, 0.25)), str(measured(0.2, float("nan"), float("nan")))
    ('0.200 [0.100, 0.250]', '0.200')
    """
    ends = digits if ends is None else ends
    interval = "" if np.isnan(low) else f"[{low:.{ends}f}, {high:.{ends}f}]"
    return Cell(number(value, digits), interval)


def free_name(name: str, taken: Iterable[Any], mark: str) -> str:
    """Return a name, with a mark behind it where it is taken.

    Examples
    --------
    >>> free_name("overall", {"a", "b"}, "all"), free_name("overall", {"overall"}, "all")
    ('overall', 'overall (all)')
    """
    while name in taken:
        name = f"{name} ({mark})"
    return name


def pipe_table(table: Table, escape: Callable[[str], str]) -> str:
    """Return a table of Markdown, its texts escaped.

    Examples
    --------
    >>> print(pipe_table(Table("", ["", "rate"], [["a|b", Cell("0.1", "[0, 1]")]]), ascii))
    | '' | 'rate' |
    | :--- | ---: |
    | 'a|b' | '0.1 [0, 1]' |
    """

    def line(cells: Iterable[Any]) -> str:
        return f"| {' | '.join(escape(str(cell)) for cell in cells)} |"

    numbers = len(table.header) - table.names
    rule = f"| {' | '.join([':---'] * table.names + ['---:'] * numbers)} |"
    return "\n".join([line(table.header), rule, *map(line, table.rows)])


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, also in a table."""
    return html.escape(text, quote=False).replace("\\", "&#92;").replace("|", "\\|")


def html_table(table: Table) -> Html:
    """Return a table of HTML that needs no style sheet."""

    def line(cells: Iterable[Any], kind: str) -> Html:
        parts = [
            tag("th", str(cell), style=f"{_CELL}left")
            if j < table.names
            else tag(kind, str(cell), style=f"{_CELL}right")
            for j, cell in enumerate(cells)
        ]
        return tag("tr", parts)

    head = tag("thead", line(table.header, "th"))
    body = tag("tbody", [line(row, "td") for row in table.rows])
    return tag("table", head, body, style=_TABLE)


def text_table(table: Table) -> str:
    """Return a table as plain text, names aligned to the left; continue below what is too wide."""
    padded = []
    for j, column in enumerate(zip(table.header, *table.rows, strict=True)):
        texts = [str(cell) for cell in column]
        width = max(map(len, texts))
        align = str.ljust if j < table.names else str.rjust
        padded.append([align(text, width) for text in texts])
    blocks = [padded[: table.names]]
    for cells in padded[table.names :]:
        used = sum(len(part[0]) + 2 for part in blocks[-1])
        if used + len(cells[0]) > _MAX_WIDTH and len(blocks[-1]) > table.names:
            blocks.append(padded[: table.names])
        blocks[-1].append(cells)
    lines = ["\n".join("  ".join(row).rstrip() for row in zip(*b, strict=True)) for b in blocks]
    return "\n\n".join(lines)
