"""How groups differ: gaps and covariances, and what the closed form does to data with them."""

import numpy as np
import pytest
import torch

from skfairft.lowrank.covariance import GroupCovariance
from skfairft.lowrank.factorization import parity_svd, regularized_metric
from skfairft.lowrank.gaps import CellMeans, distinct_directions
from skfairft.lowrank.moments import column_moments
from skfairft.lowrank.statistics import Part, fill
from skfairft.parity.constraints import CONSTRAINTS, parity
from skfairft.rows import mapped
from skfairft.rows.blocks import threads_over_blocks

D = 6
# Those that linear parity is about: of others no mean of scores tells.
LINEAR = [name for name in CONSTRAINTS if parity(name, 2).conditions is not None]


def make_rows(n=600, k=3, n_groups=3, offset=0.0, seed=0):
    """Correlated features that depend on group and label, and uneven sample weights."""
    rng = np.random.default_rng(seed)
    codes, y = rng.integers(n_groups, size=n), rng.integers(k, size=n)
    group_means, label_means = rng.normal(size=(n_groups, D)), rng.normal(size=(k, D))
    Z = rng.normal(size=(n, D)) @ rng.normal(size=(D, D)) + group_means[codes] + label_means[y]
    rows = Z + offset, y, codes, rng.exponential(size=n)
    return tuple(map(torch.from_numpy, rows))


def conditions_of(constraint, k):
    return torch.from_numpy(parity(constraint, k).conditions)


def directions(Z, y, codes, w, constraint, k=3, n_groups=3):
    found = fill(
        Z,
        {"cells": Part(lambda: CellMeans(k, n_groups, Z.shape[1]), (y, codes, w))},
    )
    return found["cells"].result().directions(conditions_of(constraint, k))


def covariance(Z, w, codes=None):
    """Return the covariance of all rows, whatever their groups."""
    codes = torch.arange(len(Z)) % 3 if codes is None else codes
    found = fill(
        Z,
        {"covariance": Part(lambda: GroupCovariance(3, Z.shape[1]), (codes, w))},
    )
    return found["covariance"].result().about_mean(torch.bincount(codes, w, minlength=3))


def slow_directions(Z, y, codes, w, constraint, k=3, n_groups=3):
    """The same by loops in extended precision."""
    Z, w = Z.numpy().astype(np.longdouble), w.numpy().astype(np.longdouble)
    columns, seen = [], []
    events = parity(constraint, k).events
    if k > 2 and constraint != "demographic_parity":
        events = np.eye(k)  # each label is a condition of its own
    for event in events.astype(bool).tolist():
        if event in seen:
            continue
        seen.append(event)
        inside = np.array([event[label] for label in y.tolist()])

        def mean(rows):
            return sum(w[i] * Z[i] for i in np.flatnonzero(rows)) / w[rows].sum()

        for group in range(n_groups):
            rows = inside & (codes.numpy() == group)
            if w[rows].any():
                columns.append(mean(rows) - mean(inside))
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float64))


class TestDirections:
    @pytest.mark.parametrize("constraint", LINEAR)
    @pytest.mark.parametrize("k", [2, 3])
    def test_are_the_groups_means_minus_that_of_all(self, constraint, k):
        rows = make_rows(k=k)
        found = directions(*rows, constraint, k)
        torch.testing.assert_close(found, slow_directions(*rows, constraint, k))

    @pytest.mark.parametrize("k", [2, 3])
    def test_events_that_are_equal_count_once(self, k):
        rows = make_rows(k=k)
        assert len(parity("demographic_parity", k).events) == max(1, k * (k > 2))
        assert directions(*rows, "demographic_parity", k).shape == (D, 3)
        assert directions(*rows, "equalized_odds", k).shape == (D, 3 * k)

    def test_weighted_by_their_group_they_sum_to_zero(self):
        Z, y, codes, w = make_rows()
        found = directions(Z, y, codes, w, "demographic_parity")
        assert (found @ torch.bincount(codes, w)).abs().max() < 1e-12 * float(w.sum())
        assert torch.linalg.matrix_rank(found) == 2

    def test_a_group_without_rows_in_an_event_is_left_out(self):
        Z, y, codes, w = make_rows(k=2)
        empty = (codes == 1) & (y == 1)
        w[empty] = 0.0  # as good as no rows
        found = directions(Z, y, codes, w, "equalized_odds", k=2)
        assert found.shape == (D, 5)
        assert found.isfinite().all()
        kept = [row[~empty] for row in (Z, y, codes, w)]
        torch.testing.assert_close(found, directions(*kept, "equalized_odds", k=2))
        torch.testing.assert_close(found, slow_directions(*kept, "equalized_odds", k=2))

    def test_an_event_without_rows_has_none(self):
        Z, y, codes, w = make_rows(k=2)
        found = directions(Z, torch.zeros_like(y), codes, w, "true_positive_rate_parity", k=2)
        assert found.shape == (D, 0)

    @pytest.mark.parametrize("constraint", LINEAR)
    def test_do_not_depend_on_an_offset(self, constraint):
        Z, y, codes, w = make_rows()
        Z = (Z * 2**20).round() / 2**20  # so that the sum with the offset is exact
        expected = directions(Z, y, codes, w, constraint)
        found = directions(Z + 2.0**30, y, codes, w, constraint)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14 * 2**7)
        # Control: means of the features themselves lose these digits.
        far, naive = Z + 2.0**30, []
        for condition in conditions_of(constraint, 3):
            share = condition[y] * w
            for group in range(3):
                own = share * (codes == group)
                naive.append(own @ far / own.sum() - share @ far / share.sum())
        assert (torch.stack(naive, dim=1) - expected).abs().max() > 1e-8

    def test_directions_are_told_from_rounding_by_the_scale_of_the_features(self):
        rng = np.random.default_rng(0)
        D = torch.from_numpy(rng.normal(size=(5, 2)))
        scale = torch.tensor([1e-8, 1e8, 1.0, 3.0, 0.5], dtype=torch.float64)
        columns = scale[:, None] * torch.cat([D, D @ torch.ones(2, 1).double()], dim=1)  # rank 2
        found = distinct_directions(columns, scale, 1000)
        assert found.shape == (5, 2)
        torch.testing.assert_close(found @ found.T, columns @ columns.T, rtol=1e-9, atol=0.0)
        assert distinct_directions(1e-5 * columns, scale, 1000).shape == (5, 0)


class TestCovariance:
    def test_is_numpys(self):
        Z, _, _, w = make_rows()
        expected = np.cov(Z.numpy(), rowvar=False, aweights=w.numpy(), ddof=0)
        np.testing.assert_allclose(covariance(Z, w).numpy(), expected, rtol=1e-12)

    @pytest.mark.parametrize("shares", [[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [2.0, 5.0, 3.0]])
    def test_groups_count_as_their_shares_say_about_the_mean_of_all_rows(self, shares):
        Z, _, codes, w = make_rows()
        found = GroupCovariance(3, D).update(Z, codes, w).result()
        away, expected = Z - w @ Z / w.sum(), torch.zeros(D, D).double()
        for group, share in enumerate(shares):
            own = codes == group
            expected += share / sum(shares) * (away[own].T * w[own] / w[own].sum()) @ away[own]
        shares = torch.tensor(shares, dtype=torch.float64)
        torch.testing.assert_close(found.about_mean(shares), expected, rtol=1e-12, atol=1e-12)
        # Control: neither the groups about their own means nor all rows alike.
        own_means = torch.einsum("g,gij->ij", shares / shares.sum(), found.covariances)
        assert not torch.allclose(own_means, expected, rtol=1e-2)
        assert not torch.allclose(covariance(Z, w), expected, rtol=1e-2)

    def test_a_group_without_rows_does_not_count(self):
        Z, _, codes, w = make_rows(n_groups=2)
        found = GroupCovariance(3, D).update(Z, codes, w).result()
        with_none = found.about_mean(torch.tensor([0.25, 0.25, 0.5]).double())
        assert with_none.isfinite().all()
        half = torch.tensor([0.5, 0.5]).double()
        expected = GroupCovariance(2, D).update(Z, codes, w).result().about_mean(half)
        torch.testing.assert_close(with_none, expected, rtol=1e-14, atol=1e-14)

    def test_does_not_depend_on_an_offset(self):
        Z, _, _, w = make_rows()
        Z = (Z * 2**20).round() / 2**20
        expected = covariance(Z, w)
        found = covariance(Z + 2.0**30, w)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        # Control: the textbook formula has nothing left of it.
        far, share = Z + 2.0**30, (w / w.sum())
        naive = far.T @ (far * share[:, None]) - torch.outer(share @ far, share @ far)
        assert (naive - expected).abs().max() > 1.0


class TestBoth:
    def statistics(self, Z, y, codes, w):
        return directions(Z, y, codes, w, "equalized_odds"), covariance(Z, w)

    def test_weights_are_repeats(self):
        Z, y, codes, _ = make_rows()
        w = torch.arange(len(y)).remainder(4).double()
        repeated = [row.repeat_interleave(w.long(), 0) for row in (Z, y, codes)]
        one = torch.ones(int(w.sum())).double()
        unweighted = self.statistics(Z, y, codes, torch.ones(len(y)).double())
        for found, expected, other in zip(
            self.statistics(Z, y, codes, w),
            self.statistics(*repeated, one),
            unweighted,
            strict=True,
        ):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
            assert not torch.allclose(found, other, rtol=1e-2)  # control

    @pytest.mark.parametrize("n_threads", [1, 2])
    def test_blocks_and_threads_change_nothing(self, n_threads, monkeypatch):
        rows = make_rows()
        whole = self.statistics(*rows)
        monkeypatch.setattr(mapped, "_BLOCK_ROWS", 7)
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            with threads_over_blocks():
                blocks = self.statistics(*rows)
        finally:
            torch.set_num_threads(before)
        for found, expected in zip(blocks, whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)

    def test_do_not_change_the_features(self):
        Z, y, codes, w = make_rows()
        before = Z.clone()
        self.statistics(Z, y, codes, w)
        assert torch.equal(Z, before)


class TestClosedForm:
    """The statistics and `parity_svd` together, on the scores of rows."""

    @staticmethod
    def make_weight(k=3):
        return torch.from_numpy(np.random.default_rng(1).normal(size=(D, k)))

    @staticmethod
    def gap(M, Z, y, codes, w, event):
        """Largest distance between the groups' mean scores among some true labels."""
        scores, means = Z.double() @ M, []
        for group in range(3):
            rows = (codes == group) & torch.tensor([bool(event[label]) for label in y])
            means.append(w[rows] @ scores[rows] / w[rows].sum())
        return float((torch.stack(means).amax(dim=0) - torch.stack(means).amin(dim=0)).max())

    @pytest.mark.parametrize("constraint", LINEAR)
    @pytest.mark.parametrize("rank", [1, 3])
    def test_weight_one_makes_the_groups_mean_scores_equal(self, constraint, rank):
        rows = Z, _, _, w = make_rows(k=2)
        path = parity_svd(self.make_weight(), covariance(Z, w), directions(*rows, constraint, k=2))
        for event in parity(constraint, 2).events.tolist():
            fair, before = path.at(1.0).factors(rank), path.at(0.0).factors(rank)
            assert self.gap(fair[0] @ fair[1], *rows, event) < 1e-10
            assert self.gap(before[0] @ before[1], *rows, event) > 0.1  # control

    @pytest.mark.parametrize("n_groups", [2, 3])
    def test_weight_one_is_leace(self, n_groups):
        concept_erasure = pytest.importorskip("concept_erasure")
        Z, y, codes, _ = make_rows(n_groups=n_groups, offset=3.0)
        w, W = torch.ones(len(y)).double(), self.make_weight()
        # Without what LEACE adds to its theorem for the sake of small samples.
        erase = concept_erasure.LeaceEraser.fit(
            Z,
            torch.nn.functional.one_hot(codes, n_groups).double(),
            shrinkage=False,
            constrain_cov_trace=False,
            svd_tol=1e-9,
        )
        found = directions(Z, y, codes, w, "demographic_parity", n_groups=n_groups)
        A, B = parity_svd(W, covariance(Z, w), found).at(1.0).factors(3)

        def centred(scores):
            return scores - scores.mean(dim=0)

        torch.testing.assert_close(centred(Z @ A @ B), centred(erase(Z) @ W), rtol=0, atol=1e-10)
        # Control: another metric erases as well, but not as LEACE does.
        A, B = parity_svd(W, torch.ones(D), found).at(1.0).factors(3)
        assert (centred(Z @ A @ B) - centred(erase(Z) @ W)).abs().max() > 0.1

    @pytest.mark.parametrize("rank", [1, 3])
    @pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
    def test_a_rotation_or_scaling_of_features_changes_no_score(self, weight, rank):
        Z, y, codes, w = make_rows()
        W = self.make_weight()
        rng = np.random.default_rng(2)
        T = torch.linalg.qr(torch.from_numpy(rng.normal(size=(D, D)))).Q
        T = T * 10.0 ** torch.arange(-3, 3)

        def scores(Z, W):
            rows = Z, y, codes, w
            path = parity_svd(W, covariance(Z, w), directions(*rows, "equalized_odds"))
            A, B = path.at(weight).factors(rank)
            return Z @ A @ B

        torch.testing.assert_close(
            scores(Z @ T, T.inverse() @ W), scores(Z, W), rtol=1e-8, atol=1e-8
        )

    def test_dead_and_redundant_features_do_no_harm(self):
        Z, y, codes, w = make_rows(k=2)
        W = self.make_weight()
        expected = parity_svd(
            W, covariance(Z, w), directions(Z, y, codes, w, "equalized_odds", k=2)
        )
        dead = torch.full((len(Z), 1), 7.0).double()
        more = torch.cat([Z, dead, 2 * Z[:, :1] - Z[:, 1:2]], dim=1)
        metric = regularized_metric(covariance(more, w), column_moments(more, w)[1])
        zero = torch.zeros(2, 3).double()
        path = parity_svd(
            torch.cat([W, zero]), metric, directions(more, y, codes, w, "equalized_odds", k=2)
        )
        for weight in (0.5, 1.0):
            A, B = path.at(weight).factors(2)
            a, b = expected.at(weight).factors(2)
            torch.testing.assert_close(more @ A @ B, Z @ a @ b, rtol=0, atol=1e-6)
