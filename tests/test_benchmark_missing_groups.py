"""The benchmark of missing groups: who is known, what is compared, a page made of it."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import missing_groups
from _shared.rows import unpacked
from _tradeoff.data import Part

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def rows():
    return pd.DataFrame(unpacked(ROOT / "docs" / "missing_groups.json.gz"))


@pytest.mark.parametrize(("kind", "share"), missing_groups.KINDS)
def test_as_many_groups_are_known_as_asked_for(kind, share):
    rng = np.random.default_rng(0)
    y, s = rng.integers(0, 2, (2, 40_000))
    there = missing_groups.known(y, s, kind, share, rng)
    np.testing.assert_allclose(there.mean(), share, atol=0.01)
    column = {"by label": y, "by group": s}.get(kind)
    if column is not None:
        times = there[column == 1].mean() / there[column == 0].mean()
        np.testing.assert_allclose(times, missing_groups.TIMES, rtol=0.2)


def test_each_method_is_given_what_it_is_said_to_be():
    rng = np.random.default_rng(0)
    s = rng.integers(0, 2, 300)
    Z = np.column_stack([4.0 * s + rng.normal(size=300), rng.normal(size=300)])
    part, there = Part(Z, rng.integers(0, 2, 300), s), rng.random(300) < 0.5
    found = {method: missing_groups.given(method, part, there) for method in missing_groups.METHODS}
    assert all(len(found[method][1]) == 300 for method in ("full", "estimate", "impute"))
    np.testing.assert_array_equal(found["full"][2], s)
    np.testing.assert_array_equal(found["drop"][2], s[there])
    np.testing.assert_array_equal([each is not None for each in found["estimate"][2]], there)
    filled = found["impute"][2]
    np.testing.assert_array_equal(filled[there], s[there])
    assert 0.9 < (filled == s).mean() < 1.0


def test_losses_are_above_full_and_paired_by_seed(rows):
    cells = missing_groups.cells(rows)
    own = missing_groups.losses(rows)
    keys = ["kind", "share", "task", "constraint"]
    own = own[own[keys].eq(cells.loc[0, keys]).all(axis=1)]
    low, high = ttest_1samp(own["estimate"], 0.0).confidence_interval(0.95)
    mean, half = cells.loc[0, "estimate"], cells.loc[0, "estimate half"]
    np.testing.assert_allclose([mean - half, mean + half], [low, high])
    # One of them by hand.
    first = own.iloc[0]
    there = rows[(rows[keys].eq(first[keys]).all(axis=1)) & (rows["seed"] == first["seed"])]
    loss = {
        method: np.mean(
            [
                each["error"] + 100 * max(0.0, each["distance"] - each["bound"])
                for each in there[there["method"] == method].to_dict("records")
            ]
        )
        for method in missing_groups.METHODS
    }
    np.testing.assert_allclose(first["drop"], loss["drop"] - loss["full"])


def test_the_page_has_its_table_and_its_verdict(rows):
    page = (ROOT / "docs" / "guide" / "data_and_groups.md").read_text(encoding="utf-8")
    assert missing_groups.markdown(rows).split("\n\n")[0] in page
    said = " ".join(page.split())
    of = missing_groups.verdict(rows)
    assert f"half a point in {of['within half a point']} of {of['cells']} cells" in said
    below = f"below drop in {of['below drop']} and below impute in {of['below impute']} of"
    assert f"{below} {of['compared']}" in said
    assert missing_groups.by_task(rows) in said
    refused = int((rows["method"] == "").sum())
    assert f"{refused} seeds" in said
