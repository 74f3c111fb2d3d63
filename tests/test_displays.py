import dataclasses

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessTradeoffDisplay,
    FisherImportanceDisplay,
    displays,
    fairness_path,
)
from skfairft.constraints import CONSTRAINTS
from skfairft.datasets import make_biased_classification
from skfairft.metrics import demographic_parity_distance, weighted_f1_error

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def data():
    return make_biased_classification(n_samples=400, n_groups=3, random_state=0)


@pytest.fixture
def fitted(data):
    X, y, s = data
    return FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)


def test_importance_lines_hold_the_fitted_values_sorted_by_the_importance_in_use(fitted):
    display = FisherImportanceDisplay.from_estimator(fitted)
    *groups, in_use = display.ax_.get_lines()
    assert (np.diff(in_use.get_ydata()) <= 0).all()
    order = np.argsort(-fitted.importance_, kind="stable")
    np.testing.assert_array_equal(in_use.get_ydata(), fitted.importance_[order])
    for line, values in zip(groups, fitted.group_importance_, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), values[order])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == [*map(str, fitted.groups_), "in use"]


def test_importance_draws_where_it_is_told_and_passes_keywords_on(fitted):
    figure, ax = plt.subplots()
    display = FisherImportanceDisplay.from_estimator(fitted, ax=ax, alpha=0.3)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert {line.get_alpha() for line in ax.get_lines()} == {0.3}


def test_similarity_is_one_for_proportional_and_zero_for_disjoint_importances():
    def similarity(rows):
        return FisherImportanceDisplay(
            group_importance=rows, importance=[1, 1], groups=["a", "b"]
        ).similarity

    np.testing.assert_allclose(similarity([[1, 2], [2, 4]]), np.ones((2, 2)))
    np.testing.assert_allclose(similarity([[1, 0], [0, 4]]), np.eye(2))


def test_intersections_are_named_by_all_their_values(data):
    X, y, s = data
    both = np.column_stack([s.astype(str), np.where(np.arange(len(s)) % 2, "old", "young")])
    clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=both)
    labels = FisherImportanceDisplay.from_estimator(clf).ax_.get_legend().get_texts()
    assert labels[0].get_text() == " / ".join(clf.groups_[0])


def test_an_unfitted_classifier_cannot_be_drawn():
    with pytest.raises(ValueError, match="not fitted"):
        FisherImportanceDisplay.from_estimator(FairLowRankHeadClassifier())


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
        low, high = display.error_interval[i]
        assert low <= display.error[i] <= high
    drawn = [container.lines[0].get_xydata()[0] for container in display.ax_.containers]
    np.testing.assert_allclose(drawn, np.column_stack([display.error, display.disparity]))


def test_tradeoff_shows_parity_and_keeps_every_point_in_sight_on_a_shared_axis():
    _, (left, right) = plt.subplots(1, 2, sharey=True)
    for ax, height in ((left, 0.2), (right, 0.5)):
        FairnessTradeoffDisplay(names=["a"], error=[1.0], disparity=[height]).plot(ax=ax)
    bottom, top = left.get_ylim()
    assert bottom == 0
    assert top > 0.5


def test_no_two_of_forty_systems_look_alike():
    count = 40
    display = FairnessTradeoffDisplay(
        names=range(count), error=np.arange(count), disparity=np.arange(count)
    ).plot()
    lines = [container.lines[0] for container in display.ax_.containers]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == count


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
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
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
        assert bottom == 0
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
        assert display.ax_.get_ylim()[0] == 0

    def test_axes_title_and_keywords(self, path):
        figure, ax = plt.subplots()
        display = FairnessTradeoffDisplay.from_path(path, ax=ax, markersize=3)
        assert display.ax_ is ax
        assert display.figure_ is figure
        assert {one.lines[0].get_markersize() for one in ax.containers} == {3}
        assert ax.get_ylabel().startswith("demographic parity distance")
        assert f"{path.n_held_out}" in ax.get_title()

    def test_a_path_without_intervals_or_beaten_points(self, path):
        table = path.table[path.table["on_front"]].reset_index(drop=True)
        table = table.assign(**{f"{name}_{end}": np.nan for name in XY for end in ("low", "high")})
        plain = dataclasses.replace(path, table=table, constraint="equalized_odds")
        display = FairnessTradeoffDisplay.from_path(plain)
        display.figure_.canvas.draw()
        assert display.ax_.get_ylabel().startswith("equalized odds distance")


def test_every_constraint_has_words():
    assert set(displays._DIFFERENCES) == set(CONSTRAINTS)
