"""Two more tables: bank marketing, communities and crime.

The files ``tables/bank.csv.gz`` and ``tables/communities.csv.gz`` lie in the folder that the
environment variable SKFAIRFT_DATA names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from .adult import encode

__all__ = ["Bank", "load_bank", "load_communities", "missing"]


@dataclass(frozen=True)
class Bank:
    """All 40,195 calls, and which of them pre-train."""

    X: np.ndarray  # (n, D) float32, encoded, without the age
    y: np.ndarray  # (n,) 1 for a subscription
    s: np.ndarray  # (n,) 1 for an age below 25 or from 60
    pre: np.ndarray  # row numbers
    task: np.ndarray


def load_bank(seed: int) -> Bank:
    """Return the bank's calls, divided as Adult: 60 % pre-train, alike in label and group.

    Parameters
    ----------
    seed : int
        Of the division. The encoding is fitted on the rows that pre-train.
    """
    table = _read("bank")
    y = (table.pop("subscribed") == "yes").to_numpy().astype(np.int64)
    s = (~table.pop("age").between(25, 60, inclusive="left")).to_numpy().astype(np.int64)
    words = table.select_dtypes(exclude="number").columns
    table[words] = table[words].astype("category")
    pre, task = train_test_split(
        np.arange(len(y)), test_size=0.4, random_state=seed, stratify=y + 2 * s
    )
    return Bank(encode(table, pre), y, s, pre, task)


def load_communities(n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (1969, 99), labels and groups of the communities.

    Labels are violent crimes above their median, groups the quantiles of the share of black
    people; neither column is a feature. The one value that is missing is its column's median.

    Parameters
    ----------
    n_groups : int
        2 or 3. Many shares are equal, so that the groups of 3 are not of one size.
    """
    table = _read("communities").drop(columns=["state", "county", "fold"])
    crimes = table.pop("ViolentCrimesPerPop")
    y = (crimes > crimes.median()).to_numpy().astype(np.int64)
    s = pd.qcut(table.pop("racepctblack"), n_groups, labels=False).to_numpy().astype(np.int64)
    return table.fillna(table.median()).to_numpy(np.float32), y, s


def missing(name: str) -> str | None:
    """Return what a table lacks here: "bank" or "communities"."""
    folder = os.environ.get("SKFAIRFT_DATA")
    if not folder:
        return "set SKFAIRFT_DATA to the folder that holds tables/"
    return None if _path(name).exists() else f"not in SKFAIRFT_DATA: tables/{name}.csv.gz"


def _path(name: str) -> Path:
    return Path(os.environ["SKFAIRFT_DATA"]) / "tables" / f"{name}.csv.gz"


def _read(name: str) -> pd.DataFrame:
    lacking = missing(name)
    if lacking is not None:
        raise FileNotFoundError(f"{name}: {lacking}")
    return pd.read_csv(_path(name))
