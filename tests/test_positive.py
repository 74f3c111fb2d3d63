"""Which class is positive: `pos_label`, the order of categories, and who says so."""

import json
import re
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from oracles import PARITIES, group_rate, parity_moments
from saved_models import make
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfairft import (
    FairLowRankHeadClassifier,
    GroupRatesDisplay,
    fairness_path,
    load,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.inputs.encoding import encode_groups
from skfairft.metrics import constraint_distance, fairness_report, fairness_scorer
from skfairft.parity.constraints import parity
from skfairft.parity.sums import mass_table
from skfairft.rows.tensor_rows import TensorRows
from skfairft.solvers.registry import SOLVERS
from skfairft.summary import summarize

TPR, FPR = "true_positive_rate_parity", "false_positive_rate_parity"
LEVELS = ["low", "high"]  # of which the first is the last by the alphabet


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(400, 6, disparity=0.4, random_state=0)


@pytest.fixture(scope="module")
def several():
    return make_biased_classification(420, 6, n_classes=3, disparity=0.4, random_state=0)


@pytest.fixture(scope="module")
def fitted(data):
    """A classifier of ordered labels, and its rows."""
    X, y, s = data
    labels = ordered(np.array(LEVELS)[y])
    return model().fit(X, labels, sensitive_features=s), X, labels, s


def model(**params):
    given = {"constraint": TPR, "fairness_weight": 0.8, "random_state": 0} | params
    return FairLowRankHeadClassifier(**given)


def ordered(values, levels=LEVELS):
    return pd.Series(pd.Categorical(values, levels, ordered=True))


class TestOfTwo:
    @pytest.mark.parametrize("constraint", [TPR, FPR, "equalized_odds"])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_is_as_if_it_were_the_second(self, data, solver, constraint):
        X, y, s = data
        asked = {"solver": solver, "constraint": constraint}
        first = model(pos_label=0, **asked).fit(X, y, sensitive_features=s)
        exchanged = model(**asked).fit(X, 1 - y, sensitive_features=s)
        scores = first.decision_function(X)
        np.testing.assert_allclose(scores, -exchanged.decision_function(X), atol=1e-7)
        assert (first.pos_label_, exchanged.pos_label_) == (0, 1)
        # By default the other class is meant, which is another constraint.
        plain = model(**asked).fit(X, y, sensitive_features=s)
        apart = np.abs(scores - plain.decision_function(X)).max()
        assert constraint == "equalized_odds" or apart > 0.1

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_none_is_the_second(self, data, solver):
        X, y, s = data
        scores = [
            model(solver=solver, pos_label=label)
            .fit(X, y, sensitive_features=s)
            .decision_function(X)
            for label in (None, 1)
        ]
        np.testing.assert_array_equal(*scores)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_bound_is_on_its_rates(self, data, solver):
        X, y, s = data
        bounded = {"solver": solver, "fairness_weight": None, "difference_bound": 0.1, "cv": 0.4}
        a, b = (
            model(pos_label=label, **bounded).fit(X, labels, sensitive_features=s)
            for label, labels in ((0, y), (None, 1 - y))
        )
        for name in ("fairness_weight_", "difference_", "difference_limit_"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-6)
        np.testing.assert_array_equal(a.predict(X), 1 - b.predict(X))

    def test_order_of_classes_and_of_what_follows_it_stays(self, data):
        X, y, s = data
        clf = model(pos_label=0).fit(X, y, sensitive_features=s)
        assert clf.classes_.tolist() == [0, 1]
        np.testing.assert_array_equal(clf.predict(X), clf.decision_function(X) > 0)
        np.testing.assert_array_equal(clf.predict(X), clf.predict_proba(X)[:, 1] > 0.5)

    def test_warm_start_goes_on_with_another(self, data):
        X, y, s = data
        clf = model(warm_start=True).fit(X, y, sensitive_features=s)
        clf.set_params(pos_label=0).fit(X, y, sensitive_features=s)
        fresh = model(pos_label=0).fit(X, y, sensitive_features=s)
        np.testing.assert_allclose(
            clf.decision_function(X), fresh.decision_function(X), rtol=0, atol=0.05
        )
        assert clf.pos_label_ == 0


class TestOfSeveral:
    @pytest.mark.parametrize("constraint", PARITIES)
    @pytest.mark.parametrize("c", [0, 1, 2])
    def test_the_penalty_is_that_of_one_class(self, several, constraint, c):
        _, y, s = several
        rng = np.random.default_rng(0)
        p = torch.softmax(torch.from_numpy(rng.normal(size=(len(y), 3))), dim=1)
        w = torch.from_numpy(rng.exponential(size=len(y)))
        rows = TensorRows(torch.zeros(len(y), 1), torch.from_numpy(y), w, torch.from_numpy(s))
        mass, count = mass_table(p, rows, n_groups=2)
        rule = parity(constraint, 3, positives=range(c, c + 1))
        found = rule.distance(rule.rates(mass, count))
        moments = parity_moments(constraint, 3)
        wanted = 0.0
        for counted, event in moments[c % len(moments)]:
            a, b = (group_rate(p, y, s, w, counted, event, {g}) for g in (0, 1))
            wanted += abs(a - b)
        assert float(found) == pytest.approx(float(wanted), abs=1e-12)

    # On so few rows a share of a small difference may not be taken away.
    @pytest.mark.filterwarnings("ignore:fairness_weight=0.8")
    @pytest.mark.parametrize("constraint", ["demographic_parity", TPR, FPR])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_the_names_of_classes_do_not_matter(self, several, solver, constraint):
        X, y, s = several
        if solver == "fine_tune" and constraint != TPR:
            pytest.skip("one constraint that is trained is enough")
        asked = {"solver": solver, "constraint": constraint}
        names = np.array(["b", "c", "a"])  # in another order by the alphabet
        ours = model(pos_label=1, **asked).fit(X, y, sensitive_features=s)
        named = model(pos_label="c", **asked).fit(X, names[y], sensitive_features=s)
        agree = (named.predict(X) == names[ours.predict(X)]).mean()
        assert agree > (0.97 if solver == "fine_tune" else 0.995)

    @pytest.mark.parametrize("c", [0, 1, 2])
    def test_it_alone_is_brought_together(self, several, c):
        X, y, s = several
        fits = {
            weight: model(
                constraint="demographic_parity",
                solver="plug_in",
                fairness_weight=weight,
                pos_label=c,
            ).fit(X, y, sensitive_features=s)
            for weight in (0.0, 1.0)
        }
        measure = partial(constraint_distance, constraint="demographic_parity")
        before, after = (
            measure(y, clf.predict(X), sensitive_features=s, pos_label=c) for clf in fits.values()
        )
        assert after < 0.02 < before / 2
        # The most accurate rule leaves the others as they are: that is what the one costs less.
        others = measure(y, fits[1.0].predict(X), sensitive_features=s)
        assert others > 2 * after

    def test_in_closed_form_only_its_rows_count(self, several):
        # Of the true positive rate of one class rows of the others are no part.
        assert parity(TPR, 3, positives=range(1, 2)).conditions.tolist() == [[0.0, 1.0, 0.0]]
        assert parity(FPR, 3, positives=range(1, 2)).conditions.tolist() == [
            [1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0],
        ]
        assert len(parity(TPR, 3).conditions) == 3

    @pytest.mark.filterwarnings("ignore:Some groups are too thin")
    def test_only_its_rows_are_asked_for(self, several):
        X, y, s = several
        kept = (y != 2) | (s == 0)  # group 1 has none of class 2
        model(pos_label=1).fit(X[kept], y[kept], sensitive_features=s[kept])
        with pytest.raises(ValueError, match="1 has no row of class 2"):
            model(pos_label=2).fit(X[kept], y[kept], sensitive_features=s[kept])
        with pytest.raises(ValueError, match="1 has no row of class 2"):
            model().fit(X[kept], y[kept], sensitive_features=s[kept])

    def test_only_its_rows_are_judged_by(self, several):
        X, y, s = several
        held_out = X[(y != 2) | (s == 0)], y[(y != 2) | (s == 0)], s[(y != 2) | (s == 0)]
        rest = np.flatnonzero((y == 2) & (s == 1))
        judged = np.setdiff1d(np.arange(0, 420, 2), rest)
        cv = [(np.setdiff1d(np.arange(420), judged), judged)]
        for label in (1, 2):
            clf = model(solver="closed_form", pos_label=label, fairness_weight=None)
            tried = [
                partial(fairness_path, clf, weights=2, n_boot=0, held_out=held_out),
                partial(fairness_path, clf, weights=2, n_boot=0, cv=cv),
                clone(clf).set_params(difference_bound=0.9, confidence=0.9, cv=cv).fit,
            ]
            for fit in tried:
                if label == 1:
                    fit(X, y, sensitive_features=s)
                    continue
                with pytest.raises(ValueError, match="at least two groups"):
                    fit(X, y, sensitive_features=s)

    def test_only_its_rows_are_asked_for_in_each_fold(self, several):
        X, y, s = several
        judged = np.union1d(np.arange(0, 420, 2), np.flatnonzero((y == 2) & (s == 1)))
        cv = [(np.setdiff1d(np.arange(420), judged), judged)]
        bounded = {"fairness_weight": None, "difference_bound": 0.9, "confidence": 0.9, "cv": cv}
        clf = model(solver="closed_form", pos_label=1, **bounded)
        clf.fit(X, y, sensitive_features=s)
        with pytest.raises(ValueError, match=r"split 0, of the rows to fit: .* 1 has no row of"):
            clf.set_params(pos_label=2).fit(X, y, sensitive_features=s)


class TestLabel:
    @pytest.mark.parametrize(
        ("labels", "given", "found"),
        [
            (np.array(LEVELS), np.str_("high"), "high"),
            ([0, 1], np.int64(0), 0),
            ([0, 1], False, 0),
            ([False, True], np.False_, False),
            ([-1, 1], -1.0, -1),
        ],
    )
    def test_is_compared_as_values_of_python(self, data, labels, given, found):
        X, y, s = data
        y = np.array(labels)[y]
        clf = model(solver="closed_form", pos_label=given).fit(X, y, sensitive_features=s)
        assert clf.pos_label_ == found
        assert type(clf.pos_label_) is type(found)
        predicted = clf.predict(X)
        report = fairness_report(y, predicted, sensitive_features=s, pos_label=given, n_boot=0)
        assert report.positive == found

    @pytest.mark.parametrize(
        "given", ["1", 2, np.nan, pd.NA, "", [1], np.array([1]), np.array([0, 1]), {"a": 1}]
    )
    def test_that_is_none_is_refused_before_anything_runs(self, data, given):
        X, y, s = data

        class Counting(nn.Module):
            calls = 0

            def forward(self, X):
                Counting.calls += 1
                return X

        clf = model(feature_extractor=Counting(), pos_label=given)
        for fit in (clf.fit, partial(fairness_path, clone(clf).set_params(fairness_weight=None))):
            with pytest.raises(ValueError, match=r"pos_label=.* is no class of y, .* \[0, 1\]"):
                fit(X, y, sensitive_features=s)
        assert Counting.calls == 0
        with pytest.raises(ValueError, match="occurs neither in y_true nor in y_pred"):
            constraint_distance(y, y, constraint=TPR, sensitive_features=s, pos_label=given)

    @pytest.mark.filterwarnings("ignore:fairness_weight=0.8")
    def test_is_a_parameter_like_others(self, data):
        X, y, s = data
        clf = model(pos_label="high", solver="closed_form", importance="covariance")
        assert clone(clf).pos_label == "high"
        with sklearn.config_context(enable_metadata_routing=True):
            search = GridSearchCV(
                clf.set_fit_request(sensitive_features=True),
                {"pos_label": [None, *LEVELS]},
                scoring=fairness_scorer(f"{TPR}_distance", pos_label="high"),
                cv=2,
                refit=False,
            ).fit(X, np.array(LEVELS)[y], sensitive_features=s)
        by_label = dict(zip([None, *LEVELS], search.cv_results_["mean_test_score"], strict=True))
        assert by_label[None] == by_label["low"] != by_label["high"]


class TestMeasures:
    @pytest.mark.parametrize("label", ["a", "b", "c"])
    def test_are_those_of_fairlearn(self, several, label):
        _, y, s = several
        names = np.array(["a", "b", "c"])
        y, predicted = names[y], names[np.random.default_rng(0).permutation(y)]
        for constraint, rate in (
            ("demographic_parity", selection_rate),
            (TPR, true_positive_rate),
            (FPR, false_positive_rate),
        ):
            ours = constraint_distance(
                y, predicted, constraint=constraint, sensitive_features=s, pos_label=label
            )
            # fairlearn's rates are of two labels.
            against = (np.where(column == label, label, "rest") for column in (y, predicted))
            theirs = MetricFrame(
                metrics=lambda *columns, rate=rate: rate(*columns, pos_label=label),
                y_true=next(against),
                y_pred=next(against),
                sensitive_features=s,
            ).difference()
            assert ours == pytest.approx(theirs, abs=1e-12)

    def test_a_scorer_has_it(self, data):
        X, y, s = data
        clf = model(solver="plug_in").fit(X, y, sensitive_features=s)
        for told in (False, True):
            scorer = fairness_scorer(f"{TPR}_distance", pos_label=0, known_groups=told)
            given = {"sensitive_features": s} if told else {}
            wanted = constraint_distance(
                y, clf.predict(X, **given), constraint=TPR, sensitive_features=s, pos_label=0
            )
            with sklearn.config_context(enable_metadata_routing=True):
                assert scorer(clf, X, y, sensitive_features=s) == -wanted
        with pytest.raises(ValueError, match="weighted_f1_error is one of all classes"):
            fairness_scorer("weighted_f1_error", pos_label=0)


class TestPath:
    def test_is_as_if_it_were_the_second(self, data):
        X, y, s = data
        asked = {"fairness_weight": None, "solver": "closed_form"}
        draw = partial(fairness_path, sensitive_features=s, weights=5, thresholds=7, n_boot=0)
        a = draw(model(pos_label=0, **asked), X, y)
        b = draw(model(**asked), X, 1 - y)
        assert (a.pos_label, b.pos_label) == (0, 1)
        assert (a.table["positive_share"] != 1.0).any()
        # F1 is summed over the classes in their order.
        pd.testing.assert_frame_equal(a.table, b.table, rtol=1e-9)
        np.testing.assert_array_equal(a.decisions, b.decisions[:, :, ::-1, ::-1])
        np.testing.assert_allclose(a.limits(), b.limits())
        for confidence in (None, 0.9):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert a.choose(0.3, confidence=confidence) == b.choose(0.3, confidence=confidence)

    @pytest.mark.parametrize("label", [0, 1])
    def test_moved_thresholds_are_of_its_decisions(self, data, label):
        X, y, s = data
        clf = model(pos_label=label, fairness_weight=None, solver="closed_form")
        half = slice(0, 200), slice(200, 400)
        held_out = X[half[1]], y[half[1]], s[half[1]]
        path = fairness_path(
            clf,
            X[half[0]],
            y[half[0]],
            sensitive_features=s[half[0]],
            weights=3,
            held_out=held_out,
            n_boot=0,
        )
        table = path.table
        assert (table["positive_share"] != 1.0).any()
        for i, row in table.iterrows():
            predicted = path.classifiers[i].predict(held_out[0])
            wanted = constraint_distance(
                held_out[1],
                predicted,
                constraint=TPR,
                sensitive_features=held_out[2],
                pos_label=label,
            )
            assert row["difference"] == pytest.approx(wanted, abs=1e-12)
            same = table["fairness_weight"] == row["fairness_weight"]
            (own,) = table.index[same & (table["positive_share"] == 1.0)]
            share = (path.classifiers[own].predict(held_out[0]) == label).sum()
            assert abs((predicted == label).sum() - row["positive_share"] * share) <= 1

    @pytest.mark.parametrize("constraint", [TPR, "error_rate_parity"])
    def test_of_several_all_distances_are_of_one_class(self, several, constraint):
        X, y, s = several
        clf = model(constraint=constraint, fairness_weight=None, solver="plug_in", pos_label=2)
        path = fairness_path(
            clf, X, y, sensitive_features=s, weights=2, held_out=(X, y, s), n_boot=0
        )
        for i, row in path.table.iterrows():
            predicted = path.classifiers[i].predict(X)
            for name, of in (
                ("difference", constraint),
                ("demographic_parity_distance", "demographic_parity"),
                ("equalized_odds_distance", "equalized_odds"),
            ):
                wanted = constraint_distance(
                    y, predicted, constraint=of, sensitive_features=s, pos_label=2
                )
                assert row[name] == pytest.approx(wanted, abs=1e-12)
                report = fairness_report(
                    y, predicted, sensitive_features=s, pos_label=2, constraint=of, n_boot=0
                )
                limits = report.headline.loc[f"{of}_distance", ["low", "high"]]
                assert [row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx([*limits])


class TestOrder:
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_of_classes_is_as_whole_numbers_in_it(self, data, solver):
        X, y, s = data
        names = np.array(LEVELS)
        clf = model(solver=solver).fit(X, ordered(names[y]), sensitive_features=s)
        numbers = model(solver=solver).fit(X, y, sensitive_features=s)
        assert clf.pos_label_ == "high"
        np.testing.assert_allclose(
            clf.decision_function(X), -numbers.decision_function(X), atol=1e-7
        )
        # Without the order it is the last by the alphabet.
        plain = model(solver=solver).fit(X, names[y], sensitive_features=s)
        assert plain.pos_label_ == "low"
        assert np.abs(plain.decision_function(X) - clf.decision_function(X)).max() > 0.1

    def test_pos_label_goes_first(self, data):
        X, y, s = data
        clf = model(pos_label="low", solver="closed_form")
        assert clf.fit(X, ordered(np.array(LEVELS)[y]), sensitive_features=s).pos_label_ == "low"

    def test_unused_categories_are_no_classes(self, data):
        X, y, s = data
        labels = ordered(np.array(LEVELS)[y], ["none", "low", "mid", "high", "top"])
        clf = model(solver="closed_form").fit(X, labels, sensitive_features=s)
        assert (clf.classes_.tolist(), clf.pos_label_) == (["high", "low"], "high")

    def test_of_unordered_categories_there_is_none(self, data):
        X, y, s = data
        labels = pd.Categorical(np.array(LEVELS)[y], LEVELS)
        groups = pd.Categorical(np.array(["b", "a"])[s], ["b", "a"])
        clf = model(solver="closed_form").fit(X, labels, sensitive_features=groups)
        assert (clf.pos_label_, clf.groups_.tolist()) == ("low", ["a", "b"])

    @pytest.mark.parametrize("k", [2, 3])
    def test_changes_no_score_of_scikit_learn(self, k):
        # It sorts the labels, and takes the columns of predict_proba to be in that order.
        X, y, _ = make_biased_classification(400, 6, n_classes=k, random_state=0)
        names = ["low", "mid", "high"] if k == 3 else LEVELS
        plain = np.array(names)[y]
        for name in ("roc_auc_ovr" if k == 3 else "roc_auc", "neg_log_loss", "accuracy"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of no groups
                scores = [
                    get_scorer(name)(FairLowRankHeadClassifier().fit(X, labels), X, labels)
                    for labels in (plain, ordered(plain, names))
                ]
            theirs = get_scorer(name)(LogisticRegression().fit(X, plain), X, plain)
            assert scores[0] == scores[1] == pytest.approx(theirs, abs=0.01)

    def test_of_groups_changes_nothing_but_the_order(self, data):
        X, y, s = data
        names = np.array(["young", "middle", "old"])
        groups = names[(s + (X[:, 0] > 0)) % 3]
        params = {"solver": "closed_form", "constraint": "demographic_parity"}
        clf = model(**params).fit(X, y, sensitive_features=ordered(groups, names))
        plain = model(**params).fit(X, y, sensitive_features=groups)
        assert clf.groups_.tolist() == names.tolist()
        assert plain.groups_.tolist() == sorted(names)
        np.testing.assert_allclose(clf.decision_function(X), plain.decision_function(X), atol=1e-9)
        order = [plain.groups_.tolist().index(name) for name in names]
        np.testing.assert_allclose(clf.group_importance_, plain.group_importance_[order])
        predicted = clf.predict(X)
        reports = [
            fairness_report(y, predicted, sensitive_features=given, n_boot=0)
            for given in (ordered(groups, names), groups)
        ]
        assert reports[0].by_group.index.tolist() == names.tolist()
        pd.testing.assert_frame_equal(reports[0].by_group, reports[1].by_group.loc[names])
        pd.testing.assert_frame_equal(reports[0].differences, reports[1].differences)
        display = GroupRatesDisplay.from_report(reports[0])
        assert [text.get_text().split()[0] for text in display.ax_.get_yticklabels()] == [*names]
        page = model_report(clf, X, y, sensitive_features=ordered(groups, names), n_boot=0)
        assert page.counts.index.tolist() == names.tolist()
        assert page.counts.loc["old"].sum() == (groups == "old").sum()

    def test_of_several_columns_goes_column_by_column(self):
        frame = pd.DataFrame(
            {
                "sex": ["f", "m", "f", "m", "f"],
                "size": ordered(["S", "L", "L", "S", "S"], ["S", "M", "L"]),
            }
        )
        groups, codes = encode_groups(frame, 5)
        assert groups.tolist() == [("f", "S"), ("f", "L"), ("m", "S"), ("m", "L")]
        assert codes.tolist() == [0, 3, 1, 2, 0]

    @pytest.mark.parametrize("make", ["polars", "arrow", "chunked", "index", "column", "dates"])
    def test_of_other_libraries(self, make):
        values = ["low", "high", "low"]
        if make == "polars":
            pl = pytest.importorskip("polars")
            column = pl.Series(values, dtype=pl.Enum(LEVELS))
        elif make in ("arrow", "chunked"):
            pa = pytest.importorskip("pyarrow")
            column = pa.DictionaryArray.from_arrays([0, 1, 0], LEVELS, ordered=True)
            column = pa.chunked_array([column, column[:0]]) if make == "chunked" else column
        elif make == "index":
            column = pd.CategoricalIndex(values, LEVELS, ordered=True)
        elif make == "column":
            column = ordered(values).to_frame("level")
        else:  # which have an order of their own
            days = pd.to_datetime(["2020-01-02", "2020-01-01"])
            column = pd.Categorical(days[[1, 0, 1]], days, ordered=True)
            assert encode_groups(column, 3)[1].tolist() == [0, 1, 0]
            return
        groups, codes = encode_groups(column, 3)
        assert groups.tolist() == LEVELS
        assert codes.tolist() == [0, 1, 0]


class TestOrderInMetrics:
    def decisions(self, n=300):
        rng = np.random.default_rng(0)
        y, s = rng.integers(2, size=n), rng.integers(2, size=n)
        return y, np.where(rng.random(n) < 0.2 + 0.2 * s * y, 1 - y, y), s

    @pytest.mark.parametrize("which", ["both", "y_true", "y_pred"])
    def test_is_as_whole_numbers_in_it(self, which):
        y, predicted, s = self.decisions()
        names = np.array(LEVELS)
        true, pred = names[y], names[predicted]
        true = ordered(true) if which != "y_pred" else true
        pred = ordered(pred) if which != "y_true" else pred
        ours = fairness_report(true, pred, sensitive_features=s, n_boot=0)
        numbers = fairness_report(y, predicted, sensitive_features=s, n_boot=0)
        assert ours.positive == "high"
        pd.testing.assert_frame_equal(ours.to_frame(), numbers.to_frame())
        alphabet = fairness_report(names[y], names[predicted], sensitive_features=s, n_boot=0)
        assert alphabet.positive == "low"
        assert not np.allclose(alphabet.by_group["tpr"], numbers.by_group["tpr"])

    def test_whole_numbers_may_have_another_order(self):
        y, predicted, s = self.decisions()
        found = fairness_report(ordered(y, [1, 0]), predicted, sensitive_features=s, n_boot=0)
        assert found.positive == 0

    def test_of_several_is_that_of_the_columns(self):
        y, _, s = self.decisions()
        names = np.array(["low", "mid", "high"])
        y = names[y + (np.arange(len(y)) % 2)]
        report = fairness_report(ordered(y, names), y, sensitive_features=s, n_boot=0)
        rates = [name for name in report.by_group if name.startswith("tpr")]
        assert rates == ["tpr[low]", "tpr[mid]", "tpr[high]"]

    def test_a_category_without_rows_can_be_positive(self):
        labels = ordered(["low"] * 40)
        with pytest.warns(match="true positive rate of label 'high'"):
            report = fairness_report(labels, labels, sensitive_features=[0, 1] * 20, n_boot=0)
        assert report.positive == "high"
        assert report.overall["selection_rate"] == 0.0

    def test_that_differ_are_refused(self):
        y, predicted, s = self.decisions()
        true, pred = (np.array(LEVELS)[codes] for codes in (y, predicted))
        with pytest.raises(ValueError, match="expected one order"):
            fairness_report(ordered(true), ordered(pred, LEVELS[::-1]), sensitive_features=s)
        more = ordered(pred, ["none", "low", "mid", "high"])  # one order, of more categories
        for columns in ((ordered(true), more), (more, ordered(true))):
            assert fairness_report(*columns, sensitive_features=s, n_boot=0).positive == "high"

    def test_of_which_a_label_is_none_is_refused(self):
        y, predicted, s = self.decisions()
        true, pred = (np.array(LEVELS)[codes] for codes in (y, predicted))
        pred[0] = "mid"
        with pytest.raises(ValueError, match=r"holds \['mid'\], of which the order says nothing"):
            fairness_report(ordered(true), pred, sensitive_features=s)

    @pytest.mark.parametrize("lazy", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
    def test_of_dask_is_the_same(self, lazy):
        dd = pytest.importorskip("dask.dataframe")
        y, predicted, s = self.decisions()
        columns = [
            ordered(np.array(LEVELS)[y]),
            pd.Series(np.array(LEVELS)[predicted]),
            ordered(np.array(["old", "mid", "new"])[s], ["old", "new", "mid"]),
        ]
        here = fairness_report(*columns[:2], sensitive_features=columns[2], n_boot=0)
        given = [
            dd.from_pandas(column, npartitions=3) if there else column
            for column, there in zip(columns, lazy, strict=True)
        ]
        found = fairness_report(*given[:2], sensitive_features=given[2], n_boot=0)
        assert (found.positive, found.by_group.index.tolist()) == ("high", ["old", "mid"])
        pd.testing.assert_frame_equal(found.to_frame(), here.to_frame())

    def test_of_chunks_that_differ_is_refused(self):
        dask = pytest.importorskip("dask")
        parts = [dask.delayed(ordered(LEVELS, order)) for order in (LEVELS, LEVELS[::-1])]
        with pytest.raises(ValueError, match="y_true has ordered categories that differ between"):
            fairness_report(parts, LEVELS * 2, sensitive_features=[0, 1, 1, 0])


class TestSaid:
    def test_by_summary_and_box(self, fitted, several):
        clf = fitted[0]
        assert summarize(clf).positive == "high"
        assert "classes     2: high, low; positive: high" in str(summarize(clf))
        assert "high, low; positive: high" in clf._repr_html_()
        X, y, s = several
        clf = model(solver="closed_form").fit(X, y, sensitive_features=s)
        assert "classes     3: 0, 1, 2; positive: each in turn" in str(summarize(clf))

    def test_by_tables(self, fitted):
        clf, X, labels, s = fitted
        report = fairness_report(labels, clf.predict(X), sensitive_features=s, n_boot=0)
        for text in (str(report), report.to_markdown(), report.to_html()):
            assert "positive class: high" in text
        names = np.array(["<b>", "a|b", "c"])
        y = names[np.arange(60) % 3]
        report = fairness_report(y, y, sensitive_features=[0, 1] * 30, n_boot=0)
        assert "positive class: each in turn, against the rest" in str(report)
        report = fairness_report(y, y, sensitive_features=[0, 1] * 30, n_boot=0, pos_label="<b>")
        assert "positive class: &lt;b&gt;" in report.to_html()
        assert "positive class: &lt;b&gt;" in report.to_markdown()

    def test_by_report_and_card(self, fitted):
        clf, X, labels, s = fitted
        # The labels of the report need not have the order: the fit knows it.
        for given in (labels, labels.astype(str)):
            report = model_report(clf, X, given, sensitive_features=s, n_boot=0)
            assert report.fairness.positive == "high"
            for text in (report.to_html(), report.to_markdown()):
                assert "The positive class is high." in text

    def test_a_caveat_on_labels_is_of_it(self, data):
        X, y, s = data
        clf = model(constraint="demographic_parity", pos_label=0).fit(X, y, sensitive_features=s)
        report = model_report(clf, X, y, sensitive_features=s, n_boot=0)
        (found,) = [each for each in report.caveats if each.topic.startswith("The labels differ")]
        assert found.text.startswith("The share of class 0 ")
        shares = sorted((y[s == g] == 0).mean() for g in (0, 1))
        stated = [float(number) for number in re.findall(r"0\.\d+", found.text)]
        assert stated == pytest.approx(shares, abs=1e-3)

    def test_by_displays(self, fitted, data):
        clf, X, labels, s = fitted
        draw = GroupRatesDisplay.from_estimator
        display = draw(clf, X, labels.astype(str), sensitive_features=s)
        assert "(positive: high)" in display.ax_.get_xlabel()
        own = draw(clf, X, labels, sensitive_features=s, pos_label="low")
        assert own.positive == "low"
        X, y, s = data
        pipeline = make_pipeline(StandardScaler(), model(pos_label=0))
        pipeline.fit(X, y, fairlowrankheadclassifier__sensitive_features=s)
        assert draw(pipeline, X, y, sensitive_features=s).positive == 0
        assert draw(LogisticRegression().fit(X, y), X, y, sensitive_features=s).positive == 1

    def test_a_path_of_another_class_is_refused(self, data):
        X, y, s = data
        asked = {"solver": "closed_form", "fairness_weight": None}
        path = fairness_path(
            model(**asked), X, y, sensitive_features=s, weights=2, thresholds=1, n_boot=0
        )
        clf = model(solver="closed_form", pos_label=0).fit(X, y, sensitive_features=s)
        with pytest.raises(ValueError, match="path has pos_label=1, but the model pos_label_=0"):
            model_report(clf, X, y, sensitive_features=s, path=path)
        report = model_report(path.classifiers[1], X, y, sensitive_features=s, path=path, n_boot=0)
        assert report.chosen == 1


class TestSaved:
    def test_comes_back(self, data, tmp_path):
        X, y, s = data
        for i, label in enumerate([None, "high", np.str_("high")]):
            labels = np.array(LEVELS)[y]
            clf = model(pos_label=label).fit(X, labels, sensitive_features=s)
            clf.save(tmp_path / f"{i}")
            found = load(tmp_path / f"{i}")
            assert (found.pos_label, found.pos_label_) == (label, clf.pos_label_)
            found.fit(X, labels, sensitive_features=s)
            np.testing.assert_array_equal(found.decision_function(X), clf.decision_function(X))

    def test_the_order_comes_back(self, data, tmp_path):
        X, y, s = data
        groups = ordered(np.array(["young", "old"])[s], ["young", "old"])
        clf = model().fit(X, ordered(np.array(LEVELS)[y]), sensitive_features=groups)
        clf.save(tmp_path)
        found = load(tmp_path)
        assert (found.pos_label_, found.groups_.tolist()) == ("high", ["young", "old"])

    def test_of_several_too(self, several, tmp_path):
        X, y, s = several
        for label in (None, 2):
            clf = model(pos_label=label, solver="closed_form").fit(X, y, sensitive_features=s)
            clf.save(tmp_path)
            assert load(tmp_path).pos_label_ == label

    def test_models_of_before_have_the_default(self):
        assert load(make.HERE / "format_1" / "features").pos_label_ is None

    @pytest.mark.parametrize("written", ["mid", None, ["high"], 0])
    def test_what_is_no_class_is_refused(self, data, tmp_path, written):
        from skfairft.saving import folder

        X, y, s = data
        clf = model(solver="closed_form").fit(X, np.array(LEVELS)[y], sensitive_features=s)
        clf.save(tmp_path)
        file = tmp_path / "model.json"
        content = json.loads(file.read_text())
        content["fitted"]["pos_label_"] = written
        tampered = {name: content[name] for name in content if name != "sha256"}
        file.write_text(json.dumps({"sha256": folder._sum_of(tampered), **tampered}))
        with pytest.raises(ValueError, match="pos_label_ is"):
            load(tmp_path)
