"""What all tests and doctests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import sklearn

# The site's settings and what it generates; its Markdown pages are doctested.
collect_ignore_glob = [
    "docs/conf.py",
    "docs/_extensions/*",
    "docs/_build/*",
    "docs/api/*",
    "docs/auto_examples/*",
]

mpl.use("Agg")  # doctests draw too, and there may be no screen


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Spare the garbage collector the objects that stay: all libraries, and the list of tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _own_folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let doctests write their files into a folder of their own."""
    if isinstance(request.node, pytest.DoctestItem):  # ten thousand folders are slow to make
        monkeypatch.chdir(request.getfixturevalue("tmp_path"))


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """Close what a test or doctest drew: pyplot keeps every figure, and warns of twenty."""
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def _restore_sklearn_config() -> Iterator[None]:
    """Undo a test's sklearn.set_config, so that no test sees another's."""
    with sklearn.config_context():
        yield
