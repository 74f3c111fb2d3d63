"""L-BFGS about a given matrix, as a generator that asks for what it needs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable

import numpy as np
from torch import Tensor

__all__ = ["Solve", "descend"]

#: From a gradient to what the inverse of a matrix makes of it, in the same shape.
Solve = Callable[[Tensor], Tensor]

# Rounding of the loss: below it, a step is judged by the gradient.
_LOSS_TOL = 64 * float(np.finfo(np.float64).eps)
_MAX_ITER, _MAX_HALVINGS = 10_000, 50
# Share of the promised decrease for which a step is taken.
_LEAST_DECREASE = 1e-4
# Steps that are remembered: each saves some evaluations and costs next to nothing.
_MEMORY = 30
# Evaluations beyond what a better matrix costs before there is one; where it costs more than so
# many, these tell how fast the gradient falls.
_MORE, _TELLING = 5, 40


def descend(
    theta: Tensor, solve: Solve, renew: Callable[[Tensor], Solve], cost: float, tol: float
) -> Generator[Tensor, tuple[float, Tensor], tuple[float, Tensor]]:
    """Minimize a convex function by L-BFGS [1]_ about a matrix close to its second derivatives.

    Who asks for the minimum evaluates the function: one of them may serve several descents.

    Parameters
    ----------
    theta : Tensor
        Where to start.
    solve : Solve
        Multiplies with about the inverse of the second derivatives.
    renew : callable
        Returns a better ``solve`` for where it is called.
    cost : float
        Of that, in evaluations. It is called where more than these are still to come, as fast as
        the gradient has fallen since the last time, and some more than these or 40 went by.
    tol : float
        Largest entry of the gradient at the end.

    Yields
    ------
    Tensor
        Where to evaluate next. What is sent back is value and gradient there.

    Returns
    -------
    value, theta : float, Tensor
        The minimum, where no entry of the gradient is above ``tol`` or rounding leaves no way down.

    References
    ----------
    .. [1] J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, Springer 2006,
       section 7.2.

    Examples
    --------
    >>> import torch
    >>> descent = descend(torch.tensor([3.0]), lambda gradient: gradient, None, np.inf, 1e-10)
    >>> at = next(descent)
    >>> try:
    ...     while True:
    ...         at = descent.send((float((at - 1.0).square()), 2.0 * (at - 1.0)))
    ... except StopIteration as end:
    ...     print(end.value)
    (0.0, tensor([1.]))
    """
    loss, gradient = yield theta
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=_MEMORY)
    passes, first = 0, float(gradient.abs().max())
    for _ in range(_MAX_ITER):
        largest = float(gradient.abs().max())
        if largest <= tol:
            break
        enough = min(cost, _TELLING) + _MORE
        if passes >= enough and _to_come(passes, first, largest, tol) > cost:
            solve, passes, first = renew(theta), 0, largest
            pairs.clear()
        step = -_times_inverse(gradient, pairs, solve)
        slope, at_most = float((gradient * step).sum()), loss + _LOSS_TOL * max(1.0, abs(loss))
        for halvings in range(_MAX_HALVINGS):
            size = 0.5**halvings
            new = theta + size * step
            new_loss, new_gradient = yield new
            passes += 1
            if new_loss <= at_most + _LEAST_DECREASE * size * slope:
                break
        else:
            break
        # Where rounding hides what a step does to the loss, and the gradient does not fall.
        if new_loss >= loss and new_gradient.abs().max() >= gradient.abs().max():
            break
        moved, turned = new - theta, new_gradient - gradient
        inner = float((moved * turned).sum())
        if inner > 0.0:  # as it is but for rounding
            pairs.append((moved, turned, inner))
        theta, loss, gradient = new, new_loss, new_gradient
    return loss, theta


def _to_come(passes: int, first: float, largest: float, tol: float) -> float:
    """Return how many evaluations it takes from a gradient to the next, falling as it did."""
    fell = math.log(first / largest)
    return passes * math.log(largest / tol) / fell if fell > 0.0 else math.inf


def _times_inverse(
    gradient: Tensor, pairs: Iterable[tuple[Tensor, Tensor, float]], solve: Solve
) -> Tensor:
    """Multiply with the inverse that L-BFGS updates by pairs of a step and its turn."""
    pairs, left, shares = list(pairs), gradient.clone(), []
    for moved, turned, inner in reversed(pairs):
        shares.append(float((moved * left).sum()) / inner)
        left -= shares[-1] * turned
    left = solve(left)
    for (moved, turned, inner), share in zip(pairs, reversed(shares), strict=True):
        left += (share - float((turned * left).sum()) / inner) * moved
    return left
