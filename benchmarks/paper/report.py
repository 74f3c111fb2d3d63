"""The pages of the rerun in docs/ and their figures, from the rows of the runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from . import store
from .figures import CAPTIONS, draw_all
from .page import SHOWN, page
from .results import results
from .tables_page import tables_page
from .titles import NAME, TABLES_NAME

FIGURES = "images/reproduction"


def write_report(rows: list[dict[str, Any]], about: dict[str, Any], docs: Path) -> None:
    """Write reproduction.json, both pages and the figures into a folder of documents.

    Parameters
    ----------
    rows, about
        Of `runs.read`; without rows, those of the reproduction.json that is there.
    docs : path
        The folder.
    """
    (docs / FIGURES).mkdir(parents=True, exist_ok=True)
    if rows:
        store.write(docs / f"{NAME}.json", rows, about)
    frame, about = store.read(docs / f"{NAME}.json")
    drawn = draw_all(frame, docs / FIGURES)
    for name, text in render(frame, about, drawn).items():
        (docs / f"{name}.md").write_text(text, encoding="utf-8")
    print(f"Wrote {docs / NAME}.md, {TABLES_NAME}.md, {NAME}.json and {len(drawn)} figures.")


def render(frame: pd.DataFrame, about: dict[str, Any], figures: Iterable[str]) -> dict[str, str]:
    """Return the pages as Markdown, by name.

    Parameters
    ----------
    frame : DataFrame
        Rows of `store.read`.
    about : dict
        What they ran on.
    figures : iterable of str
        Names of the figures that there are.
    """
    drawn, judged = {*figures}, results(frame)
    return {
        NAME: page(judged, lambda name: _pictures(name, drawn.intersection(SHOWN))),
        TABLES_NAME: tables_page(judged, about, lambda name: _pictures(name, drawn)),
    }


def _pictures(experiment: str, drawn: set[str]) -> str:
    """Return the figures of an experiment."""
    return "\n\n".join(
        f"![{caption}]({FIGURES}/{name}.svg)"
        for name, (of, caption) in CAPTIONS.items()
        if of == experiment and name in drawn
    )
