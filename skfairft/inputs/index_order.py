"""Whether pandas objects whose rows are taken by position name them in the same order."""

from __future__ import annotations

from typing import Any

import numpy as np

from .exceptions import FairnessWarning
from .warn import warn_user

__all__ = ["warn_of_index_order"]


def warn_of_index_order(**given: Any) -> None:
    """Warn of pandas objects that hold the same index labels in another order.

    ``given`` is what belongs together row by row, by name; anything without an index passes. The
    `FairnessWarning` names the first one that others differ from, and them.
    """
    import pandas as pd

    indices = {
        name: values.index
        for name, values in given.items()
        if isinstance(getattr(values, "index", None), pd.Index)
    }
    differing = (
        (first, moved)
        for first, index in indices.items()
        if (moved := [name for name, other in indices.items() if _is_reordered(index, other)])
    )
    first, moved = next(differing, ("", []))
    if not moved:
        return
    by_label = " and ".join(f"{name}.loc[{first}.index]" for name in moved)
    if not indices[first].is_unique:
        by_label = "rows that are sorted alike (index labels repeat, so .loc cannot)"
    warn_user(
        f"{' and '.join(moved)} and {first} hold the same index labels in another order, and rows "
        f"are taken by position, as elsewhere in scikit-learn. Pass {by_label} if the index says "
        f"which rows belong together; if their position does, {moved[0]}.to_numpy(), or all with "
        ".reset_index(drop=True).",
        FairnessWarning,
    )


def _is_reordered(index: Any, other: Any) -> bool:
    """Tell whether two indices hold the same labels, as often, but not in the same places."""
    if index is other or len(index) != len(other) or index.nlevels != other.nlevels:
        return False
    if index.equals(other):
        return False
    import pandas as pd

    codes, labels = pd.factorize(index.append(other), use_na_sentinel=False)
    ours, theirs = codes[: len(index)], codes[len(index) :]
    if np.array_equal(ours, theirs):
        return False
    counts = [np.bincount(each, minlength=len(labels)) for each in (ours, theirs)]
    return bool((counts[0] == counts[1]).all())
