"""The benchmark of cuts and rare groups: shares as asked for, cells as its rules say."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import rare_groups


@pytest.mark.parametrize("share", rare_groups.SHARES)
def test_a_group_is_made_as_rare_as_asked_for(share, tmp_path):
    task = rare_groups.TASKS["smoke"]("other", 0, tmp_path)
    rows = rare_groups.made_rare(task.calibration, share, np.random.default_rng(0))
    size = max(2, round(share * len(rows.rare)))
    assert rows.rare.sum() == size
    # All rows there are, up to one group's end.
    left = [(task.calibration.rare == kind).sum() - (rows.rare == kind).sum() for kind in (0, 1)]
    assert min(left) <= 1


def test_rows_resume_and_cells_are_ratios_of_means(tmp_path, monkeypatch):
    monkeypatch.setattr(rare_groups, "SHARES", (0.2,))
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
    assert rare_groups.markdown(frame).count("| smoke | 0.2 |") == 3
    for row in rows:
        assert row["rise all"] == pytest.approx(0.2 * row["rise rare"] + 0.8 * row["rise others"])
