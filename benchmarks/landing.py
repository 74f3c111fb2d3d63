"""The picture of the landing page: what parity costs on UCI Adult, by this package and by others.

Curves are those of `benchmarks/tradeoff.py` on its task "adult-64", as stored in
docs/tradeoff.json.gz. On the same ten splits this script fits the paper's method (rank 1, Fisher
importance, no constraint) and a head that is asked for a distance of at most 0.05 with a confidence
of 95 %, to the rows of train and val, and measures both on test. Run ``python benchmarks/landing.py
--json docs/landing.json --plot docs/images/landing.png``; ``--rows docs/landing.json`` draws what
is stored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _shared.program import DEFAULT_CACHE
from _shared.timing import machine
from _tradeoff.data import load
from _tradeoff.peers import together
from _tradeoff.picture import lowest
from _tradeoff.score import BASELINE
from _tradeoff.tables import OWN
from tradeoff import as_frame, stored

from skfairft import FairLowRankHeadClassifier
from skfairft.metrics import demographic_parity_distance, weighted_f1_error

TASK, CONSTRAINT, BOUND = "adult-64", "demographic_parity", 0.05
SCORES = Path(__file__).resolve().parents[1] / "docs" / "tradeoff.json.gz"
SYSTEMS: dict[str, dict[str, Any]] = {
    "the paper's method": {"rank": 1},
    "at most 5 points asked for": {
        "constraint": CONSTRAINT,
        "difference_bound": BOUND,
        "confidence": 0.95,
        "solver": "plug_in",
    },
}
# What a reader knows it by, where it stands on the picture, and its look.
CURVES: dict[str, tuple[str, dict[str, Any]]] = {
    OWN: ("skfairft", {"color": "#0072B2", "linewidth": 3.0, "zorder": 3}),
    "ExponentiatedGradient": ("fairlearn", {"color": "#D55E00", "linewidth": 2.0}),
    "LinearPost": ("LinearPost", {"color": "#777777", "linewidth": 2.0, "linestyle": "--"}),
}
POINTS: tuple[dict[str, Any], ...] = (
    {"color": "black", "marker": "*", "markersize": 19},
    {"color": "#E69F00", "marker": "v", "markersize": 11},
    {"color": "#009E73", "marker": "o", "markersize": 12},
)


def run(cache: Path, seeds: int) -> list[dict[str, Any]]:
    """Return error and distance on test of each system and split."""
    rows = []
    for seed in range(seeds):
        split = load(TASK, seed, cache)
        fit, test = together(split), split.test
        for name, settings in SYSTEMS.items():
            clf = FairLowRankHeadClassifier(random_state=seed, **settings)
            decided = clf.fit(fit.Z, fit.y, sensitive_features=fit.s).predict(test.Z)
            distance = demographic_parity_distance(test.y, decided, sensitive_features=test.s)
            error = weighted_f1_error(test.y, decided)
            rows.append({"system": name, "seed": seed, "error": error, "distance": distance})
    return rows


def plot(rows: list[dict[str, Any]], path: Any) -> None:
    """Draw it, with letters that are read on a telephone."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    scores = as_frame(stored(SCORES)["scores"])
    here = scores[(scores["dataset"] == TASK) & (scores["constraint"] == CONSTRAINT)]
    here = here[~here["failed"]]
    base = np.mean([front[0] for front in here[here["method"] == BASELINE]["front"]], axis=0)
    levels = np.linspace(0.0, base[1], 200)
    with plt.rc_context({"font.size": 15, "axes.spines.top": False, "axes.spines.right": False}):
        figure, ax = plt.subplots(figsize=(7.2, 5.4), layout="constrained")
        for method, (name, look) in CURVES.items():
            fronts = here[here["method"] == method]["front"]
            mean = np.array([lowest(front, levels) for front in fronts]).mean(axis=0)
            ax.plot(100 * levels, mean, label=name, **look)
        means = pd.DataFrame(rows).groupby("system", sort=False)[["error", "distance"]].mean()
        points = {"no constraint": base, **{str(name): row for name, row in means.iterrows()}}
        for (name, (error, distance)), look in zip(points.items(), POINTS, strict=True):
            ax.plot(100 * distance, error, linestyle="", label=name, zorder=4, **look)
        ax.set_xlabel('how far women and men are apart\nin a "yes" (points of 100)')
        ax.set_ylabel("error (%)")
        ax.set_xlim(0, 100 * base[1] + 1)
        ax.legend(frameon=False, loc="upper right")
        figure.savefig(path, dpi=120)
        plt.close(figure)


def main() -> None:
    """Run, or read, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of features")
    parser.add_argument("--rows", type=Path, help="what was stored, in place of a run")
    parser.add_argument("--json", type=Path, help="write the rows")
    parser.add_argument("--plot", type=Path, help="draw the picture")
    options = parser.parse_args()
    if options.rows:
        found = json.loads(options.rows.read_text(encoding="utf-8"))
    else:
        found = {"machine": machine(), "rows": run(options.cache, options.seeds)}
    table = pd.DataFrame(found["rows"]).groupby("system", sort=False)[["error", "distance"]]
    print(table.agg(["mean", "std"]).round(4).to_string())
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(found["rows"], options.plot)


if __name__ == "__main__":
    main()
