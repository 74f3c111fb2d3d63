# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
Several groups and their intersections
======================================

Two sensitive columns make groups of their intersections, some of them small. The rates of small
groups are loud: this page tells disparity from chance, and shows what a constraint does when there
are many groups.

The data are UCI Adult, of which a copy is in the package. The label is whether a person earned
more than 50,000 dollars a year. Sexes and races have the names that the census of 1994 gave them.
The page needs ``pip install "skfairft[plots]"``.
"""

# %%
# Ten groups
# ----------
# ``sensitive_features`` may be a DataFrame. Its columns sex and race make ten groups. The rows are
# divided alike in all of them: 30 % train a network, half of the rest fits heads, the other half
# is for testing.

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skfairft.datasets import fetch_adult, make_adult_network

X, y, groups = fetch_adult(return_X_y_s=True)
groups = groups.astype(str)
cells = groups["sex"] + groups["race"] + y.astype(str)
network, task = train_test_split(X.index, test_size=0.7, stratify=cells, random_state=0)
train, test = train_test_split(task, test_size=0.5, stratify=cells[task], random_state=0)
both = ["sex", "race"]
counts = y[train].groupby([groups.loc[train, name] for name in both]).agg(["size", "sum"])
print(f"{len(train):,} rows fit heads, {len(test):,} test; of the former:")
print(counts.rename(columns={"size": "persons", "sum": "above 50K"}).to_string())

# %%
# Before anything is fitted, this table says most of what there is to know about the limits of this
# page. A true positive rate of the smallest groups is a share of a handful of people.
#
# A network, frozen, and a head without a constraint on it (see :doc:`plot_adult`):


from skfairft import FairLowRankHeadClassifier, FineTune, FrozenFeatureExtractor

encoder, model = make_adult_network(X.loc[network], y[network], max_epochs=5)
X, y = encoder.transform(X).astype(np.float32), y.to_numpy()
extractor = FrozenFeatureExtractor(model[:-1])
plain = FairLowRankHeadClassifier(extractor, rank=1, random_state=0)
plain.fit(X[train], y[train], sensitive_features=groups.loc[train])

# %%
# Rates with their counts
# -----------------------
# Each group has its count beside it and its interval around it; small ones are marked.

from skfairft import GroupRatesDisplay
from skfairft.metrics import fairness_report

before = plain.predict(X[test])
report = fairness_report(y[test], before, sensitive_features=groups.loc[test], random_state=0)
print("\n".join(report.notes))
display = GroupRatesDisplay.from_report(report)

# %%
# How wide is an interval of a selection rate, in the smallest group and in the largest?

width = report.group_intervals["selection_rate"]["high"]
width = width - report.group_intervals["selection_rate"]["low"]
for group in (report.by_group["count"].idxmin(), report.by_group["count"].idxmax()):
    size = report.by_group.loc[group, "count"]
    print(f"{' / '.join(group)}: {size:,.0f} rows, interval {width[group]:.3f} wide")

# %%
# Many small groups differ by chance alone
# ----------------------------------------
# The distance between several groups is the largest difference of any two. Of ten noisy rates the
# largest and the smallest lie apart even where every group is treated alike. How far is a simple
# calculation: keep the decisions, and the sizes of the groups, but deal the persons out to the
# groups at random, a thousand times.


def largest_difference(decisions, codes):
    """Return the largest difference of selection rates between groups 0, 1, ..."""
    return np.ptp(np.bincount(codes, weights=decisions) / np.bincount(codes))


def by_chance(decisions, codes, n_draws=1000):
    """Return what the largest difference is where groups have nothing to do with decisions."""
    rng = np.random.default_rng(0)
    return np.array([largest_difference(rng.permutation(decisions), codes) for _ in range(n_draws)])


def codes_of(frame):
    """Return the group of each test row as a number."""
    return frame.loc[test].groupby(list(frame)).ngroup().to_numpy()


for name, columns in (("women and men", ["sex"]), ("sex and race, ten groups", both)):
    codes = codes_of(groups[columns])
    draws = by_chance(before, codes)
    print(f"{name}: observed {largest_difference(before, codes):.3f}")
    chance, most = draws.mean(), np.quantile(draws, 0.95)
    print(f"  by chance {chance:.3f} on average, up to {most:.3f} in 95 % of the draws")
    print(f"  by chance within 0.05 in {np.mean(draws <= 0.05):.0%} of the draws")

# %%
# For two large groups chance is next to nothing; for ten, it makes a distance that would look like
# a disparity anywhere else. The observed distances are beyond it in both cases. But a bound of 0.05
# on ten groups would be a bound on noise: the last line says how seldom decisions that have nothing
# to do with the groups are within it, on as many rows as these.
#
# Which features matter to whom
# -----------------------------
# The importance of each feature to each group, which the paper's method neutralizes. The title has
# the two groups that are least alike (at a cosine of 1 there would be nothing to neutralize).

from skfairft import FisherImportanceDisplay

display = FisherImportanceDisplay.from_estimator(plain)

# %%
# Are they unlike, or only small, so that their importances are noise? Again, groups of the same
# sizes but made at random give the answer:

lowest = []
for seed in range(10):
    dealt = groups.loc[train].sample(frac=1.0, random_state=seed)
    shuffled = FairLowRankHeadClassifier(
        extractor, rank=1, solver=FineTune(max_epochs=0), random_state=0
    )
    shuffled.fit(X[train], y[train], sensitive_features=dealt)
    similarity = FisherImportanceDisplay(
        group_importance=shuffled.group_importance_,
        importance=shuffled.importance_,
        groups=shuffled.groups_,
    ).similarity
    lowest.append(similarity.min())
observed = display.similarity.min()
print(f"lowest cosine: {observed:.3f}; of random groups {min(lowest):.3f} to {max(lowest):.3f}")
print("below all of them" if observed < min(lowest) else "not below all of them")

# %%
# ``group_weights`` sets how much each group counts in the neutralized importance: all alike by
# default, so that the smallest group has the say of the largest; ``"proportional"`` to their sizes;
# or by name.

weighted = {"equal": plain}
by_name = {group: 1.0 if group[0] == "Female" else 0.0 for group in plain.groups_}
for name, weights in (("proportional", "proportional"), ("women only", by_name)):
    clf = FairLowRankHeadClassifier(extractor, rank=1, group_weights=weights, random_state=0)
    weighted[name] = clf.fit(X[train], y[train], sensitive_features=groups.loc[train])
for name, clf in weighted.items():
    differ = int(np.sum(clf.predict(X[test]) != before))
    print(f"{name}: {differ} of {len(test):,} test decisions differ from those of equal weights")

# %%
# In a head for two classes the weights change where the training starts, and next to nothing of
# where it ends: :doc:`/guide/neutralization`.
#
# Merging thin groups
# -------------------
# A rate that a group does not have cannot be held equal: with a constraint on true positive rates
# ``fit`` refuses a group without positives, and names it. Short of that it takes what it gets, and
# equalizes four persons with thousands.
#
# Two races are thin: Amer-Indian-Eskimo, and Other. Merged they make eight groups instead of ten.
# The reason is their counts, known before any decision was looked at; it is not that these people
# have anything in common. Asian-Pac-Islander stays a group of its own, though it is small as well:
# merged with the others, its men's selection rate would disappear in a mean.
#
# Merging hides. Whatever is equal for the merged group may be unequal inside it, and nobody will
# see it in this report. That is a reason to gather rows, not to be content.

thin = ["Amer-Indian-Eskimo", "Other"]
race = groups["race"].replace(dict.fromkeys(thin, " or ".join(thin)))
eight = pd.DataFrame({"sex": groups["sex"], "race": race})
print(eight.loc[train].value_counts().to_string())

# %%
# What a constraint does
# ----------------------
# Once between the sexes alone, and once between the eight groups. With ``"plug_in"`` the latter
# takes a few seconds, because it fits a class for each label in each group.

heads = {"no constraint": plain}
for name, frame in (("on women and men", groups[["sex"]]), ("on eight groups", eight)):
    clf = FairLowRankHeadClassifier(
        extractor,
        constraint="demographic_parity",
        fairness_weight=0.8,
        solver="plug_in",
        random_state=0,
    )
    heads[name] = clf.fit(X[train], y[train], sensitive_features=frame.loc[train])

# %%
# Each head's largest difference on the test rows, and in brackets how large chance makes it in
# 95 % of the draws. A star marks what is beyond that.

from skfairft.metrics import weighted_f1_error

groupings = {"women, men": groups[["sex"]], "eight groups": eight, "ten groups": groups}
rows = {}
for name, clf in heads.items():
    decisions = clf.predict(X[test])
    rows[name] = {"error (%)": f"{weighted_f1_error(y[test], decisions):.1f}"}
    for grouping, frame in groupings.items():
        codes = codes_of(frame)
        value, limit = (
            largest_difference(decisions, codes),
            np.quantile(by_chance(decisions, codes), 0.95),
        )
        rows[name][grouping] = f"{value:.3f} ({limit:.3f}){'*' if value > limit else ' '}"
print(pd.DataFrame(rows).T.to_string())

# %%
# Read the columns downwards. The constraint between women and men leaves groups inside them further
# apart than the sexes are; the constraint between eight groups brings these nearer, at more error.
# And read the brackets: a difference
# without a star is not parity. It is what these rows cannot tell from parity, which for the
# smallest groups covers a good deal. Nor is a star the whole story: it says that some groups
# differ, not which, nor why.
#
# The eight groups under the constraint, with their intervals:

import matplotlib.pyplot as plt

after = fairness_report(
    y[test],
    heads["on eight groups"].predict(X[test]),
    sensitive_features=eight.loc[test],
    random_state=0,
)
_, ax = plt.subplots(figsize=(9, 5.5), layout="constrained")
display = GroupRatesDisplay.from_report(after, ax=ax)
plt.show()

# %%
# Each column by itself
# ---------------------
# ``groups="columns"`` asks for less: parity of women and men, and of the races, each for itself.
# What is reached of either, and between the eight groups that nobody asked it for, stands side by
# side in the report of any decisions. Here are all of the test rows, with 95 % intervals:

clf = FairLowRankHeadClassifier(
    extractor,
    constraint="demographic_parity",
    groups="columns",
    fairness_weight=0.8,
    solver="plug_in",
    random_state=0,
)
heads["on each column"] = clf.fit(X[train], y[train], sensitive_features=eight.loc[train])
reports = {
    name: fairness_report(
        y[test], heads[name].predict(X[test]), sensitive_features=eight.loc[test], n_boot=0
    )
    for name in ("no constraint", "on each column", "on eight groups")
}
for name, report in reports.items():
    ends = report.by_column.filter(like="demographic_parity").to_numpy()
    sides = [f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, low, high in ends]
    print(f"{name}:", ", ".join(map(" ".join, zip(report.by_column.index, sides, strict=True))))

# %%
# The same decisions, above by the levels of each column, below by the eight groups:

_, (above, below) = plt.subplots(2, figsize=(9, 9.5), layout="constrained", height_ratios=[6, 9])
report, rates = reports["on each column"], ["selection_rate"]
GroupRatesDisplay.from_report(report, metrics=rates, groups="columns", ax=above)
GroupRatesDisplay.from_report(report, metrics=rates, ax=below)
plt.show()

# %%
# Parity by column does not bring parity by intersection, however near it comes: levels can agree
# while the groups inside them do not. It has a place where a rule speaks of each column, or where
# the intersections are too thin to be held to anything; then look at both.
#
# Selection rates were asked for; the other rates were not, and move as they like. Equal rates of
# these groups on these rows are not fairness to the people in them: :doc:`/guide/limits`. How to
# choose groups is in :doc:`/guide/data_and_groups`.
