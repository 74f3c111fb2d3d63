"""Plain values as JSON and back, exactly: nothing that is read can run or import anything.

What JSON has itself stands for itself. Any other value is an object with one key, its kind.
"""

from __future__ import annotations

import datetime
import math
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

__all__ = ["CannotWriteError", "pack", "unpack"]


class CannotWriteError(TypeError):
    """A value is of a kind that these files do not hold."""


# Of exactly this type, by text that its own constructor reads.
_BY_TEXT: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    kind.__name__: (kind, write, read)
    for kind, write, read in (
        (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
        (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
        (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
        (
            datetime.timedelta,
            lambda each: str(each // datetime.timedelta(microseconds=1)),
            lambda text: datetime.timedelta(microseconds=int(text)),
        ),
        (Decimal, str, Decimal),
        (Fraction, str, Fraction),
        (complex, str, complex),
        (bytes, bytes.hex, bytes.fromhex),
        (uuid.UUID, str, uuid.UUID),
    )
}
# Of torch, which is imported where one of these is read.
_OF_TORCH = ("device", "dtype")
_NUMBERS = "biuf"
_DATES = "mM"
# Of an array of texts that are all shorter than its dtype has room for.
_MOST_BYTES = 2**12


def pack(value: Any) -> Any:
    """Return a value as what JSON holds, or raise a CannotWriteError.

    Examples
    --------
    >>> import numpy as np
    >>> pack({"a": (1, float("inf"))})
    {'dict': [['a', {'tuple': [1, {'float': 'inf'}]}]]}
    >>> pack(np.array([1, 2]))
    {'array': ['<i8', [2], [1, 2]]}
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if kind is list:
        return [pack(each) for each in value]
    if kind is tuple:
        return {"tuple": [pack(each) for each in value]}
    if kind is dict:
        return {"dict": [[pack(key), pack(each)] for key, each in value.items()]}
    if kind is np.ndarray:
        return {"array": _packed_array(value)}
    if isinstance(value, np.generic) and kind is value.dtype.type and value.dtype.kind != "V":
        return {"scalar": _packed_array(np.asarray(value))}
    if isinstance(value, np.dtype) and value.kind in _NUMBERS:
        return {"dtype": value.str}
    if kind.__module__ == "torch" and kind.__name__ in _OF_TORCH:
        return {f"torch {kind.__name__}": str(value).removeprefix("torch.")}
    if kind.__name__ in _BY_TEXT and kind is _BY_TEXT[kind.__name__][0]:
        return {kind.__name__: _BY_TEXT[kind.__name__][1](value)}
    home = kind.__module__.partition(".")[0]
    if home == "pandas" and kind.__name__ in _OF_PANDAS:
        return {kind.__name__: [pack(each) for each in _OF_PANDAS[kind.__name__][0](value)]}
    raise CannotWriteError(f"{kind.__module__}.{kind.__qualname__}")


def _packed_array(array: np.ndarray[Any, Any]) -> list[Any]:
    dtype, flat = array.dtype, array.ravel()
    if dtype.kind == "O":
        return ["O", list(array.shape), [pack(each) for each in flat.tolist()]]
    if dtype.kind in _DATES:
        unit, step = np.datetime_data(dtype)
        name = f"{dtype.kind}8[{step}{unit}]"
        return [name, list(array.shape), flat.view(np.int64).tolist()]
    if dtype.kind == "U":
        longest = max(map(len, flat.tolist()), default=0)
        if dtype.itemsize * flat.size > _MOST_BYTES:
            dtype = np.dtype(f"U{max(longest, 1)}")
    if dtype.kind == "U" or (dtype.kind in _NUMBERS and dtype.itemsize <= 8):
        little = dtype.newbyteorder("<").str
        return [little, list(array.shape), [pack(each) for each in flat.tolist()]]
    if dtype.kind == "c" and dtype.itemsize <= 16:
        return [dtype.newbyteorder("<").str, list(array.shape), [pack(e) for e in flat.tolist()]]
    raise CannotWriteError(f"an array of dtype {dtype}")


def unpack(written: Any) -> Any:
    """Return what `pack` was given; whatever else was written is a ValueError.

    Examples
    --------
    >>> unpack(pack({"a": (1, float("inf"))}))
    {'a': (1, inf)}
    >>> unpack({"object": "os.system"})
    Traceback (most recent call last):
    ...
    ValueError: A value of the kind 'object' is none that these files hold.
    """
    if isinstance(written, list):
        return [unpack(each) for each in written]
    if not isinstance(written, dict):
        return written
    if len(written) != 1:
        raise ValueError(f"A value has the kinds {sorted(written)}; expected one.")
    ((kind, content),) = written.items()
    if kind in _READERS:
        try:
            return _READERS[kind](content)
        except (TypeError, ArithmeticError, AttributeError, KeyError, OverflowError) as error:
            raise ValueError(f"A value of the kind {kind!r} cannot be read ({error}).") from error
    raise ValueError(f"A value of the kind {kind!r} is none that these files hold.")


def _array(content: Any) -> np.ndarray[Any, Any]:
    name, shape, values = content
    if not isinstance(name, str) or not isinstance(values, list):
        raise ValueError("An array is written as its dtype, shape and values.")
    if math.prod(shape) != len(values) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"An array of shape {shape} has {len(values)} values.")
    if name == "O":
        array = np.empty(len(values), dtype=object)
        for i, each in enumerate(values):
            array[i] = unpack(each)
        return array.reshape(shape)
    dtype = np.dtype(name)
    if dtype.kind == "U":
        # What a dtype promises is not to make room for more than there is.
        if any(type(each) is not str or len(each) * 4 > dtype.itemsize for each in values):
            raise ValueError(f"An array of dtype {name} holds other or longer values.")
        longest = max((len(each) for each in values), default=0)
        if dtype.itemsize > 4 * max(longest, 1) and dtype.itemsize * len(values) > _MOST_BYTES:
            raise ValueError(f"An array of dtype {name} holds texts of {longest} characters.")
        return np.array(values, dtype=dtype).reshape(shape)
    if dtype.kind not in _NUMBERS + _DATES + "c" or dtype.hasobject or dtype.itemsize > 16:
        raise ValueError(f"An array of dtype {name} is none that these files hold.")
    found = [unpack(each) for each in values]
    plain = {"b": (bool,), "c": (complex,), "f": (float,)}.get(dtype.kind, (int,))
    if any(type(each) not in plain for each in found):
        raise ValueError(f"An array of dtype {name} holds values of another type.")
    if dtype.kind in _DATES:
        return np.array(found, dtype=np.int64).view(dtype).reshape(shape)
    return np.array(found, dtype=dtype.newbyteorder("=")).reshape(shape)


def _number(content: Any) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise ValueError(f"The number {content!r} is none that is written as text.")
    return float(content)


def _dtype(content: Any) -> np.dtype[Any]:
    found = np.dtype(content) if isinstance(content, str) else None
    if found is None or found.kind not in _NUMBERS:
        raise ValueError(f"{content!r} is no dtype of numbers.")
    return found


def _torch_device(content: str) -> Any:
    import torch

    try:
        return torch.device(content)
    except RuntimeError as error:
        raise ValueError(f"torch has no device {content!r}.") from error


def _torch_dtype(content: Any) -> Any:
    import torch

    found = getattr(torch, content, None) if isinstance(content, str) else None
    if not isinstance(found, torch.dtype):
        raise ValueError(f"torch has no dtype {content!r}.")
    return found


def _timestamp(value: int, unit: str, zone: str | None) -> Any:
    import pandas as pd

    found = pd.Timestamp(np.array([value]).view(f"M8[{unit}]")[0])
    return found if zone is None else found.tz_localize("UTC").tz_convert(_zone(zone))


def _zone(name: str) -> datetime.tzinfo:
    """Return a time zone by its name; no other file than those of zones is opened for it."""
    offset = re.fullmatch(r"UTC(?:([+-])(\d\d):(\d\d))?", name)
    if offset is None:
        return ZoneInfo(name)
    sign, hours, minutes = offset.groups(default="0")
    shift = datetime.timedelta(hours=int(hours), minutes=int(minutes))
    return datetime.timezone(-shift if sign == "-" else shift)


def _name_of_zone(zone: datetime.tzinfo) -> str:
    name = str(zone)
    try:
        same = str(_zone(name)) == name or name == "UTC"
    except Exception:  # whatever is raised for a name that is none
        same = False
    if not same:
        raise CannotWriteError(f"a time in the zone {name!r}")
    return name


def _timedelta(value: int, unit: str) -> Any:
    import pandas as pd

    return pd.Timedelta(np.array([value]).view(f"m8[{unit}]")[0])


def _period(ordinal: int, frequency: str) -> Any:
    import pandas as pd

    return pd.Period(ordinal=ordinal, freq=frequency)


def _interval(left: Any, right: Any, closed: str) -> Any:
    import pandas as pd

    return pd.Interval(left, right, closed=closed)  # type: ignore[arg-type]


_OF_PANDAS: dict[str, tuple[Callable[[Any], tuple[Any, ...]], Callable[..., Any]]] = {
    "Timestamp": (
        lambda t: (
            int(t.asm8.astype(np.int64)),
            np.datetime_data(t.asm8.dtype)[0],
            None if t.tz is None else _name_of_zone(t.tz),
        ),
        _timestamp,
    ),
    "Timedelta": (
        lambda t: (int(t.asm8.astype(np.int64)), np.datetime_data(t.asm8.dtype)[0]),
        _timedelta,
    ),
    "Period": (lambda p: (p.ordinal, p.freqstr), _period),
    "Interval": (lambda i: (i.left, i.right, i.closed), _interval),
}


def _by_text(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    def reader(content: Any) -> Any:
        if not isinstance(content, str):
            raise ValueError(f"A text was expected, not {type(content).__name__}.")
        return read(content)

    return reader


def _of_pandas(make: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda content: make(*(unpack(each) for each in content))


_READERS: dict[str, Callable[[Any], Any]] = {
    "float": _number,
    "tuple": lambda content: tuple(unpack(each) for each in content),
    "dict": lambda content: {unpack(key): unpack(each) for key, each in content},
    "array": _array,
    "scalar": lambda content: _array(content)[()],
    "dtype": _dtype,
    "torch device": _by_text(_torch_device),
    "torch dtype": _torch_dtype,
    **{kind: _by_text(read) for kind, (_, _, read) in _BY_TEXT.items()},
    **{kind: _of_pandas(make) for kind, (_, make) in _OF_PANDAS.items()},
}
