"""Thin layers trained on what the uncut model says, with the groups weighted as in the cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from ..backbone.batches import NotFiniteError
from .outputs import gradients_of

__all__ = ["distill", "divergences_of", "means_of", "objective_of"]

# L-BFGS iterations between looks at the rows held out; looks without gain that end it, and the
# share of the objective that is a gain.
_ITERATIONS, _PATIENCE, _GAIN = 10, 3, 1e-3
# The smooth maximum is above the largest mean by at most this share of it, times the log of G.
_SMOOTH = 0.1


def means_of(each: Tensor, codes: Tensor, mixing: Tensor) -> Tensor:
    """Return the mean (G,) over the rows of each group, with what it borrows.

    Examples
    --------
    >>> each = torch.tensor([1.0, 2.0, 6.0]).double()
    >>> means_of(each, torch.tensor([0, 1, 1]), torch.eye(2).double())
    tensor([1., 4.], dtype=torch.float64)
    """
    sums = torch.zeros(len(mixing), dtype=torch.float64).index_add_(0, codes, each)
    return mixing @ (sums / torch.bincount(codes, minlength=len(mixing)).clamp_min(1))


def divergences_of(
    outputs: Iterable[tuple[slice, Tensor]],
    uncut: Tensor,
    divergence: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return how far each row's output is from that of the uncut model, (n,).

    Examples
    --------
    >>> uncut, apart = torch.zeros(3, 1), lambda out, target: (out - target).square().sum(1)
    >>> divergences_of([(slice(0, 2), torch.ones(2, 1)), (slice(2, 3), torch.zeros(1, 1))],
    ...                uncut, apart)
    tensor([1., 1., 0.], dtype=torch.float64)
    """
    with torch.no_grad():
        parts = [divergence(out, uncut[rows].to(out)).double().cpu() for rows, out in outputs]
    return torch.cat(parts)


def objective_of(each: Tensor, codes: Tensor, mixing: Tensor, shares: Tensor | None) -> float:
    """Return the weighted mean of the groups' means, or their largest where shares are None.

    Examples
    --------
    >>> each = torch.tensor([1.0, 2.0, 6.0]).double()
    >>> objective_of(each, torch.tensor([0, 1, 1]), torch.eye(2).double(), None)
    4.0
    """
    found = means_of(each, codes, mixing)
    return float(found.max() if shares is None else shares @ found)


def distill(
    parameters: list[nn.Parameter],
    scales: list[float],
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
    the best on the rows held out, of the start and of every tenth iteration; a group of which none
    is held out is judged on all its rows. Neither the units of what goes through the layers nor
    those of the objective matter: parameters are counted in ``scales``, and the objective in what
    it is at the start.

    Parameters
    ----------
    parameters : list of nn.Parameter
        Of the thin layers.
    scales : list of float
        The size of each one's entries, positive.
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

    Raises
    ------
    ValueError
        If the objective at the start is NaN or infinite, or has no gradient.

    Examples
    --------
    >>> x, uncut = torch.linspace(-1, 1, 8)[:, None], torch.linspace(-3, 3, 8)[:, None]
    >>> slope = nn.Parameter(torch.ones(1))
    >>> codes, held_out = torch.arange(8) % 2, torch.arange(8) > 5
    >>> squares = lambda out, target: (out - target).square().sum(1)
    >>> _ = distill([slope], [1.0], lambda: iter([(slice(0, 8), x * slope)]), uncut, codes,
    ...             held_out, squares, None, mixing=torch.eye(2).double(), max_iter=50)
    >>> round(slope.item(), 4)
    3.0
    """
    train, n_groups = ~held_out, len(mixing)
    judged = held_out | (torch.bincount(codes[held_out], minlength=n_groups) == 0)[codes]
    counts = torch.bincount(codes[train], minlength=n_groups).clamp_min(1)
    starts = [parameter.detach().clone() for parameter in parameters]
    # What is looked for is how far to go from the start, in double precision whatever the layers'.
    ways = [torch.zeros(start.shape, dtype=torch.float64) for start in starts]

    def go() -> None:
        with torch.no_grad():
            for parameter, start, scale, way in zip(parameters, starts, scales, ways, strict=True):
                parameter.copy_(start + (scale * way).to(start))

    def means(each: Tensor, of: Tensor) -> Tensor:
        return means_of(each[of], codes[of], mixing)

    def divergences() -> Tensor:
        return divergences_of(outputs(), uncut, divergence)

    def objective(found: Tensor) -> float:
        return float(found.max() if shares is None else shares @ found)

    each = divergences()
    unit, width = objective(means(each, train)), 0.0
    if not math.isfinite(unit):
        raise ValueError(f"The divergence from the uncut model is {unit} before the training.")
    if unit <= 0.0:  # they say the same, but for rounding
        return 0

    def value_and_slopes() -> tuple[float, list[Tensor]]:
        value, total = 0.0, [torch.zeros_like(way) for way in ways]
        if shares is None:
            scaled = means(divergences(), train) / width
            price, value = torch.softmax(scaled, 0), width * float(torch.logsumexp(scaled, 0))
        else:
            price = shares
        weight = torch.where(train, (price @ mixing / counts)[codes], 0.0)
        with torch.enable_grad():
            for rows, out in outputs():
                each = divergence(out, uncut[rows].to(out))
                loss = each @ weight[rows].to(each)
                for i, slope in enumerate(gradients_of(loss, parameters)):
                    if slope is not None:
                        total[i] += (scales[i] / unit) * slope.double().cpu()
                if shares is not None:
                    value += float(loss.detach())
        return value / unit, total

    def closure() -> float:
        go()
        try:
            value, slopes = value_and_slopes()
        except NotFiniteError:
            value, slopes = math.nan, []
        usable = math.isfinite(value) and all(bool(slope.isfinite().all()) for slope in slopes)
        for i, way in enumerate(ways):
            way.grad = slopes[i] if usable else torch.full_like(way, math.nan)
        # What is not finite lies too far: the line search then halves its step.
        return value if usable else math.inf

    optimizer = torch.optim.LBFGS(
        ways, max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )
    best, best_at, since, done = objective(means(each, judged)), 0, 0, 0
    kept = [way.clone() for way in ways]
    while done < max_iter and since < _PATIENCE:
        width = max(_SMOOTH * float(means(each, train).max()), torch.finfo(torch.float64).tiny)
        (group,) = optimizer.param_groups
        group["max_iter"] = min(_ITERATIONS, max_iter - done)
        optimizer.step(closure)
        done += group["max_iter"]
        go()
        try:
            each = divergences()
        except NotFiniteError:
            break
        found = objective(means(each, judged))
        if found < best * (1.0 - _GAIN):  # not a number is no gain
            best, best_at, since = found, done, 0
            kept = [way.clone() for way in ways]
        else:
            since += 1
    for way, stop in zip(ways, kept, strict=True):
        way.copy_(stop)
    go()
    return best_at
