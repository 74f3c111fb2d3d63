# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
Groups on some of the rows
==========================

A survey asked a tenth of the people for their sex. All of them have a label. This page fits a head
with a bound between the groups to all rows, and compares with what else could be done.

The data are UCI Adult, of which a copy is in the package. The label is whether a person earned
more than 50,000 dollars a year. The page needs ``pip install "skfairft[plots]"``.
"""

# %%
# A tenth has its group
# ---------------------
# 30 % of the rows train a network (see :doc:`plot_adult`), half of the rest fits heads, the other
# half is for testing. Of the rows to fit, whoever was not asked has ``None``.

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skfairft.datasets import fetch_adult, make_adult_network

X, y, groups = fetch_adult(return_X_y_s=True)
sex = groups["sex"].astype(str)
cells = sex + y.astype(str)
network, task = train_test_split(X.index, test_size=0.7, stratify=cells, random_state=0)
train, test = train_test_split(task, test_size=0.5, stratify=cells[task], random_state=0)

encoder, model = make_adult_network(X.loc[network], y[network], max_epochs=5)
Z, y, sex = encoder.transform(X).astype(np.float32), y.to_numpy(), sex.to_numpy()

rng = np.random.default_rng(0)
asked = rng.random(len(train)) < 0.1
survey = np.where(asked, sex[train], None)
print(pd.Series(survey).value_counts(dropna=False).to_string())

# %%
# What to do with the others
# --------------------------
# ``missing_groups="estimate"`` learns the label from all rows, and the group, given features and
# label, from those that have it. Beside it: leaving the others out, filling in the likeliest group,
# and what a fit with all groups would have given.

from sklearn.linear_model import LogisticRegression

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.metrics import demographic_parity_distance, weighted_f1_error

extractor = FrozenFeatureExtractor(model[:-1])
features = extractor.fit_transform(Z)
inputs = np.column_stack([features, y])[train]
likeliest = LogisticRegression(C=0.1, max_iter=5000).fit(inputs[asked], sex[train][asked])
filled = np.where(asked, sex[train], likeliest.predict(inputs))


def fit(rows, column):
    """Return a head within a bound, fitted to rows and their groups."""
    clf = FairLowRankHeadClassifier(
        extractor,
        constraint="demographic_parity",
        difference_bound=0.05,
        solver="plug_in",
        missing_groups="estimate",
        random_state=0,
    )
    return clf.fit(Z[rows], y[rows], sensitive_features=column)


import textwrap
import warnings

from skfairft import FairnessWarning

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always", FairnessWarning)
    heads = {
        "all groups": fit(train, sex[train]),
        "estimate": fit(train, survey),
        "drop": fit(train[asked], sex[train][asked]),
        "impute": fit(train, filled),
    }
for each in said:
    print(textwrap.fill(str(each.message), 88))

# %%
# Test rows have all groups: what is measured needs the group of each row.

table = {}
for name, clf in heads.items():
    decided = clf.predict(Z[test])
    table[name] = {
        "error (%)": weighted_f1_error(y[test], decided),
        "judged": clf.difference_,
        "limit": clf.difference_limit_,
        "on test rows": demographic_parity_distance(y[test], decided, sensitive_features=sex[test]),
    }
print(pd.DataFrame(table).T.round(3).to_string())

# %%
# The column "judged" is what each fit believes, "limit" what the distance is within on other rows
# with a confidence of 95 %. That of the estimate counts no more rows than were asked. That of
# filled in groups takes guesses for knowledge.

print(heads["estimate"].rows_with_group_)

# %%
# The rates of the groups on the test rows, with their intervals:

from skfairft import GroupRatesDisplay
from skfairft.metrics import fairness_report

decided = heads["estimate"].predict(Z[test])
report = fairness_report(y[test], decided, sensitive_features=sex[test], random_state=0)
display = GroupRatesDisplay.from_report(report)

# %%
# What nothing in the data can tell
# ---------------------------------
# That holds if whoever has the same features and the same label is as likely to answer, women as
# men. Here women answer a quarter as often:

odds = np.where(sex[train] == "Female", 0.04, 0.16)
some = np.where(rng.random(len(train)) < odds, sex[train], None)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FairnessWarning)  # said above
    biased = fit(train, some)
distance = demographic_parity_distance(
    y[test], biased.predict(Z[test]), sensitive_features=sex[test]
)
print(f"judged {biased.difference_:.3f}, on test rows {distance:.3f}")

# %%
# How far it is off depends on the data, and the fit cannot see it: how the groups came about
# must be known from elsewhere. More in :doc:`/guide/data_and_groups`.
