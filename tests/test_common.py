"""scikit-learn's own checks of an estimator, with no expected failure."""

import contextlib

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor

# The checks pass no groups, which is a FairnessWarning, and ask for things a user rarely
# does: rank 2 of one feature, one-row groups, column vectors as y.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fit got no sensitive_features"),
    pytest.mark.filterwarnings("ignore:rank=:UserWarning"),
    pytest.mark.filterwarnings("ignore:Some groups are too thin"),
    pytest.mark.filterwarnings("ignore:sensitive_features is constant"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
    pytest.mark.filterwarnings("ignore:cv=:UserWarning"),
]


class RandomProjection(nn.Module):
    """ReLU features of inputs of any width.

    It draws its matrix anew from a seed instead of keeping it: some checks compare joblib's
    hash of the parameters before and after, and that of a torch tensor changes from one deep
    copy to the next. A module without tensors has no such trouble, and can take the inputs of
    every check, which are 1 to 30 columns wide.
    """

    def __init__(self, width=32, seed=0):
        super().__init__()
        self.width = width
        self.seed = seed

    def forward(self, X):
        generator = torch.Generator().manual_seed(self.seed)
        matrix = torch.randn(X.shape[1], self.width, generator=generator)
        return torch.relu(X.float() @ matrix)


class Doubled(nn.Module):
    """Twice as many features as columns, of any number and of any dtype."""

    def forward(self, X):
        return torch.cat([X, X.abs()], 1)


class GroupedClassifier(FairLowRankHeadClassifier):
    """A classifier whose `fit` makes up three groups, which the checks do not pass."""

    def fit(self, X, y, sample_weight=None, *, sensitive_features=None):
        with contextlib.suppress(TypeError, ValueError, IndexError):  # bad X is for `fit` to refuse
            # A row's own values decide, so that its group stays the same when the checks drop,
            # repeat or permute rows.
            first = np.asarray(X)[:, 0].astype(np.float64, casting="same_kind")
            sensitive_features = np.array(["low", "middle", "high"])[np.digitize(first, [0, 1])]
        return super().fit(X, y, sample_weight=sample_weight, sensitive_features=sensitive_features)


@parametrize_with_checks(
    [
        FairLowRankHeadClassifier(),
        # The checks' data have at most three classes: rank 2 cuts nothing that matters.
        FairLowRankHeadClassifier(RandomProjection(), rank=2),
        GroupedClassifier(rank=2),
        FrozenFeatureExtractor(RandomProjection()),
        # One module meets data of many widths and dtypes in these checks.
        *(
            kind(module)
            for kind in (FairLowRankHeadClassifier, FrozenFeatureExtractor)
            for module in (nn.Identity(), Doubled())
        ),
    ]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


def test_the_grouped_classifier_has_groups():
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    assert GroupedClassifier().fit(X, y).groups_.tolist() == ["high", "low", "middle"]
