"""The Fisher information of heads that are fitted on each group's rows alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ..lowrank.fisher import FisherStatistics, layer_fisher
from ..rows.mapped import Features
from ..rows.tensor_rows import TensorRows
from .start import StartingHead, fit_linear_head

__all__ = ["fisher_by_group", "missing_classes"]


def missing_classes(
    y: Tensor, codes: Tensor, w: Tensor, *, n_classes: int, n_groups: int
) -> list[tuple[int, int]]:
    """Return which groups have no row of which classes; rows of weight zero are none.

    Parameters
    ----------
    y, codes : Tensor of shape (n,), int64
        Encoded label and group of each row.
    w : Tensor of shape (n,)
        Sample weights.
    n_classes, n_groups : int
        Numbers of classes k and of groups G.

    Returns
    -------
    list of (int, int)
        Group and class.

    Examples
    --------
    >>> y, codes = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])
    >>> missing_classes(y, codes, torch.ones(3), n_classes=2, n_groups=2)
    [(1, 1)]
    """
    counted = w > 0
    cells = (codes * n_classes + y)[counted]
    empty = torch.nonzero(torch.bincount(cells, minlength=n_groups * n_classes) == 0)[:, 0]
    return [divmod(cell, n_classes) for cell in empty.tolist()]


def fisher_by_group(
    Z: Features,
    y: Tensor,
    codes: Tensor,
    w: Tensor,
    *,
    n_groups: int,
    n_classes: int,
    C: float,
) -> FisherStatistics:
    """Return each group's Fisher information under a head fitted on its rows alone.

    The other reading of section 3.3: ``I_g`` is then that of a head which has seen no other
    group, not of the one head that is factorized.

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
    C : float
        As for `fit_linear_head`, which standardizes each group by itself.

    Returns
    -------
    FisherStatistics
        Of the groups.

    Raises
    ------
    ValueError
        If a group has no row of some class.

    Examples
    --------
    >>> Z, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0, 1])
    >>> one, codes = torch.ones(4).double(), torch.tensor([0, 0, 1, 1])
    >>> found = fisher_by_group(Z, y, codes, one, n_groups=2, n_classes=2, C=1.0)
    >>> found.fisher.shape
    torch.Size([2, 1])
    """
    missing = missing_classes(y, codes, w, n_classes=n_classes, n_groups=n_groups)
    if missing:
        said = "; ".join(f"group {group} has none of class {label}" for group, label in missing)
        raise ValueError(
            f"heads='by_group' fits a head on the rows of each group alone, and each of the "
            f"{n_groups} groups needs rows of all {n_classes} classes, but {said}. Leave these "
            "groups out or join them with others, or take the importance from one head for all "
            "(heads='pooled')."
        )
    data, found = TensorRows(Z, y, w, codes), []
    for group in range(n_groups):
        rows = data.take(torch.nonzero(codes == group)[:, 0].numpy())
        head = StartingHead(*fit_linear_head(rows.Z, rows.y, rows.w, n_classes, C), None)
        alone = torch.zeros(len(rows), dtype=torch.int64)
        found.append(layer_fisher(rows.Z, rows.y, alone, rows.w, n_groups=1, layer=head.output))
    return FisherStatistics(
        torch.cat([each.squares for each in found]),
        torch.cat([each.weights for each in found]),
        torch.cat([each.counts for each in found]),
    )
