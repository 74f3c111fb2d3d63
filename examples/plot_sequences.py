# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
Sequences, from a trained network to a small and fair one
=========================================================

A one-dimensional convolutional network has learned to find early beats in pulse curves. Here a fair
head is put on it, and then the network itself is made small, such that it goes on to say of a rare
group what it said.

The curves are made up, and all that is in them is in the first cell: beats at a steady rate, of
which in half of the curves one comes early. One curve in twenty is of a person with a pacemaker,
whose beats are sharp and point down. No doctor was asked. The page needs
``pip install "skfairft[plots]"``.
"""

# %%
# Curves
# ------
# 128 points each, with noise.

import numpy as np

LENGTH = 128


def curves(n, seed):
    """Return curves (n, 1, 128), whether a beat is early, and the groups."""
    rng = np.random.default_rng(seed)
    paced, early = rng.random(n) < 0.05, rng.random(n) < 0.5
    period = rng.uniform(16, 28, n)
    width, height = np.where(paced, 0.7, 2.2), np.where(paced, -1.5, 1.0)
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
        np.where(paced, "pacemaker", "without"),
    )


# %%
# A trained network
# -----------------
# Three convolutions and the mean over time, trained on 6,000 curves.

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
_ = network.eval()

# %%
# A fair head
# -----------
# Of other people now. The network's features are computed once. The share of early beats that are
# found is to be alike in both groups, up to 0.05 on rows that no head was fitted to. Few of these
# have a pacemaker, so that on new people it may be more, about every other time:
# ``confidence=0.95`` asks for more than that, and for more rows.

import warnings

from sklearn.model_selection import train_test_split

from skfairft import FairLowRankHeadClassifier
from skfairft.metrics import constraint_distance

X, y, group = curves(16_000, seed=1)
X, X_new, y, y_new, group, group_new = train_test_split(
    X, y, group, test_size=0.5, stratify=group, random_state=0
)
backbone = nn.Sequential(body, nn.AdaptiveAvgPool1d(1), nn.Flatten())


def report_of(name, **settings):
    """Fit a head, and print how it does on new people."""
    clf = FairLowRankHeadClassifier(backbone, random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bound_met_ says whether the bound is met
        found = clf.fit(X, y, sensitive_features=group).predict(X_new)
    apart = constraint_distance(
        y_new, found, constraint="true_positive_rate_parity", sensitive_features=group_new
    )
    print(f"{name}: accuracy {np.mean(found == y_new):.3f}, {apart:.3f} apart on new people")
    if settings:
        print(f"  {clf.difference_:.3f} apart on rows out of fold: met {clf.bound_met_}")


report_of("no constraint")
report_of(
    "asked for 0.05",
    constraint="true_positive_rate_parity",
    difference_bound=0.05,
    solver="plug_in",
)

# %%
# A third of the weights, and less
# --------------------------------
# ``compress`` divides one budget over the convolutions. First as one does without a thought of
# groups; then as it does by itself, where what counts is the group that loses most. 2,000 curves
# are looked at, without labels; what is lost is measured for people whom no one has seen.

from skfairft import CompressionDisplay, compress, compression_report

rows = slice(0, 2_000)


def cut(share, **settings):
    """Return the network with a share of the weights of its convolutions."""
    return compress(
        network, X[rows], sensitive_features=group[rows], parameters=share, loss="softmax",
        layers=["0.0.0", "0.1.0", "0.2.0"], random_state=0, **settings,
    )  # fmt: skip


def report(small):
    """Return what changed."""
    return compression_report(
        network, small, X_new, y_new, sensitive_features=group_new, loss="softmax"
    )


budgets = (0.08, 0.12, 0.18, 0.3)
systems = {"all rows alike": {"group_weights": "proportional"}, "by itself": {}}
_ = CompressionDisplay.from_reports(
    {
        name: {share: report(cut(share, **settings)) for share in budgets}
        for name, settings in systems.items()
    }
)

# %%
# Trained again
# -------------
# The smallest of these then learns what the whole network says, with people with a pacemaker drawn
# more often. How far the decisions are from the whole network's, on new people, without that and
# with it:

small = cut(0.08, refine="distill_network")
for name, each in {"cut": cut(0.08), "trained again": small}.items():
    print(f"{name}: {report(each).by_group['divergence'].round(4).to_dict()}")
print(report(small))
print(report(small).layers[["inputs", "outputs", "rank", "parameters", "parameters_small"]])

# %%
# The fair head goes on the small network as it did on the whole one: it is a backbone as any other.
# Its features tell less of the rare group, and the bound is the harder to meet.

backbone = nn.Sequential(small[0], nn.AdaptiveAvgPool1d(1), nn.Flatten())
report_of(
    "small, asked for 0.05",
    constraint="true_positive_rate_parity",
    difference_bound=0.05,
    solver="plug_in",
)
