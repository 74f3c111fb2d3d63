"""Features of rows that lie in chunks on other machines, made where the chunks are."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows.chunks import Chunks, by_chunk

__all__ = ["features_by_chunk", "to_send"]


def features_by_chunk(extractor: Any, X: Chunks, n_features: int, dtype: np.dtype[Any]) -> Any:
    """Return the features of rows as an array of Dask (n, n_features), not computed yet.

    The extractor, which was fitted, is sent to each worker once.
    """
    shared = to_send(extractor), dtype
    return by_chunk(_transformed, shared, X, dtype=dtype, n_columns=n_features)


def to_send(extractor: Any) -> Any:
    """Return a copy for the workers: theirs is no screen for a bar, nor a memory beside Dask's."""
    sent = copy.copy(extractor)
    sent.verbose = 0
    sent.memory = False if sent.memory is None else sent.memory
    return sent


def _transformed(shared: tuple[Any, np.dtype[Any]], rows: Any) -> NDArray[Any]:
    extractor, dtype = shared
    found = np.asarray(extractor.transform(rows))
    if found.dtype != dtype:
        raise ValueError(
            f"The features are {found.dtype} but {dtype} in the rows that the extractor was fitted "
            "on; expected one dtype. Set dtype, or give inputs of one dtype."
        )
    return found
