"""The networks that arXiv:2403.00625 pre-trains on Adult, and its baselines that train all of one.

The network is a ReLU MLP of two layers; its last layer, 10 x 2, is the head (section 3.3: "20 in
total"). ``f_B`` is trained on the loss alone, ``f_F`` with a penalty on the covariance of group and
score after Zafar et al., "Fairness Constraints: Mechanisms for Fair Classification"
(arXiv:1507.05259), which the paper names. Retrain+DP and Retrain+EO (section 4.4) train all layers
on the new task with a penalty on the distance itself.

Shapes: ``X`` (n, D) float32, ``y`` and ``s`` (n,) int64 of 0 and 1, ``logits`` (n, 2).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from skfairft.parity.constraints import parity
from skfairft.parity.penalty import ParityPenalty
from skfairft.parity.sums import mass_table
from skfairft.rows.tensor_rows import TensorRows

CONSTRAINTS = ("demographic_parity", "equalized_odds")

# The covariance of B rows has a standard error of about sd(d) / sqrt(B), and its absolute value is
# as large on average even where there is none: small batches would penalize large scores, fair or
# not. At 2,048 rows that is some 0.03, where training without a penalty ends at 0.94. All rows at
# once (200 steps) have no such error but overfit: on held-out rows ΔEO stays at 0.10, not 0.07.
BATCH = 2048


def network(n_inputs: int, width: int, seed: int) -> nn.Sequential:
    """Return the paper's network with initial weights drawn from a seed.

    Parameters
    ----------
    n_inputs : int
        Number of inputs D.
    width : int
        Number of hidden units; the paper has 10.
    seed : int
        Of the weights; torch's global random state is left as it is.

    Returns
    -------
    nn.Sequential
        Linear (D, width), ReLU, Linear (width, 2).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(nn.Linear(n_inputs, width), nn.ReLU(), nn.Linear(width, 2))


def covariance_penalty(logits: Tensor, y: Tensor, s: Tensor, constraint: str) -> Tensor:
    r"""Return the absolute covariance of standardized group and score.

    With the signed score ``d = logits[:, 1] - logits[:, 0]`` and ``z = (s - mean(s)) / sd(s)``,
    demographic parity costs ``|cov(z, d)| = |mean(z d)|``, and equalized odds the sum of the same
    within each label, ``|cov(z, d | y = 1)| + |cov(z, d | y = 0)|``, with ``z`` standardized within
    it. For two groups of shares q and 1 - q this is ``sqrt(q (1 - q))`` times the distance of their
    mean scores.

    Parameters
    ----------
    logits : Tensor of shape (n, 2)
        The result is differentiable in them.
    y, s : Tensor of shape (n,), int64
        Labels and groups, 0 or 1.
    constraint : {"demographic_parity", "equalized_odds"}
        Which covariances.

    Returns
    -------
    Tensor of shape ()
        At least 0.

    Raises
    ------
    ValueError
        If the constraint is another, or a group has no rows (for equalized odds: of some label).

    References
    ----------
    Zafar et al. (arXiv:1507.05259), Eq. 2: the covariance of group and signed distance to the
    boundary. That within labels is the analogue for equalized odds.
    """
    _check(constraint)
    d = logits[:, 1] - logits[:, 0]
    if constraint == "demographic_parity":
        return _covariance(d, s, "")
    return sum(_covariance(d[y == j], s[y == j], f" of label {j}") for j in (1, 0))


def _covariance(d: Tensor, s: Tensor, where: str) -> Tensor:
    n_ones = int(s.sum())
    if not 0 < n_ones < len(s):
        raise ValueError(
            f"Among the {len(s)} rows{where}, {n_ones} have s = 1; the covariance of group and "
            "score needs rows of both groups 0 and 1. Use larger batches, or merge groups."
        )
    centred = s.to(d.dtype) - n_ones / len(s)
    return (centred * d).mean().abs() / centred.square().mean().sqrt()


def pretrain(
    X: np.ndarray | Tensor,
    y: np.ndarray | Tensor,
    s: np.ndarray | Tensor,
    *,
    width: int = 10,
    seed: int,
    constraint: str | None = None,
    intensity: float = 0.0,
    epochs: int = 40,
) -> nn.Sequential:
    """Train ``f_B`` (no constraint) or ``f_F`` on ``loss + intensity * covariance_penalty``.

    Adam with a cosine schedule to 0, in equal batches of at most `BATCH` rows.

    Parameters
    ----------
    X : array or Tensor of shape (n, D), float32
        Encoded inputs.
    y, s : array or Tensor of shape (n,), int64
        Labels and groups, 0 or 1.
    width : int, default=10
        As for `network`.
    seed : int
        Of the initial weights and the batches; torch's global random state is left as it is.
    constraint : {"demographic_parity", "equalized_odds"}, optional
        Of ``f_F``.
    intensity : float, default=0.0
        What the penalty is multiplied by; the paper has 0.1, 0.5 and 0.9.
    epochs : int, default=40
        At the end the schedule has the loss settled.

    Returns
    -------
    nn.Sequential
        As `network` makes it, trained.

    Notes
    -----
    The paper does not say how the intensity λ enters. Readings, by Err / ΔDP with demographic
    parity and Err / ΔEO with equalized odds on a tenth of the pre-training rows that was held out
    (means of seeds 0 to 4; a fair network would have a ΔEO of about 0.05 there by chance). The
    first is the one here: among those that do not collapse to a constant at 0.9, its biases come
    closest to the paper's; the errors of "mixed, cov(s, p)" come a little closer. Nearly all errors
    are lower than the paper's, as they are without a penalty: 15.0, not 16.2.

    ==================  ==================================  ==================================
    reading             parity, 0.1, 0.5, 0.9               odds, 0.1, 0.5, 0.9
    ==================  ==================================  ==================================
    the paper's table   17.3/.125, 17.5/.047, 20.2/.031     16.8/.068, 17.5/.012, 18.7/.008
    loss + λ cov(z, d)  15.8/.106, 16.7/.058, 17.2/.042     15.3/.075, 15.7/.061, 16.3/.078
    loss + λ cov(s, d)  15.4/.136, 16.3/.081, 16.5/.068     15.2/.072, 15.5/.077, 15.7/.075
    loss + λ cov(s, p)  15.0/.165, 15.4/.133, 15.6/.107     15.1/.101, 15.3/.072, 15.4/.078
    loss + λ cov(z, p)  15.1/.157, 15.8/.097, 17.2/.033     15.2/.074, 15.5/.083, 15.8/.073
    mixed, cov(z, d)    15.8/.104, 17.3/.040, 34.3/.000     15.3/.066, 16.4/.071, 34.3/.000
    mixed, cov(s, d)    15.4/.133, 16.7/.064, 24.1/.022     15.3/.068, 15.8/.062, 34.3/.000
    mixed, cov(s, p)    15.0/.164, 15.8/.099, 19.2/.019     15.1/.097, 15.4/.074, 16.4/.065
    mixed, cov(z, p)    15.2/.154, 17.6/.017, 19.4/.018     15.2/.078, 15.9/.072, 22.6/.124
    ==================  ==================================  ==================================

    Mixed is ``(1 - λ) loss + λ cov``, with the same minima as ``loss + λ / (1 - λ) cov``; p is the
    probability of label 1.
    """
    if constraint is not None:
        _check(constraint)
    X, y, s = (torch.as_tensor(values) for values in (X, y, s))
    model = network(X.shape[1], width, seed)
    n_batches = -(-len(X) // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * n_batches)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(X), generator=shuffle).tensor_split(n_batches):
            logits = model(X[rows])
            loss = cross_entropy(logits, y[rows])
            if constraint is not None:
                penalty = covariance_penalty(logits, y[rows], s[rows], constraint)
                loss = loss + intensity * penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model


def distance(logits: Tensor, y: Tensor, s: Tensor, constraint: str) -> Tensor:
    """Return ΔDP or ΔEO with the mean probability of label 1 in place of the rate of predictions.

    What `FairLowRankHeadClassifier` adds to a head's loss, times ``fairness_weight``, with
    ``calibrate=False``.

    Parameters
    ----------
    logits : Tensor of shape (n, 2)
        The result is differentiable in them.
    y, s : Tensor of shape (n,), int64
        Labels and groups, 0 or 1.
    constraint : {"demographic_parity", "equalized_odds"}
        The latter is ΔTPR + ΔFPR.

    Returns
    -------
    Tensor of shape (), float64
        In [0, 1], for equalized odds in [0, 2].
    """
    _check(constraint)
    p = torch.softmax(logits.double(), dim=1)
    mass, count = mass_table(p, TensorRows(p, y, p.new_ones(len(p)), s), n_groups=2)
    return ParityPenalty(parity(constraint, 2), count, 1.0, "distance").value(mass)


def retrain(
    model: nn.Sequential,
    X: np.ndarray | Tensor,
    y: np.ndarray | Tensor,
    s: np.ndarray | Tensor,
    *,
    constraint: str | None = None,
    intensity: float = 0.0,
    steps: int = 50,
) -> nn.Sequential:
    """Train all layers of a copy on a new task, on ``loss + intensity * distance``.

    Retrain+DP and Retrain+EO of the paper; without a constraint, plain fine-tuning of the whole
    network. Adam with a cosine schedule to 0, all rows at once; nothing is random.

    Parameters
    ----------
    model : nn.Sequential
        A pre-trained network; it is not changed.
    X, y, s : array or Tensor
        The new task's training rows, as for `pretrain`.
    constraint : {"demographic_parity", "equalized_odds"}, optional
        Which distance.
    intensity : float, default=0.0
        What it is multiplied by.
    steps : int, default=50
        Few, against overfitting.

    Returns
    -------
    nn.Sequential
        Trained copy.

    Notes
    -----
    Chosen on pre-training rows alone: half of them pre-trained, 8,645 were the new task, 6,008
    judged (seeds 0 to 3). There the objective without a constraint, with ΔDP at 0.9, and with ΔEO
    at 0.9 was 0.313, 0.381, 0.380 after 50 steps; 0.318, 0.376, 0.369 after 100; and 0.313, 0.385,
    0.394 with the best of 100 on a tenth held out, too few rows to judge a ΔEO by.
    """
    if constraint is not None:
        _check(constraint)
    X, y, s = (torch.as_tensor(values) for values in (X, y, s))
    model = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        logits = model(X)
        loss = cross_entropy(logits, y)
        if constraint is not None:
            loss = loss + intensity * distance(logits, y, s, constraint)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def _check(constraint: str) -> None:
    if constraint not in CONSTRAINTS:
        raise ValueError(f"constraint={constraint!r} is none of {', '.join(CONSTRAINTS)}.")
