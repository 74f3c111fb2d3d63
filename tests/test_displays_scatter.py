import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import TensorDataset

from skfairft import FairLowRankHeadClassifier, FeatureScatterDisplay, FrozenFeatureExtractor
from skfairft.datasets import make_biased_classification
from skfairft.feature_store import MemoryStore


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(n_samples=500, random_state=0)


@pytest.fixture(scope="module")
def fitted(data):
    X, y, s = data
    return FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)


def series(ax):
    """Return the drawn series that hold rows."""
    return [line for line in ax.get_lines() if len(line.get_xdata())]


def drawn_rows(ax):
    """Return all drawn points with their look, in an order of their own."""
    rows = []
    for line in series(ax):
        look = (line.get_color(), line.get_marker(), line.get_fillstyle())
        rows += [(x, y, look) for x, y in line.get_xydata()]
    return sorted(rows)


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def up_to_sign(found, expected):
    """Assert that components agree but for their signs."""
    for a, b in zip(found.T, expected.T, strict=True):
        np.testing.assert_allclose(a * np.sign(a @ b), b, atol=1e-8)


def test_points_are_scikit_learns_pca_of_the_features(data):
    X, y, s = data
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(10, 24), nn.ReLU())
    clf = FairLowRankHeadClassifier(backbone, rank=1).fit(X, y, sensitive_features=s)
    display = FeatureScatterDisplay.from_estimator(clf, X, sensitive_features=s)
    with torch.inference_mode():
        Z = backbone(torch.tensor(X, dtype=torch.float32)).double().numpy()
    pca = PCA(2, svd_solver="full")
    up_to_sign(display.projection, pca.fit_transform(Z))
    np.testing.assert_allclose(display.explained_variance_ratio, pca.explained_variance_ratio_)
    for share, label in zip(
        pca.explained_variance_ratio_,
        (display.ax_.get_xlabel(), display.ax_.get_ylabel()),
        strict=True,
    ):
        assert f"({100 * share:.3g} % of the variance)" in label


def test_each_row_is_drawn_once_with_the_look_of_its_group_and_prediction(data, fitted):
    X, _, s = data
    display = FeatureScatterDisplay.from_estimator(fitted, X, sensitive_features=s)
    looks = {}
    expected = []
    predicted = fitted.predict(X)
    for point, group, label in zip(display.projection, s, predicted, strict=True):
        looks.setdefault((group, label), len(looks))
        expected.append((*point, (group, label)))
    found = drawn_rows(display.ax_)
    assert [row[:2] for row in found] == [row[:2] for row in sorted(expected)]
    pairs = {(a[2], b[2]) for a, b in zip(found, sorted(expected), strict=True)}
    assert len(pairs) == len(looks) == 4  # one look for each pair of group and class
    for (colour, marker, fill), (group, label) in pairs:
        assert (colour, marker) == (("#0072B2", "o"), ("#D55E00", "s"))[group]
        assert fill == ("none", "full")[label]


@pytest.mark.parametrize("kind", ["array", "frame", "tensor", "list", "dataset"])
def test_a_part_of_the_rows_of_any_kind_is_drawn_and_said(data, kind):
    X, y, s = data
    backbone = nn.Sequential(nn.Linear(10, 8), nn.ReLU())
    X32 = X.astype(np.float32)
    rows = {
        "array": X32,
        "frame": pd.DataFrame(X32).add_prefix("x"),
        "tensor": torch.tensor(X32),
        "list": list(map(torch.tensor, X32)),
        "dataset": TensorDataset(torch.tensor(X32)),
    }[kind]
    clf = FairLowRankHeadClassifier(backbone, rank=1).fit(rows, y, sensitive_features=s)
    display = FeatureScatterDisplay.from_estimator(
        clf, rows, sensitive_features=s, max_rows=60, random_state=3
    )
    assert display.ax_.get_title() == "60 of 500 rows, drawn at random"
    assert len(drawn_rows(display.ax_)) == 60
    # The rows keep their groups and predictions: those of any kind are those of the array.
    alone = FeatureScatterDisplay.from_estimator(
        FairLowRankHeadClassifier(backbone, rank=1).fit(X32, y, sensitive_features=s),
        X32,
        sensitive_features=s,
        max_rows=60,
        random_state=3,
    )
    np.testing.assert_array_equal(display.groups, alone.groups)
    np.testing.assert_array_equal(display.predictions, alone.predictions)
    up_to_sign(display.projection, alone.projection)


def test_drawn_rows_keep_their_own_group_prediction_and_label(data, fitted):
    X, y, _ = data
    number = np.arange(len(X))  # as a group of its own each row says which it is
    display = FeatureScatterDisplay.from_estimator(
        fitted, X, sensitive_features=number, y=y, max_rows=60, random_state=0
    )
    rows = np.asarray(display.groups)
    assert len(set(rows)) == 60
    np.testing.assert_array_equal(display.predictions, fitted.predict(X)[rows])
    np.testing.assert_array_equal(display.wrong, fitted.predict(X)[rows] != y[rows])
    up_to_sign(display.projection, PCA(2, svd_solver="full").fit_transform(X[rows]))


def test_the_choice_of_rows_follows_the_seed_and_leaves_numpy_alone(data, fitted):
    X, _, s = data

    def points(seed):
        display = FeatureScatterDisplay.from_estimator(
            fitted, X, sensitive_features=s, max_rows=50, random_state=seed
        )
        return np.asarray(display.projection)

    state = np.random.get_state()[1].copy()  # noqa: NPY002 - it is to stay as it is
    np.testing.assert_array_equal(points(0), points(0))
    assert not np.array_equal(points(0), points(1))
    assert not np.array_equal(points(None), points(None))
    assert len(points(np.random.RandomState(0))) == 50
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_none_draws_all_rows(data, fitted):
    X, _, s = data
    display = FeatureScatterDisplay.from_estimator(fitted, X, sensitive_features=s, max_rows=None)
    assert display.ax_.get_title() == "all 500 rows"


def test_remembered_features_are_not_extracted_again_and_others_once(data):
    X, y, s = data
    extractor = FrozenFeatureExtractor(nn.Linear(10, 8), memory=MemoryStore())
    clf = FairLowRankHeadClassifier(extractor, rank=1).fit(
        X[:300], y[:300], sensitive_features=s[:300]
    )
    before = extractor.store.info().misses
    FeatureScatterDisplay.from_estimator(clf, X[:300], sensitive_features=s[:300])
    assert extractor.store.info().misses == before
    FeatureScatterDisplay.from_estimator(
        clf, X[300:], sensitive_features=s[300:], max_rows=50, random_state=0
    )
    # A first row may be looked at for its output.
    assert 50 <= extractor.store.info().misses - before <= 51


@pytest.mark.parametrize("wrapper", ["pipeline", "search"])
def test_of_a_pipeline_the_features_are_those_that_reach_the_head(data, wrapper, routing):
    X, y, s = data
    scaled = X * np.logspace(0, 3, X.shape[1])
    clf = FairLowRankHeadClassifier(rank=1).set_fit_request(sensitive_features=True)
    outer = make_pipeline(StandardScaler(), clf)
    if wrapper == "search":
        outer = GridSearchCV(outer, {"fairlowrankheadclassifier__C": [1.0]}, cv=2)
    outer.fit(scaled, y, sensitive_features=s)
    display = FeatureScatterDisplay.from_estimator(outer, scaled, sensitive_features=s)
    expected = PCA(2).fit_transform(StandardScaler().fit_transform(scaled))
    up_to_sign(display.projection, expected)
    np.testing.assert_array_equal(display.predictions, outer.predict(scaled))


def test_wrong_rows_are_crossed_and_counted(data, fitted):
    X, y, s = data
    display = FeatureScatterDisplay.from_estimator(fitted, X, sensitive_features=s, y=y)
    wrong = fitted.predict(X) != y
    assert 0 < wrong.sum() < len(y)
    (crosses,) = (line for line in series(display.ax_) if line.get_marker() == "x")
    np.testing.assert_array_equal(crosses.get_xydata(), display.projection[wrong])
    assert f"wrong ({100 * wrong.mean():.3g} %)" in entries(display.ax_)
    some = FeatureScatterDisplay.from_estimator(
        fitted, X, sensitive_features=s, y=pd.Series(y), max_rows=40, random_state=0
    )
    assert some.wrong.sum() < 40


def test_several_sensitive_columns_and_more_groups_than_colours(data, fitted):
    X, _, s = data
    frame = pd.DataFrame({"s": s, "age": np.arange(len(s)) % 5})  # ten intersections
    ax = FeatureScatterDisplay.from_estimator(fitted, X, sensitive_features=frame).ax_
    counts = frame.value_counts(sort=False).sort_index()
    names = [f"{a} / {b} ({n:,})" for (a, b), n in counts.items()]
    assert entries(ax) == ["group (rows)", *names, "predicted", "0", "1"]
    looks = {(line.get_color(), line.get_marker()) for line in series(ax)}
    assert len(looks) == 10


@pytest.mark.parametrize("n_classes", [1, 3, 6, 9])
def test_every_number_of_classes_has_fills_of_its_own(n_classes):
    rng = np.random.default_rng(0)
    predictions = np.sort(np.arange(300) % 9 % n_classes)
    display = FeatureScatterDisplay(
        projection=rng.normal(size=(300, 2)),
        groups=rng.integers(2, size=300),
        predictions=[f"class {c}" for c in predictions],
    ).plot()
    fills = {line.get_fillstyle() for line in series(display.ax_)}
    assert len(fills) == min(n_classes, 6)
    assert len(drawn_rows(display.ax_)) == 300
    names = entries(display.ax_)[4:]
    assert len(names) == min(n_classes, 6)
    assert (names[-1] == "4 other classes") == (n_classes == 9)


def test_of_too_many_classes_the_most_frequent_have_names():
    counts = [5, 60, 1, 70, 80, 2, 90, 100]
    predictions = np.repeat(np.arange(8), counts)
    display = FeatureScatterDisplay(
        projection=np.random.default_rng(0).normal(size=(len(predictions), 2)),
        groups=np.zeros(len(predictions)),
        predictions=predictions,
    ).plot()
    assert entries(display.ax_)[3:] == ["1", "3", "4", "6", "7", "3 other classes"]
    sizes = {line.get_fillstyle(): len(line.get_xdata()) for line in series(display.ax_)}
    assert sorted(sizes.values()) == [8, 60, 70, 80, 90, 100]


def test_a_lone_feature_and_more_features_than_rows():
    rng = np.random.default_rng(0)
    y, s = np.arange(40) % 2, np.arange(40) // 2 % 2
    for n_features in (1, 100):
        X = rng.normal(size=(40, n_features)) + y[:, None]
        clf = FairLowRankHeadClassifier().fit(X, y, sensitive_features=s)
        display = FeatureScatterDisplay.from_estimator(clf, X, sensitive_features=s)
        expected = PCA(min(2, n_features), svd_solver="full").fit(X)
        found = np.asarray(display.explained_variance_ratio)
        np.testing.assert_allclose(
            found[: len(expected.components_)], expected.explained_variance_ratio_
        )
        if n_features == 1:
            np.testing.assert_array_equal(np.asarray(display.projection)[:, 1], 0)
            assert found[1] == 0


def test_keywords_are_passed_on(data, fitted):
    X, _, s = data
    ax = FeatureScatterDisplay.from_estimator(fitted, X, sensitive_features=s, ms=3, alpha=1).ax_
    assert {line.get_markersize() for line in series(ax)} == {3}
    assert {line.get_alpha() for line in series(ax)} == {1}


def test_the_legend_covers_no_point(data, fitted):
    X, _, s = data
    display = FeatureScatterDisplay.from_estimator(fitted, X, sensitive_features=s)
    display.figure_.canvas.draw()
    box = display.ax_.get_legend().get_window_extent()
    assert box.x0 >= display.ax_.bbox.x1
    assert box.x1 <= display.figure_.bbox.x1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensitive_features": [0, 1]}, "sensitive_features has 2 rows but X has 500"),
        ({"sensitive_features": None}, "sensitive_features is None"),
        ({"y": [0, 1]}, "y has 2 rows but X has 500"),
        ({"y": ["a", "b"] * 250}, r"none of the classes \[0, 1\] but labels like 'a'"),
        ({"max_rows": 1}, "max_rows=1; expected at least 2"),
        ({"X": np.ones((500, 10))}, "features of all 500 rows are the same"),
        ({"X": np.ones((1, 10)), "sensitive_features": [0]}, "X has 1 rows"),
        ({"X": {"a": [1]}}, "one entry per row"),
    ],
)
def test_what_does_not_fit_is_refused(data, fitted, change, message):
    X, _, s = data
    given = {"X": X, "sensitive_features": s} | change
    with pytest.raises(ValueError, match=message):
        FeatureScatterDisplay.from_estimator(fitted, **given)
    assert not plt.get_fignums()


def test_others_and_unfitted_ones_are_refused(data):
    X, y, s = data
    with pytest.raises(NotFittedError):
        FeatureScatterDisplay.from_estimator(FairLowRankHeadClassifier(), X, sensitive_features=s)
    with pytest.raises(TypeError, match="LogisticRegression"):
        FeatureScatterDisplay.from_estimator(
            LogisticRegression().fit(X, y), X, sensitive_features=s
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projection": np.ones((4, 3))}, r"projection has shape \(4, 3\)"),
        ({"projection": np.full((4, 2), np.nan)}, "expected finite numbers"),
        (
            {"predictions": [0, 1]},
            r"predictions has shape \(2,\); expected \(4,\), one for each row",
        ),
        ({"wrong": [True]}, r"wrong has shape \(1,\)"),
        ({"groups": [0, 1]}, "groups has 2 rows"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    given = {"projection": np.eye(4)[:, :2], "groups": [0, 1, 0, 1], "predictions": [0, 0, 1, 1]}
    with pytest.raises(ValueError, match=message):
        FeatureScatterDisplay(**(given | change)).plot()
