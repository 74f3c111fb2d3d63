"""The Fisher information of heads that are fitted on each group's rows alone."""

from __future__ import annotations

import torch

from ..lowrank.fisher import FisherStatistics, layer_fisher
from ..rows.tensor_rows import TensorRows
from .outputs import fit_linear_head
from .start import StartingHead

__all__ = ["fisher_by_group", "missing_classes"]


def missing_classes(rows: TensorRows, *, n_classes: int, n_groups: int) -> list[tuple[int, int]]:
    """Return which groups have no row of which classes; rows of weight zero are none.

    Examples
    --------
    >>> rows = TensorRows(torch.eye(3), torch.tensor([0, 1, 0]), None, torch.tensor([0, 0, 1]))
    >>> missing_classes(rows, n_classes=2, n_groups=2)
    [(1, 1)]
    """
    cells = rows.cells(n_groups)[rows.w > 0]
    there = torch.bincount(cells, minlength=n_classes * n_groups).reshape(n_classes, n_groups)
    return [(group, label) for group, label in torch.nonzero(there.T == 0).tolist()]


def fisher_by_group(
    rows: TensorRows, *, n_groups: int, n_classes: int, C: float
) -> FisherStatistics:
    """Return each group's Fisher information under a head fitted on its rows alone.

    The other reading of section 3.3: ``I_g`` is then that of a head which has seen no other
    group, not of the one head that is factorized. `fit_linear_head` standardizes each group by
    itself.

    Raises
    ------
    ValueError
        If a group has no row of some class.

    Examples
    --------
    >>> Z, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0, 1])
    >>> rows = TensorRows(Z, y, None, torch.tensor([0, 0, 1, 1]))
    >>> fisher_by_group(rows, n_groups=2, n_classes=2, C=1.0).fisher.shape
    torch.Size([2, 1])
    """
    missing = missing_classes(rows, n_classes=n_classes, n_groups=n_groups)
    if missing:
        said = "; ".join(f"group {group} has none of class {label}" for group, label in missing)
        raise ValueError(
            f"heads='by_group' fits a head on the rows of each group alone, and each of the "
            f"{n_groups} groups needs rows of all {n_classes} classes, but {said}. Leave these "
            "groups out or join them with others, or take the importance from one head for all "
            "(heads='pooled')."
        )
    assert rows.codes is not None
    found = []
    for group in range(n_groups):
        own = rows.take(torch.nonzero(rows.codes == group)[:, 0].numpy())
        head = StartingHead(*fit_linear_head(own, n_classes, C), None)
        alone = TensorRows(own.Z, own.y, own.w, torch.zeros(len(own), dtype=torch.int64))
        found.append(layer_fisher(alone, n_groups=1, layer=head.output))
    return FisherStatistics(
        torch.cat([each.squares for each in found]),
        torch.cat([each.weights for each in found]),
        torch.cat([each.counts for each in found]),
    )
