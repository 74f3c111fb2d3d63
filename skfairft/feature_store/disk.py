"""The features of rows in a folder, shared by processes, bounded, and safe against damage."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from ..inputs.exceptions import FeatureStoreWarning
from ..inputs.warn import warn_user
from . import block_file
from .base import BaseStore, Found, StoreInfo, gather, portions
from .block_file import DamageError, Head
from .key_index import KeyIndex, Keys

__all__ = ["DiskStore", "resolved"]

TOUCH_SECONDS = 10.0
"""That a file was used is noted at most this often."""

SMALL_BYTES, SMALL_FILES = 2**16, 32
"""So many files of less than this size are joined into one."""

PATIENCE_SECONDS, GLANCE_SECONDS = 300.0, 1.0
"""How long to wait for a process that stores no rows while it works, and how often to look."""

# No other name is ever deleted, whatever folder a user gives.
_ROOM, _SUFFIX = "module-", ".rows"

_warn = partial(warn_user, category=FeatureStoreWarning)


class _Known:
    """What a process knows of the files of one namespace."""

    def __init__(self) -> None:
        self.index = KeyIndex()
        self.numbers: dict[str, int] = {}  # of the blocks, by the names of their files
        self.blocks: dict[int, tuple[str, Head]] = {}
        self.bad: set[str] = set()  # damaged, warned of, and perhaps not to be deleted

    def add(self, name: str, head: Head, keys: Keys) -> None:
        number = self.index.next
        self.blocks[number] = name, head
        self.index.add(keys)
        self.numbers[name] = number  # last: after an interrupt it is added once more

    def drop(self, name: str, number: int | None = None) -> None:
        number = self.numbers.pop(name, number)
        if number is not None:
            self.index.drop(number)


class DiskStore(BaseStore):
    """Remembers features in a folder, for this process, others at the same time, and later ones.

    In it is a folder for each module, with a file for each block of rows: numbers and checksums.
    A damaged file is noticed, warned of (`FeatureStoreWarning`), deleted, and counts as not
    stored. If nothing can be written (full disk, read-only folder), the store warns once and goes
    on without storing. No file stays open.

    A pickle or copy uses the same folder.

    Parameters
    ----------
    folder : str or path-like
        Made when first needed.
    max_bytes : int, default=10 * 2**30
        Bound on the bytes of all files of rows; the least recently used go first. Besides, up
        to four rows of X are kept for each module, to be looked at again.

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
        self._known: dict[bytes, _Known] = {}
        self._stopped = False

    def __repr__(self) -> str:
        return f"DiskStore({str(self.folder)!r}, max_bytes={self.max_bytes})"

    def __reduce__(self) -> Any:
        return DiskStore, (self.folder, self.max_bytes)

    def info(self) -> StoreInfo:
        """Return what the folder holds, and the hits and misses of this object.

        Returns
        -------
        StoreInfo
            Rows, bytes, the bound on bytes, hits, misses, and the folder.
        """
        rows = size = 0
        for path, status in self._files():
            with suppress(DamageError, OSError), open(path, "rb") as file:
                rows += block_file.read_head(file).n
                size += status.st_size
        folder = str(self.folder)
        return StoreInfo(rows, size, self.max_bytes, self._hits, self._misses, folder)

    def _forget_all(self) -> None:
        for room in self._rooms():
            _empty(room)
        self._known.clear()

    def forget(self, namespace: bytes) -> None:
        """Forget the rows and the witness of a namespace."""
        with self._lock:
            _empty(self._room(namespace))
            self._known.pop(namespace, None)

    def witness(self, namespace: bytes) -> bytes | None:
        """Return what `put_witness` kept for a namespace, None if there is nothing."""
        with suppress(OSError):
            content = self._room(namespace).joinpath("witness").read_bytes()
            if xxh3_128_digest(content[16:]) == content[:16]:
                return content[16:]
            _warn(f"A file in {self._room(namespace)} was damaged: all its rows run again.")
        return None

    def put_witness(self, namespace: bytes, content: bytes) -> None:
        """Keep some bytes with a namespace, in place of earlier ones."""
        with self._writing():
            self._room(namespace).mkdir(parents=True, exist_ok=True)
            path = self._room(namespace) / "witness"
            block_file.replace(path, xxh3_128_digest(content), content)

    @contextmanager
    def working(self, namespace: bytes) -> Iterator[None]:
        """Return a context in which no other process computes rows of the namespace.

        Who comes later waits. If the other one stores nothing for five minutes (it may have
        been stopped), the wait ends with a warning: rows may then be computed twice.
        """
        lock = None
        # A folder that is read only, or that has no locks, is used without.
        with suppress(OSError, NotImplementedError):
            if not self._stopped:
                self._room(namespace).mkdir(parents=True, exist_ok=True)
                lock = self._acquired(self._room(namespace))
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _acquired(self, room: Path) -> FileLock | None:
        lock = FileLock(room / "lock", thread_local=False)
        seen, since = set[str](), time.monotonic()
        while True:
            try:
                lock.acquire(timeout=GLANCE_SECONDS, poll_interval=0.02)
                return lock
            except Timeout:
                names = _files_in(room, _SUFFIX)
                if names != seen:
                    seen, since = names, time.monotonic()
            if time.monotonic() - since > PATIENCE_SECONDS:
                _warn(
                    f"Another process works on the same rows in {self.folder} and has stored none "
                    f"for {PATIENCE_SECONDS:.0f} seconds; it may have been stopped. This one does "
                    "not wait any longer: some rows may be computed twice."
                )
                return None

    def _room(self, namespace: bytes) -> Path:
        return self.folder / f"{_ROOM}{namespace.hex()}"

    def _rooms(self) -> list[Path]:
        with suppress(OSError), os.scandir(self.folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if entry.name.startswith(_ROOM) and entry.is_dir(follow_symlinks=False)
            ]
        return []

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        """Return all files of rows, and what killed writers left."""
        found = []
        for room in self._rooms():
            for name in _files_in(room, _SUFFIX, ".part"):
                with suppress(OSError):
                    found.append((room / name, (room / name).lstat()))
        return found

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Do without storing from here on where nothing can be written."""
        try:
            yield
        except OSError as error:
            if not self._stopped:
                self._stopped = True
                _warn(
                    f"Features are not stored in {self.folder} from here on: {error}. Rows that "
                    "are not stored are computed each time. Make room or choose another folder."
                )

    def _refresh(self, namespace: bytes) -> _Known:
        """Return what the folder holds of a namespace now."""
        known = self._known.setdefault(namespace, _Known())
        room = self._room(namespace)
        names = _files_in(room, _SUFFIX)
        for name in known.numbers.keys() - names:
            known.drop(name)
        for name in names - known.numbers.keys() - known.bad:
            try:
                known.add(name, *block_file.read_keys(room / name, namespace))
            except DamageError as error:
                self._discard(known, room / name, error)
            except OSError:
                continue  # removed just now, or not to be opened now
        return known

    def _discard(self, known: _Known, path: Path, error: BaseException) -> None:
        """Delete a damaged file and say so."""
        known.bad.add(path.name)
        if path.name in known.numbers:
            known.drop(path.name)
        with suppress(OSError):
            path.unlink()
        _warn(f"{path} was damaged: {error}. It is dropped, and its features are computed again.")

    def _find(self, namespace: bytes, keys: Keys) -> Found:
        gone: list[str] = []

        def read(number: int) -> NDArray[Any] | None:
            name, head = known.blocks[number]
            path = self._room(namespace) / name
            try:
                features = block_file.read_features(path, head)
            except DamageError as error:
                self._discard(known, path, error)
                return None
            except OSError:  # joined with others, evicted, or not to be opened now
                gone.append(name)
                known.drop(name, number)
                return None
            _touch(path)
            return features

        known = self._refresh(namespace)
        found, features = gather(known.index, keys, read)
        if gone:
            known = self._refresh(namespace)
            found, features = gather(known.index, keys, read)
        return found, features

    def _store(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        if self._stopped:
            return
        with self._writing():
            self._room(namespace).mkdir(parents=True, exist_ok=True)
            known = self._refresh(namespace)
            for rows in portions(known.index, keys, features, self.max_bytes * 15 // 16):  # headers
                self._write(namespace, keys[rows], features[rows])
            self._join_small(namespace, self._refresh(namespace))

    def _write(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        """Write a block, after the least recently used files made room for it."""
        files = self._files()
        size = Head(len(features), features.shape[1], features.dtype.itemsize).bytes
        size += sum(status.st_size for _, status in files)
        for path, status in sorted(files, key=lambda each: each[1].st_mtime_ns):
            if size <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            size -= status.st_size
            if path.parent != self._room(namespace) and not _files_in(path.parent, _SUFFIX):
                (path.parent / "witness").unlink(missing_ok=True)
        path = self._room(namespace) / f"{uuid.uuid4().hex}{_SUFFIX}"
        block_file.write(path, namespace, keys, features)

    def _join_small(self, namespace: bytes, known: _Known) -> None:
        """Make one file of many small ones, such as single predictions leave."""
        room = self._room(namespace)
        small: dict[tuple[int, int], list[str]] = {}
        for number in known.numbers.values():
            name, head = known.blocks[number]
            if head.bytes < SMALL_BYTES:
                small.setdefault((head.width, head.size), []).append(name)
        for names in small.values():
            if len(names) < SMALL_FILES:
                continue
            keys, features = [], []
            with suppress(DamageError, OSError):  # whoever reads it will say so
                for name in names:
                    head, own = block_file.read_keys(room / name, namespace)
                    features.append(block_file.read_features(room / name, head))
                    keys.append(own)
                path = room / f"{uuid.uuid4().hex}{_SUFFIX}"
                block_file.write(path, namespace, np.concatenate(keys), np.concatenate(features))
                for name in names:
                    room.joinpath(name).unlink(missing_ok=True)


def resolved(folder: str | os.PathLike[str]) -> Path:
    """Return a folder's absolute path."""
    if not str(folder):
        raise ValueError("memory is an empty text; expected a folder, such as 'features', or None.")
    try:
        path = Path(folder).expanduser().resolve()
        is_file = path.exists() and not path.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"The folder {str(folder)[:80]!r} cannot be used to keep features in: {error}."
        ) from error
    if is_file:
        raise ValueError(f"{path} is a file; expected a folder to keep features in.")
    return path


def _files_in(room: Path, *suffixes: str) -> set[str]:
    """Return the names of files; none if there is no such folder."""
    with suppress(OSError), os.scandir(room) as entries:
        # Neither links, which lead elsewhere, nor pipes, which would block.
        return {
            entry.name
            for entry in entries
            if entry.name.endswith(suffixes) and entry.is_file(follow_symlinks=False)
        }
    return set()


def _touch(path: Path) -> None:
    """Note that a file was used, now and then, and only if that is possible."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > TOUCH_SECONDS:
            os.utime(path)


def _empty(room: Path) -> None:
    """Delete the files of a namespace, but not its lock, which another process may hold."""
    for name in _files_in(room, _SUFFIX, ".part", "witness"):
        with suppress(OSError):
            os.unlink(room / name)
