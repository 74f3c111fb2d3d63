"""What a fit learns from the features before the rank comes in, measured once.

The settings of a search over ranks, group weights or importances share their folds, and with
them the standardization, the first head and the Fisher information: most of a fit's time. Each of
these is remembered by itself, so that a setting pays only for what it needs besides.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from xxhash import xxh3_128

from ..feature_store.fingerprint import fingerprint
from ..lowrank.covariance import CovarianceStatistics, GroupCovariance
from ..lowrank.fisher import FisherStatistics, layer_fisher
from ..lowrank.gaps import CellMeans, CellStatistics
from ..lowrank.moments import ColumnMoments, Moments
from ..lowrank.statistics import Part, fill
from ..rows.blocks import Features
from ..rows.dask import DaskFeatures
from ..rows.mapped import block_rows
from ..rows.parts import Parts
from ..rows.tensor_rows import TensorRows
from .choose_c import choose_strength
from .group_heads import fisher_by_group
from .start import StartingHead, hidden_rows, starting_head

__all__ = ["Measured", "chosen_strength", "forget", "measure"]

T = TypeVar("T")

# Enough for what four settings of the folds of a search need; their sizes are those of some heads.
_MEMO_ENTRIES, _MEMO_BYTES = 128, 2**26


@dataclass(frozen=True)
class Measured:
    """The head to factorize, and what of the data decides how.

    Parameters
    ----------
    start : StartingHead
        The dense layer, and what follows it. Shared: not to be changed.
    moments : Moments
        Mean and scale (d,) of each feature.
    statistics : FisherStatistics
        Of each group, under the starting head or under its own.
    covariance : CovarianceStatistics or None
        Of each group; None where it was not asked for.
    cells : CellStatistics or None
        Mean features of each true label and group; None without labels.
    """

    start: StartingHead
    moments: Moments
    statistics: FisherStatistics
    covariance: CovarianceStatistics | None = None
    cells: CellStatistics | None = None


def measure(
    rows: TensorRows,
    *,
    n_groups: int,
    n_classes: int,
    C: float,
    head: nn.Module | None,
    hidden: bool = False,
    start: StartingHead | None = None,
    heads: str = "pooled",
    covariance: bool = False,
    labels: Tensor | None = None,
    n_labels: int | None = None,
) -> Measured:
    """Return the starting head and the statistics of rows.

    Two passes besides those of the fit: one for all that the head does not show, one for the
    Fisher information under it. What was measured last is remembered by the content of all that
    it depends on.

    Parameters
    ----------
    rows : TensorRows
        With their groups; the labels are what the head is to tell apart.
    n_groups, n_classes : int
        Numbers of groups, and of what the head tells apart.
    C, head, hidden
        As for `starting_head`.
    start : StartingHead, optional
        To start from, in place of one fitted on the data.
    heads : {"pooled", "by_group"}, default="pooled"
        Whether the groups' Fisher information is that of the starting head, or of heads fitted on
        each group's rows alone, see `fisher_by_group`.
    covariance : bool, default=False
        Whether to measure the covariance of each group.
    labels : Tensor of shape (n,), int64, optional
        The true labels, for the mean features of each label and group; None: not measured.
    n_labels : int, optional
        Number of true labels k; None means ``n_classes``.

    Raises
    ------
    ValueError
        If ``heads="by_group"`` meets a pre-trained head, or a group without some class; or as
        `starting_head`.

    Examples
    --------
    >>> import torch
    >>> y = torch.tensor([0, 1])
    >>> rows = TensorRows(torch.eye(2).double(), y, None, y)
    >>> found = measure(rows, n_groups=2, n_classes=2, C=1.0, head=None, labels=y)
    >>> found.start.weight.shape, found.statistics.fisher.shape, found.cells.means.shape
    (torch.Size([2, 2]), torch.Size([2, 2]), torch.Size([2, 2, 2]))
    >>> again = measure(rows, n_groups=2, n_classes=2, C=0.5, head=None)
    >>> again.moments is found.moments, again.start is found.start
    (True, False)
    """
    if heads not in ("pooled", "by_group"):
        raise ValueError(f"heads is {heads!r}; expected 'pooled' or 'by_group'.")
    by_group = heads == "by_group"
    if by_group and head is not None:
        raise ValueError(
            f"heads='by_group' fits a linear head on the rows of each group, and got a pre-trained "
            f"head, {type(head).__name__}, of which there is one for all groups; expected "
            "head=None. Pass head=None, or heads='pooled'."
        )
    d, codes, w = rows.Z.shape[1], rows.codes, rows.w
    assert codes is not None
    n_labels = n_classes if n_labels is None else n_labels
    data = _key(_content(rows.Z), codes, w, n_groups)
    keys: dict[str, bytes] = {"moments": _key(data, "moments")}
    parts = {"moments": Part(partial(ColumnMoments, d), (w,))}
    if covariance:
        keys["covariance"] = _key(data, "covariance")
        parts["covariance"] = Part(partial(GroupCovariance, n_groups, d), (codes, w))
    if labels is not None:
        keys["cells"] = _key(data, "cells", labels, n_labels)
        parts["cells"] = Part(partial(CellMeans, n_labels, n_groups, d), (labels, codes, w))
    found = {name: _recall(key) for name, key in keys.items()}
    unknown = {name: parts[name] for name, value in found.items() if value is None}
    for name, statistic in (fill(rows.Z, unknown) if unknown else {}).items():
        found[name] = _remember(keys[name], statistic.result())

    moments, task = found["moments"], _key(data, rows.y, n_classes, C)
    of_start = _key(task, "start", hidden, b"" if head is None else fingerprint(head))
    first = start
    if first is None:
        first = _once(
            of_start, lambda: starting_head(head, rows, n_classes, C, moments, hidden=hidden)
        )
    if by_group:
        alone = partial(fisher_by_group, rows, n_groups=n_groups, n_classes=n_classes, C=C)
        statistics = _once(_key(task, "by_group"), alone)
    else:
        pooled = partial(layer_fisher, rows, n_groups=n_groups, layer=first.output, tail=first.tail)
        statistics = _once(_key(of_start, "fisher"), pooled) if start is None else pooled()
    return Measured(first, moments, statistics, found.get("covariance"), found.get("cells"))


def chosen_strength(
    rows: TensorRows,
    *,
    n_classes: int,
    head: nn.Module | None,
    codes: NDArray[np.int64] | None = None,
    alike: bool = False,
    parts: Parts | None = None,
) -> float:
    """Return the ``C`` that `choose_strength` chooses for the output layer, remembered likewise.

    Parameters
    ----------
    rows, n_classes, head
        As for `measure`; the head is none of the classes, which would not be fitted.
    codes, alike, parts
        As for `choose_strength`.
    """
    given = b"" if head is None else fingerprint(head)
    folds = b"" if codes is None else codes.tobytes()
    of = b"" if parts is None else parts.of
    key = _key(_content(rows.Z), rows.y, rows.w, n_classes, "strength", given, folds, alike, of)
    behind = rows if head is None else hidden_rows(head, rows)
    return _once(key, lambda: choose_strength(behind, n_classes, codes, alike=alike, parts=parts))


def forget() -> None:
    """Forget all results, as in a new process."""
    with _memo_lock:
        _memo.clear()


def _nbytes(part: Any) -> int:
    """Return the bytes of the tensors in a part of `Measured`."""
    if isinstance(part, Tensor):
        return part.nbytes
    if isinstance(part, nn.Module):
        return sum(parameter.nbytes for parameter in part.parameters())
    if isinstance(part, tuple):
        return sum(map(_nbytes, part))
    return sum(map(_nbytes, vars(part).values())) if is_dataclass(part) else 0


def _content(Z: Features) -> bytes:
    """Return a hash of features, which are read in blocks; of a cluster's what stands for them."""
    if isinstance(Z, DaskFeatures):
        return Z.token
    digest = xxh3_128(f"{Z.shape} {Z[:0].dtype}".encode())
    step = block_rows(Z.shape[1])
    for start in range(0, len(Z), step):
        digest.update(Z[start : start + step].contiguous().numpy().data)
    return digest.digest()


def _key(*given: Any) -> bytes:
    """Return a hash of tensors, of bytes such as another key, and of settings."""
    digest = xxh3_128()
    for each in given:
        if isinstance(each, Tensor):
            digest.update(f"{each.dtype} {tuple(each.shape)}".encode())
            digest.update(each.contiguous().numpy().data)
        else:
            said = each if isinstance(each, bytes) else repr(each).encode()
            digest.update(f"{type(each).__name__} {len(said)} ".encode() + said)
    return digest.digest()


def _once(key: bytes, compute: Callable[[], T]) -> T:
    """Return what is remembered, or compute it."""
    known: T | None = _recall(key)
    return _remember(key, compute()) if known is None else known


def _recall(key: bytes) -> Any:
    """Return what is remembered, or None."""
    with _memo_lock:
        if key in _memo:
            _memo.move_to_end(key)
        return _memo.get(key)


def _remember(key: bytes, part: T) -> T:
    """Remember a result, forget the eldest where there is no room for it, and return it."""
    if _nbytes(part) <= _MEMO_BYTES:  # one that is larger would drive out all others
        with _memo_lock:
            _memo[key] = part
            while len(_memo) > _MEMO_ENTRIES or sum(map(_nbytes, _memo.values())) > _MEMO_BYTES:
                _memo.popitem(last=False)
    return part


_memo: OrderedDict[bytes, Any] = OrderedDict()
_memo_lock = threading.Lock()
