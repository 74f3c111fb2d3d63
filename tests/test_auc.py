"""The area under the ROC curve is scikit-learn's, its standard error that of a bootstrap."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from skfairft._auc import auc_with_error


def make_scores(n, k, *, separation=1.0, distinct=None, seed=0):
    """Labels of unequal shares, and logits that tell something of them, so many distinct rows."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, size=n, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum())
    scores = rng.normal(size=(n, k)) + separation * np.eye(k)[labels]
    if distinct is not None:
        nearest = np.linalg.norm(scores[:, None] - scores[:distinct], axis=2).argmin(axis=1)
        scores = scores[nearest]
    return labels, scores


def sklearn_auc(labels, scores):
    if scores.shape[1] == 2:
        return roc_auc_score(labels, scores[:, 1] - scores[:, 0])
    return roc_auc_score(labels, softmax(scores, axis=1), multi_class="ovr", average="macro")


@pytest.mark.parametrize("distinct", [None, 20])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_area_is_that_of_scikit_learn(k, distinct):
    labels, scores = make_scores(300, k, distinct=distinct)
    area, _ = auc_with_error(labels, scores)
    assert 0.6 < area < 0.95
    assert area == pytest.approx(sklearn_auc(labels, scores), abs=1e-12)


@pytest.mark.parametrize("k", [2, 3])
def test_what_is_added_to_a_row_has_no_effect(k):
    """Logits that differ by a number per row stand for the same probabilities."""
    labels, scores = make_scores(300, k)
    moved = scores + np.random.default_rng(1).normal(size=(300, 1))
    np.testing.assert_allclose(auc_with_error(labels, moved), auc_with_error(labels, scores))


def test_a_moved_threshold_has_no_effect():
    labels, scores = make_scores(300, 2)
    moved = scores + np.array([1.0, 0.0])
    assert auc_with_error(labels, moved) == auc_with_error(labels, scores)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("separation", [0.3, 1.5])
def test_the_error_is_that_of_a_bootstrap(k, separation):
    labels, scores = make_scores(400, k, separation=separation)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        rows = np.concatenate(
            [rng.choice(own, size=len(own)) for j in range(k) for own in [np.where(labels == j)[0]]]
        )
        drawn.append(auc_with_error(labels[rows], scores[rows])[0])
    area, error = auc_with_error(labels, scores)
    assert error == pytest.approx(np.std(drawn), rel=0.15)
    assert np.mean(drawn) == pytest.approx(area, abs=error / 4)


def test_the_error_falls_with_the_root_of_the_rows():
    errors = [auc_with_error(*make_scores(n, 2, seed=1))[1] for n in (500, 8000)]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.15)


def test_two_rows_of_a_class_are_the_textbook_s_variance():
    """DeLong's formula by hand, with each side's variance of its placements."""
    labels = np.array([0, 0, 0, 1, 1])
    score = np.array([0.1, 0.4, 0.35, 0.8, 0.3])
    wins = (score[3:, None] > score[:3]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / 2 + wins.mean(axis=0).var(ddof=1) / 3
    area, error = auc_with_error(labels, np.column_stack([np.zeros(5), score]))
    assert area == pytest.approx(wins.mean())
    assert error == pytest.approx(np.sqrt(variance))


def test_a_perfect_order_has_no_error():
    labels = np.array([0, 0, 1, 1])
    scores = np.column_stack([np.zeros(4), np.arange(4.0)])
    assert auc_with_error(labels, scores) == (1.0, 0.0)
    assert auc_with_error(labels, -scores) == (0.0, 0.0)


@pytest.mark.parametrize("k", [2, 3])
def test_without_rows_of_a_class_it_is_undefined(k):
    labels, scores = make_scores(50, k)
    assert np.isnan(auc_with_error(np.minimum(labels, k - 2), scores)).all()
    assert np.isfinite(auc_with_error(labels, scores)).all()
