"""Groups on some of the rows: the label is learnt from all, the group from those that have it."""

import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold

from skfairft import FairLowRankHeadClassifier, FairnessWarning, PlugIn, fairness_path, load
from skfairft.datasets import make_biased_classification
from skfairft.head.choose_c import choose_strength
from skfairft.head.group_shares import fit_group_head, group_strength
from skfairft.metrics import (
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    fairness_scorer,
    worst_group_error,
)
from skfairft.parity.constraints import parity
from skfairft.parity.judge import JudgedRows
from skfairft.parity.rate_limits import effective_rows
from skfairft.rows.parts import Parts
from skfairft.rows.tensor_rows import TensorRows
from skfairft.summary import summarize

DP, EO = "demographic_parity", "equalized_odds"
N_TEST = 10_000
DISTANCES = {DP: demographic_parity_distance, EO: equalized_odds_distance}


def make_data(n=1000, seed=0, n_groups=2, d=8, **settings):
    settings = {"disparity": 0.4, "n_groups": n_groups, "random_state": seed, **settings}
    return make_biased_classification(n, d, **settings)


def with_holes(s, missing):
    out = np.asarray(s).astype(object)
    out[missing] = None
    return out


def at_random(n, share, seed=0):
    """Which rows lack their group, so that a share is left."""
    return np.random.default_rng([seed, 1]).random(n) > share


def make_clf(**params):
    defaults = {"constraint": DP, "solver": "plug_in", "random_state": 0}
    return FairLowRankHeadClassifier(**{**defaults, "missing_groups": "estimate", **params})


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def holes(data):
    return with_holes(data[2], at_random(1000, 0.3))


class TestWithAllGroups:
    @pytest.mark.parametrize(
        "params",
        [
            {"fairness_weight": 0.7},
            {"difference_bound": 0.2, "confidence": 0.9},
            {"difference_bound": 0.2, "cv": 0.3, "rank": 2},
            {"constraint": "worst_group"},
            {"constraint": EO, "difference_bound": 0.3, "class_weight": "balanced"},
        ],
    )
    def test_nothing_changes(self, data, params):
        X, y, s = data
        clf, plain = make_clf(**params), make_clf(**params, missing_groups="error")
        for each in (clf, plain):
            each.fit(X, y, sensitive_features=s)
        for (name, value), other in zip(
            plain.head_.state_dict().items(), clf.head_.state_dict().values(), strict=True
        ):
            assert torch.equal(value, other), name
        for name in ("difference_", "difference_limit_", "C_", "fairness_weight_"):
            assert getattr(clf, name, None) == getattr(plain, name, None)
        np.testing.assert_array_equal(clf.group_importance_, plain.group_importance_)
        assert not hasattr(clf, "rows_with_group_")

    def test_a_path_is_the_same(self, data):
        X, y, s = data
        paths = [
            fairness_path(
                make_clf(missing_groups=missing), X, y, sensitive_features=s, weights=3, n_boot=50
            )
            for missing in ("error", "estimate")
        ]
        pd.testing.assert_frame_equal(paths[0].table, paths[1].table)
        np.testing.assert_array_equal(paths[0].squares, paths[1].squares)


class TestWhatIsMissing:
    """What no group is, in whatever library; the rest are groups as ever."""

    @pytest.mark.parametrize(
        "given",
        [
            lambda s: s.tolist(),
            lambda s: pd.Series(s, dtype="string"),
            lambda s: pd.Series(s).astype("category"),
            lambda s: pl.Series(s.tolist()),
            lambda s: np.ma.array(s.astype(str), mask=[each is None for each in s]),
            lambda s: pd.DataFrame({"sex": s}),
            lambda s: np.where([each is None for each in s], np.nan, s),
        ],
        ids=["list", "pandas NA", "categorical", "polars", "masked", "frame", "NaN in objects"],
    )
    def test_is_told_from_a_category(self, data, given):
        X, y, s = data
        named = with_holes(np.where(s == 0, "f", "m"), at_random(1000, 0.3))
        expected = make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=named)
        clf = make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=given(named))
        assert clf.groups_.tolist() == ["f", "m"]
        assert clf.rows_with_group_ == (sum(each is not None for each in named), 1000)
        np.testing.assert_array_equal(clf.decision_function(X), expected.decision_function(X))

    def test_numbers(self, data, holes):
        X, y, s = data
        numbers = np.where([each is None for each in holes], np.nan, s.astype(float))
        clf = make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=numbers)
        assert clf.groups_.tolist() == [0.0, 1.0]
        expected = make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=holes)
        np.testing.assert_array_equal(clf.predict(X), expected.predict(X))

    def test_of_several_columns_any(self, data):
        X, y, s = data
        age = np.random.default_rng(0).choice(["old", "young"], len(s)).astype(object)
        age[:100] = None
        frame = pd.DataFrame({"sex": with_holes(s, slice(50, 150)), "age": age})
        clf = make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=frame)
        assert clf.rows_with_group_ == (850, 1000)
        assert clf.groups_.tolist() == [(0, "old"), (0, "young"), (1, "old"), (1, "young")]

    def test_ordered_categories_keep_their_order(self, data, holes):
        X, y, _ = data
        names = [None if each is None else "ba"[each] for each in holes]
        ordered = pd.Series(names, dtype=pd.CategoricalDtype(["b", "a"], ordered=True))
        clf = make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=ordered)
        assert clf.groups_.tolist() == ["b", "a"]

    def test_of_dask(self, data, holes):
        da = pytest.importorskip("dask.array")
        X, y, _ = data
        expected = make_clf(difference_bound=0.2).fit(X, y, sensitive_features=holes)
        given = [da.from_array(each, chunks=250) for each in (X, y, holes)]
        clf = make_clf(difference_bound=0.2).fit(*given[:2], sensitive_features=given[2])
        np.testing.assert_allclose(clf.decision_function(X), expected.decision_function(X))
        assert clf.rows_with_group_ == expected.rows_with_group_

    def test_features_in_a_file(self, data, holes, tmp_path):
        X, y, _ = data
        mapped = np.memmap(tmp_path / "X", X.dtype, "w+", shape=X.shape)
        mapped[:] = X
        clf = make_clf(difference_bound=0.2).fit(mapped, y, sensitive_features=holes)
        expected = make_clf(difference_bound=0.2).fit(X, y, sensitive_features=holes)
        np.testing.assert_allclose(clf.decision_function(X), expected.decision_function(X))

    def test_many_features_are_not_copied(self, data, holes, monkeypatch):
        X, y, _ = data
        expected = make_clf(difference_bound=0.2).fit(X, y, sensitive_features=holes)
        monkeypatch.setattr("skfairft.rows.parts._COPIED", 0)
        clf = make_clf(difference_bound=0.2).fit(X, y, sensitive_features=holes)
        np.testing.assert_allclose(clf.decision_function(X), expected.decision_function(X))


class TestRefusals:
    def fit(self, data, s, **params):
        return make_clf(**{"fairness_weight": 0.7, **params}).fit(*data[:2], sensitive_features=s)

    def test_by_default_names_the_option(self, data, holes):
        with pytest.raises(ValueError, match=r'missing values.*missing_groups="estimate"'):
            self.fit(data, holes, missing_groups="error")

    @pytest.mark.parametrize("solver", ["fine_tune", "closed_form"])
    def test_of_other_solvers(self, data, holes, solver):
        with pytest.raises(ValueError, match=rf"solver='{solver}' needs the group of each row"):
            self.fit(data, holes, solver=solver)

    def test_of_no_groups_at_all(self, data):
        with pytest.raises(ValueError, match="missing in each of the 1000 rows"):
            self.fit(data, [None] * 1000)

    def test_of_one_group(self, data, holes):
        with pytest.raises(ValueError, match="whose group is known belong to the group"):
            self.fit(data, np.where(holes == 0, 0, None))

    @pytest.mark.parametrize(("left", "refused"), [(4, True), (5, False)])
    def test_of_few_in_a_group(self, data, left, refused):
        s = data[2]
        missing = np.ones(1000, dtype=bool)
        missing[np.flatnonzero(s == 0)[:40]] = False
        missing[np.flatnonzero(s == 1)[:left]] = False
        if not refused:
            self.fit(data, with_holes(s, missing))
            return
        with pytest.raises(ValueError, match=r"the 44 of 1000 rows.*4 of group 1.*at least 5"):
            self.fit(data, with_holes(s, missing))

    def test_of_few_in_a_cell_that_the_constraint_asks_for(self, data):
        _, y, s = data
        missing = np.zeros(1000, dtype=bool)
        missing[np.flatnonzero((s == 1) & (y == 1))[4:]] = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the constraint did little on such rows
            self.fit(data, with_holes(s, missing))  # the class is not asked for
        for constraint in (EO, "worst_group"):
            with pytest.raises(ValueError, match="only 4 of class 1 in group 1"):
                self.fit(data, with_holes(s, missing), constraint=constraint)

    def test_rows_of_weight_zero_are_none(self, data, holes):
        X, y, s = data
        w = np.where(s == 1, 0.0, 1.0)
        w[np.flatnonzero((s == 1) & (holes == 1))[:4]] = 1.0
        with pytest.raises(ValueError, match="4 of group 1"):
            make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=holes, sample_weight=w)

    def test_a_bound_of_few_known_rows_is_warned_of(self, data, holes):
        _, fewest = np.unique([each for each in holes if each is not None], return_counts=True)
        error = np.sqrt(0.25 * (1 / fewest).sum())
        with pytest.warns(FairnessWarning, match=f"up to {error:.3f}: more than half"):
            self.fit(data, holes, fairness_weight=None, difference_bound=1.99 * error)
        self.fit(data, holes, fairness_weight=None, difference_bound=2.01 * error)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it cannot be certified
            self.fit(data, holes, fairness_weight=None, difference_bound=0.05, confidence=0.9)

    def test_what_is_measured_needs_groups(self, data, holes):
        X, y, _ = data
        clf = self.fit(data, holes)
        for measure in (demographic_parity_distance, fairness_report):
            with pytest.raises(ValueError, match="What is measured needs the group of each row"):
                measure(y, clf.predict(X), sensitive_features=holes)


class TestTheFit:
    def test_parts_sum_to_their_rows(self):
        rng = np.random.default_rng(0)
        s = torch.from_numpy(rng.integers(-1, 3, 50))
        w = torch.from_numpy(rng.exponential(size=50) * (np.arange(50) % 9 > 0))
        shares = torch.from_numpy(rng.dirichlet(np.ones(3), 50))
        rows = TensorRows(torch.arange(50.0)[:, None].double(), s % 2, w, s)
        parts = Parts.divided(rows, shares)
        torch.testing.assert_close(torch.bincount(parts.of, parts.rows.w), w)
        torch.testing.assert_close(parts.rows.Z[:, 0], parts.of.double())
        unknown = (s < 0) & (w > 0)
        assert len(parts.of) == 50 + 2 * int(unknown.sum())
        torch.testing.assert_close(parts.alone, ~unknown[parts.of])
        for i in torch.nonzero(unknown)[:, 0].tolist():
            own = parts.of == i
            assert parts.rows.codes[own].tolist() == [0, 1, 2]
            torch.testing.assert_close(parts.rows.w[own], w[i] * shares[i])
        # One part of each row is drawn, by its share.
        drawn = parts.drawn()
        assert parts.of[drawn].tolist() == list(range(50))
        assert (parts.rows.w[drawn][w > 0] > 0).all()

    def test_parts_are_drawn_by_their_shares(self):
        n = 20_000
        rows = TensorRows(torch.zeros(n, 1), codes=torch.full((n,), -1))
        parts = Parts.divided(rows, torch.tensor([[0.2, 0.5, 0.3]]).double().expand(n, -1))
        found = np.bincount(parts.rows.codes[parts.drawn()]) / n
        np.testing.assert_allclose(found, [0.2, 0.5, 0.3], atol=4 * 0.5 / n**0.5)

    def test_groups_that_are_certain_are_as_good_as_known(self):
        """Where the features tell the group, all is as with all groups, and dropping is not."""
        X, y, s = make_data(3000)
        Z = np.column_stack([X, 8.0 * s + np.random.default_rng(0).normal(size=len(s))])
        missing = at_random(3000, 0.1)
        full = make_clf(fairness_weight=0.7).fit(Z, y, sensitive_features=s)
        some = make_clf(fairness_weight=0.7).fit(Z, y, sensitive_features=with_holes(s, missing))
        left = make_clf(fairness_weight=0.7)
        left.fit(Z[~missing], y[~missing], sensitive_features=s[~missing])
        own = full.predict(Z)
        assert (some.predict(Z) != own).mean() < 0.01 < (left.predict(Z) != own).mean()
        np.testing.assert_allclose(some.group_importance_, full.group_importance_, rtol=0.1)

    def test_a_strength_is_chosen_on_folds_of_rows(self):
        """Parts of a row are on one side of each fold, and as many rows as there are count."""
        rng = np.random.default_rng(0)
        Z, y = torch.from_numpy(rng.normal(size=(90, 40))), torch.from_numpy(rng.integers(0, 2, 90))
        rows = TensorRows(Z, y, None, torch.full((90,), -1))
        parts = Parts.divided(rows, torch.full((90, 2), 0.5).double())
        alone = choose_strength(TensorRows(Z, y), 2)
        assert choose_strength(parts.rows, 2, parts=parts) == alone
        assert choose_strength(parts.rows, 2) > alone  # control: copies tell what is held out

    def test_a_strength_is_chosen_on_folds_that_are_given(self):
        """A fold is of rows, whose parts follow; of rows that belong together it is another C."""
        rng = np.random.default_rng(0)
        people = np.repeat(np.arange(40), 5)
        Z = torch.from_numpy(rng.normal(size=(40, 30))[people] + 0.01 * rng.normal(size=(200, 30)))
        y = torch.from_numpy(Z[:, 0].numpy() + 2.0 * rng.normal(size=40)[people] > 0.0).long()
        rows, codes = TensorRows(Z, y, None, torch.full((200,), -1)), people % 5
        parts = Parts.divided(rows, torch.full((200, 2), 0.5).double())
        for alike in (False, True):
            alone = choose_strength(TensorRows(Z, y), 2, codes, alike=alike)
            assert choose_strength(parts.rows, 2, codes, alike=alike, parts=parts) == alone
            assert choose_strength(parts.rows, 2, alike=alike, parts=parts) > alone

    @pytest.mark.parametrize(
        "params",
        [
            {},
            pytest.param(
                {"head": torch.nn.Sequential(torch.nn.Linear(30, 5), torch.nn.Tanh())},
                marks=pytest.mark.slow,
            ),
        ],
        ids=["linear", "with rows held out to stop by"],
    )
    def test_heeds_rows_that_belong_together(self, params):
        rng = np.random.default_rng(0)
        people = np.repeat(np.arange(60), 5)
        X = rng.normal(size=(60, 30))[people] + 0.01 * rng.normal(size=(300, 30))
        y = (X[:, 0] + 2.0 * rng.normal(size=60)[people] > 0.0).astype(int)
        s = with_holes(people % 2, at_random(300, 0.5))
        together = list(GroupKFold(5).split(X, y, people))
        found = []
        for cv in (5, together):
            clf = make_clf(cv=cv, fairness_weight=0.5, **params)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append(clf.fit(X, y, sensitive_features=s).C_)
        assert found[1] < found[0]

    def test_the_estimate_heeds_rows_that_belong_together(self):
        rng = np.random.default_rng(0)
        people = np.repeat(np.arange(60), 10)
        Z = torch.from_numpy(rng.normal(size=(60, 30))[people] + 0.01 * rng.normal(size=(600, 30)))
        s = torch.from_numpy(rng.integers(0, 2, 60)[people])
        s[::3] = -1
        shape = {"n_classes": 2, "n_groups": 2}
        rows = TensorRows(Z, torch.from_numpy(rng.integers(0, 2, 600)), None, s)
        alone = group_strength(rows, **shape)
        assert group_strength(rows, **shape, codes=people % 5) < 0.1 * alone
        # Of one fold nothing is left to learn from.
        assert group_strength(rows, **shape, codes=(s < 0).long().numpy()) == alone

    def test_heads_of_folds_are_those_that_are_fitted_one_by_one(self, data, holes):
        X, y, _ = data
        settings = {"weights": [0.0, 0.7], "thresholds": 1, "n_boot": 0}
        given = {"sensitive_features": holes, **settings}
        together = fairness_path(make_clf(), X, y, **given)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("skfairft.solvers.plug_in._PlugInFitter.of_folds", lambda *_: None)
            apart = fairness_path(make_clf(), X, y, **given)
        np.testing.assert_allclose(together.decisions, apart.decisions, atol=1.5)

    def test_a_groups_name_does_not_matter(self, data, holes):
        X, y, _ = data
        renamed = np.array([None if each is None else "ba"[each] for each in holes], dtype=object)
        scores = [
            make_clf(difference_bound=0.2, constraint=EO)
            .fit(X, y, sensitive_features=each)
            .decision_function(X)
            for each in (holes, renamed)
        ]
        np.testing.assert_allclose(*scores, atol=1e-6)

    def test_a_weight_of_2_is_the_row_twice(self, data, holes, monkeypatch):
        X, y, _ = data
        # Copies of a row may be on both sides of the folds by which a strength is chosen.
        monkeypatch.setattr(
            "skfairft.solvers.estimated_groups.group_strength", lambda *_, **__: 1.0
        )
        w = 1 + np.arange(1000) % 2
        twice = np.repeat(np.arange(1000), w)
        params = {"fairness_weight": 0.7, "C": 1.0}
        weighted = make_clf(**params).fit(X, y, sensitive_features=holes, sample_weight=w)
        repeated = make_clf(**params).fit(X[twice], y[twice], sensitive_features=holes[twice])
        np.testing.assert_allclose(
            weighted.predict_label_proba(X), repeated.predict_label_proba(X), atol=1e-6
        )

    def test_the_label_is_learnt_from_all_rows(self):
        gains = []
        for seed in range(5):
            X, y, s = make_data(800 + N_TEST, seed, d=30)
            train, test = slice(0, 800), slice(800, None)
            missing = at_random(800, 0.15, seed)
            some, left = make_clf(fairness_weight=0.0), make_clf(fairness_weight=0.0)
            some.fit(X[train], y[train], sensitive_features=with_holes(s[train], missing))
            left.fit(
                *(each[train][~missing] for each in (X, y)), sensitive_features=s[train][~missing]
            )
            gains.append(some.score(X[test], y[test]) - left.score(X[test], y[test]))
        assert min(gains) > 0.01

    @pytest.mark.parametrize(
        "params",
        [
            {"rank": 2},
            {"solver": PlugIn(max_epochs=30, early_stopping=True), "rank": 2},
            {"C": 0.1},
            {"group_weights": "proportional", "rank": 2},
            {"constraint": "worst_error_rate", "fairness_weight": None},
            {"constraint": None, "fairness_weight": None},
            {"head": torch.nn.Sequential(torch.nn.Linear(8, 5), torch.nn.Tanh())},
        ],
    )
    def test_goes_with_other_settings(self, data, holes, params):
        X, y, s = data
        clf = make_clf(**{"fairness_weight": 0.8, **params}).fit(X, y, sensitive_features=holes)
        assert clf.score(X, y) > 0.6
        told = clf.predict(X, sensitive_features=s)
        np.testing.assert_array_equal(
            clf.predict(X, sensitive_features=[None] * 1000), clf.predict(X)
        )
        if clf.fairness_weight_ > 0.0:
            assert (told != clf.predict(X)).any()

    def test_a_fit_again_forgets(self, data, holes):
        X, y, s = data
        clf = make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=holes)
        assert clf.rows_with_group_ == (sum(each is not None for each in holes), 1000)
        assert not hasattr(clf.fit(X, y, sensitive_features=s), "rows_with_group_")

    def test_rows_of_the_worst_cell_are_those_that_are_known(self, data, holes):
        X, y, _ = data
        clf = make_clf(constraint="worst_group").fit(X, y, sensitive_features=holes)
        known = [(label, group) for label, group in zip(y, holes, strict=True) if group is not None]
        label, group = clf.worst_group_.smallest
        assert clf.worst_group_.rows == known.count((label, group))

    @pytest.mark.parametrize("params", [{}, {"difference_bound": 0.19, "cv": 5}])
    def test_the_worst_cell_errs_less(self, params):
        X, y, s = make_data(4000)
        holes = with_holes(s, at_random(4000, 0.3))
        clf = make_clf(constraint="worst_group", **params)
        plain = make_clf(constraint=None, fairness_weight=None)
        error = [
            worst_group_error(
                y, each.fit(X, y, sensitive_features=holes).predict(X), sensitive_features=s
            )
            for each in (plain, clf)
        ]
        assert error[1] < error[0] - (0.0 if params else 0.02)
        assert clf.worst_group_.limit - 0.01 < clf.worst_group_.error < error[0] - 0.02
        if params:
            assert clf.difference_ <= 0.19
            assert clf.bound_met_

    def test_a_cell_without_known_rows_is_left_out_of_the_worst(self, data, holes):
        X, y, s = data
        given = np.where((s == 1) & (y == 1), None, holes)
        with pytest.warns(FairnessWarning) as said:
            clf = make_clf(constraint="worst_group").fit(X, y, sensitive_features=given)
        assert any("What is not there is left out" in str(each.message) for each in said)
        cells = {cell[:2] for cell in clf.worst_group_.binding}
        assert (1, 1) not in cells | {clf.worst_group_.smallest}


@pytest.fixture(scope="module")
def several():
    X, y, s = make_data(3000)
    age = np.random.default_rng(0).choice(["old", "young"], len(s))
    full = pd.DataFrame({"sex": s, "age": age})
    some = full.astype(object)
    missing = at_random(3000, 0.3)
    some.loc[missing, "age"] = None
    some.loc[at_random(3000, 0.9, 1), "sex"] = None
    return X, y, full, some


class TestByColumn:
    """`groups="columns"`: what is learnt are the intersections, what is compared the levels."""

    @pytest.mark.parametrize(
        "params",
        [
            {"fairness_weight": 1.0},
            {"difference_bound": 0.15},
            {"constraint": EO, "difference_bound": 0.25, "confidence": 0.9},
        ],
    )
    def test_levels_are_brought_together(self, several, params):
        X, y, full, some = several
        clf = make_clf(groups="columns", **params).fit(X, y, sensitive_features=some)
        plain = make_clf(groups="columns", constraint=None).fit(X, y, sensitive_features=some)
        distance = DISTANCES[clf.constraint]
        before, after = (
            distance(y, each.predict(X), sensitive_features=full, groups="columns")
            for each in (plain, clf)
        )
        assert after < 0.7 * before
        assert after < params.get("difference_bound", 0.0) + 0.05
        assert clf.rows_with_group_[1] == 3000

    def test_a_path(self, several):
        X, y, _, some = several
        path = fairness_path(
            make_clf(groups="columns"),
            X,
            y,
            sensitive_features=some,
            weights=[0.0, 1.0],
            thresholds=1,
            cv=3,
            n_boot=20,
        )
        assert path.n_judged == 3000
        assert path.table["difference"].tolist()[1] < 0.1 < path.table["difference"].tolist()[0]

    def test_few_rows_of_a_level_are_refused(self, several):
        X, y, full, _ = several
        s = full.astype(object)
        s["age"] = "old"
        s.loc[::2, "age"] = "young"
        few = np.flatnonzero((s["sex"] == 1) & (y == 1))[4:]
        s.loc[few, "sex"] = None
        with pytest.raises(ValueError, match=r"only 4 of class 1 in sex=1 .*at least 5"):
            make_clf(groups="columns", constraint=EO, fairness_weight=0.5).fit(
                X, y, sensitive_features=s
            )


class TestTheEstimate:
    def test_of_a_group_is_that_of_its_logistic_regression(self, data, holes):
        """P(g | x, y) by scikit-learn, with the label as a column."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        X, y, _ = data
        known = np.array([each is not None for each in holes])
        Z = StandardScaler().fit(np.column_stack([X, y])[known]).transform(np.column_stack([X, y]))
        expected = LogisticRegression(C=0.3, tol=1e-10, max_iter=1000)
        expected.fit(Z[known], holes[known].astype(int))
        codes = torch.tensor([-1 if each is None else each for each in holes])
        rows = TensorRows(torch.from_numpy(X), torch.from_numpy(y), None, codes)
        head = fit_group_head(rows, n_classes=2, n_groups=2, C=0.3)
        found = head.shares(rows.Z, rows.y)
        np.testing.assert_allclose(found, expected.predict_proba(Z), atol=1e-6)

    def test_judges_no_row_by_its_own_group(self, data, holes):
        """Another group of a known row changes the scores of other folds, not of its own."""
        X, y, _ = data
        splits = list(StratifiedKFold(4, shuffle=True, random_state=0).split(y, y))
        known = next(i for i in splits[0][1] if holes[i] is not None)
        other = holes.copy()
        other[known] = 1 - other[known]
        decisions = []
        for given in (holes, other):
            clf = make_clf(C=1.0, rank=3)
            seen = []
            original = JudgedRows.cells

            def cells(self, scores, seen=seen, original=original):
                seen.append((scores, self.rows, self.parts))
                return original(self, scores)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(JudgedRows, "cells", cells)
                fairness_path(
                    clf,
                    X,
                    y,
                    sensitive_features=given,
                    cv=splits,
                    weights=[0.0],
                    n_boot=0,
                    thresholds=1,
                )
            decisions.append(seen[0])
        (before, rows, parts), (after, moved, _) = decisions
        own = np.isin(parts.of.numpy(), splits[0][1])
        # Heads of folds start at that of all rows, and end at a gradient of 1e-7.
        torch.testing.assert_close(after[own], before[own], rtol=0, atol=1e-4)
        torch.testing.assert_close(moved.w[own], rows.w[own], rtol=0, atol=1e-9)
        assert (after - before)[~own].abs().max() > 1e-2
        assert (moved.w - rows.w)[~own & (rows.w < 1.0).numpy()].abs().max() > 1e-3


def judged(seed=0, n=400, n_groups=3):
    """Decisions about rows, some of unknown group."""
    rng = np.random.default_rng(seed)
    y, d = rng.integers(0, 2, (2, n))
    s = rng.integers(-1, n_groups, n)
    w = rng.exponential(size=n)
    shares = rng.dirichlet(np.ones(n_groups), n)
    rows = TensorRows(torch.zeros(n, 1), *map(torch.from_numpy, (y, w, s)))
    parts = Parts.divided(rows, torch.from_numpy(shares))
    scores = torch.nn.functional.one_hot(torch.from_numpy(d), 2).double()
    judge = JudgedRows(
        parts.rows, parity(EO, 2), np.arange(n_groups), refit=True, tuned=True, parts=parts
    )
    return judge, scores[parts.of], (y, d, s, w, shares)


class TestSoftJudging:
    def test_a_table_is_the_sum_over_rows(self):
        judge, scores, (y, d, s, w, shares) = judged()
        expected = np.zeros((3, 2, 2))
        for i in range(len(y)):
            for g in range(3):
                share = shares[i, g] if s[i] < 0 else float(s[i] == g)
                expected[g, y[i], d[i]] += w[i] * share
        np.testing.assert_allclose(judge.table(judge.cells(scores)), expected)
        assert judge.n_rows == len(y)

    def test_limits_are_of_no_more_rows_than_are_known(self):
        judge, scores, (y, _, s, w, _) = judged()
        cells = judge.cells(scores)
        found = effective_rows(judge.rule, judge.table(cells), judge.squares(cells))
        for m, label in ((0, 1), (1, 0)):
            for g in range(3):
                own = w[(s == g) & (y == label)]
                np.testing.assert_allclose(found[m, g], own.sum() ** 2 / (own**2).sum())
        # Control: the parts themselves would count for more.
        judge_all = JudgedRows(judge.rows, judge.rule, judge.groups)
        more = effective_rows(judge.rule, judge.table(cells), judge_all.squares(cells))
        assert (more > found).all()

    def test_a_cell_without_a_known_row_has_no_limits(self):
        judge, _, (y, _, s, w, shares) = judged()
        codes = torch.from_numpy(np.where((s == 0) & (y == 1), -1, s))
        rows = TensorRows(torch.zeros(len(y), 1), torch.from_numpy(y), torch.from_numpy(w), codes)
        parts = Parts.divided(rows, torch.from_numpy(shares))
        judge = JudgedRows(parts.rows, parity(EO, 2), judge.groups, parts=parts)
        cells = judge.cells(torch.nn.functional.one_hot(parts.of % 2, 2).double())
        found = effective_rows(judge.rule, judge.table(cells), judge.squares(cells))
        assert found[0, 0] < 1e-3 < 10 < found[0, 1:].min()

    def test_error_and_accuracy_are_those_of_rows(self):
        """The bootstrap draws rows, not parts of them."""
        judge, scores, (y, d, _, w, _) = judged(n=2000)
        cells = judge.cells(scores)
        found = judge.metrics(judge.table(cells)[None])["accuracy"]
        np.testing.assert_allclose(found, w[y == d].sum() / w.sum())
        drawn = np.concatenate(
            [judge.metrics(block)["accuracy"] for block in judge.resampled(cells, 2000, 0)]
        )
        whole = JudgedRows(
            TensorRows(torch.zeros(len(y), 1), *map(torch.from_numpy, (y, w, 0 * y))),
            parity(DP, 2),
            np.arange(3),
        )
        own = whole.cells(torch.nn.functional.one_hot(torch.from_numpy(d), 2).double())
        expected = np.concatenate(
            [whole.metrics(block)["accuracy"] for block in whole.resampled(own, 2000, 0)]
        )
        np.testing.assert_allclose(drawn.mean(), expected.mean(), atol=1e-3)
        np.testing.assert_allclose(drawn.std(), expected.std(), rtol=0.1)


def missing_by(column, shares, seed):
    """Which rows lack their group, where a share of each value of a column is left."""
    rng = np.random.default_rng([seed, 2])
    return rng.random(len(column)) > np.asarray(shares)[column]


def simulated(constraint, bound, missing_of, seeds, n=3000, **params):
    """Return the distances on many other rows of classifiers that met a bound."""
    found = []
    for seed in seeds:
        X, y, s = make_data(n + N_TEST, seed)
        train, test = slice(0, n), slice(n, None)
        given = with_holes(s[train], missing_of(y[train], s[train], seed))
        clf = make_clf(constraint=constraint, difference_bound=bound, **params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FairnessWarning)
            clf.fit(X[train], y[train], sensitive_features=given)
        real = DISTANCES[constraint](y[test], clf.predict(X[test]), sensitive_features=s[test])
        found.append((real, clf.difference_, clf.difference_limit_, clf.bound_met_))
    return np.array(found)


class TestInSimulation:
    @pytest.mark.parametrize(
        ("constraint", "bound"), [(DP, 0.15), pytest.param(EO, 0.2, marks=pytest.mark.slow)]
    )
    @pytest.mark.slow
    def test_missing_at_random_or_by_label_is_harmless_but_not_by_group(self, constraint, bound):
        seeds = range(4)
        apart = {
            "at random": lambda y, s, seed: at_random(len(y), 0.1, seed),
            "by label": lambda y, s, seed: missing_by(y, [0.04, 0.2], seed),
            "by cell": lambda y, s, seed: missing_by(2 * y + s, [0.04, 0.25, 0.25, 0.04], seed),
        }
        off = {
            name: simulated(constraint, bound, missing_of, seeds)[:, 0] - bound
            for name, missing_of in apart.items()
        }
        for name in ("at random", "by label"):
            error = off[name].std() / len(seeds) ** 0.5
            assert off[name].mean() < 2.5 * error + 0.02, name
        if constraint == DP:  # control: what the data cannot show
            assert off["by cell"].mean() > off["by label"].mean() + 0.05

    @pytest.mark.slow
    def test_a_limit_holds_on_other_rows(self):
        found = simulated(
            DP, 0.25, lambda y, s, seed: at_random(len(y), 0.1, seed), range(5), confidence=0.95
        )
        real, judged, limit, met = found.T
        assert (real > limit).sum() <= 1
        assert ((real > 0.25) & (met > 0)).sum() <= 1
        assert (limit > judged).all()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("constraint", "bound", "n", "share"),
        [(DP, 0.2, 3000, 0.1), (EO, 0.3, 6000, 0.1), (DP, 0.15, 10_000, 0.05)],
    )
    def test_limits_cover_as_they_say(self, constraint, bound, n, share):
        seeds = range(60)
        found = simulated(
            constraint,
            bound,
            lambda y, s, seed: at_random(len(y), share, seed),
            seeds,
            n=n,
            confidence=0.95,
        )
        real, _, limit, met = found.T
        # Of 60 at 5 %: more than 7 are there by chance once in a hundred.
        assert (real > limit).sum() <= 7
        assert ((real > bound) & (met > 0)).sum() <= 7


class TestAround:
    def test_it_is_said(self, data, holes):
        X, y, s = data
        clf = make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=holes)
        known = sum(each is not None for each in holes)
        said = f"groups estimated on {known} known rows of 1,000, valid if missingness depends"
        assert said in " ".join(summarize(clf).text().split())
        assert f"estimated on {known} known rows" in clf._repr_html_()
        whole = make_clf(fairness_weight=0.7).fit(X, y, sensitive_features=s)
        assert "estimated on" not in summarize(whole).text()

    def test_is_saved(self, data, holes, tmp_path):
        X, y, _ = data
        clf = make_clf(difference_bound=0.2).fit(X, y, sensitive_features=holes)
        clf.save(tmp_path / "model")
        joblib.dump(clf, tmp_path / "pickle")
        for again in (load(tmp_path / "model"), joblib.load(tmp_path / "pickle")):
            assert again.rows_with_group_ == clf.rows_with_group_
            assert again.missing_groups == "estimate"
            np.testing.assert_array_equal(again.predict(X), clf.predict(X))

    def test_a_path_judges_all_rows(self, data, holes, tmp_path):
        X, y, s = data
        path = fairness_path(
            make_clf(), X, y, sensitive_features=holes, weights=[0.0, 0.5, 1.0], thresholds=3
        )
        assert path.n_judged == 1000
        np.testing.assert_allclose(path.decisions.sum(axis=(1, 2, 3)), 1000)
        assert path.table["difference"].is_monotonic_decreasing or len(path.table) > 3
        assert path.classifiers[0].rows_with_group_ == (
            path.classifiers[0].rows_with_group_[0],
            1000,
        )
        # Its limits are those of a path on the known rows alone, or near them: not of all rows.
        known = np.array([each is not None for each in holes])
        settings = {"weights": [0.0, 0.5, 1.0], "thresholds": 1, "n_boot": 0}
        left = fairness_path(
            make_clf(), X[known], y[known], sensitive_features=s[known], **settings
        )
        full = fairness_path(make_clf(), X, y, sensitive_features=s, **settings)
        some = fairness_path(make_clf(), X, y, sensitive_features=holes, **settings)
        width = [
            (each.table["difference_high"] - each.table["difference_low"])[0]
            for each in (full, some, left)
        ]
        assert width[0] < 0.7 * width[1]
        np.testing.assert_allclose(width[1], width[2], rtol=0.15)

    def test_a_path_with_groups_known_where_it_decides(self, data, holes):
        X, y, _ = data
        path = fairness_path(
            make_clf(),
            X,
            y,
            sensitive_features=holes,
            weights=[0.0, 1.0],
            known_groups=True,
            n_boot=20,
        )
        assert path.n_judged == 1000
        own = path.table[path.table["positive_share"] == 1.0]
        assert own["difference"].tolist()[1] < 0.1 < own["difference"].tolist()[0]

    def test_a_path_measured_on_other_rows(self, data, holes):
        X, y, s = data
        held_out = make_data(500, 1)
        path = fairness_path(
            make_clf(),
            X,
            y,
            sensitive_features=holes,
            weights=[0.0, 1.0],
            held_out=held_out,
            n_boot=20,
        )
        assert path.n_judged == 500
        with pytest.raises(ValueError, match="What is measured needs the group of each row"):
            fairness_path(make_clf(), X, y, sensitive_features=s, held_out=(X, y, holes), weights=2)

    def test_a_search_passes_what_is_missing(self, data, holes):
        X, y, _ = data
        with config_context(enable_metadata_routing=True):
            clf = make_clf().set_fit_request(sensitive_features=True)
            search = GridSearchCV(clf, {"fairness_weight": [0.0, 0.8]}, cv=3, error_score="raise")
            search.fit(X, y, sensitive_features=holes)
            assert search.best_estimator_.rows_with_group_[1] == 1000
            # A scorer of distances meets them in the rows to test, and says so.
            search.set_params(scoring=fairness_scorer("demographic_parity_distance"))
            with pytest.raises(ValueError, match="What is measured needs the group of each row"):
                search.fit(X, y, sensitive_features=holes)
