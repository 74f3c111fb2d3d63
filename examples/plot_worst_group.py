# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
The worst group
===============

A network can be right on average and wrong on a few: it has learnt something that goes with the
label in most rows, such as a background, and fails where it does not. The largest error of a class
of a group is what ``constraint="worst_group"`` makes small, on features that stay as they are.

The data are scikit-learn's handwritten digits, on backgrounds that give the answer away in nine
rows of ten. The frozen network is a random one: no download, and nothing to tune. The page
needs ``pip install "skfairft[plots]"``.
"""

# %%
# Digits on a background
# ----------------------
# Is the digit 5 or more? The background is bright for most of those, and dark for most others. The
# group of a row is whether its background is bright.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

digits = load_digits()
rng = np.random.default_rng(0)
y = np.where(digits.target >= 5, "5 to 9", "0 to 4")
bright = (digits.target >= 5) ^ (rng.random(len(y)) < 0.1)
images = digits.images / 16.0
images = np.where((images < 0.2) & bright[:, None, None], 0.6, images).astype(np.float32)
background = np.where(bright, "bright", "dark")
cells = np.char.add(y, background)
X, X_test, y, y_test, s, s_test = train_test_split(
    images, y, background, test_size=0.5, stratify=cells, random_state=0
)
for digit in ("0 to 4", "5 to 9"):
    for ground in ("bright", "dark"):
        print(f"{digit}, {ground}: {((y == digit) & (s == ground)).sum()} of {len(y)} rows")

# %%
# A head for the average, and one for the worst
# ---------------------------------------------
# The plain head is right on nine rows of ten, and mostly wrong where the background misleads. With
# ``constraint="worst_group"`` there are two ways to a better one on the same features. The
# fine-tuned head is trained on the mean loss of the worst cell, as group DRO is. The plug-in rule
# estimates class and group together, and decides by the votes that make the largest error of a cell
# small. ``fairness_weight`` mixes either with the loss of all rows, 0.9 by default.

import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier
from skfairft.metrics import worst_group_error

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU())
heads = {
    "plain": FairLowRankHeadClassifier(network, C=0.1),
    "fine-tuned": FairLowRankHeadClassifier(network, C=0.1, constraint="worst_group"),
    "plug-in": FairLowRankHeadClassifier(network, constraint="worst_group", solver="plug_in"),
}
for name, head in heads.items():
    head.set_params(random_state=0).fit(X, y, sensitive_features=s)
    predicted = head.predict(X_test)
    right = np.mean(predicted == y_test)
    worst = worst_group_error(y_test, predicted, sensitive_features=s_test)
    print(f"{name:10} accuracy {right:.2f}, of the worst cell {1 - worst:.2f}")

# %%
# Who is wrong
# ------------
# The share of each class and background that is decided wrong.

import matplotlib.pyplot as plt

names = [(digit, ground) for digit in ("0 to 4", "5 to 9") for ground in ("dark", "bright")]
figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for k, (name, head) in enumerate(heads.items()):
    wrong = head.predict(X_test) != y_test
    errors = [wrong[(y_test == digit) & (s_test == ground)].mean() for digit, ground in names]
    ax.bar(np.arange(4) + 0.27 * (k - 1), errors, width=0.25, label=name)
ax.set_xticks(range(4), [f"{digit}\n{ground}" for digit, ground in names])
ax.set_ylabel("share that is wrong")
ax.legend(frameon=False)
plt.show()

# %%
# What it promises itself
# -----------------------
# ``worst_group_`` has what the votes are to reach by the head's own probabilities, which no other
# decisions by them could undercut, the cells that are held down together, the rows in the smallest
# one, and what it costs in accuracy. The promise is too good, the more so the fewer rows that cell
# has.

found = heads["plug-in"].worst_group_
print(f"expected error of the worst cell {found.error:.2f}, at best {found.limit:.2f}")
print(f"smallest cell: {found.smallest}, {found.rows} rows")
print(f"price: {found.plain_accuracy - found.accuracy:.2f} of accuracy")
for digit, ground, share in found.binding:
    print(f"held down: {digit}, {ground} ({share:.0%})")

# %%
# The whole trade-off
# -------------------
# A path judges heads of many weights out of fold; ``choose(by="worst_group")`` takes the one whose
# worst cell is best there.

from skfairft import FairnessTradeoffDisplay, fairness_path

path = fairness_path(heads["plug-in"], X, y, sensitive_features=s)
chosen = path.choose(by="worst_group")
FairnessTradeoffDisplay.from_path(path, chosen=chosen)
plt.show()

predicted = path.classifiers[chosen].predict(X_test)
worst = worst_group_error(y_test, predicted, sensitive_features=s_test)
print(f"chosen   accuracy {np.mean(predicted == y_test):.2f}, of the worst cell {1 - worst:.2f}")
