"""What each group loses as a network is made smaller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..inputs.words import listed, shown
from ._common import (
    Display,
    bars,
    entry,
    free_text,
    group_name,
    literal,
    look,
    new_axes,
    place_legend,
    styled,
)
from ._compression_points import COLUMNS, by_system, check_groups, measure_of, points_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CompressionDisplay"]

# What the measures of a report are called.
_NAMES = {
    "loss_rise": "rise of the loss",
    "divergence": "divergence from the model",
    "agreement": "share of the same decisions",
    "accuracy_rise": "rise of the accuracy",
    "accuracy_small": "accuracy of the small model",
    "selection_rate": "selection rate of the model",
    "selection_rate_small": "selection rate of the small model",
}
# Those that are 0 where nothing changed, which must be in sight.
_CHANGES = ("loss_rise", "divergence", "accuracy_rise")
_SCALES = ("linear", "log")
# With more groups the legend is beside the axes, and intervals are bars.
_MANY = 4
# Panels side by side.
_ACROSS = 3
# Room beside the outermost points, as a share of the axis.
_ROOM = 0.06
# How far bars at one point may be apart, as a share of the axis.
_BESIDE = 0.08
# Inches that a letter of a tick takes.
_LETTER = 0.09


@dataclass(kw_only=True, eq=False, repr=False)
class CompressionDisplay(Display):
    """What each group loses by how small a network is made, with intervals.

    A line for each group, a band between the ends of its 95 % intervals (of many groups, or of one
    point, bars beside each other), and a dashed line for all rows. Several systems, such as ways to
    cut, have a panel each, with the same axes.

    Parameters
    ----------
    table : DataFrame, or mapping of its columns
        A row for each group of each network: ``system`` (its panel, "" if there is one only),
        ``x`` (how small), ``group``, ``value``, ``low`` and ``high`` (the ends of the interval, NaN
        draws none) and ``n`` (rows). Of each system and x the last row is of all rows.
    measure : str
        What the values are, such as "loss_rise"; for the axis.
    x_name : str, default="budget"
        Label of the horizontal axis.
    xscale : {"linear", "log"} or None, default=None
        None is "log" where all x are above 0.
    yscale : {"linear", "log"}, default="linear"
        "log" needs values above 0.

    See Also
    --------
    compression_report : Measures the points.
    compress : Makes a network smaller.

    Notes
    -----
    The intervals are those of the reports, each by itself. The points of a line are measured on the
    same rows, and groups on different ones: bands that overlap are no test. A budget that is chosen
    by this picture looks better in it than on other rows.

    Examples
    --------
    >>> from skfairft import CompressionDisplay
    >>> display = CompressionDisplay(
    ...     table={
    ...         "system": "", "x": [0.1] * 2 + [0.5] * 2, "group": ["a", "overall"] * 2,
    ...         "value": [0.3, 0.3, 0.1, 0.1], "low": 0.0, "high": 0.4, "n": 50,
    ...     },
    ...     measure="loss_rise",
    ... ).plot()
    >>> display.ax_.get_xscale(), display.ax_.get_ylabel()
    ('log', 'rise of the loss, with 95 % interval')
    """

    table: pd.DataFrame | Mapping[str, Any]
    measure: str
    x_name: str = "budget"
    xscale: str | None = None
    yscale: str = "linear"

    @classmethod
    def from_reports(
        cls,
        reports: Any,
        *,
        measure: str | None = None,
        x_name: str | None = None,
        xscale: str | None = None,
        yscale: str = "linear",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what `compression_report` found, of one way to cut or of several.

        Parameters
        ----------
        reports : mapping or list
            Of one system a mapping of numbers x, such as budgets or ranks, to the reports, or a
            list of reports, whose x is the share of the parameters that is left. Of several a
            mapping of their names to such, or to one report. All are of the same groups.
        measure : str or None, default=None
            A column of ``by_group`` that has an interval. None is "loss_rise" where all reports
            have it, else "divergence".
        x_name : str or None, default=None
            Label of the horizontal axis. None is "budget", or what lists have there.
        xscale, yscale
            As for the class.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        CompressionDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If there are no reports, or what is there are none; for an x that is no number, or
            comes twice; for reports of different groups; for a measure that is not in all.

        Examples
        --------
        >>> import torch
        >>> from torch import nn
        >>> from skfairft import CompressionDisplay, compress, compression_report
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
        >>> X, s = torch.randn(600, 20), torch.arange(600) % 5 == 0
        >>> reports = {}
        >>> for budget in (0.2, 0.4):
        ...     small = compress(model, X[:300], sensitive_features=s[:300], parameters=budget)
        ...     reports[budget] = compression_report(
        ...         model, small, X[300:], sensitive_features=s[300:], loss="softmax"
        ...     )
        >>> display = CompressionDisplay.from_reports(reports)
        >>> display.measure, display.table["group"].tolist()
        ('divergence', [False, True, 'overall', False, True, 'overall'])
        """
        found, of_lists = by_system(reports)
        check_groups(found)
        measure = measure_of(
            [each for points in found.values() for each in points.values()], measure
        )
        display = cls(
            table=points_table(found, measure),
            measure=measure,
            x_name=x_name or ("share of the parameters that is left" if of_lists else "budget"),
            xscale=xscale,
            yscale=yscale,
        )
        return display.plot(ax=ax, **kwargs)

    def _draw(self, ax: Any, kwargs: dict[str, Any]) -> Any:
        systems = self._checked()
        xs = np.unique(np.concatenate([own["x"] for own in systems.values()]))
        xscale = self.xscale or ("log" if xs[0] > 0 else "linear")
        beside = len(systems) > 1 or len(next(iter(systems.values()))["names"]) > _MANY + 1
        panels, below = self._panels(ax, len(systems), 8.0 if beside else 6.4)
        width = panels[0].get_window_extent().width / panels[0].figure.dpi
        limits, ticks = _limits_and_ticks(xs, width, log=xscale == "log")
        for i, (panel, (system, own)) in enumerate(zip(panels, systems.items(), strict=True)):
            panel.set_xscale(xscale)
            panel.set_yscale(self.yscale)
            # Of what else is on axes of the user all stays in sight.
            others = panel.get_xlim() if panel.has_data() else limits
            panel.set_xlim(min(limits[0], others[0]), max(limits[1], others[1]))
            if self.measure in _CHANGES and self.yscale == "linear":
                panel.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
            self._draw_system(panel, own, kwargs)
            panel.set_xticks(ticks, [_shown(x) for x in ticks])
            panel.set_xticks([], minor=True)
            if len(systems) > 1:
                panel.set_title(literal(system), fontsize="medium")
            if i in below:
                panel.tick_params(labelbottom=True)
                panel.set_xlabel(free_text(self.x_name))
            if i % _ACROSS == 0 or ax is not None:
                words = _NAMES.get(self.measure, free_text(self.measure).replace("_", " "))
                line = "\n" if len(systems) > 1 else " "  # panels are low
                panel.set_ylabel(f"{words},{line}with 95 % interval")
        ends = [panel.get_ylim() for panel in panels]
        for panel in panels if len(panels) > 1 else []:  # those of a user need not share it
            panel.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
        # In the first row: below it another panel may be at that place.
        place_legend(panels[min(len(panels), _ACROSS) - 1], self._entries(systems), beside=beside)
        return panels[0] if len(panels) == 1 else panels

    def _panels(self, ax: Any, n: int, width: float) -> tuple[NDArray[Any], set[int]]:
        """Return axes (n,), and of which of them the lower edge is free."""
        if ax is not None:
            given = np.ravel(np.asarray(ax, dtype=object))
            if len(given) != n:
                raise ValueError(
                    f"ax is {len(given)} Axes and there are {n} systems; expected one Axes for "
                    "each, or None for a figure of their own."
                )
            return given, set(range(n))
        if n == 1:
            return np.ravel(np.asarray(new_axes(None, (width, 4.2)), dtype=object)), {0}
        rows, across = -(-n // _ACROSS), min(n, _ACROSS)
        size = (3.1 * across + 2.0, 3.2 * rows + 0.4)
        grid = new_axes(
            None, size, nrows=rows, ncols=across, sharex=True, sharey=True, squeeze=False
        ).ravel()
        for unused in grid[n:]:
            unused.remove()
        return grid[:n], {i for i in range(n) if i + across >= n}

    def _draw_system(self, ax: Any, own: dict[str, Any], kwargs: dict[str, Any]) -> None:
        """Draw a line with a band or bars for each group, and one for all rows."""
        x, last = own["x"], len(own["names"]) - 1
        for g in range(last):
            value, ends, at = own["value"][:, g], own["ends"][:, g], x
            one = look(g) | {"linewidth": 1.4, "markersize": 5, "zorder": 3}
            if len(x) > 1 and last <= _MANY:
                ax.fill_between(x, *ends.T, color=one["color"], alpha=0.18, linewidth=0, zorder=1)
            else:  # the band of one point is not seen, those of many groups not told apart
                at = _aside(x, (g + 0.5) / last - 0.5, ax)
                yerr = bars(ends, value, np.arange(len(x)))
                one |= {"yerr": yerr, "elinewidth": 1.0, "capsize": 2}
            ax.errorbar(at, value, **styled(one, kwargs))
        ax.errorbar(x, own["value"][:, last], **styled(_of_all(len(x)), kwargs))

    def _entries(self, systems: dict[str, dict[str, Any]]) -> list[Any]:
        """Return the legend: groups with their rows, over all systems."""
        first = next(iter(systems.values()))
        counts = np.concatenate([own["n"] for own in systems.values()])
        points = max(len(own["x"]) for own in systems.values())
        found = []
        for g, name in enumerate(first["names"]):
            least, most = counts[:, g].min(), counts[:, g].max()
            rows = f"{least:,}" if least == most else f"{least:,} to {most:,}"
            looks = look(g) | {"linestyle": "-", "markersize": 5}
            if g == len(first["names"]) - 1:
                looks = _of_all(points)
            found.append(entry(f"{group_name(name)} (n={rows})", **looks))
        return found

    def _checked(self) -> dict[str, dict[str, Any]]:
        """Return what is drawn of each system, the points by x, or say what does not fit."""
        import pandas as pd

        table = pd.DataFrame(self.table)
        missing = [name for name in COLUMNS if name not in table]
        if missing or not len(table):
            raise ValueError(
                f"table has {len(table)} rows and the columns [{listed(table)}]; expected rows "
                f"with {', '.join(COLUMNS)}."
            )
        for name, value, known in [
            ("xscale", self.xscale, (*_SCALES, None)),
            ("yscale", self.yscale, _SCALES),
        ]:
            if value not in known:
                raise ValueError(f"{name}={value!r}; expected {' or '.join(map(repr, known))}.")
        if not np.isfinite(pd.to_numeric(table["x"], errors="coerce")).all():
            raise ValueError(f"x is [{listed(table['x'])}]; expected finite numbers.")
        for name, scale, values in [
            ("xscale", self.xscale, table["x"]),
            ("yscale", self.yscale, table["value"]),
        ]:
            if scale == "log" and (values <= 0).any():
                raise ValueError(
                    f"{name}='log', and {values.name} goes down to {values.min():.3g}; expected "
                    "numbers above 0. Use 'linear'."
                )
        systems: dict[Any, dict[str, Any]] = {}
        names = None
        for (system, _), part in table.groupby(["system", "x"], sort=False, dropna=False):
            own, x = part["group"].tolist(), float(part["x"].iloc[0])
            names = own if names is None else names
            if own != names or len(set(own[:-1])) < len(own) - 1:
                raise ValueError(
                    f"At x={x:g} of system {shown(system)} there are the groups [{listed(own)}], "
                    f"and before [{listed(names)}]; expected the same, each once and in one order."
                )
            found = systems.setdefault(system, {"names": names, "x": [], "numbers": [], "n": []})
            found["x"].append(x)
            found["numbers"].append(part[["value", "low", "high"]].to_numpy(np.float64))
            found["n"].append(part["n"].to_numpy())
        for found in systems.values():
            order = np.argsort(found["x"], kind="stable")
            numbers = np.stack(found.pop("numbers"))[order]  # (points, groups, 3)
            found["x"], found["n"] = (np.array(found[name])[order] for name in ("x", "n"))
            found["value"], found["ends"] = numbers[..., 0], numbers[..., 1:]
        return systems


def _of_all(n_points: int) -> dict[str, Any]:
    """Return the looks of the line of all rows, which of one point is a dash."""
    # Thin and with gaps: the line of a group that is nearly all rows is seen below it.
    looks = {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 1.2, "zorder": 4}
    return looks | ({"linestyle": "none", "marker": "_", "markersize": 14} if n_points == 1 else {})


def _aside(x: NDArray[np.float64], share: float, ax: Any) -> NDArray[np.float64]:
    """Return points moved aside, so that bars at one point do not cover each other."""
    log = ax.get_xscale() == "log"
    at, ends = (np.log10(each) if log else np.asarray(each) for each in (x, ax.get_xlim()))
    room = min([_BESIDE * (ends[1] - ends[0]), *(np.diff(at) / 2)])
    return 10.0 ** (at + share * room) if log else at + share * room


def _shown(x: float) -> str:
    return f"{x:,.0f}" if x.is_integer() or abs(x) >= 1000 else f"{x:.3g}"


def _limits_and_ticks(
    xs: NDArray[np.float64], width: float, *, log: bool
) -> tuple[tuple[float, float], list[float]]:
    """Return the ends of an axis of a width in inches, and the points that have room for a tick."""
    at = np.log10(xs) if log else xs
    wide = float(at[-1] - at[0]) or (0.5 if log else 1.0)
    low, high = at[0] - _ROOM * wide, at[-1] + _ROOM * wide
    inches, letters = at * width / (high - low), [len(_shown(x)) for x in xs.tolist()]
    ticks = [0]
    for i in range(1, len(at)):
        room = _LETTER * (1 + (letters[i] + letters[ticks[-1]]) / 2)
        if inches[i] - inches[ticks[-1]] >= room:
            ticks.append(i)
    limits = (10.0**low, 10.0**high) if log else (low, high)
    return (float(limits[0]), float(limits[1])), xs[ticks].tolist()
