# ruff: noqa: B018, D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
Adult, a quick start
====================

From a table with groups to a small head on a frozen network: what its decisions do to women and
men, what the paper's neutralization changes about that, and what a constraint changes.

The data are UCI Adult, of the United States census of 1994; a copy is in the package, so nothing
is downloaded. The label is whether a person earned more than 50,000 dollars a year. It stands for
a decision that is of use to whoever gets it, such as a loan. The page
needs ``pip install "skfairft[plots]"``.
"""

# %%
# Data with groups
# ----------------
# The groups are the two sexes that the census knew. Neither sex nor race is among the columns of
# ``X``. That hides little: the column ``relationship`` holds "Husband" and "Wife".

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skfairft.datasets import fetch_adult

X, y, groups = fetch_adult(return_X_y_s=True)
sex = groups["sex"].astype(str)
print(y.groupby(sex).agg(persons="size", above_50K="mean").round(3))

# %%
# Three parts, alike in sex and label: rows that train the network, rows that train the head, and
# rows that only measure.

cells = sex + y.astype(str)
network, task = train_test_split(np.arange(len(y)), test_size=0.4, stratify=cells, random_state=0)
train, test = train_test_split(task, test_size=0.4, stratify=cells[task], random_state=0)
y = y.to_numpy()
print(f"{len(network):,} rows for the network, {len(train):,} for the head, {len(test):,} to test")

# %%
# A frozen network
# ----------------
# You would bring one. Here it is a small ReLU network, trained in a few seconds with skorch, and
# frozen from then on: all of it but its last layer becomes the feature extractor.

import torch
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

categories = X.select_dtypes("category").columns
encoder = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
    remainder=StandardScaler(),
).fit(X.iloc[network])
X = encoder.transform(X).astype(np.float32)

torch.manual_seed(0)
net = NeuralNetClassifier(
    nn.Sequential(
        *(nn.Linear(X.shape[1], 64), nn.ReLU()),
        *(nn.Linear(64, 64), nn.ReLU()),
        nn.Linear(64, 2),
    ),
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=1e-3,
    batch_size=256,
    max_epochs=3,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
model = net.fit(X[network], y[network]).module_
backbone = model[:-1]

# %%
# A new head
# ----------
# Without a rank and a constraint this is plain transfer learning (TL in the paper): a logistic
# regression on the frozen features. The groups go into ``fit``, as ``sensitive_features``; they
# never go into ``predict``.

from skfairft import FairLowRankHeadClassifier

plain = FairLowRankHeadClassifier(backbone, random_state=0)
plain.fit(X[train], y[train], sensitive_features=sex.iloc[train])

# %%
# What it does to the groups, on rows that trained nothing. The first three lines are the paper's
# numbers: the error in percent, and two distances between the groups, of which 0 is parity. The
# brackets are 95 % intervals.

from skfairft.metrics import fairness_report


def report_of(clf):
    """Return the fairness report of a classifier on the test rows."""
    predicted = clf.predict(X[test])
    return fairness_report(y[test], predicted, sensitive_features=sex.iloc[test], random_state=0)


before = report_of(plain)
print(before)

# %%
# The selection rates lie apart, as those of the labels do: nothing was done about it.

from skfairft import GroupRatesDisplay

display = GroupRatesDisplay.from_report(before)

# %%
# What neutralization does here: nothing that one could measure
# -------------------------------------------------------------
# The paper's method cuts the head to a low rank by an SVD, weighted with the importance of each
# feature to each group, neutralized between them. Beside it stand TL from above and a plain SVD
# (f+SVD). ΔDP and ΔEO are the two distances, of demographic parity and of equalized odds.

heads = {
    "TL": plain,
    "f+SVD": FairLowRankHeadClassifier(backbone, rank=1, importance="uniform", random_state=0),
    "the paper's method": FairLowRankHeadClassifier(backbone, rank=1, random_state=0),
}
for name in ("f+SVD", "the paper's method"):
    heads[name].fit(X[train], y[train], sensitive_features=sex.iloc[train])


def table(heads):
    """Return a row of numbers for each head: the test values, and what is trained."""
    rows = {}
    for name, clf in heads.items():
        value = report_of(clf).headline["value"]
        rows[name] = {
            "error (%)": value["weighted_f1_error"],
            "ΔDP": value["demographic_parity_distance"],
            "ΔEO": value["equalized_odds_distance"],
            "parameters": sum(weights.numel() for weights in clf.head_.parameters()),
        }
    return pd.DataFrame(rows).T.round(3).astype({"parameters": int})


print(table(heads).to_string())

# %%
# The distances of the three against the noise of the test rows:

distances = table(heads)["ΔDP"]
low, high = before.headline.loc["demographic_parity_distance", ["low", "high"]]
print(f"largest difference of ΔDP between the three: {np.ptp(distances):.3f}")
print(f"the interval of one of them is {high - low:.3f} wide")

# %%
# For two classes that was to be expected: a linear head then has rank 1 whatever one does, and the
# importance only chooses where its training starts. What the rank saves, and where it matters, is
# in :doc:`/guide/rank`; what neutralization did in a rerun of the paper's whole evaluation, in
# :doc:`/guide/neutralization`.
#
# A constraint
# ------------
# To have less disparity one has to ask for it. ``constraint`` says in which rates, here those of
# positive decisions, ``difference_bound`` how far apart they may be, and ``confidence`` how sure
# that is to be for other people, too. ``fit`` judges each row by a head that has not seen it, and
# takes the weakest weight that is surely enough within the bound.

fair = FairLowRankHeadClassifier(
    backbone,
    constraint="demographic_parity",
    difference_bound=0.05,
    confidence=0.95,
    solver="plug_in",
    random_state=0,
).fit(X[train], y[train], sensitive_features=sex.iloc[train])
low, high = fair.difference_interval_
print(f"fairness weight {fair.fairness_weight_:.3g}")
print(f"on its rows, out of fold: {fair.difference_:.3f}, interval {low:.3f} to {high:.3f}")
heads["ΔDP within 0.05"] = fair
print(table(heads).to_string())

# %%
# The distance lies below the bound, by as much as the confidence asks for. The price stands in the
# table: the error is higher, and so is the equalized odds distance. The labels' rates differ
# between the groups, so equal selection rates are had by declining more people who would be
# positive in one group, or accepting more who would not in the other. The picture shows it by
# group.

import matplotlib.pyplot as plt

after = report_of(fair)
_, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
titles = {"TL, without a constraint": before, "with a bound of 0.05 on ΔDP": after}
for ax, (title, report) in zip(axes, titles.items(), strict=True):
    GroupRatesDisplay.from_report(report, ax=ax).ax_.set_title(title)

# %%
# The rule decides by probabilities that its head estimates. Whether these are right, in each group,
# shows where they are held against what came: on the diagonal they are.

from skfairft import GroupCalibrationDisplay

display = GroupCalibrationDisplay.from_estimator(
    fair, X[test], y[test], sensitive_features=sex.iloc[test]
)

# %%
# Which of the two heads to want is not for the numbers to say. :doc:`/guide/constraint` is about
# that choice, and about what the solver ``"plug_in"`` does: it needs no group when it predicts,
# but it estimates one from the features.
#
# What the network knows of the groups
# ------------------------------------
# The two directions in which the frozen features of the test rows vary most, coloured by group;
# positive decisions are filled. The network was never told anybody's sex, and yet women and men are
# not spread alike.

from skfairft import FeatureScatterDisplay

display = FeatureScatterDisplay.from_estimator(
    fair, X[test], sensitive_features=sex.iloc[test], y=y[test]
)

# %%
# The page of a model
# -------------------
# In a notebook a fitted classifier shows what it is.

fair

# %%
# ``model_report`` puts numbers, intervals, figures and limits together on a page of its own, to be
# handed on with the model.

import tempfile
from pathlib import Path

from skfairft import model_report

with tempfile.TemporaryDirectory() as folder:  # in your work, a folder that stays
    file = Path(folder) / "report.html"
    page = model_report(fair, X[test], y[test], sensitive_features=sex.iloc[test])
    page.save(file)
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")

plt.show()

# %%
# What this page does not say
# ---------------------------
# It is one network, one split and one seed; the README has ten of each. A small distance between
# women and men on these test rows says nothing about groups that were not named, about a label that
# carries the past of those whom it describes, or about what a decision does to people. See
# :doc:`/guide/limits`.
