"""Features are always those of this module as it is now, whatever was stored before."""

import contextvars
import os
import sys
import threading
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.datasets import make_biased_classification
from skfairft.feature_store import DiskStore, witness
from skfairft.inputs.exceptions import FeatureStoreWarning

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
FACTOR = {"of": 1.0}
LOCAL, CONTEXT = threading.local(), contextvars.ContextVar("context", default=1.0)
LOCAL.factor = 1.0


def features(module, memory=None, rows=X, **settings):
    """Features from the store, after an equal run without it."""
    expected = FrozenFeatureExtractor(module, memory=False, **settings).fit_transform(rows)
    found = FrozenFeatureExtractor(module, memory=memory, **settings).fit_transform(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    return found


class Shift(nn.Module):
    """Adds a constant, and says that it does in one of many ways that leave it as it is."""

    def __init__(self, c, way):
        super().__init__()
        self.way = way
        self.holder, self.items, self.options = types.SimpleNamespace(c=c), [c], {"c": c}
        self.register_buffer("c", torch.full((4,), c))
        self.register_buffer("hidden", torch.full((4,), c), persistent=False)
        self.layer = nn.Linear(4, 4)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(4))
            self.layer.bias.fill_(c)

    def forward(self, x):
        return x + WAYS[self.way](self, x)


def _in_place(self, x):
    self.c.data *= torch.ones(4)
    return self.c


def _out(self, x):
    torch.mul(self.hidden, 1.0, out=self.hidden)
    return self.hidden


def _dropped(self, x):
    self.__dict__["options"] = dict(self.options)
    return self.options.setdefault("c", 0.0)


def _replaced(self, x):
    self._buffers["c"] = self._buffers["c"].clone()
    return self.c


def _moved(self, x):
    self.c = self.c.to(x.device)
    return self.c


def _object(self, x):
    object.__setattr__(self.holder, "c", self.holder.c + 0)
    return self.holder.c


def _list(self, x):
    self.items.append(self.items.pop())
    return self.items[0]


def _set(self, x):
    setattr(self, "op" + "tions", {"c": self.options["c"]})
    return self.options["c"]


def _parameter(self, x):
    self.layer.bias.data.mul_(1.0)
    return self.layer(x) - x


WAYS = {
    way.__name__: way
    for way in (_in_place, _out, _dropped, _replaced, _moved, _object, _list, _set, _parameter)
}


@pytest.mark.parametrize("memory", [None, "folder"])
@pytest.mark.parametrize("way", WAYS)
def test_what_forward_writes_counts_as_what_it_is(tmp_path, way, memory):
    memory = memory and tmp_path
    for c in (0.0, 5.0):
        np.testing.assert_allclose(features(Shift(c, way), memory)[0], X[0] + c, rtol=1e-4)


class Switched(nn.Module):
    """A factor from anywhere."""

    def __init__(self, factor=lambda: 1.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor()


class Reads(Switched):
    def __init__(self, where):
        super().__init__()
        self.where = where

    def forward(self, x):
        if self.where == "global":
            return x * FACTOR["of"]
        if self.where == "thread local":
            return x * LOCAL.factor
        if self.where == "context":
            return x * CONTEXT.get()
        if self.where == "environment":
            return x * float(os.environ.get("A_FACTOR", 1.0))
        if self.where == "library":
            return torch.relu(x) * torch.my_factor
        if self.where == "import":
            import factor_of_a_user

            return x * factor_of_a_user.K
        return x * float(Path(self.where).read_text())


@pytest.fixture
def switches(monkeypatch, tmp_path):
    """How each place is set to another factor."""
    monkeypatch.setattr(torch, "my_factor", 1.0, raising=False)
    module = types.ModuleType("factor_of_a_user")
    module.K = 1.0
    monkeypatch.setitem(sys.modules, "factor_of_a_user", module)
    (tmp_path / "factor").write_text("1.0")
    token = CONTEXT.set(1.0)
    yield {
        "global": lambda k: monkeypatch.setitem(FACTOR, "of", k),
        "thread local": lambda k: monkeypatch.setattr(LOCAL, "factor", k),
        "context": CONTEXT.set,
        "environment": lambda k: monkeypatch.setenv("A_FACTOR", str(k)),
        "library": lambda k: monkeypatch.setattr(torch, "my_factor", k),
        "import": lambda k: monkeypatch.setattr(module, "K", k),
        str(tmp_path / "factor"): (tmp_path / "factor").write_text,
    }
    CONTEXT.reset(token)


@pytest.mark.parametrize("memory", [None, "folder"])
@pytest.mark.parametrize(
    "where", ["global", "thread local", "context", "import", "environment", "library", "file"]
)
def test_a_setting_outside_of_the_module(switches, tmp_path, where, memory):
    """By the key where it shows there, else by the rows that are run again."""
    place = str(tmp_path / "factor") if where == "file" else where
    module, memory = Reads(place), memory and tmp_path / "store"
    before = features(module, memory)
    switches[place]("3.0" if where == "file" else 3.0)
    if where in ("environment", "library", "file"):
        with pytest.warns(FeatureStoreWarning, match=r"not what it gives now.*all rows run again"):
            after = FrozenFeatureExtractor(module, memory=memory).transform(X)
    else:
        after = FrozenFeatureExtractor(module, memory=memory).transform(X)
    np.testing.assert_allclose(after, 3 * before, rtol=1e-5)
    np.testing.assert_allclose(features(module, memory), 3 * before, rtol=1e-5)


def test_new_rows_are_not_added_to_those_of_another_state(switches):
    """Rows of two states under one name would be served together, were there no look."""
    module = Reads("environment")
    before = FrozenFeatureExtractor(module).transform(X[:30])
    switches["environment"](3.0)
    with pytest.warns(FeatureStoreWarning, match="not what it gives now"):
        FrozenFeatureExtractor(module).transform(X[30:])
    switches["environment"](1.0)
    with pytest.warns(FeatureStoreWarning, match="not what it gives now"):
        found = FrozenFeatureExtractor(module).transform(X)
    np.testing.assert_allclose(found, X * np.maximum(1, before.max() * 0), rtol=1e-6)


@pytest.mark.parametrize("change", ["autocast", "default dtype", "precision"])
def test_settings_of_torch(change, monkeypatch):
    module = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 8))
    if change == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            first = FrozenFeatureExtractor(module).fit_transform(X)
        assert np.abs(first - features(module)).max() > 1e-3
        return
    name = FrozenFeatureExtractor(module)._name
    before = name()
    if change == "precision":
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
        assert name() != before
    else:
        torch.set_default_dtype(torch.float64)
        try:
            assert name() != before
        finally:
            torch.set_default_dtype(torch.float32)
    monkeypatch.undo()
    assert name() == before


class Counts(Shift):
    """Counts its rows in one of many places."""

    def __init__(self, where):
        super().__init__(1.0, "_list")
        self.where, self.rows, self.seen = where, 0, {"rows": 0}
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x):
        if self.where == "attribute":
            self.rows += len(x)
        elif self.where == "dictionary":
            dict.__setitem__(self.seen, "rows", self.seen["rows"] + len(x))
        elif self.where == "buffer":
            self.total += len(x)
        elif self.where == "layer":
            self.layer.calls = getattr(self.layer, "calls", 0) + 1
        else:
            FACTOR["calls"] = FACTOR.get("calls", 0) + 1
        return super().forward(x)


class TestStateThatChanges:
    @pytest.mark.parametrize("memory", [None, "folder"])
    @pytest.mark.parametrize(
        ("where", "name"),
        [
            ("attribute", "module.rows"),
            ("dictionary", "module.seen"),
            ("buffer", "module.total"),
            ("layer", "module.layer.calls"),
            ("global", "the global variable FACTOR"),
        ],
    )
    def test_by_each_run_is_named_once_and_nothing_is_stored(self, tmp_path, where, name, memory):
        module = Counts(where)
        backbone = FrozenFeatureExtractor(module, memory=memory and tmp_path)
        with pytest.warns(FeatureStoreWarning, match=f"running it changes {name}, and") as caught:
            first = backbone.fit_transform(X)
        assert len(caught) == 1
        np.testing.assert_array_equal(backbone.transform(X), first)  # no second note
        assert backbone.store.info().rows == 0
        FACTOR.pop("calls", None)

    def test_of_preprocess(self):
        class Augments:
            calls = 0

            def __call__(self, rows):
                self.calls += 1
                return torch.from_numpy(rows)

        with pytest.warns(FeatureStoreWarning, match=r"changes preprocess\.calls"):
            FrozenFeatureExtractor(nn.Linear(4, 2), preprocess=Augments()).fit_transform(X)
        calls = []

        def noting(rows):
            calls.append(len(rows))
            return torch.from_numpy(rows)

        with pytest.warns(FeatureStoreWarning, match="changes the variable calls of preprocess"):
            FrozenFeatureExtractor(nn.Linear(4, 2), preprocess=noting).fit_transform(X)

    def test_of_a_class_a_closure_or_a_hook(self):
        rows = []

        class Closes(nn.Linear):
            def forward(self, x):
                rows.append(len(x))
                return super().forward(x)

        class OfClass(nn.Linear):
            calls = 0

            def forward(self, x):
                OfClass.calls += 1
                return super().forward(x)

        hooked = nn.Linear(4, 2)
        hooked.register_forward_hook(lambda *_: rows.append(1))
        for module, name in (
            (Closes(4, 2), r"the variable rows of Closes\.forward"),
            (OfClass(4, 2), r"OfClass\.calls"),
            (hooked, "the variable rows of a hook"),
        ):
            with pytest.warns(FeatureStoreWarning, match=f"changes {name}, and"):
                FrozenFeatureExtractor(module).transform(X)

    def test_that_changes_the_features_is_refused(self):
        class Learns(nn.Linear):
            def forward(self, x):
                found = super().forward(x)
                self.weight.data *= 2.0
                return found

        module = Learns(4, 3, bias=False)
        with pytest.raises(ValueError, match=r"other features each time.*changes module\.weight"):
            FrozenFeatureExtractor(module).transform(X)

    @pytest.mark.parametrize("memory", [None, "folder"])
    def test_by_the_first_run_alone_is_no_hindrance(self, tmp_path, memory):
        """What is filled in once: a cache, a lazy layer. The rows of that batch run again."""

        class Caches(nn.Module):
            def __init__(self):
                super().__init__()
                self.cache, self.layer = None, nn.LazyLinear(3)

            def forward(self, x):
                if self.cache is None:
                    self.cache = torch.arange(4.0)
                return self.layer(x + self.cache)

        module = Caches()
        backbone = FrozenFeatureExtractor(module, batch_size=20, memory=memory and tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            first = backbone.fit_transform(X)
            assert backbone.store.info().rows == 40  # those of the batch that changed it are not
            np.testing.assert_allclose(backbone.transform(X), first, rtol=1e-5, atol=1e-6)
        assert backbone.store.info().rows == 60
        hits = backbone.store.info().hits
        backbone.transform(X)
        assert backbone.store.info().hits == hits + 60

    def test_that_fills_in_what_it_sees_first(self):
        class Length:
            def __init__(self, n=None):
                self.n = n

            def __call__(self, rows):
                if self.n is None:
                    self.n = max(map(len, rows))
                return torch.tensor([[float(len(row[: self.n]))] for row in rows])

        texts = ["abcdef", "abc"] * 10
        for n, expected in ((6, 6.0), (2, 2.0), (None, 6.0)):
            preprocess = Length(n)
            found = FrozenFeatureExtractor(nn.Identity(), preprocess=preprocess).transform(texts)
            assert found[0, 0] == expected

    def test_that_cannot_be_told_is_named(self):
        module = nn.Linear(4, 2)
        module.stream = (i for i in range(3))
        backbone = FrozenFeatureExtractor(module)
        with pytest.warns(FeatureStoreWarning, match="cannot be compared.*builtins.generator"):
            backbone.fit_transform(X)
        assert backbone.store.info().rows == 0


class TestModes:
    class Adapter(nn.Linear):
        """Merges a second matrix in evaluation mode, as adapters do."""

        def __init__(self):
            super().__init__(4, 3)
            self.B = nn.Parameter(torch.randn(3, 4))
            self.merged = False

        def train(self, mode=True):
            super().train(mode)
            if self.merged == mode:
                self.weight.data += -self.B if mode else self.B
                self.merged = not mode
            return self

        def forward(self, x):
            return super().forward(x) + (0 if self.merged else x @ self.B.T)

    @pytest.mark.parametrize("training", [True, False])
    def test_an_adapter_is_merged_and_left_as_it_was(self, training):
        module = nn.Sequential(self.Adapter(), nn.ReLU()).train(training)
        module[0].weight.requires_grad_(False)
        module[0].B.grad = torch.ones(3, 4)
        state = {name: value.clone() for name, value in module.state_dict().items()}
        flags = [part.training for part in module.modules()], module[0].merged
        first = features(module)
        assert ([part.training for part in module.modules()], module[0].merged) == flags
        assert all(torch.equal(state[name], now) for name, now in module.state_dict().items())
        assert not module[0].weight.requires_grad
        assert torch.equal(module[0].B.grad, torch.ones(3, 4))
        # In either mode it is the same module, whose rows are known.
        module.train(not training)
        hits = FrozenFeatureExtractor(module).store.info().hits
        np.testing.assert_array_equal(FrozenFeatureExtractor(module).transform(X), first)
        assert FrozenFeatureExtractor(module).store.info().hits == hits + len(X)

    def test_running_statistics(self):
        class Running(nn.Module):
            def __init__(self, mean):
                super().__init__()
                self.register_buffer("mean", torch.full((4,), mean))

            def forward(self, x):
                if self.training is True:
                    self.mean.mul_(0.9).add_(0.1 * x.mean(0))
                return x - self.mean

        for mean in (0.0, 5.0):
            np.testing.assert_allclose(features(Running(mean)), X - mean, rtol=1e-4, atol=1e-5)

    def test_a_mode_that_forward_saves_and_restores(self):
        class Restores(nn.Module):
            def __init__(self, c):
                super().__init__()
                self.c = c

            def forward(self, x):
                before, self.c = self.c, self.c + 1.0
                try:
                    return x * self.c
                finally:
                    self.c = before

        for c in (0.0, 2.0):
            np.testing.assert_allclose(features(Restores(c)), X * (c + 1), rtol=1e-5)


class Over(nn.Module):
    """A function of the whole batch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def _image_norm():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, track_running_stats=False))


class TestBatches:
    @pytest.mark.parametrize("memory", [None, False])
    @pytest.mark.parametrize(
        ("module", "rows", "settings", "message"),
        [
            (lambda: Over(lambda x: x.softmax(0)), X, {}, "a softmax, mean"),
            (lambda: Over(lambda x: x - x.mean(0)), X, {}, "a softmax, mean"),
            (lambda: Over(lambda x: x.cumsum(0)), X, {}, "a softmax, mean"),
            (lambda: Over(lambda x: x.flip(0).cumsum(0).flip(0)), X, {}, "a softmax, mean"),
            (_image_norm, X, {}, "no running mean|but not on"),
            (
                lambda: nn.LSTM(4, 3),
                np.stack([X, X + 1], axis=1),
                {"output": 0, "pool": "mean"},
                "LSTM without batch_first=True",
            ),
            (
                lambda: nn.TransformerEncoderLayer(4, 2, batch_first=False),
                np.stack([X, X + 1], axis=1),
                {"pool": "mean"},
                "MultiheadAttention 'self_attn' without batch_first",
            ),
            (lambda: Over(lambda x: nn.functional.dropout(x, 0.5)), X, {}, "draws random numbers"),
            (lambda: Over(lambda x: x + torch.randn_like(x)), X, {}, "draws random numbers"),
        ],
        ids=[
            "softmax",
            "mean",
            "cumsum",
            "reversed",
            "norm",
            "lstm",
            "attention",
            "dropout",
            "noise",
        ],
    )
    def test_a_module_that_mixes_rows_is_refused(self, module, rows, settings, message, memory):
        with pytest.raises(ValueError, match=message):
            FrozenFeatureExtractor(module(), memory=memory, **settings).fit_transform(rows)

    @pytest.mark.parametrize(
        "module",
        [
            lambda: nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64)),
            lambda: nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64)).bfloat16(),
            lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)),
            lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)),
            lambda: Over(lambda x: torch.ones(len(x), 3)),
            lambda: Over(lambda x: 1e6 + x),
            lambda: Over(lambda x: torch.cat([x, torch.zeros(len(x), 2)], 1)),
            lambda: nn.LSTM(4, 3, batch_first=True),
        ],
        ids=["float32", "bfloat16", "norm", "dropout", "constant", "offset", "zeros", "lstm"],
    )
    def test_rounding_is_not_taken_for_it(self, module):
        rows, settings = X, {}
        if isinstance(module(), nn.LSTM):
            rows, settings = np.stack([X, X + 1], axis=1), {"output": 0, "pool": "mean"}
        FrozenFeatureExtractor(module(), **settings).fit_transform(rows)
        FrozenFeatureExtractor(module(), **settings).fit(rows)

    @pytest.mark.filterwarnings("ignore")
    def test_integer_arithmetic_is_left_alone(self):
        module = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 8))
        small = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
        rows = X * np.linspace(0.01, 10, len(X), dtype=np.float32)[:, None]
        backbone = FrozenFeatureExtractor(small)
        first = backbone.fit_transform(rows)
        alone = FrozenFeatureExtractor(small, memory=False).transform(rows[:1])
        assert np.abs(alone - first[0]).max() > 0  # the control: its features do depend
        np.testing.assert_array_equal(backbone.transform(rows), first)

    def test_a_module_that_fails_on_fewer_rows(self):
        with pytest.raises(ValueError, match="runs on a batch of 3 rows, but not on 1 of them"):
            FrozenFeatureExtractor(Over(lambda x: x.squeeze())).fit_transform(X[:3])


class TestWitness:
    def test_other_conditions_allow_more_and_say_so(self, tmp_path, monkeypatch):
        """A factor of 1.0001 stands for another device; one of 1.1 does not."""
        module, store = (
            Switched(lambda: float(os.environ.get("A_FACTOR", 1.0))),
            DiskStore(tmp_path),
        )
        backbone = FrozenFeatureExtractor(module, memory=store)
        first = backbone.fit_transform(X)
        monkeypatch.setattr(witness.platform, "node", lambda: "another machine")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(backbone.transform(X), first)
        monkeypatch.setenv("A_FACTOR", "1.0001")
        with pytest.warns(FeatureStoreWarning, match="they were made on .* and this is .* used"):
            np.testing.assert_array_equal(backbone.transform(X), first)
        monkeypatch.setenv("A_FACTOR", "1.1")
        with pytest.warns(FeatureStoreWarning, match="not what it gives now: they differ by 0.1"):
            np.testing.assert_allclose(backbone.transform(X), 1.1 * first, rtol=1e-6)

    def test_the_same_conditions_do_not(self, monkeypatch):
        module = Switched(lambda: float(os.environ.get("A_FACTOR", 1.0)))
        first = FrozenFeatureExtractor(module).fit_transform(X)
        monkeypatch.setenv("A_FACTOR", "1.0001")
        with pytest.warns(FeatureStoreWarning, match="not what it gives now"):
            found = FrozenFeatureExtractor(module).transform(X)
        np.testing.assert_allclose(found, 1.0001 * first, rtol=1e-7)

    def test_a_small_column_beside_a_large_one_is_seen(self, monkeypatch):
        rows = X.copy()
        rows[:, 0] *= 1e6
        module = Switched(lambda: torch.tensor([1.0, 1.0, float(os.environ.get("A_FACTOR", 1)), 1]))
        FrozenFeatureExtractor(module).fit_transform(rows)
        monkeypatch.setenv("A_FACTOR", "1.5")
        with pytest.warns(FeatureStoreWarning, match="not what it gives now"):
            FrozenFeatureExtractor(module).transform(rows)

    def test_rows_that_nothing_vouches_for_are_not_given_out(self, tmp_path):
        store = DiskStore(tmp_path)
        module = nn.Linear(4, 2).eval()
        FrozenFeatureExtractor(module, memory=store).fit_transform(X)
        (file,) = tmp_path.glob("*/witness")
        file.write_bytes(file.read_bytes()[:-1])
        backbone = FrozenFeatureExtractor(module, memory=DiskStore(tmp_path))
        with pytest.warns(FeatureStoreWarning, match="was damaged"):
            features(module, backbone.store)
        assert backbone.store.witness(backbone._name()) is not None

    def test_witnesses_whose_files_changed_are_run_from_what_was_made_of_them(self, tmp_path):
        paths = [tmp_path / f"{i}.npy" for i in range(12)]
        for i, path in enumerate(paths):
            np.save(path, X[i])

        def read(rows):
            return torch.from_numpy(np.stack([np.load(row) for row in rows]))

        backbone = FrozenFeatureExtractor(nn.Linear(4, 2), preprocess=read)
        first = backbone.fit_transform(paths)
        for path in paths[4:]:  # among them three of the four witnesses
            path.unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(backbone.transform(paths[:4]), first[:4])

    @pytest.mark.parametrize("rows", ["images", "frame", "sets"])
    def test_rows_of_other_kinds(self, rows, tmp_path):
        if rows == "images":
            image = pytest.importorskip("PIL.Image")
            given = [image.new("L", (2, 2), int(20 * i)) for i in range(10)]

            def make(batch):
                return (
                    torch.tensor(np.stack([np.asarray(each) for each in batch])).float().flatten(1)
                )
        elif rows == "frame":
            import pandas as pd

            given = pd.DataFrame({"text": list("abcdefghij"), "number": np.arange(10.0)})

            def make(batch):
                return torch.tensor([[float(ord(t)), n] for t, n in batch.itertuples(index=False)])
        else:
            given = [{i, i + 20} for i in range(10)]

            def make(batch):
                return torch.tensor([[float(min(each)), max(each)] for each in batch])

        backbone = FrozenFeatureExtractor(nn.Flatten(), preprocess=make, memory=tmp_path)
        if rows == "sets":
            with pytest.warns(FeatureStoreWarning, match="cannot be kept to be looked at again"):
                backbone.fit_transform(given)
            assert backbone.store.info().rows == 0
            return
        first = backbone.fit_transform(given)
        np.testing.assert_array_equal(backbone.transform(given), first)
        assert backbone.store.info().hits == 10


def test_widths_and_dtypes_of_one_module():
    module = nn.Identity()
    for rows in (X, X[:, :2], X.astype(np.float64), X.astype(np.float16), X[:, :2]):
        found = FrozenFeatureExtractor(module).fit_transform(rows)
        np.testing.assert_array_equal(found, rows)
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    for size in (6, 8, 6):
        assert (
            features(convolution, rows=np.ones((9, 1, size, size))).shape[1] == 2 * (size - 2) ** 2
        )
    Y, y, s = make_biased_classification(n_samples=200, random_state=0)
    clf = FairLowRankHeadClassifier(nn.Tanh()).fit(Y, y, sensitive_features=s)
    single = clf.predict(Y.astype(np.float32))
    assert (single == clf.predict(Y)).mean() > 0.98
    clf.predict(Y.round().astype(int))


def test_rows_of_one_module_in_several_forms():
    """Each is made into a batch in its own way, also the rows that are looked at again."""
    module = nn.Linear(4, 2)
    expected = FrozenFeatureExtractor(module, memory=False).fit_transform(X)
    tensors = [torch.from_numpy(row) for row in X]
    given = [
        X,
        list(X),
        tensors,
        [(row, 1) for row in tensors],
        [{"input": row} for row in tensors],
    ]
    for rows in (*given, torch.from_numpy(X), *given):
        found = FrozenFeatureExtractor(module).transform(rows)  # a warning would be an error
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_modules_in_threads_do_not_meet():
    """Two threads, one module: one runs it at a time, and its modes are as they were."""
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)).train()
    expected = FrozenFeatureExtractor(module, memory=False).transform(X)
    errors = []

    def work():
        try:
            for _ in range(5):
                found = FrozenFeatureExtractor(module).transform(X)
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert module.training


def test_no_file_stays_open(tmp_path):
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        pytest.skip("open files are listed on Linux only")
    before = len(os.listdir(folder))
    for i in range(10):
        FrozenFeatureExtractor(nn.Linear(4, 2), memory=tmp_path / str(i)).fit_transform(X)
    assert len(os.listdir(folder)) <= before + 1


def _linear():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def _exported():
    rows = torch.export.Dim("rows")
    return torch.export.export(
        _linear(), (torch.zeros(5, 4),), dynamic_shapes=({0: rows},)
    ).module()


KINDS = {
    "script": lambda: torch.jit.script(_linear()),
    "frozen script": lambda: torch.jit.freeze(torch.jit.script(_linear().eval())),
    "trace": lambda: torch.jit.trace(_linear().eval(), torch.zeros(5, 4)),
    "export": _exported,
    "export inside": lambda: nn.Sequential(_exported(), nn.Dropout()),
    "fx": lambda: torch.fx.symbolic_trace(_linear()),
    "lazy": lambda: nn.LazyLinear(3),
    "quantized": lambda: torch.ao.quantization.quantize_dynamic(
        nn.Sequential(_linear()), {nn.Linear}
    ),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(_linear()),
    "old weight_norm": lambda: nn.utils.weight_norm(_linear()),
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(_linear()),
    "bfloat16": lambda: _linear().bfloat16(),
    "compiled": lambda: torch.compile(_linear(), backend="eager"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_modules_of_every_kind_are_remembered(kind):
    """And are others where their weights are."""
    module = KINDS[kind]()
    extractor = FrozenFeatureExtractor(module)
    first = extractor.fit_transform(X)
    extractor.transform(X)  # what a lazy module fills in, it has now
    before = extractor.store.info()
    np.testing.assert_allclose(extractor.transform(X), first, rtol=1e-5, atol=1e-6)
    after = extractor.store.info()
    assert (after.hits - before.hits, after.misses) == (len(X), before.misses)
    parameters = [each for each in module.parameters() if each.is_floating_point()]
    if parameters:
        with torch.no_grad():
            parameters[-1].mul_(1.5).add_(1.0)
        assert np.abs(FrozenFeatureExtractor(module).transform(X) - first).max() > 0.01
        assert extractor.store.info().misses == after.misses + len(X)
