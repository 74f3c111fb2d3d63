"""What does not depend on the rank is measured once, and again when anything else changes."""

import copy
import dataclasses

import numpy as np
import pytest
import sklearn.model_selection
import torch
from flat import flat
from torch import nn

from skfairft import FairLowRankHeadClassifier, FineTune
from skfairft.datasets import make_biased_classification
from skfairft.head import measure
from skfairft.rows.tensor_rows import TensorRows


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
    return FairLowRankHeadClassifier(**flat(**settings)).fit(X, y, sensitive_features=s)


@pytest.mark.usefixtures("routing")
def test_a_search_over_ranks_measures_each_fold_once(data, computed):
    X, y, s = data
    solvers = [FineTune(max_epochs=0), FineTune(max_epochs=5, tol=None)]
    grid = [
        {"rank": [1, 2], "importance": ["fisher", "uniform", "covariance"], "solver": solvers},
        {"rank": [None], "solver": solvers},
    ]
    clf = FairLowRankHeadClassifier().set_fit_request(sensitive_features=True)
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
    first = fit(data, head=head, solver=FineTune(max_epochs=0))
    fit(data, head=copy.deepcopy(head), solver=FineTune(max_epochs=0))
    assert len(computed) == 1
    with torch.no_grad():
        head.weight[0, 0] += 0.5
    second = fit(data, head=head, solver=FineTune(max_epochs=0))
    assert len(computed) == 2
    assert np.abs(first.decision_function(data[0]) - second.decision_function(data[0])).max() > 0.01


def test_what_is_remembered_is_not_changed_by_its_users(data):
    """Fits, also those that train a tail, and a user who edits a fitted head."""
    head = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    settings = {"head": head, "rank": 2, "random_state": 0}
    expected = fit(data, **settings, solver=FineTune(max_epochs=0)).decision_function(data[0])
    fit(data, **settings, solver=FineTune(max_epochs=5, tol=None, early_stopping=False))
    edited = fit(data, **settings, solver=FineTune(max_epochs=0))
    with torch.no_grad():
        for parameter in edited.head_.parameters():
            parameter.zero_()
    edited.group_importance_[:] = 0.0
    edited.importance_[:] = 0.0
    found = fit(data, **settings, solver=FineTune(max_epochs=0))
    np.testing.assert_array_equal(found.decision_function(data[0]), expected)
    assert found.group_importance_.any()


def test_only_the_last_few_are_remembered(data, monkeypatch):
    monkeypatch.setattr(measure, "_MEMO_ENTRIES", 3)
    for i in range(6):
        X, y, s = data
        fit((X[i:], y[i:], s[i:]))
    assert len(measure._memo) == 3
    monkeypatch.setattr(measure, "_MEMO_BYTES", max(map(measure._nbytes, measure._memo.values())))
    fit((X[7:], y[7:], s[7:]))
    assert len(measure._memo) == 1


def test_what_is_too_large_to_remember_drives_nothing_out(rows, monkeypatch):
    first = measured(rows)
    monkeypatch.setattr(measure, "_MEMO_BYTES", measure._nbytes(first))
    again = measured(rows, covariance=True)
    assert again.start is first.start
    assert measure._nbytes(again.covariance) > measure._nbytes(first)
    assert measured(rows, covariance=True).covariance is not again.covariance
    assert measured(rows).statistics is first.statistics


@pytest.fixture
def rows(data):
    X, y, s = data
    w = torch.arange(len(y)).remainder(5).double() + 0.5
    codes = torch.from_numpy(np.unique(s, return_inverse=True)[1])
    return torch.from_numpy(X), torch.from_numpy(y), codes, w


def measured(rows, **settings):
    Z, y, codes, w = rows
    return measure.measure(
        TensorRows(Z, y, w, codes),
        **{"n_groups": 2, "n_classes": 3, "C": 1.0, "head": None, **settings},
    )


@pytest.fixture
def filled(monkeypatch):
    """List what is filled in each first pass."""
    passes, original = [], measure.fill

    def counted(Z, parts):
        passes.append(sorted(parts))
        return original(Z, parts)

    monkeypatch.setattr(measure, "fill", counted)
    return passes


class TestStatistics:
    def test_are_those_of_the_rows(self, rows):
        Z, y, codes, w = rows
        found = measured(rows, covariance=True, labels=y)
        mean = w @ Z / w.sum()
        torch.testing.assert_close(found.moments.mean, mean, rtol=1e-12, atol=1e-14)
        for group in range(2):
            own = codes == group
            expected = np.cov(Z[own].numpy().T, aweights=w[own].numpy(), ddof=0)
            np.testing.assert_allclose(
                found.covariance.covariances[group].numpy(), expected, rtol=1e-10, atol=1e-14
            )
            for label in range(3):
                cell = own & (y == label)
                torch.testing.assert_close(
                    found.cells.means[label, group], w[cell] @ Z[cell] / w[cell].sum()
                )

    def test_what_is_not_asked_for_is_none(self, rows):
        found = measured(rows)
        assert found.covariance is None
        assert found.cells is None

    def test_true_labels_need_not_be_what_the_head_tells_apart(self, rows):
        Z, y, codes, w = rows
        found = measured((Z, y * 2 + codes, codes, w), n_classes=6, labels=y, n_labels=3)
        assert found.start.weight.shape == (6, 6)
        assert found.cells.weights.shape == (3, 2)
        assert torch.equal(found.cells.means, measured(rows, labels=y).cells.means)

    def test_all_that_needs_no_head_is_one_pass(self, rows, filled):
        measured(rows, covariance=True, labels=rows[1])
        assert filled == [["cells", "covariance", "moments"]]

    def test_only_what_is_not_known_is_measured(self, rows, filled, computed):
        first = measured(rows)
        with_labels = measured(rows, labels=rows[1])
        by_group = measured(rows, heads="by_group", covariance=True)
        all_of_it = measured(rows, covariance=True, labels=rows[1])
        assert filled == [["moments"], ["cells"], ["covariance"]]
        assert computed == [1]  # the pooled one
        for other in (with_labels, by_group, all_of_it):
            assert other.start is first.start
            assert other.moments is first.moments
        assert all_of_it.cells is with_labels.cells
        assert all_of_it.covariance is by_group.covariance
        assert by_group.statistics is not first.statistics
        # Another strength of the penalty shares what no head is needed for.
        other = measured(rows, C=0.5, covariance=True, labels=rows[1])
        assert other.start is not first.start
        assert len(filled) == 3
        assert len(computed) == 2

    def test_other_labels_are_measured_anew(self, rows, filled):
        first = measured(rows, labels=rows[1])
        other = measured(rows, labels=rows[1].flip(0))
        assert filled == [["cells", "moments"], ["cells"]]
        assert not torch.equal(first.cells.weights, other.cells.weights)
        assert measured(rows, labels=rows[1], n_labels=5).cells.weights.shape == (5, 2)

    def test_numbers_of_groups_and_classes_and_the_kind_of_head_are_part_of_the_question(
        self, rows
    ):
        first = measured(rows, covariance=True)
        assert first.covariance.covariances.shape == (2, 6, 6)
        more = measured(rows, n_groups=3, covariance=True)
        assert more.covariance.covariances.shape == (3, 6, 6)
        assert len(more.statistics.weights) == 3
        assert first.start.weight.shape == (6, 3)
        assert measured(rows, n_classes=4).start.weight.shape == (6, 4)
        head = nn.Linear(6, 3)
        assert measured(rows, head=head).start.tail is None
        assert measured(rows, head=head, hidden=True).start.tail is not None

    def test_an_earlier_head_is_used_and_not_remembered(self, rows, computed):
        first = measured(rows)
        earlier = dataclasses.replace(first.start, weight=torch.zeros(6, 3).double())
        found = measured(rows, start=earlier)
        assert found.start is earlier
        assert found.moments is first.moments
        assert not torch.allclose(found.statistics.squares, first.statistics.squares, rtol=1e-2)
        assert measured(rows).start is first.start
        assert len(computed) == 2

    @pytest.mark.parametrize("head", [None, nn.Sequential(nn.Linear(6, 4), nn.ReLU())])
    def test_bytes_are_those_of_all_tensors(self, rows, head):
        found = measured(rows, head=head, covariance=True, labels=rows[1])
        numbers = 3 * 6 * 8  # moments, and the shift of two kinds of means: near enough
        numbers += (2 * 6 + 2 + 2) * 8  # Fisher information
        numbers += (2 * 36 + 2 * 6 + 2 + 6) * 8 + (6 * 6 + 6) * 8
        numbers += (6 * 3 + 3) * 8 if head is None else (6 * 4 + 4 + 4 * 3 + 3) * 8
        assert measure._nbytes(found) == numbers
