"""What programs of long runs share: options, tasks that can run here, and what is written."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch

from .rows import Row, packed, resumed, unpacked

__all__ = ["DEFAULT_CACHE", "options_of", "rows_of", "seeds_of", "write"]

DEFAULT_CACHE = Path(tempfile.gettempdir()) / "skfairft-tradeoff"
"""Where features are kept that all of them share."""


def options_of(
    doc: str, *, tasks: Iterable[str] = (), seeds: str = "seeds", n: int = 10
) -> argparse.ArgumentParser:
    """Return the options of a program: its tasks, how many seeds, and files.

    ``doc`` is that of its module, and ``seeds`` the name of what it repeats, ``n`` times.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    if tasks := list(tasks):
        parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks)
    parser.add_argument(f"--{seeds}", type=int, default=n)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of features")
    results = Path(tempfile.gettempdir()) / f"skfairft-{Path(parser.prog).stem.replace('_', '-')}"
    parser.add_argument("--results", type=Path, default=results, help="folder of single rows")
    parser.add_argument("--json", type=Path, help="write all rows, packed by gzip")
    parser.add_argument("--markdown", type=Path, help="write the tables")
    parser.add_argument("--rows", type=Path, help="rows to make the tables of, as --json wrote")
    return parser


def seeds_of(seeds: int, tasks: Iterable[str], few: Iterable[str], n: int) -> dict[str, int]:
    """Return how many seeds each task is run with: those that are slow with at most n."""
    return {task: min(seeds, n) if task in few else seeds for task in tasks}


def rows_of(
    options: argparse.Namespace,
    tasks: Iterable[str],
    made: Callable[[str, set[str]], Iterable[Row]],
    *,
    lacking: Callable[[str], str | None] = lambda task: None,
    wanted: Callable[[Row], bool],
) -> list[Row]:
    """Return the rows of `options.rows`; else run what is not there, and return what is wanted.

    ``made`` makes the rows of a task but for those whose keys are given; ``lacking`` says what a
    task cannot run without. One thread, unless the program sets more.
    """
    if options.rows:
        return unpacked(options.rows)
    torch.set_num_threads(getattr(options, "threads", 1))
    options.results.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for task in tasks:
        lacks = lacking(task)
        if lacks is not None:
            print(f"{task} is left out: {lacks}")
            continue
        found = resumed(options.results / f"{task}.jsonl", partial(made, task))
        rows += filter(wanted, found)
    return rows


def write(options: argparse.Namespace, rows: list[Row], tables: str, *more: str) -> None:
    """Write rows and tables where that is asked for; print more, and tables that are not."""
    print(*more, *([] if options.markdown else [tables]), sep="\n")
    if options.markdown:
        options.markdown.write_text(tables, encoding="utf-8")
    if options.json:
        options.json.write_bytes(packed(rows))
