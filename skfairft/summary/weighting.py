"""What each ``importance`` weights, in words."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["WEIGHTINGS", "Weighting"]


class Weighting(NamedTuple):
    """An importance in words."""

    svd: str  # how the SVD was weighted
    use: str  # what the neutralized importance of the groups was to the head
    mean: str | None  # what that is called in a plot; None where a classifier does not keep it
    heads: str = ""  # whose Fisher information the groups' importances are, if not one head's

    def unused(self) -> Weighting:
        """Return the words for a head that comes from no SVD."""
        return self._replace(
            use="This head is one full matrix that comes from no SVD, and did not use it.",
            mean=None if self.mean is None else "neutralized mean (not in use)",
        )


_FISHER = Weighting(
    "weighted by the neutralized importance",
    "It weighted the SVD that the head comes from.",
    "neutralized mean, in use",
)

WEIGHTINGS = {
    "fisher": _FISHER,
    "fisher_by_group": _FISHER._replace(heads=", in a head fitted on that group alone,"),
    "uniform": Weighting(
        "not weighted",
        "The SVD that the head comes from did not use it: all features counted alike.",
        None,
    ),
    "covariance": Weighting(
        "weighted by the covariance of the features",
        "The SVD that the head comes from was weighted by the covariance of the features instead; "
        "the neutralized importance is shown for comparison.",
        "neutralized mean (in use: the features' covariance)",
    ),
}
