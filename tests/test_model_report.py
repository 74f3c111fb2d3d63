import copy
import json
import os
import pickle
import re
import shutil
import sys
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from browser import CONTRAST, HEADINGS, IMAGES, TABLES, open_chromium, visit
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    equalized_odds_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from flat import flat
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    FineTune,
    FrozenFeatureExtractor,
    fairness_path,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.feature_store import MemoryStore
from skfairft.metrics import fairness_report, fairness_scorer
from skfairft.parity.demands import Bound
from skfairft.report import _figures, _page
from skfairft.report._figures import draw
from skfairft.report._tables import compared, counts, distances, importance, tradeoff

# Names that would break a page, a Markdown table, or a formula, if they were taken for one.
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></table>",
    r"$\frac{1}$ & a|b`c`",
]

HEADINGS_OF_A_CARD = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
    "How to get started",
]


class Page(HTMLParser):
    """Collects the elements of a page, and checks that they are closed in order."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.attributes, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def halves(n_samples=1200, **how):
    """Return training and test rows, (X, y, s) each."""
    arrays = make_biased_classification(n_samples, random_state=0, **how)
    order = np.random.default_rng(0).permutation(n_samples)
    return [[a[part] for a in arrays] for part in np.split(order, 2)]


def fitted(train, **params):
    X, y, s = train
    clf = FairLowRankHeadClassifier(**flat(random_state=0, **params))
    return clf.fit(X, y, sensitive_features=s)


def report_of(estimator, rows, **more):
    X, y, s = rows
    return model_report(estimator, X, y, sensitive_features=s, **{"random_state": 0, **more})


def words_of(report):
    """Return the text of a page; the figures, which take most of its time, are not drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_page, "have_matplotlib", lambda: False)
        return Page(report.to_html()).text


def topics(report):
    return [caveat.topic for caveat in report.caveats if caveat.found]


@pytest.fixture(scope="module")
def rows():
    return halves(disparity=0.4, n_groups=3)


@pytest.fixture(scope="module")
def clf(rows):
    return fitted(rows[0], rank=1)


@pytest.fixture(scope="module")
def report(clf, rows):
    return report_of(clf, rows[1])


@pytest.fixture(scope="module")
def html(report):
    return report.to_html()


@pytest.fixture(scope="module")
def path(rows):
    X, y, s = rows[0]
    clf = FairLowRankHeadClassifier(
        constraint="demographic_parity", solver="plug_in", random_state=0
    )
    return fairness_path(clf, X, y, sensitive_features=s, weights=5)


@pytest.fixture(scope="module")
def rule(rows):
    return fitted(rows[0], constraint="demographic_parity", fairness_weight=0.5, solver="plug_in")


@pytest.fixture(scope="module")
def chromium():
    with open_chromium() as browser:
        yield browser


class TestMeasured:
    def test_the_numbers_are_those_of_fairlearn_and_scikit_learn(self, clf, rows, report):
        X, y, s = rows[1]
        pred = clf.predict(X)
        rates = {"selection_rate": selection_rate, "tpr": true_positive_rate}
        rates["fpr"] = false_positive_rate
        frame = MetricFrame(metrics=rates, y_true=y, y_pred=pred, sensitive_features=s)
        table = report.fairness.by_group
        np.testing.assert_allclose(table[list(rates)], frame.by_group, rtol=1e-12)
        groups = {"sensitive_features": s}
        headline = report.fairness.headline["value"]
        assert headline["demographic_parity_distance"] == pytest.approx(
            demographic_parity_difference(y, pred, **groups)
        )
        assert headline["equalized_odds_distance"] == pytest.approx(
            2 * equalized_odds_difference(y, pred, agg="mean", **groups)
        )
        assert headline["weighted_f1_error"] == pytest.approx(
            100 * (1 - f1_score(y, pred, average="weighted"))
        )

    def test_it_holds_the_fairness_report_of_the_predictions(self, clf, rows, report):
        X, y, s = rows[1]
        alone = fairness_report(y, clf.predict(X), sensitive_features=s, random_state=0)
        pd.testing.assert_frame_equal(report.fairness.to_frame(), alone.to_frame())

    def test_counts(self, rows, report):
        _, y, s = rows[1]
        expected = pd.crosstab(s, y)
        np.testing.assert_array_equal(report.counts, expected)
        assert report.counts.index.tolist() == expected.index.tolist()
        assert report.counts.columns.tolist() == expected.columns.tolist()

    def test_arrays_are_those_of_the_classifier(self, clf, report):
        assert report.group_importance is clf.group_importance_
        assert report.singular_values is clf.singular_values_
        a, b = clf.group_importance_[:2]
        cosine = a @ b / np.sqrt((a @ a) * (b @ b))
        assert report.similarity[0, 1] == pytest.approx(cosine)
        energy = clf.singular_values_**2
        np.testing.assert_allclose(report.energy, np.cumsum(energy) / energy.sum())

    def test_intersections_keep_their_order(self, rows):
        X, y, s = rows[1]
        groups = pd.DataFrame({"b": np.array(["y", "x"])[s % 2], "a": s})
        clf = fitted((X, y, groups))
        report = report_of(clf, (X, y, groups), n_boot=0)
        expected = pd.crosstab([groups["b"], groups["a"]], y)
        pd.testing.assert_frame_equal(report.counts, expected, check_names=False, check_dtype=False)
        assert report.counts.index.names == ["b", "a"]

    @pytest.mark.parametrize("name", ["yes", "class"])
    def test_counts_become_columns_whatever_the_groups_are_called(self, rows, name):
        X, y, s = rows[1]
        labels, groups = np.array(["no", "yes"])[y], pd.Series(s, name=name)
        clf = fitted((X, labels, groups))
        found = report_of(clf, (X, labels, groups), n_boot=0).counts
        marked = f"{name} (group)"
        assert found.reset_index().columns.tolist() == [marked, "no", "yes"]
        long = found.stack().rename("rows").reset_index()
        assert long.columns.tolist() == [marked, "class", "rows"]
        np.testing.assert_array_equal(found, pd.crosstab(s, labels))

    def test_the_row_of_all_groups_is_told_from_a_group_of_its_name(self, rows):
        X, y, s = rows[1]
        named = np.array(["a", "all groups"])[s % 2]
        for groups, pooled in ((s, "all groups"), (named, "all groups (total)")):
            report = report_of(fitted((X, y, groups)), (X, y, groups), n_boot=0)
            names = [row[0] for row in counts(report).rows]
            assert names[-1] == pooled.replace(" ", "\N{NO-BREAK SPACE}")
            assert len({name.replace("\N{NO-BREAK SPACE}", " ") for name in names}) == len(names)

    def test_of_a_pipeline_the_predictions_are_the_whole_pipelines(self, rows):
        X, y, s = rows[0]
        pipeline = make_pipeline(StandardScaler(), FairLowRankHeadClassifier(random_state=0))
        pipeline.fit(100 * X, y, fairlowrankheadclassifier__sensitive_features=s)
        X, y, s = rows[1]
        report = report_of(pipeline, (100 * X, y, s), n_boot=0)
        expected = fairness_report(
            y, pipeline.predict(100 * X), sensitive_features=s, n_boot=0
        ).headline
        pd.testing.assert_frame_equal(report.fairness.headline, expected)
        alone = model_report(pipeline[-1], 100 * X, y, sensitive_features=s, n_boot=0)
        assert not alone.fairness.headline.equals(expected)
        assert report.importance is pipeline[-1].importance_

    def test_of_a_search_the_best_estimator(self, rows, routing):
        X, y, s = rows[0]
        search = GridSearchCV(
            FairLowRankHeadClassifier(random_state=0).set_fit_request(sensitive_features=True),
            {"rank": [1, None]},
            scoring=fairness_scorer("weighted_f1_error"),
            cv=2,
        ).fit(X, y, sensitive_features=s)
        report = report_of(search, rows[1], n_boot=0)
        best = report_of(search.best_estimator_, rows[1], n_boot=0)
        pd.testing.assert_frame_equal(report.fairness.headline, best.fairness.headline)
        assert report.summary == best.summary

    def test_weights_count_rows_and_weigh_rates(self, clf, rows):
        _, y, _ = rows[1]
        weight = np.where(y == 1, 3, 1)
        report = report_of(clf, rows[1], sample_weight=weight, n_boot=0)
        repeated = np.repeat(np.arange(len(y)), weight)
        expected = report_of(clf, [a[repeated] for a in rows[1]], n_boot=0)
        ours, theirs = report.fairness.headline, expected.fairness.headline
        pd.testing.assert_series_equal(ours["value"], theirs["value"])
        # A row of weight 3 is one observation: less sure than three.
        assert (ours["low"][1:] <= theirs["low"][1:]).all()
        assert (ours["high"][1:] >= theirs["high"][1:]).all()
        assert ((ours["high"] - ours["low"])[1:3] > (theirs["high"] - theirs["low"])[1:3]).all()
        assert report.counts.to_numpy().sum() == len(y)
        assert "Weighted rows" in topics(report)

    def test_pickle_and_frozen(self, report, html):
        copy = pickle.loads(pickle.dumps(report))
        assert copy.to_html() == html
        with pytest.raises(AttributeError):
            report.title = "another"

    def test_parameters_say_what_was_set_and_hold_no_paths(self, rows, tmp_path):
        from skfairft import FrozenFeatureExtractor

        extractor = FrozenFeatureExtractor(nn.Linear(10, 4), memory=str(tmp_path))
        clf = fitted(rows[0], feature_extractor=extractor, rank=2)
        report = report_of(clf, rows[1], n_boot=0)
        changed = {name for name, (_, set_) in report.parameters.items() if set_}
        assert changed == {"feature_extractor", "rank", "random_state"}
        assert report.parameters["feature_extractor"][0] == "FrozenFeatureExtractor"
        assert str(tmp_path) not in report.to_html()

    def test_parameters_are_the_same_text_each_time(self, rows):
        class Silent(Callback):
            pass

        params = {"callbacks": [Silent()], "rank": np.int64(1), "C": np.float64(1.0)}
        report = report_of(fitted(rows[0], **params), rows[1], n_boot=0)
        assert report.parameters["solver"] == ("FineTune", True)
        assert report.parameters["solver__callbacks"] == ("[Silent]", True)
        assert report.parameters["solver__lr"][1] is False
        assert report.parameters["rank"] == ("1", True)
        assert report.parameters["C"] == ("1.0", True)

    def test_without_parameters_there_is_no_table_of_them(self, rows):
        X, y, s = rows[0]
        clf = FairLowRankHeadClassifier().fit(X, y, sensitive_features=s)
        page = words_of(report_of(clf, rows[1], n_boot=0))
        assert "Parameters that were set." not in page
        assert "At their defaults: " in page


class TestDoor:
    def test_unfitted(self, rows):
        with pytest.raises(NotFittedError):
            report_of(FairLowRankHeadClassifier(), rows[1])

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"sensitive_features": None}, ValueError, "sensitive_features is None"),
            ({"sensitive_features": [0, 1]}, ValueError, "has 2 rows but X has 600"),
            ({"y": [0, 1]}, ValueError, "y has 2 rows but X has"),
            ({"y": np.full(600, "a")}, ValueError, r"y holds \['a'\], but .* classes \[0, 1\]"),
            ({"y": np.zeros(600, int)}, ValueError, "y holds one class only, 0 in all 600 rows"),
            ({"sample_weight": np.ones(5)}, ValueError, "sample_weight has 5 rows but X has"),
            ({"path": "report.html"}, TypeError, "path is a str; expected the FairnessPath"),
            ({"peers": {"a": (1, 2)}}, ValueError, "peers are drawn beside a path"),
            ({"n_boot": -1}, ValueError, "n_boot=-1"),
            ({"estimator": StandardScaler()}, TypeError, "FairLowRankHeadClassifier"),
        ],
    )
    def test_bad_arguments(self, clf, rows, change, error, message):
        X, y, s = rows[1]
        given = {"estimator": clf, "X": X, "y": y, "sensitive_features": s} | change
        with pytest.raises(error, match=message):
            model_report(**given)

    def test_groups_and_peers_are_checked_before_the_backbone_runs(self, rows, path):
        extractor = FrozenFeatureExtractor(nn.Identity(), memory=MemoryStore())
        clf = fitted(rows[0], feature_extractor=extractor)
        before = extractor.store.info()
        with pytest.raises(ValueError, match="has 2 rows"):
            model_report(clf, rows[1][0], rows[1][1], sensitive_features=[0, 1])
        with pytest.raises(ValueError, match="expected \\(error, difference\\)"):
            report_of(clf, rows[1], path=path, peers={"theirs": 3})
        assert extractor.store.info() == before
        report_of(clf, rows[1], n_boot=0)
        assert extractor.store.info().misses > before.misses


class TestCaveats:
    def test_unseen_groups_are_named_and_reported(self, clf, rows):
        X, y, s = rows[1]
        s = np.where((s == 2) & (np.arange(len(s)) % 2 == 0), 7, s)
        with pytest.warns(
            FairnessWarning, match=r"has not seen \[7\], 1 of the 4 groups"
        ) as caught:
            report = report_of(clf, (X, y, s), n_boot=0)
        assert caught[0].filename == __file__
        assert 7 in report.fairness.by_group.index
        (caveat,) = [c for c in report.caveats if c.topic == "Groups not seen in the fit"]
        assert caveat.text.startswith("7: ")

    def test_other_groups_and_absent_groups(self, clf, rows, report):
        X, y, s = rows[1]
        with pytest.warns(FairnessWarning, match="3 of the 3 groups"):
            other = report_of(clf, (X, y, np.array(["a", "b", "c"])[s]), n_boot=0)
        assert "Other groups than in the fit" in topics(other)
        keep = s != 1
        absent = report_of(clf, (X[keep], y[keep], s[keep]), n_boot=0)
        (caveat,) = [c for c in absent.caveats if c.topic == "Groups without rows here"]
        assert caveat.text.startswith("1: ")
        assert not {"Other groups than in the fit", "Groups without rows here"} & set(
            topics(report)
        )

    def test_fitted_without_groups(self, rows):
        X, y, _ = rows[0]
        with pytest.warns(FairnessWarning):
            clf = FairLowRankHeadClassifier().fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = report_of(clf, rows[1], n_boot=0)
        assert "Fitted without groups" in topics(report)
        Page(report.to_html())  # its figures, too, can do without

    def test_a_group_without_positives(self, clf, rows):
        X, y, s = rows[1]
        keep = (s != 0) | (y == 0)
        with pytest.warns(FairnessWarning, match="true positive rate of label 1 in group 0"):
            report = report_of(clf, (X[keep], y[keep], s[keep]))
        (caveat,) = [c for c in report.caveats if c.topic == "Undefined rates"]
        assert caveat.details == ("true positive rate of 0",)
        assert "undefined" in words_of(report)

    def test_small_groups_are_those_of_the_fairness_report(self, rows):
        for train, test in (rows, halves(900, n_classes=3, n_groups=3)):
            clf = fitted(train)
            X, y, s = test
            # Of group 0 few rows, of group 1 few of the last class, of group 2 enough.
            keep = np.ones(len(y), bool)
            keep[np.flatnonzero(s == 0)[20:]] = False
            keep[np.flatnonzero((s == 1) & (y == y.max()))[5:]] = False
            report = report_of(clf, (X[keep], y[keep], s[keep]), n_boot=0)
            (caveat,) = [c for c in report.caveats if c.topic == "Small groups"]
            named = [detail.partition(":")[0] for detail in caveat.details]
            noted = [note.split()[2] for note in report.fairness.notes]
            assert named == noted
            assert caveat.details[0] == "0: 20 rows"
            rate = "true positive rate" + (", class 2" if y.max() == 2 else "")
            assert caveat.details[1].startswith(f"1: 5 rows behind the {rate}")

    def test_no_constraint(self, rows, report):
        assert "No constraint" in topics(report)
        free = fitted(
            rows[0], constraint="demographic_parity", fairness_weight=0.0, solver="closed_form"
        )
        assert "No constraint" in topics(report_of(free, rows[1], n_boot=0))
        held = free.set_params(importance="covariance", fairness_weight=0.5)
        held.fit(rows[0][0], rows[0][1], sensitive_features=rows[0][2])
        assert "No constraint" not in topics(report_of(held, rows[1], n_boot=0))

    def test_the_bound_on_these_rows(self, rows):
        clf = fitted(
            rows[0],
            constraint="demographic_parity",
            difference_bound=0.2,
            solver="plug_in",
            cv=0.3,
        )
        X, y, _ = rows[1]
        pred = clf.predict(X)
        # Groups that are the decisions themselves: a distance of 1.
        report = report_of(clf, (X, y, pred))
        assert report.fairness.headline.loc["demographic_parity_distance", "value"] == 1
        (missed,) = [c for c in report.caveats if c.topic.startswith("Bound")]
        assert missed.topic == "Bound missed on these rows"
        low = report.fairness.headline.loc["demographic_parity_distance", "low"]
        assert 0.9 < low < 1.0
        asked = "A bound of 0.2 on the demographic parity distance was asked for."
        words = f"{asked} On these rows it is 1.000 [{low:.3f}, 1.000]"
        assert words in missed.text
        # Groups that take turns within each decision: a distance of 0, certain in 600 rows ...
        turns = pd.Series(pred).groupby(pred).cumcount().to_numpy() % 2
        sure = report_of(clf, (X, y, turns))
        assert not [topic for topic in topics(sure) if topic.startswith("Bound")]
        # ... and not in 60.
        few = report_of(clf, (X[:60], y[:60], turns[:60]))
        low, high = few.fairness.headline.loc["demographic_parity_distance", ["low", "high"]]
        assert low <= 0.2 < high
        assert "Bound within reach of chance" in topics(few)

    def test_a_bound_that_the_fit_missed(self, rows):
        with pytest.warns(FairnessWarning, match="was not met"):
            clf = fitted(
                rows[0],
                constraint="demographic_parity",
                difference_bound=0.0,
                cv=0.3,
            )
        report = report_of(clf, rows[1], n_boot=0)
        (caveat,) = [c for c in report.caveats if c.topic == "Bound not met in the fit"]
        assert f"{clf.difference_:.3f}" in caveat.text

    def test_a_bound_is_not_judged_between_other_groups(self, rows):
        clf = fitted(rows[0], constraint="demographic_parity", difference_bound=0.2, cv=0.3)
        X, y, _ = rows[1]
        with pytest.warns(FairnessWarning):
            report = report_of(clf, (X, y, np.where(clf.predict(X), "a", "b")), n_boot=0)
        assert not [topic for topic in topics(report) if topic.startswith("Bound")]

    def test_a_bound_that_no_weight_was_needed_for(self, rows):
        clf = fitted(
            rows[0],
            constraint="demographic_parity",
            difference_bound=0.99,
            solver="plug_in",
            cv=0.3,
        )
        assert clf.fairness_weight_ == 0
        (caveat,) = [c for c in report_of(clf, rows[1]).caveats if c.topic == "No constraint"]
        assert caveat.text.startswith("Demographic parity was asked for within 0.99.")
        assert "the head of weight 0 met that already" in caveat.text

    def test_groups_that_the_fit_has_not_seen_are_told_beside_the_bound(self, rows):
        clf = fitted(rows[0], constraint="demographic_parity", difference_bound=0.2, cv=0.3)
        X, y, s = rows[1]
        s = np.where(np.arange(len(s)) % 5, clf.predict(X), 7)
        with pytest.warns(FairnessWarning, match="has not seen"):
            report = report_of(clf, (X, y, s), n_boot=0)
        (caveat,) = [c for c in report.caveats if c.topic == "Bound missed on these rows"]
        assert "not seen are among these rows" in caveat.text

    def test_decisions_of_a_wrapper(self, path, rows):
        X, y, _ = rows[1]
        row = path.choose(0.1)
        moved = FixedThresholdClassifier(FrozenEstimator(path.classifiers[row]), threshold=0.7)
        moved.fit(X, y)
        assert (moved.predict(X) != path.classifiers[row].predict(X)).any()
        report = report_of(moved, rows[1], path=path, n_boot=0)
        assert report.fairness.overall["selection_rate"] == pytest.approx(moved.predict(X).mean())
        (caveat,) = [c for c in report.caveats if c.topic == "Decisions of a wrapper"]
        assert "a FixedThresholdClassifier around" in caveat.text
        assert report.chosen is None  # the path has that head, but not these decisions
        frozen = make_pipeline(FrozenEstimator(path.classifiers[row])).fit(X, y)
        plain = report_of(frozen, rows[1], path=path, n_boot=0)
        assert plain.chosen == row
        assert "Decisions of a wrapper" not in topics(plain)

    @pytest.mark.parametrize("constraint", ["true_positive_rate_parity", "equalized_odds"])
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_the_distance_is_that_of_the_constraint(self, constraint, n_classes):
        train, test = halves(1500, n_classes=n_classes, disparity=0.4)
        clf = fitted(
            train, constraint=constraint, fairness_weight=0.1, solver=FineTune(max_epochs=5)
        )
        # As if it had been asked for, and always missed.
        clf.bounds_ = (Bound(constraint, "difference", 0.0, 0.0, (0.0, 0.0), 0.0, True),)
        report = report_of(clf, test, n_boot=0)
        (caveat,) = [c for c in report.caveats if c.topic == "Bound missed on these rows"]
        X, y, s = test
        pred = clf.predict(X)
        tables = [
            [
                [np.mean(pred[(s == g) & ((y == c) == own)] == c) for g in (0, 1)]
                for own in (True, False)
            ]
            for c in ([1] if n_classes == 2 else range(3))
        ]
        spread = np.ptp(tables, axis=2)  # (classes, TPR and FPR)
        spread = spread[:, :1] if constraint.startswith("true") else spread
        assert f"it is {spread.sum(axis=1).max():.3f} [" in caveat.text

    @pytest.mark.parametrize("solver", ["plug_in", "closed_form", "fine_tune"])
    def test_only_the_plug_in_rule_infers_the_group(self, rows, solver):
        more = {"importance": "covariance"} if solver == "closed_form" else {}
        for weight in (0.0, 0.5):
            clf = fitted(
                rows[0],
                constraint="demographic_parity",
                fairness_weight=weight,
                solver=solver,
                **more,
            )
            found = topics(report_of(clf, rows[1], n_boot=0))
            assert ("The group is inferred" in found) == (solver == "plug_in" and weight > 0)
            assert ("Probabilities are votes" in found) == (solver == "plug_in" and weight > 0)

    def test_labels_that_differ_between_groups(self, clf, rows):
        fair = FairLowRankHeadClassifier(constraint="demographic_parity", fairness_weight=0.5)
        X, y, s = rows[0]
        fair.fit(X, y, sensitive_features=s)
        topic = "The labels differ between groups"
        assert topic in topics(report_of(fair, rows[1], n_boot=0))
        assert topic not in topics(report_of(clf, rows[1], n_boot=0))
        X, y, _ = rows[1]
        balanced = pd.Series(y).groupby(y).cumcount().to_numpy() % 3
        assert topic not in topics(report_of(fair, (X, y, balanced), n_boot=0))

    def test_no_intervals_and_intervals_without_width(self, clf, rows, report):
        topic = "No intervals of F1"
        assert topic in topics(report_of(clf, rows[1], n_boot=0))
        assert topic not in topics(report)
        assert "Intervals without width" not in topics(report)
        X, y, _ = rows[1]
        flat = report_of(clf, (X, y, clf.predict(X) == y))  # the wrong ones, and the right ones
        (caveat,) = [c for c in flat.caveats if c.topic == "Intervals without width"]
        assert caveat.details == ("False: 0", "True: 1")
        for group, value in ((False, 0.0), (True, 1.0)):
            ends = flat.fairness.group_intervals.loc[group]
            assert ends["f1"].tolist() == [value, value]
            assert ends["error"]["low"] < ends["error"]["high"]
        # One resample has no width either, whatever the F1; nor is there any without resamples.
        for n_boot in (0, 1):
            rest = report_of(clf, rows[1], n_boot=n_boot)
            assert "Intervals without width" not in topics(rest)

    @pytest.mark.parametrize("n_boot", [0, 20])
    def test_intervals_stand_with_and_without_resamples(self, clf, rows, n_boot):
        report = report_of(clf, rows[1], n_boot=n_boot, confidence_level=0.9)
        always = {caveat.topic: caveat.text for caveat in report.caveats if not caveat.found}
        assert "Intervals" in always
        assert "of equal groups it is above 0 in about 10 of 100 samples" in always["Distances"]
        text = words_of(report)
        resampled = ", of F1 from 20 resamples of the rows"
        assert f"In brackets: 90 % intervals{resampled if n_boot else ''}." in text
        low, high = report.fairness.group_intervals.loc[0, "tpr"]
        assert f"[{low:.3f}, {high:.3f}]" in text
        assert [row[2] != "" for row in distances(report).rows] == [n_boot > 0, True, True, True]
        with_ends = [[bool(cell.note) for cell in row[1:]] for row in compared(report).rows]
        assert with_ends == [[True, True]] * 4 + [[False, False]]  # none of F1
        assert "with 90 % intervals" in draw(report)["rates"].alt

    def test_long_lists_are_cut(self, clf, rows):
        X, y, _ = rows[1]
        with pytest.warns(FairnessWarning):
            report = report_of(clf, (X, y, np.arange(len(y)) // 10), n_boot=0)
        (caveat,) = [c for c in report.caveats if c.topic == "Small groups"]
        assert len(report.fairness.by_group) == 60
        assert caveat.details[-1] == "and 36 more"

    def test_weights_say_nothing_of_what_the_labels_cost(self, rows):
        fair = fitted(rows[0], constraint="demographic_parity", fairness_weight=0.5)
        weighted = report_of(fair, rows[1], sample_weight=np.ones(len(rows[1][1])), n_boot=0)
        assert "The labels differ between groups" not in topics(weighted)
        assert "Weighted rows" in topics(weighted)

    def test_what_is_true_of_any_report_stands_in_each(self, report):
        always = [caveat.topic for caveat in report.caveats if not caveat.found]
        assert always == ["These rows", "Intervals", "Distances", "Groups", "Labels", "Decisions"]


class TestKnownGroups:
    """Of predictions that are told the groups."""

    def told(self, clf, rows, **more):
        return report_of(clf, rows[1], known_groups=True, n_boot=0, **more)

    def test_the_numbers_are_those_of_the_told_predictions(self, rule, rows):
        X, y, s = rows[1]
        report, blind = self.told(rule, rows), report_of(rule, rows[1], n_boot=0)
        pred = rule.predict(X, sensitive_features=s)
        expected = fairness_report(y, pred, sensitive_features=s, pos_label=1, n_boot=0)
        pd.testing.assert_frame_equal(report.fairness.to_frame(), expected.to_frame())
        assert (pred != rule.predict(X)).any()
        assert not report.fairness.by_group.equals(blind.fairness.by_group)

    def test_page_and_card_say_that_the_group_is_used(self, rule, rows):
        pytest.importorskip("skops")
        used, inferred = "The group is used", "The group is inferred"
        passed, none = "The groups of the rows were passed to predict", "No group is passed"
        for report, here, away in (
            (self.told(rule, rows), (used, passed), (inferred, none)),
            (report_of(rule, rows[1], n_boot=0), (inferred, none), (used, passed)),
        ):
            card = report.to_markdown()
            for text in (words_of(report), card):
                assert all(words in text for words in here)
                assert not any(words in text for words in away)
            ethical = card.partition("# Ethical considerations")[2].partition("\n# ")[0]
            assert f"- **{here[0]}.**" in ethical

    def test_the_group_is_used_without_a_weight_too(self, rows):
        """Heads of cells predict by the row's own group; only votes take a weight."""
        for params in ({}, {"constraint": "demographic_parity", "fairness_weight": 0.0}):
            clf = fitted(rows[0], solver="plug_in", **params)
            X, _, s = rows[1]
            assert (clf.predict(X) != clf.predict(X, sensitive_features=s)).any()
            found = topics(self.told(clf, rows))
            assert "The group is used" in found
            assert "Probabilities are votes" not in found

    @pytest.mark.filterwarnings("ignore:A bound of fit was not met for predictions")
    def test_a_bound_is_that_of_the_told_predictions(self, rows):
        clf = fitted(
            rows[0], constraint="demographic_parity", difference_bound=0.1, solver="plug_in", cv=0.3
        )
        known = clf.known_groups_
        assert known.difference != clf.difference_
        summary, blind = self.told(clf, rows).summary, report_of(clf, rows[1], n_boot=0).summary
        assert summary.fairness_weight == known.fairness_weight
        assert summary.bounds == known.bounds
        assert (blind.fairness_weight, blind.bounds) == (clf.fairness_weight_, clf.bounds_)
        # Whether it was met, too.
        for told, other in ((0.3, 0.0), (0.0, 0.3)):
            of_told, own = (
                (bound._replace(value=value, met=value <= 0.1),)
                for (bound,), value in ((known.bounds, told), (clf.bounds_, other))
            )
            clf.known_groups_, clf.bounds_ = known._replace(bounds=of_told), own
            missed = "Bound not met in the fit"
            assert (missed in topics(self.told(clf, rows))) == (told > 0.1)
            assert (missed in topics(report_of(clf, rows[1], n_boot=0))) == (other > 0.1)

    @pytest.mark.parametrize("solver", ["fine_tune", "closed_form"])
    def test_heads_that_cannot_use_them_are_refused_before_the_backbone_runs(self, rows, solver):
        extractor = FrozenFeatureExtractor(nn.Identity(), memory=MemoryStore())
        more = {"importance": "covariance"} if solver == "closed_form" else {}
        clf = fitted(
            rows[0],
            feature_extractor=extractor,
            constraint="demographic_parity",
            fairness_weight=0.5,
            solver=solver,
            **more,
        )
        before = extractor.store.info()
        with pytest.raises(ValueError, match=f"heads of {solver} cannot use them; set known_gr"):
            self.told(clf, rows)
        assert extractor.store.info() == before

    def test_so_is_what_decides_by_X_alone(self, rule, rows):
        X, y, _ = rows[0]
        wrapped = FixedThresholdClassifier(FrozenEstimator(rule)).fit(X, y)
        with pytest.raises(ValueError, match="of a FixedThresholdClassifier are of X alone"):
            self.told(wrapped, rows)

    def test_of_a_pipeline(self, rows):
        X, y, s = rows[0]
        rule = FairLowRankHeadClassifier(
            constraint="demographic_parity", fairness_weight=0.5, solver="plug_in", random_state=0
        )
        pipeline = make_pipeline(StandardScaler(), rule)
        pipeline.fit(X, y, fairlowrankheadclassifier__sensitive_features=s)
        X, _, s = rows[1]
        expected = pipeline[-1].predict(pipeline[:-1].transform(X), sensitive_features=s)
        share = self.told(pipeline, rows).fairness.overall["selection_rate"]
        assert share == pytest.approx(expected.mean())


class TestPath:
    def test_the_row_of_the_path_is_found_by_the_head(self, path, rows):
        row = path.choose(0.1)
        chosen = path.classifiers[row]
        loaded = pickle.loads(pickle.dumps(chosen))
        for one in (chosen, loaded):
            assert report_of(one, rows[1], path=path, n_boot=0).chosen == row
        X, y, s = rows[1]
        params = chosen.get_params(deep=False)
        other = FairLowRankHeadClassifier(**flat(**params)).fit(X, y, sensitive_features=s)
        apart = report_of(other, rows[1], path=path, n_boot=0)
        assert apart.chosen is None
        assert "Chosen on the curve's rows" not in topics(apart)
        assert "This model is not one of the points." in words_of(apart)

    def test_the_point_beside_it_has_no_weight_and_no_moved_threshold(self, path, rows):
        row = path.choose(0.05)
        report = report_of(path.classifiers[row], rows[1], path=path, n_boot=0)
        plain = path.table.loc[report.unconstrained]
        assert plain["fairness_weight"] == 0
        assert plain["positive_share"] == 1
        backwards = replace(report, path=replace(path, table=path.table[::-1]))
        assert backwards.unconstrained == report.unconstrained
        assert plain["difference"] > path.table.loc[row, "difference"]

    @pytest.mark.parametrize("worse", [True, False])
    def test_another_distance_that_got_worse(self, path, rows, worse):
        row = path.choose(0.05)
        table = path.table.copy()
        report = report_of(path.classifiers[row], rows[1], path=path, n_boot=0)
        plain = report.unconstrained
        column = "equalized_odds_distance"
        before = table.at[plain, column]
        table.loc[row, column] = before + (0.1 if worse else -0.01)
        report = replace(report, path=replace(path, table=table))
        found = [c for c in report.caveats if c.topic == "Equalized odds got worse"]
        assert len(found) == worse
        if worse:
            assert f"from {before:.3f} [" in found[0].text
            assert f"to {before + 0.1:.3f} [" in found[0].text

    def test_a_moved_threshold_is_not_called_the_work_of_the_constraint(self, path, rows):
        at = path.table["fairness_weight"].eq(0) & path.table["positive_share"].ne(1)
        row, table = int(path.table.index[at][0]), path.table.copy()
        report = report_of(path.classifiers[row], rows[1], path=path, n_boot=0)
        assert report.chosen == row
        table.loc[row, "equalized_odds_distance"] = 1.5
        report = replace(report, path=replace(path, table=table))
        (caveat,) = [c for c in report.caveats if c.topic == "Equalized odds got worse"]
        assert caveat.text.startswith("From the path's head without a constraint to this one, ")
        shown = tradeoff(report)
        at = shown.header.index("positive decisions, times")
        assert [cells[at] for cells in shown.rows] == [
            "1",
            f"{table.at[row, 'positive_share']:.3g}",
        ]
        alone = report_of(path.classifiers[report.unconstrained], rows[1], path=path, n_boot=0)
        assert "positive decisions, times" not in tradeoff(alone).header

    def test_a_change_that_the_digits_do_not_show_is_not_told(self, path, rows):
        row, table = path.choose(0.05), path.table.copy()
        report = report_of(path.classifiers[row], rows[1], path=path, n_boot=0)
        for name in ("", "_low", "_high"):
            column = f"equalized_odds_distance{name}"
            table.loc[row, column] = table.at[report.unconstrained, column] + 1e-9
        report = replace(report, path=replace(path, table=table))
        assert "Equalized odds got worse" not in topics(report)

    def test_a_path_on_the_rows_of_the_report(self, rows):
        clf = FairLowRankHeadClassifier(
            constraint="demographic_parity", solver="plug_in", random_state=0
        )
        X, y, s = rows[0]
        path = fairness_path(
            clf, X, y, sensitive_features=s, weights=3, held_out=tuple(rows[1]), n_boot=0
        )
        report = report_of(path.classifiers[2], rows[1], path=path, n_boot=0)
        (caveat,) = [c for c in report.caveats if c.topic == "Chosen on the curve's rows"]
        assert "the numbers of this report are the same" in caveat.text
        X, y, s = rows[1]
        apart = report_of(path.classifiers[2], (X[:-1], y[:-1], s[:-1]), path=path, n_boot=0)
        (caveat,) = [c for c in apart.caveats if c.topic == "Chosen on the curve's rows"]
        assert "stands above" in caveat.text

    def test_of_equal_heads_the_one_of_the_same_weight(self, path, rows):
        row = path.choose(0.05)
        twin = copy.deepcopy(path.classifiers[row])
        twin.fairness_weight_ = 0.123
        doubled = replace(path, classifiers=list(path.classifiers))
        doubled.classifiers[0 if row else 1] = twin
        report = report_of(path.classifiers[row], rows[1], path=doubled, n_boot=0)
        assert report.chosen == row

    def test_the_point_without_a_constraint_stands_once(self, path, rows):
        plain = path.table.index[path.table["fairness_weight"].eq(0)][0]
        report = report_of(path.classifiers[plain], rows[1], path=path, n_boot=0)
        assert report.unconstrained == report.chosen == plain
        page = words_of(report)
        assert "this model" in page
        assert "without a constraint" not in page.partition("Error against difference on")[2]

    @pytest.mark.slow
    def test_peers_are_drawn(self, path, rows):
        clf = path.classifiers[path.choose(0.1)]
        with_peers = report_of(clf, rows[1], path=path, peers={"theirs": (20.0, 0.3)}, n_boot=0)
        without = report_of(clf, rows[1], path=path, n_boot=0)
        assert with_peers.to_html() != without.to_html()


class TestPositive:
    def test_differences_and_ratios_stand_in_their_columns(self, report):
        table = compared(report)
        assert table.header == ["", "difference", "ratio"]
        rates = report.fairness.by_group.drop(columns="count")
        spread, ratio = rates.max() - rates.min(), rates.min() / rates.max()
        for row, metric in zip(table.rows, rates.columns, strict=True):
            assert [cell.text for cell in row[1:]] == [
                f"{spread[metric]:.3f}",
                f"{ratio[metric]:.3f}",
            ]

    def test_its_share_among_the_labels(self, report, rows):
        _, y, s = rows[1]
        table = counts(report)
        assert table.header[-1] == "share of 1"
        shares = [np.mean(y[s == g]) for g in range(3)] + [np.mean(y)]
        assert [row[-1] for row in table.rows] == [f"{share:.3f}" for share in shares]

    def test_two_of_three_classes(self):
        train, (X, y, s) = halves(1500, n_classes=3)
        clf = fitted(train)
        pred = clf.predict(X)
        keep = (y != 1) & (pred != 1)
        report = report_of(clf, (X[keep], y[keep], s[keep]), n_boot=0)
        page = words_of(report)
        shares = [np.mean(pred[keep & (s == g)] == 2) for g in (0, 1)]
        assert f"the model decides for class 2 in {100 * min(shares):.1f}" in page
        assert "The positive class is 2." in page
        assert "Each class in turn" not in page
        assert "Of several classes" not in page
        all_three = words_of(report_of(clf, (X, y, s), n_boot=0))
        assert "Each class in turn" in all_three
        assert "Of several classes, each is that of the class in which it is largest" in all_three
        (caveat,) = [c for c in report.caveats if c.topic == "Classes without rows here"]
        assert caveat.text.startswith("1: ")
        assert "Small groups" not in topics(report)

    def test_weights_of_zero_leave_no_rate_to_compare(self, rows):
        weight = (rows[1][2] == 1) * 1.0
        with pytest.warns(FairnessWarning, match="undefined"):
            report = report_of(fitted(rows[0]), rows[1], sample_weight=weight, n_boot=0)
        assert "rates are defined in one group only" in words_of(report)
        (caveat,) = [c for c in report.caveats if c.topic == "Undefined rates"]
        assert caveat.text.startswith("There is no row with a weight ")


class TestImportance:
    @pytest.mark.parametrize(
        ("params", "said"),
        [
            ({"rank": None}, "comes from no SVD"),
            ({"rank": 1}, "It weighted the SVD"),
            ({"rank": 1, "importance": "fisher_by_group"}, "in a head fitted on that group alone"),
            ({"rank": 1, "importance": "uniform"}, "did not use it: all features counted alike"),
            ({"rank": 1, "importance": "covariance"}, "by the covariance of the features instead"),
            (
                {
                    "importance": "covariance",
                    "solver": "closed_form",
                    "constraint": "demographic_parity",
                    "fairness_weight": 0.5,
                },
                "by the covariance of the features instead",
            ),
            (
                {
                    "solver": "plug_in",
                    "constraint": "demographic_parity",
                    "fairness_weight": 0.5,
                },
                "comes from no SVD",
            ),
        ],
        ids=str,
    )
    def test_what_is_said_of_its_use(self, rows, params, said):
        page = words_of(report_of(fitted(rows[0], **params), rows[1], n_boot=0))
        assert said in page

    def test_without_one_in_use_features_are_sorted_by_the_groups_mean(self, rows):
        clf = fitted(rows[0], rank=1, importance="uniform")
        mean = clf.group_importance_.mean(axis=0)
        table = importance(report_of(clf, rows[1], n_boot=0))
        assert table.header[1] == "plain mean"
        assert [row[0] for row in table.rows] == [
            f"feature\N{NO-BREAK SPACE}{j}" for j in np.argsort(-mean)[:10]
        ]
        shown = [row[1] for row in table.rows]
        assert shown == [f"{value:#.3g}" for value in np.sort(mean)[::-1][:10]]

    @pytest.mark.parametrize(("rank", "named"), [(None, "(not in use)"), (1, "mean, in use")])
    def test_the_figure_says_whether_it_is_in_use(self, rows, rank, named):
        report = report_of(fitted(rows[0], rank=rank), rows[1], n_boot=0)
        figure = draw(report)["importance"].data.decode()  # matplotlib notes its texts in comments
        assert f"neutralized {'mean ' if rank is None else ''}{named}" in figure

    def test_the_lowest_cosine_is_told(self, clf, report):
        I = clf.group_importance_  # noqa: E741 - the method's symbol
        unit = I / np.linalg.norm(I, axis=1, keepdims=True)
        lowest = (unit @ unit.T).min()
        assert f"importances is {lowest:.3f}." in words_of(report)


class TestManyGroups:
    def test_what_cannot_be_read_is_left_out_and_said(self, rows, monkeypatch):
        monkeypatch.setattr(_figures, "_HIGHEST", 12.0)  # as 21 groups reach, 200 do that of itself
        many = (*rows[0][:2], np.char.mod("group %02d", np.arange(600) % 21))
        report = report_of(fitted(many, solver=FineTune(max_epochs=0)), many, n_boot=0)
        page = Page(report.to_html())
        assert page.tags.count("img") == 2
        assert "Not drawn: there are too many groups" in page.text
        assert "Cosine between the groups' importances." not in page.text
        assert "The lowest cosine between two groups' importances is" in page.text

    def test_two_hundred_groups_are_not_drawn(self, rows):
        many = (*(np.concatenate([each, each]) for each in rows[0][:2]), np.arange(1200) % 200)
        with pytest.warns(FairnessWarning):
            clf = fitted(many, solver=FineTune(max_epochs=0))
        with pytest.warns(FairnessWarning):
            report = report_of(clf, many, n_boot=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_figures, "_drawn", lambda plan, form: (b"", 1, 1))
            assert set(draw(report)) == {"importance", "spectrum"}


class TestPage:
    def test_it_is_the_same_each_time_whatever_the_style_and_leaves_no_figure(self, report, html):
        import matplotlib as mpl
        import matplotlib.pyplot as plt

        before, figures = dict(mpl.rcParams), plt.get_fignums()
        with plt.style.context("dark_background"):
            assert report.to_html() == html
        assert dict(mpl.rcParams) == before
        assert plt.get_fignums() == figures

    def test_a_date_and_a_title_are_shown_as_given(self, clf, rows):
        report = report_of(clf, rows[1], title="A < B & C", date="1 May", n_boot=0)
        page = words_of(report)
        assert "A < B & C" in page
        assert "1 May" in page

    @pytest.mark.parametrize(
        "params",
        [
            {"rank": None},
            pytest.param({"rank": 2, "importance": "uniform"}, marks=pytest.mark.slow),
            pytest.param(
                {"rank": 1, "constraint": "demographic_parity", "fairness_weight": 0.5},
                marks=pytest.mark.slow,
            ),
            {
                "rank": 1,
                "importance": "covariance",
                "solver": "closed_form",
                "constraint": "equalized_odds",
                "fairness_weight": 0.5,
            },
            {"solver": "plug_in", "constraint": "equalized_odds", "fairness_weight": 0.5},
            pytest.param(
                {"head": "hidden", "rank": 2, "max_epochs": 3, "tol": None}, marks=pytest.mark.slow
            ),
            {"feature_extractor": "linear", "head": "last", "rank": 1},
        ],
        ids=str,
    )
    def test_every_kind_of_head(self, rows, params):
        modules = {
            "hidden": nn.Sequential(nn.Linear(10, 6), nn.ReLU()),
            "linear": nn.Linear(10, 7),
            "last": nn.Linear(7, 2),
        }
        clf = fitted(rows[0], **{name: modules.get(v, v) for name, v in params.items()})
        report = report_of(clf, rows[1], n_boot=0)
        page = Page(report.to_html())
        assert page.tags.count("h1") == 1
        assert page.tags.count("img") == 3
        assert len(page.ids) == len(set(page.ids))
        for name, text in report.summary.lines():
            assert name in page.text
            assert text in page.text
        links = [value[1:] for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
        assert links
        assert set(links) <= set(page.ids)

    def test_names_are_text(self, rows):
        X, y, s = rows[0]
        labels = np.array(HOSTILE[:2], dtype=object)
        groups = pd.DataFrame(
            {HOSTILE[2]: np.array(HOSTILE, dtype=object)[s], "b": np.array(HOSTILE[::-1])[s]}
        )
        frame = pd.DataFrame(X, columns=[*HOSTILE, *"abcdef"])
        clf = fitted((frame, labels[y], groups))
        report = report_of(clf, (frame, labels[y], groups), title=HOSTILE[0], n_boot=0)
        page = Page(report.to_html())
        assert not {"script", "iframe"} & set(page.tags)
        assert page.tags.count("img") == 3
        assert page.tags.count("style") == 1
        assert not [name for _, name, _ in page.attributes if name.startswith("on")]
        for name in HOSTILE:
            assert name in page.text

    def test_a_notebook_shows_it_in_a_frame_of_its_own(self, report, html):
        page = Page(report._repr_html_())
        assert page.tags == ["iframe"]
        (inner,) = [value for _, name, value in page.attributes if name == "srcdoc"]
        assert inner == html

    def test_saving_overwrites(self, report, html, tmp_path):
        file = tmp_path / "report.html"
        file.write_text("old")
        report.save(str(file))
        assert file.read_text(encoding="utf-8") == html

    def test_without_matplotlib_it_says_what_to_install(self, report, html, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        page = Page(report.to_html())
        assert "img" not in page.tags
        assert "pip install 'skfairft[plots]'" in page.text
        assert "pip install" not in Page(html).text
        assert page.tags.count("table") == Page(html).tags.count("table")
        pytest.importorskip("skops")
        with pytest.raises(ImportError, match=r"skfairft\[plots\]"):
            report.to_card(figures=tmp_path)
        report.to_card()

    def test_letters_that_the_font_lacks_are_no_warning(self, rows):
        X, y, s = rows[0]
        clf = fitted((X, y, np.array(["女", "男", "कोई"])[s]))
        page = Page(report_of(clf, (X, y, np.array(["女", "男", "कोई"])[s])).to_html())
        assert "女" in page.text


def pandoc_folder():
    """Return the folder of pandoc, which skops reads cards with, or None."""
    if found := shutil.which("pandoc"):
        return os.path.dirname(found)
    try:
        import pypandoc
    except ImportError:
        return None
    return os.path.dirname(pypandoc.get_pandoc_path())


def pipe_tables(text):
    """Return the cells of each table of a Markdown text."""
    blocks = [b.splitlines() for b in text.split("\n\n") if b.startswith("|")]
    return [
        [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block]
        for block in blocks
    ]


class TestCard:
    @pytest.fixture(autouse=True)
    def _needs_skops(self):
        pytest.importorskip("skops")

    def test_headings_lines_to_fill_and_caveats(self, report):
        text = report.to_markdown()
        assert [h[2:] for h in text.splitlines() if h.startswith("# ")] == HEADINGS_OF_A_CARD
        assert text.count("To be filled in: ") == 10
        for caveat in report.caveats:
            assert f"**{caveat.topic}.**" in text

    def test_each_caveat_stands_once(self, rows):
        clf = fitted(
            rows[0], constraint="demographic_parity", fairness_weight=0.5, solver="plug_in"
        )
        report = report_of(clf, rows[1], n_boot=0)
        text = report.to_markdown()
        ethical = text.partition("# Ethical considerations")[2].partition("\n# ")[0]
        for caveat in report.caveats:
            line = f"- **{caveat.topic}.**"
            assert text.count(line) == 1
            named = caveat.topic in ("The group is inferred", "Labels", "Decisions")
            assert (line in ethical) == named

    def test_what_is_filled_in_takes_the_place_of_the_line(self, report):
        card = report.to_card(license="BSD-3-Clause", intended_use="A *demo*.")
        assert card.select("Model details/License").content == "BSD-3-Clause"
        assert card.select("Intended use/Primary uses").content == "A *demo*."
        assert card.render().count("To be filled in: ") == 8
        card.add(**{"Intended use/Primary uses": "Another."})
        assert "Another." in card.render()
        assert "A *demo*." not in card.render()

    def test_an_unknown_line_is_an_error(self, report):
        with pytest.raises(TypeError, match=r"no line 'licence'\. Did you mean 'license'"):
            report.to_card(licence="BSD-3-Clause")

    def test_without_skops_it_says_what_to_install(self, report, monkeypatch):
        monkeypatch.setitem(sys.modules, "skops", None)
        monkeypatch.setitem(sys.modules, "skops.card", None)
        monkeypatch.delitem(sys.modules, "skfairft.report._pictured", raising=False)
        with pytest.raises(ImportError, match=r"pip install 'skfairft\[card\]'"):
            report.to_markdown()

    def test_tables_hold_the_numbers(self, report):
        tables = pipe_tables(report.to_markdown())
        (rates,) = [t for t in tables if "selection rate" in t[0]]
        for row, (group, values) in zip(
            rates[2:], report.fairness.by_group.iterrows(), strict=False
        ):
            assert row[0] == str(group)
            assert row[1] == f"{values['count']:.0f}"
            low, high = report.fairness.group_intervals.loc[group, "tpr"]
            assert row[3] == f"{values['tpr']:.3f} [{low:.3f}, {high:.3f}]"

    def test_hostile_names_keep_to_their_cells(self, rows):
        X, y, s = rows[0]
        groups = np.array(HOSTILE, dtype=object)[s]
        report = report_of(fitted((X, y, groups)), (X, y, groups), n_boot=0, title="# a")
        text = report.to_markdown()
        assert "<script" not in text
        assert "<img" not in text
        assert len([h for h in text.splitlines() if h.startswith("# ")]) == len(HEADINGS_OF_A_CARD)
        for table in pipe_tables(text):
            assert len({len(row) for row in table}) == 1

    def test_figures_are_files_that_it_points_to(self, report, path, rows, tmp_path):
        from PIL import Image

        card = report.to_card(figures=tmp_path / "figures")
        files = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", card.render())
        assert len(files) == 3
        for file in files:
            with Image.open(file) as image:
                assert min(image.size) > 300
        clf = path.classifiers[path.choose(0.1)]
        card = report_of(clf, rows[1], path=path, n_boot=0).to_card(figures=tmp_path)
        assert len(re.findall(r"!\[", card.render())) == 4

    def test_skops_reads_it_back(self, report, tmp_path, monkeypatch):
        from skops.card import parse_modelcard

        folder = pandoc_folder()
        if folder is None:
            pytest.skip("skops reads cards with pandoc, which is not installed")
        monkeypatch.setenv("PATH", folder, prepend=os.pathsep)
        report.to_card().save(tmp_path / "README.md")
        card = parse_modelcard(tmp_path / "README.md")
        titles = [line[2:] for line in card.get_toc().splitlines() if line.startswith("- ")]
        assert titles == HEADINGS_OF_A_CARD
        section = card.select("Quantitative analyses/Error and distances")
        value = report.fairness.headline.loc["weighted_f1_error", "value"]
        assert f"{value:.2f}" in section.format()


def shown(value, low, high, digits=3):
    return f"{value:.{digits}f}\n[{low:.{digits}f}, {high:.{digits}f}]"


class TestInABrowser:
    def check(self, chromium, report, tmp_path, *, images):
        file = tmp_path / "report.html"
        report.save(file)
        for width in (1280, 390):
            with visit(chromium, file, width=width) as visited:
                page = visited.page
                assert visited.problems == []
                assert visited.requests == []
                assert visited.overflow() <= 0
                levels = page.evaluate(HEADINGS)
                assert levels[0] == 1
                assert levels.count(1) == 1
                assert max(np.diff(levels)) <= 1
                found = page.evaluate(IMAGES)
                assert len(found) == images
                for complete, natural_width, natural_height, drawn_width, alt in found:
                    assert complete
                    assert min(natural_width, natural_height) > 100
                    assert drawn_width > 250
                    assert len(alt) > 20
                assert page.evaluate(CONTRAST) >= 4.5
                tables = page.evaluate(TABLES)
        self.check_numbers(report, tables)

    def check_numbers(self, report, tables):
        fairness = report.fairness
        levels = fairness.by_group.index.nlevels
        metrics = fairness.overall_intervals.index
        rows = tables["table-rates"][1:]
        assert len(rows) == len(fairness.by_group) + 1
        for i, row in enumerate(rows[:-1]):
            group = fairness.by_group.index[i]
            parts = group if levels > 1 else (group,)
            assert row[:levels] == [" ".join(str(part).split()) for part in parts]
            for cell, metric in zip(row[levels + 1 :], metrics, strict=True):
                value = fairness.by_group[metric].iloc[i]
                low, high = fairness.group_intervals[metric].iloc[i]
                expected = "undefined" if np.isnan(value) else shown(value, low, high)
                assert cell == expected
        counts = [[cell.rstrip(" †") for cell in row] for row in tables["table-counts"][1:-1]]
        given = report.counts.to_numpy().tolist()
        k = len(report.counts.columns)
        assert [
            [int(n.replace(",", "")) for n in row[levels : levels + k]] for row in counts
        ] == given
        headline = tables["table-headline"][1:]
        for row, (name, (value, low, high)) in zip(
            headline, fairness.headline.iterrows(), strict=True
        ):
            digits = 2 if name == "weighted_f1_error" else 3
            assert row[1:] == shown(value, low, high, digits).split("\n")

    @pytest.mark.slow
    def test_two_classes_and_a_path(self, chromium, path, rows, tmp_path):
        clf = path.classifiers[path.choose(0.1)]
        report = report_of(clf, rows[1], path=path)
        self.check(chromium, report, tmp_path, images=4)

    @pytest.mark.slow  # its numbers are those of TestPage; twelve groups are as wide
    def test_three_classes_and_a_group_without_one(self, chromium, tmp_path):
        train, (X, y, s) = halves(1500, n_classes=3, n_groups=3)
        clf = fitted(train, rank=2)
        keep = (s != 0) | (y != 2)
        with pytest.warns(FairnessWarning, match="undefined"):
            report = report_of(clf, (X[keep], y[keep], s[keep]))
        self.check(chromium, report, tmp_path, images=3)

    @pytest.mark.slow
    def test_twelve_groups_with_hostile_names(self, chromium, tmp_path):
        train, test = halves(3000, n_groups=12)
        names = pd.DataFrame(
            {
                "<b>": np.repeat(np.array(HOSTILE, dtype=object), 3),
                "a very long name of a column": np.tile(["x" * 60, "$y_{$", "z z"], 4),
            }
        )
        train[2], test[2] = (names.iloc[s].reset_index(drop=True) for s in (train[2], test[2]))
        clf = fitted(train)
        report = report_of(clf, test, title="<i>" + "long" * 30)
        self.check(chromium, report, tmp_path, images=3)

    def test_without_matplotlib(self, chromium, report, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        self.check(chromium, report, tmp_path, images=0)

    def test_in_a_frame(self, chromium, report, tmp_path):
        file = tmp_path / "notebook.html"
        file.write_text(f"<!DOCTYPE html><title>n</title>{report._repr_html_()}", encoding="utf-8")
        with visit(chromium, file, width=700) as visited:
            assert visited.problems == []
            frame = visited.page.frames[1]
            assert frame.evaluate("document.querySelector('h1').innerText") == report.title
            assert json.dumps(frame.evaluate(TABLES))
