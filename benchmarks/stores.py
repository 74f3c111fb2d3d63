"""Where to keep features on disk: speed of four kinds of file, and what each does when damaged.

Features are written in batches of 256 rows with 16-byte keys, then read in random order: all
rows, two thirds of them, one. Seconds are the median over repetitions, with a warm page cache.

- sqlite: one blob per batch, its keys in another blob, an index of the keys in memory;
- safetensors: one file per batch, the same index;
- lmdb, diskcache: one entry per row;
- skfairft: the package's DiskStore: one file per batch, with checksums, a lock and a bound.

Then a child process reads files with one flipped byte in the middle, cut in half, or replaced by
garbage, and what a writer killed with SIGKILL left. Outcomes: "all rows", "k rows gone" (the
others right), "error", "k rows wrong" (nobody noticed), "killed by signal".

Run ``python benchmarks/stores.py [--json FILE]`` with lmdb, diskcache and safetensors installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 256


class Chunks:
    """Batches kept whole: where each key lies is known in memory, one read fetches a batch."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.places = folder, {}
        for chunk, keys in self.known():
            self.remember(chunk, keys)

    def remember(self, chunk: Any, keys: bytes) -> None:
        """Index the keys of a batch."""
        for row in range(len(keys) // 16):
            self.places[keys[16 * row : 16 * row + 16]] = (chunk, row)

    def write(self, keys: list[bytes], features: np.ndarray) -> None:
        """Store one batch."""
        joined = b"".join(keys)
        self.remember(self.save(joined, features), joined)

    def read(self, keys: list[bytes], width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which keys are there, and the features."""
        out, found = np.empty((len(keys), width), np.float32), np.zeros(len(keys), bool)
        by_chunk: dict[Any, list[tuple[int, int]]] = {}
        for i, key in enumerate(keys):
            if key in self.places:
                chunk, row = self.places[key]
                by_chunk.setdefault(chunk, []).append((i, row))
        for chunk, pairs in by_chunk.items():
            rows, places = np.array(pairs).T
            out[rows], found[rows] = self.load(chunk, width)[places], True
        return found, out


class Sqlite(Chunks):
    """One blob per batch, the keys in a table of their own."""

    page, journal, sync = 16384, "delete", "normal"

    def known(self) -> list[tuple[Any, bytes]]:
        """Open the file; return the batches in it."""
        self.db = sqlite3.connect(self.folder / "store.sqlite", isolation_level=None)
        self.db.execute(f"pragma page_size={self.page}")
        self.db.execute(f"pragma journal_mode={self.journal}")
        self.db.execute(f"pragma synchronous={self.sync}")
        self.db.execute("create table if not exists keys (id integer primary key, keys blob)")
        self.db.execute("create table if not exists data (id integer primary key, data blob)")
        return self.db.execute("select id, keys from keys").fetchall()

    def save(self, keys: bytes, features: np.ndarray) -> int:
        """Store a batch."""
        self.db.execute("begin immediate")
        chunk = self.db.execute("insert into keys (keys) values (?)", (keys,)).lastrowid
        self.db.execute("insert into data values (?, ?)", (chunk, features.data))
        self.db.execute("commit")
        return chunk

    def load(self, chunk: int, width: int) -> np.ndarray:
        """Fetch a batch."""
        blob = self.db.execute("select data from data where id = ?", (chunk,)).fetchone()[0]
        return np.frombuffer(blob, np.float32).reshape(-1, width)


class Safetensors(Chunks):
    """One file per batch, renamed into place."""

    def known(self) -> list[tuple[Any, bytes]]:
        """Return the batches in the folder."""
        from safetensors.numpy import load_file

        files = sorted(self.folder.glob("*.safetensors"))
        return [(file, load_file(file)["keys"].tobytes()) for file in files]

    def save(self, keys: bytes, features: np.ndarray) -> Path:
        """Store a batch."""
        from safetensors.numpy import save_file

        file = self.folder / f"{time.time_ns()}.safetensors"
        unfinished = file.with_suffix(".part")
        save_file({"keys": np.frombuffer(keys, np.uint8), "data": features}, unfinished)
        unfinished.rename(file)
        return file

    def load(self, chunk: Path, width: int) -> np.ndarray:
        """Fetch a batch."""
        from safetensors.numpy import load_file

        return load_file(chunk)["data"]


class Rows:
    """One entry per row."""

    def __init__(self, folder: Path) -> None:
        self.open(folder)

    def read(self, keys: list[bytes], width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which keys are there, and the features."""
        out, found = np.empty((len(keys), width), np.float32), np.zeros(len(keys), bool)
        for i, blob in enumerate(self.blobs(keys)):
            if blob is not None:
                out[i], found[i] = np.frombuffer(blob, np.float32), True
        return found, out


class Lmdb(Rows):
    """A memory-mapped tree."""

    def open(self, folder: Path) -> None:
        """Open the file."""
        import lmdb

        self.db = lmdb.open(str(folder), map_size=2**31)

    def write(self, keys: list[bytes], features: np.ndarray) -> None:
        """Store one batch."""
        with self.db.begin(write=True) as transaction:
            for key, row in zip(keys, features, strict=True):
                transaction.put(key, row.tobytes())

    def blobs(self, keys: list[bytes]) -> list[bytes | None]:
        """Fetch rows."""
        with self.db.begin() as transaction:
            return [transaction.get(key) for key in keys]


class Diskcache(Rows):
    """sqlite for small values, a file each for large ones."""

    def open(self, folder: Path) -> None:
        """Open the folder."""
        import diskcache

        self.db = diskcache.Cache(folder, size_limit=2**31, disk_min_file_size=2**20)

    def write(self, keys: list[bytes], features: np.ndarray) -> None:
        """Store one batch."""
        with self.db.transact():
            for key, row in zip(keys, features, strict=True):
                self.db.set(key, row.tobytes())

    def blobs(self, keys: list[bytes]) -> list[bytes | None]:
        """Fetch rows."""
        return [self.db.get(key) for key in keys]


class Skfairft:
    """The package's own."""

    def __init__(self, folder: Path) -> None:
        from skfairft.feature_store import DiskStore

        self.store = DiskStore(folder)

    def write(self, keys: list[bytes], features: np.ndarray) -> None:
        """Store one batch."""
        self.store.put(bytes(16), np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2), features)

    def read(self, keys: list[bytes], width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which keys are there, and the features."""
        array = np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2)
        found, features = self.store.lookup(bytes(16), array)
        out = np.empty((len(keys), width), np.float32)
        if features is not None:
            out[found] = features
        return found, out


STORES: dict[str, Any] = {
    "sqlite": Sqlite,
    "safetensors": Safetensors,
    "lmdb": Lmdb,
    "diskcache": Diskcache,
    "skfairft": Skfairft,
}


def data(n_rows: int, width: int) -> tuple[list[bytes], np.ndarray]:
    """Return keys and features that are the same in every process."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 2**64, (n_rows, 2), dtype=np.uint64).tobytes()
    keys = [raw[16 * i : 16 * i + 16] for i in range(n_rows)]
    return keys, rng.standard_normal((n_rows, width), dtype=np.float32)


def fill(store: Any, keys: list[bytes], features: np.ndarray) -> None:
    """Write all rows in batches."""
    for start in range(0, len(keys), BATCH):
        store.write(keys[start : start + BATCH], features[start : start + BATCH])


def timed(name: str, n_rows: int, width: int) -> dict[str, float]:
    """Return seconds for each operation, each read in a store opened anew."""
    keys, features = data(n_rows, width)
    order = np.random.default_rng(1).permutation(n_rows)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        store = STORES[name](Path(folder))
        start = time.perf_counter()
        fill(store, keys, features)
        seconds["write"] = time.perf_counter() - start
        if name == "lmdb":
            store.db.close()  # it lets no process open a file twice
        start = time.perf_counter()
        store = STORES[name](Path(folder))
        seconds["open"] = time.perf_counter() - start
        for label, rows in (("all", order), ("two thirds", order[::3]), ("one", order[:1])):
            wanted = [keys[i] for i in rows]
            if label == "two thirds":
                wanted = [keys[i] for i in order if i % 3]
                rows = order[order % 3 != 0]
            start = time.perf_counter()
            found, out = store.read(wanted, width)
            seconds[label] = time.perf_counter() - start
            assert found.all()
            assert np.array_equal(out, features[rows])
        seconds["MB"] = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file()) / 1e6
    return seconds


def damaged(name: str, harm: str, place: float = 0.5) -> str:
    """Damage a store's largest file, or kill its writer; return what a reader then sees."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", name, folder]
        writer = subprocess.Popen([*command, "write"], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(10 if harm == "SIGKILL" else 2**30):
            if not writer.stdout.readline():
                break
        if harm == "SIGKILL":
            writer.send_signal(signal.SIGKILL)
        writer.communicate()
        files = [f for f in Path(folder).rglob("*") if f.is_file() and "lock" not in f.name]
        file = max(files, key=lambda f: f.stat().st_size)
        content = bytearray(file.read_bytes())
        if harm == "flipped byte":
            content[int(place * len(content))] ^= 255
            file.write_bytes(content)
        elif harm == "cut in half":
            os.truncate(file, len(content) // 2)
        elif harm == "garbage":
            file.write_bytes(np.random.default_rng(2).bytes(len(content)))
        reader = subprocess.run([*command, "read"], capture_output=True, text=True)
        if reader.returncode < 0:
            return f"killed by {signal.Signals(-reader.returncode).name}"
        return reader.stdout.strip() or "error: " + reader.stderr.strip().splitlines()[-1][:60]


def child(name: str, folder: Path, action: str) -> None:
    """Write batches and say so after each, or read all rows and say what came."""
    keys, features = data(5120, 300)
    store = STORES[name](folder)
    if action == "write":
        for start in range(0, len(keys), BATCH):
            store.write(keys[start : start + BATCH], features[start : start + BATCH])
            print(start, flush=True)
        return
    found, out = store.read(keys, features.shape[1])
    wrong = int((out[found] != features[found]).any(axis=1).sum())
    gone = int((~found).sum())
    print(f"{wrong} rows WRONG" if wrong else f"{gone} rows gone" if gone else "all rows")


def main() -> None:
    """Print seconds and outcomes of all stores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stores", nargs="+", default=list(STORES), choices=list(STORES))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, folder, action = options.child
        child(name, Path(folder), action)
        return
    results: list[dict[str, Any]] = []
    for n_rows, width in ((13_000, 1280), (100_000, 64)):
        for name in options.stores:
            runs = [timed(name, n_rows, width) for _ in range(options.repeats)]
            median = {what: statistics.median(run[what] for run in runs) for what in runs[0]}
            results.append({"store": name, "rows": n_rows, "features": width, **median})
            text = ", ".join(f"{what} {value:.4g}" for what, value in median.items())
            print(f"{n_rows} x {width} {name}: {text}", flush=True)
    outcomes = {}
    for name in options.stores:
        outcomes[name] = {
            harm: damaged(name, harm) for harm in ("cut in half", "garbage", "SIGKILL")
        }
        flips = (damaged(name, "flipped byte", place) for place in (0.23, 0.41, 0.63, 0.83))
        outcomes[name]["flipped byte"] = ", ".join(sorted(set(flips)))
        print(name, outcomes[name], flush=True)
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    print(versions)
    if options.json:
        report = {"versions": versions, "results": results, "damage": outcomes}
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
