"""Modules whose numbers are NumPy's, for libraries that write objects and know no tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["plain_module", "torch_module"]

_HELD = ("_parameters", "_buffers")


class Numbers:
    """A tensor's numbers and what kind of tensor they were.

    Parameters
    ----------
    values : ndarray
        Of a dtype that NumPy has.
    dtype : str
        torch's.
    grad : bool or None
        Whether a parameter asks for gradients; None for what is none.
    """

    def __init__(self, values: NDArray[Any], dtype: str, grad: bool | None) -> None:
        self.values, self.dtype, self.grad = values, dtype, grad

    @classmethod
    def of(cls, tensor: Tensor) -> Numbers:
        """Return those of a tensor."""
        grad = tensor.requires_grad if isinstance(tensor, nn.Parameter) else None
        flat = tensor.detach().cpu().contiguous()
        name = str(flat.dtype).removeprefix("torch.")
        if flat.dtype == torch.bfloat16:
            flat = flat.view(torch.int16)
        return cls(flat.numpy(), name, grad)

    def tensor(self) -> Tensor:
        """Return the tensor."""
        values = torch.from_numpy(np.array(self.values))
        if self.dtype == "bfloat16":
            values = values.view(torch.bfloat16)
        return values if self.grad is None else nn.Parameter(values, requires_grad=self.grad)


def plain_module(module: nn.Module) -> nn.Module:
    """Return a module of the same classes and attributes with `Numbers` in place of tensors.

    It cannot run; `torch_module` makes it one that can.

    Examples
    --------
    >>> plain = plain_module(nn.Linear(2, 1))
    >>> plain._parameters["weight"].values.shape
    (1, 2)
    >>> torch_module(plain)(torch.ones(1, 2)).shape
    torch.Size([1, 1])
    """
    if any(isinstance(each, Numbers) for part in _parts(module) for each in _held(part)):
        return module  # it is one already
    known: dict[int, Any] = {}

    def numbers(tensor: Tensor | None) -> Numbers | None:
        if tensor is not None and id(tensor) not in known:
            known[id(tensor)] = Numbers.of(tensor)
        return None if tensor is None else known[id(tensor)]

    def plain(part: nn.Module | None) -> Any:
        if part is None or id(part) in known:
            return None if part is None else known[id(part)]
        _check_plain(part)
        new = known[id(part)] = type(part).__new__(type(part))
        state: dict[str, Any] = {
            name: numbers(value) if isinstance(value, Tensor) else value
            for name, value in vars(part).items()
        }
        for held in _HELD:
            state[held] = {name: numbers(tensor) for name, tensor in state[held].items()}
        state["_modules"] = {name: plain(child) for name, child in state["_modules"].items()}
        vars(new).update(state)
        return new

    made: nn.Module = plain(module)
    return made


def torch_module(module: nn.Module) -> nn.Module:
    """Give the modules of `plain_module` their tensors, in place, and return the first."""
    known: dict[int, Tensor] = {}
    for part in _parts(module):
        for own in (vars(part), *(vars(part)[held] for held in _HELD)):
            for name, value in [*own.items()]:
                if isinstance(value, Numbers):
                    if id(value) not in known:
                        known[id(value)] = value.tensor()
                    own[name] = known[id(value)]
    return module


def _check_plain(part: nn.Module) -> None:
    """Refuse modules of torch's own runtime: what writes objects could end the program at them."""
    runtime = (torch.ScriptObject, torch._C.ScriptModule)
    if isinstance(part, torch.jit.ScriptModule) or any(
        isinstance(value, runtime) for value in vars(part).values()
    ):
        raise TypeError(
            f"A {type(part).__name__} lives in torch's own runtime (TorchScript, or a quantized "
            "layer), and cannot be written as a plain object; keep the classifier by its method "
            "save, which leaves the backbone out."
        )


def _parts(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if "_parameters" in vars(part)]


def _held(module: nn.Module) -> list[Any]:
    return [each for held in _HELD for each in vars(module)[held].values()]
