"""Heads of two classes, fitted exactly: weighted logistic regression, and the worst cell's.

Group DRO (Sagawa et al. 2020, arXiv:1911.08731) of a linear head is a convex problem:

    F(w) = max over cells c of (mean cross-entropy of c + adjustment / sqrt(n_c)) + w'Pw / 2

with a diagonal P. It is solved by sequential quadratic programming: each step takes the Hessian of
the losses weighted by the last multipliers q, and finds step and new multipliers from a quadratic
program of as many unknowns as there are cells. Near the saddle point that is Newton's method. Any
multipliers bound the minimum from below, by the strong convexity that P gives:

    min F >= sum_c q_c l_c(w) + w'Pw / 2 - g' P^-1 g / 2,   g the gradient of what is before it

so that the gap is known at each step, and says when to stop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

__all__ = ["Rows", "Saddle", "fit_logistic", "group_dro", "simplex_program"]

# Of the penalty of the weights, that of the intercept: hardly any, but the bound needs one.
INTERCEPT = 0.01


class Rows:
    """Rows sorted by cell, with a constant feature at the end.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
        Features.
    y : ndarray of shape (n,)
        Labels, 0 or 1.
    cells : ndarray of shape (n,)
        Codes of cells. Those of no rows are left out.
    """

    def __init__(self, Z: np.ndarray, y: np.ndarray, cells: np.ndarray) -> None:
        self.order = np.argsort(cells, kind="stable")
        self.Z = np.column_stack([Z[self.order], np.ones(len(Z))]).astype(np.float64)
        self.single = self.Z.astype(np.float32)  # for Hessians, which need not be exact
        self.sign = np.where(y[self.order] == 1, 1.0, -1.0)
        _, self.starts, self.sizes = np.unique(
            cells[self.order], return_index=True, return_counts=True
        )
        self.cell = np.repeat(np.arange(len(self.sizes)), self.sizes)

    def penalty(self, ridge: float) -> np.ndarray:
        """Return the diagonal of P (d + 1,)."""
        return np.r_[np.full(self.Z.shape[1] - 1, ridge), INTERCEPT * ridge]

    def losses(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cross-entropy of each row, and P(wrong label) of each."""
        margin = self.sign * (self.Z @ w)
        return np.logaddexp(0.0, -margin), expit(-margin)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of each cell."""
        return np.add.reduceat(values, self.starts) / self.sizes

    def gradients(self, wrong: np.ndarray) -> np.ndarray:
        """Return the gradient of each cell's mean (cells, d + 1)."""
        slope = -self.sign * wrong
        ends = self.starts + self.sizes
        return np.stack(
            [slope[a:b] @ self.Z[a:b] / (b - a) for a, b in zip(self.starts, ends, strict=True)]
        )

    def hessian(self, wrong: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the Hessian of the weighted sum of all rows; those of weight 0 cost nothing."""
        root = np.sqrt(weight * wrong * (1.0 - wrong)).astype(np.float32)
        used = root > 0.0
        A = (self.single if used.all() else self.single[used]) * root[used, None]
        return (A.T @ A).astype(np.float64)


def fit_logistic(
    rows: Rows,
    weight: np.ndarray,
    ridge: float,
    *,
    start: np.ndarray | None = None,
    center: np.ndarray | None = None,
    tol: float = 1e-6,
) -> np.ndarray:
    """Minimize the weighted sum of cross-entropies + (w - center)'P(w - center) / 2.

    Parameters
    ----------
    rows : Rows
        What to fit.
    weight : ndarray of shape (n,)
        Of each row, in the order of ``rows``, with sum 1.
    ridge : float
        Of the weights.
    start, center : ndarray of shape (d + 1,), optional
        Where to start, and what the penalty draws to. Zero by default.
    tol : float, default=1e-6
        How far above the minimum the value may be.

    Returns
    -------
    ndarray of shape (d + 1,)
        Weights, the last one the intercept.
    """
    P = rows.penalty(ridge)
    center = np.zeros(len(P)) if center is None else center
    w = center.copy() if start is None else start.copy()
    loss, wrong = rows.losses(w)
    value = weight @ loss + P @ (w - center) ** 2 / 2
    for _ in range(100):
        gradient = (weight * -rows.sign * wrong) @ rows.Z + P * (w - center)
        if gradient @ (gradient / P) / 2 <= tol:
            break
        H = rows.hessian(wrong, weight)
        H[np.diag_indices_from(H)] += P
        step = -cho_solve(cho_factor(H), gradient)
        if -gradient @ step / 2 <= tol / 100:  # Newton's decrement: what is left to gain
            break
        size = 1.0
        while True:
            new = w + size * step
            loss, wrong = rows.losses(new)
            reached = weight @ loss + P @ (new - center) ** 2 / 2
            if reached <= value + 0.1 * size * (gradient @ step) or size < 1e-6:
                break
            size /= 2
        w, value = new, reached
    return w


def simplex_program(K: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the q of the simplex that maximizes b'q - q'Kq / 2, by an active set."""
    K = K + 1e-12 * (np.trace(K) + 1.0) * np.eye(len(b))
    held = [int(np.argmax(b - np.diag(K) / 2))]
    q = np.zeros(len(b))
    q[held] = 1.0
    for _ in range(50 * len(b)):
        n = len(held)
        system = np.ones((n + 1, n + 1))
        system[:n, :n], system[n, n] = K[np.ix_(held, held)], 0.0
        solved = np.linalg.solve(system, np.r_[b[held], 1.0])
        free = np.zeros(len(b))
        free[held] = solved[:n]
        if free.min() >= 0.0:
            q = free
            slack = b - K @ q - solved[n]
            slack[held] = -np.inf
            best = int(np.argmax(slack))
            if slack[best] <= 1e-12 * (1.0 + np.abs(b).max()):
                break
            held.append(best)
            continue
        # As far as the first of them that becomes 0.
        falls = [i for i in held if free[i] < 0.0]
        step, gone = min((q[i] / (q[i] - free[i]), i) for i in falls)
        q = q + step * (free - q)
        q[gone] = 0.0
        held.remove(gone)
    return q


@dataclass(frozen=True)
class Saddle:
    """A head that is best for its worst cell."""

    w: np.ndarray  # (d + 1,) the last one the intercept
    q: np.ndarray  # (cells,) multipliers
    value: float  # F(w)
    gap: float  # how far above the minimum that is, at most
    steps: int


def group_dro(
    rows: Rows,
    ridge: float,
    adjustment: float = 0.0,
    *,
    start: Saddle | None = None,
    tol: float = 1e-5,
    max_steps: int = 100,
) -> Saddle:
    """Minimize the largest mean cross-entropy of a cell + adjustment / sqrt(n_c), penalized.

    Parameters
    ----------
    rows : Rows
        What to fit, and its cells.
    ridge : float
        Of the weights.
    adjustment : float, default=0
        The paper's C: more for cells of few rows.
    start : Saddle, optional
        Of another ridge or adjustment, to start from.
    tol : float, default=1e-5
        The gap to stop at.
    max_steps : int, default=100
        How many steps there may be.
    """
    P, n = rows.penalty(ridge), len(rows.sizes)
    extra = adjustment / np.sqrt(rows.sizes)
    w = np.zeros(len(P)) if start is None else start.w
    q = np.full(n, 1.0 / n) if start is None else start.q

    def measured(w: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        loss, wrong = rows.losses(w)
        of_cells = rows.means(loss) + extra
        return of_cells, wrong, float(of_cells.max() + P @ w**2 / 2)

    losses, wrong, value = measured(w)
    bound, steps = -np.inf, 0
    for steps in range(max_steps + 1):
        J = rows.gradients(wrong)
        gradient = q @ J + P * w
        bound = max(bound, q @ losses + P @ w**2 / 2 - gradient @ (gradient / P) / 2)
        if value - bound <= tol or steps == max_steps:
            break
        H = rows.hessian(wrong, (q / rows.sizes)[rows.cell])
        H[np.diag_indices_from(H)] += P
        factor = cho_factor(H)
        slopes = np.column_stack([J.T, P * w])
        solved = cho_solve(factor, slopes)
        of_sum = slopes.T @ solved  # of q and of the penalty
        K = of_sum[:n, :n] + of_sum[:n, n:] + of_sum[n:, :n] + of_sum[n, n]

        def toward(b: np.ndarray, K: np.ndarray = K, solved: np.ndarray = solved):
            q = simplex_program(K, b)
            return q, -(solved[:, :n] @ q + solved[:, n])

        new_q, step = toward(losses)
        model = (losses + J @ step).max() + (P * w) @ step + step @ H @ step / 2
        gain = losses.max() - model
        best = measured(w + step)
        new = w + step
        if best[2] > value - 0.1 * gain:
            # The losses bend more than their mean: the same step with the losses found there.
            _, bent = toward(best[0] - J @ step)
            other = measured(w + bent)
            if other[2] < best[2]:
                best, new = other, w + bent
        size = 1.0
        while best[2] > value - 0.1 * size * gain and size > 1e-6:
            size /= 2
            new = w + size * step
            best = measured(new)
        (losses, wrong, value), w, q = best, new, new_q
    return Saddle(w, q, value, float(value - bound), steps)
