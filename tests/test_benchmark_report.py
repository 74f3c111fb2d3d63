"""The page of the paper's rerun is what its rows say, and the whole of it runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "benchmarks"))

from paper import paired, store, tables, verdicts  # noqa: E402
from paper.experiments import EXPERIMENTS  # noqa: E402
from paper.figures import CAPTIONS  # noqa: E402
from paper.report import FIGURES, render, write_report  # noqa: E402


@pytest.fixture(scope="module")
def stored():
    return store.read(DOCS / "reproduction.json")


class TestThePage:
    def test_is_made_from_its_rows(self, stored):
        drawn = [name for name in CAPTIONS if (DOCS / FIGURES / f"{name}.svg").exists()]
        assert (DOCS / "reproduction.md").read_text(encoding="utf-8") == render(*stored, drawn)

    def test_has_every_experiment_on_ten_seeds(self, stored):
        frame, _ = stored
        for name, experiment in EXPERIMENTS.items():
            part = frame[frame["experiment"] == name]
            assert set(part["task"]) == set(experiment.tasks)
            assert (part.groupby("task")["seed"].nunique() == 10).all()

    def test_shows_both_forms_of_every_figure(self):
        shown = set(
            re.findall(rf"\({FIGURES}/(\w+)\.svg\)", (DOCS / "reproduction.md").read_text())
        )
        assert shown == set(CAPTIONS)
        for name in shown:
            assert (DOCS / FIGURES / f"{name}.png").exists()

    def test_a_mean_of_a_table_is_that_of_the_rows(self, stored):
        frame, _ = stored
        rows = frame[
            (frame["experiment"] == "figure4")
            & (frame["task"] == "adult")
            & (frame["system"] == "paper")
        ]
        mean, std = rows["DDP"].mean(), rows["DDP"].std()
        assert f"{mean:.3f} ± {std:.3f}" in (DOCS / "reproduction.md").read_text(encoding="utf-8")

    def test_another_result_makes_another_page(self, stored):
        frame, about = stored
        part = frame[frame["experiment"] == "figure4"]
        changed = part.assign(Err=part["Err"] + 1)
        assert render(changed, about, []) != render(part, about, [])


class TestStore:
    def test_gives_the_rows_back(self, tmp_path):
        rows = [
            {"experiment": "figure4", "task": "a", "seed": 0, "system": "TL", "Err": 1 / 3},
            {"experiment": "figure4", "task": "a", "seed": 1, "system": "TL", "Err": float("nan")},
            {"experiment": "ranks", "task": "b", "seed": 0, "system": "TL", "seconds": 123456.0},
        ]
        store.write(tmp_path / "rows.json", rows, {"cores": 2})
        json.loads((tmp_path / "rows.json").read_text())
        frame, about = store.read(tmp_path / "rows.json")
        assert about == {"cores": 2}
        assert frame["experiment"].tolist() == ["figure4", "figure4", "ranks"]
        assert frame.loc[0, "Err"] == pytest.approx(1 / 3, rel=1e-4)
        assert np.isnan(frame.loc[1, "Err"])
        assert frame.loc[2, "seconds"] == pytest.approx(123456, rel=1e-4)

    def test_writes_the_same_bytes_again(self, tmp_path, stored):
        frame, about = stored
        part = frame[frame["experiment"] == "table1"].dropna(axis=1, how="all")
        rows = part.to_dict("records")
        for name in ("one", "two"):
            store.write(tmp_path / name, rows, about)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


class TestTables:
    def test_differences_as_text(self):
        low = paired.interval([-0.3, -0.1])
        assert verdicts.text(low, 1) == "\N{MINUS SIGN}0.2 (\N{MINUS SIGN}1.5 to +1.1)"
        assert verdicts.text(paired.interval([0.0, 0.0]), 3) == "0 in all seeds"
        assert verdicts.text(paired.interval([np.nan]), 3) == "-"

    def test_mean_std(self):
        assert tables.mean_std(pd.Series([1.0, 3.0, None]), 2) == "2.00 ± 1.41"
        assert tables.mean_std(pd.Series([2.0]), 1) == "2.0"
        assert tables.mean_std(pd.Series([], dtype=float), 1) == "-"

    def test_one_row_for_each_setting(self):
        frame = pd.DataFrame(
            {
                "system": ["TL", "TL", "paper", "paper"],
                "rank_asked": [np.nan, np.nan, 1.0, 1.0],
                "Err": [10.0, 12.0, 1.0, 1.0],
                "DDP": 0.1,
                "DEO": 0.2,
            }
        )
        lines = tables.grouped(frame, {"system": tables.SYSTEM, "rank_asked": tables.RANK})
        assert lines.splitlines()[2:] == [
            "| TL |  | 11.00 ± 1.41 | 0.100 ± 0.000 | 0.200 ± 0.000 |",
            "| paper | 1 | 1.00 ± 0.00 | 0.100 ± 0.000 | 0.200 ± 0.000 |",
        ]


def test_without_rows_and_without_a_page_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report([], {}, tmp_path)


@pytest.mark.slow
def test_quick_run(tmp_path):
    """All experiments, from nothing but what is here, and again from what is stored."""
    command = [sys.executable, str(ROOT / "benchmarks" / "paper"), "--quick"]
    command += ["--cache", str(tmp_path / "cache"), "--docs", str(tmp_path / "docs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    frame, _ = store.read(tmp_path / "docs" / "reproduction.json")
    assert set(frame["experiment"]) == set(EXPERIMENTS)
    assert set(frame["seed"]) == {0, 1}
    page = (tmp_path / "docs" / "reproduction.md").read_text(encoding="utf-8")
    # A second run computes nothing and says the same.
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "unit" not in again.stderr
    assert (tmp_path / "docs" / "reproduction.md").read_text(encoding="utf-8") == page
