"""Judging out of fold: by heads of other rows; bounds with confidence."""

import numpy as np
import pytest
import torch
from interrupts import Stops
from sklearn.model_selection import StratifiedKFold

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    FineTune,
    PlugIn,
    fairness_path,
)
from skfairft.datasets import make_biased_classification
from skfairft.head.modules import head_scores
from skfairft.parity.constraints import parity
from skfairft.parity.judge import REFIT, JudgedRows
from skfairft.parity.limits import distance_limits
from skfairft.rows.folds import Folds, stratified_folds
from skfairft.rows.tensor_rows import TensorRows
from skfairft.solvers import bound
from skfairft.solvers.dual import ParityDual

DP, EO = "demographic_parity", "equalized_odds"
WEIGHTS = [0.0, 0.5, 1.0]


def make_data(k=2, n=900, n_groups=2, seed=0):
    return make_biased_classification(
        n, 8, n_classes=k, n_groups=n_groups, disparity=0.5, proxy=1.5, random_state=seed
    )


@pytest.fixture(scope="module")
def data():
    return make_data()


def make_clf(**params):
    return FairLowRankHeadClassifier(
        **{"constraint": DP, "solver": "closed_form", "random_state": 0, **params}
    )


def splits_of(data, n=3):
    _, y, s = data
    return list(StratifiedKFold(n, shuffle=True, random_state=0).split(y, 2 * y + s))


def trace(data, clf, **settings):
    X, y, s = data
    settings = {"weights": WEIGHTS, "thresholds": 1, "n_boot": 0, **settings}
    return fairness_path(clf, X, y, sensitive_features=s, **settings)


def table_of(data, predicted, k=2):
    """Decisions by group, label and decision."""
    _, y, s = data
    n_groups = int(s.max()) + 1
    flat = np.bincount((s * k + y) * k + predicted, minlength=n_groups * k * k)
    return flat.reshape(n_groups, k, k)


class TestDecisions:
    @pytest.mark.parametrize(
        ("params", "k"),
        [
            ({}, 2),
            ({"constraint": EO, "importance": "covariance"}, 3),
            ({"solver": FineTune(max_epochs=200, tol=1e-9), "constraint": EO}, 2),
        ],
    )
    def test_are_those_of_classifiers_fitted_to_the_other_rows(self, params, k):
        data = make_data(k)
        X, y, s = data
        clf, splits = make_clf(**params), splits_of(data)
        path = trace(data, clf, cv=splits)
        assert path.out_of_fold
        assert path.n_judged == len(y)
        for i, weight in enumerate(WEIGHTS):
            predicted = np.empty_like(y)
            for train, test in splits:
                alone = make_clf(**params, fairness_weight=weight)
                alone.fit(X[train], y[train], sensitive_features=s[train])
                predicted[test] = alone.predict(X[test])
            expected = table_of(data, predicted, k)
            # Rounding, and where a training ends, may turn a row at the threshold.
            assert np.abs(path.decisions[i] - expected).sum() <= 4
            whole = make_clf(**params, fairness_weight=weight).fit(X, y, sensitive_features=s)
            np.testing.assert_allclose(
                path.classifiers[i].predict_proba(X), whole.predict_proba(X), atol=2e-3
            )
        np.testing.assert_array_equal(path.squares, path.decisions)

    def test_of_votes_are_by_probabilities_out_of_fold(self, data):
        """One set of multipliers, found on the rows that are judged by heads of others."""
        X, y, s = data
        splits, C = splits_of(data), 0.3
        path = trace(data, make_clf(solver="plug_in", C=C), cv=splits, weights=[0.6])
        p = np.empty((len(y), 4))
        for train, test in splits:
            alone = make_clf(solver="plug_in", C=C, fairness_weight=0.0)
            alone.fit(X[train], y[train], sensitive_features=s[train])
            p[test] = torch.softmax(head_scores(alone.head_[0], torch.from_numpy(X[test])), dim=1)
        w = torch.ones(len(y)).double()
        codes = torch.from_numpy(2 * y + s)
        dual = ParityDual(torch.from_numpy(p), w, parity(DP, 2), n_groups=2, cells=codes)
        predicted = (torch.from_numpy(p) @ dual.scores(0.6).flatten(0, 1)).argmax(dim=1).numpy()
        assert np.abs(path.decisions[0] - table_of(data, predicted)).sum() <= 4
        # The head that is handed out: those votes, on the cells of all rows.
        whole = make_clf(solver="plug_in", C=C, fairness_weight=0.0).fit(X, y, sensitive_features=s)
        cells = torch.softmax(head_scores(whole.head_[0], torch.from_numpy(X)), dim=1)
        own = cells @ dual.scores(0.6).flatten(0, 1)
        found = path.classifiers[0].predict(X)
        assert (found != own.argmax(dim=1).numpy()).mean() < 0.005
        assert (found != whole.predict(X)).mean() > 0.02

    @pytest.mark.parametrize("solver", [PlugIn(early_stopping=True), PlugIn(max_epochs=5)])
    def test_of_votes_that_are_trained(self, data, solver):
        """Heads of cells that hold rows out to stop early, or are not at their end."""
        X, y, s = data
        splits = splits_of(data)
        path = trace(data, make_clf(solver=solver, rank=2, C=1.0), cv=splits, weights=[0.0])
        predicted = np.empty_like(y)
        for train, test in splits:
            alone = make_clf(solver=solver, rank=2, C=1.0, fairness_weight=0.0)
            alone.fit(X[train], y[train], sensitive_features=s[train])
            predicted[test] = alone.predict(X[test])
        apart = np.abs(path.decisions[0] - table_of(data, predicted)).sum()
        assert apart <= 0.03 * len(y)  # early stopping draws other rows
        # Control: in the sample it is another table.
        whole = make_clf(solver=solver, rank=2, C=1.0, fairness_weight=0.0)
        inside = whole.fit(X, y, sensitive_features=s).predict(X)
        assert np.abs(path.decisions[0] - table_of(data, inside)).sum() > 0

    def test_of_votes_are_none_if_a_fold_was_interrupted(self, data):
        X, y, s = data
        clf = make_clf(solver=PlugIn(callbacks=[Stops(3)]), rank=2, difference_bound=0.2)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, y, sensitive_features=s)
        assert not hasattr(clf, "head_")

    def test_weigh_and_leave_out_as_the_rows_do(self, data):
        y = data[1]
        w = np.random.default_rng(0).exponential(size=len(y)) * (np.arange(len(y)) % 7 > 0)
        path = trace(data, make_clf(solver="plug_in"), sample_weight=w)
        assert path.n_judged == np.count_nonzero(w)
        np.testing.assert_allclose(path.decisions.sum(axis=(1, 2, 3)), w.sum())
        np.testing.assert_allclose(path.squares.sum(axis=(1, 2, 3)), (w**2).sum())
        counted = w > 0
        alone = trace(
            tuple(part[counted] for part in data),
            make_clf(solver="plug_in"),
            sample_weight=w[counted],
        )
        assert abs(path.table["difference"] - alone.table["difference"]).max() < 0.05

    def test_do_not_come_from_heads_that_saw_the_rows(self):
        """Labels and groups that are noise: in the sample a wide head knows them, not out of it."""
        rng = np.random.default_rng(0)
        X, y, s = rng.normal(size=(200, 60)), rng.integers(2, size=200), rng.integers(2, size=200)
        for solver in ("closed_form", "plug_in"):
            clf = make_clf(solver=solver, C=100.0)
            path = trace((X, y, s), clf, weights=[0.0])
            assert path.classifiers[0].score(X, y) > 0.75
            assert path.table["accuracy"].iloc[0] < 0.62


@pytest.mark.filterwarnings("ignore:Some groups are too thin")
class TestRareGroups:
    """A group whose one row no fold can judge is left out of the distance, and said."""

    @pytest.mark.parametrize("solver", ["closed_form", "plug_in"])
    def test_of_a_row(self, data, solver):
        X, y, s = data
        rare = np.where(np.arange(len(y)) == 0, 2, s)
        clf = make_clf(solver=solver, difference_bound=0.4)
        with pytest.warns(
            FairnessWarning, match=r"None of the rows to judge is of the groups \[2\]"
        ):
            clf.fit(X, y, sensitive_features=rare)
        assert clf.difference_ <= 0.4
        for known in (False, True) if solver == "plug_in" else (False,):
            with pytest.warns(
                FairnessWarning, match=r"None of the rows to judge is of the groups \[2\]"
            ):
                path = trace((X, y, rare), make_clf(solver=solver), known_groups=known)
            assert path.n_judged == len(y) - 1
            assert path.table["difference"].notna().all()


class TestBound:
    @pytest.mark.parametrize(
        "params", [{}, {"solver": "plug_in"}, {"solver": "plug_in", "rank": 2}]
    )
    @pytest.mark.parametrize("cv", [pytest.param(5, marks=pytest.mark.slow), 3, 0.3])
    def test_is_judged_as_a_path_is(self, data, params, cv):
        X, y, s = data
        clf = make_clf(**params, difference_bound=0.25, cv=cv).fit(X, y, sensitive_features=s)
        path = trace(data, make_clf(**params), cv=cv, weights=[clf.fairness_weight_])
        assert path.table["difference"].iloc[0] == pytest.approx(clf.difference_, abs=0.01)
        assert clf.difference_ <= 0.25
        np.testing.assert_allclose(
            path.classifiers[0].predict_proba(X), clf.predict_proba(X), atol=1e-6
        )
        low, high = clf.difference_interval_
        row = path.table.iloc[0]
        np.testing.assert_allclose(
            [row["difference_low"], row["difference_high"]], [low, high], atol=0.01
        )

    @pytest.mark.parametrize(
        "solver", [pytest.param("closed_form", marks=pytest.mark.slow), "plug_in"]
    )
    def test_with_confidence_is_one_on_the_limit(self, data, solver):
        X, y, s = data
        settings = {"solver": solver, "difference_bound": 0.3}
        plain = make_clf(**settings).fit(X, y, sensitive_features=s)
        sure = make_clf(**settings, confidence=0.95).fit(X, y, sensitive_features=s)
        surer = make_clf(**settings, confidence=0.999).fit(X, y, sensitive_features=s)
        weights = [clf.fairness_weight_ for clf in (plain, sure, surer)]
        assert weights == sorted(weights)
        assert weights[0] < weights[2]
        for clf in (sure, surer):
            assert clf.difference_ < clf.difference_limit_ <= 0.3
            path = trace(data, make_clf(solver=solver), weights=[clf.fairness_weight_])
            limit = path.limits(clf.confidence)[0]
            assert limit == pytest.approx(clf.difference_limit_, abs=0.01)
        # The next weight of the walk does not hold.
        step = 0.05 / bound._STEPS
        weaker = trace(data, make_clf(solver=solver), weights=[sure.fairness_weight_ - step])
        assert weaker.limits(0.95)[0] > 0.3 - 0.01

    def test_that_cannot_be_certified_is_said_with_what_it_takes(self, data):
        X, y, s = data
        clf = make_clf(solver="plug_in", difference_bound=0.05, confidence=0.95)
        with pytest.warns(FairnessWarning, match="cannot be certified") as caught:
            clf.fit(X, y, sensitive_features=s)
        message = str(caught[0].message)
        assert f"smallest bound that can is {clf.difference_limit_:.3f}" in message
        assert "rows like the 900" in message
        assert clf.difference_limit_ > 0.05
        path = trace(data, make_clf(solver="plug_in"), weights=21)
        assert clf.difference_limit_ == pytest.approx(path.limits().min(), abs=0.005)

    def test_at_known_groups_is_another(self, data):
        X, y, s = data
        clf = make_clf(solver="plug_in", difference_bound=0.2, confidence=0.9)
        clf.fit(X, y, sensitive_features=s)
        told = clf.known_groups_
        assert told.difference < told.limit <= 0.2
        path = trace(
            data, make_clf(solver="plug_in"), weights=[told.fairness_weight], known_groups=True
        )
        assert path.table["difference"].iloc[0] == pytest.approx(told.difference)
        np.testing.assert_allclose(
            path.classifiers[0].predict_proba(X, sensitive_features=s),
            clf.predict_proba(X, sensitive_features=s),
        )
        clf.set_params(difference_bound=None, confidence=None, fairness_weight=0.5)
        assert not hasattr(clf.fit(X, y, sensitive_features=s), "known_groups_")

    @pytest.mark.parametrize("solver", ["fine_tune", "closed_form", "plug_in"])
    def test_tells_what_would_have_no_effect(self, data, solver):
        X, y, s = data
        clf = make_clf(solver=solver, fairness_weight=0.5, confidence=0.95)
        with pytest.raises(ValueError, match=r"confidence=0\.95 would have no effect"):
            clf.fit(X, y, sensitive_features=s)
        with pytest.warns(UserWarning, match=r"cv=3 has no effect.*judges difference_bound"):
            clf.set_params(confidence=None, cv=3).fit(X, y, sensitive_features=s)

    def test_a_fold_without_a_class_is_named(self, data):
        X, y, s = data
        order = np.argsort(2 * y + s)
        first, last = order[:100], order[100:]
        clf = make_clf(difference_bound=0.2, cv=[(first, last), (last, first)])
        with pytest.raises(ValueError, match="cv's split 0 has no row of class 1 to fit"):
            clf.fit(X, y, sensitive_features=s)


@pytest.fixture(scope="module")
def found():
    return trace(
        make_data(n=2000),
        make_clf(importance="covariance"),
        solvers=["closed_form", "plug_in"],
        weights=9,
        thresholds=5,
    )


class TestChoose:
    @pytest.mark.parametrize("limit", [0.1, 0.2, 0.4])
    def test_with_confidence_follows_each_curve_from_its_least_limit(self, found, limit):
        chosen = found.choose(limit, confidence=0.95)
        table, limits = found.table, found.limits(0.975)  # two curves share the 5 %
        certified = []
        for solver in ("closed_form", "plug_in"):
            own = (table["solver"] == solver) & (table["positive_share"] == 1.0)
            rows = table[own].sort_values("fairness_weight").index.to_numpy()
            at = limits[rows].argmin()
            while at >= 0 and limits[rows[at]] <= limit:
                certified.append(rows[at])
                at -= 1
        assert certified
        assert chosen in certified
        error = table["weighted_f1_error"]
        assert error[chosen] == error[certified].min()

    def test_more_confidence_costs_more(self, found):
        errors = [
            found.table["weighted_f1_error"][found.choose(0.2, confidence=level)]
            for level in (0.5, 0.95, 0.9999)
        ]
        assert errors == sorted(errors)
        assert errors[0] < errors[2]

    def test_what_cannot_be_certified_is_said(self, found):
        with pytest.warns(FairnessWarning, match=r"within difference_bound=0\.01") as caught:
            chosen = found.choose(0.01, confidence=0.95)
        smallest = found.limits(0.975)[chosen]
        assert f"chosen among them, is {smallest:.3f}" in str(caught[0].message)
        own = found.table["positive_share"] == 1.0
        assert smallest == found.limits(0.975)[own].min()

    @pytest.mark.parametrize("level", [0.4, 1.0, "high", True])
    def test_bad_confidence(self, found, level):
        with pytest.raises(ValueError, match=r"confidence=.*expected a number in"):
            found.choose(0.1, confidence=level)


def test_a_path_has_the_folds_of_its_classifier(data):
    splits = splits_of(data)
    own, given = trace(data, make_clf(cv=splits)), trace(data, make_clf(), cv=splits)
    assert own.table.equals(given.table)
    assert not own.table.equals(trace(data, make_clf()).table)


def test_a_path_says_that_the_groups_were_told(data):
    path = trace(data, make_clf(solver="plug_in"), known_groups=True)
    assert path.known_groups
    assert "900 rows out of fold, groups known" in repr(path)
    with pytest.raises(ValueError, match="known_groups='no'; expected True or False"):
        trace(data, make_clf(solver="plug_in"), known_groups="no")


@pytest.mark.parametrize("confidence", [1.0, True, np.nan, 0.2, "a", None])
def test_limits_want_a_confidence(found, confidence):
    with pytest.raises(ValueError, match=r"confidence=.*expected a number in"):
        found.limits(confidence)


@pytest.mark.parametrize("limit", [np.nan, "a", None])
def test_a_choice_wants_a_bound(found, limit):
    match = "got no difference_bound" if limit is None else "difference_bound=.*expected a number"
    with pytest.raises(ValueError, match=match):
        found.choose(limit)


def test_limits_are_wider_where_the_head_is_fitted_anew():
    y, s = torch.tensor([0, 1] * 50), torch.tensor([0, 0, 1, 1] * 25)
    rows = TensorRows(torch.zeros(100, 1), y, None, s)
    scores = torch.nn.functional.one_hot((torch.arange(100) % 3 > 0).long(), 2).double()
    held_out, anew = (
        JudgedRows(rows, parity(EO, 2), np.array([0, 1]), refit) for refit in (False, True)
    )
    table = anew.table(anew.cells(scores))
    expected = distance_limits(parity(EO, 2), table, table, confidence=0.9, inflation=REFIT)
    assert anew.limit(scores, 0.9) == expected.high > held_out.limit(scores, 0.9)


def test_rows_that_are_judged_are_never_fitted():
    cells = np.repeat(np.arange(4), 25)
    folds = stratified_folds(cells, np.ones(100), 5, np.random.RandomState(0))
    assert isinstance(folds, Folds)
    times = np.zeros(100)
    for part in folds.parts:
        times[part.test] += 1
        assert not set(part.test) & set(part.train)
    assert (times == 1).all()
