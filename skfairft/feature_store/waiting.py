"""Waiting for another process that works on the same rows: not for good, and not in silence."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from ..inputs.exceptions import FeatureStoreWarning
from ..inputs.warn import warn_user
from .plain_file import ROWS, WITNESS, files_in

__all__ = ["Waiting"]

PATIENCE_SECONDS, NOTICE_SECONDS, GLANCE_SECONDS = 300.0, 10.0, 1.0
"""How long to wait for a process that stores no rows, when to say so, and how often to look."""

_warn = partial(warn_user, category=FeatureStoreWarning)


class _Seen(NamedTuple):
    """Who holds a lock, as far as that is known, and what is stored: its progress."""

    holder: int | None
    names: set[str]


class Waiting:
    """The waits of one store for the locks of its modules."""

    def __init__(self) -> None:
        # Of locks that are not waited for any more, until something else is seen.
        self._given_up: dict[Path, _Seen] = {}

    def acquire(self, lock: FileLock) -> None:
        """Acquire a lock, or give up, with a warning, if its holder does not get on."""
        path = Path(lock.lock_file)
        before = self._given_up.pop(path, None)
        seconds = GLANCE_SECONDS if before is None else 0.0
        seen, ticks, said = before, None, False
        stored = active = time.monotonic()
        while True:
            with suppress(Timeout):
                lock.acquire(timeout=seconds, poll_interval=0.02)
                return
            seconds, now, found = GLANCE_SECONDS, time.monotonic(), _look(path)
            if found == before:
                self._given_up[path] = found
                return
            if found != seen:
                seen, stored, active, before = found, now, now, None
            last, ticks = ticks, _ticks(found.holder)
            if last != ticks:
                active = now
            # Twice, for who looks into a process from outside stops it for a moment, too.
            if last == ticks == _STOPPED:
                why = "is stopped (Ctrl-Z, say, or a debugger): continue or end it"
            elif now - stored > PATIENCE_SECONDS:
                why = f"has stored none for {now - stored:.0f} seconds; it may have been stopped"
            else:
                if now - active > NOTICE_SECONDS and not said:
                    said = True
                    until = time.localtime(time.time() + PATIENCE_SECONDS - (now - stored))
                    _warn(
                        f"{_name(path, found)} and has stored none for {now - stored:.0f} seconds. "
                        f"This one waits until {time.strftime('%H:%M:%S', until)}, and then goes "
                        "on by itself. It goes on at once if the other one ends."
                    )
                continue
            _warn(
                f"{_name(path, found)} and {why}. This one does not wait any longer, nor the next "
                "time, until that one gets on: some rows may be computed twice."
            )
            self._given_up[path] = found
            return

    def leave(self, lock: FileLock) -> None:
        """Take what was stored without a lock for no progress of its holder."""
        path = Path(lock.lock_file)
        given_up = self._given_up.pop(path, None)
        if given_up is not None and (now := _look(path)).holder == given_up.holder:
            self._given_up[path] = now


def _look(lock: Path) -> _Seen:
    return _Seen(_holder(lock), files_in(lock.parent, ROWS, WITNESS))


def _name(lock: Path, seen: _Seen) -> str:
    who = f"Another process{f' ({seen.holder})' if seen.holder else ''}"
    if seen.holder == os.getpid():
        who = "Another thread of this process"
    return f"{who} works on the same rows in {lock.parent.parent}"


def _holder(lock: Path) -> int | None:
    """Return the number of the process that holds a lock, if it is one of this Linux machine."""
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/locks").read_text().splitlines()
        status = lock.lstat()
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        for words in map(str.split, lines):
            if words[1] == "FLOCK" and words[5] == f"{device}:{status.st_ino}":
                return max(0, int(words[4])) or None  # 0 or -1 is in another container
    return None


_STOPPED = -1


def _ticks(process: int | None) -> int | None:
    """Return how long a process has computed, `_STOPPED` if it is stopped, None if unknown."""
    with suppress(OSError, ValueError, IndexError):
        words = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return _STOPPED if words[0] in "Tt" else int(words[11]) + int(words[12])
    return None
