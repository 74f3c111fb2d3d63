# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
Sequences, from a trained network to a small and fair one
=========================================================

A one-dimensional convolutional network has learned to find early beats in pulse curves. Here a fair
head is put on it, with people of 70 and more as the rare group, and then the network itself is cut
to a fifth of its weights, such that it goes on to say of them what it said.

The curves are made up, and what is known of them is all in the first cell: beats at a steady rate,
of which in half of the curves one comes early. Older people's beats are slower, broader and
weaker. No doctor was asked.
"""

# %%
# Curves
# ------
# 128 points each. One curve in ten is of an older person.

import numpy as np

LENGTH = 128


def curves(n, seed):
    """Return curves (n, 1, 128), whether a beat is early, and the age groups."""
    rng = np.random.default_rng(seed)
    older, early = rng.random(n) < 0.1, rng.random(n) < 0.5
    period = np.where(older, rng.uniform(24, 34, n), rng.uniform(16, 26, n))
    width, height = np.where(older, 3.0, 1.8), np.where(older, 0.7, 1.0)
    beats = np.arange(12)[None, :] * period[:, None] + rng.uniform(0, 16, n)[:, None]
    which = rng.integers(1, 4, n)  # the beat that may come early, and all that are after it
    shift = early * period * rng.uniform(0.25, 0.45, n)
    beats = beats - shift[:, None] * (np.arange(12) == which[:, None])
    away = np.arange(LENGTH)[None, None, :] - beats[:, :, None]
    X = (height[:, None, None] * np.exp(-0.5 * (away / width[:, None, None]) ** 2)).sum(1)
    X += 0.45 * rng.normal(size=(n, LENGTH))
    return (
        X[:, None].astype(np.float32),
        early.astype(int),
        np.where(older, "70 or older", "younger"),
    )


# %%
# A trained network
# -----------------
# Three convolutions and the mean over time, trained for a minute's part on 6,000 curves.

import torch
from torch import nn

torch.manual_seed(0)


def block(before, after):
    """Return a convolution that halves the length."""
    return nn.Sequential(
        nn.Conv1d(before, after, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm1d(after),
        nn.ReLU(),
    )


body = nn.Sequential(block(1, 32), block(32, 64), block(64, 96))
network = nn.Sequential(body, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(96, 2))
X, y, _ = curves(6_000, seed=0)
X, y = torch.from_numpy(X), torch.from_numpy(y)
optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
for _ in range(4):
    for rows in torch.randperm(len(X)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
        optimizer.step()
network.eval()

# %%
# A fair head
# -----------
# On other people. The network's features are computed once; a bound on the distance of equalized
# odds between the age groups is set, and met on rows that no head was fitted to.

from sklearn.model_selection import train_test_split

from skfairft import FairLowRankHeadClassifier
from skfairft.metrics import constraint_distance

X, y, age = curves(24_000, seed=1)
X, X_new, y, y_new, age, age_new = train_test_split(
    X, y, age, test_size=0.5, stratify=age, random_state=0
)
backbone = nn.Sequential(body, nn.AdaptiveAvgPool1d(1), nn.Flatten())


def report_of(name, **settings):
    """Fit a head, and print how it does on new people."""
    clf = FairLowRankHeadClassifier(backbone, random_state=0, **settings)
    found = clf.fit(X, y, sensitive_features=age).predict(X_new)
    apart = constraint_distance(
        y_new, found, constraint="true_positive_rate_parity", sensitive_features=age_new
    )
    print(f"{name}: accuracy {np.mean(found == y_new):.3f}, {apart:.3f} apart")


report_of("no constraint")
report_of(
    "at most 0.05 apart",
    constraint="true_positive_rate_parity",
    difference_bound=0.05,
    solver="plug_in",
)

# %%
# A fifth of the weights
# ----------------------
# ``compress`` divides one budget over the three convolutions, looks at 3,000 curves for what each
# of the groups needs, and then lets the small network learn what the whole one says, with older
# people drawn more often. No labels are used.

from skfairft import compress, compression_report

rows = slice(0, 3_000)


def cut(share, **settings):
    """Return the network with a share of the weights of its convolutions."""
    return compress(
        network, X[rows], sensitive_features=age[rows], parameters=share, loss="softmax",
        layers=["0.0.0", "0.1.0", "0.2.0"], random_state=0, **settings,
    )  # fmt: skip


def report(small):
    """Return what changed, for people whom no one has seen."""
    return compression_report(
        network, small, X_new, y_new, sensitive_features=age_new, loss="softmax"
    )


small = cut(0.2, refine="distill_network")
print(small[0])
print(report(small))
