"""The networks that the paper pre-trains: what is penalized, and that it does what it should."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skfairft.metrics import demographic_parity_distance, equalized_odds_distance

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from paper.pretrain import (
    CONSTRAINTS,
    covariance_penalty,
    distance,
    network,
    pretrain,
    retrain,
)

MEASURES = {
    "demographic_parity": demographic_parity_distance,
    "equalized_odds": equalized_odds_distance,
}


@pytest.fixture(scope="module")
def data():
    """Rows of which one input tells the label, another the group, and the labels lean on it."""
    rng = np.random.default_rng(0)
    s = rng.integers(0, 2, 3000)
    y = (rng.random(3000) < 0.25 + 0.5 * s).astype(np.int64)
    inputs = np.column_stack([1.5 * y, 2.0 * s, np.zeros(3000)])
    return (inputs + rng.normal(size=(3000, 3))).astype(np.float32), y, s


@pytest.fixture(scope="module")
def biased(data):
    return pretrain(*data, seed=0)


def gap(model, data, constraint):
    X, y, s = data
    with torch.no_grad():
        predicted = model(torch.from_numpy(X)).argmax(dim=1).numpy()
    return MEASURES[constraint](y, predicted, sensitive_features=s)


def random_rows(n=80):
    rng = np.random.default_rng(1)
    y, s = rng.integers(0, 2, (2, n))
    return torch.from_numpy(rng.normal(size=(n, 2))), torch.from_numpy(y), torch.from_numpy(s)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_the_network_is_the_papers():
    model = network(7, 10, seed=0)
    assert [tuple(p.shape) for p in model.parameters()] == [(10, 7), (10,), (2, 10), (2,)]
    assert isinstance(model[1], nn.ReLU)


def test_the_penalty_is_numpys_covariance():
    logits, y, s = random_rows()
    d = (logits[:, 1] - logits[:, 0]).numpy()

    def covariance(rows):
        return abs(np.cov(s[rows], d[rows], ddof=0)[0, 1]) / np.std(s.numpy()[rows])

    everyone = np.ones(len(d), dtype=bool)
    expected = {
        "demographic_parity": covariance(everyone),
        "equalized_odds": covariance(y.numpy() == 1) + covariance(y.numpy() == 0),
    }
    for constraint in CONSTRAINTS:
        value = covariance_penalty(logits, y, s, constraint).item()
        assert value == pytest.approx(expected[constraint], rel=1e-12)


def test_the_penalty_is_that_of_mean_scores():
    logits, y, s = random_rows()
    d = logits[:, 1] - logits[:, 0]
    q = s.double().mean()
    means = d[s == 1].mean() - d[s == 0].mean()
    value = covariance_penalty(logits, y, s, "demographic_parity")
    torch.testing.assert_close(value, (q * (1 - q)).sqrt() * means.abs())


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_scores_that_do_not_depend_on_the_group_cost_nothing(constraint):
    # The same scores once more for each label and group: control and twin differ in s alone.
    logits = random_rows()[0].repeat(4, 1)
    y = torch.tensor([0, 0, 1, 1]).repeat_interleave(80)
    s = torch.tensor([0, 1, 0, 1]).repeat_interleave(80)
    assert covariance_penalty(logits, y, s, constraint) < 1e-15
    leaning = logits + torch.stack([torch.zeros(320), s], dim=1)
    assert covariance_penalty(leaning, y, s, constraint) > 0.4


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_a_shift_of_all_scores_costs_nothing(constraint):
    logits, y, s = random_rows()
    shifted = logits + torch.tensor([0.0, 3.0])
    torch.testing.assert_close(
        covariance_penalty(shifted, y, s, constraint), covariance_penalty(logits, y, s, constraint)
    )


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_pre_training_with_a_penalty_is_fairer(data, biased, constraint):
    fair = pretrain(*data, seed=0, constraint=constraint, intensity=0.9)
    assert gap(biased, data, constraint) > 0.3
    assert gap(fair, data, constraint) < 0.5 * gap(biased, data, constraint)
    X, y, _ = data
    with torch.no_grad():
        right = (fair(torch.from_numpy(X)).argmax(dim=1).numpy() == y).mean()
    assert right > 0.6  # fair, and no constant


def test_without_intensity_a_constraint_changes_nothing(data, biased):
    assert same(pretrain(*data, seed=0, constraint="equalized_odds", intensity=0.0), biased)


def test_one_seed_gives_one_network_and_leaves_torchs_state(data, biased):
    state = torch.get_rng_state()
    assert same(pretrain(*data, seed=0), biased)
    assert not same(pretrain(*data, seed=1), biased)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_distance_is_the_metric_of_certain_predictions():
    _, y, s = random_rows()
    predicted = torch.from_numpy(np.random.default_rng(2).integers(0, 2, len(y)))
    logits = 1000.0 * F.one_hot(predicted, 2).double()
    for constraint, measure in MEASURES.items():
        expected = measure(y.numpy(), predicted.numpy(), sensitive_features=s.numpy())
        assert distance(logits, y, s, constraint).item() == pytest.approx(
            expected, abs=2.01e-4
        )  # rounded off


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_retraining_with_a_penalty_is_fairer_and_works_on_a_copy(data, biased, constraint):
    before = copy.deepcopy(biased)
    plain = retrain(biased, *data)
    fair = retrain(biased, *data, constraint=constraint, intensity=0.9)
    assert same(biased, before)
    assert gap(plain, data, constraint) > 0.3
    assert gap(fair, data, constraint) < 0.5 * gap(plain, data, constraint)
    for layer in (0, 2):  # the whole network, not its head alone
        assert not torch.equal(fair[layer].weight, biased[layer].weight)


def test_fine_tuning_lowers_the_loss(data, biased):
    X, y, _ = (torch.from_numpy(values) for values in data)
    flipped = 1 - y
    tuned = retrain(biased, X, flipped, data[2])
    with torch.no_grad():
        assert F.cross_entropy(tuned(X), flipped) < 0.7 * F.cross_entropy(biased(X), flipped)


def test_errors(data, biased):
    for train in (
        lambda **kwargs: pretrain(*data, seed=0, **kwargs),
        lambda **kwargs: retrain(biased, *data, **kwargs),
    ):
        with pytest.raises(ValueError, match="constraint='parity' is none of demographic_parity"):
            train(constraint="parity", intensity=0.5)
    logits, y, s = random_rows()
    with pytest.raises(ValueError, match="none of demographic_parity, equalized_odds"):
        covariance_penalty(logits, y, s, "DP")
    with pytest.raises(ValueError, match="Among the 80 rows, 0 have s = 1"):
        covariance_penalty(logits, y, torch.zeros_like(s), "demographic_parity")
    with pytest.raises(ValueError, match=r"rows of label 1, 0 have s = 1"):
        covariance_penalty(logits, y, s * (1 - y), "equalized_odds")
