"""Whether a module gives a row the same whatever rows are beside it, and each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..feature_store.explain import changes
from ..feature_store.witness import FLOAT_EPS, distance

__all__ = ["why_other"]


def why_other(
    found: NDArray[Any], run_again: Callable[[], Any], module: nn.Module, preprocess: Any
) -> tuple[bool, str]:
    """Return whether rows that ran by themselves come out otherwise each time, and why they do.

    If not, what they are depends on the rows beside them.

    Parameters
    ----------
    found : ndarray of shape (m, d)
        What they gave.
    run_again : callable
        Returns what they give when run by themselves once more, (m, d).
    module, preprocess
        What runs.
    """
    names, again = changes(run_again, module, preprocess)
    if distance(again, found, np.ones(found.shape[1]), FLOAT_EPS) > 0:
        if names:
            return True, f"running it changes {names}"
        return True, "it draws random numbers (dropout with training=True, or a sample)"
    causes = ", ".join(_causes(module)) or (
        "a softmax, mean or normalization over the first axis, or padding to the longest row "
        "that no attention_mask marks"
    )
    return False, causes


def _causes(module: nn.Module) -> list[str]:
    """Name the parts of a module that are known to mix the rows of a batch."""
    found = []
    for name, part in module.named_modules():
        title = f"{type(part).__name__}{f' {name!r}' if name else ''}"
        if isinstance(part, nn.RNNBase) and not part.batch_first:
            found.append(f"{title} without batch_first=True takes the first axis for time")
        if isinstance(part, nn.MultiheadAttention) and not part.batch_first:
            found.append(f"{title} without batch_first=True takes the first axis for tokens")
        batch_norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
        if batch_norm and (part.training or part.running_mean is None):
            found.append(f"{title} normalizes by the batch (training mode, or no running mean)")
    return found[:3]
