"""A cluster of processes on this machine: the bytes that it sends, the memory of its workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from distributed import Client, LocalCluster
from distributed.comm.tcp import TCP

WORKERS = 2


def count_bytes() -> None:
    """Have this process count, from here on, what it writes to others."""
    write = TCP.write
    if write.__name__ == "counted":
        return
    TCP.written = 0

    async def counted(comm: TCP, *args: Any, **kwargs: Any) -> int:
        found = await write(comm, *args, **kwargs)
        TCP.written += found
        return found

    TCP.write = counted


def written() -> int:
    """Return how many bytes this process has written to others."""
    return TCP.written


def total(client: Client) -> int:
    """Return how many bytes all processes have written."""
    return written() + sum(client.run(written).values())


@contextmanager
def counted_cluster(n_workers: int = WORKERS, **settings: Any) -> Iterator[Client]:
    """Start a cluster whose bytes are counted, and hand out its client."""
    settings = {"threads_per_worker": 1, "dashboard_address": ":0", **settings}
    with (
        LocalCluster(n_workers=n_workers, **settings) as cluster,
        Client(cluster) as client,
    ):
        count_bytes()
        client.run(count_bytes)  # and so all have imported what is needed
        yield client


@contextmanager
def peaks(client: Client, seconds: float = 0.05, *, own: bool = False) -> Iterator[list[int]]:
    """Watch the resident bytes of workers, and of this process; in the end the largest."""
    pids = [*client.run(_pid).values(), *([_pid()] if own else [])]
    processes = [psutil.Process(pid) for pid in pids]
    found, over = [0] * len(processes), threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            for i, process in enumerate(processes):
                found[i] = max(found[i], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _pid() -> int:
    return psutil.Process().pid
