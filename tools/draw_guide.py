"""Draw the pictures of the guide, from the model of docs/getting_started.md.

``python tools/draw_guide.py`` runs the code of that page, and of docs/guide/compression.md, and
writes one PNG file for each display to docs/images/guide/. The same versions give the same
pictures.

Needs matplotlib, and Pillow to make the files small.
"""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from skfairft import (
    CompressionDisplay,
    FairnessTradeoffDisplay,
    FeatureScatterDisplay,
    FisherImportanceDisplay,
    GroupCalibrationDisplay,
    GroupRatesDisplay,
    SingularSpectrumDisplay,
    compress,
    compression_report,
)

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "images" / "guide"

# Lines and a few colours: more shades make the files larger, not clearer.
_SHADES = 128


def page_variables(page: Path) -> dict[str, Any]:
    """Run the examples of a page and return what they define."""
    found: dict[str, Any] = {}
    for example in doctest.DocTestParser().get_examples(page.read_text(encoding="utf-8")):
        exec(compile(example.source, str(page), "exec"), found)
    return found


def save(name: str, display: Any) -> None:
    """Write a display's figure with a palette."""
    file = FOLDER / f"{name}.png"
    display.figure_.savefig(file, dpi=100, bbox_inches="tight")
    plt.close(display.figure_)
    with Image.open(file) as image:
        small = image.convert("RGB").quantize(_SHADES, Image.Quantize.MAXCOVERAGE)
    small.save(file, optimize=True)


def draw_compression() -> None:
    """Draw what the groups of the page on compression lose by budget, with two weights of them."""
    found = page_variables(DOCS / "guide" / "compression.md")
    model, Z, y = found["model"], found["Z"], found["y"]
    age, own, new = np.where(found["s"], "65 or older", "younger"), found["own"], found["new"]

    def report(budget: float, weights: str | None) -> Any:
        small = compress(
            model,
            Z[own],
            sensitive_features=age[own],
            parameters=budget,
            group_weights=weights,
        )
        return compression_report(
            model, small, Z[new], y[new], sensitive_features=age[new], loss="softmax"
        )

    reports = {
        name: {budget: report(budget, weights) for budget in (0.05, 0.075, 0.1, 0.15, 0.2)}
        for name, weights in {"all rows alike": "proportional", "both groups alike": None}.items()
    }
    save("compression", CompressionDisplay.from_reports(reports, measure="divergence"))


def main() -> None:
    """Draw all of them."""
    plt.switch_backend("Agg")
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = page_variables(DOCS / "getting_started.md")
    X, y = found["X"][found["test"]], found["y"].iloc[found["test"]]
    groups = {"sensitive_features": found["sex"].iloc[found["test"]]}
    best = found["best"]
    rates = GroupRatesDisplay.from_estimator(best, X, y, **groups)
    save("rates", rates)
    save("calibration", GroupCalibrationDisplay.from_estimator(best, X, y, **groups))
    save("tradeoff", FairnessTradeoffDisplay.from_path(found["path"], chosen=found["chosen"]))
    save("importance", FisherImportanceDisplay.from_estimator(found["plain"]))
    save("spectrum", SingularSpectrumDisplay.from_estimator(found["fair"]))
    scatter = FeatureScatterDisplay.from_estimator(best, X, **groups, max_rows=400, random_state=0)
    save("scatter", scatter)
    draw_compression()


if __name__ == "__main__":
    main()
