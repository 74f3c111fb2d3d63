"""Threads over blocks of rows, each of which does its products alone.

Threads inside a product meet after each one, and wait for each other without giving up their core.
Where another process has one of the cores, that made a fit a hundred times slower. Threads that
take a block each meet once in a pass.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial, reduce
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from .dask import DaskFeatures
from .mapped import LocalFeatures, block_slices, double_block

__all__ = [
    "Features",
    "map_blocks",
    "reduce_blocks",
    "reduce_runs",
    "results_in_order",
    "threads_over_blocks",
]

T = TypeVar("T")

# (n, d): in memory, in a mapped file, or in chunks on other machines.
Features = LocalFeatures | DaskFeatures


def _after_fork_in_child() -> None:
    """Let torch work with one thread: its others are not in the child, and it would wait for them.

    So it is with whoever used torch with threads before a fork, such as a server that loads a model
    and then starts its workers. torch's own loaders of data do the same in theirs.
    """
    torch.set_num_threads(1)
    _pool.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

_pool: ContextVar[tuple[ThreadPoolExecutor, int] | None] = ContextVar("pool", default=None)


@contextmanager
def threads_over_blocks() -> Iterator[None]:
    """Let `map_blocks` use as many threads as torch does, and each product one.

    Examples
    --------
    >>> with threads_over_blocks():
    ...     print(torch.get_num_threads())
    1
    """
    n_threads = torch.get_num_threads()
    controller = _thread_pools(len(sys.modules))

    def alone() -> None:
        torch.get_num_threads()  # at a thread's first call torch sets their number, so before us
        controller.limit(limits=1)

    with controller.limit(limits=1):
        if n_threads == 1:
            yield
            return
        with ThreadPoolExecutor(n_threads, initializer=alone) as pool:
            token = _pool.set((pool, n_threads))
            try:
                yield
            finally:
                _pool.reset(token)


@lru_cache(maxsize=1)
def _thread_pools(n_modules: int) -> ThreadpoolController:
    """Return the thread pools of torch and of SciPy's BLAS; none comes without a module.

    Looking for them takes longer than a small fit.
    """
    return ThreadpoolController()


def map_blocks(function: Callable[..., T], Z: Features, *columns: Tensor | None) -> Iterator[T]:
    """Apply a function to blocks of rows, some of them at a time, and yield what it returns.

    Parameters
    ----------
    function : callable
        Of the features (m, d) of a block in float64, which are only valid until it returns, and
        of the same rows of each column. It must not change them, nor what other blocks share.
    Z : Tensor, MappedFeatures or DaskFeatures of shape (n, d)
        Features. Those of Dask stay where they are: the function goes there.
    *columns : Tensor of n rows, or None
        What else there is of each row; None stays None.

    Yields
    ------
    object
        The results in the order of the rows.

    Examples
    --------
    >>> Z, y = torch.ones(3, 2**20), torch.tensor([0, 1, 2])
    >>> list(map_blocks(lambda block, y: (len(block), y.item()), Z, y))
    [(1, 0), (1, 1), (1, 2)]
    """
    if isinstance(Z, DaskFeatures):
        for found in Z.map(partial(_each, function), columns):
            yield from found
    else:
        yield from _map_runs(partial(_first, function), Z, columns, length=1)


def reduce_blocks(
    function: Callable[..., T],
    merge: Callable[[T, T], T],
    Z: Features,
    *columns: Tensor | None,
) -> T | None:
    """Return what a function returns of all blocks, as `map_blocks` calls it, merged.

    ``merge`` takes two results of neighbouring rows, the earlier first, and may change that one.
    Which are merged with which does not depend on how many threads or machines there are. Without
    rows there is None.

    Examples
    --------
    >>> reduce_blocks(lambda block: block.sum(dim=0), torch.add, torch.ones(3, 2))
    tensor([3., 3.], dtype=torch.float64)
    """
    return reduce_runs(partial(_first, function), merge, Z, *columns, length=1)


def reduce_runs(
    function: Callable[[Iterator[Any]], T],
    merge: Callable[[T, T], T],
    Z: Features,
    *columns: Tensor | None,
    length: int,
) -> T | None:
    """Return what a function returns of runs of so many neighbouring blocks, merged.

    It takes the blocks of a run one after the other, each as a tuple of features and columns, and
    keeps none of them. Of Dask a run is as many blocks of a chunk.

    Examples
    --------
    >>> Z = torch.ones(3, 2**20)
    >>> reduce_runs(lambda run: [len(block) for block, in run], list.__add__, Z, length=2)
    [1, 1, 1]
    """
    if isinstance(Z, DaskFeatures):
        return Z.reduce(partial(_all_runs, function, merge, length), merge, columns)
    runs = _map_runs(function, Z, columns, length=length)
    first = next(runs, None)
    return None if first is None else reduce(merge, runs, first)


def _first(function: Callable[..., T], blocks: Iterator[Any]) -> T:
    return function(*next(blocks))


def _each(function: Callable[..., T], Z: Features, columns: Sequence[Tensor | None]) -> list[T]:
    """Return the results of a chunk's blocks."""
    return list(map_blocks(function, Z, *columns))


def _all_runs(
    function: Callable[[Iterator[Any]], T],
    merge: Callable[[T, T], T],
    length: int,
    Z: Features,
    columns: Sequence[Tensor | None],
) -> T | None:
    """Return the merged results of a chunk's runs."""
    return reduce_runs(function, merge, Z, *columns, length=length)


def _map_runs(
    function: Callable[[Iterator[Any]], T],
    Z: LocalFeatures,
    columns: Sequence[Tensor | None],
    *,
    length: int,
) -> Iterator[T]:
    """Apply a function to runs of blocks, some at a time, and yield what it returns in order."""
    rooms = threading.local()

    def work(run: list[slice]) -> T:
        return function(blocks(run))

    def blocks(run: list[slice]) -> Iterator[Any]:
        for rows in run:
            block, rooms.own = double_block(Z, rows, getattr(rooms, "own", None))
            yield block, *(None if column is None else column[rows] for column in columns)

    slices = block_slices(Z)
    runs = [slices[start : start + length] for start in range(0, len(slices), length)]
    available = _pool.get()
    if available is None or len(runs) == 1:
        yield from map(work, runs)
        return
    pool, n_threads = available
    yield from results_in_order(pool, (partial(work, run) for run in runs), n_threads)


def results_in_order(
    pool: ThreadPoolExecutor, works: Iterable[Callable[[], T]], ahead: int
) -> Iterator[T]:
    """Yield what functions return, in their order; some of them are worked on ahead."""
    queue: deque[Future[T]] = deque()
    try:
        for work in works:
            queue.append(pool.submit(work))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        for future in queue:
            future.cancel()
