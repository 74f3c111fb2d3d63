"""Plots in scikit-learn's style: computed arrays in, ``plot(ax=None)``, ``ax_`` and ``figure_``.

matplotlib is imported when a plot is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .metrics import fairness_report

__all__ = ["FairnessTradeoffDisplay", "FisherImportanceDisplay"]

# Okabe and Ito's colours, which colour-blind readers can tell apart, and one marker fewer,
# so that no pair of the two comes twice among 42 systems.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "X")


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
    """Error against disparity, one point with error bars per system.

    Parameters
    ----------
    names : sequence of length m
        Names of the systems.
    error : ndarray of shape (m,)
        Error in percent.
    disparity : ndarray of shape (m,)
        A fairness metric, 0 is parity.
    error_interval, disparity_interval : ndarray of shape (m, 2) or None, default=None
        Lower and upper ends of the error bars.
    disparity_name : str, default="demographic parity distance"
        Label of the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure around it.

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
    ) -> None:
        self.names = names
        self.error = error
        self.disparity = disparity
        self.error_interval = error_interval
        self.disparity_interval = disparity_interval
        self.disparity_name = disparity_name

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
        ax = _axes(ax, (6.0, 4.5))
        error, disparity = np.asarray(self.error), np.asarray(self.disparity)
        for i, name in enumerate(self.names):
            look = {
                "color": _COLOURS[i % len(_COLOURS)],
                "marker": _MARKERS[i % len(_MARKERS)],
                "linestyle": "none",
                "markerfacecolor": "none",  # points that coincide stay visible
                "markersize": 8,
                "capsize": 3,
                "label": str(name),
                "xerr": _bars(self.error_interval, error, i),
                "yerr": _bars(self.disparity_interval, disparity, i),
            }
            ax.errorbar(error[i], disparity[i], **(look | kwargs))
        ax.set_xlabel("error: 100 - weighted F1 (%)")
        ax.set_ylabel(self.disparity_name)
        # Parity is 0, and must be in sight. On an axis that holds other points, keep them in.
        tops = disparity if self.disparity_interval is None else self.disparity_interval
        ax.set_ylim(0.0, max(1.1 * float(np.nanmax(tops)), ax.get_ylim()[1]))
        ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _bars(interval: ArrayLike | None, value: NDArray[Any], i: int) -> NDArray[Any] | None:
    """Return the lengths of one point's error bars, shape (2, 1), from its interval."""
    if interval is None:
        return None
    low, high = np.asarray(interval, dtype=np.float64)[i]
    # A percentile interval of a statistic that cannot be negative may lie beside its value.
    return np.maximum([[value[i] - low], [high - value[i]]], 0.0)
