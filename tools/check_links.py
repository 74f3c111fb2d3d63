"""Check the links of a built site without a network: ``python tools/check_links.py SITE``.

Every link to a file of the site has to lead to one, and its anchor to an element of that page. What
a page loads has to be part of the site. Links elsewhere are only looked at: they need https (or
http) and a host. ``--external`` lists them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that are links, except that what these elements name is loaded with the page.
LINKS = {"href", "src", "poster"}
LOADED = {"audio", "embed", "iframe", "img", "link", "script", "source", "video"}


class Page(HTMLParser):
    """The anchors of a page, and its links: their line, address, and whether they are loaded."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[int, str, bool]] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what can be linked to, and what links."""
        line, loaded = self.getpos()[0], tag in LOADED
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value or "")
            elif name in LINKS:
                self.links.append((line, value or "", loaded))
            elif name == "srcset":
                sources = (part.split() for part in (value or "").split(","))
                self.links.extend((line, source[0], loaded) for source in sources if source)


read = cache(Page)


def pages(site: Path) -> list[Path]:
    """Return the pages of a site, without the templates that themes leave in _static."""
    return sorted(set(site.rglob("*.html")) - set((site / "_static").rglob("*")))


def fault(link: str, loaded: bool, file: Path, site: Path) -> str | None:
    """Return what is wrong with a link of a page, None if nothing is."""
    parts = urlsplit(link)
    if parts.scheme in {"data", "javascript", "mailto"}:
        return None
    if parts.scheme or parts.netloc:
        if loaded:
            return "loaded from elsewhere"
        good = parts.scheme in {"http", "https"} and "." in parts.netloc
        return None if good else "no address of a site"
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.is_relative_to(site):
        return "leads out of the site"
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target.suffix == ".html" and anchor not in read(target).anchors:
        return "no such anchor"
    return None


def faults(site: Path) -> Iterator[str]:
    """Yield a line for each link that leads nowhere."""
    site = site.resolve()
    for file in pages(site):
        for line, link, loaded in read(file).links:
            if wrong := fault(link, loaded, file, site):
                yield f"{file.relative_to(site)}:{line}: {link}: {wrong}"


def external(site: Path) -> list[str]:
    """Return the links that lead out of the site, each once."""
    links = (link for file in pages(site.resolve()) for _, link, _ in read(file).links)
    return sorted({link for link in links if urlsplit(link).netloc})


def main() -> int:
    """Print what is wrong; 1 if something is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true", help="list the links to other sites")
    arguments = parser.parse_args()
    count = len(pages(arguments.site))
    if not count:
        parser.error(f"{arguments.site} holds no pages; build the site first: make docs")
    found, others = list(faults(arguments.site)), external(arguments.site)
    for line in [*found, *(others if arguments.external else [])]:
        print(line)
    print(f"{count} pages, {len(found)} broken links, {len(others)} links elsewhere")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
