"""The files of a folder that others may write to: only those that the store itself would write.

Whoever writes to the folder decides what is read from it. What is read may be damaged or made up,
but it leads nowhere else, it does not block, and it is not larger than what is written here.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

__all__ = [
    "MOST_FILES",
    "PART",
    "ROWS",
    "WITNESS",
    "empty",
    "files_in",
    "is_there",
    "make_folder",
    "make_room",
    "open_plain",
    "room_of",
    "rooms_in",
    "touch",
]

TOUCH_SECONDS = 10.0
"""That a file was used is noted at most this often."""

MOST_FILES = 2**18
"""So many files of a module are looked at: 512 GiB of full ones, as small ones are joined."""

ROWS, PART, WITNESS = ".rows", ".part", "witness"

# No other name is ever read or deleted, whatever folder a user gives.
_ROOM = re.compile(r"module-[0-9a-f]+")
_FILE = re.compile(r"[0-9a-f]+\.(rows|part)|witness")

# Neither links, which lead elsewhere, nor pipes, which would block.
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextmanager
def open_plain(path: Path) -> Iterator[BufferedReader]:
    """Open a file to read; an OSError for whatever is no plain file."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _PLAIN)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "no plain file", str(path))
        yield file


def room_of(folder: Path, namespace: bytes) -> Path:
    """Return the folder of a module."""
    return folder / f"module-{namespace.hex()}"


def is_there(room: Path) -> bool:
    """Tell whether the folder of a module is one, and no link to another place."""
    with suppress(OSError):
        return stat.S_ISDIR(room.lstat().st_mode)
    return False


def make_folder(folder: Path) -> None:
    """Make the folder of a store if it is not there, or raise an OSError.

    Features are personal data: a folder that is made here is its owner's alone. One that was
    there, such as that of a team, stays as it is, and what is made in it follows the umask.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def make_room(folder: Path, namespace: bytes) -> Path:
    """Return the folder of a module, made if it was not there, or raise an OSError."""
    room = room_of(folder, namespace)
    make_folder(folder)
    room.mkdir(exist_ok=True)
    if not is_there(room):
        raise OSError(errno.ENOTDIR, "a link, where a folder was expected", str(room))
    return room


def rooms_in(folder: Path) -> list[Path]:
    """Return the folders of all modules."""
    with suppress(OSError), os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if _ROOM.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        ]
    return []


def files_in(room: Path, *suffixes: str) -> set[str]:
    """Return the names of up to `MOST_FILES` files; none if there is no such folder."""
    found: set[str] = set()
    if not is_there(room):
        return found
    with suppress(OSError), os.scandir(room) as entries:
        for entry in entries:
            ours = entry.name.endswith(suffixes) and _FILE.fullmatch(entry.name)
            if ours and entry.is_file(follow_symlinks=False):
                found.add(entry.name)
            if len(found) == MOST_FILES:
                break
    return found


def empty(room: Path) -> None:
    """Delete the files of a module, but not its lock, which another process may hold."""
    while names := files_in(room, ROWS, PART, WITNESS):
        for name in names:
            with suppress(OSError):
                os.unlink(room / name)
        if len(names) < MOST_FILES:
            break


def touch(path: Path) -> None:
    """Note that a file was used, now and then, and only if that is possible."""
    with suppress(OSError):
        if time.time() - path.lstat().st_mtime > TOUCH_SECONDS:
            os.utime(path)
