import subprocess
import sys
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import skfairft
from skfairft import (
    FairnessTradeoffDisplay,
    FeatureScatterDisplay,
    FisherImportanceDisplay,
    GroupRatesDisplay,
)
from skfairft.displays import _common

DISPLAYS = [name for name in skfairft.__all__ if name.endswith("Display")]

# Machado, Oliveira and Fernandes (2009), of severity 1, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]],
)


def lab(colour, deficiency):
    """Return CIELAB of a colour as one with a deficiency sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(DEFICIENCIES[deficiency]) @ linear, 0.0, 1.0)
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ seen / TO_XYZ.sum(axis=1), 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colours, deficiency):
    seen = [lab(colour, deficiency) for colour in colours]
    return min(np.linalg.norm(a - b) for a, b in combinations(seen, 2))


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colours_are_apart_for_colour_blind_readers_too(deficiency):
    assert nearest(_common.COLOURS, deficiency) > 10  # a just noticeable difference is about 2.3


def test_the_simulation_shows_what_matplotlibs_own_colours_lose():
    usual = ["tab:red", "tab:green", "tab:brown", "tab:olive"]
    assert nearest(usual, "none") > 20
    assert nearest(usual, "deuteranopia") < 10


def test_no_two_of_42_looks_are_alike():
    looks = [tuple(_common.look(i).items()) for i in range(42)]
    assert len(set(looks)) == 42
    neighbours = [_common.look(i) for i in range(8)]
    for a, b in combinations(neighbours[:6], 2):  # the first few differ in both
        assert a["color"] != b["color"]
        assert a["marker"] != b["marker"]


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [({"c": "red"}, "red"), ({"color": "red"}, "red"), ({}, "blue")],
)
def test_short_names_of_keywords_take_the_place_of_the_defaults(kwargs, expected):
    style = _common.styled({"color": "blue", "linewidth": 2}, kwargs)
    assert style == {"color": expected, "linewidth": 2}


def test_all_seven_are_exported():
    assert sorted(DISPLAYS) == [
        "CompressionDisplay",
        "FairnessTradeoffDisplay",
        "FeatureScatterDisplay",
        "FisherImportanceDisplay",
        "GroupCalibrationDisplay",
        "GroupRatesDisplay",
        "SingularSpectrumDisplay",
    ]


EXAMPLES = {
    "CompressionDisplay": {
        "table": {
            **{"system": "", "x": [0.1, 0.1, 0.5, 0.5], "group": ["a", "overall"] * 2},
            **{"value": [0.3, 0.2, 0.1, 0.1], "low": 0.0, "high": 0.4, "n": 9},
        },
        "measure": "loss_rise",
    },
    "FairnessTradeoffDisplay": {"names": ["a"], "error": [1.0], "disparity": [0.1]},
    "FeatureScatterDisplay": {
        "projection": [[0.0, 1.0], [1.0, 0.0]],
        "groups": ["a", "b"],
        "predictions": [0, 1],
    },
    "FisherImportanceDisplay": {
        "group_importance": [[1.0, 2.0]],
        "importance": [1.0, 2.0],
        "groups": ["a"],
    },
    "GroupCalibrationDisplay": {
        "groups": ["a"],
        "counts": [3],
        "predicted": [[0.2, 0.7]],
        "observed": [[0.0, 1.0]],
    },
    "GroupRatesDisplay": {"groups": ["a"], "counts": [3], "rates": {"tpr": [0.5]}},
    "SingularSpectrumDisplay": {"singular_values": [2.0, 1.0]},
}


@pytest.mark.parametrize("name", DISPLAYS)
class TestEach:
    def make(self, name):
        return getattr(skfairft, name)(**EXAMPLES[name])

    def test_constructor_only_stores(self, name):
        display = self.make(name)
        for key, value in EXAMPLES[name].items():
            assert getattr(display, key) is value
        assert not hasattr(display, "ax_")

    def test_it_draws_on_axes_of_the_user_and_twice(self, name):
        figure, (left, right) = plt.subplots(1, 2)
        display = self.make(name)
        assert display.plot(ax=left) is display
        assert display.ax_ is left
        assert display.figure_ is figure
        assert not right.has_data()
        display.plot(ax=right)
        assert display.ax_ is right
        display.plot(ax=right, alpha=0.5)
        figure.canvas.draw()
        assert plt.get_fignums() == [figure.number]

    def test_it_draws_in_a_subfigure(self, name):
        (left, _) = plt.figure(layout="constrained").subfigures(1, 2)
        display = self.make(name).plot(ax=left.subplots())
        assert display.figure_ is left
        left.figure.canvas.draw()

    def test_without_axes_it_makes_a_figure(self, name):
        display = self.make(name).plot()
        assert plt.get_fignums() == [display.figure_.number]


@pytest.mark.slow
def test_without_matplotlib_the_error_names_the_extra():
    script = f"""
import sys
sys.modules["matplotlib"] = sys.modules["matplotlib.pyplot"] = None
import skfairft
for name, arrays in {EXAMPLES!r}.items():
    try:
        getattr(skfairft, name)(**arrays).plot()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    said = done.stdout.splitlines()
    assert len(said) == len(DISPLAYS)
    assert all("pip install 'skfairft[plots]'" in line for line in said)


@pytest.mark.parametrize("name", ["$x_{$", r"$\frac{1}$", "5 $", "_hidden", "$a$ & $b$"])
@pytest.mark.some(2)
def test_names_are_drawn_letter_for_letter(name):
    """Formulas would raise an error or lose letters, an underscore the whole entry."""
    s = np.array([name, "b"] * 40)
    y = np.array([0, 0, 1, 1] * 20)
    rates = GroupRatesDisplay.from_predictions(y, y, sensitive_features=s)
    importance = FisherImportanceDisplay(
        group_importance=np.eye(2), importance=np.ones(2), groups=[name, "b"]
    ).plot()
    tradeoff = FairnessTradeoffDisplay(names=[name, "b"], error=[1, 2], disparity=[2, 1]).plot()
    scatter = FeatureScatterDisplay(projection=np.eye(2), groups=[name, "b"], predictions=s[:2])
    drawn = [
        rates.ax_.get_yticklabels(),
        *(one.ax_.get_legend().get_texts() for one in (importance, tradeoff, scatter.plot())),
    ]
    for display in (rates, importance, tradeoff, scatter):
        display.figure_.canvas.draw()  # where a formula is parsed
    for texts in drawn:
        shown = [text._preprocess_math(text.get_text()) for text in texts]
        assert {formula for _, formula in shown} == {False}
        assert any(text.strip().startswith(name) for text, _ in shown)
