"""Drawing of the points of a trade-off."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..parity.judge import pareto_front
from ._common import bars, look, styled

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MOST_NAMED",
    "Systems",
    "draw_crowd",
    "draw_front",
    "draw_path",
    "draw_ring",
    "draw_systems",
]

# A legend of more names than this is longer than the plot is high.
MOST_NAMED = 12


class Systems(NamedTuple):
    """Points with the names of their systems."""

    names: list[str]  # m
    error: NDArray[np.float64]  # (m,)
    disparity: NDArray[np.float64]  # (m,)
    error_interval: ArrayLike | None  # (m, 2)
    disparity_interval: ArrayLike | None  # (m, 2)

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Which points have both numbers."""
        return np.isfinite(self.error) & np.isfinite(self.disparity)

    @property
    def distinct(self) -> list[str]:
        """The systems' names, each once."""
        return list(dict.fromkeys(self.names))

    @property
    def on_front(self) -> NDArray[np.bool_]:
        """Which points no other one beats."""
        return pareto_front(self.error, self.disparity)


def draw_front(ax: Any, error: ArrayLike, disparity: ArrayLike) -> None:
    """Draw the points of a front as steps: the least disparity at each error."""
    x, y = np.asarray(error, dtype=np.float64), np.asarray(disparity, dtype=np.float64)
    order = np.lexsort((y, x))
    # Between two points of the front, the difference that less error allows is the first's.
    steps = {"where": "post", "color": "0.35", "linewidth": 1.0, "zorder": 1}
    ax.step(x[order], y[order], label="Pareto front", **steps)


def draw_systems(ax: Any, systems: Systems, used: int, kwargs: dict[str, Any]) -> None:
    """Draw systems, each with a look of its own; ``used`` looks are taken already."""
    of_name: dict[str, list[int]] = {name: [] for name in systems.distinct}
    for i, name in enumerate(systems.names):
        of_name[name].append(i)
    for i, (name, members) in enumerate(of_name.items(), start=used):
        at = np.array(members)
        at = at[np.argsort(systems.error[at], kind="stable")]
        style = look(i) | {
            "linestyle": "none" if len(at) == 1 else ":",
            "linewidth": 1.0,
            "markerfacecolor": "none",  # points that coincide stay visible
            "markersize": 8 if len(at) == 1 else 5,
            "label": name if systems.defined[at].any() else f"{name} (undefined)",
            "zorder": 3,
        }
        _draw(ax, systems, at, style, kwargs)


def draw_crowd(ax: Any, systems: Systems, kwargs: dict[str, Any]) -> None:
    """Draw systems too many to be named: those on the front with intervals, the others faint.

    The front's are named if they are few.
    """
    front = systems.on_front
    others = np.flatnonzero(~front & systems.defined)
    plain: dict[str, Any] = {"marker": "o", "linestyle": "none"}
    faint = {"color": "0.55", "markersize": 4, "markeredgewidth": 0.0, "alpha": 0.5}
    lost = int((~systems.defined).sum())
    label = f"beaten by another ({len(others):,})" + (f", {lost:,} undefined" if lost else "")
    faint |= {"label": label, "zorder": 1.5}
    beaten = systems._replace(error_interval=None, disparity_interval=None)
    _draw(ax, beaten, others, plain | faint, kwargs)
    best = np.flatnonzero(front)
    best = best[np.argsort(systems.error[best], kind="stable")]
    if len({systems.names[i] for i in best}) <= MOST_NAMED:
        named = Systems(
            [systems.names[i] for i in best],
            *(np.asarray(values)[best] for values in systems[1:3]),
            *(None if values is None else np.asarray(values)[best] for values in systems[3:]),
        )
        draw_systems(ax, named, 0, kwargs)
        return
    style = look(0) | {"markersize": 5, "zorder": 3, "label": f"on the front ({len(best):,})"}
    _draw(ax, systems, best, plain | style, kwargs)


def draw_path(ax: Any, table: pd.DataFrame, kwargs: dict[str, Any]) -> int:
    """Draw the points of a path, one look for each solver and rank; return how many looks."""
    front = table[table["on_front"]]
    draw_front(ax, front["weighted_f1_error"], front["difference"])
    # Rank 1 is a number, 1.0 a share of the energy: pandas would take them for the same.
    ranks = table["rank"].map(_rank_name)
    series = table.groupby(["solver", ranks], sort=False)
    one_rank = ranks.nunique() == 1
    for i, ((solver, rank), part) in enumerate(series):
        style = look(i) | {"linestyle": "none", "markersize": 4.5}
        beaten = {"alpha": 0.45, "markeredgewidth": 0.0}
        _draw_rows(ax, part[~part["on_front"]], style | beaten, kwargs, with_bars=False)
        best = {"label": solver if one_rank else f"{solver}, {rank}", "zorder": 2.5}
        _draw_rows(ax, part[part["on_front"]], style | best, kwargs, with_bars=True)
    return len(series)


def draw_ring(ax: Any, point: tuple[Any, Any], name: str) -> None:
    """Draw a ring around a point, which stays visible in it."""
    # Not ax.plot, whose lines the legend would name before all others.
    ax.errorbar(
        *point,
        color="black",
        linestyle="none",
        marker="o",
        markerfacecolor="none",
        markersize=13,
        markeredgewidth=1.5,
        zorder=4,
        label=f"chosen: {name}",
    )


def _draw(
    ax: Any,
    systems: Systems,
    at: NDArray[np.int64],
    style: dict[str, Any],
    kwargs: dict[str, Any],
) -> None:
    """Draw some of the points with their intervals."""
    faint = {"ecolor": (style["color"], 0.45), "elinewidth": 0.9, "capsize": 2}
    error, disparity = systems.error, systems.disparity
    ends = {
        "xerr": bars(systems.error_interval, error, at),
        "yerr": bars(systems.disparity_interval, disparity, at),
    }
    ax.errorbar(error[at], disparity[at], **styled(faint | style | ends, kwargs))


def _draw_rows(
    ax: Any, points: pd.DataFrame, style: dict[str, Any], kwargs: dict[str, Any], with_bars: bool
) -> None:
    """Draw rows of a path's table, with their intervals or without."""
    for key, name in (("xerr", "weighted_f1_error"), ("yerr", "difference")) if with_bars else ():
        interval = points[[f"{name}_low", f"{name}_high"]]
        value = points[name].to_numpy()
        style = {key: bars(interval, value, np.arange(len(value)))} | style
    faint = {"ecolor": (style["color"], 0.2), "elinewidth": 0.8}
    ax.errorbar(points["weighted_f1_error"], points["difference"], **styled(faint | style, kwargs))


def _rank_name(rank: float | None) -> str:
    """Return the name of a rank in the legend; a missing one is that of the whole matrix."""
    if rank is None or np.isnan(rank):
        return "full rank"
    return f"rank {rank}" if isinstance(rank, Integral) else f"energy {rank:g}"
