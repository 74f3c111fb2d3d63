"""Warnings of the package."""

from __future__ import annotations

__all__ = ["FairnessWarning", "FeatureStoreWarning"]


class FairnessWarning(UserWarning):
    """A fairness statement rests on missing, constant or too few groups or rows.

    Examples
    --------
    >>> import warnings
    >>> warnings.simplefilter("error", FairnessWarning)  # make it an error
    >>> warnings.simplefilter("default", FairnessWarning)
    """


class FeatureStoreWarning(UserWarning):
    """Features are not remembered, or were lost and are computed again; results are unaffected.

    Examples
    --------
    >>> import warnings
    >>> warnings.simplefilter("error", FeatureStoreWarning)  # make it an error
    >>> warnings.simplefilter("default", FeatureStoreWarning)
    """
