"""What a classifier is made of, read from it; nothing here imports the classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..backbone.extractor import FrozenFeatureExtractor
from ..backbone.modules import count_parameters
from ..head.cells import CellVote
from ..head.modules import split_tail
from ..parity.demands import Demand
from ..solvers.checks import demands_of
from ..solvers.registry import resolve_solver
from .inside import path_inside
from .model import ModelSummary
from .prepared import called

__all__ = ["summarize"]


def summarize(estimator: Any) -> ModelSummary:
    """Say what a classifier is made of.

    Parameters
    ----------
    estimator : FairLowRankHeadClassifier, or Pipeline or search around one
        Fitted or not; of an unfitted one only the parameters are known.

    Returns
    -------
    ModelSummary
        Figures, and with ``print`` a short text.

    Raises
    ------
    TypeError
        If there is no `FairLowRankHeadClassifier` inside.
    ValueError
        For invalid parameters of an unfitted one.

    Examples
    --------
    >>> from torch import nn
    >>> from skfairft import FairLowRankHeadClassifier
    >>> from skfairft.summary import summarize
    >>> backbone = nn.Sequential(nn.Linear(10, 32), nn.ReLU())
    >>> print(summarize(FairLowRankHeadClassifier(backbone, rank=2)))
    backbone    Sequential, 352 parameters, frozen: never trained here
    head        not fitted; rank=2 asked for
    importance  fisher
    constraint  none
    solver      fine_tune
    """
    *around, clf = path_inside(estimator)
    fitted = hasattr(clf, "head_")
    solver = clf.solver_ if fitted else resolve_solver(clf.solver)
    if not fitted:
        clf._validate_params()
        solver._validate_params()
    demands = clf.demands_ if fitted else demands_of(clf)
    constrained = bool(demands) and fitted and bool(np.any(clf.fairness_weight_))
    extractor = clf.feature_extractor_ if fitted else clf.feature_extractor
    wrapped = isinstance(extractor, FrozenFeatureExtractor)
    module: nn.Module | None = extractor.module if wrapped else extractor
    taken: dict[str, Any] = {
        name: getattr(extractor, name) if wrapped else None for name in ("layer", "output", "pool")
    }
    before = [step for outer in around for _, step in getattr(outer, "steps", ())[:-1]]
    before.append(extractor.preprocess if wrapped else None)
    return ModelSummary(
        fitted=fitted,
        prepared_by=tuple(map(called, filter(_acts, before))),
        backbone=None if module is None else type(module).__name__,
        backbone_parameters=0 if module is None else count_parameters(module),
        **taken,
        dtype=_dtype_of(extractor) if wrapped else None,
        rank_asked=clf.rank,
        importance=clf.importance,
        solver=solver.label(),
        solver_caveats=solver.caveats if constrained else (),
        told_caveats=solver.told_caveats if constrained else (),
        demands=demands,
        confidence=clf.confidence,
        **(_of_fit(clf) if fitted else {"fairness_weight": _weight_asked(clf, demands)}),
    )


def _weight_asked(clf: Any, demands: tuple[Demand, ...]) -> Any:
    """Return the weight that is given, of several constraints that of each."""
    return clf.fairness_weight if len(demands) < 2 else tuple(each.weight for each in demands)


def _acts(step: Any) -> bool:
    """Tell whether a step of a pipeline, or what stands for one, does something."""
    return step is not None and not (isinstance(step, str) and step == "passthrough")


def _dtype_of(extractor: FrozenFeatureExtractor) -> str | None:
    """Return the dtype of mixed precision, "bfloat16" for ``torch.bfloat16``, too."""
    return None if extractor.dtype is None else str(extractor.dtype).removeprefix("torch.")


def _of_fit(clf: Any) -> dict[str, Any]:
    """Return what `fit` has found."""
    first, tail = split_tail(clf.head_)
    layers = [] if tail is None else list(tail)
    cells = next((len(part.vote) for part in layers if isinstance(part, CellVote)), None)
    behind = [part.out_features for part in layers if isinstance(part, nn.Linear)]
    trained = count_parameters(clf.head_)
    assert trained is not None  # a fitted head has run
    factors = first.A.numel() + (0 if first.B is None else first.B.numel())
    groups = tuple(clf.groups_.tolist())
    return {
        "n_features_in": getattr(clf, "n_features_in_", None),
        "n_features": first.weight.shape[0],
        "classes": tuple(clf.classes_.tolist()),
        "groups": groups,
        "positive": clf.pos_label_,
        "groups_given": clf.groups_given_,
        "rows_with_group": getattr(clf, "rows_with_group_", None),
        "recalibrated_rows": getattr(clf, "recalibrated_rows_", None),
        "widths": (*first.weight.shape, *behind),
        "cells": cells,
        "factorized": first.B is not None,
        "rank": clf.rank_,
        "full_rank": min(first.weight.shape),
        "head_parameters": trained,
        "full_head_parameters": trained - factors + first.weight.numel(),
        "fairness_weight": clf.fairness_weight_,
        "bounds": getattr(clf, "bounds_", ()),
        "worst": getattr(clf, "worst_group_", None),
        "by_column": clf.groups == "columns" and isinstance(groups[0], tuple),
    }
