# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
The trade-off, and choosing a point
===================================

What does parity cost? ``fairness_path`` fits heads for many fairness weights from one extraction
of the features. A point is chosen on validation rows and measured on test rows, beside models of
fairlearn on the same rows.

The data are UCI Adult, of which a copy is in the package. The label is whether a person earned
more than 50,000 dollars a year, the groups are women and men. The page needs
``pip install "skfairft[plots]"``.
"""

# %%
# Four parts
# ----------
# Rows that train a small network, as in :doc:`plot_adult`; rows that fit heads on it, frozen; rows
# on which to choose between the heads (validation); and rows that only measure what was chosen
# (test). A point that is chosen *and* measured on the same rows looks better than it is, and this
# page shows by how much.

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skfairft.datasets import fetch_adult, make_adult_network

X, y, groups = fetch_adult(return_X_y_s=True)
sex = groups["sex"].astype(str)
cells = sex + y.astype(str)
y, sex = y.to_numpy(), sex.to_numpy()
network, task = train_test_split(X.index, test_size=0.4, stratify=cells, random_state=0)
train, rest = train_test_split(task, test_size=0.5, stratify=cells[task], random_state=0)
validation, test = train_test_split(rest, test_size=0.5, stratify=cells[rest], random_state=0)

encoder, model = make_adult_network(X.loc[network], y[network])
X = encoder.transform(X).astype(np.float32)
print(f"{len(train):,} rows to fit heads, {len(validation):,} to choose, {len(test):,} to measure")

# %%
# The whole path
# --------------
# 25 weights from 0 to 1, each head also with a few other thresholds. The head is fitted once;
# another weight is another rule on top of it. ``held_out`` are the rows on which the points are
# measured.

import time

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor, fairness_path

extractor = FrozenFeatureExtractor(model[:-1])
clf = FairLowRankHeadClassifier(
    extractor, constraint="demographic_parity", solver="plug_in", random_state=0
)
held_out = (X[validation], y[validation], sex[validation])
start = time.perf_counter()
path = fairness_path(clf, X[train], y[train], sensitive_features=sex[train], held_out=held_out)
print(f"{len(path.table)} points in {time.perf_counter() - start:.1f} s")

# %%
# Every seventh point of the front: those that no other point beats in both error and difference.
# ``share`` tells thresholds apart: how many times as many positive decisions as by the head's own.

front = path.front.iloc[::-1]
names = {
    "fairness_weight": "weight",
    "positive_share": "share",
    "weighted_f1_error": "error (%)",
    "difference": "difference",
    "difference_low": "low",
    "difference_high": "high",
}
print(front[list(names)].rename(columns=names).iloc[::7].round(3).to_string())

# %%
# Choosing
# --------
# ``choose`` takes the least error within a bound. Which bound is not for the curve to say: it has
# no point at which parity becomes cheap enough.

BOUND = 0.05
chosen = path.choose(difference_bound=BOUND)
point = path.table.loc[chosen]
fair = path.classifiers[chosen]
print(
    f"chosen on validation: fairness weight {point['fairness_weight']:.3g}, "
    f"error {point['weighted_f1_error']:.1f} %, difference {point['difference']:.3f} "
    f"({point['difference_low']:.3f} to {point['difference_high']:.3f})"
)

# %%
# Others on the same rows
# -----------------------
# A path means little alone. fairlearn's methods get the same frozen features and the same rows.
#
# - ``LogisticRegression``, without a constraint.
# - ``ExponentiatedGradient`` at three bounds. Like our head it needs no group when it predicts. It
#   draws each decision at random from several models, so the same person may be decided otherwise
#   when asked again.
# - ``ThresholdOptimizer`` sets a threshold for each group. It is *given the group* of every person
#   it decides on, which the others are not. It, too, draws some decisions at random.

from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import DemographicParity, ExponentiatedGradient
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

Z = extractor.transform(X)
scaler = StandardScaler().fit(Z[train])
Z = scaler.transform(Z.astype(np.float64))


def logistic():
    """Return what the other methods build on."""
    return LogisticRegression(solver="newton-cholesky")


plain = logistic().fit(Z[train], y[train])
start = time.perf_counter()
reductions = {
    bound: ExponentiatedGradient(logistic(), DemographicParity(difference_bound=bound)).fit(
        Z[train], y[train], sensitive_features=sex[train]
    )
    for bound in (0.01, 0.03, 0.06)
}
print(f"ExponentiatedGradient: {len(reductions)} points in {time.perf_counter() - start:.1f} s")
by_group = ThresholdOptimizer(
    estimator=plain, constraints="demographic_parity", prefit=True, predict_method="predict_proba"
).fit(Z[train], y[train], sensitive_features=sex[train])

# %%
# Their points on the validation rows, beside the path. In numbers, the least error of ours within
# each difference of ExponentiatedGradient:

import matplotlib.pyplot as plt

from skfairft import FairnessTradeoffDisplay
from skfairft.metrics import demographic_parity_distance, equalized_odds_distance, weighted_f1_error


def measured(predicted, rows):
    """Return error and demographic parity distance on some rows."""
    distance = demographic_parity_distance(y[rows], predicted, sensitive_features=sex[rows])
    return weighted_f1_error(y[rows], predicted), distance


def thresholds_by_group(rows):
    """Return decisions that are made with the group at hand."""
    return by_group.predict(Z[rows], sensitive_features=sex[rows], random_state=0)


reduced = {
    bound: measured(each.predict(Z[validation], random_state=0), validation)
    for bound, each in reductions.items()
}
peers = {
    "LogisticRegression": measured(plain.predict(Z[validation]), validation),
    "ExponentiatedGradient": tuple(np.transpose(list(reduced.values()))),
    "ThresholdOptimizer (given the group)": measured(thresholds_by_group(validation), validation),
}
display = FairnessTradeoffDisplay.from_path(path, chosen=chosen, peers=peers)
for error, difference in reduced.values():
    ours = path.table.loc[path.table["difference"] <= difference, "weighted_f1_error"].min()
    print(f"within {difference:.3f}: ours {ours:.1f} %, ExponentiatedGradient {error:.1f} %")

# %%
# On rows that chose nothing
# --------------------------
# Each method keeps what validation chose: of ExponentiatedGradient's models the one of least error
# within the same bound, or the nearest to it. Then the test rows are looked at for the first time.
# ΔDP is the demographic parity distance, the brackets are 95 % intervals; the last columns say who
# is given the group, and whose decisions are in part drawn at random.

within = {bound: pair for bound, pair in reduced.items() if pair[1] <= BOUND}
least = min(within or reduced, key=lambda bound: reduced[bound][0 if within else 1])
decisions = {
    "LogisticRegression": plain.predict(Z[test]),
    "ours, chosen": fair.predict(X[test]),
    "ExponentiatedGradient": reductions[least].predict(Z[test], random_state=0),
    "ThresholdOptimizer": thresholds_by_group(test),
}

from skfairft.metrics import fairness_report

rows = {}
for name, predicted in decisions.items():
    report = fairness_report(y[test], predicted, sensitive_features=sex[test], random_state=0)
    (error, *error_ends), (distance, *ends) = report.headline.to_numpy()[:2]
    rows[name] = {
        "error (%)": f"{error:.1f} [{error_ends[0]:.1f}, {error_ends[1]:.1f}]",
        "ΔDP": f"{distance:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]",
        "group": "given" if name == "ThresholdOptimizer" else "-",
        "random": "yes" if name in ("ExponentiatedGradient", "ThresholdOptimizer") else "no",
    }
print(pd.DataFrame(rows).T.to_string())

# %%
# The intervals are wide, and those of the constrained methods overlap, so this one split does not
# rank them. :doc:`/tradeoff` does so on 19 tasks with ten
# seeds, and says where we lose.
#
# The chosen point flatters itself
# --------------------------------
# By how much? Test rows give one answer, with noise. So the validation rows are halved 500 times:
# choose on one half, measure on the other.

decided = np.stack([each.predict(X[validation]) for each in path.classifiers]) == 1
wrong = decided != (y[validation] == 1)
women = sex[validation] == "Female"


def points(rows):
    """Return share of errors and demographic parity distance of all points on some rows."""
    rates = [decided[:, rows & group].mean(axis=1) for group in (women, ~women)]
    return wrong[:, rows].mean(axis=1), np.abs(rates[0] - rates[1])


rng = np.random.default_rng(0)
where_chosen, elsewhere = [], []
for _ in range(500):
    half = rng.permutation(len(validation)) % 2 == 0
    (error, distance), others = points(half), points(~half)
    best = np.argmin(np.where(distance <= BOUND, error, np.inf))
    where_chosen.append((100 * error[best], distance[best]))
    elsewhere.append((100 * others[0][best], others[1][best]))
for name, values in (("where chosen", where_chosen), ("on the other half", elsewhere)):
    wrong_share, distance = np.transpose(values)
    print(
        f"{name}: {wrong_share.mean():.2f} % wrong, "
        f"distance within {BOUND} in {np.mean(distance <= BOUND):.0%} of the draws"
    )

# %%
# The choice is within the bound where it was made, because that is how it was made. Elsewhere it is
# not always, and there it makes more errors, too. Hold out more rows or ask for a smaller bound if
# you need a margin.
#
# One parity can cost another
# ---------------------------
# Equalized odds asks for equal true and false positive rates, demographic parity for equal
# selection rates. Where the labels' rates differ between the groups, a classifier that is of any
# use cannot have both. Two points, each chosen by its own distance on the validation rows, on the
# test rows; ΔEO is the equalized odds distance.

other = fairness_path(
    clf.set_params(constraint="equalized_odds"),
    X[train],
    y[train],
    sensitive_features=sex[train],
    held_out=held_out,
)
odds = other.classifiers[other.choose(difference_bound=0.1)]
rows = {}
for name, each in {
    "no constraint": path.classifiers[0],
    f"ΔDP within {BOUND}": fair,
    "ΔEO within 0.1": odds,
}.items():
    predicted = each.predict(X[test])
    error, parity = measured(predicted, test)
    rows[name] = {
        "error (%)": round(error, 1),
        "ΔDP": round(parity, 3),
        "ΔEO": round(equalized_odds_distance(y[test], predicted, sensitive_features=sex[test]), 3),
    }
print(pd.DataFrame(rows).T.to_string())

# %%
# Both distances along both paths, on the validation rows. On the left, the one goes down and the
# other up:

figure, axes = plt.subplots(1, 2, figsize=(12, 4), sharey=True, layout="constrained")
for ax, each in zip(axes, (path, other), strict=True):
    own = each.table[each.table["positive_share"] == 1.0]  # heads with their own threshold
    for metric in ("demographic_parity_distance", "equalized_odds_distance"):
        (line,) = ax.plot(own["fairness_weight"], own[metric], label=metric.replace("_", " "))
        ends = [own[f"{metric}_{end}"] for end in ("low", "high")]
        ax.fill_between(own["fairness_weight"], *ends, color=line.get_color(), alpha=0.2)
    ax.set_title(f"constraint: {each.constraint.replace('_', ' ')}")
    ax.set_xlabel("fairness weight")
axes[0].set_ylim(bottom=0)
_ = axes[0].legend(frameon=False)

# %%
# The bands are 95 % intervals. That of equalized odds is wide, because it rests on few rows:

rich = int(np.sum((sex[validation] == "Female") & (y[validation] == 1)))
print(f"{rich} of {len(validation):,} validation rows are of women with a high income")
plt.show()

# %%
# So the third digit of such a distance says nothing, and a bound on it is met or missed by luck as
# much as by the head. Choose a constraint for a reason that has to do with the decision, before
# you see numbers: :doc:`/guide/constraint`. And parity between women and men on these rows is not
# fairness: :doc:`/guide/limits`.
