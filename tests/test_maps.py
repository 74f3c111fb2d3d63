"""Layers as maps of positions: against torch's own layers, and what made modules really have."""

import copy
import itertools
import pickle
from math import prod

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from skfairft.lowrank.layer import LowRankConv, LowRankLinear
from skfairft.lowrank.maps import ConvMap, LayerMap, as_map, does_more, layer_maps, root_of

SIZE = {1: (11,), 2: (9, 8), 3: (6, 7, 5)}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
PLAIN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
# Narrower before, narrower after, and the same; kernels of one position and of more.
WIDTHS = {"outputs": (3, 4), "channels": (5, 2), "same": (4, 4)}
KINDS = {
    "plain": {"kernel_size": 3},
    "one position": {"kernel_size": 1},
    "one position, padded": {"kernel_size": 1, "stride": 2, "padding": 1},
    "even": {"kernel_size": 2, "stride": 2},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 2, "dilation": 3, "padding": 2},
    "same": {"kernel_size": 3, "padding": "same", "dilation": 2},
    "same, even": {"kernel_size": 4, "padding": "same"},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "reflect": {"kernel_size": 3, "padding": 2, "padding_mode": "reflect"},
    "circular": {"kernel_size": 3, "padding": "same", "padding_mode": "circular", "dilation": 2},
    "replicate": {"kernel_size": 3, "padding": 1, "padding_mode": "replicate", "stride": 2},
}
CONVOLUTIONS = [
    pytest.param(axes, widths, kind, bias, id=f"{axes}d {widths} {kind}{'' if bias else ' bare'}")
    for axes, widths, kind in itertools.product(CONV, WIDTHS, KINDS)
    for bias in ([True, False] if axes == 1 else [axes == 2])
]
# torch says that it pads once more for even kernels.
QUIET = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


def convolution(axes, widths, kind, bias=True):
    torch.manual_seed(0)
    return CONV[axes](*WIDTHS[widths], **KINDS[kind], bias=bias).double()


def uneven(axes):
    """Of other sizes on each axis, so that none is taken for another."""
    torch.manual_seed(0)
    sizes = {"kernel_size": (3, 1, 2), "stride": (1, 2, 3), "padding": (2, 0, 1)}
    return CONV[axes](
        4, 3, **{k: v[:axes] for k, v in sizes.items()}, dilation=(2, 1, 3)[:axes]
    ).double()


def rows_of(seen, n=3):
    torch.manual_seed(1)
    if isinstance(seen, ConvMap):
        return torch.randn(n, seen.columns, *SIZE[seen.stored.ndim - 2]).double()
    return torch.randn(n, 5, seen.d).double()


def linear(d, k, bias=True):
    torch.manual_seed(0)
    return LayerMap(nn.Linear(d, k, bias=bias).double())


def transformers_linear(d=3, k=7):
    utils = pytest.importorskip("transformers.pytorch_utils")
    torch.manual_seed(0)
    layer = utils.Conv1D(k, d).double()
    with torch.no_grad():
        layer.bias.normal_()
    return as_map(layer)


def projection(m, rank):
    """An oblique one, (m, m), as two factors."""
    torch.manual_seed(2)
    down = torch.randn(m, rank).double()
    return down, torch.linalg.pinv(down) + torch.randn(rank, m).double() @ (
        torch.eye(m).double() - down @ torch.linalg.pinv(down)
    )


def check(seen):
    """All that holds of any layer."""
    Z = rows_of(seen)
    out = seen.layer(Z).detach()
    T = seen.positions(out).shape[1]
    assert seen.takes(Z, len(Z))
    assert not seen.takes(Z, len(Z) + 1)
    assert seen.unfold(Z).shape == (len(Z), T, seen.d)
    torch.testing.assert_close(seen.unfold(Z) @ seen.weight + seen.bias, seen.positions(out))
    m = seen.width
    assert seen.seen(Z, out).shape[2] == m
    mixed = seen.weight.reshape(seen.columns, -1) if seen.side == "channels" else seen.weight
    assert seen.most == torch.linalg.matrix_rank(mixed)
    assert seen.spread(torch.arange(seen.columns)).shape == (seen.d,)
    # Nothing changes if nothing is projected, whatever the means.
    one, u = torch.eye(m).double(), torch.randn(m).double()
    torch.testing.assert_close(seen.cut(one, one, u, u)(Z), out)
    for rank in {1, m}:
        thin = seen.cut(*projection(m, rank), u, torch.randn(m).double())
        check_thin(seen, thin, rank, Z)


def check_thin(seen, thin, rank, Z):
    out = thin(Z).detach()
    assert thin.rank == rank
    assert out.shape == seen.layer(Z).shape
    if isinstance(seen, ConvMap):
        layer = seen.layer
        how = {"stride": layer.stride, "dilation": layer.dilation}
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        Z_padded = F.pad(Z, layer._reversed_padding_repeated_twice, mode=mode)
        whole = PLAIN[Z.ndim - 2](Z_padded, thin.weight, thin.bias, **how)
    else:
        whole = F.linear(Z, thin.weight, thin.bias)
    torch.testing.assert_close(out, whole.detach())
    # Sizes and multiplications are those that the module has.
    assert seen.thin_size(rank) == sum(each.numel() for each in thin.parameters())
    before, after = seen.features(Z).shape[1], seen.positions(out).shape[1]
    unit, whole = seen.work(before, after)
    assert flops(thin, Z) == 2 * len(Z) * rank * unit
    assert flops(seen.layer, Z) == 2 * len(Z) * whole
    assert seen.size == sum(each.numel() for each in seen.layer.parameters())


def flops(module, Z):
    with FlopCounterMode(display=False) as counter:
        module(Z)
    return counter.get_total_flops()


@QUIET
@pytest.mark.parametrize(("axes", "widths", "kind", "bias"), CONVOLUTIONS)
@pytest.mark.some(3)
def test_a_convolution_is_a_linear_layer_of_its_patches(axes, widths, kind, bias):
    seen = as_map(convolution(axes, widths, kind, bias))
    kernel = KINDS[kind]["kernel_size"]
    sides = {"channels": "channels" if kernel > 1 else "outputs", "same": "outputs"}
    assert seen.side == sides.get(widths, "outputs" if kernel > 1 else "inputs")
    check(seen)


@pytest.mark.parametrize("axes", CONV)
def test_of_other_sizes_on_each_axis(axes):
    check(as_map(uneven(axes)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("d", "k"), [(3, 7), (7, 3), (4, 4), (1, 5), (5, 1)])
def test_a_linear_layer_is_one_of_tokens(d, k, bias):
    seen = linear(d, k, bias)
    assert seen.side == ("inputs" if d < k else "outputs")
    check(seen)


@pytest.mark.parametrize(("d", "k"), [(3, 7), (7, 3)])
def test_transformers_name_of_a_linear_layer(d, k):
    seen = transformers_linear(d, k)
    assert (seen.d, seen.k) == (d, k)
    check(seen)


ONE_OF_EACH = {
    "inputs": lambda: linear(3, 7),
    "outputs": lambda: linear(7, 3),
    "conv1D": transformers_linear,
    "conv inputs": lambda: as_map(convolution(2, "outputs", "one position")),
    "conv outputs": lambda: as_map(convolution(2, "outputs", "strided")),
    "conv channels": lambda: as_map(convolution(2, "channels", "strided")),
}
EACH = pytest.mark.parametrize("name", ONE_OF_EACH)


@EACH
class TestOnEachSide:
    def test_a_cut_projects_what_is_seen(self, name):
        """And puts the mean of what the side was in the place of that of what it is."""
        seen = as_map(convolution(2, "channels", "plain")) if "channels" in name else None
        seen = seen or ONE_OF_EACH[name]()  # with a padding, of which no mean tells
        Z = rows_of(seen)
        down, up = projection(seen.width, 2)
        u, v = torch.randn(2, seen.width).double()
        side = seen.seen(Z, seen.layer(Z).detach())
        side = u + (side - v) @ down @ up
        out = seen.cut(down, up, u, v)(Z).detach()
        if seen.side == "channels":
            torch.testing.assert_close(out, seen.layer(side.mT.reshape(Z.shape)).detach())
            return
        made = side if seen.side == "outputs" else side @ seen.weight + seen.bias
        torch.testing.assert_close(seen.positions(out), made)

    def test_the_root_is_what_an_error_counts(self, name):
        """Errors e of the side cost |e N|^2: what they do at outputs, in their gradients' moments.

        Of "channels" over all that the kernel does with an error at one position.
        """
        seen = ONE_OF_EACH[name]()
        torch.manual_seed(3)
        e = torch.randn(50, seen.width).double()
        h = torch.randn(40, seen.k).double() * torch.arange(1, seen.k + 1)
        H = h.T @ h / len(h)
        if seen.side == "channels":
            kernel = seen.stored.flatten(2)  # (k, c, positions)
            at_outputs = torch.einsum("nc,kcp->npk", e, kernel).flatten(0, 1)
        else:
            at_outputs = e if seen.side == "outputs" else e @ seen.weight
        graded = seen.graded(_as_output(seen, h)).flatten(0, 1)
        for moments, M in (
            (None, torch.eye(seen.k).double()),
            (graded.T @ graded / len(graded), H),
        ):
            cost = (e @ seen.root(moments)).square().sum()
            torch.testing.assert_close(cost, (at_outputs @ M * at_outputs).sum())

    def test_moments_of_unrelated_inputs_are_those_of_the_side(self, name):
        seen = ONE_OF_EACH[name]()
        squares = torch.arange(1, seen.d + 1).double()
        found = seen.moments_of(squares)
        if seen.side == "inputs":
            expected = squares.diag()
        elif seen.side == "outputs":
            expected = torch.zeros(seen.k, seen.k).double()
            for w, each in zip(seen.weight, squares, strict=True):
                expected += each * torch.outer(w, w)
        else:  # the mean of a channel's over the kernel
            expected = squares.reshape(seen.columns, -1).mean(1).diag()
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_the_layer_is_left_and_its_dtype_kept(self, name, dtype):
        seen = ONE_OF_EACH[name]()
        seen.layer.to(dtype)
        before, m = [each.clone() for each in seen.layer.parameters()], seen.width
        thin = seen.cut(*projection(m, 1), *torch.ones(2, m).double())
        assert {each.dtype for each in thin.parameters()} == {dtype}
        assert seen.weight.dtype == seen.bias.dtype == torch.float64
        with torch.no_grad():
            for each in thin.parameters():
                each.zero_()
        assert all(map(torch.equal, seen.layer.parameters(), before))

    def test_the_global_random_state_is_left_alone(self, name):
        seen = ONE_OF_EACH[name]()
        factors, random = projection(seen.width, 1), torch.get_rng_state()
        seen.cut(*factors, *torch.ones(2, seen.width).double())
        assert torch.equal(torch.get_rng_state(), random)


def _as_output(seen, h):
    """Gradients (n, k) as at an output of one position."""
    if isinstance(seen, ConvMap):
        return h.reshape(*h.shape, *[1] * (seen.stored.ndim - 2))
    return h[:, None]


@pytest.mark.parametrize("name", ["conv outputs", "conv channels", "conv inputs"])
def test_a_thin_convolution_says_what_it_is(name):
    seen = ONE_OF_EACH[name]()
    thin = seen.cut(*projection(seen.width, 1), *torch.ones(2, seen.width).double())
    for own in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"):
        assert getattr(thin, own) == getattr(seen.layer, own)
    assert thin.weight.shape == seen.layer.weight.shape
    assert thin.bias.shape == (seen.k,)
    assert prod(thin.down.kernel_size) * prod(thin.up.kernel_size) == prod(seen.layer.kernel_size)


class TestWhichLayers:
    class Own(nn.Linear):
        """Might do anything in its forward."""

    class OwnConv(nn.Conv2d):
        pass

    def test_are_found(self):
        model = nn.ModuleDict(
            {
                "linear": nn.Linear(4, 4),
                "conv1": nn.Conv1d(4, 4, 3),
                "conv2": nn.Conv2d(4, 4, 3),
                "conv3": nn.Conv3d(4, 4, 3),
                "bfloat16 one": nn.Linear(4, 4).bfloat16(),
                "grouped": nn.Conv2d(4, 4, 3, groups=2),
                "depthwise": nn.Conv2d(4, 4, 3, groups=4),
                "transposed": nn.ConvTranspose2d(4, 4, 3),
                "lazy": nn.LazyLinear(4),
                "lazy conv": nn.LazyConv2d(4, 3),
                "complex": nn.Linear(4, 4, dtype=torch.complex64),
                "complex conv": nn.Conv2d(4, 4, 3, dtype=torch.complex64),
                "own": self.Own(4, 4),
                "own conv": self.OwnConv(4, 4, 3),
                "bilinear": nn.Bilinear(4, 4, 4),
                "embedding": nn.Embedding(4, 4),
                "norm": nn.BatchNorm2d(4),
                "pruned": prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
                "pruned conv": prune.l1_unstructured(nn.Conv2d(4, 4, 3), "weight", 0.5),
                "normed": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
                "thin": LowRankLinear(torch.ones(4, 1), torch.ones(1, 4), None),
                "thin conv": LowRankConv(
                    nn.Conv2d(4, 4, 3),
                    torch.ones(1, 4, 3, 3),
                    torch.ones(4, 1, 1, 1),
                    torch.ones(4),
                ),
            }
        )
        model["again"] = model["linear"]
        assert list(layer_maps(model)) == ["linear", "conv1", "conv2", "conv3", "bfloat16 one"]

    def test_lazy_ones_are_once_they_ran(self):
        model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))
        assert not layer_maps(model)
        model(torch.ones(1, 2, 5, 5))
        assert [type(each) for each in layer_maps(model).values()] == [ConvMap, LayerMap]

    def test_a_layer_by_itself(self):
        assert list(layer_maps(nn.Linear(2, 2))) == [""]

    def test_what_only_has_the_name_of_transformers_layer_is_none(self):
        class Conv1D(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(2, 2))

        assert as_map(Conv1D()) is None

    def test_one_with_hooks_or_a_forward_of_its_own_does_more(self):
        assert not does_more(nn.Conv2d(1, 1, 1))
        for add in (
            lambda own: own.register_forward_pre_hook(lambda *_: None),
            lambda own: own.register_full_backward_hook(lambda *_: None),
            lambda own: own.register_full_backward_pre_hook(lambda *_: None),
            lambda own: setattr(own, "forward", lambda x: x),
        ):
            layer = nn.Conv2d(1, 1, 1)
            add(layer)
            assert does_more(layer)


@pytest.mark.parametrize(
    ("shape", "n", "takes", "ambiguous"),
    [
        ((6, 4), 6, True, False),
        ((6, 5, 4), 6, True, False),
        ((5, 6, 4), 6, False, True),
        ((6, 6, 4), 6, True, True),
        ((6, 5, 6, 4), 6, True, True),
        ((1, 1, 4), 1, True, False),  # of one row either axis is the same
        ((4, 4), 4, True, False),
        ((4,), 4, False, False),
    ],
)
def test_the_axis_of_the_rows(shape, n, takes, ambiguous):
    seen = linear(4, 3)
    assert seen.takes(torch.ones(shape), n) is takes
    if takes:
        assert seen.is_ambiguous(torch.ones(shape)) is ambiguous


@pytest.mark.parametrize("axes", CONV)
def test_a_convolution_takes_a_batch_alone(axes):
    seen = as_map(uneven(axes))
    Z = rows_of(seen)
    assert seen.takes(Z, len(Z))
    assert not seen.takes(Z[0], seen.columns)
    assert not seen.is_ambiguous(Z)


@pytest.mark.parametrize("values", [[4.0, 1.0, 0.25], [1.0, 1e-30, 0.0], [0.0, 0.0, 0.0]])
def test_a_root_can_be_inverted_and_squares_to_what_it_is_of(values):
    torch.manual_seed(0)
    Q = torch.linalg.qr(torch.randn(3, 3).double()).Q
    moments = Q @ torch.tensor(values).double().diag() @ Q.T
    root = root_of(moments)
    assert bool(torch.isfinite(torch.linalg.inv(root)).all())
    if any(values):
        torch.testing.assert_close(root @ root.T, moments, rtol=0, atol=2e-10)


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # torch 2.13 and later say that it will go
@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy", "trace", "export"])
@pytest.mark.parametrize("kind", ["strided", "same", "circular"])
@pytest.mark.parametrize("widths", ["outputs", "channels"])
@pytest.mark.some(2)
def test_a_thin_convolution_survives(way, kind, widths):
    seen = as_map(convolution(2, widths, kind).float())
    Z, m = rows_of(seen).float(), seen.width
    torch.manual_seed(4)
    thin = seen.cut(*projection(m, 2), *torch.randn(2, m).double())
    if way == "state_dict":
        other = seen.cut(*projection(m, 2), *torch.zeros(2, m).double())
        assert not torch.equal(other(Z), thin(Z))  # control
        other.load_state_dict(thin.state_dict())
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(thin))
    elif way == "deepcopy":
        other = copy.deepcopy(thin)
    elif way == "trace":
        other = torch.jit.trace(thin, (Z,))
    else:
        rows = ({0: torch.export.Dim("n")},)
        other = torch.export.export(thin, (Z,), dynamic_shapes=rows).module()
    torch.testing.assert_close(other(Z), thin(Z))
