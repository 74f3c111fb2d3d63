"""Rows in chunks of Dask: what is fitted and predicted is what it is in memory."""

import pickle
from itertools import permutations

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import distributed  # noqa: F401 (imported, but there is no cluster)
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skfairft import FairLowRankHeadClassifier, FineTune, FrozenFeatureExtractor, fairness_path
from skfairft.datasets import make_biased_classification
from skfairft.head.measure import measure
from skfairft.inputs.exceptions import FairnessWarning
from skfairft.inputs.lazy import computed, is_lazy
from skfairft.rows import dask as chunked
from skfairft.rows import mapped
from skfairft.rows.blocks import map_blocks, reduce_blocks
from skfairft.rows.chunks import read_chunks
from skfairft.rows.dask import DaskFeatures
from skfairft.rows.tensor_rows import TensorRows

N, D = 600, 8


@pytest.fixture(autouse=True)
def _in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Let features be more than a block, so that they stay where they are, and have two chunks."""
    monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 40 * D)
    monkeypatch.setattr(chunked, "_CHUNK_BYTES", 100 * D * 4)


@pytest.fixture(scope="module")
def data():
    X, y, s = make_biased_classification(n_samples=N, n_features=D, disparity=0.4, random_state=0)
    return X.astype(np.float32), y, s


@pytest.fixture
def lazy(data):
    X, y, s = data
    return (
        da.from_array(X, chunks=(170, 3)),
        da.from_array(y, chunks=250),
        da.from_array(s, chunks=90),
    )


class Rows(nn.Module):
    """Writes down how many rows run through it."""

    def __init__(self, file):
        super().__init__()
        self.linear, self.file = nn.Linear(D, 5), str(file)
        file.touch()

    def forward(self, x):
        with open(self.file, "a") as file:
            print(len(x), file=file)
        return torch.relu(self.linear(x))

    def ran(self):
        """Return how many rows have run since this was asked."""
        with open(self.file, "r+") as file:
            total = sum(map(int, file))
            file.truncate(0)
        return total


@pytest.fixture
def module(tmp_path):
    return Rows(tmp_path / "rows")


def assert_same(here, there, X, lazy_X):
    assert np.array_equal(here.classes_, there.classes_)
    assert np.array_equal(here.groups_, there.groups_)
    for name in ("importance_", "group_importance_", "singular_values_", "group_weights_"):
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=1e-9, atol=1e-12)
    for name in ("difference_", "difference_interval_", "difference_limit_", "fairness_weight_"):
        if hasattr(here, name):
            np.testing.assert_allclose(getattr(there, name), getattr(here, name), atol=1e-9)
    ours = there.predict_proba(lazy_X).compute()
    np.testing.assert_allclose(ours, here.predict_proba(X), atol=1e-7)


FITS = {
    "full rank": {},
    "rank 1": {"rank": 1},
    "covariance": {"rank": 1, "importance": "covariance"},
    "minimax": {"rank": 1, "importance": "covariance", "group_weights": "minimax"},
    "by group": {"rank": 1, "importance": "fisher_by_group"},
    "chosen C": {"C": "auto"},
    "balanced": {"class_weight": "balanced"},
    "neutral loss": {"neutral_loss": True},
    "a penalty": {"rank": 1, "constraint": "equalized_odds", "fairness_weight": 0.6},
    "the paper's": {
        "constraint": "demographic_parity",
        "fairness_weight": 0.3,
        "solver": FineTune(calibrate=False, standardize=False),
    },
    "closed form": {
        "constraint": "demographic_parity",
        "fairness_weight": 0.8,
        "solver": "closed_form",
    },
    "plug-in": {"constraint": "equalized_odds", "fairness_weight": 0.7, "solver": "plug_in"},
    "a bound": {
        "constraint": "demographic_parity",
        "difference_bound": 0.3,
        "confidence": 0.9,
        "solver": "plug_in",
    },
    "a bound, held out": {
        "constraint": "demographic_parity",
        "difference_bound": 0.2,
        "cv": 0.3,
        "solver": "closed_form",
    },
    "a hidden layer": {"head": nn.Sequential(nn.Linear(D, 4), nn.ReLU())},
    "minibatches": {"solver": FineTune(batch_size=64, max_epochs=3, tol=None)},
    "all rows by Adam": {
        "rank": 1,
        "constraint": "demographic_parity",
        "fairness_weight": 0.5,
        "solver": FineTune(
            optimizer=torch.optim.Adam, lr=0.1, batch_size=3000, max_epochs=20, tol=None
        ),
    },
    "early stopping": {"solver": FineTune(early_stopping=True)},
}


# Of these another one has all that is summed and trained.
MORE = {
    *("full rank", "covariance", "by group", "the paper's", "a bound, held out", "a hidden layer"),
    *("all rows by Adam", "early stopping"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in MORE)) for name in FITS]
)
def test_a_fit_is_that_in_memory(name, data, lazy):
    X, y, s = data
    here = FairLowRankHeadClassifier(random_state=0, **FITS[name])
    there = FairLowRankHeadClassifier(random_state=0, **FITS[name])
    here.fit(X, y, sensitive_features=s)
    there.fit(lazy[0], lazy[1], sensitive_features=lazy[2])
    assert_same(here, there, X, lazy[0])


def test_weights_are_a_column_too(data, lazy):
    X, y, s = data
    w = np.random.default_rng(0).exponential(size=N)
    here = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s, sample_weight=w)
    there = FairLowRankHeadClassifier(rank=1).fit(
        lazy[0], y, sensitive_features=lazy[2], sample_weight=da.from_array(w, chunks=77)
    )
    assert_same(here, there, X, lazy[0])


@pytest.mark.slow
def test_three_classes_of_text_and_groups_of_two_columns(data):
    X, y, s = data
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {"sex": np.where(s == 1, "f", "m"), "old": rng.random(N) < 0.5}, index=range(N)
    )
    labels = np.where(rng.random(N) < 0.3, "c", np.where(y == 1, "a", "b"))
    settings = {"constraint": "equalized_odds", "fairness_weight": 0.5, "solver": "plug_in"}
    here = FairLowRankHeadClassifier(**settings).fit(X, labels, sensitive_features=frame)
    there = FairLowRankHeadClassifier(**settings).fit(
        da.from_array(X, chunks=(111, -1)),
        da.from_array(labels, chunks=50),
        sensitive_features=dd.from_pandas(frame, npartitions=3),
    )
    assert_same(here, there, X, da.from_array(X, chunks=(400, -1)))
    assert here.sensitive_names_in_ == there.sensitive_names_in_
    assert there.predict(da.from_array(X, chunks=(400, -1))).dtype == here.classes_.dtype


@given(
    cuts=st.lists(st.integers(0, N), max_size=6),
    more=st.lists(st.integers(0, N), max_size=6),
    by_group=st.booleans(),
)
@settings(deadline=None, max_examples=3)
def test_how_rows_are_cut_does_not_matter(data, cuts, more, by_group):
    """Chunks may be empty, of one row, of one group or class; those of X and y differ."""
    X, y, s = data
    order = np.lexsort([y, s]) if by_group else np.arange(N)
    X, y, s = X[order], y[order], s[order]

    def cut(column, places):
        sizes = np.diff([0, *sorted(places), N]).tolist()
        return da.from_array(column).rechunk((tuple(sizes), *[-1] * (column.ndim - 1)))

    settings = {"rank": 1, "constraint": "demographic_parity", "fairness_weight": 0.5}
    here = FairLowRankHeadClassifier(**settings).fit(X, y, sensitive_features=s)
    there = FairLowRankHeadClassifier(**settings).fit(
        cut(X, cuts), cut(y, more), sensitive_features=cut(s, cuts[:2] + more[:2])
    )
    assert_same(here, there, X, cut(X, more))


@pytest.mark.slow
def test_a_path_is_that_in_memory(data, lazy):
    X, y, s = data
    clf = FairLowRankHeadClassifier(
        constraint="demographic_parity", solver="plug_in", random_state=0
    )
    here = fairness_path(clf, X, y, sensitive_features=s, weights=[0.0, 0.5, 1.0], n_boot=50)
    there = fairness_path(
        clf, lazy[0], lazy[1], sensitive_features=lazy[2], weights=[0.0, 0.5, 1.0], n_boot=50
    )
    pd.testing.assert_frame_equal(here.table, there.table, rtol=1e-7)
    assert np.array_equal(
        here.classifiers[1].predict(X), there.classifiers[1].predict(lazy[0]).compute()
    )


class TestWithABackbone:
    def test_each_row_runs_once(self, data, lazy, module):
        X, y, s = data
        here = FairLowRankHeadClassifier(FrozenFeatureExtractor(module, memory=False), rank=1)
        here.fit(X, y, sensitive_features=s)
        in_memory = module.ran()
        there = FairLowRankHeadClassifier(module, rank=1)
        there.fit(lazy[0], lazy[1], sensitive_features=lazy[2])
        assert in_memory <= module.ran() <= N + 16  # the first rows are looked at by themselves
        assert_same(here, there, X, lazy[0])

    def test_features_are_made_when_they_are_asked_for(self, data, lazy, module):
        extractor = FrozenFeatureExtractor(module).fit(lazy[0])
        module.ran()
        Z = extractor.transform(lazy[0])
        assert (Z.shape, Z.dtype, Z.chunks[0]) == ((N, 5), np.float32, lazy[0].chunks[0])
        assert module.ran() == 0
        found = Z.compute()
        assert module.ran() == N
        np.testing.assert_allclose(found, extractor.transform(data[0]), atol=1e-6)

    def test_no_bar_is_drawn_at_a_worker(self, lazy, module, capsys):
        Z = FrozenFeatureExtractor(module, verbose=1).fit(lazy[0]).transform(lazy[0])
        capsys.readouterr()
        Z.compute()
        assert capsys.readouterr().err == ""

    def test_without_a_fit(self, data, lazy, module):
        extractor = FrozenFeatureExtractor(module)
        found = extractor.transform(lazy[0]).compute()
        assert not hasattr(extractor, "n_features_in_")
        np.testing.assert_allclose(found, extractor.fit_transform(data[0]), atol=1e-6)
        assert FrozenFeatureExtractor(extractor.module).fit_transform(lazy[0]).shape == (N, 5)

    def test_a_folder_is_shared(self, data, lazy, module, tmp_path):
        _, y, s = data
        extractor = FrozenFeatureExtractor(module, memory=str(tmp_path / "store"))
        clf = FairLowRankHeadClassifier(extractor).fit(lazy[0], y, sensitive_features=s)
        module.ran()
        FairLowRankHeadClassifier(extractor).fit(lazy[0].rechunk(100), y, sensitive_features=s)
        clf.predict(lazy[0]).compute()
        # Of each chunk four rows run again, to see that the module still gives the same.
        assert module.ran() <= 4 * (1 + 6 + 4)


TEXTS = ["a" * (i % 7) + "b" * (i % 5) for i in range(120)]


def lengths_of(texts):
    return torch.tensor([[text.count("a"), text.count("b"), 1.0 + len(text)] for text in texts])


KINDS = {
    "a bag": lambda: db.from_sequence(TEXTS, npartitions=4),
    "a bag of a generator": lambda: (
        db.from_sequence(TEXTS, npartitions=4).map(str.upper).map(str.lower)
    ),
    "delayed lists": lambda: [dask.delayed(TEXTS[:50]), dask.delayed(TEXTS[50:])],
    "one delayed list": lambda: dask.delayed(TEXTS),
    "a column": lambda: dd.from_pandas(pd.Series(TEXTS), npartitions=3),
    "an array of text": lambda: da.from_array(np.array(TEXTS), chunks=50),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_kind(kind):
    y, s = np.arange(120) % 2, np.arange(120) // 2 % 2
    extractor = FrozenFeatureExtractor(nn.Linear(3, 4), preprocess=lengths_of)
    here = FairLowRankHeadClassifier(extractor).fit(TEXTS, y, sensitive_features=s)
    there = FairLowRankHeadClassifier(extractor).fit(KINDS[kind](), y, sensitive_features=s)
    found = there.decision_function(KINDS[kind]())
    np.testing.assert_allclose(found.compute(), here.decision_function(TEXTS), atol=1e-9)


class TestFrames:
    @pytest.fixture
    def frame(self, data):
        X, y, s = data
        columns = {f"f{i}": X[:, i] for i in range(D)}
        return pd.DataFrame({**columns, "y": np.where(y, "yes", "no"), "s": s})

    def test_columns_by_name(self, frame):
        names = [f"f{i}" for i in range(D)]
        lazy = dd.from_pandas(frame, npartitions=4)
        here = FairLowRankHeadClassifier(rank=1).fit(
            frame[names], frame.y, sensitive_features=frame.s
        )
        there = FairLowRankHeadClassifier(rank=1).fit(
            lazy[names], lazy.y, sensitive_features=lazy.s
        )
        assert there.feature_names_in_.tolist() == names
        assert_same(here, there, frame[names], lazy[names])
        with pytest.raises(ValueError, match=r"In chunk \d of X.*feature names should match"):
            there.predict(lazy[names[::-1]]).compute()

    def test_another_order_of_the_rows_is_said(self, frame):
        names = [f"f{i}" for i in range(D)]
        lazy = dd.from_pandas(frame, npartitions=4)
        moved = frame.sample(frac=1, random_state=0)
        with pytest.warns(FairnessWarning, match="in another order"):
            FairLowRankHeadClassifier().fit(lazy[names], moved.y, sensitive_features=moved.s)


class TestPredictions:
    @pytest.fixture
    def fitted(self, data):
        X, y, s = data
        return FairLowRankHeadClassifier(
            constraint="demographic_parity", fairness_weight=0.9, solver="plug_in"
        ).fit(X, y, sensitive_features=s)

    @pytest.mark.parametrize(
        ("method", "shape"),
        [
            ("predict", (N,)),
            ("decision_function", (N,)),
            ("predict_proba", (N, 2)),
            ("predict_log_proba", (N, 2)),
            ("predict_label_proba", (N, 2)),
        ],
    )
    def test_are_lazy_with_their_shapes(self, fitted, data, method, shape):
        X, *_ = data
        made = []

        def chunk(block):
            made.append(len(block))
            return block

        lazy = da.from_array(X, chunks=(170, -1)).map_blocks(chunk, meta=X[:0], dtype=X.dtype)
        found = getattr(fitted, method)(lazy)
        assert not made
        here = getattr(fitted, method)(X)
        assert (found.shape, found.dtype, found.chunks[0]) == (shape, here.dtype, lazy.chunks[0])
        np.testing.assert_allclose(found.compute(), here, rtol=1e-12)
        assert sum(made) == N

    def test_of_unknown_lengths_are_lazy_too(self, fitted, data):
        X, *_ = data
        lazy = da.from_array(X, chunks=(170, -1))
        some = lazy[lazy[:, 0] > 0]
        found = fitted.predict(some)
        assert np.isnan(found.shape[0])
        assert np.array_equal(found.compute(), fitted.predict(X[X[:, 0] > 0]))

    @pytest.mark.parametrize("chunks", [170, 90, None])
    def test_told_the_groups(self, fitted, data, chunks):
        X, _, s = data
        told = s if chunks is None else da.from_array(s, chunks=chunks)
        found = fitted.predict(da.from_array(X, chunks=(170, -1)), sensitive_features=told)
        assert np.array_equal(found.compute(), fitted.predict(X, sensitive_features=s))
        assert not np.array_equal(found.compute(), fitted.predict(X))

    def test_a_group_that_only_one_chunk_lacks_is_only_warned_of(self, fitted, data):
        X, _, s = data
        strange = np.where(np.arange(N) < 170, 9, s)
        with pytest.warns(FairnessWarning, match="170 of 600 rows"):
            found = fitted.predict(da.from_array(X, chunks=(170, -1)), sensitive_features=strange)
        with pytest.warns(FairnessWarning, match="170 of 600 rows"):
            here = fitted.predict(X, sensitive_features=strange)
        assert np.array_equal(found.compute(), here)

    def test_another_order_of_the_rows_is_said(self, fitted, data):
        X, y, s = data
        frame = dd.from_pandas(pd.DataFrame(X), npartitions=3)
        with pytest.warns(FairnessWarning, match="in another order"):
            fitted.predict(frame, sensitive_features=pd.Series(s)[::-1])
        with pytest.warns(FairnessWarning, match="in another order"):
            fitted.score(frame, pd.Series(y)[::-1])

    def test_groups_of_other_rows_are_refused(self, fitted, lazy):
        with pytest.raises(ValueError, match="sensitive_features has 10 rows but X has 600"):
            fitted.predict(lazy[0], sensitive_features=np.zeros(10))

    def test_chunks_that_turn_out_to_be_empty(self, fitted, data):
        X, *_ = data
        lazy = da.from_array(X, chunks=(170, -1))
        some = lazy[da.arange(N, chunks=170) >= 200]
        assert np.array_equal(fitted.predict(some).compute(), fitted.predict(X[200:]))

    def test_empty_chunks(self, fitted, data):
        X, *_ = data
        lazy = da.from_array(X).rechunk(((0, 300, 0, 300, 0), -1))
        assert np.array_equal(fitted.predict(lazy).compute(), fitted.predict(X))

    def test_the_score(self, fitted, data, lazy):
        assert fitted.score(lazy[0], lazy[1]) == fitted.score(*data[:2])


class TestParts:
    """Columns as lists of delayed parts."""

    def fit(self, data, y, s):
        return FairLowRankHeadClassifier().fit(
            da.from_array(data[0], chunks=(170, -1)), y, sensitive_features=s
        )

    @pytest.mark.parametrize("column", ["y", "sensitive_features"])
    def test_masked_values_are_missing(self, data, column):
        _, y, s = data
        values = y if column == "y" else s
        masked = np.ma.masked_where(np.arange(200) < 5, values[:200])
        parts = [dask.delayed(masked), dask.delayed(values[200:])]
        with pytest.raises(ValueError, match=f"{column} holds 5 missing values"):
            self.fit(data, *((parts, s) if column == "y" else (y, parts)))

    def test_values_of_several_types_stay_what_they_are(self, data):
        _, y, s = data
        clf = self.fit(data, y, [dask.delayed(s[:200]), dask.delayed(s[200:].astype(str))])
        assert set(clf.groups_.tolist()) == {0, 1, "0", "1"}
        with pytest.raises(ValueError, match="parts of several kinds, Series and ndarray"):
            self.fit(data, y, [dask.delayed(pd.Series(s[:200])), dask.delayed(s[200:])])

    def test_the_last_may_be_the_only_one_that_is_delayed(self, data):
        X, y, s = data
        with pytest.raises(ValueError, match="a list of delayed objects and of ndarray"):
            FairLowRankHeadClassifier().fit([X[:9], dask.delayed(X[9:])], y, sensitive_features=s)

    def test_a_mapping_is_no_row(self):
        with pytest.raises(ValueError, match="X is a dict with"):
            read_chunks([dask.delayed({"a": [1, 2]})])


def test_what_only_looks_like_dask_is_not():
    class InMemory:
        def __dask_graph__(self):
            return None

    assert not is_lazy(InMemory())
    assert not is_lazy([])


def test_features_stay_whatever_is_set_for_output(data, lazy):
    X, y, s = data
    here = FairLowRankHeadClassifier(nn.Linear(D, 3)).fit(X, y, sensitive_features=s)
    extractor = FrozenFeatureExtractor(here.feature_extractor).set_output(transform="pandas")
    kept, original = [], DaskFeatures.of
    with sklearn.config_context(transform_output="pandas"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(DaskFeatures, "of", lambda Z: kept.append(Z) or original(Z))
        there = FairLowRankHeadClassifier(extractor).fit(lazy[0], y, sensitive_features=s)
    assert len(kept) == 1
    assert_same(here, there, X, lazy[0])


class TestErrors:
    def fit(self, X, y, s, **settings):
        return FairLowRankHeadClassifier(**settings).fit(X, y, sensitive_features=s)

    @pytest.mark.parametrize("with_module", [False, True])
    def test_a_bad_row_is_named(self, data, module, with_module):
        X, y, s = data
        bad = X.copy()
        bad[433, 2] = np.nan
        extractor = module if with_module else None
        with pytest.raises(ValueError, match=r"In chunk 2 of X, rows 340 to 509, first in row 433"):
            self.fit(da.from_array(bad, chunks=(170, 3)), y, s, feature_extractor=extractor)

    def test_so_is_one_that_cannot_be_read(self):
        def read(texts):
            return torch.tensor([[float(text), 1.0] for text in texts])

        texts = [str(i) for i in range(40)]
        texts[17] = "seventeen"
        bag = db.from_sequence(texts, npartitions=4)
        extractor = FrozenFeatureExtractor(nn.Linear(2, 3), preprocess=read)
        with pytest.raises(ValueError, match=r"In chunk 1 of X, first in row 7 of it: .*seventeen"):
            extractor.transform(bag).compute()
        with pytest.raises(ValueError, match=r"rows 10 to 19, first in row 17: .*seventeen"):
            self.fit(bag, np.arange(40) % 2, np.arange(40) // 2 % 2, feature_extractor=extractor)

    def test_so_is_one_that_makes_another_error(self, tmp_path):
        def read(texts):
            return torch.tensor([[float((tmp_path / text).read_text())] for text in texts])

        extractor = FrozenFeatureExtractor(nn.Linear(1, 3), preprocess=read)
        for name in "abc":
            (tmp_path / name).write_text("1")
        lazy = [dask.delayed(["a", "b"]), dask.delayed(["c", "gone"])]
        said = "In chunk 1 of X, first in row 1 of it: FileNotFoundError: .*gone"
        with pytest.raises(RuntimeError, match=said):
            extractor.transform(lazy).compute()

    def test_lengths(self, data, lazy, module):
        _, y, s = data
        with pytest.raises(ValueError, match="y has 50 rows but X has 600"):
            self.fit(lazy[0], y[:50], s)
        with pytest.raises(ValueError, match="sensitive_features has 50 rows but X has 600"):
            self.fit(lazy[0], y, lazy[2][:50])
        with pytest.raises(ValueError, match="X has 0 rows"):
            FrozenFeatureExtractor(module).fit(lazy[0][:0])

    def test_what_the_columns_hold(self, lazy):
        missing = np.zeros(N)
        missing[5] = np.nan
        with pytest.raises(ValueError, match="sensitive_features holds 1 missing"):
            self.fit(lazy[0], lazy[1], da.from_array(missing, chunks=100))
        with pytest.raises(ValueError, match="needs at least two groups"):
            self.fit(
                lazy[0], lazy[1], da.zeros(N), constraint="demographic_parity", fairness_weight=1.0
            )
        with pytest.raises(ValueError, match="X is a list of delayed objects and of int"):
            self.fit([dask.delayed([1.0]), 3], [0, 1], [0, 1])

    def test_other_numbers_than_in_the_first_row(self, data):
        X, y, s = data
        parts = [dask.delayed(X[:300]), dask.delayed(X[300:].astype(np.float64))]
        with pytest.raises(ValueError, match=r"In chunk 1 of X.*float64 here and float32"):
            self.fit(parts, y, s)

    def test_a_fit_that_failed_leaves_the_classifier_as_it_was(self, data, lazy):
        X, y, s = data
        clf = FairLowRankHeadClassifier().fit(X, y, sensitive_features=s)
        before = clf.predict(X)
        with pytest.raises(ValueError, match="expected one label per row"):
            clf.fit(lazy[0], y[:50], sensitive_features=s[:50])
        assert np.array_equal(clf.predict(X), before)


class TestWhatTravels:
    @pytest.mark.parametrize(
        ("name", "parts"),
        [("a hidden layer", 2), ("minibatches", 1), ("early stopping", 2), ("a penalty", 0)],
    )
    def test_a_training_that_takes_the_rows_gets_them_once(self, name, parts, lazy, monkeypatch):
        """Those to train with, and those held out."""
        brought, original = [], DaskFeatures.local

        def counted(Z, *args):
            brought.append(len(Z))
            return original(Z, *args)

        monkeypatch.setattr(DaskFeatures, "local", counted)
        FairLowRankHeadClassifier(random_state=0, **FITS[name]).fit(
            lazy[0], lazy[1], sensitive_features=lazy[2]
        )
        assert len(brought) == parts
        assert sum(brought) == (N if parts else 0)

    @pytest.fixture
    def came(self, monkeypatch):
        """List the bytes of what each computation brings here."""
        sizes, original = [], chunked.compute

        def watched(tasks):
            found = original(tasks)
            sizes.append(len(pickle.dumps(found)))
            return found

        monkeypatch.setattr(chunked, "compute", watched)
        return sizes

    @pytest.mark.parametrize(
        "name",
        ["covariance", "chosen C", "a penalty", "closed form", "a bound", "all rows by Adam"],
    )
    def test_sums_and_scores_only(self, name, came, monkeypatch):
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 500 * 40)
        X, y, s = make_biased_classification(
            n_samples=3000, n_features=40, disparity=0.4, random_state=0
        )
        FairLowRankHeadClassifier(random_state=0, **FITS[name]).fit(
            da.from_array(X, chunks=(900, -1)), y, sensitive_features=s
        )
        # Scores of four cells, or their second derivatives in single precision for five folds and
        # the rest; and some hundred bytes of each object.
        assert max(came) <= max(3000 * 4 * 8, 6 * 4 * 41**2 * 4) + 10_000 < X.nbytes / 5

    def test_a_column_is_sent_once_and_packed(self, data):
        Z = DaskFeatures.of(da.from_array(data[0], chunks=(170, -1)))
        y = torch.from_numpy(data[1])
        sent, original = [], chunked.persist
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                chunked, "persist", lambda tasks: (sent.append(len(tasks)), original(tasks))[1]
            )
            for column in (y, y.clone(), y + 0):
                reduce_blocks(lambda block, y: y.sum(), torch.add, Z, column)
            assert len(sent) == 1
            reduce_blocks(lambda block, y: y.sum(), torch.add, Z, y + 1)
        assert len(sent) == 2
        labels = np.repeat([3, 9], 5000)
        assert len(pickle.dumps(chunked._Packed.of(labels))) < 10_500
        assert len(pickle.dumps(chunked._Packed.of(np.ones(10_000)))) < 500


class TestFeatures:
    @pytest.fixture
    def both(self, data):
        return torch.from_numpy(data[0]), DaskFeatures.of(da.from_array(data[0], chunks=(170, -1)))

    @given(
        chosen=st.lists(st.integers(0, N - 1), max_size=50),
        some=st.lists(st.integers(0, N - 1), min_size=1, unique=True).map(sorted),
    )
    @settings(deadline=None, max_examples=30)
    def test_rows_by_number(self, data, chosen, some):
        X = torch.from_numpy(data[0])
        Z = DaskFeatures.of(da.from_array(data[0], chunks=(170, -1)))
        assert torch.equal(Z[np.array(chosen, dtype=int)], X[chosen])
        assert torch.equal(Z[7:300:11], X[7:300:11])
        view = Z.take(np.array(some))
        assert view.shape == (len(some), D)
        assert torch.equal(view[:], X[some])
        assert torch.equal(view.take(slice(0, None, 2))[:], X[some][::2])
        assert torch.equal(view.local(None), X[some])
        column = torch.arange(len(some))
        parts = [
            (block.clone(), own) for block, own in map_blocks(lambda *each: each, view, column)
        ]
        assert torch.equal(torch.cat([block for block, _ in parts]), X[some].double())
        assert torch.equal(torch.cat([own for _, own in parts]), column)

    def test_rows_in_another_order_are_refused(self, both):
        with pytest.raises(ValueError, match="taken in their order"):
            both[1].take(np.array([2, 1]))

    def test_results_are_merged_in_their_order(self, both):
        _, Z = both
        numbers = torch.arange(N)
        assert reduce_blocks(lambda block, own: own.tolist(), list.__add__, Z, numbers) == list(
            range(N)
        )
        assert reduce_blocks(lambda block: 1, int.__add__, Z.take(np.array([], dtype=int))) is None

    def test_columns_come_as_they_are(self, both):
        for column in (
            torch.randn(N).double(),
            torch.randn(N, 3).double(),
            torch.arange(N) % 3,
            torch.arange(N) > 5,
            torch.full((N,), 0.5),
            torch.arange(N).double() % 2,
        ):
            found = torch.cat([*map_blocks(lambda block, own: own, both[1], column)])
            assert found.dtype == column.dtype
            assert torch.equal(found, column)

    def test_many_values_of_a_column_come_as_they_are(self, data):
        Z = DaskFeatures.of(da.from_array(data[0], chunks=(500, -1)))
        column = torch.arange(N).double()
        assert torch.equal(torch.cat([*map_blocks(lambda block, own: own, Z, column)]), column)

    def test_are_brought_here_once(self, both, monkeypatch):
        rows = TensorRows(both[1])
        here = rows.here()
        some = rows.take(np.array([3, 500]))
        assert torch.equal(some.here().Z, both[0][[3, 500]])
        monkeypatch.setattr(chunked, "compute", None)
        assert rows.here().Z is here.Z
        assert torch.equal(here.Z, both[0])
        assert here.here() is here

    def test_small_chunks_are_joined_up_to_a_size(self, data):
        X = data[0]
        Z = DaskFeatures.of(da.from_array(X, chunks=(10, -1)))
        assert len(Z._chunks) == 6
        assert len(DaskFeatures.of(da.from_array(X, chunks=(300, -1)))._chunks) == 2

    @pytest.mark.parametrize("offset", [0.0, 1e4])
    def test_statistics_are_those_in_memory(self, data, offset):
        X, y, s = data
        X = X.astype(np.float64) * np.logspace(-3, 3, D) + offset
        columns = torch.from_numpy(y), torch.ones(N).double(), torch.from_numpy(s)
        settings = {"n_groups": 2, "n_classes": 2, "C": 1.0, "head": None, "covariance": True}
        here = measure(TensorRows(torch.from_numpy(X), *columns), labels=columns[0], **settings)
        Z = DaskFeatures.of(da.from_array(X, chunks=(170, -1)))
        there = measure(TensorRows(Z, *columns), labels=columns[0], **settings)
        for ours, theirs in (
            (there.moments, here.moments),
            ([there.statistics.fisher], [here.statistics.fisher]),
            ([there.covariance.covariances], [here.covariance.covariances]),
            ([there.cells.means, there.cells.weights], [here.cells.means, here.cells.weights]),
        ):
            for found, expected in zip(ours, theirs, strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-6, atol=0.0)

    def test_merging_changes_no_task_s_result(self, both):
        """A task may run again: what it was given must be as it was."""
        parts = [torch.ones(2), torch.ones(2), None]
        assert chunked._merged(torch.Tensor.add_, *parts).tolist() == [2.0, 2.0]
        assert parts[0].tolist() == [1.0, 1.0]


def test_chunks_of_more_axes_are_of_whole_rows():
    X = da.zeros((6, 4, 5), chunks=(4, 2, 2))
    chunks = read_chunks(X)
    assert chunks.lengths == (4, 2)
    assert chunks.head(2).shape == (2, 4, 5)
    with pytest.raises(ValueError, match=r"X is .* a single value"):
        read_chunks(da.ones(3).sum())


@pytest.mark.parametrize("order", list(permutations("faF")), ids="".join)
def test_columns_of_several_kinds_stay_in_their_order(order):
    """Dask itself returns arrays among frames in another order."""
    made = {
        "f": dd.from_pandas(pd.Series(np.arange(6)), 3),
        "a": da.from_array(np.arange(6) + 10, chunks=2),
        "F": dd.from_pandas(pd.Series(np.arange(6) + 20), 2),
    }
    found = computed(*(made[name] for name in order))
    assert [int(np.asarray(each)[0]) for each in found] == [
        {"f": 0, "a": 10, "F": 20}[name] for name in order
    ]
