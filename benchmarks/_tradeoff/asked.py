"""Each tool asked for the same six bounds, as its users ask: no curve, no choice on other rows.

All are fitted to the rows of train and val, and what they give for each bound is measured on test.
fairlearn bounds the distance of each group from all rows, and of equalized odds the larger of two
differences, where the scores have the distance between groups and the sum. "same meaning" asks it
for that bound which is the same distance with two groups of like size.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from skfairft.head.measure import forget

from .data import Split
from .ours import PLUG_IN, decided, trace
from .peers import DEMOGRAPHIC_PARITY, METHODS, Curve, Method, linear, moments, together

BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.12, 0.16)

Asked = Callable[[Split, str, int], Iterator[np.ndarray]]


def _register(name: str, **settings: Any) -> Callable[[Asked], Asked]:
    def register(generator: Asked) -> Asked:
        def run(split: Split, constraint: str, seed: int) -> Curve:
            curve = Curve([f"bound={bound}" for bound in BOUNDS], counts=[])
            start = time.perf_counter()
            curve.test = [np.asarray(p).astype(int) for p in generator(split, constraint, seed)]
            curve.seconds = time.perf_counter() - start
            return curve

        METHODS[f"asked, {name}"] = Method(run, **settings)
        return generator

    return register


def _ours(name: str, confidence: float | None, *, known: bool = False) -> None:
    @_register(name, needs_group=known, classes=(2, 3))
    def ours(split: Split, constraint: str, seed: int) -> Iterator[np.ndarray]:
        forget()
        path = trace(split, constraint, seed, **PLUG_IN, known_groups=known)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bounds that no point is within
            chosen = [path.choose(bound, confidence=confidence) for bound in BOUNDS]
        yield from decided(path, chosen, split.test, known=known)


_ours("ours", None)
_ours("ours, confidence 0.95", 0.95)
_ours("ours, group known", None, known=True)


def _exponentiated_gradient(name: str, *, scaled: bool) -> None:
    @_register(name, slow=True)
    def peer(split: Split, constraint: str, seed: int) -> Iterator[np.ndarray]:
        from fairlearn.reductions import ExponentiatedGradient

        rows = together(split)
        times = 1.0 if not scaled else 0.5 if constraint == DEMOGRAPHIC_PARITY else 0.25
        for bound in BOUNDS:
            model = ExponentiatedGradient(linear(split), moments(constraint, times * bound))
            model.fit(rows.Z, rows.y, sensitive_features=rows.s)
            yield model.predict(split.test.Z, random_state=seed)


_exponentiated_gradient("ExponentiatedGradient", scaled=False)
_exponentiated_gradient("ExponentiatedGradient, same meaning", scaled=True)
