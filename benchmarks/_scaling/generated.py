"""Rows that are made where they are asked for: features of any number, with classes and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP_SHARE = 0.3


def columns(n: int, seed: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Return classes and groups of n rows: the rarer group has the second class less often."""
    rng = np.random.default_rng([seed, 0])
    s = (rng.random(n) < GROUP_SHARE).astype(np.int8)
    y = (rng.random(n) < np.where(s == 1, 0.35, 0.55)).astype(np.int8)
    return y, s


def features(n: int, d: int, seed: int) -> NDArray[np.float32]:
    """Return the features (n, d) of these rows, which tell of class and group."""
    y, s = columns(n, seed)
    rng = np.random.default_rng([seed, 1])
    of_class, of_group = np.random.default_rng(0).normal(size=(2, d)).astype(np.float32)
    X = rng.standard_normal((n, d), dtype=np.float32)
    X += np.outer(y - 0.5, of_class / d**0.5 * 1.5).astype(np.float32)
    X += np.outer(s - 0.5, of_group / d**0.5 * 1.5).astype(np.float32)
    return X


def chunked(n: int, d: int, chunk: int) -> tuple[Any, Any, Any]:
    """Return features, classes and groups as arrays of Dask, none of which is there yet."""
    import dask.array as da
    from dask import delayed

    sizes = [min(chunk, n - start) for start in range(0, n, chunk)]
    X = [
        da.from_delayed(delayed(features, pure=False)(m, d, seed), (m, d), np.float32)
        for seed, m in enumerate(sizes)
    ]
    pairs = [delayed(columns, nout=2, pure=False)(m, seed) for seed, m in enumerate(sizes)]
    y, s = (
        da.concatenate(
            [da.from_delayed(pair[i], (m,), np.int8) for pair, m in zip(pairs, sizes, strict=True)]
        )
        for i in (0, 1)
    )
    return da.concatenate(X), y, s


def here(n: int, d: int, chunk: int) -> tuple[Any, Any, Any]:
    """Return the same rows in memory."""
    sizes = [min(chunk, n - start) for start in range(0, n, chunk)]
    X = np.concatenate([features(m, d, seed) for seed, m in enumerate(sizes)])
    pairs = map(columns, sizes, range(len(sizes)))
    y, s = (np.concatenate(each) for each in zip(*pairs, strict=True))
    return X, y, s
