"""From what `fit` is given to a problem in tensors, and from its answer to fitted attributes.

All checks of data come first; only then the extractor runs, which may take hours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from .backbone.extractor import FrozenFeatureExtractor
from .backbone.modules import resolve_device
from .head.cells import CellVote
from .head.start import check_head, scores_classes
from .inputs.checks import (
    check_group_weights,
    check_groups,
    check_groups_have_classes,
    check_weights,
    class_factors,
    found_weights,
)
from .inputs.encoding import column_names, encode_labels, python_value
from .inputs.exceptions import FairnessWarning
from .inputs.feature_table import kept_dtypes, read_features, refuse_mapping, refuse_odd_rows
from .inputs.index_order import warn_of_index_order
from .inputs.lazy import computed, is_lazy
from .inputs.lengths import refuse_other_length
from .inputs.positive import code_of, only, positive_label
from .inputs.warn import no_warnings, warn_user
from .inputs.words import listed
from .lowrank.gaps import group_columns
from .lowrank.importance import heads_of
from .parity.checks import check_constraint, check_judged, check_known
from .parity.levels import Levels, levels_asked
from .parity.table import TABLE
from .rows.blocks import Features
from .rows.chunks import by_chunk, read_chunks
from .rows.dask import DaskFeatures
from .rows.folds import read_folds
from .rows.hold_out import hold_out
from .rows.mapped import as_features, block_rows, is_mapped, release_pages
from .rows.number_range import check_range
from .rows.tensor_rows import TensorRows
from .solvers.checks import check_fairness_parameters, demands_of, names_folds, penalty_of
from .solvers.maximin import worst_group
from .solvers.problem import FittedHead, Problem
from .solvers.registry import resolve_solver

__all__ = ["check_for", "check_parameters", "features_of", "fitted_copy", "prepare", "store"]

# Up to this many numbers (8 MiB in float64) features in memory are converted to double precision
# once. Larger ones are converted block by block in each pass, which reads half the memory: the
# result is the same.
_DOUBLE_LIMIT = 2**20

_CPU = torch.device("cpu")


def check_parameters(clf: Any) -> None:
    """Check what does not depend on data.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        To be fitted.

    Raises
    ------
    ValueError
        Saying which, and what to do.
    """
    clf._validate_params()
    check_fairness_parameters(clf)
    demands = demands_of(clf)
    first = demands[0].constraint if demands else None
    resolve_solver(clf.solver).check(constraint=first, warm_start=clf.warm_start)
    if clf.head is not None:
        check_head(clf.head)


def check_for(clf: Any, n_classes: int) -> None:
    """Check what depends on the number of classes; as `check_parameters`."""
    device = resolve_device(clf.device, _CPU)
    solver = resolve_solver(clf.solver)
    solver.check_head(clf.head, n_classes, device)
    trained = clf.head is not None and not solver.votes and scores_classes(clf.head, n_classes)
    if clf.C == "auto" and trained:
        raise ValueError(
            f"C='auto' chooses the penalty of an output layer that is fitted, but head, "
            f"{type(clf.head).__name__}, is pre-trained for the {n_classes} classes; set a number."
        )


def prepare(
    clf: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    sensitive_features: Any,
    *,
    cv: Any = None,
    check: Callable[[NDArray[Any], NDArray[Any], range | None], None] | None = None,
) -> tuple[Problem, np.random.RandomState]:
    """Check the data, run the extractor, and return the problem that they are.

    Classes, groups and what tells of the features become attributes of the classifier.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        Whose parameters are checked.
    X, y, sample_weight, sensitive_features
        As for its `fit`, n rows.
    cv : int, float, splitter or iterable, optional
        Which rows to judge, by heads that have not seen them.
    check : callable, optional
        Is told classes, groups and the codes of positive classes before the extractor runs.

    Returns
    -------
    problem : Problem
        What to solve.
    random_state : RandomState
        To draw further from.

    Raises
    ------
    ValueError
        For data, groups or weights that cannot be fitted.
    """
    solver = resolve_solver(clf.solver)
    y, sample_weight, sensitive_features = computed(y, sample_weight, sensitive_features)
    classes, labels = encode_labels(y)
    positive = positive_label(clf.pos_label, classes, y)
    code = None if positive is None else code_of(positive, classes.tolist())
    positives = None if code is None else only(code)
    if is_lazy(X):
        X = read_chunks(X)
    else:
        refuse_mapping(X)
        refuse_odd_rows(X)
    refuse_other_length(labels, "y", X, one="label")
    warn_of_index_order(
        X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
    )
    check_for(clf, len(classes))
    demands = demands_of(clf)
    asked_of = tuple(dict.fromkeys(each.constraint for each in demands))
    needed_by = f"constraint={clf.constraint!r}" if demands else None
    if needed_by is None and solver.needs_groups:
        needed_by = f"solver={solver.name!r}"
    if clf.neutral_loss and sensitive_features is None:
        raise ValueError(
            "neutral_loss=True weights the groups, but fit got no sensitive_features; pass the "
            "group of each row, or set neutral_loss=False."
        )
    groups, codes = check_groups(
        *(sensitive_features, clf.group_weights, classes, labels),
        needed_by=needed_by,
        missing=clf.missing_groups,
    )
    known = codes >= 0
    w = check_weights(sample_weight, clf.class_weight, classes, labels)
    given, minimax = found_weights(clf.group_weights)
    counts = np.bincount(codes[known], w[known], len(groups))
    shares = check_group_weights(given, groups, counts)
    if clf.neutral_loss:
        if not shares.all():
            unheard = listed(groups[shares == 0.0].tolist())
            raise ValueError(
                f"neutral_loss=True with a weight of 0 for the groups [{unheard}] in group_weights "
                "leaves their rows out of the loss; give each a positive weight, or set "
                "neutral_loss=False."
            )
        w *= (shares * counts.sum() / counts)[codes]
    levels = levels_asked(clf.groups, groups, sensitive_features)
    asked: dict[str, Any] = {"positives": positives, "levels": levels}
    if not known.all():
        check_known(
            *(demands, classes, groups, labels, codes, w), sure=clf.confidence is not None, **asked
        )
    for name in asked_of:
        check_constraint(*(name, classes, groups, labels[known], codes[known], w[known]), **asked)
    if heads_of(clf.importance) == "by_group":
        needed_by = f"importance={clf.importance!r}"
        check_groups_have_classes(needed_by, classes, groups, labels, codes, w)
    if check is not None:
        check(classes, groups, positives)
    earlier = _earlier_head(clf, classes, votes=solver.votes)
    # None is fresh entropy: drawing from NumPy's global state would change it.
    random_state = (
        np.random.RandomState()
        if clf.random_state is None
        else check_random_state(clf.random_state)
    )
    # A row of unknown group is one of a group of its own, where rows are divided.
    column = np.where(known, codes, len(groups))
    cells, everything = labels * (len(groups) + 1) + column, np.arange(len(labels))
    folds = None
    if cv is not None:
        # What the head of each fold has to see: each class and group, and their cells if asked for.
        by_group = heads_of(clf.importance) == "by_group"
        of_all = all(TABLE[name].of_all for name in asked_of)
        kept = [labels, column] if of_all and not by_group else None
        if kept is None and levels is not None and not by_group:
            kept = [labels, column]
            for each in levels.columns:
                width = len(each.levels)
                kept.append(labels * (width + 1) + np.where(known, each.codes[codes], width))
        folds = read_folds(cv, cells, labels, w, random_state, kept)
        for i, fold in enumerate(folds.parts):
            kept_w = np.isin(everything, fold.train) * w
            _check_fold(asked_of, i, classes, groups, labels, codes, kept_w, asked)
        for demand in demands:
            if demand.bound is not None:
                check_judged(
                    demand,
                    *(each[folds.judged][known[folds.judged]] for each in (labels, codes)),
                    shape=(len(classes), len(groups)),
                    confidence=clf.confidence,
                    **asked,
                )
    # Rows that belong together stay so where C is chosen, too.
    divided, given_cv = folds, clf.cv if cv is None else cv
    if not names_folds(given_cv):
        divided = None
    elif divided is None and (penalty_of(clf) == "auto" or not known.all()):
        divided = read_folds(given_cv, cells, labels, w, random_state)
    early_share = solver.early_share(clf.head, len(classes))
    if early_share is not None:  # whether it can be, whatever the rows that are drawn
        for rest in [everything] if folds is None else [fold.train for fold in folds.parts]:
            hold_out(cells[rest], w[rest], early_share, np.random.RandomState(0))
    Z = _fit_features(clf, X)
    Z = DaskFeatures.of(Z) if is_lazy(Z) else as_features(Z)
    if isinstance(Z, Tensor) and Z.is_inference():  # X was made in that mode
        Z = Z.clone()
    if isinstance(Z, Tensor) and Z.numel() <= _DOUBLE_LIMIT:
        Z = Z.double()
    check_range(Z)
    _report_group_columns(clf, *_of_known(Z, codes))
    if earlier is not None and len(clf.importance_) != Z.shape[1]:
        raise ValueError(
            f"warm_start=True goes on from a head for {len(clf.importance_)} features but the "
            f"data has {Z.shape[1]}; set warm_start=False."
        )
    clf.classes_, clf.groups_, clf.pos_label_ = classes, groups, positive
    clf.groups_given_ = sensitive_features is not None
    names = column_names(sensitive_features) if clf.groups_given_ else []
    clf.sensitive_names_in_ = names if len(names) > 1 else []
    if hasattr(clf, "rows_with_group_"):
        del clf.rows_with_group_
    if not known.all():
        clf.rows_with_group_ = int(known.sum()), len(known)
    alone = check_weights(sample_weight, None, classes, labels)
    problem = Problem(
        rows=TensorRows(Z, *map(torch.from_numpy, (labels, w, codes))),
        sample_weight=torch.from_numpy(alone),
        class_weight=class_factors(clf.class_weight, classes, labels, alone),
        classes=classes,
        groups=groups,
        head=clf.head,
        rank=clf.rank,
        importance=clf.importance,
        C=penalty_of(clf),
        demands=demands,
        group_shares=partial(check_group_weights, given, groups),
        minimax=minimax,
        device=resolve_device(clf.device, _CPU),
        verbose=int(clf.verbose),
        folds=folds,
        strength_folds=None if divided is None else divided.codes(w),
        earlier=earlier,
        positives=positives,
        levels=levels,
    )
    return problem, random_state


def _check_fold(
    constraints: tuple[str, ...],
    number: int,
    classes: NDArray[Any],
    groups: NDArray[Any],
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    w: NDArray[np.float64],
    asked: dict[str, Any],
) -> None:
    """Refuse a fold whose rows to fit, those of weight above 0, cannot be fitted."""
    known = codes >= 0
    everything = np.ones(len(codes), dtype=bool)
    for what, names, column, of in (
        ("class", classes, labels, everything),
        ("group", groups, codes, known),
    ):
        lacking = np.flatnonzero(np.bincount(column[of], w[of], len(names)) == 0)
        if len(lacking):
            raise ValueError(
                f"cv's split {number} has no row of {what} {python_value(names[lacking[0]])!r} to "
                "fit. Divide the rows alike by class and group (an int does), gather more rows, or "
                "merge groups."
            )
    try:
        with no_warnings():  # what there is to say is said of all rows
            for name in constraints:
                check_constraint(
                    *(name, classes, groups, labels[known], codes[known], w[known]), **asked
                )
    except ValueError as error:
        raise ValueError(f"cv's split {number}, of the rows to fit: {error}") from error


def _earlier_head(clf: Any, classes: NDArray[Any], *, votes: bool) -> nn.Module | None:
    """Return the head to go on from, None to start afresh."""
    if not (clf.warm_start and hasattr(clf, "head_")):
        return None
    if not np.array_equal(classes, clf.classes_):
        raise ValueError(
            f"warm_start=True goes on from a head for the classes {clf.classes_.tolist()} but "
            f"y has {classes.tolist()}; set warm_start=False."
        )
    if votes != any(isinstance(part, CellVote) for part in clf.head_.modules()):
        raise ValueError(
            f"warm_start=True goes on from a head of another solver than {clf.solver!r}, "
            "which it cannot; set warm_start=False."
        )
    head: nn.Module = clf.head_
    return head


def _fit_features(clf: Any, X: Any) -> Any:
    """Set up the extractor and return the features of X."""
    extractor = clf.feature_extractor
    if extractor is None:
        clf.feature_extractor_ = None
        return _read_chunks(clf, X) if is_lazy(X) else _read(clf, X, reset=True)
    if isinstance(extractor, nn.Module):
        extractor = FrozenFeatureExtractor(
            extractor, device=clf.device, verbose=min(clf.verbose, 1)
        )
    clf.feature_extractor_ = clone(extractor)
    if is_lazy(X):  # a frame would be made here
        clf.feature_extractor_.set_output(transform="default")
    Z = clf.feature_extractor_.fit_transform(X)
    _keep_names(clf)
    return Z


def _keep_names(clf: Any) -> None:
    """Take over what the extractor has seen of X."""
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(clf.feature_extractor_, name):
            setattr(clf, name, getattr(clf.feature_extractor_, name))
        elif hasattr(clf, name):
            delattr(clf, name)


def features_of(clf: Any, X: Any) -> Features:
    """Return the features that a fitted classifier's head takes.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        Fitted.
    X : as for its `fit`
        n rows.

    Returns
    -------
    Tensor or MappedFeatures of shape (n, d)
        Those of its extractor; without one X itself, checked.
    """
    if clf.feature_extractor_ is None:
        return as_features(_read(clf, X, reset=False))
    return as_features(clf.feature_extractor_.transform(X))


def _read(clf: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """Return X, which is features already."""
    if is_mapped(X) and X.ndim == 2 and X.dtype.type in (np.float32, np.float64):
        # validate_data would bring all of X into memory; an array with the shape of X but one
        # element is enough for its bookkeeping.
        shape_only = np.broadcast_to(np.zeros((), X.dtype.type), X.shape)
        validate_data(clf, shape_only, reset=reset, ensure_all_finite=False)
        for start in range(0, len(X), step := block_rows(X.shape[1])):
            block = np.asarray(X[start : start + step])
            assert_all_finite(block, estimator_name=type(clf).__name__, input_name="X")
            release_pages(X)
        return X
    # scikit-learn looks for infinities in a sum, which large numbers of both signs spoil.
    with np.errstate(over="ignore", invalid="ignore"):
        return read_features(
            X, lambda rows: validate_data(clf, rows, reset=reset, dtype=kept_dtypes(rows))
        )


def _read_chunks(clf: Any, X: Any) -> Any:
    """Return X, which is features already and lies in chunks, as an array of Dask."""
    first = _read(clf, X.head(1), reset=True)
    shared = copy.copy(clf), first.dtype
    return by_chunk(_read_chunk, shared, X, dtype=first.dtype, n_columns=first.shape[1])


def _read_chunk(shared: tuple[Any, Any], rows: Any) -> NDArray[Any]:
    clf, dtype = shared
    found = np.asarray(_read(clf, rows, reset=False))
    if found.dtype != dtype:
        raise ValueError(
            f"X holds {found.dtype} here and {dtype} in its first row; expected one dtype. Convert "
            "X, for example by X.astype('float64')."
        )
    return found


def _of_known(Z: Features, codes: NDArray[np.int64]) -> tuple[Features, Tensor]:
    """Return features and codes of the rows whose group is known."""
    there = None if (codes >= 0).all() else np.flatnonzero(codes >= 0)
    rows = TensorRows(Z, codes=torch.from_numpy(codes)).take(there)
    assert rows.codes is not None
    return rows.Z, rows.codes


def _report_group_columns(clf: Any, Z: Features, codes: Tensor) -> None:
    """Say so if features are the group itself."""
    found = group_columns(Z, codes)
    if not found:
        return
    named = clf.feature_extractor is None and hasattr(clf, "feature_names_in_")
    names = clf.feature_names_in_[found].tolist() if named else found
    where = "X has" if clf.feature_extractor is None else "The features have"
    warn_user(
        f"{where} sensitive_features, or part of them, as a column of its own: "
        f"[{listed(names)}]. The head can decide by it directly, also under a constraint. Drop "
        "it, unless that is meant and allowed.",
        FairnessWarning,
    )


def store(clf: Any, fitted: FittedHead, levels: Levels | None = None) -> None:
    """Make a fitted head the attributes of a classifier.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        With classes and groups.
    fitted : FittedHead
        The head.
    levels : Levels, optional
        What its constraint compared in place of groups.
    """
    clf.solver_ = copy.copy(resolve_solver(clf.solver))  # what is set later is another's
    clf.C_ = fitted.C
    clf.head_, clf.net_, clf.rank_ = fitted.head, fitted.net, fitted.rank
    clf.history_ = fitted.net.history
    clf.n_iter_ = len(clf.history_)
    clf.group_importance_ = fitted.group_importance.numpy()
    clf.importance_ = fitted.importance.numpy()
    clf.group_weights_ = fitted.group_weights.numpy()
    clf.singular_values_ = fitted.singular_values.numpy()
    if fitted.worst is not None:
        clf.worst_group_ = worst_group(fitted.worst, clf.classes_, clf.groups_, levels)


def fitted_copy(clf: Any, fitted: FittedHead, levels: Levels | None = None, **params: Any) -> Any:
    """Return a classifier with other parameters and the head that belongs to them.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        That `prepare` was called for.
    fitted : FittedHead
        The head.
    levels : Levels, optional
        As for `store`.
    **params
        Of the copy, a ``fairness_weight`` among them.
    """
    # A copy of the solver: that of one classifier is not to be set through another.
    new = clone(clf).set_params(**{name: copy.copy(value) for name, value in params.items()})
    for name in (
        *("classes_", "groups_", "groups_given_", "sensitive_names_in_", "feature_extractor_"),
        *("n_features_in_", "feature_names_in_", "pos_label_", "rows_with_group_", "demands_"),
    ):
        if hasattr(clf, name):
            setattr(new, name, getattr(clf, name))
    new.fairness_weight_ = new.fairness_weight
    store(new, fitted, levels)
    return new
