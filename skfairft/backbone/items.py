"""Inputs of any kind as rows that can be loaded and made into a batch of tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import _check_feature_names, _num_samples, check_array, validate_data
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ..inputs.feature_table import read_features, refuse_mapping, refuse_odd_rows
from .forward import number_tensor

__all__ = ["InputRows", "check_rows", "is_dataset", "take"]

Index = slice | NDArray[np.int64]


def take(data: Any, index: Index) -> Any:
    """Return some of n rows of an array, tensor, DataFrame or sequence, as one of the same kind.

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
class InputRows:
    """Rows of X, and how a module's input is made of them."""

    data: Any  # what holds the rows
    inputs: Callable[[Any], Any]  # makes loaded rows into a tensor, or a tuple or mapping of some
    # What of an item is the row; for a dataset, whose items come into being as they are loaded.
    of_item: Callable[[Any], Any] | None = None
    kind: str = "preprocess"  # which function ``inputs`` is: "numbers", "items" or "preprocess"

    def __len__(self) -> int:
        return int(_num_samples(self.data))

    @property
    def reads_files(self) -> bool | None:
        """Whether texts are names of files; None where ``preprocess`` does not say."""
        return getattr(self.inputs, "reads_files", None)

    def made(self, loaded: Any) -> Any:
        """Return a batch of loaded rows as the module's input, which may be written into."""
        own = self.kind == "preprocess" and self.of_item is None
        # The function, or a module that gets what it hands on, may work in place.
        return self.inputs(_copied(loaded) if own else loaded)

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


def _copied(rows: Any) -> Any:
    copy = getattr(rows, "clone", None) or getattr(rows, "copy", None)  # of tensors, of others
    return rows if copy is None else copy()


def check_rows(extractor: Any, X: Any, *, reset: bool) -> InputRows:
    """Validate X for an extractor, set what scikit-learn notes of it, and return its rows."""
    refuse_mapping(X)
    refuse_odd_rows(X)
    rows = _item_rows(X, extractor.preprocess)
    if rows is not None:
        if reset and hasattr(extractor, "n_features_in_"):
            del extractor.n_features_in_
        _check_feature_names(extractor, X, reset=reset)
        if len(rows) == 0:
            raise ValueError("X has 0 rows; at least one is needed.")
        return rows
    numbers = _numbers(extractor, X, reset=reset)
    return InputRows(
        numbers, lambda loaded: number_tensor(loaded, extractor.module), kind="numbers"
    )


def _item_rows(X: Any, preprocess: Callable[[Any], Any] | None) -> InputRows | None:
    """Return the rows of what is not an array of numbers, None of what is.

    Without ``preprocess`` only the first entry counts of an item that is a tuple,
    such as (input, label); a mapping holds keyword arguments of the module.
    """
    if not (is_dataset(X) or (preprocess is None and _holds_items(X))):
        return None if preprocess is None else InputRows(X, preprocess)
    if not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        raise ValueError(
            f"X is a {type(X).__name__} without length or item access; expected a map-style "
            "dataset: __len__ and __getitem__ let each row be found again."
        )
    if preprocess is None:
        return InputRows(X, _stack, of_item=_input_of, kind="items")
    return InputRows(X, preprocess, of_item=lambda item: item)


def _numbers(extractor: Any, X: Any, *, reset: bool) -> NDArray[Any] | Tensor:
    """Return an array or a tensor that is the module's only argument."""
    if isinstance(X, Tensor):
        # validate_data would make it an array, and token ids then could not be told
        # from numbers; a view on one element per row is enough for its bookkeeping.
        if X.ndim < 2:
            raise ValueError(
                f"X is a {X.ndim}-d tensor of shape {tuple(X.shape)}; expected one row per "
                "sample. Use X.reshape(-1, 1) for one feature, X[None] for one sample."
            )
        if X.is_floating_point():
            _refuse_infinity(X)
        shape_only = np.broadcast_to(np.zeros(1, dtype=np.float32), X.shape[:2])
        validate_data(extractor, shape_only, reset=reset, ensure_all_finite=False)
        return X.detach()
    _refuse_texts(X)

    def validate(X: Any) -> NDArray[Any]:
        if getattr(getattr(X, "dtype", None), "kind", "") == "T":
            X = X.astype(object)  # scikit-learn does not know NumPy's newer texts
        checks = {"allow_nd": True, "dtype": "numeric", "ensure_all_finite": "allow-nan"}
        if reset or hasattr(extractor, "n_features_in_"):
            found = validate_data(extractor, X, reset=reset, **checks)
        else:  # not fitted, as it need not be
            found = check_array(X, estimator=extractor, **checks)
        return found.astype(np.float64) if found.dtype.kind == "O" else found

    with np.errstate(over="ignore", invalid="ignore"):  # in scikit-learn's look for infinities
        return read_features(X, validate)


def is_dataset(X: Any) -> bool:
    """Tell whether X is a torch dataset, or another one that gives batches of items."""
    return isinstance(X, Dataset) or hasattr(X, "__getitems__")


def _holds_items(X: Any) -> bool:
    """Tell whether X is a list of what a torch dataset gives."""
    if not isinstance(X, (list, tuple)) or len(X) == 0:
        return False
    # What scikit-learn makes of a dataset's fold: a list of its items.
    first = X[0]
    if isinstance(first, tuple) and len(first) > 0:
        return isinstance(first[0], (Tensor, Mapping, np.ndarray))
    return isinstance(first, (Tensor, Mapping))


def _refuse_texts(X: Any) -> None:
    """Raise an error that knows a remedy where X holds texts or paths."""
    if hasattr(X, "ndim") and X.ndim != 1:
        return
    if (not isinstance(X, (list, tuple)) and not hasattr(X, "ndim")) or _num_samples(X) == 0:
        return
    first = X.iloc[0] if hasattr(X, "iloc") else X[0]
    if isinstance(first, (str, os.PathLike)):
        raise ValueError(
            f"X holds {type(first).__name__} objects such as {str(first)[:40]!r}, and preprocess "
            "is None; set preprocess=Texts(tokenizer) or ImageFiles(size) of "
            "skfairft.preprocessing, or a function that makes a slice of X into tensors."
        )


def _refuse_infinity(values: Tensor) -> None:
    """Raise an error for infinite numbers; NaN is the module's to handle, or to hand on."""
    values = values.float() if values.itemsize == 1 else values  # torch cannot look into 8 bits
    if bool(torch.isinf(values).any()):
        raise ValueError(
            "Input X contains infinity; expected finite numbers, or NaN where the module masks it."
        )


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
            _refuse_infinity(value)
    return batch
