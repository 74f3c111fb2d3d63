"""A fitted model in words: what it is made of, also inside pipelines and searches.

Must not know how it was fitted.
"""

from .inside import features_input, final_classifier
from .model import ModelSummary
from .read import summarize

__all__ = ["ModelSummary", "features_input", "final_classifier", "summarize"]
