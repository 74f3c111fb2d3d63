"""Metrics of Dask's collections: those of the same columns in memory, counted where chunks lie."""

import pickle
import sys

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import DataConversionWarning

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessTradeoffDisplay,
    FairnessWarning,
    FeatureScatterDisplay,
    GroupRatesDisplay,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.inputs import chunks
from skfairft.inputs.lazy import is_lazy
from skfairft.metrics import (
    constraint_distance,
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    fairness_scorer,
    weighted_f1_error,
)
from skfairft.parity.tally import sorts_of_rows

TABLES = (
    "by_group",
    "group_intervals",
    "overall_intervals",
    "differences",
    "ratios",
    "headline",
    "support",
)


@pytest.fixture(autouse=True)
def _one_thread():
    """Run chunks one after the other: what the tests say holds for any scheduler."""
    with dask.config.set(scheduler="synchronous"):
        yield


def make_columns(seed, n=200, n_classes=2, n_groups=3):
    """Labels, predictions, groups and weights of rows, in which the groups' rates differ."""
    rng = np.random.default_rng(seed)
    s = rng.integers(n_groups, size=n)
    y = rng.binomial(n_classes - 1, 0.3 + 0.4 * s / n_groups)
    pred = np.where(rng.random(n) < 0.1 + 0.3 * s / n_groups, rng.integers(n_classes, size=n), y)
    return y, pred, s, rng.exponential(size=n)


def cuts(rng, n):
    """Return the lengths of chunks, some of which are empty."""
    ends = np.sort(rng.integers(n + 1, size=rng.integers(5)))
    return tuple(np.diff([0, *ends, n]).tolist())


def delayed_chunks(values, rng):
    """Return a list of delayed chunks."""
    ends = np.cumsum(cuts(rng, len(values)))[:-1]
    return [dask.delayed(part) for part in np.split(values, ends)]


def some_array(values, rng):
    """Return an array of Dask."""
    return da.from_array(values, chunks=(cuts(rng, len(values)), *values.shape[1:]))


def unknown_array(values, rng):
    """Return an array of Dask whose chunks are of unknown lengths: some rows of another one."""
    n = len(values)
    keep = rng.permutation(np.arange(2 * n) < n)
    more = np.repeat(values, 2, axis=0)
    more[np.flatnonzero(keep)] = values
    return some_array(more, rng)[da.from_array(keep, chunks=n // 5)]


def series(values, rng):
    """Return a column of Dask, of unknown lengths; strings become those of Arrow."""
    parts = [
        pd.Series(part, name="sex")
        for part in np.split(values, np.cumsum(cuts(rng, len(values)))[:-1])
    ]
    return dd.from_map(lambda i: parts[i], range(len(parts)), meta=parts[0].iloc[:0])


LAZY = (some_array, unknown_array, series, delayed_chunks)
HERE = (
    lambda values, rng: values,
    lambda values, rng: values.tolist(),
    lambda values, rng: pd.Series(values),
)


def same_reports(found, expected, *, exact):
    # In other chunks sums of weights round otherwise: 200 rows, each by eps.
    close = {"check_exact": True} if exact else {"rtol": 1e-11, "atol": 1e-11}
    for name in TABLES:
        pd.testing.assert_frame_equal(
            getattr(found, name), getattr(expected, name), check_names=False, **close
        )
    pd.testing.assert_series_equal(found.overall, expected.overall, **close)
    assert found.positive == expected.positive
    assert type(found.positive) is type(expected.positive)


class TestAreThoseOfColumnsInMemory:
    @pytest.mark.parametrize("seed", range(12))
    def test_reports(self, seed):
        """Of any chunks and collections, resamples and all."""
        rng = np.random.default_rng(seed)
        y, pred, s, w = make_columns(seed, n_classes=2 + seed % 2, n_groups=2 + seed % 3)
        names = np.array(["b", "a", "d", "c"], dtype=object)
        s = (s, names[s], s / 2, s == 1)[rng.integers(4)]
        y, pred = ((y, pred), (names[y], names[pred]), (y == 1, pred == 1))[rng.integers(3)]
        w = (None, w, rng.integers(3, size=len(y)))[seed % 3]
        kinds = [(LAZY + HERE)[i] for i in rng.integers(len(LAZY + HERE), size=4)]
        kinds[seed % 3] = LAZY[seed % len(LAZY)]  # at least one
        given = [
            None if column is None else kind(column, rng)
            for column, kind in zip((y, pred, s, w), kinds, strict=True)
        ]
        assert any(map(is_lazy, given))
        found, expected = (
            fairness_report(
                true,
                predicted,
                sensitive_features=groups,
                sample_weight=weight,
                n_boot=20,
                random_state=seed,
            )
            for true, predicted, groups, weight in (given, (y, pred, s, w))
        )
        same_reports(found, expected, exact=w is None)

    def test_resamples_of_rows_that_each_have_a_weight(self, monkeypatch):
        """Also where it is cheaper to draw rows than kinds."""
        monkeypatch.setattr("skfairft.parity.bootstrap._CELL", 0.0)
        y, pred, s, w = make_columns(0)
        found, expected = (
            fairness_report(
                y, pred, sensitive_features=s, sample_weight=weight, n_boot=20, random_state=0
            )
            for weight in (da.from_array(w, chunks=60), w)
        )
        same_reports(found, expected, exact=False)

    @pytest.mark.parametrize("constraint", ["demographic_parity", "error_rate_parity"])
    def test_distances_and_error(self, constraint):
        y, pred, s, w = make_columns(1, n_classes=3)
        rng = np.random.default_rng(0)
        lazy = [make(column, rng) for make, column in zip(LAZY, (y, pred, s, w), strict=True)]
        for weight, lazy_weight in ((None, None), (w, lazy[3])):
            close = pytest.approx if weight is not None else lambda value: value
            for metric, more in (
                (constraint_distance, {"constraint": constraint}),
                (demographic_parity_distance, {}),
                (equalized_odds_distance, {"pos_label": 2}),
            ):
                expected = metric(y, pred, sensitive_features=s, sample_weight=weight, **more)
                found = metric(
                    *lazy[:2], sensitive_features=lazy[2], sample_weight=lazy_weight, **more
                )
                assert found == close(expected)
                assert type(found) is float
                assert expected > 0.0  # control
            expected = weighted_f1_error(y, pred, sample_weight=weight)
            assert weighted_f1_error(*lazy[:2], sample_weight=lazy_weight) == close(expected)

    @pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
    def test_several_columns_of_groups(self, scheduler):
        y, pred, s, _ = make_columns(2, n_groups=4)
        frame = pd.DataFrame({"sex": np.array(["f", "m"], object)[s % 2], "age": s // 2})
        expected = fairness_report(y, pred, sensitive_features=frame, n_boot=0)
        lazy = dd.from_pandas(frame, npartitions=3)
        with dask.config.set(scheduler=scheduler):
            for groups in (lazy, lazy.categorize(), lazy.astype({"age": "Int64"})):
                found = fairness_report(
                    da.from_array(y, chunks=70), pred, sensitive_features=groups, n_boot=0
                )
                same_reports(found, expected, exact=True)
                assert found.by_group.index.equals(expected.by_group.index)
                assert found.by_group.index.names == ["sex", "age"]
            numbers = np.column_stack([s % 2, s // 2])
            found = fairness_report(
                y, pred, sensitive_features=da.from_array(numbers, chunks=(70, 1)), n_boot=0
            )
            assert found.by_group.index.tolist() == [(0, 0), (0, 1), (1, 0), (1, 1)]
            assert found.by_group.index.names == ["group_0", "group_1"]
            # Control: frames that are here have rows beside chunks, too.
            found = fairness_report(
                da.from_array(y, chunks=70), pred, sensitive_features=frame, n_boot=0
            )
            same_reports(found, expected, exact=True)

    def test_names_of_groups(self):
        y, pred, s, _ = make_columns(3)
        column = dd.from_pandas(pd.Series(s, name="sex"), npartitions=2)
        for groups, name in ((column, "sex"), (da.from_array(s, chunks=50), "group")):
            report = fairness_report(y, pred, sensitive_features=groups, n_boot=0)
            assert report.by_group.index.name == name

    def test_chunks_that_lack_a_group_or_a_class(self):
        y, pred, s, _ = make_columns(4, n_classes=3)
        order = np.lexsort((pred, y, s))
        y, pred, s = y[order], pred[order], s[order]
        lazy = [da.from_array(column, chunks=15) for column in (y, pred, s)]
        assert [len(np.unique(column.blocks[0].compute())) for column in lazy] == [1, 1, 1]
        found = fairness_report(*lazy[:2], sensitive_features=lazy[2], n_boot=20, random_state=0)
        expected = fairness_report(y, pred, sensitive_features=s, n_boot=20, random_state=0)
        same_reports(found, expected, exact=True)

    @pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
    def test_weights_whose_squares_are_out_of_range(self, scale):
        """Chunks of zeros, and of weights of any size, beside each other."""
        y, pred, s, w = make_columns(5)
        w[:50], w[50:100] = 0.0, w[50:100] * 1e-30
        found, expected = (
            fairness_report(
                y, pred, sensitive_features=s, sample_weight=weight, n_boot=20, random_state=0
            )
            for weight in (da.from_array(w * scale, chunks=50), w)
        )
        same_reports(found, expected, exact=False)

    def test_values_of_another_type_in_each_chunk(self):
        y, pred, s, _ = make_columns(6)
        mixed = [dask.delayed(s[:90]), dask.delayed(s[90:].astype(float))]
        found, expected = (
            fairness_report(y, pred, sensitive_features=groups, n_boot=0)
            for groups in (mixed, s.astype(float))
        )
        same_reports(found, expected, exact=True)
        mixed = [dask.delayed(s[:90]), dask.delayed(s[90:].astype(str))]
        found = fairness_report(y, pred, sensitive_features=mixed, n_boot=0)
        assert found.by_group.index.tolist() == [0, 1, 2, "0", "1", "2"]
        with pytest.raises(ValueError, match="mixes True and False with numbers"):
            fairness_report(
                y, pred, sensitive_features=[dask.delayed(s[:90]), dask.delayed(s[90:] > 0)]
            )

    def test_undefined_rates_are_warned_of_here(self):
        y, pred, s, _ = make_columns(7)
        y[s == 1] = 0
        with pytest.warns(FairnessWarning) as expected:
            equalized_odds_distance(y, pred, sensitive_features=s)
        with pytest.warns(FairnessWarning) as found:
            equalized_odds_distance(y, pred, sensitive_features=da.from_array(s, chunks=30))
        assert [str(each.message) for each in found] == [str(each.message) for each in expected]
        assert found[0].filename == __file__
        with pytest.warns(FairnessWarning, match="all 200 rows belong to the group 0"):
            demographic_parity_distance(y, pred, sensitive_features=da.zeros(200, int, chunks=30))

    def test_a_column_vector_is_warned_of_once(self):
        y, pred, s, _ = make_columns(8)
        frame = dd.from_pandas(pd.DataFrame({"y": y}), npartitions=3)
        expected = demographic_parity_distance(y, pred, sensitive_features=s)
        for vector in (da.from_array(y[:, None], chunks=(30, 1)), frame):
            with pytest.warns(DataConversionWarning, match="A column-vector y_true") as found:
                assert demographic_parity_distance(vector, pred, sensitive_features=s) == expected
            assert len(found) == 1
            assert found[0].filename == __file__


def changed(values, at, to):
    new = (
        values.astype(np.result_type(values, type(to))) if to is not None else values.astype(object)
    )
    new[at] = to
    return new


Y, PRED, S, W = make_columns(9)
GOOD = {
    "y_true": da.from_array(Y, chunks=60),
    "y_pred": da.from_array(PRED, chunks=70),
    "sensitive_features": da.from_array(S, chunks=80),
    "sample_weight": da.from_array(W, chunks=90),
}
BAD = {
    "missing label": (
        {"y_true": da.from_array(changed(Y, 130, np.nan), chunks=60)},
        r"chunk 2 of y_true \(rows 120 to 139\) holds 1 missing values",
    ),
    "missing group": (
        {"sensitive_features": dd.from_pandas(pd.Series(changed(S, 3, None)), npartitions=2)},
        r"chunk 0 of sensitive_features \(rows 0 to 59\) holds 1 missing values",
    ),
    "missing group in one of several columns": (
        {
            "sensitive_features": dd.from_pandas(
                pd.DataFrame({"sex": S, "age": changed(S, 3, np.nan)}), npartitions=2
            )
        },
        r"chunk 0 of sensitive_features \(rows 0 to 59\) column 'age' holds 1 missing",
    ),
    "missing group here": (
        {"sensitive_features": changed(S, 3, None)},
        r"^sensitive_features holds 1 missing values \(NaN or None\) in 200 rows",
    ),
    "negative weight": (
        {"sample_weight": da.from_array(changed(W, 95, -1.0), chunks=90)},
        r"chunk 1 of sample_weight \(rows 90 to 119\) holds -1 in row 5",
    ),
    "negative weight here": (
        {"sample_weight": changed(W, 95, -1.0)},
        r"^sample_weight holds -1 in row 95",
    ),
    "no weight": ({"sample_weight": da.zeros(200)}, "sample_weight is zero for all 200 rows"),
    "no number": (
        {"sample_weight": da.from_array(W.astype(str), chunks=100)},
        r"chunk \d of sample_weight .* expected a number per row",
    ),
    "other length": (
        {"y_pred": da.from_array(PRED[:-1], chunks=70)},
        "y_pred has 199 rows but y_true has 200; expected one value per row",
    ),
    "other length here": (
        {"sensitive_features": S[:-1].tolist()},
        "sensitive_features has 199 rows but y_true has 200",
    ),
    "other length, unknown before": (
        {"sample_weight": GOOD["sample_weight"][GOOD["sample_weight"] > 10]},
        "sample_weight has 0 rows but y_true has 200",
    ),
    "other length than declared": (
        {
            "sensitive_features": da.concatenate(
                [
                    da.from_delayed(dask.delayed(S[:90]), (100,), int),
                    da.from_delayed(dask.delayed(S[90:]), (100,), int),
                ]
            )
        },
        r"chunk 0 of sensitive_features \(rows 90 to 99\) has 0 rows but chunk 1 of y_true .* 10",
    ),
    "other number of weights than declared": (
        {"sample_weight": da.from_delayed(dask.delayed(W[:199]), (200,), float)},
        r"chunk 0 of sample_weight \(rows 180 to 199\) has 19 rows but .* expected one weight",
    ),
    "scores": (
        {"y_pred": da.from_array(W, chunks=70)},
        r"chunk \d of y_pred \(rows \d+ to \d+\) holds values that are not whole numbers",
    ),
    "labels of two types": (
        {"y_pred": da.from_array(PRED.astype(str), chunks=70)},
        "y_true holds labels like .* and y_pred labels like .* one type in both",
    ),
    "several columns of labels": (
        {"y_pred": da.from_array(np.column_stack([PRED, PRED]), chunks=(70, 1))},
        r"chunk \d of y_pred \(rows \d+ to \d+\) should be a 1d array, got .* \(\d+, 2\)",
    ),
    "one value": ({"y_pred": da.ones(())}, "y_pred is .* a single value; expected one per row"),
    "no rows": (
        {name: column[:0] for name, column in GOOD.items()},
        "y_true has 0 rows; expected at least one",
    ),
    "a mapping": (
        {"sensitive_features": dask.delayed({"sex": S})},
        "chunk 0 of sensitive_features is a mapping",
    ),
    "no groups": ({"sensitive_features": None}, "sensitive_features is None"),
    "unknown label": ({"pos_label": 7}, "pos_label=7 occurs neither in y_true nor in y_pred"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_say_which_chunk_and_rows(case):
    change, message = BAD[case]
    arguments = GOOD | change
    with pytest.raises(ValueError, match=message):
        fairness_report(arguments.pop("y_true"), arguments.pop("y_pred"), **arguments)


def test_good_columns_are_not_refused():
    """The control of the errors."""
    columns = dict(GOOD)
    found = fairness_report(columns.pop("y_true"), columns.pop("y_pred"), n_boot=0, **columns)
    assert found.overall["count"] == 200


class TestOnlyCountsTravel:
    @pytest.fixture
    def brought(self, monkeypatch):
        """Bytes of what comes here; what would bring a whole column is refused."""
        sizes, inner = [], chunks.compute

        def compute(tasks):
            found = inner(tasks)
            sizes.append(len(pickle.dumps(found)))
            return found

        def refuse(*args, **kwargs):
            raise AssertionError("a whole column is brought here")

        monkeypatch.setattr(chunks, "compute", compute)
        for kind in (da.Array, dd.DataFrame, dd.Series):
            monkeypatch.setattr(kind, "compute", refuse)
            monkeypatch.setattr(kind, "__array__", refuse)
        return sizes

    @pytest.mark.parametrize("make", [some_array, unknown_array, series, delayed_chunks])
    def test_whatever_the_number_of_rows(self, brought, make):
        n = 20_000
        for n_rows in (n, 4 * n):
            y, pred, s, w = make_columns(0, n=n_rows)
            rng = np.random.default_rng(0)  # of four times as many rows as many chunks
            lazy = [make(column, rng) for column in (y, pred, s)]
            for weight, n_boot in ((None, 10), (np.ceil(w), 10), (make(w, rng), 0)):
                brought.clear()
                fairness_report(
                    *lazy[:2], sensitive_features=lazy[2], sample_weight=weight, n_boot=n_boot
                )
                assert sum(brought) < 80_000 < n * 8
        # Control: resamples of weights that differ from row to row need these.
        brought.clear()
        fairness_report(
            *lazy[:2], sensitive_features=lazy[2], sample_weight=make(w, rng), n_boot=10
        )
        assert sum(brought) > len(w) * 8

    def test_a_column_that_comes_here_is_noticed(self, brought):
        """The control of the fixture."""
        with pytest.raises(AssertionError, match="whole column"):
            np.asarray(GOOD["y_true"])

    def test_chunks_come_into_being_once(self):
        y, pred, s, w = make_columns(0)
        made = []

        def note(block, name):
            made.append(name)
            return block

        def watched(values, name, size):
            known = da.from_array(values, chunks=size).map_blocks(note, name, dtype=values.dtype)
            return known if name in "ys" else known[known > -1.0]  # of unknown lengths

        lazy = [
            watched(*each) for each in ((y, "y", 50), (pred, "p", 60), (s, "s", 70), (w, "w", 45))
        ]
        made.clear()  # Dask looks at what an empty one becomes
        fairness_report(*lazy[:2], sensitive_features=lazy[2], sample_weight=lazy[3], n_boot=0)
        assert sorted(made) == sorted("yyyyppppssswwwww")


def test_columns_in_memory_do_not_need_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    fairness_report(Y, PRED, sensitive_features=S, sample_weight=W, n_boot=2)
    columns = {"y": Y}
    assert sorts_of_rows(columns, W) == (columns, None)


@pytest.fixture(scope="module")
def fitted():
    X, y, s = make_biased_classification(n_samples=600, disparity=0.4, random_state=0)
    clf = FairLowRankHeadClassifier(
        constraint="demographic_parity", fairness_weight=0.8, solver="plug_in", random_state=0
    )
    return clf.fit(X, y, sensitive_features=s), X, y, pd.Series(s, name="sex")


def lazily(X, y, s):
    return da.from_array(X, chunks=(250, 3)), da.from_array(y, chunks=200), dd.from_pandas(s, 3)


class TestModelReport:
    @pytest.mark.parametrize(
        ("known_groups", "weighted"),
        [(True, True), *(pytest.param(i, not i, marks=pytest.mark.slow) for i in (False, True))],
    )
    def test_is_that_of_rows_in_memory(self, fitted, known_groups, weighted):
        clf, X, y, s = fitted
        w = np.arange(len(y)) % 3
        more = {"known_groups": known_groups, "n_boot": 20, "random_state": 0}
        lazy_X, lazy_y, lazy_s = lazily(X, y, s)
        found = model_report(
            clf,
            lazy_X,
            lazy_y,
            sensitive_features=lazy_s,
            sample_weight=da.from_array(w, chunks=100) if weighted else None,
            **more,
        )
        expected = model_report(
            clf, X, y, sensitive_features=s, sample_weight=w if weighted else None, **more
        )
        assert found.to_html() == expected.to_html()
        pd.testing.assert_frame_equal(found.counts, expected.counts)
        assert found.counts.to_numpy().sum() == len(y)

    def test_predicts_once(self, fitted):
        clf, X, y, s = fitted
        made = []

        def note(block):
            made.append(len(block))
            return block

        lazy_X, lazy_y, lazy_s = lazily(X, y, s)
        lazy_X = lazy_X.rechunk((250, -1)).map_blocks(note, dtype=X.dtype, meta=X[:0])
        for labels, groups in ((lazy_y, lazy_s), (y, s)):
            made.clear()
            model_report(clf, lazy_X, labels, sensitive_features=groups, n_boot=0)
            assert sorted(made) == [100, 250, 250]

    def test_refuses_at_the_door(self, fitted):
        """Labels and groups are looked at before X is."""
        clf, X, y, s = fitted

        def fail(block):
            raise AssertionError("X is read")

        _, lazy_y, lazy_s = lazily(X, y, s)
        unread = da.from_array(X, chunks=250).map_blocks(fail, dtype=X.dtype, meta=X[:0])
        for labels, groups, message in (
            (lazy_y * 0, lazy_s, r"one class only, 0 in all 600 rows"),
            (lazy_y + 5, lazy_s, r"y holds \[5, 6\], but the model was fitted on"),
            (lazy_y, lazy_s.partitions[0], "sensitive_features has 200 rows but y has 600"),
            (lazy_y, None, "sensitive_features is None"),
            (lazy_y[:200], s, "sensitive_features has 600 rows but y has 200"),
        ):
            with pytest.raises(ValueError, match=message):
                model_report(clf, unread, labels, sensitive_features=groups)

    def test_other_numbers_of_rows_than_x(self, fitted):
        clf, X, y, s = fitted
        lazy_X, lazy_y, lazy_s = lazily(X, y, s)
        with pytest.raises(ValueError, match="y_pred has 599 rows but y_true has 600"):
            model_report(clf, lazy_X[1:], lazy_y, sensitive_features=lazy_s, n_boot=0)

    def test_warns_of_groups_that_the_fit_has_not_seen(self, fitted):
        clf, X, y, s = fitted
        lazy_X, lazy_y, lazy_s = lazily(X, y, s)
        with pytest.warns(FairnessWarning, match=r"has not seen \[10, 11\]"):
            model_report(clf, lazy_X, lazy_y, sensitive_features=lazy_s + 10, n_boot=0)


class TestOthersThatCount:
    @pytest.mark.parametrize("name", ["weighted_f1_error", "demographic_parity_distance"])
    @pytest.mark.parametrize("known_groups", [False, True])
    def test_scorers(self, fitted, routing, name, known_groups):
        clf, X, y, s = fitted
        scorer = fairness_scorer(name, known_groups=known_groups)
        needs = known_groups or name != "weighted_f1_error"
        found, expected = (
            scorer(clf, rows, labels, **({"sensitive_features": groups} if needs else {}))
            for rows, labels, groups in (lazily(X, y, s), (X, y, s))
        )
        assert found == expected

    def test_displays(self, fitted):
        clf, X, y, s = fitted
        drawn = []
        for rows, labels, groups in (lazily(X, y, s), (X, y, s)):
            told = {"sensitive_features": groups}
            rates = GroupRatesDisplay.from_estimator(clf, rows, labels, **told)
            given = GroupRatesDisplay.from_predictions(labels, clf.predict(rows), **told)
            tradeoff = FairnessTradeoffDisplay.from_estimator(
                {"one": clf}, rows, labels, random_state=0, **told
            )
            intervals = tradeoff.error_interval, tradeoff.disparity_interval
            drawn.append([*rates.rates.values(), *rates.intervals.values(), *intervals])
            drawn[-1] += [*given.rates.values(), tradeoff.error, tradeoff.disparity]
        for found, expected in zip(*drawn, strict=True):
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("max_rows", [50, None])
    @pytest.mark.parametrize("frame", [False, True])
    def test_scatter_of_rows_that_come_here(self, fitted, max_rows, frame):
        clf, X, y, s = fitted
        lazy_X, lazy_y, lazy_s = lazily(X, y, s)
        if frame:
            lazy_X = [dask.delayed(X[:100]), dask.delayed(X[100:100]), dask.delayed(X[100:])]
        found, expected = (
            FeatureScatterDisplay.from_estimator(
                clf, rows, y=labels, sensitive_features=groups, max_rows=max_rows, random_state=0
            )
            for rows, labels, groups in ((lazy_X, lazy_y, lazy_s), (X, y, s))
        )
        np.testing.assert_array_equal(found.projection, expected.projection)
        np.testing.assert_array_equal(found.groups, expected.groups)
        np.testing.assert_array_equal(found.wrong, expected.wrong)
        assert found.total == 600


def test_columns_of_groups_in_another_order_are_refused():
    y = np.arange(40) % 2
    frame = pd.DataFrame({"a": np.arange(40) // 3 % 2, "b": np.arange(40) % 2})
    parts = [dask.delayed(frame[:20]), dask.delayed(frame[20:][["b", "a"]])]
    with pytest.raises(ValueError, match=r"\['a', 'b'\] in some chunks and \['b', 'a'\] in others"):
        fairness_report(y, y, sensitive_features=parts, n_boot=0)
