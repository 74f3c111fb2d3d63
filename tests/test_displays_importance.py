import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfairft import FairLowRankHeadClassifier, FisherImportanceDisplay
from skfairft.datasets import make_biased_classification
from skfairft.lowrank.factorization import neutralize

MEAN = "neutralized mean, in use"


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(n_samples=400, n_groups=3, random_state=0)


@pytest.fixture(scope="module")
def fitted(data):
    X, y, s = data
    return FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)


def lines(ax):
    """Return the lines that the legend names."""
    return {
        line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")
    }


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def random_display(n_groups, n_features, **kwargs):
    rows = np.random.default_rng(0).gamma(2.0, size=(n_groups, n_features))
    groups = [f"group {g}" for g in range(n_groups)]
    return FisherImportanceDisplay(
        group_importance=rows, importance=rows.mean(axis=0), groups=groups, **kwargs
    )


def test_lines_hold_the_fitted_values_sorted_by_the_importance_in_use(fitted):
    drawn = lines(FisherImportanceDisplay.from_estimator(fitted).ax_)
    assert list(drawn) == [*map(str, fitted.groups_), MEAN]
    order = np.argsort(-fitted.importance_, kind="stable")
    np.testing.assert_array_equal(drawn[MEAN].get_ydata(), fitted.importance_[order])
    assert (np.diff(drawn[MEAN].get_ydata()) <= 0).all()
    for group, values in zip(fitted.groups_, fitted.group_importance_, strict=True):
        np.testing.assert_array_equal(drawn[str(group)].get_ydata(), values[order])
        np.testing.assert_array_equal(drawn[str(group)].get_xdata(), np.arange(len(order)) + 1)


def test_the_mean_that_is_drawn_is_eq_2_of_the_groups_that_are_drawn(fitted):
    drawn = lines(FisherImportanceDisplay.from_estimator(fitted).ax_)
    groups = torch.tensor(np.stack([drawn[str(g)].get_ydata() for g in fitted.groups_]))
    mean = neutralize(groups, torch.full((3,), 1 / 3, dtype=torch.float64))
    np.testing.assert_allclose(drawn[MEAN].get_ydata(), mean)


def test_keywords_are_passed_on(fitted):
    ax = FisherImportanceDisplay.from_estimator(fitted, alpha=0.3, lw=3).ax_
    assert {line.get_alpha() for line in ax.get_lines()} == {0.3}
    assert {line.get_linewidth() for line in ax.get_lines()} == {3}


@pytest.mark.parametrize("wrapper", ["pipeline", "search"])
def test_the_classifier_is_found_inside(data, wrapper, routing):
    X, y, s = data
    clf = FairLowRankHeadClassifier(rank=1).set_fit_request(sensitive_features=True)
    pipeline = make_pipeline(StandardScaler(), clf)
    if wrapper == "pipeline":
        outer = pipeline.fit(X, y, sensitive_features=s)
        inner = outer[-1]
    else:
        outer = GridSearchCV(pipeline, {"fairlowrankheadclassifier__C": [1.0]}, cv=2)
        outer.fit(X, y, sensitive_features=s)
        inner = outer.best_estimator_[-1]
    display = FisherImportanceDisplay.from_estimator(outer)
    np.testing.assert_array_equal(display.group_importance, inner.group_importance_)


def test_an_importance_that_is_not_in_use_is_not_called_so(data):
    X, y, s = data
    uniform, covariance = (
        FairLowRankHeadClassifier(rank=1, importance=importance).fit(X, y, sensitive_features=s)
        for importance in ("uniform", "covariance")
    )
    drawn = lines(FisherImportanceDisplay.from_estimator(uniform).ax_)
    assert list(drawn) == ["0", "1", "2"]
    mean = np.mean([line.get_ydata() for line in drawn.values()], axis=0)
    assert (np.diff(mean) <= 0).all()  # sorted by the mean in its stead
    drawn = lines(FisherImportanceDisplay.from_estimator(covariance).ax_)
    assert list(drawn)[-1] == "neutralized mean (in use: the features' covariance)"


def test_a_head_of_no_svd_uses_no_importance_and_one_of_the_closed_form_does(data):
    X, y, s = data
    for solver, constraint, name in [
        ("fine_tune", None, "neutralized mean (not in use)"),
        ("plug_in", "demographic_parity", "neutralized mean (not in use)"),
        ("closed_form", "demographic_parity", MEAN),
    ]:
        clf = FairLowRankHeadClassifier(
            solver=solver, constraint=constraint, fairness_weight=0.5 if constraint else 0.0
        ).fit(X, y, sensitive_features=s)
        assert list(lines(FisherImportanceDisplay.from_estimator(clf).ax_))[-1] == name


class TestSimilarity:
    def of(self, rows):
        groups = [f"g{i}" for i in range(len(rows))]
        return FisherImportanceDisplay(group_importance=rows, importance=None, groups=groups)

    def test_is_one_for_proportional_and_zero_for_disjoint_importances(self):
        np.testing.assert_allclose(self.of([[1, 2], [2, 4]]).similarity, np.ones((2, 2)))
        np.testing.assert_allclose(self.of([[1, 0], [0, 4]]).similarity, np.eye(2))

    def test_is_undefined_for_a_group_without_importance_and_said_so(self):
        display = self.of([[1.0, 2.0], [0.0, 0.0]])
        assert np.isnan(display.similarity[0, 1])
        assert display.plot().ax_.get_title().endswith("undefined (all importances zero)")
        np.testing.assert_allclose(display.similarity[0, 0], 1)

    def test_of_two_groups_it_stands_in_the_title(self):
        ax = self.of([[3.0, 4.0], [4.0, 3.0]]).plot().ax_
        assert ax.get_title() == "cosine between g0 and g1: 0.960"

    def test_of_up_to_four_groups_every_pair_is_listed(self):
        display = random_display(4, 6)
        texts = entries(display.plot().ax_)
        for i in range(4):
            for j in range(i + 1, 4):
                a, b = display.group_importance[[i, j]]
                cosine = a @ b / np.sqrt((a @ a) * (b @ b))
                assert f"group {i} and group {j}: {cosine:.3f}" in texts

    def test_of_more_groups_the_lowest_pair_is_named(self):
        rows = np.ones((6, 3))
        rows[1], rows[4] = [1, 0, 0], [0.1, 1, 1]
        ax = self.of(rows).plot().ax_
        cosine = 0.1 / np.sqrt(2.01)
        assert ax.get_title() == f"lowest cosine between two groups: {cosine:.3f}\n(g1 and g4)"
        assert len(entries(ax)) == 6

    def test_of_one_group_there_is_none(self, data):
        X, y, _ = data
        with pytest.warns(match="sensitive_features"):
            clf = FairLowRankHeadClassifier(rank=1).fit(X, y)
        assert FisherImportanceDisplay.from_estimator(clf).ax_.get_title() == ""


class TestManyFeatures:
    def test_marks_are_means_over_stretches_and_single_features_stay_faint(self):
        display = random_display(2, 1280)
        ax = display.plot().ax_
        drawn = lines(ax)
        order = np.argsort(-display.importance, kind="stable")
        faint = [line for line in ax.get_lines() if line.get_label() not in drawn]
        assert len(faint) == 2
        for g, line in enumerate(faint):
            np.testing.assert_array_equal(line.get_ydata(), display.group_importance[g][order])
            assert line.get_alpha() < 0.5
            assert line.get_marker() == "None"
        for g in range(2):
            line = drawn[f"group {g}"]
            assert len(line.get_xdata()) == 30
            parts = np.array_split(display.group_importance[g][order], 30)
            np.testing.assert_allclose(line.get_ydata(), [part.mean() for part in parts])
            places = np.array_split(np.arange(1, 1281), 30)
            np.testing.assert_allclose(line.get_xdata(), [part.mean() for part in places])
        np.testing.assert_array_equal(drawn[MEAN].get_ydata(), display.importance[order])
        assert "means over 43 features" in ax.get_xlabel()

    def test_sixty_features_have_a_mark_each(self):
        drawn = lines(random_display(2, 60).plot().ax_)
        assert len(drawn["group 0"].get_xdata()) == 60

    def test_ten_groups_are_told_apart_and_their_legend_covers_nothing(self):
        display = random_display(10, 1280)
        ax = display.plot().ax_
        looks = {(line.get_color(), line.get_marker()) for line in lines(ax).values()}
        assert len(looks) == 11
        display.figure_.canvas.draw()
        box = ax.get_legend().get_window_extent()
        assert box.x0 >= ax.bbox.x1
        assert box.x1 <= display.figure_.bbox.x1
        assert box.y0 >= 0


def test_another_plot_on_the_same_axes_stays_in_sight():
    _, ax = plt.subplots()
    for factor in (1.0, 5.0):
        FisherImportanceDisplay(
            group_importance=[[factor, factor / 2]], importance=None, groups=["a"]
        ).plot(ax=ax)
    bottom, top = ax.get_ylim()
    assert bottom == 0
    assert top > 5


def test_intersections_are_named_by_all_their_values(data):
    X, y, s = data
    both = np.column_stack([s.astype(str), np.where(np.arange(len(s)) % 2, "old", "young")])
    clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=both)
    assert entries(FisherImportanceDisplay.from_estimator(clf).ax_)[0] == " / ".join(clf.groups_[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ["a"]}, r"shape \(2, 3\) and there are 1 groups"),
        ({"group_importance": [1.0, 2.0, 3.0]}, r"one row of importances per group"),
        ({"importance": [1.0, 2.0]}, r"importance has shape \(2,\); expected \(3,\)"),
        ({"importance": [1.0, 2.0, np.nan]}, "importance holds values that are negative"),
        ({"group_importance": -np.ones((2, 3))}, "group_importance holds values"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"group_importance": np.ones((2, 3)), "importance": np.ones(3), "groups": ["a", "b"]}
    with pytest.raises(ValueError, match=message):
        FisherImportanceDisplay(**(given | change)).plot()
