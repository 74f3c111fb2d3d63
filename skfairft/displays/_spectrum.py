"""How much of the weighted head each rank keeps."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..lowrank.factorization import resolve_rank
from ..summary.inside import final_classifier
from ._common import COLOURS, RING, Display, new_axes, place_legend, styled

__all__ = ["SingularSpectrumDisplay"]

# With more ranks a marker at each is a band, ...
_MARKED_RANKS = 60
# ... and on a linear axis all that happens does so at its left end.
_LINEAR_RANKS = 40


@dataclass(kw_only=True, eq=False, repr=False)
class SingularSpectrumDisplay(Display):
    """Share of the importance-weighted energy that each rank keeps.

    The energy is the sum of the squared singular values of the weighted weight matrix,
    ``diag(importance) W`` for the Fisher importance.

    Parameters
    ----------
    singular_values : ndarray of shape (m,)
        Largest first; >= 0, finite.
    rank : int or None, default=None
        The rank in use, in [1, m]; None marks none.
    energy : float or None, default=0.95
        A share of energy in (0, 1]; the smallest rank that keeps it is marked. None marks none.

    See Also
    --------
    FisherImportanceDisplay : The importances that weight the matrix.

    Notes
    -----
    Energy is a property of the weights. How much error a rank costs must be measured on rows.

    Examples
    --------
    >>> from skfairft import SingularSpectrumDisplay
    >>> display = SingularSpectrumDisplay(
    ...     singular_values=[3.0, 2.0, 1.0], rank=2, energy=0.95
    ... ).plot()
    >>> display.kept.round(3).tolist()
    [0.643, 0.929, 1.0]
    >>> display.cut
    3
    """

    singular_values: ArrayLike
    rank: int | None = None
    energy: float | None = 0.95

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, energy: float | None = 0.95, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Draw the spectrum of a fitted classifier.

        Parameters
        ----------
        estimator : FairLowRankHeadClassifier, Pipeline or search
            Fitted; of a pipeline or a search the classifier inside. With ``rank=None`` it has no
            factors; the spectrum is that of the matrix it would have factorized.
        energy : float or None, default=0.95
            A share of energy in (0, 1]; the smallest rank that keeps it is marked: the rank that
            ``FairLowRankHeadClassifier(rank=energy)`` takes. None marks none.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        SingularSpectrumDisplay
            With ``ax_`` and ``figure_``.

        Raises
        ------
        NotFittedError
            For an estimator that is not fitted.
        TypeError
            If there is no FairLowRankHeadClassifier inside.
        """
        clf = final_classifier(estimator)
        display = cls(singular_values=clf.singular_values_, rank=clf.rank_, energy=energy)
        return display.plot(ax=ax, **kwargs)

    @property
    def kept(self) -> NDArray[np.float64]:
        """Share of the energy that the ranks 1 to m keep, shape (m,); NaN if all of it is zero."""
        energy = np.asarray(self.singular_values, dtype=np.float64) ** 2
        total = energy.sum()
        return np.cumsum(energy) / total if total > 0 else np.full(len(energy), np.nan)

    @property
    def cut(self) -> int | None:
        """The smallest rank that keeps ``energy``; None without one."""
        if self.energy is None:
            return None
        values = torch.as_tensor(np.array(self.singular_values, dtype=np.float64))
        return resolve_rank(float(self.energy), values)

    def _draw(self, ax: Any, kwargs: dict[str, Any]) -> Any:
        self._check()
        ax = new_axes(ax, (6.4, 4.0))
        kept, m = self.kept, len(self.kept)
        curve = {"color": COLOURS[0], "linewidth": 1.4, "markersize": 5, "zorder": 2.5}
        curve |= {"marker": "o" if m <= _MARKED_RANKS else "", "label": "kept by the rank"}
        ax.plot(np.arange(1, m + 1), kept, **styled(curve, kwargs))
        if self.energy is not None:
            cut = self.cut
            line = {"color": COLOURS[1], "linestyle": "--", "linewidth": 1.1, "zorder": 2}
            # From the axis to the curve, and down from there.
            ax.axhline(self.energy, **line, label=f"energy {self.energy:.4g}: rank {cut}")
            ax.axvline(cut, **line)
        if self.rank is not None:
            share = kept[self.rank - 1]
            of = ", full rank" if self.rank == m else f" of {m:,}"
            keeps = "an undefined share" if np.isnan(share) else f"{100 * share:.3g} %"
            label = f"in use: rank {self.rank:,}{of}, keeps {keeps}"
            ax.plot([self.rank], [share], **RING, markersize=12, label=label)
        self._dress(ax, m)
        return ax

    def _dress(self, ax: Any, m: int) -> None:
        """Set scale, ticks and labels."""
        from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

        if m > _LINEAR_RANKS:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            ax.set_xlim(0.9, 1.1 * m)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.set_xlim(0.5, m + 0.5)
        ax.set_ylim(0.0, 1.06)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        ax.set(xlabel="rank", ylabel="share of the weighted energy")
        if np.isnan(self.kept).any():
            ax.set_title("undefined: all singular values are zero", fontsize="medium")
        place_legend(ax)

    def _check(self) -> None:
        values = np.asarray(self.singular_values, dtype=np.float64)
        if values.ndim != 1 or not len(values):
            raise ValueError(
                f"singular_values has shape {values.shape}; expected (m,) with m of at least 1."
            )
        if not np.isfinite(values).all() or (values < 0).any() or (np.diff(values) > 0).any():
            raise ValueError(
                "singular_values holds values that are negative, infinite or NaN, or not sorted; "
                "expected singular values, largest first."
            )
        if self.rank is not None:
            whole = isinstance(self.rank, Integral) and not isinstance(self.rank, bool)
            if not whole or not 1 <= self.rank <= len(values):
                raise ValueError(
                    f"rank={self.rank!r}; expected a whole number from 1 to {len(values)}, the "
                    "number of singular values, or None."
                )
        if self.energy is not None:
            real = isinstance(self.energy, Real) and not isinstance(self.energy, bool)
            if not real or not 0.0 < self.energy <= 1.0:
                raise ValueError(
                    f"energy={self.energy!r}; expected a share in (0, 1], or None for no cut."
                )
