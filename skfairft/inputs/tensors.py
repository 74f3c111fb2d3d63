"""Tensors as NumPy arrays, or one sentence about why not.

Nothing here imports torch before it is needed: who has a tensor has it.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["is_tensor", "refuse_odd_tensor", "to_array"]


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a tensor of torch.

    Examples
    --------
    >>> import torch
    >>> is_tensor(torch.ones(2)), is_tensor([1.0, 1.0])
    (True, False)
    """
    # Another thread may be importing torch: then nobody has a tensor yet.
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(value, kind)


def to_array(X: Any, name: str = "X") -> Any:
    """Return a torch tensor as a NumPy array on the CPU, anything else as it came.

    bfloat16 and smaller floats become float32, which holds each of their values; complex numbers
    of half precision likewise. Others are refused as by `refuse_odd_tensor`.

    Examples
    --------
    >>> import torch
    >>> to_array(torch.tensor([1.5, 2.0]).bfloat16())
    array([1.5, 2. ], dtype=float32)
    """
    if not is_tensor(X):
        return X
    import torch

    refuse_odd_tensor(X, name)
    tensor = X.detach().cpu().resolve_conj().resolve_neg()
    numpy_floats = (torch.float16, torch.float32, torch.float64)
    if tensor.is_floating_point() and tensor.dtype not in numpy_floats:
        tensor = tensor.float()
    elif tensor.dtype == torch.complex32:
        tensor = tensor.to(torch.complex64)
    return tensor.numpy()


def refuse_odd_tensor(X: Any, name: str = "X") -> None:
    """Raise a TypeError for a tensor that does not hold one number in each place."""
    if not is_tensor(X):
        return
    import torch

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
