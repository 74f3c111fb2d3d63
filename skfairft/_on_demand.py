"""Names of a package that are imported when they are asked for (PEP 562).

So who audits predictions, or loads a data set, does not wait for torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["on_demand"]


def on_demand(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` of a package.

    Its modules are there, too, without being imported first. Checkers of types are to see imports
    in place of these functions, which could return anything: ``if TYPE_CHECKING: ... else: ...``.

    Parameters
    ----------
    package : str
        Its name.
    homes : mapping of str to str
        The module of each name, relative to the package.

    Examples
    --------
    >>> get, names = on_demand("skfairft", {"load": ".loading"})
    >>> get("load").__module__, "load" in names()
    ('skfairft.loading', True)
    """
    module = sys.modules[package]

    def get(name: str) -> Any:
        if name in homes:
            value = getattr(import_module(homes[name], package), name)
        elif name[0] != "_" and find_spec(f"{package}.{name}") is not None:
            value = import_module(f".{name}", package)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(module, name, value)  # the next time nobody asks
        return value

    def names() -> list[str]:
        # Not its modules: who asks for all that is listed has not the libraries of each.
        return sorted({*vars(module), *homes})

    return get, names
