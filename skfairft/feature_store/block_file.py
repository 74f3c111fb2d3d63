"""A block of rows as one file: there whole or not at all, and damage is noticed.

Layout, little-endian: a header of 64 bytes (format, rows n, width d, bytes per number, a checksum
of these, the namespace and the keys, a checksum of that and the features), keys (n, 2) as uint64,
features (n, d) as float32 or float64.
"""

from __future__ import annotations

import os
import struct
import uuid
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from .base import Kind
from .key_index import Keys
from .plain_file import open_plain

__all__ = [
    "LARGEST_BYTES",
    "DamageError",
    "Head",
    "read_features",
    "read_head",
    "read_keys",
    "replace",
    "write",
]

LARGEST_BYTES = 2**26
"""Larger files are not written, and not read."""

_FORMAT = b"skfairft rows 1\n"
_HEADER = struct.Struct("<16sQII16s16s")


class DamageError(Exception):
    """A file is not what was written."""


class Head(NamedTuple):
    """What the header of a file says."""

    n: int
    width: int
    size: int
    keys_sum: bytes = b""
    sum: bytes = b""

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return _HEADER.size + self.n * (16 + self.width * self.size)

    @property
    def kind(self) -> Kind:
        """Width and bytes per number."""
        return self.width, self.size


def write(path: Path, namespace: bytes, keys: Keys, features: NDArray[Any]) -> None:
    """Write rows to a new file."""
    size = features.dtype.itemsize
    key_bytes = keys.astype("<u8", order="C", copy=False).tobytes()
    data = features.astype(f"<f{size}", order="C", copy=False)
    head = Head(len(features), features.shape[1], size)
    keys_sum = _sum_of_keys(head, namespace, key_bytes)
    header = _HEADER.pack(_FORMAT, *head[:3], keys_sum, _sum_of_all(keys_sum, data))
    replace(path, header + key_bytes, data)


def replace(path: Path, *parts: Any) -> None:
    """Write a file in place of an earlier one: others see one or the other, whole."""
    unfinished = path.with_name(f"{uuid.uuid4().hex}.part")
    try:
        with open(unfinished, "xb") as file:
            for part in parts:
                file.write(part)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def read_head(file: BufferedReader) -> Head:
    """Return the header of an open file, checked against its size."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_FORMAT):
        raise DamageError("it does not begin as such a file does")
    head = Head(*_HEADER.unpack(header)[1:])
    # Before room is made for what a header promises.
    plausible = head.size in (4, 8) and head.width and head.n
    if not plausible or head.bytes > LARGEST_BYTES or os.fstat(file.fileno()).st_size != head.bytes:
        raise DamageError("its size is not what its header says")
    return head


def read_keys(path: Path, namespace: bytes) -> tuple[Head, Keys]:
    """Return the header and keys of a file, or raise a DamageError."""
    with open_plain(path) as file:
        head = read_head(file)
        key_bytes = file.read(16 * head.n)
    if head.keys_sum != _sum_of_keys(head, namespace, key_bytes):
        raise DamageError("the checksum of its keys is another one")
    keys = np.frombuffer(key_bytes, dtype="<u8").astype(np.uint64, copy=False)
    return head, keys.reshape(-1, 2)


def read_features(path: Path, head: Head) -> NDArray[Any]:
    """Return the features (n, d) of a file whose header is known, or raise a DamageError."""
    features = np.empty((head.n, head.width), dtype=f"<f{head.size}")
    with open_plain(path) as file:
        file.seek(_HEADER.size + 16 * head.n)
        count = file.readinto(features.data.cast("B"))
    if count != features.nbytes or head.sum != _sum_of_all(head.keys_sum, features):
        raise DamageError("the checksum of its features is another one")
    if not np.isfinite(features).all():
        raise DamageError("it holds numbers that are not finite")
    return features.astype(features.dtype.newbyteorder("="), copy=False)


def _sum_of_keys(head: Head, namespace: bytes, key_bytes: bytes) -> bytes:
    return xxh3_128_digest(b"%d %d %d " % head[:3] + namespace + key_bytes)


def _sum_of_all(keys_sum: bytes, features: NDArray[Any]) -> bytes:
    return xxh3_128_digest(keys_sum + xxh3_128_digest(features.data.cast("B")))
