"""Populations whose posterior is known, and the best trade-off that their features allow.

Features are Gaussian given label and group, so that P(y, g | x) is a softmax of a linear function
of x, or of a quadratic one where the groups' variances differ ("curved"). A population is the same
for all seeds, which draw the rows.

What no method can beat without the group at prediction is then a linear program (Menon and
Williamson 2018; Xian and Zhao 2024): of all decisions that see x alone, which has the least error
while the rates of the groups differ by no more than a bound. It is solved here by HiGHS, on rows
whose labels and groups count as their posterior says, and uses nothing of skfairft's solvers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linprog
from scipy.special import softmax

from .score import measures

N_FEATURES, N_TEST = 16, 100_000
ROWS = (500, 2000, 8000)  # of train and val together
GROUPS = {"synthetic-2": 2, "synthetic-4": 4, "synthetic-2-curved": 2}
SYNTHETIC = {
    **{f"synthetic-{groups}-{rows}": rows for groups in (2, 4) for rows in ROWS},
    "synthetic-2-curved-8000": 8000,
}

# Of the front: rows of the linear program, and of the measurement of what it found.
_LP_ROWS, _MEASURED_ROWS = 50_000, 400_000
_F1_STEPS = 4


@dataclass(frozen=True)
class Population:
    """Two classes and G groups of Gaussian features, with independent features in each cell."""

    share: np.ndarray  # (2, G), P(y, g)
    means: np.ndarray  # (2, G, d)
    scales: np.ndarray  # (G, d), standard deviations

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return n rows: features (n, d), labels (n,), groups (n,)."""
        n_groups = self.share.shape[1]
        cell = rng.choice(self.share.size, size=n, p=self.share.ravel())
        y, s = np.divmod(cell, n_groups)
        X = self.means[y, s] + self.scales[s] * rng.standard_normal((n, self.means.shape[2]))
        return X, y, s

    def posterior(self, X: np.ndarray) -> np.ndarray:
        """Return P(y, g | x), (n, 2, G), of rows (n, d)."""
        precision = self.scales**-2.0  # (G, d)
        linear = np.einsum("ygd,gd,nd->nyg", self.means, precision, X)
        square = np.einsum("gd,nd->ng", precision, X**2)[:, None]
        own = np.einsum("ygd,gd->yg", self.means**2, precision)
        constant = np.log(self.share) - np.log(self.scales).sum(axis=1)
        scores = constant + linear - (square + own) / 2
        return softmax(scores.reshape(len(X), -1), axis=1).reshape(scores.shape)


@lru_cache
def population(name: str) -> Population:
    """Return the population of a task's name: ``synthetic-GROUPS[-curved]-ROWS``."""
    kind = name.rpartition("-")[0]
    n_groups = GROUPS[kind]
    group = {2: [0.6, 0.4], 4: [0.4, 0.3, 0.2, 0.1]}[n_groups]
    positive = {2: [0.45, 0.2], 4: [0.5, 0.4, 0.3, 0.2]}[n_groups]
    share = np.array(group) * np.stack([1.0 - np.array(positive), np.array(positive)])
    rng = np.random.default_rng(n_groups)

    def directions(n: int, length: float) -> np.ndarray:
        drawn = rng.standard_normal((n, N_FEATURES))
        return length * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    of_label, of_group = directions(1, 1.5), directions(n_groups, 0.9)
    # Groups with more positive rows look more positive, too: without it the rates of equalized
    # odds would hardly differ.
    of_group += np.linspace(0.3, -0.3, n_groups)[:, None] * of_label
    of_cell = directions(n_groups, 0.5)  # what tells the label in one group only
    means = np.stack([of_group, of_label + of_group + of_cell])
    scales = np.ones((n_groups, N_FEATURES))
    if "curved" in kind:
        scales = np.exp(0.3 * rng.standard_normal(scales.shape))
    return Population(share, means, scales)


def draw(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, labels and groups of a task: first those to learn from, then the test rows.

    Parameters
    ----------
    name : str
        One of `SYNTHETIC`.
    seed : int
        Of the rows. The test rows of a seed are the same for each number of rows to learn from.
    """
    people = population(name)
    to_learn = people.sample(SYNTHETIC[name], np.random.default_rng([seed, 0]))
    to_test = people.sample(N_TEST, np.random.default_rng([seed, 1]))
    X, y, s = (np.concatenate(both) for both in zip(to_learn, to_test, strict=True))
    return X.astype(np.float32), y, s


def moments(constraint: str, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rates to be equal: labels (m, k) that each is among, and (m,) what it counts.

    Examples
    --------
    >>> moments("equalized_odds", 2)[0]  # among the positive rows, among the negative ones
    array([[0., 1.],
           [1., 0.]])
    """
    positive = [1] if n_classes == 2 else range(n_classes)
    eye = np.eye(n_classes)
    if constraint == "demographic_parity":
        return np.ones((len(positive), n_classes)), np.array(positive)
    among = np.concatenate([[eye[c], 1.0 - eye[c]] for c in positive])
    return among, np.repeat(positive, 2)


def fair_prices(
    posterior: np.ndarray,
    constraint: str,
    bound: float,
    *,
    weight: np.ndarray | None = None,
    value: np.ndarray | None = None,
    together: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve for the decisions of most value whose rates differ by at most a bound.

    Parameters
    ----------
    posterior : ndarray of shape (n, k, G)
        P(y, g | x) of each row.
    constraint : {"demographic_parity", "equalized_odds"}
        Which rates.
    bound : float
        On the largest difference between groups.
    weight : ndarray of shape (n,), optional
        Of the rows; all alike by default.
    value : ndarray of shape (k, k), optional
        Of a row of the first label that is predicted the second: by default 1 where right.
    together : bool, default=True
        Whether the bound is on the sum over a class's rates, as the scores are; else on each.

    Returns
    -------
    prices : ndarray of shape (k, G, k)
        The best decision is the j with the largest ``sum(posterior[y, g] * prices[y, g, j])``.
    decisions : ndarray of shape (n, k)
        Of the rows, as probabilities: few are not 0 or 1.
    """
    n, k, n_groups = posterior.shape
    weight = np.full(n, 1.0 / n) if weight is None else weight / weight.sum()
    value = np.eye(k) if value is None else value
    mass = posterior * weight[:, None, None]
    among, counted = moments(constraint, k)
    count = np.einsum("my,iyg->mg", among, mass)
    known = np.argwhere(count > 0)  # pairs of a moment and a group
    # One unknown for a row with two classes, k of sum 1 with more; then a rate for each pair, and
    # the lowest and highest rate of each moment.
    free = [1] if k == 2 else list(range(k))
    gain = mass.sum(axis=2) @ value
    gain = gain[:, [1]] - gain[:, [0]] if k == 2 else gain
    sums = np.zeros((len(known), n, len(free)))
    for row, (m, g) in enumerate(known):
        sums[row, :, free.index(counted[m])] = mass[:, :, g] @ among[m] / count[m, g]
    n_x, n_r, n_m = n * len(free), len(known), len(counted)
    eye, of_moment = sparse.eye_array(n_r), np.eye(n_m)[known[:, 0]]
    equal = [[sparse.csr_array(sums.reshape(n_r, n_x)), -eye, sparse.csr_array((n_r, 2 * n_m))]]
    right = [np.zeros(n_r)]
    if k > 2:
        one_each = sparse.kron(sparse.eye_array(n), np.ones((1, k)))
        equal.append([one_each, None, None])
        right.append(np.ones(n))
    per_class = n_m // len(free)
    limited = np.kron(np.eye(len(free)), np.ones(per_class)) if together else np.eye(n_m)
    spread = np.hstack([np.zeros((len(limited), n_r)), -limited, limited])
    inner = np.vstack(
        [
            np.hstack([np.eye(n_r), np.zeros((n_r, n_m)), -of_moment]),
            np.hstack([-np.eye(n_r), of_moment, np.zeros((n_r, n_m))]),
            spread,
        ]
    )
    found = linprog(
        np.concatenate([-gain.ravel(), np.zeros(n_r + 2 * n_m)]),
        A_ub=sparse.hstack([sparse.csr_array((len(inner), n_x)), sparse.csr_array(inner)]),
        b_ub=np.concatenate([np.zeros(2 * n_r), np.full(len(limited), bound)]),
        A_eq=sparse.block_array(equal),
        b_eq=np.concatenate(right),
        bounds=(0.0, 1.0),
        method="highs",
    )
    if found.x is None:
        raise RuntimeError(f"The linear program has no solution: {found.message}")
    prices = np.repeat(value[:, None, :], n_groups, axis=1)
    for price, (m, g) in zip(found.eqlin.marginals[:n_r], known, strict=True):
        prices[:, g, counted[m]] += among[m] * price / count[m, g]
    x = found.x[:n_x].reshape(n, -1)
    return prices, np.hstack([1.0 - x, x]) if k == 2 else x


def decide(posterior: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Return the decisions (n,) by prices (k, G, k) of rows with P(y, g | x), (n, k, G)."""
    k = prices.shape[2]
    return (posterior.reshape(len(posterior), -1) @ prices.reshape(-1, k)).argmax(axis=1)


def bayes_front(
    task: str, constraint: str, bounds: Sequence[float], goal: str = "Err"
) -> pd.DataFrame:
    """Return the best that decisions without the group can do in a population, for some bounds.

    Parameters
    ----------
    task : str
        One of `SYNTHETIC`; how many rows there are to learn from does not matter.
    constraint : {"demographic_parity", "equalized_odds"}
        The distance of the scores is what is bounded: for equalized odds a sum of two differences.
    bounds : sequence of float
        Largest distances.
    goal : {"Err", "error"}
        What is as low as can be: 100 minus weighted F1, as in the scores, or the share of wrong
        decisions. Weighted F1 is not linear in the decisions: it is made so at the best ones so
        far and solved again, a few times.

    Returns
    -------
    DataFrame
        A row for each bound: "bound"; "Err" and "error" in percent and "distance", as expected of
        the rule on many new rows (so a distance may be off its bound by a few thousandths).
    """
    people = population(task)
    known = people.posterior(people.sample(_LP_ROWS, np.random.default_rng(0))[0])
    many = people.posterior(people.sample(_MEASURED_ROWS, np.random.default_rng(1))[0])
    rows = []
    for bound in bounds:
        prices = _best(known, constraint, bound, _F1_STEPS if goal == "Err" else 1)
        table = expected_counts(many, decide(many, prices))
        err, distance = measures(table[None], constraint)[0]
        wrong = 100.0 * (1.0 - np.trace(table.sum(axis=0)) / table.sum())
        rows.append({"bound": bound, "Err": err, "error": wrong, "distance": distance})
    return pd.DataFrame(rows)


def expected_counts(posterior: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Return counts (G, k, k) of groups, true and predicted labels, as the posterior expects.

    Parameters
    ----------
    posterior : ndarray of shape (n, k, G)
        P(y, g | x).
    decisions : ndarray of shape (n,) or (n, k)
        Predicted labels, or their probabilities.
    """
    k = posterior.shape[1]
    decisions = np.eye(k)[decisions] if decisions.ndim == 1 else decisions
    return np.einsum("nyg,nj->gyj", posterior, decisions)


def _best(posterior: np.ndarray, constraint: str, bound: float, steps: int) -> np.ndarray:
    """Return the prices of the most accurate rule or, after some steps, of the best F1."""
    positive, cost = posterior[:, 1].sum(axis=1), 0.5
    best, prices = -1.0, np.empty(0)
    for _ in range(steps):
        value = np.array([[0.0, -cost], [0.0, 1.0 - cost]])
        found, decisions = fair_prices(posterior, constraint, bound, value=value)
        share, right = decisions[:, 1].mean(), (decisions[:, 1] * positive).mean()
        f1, before = _weighted_f1(positive.mean(), share, right), cost
        if f1[0] > best:
            best, prices = f1[0], found
        cost = f1[1]
        if abs(cost - before) < 1e-3:
            break
    return prices


def _weighted_f1(p: float, share: float, right: float) -> tuple[float, float]:
    """Return the weighted F1 and what a positive decision costs there, in right positives.

    Of the shares of positive rows, of positive decisions, and of both at once.
    """
    ones, zeros = share + p, 2.0 - share - p
    true_negative = 1.0 - share - p + right
    f1 = p * 2.0 * right / ones + (1.0 - p) * 2.0 * true_negative / zeros
    by_right = 2.0 * p / ones + 2.0 * (1.0 - p) / zeros
    by_share = -2.0 * p * right / ones**2
    by_share += (1.0 - p) * 2.0 * (true_negative - zeros) / zeros**2
    return f1, -by_share / by_right
