"""How long the package takes, beside what a user would do instead, and how that grows.

Each row is one task at one size: the median seconds of each way to do it, in turn, and the median
over the rounds of the ratio of ours to that way. Ours is always the whole, as for the first time:

- **a head**: a fit of two classes, against scikit-learn's logistic regression on standardized
  features, plain skorch and a plain loop of torch (20 epochs of Adam in batches of 128);
- **several classes**, **wide features**: a fit at full rank, against logistic regression that stops
  where it does by default, and one that runs on until its gradient is as small as ours (1e-12);
- **prediction**: `predict`, against logistic regression and the bare product in single precision;
- **one new row**: `predict` of one image with its backbone, against the same without a memory of
  features, `to_torch`, and the backbone and head alone;
- **Fisher information**: of a layer by group, against the product that gives its outputs, and
  against gradients sample by sample (``torch.func``, and BackPACK where it is installed);
- **metrics**: of predictions, against fairlearn;
- **memory**: what a fit takes at its peak beside its features, as a share of these, in a process of
  its own (on Linux);
- **growth**: a fit by rows n, features d, groups G and classes k, with the exponent.

Run ``python benchmarks/speed.py [--tasks NAME ...] [--results FILE] [--json FILE] [--markdown
FILE]``; what is in ``--results`` is not measured again. ``--smoke`` is small and stores nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _shared.resnet18 import ResNet18
from _shared.rows import resumed
from _shared.timing import exponent, in_turn, machine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_data import bare_torch, plain_skorch
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.head.measure import forget
from skfairft.lowrank.fisher import layer_fisher
from skfairft.metrics import demographic_parity_distance, equalized_odds_distance
from skfairft.rows.tensor_rows import TensorRows

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from mobilenet_v2 import MobileNetV2

AS_FAR = 1e-12


class Case(NamedTuple):
    """One size of a task: ways to do it by their names, the first of which is ours."""

    size: str
    systems: dict[str, Callable[[], Any]]
    repeats: int = 5
    grows: tuple[str, float] | None = None  # the letter and its value
    peaks: bool = False  # measure memory, not time


def made_up(n: int, d: int, k: int = 2, G: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features as of a network, correlated and of a spectrum that decays, labels, groups."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n, min(64, d)))
    mixed = np.maximum(hidden @ rng.normal(size=(hidden.shape[1], d)) / 8.0, 0.0)
    X = (mixed + 0.3 * rng.normal(size=(n, d))).astype(np.float32)
    scores = hidden @ rng.normal(size=(hidden.shape[1], k)) / 2.0 + rng.gumbel(size=(n, k))
    return X, scores.argmax(axis=1), rng.integers(G, size=n)


def ours(
    X: np.ndarray, y: np.ndarray, s: np.ndarray, rank: int | None = None, **settings: Any
) -> Any:
    """Fit as for the first time."""
    forget()
    return FairLowRankHeadClassifier(rank=rank, **settings).fit(X, y, sensitive_features=s)


def logistic_regression(X: np.ndarray, y: np.ndarray, tol: float = 1e-4) -> Any:
    """Fit scikit-learn's classifier; its gradient ends below ``tol``."""
    model = LogisticRegression(max_iter=100_000, tol=tol)
    return make_pipeline(StandardScaler(), model).fit(X, y)


def _head(small: bool) -> Iterator[Case]:
    sizes = [(200, 16), (1_000, 64), (12_000, 64), (50_000, 128)]
    for n, d in sizes[: 1 if small else None]:
        X, y, s = made_up(n, d)
        yield Case(
            f"{n:,} x {d}",
            {
                "ours": partial(ours, X, y, s, 1),
                "logistic regression": partial(logistic_regression, X, y),
                "plain skorch": partial(plain_skorch, X, y, s),
                "bare torch": partial(bare_torch, X, y, s),
            },
            repeats=7,
        )


def _against_regression(sizes: list[tuple[int, int, int]]) -> Iterator[Case]:
    for n, d, k in sizes:
        X, y, s = made_up(n, d, k)
        yield Case(
            f"{n:,} x {d}, {k:,} classes",
            {
                "ours": partial(ours, X, y, s),
                "logistic regression": partial(logistic_regression, X, y),
                "logistic regression, as far": partial(logistic_regression, X, y, AS_FAR),
            },
            repeats=3,
        )


def _classes(small: bool) -> Iterator[Case]:
    large = [(5_000, 16, 6), (20_000, 64, 20), (5_000, 128, 100), (10_000, 64, 1_000)]
    yield from _against_regression([(200, 8, 3)] if small else large)


def _wide(small: bool) -> Iterator[Case]:
    widths = [32] if small else [512, 1_024, 2_048, 4_096]
    yield from _against_regression([(200 if small else 20_000, d, 2) for d in widths])


def _prediction(small: bool) -> Iterator[Case]:
    for n, d in [(64, 8)] if small else [(1, 512), (1_024, 512), (100_000, 512)]:
        X, y, s = made_up(max(n, 1_000), d)
        clf, model = ours(X, y, s, 1), logistic_regression(X, y)
        weight = torch.randn(2, d)
        rows, tensor = X[:n], torch.from_numpy(X[:n])
        yield Case(
            f"{n:,} x {d}",
            {
                "ours": partial(clf.predict, rows),
                "logistic regression": partial(model[-1].predict, rows),
                "bare product": lambda t=tensor, w=weight: (t @ w.T).argmax(1).numpy(),
            },
            repeats=31,
        )


def _one_row(small: bool) -> Iterator[Case]:
    for kind in [ResNet18] if small else [MobileNetV2, ResNet18]:
        torch.manual_seed(0)
        backbone = kind(64).eval()
        images = torch.rand(24, 3, 96, 96)
        y, s = np.arange(24) % 2, np.arange(24) // 2 % 2
        clf, forgetful = (
            FairLowRankHeadClassifier(FrozenFeatureExtractor(backbone, memory=memory), rank=1)
            for memory in (None, False)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of such few rows
            for each in (clf, forgetful):
                each.fit(images, y, sensitive_features=s)
        whole = nn.Sequential(copy.deepcopy(backbone), nn.Linear(64, 2))

        @torch.inference_mode()
        def alone(model: nn.Module) -> Any:
            return model(torch.rand(1, 3, 96, 96))

        def by(model: FairLowRankHeadClassifier) -> Any:
            return model.predict(torch.rand(1, 3, 96, 96))

        yield Case(
            f"{kind.__name__}, 96 x 96",
            {
                "ours": partial(by, clf),
                "memory=False": partial(by, forgetful),
                "to_torch": partial(alone, clf.to_torch()),
                "backbone and head": partial(alone, whole),
            },
            repeats=3 if small else 31,
        )


def _fisher(small: bool) -> Iterator[Case]:
    sizes = [(200, 8, 2)] if small else [(100_000, 64, 2), (20_000, 64, 1_000), (20_000, 512, 100)]
    for n, d, k in sizes:
        X, y, s = made_up(n, d, k)
        Z, labels, codes = map(torch.from_numpy, (X, y, s))
        rows = TensorRows(Z, labels, None, codes)
        single = nn.Linear(d, k).requires_grad_(False)
        layer = copy.deepcopy(single).double()
        few = min(n, 2_000)  # of those that go sample by sample
        own, weight = TensorRows(Z[:few], labels[:few], None, codes[:few]), single.weight.T
        systems = {
            "ours": partial(layer_fisher, rows, n_groups=2, layer=layer),
            "the product": lambda Z=Z, weight=weight: Z @ weight,
        }
        yield Case(f"{n:,} x {d}, {k:,} outputs", systems)
        systems = {
            "ours": partial(layer_fisher, own, n_groups=2, layer=layer),
            "torch.func": partial(_by_sample, own, single),
        }
        if find_spec("backpack"):
            systems["BackPACK"] = partial(_by_backpack, own, single)
        yield Case(f"{few:,} x {d}, {k:,} outputs", systems)


def _by_sample(rows: TensorRows, layer: nn.Linear) -> torch.Tensor:
    def loss(weight: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(z @ weight.T + layer.bias, y)

    gradient = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    found = []
    for group in (0, 1):
        own = rows.codes == group
        parts = zip(rows.Z[own].split(64), rows.y[own].split(64), strict=True)
        found.append(sum(gradient(layer.weight, *part).square().sum((0, 1)) for part in parts))
    return torch.stack(found)


def _by_backpack(rows: TensorRows, layer: nn.Linear) -> torch.Tensor:
    from backpack import backpack, extend
    from backpack.extensions import SumGradSquared

    head, loss = extend(copy.deepcopy(layer).requires_grad_()), extend(nn.CrossEntropyLoss())
    found = []
    for group in (0, 1):
        own = rows.codes == group
        head.zero_grad()
        with backpack(SumGradSquared()):
            loss(head(rows.Z[own]), rows.y[own]).backward()
        found.append(head.weight.sum_grad_squared.sum(0))
    return torch.stack(found)


def _metrics(small: bool) -> Iterator[Case]:
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    for n in [200] if small else [10_000, 1_000_000]:
        rng = np.random.default_rng(0)
        y, found, s = rng.integers(2, size=(3, n))
        for name, own, theirs in (
            ("demographic parity", demographic_parity_distance, demographic_parity_difference),
            ("equalized odds", equalized_odds_distance, equalized_odds_difference),
        ):
            systems = {"ours": partial(own, y, found, sensitive_features=s)}
            systems["fairlearn"] = partial(theirs, y, found, sensitive_features=s)
            yield Case(f"{name}, {n:,} rows", systems)


def _memory(small: bool) -> Iterator[Case]:
    for n, d in [(20_000, 64)] if small else [(100_000, 512)]:
        with_bound = {"constraint": "demographic_parity", "fairness_weight": 0.5}
        yield Case(
            f"{n:,} x {d}",
            {
                "ours": partial(_peak, n, d, "ours", {}),
                "ours, constrained": partial(_peak, n, d, "ours", with_bound),
                "ours, plug-in": partial(_peak, n, d, "ours", {**with_bound, "solver": "plug_in"}),
                "logistic regression": partial(_peak, n, d, "logistic regression", {}),
            },
            peaks=True,
        )


def _peak(n: int, d: int, system: str, settings: dict[str, Any]) -> float:
    """Return what a fit takes beside its features, in a process of its own, as a share of them."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_here, n, d, system, settings).result()


def _peak_here(n: int, d: int, system: str, settings: dict[str, Any]) -> float:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, y, s = made_up(n, d)
    for rows in (slice(200), slice(None)):  # first what is loaded and kept by any fit
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        before = _resident("VmRSS")
        if system == "ours":
            ours(X[rows], y[rows], s[rows], 1, **settings)
        else:
            logistic_regression(X[rows], y[rows])
    return (_resident("VmHWM") - before) / X.nbytes


def _resident(name: str) -> int:
    """Return bytes, of what is resident or has been at most."""
    (line,) = [line for line in Path("/proc/self/status").read_text().split("\n") if name in line]
    return 1024 * int(line.split()[1])


def _growth(small: bool) -> Iterator[Case]:
    base = {"n": 20_000, "d": 64, "G": 2, "k": 2}
    sizes = {
        "n": [10_000, 100_000, 1_000_000],
        "d": [128, 512, 2_048, 4_096],
        "G": [2, 8, 64],
        "k": [2, 10, 100, 1_000],
    }
    if small:
        base, sizes = {**base, "n": 200}, {"d": [4, 8], "G": [2, 4]}
    for letter, values in sizes.items():
        for value in values:
            of = {**base, letter: value}
            fit = partial(ours, *made_up(of["n"], of["d"], of["k"], of["G"]))
            yield Case(f"{letter} = {value:,}", {"ours": fit}, 1 if small else 3, (letter, value))


TASKS: dict[str, Callable[[bool], Iterator[Case]]] = {
    "a head": _head,
    "several classes": _classes,
    "wide features": _wide,
    "prediction": _prediction,
    "one new row": _one_row,
    "Fisher information": _fisher,
    "metrics": _metrics,
    "memory": _memory,
    "growth": _growth,
}


def measured(task: str, small: bool, done: set[str]) -> Iterator[dict[str, Any]]:
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
            "median": {name: statistics.median(each) for name, each in seconds.items()},
            "ratio": {
                name: statistics.median(a / b for a, b in zip(first, each, strict=True))
                for name, each in seconds.items()
            },
            "machine": machine("scikit-learn", "skorch", "fairlearn"),
        }


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return a table for each task: seconds of ours, and its ratio to each other way."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        names = list(dict.fromkeys(name for row in own for name in row["median"]))[1:]
        if own[0]["grows"]:
            parts.append(f"**{task}**\n\n{_grown(own)}")
            continue
        timed = own[0]["unit"] == "seconds"
        heads = [f"/ {name}" for name in names] if timed else names
        lines = [f"| {task} | ours, {own[0]['unit']} | {' | '.join(heads)} |"]
        lines.append("|---" * (2 + len(names)) + "|")
        for row in own:
            others = row["ratio"] if timed else row["median"]
            shown = [f"{others[name]:.2g}" if name in others else "" for name in names]
            lines.append(f"| {row['size']} | {row['median']['ours']:.3g} | {' | '.join(shown)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _grown(rows: list[dict[str, Any]]) -> str:
    lines = ["| by | seconds | exponent |", "|---|---|---|"]
    for letter in dict.fromkeys(row["grows"][0] for row in rows):
        own = [row for row in rows if row["grows"][0] == letter]
        sizes, seconds = zip(
            *[(row["grows"][1], row["median"]["ours"]) for row in own], strict=True
        )
        shown = ", ".join(
            f"{size:,}: {each:.3g}" for size, each in zip(sizes, seconds, strict=True)
        )
        lines.append(f"| {letter} | {shown} | {exponent(sizes, seconds):.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is not there, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    default = Path(tempfile.gettempdir()) / "skfairft-speed.jsonl"
    parser.add_argument("--results", type=Path, default=default)
    parser.add_argument("--json", type=Path, help="write all rows")
    parser.add_argument("--markdown", type=Path, help="write the tables")
    parser.add_argument("--smoke", action="store_true", help="small, to see that it works")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for task in options.tasks:
        if options.smoke:
            rows += measured(task, True, set())
        else:
            found = resumed(options.results, partial(measured, task, False))
            rows += [row for row in found if row["task"] == task]
    if options.markdown:
        options.markdown.write_text(markdown(rows), encoding="utf-8")
    else:
        print(markdown(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
