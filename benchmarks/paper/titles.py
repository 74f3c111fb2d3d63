"""The headings of the pages, and links to those of the page of tables."""

from __future__ import annotations

import re

from .experiments import EXPERIMENTS

NAME, TABLES_NAME = "reproduction", "reproduction_tables"
# The section in which all comparisons are judged, and those on other forms of the method.
JUDGED = "Does neutralization help anywhere?"
FORMS = {"as written": "As the paper writes it", "heads by group": "Heads of each group"}


def short_title(name: str) -> str:
    """Return the title of an experiment without the table or figure that it is."""
    title = EXPERIMENTS[name].title.split(": ")[-1]
    return title[0].upper() + title[1:]


def anchor(title: str) -> str:
    """Return the anchor that code hosts and the site give a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def linked(text: str, title: str) -> str:
    """Return a text as a link to a heading of the page of tables."""
    return f"[{text}]({TABLES_NAME}.md#{anchor(title)})"
