"""A copy of a module that shares nothing with it, whatever the module holds."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["copy_module", "switch_to_evaluation"]


class _Detached(TorchFunctionMode):
    """Lets tensors with a history be copied, which torch refuses: without it.

    A module that keeps its activations has such tensors, anywhere in what it holds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.__deepcopy__ or args[0].is_leaf:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        return memo.setdefault(id(tensor), tensor.detach().clone())


def copy_module(module: nn.Module, name: str) -> nn.Module:
    """Return a deep copy of a module; tensors that are results of others come without gradients.

    If it holds something that cannot be copied, that is a ValueError that calls it by its name.

    Examples
    --------
    >>> import torch
    >>> module = nn.Linear(2, 1)
    >>> module.last = module(torch.zeros(1, 2))
    >>> copy_module(module, "Linear").last.requires_grad
    False
    """
    try:
        with _Detached():
            return copy.deepcopy(module)
    except Exception as error:  # whatever the parts of a module raise
        raise ValueError(
            f"{name} holds something that cannot be copied ({type(error).__name__}: {error}). "
            "Delete that attribute, make it in forward, or give its class a __deepcopy__."
        ) from error


def switch_to_evaluation(module: nn.Module) -> None:
    """Set evaluation mode in a module and in all of its parts that have modes.

    What ``torch.export`` returns has none, and refuses.
    """
    try:
        module.eval()
    except NotImplementedError:
        for part in module.children():
            switch_to_evaluation(part)
