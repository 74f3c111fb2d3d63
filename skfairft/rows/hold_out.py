"""Rows held out, for early stopping or to measure a bound or a path."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["hold_out"]


def hold_out(
    cells: NDArray[np.int64],
    w: NDArray[np.float64],
    fraction: float,
    random_state: np.random.RandomState,
) -> NDArray[np.int64]:
    """Return the sorted numbers of a random share of the rows, alike from each cell.

    A cell (n,) is a code for each pair of class and group. One row of each stays; if that leaves
    none to hold out, it is a ValueError. Unlike scikit-learn's stratified splits it works for any
    number of cells of any size, such as the intersections of several sensitive columns. Rows of
    weight zero are never held out: a loss over them says nothing.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.repeat([0, 1], [16, 4])
    >>> rows = hold_out(cells, np.ones(20), 0.25, np.random.RandomState(0))
    >>> np.bincount(cells[rows]).tolist()
    [4, 1]
    """
    counted = np.flatnonzero(w)
    order = counted[random_state.permutation(len(counted))]
    order = order[np.argsort(cells[order], kind="stable")]
    spare = np.delete(order, np.unique(cells[order], return_index=True)[1])
    size = min(max(1, round(fraction * len(counted))), len(spare))
    if size == 0:
        raise ValueError(
            f"None of {len(counted)} rows can be held out such that one of each class and group is "
            "left to train on. Gather more rows, or do without early_stopping and difference_bound."
        )
    # Rows at equal distances in the order of the cells, from a random first one.
    steps = np.floor(np.linspace(0, size, len(spare) + 1) + random_state.uniform())
    return np.sort(spare[np.diff(steps) > 0])
