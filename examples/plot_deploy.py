# ruff: noqa: B018, D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
Deploying with to_torch
=======================

A fitted classifier becomes one torch module, with the backbone and the head in it. What that module
decides, what its file weighs, what must go with it, and what to watch once it is in use.

The data are UCI Adult, of which a copy is in the package. The page needs
``pip install "skfairft[plots,card]"``; the part on ONNX also
``pip install onnxscript onnxruntime``.
"""

# %%
# What is needed
# --------------
# If something is missing, this says so and stops.

import importlib.util

if not all(map(importlib.util.find_spec, ["matplotlib", "skops"])):
    raise SystemExit('This example needs matplotlib and skops: pip install "skfairft[plots,card]"')

# %%
# A fair head to deploy
# ---------------------
# As in :doc:`plot_adult`: a small network is trained on 60 % of the rows and frozen, a head is
# fitted on most of the others, and what remains measures. The solver is ``"plug_in"``, whose head
# has the most to say about deployment.

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from skfairft import FairLowRankHeadClassifier
from skfairft.datasets import fetch_adult, make_adult_network

table, y, groups = fetch_adult(return_X_y_s=True)
y, sex = y.to_numpy(), groups["sex"].astype(str)
cells = sex + pd.Series(y, sex.index).astype(str)
network, task = train_test_split(np.arange(len(y)), test_size=0.4, stratify=cells, random_state=0)
train, test = train_test_split(task, test_size=0.4, stratify=cells[task], random_state=0)

encoder, model = make_adult_network(table.iloc[network], y[network])
X = encoder.transform(table).astype(np.float32)

fair = FairLowRankHeadClassifier(
    model[:-1],
    constraint="demographic_parity",
    difference_bound=0.05,
    confidence=0.95,
    solver="plug_in",
    random_state=0,
).fit(X[train], y[train], sensitive_features=sex.iloc[train])

# %%
# One module
# ----------
# ``to_torch()`` copies the backbone and the head into one ``nn.Module`` in evaluation mode. It
# shares nothing with the classifier, and it takes no group.

deployed = fair.to_torch()
deployed

# %%
# Its output is that of ``decision_function``: with two classes one score for each row, positive for
# the second class. The threshold is 0, and ``classes_`` names the two sides of it. Both are easily
# lost on the way, so compare the decisions before anything is shipped.

rows = torch.from_numpy(X[test])
with torch.no_grad():
    scores = deployed(rows).numpy()
decided = fair.classes_[(scores > 0).astype(int)]
print(f"largest difference of scores: {np.abs(scores - fair.decision_function(X[test])).max():.0e}")
print(f"decisions that agree: {np.mean(decided == fair.predict(X[test])):.2%}")

# %%
# What is in the head
# -------------------
# This head has an output for each label in each group, four in all, before it votes. So the
# deployed module holds an estimate of the group of whoever it decides about, made from the
# features, although no group goes in. Whoever deploys it should know that, and whoever answers for
# it, too; :doc:`/guide/constraint` says why the rule is made so.

with torch.no_grad():
    cell = deployed.head[0](deployed.extractor(rows)).softmax(1).numpy()
cell = cell.reshape(len(test), len(fair.classes_), len(fair.groups_))
guess = fair.groups_[cell.sum(axis=1).argmax(axis=1)]
print(f"groups: {fair.groups_.tolist()}")
agree = np.mean(guess == sex.iloc[test])
print(f"the group that it holds likelier is the recorded one in {agree:.0%} of the rows")

# %%
# For the same reason its ``predict_proba`` are not probabilities of the label. They are the shares
# of the votes that decide. Where a calibrated probability is needed, in a display or a price, take
# it from a head without a constraint, on the same backbone.

plain = FairLowRankHeadClassifier(model[:-1], random_state=0)
plain.fit(X[train], y[train], sensitive_features=sex.iloc[train])
pd.DataFrame(
    {
        name: pd.Series(value).groupby(sex.iloc[test].to_numpy()).mean()
        for name, value in {
            "labels that are 1": y[test],
            "mean of predict_proba, no constraint": plain.predict_proba(X[test])[:, 1],
            "mean of the votes": fair.predict_proba(X[test])[:, 1],
        }.items()
    }
).round(3)

# %%
# What it weighs
# --------------
# Low rank makes heads small, where the layer is wide. Here are the last layer of the network, of 64
# inputs and 2 classes, and its hidden layer of 64 inputs and 64 outputs, which is cut to rank 2 and
# then gets a new output layer.

hidden = nn.Sequential(model[2], model[3])
heads = {
    "last layer": plain,
    "last layer, rank 1": FairLowRankHeadClassifier(model[:-1], rank=1, random_state=0),
    "hidden layer": FairLowRankHeadClassifier(model[:2], head=hidden, random_state=0),
    "hidden layer, rank 2": FairLowRankHeadClassifier(
        model[:2], head=hidden, rank=2, random_state=0
    ),
}
for clf in heads.values():
    clf.fit(X[train], y[train], sensitive_features=sex.iloc[train])


def size(module):
    """Return the number of values that a module holds, and their kB."""
    tensors = module.state_dict().values()
    return sum(t.numel() for t in tensors), sum(t.nbytes for t in tensors) / 1000


sizes = {}
for name, clf in (heads | {"within 0.05": fair}).items():
    module = clf.to_torch()
    sizes[name] = {
        "error (%)": 100 * np.mean(clf.predict(X[test]) != y[test]),
        "backbone, values": size(module.extractor)[0],
        "head as trained, values": size(clf.head_)[0],
        "head deployed, values": size(module.head)[0],
        "module, kB": size(module)[1],
    }
pd.DataFrame.from_dict(sizes, orient="index").round(1)

# %%
# The rank matters where the head is a large part of the module, as a hidden layer is here. An
# output layer of two classes has little to save. And in front of most heads stands a backbone of
# millions of parameters: then the file is as large as the backbone, whatever the rank. Small heads
# pay there when there are many on one backbone, one for each task or customer.
#
# The two rows of the last layer are about equal when deployed: with two classes ``to_torch`` keeps
# only the difference of the two outputs, and that has rank 1. The heads are in double precision
# here; ``float()`` of the module would halve them.

# %%
# Files
# -----
# Ways to keep a model, for several readers.
#
# For torch: the program and its weights in one file, without any Python code of this package. The
# number of rows is left free. **The example input is kept in the file, with all the memory behind
# it**: a slice of the data would take all of the data along. So it is made of zeros.

import tempfile
from pathlib import Path

folder = tempfile.TemporaryDirectory()  # in your work, a folder that stays
place = Path(folder.name)

example = torch.zeros(2, X.shape[1])
program = torch.export.export(deployed, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
torch.export.save(program, place / "model.pt2")
loaded = torch.export.load(place / "model.pt2").module()
for n in (1, 100, len(rows)):
    same = torch.equal(loaded(rows[:n]) > 0, deployed(rows[:n]) > 0)
    print(f"{n:>5,} rows, decisions the same: {same}")

# %%
# For torch with this package installed: the weights alone, to be read without running any code.
# What reads them must build the same module first.

torch.save(deployed.state_dict(), place / "weights.pt")
again = fair.to_torch()
again.load_state_dict(torch.load(place / "weights.pt", weights_only=True))
print(f"the same scores: {torch.equal(again(rows), deployed(rows))}")

# %%
# For scikit-learn: the whole estimator, which can be fitted further, inspected and reported on.
# ``save`` writes it without any code, in JSON and safetensors; the backbone is known by its
# weights and code, and another one is refused.

import textwrap

import skfairft

fair.save(place / "estimator")
restored = skfairft.load(place / "estimator", feature_extractor=model[:-1])
print(f"the same decisions: {np.array_equal(restored.predict(X[test]), decided)}")
try:
    skfairft.load(place / "estimator", feature_extractor=model[:-2])
except ValueError as error:
    print(textwrap.fill(str(error), 76))

# %%
# joblib and pickle keep the backbone with it. **A pickle runs code when it is loaded**: load none
# but those that you or people whom you trust have made, and with the versions that wrote it.
# skops.io asks which classes may be made.

import joblib
import skops.io

joblib.dump(fair, place / "estimator.joblib")
skops.io.dump(fair, place / "estimator.skops")
asked = skops.io.get_untrusted_types(file=place / "estimator.skops")
for restored in (
    joblib.load(place / "estimator.joblib"),
    skops.io.load(place / "estimator.skops", trusted=asked),
):
    print(f"the same decisions: {np.array_equal(restored.predict(X[test]), decided)}")
for file in sorted(place.rglob("*.*")):
    print(f"{file.name:<35} {file.stat().st_size / 1000:6.0f} kB")

# %%
# The numbers of kB are larger than those of the table: each file also holds the program, names, or
# what was learned about the groups and how the head was trained.
#
# For everything else there is ONNX, which torch writes with the package ``onnxscript``. Read back
# by `OnnxModule`, it is a module again, or a backbone for another head.

if all(map(importlib.util.find_spec, ["onnxscript", "onnxruntime"])):
    import warnings

    from skfairft.onnx import OnnxModule

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about its own code
        torch.onnx.export(
            deployed,
            (example,),
            place / "model.onnx",
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=False,  # all in one file
            verbose=False,
        )
    graph = OnnxModule(place / "model.onnx")
    same = torch.equal(graph(rows) > 0, deployed(rows) > 0)
    print(f"{graph}: the same decisions: {same}")
else:
    print("ONNX is left out: pip install onnxscript onnxruntime")

# %%
# What must go with it
# --------------------
# The module knows tensors, nothing else. These do not travel inside it:
#
# - the preprocessing: here the encoder, its columns and their order; with
#   ``FrozenFeatureExtractor(preprocess=...)`` that function, a tokenizer or the normalization of
#   images, say;
# - which score means which class, and the threshold;
# - which groups it was measured on, under which constraint, with which interval. For all others
#   nothing was measured;
# - the versions.

import hashlib
import json
from importlib.metadata import version
from pprint import pprint

low, high = fair.difference_interval_.tolist()
facts = {
    "file": "model.pt2",
    "sha256": hashlib.sha256((place / "model.pt2").read_bytes()).hexdigest(),
    "input": {"preprocessing": "encoder.joblib", "columns": list(table), "encoded": X.shape[1]},
    "classes": fair.classes_.tolist(),
    "positive_score_means": int(fair.classes_[1]),
    "threshold": 0.0,
    "sensitive_feature": "sex",
    "groups": fair.groups_.tolist(),
    "constraint": fair.constraint,
    "difference_out_of_fold": round(fair.difference_, 3),
    "its_95_percent_interval": [round(low, 3), round(high, 3)],
    "within_with_confidence_0.95": round(fair.difference_limit_, 3),
    "estimates_the_group": True,  # as the solver "plug_in" does
    "versions": {name: version(name) for name in ("skfairft", "torch", "scikit-learn")},
}
joblib.dump(encoder, place / "encoder.joblib")
(place / "facts.json").write_text(json.dumps(facts, indent=2))
pprint(facts, compact=True, sort_dicts=False, width=76)

# %%
# For people there is the model card, which ``model_report`` writes from the estimator and the test
# rows. What the model is for, and who is affected by it, only its makers can say: those lines are
# left to be filled in, here or in the file.

from skfairft import model_report

report = model_report(fair, X[test], y[test], sensitive_features=sex.iloc[test])
card = report.to_card(
    intended_use="To show how a model is deployed.",
    out_of_scope="Any decision about a person.",
)
card.save(place / "README.md")
text = (place / "README.md").read_text()
print("\n".join(line for line in text.splitlines() if line.startswith("#")))
print(f"lines left to be filled in: {text.count('To be filled in')}")

# %%
# After the deployment
# --------------------
# Parity on the test rows is about people like those. Selection rates need no labels, so they can be
# watched from the first day, if the groups of those who are decided about may be recorded. Here six
# months are made of test rows: in the first three anybody comes, from the fourth on only people of
# 40 years or more. The model stays as it is.

import matplotlib.pyplot as plt

from skfairft.metrics import fairness_report

rng = np.random.default_rng(0)
months = list(rng.permutation(test)[:3000].reshape(3, 1000))
older = rng.permutation(test[table["age"].to_numpy()[test] >= 40])[:3000]
months += list(older.reshape(3, -1))


def watch(people):
    """Return the selection rates of some people, and the distance with its interval."""
    decided, labels = fair.predict(X[people]), y[people]
    report = fairness_report(labels, decided, sensitive_features=sex.iloc[people], random_state=0)
    distance = report.headline.loc["demographic_parity_distance"]
    return {"people": len(people), **report.by_group["selection_rate"], **distance}


watched = pd.DataFrame({month: watch(people) for month, people in enumerate(months, start=1)}).T
together = pd.DataFrame(
    {"1 to 3": watch(np.concatenate(months[:3])), "4 to 6": watch(np.concatenate(months[3:]))}
).T
pd.concat([watched, together]).round(3).astype({"people": int}).rename_axis("months")

# %%
# The intervals are wide: with a thousand people a month, one month above the bound is no finding.
# Those of three months together are narrower.

figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.vlines(watched.index, watched["low"], watched["high"], label="95 % interval")
ax.plot(watched.index, watched["value"], "o")
ax.axhline(0.05, color="0.4", linestyle="--", linewidth=1, label="bound at the fit")
ax.axvspan(3.5, 6.5, color="0.93", label="40 years or more")
ax.set(xlabel="month", ylabel="demographic parity distance", ylim=(0, None), xlim=(0.5, 6.5))
_ = ax.legend(frameon=False, loc="upper left")

# %%
# When labels arrive, watch the error and the other rates by group, too: `fairness_report` has them
# all. What to do about a change is not in the numbers. A new fit on new rows is one answer; to ask
# whether the decision should be made by a model is another.

folder.cleanup()
