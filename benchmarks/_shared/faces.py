"""Features of the faces of LFW and CelebA by two frozen backbones, cached as npz files.

The images, attributes and weights lie in the folder that the environment variable SKFAIRFT_DATA
names. The images may be the public originals, of which a box around the face is cut, or small
copies, which were cut so before and are taken where they are present:

======= ============================================= ==========================
data    originals                                     small copies
======= ============================================= ==========================
lfw     ``lfw/lfw-deepfunneled`` (or ``.tgz``),       ``lfw/images_96.zip``,
        ``lfw/lfw_att_40.mat``                        ``lfw/attributes.csv.gz``
celeba  ``celeba/img_align_celeba`` (or ``.zip``),    ``celeba/images_64.zip``,
        ``celeba/list_attr_celeba.txt``,              ``celeba/attributes.csv.gz``
        ``celeba/identity_CelebA.txt``
======= ============================================= ==========================

The small copies were reduced by another filter and compressed once more, and those of CelebA are
a subset, five images of each of 9,343 people: figures of the two are alike, but not the same.

The weights are ``weights/resnet18_celeba64_attributes.pth``, else torchvision's of ImageNet, and
``weights/mobilenet_v2_imagenet.pth``, or the same under torchvision's name. The even identities of
CelebA trained the first of these, so only the odd ones are used, and by all backbones, so that
their rows are the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from skfairft import FrozenFeatureExtractor
from skfairft.preprocessing import ImageFiles

from .files import FACES, Crop, Layout, Need, names_of_images, unpack
from .mobilenet_v2 import load_mobilenet_v2
from .resnet18 import load_resnet18

BACKBONES = ("resnet18", "mobilenet_v2")

_DOWNLOADS = "https://download.pytorch.org/models"
WEIGHTS = {
    "resnet18": Need(
        ("weights/resnet18_celeba64_attributes.pth", "weights/resnet18-f37072fd.pth"),
        f"the second: {_DOWNLOADS}/resnet18-f37072fd.pth",
    ),
    "mobilenet_v2": Need(
        ("weights/mobilenet_v2_imagenet.pth", "weights/mobilenet_v2-b0353104.pth"),
        f"{_DOWNLOADS}/mobilenet_v2-b0353104.pth",
    ),
}
MOBILE_SIZES = {"lfw": 96, "celeba": 64}  # those of the small copies


@dataclass(frozen=True)
class Faces:
    """Features, attributes and people of the images of one dataset."""

    Z: np.ndarray  # (n, d) float32
    attributes: pd.DataFrame  # (n, 40) of 0 and 1, with CelebA's names
    people: np.ndarray  # (n,) codes 0, 1, ... of who it is
    weights: str  # name of the file of the backbone's weights


def load_faces(name: str, backbone: str, cache: Path | str, limit: int | None = None) -> Faces:
    """Return the features of a dataset; what is not in the folder ``cache`` is made first.

    Parameters
    ----------
    name : str
        One of `FACES`.
    backbone : str
        One of `BACKBONES`.
    cache : path
        Folder of the features. What is there needs no images any more.
    limit : int, optional
        Take only so many images, the first by name.

    Returns
    -------
    Faces
        In the order of the images' names.

    Raises
    ------
    FileNotFoundError
        If features are to be made and files are missing.
    ValueError
        If files contradict each other, or the weights that are there are not those of the
        cached features, whose head `backbone_head` would then not be.
    """
    few = "" if limit is None else f"-{limit}"
    path = Path(cache) / f"{name}-{backbone}{few}.npz"
    return _faces(cached(path, lambda: _extract(name, backbone, limit)), backbone, path)


def _faces(stored: dict[str, np.ndarray], backbone: str, path: Path) -> Faces:
    weights = str(stored["weights"])
    there = _weights(backbone)
    if there is not None and there.name != weights:
        raise ValueError(
            f"The features in {path} are of {weights}, but {there.name} is in SKFAIRFT_DATA and "
            "goes first. Delete the features, or name another folder."
        )
    attributes = pd.DataFrame(stored["attributes"].astype(np.int64), columns=stored["names"])
    return Faces(stored["Z"], attributes, stored["people"], weights)


def backbone_head(backbone: str) -> nn.Linear:
    """Return the backbone's own last layer, pre-trained.

    Parameters
    ----------
    backbone : str
        One of `BACKBONES`.

    Returns
    -------
    nn.Linear
        From 512 features to 35 attributes or to ImageNet's 1000 classes (ResNet-18), from 1280
        to these classes (MobileNetV2).
    """
    path = _weights(backbone)
    if path is None:
        raise FileNotFoundError(f"not in SKFAIRFT_DATA: {WEIGHTS[backbone]}")
    if backbone == "resnet18":
        return load_resnet18(path)[0].fc
    return load_mobilenet_v2(path).get_submodule("classifier.1")


def missing(name: str, backbone: str) -> str | None:
    """Return which files a dataset or backbone lacks, and where they are to be had.

    Parameters
    ----------
    name : str
        One of `FACES`.
    backbone : str
        One of `BACKBONES`.

    Returns
    -------
    str or None
        None if `load_faces` and `backbone_head` have all they need.
    """
    data = _data()
    if data is None:
        return f"set SKFAIRFT_DATA to the folder that holds {name}/ and weights/"
    needs = (*_layout(name, data).needs, WEIGHTS[backbone])
    gone = [str(need) for need in needs if need.find(data) is None]
    return f"not in SKFAIRFT_DATA: {'; '.join(gone)}" if gone else None


def cached(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the arrays of a file, which is made first if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = make()
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.npz")
        np.savez(partial, **arrays)
        partial.replace(path)
    with np.load(path) as stored:
        return dict(stored)


def _data() -> Path | None:
    """Return the folder that SKFAIRFT_DATA names."""
    folder = os.environ.get("SKFAIRFT_DATA")
    return Path(folder) if folder else None


def _layout(name: str, data: Path) -> Layout:
    """Return the first layout that is complete, else begun, else the public one."""
    layouts = FACES[name]
    for enough in (all, any):
        for layout in layouts:
            if enough(need.find(data) is not None for need in layout.needs):
                return layout
    return layouts[-1]


def _weights(backbone: str) -> Path | None:
    """Return the file of a backbone's weights."""
    data = _data()
    return None if data is None else WEIGHTS[backbone].find(data)


def _backbone(name: str, backbone: str) -> tuple[nn.Module, dict[str, str], ImageFiles]:
    """Return a backbone, how its features are taken, and what its images are made into."""
    path = _weights(backbone)
    if backbone == "resnet18":
        module, wanted = load_resnet18(path)
        module.forward = module.features
        return module, {}, ImageFiles(wanted["size"], mean=wanted["mean"], std=wanted["std"])
    pooling = {"layer": "features", "pool": "mean"}
    return load_mobilenet_v2(path), pooling, ImageFiles(MOBILE_SIZES[name])


@contextmanager
def _images(name: str, backbone: str) -> Iterator[tuple[pd.DataFrame, list[str], Crop | None]]:
    """Hold the images of a dataset as files: their table, paths and the box that is cut of each."""
    lacking = missing(name, backbone)
    if lacking is not None:
        raise FileNotFoundError(f"{name} on {backbone}: {lacking}")
    data = _data()
    layout = _layout(name, data)
    images, table = layout.images.find(data), layout.table(data)
    found = names_of_images(images)
    layout.check(table, found)
    if name == "celeba":  # the even ones trained the ResNet-18
        table = table[table["person"] % 2 == 1]
    paths = {image: found[image] for image in table["image"]}
    with tempfile.TemporaryDirectory() as folder:
        if not images.is_dir():
            unpack(images, paths, Path(folder))
            paths = {image: Path(folder, image) for image in paths}
        yield table, [str(path) for path in paths.values()], layout.crop


def load_images(name: str, backbone: str, cache: Path | str) -> tuple[np.ndarray, Faces]:
    """Return the images of a dataset as a backbone takes them, (n, size, size, 3) uint8, and faces.

    Of the faces all but the features; what is not in the folder ``cache`` is made first.
    """

    def make() -> dict[str, Any]:
        with _images(name, backbone) as (table, paths, crop):
            size = 64 if backbone == "resnet18" else MOBILE_SIZES[name]
            load = ImageFiles(size, mean=[0.0] * 3, std=[1.0] * 3)
            load = load if crop is None else Crop(load, *crop)
            parts = [
                (load(paths[start : start + 500]) * 255).round().to(torch.uint8)
                for start in range(0, len(paths), 500)
            ]
        images = torch.cat(parts).permute(0, 2, 3, 1).contiguous().numpy()
        return {"images": images, **_described(table, backbone)}

    path = Path(cache) / f"{name}-{backbone}-images.npz"
    stored = cached(path, make)
    images = stored["images"]
    return images, _faces({"Z": images.reshape(len(images), -1)[:, :0], **stored}, backbone, path)


def _described(table: pd.DataFrame, backbone: str) -> dict[str, Any]:
    attributes = table.drop(columns=["image", "person"])
    return {
        "attributes": attributes.to_numpy(np.int8),
        "names": attributes.columns.to_numpy(str),
        "people": pd.factorize(table["person"])[0],
        "weights": _weights(backbone).name,
    }


def _extract(name: str, backbone: str, limit: int | None) -> dict[str, Any]:
    """Run the images of a dataset through a backbone."""
    with _images(name, backbone) as (table, paths, crop):
        table, paths = table.head(limit or len(table)), paths[: limit or len(paths)]
        module, pooling, preprocess = _backbone(name, backbone)
        extractor = FrozenFeatureExtractor(
            module.to(memory_format=torch.channels_last),
            **pooling,
            preprocess=preprocess if crop is None else Crop(preprocess, *crop),
            channels_last=True,
            batch_size=64,
            memory=False,
            verbose=1,
        )
        Z = extractor.fit_transform(paths)
    return {"Z": np.asarray(Z, dtype=np.float32), **_described(table, backbone)}
