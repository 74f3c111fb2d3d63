"""What is not a fit: predictions, statistics, metrics, cuts, stored features, and devices."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _shared.mobilenet_v2 import MobileNetV2
from _shared.resnet18 import ResNet18
from sklearn.utils.extmath import randomized_svd
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.feature_store import DiskStore
from skfairft.lowrank.cut import cut_layer
from skfairft.lowrank.fisher import layer_fisher
from skfairft.lowrank.maps import LayerMap
from skfairft.lowrank.network import LayerStatistics
from skfairft.metrics import demographic_parity_distance, equalized_odds_distance
from skfairft.rows.tensor_rows import TensorRows

from .cases import Case, logistic_regression, made_up, ours

__all__ = ["cut", "device", "fisher", "folder", "metrics", "one_row", "prediction"]


def prediction(small: bool) -> Iterator[Case]:
    """Predict rows of features."""
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


def one_row(small: bool) -> Iterator[Case]:
    """Predict one new image with its backbone."""
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


def fisher(small: bool) -> Iterator[Case]:
    """Measure the Fisher information of a layer by group."""
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
            "in double precision": lambda Z=Z, weight=weight: Z.double() @ weight.double(),
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
        with backpack(SumGradSquared()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its hooks, that inputs need no gradients
            # The loss is a mean: its gradients are the samples' by their number.
            loss(head(rows.Z[own]), rows.y[own]).backward()
        found.append(head.weight.sum_grad_squared.sum(0) * int(own.sum()) ** 2)
    return torch.stack(found)


def metrics(small: bool) -> Iterator[Case]:
    """Compute metrics of predictions."""
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


def cut(small: bool) -> Iterator[Case]:
    """Cut a layer to rank 16, its inputs' covariances by group at hand."""
    for d, k in [(12, 8)] if small else [(512, 35), (1_280, 1_000), (2_048, 2_048)]:
        rank = 2 if small else 16
        X, _, s = made_up(4_000, d)
        torch.manual_seed(0)
        layer = nn.Linear(d, k)
        seen, Z = LayerStatistics(LayerMap(layer), 2, gradients=False), torch.from_numpy(X)
        seen.update(Z, layer(Z), torch.from_numpy(s))
        shares, W = torch.full((2,), 0.5), layer.weight.detach().double()
        systems = {
            "ours": partial(cut_layer, seen, rank, importance="covariance", shares=shares),
            "plain SVD": partial(torch.linalg.svd, W, full_matrices=False),
            "randomized SVD": partial(randomized_svd, W.numpy(), rank, random_state=0),
        }
        yield Case(f"{d:,} x {k:,}", systems, repeats=3)


def folder(small: bool) -> Iterator[Case]:
    """Read features of known rows from a folder, in another order than they were stored."""
    for n, d in [(300, 8)] if small else [(13_000, 1_280), (50_000, 512), (100_000, 64)]:
        rng = np.random.default_rng(0)
        keys = rng.integers(2**63, size=(n, 2)).astype(np.uint64)
        features, order = rng.normal(size=(n, d)).astype(np.float32), rng.permutation(n)
        with tempfile.TemporaryDirectory() as name:
            store, path = DiskStore(name), Path(name) / "features.npy"
            for rows in np.array_split(np.arange(n), -(-n // 8_192)):
                store.put(bytes(16), keys[rows], features[rows])
            np.save(path, features)
            yield Case(
                f"{n:,} x {d:,}",
                {
                    "ours": lambda name=name, asked=keys[order]: DiskStore(name).lookup(
                        bytes(16), asked
                    ),
                    "mapped array": lambda path=path, order=order: np.load(path, mmap_mode="r")[
                        order
                    ],
                },
            )


def device(small: bool) -> Iterator[Case]:
    """Do what a GPU is asked for; nothing where there is none, but in a small run."""
    if not small and not torch.cuda.is_available():
        return
    name = "cuda" if torch.cuda.is_available() else "cpu"

    def whole(action: Callable[[], Any]) -> Callable[[], Any]:
        def waits() -> Any:
            found = action()
            if name == "cuda":
                torch.cuda.synchronize()
            return found

        return waits

    n, d = (200, 8) if small else (4_000_000, 512)
    Z = torch.randn(n, d, device=name)
    y, codes = (torch.randint(2, (n,), device=name) for _ in range(2))
    layer = nn.Linear(d, 2, device=name).double().requires_grad_(False)
    rows = TensorRows(Z, y, None, codes)
    yield Case(
        f"Fisher information, {n:,} x {d}, 2 outputs",
        {
            "ours": whole(partial(layer_fisher, rows, n_groups=2, layer=layer)),
            "reading once": whole(Z.sum),
        },
    )
    backbone = ResNet18(64).eval().to(name)
    images = torch.rand(16 if small else 8_192, 3, 96, 96)
    extractor = FrozenFeatureExtractor(
        backbone, memory=False, dtype="bfloat16", device=name, batch_size=256
    )

    @torch.inference_mode()
    def bare() -> Any:
        with torch.autocast(name, dtype=torch.bfloat16):
            return [backbone(part.to(name)).float().cpu() for part in images.split(256)]

    yield Case(
        f"bfloat16 features, {len(images):,} images",
        {"ours": whole(partial(extractor.fit_transform, images)), "bare loop": whole(bare)},
        repeats=1 if small else 5,
    )
