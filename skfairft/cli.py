"""The command line: an audit of a file of predictions, and a trade-off of a file of features.

``skfairft audit`` needs no torch, and no model: what any other program wrote is enough.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._version import __version__
from .inputs.exceptions import FairnessWarning
from .inputs.positive import positive_label
from .inputs.words import did_you_mean
from .metrics import fairness_report, load_report
from .parity.table import TABLE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

_ENDINGS = (".csv", ".tsv", ".parquet", ".feather", ".jsonl")


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Run a command; return its exit status.

    Parameters
    ----------
    arguments : list of str, default=None
        What stands behind ``skfairft``; None is what the program was called with.

    Returns
    -------
    int
        0; 1 if a bound that was asked for does not hold on the rows of an audit, or cannot be
        measured; 2 if the command could not be run, which a line on standard error explains.

    Examples
    --------
    >>> import contextlib, io
    >>> rows = ["y,p,sex", *["1,1,f", "0,1,f", "1,1,m", "0,0,m"] * 50]
    >>> with open("predictions.csv", "w") as file:
    ...     _ = file.write("\n".join(rows))
    >>> with contextlib.redirect_stdout(io.StringIO()) as printed:
    ...     status = main(
    ...         "audit predictions.csv --label y --prediction p --groups sex --resamples 0 "
    ...         "--constraint demographic_parity --difference-bound 0.1".split()
    ...     )
    >>> print(printed.getvalue().splitlines()[0])
    Fairness report: 200 rows, 2 groups
    >>> status
    1
    """
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FairnessWarning)
            status: int = options.run(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"skfairft {options.command}: error: {error}", file=sys.stderr)
        return 2
    for each in caught:
        print(f"skfairft {options.command}: warning: {each.message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skfairft", description="Fairness between groups.")
    parser.add_argument("--version", action="version", version=f"skfairft {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    audit = commands.add_parser(
        "audit",
        help="report error and rates by group of a file of predictions",
        description="Report error and rates by group, with intervals, of predictions of any model. "
        "The exit status is 1 if a bound does not hold on these rows, or cannot be measured.",
    )
    _of_rows(audit)
    audit.add_argument("--prediction", required=True, metavar="COLUMN", help="decided labels")
    audit.add_argument("--weight", metavar="COLUMN", help="sample weights")
    audit.add_argument(
        "--threshold",
        type=float,
        help="the prediction is a score of the positive label, which is predicted from this on",
    )
    audit.add_argument("--ratio-bound", type=float, help="the least ratio of rates, such as 0.8")
    audit.add_argument(
        "--between",
        choices=["intersections", "columns"],
        default="intersections",
        help="of several columns of groups, what distances are between (default: %(default)s)",
    )
    audit.add_argument("--confidence-level", type=float, default=0.95, help="of the intervals")
    audit.add_argument("--resamples", type=int, default=1000, help="behind the intervals of F1")
    audit.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write the report, too: .html, .md or .json; may be given several times",
    )
    audit.add_argument(
        "--compare", metavar="FILE", help="an earlier report (.json): print what moved since"
    )
    audit.add_argument(
        "--changes",
        action="append",
        default=[],
        metavar="FILE",
        help="write what moved, too: .html or .md; may be given several times",
    )
    audit.add_argument("--title", default="Fairness report", help="heading of what is written")
    audit.set_defaults(run=_audit)

    path = commands.add_parser(
        "path",
        help="trace error against difference of heads on a file of features",
        description="Fit heads on a file of features, from no constraint to parity, judge each out "
        "of fold, and print error and difference of those that no other beats in both.",
    )
    _of_rows(path)
    path.add_argument(
        "--features", metavar="COLUMNS", help="by commas (default: all that are not named)"
    )
    path.add_argument("--weights", type=int, default=21, help="points of the path")
    path.add_argument("--confidence", type=float, help="with which the bound is to hold")
    path.add_argument("--output", metavar="FILE", help="write all points: .csv")
    path.add_argument("--plot", metavar="FILE", help="draw them: .png, .svg or .pdf")
    path.add_argument(
        "--save", metavar="FOLDER", help="write the classifier within the bound, if there is one"
    )
    path.set_defaults(run=_path)
    return parser


def _of_rows(parser: argparse.ArgumentParser) -> None:
    """Add what all commands take."""
    parser.add_argument("file", help=f"rows of a table: {', '.join(_ENDINGS)}, also .csv.gz")
    parser.add_argument("--label", required=True, metavar="COLUMN", help="true labels")
    parser.add_argument(
        "--groups",
        required=True,
        action="append",
        metavar="COLUMNS",
        help="sensitive columns, by commas or given several times",
    )
    parser.add_argument("--positive", metavar="LABEL", help="the label whose rates are compared")
    parser.add_argument("--constraint", metavar="NAME", help=f"one of {', '.join(TABLE)}")
    parser.add_argument(
        "--difference-bound", type=float, help="the most that may be between groups"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")


def _audit(options: argparse.Namespace) -> int:
    for name in options.output:
        _check_file(name, (".html", ".md", ".json"))
    for name in options.changes:
        _check_file(name, (".html", ".md"))
    if options.changes and options.compare is None:
        raise ValueError("--changes writes what moved since a report; give --compare, too.")
    # Before anything is written: it may be the file that is written.
    earlier = None if options.compare is None else load_report(options.compare)
    frame = _read(options.file, options.groups)
    groups = _columns(frame, options.groups)
    label = _column(frame, options.label)
    prediction: Any = _column(frame, options.prediction)
    positive = _positive(label, options.positive)
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
        sample_weight=None if options.weight is None else _column(frame, options.weight),
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
    _print("\n\n".join(shown))
    return int(not {"no", "undefined"}.isdisjoint(holds))


def _print(text: str) -> None:
    """Print; a reader that has read enough, such as ``head``, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    known = sorted(label.dropna().unique().tolist())
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


def _path(options: argparse.Namespace) -> int:
    if options.save is not None and options.difference_bound is None:
        raise ValueError(
            "--save writes the classifier within a bound; give --difference-bound, too."
        )
    if options.confidence is not None and options.difference_bound is None:
        raise ValueError("--confidence is that of a bound; give --difference-bound, too.")
    if options.output is not None:
        _check_file(options.output, (".csv",))
        if Path(options.output).resolve() == Path(options.file).resolve():
            raise ValueError(f"--output={options.output} is the file of the rows; name another.")
    if options.plot is not None:
        _check_file(options.plot, (".png", ".svg", ".pdf"))
        from .displays._common import pyplot

        pyplot()  # it may be missing
    import pandas as pd

    from .classifier import FairLowRankHeadClassifier
    from .path import fairness_path

    frame = _read(options.file, options.groups)
    groups = _columns(frame, options.groups)
    label = _column(frame, options.label)
    features = (
        [name for name in frame if name not in {*groups, options.label}]
        if options.features is None
        else _columns(frame, [options.features])
    )
    if not features:
        raise ValueError(f"{options.file!r} has no column of features beside label and groups.")
    texts = [name for name in features if not pd.api.types.is_numeric_dtype(frame[name])]
    if texts:
        raise ValueError(
            f"column {texts[0]!r} holds {frame[texts[0]].iloc[0]!r}, but features are numbers; "
            "name those that are with --features."
        )
    clf = FairLowRankHeadClassifier(
        constraint=options.constraint or "demographic_parity",
        solver="plug_in",
        pos_label=_positive(label, options.positive),
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
    front = path.table[path.table["on_front"]].sort_values("difference")
    shown = front[["fairness_weight", "weighted_f1_error", "difference"]].round(4)
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
        from .displays import FairnessTradeoffDisplay

        FairnessTradeoffDisplay.from_path(path, chosen=chosen).figure_.savefig(options.plot)
    if options.save is not None and chosen is not None and not missed:
        path.classifiers[chosen].save(options.save)
    _print("\n".join(said))
    return int(bool(missed))


def _check_file(name: str, endings: tuple[str, ...]) -> None:
    """Refuse a name that nothing can be written to, before anything is computed."""
    path = Path(name)
    if path.suffix.lower() not in endings:
        raise ValueError(f"{name!r} ends in none of {', '.join(endings)}.")
    if not path.parent.is_dir():
        raise ValueError(f"{name!r} is in a folder that is not there; make {str(path.parent)!r}.")


def _read(name: str, groups: Sequence[str]) -> pd.DataFrame:
    """Return the table in a file; of text files groups as the texts that they are."""
    import pandas as pd

    endings = Path(name).suffixes
    ending = next((each.lower() for each in reversed(endings) if each.lower() in _ENDINGS), "")
    if not ending:
        raise ValueError(f"{name!r} ends in none of {', '.join(_ENDINGS)}.")
    try:
        if ending in (".csv", ".tsv"):
            read: Any = partial(
                pd.read_csv, name, sep="," if ending == ".csv" else "\t", index_col=False
            )
            # Of fields beyond the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            own = {part.strip() for each in groups for part in (each, *each.split(","))}
            # 01 is another group than 1.
            frame: pd.DataFrame = read(dtype={each: str for each in read(nrows=0) if each in own})
        elif ending == ".jsonl":
            frame = pd.read_json(name, lines=True, dtype=False)
        else:
            frame = pd.read_parquet(name) if ending == ".parquet" else pd.read_feather(name)
    except OSError:
        raise
    except Exception as error:  # whatever readers and unpackers may raise
        raise ValueError(f"{name!r} cannot be read: {error}") from error
    if len(frame) == 0:
        raise ValueError(f"{name!r} has 0 rows.")
    return frame


def _columns(frame: pd.DataFrame, given: Sequence[str]) -> list[str]:
    """Return the names of columns that are given one by one, or by commas."""
    names = []
    for each in given:
        names += [each] if each in frame else [name.strip() for name in each.split(",")]
    for name in names:
        _column(frame, name)
    return names


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    known = [str(each) for each in frame]
    if name not in frame:
        mark = next((each for each in ";\t|" if len(known) == 1 and each in known[0]), None)
        why = "" if mark is None else f" Its columns are parted by {mark!r}; expected commas."
        raise ValueError(
            f"there is no column {name!r}.{did_you_mean(name, known)} The columns are: "
            f"{', '.join(known[:20])}{' ...' if len(known) > 20 else ''}.{why}"
        )
    return frame[name]


def _positive(label: pd.Series, text: str | None) -> Any:
    """Return the label that a text stands for."""
    if text is None:
        return None
    known = label.dropna().unique().tolist()
    for each in known:
        if str(each) == text:
            return each
    for each in known:  # 1 stands for 1.0 and True, true for True
        if str(each).casefold() == text.casefold() or _as_number(text) == each:
            return each
    return text


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
