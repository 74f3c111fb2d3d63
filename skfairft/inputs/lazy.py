"""Collections of Dask, whose rows lie in chunks and come into being where these are.

Dask is not imported here: who has such a collection has done so.
"""

from __future__ import annotations

from typing import Any

__all__ = ["computed", "is_lazy"]


def is_lazy(values: Any) -> bool:
    """Tell whether rows are a collection of Dask, or a list of its delayed objects.

    Examples
    --------
    >>> is_lazy([1, 2])
    False
    >>> import dask.array
    >>> is_lazy(dask.array.ones(3))
    True
    """
    if isinstance(values, (list, tuple)):
        return len(values) > 0 and hasattr(type(values[0]), "__dask_graph__")
    return hasattr(type(values), "__dask_graph__")


def computed(*values: Any) -> tuple[Any, ...]:
    """Return columns with those of Dask brought here, all in one computation; others as they are.

    Examples
    --------
    >>> import dask.array
    >>> computed(dask.array.arange(3), None)
    (array([0, 1, 2]), None)
    """
    if not any(map(is_lazy, values)):
        return values
    import dask

    found: tuple[Any, ...] = dask.compute(*values)
    return found
