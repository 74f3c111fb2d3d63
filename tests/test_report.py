import pickle
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import (
    MetricFrame,
    count,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from scipy.stats import norm
from sklearn.metrics import f1_score, recall_score, zero_one_loss

from skfairft.inputs.exceptions import FairnessWarning
from skfairft.metrics import (
    FairnessReport,
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    weighted_f1_error,
    worst_group_error,
)
from skfairft.metrics.report import FEW_ROWS
from skfairft.parity.bootstrap import bootstrap_counts
from skfairft.parity.constraints import parity
from skfairft.parity.limits import distance_limits
from skfairft.parity.moments import moments
from skfairft.parity.rate_limits import effective_rows
from skfairft.parity.ratio_limits import ratio_limits
from skfairft.parity.table import STATED, metric_of, split_rate
from skfairft.parity.tally import Kinds


def make_data(seed=0, n=900, n_groups=3, n_classes=2):
    rng = np.random.default_rng(seed)
    s = rng.integers(n_groups, size=n)
    y = rng.binomial(n_classes - 1, 0.3 + 0.4 * s / n_groups)
    wrong = rng.random(n) < 0.1 + 0.3 * s / n_groups
    pred = np.where(wrong, rng.integers(n_classes, size=n), y)
    return y, pred, s, rng.exponential(size=n)


def weighted_f1(y_true, y_pred, sample_weight=None):
    return f1_score(
        y_true, y_pred, average="weighted", zero_division=0, sample_weight=sample_weight
    )


def slow_f1(t):
    """Return the weighted F1 of tables (..., k, k), label by label."""
    found = 0.0
    for label in range(t.shape[-1]):
        true, predicted = t[..., label, :].sum(axis=-1), t[..., label].sum(axis=-1)
        found += true * 2 * t[..., label, label] / (true + predicted)
    return found / t.sum(axis=(-2, -1))


def row_bootstrap(y, pred, s, weight, n_boot, seed):
    """Resample rows one by one: the slow, obvious reference, (n_boot, G, k, k)."""
    rng = np.random.default_rng(seed)
    shape = (s.max() + 1, 2, 2)
    out = np.zeros((n_boot, *shape))
    for table in out:
        rows = rng.integers(len(y), size=len(y))
        np.add.at(table, (s[rows], y[rows], pred[rows]), weight[rows])
    return out


class TestPointValues:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_equal_to_a_metric_frame_over_the_rows(self, weighted):
        y, pred, s, weight = make_data()
        w = weight if weighted else None
        report = fairness_report(y, pred, sensitive_features=s, sample_weight=w, n_boot=0)
        metrics = {
            "selection_rate": selection_rate,
            "tpr": true_positive_rate,
            "fpr": false_positive_rate,
            "error": zero_one_loss,
            "f1": weighted_f1,
        }
        reference = MetricFrame(
            metrics={"count": count, **metrics},
            y_true=y,
            y_pred=pred,
            sensitive_features=pd.Series(s, name="group"),
            sample_params={m: {"sample_weight": w} for m in metrics} if weighted else None,
        )
        assert isinstance(report.frame, MetricFrame)
        pd.testing.assert_frame_equal(report.by_group, reference.by_group, check_dtype=False)
        pd.testing.assert_frame_equal(report.frame.by_group, reference.by_group, check_dtype=False)
        pd.testing.assert_series_equal(report.overall, reference.overall, check_dtype=False)
        for ours, theirs in (
            (report.differences, reference.difference()),
            (report.ratios, reference.ratio()),
        ):
            np.testing.assert_allclose(ours["value"], theirs[list(metrics)].astype(float))
        assert (report.differences["value"] > 0.02).all()

    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_headline_is_the_metrics(self, n_classes):
        y, pred, s, w = make_data(n_classes=n_classes)
        more = {"sensitive_features": s, "sample_weight": w}
        report = fairness_report(y, pred, n_boot=0, **more)
        assert report.headline["value"].to_dict() == {
            "weighted_f1_error": pytest.approx(weighted_f1_error(y, pred, sample_weight=w)),
            "demographic_parity_distance": demographic_parity_distance(y, pred, **more),
            "equalized_odds_distance": equalized_odds_distance(y, pred, **more),
            "worst_group_error": worst_group_error(y, pred, **more),
        }
        if n_classes == 2:
            value = report.differences["value"]
            assert report.headline["value"].iloc[1] == pytest.approx(value["selection_rate"])
            assert report.headline["value"].iloc[2] == pytest.approx(value["tpr"] + value["fpr"])

    def test_multiclass_columns(self):
        y, pred, s, _ = make_data(n_classes=3)
        names = np.array(["cat", "dog", "eel"])
        report = fairness_report(names[y], names[pred], sensitive_features=s, n_boot=0)
        rates = [f"{r}[{c}]" for r in ("selection_rate", "tpr", "fpr") for c in names]
        assert report.by_group.columns.tolist() == ["count", *rates, "error", "f1"]
        one = s == 1
        expected = recall_score(y[one], pred[one], labels=[2], average=None)
        assert report.by_group.loc[1, "tpr[eel]"] == pytest.approx(expected[0])
        one_label = fairness_report(
            names[y], names[pred], sensitive_features=s, pos_label="eel", n_boot=0
        )
        assert one_label.by_group.loc[1, "tpr"] == pytest.approx(expected[0])

    def test_counts_are_whole_numbers_of_rows(self):
        y, pred, s, w = make_data()
        report = fairness_report(y, pred, sensitive_features=s, sample_weight=w, n_boot=0)
        assert report.by_group["count"].dtype == np.int64
        assert report.by_group["count"].tolist() == np.bincount(s).tolist()
        assert "count" not in report.differences.index

    def test_intersections_that_do_not_occur_are_not_groups(self):
        y, pred, s, _ = make_data()
        table = pd.DataFrame({"sex": np.array(["f", "m", "m"])[s], "old": s == 2})
        report = fairness_report(y, pred, sensitive_features=table, n_boot=20)
        assert report.by_group.index.names == ["sex", "old"]
        assert report.by_group.index.tolist() == [("f", False), ("m", False), ("m", True)]
        flat = fairness_report(y, pred, sensitive_features=s, n_boot=20)
        np.testing.assert_allclose(report.by_group, flat.by_group)
        # Control: fairlearn itself lists the fourth combination.
        assert len(report.frame.by_group) == 4

    @pytest.mark.parametrize(
        ("features", "names"),
        [
            (lambda s: pd.Series(s, name="sex"), ["sex"]),
            (lambda s: pd.DataFrame({"sex": s}), ["sex"]),
            (lambda s: s, ["group"]),
            (lambda s: pd.Series(s, name="y_true"), ["y_true (group)"]),
            (lambda s: np.column_stack([s, s]), ["group_0", "group_1"]),
            (lambda s: pd.DataFrame({"y_pred": s, "b": s}), ["y_pred (group)", "b"]),
            (lambda s: pd.DataFrame({"a": s, "tpr": s}), ["a", "tpr (group)"]),
            (
                lambda s: pd.DataFrame({"count": s, "count (group)": s}),
                ["count (group) (group)", "count (group)"],
            ),
            (lambda s: pd.DataFrame(np.c_[s, s], columns=["a", "a"]), ["group_0", "group_1"]),
        ],
    )
    def test_names_of_the_sensitive_columns(self, features, names):
        y, pred, s, _ = make_data()
        report = fairness_report(y, pred, sensitive_features=features(s), n_boot=0)
        assert list(report.by_group.index.names) == names
        assert report.overall["tpr"] == pytest.approx(pred[y == 1].mean())

    @pytest.mark.parametrize(("n_classes", "beside"), [(2, ["sex"]), (3, [])])
    def test_groups_become_columns_whatever_they_are_called(self, n_classes, beside):
        y, pred, s, _ = make_data(n_classes=n_classes)

        def report_of(name):
            table = pd.DataFrame({name: s, **dict.fromkeys(beside, s == 0)})
            return fairness_report(y, pred, sensitive_features=table, n_boot=5, random_state=0)

        plain = report_of("kind")
        used = {
            *plain.by_group.columns,
            *plain.group_intervals.columns.names,
            *plain.differences.columns,
        }
        assert {"count", "f1", "metric", "bound", "value", "low"} < used
        for name in used:
            report, marked = report_of(name), f"{name} (group)"
            for table, expected in (
                (report.by_group, plain.by_group),
                (report.support, plain.support),
                (report.group_intervals, plain.group_intervals),
                (report.group_intervals["error"], plain.group_intervals["error"]),
                (
                    report.group_intervals.stack(["metric", "bound"], future_stack=True),
                    plain.group_intervals.stack(["metric", "bound"], future_stack=True),
                ),
            ):
                assert list(table.index.names)[: 1 + len(beside)] == [marked, *beside]
                pd.testing.assert_frame_equal(
                    table.reset_index().rename(columns={marked: "kind"}), expected.reset_index()
                )
            long = report.by_group.reset_index().melt(id_vars=[marked, *beside])
            assert len(long) == report.by_group.size
        # Control: with the name itself pandas finds no place for the groups.
        with pytest.raises(ValueError, match="cannot insert count, already exists"):
            plain.by_group.rename_axis(index={"kind": "count"}).reset_index()

    @pytest.mark.parametrize("groups", [[True, False], [0.5, 1.5], ["b", 1], ["a", "b"]], ids=repr)
    def test_any_kind_of_group_value(self, groups):
        y, pred, s, _ = make_data(n_groups=2)
        values = [groups[i] for i in s]
        report = fairness_report(y, pred, sensitive_features=values, n_boot=0)
        for i, group in enumerate(groups):
            row = report.by_group[report.by_group.index == group]
            assert row["error"].item() == pytest.approx(np.mean(y[s == i] != pred[s == i]))

    @pytest.mark.parametrize("columns", [1, 2])
    def test_whole_numbers_beside_floats_stay_apart(self, columns):
        y, pred, s, _ = make_data(n_groups=2)
        groups = [2**53 + 1, float(2**53)]
        assert len(set(np.asarray(groups))) == 1  # control: in double precision they are one
        values = [groups[i] for i in s] if columns == 1 else [(groups[i], "a") for i in s]
        by_group = fairness_report(y, pred, sensitive_features=values, n_boot=0).by_group
        found = dict(zip(by_group.index, by_group["count"], strict=True))
        expected = [group if columns == 1 else (group, "a") for group in groups]
        assert [found[group] for group in expected] == np.bincount(s).tolist()

    @pytest.mark.parametrize("values", [[1, "b"], [1, "1"], ["b", (1, 2)]], ids=repr)
    def test_values_of_several_types_in_one_of_several_columns(self, values):
        y, pred, s, w = make_data(n_groups=4)
        mixed = np.empty(2, dtype=object)
        mixed[:] = values
        with pytest.raises(TypeError):  # control: they have no order
            np.unique(mixed)
        table = pd.DataFrame({"a": mixed[s % 2], "b": s // 2})
        more = {"sample_weight": w, "n_boot": 20, "random_state": 0}
        report = fairness_report(y, pred, sensitive_features=table, **more)
        expected = fairness_report(y, pred, sensitive_features=table.assign(a=s % 2), **more)
        # The values stay as they came; only fairlearn's frame shows their repr.
        assert report.by_group.index.tolist() == [(v, b) for v in values for b in (0, 1)]
        np.testing.assert_array_equal(report.by_group, expected.by_group)
        np.testing.assert_array_equal(report.group_intervals, expected.group_intervals)
        assert set(report.frame.by_group.index) == {(repr(v), b) for v in values for b in (0, 1)}
        long, long_expected = (r.to_frame().drop(columns="group") for r in (report, expected))
        pd.testing.assert_frame_equal(long, long_expected)


class TestIntervals:
    @pytest.mark.parametrize("weighted", [False, True, "by rows"])
    def test_counts_are_distributed_as_those_of_resampled_rows(self, weighted, monkeypatch):
        y, pred, s, weight = make_data(1, n=60, n_groups=2)
        if weighted == "by rows":
            monkeypatch.setattr("skfairft.parity.bootstrap._CELL", 0.0)
        else:  # two weights only, so that kinds of rows are shared, as well as distinct ones
            weight = np.where(np.arange(60) % 3 == 0, 2.5, 1.0) if weighted else np.ones(60)
        reference = row_bootstrap(y, pred, s, weight, 4000, 0).reshape(4000, -1)
        kinds = Kinds((s * 2 + y) * 2 + pred, weight if weighted else None, None)
        (drawn,) = bootstrap_counts(kinds, (2, 2, 2), 4000, np.random.default_rng(0))
        drawn = drawn.reshape(4000, -1)
        error = reference.std(axis=0) * np.sqrt(2 / 4000) + 1e-12
        assert np.all(np.abs(drawn.mean(axis=0) - reference.mean(axis=0)) < 5 * error)
        scale = np.outer(reference.std(axis=0), reference.std(axis=0)) * np.sqrt(2 / 4000)
        assert np.all(np.abs(np.cov(drawn.T) - np.cov(reference.T)) <= 5 * scale + 1e-12)
        # Control: resampling inside each group would keep its number of rows fixed.
        if not weighted:
            p = np.mean(s)
            group = drawn[:, 4:].sum(axis=1)
            assert group.std() == pytest.approx(np.sqrt(60 * p * (1 - p)), rel=0.1)
            assert np.all(drawn.sum(axis=1) == 60)

    def test_rows_of_weight_zero_change_nothing(self):
        y, pred, s, weight = make_data(1, n=60, n_groups=2)
        more = np.r_[weight, np.zeros(60)]
        ours, theirs = (
            fairness_report(
                *(np.resize(column, len(w)) for column in (y, pred)),
                sensitive_features=np.resize(s, len(w)),
                sample_weight=w,
                n_boot=50,
                random_state=0,
            )
            for w in (more, weight)
        )
        pd.testing.assert_frame_equal(ours.headline, theirs.headline)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_f1_has_percentiles_of_resampled_rows(self, weighted):
        y, _, s, weight = make_data(2, n=200, n_groups=2)
        pred = y ^ (np.random.default_rng(0).random(200) < 0.2 + 0.2 * s)
        w = weight if weighted else np.ones(200)
        report = fairness_report(
            y,
            pred,
            sensitive_features=s,
            sample_weight=w if weighted else None,
            n_boot=3000,
            random_state=0,
        )
        t = row_bootstrap(y, pred, s, w, 3000, 1)
        f1, pooled = slow_f1(t), slow_f1(t.sum(axis=1))
        tail = [0.025, 0.975]
        for found, drawn, atol in (
            (report.group_intervals["f1"], f1, 0.02),
            (report.overall_intervals.loc["f1"], pooled, 0.02),
            (report.headline.loc["weighted_f1_error", ["low", "high"]], 100 - 100 * pooled, 2.0),
        ):
            np.testing.assert_allclose(found, np.quantile(drawn, tail, axis=0).T, atol=atol)
        for table in (report.differences, report.ratios):
            assert table.loc["f1"].isna().tolist() == [False, True, True]

    @pytest.mark.parametrize("level", [0.8, 0.95])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_rates_have_the_limits_of_wilson(self, weighted, level):
        """Without weights statsmodels' formula; with weights that of fewer rows."""
        y, pred, s, weight = make_data()
        given = {"sensitive_features": s, "n_boot": 0, "confidence_level": level}
        w = weight if weighted else np.ones(len(y))
        report = fairness_report(y, pred, sample_weight=w if weighted else None, **given)
        z = norm.ppf((1 + level) / 2)
        counted = {
            "selection_rate": (pred == 1, y >= 0),
            "tpr": (pred == 1, y == 1),
            "fpr": (pred == 1, y == 0),
            "error": (pred != y, y >= 0),
        }
        for name, (hit, of) in counted.items():
            found = [*report.group_intervals[name].to_numpy(), report.overall_intervals.loc[name]]
            for g, ends in enumerate(found):
                rows = of & ((s == g) | (g == 3))
                rate = np.average(hit[rows], weights=w[rows])
                n = rows.sum()
                if weighted:
                    error = (w[rows] ** 2 * (hit[rows] - rate) ** 2).sum() / w[rows].sum() ** 2
                    n = min(w[rows].sum() ** 2 / (w[rows] ** 2).sum(), rate * (1 - rate) / error)
                middle = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
                half = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
                np.testing.assert_allclose(ends, [middle - half, middle + half], rtol=1e-9)

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_distances_and_differences_have_the_limits_of_contrasts(self, n_classes, weighted):
        """Each as if it were asked for alone, of rows one against the rest."""
        y, pred, s, w = make_data(n=1500, n_groups=4, n_classes=n_classes)
        w = w if weighted else np.ones(len(y))
        found = fairness_report(
            y, pred, sensitive_features=s, sample_weight=w, constraint="error_rate_parity", n_boot=0
        )

        def expected(rule, y, pred, k):
            both = np.zeros((2, 4, k, k))
            np.add.at(both[0], (s, y, pred), w)
            np.add.at(both[1], (s, y, pred), w**2)
            limits = distance_limits(rule, *both, confidence=0.975)
            return [float(each) for each in (limits.distance, limits.low, limits.high)]

        for name in (*STATED, "error_rate_parity"):
            row = found.headline.loc[metric_of(name)]
            assert row.tolist() == pytest.approx(
                expected(parity(name, n_classes), y, pred, n_classes)
            )
        for name in found.differences.index.drop("f1"):
            rate, label = split_rate(name)
            c = 1 if label is None else int(label)
            one = (y == c) * 1, (pred == c) * 1, 2
            given = (y, pred, n_classes) if rate == "error" else one
            row = found.differences.loc[name]
            assert row.tolist() == pytest.approx(expected(moments([rate], given[2]), *given))
            # And below 1 is said of a ratio where above 0 is of the difference.
            assert (found.ratios.loc[name, "high"] < 1) == (row["low"] > 0)
        assert (found.headline["low"].iloc[1:] > 0).any()

    @pytest.mark.parametrize("weighted", [False, True])
    def test_ratios_have_the_limits_of_ratios(self, weighted):
        y, pred, s, w = make_data(n=1500, n_groups=4)
        w = w if weighted else np.ones(len(y))
        found = fairness_report(y, pred, sensitive_features=s, sample_weight=w, n_boot=0)
        both = np.zeros((2, 4, 2, 2))
        np.add.at(both[0], (s, y, pred), w)
        np.add.at(both[1], (s, y, pred), w**2)
        for name in ("selection_rate", "tpr", "fpr", "error"):
            rows = effective_rows(moments([name], 2), *both)[0]
            rates = found.by_group[name].to_numpy()
            low, high = (float(each) for each in ratio_limits(rates, rows, confidence=0.975))
            value = float(rates.min() / rates.max())
            assert found.ratios.loc[name].tolist() == pytest.approx([value, low, high])
        assert (found.ratios["high"] < 0.99).any()

    def test_blocks_of_memory_do_not_change_what_is_drawn(self, monkeypatch):
        y, pred, s, w = make_data(n=50)
        whole = fairness_report(y, pred, sensitive_features=s, sample_weight=w, random_state=3)
        monkeypatch.setattr("skfairft.parity.bootstrap.BLOCK_ELEMENTS", 700)
        parts = fairness_report(y, pred, sensitive_features=s, sample_weight=w, random_state=3)
        pd.testing.assert_frame_equal(whole.to_frame(), parts.to_frame())

    @pytest.mark.slow
    @pytest.mark.parametrize(("weighted", "equal"), [(False, True), (True, False)])
    def test_nominal_coverage_of_four_groups(self, weighted, equal):
        """Labels, decisions and weights with known probabilities, in 200 samples."""
        base = np.full(4, 0.45) if equal else np.linspace(0.35, 0.55, 4)
        tpr = np.full(4, 0.7) if equal else np.linspace(0.8, 0.6, 4)
        fpr = np.full(4, 0.2) if equal else np.linspace(0.15, 0.3, 4)
        heavy = 3.0 if weighted else 1.0  # what a row of label 1 weighs
        share = heavy * base / (heavy * base + 1 - base)
        truth = {
            "selection_rate": share * tpr + (1 - share) * fpr,
            "tpr": tpr,
            "fpr": fpr,
            "error": share * (1 - tpr) + (1 - share) * fpr,
        }
        distances = {
            "demographic_parity": np.ptp(truth["selection_rate"]),
            "equalized_odds": np.ptp(tpr) + np.ptp(fpr),
        }
        rng = np.random.default_rng(0)
        rates, between = [], []
        for _ in range(200):
            s = rng.integers(4, size=800)
            y = (rng.random(800) < base[s]) * 1
            pred = (rng.random(800) < np.where(y == 1, tpr[s], fpr[s])) * 1
            report = fairness_report(
                y,
                pred,
                sensitive_features=s,
                sample_weight=np.where(y == 1, heavy, 1.0) if weighted else None,
                n_boot=0,
            )
            for name, values in truth.items():
                low, high = report.group_intervals[name].to_numpy().T
                rates.extend((low <= values) & (values <= high))
                _, low, high = report.differences.loc[name]
                between.append(low <= np.ptp(values) + 1e-12 and np.ptp(values) <= high)
                _, low, high = report.ratios.loc[name]
                ratio = values.min() / values.max()
                between.append(low <= ratio and ratio - 1e-12 <= high)
            for name, value in distances.items():
                _, low, high = report.headline.loc[f"{name}_distance"]
                between.append(low <= value + 1e-12 and value <= high)
        # 3,200 and 2,000 intervals, dependent in part: standard errors of about 0.01.
        assert np.mean(rates) == pytest.approx(0.95, abs=0.02)
        assert 0.93 <= np.mean(between) <= (0.98 if equal else 1.0)

    def test_nominal_coverage_of_f1(self):
        """Of labels that are wrong in a fifth of the rows; 90 % intervals."""
        rng, hits = np.random.default_rng(0), []
        tp, fn, fp, tn = 0.4 * 0.8, 0.4 * 0.2, 0.6 * 0.2, 0.6 * 0.8
        truth = 0.4 * 2 * tp / (2 * tp + fn + fp) + 0.6 * 2 * tn / (2 * tn + fn + fp)
        for _ in range(60):
            s = rng.integers(2, size=400)
            y = (rng.random(400) < 0.4) * 1
            pred = y ^ (rng.random(400) < 0.2)
            report = fairness_report(
                y, pred, sensitive_features=s, n_boot=200, confidence_level=0.9, random_state=rng
            )
            bounds = [*report.group_intervals["f1"].to_numpy(), report.overall_intervals.loc["f1"]]
            hits.extend(low <= truth <= high for low, high in bounds)
            _, low, high = report.headline.loc["weighted_f1_error"]
            hits.append(low <= 100 * (1 - truth) <= high)
        # 240 intervals, dependent in part: standard error about 0.025.
        assert 0.82 <= np.mean(hits) <= 0.97

    def test_higher_confidence_is_wider_and_bounds_are_ordered(self):
        y, pred, s, _ = make_data()
        narrow, wide = (
            fairness_report(
                y, pred, sensitive_features=s, confidence_level=level, random_state=0
            ).to_frame()
            for level in (0.5, 0.99)
        )
        bounded = narrow["low"].notna()
        assert set(narrow["metric"][~bounded]) == {"count", "f1"}
        assert (wide["low"] <= narrow["low"])[bounded].all()
        assert (narrow["low"] < narrow["high"])[bounded].all()
        assert (narrow["high"] <= wide["high"])[bounded].all()
        rates = bounded & wide["scope"].isin(["group", "overall"])
        assert (wide["low"] < wide["value"])[rates].all()
        assert (wide["value"] < wide["high"])[rates].all()

    def test_at_parity_only_resamples_are_away_from_it(self):
        """The control of the limits: what percentiles of a distance would say at exact parity."""
        s = np.tile([0, 1], 100)
        y = np.repeat([0, 1], 100)
        pred = y ^ (np.arange(200) // 2 % 5 == 0)  # wrong in as many rows of each
        report = fairness_report(y, pred, sensitive_features=s, random_state=0)
        assert report.differences.loc["selection_rate", ["value", "low"]].tolist() == [0, 0]
        t = row_bootstrap(y, pred, s, np.ones(200), 1000, 0)
        gap = np.ptp(t[:, :, :, 1].sum(axis=2) / t.sum(axis=(2, 3)), axis=1)
        assert np.quantile(gap, 0.025) > 0
        # So it is of ratios, and of F1, which has no interval here.
        _, low, high = report.ratios.loc["selection_rate"]
        assert low < high == 1.0
        rates = t[:, :, :, 1].sum(axis=2) / t.sum(axis=(2, 3))
        assert np.quantile(rates.min(axis=1) / rates.max(axis=1), 0.975) < 1
        assert np.quantile(np.ptp(slow_f1(t), axis=1), 0.025) > 0
        assert report.differences.loc["f1", "value"] == 0
        assert report.differences.loc["f1", ["low", "high"]].isna().all()

    @pytest.mark.parametrize("weighted", [False, True])
    def test_every_interval_holds_its_value(self, weighted):
        """Of tables with few rows, with groups at parity, with rates of exactly 0 and 1."""
        rng = np.random.default_rng(0)
        for n in (12, 60, 200):
            y, pred, s = rng.integers(2, size=(3, n))
            w = rng.exponential(size=n) if weighted else None
            for decided in (pred, y, np.ones(n, dtype=int), s):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FairnessWarning)
                    long = fairness_report(
                        y, decided, sensitive_features=s, sample_weight=w, n_boot=20, random_state=0
                    ).to_frame()
                long = long[(long["metric"] != "count") & long["value"].notna()]
                between = long["scope"].isin(["difference", "ratio"])
                none = between & (long["metric"] == "f1")
                assert (long["low"] <= long["value"])[~none].all()
                assert (long["value"] <= long["high"])[~none].all()
                assert long.loc[none, ["low", "high"]].isna().all(axis=None)
                rates = long[long["scope"].isin(["group", "overall"]) & (long["metric"] != "f1")]
                assert (rates["low"] < rates["high"]).all()

    def test_a_difference_is_between_what_the_groups_may_be(self):
        y, pred, s, w = make_data(n_groups=4)
        report = fairness_report(y, pred, sensitive_features=s, sample_weight=w, n_boot=0)
        for name in ("selection_rate", "tpr", "fpr", "error"):
            low, high = report.group_intervals[name].to_numpy().T
            difference = report.differences.loc[name]
            assert difference["high"] <= high.max() - low.min()
            assert difference["low"] <= max(0.0, low.max() - high.min()) or (
                difference["low"] < difference["value"]
            )

    def test_a_weight_of_2_is_no_row_twice(self):
        y, pred, s, _ = make_data()
        times = np.random.default_rng(1).integers(1, 4, size=len(y))
        repeated = [np.repeat(each, times) for each in (y, pred, s)]
        weighted = fairness_report(y, pred, sensitive_features=s, sample_weight=times, n_boot=0)
        twice = fairness_report(*repeated[:2], sensitive_features=repeated[2], n_boot=0)
        ours, theirs = (
            each.to_frame().query("metric not in ['count', 'f1', 'weighted_f1_error']")
            for each in (weighted, twice)
        )
        np.testing.assert_allclose(ours["value"], theirs["value"], rtol=1e-12)
        ours, theirs = (each[each["scope"] != "ratio"] for each in (ours, theirs))
        assert (ours["high"] - ours["low"] > 1.02 * (theirs["high"] - theirs["low"])).all()
        one = fairness_report(y, pred, sensitive_features=s, sample_weight=times > 0, n_boot=0)
        plain = fairness_report(y, pred, sensitive_features=s, n_boot=0)
        pd.testing.assert_frame_equal(one.to_frame(), plain.to_frame())

    @pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e200])  # squares are out of range
    def test_the_unit_of_the_weights_does_not_matter(self, scale):
        y, pred, s, w = make_data()
        found, expected = (
            fairness_report(y, pred, sensitive_features=s, sample_weight=each, n_boot=0).to_frame()
            for each in (scale * w, w)
        )
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9)

    def test_the_order_of_the_groups_does_not_matter(self):
        y, pred, s, w = make_data(n_groups=4)
        order = np.array([2, 0, 3, 1])
        given = {"sample_weight": w, "n_boot": 0}
        report = fairness_report(y, pred, sensitive_features=s, **given)
        turned = fairness_report(y, pred, sensitive_features=order[s], **given)
        for name in ("headline", "differences", "ratios", "overall_intervals"):
            ours, theirs = getattr(report, name), getattr(turned, name)
            pd.testing.assert_frame_equal(ours, theirs, rtol=1e-9)
        ours, theirs = report.group_intervals, turned.group_intervals.loc[order]
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)

    def test_without_resamples_f1_has_none(self):
        y, pred, s, _ = make_data()
        long = fairness_report(y, pred, sensitive_features=s, n_boot=0).to_frame()
        between = long["scope"].isin(["difference", "ratio"])
        of_f1 = long["metric"].isin(["f1", "weighted_f1_error"])
        drawn, none = of_f1 & ~between, of_f1 | (long["metric"] == "count")
        assert long.loc[none, ["low", "high"]].isna().all(axis=None)
        assert long.loc[~none, ["low", "high"]].notna().all(axis=None)
        other = fairness_report(y, pred, sensitive_features=s, n_boot=5).to_frame()
        assert other.loc[drawn, ["low", "high"]].notna().all(axis=None)
        # All else does not depend on them.
        pd.testing.assert_frame_equal(long[~drawn], other[~drawn])
        pd.testing.assert_series_equal(long["value"], other["value"])

    @pytest.mark.parametrize("make", [int, np.random.RandomState, np.random.default_rng])
    def test_seeds(self, make):
        y, pred, s, _ = make_data()
        state = np.random.get_state()[1].copy()  # noqa: NPY002

        def bounds(random_state):
            return fairness_report(
                y, pred, sensitive_features=s, n_boot=50, random_state=random_state
            ).group_intervals

        first = bounds(make(5))
        pd.testing.assert_frame_equal(first, bounds(make(5)))
        assert not first.equals(bounds(make(6)))
        assert not bounds(None).equals(bounds(None))
        if make is not int:  # a generator moves on
            shared = make(5)
            assert first.equals(bounds(shared))
            assert not first.equals(bounds(shared))
        assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"n_boot": -1}, "n_boot=-1; expected a whole number"),
            ({"n_boot": 1.5}, "n_boot=1.5"),
            ({"n_boot": True}, "n_boot=True"),
            ({"confidence_level": 95}, r"confidence_level=95; expected a number in \(0, 1\)"),
            ({"sensitive_features": None}, "sensitive_features is None"),
        ],
    )
    def test_bad_arguments(self, change, message):
        y, pred, s, _ = make_data()
        with pytest.raises(ValueError, match=message):
            fairness_report(y, pred, **{"sensitive_features": s, **change})


class TestUndefined:
    y = np.array([1, 0, 1, 0, 0, 0, 0, 0] * 10)
    pred = np.array([1, 0, 0, 0, 1, 0, 0, 0] * 10)
    s = np.array([0, 0, 0, 0, 1, 1, 1, 1] * 10)

    def report(self, keep=slice(None), **more):
        with pytest.warns(FairnessWarning) as caught:
            report = fairness_report(
                self.y[keep],
                self.pred[keep],
                sensitive_features=self.s[keep],
                random_state=0,
                **more,
            )
        assert len(caught) == 1
        assert caught[0].filename == __file__
        return report, str(caught[0].message)

    def test_a_rate_without_rows_is_nan_everywhere(self):
        report, message = self.report()
        assert "true positive rate of label 1 in group 1 (40 rows, 0 with it)" in message
        assert np.isnan(report.by_group.loc[1, "tpr"])
        assert np.isnan(report.frame.by_group.loc[1, "tpr"])
        assert report.group_intervals.loc[1, "tpr"].isna().all()
        assert report.differences.loc["tpr"].isna().all()
        assert report.ratios.loc["tpr"].isna().all()
        assert report.headline.loc["equalized_odds_distance"].isna().all()
        # Controls: fairlearn calls the same difference 0, and defined rates have numbers.
        assert report.frame.difference()["tpr"] == 0
        assert report.by_group.loc[0, "tpr"] == 0.5
        assert report.differences.loc["fpr"].notna().all()
        assert "undefined" in str(report)
        assert "undefined" in report.to_markdown()
        assert "undefined" in report.to_html()

    def test_one_group(self):
        report, message = self.report(self.s == 0)
        assert "belong to the group 0" in message
        assert report.differences["value"].isna().all()
        assert report.ratios["value"].isna().all()
        assert report.headline["value"].isna().tolist() == [False, True, True, False]
        assert report.by_group["tpr"].tolist() == [0.5]

    def test_a_group_without_a_rate_is_left_out_of_its_intervals(self):
        y, pred, s, w = make_data(n_groups=4)
        keep = (s != 3) | (y == 0)
        y, pred, s, w = (each[keep] for each in (y, pred, s, w))
        given = {"n_boot": 20, "random_state": 0}
        with pytest.warns(FairnessWarning, match="true positive rate of label 1 in group 3"):
            report = fairness_report(y, pred, sensitive_features=s, sample_weight=w, **given)
        three = s < 3
        alone = fairness_report(
            y[three], pred[three], sensitive_features=s[three], sample_weight=w[three], **given
        )
        assert report.group_intervals.loc[3, "tpr"].isna().all()
        pd.testing.assert_series_equal(report.differences.loc["tpr"], alone.differences.loc["tpr"])
        assert report.ratios.loc["tpr"].notna().all()
        row = report.headline.loc["equalized_odds_distance"]
        assert row["low"] <= row["value"] <= row["high"]
        # Control: the fourth group has a false positive rate, which moves the distance.
        assert row["value"] > alone.headline.loc["equalized_odds_distance", "value"] + 0.01

    def test_resamples_in_which_a_group_has_no_rows_are_left_out(self):
        y, s = np.array([0] * 40 + [1] * 40), np.array([0] + [1] * 79)
        with pytest.warns(FairnessWarning, match=r"group 0 \(1 rows"):
            report = fairness_report(y, y, sensitive_features=s, random_state=0)
        # A third of the resamples miss the only row of group 0.
        assert report.group_intervals.loc[0, "f1"].tolist() == [1.0, 1.0]

    def test_one_row_says_little_of_a_group_and_of_what_compares_it(self):
        y = np.array([0] * 39 + [1] + [0] * 20 + [1] * 20)
        s = np.repeat([0, 1], 40)
        report = fairness_report(y, y, sensitive_features=s, n_boot=0)
        low, high = report.differences.loc["tpr", ["low", "high"]]
        assert low == 0
        assert high > 0.7
        low, high = report.ratios.loc["tpr", ["low", "high"]]
        assert low < 0.3
        assert high == 1


class Cells(HTMLParser):
    """Collects the text of table cells and every tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


class TestRendering:
    nasty = "<b>|x"

    def nasty_report(self, **more):
        y, pred, s, _ = make_data(n_groups=2)
        features = pd.Series(np.array([self.nasty, "a\\b\nc & d"])[s], name="se|<i>x")
        return fairness_report(y, pred, sensitive_features=features, random_state=0, **more)

    def test_html_shows_names_literally(self):
        parsed = Cells(self.nasty_report().to_html())
        assert parsed.tags == {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}
        assert {self.nasty, "se|<i>x", r"a\b\x0ac & d"} <= set(parsed.cells)

    def test_markdown_keeps_its_columns(self):
        text = self.nasty_report().to_markdown()
        assert "| &lt;b&gt;\\|x |" in text
        assert "<b>" not in text
        for block in text.split("\n\n"):
            lines = block.splitlines()
            if lines[0].startswith("|"):
                bars = {line.replace("\\|", "").count("|") for line in lines}
                assert len(bars) == 1

    @pytest.mark.parametrize("n_boot", [0, 100])
    def test_text_is_aligned(self, n_boot):
        text = str(self.nasty_report(n_boot=n_boot))
        assert self.nasty in text
        blocks = text.split("\n\n")
        assert [block.splitlines()[0].split("  ")[0] for block in blocks[1:4]] == [
            "headline",
            "se|<i>x",
            "between groups",
        ]
        for block in blocks[1:4]:  # each column of numbers ends where its head does
            head, *lines = block.splitlines()
            assert max(map(len, lines)) <= len(head)
            for line in lines:
                assert len(line) == len(head) or "f1" in line.split("  ")[0]

    def test_headline_comes_first_with_its_interval(self):
        y, pred, s, _ = make_data()
        report = fairness_report(y, pred, sensitive_features=s, random_state=0)
        value, low, high = report.headline.loc["demographic_parity_distance"]
        lines = str(report).splitlines()
        assert lines[:3] == [
            "Fairness report: 900 rows, 3 groups",
            "positive class: 1",
            "[low, high]: 95 % intervals, of F1 from 1000 resamples of the rows",
        ]
        assert lines[6].split()[1:] == [f"{value:.3f}", f"[{low:.3f},", f"{high:.3f}]"]
        rate = report.by_group.loc[0, "tpr"]
        low, high = report.group_intervals.loc[0, "tpr"]
        row = next(line for line in lines if line.startswith("0 "))
        assert f"  {rate:.3f} [{low:.2f}, {high:.2f}]  " in row
        assert repr(report) == str(report)
        assert report._repr_html_() == report.to_html()

    def test_without_resamples_the_others_still_have_their_intervals(self):
        y, pred, s, _ = make_data()
        report = fairness_report(y, pred, sensitive_features=s, n_boot=0)
        lines = str(report).splitlines()
        assert lines[2] == "[low, high]: 95 % intervals, none of F1 (n_boot=0)"
        value, low, high = report.headline.loc["equalized_odds_distance"]
        assert lines[7].split()[1:] == [f"{value:.3f}", f"[{low:.3f},", f"{high:.3f}]"]
        between = lines.index(next(line for line in lines if line.startswith("between groups")))
        assert lines[between].split("  ")[-1].strip() == "[low, high]"
        numbers = [
            (f"{value:.3f}", f"[{low:.3f},", f"{high:.3f}]")
            for value, low, high in (report.differences.loc["tpr"], report.ratios.loc["tpr"])
        ]
        assert lines[between + 2].split() == ["tpr", *numbers[0], *numbers[1]]
        assert lines[between + 5].split() == [
            "f1",
            *(f"{table.loc['f1', 'value']:.3f}" for table in (report.differences, report.ratios)),
        ]
        assert "nan" not in str(report)

    def test_the_row_of_all_groups_is_told_from_a_group_of_its_name(self):
        y, pred, s, _ = make_data(n_groups=2)
        for groups, pooled in (
            (["a", "b"], "overall"),
            (["a", "overall"], "overall (all groups)"),
            (["overall", "overall (all groups)"], "overall (all groups) (all groups)"),
        ):
            report = fairness_report(y, pred, sensitive_features=np.array(groups)[s], n_boot=0)
            block = str(report).split("\n\n")[2].splitlines()
            assert [line.split("  ")[0] for line in block[1:]] == [*groups, pooled]
            cells = Cells(report.to_html()).cells
            assert cells.count(pooled) == 1
            assert f"| {pooled} | 900 |" in report.to_markdown()
            scopes = report.to_frame().groupby("scope")["group"].agg(lambda g: set(g.dropna()))
            assert scopes["group"] == set(groups)
            assert scopes["overall"] == set()

    def test_wide_tables_continue_below(self):
        y, pred, s, _ = make_data(n_classes=6, n=3000)
        text = str(fairness_report(y, pred, sensitive_features=s, random_state=0))
        assert max(map(len, text.splitlines())) <= 120
        header = [line for line in text.splitlines() if line.startswith("group ")]
        assert len(header) > 1
        for c in range(6):
            assert sum(f" fpr[{c}]" in line for line in header) == 1

    def test_few_rows_are_noted_at_the_edge(self):
        n = FEW_ROWS
        s = ["a"] * (2 * n) + ["b"] * (2 * n - 1) + ["c"] * (n - 1)
        y = [0] * n + [1] * n + [0] * n + [1] * (n - 1) + [0, 1] * ((n - 1) // 2) + [1]
        report = fairness_report(y, y, sensitive_features=s, n_boot=0)
        assert report.notes == (
            f"few rows: b has {n - 1} rows for tpr",
            f"few rows: c has {n - 1} rows",
        )
        for text in (str(report), report.to_markdown(), report.to_html()):
            assert all(note in text for note in report.notes)

    def test_of_many_groups_with_few_rows_some_are_named(self):
        y, s = [0, 1] * 120, np.repeat(range(120), 2)
        report = fairness_report(y, y, sensitive_features=s, n_boot=0)
        assert len(report.notes) == 21
        assert report.notes[-1].startswith("few rows: 100 groups besides")

    def test_long_table_holds_every_number(self):
        y, pred, s, _ = make_data()
        table = pd.DataFrame({"a": s % 2, "b": np.array(["x", "y", "z"])[s]})
        report = fairness_report(y, pred, sensitive_features=table, random_state=0)
        long = report.to_frame()
        assert long.columns.tolist() == ["scope", "group", "metric", "value", "low", "high"]
        assert long[["value", "low", "high"]].dtypes.eq(float).all()
        of_groups = long[long["scope"] == "group"]
        by_group = {(r["group"], r["metric"]): r for _, r in of_groups.iterrows()}
        assert len(by_group) == report.by_group.size
        for group in report.by_group.index:
            for metric in report.by_group.columns:
                row = by_group[group, metric]
                assert row["value"] == report.by_group.loc[group, metric]
                if metric != "count":
                    bounds = report.group_intervals.loc[group, metric]
                    assert row[["low", "high"]].tolist() == bounds.tolist()
        by_column = long[long["scope"] == "column"].set_index(["group", "metric"])
        for name, metric in by_column.index:
            ends = [f"{metric}{end}" for end in ("", "_low", "_high")]
            found = by_column.loc[(name, metric), ["value", "low", "high"]]
            assert found.tolist() == report.by_column.loc[name, ends].tolist()
        assert len(by_column) == 3 * (len(report.headline) - 1)
        indexed = long[~long["scope"].isin(["group", "column"])].set_index(["scope", "metric"])
        assert indexed["group"].isna().all()
        for scope, source in (
            ("headline", report.headline),
            ("difference", report.differences),
            ("ratio", report.ratios),
        ):
            found = indexed.loc[scope, ["value", "low", "high"]]
            np.testing.assert_array_equal(found, source)
        overall = indexed.loc["overall"]
        np.testing.assert_array_equal(overall["value"], report.overall.astype(float))
        np.testing.assert_array_equal(overall[["low", "high"]][1:], report.overall_intervals)

    def test_pickle_and_frozen(self):
        report = self.nasty_report(n_boot=10)
        copy = pickle.loads(pickle.dumps(report))
        assert isinstance(copy, FairnessReport)
        assert str(copy) == str(report)
        assert "frame" not in vars(copy)  # fairlearn's is built when it is asked for, once
        assert copy.frame is copy.frame
        again = pickle.loads(pickle.dumps(copy)).frame
        pd.testing.assert_frame_equal(again.by_group, report.frame.by_group)
        with pytest.raises(AttributeError):
            report.n_boot = 3

    def test_no_warnings_on_sound_data(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            str(self.nasty_report())
