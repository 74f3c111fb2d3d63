"""Which class is the positive one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from .encoding import label_order, python_value
from .words import listed, shown

__all__ = ["code_of", "only", "positive_label"]


def code_of(label: Any, names: Sequence[Any]) -> int | None:
    """Return the place of a label among names, as Python compares values; None where it is none.

    Examples
    --------
    >>> import numpy as np
    >>> code_of(np.str_("b"), ["a", "b"]), code_of(np.True_, [0, 1]), code_of("1", [0, 1])
    (1, 1, None)
    """
    label = python_value(label)
    found = (i for i, name in enumerate(names) if (name == label) is True)  # an array has no truth
    return next(found, None)


def only(code: int) -> range:
    """Return the codes of positive classes, where that is a single one."""
    return range(code, code + 1)


def positive_label(pos_label: Any, classes: NDArray[Any], y: Any) -> Any:
    """Return the class that `fit` takes for positive; None where each is in turn.

    Parameters
    ----------
    pos_label : label or None
        The one that is asked for.
    classes : ndarray of shape (k,)
        Those of ``y``, sorted.
    y : array-like of shape (n,)
        The labels as they were given. Of two the last one is positive, by the order of their
        categories where they have one.

    Raises
    ------
    ValueError
        If no row has the label.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> names, y = np.array(["high", "low"]), ["low", "high"]
    >>> positive_label(None, names, y), positive_label(None, names, pd.Categorical(y, y, True))
    ('low', 'high')
    """
    names = classes.tolist()
    if pos_label is not None:
        code = code_of(pos_label, names)
        if code is None:
            raise ValueError(
                f"pos_label={shown(pos_label)} is no class of y, which holds [{listed(names)}]; "
                "expected one of them, of the same type. Pass that, or None for the default."
            )
        return names[code]
    if len(names) > 2:
        return None
    order = label_order(y)
    return names[1] if order is None else max(names, key=order.index)
