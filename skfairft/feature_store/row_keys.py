"""128-bit keys of rows by their content, for a store that remembers the features of rows.

A key depends on a row alone: its values, dtype and shape, never its position or neighbours. A row
that cannot be known by its content has the key 0, which stands for none: a wrong key would give
the features of another row.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import hashlib
import marshal
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_128, xxh3_128_digest

from .digest import UnknownContentError, array_node, node, tensor_node
from .key_index import Keys

__all__ = ["row_keys"]

CHUNK_BYTES = 2**19
"""Bytes of narrow rows hashed at a time: within the cache, and little memory besides."""
COPY_BYTES = 2**24
"""Bytes of rows copied at a time when they are not contiguous or not in main memory."""
NARROW = 256
"""Bytes up to which making ``bytes`` of rows is faster than making one view of each."""
LONGEST_PATH = 4096
"""Bytes of a text beyond which it is no path (PATH_MAX on Linux)."""


def row_keys(rows: Any, *, reads_files: bool | None = None) -> Keys:
    """Return a content hash of each of n rows, (n, 2); zeros where the content is not known.

    Rows are an array, a tensor, a DataFrame, a Series, a list or a tuple: of numbers; or of texts,
    paths, images, arrays, tensors, and dicts, lists and tuples of them. A text or path that names
    a file stands for the path and for the bytes in the file. Not known are objects of another
    kind, folders, and names of files that are not there: a function may look for them elsewhere.

    ``reads_files`` says whether texts are names of files; None takes those for names that are the
    name of a file or folder, or look like one.

    Values, dtype and shape of a row count, for a DataFrame also the column names and
    the label in the index. Arrays and tensors differ, for a module may get them as
    different types. A list and an array of the same texts agree.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.arange(12.0).reshape(4, 3)
    >>> keys = row_keys(X)
    >>> keys.shape
    (4, 2)
    >>> bool((row_keys(X[::-2]) == keys[::-2]).all())
    True
    >>> row_keys(["a text", object()]).any(axis=1)
    array([ True, False])
    """
    try:
        return _keys(rows, _Items(reads_files))
    except UnknownContentError:
        n_rows = rows.shape[0] if hasattr(rows, "shape") else len(rows)
        return np.zeros((n_rows, 2), dtype=np.uint64)


def _keys(rows: Any, items: _Items) -> Keys:
    if isinstance(rows, Tensor):
        return _tensor_keys(rows)
    if _is_pandas(rows, "DataFrame"):
        columns = [rows.iloc[:, i] for i in range(rows.shape[1])]
        return _table_keys(b"DataFrame", [*columns, rows.index.to_series()], items)
    if _is_pandas(rows, "Series"):
        return _table_keys(b"Series", [rows, rows.index.to_series()], items)
    if isinstance(rows, np.ndarray) and not isinstance(rows, np.ma.MaskedArray) and rows.ndim:
        if rows.dtype.kind in "UT" or rows.dtype.hasobject:
            return _item_keys(_objects(rows), items)
        tag = node(b"array", f"{rows.dtype.descr}{rows.dtype.name}{rows.shape[1:]}".encode())
        return _number_keys(lambda part: rows[part], len(rows), _row_bytes(rows), tag)
    if isinstance(rows, (list, tuple, range)):
        return _item_keys(rows, items)
    if type(rows).__module__.partition(".")[0] == "polars" and hasattr(rows, "to_list"):
        return _item_keys(rows.to_list(), items)
    raise UnknownContentError


def _objects(rows: np.ndarray[Any, Any]) -> Sequence[Any]:
    """Return the rows of an array of texts or objects; rows of one text as that text."""
    if rows.dtype.kind == "V":
        raise UnknownContentError  # records of objects
    return rows.tolist() if rows.ndim == 1 else [*rows]


def _row_bytes(rows: Any) -> int:
    return int(np.prod(rows.shape[1:], dtype=np.int64)) * int(rows.itemsize)


def _tensor_keys(rows: Tensor) -> Keys:
    if rows.ndim == 0 or not _has_values(rows):
        raise UnknownContentError
    rows = rows.detach()
    tag = node(b"tensor", f"{rows.dtype}{tuple(rows.shape[1:])}".encode())

    def part(wanted: slice) -> np.ndarray[Any, Any]:
        chunk = rows[wanted].cpu().resolve_conj().resolve_neg().contiguous()
        # As bytes, for NumPy has no bfloat16.
        return chunk.reshape(len(chunk), -1, 1).view(torch.uint8).numpy()

    return _number_keys(part, len(rows), _row_bytes(rows), tag)


def _has_values(tensor: Tensor) -> bool:
    strided = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta
    return strided and type(tensor) in (Tensor, torch.nn.Parameter)


def _number_keys(
    part: Callable[[slice], np.ndarray[Any, Any]], n_rows: int, row_bytes: int, tag: bytes
) -> Keys:
    """Return the keys of rows of fixed size, given as slices that are arrays of numbers."""
    keys = np.zeros((n_rows, 2), dtype=np.uint64)
    narrow = row_bytes <= NARROW
    # The bytes object that a narrow row becomes, and its digest, take about 100 bytes more.
    step = max(1, CHUNK_BYTES // (row_bytes + 100) if narrow else COPY_BYTES // row_bytes)
    for start in range(0, n_rows if row_bytes else 0, step):
        wanted = slice(start, start + step)
        chunk = np.ascontiguousarray(part(wanted)).reshape(-1)
        if narrow:
            values: Iterable[Any] = chunk.view(f"V{row_bytes}").tolist()
        else:
            values = chunk.view(np.uint8).reshape(-1, row_bytes)
        keys[wanted] = _join(map(xxh3_128_digest, values))
    keys ^= np.frombuffer(tag, dtype=np.uint64)
    return keys


def _join(digests: Iterable[bytes]) -> Keys:
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


def _item_keys(rows: Sequence[Any], items: _Items) -> Keys:
    def key(row: Any) -> bytes:
        try:
            return items.node(row)
        except UnknownContentError:
            return _NONE

    return _join(map(key, rows))


def _table_keys(kind: bytes, columns: Sequence[Any], items: _Items) -> Keys:
    """Return the keys of the rows of a table: the bytes of numbers, the keys of other values."""
    n_rows = len(columns[0])
    blocks = []
    header = []
    known = np.ones(n_rows, dtype=bool)
    for column in columns:
        dtype = column.dtype
        header.append(node(b"column", repr((column.name, str(dtype))).encode()))
        if isinstance(dtype, np.dtype) and dtype.kind in "biufcmM":
            blocks.append(column.to_numpy())
        elif hasattr(dtype, "categories"):
            # Codes and categories are the value; all categories count, for encoders look at them.
            categories = _item_keys(dtype.categories.tolist(), items)
            header.append(node(b"%d" % dtype.ordered, categories.tobytes()))
            blocks.append(column.cat.codes.to_numpy())
        else:
            blocks.append(_item_keys(column.tolist(), items))
            known &= blocks[-1].any(axis=1)
    layout = [(f"f{i}", block.dtype, block.shape[1:]) for i, block in enumerate(blocks)]
    record = np.dtype(layout)

    def part(wanted: slice) -> np.ndarray[Any, Any]:
        chunk = np.empty(len(range(n_rows)[wanted]), dtype=record)
        for (name, *_), block in zip(layout, blocks, strict=True):
            chunk[name] = block[wanted]
        return chunk

    return _number_keys(part, n_rows, record.itemsize, node(kind, b"", header)) * known[:, None]


def _is_pandas(value: Any, name: str) -> bool:
    # By name, so that arrays need no import of pandas.
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == "pandas"
        for base in type(value).__mro__
    )


_NONE = bytes(16)
# One word with an ending or with folders, or words with the ending of a file of data: what a text
# hardly is, and a row may well be.
_LIKE_A_PATH = re.compile(
    r"(?=[^\s]{1,4096}$)(.*\.(?=\d*[A-Za-z])[A-Za-z0-9]{1,12}|.*[/\\].*[^/\\])"
    r"|[^\n]{1,4096}\.(?i:jpe?g|png|gif|bmp|tiff?|webp|heic|dcm|nii|svs|npy|npz|pt|pth|safetensors"
    r"|h5|hdf5|parquet|feather|arrow|csv|tsv|jsonl?|xml|txt|pdf|wav|mp3|flac|ogg|m4a|mp4|avi|mov|mkv"
    r"|gz|bz2|xz|zip|7z|tar|pkl|pickle|mat)"
)
_SCALARS = {type(None), type(...), bool, int, float, complex}
# Their repr is their whole value.
_BY_REPR = {
    datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone,
    decimal.Decimal, fractions.Fraction, uuid.UUID, range,
}  # fmt: skip
_PANDAS = {"NAType", "NaTType", "Timestamp", "Timedelta", "Period", "Interval"}


class _Items:
    """Digests of single rows of any type; each text and file is looked at once."""

    def __init__(self, reads_files: bool | None) -> None:
        self._reads_files = reads_files
        self._texts: dict[str, bytes] = {}

    def node(self, item: Any) -> bytes:
        kind = type(item)
        if kind is str or kind is np.str_:
            return self._text(str(item))
        if kind in _SCALARS:
            return node(b"scalar", marshal.dumps(item, 0))
        if isinstance(item, (np.ndarray, np.generic)):
            return self._array(item)
        if isinstance(item, Tensor):
            if not _has_values(item):
                raise UnknownContentError
            return tensor_node(item)
        if kind in (list, tuple):
            return node(kind.__name__.encode(), b"", map(self.node, item))
        if kind is dict:
            return node(b"dict", b"", [self.node(each) for pair in item.items() for each in pair])
        if kind in (set, frozenset):
            return node(kind.__name__.encode(), b"", sorted(map(self.node, item)))
        if kind in _BY_REPR:
            return node(b"repr", repr(item).encode())
        if kind is bytes:
            # As a path, too: os.fsdecode gives the name that the system would look for.
            return node(b"bytes", item, [self._text(os.fsdecode(item))] if _is_short(item) else [])
        if isinstance(item, PurePath):
            return node(b"path", b"", [self._text(str(item))])
        module = kind.__module__.partition(".")[0]
        if module == "pandas":
            return self._pandas(item)
        if module == "PIL" and hasattr(item, "tobytes"):
            return self._image(item)
        if isinstance(item, tuple) and hasattr(item, "_fields"):
            name = f"{kind.__module__} {kind.__qualname__}".encode()
            return node(b"namedtuple", name, map(self.node, item))
        raise UnknownContentError

    def _text(self, text: str) -> bytes:
        known = self._texts.get(text)
        if known is None:
            content = text.encode("utf-8", "surrogatepass")
            maybe = self._reads_files is not False and _is_short(content)
            file = _file(text) if maybe else []
            if not file and (self._reads_files or (maybe and _LIKE_A_PATH.fullmatch(text))):
                raise UnknownContentError  # perhaps relative to a folder that preprocess knows
            if len(self._texts) == 2**16:  # so that memory stays bounded
                self._texts.clear()
            known = self._texts[text] = node(b"str", content, file)
        return known

    def _array(self, item: Any) -> bytes:
        records = item.dtype.kind == "V" and item.dtype.hasobject
        if records or isinstance(item, np.ma.MaskedArray):
            raise UnknownContentError
        if item.dtype.kind in "UT" or item.dtype.hasobject:
            shape = f"{item.shape}".encode()
            return node(b"objects", shape, map(self.node, item.ravel().tolist()))
        digest = array_node(item)
        return node(b"number", b"", [digest]) if isinstance(item, np.generic) else digest

    def _pandas(self, item: Any) -> bytes:
        if type(item).__name__ in _PANDAS:
            return node(b"pandas", repr(item).encode())
        if _is_pandas(item, "DataFrame") or _is_pandas(item, "Series"):
            index = self.node(item.index.tolist())
            return node(b"table", _keys(item, self).tobytes(), [index])
        raise UnknownContentError

    def _image(self, item: Any) -> bytes:
        if getattr(item, "n_frames", 1) > 1:
            raise UnknownContentError  # which frame will be looked at is not known
        content = item.tobytes()  # first, for it loads what the header left open
        info = [item.info.get(key) for key in ("transparency", "exif", "icc_profile")]
        info.append([f"{tag} {value}" for tag, value in sorted(item.getexif().items())])
        parts = item.mode, item.size, item.getpalette(), info
        return node(b"image", content, map(self.node, parts))


def _is_short(content: bytes) -> bool:
    """Tell whether some bytes may be the path of a file."""
    return len(content) <= LONGEST_PATH and b"\n" not in content and b"\0" not in content


# Digests of files by their path, so that a file is read once and not for each fold. A change
# gives a file another time of change, which nobody can set; but times move in small steps, and two
# changes within one would look like one: only what had been left alone for a while is remembered.
_files: dict[str, tuple[tuple[int, ...], list[bytes]]] = {}
_FILES_MOST = 2**17
_QUIET_NS = 2 * 10**9


def _file(path: str) -> list[bytes]:
    """Return the digest of a file's bytes, or nothing if there is no such file."""
    try:
        now = os.stat(path)
        if not stat.S_ISREG(now.st_mode):
            raise UnknownContentError  # a folder, whose files may change
        identity = now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns
        remembered = _files.get(path)
        if remembered is not None and remembered[0] == identity:
            return remembered[1]
        begun = time.time_ns()
        with open(path, "rb") as file:
            found = [hashlib.file_digest(file, xxh3_128).digest()]
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []
    except OSError as error:
        if error.errno is not None and not os.path.exists(path):
            return []  # a name too long, say
        raise UnknownContentError from error
    if max(now.st_mtime_ns, now.st_ctime_ns) < begun - _QUIET_NS and os.name == "posix":
        if len(_files) >= _FILES_MOST:
            _files.clear()
        _files[path] = identity, found
    return found
