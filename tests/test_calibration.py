"""Estimates of the label, how calibrated they are by group, and the display of both."""

import warnings

import dask.array as da
import dask.dataframe as dd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    GroupCalibrationDisplay,
    load,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.head.cells import CellVote, labels_of_cells
from skfairft.head.modules import head_scores
from skfairft.metrics import calibration_error
from skfairft.metrics.reliability import bins, mean_error, root_error
from skfairft.parity.rate_limits import wilson_limits


def drawn(rng, n, *, shift=0.0, slope=1.0, centre=0.0):
    """Return labels and estimates; they are calibrated with shift 0 and slope 1."""
    logit = rng.normal(centre, 1.5, size=n)
    true = 1 / (1 + np.exp(-(shift + slope * logit)))
    return (rng.random(n) < true).astype(float), 1 / (1 + np.exp(-logit)), true


@pytest.fixture(scope="module")
def rows():
    """Labels, estimates and groups: of the second group the estimates are too low."""
    rng = np.random.default_rng(0)
    y, p, _ = drawn(rng, 1200)
    moved = drawn(rng, 900, shift=1.0)
    return np.r_[y, moved[0]].astype(int), np.r_[p, moved[1]], np.repeat(["a", "b"], [1200, 900])


@pytest.fixture(scope="module")
def data():
    X, y, s = make_biased_classification(3000, disparity=0.4, n_groups=3, random_state=0)
    return X, np.array(["no", "yes"])[y], s


def fit(data, **params):
    X, y, s = data
    return FairLowRankHeadClassifier(random_state=0, **params).fit(X, y, sensitive_features=s)


@pytest.fixture(scope="module")
def rule(data):
    return fit(data, constraint="demographic_parity", fairness_weight=0.9, solver="plug_in")


class TestEstimateOfTheLabel:
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_is_the_sum_of_the_cells_over_the_groups(self, n_classes):
        X, y, s = make_biased_classification(
            900, n_groups=3, n_classes=n_classes, disparity=0.4, random_state=0
        )
        clf = fit((X, y, s), constraint="demographic_parity", fairness_weight=0.9, solver="plug_in")
        cells = torch.softmax(head_scores(clf.head_[0], torch.from_numpy(X)), dim=1).numpy()
        expected = cells.reshape(-1, n_classes, 3).sum(axis=2)
        found = clf.predict_label_proba(X)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert np.abs(found - clf.predict_proba(X)).max() > 0.05  # the votes are something else
        # Of a row whose group is told, within the cells of that group.
        own = cells.reshape(-1, n_classes, 3)[np.arange(len(s)), :, s]
        told = clf.predict_label_proba(X, sensitive_features=s)
        np.testing.assert_allclose(told, own / own.sum(axis=1, keepdims=True), rtol=1e-9)

    def test_does_not_depend_on_the_weight(self, data, rule):
        plain = fit(data, solver="plug_in")
        found = rule.predict_label_proba(data[0])
        np.testing.assert_allclose(found, plain.predict_proba(data[0]), rtol=1e-12)

    @pytest.mark.parametrize("solver", ["fine_tune", "closed_form"])
    def test_of_other_solvers_is_predict_proba(self, data, solver):
        clf = fit(data, constraint="demographic_parity", fairness_weight=0.5, solver=solver)
        X = data[0][:50]
        np.testing.assert_array_equal(clf.predict_label_proba(X), clf.predict_proba(X))
        with pytest.raises(ValueError, match=f"heads of {solver} cannot use them"):
            clf.predict_label_proba(X, sensitive_features=data[2][:50])

    def test_of_rows_of_dask(self, data, rule):
        X, _, s = data
        lazy = da.from_array(X, chunks=(700, -1))
        for told in (None, s):
            found = rule.predict_label_proba(lazy, sensitive_features=told)
            assert found.shape == (len(X), 2)
            expected = rule.predict_label_proba(X, sensitive_features=told)
            np.testing.assert_allclose(found.compute(), expected, rtol=1e-9)

    @pytest.mark.filterwarnings("ignore:Some groups are too thin")
    def test_where_not_all_cells_occur(self, data, tmp_path):
        X, y, s = data
        keep = ~((y == "yes") & (s == 0))
        clf = fit((X[keep], y[keep], s[keep]), solver="plug_in")
        # A row of a group without positives is none.
        assert clf.predict_label_proba(X[:1], sensitive_features=[0])[0, 1] < 1e-300
        clf.save(tmp_path)
        found = load(tmp_path).predict_label_proba(X)
        np.testing.assert_array_equal(found, clf.predict_label_proba(X))

    def test_classes_are_read_off_the_groups_where_they_can_be(self):
        """Models that were saved without them."""
        rng = np.random.default_rng(0)
        known = 0
        for _ in range(200):
            k, n_groups = rng.integers(2, 4, size=2)
            cells = np.sort(rng.permutation(k * n_groups)[: rng.integers(k, k * n_groups + 1)])
            labels, groups = np.divmod(cells, n_groups)
            if len(set(labels)) < k:
                continue
            found = labels_of_cells(torch.from_numpy(groups), int(k)).numpy()
            if (found >= 0).all():
                known += 1
                np.testing.assert_array_equal(found, labels)
            else:
                assert len(cells) < k * n_groups
        assert known > 50

    def test_is_refused_where_the_classes_are_not_known(self):
        with pytest.raises(ValueError, match="does not know the classes of its cells"):
            CellVote(torch.eye(2), torch.tensor([0, 1])).by_label()


class TestError:
    def test_bins_are_those_of_scikit_learn(self, rows):
        y, p, _ = rows
        for strategy in ("quantile", "uniform"):
            found = bins(y.astype(float), p, np.ones(len(y)), n_bins=10, strategy=strategy)
            observed, predicted = calibration_curve(y, p, n_bins=10, strategy=strategy)
            np.testing.assert_allclose(found.observed, observed, rtol=1e-12)
            np.testing.assert_allclose(found.predicted, predicted, rtol=1e-12)
            assert found.rows.sum() == len(y)

    def test_against_a_slow_computation(self, rows):
        y, p, s = rows
        own = np.sort(np.argsort(p[s == "a"], kind="stable").reshape(10, -1), axis=1)
        residual = (y[s == "a"] - p[s == "a"])[own]
        square = np.mean(residual.mean(axis=1) ** 2 - residual.var(axis=1, ddof=1) / 120)
        found = calibration_error(y, p, sensitive_features=s).loc["a"]
        assert found["error"] == pytest.approx(np.sqrt(max(square, 0.0)))
        assert found["bias"] == pytest.approx(-residual.mean())
        half = (found["bias_high"] - found["bias_low"]) / 2
        assert half == pytest.approx(1.96 * residual.std() / np.sqrt(1200), rel=0.05)

    def test_finds_the_group_that_is_off(self, rows):
        y, p, s = rows
        found = calibration_error(y, p, sensitive_features=s)
        assert found.loc["a", "error_low"] == 0.0
        assert found.loc["b", "error_low"] > 0.05
        assert found.loc["a", "bias_low"] < 0.0 < found.loc["a", "bias_high"]
        assert found.loc["b", "bias_high"] < -0.05  # too low
        assert found["count"].tolist() == [1200, 900]

    @pytest.mark.parametrize("centre", [0.0, -4.0])
    def test_its_square_is_unbiased_where_all_is_calibrated(self, centre):
        """And the usual mean of absolute differences is not."""
        rng = np.random.default_rng(0)
        square, usual = [], []
        for _ in range(400):
            y, p, _ = drawn(rng, 300, centre=centre)
            found = bins(y, p, np.ones(300), n_bins=10, strategy="quantile")
            square.append(found.share @ (found.residual**2 - found.sampled))
            usual.append(found.share @ np.abs(found.residual))
        error = np.std(square) / np.sqrt(len(square))
        assert abs(np.mean(square)) < 4 * error
        assert np.mean(usual) > 0.015
        assert 4 * error < np.mean(usual) ** 2

    @staticmethod
    def coverage(n_samples, n, **how):
        """Return how often the intervals of error and bias hold what they are of."""
        rng = np.random.default_rng(1)
        _, p, true = drawn(rng, 10**6, **how)
        parts = np.array_split(np.argsort(p), min(10, n // 30))
        error = np.sqrt(np.mean([(true - p)[part].mean() ** 2 for part in parts]))
        held = np.zeros(2)
        for _ in range(n_samples):
            y, p_own, _ = drawn(rng, n, **how)
            found = bins(y, p_own, np.ones(n), n_bins=10, strategy="quantile")
            for i, (measure, value) in enumerate(
                [(root_error, error), (mean_error, (p - true).mean())]
            ):
                _, low, high = measure(found, 0.95)
                held[i] += low - 1e-3 * error <= value <= high + 1e-3 * error
        return held / n_samples

    # More of them below.
    @pytest.mark.parametrize("how", [{}, {"shift": 0.5}], ids=str)
    def test_intervals_hold_it(self, how):
        # 4 standard errors of a share of 200 below the nominal 95 %.
        assert (self.coverage(200, 400, **how) > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 200)).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("n", [100, 1000, 10000])
    @pytest.mark.parametrize(
        "how",
        [{}, {"shift": 0.5}, {"slope": 0.6}, {"centre": -3.0}, {"centre": -3.0, "shift": -1.0}],
        ids=str,
    )
    def test_intervals_hold_it_as_often_as_they_say(self, how, n):
        assert (self.coverage(2000, n, **how) > 0.93).all()

    def test_groups_and_rows_in_another_order(self, rows):
        y, p, s = rows
        order = np.random.default_rng(0).permutation(len(y))
        found = calibration_error(y, p, sensitive_features=s)
        moved = calibration_error(y[order], p[order], sensitive_features=s[order])
        pd.testing.assert_frame_equal(found, moved, rtol=1e-9, atol=1e-12)
        renamed = calibration_error(y, p, sensitive_features=np.where(s == "a", "z", "b"))
        np.testing.assert_allclose(renamed.loc[["z", "b"]], found.loc[["a", "b"]], rtol=1e-12)

    def test_a_weight_of_two_is_the_row_twice_in_all_means(self, rows):
        y, p, _ = rows
        w = np.random.default_rng(0).integers(3, size=len(y))
        twice = np.repeat(np.arange(len(y)), w)
        weighted = bins(
            *(each[w > 0].astype(float) for each in (y, p, w)), n_bins=7, strategy="quantile"
        )
        repeated = bins(
            y[twice].astype(float), p[twice], np.ones(len(twice)), n_bins=7, strategy="quantile"
        )
        for name in ("share", "predicted", "observed", "residual"):
            np.testing.assert_allclose(
                getattr(weighted, name), getattr(repeated, name), rtol=1e-9, atol=1e-12
            )
        # Its intervals are of as many rows as there are, and wider.
        assert (weighted.expected > repeated.expected).all()
        assert weighted.effective.sum() < repeated.effective.sum()

    def test_equal_weights_change_nothing(self, rows):
        y, p, s = rows
        found = calibration_error(y, p, sensitive_features=s)
        same = calibration_error(y, p, sensitive_features=s, sample_weight=np.full(len(y), 3.7))
        pd.testing.assert_frame_equal(found, same, rtol=1e-9, atol=1e-12)

    def test_rows_of_equal_estimates_are_in_one_bin(self):
        y = np.tile([0, 1], 200)
        found = calibration_error(y, np.full(400, 0.5))
        assert found["error"].tolist() == [0.0]
        assert found.index.tolist() == ["all"]

    def test_certain_and_right_has_no_error_and_certain_and_wrong_one_of_one(self):
        y = np.tile([0, 1], 200)
        right, wrong = calibration_error(y, y), calibration_error(y, 1 - y)
        assert right[["error", "error_low", "error_high"]].to_numpy().tolist() == [[0.0] * 3]
        assert wrong[["error", "error_low", "error_high"]].to_numpy().tolist() == [[1.0] * 3]

    def test_few_rows_are_nan_and_said(self, rows):
        y, p, s = rows
        few = np.r_[0:200, 1200:1229]
        with pytest.warns(FairnessWarning, match="fewer than 30 rows is NaN: 'b' has 29"):
            found = calibration_error(y[few], p[few], sensitive_features=s[few])
        assert found.loc["b"].isna().tolist() == [False] * 4 + [True] * 5
        assert found.loc["a"].notna().all()
        with pytest.warns(FairnessWarning, match="'b' has 900"):
            weightless = calibration_error(y, p, sensitive_features=s, sample_weight=s == "a")
        assert weightless.loc["b"].isna().sum() == 8

    def test_each_of_several_labels_is_against_the_rest(self):
        rng = np.random.default_rng(0)
        p = rng.dirichlet([1, 1, 1], size=900)
        y = np.array([rng.choice(["x", "y", "z"], p=row) for row in p])
        s = rng.integers(2, size=900)
        found = calibration_error(y, p, sensitive_features=pd.Series(s, name="sex"))
        assert found.index.names == ["sex", "class"]
        for j, label in enumerate("xyz"):
            alone = calibration_error(y == label, p[:, j], sensitive_features=s)
            own = calibration_error(y, p, sensitive_features=s, pos_label=label)
            part = found.xs(label, level="class")
            np.testing.assert_allclose(part, alone, rtol=1e-12)
            np.testing.assert_allclose(own, alone, rtol=1e-12)

    def test_either_form_of_two_labels(self, rows):
        y, p, s = rows
        names = np.array(["no", "yes"])[y]
        expected = calibration_error(y, p, sensitive_features=s)
        both = np.column_stack([1 - p, p])
        for found in (
            calibration_error(names, p, sensitive_features=s),
            calibration_error(names, both, sensitive_features=s),
            calibration_error(names, both[:, ::-1], sensitive_features=s, labels=["yes", "no"],
                              pos_label="yes"),
            calibration_error(y, p[:, None], sensitive_features=s),
        ):  # fmt: skip
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        other = calibration_error(names, both, sensitive_features=s, pos_label="no")
        np.testing.assert_allclose(other["bias"], -expected["bias"], atol=1e-12)

    def test_columns_of_dask(self, rows):
        """Whatever they are: frames beside arrays, too."""
        y, p, s = rows
        w = np.random.default_rng(0).exponential(size=len(y))
        expected = calibration_error(y, p, sensitive_features=s, sample_weight=w)
        found = calibration_error(
            dd.from_pandas(pd.Series(y), 3),
            da.from_array(p, chunks=500),
            sensitive_features=dd.from_pandas(pd.Series(s, name="group"), 2),
            sample_weight=da.from_array(w, chunks=300),
        )
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"y_prob": [0.5, 1.5, 0.1, 0.2]}, "y_prob holds 1.5; expected probabilities"),
            ({"y_prob": [0.5, 0.1]}, "y_prob has shape"),
            ({"y_prob": [[0.5, 0.1]] * 4}, "have sum 0.6; expected 1"),
            ({"y_prob": [[0.5, 0.3, 0.2]] * 4}, "has 3 columns but y_true holds the 2 labels"),
            ({"y_true": ["a", "b", "c", "a"]}, "expected two labels. Pass pos_label="),
            ({"y_true": []}, "y_true has 0 rows"),
            ({"pos_label": 5}, "pos_label=5 does not occur in y_true"),
            ({"labels": [0, 2]}, "y_true holds 1, which is not among"),
            ({"labels": [0, 0]}, "expected different labels"),
            ({"n_bins": 0}, "n_bins=0; expected a whole number"),
            ({"strategy": "mass"}, "strategy='mass'; expected 'quantile'"),
            ({"confidence_level": 1.0}, "confidence_level=1.0"),
            ({"sample_weight": [0, 0, 0, 0]}, "zero for all 4 rows"),
            ({"sensitive_features": ["a", None, "b", "b"]}, "sensitive_features"),
        ],
    )
    def test_refuses(self, change, message):
        given = {"y_true": [0, 1, 0, 1], "y_prob": [0.5, 0.5, 0.1, 0.2], **change}
        y, p = given.pop("y_true"), given.pop("y_prob")
        with pytest.raises(ValueError, match=message):
            calibration_error(y, p, **given)


class TestDisplay:
    def test_draws_the_bins_of_each_group_with_wilsons_intervals(self, rows):
        y, p, s = rows
        display = GroupCalibrationDisplay.from_predictions(y, p, sensitive_features=s, n_bins=6)
        assert len(display.ax_.containers) == 2
        for group, container in zip("ab", display.ax_.containers, strict=True):
            own = s == group
            observed, predicted = calibration_curve(y[own], p[own], n_bins=6, strategy="quantile")
            line, _, (bars,) = container.lines
            np.testing.assert_allclose(line.get_xydata(), np.c_[predicted, observed])
            n = np.full(6, own.sum() / 6)
            ends = np.stack(wilson_limits(observed, n, 1.959964), axis=1)
            found = np.array([segment[:, 1] for segment in bars.get_segments()])
            np.testing.assert_allclose(found, ends, atol=1e-6)

    def test_legend_says_rows_and_error(self, rows):
        y, p, s = rows
        display = GroupCalibrationDisplay.from_predictions(y, p, sensitive_features=s)
        texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        row = calibration_error(y, p, sensitive_features=s).loc["b"]
        numbers = "{error:.3f} [{error_low:.3f}, {error_high:.3f}]".format(**row)
        assert texts[2].replace("\N{NO-BREAK SPACE}", " ") == f"b (900): {numbers}"
        assert texts[-1] == "calibrated"
        assert display.ax_.get_xlabel() == "mean estimated probability of 1"
        assert display.ax_.get_ylabel() == "share of 1, with 95 % interval"

    def test_few_rows_are_hollow(self, rows):
        y, p, s = rows
        few = np.r_[0:300, 1200:1212]
        with pytest.warns(FairnessWarning, match="'b' has 12"):
            display = GroupCalibrationDisplay.from_predictions(
                y[few], p[few], sensitive_features=s[few]
            )
        fills = [c.lines[0].get_markerfacecolor() for c in display.ax_.containers]
        assert fills[-1] == "white"
        assert "white" not in fills[:-1]
        texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert "b (12): too few rows" in texts
        assert texts[-1] == "hollow: fewer than 30 rows"

    def test_of_an_estimator_is_the_estimate_of_the_label(self, data, rule):
        X, y, s = data
        expected = GroupCalibrationDisplay.from_predictions(
            y, rule.predict_label_proba(X)[:, 1], sensitive_features=s
        )
        pipeline = make_pipeline(StandardScaler(), FrozenEstimator(rule)).fit(X, y)
        Z = X * pipeline[0].scale_ + pipeline[0].mean_
        moved = FixedThresholdClassifier(FrozenEstimator(rule), threshold=0.3).fit(X, y)
        for estimator, given in ((rule, X), (pipeline, Z), (moved, X)):
            found = GroupCalibrationDisplay.from_estimator(
                estimator, given, y, sensitive_features=s
            )
            np.testing.assert_allclose(np.ravel(found.observed), np.ravel(expected.observed))
            np.testing.assert_allclose(found.errors, expected.errors, atol=1e-9)

    def test_of_others_it_is_predict_proba(self, data, rule):
        X, y, s = data
        model = LogisticRegression().fit(X, y)
        calibrated = CalibratedClassifierCV(FrozenEstimator(rule)).fit(X, y)
        for estimator in (model, calibrated):
            found = GroupCalibrationDisplay.from_estimator(estimator, X, y, sensitive_features=s)
            expected = calibration_error(y, estimator.predict_proba(X)[:, 1], sensitive_features=s)
            np.testing.assert_allclose(found.errors[:, 0], expected["error"])
        with pytest.raises(TypeError, match="LinearRegression without predict_proba"):
            GroupCalibrationDisplay.from_estimator(
                LinearRegression().fit(X, y == "yes"), X, y, sensitive_features=s
            )

    def test_of_several_labels_one_is_to_be_named(self):
        rng = np.random.default_rng(0)
        p, y, s = rng.dirichlet([1, 1, 1], size=300), np.arange(300) % 3, np.arange(300) % 2
        with pytest.raises(ValueError, match="pass pos_label="):
            GroupCalibrationDisplay.from_predictions(y, p, sensitive_features=s)
        found = GroupCalibrationDisplay.from_predictions(y, p, sensitive_features=s, pos_label=2)
        assert found.positive == 2

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"observed": [[0.1]]}, r"observed\[0\] has shape \(1,\); expected \(2,\)"),
            ({"observed": [[0.1, 1.2]]}, r"observed\[0\] is \[0.1, 1.2\]; expected numbers"),
            ({"predicted": [[0.1, 0.2]] * 2}, "predicted has 2 entries"),
            ({"errors": [[0.1, 0.2]]}, "errors has shape"),
            ({"rows": [[3]]}, r"rows\[0\] has shape"),
            ({"intervals": [[0.1, 0.2]]}, r"intervals\[0\] has shape"),
        ],
    )
    def test_refuses_arrays_that_do_not_fit(self, change, message):
        given = {
            "groups": ["a"],
            "counts": [9],
            "predicted": [[0.1, 0.2]],
            "observed": [[0.0, 1.0]],
        }
        with pytest.raises(ValueError, match=message):
            GroupCalibrationDisplay(**given | change).plot()
        plt.close("all")


class TestReport:
    def test_holds_the_calibration_of_the_estimate_of_the_label(self, data, rule):
        X, y, s = data
        for told in (False, True):
            report = model_report(rule, X, y, sensitive_features=s, n_boot=0, known_groups=told)
            p = rule.predict_label_proba(X, sensitive_features=s if told else None)
            expected = calibration_error(y, p, sensitive_features=s, labels=rule.classes_)
            np.testing.assert_allclose(report.calibration, expected, rtol=1e-9, atol=1e-9)

    def test_finds_the_cells_that_are_off(self, data, rule):
        """On rows of which one cell has lost many, its probability is too high."""
        X, y, s = data
        report = model_report(rule, X, y, sensitive_features=s, n_boot=0)
        table = report.cell_calibration
        cells = torch.softmax(head_scores(rule.head_[0], torch.from_numpy(X)), dim=1).numpy()
        assert table.index.tolist() == [(c, g) for c in ("no", "yes") for g in range(3)]
        for j, (label, group) in enumerate(table.index):
            came = (y == label) & (s == group)
            expected = calibration_error(came, cells[:, j])
            assert table["error"].iloc[j] == pytest.approx(expected["error"].iloc[0])
            assert table["count"].iloc[j] == came.sum()
        assert "The rule's cells are not calibrated" not in topics(report)
        keep = ~((y == "yes") & (s == 1)) | (np.arange(len(y)) % 4 == 0)
        report = model_report(rule, X[keep], y[keep], sensitive_features=s[keep], n_boot=0)
        (caveat,) = (c for c in report.caveats if c.topic == "The rule's cells are not calibrated")
        (said,) = (text for text in caveat.details if text.startswith("class yes in group 1: "))
        assert "too high" in said
        for text in (report.to_html(), report.to_markdown()):
            assert "class yes in group 1" in text

    def test_says_where_estimates_are_off(self, data):
        X, y, s = data
        clf = fit(data)
        flipped = np.where((s == 2) & (np.arange(len(y)) % 2 == 0), "yes", y)
        report = model_report(clf, X, flipped, sensitive_features=s, n_boot=0)
        (caveat,) = (c for c in report.caveats if c.topic == "Estimates are not calibrated")
        assert any(text.startswith("group 2: ") and "too low" in text for text in caveat.details)
        assert report.cell_calibration is None

    def test_is_left_out_where_something_else_decides(self, data, rule):
        X, y, s = data
        moved = FixedThresholdClassifier(FrozenEstimator(rule), threshold=0.3).fit(X, y)
        report = model_report(moved, X, y, sensitive_features=s, n_boot=0)
        assert report.calibration is None
        assert report.cell_calibration is None
        assert "Not measured: the decisions are not the classifier" in report.to_html()

    def test_of_groups_that_the_fit_has_not_seen(self, data, rule):
        X, y, s = data
        with pytest.warns(FairnessWarning, match="has not seen"):
            report = model_report(rule, X, y, sensitive_features=s + 10, n_boot=0)
        assert report.cell_calibration is None
        assert report.calibration.index.tolist() == [10, 11, 12]

    def test_few_rows_are_no_second_warning(self, data, rule):
        X, y, s = data
        few = np.r_[np.flatnonzero(s < 2), np.flatnonzero(s == 2)[:20]]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = model_report(rule, X[few], y[few], sensitive_features=s[few], n_boot=0)
        assert np.isnan(report.calibration.loc[2, "error"])
        assert "undefined" in report.to_html()


def topics(report):
    return [caveat.topic for caveat in report.caveats if caveat.found]
