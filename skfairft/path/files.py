"""Paths from the folders that their method ``save`` writes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from torch import nn

from ..backbone.extractor import FrozenFeatureExtractor
from ..classifier import FairLowRankHeadClassifier
from ..inputs.levels import Column
from ..inputs.values import unpack
from ..parity.levels import Levels
from ..saving import read_classifiers
from .result import FairnessPath
from .written import FIELDS

__all__ = ["load_path"]


def load_path(
    folder: str | os.PathLike[str],
    feature_extractor: nn.Module | FrozenFeatureExtractor | None = None,
    *,
    check_code: bool = True,
) -> FairnessPath:
    """Load a path that `FairnessPath.save` wrote.

    Parameters
    ----------
    folder : str or path-like
        As for ``save``.
    feature_extractor, check_code
        As for `skfairft.load`: the backbone of the fit, which all classifiers of the path share.

    Returns
    -------
    FairnessPath
        With the same table, and fitted classifiers without ``net_``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `skfairft.load`, and a ValueError for a folder that holds no path.

    Examples
    --------
    >>> from torch import nn
    >>> from skfairft import FairLowRankHeadClassifier, fairness_path, load_path
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=1000, disparity=0.4, random_state=0)
    >>> backbone = nn.Sequential(nn.Linear(10, 32), nn.ReLU())
    >>> clf = FairLowRankHeadClassifier(
    ...     backbone, constraint="demographic_parity", solver="plug_in", random_state=0
    ... )
    >>> path = fairness_path(clf, X, y, sensitive_features=s, weights=3, thresholds=1)
    >>> path.save("path")
    >>> again = load_path("path", backbone)
    >>> bool((again.classifiers[1].predict(X) == path.classifiers[1].predict(X)).all())
    True
    """
    content, numbers, classifiers = read_classifiers(
        FairLowRankHeadClassifier, folder, feature_extractor, check_code
    )
    try:
        return _path(content["path"], numbers, classifiers)
    except Exception as error:  # whatever comes of values that do not belong there
        raise ValueError(
            f"{os.fspath(folder)} is whole, but holds no path as save writes it: {error}."
        ) from error


def _path(written: Any, numbers: Any, classifiers: list[Any]) -> FairnessPath:
    import pandas as pd

    table = pd.DataFrame(
        {
            name: pd.Series([unpack(each) for each in values], dtype=dtype)
            for name, (dtype, *values) in written["table"].items()
        }
    )
    fields = {name: unpack(written["fields"][name]) for name in FIELDS}
    if fields["positives"] is not None:
        fields["positives"] = range(*fields["positives"])
    levels = written["levels"]
    path = FairnessPath(
        table=table,
        classifiers=classifiers,
        decisions=numbers["decisions"].numpy(),
        squares=numbers["squares"].numpy(),
        tuned=numbers["tuned"].numpy(),
        levels=None
        if levels is None
        else Levels(
            tuple(
                Column(name, tuple(map(unpack, own)), np.array(codes))
                for name, own, codes in levels
            )
        ),
        **fields,
    )
    counts = {len(table), len(classifiers), len(path.decisions), len(path.squares), len(path.tuned)}
    if len(counts) != 1:
        raise ValueError(f"its parts have {sorted(counts)} points")
    return path
