"""What takes a fit or several: heads of all sizes, searches, paths, memory and growth."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor, fairness_path
from skfairft.head.measure import forget

from .cases import Case, bare_torch, logistic_regression, made_up, ours, plain_skorch

__all__ = ["classes", "growth", "head", "memory", "path", "search", "wide"]

AS_FAR = 1e-12


def head(small: bool) -> Iterator[Case]:
    """Fit two classes with default settings."""
    sizes = [(200, 16), (1_000, 64), (12_000, 64), (50_000, 128)]
    for n, d in sizes[: 1 if small else None]:
        X, y, s = made_up(n, d)
        yield Case(
            f"{n:,} x {d}",
            {
                "ours": partial(ours, X, y, s, 1),
                "logistic regression": partial(logistic_regression, X, y),
                "plain skorch": partial(plain_skorch, X, y),
                "bare torch": partial(bare_torch, X, y),
            },
            repeats=7,
        )


def _against_regression(sizes: list[tuple[int, int, int]]) -> Iterator[Case]:
    for n, d, k in sizes:
        X, y, s = made_up(n, d, k)
        yield Case(
            f"{n:,} x {d}, {k:,} classes",
            {
                "ours": partial(ours, X, y, s),
                "logistic regression": partial(logistic_regression, X, y),
                "logistic regression, as far": partial(logistic_regression, X, y, AS_FAR),
                "bare torch": partial(bare_torch, X, y),
            },
            repeats=1 if max(d, k) >= 1_000 else 5,
        )


def classes(small: bool) -> Iterator[Case]:
    """Fit many classes."""
    large = [(5_000, 16, 6), (20_000, 64, 20), (5_000, 128, 100), (10_000, 64, 1_000)]
    yield from _against_regression([(200, 8, 3)] if small else large)


def wide(small: bool) -> Iterator[Case]:
    """Fit two classes on many features."""
    widths = [32] if small else [512, 1_024, 2_048, 4_096]
    yield from _against_regression([(200 if small else 20_000, d, 2) for d in widths])


def search(small: bool) -> Iterator[Case]:
    """Search four ranks by three folds with a cheap backbone, and settings of a regression."""
    for n in [60] if small else [5_000, 20_000]:
        X, y, s = made_up(n, 14, 5)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = nn.Sequential(nn.Linear(14, 64), nn.ReLU())
        Z = backbone(torch.from_numpy(X)).detach().numpy()
        systems = {
            "ours": partial(_search, backbone, X, y, s, 1),
            "two processes": partial(_search, backbone, X, y, s, 2),
            "logistic regression": partial(_search_regressions, Z, y),
        }
        if small:
            del systems["two processes"]  # which take seconds to start
        yield Case(f"{n:,} x 14", systems, repeats=3)


def _search(backbone: nn.Module, X: Any, y: Any, s: Any, n_jobs: int) -> Any:
    forget()
    clf = FairLowRankHeadClassifier(FrozenFeatureExtractor(backbone))
    grid = GridSearchCV(clf, {"rank": [1, 2, 3, 4]}, cv=3, n_jobs=n_jobs)
    return _quiet(grid.fit, X, y, sensitive_features=s)


def _quiet(action: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """Call it without warnings, such as of few rows where it is small."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return action(*args, **settings)


def _search_regressions(Z: Any, y: Any) -> Any:
    model = LogisticRegression(max_iter=1_000)
    return GridSearchCV(model, {"C": [0.01, 0.1, 1.0, 10.0]}, cv=3).fit(Z, y)


def path(small: bool) -> Iterator[Case]:
    """Trace 25 fairness weights by the plug-in rule, judged out of fold in five folds."""
    from fairlearn.reductions import DemographicParity, ExponentiatedGradient

    for n, d in [(600, 32)] if small else [(4_000, 64), (40_000, 64)]:
        X, y, s = made_up(n, d)
        s = np.where(np.random.default_rng(1).random(n) < 0.5, y, s)  # they differ
        of = {"constraint": "demographic_parity", "solver": "plug_in"}

        def whole(X: Any = X, y: Any = y, s: Any = s, of: dict[str, Any] = of) -> Any:
            forget()
            return fairness_path(FairLowRankHeadClassifier(**of), X, y, sensitive_features=s)

        def reduced(X: Any = X, y: Any = y, s: Any = s) -> Any:
            model = LogisticRegression(max_iter=1_000)
            rule = ExponentiatedGradient(model, DemographicParity(difference_bound=0.05))
            return _quiet(rule.fit, X, y, sensitive_features=s)

        systems = {
            "ours": whole,
            "one fit to a bound": partial(_quiet, ours, X, y, s, difference_bound=0.05, **of),
            "ExponentiatedGradient, one bound": reduced,
        }
        yield Case(f"{n:,} x {d}", systems, repeats=3)


def memory(small: bool) -> Iterator[Case]:
    """Measure what a fit takes at its peak beside its features, as a share of these."""
    for n, d in [(20_000, 64)] if small else [(100_000, 512)]:
        with_bound = {"constraint": "demographic_parity", "fairness_weight": 0.5}
        systems = {
            "ours": partial(_peak, n, d, "ours", {}),
            "ours, constrained": partial(_peak, n, d, "ours", with_bound),
            "ours, plug-in": partial(_peak, n, d, "ours", {**with_bound, "solver": "plug_in"}),
            "logistic regression": partial(_peak, n, d, "logistic regression", {}),
        }
        if small:
            del systems["ours, plug-in"]  # each takes seconds to start
            del systems["ours, constrained"]
        yield Case(f"{n:,} x {d}", systems, peaks=True)


def _peak(n: int, d: int, system: str, settings: dict[str, Any]) -> float:
    """Return what a fit takes beside its features, in a process of its own, as a share of them."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_here, n, d, system, settings).result()


def _peak_here(n: int, d: int, system: str, settings: dict[str, Any]) -> float:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, y, s = made_up(n, d)
    for rows in (slice(200), slice(None)):  # first what is loaded and kept by any fit
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        before = _resident("VmRSS")
        if system == "ours":
            ours(X[rows], y[rows], s[rows], 1, **settings)
        else:
            logistic_regression(X[rows], y[rows])
    return (_resident("VmHWM") - before) / X.nbytes


def _resident(name: str) -> int:
    """Return bytes, of what is resident or has been at most."""
    (line,) = [line for line in Path("/proc/self/status").read_text().split("\n") if name in line]
    return 1024 * int(line.split()[1])


def growth(small: bool) -> Iterator[Case]:
    """Fit by rows n, features d, groups G and classes k, the others as they are."""
    base = {"n": 20_000, "d": 64, "G": 2, "k": 2}
    sizes = {
        "n": [10_000, 100_000, 1_000_000],
        "d": [128, 512, 2_048, 4_096],
        "G": [2, 8, 64],
        "k": [2, 10, 100, 1_000],
    }
    if small:
        base, sizes = {**base, "n": 200}, {"d": [4, 8], "G": [2, 4]}
    for letter, values in sizes.items():
        for value in values:
            of = {**base, letter: value}
            fit: Callable[[], Any] = partial(ours, *made_up(of["n"], of["d"], of["k"], of["G"]))
            repeats = 1 if of["n"] * of["d"] * of["k"] > 10**8 else 5
            yield Case(f"{letter} = {value:,}", {"ours": fit}, repeats, (letter, value))
