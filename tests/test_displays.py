import matplotlib as mpl
import numpy as np
import pytest

from skfairft import FairLowRankHeadClassifier, FairnessTradeoffDisplay, FisherImportanceDisplay
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
