"""Thin layers trained on what the uncut model says, with the groups weighted as in the cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

__all__ = ["distill"]

# L-BFGS iterations between looks at the rows held out; looks without gain that end it, and the
# share of the objective that is a gain.
_ITERATIONS, _PATIENCE, _GAIN = 10, 3, 1e-3
# The smooth maximum is above the largest mean by at most this share of it, times the log of G.
_SMOOTH = 0.1


def distill(
    parameters: list[nn.Parameter],
    outputs: Callable[[], Iterator[tuple[slice, Tensor]]],
    uncut: Tensor,
    codes: Tensor,
    held_out: Tensor,
    divergence: Callable[[Tensor, Tensor], Tensor],
    shares: Tensor | None,
    *,
    mixing: Tensor,
    max_iter: int,
) -> int:
    """Train parameters in place by L-BFGS on all rows at once; return the iterations of the best.

    The objective is that of the cut: the weighted mean of the groups' mean divergences from the
    uncut model, or their maximum, which is smoothed for training. In the end the parameters are
    the best on the rows held out, of the start and of every tenth iteration.

    Parameters
    ----------
    parameters : list of nn.Parameter
        Of the thin layers.
    outputs : callable
        Yields all rows in batches, (rows, outputs of the model with these parameters).
    uncut : Tensor of shape (n, ...)
        Outputs of the uncut model.
    codes : Tensor of shape (n,)
        Groups.
    held_out : Tensor of shape (n,), bool
        Rows that are not trained on.
    divergence : callable
        Of outputs and uncut outputs, (m,).
    shares : Tensor of shape (G,) or None
        Weights of the groups; None is the maximum.
    mixing : Tensor of shape (G, G), float64
        What each group's mean is a mean of; see `skfairft.lowrank.cut.borrowing`.
    max_iter : int
        Most iterations.

    Examples
    --------
    >>> x, uncut = torch.linspace(-1, 1, 8)[:, None], torch.linspace(-3, 3, 8)[:, None]
    >>> slope = nn.Parameter(torch.ones(1))
    >>> codes, held_out = torch.arange(8) % 2, torch.arange(8) > 5
    >>> squares = lambda out, target: (out - target).square().sum(1)
    >>> _ = distill([slope], lambda: iter([(slice(0, 8), x * slope)]), uncut, codes, held_out,
    ...             squares, None, mixing=torch.eye(2).double(), max_iter=50)
    >>> round(slope.item(), 4)
    3.0
    """
    train, n_groups = ~held_out, len(mixing)
    counts = torch.bincount(codes[train], minlength=n_groups).clamp_min(1)

    def means(each: Tensor, of: Tensor) -> Tensor:
        """Return the mean (G,) of each group with what it borrows, 0 of one without rows."""
        sums = torch.zeros(n_groups, dtype=torch.float64).index_add_(0, codes[of], each[of])
        return mixing @ (sums / torch.bincount(codes[of], minlength=n_groups).clamp_min(1))

    def divergences() -> Tensor:
        with torch.no_grad():
            parts = [divergence(out, uncut[rows].to(out)).double().cpu() for rows, out in outputs()]
        return torch.cat(parts)

    def objective(found: Tensor) -> float:
        return float(found.max() if shares is None else shares @ found)

    def closure() -> float:
        for parameter in parameters:
            parameter.grad = None
        if shares is None:
            found = means(divergences(), train)
            price, value = (
                torch.softmax(found / width, 0),
                width * torch.logsumexp(found / width, 0),
            )
        else:
            price, value = shares, torch.zeros(())
        weight = torch.where(train, (price @ mixing / counts)[codes], 0.0)
        with torch.enable_grad():
            for rows, out in outputs():
                each = divergence(out, uncut[rows].to(out))
                loss = each @ weight[rows].to(each)
                for parameter, slope in zip(
                    parameters, torch.autograd.grad(loss, parameters), strict=True
                ):
                    parameter.grad = slope if parameter.grad is None else parameter.grad + slope
                if shares is not None:
                    value = value + loss.detach().cpu()
        return float(value)

    optimizer = torch.optim.LBFGS(
        parameters, max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )
    best, best_at, since = math.inf, 0, 0
    kept: list[Tensor] = []
    done = 0
    while True:
        each = divergences()
        found = objective(means(each, held_out))
        if done == 0 or found < best * (1.0 - _GAIN):  # not a number is no gain
            best, best_at, since = found, done, 0
            kept = [parameter.detach().clone() for parameter in parameters]
        else:
            since += 1
        if since == _PATIENCE or done == max_iter:
            break
        width = max(_SMOOTH * float(means(each, train).max()), torch.finfo(torch.float64).tiny)
        (group,) = optimizer.param_groups
        group["max_iter"] = min(_ITERATIONS, max_iter - done)
        optimizer.step(closure)
        done += group["max_iter"]
    with torch.no_grad():
        for parameter, values in zip(parameters, kept, strict=True):
            parameter.copy_(values)
    return best_at
