"""What others do about the worst cell of label and group, on frozen, standardized features.

All are linear heads. All choose on val after a fit to train, and are then fitted with that to the
rows of both; AFR alone needs groups only for the choice. The strength of l2 is that of the mean
loss, one grid for all.

- **logistic regression**: chosen by the accuracy on val.
- **cell-balanced**: weights inverse to the size of the cell of label and group.
- **own threshold**: either of them with the threshold that is best for the worst cell of scores out
  of fold, five folds of train and val.
- **DFR** (Kirichenko et al. 2023, arXiv:2204.02937): heads with an l1 penalty on subsamples with
  as many rows of each cell, averaged over ten draws; strengths and solver as in the paper. (Its
  code chooses by one draw; here the choice is by the mean of three.)
- **group DRO** (Sagawa et al. 2020, arXiv:1911.08731): the exact minimum of the worst cell's
  cross-entropy (`dro.py`); its size adjustment C / sqrt(n) is chosen, too.
- **AFR** (Qiu et al. 2023, arXiv:2306.11074): cross-entropy with weights exp(-gamma P(true label))
  by a head that did not see the row, balanced by class, with l2 towards that head. The paper holds
  a fifth of the rows out for this, as its network has seen the others; of frozen features all rows
  can be scored out of fold, so none is lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from _tradeoff.data import Part, Split
from _tradeoff.peers import together
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from .choice import (
    Fit,
    best_on_val,
    cells_of,
    decide,
    method,
    people_of,
)
from .dro import Rows, Saddle, fit_logistic, group_dro

RIDGES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
ADJUSTMENTS = (0.0, 1.0, 2.0, 3.0, 4.0)
L1 = (0.01, 0.03, 0.07, 0.1, 0.3, 0.7, 1.0)  # scikit-learn's C, as in DFR's code
GAMMAS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
PULLS = RIDGES[::2]
DRAWS, DRAWS_TRIED, FOLDS = 10, 3, 5


def rows_of(part: Part, n_groups: int) -> Rows:
    """Return a part's rows, by cell."""
    return Rows(part.Z, part.y, cells_of(part, n_groups))


def balanced(rows: Rows) -> np.ndarray:
    """Return weights by which each cell counts alike."""
    return (1.0 / rows.sizes / len(rows.sizes))[rows.cell]


def plain(rows: Rows) -> np.ndarray:
    """Return weights by which each row counts alike."""
    return np.full(len(rows.sign), 1.0 / len(rows.sign))


WEIGHTS = {"logistic regression": plain, "cell-balanced": balanced}


def path(rows: Rows, weight: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Yield strengths with their heads, each begun at the one before."""
    w = None
    for ridge in RIDGES:
        w = fit_logistic(rows, weight, ridge, start=w)
        yield ridge, w


def strength(split: Split, kind: str) -> float:
    """Return the l2 of logistic regression that is best on val."""
    rows = rows_of(split.train, split.n_groups)
    tried = path(rows, WEIGHTS[kind](rows))
    labels = ((ridge, decide(w, split.val.Z)) for ridge, w in tried)
    return best_on_val(split, labels, worst=kind != "logistic regression")


def weighted(split: Split, kind: str) -> Fit:
    """Return logistic regression, each row or each cell of the same weight."""
    ridge = strength(split, kind)
    rows = rows_of(together(split), split.n_groups)
    w = fit_logistic(rows, WEIGHTS[kind](rows), ridge)
    return Fit(lambda Z: decide(w, Z), f"l2 {ridge:g}")


def with_threshold(split: Split, kind: str) -> Fit:
    """Return the same with a threshold."""
    ridge, both = strength(split, kind), together(split)
    scores = out_of_fold(both, people_of(split, "both"), kind, ridge, split)
    threshold = best_threshold(both, scores, split.n_groups)
    rows = rows_of(both, split.n_groups)
    w = fit_logistic(rows, WEIGHTS[kind](rows), ridge)
    return Fit(lambda Z: decide(w, Z, threshold), f"l2 {ridge:g}, above {threshold:.3f}")


for _kind in WEIGHTS:
    method(_kind)(lambda split, kind=_kind: weighted(split, kind))
    method(f"{_kind}, own threshold")(lambda split, kind=_kind: with_threshold(split, kind))


def out_of_fold(
    part: Part, people: np.ndarray | None, kind: str, ridge: float, split: Split
) -> np.ndarray:
    """Return scores of rows by heads of the other folds; nobody is in two of them."""
    cells = cells_of(part, split.n_groups)
    # Cells of fewer rows than folds are spread with the others of their label.
    cells = np.where(np.bincount(cells)[cells] < FOLDS, part.y * split.n_groups, cells)
    if people is None:
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=split.seed)
    else:
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=split.seed)
    scores, w = np.empty(len(part.y)), None
    for own, other in folds.split(part.Z, cells, people):
        rows = rows_of(Part(part.Z[own], part.y[own], part.s[own]), split.n_groups)
        w = fit_logistic(rows, WEIGHTS[kind](rows), ridge, start=w)
        scores[other] = part.Z[other] @ w[:-1] + w[-1]
    return scores


def best_threshold(part: Part, scores: np.ndarray, n_groups: int) -> float:
    """Return a threshold that is best for the worst cell, the middle of those that are.

    Of the cells of label 1 the least accuracy falls with it, of those of label 0 it rises: the best
    is where they cross.
    """
    order = np.sort(scores)
    middles = np.r_[order[0] - 1.0, (order[1:] + order[:-1]) / 2, order[-1] + 1.0]
    cells, worst = cells_of(part, n_groups), np.full(len(middles), np.inf)
    for cell in np.unique(cells):
        own = np.sort(scores[cells == cell])
        below = np.searchsorted(own, middles, side="right") / len(own)
        worst = np.minimum(worst, below if cell < n_groups else 1.0 - below)
    best = middles[worst >= worst.max() - 1e-12]
    return float((best[0] + best[-1]) / 2)


# Subsamples.


def subsample(part: Part, n_groups: int, rng: np.random.Generator) -> np.ndarray:
    """Return numbers of rows, of each cell as many as the smallest has."""
    cells = cells_of(part, n_groups)
    own = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
    least = min(map(len, own))
    return np.concatenate([rng.choice(rows, least, replace=False) for rows in own])


def averaged(part: Part, n_groups: int, C: float, seed: int, draws: int = DRAWS) -> np.ndarray:
    """Return the mean of heads with an l1 penalty, of as many subsamples."""
    rng, heads = np.random.default_rng(seed), []
    for _ in range(draws):
        own = subsample(part, n_groups, rng)
        model = LogisticRegression(C=C, l1_ratio=1.0, solver="liblinear", random_state=0)
        model.fit(part.Z[own].astype(np.float64), part.y[own])
        heads.append(np.r_[model.coef_[0], model.intercept_])
    return np.mean(heads, axis=0)


@method("DFR")
def dfr(split: Split) -> Fit:
    """Return DFR's head."""

    def tried() -> Iterator[tuple[float, np.ndarray]]:
        for C in L1:
            w = averaged(split.train, split.n_groups, C, split.seed, DRAWS_TRIED)
            yield C, decide(w, split.val.Z)

    C = best_on_val(split, tried())
    w = averaged(together(split), split.n_groups, C, split.seed)
    return Fit(lambda Z: decide(w, Z), f"C {C:g}")


# The worst cell's loss.


@method("group DRO")
def dro(split: Split) -> Fit:
    """Return group DRO's head."""
    rows = rows_of(split.train, split.n_groups)

    def tried() -> Iterator[tuple[tuple[float, float], np.ndarray]]:
        of_ridge: Saddle | None = None
        for ridge in RIDGES:
            found = of_ridge
            for adjustment in ADJUSTMENTS:
                found = group_dro(rows, ridge, adjustment, start=found)
                of_ridge = found if adjustment == 0.0 else of_ridge
                yield (ridge, adjustment), decide(found.w, split.val.Z)

    ridge, adjustment = best_on_val(split, tried())
    found = group_dro(rows_of(together(split), split.n_groups), ridge, adjustment)
    return Fit(
        lambda Z: decide(found.w, Z),
        f"l2 {ridge:g}, adjustment {adjustment:g}",
        {"gap": found.gap, "steps": found.steps},
    )


# Without groups in the fit.


@method("AFR")
def afr(split: Split) -> Fit:
    """Return AFR's head."""
    ridge = strength(split, "logistic regression")

    def prepared(part: Part, which: str) -> tuple[Rows, np.ndarray, np.ndarray]:
        rows = rows_of(part, split.n_groups)
        scores = out_of_fold(part, people_of(split, which), "logistic regression", ridge, split)
        true = expit(rows.sign * scores[rows.order])
        return rows, true, fit_logistic(rows, plain(rows), ridge)

    def weights(rows: Rows, true: np.ndarray, gamma: float) -> np.ndarray:
        positive = rows.sign > 0
        of_class = np.where(positive, 1.0 / positive.sum(), 1.0 / (~positive).sum())
        weight = of_class * np.exp(-gamma * true)
        return weight / weight.sum()

    def tried() -> Iterator[tuple[tuple[float, float], np.ndarray]]:
        rows, true, first = prepared(split.train, "train")
        for gamma in GAMMAS:
            weight, w = weights(rows, true, gamma), first
            for pull in PULLS:
                w = fit_logistic(rows, weight, pull, start=w, center=first)
                yield (gamma, pull), decide(w, split.val.Z)

    gamma, pull = best_on_val(split, tried())
    rows, true, first = prepared(together(split), "both")
    w = fit_logistic(rows, weights(rows, true, gamma), pull, center=first)
    return Fit(lambda Z: decide(w, Z), f"l2 {ridge:g}, gamma {gamma:g}, pull {pull:g}")


__all__ = [
    *("averaged", "balanced", "best_threshold", "out_of_fold", "plain"),
    *("rows_of", "subsample"),
]
