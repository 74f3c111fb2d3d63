"""Markdown pages as on a code host: links between files, code blocks, and tables of figures.

README.md, CHANGELOG.md, CONTRIBUTING.md and benchmarks/README.md lie outside of docs/, link into it
and are linked from it by relative paths. Each is shown as a page of the site: links are turned to
lead to the pages instead. Links to other files become downloads of them, which is MyST's way.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]

# The page of a file or folder that is not in docs/.
PAGES = {
    "README.md": "docs/index.md",
    "CHANGELOG.md": "docs/changelog.md",
    "CONTRIBUTING.md": "docs/contributing.md",
    "benchmarks": "docs/benchmarks.md",
    "benchmarks/README.md": "docs/benchmarks.md",
    "examples": "docs/auto_examples/index.rst",
}

# A link or picture of Markdown to a relative path, with the anchor or title that may follow it.
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/<])(?P<path>[^)#\s]+)")

# Doctests need an empty line before the fence that closes them, readers do not.
LAST_LINE = re.compile(r"\n\n(?=```$)", re.MULTILINE)

# Figures such as "0.985 ± 0.007" or "+0.2 (-0.1 to 0.5)", which should not be broken.
FIGURE = re.compile(r"[-+\u2212±<>]?\s*\d[^a-z]*( to [^a-z]*)?")
LONGEST_FIGURE = 32


def turn(text: str, read_from: Path, page: Path) -> str:
    """Return text with the links of a file in one folder as seen from the page that shows it."""

    def turned(link: re.Match[str]) -> str:
        target = os.path.relpath(os.path.normpath(read_from / link["path"]), ROOT)
        return os.path.relpath(ROOT / PAGES.get(target, target), page.parent)

    return LINK.sub(turned, text)


def read(app: Sphinx, docname: str, content: list[str], folder: Path | None = None) -> None:
    """Change the text of a page, or of a file in ``folder`` that it includes."""
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md":
        content[0] = LAST_LINE.sub("\n", turn(content[0], folder or page.parent, page))


def read_include(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    """Change the text of a file that a page includes."""
    read(app, docname, content, (Path(app.srcdir) / path).parent)


def mark_figures(app: Sphinx, document: nodes.document) -> None:
    """Give the cells of tables that hold figures a class of their own."""
    for cell in document.findall(nodes.entry):
        text = cell.astext()
        if len(text) <= LONGEST_FIGURE and FIGURE.fullmatch(text):
            cell["classes"].append("figures")


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at the text before it is parsed, and at the tables after."""
    app.connect("source-read", read)
    app.connect("include-read", read_include)
    app.connect("doctree-read", mark_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
