"""The metric by name, and the importance of heads that know one group each."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from oracles import group_fisher, loop_gradients
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfairft.head.group_heads import fisher_by_group, missing_classes
from skfairft.head.measure import measure
from skfairft.inputs.exceptions import FairnessWarning
from skfairft.lowrank import importance
from skfairft.lowrank.factorization import IMPORTANCE_FLOOR, regularized_metric
from skfairft.lowrank.importance import IMPORTANCES, Metric, heads_of, needs_covariance, weigh
from skfairft.rows.mapped import MappedFeatures
from skfairft.rows.tensor_rows import TensorRows

D, G = 4, 2
SHARES = torch.tensor([0.25, 0.75], dtype=torch.float64)


def make_rows(k=3, n=240, seed=0):
    """Groups whose labels depend on different features."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, D)) * [1.0, 10.0, 0.1, 1.0] + [0.0, 5.0, 0.0, 1.0]
    codes = np.arange(n) % G
    score = np.where(codes == 0, Z[:, 0], Z[:, 3] - 1.0) + rng.logistic(size=n)
    y = np.digitize(score, np.quantile(score, np.arange(1, k) / k))
    return tuple(map(torch.from_numpy, (Z, y, codes, rng.exponential(size=n))))


def measured(rows, name, **settings):
    Z, y, codes, w = rows
    return measure(
        TensorRows(Z, y, w, codes),
        **{"n_groups": G, "n_classes": int(y.max()) + 1, "C": 1.0, "head": None, **settings},
        heads=heads_of(name),
        covariance=needs_covariance(name),
    )


def size_of(rows):
    Z, _, _, w = rows
    return (w @ Z.square() / w.sum()).sqrt()


class TestWeigh:
    def test_names(self):
        assert set(IMPORTANCES) == {"fisher", "fisher_by_group", "uniform", "covariance"}

    @pytest.mark.parametrize("name", ["fisher", "fisher_by_group"])
    def test_fisher_is_equation_2_with_its_floor(self, name):
        Z, y, codes, w = make_rows()
        Z[:, 2] = 0.0
        Z[0, 2] = 1e-12  # of which nearly nothing is known
        rows = Z, y, codes, w
        found = measured(rows, name)
        neutral = SHARES @ found.statistics.importance
        size = size_of(rows)
        ours = weigh(name, found, SHARES)
        assert ours.metric is ours.importance
        per_size = (neutral / size).clamp_min(IMPORTANCE_FLOOR * float((neutral / size).max()))
        torch.testing.assert_close(ours.importance, per_size * size, rtol=1e-12, atol=0)
        torch.testing.assert_close(ours.importance[[0, 1, 3]], neutral[[0, 1, 3]])
        other = weigh(name, found, SHARES.flip(0)).importance
        assert not torch.allclose(other, ours.importance, rtol=1e-3)

    def test_uniform_is_ones_whatever_the_groups(self):
        found = measured(make_rows(), "uniform")
        for shares in (SHARES, SHARES.flip(0)):
            ours = weigh("uniform", found, shares)
            assert ours.importance.tolist() == ours.metric.tolist() == [1.0] * D

    def test_covariance_is_that_about_the_mean_with_a_ridge(self):
        rows = make_rows()
        found = measured(rows, "covariance")
        moment = found.covariance.about_mean(SHARES)
        ours = weigh("covariance", found, SHARES)
        assert torch.equal(ours.metric, regularized_metric(moment, found.moments.scale, 0.01))
        # What is shown is the importance, which does not weigh.
        assert torch.equal(ours.importance, weigh("fisher", found, SHARES).importance)
        assert found.statistics.squares.any()
        assert measured(rows, "fisher").covariance is None

    def test_a_fisher_importance_of_zero_weighs_nothing_and_says_so(self):
        Z, y, codes, w = make_rows()
        rows = torch.zeros_like(Z), y, codes, w
        found = measured(rows, "fisher")
        with pytest.warns(FairnessWarning, match="zero for every feature"):
            ours = weigh("fisher", found, SHARES)
        assert ours.importance.tolist() == ours.metric.tolist() == [1.0] * D
        with warnings.catch_warnings():  # where it is not what weighs, it says nothing
            warnings.simplefilter("error")
            assert weigh("uniform", found, SHARES).importance.tolist() == [1.0] * D
            whole = weigh("covariance", measured(rows, "covariance"), SHARES)
        assert whole.importance.tolist() == [1.0] * D
        assert torch.linalg.cholesky_ex(whole.metric).info == 0

    def test_one_more_is_one_entry(self, monkeypatch):
        def scale(measured, shares):
            return Metric(measured.moments.scale, measured.moments.scale)

        row = dataclasses.replace(importance._TABLE["uniform"], weigh=scale)
        monkeypatch.setitem(importance._TABLE, "scale", row)
        found = measured(make_rows(), "scale")
        assert weigh("scale", found, SHARES).metric is found.moments.scale


class TestByGroup:
    @pytest.mark.parametrize("C", [0.1, 10.0])
    @pytest.mark.parametrize("k", [2, 3])
    def test_is_that_of_logistic_regressions_of_each_group_alone(self, k, C):
        rows = Z, y, codes, w = make_rows(k)
        ours = measured(rows, "fisher_by_group", C=C).statistics
        for group in range(G):
            own = (codes == group).numpy()
            X = Z.numpy()[own]
            scaler = StandardScaler().fit(X, sample_weight=w.numpy()[own])
            model = LogisticRegression(C=C, tol=1e-10, max_iter=10_000)
            model.fit(scaler.transform(X), y.numpy()[own], sample_weight=w.numpy()[own])
            coef = torch.from_numpy(model.coef_ / scaler.scale_).T
            bias = torch.from_numpy(model.intercept_ - scaler.mean_ @ coef.numpy())
            if k == 2:  # of two columns with the same margin
                coef = coef * torch.tensor([-0.5, 0.5])
                bias = bias * torch.tensor([-0.5, 0.5])
            gradients = loop_gradients(coef, bias, Z[own], y[own])
            alone = torch.zeros(len(gradients), dtype=torch.int64)
            expected = group_fisher(gradients, alone, 1, w[own])[0]
            torch.testing.assert_close(ours.fisher[group], expected, rtol=1e-6, atol=0)
            assert ours.weights[group].item() == pytest.approx(float(w[own].sum()))
            assert ours.counts[group] == own.sum()
        # Control: under one head for both groups it is another.
        pooled = measured(rows, "fisher", C=C).statistics.importance
        assert ((pooled - ours.importance).abs() > 1e-2 * pooled).any(dim=1).all()

    def test_a_group_s_importance_does_not_depend_on_the_others(self):
        Z, y, codes, w = make_rows()
        before = measured((Z, y, codes, w), "fisher_by_group").statistics.fisher
        moved = torch.where((codes == 1)[:, None], 3.0 * Z + 1.0, Z)
        after = measured((moved, y, codes, w), "fisher_by_group").statistics.fisher
        assert torch.equal(before[0], after[0])
        assert not torch.allclose(before[1], after[1], rtol=1e-2)
        # Control: under one head it does.
        one, other = (
            measured((features, y, codes, w), "fisher").statistics.fisher[0]
            for features in (Z, moved)
        )
        assert not torch.allclose(one, other, rtol=1e-2)

    def test_the_head_that_is_factorized_is_the_same(self):
        rows = make_rows()
        one, other = measured(rows, "fisher").start, measured(rows, "fisher_by_group").start
        assert one is other

    def test_groups_that_are_copies_have_the_importance_of_all(self):
        Z, y, _, w = make_rows()
        twice = [torch.cat([each, each]) for each in (Z, y, w)]
        codes = torch.arange(2).repeat_interleave(len(y))
        # A penalty of half the strength: of a group's head it is set against half the rows.
        settings = {"n_groups": 2, "n_classes": 3}
        ours = fisher_by_group(TensorRows(twice[0], twice[1], twice[2], codes), C=2.0, **settings)
        pooled = measured((twice[0], twice[1], codes, twice[2]), "fisher", C=1.0).statistics
        torch.testing.assert_close(ours.fisher, pooled.fisher, rtol=1e-6, atol=0)

    def test_mapped_features_are_read_where_they_lie(self, tmp_path):
        Z, y, codes, w = make_rows()
        array = np.memmap(tmp_path / "Z", dtype=np.float64, mode="w+", shape=tuple(Z.shape))
        array[:] = Z.numpy()
        settings = {"n_groups": G, "n_classes": 3, "C": 1.0}
        found = fisher_by_group(TensorRows(MappedFeatures(array), y, w, codes), **settings)
        assert torch.equal(
            found.fisher, fisher_by_group(TensorRows(Z, y, w, codes), **settings).fisher
        )

    def test_a_group_without_a_class_is_refused_with_its_number(self):
        Z, y, codes, w = make_rows()
        w[(codes == 1) & (y == 2)] = 0.0  # as good as no rows
        said = r"group 1 has none of class 2.*heads='pooled'"
        with pytest.raises(ValueError, match=said):
            measured((Z, y, codes, w), "fisher_by_group")
        assert missing_classes(TensorRows(Z, y, w, codes), n_classes=3, n_groups=G) == [(1, 2)]
        measured((Z, y, codes, w), "fisher")
        y[codes == 0] = 1
        found = missing_classes(TensorRows(Z, y, w, codes), n_classes=3, n_groups=3)
        assert found == [(0, 0), (0, 2), (1, 2), (2, 0), (2, 1), (2, 2)]

    @pytest.mark.parametrize("head", [nn.Linear(D, 3), nn.Sequential(nn.Linear(D, 5), nn.ReLU())])
    def test_a_pretrained_head_is_refused(self, head):
        with pytest.raises(ValueError, match=f"{type(head).__name__}.*expected head=None"):
            measured(make_rows(), "fisher_by_group", head=head)

    def test_an_earlier_linear_head_may_be_the_start(self):
        rows = make_rows()
        first = measured(rows, "fisher").start
        start = dataclasses.replace(first, weight=2.0 * first.weight)
        found = measured(rows, "fisher_by_group", start=start)
        assert found.start is start
        fresh = measured(rows, "fisher_by_group")
        assert found.statistics is fresh.statistics

    def test_another_name_of_heads_is_refused(self):
        Z, y, codes, w = make_rows()
        with pytest.raises(ValueError, match="'each'; expected 'pooled' or 'by_group'"):
            measure(
                TensorRows(Z, y, w, codes), n_groups=G, n_classes=3, C=1.0, head=None, heads="each"
            )
