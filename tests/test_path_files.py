"""A path as its user keeps it: chosen from by error or cost, drawn, saved, and loaded again."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from torch import nn

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessTradeoffDisplay,
    fairness_path,
    load,
    load_path,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.inputs.exceptions import FairnessWarning

X, Y, S = make_biased_classification(n_samples=800, disparity=0.4, random_state=0)
TWO = pd.DataFrame({"s": S, "t": np.arange(len(S)) % 3})
BACKBONE = nn.Sequential(nn.Linear(10, 6), nn.Tanh())


def path_of(*, groups=S, weights=5, thresholds=3, traced=None, **settings):
    given = {"constraint": "demographic_parity", "solver": "plug_in", "random_state": 0}
    clf = FairLowRankHeadClassifier(**(given | settings))
    return fairness_path(
        clf, X, Y, sensitive_features=groups, weights=weights, thresholds=thresholds, n_boot=0,
        **(traced or {}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def path():
    return path_of(weights=9, thresholds=5)


class TestChoose:
    def test_by_an_error_bound_the_difference_is_least(self, path):
        error, difference = (path.table[name] for name in ("weighted_f1_error", "difference"))
        bound = error.median()
        at = path.choose(error_bound=bound)
        assert error[at] <= bound
        assert difference[at] == difference[error <= bound].min()

    def test_beside_another_bound_it_leaves_points_out(self, path):
        error, difference = (path.table[name] for name in ("weighted_f1_error", "difference"))
        most, bound = difference.quantile(0.8), error.quantile(0.7)
        both = path.choose(most, error_bound=bound, by="difference")
        within = (difference <= most) & (error <= bound)
        assert difference[both] == difference[within].min()

    def test_an_error_that_none_has_warns(self, path):
        with pytest.warns(FairnessWarning, match="an error of at most 1 %, on 800 rows"):
            at = path.choose(error_bound=1)
        assert path.table["weighted_f1_error"][at] == path.table["weighted_f1_error"].min()

    def test_where_no_certified_point_has_so_little_error_it_says_so(self, path):
        sure = path.choose(0.1, confidence=0.9)
        least = path.table["weighted_f1_error"].min()
        assert path.choose(0.1, confidence=0.9, error_bound=99.0) == sure
        with pytest.warns(FairnessWarning, match="with this confidence and within error_bound"):
            assert path.choose(0.1, confidence=0.9, error_bound=least) == sure

    def test_costs_are_those_of_the_decisions(self):
        path = path_of(traced={"held_out": (X, Y, S)})
        costs = np.array([[0.0, 1.0], [4.0, 0.5]])
        found = [costs[Y, clf.predict(X)].mean() for clf in path.classifiers]
        assert found[path.choose(costs=costs)] == pytest.approx(min(found))
        within = (path.table["difference"] <= 0.1).to_numpy()
        assert found[path.choose(0.1, costs=costs)] == pytest.approx(np.array(found)[within].min())
        # Of errors that cost alike, the least is the best accuracy.
        accuracy = [clf.score(X, Y) for clf in path.classifiers]
        assert accuracy[path.choose(costs=1 - np.eye(2))] == pytest.approx(max(accuracy))

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"error_bound": "5"}, "error_bound='5'; expected a number, in percent"),
            ({"error_bound": np.nan}, "expected a number, in percent"),
            ({"costs": [[0, 1]]}, r"costs has shape \(1, 2\); expected \(2, 2\)"),
            ({"costs": [[0, 1], [np.inf, 0]]}, "finite numbers"),
            ({"costs": np.eye(2), "by": "error"}, "leave one out"),
            ({"by": "errors"}, "expected one of"),
            ({"by": ["error"]}, "expected one of"),
            ({"by": "difference"}, "got no difference_bound"),
            ({"error_bound": 20.0, "confidence": 0.9}, "is that of a bound between groups"),
        ],
    )
    def test_what_means_nothing_is_refused(self, path, given, words):
        with pytest.raises(ValueError, match=words):
            path.choose(**given)


def test_plot_is_the_display(path):
    _, ax = plt.subplots()
    shown = path.plot(ax=ax, chosen=3)
    assert type(shown) is FairnessTradeoffDisplay
    assert shown.ax_ is ax
    other = FairnessTradeoffDisplay.from_path(path, chosen=3)
    assert shown.ax_.get_title() == other.ax_.get_title()
    np.testing.assert_array_equal(shown.error, other.error)


class TestFiles:
    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"traced": {"ranks": [1, None, 0.5], "solvers": ["plug_in", "closed_form"]}},
            {"constraint": ["demographic_parity", "error_rate_parity"]},
            {"groups": TWO, "settings": {"groups": "columns"}},
            {"traced": {"known_groups": True}, "pos_label": 0},
            {"feature_extractor": BACKBONE, "constraint": "worst_group"},
        ],
        ids=["plain", "variants", "several", "columns", "known", "backbone"],
    )
    def test_bring_everything_back(self, tmp_path, given):
        given = dict(given)
        settings = given.pop("settings", {})
        clf_groups = settings.get("groups")
        if clf_groups:  # the name of an argument here, too
            clf = FairLowRankHeadClassifier(
                constraint="demographic_parity", solver="plug_in", random_state=0, groups=clf_groups
            )
            path = fairness_path(clf, X, Y, sensitive_features=TWO, weights=4, n_boot=0)
        else:
            path = path_of(**given)
        path.save(tmp_path / "path")
        again = load_path(tmp_path / "path", given.get("feature_extractor"))
        pd.testing.assert_frame_equal(again.table, path.table, check_exact=True)
        assert repr(again) == repr(path)
        for name in ("decisions", "squares", "tuned"):
            np.testing.assert_array_equal(getattr(again, name), getattr(path, name))
        np.testing.assert_array_equal(again.limits(), path.limits())
        for one, other in zip(again.classifiers, path.classifiers, strict=True):
            np.testing.assert_array_equal(one.decision_function(X), other.decision_function(X))
            assert one.get_params().keys() == other.get_params().keys()
        if given.get("feature_extractor"):
            assert len({id(clf.feature_extractor_) for clf in again.classifiers}) == 1
        again.save(tmp_path / "path")  # over what is there
        assert repr(load_path(tmp_path / "path", given.get("feature_extractor"))) == repr(path)

    def test_a_report_knows_its_point_on_what_was_loaded(self, tmp_path, path):
        path.save(tmp_path / "path")
        again = load_path(tmp_path / "path")
        report = model_report(
            again.classifiers[4], X, Y, sensitive_features=S, path=again, n_boot=0
        )
        assert report.chosen == 4

    def test_with_the_backbone_inside(self, tmp_path):
        path = path_of(feature_extractor=BACKBONE, weights=3, thresholds=1)
        path.save(tmp_path / "path", backbone=True)
        fresh = nn.Sequential(nn.Linear(10, 6), nn.Tanh())
        again = load_path(tmp_path / "path", fresh)
        np.testing.assert_array_equal(
            again.classifiers[1].predict_proba(X), path.classifiers[1].predict_proba(X)
        )

    def test_of_another_kind_say_who_reads_them(self, tmp_path, path):
        path.save(tmp_path / "path")
        path.classifiers[0].save(tmp_path / "one")
        with pytest.raises(ValueError, match="holds a path; load it by"):
            load(tmp_path / "path")
        with pytest.raises(ValueError, match="holds one classifier; load it by"):
            load_path(tmp_path / "one")
        with pytest.raises(FileNotFoundError):
            load_path(tmp_path / "none")
        with pytest.raises(ValueError, match="was passed, but the classifier"):
            load_path(tmp_path / "path", BACKBONE)

    def test_that_are_damaged_are_refused(self, tmp_path, path):
        path.save(tmp_path / "path")
        (file,) = (tmp_path / "path").glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        with pytest.raises(ValueError, match="checksum"):
            load_path(tmp_path / "path")


def test_the_error_of_the_table_is_the_one_that_is_bounded():
    path = path_of(traced={"held_out": (X, Y, S)}, weights=3, thresholds=1)
    errors = [
        100 * (1 - f1_score(Y, clf.predict(X), average="weighted")) for clf in path.classifiers
    ]
    np.testing.assert_allclose(path.table["weighted_f1_error"], errors, rtol=1e-9)
