"""A path as what a folder of checked files holds; `skfairft.path.files` reads it."""

from __future__ import annotations

import os
from typing import Any

import torch

from ..inputs.values import pack
from ..parity.levels import Levels
from ..saving import write_classifiers

__all__ = ["FIELDS", "write_path"]

# What is written as it is.
FIELDS = (
    *("constraint", "n_judged", "out_of_fold", "known_groups", "pos_label", "groups"),
    *("others", "positives"),
)


def write_path(path: Any, folder: str | os.PathLike[str], *, backbone: bool) -> None:
    """Write a path to a folder; see `FairnessPath.save`."""
    table = {
        str(name): [str(column.dtype), *map(pack, column.tolist())]
        for name, column in path.table.items()
    }
    fields = {name: getattr(path, name) for name in FIELDS}
    if fields["positives"] is not None:
        fields["positives"] = (fields["positives"].start, fields["positives"].stop)
    numbers = {
        name: torch.from_numpy(getattr(path, name)) for name in ("decisions", "squares", "tuned")
    }
    written = {
        "table": table,
        "fields": {name: pack(value) for name, value in fields.items()},
        "levels": None if path.levels is None else _levels(path.levels),
    }
    write_classifiers(
        path.classifiers, folder, backbone=backbone, more={"path": written}, numbers=numbers
    )


def _levels(levels: Levels) -> list[Any]:
    return [[each.name, [*map(pack, each.levels)], each.codes.tolist()] for each in levels.columns]
