"""A fitted model in words: what it is made of, also inside pipelines and searches.

Must not know how it was fitted.
"""

from typing import TYPE_CHECKING

from .._on_demand import on_demand
from .inside import features_input, final_classifier

if TYPE_CHECKING:
    from .model import ModelSummary
    from .read import summarize
else:
    __getattr__, __dir__ = on_demand(__name__, {"ModelSummary": ".model", "summarize": ".read"})

__all__ = ["ModelSummary", "features_input", "final_classifier", "summarize"]
