"""The benchmark of cuts and rare groups: shares as asked for, cells as its rules say."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import rare_groups
from _shared.rows import unpacked


@pytest.mark.parametrize("share", rare_groups.SHARES)
def test_a_group_is_made_as_rare_as_asked_for(share, tmp_path):
    task = rare_groups.TASKS["smoke"]("other", 0, tmp_path)
    rows = rare_groups.made_rare(task.calibration, share, np.random.default_rng(0))
    size = max(2, round(share * len(rows.rare)))
    assert rows.rare.sum() == size
    # All rows there are, up to one group's end.
    left = [(task.calibration.rare == kind).sum() - (rows.rare == kind).sum() for kind in (0, 1)]
    assert min(left) <= 1


@pytest.mark.filterwarnings("ignore:Some groups have few rows")
def test_rows_resume_and_cells_are_ratios_of_means(tmp_path, monkeypatch):
    monkeypatch.setattr(rare_groups, "SHARES", (0.05,))
    rows = list(rare_groups.cuts("smoke", 2, tmp_path, set()))
    assert len(rows) == 2 * len(rare_groups.METHODS)
    done = {row["key"] for row in rows[3:]}
    again = list(rare_groups.cuts("smoke", 2, tmp_path, done))
    times = {"CPU seconds"}
    assert [{k: v for k, v in row.items() if k not in times} for row in again] == [
        {k: v for k, v in row.items() if k not in times} for row in rows[:3]
    ]
    frame = pd.DataFrame(rows)
    worst = frame.groupby("method")["rise worst"].mean()
    (cell,) = rare_groups.of_cells(frame).to_dict("records")
    blind = min(worst[name] for name in rare_groups.BLIND)
    assert cell["equal / best blind"] == pytest.approx(worst["covariance, equal"] / blind)
    expected = worst["distilled, minimax"] / worst["distilled, pooled"]
    assert cell["distilled minimax / distilled pooled"] == pytest.approx(expected)
    text = rare_groups.markdown(frame)
    both = [frame[frame["draw"] == draw].groupby("method")["rise worst"].mean() for draw in (0, 1)]
    each = [draw["distilled, minimax"] / draw["distilled, pooled"] for draw in both]
    lower, higher = (int(sign * expected < sign) for sign in (1, -1))
    in_each = [int(all(sign * ratio < sign for ratio in each)) for sign in (1, -1)]
    counts = f"{lower} ({in_each[0]}) | {higher} ({in_each[1]})"
    ratio = "distilled minimax / distilled pooled"
    assert f"| {ratio} | 0.05 | median 0.7 | {expected:.2f} | {expected:.2f} | {counts} |" in text
    assert f"| {ratio} | {expected:.2f} ({expected:.2f}) |" in text
    rare_groups.plot(frame, tmp_path / "ratios.png")
    for row in rows:
        total = 0.05 * row["rise rare"] + 0.95 * row["rise others"]
        assert row["rise all"] == pytest.approx(total, rel=1e-5)  # of rounded numbers


def test_the_pages_are_made_of_the_stored_rows():
    docs = Path(__file__).resolve().parents[1] / "docs"
    rows = pd.DataFrame(unpacked(docs / "rare_groups.json.gz"))
    assert rows["draw"].nunique() == 5
    assert (docs / "rare_groups.md").read_text(encoding="utf-8") == rare_groups.markdown(rows)
    guide = (docs / "guide" / "compression.md").read_text(encoding="utf-8")
    assert rare_groups.asked(rows) in guide
    cells = rare_groups.of_cells(rows).reset_index()
    middle = cells[cells["share"] <= 0.05].groupby("task").median(numeric_only=True).round(2)
    for ratio, said in {
        "equal / pooled": "{faces} of that of the same covariance with all rows pooled",
        "K-FAC, equal / best blind": "has {imagenet} of the best blind\n  cut's rise on the 1,000 "
        "classes and {table} on the hidden layer",
        "distilled equal / best blind": "ends at {faces}, {imagenet} and {table} of the best blind",
        "distilled from K-FAC, equal / best blind": "distillation ends at {faces}, {imagenet} and "
        "{table} of the best blind",
        "the paper / best blind": "behind the best blind cut by {faces}, {imagenet} and {table}",
    }.items():
        assert said.format(**middle[ratio].map("{:.2f}".format)) in guide
    met = sum(
        cells.loc[cells["share"] <= most, ratio].agg(of) <= limit
        for ratio, most, of, limit in rare_groups.ASKED
    )
    assert met == 3
    assert "of the eleven things asked for, three came out" in guide
