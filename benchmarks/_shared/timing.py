"""Seconds of several ways to do the same, in turn."""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import torch

__all__ = ["exponent", "in_turn", "machine"]


def in_turn(systems: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each system in each round; before several, a first one warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    warming = int(repeats > 1)
    for round_ in range(repeats + warming):
        for name, action in systems.items():
            start = time.perf_counter()
            action()
            if round_ >= warming:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return p of the power law ``seconds ~ size ** p``, by least squares of the logarithms."""
    slope, _ = statistics.linear_regression(
        [math.log(size) for size in sizes], [math.log(each) for each in seconds]
    )
    return slope


def machine(*packages: str) -> dict[str, Any]:
    """Return versions, threads and the processor's kind."""
    found = {name: metadata.version(name) for name in ("torch", *packages)}
    return {
        "python": platform.python_version(),
        **found,
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
