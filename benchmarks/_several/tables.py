"""Tables of the rows, and what the rules say of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

__all__ = ["cell", "held", "markdown", "paired", "paths_of", "verdict"]

OWN, TRAINED, PEER = "plug_in", "fine_tune", "reduction, translated"
PATHS = ("path of the first", "path of the second")


def is_ratio(asked: str) -> bool:
    """Tell whether one ratio is asked for, and not several things."""
    return asked.startswith("ratio 0")


def held(rows: pd.DataFrame) -> pd.Series:
    """Return which runs hold all bounds on test rows."""
    return rows["excess"] <= 0.0


def paired(rows: pd.DataFrame, what: str, first: str, second: str) -> list[float]:
    """Return mean and ends of Student's 95 % interval of first minus second, over the seeds."""
    table = rows.pivot(index="seed", columns="method", values=what)
    each = table[first] - table[second]
    half = student.ppf(0.975, len(each) - 1) * each.std() / len(each) ** 0.5
    return [each.mean(), each.mean() - half, each.mean() + half]


def cell(rows: pd.DataFrame, first: str, second: str) -> tuple[str, list[list[float]]]:
    """Return how one stands to another in a cell, with its differences in error and second number.

    Parameters
    ----------
    rows : DataFrame
        Of one task and what is asked.
    first, second : str
        Methods.
    """
    ratio = is_ratio(rows["asked"].iloc[0])
    own = rows.assign(ratio=rows["reached"].str[0])
    found = [paired(own, what, first, second) for what in ("Err", "ratio" if ratio else "excess")]
    # Signs by which less is better.
    better = worse = False
    for (_, low, high), sign in zip(found, (1, -1 if ratio else 1), strict=True):
        better |= (high if sign > 0 else -low) < 0.0
        worse |= (low if sign > 0 else -high) > 0.0
    words = {(True, False): "ahead", (False, True): "behind", (True, True): "mixed"}
    return words.get((better, worse), "level"), found


def paths_of(rows: pd.DataFrame) -> str:
    """Return the better path of a cell: more often met, then of less error."""
    of = rows[rows["method"].isin(PATHS)].groupby("method")
    means = pd.DataFrame({"met": of["met"].mean(), "Err": of["Err"].mean()})
    return str(means.sort_values(["met", "Err"], ascending=[False, True]).index[0])


def verdict(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the rules say, with the cells that they count."""
    ratios, trained, several = [], [], []
    as_often = []
    for (_, asked), own in rows.groupby(["task", "asked"], sort=False):
        there = set(own["method"])
        if is_ratio(asked):
            ratios.append(cell(own, OWN, PEER)[0])
            if TRAINED in there:
                trained.append(cell(own, TRAINED, PEER)[0])
            continue
        met = own.groupby("method")["met"].sum()
        as_often.append(all(met[OWN] >= met[path] for path in PATHS))
        stands = {path: cell(own, OWN, path)[0] for path in PATHS}
        several.append((stands[paths_of(own)], *stands.values()))
    right = ("ahead", "level")
    return {
        "ratios": _counted(ratios),
        "plug_in worth its place": _worth(ratios),
        "trained": _counted(trained),
        "fine_tune worth its place": _worth(trained),
        "several, against the better path": _counted([each[0] for each in several]),
        "several worth its place": all(as_often)
        and all(word in right for each in several for word in each)
        and 2 * sum(each[0] == "ahead" for each in several) >= len(several),
    }


def _worth(words: list[str]) -> bool:
    return all(word in ("ahead", "level") for word in words) and 2 * words.count("ahead") >= len(
        words
    )


def _counted(words: list[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def markdown(rows: pd.DataFrame) -> str:
    """Return a table of means for ratios and for several, and each one's paired differences."""
    ratio = rows["asked"].map(is_ratio)
    parts = []
    for own in (rows[ratio], rows[~ratio]):
        parts += [_means(own), _differences(own)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _means(rows: pd.DataFrame) -> list[str]:
    ratio = is_ratio(rows["asked"].iloc[0])
    names = ["task", "asked", "", "error (%)", "accuracy (%)"]
    names += ["ratio"] if ratio else ["first", "second"]
    names += ["excess", "met", "held on test"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for (task, asked, method), own in rows.groupby(["task", "asked", "method"], sort=False):
        values = np.mean(own["reached"].tolist(), axis=0)
        met = own["met"].dropna()
        cells = [task, _asked(rows, task, asked), method]
        cells += [f"{own[name].mean():.2f}" for name in ("Err", "accuracy")]
        cells += [f"{value:.3f}" for value in values] + [f"{own['excess'].mean():.3f}"]
        cells += [_share(met) if len(met) else "", _share(held(own))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _differences(rows: pd.DataFrame) -> list[str]:
    second = "ratio" if is_ratio(rows["asked"].iloc[0]) else "excess"
    lines = [f"| task | asked | | minus | error | {second} | |", "|---" * 7 + "|"]
    for (task, asked), own in rows.groupby(["task", "asked"], sort=False):
        for first in (OWN, TRAINED):
            others = [each for each in own["method"].unique() if each not in (OWN, "no constraint")]
            if first == TRAINED:
                others = [PEER] if TRAINED in others else []
            for other in others:
                word, found = cell(own, first, other)
                parts = [
                    f"{mean:+.{n}f} ({low:+.{n}f} to {high:+.{n}f})"
                    for (mean, low, high), n in zip(found, (2, 3), strict=True)
                ]
                cells = [task, asked, first, other, *parts, word]
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def _asked(rows: pd.DataFrame, task: str, asked: str) -> str:
    """Return what is asked, with the mean of bounds that depend on the seed."""
    if is_ratio(asked):
        return asked
    own = rows[(rows["task"] == task) & (rows["asked"] == asked)]
    return (
        f"{asked}: {', '.join(f'{bound:.2f}' for bound in np.mean(own['bounds'].tolist(), axis=0))}"
    )


def _share(each: pd.Series) -> str:
    return f"{int(each.sum())} of {len(each)}"
