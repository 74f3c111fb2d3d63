"""`CompressionDisplay`: what is drawn is what the reports say."""

import pickle
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import PolyCollection
from torch import nn

from skfairft import CompressionDisplay, CompressionReport, compress, compression_report

GROUPS = ["a", "b", "c"]
BUDGETS = [0.1, 0.2, 0.4, 0.8]
MEASURES = ["divergence", "agreement", "loss_rise"]


def fake(seed, groups=GROUPS, measures=MEASURES, parameters=(1000, 100)):
    """A report of numbers that are all different."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(index=pd.Index([*groups, "overall"], dtype=object, tupleize_cols=False))
    table["n"] = [10 * (1 + g) for g in range(len(groups))] + [1234]
    for name in measures:
        table[name] = rng.uniform(1.0, 2.0, len(table))
        table[f"{name}_low"] = table[name] - rng.uniform(0.1, 0.9, len(table))
        table[f"{name}_high"] = table[name] + rng.uniform(0.1, 0.9, len(table))
    return CompressionReport(table, parameters, (1.0, 1.0))


def fakes(seed=0, xs=BUDGETS, **settings):
    return {x: fake(seed + i, **settings) for i, x in enumerate(xs)}


def lines(ax):
    """The lines of the groups, and last that of all rows."""
    return [line for line in ax.get_lines() if line.get_color() != "0.8"]


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def edges(band):
    """Lower and upper edge of a band at its points, by their x."""
    found = {}
    for x, y in band.get_paths()[0].vertices:
        found.setdefault(float(x), set()).add(float(y))
    return [sorted(found)] + [[end(found[x]) for x in sorted(found)] for end in (min, max)]


def assert_bars(ax, table):
    """Bars at all points are the intervals, but for all rows."""
    *containers, whole = ax.containers
    assert not whole.lines[2]
    assert len(containers) == table["group"].nunique() - 1
    at = []
    for group, container in zip(table["group"], containers, strict=False):
        line, _, (drawn,) = container.lines
        own = table[table["group"] == group]
        np.testing.assert_array_equal(line.get_ydata(), own["value"])
        at.append(line.get_xdata())
        ends = np.array([segment[:, 1] for segment in drawn.get_segments()])
        np.testing.assert_allclose(ends, own[["low", "high"]], rtol=1e-14)
    xs = np.unique(table["x"])
    assert (np.diff(at, axis=0) > 0).all()  # side by side, and around their own x
    placed = np.log10(at) if ax.get_xscale() == "log" else np.asarray(at)
    np.testing.assert_allclose(placed.mean(0), np.log10(xs) if ax.get_xscale() == "log" else xs)
    nearest = np.abs(np.asarray(at)[..., None] - xs).argmin(-1)
    assert (nearest == np.arange(len(xs))).all()


def assert_drawn(ax, reports, measure):
    """Lines are the values, bands the intervals, in the order of x; nothing else is there."""
    xs = sorted(reports)
    drawn, bands = lines(ax), ax.collections
    groups = next(iter(reports.values())).by_group.index[:-1]
    assert len(drawn) == len(groups) + 1
    assert len(bands) == len(groups)
    for g, line in enumerate(drawn):
        values = [reports[x].by_group[measure].iloc[g] for x in xs]
        np.testing.assert_array_equal(line.get_xdata(), xs)
        np.testing.assert_array_equal(line.get_ydata(), values)
    for g, band in enumerate(bands):
        at, low, high = edges(band)
        np.testing.assert_array_equal(at, xs)
        for found, end in ((low, "low"), (high, "high")):
            ends = [reports[x].by_group[f"{measure}_{end}"].iloc[g] for x in xs]
            np.testing.assert_array_equal(found, ends)


@pytest.mark.parametrize("measure", [None, *MEASURES])
def test_lines_and_bands_are_the_numbers_of_the_reports(measure):
    reports = fakes()
    shuffled = {x: reports[x] for x in (0.4, 0.1, 0.8, 0.2)}
    display = CompressionDisplay.from_reports(shuffled, measure=measure)
    assert display.measure == (measure or "loss_rise")
    assert_drawn(display.ax_, reports, measure or "loss_rise")
    colours = [line.get_color() for line in lines(display.ax_)]
    assert len(set(colours)) == 4
    for line, band in zip(lines(display.ax_), display.ax_.collections, strict=False):
        np.testing.assert_array_equal(
            band.get_facecolor()[0][:3], plt.matplotlib.colors.to_rgb(line.get_color())
        )
    assert [line.get_linestyle() for line in lines(display.ax_)] == ["-", "-", "-", "--"]


def test_the_table_is_tidy():
    reports = {"x": fakes(0), "y": fakes(9)}
    table = CompressionDisplay.from_reports(reports, measure="agreement").table
    assert list(table) == ["system", "x", "group", "value", "low", "high", "n"]
    assert len(table) == 2 * 4 * 4
    for row in table.itertuples():
        expected = reports[row.system][row.x].by_group.loc[row.group]
        assert row.value == expected["agreement"]
        assert (row.low, row.high) == (expected["agreement_low"], expected["agreement_high"])
        assert row.n == expected["n"]
    assert not table.duplicated(["system", "x", "group"]).any()


def test_what_a_network_loses_is_drawn():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 8))
    X, s = torch.randn(400, 12), np.where(np.arange(400) % 4, "many", "few")
    reports = {}
    for budget in (0.2, 0.5):
        small = compress(model, X[:200], sensitive_features=s[:200], parameters=budget)
        reports[budget] = compression_report(
            model, small, X[200:], sensitive_features=s[200:], loss="softmax"
        )
    ax = CompressionDisplay.from_reports(reports).ax_
    assert_drawn(ax, reports, "divergence")
    assert entries(ax) == ["few (n=50)", "many (n=150)", "overall (n=200)"]
    first = lines(ax)[0].get_ydata()
    assert first[0] > first[1] > 0.0


class TestLabels:
    def test_say_what_is_drawn(self):
        ax = CompressionDisplay.from_reports(fakes()).ax_
        assert ax.get_ylabel() == "rise of the loss, with 95 % interval"
        assert ax.get_xlabel() == "budget"
        assert ax.get_title() == ""
        assert entries(ax) == ["a (n=10)", "b (n=20)", "c (n=30)", "overall (n=1,234)"]
        named = CompressionDisplay.from_reports(fakes(), x_name="rank", measure="agreement").ax_
        assert named.get_xlabel() == "rank"
        assert named.get_ylabel() == "share of the same decisions, with 95 % interval"

    def test_a_measure_without_words_has_its_name(self):
        ax = CompressionDisplay.from_reports(fakes(measures=["mine_too"]), measure="mine_too").ax_
        assert ax.get_ylabel() == "mine too, with 95 % interval"

    def test_names_are_letter_for_letter(self):
        groups = ["$x_{$", ("f", 3), "_hidden"]
        reports = {"$1": fakes(groups=groups), "two": fakes(groups=groups)}
        display = CompressionDisplay.from_reports(reports)
        display.figure_.canvas.draw()
        texts = entries(display.ax_[-1])
        assert texts[:3] == [r"\$x_{\$ (n=10)", "f / 3 (n=20)", " _hidden (n=30)"]
        assert display.ax_[0].get_title() == r"\$1"

    def test_rows_that_differ_are_a_range(self):
        reports = fakes()
        reports[0.2].by_group["n"] += [0, 5, 0, 5000]
        texts = entries(CompressionDisplay.from_reports(reports).ax_)
        assert texts == ["a (n=10)", "b (n=20 to 25)", "c (n=30)", "overall (n=1,234 to 6,234)"]

    def test_the_legend_of_many_groups_is_beside(self):
        display = CompressionDisplay.from_reports(fakes(groups=range(7)))
        display.figure_.canvas.draw()
        box = display.ax_.get_legend().get_window_extent()
        assert box.x0 >= display.ax_.bbox.x1
        assert box.x1 <= display.figure_.bbox.x1
        found = [container.lines[0] for container in display.ax_.containers]
        looks = {(line.get_color(), line.get_marker()) for line in found}
        assert len(looks) == 8
        assert not [c for c in display.ax_.collections if isinstance(c, PolyCollection)]
        assert_bars(display.ax_, display.table)

    def test_a_group_may_be_called_overall(self):
        reports = fakes(groups=["overall", "z"])
        ax = CompressionDisplay.from_reports(reports).ax_
        assert_drawn(ax, reports, "loss_rise")
        assert entries(ax) == ["overall (n=10)", "z (n=20)", "overall (n=1,234)"]


class TestScales:
    def test_of_x_is_logarithmic_where_all_are_positive(self):
        assert CompressionDisplay.from_reports(fakes()).ax_.get_xscale() == "log"
        assert CompressionDisplay.from_reports(fakes(xs=[0, 1])).ax_.get_xscale() == "linear"
        asked = CompressionDisplay.from_reports(fakes(), xscale="linear").ax_
        assert asked.get_xscale() == "linear"

    def test_of_y_is_linear_unless_asked(self):
        assert CompressionDisplay.from_reports(fakes()).ax_.get_yscale() == "linear"
        reports = fakes()
        assert CompressionDisplay.from_reports(reports, yscale="log").ax_.get_yscale() == "log"
        for report in reports.values():
            report.by_group["loss_rise_low"] -= 2.0  # ends below 0 leave the axes, values may not
        display = CompressionDisplay.from_reports(reports, yscale="log")
        display.figure_.canvas.draw()
        assert 0.0 < display.ax_.get_ylim()[0] <= display.table["value"].min()

    @pytest.mark.parametrize("measure", MEASURES)
    def test_no_change_is_in_sight_of_what_measures_a_change(self, measure):
        ax = CompressionDisplay.from_reports(fakes(), measure=measure).ax_
        assert (ax.get_ylim()[0] <= 0.0) == (measure != "agreement")

    @pytest.mark.parametrize(
        "xs", [[0.1, 0.2, 0.4], [1, 2, 3, 4, 5], [0.5], [-1, 2], [0], [64, 1024]]
    )
    def test_ticks_are_at_the_points(self, xs):
        display = CompressionDisplay.from_reports(fakes(xs=xs))
        display.figure_.canvas.draw()
        np.testing.assert_array_equal(display.ax_.get_xticks(), xs)
        assert [t.get_text() for t in display.ax_.get_xticklabels()] == [f"{x:,}" for x in xs]
        assert not len(display.ax_.get_xticks(minor=True))
        low, high = display.ax_.get_xlim()
        assert low < min(xs)
        assert high > max(xs)

    @pytest.mark.parametrize("n_systems", [pytest.param(1, marks=pytest.mark.slow), 4])
    @pytest.mark.parametrize("xs", [np.geomspace(0.01, 1.0, 60), np.arange(300, 340)])
    def test_ticks_do_not_touch(self, xs, n_systems):
        reports = {i: fakes(xs=xs) for i in "abcd"[:n_systems]}
        display = CompressionDisplay.from_reports(reports)
        display.figure_.canvas.draw()
        for ax in np.ravel(display.ax_)[-3:]:  # above the last row there are none
            boxes = [text.get_window_extent() for text in ax.get_xticklabels() if text.get_text()]
            assert 4 <= len(boxes) < 40
            assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


class TestX:
    def test_of_a_list_is_the_share_of_the_parameters(self):
        sizes = [500, 40, 990]
        reports = [fake(i, parameters=(1000, size)) for i, size in enumerate(sizes)]
        ax = CompressionDisplay.from_reports(reports).ax_
        by_x = {size / 1000: each for size, each in zip(sizes, reports, strict=True)}
        assert_drawn(ax, by_x, "loss_rise")
        assert ax.get_xlabel() == "share of the parameters that is left"
        both = CompressionDisplay.from_reports({"one": reports, "two": tuple(reports)})
        assert [ax.get_xlabel() for ax in both.ax_] == ["share of the parameters that is left"] * 2

    def test_of_one_report_by_name_too(self):
        one, two = fake(0, parameters=(1000, 300)), fake(1, parameters=(1000, 200))
        found = CompressionDisplay.from_reports({"cut": one, "trained": two}).table
        expected = CompressionDisplay.from_reports({"cut": [one], "trained": [two]}).table
        pd.testing.assert_frame_equal(found, expected)

    @pytest.mark.parametrize("x", [3, 0.5, np.float32(0.5), np.int64(3)])
    def test_is_any_number(self, x):
        assert CompressionDisplay.from_reports({x: fake(0)}).table["x"].tolist() == [float(x)] * 4

    @pytest.mark.parametrize("x", [0.3, -2.0])
    def test_one_point_has_bars(self, x):
        report = fake(0)
        display = CompressionDisplay.from_reports({x: report})
        ax = display.ax_
        assert_bars(ax, display.table)
        assert lines(ax)[-1].get_marker() == "_"  # a line of one point is not seen
        np.testing.assert_array_equal(lines(ax)[-1].get_ydata(), report.by_group["loss_rise"][-1:])

    def test_a_group_of_one_row_has_no_interval(self):
        for reports in (fakes(), fakes(xs=[0.5])):
            for report in reports.values():
                report.by_group.loc["a", ["loss_rise_low", "loss_rise_high"]] = np.nan
            display = CompressionDisplay.from_reports(reports)
            display.figure_.canvas.draw()
            assert np.isfinite(lines(display.ax_)[0].get_ydata()).all()


class TestMeasure:
    def test_is_the_loss_where_all_have_it(self):
        reports = fakes()
        assert CompressionDisplay.from_reports(reports).measure == "loss_rise"
        reports[0.2] = fake(0, measures=["agreement", "divergence"])
        assert CompressionDisplay.from_reports(reports).measure == "divergence"


class TestPanels:
    def test_are_one_for_each_system_with_the_same_axes(self):
        reports = {"blind": fakes(0), "alike": fakes(20, xs=[0.3, 0.9])}
        display = CompressionDisplay.from_reports(reports, measure="divergence")
        assert display.ax_.shape == (2,)
        assert [ax.get_title() for ax in display.ax_] == list(reports)
        for ax, own in zip(display.ax_, reports.values(), strict=True):
            assert_drawn(ax, own, "divergence")
            assert ax.figure is display.figure_
        left, right = display.ax_
        assert left.get_ylim() == right.get_ylim()
        assert left.get_xlim() == right.get_xlim()
        highest = max(
            r.by_group["divergence_high"].iloc[:-1].max()
            for r in {**reports["blind"], **reports["alike"]}.values()
        )
        assert left.get_ylim()[1] >= highest
        assert left.get_ylabel() == "divergence from the model,\nwith 95 % interval"
        assert right.get_ylabel() == ""
        assert left.get_shared_y_axes().joined(left, right)
        assert left.get_legend() is None
        assert entries(right)[0] == "a (n=10)"
        assert plt.get_fignums() == [display.figure_.number]

    @pytest.mark.parametrize(
        "n", [2, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4, 7))]
    )
    def test_all_is_in_the_figure_and_nothing_is_covered(self, n):
        reports = {f"system {i}": fakes(i) for i in range(n)}
        display = CompressionDisplay.from_reports(reports)
        display.figure_.canvas.draw()
        assert len(display.figure_.axes) == n
        whole = display.figure_.bbox
        (legend,) = [ax.get_legend() for ax in display.ax_ if ax.get_legend()]
        box = legend.get_window_extent()
        assert box.x1 <= whole.x1
        for i, ax in enumerate(display.ax_):
            assert not box.overlaps(ax.bbox)
            lowest = i + 3 >= n
            assert (ax.get_xlabel() == "budget") == lowest
            assert ax.xaxis.get_tick_params()["labelbottom"] == lowest
            assert (ax.get_ylabel() != "") == (i % 3 == 0)
            label = ax.yaxis.get_label().get_window_extent()
            assert whole.y0 <= label.y0
            assert label.y1 <= whole.y1

    def test_are_drawn_on_axes_of_the_user(self):
        figure, axes = plt.subplots(1, 3)
        reports = {"x": fakes(0), "y": fakes(9)}
        display = CompressionDisplay.from_reports(reports, ax=axes[:2])
        assert list(display.ax_) == list(axes[:2])
        assert display.figure_ is figure
        assert not axes[2].has_data()
        for ax, own in zip(axes, reports.values(), strict=False):
            assert_drawn(ax, own, "loss_rise")
            assert ax.get_ylabel() != ""
        assert axes[0].get_ylim() == axes[1].get_ylim() != axes[2].get_ylim()
        with pytest.raises(ValueError, match="ax is 1 Axes and there are 2 systems; expected one"):
            CompressionDisplay.from_reports(reports, ax=axes[0])

    def test_another_plot_on_the_same_axes_stays_in_sight(self):
        _, ax = plt.subplots()
        for xs in ([1.0, 10.0], [3.0, 4.0]):
            CompressionDisplay.from_reports(fakes(xs=xs), ax=ax)
        low, high = ax.get_xlim()
        assert low < 1.0
        assert high > 10.0


def test_keywords_are_looks_of_the_lines():
    ax = CompressionDisplay.from_reports(fakes(), lw=3, alpha=0.5).ax_
    assert {line.get_linewidth() for line in lines(ax)} == {3}
    assert {line.get_alpha() for line in lines(ax)} == {0.5}
    one = CompressionDisplay.from_reports(fakes(xs=[1]), capsize=0, c="red").ax_
    assert {line.get_color() for line in lines(one)} == {"red"}


def test_a_display_is_pickled_and_drawn_again():
    display = CompressionDisplay.from_reports(fakes(), measure="agreement", yscale="log")
    again = pickle.loads(pickle.dumps(display))
    pd.testing.assert_frame_equal(again.table, display.table)
    assert_drawn(again.plot().ax_, fakes(), "agreement")
    assert again.ax_.get_yscale() == "log"


ONE = fake(0)
ERRORS = {
    "nothing": ({}, "reports is empty; expected a mapping of numbers to what compression_report"),
    "no list": ([], "reports is empty"),
    "one report": (ONE, "reports is a CompressionReport; expected a mapping of numbers"),
    "no reports": ({0.1: "a", 0.2: ONE}, r"reports holds \['str'\]; expected a mapping"),
    "a system of none": ({"x": {0.1: ONE}, "y": {}}, r"reports\['y'\] is empty; expected"),
    "one of both": ({"x": {0.1: ONE}, "y": [ONE]}, "reports has lists and mappings; expected one"),
    "other groups": (
        {0.1: ONE, 0.2: fake(0, groups=["a", "z"])},
        r"at x=0.2 has the groups \['a', 'z'\], and the first one \['a', 'b', 'c'\]; expected the",
    ),
    "other groups elsewhere": (
        {"x": {0.1: ONE}, "y": {0.1: fake(0, groups=["c", "b", "a"])}},
        r"at x=0.1 of 'y' has the groups \['c', 'b', 'a'\], and",
    ),
    "x a text": ({"a": {"0.1": ONE}}, "x='0.1'; expected a finite number"),
    "x a bool": ({True: ONE}, "x=True; expected a finite number"),
    "x no number": ({np.nan: ONE}, "x=nan; expected a finite number"),
    "x infinite": ({np.inf: ONE}, "x=inf; expected a finite number"),
    "x twice": ([ONE, fake(1)], "Two reports are of networks with 100 of 1,000 parameters"),
    "x unknown": ([replace(ONE, parameters=(None, 3))], r"parameters=\(None, 3\), of which no"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_are_no_reports_is_refused(name):
    reports, match = ERRORS[name]
    with pytest.raises(ValueError, match=match):
        CompressionDisplay.from_reports(reports)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"measure": "loss_ris"}, "Unknown measure 'loss_ris'. Did you mean 'loss_rise'?"),
        ({"measure": "n"}, "Unknown measure 'n'"),
        ({"measure": "divergence_low"}, "Unknown measure 'divergence_low'"),
        ({"yscale": "symlog"}, "yscale='symlog'; expected 'linear' or 'log'"),
        ({"xscale": "logit"}, "xscale='logit'; expected 'linear' or 'log' or None"),
    ],
)
def test_settings_that_are_not_known_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        CompressionDisplay.from_reports(fakes(), **settings)


def test_a_measure_of_some_reports_only_is_refused():
    reports = fakes() | {2.0: fake(0, measures=["divergence"])}
    with pytest.raises(ValueError, match=r"'agreement'.* Expected one of \['divergence'\]"):
        CompressionDisplay.from_reports(reports, measure="agreement")
    with pytest.raises(ValueError, match=r"'divergence'.* Expected one of \['agreement'\]"):
        CompressionDisplay.from_reports(fakes(measures=["agreement"]))


def test_a_logarithm_of_nothing_is_refused():
    with pytest.raises(ValueError, match="xscale='log', and x goes down to 0; expected numbers"):
        CompressionDisplay.from_reports(fakes(xs=[0, 1]), xscale="log")
    reports = fakes()
    reports[0.2].by_group.loc["b", "loss_rise"] = -0.5
    with pytest.raises(ValueError, match=r"yscale='log', and value goes down to -0\.5; expected"):
        CompressionDisplay.from_reports(reports, yscale="log")
    assert CompressionDisplay.from_reports(reports).ax_.get_ylim()[0] < -0.5


def test_points_of_a_table_may_come_in_any_order():
    reports = fakes()
    table = CompressionDisplay.from_reports(reports).table
    parts = [table[table["x"] == x] for x in (0.8, 0.1, 0.4, 0.2)]
    display = CompressionDisplay(table=pd.concat(parts), measure="loss_rise").plot()
    assert_drawn(display.ax_, reports, "loss_rise")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n": None}, r"table has 4 rows and the columns \['system', .*expected rows with system"),
        ({"x": ["a", "a", "b", "b"]}, r"x is \['a', 'a', 'b', 'b'\]; expected finite numbers"),
        ({"x": [0.1, 0.1, np.inf, np.inf]}, "expected finite numbers"),
        (
            {"group": ["a", "overall", "b", "overall"]},
            r"At x=0.5 of system '' there are the groups \['b', 'overall'\], and before \['a', ",
        ),
        ({"x": [0.1] * 4}, "expected the same"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(change, match):
    table = {
        "system": "",
        "x": [0.1, 0.1, 0.5, 0.5],
        "group": ["a", "overall"] * 2,
        "value": 1.0,
        "low": 0.0,
        "high": 2.0,
        "n": 9,
    } | change
    table = {name: value for name, value in table.items() if value is not None}
    with pytest.raises(ValueError, match=match):
        CompressionDisplay(table=table, measure="loss_rise").plot()
