"""A real browser for tests of pages: headless Chromium, driven by playwright.

    @pytest.fixture(scope="module")
    def chromium():
        with open_chromium() as browser:
            yield browser

    def test_page(chromium, tmp_path):
        with visit(chromium, tmp_path / "page.html", width=390) as visited:
            assert visited.problems == []

The environment variable CHROMIUM names the browser where it is not on the PATH. Where there is
none, or no playwright, the tests are skipped.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# A page is drawn without a screen, without root's sandbox, and asks nobody for updates.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# For each heading its level, for each picture its size and text.
HEADINGS = "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])"
IMAGES = """[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight,
    i.getBoundingClientRect().width, i.alt])"""
TABLES = """Object.fromEntries([...document.querySelectorAll('table')].map(table => [
    table.getAttribute('aria-labelledby') || table.id,
    [...table.rows].map(row => [...row.cells].map(cell => cell.innerText.trim()))]))"""

# The least contrast between text and the ground it stands on, by the formula of WCAG 2.
CONTRAST = """() => {
    const parts = colour => colour.match(/[0-9.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = element => {
        for (; element; element = element.parentElement) {
            const found = parts(getComputedStyle(element).backgroundColor);
            if (found.length < 4 || found[3] > 0) return found;
        }
        return [255, 255, 255];
    };
    const texts = [...document.querySelectorAll('body *')].filter(element =>
        [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
    return texts.map(element => {
        const pair = [parts(getComputedStyle(element).color), ground(element)].map(light);
        return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    }).reduce((least, one) => Math.min(least, one), 21);
}"""


@dataclass
class Visit:
    """An open page, what went wrong on it, and what it asked for besides itself."""

    page: Any
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def overflow(self) -> float:
        """Return by how many pixels the page is wider than its window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


def find_chromium() -> str | None:
    """Return the path of a browser, or None."""
    given = os.environ.get("CHROMIUM")
    if given:
        return shutil.which(given)
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_chromium() -> Iterator[Any]:
    """Start a browser, and end it; skip the test where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="pages are tested with playwright, which is not installed"
    )
    path = find_chromium()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH; set CHROMIUM to one")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Any, file: Path, *, width: int = 1280, height: int = 900) -> Iterator[Visit]:
    """Open a file as a page in a window of a width."""
    page = browser.new_page(viewport={"width": width, "height": height})
    try:
        visited = Visit(page)
        url = Path(file).resolve().as_uri()

        def console(message: Any) -> None:
            if message.type in ("error", "warning"):
                visited.problems.append(message.text)

        def request(asked: Any) -> None:
            if asked.url != url and not asked.url.startswith("data:"):
                visited.requests.append(asked.url)

        page.on("console", console)
        page.on("pageerror", lambda error: visited.problems.append(str(error)))
        page.on("request", request)
        page.goto(url, wait_until="load")
        yield visited
    finally:
        page.close()
