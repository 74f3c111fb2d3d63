"""Whole documents of HTML, and files of the kind that their name ends in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from .markup import Child, Html, tag

__all__ = ["PAGE", "document", "write_file"]

# The style of a part of a page.
PAGE = "font-family:sans-serif;font-size:14px;overflow-x:auto"

# One column, on light ground everywhere: tables bring their own lines.
_STYLE = """
body { margin: 0; background: #fff; color: #1b2330; font: 1rem/1.55 system-ui, -apple-system,
  "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: anywhere; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 2.5rem) 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; }
"""


def document(title: str, content: str, *, style: str = _STYLE, body: Child = None) -> str:
    """Return a page of HTML without scripts, which asks for nothing from outside.

    ``content`` is markup, below a heading; ``body`` is all of the body in its place.

    Examples
    --------
    >>> page = document("Rates of <all>", "<p>None.</p>")
    >>> page.splitlines()[0], "<h1>Rates of &lt;all&gt;</h1><p>None.</p>" in page
    ('<!DOCTYPE html>', True)
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light"),
        tag("title", title),
        tag("style", Html(style)),
    )
    own = tag("main", tag("h1", title), Html(content)) if body is None else body
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{tag("body", own)}\n</html>\n'


def write_file(path: str | os.PathLike[str], makers: Mapping[str, Callable[[], str]]) -> None:
    """Write the text that is made for the ending of a name; refuse others.

    Examples
    --------
    >>> write_file("report.pdf", {".html": str, ".md": str})
    Traceback (most recent call last):
    ...
    ValueError: 'report.pdf' ends in '.pdf'; expected a name that ends in .html or .md.
    """
    ending = Path(path).suffix.lower()
    if ending not in makers:
        *most, last = makers
        known = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(
            f"{os.fspath(path)!r} ends in {ending!r}; expected a name that ends in {known}."
        )
    Path(path).write_text(makers[ending](), encoding="utf-8")
