"""Data to try things on: one real data set in the package, one maker with known bias.

Of the real one also sentences and a small trained network, which the gallery's pages share.

Must not know anything else of the package.
"""

from ._adult import fetch_adult
from ._network import make_adult_network
from ._sentences import make_adult_sentences
from ._synthetic import make_biased_classification

__all__ = [
    "fetch_adult",
    "make_adult_network",
    "make_adult_sentences",
    "make_biased_classification",
]
