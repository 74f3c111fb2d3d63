"""The classifier inside scikit-learn's and fairlearn's own tools, none of them replaced."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from fairlearn.metrics import MetricFrame, selection_rate
from fairlearn.postprocessing import ThresholdOptimizer
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from torch import nn

from skfairft import FairLowRankHeadClassifier, FairnessWarning, FrozenFeatureExtractor
from skfairft.datasets import make_biased_classification
from skfairft.metrics import demographic_parity_distance, equalized_odds_distance, fairness_scorer

SCORERS = {
    "accuracy": "accuracy",
    "parity": fairness_scorer("demographic_parity_distance"),
    "error": fairness_scorer("weighted_f1_error"),
}


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(
        300, 10, n_classes=4, n_informative=5, disparity=0.5, random_state=0
    )


@pytest.fixture(scope="module")
def binary():
    return make_biased_classification(400, 10, disparity=0.5, random_state=0)


def requesting(*args, **settings):
    return FairLowRankHeadClassifier(*args, **settings).set_fit_request(sensitive_features=True)


def fairest_of_the_accurate(results):
    """Refit rule: the least disparity within 20 points of the best accuracy."""
    accuracy = results["mean_test_accuracy"]
    parity = np.where(accuracy >= accuracy.max() - 0.2, results["mean_test_parity"], -np.inf)
    return int(parity.argmax())


@pytest.mark.usefixtures("routing")
class TestSearch:
    @pytest.mark.slow
    def test_grid_search_over_rank_in_two_processes(self, data, monkeypatch):
        X, y, s = data
        # New workers, in which a warning of any library would be an error.
        get_reusable_executor().shutdown(wait=True)
        monkeypatch.setenv("PYTHONWARNINGS", "error")
        model = make_pipeline(StandardScaler(), requesting(nn.Linear(10, 12)))
        grid = {"fairlowrankheadclassifier__rank": [1, 2, 3]}
        settings = {
            "scoring": SCORERS,
            "refit": fairest_of_the_accurate,
            "cv": 3,
            "error_score": "raise",
        }
        search = GridSearchCV(model, grid, n_jobs=2, **settings)
        search.fit(X, y, sensitive_features=s)
        get_reusable_executor().shutdown(wait=True)

        results = search.cv_results_
        assert results["mean_test_accuracy"][2] > results["mean_test_accuracy"][0] + 0.02
        assert search.best_index_ == fairest_of_the_accurate(results)
        best = search.best_estimator_[-1]
        assert best.rank_ == search.best_params_["fairlowrankheadclassifier__rank"]
        assert best.groups_.tolist() == [0, 1]
        assert search.predict(X).shape == (300,)
        # The same in one process; the module was pickled on its way to the others.
        alone = GridSearchCV(model, grid, **settings).fit(X, y, sensitive_features=s)
        for name in SCORERS:
            np.testing.assert_array_equal(
                alone.cv_results_[f"mean_test_{name}"], results[f"mean_test_{name}"]
            )
        # And by hand: the groups were cut with the rows.
        found = []
        for train, test in StratifiedKFold(3).split(X, y):
            hand = clone(model).set_params(fairlowrankheadclassifier__rank=3)
            hand.fit(X[train], y[train], sensitive_features=s[train])
            found.append(
                -demographic_parity_distance(
                    y[test], hand.predict(X[test]), sensitive_features=s[test]
                )
            )
        assert results["mean_test_parity"][2] == pytest.approx(np.mean(found), abs=1e-12)

    def test_cross_validate(self, data):
        X, y, s = data
        frame = pd.DataFrame({"sex": np.array(["f", "m"])[s], "old": X[:, -1] > 0})
        scores = cross_validate(
            requesting(rank=3),
            X,
            y,
            params={"sensitive_features": frame},
            scoring=SCORERS,
            return_estimator=True,
            error_score="raise",
        )
        assert np.isfinite(scores["test_parity"]).all()
        assert (scores["test_accuracy"] > 0.5).all()
        assert all(len(clf.groups_) == 4 for clf in scores["estimator"])
        proba = cross_val_predict(
            requesting(rank=3), X, y, params={"sensitive_features": s}, method="predict_proba"
        )
        assert proba.shape == (300, 4)

    def test_weights_and_groups_together(self, data):
        X, y, s = data
        w = np.random.default_rng(0).exponential(size=300)
        clf = FairLowRankHeadClassifier(rank=2).set_fit_request(
            sensitive_features=True, sample_weight=True
        )
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        piped = make_pipeline(scaler, clf).fit(X, y, sensitive_features=s, sample_weight=w)
        direct = FairLowRankHeadClassifier(rank=2)
        scaled = StandardScaler().fit_transform(X)
        direct.fit(scaled, y, sample_weight=w, sensitive_features=s)
        np.testing.assert_array_equal(piped.decision_function(X), direct.decision_function(scaled))

    def test_forgotten_requests_are_errors(self, data):
        X, y, s = data
        with pytest.raises(UnsetMetadataPassedError, match=r"\[sensitive_features\]"):
            make_pipeline(StandardScaler(), FairLowRankHeadClassifier()).fit(
                X, y, sensitive_features=s
            )

    def test_requests_survive_clone_and_parameters(self):
        clf = requesting(nn.Linear(2, 2))
        clf.set_fit_request(sample_weight=False)
        expected = {"sensitive_features": True, "sample_weight": False}
        for copied in (
            clone(clf),
            clone(clone(clf)),
            clone(make_pipeline(clf))[0],
            clone(clf.set_params(rank=3)),
            clone(GridSearchCV(clf, {})).estimator,
        ):
            assert copied.get_metadata_routing().fit.requests == expected
        assert clone(FairLowRankHeadClassifier()).get_metadata_routing().fit.requests == {
            "sensitive_features": None,
            "sample_weight": None,
        }


@pytest.mark.usefixtures("routing")
class TestMetaEstimators:
    def test_calibration_with_folds(self, data):
        X, y, s = data
        model = CalibratedClassifierCV(requesting(rank=3), cv=3)
        model.fit(X, y, sensitive_features=s)
        assert model.score(X, y) > 0.6
        for part in model.calibrated_classifiers_:
            assert part.estimator.groups_.tolist() == [0, 1]

    @pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
    def test_calibration_of_a_fitted_one(self, binary, method):
        X, y, s = binary
        # Four times too sure of itself, which calibration repairs.
        clf = FairLowRankHeadClassifier(rank=1).fit(X[:200], y[:200], sensitive_features=s[:200])
        with torch.no_grad():
            clf.head_.A *= 4
            clf.head_.bias *= 4
        model = CalibratedClassifierCV(FrozenEstimator(clf), method=method)
        model.fit(X[200:], y[200:])

        def brier(model):
            return np.mean((model.predict_proba(X)[:, 1] - y) ** 2)

        assert brier(model) < brier(clf) - 0.01

    def test_frozen_estimator_is_not_fitted_again(self, binary):
        X, y, s = binary
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        frozen = clone(FrozenEstimator(clf)).fit(X[:10], 1 - y[:10])
        np.testing.assert_array_equal(frozen.predict(X), clf.predict(X))

    @pytest.mark.parametrize("voting", ["soft", "hard"])
    def test_voting(self, data, voting):
        X, y, s = data
        parts = [
            ("one", requesting(rank=1)),
            ("three", requesting(nn.Linear(10, 8), rank=3)),
            ("reference", LogisticRegression()),
        ]
        model = VotingClassifier(parts, voting=voting).fit(X, y, sensitive_features=s)
        assert model.score(X, y) > 0.6
        if voting == "soft":
            mean = np.mean([part.predict_proba(X) for part in model.estimators_], axis=0)
            np.testing.assert_allclose(model.predict_proba(X), mean)


class TestFairlearn:
    @pytest.mark.parametrize("predict_method", ["auto", "predict_proba", "predict"])
    @pytest.mark.parametrize("constraints", ["demographic_parity", "equalized_odds"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_threshold_optimizer(self, binary, predict_method, constraints, dtype):
        X, y, s = binary
        X = X.astype(dtype)
        extractor = FrozenFeatureExtractor(nn.Linear(10, 10))
        clf = FairLowRankHeadClassifier(extractor, rank=1).fit(X, y, sensitive_features=s)
        model = ThresholdOptimizer(
            estimator=clf, constraints=constraints, prefit=True, predict_method=predict_method
        )
        model.fit(X, y, sensitive_features=s)
        fair = model.predict(X, sensitive_features=s, random_state=0)
        distance = {
            "demographic_parity": demographic_parity_distance,
            "equalized_odds": equalized_odds_distance,
        }[constraints]
        before = distance(y, clf.predict(X), sensitive_features=s)
        assert before > 0.2
        assert distance(y, fair, sensitive_features=s) < 0.5 * before

    def test_threshold_optimizer_of_scores(self, binary):
        X, y, s = binary
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        fair = {}
        for method in ("predict_proba", "decision_function"):
            model = ThresholdOptimizer(estimator=clf, prefit=True, predict_method=method)
            model.fit(X, y, sensitive_features=s)
            fair[method] = model.predict(X, sensitive_features=s, random_state=0)
        # A threshold on the one is a threshold on the other.
        np.testing.assert_array_equal(fair["predict_proba"], fair["decision_function"])

    def test_threshold_optimizer_fits_it(self, binary):
        X, y, s = binary
        model = ThresholdOptimizer(
            estimator=FairLowRankHeadClassifier(rank=1), predict_method="predict_proba"
        )
        with pytest.warns(FairnessWarning, match="no sensitive_features"):
            model.fit(X, y, sensitive_features=s)
        assert accuracy_score(y, model.predict(X, sensitive_features=s, random_state=0)) > 0.6

    def test_metric_frame(self, binary):
        X, y, s = binary
        sex = pd.Series(np.array(["f", "m"])[s], name="sex")
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=sex)
        frame = MetricFrame(
            metrics={"accuracy": accuracy_score, "rate": selection_rate},
            y_true=y,
            y_pred=clf.predict(X),
            sensitive_features=sex,
        )
        assert frame.by_group.index.tolist() == ["f", "m"]
        difference = demographic_parity_distance(y, clf.predict(X), sensitive_features=sex)
        assert frame.difference()["rate"] == pytest.approx(difference)


class TestWithoutRouting:
    def test_alone_in_a_pipeline_and_in_a_search(self, data):
        X, y, s = data
        assert not sklearn.get_config()["enable_metadata_routing"]
        alone = FairLowRankHeadClassifier(rank=2).fit(X, y, sensitive_features=s)
        pipe = make_pipeline("passthrough", FairLowRankHeadClassifier(rank=2))
        pipe.fit(X, y, fairlowrankheadclassifier__sensitive_features=s)
        np.testing.assert_array_equal(pipe.decision_function(X), alone.decision_function(X))
        search = GridSearchCV(FairLowRankHeadClassifier(), {"rank": [2]}, cv=3)
        search.fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(search.decision_function(X), alone.decision_function(X))

    def test_groups_that_do_not_arrive_are_missed(self, data):
        X, y, _ = data
        with pytest.warns(FairnessWarning, match=r"set_fit_request\(sensitive_features=True\)"):
            make_pipeline(StandardScaler(), FairLowRankHeadClassifier(rank=2)).fit(X, y)
        assert not sklearn.get_config()["enable_metadata_routing"]  # nobody switched it on


class Uncopyable(nn.Linear):
    """A backbone too large to copy."""

    def __deepcopy__(self, memo):
        raise AssertionError("the backbone was copied")


@pytest.mark.usefixtures("routing")
class TestBackbone:
    @pytest.mark.parametrize("explicit", [False, True])
    def test_is_never_copied(self, data, explicit):
        X, y, s = data
        backbone = Uncopyable(10, 8)
        head = Uncopyable(8, 4)
        extractor = FrozenFeatureExtractor(backbone) if explicit else backbone
        model = make_pipeline(StandardScaler(), requesting(extractor, head=head))
        search = GridSearchCV(model, {"fairlowrankheadclassifier__rank": [1, 3]}, cv=2)
        fitted = clone(search).fit(X, y, sensitive_features=s)
        best = fitted.best_estimator_[-1]
        assert best.feature_extractor_.module is backbone
        assert best.head is head
        assert clone(best).head is head
        scores = cross_validate(
            model, X, y, params={"sensitive_features": s}, return_estimator=True, cv=2
        )
        for each in scores["estimator"]:
            assert each[-1].feature_extractor_.module is backbone

    def test_nested_parameters(self, data):
        X, y, s = data
        seen = []
        backbone = nn.Linear(10, 8)
        backbone.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
        clf = requesting(FrozenFeatureExtractor(backbone, memory=False), rank=1)
        assert clf.get_params()["feature_extractor__batch_size"] == 256
        clf.set_params(feature_extractor__batch_size=100)
        clf.fit(X, y, sensitive_features=s)
        assert seen == [100, 4, 100, 100]
        search = GridSearchCV(clf, {"feature_extractor__batch_size": [50, 150]}, cv=2)
        search.fit(X, y, sensitive_features=s)
        # Its results do not depend on that, but for rounding.
        assert np.ptp(search.cv_results_["mean_test_score"]) < 0.01
        assert clf.feature_extractor.batch_size == 100

    @pytest.mark.slow
    @pytest.mark.parametrize("depth", [2, 400])
    def test_reprs_are_short_whatever_its_size(self, depth):
        backbone = nn.Sequential(
            *(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)) for _ in range(depth))
        )
        full = len(repr(backbone))
        assert (full > 50_000) == (depth == 400)
        for extractor in (backbone, FrozenFeatureExtractor(backbone, batch_size=3)):
            clf = FairLowRankHeadClassifier(extractor, head=backbone, rank=3)
            text = repr(clf)
            assert "rank=3" in text
            assert f"Sequential(...{depth * (8 * 8 + 8 + 16):,} parameters)" in text
            assert "Linear" not in text
            assert len(text) < 300
            pipe = make_pipeline(StandardScaler(), clf)
            for model in (pipe, GridSearchCV(pipe, {"standardscaler": [None]})):
                # scikit-learn prints parameters of nested estimators itself, to 700 characters.
                assert len(repr(model)) < 2000
            for model in (extractor, clf, pipe, GridSearchCV(pipe, {}), clone(clf)):
                if model is not backbone:
                    # Most of it are scikit-learn's styles and scripts.
                    assert len(estimator_html_repr(model)) < 100_000
                    assert "Linear(in_features" not in estimator_html_repr(clf)
        assert repr(FrozenFeatureExtractor(backbone)).startswith(
            "FrozenFeatureExtractor(module=Seq"
        )
        leaf = FairLowRankHeadClassifier(head=nn.Linear(3, 2))
        assert "head=Linear(in_features=3, out_features=2, bias=True)" in repr(leaf)
        assert isinstance(leaf.head, nn.Linear)  # what is shown is not what is held
