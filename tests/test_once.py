"""Every distinct row goes through the module once, and a few are looked at again."""

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import Dataset

from skfairft import FairLowRankHeadClassifier, FineTune, FrozenFeatureExtractor
from skfairft.backbone.extraction import FIRST_ROWS
from skfairft.feature_store import DiskStore, MemoryStore
from skfairft.feature_store.witness import MOST_ROWS
from skfairft.inputs.exceptions import FeatureStoreWarning
from skfairft.metrics import fairness_scorer

N = 240


class Log:
    """What ran, kept out of the module's state: a pickle of it is empty."""

    def __init__(self):
        self.batches = []

    def __reduce__(self):
        return Log, ()


class Counting(nn.Module):
    """A network that counts its rows: in a log, and in a file for other processes to see."""

    def __init__(self, log=None, pool="mean", seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(5, 8, generator=generator))
        self.pool = pool
        self.path = log
        self.log = Log()

    @property
    def batches(self):
        """Sizes of the batches but for those of the few rows that are looked at again."""
        return [size for size in self.log.batches if size > MOST_ROWS]

    @property
    def rows(self):
        return sum(self.batches)

    @property
    def looks(self):
        """Batches of rows that were looked at again."""
        return len(self.log.batches) - len(self.batches)

    def forward(self, x):
        self.log.batches.append(len(x))
        if self.path is not None and len(x) > MOST_ROWS:
            with Path(self.path).open("a") as file:
                file.write(f"{len(x)}\n")
        return torch.relu(x @ self.weight) * (2.0 if self.pool == "max" else 1.0)


def logged(path):
    return sum(int(line) for line in Path(path).read_text().split())


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 5)).astype(np.float32)
    s = np.where(rng.uniform(size=N) < 0.5, "a", "b")
    y = (X[:, 0] + 0.5 * (s == "a") + rng.normal(size=N) > 0).astype(int)
    return X, y, s


def search_of(estimator, prefix, **settings):
    scoring = {
        "error": fairness_scorer("weighted_f1_error"),
        "disparity": fairness_scorer("demographic_parity_distance"),
    }
    grid = {f"{prefix}rank": [1, 2], f"{prefix}importance": ["fisher", "uniform"]}
    return GridSearchCV(estimator, grid, scoring=scoring, refit="error", cv=3, **settings)


def requesting(extractor):
    clf = FairLowRankHeadClassifier(extractor, solver=FineTune(max_epochs=3, tol=None))
    return clf.set_fit_request(sensitive_features=True)


class TestOnce:
    def test_within_a_fit_and_later_predictions(self, data):
        X, y, s = data
        module = Counting()
        clf = FairLowRankHeadClassifier(module, rank=1).fit(X, y, sensitive_features=s)
        assert module.rows == N
        first = clf.predict_proba(X)
        clf.predict(X[::-7])
        clf.predict(pd.DataFrame(X))
        copy.deepcopy(clf).decision_function(X)
        clone(clf).fit(X, y, sensitive_features=s)
        assert module.rows == N
        np.testing.assert_array_equal(clf.predict_proba(X), first)
        clf.predict(X + 1.0)  # control: new rows do run
        assert module.rows == 2 * N

    def test_what_is_found_is_looked_at(self, data):
        """Each call that is given stored features, or adds to them, runs up to four rows again."""
        module = Counting()
        extractor = FrozenFeatureExtractor(module)
        extractor.fit_transform(data[0][:100])
        assert (module.rows, module.looks) == (100, 1)
        extractor.transform(data[0][:50])
        assert (module.rows, module.looks) == (100, 2)
        extractor.transform(data[0][50:])
        assert (module.rows, module.looks) == (N, 3)
        assert sum(module.log.batches) == N + 3 * MOST_ROWS
        # A few new rows just run; a few known ones are those that are stored, to the bit.
        extractor.transform(data[0][:3] + 1.0)
        assert module.log.batches[-1] == 3
        np.testing.assert_array_equal(
            extractor.transform(data[0][:1]), extractor.transform(data[0])[:1]
        )

    def test_without_memory_rows_run_each_time(self, data):
        X, y, s = data
        module = Counting()
        clf = FairLowRankHeadClassifier(FrozenFeatureExtractor(module, memory=False), rank=1)
        clf.fit(X, y, sensitive_features=s).predict(X)
        assert module.rows == 2 * N

    def test_repeated_rows(self, data):
        X = data[0]
        order = np.random.default_rng(0).integers(0, 50, size=3000)
        module = Counting()
        features = FrozenFeatureExtractor(module).fit_transform(X[order])
        assert module.rows == len(np.unique(order))
        np.testing.assert_array_equal(
            features, FrozenFeatureExtractor(module, memory=False).transform(X)[order]
        )

    @pytest.mark.parametrize("kind", ["estimator", "extractor in a pipeline", "scaler behind"])
    def test_across_a_grid_search(self, data, routing, kind):
        X, y, s = data
        module = Counting()
        estimator, prefix = requesting(module), ""
        if kind != "estimator":
            steps = [FrozenFeatureExtractor(module), requesting(None)]
            if kind == "scaler behind":
                steps.insert(1, StandardScaler())
            estimator, prefix = make_pipeline(*steps), "fairlowrankheadclassifier__"
        search = search_of(estimator, prefix).fit(X, y, sensitive_features=s)
        assert module.rows == N
        search.predict(X)
        assert module.rows == N

    def test_across_other_meta_estimators(self, data, routing):
        X, y, s = data
        module = Counting()
        cross_val_predict(requesting(module), X, y, params={"sensitive_features": s}, cv=4)
        assert module.rows == N

    @pytest.mark.parametrize("n_jobs", [1, 2])
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_across_processes_through_a_folder(self, data, routing, tmp_path, n_jobs):
        """Forked ones, which take no seconds to start; at last this one finds what they stored."""
        X, y, s = data
        log = tmp_path / "rows.txt"
        extractor = FrozenFeatureExtractor(
            Counting(log), batch_size=16, memory=tmp_path / "features"
        )
        search = search_of(requesting(extractor), "", n_jobs=n_jobs)
        with joblib.parallel_backend("multiprocessing"):
            search.fit(X, y, sensitive_features=s)
        assert logged(log) == N
        search.predict(X)
        assert logged(log) == N

    def test_with_threads(self, data, routing):
        X, y, s = data
        module = Counting().train()
        with joblib.parallel_backend("threading"):
            search_of(requesting(module), "", n_jobs=2).fit(X, y, sensitive_features=s)
        assert module.rows == N
        assert module.training

    @pytest.mark.slow
    def test_a_fresh_process_finds_what_another_stored(self, data, tmp_path):
        X = data[0]
        np.save(tmp_path / "X.npy", X)
        stored = FrozenFeatureExtractor(Counting(), memory=tmp_path).fit_transform(X)
        program = (
            "import sys, numpy as np; sys.path.insert(0, sys.argv[1])\n"
            "from test_once import Counting; from skfairft import FrozenFeatureExtractor\n"
            "module = Counting()\n"
            "X = np.load(sys.argv[2] + '/X.npy')\n"
            "Z = FrozenFeatureExtractor(module, memory=sys.argv[2]).fit_transform(X)\n"
            "print(module.rows, float(Z.sum()))\n"
        )
        command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert run.stdout.split() == ["0", str(float(stored.sum()))]


class Items(Dataset):
    def __init__(self, X, label=None):
        self.X, self.label = X, label

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        x = torch.from_numpy(self.X[i])
        return x if self.label is None else (x, self.label)


class Lookup:
    """A preprocess: rows by number or name."""

    def __init__(self, X, scale=1.0):
        self.X, self.scale = X, scale

    def __call__(self, rows):
        return self.scale * torch.from_numpy(self.X[[int(row) for row in rows]])


class TestInputs:
    @pytest.mark.parametrize("num_workers", [0, 3])
    @pytest.mark.parametrize(
        "kind", ["tensor", "dataset", "labelled dataset", "texts", "array of texts", "series"]
    )
    def test_give_the_same_features_once(self, data, routing, kind, num_workers):
        X, y, s = data
        expected = FrozenFeatureExtractor(Counting(), memory=False).fit_transform(X)
        module = Counting()
        names = [str(i) for i in range(N)]
        preprocess = None
        if kind in ("texts", "array of texts", "series"):
            preprocess = Lookup(X)
        given = {
            "tensor": torch.from_numpy(X),
            "dataset": Items(X),
            "labelled dataset": Items(X, label=1),
            "texts": names,
            "array of texts": np.array(names),
            "series": pd.Series(names, index=np.arange(N) + 7),
        }[kind]
        extractor = FrozenFeatureExtractor(
            module, preprocess=preprocess, batch_size=32, num_workers=num_workers
        )
        np.testing.assert_allclose(extractor.fit_transform(given), expected, rtol=1e-6)
        assert module.rows == N
        assert max(module.batches) == 32
        extractor.transform(given)
        params = {"sensitive_features": s}
        cross_val_predict(requesting(extractor), given, y, params=params, cv=2)
        assert module.rows == N

    def test_preprocess_of_a_dataset_gets_its_items(self, data):
        X = data[0]

        def stack(items):
            return torch.stack([x for x, label in items if label == 3])

        found = FrozenFeatureExtractor(Counting(), preprocess=stack).fit_transform(Items(X, 3))
        expected = FrozenFeatureExtractor(Counting()).fit_transform(X)
        np.testing.assert_array_equal(found, expected)

    def test_a_file_that_changes_is_a_new_row(self, tmp_path):
        paths = [tmp_path / f"{i}.txt" for i in range(12)]
        for i, path in enumerate(paths):
            path.write_text(f"{i}")

        def read(rows):
            return torch.tensor([[float(Path(row).read_text())] * 5 for row in rows])

        module = Counting()
        extractor = FrozenFeatureExtractor(module, preprocess=read)
        before = extractor.fit_transform([str(path) for path in paths])
        for path in paths[:6]:
            path.write_text("7" + path.read_text())
        after = extractor.transform([str(path) for path in paths])
        assert module.rows == 12 + 6
        np.testing.assert_array_equal(after[6:], before[6:])
        assert (np.abs(after - before)[:6].max(axis=1) > 0.1).all()

    def test_texts_without_preprocess_are_an_error(self):
        with pytest.raises(ValueError, match=r"X holds str objects such as 'a text'.*Texts"):
            FrozenFeatureExtractor(Counting()).fit(["a text", "another"])

    def test_rows_without_comparable_content_run_each_time(self, data, tmp_path):
        class Opaque:
            def __init__(self, x):
                self.x = x

        rows = [Opaque(torch.from_numpy(x)) for x in data[0]]

        def stack(rows):
            return torch.stack([row.x for row in rows])

        module = Counting()
        extractor = FrozenFeatureExtractor(module, preprocess=stack)
        first = extractor.fit_transform(rows)
        np.testing.assert_array_equal(extractor.transform(rows), first)
        assert module.rows == 2 * N
        extractor.set_params(memory=tmp_path)
        with pytest.warns(UserWarning, match="hold Opaque objects.*not stored"):
            extractor.transform(rows)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_rows_of_which_only_some_can_be_compared(self, data, tmp_path, num_workers):
        """The others are found; these run again, with a note where a memory was asked for."""
        X = data[0]

        class Opaque:
            def __init__(self, number):
                self.number = number

            def __int__(self):
                return self.number

        rows = pd.Series([*range(200), *map(Opaque, range(200, N))], index=np.arange(N) + 7)
        module = Counting()
        extractor = FrozenFeatureExtractor(
            module, preprocess=Lookup(X), batch_size=50, num_workers=num_workers, memory=tmp_path
        )
        expected = FrozenFeatureExtractor(Counting(), memory=False).fit_transform(X)
        for ran in (N, N + 40):
            with pytest.warns(FeatureStoreWarning, match="hold Opaque objects.*runs them anew"):
                found = extractor.fit_transform(rows)
            np.testing.assert_allclose(found, expected, rtol=1e-6)
            assert module.rows == ran

    @pytest.mark.parametrize("as_row", [str, os.fsencode])
    @pytest.mark.parametrize("kind", ["folder", "name"])
    def test_a_name_whose_file_is_not_seen_runs_each_time(
        self, tmp_path, monkeypatch, kind, as_row
    ):
        """A folder, and a name relative to a folder that only `preprocess` knows."""
        monkeypatch.chdir(tmp_path)
        root = tmp_path / "elsewhere"
        for i in range(9):
            (root / f"{i}.npy").mkdir(parents=True)
            np.save(root / f"{i}.npy" / "x.npy", np.full(5, float(i)))
        if kind == "folder":
            rows, tail = [as_row(str(root / f"{i}.npy")) for i in range(9)], "x.npy"
        else:
            rows, tail = [as_row(f"{i}.npy") for i in range(9)], "x.npy"

        def read(rows):
            paths = [root / os.fsdecode(row) / tail for row in rows]
            return torch.from_numpy(np.stack([np.load(path) for path in paths]))

        extractor = FrozenFeatureExtractor(Counting(), preprocess=read)
        with pytest.warns(FeatureStoreWarning, match=r"such as .*0\.npy.*preprocess.reads_files"):
            before = extractor.fit_transform(rows)
        np.save(root / "7.npy" / "x.npy", np.full(5, 70.0))
        with pytest.warns(FeatureStoreWarning):
            after = extractor.transform(rows)
        np.testing.assert_allclose(after[7], 10 * before[7], rtol=1e-4)

    @pytest.mark.parametrize("estimator", [FrozenFeatureExtractor, FairLowRankHeadClassifier])
    def test_a_mapping_is_an_error(self, data, estimator):
        tokens = {"input_ids": torch.ones(N, 5), "attention_mask": torch.ones(N, 5)}
        with pytest.raises(ValueError, match=r"X is a dict with \['input_ids'.*one entry per row"):
            estimator(Counting()).fit(tokens, data[1])

    def test_items_that_are_mappings_are_keyword_arguments(self, data):
        X = data[0]

        class Keywords(Counting):
            def forward(self, *, x, bias):
                return super().forward(x) + bias

        items = [{"x": torch.from_numpy(row), "bias": torch.full((8,), 2.0)} for row in X]
        found = FrozenFeatureExtractor(Keywords()).fit_transform(items)
        expected = FrozenFeatureExtractor(Counting()).fit_transform(X) + 2.0
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_items_that_do_not_stack_are_an_error(self, data):
        ragged = [torch.ones(5), torch.ones(4)]
        with pytest.raises(ValueError, match="cannot be stacked into a batch"):
            FrozenFeatureExtractor(Counting()).fit_transform(ragged)

    def test_items_with_nan_are_an_error(self, data):
        X = data[0].copy()
        X[100, 2] = np.nan
        with pytest.raises(ValueError, match="contains NaN in 1"):
            FrozenFeatureExtractor(Counting()).fit_transform(Items(X))
        X[100, 2] = np.inf
        with pytest.raises(ValueError, match="contains infinity"):
            FrozenFeatureExtractor(Counting()).fit_transform(Items(X))


class Edited(Counting):
    def forward(self, x):
        return super().forward(x) + 1.0


def _retrain(module):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.ones(4, 5)).sum().backward()
    optimizer.step()
    module.log.batches.clear()


def _write_data(module):
    module.weight.data[0, 0] += 1.0


class TestWhatMakesARowNew:
    @pytest.mark.parametrize("memory", [None, "folder"])
    @pytest.mark.parametrize(
        "change",
        [
            _retrain,
            _write_data,
            lambda module: setattr(module, "pool", "max"),
            lambda module: setattr(module, "__class__", Edited),
            lambda module: module.register_forward_hook(lambda m, args, out: out * 3.0),
        ],
        ids=["retrained", "written to .data", "configuration", "another forward", "hook"],
    )
    def test_a_changed_module(self, data, tmp_path, memory, change):
        X = data[0]
        module = Counting()
        extractor = FrozenFeatureExtractor(module, memory=memory and tmp_path)
        before = extractor.fit_transform(X)
        change(module)
        module.log.batches.clear()
        trained = change in (_retrain, _write_data)
        with pytest.warns(UserWarning, match="others than at fit") if trained else nullcontext():
            after = extractor.transform(X)
        assert module.rows == N
        expected = FrozenFeatureExtractor(module, memory=False).transform(X)
        np.testing.assert_array_equal(after, expected)
        assert np.abs(after - before).max() > 1e-3

    @pytest.mark.parametrize("memory", [None, "folder"])
    def test_the_same_weights_loaded_again_do_not(self, data, tmp_path, memory):
        X = data[0]
        first, second = Counting(seed=0), Counting(seed=1)
        settings = {"memory": memory and tmp_path}
        FrozenFeatureExtractor(first, **settings).fit_transform(X)
        second.load_state_dict(first.state_dict())
        FrozenFeatureExtractor(second, **settings).fit_transform(X)
        FrozenFeatureExtractor(pickle.loads(pickle.dumps(first)), **settings).fit_transform(X)
        second.eval().requires_grad_(False)
        FrozenFeatureExtractor(second, **settings).fit_transform(X)
        assert second.rows == 0

    @pytest.mark.parametrize(
        "settings",
        [{"layer": "0"}, {"dtype": "bfloat16"}, {"preprocess": 2.0}, {"pool": "max"}],
        ids=lambda settings: next(iter(settings)),
    )
    def test_changed_settings(self, data, settings):
        X = data[0]
        counting = Counting()
        module = nn.Sequential(counting, nn.Linear(8, 8))
        names = [str(i) for i in range(N)]
        basis = {"preprocess": Lookup(X)}
        if "pool" in settings:
            module.append(nn.Unflatten(1, (2, 4)))
            basis["pool"] = "mean"
        before = FrozenFeatureExtractor(module, **basis).fit_transform(names)
        if "preprocess" in settings:
            settings = {"preprocess": Lookup(X, settings["preprocess"])}
        after = FrozenFeatureExtractor(module, **{**basis, **settings}).fit_transform(names)
        assert counting.rows == 2 * N
        assert np.abs(after - before).max() > 1e-4

    def test_settings_that_only_change_the_way_do_not(self, data):
        X = data[0]
        module = Counting()
        before = FrozenFeatureExtractor(module).fit_transform(X)
        for settings in ({"batch_size": 7}, {"num_workers": 2}, {"device": "cpu"}, {"verbose": 1}):
            np.testing.assert_array_equal(
                FrozenFeatureExtractor(module, **settings).fit_transform(X), before
            )
        assert module.rows == N


class TestMemory:
    def test_a_store_may_be_passed_and_is_shared_by_clones(self, data):
        X = data[0]
        module, store = Counting(), MemoryStore()
        extractor = FrozenFeatureExtractor(module, memory=store)
        clone(extractor).fit_transform(X)
        assert extractor.store is store
        assert clone(extractor).memory is store
        assert store.info().rows == N
        FrozenFeatureExtractor(module).fit_transform(X)  # the common store knows nothing of them
        assert module.rows == 2 * N

    def test_info_and_clear(self, data, tmp_path):
        X = data[0]
        module = Counting()
        (tmp_path / "other").mkdir()
        for memory in (None, tmp_path, str(tmp_path), DiskStore(tmp_path / "other")):
            extractor = FrozenFeatureExtractor(module, memory=memory)
            extractor.store.clear()
            module.log.batches.clear()
            extractor.fit_transform(X)
            assert module.rows == N
            assert extractor.store.info().rows == N
            extractor.store.clear()
            assert extractor.store.info().rows == 0
            extractor.transform(X)
            assert module.rows == 2 * N

    def test_a_small_store_forgets_the_oldest_and_stays_right(self, data):
        X = data[0]
        module = Counting()
        extractor = FrozenFeatureExtractor(module, memory=MemoryStore(max_bytes=100 * (8 * 4 + 16)))
        parts = X[:80], X[80:160]
        for part in (parts[0], parts[1], parts[1]):
            extractor.fit_transform(part)
        assert module.rows == 160
        extractor.transform(parts[0])
        assert module.rows == 240
        info = extractor.store.info()
        assert info.bytes <= info.max_bytes

    def test_an_interrupted_extraction_is_kept(self, data, tmp_path):
        X = data[0]

        class Interrupted(Counting):
            def forward(self, x):
                if self.rows >= 96 and len(x) > MOST_ROWS:
                    raise KeyboardInterrupt
                return super().forward(x)

        module = Interrupted()
        extractor = FrozenFeatureExtractor(module, memory=tmp_path, batch_size=32)
        with pytest.raises(KeyboardInterrupt):
            extractor.fit_transform(X)
        assert extractor.store.info().rows == 96
        np.testing.assert_array_equal(
            extractor.transform(X[:96]), FrozenFeatureExtractor(Counting()).transform(X[:96])
        )
        assert module.rows == 96

    def test_an_error_in_the_module_blocks_nobody(self, data, tmp_path):
        """Rows that were claimed and not computed are free for others, also in this process."""

        class Broken(Counting):
            fail = True

            def forward(self, x):
                if Broken.fail:
                    raise RuntimeError("no")
                return super().forward(x)

        extractor = FrozenFeatureExtractor(Broken(), memory=tmp_path)
        with pytest.raises(ValueError, match="failed on a batch"):
            extractor.fit_transform(data[0])
        Broken.fail = False
        done = threading.Event()
        other = clone(extractor).set_params(memory=DiskStore(tmp_path))  # as another process

        def again():
            other.transform(data[0])
            done.set()

        threading.Thread(target=again, daemon=True).start()
        assert done.wait(20)


class TestShortMemory:
    class Limited(Counting):
        """A module for which more than some rows are too many."""

        def __init__(self, most, message):
            super().__init__()
            self.most, self.message = most, message

        def forward(self, x):
            if len(x) > self.most:
                raise (
                    MemoryError(self.message)
                    if self.message == "python"
                    else RuntimeError(self.message)
                )
            return super().forward(x)

    @pytest.mark.parametrize(
        "message",
        [
            "CUDA out of memory. Tried to allocate 2.00 GiB",
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you",
            "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes",
            "Failed to allocate memory for requested buffer of size 4",
            "std::bad_alloc",
            "python",
        ],
    )
    def test_halves_the_batches_and_says_so(self, data, message):
        X = data[0]
        module = self.Limited(20, message)
        with pytest.warns(UserWarning, match=r"goes on with batch_size=(32|16)\.") as caught:
            found = FrozenFeatureExtractor(module, batch_size=64).fit_transform(X)
        np.testing.assert_allclose(
            found, FrozenFeatureExtractor(Counting()).fit_transform(X), rtol=1e-6
        )
        assert module.rows == N
        assert max(module.batches) == 16
        assert sum("batch_size" in str(warning.message) for warning in caught) == 2  # 32, 16

    def test_gives_up_at_one_row(self, data):
        module = self.Limited(0, "CUDA out of memory")
        with (
            pytest.warns(UserWarning, match=r"batch_size=[21]\."),
            pytest.raises(MemoryError, match="on a single row"),
        ):
            FrozenFeatureExtractor(module, batch_size=4).fit_transform(data[0])

    def test_other_errors_are_not_taken_for_it(self, data):
        module = self.Limited(0, "the size of tensor a must match; memory_format is wrong")
        with pytest.raises(ValueError, match="failed on a batch"):
            FrozenFeatureExtractor(module).fit_transform(data[0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_prepare_ahead_and_in_order(data, num_workers):
    """The second batch is made while the module runs the first; without workers it is not."""
    second_made, seen, made = threading.Event(), [], []

    class Waits(Counting):
        def forward(self, x):
            if self.rows == 0:
                seen.append(second_made.wait(10 if num_workers else 0))
                time.sleep(0.2)  # time to make more than may wait in memory
                assert len(made) <= 2 * num_workers + 1
            return super().forward(x)

    def make(rows):
        made.append(rows[0])
        if rows[0] == 20:
            second_made.set()
        return torch.from_numpy(data[0][rows])

    extractor = FrozenFeatureExtractor(
        Waits(), preprocess=make, batch_size=20, num_workers=num_workers, memory=False
    )
    found = extractor.fit_transform(np.arange(N))
    assert seen == [num_workers > 0]
    np.testing.assert_array_equal(found, FrozenFeatureExtractor(Counting()).transform(data[0]))


def test_large_features_are_memory_mapped(data):
    X = data[0]
    small = FrozenFeatureExtractor(Counting()).fit_transform(X)
    mapped = FrozenFeatureExtractor(Counting(), max_nbytes=1000).fit_transform(X)
    assert type(small) is np.ndarray
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(small, mapped)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": 3}, "memory"),
        ({"memory": True}, "memory"),
        ({"pool": "median"}, "pool"),
        ({"dtype": "float8"}, "dtype"),
        ({"dtype": torch.float64}, "dtype"),
        ({"num_workers": -1}, "num_workers"),
        ({"max_nbytes": -1}, "max_nbytes"),
    ],
)
def test_bad_settings_are_errors(data, settings, message):
    with pytest.raises(ValueError, match=f"'{message}' parameter"):
        FrozenFeatureExtractor(Counting(), **settings).fit(data[0])


def test_a_file_in_the_place_of_the_folder_is_an_error(data, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="folder"):
        FrozenFeatureExtractor(Counting(), memory=tmp_path / "file").fit(data[0])


class TestCheapModules:
    """A store that would cost more than a twentieth of the module's time switches itself off."""

    def test_are_not_remembered_where_rows_are_many(self):
        X = np.random.default_rng(0).normal(size=(60_000, 40))
        module = nn.Sequential(nn.Linear(40, 2), nn.ReLU())
        extractor = FrozenFeatureExtractor(module, batch_size=2**14)
        expected = FrozenFeatureExtractor(module, batch_size=2**14, memory=False).fit_transform(X)
        np.testing.assert_allclose(extractor.fit_transform(X), expected, rtol=1e-5, atol=1e-6)
        first = extractor.store.info()
        assert first.rows < 10_000
        np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-5, atol=1e-6)
        assert extractor.store.info() == first  # not even looked up

    def test_are_remembered_in_a_folder_all_the_same(self, tmp_path):
        X = np.random.default_rng(0).normal(size=(20_000, 4))
        extractor = FrozenFeatureExtractor(nn.Linear(4, 2), memory=tmp_path)
        extractor.fit_transform(X)
        assert extractor.store.info().rows == 20_000

    def test_dear_modules_are_remembered_however_many_the_rows(self):
        class Dear(Counting):
            def forward(self, x):
                end = time.perf_counter() + 1e-4 * len(x)  # a hundred times what a look takes
                while time.perf_counter() < end:
                    pass
                return super().forward(x)

        X = np.random.default_rng(0).normal(size=(4000, 5)).astype(np.float32)
        module = Dear()
        extractor = FrozenFeatureExtractor(module, batch_size=1000)
        extractor.fit_transform(X)
        extractor.transform(X[::-1])
        assert module.rows == 4000 > FIRST_ROWS
