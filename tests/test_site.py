"""The built site as a reader sees it, in a browser: ``make docs``, then ``make test-slow``."""

from pathlib import Path

import pytest
from browser import open_chromium, visit

SITE = Path(__file__).resolve().parents[1] / "docs" / "_build" / "html"
# All that a reader comes to, but not the pages of source code, which scroll in their boxes.
PAGES = sorted(
    str(path.relative_to(SITE).with_suffix(""))
    for path in SITE.rglob("*.html")
    if path.relative_to(SITE).parts[0] not in ("_modules", "_sources", "_static")
    and path.stem not in ("py-modindex", "search")
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SITE.exists(), reason="the site is not built: make docs"),
]

# scikit-learn's display of an estimator takes the button of its list of features for one of a
# parameter, and remarks on it. Nothing is missing.
REMARK = "Expected copy-paste icon is missing from the DOM structure"

# Pictures are loaded as they come into sight: all are asked for at once, and waited for.
BROKEN = """async () => {
    const images = [...document.images];
    for (const image of images) image.loading = "eager";
    await Promise.allSettled(images.map(image => image.decode()));
    return images.filter(image => !image.complete || !image.naturalWidth).map(image => image.src);
}"""

# How much the text, which would scroll by itself, or "On this page" is wider than its place.
BESIDE = """() => Math.max(0, ...[...document.querySelectorAll(
    '.bd-article-container, .bd-sidebar-secondary')]
    .map(bar => bar.scrollWidth - bar.clientWidth))"""


@pytest.fixture(scope="module")
def chromium():
    with open_chromium() as browser:
        yield browser


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole_and_stays_within_its_window(chromium, name, width):
    with visit(chromium, SITE / f"{name}.html", width=width) as visited:
        assert visited.page.evaluate(BROKEN) == []
        assert [problem for problem in visited.problems if problem != REMARK] == []
        assert [url for url in visited.requests if not url.startswith("file:")] == []
        assert visited.overflow() <= 0
        assert visited.page.evaluate(BESIDE) <= 1


# Mean of red, green and blue, 0 to 255.
BRIGHTNESS = """([selector, name]) =>
    getComputedStyle(document.querySelector(selector))[name]
        .match(/[0-9.]+/g).slice(0, 3).map(Number).reduce((sum, part) => sum + part) / 3"""


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_both_modes_have_readable_text_and_figures(chromium, mode):
    with visit(chromium, SITE / "index.html") as visited:
        visited.page.emulate_media(color_scheme=mode)
        visited.page.reload()
        ground, text, behind_figure = (
            visited.page.evaluate(BRIGHTNESS, where)
            for where in (
                ["body", "backgroundColor"],
                [".bd-article p", "color"],
                [".landing-figure img", "backgroundColor"],
            )
        )
        assert (ground < text) == (mode == "dark")
        assert abs(ground - text) > 100
        assert mode == "light" or behind_figure > 200  # their lines and letters are dark


def test_mathematics_is_drawn(chromium):
    with visit(chromium, SITE / "method.html") as visited:
        visited.page.wait_for_selector("mjx-container svg")
        assert visited.page.locator("mjx-container").count() > 20
        assert visited.page.locator("mjx-merror").count() == 0


def test_search_finds_a_class_without_a_server(chromium):
    with visit(chromium, SITE / "search.html") as visited:
        visited.page.goto((SITE / "search.html").as_uri() + "?q=FairLowRankHeadClassifier")
        visited.page.wait_for_selector("#search-results li a")
        results = visited.page.locator("#search-results li a").all_inner_texts()
        assert any("FairLowRankHeadClassifier" in result for result in results)
        assert [url for url in visited.requests if not url.startswith("file:")] == []
