"""A network whose layers were looked at once, for all ways to cut it; see `networks`."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from _shared.rare_rows import rises
from torch import Tensor, nn

from skfairft.backbone.batches import ModuleBatches
from skfairft.backbone.module_copy import copy_module
from skfairft.compression.calibration import Calibration, calibrate
from skfairft.compression.checks import choose_layers
from skfairft.compression.outputs import MEANINGS
from skfairft.compression.plan import Plan
from skfairft.compression.sampled import drawing_shares
from skfairft.compression.training import Training
from skfairft.lowrank.cut import borrowing

from .tasks import SHARE, Task

ROWS = {"resnet18": 1_500, "mobilenet_v2": 1_500, "minilm": 500, "smoke": 200}
BUDGETS = {
    "resnet18": (0.05, 0.02),
    "mobilenet_v2": (0.5, 0.3),
    "minilm": (0.25, 0.1),
    "smoke": (0.3,),
}
HELD_OUT = 0.2
LABELLED = ("resnet18", "smoke")
BLIND = ("SVD", "FWSVD", "the paper", "covariance, pooled")
# The importance, whether layers are cut in turn, and the groups' weights.
CUTS: dict[str, tuple[str, bool, str]] = {
    "SVD": ("uniform", False, "pooled"),
    "FWSVD": ("fisher", False, "pooled"),
    "the paper": ("fisher", False, "equal"),
    "covariance, pooled": ("covariance", False, "pooled"),
    "K-FAC, pooled": ("kfac", False, "pooled"),
    "K-FAC, equal": ("kfac", False, "equal"),
    "K-FAC, equal, by labels": ("kfac", False, "equal"),
    "in turn, pooled": ("kfac", True, "pooled"),
    "in turn, equal": ("kfac", True, "equal"),
    "in turn, minimax": ("kfac", True, "minimax"),
}
# What it begins with, whether rare groups are drawn more often, and whether all learns.
DISTILLED: dict[str, tuple[str, bool, bool]] = {
    "distilled: covariance, pooled": ("covariance, pooled", False, True),
    "distilled: pooled": ("in turn, pooled", False, True),
    "distilled: drawn": ("in turn, minimax", True, True),
    "distilled: thin": ("in turn, minimax", True, False),
}
METHODS = (*CUTS, *DISTILLED)


_MADE: dict[Any, Any] = {}


def forget() -> None:
    """Let go of the cuts that were made."""
    _MADE.clear()


class _Remembering(Plan):
    """A plan that makes no cut twice."""

    def cut(self, shares: Tensor | None) -> Any:
        """Return the cut copy and its ranks."""
        key = (
            id(self.found),
            *self.importances.values(),
            self.budget,
            self.sequential,
            *shares.tolist(),
            *self.mixing.flatten().tolist(),
        )
        if key not in _MADE:
            _MADE[key] = super().cut(shares)
        return _MADE[key]


class Bench:
    """A network whose layers were looked at once, for all ways to cut it."""

    def __init__(self, task: Task, draw: int) -> None:
        self.task, self.draw = task, draw
        own = task.calibration
        self.meaning = MEANINGS[task.loss]
        self.batches = ModuleBatches.of(
            task.model, own.X, preprocess=task.preprocess, batch_size=100
        )
        self.codes = torch.from_numpy(own.rare.astype(int))
        # To judge training by; cuts do not know them, as in `compress`.
        held_out = np.random.default_rng(draw).random(len(self.codes)) < HELD_OUT
        self.held_out = torch.from_numpy(held_out)
        self.known = self.codes.masked_fill(self.held_out, -1)
        self.found = self._looked_at(None, fisher=True)  # gradients as the paper has them
        self.tempered = self._looked_at(None, temperature=2.0)
        self.base = self._outputs(task.model)
        self._cuts: dict[tuple[str, float], nn.Module] = {}

    def _looked_at(
        self, y: Tensor | None, *, fisher: bool = False, temperature: float = 1.0
    ) -> Calibration:
        """Return what the layers see, with gradients of labels, or of such as the network says."""
        return calibrate(
            self.task.model,
            self.batches,
            self.known,
            choose_layers(self.task.model, self.task.layers, None),
            n_groups=2,
            graded=set(self.task.layers),
            gradients=self.meaning,
            fisher=fisher,
            temperature=temperature,
            y=y,
            keep=True,
            lenient=False,
            generator=torch.Generator().manual_seed(self.draw),
        )

    @cached_property
    def by_labels(self) -> Calibration:
        """What the layers see, with gradients of the labels that there are."""
        return self._looked_at(self.task.calibration.y, temperature=2.0)

    def cut(self, name: str, budget: float) -> nn.Module:
        """Return the network cut; each way is done once."""
        if (name, budget) not in self._cuts:
            importance, in_turn, weights = CUTS[name]
            counts = torch.bincount(self.codes[~self.held_out])
            found = self.tempered if importance == "kfac" else self.found
            found = self.by_labels if name.endswith("by labels") else found
            plan = _Remembering(
                self.task.model,
                self.batches,
                self.known,
                found,
                importances=dict.fromkeys(found.statistics, importance),
                rank=None,
                budget=("parameters", budget),
                named=True,
                sequential=in_turn,
                mixing=borrowing(counts, 0.0 if weights == "pooled" else 100.0),
            )
            if weights == "minimax":
                made = plan.least_worst(self.meaning.divergence)
            else:
                pooled, equal = counts.double() / counts.sum(), torch.full((2,), 0.5)
                made = plan.cut((pooled if weights == "pooled" else equal).double())
            self._cuts[name, budget] = made[0]
        return self._cuts[name, budget]

    def distilled(self, name: str, budget: float) -> nn.Module:
        """Return a cut that is trained on what the network says."""
        start, drawn, everything = DISTILLED[name]
        small = copy_module(self.cut(start, budget), name)
        counts = torch.bincount(self.codes)
        shares = counts.double() / counts.sum()
        training = Training(
            small,
            [name for name in self.found.statistics if _is_thin(small.get_submodule(name))],
            self.batches,
            self.found,
            self.codes,
            self.held_out,
            self.meaning,
            None if drawn else shares,
            borrowing(torch.bincount(self.codes[~self.held_out]), 100.0 if drawn else 0.0),
        )
        training.in_epochs(
            3,
            drawn=drawing_shares(counts) if drawn else shares,
            everything=everything,
            generator=torch.Generator().manual_seed(self.draw),
        )
        return small

    def measure(self, small: nn.Module) -> dict[str, float]:
        """Return the rise of each group and of all, and the share of decisions that stay."""
        return rises(self.meaning, self.base, self._outputs(small), self.task.test, SHARE)

    def _outputs(self, model: nn.Module) -> Tensor:
        rows = self.task.test
        batches = ModuleBatches.of(model, rows.X, preprocess=self.task.preprocess, batch_size=200)
        with torch.no_grad():
            return torch.cat([out for _, out in batches.outputs(model.eval())])


def _is_thin(layer: nn.Module) -> bool:
    return hasattr(layer, "down") and hasattr(layer, "up")
