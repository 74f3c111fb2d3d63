"""Classifiers that are made when they are asked for."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

from ..classifier import FairLowRankHeadClassifier

__all__ = ["PathClassifiers"]

Make = Callable[[], FairLowRankHeadClassifier]


class PathClassifiers(Sequence[FairLowRankHeadClassifier]):
    """The classifiers of a path, most of which nobody asks for.

    Each is made once. A copy or a pickle is a list of all.

    Parameters
    ----------
    makers : iterable of callable
        One of each classifier.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier
    >>> classifiers = PathClassifiers([FairLowRankHeadClassifier, FairLowRankHeadClassifier])
    >>> classifiers
    <2 classifiers, 0 of them made so far>
    >>> classifiers[-1] is classifiers[1], classifiers
    (True, <2 classifiers, 1 of them made so far>)
    """

    def __init__(self, makers: Iterable[Make]) -> None:
        self._each: list[Make | FairLowRankHeadClassifier] = list(makers)
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        made = sum(isinstance(each, FairLowRankHeadClassifier) for each in self._each)
        return f"<{len(self):,} classifiers, {made:,} of them made so far>"

    def __len__(self) -> int:
        return len(self._each)

    @overload
    def __getitem__(self, at: SupportsIndex) -> FairLowRankHeadClassifier: ...

    @overload
    def __getitem__(self, at: slice) -> list[FairLowRankHeadClassifier]: ...

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        i = operator.index(at)
        with self._lock:
            each = self._each[i]
            if not isinstance(each, FairLowRankHeadClassifier):
                self._each[i] = each = each()
            return each

    def __iter__(self) -> Iterator[FairLowRankHeadClassifier]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[FairLowRankHeadClassifier]]]:
        return list, (list(self),)
