import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessTradeoffDisplay,
    FairnessWarning,
    FineTune,
    fairness_path,
)
from skfairft.datasets import make_biased_classification
from skfairft.metrics import (
    constraint_distance,
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    fairness_scorer,
    weighted_f1_error,
)
from skfairft.parity.constraints import CONSTRAINTS
from skfairft.parity.table import TABLE, metric_of


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(n_samples=400, n_groups=3, random_state=0)


@pytest.fixture(scope="module")
def fitted(data):
    X, y, s = data
    return FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)


def test_tradeoff_points_are_the_metrics_of_the_predictions(data, fitted):
    X, y, s = data
    systems = {"head": fitted.predict(X), "constant": np.zeros_like(y)}
    display = FairnessTradeoffDisplay.from_predictions(
        y, systems, sensitive_features=s, random_state=0
    )
    for i, predicted in enumerate(systems.values()):
        assert display.error[i] == pytest.approx(weighted_f1_error(y, predicted))
        distance = demographic_parity_distance(y, predicted, sensitive_features=s)
        assert display.disparity[i] == pytest.approx(distance)
    drawn = [container.lines[0].get_xydata()[0] for container in display.ax_.containers]
    np.testing.assert_allclose(drawn, np.column_stack([display.error, display.disparity]))


def test_intervals_are_those_of_the_report(data, fitted):
    X, y, s = data
    display = FairnessTradeoffDisplay.from_predictions(
        y, {"head": fitted.predict(X)}, sensitive_features=s, random_state=0
    )
    headline = fairness_report(y, fitted.predict(X), sensitive_features=s, random_state=0).headline
    for interval, name in (
        (display.error_interval, "weighted_f1_error"),
        (display.disparity_interval, "demographic_parity_distance"),
    ):
        np.testing.assert_array_equal(interval, [headline.loc[name, ["low", "high"]]])


def test_tradeoff_shows_parity_and_keeps_every_point_in_sight_on_a_shared_axis():
    _, (left, right) = plt.subplots(1, 2, sharey=True)
    for ax, height in ((left, 0.2), (right, 0.5)):
        FairnessTradeoffDisplay(names=["a"], error=[1.0], disparity=[height]).plot(ax=ax)
    bottom, top = left.get_ylim()
    assert -0.05 < bottom < 0
    assert top > 0.5


def entries(ax):
    return [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]


def systems(display):
    """Return the drawn points by the name of their series."""
    return {one.get_label(): one.lines[0].get_xydata() for one in display.ax_.containers}


def beaten(error, disparity):
    """Return, slowly, which points another one beats."""
    points = list(zip(error, disparity, strict=True))
    return np.array(
        [any(a <= x and b <= y and (a < x or b < y) for a, b in points) for x, y in points]
    )


class TestSystems:
    def random(self, m, seed=0, **kwargs):
        rng = np.random.default_rng(seed)
        # Rounded: ties and twins must be right, too.
        return FairnessTradeoffDisplay(
            names=[f"system {i}" for i in range(m)],
            error=rng.uniform(10, 20, m).round(0 if m > 50 else 1),
            disparity=rng.uniform(0, 0.3, m).round(2),
            **kwargs,
        )

    @pytest.mark.parametrize("m", [2, 5, 12, 13, 40, 300])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_the_front_that_is_drawn_is_what_no_other_point_beats(self, m, seed):
        display = self.random(m, seed).plot()
        front = ~beaten(display.error, display.disparity)
        expected = in_order(np.column_stack([display.error, display.disparity])[front])
        lines = [one for one in display.ax_.get_lines() if one.get_label() == "Pareto front"]
        assert len(lines) == (front.sum() > 1)
        for line in lines:
            np.testing.assert_array_equal(in_order(line.get_xydata()), expected)
            assert (np.diff(line.get_ydata()) <= 0).all()
        if m > 12:
            (label,) = (name for name in systems(display) if name.startswith("beaten"))
            assert label == f"beaten by another ({(~front).sum()})"
            assert len(systems(display)[label]) == (~front).sum()

    def test_up_to_twelve_have_their_names_and_no_two_look_alike(self):
        display = self.random(12).plot()
        assert set(systems(display)) == {f"system {i}" for i in range(12)}
        lines = [one.lines[0] for one in display.ax_.containers]
        assert len({(line.get_color(), line.get_marker()) for line in lines}) == 12

    def test_of_more_only_the_front_has_names_and_intervals(self):
        display = self.random(40)
        display.error_interval = np.column_stack([display.error - 1, display.error + 1])
        display.plot()
        front = ~beaten(display.error, display.disparity)
        assert 1 < front.sum() <= 12
        named = {name for name in systems(display) if name.startswith("system")}
        assert named == {f"system {i}" for i in np.flatnonzero(front)}
        for one in display.ax_.containers:
            assert bool(one.lines[2]) == (one.get_label() in named)

    def test_a_front_of_many_is_one_series(self):
        m = 30
        display = FairnessTradeoffDisplay(
            names=range(m), error=np.arange(m), disparity=-np.arange(m) + m
        ).plot()
        assert entries(display.ax_) == [
            "Pareto front",
            "beaten by another (0)",
            "on the front (30)",
        ]

    def test_every_point_is_drawn_once(self):
        for m in (12, 300):
            display = self.random(m).plot()
            points = np.concatenate(list(systems(display).values()))
            expected = np.column_stack([display.error, display.disparity])
            np.testing.assert_array_equal(in_order(points), in_order(expected))
            plt.close("all")

    def test_an_undefined_point_is_not_drawn_and_said(self):
        display = FairnessTradeoffDisplay(
            names=["a", "b", "c"], error=[1.0, 2.0, 3.0], disparity=[0.2, np.nan, 0.1]
        ).plot()
        assert entries(display.ax_) == ["Pareto front", "a", "b (undefined)", "c"]
        assert np.isnan(systems(display)["b (undefined)"]).any()
        (front,) = (one for one in display.ax_.get_lines() if one.get_label() == "Pareto front")
        np.testing.assert_array_equal(front.get_xdata(), [1.0, 3.0])
        display.figure_.canvas.draw()

    def test_undefined_points_of_many_are_counted(self):
        display = self.random(40)
        display.disparity[:3] = np.nan
        display.plot()
        rest = ~beaten(display.error[3:], display.disparity[3:])
        assert f"beaten by another ({37 - rest.sum()}), 3 undefined" in systems(display)
        drawn = np.concatenate(list(systems(display).values()))
        assert np.isfinite(drawn).all()
        assert len(drawn) == 37

    def test_the_chosen_point_is_ringed(self):
        display = self.random(20, chosen=7).plot()
        (ring,) = (one for one in display.ax_.containers if one.get_label().startswith("chosen"))
        assert ring.get_label() == "chosen: system 7"
        point = (display.error[7], display.disparity[7])
        np.testing.assert_array_equal(ring.lines[0].get_xydata(), [point])

    def test_a_long_legend_stands_beside_the_axes(self):
        display = self.random(12).plot()
        display.figure_.canvas.draw()
        box = display.ax_.get_legend().get_window_extent()
        assert box.x0 >= display.ax_.bbox.x1
        assert box.x1 <= display.figure_.bbox.x1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"error": [1.0]}, r"error has shape \(1,\); expected \(2,\)"),
            ({"disparity_interval": [0.1, 0.2]}, r"disparity_interval has shape \(2,\)"),
            ({"names": [], "error": [], "disparity": []}, "nothing to draw"),
            ({"chosen": 2}, "chosen=2 is not one of the points, which are 0 to 1"),
            ({"chosen": -1}, "chosen=-1"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change, message):
        given = {"names": ["a", "b"], "error": [1.0, 2.0], "disparity": [0.1, 0.2]}
        with pytest.raises(ValueError, match=message):
            FairnessTradeoffDisplay(**(given | change)).plot()


class TestPredictions:
    def test_the_other_metric(self, data, fitted):
        X, y, s = data
        display = FairnessTradeoffDisplay.from_predictions(
            y,
            {"head": fitted.predict(X)},
            sensitive_features=s,
            metric="equalized_odds_distance",
            random_state=0,
        )
        expected = equalized_odds_distance(y, fitted.predict(X), sensitive_features=s)
        assert display.disparity[0] == pytest.approx(expected)
        assert display.ax_.get_ylabel() == "equalized odds distance"

    def test_what_is_not_a_mapping_or_a_metric_is_refused(self, data):
        _, y, s = data
        for pred in (y, {}):
            with pytest.raises(ValueError, match="expected a mapping of names to predictions"):
                FairnessTradeoffDisplay.from_predictions(y, pred, sensitive_features=s)
        with pytest.raises(ValueError, match="Did you mean 'equalized_odds_distance'"):
            FairnessTradeoffDisplay.from_predictions(
                y, {"a": y}, sensitive_features=s, metric="equalised_odds_distance"
            )

    def test_an_undefined_distance_is_not_drawn_at_parity(self, data, fitted):
        X, y, s = data
        with pytest.warns(FairnessWarning):
            display = FairnessTradeoffDisplay.from_predictions(
                y, {"head": fitted.predict(X)}, sensitive_features=np.zeros_like(s)
            )
        assert entries(display.ax_) == ["head (undefined)"]
        assert np.isnan(display.disparity[0])


class TestEstimators:
    def test_several_are_measured_on_the_same_rows(self, data, fitted, routing):
        X, y, s = data
        clf = FairLowRankHeadClassifier(rank=1).set_fit_request(sensitive_features=True)
        pipeline = make_pipeline(StandardScaler(), clf).fit(X, y, sensitive_features=s)
        found = {"head": fitted, "pipeline": pipeline, "peer": LogisticRegression().fit(X, y)}
        display = FairnessTradeoffDisplay.from_estimator(
            found, X, y, sensitive_features=s, random_state=0
        )
        expected = FairnessTradeoffDisplay.from_predictions(
            y,
            {name: one.predict(X) for name, one in found.items()},
            sensitive_features=s,
            random_state=0,
        )
        for key in ("names", "error", "disparity", "error_interval", "disparity_interval"):
            np.testing.assert_array_equal(getattr(display, key), getattr(expected, key))

    def test_one_alone_is_named_by_its_class(self, data, fitted):
        X, y, s = data
        display = FairnessTradeoffDisplay.from_estimator(
            fitted, X, y, sensitive_features=s, random_state=0
        )
        assert entries(display.ax_) == ["FairLowRankHeadClassifier"]

    def test_what_cannot_predict_is_refused(self, data):
        X, y, s = data
        with pytest.raises(TypeError, match="StandardScaler without predict"):
            FairnessTradeoffDisplay.from_estimator(StandardScaler(), X, y, sensitive_features=s)


SCORING = {
    "error": fairness_scorer("weighted_f1_error"),
    "disparity": fairness_scorer("demographic_parity_distance"),
}


@pytest.fixture(scope="module")
def search():
    X, y, s = make_biased_classification(500, disparity=0.4, random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = FairLowRankHeadClassifier(
            constraint="demographic_parity", solver="closed_form", importance="covariance"
        ).set_fit_request(sensitive_features=True)
        grid = {
            "fairlowrankheadclassifier__fairness_weight": [0.0, 0.5, 0.9],
            "fairlowrankheadclassifier__C": [0.001, 1.0],
            "fairlowrankheadclassifier__rank": [1],
        }
        return GridSearchCV(
            make_pipeline(StandardScaler(), clf),
            grid,
            scoring=SCORING,
            refit=lambda results: 3,
            cv=3,
        ).fit(X, y, sensitive_features=s)


class TestSearch:
    def test_points_are_the_means_without_their_sign(self, search):
        display = FairnessTradeoffDisplay.from_cv_results(search)
        for values, interval, name in (
            (display.error, display.error_interval, "error"),
            (display.disparity, display.disparity_interval, "disparity"),
        ):
            folds = np.stack([-search.cv_results_[f"split{i}_test_{name}"] for i in range(3)])
            assert (values >= 0).all()
            np.testing.assert_allclose(values, folds.mean(axis=0))
            error = np.sqrt(((folds - folds.mean(axis=0)) ** 2).sum(axis=0) / 2 / 3)
            np.testing.assert_allclose(interval[:, 0], folds.mean(axis=0) - error)
            np.testing.assert_allclose(interval[:, 1], folds.mean(axis=0) + error)

    def test_names_are_what_varies_and_the_searchs_choice_is_ringed(self, search):
        display = FairnessTradeoffDisplay.from_cv_results(search)
        expected = [
            f"C={one['fairlowrankheadclassifier__C']:g}, "
            f"fairness_weight={one['fairlowrankheadclassifier__fairness_weight']:g}"
            for one in search.cv_results_["params"]
        ]
        assert display.names == expected
        assert display.chosen == search.best_index_ == 3
        assert f"chosen: {expected[3]}" in entries(display.ax_)
        other = FairnessTradeoffDisplay.from_cv_results(search, chosen=0)
        assert f"chosen: {expected[0]}" in entries(other.ax_)

    def test_axes_say_what_the_scorers_measure_over_how_many_folds(self, search):
        ax = FairnessTradeoffDisplay.from_cv_results(search).ax_
        assert ax.get_xlabel() == "error: 100 - weighted F1 (%), mean over 3 folds"
        assert ax.get_ylabel() == "demographic parity distance, mean over 3 folds"
        assert ax.get_title() == "6 candidates; bars: standard error over the folds"

    @pytest.mark.parametrize("form", ["dict", "frame", "prefixed", "positive"])
    def test_every_form_of_the_results_gives_the_same_points(self, search, form):
        expected = FairnessTradeoffDisplay.from_cv_results(search)
        results, names = search.cv_results_, {}
        if form == "frame":
            results = pd.DataFrame(results)
        elif form == "prefixed":
            names = {"error": "mean_test_error", "disparity": "mean_test_disparity"}
        elif form == "positive":  # as with greater_is_better=True
            results = {
                key: -value if "_test_" in key and not key.startswith("rank") else value
                for key, value in results.items()
            }
        display = FairnessTradeoffDisplay.from_cv_results(results, **names)
        assert display.names == expected.names
        assert display.chosen is None
        for key in ("error", "disparity", "error_interval", "disparity_interval"):
            np.testing.assert_array_equal(getattr(display, key), getattr(expected, key))

    def test_a_candidate_without_a_score_is_counted_and_not_drawn(self, search):
        results = {key: np.copy(value) for key, value in search.cv_results_.items()}
        results["split0_test_error"][2] = results["mean_test_error"][2] = np.nan
        display = FairnessTradeoffDisplay.from_cv_results(results)
        assert np.isnan(display.error[2])
        assert display.ax_.get_title().endswith("1 without a score")
        drawn = np.concatenate(list(systems(display).values()))
        assert np.isfinite(drawn).all(axis=1).sum() == 5
        for key in results:
            if key.endswith("_test_error") and not key.startswith("rank"):
                results[key][:] = np.nan
        with pytest.raises(ValueError, match="No candidate has both mean_test_error"):
            FairnessTradeoffDisplay.from_cv_results(results)

    def test_metrics_that_are_not_there_are_named_beside_those_that_are(self, search):
        with pytest.raises(ValueError, match=r"no \['mean_test_err'\].*\['error', 'disparity'\]"):
            FairnessTradeoffDisplay.from_cv_results(search, error="err")
        X, y, _ = make_biased_classification(200, random_state=0)
        one = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(X, y)
        with pytest.raises(ValueError, match=r"its metrics are \['score'\].*fairness_scorer"):
            FairnessTradeoffDisplay.from_cv_results(one)

    def test_what_is_not_a_result_of_a_search_is_refused(self):
        X, y, _ = make_biased_classification(200, random_state=0)
        unfitted = GridSearchCV(LogisticRegression(), {"C": [1.0]})
        with pytest.raises(ValueError, match="GridSearchCV without cv_results_"):
            FairnessTradeoffDisplay.from_cv_results(unfitted)
        with pytest.raises(ValueError, match="with \\['fit_time'"):
            FairnessTradeoffDisplay.from_cv_results(cross_validate(LogisticRegression(), X, y))

    def test_scores_are_not_taken_for_errors(self):
        X, y, _ = make_biased_classification(200, random_state=0)
        scoring = {"accuracy": "accuracy", "neg_log_loss": "neg_log_loss", "mine": "roc_auc"}
        search = GridSearchCV(
            LogisticRegression(), {"C": [0.1, 1.0]}, scoring=scoring, refit=False, cv=2
        ).fit(X, y)
        with pytest.raises(ValueError, match="'accuracy' is a score, the greater the better"):
            FairnessTradeoffDisplay.from_cv_results(
                search, error="accuracy", disparity="neg_log_loss"
            )
        display = FairnessTradeoffDisplay.from_cv_results(
            search, error="neg_log_loss", disparity="neg_log_loss"
        )
        np.testing.assert_array_equal(display.error, -search.cv_results_["mean_test_neg_log_loss"])

    def test_a_metric_of_both_signs_is_no_distance(self):
        X, y, _ = make_biased_classification(200, random_state=0)

        def signed(y_true, y_pred):
            return float(np.mean(y_pred) - np.mean(y_true))

        scoring = {"error": make_scorer(signed), "disparity": make_scorer(signed)}
        search = GridSearchCV(
            LogisticRegression(), {"C": [1e-6, 1.0]}, scoring=scoring, refit=False, cv=5
        ).fit(X, np.roll(y, 3))
        with pytest.raises(ValueError, match="of one sign throughout"):
            FairnessTradeoffDisplay.from_cv_results(search)

    def test_names_stay_different_where_values_are_long_or_alike(self):
        modules = [
            FairLowRankHeadClassifier(rank=r, C=2.0, solver=FineTune(lr=0.1)) for r in (1, 2)
        ]
        params = [{"a__C": 1.0, "b__C": 2.0}, {"a__C": 1.5, "b__C": 3.0}]
        for candidates, expected in (
            (params, ["a__C=1, b__C=2", "a__C=1.5, b__C=3"]),
            ([{"m": one} for one in modules], ["candidate 0: m=", "candidate 1: m="]),
            ([{"C": 1.00001}, {"C": 1.00002}], ["candidate 0: C=1", "candidate 1: C=1"]),
            ([{"C": 1.0}], ["the only candidate"]),
            ([{"C": 1.0}, {"rank": 1}], ["C=1", "rank=1"]),
        ):
            m = len(candidates)
            results = {
                "params": candidates,
                "mean_test_error": -np.arange(1.0, m + 1),
                "mean_test_disparity": -np.ones(m),
            }
            display = FairnessTradeoffDisplay.from_cv_results(results)
            for name, start in zip(display.names, expected, strict=True):
                assert name.startswith(start)
            assert display.error_interval is None  # no folds, no bars
            assert "bars" not in display.ax_.get_title()

    def test_metrics_whose_names_end_alike_are_kept_apart(self):
        results = {"params": [{"a": 1}, {"a": 2}]}
        for name, level in (("error", 1.0), ("test_error", 5.0), ("disparity", 0.1)):
            results[f"mean_test_{name}"] = -np.full(2, level)
            results |= {f"split{i}_test_{name}": -np.full(2, level) for i in range(2)}
        display = FairnessTradeoffDisplay.from_cv_results(results)
        np.testing.assert_array_equal(display.error_interval, np.ones((2, 2)))


@pytest.fixture(scope="module")
def path():
    X, y, s = make_biased_classification(1200, disparity=0.4, random_state=0)
    clf = FairLowRankHeadClassifier(constraint="demographic_parity", random_state=0)
    return fairness_path(
        clf,
        X,
        y,
        sensitive_features=s,
        weights=6,
        ranks=[1, None],
        solvers=["plug_in", "closed_form"],
        n_boot=50,
    )


def drawn(container):
    """Return the points (m, 2) of an errorbar, and the ends of its two bars (m, 2) each."""
    points = np.column_stack(container.lines[0].get_data())
    bars = [np.reshape(bar.get_segments(), (-1, 2, 2)) for bar in container.lines[2]]
    ends = [bar[:, :, axis] for axis, bar in enumerate(bars)]
    return points, *ends


XY = ["weighted_f1_error", "difference"]
RANKS = ["rank 1", "full rank"]


def in_order(points):
    """Return points (m, 2) sorted, to compare sets of them."""
    points = np.asarray(points)
    return points[np.lexsort(points.T)]


class TestPath:
    def test_every_point_is_drawn_once_and_those_of_the_front_with_their_intervals(self, path):
        table = path.table
        assert 3 < table["on_front"].sum() < len(table) - 3
        ax = FairnessTradeoffDisplay.from_path(path).ax_
        beaten = [one for one in ax.containers if not one.lines[2]]
        best = [one for one in ax.containers if one.lines[2]]
        for on_front, containers in ((False, beaten), (True, best)):
            expected = table[table["on_front"] == on_front]
            points = np.concatenate([drawn(one)[0] for one in containers])
            np.testing.assert_array_equal(in_order(points), in_order(expected[XY]))
        for container in best:
            points, *bars = drawn(container)
            for point, *ends in zip(points, *bars, strict=True):
                row = np.flatnonzero((table[XY] == point).all(axis=1))[0]
                for name, (low, high) in zip(XY, ends, strict=True):
                    value = table[name][row]
                    assert low == pytest.approx(min(value, table[f"{name}_low"][row]))
                    assert high == pytest.approx(max(value, table[f"{name}_high"][row]))

    def test_solvers_and_ranks_are_told_apart(self, path):
        ax = FairnessTradeoffDisplay.from_path(path).ax_
        labels = entries(ax)
        assert labels == [
            "Pareto front",
            *(f"{solver}, {rank}" for solver in ("plug_in", "closed_form") for rank in RANKS),
        ]
        for container in ax.containers:
            label = container.get_label()
            if label in labels:
                solver, rank = label.split(", ")
                of_rank = path.table["rank"].isna() == (rank == "full rank")
                part = path.table[of_rank & (path.table["solver"] == solver)]
                assert set(drawn(container)[0][:, 1]) <= set(part["difference"])
        looks = {(one.lines[0].get_color(), one.lines[0].get_marker()) for one in ax.containers}
        assert len(looks) == 4

    def test_a_rank_of_one_and_all_of_the_energy_are_told_apart(self):
        X, y, s = make_biased_classification(400, disparity=0.4, random_state=0)
        clf = FairLowRankHeadClassifier(
            constraint="demographic_parity", solver="closed_form", random_state=0
        )
        path = fairness_path(
            clf, X, y, sensitive_features=s, weights=3, ranks=[1, 1.0], thresholds=1, n_boot=0
        )
        labels = entries(FairnessTradeoffDisplay.from_path(path).ax_)
        assert {"closed_form, rank 1", "closed_form, energy 1"} <= set(labels)

    def test_the_front_goes_down_in_steps_that_no_point_lies_below(self, path):
        ax = FairnessTradeoffDisplay.from_path(path).ax_
        (line,) = (one for one in ax.get_lines() if one.get_label() == "Pareto front")
        x, difference = line.get_data()
        front = path.table[path.table["on_front"]]
        np.testing.assert_array_equal(np.sort(x), np.sort(front["weighted_f1_error"]))
        assert (np.diff(difference) <= 0).all()
        assert line.get_drawstyle() == "steps-post"
        for error, value in path.table[XY].to_numpy():
            assert value >= difference[x <= error].min()

    def test_the_chosen_row_is_ringed_and_named_by_its_weight(self, path):
        chosen = path.choose(0.1)
        ax = FairnessTradeoffDisplay.from_path(path, chosen=chosen).ax_
        row = path.table.loc[chosen]
        (ring,) = (one for one in ax.containers if str(one.get_label()).startswith("chosen"))
        assert f"weight {row['fairness_weight']:.3g}" in ring.get_label()
        np.testing.assert_array_equal(drawn(ring)[0], [row[XY]])
        assert ring.lines[0].get_markerfacecolor() == "none"  # the point stays visible
        without = FairnessTradeoffDisplay.from_path(path).ax_
        assert not any(str(one.get_label()).startswith("chosen") for one in without.containers)

    @pytest.mark.parametrize("form", ["mapping", "frame"])
    def test_peers_are_drawn_beside_it_a_curve_in_the_order_of_its_error(self, path, form):
        peers = {"one": (20.0, 0.9), "curve": ([30.0, 25.0], [0.05, 0.1])}
        if form == "frame":
            peers = pd.DataFrame(
                [("one", 20, 0.9), ("curve", 30, 0.05), ("curve", 25, 0.1)],
                columns=["name", "error", "difference"],
            )
        ax = FairnessTradeoffDisplay.from_path(path, peers=peers).ax_
        found = {one.get_label(): one for one in ax.containers}
        np.testing.assert_array_equal(found["one"].lines[0].get_xydata(), [[20.0, 0.9]])
        curve = found["curve"].lines[0]
        np.testing.assert_array_equal(curve.get_xydata(), [[25.0, 0.1], [30.0, 0.05]])
        assert curve.get_linestyle() != "None"
        bottom, top = ax.get_ylim()
        assert -0.05 < bottom < 0
        assert top > 0.9
        looks = [(one.lines[0].get_color(), one.lines[0].get_marker()) for one in ax.containers]
        assert len(set(looks)) == 6  # four series, twice each, and the two peers

    def test_what_is_not_in_the_path_or_not_a_point_is_refused(self, path):
        with pytest.raises(ValueError, match=r"chosen=999 is not a row.*choose\(difference_bound"):
            FairnessTradeoffDisplay.from_path(path, chosen=999)
        for peers, message in (
            ({"a": 1.0}, r"peers\['a'\] is 1.0; expected \(error, difference\)"),
            ({"a": ([1.0, 2.0], [0.1])}, "of one length"),
            ({"a": (1.0, 0.1, 0.2)}, "of one length"),
            ([("a", 1.0, 0.1)], "peers is a list; expected a mapping"),
            (pd.DataFrame({"name": ["a"], "err": [1.0]}), r"\['error', 'difference'\] are missing"),
        ):
            with pytest.raises(ValueError, match=message):
                FairnessTradeoffDisplay.from_path(path, peers=peers)

    def test_the_legend_covers_no_point_and_parity_is_in_sight(self, path):
        display = FairnessTradeoffDisplay.from_path(path, chosen=path.choose(0.1))
        display.figure_.canvas.draw()
        box = display.ax_.get_legend().get_window_extent()
        points = display.ax_.transData.transform(path.table[XY].to_numpy())
        assert not any(box.contains(*point) for point in points)
        assert all(display.ax_.bbox.contains(*point) for point in points)
        assert display.ax_.get_ylim()[0] < 0

    def test_axes_title_and_keywords(self, path):
        figure, ax = plt.subplots()
        display = FairnessTradeoffDisplay.from_path(path, ax=ax, markersize=3)
        assert display.ax_ is ax
        assert display.figure_ is figure
        assert {one.lines[0].get_markersize() for one in ax.containers} == {3}
        assert ax.get_ylabel().startswith("demographic parity distance")
        assert ax.get_title() == "on 1,200 rows out of fold"

    def test_a_path_without_intervals_or_beaten_points(self, path):
        table = path.table[path.table["on_front"]].reset_index(drop=True)
        table = table.assign(**{f"{name}_{end}": np.nan for name in XY for end in ("low", "high")})
        plain = dataclasses.replace(path, table=table, constraint="equalized_odds")
        display = FairnessTradeoffDisplay.from_path(plain)
        display.figure_.canvas.draw()
        assert display.ax_.get_ylabel().startswith("equalized odds distance")


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_every_distance_can_be_the_vertical_axis(constraint):
    rng = np.random.default_rng(0)
    y, s = rng.integers(2, size=300), rng.integers(2, size=300)
    pred = np.where(s == 1, rng.random(300) < 0.7, y)
    display = FairnessTradeoffDisplay.from_predictions(
        y, {"one": pred}, sensitive_features=s, metric=metric_of(constraint)
    )
    expected = constraint_distance(y, pred, constraint=constraint, sensitive_features=s)
    assert display.disparity == pytest.approx([expected])
    assert expected > 0.04
    assert display.ax_.get_ylabel() in TABLE[constraint].distance
