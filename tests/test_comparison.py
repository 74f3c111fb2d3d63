"""The comparison page and the README say what the benchmark's tables and other packages say."""

import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

ROOT = Path(__file__).parents[1]
TASKS = ["adult-10", "adult-64", "adult-128", "adult-64-sex-race", "lfw", "celeba"]
DISTANCE = {"demographic parity": "ΔDP", "equalized odds": "ΔEO"}
OURS = ["ours, plug-in", "ours, closed form", "ours, trained", "ours, plug-in, own thresholds"]

# The README's names of methods, where they are not the benchmark's.
README_NAMES = {
    "ours, plug-in rule": "ours, plug-in",
    "fairlearn GridSearch": "GridSearch",
    "fairlearn ExponentiatedGradient": "ExponentiatedGradient",
    "*with the group at prediction:* ThresholdOptimizer": "ThresholdOptimizer *",
}


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


def table_under(text, heading):
    """Return the first table after a line, as (header, {first cell: the others})."""
    line = text.splitlines().index(heading)
    _, header, rows = next(table for table in tables(text) if table[0] > line)
    return header, rows


def by_first_cell(text, first):
    """Return the rows of the table whose header begins with a word, {first cell: the others}."""
    (rows,) = [rows for _, header, rows in tables(text) if header[0].lower() == first]
    return {row[0]: row[1:] for row in rows}


@pytest.fixture(scope="module")
def measured():
    """The benchmark's page."""
    return read("docs/tradeoff.md")


def hypervolumes(measured, constraint):
    header, rows = table_under(measured, f"**{constraint.capitalize()}**")
    assert header[1:] == TASKS
    return {row[0]: [cell.split(" ")[0] for cell in row[1:]] for row in rows}


def duels(measured, ours):
    """Return {(task, Δ): row by column} of one of ours beside the best peer without the group."""
    header, rows = table_under(measured, f"## {ours}, beside the best peer")
    return {(row[0], row[1]): dict(zip(header, row, strict=True)) for row in rows}


def interval(row):
    return re.search(r"\((\S+) to (\S+)\)", row["difference, 95 %"]).groups()


def ratios(measured, ours, delta, tasks=TASKS):
    table = duels(measured, ours)
    return [table[task, delta]["ratio of means"] for task in tasks]


def span(numbers):
    ordered = sorted(numbers, key=float)
    return f"{ordered[0]} to {ordered[-1]}"


def scores(measured, task, constraint):
    """Return {method: row by column} of all scores of a task; of columns of one name the first.

    That is the wider of the two budgets.
    """
    header, rows = table_under(measured, f"### {task}, {constraint}")
    return {row[0]: dict(zip(header[::-1], row[::-1], strict=True)) for row in rows}


def flat(page):
    """Return a page as one line without emphasis, so that sentences can be looked for."""
    return " ".join(read(page).replace("**", "").split())


class TestHypervolumes:
    @pytest.mark.parametrize(
        ("page", "constraint", "at_least"),
        [
            ("docs/comparison.md", "demographic parity", 15),
            ("docs/comparison.md", "equalized odds", 15),
            ("README.md", "demographic parity", 9),
        ],
    )
    def test_are_the_benchmarks(self, measured, page, constraint, at_least):
        expected = hypervolumes(measured, constraint)
        rows = by_first_cell(read(page), constraint)
        assert len(rows) >= at_least
        for name, cells in rows.items():
            shown = [cell.strip("*") for cell in cells]
            assert shown == expected[README_NAMES.get(name, name)], name

    def test_of_every_method_without_the_group_are_shown(self, measured):
        for constraint in DISTANCE:
            shown = by_first_cell(read("docs/comparison.md"), constraint)
            left_out = set(hypervolumes(measured, constraint)) - set(shown)
            assert all(name.startswith("ours") for name in left_out), left_out

    @pytest.mark.parametrize(
        ("page", "constraint"),
        [
            ("docs/comparison.md", "demographic parity"),
            ("docs/comparison.md", "equalized odds"),
            ("README.md", "demographic parity"),
        ],
    )
    def test_are_bold_where_the_interval_is_above_zero(self, measured, page, constraint):
        for name, cells in by_first_cell(read(page), constraint).items():
            ours = README_NAMES.get(name, name)
            if ours in OURS:
                table = duels(measured, ours)
                ahead = [float(interval(table[t, DISTANCE[constraint]])[0]) > 0 for t in TASKS]
            else:
                ahead = [False] * len(TASKS)
            assert [cell.startswith("**") for cell in cells] == ahead, name

    def test_of_the_best_peer_are_those_of_the_duels(self, measured):
        """The page's own parts agree: else the checks above would rest on sand."""
        for constraint, delta in DISTANCE.items():
            expected = hypervolumes(measured, constraint)
            for row in duels(measured, "ours, plug-in").values():
                if row["Δ"] == delta:
                    column = TASKS.index(row["dataset"])
                    without = [
                        cells[column]
                        for name, cells in expected.items()
                        if not name.startswith("ours")
                        and not name.endswith("*")
                        and cells[column] != "-"
                    ]
                    assert row["its"] == max(without, key=float)


def test_seconds_are_the_benchmarks(measured):
    rows = by_first_cell(read("docs/comparison.md"), "cpu seconds")
    assert set(OURS) < set(rows)
    for column, task in enumerate(TASKS):
        expected = scores(measured, task, "demographic parity")
        for name, cells in rows.items():
            known = expected[name]["CPU seconds"].split(" ")[0] if name in expected else "-"
            assert cells[column] == known, (name, task)


class TestSentences:
    """Numbers in sentences are computed from the tables, and looked for as they are printed."""

    def test_of_the_lead(self, measured):
        page, readme = flat("docs/comparison.md"), flat("README.md")
        dp, eo = (ratios(measured, "ours, plug-in", delta) for delta in ("ΔDP", "ΔEO"))
        assert f"by ratios of {span(dp)}" in page
        assert f"by ratios of {span(eo)}" in page
        assert f"(ratios {span(eo)})" in readme

    def test_of_what_is_behind(self, measured):
        page = flat("docs/comparison.md")
        duel = duels(measured, "ours, plug-in")
        for task in TASKS[:4]:
            low, high = interval(duel[task, "ΔEO"])
            assert float(low) < 0 < float(high)
            assert f"{low} to {high}" in page
        own = "ours, plug-in, own thresholds"
        low, middle, high = ratios(measured, own, "ΔEO", TASKS[1:4])
        assert f"(ratios {low}, {middle} and {high}, intervals around 0)" in page
        assert f"({span(ratios(measured, own, 'ΔDP', TASKS[:3]))})" in page
        (ten,) = ratios(measured, "ours, closed form", "ΔDP", TASKS[:1])
        wide, crossed = ratios(measured, "ours, closed form", "ΔEO", TASKS[2:4])
        assert f"ΔDP (ratio {ten}), adult-128 ΔEO ({wide}) and sex x race ΔEO ({crossed})" in page
        fisher = ratios(measured, "ours, closed form, Fisher metric", "ΔDP", TASKS[:4])
        assert f"Adult's ΔDP ({span(fisher)})" in page

    def test_of_the_group_known(self, measured):
        page = flat("docs/comparison.md")
        dp, eo = (hypervolumes(measured, constraint) for constraint in DISTANCE)
        ten, lfw = TASKS.index("adult-10"), TASKS.index("lfw")
        ours, theirs = dp["ours, plug-in"][ten], dp["ThresholdOptimizer *"][ten]
        assert f"{theirs} against our {ours} on adult-10" in page
        remover, known = eo["CorrelationRemover *"][lfw], eo["OxonFair, group known *"][lfw]
        assert f"has {remover} and OxonFair {known} against our {eo['ours, plug-in'][lfw]}" in page

    def test_of_budgets(self, measured):
        row = scores(measured, "lfw", "equalized odds")
        reached = row["ours, plug-in"]["its ΔEO"].split(" ")[0]
        assert f"ends at {reached} on test" in flat("docs/comparison.md")
        for name in ("ours, closed form", "ours, trained"):
            assert row[name]["missed"] == "10"

    def test_of_time(self, measured):
        page, readme = flat("docs/comparison.md"), flat("README.md")
        quick, quicker = (
            span([row["EG's / ours"] for row in duels(measured, ours).values()])
            for ours in ("ours, plug-in", "ours, closed form")
        )
        assert f"takes {quick} times less" in page
        assert f"the closed form's {quicker} times less" in page
        assert f"takes {quick} times less time" in readme
        assert f"the closed form's {quicker} times less" in readme
        seconds = {
            name: [float(cell) for cell in cells if cell != "-"]
            for name, cells in by_first_cell(read("docs/comparison.md"), "cpu seconds").items()
        }
        for name in ("OxonFair, inferred group", "reweighing", "LEACE"):
            assert np.all(np.less(seconds[name], seconds["ours, plug-in"])), name
        assert np.all(np.greater(seconds["ours, trained"], seconds["ExponentiatedGradient"]))

    def test_of_the_whole_network(self):
        page = flat("docs/comparison.md")
        table = next(
            rows
            for _, header, rows in tables(read("docs/reproduction.md"))
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
