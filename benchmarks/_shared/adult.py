"""Adult as the paper divides it: 60 % of the rows pre-train a network, 40 % are the new task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skfairft.datasets import fetch_adult

__all__ = ["Adult", "encode", "load_adult"]


@dataclass(frozen=True)
class Adult:
    """All 48,842 rows, and which of them pre-train."""

    X: np.ndarray  # (n, D) float32, encoded
    y: np.ndarray  # (n,) 1 for more than 50,000 dollars
    female: np.ndarray  # (n,) 0 or 1
    white: np.ndarray  # (n,) 0 or 1
    pre: np.ndarray  # row numbers
    task: np.ndarray


def load_adult(seed: int) -> Adult:
    """Return Adult, divided at random and alike in label and sex.

    Parameters
    ----------
    seed : int
        Of the division. The encoding is fitted on the rows that pre-train.
    """
    X, y, s = fetch_adult(return_X_y_s=True)
    labels = y.to_numpy().astype(np.int64)
    female = (s["sex"] == "Female").to_numpy().astype(np.int64)
    white = (s["race"] == "White").to_numpy().astype(np.int64)
    pre, task = train_test_split(
        np.arange(len(y)), test_size=0.4, random_state=seed, stratify=labels + 2 * female
    )
    return Adult(encode(X, pre), labels, female, white, pre, task)


def encode(X: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Return one-hot categories and standardized numbers, float32, as fitted on some rows."""
    categorical = X.select_dtypes("category").columns
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categorical),
        remainder=StandardScaler(),
    ).fit(X.iloc[rows])
    return encoder.transform(X).astype(np.float32)
