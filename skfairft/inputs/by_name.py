"""Arguments that are to be named, with an error that names them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["by_name"]

P = ParamSpec("P")
T = TypeVar("T")


def by_name(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function such that its error for arguments by place says which to name.

    Groups in the place of sample weights are numbers like these: Python's own error, which only
    counts arguments, does not tell what to do.

    Examples
    --------
    >>> @by_name
    ... def fit(X, y, *, sensitive_features=None, sample_weight=None):
    ...     return sensitive_features
    >>> fit([1], [2], [3])
    Traceback (most recent call last):
    ...
    TypeError: fit takes X and y by place, but got 3 arguments; name the others, as in fit(X, y,
    sensitive_features=...). By name it takes sensitive_features, sample_weight.
    """
    parameters = inspect.signature(function).parameters.values()
    placed = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    named = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    shown = [name for name in placed if name != "self"]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if len(args) > len(placed):
            n = len(args) - len(placed) + len(shown)
            call = f"{function.__name__}({', '.join(shown)}, {named[0]}=...)"
            raise TypeError(
                f"{function.__name__} takes {', '.join(shown[:-1])} and {shown[-1]} by place, but "
                f"got {n} arguments; name the others, as in {call}. By name it takes "
                f"{', '.join(named)}."
            )
        return function(*args, **kwargs)

    return call
