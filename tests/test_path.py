"""The whole trade-off: its table is what its classifiers do, its heads those of single fits."""

import pickle
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from flat import flat
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch import nn

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    FineTune,
    FrozenFeatureExtractor,
    PlugIn,
    fairness_path,
)
from skfairft.datasets import make_biased_classification
from skfairft.feature_store import MemoryStore
from skfairft.metrics import (
    demographic_parity_distance,
    equalized_odds_distance,
    weighted_f1_error,
)
from skfairft.parity.auc import auc_with_error
from skfairft.parity.constraints import parity
from skfairft.parity.judge import REFIT, pareto_front
from skfairft.parity.limits import distance_limits
from skfairft.path import METRICS
from skfairft.solvers import trials

SOLVERS = ["fine_tune", "closed_form", "plug_in"]
DP, EO = "demographic_parity", "equalized_odds"
WEIGHTS = [0.0, 0.5, 1.0]


def make_data(k=2, n=600, seed=0):
    return make_biased_classification(
        n,
        12,
        n_classes=k,
        n_groups=k,
        n_proxies=4,
        disparity=0.8,
        proxy=2.0,
        class_sep=0.9,
        random_state=seed,
    )


def make_three_groups(seed=0):
    return make_biased_classification(600, 12, n_groups=3, disparity=0.6, random_state=seed)


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def other():
    """Rows of the same kind to measure on."""
    return make_data(n=401, seed=1)


def make_weights(n, seed=2):
    """Weights of very different size, a fifth of them zero."""
    rng = np.random.default_rng(seed)
    return rng.exponential(size=n) * (rng.uniform(size=n) > 0.2)


def points(table):
    """The table without intervals."""
    return table[[name for name in table if not name.endswith(("_low", "_high"))]]


def make_clf(**params):
    return FairLowRankHeadClassifier(
        **flat(**{"constraint": DP, "solver": "closed_form", "random_state": 0, **params})
    )


def seen_by_heads(monkeypatch):
    """A list that is filled with the rows that heads are judged on."""
    seen, head_scores = [], trials.head_scores
    monkeypatch.setattr(
        trials, "head_scores", lambda head, Z: seen.append(Z) or head_scores(head, Z)
    )
    return seen


def trace(data, clf=None, *, feature_extractor=None, **settings):
    """A path of few points, on a quarter held out, without intervals unless asked for."""
    X, y, s = data
    apart = {} if "held_out" in settings else {"cv": 0.25}
    settings = {"weights": WEIGHTS, "thresholds": 1, "n_boot": 0, **apart, **settings}
    clf = make_clf(feature_extractor=feature_extractor) if clf is None else clf
    return fairness_path(clf, X, y, sensitive_features=s, **settings)


class TestTable:
    def test_has_a_row_for_each_head(self, data):
        found = trace(data, solvers=SOLVERS[1:], ranks=[1, None, 0.9])
        table = found.table
        intervals = [name + end for name in METRICS for end in ("", "_low", "_high")]
        assert table.columns.tolist() == [
            "solver",
            "rank",
            "fairness_weight",
            "positive_share",
            *intervals,
            "on_front",
        ]
        assert len(table) == len(found.classifiers) == 2 * 3 * 3
        assert table.index.tolist() == list(range(18))
        keys = [(s, r, w) for s in SOLVERS[1:] for r in (1, None, 0.9) for w in WEIGHTS]
        assert (
            list(zip(table["solver"], table["rank"], table["fairness_weight"], strict=True)) == keys
        )
        for clf, (solver, rank, weight) in zip(found.classifiers, keys, strict=True):
            assert (clf.solver, clf.rank, clf.fairness_weight) == (solver, rank, weight)
            assert clf.fairness_weight_ == weight
        assert (table["positive_share"] == 1.0).all()
        assert found.constraint == DP
        assert found.n_judged == 150

    @pytest.mark.parametrize(
        ("k", "constraint"),
        [
            (2, DP),
            (3, EO),
            pytest.param(2, EO, marks=pytest.mark.slow),
            pytest.param(3, DP, marks=pytest.mark.slow),
        ],
    )
    def test_is_what_the_classifiers_do(self, constraint, k):
        data, (X, y, s) = make_data(k), make_data(k, 401, seed=1)
        found = trace(
            data,
            make_clf(constraint=constraint),
            solvers=SOLVERS,
            ranks=[1],
            thresholds=5,
            held_out=(X, y, s),
        )
        assert found.n_judged == 401
        assert (len(found.table) > 9) == (k == 2)
        for row, clf in zip(found.table.to_dict("records"), found.classifiers, strict=True):
            predicted = clf.predict(X)
            gap = demographic_parity_distance(y, predicted, sensitive_features=s)
            odds = equalized_odds_distance(y, predicted, sensitive_features=s)
            assert row["demographic_parity_distance"] == pytest.approx(gap, abs=1e-12)
            assert row["equalized_odds_distance"] == pytest.approx(odds, abs=1e-12)
            expected = gap if constraint == DP else odds
            assert row["difference"] == pytest.approx(expected, abs=1e-12)
            error = weighted_f1_error(y, predicted)
            assert row["weighted_f1_error"] == pytest.approx(error, abs=1e-9)
            assert row["accuracy"] == pytest.approx(accuracy_score(y, predicted), abs=1e-12)
            proba = clf.predict_proba(X)
            area = roc_auc_score(y, proba[:, 1] if k == 2 else proba, multi_class="ovr")
            assert row["roc_auc"] == pytest.approx(area, abs=1e-9)

    def test_the_front_is_that_of_brute_force(self, data):
        table = trace(data, solvers=SOLVERS, weights=9, thresholds=7).table
        points = list(zip(table["weighted_f1_error"], table["difference"], strict=True))
        expected = [
            not any(
                error <= own_error and gap <= own_gap and (error, gap) != (own_error, own_gap)
                for error, gap in points
            )
            for own_error, own_gap in points
        ]
        assert table["on_front"].tolist() == expected
        assert 3 < sum(expected) < len(points)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_more_weight_is_less_difference_and_more_error(self, data, solver):
        table = trace(data, solvers=[solver], cv=0.5).table
        assert table["difference"].is_monotonic_decreasing
        assert table["difference"].iloc[-1] < 0.4 * table["difference"].iloc[0]
        assert table["weighted_f1_error"].is_monotonic_increasing

    def test_labels_and_groups_of_any_type(self, data, other):
        def named(X, y, s):
            return X, np.array(["no", "yes"])[y], [["f", "m"][code] for code in s]

        plain = trace(data, held_out=other)
        words = trace(named(*data), held_out=named(*other))
        assert words.table.equals(plain.table)
        assert words.classifiers[0].classes_.tolist() == ["no", "yes"]


def test_pareto_front_of_ties_and_unknowns():
    error = [1.0, 1.0, 2.0, 2.0, np.nan, 0.5]
    difference = [0.5, 0.5, 0.5, 0.1, 0.0, np.nan]
    assert pareto_front(error, difference).tolist() == [True, True, False, True, False, False]


class TestHeads:
    @pytest.mark.parametrize("constraint", [DP, EO])
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.some(2)
    def test_are_those_of_single_fits(self, data, other, solver, constraint):
        X, y, s = data
        clf = make_clf(solver=solver, constraint=constraint, tol=1e-6)
        found = trace(data, clf, held_out=other)
        shifts = []
        for weight, one in zip(WEIGHTS, found.classifiers, strict=True):
            single = clone(clf).set_params(fairness_weight=weight).fit(X, y, sensitive_features=s)
            ours, theirs = one.predict_proba(X), single.predict_proba(X)
            # The plug-in rule's multipliers start at those of the weight before.
            slack = {"fine_tune": 0.02, "closed_form": 1e-12, "plug_in": 0.005}[solver]
            np.testing.assert_allclose(ours, theirs, atol=slack)
            # Estimators are equal to themselves only; their repr shows their parameters.
            assert repr(one.get_params()) == repr(single.get_params())
            assert one.solver is not clf.solver or isinstance(clf.solver, str)
            assert set(vars(single)) == set(vars(one))
            shifts.append(np.abs(theirs - found.classifiers[0].predict_proba(X)).mean())
        assert shifts[2] > 0.03

    def test_can_be_used_as_fitted_classifiers(self, data):
        X, y, s = data
        found = trace(data, solvers=SOLVERS)
        for clf in found.classifiers:
            with torch.no_grad():
                scores = clf.to_torch()(torch.from_numpy(X))
            np.testing.assert_allclose(scores, clf.decision_function(X), atol=1e-9)
            assert clf.groups_.tolist() == [0, 1]
            assert clf.n_features_in_ == 12
        # Fitting one again changes no other.
        before = found.classifiers[1].decision_function(X)
        found.classifiers[0].fit(X, 1 - y, sensitive_features=s)
        np.testing.assert_array_equal(found.classifiers[1].decision_function(X), before)

    def test_are_made_once_and_when_they_are_asked_for(self, data):
        solver = PlugIn(max_epochs=3)
        clf = make_clf(solver=solver)
        path, same = (trace(data, clf, weights=WEIGHTS) for _ in range(2))
        expected = [each.decision_function(data[0]) for each in same.classifiers]
        assert "0 of them made so far" in repr(path.classifiers)
        solver.set_params(max_epochs=50)  # another's, from here on
        assert path.classifiers[-1] is path.classifiers[len(path.table) - 1]
        assert "1 of them made so far" in repr(path.classifiers)
        assert path.classifiers[np.int64(0)].solver.max_epochs == 3
        for other in (path.classifiers, pickle.loads(pickle.dumps(path)).classifiers):
            assert len(other) == len(path.table)
            found = [each.decision_function(data[0]) for each in other]
            np.testing.assert_array_equal(found, expected)
        assert path.classifiers[1:] == list(path.classifiers)[1:]
        with pytest.raises(IndexError):
            path.classifiers[len(path.table)]

    def test_do_not_depend_on_who_is_asked_for_first(self, data):
        X, _, s = data
        settings = {"weights": 9, "cv": 3}
        one, other = (trace(data, make_clf(solver="plug_in"), **settings) for _ in range(2))
        backwards = [other.classifiers[i] for i in range(len(other.table))[::-1]][::-1]
        for first, second in zip(one.classifiers, backwards, strict=True):
            found = (each.decision_function(X, sensitive_features=s) for each in (first, second))
            np.testing.assert_array_equal(*found)

    def test_share_nothing_and_can_be_trained_wherever_they_are_made(self, data):
        path = trace(data, weights=[0.5], thresholds=3)
        same = trace(data, weights=[0.5], thresholds=3)
        assert len(path.classifiers) > 1
        with torch.inference_mode():
            first = path.classifiers[0]
        first.head_.requires_grad_(True)
        with torch.no_grad():
            for values in first.head_.parameters():
                values.zero_()
        for ours, theirs in list(zip(path.classifiers, same.classifiers, strict=True))[1:]:
            found = (each.decision_function(data[0]) for each in (ours, theirs))
            np.testing.assert_array_equal(*found)

    def test_hold_no_features(self, data):
        X, y, s = data
        wide = np.tile(X, 100)
        path = trace((wide, y, s), make_clf(solver="plug_in", C=1.0))
        assert len(pickle.dumps(path.classifiers._each)) < wide.nbytes / 4

    def test_the_extractor_runs_once(self, data, other):
        store = MemoryStore()
        extractor = FrozenFeatureExtractor(nn.Identity(), memory=store)
        trace(data, feature_extractor=extractor, solvers=SOLVERS, ranks=[1, None], thresholds=3)
        assert store.info().misses == 600
        trace(data, feature_extractor=extractor, solvers=SOLVERS, held_out=other)
        assert store.info().misses == 600 + 401  # of the second run the rows to measure on alone

    def test_the_classifier_is_not_changed(self, data):
        X, y, s = data
        clf = make_clf(fairness_weight=0.3)
        before = clf.get_params()
        first = trace(data, clf)
        assert clf.get_params() == before
        with pytest.raises(NotFittedError):
            clf.predict(X)
        fitted = clone(clf).fit(X, y, sensitive_features=s)
        expected = fitted.decision_function(X)
        second = trace(data, fitted)
        np.testing.assert_array_equal(fitted.decision_function(X), expected)
        assert second.table.equals(first.table)

    def test_held_out_rows_are_stratified_and_used_for_nothing_else(self, data, monkeypatch):
        X, y, s = data
        seen = seen_by_heads(monkeypatch)
        clean = trace(data)
        held_out = np.isin(X[:, 0], seen[0][:, 0])
        cells = 2 * y + s
        taken, sizes = np.bincount(cells[held_out]), np.bincount(cells)
        assert np.abs(taken - 0.25 * sizes).max() <= 1
        poisoned = trace((np.where(held_out[:, None], 1e3 * X, X), y, s))
        for ours, theirs in zip(poisoned.classifiers, clean.classifiers, strict=True):
            np.testing.assert_array_equal(ours.decision_function(X), theirs.decision_function(X))
        assert not poisoned.table["accuracy"].equals(clean.table["accuracy"])

    def test_seeds_hold_other_rows_out(self, data):
        tables = [trace(data, make_clf(random_state=seed)).table for seed in (0, 0, 1)]
        assert tables[0].equals(tables[1])
        assert not tables[0].equals(tables[2])

    def test_weights_are_repeated_rows(self, data, other):
        w = np.random.default_rng(0).integers(1, 4, size=len(data[0]))
        weighted = trace(data, sample_weight=w, held_out=other).table
        repeated = trace(tuple(np.repeat(part, w, axis=0) for part in data), held_out=other).table
        numbers = list(METRICS)
        np.testing.assert_allclose(weighted[numbers], repeated[numbers], atol=1e-9)
        assert not np.allclose(weighted[numbers], trace(data, held_out=other).table[numbers])


class TestWhatIsNotTried:
    """The solver of the classifier has no say where others are tried."""

    @pytest.mark.parametrize("own", ["fine_tune", "closed_form", "plug_in"])
    def test_solvers_have_their_own_strength(self, own):
        X, y, s = make_biased_classification(200, 30, disparity=0.4, random_state=0)
        tried = ["plug_in", "closed_form"]
        found = trace((X, y, s), make_clf(solver=own), solvers=tried, weights=[0.5])
        for name, clf in zip(tried, found.classifiers, strict=True):
            alone = trace((X, y, s), make_clf(solver=name), weights=[0.5])
            assert clf.C_ == alone.classifiers[0].C_ == (0.1 if name == "plug_in" else 1.0)
            np.testing.assert_array_equal(
                clf.predict_proba(X), alone.classifiers[0].predict_proba(X)
            )

    def test_nor_what_it_refuses(self, data):
        head = nn.Linear(data[0].shape[1], 2)
        clf = make_clf(solver="plug_in", head=head)
        found = trace(data, clf, solvers=["closed_form"], weights=[0.5])
        expected = trace(data, make_clf(solver="closed_form", head=head), weights=[0.5])
        pd.testing.assert_frame_equal(found.table, expected.table)


class TestOutOfFold:
    """Heads of other folds measure each row; the classifiers are fitted on all rows."""

    @staticmethod
    def folds(X, y, s):
        return list(StratifiedKFold(3, shuffle=True, random_state=1).split(X, 2 * y + s))

    @pytest.mark.parametrize("solver", ["closed_form", "fine_tune"])
    def test_is_what_heads_of_each_fold_do(self, data, solver):
        X, y, s = data
        clf = make_clf(solver=solver, tol=1e-6)
        found = trace(data, clf, cv=self.folds(*data))
        assert found.n_judged == len(X)
        assert "3 on the front, demographic_parity on 600 rows out of fold" in repr(found)
        box = found._repr_html_()
        assert repr(found)[15:-1] in box
        assert re.findall(r"<th>(\d+)</th>", box) == [*map(str, found.front.index)]
        assert found.front["difference"].is_monotonic_increasing
        slack = 0.01 if solver == "fine_tune" else 1e-12  # from another start
        for i, weight in enumerate(WEIGHTS):
            one = clone(clf).set_params(fairness_weight=weight)
            predicted, scores = np.zeros(len(X), dtype=int), np.zeros(len(X))
            for train, test in self.folds(*data):
                one.fit(X[train], y[train], sensitive_features=s[train])
                predicted[test] = one.predict(X[test])
                scores[test] = one.decision_function(X[test])
            row = found.table.loc[i]
            gap = demographic_parity_distance(y, predicted, sensitive_features=s)
            assert row["difference"] == pytest.approx(gap, abs=2 * slack)
            assert row["accuracy"] == pytest.approx(np.mean(predicted == y), abs=slack)
            assert row["roc_auc"] == pytest.approx(roc_auc_score(y, scores), abs=slack)
            one.fit(X, y, sensitive_features=s)  # what is handed out
            ours, theirs = (each.predict_proba(X) for each in (found.classifiers[i], one))
            np.testing.assert_allclose(ours, theirs, atol=max(slack, 1e-9))
            counts = np.zeros((2, 2, 2))
            np.add.at(counts, (s, y, predicted), 1.0)
            np.testing.assert_allclose(found.decisions[i], counts, atol=600 * slack)
            np.testing.assert_array_equal(found.squares[i], found.decisions[i])

    def test_votes_are_those_of_the_judged_rows(self, data):
        X, y, s = data
        found = trace(data, make_clf(solver="plug_in"), cv=self.folds(*data))
        fitted = trace(data, make_clf(solver="plug_in"), held_out=data)
        # Out of fold, parity holds for the rows out of fold, in sample for those that are fitted.
        assert found.table["difference"][2] < 0.03
        assert found.table["difference"][0] > 0.5
        gaps = [
            demographic_parity_distance(y, each.classifiers[2].predict(X), sensitive_features=s)
            for each in (found, fitted)
        ]
        assert gaps[1] < 0.03 < 0.2 < fitted.table["difference"][0]
        assert gaps[1] != gaps[0] < 0.1
        ours, theirs = (each.classifiers[0].decision_function(X) for each in (found, fitted))
        np.testing.assert_allclose(ours, theirs, atol=1e-12)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_by_default_all_rows_judge(self, data, solver):
        found = fairness_path(
            make_clf(solver=solver), *data[:2], sensitive_features=data[2], weights=2, n_boot=0
        )
        assert (found.n_judged, found.out_of_fold) == (600, True)
        np.testing.assert_array_equal(found.decisions.sum(axis=(1, 2, 3)), 600.0)
        apart = trace(data, make_clf(solver=solver))
        assert (apart.n_judged, apart.out_of_fold) == (150, False)

    def test_weights_count_and_rows_of_zero_are_none(self, data):
        X, y, s = data
        w = make_weights(len(X))
        found = trace(data, sample_weight=w, cv=4)
        assert found.n_judged == np.count_nonzero(w)
        for table, weight in ((found.decisions, w), (found.squares, w**2)):
            expected = np.zeros((2, 2))
            np.add.at(expected, (s, y), weight)
            np.testing.assert_allclose(table.sum(axis=-1), np.tile(expected, (3, 1, 1)))

    def test_rows_are_judged_by_no_head_that_saw_them(self, data):
        """Labels turned around in one fold change nothing that its heads say of them."""
        X, y, s = data
        folds = self.folds(*data)[:1]
        turned = np.isin(np.arange(len(y)), folds[0][1])
        plain = trace(data, cv=folds)
        other = trace((X, np.where(turned, 1 - y, y), s), cv=folds)
        decided = [found.decisions.sum(axis=2) for found in (plain, other)]
        np.testing.assert_array_equal(*decided)
        assert not plain.table["accuracy"].equals(other.table["accuracy"])
        assert plain.n_judged == turned.sum()
        assert not np.allclose(
            *(each.classifiers[0].decision_function(X) for each in (plain, other)), atol=0.1
        )

    @pytest.mark.filterwarnings("ignore:Training was interrupted")
    def test_interrupted_it_keeps_the_points_before(self, data):
        Stops.heads = 0
        clf = make_clf(solver=FineTune(callbacks=[Stops(8)]))  # four heads for each weight
        with pytest.warns(UserWarning, match="the path holds 1 of 5 heads"):
            found = trace(data, clf, weights=5, cv=3)
        whole = trace(data, make_clf(solver="fine_tune"), weights=5, cv=3)
        assert found.table["accuracy"].tolist() == whole.table["accuracy"][:1].tolist()

    def test_a_fold_without_a_group_is_refused_before_the_extractor(self, data):
        clf = make_clf(feature_extractor=Never())
        by_group = [(np.flatnonzero(data[2] == g), np.flatnonzero(data[2] != g)) for g in (0, 1)]
        with pytest.raises(ValueError, match="cv's split 0 has no row of group 1 to fit"):
            trace(data, clf, cv=by_group)


class TestKnownGroups:
    def test_is_what_the_classifiers_do_with_them(self, data):
        X, y, s = data
        settings = {"solvers": ["plug_in"], "held_out": data, "thresholds": 7}
        told, untold = (trace(data, known_groups=k, **settings) for k in (True, False))
        assert (told.table["positive_share"] != 1.0).any()
        for row, clf in zip(told.table.to_dict("records"), told.classifiers, strict=True):
            predicted = clf.predict(X, sensitive_features=s)
            gap = demographic_parity_distance(y, predicted, sensitive_features=s)
            assert row["difference"] == pytest.approx(gap, abs=1e-12)
            assert row["accuracy"] == pytest.approx(np.mean(predicted == y), abs=1e-12)
        # Of the same weight the classifiers decide as without, where they are not told.
        for known, one in zip(
            (told.classifiers[at] for at in np.flatnonzero(told.table["positive_share"] == 1.0)),
            (untold.classifiers[at] for at in np.flatnonzero(untold.table["positive_share"] == 1)),
            strict=True,
        ):
            np.testing.assert_array_equal(known.predict_proba(X), one.predict_proba(X))
        # Groups that are known need not be guessed: parity costs less.
        last = [each.table[each.table["fairness_weight"] == 1.0] for each in (told, untold)]
        assert last[0]["accuracy"].iloc[0] > last[1]["accuracy"].iloc[0] + 0.005

    @pytest.mark.parametrize("solver", SOLVERS[:2])
    def test_of_solvers_that_cannot_use_them(self, data, solver):
        clf = make_clf(feature_extractor=Never(), solver=solver)
        with pytest.raises(ValueError, match=rf"known_groups=True.*solver='{solver}' cannot"):
            trace(data, clf, known_groups=True)


class TestThresholds:
    def test_move_the_share_of_positive_decisions(self, data, other):
        X = other[0]
        found = trace(data, thresholds=7, held_out=other, solvers=["closed_form", "plug_in"])
        own = {}
        for row, clf in zip(found.table.to_dict("records"), found.classifiers, strict=True):
            key, share = (row["solver"], row["fairness_weight"]), np.mean(clf.predict(X) == 1)
            if row["positive_share"] == 1.0:
                own[key] = share
            else:
                assert row["on_front"]
                assert share == pytest.approx(row["positive_share"] * own[key], abs=2 / len(X))
        assert set(found.table["positive_share"].round(9)) >= {0.7, 1.0}
        assert set(found.table["positive_share"].round(9)) <= {0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3}

    def test_leave_the_ranking_alone(self, data, other):
        table = trace(data, thresholds=7, held_out=other).table
        assert len(table) > 3
        assert (table.groupby("fairness_weight")["roc_auc"].nunique() == 1).all()

    def test_add_to_the_front_and_keep_the_heads(self, data, other):
        alone = trace(data, held_out=other).table
        more = trace(data, thresholds=7, held_out=other).table
        kept = more[more["positive_share"] == 1.0].drop(columns="on_front")
        assert kept.reset_index(drop=True).equals(alone.drop(columns="on_front"))
        assert more["on_front"].sum() > alone["on_front"].sum()

    def test_are_of_two_classes(self):
        table = trace(make_data(3), thresholds=7).table
        assert len(table) == 3

    @pytest.mark.parametrize("weighted", [False, True])
    def test_give_the_nearest_share_that_there_is(self, data, other, weighted):
        X = other[0]
        w = make_weights(len(X)) if weighted else np.ones(len(X))
        found = trace(data, thresholds=13, held_out=(*other, w), solvers=["closed_form", "plug_in"])
        own, moved = {}, 0
        for row, clf in zip(found.table.to_dict("records"), found.classifiers, strict=True):
            share = np.average(clf.predict(X) == 1, weights=w)
            if row["positive_share"] == 1.0:
                margin = clf.decision_function(X)
                cuts = [np.average(margin > each, weights=w) for each in margin]
                own[row["solver"], row["fairness_weight"]] = share, np.array(cuts)
            else:
                before, cuts = own[row["solver"], row["fairness_weight"]]
                missed = np.abs(cuts - row["positive_share"] * before).min()
                assert abs(share - row["positive_share"] * before) == pytest.approx(missed)
                moved += 1
        assert moved > 5

    def test_do_not_part_copies_of_a_row(self, data, other):
        """Whose scores may have other last digits."""
        X, y, s = other

        def measured(step):
            held_out = np.concatenate([X, X * (1.0 + step)]), np.tile(y, 2), np.tile(s, 2)
            return trace(data, thresholds=13, held_out=held_out).table

        expected = trace(data, thresholds=13, held_out=(*other, np.full(len(X), 2))).table
        pd.testing.assert_frame_equal(points(measured(1e-13)), points(expected))
        assert len(expected) > 5
        columns = ["weighted_f1_error", "difference"]
        apart = measured(1e-4)[columns].to_numpy()
        assert set(map(tuple, apart)) - set(map(tuple, expected[columns].to_numpy()))

    def test_need_two_rows_that_differ(self, data, other):
        X, y, s = other
        positive = trace(data).classifiers[0].decision_function(X).argmax()
        held_out = (np.tile(X[positive], (len(X), 1)), y, s)
        table = trace(data, thresholds=7, held_out=held_out).table
        assert table["positive_share"].tolist() == [1.0] * 3
        assert (table["demographic_parity_distance"] == 0).all()


class TestSampleWeights:
    @pytest.mark.parametrize("k", [2, 3])
    def test_count_in_the_whole_table(self, k):
        data, (X, y, s) = make_data(k), make_data(k, 401, seed=1)
        w = make_weights(len(X))
        found = trace(data, solvers=SOLVERS, thresholds=5, held_out=(X, y, s, w))
        plain = trace(data, solvers=SOLVERS, held_out=(X, y, s)).table
        assert found.n_judged == np.count_nonzero(w) < 401
        assert (len(found.table) > 9) == (k == 2)
        for row, clf in zip(found.table.to_dict("records"), found.classifiers, strict=True):
            predicted, proba = clf.predict(X), clf.predict_proba(X)
            gap = demographic_parity_distance(y, predicted, sensitive_features=s, sample_weight=w)
            assert row["difference"] == pytest.approx(gap, abs=1e-12)
            error = weighted_f1_error(y, predicted, sample_weight=w)
            assert row["weighted_f1_error"] == pytest.approx(error, abs=1e-9)
            accuracy = accuracy_score(y, predicted, sample_weight=w)
            assert row["accuracy"] == pytest.approx(accuracy, abs=1e-12)
            area = roc_auc_score(
                y, proba[:, 1] if k == 2 else proba, multi_class="ovr", sample_weight=w
            )
            assert row["roc_auc"] == pytest.approx(area, abs=1e-9)
            _, deviation = auc_with_error(y, np.log(proba), w)
            width = min(area + 1.959964 * deviation, 1.0) - max(area - 1.959964 * deviation, 0.0)
            assert row["roc_auc_high"] - row["roc_auc_low"] == pytest.approx(width, abs=1e-9)
        own = found.table[found.table["positive_share"] == 1.0]
        assert (np.abs(own["roc_auc"].to_numpy() - plain["roc_auc"].to_numpy()) > 1e-3).any()

    @pytest.mark.parametrize("constraint", [pytest.param(DP, marks=pytest.mark.slow), EO])
    def test_are_repeated_rows(self, data, other, constraint):
        w = np.random.default_rng(0).integers(0, 4, size=len(other[0]))
        repeated = tuple(np.repeat(part, w, axis=0) for part in other)
        settings = {"clf": make_clf(constraint=constraint), "solvers": SOLVERS, "thresholds": 13}
        ours = trace(data, held_out=(*other, w), **settings)
        theirs = trace(data, held_out=repeated, **settings)
        pd.testing.assert_frame_equal(points(ours.table), points(theirs.table), rtol=1e-12)
        assert ours.table["on_front"].any()
        assert (ours.table["positive_share"] != 1.0).sum() > 3
        unweighted = trace(data, held_out=other, **settings).table
        assert not points(ours.table).equals(points(unweighted))
        assert (ours.n_judged, theirs.n_judged) == (np.count_nonzero(w), w.sum())
        # One row of weight 2 is one observation: the interval is wider than that of two.
        once, twice = (
            found.table["roc_auc_high"] - found.table["roc_auc_low"] for found in (ours, theirs)
        )
        assert (once > 1.3 * twice).all()

    def test_of_zero_change_nothing(self, data, other):
        X, y, s = other
        w = make_weights(len(X)) + 0.1
        more = np.concatenate([X, 1e3 * X]), np.concatenate([y, 1 - y]), np.tile(s, 2)
        settings = {"thresholds": 7, "n_boot": 50}
        known = trace(data, held_out=(X, y, s, w), **settings)
        found = trace(data, held_out=(*more, np.concatenate([w, 0 * w])), **settings)
        pd.testing.assert_frame_equal(found.table, known.table, rtol=1e-12)
        assert found.n_judged == known.n_judged == len(X)
        counted = trace(data, held_out=(*more, np.concatenate([w, w])), **settings)
        assert not np.allclose(counted.table["accuracy"][:3], known.table["accuracy"][:3])

    def test_of_zero_leave_a_group_without_a_class(self):
        data, (X, y, s) = (make_three_groups(seed) for seed in (0, 1))
        clf = make_clf(constraint="true_positive_rate_parity")
        with pytest.warns(FairnessWarning, match=r"groups \[0\] lack a class") as record:
            found = trace(data, clf, held_out=(X, y, s, ((s != 0) | (y == 0)).astype(int)))
        assert record[0].filename == __file__
        with pytest.warns(FairnessWarning, match=r"groups \[0\] lack a class"):
            dropped = trace(
                data, clf, held_out=tuple(part[(s != 0) | (y == 0)] for part in (X, y, s))
            )
        assert found.table["difference"].notna().all()
        pd.testing.assert_frame_equal(found.table, dropped.table, rtol=1e-12)

    @pytest.mark.parametrize("w", [None, "ones", "halves"])
    def test_that_are_alike_change_nothing(self, data, other, w):
        w = {"ones": np.ones(401), "halves": [0.5] * 401}.get(w)
        settings = {"thresholds": 7, "n_boot": 50}
        weighted = trace(data, held_out=(*other, w), **settings).table
        assert weighted.equals(trace(data, held_out=other, **settings).table)

    def test_of_a_share_of_the_rows_are_without_class_weights(self, data, monkeypatch):
        X, y, _ = data
        seen = seen_by_heads(monkeypatch)
        w = make_weights(len(X))
        found = trace(data, make_clf(class_weight={0: 1, 1: 5}), sample_weight=w)
        rows = np.isin(X[:, 0], seen[0][:, 0])
        assert w[rows].all()
        assert found.n_judged == rows.sum()
        for row, clf in zip(found.table.to_dict("records"), found.classifiers, strict=True):
            area = roc_auc_score(y[rows], clf.decision_function(X[rows]), sample_weight=w[rows])
            assert row["roc_auc"] == pytest.approx(area, abs=1e-12)
            accuracy = accuracy_score(y[rows], clf.predict(X[rows]), sample_weight=w[rows])
            assert row["accuracy"] == pytest.approx(accuracy, abs=1e-12)

    def test_in_another_order_than_the_rows_are_warned_of(self, data, other):
        X, y, s = other
        w = pd.Series(make_weights(len(X)))
        with pytest.warns(FairnessWarning, match="sample_weight and y hold the same index"):
            trace(data, held_out=(X, pd.Series(y), s, w[::-1]))


class TestIntervals:
    @pytest.mark.parametrize("k", [2, 3])
    def test_hold_their_points(self, k):
        table = trace(make_data(k), weights=7, thresholds=3, n_boot=200).table
        for name in METRICS:
            assert (table[f"{name}_low"] <= table[name]).all()
            assert (table[name] <= table[f"{name}_high"]).all()
            assert (table[f"{name}_low"] < table[f"{name}_high"]).all()

    def test_shrink_with_more_rows(self, data):
        widths = []
        for n in (300, 4800):
            table = trace(data, weights=[0.0], n_boot=400, held_out=make_data(n=n, seed=1)).table
            widths.append([float(table[f"{m}_high"][0] - table[f"{m}_low"][0]) for m in METRICS])
        ratios = np.divide(*widths)  # 4 on average
        assert ((ratios > 2.2) & (ratios < 6)).all()

    def test_without_resamples_are_unknown(self, data):
        table = trace(data, n_boot=0).table
        for name in METRICS:
            assert table[name].notna().all()
        for name in ("weighted_f1_error", "accuracy"):
            assert table[[f"{name}_low", f"{name}_high"]].isna().all(axis=None)
        # Those of distances are the rates' (tests/test_limits.py), that of the AUC DeLong's.
        resampled = trace(data, n_boot=20).table
        for name in (*METRICS[1:4], "roc_auc"):
            ends = [f"{name}_low", f"{name}_high"]
            assert table[ends].notna().all(axis=None)
            assert resampled[ends].equals(table[ends])

    def test_are_of_the_same_resamples_for_all_points(self, data):
        """Heads that decide alike have the same intervals."""
        table = trace(data, ranks=[1, None], n_boot=50).table
        plain = table[table["fairness_weight"] == 0.0]
        assert plain["accuracy_low"].nunique() == 1
        assert plain["difference_high"].nunique() == 1


@pytest.fixture(scope="module")
def found():
    return trace(make_data(), weights=9, thresholds=5)


class TestChoose:
    @pytest.mark.parametrize("limit", [0.1, 0.3, 0.6, 0.99])
    def test_the_least_error_within_the_bound(self, found, limit):
        best = found.choose(limit)
        inside = found.table[found.table["difference"] <= limit]
        assert found.table["difference"][best] <= limit
        assert found.table["weighted_f1_error"][best] == inside["weighted_f1_error"].min()
        assert found.table["on_front"][best]

    def test_warns_where_none_is_within(self, found):
        with pytest.warns(
            FairnessWarning, match="No point has a difference of at most 0;"
        ) as record:
            best = found.choose(0)
        assert found.table["difference"][best] == found.table["difference"].min()
        assert record[0].filename == __file__
        assert "150 held-out rows" in str(record[0].message)

    def test_is_an_error_where_there_is_no_difference(self, found):
        of_one_group = found.decisions * np.array([0.0, 1.0])[:, None, None]
        undefined = replace(found, decisions=of_one_group)
        with pytest.raises(ValueError, match=r"undefined at every point.*Judge by more rows"):
            undefined.choose(0.1)


@pytest.fixture(scope="module")
def many():
    settings = {"weights": 9, "thresholds": 5, "cv": 4}
    return trace(make_data(n=1200), solvers=SOLVERS[1:], **settings)


class TestConfidence:
    @pytest.mark.parametrize("confidence", [0.5, 0.95])
    def test_limits_are_those_of_the_decisions(self, many, confidence):
        # The votes of "plug_in" are found on the judged rows.
        assert (many.tuned == (many.table["solver"] == "plug_in")).all()
        expected = distance_limits(
            parity(DP, 2),
            many.decisions,
            many.squares,
            confidence=confidence,
            inflation=REFIT,
            tuned=many.tuned,
        )
        np.testing.assert_allclose(many.limits(confidence), expected.high, rtol=1e-12)
        more = many.limits(confidence) - many.table["difference"]
        assert (more > 0.02).all() if confidence > 0.5 else (more[~many.tuned] == 0).all()

    def test_limits_are_within_the_intervals(self, many):
        assert (many.limits(0.95) < many.table["difference_high"]).all()
        expected = distance_limits(
            parity(DP, 2),
            many.decisions,
            many.squares,
            confidence=0.975,
            inflation=REFIT,
            tuned=many.tuned,
        )
        np.testing.assert_array_equal(many.table["difference_high"], expected.high)
        same = many.table["demographic_parity_distance_high"]
        np.testing.assert_array_equal(many.table["difference_high"], same)
        assert (many.limits(0.5) <= many.limits(0.500001)).all()
        np.testing.assert_allclose(many.limits(0.5), many.limits(0.500001), atol=1e-5)

    @pytest.mark.parametrize("limit", [0.2, 0.3, 0.5])
    def test_chooses_the_least_error_of_those_on_the_way(self, many, limit):
        """By hand: each solver from its smallest limit to weaker weights, as long as within."""
        table, limits = many.table, many.limits(1.0 - 0.1 / 2)  # of two solvers
        reached = []
        for solver in SOLVERS[1:]:
            own = table[(table["solver"] == solver) & (table["positive_share"] == 1.0)]
            curve = own.sort_values("fairness_weight").index.tolist()
            place = int(np.argmin(limits[curve]))
            while place >= 0 and limits[curve[place]] <= limit:
                reached.append(curve[place])
                place -= 1
        best = many.choose(limit, confidence=0.9)
        assert best in reached
        errors = table["weighted_f1_error"]
        assert errors[best] == errors[reached].min()
        assert errors[best] >= errors[many.choose(limit)]
        assert table["difference"][best] < limit

    def test_says_how_many_rows_it_would_take(self, many):
        with pytest.warns(FairnessWarning, match=r"_bound=0.01 with confidence=0.95") as record:
            best = many.choose(0.01, confidence=0.95)
        assert record[0].filename == __file__
        message = str(record[0].message)
        limits = many.limits(1.0 - 0.05 / 2)
        own = np.flatnonzero(many.table["positive_share"] == 1.0)
        assert limits[best] == limits[own].min()
        assert f"{limits[best]:.3f}" in message
        assert "rows like the 1,200" in message or "do not tell how many" in message
        assert "1,200 rows out of fold" in message

    @pytest.mark.parametrize("confidence", [0.0, 0.49, 1.0, True, "0.9", np.nan])
    def test_of_other_size_is_refused(self, many, confidence):
        with pytest.raises(ValueError, match=r"confidence=.*expected a number in \[0.5, 1\)"):
            many.choose(0.2, confidence=confidence)


class Stops(Callback):
    """Raises KeyboardInterrupt as Ctrl-C does, in the training of one of the heads."""

    heads = 0

    def __init__(self, head):
        self.head = head

    def on_train_begin(self, net, **kwargs):
        Stops.heads += 1

    def on_epoch_end(self, net, **kwargs):
        if Stops.heads == self.head:
            raise KeyboardInterrupt


class TestInterrupted:
    @pytest.fixture(autouse=True)
    def _no_heads(self):
        Stops.heads = 0

    @pytest.mark.filterwarnings("ignore:Training was interrupted")
    def test_in_training_it_keeps_the_heads_before(self, data):
        clf = make_clf(solver=FineTune(callbacks=[Stops(3)]))
        with pytest.warns(UserWarning, match="the path holds 2 of 5 heads") as record:
            found = trace(data, clf, weights=5)
        assert record[-1].filename == __file__
        whole = trace(data, make_clf(solver="fine_tune"), weights=5)
        assert found.table["fairness_weight"].tolist() == [0.0, 0.25]
        for name in METRICS:
            assert found.table[name].tolist() == whole.table[name][:2].tolist()
        assert len(found.classifiers) == 2

    def test_elsewhere_too(self, data, monkeypatch):
        calls = []
        head_scores = trials.head_scores

        def interrupted(head, Z):
            calls.append(None)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return head_scores(head, Z)

        monkeypatch.setattr(trials, "head_scores", interrupted)
        with pytest.warns(UserWarning, match="the path holds 2 of 3 heads"):
            assert len(trace(data).table) == 2

    @pytest.mark.filterwarnings("ignore:Training was interrupted")
    def test_before_the_first_head_there_is_nothing_to_keep(self, data):
        with pytest.raises(KeyboardInterrupt):
            trace(data, make_clf(solver=FineTune(callbacks=[Stops(1)])))


def never(x):
    raise AssertionError("the extractor ran before the parameters were checked")


class Never(nn.Module):
    def forward(self, x):
        return never(x)


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"weights": [0.0, 1.5]}, ["weights=[0.0, 1.5]", "in [0, 1]"]),
            ({"weights": [-0.1]}, ["weights=[-0.1]"]),
            ({"weights": [np.nan]}, ["weights=[nan]"]),
            ({"weights": []}, ["weights=[]"]),
            ({"weights": [10**400]}, ["weights=[1000", " ... "]),
            ({"weights": 0}, ["weights=0", "how many", "at least 2"]),
            ({"weights": 1}, ["weights=1;", "at least 2"]),
            ({"weights": 0.5}, ["weights=0.5;", "such as [0.0, 0.5, 1.0]"]),
            ({"weights": True}, ["weights=True;"]),
            ({"weights": None}, ["weights=None;"]),
            ({"weights": "abc"}, ["weights='abc';"]),
            ({"weights": ["0.5"]}, ["weights=['0.5'];"]),
            ({"weights": [None]}, ["weights=[None];"]),
            ({"weights": [0.5, True]}, ["weights=[0.5, True];"]),
            ({"weights": np.array([True])}, ["weights=array([ True]);"]),
            ({"weights": [[0.0, 0.5]]}, ["weights=[[0.0, 0.5]];"]),
            ({"weights": [0.0, [0.5]]}, ["weights=[0.0, [0.5]];"]),
            ({"weights": {0.0, 0.5}}, ["weights={0.0, 0.5};"]),
            ({"thresholds": 0}, ["thresholds=0", "at least 1"]),
            ({"thresholds": 1.5}, ["thresholds=1.5", "whole number"]),
            ({"thresholds": True}, ["thresholds=True;", "leaves thresholds alone"]),
            ({"n_boot": -1}, ["n_boot=-1;", "at least 0", "without resamples"]),
            ({"n_boot": 1.5}, ["n_boot=1.5;", "whole number"]),
            ({"n_boot": "x"}, ["n_boot='x';"]),
            ({"n_boot": None}, ["n_boot=None;"]),
            ({"n_boot": True}, ["n_boot=True;"]),
            ({"held_out": 0.25}, ["held_out=0.25", "None", "tuple (X, y, sensitive", "cv=0.25"]),
            ({"held_out": 1}, ["held_out=1;"]),
            ({"held_out": True}, ["held_out=True;"]),
            ({"held_out": 10**400}, ["held_out=1000", " ... "]),
            ({"held_out": "x" * 1000}, ["held_out='xx", " ... "]),
            ({"held_out": (1, 2)}, ["held_out is a tuple of 2;", "(X, y, sensitive_features)"]),
            ({"held_out": [1] * 5}, ["held_out is a list of 5;"]),
            ({"held_out": (1,) * 5}, ["tuple of 5", "(X, y, sensitive_features, sample_weight)"]),
            ({"cv": 1}, ["cv=1;", "at least 2", "(0, 1)", "a splitter", "an iterable"]),
            ({"cv": 0.0}, ["cv=0.0;"]),
            ({"cv": 1.0}, ["cv=1.0;"]),
            ({"cv": True}, ["cv=True;"]),
            ({"cv": "abc"}, ["cv='abc';"]),
            ({"cv": []}, ["cv gives no split", "pass a list"]),
            ({"cv": 4, "held_out": (1, 2, 3)}, ["cv=4 and held_out are both given"]),
            ({"cv": 0.25, "held_out": (1, 2, 3)}, ["cv=0.25 and held_out", "leave one of them"]),
            ({"solvers": ["exact"]}, ["solver", "'plug_in'", "solver='exact'"]),
            ({"solvers": []}, ["solvers=[]"]),
            ({"solvers": "plug_in"}, ["solvers='plug_in';", "a list of solvers"]),
            ({"solvers": iter(SOLVERS)}, ["solvers=<list_iterator", "a list of solvers"]),
            ({"solvers": SOLVERS * 2}, ["solvers=['fine_tune'", "a value twice", "once"]),
            ({"ranks": 5}, ["ranks=5;", "a list of ranks", "None is that of clf"]),
            ({"ranks": np.array(5)}, ["ranks=array(5);"]),
            ({"ranks": [2, None, np.int64(2)]}, ["ranks=[2, None, np.int64(2)]", "a value twice"]),
            ({"ranks": [[1]]}, ["rank", "Got [1]"]),
            ({"ranks": [1, 0]}, ["rank", "Got 0"]),
            ({"ranks": []}, ["ranks=[]", "None is that of clf"]),
        ],
    )
    def test_of_settings_come_before_the_extractor(self, data, settings, words):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            trace(data, feature_extractor=Never(), **settings)
        assert [word for word in words if word not in str(caught.value)] == [], caught.value

    def test_the_extractor_would_have_run(self, data):
        with pytest.raises(ValueError, match="before the parameters"):
            trace(data, feature_extractor=Never())

    @pytest.mark.parametrize(
        "weights",
        [
            np.int64(3),
            [1, 0.5, 0, 0.5],
            (Fraction(1, 2), np.float32(0.0), np.int8(1)),
            np.array([0, 1, 0.5]),
            torch.tensor([0, 0.5, 1]),
            torch.tensor([0, 0.5, 1]).bfloat16().requires_grad_(),
            pd.Series([0, 0.5, 1], dtype="Float64"),
            pl.Series([0.0, 0.5, 1.0]),
        ],
    )
    def test_weights_of_any_type(self, data, weights):
        table = trace(data, weights=weights, thresholds=np.int64(1), n_boot=np.int64(0)).table
        assert table["fairness_weight"].tolist() == WEIGHTS

    def test_ranks_of_any_type(self, data):
        expected = trace(data, ranks=[1, 2]).table
        for ranks in (range(1, 3), (1, 2), np.array([1, 2]), pd.Series([1, 2])):
            assert trace(data, ranks=ranks).table.equals(expected)
        assert len(trace(data, ranks=[1, 1.0]).table) == 6  # one direction, or a share of all

    def test_held_out_rows_in_a_list(self, data, other):
        w = make_weights(401)
        for held_out in (other, (*other, w)):
            expected = trace(data, held_out=held_out).table
            assert trace(data, held_out=list(held_out)).table.equals(expected)

    def test_the_weight_of_the_classifier_is_not_used(self, data):
        tables = [trace(data, make_clf(fairness_weight=w)).table for w in (None, 0.3, 1.0)]
        assert tables[1].equals(tables[0])
        assert tables[2].equals(tables[0])

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            ({"constraint": None}, ["constraint=None", "Set constraint="]),
            ({"difference_bound": 0.1}, ["difference_bound=0.1", "path.choose"]),
        ],
    )
    def test_of_the_classifier(self, data, params, words):
        with pytest.raises(ValueError, match=r"draws the (whole )?curve") as caught:
            trace(data, make_clf(feature_extractor=Never(), **params))
        assert [word for word in words if word not in str(caught.value)] == []

    def test_solvers_that_do_not_go_with_it(self, data):
        clf = make_clf(feature_extractor=Never(), constraint="error_rate_parity")
        with pytest.raises(ValueError, match="cannot be held in closed form"):
            trace(data, clf, solvers=["fine_tune", "closed_form"])

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            ({"head": nn.Linear(12, 2)}, ["2 outputs", "solver='plug_in'"]),
            ({"solver": FineTune(weight_decay=0.1)}, ["weight_decay", "LBFGS"]),
        ],
    )
    def test_what_one_of_the_solvers_cannot_use(self, data, params, words):
        clf = make_clf(feature_extractor=Never(), **params)
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            trace(data, clf, solvers=["fine_tune", "plug_in"])
        assert [word for word in words if word not in str(caught.value)] == [], caught.value

    def test_a_pipeline(self, data):
        with pytest.raises(TypeError, match=r"a Pipeline; expected .* its last step"):
            trace(data, make_pipeline(make_clf()))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda X, y, s: (X, y, s[:-1]), ["held_out's sensitive_features has 400 rows"]),
            (lambda X, y, s: (X[:-1], y, s), ["expected one label per row", "400", "401"]),
            (lambda X, y, s: (X[:, :-1], y, s), ["held_out's X", "(11,)", "(12,)", "same columns"]),
            (lambda X, y, s: (torch.tensor(X)[:, 1:], y, s), ["held_out's X", "(11,)", "(12,)"]),
            (lambda X, y, s: (pd.DataFrame(X[:, 1:]), y, s), ["held_out's X", "(11,)", "(12,)"]),
            (lambda X, y, s: (X[:, :-1].tolist(), y, s), ["11 features", "12"]),
        ],
    )
    def test_of_rows_held_out(self, data, other, change, words):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            trace(data, held_out=change(*other))
        assert [word for word in words if word not in str(caught.value)] == [], caught.value

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda X, y, s, w: (X, y, s + 1), ["features holds [2]", "only [0, 1]"]),
            (lambda X, y, s, w: (X, y + 1, s), ["held_out's y holds [2]", "only [0, 1]", "drop"]),
            (lambda X, y, s, w: (X, y, s, -w), ["sample_weight holds -1 in row 0", "at least 0"]),
            (
                lambda X, y, s, w: (X, y, s, [1, np.inf, *w[2:]]),
                ["sample_weight holds inf in row 1"],
            ),
            (lambda X, y, s, w: (X, y, s, [1, np.nan, *w[2:]]), ["sample_weight", "missing"]),
            (lambda X, y, s, w: (X, y, s, w[:-1]), ["sample_weight has 400 rows but X has 401"]),
            (lambda X, y, s, w: (X, y, s, np.ones((401, 2))), ["sample_weight has shape (401, 2)"]),
            (lambda X, y, s, w: (X, y, s, 0 * w), ["sample_weight is zero for all 401 rows"]),
            (lambda X, y, s, w: (X, y, s, ["1"] * 401), ["sample_weight holds values like '1'"]),
            (lambda X, y, s, w: (X, y, s, 2.0), ["sample_weight is 2.0"]),
            (lambda X, y, s, w: (X, y, s[:-1], w), ["sensitive_features has 400 rows"]),
            (lambda X, y, s, w: (X, y, None, w), ["sensitive_features is None"]),
            (lambda X, y, s, w: (X, [None, *y[1:]], s, w), ["y", "missing"]),
            (lambda X, y, s, w: (X[:-1], y, s, w), ["expected one label per row", "400", "401"]),
            (lambda X, y, s, w: (X[:0], y[:0], s[:0], w[:0]), ["held_out has no rows", "0.25"]),
            (lambda X, y, s, w: ([], [], [], None), ["held_out has no rows"]),
            (
                lambda X, y, s, w: (X[s == 1], y[s == 1], s[s == 1], None),
                ["held_out needs rows of at least two groups", "in 1 of 2 groups", "Judge by more"],
            ),
            (
                lambda X, y, s, w: (X, y, s, w * (s == 0)),
                ["held_out needs rows", "'demographic_parity'", "rows of positive weight"],
            ),
        ],
    )
    def test_of_rows_held_out_come_before_the_extractor(self, data, other, change, words):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            trace(data, feature_extractor=Never(), held_out=change(*other, np.ones(401)))
        words = ["held_out", *words]
        assert [word for word in words if word not in str(caught.value)] == [], caught.value

    def test_a_share_without_rows_of_two_groups(self, data):
        with pytest.raises(ValueError, match=r"cv needs.*in 1 of 2 groups, among 1 rows.*by more"):
            trace(data, cv=1 / 600)

    @pytest.mark.filterwarnings("ignore:fit got no sensitive_features")
    def test_without_groups(self, data):
        with pytest.raises(ValueError, match="needs groups"):
            trace((*data[:2], None))


def test_held_out_groups_in_other_columns_are_refused(data):
    X, y, s = data
    groups = pd.DataFrame({"sex": s, "old": np.arange(len(s)) % 2})
    swapped = groups[["old", "sex"]]
    with pytest.raises(ValueError, match=r"columns \['old', 'sex'\].*are \['sex', 'old'\]"):
        trace((X, y, groups), weights=[0.5], held_out=(X, y, swapped))
    named, bare = (
        trace((X, y, groups), weights=[0.5], held_out=(X, y, each))
        for each in (groups, groups.to_numpy())
    )
    pd.testing.assert_frame_equal(named.table, bare.table)


def test_splits_that_can_be_used_once_are_refused(data):
    clf = make_clf(cv=(split for split in StratifiedKFold(3).split(*data[:2])))
    with pytest.raises(ValueError, match=r"An iterator can be used once.*pass a list"):
        trace(data, clf)


def test_rows_alone_in_class_and_group_are_judged_where_no_class_is_asked_for():
    X, y, s = make_biased_classification(300, n_classes=4, n_informative=6, random_state=1)
    rare = s.copy()
    rare[[np.flatnonzero(y == label)[0] for label in range(4)]] = 2
    clf = make_clf(solver="closed_form", importance="covariance")
    found = trace((X, y, rare), clf, weights=[0.0], cv=5)
    np.testing.assert_array_equal(found.decisions[0].sum(axis=(1, 2))[2], 4)


class TestEmptyCells:
    @pytest.mark.parametrize("n_boot", [0, 50])
    def test_a_group_without_a_class_is_left_out_and_named(self, n_boot):
        """Of three groups two can still be compared."""
        X, y, s = make_three_groups()
        held_out = tuple(part[(s != 0) | (y == 0)] for part in (X, y, s))
        clf = make_clf(constraint="true_positive_rate_parity")
        with pytest.warns(FairnessWarning, match=r"groups \[0\] lack a class") as record:
            found = trace((X, y, s), clf, held_out=held_out, n_boot=n_boot)
        assert record[0].filename == __file__
        predicted = found.classifiers[0].predict(X)
        rates = [np.mean(predicted[(s == g) & (y == 1)]) for g in (1, 2)]
        assert found.table["difference"][0] == pytest.approx(np.ptp(rates))

    @pytest.mark.parametrize(
        "constraint", ["true_positive_rate_parity", "equalized_odds", "false_positive_rate_parity"]
    )
    def test_with_one_group_left_nothing_is_known(self, data, constraint):
        X, y, s = data
        label = int(constraint != "false_positive_rate_parity")
        kept = (s == 1) | (y != label)
        held_out = tuple(part[kept] for part in (X, y, s))
        clf = make_clf(constraint=constraint, feature_extractor=Never())
        match = rf"each rate of '{constraint}', but some rate has them in 1 of 2 groups"
        for rows in (held_out, (X, y, s, kept.astype(float))):
            with pytest.raises(ValueError, match=match):
                trace(data, clf, held_out=rows)

    def test_demographic_parity_asks_for_no_class(self, data):
        X, y, s = data
        held_out = tuple(part[(s == 1) | (y == 0)] for part in (X, y, s))
        assert trace(data, held_out=held_out).table["difference"].notna().all()
