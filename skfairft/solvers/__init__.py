"""A file for each way to meet a constraint, and the search for a bound.

Must not know metadata routing or displays.
"""

from .closed_form import ClosedForm
from .fine_tune import FineTune
from .plug_in import PlugIn

__all__ = ["ClosedForm", "FineTune", "PlugIn"]
