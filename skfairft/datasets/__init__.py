"""Data to try things on: one real data set in the package, one maker with known bias.

Must not know anything else of the package.
"""

from ._adult import fetch_adult
from ._synthetic import make_biased_classification

__all__ = ["fetch_adult", "make_biased_classification"]
