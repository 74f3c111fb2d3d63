"""The comparison page and the README say what the benchmark's scores and other packages say."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import bounds
import tradeoff

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "docs/comparison.md", "docs/tradeoff.md"]


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def tables(text):
    """Return the tables of a Markdown page as (line of the header, header, rows)."""
    found, lines = [], text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|") and (number == 0 or not lines[number - 1].startswith("|")):
            end = number
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            header, _, *rows = (
                [cell.strip() for cell in row.strip("|").split("|")] for row in lines[number:end]
            )
            found.append((number, header, rows))
    return found


def under(text, heading, number=0):
    """Return a table after a line, as (header, rows)."""
    line = text.splitlines().index(heading)
    return [table[1:] for table in tables(text) if table[0] > line][number]


def span(numbers):
    ordered = sorted(numbers, key=float)
    return f"{ordered[0]} to {ordered[-1]}"


def flat(page):
    """Return a page as one line without emphasis, so that sentences can be looked for."""
    return " ".join(read(page).replace("**", "").split())


@pytest.fixture(scope="module")
def measured():
    """The benchmark's page of tables."""
    return read("docs/tradeoff_tables.md")


def differences(rows, column):
    """Return the differences with their intervals, as numbers."""
    numbers = [re.fullmatch(r"(\S+) \((\S+) to (\S+)\)", row[column]) for row in rows]
    return [tuple(map(float, found.groups())) for found in numbers if found]


def verdict(found, sign=1):
    """Return how many are ahead, surely ahead, behind and surely behind; with sign -1 less is."""
    mid, low, high = sign * np.array(found).T
    low, high = np.minimum(low, high), np.maximum(low, high)
    return tuple(int(which.sum()) for which in (mid > 0, low > 0, mid < 0, high < 0))


class TestTables:
    @pytest.mark.slow
    def test_are_made_of_the_stored_scores(self, measured):
        found = tradeoff.stored(ROOT / "docs" / "tradeoff.json.gz")
        assert tradeoff.page(tradeoff.as_frame(found["scores"]), found["best"]) == measured

    @pytest.mark.parametrize("page", PAGES)
    def test_elsewhere_have_their_rows(self, measured, page):
        """In tables of one header, that the page shows in the order of the benchmark's."""
        known = [rows for _, header, rows in tables(measured) if header[0] == "ours, against"]
        shown = [rows for _, header, rows in tables(read(page)) if header[0] == "ours, against"]
        assert shown
        for rows in shown:
            source = next((each for each in known if rows and rows[0] in each), [])
            assert len(rows) > 1
            assert all(row in source for row in rows)
            known = known[known.index(source) + 1 :]

    def test_of_every_method_without_the_group_are_shown(self, measured):
        _, rows = under(measured, "## Against each method")
        _, shown = under(read("docs/comparison.md"), "## Measured side by side")
        left_out = {row[0] for row in rows} - {row[0] for row in shown}
        assert all(name.startswith("ours") for name in left_out)


def test_the_table_of_bounds_is_made_of_the_stored_rows():
    rows = bounds.unpacked(ROOT / "docs" / "bounds.json.gz")
    assert bounds.table_of(rows).strip() in read("docs/tradeoff.md")
    found = bounds.summary(pd.DataFrame(rows))
    above = 100 * found["sure exceeded of all"]
    covered = 100 * found[["covered", "sure covered"]].mean()
    said = " ".join(read("docs/tradeoff.md").split())
    assert (
        f"{above.mean():.1f} % of the refits are above in the mean, and {above.max():.1f} %" in said
    )
    assert f"It costs {found['points of error'].mean():+.2f} points of error in the mean" in said
    assert "{:.1f} % of the refits without and {:.1f} % with a confidence".format(*covered) in said
    assert f"each; {found['refits'].min()} to {found['refits'].max()} were run" in said


class TestSentences:
    """Numbers in sentences are computed from the tables, and looked for as they are printed."""

    @pytest.mark.parametrize("page", PAGES)
    def test_of_the_lead(self, measured, page):
        _, rows = under(measured, "## Beside the best peer")
        ahead, surely, behind, surely_behind = verdict(differences(rows, 5))
        assert (
            f"ahead on {ahead} of {len(rows)}, surely on {surely}; behind on {behind}, surely on "
            f"{surely_behind}"
        ) in flat(page)

    @pytest.mark.parametrize("page", PAGES[1:])
    def test_of_budgets(self, measured, page):
        found = [
            difference
            for number in (0, 1)
            for column in (4, 8)
            for difference in differences(under(measured, "## At a budget", number)[1], column)
        ]
        lower, surely, higher, surely_higher = verdict(found, -1)
        said = f"{lower} of {len(found)} pairs of task and budget, surely on {surely}, and higher"
        assert f"{said} on {higher}, surely on {surely_higher}" in flat(page)

    def test_of_one_bound(self, measured):
        def counts(heading, name):
            _, rows = under(measured, heading)
            row = next(row for row in rows if row[0] == f"asked, {name}")
            ahead, behind = (
                sum(int(row[column].split(" ")[0]) for column in columns)
                for columns in ((1, 4), (2, 5))
            )
            return ahead, behind

        as_it_is = counts("Hypervolume:", "ExponentiatedGradient")
        same = counts("Hypervolume:", "ExponentiatedGradient, same meaning")
        lower, higher = counts("Err + excess, of which less is better:", "ExponentiatedGradient")
        for said in (
            f"ahead of ExponentiatedGradient on {as_it_is[0]} pairs of task and constraint and "
            f"behind on {as_it_is[1]}",
            f"ours is ahead on {same[0]} and behind on {same[1]}",
            f"is lower on {lower} and higher on {higher}",
        ):
            assert said in flat("README.md")

    @pytest.mark.parametrize("page", PAGES)
    def test_of_time(self, measured, page):
        _, rows = under(measured, "## Time")
        cells = [re.search(r"\((\S+)\)", row[2]) for row in rows]
        ratios = sorted(float(cell.group(1)) for cell in cells if cell)
        middle = ratios[len(ratios) // 2]
        said = f"{ratios[0]:g} to {ratios[-1]:g} times less, {middle:g} in the median"
        assert said in flat(page)

    def test_of_the_whole_network(self):
        page = flat("docs/comparison.md")
        table = next(
            rows
            for _, header, rows in tables(read("docs/reproduction_tables.md"))
            if any(row[0] == "whole network, Retrain+DP" for row in rows)
        )
        point = {tuple(row[:2]): [cell.split(" ")[0] for cell in row[2:5]] for row in table}
        error, dp, eo = point["whole network, Retrain+DP", "0.5"]
        assert f"ΔDP {dp} at an error of {error}" in page
        assert f"ΔEO rises to {eo}" in page
        heads = [point[f"ours DP, {s}", "0.9"] for s in ("plug_in", "closed_form", "fine_tune")]
        errors, distances = ([head[i] for head in heads] for i in (0, 1))
        assert f"pay {span(errors)} for {span(distances)}" in page


class TestOtherPackages:
    """What the page says of releases that are installed here holds of them."""

    def test_versions_are_those_of_the_benchmark(self):
        pinned = dict(
            line.split("==") for line in read("constraints.txt").splitlines() if "==" in line
        )
        _, header, _ = next(
            t for t in tables(read("docs/comparison.md")) if t[1][1].startswith("skfairft 0")
        )
        assert header[1] == f"skfairft {version('skfairft')}"
        for cell in header[2:]:
            name, number = cell.split(" ")
            assert pinned[name.lower()] == number, cell

    @pytest.fixture
    def data(self):
        rng = np.random.default_rng(0)
        s = np.tile([0, 1], 60)
        X = rng.normal(size=(120, 3)) + s[:, None]
        return X, (X[:, 0] + rng.normal(size=120) > 0.5).astype(int), s

    @pytest.mark.filterwarnings("ignore:Setting a")  # two of pandas in fairlearn
    def test_reductions_have_no_routing(self, data, routing):
        reductions = pytest.importorskip("fairlearn.reductions")
        X, y, s = data
        fair = reductions.ExponentiatedGradient(
            LogisticRegression(), reductions.DemographicParity(), max_iter=5
        )
        assert not hasattr(fair, "set_fit_request")
        search = GridSearchCV(fair, {"eps": [0.1]}, cv=2, scoring="accuracy")
        with pytest.raises(TypeError, match="not routed"):
            search.fit(X, y, sensitive_features=s)
        with sklearn.config_context(enable_metadata_routing=False):
            assert search.fit(X, y, sensitive_features=s).best_params_ == {"eps": 0.1}

    def test_thresholds_need_the_group(self, data):
        postprocessing = pytest.importorskip("fairlearn.postprocessing")
        X, y, s = data
        by_group = postprocessing.ThresholdOptimizer(
            estimator=LogisticRegression(), predict_method="predict_proba"
        ).fit(X, y, sensitive_features=s)
        with pytest.raises(TypeError, match="sensitive_features"):
            by_group.predict(X)

    def test_reductions_and_thresholds_take_two_classes(self, data):
        reductions = pytest.importorskip("fairlearn.reductions")
        X, _, s = data
        three = np.arange(len(X)) % 3
        fair = reductions.GridSearch(LogisticRegression(), reductions.DemographicParity())
        with pytest.raises(ValueError, match="labels are not 0 or 1"):
            fair.fit(X, three, sensitive_features=s)

    def test_leace_takes_batches_exactly(self, data):
        concept_erasure = pytest.importorskip("concept_erasure")
        X, _, s = (torch.from_numpy(array) for array in data)
        whole = concept_erasure.LeaceFitter.fit(X, s).eraser.P
        fitter = concept_erasure.LeaceFitter(3, 1, dtype=X.dtype)
        for rows, groups in zip(X.chunk(4), s.chunk(4), strict=True):
            fitter.update(rows, groups)
        torch.testing.assert_close(fitter.eraser.P, whole)
        assert not isinstance(fitter.eraser, torch.nn.Module)
