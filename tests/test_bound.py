"""The weakest weight that meets a bound on rows that its heads have not seen."""

import re

import numpy as np
import pytest
import torch
from flat import flat
from interrupts import Stops
from oracles import PARITIES, parity_distance
from sklearn.model_selection import StratifiedKFold

from skfairft import FairLowRankHeadClassifier, FairnessWarning, FineTune
from skfairft.datasets import make_biased_classification
from skfairft.head.modules import head_scores
from skfairft.parity.constraints import parity
from skfairft.parity.judge import JudgedRows, interval_around
from skfairft.parity.limits import distance_limits
from skfairft.rows.hold_out import hold_out
from skfairft.rows.tensor_rows import TensorRows
from skfairft.solvers import bound
from skfairft.solvers.dual import solve_multipliers
from skfairft.solvers.rule import cell_scores

SOLVERS = ["fine_tune", "closed_form", "plug_in"]
pytestmark = pytest.mark.filterwarnings("ignore:difference_bound=.* is judged by")

DP = "demographic_parity"
GRID = np.linspace(0.0, 1.0, 21)


def make_data(k=2, n=800):
    return make_biased_classification(
        n,
        12,
        n_classes=k,
        n_groups=k,
        n_proxies=4,
        disparity=0.8,
        proxy=2.0,
        class_sep=0.9,
        random_state=0,
    )


@pytest.fixture(scope="module")
def data():
    return make_data()


def make_clf(**params):
    share = {"cv": 0.3} if "difference_bound" in params else {}
    return FairLowRankHeadClassifier(
        **flat(**{"constraint": DP, "random_state": 0, **share, **params})
    )


def fit(data, **params):
    X, y, s = data
    return make_clf(**params).fit(X, y, sensitive_features=s)


def parts(data, fraction=0.3):
    """The rows that were fitted and those held out, as `fit` cuts them."""
    X, y, s = data
    rows = TensorRows(torch.from_numpy(X), torch.from_numpy(y), None, torch.from_numpy(s))
    n_groups = len(np.unique(s))
    apart = hold_out(y * n_groups + s, np.ones(len(y)), fraction, np.random.RandomState(0))
    cut = rows.take(np.delete(np.arange(len(y)), apart)), rows.take(apart)
    return tuple(tuple(part.numpy() for part in (each.Z, each.y, each.codes)) for each in cut)


def distance(rows, predicted, constraint=DP, n_classes=2):
    _, y, s = rows
    return parity_distance(y, predicted, s, constraint, n_classes)


class TestWeakest:
    @pytest.mark.parametrize(
        ("solver", "constraint", "k"),
        [
            ("fine_tune", DP, 2),
            ("closed_form", DP, 2),
            ("closed_form", "equalized_odds", 3),
            ("plug_in", "equalized_odds", 2),
            ("plug_in", DP, 3),
        ],
    )
    def test_meets_the_bound_where_less_does_not(self, solver, constraint, k):
        """Each weight of the grid is fitted alone to the same rows, and measured by definition."""
        data = make_data(k)
        train, held_out = parts(data)
        limit = 0.3 if constraint == DP else 0.45
        clf = fit(data, solver=solver, constraint=constraint, difference_bound=limit)
        predicted = clf.predict(held_out[0])
        assert clf.difference_ == pytest.approx(distance(held_out, predicted, constraint, k))
        assert clf.difference_ <= limit
        assert 0.0 < clf.fairness_weight_ < 1.0

        def alone(weight):
            one = make_clf(solver=solver, constraint=constraint, fairness_weight=weight, tol=1e-7)
            one.fit(train[0], train[1], sensitive_features=train[2])
            return distance(held_out, one.predict(held_out[0]), constraint, k)

        below = GRID[: np.searchsorted(GRID, clf.fairness_weight_ - 1e-9)]
        if solver == "fine_tune":  # from another start training ends a little elsewhere
            below = below[:-1]
        assert min(map(alone, below)) > limit
        assert alone(clf.fairness_weight_) <= limit + (0.05 if solver == "fine_tune" else 1e-9)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_the_step_before_does_not_meet_it(self, data, solver):
        """The search ends within a step of the last halving."""
        train, held_out = parts(data)
        clf = fit(data, solver=solver, difference_bound=0.4)
        step = 0.05 / 2**bound._HALVINGS
        one = make_clf(solver=solver, fairness_weight=clf.fairness_weight_ - 1.001 * step)
        one.fit(train[0], train[1], sensitive_features=train[2])
        slack = 0.03 if solver == "fine_tune" else 0.0
        assert distance(held_out, one.predict(held_out[0])) > 0.4 - slack
        assert (clf.fairness_weight_ / step) == pytest.approx(round(clf.fairness_weight_ / step))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_bound_met_without_it_costs_nothing(self, data, solver):
        train, held_out = parts(data)
        clf = fit(data, solver=solver, difference_bound=0.999)
        assert clf.fairness_weight_ == 0.0
        plain = make_clf(solver=solver, fairness_weight=0.0).fit(
            train[0], train[1], sensitive_features=train[2]
        )
        np.testing.assert_array_equal(
            clf.decision_function(held_out[0]), plain.decision_function(held_out[0])
        )

    @pytest.mark.parametrize("solver", SOLVERS[1:])
    def test_a_tighter_bound_takes_more_weight(self, data, solver):
        weights = [
            fit(data, solver=solver, difference_bound=limit).fairness_weight_
            for limit in (0.7, 0.5, 0.3)
        ]
        assert weights == sorted(weights)
        assert weights[0] < weights[2]

    def test_a_bound_that_cannot_be_met_gives_the_nearest(self, data):
        with pytest.warns(FairnessWarning, match="difference_bound=0.0 was not met") as caught:
            clf = fit(data, solver="closed_form", difference_bound=0.0)
        message = str(caught[0].message)
        assert f"{clf.difference_:.3f}" in message
        assert f"fairness_weight={clf.fairness_weight_:.3g}" in message
        assert caught[0].filename == __file__
        train, held_out = parts(data)
        found = []
        for weight in GRID:
            one = make_clf(solver="closed_form", fairness_weight=weight)
            one.fit(train[0], train[1], sensitive_features=train[2])
            found.append(distance(held_out, one.predict(held_out[0])))
        assert min(found) > 0.0
        assert clf.difference_ == pytest.approx(min(found))
        assert clf.fairness_weight_ == GRID[np.argmin(found)]

    @pytest.mark.parametrize("constraint", PARITIES)
    def test_twice_the_same(self, data, constraint):
        first, second = (
            fit(data, solver="plug_in", constraint=constraint, difference_bound=0.5)
            for _ in range(2)
        )
        assert first.fairness_weight_ == second.fairness_weight_
        np.testing.assert_array_equal(first.difference_interval_, second.difference_interval_)


class TestOutOfFold:
    """Heads of other folds judge each row; a head on all rows is handed out."""

    def folds(self, data):
        X, y, s = data
        return list(StratifiedKFold(3, shuffle=True, random_state=1).split(X, 2 * y + s))

    def judged(self, data, **params):
        """What heads of each fold, fitted alone, decide about the others' rows."""
        X, y, s = data
        out = np.zeros(len(y), dtype=int)
        for train, test in self.folds(data):
            one = make_clf(**params).fit(X[train], y[train], sensitive_features=s[train])
            out[test] = one.predict(X[test])
        return out

    def test_meets_the_bound_where_less_does_not(self, data):
        params = {"solver": "closed_form", "importance": "covariance"}
        clf = fit(data, difference_bound=0.4, cv=self.folds(data), **params)

        def alone(weight):
            return distance(data, self.judged(data, fairness_weight=weight, **params))

        assert clf.difference_ == pytest.approx(alone(clf.fairness_weight_), abs=1e-12)
        assert clf.difference_ <= 0.4
        assert min(map(alone, GRID[clf.fairness_weight_ - 1e-9 > GRID])) > 0.4
        assert alone(clf.fairness_weight_ - 1.001 * 0.05 / 2**bound._HALVINGS) > 0.4
        whole = fit(data, fairness_weight=clf.fairness_weight_, **params)
        X = data[0]
        np.testing.assert_allclose(clf.decision_function(X), whole.decision_function(X), atol=1e-9)

    @pytest.mark.parametrize("known", [False, True])
    @pytest.mark.parametrize("constraint", [DP, "equalized_odds"])
    def test_votes_are_found_on_the_judged_rows(self, data, constraint, known):
        X, y, s = data
        params = {"solver": "plug_in", "constraint": constraint, "C": 1.0}
        clf = fit(data, difference_bound=0.3, cv=self.folds(data), **params)
        weight = clf.known_groups_.fairness_weight if known else clf.fairness_weight_
        assert 0.0 < weight < 1.0

        def cells(head, rows):
            p = head_scores(head[:-1], torch.from_numpy(X[rows])).exp()
            if known:
                p = p * (torch.arange(4) % 2 == torch.from_numpy(s[rows])[:, None])
            return p / p.sum(dim=1, keepdim=True)

        p = torch.zeros(len(y), 4, dtype=torch.float64)
        for train, test in self.folds(data):
            one = make_clf(fairness_weight=0.0, **params)
            one.fit(X[train], y[train], sensitive_features=s[train])
            p[test] = cells(one.head_, test)
        rule, w = parity(constraint, 2), torch.ones(len(y)).double()
        removed = np.append(GRID[weight - 1e-9 > GRID], weight)
        multipliers, count = solve_multipliers(p, w, rule, n_groups=2, removed=removed)

        def decided(p, at):
            return (p @ cell_scores(rule, at, count).flatten(0, 1)).argmax(dim=1).numpy()

        reached = [distance(data, decided(p, at), constraint) for at in multipliers]
        difference = clf.known_groups_.difference if known else clf.difference_
        # Near the boundary the multipliers' start decides.
        assert difference == pytest.approx(reached[-1], abs=0.01)
        assert difference <= 0.3 < min(reached[:-1])
        whole = cells(fit(data, fairness_weight=0.0, **params).head_, np.arange(len(y)))
        found = clf.predict(X, sensitive_features=s if known else None)
        assert np.mean(found == decided(whole, multipliers[-1])) > 0.99
        assert np.mean(found == decided(whole, multipliers[0])) < 0.97

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_by_default_all_rows_judge(self, data, solver):
        """And are fitted, by a head that judges none of them."""
        X = data[0]
        clf = fit(data, solver=solver, difference_bound=0.999, cv=5)
        plain = fit(data, solver=solver, fairness_weight=0.0)
        np.testing.assert_allclose(clf.decision_function(X), plain.decision_function(X), atol=1e-9)
        own = distance(data, plain.predict(X))
        assert clf.difference_ != own
        assert clf.difference_ == pytest.approx(own, abs=0.1)

    def test_rows_of_no_fold_are_fitted_alone(self, data):
        X, y, s = data
        never = np.arange(len(y)) < 200
        folds = [(train, test[~never[test]]) for train, test in self.folds(data)]
        poisoned = X, y, np.where(never, 1 - s, s)
        for params in ({}, {"confidence": 0.9}):
            clf = fit(data, solver="closed_form", difference_bound=0.9, cv=folds, **params)
            other = fit(poisoned, solver="closed_form", difference_bound=0.9, cv=folds, **params)
            assert clf.difference_ == other.difference_  # at weight 0 groups are not fitted
            assert clf.fairness_weight_ == 0.0


class TestConfidence:
    @pytest.mark.parametrize(
        ("cv", "solver"),
        [
            *((0.3, solver) for solver in SOLVERS),
            (3, "closed_form"),
            (3, "plug_in"),
            # Training in each fold takes as long as all the others; how folds judge is the same.
            pytest.param(3, "fine_tune", marks=pytest.mark.slow),
        ],
    )
    def test_the_limit_is_held_to_the_bound(self, data, solver, cv):
        clf, plain = (
            fit(data, solver=solver, difference_bound=0.5, cv=cv, confidence=confidence)
            for confidence in (0.95, None)
        )
        assert clf.difference_ < clf.difference_limit_ <= 0.5 < plain.difference_limit_
        assert clf.fairness_weight_ > plain.fairness_weight_

    @pytest.mark.parametrize("solver", SOLVERS[1:])
    def test_the_walk_ends_at_the_first_that_fails(self, data, solver):
        train, held_out = parts(data)
        params = {"solver": solver, "difference_bound": 0.5, "confidence": 0.9}
        clf = fit(data, **params)

        def limit(weight):
            one = make_clf(solver=solver, fairness_weight=weight)
            one.fit(train[0], train[1], sensitive_features=train[2])
            table = np.zeros((2, 2, 2))
            np.add.at(table, (held_out[2], held_out[1], one.predict(held_out[0])), 1.0)
            return float(distance_limits(parity(DP, 2), table, table, confidence=0.9).high)

        weight = clf.fairness_weight_
        assert clf.difference_limit_ == pytest.approx(limit(weight), abs=1e-9)
        limits = np.array([limit(each) for each in GRID])
        start = limits.argmin()
        between = np.flatnonzero((weight - 1e-9 <= GRID) & (np.arange(21) <= start))
        assert (limits[between] <= 0.5).all()
        step = 0.05 / bound._STEPS
        assert limit(weight - step) > 0.5
        assert weight / step == pytest.approx(round(weight / step))

    def test_more_confidence_takes_more_weight(self, data):
        weights = [
            fit(
                data, solver="plug_in", difference_bound=0.5, cv=5, confidence=each
            ).fairness_weight_
            for each in (0.5, 0.9, 0.999)
        ]
        assert weights[0] < weights[1] < weights[2]

    def test_what_cannot_be_certified_is_said_with_the_rows_that_it_takes(self, data):
        match = r"difference_bound=0.05 cannot be certified.*smallest bound that can is (0\.\d+)"
        with pytest.warns(FairnessWarning, match=match) as caught:
            clf = fit(data, solver="plug_in", difference_bound=0.05, cv=5, confidence=0.95)
        assert caught[0].filename == __file__
        message = str(caught[0].message)
        assert f"{clf.difference_limit_:.3f}" in message
        assert f"{clf.difference_:.3f}" in message
        assert clf.difference_limit_ > 0.05
        rows = int(re.search(r"about ([\d,]+) rows like the 800", message)[1].replace(",", ""))
        assert 800 < rows < 80_000

    def test_or_that_they_do_not_tell(self, data):
        with pytest.warns(FairnessWarning, match="rows are themselves beyond it, by chance or not"):
            fit(make_data(3), solver="closed_form", difference_bound=0.01, cv=5, confidence=0.95)


class TestAttributes:
    @pytest.mark.parametrize("limit", [0.05, 0.4])
    def test_the_interval_holds_the_difference(self, data, limit):
        clf = fit(data, solver="plug_in", difference_bound=limit)
        low, high = clf.difference_interval_
        assert low <= clf.difference_ <= high
        # As wide as a binomial's: of two groups with 120 held-out rows each.
        assert 0.1 < high - low < 0.3

    def test_more_rows_make_it_narrower(self):
        widths = [
            np.ptp(
                fit(make_data(n=n), solver="closed_form", difference_bound=0.4).difference_interval_
            )
            for n in (400, 6400)
        ]
        assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.3)

    def test_go_with_the_bound(self, data):
        X, y, s = data
        clf = fit(data, solver="closed_form", difference_bound=0.4)
        assert isinstance(clf.difference_, float)
        clf.set_params(difference_bound=None, cv=5, fairness_weight=0.25)
        clf.fit(X, y, sensitive_features=s)
        assert clf.fairness_weight_ == 0.25
        names = ("difference_", "difference_interval_", "difference_limit_", "known_groups_")
        assert not [name for name in names if hasattr(clf, name)]

    def test_held_out_rows_are_used_for_nothing_else(self, data):
        """Whatever the features held out are, each weight's head is the same."""
        X, y, s = data
        _, (held_out, _, _) = parts(data)
        poisoned = np.where(np.isin(X[:, :1], held_out[:, :1]), 1e3 * X, X)
        params = {"solver": "closed_form", "difference_bound": 0.999}
        assert not np.array_equal(poisoned, X)
        clean, other = fit(data, **params), fit((poisoned, y, s), **params)
        np.testing.assert_array_equal(other.decision_function(X), clean.decision_function(X))
        assert other.difference_ != clean.difference_


def test_an_interrupted_search_has_no_answer(data):
    X, y, s = data
    clf = make_clf(difference_bound=0.05, solver=FineTune(callbacks=[Stops(3)]))
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y, sensitive_features=s)
    assert not hasattr(clf, "head_")


class TestTooFewHeldOut:
    def few(self, n_positive):
        """Rows of which one group has few positives."""
        X, y, s = make_data()
        keep = (y == 0) | (s == 1) | (np.cumsum((y == 1) & (s == 0)) <= n_positive)
        return X[keep], y[keep], s[keep]

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_is_an_error_before_anything_is_fitted(self, solver):
        rows = self.few(2)
        params = {"constraint": "equalized_odds", "cv": 0.1, "solver": solver}
        with pytest.raises(ValueError, match=r"in 1 of 2 groups, among \d+ rows. Judge by more"):
            fit(rows, difference_bound=0.2, **params)
        assert np.isfinite(fit(self.few(30), difference_bound=1.9, **params).difference_)

    def test_groups_without_rows_are_named(self):
        y, codes = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([0, 0, 1, 1, 2])
        rows = TensorRows(torch.zeros(5, 1), y, None, codes)
        groups = np.array(["a", "b", "c"], dtype=object)
        with pytest.warns(FairnessWarning, match=r"groups \['c'\] lack a class"):
            JudgedRows(rows, parity("true_positive_rate_parity", 2), groups).warn_of_empty()
        JudgedRows(rows, parity(DP, 2), groups).warn_of_empty()  # asks for no class

    def test_groups_without_any_are_named_once(self):
        X, y, s = make_biased_classification(300, random_state=0)
        s[0] = 2
        with pytest.warns(FairnessWarning) as record:
            fit((X, y, s), difference_bound=0.9, solver="plug_in", constraint=DP)
        said = [str(each.message) for each in record]
        assert sum("None of the rows to judge is of the groups [2]" in each for each in said) == 1
        assert not any("lack a class" in each for each in said)


class TestInterval:
    def test_is_that_of_the_quantiles(self):
        samples = np.random.default_rng(0).normal(size=1000)
        np.testing.assert_allclose(
            interval_around(0.0, samples), np.quantile(samples, [0.025, 0.975])
        )

    def test_holds_the_value(self):
        samples = np.linspace(0.5, 1.0, 101)
        assert interval_around(0.2, samples)[0] == 0.2
        assert interval_around(1.2, samples)[1] == 1.2

    def test_leaves_out_what_is_undefined(self):
        samples = np.array([0.1, np.nan, 0.1])
        np.testing.assert_allclose(interval_around(0.1, samples), 0.1)
        assert np.isnan(interval_around(np.nan, np.full(3, np.nan))).all()
        assert np.isnan(interval_around(0.1, np.empty(0))).all()


def test_a_bound_that_a_constant_meets_is_said(data):
    """A cut that keeps the bias depends on where the features have their zero."""
    X, y, s = make_biased_classification(600, 6, n_classes=3, disparity=0.5, random_state=1)
    params = {"solver": "closed_form", "rank": 1, "difference_bound": 0.15}
    with pytest.warns(FairnessWarning, match=r"decides all 180 judged rows alike"):
        clf = fit((X + 100.0, y, s), **params)
    assert len(np.unique(clf.predict(X + 100.0))) == 1
    # The covariance does not.
    here, away = (fit((Z, y, s), **params, importance="covariance") for Z in (X, X + 100.0))
    assert here.fairness_weight_ == away.fairness_weight_ > 0
    np.testing.assert_array_equal(here.predict(X), away.predict(X + 100.0))
