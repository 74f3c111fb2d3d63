"""Rows that a process computes at the moment, so that no other one does too."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from .key_index import KeyIndex, Keys, keys_of

__all__ = ["Claims"]

CLAIM_ROWS = 1024
"""Most keys in one record: what is written anew when some of them are released."""


class Claims:
    """The claims table, and which of the claimants live.

    Each claimant holds a lock on a file of its own as long as it lives: the
    system takes the lock back when the process ends, however it ends. Who gets
    the lock of another one knows that its claims are void.

    Parameters
    ----------
    folder : Path
        Where the lock files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own: bytes | None = None
        self._lock: FileLock | None = None

    @property
    def may_exist(self) -> bool:
        """Whether anything was claimed here."""
        return self._own is not None

    def take(self, db: sqlite3.Connection, namespace: bytes, keys: Keys) -> NDArray[np.bool_]:
        """Claim keys (n, 2); return the mask (n,) of those that no other process claims.

        To be called in a transaction that writes: others then make no claims.
        """
        own = self._enrol()
        free = self.of_others(db, namespace, forget=True).find(keys) < 0
        mine = KeyIndex()
        for _, claimed in self._rows(db, own, namespace):
            mine.add(claimed, np.zeros(len(claimed), dtype=np.int64))
        new = keys[free & (mine.find(keys) < 0)].astype("<u8")
        for start in range(0, len(new), CLAIM_ROWS):
            blob = new[start : start + CLAIM_ROWS].tobytes()
            db.execute(
                "insert into claims (owner, namespace, keys) values (?, ?, ?)",
                (own, namespace, blob),
            )
        return free

    def of_others(
        self, db: sqlite3.Connection, namespace: bytes, *, forget: bool = False
    ) -> KeyIndex:
        """Return the keys that other living processes claim; ``forget`` deletes dead claims."""
        taken = KeyIndex()
        query = "select distinct owner from claims where namespace = ?"
        for (owner,) in db.execute(query, (namespace,)).fetchall():
            if owner == self._own:
                continue
            # A name of another length is damage, and nobody's.
            whole = isinstance(owner, bytes) and len(owner) == 16
            if whole and self._is_alive(owner, forget=forget):
                for _, claimed in self._rows(db, owner, namespace):
                    taken.add(claimed, np.zeros(len(claimed), dtype=np.int64))
            elif forget:
                db.execute("delete from claims where owner is ?", (owner,))
        return taken

    def release(self, db: sqlite3.Connection, namespace: bytes, keys: Keys | None) -> None:
        """Give up own claims on keys (n, 2), on all of a namespace for None."""
        if self._own is None:
            return
        released = KeyIndex()
        if keys is not None:
            released.add(keys, np.zeros(len(keys), dtype=np.int64))
        for number, claimed in self._rows(db, self._own, namespace):
            left = claimed[:0] if keys is None else claimed[released.find(claimed) < 0]
            if not len(left):
                db.execute("delete from claims where id = ?", (number,))
            elif len(left) < len(claimed):
                blob = left.astype("<u8").tobytes()
                db.execute("update claims set keys = ? where id = ?", (blob, number))

    def void(self) -> None:
        """Give up all own claims, without touching the file."""
        self._own, lock, self._lock = None, self._lock, None
        if lock is not None:
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release(force=True)

    def _rows(
        self, db: sqlite3.Connection, owner: bytes, namespace: bytes
    ) -> list[tuple[int, Keys]]:
        query = "select id, keys from claims where owner = ? and namespace = ?"
        rows = db.execute(query, (owner, namespace)).fetchall()
        both = [(number, keys_of(blob)) for number, blob in rows]
        return [(number, keys) for number, keys in both if keys is not None]

    def _enrol(self) -> bytes:
        if self._own is None:
            self.folder.mkdir(exist_ok=True)
            for file in self.folder.glob("*.lock"):
                with suppress(ValueError):
                    self._is_alive(bytes.fromhex(file.stem), forget=True)
            own = uuid.uuid4().bytes
            lock = FileLock(self._path(own), 0, thread_local=False)
            lock.acquire()
            self._lock, self._own = lock, own
        return self._own

    def _is_alive(self, owner: bytes, *, forget: bool = False) -> bool:
        """Whether another process of this name runs; ``forget`` removes the file of a dead one."""
        path = self._path(owner)
        if not path.exists():
            return False
        try:
            with FileLock(path, 0, thread_local=False):
                if forget:
                    path.unlink(missing_ok=True)
        except Timeout:
            return True
        except OSError:  # whether it runs cannot be told: do not wait for it
            return False
        return False

    def _path(self, owner: bytes) -> Path:
        return self.folder / f"{owner.hex()}.lock"
