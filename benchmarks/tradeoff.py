"""Error against disparity: fair classifiers of several packages on the same frozen features.

Six tasks (UCI Adult on three widths of a pre-trained network, by sex or by sex and race; faces of
LFW and CelebA on a ResNet-18), two constraints, and many splits: each method makes a curve of
candidates, from the most accurate to the fairest. Its candidates on the Pareto front of val are
judged on test, by the hypervolume they dominate and by the error at a budget of disparity. What is
in ``_tradeoff``: data.py the tasks, peers.py the methods, run.py the runs, score.py the scores.

Each curve is stored in the folder ``--results`` at once, and what is there is not computed again:
the benchmark can be stopped and goes on where it was. ``--score-only`` computes nothing.

The tasks with faces need the folder that the environment variable SKFAIRFT_DATA names; the other
methods need fairlearn, concept-erasure, fairret, oxonfair and aif360.

Run ``python benchmarks/tradeoff.py [--datasets adult-64 lfw] [--seeds 10] [--plot FILE]``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from _tradeoff.asked import BOUNDS as ASKED_BOUNDS
from _tradeoff.data import DATASETS, DEFAULT_CACHE, missing
from _tradeoff.ours import add_unions
from _tradeoff.peers import CONSTRAINTS, METHODS, quiet
from _tradeoff.run import read, run_all
from _tradeoff.score import (
    ASKED,
    OURS,
    against_peers,
    asked_table,
    markdown,
    overview,
    plot,
    score,
)


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
    parser.add_argument("--json", type=Path, help="write the scores of each seed")
    parser.add_argument("--markdown", type=Path, help="write the tables (default: print them)")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    quiet()

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
    results = add_unions(results)
    order = {name: i for i, name in enumerate(DATASETS)}
    results.sort(key=lambda r: (order[r["dataset"]], r["constraint"], r["seed"]))
    everything = score(results)
    asked = everything["method"].str.startswith(ASKED)
    scores = everything[~asked]
    text = f"## Hypervolume\n\n{overview(scores)}\n"
    if asked.any():
        text += f"## Asked for the bounds {ASKED_BOUNDS}\n\n{asked_table(everything[asked])}\n"
    for name in dict.fromkeys(scores["method"]):
        if name.startswith(OURS):
            text += f"## {name}, beside the best peer\n\n{against_peers(scores, name)}\n"
    text += f"## All scores\n\n{markdown(scores)}"
    failures = [r for r in results if r["error"] is not None]
    if failures:
        text += f"\n{len(failures)} of {len(results)} curves failed:\n"
        for r in failures:
            what = f"{r['method']}, {r['dataset']}, {r['constraint']}, seed {r['seed']}"
            text += f"\n- {what}: {r['error'].splitlines()[0][:150]}"
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    else:
        print(text)
    if options.json:
        fronts = [None if not hasattr(f, "tolist") else f.tolist() for f in everything["front"]]
        rows = json.loads(everything.drop(columns="front").to_json(orient="records"))
        rows = [{**row, "front": front} for row, front in zip(rows, fronts, strict=True)]
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if options.plot:
        plot(scores, options.plot)


if __name__ == "__main__":
    main()
