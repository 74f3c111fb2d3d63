"""The group of a row, estimated from its features and its label: ``P(g | x, y)``.

Learnt from rows whose group is known, it says of the others how likely each group is. With the
label among its inputs it may differ between the classes: where missing depends on features and
label alone, so that rows with and without a group have the same groups among those of one x and y,
what is true of the former holds for the latter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..lowrank.layer import LowRankHead
from ..rows.blocks import Features
from ..rows.dask import DaskFeatures
from ..rows.mapped import allocate_features, as_features, double_blocks, release_pages
from ..rows.tensor_rows import TensorRows
from .measure import chosen_strength
from .modules import head_scores
from .outputs import fit_linear_head

__all__ = ["GroupHead", "fit_group_head", "group_strength"]

# Features beside labels, of rows whose group is known, beyond which they go to a file.
_BYTES = 2**28


@dataclass(frozen=True)
class GroupHead:
    """Scores of the groups: linear in the features, with an intercept for each label.

    Parameters
    ----------
    layer : nn.Module
        Of the features, (n, d) -> (n, G).
    by_label : Tensor of shape (k, G), float64
        What each label adds.
    """

    layer: nn.Module
    by_label: Tensor

    def shares(self, Z: Features, y: Tensor) -> Tensor:
        """Return the probabilities (n, G) of the groups of rows with these labels."""
        return torch.softmax(head_scores(self.layer, Z) + self.by_label[y], dim=1)


def group_strength(
    rows: TensorRows,
    *,
    n_classes: int,
    n_groups: int,
    codes: NDArray[np.int64] | None = None,
) -> float:
    """Return the ``C`` of `fit_group_head`, chosen by log loss as of any other head.

    Parameters are as there, and ``codes`` (n,) as for `choose_strength`: the folds of rows that are
    given. If one of them holds all rows of known group, these are divided alike.
    """
    target, _ = _target(rows, n_classes)
    if codes is not None:
        codes = codes[_known(rows)]
        codes = codes if len(np.unique(codes)) > 1 else None
    return chosen_strength(target, n_classes=n_groups, head=None, codes=codes)


def fit_group_head(rows: TensorRows, *, n_classes: int, n_groups: int, C: float) -> GroupHead:
    """Fit the groups of rows to their features and labels, by logistic regression.

    Parameters
    ----------
    rows : TensorRows
        Rows whose group is known, with labels; those with the code -1 are left out.
    n_classes, n_groups : int
        Numbers of classes k and of groups G.
    C : float
        Inverse strength of the penalty on standardized features and labels.

    Examples
    --------
    >>> y, s = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 1, 1, -1])
    >>> rows = TensorRows(torch.zeros(5, 1).double(), y, None, s)
    >>> head = fit_group_head(rows, n_classes=2, n_groups=2, C=1e6)
    >>> head.shares(torch.zeros(2, 1), torch.tensor([0, 1]))[:, 1].numpy().round(2).tolist()
    [0.5, 1.0]
    """
    target, d = _target(rows, n_classes)
    weight, bias = fit_linear_head(target, n_groups, C)
    by_label = torch.cat([torch.zeros(1, n_groups, dtype=torch.float64), weight[d:]])
    return GroupHead(LowRankHead(weight[:d], None, bias), by_label)


def _known(rows: TensorRows) -> NDArray[np.int64]:
    """Return the numbers of the rows of known group that count."""
    assert rows.codes is not None
    return torch.nonzero((rows.codes >= 0) & (rows.w > 0.0))[:, 0].numpy()


def _target(rows: TensorRows, n_classes: int) -> tuple[TensorRows, int]:
    """Return the rows of known group with their labels among the features, and the number d."""
    rows = rows.take(_known(rows)).here()
    assert rows.codes is not None
    assert not isinstance(rows.Z, DaskFeatures)
    d = rows.Z.shape[1]
    beside = allocate_features((len(rows), d + n_classes - 1), "float64", limit=_BYTES)
    for part, block in double_blocks(rows.Z):
        beside[part, :d] = block.numpy()
        own = nn.functional.one_hot(rows.y[part], n_classes)
        beside[part, d:] = own[:, 1:].numpy()
        release_pages(beside)
    return TensorRows(as_features(beside), rows.codes, rows.w), d
