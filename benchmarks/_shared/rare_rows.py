"""Rows of which some are of a rare group, and what a change of a model costs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skfairft.compression.outputs import Meaning

__all__ = ["Rows", "rises"]


@dataclass(frozen=True)
class Rows:
    """Inputs, labels as the loss takes them (or None), and who is of the rare group."""

    X: Any
    y: Tensor | None
    rare: np.ndarray

    def take(self, index: np.ndarray) -> Rows:
        """Return some rows, of inputs that are a tensor."""
        return Rows(self.X[index], None if self.y is None else self.y[index], self.rare[index])


def rises(
    meaning: Meaning, before: Tensor, after: Tensor, rows: Rows, share: float
) -> dict[str, float]:
    """Return the rise of each group and of all, and the share of decisions that stay.

    Of the log loss, or without labels the divergence; ``share`` is that of the rare group in all.
    """
    assert meaning.decisions is not None
    if rows.y is None:
        rise = meaning.divergence(after, before)
    else:
        rise = meaning.loss(after, rows.y) - meaning.loss(before, rows.y)
    same = (meaning.decisions(after) == meaning.decisions(before)).float()
    same = same.reshape(len(same), -1).mean(1)
    out = {}
    for name, own in (("rare", rows.rare), ("others", ~rows.rare)):
        chosen = torch.from_numpy(own)
        out[f"rise {name}"] = float(rise[chosen].double().mean())
        out[f"same {name}"] = float(same[chosen].double().mean())
    out["rise worst"] = max(out["rise rare"], out["rise others"])
    out["rise all"] = share * out["rise rare"] + (1.0 - share) * out["rise others"]
    return out
