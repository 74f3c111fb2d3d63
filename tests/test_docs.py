"""The documentation covers what is public, leads where it says, and claims what is so."""

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = [
    "skfairft",
    *(f"skfairft.{name}" for name in ("datasets", "distributed", "metrics", "preprocessing")),
]

# Folders of docs/ that a build makes.
BUILT = {"_build", "auto_examples", "generated", "backreferences"}


def sources(pattern):
    return sorted(p for p in DOCS.rglob(pattern) if not BUILT & set(p.relative_to(DOCS).parts))


PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "benchmarks" / "README.md",
    *sources("*.md"),
]


def name_of(page):
    return str(page.relative_to(ROOT))


def prose(page):
    """Return the text of a page without its code."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^(```|~~~)(?!\{).*?^\1", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]+`", "", text)


def links(page):
    """Return the relative links and pictures of a page, as (path, anchor)."""
    found = re.findall(r"\]\((?![a-z]+:)([^)\s]+)", prose(page))
    return [tuple(map(unquote, link.partition("#")[::2])) for link in found]


def anchors(page):
    """Return the anchors that a code host gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ +(.+?)\s*$", text, flags=re.M)
    return [
        re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-")
        for heading in headings
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_to_files_and_headings(page):
    broken = []
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() and target != DOCS / "auto_examples" / "index.rst":
            broken.append(path)
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            broken.append(f"{path}#{anchor}")
    assert not broken


def test_the_links_of_pages_are_seen():
    """The control of the test above: there are links with and without anchors, and pictures."""
    found = [link for page in PAGES for link in links(page)]
    assert len(found) > 80
    assert sum(bool(anchor) for _, anchor in found) > 10
    assert ("docs/images/landing.png", "") in found
    assert "three-solvers" in anchors(DOCS / "guide" / "constraint.md")


@pytest.mark.parametrize("index", [DOCS / "index.md", DOCS / "guide" / "index.md"], ids=name_of)
def test_pages_of_the_contents_exist(index):
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", index.read_text("utf-8"), flags=re.M | re.S)
    entries = [
        re.sub(r".*<(.+)>", r"\1", line)
        for tree in trees
        for line in tree.splitlines()
        if line and not line.startswith(":")
    ]
    assert entries
    assert len(set(entries)) == len(entries)
    for entry in set(entries) - {"auto_examples/index"}:  # made from examples/
        assert any((index.parent / f"{entry}{kind}").exists() for kind in (".md", ".rst")), entry


def test_every_page_is_in_the_contents():
    indices = "".join(
        (DOCS / name).read_text(encoding="utf-8") for name in ("index.md", "guide/index.md")
    )
    for page in sources("*.md"):
        if page.name != "index.md":
            assert re.search(rf"(^|<|/){page.stem}>?$", indices, flags=re.M), page


def listed():
    """Return the full names in the tables of the API reference."""
    text = (DOCS / "api" / "index.rst").read_text(encoding="utf-8")
    tables = re.findall(r"^\.\. autosummary::\n((?:   .*\n|\n)*)", text, flags=re.M)
    lines = (line.strip() for table in tables for line in table.splitlines())
    return [f"skfairft.{line}" for line in lines if line and not line.startswith(":")]


def test_no_example_is_left_out_of_the_tests():
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "skfairft").rglob("*.py")]
    assert [str(file) for file in files if "doctest: +SKIP" in file.read_text()] == []


class TestReference:
    @pytest.mark.parametrize("module", MODULES)
    def test_has_every_public_name(self, module):
        names = {
            getattr(importlib.import_module(place), name)
            for place, _, name in (full.rpartition(".") for full in listed())
        }
        public = importlib.import_module(module)
        missing = [name for name in public.__all__ if getattr(public, name) not in names]
        assert not missing

    def test_has_each_name_once(self):
        assert len(set(listed())) == len(listed())

    @pytest.mark.parametrize("name", listed())
    def test_has_an_example_that_runs_as_a_doctest(self, name):
        place, _, last = name.rpartition(".")
        documentation = inspect.getdoc(getattr(importlib.import_module(place), last))
        assert "Examples\n--------" in documentation
        assert ">>>" in documentation.partition("Examples\n--------")[2]


def badges():
    """Return label and message of the static badges of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"img\.shields\.io/badge/([^)\s?]+)", text)
    parts = (re.split(r"(?<!-)-(?!-)", unquote(badge).replace("__", "\0")) for badge in found)
    return {
        label.replace("--", "-"): message.replace("--", "-").replace("_", " ").replace("\0", "_")
        for label, message, _ in parts
    }


def least(package):
    (wanted,) = (d for d in PROJECT["dependencies"] if re.match(rf"{package}\b", d))
    return wanted.partition(">=")[2] + "+"


class TestBadges:
    """A badge says what pyproject.toml says."""

    TRUTH: ClassVar = {
        "python": PROJECT["requires-python"].removeprefix(">=") + "+",
        "scikit-learn": least("scikit-learn"),
        "torch": least("torch"),
        "licence": "BSD-3-Clause",
        "license": "BSD-3-Clause",
        "version": PROJECT["version"],
    }

    def test_are_true(self):
        claimed = badges()
        assert {"python", "licence", "version"} <= set(claimed)
        assert {label: self.TRUTH[label] for label in claimed} == claimed

    def test_the_version_is_that_of_the_package_and_the_citation(self):
        citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
        assert re.search(r"^version: (.+)$", citation, re.M)[1] == PROJECT["version"]
        assert importlib.import_module("skfairft").__version__ == PROJECT["version"]
        assert f"## {PROJECT['version']} - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    def test_the_licence_is_that_of_the_file(self):
        assert "BSD-3-Clause" in PROJECT["license"]
        assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")


def test_every_version_installed_by_an_extra_is_named():
    """What an extra asks for has a tested version in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert all(re.fullmatch(r"[\w.\-]+==[\w.]+", line) for line in lines)
    tested = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    wanted = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    names = {re.match(r"[\w.\-]+", each)[0] for each in wanted} - {"skfairft"}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in names} <= tested


class TestCheckLinks:
    """What ``make docs`` checks of the site's links."""

    @staticmethod
    def check(site):
        command = [sys.executable, str(ROOT / "tools" / "check_links.py"), str(site)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    @pytest.fixture
    def site(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b.html").write_text('<h1 id="top">b</h1><a href="../index.html">up</a>')
        (tmp_path / "index.html").write_text(
            '<a href="a/b.html#top">b</a>\n<a href="https://arxiv.org/abs/2403.00625">paper</a>'
        )
        return tmp_path

    def test_a_sound_site_passes(self, site):
        done = self.check(site)
        assert done.returncode == 0
        assert done.stdout == "2 pages, 0 broken links, 1 links elsewhere\n"

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            ('<a href="a/c.html">', "a/c.html: no such file"),
            ('<a href="a/b.html#end">', "a/b.html#end: no such anchor"),
            ('<a href="#end">', "#end: no such anchor"),
            ('<a href="../../x.html">', "leads out of the site"),
            ('<a href="https://nowhere">', "no address of a site"),
            ('<img src="a/picture.png">', "a/picture.png: no such file"),
            ('<img srcset="a/b.html, a/2.png 2x">', "a/2.png: no such file"),
            ('<script src="https://example.org/x.js"></script>', "loaded from elsewhere"),
        ],
    )
    def test_a_fault_is_found_and_named(self, site, fault, said):
        page = site / "index.html"
        page.write_text(page.read_text() + "\n" + fault)
        done = self.check(site)
        assert done.returncode == 1
        assert "index.html:3: " in done.stdout
        assert said in done.stdout
        assert "1 broken links" in done.stdout

    def test_an_empty_folder_is_no_site(self, tmp_path):
        done = self.check(tmp_path)
        assert done.returncode == 2
        assert "make docs" in done.stderr
