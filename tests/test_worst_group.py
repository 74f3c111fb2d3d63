"""The worst cell: its rule is the best that there is, its limits hold, training finds it, too."""

import numpy as np
import pandas as pd
import pytest
import torch
from oracles import worst_optimum
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    FineTune,
    fairness_path,
    load,
    model_report,
)
from skfairft.metrics import fairness_scorer, worst_group_error
from skfairft.parity.constraints import parity
from skfairft.parity.limits import distance_limits, rows_needed
from skfairft.solvers.maximin import MaximinDual
from skfairft.summary import summarize

OVER = {"worst_group": "cells", "worst_error_rate": "groups"}


def draw_cells(seed=0, n=400, k=2, G=2):
    """Probabilities of cells, of which the last is rare, and weights."""
    rng = np.random.default_rng(seed)
    common = rng.dirichlet(np.full(k * G, 2.0))
    common[-1] *= 0.3
    p = rng.dirichlet(5.0 * common, size=n)
    return torch.from_numpy(p), torch.from_numpy(rng.uniform(0.5, 2.0, size=n))


def make_rows(seed=0, n=3000, d=6, classes=("no", "yes")):
    """Rows whose label is easy in three of the four cells of label and group, and rare in one."""
    rng = np.random.default_rng(seed)
    cell = rng.choice(4, size=n, p=[0.45, 0.2, 0.3, 0.05])
    y, s = cell // 2, cell % 2
    X = rng.normal(size=(n, d))
    X[:, 0] += 1.2 * (2 * y - 1)
    X[:, 1] += 2.5 * (2 * s - 1)
    X[:, 0] -= 1.2 * (y & s)
    return X, np.array(classes)[y], np.array(["a", "b"])[s]


def worst(y, pred, s, over="cells"):
    return worst_group_error(y, pred, sensitive_features=s, over=over)


class TestRule:
    @pytest.mark.parametrize("constraint", OVER)
    @pytest.mark.parametrize("weight", [0.3, pytest.param(0.9, marks=pytest.mark.slow), 1.0])
    @pytest.mark.parametrize(("k", "G"), [(2, 2), (2, 3), (3, 2), (3, 4)])
    @pytest.mark.some(2)
    def test_is_that_of_the_linear_program(self, constraint, weight, k, G):
        p, w = draw_cells(k=k, G=G)
        dual = MaximinDual(p, w, parity(constraint, k), n_groups=G)
        found = dual.worst(weight)
        largest = np.nanmax(found.rates)
        best, least = worst_optimum(p, w, constraint, k, G, weight)
        reached = (1.0 - weight) * found.accuracy - weight * largest
        # It decides each row for certain, the program some at random: one per rate at most.
        assert best - 0.02 < reached <= best + 1e-9
        assert found.limit == pytest.approx(least, abs=3e-4)
        assert found.limit <= least + 1e-9
        assert found.accuracy <= found.plain_accuracy + 1e-12
        # Rates that bind are the largest; only of them there is a price.
        assert np.nansum(found.shares * (largest - found.rates)) < 0.02
        # A control: without the weight the worst rate is far from that.
        if constraint == "worst_group" and weight >= 0.9:
            assert np.nanmax(dual.worst(1e-6).rates) > largest + 0.05

    def test_of_a_path_is_that_of_each_weight_alone(self):
        p, w = draw_cells()
        rule = parity("worst_group", 2)
        along = MaximinDual(p, w, rule, n_groups=2)
        weights = np.linspace(0.1, 1.0, 7).tolist()
        for weight in reversed(weights):
            alone = MaximinDual(p, w, rule, n_groups=2).worst(weight)
            found = along.worst(weight)
            value = [
                (1.0 - weight) * each.accuracy - weight * np.nanmax(each.rates)
                for each in (alone, found)
            ]
            assert value[0] == pytest.approx(value[1], abs=0.01)
        rates = [np.nanmax(along.worst(weight).rates) for weight in weights]
        assert rates[-1] < rates[0] - 0.05

    def test_an_integer_weight_is_the_row_so_often(self):
        p, _ = draw_cells(n=60)
        times = torch.from_numpy(np.random.default_rng(0).integers(1, 4, size=60))
        rule = parity("worst_group", 2)
        weighted = MaximinDual(p, times.double(), rule, n_groups=2)
        repeated = p.repeat_interleave(times, dim=0)
        copies = MaximinDual(repeated, torch.ones(len(repeated)).double(), rule, n_groups=2)
        torch.testing.assert_close(weighted.at(0.9), copies.at(0.9), atol=1e-6, rtol=0)

    def test_leaves_a_cell_without_rows_out(self):
        p, w = draw_cells()
        p[:, 3] = 0.0
        rows = torch.tensor([[100, 200], [100, 0]])
        dual = MaximinDual(p, w, parity("worst_group", 2), n_groups=2, rows=rows)
        found = dual.worst(0.9)
        assert np.isnan(found.rates[1, 1])
        assert found.shares[1, 1] == 0.0
        assert np.isfinite(found.limit)

    def test_refuses_probabilities_without_a_cell_that_has_rows(self):
        p, w = draw_cells()
        p[:, 3] = 0.0
        with pytest.raises(ValueError, match="no probability on any row"):
            MaximinDual(p, w, parity("worst_group", 2), n_groups=2)


class TestLimits:
    @pytest.mark.parametrize("constraint", OVER)
    def test_hold_what_they_say(self, constraint):
        """Coverage with known truth: one cell far worse, and all alike."""
        rng = np.random.default_rng(0)
        rule = parity(constraint, 2)
        for error in ([[0.1, 0.1], [0.1, 0.4]], [[0.2, 0.2], [0.2, 0.2]]):
            n, error = np.array([[300, 200], [250, 60]]), np.array(error)
            wrong = rng.binomial(n, error, size=(2000, 2, 2))  # by group and class
            tables = np.zeros((2000, 2, 2, 2))
            for c in range(2):
                tables[:, :, c, c], tables[:, :, c, 1 - c] = (n - wrong)[:, :, c], wrong[:, :, c]
            cells = error if constraint == "worst_group" else (n * error).sum(1) / n.sum(1)
            found = distance_limits(rule, tables, tables, confidence=0.95)
            truth = cells.max()
            assert np.mean(found.high >= truth) > 0.935
            assert np.mean(found.low <= truth) > 0.935
            assert (found.low <= found.distance).all()
            assert (found.distance <= found.high).all()
            # They are no wider than they must be: the interval is not of everything.
            assert np.mean(found.high - found.low) < 0.3

    def test_upper_is_the_largest_of_the_cells(self):
        table = np.array([[[90.0, 10.0], [3.0, 7.0]], [[80.0, 20.0], [10.0, 40.0]]])
        found = distance_limits(parity("worst_group", 2), table, table, confidence=0.95)
        alone = [
            distance_limits(
                parity("worst_error_rate", 2), own[None], own[None], confidence=0.95
            ).high
            for own in (
                np.stack([row * (np.arange(2)[:, None] == c) for c in range(2)]) for row in table
            )
            for own in own
        ]
        assert found.high == pytest.approx(max(alone))
        assert found.distance == pytest.approx(0.3)

    def test_so_many_rows_are_enough(self):
        table = np.array([[[90.0, 10.0], [10.0, 90.0]], [[85.0, 15.0], [20.0, 80.0]]])
        rule = parity("worst_group", 2)
        n = int(rows_needed(rule, table, table, 0.25, n_rows=400, confidence=0.95))
        assert 400 < n < 40_000
        rng = np.random.default_rng(0)
        each = round(n / 4)
        wrong = rng.binomial(each, [[0.1, 0.1], [0.15, 0.2]], size=(1000, 2, 2))
        tables = np.zeros((1000, 2, 2, 2))
        for c in range(2):
            tables[:, :, c, c], tables[:, :, c, 1 - c] = each - wrong[:, :, c], wrong[:, :, c]
        found = distance_limits(rule, tables, tables, confidence=0.95).high
        assert 0.7 < np.mean(found <= 0.25) < 0.95
        assert rows_needed(rule, table, table, 0.15, n_rows=400) == np.inf


class TestClassifier:
    X, y, s = make_rows()
    X_test, y_test, s_test = make_rows(1)

    def fitted(self, **params):
        params = {"constraint": "worst_group", "random_state": 0, **params}
        clf = FairLowRankHeadClassifier(**params)
        return clf.fit(self.X, self.y, sensitive_features=self.s)

    def measured(self, clf, over="cells"):
        return worst(self.y_test, clf.predict(self.X_test), self.s_test, over)

    @pytest.mark.parametrize("solver", ["plug_in", "fine_tune"])
    @pytest.mark.parametrize("constraint", OVER)
    def test_the_worst_is_better_than_without(self, solver, constraint):
        over, (X, y, s) = OVER[constraint], (self.X, self.y, self.s)
        if constraint == "worst_error_rate":  # a rare group, for which other features count
            rng = np.random.default_rng(0)
            X, s = rng.normal(size=(4000, 3)), (rng.random(4000) < 0.1).astype(int)
            y = np.where(s, X[:, 1] > 0.0, X[:, 0] > 0.0).astype(int)
        errors = []
        for weight in (0.0, None):
            clf = FairLowRankHeadClassifier(
                constraint=constraint, solver=solver, fairness_weight=weight, random_state=0
            ).fit(X, y, sensitive_features=s)
            errors.append(worst(y, clf.predict(X), s, over))
        assert clf.fairness_weight_ == 0.9
        assert errors[1] < errors[0] - 0.1

    def test_says_what_it_is_to_reach(self, tmp_path):
        clf = self.fitted(solver="plug_in")
        found = clf.worst_group_
        cells = {(c, g): ((self.y == c) & (self.s == g)).sum() for c in clf.classes_ for g in "ab"}
        assert found.smallest == min(cells, key=cells.get) == ("yes", "b")
        assert found.rows == min(cells.values())
        # On the rows of the fit, which here are many for each weight, it is so.
        pred = clf.predict(self.X)
        assert worst(self.y, pred, self.s) == pytest.approx(found.error, abs=0.04)
        assert np.mean(self.y == pred) == pytest.approx(found.accuracy, abs=0.02)
        assert found.limit <= found.error
        assert found.error < found.limit + 0.02
        assert {cell[:2] for cell in found.binding} >= {("yes", "b")}
        assert sum(share for *_, share in found.binding) == pytest.approx(1.0, abs=0.03)
        assert found.plain_accuracy > found.accuracy + 0.02
        clf.save(tmp_path)
        assert load(tmp_path).worst_group_ == found
        said = str(summarize(clf))
        assert f"{found.rows} , class yes of group b".replace(" ,", ",") in " ".join(said.split())
        other = self.fitted(solver="plug_in", constraint="worst_error_rate").worst_group_
        assert {label for label, *_ in other.binding} == {None}
        assert other.smallest == (None, "b")
        clf.set_params(constraint=None, solver="fine_tune")
        clf.fit(self.X, self.y, sensitive_features=self.s)
        assert not hasattr(clf, "worst_group_")

    def test_counts_rows_whatever_their_classes_weigh(self):
        plain, weighted = (
            self.fitted(solver="plug_in", class_weight=weight).worst_group_
            for weight in (None, {"no": 1.0, "yes": 3.0})
        )
        assert weighted.smallest == plain.smallest
        assert weighted.rows == plain.rows
        assert weighted.error == pytest.approx(plain.error, abs=0.03)

    def test_weighs_a_cell_against_the_others(self):
        errors = [
            self.measured(self.fitted(solver="plug_in", fairness_weight=weight))
            for weight in (0.0, 0.3, 0.9)
        ]
        assert errors[0] > errors[1] > errors[2]

    @pytest.mark.parametrize("solver", ["plug_in", "fine_tune"])
    def test_several_classes_and_groups(self, solver):
        rng = np.random.default_rng(0)
        y, s = rng.choice(3, size=3000, p=[0.6, 0.3, 0.1]), rng.integers(3, size=3000)
        X = rng.normal(size=(3000, 5))
        X[np.arange(3000), y] += 1.0 + 0.7 * s
        X[:, 4] += 2.0 * s
        plain = LogisticRegression().fit(X, y).predict(X)
        clf = FairLowRankHeadClassifier(constraint="worst_group", solver=solver)
        found = clf.fit(X, y, sensitive_features=s).predict(X)
        assert worst(y, found, s) < worst(y, plain, s) - 0.1

    def test_a_bound_is_one_on_the_worst_error(self):
        clf = self.fitted(
            solver="plug_in", fairness_weight=None, difference_bound=0.4, confidence=0.95
        )
        assert clf.bound_met_
        assert clf.difference_ < clf.difference_limit_ <= 0.4
        assert 0.0 < clf.fairness_weight_ < 0.9
        assert self.measured(clf) < 0.4 + 0.02
        with pytest.warns(FairnessWarning, match="cannot be certified"):
            self.fitted(
                solver="plug_in", fairness_weight=None, difference_bound=0.05, confidence=0.95
            )

    def test_a_path_chooses_it(self):
        clf = FairLowRankHeadClassifier(constraint="worst_group", solver="plug_in", random_state=0)
        path = fairness_path(
            clf, self.X, self.y, sensitive_features=self.s, weights=9, thresholds=1, n_boot=0
        )
        chosen = path.choose(by="worst_group")
        least = path.table[path.table["worst_group_error"] == path.table["worst_group_error"].min()]
        assert least["weighted_f1_error"].idxmin() == chosen
        np.testing.assert_array_equal(path.table["difference"], path.table["worst_group_error"])
        plain = self.measured(path.classifiers[0])
        assert self.measured(path.classifiers[chosen]) < plain - 0.2
        # A bound on the constraint's number, and the worst group among what meets it.
        bound = path.table["difference"].median()
        within = path.table[path.table["difference"] <= bound]
        assert path.choose(bound) == within["weighted_f1_error"].idxmin()
        assert path.choose(bound, by="worst_group") == chosen

    def test_a_path_of_another_constraint_chooses_by_it_too(self):
        clf = FairLowRankHeadClassifier(
            constraint="equalized_odds", solver="plug_in", random_state=0
        )
        path = fairness_path(
            clf, self.X, self.y, sensitive_features=self.s, weights=5, thresholds=1, n_boot=0
        )
        chosen = path.choose(by="worst_group")
        assert chosen == path.table["worst_group_error"].idxmin()
        certain = path.choose(0.5, confidence=0.95, by="worst_group")
        assert path.table.loc[certain, "difference"] < 0.5
        for given, match in (
            ({}, "got no difference_bound"),
            ({"by": "worst_group", "confidence": 0.9}, "is that of a bound between groups"),
            ({"by": "worst"}, "expected one of"),
        ):
            with pytest.raises(ValueError, match=match):
                path.choose(**given)

    def test_a_cell_without_rows_is_named_and_left_out(self):
        keep = ~((self.y == "yes") & (self.s == "b"))
        clf = FairLowRankHeadClassifier(constraint="worst_group", solver="plug_in")
        with pytest.warns(FairnessWarning) as caught:
            clf.fit(self.X[keep], self.y[keep], sensitive_features=self.s[keep])
        said = [str(each.message) for each in caught]
        assert sum("'b' has no row of class 'yes'" in each for each in said) == 1
        assert any("is left out" in each for each in said)
        assert set(clf.predict(self.X_test)) == {"no", "yes"}

    def test_the_closed_form_refuses_it(self):
        with pytest.raises(ValueError, match="cannot be held in closed form"):
            self.fitted(solver="closed_form", fairness_weight=0.5)

    def test_known_groups_are_used(self):
        clf = self.fitted(solver="plug_in")
        told = clf.predict(self.X_test, sensitive_features=self.s_test)
        assert worst(self.y_test, told, self.s_test) <= self.measured(clf) + 0.02
        assert (told != clf.predict(self.X_test)).any()

    def test_in_a_pipeline_and_scored(self, routing):
        clf = FairLowRankHeadClassifier(
            constraint="worst_group", solver="plug_in", random_state=0
        ).set_fit_request(sensitive_features=True)
        model = make_pipeline(StandardScaler(), clf)
        model.fit(self.X, self.y, sensitive_features=self.s)
        score = fairness_scorer("worst_group_error")(
            model, self.X_test, self.y_test, sensitive_features=self.s_test
        )
        assert score == pytest.approx(-self.measured(model))
        text = model_report(
            model, self.X_test, self.y_test, sensitive_features=self.s_test, n_boot=0
        ).to_markdown()
        assert "worst-group error" in text


class TestTraining:
    def dro(self, X, y, s, weight, l2):
        """(1 - w) mean + w smooth maximum of the cells' losses, by SciPy."""
        Z = (X - X.mean(axis=0)) / X.std(axis=0)
        Z, sign = np.column_stack([Z, np.ones(len(Z))]), 2.0 * y - 1.0
        cells = 2 * y + s

        def value(theta):
            each = np.logaddexp(0.0, -sign * (Z @ theta))
            of = np.bincount(cells, each) / np.bincount(cells)
            worst = 0.005 * logsumexp(of / 0.005)
            shrunk = l2 / 2 * theta[:-1] @ theta[:-1]
            return (1 - weight) * each.mean() + weight * worst + shrunk

        return minimize(value, np.zeros(Z.shape[1]), tol=1e-12), value

    @pytest.mark.parametrize("weight", [0.5, 0.9])
    def test_ends_where_group_dro_does(self, weight):
        X, y, s = make_rows(n=800, classes=(0, 1))
        s = (s == "b").astype(int)
        clf = FairLowRankHeadClassifier(
            constraint="worst_group", fairness_weight=weight, C=1.0, solver=FineTune(tol=1e-9)
        ).fit(X, y, sensitive_features=s)
        found, value = self.dro(X, y, s, weight, 1.0 / len(y))
        margin = clf.decision_function(X)
        Z = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))])
        theta = np.linalg.lstsq(Z, margin, rcond=None)[0]
        assert value(theta) == pytest.approx(found.fun, abs=1e-5)
        plain = np.append(np.zeros(X.shape[1]), 0.0)
        assert found.fun < value(plain) - 0.01

    def test_minibatches_find_it_too(self):
        X, y, s = make_rows()
        clf = FairLowRankHeadClassifier(
            constraint="worst_group",
            solver=FineTune(lr=0.003, batch_size=500, max_epochs=30, tol=None),
            random_state=0,
        ).fit(X, y, sensitive_features=s)
        whole = FairLowRankHeadClassifier(constraint="worst_group").fit(X, y, sensitive_features=s)
        errors = [worst(y, each.predict(X), s) for each in (clf, whole)]
        assert errors[0] == pytest.approx(errors[1], abs=0.04)


class TestMetric:
    def test_is_one_minus_worst_group_accuracy(self):
        y, pred, s = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, 0]), list("ababbb")
        expected = max(
            np.mean(pred[(y == c) & (np.array(s) == g)] != c)
            for c in (0, 1)
            for g in "ab"
            if ((y == c) & (np.array(s) == g)).any()
        )
        assert worst(y, pred, s) == pytest.approx(expected) == 0.5

    def test_one_group_is_enough(self):
        assert worst([0, 1, 1], [0, 1, 0], [7, 7, 7]) == 0.5

    def test_names_a_cell_without_rows(self):
        with pytest.warns(FairnessWarning, match=r"false negative rate of label 1 in group 'b'"):
            assert worst([0, 1, 0], [0, 1, 1], list("aab")) == 1.0

    def test_refuses_another_over(self):
        with pytest.raises(ValueError, match=r"over='rows'; expected one of \['cells', 'groups'\]"):
            worst([0, 1], [0, 1], [0, 1], over="rows")


class TestOfColumns:
    @pytest.mark.parametrize("constraint", ["worst_group", "worst_error_rate"])
    def test_trains_with_the_strength_that_it_chooses(self, constraint):
        X, y, s = make_rows(n=1000)
        both = pd.DataFrame({"s": s, "third": np.arange(1000) % 3})
        clf = FairLowRankHeadClassifier(constraint=constraint, groups="columns", random_state=0)
        found = clf.fit(X, y, sensitive_features=both)
        errors = [
            worst_group_error(
                y, each.predict(X), sensitive_features=both, groups="columns", over=OVER[constraint]
            )
            for each in (found, FairLowRankHeadClassifier().fit(X, y, sensitive_features=both))
        ]
        assert errors[0] <= errors[1] + 0.02


class TestUnjudged:
    """A cell of no row, or of one, which is kept to fit, is not surely within a bound."""

    @pytest.mark.parametrize("left", [0, 1])
    def test_is_not_certified(self, left):
        X, y, s = make_rows()
        there = ~((y == "yes") & (s == "b"))
        there[np.flatnonzero(~there)[:left]] = True
        clf = FairLowRankHeadClassifier(
            constraint="worst_group",
            difference_bound=0.45,
            confidence=0.95,
            solver="plug_in",
            random_state=0,
        )
        with pytest.warns(FairnessWarning) as caught:
            clf.fit(X[there], y[there], sensitive_features=s[there])
        assert any("cannot be certified" in str(each.message) for each in caught)
        assert not clf.bound_met_
        assert clf.difference_limit_ == 1.0
        assert clf.difference_ < 0.45  # a control: of the others it is


def test_the_penalty_of_training_heeds_how_rare_a_cell_is():
    """By default, and more than where all rows count alike: there is less to go by."""
    X, y, s = make_rows(n=800, d=60)
    chosen = {
        constraint: FairLowRankHeadClassifier(constraint=constraint, C=C, random_state=0)
        .fit(X, y, sensitive_features=s)
        .C_
        for constraint, C in (("worst_group", None), (None, "auto"))
    }
    assert chosen["worst_group"] < 0.8 * chosen[None]
