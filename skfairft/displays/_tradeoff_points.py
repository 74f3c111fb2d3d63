"""Points of a trade-off from other sources: a search's results, a mapping, a DataFrame."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import get_scorer_names

__all__ = ["ERROR_NAME", "peer_points", "search_points"]

ERROR_NAME = "error: 100 - weighted F1 (%)"

_MEAN = "mean_test_"

# Longer values of a parameter, such as a module's repr, are cut.
_VALUE_LENGTH = 24

_PAIR = (
    "peers[{!r}] is {!r}; expected (error, difference), two numbers or two arrays of one length."
)


def search_points(source: Any, error: str, disparity: str) -> tuple[dict[str, Any], str]:
    """Return the candidates of a search with several metrics as a display takes them, and a title.

    ``source`` is a search or its ``cv_results_``, ``error`` and ``disparity`` name two of its
    metrics, with or without ``mean_test_``.
    """
    error, disparity = (name.removeprefix(_MEAN) for name in (error, disparity))
    cv_results = getattr(source, "cv_results_", source)
    if not hasattr(cv_results, "keys") or "params" not in cv_results:
        held = (
            f" with {list(cv_results)}" if hasattr(cv_results, "keys") else " without cv_results_"
        )
        raise ValueError(
            f"cv_results is a {type(cv_results).__name__}{held}; expected a fitted search, such as "
            "GridSearchCV, or its cv_results_."
        )
    there = [key.removeprefix(_MEAN) for key in cv_results if str(key).startswith(_MEAN)]
    missing = [name for name in (error, disparity) if name not in there]
    if missing:
        raise ValueError(
            f"cv_results has no {[_MEAN + name for name in missing]}; its metrics are {there}. "
            "Name two of them by error= and disparity=, or give the search "
            "scoring={'error': fairness_scorer('weighted_f1_error'), "
            "'disparity': fairness_scorer('demographic_parity_distance')}."
        )
    (x, x_interval, folds), (y, y_interval, _) = (
        _distances(cv_results, name) for name in (error, disparity)
    )
    if not (np.isfinite(x) & np.isfinite(y)).any():
        raise ValueError(
            f"No candidate has both {_MEAN + error} and {_MEAN + disparity}: all are NaN. Look at "
            "the warnings of the search; error_score='raise' stops it where a fit fails."
        )
    title = f"{len(x):,} candidate{'s' * (len(x) > 1)}"
    title += "; bars: standard error over the folds" if folds > 1 else ""
    lost = int((~np.isfinite(x) | ~np.isfinite(y)).sum())
    title += f"; {lost:,} without a score" if lost else ""
    over = f"mean over {folds} folds" if folds > 1 else "one split"
    best = getattr(source, "best_index_", None)
    found = {
        "names": _names(list(cv_results["params"])),
        "error": x,
        "disparity": y,
        "error_interval": x_interval,
        "disparity_interval": y_interval,
        "error_name": f"{_metric_of(source, error)}, {over}",
        "disparity_name": f"{_metric_of(source, disparity)}, {over}",
        "chosen": None if best is None else int(best),
    }
    return found, title


def _metric_of(source: Any, name: str) -> str:
    """Return what a metric is called: as its scorer says, if there is one, or as it is named."""
    scorers = getattr(source, "scorer_", None)
    scorer = scorers.get(name) if isinstance(scorers, Mapping) else None
    metric = str(getattr(getattr(scorer, "_score_func", None), "__name__", name))
    return ERROR_NAME if metric == "weighted_f1_error" else metric.replace("_", " ")


def _distances(
    cv_results: Any, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, int]:
    """Return means (m,), means -+ standard errors (m, 2), and the number of folds."""
    if name in get_scorer_names() and not name.startswith("neg_"):
        raise ValueError(
            f"{name!r} is a score, the greater the better; the display shows errors and "
            "distances, the smaller the better. Score with fairness_scorer, or with one of "
            "scikit-learn's scorers whose names start with 'neg_'."
        )
    mean = np.asarray(cv_results[_MEAN + name], dtype=np.float64)
    own = re.compile(rf"split\d+_test_{re.escape(name)}")
    scores = [np.asarray(cv_results[key], np.float64) for key in cv_results if own.fullmatch(key)]
    every = np.stack([mean, *scores])
    # Searches maximize: what is to be small comes with a minus sign.
    if (every > 0).any() and (every < 0).any():
        raise ValueError(
            f"{_MEAN + name} and its folds go from {np.nanmin(every):.3g} to "
            f"{np.nanmax(every):.3g}; expected an error or a distance, of one sign throughout."
        )
    mean, folds = np.abs(mean), len(scores)
    if folds < 2:
        return mean, None, folds
    width = np.abs(every[1:]).std(axis=0, ddof=1) / np.sqrt(folds)
    return mean, np.column_stack([mean - width, mean + width]), folds


def _names(params: list[Mapping[str, Any]]) -> list[str]:
    """Return what tells the candidates apart: the parameters that vary."""
    keys = list(dict.fromkeys(key for one in params for key in one))
    varying = [key for key in keys if len({repr(one.get(key)) for one in params}) > 1]
    last = [key.rpartition("__")[2] for key in varying]
    # Without the names of the steps, as long as they are still different.
    shown = last if len(set(last)) == len(last) else varying
    names = [
        ", ".join(
            f"{name}={_value(one[key])}"
            for key, name in zip(varying, shown, strict=True)
            if key in one
        )
        for one in params
    ]
    if len(set(names)) == len(names):
        return [name or "the only candidate" for name in names]
    return [f"candidate {i}{': ' * bool(name)}{name}" for i, name in enumerate(names)]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= _VALUE_LENGTH else f"{text[: _VALUE_LENGTH - 1]}…"


def peer_points(peers: Any) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return names, errors and differences of other systems, each (m,)."""
    form = "a mapping of names to (error, difference)"
    if hasattr(peers, "columns"):
        missing = [name for name in ("name", "error", "difference") if name not in peers]
        if missing:
            raise ValueError(
                f"peers is a DataFrame with the columns {list(peers)}; {missing} are missing. It "
                f"needs name, error and difference; or pass {form}."
            )
        error, difference = (peers[name].to_numpy(np.float64) for name in ("error", "difference"))
        return list(map(str, peers["name"])), error, difference
    if peers is not None and not isinstance(peers, Mapping):
        raise ValueError(f"peers is a {type(peers).__name__}; expected {form}, or a DataFrame.")
    names: list[str] = []
    points: list[NDArray[np.float64]] = []
    for name, pair in (peers or {}).items():
        try:
            block = np.stack([np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in pair])
        except (TypeError, ValueError) as problem:
            raise ValueError(_PAIR.format(name, pair)) from problem
        if block.ndim != 2 or len(block) != 2:
            raise ValueError(_PAIR.format(name, pair))
        names += [str(name)] * block.shape[1]
        points.append(block)
    together = np.concatenate(points, axis=1) if points else np.zeros((2, 0))
    return names, together[0], together[1]
