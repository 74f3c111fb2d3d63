"""Stores give back what was put, or nothing: whoever writes, dies or damages the file meanwhile."""

import contextlib
import copy
import gc
import os
import pickle
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
from filelock import Timeout

from skfairft._stores import base, disk
from skfairft._stores.file import FeatureFile
from skfairft._stores.key_index import ChunkIndex, KeyIndex, distinct
from skfairft.feature_store import (
    DiskStore,
    FeatureStoreWarning,
    MemoryStore,
    ProcessStore,
    StoreInfo,
    get_store,
)

A, B = b"a" * 16, b"b" * 16


def make_keys(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, (n, 2), dtype=np.uint64)


def compute(keys, width=6, dtype=np.float32):
    """Features that the keys determine, so that a wrong row is seen wherever it comes from."""
    words = keys[:, :1] ^ (keys[:, 1:] + np.arange(width, dtype=np.uint64))
    return (words >> np.uint64(40)).astype(dtype)


def start(function, *args):
    """Run a function in a forked process; return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        pid = os.fork()
    if pid:
        return pid
    try:
        function(*args)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def finish(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def check_served(store, keys, namespace=A, rounds=1):
    """What is found is right, what is not can be stored again; return how many were lost."""
    lost = 0
    for _ in range(rounds + 1):
        found, features = store.lookup(namespace, keys)
        assert (features is None) == (not found.any())
        if features is not None:
            np.testing.assert_array_equal(features, compute(keys[found]))
        if found.all():
            return lost
        lost = max(lost, int((~found).sum()))
        store.put(namespace, keys[~found], compute(keys[~found]))
    pytest.fail(f"{lost} rows are not there after they were stored")


@pytest.fixture
def tmp_path():
    """A folder in memory where there is one: a disk makes thousands of small writes wait."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name).resolve()


@pytest.fixture(params=["memory", "disk"])
def make_store(request, tmp_path):
    """A function that makes a store of either kind."""

    def make(**kwargs):
        return MemoryStore(**kwargs) if request.param == "memory" else DiskStore(tmp_path, **kwargs)

    return make


class TestKeyIndex:
    def test_agrees_with_a_dict(self):
        rng = np.random.default_rng(0)
        # Few different words, so that keys share the first word, and occur again and again.
        pool = rng.integers(0, 40, (400, 2), dtype=np.uint64)
        index, oracle = KeyIndex(), {}
        for round_ in range(60):
            keys = pool[rng.integers(0, 400, rng.integers(0, 30))]
            positions = rng.integers(0, 10**6, len(keys))
            index.add(keys, positions)
            oracle.update(zip(map(tuple, keys.tolist()), positions.tolist(), strict=True))
            asked = pool[rng.integers(0, 400, 50)]
            expected = [oracle.get(tuple(key), -1) for key in asked.tolist()]
            assert index.find(asked).tolist() == expected, round_
        keys, positions = index.entries()
        rebuilt = KeyIndex()
        rebuilt.add(keys, positions)
        np.testing.assert_array_equal(rebuilt.find(pool), index.find(pool))

    def test_few_runs(self):
        index = KeyIndex()
        for i in range(500):
            index.add(make_keys(10, i), np.arange(10))
        assert len(index) == 5000
        assert len(index._runs) < 14

    def test_dropped_chunks_leave_the_memory(self):
        index = ChunkIndex()
        for i in range(100):
            index.add([(i, make_keys(200, i), None)])
            index.drop(i - 1)
        assert (index.find(make_keys(200, 99)) >= 0).all()
        assert (index.find(make_keys(200, 98)) < 0).all()
        assert len(index._index) < 10_000

    def test_distinct(self):
        keys = np.array([[1, 2], [1, 3], [1, 2], [2, 2]], dtype=np.uint64)
        assert distinct(keys).tolist() == [True, True, False, True]


class TestContents:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_agrees_with_a_dict(self, make_store, dtype, monkeypatch):
        monkeypatch.setattr(base, "CHUNK_BYTES", 300)
        rng = np.random.default_rng(1)
        store, oracle, hits, misses = make_store(), {}, 0, 0
        pool = make_keys(120)
        for _ in range(25):
            namespace = [A, B][rng.integers(2)]
            keys = pool[rng.integers(0, 120, rng.integers(0, 30))]
            width = 6 if namespace == A else 3
            features = rng.normal(size=(len(keys), width)).astype(dtype)
            store.put(namespace, keys, features)
            for key, row in zip(map(tuple, keys.tolist()), features, strict=True):
                oracle.setdefault((namespace, key), row)
            asked = pool[rng.integers(0, 120, 40)]
            found, got = store.lookup(namespace, asked)
            rows = [oracle.get((namespace, tuple(key))) for key in asked.tolist()]
            assert found.tolist() == [row is not None for row in rows]
            hits, misses = hits + found.sum(), misses + (~found).sum()
            if found.any():
                assert got.dtype == dtype
                np.testing.assert_array_equal(got, [row for row in rows if row is not None])
            else:
                assert got is None
        info = store.info()
        assert (info.rows, info.hits, info.misses) == (len(oracle), hits, misses)
        assert info.bytes == sum(row.nbytes + 16 for row in oracle.values())

    def test_later_objects_and_processes_find_it(self, tmp_path):
        keys = make_keys(50)
        DiskStore(tmp_path).put(A, keys, compute(keys))
        np.testing.assert_array_equal(DiskStore(tmp_path).lookup(A, keys)[1], compute(keys))
        code = (
            "import sys, numpy as np; from skfairft.feature_store import DiskStore; "
            "keys = np.random.default_rng(0).integers(0, 2**64, (50, 2), dtype=np.uint64); "
            "found, features = DiskStore(sys.argv[1]).lookup(b'a' * 16, keys); "
            "assert found.all(); print(features.sum())"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert float(run.stdout) == compute(keys).sum()

    def test_arrays_are_copied(self, make_store):
        store, keys = make_store(), make_keys(30)
        mine, my_keys = compute(keys), keys.copy()
        store.put(A, my_keys, mine)
        mine[:] = my_keys[:] = 0
        for _ in range(2):
            found, features = store.lookup(A, keys)
            assert found.all()
            np.testing.assert_array_equal(features, compute(keys))
            features[:] = -1  # must be writable, and ours

    def test_blobs_are_numbers(self, tmp_path):
        keys = make_keys(20)
        store = DiskStore(tmp_path)
        store.put(A, keys, compute(keys))
        store.claim(B, keys)
        with contextlib.closing(sqlite3.connect(tmp_path / "features.sqlite")) as db:
            ((n, width, size, key_blob),) = db.execute("select n, width, size, keys from chunks")
            ((data,),) = db.execute("select data from payload")
            ((claimed,),) = db.execute("select keys from claims")
        assert (n, width, size) == (20, 6, 4)
        np.testing.assert_array_equal(np.frombuffer(data, "<f4").reshape(20, 6), compute(keys))
        for blob in (key_blob, claimed):
            np.testing.assert_array_equal(np.frombuffer(blob, "<u8").reshape(20, 2), keys)

    def test_clear(self, make_store):
        store, keys = make_store(), make_keys(20)
        store.put(A, keys, compute(keys))
        store.put(B, keys, compute(keys))
        store.clear()
        info = store.info()
        assert (info.rows, info.bytes, info.hits, info.misses) == (0, 0, 0, 0)
        assert check_served(store, keys) == 20

    def test_threads(self, make_store):
        store, keys = make_store(), make_keys(400)
        errors = []

        def work(seed):
            try:
                rng = np.random.default_rng(seed)
                for _ in range(8):
                    check_served(store, keys[rng.integers(0, 400, 60)])
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors

    @pytest.mark.parametrize(
        "again", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
    )
    def test_copies(self, make_store, again):
        store, keys = make_store(max_bytes=12345), make_keys(20)
        store.put(A, keys, compute(keys))
        store.lookup(A, keys)
        other = again(store)
        assert type(other) is type(store)
        assert repr(other) == repr(store)
        info = other.info()
        assert (info.max_bytes, info.hits) == (12345, 0)
        assert info.rows == (20 if isinstance(store, DiskStore) else 0)


class TestBound:
    def test_least_recently_used_goes_first(self, make_store):
        a, b, c = make_keys(10, 0), make_keys(10, 1), make_keys(10, 2)
        store = make_store(max_bytes=2 * 10 * (6 * 4 + 16))
        store.put(A, a, compute(a))
        store.put(B, b, compute(b))
        store.lookup(A, a[3:4])
        store.put(A, c, compute(c))
        assert store.lookup(A, a)[0].all()
        assert store.lookup(A, c)[0].all()
        assert not store.lookup(B, b)[0].any()
        # The control: without the touch it is the oldest that goes.
        store.put(B, b, compute(b))
        assert not store.lookup(A, a)[0].any()

    def test_never_exceeded(self, make_store, monkeypatch):
        monkeypatch.setattr(base, "CHUNK_BYTES", 1000)
        rng = np.random.default_rng(2)
        store = make_store(max_bytes=20_000)
        for i in range(40):
            keys = make_keys(int(rng.integers(1, 600 if i % 10 == 0 else 60)), i)
            store.put([A, B][i % 2], keys, compute(keys))
            info = store.info()
            assert info.bytes <= 20_000
            assert i < 10 or info.bytes > 15_000
            found, features = store.lookup([A, B][i % 2], keys)
            assert found[:10].all()
            np.testing.assert_array_equal(features, compute(keys[found]))

    def test_row_larger_than_the_bound(self, make_store):
        store = make_store(max_bytes=30)
        store.put(A, make_keys(2), compute(make_keys(2)))
        assert store.info().rows == 0

    @pytest.mark.parametrize(
        ("chunk", "rows", "width", "bound"),
        [(2**21, 64, 2000, 2_000_000), (16, 800, 4, 60_000), (1, 50, 2500, 1_000_000)],
    )
    def test_file_stays_small(self, tmp_path, monkeypatch, chunk, rows, width, bound):
        monkeypatch.setattr(base, "CHUNK_BYTES", chunk)
        monkeypatch.setattr(disk, "FILE_SLACK", 100_000)
        store = DiskStore(tmp_path, max_bytes=bound)
        for i in range(12):
            keys = make_keys(rows, i)
            store.put(A, keys, compute(keys, width))
        assert 12 * rows * (4 * width + 16) > 2 * bound
        assert store.info().bytes <= bound
        assert store.lookup(A, keys[-5:])[0].all()
        # An eighth, the slack, a page for the last chunk and its tree; and the journal.
        assert (tmp_path / "features.sqlite").stat().st_size < 1.125 * bound + 200_000
        assert (tmp_path / "features.sqlite-journal").stat().st_size < 2**20 + 1
        store.clear()
        assert (tmp_path / "features.sqlite").stat().st_size < 200_000


class TestProcesses:
    def test_union_of_two_writers(self, tmp_path):
        keys = make_keys(300)

        def write(part):
            store = DiskStore(tmp_path)
            for i in range(0, len(part), 10):
                store.put(A, part[i : i + 10], compute(part[i : i + 10]))
                found, features = store.lookup(A, keys)
                np.testing.assert_array_equal(features, compute(keys[found]))

        for pid in [start(write, keys[:200]), start(write, keys[100:])]:
            finish(pid)
        store = DiskStore(tmp_path)
        assert check_served(store, keys) == 0
        assert store.info().rows == 300  # none is there twice

    @pytest.mark.slow
    def test_spawned_writers(self, tmp_path):
        code = (
            "import sys, numpy as np; from skfairft.feature_store import DiskStore\n"
            "keys = np.random.default_rng(0).integers(0, 2**64, (300, 2), dtype=np.uint64)\n"
            "store = DiskStore(sys.argv[1])\n"
            "for i in range(int(sys.argv[2]), int(sys.argv[2]) + 200, 10):\n"
            "    part = keys[i : i + 10]\n"
            "    words = part[:, :1] ^ (part[:, 1:] + np.arange(6, dtype=np.uint64))\n"
            "    store.put(b'a' * 16, part, (words >> np.uint64(40)).astype(np.float32))\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        writers = [subprocess.Popen([*command, first]) for first in ("0", "100")]
        assert [writer.wait() for writer in writers] == [0, 0]
        assert check_served(DiskStore(tmp_path), make_keys(300)) == 0

    def test_each_key_is_computed_once(self, tmp_path):
        keys = make_keys(240)

        def work(name, order):
            store, missing = DiskStore(tmp_path / "store"), keys[order]
            with (tmp_path / name).open("ab") as log:
                while len(missing):
                    for i in range(0, len(missing), 20):
                        part = missing[i : i + 20]
                        mine = part[store.claim(A, part)]
                        time.sleep(0.002)
                        log.write(mine.tobytes())
                        log.flush()
                        store.put(A, mine, compute(mine))
                    store.wait(A, missing, poll=0.005)
                    missing = missing[~store.lookup(A, missing)[0]]

        order = np.arange(240)
        for pid in [start(work, "one", order), start(work, "two", order[::-1])]:
            finish(pid)
        logs = [np.fromfile(tmp_path / name, np.uint64).reshape(-1, 2) for name in ("one", "two")]
        done = np.concatenate(logs)
        assert len(done) == 240
        assert distinct(done).all()
        assert min(map(len, logs)) > 0
        assert check_served(DiskStore(tmp_path / "store"), keys) == 0

    def test_claims(self, tmp_path):
        keys = make_keys(3000)
        one, two = DiskStore(tmp_path), DiskStore(tmp_path)
        one.put(A, keys[:2], compute(keys[:2]))
        assert one.claim(A, keys[:2500]).tolist() == [False] * 2 + [True] * 2498
        assert one.claim(A, keys[:3]).tolist() == [False, False, True]  # its own it may have again
        assert two.claim(A, keys).tolist() == [False] * 2500 + [True] * 500
        assert two.claim(B, keys).all()
        one.release(A, keys[10:20])
        assert np.flatnonzero(two.claim(A, keys[:2500])).tolist() == list(range(10, 20))
        one.put(A, keys[20:30], compute(keys[20:30]))
        one.clear()
        assert np.flatnonzero(two.claim(A, keys[:40])).tolist() == [0, 1, *range(10, 30)]
        one.release(A)
        assert two.claim(A, keys).all()
        two.wait(A, keys)  # there is nobody else to wait for
        del two
        gc.collect()
        assert one.claim(A, keys).all()
        del one
        gc.collect()
        assert not list((tmp_path / "owners").iterdir())

    def test_wait(self, tmp_path):
        keys = make_keys(20)

        def claim_then_put():
            store = DiskStore(tmp_path)
            assert store.claim(A, keys).all()
            (tmp_path / "claimed").touch()
            time.sleep(0.1)
            store.put(A, keys[:10], compute(keys[:10]))
            store.release(A, keys[10:15])
            time.sleep(0.1)
            store.release(A)
            (tmp_path / "released").touch()
            time.sleep(0.1)

        pid = start(claim_then_put)
        wait_for(tmp_path / "claimed")
        store = DiskStore(tmp_path)
        assert not store.claim(A, keys).any()
        store.wait(A, keys[:15], poll=0.002)
        assert not (tmp_path / "released").exists()
        assert store.lookup(A, keys)[0].tolist() == [True] * 10 + [False] * 10
        store.wait(A, keys, poll=0.002)
        assert (tmp_path / "released").exists() or store.claim(A, keys[15:]).all()
        finish(pid)

    def test_dead_claimant(self, tmp_path):
        keys = make_keys(20)

        def claim_and_hang():
            store = DiskStore(tmp_path)
            assert store.claim(A, keys).all()
            (tmp_path / "claimed").touch()
            time.sleep(60)

        pid = start(claim_and_hang)
        wait_for(tmp_path / "claimed")
        store = DiskStore(tmp_path)
        assert not store.claim(A, keys).any()  # the control: alive it does count
        killer = threading.Timer(0.1, os.kill, (pid, signal.SIGKILL))
        killer.start()
        store.wait(A, keys, poll=0.01)
        os.waitpid(pid, 0)
        assert store.claim(A, keys).all()
        assert len(list((tmp_path / "owners").iterdir())) == 1

    def test_killed_writers(self, tmp_path):
        keys = make_keys(4000)
        DiskStore(tmp_path).lookup(A, keys)
        rng = np.random.default_rng(3)

        def write():
            store = DiskStore(tmp_path, max_bytes=100_000)
            while True:
                rows = rng.integers(0, 4000, 60)
                store.claim(A, keys[rows])
                store.put(A, keys[rows], compute(keys[rows], 40))
                (tmp_path / "begun").touch()

        for delay in np.linspace(0, 0.05, 15):
            pid = start(write)
            wait_for(tmp_path / "begun")
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            (tmp_path / "begun").unlink()
            found, features = DiskStore(tmp_path).lookup(A, keys)  # a warning would be an error
            assert found.any()
            np.testing.assert_array_equal(features, compute(keys[found], 40))
        assert DiskStore(tmp_path).claim(A, keys[~found]).all()

    def test_clear_is_seen(self, tmp_path):
        keys = make_keys(40)
        store = DiskStore(tmp_path)
        store.put(A, keys, compute(keys))
        assert store.lookup(A, keys)[0].all()
        finish(start(lambda: DiskStore(tmp_path).clear()))
        assert not store.lookup(A, keys)[0].any()
        assert store.claim(A, keys).all()
        assert check_served(store, keys) == 40

    def test_evictions_are_seen(self, tmp_path):
        keys = make_keys(40)
        big, small = DiskStore(tmp_path), DiskStore(tmp_path, max_bytes=20 * 40)
        big.put(A, keys[:20], compute(keys[:20]))
        assert big.lookup(A, keys)[0].sum() == 20
        small.put(A, keys[20:], compute(keys[20:]))
        assert big.lookup(A, keys)[0].tolist() == [False] * 20 + [True] * 20

    def test_fork(self, tmp_path):
        keys = make_keys(40)
        store, memory = DiskStore(tmp_path), MemoryStore()
        store.put(A, keys[:10], compute(keys[:10]))
        memory.put(A, keys, compute(keys))
        assert store.claim(A, keys[10:20]).all()

        def child():
            assert memory.lookup(A, keys)[0].all()
            assert store.lookup(A, keys)[0].sum() == 10
            assert not store.claim(A, keys[10:20]).any()  # the parent's, who is another
            store.put(A, keys[20:], compute(keys[20:]))
            # As at the end of the process, where it must not touch the parent's claims.
            disk._retire(disk._PARENTS[-1][1], os.getppid())

        finish(start(child))
        assert store.lookup(A, keys)[0].sum() == 30
        assert not DiskStore(tmp_path).claim(A, keys[10:20]).any()  # still the parent's

    def test_fork_while_a_thread_writes(self, tmp_path):
        keys = make_keys(2000)
        store, stop = DiskStore(tmp_path), threading.Event()

        def write():
            i = 0
            while not stop.is_set():
                store.put(A, keys[i : i + 20], compute(keys[i : i + 20]))
                i = (i + 20) % 2000

        thread = threading.Thread(target=write)
        thread.start()
        try:
            pids = [start(check_served, store, keys[i : i + 50]) for i in range(5)]
            for pid in pids:
                finish(pid)
        finally:
            stop.set()
            thread.join()
        assert check_served(store, keys) < 2000


class TestDamage:
    @pytest.fixture
    def original(self, tmp_path):
        """A file with many small chunks, and its keys."""
        store, keys = DiskStore(tmp_path / "original"), make_keys(96)
        for i in range(0, 96, 8):
            store.put(B if i == 40 else A, keys[i : i + 8], compute(keys[i : i + 8]))
        wide = make_keys(20, 5)
        store.put(b"w" * 16, wide, compute(wide, 1000))  # with overflow pages
        return tmp_path / "original" / "features.sqlite", np.delete(keys, np.s_[40:48], axis=0)

    def check(self, original, keys, folder, damage):
        """Damage a copy; return how many rows were lost."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(original, folder)
        damage(folder / "features.sqlite")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            store = DiskStore(folder)
            lost = check_served(store, keys, rounds=3)  # one damage may come out after another
            wide = make_keys(20, 5)
            found, features = store.lookup(b"w" * 16, wide)
            if found.any():
                np.testing.assert_array_equal(features, compute(wide[found], 1000))
            lost += int((~found).sum())
            assert all(w.category is FeatureStoreWarning for w in caught)
            assert caught or not lost
            assert check_served(store, make_keys(3, 6), rounds=3) == 3
            store.info()
            if lost:
                store.clear()
                assert check_served(DiskStore(folder), keys) == len(keys)
        return lost

    def test_flipped_bytes(self, original, tmp_path):
        path, keys = original
        rng, content = np.random.default_rng(4), np.fromfile(path, np.uint8)
        used = np.flatnonzero(content)  # much of a page is empty, where damage does nothing
        trees = used[used < 9 * 16384]  # the larger part is one blob
        places = [*range(16, 100, 7), *rng.choice(trees, 200), *rng.choice(used, 50)]
        losses = []
        for place in places:

            def flip(file, place=int(place)):
                data = content.copy()
                data[place] ^= rng.integers(1, 256)
                data.tofile(file)

            losses.append(self.check(path, keys, tmp_path / "copy", flip))
        assert np.count_nonzero(losses) > 20  # the control: there is damage that matters

    def test_number_of_another_chunk(self, original, tmp_path):
        path, keys = original
        content = path.read_bytes()
        # The number lies some bytes before the keys, and no database notices two equal ones.
        blob = content.index(keys[:8].tobytes())
        places = [place for place in range(blob - 45, blob - 16) if content[place] == 1]
        lost = 0
        for place in places:

            def renumber(file, place=place):
                file.write_bytes(content[:place] + b"\x03" + content[place + 1 :])

            lost += self.check(path, keys, tmp_path / "copy", renumber)
        assert lost

    def test_damaged_columns(self, original, tmp_path):
        path, keys = original
        columns = {
            "chunks": ("id", "namespace", "n", "width", "size", "keys", "head"),
            "payload": ("id", "body", "data"),
            "usage": ("id", "namespace", "n", "bytes", "used"),
        }
        for table, names in columns.items():
            for column in names:
                values = [-1, 2**62] if column == "id" else [None, "x", b"yy", -1, 2**62, 1e300]
                for value in values:

                    def change(file, table=table, column=column, value=value):
                        with contextlib.closing(sqlite3.connect(file)) as db, db:
                            db.execute(f"update {table} set {column} = ? where id = 2", (value,))

                    lost = self.check(path, keys, tmp_path / "copy", change)
                    assert lost >= 8 or column in ("id", "n", "bytes", "used")

            def delete(file, table=table):
                with contextlib.closing(sqlite3.connect(file)) as db, db:
                    db.execute(f"delete from {table} where id = 2")

            assert self.check(path, keys, tmp_path / "copy", delete) == 8

    def test_truncation(self, original, tmp_path):
        path, keys = original
        size = path.stat().st_size
        for length in [0, 1, 99, 100, 4096, 16384, 20000, 3 * 16384, size // 2, size - 1]:
            lost = self.check(path, keys, tmp_path / "copy", lambda f, n=length: os.truncate(f, n))
            assert lost or length == size - 1

    def test_garbage(self, original, tmp_path):
        path, keys = original
        noise = np.random.default_rng(5).bytes(70_000)
        for content in (noise, b"x", path.read_bytes()[:100] + noise, noise[:16384] * 8):
            lost = self.check(path, keys, tmp_path / "copy", lambda f, c=content: f.write_bytes(c))
            assert lost == len(keys) + 20

    def test_damage_while_open(self, original, tmp_path):
        path, keys = original
        one, two = DiskStore(path.parent), DiskStore(path.parent)
        assert one.lookup(A, keys)[0].all()
        assert two.lookup(A, keys)[0].all()
        content = path.read_bytes()
        path.write_bytes(content[:24] + os.urandom(len(content) - 24))
        with pytest.warns(FeatureStoreWarning, match="moved to features.sqlite.damaged"):
            assert check_served(one, keys) == len(keys)
        # The other one notices that there is a new file, and does not move that away.
        assert check_served(two, keys) == 0
        assert len(list(path.parent.glob("*.damaged-*"))) == 1
        one.clear()
        assert not list(path.parent.glob("*.damaged-*"))

    def test_two_find_the_damage_at_once(self, tmp_path):
        keys = make_keys(40)
        tmp_path.joinpath("features.sqlite").write_bytes(b"no database" * 1000)

        def work():
            warnings.simplefilter("ignore")
            check_served(DiskStore(tmp_path), keys)

        for pid in [start(work) for _ in range(4)]:
            finish(pid)
        store = DiskStore(tmp_path)
        assert check_served(store, keys) == 0
        assert store.info().rows == 40
        assert len(list(tmp_path.glob("*.damaged-*"))) == 1

    def test_set_aside_once(self, tmp_path):
        tmp_path.joinpath("features.sqlite").write_bytes(b"no database" * 1000)
        files = FeatureFile(tmp_path), FeatureFile(tmp_path)
        for file in files:
            with pytest.raises(sqlite3.DatabaseError, match="not a database"), file.reading():
                pass
        assert "moved" in files[0].set_aside("for a test")
        with files[0].reading():
            pass
        assert files[1].set_aside("for a test") is None  # that would be the new one
        assert len(list(tmp_path.glob("*.damaged-*"))) == 1
        assert tmp_path.joinpath("features.sqlite").exists()

    def test_writers_queue_up(self, tmp_path):
        files = FeatureFile(tmp_path), FeatureFile(tmp_path)
        files[1]._lock.timeout = 0.01
        with files[0].exclusive(), pytest.raises(Timeout), files[1].writing():
            pass
        with files[1].writing():
            pass

    def test_messages_that_are_not_text(self, original):
        path, keys = original
        content = path.read_bytes().replace(b"claimsclaims", b"cl\xffimsclaims")
        path.write_bytes(content.replace(b"table claims", b"tabxe claims"))
        with pytest.warns(FeatureStoreWarning, match="can't decode byte"):
            assert check_served(DiskStore(path.parent), keys) == len(keys)

    def test_another_version(self, original):
        path, keys = original
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("pragma user_version = 7")
        with pytest.warns(FeatureStoreWarning, match="version is 7, expected 1"):
            assert check_served(DiskStore(path.parent), keys) == len(keys)

    def test_file_removed_while_open(self, original):
        path, keys = original
        store = DiskStore(path.parent)
        assert store.lookup(A, keys)[0].all()
        shutil.rmtree(path.parent)
        assert check_served(store, keys) == len(keys)


class TestNoRoom:
    def test_full_disk(self, tmp_path):
        keys = make_keys(400)

        def work():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            store = DiskStore(tmp_path)
            store.put(A, keys[:20], compute(keys[:20], 500))
            assert store.claim(A, keys[20:]).all()
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
            with pytest.warns(FeatureStoreWarning, match="not stored in .* from here on") as caught:
                store.put(A, keys[20:], compute(keys[20:], 500))
            assert len(caught) == 1
            store.put(A, keys[20:], compute(keys[20:], 500))
            assert store.claim(A, keys[20:]).all()
            store.wait(A, keys)
            found, features = store.lookup(A, keys)
            assert found.tolist() == [True] * 20 + [False] * 380
            np.testing.assert_array_equal(features, compute(keys[:20], 500))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            assert DiskStore(tmp_path).claim(A, keys[20:]).all()  # nobody waits for us

        finish(start(work))
        store = DiskStore(tmp_path)
        found, features = store.lookup(A, keys)
        assert found.sum() == 20
        np.testing.assert_array_equal(features, compute(keys[:20], 500))
        store.put(A, keys, compute(keys, 500))
        assert store.lookup(A, keys)[0].all()

    def test_full_file(self, tmp_path):
        keys = make_keys(400)
        store = DiskStore(tmp_path)
        store.put(A, keys[:20], compute(keys[:20], 500))
        store._file._db.execute("pragma max_page_count = 20")
        with pytest.warns(FeatureStoreWarning, match="from here on: database or disk is full"):
            store.put(A, keys[20:], compute(keys[20:], 500))
        for reader in (store, DiskStore(tmp_path)):
            found, features = reader.lookup(A, keys)
            assert found.sum() == 20
            np.testing.assert_array_equal(features, compute(keys[:20], 500))

    def test_write_protected_file(self, tmp_path):
        keys = make_keys(20)
        DiskStore(tmp_path).put(A, keys[:10], compute(keys[:10]))
        tmp_path.joinpath("features.sqlite").chmod(0o444)
        for path in (tmp_path, tmp_path / "features.lock", tmp_path / "features.sqlite-journal"):
            path.chmod(0o777)

        def work():
            if os.getuid() == 0:
                os.setuid(65534)  # permissions do not hold for root
            store = DiskStore(tmp_path)
            with pytest.warns(FeatureStoreWarning, match="from here on: attempt to write"):
                store.put(A, keys, compute(keys))
            assert store.lookup(A, keys)[0].sum() == 10

        finish(start(work))

    @pytest.mark.parametrize("filled", [True, False])
    def test_read_only_folder(self, tmp_path, filled):
        keys, folder = make_keys(20), tmp_path / "store"
        folder.mkdir()
        if filled:
            DiskStore(folder).put(A, keys[:10], compute(keys[:10]))
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        tmp_path.chmod(0o755)

        def work():
            if os.getuid() == 0:
                os.setuid(65534)  # permissions do not hold for root
            store = DiskStore(folder)
            if filled:
                assert store.lookup(A, keys)[0].sum() == 10  # reading alone gives no warning
            with pytest.warns(FeatureStoreWarning, match="from here on"):
                store.put(A, keys, compute(keys))
            store.put(A, keys, compute(keys))
            assert store.lookup(A, keys)[0].sum() == (10 if filled else 0)
            assert store.claim(A, keys[10:]).all()

        finish(start(work))
        folder.chmod(0o755)


class TestInterrupts:
    def test_any_line(self, make_store, monkeypatch):
        monkeypatch.setattr(base, "CHUNK_BYTES", 200)
        store, pool, done = make_store(max_bytes=3000), make_keys(400), 0
        keys = pool  # those that may be there
        for step in range(0, 10**6, 9):
            rng = np.random.default_rng(step)
            part = pool[rng.integers(0, 400, 30)]
            lines = 0

            def trace(frame, event, arg, step=step):
                nonlocal lines
                if "skfairft" not in frame.f_code.co_filename:
                    return None
                lines += event == "line"
                if lines == step:
                    lines += 1
                    raise KeyboardInterrupt
                return trace

            sys.settrace(trace)
            try:
                store.claim(A, part)
                store.put(A, part, compute(part))
                interrupted = False
            except KeyboardInterrupt as error:
                interrupted = error  # kept, as an interactive session keeps its last traceback
            finally:
                sys.settrace(None)
            found, features = store.lookup(A, keys)
            if found.any():
                np.testing.assert_array_equal(features, compute(keys[found]))
            assert store.info().bytes <= 3000
            if isinstance(store, DiskStore):  # it sees what the file holds, no more and no less
                seen = DiskStore(store.folder).lookup(A, keys)[0]
                np.testing.assert_array_equal(found, seen)
            new = make_keys(30, step + 1)
            assert check_served(store, new) == 30
            keys = np.concatenate([pool, keys[400:][-60:], new])
            done += bool(interrupted)
            if not interrupted:
                break
        assert done > 10
        if isinstance(store, DiskStore):
            other = DiskStore(store.folder)
            store.release(A)
            assert other.claim(A, make_keys(10, 9)).all()  # no lock is left behind
            assert other.info().bytes == store.info().bytes
        else:
            assert store.info().bytes == sum(chunk.bytes for chunk in store._chunks.values())


class TestInterface:
    def test_get_store(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert get_store(None) is get_store()
        assert isinstance(get_store(), ProcessStore)
        disk = get_store("here")
        assert disk is get_store(tmp_path / "here")
        assert disk is not get_store("there")
        assert disk.folder == tmp_path / "here"
        assert get_store(disk) is disk
        assert not list(tmp_path.iterdir())  # nothing is made before it is needed

    @pytest.mark.parametrize("memory", [3, True, b"folder", np.zeros(3)])
    def test_other_types(self, memory):
        with pytest.raises(TypeError, match="expected None, a folder"):
            get_store(memory)

    @pytest.mark.parametrize("make", [get_store, DiskStore])
    def test_folder_is_a_file(self, tmp_path, make):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="is a file; expected a folder"):
            make(tmp_path / "file")

    def test_info(self, tmp_path):
        store = DiskStore(tmp_path, max_bytes=1000)
        assert store.info() == StoreInfo(0, 0, 1000, 0, 0, str(tmp_path))
        assert MemoryStore(1000).info() == StoreInfo(0, 0, 1000, 0, 0, None)
        assert repr(store) == f"DiskStore({str(tmp_path)!r}, max_bytes=1000)"

    def test_arguments(self, make_store):
        store, keys = make_store(), make_keys(4)
        for wrong in (keys.astype(np.int64), keys[:, :1], keys.ravel(), keys.tolist()):
            with pytest.raises(ValueError, match="expected uint64"):
                store.lookup(A, wrong)
        for features in (compute(keys)[:3], compute(keys)[0], compute(keys)[:, :0]):
            with pytest.raises(ValueError, match="one row per key"):
                store.put(A, keys, features)
        with pytest.raises(ValueError, match="features are int64; expected float32"):
            store.put(A, keys, compute(keys).astype(np.int64))
        with pytest.raises(ValueError, match="max_bytes is 0"):
            make_store(max_bytes=0)
        store.put(A, keys, compute(keys))
        for other in (compute(make_keys(4, 1), 7), compute(make_keys(4, 1), dtype=np.float64)):
            with pytest.raises(ValueError, match="under the same namespace"):
                store.put(A, make_keys(4, 1), other)
        assert store.info().rows == 4
        assert store.lookup(A, keys[:0])[1] is None
