"""From a problem to a fitted head: by a weight of fairness, or by the search for bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from .fitting import store
from .head.modules import head_scores
from .inputs.exceptions import FairnessWarning
from .inputs.warn import warn_user
from .parity.demands import Bound, each_of
from .parity.judge import JudgedRows
from .solvers.base import Solver
from .solvers.bound import BoundSearch, KnownGroups, in_words, rows_in_words, weakest_weight
from .solvers.checks import weight_of
from .solvers.problem import FittedHead, Problem
from .solvers.registry import resolve_solver
from .solvers.trials import Trials

__all__ = ["FOUND", "one_or_all", "solve", "within_bounds"]

# A weight that takes away less than this share of what it says is reported, unless the weight or
# the distance without a constraint is small.
_LEAST_SHARE, _SMALL_WEIGHT, _SMALL_DISTANCE = 0.2, 0.25, 0.02

# A ratio that may be less than this share of its bound is hardly known.
_LEAST_KNOWN = 0.5

# What a fit leaves, beside what each has.
FOUND = ("bounds_", "known_groups_", "worst_group_", "recalibrated_rows_")


def solve(clf: Any, problem: Problem, random_state: np.random.RandomState) -> None:
    """Carry out Algorithm 1 on the features, and store what comes of it.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        That `prepare` was called for.
    problem : Problem
        What that returned.
    random_state : RandomState
        Likewise.

    Warns
    -----
    FairnessWarning
        If a weight did little, or a bound was not met. UserWarning if it was interrupted.
    """
    for name in FOUND:
        if hasattr(clf, name):
            delattr(clf, name)
    solver = resolve_solver(clf.solver)
    clf.demands_ = problem.demands
    bounded = any(each.bound is not None for each in problem.demands)
    if bounded:
        trials = solver.trials(problem, random_state.randint(np.iinfo(np.int32).max))
        fitted = within_bounds(clf, solver, problem, trials)
    else:
        fitted = _weighted(clf, solver, problem, random_state)
    store(clf, fitted, problem.levels)
    if fitted.interrupted:
        epochs = "1 whole epoch" if clf.n_iter_ == 1 else f"{clf.n_iter_} whole epochs"
        warn_user(
            f"Training was interrupted; the head holds what was trained in {epochs}.",
            UserWarning,
        )


def _weighted(
    clf: Any, solver: Solver, problem: Problem, random_state: np.random.RandomState
) -> FittedHead:
    """Fit the head of the weight that is given."""
    fitter = solver.fitter(problem, random_state)
    clf.fairness_weight_ = weight = 1.0 if problem.joint else weight_of(clf)
    fitted = fitter.fit(weight)
    if fitted.shares is not None:
        clf.fairness_weight_ = one_or_all(fitted.shares)
    for demand, rule in zip(problem.demands, problem.rules(), strict=True):
        wanted = weight if demand.weight is None else demand.weight
        if wanted and solver.takes_share and not rule.largest:
            judge = JudgedRows(problem.with_groups, rule, clf.groups_, positives=problem.positives)
            _report_share(clf, solver, wanted, judge, fitter.unconstrained(), fitted)
    return fitted


def within_bounds(
    clf: Any,
    solver: Solver,
    problem: Problem,
    trials: Trials,
    *,
    remedy: str = "Judge by more rows (cv), allow {less}, or try another solver",
) -> FittedHead:
    """Look for the head of the least weight that meets the bounds, and note what was reached.

    ``remedy`` is what to do if none does.
    """
    asked = [
        (demand, rule)
        for demand, rule in zip(problem.demands, problem.rules(), strict=True)
        if demand.bound is not None
    ]
    judges = [
        JudgedRows(
            *(trials.rows, rule, clf.groups_, trials.refit, trials.tuned, problem.positives),
            parts=trials.parts,
        )
        for _, rule in asked
    ]
    given = trials, judges, [demand for demand, _ in asked]
    found = weakest_weight(*given, confidence=clf.confidence)
    known = None
    if solver.votes:
        known = weakest_weight(*given, confidence=clf.confidence, known=True)
    fitted = trials.maker(found.trial, None if known is None else known.trial)()
    clf.fairness_weight_ = found.trial.weight
    clf.bounds_ = found.bounds
    if known is not None:
        shares = fitted.known_shares
        weight = known.trial.weight if shares is None else one_or_all(shares)
        clf.known_groups_ = KnownGroups(weight, known.bounds)
    if fitted.shares is not None:
        clf.fairness_weight_ = one_or_all(fitted.shares)
    _report_bounds(clf, found, judges[0].n_rows, remedy)
    return fitted


def one_or_all(shares: tuple[float, ...]) -> float | tuple[float, ...]:
    """Return the weight of one demand as a number, those of several as a tuple."""
    return shares[0] if len(shares) == 1 else shares


def _report_share(
    clf: Any,
    solver: Solver,
    weight: float,
    judge: JudgedRows,
    plain: nn.Module,
    fitted: FittedHead,
) -> None:
    """Warn if the weight took away much less than it says, from the training rows."""
    Z = judge.rows.Z
    tables = [judge.table(judge.cells(head_scores(head, Z))) for head in (plain, fitted.head)]
    before, after = judge.distances(np.stack(tables))
    wanted = weight * before
    small = before <= _SMALL_DISTANCE or weight < _SMALL_WEIGHT
    if small or before - after >= _LEAST_SHARE * wanted:
        return
    did = "did little" if after <= before else "made it worse"
    warn_user(
        f"fairness_weight={weight:.3g} {did}: the distance between the "
        f"groups' decisions on the training rows was {before:.3f} without a constraint and is "
        f"{after:.3f} now. To change that, {solver.advice(clf.importance)}, or raise the "
        "weight.",
        FairnessWarning,
    )


def _report_bounds(clf: Any, found: BoundSearch, n_rows: int, remedy: str) -> None:
    """Warn of bounds that were not met."""
    missed = [each for each in found.bounds if not each.met]
    for each in found.bounds:
        if each.form == "ratio" and each.met and clf.confidence is None:
            _report_vague(each)
    if not missed:
        return
    weights = each_of(clf.fairness_weight_, 1)
    weight = f"fairness_weight={' and '.join(f'{each:.3g}' for each in weights)}"
    if clf.confidence is None:
        reached = " and ".join(
            f"a {each.form} of {each.value:.3f} (95 % interval {each.interval[0]:.3f} to "
            f"{each.interval[1]:.3f})"
            for each in missed
        )
        less = " and ".join(
            f"a {'smaller ratio' if form == 'ratio' else 'larger bound'}"
            for form in dict.fromkeys(each.form for each in missed)
        )
        warn_user(
            f"{in_words(missed, of_all=len(found.bounds))} {'was' if len(missed) == 1 else 'were'} "
            f"not met: the nearest was "
            f"{reached} on the judged rows, at {weight}. {remedy.format(less=less)}.",
            FairnessWarning,
        )
        return
    able = " and ".join(_certifiable(each) for each in missed)
    named = in_words(missed, of_all=len(found.bounds))
    more = f"at that weight {rows_in_words(found.rows, n_rows)}"
    warn_user(
        f"{named} cannot be certified with confidence={clf.confidence}: {able}, at "
        f"{weight}. {more[0].upper()}{more[1:]}. This head is kept.",
        FairnessWarning,
    )


def _report_vague(bound: Bound) -> None:
    """Warn of a ratio that is hardly known, as of rates near 0."""
    low, high = bound.interval
    if low < _LEAST_KNOWN * bound.bound:
        warn_user(
            f"{in_words([bound])} is met by a ratio of {bound.value:.3f} on the judged rows, but "
            f"on others it may be {low:.3f} to {high:.3f}: too few rows count in the rates, such "
            "as those that are selected. Judge by more, ask for less, or set confidence=0.95, "
            "which heeds that.",
            FairnessWarning,
        )


def _certifiable(bound: Bound) -> str:
    """Return what can be said of a bound that cannot be certified."""
    most = "largest" if bound.form == "ratio" else "smallest"
    limit = f"{bound.limit:.3f}"
    if float(limit) == bound.bound:
        limit = f"{bound.limit:.6f}"
    return (
        f"the {most} bound that can is {limit}, where the {bound.form} on the judged "
        f"rows is {bound.value:.3f}"
    )
