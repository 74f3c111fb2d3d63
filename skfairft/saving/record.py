"""A fitted classifier as content of JSON and numbers, and back, whatever the files are."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from skorch.history import History

from ..inputs.requests import requests_of, set_requests
from ..inputs.values import CannotWriteError, pack, unpack
from ..inputs.warn import warn_user
from ..parity.demands import FORMS, Bound, Demand
from ..parity.table import TABLE
from ..solvers.base import Solver
from ..solvers.bound import KnownGroups
from ..solvers.checks import demands_of
from ..solvers.maximin import WorstGroup
from ..solvers.registry import resolve_solver
from ..summary.read import summarize
from .modules import Tensors, module_of, written_module
from .parameters import NotSaved, read_parameter, written_parameter

__all__ = ["classifier_of", "written_classifier"]

# Attributes of a fit by their type; an array (n,) is of any dtype.
_VALUES: dict[str, Any] = {
    "classes_": np.ndarray,
    "pos_label_": (str, int, float, bool, type(None)),
    "groups_": np.ndarray,
    "groups_given_": bool,
    "rows_with_group_": tuple,
    "recalibrated_rows_": int,
    "sensitive_names_in_": list,
    "n_features_in_": int,
    "feature_names_in_": np.ndarray,
    "rank_": int,
    "C_": float,
    "fairness_weight_": (float, tuple),
    "n_iter_": int,
    "demands_": tuple,
    "bounds_": tuple,
    "known_groups_": tuple,
    "worst_group_": tuple,
}
_NUMBERS = ("group_importance_", "importance_", "group_weights_", "singular_values_")
_MAY_LACK = {
    *("n_features_in_", "feature_names_in_", "demands_", "bounds_", "known_groups_", "pos_label_"),
    *("worst_group_", "rows_with_group_", "recalibrated_rows_"),
}
# Parameters that classifiers had not when the first were saved; those had what is the default.
_LATER = {"pos_label", "groups", "missing_groups", "ratio_bound"}
# Otherwise written, or not to be: what trained the head holds its optimizer and code.
_OTHERS = {"head_", "solver_", "history_", "net_", "feature_extractor_", "_metadata_request"}


def written_classifier(clf: Any) -> tuple[dict[str, Any], Tensors]:
    """Return all of a fitted classifier but its backbone: content of JSON, and numbers by name.

    Raises
    ------
    ValueError
        If classes, groups or the head are of kinds that these files do not hold.

    Warns
    -----
    UserWarning
        If parameters or attributes are left out, with their names.
    """
    clf._validate_params()
    tensors: Tensors = {}
    lost: list[str] = []
    parameters = {
        name: written_parameter(name, value, tensors, lost)
        for name, value in clf.get_params(deep=False).items()
        if name != "feature_extractor"
    }
    solver = written_parameter("solver_", clf.solver_, tensors, [])
    fitted: dict[str, Any] = {}
    for name in [*_VALUES, "head_", "history_"]:
        if not hasattr(clf, name):
            continue
        value = getattr(clf, name)
        try:
            if name == "head_":
                fitted[name] = written_module(value, name, tensors)
            elif name == "history_":
                fitted[name] = pack(list(value))
            else:
                kind = _VALUES[name]
                as_it_is = isinstance(value, np.ndarray) or isinstance(kind, tuple)
                fitted[name] = pack(_plain(value if as_it_is else kind(value)))
        except CannotWriteError as error:
            raise ValueError(
                f"{name} holds {error}, which cannot be written without code; expected text, "
                "numbers, dates or tuples of them, and torch's own layers. Convert it, for example "
                "to text, and fit again, or keep the classifier by joblib."
            ) from error
    for each in (solver, parameters["solver"]):
        if "not saved" in each:
            raise ValueError(
                f"The solver {each['not saved']} is none of skfairft's and cannot be written "
                "without code; keep the classifier by joblib."
            )
    tensors.update({name: torch.from_numpy(np.array(getattr(clf, name))) for name in _NUMBERS})
    known = {*clf.get_params(deep=False), *_VALUES, *_NUMBERS, *_OTHERS}
    lost += sorted(vars(clf).keys() - known)
    if lost:
        warn_user(
            f"Not saved, for it is code or no attribute of this class: {', '.join(lost)}. The "
            "saved classifier predicts the same; set such parameters again before fitting it.",
            UserWarning,
        )
    content = {
        "summary": dict(summarize(clf).lines()),
        "parameters": parameters,
        "solver_": solver,
        "fitted": fitted,
        "requests": requests_of(clf),
    }
    return content, tensors


def _plain(value: Any) -> Any:
    """Return Python's own numbers in place of NumPy's scalars, a tuple in that of a named one."""
    if isinstance(value, Demand):
        value = astuple(value)
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.number) else value


def classifier_of(kind: type, content: dict[str, Any], tensors: Tensors) -> Any:
    """Return the classifier that `written_classifier` was given, without a backbone yet.

    Anything else is a ValueError.

    Parameters
    ----------
    kind : type
        Its class.
    content, tensors
        As returned there.
    """
    try:
        parameters = content["parameters"]
        known = set(kind().get_params(deep=False)) - {"feature_extractor"}
        if not known - _LATER <= set(parameters) <= known:
            raise ValueError(f"the parameters are {sorted(parameters)}")
        clf = kind(
            **{key: read_parameter(key, value, tensors) for key, value in parameters.items()}
        )
        fitted = content["fitted"]
        for name, type_ in _VALUES.items():
            if name in fitted or name not in _MAY_LACK:
                setattr(clf, name, _of_type(type_, unpack(fitted[name]), name))
        if "pos_label_" not in fitted:
            clf.pos_label_ = clf.classes_.tolist()[1] if len(clf.classes_) == 2 else None
        _set_bounds(clf, fitted)
        if hasattr(clf, "rows_with_group_"):
            known, rows = (_of_type(int, each, "rows_with_group_") for each in clf.rows_with_group_)
            clf.rows_with_group_ = known, rows
        if hasattr(clf, "worst_group_"):
            error, limit, binding, (label, group), rows, *accuracies = clf.worst_group_
            clf.worst_group_ = WorstGroup(
                float(error),
                float(limit),
                tuple((each, of, float(share)) for each, of, share in binding),
                (label, group),
                _of_type(int, rows, "worst_group_"),
                *map(float, accuracies),
            )
        for name in _NUMBERS:
            setattr(clf, name, tensors[name].numpy())
        clf.head_ = module_of(fitted["head_"], "head_", tensors)
        clf.history_ = History(_of_type(list, unpack(fitted["history_"]), "history_"))
        clf.solver_ = _of_type(Solver, read_parameter("solver_", content["solver_"], tensors), "")
        set_requests(clf, content["requests"])
        _check_shapes(clf)
        for estimator in (clf, resolve_solver(clf.solver), clf.solver_):
            _check_parameters(estimator)
    except Exception as error:  # whatever comes of values that do not belong there
        raise ValueError(
            f"it holds no {kind.__name__} ({type(error).__name__}: {str(error).rstrip('.')})"
        ) from error
    return clf


def _set_bounds(clf: Any, fitted: dict[str, Any]) -> None:
    """Set what was asked of the rates and what was reached, with what is told the groups."""
    # Of the first that were saved it is what their parameters ask for.
    asked = tuple(map(_demand_of, map(astuple, demands_of(clf))))
    clf.demands_ = tuple(map(_demand_of, clf.demands_)) if "demands_" in fitted else asked
    if "difference_" in fitted:  # of one bound: those of the first that were saved
        names = ("difference_", "difference_interval_", "difference_limit_", "bound_met_")
        clf.bounds_ = (_first_bound(clf, *(unpack(fitted[name]) for name in names)),)
        if hasattr(clf, "known_groups_"):
            weight, *reached = clf.known_groups_
            clf.known_groups_ = KnownGroups(float(weight), (_first_bound(clf, *reached),))
        return
    if hasattr(clf, "bounds_"):
        clf.bounds_ = tuple(map(_bound_of, clf.bounds_))
    if hasattr(clf, "known_groups_"):
        weight, bounds = clf.known_groups_
        weight = tuple(map(float, weight)) if isinstance(weight, tuple) else float(weight)
        clf.known_groups_ = KnownGroups(weight, tuple(map(_bound_of, bounds)))


def _first_bound(clf: Any, value: Any, interval: Any, limit: Any, met: Any) -> Bound:
    (demand,) = demands_of(clf)
    of_it = demand.constraint, demand.form, demand.bound
    return _bound_of((*of_it, value, tuple(interval), limit, met))


def _demand_of(values: Any) -> Demand:
    constraint, ratio, bound, weight = values
    if constraint not in TABLE or not isinstance(ratio, bool):
        raise ValueError(f"demands_ has {values!r}.")
    bound, weight = (None if each is None else float(each) for each in (bound, weight))
    return Demand(constraint, ratio, bound, weight)


def _bound_of(values: Any) -> Bound:
    constraint, form, bound, value, (low, high), limit, met = values
    if form not in FORMS or constraint not in TABLE:
        raise ValueError(f"bounds_ has a {form!r} of {constraint!r}.")
    interval = float(low), float(high)
    return Bound(constraint, form, float(bound), float(value), interval, float(limit), bool(met))


def _of_type(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = "label" if isinstance(kind, tuple) else kind.__name__
        raise ValueError(f"{name} is a {type(value).__name__}; expected a {expected}.")
    return value


def _check_parameters(estimator: Any) -> None:
    given = estimator.get_params(deep=False)
    saved = {name: value for name, value in given.items() if not isinstance(value, NotSaved)}
    type(estimator)(**saved)._validate_params()


def _check_shapes(clf: Any) -> None:
    """Refuse what does not fit together: a file may be whole and wrong."""
    k, G = len(clf.classes_), len(clf.groups_)
    d = len(clf.importance_)
    expected = {
        "classes_": (k,),
        "groups_": (G,),
        "group_importance_": (G, d),
        "importance_": (d,),
        "group_weights_": (G,),
    }
    for name, shape in expected.items():
        if getattr(clf, name).shape != shape:
            raise ValueError(f"{name} has shape {getattr(clf, name).shape}; expected {shape}.")
    for name, count in (("classes_", k), ("groups_", G)):
        if len(set(getattr(clf, name).tolist())) != count:
            raise ValueError(f"{name} names one twice.")
    if clf.pos_label_ not in [*clf.classes_.tolist(), *[None] * (k > 2)]:
        raise ValueError(f"pos_label_ is {clf.pos_label_!r} of {clf.classes_.tolist()}.")
    with torch.no_grad():
        scores = clf.head_(torch.zeros(1, d))
    fits = scores.shape == (1, k) and scores.is_floating_point() and k >= 2
    if not fits or clf.singular_values_.ndim != 1:
        raise ValueError(f"The head gives {tuple(scores.shape)} for a row; expected (1, {k}).")
