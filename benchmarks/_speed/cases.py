"""A size of a task and the ways to do it; made-up rows, and fits that several tasks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from skfairft import FairLowRankHeadClassifier
from skfairft.head.measure import forget

__all__ = ["Case", "bare_torch", "logistic_regression", "made_up", "ours", "plain_skorch"]

EPOCHS, BATCH = 20, 128


class Case(NamedTuple):
    """One size of a task: ways to do it by their names, the first of which is ours."""

    size: str
    systems: dict[str, Callable[[], Any]]
    repeats: int = 5  # of what takes long: 1, without a round before
    grows: tuple[str, float] | None = None  # the letter and its value
    peaks: bool = False  # measure memory, not time


def made_up(n: int, d: int, k: int = 2, G: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features as of a network, correlated and of a spectrum that decays, labels, groups."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n, min(64, d)))
    mixed = np.maximum(hidden @ rng.normal(size=(hidden.shape[1], d)) / 8.0, 0.0)
    X = (mixed + 0.3 * rng.normal(size=(n, d))).astype(np.float32)
    scores = hidden @ rng.normal(size=(hidden.shape[1], k)) / 2.0 + rng.gumbel(size=(n, k))
    return X, scores.argmax(axis=1), rng.integers(G, size=n)


def ours(
    X: np.ndarray, y: np.ndarray, s: np.ndarray, rank: int | None = None, **settings: Any
) -> Any:
    """Fit as for the first time."""
    forget()
    return FairLowRankHeadClassifier(rank=rank, **settings).fit(X, y, sensitive_features=s)


def logistic_regression(X: np.ndarray, y: np.ndarray, tol: float = 1e-4) -> Any:
    """Fit scikit-learn's classifier; its gradient ends below ``tol``."""
    model = LogisticRegression(max_iter=100_000, tol=tol)
    return make_pipeline(StandardScaler(), model).fit(X, y)


def plain_skorch(X: np.ndarray, y: np.ndarray) -> Any:
    """Fit a linear layer with skorch as its tutorial does."""
    net = NeuralNetClassifier(
        nn.Linear,
        module__in_features=X.shape[1],
        module__out_features=2,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        train_split=None,
        verbose=0,
    )
    return net.fit(X, y)


def bare_torch(X: np.ndarray, y: np.ndarray) -> Any:
    """Fit a linear layer in a plain loop."""
    head = nn.Linear(X.shape[1], int(y.max()) + 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    inputs, labels = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    return head
