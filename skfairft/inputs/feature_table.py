"""X from any library: what no backbone could take, and features as numbers of shape (n, d)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch.utils.data import DataLoader, Dataset

from .columns import is_row
from .tensors import refuse_odd_tensor, to_array
from .words import shown

__all__ = ["kept_dtypes", "read_features", "refuse_mapping", "refuse_odd_rows"]

# How pandas, polars, Arrow and NumPy call the dtypes of points and spans of time.
_TIMES = ("date", "time", "duration")


def refuse_mapping(X: Any) -> None:
    """Raise an error for a mapping, whose length is not its number of rows."""
    # A sparse array of SciPy may be a dict, too.
    if isinstance(X, Mapping) and not hasattr(X, "shape"):
        raise ValueError(
            f"X is a {type(X).__name__} with {list(X)[:5]}; expected one entry per row. Give the "
            "texts themselves with preprocess=Texts(tokenizer) of skfairft.preprocessing, or a "
            "list or dataset of one mapping per row."
        )


def refuse_odd_rows(X: Any) -> None:
    """Raise an error for X that would be misread, with a backbone or without.

    Raises
    ------
    TypeError
        For sparse, nested, quantized and meta tensors, and frames with sparse columns.
    ValueError
        For masked values, frames that are not computed yet, iterators, loaders, and one text.
    """
    refuse_odd_tensor(X)
    if isinstance(X, (str, bytes, os.PathLike)):
        raise ValueError(
            f"X is one {'path' if isinstance(X, os.PathLike) else 'string'}, {shown(X)}; expected "
            "one entry per row: [X], or of a folder of images sorted(Path(X).glob('*.jpg'))."
        )
    if isinstance(X, DataLoader):
        raise ValueError(
            f"X is a {type(X).__name__}, which may shuffle rows or leave some out; expected the "
            "rows themselves, in the order of the groups. Pass its dataset: X.dataset."
        )
    if not hasattr(X, "__len__") and (hasattr(X, "collect") or hasattr(X, "__next__")):
        remedy = "X.collect()" if hasattr(X, "collect") else "list(X)"
        raise ValueError(
            f"X is a {type(X).__name__}, which holds no rows yet; expected one entry per row. Pass "
            f"{remedy}."
        )
    sparse = [name for name, dtype in _dtypes(X) if str(dtype).startswith("Sparse[")]
    if sparse:
        raise TypeError(
            f"X has sparse columns, such as {sparse[0]!r}; expected dense ones. Pass "
            "X.sparse.to_dense(), or for some columns X[name].sparse.to_dense()."
        )
    if np.ma.is_masked(X):
        raise ValueError(
            f"X is an array with {int(np.ma.getmaskarray(X).sum())} masked values, which are "
            "missing; expected values in all rows. Fill them, for example with X.filled(0), or "
            "drop their rows."
        )


def kept_dtypes(X: Any) -> list[type]:
    """Return the dtypes to keep, the first for all others: float32 where it holds each number.

    Examples
    --------
    >>> [kept_dtypes(np.zeros(1, dtype))[0].__name__ for dtype in ("f2", "u1", "i8", ">f8")]
    ['float32', 'float32', 'float64', 'float64']
    """
    dtype = getattr(X, "dtype", None)
    small = isinstance(dtype, np.dtype) and dtype.kind in "biuf" and dtype.itemsize <= 2
    return [np.float32, np.float64] if small else [np.float64, np.float32]


def read_features(X: Any, validate: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """Return features (n, d) as scikit-learn's checks return them.

    What is refused by `refuse_odd_rows`, times, and what holds no numbers are a TypeError or a
    ValueError of one sentence.
    """
    refuse_odd_rows(X)
    if isinstance(X, Dataset):
        raise ValueError(
            f"X is a {type(X).__name__}, a dataset; expected numbers of shape (n, features). Set "
            "feature_extractor to a module that takes its items, or pass numbers."
        )
    X = to_array(X)
    _refuse_times(X)
    try:
        return validate(X)
    except (TypeError, ValueError) as error:
        _explain(X, error)
        raise


def _refuse_times(X: Any) -> None:
    """Raise an error for dates and durations, which NumPy turns into counts of some unit."""
    for name, dtype in _dtypes(X):
        if str(dtype).lower().startswith(_TIMES):
            where = "X" if name is None else f"The column {name!r} of X"
            raise ValueError(
                f"{where} holds times (dtype {dtype}); expected numbers. Turn them into numbers "
                "first, such as days since a date that means something."
            )


def _explain(X: Any, error: TypeError | ValueError) -> None:
    """Raise an error that says what X holds, if it cannot be read as numbers at all."""
    if issparse(X):
        raise TypeError(
            f"X is a sparse {type(X).__name__} of shape {X.shape}, but dense data is required. "
            "Pass X.toarray(). In a pipeline set sparse_output=False of an encoder, or "
            "sparse_threshold=0 of a ColumnTransformer; behind a vectorizer of texts take "
            "TruncatedSVD."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # complex numbers have an error of their own
            if hasattr(X, "iloc"):  # what is missing, too, has an error of its own
                X.to_numpy(dtype=np.float64, na_value=np.nan)
            else:
                np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        found = (_vectors(X) or _texts(X)) or (
            f"X is a {type(X).__name__} that cannot be read as numbers of shape (n, features): "
            f"{str(cause).rstrip('.')}. Convert it to numbers first, or set feature_extractor to a "
            "module that takes such rows."
        )
        # A subclass of the two may take other arguments.
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(found) from error


def _vectors(X: Any) -> str | None:
    """Return what to say of vectors where numbers belong, None if there are none."""
    for where, column in _columns(X):
        cells = [cell.as_py() if hasattr(cell, "as_py") else cell for cell in column]
        lengths = sorted({len(cell) for cell in cells if is_row(cell)})
        if len(lengths) > 1:
            return (
                f"{where} holds rows of {lengths[0]} and of {lengths[-1]} values; expected numbers "
                "of shape (n, features). Pad or cut them to one length, or pass preprocess= "
                "(of FrozenFeatureExtractor, or of compress) that does."
            )
        if lengths and not isinstance(column, (list, tuple)):
            first = next(cell for cell in cells if is_row(cell))
            return (
                f"{where} is a column of vectors, such as {shown(first)}; expected numbers of "
                "shape (n, features). Stack them: np.stack(list(column))."
            )
    return None


def _texts(X: Any) -> str | None:
    """Return what to say of the first column of texts in a frame, None if there is none."""
    if getattr(X, "ndim", 2) < 2:
        return None
    for where, column in _columns(X):
        cells = [cell.as_py() if hasattr(cell, "as_py") else cell for cell in column]
        for cell in cells:
            try:
                if isinstance(cell, str):
                    float(cell)
            except ValueError:
                return (
                    f"{where} holds texts, such as {shown(cell)}; expected numbers. Encode it "
                    "(such as by OneHotEncoder in a pipeline), leave it out, or set "
                    "feature_extractor to a module with preprocess that takes such rows."
                )
    return None


def _columns(X: Any) -> list[tuple[str, Any]]:
    """Return the columns of a frame, or X as one, each with what to call it."""
    names = getattr(X, "column_names", getattr(X, "columns", None))
    if names is None:
        return [("X", X)] if getattr(X, "ndim", 1) < 2 else []
    return [(f"The column {name!r} of X", X[name]) for name in names]


def _dtypes(X: Any) -> list[tuple[Any, Any]]:
    """Return the label and the dtype of each column; of an array its own."""
    if hasattr(X, "columns") and hasattr(X, "dtypes"):  # pandas, polars
        return list(zip(X.columns, X.dtypes, strict=True))
    types = getattr(getattr(X, "schema", None), "types", None)
    if types is not None and hasattr(X, "column_names"):  # Arrow
        return list(zip(X.column_names, types, strict=True))
    return [(None, X.dtype)] if hasattr(X, "dtype") else []
