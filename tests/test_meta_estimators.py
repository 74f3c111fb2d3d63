"""What scikit-learn's meta-estimators do with groups: the table of the guide, row by row.

Each fit of a head is looked at, also those that nobody sees afterwards: it must get the groups (and
weights) of just its rows, and come to what a fit on these rows alone comes to.
"""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from skfairft import FairLowRankHeadClassifier, FairnessWarning
from skfairft.datasets import make_biased_classification
from skfairft.metrics import demographic_parity_distance, fairness_scorer

pytestmark = pytest.mark.usefixtures("routing")

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))

N = 120
X, labels, codes = make_biased_classification(
    N, 5, n_classes=3, n_informative=3, disparity=0.4, random_state=0
)
groups = np.array(["a", "b"])[codes]
weight = np.random.default_rng(0).uniform(0.5, 2.0, size=N)
y = (labels > 0).astype(int)
several = np.column_stack([y, X[:, 0] > 0]).astype(int)
scaled = StandardScaler().fit_transform(X)

# Every number in X is another one, so that each tells its row; also where columns are left out.
ROW = {value: row for table in (X, scaled) for row in range(N) for value in table[row]}
assert len(ROW) == 2 * X.size


class Fit(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    groups: np.ndarray | None
    found: np.ndarray

    @property
    def rows(self):
        return np.array([ROW[value] for value in self.X[:, 0]])


SEEN: list[Fit] = []


class Head(FairLowRankHeadClassifier):
    """The classifier; what its fits were given, and found, is written down."""

    def fit(self, X, y, *, sample_weight=None, sensitive_features=None):
        super().fit(X, y, sample_weight=sample_weight, sensitive_features=sensitive_features)
        SEEN.append(Fit(X, y, sample_weight, sensitive_features, self.group_importance_))
        return self


class GroupInX(ClassifierMixin, BaseEstimator):
    """The guide's way round: the first column of X is the group."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y, sample_weight=None):
        self.estimator_ = clone(self.estimator)
        self.estimator_.fit(X[:, 1:], y, sample_weight=sample_weight, sensitive_features=X[:, 0])
        self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X):
        return self.estimator_.predict(X[:, 1:])

    def predict_proba(self, X):
        return self.estimator_.predict_proba(X[:, 1:])


class Unasked(LogisticRegression):
    """The guide's way round for stacking: takes the groups and leaves them."""

    def fit(self, X, y, sample_weight=None, sensitive_features=None):
        return super().fit(X, y, sample_weight)


@pytest.fixture(autouse=True)
def _nothing_seen():
    SEEN.clear()


def head(weighted=False, **settings):
    settings = {"rank": 1, "solver": "closed_form"} | settings
    clf = Head(**settings).set_fit_request(sensitive_features=True)
    if weighted:
        clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    return clf


def given(weighted):
    return {"sensitive_features": groups} | ({"sample_weight": weight} if weighted else {})


def scorer(name="weighted_f1_error"):
    asks = {} if name == "weighted_f1_error" else {"sensitive_features": True}
    return fairness_scorer(name).set_score_request(sample_weight=True, **asks)


def direct(fit, groups):
    """Return the importance of a fit on the same rows, with these groups."""
    clf = FairLowRankHeadClassifier(rank=1, solver="closed_form")
    clf.fit(fit.X, fit.y, sample_weight=fit.weight, sensitive_features=groups)
    return clf.group_importance_


def assert_arrived(fits, sizes, *, weighted=False):
    """Assert that fits of these numbers of rows got the groups and weights of their rows."""
    assert sorted({len(fit.y) for fit in fits}) == sizes
    for fit in fits:
        np.testing.assert_array_equal(fit.groups, groups[fit.rows])
        if weighted:
            np.testing.assert_array_equal(fit.weight, weight[fit.rows])
        else:
            assert fit.weight is None
        np.testing.assert_array_equal(fit.found, direct(fit, groups[fit.rows]))
    # Control: groups of other rows would have led elsewhere.
    assert not np.allclose(fits[-1].found, direct(fits[-1], np.roll(groups, 1)[fits[-1].rows]))


def fits_of(estimator, target):
    return lambda weighted: estimator(weighted).fit(X, target, **given(weighted))


def curve(function, **settings):
    return lambda weighted: function(head(weighted), X, y, params=given(weighted), cv=3, **settings)


def scaler():
    return StandardScaler().set_fit_request(sample_weight=False)


def halving(search, **settings):
    return lambda weighted: search(
        head(weighted), {"rank": [1, 2, None]}, cv=3, min_resources=40, random_state=0, **settings
    )


def reference():
    return LogisticRegression().set_fit_request(sample_weight=True)


# Name in the table: how to fit, and the numbers of rows of the fits inside.
ARRIVE = {
    "Pipeline": (fits_of(lambda w: make_pipeline(scaler(), head(w)), y), [120]),
    "GridSearchCV": (fits_of(lambda w: GridSearchCV(head(w), {"rank": [1]}, cv=3), y), [80, 120]),
    "RandomizedSearchCV": (
        fits_of(lambda w: RandomizedSearchCV(head(w), {"rank": [1]}, n_iter=1, cv=3), y),
        [80, 120],
    ),
    # min_resources rows at first, three times as many then, of which a third is held out.
    "HalvingGridSearchCV": (fits_of(halving(HalvingGridSearchCV), y), [26, 80, 120]),
    "HalvingRandomSearchCV": (
        fits_of(halving(HalvingRandomSearchCV, n_candidates=3), y),
        [26, 80, 120],
    ),
    "cross_validate": (curve(cross_validate), [80]),
    "cross_val_score": (curve(cross_val_score), [80]),
    "cross_val_predict": (curve(cross_val_predict), [80]),
    "learning_curve": (
        curve(learning_curve, train_sizes=[40, 80], shuffle=True, random_state=0),
        [40, 80],
    ),
    "validation_curve": (
        curve(validation_curve, param_name="rank", param_range=[1, 2]),
        [80],
    ),
    "permutation_test_score": (curve(permutation_test_score, n_permutations=2), [80]),
    "CalibratedClassifierCV": (fits_of(lambda w: CalibratedClassifierCV(head(w), cv=3), y), [80]),
    "CalibratedClassifierCV, ensemble=False": (
        fits_of(lambda w: CalibratedClassifierCV(head(w), cv=3, ensemble=False), y),
        [80, 120],
    ),
    "VotingClassifier": (
        fits_of(lambda w: VotingClassifier([("head", head(w)), ("other", reference())]), y),
        [120],
    ),
    "StackingClassifier": (
        fits_of(lambda w: StackingClassifier([("head", head(w))], Unasked(), cv=3), y),
        [80, 120],
    ),
    "OneVsRestClassifier": (fits_of(lambda w: OneVsRestClassifier(head(w)), labels), [120]),
    # The rows of two classes at a time.
    "OneVsOneClassifier": (
        fits_of(lambda w: OneVsOneClassifier(head(w)), labels),
        sorted({int(np.sum(labels != label)) for label in range(3)}),
    ),
    "OutputCodeClassifier": (
        fits_of(lambda w: OutputCodeClassifier(head(w), random_state=0), labels),
        [120],
    ),
    "MultiOutputClassifier": (fits_of(lambda w: MultiOutputClassifier(head(w)), several), [120]),
    "ClassifierChain": (fits_of(lambda w: ClassifierChain(head(w)), several), [120]),
    "TunedThresholdClassifierCV": (
        fits_of(
            lambda w: TunedThresholdClassifierCV(
                head(w), cv=3, scoring=scorer("demographic_parity_distance")
            ),
            y,
        ),
        [80, 120],
    ),
    "FixedThresholdClassifier": (
        fits_of(lambda w: FixedThresholdClassifier(head(w), threshold=0.3), y),
        [120],
    ),
    "RFE": (fits_of(lambda w: RFE(head(w), importance_getter="importance_"), y), [120]),
    "RFECV": (
        fits_of(
            lambda w: RFECV(head(w), cv=3, importance_getter="importance_", scoring=scorer()), y
        ),
        [80, 120],
    ),
    "SequentialFeatureSelector": (
        fits_of(
            lambda w: SequentialFeatureSelector(head(w), cv=3, n_features_to_select=2),
            y,
        ),
        [80],
    ),
    "SelectFromModel": (
        fits_of(lambda w: SelectFromModel(head(w), importance_getter="importance_"), y),
        [120],
    ),
}


# With weights there is more to go astray.
@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("name", ARRIVE)
def test_groups_arrive_with_their_rows(name, weighted):
    fit, sizes = ARRIVE[name]
    fit(weighted)
    assert_arrived(SEEN, sizes, weighted=weighted)


class TestBaggingClassifier:
    """BaggingClassifier: the groups are drawn with the rows."""

    def fit(self, weighted, **more):
        model = BaggingClassifier(head(weighted), n_estimators=3, random_state=0)
        return model.fit(X, y, sensitive_features=groups, **more)

    def test_by_index(self):
        drawn = self.fit(weighted=False).estimators_samples_
        assert_arrived(SEEN, [120])
        for fit, rows in zip(SEEN, drawn, strict=True):
            np.testing.assert_array_equal(fit.rows, rows)
            assert len(set(rows)) < N

    def test_heads_that_ask_for_weights_get_all_rows_with_the_number_of_draws(self):
        self.fit(weighted=False)
        by_index = list(SEEN)
        SEEN.clear()
        drawn = self.fit(weighted=True).estimators_samples_
        for fit, rows, other in zip(SEEN, drawn, by_index, strict=True):
            np.testing.assert_array_equal(fit.rows, np.arange(N))
            np.testing.assert_array_equal(fit.groups, groups)
            np.testing.assert_array_equal(fit.weight, np.bincount(rows, minlength=N))
            np.testing.assert_array_equal(fit.found, direct(fit, groups))
            # A row twice is a weight of 2: sums in another order differ by rounding.
            np.testing.assert_array_equal(np.sort(other.rows), np.sort(rows))
            np.testing.assert_allclose(fit.found, other.found, rtol=1e-9)

    @pytest.mark.skipif(VERSION < (1, 8), reason="scikit-learn before 1.8 draws all rows alike")
    def test_weights_decide_what_is_drawn(self):
        few = np.where(np.arange(N) < 40, 1.0, 0.0)
        self.fit(weighted=False, sample_weight=few)
        assert_arrived(SEEN, [len(SEEN[0].y)])
        assert all(fit.rows.max() < 40 for fit in SEEN)


class TestAround:
    """CalibratedClassifierCV, TunedThresholdClassifierCV, SelectFromModel around fitted heads."""

    @pytest.mark.parametrize("passed", [False, True])
    @pytest.mark.parametrize(
        "around",
        [
            CalibratedClassifierCV,
            lambda frozen: TunedThresholdClassifierCV(frozen, cv="prefit", refit=False),
            lambda frozen: SelectFromModel(frozen, importance_getter="importance_"),
        ],
        ids=["calibration", "threshold", "selection"],
    )
    def test_nothing_is_fitted_and_groups_are_not_needed(self, around, passed):
        clf = head().fit(X, y, sensitive_features=groups)
        scores = clf.decision_function(X)
        SEEN.clear()
        around(FrozenEstimator(clf)).fit(X, y, **(given(False) if passed else {}))
        assert SEEN == []
        np.testing.assert_array_equal(clf.decision_function(X), scores)


class TestStackingClassifier:
    """The heads get their groups; the final estimator gets them, too, whether it asks or not."""

    def test_the_final_estimator_is_handed_what_it_did_not_ask_for(self):
        model = StackingClassifier([("head", head())], cv=3)
        with pytest.raises(TypeError, match=r"LogisticRegression\.fit\(\) got an unexpected"):
            model.fit(X, y, sensitive_features=groups)
        # The heads had been fitted by then, on all rows and in the folds.
        assert_arrived(SEEN, [80, 120])

    def test_it_is_so_without_any_head_of_this_package(self):
        """scikit-learn's own classifiers meet the same with what only they ask for."""

        class Asking(LogisticRegression):
            def fit(self, X, y, sample_weight=None, note=None):
                return super().fit(X, y, sample_weight)

        model = StackingClassifier([("own", Asking().set_fit_request(note=True))], cv=3)
        with pytest.raises(TypeError, match="unexpected keyword argument 'note'"):
            model.fit(X, y, note=groups)

    @pytest.mark.parametrize("final", [Unasked, head])
    def test_one_that_takes_them_is_the_way_round(self, final):
        model = StackingClassifier([("head", head())], final(), cv=3)
        model.fit(X, y, sensitive_features=groups)
        inner = cross_val_predict(head(), X, y, cv=3, params=given(False), method="predict_proba")[
            :, [1]
        ]
        expected = (
            Unasked().fit(inner, y)
            if final is Unasked
            else head().fit(inner, y, sensitive_features=groups)
        )
        own = model.estimators_[0].predict_proba(X)[:, [1]]
        np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(own), rtol=1e-6)

    def test_heads_that_are_fitted_already_need_none(self):
        clf = head().fit(X, y, sensitive_features=groups)
        SEEN.clear()
        StackingClassifier([("head", clf)], cv="prefit").fit(X, y)
        assert SEEN == []


class TestAdaBoostClassifier:
    """Nothing can be passed; without groups the head warns."""

    def test_refuses_groups(self):
        with pytest.raises(TypeError, match="unexpected keyword argument 'sensitive_features'"):
            AdaBoostClassifier(head()).fit(X, y, sensitive_features=groups)

    def test_refuses_weights(self):
        with pytest.raises(NotImplementedError, match="metadata routing is not yet implemented"):
            AdaBoostClassifier(head()).fit(X, y, sample_weight=weight)

    def test_without_them_it_warns(self):
        with pytest.warns(FairnessWarning, match="fit got no sensitive_features"):
            AdaBoostClassifier(head(), n_estimators=1).fit(X, y)
        assert SEEN[0].groups is None

    def test_groups_in_X_are_the_way_round(self):
        model = AdaBoostClassifier(GroupInX(head()), n_estimators=3, random_state=0)
        table = np.column_stack([codes, X])
        model.fit(table, y)
        assert len(SEEN) == 3
        for fit in SEEN:
            np.testing.assert_array_equal(fit.groups, codes[fit.rows])
            np.testing.assert_array_equal(fit.found, direct(fit, groups[fit.rows]))
        # Boosting's weights reach the head, too: those of wrong rows grow.
        wrong = model.estimators_[0].predict(table) != y
        assert np.ptp(SEEN[0].weight) == 0
        ratio = SEEN[1].weight / SEEN[0].weight
        assert wrong.any()
        assert ratio[wrong].min() > ratio[~wrong].max()
        # A prediction needs the column, but not what is in it.
        blank = np.column_stack([np.zeros(N), X])
        np.testing.assert_array_equal(model.predict(blank), model.predict(table))


class TestSelfTrainingClassifier:
    """scikit-learn cuts X and y to the rows with a label, but not what is routed."""

    partly = np.where(np.arange(N) % 3, y, -1)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_groups_of_all_rows_meet_some_rows(self, weighted):
        with pytest.raises(ValueError, match="sensitive_features has 120 rows but X has 80"):
            SelfTrainingClassifier(head(weighted)).fit(X, self.partly, **given(weighted))

    def test_groups_in_X_are_the_way_round(self):
        SelfTrainingClassifier(GroupInX(head())).fit(np.column_stack([codes, X]), self.partly)
        assert len(SEEN[0].y) == 80
        assert len(SEEN[-1].y) > 80
        for fit in SEEN:
            np.testing.assert_array_equal(fit.groups, codes[fit.rows])
            np.testing.assert_array_equal(fit.found, direct(fit, groups[fit.rows]))


class TestClassifierChain:
    """With cv the chain's own cross-validation gets no groups; the other fits do."""

    def test_inner_folds_get_none_and_warn(self):
        with pytest.warns(FairnessWarning, match="fit got no sensitive_features") as caught:
            ClassifierChain(head(), cv=3).fit(X, several, sensitive_features=groups)
        assert len(caught) == 3
        lost = [fit for fit in SEEN if fit.groups is None]
        assert [len(fit.y) for fit in lost] == [80, 80, 80]
        assert_arrived([fit for fit in SEEN if fit.groups is not None], [120])

    def test_a_head_with_a_constraint_refuses(self):
        clf = head(constraint="demographic_parity", fairness_weight=0.5)
        with pytest.raises(ValueError, match="needs groups, but fit got no sensitive_features"):
            ClassifierChain(clf, cv=3).fit(X, several, sensitive_features=groups)

    def test_groups_in_X_are_the_way_round(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = ClassifierChain(GroupInX(head()), cv=3)
            model.fit(np.column_stack([codes, X]), several)
        assert [len(fit.y) for fit in SEEN] == [120, 80, 80, 80, 120]
        for fit in SEEN:
            np.testing.assert_array_equal(fit.groups, codes[fit.rows])
            np.testing.assert_array_equal(fit.found, direct(fit, groups[fit.rows]))


class TestPermutationImportance:
    """permutation_importance fits nothing, and passes its scorer nothing."""

    def test_a_scorer_that_needs_groups_says_so(self):
        clf = head().fit(X, y, sensitive_features=groups)
        distance = fairness_scorer("demographic_parity_distance")
        with pytest.raises(ValueError, match=r"no sensitive_features reached.*function of"):
            permutation_importance(clf, X, y, scoring=distance, n_repeats=1)

    def test_a_function_that_knows_them_is_the_way_round(self):
        clf = head().fit(X, y, sensitive_features=groups)

        def score(estimator, X, y):
            return -demographic_parity_distance(y, estimator.predict(X), sensitive_features=groups)

        found = permutation_importance(clf, X, y, scoring=score, n_repeats=2, random_state=0)
        # By hand, the rows in the order in which scikit-learn shuffles them.
        state = np.random.RandomState(0).randint(np.iinfo(np.int32).max + 1)
        for column in range(X.shape[1]):
            rng, order, moved = np.random.RandomState(state), np.arange(N), X.copy()
            for repeat in range(2):
                rng.shuffle(order)
                moved[:, column] = moved[order, column]
                expected = score(clf, X, y) - score(clf, moved, y)
                assert found.importances[column, repeat] == pytest.approx(expected)
        assert np.ptp(found.importances) > 0.01


@pytest.mark.parametrize("weighted", [False, True])
def test_hidden_folds_are_scored_as_by_hand(weighted):
    """Where no head comes out, the scores tell that groups were cut with the rows."""
    clf = head(weighted, constraint="demographic_parity", fairness_weight=0.5)
    scoring = scorer("demographic_parity_distance")
    found = cross_val_score(clf, X, y, params=given(weighted), scoring=scoring, cv=3)
    w = weight if weighted else np.ones(N)
    expected = []
    for train, test in StratifiedKFold(3).split(X, y):
        clf.fit(X[train], y[train], sample_weight=w[train], sensitive_features=groups[train])
        expected.append(
            -demographic_parity_distance(
                y[test],
                clf.predict(X[test]),
                sensitive_features=groups[test],
                sample_weight=w[test],
            )
        )
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.skipif(VERSION < (1, 9), reason="scikit-learn before 1.9 scores without the weights")
@pytest.mark.parametrize(
    "around",
    [
        lambda clf: TunedThresholdClassifierCV(clf, cv=3),
        lambda clf: RFECV(clf, cv=3, importance_getter="importance_"),
    ],
    ids=["TunedThresholdClassifierCV", "RFECV"],
)
def test_weights_want_a_scorer_that_was_told(around):
    with pytest.raises(UnsetMetadataPassedError, match=r"\[sample_weight\].*make_scorer"):
        around(head(weighted=True)).fit(X, y, **given(weighted=True))


@pytest.mark.parametrize("name", ["RFE", "SelectFromModel"])
def test_a_selector_wants_to_know_where_the_importance_is(name):
    selector = {"RFE": RFE, "SelectFromModel": SelectFromModel}[name](head())
    with pytest.raises(ValueError, match=r"importance_getter=='auto'.*Head"):
        selector.fit(X, y, sensitive_features=groups).transform(X)


def test_the_table_of_the_guide_has_a_test_for_each_name():
    page = Path(__file__).parents[1] / "docs" / "guide" / "routing.md"
    table = page.read_text(encoding="utf-8").partition("## Inside other estimators")[2]
    rows = re.findall(r"^\| (`.*?) \|", table, flags=re.M)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(named) == len(set(named))
    tested = {name.partition(",")[0] for name in ARRIVE} | {
        "BaggingClassifier",
        "AdaBoostClassifier",
        "SelfTrainingClassifier",
        "permutation_importance",
    }
    assert set(named) == tested
