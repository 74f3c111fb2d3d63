# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
Rows on a cluster
=================

A table in chunks, a frozen network, and a path of heads from no constraint to parity, all where the
chunks lie. The same code runs on one machine and on a hundred: what differs is the address that
``Client`` is given.

The data are UCI Adult again, small enough to see that the result is that in memory. The page needs
``pip install "skfairft[plots,distributed]"``.
"""

# %%
# A cluster, and rows in chunks
# -----------------------------
# Here the "cluster" is two threads of this process, so that this page runs anywhere. Workers in
# processes of their own come with ``Client(n_workers=2)``, those of a cluster elsewhere with
# ``Client("address:8786")``. Frames of Dask would come from ``dask.dataframe.read_parquet``.

import dask.dataframe as dd
import numpy as np
from distributed import Client
from sklearn.model_selection import train_test_split

from skfairft.datasets import fetch_adult, make_adult_network

client = Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0")

X, y, groups = fetch_adult(return_X_y_s=True)
table = X.assign(sex=groups["sex"].astype(str), label=y)
network, task = train_test_split(table, test_size=0.4, stratify=y, random_state=0)
train, test = train_test_split(task, test_size=0.5, stratify=task["label"], random_state=0)
chunks = dd.from_pandas(train, npartitions=6, sort=False)
print(f"{chunks.npartitions} chunks, {len(chunks.partitions[0]):,} rows in the first")

# %%
# A frozen network
# ----------------
# One of 64 units, trained in a few seconds on rows of its own. ``preprocess`` makes a chunk's rows
# of the table into what the network takes: it runs at the worker that has the chunk.

import torch

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor, fairness_path

encoder, model = make_adult_network(network[X.columns], network["label"].to_numpy())


def rows_of(frame):
    """Return the network's input of some rows."""
    return torch.from_numpy(encoder.transform(frame).astype(np.float32))


extractor = FrozenFeatureExtractor(model[:-1], preprocess=rows_of)

# %%
# The path
# --------
# Features are extracted in the chunks, and stay there. The head of cells, its probabilities and the
# folds that judge it take a few dozen passes over them.

import time

clf = FairLowRankHeadClassifier(
    extractor, constraint="demographic_parity", solver="plug_in", random_state=0
)
start = time.perf_counter()
path = fairness_path(
    clf, chunks[list(X.columns)], chunks["label"], sensitive_features=chunks["sex"]
)
there = time.perf_counter() - start
start = time.perf_counter()
in_memory = fairness_path(clf, train[X.columns], train["label"], sensitive_features=train["sex"])
here = time.perf_counter() - start
print(f"{there:.1f} s in chunks, {here:.1f} s in memory: so few rows are not worth a cluster")

numbers = [each.table.select_dtypes("number") for each in (path, in_memory)]
apart = (numbers[0] - numbers[1]).abs().max().max()
print(f"the two tables of {len(path.table)} points are {apart:.1g} apart at most")

# %%
# The two fronts are one.

import matplotlib.pyplot as plt

from skfairft import FairnessTradeoffDisplay

display = FairnessTradeoffDisplay.from_path(path)
front = in_memory.front
display.ax_.plot(
    front["weighted_f1_error"],
    front["difference"],
    "x",
    color="black",
    markersize=4,
    label="front, in memory",
    zorder=5,
)
display.ax_.legend(loc="upper right")
plt.show()

# %%
# Predictions, and what they do to the groups
# -------------------------------------------
# Predictions of chunks are an array of Dask, which nothing has computed yet. A report counts each
# chunk where it lies, so that only counts come here.

from skfairft.metrics import fairness_report

fair = path.classifiers[path.choose(difference_bound=0.05)]
later = dd.from_pandas(test, npartitions=3, sort=False)
predicted = fair.predict(later[list(X.columns)])
print(predicted)
report = fairness_report(later["label"], predicted, sensitive_features=later["sex"], n_boot=0)
print(report.by_group[["count", "selection_rate", "tpr"]].round(3))

# %%
# How many bytes that sends, which memory it takes, and what 100 million rows would need:
# :doc:`/scaling`. What can be given, and what happens when a worker dies:
# :doc:`/guide/scaling_out`.

client.close()
