"""Rows of features, labels, weights and groups, and the batches an epoch is made of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blocks import Features
from .dask import DaskFeatures
from .mapped import MappedFeatures, as_features, block_rows, is_mapped

__all__ = ["TensorBatches", "TensorRows", "effective_rows"]

# Share of a GPU's free memory that features may take; larger ones go there block by block.
_DEVICE_SHARE = 0.5
# Features of a cluster up to this size are brought to memory, larger ones to a temporary file.
_HERE_BYTES = 2**28


def effective_rows(w: Tensor) -> float:
    """Return how many rows of equal weight make means as exact as these.

    Examples
    --------
    >>> effective_rows(torch.tensor([7.0, 7.0, 0.0])), effective_rows(torch.tensor([4.0, 2.0, 2.0]))
    (2.0, 2.6666666666666665)
    """
    w = w.double() / w.max()
    return float(w.sum().square() / w.square().sum())


class TensorRows(torch.utils.data.Dataset[Any]):
    """Features (n, d), labels and weights (n,), cut by slices or index tensors.

    Without labels, as for prediction, these are zeros; without weights, ones. Codes of groups
    only a parity penalty needs: with them go the numbers of the rows, by which it remembers them.
    """

    def __init__(
        self, Z: Any, y: Tensor | None = None, w: Tensor | None = None, codes: Tensor | None = None
    ) -> None:
        Z = as_features(Z) if is_mapped(Z) else Z
        apart = isinstance(Z, (MappedFeatures, DaskFeatures))
        self.Z: Features = Z if apart else torch.as_tensor(Z)
        self.y = torch.zeros(len(self.Z), dtype=torch.int64) if y is None else y
        self.w = torch.ones(len(self.Z), dtype=torch.float64) if w is None else w
        self.codes = codes

    def __len__(self) -> int:
        return len(self.Z)

    def __getitem__(self, rows: Any) -> tuple[dict[str, Features], Tensor]:
        # The weights travel with the features: skorch's scoring callbacks expect labels in y.
        inputs: dict[str, Features] = {"Z": self._features(rows), "w": self.w[rows]}
        if self.codes is not None:
            inputs |= {"codes": self.codes[rows], "numbers": self._numbers[rows]}
        return inputs, self.y[rows]

    def _features(self, rows: Any) -> Features:
        """Return features as a tensor; of others more than a block stay where they are."""
        if isinstance(self.Z, Tensor):
            return self.Z[rows]
        Z = self.Z.take(rows)
        return Z[:] if len(Z) <= block_rows(Z.shape[1]) else Z

    @cached_property
    def _numbers(self) -> Tensor:
        return torch.arange(len(self), device=self.y.device)

    def cells(self, n_groups: int) -> Tensor:
        """Return true label and group of each row as one number, ``y * G + g``: (n,).

        Examples
        --------
        >>> TensorRows(torch.eye(2), torch.tensor([0, 1]), None, torch.tensor([2, 1])).cells(3)
        tensor([2, 4])
        """
        if self.codes is None:
            raise ValueError(
                "These rows have no groups, and are to be told apart by them: give "
                "TensorRows codes."
            )
        return self.y * n_groups + self.codes

    def take(self, index: NDArray[np.int64] | None) -> TensorRows:
        """Return some of the rows by their numbers; None is all of them."""
        if index is None:
            return self
        Z = self.Z[index] if isinstance(self.Z, Tensor) else self.Z.take(index)
        codes = None if self.codes is None else self.codes[index]
        return TensorRows(Z, self.y[index], self.w[index], codes)

    def here(self) -> TensorRows:
        """Return the rows with features that lie on a cluster brought here, in memory or a file."""
        if not isinstance(self.Z, DaskFeatures):
            return self
        return TensorRows(self.Z.local(_HERE_BYTES), self.y, self.w, self.codes)

    def with_unit_mean_weights(self) -> TensorRows:
        """Return the rows with weights scaled to mean 1."""
        return TensorRows(self.Z, self.y, self.w / self.w.mean(), self.codes)

    def to(self, device: torch.device) -> TensorRows:
        """Return the rows on a device; features too large for it stay, and go in blocks."""
        Z = self.Z.to(device) if isinstance(self.Z, Tensor) and _fits(self.Z, device) else self.Z
        codes = None if self.codes is None else self.codes.to(device)
        return TensorRows(Z, self.y.to(device), self.w.to(device), codes)


def _fits(Z: Tensor, device: torch.device) -> bool:
    if device.type != "cuda" or Z.device == device:
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return Z.nbytes <= _DEVICE_SHARE * free


class TensorBatches:
    """Iterate over `TensorRows` in slices: skorch's iterator, without a DataLoader.

    A DataLoader fetches row by row and collates, which costs more than the head's
    own arithmetic.

    A batch of all rows is passed on uncopied and in their order. With a seed the order is another
    one in each epoch, from a generator of its own.
    """

    def __init__(self, dataset: TensorRows, batch_size: int, seed: int | None = None) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Any]:
        n_rows = len(self.dataset)
        if n_rows <= self.batch_size:
            yield self.dataset[:]
        elif self._generator is None:
            for start in range(0, n_rows, self.batch_size):
                yield self.dataset[start : start + self.batch_size]
        else:
            order = torch.randperm(n_rows, generator=self._generator)
            if isinstance(self.dataset.Z, Tensor):
                order = order.to(self.dataset.Z.device)
            for rows in order.split(self.batch_size):
                yield self.dataset[rows]
