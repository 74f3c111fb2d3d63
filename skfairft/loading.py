"""Classifiers from the folders that their method ``save`` writes."""

from __future__ import annotations

import os

from torch import nn

from .backbone.extractor import FrozenFeatureExtractor
from .classifier import FairLowRankHeadClassifier
from .saving import read_classifier

__all__ = ["load"]


def load(
    folder: str | os.PathLike[str],
    feature_extractor: nn.Module | FrozenFeatureExtractor | None = None,
    *,
    check_code: bool = True,
) -> FairLowRankHeadClassifier:
    """Load a classifier that `FairLowRankHeadClassifier.save` wrote.

    The files hold JSON and numbers: nothing in them is run or imported, and their checksums tell
    damage. A checksum is no signature: who may write to the folder decides what the model says.

    Parameters
    ----------
    folder : str or path-like
        As for ``save``.
    feature_extractor : nn.Module, FrozenFeatureExtractor or None, default=None
        The backbone of the fit, which is not in the folder; another one is refused. Where ``save``
        was told ``backbone=True``, a module of the same kind with any weights: a copy gets those of
        the folder. Where ``preprocess`` made the module's inputs, a `FrozenFeatureExtractor`
        with it. None: the classifier has none, and X holds features.
    check_code : bool, default=True
        Whether code and settings of the backbone and of ``preprocess`` must be those of the fit,
        too. False takes your word for it that they give the same features: after an edit that
        changes nothing, or for a module that keeps something whenever it runs.

    Returns
    -------
    FairLowRankHeadClassifier
        Fitted, without ``net_``. It runs, and remembers features, where the extractor that is
        passed says; around a module alone on the device of the fit, and in the memory of this
        process, or nowhere if the fit had ``memory=False``.

    Raises
    ------
    FileNotFoundError
        If the folder holds no model.
    ValueError
        If a file is damaged, changed or of a later version, or for a backbone that is not that of
        the fit: other weights, another layer, ``output``, ``pool``, ``dtype``, ``preprocess``, or
        other code.
    TypeError
        If the backbone is missing.

    Warns
    -----
    UserWarning
        If the backbone's weights are those of the fit, and its code cannot be compared, for Python
        or torch are of another version, or it holds something whose content cannot be told.

    Examples
    --------
    >>> import tempfile
    >>> from torch import nn
    >>> import skfairft
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=500, random_state=0)
    >>> backbone = nn.Sequential(nn.Linear(10, 32), nn.ReLU())
    >>> clf = skfairft.FairLowRankHeadClassifier(backbone, rank=1).fit(X, y, sensitive_features=s)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf.save(folder)
    ...     loaded = skfairft.load(folder, feature_extractor=backbone)
    >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
    True
    """
    clf: FairLowRankHeadClassifier = read_classifier(
        FairLowRankHeadClassifier, folder, feature_extractor, check_code
    )
    return clf
