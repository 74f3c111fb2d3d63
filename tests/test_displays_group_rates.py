from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import (
    MetricFrame,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfairft import FairLowRankHeadClassifier, FairnessWarning, GroupRatesDisplay
from skfairft.datasets import make_biased_classification
from skfairft.metrics import fairness_report

PEERS = {
    "selection_rate": selection_rate,
    "tpr": true_positive_rate,
    "fpr": false_positive_rate,
}


@pytest.fixture
def rows():
    """Labels, predictions and groups of four sizes, the smallest of 12 rows."""
    rng = np.random.default_rng(0)
    s = np.repeat(["a", "b", "c", "d"], [400, 300, 200, 12])
    y = rng.integers(2, size=len(s))
    flip = rng.random(len(s)) < 0.25
    return y, np.where(flip, 1 - y, y), s


def dots(ax):
    """Return what is drawn: (marker, height from the top, rate, ends of the bar, hollow)."""
    found = []
    for container in ax.containers:
        line = container.lines[0]
        bars = container.lines[2]
        ends = bars[0].get_segments() if bars else [None] * len(line.get_xdata())
        for (x, y), end in zip(line.get_xydata(), ends, strict=True):
            hollow = line.get_markerfacecolor() == "white"
            low_high = None if end is None else end[:, 0]
            found.append((line.get_marker(), float(y), x, low_high, hollow))
    return found


def groups_of(ax):
    """Return each tick's height and text, from the top."""
    return [
        (height, text.get_text())
        for height, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    ]


def of_group(ax, i):
    """Return the dots between a tick and its neighbours."""
    height = groups_of(ax)[i][0]
    return {marker: rest for marker, y, *rest in dots(ax) if abs(y - height) < 1.6}


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


MARKERS = dict(zip(PEERS, ("o", "s", "^"), strict=True))


def test_dots_are_fairlearns_rates_and_bars_the_reports_intervals(rows):
    y, pred, s = rows
    ax = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s).ax_
    frame = MetricFrame(metrics=PEERS, y_true=y, y_pred=pred, sensitive_features=s)
    report = fairness_report(y, pred, sensitive_features=s, n_boot=0)
    assert len(dots(ax)) == 12
    for i, group in enumerate("abcd"):
        for name, marker in MARKERS.items():
            rate, ends, _ = of_group(ax, i)[marker]
            assert rate == pytest.approx(frame.by_group.loc[group, name])
            low, high = report.group_intervals.loc[group, name]
            np.testing.assert_allclose(ends, [min(low, rate), max(high, rate)])
    for name, text in zip(PEERS, entries(ax), strict=False):
        assert text.endswith(f"largest difference {frame.difference()[name]:.3f}")


def test_counts_stand_at_the_groups_and_few_rows_are_marked_as_the_report_notes_them(rows):
    y, pred, s = rows
    y[s == "c"] = np.r_[np.ones(29), np.zeros(171)]  # 29 positives: one too few
    ax = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s).ax_
    texts = [text for _, text in groups_of(ax)]
    assert texts == ["a (n=400)", "b (n=300)", "c (n=200)*", "d (n=12)*"]
    hollow = [[of_group(ax, i)[marker][2] for marker in MARKERS.values()] for i in range(4)]
    assert hollow == [[False] * 3, [False] * 3, [False, True, False], [True] * 3]
    assert entries(ax)[-1].startswith("hollow, and * at the group: fewer than 30 rows")


def test_no_group_is_marked_where_none_is_small(rows):
    y, pred, s = rows
    keep = s != "d"
    ax = GroupRatesDisplay.from_predictions(y[keep], pred[keep], sensitive_features=s[keep]).ax_
    assert not any("*" in text for _, text in groups_of(ax))
    assert len(entries(ax)) == 3


def test_thirty_rows_are_not_few_and_one_less_is():
    y = np.tile([0, 1], 60)
    s = np.repeat([0, 1], 60)  # thirty rows of each label in each group
    for left, few in [(120, 0), (119, 1)]:
        display = GroupRatesDisplay.from_predictions(
            y[:left], y[:left], sensitive_features=s[:left]
        )
        assert sum(int(flags.sum()) for flags in display.few.values()) == few
        assert [name.get_text()[-1] == "*" for name in display.ax_.get_yticklabels()] == [
            False,
            few == 1,
        ]


def test_an_undefined_rate_is_written_and_never_drawn(rows):
    y, pred, s = rows
    y[s == "d"] = 0
    with pytest.warns(FairnessWarning, match="true positive rate"):
        display = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s)
    ax = display.ax_
    assert np.isnan(display.rates["tpr"][3])
    assert MARKERS["tpr"] not in of_group(ax, 3)
    assert len(dots(ax)) == 11
    (text,) = (text for text in ax.texts if "undefined" in text.get_text())
    assert text.get_text() == "true positive rate undefined"
    height = groups_of(ax)[3][0]
    assert abs(text.get_position()[1] - height) < 1.6
    assert all(np.isfinite(rate) for _, _, rate, *_ in dots(ax))


def test_an_undefined_difference_is_called_so(rows):
    y, pred, s = rows
    with pytest.warns(FairnessWarning, match="no one to be compared with"):
        ax = GroupRatesDisplay.from_predictions(
            y, pred, sensitive_features=np.full(len(s), "all")
        ).ax_
    assert all(text.endswith("largest difference undefined") for text in entries(ax)[:3])


def test_of_several_classes_each_has_a_block_of_its_own():
    rng = np.random.default_rng(0)
    y, pred, s = rng.integers(3, size=(3, 900))
    display = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s)
    ax = display.ax_
    assert len(groups_of(ax)) == 9
    heads = [text for text in ax.texts if "against the rest" in text.get_text()]
    for c, head in enumerate(heads):
        frame = MetricFrame(metrics=PEERS, y_true=y == c, y_pred=pred == c, sensitive_features=s)
        difference = frame.difference()
        assert head.get_text() == (
            f"class {c} against the rest; largest differences: selection "
            f"{difference['selection_rate']:.3f}, TPR {difference['tpr']:.3f}, "
            f"FPR {difference['fpr']:.3f}"
        )
        for g in range(3):
            found = of_group(ax, 3 * c + g)
            assert head.get_position()[1] < groups_of(ax)[3 * c + g][0]
            for name, marker in MARKERS.items():
                assert found[marker][0] == pytest.approx(frame.by_group.loc[g, name])
    one = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s, pos_label=1)
    np.testing.assert_array_equal(one.rates["tpr"], display.rates["tpr[1]"])


@pytest.mark.parametrize("wrapper", ["classifier", "pipeline", "search", "peer"])
def test_any_fitted_classifier_is_taken(wrapper, routing):
    X, y, s = make_biased_classification(400, random_state=0)
    clf = FairLowRankHeadClassifier(rank=1).set_fit_request(sensitive_features=True)
    routed = {"sensitive_features": s}
    if wrapper == "peer":
        clf, routed = LogisticRegression(), {}
    elif wrapper != "classifier":
        clf = make_pipeline(StandardScaler(), clf)
    if wrapper == "search":
        clf = GridSearchCV(clf, {"fairlowrankheadclassifier__C": [1.0]}, cv=2)
    clf.fit(X, y, **routed)
    display = GroupRatesDisplay.from_estimator(clf, X, y, sensitive_features=s)
    expected = GroupRatesDisplay.from_predictions(y, clf.predict(X), sensitive_features=s)
    for name in PEERS:
        np.testing.assert_array_equal(display.rates[name], expected.rates[name])
        np.testing.assert_array_equal(display.intervals[name], expected.intervals[name])


def test_the_arguments_of_the_report_are_passed_on(rows):
    y, pred, s = rows
    weight = np.random.default_rng(1).random(len(y))
    given = {
        "sensitive_features": s,
        "sample_weight": weight,
        "pos_label": 0,
        "confidence_level": 0.8,
    }
    display = GroupRatesDisplay.from_predictions(y, pred, **given)
    report = fairness_report(y, pred, **given, n_boot=0)
    for name in PEERS:
        np.testing.assert_array_equal(display.rates[name], report.by_group[name])
        np.testing.assert_array_equal(display.intervals[name], report.group_intervals[name])
    assert display.ax_.get_xlabel().endswith(", with 80 % interval")


def test_some_rates_only(rows):
    y, pred, s = rows
    ax = GroupRatesDisplay.from_predictions(
        y, pred, sensitive_features=s, metrics=["fpr", "selection_rate"]
    ).ax_
    assert {marker for marker, *_ in dots(ax)} == {MARKERS["selection_rate"], MARKERS["fpr"]}
    assert [text.split(":")[0] for text in entries(ax)[:2]] == [
        "selection rate",
        "false positive rate",
    ]
    assert ax.get_xlabel() == "rate (positive: 1), with 95 % interval"  # none is of resamples


@pytest.mark.parametrize("n_groups", [2, 20])
def test_every_group_has_room_and_nothing_overlaps(n_groups):
    rng = np.random.default_rng(0)
    s = np.repeat([f"a group with a rather long name {g:02}" for g in range(n_groups)], 60)
    y, pred = rng.integers(2, size=(2, len(s)))
    y[s == s[0]] = 0
    with pytest.warns(FairnessWarning):
        display = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s)
    figure, ax = display.figure_, display.ax_
    figure.set_dpi(640 / figure.get_figwidth())
    figure.canvas.draw()
    labels = [text.get_window_extent() for text in ax.get_yticklabels()]
    for above, below in pairwise(labels):
        assert above.y0 > below.y1
    assert all(box.x0 >= 0 for box in labels)
    heights = sorted(ax.transData.transform((0, y))[1] for _, y, *_ in dots(ax))
    assert np.diff(heights).min() > 8  # pixels: markers are 6 high
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 > max(heights) + 4
    assert legend.y1 <= ax.bbox.y1
    (text,) = (text for text in ax.texts if "undefined" in text.get_text())
    box = text.get_window_extent()
    assert sum(box.y0 < height < box.y1 for height in heights) == 0


def test_groups_and_rates_are_told_apart_without_colour(rows):
    y, pred, s = rows
    display = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s)
    looks = {one.lines[0].get_marker(): one.lines[0].get_color() for one in display.ax_.containers}
    assert len(looks) == len(set(looks.values())) == 3


def test_intersections_and_a_frame(rows):
    y, pred, s = rows
    frame = pd.DataFrame({"s": s, "t": np.arange(len(s)) % 2})
    ax = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=frame).ax_
    assert groups_of(ax)[0][1] == "a / 0 (n=200)"
    assert groups_of(ax)[-1][1] == "d / 1 (n=6)*"


@pytest.mark.parametrize("k", [2, 3])
def test_the_error_rate_is_one_of_all_classes(k):
    rng = np.random.default_rng(0)
    y, s = rng.integers(k, size=300), rng.integers(2, size=300)
    pred = np.where(rng.random(300) < 0.2 + 0.3 * s, rng.integers(k, size=300), y)
    report = fairness_report(y, pred, sensitive_features=s, n_boot=0)
    display = GroupRatesDisplay.from_report(report, metrics=["tpr", "error"])
    assert len(display.rates) == (2 if k == 2 else 4)
    expected = [np.mean((y != pred)[s == g]) for g in (0, 1)]
    np.testing.assert_allclose(display.rates["error"], expected)
    heads = [text.get_text() for text in display.ax_.texts]
    assert [head for head in heads if head.startswith("all classes")] == (
        [] if k == 2 else [f"all classes; largest differences: error {np.ptp(expected):.3f}"]
    )


def test_keywords_are_passed_on(rows):
    y, pred, s = rows
    ax = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s, ms=9, capsize=0).ax_
    assert {one.lines[0].get_markersize() for one in ax.containers} == {9}


def test_the_axis_names_the_positive_label(rows):
    y, pred, s = rows
    for given, shown in ((None, "rate (positive: 1)"), (0, "rate (positive: 0)")):
        ax = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s, pos_label=given).ax_
        assert ax.get_xlabel() == f"{shown}, with 95 % interval"


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["tp"], r"Unknown rate 'tp'.*\['error', 'fpr', 'selection_rate', 'tpr'\]"),
        (["tprs"], "Did you mean 'tpr'"),
        ("tpr", "metrics='tpr'; expected a list"),
        ([], r"metrics=\[\]"),
    ],
)
def test_an_unknown_rate_is_refused_before_anything_is_computed(metrics, message):
    for make, given in (
        (GroupRatesDisplay.from_predictions, (None, None)),
        (GroupRatesDisplay.from_estimator, (None, None, None)),
    ):
        with pytest.raises(ValueError, match=message):
            make(*given, sensitive_features=None, metrics=metrics)


def test_what_does_not_fit_is_refused(rows):
    y, pred, s = rows
    with pytest.raises(ValueError, match="sensitive_features has 2 rows"):
        GroupRatesDisplay.from_predictions(y, pred, sensitive_features=["a", "b"])
    with pytest.raises(TypeError, match="StandardScaler without predict"):
        GroupRatesDisplay.from_estimator(StandardScaler(), None, y, sensitive_features=s)
    given = {"groups": ["a", "b"], "counts": [1, 2], "rates": {"tpr": [0.1, 0.2]}}
    for change, message in (
        ({"groups": []}, "There are 0 groups"),
        ({"counts": [1]}, r"counts of shape \(1,\)"),
        ({"rates": {}}, "0 rates"),
        ({"rates": {"tpr": [0.1]}}, r"rates\['tpr'\] is \[0.1\]; .* each of the 2 groups"),
        ({"rates": {"tpr": [0.1, 1.2]}}, r"one number in \[0, 1\]"),
        ({"rates": {"accuracy": [0.1, 0.2]}}, "Unknown rate 'accuracy'"),
    ):
        with pytest.raises(ValueError, match=message):
            GroupRatesDisplay(**(given | change)).plot()


def test_weights_whose_sums_round_above_one_are_drawn():
    """Which do so depends on the processor: here a share is what such a sum makes of it."""
    y, s = [0, 1, 2] * 20, [0, 1] * 30
    report = fairness_report(y, [1] * 60, sensitive_features=s, n_boot=0)
    above = report.by_group.assign(**{"selection_rate[1]": 1.0 + np.finfo(float).eps})
    display = GroupRatesDisplay.from_report(
        replace(report, by_group=above), metrics=["selection_rate"]
    )
    assert display.rates["selection_rate[1]"] == pytest.approx([1.0, 1.0])
