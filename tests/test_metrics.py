import enum
import pickle
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    TunedThresholdClassifierCV,
    cross_val_score,
    permutation_test_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from steps import python_steps

from skfairft.inputs.exceptions import FairnessWarning
from skfairft.metrics import (
    constraint_distance,
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    fairness_scorer,
    weighted_f1_error,
)
from skfairft.parity.table import by_metric

DISTANCES = [demographic_parity_distance, equalized_odds_distance]
LABELS = [(0, 1), (-1, 1), (False, True), ("no", "yes"), (3, 7), (0.0, 1.0)]


def make_data(seed, n=400, n_groups=2, n_classes=2):
    """Labels, predictions and groups in which both errors and rates depend on the group."""
    rng = np.random.default_rng(seed)
    s = rng.integers(n_groups, size=n)
    y = np.minimum(rng.binomial(n_classes - 1, 0.35 + 0.4 * s / n_groups), n_classes - 1)
    wrong = rng.random(n) < 0.1 + 0.3 * s / n_groups
    pred = np.where(wrong, rng.integers(n_classes, size=n), y)
    return y, pred, s, rng.exponential(size=n)


class TestAgreementWithReferences:
    @pytest.mark.parametrize("labels", LABELS)
    @pytest.mark.parametrize("n_groups", [2, 7])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
    @pytest.mark.some(2)
    def test_binary(self, seed, weighted, n_groups, labels):
        y, pred, s, weight = make_data(seed, n_groups=n_groups)
        w = weight if weighted else None
        names = np.array(labels)
        ours = {"sensitive_features": s, "sample_weight": w}
        parity = demographic_parity_distance(names[y], names[pred], **ours)
        odds = equalized_odds_distance(names[y], names[pred], **ours)
        assert parity == pytest.approx(demographic_parity_difference(y, pred, **ours), abs=1e-12)
        mean = equalized_odds_difference(y, pred, agg="mean", **ours)
        assert odds == pytest.approx(2 * mean, abs=1e-12)
        # Controls: there is a disparity, and fairlearn's default is another number.
        assert parity > 0.05
        assert odds > 0.05
        assert odds != pytest.approx(equalized_odds_difference(y, pred, **ours), abs=1e-3)

    @pytest.mark.parametrize("distance", DISTANCES)
    def test_multiclass_is_the_largest_one_vs_rest(self, distance):
        y, pred, s, _ = make_data(3, n=2000, n_groups=3, n_classes=4)
        each = [distance(y == c, pred == c, sensitive_features=s) for c in range(4)]
        assert distance(y, pred, sensitive_features=s) == pytest.approx(max(each), abs=1e-12)
        for c in range(4):
            assert distance(y, pred, sensitive_features=s, pos_label=c) == pytest.approx(each[c])
        assert np.ptp(each) > 0.01

    @pytest.mark.parametrize("n_classes", [2, 5])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_error_is_sklearns_weighted_f1(self, n_classes, weighted):
        y, pred, _, weight = make_data(5, n_classes=n_classes)
        w = weight if weighted else None
        names = np.array(list("vwxyz"))
        expected = f1_score(y, pred, average="weighted", zero_division=0, sample_weight=w)
        found = weighted_f1_error(names[y], names[pred], sample_weight=w)
        assert found == pytest.approx(100 * (1 - expected), abs=1e-10)
        assert found > 1

    @pytest.mark.parametrize(
        ("y", "pred"), [([0, 0, 1], [2, 2, 2]), ([0, 0], [0, 0]), ([0, 1, 2], [0, 0, 0])]
    )
    def test_error_where_labels_are_missing_on_one_side(self, y, pred):
        expected = 100 * (1 - f1_score(y, pred, average="weighted", zero_division=0))
        assert weighted_f1_error(y, pred) == pytest.approx(expected)


@pytest.mark.parametrize("distance", DISTANCES)
class TestLabelsThatAreApart:
    """Rates of labels that nobody is told are alike in all groups, and say nothing."""

    @pytest.mark.parametrize(
        ("held", "told"), [("<>", ["<.", ">."]), (["Yes", "No"], ["yes", "yes"]), ("ab", "cd")]
    )
    def test_two_spellings_are_refused(self, distance, held, told):
        y, pred = (np.array(list(names) * 50) for names in (held, told))
        with pytest.raises(ValueError, match="No prediction is one of the true labels"):
            distance(y, pred, sensitive_features=["f", "f", "m", "m"] * 25)

    @pytest.mark.filterwarnings("ignore:undefined and NaN")
    def test_a_third_class_alone_is_told(self, distance):
        y, pred, s = np.array([1, 2] * 50), np.zeros(100, dtype=int), ["f", "f", "m", "m"] * 25
        with pytest.warns(FairnessWarning, match=r"y_true holds \[1, 2\], y_pred \[0\]"):
            distance(y, pred, sensitive_features=s)


class TestTheorems:
    @pytest.mark.parametrize("distance", DISTANCES)
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_names_and_order_of_groups_and_rows_do_not_matter(self, distance, n_classes):
        y, pred, s, _ = make_data(0, n_groups=4, n_classes=n_classes)
        value = distance(y, pred, sensitive_features=s)
        named = np.array(["z", "a", "m", "b"])[s]
        assert distance(y, pred, sensitive_features=named) == value
        order = np.random.default_rng(0).permutation(len(y))
        shuffled = distance(y[order], pred[order], sensitive_features=s[order])
        assert shuffled == value
        # Control: rows of y and s that no longer belong together give another value.
        assert distance(y, pred, sensitive_features=s[order]) != pytest.approx(value, abs=1e-3)

    @pytest.mark.parametrize("distance", DISTANCES)
    def test_an_integer_weight_repeats_the_row(self, distance):
        y, pred, s, _ = make_data(1)
        times = np.random.default_rng(0).integers(0, 4, size=len(y))
        weighted = distance(y, pred, sensitive_features=s, sample_weight=times)
        y2, pred2, s2 = (np.repeat(a, times) for a in (y, pred, s))
        assert weighted == pytest.approx(distance(y2, pred2, sensitive_features=s2), abs=1e-12)
        assert weighted != pytest.approx(distance(y, pred, sensitive_features=s), abs=1e-4)

    @pytest.mark.parametrize("distance", DISTANCES)
    def test_either_of_two_labels_may_be_the_positive_one(self, distance):
        y, pred, s, w = make_data(2, n_groups=3)
        values = [
            distance(y, pred, sensitive_features=s, sample_weight=w, pos_label=label)
            for label in (None, 0, 1)
        ]
        assert values == pytest.approx([values[0]] * 3, abs=1e-12)

    def test_a_perfect_predictor_has_the_gap_of_the_base_rates(self):
        y, pred, s, _ = make_data(0)
        gap = abs(y[s == 0].mean() - y[s == 1].mean())
        assert demographic_parity_distance(y, y, sensitive_features=s) == pytest.approx(gap)
        assert equalized_odds_distance(y, y, sensitive_features=s) == 0.0
        assert weighted_f1_error(y, y) == 0.0
        assert gap > 0.1
        assert equalized_odds_distance(y, pred, sensitive_features=s) > 0.05

    @pytest.mark.parametrize("distance", DISTANCES)
    def test_a_constant_predictor_is_at_parity(self, distance):
        y, _, s, _ = make_data(0)
        for constant in (0, 1):
            assert distance(y, np.full_like(y, constant), sensitive_features=s) == 0.0

    def test_predicting_the_group_is_as_far_from_parity_as_can_be(self):
        y, _, s, _ = make_data(0)
        assert demographic_parity_distance(y, s, sensitive_features=s) == 1.0
        assert equalized_odds_distance(y, s, sensitive_features=s) == 2.0

    @pytest.mark.parametrize("distance", DISTANCES)
    def test_several_columns_are_their_intersections(self, distance):
        y, pred, s, _ = make_data(0, n_groups=4)
        table = pd.DataFrame({"sex": np.array(["f", "m"])[s % 2], "old": s // 2 == 1})
        value = distance(y, pred, sensitive_features=table)
        assert value == distance(y, pred, sensitive_features=s)
        assert value > distance(y, pred, sensitive_features=table["sex"])

    @pytest.mark.parametrize("metric", [*DISTANCES, weighted_f1_error])
    @pytest.mark.parametrize(
        "convert",
        [
            list,
            torch.tensor,
            lambda a: pd.Series(a, index=np.arange(len(a))[::-1]),
            lambda a: pd.Series(a, dtype="Int64"),
            lambda a: pd.Series(a, dtype="int64[pyarrow]"),
            lambda a: pd.Series(a).astype("category"),
            lambda a: a.astype(bool),
        ],
        ids=["list", "tensor", "index", "nullable", "pyarrow", "categorical", "bool"],
    )
    def test_the_container_does_not_matter(self, metric, convert):
        y, pred, s, _ = make_data(0)
        more = {} if metric is weighted_f1_error else {"sensitive_features": s}
        converted = {name: convert(value) for name, value in more.items()}
        assert metric(convert(y), convert(pred), **converted) == metric(y, pred, **more)

    def test_more_rows_take_no_more_steps_of_python(self):
        def steps(n):
            y, pred, s, _ = make_data(0, n=n)
            names = np.array(["<=50K", ">50K"])

            def call():
                return equalized_odds_distance(names[y], names[pred], sensitive_features=s)

            call()  # the first imports
            return python_steps(call)

        assert steps(30_000) == steps(300)


class TestUndefinedRates:
    # Group b has no positives; a and c differ by 1/2 in TPR, all by 0 in FPR.
    y = np.array([1, 1, 0, 0, 0, 1, 1, 0])
    pred = np.array([1, 1, 0, 0, 0, 1, 0, 0])
    s = np.array(list("aaabbccc"))

    def test_the_group_is_named_and_left_out(self):
        message = re.escape("true positive rate of label 1 in group 'b' (2 rows, 0 with it)")
        with pytest.warns(FairnessWarning, match=message) as caught:
            assert equalized_odds_distance(self.y, self.pred, sensitive_features=self.s) == 0.5
        assert len(caught) == 1
        assert caught[0].filename == __file__
        with warnings.catch_warnings():  # its selection rate is defined
            warnings.simplefilter("error")
            value = demographic_parity_distance(self.y, self.pred, sensitive_features=self.s)
        assert value == pytest.approx(2 / 3)

    def test_nan_if_no_two_groups_are_left(self):
        two = self.s != "c"
        with pytest.warns(FairnessWarning, match="fewer than two groups"):
            value = equalized_odds_distance(
                self.y[two], self.pred[two], sensitive_features=self.s[two]
            )
        assert np.isnan(value)

    def test_false_positive_rate(self):
        with pytest.warns(FairnessWarning, match=r"false positive rate .* \(2 rows, 0 without it"):
            equalized_odds_distance(1 - self.y, 1 - self.pred, sensitive_features=self.s)

    def test_weights_of_zero_undefine_a_rate(self):
        y, pred, s = [1, 1, 1, 0, 1, 0], [1, 0, 1, 1, 1, 0], list("aaaabb")
        weight = [0.1, 0.2, 0.3, 0.0, 1.0, 1.0]
        with pytest.warns(FairnessWarning, match=r"'a' \(4 rows, 1 without it, weight 0\)"):
            value = equalized_odds_distance(y, pred, sensitive_features=s, sample_weight=weight)
        assert np.isnan(value)

    def test_small_weights_are_not_lost_in_large_ones(self):
        # Rates within a class do not depend on its weight against the other class.
        y, pred, s, weight = make_data(0)
        value = equalized_odds_distance(y, pred, sensitive_features=s, sample_weight=weight)
        for small in (0, 1):
            weight_2 = np.where(y == small, 1e-20, 1.0) * weight
            again = equalized_odds_distance(y, pred, sensitive_features=s, sample_weight=weight_2)
            assert again == pytest.approx(value, rel=1e-12)

    def test_a_group_without_weight_has_no_selection_rate(self):
        weight = np.where(self.s == "b", 0.0, 1.0)
        with pytest.warns(FairnessWarning, match=r"selection rate of label 1 in group 'b'"):
            value = demographic_parity_distance(
                self.y, self.pred, sensitive_features=self.s, sample_weight=weight
            )
        assert value == pytest.approx(1 / 3)

    @pytest.mark.parametrize("distance", DISTANCES)
    def test_one_group_is_not_fair_but_undefined(self, distance):
        with pytest.warns(FairnessWarning, match="all 8 rows belong to the group 'x'"):
            assert np.isnan(distance(self.y, self.pred, sensitive_features=["x"] * 8))

    def test_a_long_list_is_cut_and_counted(self):
        s = np.arange(20) // 2
        with pytest.warns(FairnessWarning, match=r"; and 2 more"):
            equalized_odds_distance(np.zeros(20), np.zeros(20), sensitive_features=s)

    def test_classes_that_are_undefined_leave_the_others(self):
        y, s = np.array([0, 1, 2, 0, 1, 1]), list("aaabbb")
        with pytest.warns(FairnessWarning, match="label 2 in group 'b'"):
            value = equalized_odds_distance(y, [0, 0, 2, 0, 1, 1], sensitive_features=s)
        assert value == 1.0  # label 1 is found in b only; label 0 gives 0.5


class TestPositiveLabel:
    @pytest.mark.parametrize(
        ("labels", "positives"),
        [
            ([0, 1], [1]),
            ([-1, 1], [1]),
            ([False, True], [True]),
            ([-1, 0, 1], [-1, 0, 1]),
            (["a", "b"], ["b"]),
            ([2, 5], [5]),
            ([1, 2], [2]),
            (["a"], ["a"]),
            ([0], [1]),
            ([-1, 0], [1]),
            ([False], [True]),
            ([0, 1, 2], [0, 1, 2]),
        ],
    )
    def test_default(self, labels, positives):
        y = np.repeat(labels, 40 * np.arange(1, len(labels) + 1))
        s = np.arange(len(y)) % 2
        with warnings.catch_warnings():  # of one label only, no rate but one is defined
            warnings.simplefilter("ignore", FairnessWarning)
            report = fairness_report(y, y, sensitive_features=s, n_boot=0)
        plain = ["selection_rate", "tpr", "fpr"]
        if len(positives) > 1:
            plain = [f"{name}[{label}]" for name in plain for label in positives]
        assert report.by_group.columns[1:-2].tolist() == plain
        selected = report.overall[plain[: len(positives)]].to_numpy(dtype=float)
        assert selected == pytest.approx([np.mean(y == label) for label in positives])

    def test_labels_that_are_all_negative(self):
        none = [0, 0, 0, 0]
        assert demographic_parity_distance(none, none, sensitive_features=[0, 0, 1, 1]) == 0.0


class TestErrors:
    good = ([0, 1, 1], [0, 1, 0])

    @pytest.mark.parametrize("distance", DISTANCES)
    def test_groups_are_required(self, distance):
        with pytest.raises(TypeError, match="sensitive_features"):
            distance(*self.good)
        with pytest.raises(ValueError, match=r"is None.*enable_metadata_routing=True"):
            distance(*self.good, sensitive_features=None)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"y_pred": [0, 1]}, "y_pred has 2 rows but y_true has 3"),
            ({"sensitive_features": [0, 1]}, "sensitive_features has 2 rows but y_true has 3"),
            ({"sensitive_features": [0, None, 1]}, "1 missing"),
            ({"y_true": [0, np.nan, 1]}, "y_true holds 1 missing"),
            ({"y_pred": [0.2, 1, 0]}, "y_pred holds values that are not whole.*0.2"),
            ({"y_pred": ["0", "1", "0"]}, "labels like 0 and y_pred labels like '0'"),
            ({"y_true": [b"a"] * 3, "y_pred": ["a"] * 3}, "labels like b'a' and y_pred .* 'a'"),
            (
                {"y_true": pd.to_datetime(["2020"] * 3), "y_pred": ["2020"] * 3},
                "labels like datetime.* and y_pred .* '2020'",
            ),
            ({"pos_label": 2}, r"pos_label=2 occurs neither.*\[0, 1\]"),
            *(
                ({"y_true": [0] * 3, "y_pred": [0] * 3, "pos_label": label}, "occurs neither")
                for label in ("1", np.nan, pd.NA, [1], b"1")
            ),
            ({"sample_weight": [1, 1]}, "sample_weight has 2 rows but y_true has 3"),
            ({"sample_weight": [1, -1, 1]}, "holds -1 in row 1"),
            ({"sample_weight": [1, np.inf, 1]}, "holds inf in row 1"),
            ({"sample_weight": [0, 0, 0]}, "zero for all 3 rows"),
            ({"sample_weight": [[1], [1], [1]]}, r"shape \(3, 1\)"),
            ({"y_true": [], "y_pred": [], "sensitive_features": []}, "0 rows"),
        ],
    )
    def test_bad_input(self, change, message):
        arguments = {"y_true": [0, 1, 1], "y_pred": [0, 1, 0], "sensitive_features": [0, 1, 1]}
        arguments.update(change)
        with pytest.raises(ValueError, match=message):
            demographic_parity_distance(
                arguments.pop("y_true"), arguments.pop("y_pred"), **arguments
            )


@pytest.mark.filterwarnings("ignore:undefined and NaN")
def test_of_one_label_another_may_be_positive():
    """As scikit-learn has it; a rate of what is there is what it was."""
    y, s = ["no"] * 40, [0, 1] * 20
    with pytest.warns(FairnessWarning, match="No row has the label pos_label='yes'.*but 'no'"):
        report = fairness_report(y, y, sensitive_features=s, pos_label="yes", n_boot=0)
    assert report.overall[["selection_rate", "fpr", "error"]].tolist() == [0.0] * 3
    assert np.isnan(report.overall["tpr"])
    both = fairness_report([*y, "yes"], [*y, "yes"], sensitive_features=[*s, 0], n_boot=0)
    pd.testing.assert_frame_equal(report.by_group.loc[[1]], both.by_group.loc[[1]])


class Grade(enum.Enum):
    GOOD = 1
    BAD = 2


@pytest.mark.parametrize(
    "names", [[Grade.BAD, Grade.GOOD], [pd.Period("2020"), pd.Period("2020-01")], ["x", b"x"]]
)
def test_labels_without_an_order(names):
    y, pred, s, _ = make_data(0)
    with pytest.raises((TypeError, ValueError)):  # control
        sorted(names)
    y, pred = np.minimum(y, 1), np.minimum(pred, 1)
    given = [[names[label] for label in labels] for labels in (y, pred)]
    found = equalized_odds_distance(*given, sensitive_features=s, pos_label=names[1])
    assert found == equalized_odds_distance(y, pred, sensitive_features=s)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


GRID = {"logisticregression__C": [1e-3, 1.0]}
SCORED = list(by_metric())


class TestScorer:
    rng = np.random.default_rng(0)
    s = rng.integers(2, size=300)
    X = rng.normal(size=(300, 4)) + s[:, None]
    y = (X[:, 0] + rng.normal(size=300) > 0.5).astype(int)
    model = make_pipeline(StandardScaler(), LogisticRegression())

    def test_a_search_scores_each_fold_with_the_groups_of_its_rows(self, routing):
        scoring = {name: fairness_scorer(name) for name in [*SCORED, "weighted_f1_error"]}
        cv = KFold(3)
        search = GridSearchCV(self.model, GRID, scoring=scoring, cv=cv, refit=SCORED[0])
        search.fit(self.X, self.y, sensitive_features=self.s)
        results = search.cv_results_
        for i, params in enumerate(results["params"]):
            for fold, (train, test) in enumerate(cv.split(self.X)):
                model = sklearn.clone(self.model).set_params(**params)
                pred = model.fit(self.X[train], self.y[train]).predict(self.X[test])
                groups = {"sensitive_features": self.s[test]}
                expected = {
                    name: constraint_distance(self.y[test], pred, constraint=constraint, **groups)
                    for name, constraint in by_metric().items()
                }
                expected["weighted_f1_error"] = weighted_f1_error(self.y[test], pred)
                for name, value in expected.items():
                    assert results[f"split{fold}_test_{name}"][i] == pytest.approx(-value)
        assert search.best_index_ == np.argmax(results[f"mean_test_{SCORED[0]}"])

    @pytest.mark.parametrize("name", SCORED)
    def test_a_single_metric_picks_the_fairer_candidate(self, routing, name):
        search = GridSearchCV(self.model, GRID, scoring=fairness_scorer(name), cv=3)
        search.fit(self.X, self.y, sensitive_features=self.s)
        assert search.best_score_ == search.cv_results_["mean_test_score"].max() <= 0
        assert np.ptp(search.cv_results_["mean_test_score"]) > 0
        groups = {"sensitive_features": self.s}
        assert search.score(self.X, self.y, **groups) == fairness_scorer(name)(
            search, self.X, self.y, **groups
        )

    @pytest.mark.parametrize("name", SCORED)
    @pytest.mark.parametrize("multi", [False, True])
    @pytest.mark.parametrize("error_score", [np.nan, "raise"])
    def test_forgotten_groups_stop_a_search(self, routing, name, multi, error_score):
        scorer = fairness_scorer(name)
        scoring = {"fair": scorer, "accuracy": "accuracy"} if multi else scorer
        search = GridSearchCV(
            self.model, GRID, scoring=scoring, refit=False, error_score=error_score
        )
        with pytest.raises(ValueError, match="no sensitive_features reached the scorer"):
            search.fit(self.X, self.y)

    def test_forgotten_routing_stops_a_cross_validation(self):
        scorer = fairness_scorer("equalized_odds_distance")
        with pytest.raises(ValueError, match="enable_metadata_routing=True"):
            cross_val_score(self.model, self.X, self.y, scoring=scorer)

    def test_a_score_without_groups_is_no_number(self):
        score = fairness_scorer("equalized_odds_distance")(
            self.model.fit(self.X, self.y), self.X, self.y
        )
        assert "no sensitive_features reached" in repr(score)
        for read in (float, np.asarray, lambda score: np.mean([score, score])):
            with pytest.raises(ValueError, match="no sensitive_features reached"):
                read(score)

    def test_forgotten_groups_stop_what_does_not_look_whether_a_score_is_a_number(self, routing):
        scorer = fairness_scorer("equalized_odds_distance")
        with pytest.raises(ValueError, match="no sensitive_features reached"):
            permutation_test_score(self.model, self.X, self.y, scoring=scorer, n_permutations=2)
        with pytest.raises(ValueError, match="no sensitive_features reached"):
            TunedThresholdClassifierCV(self.model, scoring=scorer).fit(self.X, self.y)

    def test_routed_weights_need_a_decision(self, routing):
        model = LogisticRegression().set_fit_request(sample_weight=True)
        params = {"sensitive_features": self.s, "sample_weight": np.ones(300)}
        scorer = fairness_scorer("demographic_parity_distance")
        search = GridSearchCV(model, {"C": [1.0]}, scoring=scorer)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            search.fit(self.X, self.y, **params)
        scorer.set_score_request(sensitive_features=True, sample_weight=True)
        assert search.fit(self.X, self.y, **params).best_score_ < 0

    @pytest.mark.parametrize("name", SCORED)
    def test_made_before_routing_is_enabled_and_pickled(self, name):
        assert not sklearn.get_config()["enable_metadata_routing"]
        scorer = pickle.loads(pickle.dumps(fairness_scorer(name)))
        assert not sklearn.get_config()["enable_metadata_routing"]
        assert repr(scorer).startswith(f"make_scorer({name}, greater_is_better=False")
        with sklearn.config_context(enable_metadata_routing=True):
            scores = cross_val_score(
                self.model, self.X, self.y, scoring=scorer, params={"sensitive_features": self.s}
            )
        assert np.all(scores < 0)

    def test_unknown_name(self):
        with pytest.raises(ValueError, match=r"Did you mean 'equalized_odds_distance'\?.*demog"):
            fairness_scorer("equalised_odds_distance")
        with pytest.raises(ValueError, match=r"'zzz'\. The scorers are"):
            fairness_scorer("zzz")


@pytest.mark.slow
def test_import_loads_neither_fairlearn_nor_pandas_nor_matplotlib():
    # scikit-learn imports pandas by itself where it is installed, so block all three instead.
    code = (
        "import sys\n"
        "for name in ('fairlearn', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
        "import skfairft.metrics as m; m.fairness_scorer('weighted_f1_error')\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
