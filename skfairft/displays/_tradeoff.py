"""Error against disparity, of systems, of a search's candidates, and along a path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..metrics.scores import fairness_report
from ..parity.table import TABLE, by_metric
from ..path import FairnessPath
from ._common import (
    Display,
    check_known,
    check_shape,
    free_text,
    literal,
    new_axes,
    place_legend,
    predictions,
)
from ._tradeoff_draw import Systems, draw_path, draw_systems
from ._tradeoff_points import ERROR_NAME, peer_points, search_points

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FairnessTradeoffDisplay"]

# A legend of more names than this stands beside the axes.
_NAMES_INSIDE = 7

_BY_COLUMN = "\n(each sensitive column by itself)"

# Room below parity, for the markers of points at 0, as a share of the axis.
_BELOW_PARITY = 0.03


def _constraint_of(metric: str) -> str:
    """Return the constraint whose distance a metric is, or raise."""
    check_known(metric, list(by_metric()), "metric")
    return by_metric()[metric]


@dataclass(kw_only=True, eq=False, repr=False)
class FairnessTradeoffDisplay(Display):
    """Error against disparity: of systems, of a search's candidates, and along a path.

    The lower left is better. Steps join the points that no other point beats, the Pareto front.

    Parameters
    ----------
    names : sequence of length m
        Names of the systems. Points of one name are one system at several settings, and are joined.
        Of more than 12 systems only those on the front have their names and intervals.
    error : ndarray of shape (m,)
        Error in percent, or another one, the smaller the better. NaN is not drawn.
    disparity : ndarray of shape (m,)
        A fairness metric, 0 is parity. NaN is not drawn.
    error_interval, disparity_interval : ndarray of shape (m, 2) or None, default=None
        Lower and upper ends of the error bars.
    error_name : str, default="error: 100 - weighted F1 (%)"
        Label of the horizontal axis.
    disparity_name : str, default="demographic parity distance"
        Label of the vertical axis.
    table : DataFrame or None, default=None
        Points of a path, as in `FairnessPath`; the front is then theirs.
    chosen : int or None, default=None
        The row of ``table`` to mark; without a table, the number of the point.

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

    names: Any
    error: ArrayLike
    disparity: ArrayLike
    error_interval: ArrayLike | None = None
    disparity_interval: ArrayLike | None = None
    error_name: str = ERROR_NAME
    disparity_name: str = "demographic parity distance"
    table: pd.DataFrame | None = None
    chosen: int | None = None

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
        ax, **kwargs
            As for `plot`.

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
        names, error, disparity = peer_points(peers)
        row = TABLE[path.constraint]
        display = cls(
            names=names,
            error=error,
            disparity=disparity,
            disparity_name=row.distance + (f"\n({row.meaning})" if row.meaning else ""),
            table=path.table,
            chosen=chosen,
        )
        display.plot(ax=ax, **kwargs)
        display.ax_.set_title(f"on {path.judged_on}", fontsize="medium")
        return display

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: Mapping[str, ArrayLike],
        *,
        sensitive_features: Any,
        metric: str = "demographic_parity_distance",
        groups: str = "intersections",
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw several systems' predictions of the same rows, with 95 % intervals.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Labels.
        y_pred : mapping of str to array-like of shape (n,)
            Predictions by the name of their system.
        sensitive_features : array-like of shape (n,) or (n, c)
            Group of each row.
        metric : str, default="demographic_parity_distance"
            The vertical axis, a distance that `skfairft.metrics.fairness_scorer` scores.
        groups : {"intersections", "columns"}, default="intersections"
            Between what the distance is, as in `skfairft.metrics.demographic_parity_distance`.
        random_state : int, RandomState or None, default=None
            Of the resamples behind the intervals of the errors.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        FairnessTradeoffDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            For an unknown metric, predictions without names, and as `fairness_report`.
        """
        constraint = _constraint_of(metric)
        if not isinstance(y_pred, Mapping) or not len(y_pred):
            raise ValueError(
                f"y_pred is a {type(y_pred).__name__}; expected a mapping of names to predictions, "
                "such as {'mine': clf.predict(X)}."
            )
        given: dict[str, Any] = {"sensitive_features": sensitive_features}
        given |= {"constraint": constraint, "random_state": random_state}
        given["groups"] = groups
        headlines = [fairness_report(y_true, pred, **given).headline for pred in y_pred.values()]
        # (systems, 2 metrics, value and low and high)
        points = np.stack([one.loc[["weighted_f1_error", metric]].to_numpy() for one in headlines])
        display = cls(
            names=list(y_pred),
            error=points[:, 0, 0],
            disparity=points[:, 1, 0],
            error_interval=points[:, 0, 1:],
            disparity_interval=points[:, 1, 1:],
            disparity_name=TABLE[constraint].distance + _BY_COLUMN * (groups == "columns"),
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        sensitive_features: Any,
        metric: str = "demographic_parity_distance",
        groups: str = "intersections",
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw one or several fitted classifiers on the same rows, with 95 % intervals.

        Parameters
        ----------
        estimator : classifier, Pipeline or search, or mapping of str to such
            Fitted; any that has ``predict``. One alone is named by its class.
        X : as for ``predict``
            n rows.
        y : array-like of shape (n,)
            Labels.
        sensitive_features, metric, groups, random_state, ax, **kwargs
            As for `from_predictions`.

        Returns
        -------
        FairnessTradeoffDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        TypeError
            For an estimator without ``predict``.
        ValueError
            As `from_predictions`.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier, FairnessTradeoffDisplay
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=500, disparity=0.4, random_state=0)
        >>> fitted = {
        ...     f"weight {weight}": FairLowRankHeadClassifier(
        ...         constraint="demographic_parity", fairness_weight=weight, solver="closed_form",
        ...         importance="covariance",
        ...     ).fit(X, y, sensitive_features=s)
        ...     for weight in (0.0, 0.9)
        ... }
        >>> display = FairnessTradeoffDisplay.from_estimator(
        ...     fitted, X, y, sensitive_features=s, random_state=0
        ... )
        >>> bool(display.disparity[1] < display.disparity[0])
        True
        """
        _constraint_of(metric)
        if not isinstance(estimator, Mapping):
            estimator = {type(estimator).__name__: estimator}
        return cls.from_predictions(
            y,
            {name: predictions(one, X) for name, one in estimator.items()},
            sensitive_features=sensitive_features,
            metric=metric,
            groups=groups,
            random_state=random_state,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Any,
        *,
        error: str = "error",
        disparity: str = "disparity",
        chosen: int | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the candidates of a search that scored error and disparity.

        Scores come with a minus sign where smaller is better; here they are without.

        Parameters
        ----------
        cv_results : mapping, DataFrame or search
            ``cv_results_`` of a search with several metrics, or the search itself.
        error, disparity : str, default="error", "disparity"
            Names of two of its metrics, as in its ``scoring``.
        chosen : int or None, default=None
            The candidate to mark. None is ``best_index_`` of a search, if it has one, and none of
            ``cv_results_``.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        FairnessTradeoffDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            For metrics that are not there, that change their sign, or that are scores, the greater
            the better; for a candidate that is not there.

        Notes
        -----
        A bar is the mean over the folds plus and minus its standard error: the standard deviation
        of the folds' scores, with n - 1, over the root of their number. Folds share training rows
        and are few, so this is a rough measure of noise, not a confidence interval. A candidate
        that was chosen by its scores looks a little better in them than it is: measure it on rows
        of its own.

        Examples
        --------
        >>> import sklearn
        >>> from sklearn.model_selection import GridSearchCV
        >>> from skfairft import FairLowRankHeadClassifier, FairnessTradeoffDisplay
        >>> from skfairft.datasets import make_biased_classification
        >>> from skfairft.metrics import fairness_scorer
        >>> X, y, s = make_biased_classification(n_samples=500, disparity=0.4, random_state=0)
        >>> metrics = {"error": "weighted_f1_error", "disparity": "demographic_parity_distance"}
        >>> scoring = {name: fairness_scorer(metric) for name, metric in metrics.items()}
        >>> grid = {"fairness_weight": [0.0, 0.9]}
        >>> with sklearn.config_context(enable_metadata_routing=True):
        ...     clf = FairLowRankHeadClassifier(
        ...         constraint="demographic_parity", solver="closed_form", importance="covariance"
        ...     ).set_fit_request(sensitive_features=True)
        ...     search = GridSearchCV(clf, grid, scoring=scoring, refit="error", cv=3)
        ...     search = search.fit(X, y, sensitive_features=s)
        >>> display = FairnessTradeoffDisplay.from_cv_results(search)
        >>> display.names, display.chosen
        (['fairness_weight=0', 'fairness_weight=0.9'], 0)
        """
        found, title = search_points(cv_results, error, disparity)
        display = cls(**found | ({} if chosen is None else {"chosen": chosen}))
        display.plot(ax=ax, **kwargs)
        display.ax_.set_title(title, fontsize="medium")
        return display

    def _draw(self, ax: Any, kwargs: dict[str, Any]) -> Any:
        systems = self._checked()
        ax = new_axes(ax, (7.2, 4.8))
        if self.table is not None:
            draw_path(ax, self.table, self.chosen, systems, kwargs)
        else:
            draw_systems(ax, systems, self.chosen, kwargs)
        ax.set(xlabel=free_text(self.error_name), ylabel=free_text(self.disparity_name))
        # Parity is 0, and must be in sight. Another plot on these axes may still raise the top.
        ax.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
        ax.set_ylim(bottom=-_BELOW_PARITY * ax.get_ylim()[1], auto=None)
        place_legend(ax, beside=len(ax.get_legend_handles_labels()[0]) > _NAMES_INSIDE)
        return ax

    def _checked(self) -> Systems:
        """Return the systems, or say what does not fit."""
        names = [literal(name) for name in self.names]
        m = len(names)
        error, disparity = (np.asarray(x, dtype=np.float64) for x in (self.error, self.disparity))
        for key, shape in (("", (m,)), ("_interval", (m, 2))):
            for name in ("error", "disparity"):
                values = getattr(self, name + key)
                check_shape(name + key, values, shape, f"as there are {m} names")
        if self.table is None and not m:
            raise ValueError("There is nothing to draw: no systems and no path.")
        if self.table is None and self.chosen is not None and not 0 <= self.chosen < m:
            raise ValueError(
                f"chosen={self.chosen!r} is not one of the points, which are 0 to {m - 1}."
            )
        return Systems(names, error, disparity, self.error_interval, self.disparity_interval)
