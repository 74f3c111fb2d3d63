"""Files that are given: tables, their columns and labels; and names of files to write."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inputs.words import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ENDINGS", "check_file", "column_of", "columns_of", "label_of", "read_table", "say"]

ENDINGS = (".csv", ".tsv", ".parquet", ".feather", ".jsonl")
"""Of files that hold tables."""

_TRUTHS = ("true", "false")


def read_table(name: str, groups: Sequence[str]) -> pd.DataFrame:
    """Return the table in a file; of text files groups as the texts that they are."""
    import pandas as pd

    endings = Path(name).suffixes
    ending = next((each.lower() for each in reversed(endings) if each.lower() in ENDINGS), "")
    if not ending:
        raise ValueError(f"{name!r} ends in none of {', '.join(ENDINGS)}.")
    try:
        if ending in (".csv", ".tsv"):
            read: Any = partial(
                pd.read_csv, name, sep="," if ending == ".csv" else "\t", index_col=False
            )
            # Of fields beyond the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            own = {part.strip() for each in groups for part in (each, *each.split(","))}
            # 01 is another group than 1.
            frame: pd.DataFrame = read(dtype={each: str for each in read(nrows=0) if each in own})
        elif ending == ".jsonl":
            frame = pd.read_json(name, lines=True, dtype=False)
        else:
            frame = pd.read_parquet(name) if ending == ".parquet" else pd.read_feather(name)
    except OSError:
        raise
    except Exception as error:  # whatever readers and unpackers may raise
        raise ValueError(f"{name!r} cannot be read: {error}") from error
    if len(frame) == 0:
        raise ValueError(f"{name!r} has 0 rows.")
    return frame


def columns_of(frame: pd.DataFrame, given: Sequence[str]) -> list[str]:
    """Return the names of columns that are given one by one, or by commas."""
    names = []
    for each in given:
        names += [each] if each in frame else [name.strip() for name in each.split(",")]
    for name in names:
        column_of(frame, name)
    return names


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column, or say which there are."""
    known = [str(each) for each in frame]
    if name not in frame:
        mark = next((each for each in ";\t|" if len(known) == 1 and each in known[0]), None)
        why = "" if mark is None else f" Its columns are parted by {mark!r}; expected commas."
        raise ValueError(
            f"there is no column {name!r}.{did_you_mean(name, known)} The columns are: "
            f"{', '.join(known[:20])}{' ...' if len(known) > 20 else ''}.{why}"
        )
    return frame[name]


def label_of(label: pd.Series, text: str | None) -> Any:
    """Return the label that a text stands for, also one that no row has, of the same type."""
    if text is None:
        return None
    known = label.dropna().unique().tolist()
    for each in known:
        if str(each) == text:
            return each
    for each in known:  # 1 stands for 1.0 and True, true for True
        if str(each).casefold() == text.casefold() or _as_number(text) == each:
            return each
    if len(known) == 1 and isinstance(known[0], (int, float)):
        number = _as_number(text)
        if isinstance(known[0], bool):
            return not known[0] if number in (0, 1) or text.casefold() in _TRUTHS else text
        return text if number is None else number if number % 1 else int(number)
    return text


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def check_file(name: str, endings: tuple[str, ...]) -> None:
    """Refuse a name that nothing can be written to, before anything is computed."""
    path = Path(name)
    if path.suffix.lower() not in endings:
        raise ValueError(f"{name!r} ends in none of {', '.join(endings)}.")
    if not path.parent.is_dir():
        raise ValueError(f"{name!r} is in a folder that is not there; make {str(path.parent)!r}.")


def say(text: str) -> None:
    """Print; a reader that has read enough, such as ``head``, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
