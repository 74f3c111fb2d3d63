"""A seed of any kind as a generator of its own."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

__all__ = ["generator"]


def generator(random_state: Any) -> np.random.Generator:
    """Return a generator of its own: None is fresh entropy, never NumPy's global state.

    A generator is returned as it is, and moves on; of a RandomState a seed is drawn. Anything else
    than an integer of at least 0 is a ValueError.

    Examples
    --------
    >>> int(generator(0).integers(10)), int(generator(0).integers(10))
    (8, 8)
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**32, size=4, dtype=np.uint32))
    if random_state is None or isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state)
    if isinstance(random_state, Integral) and int(random_state) >= 0:
        return np.random.default_rng(int(random_state))
    raise ValueError(
        f"random_state={random_state!r}; expected an integer >= 0, a RandomState, a Generator or "
        "None."
    )
