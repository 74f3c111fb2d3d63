"""Drawing of the points of a trade-off."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..parity.judge import pareto_front
from ._common import RING, bars, look, styled

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Systems", "draw_path", "draw_systems"]

# A legend of more names than this is longer than the plot is high.
_MOST_NAMED = 12


class Systems(NamedTuple):
    """Points with the names of their systems."""

    names: list[str]  # m
    error: NDArray[np.float64]  # (m,)
    disparity: NDArray[np.float64]  # (m,)
    error_interval: Any  # (m, 2) or None
    disparity_interval: Any  # (m, 2) or None

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Which points have both numbers."""
        return np.isfinite(self.error) & np.isfinite(self.disparity)

    def members(self, among: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return some of the points by the name of their system, each in the order of its error."""
        found: dict[str, list[int]] = {}
        for i in among.tolist():
            found.setdefault(self.names[i], []).append(i)
        return {name: self.by_error(np.array(at)) for name, at in found.items()}

    def by_error(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return some of the points in the order of their error."""
        return at[np.argsort(self.error[at], kind="stable")]


def draw_systems(ax: Any, systems: Systems, chosen: int | None, kwargs: dict[str, Any]) -> None:
    """Draw systems, of many those on the front with intervals and the others faint.

    Those on the front of many are named if they are few.
    """
    front = pareto_front(systems.error, systems.disparity)
    if front.sum() > 1:
        _draw_front(ax, systems, front)
    everyone = systems.members(np.arange(len(systems.names)))
    if len(everyone) <= _MOST_NAMED:
        _draw_named(ax, systems, everyone, 0, kwargs)
    else:
        _draw_crowd(ax, systems, front, kwargs)
    if chosen is not None:
        _draw_ring(ax, systems, chosen, systems.names[chosen])


def draw_path(
    ax: Any,
    table: pd.DataFrame,
    chosen: int | None,
    peers: Systems,
    kwargs: dict[str, Any],
) -> None:
    """Draw the points of a path, one look for each solver and rank, and peers beside them."""
    columns = ("weighted_f1_error", "difference")
    points = Systems(
        table["solver"].tolist(),
        *(table[name].to_numpy(np.float64) for name in columns),
        *(table[[f"{name}_low", f"{name}_high"]].to_numpy(np.float64) for name in columns),
    )
    bare = points._replace(error_interval=None, disparity_interval=None)
    # Of several constraints some are on the front of the table for another one's sake.
    front = pareto_front(*(table[name] for name in columns))
    _draw_front(ax, points, front)
    # Rank 1 is a number, 1.0 a share of the energy: pandas would take them for the same.
    ranks = [_rank_name(rank) for rank in table["rank"]]
    series: dict[tuple[str, str], list[int]] = {}
    for i, name in enumerate(zip(points.names, ranks, strict=True)):
        series.setdefault(name, []).append(i)
    for i, ((solver, rank), members) in enumerate(series.items()):
        at = np.array(members)
        style = look(i) | {"linestyle": "none", "markersize": 4.5}
        beaten = {"alpha": 0.45, "markeredgewidth": 0.0}
        _draw(ax, bare, at[~front[at]], style | beaten, kwargs)
        best = {"label": solver if len(set(ranks)) == 1 else f"{solver}, {rank}", "zorder": 2.5}
        ends = {"ecolor": (style["color"], 0.2), "elinewidth": 0.8, "capsize": None}
        _draw(ax, points, at[front[at]], style | best | ends, kwargs)
    if chosen is not None:
        i = int(np.flatnonzero(table.index == chosen)[0])
        weight = f"fairness weight {table['fairness_weight'].iloc[i]:.3g}"
        _draw_ring(ax, points, i, f"{points.names[i]}, {weight}")
    everyone = peers.members(np.arange(len(peers.names)))
    _draw_named(ax, peers, everyone, len(series), kwargs)


def _draw_front(ax: Any, systems: Systems, front: NDArray[np.bool_]) -> None:
    """Draw the points of a front as steps: the least disparity at each error."""
    x, y = systems.error[front], systems.disparity[front]
    order = np.lexsort((y, x))
    # Between two points of the front, the difference that less error allows is the first's.
    steps = {"where": "post", "color": "0.35", "linewidth": 1.0, "zorder": 1}
    ax.step(x[order], y[order], label="Pareto front", **steps)


def _draw_named(
    ax: Any,
    systems: Systems,
    members: dict[str, NDArray[np.int64]],
    used: int,
    kwargs: dict[str, Any],
) -> None:
    """Draw systems, each with a look of its own; ``used`` looks are taken already."""
    for i, (name, at) in enumerate(members.items(), start=used):
        style = look(i) | {
            "linestyle": "none" if len(at) == 1 else ":",
            "linewidth": 1.0,
            "markerfacecolor": "none",  # points that coincide stay visible
            "markersize": 8 if len(at) == 1 else 5,
            "label": name if systems.defined[at].any() else f"{name} (undefined)",
            "zorder": 3,
        }
        _draw(ax, systems, at, style, kwargs)


def _draw_crowd(
    ax: Any, systems: Systems, front: NDArray[np.bool_], kwargs: dict[str, Any]
) -> None:
    """Draw systems too many to be named."""
    others = np.flatnonzero(~front & systems.defined)
    plain: dict[str, Any] = {"marker": "o", "linestyle": "none"}
    faint = {"color": "0.55", "markersize": 4, "markeredgewidth": 0.0, "alpha": 0.5}
    lost = int((~systems.defined).sum())
    label = f"beaten by another ({len(others):,})" + (f", {lost:,} undefined" if lost else "")
    faint |= {"label": label, "zorder": 1.5}
    bare = systems._replace(error_interval=None, disparity_interval=None)
    _draw(ax, bare, others, plain | faint, kwargs)
    best = systems.by_error(np.flatnonzero(front))
    members = systems.members(best)
    if len(members) <= _MOST_NAMED:
        _draw_named(ax, systems, members, 0, kwargs)
        return
    style = look(0) | {"markersize": 5, "zorder": 3, "label": f"on the front ({len(best):,})"}
    _draw(ax, systems, best, plain | style, kwargs)


def _draw_ring(ax: Any, systems: Systems, i: int, name: str) -> None:
    """Draw a ring around a point."""
    # Not ax.plot, whose lines the legend would name before all others.
    point = systems.error[i], systems.disparity[i]
    ax.errorbar(*point, **RING, markersize=13, label=f"chosen: {name}")


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


def _rank_name(rank: float | None) -> str:
    """Return the name of a rank in the legend; a missing one is that of the whole matrix."""
    if rank is None or np.isnan(rank):
        return "full rank"
    return f"rank {rank}" if isinstance(rank, Integral) else f"energy {rank:g}"
