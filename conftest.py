"""What all tests and doctests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture(autouse=True)
def _own_folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let doctests write their files into a folder of their own."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)


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
