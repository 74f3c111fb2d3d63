"""Votes found anew on later rows, for a head that stays as it is."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from .backbone.modules import resolve_device
from .fitting import check_parameters, features_of
from .head.cells import CellVote
from .inputs.checks import check_group_weights, check_weights, class_factors, found_weights
from .inputs.encoding import column_names, encode_groups, to_label_array
from .inputs.index_order import warn_of_index_order
from .inputs.lazy import computed, is_lazy
from .inputs.lengths import refuse_other_length
from .inputs.positive import code_of, only
from .inputs.words import listed
from .parity.checks import check_constraint, check_judged
from .parity.levels import levels_asked
from .rows.chunks import read_chunks
from .rows.dask import DaskFeatures
from .rows.tensor_rows import TensorRows
from .solvers.checks import check_weight_or_bound, demands_of, weight_of
from .solvers.maximin import worst_group
from .solvers.plug_in import PlugIn
from .solvers.problem import FittedHead, Problem
from .solvers.registry import resolve_solver
from .solving import FOUND, one_or_all, within_bounds

__all__ = ["recalibrate"]


def recalibrate(clf: Any, X: Any, y: Any, sensitive_features: Any, sample_weight: Any) -> None:
    """Find the votes of a fitted classifier anew; as `FairLowRankHeadClassifier.recalibrate`."""
    check_is_fitted(clf, "head_")
    check_parameters(clf)
    check_weight_or_bound(clf)
    solver = resolve_solver(clf.solver)
    votes = any(isinstance(part, CellVote) for part in clf.head_.modules())
    if not isinstance(solver, PlugIn) or not votes:
        raise ValueError(
            f"recalibrate finds the votes of solver='plug_in' anew, but this head is of "
            f"{clf.solver_.label()}, which decides by the head alone. Fit it again on rows that "
            "have the new ones among them, or use solver='plug_in'."
        )
    demands = demands_of(clf)
    if not demands:
        raise ValueError(
            "recalibrate finds votes that keep a constraint, but constraint is None, so there is "
            "nothing to find. Set one, or leave the classifier as it is."
        )
    if sensitive_features is None:
        raise ValueError(
            "recalibrate got no sensitive_features; pass the group of each row, which the "
            "constraint is about."
        )
    problem = _problem(clf, X, y, sensitive_features, sample_weight)
    fitted = FittedHead(
        head=clf.head_,
        net=None,  # type: ignore[arg-type]  # nothing is trained
        rank=clf.rank_,
        group_importance=torch.from_numpy(clf.group_importance_),
        importance=torch.from_numpy(clf.importance_),
        group_weights=torch.from_numpy(clf.group_weights_),
        singular_values=torch.from_numpy(clf.singular_values_),
        C=clf.C_,
    )
    trials = solver.again(problem, fitted)
    for name in FOUND:
        if hasattr(clf, name):
            delattr(clf, name)
    clf.demands_ = demands
    if any(each.bound is not None for each in demands):
        remedy = "Recalibrate on more rows, allow {less}, or fit again"
        found = within_bounds(clf, solver, problem, trials, remedy=remedy)
    else:
        weight = 1.0 if problem.joint else weight_of(clf)
        found = trials.maker(trials.between(weight, None))()
        clf.fairness_weight_ = weight
        if found.shares is not None:
            clf.fairness_weight_ = one_or_all(found.shares)
    clf.head_ = found.head
    if found.worst is not None:
        clf.worst_group_ = worst_group(found.worst, clf.classes_, clf.groups_, problem.levels)
    clf.recalibrated_rows_ = len(problem.rows)


def _problem(clf: Any, X: Any, y: Any, sensitive_features: Any, sample_weight: Any) -> Problem:
    """Check the rows, run the extractor, and return the problem that they are."""
    y, sample_weight, sensitive_features = computed(y, sample_weight, sensitive_features)
    if is_lazy(X):
        X = read_chunks(X)
    labels = _codes(to_label_array(y), clf.classes_, "y", "classes")
    refuse_other_length(labels, "y", X, one="label")
    warn_of_index_order(
        X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
    )
    names, given_names = clf.sensitive_names_in_, column_names(sensitive_features)
    if names and given_names and given_names != names:
        raise ValueError(
            f"sensitive_features has the columns {given_names}, but fit got {names}; pass these, "
            "in this order."
        )
    named, own = encode_groups(sensitive_features, len(labels), rows_of="y")
    codes = _codes(named, clf.groups_, "sensitive_features", "groups")[own]
    absent = np.flatnonzero(np.bincount(codes, minlength=len(clf.groups_)) == 0)
    if len(absent):
        raise ValueError(
            "recalibrate got no row of the groups "
            f"[{listed(clf.groups_[absent].tolist())}], which the fit has; votes are found for all "
            "groups at once. Add rows of them, or fit again without."
        )
    w = check_weights(sample_weight, clf.class_weight, clf.classes_, labels)
    alone = check_weights(sample_weight, None, clf.classes_, labels)
    given, minimax = found_weights(clf.group_weights)
    positive = None if clf.pos_label_ is None else code_of(clf.pos_label_, clf.classes_.tolist())
    asked: dict[str, Any] = {
        "positives": None if positive is None else only(positive),
        "levels": levels_asked(clf.groups, clf.groups_, sensitive_features),
    }
    demands = demands_of(clf)
    for name in dict.fromkeys(each.constraint for each in demands):
        check_constraint(name, clf.classes_, clf.groups_, labels, codes, w, **asked)
    for demand in demands:
        if demand.bound is not None:
            heavy = w > 0
            check_judged(
                demand,
                *(labels[heavy], codes[heavy]),
                shape=(len(clf.classes_), len(clf.groups_)),
                confidence=clf.confidence,
                **asked,
            )
    Z: Any = features_of(clf, X)
    if is_lazy(Z):
        Z = DaskFeatures.of(Z)
    return Problem(
        rows=TensorRows(Z, *map(torch.from_numpy, (labels, w, codes))),
        sample_weight=torch.from_numpy(alone),
        class_weight=class_factors(clf.class_weight, clf.classes_, labels, alone),
        classes=clf.classes_,
        groups=clf.groups_,
        head=None,
        rank=None,
        importance=clf.importance,
        C=clf.C_,
        demands=demands,
        group_shares=partial(check_group_weights, given, clf.groups_),
        minimax=minimax,
        device=resolve_device(None, torch.device("cpu")),
        **asked,
    )


def _codes(values: Any, known: Any, name: str, what: str) -> Any:
    """Return the code of each value among those of the fit."""
    number = {value: code for code, value in enumerate(known.tolist())}
    rows = values.tolist()
    strange = list(dict.fromkeys(value for value in rows if value not in number))
    if strange:
        raise ValueError(
            f"{name} holds [{listed(strange)}], but the {what} of the fit are "
            f"[{listed(known.tolist())}]; leave such rows out, or fit again."
        )
    return np.array([number[value] for value in rows], dtype=np.int64)
