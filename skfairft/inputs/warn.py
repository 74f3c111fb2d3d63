"""Warnings that point to the user's line, however deep in the package they arise."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

__all__ = ["no_warnings", "warn_user"]

_PACKAGE = str(Path(__file__).parents[1])

_silent = ContextVar("_silent", default=False)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Keep `warn_user` from saying again what is said elsewhere; in this thread alone."""
    before = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(before)


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn, as if from the first line up the stack that is not of this package."""
    if _silent.get():
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
