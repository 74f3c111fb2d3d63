"""pandas objects that name their rows in another order, wherever groups come in."""

import warnings

import pandas as pd
import pytest
import sklearn

from skfairft import FairLowRankHeadClassifier, FairnessWarning, fairness_path, model_report
from skfairft.datasets import make_biased_classification
from skfairft.displays import FeatureScatterDisplay
from skfairft.inputs.index_order import warn_of_index_order
from skfairft.metrics import equalized_odds_distance, fairness_report, fairness_scorer

X, Y, S = make_biased_classification(200, 6, disparity=0.4, random_state=0)
FRAME, SERIES, GROUPS = pd.DataFrame(X), pd.Series(Y), pd.Series(S, name="sex")
FAIR = {"constraint": "demographic_parity", "fairness_weight": 0.5, "solver": "closed_form"}
FITTED = FairLowRankHeadClassifier(**FAIR).fit(X, Y, sensitive_features=S)
FEW = {"weights": [0.5], "n_boot": 0}


def score(s):
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = fairness_scorer("demographic_parity_distance")
        scorer(FITTED, X, SERIES, sensitive_features=s)


# Where groups come in, and which object the message compares them with.
PLACES = {
    "fit, X": ("X", lambda s: FairLowRankHeadClassifier().fit(FRAME, Y, sensitive_features=s)),
    "fit, y": ("y", lambda s: FairLowRankHeadClassifier().fit(X, SERIES, sensitive_features=s)),
    "metric, y_true": (
        "y_true",
        lambda s: equalized_odds_distance(SERIES, Y, sensitive_features=s),
    ),
    "metric, y_pred": (
        "y_pred",
        lambda s: equalized_odds_distance(Y, SERIES, sensitive_features=s),
    ),
    "report": ("y_true", lambda s: fairness_report(SERIES, Y, sensitive_features=s, n_boot=0)),
    "scorer": ("y_true", score),
    "path": ("X", lambda s: fairness_path(FITTED, FRAME, Y, sensitive_features=s, **FEW)),
    "path, held out": (
        "y",
        lambda s: fairness_path(FITTED, X, Y, sensitive_features=S, held_out=(X, SERIES, s), **FEW),
    ),
    "model_report": (
        "X",
        lambda s: model_report(FITTED, FRAME, Y, sensitive_features=s, n_boot=0),
    ),
    "scatter": (
        "X",
        lambda s: FeatureScatterDisplay.from_estimator(FITTED, FRAME, sensitive_features=s),
    ),
}


def messages(call, *args, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*args, **kwargs)
    found = [each for each in caught if "index" in str(each.message)]
    assert all(each.category is FairnessWarning for each in found)
    # It names the line that called the package, of a scorer scikit-learn's.
    assert all("sklearn" in each.filename or each.filename == __file__ for each in found)
    return [str(each.message) for each in found]


@pytest.mark.parametrize("place", PLACES)
def test_groups_in_another_order_are_reported(place):
    pytest.importorskip("matplotlib").use("agg")
    other, call = PLACES[place]
    (message,) = messages(call, GROUPS.sample(frac=1, random_state=0))
    for word in (
        f"sensitive_features and {other} hold the same index labels in another order",
        f"Pass sensitive_features.loc[{other}.index]",
        "sensitive_features.to_numpy()",
        ".reset_index(drop=True)",
    ):
        assert word in message
    # What it advises is silent, as is what says nothing of an order.
    for groups in (
        GROUPS.sample(frac=1, random_state=0).loc[GROUPS.index],
        GROUPS.sample(frac=1, random_state=0).to_numpy(),
        GROUPS.sample(frac=1, random_state=0).reset_index(drop=True),
        GROUPS.set_axis(range(1000, 1200)),
        GROUPS.tolist(),
        pd.Index(S),
    ):
        assert messages(call, groups) == []


def test_labels_to_score_in_another_order_are_reported():
    (said,) = messages(FITTED.score, FRAME, SERIES.sample(frac=1, random_state=0))
    assert said.startswith("y and X hold")
    assert messages(FITTED.score, FRAME, SERIES, sample_weight=pd.Series(1.0, FRAME.index)) == []


def test_rows_are_taken_by_position():
    moved = GROUPS.sample(frac=1, random_state=0)
    with pytest.warns(FairnessWarning, match="index"):
        found = equalized_odds_distance(SERIES, Y, sensitive_features=moved)
    assert found == equalized_odds_distance(Y, Y, sensitive_features=moved.to_numpy())


def indexed(labels):
    return pd.Series(0, index=labels)


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        ([0, 1, 2], [2, 1, 0], True),
        ([0, 1, 2], [0, 1, 2], False),
        ([0, 1, 2], [0.0, 2.0, 1.0], True),
        ([0, 1, 2], [3, 1, 2], False),  # other rows, taken by position as in scikit-learn
        (["a", "b", "a"], ["a", "a", "b"], True),
        (["a", "b", "a"], ["b", "b", "a"], False),
        (["a", 1, None], [None, "a", 1], True),
        ([0, 1, 2], [1, 0], False),  # another number is an error elsewhere
        (pd.date_range("2020", periods=3), pd.date_range("2020", periods=3)[::-1], True),
        (
            pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]),
            pd.MultiIndex.from_tuples([("b", 2), ("a", 1)]),
            True,
        ),
        (pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), ["a", "b"], False),
    ],
)
def test_orders_of_labels(first, second, differs):
    found = messages(warn_of_index_order, a=indexed(first), b=indexed(second))
    assert bool(found) == differs


def test_all_that_differ_are_named_once():
    moved = indexed([1, 0])
    (message,) = messages(
        warn_of_index_order, X=indexed([0, 1]), y=moved, s=moved.to_frame(), w=[1, 2], t=None
    )
    assert "y and s and X hold" in message


def test_an_index_of_its_own_hides_no_other():
    other = indexed([7, 8])
    (message,) = messages(warn_of_index_order, X=other, y=indexed([0, 1]), s=indexed([1, 0]))
    assert "s and y hold" in message
    assert "s.loc[y.index]" in message


def test_labels_that_repeat_cannot_be_looked_up():
    (message,) = messages(warn_of_index_order, X=indexed([0, 0, 1]), s=indexed([0, 1, 0]))
    assert "s.loc" not in message
    assert "sorted alike" in message
