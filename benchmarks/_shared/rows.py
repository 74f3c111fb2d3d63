"""Rows of a benchmark: stored one by one as they come, so that it goes on where it was stopped."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["append", "packed", "read", "resumed", "unpacked"]

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a file, none if there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file at once."""
    with path.open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def resumed(path: Path, made: Callable[[set[str]], Iterable[Row]]) -> list[Row]:
    """Return the rows of a file and those that are made, given the "key" of each that is there."""
    found = read(path)
    for row in made({row["key"] for row in found}):
        append(path, [row])
        found.append(row)
    return found


def packed(rows: list[Row]) -> bytes:
    """Return rows of one kind as packed JSON, numbers to five digits that count, by columns."""
    columns = {
        name: [
            float(f"{row[name]:.5g}") if isinstance(row[name], float) else row[name] for row in rows
        ]
        for name in rows[0]
    }
    # No time of writing, so that the same rows are the same file.
    return gzip.compress(json.dumps(columns, separators=(",", ":")).encode(), mtime=0)


def unpacked(path: Path) -> list[Row]:
    """Return rows that `packed` made."""
    columns = json.loads(gzip.decompress(path.read_bytes()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
