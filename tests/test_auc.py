"""The area under the ROC curve is scikit-learn's, its standard error that of a bootstrap."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from skfairft.parity.auc import auc_with_error


def make_scores(n, k, *, separation=1.0, distinct=None, seed=0):
    """Labels of unequal shares, and logits that tell something of them, so many distinct rows."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, size=n, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum())
    scores = rng.normal(size=(n, k)) + separation * np.eye(k)[labels]
    if distinct is not None:
        nearest = np.linalg.norm(scores[:, None] - scores[:distinct], axis=2).argmin(axis=1)
        scores = scores[nearest]
    return labels, scores


def make_weights(n, seed=2):
    """Weights of very different size, a fifth of them zero."""
    rng = np.random.default_rng(seed)
    return rng.exponential(size=n) * (rng.uniform(size=n) > 0.2)


def sklearn_auc(labels, scores, w=None):
    if scores.shape[1] == 2:
        return roc_auc_score(labels, scores[:, 1] - scores[:, 0], sample_weight=w)
    return roc_auc_score(
        labels, softmax(scores, axis=1), multi_class="ovr", average="macro", sample_weight=w
    )


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


class TestWeights:
    @pytest.mark.parametrize("distinct", [None, 20])
    @pytest.mark.parametrize("k", [2, 3, 5])
    def test_the_area_is_that_of_scikit_learn(self, k, distinct):
        labels, scores = make_scores(300, k, distinct=distinct)
        w = make_weights(300)
        area, _ = auc_with_error(labels, scores, w)
        assert area == pytest.approx(sklearn_auc(labels, scores, w), abs=1e-12)
        assert abs(area - sklearn_auc(labels, scores)) > 1e-3

    @pytest.mark.parametrize("k", [2, 3])
    def test_of_one_are_as_none(self, k):
        labels, scores = make_scores(300, k, distinct=50)
        plain = auc_with_error(labels, scores)
        assert auc_with_error(labels, scores, np.ones(300)) == plain
        assert auc_with_error(labels, scores, np.full(300, 0.1)) == pytest.approx(plain, rel=1e-12)

    @pytest.mark.parametrize("k", [2, 3])
    def test_of_two_are_the_row_twice_but_one_observation(self, k):
        labels, scores = make_scores(300, k)
        w = np.random.default_rng(0).integers(0, 4, size=300)
        area, error = auc_with_error(labels, scores, w.astype(float))
        repeated, smaller = auc_with_error(np.repeat(labels, w), np.repeat(scores, w, axis=0))
        assert area == pytest.approx(repeated, abs=1e-12)
        assert error > 1.3 * smaller

    @pytest.mark.parametrize("k", [2, 3])
    def test_of_zero_are_no_row(self, k):
        labels, scores = make_scores(300, k)
        w = make_weights(300)
        rows = w > 0
        some = auc_with_error(labels[rows], scores[rows], w[rows])
        assert auc_with_error(labels, scores, w) == some
        assert np.isnan(auc_with_error(labels, scores, w * (labels > 0))).all()

    @pytest.mark.parametrize("distinct", [None, 20])
    @pytest.mark.parametrize("k", [2, 4])
    def test_the_error_is_of_the_influences_of_rows(self, k, distinct):
        """Of each row w_i times the derivative by w_i, of the area as a mean over all pairs."""
        labels, scores = make_scores(80, k, distinct=distinct)
        w = make_weights(80)
        logits = scores - scores.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        sides = [(1, scores[:, 1] - scores[:, 0])] if k == 2 else list(enumerate(logits.T))

        def area_of(j, score, w):
            wins = (score[:, None] > score) + 0.5 * (score[:, None] == score)
            own, other = w * (labels == j), w * (labels != j)
            return own @ wins @ other / (own.sum() * other.sum())

        influence = np.zeros(80)
        for j, score in sides:
            for i in np.flatnonzero(w):
                step = np.zeros(80)
                step[i] = 1e-3 * w[i]
                slope = area_of(j, score, w + step) - area_of(j, score, w - step)
                size = np.count_nonzero(w[(labels == j) == (labels[i] == j)])
                influence[i] += slope / 2e-3 * np.sqrt(size / (size - 1)) / len(sides)
        area, error = auc_with_error(labels, scores, w)
        assert area == pytest.approx(np.mean([area_of(j, score, w) for j, score in sides]))
        # Of the difference of two areas about 1e-15 / 1e-3 is rounding.
        assert error == pytest.approx(np.sqrt((influence**2).sum()), rel=1e-6)

    @pytest.mark.parametrize("k", [2, 3])
    def test_the_error_is_that_of_a_bootstrap_over_rows(self, k):
        labels, scores = make_scores(500, k)
        w = make_weights(500)
        rng = np.random.default_rng(0)
        drawn = []
        for _ in range(500):
            rows = rng.integers(500, size=500)
            drawn.append(auc_with_error(labels[rows], scores[rows], w[rows])[0])
        area, error = auc_with_error(labels, scores, w)
        # The spread of 500 draws is known to 3 %; the rest is what is not linear in the weights.
        assert error == pytest.approx(np.std(drawn), rel=0.12)
        assert np.mean(drawn) == pytest.approx(area, abs=error / 4)
        assert auc_with_error(labels, scores)[1] < 0.85 * error

    def test_the_interval_holds_the_area_among_all_rows_in_95_of_100_samples(self):
        """Three of four rows are drawn from one half of all, which weights put right."""
        rng = np.random.default_rng(0)
        separation = np.array([0.0, 2.0])
        truth = norm.cdf(separation / np.sqrt(2)).mean()
        samples, n = 600, 200
        held = {"weighted": 0, "no weights": 0, "rows repeated": 0}
        for _ in range(samples):
            half = (rng.uniform(size=n) < 0.25).astype(int)
            labels = rng.integers(2, size=n)
            score = separation[half] * labels + rng.normal(size=n)
            scores, w = np.column_stack([np.zeros(n), score]), np.where(half, 3, 1)
            for name, found in {
                "weighted": auc_with_error(labels, scores, w.astype(float)),
                "no weights": auc_with_error(labels, scores),
                "rows repeated": auc_with_error(np.repeat(labels, w), np.repeat(scores, w, axis=0)),
            }.items():
                held[name] += abs(found[0] - truth) < 1.959964 * found[1]
        # Of 600 samples the share is known to 0.009.
        assert held["weighted"] / samples == pytest.approx(0.95, abs=0.027)
        assert held["no weights"] / samples < 0.5
        assert held["rows repeated"] / samples < 0.88
