"""The pages of the paper's rerun are what its rows say, and the whole of it runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "benchmarks"))

from paper import neutralization, paired, store, tables, titles, verdicts  # noqa: E402
from paper.experiments import EXPERIMENTS  # noqa: E402
from paper.figures import CAPTIONS  # noqa: E402
from paper.report import FIGURES, render, write_report  # noqa: E402
from paper.runs import is_whole  # noqa: E402
from paper.titles import NAME, TABLES_NAME  # noqa: E402


@pytest.fixture(scope="module")
def stored():
    return store.read(DOCS / "reproduction.json")


def read(name):
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


class TestThePages:
    @pytest.mark.slow
    def test_are_made_from_their_rows(self, stored):
        drawn = [name for name in CAPTIONS if (DOCS / FIGURES / f"{name}.svg").exists()]
        made = render(*stored, drawn)
        assert set(made) == {NAME, TABLES_NAME}
        for name, text in made.items():
            assert read(name) == text

    def test_have_every_experiment_on_ten_seeds(self, stored):
        frame, _ = stored
        for name, experiment in EXPERIMENTS.items():
            part = frame[frame["experiment"] == name]
            assert set(part["task"]) == set(experiment.tasks)
            assert (part.groupby("task")["seed"].nunique() == 10).all()

    def test_a_part_is_not_the_whole(self, stored):
        rows = stored[0][["experiment", "task", "seed"]].drop_duplicates()
        assert is_whole(rows.to_dict("records"))
        assert not is_whole(rows[rows["seed"] < 9].to_dict("records"))
        assert not is_whole(rows[rows["task"] != "hair, resnet18, last"].to_dict("records"))

    def test_show_both_forms_of_every_figure(self):
        shown = set(re.findall(rf"\({FIGURES}/(\w+)\.svg\)", read(TABLES_NAME)))
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
        assert f"{mean:.3f} ± {std:.3f}" in read(TABLES_NAME)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", neutralization.FORMS)
    def test_counts_what_another_form_of_the_method_does(self, stored, name):
        frame, about = stored
        form = neutralization.FORMS[name]
        part = frame[frame["experiment"].isin(["figure4", *form.experiments])]
        outcomes = neutralization.compare(part, form)
        helps = int((outcomes["outcome"] == "helps").sum())
        made, title = render(part, about, []), titles.FORMS[name]
        row = f"| {titles.linked(title, title)} | {len(outcomes)} | "
        [line] = [line for line in made[NAME].splitlines() if line.startswith(row)]
        assert line.split(" | ")[3] == f"{helps}"
        assert f"### {title}" in made[TABLES_NAME]
        # Control: of a form that was not run, the pages have no row and no section.
        without = render(part[part["system"] != form.system], about, [])
        assert row not in without[NAME]
        assert f"### {title}" not in without[TABLES_NAME]

    @pytest.mark.slow
    def test_another_result_makes_another_page(self, stored):
        frame, about = stored
        part = frame[frame["experiment"] == "figure4"]
        changed = part.assign(Err=part["Err"] + (part["system"] == "paper"))
        before, after = (render(each, about, []) for each in (part, changed))
        assert all(before[name] != after[name] for name in (NAME, TABLES_NAME))


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

    def test_the_other_reading_names_tasks_of_one_head_and_lists_the_others(self):
        rows = [
            {"task": task, "seed": seed, "system": system, "max_epochs": 0.0}
            | {"Err": 10.0 + seed + own, "DDP": 0.1, "DEO": 0.2}
            for seed in (0, 1)
            for task, by_group in (("adult", 0.0), ("separate signals", 1.0))
            for system, own in (("TL", 0.0), ("f+SVD", 0.0), ("paper, heads by group", by_group))
        ]
        text = tables.other_reading(pd.DataFrame(rows))
        first, _, table = text.partition("\n\n")
        assert first.endswith("before and after: Adult, last layer 10x2.")
        [line] = table.splitlines()[2:]
        assert line.startswith("| synthetic, six classes, separate signals | 0 | 10.50 ± 0.71 |")
        assert "| **+1.00** |" in line

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
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_goes_on(tmp_path, how):
    command = [sys.executable, str(ROOT / "benchmarks" / "paper"), "table2", "report", "--quick"]
    command += ["--cache", str(tmp_path)]
    results = tmp_path / "results"
    pages = [(DOCS / f"{name}.md").read_bytes() for name in (NAME, TABLES_NAME)]
    # Processes of a shell's background ignore SIGINT, and theirs do, too: Python's own handler.
    take = "import signal, sys, os; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start = [sys.executable, "-c", take + "os.execv(sys.argv[1], sys.argv[1:])", *command]
    run = subprocess.Popen(start, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while not list(results.glob("table2-*.json")):
        assert run.poll() is None
        time.sleep(0.05)
    os.killpg(run.pid, how)
    _, said = run.communicate(timeout=30)
    assert run.returncode != 0
    assert ("goes on from there" in said) == (how == signal.SIGINT)
    kept = {path: path.stat().st_mtime_ns for path in results.glob("table2-*.json")}
    assert 0 < len(kept) < 14
    subprocess.run(command, check=True, capture_output=True)
    assert len(list(results.glob("table2-*.json"))) == 14
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    # Its pages are those of a part, and do not take the place of the whole ones.
    for name, page in zip((NAME, TABLES_NAME), pages, strict=True):
        assert (tmp_path / "docs" / f"{name}.md").exists()
        assert (DOCS / f"{name}.md").read_bytes() == page


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
    written = [tmp_path / "docs" / f"{name}.md" for name in (NAME, TABLES_NAME)]
    pages = [path.read_bytes() for path in written]
    # A second run computes nothing and says the same.
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "unit" not in again.stderr
    assert [path.read_bytes() for path in written] == pages
