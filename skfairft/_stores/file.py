"""One SQLite file that many processes read and write, and what to do when it is damaged.

Tables
------
chunks : id, namespace, n, width, size, keys, head
    The keys of n rows (blob of n x 2 little-endian uint64), the width of their features and the
    bytes of each number (4 or 8). ``head`` is the checksum of all that.
payload : id, body, data
    The features, little-endian; ``body`` is the checksum of head and data. Apart from chunks, so
    that reading the keys does not read the features.
usage : id, namespace, n, bytes, used
    The order of last use (larger is later), and what adds up to the size. Its numbers are those of
    the other two, and never used again.
claims : id, owner, namespace, keys
    Rows that a living process computes at the moment.

No column holds text or pickles: damaged bytes then are wrong numbers, which checksums find.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

__all__ = ["FeatureFile", "is_damage"]

SCHEMA_VERSION = 1
"""Kept in the file's user_version; a file of another version is set aside."""

_SCHEMA = """
pragma page_size = 16384;
begin;
create table chunks (
    id integer primary key, namespace blob, n integer, width integer, size integer, keys blob,
    head blob
);
create table payload (id integer primary key, body blob, data blob);
create table usage (
    id integer primary key autoincrement, namespace blob, n integer, bytes integer, used integer
);
create index usage_used on usage (used, id);
create table claims (id integer primary key, owner blob, namespace blob, keys blob);
pragma user_version = {version};
commit;
"""

BUSY_SECONDS = 60.0
"""How long to wait for another process that writes."""

# Errors of the surroundings: the file may be as good as ever. All others are damage.
_SURROUNDINGS = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_AUTH,
}


def is_damage(error: BaseException) -> bool:
    """Tell a damaged file from a full disk, a read-only folder or a lock."""
    if isinstance(error, UnicodeDecodeError):
        return True  # SQLite quotes what it read in its message, which need not be text
    if not isinstance(error, sqlite3.Error):
        return False
    # Our own and Python's have no code: they come from wrong contents.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return (code & 0xFF) not in _SURROUNDINGS


class FeatureFile:
    """The file ``features.sqlite`` of a folder, opened when first needed.

    Parameters
    ----------
    folder : Path
        Created when first needed.

    Attributes
    ----------
    generation : int
        Counts the openings: what was read from an earlier one may be gone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "features.sqlite"
        self.generation = 0
        self._db: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        # Not per thread: the store's own lock lets in one thread at a time.
        self._lock = FileLock(folder / "features.lock", BUSY_SECONDS, thread_local=False)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from writing, and from replacing the file."""
        outermost = not self._lock.is_locked
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            # SQLite locks a file, not a path: two processes that both move a damaged file away
            # and begin a new one need a lock that stays. It also lets writers queue up.
            self._lock.acquire(poll_interval=0.005)
            yield
        finally:
            if outermost:
                self._lock.release(force=True)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold one state of the file."""
        db = self._connection()
        if db.in_transaction:
            yield db
            return
        with self._transaction(db, "begin"):
            yield db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Change the file: all that is done inside, or nothing if it fails or is interrupted."""
        with self.exclusive():
            db = self._connection()
            with self._transaction(db, "begin immediate"):
                yield db

    @contextmanager
    def _transaction(self, db: sqlite3.Connection, begin: str) -> Iterator[None]:
        try:
            db.execute(begin)
            yield
            db.execute("commit")
        finally:
            if db.in_transaction:
                try:
                    db.rollback()
                except sqlite3.Error:  # the next one to open the file rolls back
                    self.close()

    def settle(self) -> None:
        """End what an interrupt may have left unfinished: even clean-up can be interrupted."""
        if self._db is not None and self._db.in_transaction:
            self.close()
        if self._lock.is_locked:
            self._lock.release(force=True)

    def was_replaced(self) -> bool:
        """Whether another file lies where ours did, or none."""
        return self._db is not None and self._identity() != self._opened

    def set_aside(self, reason: str) -> str | None:
        """Move a damaged file away; return what happened, None if another process did it."""
        with self.exclusive():
            # The connection kept this file's number from being given to another one.
            same = self._identity() == self._opened
            self.close()
            if not same:
                return None
            for old in self.folder.glob("features.sqlite.damaged-*"):
                old.unlink(missing_ok=True)  # or a bad disk would fill up with copies
            aside = self.path.with_name(f"features.sqlite.damaged-{time.time_ns()}")
            with suppress(FileNotFoundError):
                try:
                    self.path.rename(aside)
                except PermissionError:
                    self.path.unlink()
            # Of the old file: applied to a new one it would damage that.
            self.path.with_name("features.sqlite-journal").unlink(missing_ok=True)
        return (
            f"{self.path} is damaged or not a feature store of this version ({reason}). It was "
            f"moved to {aside.name} and a new one begun; features are computed again."
        )

    def shrink(self) -> None:
        """Give the space of deleted features back, and remove what was set aside."""
        with self.exclusive():
            for old in self.folder.glob("features.sqlite.damaged-*"):
                old.unlink(missing_ok=True)
            self._connection().execute("vacuum")

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _connection(self) -> sqlite3.Connection:
        """Return the connection to the file that lies there now."""
        if self._db is not None and self._db.in_transaction:
            return self._db
        if self.was_replaced():
            self.close()
        if self._db is None:
            self._open()
        assert self._db is not None
        return self._db

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)  # os.access is False for what is not there
        if os.access(self.folder, os.W_OK):
            with self.exclusive():
                if not self.path.exists():
                    self._create()
                self._connect()
        else:
            self._connect()

    def _create(self) -> None:
        """Make an empty store, under another name until it is whole."""
        new = self.path.with_name("features.sqlite.new")
        # An orphaned journal would be applied to the new file.
        for rest in (new.name, f"{new.name}-journal", f"{self.path.name}-journal"):
            new.with_name(rest).unlink(missing_ok=True)
        db = sqlite3.connect(new, isolation_level=None)
        try:
            db.executescript(_SCHEMA.format(version=SCHEMA_VERSION))
        finally:
            db.close()
        new.replace(self.path)

    def _connect(self) -> None:
        self._opened = self._identity()
        self.generation += 1
        # mode=rw opens a write-protected file for reading, and never creates one.
        uri = f"{self.path.as_uri()}?mode=rw"
        db = self._db = sqlite3.connect(
            uri, BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True
        )
        # The rollback journal, not WAL: WAL needs memory shared between processes, which network
        # file systems do not have. Kept between transactions (persist), it need not be made each
        # time, which takes a third off a small one.
        for setting in (
            "journal_mode = persist",
            "journal_size_limit = 1048576",
            # Not to wait for the disk: a write that a power cut loses is computed again, and
            # one that it tears is found by its checksum. A killed process loses nothing.
            "synchronous = off",
            "mmap_size = 0",  # a truncated file must be an error, not a SIGBUS
            "cell_size_check = on",
            "trusted_schema = off",
            "secure_delete = off",
        ):
            db.execute(f"pragma {setting}").fetchall()
        (version,) = db.execute("pragma user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"its version is {version}, expected {SCHEMA_VERSION}")
