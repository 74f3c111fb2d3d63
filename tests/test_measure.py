"""What does not depend on the rank is measured once, and again when anything else changes."""

import copy

import numpy as np
import pytest
import sklearn.model_selection
import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier
from skfairft.datasets import make_biased_classification
from skfairft.head import measure


@pytest.fixture
def computed(monkeypatch):
    """Count the measurements that are computed."""
    calls = []
    original = measure.layer_fisher

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(measure, "layer_fisher", counted)
    return calls


@pytest.fixture
def data():
    return make_biased_classification(200, 6, n_classes=3, random_state=0)


def fit(data, **settings):
    X, y, s = data
    return FairLowRankHeadClassifier(**settings).fit(X, y, sensitive_features=s)


@pytest.mark.usefixtures("routing")
def test_a_search_over_ranks_measures_each_fold_once(data, computed):
    X, y, s = data
    grid = {"rank": [1, 2, None], "importance": ["fisher", "uniform"], "max_epochs": [0, 5]}
    clf = FairLowRankHeadClassifier(tol=None).set_fit_request(sensitive_features=True)
    search = sklearn.model_selection.GridSearchCV(clf, grid, cv=4)
    search.fit(X, y, sensitive_features=s)
    assert len(computed) == 4 + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda X, y, s: (X + np.float64(1e-12) * (np.arange(6) == 2), y, s),
        lambda X, y, s: (X, (y + (np.arange(len(y)) == 5)) % 3, s),
        lambda X, y, s: (X, y, np.roll(s, 1)),
        lambda X, y, s: (X[:-1], y[:-1], s[:-1]),
        lambda X, y, s: (X.astype(np.float32), y, s),
    ],
    ids=["a value", "a label", "the groups", "a row less", "precision"],
)
def test_other_data_are_measured_anew(data, computed, change):
    fit(data)
    fit(change(*data))
    assert len(computed) == 2


@pytest.mark.parametrize(
    "settings",
    [{"C": 0.5}, {"class_weight": "balanced"}, {"head": nn.Linear(6, 3)}, {"early_stopping": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_other_settings_are_measured_anew(data, computed, settings):
    fit(data)
    fit(data, **settings)
    assert len(computed) == 2


def test_a_trained_head_is_measured_anew(data, computed):
    head = nn.Linear(6, 3)
    first = fit(data, head=head, max_epochs=0)
    fit(data, head=copy.deepcopy(head), max_epochs=0)
    assert len(computed) == 1
    with torch.no_grad():
        head.weight[0, 0] += 0.5
    second = fit(data, head=head, max_epochs=0)
    assert len(computed) == 2
    assert np.abs(first.decision_function(data[0]) - second.decision_function(data[0])).max() > 0.01


def test_what_is_remembered_is_not_changed_by_its_users(data):
    """Fits, also those that train a tail, and a user who edits a fitted head."""
    head = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    settings = {"head": head, "rank": 2, "random_state": 0}
    expected = fit(data, **settings, max_epochs=0).decision_function(data[0])
    fit(data, **settings, max_epochs=5, tol=None, early_stopping=False)
    edited = fit(data, **settings, max_epochs=0)
    with torch.no_grad():
        for parameter in edited.head_.parameters():
            parameter.zero_()
    edited.group_importance_[:] = 0.0
    edited.importance_[:] = 0.0
    found = fit(data, **settings, max_epochs=0)
    np.testing.assert_array_equal(found.decision_function(data[0]), expected)
    assert found.group_importance_.any()


def test_only_the_last_few_are_remembered(data, monkeypatch):
    monkeypatch.setattr(measure, "_MEMO_ENTRIES", 3)
    for i in range(6):
        X, y, s = data
        fit((X[i:], y[i:], s[i:]))
    assert len(measure._memo) == 3
    monkeypatch.setattr(measure, "_MEMO_BYTES", 1)
    fit(data)
    assert len(measure._memo) == 0
