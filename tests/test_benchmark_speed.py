"""The benchmark of speed: all its tasks run, ways to do the same agree, exponents are of powers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import speed
from _shared.timing import exponent, in_turn
from _speed import fits, parts


def test_ways_take_turns_after_a_round_that_is_not_counted():
    calls = []
    seconds = in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert calls == ["a", "b"] * 3
    assert [len(each) for each in seconds.values()] == [2, 2]
    in_turn({"long": lambda: calls.append("long")}, 1)
    assert calls.count("long") == 1


def test_the_exponent_is_that_of_the_power():
    sizes = [10, 100, 400]
    assert exponent(sizes, [3.0 * size**1.7 for size in sizes]) == pytest.approx(1.7)


# Which start processes or fit often.
SLOW = {"memory", "one new row", "a path", "a search", "a GPU"}


@pytest.mark.parametrize(
    "task", [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in speed.TASKS]
)
def test_a_small_run_measures_each_way_once(task):
    if task == "memory" and not Path("/proc/self/clear_refs").exists():
        pytest.skip("peaks are measured on Linux")
    rows = list(speed.measured(task, True, set()))
    assert rows
    for row in rows:
        assert row["ratio"]["ours"] == 1.0
        assert all(measured >= 0.0 for measured in row["median"].values())
    done = {row["key"] for row in rows}
    assert not list(speed.measured(task, True, done))
    assert f"{rows[0]['median']['ours']:.3g}" in speed.tables(rows)[task]


def test_ways_to_the_fisher_information_agree():
    *_, case = parts.fisher(True)
    found = {name: way() for name, way in case.systems.items()}
    ours = found.pop("ours").squares
    for other in found.values():
        torch.testing.assert_close(ours.float(), other, rtol=1e-4, atol=1e-6)


def test_regressions_agree():
    (case,) = fits.classes(True)
    X = case.systems["ours"].args[0]
    scores = case.systems["ours"]().decision_function(X)
    far = case.systems["logistic regression, as far"]().decision_function(X)
    np.testing.assert_allclose(
        scores - scores.mean(1, keepdims=True), far - far.mean(1, keepdims=True), atol=1e-4
    )


def test_the_page_is_made_of_the_stored_rows():
    docs = Path(__file__).resolve().parents[1] / "docs"
    rows = json.loads((docs / "speed.json").read_text())
    page = (docs / "speed.md").read_text(encoding="utf-8")
    assert speed.in_page(page, rows) == page
    tables = speed.tables(rows)
    assert list(tables) == [task for task in speed.TASKS if task != "a GPU"]
    for task, table in tables.items():
        assert f"<!-- {task} -->\n\n{table}\n" in page
