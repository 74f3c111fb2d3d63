"""What outgrows the process's memory goes to a folder, and nothing is forgotten on the way."""

import copy
import gc
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skfairft import FrozenFeatureExtractor
from skfairft.feature_store import MemoryStore, ProcessStore, get_store

WIDTH = 8
ROW_BYTES = 4 * WIDTH + 16


def keys_of(*numbers):
    return np.array([[number, number + 1] for number in numbers], dtype=np.uint64)


def features_of(*numbers):
    return np.array([np.arange(WIDTH) + number for number in numbers], dtype=np.float32)


def put(store, namespace, numbers):
    store.put(namespace, keys_of(*numbers), features_of(*numbers))


@pytest.fixture
def store():
    """Room for 100 rows in memory."""
    return ProcessStore(MemoryStore(100 * ROW_BYTES))


def folder_of(store):
    return store._disk.folder


class TestOutgrowing:
    def test_features_of_one_module_are_all_kept(self, store):
        for start in range(0, 300, 30):
            put(store, b"a", range(start, start + 30))
        order = np.random.default_rng(0).permutation(300)
        found, features = store.lookup(b"a", keys_of(*order, 300, 301))
        assert found.tolist() == [True] * 300 + [False] * 2
        np.testing.assert_array_equal(features, features_of(*order))
        info = store.info()
        assert (info.rows, info.hits, info.misses) == (300, 300, 2)
        assert store.memory.info().bytes <= store.memory.max_bytes
        # Control: memory alone would have forgotten most of them.
        alone = MemoryStore(100 * ROW_BYTES)
        for start in range(0, 300, 30):
            put(alone, b"a", range(start, start + 30))
        assert alone.lookup(b"a", keys_of(*range(300)))[0].sum() <= 100

    def test_small_modules_stay_in_memory_and_the_oldest_is_forgotten(self, store):
        for namespace in (b"a", b"b", b"c"):
            put(store, namespace, range(50))
        assert store._disk is None
        assert not store.lookup(b"a", keys_of(3))[0].any()
        assert store.lookup(b"b", keys_of(3))[0].all()

    def test_rows_are_stored_once(self, store):
        put(store, b"a", range(80))
        put(store, b"a", range(60, 140))
        put(store, b"a", range(100, 140))
        assert store.lookup(b"a", keys_of(*range(140)))[0].all()
        assert store._disk.info().rows <= 80

    def test_clear_forgets_both(self, store):
        put(store, b"a", range(150))
        put(store, b"b", range(10))
        store.clear()
        assert store.info().rows == 0
        assert not store.lookup(b"a", keys_of(*range(150)))[0].any()
        put(store, b"a", range(50))  # and small ones are in memory again
        assert store.memory.info().rows == 50

    def test_a_search_over_large_features_runs_each_row_once(self, monkeypatch):
        class Counting(nn.Module):
            def __init__(self):
                super().__init__()
                self.rows = 0

            def forward(self, x):
                self.rows += len(x)
                return torch.cat([x, -x], dim=1)

        store, module = ProcessStore(MemoryStore(100 * ROW_BYTES)), Counting()
        X = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
        extractor = FrozenFeatureExtractor(module, memory=store, batch_size=50)
        for rows in (X, X[::-1], X[100:400], X):
            np.testing.assert_array_equal(extractor.fit_transform(rows), np.hstack([rows, -rows]))
        assert module.rows == 500


class TestItsFolder:
    def test_goes_with_the_store(self):
        store = ProcessStore(MemoryStore(100 * ROW_BYTES))
        put(store, b"a", range(150))
        folder = folder_of(store)
        assert (folder / "features.sqlite").exists()
        del store
        gc.collect()
        assert not folder.exists()

    def test_goes_with_the_process(self):
        program = (
            "import numpy as np; from skfairft.feature_store import MemoryStore, ProcessStore\n"
            "store = ProcessStore(MemoryStore(100))\n"
            "keys = np.arange(200, dtype=np.uint64).reshape(100, 2)\n"
            "store.put(b'a', keys, np.ones((100, 8)))\n"
            "print(store._disk.folder, store.info().rows)\n"
        )
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        folder, rows = done.stdout.split()
        assert rows == "100"
        assert not Path(folder).exists()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda store: pickle.loads(pickle.dumps(store))])
def test_a_copy_is_empty_with_the_same_bound(store, copied):
    put(store, b"a", range(150))
    other = copied(store)
    assert other.info().rows == 0
    assert other.memory.max_bytes == store.memory.max_bytes
    put(other, b"a", range(3))
    assert store.info().rows == 150


def test_it_is_what_none_stands_for():
    assert isinstance(get_store(None), ProcessStore)
    assert FrozenFeatureExtractor(nn.Identity()).store is get_store(None)
