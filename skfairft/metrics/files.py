"""A fairness report as a file of JSON, and back.

The file holds each number for any reader, and the counts that all of them follow from: from these
the report is made again. Labels and groups are written as by `skfairft.inputs.values`; nothing in
a file can run or import anything.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.levels import Column
from ..inputs.values import unpack
from ..inputs.words import shown
from ..parity.cells import Cells, Floats
from ..parity.demands import Demand
from ..parity.levels import levels_of
from .assembly import build_report
from .report import FairnessReport
from .written import FORMAT

__all__ = ["load_report"]


def load_report(path: str | os.PathLike[str]) -> FairnessReport:
    """Return a fairness report that was saved as JSON.

    Parameters
    ----------
    path : str or path-like
        A file that `FairnessReport.save` wrote under a name that ends in ``.json``.

    Returns
    -------
    FairnessReport
        The same numbers, those of resamples as they were written.

    Raises
    ------
    ValueError
        For a file of anything else, or of a later version.
    OSError
        If it cannot be read.

    See Also
    --------
    FairnessReport.compare : What has changed since a report.

    Examples
    --------
    >>> from skfairft.metrics import fairness_report, load_report
    >>> y, pred, s = [1, 0] * 100, [1, 1, 0, 0] * 50, ["a"] * 90 + ["b"] * 110
    >>> report = fairness_report(y, pred, sensitive_features=s, random_state=0)
    >>> report.save("january.json")
    >>> str(load_report("january.json")) == str(report)
    True
    """
    try:
        written = json.loads(Path(path).read_text(encoding="utf-8"))
        name, version = written["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _NotAReport(path, "it is no JSON that says its format") from error
    if name != FORMAT[0]:
        raise _NotAReport(path, f"its format is {shown(name)}")
    if version != FORMAT[1]:
        raise _NotAReport(
            path, f"it is of version {shown(version)}, this package reads {FORMAT[1]}"
        )
    try:
        return _report(written)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise _NotAReport(path, f"what is in it does not fit together ({error})") from error


class _NotAReport(ValueError):
    def __init__(self, path: Any, why: str) -> None:
        super().__init__(
            f"{os.fspath(path)!r} holds no fairness report that can be read: {why}. Expected is a "
            'file that report.save("name.json") wrote.'
        )


def _report(written: dict[str, Any]) -> FairnessReport:
    names = [str(name) for name in written["columns"]]
    groups = _objects(written["groups"])
    columns: tuple[Column, ...] = ()
    if len(names) > 1:
        parts = zip(*groups.tolist(), strict=True)
        columns = tuple(
            Column(name, *_levels(_objects(levels), part))
            for (name, levels), part in zip(written["columns"].items(), parts, strict=True)
        )
    labels = np.array([unpack(each) for each in written["labels"]], dtype=object)
    shape = len(groups), len(labels), len(labels)
    rows, mass, squares = (_table(written[name], shape) for name in ("rows", "mass", "squares"))
    asked = [
        Demand(each["constraint"], ratio=each["form"] == "ratio", bound=float(each["bound"]))
        for each in written["bounds"]
    ]
    cells = Cells(
        groups,
        labels,
        range(*written["positives"]),
        rows,
        mass,
        squares,
        None,
        constraints=tuple(written["constraints"]),
        ratios=tuple(written["ratios"]),
        levels=levels_of(written["between"], columns),
    )
    report = build_report(
        cells,
        names,
        columns,
        n_boot=0,
        confidence_level=written["confidence_level"],
        random_state=None,
        groups=written["between"],
        demands=asked,
    )
    # Resamples cannot be drawn again of sums.
    f1 = {scope: np.array(ends, dtype=np.float64) for scope, ends in written["f1"].items()}
    ends = ["low", "high"]
    report.headline.loc["weighted_f1_error", ends] = 100.0 * (1.0 - f1["overall"][::-1])
    report.overall_intervals.loc["f1", ends] = f1["overall"]
    for j, end in enumerate(ends):
        report.group_intervals["f1", end] = f1["groups"][:, j]
    return replace(report, n_boot=int(written["n_boot"]))


def _objects(values: list[Any]) -> NDArray[Any]:
    found = np.empty(len(values), dtype=object)
    found[:] = [unpack(each) for each in values]
    return found


def _levels(
    levels: NDArray[Any], part: tuple[Any, ...]
) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    number = {level: code for code, level in enumerate(levels.tolist())}
    return tuple(levels), np.array([number[level] for level in part])


def _table(values: Any, shape: tuple[int, ...]) -> Floats:
    table = np.array(values, dtype=np.float64)
    if table.shape != shape or not (np.isfinite(table) & (table >= 0.0)).all():
        raise ValueError(f"a table is no {shape} of counts")
    return table
