"""Inputs of any kind as rows that can be loaded and made into a batch of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import _num_samples
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from .forward import number_tensor

__all__ = [
    "Rows",
    "holds_items",
    "is_dataset",
    "item_rows",
    "number_rows",
    "refuse_infinity",
    "take",
]

Index = slice | NDArray[np.int64]


def take(data: Any, index: Index) -> Any:
    """Return some rows of an array, tensor, DataFrame or sequence, as one of the same kind.

    Parameters
    ----------
    data : array, tensor, DataFrame or sequence, n rows
        What to take from.
    index : slice or ndarray of int64
        Which rows.

    Examples
    --------
    >>> take(["a", "b", "c"], np.array([2, 0]))
    ['c', 'a']
    """
    if hasattr(data, "iloc"):
        return data.iloc[index]
    if isinstance(index, slice) or hasattr(data, "shape"):
        return data[index]
    return [data[i] for i in index.tolist()]


@dataclass(frozen=True)
class Rows:
    """Rows of X, and how a module's input is made of them.

    Parameters
    ----------
    data : object
        What holds the rows.
    inputs : callable
        Makes loaded rows into a tensor, or a tuple or mapping of tensors.
    of_item : callable, default=None
        For the items of a dataset, which come into being as they are loaded: what
        of an item is the row.
    kind : {"numbers", "items", "preprocess"}
        Which function ``inputs`` is.
    """

    data: Any
    inputs: Callable[[Any], Any]
    of_item: Callable[[Any], Any] | None = None
    kind: str = "preprocess"

    def __len__(self) -> int:
        return int(_num_samples(self.data))

    @property
    def reads_files(self) -> bool | None:
        """Whether texts are names of files; None where ``preprocess`` does not say."""
        return getattr(self.inputs, "reads_files", None)

    def load(self, index: Index) -> Any:
        """Return some rows, as they are; items of a dataset as a list."""
        if self.of_item is None:
            return take(self.data, index)
        numbers = range(len(self))[index] if isinstance(index, slice) else index.tolist()
        if hasattr(self.data, "__getitems__"):  # torch's name for a batch of items
            items = self.data.__getitems__(list(numbers))
        else:
            items = [self.data[i] for i in numbers]
        if len(items) != len(numbers):
            raise ValueError(
                f"The dataset {type(self.data).__name__} gave {len(items)} items for "
                f"{len(numbers)} numbers; expected one each. Its __getitems__ must leave none out."
            )
        return [self.of_item(item) for item in items]


def number_rows(X: NDArray[Any] | Tensor, module: nn.Module) -> Rows:
    """Return rows of an array or a tensor, which become the module's only argument."""
    return Rows(X, lambda loaded: number_tensor(loaded, module), kind="numbers")


def item_rows(X: Any, preprocess: Callable[[Any], Any] | None) -> Rows:
    """Return the items of a dataset, or of a list that holds such.

    Without ``preprocess`` only the first entry counts of an item that is a tuple,
    such as (input, label); a mapping holds keyword arguments of the module.

    Parameters
    ----------
    X : torch.utils.data.Dataset or sequence
        Map-style, with a length.
    preprocess : callable or None
        Turns a list of items into the module's arguments; None stacks them.

    Raises
    ------
    ValueError
        For a dataset without length or item access.
    """
    if not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        raise ValueError(
            f"X is a {type(X).__name__} without length or item access; expected a map-style "
            "dataset: __len__ and __getitem__ let each row be found again."
        )
    if preprocess is None:
        return Rows(X, _stack, of_item=_input_of, kind="items")
    return Rows(X, preprocess, of_item=_whole)


def is_dataset(X: Any) -> bool:
    """Tell whether X is a torch dataset, or another one that gives batches of items."""
    return isinstance(X, Dataset) or hasattr(X, "__getitems__")


def holds_items(X: Any) -> bool:
    """Tell whether X is a list of what a torch dataset gives."""
    if not isinstance(X, (list, tuple)) or len(X) == 0:
        return False
    # What scikit-learn makes of a dataset's fold: a list of its items.
    first = X[0]
    if isinstance(first, tuple) and len(first) > 0:
        return isinstance(first[0], (Tensor, Mapping, np.ndarray))
    return isinstance(first, (Tensor, Mapping))


def refuse_infinity(values: Tensor) -> None:
    """Raise an error for infinite numbers; NaN is the module's to handle, or to hand on."""
    values = values.float() if values.itemsize == 1 else values  # torch cannot look into 8 bits
    if bool(torch.isinf(values).any()):
        raise ValueError(
            "Input X contains infinity; expected finite numbers, or NaN where the module masks it."
        )


def _whole(item: Any) -> Any:
    return item


def _input_of(item: Any) -> Any:
    """Return an item of a dataset without its label."""
    return item[0] if isinstance(item, (tuple, list)) and len(item) > 0 else item


def _stack(items: list[Any]) -> Any:
    """Stack items into a batch."""
    try:
        batch = default_collate(items)
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"The dataset's items, of type {type(items[0]).__name__}, cannot be stacked into a "
            f"batch: {error}. Return tensors of one shape, or set preprocess to a function that "
            "makes a list of items into a batch."
        ) from error
    for value in batch.values() if isinstance(batch, Mapping) else [batch]:
        if isinstance(value, Tensor) and value.is_floating_point():
            refuse_infinity(value)
    return batch
