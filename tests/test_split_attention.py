"""`split_attention`: attention of linear layers that are called is the same function."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from skfairft import split_attention
from skfairft.compression.attention import SplitAttention
from skfairft.lowrank.layer import LowRankLinear

N, L, S, E, HEADS = 3, 4, 5, 8, 2
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")

# Of torch, about what its encoders make of padding where they take their faster way.
nested = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")


def same(found, expected):
    """Tell whether two results are one up to the rounding of some tens of sums in float64."""
    return bool((found - expected).abs().max() <= 1e-13 * expected.abs().max().clamp_min(1.0))


def drawn(module):
    """Give all parameters numbers: torch starts with biases of zero."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) / math.sqrt(E))
    return module


def attention(**settings):
    return drawn(nn.MultiheadAttention(E, HEADS, **settings))


def inputs(layer, batched=True):
    """Queries, keys and values of a layer, in its own order of axes."""
    made = [
        torch.randn(N, length, width).double()
        for length, width in [(L, E), (S, layer.kdim), (S, layer.vdim)]
    ]
    if not batched:
        return [each[0].requires_grad_() for each in made]
    if not layer.batch_first:
        made = [each.transpose(0, 1).contiguous() for each in made]
    return [each.requires_grad_() for each in made]


def hiding(*shape):
    """A mask that hides some of the keys, the last one always, and the first one never."""
    mask = torch.rand(shape) < 0.4
    mask[..., 0], mask[..., -1] = False, True
    return mask


def added(*shape):
    return torch.randn(shape).double().requires_grad_()


def masks_of(kind, batched):
    """The arguments of a call with masks of a kind."""
    n = N if batched else 1
    keys = (N, S) if batched else (S,)
    causal = torch.ones(L, S).triu(1).bool()
    return {
        "none": {},
        "bool": {"attn_mask": hiding(L, S)},
        "float": {"attn_mask": added(L, S)},
        "bool of each head": {"attn_mask": hiding(n * HEADS, L, S)},
        "float of each head": {"attn_mask": added(n * HEADS, L, S)},
        "bool padding": {"key_padding_mask": hiding(*keys)},
        "float padding": {"key_padding_mask": added(*keys)},
        "bool and padding": {"attn_mask": hiding(L, S), "key_padding_mask": hiding(*keys)},
        "float of each head and padding": {
            "attn_mask": added(n * HEADS, L, S),
            "key_padding_mask": added(*keys),
        },
        "causal": {"attn_mask": causal, "is_causal": True},
        "causal and padding": {
            "attn_mask": causal,
            "is_causal": True,
            "key_padding_mask": hiding(*keys),
        },
        # Then the mask counts, whatever the hint says of it.
        "called causal and padding": {
            "attn_mask": hiding(L, S),
            "is_causal": True,
            "key_padding_mask": hiding(*keys),
        },
    }[kind]


MASKS = (
    *("none", "bool", "float", "bool of each head", "float of each head", "bool padding"),
    *("float padding", "bool and padding", "float of each head and padding"),
    *("causal", "causal and padding", "called causal and padding"),
)
EACH_WEIGHTS = {
    "weights": {"need_weights": True},
    "of each head": {"need_weights": True, "average_attn_weights": False},
    "no weights": {"need_weights": False},
}


def slopes(output, tensors):
    """Gradients of a number that all outputs are in, each with its own weight."""
    total = sum(
        (each * torch.linspace(1.0, 2.0, each.numel()).view_as(each)).sum()
        for each in output
        if each is not None
    )
    return torch.autograd.grad(total, tensors)


def of_whole(layer):
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias")
    own = [getattr(layer, name) for name in names if getattr(layer, name) is not None]
    return [*own, *layer.out_proj.parameters()]


def of_four(split):
    """The weights of queries, keys and values, their biases, and what is of the output."""
    *three, out = (getattr(split, name) for name in PROJECTIONS)
    biases = [each.bias for each in three if each.bias is not None]
    return [*(each.weight for each in three), *biases, *out.parameters()]


def packed(found, layer):
    """Gradients as of `of_four`, in the order of `of_whole`."""
    n = 3 if layer.in_proj_bias is None else 6
    weights, biases = found[:3], found[3:n]
    whole = list(weights) if layer.in_proj_weight is None else [torch.cat(weights)]
    return [*whole, *([torch.cat(biases)] if biases else []), *found[n:]]


def check(layer, given, arguments):
    """Compare outputs and all gradients of a layer with those of four, and return the outputs."""
    split = split_attention(layer)
    expected, found = layer(*given, **arguments), split(*given, **arguments)
    assert same(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None) == (not arguments["need_weights"])
    assert found[1] is None or same(found[1], expected[1])
    free = [*given, *(each for each in arguments.values() if getattr(each, "requires_grad", False))]
    wanted = slopes(expected, [*free, *of_whole(layer)])
    reached = slopes(found, [*free, *of_four(split)])
    n = len(free)
    for one, other in zip([*reached[:n], *packed(reached[n:], layer)], wanted, strict=True):
        assert same(one, other)
    return found


@pytest.mark.parametrize("batched", [True, False], ids=["batch", "one"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "batch second"])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shown", EACH_WEIGHTS)
@pytest.mark.some(3)
def test_outputs_and_gradients_are_those_of_the_whole_layer(shown, kind, batch_first, batched):
    layer = attention(batch_first=batch_first)
    given = inputs(layer, batched)
    found = check(layer, given, masks_of(kind, batched) | EACH_WEIGHTS[shown])
    assert same(layer(*given)[0], found[0]) == (kind == "none")  # control: masks do something


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [{}, {"kdim": 6}, {"vdim": 3}, {"kdim": 6, "vdim": 3}], ids=str)
@pytest.mark.parametrize("shown", EACH_WEIGHTS)
def test_widths_and_biases(shown, widths, bias):
    layer = attention(bias=bias, batch_first=True, **widths)
    check(layer, inputs(layer), EACH_WEIGHTS[shown])
    split = split_attention(layer)
    assert [getattr(split, name).bias is not None for name in PROJECTIONS] == [bias] * 4
    assert split.k_proj.in_features == widths.get("kdim", E)
    assert split.v_proj.in_features == widths.get("vdim", E)


@pytest.mark.parametrize("shown", EACH_WEIGHTS)
def test_a_query_that_may_look_at_nothing(shown):
    """It is NaN or zero, as torch has it."""
    layer = attention(batch_first=True)
    given, hidden = inputs(layer), torch.zeros(N, S, dtype=torch.bool)
    hidden[1] = True
    arguments = {"key_padding_mask": hidden} | EACH_WEIGHTS[shown]
    expected, found = layer(*given, **arguments), split_attention(layer)(*given, **arguments)
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["none", "bool and padding"])
def test_in_evaluation_without_gradients(kind):
    """Where the whole layer takes a way of its own, of one input for all three."""
    layer = attention(batch_first=True).eval()
    split, x = split_attention(layer), torch.randn(N, S, E).double()
    masks = {"attn_mask": hiding(S, S), "key_padding_mask": hiding(N, S)} if kind != "none" else {}
    with torch.no_grad():
        for expected, found in zip(layer(x, x, x, **masks), split(x, x, x, **masks), strict=True):
            assert same(found, expected)


@pytest.mark.parametrize("shown", EACH_WEIGHTS)
def test_dropout_is_that_of_the_whole_layer(shown):
    """In training mode alone; with the same seed it leaves out the same."""
    layer = attention(dropout=0.5, batch_first=True)
    split, given = split_attention(layer), inputs(layer)
    results = []
    for each in (layer, split, split):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(len(results) // 2)  # another one for the last
            results.append(each(*given, **EACH_WEIGHTS[shown]))
    expected, found, other = results
    assert same(found[0], expected[0])
    assert found[1] is None or same(found[1], expected[1])
    assert not same(other[0], found[0])
    expected = layer.eval()(*given, **EACH_WEIGHTS[shown])
    assert same(split.eval()(*given, **EACH_WEIGHTS[shown])[0], expected[0])
    assert not same(found[0], expected[0])


def encoder(*, batch_first=True, norm_first=False, dropout=0.0, bias=True):
    layer = nn.TransformerEncoderLayer(
        E, HEADS, 16, dropout=dropout, batch_first=batch_first, norm_first=norm_first, bias=bias
    )
    nests = batch_first and not norm_first and bias
    return drawn(nn.TransformerEncoder(layer, 2, nn.LayerNorm(E), enable_nested_tensor=nests))


def padding():
    """The last of some rows, as a tokenizer pads them."""
    return torch.arange(S) >= torch.tensor([S, 3, 2])[:, None]


class Calls:
    """Counts the calls of the four layers of each attention."""

    def __init__(self, model):
        self.counts = {}
        for name, part in model.named_modules():
            if name.rpartition(".")[2] in PROJECTIONS:
                part.register_forward_hook(lambda *_, name=name: self.note(name))

    def note(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1


class TestInTransformers:
    @nested
    @pytest.mark.parametrize("padded", [True, False], ids=["padded", "whole"])
    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    @pytest.mark.parametrize("graded", [True, False], ids=["grad", "no grad"])
    @pytest.mark.parametrize(
        "settings", [{}, {"batch_first": False}, {"norm_first": True}, {"bias": False}], ids=str
    )
    def test_an_encoder_is_the_same_and_calls_its_layers(self, settings, graded, training, padded):
        model = encoder(**settings).train(training)
        split = split_attention(model)
        x = torch.randn(N, S, E).double()
        given = x if settings.get("batch_first", True) else x.transpose(0, 1)
        mask = {"src_key_padding_mask": padding()} if padded else {}
        calls = Calls(split)
        with torch.set_grad_enabled(graded):
            expected, found = model(given, **mask), split(given, **mask)
        if not settings.get("batch_first", True):
            expected, found = (each.transpose(0, 1) for each in (expected, found))
        read = ~padding() if padded else torch.ones(N, S, dtype=torch.bool)
        assert same(found[read], expected[read])
        assert calls.counts == {
            f"layers.{i}.self_attn.{name}": 1 for i in range(2) for name in PROJECTIONS
        }
        # What is never read is torch's own matter: zeros before the last normalization.
        faster = padded and not training and not graded and not settings
        assert same(found, expected) == (not faster)

    @nested
    @pytest.mark.parametrize("graded", [True, False], ids=["grad", "no grad"])
    def test_layers_put_in_by_hand(self, graded):
        """Also one by one into an encoder that was made with the whole ones."""
        model = encoder().eval()
        by_hand, x = copy.deepcopy(model), torch.randn(N, S, E).double()
        for i in range(2):
            by_hand.layers[i] = split_attention(by_hand.layers[i])
        assert by_hand.use_nested_tensor  # control
        calls = Calls(by_hand)
        with torch.set_grad_enabled(graded):
            for mask in ({}, {"src_key_padding_mask": padding()}):
                expected, found = model(x, **mask), by_hand(x, **mask)
                read = ~padding() if mask else torch.ones(N, S, dtype=torch.bool)
                assert same(found[read], expected[read])
        assert set(calls.counts.values()) == {2}

    @pytest.mark.parametrize("graded", [True, False], ids=["grad", "no grad"])
    def test_with_two_layers_in_place_of_one(self, graded):
        """Of a kind that has no weight of its own for torch to look at."""
        split = split_attention(encoder().eval())
        x = torch.randn(N, S, E).double()
        expected = split(x, src_key_padding_mask=padding())
        for part in split.modules():
            if isinstance(part, SplitAttention):
                for name in PROJECTIONS:
                    setattr(part, name, nn.Sequential(getattr(part, name), nn.Identity()))
        with torch.set_grad_enabled(graded):
            assert same(split(x, src_key_padding_mask=padding()), expected)

    def test_an_encoder_made_of_a_split_layer_says_that_it_has_no_faster_way(self):
        layer = split_attention(encoder().eval().layers[0])
        with pytest.warns(UserWarning, match="_qkv_same_embed_dim was not True"):
            model = nn.TransformerEncoder(layer, 2)
        assert not model.use_nested_tensor

    def test_only_encoders_with_split_attention_leave_their_faster_way(self):
        model = nn.ModuleList([encoder(), encoder()]).eval()
        for layer in model[1].layers:
            layer.self_attn.__class__ = Own
        assert [each.use_nested_tensor for each in split_attention(model)] == [False, True]
        assert [each.use_nested_tensor for each in model] == [True, True]

    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    @pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "batch second"])
    def test_a_decoder(self, batch_first, training):
        layer = nn.TransformerDecoderLayer(E, HEADS, 16, dropout=0.0, batch_first=batch_first)
        model = drawn(nn.TransformerDecoder(layer, 2)).train(training)
        split = split_attention(model)
        given = [torch.randn(N, length, E).double() for length in (L, S)]
        given = given if batch_first else [each.transpose(0, 1) for each in given]
        causal = nn.Transformer.generate_square_subsequent_mask(L, dtype=torch.float64)
        masks = {"tgt_mask": causal, "memory_key_padding_mask": hiding(N, S)}
        calls = Calls(split)
        assert same(split(*given, **masks), model(*given, **masks))
        assert len(calls.counts) == 2 * 2 * 4
        assert set(calls.counts.values()) == {1}


class TestLayers:
    @pytest.mark.parametrize("batched", [True, False], ids=["batch", "one"])
    @pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "batch second"])
    def test_hooks_see_what_goes_through_with_the_batch_first(self, batch_first, batched):
        split = split_attention(attention(batch_first=batch_first, kdim=6))
        given, seen = inputs(split, batched), {}
        for name in PROJECTIONS:
            layer = getattr(split, name)
            assert type(layer) is nn.Linear
            layer.register_forward_hook(
                lambda part, args, output, name=name: seen.update({name: (args, output)})
            )
        found, _ = split(*given)
        first = given
        if not batched:
            first = [each[None] for each in given]
        elif not batch_first:
            first = [each.transpose(0, 1) for each in given]
        for name, expected in zip(PROJECTIONS, first, strict=False):
            (got,), _ = seen[name]
            assert torch.equal(got, expected)
        n = N if batched else 1
        assert seen["out_proj"][1].shape == (n, L, E)
        assert torch.equal(
            seen["out_proj"][1].reshape(-1, E).sort(0).values, found.reshape(-1, E).sort(0).values
        )

    @pytest.mark.parametrize("place", range(4), ids=PROJECTIONS)
    @pytest.mark.parametrize("shown", EACH_WEIGHTS)
    def test_a_layer_of_low_rank_is_the_whole_one_with_such_weights(self, shown, place):
        layer = attention(batch_first=True)
        split, given = split_attention(layer), inputs(layer)
        old = getattr(split, PROJECTIONS[place])
        U, singular, Vt = torch.linalg.svd(old.weight.detach())
        for rank in (E, 2):
            A, B = Vt[:rank].T * singular[:rank], U[:, :rank].T
            setattr(split, PROJECTIONS[place], LowRankLinear(A, B, old.bias.detach()))
            whole = copy.deepcopy(layer)
            own = whole.out_proj.weight if place == 3 else whole.in_proj_weight
            rows = slice(None) if place == 3 else slice(place * E, (place + 1) * E)
            with torch.no_grad():
                own[rows] = (A @ B).T
            found = split(*given, **EACH_WEIGHTS[shown])[0]
            assert same(found, whole(*given)[0])
            assert same(found, layer(*given)[0]) == (rank == E)  # control


class Twice(nn.Module):
    """One attention in two places, and another one."""

    def __init__(self):
        super().__init__()
        self.first = nn.MultiheadAttention(E, HEADS, batch_first=True)
        self.parts = nn.ModuleList([self.first, nn.MultiheadAttention(E, HEADS, batch_first=True)])
        self.head = nn.Linear(E, 2)

    def forward(self, x):
        for part in (self.first, *self.parts):
            x = x + part(x, x, x, need_weights=False)[0]
        return self.head(x)


class TestCopy:
    def test_the_model_is_left_as_it_was(self):
        model = drawn(Twice())
        before, parts = copy.deepcopy(model.state_dict()), list(model.modules())
        split = split_attention(model)
        with torch.no_grad():
            for parameter in split.parameters():
                parameter.zero_()
        assert list(model.modules()) == parts
        assert model.state_dict().keys() == before.keys()
        assert all(torch.equal(now, before[name]) for name, now in model.state_dict().items())

    def test_one_in_two_places_is_one_in_both(self):
        model, x = drawn(Twice()), torch.randn(N, S, E).double()
        split = split_attention(model)
        assert split.first is split.parts[0]
        assert split.first is not split.parts[1]
        assert not [part for part in split.modules() if isinstance(part, nn.MultiheadAttention)]
        assert same(split(x), model(x))

    def test_a_layer_by_itself(self):
        split = split_attention(attention())
        assert type(split) is SplitAttention

    def test_settings_are_those_of_the_layer(self):
        layer = attention(dropout=0.25, kdim=6, vdim=3, batch_first=True)
        split = split_attention(layer)
        names = ("embed_dim", "kdim", "vdim", "num_heads", "head_dim", "dropout", "batch_first")
        assert [getattr(split, name) for name in names] == [getattr(layer, name) for name in names]
        assert "num_heads=2, dropout=0.25, batch_first=True" in repr(split)

    @pytest.mark.parametrize("widths", [{}, {"kdim": 6}], ids=["packed", "separate"])
    @pytest.mark.parametrize("trained", ["weights", "biases", "out_proj"])
    def test_what_is_trained_stays_so(self, trained, widths):
        layer = attention(**widths)
        for name, parameter in layer.named_parameters():
            out = name.startswith("out_proj")
            own = "biases" if name.endswith("bias") else "weights"
            parameter.requires_grad_(trained == ("out_proj" if out else own))
        with torch.no_grad():
            split = split_attention(layer)
        found = {name for name, each in split.named_parameters() if each.requires_grad}
        assert (
            found
            == {
                "weights": {f"{name}.weight" for name in PROJECTIONS[:3]},
                "biases": {f"{name}.bias" for name in PROJECTIONS[:3]},
                "out_proj": {"out_proj.weight", "out_proj.bias"},
            }[trained]
        )

    def test_modes_stay(self):
        model = Twice().train()
        model.first.eval()
        split = split_attention(model)
        assert split.training
        assert {part.training for part in split.first.modules()} == {False}
        assert {part.training for part in split.parts[1].modules()} == {True}

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_dtype_and_device_stay(self, device, dtype):
        layer = nn.MultiheadAttention(E, HEADS, device=device, dtype=dtype)
        found = list(split_attention(layer).parameters())
        assert len(found) == 8
        assert {(each.device.type, each.dtype) for each in found} == {(device, dtype)}

    def test_nothing_is_drawn(self):
        layer, before = attention(), torch.get_rng_state()
        split_attention(layer)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("way", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
    def test_a_copy_of_the_copy_is_the_same(self, way):
        split, x = split_attention(encoder().eval()), torch.randn(N, S, E).double()
        other, mask = way(split), padding()
        with torch.no_grad():
            expected = split(x, src_key_padding_mask=mask)
            assert torch.equal(other(x, src_key_padding_mask=mask), expected)
            other.layers[0].self_attn.q_proj.weight.zero_()
            assert not same(other(x, src_key_padding_mask=mask), expected)
            assert torch.equal(split(x, src_key_padding_mask=mask), expected)

    @pytest.mark.slow
    def test_its_program_runs_with_other_sizes(self):
        """Also where there are as many positions as heads in a batch."""
        model = encoder().eval()

        def given(n, length):
            masks = hiding(n * HEADS, length, length), hiding(n, length)
            named = dict(zip(("mask", "src_key_padding_mask"), masks, strict=True))
            return (torch.randn(n, length, E).double(),), named | {"is_causal": False}

        auto = torch.export.Dim.AUTO
        shapes = {name: {0: auto, 1: auto} for name in ("src", "src_key_padding_mask")}
        shapes |= {"mask": {0: auto, 1: auto, 2: auto}, "is_causal": None}
        args, masks = given(N, S)
        programs = [
            torch.export.export(each, args, masks, dynamic_shapes=shapes).module()
            for each in (model, split_attention(model))
        ]
        for n, length in [(N, S), (5, 7), (N, N * HEADS)]:
            args, masks = given(n, length)
            expected, found = (each(*args, **masks) for each in programs)
            assert same(found, expected)
            assert same(found, model(*args, **masks))


def hooked():
    layer = attention()
    layer.register_forward_hook(lambda part, args, output: output)
    return layer


def own_forward():
    layer = attention()
    layer.forward = lambda *args, **kwargs: args
    return layer


def pruned():
    layer = attention()
    prune.identity(layer.out_proj, "weight")
    return layer


def tied():
    layer = nn.Sequential(attention(), attention())
    layer[1].in_proj_weight = layer[0].in_proj_weight
    return layer


class Own(nn.MultiheadAttention):
    pass


class TestRefusals:
    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (lambda: nn.Linear(2, 2), "model has no nn.MultiheadAttention.* Linear.*Hugging Face"),
            (lambda: Own(E, HEADS), "of that very class"),
            (lambda: attention, "model is function; expected an nn.Module"),
            (lambda: attention(add_bias_kv=True), "itself has bias_k.*expected add_bias_kv=False"),
            (lambda: attention(add_zero_attn=True), "expected add_zero_attn=False"),
            (
                lambda: nn.Sequential(attention(), attention(add_zero_attn=True)),
                "'1' of Sequential adds a key of zeros",
            ),
            (hooked, "has forward_hooks, which.*Remove that"),
            (own_forward, "has a forward of its own, which.*Remove that"),
            (pruned, "the parameters 'out_proj.weight_orig'.*Undo the pruning"),
            (tied, "'0' of Sequential shares its weights.*Untie them"),
        ],
    )
    def test_models(self, make, said):
        with pytest.raises(ValueError, match=said):
            split_attention(make())

    def test_a_layer_from_which_none_can_be_made(self):
        with pytest.raises(ValueError, match=r"^The nn.MultiheadAttention has bias_k"):
            SplitAttention(attention(add_bias_kv=True))

    def test_packed_weights_are_not_there(self):
        split = split_attention(attention())
        with pytest.raises(TypeError, match=r"no packed in_proj_weight.*q_proj"):
            nn.functional.linear(torch.zeros(1, E), split.in_proj_weight)

    @pytest.mark.parametrize(
        ("shapes", "batch_first"),
        [
            ([(1, L, E), (N, S, E), (N, S, E)], True),  # these would be broadcast
            ([(L, 1, E), (S, N, E), (S, N, E)], False),
            ([(N, L, E), (N, S, E), (N, 1, E)], True),
            ([(N, L, E), (S, E), (S, E)], True),
            ([(L, E), (1, S, E), (1, S, E)], False),
            ([(1, N, L, E), (1, N, S, E), (1, N, S, E)], True),
            ([(E,), (E,), (E,)], False),
        ],
    )
    def test_shapes(self, shapes, batch_first):
        layer = attention(batch_first=batch_first)
        given = [torch.zeros(shape).double() for shape in shapes]
        with pytest.raises((AssertionError, RuntimeError)):
            layer(*given)
        said = r"have the shapes .*; expected .*\(" + ("n, L" if batch_first else "L, n")
        with pytest.raises(ValueError, match=said):
            split_attention(layer)(*given)

    @nested
    def test_nested_tensors(self):
        split = split_attention(attention(batch_first=True))
        x = torch.nested.nested_tensor([torch.zeros(2, E), torch.zeros(3, E)])
        with pytest.raises(ValueError, match="nested tensor; expected padded ones"):
            split(x, x, x)

    @pytest.mark.parametrize(
        ("masks", "said"),
        [
            # The first two would be broadcast.
            ({"attn_mask": torch.zeros(1, S)}, r"attn_mask .*\(1, 5\).*\(4, 5\) or \(6, 4, 5\)"),
            ({"key_padding_mask": torch.zeros(1, S)}, r"key_padding_mask .*expected \(3, 5\)"),
            ({"key_padding_mask": torch.zeros(S)}, r"key_padding_mask .*expected \(3, 5\)"),
            ({"attn_mask": torch.zeros(N, L, S)}, r"\(3, 4, 5\).*or \(6, 4, 5\)"),
            ({"attn_mask": torch.zeros(L, S).long()}, "attn_mask is of torch.int64.*expected bool"),
            ({"is_causal": True}, "is_causal=True.*Pass it"),
        ],
    )
    def test_masks(self, masks, said):
        layer = attention(batch_first=True)
        given = inputs(layer)
        with pytest.raises((AssertionError, RuntimeError)):
            layer(*given, **masks)
        with pytest.raises(ValueError, match=said):
            split_attention(layer)(*given, **masks)
