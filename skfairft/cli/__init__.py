"""The command line: an audit of a file of predictions, and a trade-off of a file of features.

``skfairft audit`` needs no torch, and no model: what any other program wrote is enough.
What it must not know: arithmetic, which the functions behind the commands do.
"""

from .command import main

__all__ = ["main"]
