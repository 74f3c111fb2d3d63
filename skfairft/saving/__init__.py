"""Fitted classifiers in files that hold no code: a folder of JSON and numbers.

Must not know how a model was fitted, nor the class that it reads.
"""

from .classifier import (
    read_classifier,
    read_classifiers,
    write_classifier,
    write_classifiers,
)

__all__ = ["read_classifier", "read_classifiers", "write_classifier", "write_classifiers"]
