"""The figures of the paper's rerun show its rows, leave out what is missing, and stay the same."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from paper import figures, figures_beyond
from paper.drawing import RC, label, slim
from paper.experiments import EXPERIMENTS, FAIR
from paper.figures import CAPTIONS, FIGURES, draw_all

SEEDS = range(3)
MEASURES = ("Err", "DDP", "DEO")
# Settings of the rows of each experiment, on a few of its tasks.
MAIN = [
    {"system": "TL"},
    {"system": "f+SVD", "rank_asked": 1},
    {"system": "paper", "rank_asked": 1},
]
RANKS = [
    {"system": "TL", "seconds": 1.0, "parameters": 22.0},
    *(
        {"system": system, "rank_asked": rank, "seconds": 0.5, "parameters": 14.0 * rank}
        for system in ("f+SVD", "paper")
        for rank in (1, 2)
    ),
]
EPOCHS = (0, 1, None)
SETTINGS = {
    "figure1": (("adult", "adult, f_F DP 0.9"), [{"system": "TL", "probe": 0.9}]),
    "figure3": (
        ("adult",),
        [
            {"system": at, "groups": groups, "cosine": 0.9}
            for at in ("pre-trained", "fitted")
            for groups in ("true", "shuffled")
        ],
    ),
    "figure4": (("adult", "adult, hidden layer"), MAIN),
    "table2": (("adult", *FAIR), [{"system": "pre-trained"}, *MAIN]),
    "table3": (
        ("adult", "celeba, resnet18, last"),
        MAIN
        + [
            {"system": system, "constraint": "demographic_parity", "intensity": intensity}
            for system in ("Retrain+DP", "ours DP, plug_in")
            for intensity in (0.1, 0.9)
        ],
    ),
    "weights": (
        ("adult",),
        [
            {"trained": trained, "system": system, "group_weight": weight}
            for trained in (False, True)
            for system, weight in (("TL", None), ("paper", 0.0), ("paper", 1.0))
        ],
    ),
    "ranks": (("adult",), RANKS),
    "many": (
        ("hair, resnet18, last",),
        [row | {"trained": trained} for row in MAIN for trained in (False, True)],
    ),
    "few": (("adult",), [row | {"rows": n} for row in MAIN for n in (50, 100)]),
    "budget": (
        ("adult",),
        [row | {"max_epochs": n} for row in MAIN for n in EPOCHS]
        + [
            row | {"system": f"{row['system']}, as written", "max_epochs": n}
            for row in MAIN
            for n in (1, 3)
        ],
    ),
    "reading": (
        ("separate signals", "adult"),
        [
            row | {"max_epochs": n}
            for row in [*MAIN, {"system": "paper, heads by group", "rank_asked": 1}]
            for n in EPOCHS
        ],
    ),
    "fisher": (
        ("adult",),
        [
            row | {"trained": trained} | more
            for trained in (False, True)
            for row in MAIN
            for more in (
                [
                    {"fisher": kind, "at": at, "cosine": 0.9, "cosine with empirical": 1.0}
                    for kind in ("empirical", "true")
                    for at in ("pre-trained", "fitted")
                ]
                if row["system"] == "paper"
                else [{}]
            )
        ],
    ),
}


def make(experiments=SETTINGS, seeds=SEEDS):
    rng = np.random.default_rng(0)
    rows = []
    for name in experiments:
        tasks, settings = SETTINGS[name]
        for task in tasks:
            for seed in seeds:
                for row in settings:
                    measured = dict(zip(MEASURES, rng.uniform(0.1, 1, 3), strict=True))
                    rows.append({"experiment": name, "task": task, "seed": seed} | measured | row)
    if rows and "figure1" in experiments:
        for row in rows:
            if row["experiment"] == "figure1" and row["seed"] == 0:
                row |= {"points": rng.normal(size=(8, 2)).tolist(), "groups": [0, 1] * 4}
    if rows and "figure3" in experiments:
        for row in rows:
            if row["experiment"] == "figure3" and row["seed"] == 0:
                row["fisher"] = rng.uniform(0, 1, (2, 10, 2)).tolist()
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def frame():
    return make()


@pytest.fixture(scope="module")
def written(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return folder, draw_all(frame, folder)


def values(frame, column, **where):
    keep = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    return frame[keep].sort_values("seed")[column].to_numpy()


@pytest.mark.slow
class TestFiles:
    def test_all_are_written_and_small(self, written):
        folder, names = written
        assert names == list(FIGURES)
        for name in names:
            for ending in ("svg", "png"):
                assert 0 < (folder / f"{name}.{ending}").stat().st_size < 150_000

    def test_written_again_they_are_the_same(self, frame, written, tmp_path):
        # One with pixels within the SVG, bars, a broken line, and a log scale: all took too long.
        some = frame[frame["experiment"].isin(["figure1", "figure4", "few"])]
        again = draw_all(some, tmp_path)
        assert len(again) == 5
        for name in again:
            for ending in ("svg", "png"):
                first, second = (each / f"{name}.{ending}" for each in (written[0], tmp_path))
                assert first.read_bytes() == second.read_bytes()

    def test_svg_is_valid_and_shorter(self):
        import io
        from xml.etree import ElementTree

        from matplotlib import rc_context
        from matplotlib.figure import Figure

        with rc_context(RC):
            figure = Figure()
            figure.add_subplot().plot([0, 1], [2, 3], "o-")
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
        short = slim(text.getvalue())
        assert len(short) < 0.9 * len(text.getvalue())
        before, after = (ElementTree.fromstring(each) for each in (text.getvalue(), short))
        for tag in ("path", "use"):
            name = f".//{{http://www.w3.org/2000/svg}}{tag}"
            assert len(before.findall(name)) == len(after.findall(name))
        # Whatever is referred to is still there.
        known = {each.get("id") for each in after.iter()}
        for each in after.iter("{http://www.w3.org/2000/svg}use"):
            assert each.get("{http://www.w3.org/1999/xlink}href")[1:] in known


@pytest.mark.slow
class TestWhatIsMissing:
    def test_nothing_is_drawn_of_nothing(self, tmp_path):
        assert draw_all(make(["figure4"]).iloc[:0], tmp_path) == []

    def test_other_experiments_are_skipped(self):
        part = make(["weights"])
        assert [name for name, draw in FIGURES.items() if draw(part) is not None] == ["weights"]

    def test_without_faces(self, frame):
        part = frame[~frame["task"].str.contains("resnet18")]
        missing = {name for name, draw in FIGURES.items() if draw(part) is None}
        assert missing == {"table3_faces", "many", "many_before"}

    def test_one_seed_has_no_bars(self, tmp_path):
        part = make(["figure1", "ranks"], seeds=[0])
        assert draw_all(part, tmp_path) == ["figure1", "ranks"]
        assert figures.figure1(part).axes[0].get_title().endswith("0.900")

    def test_undefined_measures_are_left_out(self, frame):
        part = frame[frame["experiment"] == "figure4"].copy()
        part.loc[part["seed"] == 1, "DEO"] = np.nan
        figure = figures.figure4(part)
        found = values(part, "DEO", task="adult", system="TL")
        assert figure.axes[2].containers[1][0].get_width() == pytest.approx(np.nanmean(found))


class TestWhatIsDrawn:
    def test_bars_are_means_with_deviations(self, frame):
        figure = figures.figure4(frame)
        for ax, column in zip(figure.axes, MEASURES, strict=True):
            bars = [each for each in ax.containers if hasattr(each, "patches")]
            for bar, system in zip(bars, ("TL", "f+SVD", "paper"), strict=True):
                found = values(frame, column, experiment="figure4", task="adult", system=system)
                assert bar[0].get_width() == pytest.approx(found.mean())
                (low, _), (high, _) = bar.errorbar[2][0].get_segments()[0]
                assert (high - low) / 2 == pytest.approx(found.std(ddof=1))

    def test_paired_differences_are_those_of_the_seeds(self, frame):
        figure = figures.figure4_paired(frame)
        for ax, column in zip(figure.axes, MEASURES, strict=True):
            for drawn, other in zip(ax.containers, ("TL", "f+SVD"), strict=True):
                for place, task in enumerate(("adult", "adult, hidden layer")):
                    a, b = (
                        values(frame, column, experiment="figure4", task=task, system=system)
                        for system in ("paper", other)
                    )
                    assert drawn[0].get_xdata()[place] == pytest.approx((a - b).mean())
                    (low, _), (high, _) = drawn[2][0].get_segments()[place]
                    half = 4.302653 * (a - b).std(ddof=1) / np.sqrt(3)  # Student's, 2 degrees
                    assert (high - low) / 2 == pytest.approx(half, rel=1e-5)

    def test_curves_are_means_with_deviations(self, frame):
        figure = figures_beyond.weights(frame)
        found = values(
            frame, "Err", experiment="weights", trained=True, system="paper", group_weight=1.0
        )
        _, mean, bars = figure.axes[3].get_lines()
        assert mean.get_ydata()[-1] == pytest.approx(found.mean())
        low, high, gap = bars.get_ydata()[-3:]
        assert (high - low) / 2 == pytest.approx(found.std(ddof=1))
        assert np.isnan(gap)

    def test_the_end_of_training_comes_last(self, frame):
        figure = figures_beyond.budget(frame)
        assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["0", "1", "end"]
        drawn = figure.axes[0].containers[1][0].get_ydata()
        part = frame[(frame["experiment"] == "budget") & frame["max_epochs"].isna()]
        a, b = (values(part, "Err", system=system) for system in ("paper", "TL"))
        assert drawn[-1] == pytest.approx((a - b).mean())

    def test_training_as_written_stands_beside_its_own_references(self, frame):
        figure = figures_beyond.budget_written(frame)
        assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "3"]
        part = frame[(frame["experiment"] == "budget") & (frame["max_epochs"] == 3)]
        a, b = (values(part, "Err", system=f"{s}, as written") for s in ("paper", "TL"))
        assert figure.axes[0].containers[1][0].get_ydata()[-1] == pytest.approx((a - b).mean())

    def test_the_other_reading_is_drawn_where_classes_are_several(self, frame):
        two = frame["task"] == "adult"
        part = frame[~((frame["experiment"] == "reading") & two & (frame["max_epochs"] == 1))]
        figure = figures_beyond.reading(part)
        assert len(figure.axes) == 2
        part = part[(part["task"] == "separate signals") & part["max_epochs"].isna()]
        a, b = (values(part, "DDP", system=s) for s in ("paper, heads by group", "TL"))
        assert figure.axes[1].containers[2][0].get_ydata()[-1] == pytest.approx((a - b).mean())

    @pytest.mark.slow
    def test_each_says_what_its_bars_are(self, frame):
        for draw in FIGURES.values():
            foot = draw(frame).get_supxlabel()
            assert "3 seeds" in foot
            assert "standard deviation" in foot or "95 % interval" in foot


def test_captions_name_experiments():
    assert set(CAPTIONS) == set(FIGURES)
    for experiment, caption in CAPTIONS.values():
        assert experiment in EXPERIMENTS
        assert caption


def test_every_task_has_a_label_of_two_lines():
    for each in EXPERIMENTS.values():
        for task in each.tasks:
            assert label(task).count("\n") == 1
