"""The files of LFW and CelebA: which there are, their attributes, their images.

A table here has a row per image: ``image`` (the name of its file, without folders), ``person``,
then the attributes, 0 or 1.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from shutil import copyfileobj
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import loadmat
from torch import Tensor

from skfairft.preprocessing import ImageFiles

CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
N_ATTRIBUTES = 40


@dataclass(frozen=True)
class Need:
    """A file or folder that is needed, by any of its names: the first that is there is taken."""

    names: tuple[str, ...]
    source: str  # where to get it

    def find(self, data: Path) -> Path | None:
        """Return where it is in the folder ``data``."""
        return next((data / name for name in self.names if (data / name).exists()), None)

    def __str__(self) -> str:
        return f"{' or '.join(self.names)} ({self.source})"


@dataclass(frozen=True)
class Crop:
    """Image files to a tensor, of one box of each only.

    Parameters
    ----------
    images : ImageFiles
        What is done with the box.
    size : tuple of int
        Width and height that images must have, or the box would be elsewhere in the face.
    box : tuple of int
        Left, top, right, bottom; the last two are outside.
    """

    images: ImageFiles
    size: tuple[int, int]
    box: tuple[int, int, int, int]

    def __call__(self, batch: Sequence[Any]) -> Tensor:
        """Return the boxes (n, 3, images.size, images.size) of n paths."""
        boxes = []
        for path in batch:
            with Image.open(path) as image:
                if image.size != self.size:
                    raise ValueError(
                        f"{str(path)!r} has {image.size[0]} x {image.size[1]} pixels; expected "
                        f"{self.size[0]} x {self.size[1]}, those of the public aligned images."
                    )
                boxes.append(image.crop(self.box))
        return self.images(boxes)


@dataclass(frozen=True)
class Layout:
    """One way in which a dataset lies in the folder."""

    images: Need
    labels: tuple[Need, ...]
    read: Callable[..., pd.DataFrame]  # from the paths of labels to the table
    crop: tuple[tuple[int, int], tuple[int, int, int, int]] | None = None  # size, box
    unlabelled: bool = False  # whether some images have no attributes

    @property
    def needs(self) -> tuple[Need, ...]:
        """All that it consists of."""
        return (self.images, *self.labels)

    def table(self, data: Path) -> pd.DataFrame:
        """Return the table, sorted by the names of the images."""
        paths = [need.find(data) for need in self.labels]
        try:
            table = self.read(*paths)
            values = table.drop(columns=["image", "person"])
        except ImportError:  # says what to install
            raise
        except Exception as error:  # of pandas, gzip, zlib, scipy and h5py, each has its own
            names = " and ".join(path.name for path in paths)
            raise ValueError(
                f"{names} cannot be read ({type(error).__name__}: {error}). Get it again: "
                f"{', '.join(str(need) for need in self.labels)}."
            ) from error
        binary = values.isin((0, 1)).all()
        if len(binary) != N_ATTRIBUTES or not binary.all():
            others = binary.index[~binary].tolist()
            raise ValueError(
                f"{paths[0].name} has {len(binary)} attributes, with other values than two in "
                f"{others}; expected {N_ATTRIBUTES} of two values."
            )
        table[values.columns] = values.astype(np.int64)
        return table.sort_values("image", ignore_index=True)

    def check(self, table: pd.DataFrame, there: Sequence[str]) -> None:
        """Raise unless the table is that of the images that are there."""
        listed, there = set(table["image"]), set(there)
        if len(listed) != len(table):
            raise ValueError(
                f"{self.labels[0].names[0]} lists images twice, such as "
                f"{table['image'][table['image'].duplicated()].iloc[0]}."
            )
        extra = set() if self.unlabelled else there - listed
        for names, fault in ((listed - there, "no image"), (extra, "no attributes")):
            if names:
                raise ValueError(
                    f"{self.labels[0].names[0]} lists {len(listed)} images, and "
                    f"{self.images.names[0]} holds {len(there)}: there are {fault} for "
                    f"{len(names)}, such as {min(names)}. One of the two is cut short, or they "
                    "do not belong together."
                )


def names_of_images(images: Path) -> dict[str, Any]:
    """Return what a folder, zip or tar holds: from names without folders to paths or members."""
    if images.is_dir():
        found = {path.name: path for path in images.rglob("*.jpg")}
    elif zipfile.is_zipfile(images):
        with zipfile.ZipFile(images) as archive:
            found = {member.rpartition("/")[2]: member for member in archive.namelist()}
    else:
        with tarfile.open(images) as archive:
            found = {member.rpartition("/")[2]: member for member in archive.getnames()}
    # macOS adds a "._" file for each file to what it packs.
    return {
        name: where
        for name, where in found.items()
        if name.endswith(".jpg") and not name.startswith(".")
    }


def unpack(images: Path, members: dict[str, str], folder: Path) -> None:
    """Write members of a zip or tar into a folder, under the names that are their keys."""
    if zipfile.is_zipfile(images):
        with zipfile.ZipFile(images) as archive:
            for name, member in members.items():
                (folder / name).write_bytes(archive.read(member))
        return
    names = {member: name for name, member in members.items()}
    with tarfile.open(images) as archive:  # in its own order: a compressed one cannot jump
        for member in archive:
            if member.name in names:
                with (folder / names[member.name]).open("wb") as file:
                    copyfileobj(archive.extractfile(member), file)


def read_copy(path: Path) -> pd.DataFrame:
    """Return the table of ``attributes.csv.gz``."""
    table = pd.read_csv(path, dtype={"image": str})
    return table.rename(columns={"identity": "person"}).drop(columns="split", errors="ignore")


def read_celeba(attributes: Path, identities: Path) -> pd.DataFrame:
    """Return the table of ``list_attr_celeba.txt`` and ``identity_CelebA.txt``."""
    count, names, *lines = attributes.read_text(encoding="utf-8").strip().splitlines()
    if int(count) != len(lines):
        raise ValueError(f"{attributes.name} announces {int(count)} images, but lists {len(lines)}")
    rows = [line.split() for line in lines]
    values = pd.DataFrame([row[1:] for row in rows], columns=names.split())
    people = dict(line.split() for line in identities.read_text(encoding="utf-8").splitlines())
    images = [row[0] for row in rows]
    if set(images) != set(people):
        raise ValueError(
            f"{attributes.name} lists {len(images)} images and {identities.name} {len(people)}, "
            f"{len(set(images) & set(people))} of which are the same"
        )
    table = pd.DataFrame({"image": images, "person": [int(people[image]) for image in images]})
    return pd.concat([table, (values.astype(int) + 1) / 2], axis=1)  # from -1, 1


def read_lfwa(path: Path) -> pd.DataFrame:
    """Return the table of ``lfw_att_40.mat``."""
    try:
        content = loadmat(path, variable_names=["name", "AttrName", "label"])
        paths, names = (
            [cell.item() for cell in content[key].ravel()] for key in ("name", "AttrName")
        )
        label = content["label"]
    except NotImplementedError:  # of MATLAB 7.3, as the published file is, scipy reads nothing
        paths, names, label = _read_mat73(path)
    if label.shape != (len(paths), len(names)):
        raise ValueError(f"label is {label.shape} for {len(paths)} images, {len(names)} attributes")
    parts = [PureWindowsPath(given) for given in paths]  # which splits at either slash
    table = pd.DataFrame(
        {"image": [part.name for part in parts], "person": [part.parent.name for part in parts]}
    )
    columns = ["_".join(name.split()) for name in names]  # CelebA's have _ where these have blanks
    return pd.concat([table, pd.DataFrame(label, columns=columns)], axis=1)


def _read_mat73(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Return names of images and attributes, and the labels, of a file of MATLAB 7.3."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"{path.name} is a file of MATLAB 7.3, which h5py reads: pip install h5py"
        ) from error
    with h5py.File(path) as content:
        # A cell is a reference to its letters, as numbers; arrays lie transposed.
        paths, names = (
            ["".join(map(chr, content[cell][()].ravel())) for cell in content[key][()].ravel()]
            for key in ("name", "AttrName")
        )
        return paths, names, content["label"][()].T


_COPY = "made from the public images, but not itself public"
FACES = {  # of each dataset, the first layout that is complete is taken
    "lfw": (
        Layout(
            Need(("lfw/images_96.zip",), _COPY),
            (Need(("lfw/attributes.csv.gz",), _COPY),),
            read_copy,
        ),
        Layout(
            Need(
                ("lfw/lfw-deepfunneled", "lfw/lfw-deepfunneled.tgz"),
                "http://vis-www.cs.umass.edu/lfw/lfw-deepfunneled.tgz",
            ),
            (Need(("lfw/lfw_att_40.mat",), f"LFWA+, {CELEBA_PAGE}"),),
            read_lfwa,
            crop=((250, 250), (50, 36, 200, 186)),
            unlabelled=True,  # 90 of 13,233
        ),
    ),
    "celeba": (
        Layout(
            Need(("celeba/images_64.zip",), _COPY),
            (Need(("celeba/attributes.csv.gz",), _COPY),),
            read_copy,
        ),
        Layout(
            Need(("celeba/img_align_celeba", "celeba/img_align_celeba.zip"), CELEBA_PAGE),
            (
                Need(("celeba/list_attr_celeba.txt",), CELEBA_PAGE),
                Need(("celeba/identity_CelebA.txt",), CELEBA_PAGE),
            ),
            read_celeba,
            crop=((178, 218), (15, 35, 163, 183)),
        ),
    ),
}
