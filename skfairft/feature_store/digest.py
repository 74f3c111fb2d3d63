"""128-bit digests of single values: what fingerprints and row keys are made of."""

from __future__ import annotations

import marshal
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_128_digest

__all__ = ["UnknownContentError", "array_node", "node", "tensor_node"]


class UnknownContentError(TypeError):
    """Something is held whose content cannot be told."""


def node(tag: bytes, payload: bytes = b"", children: Iterable[bytes] = ()) -> bytes:
    """Return the 16 bytes of one value: of its kind, its own content, and digests of its parts.

    The length of the content makes it impossible to read in two ways; a tag has no NUL.

    Examples
    --------
    >>> node(b"str", b"a") == node(b"bytes", b"a")
    False
    """
    return xxh3_128_digest(b"%b\0%d\0%b%b" % (tag, len(payload), payload, b"".join(children)))


def array_node(array: np.ndarray[Any, Any]) -> bytes:
    """Return the digest of dtype, shape and bytes of an array that holds no objects.

    Examples
    --------
    >>> import numpy as np
    >>> array_node(np.zeros((2, 3))) == array_node(np.zeros((3, 2)))
    False
    """
    header = f"{array.dtype.descr}{array.dtype.name}{array.shape}".encode()
    flat = np.ascontiguousarray(array).reshape(-1)
    content = flat.view(np.uint8).data if flat.nbytes else b""
    return node(b"array", header, [xxh3_128_digest(content)])


_DTYPES = {kind: repr(kind).encode() for kind in vars(torch).values() if type(kind) is torch.dtype}


def tensor_node(tensor: Tensor) -> bytes:
    """Return the digest of dtype, shape and values of a tensor, wherever it lies.

    Sparse and quantized ones count as the numbers that they stand for; on the meta device there
    are none, which is an `UnknownContentError`.

    Examples
    --------
    >>> import torch
    >>> tensor_node(torch.ones(2)) == tensor_node(torch.ones(2).bfloat16())
    False
    """
    if tensor.is_meta:
        raise UnknownContentError(
            f"A tensor of shape {tuple(tensor.shape)} is on the meta device and has no values. "
            "Load the weights first."
        )
    tensor = tensor.detach()
    header = _DTYPES[tensor.dtype] + marshal.dumps(tuple(tensor.shape), 0)
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    flat = tensor.cpu().resolve_conj().resolve_neg().reshape(-1).contiguous()
    return node(b"tensor", header, [xxh3_128_digest(flat.view(torch.uint8).numpy().data)])
