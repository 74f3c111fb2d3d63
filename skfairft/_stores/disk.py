"""The features of rows in a folder, shared by processes, bounded, and safe against damage."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from .base import BaseStore, Found, StoreInfo, check_same, checked_keys, portions
from .claims import Claims
from .file import FeatureFile, is_damage
from .key_index import ChunkIndex, Keys, keys_of

__all__ = ["DiskStore", "resolved"]

TOUCH_SECONDS = 10.0
"""Lookups note in the file what they used at most this often; writing does so each time."""

FILE_SLACK = 2**21
"""The file may exceed ``max_bytes`` by an eighth and this, for the tables' own structure."""

T = TypeVar("T")


class _Head(NamedTuple):
    """What a process remembers of a chunk in the file."""

    width: int
    size: int
    checksum: bytes


class _Known:
    """What a process knows of one namespace in the file."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.index: ChunkIndex[_Head] = ChunkIndex()
        self.last = 0  # the largest number of a chunk that was read
        self.version: int | None = None  # of the file, when others' deletions were last looked for
        self.bad: set[int] = set()  # damaged chunks that were warned of, but may not be deletable


class DiskStore(BaseStore):
    """Remembers features in a folder, for this process, others at the same time, and later ones.

    The folder holds one SQLite file. Damaged contents are noticed by checksums, warned of
    (`FeatureStoreWarning`) and count as not stored; a file that cannot be read at all is moved
    aside and begun anew. If nothing can be written (full disk, read-only folder), the store warns
    once and goes on without storing.

    A pickle or copy opens the same folder.

    Parameters
    ----------
    folder : str or path-like
        Made when first needed. Processes that share it need ``flock`` to work there.
    max_bytes : int, default=10 * 2**30
        Bound on the bytes of features and keys; the least recently used go first. The file is
        larger by at most an eighth and a few MB.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from skfairft.feature_store import DiskStore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = DiskStore(folder)
    ...     keys = np.array([[1, 2], [3, 4]], dtype=np.uint64)
    ...     store.put(b"module", keys[:1], np.ones((1, 5), dtype=np.float32))
    ...     found, features = DiskStore(folder).lookup(b"module", keys)
    >>> found, features
    (array([ True, False]), array([[1., 1., 1., 1., 1.]], dtype=float32))
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int = 10 * 2**30) -> None:
        super().__init__(max_bytes)
        self.folder = resolved(folder)
        self._stopped = False
        self._start()

    def _start(self) -> None:
        self._file = FeatureFile(self.folder)
        self._claims = Claims(self.folder / "owners")
        self._known: dict[bytes, _Known] = {}
        self._touched: set[int] = set()
        self._last_touch = -TOUCH_SECONDS
        self._damaged: set[int] = set()
        weakref.finalize(self, _retire, self._claims, os.getpid())

    def __repr__(self) -> str:
        return f"DiskStore({str(self.folder)!r}, max_bytes={self.max_bytes})"

    def __reduce__(self) -> Any:
        return DiskStore, (self.folder, self.max_bytes)

    def claim(self, namespace: bytes, keys: Keys) -> NDArray[np.bool_]:
        """Claim the rows that this store is to compute now.

        Parameters
        ----------
        namespace : bytes
            Fingerprint of the module and its settings.
        keys : ndarray of shape (n, 2), uint64
            Row keys.

        Returns
        -------
        ndarray of shape (n,), bool
            False for rows that are stored, or that another living process claims. A claim ends
            with `put`, `release`, or the process.
        """
        keys = checked_keys(keys)
        everything = np.ones(len(keys), dtype=bool)
        if self._stopped or not len(keys):
            return everything
        with self._session():
            return self._attempt(lambda: self._claim(namespace, keys), everything)

    def release(self, namespace: bytes, keys: Keys | None = None) -> None:
        """Give up own claims on keys (n, 2), on all of the namespace for None."""
        if not self._claims.may_exist:
            return
        checked = None if keys is None else checked_keys(keys)

        def work() -> None:
            with self._file.writing() as db:
                self._claims.release(db, namespace, checked)

        with self._session():
            self._attempt(work, None)

    def wait(self, namespace: bytes, keys: Keys, poll: float = 0.05) -> None:
        """Return once each of the keys (n, 2) is stored, or claimed by no other living process.

        Parameters
        ----------
        namespace : bytes
            Fingerprint of the module and its settings.
        keys : ndarray of shape (n, 2), uint64
            Row keys.
        poll : float, default=0.05
            Seconds between two looks.
        """
        keys = checked_keys(keys)
        while len(keys):
            with self._session():
                keys = self._attempt(lambda: self._awaited(namespace, keys), keys[:0])  # noqa: B023
            if len(keys):
                time.sleep(poll)

    def info(self) -> StoreInfo:
        """Return what the folder holds, and the hits and misses of this object.

        Returns
        -------
        StoreInfo
            Rows, bytes, the bound on bytes, hits, misses, and the folder.
        """

        def work() -> tuple[int, int]:
            with self._file.reading() as db:
                (row,) = db.execute("select total(n), total(bytes) from usage")
            return _plausible(row[0]), _plausible(row[1])

        with self._session():
            rows, size = self._attempt(work, (0, 0))
            folder = str(self.folder)
            return StoreInfo(rows, size, self.max_bytes, self._hits, self._misses, folder)

    def clear(self) -> None:
        """Forget everything, for other processes too; what is claimed stays claimed."""

        def work() -> None:
            with self._file.writing() as db:
                for table in ("chunks", "payload", "usage"):
                    db.execute(f"delete from {table}")
            self._file.shrink()

        with self._session():
            self._known.clear()
            self._touched.clear()
            self._hits = self._misses = 0
            self._attempt(work, None)

    def _after_fork(self) -> None:
        super()._after_fork()
        # A connection must not be used or closed on the other side of a fork, so it is kept.
        _PARENTS.append((self._file, self._claims))
        self._start()

    # What follows runs in a session; actions may be tried again after the file was replaced.

    def _attempt(self, action: Callable[[], T], otherwise: T) -> T:
        """Act on the file. If it is damaged, begin a new one; if it is out of reach, do without."""
        try:
            for _ in range(3):
                try:
                    result = action()
                except BaseException as error:
                    self._forget()
                    if not _is_of_file(error):
                        raise
                    if not self._recover(error):
                        return otherwise
                    continue
                try:
                    if self._damaged:
                        self._repair()
                except BaseException as error:
                    self._forget()
                    if not _is_of_file(error):
                        raise
                    self._recover(error)  # the result stands: it holds nothing damaged
                return result
            self._stop(RuntimeError("the file is damaged again and again"))
            return otherwise
        finally:
            self._file.settle()

    def _forget(self) -> None:
        """Drop what we know, which may be ahead of the file."""
        self._known.clear()
        self._damaged.clear()

    def _recover(self, error: BaseException) -> bool:
        """Return whether to try again, with a new file or with one that another process began."""
        try:
            if is_damage(error):
                notice = self._file.set_aside(str(error))
                self._notices += [notice] if notice else []
                return True
            if self._file.was_replaced():
                return True
        except OSError as other:
            error = other
        self._stop(error)
        return False

    def _stop(self, error: BaseException) -> None:
        self._claims.void()  # or others would wait for what is never stored
        if not self._stopped:
            self._stopped = True
            self._notices.append(
                f"Features are not stored in {self.folder} from here on: {error}. Rows that are "
                "not stored are computed each time. Make room or choose another folder."
            )

    def _repair(self) -> None:
        """Delete damaged chunks."""
        damaged, self._damaged = self._damaged, set()
        self._notices.append(
            f"{len(damaged)} of the entries in {self.folder} were damaged; they are dropped, and "
            "their features computed again."
        )
        generation = self._file.generation
        if not self._stopped:
            with self._file.writing() as db:
                # In a file that another process began meanwhile these numbers are others'.
                for number in damaged if self._file.generation == generation else ():
                    _delete(db, number)

    def _refresh(self, db: sqlite3.Connection, namespace: bytes) -> _Known:
        """Return what the file knows of a namespace now."""
        known = self._known.get(namespace)
        (version,) = db.execute("pragma data_version").fetchone()
        (last,) = db.execute("select coalesce(max(id), 0) from usage").fetchone()
        if known is None or known.generation != self._file.generation or last < known.last:
            # Numbers grow, unless the largest was deleted, or was damaged and is now repaired.
            known = self._known[namespace] = _Known(self._file.generation)
        damaged: set[int] = set()
        if last > known.last:
            rows = db.execute(
                "select id, n, width, size, keys, head from chunks where id > ? and namespace = ?",
                (known.last, namespace),
            ).fetchall()  # a cursor that an interrupt leaves in a traceback would lock the file
            chunks = [(number, *_opened(number, namespace, *rest)) for number, *rest in rows]
            damaged |= {number for number, keys, _ in chunks if keys is None}
            known.index.add((a, b, c) for a, b, c in chunks if b is not None and c is not None)
        if version != known.version:  # another connection wrote
            query = "select id from usage where namespace = ?"
            listed = {number for (number,) in db.execute(query, (namespace,)).fetchall()}
            present = set(known.index.chunks)
            for number in present - listed:
                known.index.drop(number)
            # Evictions delete from both tables: what only one of them holds is damaged.
            damaged |= {number for number in present - listed if number > known.last}
            damaged |= listed - present
        self._damaged |= damaged - known.bad
        known.bad |= damaged
        known.version, known.last = version, last
        return known

    def _find(self, namespace: bytes, keys: Keys) -> Found:
        def work() -> Found:
            with self._file.reading() as db:
                known = self._refresh(db, namespace)
            # Not in one transaction: a long one would hold up writers.
            found = self._gather(known.index, keys, lambda number: self._read(db, known, number))
            self._touch()
            return found

        nothing: Found = (np.zeros(len(keys), dtype=bool), None)
        return self._attempt(work, nothing) if len(keys) else nothing

    def _read(self, db: sqlite3.Connection, known: _Known, number: int) -> NDArray[Any] | None:
        """Return the features of a chunk, None if it is gone or damaged."""
        ((listed, body, data),) = db.execute(
            "select (select 1 from usage where id = :id), "
            "(select body from payload where id = :id), (select data from payload where id = :id)",
            {"id": number},
        ).fetchall()
        head = known.index.chunks[number]
        if not isinstance(data, bytes) or xxh3_128_digest(head.checksum + data) != body:
            known.index.drop(number)
            if listed:
                known.bad.add(number)
                self._damaged.add(number)
            return None
        self._touched.add(number)
        features = np.frombuffer(data, dtype=f"<f{head.size}").reshape(-1, head.width)
        return features.astype(features.dtype.newbyteorder("="), copy=False)

    def _touch(self) -> None:
        """Note in the file what was used, now and then, and only if that is possible."""
        now = time.monotonic()
        if self._touched and not self._stopped and now - self._last_touch > TOUCH_SECONDS:
            self._last_touch = now
            try:
                with self._file.writing() as db:
                    self._note_touched(db)
            except (sqlite3.OperationalError, OSError):
                pass  # a folder that is only read from need not be writable

    def _note_touched(self, db: sqlite3.Connection) -> int:
        """Write down what was used; return a time later than that."""
        (last,) = db.execute("select coalesce(max(used), 0) from usage").fetchone()
        now = _plausible(last) + 1
        db.executemany("update usage set used = ? where id = ?", [(now, i) for i in self._touched])
        self._touched = set()
        return now + 1

    def _store(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        if not self._stopped:
            self._attempt(lambda: self._write(namespace, keys, features), None)

    def _write(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        with self._file.writing() as db:
            index = self._refresh(db, namespace).index
            for head in index.chunks.values():
                check_same(head.width, head.size, features)
                break
            now = self._note_touched(db)
            for rows in portions(index, keys, features, self.max_bytes):
                self._insert(db, namespace, keys[rows], features[rows], now)
            self._claims.release(db, namespace, keys)
        # The next refresh reads the new keys from the file: what was not committed is not known.

    def _insert(
        self, db: sqlite3.Connection, namespace: bytes, keys: Keys, features: NDArray[Any], now: int
    ) -> None:
        n, width = features.shape
        size = features.dtype.itemsize
        key_blob = keys.astype("<u8", order="C").tobytes()
        data = features.astype(f"<f{size}", order="C").tobytes()
        self._evict(db, len(key_blob) + len(data))
        number = db.execute(
            "insert into usage (namespace, n, bytes, used) values (?, ?, ?, ?)",
            (namespace, n, len(key_blob) + len(data), now),
        ).lastrowid
        assert number is not None
        head = _checksum(number, namespace, n, width, size, key_blob)
        chunk = (number, namespace, n, width, size, key_blob, head)
        db.execute("insert into chunks values (?, ?, ?, ?, ?, ?, ?)", chunk)
        body = xxh3_128_digest(head + data)
        db.execute("insert into payload values (?, ?, ?)", (number, body, data))

    def _evict(self, db: sqlite3.Connection, incoming: int) -> None:
        """Delete the least recently used chunks until there is room."""
        (page,) = db.execute("pragma page_size").fetchone()
        limit = self.max_bytes + self.max_bytes // 8 + FILE_SLACK
        (used,) = db.execute("select total(bytes) from usage").fetchone()
        total = _plausible(used)
        while True:
            (pages,) = db.execute("pragma page_count").fetchone()
            (free,) = db.execute("pragma freelist_count").fetchone()
            in_file = (pages - free) * page + incoming
            if total + incoming <= self.max_bytes and in_file <= limit:
                return
            oldest = db.execute(
                "select id, namespace, bytes from usage order by used, id limit 1"
            ).fetchone()
            if oldest is None:
                return
            number, namespace, size = oldest
            _delete(db, number)
            total -= _plausible(size)
            if namespace in self._known:
                self._known[namespace].index.drop(number)

    def _claim(self, namespace: bytes, keys: Keys) -> NDArray[np.bool_]:
        with self._file.writing() as db:
            mask = self._refresh(db, namespace).index.find(keys) < 0
            if mask.any():
                mask[mask] = self._claims.take(db, namespace, keys[mask])
        return mask

    def _awaited(self, namespace: bytes, keys: Keys) -> Keys:
        """Return those of the keys that are not stored and that another process claims."""
        with self._file.reading() as db:
            keys = keys[self._refresh(db, namespace).index.find(keys) < 0]
            return keys[self._claims.of_others(db, namespace).find(keys) >= 0]


def resolved(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder).expanduser().resolve()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; expected a folder to keep features in.")
    return path


def _checksum(number: int, namespace: bytes, n: int, width: int, size: int, keys: bytes) -> bytes:
    # The number, too: were it damaged, the keys would be taken for those of another chunk.
    return xxh3_128_digest(b"%d %d %d %d " % (number, n, width, size) + namespace + keys)


def _opened(
    number: int, namespace: bytes, n: Any, width: Any, size: Any, blob: Any, head: Any
) -> tuple[Keys | None, _Head | None]:
    """Return the keys and head of a chunk as read from the file, None if they are damaged."""
    numbers = isinstance(n, int) and isinstance(width, int) and isinstance(size, int)
    if (
        not numbers
        or (keys := keys_of(blob)) is None
        or head != _checksum(number, namespace, n, width, size, blob)
    ):
        return None, None
    return keys, _Head(width, size, head)


def _is_of_file(error: BaseException) -> bool:
    """Whether an error comes from the file, and not from its use or the user."""
    of_file = (sqlite3.Error, UnicodeDecodeError, OSError, NotImplementedError)
    return isinstance(error, of_file) and not isinstance(error, sqlite3.ProgrammingError)


def _plausible(value: Any) -> int:
    """Return a number that no checksum covers, if it can be one that was written."""
    if not isinstance(value, (int, float)) or not 0 <= value < 2**60:
        raise sqlite3.DatabaseError(f"impossible number {value!r}")
    return int(value)


def _delete(db: sqlite3.Connection, number: int) -> None:
    for table in ("chunks", "payload", "usage"):
        db.execute(f"delete from {table} where id = ?", (number,))


def _retire(claims: Claims, pid: int) -> None:
    """Give up claims at the end of a process, but not those of the process it was forked from."""
    if os.getpid() == pid:
        claims.void()


_PARENTS: list[Any] = []
