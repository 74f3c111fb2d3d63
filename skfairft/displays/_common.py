"""What the displays share: `plot`, axes, looks, legends, names, and an estimator's predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from textwrap import fill
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import NotFittedError

from ..inputs import words as _words
from ..inputs.unseen import escaped
from ..summary.inside import final_classifier

__all__ = [
    "COLOURS",
    "MARKERS",
    "RING",
    "Display",
    "bars",
    "check_known",
    "check_shape",
    "entry",
    "free_text",
    "group_name",
    "literal",
    "look",
    "new_axes",
    "place_legend",
    "positive_class",
    "predictions",
    "pyplot",
    "styled",
]

# Okabe and Ito's colours, which colour-blind readers can tell apart, and one marker fewer,
# so that no pair of the two comes twice among 42 series.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "X")

# Around a point that stays visible in it.
RING: dict[str, Any] = {
    "color": "black",
    "linestyle": "none",
    "marker": "o",
    "markerfacecolor": "none",
    "markeredgewidth": 1.5,
    "zorder": 4,
}

# A longer name in a legend is broken into lines.
_NAME_LENGTH = 34
# Marks the entries of a legend that are headings.
_BOLD = "bold"


class Display(ABC):
    """What holds the arrays of a plot, and draws them."""

    ax_: Any
    """The matplotlib Axes that it was drawn on; of several panels an array of them."""

    figure_: Any
    """The matplotlib Figure around them."""

    @abstractmethod
    def _draw(self, ax: Any, kwargs: dict[str, Any]) -> Any:
        """Check the arrays, draw them on the axes given or on new ones, and return these."""

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw what the display holds.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure of a fitting size. Of several panels a sequence of
            Axes, one for each.
        **kwargs
            Looks, in place of the display's own: passed to ``ax.plot`` or, where there may be
            intervals, to ``ax.errorbar``.

        Returns
        -------
        same class
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            For arrays whose shapes do not fit together, or that hold what the class does not take.
        """
        self.ax_ = self._draw(ax, kwargs)
        self.figure_ = np.ravel(self.ax_)[0].figure
        return self


def pyplot() -> Any:
    """Return ``matplotlib.pyplot``, or say that it is not there."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed: pip install 'skfairft[plots]'."
        ) from error
    return plt


def new_axes(ax: Any, figsize: tuple[float, float], **grid: Any) -> Any:
    """Return the axes to draw on: those given, or those of a new figure, sizes in inches.

    A grid of them by keywords of ``plt.subplots``.
    """
    if ax is not None:
        return ax
    return pyplot().subplots(figsize=figsize, layout="constrained", **grid)[1]


def look(i: int) -> dict[str, Any]:
    """Return colour and marker of the i-th series."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def styled(style: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the style of a line with the caller's keywords, ``c`` as good as ``color``, on top."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return style | normalize_kwargs(kwargs, Line2D)


def entry(label: str, *, bold: bool = False, **looks: Any) -> Any:
    """Return an entry of a legend, with a marker if the looks have one."""
    from matplotlib.lines import Line2D

    own = {"linestyle": "none", "label": label, "gid": _BOLD if bold else None}
    return Line2D([], [], **(own | looks))


def place_legend(ax: Any, handles: list[Any] | None = None, *, beside: bool = False) -> None:
    """Draw the legend where it covers least, or to the right of the axes.

    Beside them there is room only where the figure has a layout engine, as those have that a
    display makes itself.
    """
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    names = [
        fill(str(handle.get_label()), _NAME_LENGTH, break_long_words=False) for handle in handles
    ]
    # Inside the axes points stay visible through it.
    place: dict[str, Any] = {"loc": "best", "framealpha": 0.6}
    if beside and ax.figure.get_layout_engine() is not None:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    elif beside:
        place["fontsize"] = "small"
    legend = ax.legend(handles, names, edgecolor="none", **place)
    for handle, text in zip(handles, legend.get_texts(), strict=True):
        if getattr(handle, "get_gid", str)() == _BOLD:
            text.set_fontweight("bold")


def literal(name: Any) -> str:
    r"""Return a name as matplotlib shows it letter for letter.

    It takes text between dollar signs for formulas, and leaves labels that begin with an
    underscore out of legends. What is unseen in the name is written as in a Python string.

    Examples
    --------
    >>> literal("$10 to $20"), literal("_other")
    ('\\$10 to \\$20', ' _other')
    """
    return _as_it_is(_words.one_line(name))


def group_name(group: Any) -> str:
    """Return what a group is called in a plot, letter for letter."""
    return _as_it_is(_words.group_name(group))


def free_text(text: Any) -> str:
    """Return a user's name of an axis or a line, which may have several lines and formulas."""
    return escaped(str(text), keep="\n")


def _as_it_is(text: str) -> str:
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def check_known(name: Any, known: Collection[str], what: str) -> None:
    """Raise a ValueError for a name that is not one of those known."""
    if name not in known:
        hint = _words.did_you_mean(name, known)
        raise ValueError(f"Unknown {what} {name!r}.{hint} Expected one of {sorted(known)}.")


def check_shape(name: str, values: Any, expected: tuple[int, ...], why: str) -> None:
    """Raise a ValueError for an array, if there is one, of another shape."""
    if values is not None and np.shape(values) != expected:
        raise ValueError(f"{name} has shape {np.shape(values)}; expected {expected}, {why}.")


def predictions(estimator: Any, X: Any) -> Any:
    """Return an estimator's predictions of X, or say that it makes none."""
    if not hasattr(estimator, "predict"):
        raise TypeError(
            f"estimator is a {type(estimator).__name__} without predict; expected a fitted "
            "classifier, or a fitted pipeline or search around one."
        )
    return estimator.predict(X)


def positive_class(estimator: Any) -> Any:
    """Return the positive class of the classifier inside an estimator; None where there is none."""
    try:
        return final_classifier(estimator).pos_label_
    except (TypeError, NotFittedError):  # another classifier
        return None


def bars(
    interval: ArrayLike | None, value: NDArray[Any], at: NDArray[np.int64]
) -> NDArray[Any] | None:
    """Return the lengths of some points' error bars, shape (2, m), from their intervals."""
    if interval is None:
        return None
    low, high = np.asarray(interval, dtype=np.float64)[at].T
    # A percentile interval of a statistic that cannot be negative may lie beside its value.
    return np.maximum([value[at] - low, high - value[at]], 0.0)
