"""The benchmark of a neutral loss: rows as asked for, differences paired, a page made of them."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import neutral_loss
from _shared.rows import unpacked

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def rows():
    return pd.DataFrame(unpacked(ROOT / "docs" / "neutral_loss.json.gz"))


@pytest.mark.parametrize("rare", [0, 1])
def test_a_group_is_made_as_rare_as_asked_for(rare):
    s = np.repeat([0, 1], [300, 700])
    chosen = neutral_loss.of_share(s, rare, 0.05, np.random.default_rng(0))
    assert (s[chosen] == rare).sum() == round(0.05 * len(chosen))
    assert (s[chosen] != rare).sum() >= (s != rare).sum() - 1
    assert len(set(chosen)) == len(chosen)


def test_differences_are_paired(rows):
    cells = neutral_loss.differences(rows)
    own = rows[rows[neutral_loss.KEYS].eq(cells.loc[7, neutral_loss.KEYS]).all(axis=1)]
    assert len(own) == 10
    test = ttest_rel(own["worst loss on"], own["worst loss off"])
    low, high = test.confidence_interval(0.95)
    expected = [(own["worst loss on"] - own["worst loss off"]).mean(), low, high]
    np.testing.assert_allclose(
        [cells.loc[7, f"worst loss{end}"] for end in ("", " low", " high")], expected
    )


def test_the_page_has_its_table_and_the_default_follows_its_rule(rows):
    table = neutral_loss.markdown(rows).split("\n\n")[0]
    page = (ROOT / "docs" / "guide" / "neutralization.md").read_text(encoding="utf-8")
    assert table in page
    of = neutral_loss.verdict(rows)
    better = of["lower"] > of["cells"] / 2 and of["surely lower"] > of["surely higher"]
    cheap = neutral_loss.verdict(rows, "mean Err")["mean"] <= 0.25
    default = neutral_loss.FairLowRankHeadClassifier().neutral_loss
    assert default == (better and cheap)
    assert f"of the {of['cells']} cells" in page
