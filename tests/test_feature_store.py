"""Stores give back what was put, or nothing: whoever writes, dies or damages the file meanwhile."""

import copy
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from processes import finish, start

from skfairft.feature_store import (
    DiskStore,
    FeatureStoreWarning,
    MemoryStore,
    StoreInfo,
    base,
    block_file,
    disk,
    get_store,
    plain_file,
)
from skfairft.feature_store.key_index import ROW_BITS, KeyIndex, distinct

A, B = b"a" * 16, b"b" * 16


def make_keys(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, (n, 2), dtype=np.uint64)


def compute(keys, width=6, dtype=np.float32):
    """Features that the keys determine, so that a wrong row is seen wherever it comes from."""
    words = keys[:, :1] ^ (keys[:, 1:] + np.arange(width, dtype=np.uint64))
    return (words >> np.uint64(40)).astype(dtype)


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
        pool = make_keys(400)
        index, oracle, blocks = KeyIndex(), {}, []
        for round_ in range(60):
            keys = pool[rng.permutation(400)[: rng.integers(1, 30)]]
            keys = keys[[tuple(key) not in oracle for key in keys.tolist()]]
            if not len(keys):
                continue
            block = index.add(keys)
            blocks.append(block)
            oracle |= {tuple(key): (block, i) for i, key in enumerate(keys.tolist())}
            if round_ % 3 == 2:
                gone = blocks.pop(rng.integers(len(blocks)))
                index.drop(gone)
                oracle = {key: place for key, place in oracle.items() if place[0] != gone}
            asked = pool[rng.integers(0, 400, 50)]
            expected = [oracle.get(tuple(key)) for key in asked.tolist()]
            expected = [
                -1 if place is None else place[0] << ROW_BITS | place[1] for place in expected
            ]
            assert index.find(asked).tolist() == expected, round_

    def test_keys_with_the_same_first_word_are_missed_at_most(self):
        rng = np.random.default_rng(0)
        keys = np.column_stack([rng.integers(0, 5, 40), np.arange(40)]).astype(np.uint64)
        index = KeyIndex()
        for i in range(0, 40, 4):
            index.add(keys[i : i + 4])
        places = index.find(keys)
        found = places >= 0
        assert 0 < found.sum() < 40
        rows = (places >> ROW_BITS) * 4 + (places & ((1 << ROW_BITS) - 1))
        assert (rows[found] == np.flatnonzero(found)).all()

    def test_few_runs_without_what_was_dropped(self):
        index = KeyIndex()
        for i in range(500):
            block = index.add(make_keys(10, i))
            if i % 2:
                index.drop(block)
        assert len(index._runs) < 14
        assert sum(len(run.first) for run in index._runs) < 3500

    def test_distinct(self):
        keys = np.array([[1, 2], [1, 3], [1, 2], [2, 2]], dtype=np.uint64)
        assert distinct(keys).tolist() == [True, True, False, True]


class TestContents:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_agrees_with_a_dict(self, make_store, dtype, monkeypatch):
        monkeypatch.setattr(base, "BLOCK_BYTES", 300)
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
        exact = sum(row.nbytes + 16 for row in oracle.values())
        if isinstance(store, MemoryStore):
            assert info.bytes == exact
        else:
            files = [path.stat().st_size for path in store.folder.glob("*/*.rows")]
            assert info.bytes == sum(files) == exact + 64 * len(files)

    def test_later_objects_and_processes_find_it(self, tmp_path):
        keys = make_keys(50)
        DiskStore(tmp_path).put(A, keys, compute(keys))
        np.testing.assert_array_equal(DiskStore(tmp_path).lookup(A, keys)[1], compute(keys))

        def served():
            assert check_served(DiskStore(tmp_path), keys) == 0

        finish(start(served))

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

    def test_files_are_numbers(self, tmp_path):
        keys = make_keys(20)
        DiskStore(tmp_path).put(A, keys, compute(keys))
        (path,) = tmp_path.glob("module-*/*.rows")
        content = path.read_bytes()
        assert struct.unpack("<16sQII", content[:32]) == (b"skfairft rows 1\n", 20, 6, 4)
        found = np.frombuffer(content[64 : 64 + 320], "<u8").reshape(20, 2)
        np.testing.assert_array_equal(found, keys)
        np.testing.assert_array_equal(
            np.frombuffer(content[384:], "<f4").reshape(20, 6), compute(keys)
        )

    def test_widths_and_dtypes_side_by_side(self, make_store):
        store, keys = make_store(), make_keys(30)
        store.put(A, keys[:10], compute(keys[:10]))
        store.put(A, keys[10:20], compute(keys[10:20], 7))
        store.put(A, keys[20:], compute(keys[20:], 6, np.float64))
        for part, width, dtype in ((0, 6, "f4"), (10, 7, "f4"), (20, 6, "f8")):
            found, features = store.lookup(A, keys[part : part + 10])
            assert found.all()
            np.testing.assert_array_equal(features, compute(keys[part : part + 10], width, dtype))
        found, features = store.lookup(A, keys)  # those that are like the first
        assert found.sum() == 10
        np.testing.assert_array_equal(features, compute(keys[found], features.shape[1]))

    def test_witness(self, make_store):
        store, keys = make_store(), make_keys(4)
        assert store.witness(A) is None
        for content in (b"one", b"another \0" * 1000, b""):
            store.put_witness(A, content)
            assert store.witness(A) == content
        assert store.witness(B) is None
        store.put(A, keys, compute(keys))
        store.put(B, keys, compute(keys))
        store.forget(A)
        assert store.witness(A) is None
        assert not store.lookup(A, keys)[0].any()
        assert store.lookup(B, keys)[0].all()
        assert check_served(store, keys) == 4

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
    def test_least_recently_used_goes_first(self, make_store, monkeypatch):
        monkeypatch.setattr(plain_file, "TOUCH_SECONDS", 0.0)
        a, b, c = make_keys(10, 0), make_keys(10, 1), make_keys(10, 2)
        store = make_store(max_bytes=2 * 10 * (6 * 4 + 16) + 128)
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
        monkeypatch.setattr(base, "BLOCK_BYTES", 1000)
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

    def test_many_small_files_are_joined(self, tmp_path):
        keys = make_keys(400)
        for i in range(400):
            DiskStore(tmp_path).put(A, keys[i : i + 1], compute(keys[i : i + 1]))
        assert len([*tmp_path.glob("*/*.rows")]) < 2 * disk.SMALL_FILES
        assert check_served(DiskStore(tmp_path), keys) == 0
        assert DiskStore(tmp_path).info().rows == 400

    def test_what_a_killed_writer_left_counts_and_goes(self, tmp_path):
        store = DiskStore(tmp_path, max_bytes=10_000)
        store.put(A, make_keys(2), compute(make_keys(2)))
        left = tmp_path / f"module-{A.hex()}" / "0123.part"
        left.write_bytes(bytes(9000))
        os.utime(left, (1, 1))
        keys = make_keys(100, 1)
        store.put(A, keys, compute(keys))
        assert not left.exists()
        assert store.lookup(A, keys)[0].all()

    def test_no_foreign_file_is_touched(self, tmp_path):
        """Whatever folder is given: the current one, say."""
        foreign = [tmp_path / "x.rows", tmp_path / "data" / "y.rows", tmp_path / "module.py"]
        (tmp_path / "data").mkdir()
        (tmp_path / "elsewhere").mkdir()
        foreign.append(tmp_path / "elsewhere" / "z.rows")
        for path in foreign:
            path.write_bytes(b"mine")
        (tmp_path / "module-link").symlink_to(tmp_path / "elsewhere")
        store = DiskStore(tmp_path, max_bytes=200)
        for i in range(5):
            check_served(store, make_keys(2, i))
        store.clear()
        assert [path.read_bytes() for path in foreign] == [b"mine"] * 4

    def test_what_outgrows_the_memory_is_spilled(self):
        rows = 6 * 4 + 16
        store, keys = MemoryStore(100 * rows, spill_bytes=300 * rows), make_keys(350)
        for i in range(0, 350, 50):
            store.put(A, keys[i : i + 50], compute(keys[i : i + 50]))
        found, features = store.lookup(A, keys)
        assert found.sum() == 350
        np.testing.assert_array_equal(features, compute(keys))
        other = make_keys(100, 1)
        store.put(B, other, compute(other))  # another module pushes nothing out of the files
        assert store.lookup(B, other)[0].all()
        assert store.lookup(A, keys)[0].sum() == 250
        info = store.info()
        assert info.bytes <= info.max_bytes == 400 * rows
        again = pickle.loads(pickle.dumps(store))
        assert (again.max_bytes, again.spill_bytes) == (100 * rows, 300 * rows)
        without = MemoryStore(100 * rows)
        for i in range(0, 350, 50):
            without.put(A, keys[i : i + 50], compute(keys[i : i + 50]))
        assert without.lookup(A, keys)[0].sum() == 100  # the control


class TestProcesses:
    def test_union_of_two_writers(self, tmp_path):
        keys = make_keys(300)

        def write(part):
            store = DiskStore(tmp_path)
            for i in range(0, len(part), 10):
                with store.working(A):
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
            store = DiskStore(tmp_path / "store")
            with (tmp_path / name).open("ab") as log:
                for i in range(0, 240, 20):
                    part = keys[order[i : i + 20]]
                    with store.working(A):
                        part = part[~store.lookup(A, part)[0]]
                        time.sleep(0.002)
                        log.write(part.tobytes())
                        log.flush()
                        store.put(A, part, compute(part))

        order = np.arange(240)
        for pid in [start(work, "one", order), start(work, "two", order[::-1])]:
            finish(pid)
        logs = [np.fromfile(tmp_path / name, np.uint64).reshape(-1, 2) for name in ("one", "two")]
        done = np.concatenate(logs)
        assert len(done) == 240
        assert distinct(done).all()
        assert check_served(DiskStore(tmp_path / "store"), keys) == 0

    def test_a_lock_ends_with_its_process(self, tmp_path):
        def hang():
            with DiskStore(tmp_path).working(A):
                (tmp_path / "working").touch()
                time.sleep(60)

        pid = start(hang)
        wait_for(tmp_path / "working")
        store = DiskStore(tmp_path)
        with store.working(B):
            pass  # another module has another lock
        killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
        killer.start()
        begun = time.monotonic()
        with store.working(A):
            assert time.monotonic() - begun > 0.1  # the control: there was something to wait for
        os.waitpid(pid, 0)

    def test_killed_writers(self, tmp_path):
        keys = make_keys(4000)
        DiskStore(tmp_path).lookup(A, keys)
        rng = np.random.default_rng(3)

        def write():
            store = DiskStore(tmp_path, max_bytes=100_000)
            while True:
                rows = rng.integers(0, 4000, 60)
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

    def test_clear_is_seen(self, tmp_path):
        keys = make_keys(40)
        store = DiskStore(tmp_path)
        store.put(A, keys, compute(keys))
        assert store.lookup(A, keys)[0].all()
        finish(start(lambda: DiskStore(tmp_path).clear()))
        assert not store.lookup(A, keys)[0].any()
        assert check_served(store, keys) == 40

    def test_evictions_are_seen(self, tmp_path):
        keys = make_keys(40)
        big, small = DiskStore(tmp_path), DiskStore(tmp_path, max_bytes=20 * 40 + 64)
        big.put(A, keys[:20], compute(keys[:20]))
        assert big.lookup(A, keys)[0].sum() == 20
        small.put(A, keys[20:], compute(keys[20:]))
        assert big.lookup(A, keys)[0].tolist() == [False] * 20 + [True] * 20

    def test_fork(self, tmp_path):
        keys = make_keys(40)
        store, memory = DiskStore(tmp_path), MemoryStore()
        store.put(A, keys[:10], compute(keys[:10]))
        memory.put(A, keys, compute(keys))

        def child():
            assert memory.lookup(A, keys)[0].all()
            assert store.lookup(A, keys)[0].sum() == 10
            store.put(A, keys[20:], compute(keys[20:]))

        finish(start(child))
        assert store.lookup(A, keys)[0].sum() == 30

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
        """A folder with a file for each 8 rows, and the keys."""
        store, keys = DiskStore(tmp_path / "original"), make_keys(48)
        for i in range(0, 48, 8):
            store.put(A, keys[i : i + 8], compute(keys[i : i + 8]))
        return tmp_path / "original", keys

    def check(self, original, folder, damage):
        """Damage a file of a copy; return how many rows were lost."""
        path, keys = original
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(path, folder)
        damage(sorted(folder.glob("*/*.rows"))[0])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lost = check_served(DiskStore(folder), keys)
        assert all(warning.category is FeatureStoreWarning for warning in caught)
        assert all("was damaged" in str(warning.message) for warning in caught)
        assert len(caught) == (lost > 0)
        DiskStore(folder).info()
        return lost

    def test_a_file_of_no_rows_is_none(self, original, tmp_path):
        def empty(file):
            head = block_file.Head(0, 6, 4)
            sums = block_file._sum_of_keys(head, A, b""), bytes(16)
            file.write_bytes(block_file._HEADER.pack(block_file._FORMAT, *head[:3], *sums))

        assert self.check(original, tmp_path / "copy", empty) == 8

    def test_any_flipped_byte_loses_its_block_and_no_other(self, original, tmp_path):
        size = 64 + 8 * (16 + 6 * 4)
        rng = np.random.default_rng(4)
        for place in range(0, size, 3):

            def flip(file, place=place):
                content = bytearray(file.read_bytes())
                assert len(content) == size
                content[place] ^= int(rng.integers(1, 256))
                file.write_bytes(content)

            assert self.check(original, tmp_path / "copy", flip) == 8, place

    @pytest.mark.parametrize("length", [0, 1, 31, 63, 64, 100, 383])
    def test_truncation(self, original, tmp_path, length):
        lost = self.check(original, tmp_path / "copy", lambda file: os.truncate(file, length))
        assert lost == 8

    def test_garbage(self, original, tmp_path):
        noise = np.random.default_rng(5).bytes(70_000)
        head = b"skfairft rows 1\n"
        huge = head + struct.pack("<QII", 2**23, 2**31, 8) + noise[:200]
        for content in (noise, b"x", head + noise, huge, noise[:64]):
            lost = self.check(original, tmp_path / "copy", lambda f, c=content: f.write_bytes(c))
            assert lost == 8

    def test_a_file_of_another_module(self, original, tmp_path):
        """The namespace is part of the checksum: a file that was moved is not taken for its own."""
        path, keys = original
        other = tmp_path / "copy" / f"module-{B.hex()}"
        other.mkdir(parents=True)
        file = sorted(path.glob("*/*.rows"))[0]
        shutil.copy(file, other)
        with pytest.warns(FeatureStoreWarning, match="checksum of its keys"):
            assert not DiskStore(tmp_path / "copy").lookup(B, keys)[0].any()

    def test_damage_while_open(self, original):
        path, keys = original
        store = DiskStore(path)
        assert store.lookup(A, keys)[0].all()
        file = sorted(path.glob("*/*.rows"))[0]
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.warns(FeatureStoreWarning, match="checksum of its features"):
            assert check_served(store, keys) == 8
        assert not file.exists()

    def test_damage_that_cannot_be_removed_is_said_once(self, original, monkeypatch):
        path, keys = original
        sorted(path.glob("*/*.rows"))[0].write_bytes(b"x")
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError()))
        store = DiskStore(path)
        with pytest.warns(FeatureStoreWarning, match="was damaged"):
            store.lookup(A, keys)
        assert store.lookup(A, keys)[0].sum() == 40  # a second warning would be an error

    def test_a_file_that_cannot_be_opened_now_is_kept(self, original, monkeypatch):
        """Too many open files, say, is no damage."""
        path, keys = original
        store = DiskStore(path)

        def refuse(*_):
            raise OSError(24, "Too many open files")

        for seen in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(disk.block_file, "read_features" if seen else "read_keys", refuse)
                assert not store.lookup(A, keys)[0].any()
            assert store.lookup(A, keys)[0].all()

    def test_what_is_no_file(self, original):
        path, keys = original
        room = path / f"module-{A.hex()}"
        os.mkfifo(room / "pipe.rows")
        (room / "folder.rows").mkdir()
        (room / "link.rows").symlink_to("/dev/zero")
        (path / "module-zz").write_text("a file")
        store = DiskStore(path)
        assert store.lookup(A, keys)[0].all()
        assert store.info().rows == 48
        store.clear()
        assert check_served(store, keys) == 48

    def test_folder_removed_while_open(self, original):
        path, keys = original
        store = DiskStore(path)
        assert store.lookup(A, keys)[0].all()
        shutil.rmtree(path)
        assert check_served(store, keys) == len(keys)


class TestNoRoom:
    def test_full_disk(self, tmp_path):
        keys = make_keys(400)

        def work():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            store = DiskStore(tmp_path)
            store.put(A, keys[:20], compute(keys[:20], 500))
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
            with pytest.warns(FeatureStoreWarning, match="not stored in .* from here on") as caught:
                store.put(A, keys[20:], compute(keys[20:], 500))
            assert len(caught) == 1
            store.put(A, keys[20:], compute(keys[20:], 500))
            store.put_witness(A, b"witness")
            with store.working(A):
                found, features = store.lookup(A, keys)
            assert found.tolist() == [True] * 20 + [False] * 380
            np.testing.assert_array_equal(features, compute(keys[:20], 500))
            assert not [*tmp_path.glob("*/*.part")]

        finish(start(work))
        store = DiskStore(tmp_path)
        found, features = store.lookup(A, keys)
        assert found.sum() == 20
        np.testing.assert_array_equal(features, compute(keys[:20], 500))
        store.put(A, keys, compute(keys, 500))
        assert store.lookup(A, keys)[0].all()

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
            with store.working(A):
                assert store.lookup(A, keys)[0].sum() == (10 if filled else 0)

        finish(start(work))
        folder.chmod(0o755)


class TestInterrupts:
    # An interrupt between the last line of a `with` and its end leaves a file to be closed later.
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_any_line(self, make_store, monkeypatch):
        monkeypatch.setattr(base, "BLOCK_BYTES", 200)
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
                with store.working(A):
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
            begun = time.monotonic()
            with DiskStore(store.folder).working(A):  # no lock is left behind
                assert time.monotonic() - begun < 1.0
            assert not [*store.folder.glob("*/*.part")]


class TestInterface:
    def test_get_store(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert get_store(None) is get_store()
        assert get_store().spill_bytes > 0
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
        assert store.info().rows == 4
        assert store.lookup(A, keys[:0])[1] is None
