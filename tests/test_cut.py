"""A layer cut in two: against the singular value decomposition, rows, and other units.

What a cut is worth is measured here on the rows, output by output, and not by its own moments.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import weighted_error
from torch import nn

from skfairft.lowrank.cut import CUTS, borrowing, cut_layer, needs_gradients
from skfairft.lowrank.factorization import floor_importance, weighted_svd
from skfairft.lowrank.maps import LayerMap
from skfairft.lowrank.network import LayerStatistics

N, D, K, G = 240, 8, 6, 2
RIDGE = 0.01
SHARES = torch.tensor([0.4, 0.6], dtype=torch.float64)
WEIGHTS = pytest.mark.parametrize("shares", [SHARES, None], ids=["shares", "minimax"])
EACH = pytest.mark.parametrize("importance", CUTS)


def make(d=D, k=K, *, bias=True, dtype=torch.float64):
    """A layer, and what goes through it: of two groups that use other directions, one rarer."""
    rng = np.random.default_rng(0)
    codes = (np.arange(N) % 5 == 0).astype(int)
    mixing = rng.normal(size=(G, d, d)) * rng.uniform(0.1, 2.0, size=(G, 1, d))
    Z = np.einsum("nd,ndj->nj", rng.normal(size=(N, d)), mixing[codes])
    Z = Z + rng.normal(size=(G, d))[codes] + 3.0
    layer = nn.Linear(d, k, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=tuple(parameter.shape))))
    h = rng.normal(size=(N, k)) * rng.exponential(size=(G, k))[codes]
    Z, h = (torch.from_numpy(each).to(dtype) for each in (Z, h))
    return SimpleNamespace(layer=layer.to(dtype), Z=Z, codes=torch.from_numpy(codes), h=h)


def statistics(rows, gradients=True):
    return fill(
        LayerStatistics(LayerMap(rows.layer), G, gradients=gradients, fisher=gradients), rows
    )


@torch.no_grad()
def fill(seen, rows, part=slice(None)):
    Z, codes, h = rows.Z[part], rows.codes[part], rows.h[part]
    seen.update(Z, rows.layer(Z), codes)
    return seen.update_gradients(Z, h, codes)


def cut(rows, rank=2, importance="covariance", shares=SHARES):
    seen = statistics(rows, needs_gradients(importance))
    return cut_layer(seen, rank, importance=importance, shares=shares)


def by_group(rows, values):
    return torch.stack([values[rows.codes == g].double().mean(0) for g in range(G)])


def even(shares):
    return torch.full((G,), 1.0 / G).double() if shares is None else shares


def output_moments(rows, shares):
    return torch.einsum(
        "g,gij->ij", even(shares), by_group(rows, rows.h[:, :, None] * rows.h[:, None])
    )


def covariance(rows, shares):
    """Of the rows, with the groups weighted and the ridge."""
    moment = about(rows, shares, counted(rows, shares) @ rows.Z)
    return moment + RIDGE * moment.diagonal().diag()


def counted(rows, shares):
    return (shares / torch.bincount(rows.codes))[rows.codes]


def about(rows, shares, centre):
    away = rows.Z - centre
    return away.T @ (counted(rows, shares)[:, None] * away)


def spread(rows, shares):
    """The standard deviation of each input, with the groups weighted."""
    return about(rows, shares, counted(rows, shares) @ rows.Z).diagonal().sqrt()


def weight_of(layer):
    """As (d, k)."""
    return layer.weight.detach().double().T


def same(found, expected, ratio=1e-7):
    """Tell whether outputs are the same, up to rounding beside the largest."""
    found, expected = found.detach(), expected.detach()
    return bool((found - expected).abs().max() <= ratio * expected.abs().max())


class TestAgainstOthers:
    @pytest.mark.parametrize("rank", [1, 3, 5])
    @WEIGHTS
    def test_uniform_is_numpys_truncated_svd(self, rank, shares):
        rows = make()
        U, S, Vt = np.linalg.svd(rows.layer.weight.detach().numpy())
        found = cut(rows, rank, "uniform", shares)
        np.testing.assert_allclose(
            found.layer.weight.detach(), U[:, :rank] * S[:rank] @ Vt[:rank], atol=1e-12
        )
        np.testing.assert_allclose(found.singular_values, S, atol=1e-12)
        np.testing.assert_allclose(found.losses, (S[rank:] ** 2).sum(), atol=1e-12)

    @pytest.mark.parametrize("rank", [1, 3, 5])
    def test_fisher_is_the_papers(self, rank):
        """The weighted SVD in the metric of the neutralized importance: Eqs. 2 to 4."""
        rows = make()
        squares = (rows.Z**2)[:, :, None] * (rows.h**2)[:, None, :]
        importance = SHARES @ by_group(rows, squares.sum(2)).sqrt()
        A, B = weighted_svd(weight_of(rows.layer), importance).factors(rank)
        found = cut(rows, rank, "fisher")
        np.testing.assert_allclose(weight_of(found.layer), A @ B, atol=1e-10)
        error = weighted_error(weight_of(rows.layer), importance, A, B) ** 2
        np.testing.assert_allclose(found.losses, error, rtol=1e-9)

    def test_fisher_has_its_floor(self):
        """A feature without importance does not make the cut divide by zero."""
        rows = make()
        rows.Z[:, 0] *= 1e-12
        importance = SHARES @ by_group(rows, rows.Z**2 * (rows.h**2).sum(1, True)).sqrt()
        assert importance[0] < 1e-9 * importance.max()
        metric = floor_importance(importance, about(rows, SHARES, 0.0).diagonal().sqrt())
        A, B = weighted_svd(weight_of(rows.layer), metric).factors(2)
        np.testing.assert_allclose(weight_of(cut(rows, 2, "fisher").layer), A @ B, atol=1e-8)

    @pytest.mark.parametrize("constant", [0.3, 1e3 / 3.0])
    def test_a_constant_input_raises_no_floor(self, constant):
        rows = make()
        rows.Z[:, 0] = constant
        importance = SHARES @ by_group(rows, rows.Z**2 * (rows.h**2).sum(1, True)).sqrt()
        assert importance.min() > 1e-4 * importance.max()  # so that none is at its floor
        A, B = weighted_svd(weight_of(rows.layer), importance).factors(2)
        np.testing.assert_allclose(weight_of(cut(rows, 2, "fisher").layer), A @ B, atol=1e-8)

    def test_fisher_without_gradients_is_not_weighted(self):
        """A loss that nothing in the layer changes tells of no direction."""
        rows = make()
        rows.h = torch.zeros_like(rows.h)
        plain = cut(rows, 2, "uniform").layer.weight
        torch.testing.assert_close(cut(rows, 2, "fisher").layer.weight, plain)

    @pytest.mark.parametrize("rank", [1, 3, 5])
    def test_covariance_changes_the_outputs_least(self, rank):
        """Beside the oracle's factors and such that are near, of rows weighted as the groups."""
        rows = make()
        metric, W, found = covariance(rows, SHARES), weight_of(rows.layer), cut(rows, rank).layer
        A, B = weighted_svd(W, metric).factors(rank)
        np.testing.assert_allclose(weight_of(found), A @ B, atol=1e-9)

        def changed(A, B):
            return float(((W - A @ B) * (metric @ (W - A @ B))).sum())

        down, up = (each.weight.detach().T for each in (found.down, found.up))
        best, rng = changed(down, up), np.random.default_rng(0)
        for size in 10.0 ** rng.uniform(-4, 0, size=50):
            steps = (size * torch.from_numpy(rng.normal(size=each.shape)) for each in (down, up))
            assert changed(*map(torch.add, (down, up), steps)) > best

    @pytest.mark.parametrize("rank", [1, 3, 5])
    def test_kfac_is_the_svd_between_two_roots(self, rank):
        rows = make()
        left = torch.linalg.cholesky(covariance(rows, SHARES)).T
        right = torch.linalg.cholesky(output_moments(rows, SHARES))
        U, S, Vt = torch.linalg.svd(left @ weight_of(rows.layer) @ right)
        expected = torch.linalg.inv(left) @ (U[:, :rank] * S[:rank] @ Vt[:rank])
        found = cut(rows, rank, "kfac")
        np.testing.assert_allclose(
            weight_of(found.layer), expected @ torch.linalg.inv(right), atol=1e-8
        )
        np.testing.assert_allclose(found.singular_values, S, rtol=1e-8)

    @WEIGHTS
    def test_kfac_of_gradients_that_are_alike_is_covariance(self, shares):
        rows = make()
        Q = torch.linalg.qr(rows.h[:K]).Q  # as moments, whatever these are, one
        for group, n in enumerate(torch.bincount(rows.codes)):
            rows.h[rows.codes == group] = 1e-3 * Q.repeat(int(n) // K, 1)
        plain, found = cut(rows, shares=shares), cut(rows, 2, "kfac", shares)
        assert same(found.layer(rows.Z), plain.layer(rows.Z))
        # Control: it is not, once the loss asks more of some outputs than of others.
        rows.h *= torch.arange(1, K + 1)
        assert not same(cut(rows, 2, "kfac", shares).layer(rows.Z), plain.layer(rows.Z), 1e-2)

    @pytest.mark.parametrize("shape", [(D, K), (3, 6)])
    @pytest.mark.parametrize("importance", ["covariance", "kfac"])
    @WEIGHTS
    def test_losses_are_the_mean_changes_of_the_rows(self, shares, importance, shape):
        """Of each group, bias and all; of "kfac" as much as the loss asks of each output."""
        rows = make(*shape)
        found = cut(rows, 2, importance, shares)
        H = output_moments(rows, shares) if importance == "kfac" else torch.eye(shape[1]).double()
        change = (found.layer(rows.Z) - rows.layer(rows.Z)).detach()
        difference = weight_of(found.layer) - weight_of(rows.layer)
        apart = spread(rows, even(shares))[:, None] * difference
        ridge = RIDGE * float((apart @ H * apart).sum())
        expected = by_group(rows, (change @ H * change).sum(1)) + ridge
        torch.testing.assert_close(found.losses, expected)
        assert float(found.losses.min()) > 2.0 * ridge  # control: not the ridge alone

    def test_losses_of_fisher_are_those_of_each_group(self):
        rows = make()
        found = cut(rows, 2, "fisher", None)
        squares = (rows.Z**2)[:, :, None] * (rows.h**2)[:, None, :]
        apart = (weight_of(found.layer) - weight_of(rows.layer)).square().sum(1)
        torch.testing.assert_close(found.losses, by_group(rows, squares.sum(2)) @ apart)


class TestMinimax:
    def test_no_weights_of_the_groups_have_a_smaller_largest_loss(self):
        rows = make()
        rows.Z -= by_group(rows, rows.Z)[rows.codes]  # so that the bias is the same for all weights
        least = cut(rows, shares=None).losses
        others = [
            float(cut(rows, shares=torch.tensor([1.0 - s, s]).double()).losses.max())
            for s in torch.linspace(0.0, 1.0, 21).tolist()
        ]
        assert float(least.max()) <= min(others) + 1e-9
        assert float(least.max()) < 0.95 * float(cut(rows, shares=even(None)).losses.max())

    @EACH
    def test_groups_lose_the_same_unless_one_has_all_the_weight(self, importance):
        found = cut(make(), 2, importance, None)
        assert abs(float(found.losses.diff())) < 1e-9 * float(found.losses.max()) or (
            found.shares.max() == 1.0
        )

    @pytest.mark.parametrize("importance", ["covariance", "kfac"])
    def test_of_three_groups(self, importance):
        rows = make()
        rows.codes[:60] = 2
        seen = fill(LayerStatistics(LayerMap(rows.layer), 3, gradients=True), rows)
        least, equal = (
            cut_layer(seen, 2, importance=importance, shares=shares).losses
            for shares in (None, torch.full((3,), 1 / 3).double())
        )
        assert float(least.max()) < float(equal.max())


class TestBorrowing:
    COUNTS = torch.tensor([192, 48])

    @pytest.mark.parametrize("n", [0.0, 1.0, 100.0, 1e9])
    def test_is_the_mean_of_the_own_rows_and_so_many_of_all(self, n):
        values = torch.tensor([2.0, -7.0]).double()
        pooled = float(self.COUNTS.double() @ values) / N
        expected = [
            (m * float(value) + n * pooled) / (m + n)
            for m, value in zip(self.COUNTS.tolist(), values, strict=True)
        ]
        torch.testing.assert_close(
            borrowing(self.COUNTS, n) @ values, torch.tensor(expected).double()
        )

    @EACH
    def test_of_given_weights_it_is_a_cut_of_others(self, importance):
        rows, mixing = make(), borrowing(self.COUNTS, 100.0)
        seen = statistics(rows)
        found = cut_layer(seen, 2, importance=importance, shares=SHARES, mixing=mixing)
        expected = cut(rows, 2, importance, SHARES @ mixing)
        assert same(found.layer(rows.Z), expected.layer(rows.Z))

    @EACH
    def test_what_counts_is_the_largest_loss_with_what_is_borrowed(self, importance):
        rows, mixing = make(), borrowing(self.COUNTS, 100.0)
        found = cut_layer(statistics(rows), 2, importance=importance, shares=None, mixing=mixing)
        largest = float(found.losses.max())
        assert abs(float(found.losses.diff())) < 1e-9 * largest or found.shares.max() == 1.0
        if importance == "covariance":
            change = (found.layer(rows.Z) - rows.layer(rows.Z)).square().sum(1).detach()
            difference = weight_of(found.layer) - weight_of(rows.layer)
            apart = spread(rows, even(None) @ mixing)[:, None] * difference
            ridge = RIDGE * float(apart.square().sum())
            torch.testing.assert_close(found.losses, mixing @ by_group(rows, change) + ridge)


@EACH
@WEIGHTS
class TestAnyCut:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("shape", [(8, 6), (3, 7), (5, 5), (4, 1), (1, 4)])
    @pytest.mark.some(3)
    def test_at_full_rank_it_is_the_layer(self, importance, shares, shape, bias):
        rows = make(*shape, bias=bias)
        found = cut(rows, 99, importance, shares)
        assert found.layer.rank == min(shape)
        torch.testing.assert_close(found.layer(rows.Z), rows.layer(rows.Z), rtol=0, atol=1e-8)
        torch.testing.assert_close(found.layer.weight, rows.layer.weight, rtol=0, atol=1e-8)
        if bias:
            torch.testing.assert_close(found.layer.bias, rows.layer.bias, rtol=0, atol=1e-8)

    @pytest.mark.parametrize("bias", [True, False])
    def test_the_mean_output_stays(self, importance, shares, bias):
        """Weighted as the groups are; there is a bias from then on."""
        rows = make(bias=bias)
        found = cut(rows, 1, importance, shares).layer
        before, after = (
            even(shares) @ by_group(rows, each(rows.Z)) for each in (rows.layer, found)
        )
        torch.testing.assert_close(after, before, rtol=0, atol=1e-10)
        assert (found(rows.Z) - rows.layer(rows.Z)).abs().max() > 0.1  # control

    def test_inputs_in_other_units_are_the_same_function(self, importance, shares):
        for k in (K, 2 * D):  # by the outputs, and by the inputs
            rows, other = make(k=k), make(k=k)
            unit = 10.0 ** torch.linspace(-4, 4, D).double()
            other.Z = rows.Z * unit
            with torch.no_grad():
                other.layer.weight.div_(unit)
            found = (cut(each, 2, importance, shares).layer(each.Z) for each in (rows, other))
            assert same(*found) == (importance != "uniform")

    def test_outputs_in_other_units_are_the_same_function(self, importance, shares):
        """Of kfac only, which knows what an output is worth to the loss."""
        rows, other = make(), make()
        unit = torch.linspace(0.2, 5.0, K).double()
        with torch.no_grad():
            other.layer.weight.mul_(unit[:, None])
            other.layer.bias.mul_(unit)
        other.h = rows.h / unit
        before = cut(rows, 2, importance, shares).layer(rows.Z)
        after = cut(other, 2, importance, shares).layer(other.Z) / unit
        assert same(after, before) == (importance == "kfac")

    @pytest.mark.parametrize("constant", [0.0, 0.3, 1e3 / 3.0])
    def test_units_do_not_matter_either_where_an_input_is_constant(
        self, importance, shares, constant
    ):
        """Such as that of a dead unit: to the spread of the others its own is nothing."""
        rows, other = make(), make()
        rows.Z[:, 0] = constant
        other.Z = 1e-3 * rows.Z
        with torch.no_grad():
            other.layer.weight.mul_(1e3)
        before, after = (cut(each, 2, importance, shares).layer(each.Z) for each in (rows, other))
        assert same(after, before)

    def test_float32_is_float64_to_its_digits(self, importance, shares):
        single, double = make(dtype=torch.float32), make()
        small, large = (cut(each, 3, importance, shares).layer for each in (single, double))
        assert {each.dtype for each in small.parameters()} == {torch.float32}
        torch.testing.assert_close(small(single.Z).double(), large(double.Z), rtol=0, atol=2e-4)

    @pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
    def test_a_share_of_energy_is_the_least_rank_that_keeps_it(self, importance, shares, share):
        rows = make()
        found = cut(rows, share, importance, shares)
        energy = found.singular_values.square()
        kept = energy[: found.layer.rank].sum() / energy.sum()
        fewer = energy[: found.layer.rank - 1].sum() / energy.sum()
        assert fewer < share <= kept + 1e-9
        if shares is not None:
            lost = shares @ found.losses
            torch.testing.assert_close(1.0 - kept, lost / energy.sum(), rtol=0, atol=1e-9)

    def test_rows_that_come_in_parts_are_the_same(self, importance, shares):
        rows = make()
        order, whole = torch.randperm(N), cut(rows, 2, importance, shares).layer
        graded = needs_gradients(importance)
        parts = LayerStatistics(LayerMap(rows.layer), G, gradients=graded, fisher=graded)
        for part in order.split(37):
            fill(parts, rows, part)
        found = cut_layer(parts, 2, importance=importance, shares=shares).layer
        assert same(found(rows.Z), whole(rows.Z))

    def test_a_group_counts_the_same_however_few_its_rows(self, importance, shares):
        """Its rows once more, or ten times, change nothing; the groups' own shares would."""
        rows, more = make(), make()
        again = torch.cat([torch.arange(N), torch.where(rows.codes == 1)[0].repeat(9)])
        more.Z, more.codes, more.h = rows.Z[again], rows.codes[again], rows.h[again]
        before, after = (cut(each, 2, importance, shares).layer(rows.Z) for each in (rows, more))
        assert same(after, before)

    def test_groups_under_other_numbers_are_the_same(self, importance, shares):
        rows, other = make(), make()
        other.codes = 1 - rows.codes
        weights = None if shares is None else shares.flip(0)
        found, renamed = cut(rows, 2, importance, shares), cut(other, 2, importance, weights)
        assert same(renamed.layer(rows.Z), found.layer(rows.Z))
        torch.testing.assert_close(renamed.losses.flip(0), found.losses)

    def test_the_layer_is_left_as_it_was(self, importance, shares):
        rows = make()
        before = [each.clone() for each in rows.layer.parameters()]
        found = cut(rows, 2, importance, shares).layer
        with torch.no_grad():
            for parameter in found.parameters():
                parameter.zero_()
        assert all(map(torch.equal, rows.layer.parameters(), before))
