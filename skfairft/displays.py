"""Plots in scikit-learn's style: computed arrays in, ``plot(ax=None)``, ``ax_`` and ``figure_``.

matplotlib is imported when a plot is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .metrics import fairness_report

if TYPE_CHECKING:
    import pandas as pd

    from .path import FairnessPath

__all__ = ["FairnessTradeoffDisplay", "FisherImportanceDisplay"]

# Okabe and Ito's colours, which colour-blind readers can tell apart, and one marker fewer,
# so that no pair of the two comes twice among 42 systems.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "X")

# What the difference of a path is, by its constraint.
_DIFFERENCES = {
    "demographic_parity": "demographic parity distance\n(largest difference of selection rates)",
    "equalized_odds": "equalized odds distance\n(difference of true plus of false positive rates)",
    "true_positive_rate_parity": "largest difference of true positive rates",
    "false_positive_rate_parity": "largest difference of false positive rates",
}

_PAIR = (
    "peers[{!r}] is {!r}; expected (error, difference), two numbers or two arrays of one length."
)


def _axes(ax: Any, figsize: tuple[float, float]) -> Any:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed: pip install 'skfairft[plots]'."
        ) from error
    return plt.subplots(figsize=figsize, layout="constrained")[1]


class FisherImportanceDisplay:
    """Importance of each feature to each group, and what neutralization makes of it.

    Parameters
    ----------
    group_importance : ndarray of shape (G, d)
        ``I_g = sqrt(F_g)``, see `FairLowRankHeadClassifier`.
    importance : ndarray of shape (d,)
        The importance that weights the SVD.
    groups : sequence of length G
        Names of the groups.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure around it.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, FisherImportanceDisplay
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(random_state=0)
    >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
    >>> display = FisherImportanceDisplay.from_estimator(clf)
    >>> display.ax_.get_ylabel()
    'importance (square root of Fisher)'
    """

    def __init__(self, *, group_importance: ArrayLike, importance: ArrayLike, groups: Any) -> None:
        self.group_importance = group_importance
        self.importance = importance
        self.groups = groups

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the importances of a fitted classifier.

        Parameters
        ----------
        estimator : FairLowRankHeadClassifier
            Fitted.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            Passed to ``ax.plot``.

        Returns
        -------
        FisherImportanceDisplay
            With ``ax_`` and ``figure_``.
        """
        check_is_fitted(estimator, "group_importance_")
        display = cls(
            group_importance=estimator.group_importance_,
            importance=estimator.importance_,
            groups=estimator.groups_,
        )
        return display.plot(ax=ax, **kwargs)

    @property
    def similarity(self) -> NDArray[np.float64]:
        """Cosine between the groups' importances, shape (G, G); 1 leaves nothing to neutralize."""
        I = np.asarray(self.group_importance, dtype=np.float64)  # noqa: E741 - the method's symbol
        norm = np.linalg.norm(I, axis=1)
        return (I @ I.T) / np.outer(norm, norm)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw one line per group, features sorted by the importance in use.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            Passed to ``ax.plot``.

        Returns
        -------
        FisherImportanceDisplay
            Itself.
        """
        ax = _axes(ax, (7.0, 4.0))
        importance = np.asarray(self.importance)
        order = np.argsort(-importance, kind="stable")
        x = np.arange(1, len(order) + 1)
        style = {"linewidth": 0.8, "markersize": 4} | kwargs
        for i, (group, row) in enumerate(
            zip(self.groups, np.asarray(self.group_importance), strict=True)
        ):
            name = " / ".join(map(str, group)) if isinstance(group, tuple) else str(group)
            look = {
                "color": _COLOURS[i % len(_COLOURS)],
                "marker": _MARKERS[i % len(_MARKERS)],
                "label": name,
            }
            ax.plot(x, row[order], **(look | style))
        look = {"color": "0.2", "linestyle": "--", "label": "in use"}
        ax.plot(x, importance[order], **(look | style))
        ax.set_xlabel("feature, most important first")
        ax.set_ylabel("importance (square root of Fisher)")
        if len(self.similarity) > 1:
            lowest = self.similarity.min()
            ax.set_title(f"Lowest cosine between two groups: {lowest:.3f}", fontsize="medium")
        ax.set_ylim(bottom=0)
        ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class FairnessTradeoffDisplay:
    """Error against disparity, of single systems and along the path of a fairness weight.

    Parameters
    ----------
    names : sequence of length m
        Names of the systems. Points of one name are one system at several settings, and are joined.
    error : ndarray of shape (m,)
        Error in percent.
    disparity : ndarray of shape (m,)
        A fairness metric, 0 is parity.
    error_interval, disparity_interval : ndarray of shape (m, 2) or None, default=None
        Lower and upper ends of the error bars.
    disparity_name : str, default="demographic parity distance"
        Label of the axis.
    table : DataFrame or None, default=None
        Points of a path, as in `FairnessPath`.
    chosen : int or None, default=None
        The row of ``table`` to mark.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure around it.

    See Also
    --------
    fairness_path : Computes the points of a path.

    Examples
    --------
    >>> from skfairft import FairnessTradeoffDisplay
    >>> display = FairnessTradeoffDisplay(
    ...     names=["a", "b"], error=[15.0, 16.0], disparity=[0.18, 0.1]
    ... ).plot()
    >>> display.ax_.get_xlabel()
    'error: 100 - weighted F1 (%)'
    """

    def __init__(
        self,
        *,
        names: Any,
        error: ArrayLike,
        disparity: ArrayLike,
        error_interval: ArrayLike | None = None,
        disparity_interval: ArrayLike | None = None,
        disparity_name: str = "demographic parity distance",
        table: pd.DataFrame | None = None,
        chosen: int | None = None,
    ) -> None:
        self.names = names
        self.error = error
        self.disparity = disparity
        self.error_interval = error_interval
        self.disparity_interval = disparity_interval
        self.disparity_name = disparity_name
        self.table = table
        self.chosen = chosen

    @classmethod
    def from_path(
        cls,
        path: FairnessPath,
        *,
        chosen: int | None = None,
        peers: Mapping[str, Any] | pd.DataFrame | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a path, its Pareto front, and other systems beside it.

        Every point of the path is drawn, those that another point beats fainter. The front's
        points have their intervals, where the path has them, and are joined by steps: the least
        difference at each error.

        Parameters
        ----------
        path : FairnessPath
            What `fairness_path` returns.
        chosen : int or None, default=None
            A row of ``path.table`` to mark, such as ``path.choose(0.05)``.
        peers : mapping, DataFrame or None, default=None
            Systems to compare with, measured on the same rows: a mapping of names to (error,
            difference), each a number or an array, or a DataFrame with the columns ``name``,
            ``error`` and ``difference``.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            Passed to ``ax.errorbar``.

        Returns
        -------
        FairnessTradeoffDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            For a row that the path does not have, or peers that are not in one of these forms.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier, FairnessTradeoffDisplay, fairness_path
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=1000, disparity=0.4, random_state=0)
        >>> clf = FairLowRankHeadClassifier(
        ...     constraint="demographic_parity", solver="plug_in", random_state=0
        ... )
        >>> path = fairness_path(clf, X, y, sensitive_features=s, weights=5)
        >>> display = FairnessTradeoffDisplay.from_path(path, chosen=path.choose(0.1))
        >>> print(display.ax_.get_ylabel())
        demographic parity distance
        (largest difference of selection rates)
        """
        if chosen is not None and chosen not in path.table.index:
            raise ValueError(
                f"chosen={chosen!r} is not a row of the path, whose rows are 0 to "
                f"{len(path.table) - 1}; pass what path.choose(difference_bound) returns."
            )
        names, error, disparity = _peers(peers)
        display = cls(
            names=names,
            error=error,
            disparity=disparity,
            disparity_name=_DIFFERENCES[path.constraint],
            table=path.table,
            chosen=chosen,
        )
        display.plot(ax=ax, **kwargs)
        display.ax_.set_title(f"on {path.n_held_out:,} held-out rows", fontsize="medium")
        return display

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: Mapping[str, ArrayLike],
        *,
        sensitive_features: Any,
        metric: str = "demographic_parity_distance",
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw several systems' predictions of the same rows, with bootstrap intervals.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Labels.
        y_pred : mapping of str to array-like of shape (n,)
            Predictions by the name of their system.
        sensitive_features : array-like of shape (n,) or (n, c)
            Group of each row.
        metric : {"demographic_parity_distance", "equalized_odds_distance"}
            The vertical axis.
        random_state : int, RandomState or None, default=None
            Of the bootstrap.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            Passed to ``ax.errorbar``.

        Returns
        -------
        FairnessTradeoffDisplay
            With ``ax_`` and ``figure_``.
        """
        metrics = ["weighted_f1_error", metric]
        # (systems, 2 metrics, value and low and high)
        points = np.stack(
            [
                fairness_report(
                    y_true, pred, sensitive_features=sensitive_features, random_state=random_state
                )
                .headline.loc[metrics, ["value", "low", "high"]]
                .to_numpy(dtype=np.float64)
                for pred in y_pred.values()
            ]
        )
        display = cls(
            names=list(y_pred),
            error=points[:, 0, 0],
            disparity=points[:, 1, 0],
            error_interval=points[:, 0, 1:],
            disparity_interval=points[:, 1, 1:],
            disparity_name=metric.replace("_", " "),
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            Passed to ``ax.errorbar``.

        Returns
        -------
        FairnessTradeoffDisplay
            Itself.
        """
        ax = _axes(ax, (6.0, 4.5) if self.table is None else (7.0, 5.0))
        used = 0 if self.table is None else self._plot_path(ax, self.table, kwargs)
        error, disparity = np.asarray(self.error, float), np.asarray(self.disparity, float)
        names = [str(name) for name in self.names]
        for i, name in enumerate(dict.fromkeys(names), start=used):
            at = np.array([j for j, other in enumerate(names) if other == name])
            at = at[np.argsort(error[at], kind="stable")]
            look = {
                "color": _COLOURS[i % len(_COLOURS)],
                "marker": _MARKERS[i % len(_MARKERS)],
                "linestyle": "none" if len(at) == 1 else ":",
                "linewidth": 1.0,
                "markerfacecolor": "none",  # points that coincide stay visible
                "markersize": 8 if len(at) == 1 else 5,
                "capsize": 3,
                "label": name,
                "xerr": _bars(self.error_interval, error, at),
                "yerr": _bars(self.disparity_interval, disparity, at),
                "zorder": 3,
            }
            ax.errorbar(error[at], disparity[at], **(look | kwargs))
        ax.set_xlabel("error: 100 - weighted F1 (%)")
        ax.set_ylabel(self.disparity_name)
        # Parity is 0, and must be in sight. On an axis that holds other points, keep them in.
        ax.set_ylim(0.0, max(1.1 * self._top(), ax.get_ylim()[1]))
        ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _top(self) -> float:
        """Return the largest disparity to be seen, bars included."""
        tops = [self.disparity if self.disparity_interval is None else self.disparity_interval]
        if self.table is not None:
            tops.append(self.table["difference"])
        return max(float(np.nanmax(np.asarray(top, float), initial=0.0)) for top in tops)

    def _plot_path(self, ax: Any, table: pd.DataFrame, kwargs: dict[str, Any]) -> int:
        """Draw the points of a path, one look for each solver and rank; return how many looks."""
        front = table[table["on_front"]].sort_values("weighted_f1_error")
        # Between two points of the front, the difference that less error allows is the first's.
        steps = {"where": "post", "color": "0.35", "linewidth": 1.0, "zorder": 1}
        ax.step(front["weighted_f1_error"], front["difference"], label="Pareto front", **steps)
        series = table.groupby(["solver", "rank"], sort=False, dropna=False)
        one_rank = table["rank"].nunique(dropna=False) == 1
        for i, (_, part) in enumerate(series):
            solver, rank = part.iloc[0][["solver", "rank"]]
            name = solver if one_rank else _name(solver, rank)
            colour = _COLOURS[i % len(_COLOURS)]
            look = {
                "color": colour,
                "marker": _MARKERS[i % len(_MARKERS)],
                "linestyle": "none",
                "markersize": 4.5,
            }
            beaten = {"alpha": 0.45, "markeredgewidth": 0.0}
            _errorbar(ax, part[~part["on_front"]], look | beaten | kwargs)
            best = {
                "label": name,
                "ecolor": (colour, 0.2),
                "elinewidth": 0.8,
                "zorder": 2.5,
            }
            _errorbar(ax, part[part["on_front"]], look | best | kwargs, bars=True)
        if self.chosen is not None:
            row = table.loc[self.chosen]
            ring = {
                "color": "black",
                "linestyle": "none",
                "marker": "o",
                "markerfacecolor": "none",
                "markersize": 13,
                "markeredgewidth": 1.5,
                "zorder": 4,
                "label": f"chosen: {row['solver']}, fairness weight {row['fairness_weight']:.3g}",
            }
            # Not ax.plot, whose lines the legend would name before all others.
            ax.errorbar(row["weighted_f1_error"], row["difference"], **(ring | kwargs))
        return len(series)


def _errorbar(ax: Any, points: pd.DataFrame, look: dict[str, Any], bars: bool = False) -> None:
    """Draw rows of a path's table, with their intervals or without."""
    for key, name in (("xerr", "weighted_f1_error"), ("yerr", "difference")) if bars else ():
        interval = points[[f"{name}_low", f"{name}_high"]]
        value = points[name].to_numpy()
        look = {key: _bars(interval, value, np.arange(len(value)))} | look
    ax.errorbar(points["weighted_f1_error"], points["difference"], **look)


def _name(solver: str, rank: float | None) -> str:
    """Return the name of a series in the legend; a missing rank is that of the whole matrix."""
    return f"{solver}, full rank" if rank is None or np.isnan(rank) else f"{solver}, rank {rank:g}"


def _peers(peers: Any) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return names, errors and differences of other systems, each (m,)."""
    form = "a mapping of names to (error, difference)"
    if hasattr(peers, "columns"):
        missing = [name for name in ("name", "error", "difference") if name not in peers]
        if missing:
            raise ValueError(
                f"peers is a DataFrame with the columns {list(peers)}; {missing} are missing. It "
                f"needs name, error and difference; or pass {form}."
            )
        error, difference = (peers[name].to_numpy(np.float64) for name in ("error", "difference"))
        return list(map(str, peers["name"])), error, difference
    if peers is not None and not isinstance(peers, Mapping):
        raise ValueError(f"peers is a {type(peers).__name__}; expected {form}, or a DataFrame.")
    names: list[str] = []
    points: list[NDArray[np.float64]] = []
    for name, pair in (peers or {}).items():
        try:
            block = np.stack([np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in pair])
        except (TypeError, ValueError) as problem:
            raise ValueError(_PAIR.format(name, pair)) from problem
        if block.ndim != 2 or len(block) != 2:
            raise ValueError(_PAIR.format(name, pair))
        names += [str(name)] * block.shape[1]
        points.append(block)
    together = np.concatenate(points, axis=1) if points else np.zeros((2, 0))
    return names, together[0], together[1]


def _bars(
    interval: ArrayLike | None, value: NDArray[Any], at: NDArray[np.int64]
) -> NDArray[Any] | None:
    """Return the lengths of some points' error bars, shape (2, m), from their intervals."""
    if interval is None:
        return None
    low, high = np.asarray(interval, dtype=np.float64)[at].T
    # A percentile interval of a statistic that cannot be negative may lie beside its value.
    return np.maximum([value[at] - low, high - value[at]], 0.0)
