"""A folder to which others write: no hang, no crash, no code, nothing outside, no wrong number.

What is forged with the right checksum counts as features: who may write there is trusted.
"""

import os
import signal
import socket
import stat
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import (
    EXPECTED,
    blocks,
    change_witness,
    check,
    extract,
    filled,
    forge,
    other_features,
    room_of,
    sparse,
)
from processes import start
from torch import nn
from xxhash import xxh3_128_digest

from skfairft import FrozenFeatureExtractor
from skfairft.backbone import run
from skfairft.feature_store import (
    DiskStore,
    MemoryStore,
    base,
    block_file,
    disk,
    plain_file,
)
from skfairft.feature_store.codec import encode


def huge_row(folder):
    """A row of 256 MiB, whose file takes no room and has the right checksums."""
    namespace, keys, _ = blocks(folder)
    head = block_file.Head(1, 2**25, 8)
    key_bytes = keys[:1].tobytes()
    sums = block_file._sum_of_keys(head, namespace, key_bytes)
    total = block_file._sum_of_all(sums, np.zeros(2**25))
    header = block_file._HEADER.pack(block_file._FORMAT, *head[:3], sums, total)
    for path in room_of(folder).glob("*.rows"):
        path.unlink()
    sparse(room_of(folder) / "00.rows", header + key_bytes, head.bytes)


def many(folder, make):
    for i in range(1000):
        make(room_of(folder) / f"{i:04x}.rows")


def small_block(path):
    namespace = bytes.fromhex(path.parent.name.removeprefix("module-"))
    key = np.frombuffer(xxh3_128_digest(path.name.encode()), np.uint64).reshape(1, 2)
    block_file.write(path, namespace, key, np.zeros((1, 8), np.float32))


def bind(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(path.parent, os.O_RDONLY)  # for the path may be too long for a socket
        server.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


# What is done to a place that is free, by the name of it.
KINDS = {
    "a folder": lambda path, out: path.mkdir(),
    "a pipe": lambda path, out: os.mkfifo(path),
    "a socket": lambda path, out: bind(path),
    "a link to a file": lambda path, out: path.symlink_to(out / "file"),
    "a hard link": lambda path, out: path.hardlink_to(out / "file"),
    "a link to nothing": lambda path, out: path.symlink_to(out / "new"),
    "a link to itself": lambda path, out: path.symlink_to(path),
    "a link to a device": lambda path, out: path.symlink_to("/dev/zero"),
    "no rights": lambda path, out: (path.write_bytes(b"x"), path.chmod(0)),
    "empty": lambda path, out: path.touch(),
    "noise": lambda path, out: path.write_bytes(np.random.default_rng(0).bytes(100_000)),
    "a terabyte": lambda path, out: sparse(path, b"skfairft rows 1\n", 2**40),
}
NAMES = ["0a.rows", "0b.part", "witness", "lock", "other"]

# What is done to a folder with stored rows, and how many rows must run after it; None is any.
# 47 is all but one that runs alone, to see how many features there are.
ATTACKS = {
    "a row of 256 MiB": (huge_row, 48),
    "a row of 32 MiB": (lambda f: forge(f, lambda k, v: (k[:1], np.zeros((1, 2**23), "f4"))), None),
    "NaN": (lambda f: forge(f, lambda k, v: (k, v * np.float32(np.nan))), 48),
    "infinity": (lambda f: forge(f, lambda k, v: (k, v + np.float32(np.inf))), 48),
    "another width": (lambda f: forge(f, lambda k, v: (k, v[:, :3])), 47),
    "another width of half the rows": (lambda f: forge(f, lambda k, v: (k[:24], v[:24, :3])), 47),
    "another width beside it": (
        lambda f: forge(f, lambda k, v: (k[:9], v[:9, :3]), alone=False),
        None,
    ),
    "another dtype": (lambda f: forge(f, lambda k, v: (k, v.astype("f8"))), 47),
    "a key a million times": (
        lambda f: forge(f, lambda k, v: (k[:1].repeat(10**6, 0), v[:1].repeat(10**6, 0))),
        None,
    ),
    "many bad files": (lambda f: many(f, lambda path: path.write_bytes(b"skfairft")), 0),
    "many small files": (lambda f: many(f, small_block), 0),
    "a name of two lines": (lambda f: (room_of(f) / "0a\n0b.rows").write_bytes(b"x"), 0),
    "a name that is no text": (
        lambda f: Path(os.fsdecode(os.fsencode(room_of(f)) + b"/\xff.rows")).write_bytes(b"x"),
        0,
    ),
    "a name in capitals": (lambda f: (room_of(f) / "0A.rows").write_bytes(b"x"), 0),
    "a witness of other features": (other_features, 48),
    "a witness whose spread is NaN": (lambda f: other_features(f, spread=np.full(8, np.nan)), 48),
    "a witness whose spread is infinite": (
        lambda f: other_features(f, spread=np.full(8, np.inf)),
        48,
    ),
    "a witness of negative spread": (lambda f: other_features(f, spread=np.full(8, -1.0)), 48),
    "a witness of another width": (
        lambda f: change_witness(f, features=np.zeros((4, 3), "f4"), spread=np.ones(3)),
        48,
    ),
    "a witness of no rows": (lambda f: change_witness(f, features=np.zeros((0, 8), "f4")), 48),
    "a witness of NaN": (
        lambda f: change_witness(f, features=np.full((4, 8), np.nan, dtype=np.float32)),
        48,
    ),
    "a witness of the largest numbers": (
        lambda f: change_witness(f, features=np.diag([1.7e308, -1.7e308] * 4)[:4]),
        48,
    ),
    "a witness of objects": (
        lambda f: change_witness(f, features=np.array([[None] * 8] * 4, dtype=object)),
        48,
    ),
    "a witness from another terminal": (lambda f: change_witness(f, where="\x1b[2J\nhere"), 48),
    "a witness of a million rows": (
        lambda f: change_witness(f, batch=(encode(np.zeros((10**6, 5), "f4")), b"", b"")),
        48,
    ),
    "a witness of rows that are not bytes": (
        lambda f: change_witness(f, batch=("rows", None, 3)),
        48,
    ),
}


@pytest.fixture
def folder(tmp_path):
    return filled(tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.some(3)
def test_what_lies_in_the_folder_of_a_module(folder, name, kind):
    path = room_of(folder) / name
    path.unlink(missing_ok=True)
    KINDS[kind](path, folder.parent / "outside")
    check(folder)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.some(2)
def test_rows_and_witnesses(folder, attack):
    act, must_run = ATTACKS[attack]
    act(folder)
    check(folder, must_run)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.some(2)
def test_what_lies_in_place_of_the_folder_of_a_module(folder, kind):
    room = room_of(folder)
    room.rename(folder / "module-00")
    KINDS[kind](room, folder.parent / "outside")
    check(folder, 48 if kind != "a folder" else None)


def test_a_link_to_another_folder(folder):
    """Nothing is read, written or deleted there."""
    room = room_of(folder)
    room.rename(folder / "elsewhere")
    room.symlink_to(folder.parent / "outside")
    check(folder, 48)


@pytest.mark.parametrize("seconds", [1.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_who_writes_all_the_time(folder, seconds):
    """Bytes that change while they are read, and a witness that is another one each time."""
    end = time.monotonic() + seconds
    mine = (room_of(folder) / "witness").read_bytes()

    def write():
        rng = np.random.default_rng(0)
        while True:
            with suppress(OSError, block_file.DamageError, ValueError):
                for path in room_of(folder).glob("*.rows"):
                    with path.open("r+b") as file:
                        file.seek(int(rng.integers(64, 2000)))
                        file.write(rng.bytes(3))
                    if rng.integers(2):
                        os.truncate(path, int(rng.integers(3000)))
                (room_of(folder) / "witness").write_bytes(mine)
                other_features(folder, spread=rng.normal(size=8))
                (room_of(folder) / "witness").write_bytes(mine[: int(rng.integers(200))])

    pid = start(write)
    try:
        while time.monotonic() < end:
            found, _, said = extract(folder)
            np.testing.assert_array_equal(found, EXPECTED)
            assert len(said) < 20
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    check(folder)


def test_files_beyond_a_number_are_not_looked_at(folder, monkeypatch):
    many(folder, small_block)
    monkeypatch.setattr(plain_file, "MOST_FILES", 100)
    monkeypatch.setattr(disk, "MOST_FILES", 100)
    found, _, said = extract(folder)
    np.testing.assert_array_equal(found, EXPECTED)
    assert any("more than 100 files" in text for text in said)
    DiskStore(folder).clear()
    assert not [*folder.glob("*/*.rows")]


def test_rows_that_are_too_wide_are_not_stored(tmp_path):
    store, keys = DiskStore(tmp_path), np.ones((1, 2), np.uint64)
    for width, stored in ((base.ROW_BYTES // 8, True), (base.ROW_BYTES // 8 + 1, False)):
        store.put(b"%d" % stored, keys, np.zeros((1, width)))
        assert DiskStore(tmp_path).lookup(b"%d" % stored, keys)[0].tolist() == [stored]


def test_features_that_are_not_finite_are_refused(tmp_path):
    keys = np.ones((1, 2), np.uint64)
    for store in (DiskStore(tmp_path), MemoryStore()):
        with pytest.raises(ValueError, match="NaN or infinity; expected finite"):
            store.put(b"a", keys, np.array([[1.0, np.nan]]))


class TestRights:
    def test_a_new_folder_is_its_owners_alone(self, tmp_path):
        before = os.umask(0o002)
        try:
            extract(tmp_path / "new" / "store")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o775
        assert stat.S_IMODE((tmp_path / "new" / "store").stat().st_mode) == 0o700

    def test_the_folder_of_a_team_stays_as_it_is(self, tmp_path):
        before = os.umask(0o002)
        try:
            (tmp_path / "store").mkdir(mode=0o770)
            extract(tmp_path / "store")
        finally:
            os.umask(before)
        modes = {path.name[-5:]: path.stat().st_mode for path in (tmp_path / "store").rglob("*")}
        assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o770
        assert {stat.S_IMODE(mode) for mode in modes.values() if stat.S_ISREG(mode)} == {0o664}
        assert {stat.S_IMODE(mode) for mode in modes.values() if stat.S_ISDIR(mode)} == {0o775}


def test_a_witness_that_is_right_vouches(folder):
    """The control of the witnesses that are refused: it is not that they are other bytes."""
    content = (room_of(folder) / "witness").read_bytes()[16:]
    change_witness(folder, where="elsewhere")
    assert (room_of(folder) / "witness").read_bytes()[16:] != content
    found, ran, said = extract(folder)
    np.testing.assert_array_equal(found, EXPECTED)
    assert (ran, said) == (0, [])


class Wide(nn.Module):
    """As many features as inputs."""

    def forward(self, x):
        return torch.relu(x)


def test_rows_of_another_size_are_served(tmp_path):
    """The control of features of another width: a module may give several widths."""
    for size in (5, 7, 5, 7):
        rows = np.random.default_rng(size).normal(size=(48, size)).astype(np.float32)
        store = DiskStore(tmp_path)
        found = FrozenFeatureExtractor(Wide(), memory=store, batch_size=16).fit_transform(rows)
        np.testing.assert_array_equal(found, np.maximum(rows, 0))
    assert store.info().hits >= 47
    assert store.info().rows == 96


def test_rows_too_large_to_be_looked_at_again_are_not_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "LARGEST_BYTES", 2**8)
    found, ran, said = extract(tmp_path / "store", fit=True)
    np.testing.assert_array_equal(found, EXPECTED)
    assert ran == 48
    assert len(said) == 1
    assert "cannot be kept" in said[0]
    assert DiskStore(tmp_path / "store").info().rows == 0


def test_no_more_room_is_made_than_there_is_to_read():
    """One row of many features does not make the others as wide."""
    store, keys = MemoryStore(), np.arange(4000, dtype=np.uint64).reshape(-1, 2)
    store.put(b"a", keys[:1], np.ones((1, 2**18), np.float32))
    store.put(b"a", keys[1:], np.ones((1999, 4), np.float32))
    tracemalloc.start()
    found, features = store.lookup(b"a", keys)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
    assert found.sum() == 1
    assert features.shape == (1, 2**18)
