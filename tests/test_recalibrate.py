"""`recalibrate`: votes of later rows, for a head that stays."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from skfairft import FairLowRankHeadClassifier, load, model_report
from skfairft.datasets import make_biased_classification
from skfairft.inputs.exceptions import FairnessWarning
from skfairft.metrics import constraint_distance, constraint_ratio
from skfairft.summary import summarize

X, Y, S = make_biased_classification(n_samples=16_000, disparity=0.4, random_state=0)
OLD = slice(0, 1500)
# Later half of the positives of one group stay away.
STAYS = (S == 1) | (Y == 0) | (np.arange(len(Y)) % 2 == 0)
LATER, REST = 1500 + np.flatnonzero(STAYS[1500:6000]), 6000 + np.flatnonzero(STAYS[6000:])


def fitted(rows=OLD, groups=S, **settings):
    given = {"constraint": "demographic_parity", "solver": "plug_in", "random_state": 0}
    clf = FairLowRankHeadClassifier(**(given | settings))
    return clf.fit(X[rows], Y[rows], sensitive_features=groups[rows])


def everything(clf):
    """All that was found, as bytes and text."""
    return {name: {key: value.numpy().tobytes() for key, value in found.state_dict().items()}
            if isinstance(found, nn.Module) else repr(found)
            for name, found in vars(clf).items()}  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"fairness_weight": 0.7},
        {"fairness_weight": 0.7, "class_weight": "balanced", "constraint": "equalized_odds"},
        {"constraint": ["demographic_parity", "error_rate_parity"], "fairness_weight": [0.5, 0.3]},
        {"constraint": "worst_group"},
    ],
    ids=["weight", "class weight", "several", "worst"],
)
def test_on_the_rows_of_the_fit_it_is_the_fit(settings):
    clf = fitted(**settings)
    again = copy.deepcopy(clf).recalibrate(X[OLD], Y[OLD], sensitive_features=S[OLD])
    for name, value in clf.head_.state_dict().items():
        torch.testing.assert_close(again.head_.state_dict()[name], value, rtol=0, atol=1e-9)
    assert again.fairness_weight_ == pytest.approx(clf.fairness_weight_)
    assert hasattr(again, "worst_group_") == hasattr(clf, "worst_group_")


def test_only_votes_are_others():
    backbone = nn.Sequential(nn.Linear(10, 16), nn.Tanh())
    clf = fitted(feature_extractor=backbone, rank=2, difference_bound=0.05)
    before, proba = everything(clf), clf.predict_label_proba(X[LATER])
    clf.recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])
    after = everything(clf)
    np.testing.assert_array_equal(clf.predict_label_proba(X[LATER]), proba)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed <= {"head_", "fairness_weight_", "bounds_", "known_groups_", "demands_",
                       "recalibrated_rows_"}  # fmt: skip
    heads = before["head_"], after["head_"]
    assert {key for key in heads[0] if heads[0][key] != heads[1][key]} <= {"1.vote", "1.known_vote"}
    assert heads[0] != heads[1]


class TestBounds:
    @pytest.mark.parametrize("known", [False, True])
    @pytest.mark.parametrize(
        "settings",
        [
            {"difference_bound": 0.05},
            {"constraint": "equalized_odds", "difference_bound": 0.1},
            {"ratio_bound": 0.8},
        ],
        ids=["parity", "odds", "ratio"],
    )
    @pytest.mark.some(2)
    def test_what_was_reached_is_that_of_these_rows(self, settings, known):
        clf = fitted(**settings).recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])
        told = {"sensitive_features": S[LATER]} if known else {}
        predicted = clf.predict(X[LATER], **told)
        measure = constraint_ratio if "ratio_bound" in settings else constraint_distance
        found = measure(Y[LATER], predicted, constraint=clf.constraint, sensitive_features=S[LATER])
        (bound,) = clf.known_groups_.bounds if known else clf.bounds_
        assert bound.value == pytest.approx(found, abs=1e-12)
        assert bound.met

    def test_bring_decisions_on_further_rows_nearer(self):
        clf = fitted(difference_bound=0.05)

        def distance():
            return constraint_distance(
                Y[REST], clf.predict(X[REST]), constraint="demographic_parity",
                sensitive_features=S[REST],
            )  # fmt: skip

        before = distance()
        clf.recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])
        assert distance() < 0.7 * before

    def test_of_now_are_asked(self):
        clf = fitted(difference_bound=0.2)
        clf.set_params(difference_bound=0.05).recalibrate(
            X[LATER], Y[LATER], sensitive_features=S[LATER]
        )
        assert clf.difference_ <= 0.05
        assert "at most 0.05" in summarize(clf).describe_constraint()
        # And where there is none any more, nothing is said of one.
        clf.set_params(difference_bound=None, fairness_weight=0.5)
        clf.recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])
        assert clf.fairness_weight_ == 0.5
        assert not hasattr(clf, "bounds_")

    def test_with_confidence_hold_the_limit(self):
        clf = fitted(difference_bound=0.1, confidence=0.95)
        clf.recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])
        assert clf.difference_ < clf.difference_limit_ <= 0.1

    def test_that_cannot_be_met_warn(self):
        clf = fitted(difference_bound=0.05)
        with pytest.warns(FairnessWarning, match="difference_bound=0.0001 was not met"):
            clf.set_params(difference_bound=1e-4).recalibrate(
                X[LATER], Y[LATER], sensitive_features=S[LATER]
            )


class TestRows:
    def test_weights_are_rows(self):
        weights = np.random.default_rng(0).integers(0, 3, len(LATER))
        twice = LATER.repeat(weights)
        by_weight, by_rows = fitted(fairness_weight=0.8), fitted(fairness_weight=0.8)
        by_weight.recalibrate(
            X[LATER], Y[LATER], sensitive_features=S[LATER], sample_weight=weights
        )
        by_rows.recalibrate(X[twice], Y[twice], sensitive_features=S[twice])
        votes = (clf.head_[-1].vote for clf in (by_weight, by_rows))
        torch.testing.assert_close(*votes, rtol=0, atol=1e-6)

    def test_each_column_by_itself(self):
        groups = pd.DataFrame({"s": S, "t": np.arange(len(S)) % 3})
        clf = FairLowRankHeadClassifier(
            constraint="demographic_parity", solver="plug_in", difference_bound=0.1,
            groups="columns", random_state=0,
        ).fit(X[OLD], Y[OLD], sensitive_features=groups.iloc[OLD])  # fmt: skip
        clf.recalibrate(X[LATER], Y[LATER], sensitive_features=groups.iloc[LATER])
        found = constraint_distance(
            Y[LATER], clf.predict(X[LATER]), constraint="demographic_parity",
            sensitive_features=groups.iloc[LATER], groups="columns",
        )  # fmt: skip
        assert clf.difference_ == pytest.approx(found, abs=1e-12)
        with pytest.raises(ValueError, match=r"has the columns \['t', 's'\], but fit got"):
            clf.recalibrate(X[LATER], Y[LATER], sensitive_features=groups.iloc[LATER][["t", "s"]])

    def test_are_told_in_any_order_of_classes_and_groups(self):
        names = np.array(["left", "right"])
        clf = fitted(groups=names[S], fairness_weight=0.8)
        order = LATER[::-1].copy()
        one, other = copy.deepcopy(clf), copy.deepcopy(clf)
        one.recalibrate(X[LATER], Y[LATER], sensitive_features=names[S[LATER]])
        other.recalibrate(X[order], Y[order], sensitive_features=pd.Series(names[S[order]]))
        votes = (clf.head_[-1].vote for clf in (one, other))
        torch.testing.assert_close(*votes, rtol=0, atol=1e-6)


class TestRefused:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"solver": "closed_form", "fairness_weight": 0.5}, "this head is of closed_form"),
            ({"constraint": None}, "constraint is None"),
        ],
    )
    def test_heads_without_votes_to_find(self, settings, words):
        clf = fitted(**settings)
        with pytest.raises(ValueError, match=words):
            clf.recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"sensitive_features": None}, "got no sensitive_features"),
            ({"y": Y[LATER] + 5}, r"y holds \[5, 6\], but the classes of the fit are \[0, 1\]"),
            ({"sensitive_features": S[LATER] + 1}, r"holds \[2\], but the groups of the fit are"),
            ({"sensitive_features": S[LATER] * 0}, r"got no row of the groups \[1\]"),
            ({"sensitive_features": np.where(S[LATER], 1.0, np.nan)}, "missing"),
            ({"y": Y[LATER][:-1]}, "expected one label per row of X"),
            ({"X": X[LATER][:, :3]}, "3 features"),
            ({"sample_weight": -np.ones(len(LATER))}, "Negative values"),
        ],
    )
    def test_rows_that_do_not_fit_change_nothing(self, change, words):
        clf = fitted(difference_bound=0.1)
        before = everything(clf)
        given = {"X": X[LATER], "y": Y[LATER], "sensitive_features": S[LATER]} | change
        with pytest.raises(ValueError, match=words):
            clf.recalibrate(given.pop("X"), given.pop("y"), **given)
        assert everything(clf) == before

    def test_before_the_fit(self):
        with pytest.raises(NotFittedError):
            FairLowRankHeadClassifier().recalibrate(X, Y, sensitive_features=S)

    def test_what_is_interrupted_changes_nothing(self, monkeypatch):
        clf = fitted(difference_bound=0.1)
        before = everything(clf)

        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("skfairft.parity.judge.JudgedRows.distance", stop)
        with pytest.raises(KeyboardInterrupt):
            clf.recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])
        assert everything(clf) == before


def test_a_saved_classifier_goes_on(tmp_path):
    clf = fitted(difference_bound=0.05)
    clf.save(tmp_path / "model")
    again = load(tmp_path / "model")
    for each in (clf, again):
        each.recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])
    np.testing.assert_array_equal(again.decision_function(X), clf.decision_function(X))
    again.save(tmp_path / "model")
    assert load(tmp_path / "model").recalibrated_rows_ == len(LATER)
    assert load(tmp_path / "model").bounds_ == again.bounds_


def test_a_fit_forgets_it():
    clf = fitted(difference_bound=0.05)
    clf.recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])
    clf.fit(X[OLD], Y[OLD], sensitive_features=S[OLD])
    assert not hasattr(clf, "recalibrated_rows_")


def test_summary_and_report_say_so():
    clf = fitted(difference_bound=0.05)
    clf.recalibrate(X[LATER], Y[LATER], sensitive_features=S[LATER])
    said = f"votes of {len(LATER):,} later rows"
    assert said in summarize(clf).describe_solver()
    report = model_report(clf, X[REST], Y[REST], sensitive_features=S[REST], n_boot=0)
    assert said in report.to_html()
