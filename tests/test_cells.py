"""The head of cells: its fit, the strength of its penalty, and groups that are known."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.special import log_softmax
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfairft import FairLowRankHeadClassifier, FairnessWarning, PlugIn, fairness_path
from skfairft.datasets import make_biased_classification
from skfairft.head.cells import CellVote
from skfairft.head.choose_c import choose_strength
from skfairft.head.modules import head_scores
from skfairft.head.outputs import fit_linear_head, fit_linear_heads_of_folds
from skfairft.metrics import demographic_parity_distance, fairness_scorer, weighted_f1_error
from skfairft.rows.folds import stratified_folds
from skfairft.rows.tensor_rows import TensorRows


class TestFit:
    @pytest.mark.parametrize("k", [2, 4])
    def test_folds_are_fits_of_their_rows(self, k):
        rng = np.random.default_rng(0)
        y = rng.integers(k, size=600)
        Z = (rng.normal(size=(600, 5)) + rng.normal(size=(k, 5))[y]) * [0.1, 1.0, 10.0, 3.0, 1.0]
        rows = TensorRows(torch.from_numpy(Z + 3.0), torch.from_numpy(y))
        fold = torch.from_numpy(rng.integers(-1, 4, size=600))
        whole = fit_linear_head(rows, k, 0.5)
        for i, (W, b) in enumerate(fit_linear_heads_of_folds(rows, k, 0.5, fold, whole)):
            alone, bias = fit_linear_head(rows.take(np.flatnonzero(fold != i)), k, 0.5)
            torch.testing.assert_close(rows.Z @ W + b, rows.Z @ alone + bias, atol=2e-4, rtol=0.0)
            # Control: another fold's head is another.
            other, _ = fit_linear_head(rows.take(np.flatnonzero(fold != (i + 1) % 4)), k, 0.5)
            assert (rows.Z @ (W - other)).abs().max() > 0.01

    def test_is_where_training_stays(self):
        """The classifier does not train the head of cells again; training would not move it."""
        X, y, s = make_biased_classification(500, 8, n_groups=3, disparity=0.4, random_state=0)
        settings = {"constraint": "demographic_parity", "fairness_weight": 0.0, "C": 0.2}
        fitted, trained = (
            FairLowRankHeadClassifier(solver=PlugIn(**params), **settings).fit(
                X, y, sensitive_features=s
            )
            for params in ({}, {"tol": 1e-7})
        )
        assert fitted.n_iter_ == 0 < trained.n_iter_
        np.testing.assert_allclose(fitted.predict_proba(X), trained.predict_proba(X), atol=1e-4)


class TestStrength:
    @pytest.mark.parametrize("alike", [False, True])
    def test_is_that_of_the_least_loss(self, alike):
        """Of rows as they are or, alike, of each class as much, at even odds."""
        rng = np.random.default_rng(7)
        y = rng.choice(3, size=300, p=[0.8, 0.15, 0.05])
        X = rng.normal(size=(300, 20))
        X[np.arange(300), y] += 1.0
        rows = TensorRows(torch.from_numpy(X), torch.from_numpy(y))
        codes = stratified_folds(y, np.ones(300), 5, np.random.RandomState(0)).codes(np.ones(300))
        prior = np.bincount(y) / 300 if alike else np.ones(3)
        losses = {}
        for C in 10.0 ** np.arange(-4.0, 3.0):
            whole = fit_linear_head(rows, 3, C)
            heads = fit_linear_heads_of_folds(rows, 3, C, torch.from_numpy(codes), whole)
            scores = np.empty((300, 3))
            for fold, (weight, bias) in enumerate(heads):
                scores[codes == fold] = X[codes == fold] @ weight.numpy() + bias.numpy()
            log_p = log_softmax(scores - np.log(prior), axis=1)[np.arange(300), y]
            losses[C] = -(log_p / prior[y]).sum()
        assert choose_strength(rows, 3, alike=alike) == pytest.approx(min(losses, key=losses.get))
        # They do not choose the same here.
        assert min(losses, key=losses.get) == pytest.approx(0.01 if alike else 0.1)

    def test_heeds_rows_that_belong_together(self):
        """With copies of each row, folds that part them choose as if there were no noise."""
        rng = np.random.default_rng(0)
        people = np.repeat(np.arange(60), 10)
        X = rng.normal(size=(60, 30))[people] + 0.01 * rng.normal(size=(600, 30))
        y = (X[:, 0] + 2.0 * rng.normal(size=60)[people] > 0.0).astype(int)
        s = people % 2
        given = {
            "parted": 5,
            "together": list(GroupKFold(5).split(X, y, people)),
        }
        found = {}
        for name, cv in given.items():
            clf = FairLowRankHeadClassifier(C="auto", cv=cv, random_state=0)
            found[name] = clf.fit(X, y, sensitive_features=s).C_
        assert found["together"] < 0.1 * found["parted"]
        clf = FairLowRankHeadClassifier(
            constraint="worst_group", solver="plug_in", cv=given["together"], random_state=0
        )
        path = fairness_path(clf, X, y, sensitive_features=s, weights=2, thresholds=1, n_boot=0)
        assert path.classifiers[0].C_ == clf.fit(X, y, sensitive_features=s).C_
        clf.set_params(cv=5)
        assert path.classifiers[0].C_ < clf.fit(X, y, sensitive_features=s).C_

    @pytest.mark.parametrize("k", [2, 3])
    @pytest.mark.parametrize("noise", [0.2, 2.0, 20.0])
    def test_is_that_of_the_least_log_loss(self, noise, k):
        """Beside scikit-learn's heads of the same folds."""
        rng = np.random.default_rng(0)
        X = rng.normal(size=(120, 20))
        y = np.digitize(X[:, 0] + noise * rng.normal(size=120), np.linspace(-0.5, 0.5, k - 1))
        found = choose_strength(TensorRows(torch.from_numpy(X), torch.from_numpy(y)), k)
        folds = stratified_folds(y, np.ones(120), 5, np.random.RandomState(0))

        def loss(C):
            total = 0.0
            for train, test in folds.parts:
                model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=5000))
                p = model.fit(X[train], y[train]).predict_proba(X[test])
                total -= np.log(p[np.arange(len(test)), y[test]]).sum()
            return total

        at = round(np.log10(found))
        assert found == 10.0**at
        assert loss(found) < 1.001 * min(loss(10.0 ** (at - 1)), loss(10.0 ** (at + 1)))

    def test_many_rows_need_none(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(400, 4))
        rows = TensorRows(torch.from_numpy(X), torch.from_numpy((X[:, 0] > 0).astype(np.int64)))
        assert choose_strength(rows, 2) == 1.0
        assert choose_strength(rows.take(np.arange(100)), 2) > 1.0  # separable

    def test_of_the_classifier(self):
        X, y, s = make_biased_classification(200, 30, n_informative=2, random_state=0)
        clf = FairLowRankHeadClassifier(solver="plug_in").fit(X, y, sensitive_features=s)
        assert clf.C_ < 1.0
        assert clf.set_params(C=0.5).fit(X, y, sensitive_features=s).C_ == 0.5
        clf.set_params(solver="closed_form", C=None).fit(X, y, sensitive_features=s)
        assert clf.C_ == 1.0
        chosen = clf.set_params(C="auto").fit(X, y, sensitive_features=s).C_
        assert chosen < 1.0
        by_hand = clf.set_params(C=chosen).fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(
            by_hand.predict_proba(X),
            clf.set_params(C="auto").fit(X, y, sensitive_features=s).predict_proba(X),
        )

    @pytest.mark.parametrize("n", [150, 3000])
    @pytest.mark.parametrize("scale", [1e-8, 1.0 / 3.0, 1e6])
    def test_a_common_factor_of_the_weights_changes_nothing(self, n, scale):
        X, y, s = make_biased_classification(n, 8, disparity=0.4, random_state=1)
        clf = FairLowRankHeadClassifier(solver="plug_in", random_state=0)
        plain = clf.fit(X, y, sensitive_features=s).predict_proba(X)
        clf.fit(X, y, sensitive_features=s, sample_weight=np.full(n, scale))
        np.testing.assert_allclose(clf.predict_proba(X), plain, atol=1e-4)

    def test_too_few_rows_to_choose_by_are_none(self):
        X = np.random.default_rng(0).normal(size=(4, 3))
        clf = FairLowRankHeadClassifier(solver="plug_in")
        assert clf.fit(X, [0, 1, 0, 1], sensitive_features=[0, 0, 1, 1]).C_ == 1.0

    def test_of_a_trained_head_is_refused(self):
        X, y, s = make_biased_classification(200, 8, random_state=0)
        clf = FairLowRankHeadClassifier(head=torch.nn.Linear(8, 2), C="auto")
        with pytest.raises(ValueError, match="C='auto' chooses the penalty of an output layer"):
            clf.fit(X, y, sensitive_features=s)
        clf.set_params(head=torch.nn.Linear(8, 4)).fit(X, y, sensitive_features=s)


DP, EO = "demographic_parity", "equalized_odds"


def fit_known(k=2, n_groups=2, n=3000, weight=1.0, constraint=DP, **params):
    X, y, s = make_biased_classification(
        n, 10, n_classes=k, n_groups=n_groups, disparity=0.6, proxy=0.3, random_state=0
    )
    clf = FairLowRankHeadClassifier(
        constraint=constraint, fairness_weight=weight, solver="plug_in", **params
    )
    return clf.fit(X, y, sensitive_features=s), X, y, s


class TestKnownGroups:
    @pytest.mark.parametrize(("k", "n_groups"), [(2, 2), (3, 2), (2, 3)])
    def test_probabilities_are_those_within_the_group(self, k, n_groups):
        clf, X, _, s = fit_known(k, n_groups, weight=0.0)
        cells = torch.softmax(head_scores(clf.head_[0], torch.from_numpy(X)), dim=1)
        p = cells.numpy().reshape(len(X), k, n_groups)
        own = p[np.arange(len(X)), :, s]
        np.testing.assert_allclose(
            clf.predict_proba(X, sensitive_features=s), own / own.sum(axis=1, keepdims=True)
        )

    @pytest.mark.parametrize("constraint", [DP, EO, "true_positive_rate_parity"])
    @pytest.mark.parametrize("n_groups", [2, 3])
    def test_rates_are_equal_where_they_were_fitted(self, constraint, n_groups):
        clf, X, y, s = fit_known(n_groups=n_groups, constraint=constraint)

        def rates(predicted):
            rows = y == 1 if constraint != DP else y >= 0
            return np.array([predicted[rows & (s == g)].mean() for g in range(n_groups)])

        told = rates(clf.predict(X, sensitive_features=s))
        plain, *_ = fit_known(n_groups=n_groups, constraint=constraint, weight=0.0)
        assert np.ptp(told) < 0.06
        assert np.ptp(rates(plain.predict(X, sensitive_features=s))) > 0.15

    def test_cost_less_where_features_hardly_tell_the_group(self):
        clf, X, y, s = fit_known()
        told = (clf.predict(X, sensitive_features=s) == y).mean()
        assert told > (clf.predict(X) == y).mean() + 0.02

    def test_rows_without_one_are_decided_as_before(self):
        clf, X, _, s = fit_known()
        some = s.astype(object)
        some[::2] = None
        found = clf.decision_function(X, sensitive_features=some)
        np.testing.assert_array_equal(found[::2], clf.decision_function(X)[::2])
        told = clf.decision_function(X, sensitive_features=s)
        np.testing.assert_allclose(found[1::2], told[1::2])
        assert not np.allclose(found[1::2], clf.decision_function(X)[1::2], atol=0.01)
        none = clf.predict(X, sensitive_features=np.full(len(X), np.nan))
        np.testing.assert_array_equal(none, clf.predict(X))

    def test_all_methods_take_them(self):
        clf, X, y, s = fit_known()
        told = {"sensitive_features": s}
        predicted = clf.predict(X, **told)
        p = clf.predict_proba(X, **told)
        np.testing.assert_array_equal(predicted, clf.classes_[p.argmax(axis=1)])
        np.testing.assert_array_equal(predicted, (clf.decision_function(X, **told) > 0).astype(int))
        np.testing.assert_allclose(clf.predict_log_proba(X, **told), np.log(p))
        assert clf.score(X, y, **told) == (predicted == y).mean()

    def test_names_and_several_columns(self):
        X, y, s = make_biased_classification(600, 10, disparity=0.6, random_state=0)
        names = np.array(["b", "a"])[s]
        pairs = np.column_stack([names, np.where(np.arange(600) % 3, "old", "young")])
        clf = FairLowRankHeadClassifier(constraint=DP, fairness_weight=0.5, solver="plug_in")
        one = clf.fit(X, y, sensitive_features=names).predict(X, sensitive_features=names.tolist())
        numbers = clf.fit(X, y, sensitive_features=s).predict(X, sensitive_features=s.astype(float))
        assert (one != numbers).mean() < 0.01  # groups in another order: rounding
        clf.fit(X, y, sensitive_features=pairs)
        partly = pairs.astype(object)
        partly[:300, 1] = None
        found = clf.predict(X, sensitive_features=partly)
        np.testing.assert_array_equal(found[:300], clf.predict(X)[:300])
        np.testing.assert_array_equal(found[300:], clf.predict(X, sensitive_features=pairs)[300:])

    def test_strange_groups_are_said(self):
        clf, X, _, s = fit_known(n=500)
        with pytest.warns(
            FairnessWarning, match=r"3 of 500 rows are of groups that fit has not seen, \[7\]"
        ):
            found = clf.predict(X, sensitive_features=np.where(np.arange(500) < 3, 7, s))
        np.testing.assert_array_equal(found[:3], clf.predict(X)[:3])
        with pytest.raises(ValueError, match=r"none of those that it has: \[0, 1\]"):
            clf.predict(X, sensitive_features=np.full(500, "male"))
        with pytest.raises(ValueError, match="sensitive_features has 499 rows but X has 500"):
            clf.predict(X, sensitive_features=s[1:])

    def test_rows_and_columns_in_another_order_are_said(self):
        X, y, s = make_biased_classification(400, 8, disparity=0.6, random_state=0)
        frame = pd.DataFrame(X)
        both = pd.DataFrame({"sex": s, "old": np.arange(400) % 2})
        clf = FairLowRankHeadClassifier(constraint=DP, fairness_weight=1.0, solver="plug_in")
        clf.fit(frame, y, sensitive_features=both)
        with pytest.warns(FairnessWarning, match="same index labels in another order"):
            clf.predict(frame, sensitive_features=both.iloc[::-1])
        with pytest.raises(
            ValueError, match=r"columns \['old', 'sex'\], but fit got \['sex', 'old'\]"
        ):
            clf.predict(frame, sensitive_features=both[["old", "sex"]])
        expected = clf.predict(frame, sensitive_features=both)
        np.testing.assert_array_equal(
            clf.predict(frame, sensitive_features=both.to_numpy()), expected
        )

    def test_a_bound_that_they_do_not_meet_is_said_where_they_are_used(self):
        X, y, s = make_biased_classification(400, 8, disparity=0.6, random_state=0)
        clf = FairLowRankHeadClassifier(
            constraint=DP, difference_bound=0.05, confidence=0.95, solver="plug_in", random_state=0
        )
        with pytest.warns(FairnessWarning, match="cannot be certified"):
            clf.fit(X, y, sensitive_features=s)
        assert not clf.bound_met_
        assert not clf.known_groups_.met
        clf.predict(X)
        with pytest.warns(FairnessWarning, match="not met for predictions that are told"):
            clf.predict(X, sensitive_features=s)
        clf.set_params(difference_bound=0.9).fit(X, y, sensitive_features=s)
        assert clf.bound_met_
        assert clf.known_groups_.met
        clf.predict(X, sensitive_features=s)

    @pytest.mark.parametrize("solver", ["fine_tune", "closed_form"])
    def test_other_solvers_refuse(self, solver):
        X, y, s = make_biased_classification(300, 6, random_state=0)
        clf = FairLowRankHeadClassifier(solver=solver).fit(X, y, sensitive_features=s)
        with pytest.raises(ValueError, match=f"heads of {solver} cannot use them"):
            clf.predict(X, sensitive_features=s)
        clf.set_params(constraint=DP)
        with pytest.raises(ValueError, match="known_groups=True measures predictions"):
            fairness_path(clf, X, y, sensitive_features=s, known_groups=True)

    @pytest.mark.parametrize("constraint", [DP, EO])
    def test_a_path_measures_what_the_classifiers_do(self, constraint):
        X, y, s = make_biased_classification(1500, 10, disparity=0.6, random_state=0)
        Xt, yt, st = make_biased_classification(1000, 10, disparity=0.6, random_state=1)
        clf = FairLowRankHeadClassifier(constraint=constraint, solver="plug_in", random_state=0)
        path = fairness_path(
            clf, X, y, sensitive_features=s, held_out=(Xt, yt, st), weights=4, thresholds=5,
            known_groups=True, n_boot=0,
        )  # fmt: skip
        for accuracy, one in zip(path.table["accuracy"], path.classifiers, strict=True):
            assert one.score(Xt, yt, sensitive_features=st) == pytest.approx(accuracy)
        assert (path.table["positive_share"] != 1.0).any()


def test_votes_of_a_known_group_are_its_own():
    vote = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0], [0.5, 0.5]]).double()
    told = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.0, 1.0]]).double()
    module = CellVote(vote, torch.tensor([0, 1, 0, 1]), told)
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).double()
    scores = module.with_groups(p.log().repeat(3, 1), torch.tensor([0, 1, -1])).exp()
    expected = torch.stack(
        [
            (0.1 * told[0] + 0.3 * told[2]) / 0.4,
            (0.2 * told[1] + 0.4 * told[3]) / 0.6,
            (p @ vote)[0],
        ]
    )
    torch.testing.assert_close(scores, expected)


class TestRouting:
    """Groups that reach predict and score through pipelines and searches."""

    @pytest.fixture
    def rows(self):
        return make_biased_classification(800, 8, disparity=0.6, proxy=0.3, random_state=0)

    @pytest.fixture(autouse=True)
    def routing(self):
        with sklearn.config_context(enable_metadata_routing=True):
            yield

    def clf(self, **params):
        return FairLowRankHeadClassifier(
            constraint=DP, fairness_weight=1.0, solver="plug_in", random_state=0, **params
        ).set_fit_request(sensitive_features=True)

    def test_through_a_pipeline(self, rows):
        X, y, s = rows
        clf = self.clf().set_predict_request(sensitive_features=True)
        model = make_pipeline(StandardScaler(), clf).fit(X, y, sensitive_features=s)
        Z = model[0].transform(X)
        np.testing.assert_array_equal(
            model.predict(X, sensitive_features=s), model[-1].predict(Z, sensitive_features=s)
        )
        assert (model.predict(X, sensitive_features=s) != model.predict(X)).mean() > 0.05
        unasked = make_pipeline(StandardScaler(), self.clf()).fit(X, y, sensitive_features=s)
        with pytest.raises(UnsetMetadataPassedError, match="sensitive_features"):
            unasked.predict(X, sensitive_features=s)

    def test_a_search_scores_without_them_unless_asked(self, rows):
        X, y, s = rows
        plain, told = (
            GridSearchCV(clf, {"C": [0.1]}, cv=3).fit(X, y, sensitive_features=s)
            for clf in (self.clf(), self.clf().set_score_request(sensitive_features=True))
        )
        means = [search.cv_results_["mean_test_score"][0] for search in (plain, told)]
        assert means[1] > means[0] + 0.02

    def test_scorers_tell_the_groups_if_asked(self, rows):
        X, y, s = rows
        scoring = {
            f"{name}, {known}": fairness_scorer(name, known_groups=known)
            for name in ("weighted_f1_error", "demographic_parity_distance")
            for known in (False, True)
        }
        clf, some = self.clf(C=0.1), np.flatnonzero(X[:, 0] > 0)
        found = cross_validate(
            clf, X, y, params={"sensitive_features": s}, scoring=scoring, cv=[(some, some)]
        )
        clf.fit(X[some], y[some], sensitive_features=s[some])
        told = clf.predict(X[some], sensitive_features=s[some])
        assert found["test_weighted_f1_error, True"][0] == pytest.approx(
            -weighted_f1_error(y[some], told)
        )
        assert found["test_demographic_parity_distance, True"][0] == pytest.approx(
            -demographic_parity_distance(y[some], told, sensitive_features=s[some])
        )
        untold = weighted_f1_error(y[some], clf.predict(X[some]))
        assert found["test_weighted_f1_error, False"][0] == pytest.approx(-untold)
        assert untold > weighted_f1_error(y[some], told) + 1.0

    def test_forgotten_groups_stop_a_search(self, rows):
        X, y, s = rows
        scorer = fairness_scorer("demographic_parity_distance", known_groups=True)
        scorer.set_score_request(sensitive_features=False)
        search = GridSearchCV(self.clf(), {"C": [0.1, 1.0]}, scoring=scorer, cv=3)
        with pytest.raises(ValueError, match="no score, because no sensitive_features"):
            search.fit(X, y, sensitive_features=s)
