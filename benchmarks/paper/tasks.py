"""The tasks: features, labels, groups and the layer to factorize, one split per seed.

================================== ==============================================================
task                               what it is
================================== ==============================================================
adult                              income given sex; the network f_B is d -> 10 -> 2, its head 10x2
adult, f_F DP 0.1 ... f_F EO 0.9   the same on the six networks that were pre-trained fairly
adult, hidden layer                income given sex; the 64x64 ReLU layer of a network with two
adult by sex and race (, hidden)   four groups: women and men, White or not
occupation                         14 occupations given sex, from the other columns, no network
lfw-male, lfw-makeup, celeba       Male given Heavy_Makeup; Heavy_Makeup given Male; Wavy_Hair
                                   given Male. Then the backbone, then the layer: "last" is a
                                   d x 2 head fitted on the features, "layer" the backbone's own
                                   pre-trained last layer (512x35, 1280x1000) with a new output
celeba by sex and age              Wavy_Hair given Male and Young: four groups
hair                               black, blond, brown, grey or other hair given Male
separate signals                   synthetic: six classes, each of two groups has its own features
================================== ==============================================================

Adult: 60 % of the rows pre-train, the other 40 % are the new task, divided into train, val and test
in the proportions of the paper's Table 1 (12,287 : 5,000 : 10,315), stratified by label and group.
Faces: nobody is in two parts; people are divided 52.4 : 7.6 : 40 for LFW (Table 1's proportions)
and 60 : 10 : 30 for CelebA (Table 1 tests on 4 %, too few for rates by group).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from _shared.adult import Adult, encode, load_adult
from _shared.faces import Faces, backbone_head, load_faces
from _shared.faces import missing as missing_faces
from sklearn.model_selection import train_test_split
from torch import nn

from skfairft.datasets import fetch_adult

from .pretrain import pretrain

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
from adult_demo import pretrain as pretrain_demo

INTENSITIES = (0.1, 0.5, 0.9)
PENALTIES = {"DP": "demographic_parity", "EO": "equalized_odds"}
# Data, label, group, and fractions of the people for val and test.
FACES: dict[str, tuple[str, str | None, str, float, float]] = {
    "lfw-male": ("lfw", "Male", "Heavy_Makeup", 1000 / 13143, 5258 / 13143),
    "lfw-makeup": ("lfw", "Heavy_Makeup", "Male", 1000 / 13143, 5258 / 13143),
    "celeba": ("celeba", "Wavy_Hair", "Male", 0.1, 0.3),
    "celeba by sex and age": ("celeba", "Wavy_Hair", "Male", 0.1, 0.3),
    "hair": ("celeba", None, "Male", 0.1, 0.3),
}
HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
ADULT_VAL, ADULT_TEST = 5000 / 27602, 10315 / 27602
DEFAULT_CACHE = Path(tempfile.gettempdir()) / "skfairft-paper"


@dataclass(frozen=True)
class Store:
    """Where networks and features are kept, and how many images of each dataset to use."""

    folder: Path
    limit: int | None = None


@dataclass(frozen=True)
class Part:
    """Rows of one part."""

    Z: np.ndarray  # (n, d) float32, features
    y: np.ndarray  # (n,) codes 0..k-1
    s: np.ndarray  # (n,) codes 0..G-1
    X: np.ndarray | None = None  # (n, D), inputs of the network, for Adult

    def take(self, rows: np.ndarray) -> Part:
        """Return some of the rows."""
        return Part(
            self.Z[rows],
            self.y[rows],
            self.s[rows],
            None if self.X is None else self.X[rows],
        )


@dataclass(frozen=True)
class Task:
    """One task under one seed.

    ``head`` is the pre-trained layer to factorize (None: a linear head is fitted first), ``model``
    the whole pre-trained network, for Adult; ``rank`` is the one of the main comparison.
    """

    name: str
    seed: int
    train: Part
    val: Part
    test: Part
    head: nn.Module | None = None
    model: nn.Sequential | None = None
    rank: int = 1

    @property
    def hidden(self) -> bool:
        """Whether a new output layer follows the layer that is factorized."""
        return self.head is not None and self.head_shape[1] != self.n_classes

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.train.y.max()) + 1

    @property
    def head_shape(self) -> tuple[int, int]:
        """Inputs and outputs of the layer to factorize."""
        if self.head is None:
            return self.train.Z.shape[1], self.n_classes
        linear = self.head if isinstance(self.head, nn.Linear) else self.head[0]
        return linear.in_features, linear.out_features


def load(name: str, seed: int, store: Store) -> Task:
    """Return a task; networks and features that are not in the store are made first."""
    return _MAKERS[name](name, seed, store)


def names() -> list[str]:
    """Return the names of all tasks."""
    return list(_MAKERS)


def missing(name: str) -> str | None:
    """Return what a task lacks here, and where to get it; None if nothing."""
    source = faces_of(name)
    return None if source is None else missing_faces(*source)


def faces_of(name: str) -> tuple[str, str] | None:
    """Return the face data and the backbone that a task needs; None for Adult and synthetic."""
    first, *rest = name.split(", ")
    return (FACES[first][0], rest[0]) if first in FACES else None


# --- Adult


@lru_cache(maxsize=1)
def _adult(seed: int) -> Adult:
    return load_adult(seed)


def _adult_parts(data: Adult, seed: int) -> dict[str, np.ndarray]:
    """Return the new task's rows of each part."""
    return _three_parts(data.task, (data.y + 2 * data.female)[data.task], seed)


def _three_parts(rows: np.ndarray, cells: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Divide rows of a new task in the proportions of the paper's Table 1."""
    numbers = np.arange(len(rows))
    rest, test = train_test_split(numbers, test_size=ADULT_TEST, random_state=seed, stratify=cells)
    train, val = train_test_split(
        rest, test_size=ADULT_VAL / (1 - ADULT_TEST), random_state=seed, stratify=cells[rest]
    )
    return {"train": rows[train], "val": rows[val], "test": rows[test]}


def _cached_network(path: Path, make: Callable[[], nn.Sequential]) -> nn.Sequential:
    """Return the network of a file, which is trained and written first if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        torch.save(make(), partial)
        partial.replace(path)
    # The files are our own, and hold modules of torch only.
    return torch.load(path, weights_only=False).eval()


def _adult_task(name: str, seed: int, store: Store) -> Task:
    data = _adult(seed)
    X, y, sex = (values[data.pre] for values in (data.X, data.y, data.female))
    hidden = name.endswith("hidden layer")
    if hidden:
        path = store.folder / f"adult-64-{seed}.pt"
        model = _cached_network(path, lambda: pretrain_demo(X, y, seed))
        body, head, rank = model[:2], model[2:4], 2
    else:
        settings, slug = {}, "f_B"
        if "f_F" in name:
            kind, intensity = name.split("f_F ")[1].split()
            slug = f"f_F-{kind}-{intensity}"
            settings = {"constraint": PENALTIES[kind], "intensity": float(intensity)}
        path = store.folder / f"adult-10-{slug}-{seed}.pt"
        model = _cached_network(path, lambda: pretrain(X, y, sex, seed=seed, **settings))
        body, head, rank = model[:-1], model[-1], 1
    with torch.no_grad():
        Z = body(torch.from_numpy(data.X)).numpy()
    s = data.female + 2 * data.white if "sex and race" in name else data.female
    parts = [
        Part(*(values[rows] for values in (Z, data.y, s, data.X)))
        for rows in _adult_parts(data, seed).values()
    ]
    return Task(name, seed, *parts, head=head, model=model, rank=rank)


def _occupation(name: str, seed: int, store: Store) -> Task:
    X, _, s = fetch_adult(return_X_y_s=True)
    known = X["occupation"].notna().to_numpy()
    X, female = X[known], (s["sex"] == "Female").to_numpy()[known].astype(np.int64)
    y = X["occupation"].cat.codes.to_numpy().astype(np.int64)
    X = X.drop(columns="occupation")
    # Two of the 14 have so few women (or rows) that both cannot be stratified for.
    _, task = train_test_split(np.arange(len(y)), test_size=0.4, random_state=seed, stratify=y)
    rows = _three_parts(task, y[task], seed)
    Z = encode(X, rows["train"])
    parts = [Part(Z[rows[part]], y[rows[part]], female[rows[part]]) for part in rows]
    return Task(name, seed, *parts, rank=4)


# --- Faces


@lru_cache(maxsize=2)
def _faces(dataset: str, backbone: str, store: Store) -> Faces:
    return load_faces(dataset, backbone, store.folder, store.limit)


def _face_task(name: str, seed: int, store: Store) -> Task:
    what, backbone, layer = name.split(", ")
    dataset, label, group, val_share, test_share = FACES[what]
    faces = _faces(dataset, backbone, store)
    marked = faces.attributes.astype(np.int64)
    y = _hair(marked) if label is None else marked[label].to_numpy()
    s = marked[group].to_numpy()
    if what.endswith("age"):
        s = s + 2 * marked["Young"].to_numpy()
    parts = _by_people(faces.people, val_share, test_share, seed)
    return Task(
        name,
        seed,
        *(Part(faces.Z[rows], y[rows], s[rows]) for rows in parts),
        head=backbone_head(backbone) if layer == "layer" else None,
        rank=2 if layer == "layer" or what == "hair" else 1,
    )


def _hair(attributes) -> np.ndarray:
    """Return the first colour that is marked, in the order of `HAIR`; the last class is none."""
    marked = attributes[list(HAIR)].to_numpy().astype(bool)
    return np.where(marked.any(axis=1), marked.argmax(axis=1), len(HAIR)).astype(np.int64)


def _by_people(
    people: np.ndarray, val_share: float, test_share: float, seed: int
) -> tuple[np.ndarray, ...]:
    """Return the rows of train, val and test, which share nobody."""
    order = np.random.default_rng(seed).permutation(np.unique(people))
    n_test, n_val = round(test_share * len(order)), round(val_share * len(order))
    who = (order[n_test + n_val :], order[n_test : n_test + n_val], order[:n_test])
    return tuple(np.flatnonzero(np.isin(people, some)) for some in who)


# --- Synthetic


def _separate_signals(name: str, seed: int, store: Store) -> Task:
    """Six classes and 40 features, each half of which is all but silent in one of the groups.

    A tenth of the rows are of group 1, whose classes are half as far apart. So the groups' Fisher
    information differs as much as it can, and a head that is cut to low rank can keep what tells
    one group's classes apart and lose the other's: made to suit neutralization.
    """
    rng = np.random.default_rng(seed)
    n, k, half = 6000, 6, 20
    s = (rng.random(n) < 0.1).astype(np.int64)
    y = rng.integers(k, size=n)
    Z = 0.1 * rng.normal(size=(n, 2 * half))
    for group, strength in ((0, 1.0), (1, 0.5)):
        rows = np.flatnonzero(s == group)
        means = strength * rng.normal(size=(k, half))
        own = slice(group * half, (group + 1) * half)
        Z[rows, own] = rng.normal(size=(len(rows), half)) + means[y[rows]]
    rows = _three_parts(np.arange(n), y + k * s, seed)
    Z = Z.astype(np.float32)
    return Task(name, seed, *(Part(Z[i], y[i], s[i]) for i in rows.values()), rank=3)


_MAKERS: dict[str, Callable[[str, int, Store], Task]] = {
    "adult": _adult_task,
    **{f"adult, f_F {kind} {i}": _adult_task for kind in PENALTIES for i in INTENSITIES},
    "adult, hidden layer": _adult_task,
    "adult by sex and race": _adult_task,
    "adult by sex and race, hidden layer": _adult_task,
    "occupation": _occupation,
    **{
        f"{what}, {backbone}, {layer}": _face_task
        for what in ("lfw-male", "lfw-makeup", "celeba")
        for backbone in ("resnet18", "mobilenet_v2")
        for layer in ("last", "layer")
    },
    "celeba by sex and age, resnet18, layer": _face_task,
    "hair, resnet18, last": _face_task,
    "separate signals": _separate_signals,
}


def few_rows(part: Part, n: int, seed: int) -> Part:
    """Return n rows at random, but at least one of each cell of label and group that occurs."""
    order = np.random.default_rng(seed).permutation(len(part.y))
    cells = part.y * (part.s.max() + 1) + part.s
    _, first = np.unique(cells[order], return_index=True)
    rest = np.setdiff1d(np.arange(len(order)), first)
    return part.take(order[np.concatenate([first, rest])[:n]])


def with_train(task: Task, train: Part) -> Task:
    """Return a task with other training rows."""
    return replace(task, train=train)
