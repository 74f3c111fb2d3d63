"""Where and how the rates of a fairness report are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..parity.table import RATES, REPORTED
from ._common import bars, check_known, look, styled

__all__ = [
    "GAP",
    "draw_rate",
    "lay_out",
    "rate_look",
    "wanted_rates",
    "write",
]

# Room between two groups, and above a block for its heading, in dots.
GAP, _HEADING = 1.1, 1.8


def wanted_rates(metrics: Sequence[str] | None) -> list[str]:
    """Return the rates that are to be drawn, in the order of their drawing, or raise."""
    if metrics is None:
        return [name for name in REPORTED if not RATES[name].pooled]
    if isinstance(metrics, str) or not len(metrics):
        raise ValueError(f"metrics={metrics!r}; expected a list with some of {list(REPORTED)}.")
    for name in metrics:
        check_known(name, REPORTED, "rate")
    return [name for name in REPORTED if name in metrics]


def lay_out(
    labels: Sequence[str | None], n_groups: int, n_rates: int
) -> tuple[dict[str | None, NDArray[Any]], float]:
    """Return the middles (G,) of the groups of each block, and the end of the last one.

    Both are in dots from the top.

    Examples
    --------
    >>> layout, bottom = lay_out([None], n_groups=2, n_rates=1)
    >>> layout[None].round(2).tolist(), bottom
    ([1.05, 3.15], 4.2)
    """
    layout: dict[str | None, NDArray[Any]] = {}
    top = 0.0
    for label in labels:
        top += _HEADING if label is not None or len(labels) > 1 else 0.0
        pitch = n_rates + GAP
        layout[label] = top + (np.arange(n_groups) + 0.5) * pitch
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
        text = f"{RATES[rate].name} undefined"
        write(ax, height, text, **words, verticalalignment="center_baseline")
