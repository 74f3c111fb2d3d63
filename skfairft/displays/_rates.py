"""Where and how the rates of a fairness report are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..parity.names import RATES
from ._common import bars, check_known, look, styled

__all__ = [
    "GAP",
    "SHORT",
    "Row",
    "draw_rate",
    "lay_out",
    "rate_look",
    "wanted_rates",
    "write",
]

SHORT = {"selection_rate": "selection", "tpr": "TPR", "fpr": "FPR"}

# Room between two groups, and above a block for its heading, in dots.
GAP, _HEADING = 1.1, 1.8


class Row(NamedTuple):
    """A group in a block of rates."""

    height: float  # of its middle, in dots from the top
    group: int


def wanted_rates(metrics: Sequence[str] | None) -> list[str]:
    """Return the rates that are to be drawn, in the order of their drawing, or raise."""
    if metrics is None:
        return list(RATES)
    if isinstance(metrics, str) or not len(metrics):
        raise ValueError(f"metrics={metrics!r}; expected a list with some of {list(RATES)}.")
    for name in metrics:
        check_known(name, RATES, "rate")
    return [name for name in RATES if name in metrics]


def lay_out(
    labels: Sequence[str | None], n_groups: int, n_rates: int
) -> tuple[dict[str | None, list[Row]], float]:
    """Return where the groups of each block are drawn, and where the last block ends, in dots.

    Examples
    --------
    >>> layout, bottom = lay_out([None], n_groups=2, n_rates=1)
    >>> [row.height for row in layout[None]], bottom
    ([1.05, 3.1500000000000004], 4.2)
    """
    layout: dict[str | None, list[Row]] = {}
    top = 0.0
    for label in labels:
        top += _HEADING if label is not None else 0.0
        pitch = n_rates + GAP
        layout[label] = [Row(top + (g + 0.5) * pitch, g) for g in range(n_groups)]
        top += n_groups * pitch
    return layout, top


def rate_look(rate: str) -> dict[str, Any]:
    """Return colour and marker of a rate, the same in every plot."""
    return look(list(RATES).index(rate))


def write(ax: Any, height: float, text: str, **looks: Any) -> None:
    """Write a text at the left end of the axes, at a height in dots."""
    ax.text(0.01, height, text, transform=ax.get_yaxis_transform(), **looks)


def draw_rate(
    ax: Any,
    rate: str,
    values: NDArray[np.float64],
    heights: NDArray[np.float64],
    interval: ArrayLike | None,
    few: ArrayLike | None,
    kwargs: dict[str, Any],
) -> None:
    """Draw one rate of all groups, (G,): dots with bars, and words where it is undefined."""
    one = rate_look(rate)
    style = one | {"linestyle": "none", "markersize": 5, "elinewidth": 1.0, "capsize": 2}
    hollow = np.zeros(len(values), bool) if few is None else np.asarray(few, dtype=bool)
    for part, fill in ((~hollow, one["color"]), (hollow, "white")):
        at = np.flatnonzero(part & ~np.isnan(values))
        if len(at):
            drawn = {"markerfacecolor": fill, "xerr": bars(interval, values, at)}
            ax.errorbar(values[at], heights[at], **styled(style | drawn, kwargs))
    words = {"color": one["color"], "fontsize": 7, "fontstyle": "italic"}
    for height in heights[np.isnan(values)]:
        text = f"{RATES[rate]} undefined"
        write(ax, height, text, **words, verticalalignment="center_baseline")
