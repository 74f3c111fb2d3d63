"""torch's modes while a head is fitted, whatever they are around the call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["training_modes"]


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
