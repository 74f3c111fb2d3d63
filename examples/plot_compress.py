# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
A smaller network, and who pays for it
======================================

A trained network is cut to a few percent of its parameters. What it says stays nearly the same, on
the average. This page looks behind the average: at people of 65 and more, one in twenty-five.

The data are UCI Adult, of which a copy is in the package. The label is whether a person earned
more than 50,000 dollars a year. The page needs ``pip install "skfairft[plots]"``.
"""

# %%
# A network
# ---------
# 30 % of the rows train it (see :doc:`plot_adult`); half of the rest is there to cut it by, without
# labels, the other half to measure what the cut costs.

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skfairft.datasets import fetch_adult, make_adult_network

X, y, _ = fetch_adult(return_X_y_s=True)
age = np.where(X["age"] >= 65, "65 or older", "younger")
own, rest = train_test_split(X.index, test_size=0.7, stratify=y, random_state=0)
rows, new = train_test_split(rest, test_size=0.5, stratify=age[rest], random_state=0)
encoder, model = make_adult_network(X.loc[own], y[own], max_epochs=5)
inputs = encoder.transform(X).astype(np.float32)
print(model)
print(pd.Series(age[rows]).value_counts().to_string())

# %%
# Cut
# ---
# Both wide layers become two thin ones each. First as one does without a thought of groups: such
# that the layers' outputs change least over all rows. Then as ``compress`` does by itself: of the
# outputs those that the loss heeds count more, the second layer is cut by what it gets behind the
# first, and the groups count such that the one which loses most loses least.

from skfairft import compress, compression_report


def cut(rank, **settings):
    """Return the network with its two wide layers cut."""
    return compress(
        model, inputs[rows], sensitive_features=age[rows], rank=rank, layers=["0", "2"],
        loss="softmax", random_state=0, batch_size=4096, **settings,
    )  # fmt: skip


def report(small):
    """Return what changed, on rows that no one has seen."""
    return compression_report(
        model, small, inputs[new], y[new].to_numpy(), sensitive_features=age[new], loss="softmax"
    )


blind = {"importance": "covariance", "group_weights": "proportional"}
for name, small in {"all rows alike": cut(2, **blind), "by itself": cut(2)}.items():
    print(f"\n{name}\n{report(small)}")
print(small[0])

# %%
# The divergence is that of the probabilities, in nats: 0 where the small network says the same.
# Where all rows count alike, those of 65 and more pay several times what the others do; by itself
# they no longer do, and the others pay no more for it.
#
# At any rank
# -----------
# ``refine="distill"`` trains the thin layers to say what the whole network does, still without
# labels, here with ``group_weights="minimax"``: such that the group that loses most loses least.

import matplotlib.pyplot as plt

ranks = [1, 2, 3, 4, 6, 8]
systems = {
    "all rows alike": blind,
    "by itself": {},
    "minimax, distilled": {"group_weights": "minimax", "refine": "distill"},
}
_, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
for ax, (name, settings) in zip(axes, systems.items(), strict=True):
    found = [report(cut(rank, **settings)).by_group["divergence"] for rank in ranks]
    for group, color in {"65 or older": "#D55E00", "younger": "#0072B2"}.items():
        ax.plot(ranks, [each[group] for each in found], "o-", color=color, label=group)
    ax.set(title=name, xlabel="rank", yscale="log")
axes[0].set_ylabel("divergence from the network")
_ = axes[0].legend()

# %%
# Not every group pays: by sex, or by where people were born, a cut of this network is alike for
# all, and the weights change little. ``compression_report`` tells. More on when it matters:
# :doc:`/guide/compression`.
