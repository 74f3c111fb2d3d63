"""Classes that a pickle holds by name only, looked for before they are missed."""

from __future__ import annotations

import importlib
import sys
import types
from operator import attrgetter
from typing import Any

from torch import nn

from ..inputs.warn import warn_user
from ..inputs.words import named

__all__ = ["by_name", "rebuilt"]

# Who writes classes of __main__ by their content, or makes a copy in this process.
_NOT_BY_NAME = ("cloudpickle", "dill", "copy")
_OUR_OWN = ("torch", "skfairft", "builtins")


def by_name(state: dict[str, Any]) -> tuple[str, ...]:
    """Return modules and names of what a pickle of these attributes holds by name.

    Only of what is not torch's or ours; nothing where it is not a pickle that is written.

    Examples
    --------
    >>> by_name({"module": nn.Linear(1, 1), "batch_size": 2})
    ()
    """
    frame = sys._getframe(1)
    while frame is not None:
        if not {*str(frame.f_globals.get("__name__")).split(".")}.isdisjoint(_NOT_BY_NAME):
            return ()
        frame = frame.f_back  # type: ignore[assignment]
    found: dict[str, None] = {}
    for value in state.values():
        parts = list(value.modules()) if isinstance(value, nn.Module) else [value]
        for part in parts:
            kind: Any = part if isinstance(part, types.FunctionType) else type(part)
            home, name = kind.__module__, kind.__qualname__
            if home.partition(".")[0] not in _OUR_OWN and "<" not in name:
                found[f"{home}:{name}"] = None
    return tuple(found)


def rebuilt(kind: type, names: tuple[str, ...]) -> Any:
    """Return an object without attributes, and say which of the names that follow are missing.

    The library that reads the pickle would say so of the first only, and not what to do.
    """
    missing = [name for name in names if not _is_there(*name.split(":"))]
    if missing:
        listed = named([f"{name} of {home}" for home, name in (m.split(":") for m in missing)])
        warn_user(
            f"A pickle holds classes and functions by their names, and these are not there: "
            f"{listed}. Define or import them under these names before loading ({kind.__name__} "
            "uses them), or keep the classifier by its method save, whose files hold no classes.",
            UserWarning,
        )
    made: Any = object.__new__(kind)
    return made


def _is_there(home: str, name: str) -> bool:
    try:
        attrgetter(name)(importlib.import_module(home))
    except Exception:  # whatever a module raises while it is imported
        return False
    return True
