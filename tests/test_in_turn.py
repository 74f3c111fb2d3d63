"""Layers cut behind others that are cut already: against reduced-rank regression, and networks.

With u what the side of a layer was and v what it is, a cut puts ``u_mean + (v - v_mean) M`` in the
place of v, M of a low rank. It is to be the M for which errors of u, as the metric counts them, are
least, with noise of the inputs in u and v alike.
"""

import copy
from contextlib import nullcontext
from queue import SimpleQueue
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn
from torch.nn import functional as F

from skfairft import compress
from skfairft.backbone.batches import ModuleBatches
from skfairft.compression import turns
from skfairft.compression.calibration import calibrate
from skfairft.lowrank.cut import borrowing, cut_after, cut_layer
from skfairft.lowrank.layer import LowRankConv, LowRankLinear
from skfairft.lowrank.maps import as_map, layer_maps
from skfairft.lowrank.network import LayerPairs, LayerStatistics

N, G, RIDGE = 160, 2, 0.03
SHARES = torch.tensor([0.3, 0.7]).double()
LAYERS = {
    "inputs": (lambda: nn.Linear(4, 7), (4,)),
    "outputs": (lambda: nn.Linear(7, 4), (7,)),
    "tokens": (lambda: nn.Linear(7, 4, bias=False), (3, 7)),
    "conv outputs": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 9)),
    "conv inputs": (lambda: nn.Conv2d(3, 6, 1), (3, 2, 4)),
    "conv channels": (lambda: nn.Conv2d(5, 2, 2), (5, 3, 4)),
}
EACH = pytest.mark.parametrize("name", LAYERS)
LOWER = {"outputs of fewer inputs": (lambda: nn.Conv1d(1, 5, 3), (1, 9))}
LOWER["channels of fewer outputs"] = (lambda: nn.Conv1d(6, 2, 2), (6, 9))
METRIC = pytest.mark.parametrize("importance", ["covariance", "kfac"])
MIXING = pytest.mark.parametrize("rows", [None, 50.0], ids=["own", "borrowed"])


def make(name, *, same=False):
    """What a layer got, and what it gets: of two groups, with other means and directions."""
    torch.manual_seed(0)
    new, shape = (LAYERS | LOWER)[name]
    layer = new().double()
    codes = (torch.arange(N) % 4 == 0).long()
    rare = codes.bool()
    Z = torch.randn(N, *shape).double().cumsum(1) + 2.0
    Z[rare] = 1.5 * Z[rare].flip(1) - 1.0
    moved = Z if same else 0.7 * Z + 0.4 * torch.tanh(Z.flip(1)) + 0.5 * torch.randn_like(Z)
    seen = as_map(layer)
    with torch.no_grad():
        out, out_moved = layer(Z), layer(moved)
    h = torch.randn_like(out) * (1.0 + 2.0 * rare.double()).reshape(-1, *[1] * (out.ndim - 1))
    u, v = seen.seen(Z, out), seen.seen(moved, out_moved)
    return SimpleNamespace(
        layer=layer, seen=seen, Z=Z, moved=moved, out=out, codes=codes, h=h, u=u, v=v
    )


def filled(rows, part=slice(None)):
    statistics = LayerStatistics(rows.seen, G, gradients=True)
    codes = rows.codes[part]
    statistics.update(rows.Z[part], rows.out[part], codes)
    statistics.update_gradients(None, rows.h[part], codes)
    return statistics, LayerPairs(rows.seen, G).update(rows.u[part], rows.v[part], codes).result()


def mixing_of(rows, n):
    return None if n is None else borrowing(torch.bincount(rows.codes, minlength=G), n)


def after(rows, rank, *, importance="covariance", shares=SHARES, mixing=None, part=slice(None)):
    found = filled(rows, part)
    return cut_after(*found, rank, importance=importance, shares=shares, mixing=mixing)


def counted(rows, mixing, n_positions):
    """The weight of each position of each row, by the groups' weights and what they borrow."""
    given = SHARES if mixing is None else SHARES @ mixing
    counts = torch.bincount(rows.codes)
    return (given / counts / n_positions)[rows.codes].repeat_interleave(n_positions)


def oracle(rows, rank, importance, mixing):
    """Return means of u and v, M and what is least: in numpy, by a singular value decomposition."""
    seen = rows.seen
    w = counted(rows, mixing, rows.u.shape[1])
    u, v = rows.u.flatten(0, 1), rows.v.flatten(0, 1)
    u_mean, v_mean = w @ u, w @ v
    u, v = u - u_mean, v - v_mean
    # Noise of the inputs, of a hundredth of their variances, as it is on the side.
    features = seen.features(rows.Z)
    w_in = counted(rows, mixing, features.shape[1])
    features = features.flatten(0, 1)
    noise = RIDGE * (w_in @ (features - w_in @ features).square())
    W = seen.weight
    if seen.side == "outputs":
        noise = W.T @ noise.repeat_interleave(seen.d // seen.columns).diag() @ W
    else:
        noise = noise.diag()
    # What an error at the outputs counts, and so one on the side, over all that the kernel does.
    H = torch.eye(seen.k).double()
    if importance == "kfac":
        given = SHARES if mixing is None else SHARES @ mixing
        h = seen.positions(rows.h)
        H = sum(
            given[g] * (h[rows.codes == g].mT @ h[rows.codes == g]).sum(0) / (rows.codes == g).sum()
            for g in range(G)
        )
    kernel = W.reshape(seen.columns, -1, seen.k)
    cost = H
    if seen.side != "outputs":
        cost = sum(kernel[:, i] @ H @ kernel[:, i].T for i in range(kernel.shape[1]))
    root = torch.from_numpy(np.real(sqrtm(cost.numpy())))

    def moment(a, b):
        return a.T @ (w[:, None] * b) + noise

    C_vv, C_vu, C_uu = moment(v, v), moment(v, u), moment(u, u)
    whitened = torch.from_numpy(np.real(sqrtm(np.linalg.inv(C_vv.numpy()))))
    left, sizes, right = torch.linalg.svd(whitened @ C_vu @ root)
    M = whitened @ (left[:, :rank] * sizes[:rank]) @ right[:rank] @ torch.linalg.inv(root)

    def objective(M):
        error = M.T @ C_vv @ M - M.T @ C_vu - C_vu.T @ M + C_uu
        return float((root @ error @ root).trace())

    return SimpleNamespace(u=u_mean, v=v_mean, M=M, objective=objective)


def through(rows, side):
    """Return what the layer makes of its side, in the positions of its output."""
    if rows.seen.side == "outputs":
        return side
    if rows.seen.side == "inputs":
        return side @ rows.seen.weight + rows.seen.bias
    return rows.seen.positions(rows.layer(side.mT.reshape(rows.Z.shape)).detach())


def near(found, expected, ratio=1e-6):
    """Tell whether these are the same up to the ridge of rounding, beside the largest."""
    found, expected = found.detach(), expected.detach()
    return bool((found - expected).abs().max() <= ratio * expected.abs().max())


@EACH
@METRIC
@MIXING
class TestOracle:
    @pytest.mark.parametrize("rank", [1, 2])
    @pytest.mark.some(2)
    def test_is_reduced_rank_regression(self, name, importance, rows, rank):
        data = make(name)
        mixing = mixing_of(data, rows)
        thin = after(data, rank, importance=importance, mixing=mixing)
        best = oracle(data, rank, importance, mixing)
        expected = through(data, best.u + (data.v - best.v) @ best.M)
        assert thin.rank == rank
        assert near(data.seen.positions(thin(data.moved)), expected)
        # Control: by itself it would be another.
        alone = cut_layer(
            filled(data)[0], rank, importance=importance, shares=SHARES, mixing=mixing
        ).layer
        assert not near(data.seen.positions(alone(data.moved)), expected, 1e-2)

    def test_no_other_of_that_rank_is_better(self, name, importance, rows):
        """Nor with another bias: the mean of what it gives is that of what there was."""
        data, rank = make(name), 2
        best = oracle(data, rank, importance, mixing_of(data, rows))
        least = best.objective(best.M)
        U, S, V = torch.linalg.svd(best.M)
        down, up = U[:, :rank] * S[:rank], V[:rank]
        rng = np.random.default_rng(0)
        for size in 10.0 ** rng.uniform(-4, 0, size=30):
            a, b = (size * torch.from_numpy(rng.normal(size=each.shape)) for each in (down, up))
            assert best.objective((down + a) @ (up + b)) > least

    def test_of_what_did_not_change_it_is_the_cut_by_itself(
        self, name, importance, rows, monkeypatch
    ):
        """With the ridge of that one."""
        monkeypatch.setattr("skfairft.lowrank.cut._RIDGES", 1.0)
        data = make(name, same=True)
        settings = {"importance": importance, "shares": SHARES, "mixing": mixing_of(data, rows)}
        statistics, pairs = filled(data)
        for rank in (1, 2):
            found = cut_after(statistics, pairs, rank, **settings)
            alone = cut_layer(statistics, rank, **settings).layer
            assert near(found(data.Z), alone(data.Z))


@METRIC
@pytest.mark.parametrize("name", LAYERS | LOWER)
def test_at_full_rank_of_what_did_not_change_it_is_the_layer(name, importance):
    """Also where the side is wider than the rank that the weights can have."""
    data = make(name, same=True)
    found = after(data, 99, importance=importance)
    assert found.rank == data.seen.most
    assert (data.seen.most < data.seen.width) is (name in LOWER)
    assert near(found(data.Z), data.out)


@EACH
@METRIC
class TestCutAfter:
    def test_the_mean_of_the_side_is_what_it_was(self, name, importance):
        """And so that of the outputs, where a row has as many positions before as after."""
        data = make(name)
        found = after(data, 1, importance=importance)
        w = counted(data, None, data.u.shape[1])
        if data.seen.side == "channels":
            given = found.down(data.moved).flatten(2).mT.flatten(0, 1).detach()
            kernel = found.up.weight.detach().sum((2, 3))  # of what is the same everywhere
            made = (w @ given) @ kernel.T + found.bias.detach()
            was = (w @ data.u.flatten(0, 1)) @ data.layer.weight.detach().sum((2, 3)).T
            torch.testing.assert_close(made, was + data.layer.bias.detach())
        else:
            given = data.seen.positions(found(data.moved).detach()).flatten(0, 1)
            torch.testing.assert_close(w @ given, w @ through(data, data.u).flatten(0, 1))
        # Control: not if the layer were left whole.
        assert not near(w @ data.v.flatten(0, 1), w @ data.u.flatten(0, 1), 1e-2)

    def test_a_group_counts_the_same_however_often_its_rows_come(self, name, importance):
        data = make(name)
        again = torch.cat([torch.arange(N), torch.where(data.codes == 1)[0].repeat(3)])
        before, more = (after(data, 2, importance=importance, part=p) for p in (slice(None), again))
        assert near(more(data.moved), before(data.moved))

    def test_groups_under_other_numbers_are_the_same(self, name, importance):
        data, other = make(name), make(name)
        other.codes = 1 - data.codes
        found = after(data, 2, importance=importance)
        renamed = after(other, 2, importance=importance, shares=SHARES.flip(0))
        assert near(renamed(data.moved), found(data.moved), 1e-9)

    def test_a_group_of_no_weight_is_not_heard(self, name, importance):
        data, other = make(name), make(name)
        rare = data.codes == 1
        other.v[rare], other.u[rare] = 7.0 * other.v[rare].flip(2), -other.u[rare]
        one = torch.tensor([1.0, 0.0]).double()
        found, same = (after(each, 1, importance=importance, shares=one) for each in (data, other))
        assert near(found(data.moved), same(data.moved), 1e-9)
        heard = [after(each, 1, importance=importance) for each in (data, other)]
        assert not near(heard[0](data.moved), heard[1](data.moved), 1e-2)  # control

    @pytest.mark.parametrize("unit", [1e-8, 1e8, "each its own"])
    def test_units_of_what_goes_through_do_not_matter(self, name, importance, unit):
        data, other = make(name), make(name)
        if unit == "each its own":  # of features, or of channels
            apart = 10.0 ** torch.linspace(-4, 4, data.seen.columns).double()
            spatial = data.layer.weight.ndim - 2
            unit = apart.reshape(-1, *[1] * spatial)
            if data.seen.side == "inputs":
                ones = torch.ones_like(data.layer.weight[:1])
                data.side_unit = (unit * ones).flatten()
            else:
                data.side_unit = apart
        else:
            data.side_unit = unit
        for key in ("Z", "moved"):
            setattr(other, key, unit * getattr(data, key))
        with torch.no_grad():
            other.layer.weight.div_(unit)
        if data.seen.side != "outputs":
            other.u, other.v = data.side_unit * data.u, data.side_unit * data.v
        before, found = (after(each, 2, importance=importance) for each in (data, other))
        assert near(found(other.moved), before(data.moved))

    @pytest.mark.parametrize("what", ["v", "u", "both"])
    def test_dead_units_hinder_no_others(self, name, importance, what):
        """One without variance, and one that is twice there."""
        data = make(name)
        for side, key in ((data.u, "u"), (data.v, "v")):
            if what in (key, "both"):
                side[..., 0] = 3.0
                side[..., 2 % side.shape[2]] = side[..., 1 % side.shape[2]]
        found = after(data, 2, importance=importance)
        assert bool(torch.isfinite(found(data.moved)).all())
        assert max(float(each.detach().abs().max()) for each in found.parameters()) < 1e4

    def test_a_layer_of_which_nothing_comes_any_more_gives_the_mean(self, name, importance):
        data = make(name)
        data.v[:] = 0.0
        found = after(data, 2, importance=importance)
        assert bool(torch.isfinite(found(data.moved)).all())


@pytest.mark.parametrize("what", ["u", "v"])
def test_what_overflows_is_refused(what):
    data = make("outputs")
    getattr(data, what)[3] = 1e170
    with pytest.raises(ValueError, match="so large that their squares overflow"):
        after(data, 1)


# Networks


def rows_of(n=240, d=10, seed=0):
    rng = np.random.default_rng(seed)
    X, rare = rng.normal(size=(n, d)), groups_of(n)
    X[rare] = X[rare][:, ::-1] * np.linspace(0.2, 2.0, d) + 1.0
    return torch.from_numpy(X)


def groups_of(n):
    return np.arange(n) % 5 == 0


def network(seed=0, depth=3, d=10, width=16):
    torch.manual_seed(seed)
    parts = []
    for i in range(depth):
        parts += [nn.Linear(d if i == 0 else width, width), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(width, 6)).double()


def images(n=160):
    torch.manual_seed(1)
    X = torch.randn(n, 3, 8, 8).double()
    X[groups_of(n)] = X[groups_of(n)].cumsum(3)
    return X


def pictures(inplace=False):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=inplace),
        nn.Conv2d(8, 12, 3, stride=2),
        nn.ReLU(inplace=inplace),
        nn.Flatten(),
        nn.Linear(108, 5),
    ).double()


def small_of(model, X=None, **settings):
    X = rows_of() if X is None else X
    usual = {"sensitive_features": groups_of(len(X)), "rank": 3, "sequential": True}
    usual["group_weights"] = None
    return compress(model, X, **usual | {"random_state": 0} | settings)


def error(model, small, X):
    """Mean over groups of the mean squared difference of the outputs."""
    with torch.no_grad():
        each, rare = (small(X) - model(X)).square().flatten(1).sum(1), groups_of(len(X))
    return float((each[rare].mean() + each[~rare].mean()) / 2)


def all_layers(model):
    return [name for name, _ in layer_maps(model).items()]


class TestNetworks:
    @pytest.mark.parametrize("seed", range(8))
    def test_of_two_layers_the_error_is_never_larger_than_of_each_by_itself(self, seed):
        """The first is cut the same, and the last is the best that there is behind it."""
        model, X = network(seed, depth=1), rows_of(seed=seed)
        alone, in_turn = (
            error(model, small_of(model, X, sequential=way, borrowed_rows=0), X)
            for way in (False, True)
        )
        assert in_turn < alone

    @pytest.mark.parametrize("kind", ["linear", "convolutions"])
    def test_of_more_it_is_lower_in_the_mean(self, kind):
        ratios = []
        for seed in range(5):
            model = network(seed) if kind == "linear" else pictures()
            X = rows_of(seed=seed) if kind == "linear" else images() + 0.1 * seed
            model.eval()
            alone, in_turn = (
                error(model, small_of(model, X, sequential=way), X) for way in (False, True)
            )
            ratios.append(in_turn / alone)
        assert np.mean(ratios) < 0.9
        assert max(ratios) < 1.05

    @pytest.mark.filterwarnings("ignore:The layer .* has no fewer parameters")
    @pytest.mark.parametrize("settings", [{}, {"loss": "softmax"}])
    @pytest.mark.parametrize("kind", ["linear", "convolutions"])
    def test_at_full_rank_it_is_the_model(self, kind, settings):
        model, X = (network(), rows_of()) if kind == "linear" else (pictures().eval(), images())
        small = small_of(model, X, rank=999, layers=all_layers(model), **settings)
        assert near(small(X), model(X))

    @pytest.mark.parametrize("kind", ["linear", "convolutions"])
    @pytest.mark.parametrize("settings", [{}, {"loss": "softmax", "y": 1}])
    @pytest.mark.some(2)
    def test_the_size_of_batches_does_not_matter(self, kind, settings):
        model, X = (network(), rows_of()) if kind == "linear" else (pictures().eval(), images())
        settings = {k: np.arange(len(X)) % 5 if k == "y" else v for k, v in settings.items()}
        found = [small_of(model, X, batch_size=n, **settings)(X) for n in (1000, 50, 7)]
        assert all(near(each, found[0], 1e-8) for each in found)

    def test_rows_of_a_group_that_come_twice_change_nothing(self):
        model, X = network(), rows_of()
        rare = groups_of(len(X))
        again = np.concatenate([np.arange(len(X)), *[np.where(rare)[0]] * 2])
        found = small_of(model, X[again], sensitive_features=rare[again], borrowed_rows=0)(X)
        assert near(found, small_of(model, X, borrowed_rows=0)(X), 1e-8)
        # Control: with weights by rows it does.
        by_rows = small_of(model, X, group_weights="proportional")(X)
        more = small_of(
            model, X[again], sensitive_features=rare[again], group_weights="proportional"
        )(X)
        assert not near(more, by_rows, 1e-3)

    def test_names_of_the_groups_do_not_matter(self):
        model, X = network(), rows_of()
        names = np.where(groups_of(len(X)), "a", "b"), np.where(groups_of(len(X)), "z", "y")
        found = [small_of(model, X, sensitive_features=each)(X) for each in names]
        assert near(found[0], found[1], 1e-9)

    def test_models_that_work_in_place_are_as_others(self):
        X = images()
        model, other = pictures().eval(), pictures(inplace=True).eval()
        for settings in ({}, {"loss": "softmax", "y": np.arange(len(X)) % 5}):
            found, same = (small_of(each, X, **settings)(X) for each in (model, other))
            assert near(found, same, 1e-9)

    @pytest.mark.parametrize("training", [True, False])
    def test_the_copy_is_in_the_mode_of_the_model(self, training):
        model = pictures().train(training)
        model[3].train(not training)
        small = small_of(model, images())
        assert [part.training for part in small] == [part.training for part in model]
        for at in (0, 3, 6):
            own = small[at].training
            assert {part.training for part in small[at].modules()} == {own}
            assert all(each.requires_grad for each in small[at].parameters())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_in_less_precision_it_is_the_same_to_its_digits(self, dtype):
        model, X = network().to(dtype), rows_of().to(dtype)
        small = small_of(model, X)
        assert {each.dtype for each in small.parameters()} == {dtype}
        double = small_of(copy.deepcopy(model).double(), X.double())
        # Directions of a projection are off by rounding over the gaps of what is kept, about 1%.
        assert near(small(X).double(), double(X.double()), min(0.2, 400 * torch.finfo(dtype).eps))
        assert not near(small(X), model(X), 0.3)  # control

    def test_random_states_are_left_alone(self):
        model, before = network(), torch.get_rng_state()
        small_of(model)
        assert torch.equal(torch.get_rng_state(), before)


class Steps(nn.Module):
    """Layers by name, and what a function of them makes."""

    def __init__(self, forward, **layers):
        super().__init__()
        torch.manual_seed(0)
        for name, (d, k) in layers.items():
            setattr(self, name, nn.Linear(d, k).double())
        self.own, self.ran = forward, []

    def forward(self, x):
        return self.own(self, x)


def attention(model, x):
    q, k, v = model.q(x), model.k(x), model.v(x)
    return model.out((q * k).softmax(1) * v)


def modified_between(model, x):
    x = x * 1.0
    a = model.q(x)
    x += torch.tanh(model.k(x))
    return model.out(a + model.v(x))


@torch.inference_mode()
def modified_where_nothing_counts(model, x):
    return modified_between(model, x.clone())


def again_later(model, x):
    """The last runs in the end, on what the first had."""
    h = model.out(model.k(model.q(x)))
    return h + model.v(x)


WIDTHS = {"q": (10, 10), "k": (10, 10), "v": (10, 10), "out": (10, 10)}


class TestStages:
    @pytest.mark.parametrize(
        ("forward", "stages"),
        [
            (attention, [["q", "k", "v"], ["out"]]),
            (modified_between, [["q", "k"], ["v"], ["out"]]),
            (modified_where_nothing_counts, [["q"], ["k"], ["v"], ["out"]]),
            (again_later, [["q", "v"], ["k"], ["out"]]),
        ],
    )
    def test_none_is_behind_another(self, forward, stages):
        model, X = Steps(forward, **WIDTHS), rows_of()
        assert calibration(model, X).stages == stages

    @pytest.mark.parametrize("forward", [attention, modified_between, again_later])
    def test_the_first_are_cut_by_themselves_and_the_others_behind_them(self, forward):
        model, X = Steps(forward, **WIDTHS), rows_of()
        in_turn, alone = (small_of(model, X, sequential=way) for way in (True, False))
        stages = calibration(model, X).stages
        for stage in stages:
            for name in stage:
                own, by_itself = (each.get_submodule(name).weight for each in (in_turn, alone))
                assert near(own, by_itself, 1e-9) is (stage is stages[0])

    def test_the_order_is_that_in_which_layers_run(self):
        """Not that in which they are named."""

        def backwards(model, x):
            return model.a(model.b(model.c(x).relu()).relu())

        model, X = Steps(backwards, a=(10, 10), b=(10, 10), c=(10, 10)), rows_of()
        assert calibration(model, X).stages == [["c"], ["b"], ["a"]]
        assert error(model, small_of(model, X), X) < error(
            model, small_of(model, X, sequential=False), X
        )

    def test_layers_that_are_not_cut_leave_those_behind_them_what_they_get(self):
        """One that is left whole behind a cut one, and one that is cut behind it."""
        model, X = network(), rows_of()
        small = small_of(model, X, layers=["0", "4"])
        assert torch.equal(small[2].weight, model[2].weight)
        found = calibration(model, X)
        part = nn.Sequential(*small[:4])
        pairs = LayerPairs(found.statistics["4"].seen, 2)
        with torch.no_grad():
            u, v = model[:5](X), model[4](part(X))
        codes = torch.from_numpy(groups_of(len(X))).long()
        pairs.update(u[:, None], v[:, None], codes)
        expected = cut_after(
            found.statistics["4"],
            pairs.result(),
            3,
            importance="covariance",
            shares=torch.full((2,), 0.5).double(),
            mixing=borrowing(torch.bincount(codes), 100.0),
        )
        assert near(small[4](v), expected(v), 1e-9)

    def test_an_alias_is_cut_with_its_layer(self):
        class Aliased(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = network()
                self.second = self.body[2]

            def forward(self, x):
                return self.body[4:](F.relu(self.second(self.body[:2](x))))

        model, X = Aliased(), rows_of()
        small = small_of(model, X)
        assert small.second is small.body[2]
        assert near(small(X), small_of(model.body, X)(X), 1e-9)


def calibration(model, X):
    codes = torch.from_numpy(groups_of(len(X))).long()
    return calibrate(
        model,
        ModuleBatches.of(model, X, batch_size=100),
        codes,
        layer_maps(model),
        n_groups=2,
        graded=set(),
        gradients=None,
        y=None,
        keep=False,
        lenient=False,
        generator=torch.Generator(),
    )


class TestRoom:
    """What layers give in the model is held for those ahead as far as there is room."""

    # Of float64 numbers for 240 rows the last two of the four layers have 16 and 6 each.
    @pytest.mark.parametrize(
        ("room", "passes"),
        [(0, 3), (1920 * 6 - 1, 3), (1920 * 6, 2), (1920 * 22 - 1, 2), (1920 * 22, 1)],
    )
    def test_the_model_runs_as_often_as_it_must(self, monkeypatch, room, passes):
        monkeypatch.setattr(turns, "_ROOM", room)
        log = SimpleQueue()
        small_of(nn.Sequential(Counts(log), *network()).double(), batch_size=240)
        assert log.qsize() == 4 + 3 + passes + 3  # see TestEarlyStop

    @pytest.mark.parametrize("inplace", [False, True])
    def test_it_does_not_matter_how_much(self, monkeypatch, inplace):
        """Pictures: sides that are inputs, outputs and channels, and layers that share an input."""

        class Both(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.narrow = pictures(inplace), nn.Conv2d(8, 4, 3).double()
                self.beside, self.last = nn.Conv2d(8, 4, 1).double(), nn.Conv2d(4, 2, 1).double()

            def forward(self, x):
                h = self.body[:3](x)
                both = self.narrow(h) + self.beside(h)[..., 1:-1, 1:-1]
                return self.body[3:](h) + self.last(both).flatten(1).mean(1, keepdim=True)

        def weights(room):
            monkeypatch.setattr(turns, "_ROOM", room)
            return small_of(Both(), images(), rank=2, batch_size=50).state_dict()

        streamed = weights(0)
        for room in (160 * 8 * 9 * 12, 2**30):
            held = weights(room)
            assert list(held) == list(streamed)
            assert all(map(torch.equal, held.values(), streamed.values()))

    def test_rows_that_come_otherwise_are_refused(self):
        """The copy is compared with the model on the same numbers, or not at all."""
        noise = torch.Generator().manual_seed(0)

        def preprocess(X):  # such that no look at a few rows finds it
            last = (rows_of()[-1] == X).all(1, keepdim=True)
            return X + last * torch.randn(1, generator=noise)

        with pytest.raises(ValueError, match="Rows come otherwise than when they were first read"):
            small_of(network().double(), preprocess=preprocess, batch_size=60)


class Counts(nn.Module):
    """Counts its calls, out of its own sight, and may fail in one of them."""

    def __init__(self, log, fails_at=None, error=RuntimeError):
        super().__init__()
        self.log, self.fails_at, self.error = log, fails_at, error

    def __deepcopy__(self, memo):
        return Counts(self.log, self.fails_at, self.error)

    def forward(self, x):
        self.log.put(1)
        if self.log.qsize() == self.fails_at:
            raise self.error
        return x


class Depth(nn.Module):
    """Notes how deep it is, and puts that back at its end."""

    def __init__(self, body, *, kind):
        super().__init__()
        self.body, self.kind = body, kind
        self.register_buffer("buffer", torch.zeros(()))
        self.attribute = 0

    def forward(self, x):
        name = self.kind
        setattr(self, name, getattr(self, name) + 1)
        found = self.body(x)
        setattr(self, name, getattr(self, name) - 1)
        return found


class TestEarlyStop:
    @pytest.mark.parametrize("kind", ["buffer", "attribute"])
    def test_what_a_forward_puts_back_at_its_end_is_put_back(self, kind):
        model = Depth(network(), kind=kind)
        small = small_of(model)
        assert [float(getattr(each, kind)) for each in (model, small)] == [0.0, 0.0]
        plain = small_of(model.body).state_dict()
        assert all(torch.equal(small.body.state_dict()[name], plain[name]) for name in plain)

    def test_what_is_behind_the_last_layer_of_a_stage_does_not_run(self):
        before, last = SimpleQueue(), SimpleQueue()
        model = nn.Sequential(Counts(before), *network(depth=2), Counts(last), nn.Tanh()).double()
        small_of(model, batch_size=240)
        # Two to see how rows come out, one pass of calibration and one to see that the thin layers
        # run; for the two later stages two to see that they may end early, one of the model, and
        # for each of them one of the copy, as far as their layers.
        assert (before.qsize(), last.qsize()) == (4 + 2 + 1 + 2, 4)

    @pytest.mark.parametrize("fails_at", range(1, 10))
    @pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
    def test_an_error_anywhere_leaves_the_model_as_it_was(self, fails_at, kind):
        log = SimpleQueue()
        model = nn.Sequential(Counts(log, fails_at, kind), *network(depth=2)).double().train()
        model[2].eval()
        state = copy.deepcopy(model.state_dict())
        flags = [part.training for part in model.modules()]
        # To fail where it ends early is to be run to its end.
        fails = kind is KeyboardInterrupt or fails_at not in (4, 5)
        errors = pytest.raises(ValueError if kind is RuntimeError else kind)
        with errors if fails else nullcontext():
            small_of(model, batch_size=240)
        assert [part.training for part in model.modules()] == flags
        assert not any(part._forward_hooks for part in model.modules())
        assert all(map(torch.equal, model.state_dict().values(), state.values()))
        assert torch.is_grad_enabled()
        assert small_of(model, batch_size=240)[1].rank == 3  # as if nothing had been

    def test_hooks_and_modes_are_as_they_were(self):
        model = pictures().train()
        model[1].eval()
        heard = []
        model[2].register_forward_hook(lambda *_: heard.append(1))
        hooks = [dict(part._forward_hooks) for part in model.modules()]
        small = small_of(model, images())
        assert heard
        assert [dict(part._forward_hooks) for part in model.modules()] == hooks
        assert [len(part._forward_hooks) for part in small] == [0, 0, 1, 0, 0, 0, 0]
        assert [part.training for part in model] == [True, False] + [True] * 5


class TestPathsThatChange:
    """Where the forward depends on what cut layers give, nothing can be told of those behind."""

    @pytest.mark.parametrize("what", ["does not run", "fewer positions"])
    def test_are_refused(self, what):
        def forward(model, x):
            h = model.a(x)
            thin = isinstance(model.a, LowRankLinear)
            if what == "does not run":
                return model.c(h if thin else model.b(h))
            return model.b(h[:, : 2 if thin else 3]).mean(1)

        model = Steps(forward, a=(10, 10), b=(10, 10), c=(10, 10))
        X = rows_of() if what == "does not run" else rows_of(3 * 240).reshape(240, 3, 10)
        with pytest.raises(ValueError, match="'b' does not get as many positions, or does not run"):
            small_of(model, X)
        layers = ["a", "c"] if what == "does not run" else ["a", "b"]
        small = small_of(model, X, layers=layers, sequential=what == "does not run")
        assert isinstance(small.a, LowRankLinear)


def test_convolutions_become_thin_ones():
    small = small_of(pictures().eval(), images())
    assert [type(small[i]) for i in (0, 3, 6)] == [LowRankConv, LowRankConv, LowRankLinear]
