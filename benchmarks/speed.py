"""How long the package takes, beside what a user would do instead, and how that grows.

Each row is one task at one size: the median seconds of each way to do it, in turn, and the median
over the rounds of the ratio of ours to that way. Ours is always the whole, as for the first time:

- **a head**: a fit of two classes, against scikit-learn's logistic regression on standardized
  features, plain skorch and a plain loop of torch (20 epochs of Adam in batches of 128);
- **several classes**, **wide features**: a fit at full rank, against logistic regression that stops
  where it does by default, one that is to run on until its gradient is as small (1e-12), and bare
  torch;
- **a search**: four ranks by three folds with a cheap backbone, against two processes that are
  running already, and a search of as many logistic regressions on its features;
- **a path**: `fairness_path` with 25 weights by the plug-in rule, against one fit to a bound, and
  fairlearn's ExponentiatedGradient for one;
- **prediction**: `predict`, against logistic regression and the bare product in single precision;
- **one new row**: `predict` of one image with its backbone, against the same without a memory of
  features, `to_torch`, and the backbone and head alone;
- **Fisher information**: of a layer by group, against the product that gives its outputs in single
  and in double precision, and against gradients sample by sample (``torch.func``, and BackPACK
  where it is installed: it takes torchvision, whose public wheels do not fit a torch without CUDA);
- **a cut**: of a layer to rank 16 by the covariances of its inputs, against a plain SVD of its
  weights and a randomized one;
- **a folder of features**: looking rows up in it, against copying them from a mapped array;
- **metrics**: of predictions, against fairlearn;
- **memory**: what a fit takes at its peak beside its features, as a share of these, in a process of
  its own (on Linux);
- **growth**: a fit by rows n, features d, groups G and classes k, with the exponent;
- **a GPU**, where there is one: Fisher information, against reading the features once, and features
  in bfloat16, against a bare loop.

Run ``python benchmarks/speed.py [--tasks NAME ...] [--results FILE] [--json FILE] [--page FILE]
[--plot FILE]`` with nothing else running; what is in ``--results`` is not measured again, and
``--rows`` makes tables and picture of what ``--json`` wrote. A page takes each table where it says
``<!-- task -->``. ``--smoke`` is small and stores nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from _shared.rows import resumed
from _shared.timing import exponent, in_turn, machine
from _speed import fits, parts
from _speed.cases import Case

TASKS: dict[str, Callable[[bool], Iterator[Case]]] = {
    "a head": fits.head,
    "several classes": fits.classes,
    "wide features": fits.wide,
    "a search": fits.search,
    "a path": fits.path,
    "prediction": parts.prediction,
    "one new row": parts.one_row,
    "Fisher information": parts.fisher,
    "a cut": parts.cut,
    "a folder of features": parts.folder,
    "metrics": parts.metrics,
    "memory": fits.memory,
    "growth": fits.growth,
    "a GPU": parts.device,
}

Row = dict[str, Any]


def measured(task: str, small: bool, done: set[str]) -> Iterator[Row]:
    """Yield the rows of a task that are not done."""
    for case in TASKS[task](small):
        if (key := f"{task}|{case.size}") in done:
            continue
        if case.peaks:
            seconds = {name: [action()] for name, action in case.systems.items()}
        else:
            seconds = in_turn(case.systems, 1 if small else case.repeats)
        first = next(iter(seconds.values()))
        yield {
            "key": key,
            "task": task,
            "size": case.size,
            "grows": case.grows,
            "unit": "times the features" if case.peaks else "seconds",
            "rounds": len(first),
            "median": {name: _short(statistics.median(each)) for name, each in seconds.items()},
            "ratio": {
                name: _short(statistics.median(a / b for a, b in zip(first, each, strict=True)))
                for name, each in seconds.items()
            },
            "machine": machine("scikit-learn", "skorch", "fairlearn"),
        }


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def tables(rows: list[Row]) -> dict[str, str]:
    """Return a table for each task: seconds of ours, and its ratio to each other way."""
    found = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        if own[0]["grows"]:
            found[task] = _grown(own)
            continue
        names = list(dict.fromkeys(name for row in own for name in row["median"]))[1:]
        timed = own[0]["unit"] == "seconds"
        heads = [f"/ {name}" for name in names] if timed else names
        lines = [f"| {task} | ours, {own[0]['unit']} | {' | '.join(heads)} |"]
        lines.append("|---" * (2 + len(names)) + "|")
        for row in own:
            others = row["ratio"] if timed else row["median"]
            shown = [f"{others[name]:.2g}" if name in others else "" for name in names]
            lines.append(f"| {row['size']} | {row['median']['ours']:.3g} | {' | '.join(shown)} |")
        found[task] = "\n".join(lines)
    return found


def in_page(page: str, rows: list[Row]) -> str:
    """Return a page with its tables made anew."""
    for task, table in tables(rows).items():
        place = re.compile(rf"(?<=<!-- {task} -->\n\n)(\|.*\n)*")
        page = place.sub(lambda _, table=table: table + "\n", page)
    return page


def _by_letter(rows: list[Row]) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield a letter, its values and the seconds of each."""
    for letter in dict.fromkeys(row["grows"][0] for row in rows):
        own = [row for row in rows if row["grows"][0] == letter]
        yield letter, [row["grows"][1] for row in own], [row["median"]["ours"] for row in own]


def _grown(rows: list[Row]) -> str:
    lines = ["| by | seconds | exponent |", "|---|---|---|"]
    for letter, sizes, seconds in _by_letter(rows):
        pairs = zip(sizes, seconds, strict=True)
        shown = ", ".join(f"{size:,}: {each:.3g}" for size, each in pairs)
        lines.append(f"| {letter} | {shown} | {exponent(sizes, seconds):.2f} |")
    return "\n".join(lines)


def plot(rows: list[Row], path: Any) -> None:
    """Draw how a fit grows with each size, and save the figure."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    whole = {"n": "rows", "d": "features", "G": "groups", "k": "classes"}
    grown = list(_by_letter([row for row in rows if row["grows"]]))
    figure, axes = plt.subplots(
        1, len(grown), figsize=(3 * len(grown), 3), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (letter, sizes, seconds) in zip(axes.flat, grown, strict=True):
        ax.loglog(sizes, seconds, marker="o", color="#0072B2")
        ax.set_title(f"exponent {exponent(sizes, seconds):.2f}", fontsize=10)
        ax.set_xlabel(whole[letter])
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("seconds of a fit")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Measure what is not there, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    default = Path(tempfile.gettempdir()) / "skfairft-speed.jsonl"
    parser.add_argument("--results", type=Path, default=default)
    parser.add_argument("--json", type=Path, help="write all rows")
    parser.add_argument("--page", type=Path, help="a page whose tables are to be made anew")
    parser.add_argument("--plot", type=Path, help="draw the growth")
    parser.add_argument("--rows", type=Path, help="rows to make tables and picture of")
    parser.add_argument("--smoke", action="store_true", help="small, to see that it works")
    options = parser.parse_args()
    rows: list[Row] = [] if options.rows is None else json.loads(options.rows.read_text())
    for task in [] if options.rows else options.tasks:
        if options.smoke:
            rows += measured(task, True, set())
        else:
            found = resumed(options.results, partial(measured, task, False))
            rows += [row for row in found if row["task"] == task]
    if options.page:
        text = in_page(options.page.read_text(encoding="utf-8"), rows)
        options.page.write_text(text, encoding="utf-8")
    else:
        print("\n\n".join(tables(rows).values()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
