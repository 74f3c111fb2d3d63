"""Numbers that can be squared and summed in double precision."""

from __future__ import annotations

import torch
from torch import Tensor

from ..inputs.checks import LARGEST
from .blocks import Features, reduce_blocks

__all__ = ["check_range"]


def check_range(Z: Features, what: str = "X, or its features,") -> None:
    """Refuse columns of numbers whose squares cannot be computed with.

    The error says ``what`` holds them, in which column, and their largest magnitude.

    Examples
    --------
    >>> check_range(torch.tensor([[1.0, 1e200]], dtype=torch.float64))
    Traceback (most recent call last):
    ...
    ValueError: X, or its features, hold 1e+200 in column 1, and its square is beyond double
    precision; expected columns of zeros, or of magnitudes whose largest is 1e-100 to 1e+100.
    Measure it in other units, such as with sklearn.preprocessing.RobustScaler, or mend or drop
    what is no measurement.
    """
    peak = reduce_blocks(_peak, torch.maximum, Z)
    peak = torch.zeros(Z.shape[1], dtype=torch.float64) if peak is None else peak
    fits = (peak == 0.0) | ((peak >= 1.0 / LARGEST) & (peak <= LARGEST))  # not so of NaN
    if bool(fits.all()):
        return
    column = int(torch.nonzero(~fits)[0, 0])
    if not bool(peak[column].isfinite()):
        raise ValueError(
            f"{what} hold numbers that are not finite, first in column {column}; mend or drop them."
        )
    held = "hold at most" if peak[column] < 1.0 else "hold"
    raise ValueError(
        f"{what} {held} {peak[column]:.3g} in column {column}, and its square is beyond double "
        f"precision; expected columns of zeros, or of magnitudes whose largest is {1 / LARGEST:g} "
        f"to {LARGEST:g}. Measure it in other units, such as with "
        "sklearn.preprocessing.RobustScaler, or mend or drop what is no measurement."
    )


def _peak(block: Tensor) -> Tensor:
    return block.abs().amax(dim=0)
