"""Threads over blocks of rows, each of which does its products alone.

Threads inside a product meet after each one, and wait for each other without giving up their core.
Where another process has one of the cores, that made a fit a hundred times slower. Threads that
take a block each meet once in a pass.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from .mapped import Features, block_slices, double_block

__all__ = ["map_blocks", "map_runs", "results_in_order", "threads_over_blocks"]

T = TypeVar("T")

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


def map_blocks(function: Callable[[slice, Tensor], T], Z: Features) -> Iterator[T]:
    """Apply a function to blocks of rows, some of them at a time, and yield what it returns.

    Parameters
    ----------
    function : callable
        Of the rows (a slice) and the features (m, d) in float64, which are only valid
        until it returns. It must not change them, nor what other blocks share.
    Z : Tensor or MappedFeatures of shape (n, d)
        Features.

    Yields
    ------
    object
        The results in the order of the rows, so that sums of them are always the same.

    Examples
    --------
    >>> list(map_blocks(lambda rows, block: float(block.sum()), torch.ones(3, 2**20)))
    [1048576.0, 1048576.0, 1048576.0]
    """
    return map_runs(lambda blocks: function(*next(blocks)), Z, length=1)


def map_runs(
    function: Callable[[Iterator[tuple[slice, Tensor]]], T], Z: Features, *, length: int
) -> Iterator[T]:
    """Apply a function to runs of so many neighbouring blocks, as `map_blocks` does to each.

    It takes the blocks of a run one after the other, and keeps none of them.

    Examples
    --------
    >>> Z = torch.ones(3, 2**20)
    >>> list(map_runs(lambda blocks: [rows.start for rows, _ in blocks], Z, length=2))
    [[0, 1], [2]]
    """
    rooms = threading.local()

    def work(run: list[slice]) -> T:
        return function(blocks(run))

    def blocks(run: list[slice]) -> Iterator[tuple[slice, Tensor]]:
        for rows in run:
            block, rooms.own = double_block(Z, rows, getattr(rooms, "own", None))
            yield rows, block

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
