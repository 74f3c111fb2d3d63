"""A report on one fitted model: measured once, shown as a page or as a model card.

Must not know how a model was fitted.
"""

from ._caveat import Caveat
from ._measure import model_report
from ._result import ModelReport

__all__ = ["Caveat", "ModelReport", "model_report"]
