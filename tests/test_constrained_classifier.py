"""The classifier with a parity constraint: what each solver removes, keeps, and goes with."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.metrics import MetricFrame, selection_rate
from fairlearn.postprocessing import ThresholdOptimizer
from flat import flat
from oracles import PARITIES, parity_distance
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import LRScheduler
from torch import nn

from skfairft import FairLowRankHeadClassifier, FairnessWarning, FineTune
from skfairft.datasets import make_biased_classification
from skfairft.fitting import prepare
from skfairft.head.cells import CellVote
from skfairft.head.modules import head_scores
from skfairft.lowrank.layer import LowRankHead
from skfairft.metrics import demographic_parity_distance, fairness_scorer
from skfairft.parity.constraints import parity
from skfairft.parity.judge import JudgedRows
from skfairft.parity.sums import mass_table
from skfairft.rows.tensor_rows import TensorRows
from skfairft.solvers.registry import resolve_solver
from skfairft.solving import _report_share

SOLVERS = ["fine_tune", "closed_form", "plug_in"]
DP, EO = "demographic_parity", "equalized_odds"
D = 16


def make_data(k=2, n=600, n_groups=None):
    return make_biased_classification(
        n,
        D,
        n_classes=k,
        n_groups=n_groups or k,
        n_informative=6,
        n_proxies=4,
        disparity=0.8,
        proxy=2.0,
        class_sep=0.9,
        random_state=0,
    )


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def three():
    return make_data(3, 900)


def fit(data, w=None, **params):
    X, y, s = data
    params = {"constraint": DP, "random_state": 0, **params}
    if "difference_bound" not in params:
        params.setdefault("fairness_weight", 0.0)
    return FairLowRankHeadClassifier(**flat(**params)).fit(
        X, y, sample_weight=w, sensitive_features=s
    )


def distance(data, predicted, constraint=DP):
    _, y, s = data
    return parity_distance(y, predicted, s, constraint, len(np.unique(y)))


class TestSolvers:
    @pytest.mark.parametrize("k", [2, 3])
    # These groups err alike; for error_rate_parity see test_constraint_table.
    @pytest.mark.parametrize("constraint", [c for c in PARITIES if c != "error_rate_parity"])
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.some(3)
    def test_take_the_distance_away(self, data, three, solver, constraint, k):
        rows = data if k == 2 else three
        X, y, _ = rows
        found = {}
        for weight in (0.0, 0.5, 1.0):
            clf = fit(rows, constraint=constraint, solver=solver, fairness_weight=weight)
            found[weight] = distance(rows, clf.predict(X), constraint)
        assert found[0.0] > 0.25
        assert found[1.0] < found[0.5] < found[0.0]
        assert found[1.0] < 0.35 * found[0.0]
        # Not by giving up: each class is still predicted, and better than by its share.
        predicted = clf.predict(X)
        assert np.bincount(predicted, minlength=k).min() > 0.005 * len(X)
        if (solver, constraint, k) != ("closed_form", "false_positive_rate_parity", 3):
            # There the mixes of other labels differ between groups, and linear parity among their
            # rows takes the labels away as well.
            assert np.mean(predicted == y) > np.bincount(y).max() / len(y) + 0.02

    @pytest.mark.parametrize("rank", [None, 1])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_weight_zero_is_no_constraint(self, three, solver, rank):
        X = three[0]
        plain, zero, held = (
            fit(three, solver=solver, rank=rank, **settings).decision_function(X)
            for settings in (
                {"constraint": None},
                {"fairness_weight": 0.0},
                {"fairness_weight": 0.9},
            )
        )
        np.testing.assert_array_equal(zero, plain)
        assert np.abs(held - plain).max() > 0.1

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_prediction_is_of_each_row_alone(self, data, solver):
        X = data[0]
        clf = fit(data, solver=solver, fairness_weight=0.8)
        one_by_one = np.concatenate([clf.predict_proba(row[None]) for row in X[:20]])
        np.testing.assert_allclose(one_by_one, clf.predict_proba(X)[:20], rtol=1e-9)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_the_same_twice(self, three, solver):
        X = three[0]
        settings = {"solver": solver, "constraint": EO, "fairness_weight": 0.7}
        first, second = (fit(three, **settings).decision_function(X) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_second_fit_starts_afresh(self, data, solver):
        X, y, s = data
        clf = fit(data, solver=solver, fairness_weight=0.9)
        expected = clf.decision_function(X)
        clf.set_params(fairness_weight=0.0).fit(X, y, sensitive_features=s)
        assert clf.fairness_weight_ == 0.0
        assert not np.allclose(clf.decision_function(X), expected, atol=0.1)
        clf.set_params(fairness_weight=0.9).fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(clf.decision_function(X), expected)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_weight_of_two_is_the_row_twice(self, data, solver):
        X = data[0]
        w = np.random.default_rng(0).integers(1, 4, size=len(X))
        # C is given: folds by which one is chosen divide the copies.
        tight = {"solver": solver, "constraint": EO, "fairness_weight": 0.5, "tol": 1e-9, "C": 1.0}
        weighted = fit(data, w, **tight).predict_proba(X)
        repeated = fit(tuple(np.repeat(part, w, axis=0) for part in data), **tight)
        np.testing.assert_allclose(weighted, repeated.predict_proba(X), atol=2e-3)
        # Control: the weights matter.
        assert np.abs(fit(data, **tight).predict_proba(X) - weighted).max() > 0.02

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_intersections_of_columns_are_groups(self, data, solver):
        X, y, s = data
        frame = pd.DataFrame({"sex": np.array(["f", "m"])[s], "old": X[:, -1] > 0})
        rows = X, y, 2 * s + frame["old"].to_numpy()
        apart = []
        for weight in (0.0, 1.0):
            clf = fit((X, y, frame), solver=solver, fairness_weight=weight)
            apart.append(distance(rows, clf.predict(X)))
        assert clf.groups_.tolist() == [("f", False), ("f", True), ("m", False), ("m", True)]
        assert apart[1] < 0.35 * apart[0]
        by_code = fit(rows, solver=solver, fairness_weight=1.0)
        np.testing.assert_array_equal(by_code.decision_function(X), clf.decision_function(X))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_names_of_classes_and_groups_do_not_matter(self, data, solver):
        X, y, s = data
        named = fit((X, np.array(["no", "yes"])[y], np.array(["f", "m"])[s]), solver=solver)
        np.testing.assert_array_equal(
            named.predict(X) == "yes", fit(data, solver=solver).predict(X) == 1
        )

    def test_minibatches_come_near_to_all_rows_at_once(self, data):
        X = data[0]
        held = fit(data, fairness_weight=0.5).predict_proba(X)
        batches = {
            "batch_size": 100,
            "lr": 0.02,
            "callbacks": [LRScheduler("ExponentialLR", gamma=0.9)],
            "max_epochs": 50,
            "tol": None,
        }
        found = fit(data, fairness_weight=0.5, **batches).predict_proba(X)
        assert np.abs(found - held).mean() < 0.02
        free = fit(data, **batches).predict_proba(X)
        assert np.abs(free - held).mean() > 0.2

    def test_the_paper_s_penalty(self, data):
        """``calibrate=False`` is loss + intensity x disparity: the more of it, the less of that."""
        X = data[0]
        settings = {"calibrate": False, "lr": 0.05, "max_epochs": 12, "tol": None}
        found = [
            distance(data, fit(data, fairness_weight=w, **settings).predict(X))
            for w in (0.0, 0.5, 0.9)
        ]
        assert found[0] > found[1] + 0.1
        assert found[1] > found[2] + 0.1

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.filterwarnings("ignore:Some groups are too thin")
    def test_a_group_without_a_class_may_be_held_to_demographic_parity(self, data, solver):
        X, y, s = (part[~((data[1] == 1) & (data[2] == 0))] for part in data)
        apart = []
        for weight in (0.0, 1.0):
            predicted = fit((X, y, s), solver=solver, fairness_weight=weight).predict(X)
            apart.append(demographic_parity_distance(y, predicted, sensitive_features=s))
        assert apart[1] < 0.4 * apart[0]


class TestRank:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("rank", [1, 2])
    def test_bounds_the_parameters(self, three, solver, rank):
        clf = fit(three, solver=solver, rank=rank, fairness_weight=0.5)
        assert clf.rank_ == rank
        outputs = 9 if solver == "plug_in" else 3
        parameters = sum(each.numel() for each in clf.head_.parameters())
        assert parameters == D * rank + rank * outputs + outputs

    def test_bites_where_cells_are_told_apart(self, data):
        """Label and group are two directions: one is too few, unlike for two classes alone."""
        X, y, s = data
        losses = {}
        for solver in ("fine_tune", "plug_in"):
            for rank in (1, 2, None):
                head, cells = fit(data, solver=solver, rank=rank).head_, solver == "plug_in"
                scores = head_scores(head[0] if cells else head, torch.from_numpy(X))
                target = torch.from_numpy(2 * y + s if cells else y)
                losses[solver, rank] = float(nn.functional.cross_entropy(scores, target))
        assert losses["plug_in", 1] > losses["plug_in", None] + 0.08
        assert losses["plug_in", 2] == pytest.approx(losses["plug_in", None], abs=0.01)
        assert losses["fine_tune", 1] == pytest.approx(losses["fine_tune", None], abs=0.01)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_low_rank_is_fair_too(self, data, solver):
        X = data[0]
        found = [
            distance(data, fit(data, solver=solver, rank=2, fairness_weight=w).predict(X))
            for w in (0.0, 1.0)
        ]
        assert found[1] < 0.35 * found[0]


class TestHiddenLayer:
    @pytest.mark.parametrize(
        "solver",
        [SOLVERS[0], *(pytest.param(each, marks=pytest.mark.slow) for each in SOLVERS[1:])],
    )
    def test_fits_and_takes_the_distance_away(self, data, solver):
        X, y, _ = data
        head = nn.Sequential(nn.Linear(D, 12), nn.ReLU())
        before = copy.deepcopy(head.state_dict())
        settings = {"head": head, "rank": 4, "solver": solver}
        found = {}
        for weight in (0.0, 1.0):
            clf = fit(data, fairness_weight=weight, **settings)
            found[weight] = distance(data, clf.predict(X))
        assert np.mean(clf.predict(X) == y) > 0.52
        if solver == "closed_form":  # the layer is moved towards parity, the output behind it not
            assert found[1.0] <= found[0.0]
        else:
            assert found[1.0] < 0.5 * found[0.0]
        assert clf.rank_ == 4
        assert all(torch.equal(before[name], value) for name, value in head.state_dict().items())

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_goes_with_the_votes_and_back(self, data, solver):
        X = data[0]
        head = nn.Sequential(nn.Linear(D, 12), nn.ReLU())
        clf = fit(data, head=head, solver=solver, fairness_weight=0.5, lr=0.01)
        with torch.no_grad():
            found = clf.to_torch()(torch.from_numpy(X))
        np.testing.assert_allclose(found, clf.decision_function(X), atol=1e-9)


class TestVotes:
    @pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
    @pytest.mark.parametrize("k", [2, 3])
    def test_all_outputs_agree(self, data, three, k, weight):
        rows = data if k == 2 else three
        X = rows[0]
        clf = fit(rows, solver="plug_in", fairness_weight=weight)
        proba = clf.predict_proba(X)
        assert isinstance(clf.head_[-1], CellVote)
        assert ((proba >= 0) & (proba <= 1)).all()
        np.testing.assert_allclose(proba.sum(axis=1), 1.0)
        np.testing.assert_array_equal(clf.predict(X), clf.classes_[proba.argmax(axis=1)])
        scores = clf.decision_function(X)
        if k == 2:
            np.testing.assert_array_equal(clf.predict(X), scores > 0)
        with torch.no_grad():
            found = clf.to_torch()(torch.from_numpy(X))
        assert found.shape == ((len(X),) if k == 2 else (len(X), k))
        np.testing.assert_allclose(found, scores, atol=1e-12)

    def test_are_the_cells_probabilities(self, three):
        X = three[0]
        free, fair = (fit(three, solver="plug_in", fairness_weight=w) for w in (0.0, 0.9))
        cells = torch.softmax(head_scores(free.head_[0], torch.from_numpy(X)), dim=1)
        summed = cells.reshape(-1, 3, 3).sum(dim=2)  # over the groups of each label
        np.testing.assert_allclose(free.predict_proba(X), summed, atol=1e-12)
        # The constraint changes only how the same cells vote.
        for ours, theirs in zip(
            free.head_[0].parameters(), fair.head_[0].parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)
        assert not torch.allclose(free.head_[1].vote, fair.head_[1].vote, atol=0.1)
        voted = cells @ fair.head_[1].vote
        np.testing.assert_allclose(fair.predict_proba(X), voted, atol=1e-12)

    def test_with_an_extractor_in_single_precision(self, data):
        X = data[0].astype(np.float32)
        rows = X, *data[1:]
        clf = fit(rows, feature_extractor=nn.Linear(D, 8), solver="plug_in", fairness_weight=0.9)
        with torch.no_grad():
            found = clf.to_torch()(torch.from_numpy(X))
        np.testing.assert_allclose(found, clf.decision_function(X), atol=1e-5)

    def test_of_rows_far_away_are_finite(self, data):
        """Where all cells but some are impossible, so may be a class."""
        clf = fit(data, solver="plug_in")
        far = 1e6 * data[0][:50]
        assert np.isfinite(clf.decision_function(far)).all()
        proba = clf.predict_proba(far)
        assert np.isfinite(proba).all()
        np.testing.assert_allclose(proba.sum(axis=1), 1.0)

    def test_of_cells_that_occur(self, data):
        X, y, s = (part[~((data[1] == 1) & (data[2] == 0))] for part in data)
        with pytest.warns(match="0 has no row of class"):
            clf = fit((X, y, s), solver="plug_in", fairness_weight=0.5)
        assert clf.head_[-1].vote.shape == (3, 2)

    def test_of_rows_without_weight_are_none(self, data):
        X = data[0]
        w = np.ones(len(X))
        w[::3] = 0.0
        kept = tuple(part[w > 0] for part in data)
        settings = {"solver": "plug_in", "constraint": EO, "fairness_weight": 0.8}
        np.testing.assert_allclose(
            fit(data, w, **settings).predict_proba(X),
            fit(kept, **settings).predict_proba(X),
            atol=1e-4,
        )


class TestCopies:
    @pytest.mark.parametrize("bound", [None, 0.4])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_round_trip(self, data, solver, bound):
        X, y, s = data
        weight = {"fairness_weight": 0.7}
        if bound:
            weight = {"difference_bound": bound, "cv": 0.3}
        clf = fit(data, solver=solver, rank=2, **weight)
        for again in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
            for method in ("predict", "predict_proba", "decision_function"):
                np.testing.assert_array_equal(getattr(again, method)(X), getattr(clf, method)(X))
            assert again.fairness_weight_ == clf.fairness_weight_
            assert repr(again) == repr(clf)
            assert hasattr(again, "difference_") == bool(bound)
        fresh = clone(clf)
        assert not hasattr(fresh, "head_")
        assert fresh.get_params() == clf.get_params()
        fresh.fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(fresh.decision_function(X), clf.decision_function(X))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_the_data_stay_behind(self, solver):
        sizes = []
        for n in (300, 1500):
            clf = fit(make_data(n=n), solver=solver, fairness_weight=0.5, max_epochs=5, tol=None)
            sizes.append(len(pickle.dumps(clf)))
        assert abs(sizes[1] - sizes[0]) < 500

    @pytest.mark.parametrize(
        "solver",
        [
            "fine_tune",
            "plug_in",
        ],
    )
    def test_warm_start_of_a_settled_head_changes_nothing(self, data, solver):
        X, y, s = data
        clf = fit(data, solver=solver, fairness_weight=0.5, max_epochs=200, tol=1e-7)
        before = clf.predict_proba(X)
        clf.set_params(warm_start=True).fit(X, y, sensitive_features=s)
        np.testing.assert_allclose(clf.predict_proba(X), before, atol=0.02)


@pytest.mark.usefixtures("routing")
class TestComposition:
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_grid_search_over_the_weight_in_a_pipeline(self, data, solver):
        X, y, s = data
        clf = FairLowRankHeadClassifier(constraint=DP, solver=solver, random_state=0)
        model = make_pipeline(StandardScaler(), clf.set_fit_request(sensitive_features=True))
        name = "fairlowrankheadclassifier__fairness_weight"
        search = GridSearchCV(
            model,
            {name: [0.0, 0.5, 1.0]},
            scoring={
                "accuracy": "accuracy",
                "parity": fairness_scorer("demographic_parity_distance"),
            },
            refit="parity",
            cv=3,
            error_score="raise",
        ).fit(X, y, sensitive_features=s)
        parity = -search.cv_results_["mean_test_parity"]
        assert parity[0] > parity[1] > parity[2]
        assert parity[2] < 0.4 * parity[0]
        assert search.best_params_ == {name: 1.0}
        assert distance(data, search.predict(X)) < 0.4 * parity[0]

    def test_grid_search_over_solvers_and_ranks(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(constraint=DP, fairness_weight=0.5, random_state=0)
        search = GridSearchCV(
            clf.set_fit_request(sensitive_features=True),
            {"solver": SOLVERS, "rank": [1, None]},
            cv=2,
            error_score="raise",
        ).fit(X, y, sensitive_features=s)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()


class TestFairlearn:
    @pytest.mark.parametrize("weight", [0.0, 0.5])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_threshold_optimizer_takes_the_rest_away(self, data, solver, weight):
        X, y, s = data
        clf = fit(data, solver=solver, fairness_weight=weight)
        model = ThresholdOptimizer(estimator=clf, prefit=True, predict_method="predict_proba")
        model.fit(X, y, sensitive_features=s)
        fair = model.predict(X, sensitive_features=s, random_state=0)
        before = distance(data, clf.predict(X))
        assert before > 0.2
        assert distance(data, fair) < 0.06
        assert accuracy_score(y, fair) > 0.55

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_metric_frame(self, data, solver):
        X, y, s = data
        clf = fit(data, solver=solver, fairness_weight=0.9)
        frame = MetricFrame(
            metrics=selection_rate, y_true=y, y_pred=clf.predict(X), sensitive_features=s
        )
        assert frame.difference() == pytest.approx(distance(data, clf.predict(X)))


def test_the_head_is_that_of_the_solver(data):
    heads = {solver: fit(data, solver=solver, rank=1).head_ for solver in SOLVERS}
    assert isinstance(heads["fine_tune"], LowRankHead)
    assert isinstance(heads["closed_form"], LowRankHead)
    assert [type(part) for part in heads["plug_in"]] == [LowRankHead, CellVote]
    assert len(fit(data, solver="closed_form").history_) == 0


class TestShareThatIsTaken:
    """A weight that takes away much less than it says is reported."""

    clf = FairLowRankHeadClassifier(constraint=DP, solver="closed_form", fairness_weight=1.0)

    def report(self, before, after, **params):
        """Of two groups of 100 rows, of which that many more in the second are accepted."""
        rows = TensorRows(
            torch.arange(200.0)[:, None].double(),
            torch.arange(200) % 2,
            None,
            torch.arange(200) // 100,
        )
        clf = clone(self.clf).set_params(**params)
        judge = JudgedRows(rows, parity(DP, 2), np.arange(2))

        def accept(count):  # the last ones, all of the second group
            weight = torch.tensor([[0.0, 1.0]]).double()
            return LowRankHead(weight, None, torch.tensor([200.0 - count - 0.5, 0.0]).double())

        fitted = SimpleNamespace(head=accept(after))
        solver = resolve_solver(clf.solver)
        _report_share(clf, solver, clf.fairness_weight, judge, accept(before), fitted)

    def test_what_is_reported(self):
        self.report(40, 20)
        with pytest.warns(FairnessWarning, match='was 0.400 .* is 0.390 now.*"covariance"'):
            self.report(40, 39)
        with pytest.warns(FairnessWarning, match="another solver"):
            self.report(40, 39, importance="covariance")
        self.report(40, 39, fairness_weight=0.1)
        self.report(1, 1)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_the_head_that_a_constraint_starts_from(self, data, solver):
        X, y, s = data
        plain = fit(data, solver=solver, fairness_weight=0.0, rank=None)
        fair = fit(data, solver=solver, fairness_weight=0.5, rank=None)
        problem, _ = prepare(clone(plain), X, y, None, s)
        fitter = resolve_solver(solver).fitter(problem, 0)
        found = head_scores(fitter.unconstrained(), problem.rows.Z).argmax(dim=1).numpy()
        assert (found == plain.predict(X)).mean() > 0.99
        assert (found == fair.predict(X)).mean() < 0.97

    def test_warm_start_after_another_head_starts_afresh(self, data):
        X, y, s = data
        layer = nn.Sequential(nn.Linear(X.shape[1], 4), nn.ReLU())
        clf = fit(
            data,
            head=layer,
            fairness_weight=0.5,
            warm_start=True,
            solver=FineTune(max_epochs=5, tol=None),
        )
        clf.set_params(head=None, solver__max_epochs=100, solver__tol=1e-4).fit(
            X, y, sensitive_features=s
        )
        np.testing.assert_allclose(
            clf.predict_proba(X), fit(data, fairness_weight=0.5).predict_proba(X), atol=1e-6
        )


class TestClassWeights:
    """They say what errors cost; the rates that are to be equal are those of the rows."""

    @pytest.mark.parametrize("constraint", PARITIES)
    @pytest.mark.parametrize("k", [2, 3])
    def test_rates_are_those_of_the_rows_without_them(self, k, constraint):
        rng = np.random.default_rng(0)
        p = torch.from_numpy(rng.dirichlet(np.ones(k), size=200))
        y, s = (torch.from_numpy(rng.integers(n, size=200)) for n in (k, 3))
        w, factors = torch.from_numpy(rng.random(200)), np.array([0.2, 5.0, 1.7][:k])
        plain, scaled = parity(constraint, k), parity(constraint, k, factors)
        mass, count = mass_table(p, TensorRows(p, y, w, s), n_groups=3)
        weighted = mass_table(p, TensorRows(p, y, w * torch.from_numpy(factors)[y], s), n_groups=3)
        rates = plain.rates(mass, count)
        torch.testing.assert_close(scaled.rates(*weighted), rates)
        torch.testing.assert_close(
            scaled.gaps(scaled.rates(*weighted), weighted[1]), plain.gaps(rates, count)
        )

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_weight_of_1_is_parity_on_the_rows(self, solver):
        rng = np.random.default_rng(0)
        n = 20_000
        s = rng.integers(2, size=n)
        X = rng.normal(size=(n, 4))
        X[:, 0] += s
        y = (X.sum(axis=1) + rng.logistic(size=n) > 5).astype(int)
        rows = X, y, s
        params = {"class_weight": "balanced", "solver": solver}
        if solver == "closed_form":
            params["importance"] = "covariance"
        free, fair = (fit(rows, fairness_weight=w, **params) for w in (0.0, 1.0))
        assert distance(rows, free.predict(X)) > 0.1
        if solver == "fine_tune":
            p = fair.predict_proba(X)[:, 1]
            assert abs(p[s == 1].mean() - p[s == 0].mean()) < 0.01
        elif solver == "closed_form":
            z = fair.decision_function(X)
            assert abs(z[s == 1].mean() - z[s == 0].mean()) < 1e-9
        else:
            assert distance(rows, fair.predict(X)) < 0.02
        # They still do what they are for.
        assert fair.predict(X)[y == 1].mean() > 0.6
        assert fit(rows, fairness_weight=1.0, solver=solver).predict(X)[y == 1].mean() < 0.5
