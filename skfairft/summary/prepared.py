"""What prepares the rows before a backbone or a head gets them, in words that stay the same.

No word is a repr: that of a function, and of many objects, holds an address, which is another in
each run, and that of others holds paths of one machine.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from enum import Enum
from functools import partial
from numbers import Number
from typing import Any

import numpy as np
import torch

__all__ = ["called"]

# Letters of one description; of a list or a mapping the first entries; levels of what holds what.
_LONGEST, _MOST, _DEEPEST = 200, 8, 3


def called(value: Any) -> str:
    """Return what a function, or an object that does something, is called, and how it is set.

    Of an object these are the parameters of its class that it keeps under their names, and that are
    not at their defaults.

    Examples
    --------
    >>> from skfairft.preprocessing import ImageFiles
    >>> called(ImageFiles(224, resize=256)), called(len)
    ('ImageFiles(size=224, resize=256)', 'len')
    >>> called(lambda rows: rows)
    "a function of the user's own (lambda)"
    """
    text = _called(value, 0)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _called(value: Any, depth: int) -> str:
    # The functions of NumPy before 2.2 have the second one only.
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if isinstance(name, str):  # a function, a method or a class
        name = name.rpartition("<locals>.")[2]
        return "a function of the user's own (lambda)" if "<" in name else name
    if depth >= _DEEPEST:
        return type(value).__name__
    if isinstance(value, partial):
        given = [_setting(each, depth + 1) for each in (value.func, *value.args)]
        settings = {name: _setting(each, depth + 1) for name, each in value.keywords.items()}
    else:
        given, settings = [], _settings(value, depth + 1)
    given += [f"{name}={text}" for name, text in settings.items()]
    return f"{type(value).__name__}({', '.join(given)})"


def _settings(value: Any, depth: int) -> dict[str, str]:
    """Return the parameters of an object's class that the object keeps, but the defaults."""
    try:
        parameters = inspect.signature(type(value)).parameters
    except (TypeError, ValueError):  # of a class that is not written in Python
        return {}
    kept = getattr(value, "__dict__", {})
    given = {}
    for name, parameter in parameters.items():
        default = {} if parameter.kind is parameter.VAR_KEYWORD else parameter.default
        if name in kept:
            text = _setting(kept[name], depth)
            if text != _setting(default, depth):
                given[name] = text
    return given


def _setting(value: Any, depth: int) -> str:
    """Return a setting in a few words."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, str) and os.path.isabs(value):
        return "a path"
    if value is None or isinstance(value, (str, bytes, Number, torch.dtype, torch.device)):
        return repr(value)
    if depth >= _DEEPEST:
        return _called(value, depth)
    if isinstance(value, (list, tuple)):
        items = [_setting(each, depth + 1) for each in value[:_MOST]]
        return f"[{', '.join(_first(items, value))}]"
    if isinstance(value, Mapping):
        items = [
            f"{_setting(key, depth + 1)}: {_setting(each, depth + 1)}"
            for key, each in list(value.items())[:_MOST]
        ]
        return f"{{{', '.join(_first(items, value))}}}"
    return _called(value, depth)


def _first(texts: list[str], whole: Any) -> list[str]:
    return [*texts, "..."] if len(whole) > len(texts) else texts
