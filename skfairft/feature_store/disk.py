"""The features of rows in a folder, shared by processes, bounded, and safe against damage."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from ..inputs.exceptions import FeatureStoreWarning
from ..inputs.warn import warn_user
from . import block_file
from .base import BaseStore, Found, Kind, StoreInfo, gather, portions
from .block_file import DamageError, Head
from .key_index import KeyIndex, Keys
from .plain_file import (
    MOST_FILES,
    PART,
    ROWS,
    WITNESS,
    empty,
    files_in,
    is_there,
    make_folder,
    make_room,
    open_plain,
    room_of,
    rooms_in,
    touch,
)
from .waiting import Waiting
from .witness import LARGEST_BYTES

__all__ = ["DiskStore", "resolved"]

SMALL_BYTES, SMALL_FILES, MOST_JOINED = 2**16, 32, 512
"""So many files of less than this size are joined into one, and how many at most."""

_warn = partial(warn_user, category=FeatureStoreWarning)


class _Known:
    """What a process knows of the files of one namespace."""

    def __init__(self) -> None:
        self.index = KeyIndex()
        self.numbers: dict[str, int] = {}  # of the blocks, by the names of their files
        self.blocks: dict[int, tuple[str, Head]] = {}
        self.bad: set[str] = set()  # damaged, warned of, and not to be deleted

    def add(self, name: str, head: Head, keys: Keys) -> None:
        number = self.index.next
        self.blocks[number] = name, head
        self.index.add(keys)
        self.numbers[name] = number  # last: after an interrupt it is added once more

    def drop(self, name: str, number: int | None = None) -> None:
        number = self.numbers.pop(name, number)
        if number is not None:
            self.index.drop(number)
            self.blocks.pop(number, None)


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
        Made when first needed, for its owner alone. Who may write to it decides what the
        features are.
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
        self._waiting = Waiting()
        self._stopped = False

    def __repr__(self) -> str:
        return f"DiskStore({str(self.folder)!r}, max_bytes={self.max_bytes})"

    def __reduce__(self) -> Any:
        return DiskStore, (self.folder, self.max_bytes)

    def make(self) -> None:
        """Make the folder if it is not there; where it cannot be made, it is used without."""
        with suppress(OSError):
            make_folder(self.folder)

    def info(self) -> StoreInfo:
        """Return what the folder holds, and the hits and misses of this object.

        Returns
        -------
        StoreInfo
            Rows, bytes, the bound on bytes, hits, misses, and the folder.
        """
        rows = size = 0
        for path, status in self._files():
            with suppress(DamageError, OSError), open_plain(path) as file:
                rows += block_file.read_head(file).n
                size += status.st_size
        folder = str(self.folder)
        return StoreInfo(rows, size, self.max_bytes, self._hits, self._misses, folder)

    def _forget_all(self) -> None:
        if not self.folder.is_dir():
            _warn(
                f"There is no folder {self.folder}: nothing is cleared. Of a fitted classifier the "
                "features are in that of feature_extractor_.store."
            )
        for room in rooms_in(self.folder):
            empty(room)
        self._known.clear()

    def forget(self, namespace: bytes) -> None:
        """Forget the rows and the witness of a namespace."""
        with self._lock:
            empty(room_of(self.folder, namespace))
            self._known.pop(namespace, None)

    def witness(self, namespace: bytes) -> bytes | None:
        """Return what `put_witness` kept for a namespace, None if there is nothing."""
        room = room_of(self.folder, namespace)
        if not is_there(room):
            return None
        with suppress(OSError), open_plain(room / WITNESS) as file:
            known = 16 <= os.fstat(file.fileno()).st_size <= 16 + LARGEST_BYTES
            digest, content = (file.read(16), file.read(LARGEST_BYTES)) if known else (b"", b"")
            if xxh3_128_digest(content) == digest:
                return content
            (room / WITNESS).unlink()
            _warn(f"A file in {room} was damaged: all its rows run again.")
        return None

    def put_witness(self, namespace: bytes, content: bytes) -> None:
        """Keep some bytes with a namespace, in place of earlier ones."""
        with self._writing():
            path = make_room(self.folder, namespace) / WITNESS
            block_file.replace(path, xxh3_128_digest(content), content)

    @contextmanager
    def working(self, namespace: bytes) -> Iterator[None]:
        """Return a context in which no other process computes rows of the namespace.

        Who comes later waits: for one that does not get on with a `FeatureStoreWarning` after
        ten seconds, for five minutes in all, and for one that is stopped, as far as this can
        be known, not at all. Rows may then be computed twice. After that it does not wait
        again until the other one gets on.
        """
        lock = FileLock(room_of(self.folder, namespace) / "lock", thread_local=False)
        try:
            # A folder that is read only, or that has no locks, is used without.
            with suppress(OSError, NotImplementedError):
                if not self._stopped:
                    make_room(self.folder, namespace)
                    self._waiting.acquire(lock)
            yield
        finally:
            lock.release()
            self._waiting.leave(lock)

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        """Return all files of rows, and what killed writers left."""
        found = []
        for room in rooms_in(self.folder):
            for name in files_in(room, ROWS, PART):
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
        room = room_of(self.folder, namespace)
        names = files_in(room, ROWS)
        for name in known.numbers.keys() - names:
            known.drop(name)
        known.bad &= names
        damaged = {}
        for name in names - known.numbers.keys() - known.bad:
            try:
                known.add(name, *block_file.read_keys(room / name, namespace))
            except DamageError as error:
                damaged[name] = error
            except OSError:
                continue  # removed just now, or not to be opened now
        self._discard(known, room, damaged)
        if len(names) == MOST_FILES:
            _warn(
                f"There are more than {MOST_FILES} files in {room}; the others are not looked at. "
                "Delete those that you do not know, or clear the store."
            )
        return known

    def _discard(self, known: _Known, room: Path, damaged: dict[str, DamageError]) -> None:
        """Delete damaged files and say so."""
        for name in damaged:
            known.bad.add(name)
            known.drop(name)
            with suppress(OSError):
                os.unlink(room / name)
        for name, error in list(damaged.items())[:1]:
            others = f", and so were {len(damaged) - 1} others there" if len(damaged) > 1 else ""
            _warn(
                f"{room / name} was damaged: {error}{others}. What is damaged is dropped, and its "
                "features are computed again."
            )

    def _find(self, namespace: bytes, keys: Keys) -> Found:
        room, known = room_of(self.folder, namespace), self._refresh(namespace)
        gone, damaged = False, {}

        def read(number: int) -> NDArray[Any] | None:
            nonlocal gone
            name, head = known.blocks[number]
            try:
                features = block_file.read_features(room / name, head)
            except DamageError as error:
                damaged[name] = error
                return None
            except OSError:  # joined with others, evicted, or not to be opened now
                gone = True
                known.drop(name, number)
                return None
            touch(room / name)
            return features

        def kind(number: int) -> Kind:
            return known.blocks[number][1].kind

        found, features = gather(known.index, keys, kind, read)
        if gone:
            known = self._refresh(namespace)
            found, features = gather(known.index, keys, kind, read)
        self._discard(known, room, damaged)
        return found, features

    def _store(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        if self._stopped:
            return
        with self._writing():
            make_room(self.folder, namespace)
            known = self._refresh(namespace)
            for rows in portions(known.index, keys, features, self.max_bytes * 15 // 16):  # headers
                self._write(namespace, keys[rows], features[rows])
            self._join_small(namespace, self._refresh(namespace))

    def _write(self, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
        """Write a block, after the least recently used files made room for it."""
        room, files = room_of(self.folder, namespace), self._files()
        size = Head(len(features), features.shape[1], features.dtype.itemsize).bytes
        size += sum(status.st_size for _, status in files)
        # Those first that are larger than any that is written here.
        for path, status in sorted(
            files, key=lambda each: (each[1].st_size <= block_file.LARGEST_BYTES, each[1].st_mtime)
        ):
            if size <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            size -= status.st_size
            if path.parent != room and not files_in(path.parent, ROWS):
                (path.parent / WITNESS).unlink(missing_ok=True)
        block_file.write(room / f"{uuid.uuid4().hex}{ROWS}", namespace, keys, features)

    def _join_small(self, namespace: bytes, known: _Known) -> None:
        """Make one file of many small ones, such as single predictions leave."""
        room = room_of(self.folder, namespace)
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
                names = names[:MOST_JOINED]
                for name in names:
                    head, own = block_file.read_keys(room / name, namespace)
                    features.append(block_file.read_features(room / name, head))
                    keys.append(own)
                path = room / f"{uuid.uuid4().hex}{ROWS}"
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
