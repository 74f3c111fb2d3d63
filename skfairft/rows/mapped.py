"""Features that may be larger than memory: where they lie, and how they are read in blocks."""

from __future__ import annotations

import errno
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

__all__ = [
    "LocalFeatures",
    "MappedFeatures",
    "allocate_features",
    "as_features",
    "block_rows",
    "block_slices",
    "double_block",
    "double_blocks",
    "is_mapped",
    "release_pages",
]

# A block of features: 8 MiB in float64. Smaller ones stay in a core's own cache, but then the
# calls per block cost what that saves. It must not depend on the memory at hand or on where the
# features lie: the sums over blocks, and with them the result, would.
_BLOCK_ELEMENTS = 2**20
# Bounds the outputs of a block where features are few and outputs are many.
_BLOCK_ROWS = 2**14

# Mapped pages that may be resident before they are released.
_RESIDENT_BYTES = 2**23
# What an access to a row may bring in: Linux maps the whole of a large page that is cached.
_FAULT_BYTES = 2**21


def block_rows(n_features: int) -> int:
    """Return the number of rows in a block of so many features.

    Examples
    --------
    >>> block_rows(8), block_rows(512), block_rows(10**9)
    (16384, 2048, 1)
    """
    return min(max(1, _BLOCK_ELEMENTS // max(1, n_features)), _BLOCK_ROWS)


def allocate_features(
    shape: tuple[int, int], dtype: DTypeLike, *, limit: int | None, folder: str | Path | None = None
) -> NDArray[Any]:
    """Return room for features (n, d): memory up to a limit of bytes, beyond it a temporary file.

    A limit of None takes as much memory as it takes. The file is in the folder, by default the
    system's for temporary files; it has no name there and is gone when the array is. If the folder
    has no room, that is an OSError, before anything is computed.

    Examples
    --------
    >>> type(allocate_features((10, 4), "float32", limit=160)).__name__
    'ndarray'
    >>> type(allocate_features((10, 4), "float32", limit=159)).__name__
    'memmap'
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if limit is None or size <= limit:
        return np.empty(shape, dtype)
    folder = tempfile.gettempdir() if folder is None else folder
    try:
        # The mapping keeps the file, which has no name, until the array is gone.
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file, size, folder)
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{shape[0]:,} rows of {shape[1]:,} features need {size / 2**30:.2f} GiB, more than "
            f"the limit of {limit / 2**30:.2f} GiB for memory, and the folder {folder} cannot take "
            f"them ({error.strerror}). Free disk space, or set the environment variable TMPDIR to "
            "a folder that has it",
        ) from error


def _reserve(file: IO[bytes], size: int, folder: str | Path) -> None:
    """Take the disk space now: a write to a mapping that finds the disk full is a crash."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            # Some file systems cannot reserve: there it is enough to look.
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
        else:
            return
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_mapped(array: Any) -> bool:
    """Tell whether an array lies in a mapped file."""
    return isinstance(array, np.memmap) and getattr(array, "_mmap", None) is not None


def release_pages(array: Any) -> None:
    """Let the pages of a mapped array leave memory; what is in them stays in the file.

    Nothing happens to an array in memory.

    Examples
    --------
    >>> array = allocate_features((2, 1), "float32", limit=0)
    >>> array[:] = 7.0
    >>> release_pages(array)
    >>> array.ravel().tolist()
    [7.0, 7.0]
    """
    # Of a private mapping (mode "c") the pages are the only place where changes are kept.
    shared = is_mapped(array) and array.mode in ("r", "r+", "w+")
    if shared and hasattr(mmap, "MADV_DONTNEED"):
        array._mmap.madvise(mmap.MADV_DONTNEED)


class MappedFeatures:
    """Features in a mapped file (n, d), or another array, read as tensors of some rows at a time.

    ``index`` (m,) says which rows of the file are the rows of these features; None is all of them.

    Examples
    --------
    >>> array = allocate_features((3, 2), "float32", limit=0)
    >>> array[:] = [[0, 1], [2, 3], [4, 5]]
    >>> Z = MappedFeatures(array)
    >>> Z.shape, Z[1:].tolist()
    ((3, 2), [[2.0, 3.0], [4.0, 5.0]])
    >>> Z.take(np.array([2, 0]))[:1].tolist()
    [[4.0, 5.0]]
    """

    def __init__(self, array: NDArray[Any], index: NDArray[np.int64] | None = None) -> None:
        self._array = array
        self._rows = array.view(np.ndarray)  # without the cost of memmap's own indexing
        self._index = index
        self._resident = 0

    def __len__(self) -> int:
        return len(self._rows) if self._index is None else len(self._index)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features, (n, d)."""
        return len(self), self._rows.shape[1]

    def __getitem__(self, rows: Any) -> Tensor:
        """Return a copy of some rows, by a slice or by their numbers, as a tensor (m, d)."""
        rows = self._chosen(rows)
        n_rows = len(self._rows[rows]) if isinstance(rows, slice) else len(rows)
        block = np.empty((n_rows, self.shape[1]), self._rows.dtype.newbyteorder("="))
        return self._read(rows, torch.from_numpy(block))

    def read(self, rows: Any, out: Tensor) -> Tensor:
        """Copy some rows to a tensor (m, d) and return it."""
        return self._read(self._chosen(rows), out)

    def _read(self, chosen: Any, out: Tensor) -> Tensor:
        """Copy rows of the array."""
        block = out.numpy()
        size = self._rows.dtype.itemsize * self.shape[1]
        if isinstance(chosen, slice):
            block[:] = self._rows[chosen]
            self._count(len(block) * size)
            return out
        if is_mapped(self._array):
            # Each row may lie on pages of its own, so that a few rows already are many pages.
            size = max(size, _FAULT_BYTES)
        step = max(1, _RESIDENT_BYTES // size)
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            block[start : start + step] = self._rows[part]
            self._count(len(part) * size)
        return out

    def _count(self, size: int) -> None:
        """Count bytes of pages that were brought in, and release them when they are many."""
        self._resident += size
        if self._resident >= _RESIDENT_BYTES:
            release_pages(self._array)
            self._resident = 0

    def take(self, rows: Any) -> MappedFeatures:
        """Return some rows, by a slice or by their numbers, without reading them."""
        chosen = self._chosen(rows)
        if isinstance(chosen, slice):
            return MappedFeatures(self._array[chosen])
        return MappedFeatures(self._array, chosen)

    def _chosen(self, rows: Any) -> Any:
        """Return the rows of the array that rows of these features are."""
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        return rows if self._index is None else self._index[rows]


# (n, d), in memory or in a mapped file.
LocalFeatures = Tensor | MappedFeatures


def as_features(array: NDArray[Any]) -> LocalFeatures:
    """Return an array as a tensor that shares its memory where it can, or as mapped features."""
    if is_mapped(array):
        return MappedFeatures(array)
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def double_blocks(Z: LocalFeatures) -> Iterator[tuple[slice, Tensor]]:
    """Yield all rows in order, as slices and the blocks (m, d) in float64.

    A block is not to be written to, and only valid until the next one: they may share memory.

    Examples
    --------
    >>> [(rows.start, block.dtype) for rows, block in double_blocks(torch.ones(3, 2**20))]
    [(0, torch.float64), (1, torch.float64), (2, torch.float64)]
    """
    room = None
    for rows in block_slices(Z):
        block, room = double_block(Z, rows, room)
        yield rows, block


def block_slices(Z: LocalFeatures) -> list[slice]:
    """Return the rows of each block."""
    step = block_rows(Z.shape[1])
    return [slice(start, min(start + step, len(Z))) for start in range(0, len(Z), step)]


def double_block(
    Z: LocalFeatures, rows: slice, room: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the rows of a block in float64, and the room they lie in, to be used again.

    It is what an earlier call returned for features of the same shape: new rooms would
    leave gaps in the heap, many times their size.
    """
    if isinstance(Z, Tensor) and Z.dtype == torch.float64:
        return Z[rows], None
    if room is None:
        size = min(block_rows(Z.shape[1]), len(Z))
        device = Z.device if isinstance(Z, Tensor) else None
        room = torch.empty(size, Z.shape[1], dtype=torch.float64, device=device)
    block = room[: rows.stop - rows.start]
    if isinstance(Z, MappedFeatures):
        return Z.read(rows, block), room
    return block.copy_(Z[rows]), room
