"""Statistics of layers, against rows one by one: groups, batches, gradients, all that is merged."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from skfairft.lowrank import network
from skfairft.lowrank.maps import as_map
from skfairft.lowrank.network import GradientMoments, LayerPairs, LayerStatistics
from skfairft.lowrank.variance import GroupVariance

N, G = 23, 3  # no row is of the last group
LAYERS = {
    "linear, narrower before": (lambda: nn.Linear(3, 5), (3,)),
    "linear, narrower after": (lambda: nn.Linear(5, 3), (5,)),
    "tokens, narrower before": (lambda: nn.Linear(3, 5), (4, 3)),
    "tokens, narrower after": (lambda: nn.Linear(5, 3), (4, 5)),
    "tokens, few": (lambda: nn.Linear(4, 6), (2, 4)),
    "two axes of tokens": (lambda: nn.Linear(3, 2), (2, 3, 3)),
    "conv1": (lambda: nn.Conv1d(2, 3, 3, padding=1), (2, 7)),
    "conv1, few positions": (lambda: nn.Conv1d(2, 9, 3, stride=2), (2, 7)),
    "conv2": (lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=1), (2, 5, 4)),
    "conv2, channels": (lambda: nn.Conv2d(4, 2, 3, dilation=2, padding=2), (4, 5, 4)),
    "conv2, one position": (lambda: nn.Conv2d(2, 5, 1, stride=2), (2, 5, 4)),
    "conv2, reflected": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 4)),
    "conv3": (lambda: nn.Conv3d(2, 3, 2, padding=1), (2, 3, 2, 3)),
}
EACH = pytest.mark.parametrize("name", LAYERS)


BLOCKS = pytest.mark.parametrize("block", [1, 2**22])


def make(name):
    """A layer with rows of groups, and a loss of each row that is no sum of its outputs."""
    torch.manual_seed(0)
    layer, shape = LAYERS[name][0]().double(), LAYERS[name][1]
    codes = (torch.arange(N) % 4 == 0).long()
    Z = torch.randn(N, *shape).double() * (1.0 + 2.0 * codes.reshape(-1, *[1] * len(shape))) + 5.0
    with torch.no_grad():
        out = layer(Z)
    way = torch.randn(out[0].numel()).double()

    def loss(out):
        return torch.tanh(out.flatten() @ way / way.norm()) + out.square().mean()

    h = vmap(grad(loss))(out)
    return SimpleNamespace(
        layer=layer, seen=as_map(layer), Z=Z, out=out, codes=codes, h=h, loss=loss
    )


def fill(rows, part=slice(None), into=None, fisher=True):
    into = into or LayerStatistics(rows.seen, G, gradients=True, fisher=fisher)
    Z, codes = rows.Z[part], rows.codes[part]
    into.update(Z, rows.out[part], codes)
    return into.update_gradients(Z if fisher else None, rows.h[part], codes)


def results(found):
    return {
        "inputs": found.inputs.result().variances,
        "means of inputs": found.inputs.result().means.means,
        "covariances": found.moments.result().covariances,
        "means": found.moments.result().means.means,
        "gradients": found.gradients.result(),
        "fisher": found.fisher.result().fisher,
    }


def same(found, expected):
    for name, values in results(found).items():
        torch.testing.assert_close(
            values, results(expected)[name], rtol=1e-9, atol=1e-9, equal_nan=True, msg=name
        )


def by_group(codes, each, empty=0.0):
    """Return the mean of each group, row by row."""
    sums, counts = [torch.zeros_like(each[0]) for _ in range(G)], [0] * G
    for code, values in zip(codes.tolist(), each, strict=True):
        sums[code], counts[code] = sums[code] + values, counts[code] + 1
    return torch.stack(
        [s / n if n else torch.full_like(s, empty) for s, n in zip(sums, counts, strict=True)]
    )


@EACH
class TestOfRows:
    @BLOCKS
    def test_moments_are_those_of_all_positions(self, name, block, monkeypatch):
        monkeypatch.setattr(network, "_BLOCK_ELEMENTS", block)
        rows = make(name)
        found = results(fill(rows))
        for rows_of, mean, second in (
            (rows.seen.seen(rows.Z, rows.out), "means", "covariances"),
            (rows.seen.features(rows.Z), "means of inputs", "inputs"),
        ):
            for group in (0, 1):
                own = rows_of[rows.codes == group].flatten(0, 1)
                torch.testing.assert_close(found[mean][group], own.mean(0))
                away = own - own.mean(0)
                moment = away.T @ away / len(own)
                moment = moment if second == "covariances" else moment.diagonal()
                torch.testing.assert_close(found[second][group], moment)
            assert bool(found[mean][2].isnan().all())
            assert not found[second][2].any()

    def test_gradients_are_summed_over_positions_and_a_mean_over_rows(self, name):
        """Of outputs; of inputs where these are narrower: what comes to them is h W^T."""
        rows = make(name)
        each = []
        for h in rows.seen.positions(rows.h):
            total = torch.zeros(h.shape[1], h.shape[1]).double()
            for at in h:
                total += torch.outer(at, at)
            each.append(total)
        expected = by_group(rows.codes, torch.stack(each))
        if rows.seen.side == "inputs":
            expected = rows.seen.weight @ expected @ rows.seen.weight.T
        torch.testing.assert_close(results(fill(rows))["gradients"], expected)

    @BLOCKS
    def test_fisher_information_is_that_of_each_rows_gradient(self, name, block, monkeypatch):
        """By torch.func, whichever way is shorter, and however the rows are put in blocks."""
        monkeypatch.setattr(network, "_BLOCK_ELEMENTS", block)
        rows = make(name)

        def loss(weight, z):
            return rows.loss(functional_call(rows.layer, {"weight": weight}, z[None])[0])

        slopes = vmap(grad(loss), (None, 0))(rows.layer.weight.detach(), rows.Z)
        expected = by_group(
            rows.codes,
            slopes.flatten(2).square().sum(1),
            torch.nan,
        )
        torch.testing.assert_close(
            results(fill(rows))["fisher"], expected, rtol=1e-8, atol=1e-12, equal_nan=True
        )

    @pytest.mark.parametrize("size", [1, 7])
    @pytest.mark.some(2)
    def test_batches_and_merges_are_all_at_once(self, name, size):
        rows = make(name)
        whole, batches = fill(rows), LayerStatistics(rows.seen, G, gradients=True, fisher=True)
        merged = LayerStatistics(rows.seen, G, gradients=True, fisher=True)
        for part in torch.randperm(N).split(size):
            fill(rows, part, batches)
            assert merged.merge(fill(rows, part)) is merged
        same(batches, whole)
        same(merged, whole)

    def test_results_are_not_changed_by_later_rows(self, name):
        rows = make(name)
        found = fill(rows)
        before = {name: (values, values.clone()) for name, values in results(found).items()}
        fill(rows, slice(3), found)
        for kept, values in before.values():
            torch.testing.assert_close(kept, values, rtol=0, atol=0, equal_nan=True)

    @BLOCKS
    def test_pairs_are_the_covariance_of_both_side_by_side(self, name, block, monkeypatch):
        monkeypatch.setattr(network, "_BLOCK_ELEMENTS", block)
        rows = make(name)
        u = rows.seen.seen(rows.Z, rows.out)
        v = torch.tanh(u) + torch.randn_like(u)
        found = LayerPairs(rows.seen, G).update(u, v, rows.codes).result()
        for group in (0, 1):
            both = torch.cat([u, v], 2)[rows.codes == group].flatten(0, 1)
            torch.testing.assert_close(found.covariances[group], both.T.cov(correction=0))
        parts = LayerPairs(rows.seen, G)
        for part in torch.arange(N).split(5):
            parts.merge(LayerPairs(rows.seen, G).update(u[part], v[part], rows.codes[part]))
        torch.testing.assert_close(parts.result().covariances, found.covariances)


NARROWER_BEFORE = [name for name in LAYERS if "narrower before" in name]


@pytest.mark.parametrize("name", NARROWER_BEFORE)
def test_gradients_of_inputs_are_autograds(name):
    rows = make(name)
    Z = rows.Z.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(sum(rows.loss(out) for out in rows.layer(Z)), Z)
    slopes = rows.seen.features(slopes)
    expected = by_group(rows.codes, slopes.mT @ slopes)
    torch.testing.assert_close(results(fill(rows))["gradients"], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in LAYERS if name not in NARROWER_BEFORE])
def test_what_comes_in_less_precision_is_summed_in_double(name, dtype):
    """But for gradients of inputs, which are multiplied by weights first."""
    low, rows = make(name), make(name)
    for key in ("Z", "out", "h"):
        less = getattr(rows, key).to(dtype)
        setattr(low, key, less)
        setattr(rows, key, less.double())
    if rows.seen.side == "inputs":
        low.h = low.h.double()
    same(fill(low), fill(rows))


class TestVariance:
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_is_that_of_weighted_rows_whatever_the_offset(self, offset):
        torch.manual_seed(0)
        Z, w = torch.randn(N, 4).double(), torch.rand(N).double()
        codes = torch.arange(N) % 2
        w[3] = 0.0
        shares = torch.tensor([0.2, 0.8]).double()
        found = GroupVariance(2, 4).update(Z + offset, codes, w).result()
        means, variances = [], []
        for group in (0, 1):
            own, each = Z[codes == group], w[codes == group] / w[codes == group].sum()
            means.append(each @ own)
            variances.append(each @ (own - means[-1]).square())
        # The offset's own rounding, beside a spread of 1.
        tight = {"rtol": 0.0, "atol": 1e-12 + offset * 1e-15}
        torch.testing.assert_close(found.variances, torch.stack(variances), **tight)
        centre = shares @ torch.stack(means)
        pooled = sum(
            s * (v + (m - centre).square())
            for s, v, m in zip(shares, variances, means, strict=True)
        )
        torch.testing.assert_close(found.variance(shares), pooled, **tight)

    def test_of_no_rows_and_of_one_is_zero(self):
        empty = GroupVariance(2, 3)
        assert empty.update(torch.ones(0, 3), torch.zeros(0).long()) is empty
        assert not empty.result().variances.any()
        one = empty.update(torch.ones(1, 3), torch.tensor([1])).result()
        assert not one.variances.any()
        assert one.means.weights.tolist() == [0.0, 1.0]


def test_moments_of_gradients_of_a_group_without_rows_are_zero():
    found = GradientMoments(2, 2).update(torch.ones(3, 1, 2), torch.zeros(3).long()).result()
    assert found[0].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert not found[1].any()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_gradients_of_any_size_are_held(size):
    rows = make("tokens, narrower after")
    rows.h = rows.h * size
    expected = results(fill(make("tokens, narrower after")))["gradients"] * size**2
    torch.testing.assert_close(results(fill(rows))["gradients"], expected, rtol=1e-9, atol=0.0)
