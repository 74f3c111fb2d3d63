"""The commands and their options."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from .._version import __version__
from ..inputs.exceptions import FairnessWarning
from ..parity.table import TABLE
from .audit import run_audit
from .path import run_path
from .tables import ENDINGS

__all__ = ["main"]


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
    audit.set_defaults(run=run_audit)

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
    path.set_defaults(run=run_path)
    return parser


def _of_rows(parser: argparse.ArgumentParser) -> None:
    """Add what all commands take."""
    parser.add_argument("file", help=f"rows of a table: {', '.join(ENDINGS)}, also .csv.gz")
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
