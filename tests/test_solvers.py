"""Solvers as objects: by name, with parameters, in searches, and what is said of them."""

import pickle

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EpochScoring

from skfairft import (
    ClosedForm,
    FairLowRankHeadClassifier,
    FineTune,
    PlugIn,
    fairness_path,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.solvers.registry import SOLVERS, resolve_solver
from skfairft.summary import summarize

DP = "demographic_parity"


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(300, 6, n_classes=3, disparity=0.5, random_state=0)


class TestParameters:
    @pytest.mark.parametrize("name", SOLVERS)
    def test_a_name_is_the_solver_with_its_defaults(self, data, name):
        X, y, s = data
        clf = FairLowRankHeadClassifier(rank=1, constraint=DP, fairness_weight=0.5)
        one, other = (
            clone(clf).set_params(solver=each).fit(X, y, sensitive_features=s).decision_function(X)
            for each in (name, SOLVERS[name]())
        )
        np.testing.assert_array_equal(one, other)

    def test_of_a_named_solver_are_set_as_of_an_object(self):
        for solver in ("plug_in", PlugIn()):
            clf = FairLowRankHeadClassifier(solver=solver).set_params(solver__lr=0.5, rank=2)
            assert repr(clf) == "FairLowRankHeadClassifier(rank=2, solver=PlugIn(lr=0.5))"
        clf = FairLowRankHeadClassifier().set_params(solver="plug_in", solver__max_epochs=7)
        assert repr(clf.solver) == "PlugIn(max_epochs=7)"
        again = FairLowRankHeadClassifier().set_params(**clf.get_params())
        assert again.solver.max_epochs == 7

    def test_that_fail_leave_what_was(self):
        clf = FairLowRankHeadClassifier(solver="plug_in")
        with pytest.raises(ValueError, match="standardize"):
            clf.set_params(solver__standardize=False)
        assert clf.solver == "plug_in"

    def test_a_clone_shares_none(self):
        clf = FairLowRankHeadClassifier(solver=FineTune(lr=0.1))
        other = clone(clf).set_params(solver__lr=0.2)
        assert (clf.solver.lr, other.solver.lr) == (0.1, 0.2)
        assert pickle.loads(pickle.dumps(clf)).solver.lr == 0.1

    def test_are_searched(self, data, routing):
        X, y, s = data
        pipe = make_pipeline(
            StandardScaler(),
            FairLowRankHeadClassifier(rank=1, random_state=0).set_fit_request(
                sensitive_features=True
            ),
        )
        prefix = "fairlowrankheadclassifier__solver"
        grid = [
            {f"{prefix}__lr": [1e-4, 0.1], f"{prefix}__max_epochs": [3], f"{prefix}__tol": [None]},
            {prefix: ["closed_form", PlugIn()]},
        ]
        search = GridSearchCV(pipe, grid, cv=3).fit(X, y, sensitive_features=s)
        scores = search.cv_results_["mean_test_score"]
        assert len(scores) == 4
        assert np.isfinite(scores).all()
        assert scores[0] != scores[1]


class Mine(FineTune):
    """A solver of a user's own, with a parameter that has no default."""

    def __init__(self, share, *, lr=None):
        super().__init__(lr=lr, tol=None)
        self.share = share

    def _training(self):
        return super()._training() | {"max_epochs": 1}


class TestNames:
    @pytest.mark.parametrize(
        ("solver", "name"),
        [
            (FineTune(), "fine_tune"),
            (ClosedForm(), "closed_form"),
            (FineTune(max_epochs=np.int64(5), optimizer=torch.optim.SGD), None),
            (PlugIn(callbacks=[("score", EpochScoring("accuracy"))]), None),
            (Mine(0.5), "Mine(share=0.5)"),
        ],
    )
    def test_say_what_differs_and_hold_no_address(self, solver, name):
        shown = {
            "FineTune": "FineTune(max_epochs=5, optimizer=SGD)",
            "PlugIn": "PlugIn(callbacks=[('score', EpochScoring)])",
        }
        assert solver.label() == (name or shown[type(solver).__name__])

    def test_a_solver_that_extends_another_works_and_is_not_called_it(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(rank=1, solver=Mine(0.5)).fit(X, y, sensitive_features=s)
        assert clf.n_iter_ == 1
        assert summarize(clf).solver == "Mine(share=0.5)"

    def test_are_those_of_the_fit(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(constraint=DP, fairness_weight=0.5, solver="plug_in")
        clf.fit(X, y, sensitive_features=s).set_params(solver="closed_form")
        assert summarize(clf).solver == "plug_in"
        topics = {each.topic for each in model_report(clf, X, y, sensitive_features=s).caveats}
        assert {"The group is inferred", "Probabilities are votes"} <= topics


class TestPath:
    def points(self, data, solvers, **params):
        X, y, s = data
        clf = FairLowRankHeadClassifier(constraint=DP, random_state=0, **params)
        path = fairness_path(
            clf, X, y, sensitive_features=s, weights=2, thresholds=1, n_boot=0, solvers=solvers
        )
        return path.table["solver"].tolist()[::2]

    @pytest.mark.filterwarnings("ignore:Training stopped")
    def test_names_and_objects(self, data):
        own = FineTune(lr=0.01, max_epochs=3)
        wanted = [own.label(), "fine_tune", "closed_form"]
        assert self.points(data, ["fine_tune", FineTune(), "closed_form"], solver=own) == wanted

    @pytest.mark.filterwarnings("ignore:Training stopped")
    @pytest.mark.slow
    def test_of_one_name_are_numbered(self, data):
        solvers = [
            FineTune(max_epochs=2, callbacks=[EpochScoring(name, on_train=True, name=name)])
            for name in ("accuracy", "f1_macro")
        ]
        label = "FineTune(callbacks=[EpochScoring], max_epochs=2)"
        assert self.points(data, solvers) == [label, f"{label} (2)"]

    @pytest.mark.parametrize(
        "twice",
        [
            ["fine_tune", FineTune()],
            [FineTune(lr=0.01), FineTune(lr=np.float64(0.01))],
            ["plug_in", "plug_in"],
        ],
    )
    def test_twice_the_same_is_refused(self, data, twice):
        with pytest.raises(ValueError, match="holds a value twice"):
            self.points(data, twice)


class TestOrigin:
    """What a cut does to scores does not depend on where the features have their zero."""

    @pytest.mark.parametrize(
        "solver", [FineTune(max_epochs=0), "closed_form", PlugIn(max_epochs=0)]
    )
    @pytest.mark.parametrize("weight", [None, 0.0, 0.5])
    @pytest.mark.some(2)
    def test_with_the_covariance(self, data, solver, weight):
        X, y, s = data
        constraint = {} if weight is None else {"constraint": DP, "fairness_weight": weight}
        if weight is None and resolve_solver(solver).needs_groups:
            solver = PlugIn()
        clf = FairLowRankHeadClassifier(
            rank=1, importance="covariance", solver=solver, **constraint
        )
        here, away = (
            clone(clf).fit(Z, y, sensitive_features=s).predict_proba(Z) for Z in (X, X + 100.0)
        )
        np.testing.assert_allclose(here, away, atol=1e-6)

    def test_scores_stay_at_the_mean(self, data):
        X, y, s = data
        whole, cut = (
            FairLowRankHeadClassifier(
                rank=rank, importance=importance, solver=FineTune(max_epochs=0)
            )
            .fit(X + 5.0, y, sensitive_features=s)
            .decision_function((X + 5.0).mean(axis=0, keepdims=True))
            for rank, importance in ((None, "fisher"), (1, "covariance"))
        )
        np.testing.assert_allclose(whole, cut, atol=1e-9)
        # Control: Eq. 4 keeps the bias, and with it depends on the zero.
        paper = FairLowRankHeadClassifier(rank=1, solver=FineTune(max_epochs=0))
        paper.fit(X + 5.0, y, sensitive_features=s)
        at_mean = paper.decision_function((X + 5.0).mean(axis=0, keepdims=True))
        assert np.abs(at_mean - whole).max() > 0.1
