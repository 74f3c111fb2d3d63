"""Frozen features, labels and groups of the tasks, cached as npz files.

======================== ===== ======================== ====================================
task                     width label given group        rows of one seed
======================== ===== ======================== ====================================
adult-10, -64, -128      d     income given sex         the 40 % that did not pre-train
adult-64-sex-race        64    income given sex         the same
                               and White or not
lfw                      512   Heavy_Makeup given       all 13,143 images
                               Male
celeba                   512   Wavy_Hair given Male     the 23,415 images of odd identities
bank                     64    subscription given age   the 40 % of 40,195 that did not
                               from 25 to 59 or not     pre-train
communities              99    much crime given many    all 1,969, no network
                               black people
communities-3            99    the same given tertiles  the same
adult-64-500             64    as adult-64              500 in train and val, all test rows
bank-500                 64    as bank                  the same
adult-64-race-sex-6      64    income given sex and     as adult-64
                               White, Black or other
adult-64-hours-3         64    hours a week below, at   as adult-64
                               or above 40, given sex
celeba-blond             512   Blond_Hair given Male    as celeba
celeba-young             512   Wavy_Hair given Young    as celeba
synthetic-G-n            16    see synthetic.py         n in train and val, 100,000 test rows
sentences                384   rated positive given     all 23,619
                               mention of women, of men
                               alone, or of neither
sentences-source         384   rated positive given     the same
                               film review, editorial,
                               review of goods or tweet
======================== ===== ======================== ====================================

The sentences are not of the trade-off, only of the benchmark of the worst group.

Adult and bank: for each seed, 60 % of the rows pre-train a ReLU network with two hidden layers of d
units, and the features of the other 40 % are its last hidden activations; these rows are split
40/20/40 into train, val and test, stratified by label and group. What makes the group is no input
of the network, nor are the hours where they are the label; that network, too, learns the income.
(Of the ten groups of sex and race, the smallest would have some 25 test rows and hardly any
positive one. Of the six with the rare races taken together it has 147 test rows, 13 of them
positive, so that equalized odds is largely chance there.)

Images: the pooled output of a ResNet-18 at 64 px. Nobody is in two parts: for each seed, 40 % of
the people are the test part and a third of the others are val. `_shared.faces` says which files
it takes; the table above is of the small copies of the images and the ResNet-18 trained on CelebA.
Blond_Hair is one of the attributes that it was trained on, on other people.

Sentences: the mean of MiniLM's last hidden states. No editorial and no review of goods is in two
parts; `_shared.sentences` says where they are from.

Features are standardized with mean and standard deviation of the train part, for all methods.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _shared import faces, sentences, tables
from _shared.adult import encode, load_adult
from _shared.program import DEFAULT_CACHE
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skfairft.datasets import fetch_adult

from .synthetic import N_TEST, SYNTHETIC, draw

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
from adult_demo import pretrain

Arrays = tuple[np.ndarray, ...]
# Features, labels, groups, and the row numbers of train, val and test.
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, Arrays]


@dataclass(frozen=True)
class Part:
    """Rows of one part: features, labels, groups."""

    Z: np.ndarray  # (n, d) float32
    y: np.ndarray  # (n,) codes 0..k-1
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
    n_classes: int = 2
    people: np.ndarray | None = None  # whose rows those of train and val are, where some have many


@dataclass(frozen=True)
class Task:
    """How a task's rows are made, and what is to be known of it before."""

    rows: Callable[[int, Path], Rows]  # of a seed, with a folder of features
    C: float = 1.0  # of the linear models
    n_classes: int = 2
    people: Callable[[Path], np.ndarray] | None = None  # of all rows, with a folder of features
    lacks: Callable[[], str | None] = lambda: None  # what is missing here


def load(name: str, seed: int, cache: Path | str = DEFAULT_CACHE) -> Split:
    """Return a task's split; what is not in the folder ``cache`` is made first.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    seed : int
        Of the split and, for Adult and bank, of the network.
    cache : path
        Folder of the features.

    Returns
    -------
    Split
        With standardized features.
    """
    task = TASKS[name]
    Z, y, s, rows = task.rows(seed, Path(cache))
    scaler = StandardScaler().fit(Z[rows[0]].astype(np.float64))
    parts = [
        Part(scaler.transform(Z[own].astype(np.float64)).astype(np.float32), y[own], s[own])
        for own in rows
    ]
    people = None if task.people is None else task.people(Path(cache))[np.concatenate(rows[:2])]
    return Split(name, seed, *parts, int(s.max()) + 1, task.n_classes, people)


def missing(name: str) -> str | None:
    """Return what a task lacks here."""
    return TASKS[name].lacks()


# Row numbers of train, val and test.


def stratified(
    y: np.ndarray, s: np.ndarray, seed: int, few: int | None = None, n_test: int | None = None
) -> Arrays:
    """Divide rows at random, 40/20/40, alike in label and group.

    Parameters
    ----------
    y, s : ndarray of shape (n,)
        Labels and groups.
    seed : int
        Of the division.
    few : int, optional
        Take only so many rows that are not of the test part, alike in label and group.
    n_test : int, optional
        The last so many rows are the test part.
    """
    cells, rows = y + (y.max() + 1) * s, np.arange(len(y))
    if n_test is None:
        dev, test = train_test_split(rows, test_size=0.4, random_state=seed, stratify=cells)
    else:
        dev, test = rows[:-n_test], rows[-n_test:]
    if few is not None:
        dev, _ = train_test_split(dev, train_size=few, random_state=seed, stratify=cells[dev])
    train, val = train_test_split(dev, test_size=1 / 3, random_state=seed, stratify=cells[dev])
    return train, val, test


def _by_person(people: np.ndarray, seed: int) -> Arrays:
    order = np.random.default_rng(seed).permutation(np.unique(people))
    n_test = round(0.4 * len(order))
    n_val = round((len(order) - n_test) / 3)
    who = (order[n_test + n_val :], order[n_test : n_test + n_val], order[:n_test])
    return tuple(np.flatnonzero(np.isin(people, some)) for some in who)


# Rows of each kind of task.


def _adult(seed: int, cache: Path, *, width: int, by: str = "sex", few: int | None = None) -> Rows:
    def make() -> dict[str, np.ndarray]:
        adult = load_adult(seed)
        own = adult.task
        Z = _activations(adult.X, adult.y, adult.pre, own, seed, width)
        return {"Z": Z, "y": adult.y[own], "sex": adult.female[own], "white": adult.white[own]}

    stored = faces.cached(cache / f"adult-{width}-{seed}.npz", make)
    y, s = stored["y"], stored["sex"]
    if by == "sex-race":
        s = s + 2 * stored["white"]
    elif by == "race-sex-6":
        race = fetch_adult(return_X_y_s=True)[2]["race"].iloc[load_adult(seed).task]
        s = s + 2 * np.select([race == "White", race == "Black"], [0, 1], default=2)
    return stored["Z"], y, s, stratified(y, s, seed, few)


def _hours(seed: int, cache: Path) -> Rows:
    """Return rows whose label is a band of hours, which the network did not see."""

    def make() -> dict[str, np.ndarray]:
        X = fetch_adult(return_X_y_s=True)[0]
        adult = load_adult(seed)
        own = adult.task
        hours = np.digitize(X.pop("hours-per-week"), [40, 41])
        Z = _activations(encode(X, adult.pre), adult.y, adult.pre, own, seed, 64)
        return {"Z": Z, "y": hours[own], "sex": adult.female[own]}

    stored = faces.cached(cache / f"adult-64-hours-{seed}.npz", make)
    y, s = stored["y"], stored["sex"]
    return stored["Z"], y, s, stratified(y, s, seed)


def _bank(seed: int, cache: Path, *, few: int | None = None) -> Rows:
    def make() -> dict[str, np.ndarray]:
        bank = tables.load_bank(seed)
        own = bank.task
        Z = _activations(bank.X, bank.y, bank.pre, own, seed, 64)
        return {"Z": Z, "y": bank.y[own], "s": bank.s[own]}

    stored = faces.cached(cache / f"bank-{seed}.npz", make)
    y, s = stored["y"], stored["s"]
    return stored["Z"], y, s, stratified(y, s, seed, few)


def _activations(
    X: np.ndarray, y: np.ndarray, pre: np.ndarray, own: np.ndarray, seed: int, width: int
) -> np.ndarray:
    """Pre-train a network on some rows, and return its features of others."""
    body = pretrain(X[pre], y[pre], seed, width)[:-1]
    with torch.no_grad():
        return body(torch.from_numpy(X[own])).numpy()


def _communities(seed: int, cache: Path, *, n_groups: int) -> Rows:
    X, y, s = tables.load_communities(n_groups)
    return X, y, s, stratified(y, s, seed)


def _faces(seed: int, cache: Path, *, name: str, label: str, group: str) -> Rows:
    images = faces.load_faces(name, "resnet18", cache)
    y, s = (images.attributes[key].to_numpy() for key in (label, group))
    return images.Z, y, s, _by_person(images.people, seed)


def _people(cache: Path, *, name: str) -> np.ndarray:
    return np.asarray(faces.load_faces(name, "resnet18", cache).people)


def _sentences(seed: int, cache: Path, *, group: str) -> Rows:
    stored = sentences.load_sentences(cache)
    rows = _by_person(stored["document"], seed)
    return stored["Z"], stored["y"], stored[group], rows


def _documents(cache: Path) -> np.ndarray:
    return sentences.load_sentences(cache)["document"]


def _synthetic(seed: int, cache: Path, *, name: str) -> Rows:
    X, y, s = draw(name, seed)
    return X, y, s, stratified(y, s, seed, n_test=N_TEST)


def _of_faces(name: str, label: str, group: str) -> Task:
    rows = partial(_faces, name=name, label=label, group=group)
    people = partial(_people, name=name)
    return Task(rows, C=0.01, people=people, lacks=partial(faces.missing, name, "resnet18"))


def _of_communities(n_groups: int) -> Task:
    rows = partial(_communities, n_groups=n_groups)
    return Task(rows, C=0.1, lacks=partial(tables.missing, "communities"))


def _of_sentences(group: str) -> Task:
    rows = partial(_sentences, group=group)
    return Task(rows, C=0.01, people=_documents, lacks=sentences.missing)


_lacks_bank = partial(tables.missing, "bank")

GROUPS: dict[str, dict[str, Task]] = {
    "first": {
        **{f"adult-{width}": Task(partial(_adult, width=width)) for width in (10, 64, 128)},
        "adult-64-sex-race": Task(partial(_adult, width=64, by="sex-race")),
        "lfw": _of_faces("lfw", "Heavy_Makeup", "Male"),
        "celeba": _of_faces("celeba", "Wavy_Hair", "Male"),
    },
    "tables": {
        "bank": Task(_bank, lacks=_lacks_bank),
        "communities": _of_communities(2),
        "communities-3": _of_communities(3),
    },
    "few rows": {
        "adult-64-500": Task(partial(_adult, width=64, few=500), C=0.1),
        "bank-500": Task(partial(_bank, few=500), C=0.1, lacks=_lacks_bank),
    },
    "six groups": {"adult-64-race-sex-6": Task(partial(_adult, width=64, by="race-sex-6"))},
    "three classes": {"adult-64-hours-3": Task(_hours, n_classes=3)},
    "other faces": {
        "celeba-blond": _of_faces("celeba", "Blond_Hair", "Male"),
        "celeba-young": _of_faces("celeba", "Wavy_Hair", "Young"),
    },
    "synthetic": {name: Task(partial(_synthetic, name=name)) for name in SYNTHETIC},
}
# Of the trade-off.
DATASETS = [name for group in GROUPS.values() for name in group]
TASKS = {
    **{name: task for group in GROUPS.values() for name, task in group.items()},
    "sentences": _of_sentences("mentions"),
    "sentences-source": _of_sentences("source"),
}
