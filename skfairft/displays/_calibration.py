"""Estimated probabilities of each group against what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics.calibration import calibration_table, group_bins, warn_of_few
from ..metrics.reliability import wilson
from ..metrics.report import FEW_ROWS
from ..summary.inside import label_probabilities
from ._common import (
    Display,
    bars,
    check_shape,
    entry,
    group_name,
    literal,
    look,
    new_axes,
    place_legend,
    styled,
)

__all__ = ["GroupCalibrationDisplay"]

# With more groups the legend is beside the axes.
_MANY = 4

# Room around the points, as a share of the axes.
_ROOM = 0.03

# How far from one half a share may be: with weights, sums in another order can round beyond 1.
_HALF = 0.5 + 1e-9


@dataclass(kw_only=True, eq=False, repr=False)
class GroupCalibrationDisplay(Display):
    """Estimated probability of the positive label against its share, by group, with intervals.

    The rows of each group are put in bins of their estimate; a point is a bin, on the diagonal if
    the estimate is right on average, below it if it is too high. A hollow point is of fewer than 30
    rows. The legend has the rows of each group, and its calibration error with its interval.

    Parameters
    ----------
    groups : sequence of length G
        Names of the groups.
    counts : array-like of shape (G,)
        Their rows.
    predicted, observed : sequence of G array-likes of shape (b,)
        Mean estimate, and share of the positive label, in the bins of each group; none of a group
        without weight.
    intervals : sequence of G array-likes of shape (b, 2) or None, default=None
        Lower and upper ends of the shares.
    rows : sequence of G array-likes of shape (b,) or None, default=None
        Rows of each bin.
    errors : array-like of shape (G, 3) or None, default=None
        Calibration error and the ends of its interval; NaN where rows are too few.
    confidence_level : float or None, default=None
        Nominal coverage of the intervals, in (0, 1).
    positive : object, default=None
        The positive label, for the axes; None says nothing of it.

    See Also
    --------
    skfairft.metrics.calibration_error : The same rows in numbers, and what the error is.

    Notes
    -----
    Intervals are Wilson's. They are of the share in a bin of other rows like these, each by itself:
    of twenty, one misses the diagonal by chance.

    Examples
    --------
    >>> import numpy as np
    >>> from skfairft import GroupCalibrationDisplay
    >>> rng = np.random.default_rng(0)
    >>> p, s = rng.random(2000), np.repeat(["a", "b"], 1000)
    >>> y = rng.random(2000) < np.where(s == "a", p, p**2)  # of b it comes less often
    >>> display = GroupCalibrationDisplay.from_predictions(y, p, sensitive_features=s, n_bins=4)
    >>> [bool((each < p).all()) for p, each in zip(display.predicted, display.observed)]
    [False, True]
    """

    groups: Any
    counts: ArrayLike
    predicted: Sequence[ArrayLike]
    observed: Sequence[ArrayLike]
    intervals: Sequence[ArrayLike] | None = None
    rows: Sequence[ArrayLike] | None = None
    errors: ArrayLike | None = None
    confidence_level: float | None = None
    positive: Any = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        sensitive_features: Any,
        pos_label: Any = None,
        sample_weight: Any = None,
        n_bins: int = 10,
        strategy: str = "quantile",
        confidence_level: float = 0.95,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the calibration of a fitted classifier.

        Parameters
        ----------
        estimator : classifier, Pipeline or search
            Fitted. Of a FairLowRankHeadClassifier, also inside a pipeline or a search, its
            ``predict_label_proba`` is drawn, of any other its ``predict_proba``.
        X : as for ``estimator.predict``
            n rows.
        y : array-like of shape (n,)
            Labels.
        sensitive_features, pos_label, sample_weight, n_bins, strategy, confidence_level, ax, \
**kwargs
            As for `from_predictions`.

        Returns
        -------
        GroupCalibrationDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        TypeError
            For an estimator without ``predict_proba``.
        ValueError
            As `from_predictions`.
        """
        p, classes = label_probabilities(estimator, X)
        return cls.from_predictions(
            y,
            p,
            sensitive_features=sensitive_features,
            labels=classes,
            pos_label=pos_label,
            sample_weight=sample_weight,
            n_bins=n_bins,
            strategy=strategy,
            confidence_level=confidence_level,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_prob: ArrayLike,
        *,
        sensitive_features: Any,
        labels: Any = None,
        pos_label: Any = None,
        sample_weight: Any = None,
        n_bins: int = 10,
        strategy: str = "quantile",
        confidence_level: float = 0.95,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the calibration of estimated probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            True labels.
        y_prob : array-like of shape (n,) or (n, k)
            Estimated probabilities of the positive label, or of each label.
        sensitive_features, labels
            As in `skfairft.metrics.calibration_error`.
        pos_label : label, default=None
            As there; of more than two labels it says which one is drawn, against the rest.
        sample_weight, n_bins, strategy, confidence_level
            As in `skfairft.metrics.calibration_error`.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        GroupCalibrationDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            As `calibration_error`, and for several labels without ``pos_label``.

        Warns
        -----
        FairnessWarning
            For groups of fewer than 30 rows, which have no error in the legend.
        """
        found = group_bins(
            y_true,
            y_prob,
            sensitive_features=sensitive_features,
            labels=labels,
            pos_label=pos_label,
            sample_weight=sample_weight,
            n_bins=n_bins,
            strategy=strategy,
            confidence_level=confidence_level,
        )
        if found.several:
            raise ValueError(
                f"There are the labels {found.classes}, and a picture is of one of them against "
                "the rest; pass pos_label=."
            )
        warn_of_few(found)
        table = calibration_table(found, confidence_level)
        none: list[float] = []
        display = cls(
            groups=found.groups,
            counts=found.counts,
            predicted=[none if each is None else each.predicted for each in found.found],
            observed=[none if each is None else each.observed for each in found.found],
            intervals=[
                np.empty((0, 2)) if each is None else wilson(each, confidence_level)
                for each in found.found
            ],
            rows=[none if each is None else each.rows for each in found.found],
            errors=table[["error", "error_low", "error_high"]].to_numpy(),
            confidence_level=confidence_level,
            positive=found.classes[0],
        )
        return display.plot(ax=ax, **kwargs)

    def _draw(self, ax: Any, kwargs: dict[str, Any]) -> Any:
        predicted, observed, few = self._checked()
        many = len(predicted) > _MANY
        ax = new_axes(ax, (8.0 if many else 5.4, 5.0))
        ends = [0.0]
        for i, (x, y) in enumerate(zip(predicted, observed, strict=True)):
            one = look(i)
            ax.plot(x, y, color=one["color"], linewidth=0.8, alpha=0.6, zorder=2)
            style = one | {"linestyle": "none", "markersize": 5, "elinewidth": 1.0, "capsize": 2}
            interval = None if self.intervals is None else self.intervals[i]
            for part, fill in ((~few[i], one["color"]), (few[i], "white")):
                at = np.flatnonzero(part)
                if len(at):
                    drawn = {"markerfacecolor": fill, "yerr": bars(interval, y, at), "zorder": 3}
                    ax.errorbar(x[at], y[at], **styled(style | drawn, kwargs))
            ends += [*x, *y, *([] if interval is None else np.ravel(interval))]
        top = 1.0 if max(ends) > 0.5 else max(max(ends), _ROOM)  # of a rare label they are low
        ax.axline((0.0, 0.0), slope=1.0, color="0.6", linewidth=1.0, zorder=1)
        ax.set_xlim(-_ROOM * top, (1 + _ROOM) * top)
        ax.set_ylim(-_ROOM * top, (1 + _ROOM) * top)
        of = "" if self.positive is None else f" of {literal(self.positive)}"
        level = self.confidence_level
        with_interval = "" if level is None else f", with {100 * level:g} % interval"
        ax.set_xlabel(f"mean estimated probability{of}")
        ax.set_ylabel(f"share{of}{with_interval}")
        place_legend(ax, self._entries(few), beside=many)
        return ax

    def _entries(self, few: list[NDArray[np.bool_]]) -> list[Any]:
        """Return the legend: groups with their rows and errors, and what hollow points are."""
        errors = None if self.errors is None else np.asarray(self.errors, dtype=np.float64)
        words = "" if errors is None else ": calibration error"
        found = [entry(f"group (rows){words}", bold=True)]
        for i, (group, n) in enumerate(
            zip(self.groups, np.asarray(self.counts).tolist(), strict=True)
        ):
            label = f"{group_name(group)} ({n:,})"
            if errors is not None and np.isnan(errors[i, 0]):
                label += ": too few rows"
            elif errors is not None:
                value, low, high = errors[i]
                # On one line, where the name is long.
                label += f": {value:.3f}\N{NO-BREAK SPACE}[{low:.3f},\N{NO-BREAK SPACE}{high:.3f}]"
            found.append(entry(label, **look(i), markersize=5))
        found.append(entry("calibrated", color="0.6", linestyle="-"))
        if any(each.any() for each in few):
            hollow: dict[str, Any] = {
                "color": "0.3",
                "marker": "o",
                "markerfacecolor": "white",
                "markersize": 5,
            }
            found.append(entry(f"hollow: fewer than {FEW_ROWS} rows", **hollow))
        return found

    def _checked(self) -> tuple[list[NDArray[Any]], list[NDArray[Any]], list[NDArray[np.bool_]]]:
        """Return the points of each group, and which of them are of few rows."""
        n_groups = len(self.groups)
        check_shape("counts", self.counts, (n_groups,), "one for each group")
        check_shape("errors", self.errors, (n_groups, 3), "error and interval of each group")
        for name in ("predicted", "observed", "intervals", "rows"):
            given = getattr(self, name)
            if given is not None and len(given) != n_groups:
                raise ValueError(
                    f"{name} has {len(given)} entries; expected one for each of the {n_groups} "
                    "groups."
                )
        predicted = [np.asarray(each, dtype=np.float64) for each in self.predicted]
        observed = [np.asarray(each, dtype=np.float64) for each in self.observed]
        few = []
        for i, (x, y) in enumerate(zip(predicted, observed, strict=True)):
            n, why = len(x), f"those of group {group_name(self.groups[i])}"
            check_shape(f"observed[{i}]", y, (n,), why)
            for name, values in (("predicted", x), ("observed", y)):
                if not (np.abs(values - 0.5) <= _HALF).all():
                    raise ValueError(
                        f"{name}[{i}] is {values.tolist()}; expected numbers in [0, 1]."
                    )
            if self.intervals is not None:
                check_shape(f"intervals[{i}]", self.intervals[i], (n, 2), why)
            if self.rows is not None:
                check_shape(f"rows[{i}]", self.rows[i], (n,), why)
            few.append(
                np.zeros(n, bool) if self.rows is None else np.asarray(self.rows[i]) < FEW_ROWS
            )
        return predicted, observed, few
