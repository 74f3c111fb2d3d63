"""Importance of the features to each group, and what neutralization makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..summary.inside import final_classifier
from ..summary.model import ModelSummary
from ..summary.read import summarize
from ._common import (
    Display,
    check_shape,
    entry,
    free_text,
    group_name,
    look,
    new_axes,
    place_legend,
    styled,
)

__all__ = ["FisherImportanceDisplay"]

# With more features single ones cannot be seen, and means over stretches of them are drawn.
_MARKED_FEATURES = 60
_STRETCHES = 30
# With more groups the pairs are too many to list.
_LISTED_GROUPS = 4
# Lines of more vertices in all are embedded as an image in vector formats.
_RASTERIZED_POINTS = 20_000


def neutralized_mean(summary: ModelSummary, importance: ArrayLike) -> dict[str, Any]:
    """Return the display's arguments for the neutralized mean, if the classifier keeps it."""
    name = summary.weighting.mean
    return (
        {"importance": None}
        if name is None
        else {"importance": importance, "importance_name": name}
    )


@dataclass(kw_only=True, eq=False, repr=False)
class FisherImportanceDisplay(Display):
    """Importance of each feature to each group, and what neutralization makes of it.

    One line per group, features sorted by the importance in use; without one by the groups' mean.
    The cosines of up to four groups are listed, of more groups the lowest.

    Parameters
    ----------
    group_importance : ndarray of shape (G, d)
        ``I_g = sqrt(F_g)``, see `FairLowRankHeadClassifier`; >= 0, finite.
    importance : ndarray of shape (d,) or None
        The importance that weights the SVD: the neutralized mean, >= 0. None draws none.
    groups : sequence of length G
        Names of the groups.
    importance_name : str, default="neutralized mean, in use"
        What ``importance`` is called in the legend.

    See Also
    --------
    SingularSpectrumDisplay : What is left of the weighted weights at each rank.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, FisherImportanceDisplay
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(random_state=0)
    >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
    >>> display = FisherImportanceDisplay.from_estimator(clf)
    >>> display.ax_.get_ylabel()
    'importance (square root of Fisher)'
    >>> display.similarity.shape
    (2, 2)
    """

    group_importance: ArrayLike
    importance: ArrayLike | None
    groups: Any
    importance_name: str = "neutralized mean, in use"

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the importances of a fitted classifier.

        Parameters
        ----------
        estimator : FairLowRankHeadClassifier, Pipeline or search
            Fitted; of a pipeline or a search the classifier inside. With
            ``importance="uniform"`` the SVD is not weighted, and no mean is drawn; with
            ``"covariance"``, or where no SVD made the head, it is drawn and named as not in use.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        FisherImportanceDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        NotFittedError
            For an estimator that is not fitted.
        TypeError
            If there is no FairLowRankHeadClassifier inside.
        """
        clf = final_classifier(estimator)
        display = cls(
            group_importance=clf.group_importance_,
            groups=clf.groups_,
            **neutralized_mean(summarize(clf), clf.importance_),
        )
        return display.plot(ax=ax, **kwargs)

    @property
    def similarity(self) -> NDArray[np.float64]:
        """Cosine between the groups' importances, shape (G, G); 1 leaves nothing to neutralize.

        NaN for a group whose importances are all zero.
        """
        I = np.asarray(self.group_importance, dtype=np.float64)  # noqa: E741 - the method's symbol
        norm = np.linalg.norm(I, axis=1)
        product = np.outer(norm, norm)
        return np.divide(I @ I.T, product, out=np.full_like(product, np.nan), where=product > 0)

    def _draw(self, ax: Any, kwargs: dict[str, Any]) -> Any:
        rows, importance, names = self._checked()
        ax = new_axes(ax, (7.0, 4.2))
        sort_by = rows.mean(axis=0) if importance is None else importance
        order = np.argsort(-sort_by, kind="stable")
        x = np.arange(1, len(order) + 1)
        stretches = np.array_split(x - 1, min(len(order), _STRETCHES))
        wide = len(order) > _MARKED_FEATURES
        many = len(names) > _LISTED_GROUPS
        for i, (name, row) in enumerate(zip(names, rows, strict=True)):
            colour = look(i)["color"]
            line = look(i) | {"label": name, "linewidth": 0.9, "markersize": 4}
            if wide:
                faint = {"color": colour, "alpha": 0.08 if many else 0.25, "linewidth": 0.5}
                ax.plot(x, row[order], zorder=1, rasterized=rows.size > _RASTERIZED_POINTS, **faint)
                centres = [x[part].mean() for part in stretches]
                means = [row[order[part]].mean() for part in stretches]
                ax.plot(centres, means, **styled(line, kwargs))
            else:
                # Between features nothing lies: where lines would be a thicket they are faint.
                line |= {"color": (colour, 0.3), "mec": colour, "mfc": colour} if many else {}
                ax.plot(x, row[order], **styled(line, kwargs))
        if importance is not None:
            mean = {"color": "black", "linestyle": "--", "linewidth": 1.8, "zorder": 3}
            mean |= {"label": free_text(self.importance_name)}
            ax.plot(x, importance[order], **styled(mean, kwargs))
        each = f" (marks: means over {len(stretches[0]):,} features)" if wide else ""
        ax.set_xlabel(f"feature, most important first{each}")
        ax.set_ylabel("importance (square root of Fisher)")
        ax.set_ylim(bottom=0, auto=None)
        self._write_similarity(ax, names)
        return ax

    def _checked(self) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, list[str]]:
        """Return the importances (G, d) and (d,), and the groups' names, or say what is wrong."""
        rows = np.asarray(self.group_importance, dtype=np.float64)
        names = [group_name(group) for group in self.groups]
        if rows.ndim != 2 or len(rows) != len(names) or not rows.size:
            raise ValueError(
                f"group_importance has shape {rows.shape} and there are {len(names)} groups; "
                "expected one row of importances per group, (G, d)."
            )
        check_shape(
            "importance", self.importance, rows.shape[1:], "one for each column of group_importance"
        )
        importance = None
        if self.importance is not None:
            importance = np.asarray(self.importance, dtype=np.float64)
        for name, values in (("group_importance", rows), ("importance", importance)):
            if values is not None and not (np.isfinite(values).all() and (values >= 0).all()):
                raise ValueError(
                    f"{name} holds values that are negative, infinite or NaN; expected "
                    "importances >= 0."
                )
        return rows, importance, names

    def _write_similarity(self, ax: Any, names: list[str]) -> None:
        """Write the cosines into title and legend."""
        cosine = self.similarity
        pairs = list(combinations(range(len(names)), 2))
        handles = list(ax.get_legend_handles_labels()[0])
        if len(names) == 2:
            text = _cosine(cosine[0, 1])
            ax.set_title(f"cosine between {names[0]} and {names[1]}: {text}", fontsize="medium")
        elif pairs:
            known = [pair for pair in pairs if np.isfinite(cosine[pair])]
            if known:
                i, j = min(known, key=lambda pair: float(cosine[pair]))
                ax.set_title(
                    f"lowest cosine between two groups: {_cosine(cosine[i, j])}\n"
                    f"({names[i]} and {names[j]})",
                    fontsize="medium",
                )
            if len(names) <= _LISTED_GROUPS:
                handles.append(entry("cosine", bold=True))
                handles += [
                    entry(f"{names[i]} and {names[j]}: {_cosine(cosine[i, j])}") for i, j in pairs
                ]
        place_legend(ax, handles, beside=len(names) > 2)


def _cosine(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "undefined (all importances zero)"
