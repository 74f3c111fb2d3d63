"""torch's modes and random generators while a head is fitted, whatever they are around the call."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

__all__ = ["in_training_modes", "seeded", "training_modes"]

P = ParamSpec("P")
T = TypeVar("T")

_generators = threading.RLock()


def _renew_lock() -> None:
    """In a forked process nobody holds it."""
    global _generators
    _generators = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def training_modes() -> Iterator[None]:
    """Let gradients be recorded, in the precision of the tensors.

    A fit gives the same under ``torch.no_grad()``, ``torch.inference_mode()`` and
    ``torch.autocast(...)``.

    Examples
    --------
    >>> with torch.inference_mode(), training_modes():
    ...     print(torch.ones(2, requires_grad=True).sum().requires_grad)
    True
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


def in_training_modes(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function such that it runs in `training_modes`.

    Not by the context itself, whose lines would be those that warnings come from.

    Examples
    --------
    >>> with torch.no_grad():
    ...     print(in_training_modes(torch.is_grad_enabled)())
    True
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with training_modes():
            return function(*args, **kwargs)

    return call


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, from which dropout draws, and leave them as they were.

    They are the process's, so that one thread at a time may have them: the CPU's, and those of
    the device.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with seeded(0, torch.device("cpu")):
    ...     drawn = torch.rand(3)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    cuda = device.type == "cuda"
    with _generators, torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
