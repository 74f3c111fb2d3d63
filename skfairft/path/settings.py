"""What a path is asked for: weights, ranks, solvers, and the rows to judge by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ..classifier import FairLowRankHeadClassifier
from ..fitting import check_parameters
from ..inputs.columns import is_row
from ..inputs.tensors import to_array
from ..inputs.words import shown
from ..solvers.base import Solver
from ..solvers.registry import resolve_solver

__all__ = ["check_settings", "is_number", "labels_of", "variants_of"]


def check_settings(
    clf: FairLowRankHeadClassifier,
    weights: Any,
    thresholds: Any,
    cv: Any,
    held_out: Any,
    n_boot: Any,
) -> tuple[list[str], NDArray[np.float64]]:
    """Return constraints and weights, or refuse what cannot be traced; as `fairness_path`."""
    bounds = {
        name: getattr(clf, name) for name in ("difference_bound", "ratio_bound", "confidence")
    }
    given = {name: value for name, value in bounds.items() if value is not None}
    if clf.constraint is None:
        raise ValueError(
            "fairness_path got a classifier with constraint=None; it draws the curve of a "
            'constraint. Set constraint="demographic_parity" or another one.'
        )
    if given:
        said = ", ".join(f"{name}={shown(value)}" for name, value in given.items())
        none = ", ".join(f"{name}=None" for name in given)
        raise ValueError(
            f"fairness_path got a classifier with {said}; it draws the whole curve of a constraint "
            f"without a bound: pass clone(clf).set_params({none}). Afterwards "
            "path.choose(difference_bound, confidence=0.95) picks a point."
        )
    if hasattr(clf.cv, "__next__"):
        raise ValueError(
            f"fairness_path got a classifier with cv={shown(clf.cv)}. An iterator can be used "
            "once, and the path's classifiers are copies of it: pass a list of pairs."
        )
    if clf.warm_start:
        raise ValueError(
            "fairness_path got a classifier with warm_start=True; it fits all heads anew. Set "
            "warm_start=False."
        )
    for name, value, least, which in (
        ("thresholds", thresholds, 1, "leaves thresholds alone"),
        ("n_boot", n_boot, 0, "is without resamples"),
    ):
        if not is_number(Integral, value) or value < least:
            raise ValueError(
                f"{name}={shown(value)}; expected a whole number of at least {least}, which "
                f"{which}."
            )
    parts = isinstance(held_out, (tuple, list))
    if held_out is not None and not (parts and len(held_out) in (3, 4)):
        kind = type(held_out).__name__
        share = " A share of the rows is held out by cv=0.25." if is_number(Real, held_out) else ""
        raise ValueError(
            f"held_out{f' is a {kind} of {len(held_out)}' if parts else f'={shown(held_out)}'}; "
            "expected None, or a tuple (X, y, sensitive_features) or (X, y, "
            f"sensitive_features, sample_weight).{share}"
        )
    if held_out is not None and cv is not None:
        raise ValueError(
            f"cv={shown(cv)} and held_out are both given, but the points are measured on held_out "
            "alone; leave one of them out."
        )
    if cv is None:
        right = True
    elif is_number(Real, cv):
        right = bool(cv >= 2) if isinstance(cv, int | np.integer) else 0 < cv < 1
    else:
        right = (hasattr(cv, "split") or isinstance(cv, Iterable)) and not isinstance(cv, str)
    if not right:
        raise ValueError(
            f"cv={shown(cv)}; expected a number of folds of at least 2, a share of the rows in "
            "(0, 1), a splitter of scikit-learn, or an iterable of pairs of row numbers."
        )
    names = [clf.constraint] if isinstance(clf.constraint, str) else list(clf.constraint)
    return names, _read_weights(weights)


def is_number(kind: type, value: Any) -> bool:
    """Tell whether a value is a number of a kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _read_weights(weights: Any) -> NDArray[np.float64]:
    """Return the fairness weights, in their order."""
    if is_number(Integral, weights) and weights >= 2:
        return np.linspace(0.0, 1.0, int(weights))
    # As objects, because beside numbers True would become one.
    values = np.asarray(to_array(weights, "weights"), dtype=object)
    if (
        values.ndim != 1
        or not len(values)
        or not all(is_number(Real, value) and 0 <= value <= 1 for value in values)
    ):
        raise ValueError(
            f"weights={shown(weights)}; expected fairness weights in [0, 1], such as [0.0, 0.5, "
            "1.0], or how many, a whole number of at least 2."
        )
    return np.unique(values.astype(np.float64))


def variants_of(
    clf: FairLowRankHeadClassifier, ranks: Any, solvers: Any
) -> list[FairLowRankHeadClassifier]:
    """Return the classifier with each solver and rank, checked."""
    tried: dict[str, list[Any]] = {"solvers": [clf.solver], "ranks": [clf.rank]}
    for name, values in (("solvers", solvers), ("ranks", ranks)):
        if values is None:
            continue
        several = is_row(values) or isinstance(values, Sequence)
        if not several or isinstance(values, str) or not len(values):
            raise ValueError(
                f"{name}={shown(values)}; expected a list of {name}, at least one. None is that of "
                "clf."
            )
        tried[name] = list(values)
    # A name means the solver with its defaults, but that of clf with the parameters that it has.
    own = {} if isinstance(clf.solver, str) else {clf.solver.name: clf.solver}
    variants = [
        clone(clf).set_params(
            solver=own.get(solver, solver) if isinstance(solver, str) else solver,
            rank=rank,
            fairness_weight=None,
        )
        for solver in tried["solvers"]
        for rank in tried["ranks"]
    ]
    for one in variants:
        check_parameters(one)
    tried["solvers"] = [one.solver for one in variants[:: len(tried["ranks"])]]
    for name, values in tried.items():
        if any(_same(a, b) for a, b in combinations(values, 2)):
            raise ValueError(
                f"{name}={shown(values)} holds a value twice, and its points would be the same; "
                "name each once."
            )
    return variants


def _same(a: Any, b: Any) -> bool:
    """Tell whether two ranks or two solvers are the same."""
    if isinstance(a, (str, Solver)):
        a, b = resolve_solver(a), resolve_solver(b)
        return type(a) is type(b) and a.get_params(deep=False) == b.get_params(deep=False)
    # The rank 1 is one direction, 1.0 a share of all.
    return bool(a == b) and isinstance(a, Integral) == isinstance(b, Integral)


def labels_of(variants: Sequence[FairLowRankHeadClassifier]) -> list[str]:
    """Return what each variant's solver is called; those of one name are numbered."""
    named: dict[str, list[Any]] = {}
    out = []
    for one in variants:
        solver = resolve_solver(one.solver)
        same = named.setdefault(solver.label(), [])
        if not any(_same(solver, other) for other in same):
            same.append(solver)
        number = next(i for i, other in enumerate(same) if _same(solver, other))
        out.append(solver.label() + (f" ({number + 1})" if number else ""))
    return out
