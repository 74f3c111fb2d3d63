"""The figures of a report, drawn by the displays from what was measured.

Each is drawn under matplotlib's own default style, whatever style the session has set.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

from ..displays import (
    FairnessTradeoffDisplay,
    FisherImportanceDisplay,
    GroupRatesDisplay,
    SingularSpectrumDisplay,
)
from ..displays._importance import neutralized_mean
from ..parity.table import TABLE
from ..path import FairnessPath
from ._facts import Facts

__all__ = ["Figure", "draw", "have_matplotlib", "many_groups"]

# Inches; a figure with a long list of groups beside it takes more.
_WIDTH, _WIDE, _HEIGHT = 5.8, 7.6, 3.9

# Beyond, a figure of very many groups or classes is left out: their rates are in the table.
_HIGHEST = 100.0

# More groups than these are listed beside a figure.
_MANY = 4

# For each group in a legend beside a figure.
_LINE = 0.25

# Letters of a group's name in a legend, and with its rows beside an axis.
_LONGEST, _LONGEST_TICK = 34, 40

# Of the rates: what is above and below the dots, and for each dot.
_MARGIN, _PITCH = 1.7, 0.15

_LOOK: Any = {  # matplotlib types the names, and not the same in each version
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Names of the parts of an SVG file are random otherwise: the same report, the same text.
    "svg.hashsalt": "skfairft",
    "savefig.dpi": 160,
}


class Figure(NamedTuple):
    """A figure in a file's bytes, its size in pixels, and what it shows in words."""

    caption: str
    alt: str
    data: bytes
    width: int
    height: int


class _Plan(NamedTuple):
    caption: str
    alt: str
    plot: Callable[[Any], object]  # draws on given axes
    height: float = _HEIGHT
    width: float = _WIDTH


def many_groups(facts: Facts) -> bool:
    """Tell whether the names of the groups of the fit take a whole column."""
    return len(facts.summary.groups or ()) > _MANY


def have_matplotlib() -> bool:
    """Tell whether figures can be drawn."""
    return find_spec("matplotlib") is not None


def draw(facts: Facts, form: str = "svg") -> dict[str, Figure]:
    """Draw the figures of a report, as "svg" or "png", but those too high to be looked at.

    They are "rates", "importance", "spectrum" and, of a report with a path, "tradeoff".
    """
    plans = {
        "rates": _rates(facts),
        "importance": _importance(facts),
        "spectrum": _spectrum(facts),
        **({} if facts.path is None else {"tradeoff": _tradeoff(facts, facts.path)}),
    }
    with _style():
        return {
            key: Figure(plan.caption, plan.alt, *_drawn(plan, form))
            for key, plan in plans.items()
            if plan.height <= _HIGHEST
        }


def _rates(facts: Facts) -> _Plan:
    fairness = facts.fairness
    n_groups = len(fairness.by_group)
    positives = sum(str(name).startswith("selection_rate") for name in fairness.by_group)
    level = f"{100 * fairness.confidence_level:g} %"

    def plot(ax: Any) -> None:
        GroupRatesDisplay.from_report(fairness, ax=ax)
        names = [_short(label.get_text(), _LONGEST_TICK) for label in ax.get_yticklabels()]
        ax.set_yticks(ax.get_yticks(), names)

    return _Plan(
        "The same rates, drawn.",
        f"Dots: selection rate, true and false positive rate of {n_groups} groups, with {level} "
        "intervals. The numbers are those of the table of rates by group.",
        plot,
        _MARGIN + _PITCH * positives * (4 * n_groups + 2 * (positives > 1)),
        _WIDE,
    )


def _importance(facts: Facts) -> _Plan:
    groups = facts.summary.groups or ()
    display = FisherImportanceDisplay(
        group_importance=facts.group_importance,
        groups=[_short(_whole(group), _LONGEST) for group in groups],
        **neutralized_mean(facts.summary, facts.importance),
    )
    return _Plan(
        "Importance of each feature to each group, the most important first.",
        f"Lines: importance of {len(facts.importance)} features to {len(groups)} groups"
        f"{', and their neutralized mean' if facts.summary.weighting.mean else ''}. "
        "The first features are in the table of importances.",
        lambda ax: display.plot(ax=ax),
        height=max(_HEIGHT, 1.0 + _LINE * len(groups)),
        width=_WIDE if many_groups(facts) else _WIDTH,
    )


def _spectrum(facts: Facts) -> _Plan:
    display = SingularSpectrumDisplay(
        singular_values=facts.singular_values, rank=facts.summary.rank
    )
    return _Plan(
        "Share of the weighted energy that each rank keeps.",
        f"Line: share of energy kept by the ranks 1 to {len(facts.singular_values)}; the rank in "
        f"use is {facts.summary.rank}. The numbers are in the table of singular values.",
        lambda ax: display.plot(ax=ax),
    )


def _tradeoff(facts: Facts, path: FairnessPath) -> _Plan:
    marked = "" if facts.chosen is None else " The ring marks this model."
    return _Plan(
        f"Error against difference on the rows that judged the path.{marked}",
        f"Points: {len(path.table)} heads by error and {TABLE[path.constraint].distance}, "
        f"{int(path.table['on_front'].sum())} of them on the Pareto front.{marked}",
        lambda ax: FairnessTradeoffDisplay.from_path(
            path, chosen=facts.chosen, peers=facts.peers, ax=ax
        ),
        4.6,
    )


def _whole(group: Any) -> str:
    """Return the name of a group as it came: the display makes visible what is unseen in it."""
    return " / ".join(map(str, group)) if isinstance(group, tuple) else str(group)


def _short(name: str, longest: int) -> str:
    """Return a name of a group as there is room for it beside a plot: its start and its end."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 16]}\N{HORIZONTAL ELLIPSIS}{name[-15:]}"


@contextmanager
def _style() -> Iterator[None]:
    """Draw in matplotlib's own style, and without its warning of letters that its font lacks."""
    import matplotlib as mpl
    from matplotlib import style

    with (
        style.context("default", after_reset=True),
        mpl.rc_context(_LOOK),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # matplotlib before 3.11 says of some scripts that it does not shape their letters.
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* nat")
        yield


def _drawn(plan: _Plan, form: str) -> tuple[bytes, int, int]:
    """Return a figure's file, and its width and height in pixels of a page, 96 to the inch."""
    # Not pyplot's: that would open a window, or appear in a notebook.
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(plan.width, plan.height), layout="constrained")
    plan.plot(canvas.subplots())
    canvas.draw_without_rendering()  # lays it out
    canvas.set_layout_engine("none")  # which need not be done again
    file = io.BytesIO()
    box = canvas.get_tightbbox().padded(0.08)  # long names of groups reach beyond the figure
    metadata = {"Date": None} if form == "svg" else None
    canvas.savefig(file, format=form, metadata=metadata, bbox_inches=box)
    return file.getvalue(), round(96 * box.width), round(96 * box.height)
