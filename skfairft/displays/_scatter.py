"""Features in two principal components, by group and predicted class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import _num_samples

from ..backbone.items import is_dataset, take
from ..fitting import features_of
from ..inputs.encoding import encode_groups, to_label_array
from ..inputs.feature_table import refuse_mapping
from ..inputs.index_order import warn_of_index_order
from ..inputs.lazy import computed, is_lazy
from ..inputs.randomness import generator
from ..rows.chunks import read_chunks
from ..summary.inside import features_input, final_classifier
from ._common import (
    Display,
    check_shape,
    entry,
    group_name,
    literal,
    look,
    new_axes,
    place_legend,
    predictions,
    styled,
)

__all__ = ["FeatureScatterDisplay"]

# How a marker is filled says what was predicted; the last stands for all classes beyond these.
_FILLS = ("none", "full", "left", "top", "right", "bottom")

# With more points they are embedded as an image in vector formats.
_RASTERIZED_POINTS = 3000


@dataclass(kw_only=True, eq=False, repr=False)
class FeatureScatterDisplay(Display):
    """Features of rows in their first two principal components, by group and prediction.

    Colour and marker tell the group, the marker's fill tells the predicted class. Of more than six
    classes the five most frequent have a fill of their own.

    It is a picture. Two components hold the shares of the variance that the axes name, and no
    more: groups that overlap in them may lie apart in the others, and a head that sees all
    features may tell them apart. Conclude nothing about fairness from it.

    Parameters
    ----------
    projection : ndarray of shape (n, 2)
        The rows in two components, finite.
    groups : array-like of shape (n,) or (n, c)
        Group of each row; several columns stand for their intersections.
    predictions : array-like of shape (n,)
        Predicted class of each row.
    explained_variance_ratio : ndarray of shape (2,) or None, default=None
        Share of the variance in each component.
    total : int or None, default=None
        Number of rows from which these were drawn. None is these.
    wrong : array-like of shape (n,), bool, or None, default=None
        Rows to be marked as predicted wrongly.

    See Also
    --------
    GroupRatesDisplay : What the predictions mean for each group, in rates.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, FeatureScatterDisplay
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=500, random_state=0)
    >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
    >>> display = FeatureScatterDisplay.from_estimator(
    ...     clf, X, sensitive_features=s, max_rows=200, random_state=0
    ... )
    >>> display.projection.shape
    (200, 2)
    >>> display.ax_.get_title()
    '200 of 500 rows, drawn at random'
    """

    projection: ArrayLike
    groups: Any
    predictions: ArrayLike
    explained_variance_ratio: ArrayLike | None = None
    total: int | None = None
    wrong: ArrayLike | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        sensitive_features: Any,
        y: ArrayLike | None = None,
        max_rows: int | None = 2000,
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the features that a fitted classifier's head sees.

        The components are those of scikit-learn's PCA of the drawn rows' features, centred and not
        scaled. Features that the extractor remembers are not extracted again.

        Parameters
        ----------
        estimator : FairLowRankHeadClassifier, Pipeline or search
            Fitted.
        X : as for ``estimator.predict``
            n rows. Of a collection of Dask the rows that are drawn come here, no others.
        sensitive_features : array-like of shape (n,) or (n, c)
            Group of each row; several columns stand for their intersections.
        y : array-like of shape (n,), default=None
            True classes. With them, rows that are predicted wrongly have a cross.
        max_rows : int or None, default=2000
            Most rows to draw, chosen at random; the others are neither extracted nor predicted.
            None draws all.
        random_state : int, RandomState, Generator or None, default=None
            Of that choice. NumPy's global state is neither used nor changed.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        FeatureScatterDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        NotFittedError
            For an estimator that is not fitted.
        TypeError
            If there is no FairLowRankHeadClassifier inside.
        ValueError
            For groups or labels of another length or with missing values, fewer than two rows,
            features that are the same in all rows, or a ``max_rows`` below 2.
        """
        clf = final_classifier(estimator)
        refuse_mapping(X)
        y, sensitive_features = computed(y, sensitive_features)
        n = len(X := read_chunks(X)) if is_lazy(X) else int(_num_samples(X))
        groups, codes = encode_groups(sensitive_features, n)
        warn_of_index_order(X=X, y=y, sensitive_features=sensitive_features)
        chosen = _choose(n, max_rows, random_state)
        some = X if len(chosen) == n and not is_lazy(X) else _take(X, chosen)
        predicted = np.asarray(predictions(estimator, some))
        features = features_of(clf, features_input(estimator, some))[:].numpy()
        projection, ratio = _project(features)
        display = cls(
            projection=projection,
            groups=groups[codes[chosen]],
            predictions=predicted,
            explained_variance_ratio=ratio,
            total=n,
            wrong=None if y is None else _wrong(y, n, chosen, predicted, clf.classes_),
        )
        return display.plot(ax=ax, **kwargs)

    def _draw(self, ax: Any, kwargs: dict[str, Any]) -> Any:
        points, groups, codes, classes, predicted, wrong = self._checked()
        ax = new_axes(ax, (7.4, 4.8))
        style: dict[str, Any] = {
            "linestyle": "none",
            "markersize": 5.5,
            "markeredgewidth": 0.8,
            "alpha": 0.75,
            "rasterized": len(points) > _RASTERIZED_POINTS,
        }
        cells = [(g, c) for g in range(len(groups)) for c in range(len(classes))]
        members = {cell: (codes == cell[0]) & (predicted == cell[1]) for cell in cells}
        # The few are drawn over the many.
        for g, c in sorted(cells, key=lambda cell: -int(members[cell].sum())):
            if members[g, c].any():
                one = style | look(g) | _filled(c, len(classes))
                ax.plot(*points[members[g, c]].T, **styled(one, kwargs))
        cross = {"marker": "x", "color": "black", "markersize": 2.5, "markeredgewidth": 0.5}
        if wrong.any():
            ax.plot(*points[wrong].T, **{**style, **cross, "alpha": 0.7, "zorder": 3})
        self._label(ax, len(points))
        counts = np.bincount(codes, minlength=len(groups))
        place_legend(ax, _entries(groups, counts, classes, wrong, style, cross), beside=True)
        return ax

    def _label(self, ax: Any, drawn: int) -> None:
        names = ["first principal component", "second principal component"]
        if self.explained_variance_ratio is not None:
            shares = np.asarray(self.explained_variance_ratio, dtype=np.float64)
            names = [
                f"{name} ({100 * share:.3g} % of the variance)"
                for name, share in zip(names, shares, strict=True)
            ]
        ax.set(xlabel=names[0], ylabel=names[1])
        text = f"all {drawn:,} rows"
        if self.total is not None and drawn < self.total:
            text = f"{drawn:,} of {self.total:,} rows, drawn at random"
        ax.set_title(text, fontsize="medium")

    def _checked(self) -> tuple[Any, ...]:
        """Return the points, groups and classes with the rows' codes, and the wrong rows."""
        points = np.asarray(self.projection, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(
                f"projection has shape {points.shape}; expected finite numbers of shape (n, 2)."
            )
        n = len(points)
        predicted = to_label_array(self.predictions, name="predictions")
        wrong = np.zeros(n, bool) if self.wrong is None else np.asarray(self.wrong, dtype=bool)
        for name, values in (("predictions", predicted), ("wrong", wrong)):
            check_shape(name, values, (n,), "one for each row of projection")
        groups, codes = encode_groups(self.groups, n, name="groups")
        classes, chosen = _fold(*np.unique(predicted, return_inverse=True))
        return points, [group_name(g) for g in groups.tolist()], codes, classes, chosen, wrong


def _filled(c: int, n_classes: int) -> dict[str, Any]:
    """Return how the markers of a predicted class are filled; of one class only, all of it."""
    fill = _FILLS[c] if n_classes > 1 else "full"
    return {"fillstyle": fill, "markerfacecoloralt": "white"}


def _fold(classes: NDArray[Any], codes: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Return names and codes of the classes, the rarest as one if there are too many."""
    codes = codes.reshape(-1)
    if len(classes) <= len(_FILLS):
        return [literal(c) for c in classes.tolist()], codes
    own = len(_FILLS) - 1
    frequent = np.sort(np.argsort(-np.bincount(codes), kind="stable")[:own])
    place = np.full(len(classes), own)
    place[frequent] = np.arange(own)
    rest = f"{len(classes) - own} other classes"
    return [*(literal(c) for c in classes[frequent].tolist()), rest], place[codes]


def _entries(
    groups: list[str],
    counts: NDArray[np.int64],
    classes: list[str],
    wrong: NDArray[np.bool_],
    style: dict[str, Any],
    cross: dict[str, Any],
) -> list[Any]:
    """Return the legend: a list of the groups, and below it one of the predictions."""
    plain = style | {"alpha": 1.0, "rasterized": False}
    grey = {"color": "0.3", "marker": "o", "markersize": 7}
    entries = [
        entry("group (rows)", bold=True),
        *(entry(f"{name} ({counts[g]:,})", **plain, **look(g)) for g, name in enumerate(groups)),
        entry("predicted", bold=True),
    ]
    for c, name in enumerate(classes):
        entries.append(entry(name, **(plain | grey | _filled(c, len(classes)))))
    if wrong.any():
        entries.append(entry(f"wrong ({100 * wrong.mean():.3g} %)", **(plain | cross)))
    return entries


def _choose(n: int, max_rows: int | None, random_state: Any) -> NDArray[np.int64]:
    """Return the rows to draw, in their order."""
    if n < 2:
        raise ValueError(f"X has {n} rows; a projection needs at least 2.")
    if max_rows is not None and max_rows < 2:
        raise ValueError(f"max_rows={max_rows!r}; expected at least 2, or None for all rows.")
    if max_rows is None or n <= max_rows:
        return np.arange(n)
    return np.sort(generator(random_state).choice(n, max_rows, replace=False))


def _take(X: Any, chosen: NDArray[np.int64]) -> Any:
    """Return some rows of X, of a dataset as a dataset; of Dask's chunks only these come here."""
    if is_lazy(X):
        starts = np.cumsum(X.lengths) - X.lengths
        own = np.split(chosen, np.searchsorted(chosen, starts[1:]))
        own = [each - start for each, start in zip(own, starts, strict=True)]
        return computed(X.map(_taken, None, own))[0]
    if is_dataset(X):
        from torch.utils.data import Subset

        return Subset(X, chosen.tolist())
    return take(X, chosen)


def _taken(_: None, rows: Any, chosen: NDArray[np.int64]) -> Any:
    return take(rows, chosen)


def _project(features: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first two principal components (n, 2), and their shares of the variance (2,)."""
    from sklearn.decomposition import PCA

    features = np.asarray(features, dtype=np.float64)
    if not np.ptp(features, axis=0).any():
        raise ValueError(
            f"The features of all {len(features)} rows are the same: there is nothing to project."
        )
    # Exact: the randomized solver, which PCA may choose by itself, depends on a seed.
    solver = "covariance_eigh" if features.shape[1] <= len(features) else "full"
    pca = PCA(n_components=min(2, *features.shape), svd_solver=solver)
    found = pca.fit_transform(features)
    missing = 2 - found.shape[1]  # a lone feature has no second component
    ratio = np.pad(pca.explained_variance_ratio_, (0, missing))
    return np.pad(found, ((0, 0), (0, missing))), ratio


def _wrong(
    y: Any,
    n: int,
    chosen: NDArray[np.int64],
    predicted: NDArray[Any],
    classes: NDArray[Any],
) -> NDArray[np.bool_]:
    """Tell which of the chosen rows are predicted wrongly."""
    true = to_label_array(y)
    if len(true) != n:
        raise ValueError(f"y has {len(true)} rows but X has {n}; expected one label per row of X.")
    if not np.isin(true, classes).any():
        raise ValueError(
            f"y holds none of the classes {classes.tolist()} but labels like "
            f"{true.tolist()[0]!r}; expected labels as in fit."
        )
    return np.asarray(true[chosen] != predicted, dtype=bool)
