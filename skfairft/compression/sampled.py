"""A cut network trained on what the whole one says, with rare groups drawn more often."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches, NotFiniteError
from .distill import divergences_of
from .outputs import gradients_of

__all__ = ["distill_sampled", "drawing_shares"]

# The share of the draws in which all groups are alike: of two, the rarer is at least a fifth of
# what is drawn.
ALIKE = 0.4
_ROWS = 64
# What one network learns most from wrecks another: each is tried, from the same start.
_RATES = (1e-3, 1e-4, 1e-5)


def drawing_shares(counts: Tensor, alike: float = ALIKE) -> Tensor:
    """Return the shares (G,) of the groups in what is drawn, of their rows (G,).

    Examples
    --------
    >>> drawing_shares(torch.tensor([98, 2]))
    tensor([0.7880, 0.2120], dtype=torch.float64)
    """
    counts = counts.double()
    return (1.0 - alike) * counts / counts.sum() + alike / len(counts)


def distill_sampled(
    small: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    batches: ModuleBatches,
    uncut: Tensor,
    codes: Tensor,
    held_out: Tensor,
    divergence: Callable[[Tensor, Tensor], Tensor],
    objective: Callable[[Tensor, Tensor], float],
    *,
    drawn: Tensor,
    max_epochs: int,
    generator: torch.Generator,
) -> bool:
    """Train parameters in place by AdamW on rows drawn by group.

    An epoch draws as many rows as are trained on, with replacement; the rate rises for a third of
    the steps, and falls to zero as a cosine does. That is done by each of `_RATES`. In the end the
    parameters are those after the epoch whose objective is least, or at the start: returns whether
    it is an epoch. Weighting rows in the loss instead makes batches in which a few rare rows count
    for all, and ended behind no weights at all.

    Parameters
    ----------
    small : nn.Module
        In evaluation mode, such that batch normalization keeps its statistics.
    parameters : mapping of str to nn.Parameter
        What is trained.
    batches : ModuleBatches
        The rows.
    uncut : Tensor of shape (n, ...)
        Outputs of the uncut model.
    codes : Tensor of shape (n,)
        Groups.
    held_out : Tensor of shape (n,), bool
        Rows that are not trained on.
    divergence : callable
        Of outputs and uncut outputs, (m,).
    objective : callable
        Of the divergences (m,) and of the groups of these rows, (m,).
    drawn : Tensor of shape (G,)
        The groups' shares in what is drawn.
    max_epochs : int
        Epochs.
    generator : torch.Generator
        To draw with.
    """
    train = torch.where(~held_out)[0]
    counts = torch.bincount(codes[train], minlength=len(drawn)).clamp_min(1)
    odds = (drawn / counts)[codes[train]]
    judged = held_out | (torch.bincount(codes[held_out], minlength=len(drawn)) == 0)[codes]

    def judge() -> float:
        outputs = batches.only(judged).outputs(small)
        return objective(divergences_of(outputs, uncut[judged], divergence), codes[judged])

    own = list(parameters.values())
    start = [each.detach().clone() for each in own]
    best, kept = judge(), start
    steps = max_epochs * math.ceil(len(train) / _ROWS)
    for rate in _RATES:
        with torch.no_grad():
            for each, before in zip(own, start, strict=True):
                each.copy_(before)
        # Half precision has no room for a step, nor for squares of gradients.
        trained = [each.detach().float() if each.element_size() < 4 else each for each in own]
        optimizer = torch.optim.AdamW(trained, lr=rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_risen, steps=steps))
        for epoch in range(1, max_epochs + 1):
            batches.begin(f"distilling at {rate:g}, epoch {epoch} of {max_epochs}")
            chosen = torch.multinomial(odds, len(train), replacement=True, generator=generator)
            try:
                for index in train[chosen].split(_ROWS):
                    arguments = batches.some(index)
                    with torch.enable_grad():
                        out = batches.run(small, arguments, len(index))
                        loss = divergence(out, uncut[index].to(out)).mean()
                        for value, slope in zip(trained, gradients_of(loss, own), strict=True):
                            value.grad = None if slope is None else slope.to(value)
                    optimizer.step()
                    with torch.no_grad():
                        for each, values in zip(own, trained, strict=True):
                            each.copy_(values)
                    schedule.step()
                found = judge()
            except NotFiniteError:  # the rate was too high for it
                break
            if found < best:
                best, kept = found, [each.detach().clone() for each in own]
    with torch.no_grad():
        for each, best_of_all in zip(own, kept, strict=True):
            each.copy_(best_of_all)
            each.grad = None
    return kept is not start


def _risen(step: int, steps: int) -> float:
    """Return the share of the rate at a step.

    Examples
    --------
    >>> [round(_risen(step, 9), 2) for step in (0, 2, 3, 6, 8)]
    [0.33, 1.0, 1.0, 0.5, 0.07]
    """
    rising = max(1, steps // 3)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
