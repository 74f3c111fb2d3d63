"""Collections of Dask: what they are, what they stand for, and calls that stand for results.

Nothing here imports Dask before it is needed: who has such a collection has it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import chain
from typing import Any

import numpy as np

from .words import shown

__all__ = [
    "LazyRows",
    "as_one",
    "beside",
    "compute",
    "computed",
    "delayed_call",
    "is_lazy",
    "local_directory",
    "parts_of",
    "persist",
]


class LazyRows:
    """Rows that Dask has, as `is_lazy` says of those that inherit from it."""


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
    if sys.modules.get("dask") is None:
        return False
    from dask import is_dask_collection

    if isinstance(values, (list, tuple)) and len(values):
        return any(map(is_dask_collection, (values[0], values[-1])))
    return isinstance(values, LazyRows) or bool(is_dask_collection(values))


def computed(*values: Any) -> tuple[Any, ...]:
    """Return columns with those of Dask brought here, all in one computation; others as they are.

    Examples
    --------
    >>> import dask.array
    >>> computed(dask.array.arange(3), None)
    (array([0, 1, 2]), None)
    """
    lazy = [value for value in values if is_lazy(value)]
    if not lazy:
        return values
    found = iter(compute(lazy))
    return tuple(
        (_joined(next(found)) if isinstance(value, (list, tuple)) else next(found))
        if is_lazy(value)
        else value
        for value in values
    )


def _joined(parts: Sequence[Any]) -> Any:
    """Return parts of a column as one, in which values of several types stay what they are."""
    arrays = [isinstance(part, np.ndarray) for part in parts]
    kinds = sorted({type(part).__name__ for part in parts})
    if len(kinds) > 1 and not all(arrays):
        raise ValueError(
            f"A list of delayed objects gives parts of several kinds, {' and '.join(kinds)}; "
            "expected one. Convert them, for example each to an array."
        )
    if hasattr(parts[0], "iloc"):
        import pandas as pd

        return pd.concat(parts)
    if not hasattr(parts[0], "__array__"):
        return list(chain.from_iterable(parts))
    parts = [part if np.ma.isMaskedArray(part) else np.asarray(part) for part in parts]
    if len({part.dtype.kind for part in parts}) > 1:
        parts = [part.astype(object) for part in parts]
    return (np.ma if any(map(np.ma.isMaskedArray, parts)) else np).concatenate(parts)


def parts_of(values: Any, name: str) -> tuple[list[Any], tuple[float, ...]]:
    """Return the chunks of a collection, of whole rows, and how many rows each has.

    That is NaN where Dask does not know it. An array, whose other axes are put together; a frame or
    a column of one; a bag, whose items are rows; delayed objects, each of which gives some rows.
    Errors call it by its name.

    Examples
    --------
    >>> import dask.array
    >>> parts, lengths = parts_of(dask.array.ones((5, 2), chunks=(3, 1)), "X")
    >>> len(parts), lengths
    (2, (3, 2))
    """
    kind = type(values)  # an object that is Delayed has any attribute
    if isinstance(values, (list, tuple)):
        odd = [each for each in values if not is_lazy(each)]
        if odd:
            raise ValueError(
                f"{name} is a list of delayed objects and of {type(odd[0]).__name__}; expected "
                "delayed objects, each of which gives some rows."
            )
        parts = list(values)
    elif hasattr(kind, "rechunk"):  # an array
        if values.ndim == 0:
            raise ValueError(f"{name} is {shown(values)}, a single value; expected one per row.")
        whole = values.rechunk(dict.fromkeys(range(1, values.ndim), -1))
        return whole.to_delayed().ravel().tolist(), whole.chunks[0]
    elif hasattr(kind, "to_delayed"):
        parts = list(values.to_delayed())
        if not hasattr(kind, "index"):  # the items of a bag may be known one by one only
            parts = [delayed_call(list, part) for part in parts]
    else:
        parts = [values]
    return parts, (np.nan,) * len(parts)


def delayed_call(function: Callable[..., Any], *args: Any) -> Any:
    """Return what stands for a call; what of its arguments stands for something is computed."""
    from dask import delayed

    return delayed(function, pure=False)(*args)


def as_one(value: Any) -> Any:
    """Return what stands for an object that each worker is sent once, however often it is used."""
    from dask import delayed

    return delayed(value, pure=False, traverse=False)


def local_directory() -> str | None:
    """Return the folder of the worker that runs this task; None where there is none."""
    if sys.modules.get("distributed"):
        from distributed import get_worker

        with suppress(ValueError):  # this is no task of a cluster
            return str(get_worker().local_directory)
    return None


def beside(kept: Sequence[Any]) -> Iterator[tuple[AbstractContextManager[Any], Any]]:
    """Yield what the cluster keeps, each with a context: calls made in it run at the same worker.

    Else Dask may send what is kept to a worker that is idle. Once a worker is lost, any other does.
    """
    found: dict[Any, Sequence[str]] = {}
    if sys.modules.get("distributed"):
        from dask import annotate
        from distributed import futures_of

        if futures := futures_of(list(kept)):
            with _explained():
                found = futures[0].client.who_has(futures)
    for each in kept:
        workers = found.get(each.key)
        if workers:
            yield annotate(workers=list(workers), allow_other_workers=True), each
        else:
            yield nullcontext(), each


def persist(tasks: Sequence[Any]) -> list[Any]:
    """Return what stands for the results of tasks, once the cluster has made them: it keeps them.

    Errors are those of `compute`. The first one ends the others.
    """
    import dask

    kept = list(dask.persist(*tasks))
    error = _first_error(kept) if sys.modules.get("distributed") else None
    if error is not None:
        kept.clear()  # the error, which the cluster's client keeps, would keep these
        with _explained():
            raise error
    return kept


def _first_error(kept: Sequence[Any]) -> Exception | None:
    """Wait until a cluster has made what it is to keep, or could not."""
    from distributed import as_completed, futures_of, rejoin, secede

    futures = futures_of(list(kept))  # none where there is no cluster
    if not futures:
        return None
    in_task = local_directory() is not None
    if in_task:  # which would wait for others that wait for its place
        secede()
    try:
        with _explained():
            for future in as_completed(futures):
                if future.status != "finished":
                    return future.exception() or CancelledError()
    finally:
        if in_task:
            rejoin()
    return None


def compute(tasks: Sequence[Any]) -> list[Any]:
    """Return the results of tasks, or what collections hold.

    Raises
    ------
    ConnectionError
        If the cluster is lost meanwhile.
    RuntimeError
        If a task ends one worker after the other.
    """
    import dask

    if len({type(task) for task in tasks}) > 1:
        # Of arrays among frames Dask returns the results in another order than that of the tasks.
        tasks = [dask.delayed(task) if dask.is_dask_collection(task) else task for task in tasks]
    with _explained(), warnings.catch_warnings():  # of arrays beside frames, which it does compute
        warnings.filterwarnings("ignore", "Computing mixed collections", UserWarning)
        return list(dask.compute(*tasks))


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to do about a cluster that is lost, or workers that are."""
    try:
        yield
    except Exception as error:
        if getattr(error, "reason", "") == "lost dependencies":
            raise RuntimeError(
                "The Dask cluster does not have what the rows are made of: it lies on another "
                "cluster than that of the client that was made last, or was given up. Call inside "
                f"`with client.as_current():` of the client that has it. ({error!r})"
            ) from error
        # Dask's own are known by name: who has no cluster has not imported them.
        if isinstance(error, CancelledError) or type(error).__name__ == "CommClosedError":
            raise ConnectionError(
                "The Dask cluster was lost, and with it what it kept. Start another one, connect a "
                "Client, and call again: features that memory= keeps in a folder are not made "
                f"anew. ({error!r})"
            ) from error
        if type(error).__name__ == "KilledWorker":
            raise RuntimeError(
                "A task ended the workers that it ran on, one after the other, most often because "
                "they have less memory than it takes. Give X smaller chunks, the extractor a "
                f"smaller batch_size, or the workers more memory. ({error})"
            ) from error
        raise
