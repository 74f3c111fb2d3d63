"""The benchmark of the worst group: exact solvers, subsamples, thresholds, tables of the rows."""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import ttest_rel
from sklearn.linear_model import LogisticRegression

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import worst_group
from _shared import sentences
from _shared.rows import unpacked
from _tradeoff.data import Part, Split
from _tradeoff.peers import together
from _worst_group import peers, tables
from _worst_group.choice import METHODS, best_on_val, cell_accuracies, cells_of
from _worst_group.dro import INTERCEPT, Rows, fit_logistic, group_dro, simplex_program

ROOT = Path(__file__).resolve().parents[1]


def part(n, seed, d=4):
    """Rows of a majority group, and of a rare one whose labels go the other way."""
    rng = np.random.default_rng(seed)
    s = (rng.random(n) < 0.2).astype(int)
    y = rng.integers(0, 2, n)
    Z = rng.normal(size=(n, d))
    Z[:, 0] += y
    Z[:, 1] += np.where(s == 1, -2.5, 2.5) * y
    return Part(Z.astype(np.float32), y, s)


@pytest.fixture
def split():
    return Split("tiny", 0, part(240, 0), part(120, 1), part(400, 2), 2)


def penalized(w, ridge):
    return (ridge * (w[:-1] ** 2).sum() + INTERCEPT * ridge * w[-1] ** 2) / 2


def cross_entropies(w, Z, y):
    return np.logaddexp(0.0, -np.where(y == 1, 1.0, -1.0) * (Z @ w[:-1] + w[-1]))


def test_the_program_on_the_simplex_is_solved():
    rng = np.random.default_rng(0)
    for n in (2, 3, 8, 12):
        for rank in (1, n):
            A = rng.normal(size=(rank, n))
            K, b = A.T @ A, rng.normal(size=n)
            q = simplex_program(K, b)
            assert q.min() >= 0.0
            assert q.sum() == pytest.approx(1.0)
            # What is held gains alike, all else less: only the maximum of a concave function is so.
            gain = b - K @ q
            assert gain.max() - gain[q > 0].min() < 1e-8


def test_weighted_logistic_regression_is_at_its_minimum():
    rows_of = part(60, 3)
    rng = np.random.default_rng(0)
    weight, center = rng.random(60), rng.normal(size=5)
    weight /= weight.sum()
    rows = Rows(rows_of.Z, rows_of.y, np.zeros(60))
    w = fit_logistic(rows, weight, 0.1, center=center, tol=1e-12)

    def value(w):
        return weight @ cross_entropies(w, rows_of.Z, rows_of.y) + penalized(w - center, 0.1)

    slow = minimize(value, np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(w, slow.x, atol=1e-5)


@pytest.mark.parametrize(("n", "d"), [(80, 3), (30, 40)])
@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_group_dro_reaches_the_saddle_point(n, d, adjustment):
    given, ridge = part(n, 4, d), 0.05
    cells = given.y * 2 + given.s
    rows = Rows(given.Z, given.y, cells)
    found = group_dro(rows, ridge, adjustment, tol=1e-9)
    sizes = np.bincount(cells)

    def of_cells(w):
        losses = cross_entropies(w, given.Z, given.y)
        return np.bincount(cells, losses) / sizes + adjustment / np.sqrt(sizes)

    # The largest as a variable of its own, above all of them.
    slow = minimize(
        lambda v: v[-1] + penalized(v[:-1], ridge),
        np.r_[np.zeros(d + 1), of_cells(np.zeros(d + 1)).max()],
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda v: v[-1] - of_cells(v[:-1])},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.gap <= 1e-9
    assert found.value == pytest.approx(of_cells(found.w).max() + penalized(found.w, ridge))
    assert found.value == pytest.approx(slow.fun, abs=1e-6)
    np.testing.assert_allclose(found.w, slow.x[:-1], atol=5e-3)
    # A cell with a multiplier is as bad as the worst.
    held = of_cells(found.w)[found.q > 1e-6]
    assert np.ptp(held) < 1e-4
    again = group_dro(rows, ridge, adjustment, start=group_dro(rows, 10 * ridge), tol=1e-9)
    assert again.value == pytest.approx(found.value, abs=1e-8)


def test_the_gap_holds_before_the_end():
    given = part(80, 5)
    rows = Rows(given.Z, given.y, given.y * 2 + given.s)
    best = group_dro(rows, 0.01, tol=1e-10).value
    for steps in range(4):
        found = group_dro(rows, 0.01, tol=0.0, max_steps=steps)
        assert -1e-9 <= found.value - best <= found.gap + 1e-9


def test_dfr_averages_heads_of_subsamples_with_as_many_rows_of_each_cell():
    given = part(150, 6)
    cells = cells_of(given, 2)
    rng, heads = np.random.default_rng(7), []
    for _ in range(peers.DRAWS):
        own = peers.subsample(given, 2, rng)
        assert len(set(own)) == len(own)
        assert set(np.bincount(cells[own])) == {np.bincount(cells).min()}
        model = LogisticRegression(C=0.3, l1_ratio=1.0, solver="liblinear", random_state=0)
        model.fit(given.Z[own].astype(float), given.y[own])
        heads.append(np.r_[model.coef_[0], model.intercept_])
    assert np.ptp(heads, axis=0).max() > 0
    np.testing.assert_allclose(peers.averaged(given, 2, 0.3, 7), np.mean(heads, axis=0))


def test_a_threshold_is_the_best_of_all():
    given = part(90, 8)
    scores = given.Z[:, 0].astype(float)
    chosen = peers.best_threshold(given, scores, 2)

    def worst(threshold):
        return cell_accuracies(given, (scores > threshold).astype(int), 2).min()

    assert worst(chosen) == pytest.approx(max(map(worst, np.r_[-9.0, np.sort(scores) + 1e-9])))


def test_scores_out_of_fold_are_of_heads_that_saw_nobody_of_them():
    # A feature for each person, and labels of persons: only a head that saw one can tell.
    people = np.repeat(np.arange(60), 3)
    y = np.random.default_rng(0).integers(0, 2, 60)[people]
    Z = np.eye(60, dtype=np.float32)[people]
    given = Part(Z, y, np.arange(180) % 2)
    tiny = Split("tiny", 0, given, given, given, 2, people=people)
    rows = peers.rows_of(given, 2)
    seen = fit_logistic(rows, peers.plain(rows), 0.001)
    assert (peers.decide(seen, Z) == y).all()
    scores = peers.out_of_fold(given, people, "logistic regression", 0.001, tiny)
    assert len(set(scores.round(9))) <= peers.FOLDS


def test_the_best_on_val_has_the_best_worst_cell_then_mean_then_comes_first(split):
    val = split.val
    wrong = val.y.copy()
    wrong[np.flatnonzero(cells_of(val, 2) == 3)[0]] = 0
    worse = wrong.copy()
    worse[np.flatnonzero(cells_of(val, 2) == 0)[0]] = 1
    assert best_on_val(split, [("a", worse), ("b", wrong), ("c", wrong)]) == "b"
    assert best_on_val(split, [("a", worse), ("b", val.y)]) == "b"


@pytest.mark.parametrize("name", METHODS)
def test_a_peer_is_run_on_the_rows_of_train_and_val_and_counted_on_test(name, split):
    row = worst_group.run_one(split, name)
    predicted = METHODS[name](split).predict(split.test.Z)
    n, right = np.array(row["tested"]), np.array(row["right"])
    np.testing.assert_allclose(right / n, cell_accuracies(split.test, predicted, 2))
    both = together(split)
    assert row["fitted"] == np.bincount(2 * both.y + both.s).tolist()
    assert right.sum() == (predicted == split.test.y).sum()
    found = tables.measured(pd.DataFrame([row])).iloc[0]
    assert found["worst cell"] == pytest.approx(100 * (right / n).min())
    group = 100 * np.mean(predicted[split.test.s == 1] == split.test.y[split.test.s == 1])
    other = 100 * np.mean(predicted[split.test.s == 0] == split.test.y[split.test.s == 0])
    assert found["worst group"] == pytest.approx(min(group, other))


def test_group_dro_helps_the_worst_cell(split):
    found = {
        name: worst_group.run_one(split, name) for name in ("logistic regression", tables.PEER)
    }
    measured = tables.measured(pd.DataFrame(list(found.values()))).set_index("method")
    assert measured.loc[tables.PEER, "worst cell"] > measured["worst cell"].min() + 5


def test_sentences_are_read_with_their_documents(tmp_path, monkeypatch):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for source in sentences.SOURCES:
            text = f"1_1\t0.5\tShe wins, in {source}.\n1_2\t-2\tHis is not\n2_1\t-2\tHis is not\n"
            _add(archive, f"hutto_ICWSM_2014/{source}_GroundTruth.txt", text.encode())
    (tmp_path / "texts").mkdir()
    folder = "vaderSentiment-3.3.2/additional_resources/"
    with tarfile.open(tmp_path / sentences.FILE, "w:gz") as archive:
        _add(archive, f"{folder}hutto_ICWSM_2014.tar.gz", inner.getvalue())
    monkeypatch.setenv("SKFAIRFT_DATA", str(tmp_path))
    table = sentences.read_sentences()
    assert len(table) == 5  # equal texts once
    assert table["document"].nunique() == 4
    assert sentences.mentioned(table["text"]).tolist() == [2, 1, 2, 2, 2]
    assert sentences.mentioned(pd.Series(["The manuscript, there", "MEN!"])).tolist() == [0, 1]


def _add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def test_the_stored_rows_give_the_tables():
    rows = pd.DataFrame(unpacked(ROOT / "docs" / "worst_group.json.gz"))
    page = (ROOT / "docs" / "worst_group_tables.md").read_text(encoding="utf-8")
    assert tables.markdown(rows) == page
    assert not rows.duplicated("key").any()
    assert rows.loc[rows["method"] == tables.PEER, "gap"].max() <= 1e-5
    found = tables.measured(rows)
    cells = tables.differences(found, "worst cell")
    own = found[found["task"] == "lfw"].pivot(index="seed", columns="method", values="worst cell")
    test = ttest_rel(own["DFR"], own[tables.PEER])
    low, high = test.confidence_interval(0.95)
    cell = cells[(cells["task"] == "lfw") & (cells["method"] == "DFR")].iloc[0]
    mean = (own["DFR"] - own[tables.PEER]).mean()
    np.testing.assert_allclose([cell["mean"], cell["low"], cell["high"]], [mean, low, high])
