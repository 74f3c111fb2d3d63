"""The benchmark of clusters: the page's tables are those of its rows; a small run ends."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import scaling
from _scaling import generated

ROOT = Path(__file__).resolve().parents[1]
ROWS = json.loads((ROOT / "docs" / "scaling.json").read_text())
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def row(key):
    return next(row for row in ROWS if row["key"] == key)


def test_the_page_s_tables_are_those_of_the_rows():
    assert scaling.filled(PAGE, scaling.tables(ROWS)) == PAGE
    assert len(scaling.tables(ROWS)) == PAGE.count("<!-- end -->") == 5


def test_the_page_s_sentences_are_those_of_the_rows():
    rows = [row for row in ROWS if row["task"] == "rows"]
    assert max(row["peak"] for row in rows) < 1e9
    assert all(abs(row["idle"] - 410e6) < 5e6 for row in rows)
    peaks = [row(f"rows|{n} rows, closed form")["peak"] for n in ("1,000,000", "10,000,000")]
    assert round((peaks[1] - peaks[0]) / 1e6) == 13
    beside = [row for row in rows if "alike" in row]
    assert all(row["alike"] == 1.0 for row in beside)
    assert all(row["seconds in memory"] < 0.55 * row["seconds"] for row in beside)
    assert max(row["scores apart"] for row in beside) < 1.1e-7
    assert max(row["bytes per row"] for row in rows) < 1024
    here = [row(f"here|{name}")["bytes per row"] / 10 for name in scaling.HERE]
    assert all(bytes_ < most for bytes_, most in zip(here, (16, 64, 24), strict=True))


@pytest.mark.parametrize("page", ["docs/guide/scaling_out.md", "benchmarks/README.md"])
def test_what_a_search_sends_is_what_was_counted(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = json.loads((ROOT / "docs" / "search_bytes.json").read_text())["rows"]
    named = {"joblib": "parallel_config", "on_cluster": "on_cluster(", "here": "of 51.5 MB"}
    for each in rows:
        assert each["largest difference"] == 0.0
        assert each["times each row ran"] == 1
        lines = [line for line in text.splitlines() if named.get(each["way"], each["way"]) in line]
        if each["way"] == "here":
            assert f"{each['backbone'] / 1e6:.1f} MB" in lines[0]
        else:
            assert any(f"| {each['ratio']:.2f} |" in line for line in lines)


def test_what_shards_do_is_what_was_measured():
    text = (ROOT / "docs" / "guide" / "scaling_out.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "docs" / "shards.json").read_text())["rows"]
    even, uneven, penalty, lbfgs = (row["apart"] for row in found)
    assert max(even) < 2e-16
    assert f".{uneven[0] * 1000:03.0f} apart" in text
    assert f".{penalty[0] * 1000:03.0f} apart" in text
    assert sum(isinstance(each, str) for each in lbfgs) == 1
    assert f".{next(each for each in lbfgs if isinstance(each, float)) * 1000:03.0f} away" in text


def test_generated_rows_are_the_same_in_chunks_and_here():
    X, y, s = generated.chunked(50, 3, 20)
    for lazy, whole in zip((X, y, s), generated.here(50, 3, 20), strict=True):
        assert np.array_equal(lazy.compute(scheduler="synchronous"), whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:difference_bound=")  # such few rows are not enough for it
@pytest.mark.parametrize("task", ["rows", "workers", "here"])
def test_a_small_run_measures_each(task):
    rows = list(scaling.measured(task, True, set()))
    assert rows
    assert not list(scaling.measured(task, True, {row["key"] for row in rows}))


def test_a_small_run_counts_passes():
    (found,) = scaling.measured("passes", True, set())
    assert found["chunks"] == 8
    assert found["seconds"] > 0.0
