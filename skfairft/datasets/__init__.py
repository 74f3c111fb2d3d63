"""Data to try things on: one real data set in the package, one maker with known bias."""

from ._adult import fetch_adult
from ._synthetic import make_biased_classification

__all__ = ["fetch_adult", "make_biased_classification"]
