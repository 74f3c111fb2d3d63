"""Which code belongs to installed libraries, that is known by name and version."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
import sysconfig
from pathlib import Path
from types import FunctionType

__all__ = ["library", "library_of_function"]

_INSTALLED = tuple(
    f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


@functools.cache
def library(module: str) -> str | None:
    """Return name and version of the installed library that a module, by its name, is part of.

    None is the user's own code, which is known by its bytecode.

    Examples
    --------
    >>> import numpy
    >>> library("numpy.linalg") == f"numpy {numpy.__version__}"
    True
    >>> library("__main__") is None
    True
    """
    name = module.partition(".")[0]
    if name in ("__main__", "__mp_main__"):
        return None
    found = sys.modules.get(name)
    file = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), None)
    if file is None:
        return "python" if name in sys.stdlib_module_names else None
    if "site-packages" in (parts := Path(file).parts) or "dist-packages" in parts:
        version = getattr(found, "__version__", None)
        if not isinstance(version, str):
            try:
                version = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                version = "?"
        return f"{name} {version}"
    if file.startswith(_INSTALLED):
        return "python"
    return f"torch {found.__version__}" if name == "torch" and found else None


def library_of_function(function: FunctionType) -> str | None:
    """Return the library whose code a function is; functools.wraps cannot disguise it."""
    return library(str(function.__globals__.get("__name__", "__main__")))
