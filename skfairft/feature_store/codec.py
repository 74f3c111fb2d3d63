"""Rows as bytes that hold no code: numbers, texts, arrays, tensors, and what holds such.

The bytes may come from a folder to which others may write. Whatever they are, reading them runs no
code, ends, takes room in proportion to their size, and gives a value or an Exception.
"""

from __future__ import annotations

import datetime
import json
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["CannotEncodeError", "decode", "encode"]

_MOST_TEXT = 2**24
"""Bytes of all that is no array: as objects they take up to fifty times as much."""

_MOST_KEYS = 1000
"""Keys of a dict that are no texts: of numbers it may be known how to make all of them collide."""

# Arrays that hold no objects, by their dtype.str, and tensors that hold plain numbers.
_ARRAYS = re.compile(r"[<>|][biufcmMSU]\d{1,9}(\[\w+\])?")
_NAMES = {
    kind: str(kind).removeprefix("torch.")
    for kind in vars(torch).values()
    if type(kind) is torch.dtype and not str(kind).startswith(("torch.q", "torch.bits"))
}
_DTYPES = {name: kind for kind, name in _NAMES.items()}

_TIMES: dict[str, Any] = {
    kind.__name__: kind for kind in (datetime.date, datetime.datetime, datetime.time)
}
_IMAGE_INFO = ("transparency", "exif", "icc_profile", "XML:com.adobe.xmp", "xmp")
_EXTENSIONS = {"str", "string", "boolean", "Float32", "Float64"} | {
    f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)
}


class CannotEncodeError(TypeError):
    """A value is of a kind that the bytes cannot hold."""


def encode(value: Any) -> bytes:
    """Return a value as bytes, or raise a CannotEncodeError.

    Examples
    --------
    >>> import numpy as np
    >>> decode(encode(["a text", (1, 2.5), {"ids": np.arange(3)}]))
    ['a text', (1, 2.5), {'ids': array([0, 1, 2])}]
    """
    buffers: list[bytes] = []

    def keep(content: bytes) -> int:
        buffers.append(content)
        return len(content)

    try:
        text = json.dumps(_packed(value, keep)).encode("ascii")
    except (ValueError, RecursionError) as error:
        raise CannotEncodeError(str(error)) from error
    if len(text) > _MOST_TEXT:
        raise CannotEncodeError(f"{len(text)} bytes beside arrays; expected up to {_MOST_TEXT}")
    return b"".join([struct.pack("<Q", len(text)), text, *buffers])


def decode(content: bytes) -> Any:
    """Return what `encode` was given; arrays and tensors are new, in main memory.

    Raises
    ------
    Exception
        Of any kind, if the bytes are not what `encode` returned.
    """
    size = struct.unpack_from("<Q", content)[0]
    start = 8 + size
    if size > _MOST_TEXT or start > len(content):
        raise ValueError(f"{size} bytes beside arrays; expected up to {_MOST_TEXT}")

    def take(size: int) -> bytearray:  # in the order in which they were kept
        nonlocal start
        # Each byte once: else a few of them could stand for any number.
        if not 0 <= size <= len(content) - start:
            raise ValueError(f"{size} bytes; {len(content) - start} are left")
        start += size
        return bytearray(memoryview(content)[start - size : start])

    return _unpacked(json.loads(content[8 : 8 + size]), take)


def _packed(value: Any, keep: Callable[[bytes], int]) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [_packed(each, keep) for each in value]
    if kind is tuple:
        return {"tuple": [_packed(each, keep) for each in value]}
    if kind is dict:
        _check_keys(value)
        return {"dict": [[_packed(key, keep), _packed(each, keep)] for key, each in value.items()]}
    if kind is bytes:
        return {"bytes": keep(value)}
    if kind is np.str_:
        return str(value)
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if isinstance(value, Tensor) and value.layout is torch.strided and value.dtype in _NAMES:
        flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        name = _NAMES[value.dtype]
        return {"tensor": [name, list(value.shape), keep(flat.view(torch.uint8).numpy().tobytes())]}
    if kind in (np.ndarray, np.memmap) and _ARRAYS.fullmatch(value.dtype.str):
        return {"array": [value.dtype.str, list(value.shape), keep(value.tobytes())]}
    if kind is np.ndarray and value.dtype.kind == "O":
        return {"objects": [list(value.shape), [_packed(each, keep) for each in value.ravel()]]}
    if isinstance(value, np.generic):
        return {"scalar": _packed(np.asarray(value), keep)}
    home = kind.__module__.partition(".")[0]
    if home == "pandas" and kind.__name__ == "Series":
        parts = [value.name, str(value.dtype), _values_of(value), value.index.to_numpy()]
        return {"Series": _packed(parts, keep)}
    if home == "pandas" and kind.__name__ == "DataFrame" and value.shape[1]:
        return {"frame": [_packed(value.iloc[:, i], keep) for i in range(value.shape[1])]}
    if home == "polars" and kind.__name__ == "Series":
        items = value.to_list()
        if kind(value.name, items).dtype == value.dtype:
            return {"polars": [value.name, _packed(items, keep)]}
    if kind in _TIMES.values():
        return {kind.__name__: value.isoformat()}
    if hasattr(value, "getexif") and getattr(value, "n_frames", 1) == 1:  # an image of Pillow
        content = value.tobytes()  # first, for it loads what the header left open
        info = {key: value.info[key] for key in _IMAGE_INFO if key in value.info}
        if exif := value.getexif():
            info["exif"] = exif.tobytes()
        parts = [value.mode, value.size, content, value.getpalette(), info]
        return {"image": _packed(parts, keep)}
    raise CannotEncodeError(f"{kind.__module__}.{kind.__qualname__}")


def _check_keys(keys: Iterable[Any]) -> None:
    if sum(not isinstance(key, (str, bytes)) for key in keys) > _MOST_KEYS:
        raise CannotEncodeError(f"a dict of more than {_MOST_KEYS} keys that are no texts")


def _values_of(column: Any) -> Any:
    """Return the values of a Series of pandas."""
    dtype = column.dtype
    if hasattr(dtype, "categories"):
        return column.cat.codes.to_numpy(), dtype.categories.tolist(), bool(dtype.ordered)
    if isinstance(dtype, np.dtype):
        return column.to_numpy()
    if str(dtype) not in _EXTENSIONS:
        raise CannotEncodeError(f"a column of dtype {dtype}")
    gaps = column.isna()
    return [None if gap else value for value, gap in zip(column, gaps, strict=True)]


def _unpacked(value: Any, take: Callable[[int], bytearray]) -> Any:
    if isinstance(value, list):
        return [_unpacked(each, take) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tuple":
        return tuple(_unpacked(each, take) for each in content)
    if kind == "dict":
        pairs = [(_unpacked(key, take), _unpacked(each, take)) for key, each in content]
        _check_keys([key for key, _ in pairs])
        return dict(pairs)
    if kind == "bytes":
        return bytes(take(content))
    if kind == "path":
        return Path(content)
    if kind == "tensor":
        name, shape, size = content
        dtype = _DTYPES[name]
        if not size:
            return torch.empty(0, dtype=dtype).reshape(shape)
        return torch.frombuffer(take(size), dtype=torch.uint8).view(dtype).reshape(shape)
    if kind == "array":
        dtype, shape, size = content
        if not _ARRAYS.fullmatch(dtype):
            raise ValueError(f"an array of {dtype[:80]}")
        return np.frombuffer(take(size), dtype=dtype).reshape(shape)
    if kind == "objects":
        objects = np.empty(len(content[1]), dtype=object)
        objects[:] = [_unpacked(each, take) for each in content[1]]
        return objects.reshape(content[0])
    if kind == "scalar":
        return _unpacked(content, take)[()]
    if kind in _TIMES:
        return _TIMES[kind].fromisoformat(content)
    return _REBUILT[kind](*_unpacked(content, take))


def _series(name: Any, dtype: Any, values: Any, index: Any) -> Any:
    import pandas as pd

    if isinstance(values, tuple):
        codes, categories, ordered = values
        values = pd.Categorical.from_codes(codes, categories, ordered=ordered)
        dtype = values.dtype
    if len(values) != len(index):  # one value would be repeated
        raise ValueError(f"{len(values)} values for {len(index)} rows")
    return pd.Series(values, index=index, name=name, dtype=dtype)


def _frame(*columns: Any) -> Any:
    import pandas as pd

    index = columns[0].index
    # Columns of one table have one index; of others concat would make a table of all their rows.
    if not all(column.index.equals(index) for column in columns):
        raise ValueError("columns whose index is not the same")
    return pd.concat(columns, axis=1)


def _polars(name: str, items: Any) -> Any:
    import polars  # whoever wrote it had it

    _check_plain(items)
    return polars.Series(name, items)


def _check_plain(item: Any) -> None:
    """Refuse what polars takes for an object: some of these end the program."""
    if isinstance(item, dict):
        item = [*item, *item.values()]
    if isinstance(item, list):
        for each in item:
            _check_plain(each)
    elif item is not None and type(item) not in {bool, int, float, str, bytes, *_TIMES.values()}:
        raise TypeError(f"a {type(item).__name__} in a column of polars")


def _image(mode: str, size: Any, content: bytes, palette: Any, info: Any) -> Any:
    from PIL import Image

    width, height = map(int, size)
    # Before room is made for what a size promises: a pixel has a byte, or a bit in mode "1".
    if width * height > len(content) * (8 if mode == "1" else 1):
        raise ValueError(f"{len(content)} bytes for an image of {width} x {height}")
    image = Image.frombytes(mode, (width, height), content)
    if palette:
        image.putpalette(palette)
    image.info.update(info)
    return image


_REBUILT: dict[str, Callable[..., Any]] = {
    "Series": _series, "frame": _frame, "polars": _polars, "image": _image,
}  # fmt: skip
