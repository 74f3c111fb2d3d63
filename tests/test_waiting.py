"""Who waits for another process says so, and goes on; who need not wait says nothing."""

import os
import signal
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from processes import finish, start
from test_once import Counting

from skfairft import FrozenFeatureExtractor
from skfairft.backbone import extraction
from skfairft.feature_store import DiskStore, FeatureStoreWarning, waiting

A = b"a" * 16
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")


class Clock:
    """A clock that goes on by a second whenever somebody looks, and then does something."""

    def __init__(self, act):
        self.now, self.act = 0.0, act

    def monotonic(self):
        self.now += 1.0
        self.act(self.now)
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Let `waiting` go by such a clock, whose act may be replaced."""
    found = Clock(lambda now: None)
    fake = SimpleNamespace(
        monotonic=found.monotonic, time=time.time, localtime=time.localtime, strftime=time.strftime
    )
    monkeypatch.setattr(waiting, "time", fake)
    monkeypatch.setattr(waiting, "GLANCE_SECONDS", 0.0)
    return found


def lock_of(folder):
    return FileLock(folder / f"module-{A.hex()}" / "lock", thread_local=False)


def put(store, seed):
    keys = np.random.default_rng(seed).integers(0, 2**64, (3, 2), dtype=np.uint64)
    store.put(A, keys, np.ones((3, 4), np.float32))


@contextmanager
def other_process(folder):
    """A process that holds the lock and does nothing, until it is told to end."""

    def hold():
        with DiskStore(folder).working(A):
            (folder / "working").touch()
            signal.pause()

    pid = start(hold)
    try:
        wait_for(folder / "working")
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def enter(store):
    """Return what is said while one waits to work."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with store.working(A):
            pass
    assert {warning.category for warning in caught} <= {FeatureStoreWarning}
    return [str(warning.message) for warning in caught]


@linux
@pytest.mark.slow
def test_a_process_that_is_stopped_is_not_waited_for(tmp_path):
    """A real one, in the middle of an extraction; it ends well when it goes on."""
    X = np.random.default_rng(0).normal(size=(96, 5)).astype(np.float32)
    expected = FrozenFeatureExtractor(Counting(), memory=False, batch_size=16).fit_transform(X)
    begun, folder = tmp_path / "begun", tmp_path / "store"

    def extract():
        module = Counting()
        extractor = FrozenFeatureExtractor(module, memory=DiskStore(folder), batch_size=16)
        np.testing.assert_array_equal(extractor.fit_transform(X), expected)
        return module.rows

    def extract_slowly():
        inner = DiskStore.put

        def put_slowly(*args):
            inner(*args)
            begun.touch()
            time.sleep(0.3)

        extraction._PUT_SECONDS = 0.0
        DiskStore.put = put_slowly
        assert extract() == len(X)

    pid = start(extract_slowly)
    try:
        wait_for(begun)
        os.kill(pid, signal.SIGSTOP)
        with pytest.warns(FeatureStoreWarning, match=rf"process \({pid}\) .* is stopped") as caught:
            assert 0 < extract() < len(X)  # what was stored before it stopped is used
        assert len(caught) == 1
        assert str(folder) in str(caught[0].message)
    finally:
        os.kill(pid, signal.SIGCONT)
    finish(pid)
    assert extract() == 0


@linux
def test_a_process_that_does_nothing(tmp_path, clock):
    with other_process(tmp_path) as pid:
        store = DiskStore(tmp_path)
        first, second = enter(store)
        assert f"Another process ({pid}) works on the same rows in {tmp_path} and" in first
        assert "has stored none for 11 seconds. This one waits until" in first
        assert "does not wait any longer" in second
        assert 300 < clock.now < 320
        # It is not waited for again, whatever this one stores meanwhile.
        for i in range(5):
            before = clock.now
            assert enter(store) == []
            assert clock.now < before + 5
            with store.working(A):
                put(store, i)
        # When it has stored something, it is.
        put(DiskStore(tmp_path), 99)
        before = clock.now
        assert len(enter(store)) == 2
        assert clock.now > before + 300
    # And so is the next one that works there.
    before, lock = clock.now, lock_of(tmp_path)
    with lock:
        said = enter(store)
    assert len(said) == 2
    assert "Another thread of this process" in said[0]


@linux
def test_a_process_that_computes_is_waited_for_in_silence(tmp_path, clock, monkeypatch):
    """A batch may take long, before anything is stored."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(waiting, "_ticks", lambda process: next(ticks))
    store = DiskStore(tmp_path)
    put(store, 0)
    with lock_of(tmp_path):
        (said,) = enter(store)
    assert "does not wait any longer" in said
    assert clock.now > 300


def test_a_process_that_stores_is_waited_for_in_silence(tmp_path, clock):
    store, other, lock = DiskStore(tmp_path), DiskStore(tmp_path), lock_of(tmp_path)
    put(store, 0)
    lock.acquire()

    def act(now):
        if now % 9 == 0:
            put(other, int(now))
        if now == 2000:
            lock.release()

    clock.act = act
    assert enter(store) == []
    assert clock.now == 2000
    # The control: who stores less often is told of, once, but waited for.
    lock.acquire()

    def act_less(now):
        if now % 20 == 0:
            put(other, int(now))
        if now == 4000:
            lock.release()

    clock.act = act_less
    (said,) = enter(store)
    assert "This one waits until" in said
    assert clock.now == 4000


@pytest.mark.parametrize("content", [None, "", "nonsense", "1: FLOCK ADVISORY WRITE x y 0 EOF\n"])
def test_where_nobody_tells_who_holds_a_lock(tmp_path, clock, monkeypatch, content):
    """Another system, a folder on another machine, another container: it waits all the same."""
    inner = Path.read_text

    def read_text(self, *args, **kwargs):
        if str(self).startswith("/proc"):
            if content is None:
                raise FileNotFoundError
            return content
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    store = DiskStore(tmp_path)
    put(store, 0)
    with lock_of(tmp_path):
        first, second = enter(store)
        assert enter(store) == []
    assert first.startswith(f"Another process works on the same rows in {tmp_path} and has")
    assert "it may have been stopped" in second


@linux
def test_a_look_from_outside_stops_nobody(tmp_path, clock, monkeypatch):
    """A process that is stopped for a moment, as by a profiler, is waited for."""
    states = iter([waiting._STOPPED, 1, waiting._STOPPED, 2] * 10**4)
    monkeypatch.setattr(waiting, "_ticks", lambda process: next(states))
    store = DiskStore(tmp_path)
    put(store, 0)
    with lock_of(tmp_path):
        (said,) = enter(store)
    assert "is stopped" not in said
    assert clock.now > 300
