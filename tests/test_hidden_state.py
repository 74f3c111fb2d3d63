"""What is easily overlooked when features are remembered, each found by trying to be handed a
wrong row; and what must not get in the way.

Row 7 of the rows is no witness and lies where the others do not, so that only a key can tell.
"""

import contextvars
import enum
import functools
import os
import sys
import threading
import time
import types
import warnings
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from processes import finish, start
from scipy import sparse
from torch import nn
from torch.utils.data import Dataset

from skfairft import FrozenFeatureExtractor
from skfairft.feature_store import DiskStore, MemoryStore
from skfairft.feature_store.fingerprint import fingerprint
from skfairft.feature_store.witness import Witness
from skfairft.inputs.exceptions import FeatureStoreWarning

X = np.random.default_rng(0).uniform(-1, 1, (100, 6)).astype("float32")
X[7] = 5.0


def extractor_of(module, preprocess=None, **settings):
    return FrozenFeatureExtractor(module, preprocess=preprocess, memory=MemoryStore(), **settings)


def clipping(limit):
    return lambda x: x.clamp(max=limit)


class Applies(nn.Module):
    """A linear layer behind what some object makes of its input."""

    def __init__(self, held):
        super().__init__()
        self.layer, self.held = nn.Linear(6, 4), held

    def forward(self, x):
        return self.layer(self.held.apply(x))


class Wrapper:
    """A class as a decorator."""

    def __init__(self, function, limit):
        functools.update_wrapper(self, function)
        self.function, self.limit = function, limit

    def apply(self, x):
        return self.function(x).clamp(max=self.limit)


class Act(enum.Enum):
    A = 1

    def apply(self, x):
        return x.clamp(max=6.0)


class Referring:
    def __init__(self, limit):
        self.limit = weakref.ref(limit)

    def apply(self, x):
        return x.clamp(max=float(self.limit()))


class OfThread(threading.local):
    limit = 6.0

    def apply(self, x):
        return x.clamp(max=self.limit)


class Mine(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x.clamp(max=6.0), self.weight, self.bias)


def _package():
    package, part = types.ModuleType("a_package"), types.ModuleType("a_package.cfg")
    part.LIMIT = 6.0
    package.__path__ = []
    space = {"__name__": "a_package.net", "__package__": "a_package"}
    exec(
        "class Act:\n def apply(self, x):\n  from .cfg import LIMIT\n  return x.clamp(max=LIMIT)",
        space,
    )
    return {"a_package": package, "a_package.cfg": part}, space["Act"], part


@pytest.mark.parametrize(
    "kind", ["wrapper", "enum", "reference", "thread", "parametrized", "relative import", "tensor"]
)
def test_what_is_held_in_odd_places_counts(kind, monkeypatch):
    keep = torch.tensor(6.0)
    if kind == "parametrized":
        module = torch.nn.utils.parametrizations.weight_norm(Mine(6, 4))
    elif kind == "relative import":
        modules, held, part = _package()
        for name, value in modules.items():
            monkeypatch.setitem(sys.modules, name, value)
        module = Applies(held())
    elif kind == "tensor":
        module = Applies(nn.Identity())
        module.layer.weight.limit = 6.0
        monkeypatch.setattr(
            type(module), "forward", lambda s, x: s.layer(x.clamp(max=s.layer.weight.limit))
        )
    else:
        held = {
            "wrapper": lambda: Wrapper(nn.Identity(), 6.0),
            "enum": lambda: Act.A,
            "reference": lambda: Referring(keep),
            "thread": OfThread,
        }[kind]()
        module = Applies(held)
    extractor = extractor_of(module)
    before = extractor.transform(X)
    if kind == "wrapper":
        held.limit = 2.0
    elif kind == "enum":
        monkeypatch.setattr(Act, "apply", lambda self, x: x.clamp(max=2.0))
    elif kind == "reference":
        keep.fill_(2.0)
    elif kind == "thread":
        monkeypatch.setattr(OfThread, "limit", 2.0)
    elif kind == "parametrized":
        monkeypatch.setattr(
            Mine,
            "forward",
            lambda s, x: nn.functional.linear(x.clamp(max=2.0), s.weight, s.bias),
        )
    elif kind == "relative import":
        part.LIMIT = 2.0
    else:
        module.layer.weight.limit = 2.0
    expected = FrozenFeatureExtractor(module, memory=False).transform(X)
    assert np.abs(expected - before).max() > 0.1  # the control
    np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-4, atol=1e-5)


def test_names_of_keyword_arguments_count():
    assert fingerprint(lambda x: x.clamp(min=1)) != fingerprint(lambda x: x.clamp(max=1))


def test_a_global_with_the_name_of_an_attribute_does_not(monkeypatch):
    source = "class Net:\n def apply(self, x): return self.features.size() and x"
    space = {"__name__": "notebook"}
    exec(source, space)
    held = space["Net"]()
    held.features = torch.zeros(1)
    module = Applies(held)
    before = fingerprint(module)
    space["features"], space["size"] = 1, (i for i in range(2))
    assert fingerprint(module) == before


@pytest.mark.parametrize("offset", ["epoch", "large", "outlier"])
def test_a_change_of_the_size_of_the_spread_is_seen(monkeypatch, offset):
    class Shifted(nn.Module):
        def forward(self, x):
            return x + float(os.environ.get("A_SHIFT", "0"))

    rng = np.random.default_rng(0)
    rows, shift = {
        "epoch": (1.7e9 + rng.uniform(0, 2700, (100, 3)), 1800),
        "large": ((1e6 + rng.uniform(-1, 1, (100, 3))).astype("f4"), 1),
        "outlier": (np.vstack([rng.normal(size=(99, 3)), np.full((1, 3), 1e6)])[::-1], 1),
    }[offset]
    extractor = extractor_of(Shifted())
    before = extractor.transform(rows)
    monkeypatch.setenv("A_SHIFT", str(shift))
    with pytest.warns(FeatureStoreWarning, match="not what it gives now"):
        after = extractor.transform(rows)
    assert np.abs(after - before).max() > 0.5


class TestRows:
    def test_a_dataset_that_leaves_items_out_is_refused(self):
        class Broken(Dataset):
            def __len__(self):
                return 100

            def __getitem__(self, i):
                return X[i]

            def __getitems__(self, numbers):
                return [X[i] for i in numbers if i != 3]

        with pytest.raises(ValueError, match="gave 9 items for 10 numbers"):
            extractor_of(nn.Linear(6, 4), batch_size=10).transform(Broken())

    def test_the_index_of_a_table_counts_for_a_preprocess(self):
        notes = {f"id{i}": float(i) for i in range(20)}
        frame = pd.DataFrame({"angle": np.zeros(20)}, index=list(notes))

        def read(rows):
            pairs = zip(rows.index, rows["angle"], strict=True)
            return torch.tensor([[notes[name], angle] for name, angle in pairs]).float()

        found = extractor_of(nn.Linear(2, 3), read).fit_transform(frame)
        assert len(np.unique(found, axis=0)) == 20

    @pytest.mark.parametrize("kind", ["images", "categories", "nullable"])
    def test_preprocess_is_looked_at_again_for_rows_of_any_kind(self, tmp_path, kind):
        factor = tmp_path / "k"
        factor.write_text("1")
        if kind == "images":
            image = pytest.importorskip("PIL.Image")
            rng = np.random.default_rng(0)
            rows = [
                image.fromarray(rng.integers(0, 255, (4, 4), dtype=np.uint8)) for _ in range(30)
            ]
        else:
            values = pd.Categorical(list("abc") * 10)
            column = pd.array(np.arange(30), dtype="Int64")
            rows = pd.DataFrame({"x": values if kind == "categories" else column})

        def read(batch):
            if kind == "images":
                arrays = [np.asarray(each).ravel() for each in batch]
            elif kind == "categories":
                arrays = [[code] for code in batch["x"].cat.codes]
            else:
                arrays = [[float(each)] for each in batch["x"]]
            return torch.tensor(np.array(arrays, dtype="float32")) * float(factor.read_text())

        extractor = extractor_of(nn.Identity(), read)
        before = extractor.fit_transform(rows)
        assert extractor.store.info().rows > 0
        factor.write_text("2")
        with pytest.warns(FeatureStoreWarning, match="not what it gives now"):
            np.testing.assert_allclose(extractor.transform(rows), 2 * before, rtol=1e-6)

    def test_a_preprocess_may_use_up_its_rows(self):
        def read(rows):
            labels = [row.pop("label") for row in rows]
            assert len(labels) == len(rows)
            return torch.stack([row["x"] for row in rows])

        rows = [{"x": torch.from_numpy(row), "label": 1} for row in X]
        found = extractor_of(nn.Linear(6, 4), read).fit_transform(rows)
        assert found.shape == (100, 4)

    def test_texts_that_look_like_paths(self):
        texts = [f"http://example.com/{i}" for i in range(30)]

        def count(rows):
            return torch.tensor([[float(len(row)), float(sum(map(ord, row)) % 97)] for row in rows])

        extractor = extractor_of(nn.Linear(2, 3), count)
        with pytest.warns(FeatureStoreWarning, match="such as 'http.*preprocess.reads_files"):
            extractor.transform(texts)
        assert extractor.store.info().rows == 0
        count.reads_files = False
        extractor.transform(texts)
        assert extractor.store.info().rows == 30

    def test_texts_in_a_polars_series(self):
        polars = pytest.importorskip("polars")

        def count(rows):
            return torch.tensor([[float(len(row))] for row in rows])

        texts = polars.Series("text", [f"text {'x' * i}" for i in range(20)])
        extractor = extractor_of(nn.Identity(), count)
        first = extractor.fit_transform(texts)
        np.testing.assert_array_equal(extractor.transform(texts), first)
        assert extractor.store.info().hits == 20

    def test_sparse_rows_for_a_preprocess(self):
        rows = sparse.random(100, 6, 0.5, format="csr", dtype="float32", random_state=0)
        module = nn.Linear(6, 4)
        extractor = extractor_of(module, lambda batch: torch.tensor(batch.toarray()))
        with pytest.warns(FeatureStoreWarning, match="hold csr_matrix objects"):
            found = extractor.transform(rows)
        expected = FrozenFeatureExtractor(module).transform(rows.toarray())
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    def test_a_table_before_fit_gives_no_warning(self):
        extractor_of(nn.Linear(6, 4)).transform(pd.DataFrame(X, columns=list("abcdef")))

    def test_workers_see_the_variables_of_the_caller(self):
        variable = contextvars.ContextVar("factor", default=1.0)
        variable.set(3.0)

        def read(rows):
            return torch.from_numpy(rows) * variable.get()

        for workers in (0, 2):
            found = extractor_of(nn.Identity(), read, num_workers=workers).transform(X)
            np.testing.assert_allclose(found, 3.0 * X, rtol=1e-6)


def test_whole_numbers_in_a_buffer_hide_no_mixing_of_rows():
    class Mixes(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("codes", torch.zeros(3, dtype=torch.uint8))

        def forward(self, x):
            return x.softmax(0)

    with pytest.raises(ValueError, match="depend on the other rows"):
        extractor_of(Mixes()).fit(X)


@pytest.mark.parametrize(("share", "refused"), [(1e-6, False), (1e-3, True)])
def test_rows_that_are_alike_may_differ_by_rounding(share, refused):
    """Nothing else varies in them; sums near zero are rounded as those that they are made of."""

    class Rounds(nn.Module):
        def forward(self, x):
            return torch.cat([x, share * len(x) * x[:, :1]], 1)

    rows = np.full((40, 6), 8.0, dtype=np.float32)
    extractor = FrozenFeatureExtractor(Rounds(), memory=False)
    if refused:
        with pytest.raises(ValueError, match="depend on the other rows"):
            extractor.fit(rows)
    else:
        extractor.fit(rows)


def test_modules_that_share_a_part_do_not_meet():
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.1)
            return x

    part = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), Slow()).train()
    whole = nn.Sequential(part, nn.Linear(4, 2)).train()
    mean = part[1].running_mean.clone()
    settings = {"memory": False, "batch_size": 50}
    thread = threading.Thread(target=FrozenFeatureExtractor(whole, **settings).transform, args=(X,))
    thread.start()
    time.sleep(0.05)
    FrozenFeatureExtractor(part, **settings).transform(X)
    thread.join()
    assert part.training
    assert whole.training
    assert torch.equal(part[1].running_mean, mean)


class Scaled(nn.Module):
    def forward(self, x):
        time.sleep(0.01)
        return x * float(os.environ["A_SCALE"])


class Ordered(Dataset):
    def __init__(self, order):
        self.order = order

    def __len__(self):
        return len(self.order)

    def __getitem__(self, i):
        return torch.full((3,), float(self.order[i]))


def test_two_processes_that_differ_unseen_do_not_mix(tmp_path):
    def run(scale, order):
        os.environ["A_SCALE"] = str(scale)
        warnings.simplefilter("ignore")
        extractor = FrozenFeatureExtractor(Scaled(), memory=tmp_path / "store", batch_size=20)
        found = extractor.transform(Ordered(order))
        np.testing.assert_allclose(found, np.repeat(order[:, None] * scale, 3, axis=1), atol=1e-3)

    order = np.arange(400)
    for pid in [start(run, 1, order), start(run, 2, order[::-1])]:
        finish(pid)


def test_a_witness_of_another_version_is_no_witness(tmp_path):
    store, module = DiskStore(tmp_path), nn.Linear(6, 4).eval()
    extractor = FrozenFeatureExtractor(module, memory=store)
    first = extractor.fit_transform(X)
    for content in (b"x", b"{}" * 20, bytes(100)):
        store.put_witness(extractor._name(), content)
        with pytest.warns(FeatureStoreWarning, match="cannot be read"):
            np.testing.assert_array_equal(extractor.transform(X), first)
    assert Witness.from_bytes(store.witness(extractor._name())).features.shape == (4, 4)


@pytest.mark.parametrize("folder", ["", "a\0b", "x" * 300 + "/y", "~nobody-of-that-name/x"])
def test_a_folder_that_cannot_be(folder):
    with pytest.raises(ValueError, match=r"expected a folder|cannot be used to keep features"):
        FrozenFeatureExtractor(nn.Linear(6, 4), memory=folder).fit(X)


def test_a_small_memory_is_not_filled_by_witnesses():
    store = MemoryStore(max_bytes=2000)
    for _ in range(30):
        FrozenFeatureExtractor(nn.Linear(6, 4), memory=store).transform(X)
        assert store.info().bytes <= 2000
    assert len(store._indexes) <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_beside_a_running_module_does_not_hang(tmp_path):
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.15)
            return x

    module = Slow()
    thread = threading.Thread(target=extractor_of(module).transform, args=(X,))
    thread.start()
    time.sleep(0.05)
    pid = start(lambda: FrozenFeatureExtractor(module, memory=False).transform(X[:2]))
    thread.join()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.05)
    os.kill(pid, 9)
    pytest.fail("the child hangs")
