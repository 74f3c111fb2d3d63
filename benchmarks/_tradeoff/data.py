"""Frozen features, labels and groups of six tasks, cached as npz files.

============================ ===== ==================== ==================================
task                         width label given group    rows of one seed
============================ ===== ==================== ==================================
adult-10, -64, -128          d     income given sex     the 40 % that did not pre-train
adult-64-sex-race            64    income given sex     the same
                                   and White or not
lfw                          512   Heavy_Makeup given   all 13,143 images
                                   Male
celeba                       512   Wavy_Hair given Male the 23,415 images of odd identities
============================ ===== ==================== ==================================

Adult: for each seed, 60 % of the rows pre-train a ReLU network with two hidden layers of d units,
and the features of the other 40 % are its last hidden activations; these rows are split 40/20/40
into train, val and test, stratified by label and group. (Of the ten groups of sex and race, the
smallest would have some 25 test rows and hardly any positive one; so race is White or not.)

Images: the pooled output of a ResNet-18 at 64 px. Nobody is in two parts: for each seed, 40 % of
the people are the test part and a third of the others are val. `_shared.faces` says which files
it takes; the table above is of the small copies of the images and the ResNet-18 trained on CelebA.

Features are standardized with mean and standard deviation of the train part, for all methods.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _shared import faces
from _shared.adult import load_adult
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
from adult_demo import pretrain

ADULT = {"adult-10": 10, "adult-64": 64, "adult-128": 128, "adult-64-sex-race": 64}
IMAGES = {"lfw": "Heavy_Makeup", "celeba": "Wavy_Hair"}  # their labels
DATASETS = [*ADULT, *IMAGES]
DEFAULT_CACHE = Path(tempfile.gettempdir()) / "skfairft-tradeoff"


@dataclass(frozen=True)
class Part:
    """Rows of one part: features, labels, groups."""

    Z: np.ndarray  # (n, d) float32
    y: np.ndarray  # (n,) 0 or 1
    s: np.ndarray  # (n,) codes 0..G-1


@dataclass(frozen=True)
class Split:
    """One task under one seed."""

    name: str
    seed: int
    train: Part
    val: Part
    test: Part
    n_groups: int


def load(name: str, seed: int, cache: Path | str = DEFAULT_CACHE) -> Split:
    """Return a task's split; what is not in the folder ``cache`` is made first.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    seed : int
        Of the split and, for Adult, of the network.
    cache : path
        Folder of the features.

    Returns
    -------
    Split
        With standardized features.
    """
    cache = Path(cache)
    if name in ADULT:
        width = ADULT[name]
        stored = faces.cached(cache / f"adult-{width}-{seed}.npz", lambda: _adult(width, seed))
        Z, y = stored["Z"], stored["y"]
        s = stored["sex"] + 2 * stored["white"] if name.endswith("sex-race") else stored["sex"]
        cells = y + 2 * s
        dev, test = train_test_split(
            np.arange(len(y)), test_size=0.4, random_state=seed, stratify=cells
        )
        train, val = train_test_split(dev, test_size=1 / 3, random_state=seed, stratify=cells[dev])
    else:
        images = faces.load_faces(name, "resnet18", cache)
        Z, people = images.Z, images.people
        y, s = (images.attributes[key].to_numpy() for key in (IMAGES[name], "Male"))
        order = np.random.default_rng(seed).permutation(np.unique(people))
        n_test = round(0.4 * len(order))
        n_val = round((len(order) - n_test) / 3)
        who = (order[n_test + n_val :], order[n_test : n_test + n_val], order[:n_test])
        train, val, test = (np.flatnonzero(np.isin(people, some)) for some in who)
    scaler = StandardScaler().fit(Z[train].astype(np.float64))
    parts = [
        Part(scaler.transform(Z[rows].astype(np.float64)).astype(np.float32), y[rows], s[rows])
        for rows in (train, val, test)
    ]
    return Split(name, seed, *parts, n_groups=int(s.max()) + 1)


def missing(name: str) -> str | None:
    """Return what a task lacks here."""
    return None if name in ADULT else faces.missing(name, "resnet18")


def _adult(width: int, seed: int) -> dict[str, np.ndarray]:
    """Pre-train a network, and return its features of the rows that it did not see."""
    adult = load_adult(seed)
    body = pretrain(adult.X[adult.pre], adult.y[adult.pre], seed, width)[:-1]
    with torch.no_grad():
        Z = body(torch.from_numpy(adult.X[adult.task])).numpy()
    return {
        "Z": Z,
        "y": adult.y[adult.task],
        "sex": adult.female[adult.task],
        "white": adult.white[adult.task],
    }
