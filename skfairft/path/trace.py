"""Fits the heads of a path, and judges them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from torch import Tensor
from tqdm.auto import tqdm

from ..backbone.modes import training_modes
from ..classifier import FairLowRankHeadClassifier
from ..fitting import check_for, features_of, fitted_copy, prepare
from ..head.modules import shift_scores
from ..inputs.by_name import by_name
from ..inputs.held_out import (
    HeldOut,
    read_held_out,
    refuse_other_columns,
    refuse_other_width,
)
from ..inputs.warn import warn_user
from ..inputs.words import shown
from ..parity.checks import refuse_alone
from ..parity.constraints import parity
from ..parity.judge import JudgedRows
from ..parity.levels import Levels, levels_asked
from ..rows.blocks import threads_over_blocks
from ..rows.tensor_rows import TensorRows
from ..solvers.base import Solver
from ..solvers.checks import penalty_of, report_void
from ..solvers.problem import FittedHead
from ..solvers.registry import resolve_solver
from .classifiers import PathClassifiers
from .points import Candidate, candidate_of, moved, on_front, point_table
from .result import FairnessPath
from .settings import check_settings, labels_of, variants_of

__all__ = ["fairness_path"]


@by_name
def fairness_path(
    clf: FairLowRankHeadClassifier,
    X: Any,
    y: ArrayLike,
    *,
    sensitive_features: Any,
    sample_weight: ArrayLike | None = None,
    weights: int | ArrayLike = 25,
    ranks: Sequence[int | float | None] | None = None,
    solvers: Sequence[str | Solver] | None = None,
    thresholds: int = 13,
    cv: Any = None,
    held_out: tuple[Any, Any, Any] | tuple[Any, Any, Any, Any] | list[Any] | None = None,
    known_groups: bool = False,
    n_boot: int = 1000,
) -> FairnessPath:
    """Fit a classifier for many fairness weights and measure each on rows that it has not seen.

    Rows are judged by heads of other folds, and the classifiers are fitted on all rows. The
    features are extracted once, what does not depend on the weight is computed once, and the
    training of each head starts at the one before.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        With a ``constraint``, on the rates of its ``pos_label``, between its ``groups``, between
        which all distances of the path are. Several constraints have the same weight at each point,
        and the path is drawn along the first. It is not changed, and its own ``fairness_weight``
        is not used.
    X, y, sensitive_features, sample_weight
        As for its ``fit``, n rows.
    weights : int or array-like of shape (m,), default=25
        Fairness weights in [0, 1], each of which is taken once; an int is that many, at least 2,
        from 0 to 1.
    ranks : sequence or None, default=None
        Ranks, each once; None is that of ``clf``.
    solvers : sequence of str or solvers, or None, default=None
        Solvers, by name or with parameters, each once; None is that of ``clf``.
    thresholds : int, default=13
        With two classes, each head is also tried with thresholds at which the share of decisions
        for the positive class, by sample weight, is nearest to 0.7 to 1.3 times its own, so many of
        them; those on the front are kept. 1 leaves thresholds alone. The column ``positive_share``
        says how many times.
    cv : int, float, splitter, iterable or None, default=None
        Which rows are judged by heads that have not seen them, as for
        `FairLowRankHeadClassifier`; None is that of ``clf``, whose default is 5. The more folds,
        the longer it takes. A float in (0, 1) is a share of the rows held out, with one head per
        weight, fitted on the others. Rows are measured with their ``sample_weight`` (without the
        classifier's ``class_weight``).
    held_out : tuple or list, default=None
        Other rows to measure the points on, in place of ``cv``: ``(X, y, sensitive_features)``,
        each of weight 1, or ``(X, y, sensitive_features, sample_weight)``, h rows, with weights of
        shape (h,) that are not negative. Rows of weight zero change nothing. Each rate of the
        constraint must have rows of at least two groups.
    known_groups : bool, default=False
        Measure what is decided where the groups are known, ``predict(X, sensitive_features=s)``;
        of solvers that can use them ("plug_in"). The classifiers predict without them, too, by
        votes of the same weight.
    n_boot : int, default=1000
        Resamples of the rows, each with its weight, behind the intervals of error and accuracy; 0
        for none. Those of distances are of the confidence limits of the rates, for other rows and
        the classifier that is handed out; that of the AUC is DeLong's, with weights.

    Returns
    -------
    FairnessPath
        With ``table`` and ``classifiers``.

    Raises
    ------
    ValueError
        As ``fit``; for a classifier without constraint or with a bound; for settings other than
        those above; for held-out rows that ``fit`` would refuse, of classes or groups that the
        training rows lack, or on which groups cannot be compared. Labels, groups and weights are
        looked at before the extractor runs; of a share only after it whether groups can be
        compared.
    KeyboardInterrupt
        If it was interrupted before the first head was fitted.

    Warns
    -----
    FairnessWarning
        If the judged rows lack a class in a group. UserWarning if it was interrupted: what was
        fitted until then is returned.

    Notes
    -----
    Points that are chosen by their values on the judged rows look a little better there than
    they are: ``choose(..., confidence=0.95)`` heeds that, and otherwise measure the chosen
    classifier on rows of its own. With "plug_in" and folds the votes are found on the judged rows,
    by the probabilities that heads of other folds give them; ``fit`` finds them on its own rows by
    one head, so that a ``fairness_weight`` leads to slightly different votes there.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, fairness_path
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=1000, disparity=0.4, random_state=0)
    >>> clf = FairLowRankHeadClassifier(
    ...     constraint="demographic_parity", solver="plug_in", random_state=0
    ... )
    >>> path = fairness_path(clf, X, y, sensitive_features=s, weights=5, thresholds=1)
    >>> path.table["difference"].is_monotonic_decreasing
    True
    >>> best = path.classifiers[path.choose(difference_bound=0.2, confidence=0.95)]
    >>> best.predict(X[:3]).shape
    (3,)
    """
    if not isinstance(clf, FairLowRankHeadClassifier):
        raise TypeError(
            f"fairness_path got a {type(clf).__name__}; expected a FairLowRankHeadClassifier. Of a "
            "pipeline, pass its last step, and X as the steps before transform it."
        )
    if not isinstance(known_groups, bool):
        raise ValueError(f"known_groups={shown(known_groups)}; expected True or False.")
    (constraint, *rest), weights = check_settings(clf, weights, thresholds, cv, held_out, n_boot)
    others = tuple(rest)
    variants = variants_of(clf, ranks, solvers)
    blind = [one for one in variants if not resolve_solver(one.solver).votes]
    if known_groups and blind:
        raise ValueError(
            f"known_groups=True measures predictions that are told the groups, and heads of "
            f"solver={blind[0].solver!r} cannot use them; set known_groups=False or "
            'solver="plug_in".'
        )
    clf = clone(variants[0])  # what is not tried has no say
    given = None
    if held_out is not None:
        given = read_held_out(*held_out)
        refuse_other_columns(given, sensitive_features)
        if clf.feature_extractor is None:
            refuse_other_width(given.X, X)

    def check(classes: NDArray[Any], groups: NDArray[Any], positives: range | None) -> None:
        for one in variants:
            check_for(one, len(classes))
        report_void(variants, len(classes))
        if given is not None:
            shape = len(classes), len(groups)
            asked = levels_asked(clf.groups, groups, sensitive_features)
            given_rows = *given.encoded(classes, groups), given.w
            for name in (constraint, *others):
                refuse_alone(name, *given_rows, shape=shape, positives=positives, levels=asked)

    with training_modes():
        problem, random_state = prepare(
            clf,
            X,
            y,
            sample_weight,
            sensitive_features,
            cv=None if given is not None else clf.cv if cv is None else cv,
            check=check,
        )
        outside = None if given is None else _measured(clf, given)
    clf.demands_ = problem.demands
    seed = random_state.randint(np.iinfo(np.int32).max)
    positives = problem.positives
    levels = problem.levels
    rule = parity(constraint, len(clf.classes_), positives=positives, levels=levels)
    if problem.folds is not None:
        judged = problem.as_they_are.take(problem.folds.judged)
        assert judged.codes is not None
        shape, known = (len(clf.classes_), len(clf.groups_)), judged.codes >= 0
        # Which rows they are is known only here.
        columns = [each[known].numpy() for each in (judged.y, judged.codes, judged.w)]
        for each in (constraint, *others):
            refuse_alone(each, *columns, shape=shape, name="cv", positives=positives, levels=levels)
    refit = problem.folds is not None and problem.folds.refit
    candidates: list[Candidate] = []
    judge: JudgedRows | None = None
    total = len(weights) * len(variants)
    with (
        training_modes(),
        threads_over_blocks(),
        tqdm(total=total, disable=not clf.verbose, unit="head") as bar,
    ):
        try:
            for one, label in zip(variants, labels_of(variants), strict=True):
                # Classifiers are made when they are asked for: what is set later is another's.
                apart = {"solver": copy.copy(one.solver), "rank": one.rank}
                solver = resolve_solver(one.solver)
                own = replace(problem, rank=one.rank, C=penalty_of(one))
                trials = solver.trials(own, seed, outside)
                if judge is None:
                    judge = JudgedRows(
                        *(trials.rows, rule, clf.groups_, refit),
                        positives=positives,
                        parts=trials.parts,
                        others=(constraint, *others) if others else (),
                    )
                    judge.warn_of_empty()
                for trial in trials.path(weights, known=known_groups, heads=True):
                    settings = {**apart, "fairness_weight": trial.weight}
                    make = trials.maker(trial)
                    candidates.append(
                        candidate_of(label, settings, trial.scores, make, judge, trials.tuned)
                    )
                    bar.update()
        except KeyboardInterrupt:
            if not candidates:
                raise
            warn_user(
                f"Interrupted: the path holds {len(candidates)} of {total} heads.", UserWarning
            )
    assert judge is not None
    if len(clf.classes_) == 2 and thresholds > 1:
        candidates += [other for each in candidates for other in moved(each, thresholds, judge)]
        points = judge.metrics(np.stack([each.table for each in candidates]))
        front = on_front(points, judge)
        candidates = [
            each for each, best in zip(candidates, front, strict=True) if best or each.share == 1.0
        ]
    cells = [judge.cells(each.scores + each.shift) for each in candidates]
    decisions = np.stack([each.table for each in candidates])
    squares = np.stack([judge.squares(each) for each in cells])
    return FairnessPath(
        table=point_table(candidates, judge, cells, decisions, squares, n_boot, seed),
        classifiers=PathClassifiers(
            partial(
                _classifier,
                clf,
                levels,
                each.settings,
                each.make,
                None if each.share == 1.0 else each.shift,
                known_groups,
            )
            for each in candidates
        ),
        constraint=constraint,
        others=others,
        decisions=decisions,
        squares=squares,
        tuned=np.array([each.tuned for each in candidates]),
        n_judged=judge.n_rows,
        out_of_fold=refit,
        known_groups=known_groups,
        pos_label=clf.pos_label_,
        positives=positives,
        groups=clf.groups,
        levels=levels,
    )


def _classifier(
    clf: FairLowRankHeadClassifier,
    levels: Levels | None,
    settings: dict[str, Any],
    make: Callable[[], FittedHead],
    shift: Tensor | None,
    known: bool,
) -> FairLowRankHeadClassifier:
    """Return the classifier of a point."""
    with training_modes():
        fitted = make()
        # A head of its own, also where points share one.
        head = (
            copy.deepcopy(fitted.head)
            if shift is None
            else shift_scores(fitted.head, shift, known=known)
        )
        return fitted_copy(clf, fitted.with_head(head), levels, **settings)


def _measured(clf: FairLowRankHeadClassifier, given: HeldOut) -> TensorRows:
    """Return rows to measure on in the classes and groups of the classifier."""
    labels, groups = given.encoded(clf.classes_, clf.groups_)
    rows = TensorRows(features_of(clf, given.X), *map(torch.from_numpy, (labels, given.w, groups)))
    # A resample would draw rows of weight zero, too.
    return rows if given.w.all() else rows.take(np.flatnonzero(given.w))
