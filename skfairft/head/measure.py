"""What a fit learns from the features before the rank comes in, measured once.

The settings of a search over ranks, group weights or importances share their folds, and with
them the standardization, the first head and the Fisher information: most of a fit's time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from xxhash import xxh3_128

from ..feature_store.fingerprint import fingerprint
from ..lowrank.fisher import FisherStatistics, layer_fisher
from ..lowrank.moments import Moments, column_moments
from ..rows.mapped import Features, block_rows
from .start import StartingHead, starting_head

__all__ = ["Measured", "forget", "measure"]

# Enough for the folds of a search; their sizes are those of some heads.
_MEMO_ENTRIES, _MEMO_BYTES = 32, 2**26


@dataclass(frozen=True)
class Measured:
    """The head to factorize, and what of the data decides how.

    Parameters
    ----------
    start : StartingHead
        The dense layer, and what follows it. Shared: not to be changed.
    moments : tuple of Tensors of shape (d,), float64
        Mean and scale of each feature.
    statistics : FisherStatistics
        Of each group.
    """

    start: StartingHead
    moments: Moments
    statistics: FisherStatistics

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        tail = [] if self.start.tail is None else [*self.start.tail.parameters()]
        tensors = [self.start.weight, self.start.bias, *self.moments, self.statistics.squares]
        return sum(tensor.nbytes for tensor in (*tensors, *tail))


def measure(
    Z: Features,
    y: Tensor,
    codes: Tensor,
    w: Tensor,
    *,
    n_groups: int,
    n_classes: int,
    C: float,
    head: nn.Module | None,
    hidden: bool = False,
    start: StartingHead | None = None,
) -> Measured:
    """Return the starting head, the moments and the Fisher statistics of a dataset.

    The last results are remembered by the content of all arguments.

    Parameters
    ----------
    Z : Tensor or MappedFeatures of shape (n, d)
        Features.
    y, codes : Tensor of shape (n,), int64
        Encoded label and group of each row.
    w : Tensor of shape (n,), float64
        Sample weights.
    n_groups, n_classes : int
        Numbers of groups and of classes.
    C, head, hidden
        As for `starting_head`.
    start : StartingHead, optional
        To start from, in place of one fitted on the data.

    Examples
    --------
    >>> import torch
    >>> Z, one = torch.eye(2).double(), torch.ones(2).double()
    >>> y, codes = torch.tensor([0, 1]), torch.tensor([0, 1])
    >>> found = measure(Z, y, codes, one, n_groups=2, n_classes=2, C=1.0, head=None)
    >>> found.start.weight.shape, found.statistics.fisher.shape
    (torch.Size([2, 2]), torch.Size([2, 2]))
    >>> measure(Z, y, codes, one, n_groups=2, n_classes=2, C=1.0, head=None) is found
    True
    """

    def compute() -> Measured:
        moments = column_moments(Z, w)
        first = start
        if first is None:
            first = starting_head(head, Z, y, w, n_classes, C, moments, hidden=hidden)
        statistics = layer_fisher(
            Z, y, codes, w, n_groups=n_groups, layer=first.output, tail=first.tail
        )
        return Measured(first, moments, statistics)

    if start is not None:
        return compute()
    key = _key(Z, (y, codes, w), (n_groups, n_classes, C, hidden), head)
    with _memo_lock:
        if key in _memo:
            _memo.move_to_end(key)
            return _memo[key]
    measured = compute()
    with _memo_lock:
        _memo[key] = measured
        while (
            len(_memo) > _MEMO_ENTRIES or sum(each.nbytes for each in _memo.values()) > _MEMO_BYTES
        ):
            _memo.popitem(last=False)
    return measured


def forget() -> None:
    """Forget all results, as in a new process."""
    with _memo_lock:
        _memo.clear()


def _key(
    Z: Features, columns: tuple[Tensor, ...], settings: tuple[Any, ...], head: nn.Module | None
) -> bytes:
    """Return a hash of all that a measurement depends on; features are read in blocks."""
    digest = xxh3_128(f"{Z.shape} {Z[:0].dtype} {settings}".encode())
    step = block_rows(Z.shape[1])
    for start in range(0, len(Z), step):
        digest.update(Z[start : start + step].contiguous().numpy().data)
    for column in columns:
        digest.update(f"{column.dtype}".encode())
        digest.update(column.contiguous().numpy().data)
    digest.update(b"" if head is None else fingerprint(head))
    return digest.digest()


_memo: OrderedDict[bytes, Measured] = OrderedDict()
_memo_lock = threading.Lock()
