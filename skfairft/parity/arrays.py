"""What moments are computed with: arrays of NumPy and tensors of torch alike.

Decisions are counted in arrays, and audits have nothing else; probabilities in training are tensors
with gradients. Where both libraries have a function of the same name that takes the same arguments
by place, such as ``where(which, a, b)`` or ``stack(parts, axis)``, it is called of `library`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..inputs.tensors import is_tensor
from .tally import Floats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Numbers", "as_in", "highest", "library", "lowest"]

Numbers = TypeVar("Numbers", Floats, "Tensor")
"""Arrays in, arrays out; tensors in, tensors out."""


def library(values: Any) -> Any:
    """Return torch for a tensor, NumPy for anything else.

    Examples
    --------
    >>> library(np.ones(2)).__name__
    'numpy'
    """
    if not is_tensor(values):
        return np
    import torch

    return torch


def as_in(constants: Floats, values: Numbers) -> Numbers:
    """Return constants as an array, or as a tensor of the dtype of the values, whichever these are.

    Examples
    --------
    >>> import torch
    >>> as_in(np.array([1.0, 2.0]), torch.zeros(1))
    tensor([1., 2.])
    """
    if isinstance(values, np.ndarray):
        return constants
    return library(values).from_numpy(constants).to(values)


def lowest(values: Numbers) -> Numbers:
    """Return the smallest along the last axis: (..., G) -> (...).

    Examples
    --------
    >>> lowest(np.array([[2.0, 1.0], [3.0, 4.0]])).tolist()
    [1.0, 3.0]
    """
    if isinstance(values, np.ndarray):
        return _last_first(values).min(axis=0).T
    return values.amin(-1)


def highest(values: Numbers) -> Numbers:
    """Return the largest along the last axis: (..., G) -> (...).

    Examples
    --------
    >>> highest(np.array([[2.0, 1.0], [3.0, 4.0]])).tolist()
    [2.0, 4.0]
    """
    if isinstance(values, np.ndarray):
        return _last_first(values).max(axis=0).T
    return values.amax(-1)


def _last_first(values: Floats) -> Floats:
    """Return values with their axes turned around, such that NumPy compares all rows at once.

    Along an axis of a few groups it goes row by row, which takes up to 25 times as long.
    """
    return np.ascontiguousarray(values.T)
