"""Error against disparity: fair classifiers of several packages on the same frozen features.

22 tasks (tables on features of pre-trained networks, faces on a ResNet-18, and populations whose
best trade-off is known), two constraints, and many splits: each method makes a curve of candidates,
from the most accurate to the fairest. Its candidates on the Pareto front of val are judged on test,
by the hypervolume they dominate and by the error at a budget of disparity. And each is asked for
six bounds, as a user would. What is in ``_tradeoff``: data.py the tasks, synthetic.py those
populations, peers.py, ours.py and asked.py the methods, run.py the runs, score.py the scores,
tables.py and picture.py what is shown of them.

Each curve is stored in the folder ``--results`` at once, and what is there is not computed again:
the benchmark can be stopped and goes on where it was. ``--score-only`` computes nothing. ``--docs``
writes the scores of each seed, the tables and the pictures of the documentation; ``--rows`` makes
tables of such scores again, ``--all`` with each score of each task.

Some tasks need the folder that the environment variable SKFAIRFT_DATA names; the other methods need
fairlearn, concept-erasure, fairret, oxonfair, aif360 and error-parity.

Run ``python benchmarks/tradeoff.py [--datasets adult-64 lfw] [--seeds 10] [--docs docs]``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _shared.program import DEFAULT_CACHE
from _tradeoff import tables
from _tradeoff.asked import BOUNDS as ASKED_BOUNDS
from _tradeoff.data import DATASETS, missing
from _tradeoff.peers import CONSTRAINTS, METHODS, quiet
from _tradeoff.picture import plot_curves, plot_lead
from _tradeoff.run import read, run_all
from _tradeoff.score import ASKED, score

# Of which the regret and the time are shown.
MAIN = [
    *("ours, plug-in", "ours, closed form", "ours, trained, held out"),
    *("ExponentiatedGradient", "GridSearch", "OxonFair, inferred group", "fairret", "LinearPost"),
]


def main() -> None:
    """Run, score and write."""
    ordered = sorted(METHODS, key=lambda name: METHODS[name].slow)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=ordered)
    parser.add_argument("--constraints", nargs="+", choices=CONSTRAINTS, default=CONSTRAINTS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of features")
    parser.add_argument(
        "--results", type=Path, default=Path(tempfile.gettempdir()) / "skfairft-tradeoff-results"
    )
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument("--score-only", action="store_true")
    parser.add_argument("--docs", type=Path, help="folder to write scores, tables and picture to")
    parser.add_argument("--rows", type=Path, help="scores to make the tables of")
    parser.add_argument("--all", action="store_true", help="print every score of every task")
    options = parser.parse_args()
    quiet()

    found = stored(options.rows) if options.rows else _run(options)
    scores = as_frame(found["scores"])
    curves = scores[~scores["method"].str.startswith(ASKED)]
    text = tables.markdown(curves) if options.all else page(scores, found["best"])
    if options.docs is None:
        print(text)
        return
    (options.docs / "tradeoff_tables.md").write_text(text, encoding="utf-8")
    plot_curves(curves, options.docs / "images" / "tradeoff_curves.png")
    plot_lead(curves, options.docs / "images" / "tradeoff_lead.png")
    # No time of writing, so that the same scores are the same file.
    packed = gzip.compress(json.dumps(found, separators=(",", ":")).encode(), mtime=0)
    (options.docs / "tradeoff.json.gz").write_bytes(packed)


def stored(path: Path) -> dict[str, Any]:
    """Return what an earlier run wrote."""
    return dict(json.loads(gzip.decompress(path.read_bytes())))


def page(scores: pd.DataFrame, best: list[dict[str, Any]]) -> str:
    """Return the tables of the documentation."""
    asked = scores["method"].str.startswith(ASKED)
    curves = scores[~asked]
    seeds = curves.groupby("dataset", sort=False)["seed"].nunique()
    numbers = sorted(set(seeds), reverse=True)
    several = (
        f"{numbers[0]} of each task"
        if len(numbers) == 1
        else "; ".join(
            f"{n} of {'all others' if n == numbers[0] else ', '.join(seeds.index[seeds == n])}"
            for n in reversed(numbers)
        )
    )
    parts = [
        ("Against each method", tables.verdicts(curves)),
        ("Held out like the others", tables.verdicts(curves, "ours, plug-in, held out")),
        ("Beside the best peer", tables.against_peers(curves)),
        ("At a budget", tables.at_budgets(curves)),
        (
            f"Asked for the bounds {', '.join(map(str, ASKED_BOUNDS))}",
            _asked(scores[asked]) if asked.any() else "",
        ),
        ("Beside the best that there is", tables.regrets(curves, best, MAIN)),
        ("Time", tables.times(scores, [name for name in MAIN if name.startswith(tables.OURS)])),
        ("Hypervolume", tables.overview(curves)),
        ("What failed", _failures(scores)),
    ]
    head = (
        "# The trade-off beside other packages: tables\n\nAs `benchmarks/tradeoff.py` wrote them; "
        f"what they say is in [the text](tradeoff.md). Seeds: {several}.\n"
    )
    return head + "".join(f"\n## {title}\n\n{text}" for title, text in parts if text)


def _asked(scores: pd.DataFrame) -> str:
    """Return the tables of what tools gave that were asked for bounds."""
    own = f"{ASKED}ours"
    return (
        f"Hypervolume:\n\n{tables.verdicts(scores, own)}\n"
        "Err + excess, of which less is better:\n\n"
        f"{tables.verdicts(scores, own, 'mean cost', least=True)}\n{tables.asked_table(scores)}"
    )


def _failures(scores: pd.DataFrame) -> str:
    failed = scores[scores["failed"]]
    if not len(failed):
        return ""
    counts = failed.groupby(["method", "dataset", "constraint", "why"], sort=True)["seed"].count()
    rows = [[*key[:2], tables.SYMBOL[key[2]], n, key[3]] for key, n in counts.items()]
    return tables.table_of(["method", "task", "Δ", "seeds", "why"], rows) + "\n"


def as_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return stored scores as those that were computed."""
    frame = pd.DataFrame(rows)
    frame["front"] = [None if front is None else np.array(front) for front in frame["front"]]
    return frame


def _run(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is not there, and return the scores of each seed, and what there is to reach."""
    datasets = []
    for name in options.datasets:
        lacking = missing(name)
        if lacking is None or options.score_only:
            datasets.append(name)
        else:
            print(f"{name} is left out: {lacking}")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    chosen = datasets, options.constraints, options.methods
    if not options.score_only:
        run_all(*chosen, seeds, options.cache, options.results, options.retry)

    results = [
        r
        for r in read(options.results)
        if r["dataset"] in datasets and r["constraint"] in options.constraints
        if r["method"] in {*options.methods, "logistic regression"} and r["seed"] in seeds
    ]
    if not results:
        sys.exit(f"Nothing to score in {options.results}.")
    order = {name: i for i, name in enumerate(DATASETS)}
    results.sort(key=lambda r: (order[r["dataset"]], r["constraint"], r["seed"]))
    frame = score(results)
    fronts = [None if front is None else front.round(5).tolist() for front in frame.pop("front")]
    rows = json.loads(frame.to_json(orient="records", double_precision=5))
    for row, front in zip(rows, fronts, strict=True):
        for name in [name for name, value in row.items() if value is None]:
            del row[name]
        row["front"] = front
    best = tables.best_there_is(dict.fromkeys(frame["dataset"]), options.constraints)
    return {"versions": results[-1]["versions"], "best": best, "scores": rows}


if __name__ == "__main__":
    main()
