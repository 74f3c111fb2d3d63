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
from sklearn.metrics import f1_score, recall_score, zero_one_loss

from skfairft.inputs.exceptions import FairnessWarning
from skfairft.metrics import (
    FairnessReport,
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    weighted_f1_error,
)
from skfairft.metrics.report import FEW_ROWS
from skfairft.parity.bootstrap import bootstrap_counts


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
    def test_headline_is_the_three_metrics(self, n_classes):
        y, pred, s, w = make_data(n_classes=n_classes)
        more = {"sensitive_features": s, "sample_weight": w}
        report = fairness_report(y, pred, n_boot=0, **more)
        assert report.headline["value"].to_dict() == {
            "weighted_f1_error": pytest.approx(weighted_f1_error(y, pred, sample_weight=w)),
            "demographic_parity_distance": demographic_parity_distance(y, pred, **more),
            "equalized_odds_distance": equalized_odds_distance(y, pred, **more),
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
                    report.group_intervals.stack(["metric", "bound"]),
                    plain.group_intervals.stack(["metric", "bound"]),
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
    @pytest.mark.parametrize("weighted", [False, True])
    def test_counts_are_distributed_as_those_of_resampled_rows(self, weighted):
        y, pred, s, weight = make_data(1, n=60, n_groups=2)
        # Two weights only, so that kinds of rows are shared, as well as distinct ones.
        weight = np.where(np.arange(60) % 3 == 0, 2.5, 1.0) if weighted else np.ones(60)
        reference = row_bootstrap(y, pred, s, weight, 4000, 0).reshape(4000, -1)
        (drawn,) = bootstrap_counts(
            (s * 2 + y) * 2 + pred,
            weight if weighted else None,
            (2, 2, 2),
            4000,
            np.random.default_rng(0),
        )
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
    def test_intervals_are_those_of_resampled_rows(self, weighted):
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
        selected = t[:, :, :, 1].sum(axis=2) / t.sum(axis=(2, 3))
        tpr = t[:, :, 1, 1] / t[:, :, 1].sum(axis=2)
        fpr = t[:, :, 0, 1] / t[:, :, 0].sum(axis=2)
        for name, rate in (("selection_rate", selected), ("tpr", tpr), ("fpr", fpr)):
            expected = np.quantile(rate, [0.025, 0.975], axis=0).T
            np.testing.assert_allclose(report.group_intervals[name], expected, atol=0.02)
            gap = np.quantile(np.ptp(rate, axis=1), [0.025, 0.975])
            np.testing.assert_allclose(
                report.differences.loc[name, ["low", "high"]], gap, atol=0.02
            )
            assert np.all(np.diff(expected) > 0.1)
        odds = np.ptp(tpr, axis=1) + np.ptp(fpr, axis=1)
        np.testing.assert_allclose(
            report.headline.loc["equalized_odds_distance", ["low", "high"]],
            np.quantile(odds, [0.025, 0.975]),
            atol=0.03,
        )
        ratio = tpr.min(axis=1) / tpr.max(axis=1)
        np.testing.assert_allclose(
            report.ratios.loc["tpr", ["low", "high"]], np.quantile(ratio, [0.025, 0.975]), atol=0.03
        )

    def test_blocks_of_memory_do_not_change_what_is_drawn(self, monkeypatch):
        y, pred, s, w = make_data(n=50)
        whole = fairness_report(y, pred, sensitive_features=s, sample_weight=w, random_state=3)
        monkeypatch.setattr("skfairft.parity.bootstrap.BLOCK_ELEMENTS", 700)
        parts = fairness_report(y, pred, sensitive_features=s, sample_weight=w, random_state=3)
        pd.testing.assert_frame_equal(whole.to_frame(), parts.to_frame())

    def test_nominal_coverage(self):
        # Labels, errors and groups with known probabilities; 90 % intervals, 4 statistics.
        rng = np.random.default_rng(0)
        hits = []
        for _ in range(60):
            s = rng.integers(2, size=400)
            y = rng.random(400) < np.where(s, 0.6, 0.3)
            pred = y ^ (rng.random(400) < 0.2)
            report = fairness_report(
                y, pred, sensitive_features=s, n_boot=200, confidence_level=0.9, random_state=rng
            )
            bounds = report.group_intervals
            truth = {"selection_rate": (0.38, 0.56), "tpr": (0.8, 0.8), "fpr": (0.2, 0.2)}
            for name, values in truth.items():
                low, high = bounds[name].to_numpy().T
                hits.extend((low <= values) & (values <= high))
        # 360 intervals, dependent in part: standard error about 0.02.
        assert 0.83 <= np.mean(hits) <= 0.96

    def test_higher_confidence_is_wider_and_bounds_are_ordered(self):
        y, pred, s, _ = make_data()
        narrow, wide = (
            fairness_report(
                y, pred, sensitive_features=s, confidence_level=level, random_state=0
            ).to_frame()
            for level in (0.5, 0.99)
        )
        bounded = narrow["low"].notna()
        assert (narrow["metric"][~bounded] == "count").all()
        assert (wide["low"] <= narrow["low"])[bounded].all()
        assert (narrow["low"] < narrow["high"])[bounded].all()
        assert (narrow["high"] <= wide["high"])[bounded].all()
        rates = bounded & wide["scope"].isin(["group", "overall"])
        assert (wide["low"] < wide["value"])[rates].all()
        assert (wide["value"] < wide["high"])[rates].all()

    def test_distances_at_parity_are_biased_upward(self):
        # The warning of the docstring: at exact parity of the population, the interval of
        # the distance lies above 0 all the same.
        s = np.tile([0, 1], 100)
        y = np.repeat([0, 1], 100)
        report = fairness_report(y, y, sensitive_features=s, random_state=0)
        assert report.differences.loc["selection_rate", "value"] == 0
        assert report.differences.loc["selection_rate", "low"] > 0

    def test_no_resamples_no_intervals(self):
        y, pred, s, _ = make_data()
        report = fairness_report(y, pred, sensitive_features=s, n_boot=0)
        long = report.to_frame()
        assert long[["low", "high"]].isna().all(axis=None)
        with_bounds = fairness_report(y, pred, sensitive_features=s, n_boot=5).to_frame()
        pd.testing.assert_frame_equal(
            long.drop(columns=["low", "high"]), with_bounds.drop(columns=["low", "high"])
        )

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
        assert report.headline["value"].isna().tolist() == [False, True, True]
        assert report.by_group["tpr"].tolist() == [0.5]

    def test_resamples_in_which_a_rate_is_undefined_are_left_out(self):
        y = np.array([0] * 39 + [1] + [0] * 20 + [1] * 20)
        s = np.repeat([0, 1], 40)
        report = fairness_report(y, y, sensitive_features=s, random_state=0)
        # A third of the resamples miss the only positive of group 0.
        assert report.group_intervals.loc[1, "tpr"].tolist() == [1.0, 1.0]
        assert report.differences.loc["tpr", ["low", "high"]].tolist() == [0.0, 0.0]


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
        assert {self.nasty, "se|<i>x", "a\\b c & d"} <= set(parsed.cells)

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
        for block in blocks[1:4]:
            assert len({len(line) for line in block.splitlines()}) == 1

    def test_headline_comes_first_with_its_interval(self):
        y, pred, s, _ = make_data()
        report = fairness_report(y, pred, sensitive_features=s, random_state=0)
        value, low, high = report.headline.loc["demographic_parity_distance"]
        lines = str(report).splitlines()
        assert lines[:2] == [
            "Fairness report: 900 rows, 3 groups",
            "[low, high]: 95 % intervals, 1000 resamples of the rows",
        ]
        assert lines[5].split()[1:] == [f"{value:.3f}", f"[{low:.3f},", f"{high:.3f}]"]
        rate = report.by_group.loc[0, "tpr"]
        low, high = report.group_intervals.loc[0, "tpr"]
        row = next(line for line in lines if line.startswith("0 "))
        assert f"  {rate:.3f} [{low:.2f}, {high:.2f}]  " in row
        assert repr(report) == str(report)
        assert report._repr_html_() == report.to_html()

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

    def test_long_table_holds_every_number(self):
        y, pred, s, _ = make_data()
        table = pd.DataFrame({"a": s % 2, "b": np.array(["x", "y", "z"])[s]})
        report = fairness_report(y, pred, sensitive_features=table, random_state=0)
        long = report.to_frame()
        assert long.columns.tolist() == ["scope", "group", "metric", "value", "low", "high"]
        assert long[["value", "low", "high"]].dtypes.eq(float).all()
        by_group = {(r["group"], r["metric"]): r for _, r in long.iterrows() if r["group"]}
        assert len(by_group) == report.by_group.size
        for group in report.by_group.index:
            for metric in report.by_group.columns:
                row = by_group[group, metric]
                assert row["value"] == report.by_group.loc[group, metric]
                if metric != "count":
                    bounds = report.group_intervals.loc[group, metric]
                    assert row[["low", "high"]].tolist() == bounds.tolist()
        indexed = long[long["scope"] != "group"].set_index(["scope", "metric"])
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
