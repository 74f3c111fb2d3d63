"""Rates of each group with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics.report import FEW_ROWS, FairnessReport
from ..metrics.scores import fairness_report
from ..parity.levels import check_groups_word
from ..parity.table import RATES, split_rate
from ._common import (
    Display,
    check_known,
    check_shape,
    entry,
    group_name,
    literal,
    new_axes,
    positive_class,
    predictions,
)
from ._rates import GAP, draw_rate, lay_out, rate_look, wanted_rates, write

__all__ = ["GroupRatesDisplay"]

# Inches for each dot, for each entry of the legend, and for what is below the axes.
_PITCH, _ENTRY, _MARGIN = 0.14, 0.18, 0.6

# How far from one half a rate may be: with weights, sums in another order can exceed 1 by rounding.
_HALF = 0.5 + 1e-9


@dataclass(kw_only=True, eq=False, repr=False)
class GroupRatesDisplay(Display):
    """Selection rate, true and false positive rate of each group, with intervals.

    A dot for each rate of each group, the groups below one another; a figure of its own is the
    higher the more there are. A rate that is undefined, such as the true positive rate of a
    group without positives, is written as "undefined". A hollow dot rests on fewer than 30 rows; a
    star marks its group.

    Parameters
    ----------
    groups : sequence of length G
        Names of the groups.
    counts : array-like of shape (G,)
        Their rows.
    rates : mapping of str to array-like of shape (G,)
        Rates in [0, 1], NaN if undefined, by "selection_rate", "tpr", "fpr", "fnr", "tnr" and
        "error"; with several positive labels by "tpr[label]" and so on, a block for each label.
    intervals : mapping of str to array-like of shape (G, 2) or None, default=None
        Lower and upper ends.
    differences : mapping of str to float or None, default=None
        Largest difference between groups of each rate.
    few : mapping of str to array-like of shape (G,), bool, or None, default=None
        Which rates rest on few rows.
    confidence_level : float or None, default=None
        Nominal coverage of the intervals, in (0, 1).
    positive : object, default=None
        The label that the rates take for positive, for the axis; None says nothing of it.
    columns : sequence of str of length G or None, default=None
        Of which sensitive column each group is a level, those of one side by side: then a line
        divides the columns, and each name has its column before it.

    See Also
    --------
    skfairft.metrics.fairness_report : The same numbers, and more, as tables.

    Notes
    -----
    Intervals of single groups that overlap, or do not, are no test of a difference. Parity of the
    rates on these rows is not fairness.

    Examples
    --------
    >>> from skfairft import GroupRatesDisplay
    >>> y, pred = [1, 1, 0, 0] * 50, [1, 1, 1, 0, 1, 0, 0, 0] * 25
    >>> sex = ["f", "f", "f", "f", "m", "m", "m", "m"] * 25
    >>> display = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=sex)
    >>> display.rates["tpr"].tolist()
    [1.0, 0.5]
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['f (n=100)', 'm (n=100)']
    """

    groups: Any
    counts: ArrayLike
    rates: Mapping[str, ArrayLike]
    intervals: Mapping[str, ArrayLike] | None = None
    differences: Mapping[str, float] | None = None
    few: Mapping[str, ArrayLike] | None = None
    confidence_level: float | None = None
    positive: Any = None
    columns: Sequence[str] | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        sensitive_features: Any,
        sample_weight: Any = None,
        pos_label: Any = None,
        confidence_level: float = 0.95,
        metrics: Sequence[str] | None = None,
        groups: str = "intersections",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the rates of a fitted classifier's predictions.

        Parameters
        ----------
        estimator : classifier, Pipeline or search
            Fitted; any that has ``predict``.
        X : as for ``estimator.predict``
            n rows.
        y : array-like of shape (n,)
            Labels.
        sensitive_features, sample_weight, pos_label, confidence_level
            As in `skfairft.metrics.fairness_report`, which counts collections of Dask by chunk.
            The ``pos_label`` of a `FairLowRankHeadClassifier` is that of its fit, if None.
        metrics, groups, ax, **kwargs
            As for `from_report`.

        Returns
        -------
        GroupRatesDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        TypeError
            For an estimator without ``predict``.
        ValueError
            As `fairness_report`, and for an unknown rate.
        """
        wanted_rates(metrics)
        return cls.from_predictions(
            y,
            predictions(estimator, X),
            sensitive_features=sensitive_features,
            sample_weight=sample_weight,
            pos_label=positive_class(estimator) if pos_label is None else pos_label,
            confidence_level=confidence_level,
            metrics=metrics,
            groups=groups,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        sensitive_features: Any,
        sample_weight: Any = None,
        pos_label: Any = None,
        confidence_level: float = 0.95,
        metrics: Sequence[str] | None = None,
        groups: str = "intersections",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the rates of predictions.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n,)
            True and predicted labels. With more than two, each is the positive one in turn, in a
            block of its own; ``pos_label`` takes one of them.
        sensitive_features, sample_weight, pos_label, confidence_level
            As in `skfairft.metrics.fairness_report`, which counts collections of Dask by chunk.
        metrics, groups, ax, **kwargs
            As for `from_report`.

        Returns
        -------
        GroupRatesDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            As `fairness_report`, and for an unknown rate.
        """
        wanted_rates(metrics)
        report = fairness_report(
            y_true,
            y_pred,
            sensitive_features=sensitive_features,
            sample_weight=sample_weight,
            pos_label=pos_label,
            confidence_level=confidence_level,
            n_boot=0,  # resamples are for F1, which is not drawn
        )
        return cls.from_report(report, metrics=metrics, groups=groups, ax=ax, **kwargs)

    @classmethod
    def from_report(
        cls,
        report: FairnessReport,
        *,
        metrics: Sequence[str] | None = None,
        groups: str = "intersections",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the rates of a report.

        Parameters
        ----------
        report : FairnessReport
            What `skfairft.metrics.fairness_report` returns.
        metrics : sequence of {"selection_rate", "tpr", "fpr", "error"} or None, default=None
            The rates to draw; None is the first three.
        groups : {"intersections", "columns"}, default="intersections"
            Whose rates, where there are several sensitive columns: those of their combinations, or
            of the levels of each column by itself.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        GroupRatesDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            For an unknown rate, or other ``groups``.

        Examples
        --------
        >>> from skfairft import GroupRatesDisplay
        >>> from skfairft.metrics import fairness_report
        >>> s = ["a", "a", "b", "b"] * 20
        >>> report = fairness_report([0, 1] * 40, [0, 1] * 40, sensitive_features=s, n_boot=0)
        >>> display = GroupRatesDisplay.from_report(report, metrics=["selection_rate"])
        >>> list(display.rates), display.differences
        (['selection_rate'], {'selection_rate': 0.0})
        """
        wanted = wanted_rates(metrics)
        check_groups_word(groups)
        names = [name for name in map(str, report.by_group) if split_rate(name)[0] in wanted]
        by_column = report.of_column if groups == "columns" else {}
        parts = list(by_column.values()) or [report]

        def joined(tables: list[Any], name: str) -> NDArray[Any]:
            return np.concatenate([table[name].to_numpy() for table in tables])

        tables = [part.by_group for part in parts]
        intervals = [part.group_intervals for part in parts]
        few = [part.support < FEW_ROWS for part in parts]
        apart: Any = np.stack([part.differences.loc[names, "value"] for part in parts])
        display = cls(
            groups=[group for table in tables for group in table.index.tolist()],
            counts=joined(tables, "count"),
            rates={name: joined(tables, name) for name in names},
            intervals={name: joined(intervals, name) for name in names},
            differences=dict(zip(names, map(_largest, apart.T), strict=True)),
            few={name: joined(few, name) for name in names},
            confidence_level=report.confidence_level,
            positive=report.positive,
            columns=[name for name, part in by_column.items() for _ in part.by_group.index] or None,
        )
        return display.plot(ax=ax, **kwargs)

    def _draw(self, ax: Any, kwargs: dict[str, Any]) -> Any:
        names, rates = self._checked()
        blocks: dict[str | None, dict[str, str]] = {}  # names by rate by positive label
        for name in rates:
            rate, label = split_rate(name)
            blocks.setdefault(label, {})[rate] = name
        order = [rate for rate in RATES if any(rate in block for block in blocks.values())]
        layout, bottom = lay_out(list(blocks), len(names), len(order))
        entries = self._entries(order, single=list(blocks) == [None])
        head, dots = _ENTRY * (len(entries) + 1), _PITCH * bottom  # inches
        if ax is not None:
            dots = ax.get_window_extent().height / ax.figure.dpi - head
        ax = new_axes(ax, (7.2, head + dots + _MARGIN))
        # Room for the legend above the dots; in low axes no more than they take themselves.
        top = -bottom * min(head / max(dots, _PITCH), 1.0)
        half = (len(order) + GAP) / 2
        for label, middles in layout.items():
            for middle in middles[1::2]:  # bands lead the eye from the name to the dots
                ax.axhspan(middle - half, middle + half, color="0.95", zorder=0)
            for rate, name in blocks[label].items():
                heights = middles + order.index(rate) - (len(order) - 1) / 2
                interval, few = ((each or {}).get(name) for each in (self.intervals, self.few))
                draw_rate(ax, rate, rates[name], heights, interval, few, kwargs)
            for at in self._first_of_columns()[1:]:
                ax.axhline((middles[at - 1] + middles[at]) / 2, color="0.4", linewidth=0.8)
            if label is not None or len(layout) > 1:
                text, height = self._head(label, blocks[label]), middles[0] - half - GAP / 2
                write(ax, height, text, fontsize=8, fontweight="bold", verticalalignment="center")
        ax.set_yticks(np.concatenate(list(layout.values())), names * len(layout))
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(bottom, top)
        ax.set_xlim(-0.02, 1.02)
        ax.grid(axis="x", color="0.85", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_xlabel(self._x_label())
        handles = [entry(**one, markersize=5) for one in entries]
        ax.legend(handles=handles, loc="upper left", edgecolor="none", fontsize="small")
        return ax

    def _first_of_columns(self) -> list[int]:
        """Return at which group each column begins."""
        columns = list(self.columns or ())
        return [i for i, name in enumerate(columns) if i == 0 or name != columns[i - 1]]

    def _head(self, label: str | None, names: dict[str, str]) -> str:
        """Return what a block's rates are of, and their differences."""
        text = "all classes" if label is None else f"class {literal(label)} against the rest"
        if self.differences is None:
            return text
        parts = [f"{RATES[rate].short} {self._difference(name)}" for rate, name in names.items()]
        return f"{text}; largest differences: {', '.join(parts)}"

    def _difference(self, name: str) -> str:
        value = np.nan if self.differences is None else self.differences.get(name, np.nan)
        return "undefined" if np.isnan(value) else f"{value:.3f}"

    def _x_label(self) -> str:
        label = "rate" if self.positive is None else f"rate (positive: {literal(self.positive)})"
        if self.confidence_level is None:
            return label
        return f"{label}, with {100 * self.confidence_level:g} % interval"

    def _entries(self, order: list[str], *, single: bool) -> list[dict[str, Any]]:
        """Return the legend: the rates, and if there is one block only their differences."""
        entries = []
        for rate in order:
            label = RATES[rate].name
            if single and self.differences is not None:
                where = "in a column " if self.columns else ""
                label += f": largest difference {where}{self._difference(rate)}"
            elif not single and RATES[rate].short not in label:
                label += f" ({RATES[rate].short})"
            entries.append(rate_look(rate) | {"label": label})
        if any(np.asarray(few).any() for few in (self.few or {}).values()):
            text = f"hollow, and * at the group: fewer than {FEW_ROWS} rows behind the rate"
            hollow = {"color": "0.3", "marker": "o", "markerfacecolor": "white"}
            entries.append(hollow | {"label": text})
        return entries

    def _checked(self) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
        """Return the groups' names as the ticks say them, and the rates."""
        names = [group_name(group) for group in self.groups]
        if self.columns is not None:
            check_shape("columns", self.columns, (len(names),), "one for each group")
            names = [f"{literal(c)}: {name}" for c, name in zip(self.columns, names, strict=True)]
        counts = np.asarray(self.counts)
        if counts.shape != (len(names),) or not len(names) or not self.rates:
            raise ValueError(
                f"There are {len(names)} groups, {len(self.rates)} rates, and counts of shape "
                f"{counts.shape}; expected at least one group and one rate, and a count per group."
            )
        rates = {name: np.asarray(values, np.float64) for name, values in self.rates.items()}
        for name, values in rates.items():
            check_known(split_rate(name)[0], RATES, "rate")
            if values.shape != (len(names),) or (np.abs(values - 0.5) > _HALF).any():
                raise ValueError(
                    f"rates[{name!r}] is {values.tolist()}; expected one number in [0, 1], or NaN, "
                    f"for each of the {len(names)} groups."
                )
        starred = np.zeros(len(names), bool)
        for few in (self.few or {}).values():
            starred |= np.asarray(few, dtype=bool)
        ticks = [
            f"{name} (n={count:,}){'*' * bool(star)}"
            for name, count, star in zip(names, counts.tolist(), starred, strict=True)
        ]
        return ticks, rates


def _largest(values: NDArray[np.float64]) -> float:
    """Return the largest number that is not NaN, else NaN."""
    return float(np.fmax.reduce(values))
