"""The rows of all runs in one JSON file, from which the report is made.

A value per experiment: the columns that its report needs, numbers to five digits.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

# Of every row, where it has them, and of the rows of each experiment.
COLUMNS = (
    "task",
    "seed",
    "system",
    "rank_asked",
    "Err",
    "DDP",
    "DEO",
    "C",
    "parameters",
    "warnings",
)
MORE = {
    "table1": ("rows", "features", "counts", "label DDP"),
    "figure1": ("points", "groups", "probe", "probe of two components", "probe of all rows"),
    "figure3": ("groups", "cosine", "rank correlation", "ratio", "fisher"),
    "figure4": ("cosine",),
    "table3": ("constraint", "intensity"),
    "weights": ("trained", "group_weight", "val Err"),
    "ranks": ("seconds",),
    "many": ("trained", "gap"),
    "few": ("rows",),
    "budget": ("max_epochs",),
    "reading": ("max_epochs", "cosine"),
    "fisher": ("trained", "fisher", "at", "cosine", "cosine with empirical"),
}


def write(path: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write rows of `runs.read` and what they ran on."""
    experiments = {}
    for name in dict.fromkeys(row["experiment"] for row in rows):
        part = [row for row in rows if row["experiment"] == name]
        known = set().union(*part)
        wanted = dict.fromkeys((*COLUMNS, *MORE.get(name, ())))
        columns = [column for column in wanted if column in known]
        experiments[name] = {
            "columns": columns,
            "rows": [[_short(row.get(column)) for column in columns] for row in part],
        }
    lines = [
        f'"{name}": {{"columns": {json.dumps(each["columns"])}, "rows": [\n'
        + ",\n".join(json.dumps(row, separators=(",", ":")) for row in each["rows"])
        + "\n]}"
        for name, each in experiments.items()
    ]
    path.write_text(
        f'{{"about": {json.dumps(about)},\n"experiments": {{\n' + ",\n".join(lines) + "\n}}\n",
        encoding="utf-8",
    )


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows as one frame with a column "experiment", and what they ran on."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    frames = [
        pd.DataFrame(each["rows"], columns=each["columns"]).assign(experiment=name)
        for name, each in stored["experiments"].items()
    ]
    return pd.concat(frames, ignore_index=True), stored["about"]


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
