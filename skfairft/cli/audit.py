"""``skfairft audit``: the report on a file of predictions."""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..inputs.exceptions import FairnessWarning
from ..inputs.positive import positive_label
from ..metrics import fairness_report, load_report
from .tables import check_file, column_of, columns_of, label_of, read_table, say

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["run_audit"]


def run_audit(options: argparse.Namespace) -> int:
    """Print and write what is asked for; return 1 if a bound does not hold, else 0."""
    for name in options.output:
        check_file(name, (".html", ".md", ".json"))
    for name in options.changes:
        check_file(name, (".html", ".md"))
    if options.changes and options.compare is None:
        raise ValueError("--changes writes what moved since a report; give --compare, too.")
    # Before anything is written: it may be the file that is written.
    earlier = None if options.compare is None else load_report(options.compare)
    frame = read_table(options.file, options.groups)
    groups = columns_of(frame, options.groups)
    label = column_of(frame, options.label)
    prediction: Any = column_of(frame, options.prediction)
    positive = label_of(label, options.positive)
    if options.threshold is not None:
        prediction, positive = _decided(label, prediction, positive, options)
    elif _is_score(prediction):
        raise ValueError(
            f"column {options.prediction!r} holds numbers that are no labels, such as "
            f"{prediction.dropna()[lambda each: each % 1 != 0].iloc[0]:g}; say from which score on "
            "the prediction is the positive label: --threshold 0.5."
        )
    report = fairness_report(
        label,
        prediction,
        sensitive_features=frame[groups if len(groups) > 1 else groups[0]],
        sample_weight=None if options.weight is None else column_of(frame, options.weight),
        pos_label=positive,
        constraint=options.constraint,
        difference_bound=options.difference_bound,
        ratio_bound=options.ratio_bound,
        n_boot=options.resamples,
        confidence_level=options.confidence_level,
        random_state=options.seed,
        groups=options.between,
    )
    change = None if earlier is None else report.compare(earlier)
    for name in options.output:
        report.save(name, title=options.title)
    shown = [str(report)]
    holds = [] if report.bounds is None else report.bounds["holds"].tolist()
    if change is not None:
        for name in options.changes:
            change.save(name)
        shown.append(f"Since {options.compare}\n\n{change}")
        holds += [] if change.bounds is None else change.bounds["holds_now"].tolist()
    say("\n\n".join(shown))
    return int(not {"no", "undefined"}.isdisjoint(holds))


def _is_score(prediction: pd.Series) -> bool:
    import pandas as pd

    return pd.api.types.is_float_dtype(prediction) and bool((prediction.dropna() % 1 != 0).any())


def _decided(
    label: pd.Series, score: pd.Series, positive: Any, options: argparse.Namespace
) -> tuple[NDArray[Any], Any]:
    """Return the labels that scores decide, of two, and which of them is the positive one."""
    import pandas as pd

    if not np.isfinite(options.threshold):
        raise ValueError(f"--threshold={options.threshold}; expected a number.")
    if not pd.api.types.is_numeric_dtype(score):
        raise ValueError(
            f"--threshold={options.threshold:g} is one of a score, but column "
            f"{options.prediction!r} holds {score.iloc[0]!r}; leave the threshold out, or name a "
            "column of numbers."
        )
    if score.isna().any():
        raise ValueError(
            f"column {options.prediction!r} has {int(score.isna().sum())} values missing."
        )
    found = label.dropna().unique().tolist()
    if len(found) == 1 and positive is not None:
        (one,) = found
        if isinstance(positive, str) == isinstance(one, str):
            found = list({one, positive})  # the other is the one that is named
    known = sorted(found)
    if len(known) != 2:
        raise ValueError(
            f"--threshold decides between two labels, but column {options.label!r} holds "
            f"{len(known)}: {known[:5]}; name a column of decided labels as the prediction."
        )
    yes = positive_label(None, np.array(known, dtype=object), label)
    yes = yes if positive is None else positive
    if yes not in known:
        raise ValueError(f"--positive={options.positive} is none of the labels {known}.")
    (no,) = (each for each in known if each != yes)
    decided = score >= options.threshold
    if decided.all() or not decided.any():
        warnings.warn(
            f"--threshold={options.threshold:g} decides all rows alike: the scores are from "
            f"{score.min():g} to {score.max():g}.",
            FairnessWarning,
            stacklevel=2,
        )
    both = np.empty(2, dtype=object)
    both[:] = no, yes
    return both[decided.to_numpy(dtype=int)], yes
