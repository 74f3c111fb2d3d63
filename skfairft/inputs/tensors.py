"""Tensors as NumPy arrays, or one sentence about why not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["refuse_odd_tensor", "to_array"]

_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


def to_array(X: Any, name: str = "X") -> Any:
    """Return a torch tensor as a NumPy array on the CPU, anything else as it came.

    bfloat16 and smaller floats become float32, which holds each of their values; complex numbers
    of half precision likewise. Others are refused as by `refuse_odd_tensor`.

    Examples
    --------
    >>> to_array(torch.tensor([1.5, 2.0]).bfloat16())
    array([1.5, 2. ], dtype=float32)
    """
    if not isinstance(X, Tensor):
        return X
    refuse_odd_tensor(X, name)
    tensor = X.detach().cpu().resolve_conj().resolve_neg()
    if tensor.is_floating_point() and tensor.dtype not in _NUMPY_FLOATS:
        tensor = tensor.float()
    elif tensor.dtype == torch.complex32:
        tensor = tensor.to(torch.complex64)
    return tensor.numpy()


def refuse_odd_tensor(X: Any, name: str = "X") -> None:
    """Raise a TypeError for a tensor that does not hold one number in each place."""
    if not isinstance(X, Tensor):
        return
    if X.is_nested:
        kind, remedy = "nested", f"torch.nested.to_padded_tensor({name}, 0.0)"
    elif X.layout != torch.strided:
        kind, remedy = "sparse", f"{name}.to_dense()"
    elif X.is_quantized:
        kind, remedy = "quantized", f"{name}.dequantize()"
    elif X.is_meta:
        kind, remedy = "meta", "one on a device that holds its numbers"
    else:
        return
    raise TypeError(f"{name} is a {kind} tensor; expected a dense one. Pass {remedy}.")
