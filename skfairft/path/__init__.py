"""The whole trade-off of a classifier: many heads, judged on rows that they have not seen.

Must not know how it is drawn or reported.
"""

from .files import load_path
from .points import METRICS
from .result import FairnessPath
from .trace import fairness_path

__all__ = ["METRICS", "FairnessPath", "fairness_path", "load_path"]
