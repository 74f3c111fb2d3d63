"""Who keeps bounds: ours, paths of one constraint, and fairlearn's reduction.

A method is a function ``method(split, asked, seed) -> Fit`` of what is asked, a tuple of demands;
it sees train and val, and no test row. Where bounds are judged by rows that a head has not seen,
``met`` says whether these met all; ours are judged out of fold (of people: with nobody in two
folds), what is trained or random on val alone, as it takes long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from _tradeoff.data import Part, Split
from _tradeoff.ours import PLUG_IN, trace
from _tradeoff.peers import bounds, linear, moments, together
from sklearn.model_selection import StratifiedGroupKFold

from skfairft import FairLowRankHeadClassifier
from skfairft.metrics import constraint_distance, constraint_ratio
from skfairft.parity.demands import Demand

__all__ = [
    "METHODS_OF_RATIOS",
    "METHODS_OF_SEVERAL",
    "Fit",
    "judged_distances",
    "reached",
    "translated",
]

Asked = tuple[Demand, ...]
_RATES = {
    "demographic_parity": ("selection",),
    "equalized_odds": ("tpr", "fpr"),
    "worst_false_negative_rate": ("fnr",),
}


@dataclass(frozen=True)
class Fit:
    """What was fitted, and whether all bounds were met by the rows that judged it."""

    predict: Callable[[np.ndarray], np.ndarray]
    met: bool | None = None


Method = Callable[[Split, Asked, int], Fit]


def reached(demand: Demand, part: Part, predicted: np.ndarray) -> float:
    """Return the distance, largest rate or ratio of what is predicted."""
    measure = constraint_ratio if demand.ratio else constraint_distance
    found = measure(part.y, predicted, constraint=demand.constraint, sensitive_features=part.s)
    return float(found)


def judged_distances(tables: np.ndarray, demand: Demand) -> np.ndarray:
    """Return distances, (p,), of tables (p, G, 2, 2) by group, label and decision.

    Of a ratio it is what the smallest one falls short of 1, of a largest rate that rate.
    """
    positive = tables[..., 1]
    rates = {
        "selection": positive.sum(axis=-1) / tables.sum(axis=(-2, -1)),
        "tpr": positive[..., 1] / tables[..., 1, :].sum(axis=-1),
        "fpr": positive[..., 0] / tables[..., 0, :].sum(axis=-1),
    }
    rates["fnr"] = 1.0 - rates["tpr"]
    low, high = (
        np.array([getattr(rates[name], end)(axis=-1) for name in _RATES[demand.constraint]])
        for end in ("min", "max")
    )
    if demand.form == "largest rate":
        return high[0]
    if demand.ratio:
        # Equal rates of zero are parity.
        return 1.0 - np.divide(low, high, out=np.ones_like(low), where=high > 0).min(axis=0)
    return (high - low).sum(axis=0)


def _folds(split: Split, seed: int) -> Any:
    """Return the folds of train and val, nobody in two of them."""
    if split.people is None:
        return 5
    rows = together(split)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    return list(folds.split(rows.Z, rows.y * split.n_groups + rows.s, groups=split.people))


def _ours(split: Split, seed: int, **params: Any) -> FairLowRankHeadClassifier:
    rows = together(split)
    clf = FairLowRankHeadClassifier(random_state=seed, **params)
    return clf.fit(rows.Z, rows.y, sensitive_features=rows.s)


def _parameters(asked: Asked) -> dict[str, Any]:
    """Return what is asked as parameters of the classifier."""
    params = {
        "constraint": [each.constraint for each in asked],
        "difference_bound": [None if each.ratio else each.bound for each in asked],
        "ratio_bound": [each.bound if each.ratio else None for each in asked],
    }
    return params if len(asked) > 1 else {name: value[0] for name, value in params.items()}


def unconstrained(split: Split, asked: Asked, seed: int) -> Fit:
    """Fit the plug-in rule's head without a constraint."""
    return Fit(_ours(split, seed, solver="plug_in").predict)


def plug_in(split: Split, asked: Asked, seed: int, *, confidence: float | None = None) -> Fit:
    """Fit the plug-in rule with all bounds."""
    own = {**_parameters(asked), "cv": _folds(split, seed), "confidence": confidence}
    clf = _ours(split, seed, solver="plug_in", **own)
    return Fit(clf.predict, clf.bound_met_)


def fine_tune(split: Split, asked: Asked, seed: int) -> Fit:
    """Train the head of the weakest weight that meets the bound on val."""
    n = len(split.train.y)
    pairs = [(np.arange(n), n + np.arange(len(split.val.y)))]
    clf = _ours(split, seed, solver="fine_tune", C="auto", cv=pairs, **_parameters(asked))
    return Fit(clf.predict, clf.bound_met_)


def path_of(split: Split, asked: Asked, seed: int, *, which: int) -> Fit:
    """Tighten one constraint, of the weights and thresholds of `fairness_path`.

    Of the points that meet all bounds on the judged rows it is the one of least error there, else
    the one whose largest excess is least.
    """
    path = trace(split, asked[which].constraint, seed, **PLUG_IN)
    beyond = np.max([judged_distances(path.decisions, each) - each.most for each in asked], axis=0)
    error, met = path.table["weighted_f1_error"].to_numpy(), beyond <= 0.0
    chosen = int(np.argmin(np.where(met, error, np.inf) if met.any() else beyond))
    return Fit(path.classifiers[chosen].predict, bool(met.any()))


def translated(ratio: float, share: float) -> float:
    """Return the bound on the ratio to all rows that is one of ``ratio`` between two groups.

    Parameters
    ----------
    ratio : float
        Of the smaller rate f to the larger one m.
    share : float
        Of the rows that are of the group with the larger rate.

    Returns
    -------
    float
        Where f is ``ratio m``, all rows have the rate ``q m``, ``q = share + (1 - share) ratio``.
        It is the lower one of f to that, and of that to m: it is reached last.
    """
    q = share + (1.0 - share) * ratio
    return min(ratio / q, q)


def reduction(split: Split, asked: Asked, seed: int, *, between: bool) -> Fit:
    """Fit fairlearn's reduction with a bound on the ratio to all rows."""
    from fairlearn.reductions import DemographicParity

    rows, bound = together(split), asked[0].bound
    assert bound is not None
    if between:
        # Who is selected more is whose label is more often positive.
        high = int(np.argmax([rows.y[rows.s == g].mean() for g in (0, 1)]))
        bound = translated(bound, float((rows.s == high).mean()))
    return Fit(_reduced(split, rows, DemographicParity(ratio_bound=bound), seed))


def tightened(split: Split, asked: Asked, seed: int, *, which: int) -> Fit:
    """Tighten the reduction's bound on the difference until all bounds are met on val."""
    found = []
    for bound in sorted(bounds(split), reverse=True):
        predict = _reduced(split, split.train, moments(asked[which].constraint, bound), seed)
        decided = predict(split.val.Z)
        beyond = max(
            (each.bound - value if each.ratio else value - each.bound)
            for each in asked
            if each.bound is not None
            for value in [reached(each, split.val, decided)]
        )
        found.append((max(beyond, 0.0), -bound))
        if beyond <= 0.0:
            break
    beyond, bound = min(found)
    moment = moments(asked[which].constraint, -bound)
    return Fit(_reduced(split, together(split), moment, seed), beyond == 0.0)


def _reduced(split: Split, rows: Part, moment: Any, seed: int) -> Callable[..., np.ndarray]:
    from fairlearn.reductions import ExponentiatedGradient

    model = ExponentiatedGradient(linear(split), moment)
    model.fit(rows.Z, rows.y, sensitive_features=rows.s)
    return partial(model.predict, random_state=seed)


METHODS_OF_RATIOS: dict[str, Method] = {
    "no constraint": unconstrained,
    "plug_in": plug_in,
    "plug_in, 95 %": partial(plug_in, confidence=0.95),
    "fine_tune": fine_tune,
    "plug_in, path of differences": partial(path_of, which=0),
    "reduction, as written": partial(reduction, between=False),
    "reduction, translated": partial(reduction, between=True),
}
METHODS_OF_SEVERAL: dict[str, Method] = {
    "no constraint": unconstrained,
    "plug_in": plug_in,
    "plug_in, 95 %": partial(plug_in, confidence=0.95),
    "path of the first": partial(path_of, which=0),
    "path of the second": partial(path_of, which=1),
    "reduction, the first tightened": partial(tightened, which=0),
    "reduction, the second tightened": partial(tightened, which=1),
}
