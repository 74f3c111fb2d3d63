"""A module in evaluation mode while it runs, left exactly as it was."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .forward import device_of
from .module_copy import switch_to_evaluation

__all__ = ["frozen", "locked"]

# Modules are switched to evaluation mode in place: one thread at a time may do so.
# Of a part that two modules share, too.
_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def _after_fork_in_child() -> None:
    """Begin with new locks: a thread that held one is not in the child."""
    global _locks_guard
    _locks_guard = threading.Lock()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextmanager
def locked(module: nn.Module) -> Iterator[None]:
    """Hold the locks of all parts of a module, in an order that is the same for all."""
    with _locks_guard:
        parts = sorted(module.modules(), key=id)
        locks = [_locks.setdefault(part, threading.RLock()) for part in parts]
    with ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock)
        yield


@contextmanager
def frozen(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Hold a module in evaluation mode on a device.

    Then leave its training flags, values and device as they were.
    """
    source = device_of(module)
    # What torch.jit.freeze returns has no flag.
    training = {part: getattr(part, "training", False) for part in module.modules()}
    # Some do more in train() and eval() than to set a flag: merge an adapter, say.
    own = [part for part in training if _has_modes_of_its_own(part)]
    kept = [(tensor, tensor.detach().clone()) for part in own for tensor in _tensors_of(part)]
    moved = device != source
    try:
        switch_to_evaluation(module)
        if moved:
            module.to(device)
        # no_grad, not inference_mode: tensors a module caches must stay usable in training.
        with torch.no_grad():
            yield
    finally:
        if moved:
            module.to(source)
        for part in own:
            if training[part]:
                part.train()
        for part, flag in training.items():
            if hasattr(part, "training"):
                part.training = flag
        with torch.no_grad():
            for tensor, values in kept:  # what was added and taken away again is rounded
                if not torch.equal(tensor, values):
                    tensor.data.copy_(values)


def _has_modes_of_its_own(part: nn.Module) -> bool:
    kind = type(part)
    return kind.train is not nn.Module.train or kind.eval is not nn.Module.eval


def _tensors_of(part: nn.Module) -> list[Tensor]:
    tensors = [*part.parameters(), *part.buffers()]
    return [tensor for tensor in tensors if not is_lazy(tensor)]
