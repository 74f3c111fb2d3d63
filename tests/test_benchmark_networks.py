"""The benchmark of cut networks: rows resume, ratios are of means, each size of a step is timed."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import complexity
import networks
from _networks.tasks import SHARE, drawn
from _shared.rows import unpacked


def test_so_many_rows_are_drawn_of_each_group():
    rng = np.random.default_rng(0)
    rare, own = rng.random(1_000) < 0.3, rng.random(1_000) < 0.5
    index = drawn(rare, own, 200, SHARE, rng)
    assert len(set(index)) == 200
    assert own[index].all()
    assert rare[index].sum() == 10


@pytest.mark.filterwarnings("ignore:Some groups have few rows")
def test_rows_resume_and_ratios_are_of_means(tmp_path):
    rows = list(networks.cuts("smoke", 2, tmp_path, set()))
    assert len(rows) == 2 * len(networks.METHODS)
    done = {row["key"] for row in rows[3:]}
    again = list(networks.cuts("smoke", 2, tmp_path, done))

    def timeless(rows):
        return [{k: v for k, v in row.items() if k != "CPU seconds"} for row in rows]

    assert timeless(again) == timeless(rows[:3])
    frame = networks.whole(pd.DataFrame(rows))
    assert len(frame) == len(rows)
    begun = networks.whole(pd.DataFrame(rows[:-1]))  # a draw that has not ended
    assert begun["draw"].unique().tolist() == [0]
    worst = frame.groupby("method")["rise worst"].mean()
    ratio = worst[networks.MINIMAX] / min(worst[name] for name in networks.BLIND)
    assert f"| {networks.MINIMAX} / best blind | worst | 0.6 | {ratio:.2f} |" in networks.markdown(
        frame
    )
    networks.plot(frame, tmp_path / "loss.png")
    for row in rows:
        assert row["parameters"] < 0.35
        total = SHARE * row["rise rare"] + (1.0 - SHARE) * row["rise others"]
        assert row["rise all"] == pytest.approx(total, rel=1e-4, abs=1e-6)  # of rounded numbers


def test_each_step_of_the_algorithm_is_measured_by_its_sizes():
    rows = complexity.measured(small=True)
    assert [(row["step"], row["by"]) for row in rows] == [
        (name, size) for name, step in complexity.STEPS.items() for size in step.derived
    ]
    assert all(f"| {row['step']} | {row['by']} |" in complexity.markdown(rows) for row in rows)


def test_the_methods_table_is_of_what_was_measured():
    docs = Path(__file__).resolve().parents[1] / "docs"
    rows = json.loads((docs / "complexity.json").read_text(encoding="utf-8"))["rows"]
    terms = [
        (name, size, *own)
        for name, s in complexity.STEPS.items()
        for size, own in s.derived.items()
    ]
    assert [(row["step"], row["by"], row["derived"], row["term"]) for row in rows] == terms
    assert complexity.markdown(rows) in (docs / "method.md").read_text(encoding="utf-8")


def test_the_pages_are_made_of_the_stored_rows():
    docs = Path(__file__).resolve().parents[1] / "docs"
    rows = networks.whole(pd.DataFrame(unpacked(docs / "networks.json.gz")))
    assert (docs / "networks.md").read_text(encoding="utf-8") == networks.markdown(rows)
    guide = (docs / "guide" / "compression.md").read_text(encoding="utf-8")
    assert networks.asked(rows) in guide
    seconds = json.loads((docs / "networks_seconds.json").read_text(encoding="utf-8"))
    assert networks.seconds_table(seconds) in guide
