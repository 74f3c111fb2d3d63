"""The benchmark of parity by column: columns as the task numbers them, a page made of its rows."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import by_column
from _shared.rows import unpacked
from _tradeoff.data import Part

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def rows():
    return pd.DataFrame(unpacked(ROOT / "docs" / "by_column.json.gz"))


def test_columns_are_those_that_the_groups_were_made_of():
    female, race = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 2])
    part = Part(np.zeros((4, 1)), np.zeros(4), female + 2 * race)
    found = by_column.columns_of(part)
    assert found["sex"].tolist() == ["m", "f", "m", "f"]
    assert found["race"].tolist() == ["White", "White", "Black", "other"]


def test_rows_are_of_all_methods_bounds_and_seeds(rows):
    counts = rows.groupby(["method", "bound"]).size()
    assert (counts == 10).all()
    assert len(counts) == 3 * 4 + 1
    assert set(rows["method"]) == set(by_column.METHODS)
    # The distance of a column is never above that of pairs of the same rows: rates of levels are
    # means of those of the pairs.
    assert (rows["by column"] <= rows["intersections"] + 1e-4).all()


def test_differences_are_paired(rows):
    own, other = "plug_in, columns", "reduction, rows twice"
    table = rows[rows["bound"] == 0.05].pivot(index="seed", columns="method", values="Err")
    test = ttest_rel(table[own], table[other])
    low, high = test.confidence_interval(0.95)
    expected = [(table[own] - table[other]).mean(), low, high]
    np.testing.assert_allclose(by_column.paired(rows, "Err", 0.05, own, other), expected)


def test_the_page_has_its_tables_and_what_the_rules_say(rows):
    page = (ROOT / "docs" / "guide" / "data_and_groups.md").read_text(encoding="utf-8")
    for table in by_column.markdown(rows).strip().split("\n\n"):
        assert table in page
    # One of the rules it missed, and the page says where.
    assert by_column.verdict(rows) == {"worth its place": False, "the better way": True}
    own, other = "plug_in, columns", "reduction, rows twice"
    farther = [by_column.paired(rows, "by column", b, own, other)[1] > 0 for b in by_column.BOUNDS]
    assert farther == [True, True, False]
    cheaper = [
        by_column.paired(rows, "Err", b, own, "plug_in, intersections")[2] < 0
        for b in by_column.BOUNDS
    ]
    assert all(cheaper)
    words = " ".join(page.split())
    assert "at 0.1 and 0.05 its distance by column is surely larger" in words
    assert "1.0 to 1.5 points of error less than by intersections" in words
