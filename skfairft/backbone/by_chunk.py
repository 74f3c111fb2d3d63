"""Features of rows that lie in chunks on other machines, made where the chunks are."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ..rows.chunks import by_chunk, read_chunks

if TYPE_CHECKING:
    from .extractor import FrozenFeatureExtractor

__all__ = ["features_by_chunk", "to_send"]


def features_by_chunk(extractor: FrozenFeatureExtractor, X: Any) -> Any:
    """Return the features of a Dask collection as an array of Dask, not computed yet.

    The extractor is sent to each worker once. One that is not fitted is fitted first, on rows of
    the first chunk, as a copy: how many features it makes is not known otherwise.
    """
    X = read_chunks(X)
    if not hasattr(extractor, "_n_features_out"):
        extractor = clone(extractor).fit(X)
    n_features, dtype = extractor._n_features_out, extractor._features_dtype
    return by_chunk(_transformed, to_send(extractor), X, dtype=dtype, n_columns=n_features)


def to_send(extractor: FrozenFeatureExtractor) -> FrozenFeatureExtractor:
    """Return a copy for the workers: theirs is no screen for a bar, nor a memory beside Dask's."""
    sent = copy.copy(extractor)
    sent.verbose = 0
    sent.memory = False if sent.memory is None else sent.memory
    return sent


def _transformed(extractor: FrozenFeatureExtractor, rows: Any) -> NDArray[Any]:
    found = np.asarray(extractor.transform(rows))
    if found.dtype != extractor._features_dtype:
        raise ValueError(
            f"The features are {found.dtype} but {extractor._features_dtype} in the rows that the "
            "extractor was fitted on; expected one dtype. Set dtype, or give inputs of one dtype."
        )
    return found
