"""`ClosedForm`: the SVD is penalized with the disparity of the mean scores, nothing is trained."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from ..head.bias import refit_bias
from ..head.start import StartingHead, refit_output
from ..lowrank.factorization import WeightedSVD
from ..lowrank.layer import LowRankHead
from ..parity.constraints import parity
from .base import Solver
from .fitter import HeadFitter
from .problem import FittedHead, Problem

__all__ = ["ClosedForm", "ClosedFormFitter", "refuse_unheld"]

# Share of the disparity that the closed form at a weight of 1 may leave by rounding.
_LEFT = 1e-3


class ClosedForm(Solver):
    """Penalize the SVD with the differences of the mean scores; nothing is trained.

    The weight matrix is the one nearest to the head, in the metric that ``importance`` names, whose
    mean scores differ between groups by the share ``1 - fairness_weight`` of what they did. The
    bias is fitted anew. It has no parameters; ``solver="closed_form"`` stands for ``ClosedForm()``.
    Constraints on rates that no mean score tells of, such as "error_rate_parity", are refused. Of
    more than two classes the mean scores of all are held, also where one is the ``pos_label``: a
    decision for it depends on all.

    Examples
    --------
    >>> from skfairft import ClosedForm, FairLowRankHeadClassifier
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=300, random_state=0)
    >>> clf = FairLowRankHeadClassifier(
    ...     importance="covariance",
    ...     constraint="demographic_parity",
    ...     fairness_weight=1.0,
    ...     solver=ClosedForm(),
    ... ).fit(X, y, sensitive_features=s)
    >>> scores = clf.decision_function(X)
    >>> bool(abs(scores[s == 0].mean() - scores[s == 1].mean()) < 1e-9)
    True
    """

    name: ClassVar[str] = "closed_form"
    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def check(self, *, constraint: str | None, warm_start: bool) -> None:
        """Refuse what it cannot hold or go on from; as `Solver.check`."""
        super().check(constraint=constraint, warm_start=warm_start)
        refuse_unheld(constraint)
        if warm_start:
            raise ValueError(
                "warm_start=True goes on training a head, and solver='closed_form' trains none; "
                "set warm_start=False or another solver."
            )

    def advice(self, importance: str) -> str:
        """Return what to try where a weight did little."""
        if importance == "covariance":
            return super().advice(importance)
        return 'set importance="covariance", which suits this solver better'

    def fitter(self, problem: Problem, seed: Any) -> HeadFitter:
        """Return what fits heads of any weight to the rows of a problem."""
        return ClosedFormFitter(problem, seed)


def refuse_unheld(constraint: str | None) -> None:
    """Refuse a constraint that no mean score tells of."""
    if constraint is not None and parity(constraint, 2).conditions is None:
        raise ValueError(
            f"constraint={constraint!r} cannot be held in closed form: it is about rates of which "
            'the mean scores of groups tell nothing. Set solver="plug_in" or "fine_tune".'
        )


class ClosedFormFitter(HeadFitter):
    """Cuts the head of each weight, and fits anew what follows the weights."""

    def fit(self, weight: float = 0.0, near: FittedHead | None = None) -> FittedHead:
        """Cut the head of one fairness weight."""
        weight = weight if self.parity is not None else 0.0
        if weight > 0.0:
            self._check_directions()
        found = self._decomposition.at(weight)
        return self._finish(*self._closed_form(found, weight), found.S)

    def _closed_form(
        self, found: WeightedSVD, weight: float
    ) -> tuple[LowRankHead, nn.Sequential | None]:
        """Return the head of a decomposition, and what follows it."""
        head, tail = self._cut(found, weight), self._measured.start.tail
        if weight == 0.0:
            return head, tail
        # The weights have moved, and with them the thresholds.
        rows, W, bias = self._rows, head.weight.detach(), head.bias.detach()
        if tail is None:
            bias = refit_bias(rows, W, bias)
            return LowRankHead(head.A, head.B, bias), None
        problem, layer = self._problem, StartingHead(W, bias, tail)
        return head, refit_output(layer, rows, problem.n_classes, self.C)

    def _check_directions(self) -> None:
        """Refuse features among which the metric cannot find all directions of disparity."""
        if not len(self._decomposition.s):
            self._report_alike(
                "the groups do not differ in what the head can use, such as copies of each other"
            )
        W = self._measured.start.weight
        A, B = self._decomposition.at(1.0).factors(min(W.shape))
        before, after = (self._directions.T @ M for M in (W, A @ B))
        terms = self._directions.abs().T @ W.abs()  # of which a head that is fair has a small sum
        if float(after.norm()) > _LEFT * max(float(before.norm()), 1e-9 * float(terms.norm())):
            raise ValueError(
                f"The closed form with importance={self._problem.importance!r} cannot take "
                "away the disparity of these features: their units are too different. Standardize "
                'them, for example with StandardScaler, or set importance="covariance".'
            )
