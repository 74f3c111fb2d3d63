"""``skfairft path``: the trade-off of heads on a file of features."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..inputs.exceptions import FairnessWarning
from .tables import check_file, column_of, columns_of, label_of, read_table, say

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["run_path"]


def run_path(options: argparse.Namespace) -> int:
    """Print and write what is asked for; return 1 if nothing is within the bound, else 0."""
    _check(options)
    from ..classifier import FairLowRankHeadClassifier
    from ..path import fairness_path

    frame = read_table(options.file, options.groups)
    groups = columns_of(frame, options.groups)
    label = column_of(frame, options.label)
    features = _features(frame, {*groups, options.label}, options)
    clf = FairLowRankHeadClassifier(
        constraint=options.constraint or "demographic_parity",
        solver="plug_in",
        pos_label=label_of(label, options.positive),
        random_state=options.seed,
    )
    path = fairness_path(
        clf,
        frame[features],
        label,
        sensitive_features=frame[groups if len(groups) > 1 else groups[0]],
        weights=options.weights,
    )
    chosen, missed = None, []
    if options.difference_bound is not None:
        with warnings.catch_warnings(record=True) as missed:
            warnings.simplefilter("always", FairnessWarning)
            chosen = path.choose(options.difference_bound, confidence=options.confidence)
        for each in missed:  # that no point is within the bound
            warnings.warn(each.message, stacklevel=2)
    shown = path.front[["fairness_weight", "weighted_f1_error", "difference"]].round(4)
    said = [
        f"features: {', '.join(map(str, features[:8]))}{', ...' * (len(features) > 8)} "
        f"({len(features)})",
        str(path),
        shown.to_string(index=False),
    ]
    if chosen is not None:
        row = path.table.loc[chosen]
        said.append(
            f"{'nearest' if missed else 'chosen'}: fairness_weight {row['fairness_weight']:.4g}, "
            f"error {row['weighted_f1_error']:.4g}, difference {row['difference']:.4g}"
        )
    if options.output is not None:
        path.table.to_csv(options.output, index=False)
    if options.plot is not None:
        from ..displays import FairnessTradeoffDisplay

        FairnessTradeoffDisplay.from_path(path, chosen=chosen).figure_.savefig(options.plot)
    if options.save is not None and chosen is not None and not missed:
        path.classifiers[chosen].save(options.save)
    say("\n".join(said))
    return int(bool(missed))


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot be done, before anything is read."""
    if options.save is not None and options.difference_bound is None:
        raise ValueError(
            "--save writes the classifier within a bound; give --difference-bound, too."
        )
    if options.confidence is not None and options.difference_bound is None:
        raise ValueError("--confidence is that of a bound; give --difference-bound, too.")
    if options.output is not None:
        check_file(options.output, (".csv",))
        if Path(options.output).resolve() == Path(options.file).resolve():
            raise ValueError(f"--output={options.output} is the file of the rows; name another.")
    if options.plot is not None:
        check_file(options.plot, (".png", ".svg", ".pdf"))
        from ..displays._common import pyplot

        pyplot()  # it may be missing


def _features(frame: pd.DataFrame, others: set[str], options: argparse.Namespace) -> list[str]:
    """Return the columns of features: those that are named, or all but others."""
    import pandas as pd

    features: list[str] = (
        [name for name in map(str, frame) if name not in others]
        if options.features is None
        else columns_of(frame, [options.features])
    )
    if not features:
        raise ValueError(f"{options.file!r} has no column of features beside label and groups.")
    texts = [name for name in features if not pd.api.types.is_numeric_dtype(frame[name])]
    if texts:
        raise ValueError(
            f"column {texts[0]!r} holds {frame[texts[0]].iloc[0]!r}, but features are numbers; "
            "name those that are with --features."
        )
    return features
