"""Whole networks of convolutions and tokens: budgets, axes, groups, training, and odd models."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from skfairft import FairnessWarning, compress, split_attention
from skfairft.backbone.batches import ModuleBatches
from skfairft.compression.outputs import MEANINGS
from skfairft.compression.plan import Plan
from skfairft.compression.sampled import _RATES, ALIKE, distill_sampled, drawing_shares
from skfairft.lowrank.layer import LowRankConv, LowRankLinear
from skfairft.lowrank.maps import layer_maps
from skfairft.rows.hold_out import hold_out

# Of small networks and few rows training is often no gain, which a warning says.
pytestmark = pytest.mark.filterwarnings("ignore:refine=.* trained in vain:UserWarning")

N, K = 160, 4
THIN = (LowRankConv, LowRankLinear)


def groups_of(n):
    return np.arange(n) % 4 == 0


class Block(nn.Module):
    def __init__(self, before, after, groups=1):
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, groups=groups)
        self.short = nn.Conv2d(before, after, 1, stride=2)

    def forward(self, x):
        h = nn.functional.relu_(self.norm(self.first(x)))
        return torch.relu(self.second(h) + self.short(x))


class Residual(nn.Module):
    def __init__(self, groups=1):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(8, 12, groups), Block(12, 16, groups))
        self.head = nn.Linear(16, K)

    def forward(self, x):
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        return self.head(x.mean((2, 3)))


class Encoder(nn.Module):
    """A transformer of tokens whose attention is called."""

    def __init__(self, batch_first=True):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(12, 2, 20, batch_first=batch_first)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head, self.axis = nn.Linear(12, K), 1 if batch_first else 0

    def forward(self, x):
        if self.axis == 0:
            x = x.transpose(0, 1)
        return self.head(self.body(x).mean(self.axis))


def sequences():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(5, 10, 3, padding="same"),
        nn.ReLU(inplace=True),
        nn.Conv1d(10, 4, 3, dilation=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.Tanh(),
        nn.Linear(16, K),
    )


def draw(*shape):
    """Of two groups, one rarer, which is smoother and elsewhere."""
    X = torch.randn(N, *shape, generator=torch.Generator().manual_seed(1))
    rare = groups_of(N)
    X[rare] = 0.7 * X[rare].cumsum(-1) + 0.5
    return X


def bert(**settings):
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=K,
        max_position_embeddings=20,
        **settings,
    )
    return hf.BertForSequenceClassification(config)


def gpt2():
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = hf.GPT2Config(
        vocab_size=30, n_positions=20, n_embd=16, n_layer=2, n_head=2, num_labels=K, pad_token_id=0
    )
    return hf.GPT2ForSequenceClassification(config)


def texts():
    rng = np.random.default_rng(0)
    return [
        " ".join(map(str, rng.integers(10 if rare else 1, 30, size=rng.integers(2, 9))))
        for rare in groups_of(N)
    ]


def tokenize(batch):
    ids = [torch.tensor([int(word) for word in text.split()]) for text in batch]
    ids = nn.utils.rnn.pad_sequence(ids, batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def tokenize_alike(batch):
    found = tokenize([*batch, "1 " * 9])
    return {name: values[:-1] for name, values in found.items()}


MODELS = {
    "residual": (Residual, lambda: draw(3, 8, 8), {}),
    "encoder": (lambda: split_attention(Encoder()), lambda: draw(6, 12), {}),
    "sequences": (sequences, lambda: draw(5, 12), {}),
    "bert": (bert, texts, {"preprocess": tokenize_alike}),
    "gpt2": (gpt2, texts, {"preprocess": tokenize_alike}),
}
EACH = pytest.mark.parametrize("name", MODELS)
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("bert", "gpt2", "encoder")]
FEW = pytest.mark.parametrize("name", ["residual", "sequences", *SLOW])
KFAC = pytest.mark.parametrize("settings", [{}, {"loss": "softmax"}], ids=["covariance", "kfac"])


def make(name):
    new, rows, settings = MODELS[name]
    return new().eval(), rows(), settings


def small_of(model, X, **settings):
    usual = {"sensitive_features": groups_of(len(X)), "random_state": 0}
    if not {"rank", "parameters", "flops"} & settings.keys():
        usual["parameters"] = 0.6
    return compress(model, X, **usual | settings)


@torch.no_grad()
def run(model, X, settings):
    preprocess = settings.get("preprocess")
    out = model(X) if preprocess is None else model(**preprocess(X))
    return out if isinstance(out, torch.Tensor) else out.logits


def cut_layers(model):
    return [name for name, part in model.named_modules() if isinstance(part, THIN)]


def size(layer):
    return sum(each.numel() for each in layer.parameters())


def flops(model, X, settings):
    with FlopCounterMode(display=False) as counter:
        run(model, X, settings)
    return counter.get_total_flops()


def divergences(model, small, X, settings, loss="softmax"):
    each = MEANINGS[loss].divergence(run(small, X, settings), run(model, X, settings))
    return torch.stack([each[groups_of(len(X)) == group].mean() for group in (False, True)])


def near(found, expected, ratio=1e-5):
    found, expected = found.detach(), expected.detach()
    return bool((found - expected).abs().max() <= ratio * expected.abs().max())


@pytest.mark.parametrize("value", [np.bool_(True), np.ones(2), 1, "true"])
def test_sequential_is_true_false_or_auto(value):
    model, X, _ = make("sequences")
    is_flag = isinstance(value, np.bool_)
    match = "sequential=True and importance='uniform'" if is_flag else "expected True, False or"
    with pytest.raises(ValueError, match=match):
        small_of(model, X, sequential=value, importance="uniform")


@EACH
class TestBudgets:
    @KFAC
    @pytest.mark.parametrize("share", [0.45, pytest.param(0.8, marks=pytest.mark.slow)])
    @pytest.mark.some(2)
    def test_of_parameters_are_kept(self, name, settings, share):
        model, X, own = make(name)
        small = small_of(model, X, parameters=share, **own, **settings)
        layers = layer_maps(model)
        before = sum(size(seen.layer) for seen in layers.values())
        after = sum(size(small.get_submodule(layer)) for layer in layers)
        assert cut_layers(small)
        assert after <= share * before
        assert after >= 0.7 * share * before  # and not left unused
        assert size(model) - size(small) == before - after  # nothing else changed

    @KFAC
    @pytest.mark.parametrize("share", [pytest.param(0.45, marks=pytest.mark.slow), 0.8])
    @pytest.mark.some(2)
    def test_of_multiplications_are_kept(self, name, settings, share):
        """Beside what the layers do, torch counts the products of attention, which stay."""
        model, X, own = make(name)
        small = small_of(model, X, flops=share, batch_size=N, **own, **settings)
        rest = 0
        if name in ("bert", "gpt2", "encoder"):
            whole = flops(model, X, own)
            layers = sum(layer_flops(model, X, own).values())
            rest = whole - layers
        assert flops(small, X, own) - rest <= share * (flops(model, X, own) - rest) * (1 + 1e-9)

    @pytest.mark.some(2)
    def test_of_nearly_nothing_is_rank_1_of_each(self, name):
        model, X, own = make(name)
        layers = layer_maps(model).values()
        least = sum(min(seen.thin_size(1), seen.size) for seen in layers)
        share = 1.0001 * least / sum(seen.size for seen in layers)
        small = small_of(model, X, parameters=share, **own)
        assert {small.get_submodule(each).rank for each in cut_layers(small)} == {1}
        with pytest.raises(ValueError, match="Pass more, or name fewer layers"):
            small_of(model, X, parameters=0.99 * share, **own)

    def test_of_nearly_all_leave_something_to_cut(self, name):
        model, X, own = make(name)
        assert cut_layers(small_of(model, X, flops=1.0 - 1e-9, **own))

    @pytest.mark.some(2)
    def test_in_turn_the_outputs_are_nearer(self, name):
        model, X, own = make(name)
        alone, in_turn = (
            divergences(model, small_of(model, X, sequential=way, **own), X, own, "squared").mean()
            for way in (False, True)
        )
        assert in_turn < 1.02 * alone


@pytest.mark.parametrize("name", ["residual", "encoder", "sequences", "bert"])
@pytest.mark.some(2)
def test_a_small_last_layer_is_left_whole_unless_it_is_named(name):
    model, X, own = make(name)
    last = list(layer_maps(model))[-1]
    assert last not in cut_layers(small_of(model, X, parameters=0.8, **own))
    named = small_of(model, X, parameters=0.5, layers=list(layer_maps(model)), **own)
    seen = layer_maps(model)[last]
    assert (last in cut_layers(named)) is (seen.thin_size(1) < 0.5 * seen.size)


def layer_flops(model, X, settings):
    """By layer, from what goes in and comes out."""
    found, handles = {}, []
    for name, seen in layer_maps(model).items():

        def note(part, args, output, name=name, seen=seen):
            before, after = seen.features(args[0]).shape[1], seen.positions(output).shape[1]
            found[name] = 2 * len(output) * seen.work(before, after)[1]

        handles.append(seen.layer.register_forward_hook(note))
    run(model, X, settings)
    for handle in handles:
        handle.remove()
    return found


class TestMinimax:
    @pytest.mark.parametrize("loss", [None, "softmax"])
    @FEW
    def test_the_worst_group_never_diverges_more_than_by_other_weights(self, name, loss):
        model, X, own = make(name)
        settings = own | {"borrowed_rows": 0, "sequential": True}
        worst = [
            float(
                divergences(
                    model,
                    small_of(model, X, group_weights=each, loss=loss, random_state=0, **settings),
                    X,
                    own,
                    loss or "squared",
                ).max()
            )
            for each in ("minimax", "auto", "proportional", None)
        ]
        assert max(worst[:2]) <= min(worst[2:]) * (1 + 1e-5)

    @pytest.mark.parametrize(
        ("damage", "best"),
        [
            (([0.1, 0.2], [0.3, 0.1], [0.25, 0.2]), 0),
            (([0.1, 0.5], [0.3, 0.1], [0.4, 0.2]), 1),
            (([0.1, 0.5], [0.3, 0.1], [0.25, 0.2]), 2),
            (([0.1, 0.5], [0.0, 0.0]), 1),
        ],
    )
    def test_it_is_the_best_of_three_for_the_worst_group(self, monkeypatch, damage, best):
        """All rows alike, groups alike, and groups by what the second of these has them lose."""
        tried = []

        def cut(plan, shares):
            tried.append((shares.tolist(), torch.equal(plan.mixing, torch.eye(2).double())))
            return len(tried) - 1, {}

        told = [torch.tensor(each).double() for each in damage]
        monkeypatch.setattr(Plan, "cut", cut)
        monkeypatch.setattr(Plan, "_damage", lambda plan, number, _: told[number])
        mixing = torch.tensor([[0.9, 0.1], [0.4, 0.6]]).double()
        codes = torch.tensor([0, 0, 0, 1])
        plan = Plan(None, None, codes, None, {}, 2, None, False, True, mixing)
        assert plan.least_worst(None) == (best, {})
        expected = [([0.75, 0.25], True), ([0.5, 0.5], False), ([0.75, 0.25], False)]
        assert [each[1] for each in tried] == [each[1] for each in expected][: len(damage)]
        np.testing.assert_allclose(
            [each[0] for each in tried], [each[0] for each in expected][: len(damage)]
        )

    @pytest.mark.parametrize("loss", [None, "softmax", "squared"])
    def test_it_is_judged_by_the_loss_that_is_given(self, monkeypatch, loss):
        """Also where nothing else needs it."""
        model, X, _ = make("sequences")
        found, least_worst = [], Plan.least_worst
        monkeypatch.setattr(
            Plan, "least_worst", lambda plan, of: found.append(of) or least_worst(plan, of)
        )
        settings = {"importance": "covariance", "sequential": True, "group_weights": "minimax"}
        small_of(model, X, loss=loss, **settings)
        assert found == [MEANINGS[loss or "squared"].divergence]
        with pytest.raises(ValueError, match="loss='no such' is not known"):
            small_of(model, X, loss="no such", **settings)

    @pytest.mark.parametrize("refine", [None, "distill", "distill_network"])
    def test_by_default_it_is_that_of_layers_in_turn(self, refine):
        model, X, _ = make("sequences")
        found = [
            small_of(model, X, refine=refine, loss="softmax", max_iter=20, **each).state_dict()
            for each in ({}, {"group_weights": "minimax"})
        ]
        assert all(map(torch.equal, *(each.values() for each in found)))

    def test_what_a_group_loses_is_of_its_own_rows(self, monkeypatch):
        """However many it borrows for the cut."""
        model, X, own = make("residual")
        plans, least_worst = [], Plan.least_worst
        monkeypatch.setattr(
            Plan, "least_worst", lambda plan, of: plans.append((plan, of)) or least_worst(plan, of)
        )
        small = small_of(model, X, rank=2, loss="softmax", borrowed_rows=1e6)
        ((plan, divergence),) = plans
        expected = divergences(model, small, X, own, "softmax")
        torch.testing.assert_close(plan._damage(small, divergence), expected, check_dtype=False)

    def test_of_a_loss_below_zero_no_group_has_less_than_no_weight(self, monkeypatch):
        """Such as one that tells too much from too little."""
        model, X, _ = make("sequences")
        weights, cut = [], Plan.cut
        monkeypatch.setattr(Plan, "cut", lambda own, s: weights.append(s) or cut(own, s))
        losses = []

        def loss(out, target):
            losses.append((out - target).sum(1))
            return losses[-1]

        small_of(model, X, group_weights="minimax", loss=loss, sequential=True)
        assert min(map(torch.min, losses)) < 0.0  # control
        assert all(each.min() >= 0.0 and each.sum() == pytest.approx(1.0) for each in weights)


class TestWhichLayers:
    @pytest.mark.parametrize("groups", [2, 4])
    def test_grouped_convolutions_are_left_alone(self, groups):
        model, X = Residual(groups).eval(), draw(3, 8, 8)
        small = small_of(model, X, parameters=0.5)
        for i in range(2):
            before, after = model.blocks[i].second, small.blocks[i].second
            assert type(after) is nn.Conv2d
            assert torch.equal(before.weight, after.weight)
        with pytest.raises(ValueError, match=r"\['blocks.0.second'\] are grouped convolutions"):
            small_of(model, X, layers=["stem", "blocks.0.second"])

    def test_attention_that_is_not_split_is_refused_by_name_and_left_by_default(self):
        model, X = Encoder(), draw(6, 12)
        with pytest.raises(ValueError, match=r"pass split_attention\(model\)"):
            small_of(model, X, layers="body.layers.0.self_attn")

    def test_convolutions_that_share_weights_are_left_out(self):
        model, X = Residual().eval(), draw(3, 8, 8)
        model.blocks[1].second.weight = nn.Parameter(torch.randn(16, 16, 3, 3) / 12)
        model.other = nn.Conv2d(16, 16, 3)
        model.other.weight = model.blocks[1].second.weight
        assert not {"blocks.1.second", "other"} & {*cut_layers(small_of(model, X))}
        with pytest.raises(ValueError, match="share their weights"):
            small_of(model, X, layers="blocks.1.second")

    def test_those_of_transformers_are_cut_where_they_are_named(self):
        model, X, own = make("gpt2")
        small = small_of(model, X, rank={"transformer.h.0.mlp.c_fc": 3}, **own)
        assert cut_layers(small) == ["transformer.h.0.mlp.c_fc"]
        assert small.transformer.h[0].mlp.c_fc.weight.shape == (64, 16)  # as nn.Linear has it

    def test_layers_of_one_input_are_cut_together(self):
        """Query, key and value of the first block get what no cut layer changed."""
        model, X, own = make("bert")
        plain = own | {"group_weights": None}
        in_turn, alone = (small_of(model, X, rank=3, sequential=s, **plain) for s in (True, False))
        first = "bert.encoder.layer.0.attention.self."
        for name in cut_layers(in_turn):
            same = near(in_turn.get_submodule(name).weight, alone.get_submodule(name).weight, 1e-4)
            assert same is name.startswith(first)


class TestAxes:
    """Rows come first, and sequences first are refused or left out."""

    def first(self):
        return split_attention(Encoder(batch_first=False)).eval()

    def test_sequences_first_are_left_out(self):
        """SplitAttention gets the batch first whatever; other layers do not."""
        small = small_of(self.first(), draw(6, 12), rank=2)
        names = cut_layers(small)
        assert not [name for name in names if "linear" in name]

    def test_sequences_first_are_refused_by_name(self):
        with pytest.raises(ValueError, match=r"inputs of shape \(6, 160, 12\) for 160 rows"):
            small_of(self.first(), draw(6, 12), rank=2, layers="body.layers.0.linear1")

    @pytest.mark.parametrize("first", [True, False])
    def test_where_a_batch_is_as_long_as_a_sequence_it_cannot_be_told(self, first):
        model, X = self.first() if first else split_attention(Encoder()).eval(), draw(16, 12)
        layer = "body.layers.0.linear1"
        with pytest.raises(ValueError, match="which is that of the rows: pass another batch_size"):
            small_of(model, X, rank=2, layers=layer, batch_size=16)
        with pytest.warns(
            UserWarning, match=r"linear1'.* are left out: .* Pass another batch_size"
        ):
            assert layer not in cut_layers(small_of(model, X, rank=2, batch_size=16))

    def test_another_batch_settles_it(self):
        model, X = split_attention(Encoder()).eval(), draw(16, 12)
        layer = "body.layers.0.linear1"
        # 160 rows are ten batches of 16, or eight of 19 and one of 8.
        found = [small_of(model, X, rank=2, layers=layer, batch_size=n)(X) for n in (19, 160)]
        assert near(*found)
        model = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12), Mean())
        found = [small_of(model, draw(16, 12), rank=2, batch_size=n) for n in (16 * 9 + 1, 160)]
        assert all(cut_layers(each) == ["0", "2"] for each in found)
        turned = nn.Sequential(Turned(), *model[:3], Turned(), Mean())
        with pytest.raises(ValueError, match=r"inputs of shape \(16, 144, 12\)"):
            small_of(turned, X, rank=2, layers="1", batch_size=144)

    def test_an_unbatched_convolution_is_left_out(self):
        class OneByOne(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.out = nn.Conv1d(5, 5, 3), nn.Linear(5, K)

            def forward(self, x):
                return self.out(torch.stack([self.conv(each).mean(1) for each in x]))

        for rows in (1, N):  # one row: it is called once
            X = draw(5, 12)
            settings = {"batch_size": 1} if rows == 1 else {}
            assert cut_layers(small_of(OneByOne(), X, rank=1, **settings)) == ["out"]

    def test_nested_tensors_are_left_out(self):
        """As torch's own encoder makes of sequences with padding, where attention is not split."""

        class Padded(Encoder):
            def forward(self, x):
                gaps = (x == 0.0).all(2)
                found = self.body(x, src_key_padding_mask=gaps if gaps.any() else None)
                return self.head(found.nan_to_num().mean(1))

        model, X = Padded().eval(), draw(6, 12)
        model.body = nn.TransformerEncoder(model.body.layers[0], 1, enable_nested_tensor=True)
        first_whole = X.clone()
        X[::3, 4:] = first_whole[100:, 4:] = 0.0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
            for loss in (None, "softmax"):  # with gradients they are not nested, without they are
                with pytest.warns(
                    UserWarning,
                    match=r"linear1', .* left out: .* nested .* split_attention\(model\)",
                ):
                    assert cut_layers(small_of(model, X, rank=2, loss=loss)) == ["head"]
            with pytest.raises(
                ValueError, match=r"gets nested tensors; expected .* split_attention\(model\)"
            ):
                small_of(model, X, rank=2, layers="body.layers.0.linear1")
            with pytest.raises(
                ValueError, match=r"nested tensors where .* split_attention\(model\)"
            ):
                small_of(
                    model, first_whole, rank=2, loss="softmax"
                )  # which a look at some rows does not find
        assert len(cut_layers(small_of(split_attention(model), X, rank=2))) == 7

    def test_padding_by_the_batch_is_taken(self):
        model, X, _ = make("bert")
        small = small_of(model, X, preprocess=tokenize, batch_size=50)
        assert len(cut_layers(small)) > 5
        trained = small_of(
            model,
            X,
            preprocess=tokenize,
            batch_size=50,
            refine="distill_network",
            loss="softmax",
            max_epochs=1,
        )
        assert len(cut_layers(trained)) > 5

    def test_outputs_of_other_lengths_in_each_batch_are_refused_where_they_are_kept(self):
        model, X = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 8), nn.Linear(8, 8)), texts()
        settings = {"preprocess": lambda batch: tokenize(batch)["input_ids"], "rank": 2}
        settings |= {"batch_size": 5, "group_weights": None}
        assert cut_layers(small_of(model, X, **settings)) == ["1", "2"]
        for more in (
            {"group_weights": "minimax"},
            {"group_weights": "auto"},
            {"refine": "distill", "loss": "squared"},
        ):
            with pytest.raises(
                ValueError, match=r"outputs of other shapes in each batch.* Pad all"
            ):
                small_of(model, X, **settings | more)
        alone = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 8))
        assert cut_layers(small_of(alone, X, **settings | {"group_weights": "auto"})) == ["1"]


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


class Turned(nn.Module):
    def forward(self, x):
        return x.transpose(0, 1)


class Lowest(nn.Module):
    """Ends in convolutions of one position, as LeNet does, and counts what is drawn."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 6)

    def forward(self, x):
        return self.last(torch.relu(self.first(x))).flatten(1)


def loud(model):
    """Let it say something: it is not trained."""
    with torch.no_grad():
        list(layer_maps(model).values())[-1].layer.weight.mul_(20.0)
    return model


DISTILL = {"loss": "softmax", "max_epochs": 4}
# From a start that leaves much to gain.
LONGER = DISTILL | {"max_epochs": 20, "importance": "uniform"}


class TestDistill:
    @pytest.mark.parametrize(
        ("name", "refine"),
        [
            ("residual", "distill_network"),
            ("sequences", "distill"),
            *(
                pytest.param(*each, marks=pytest.mark.slow)
                for each in [
                    ("residual", "distill"),
                    ("sequences", "distill_network"),
                    ("encoder", "distill"),
                    ("encoder", "distill_network"),
                ]
            ),
        ],
    )
    def test_brings_the_outputs_nearer(self, name, refine):
        model, X, own = make(name)
        loud(model)
        before, after = (
            divergences(
                model, small_of(model, X, refine=each, parameters=0.3, **LONGER), X, own
            ).mean()
            for each in (None, refine)
        )
        assert after < 0.95 * before

    @pytest.mark.parametrize("refine", ["distill", "distill_network"])
    def test_changes_what_it_may(self, refine):
        """Thin layers; else all that learns, but nothing that is frozen, nor running statistics."""
        model, X, _ = make("residual")
        loud(model).train()  # in the mode of training, which is not that of its passes
        model.blocks[0].norm.requires_grad_(False)
        model.stem.requires_grad_(False)
        names = ["blocks.0.first", "blocks.1.second"]
        start, small = (
            small_of(model, X, rank=dict.fromkeys(names, 3), refine=each, **LONGER)
            for each in (None, refine)
        )
        changed = {
            name
            for name, values in small.state_dict().items()
            if not torch.equal(values, start.state_dict()[name])
        }
        thin = {name for name in small.state_dict() if name.startswith(tuple(names))}
        learns = {name for name, each in small.named_parameters() if each.requires_grad}
        assert changed == (thin if refine == "distill" else learns)
        assert not [name for name in changed if "running" in name or "stem" in name]
        assert [each.requires_grad for each in small.stem.parameters()] == [False, False]
        assert all(each.grad is None for each in small.parameters())
        assert small.training

    @pytest.mark.parametrize("rank", [{"last": 2}, {"last": 3, "first": 2}])
    def test_a_convolution_of_one_position_is_trained_as_others(self, rank):
        model, X = loud(Lowest()).eval(), draw(3, 8, 8)
        before, after = (
            divergences(
                model,
                small_of(model, X, rank=rank, refine=each, loss="squared", max_epochs=20),
                X,
                {},
                "squared",
            ).mean()
            for each in (None, "distill")
        )
        assert after <= before
        assert after < 0.97 * before or len(rank) == 1  # of one it is the least already

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_has_room_for_its_steps_in_half_precision(self, dtype):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU())
        model.append(nn.Linear(12, K))
        model, X = model.to(dtype), draw(8).to(dtype)
        settings = DISTILL | {"max_epochs": 30, "parameters": 0.6, "group_weights": None}
        single = copy.deepcopy(model).float()
        found = [
            [
                float(
                    divergences(each, small_of(each, rows, refine=how, **settings), rows, {}).sum()
                )
                for how in (None, "distill_network")
            ]
            for each, rows in ((model, X), (single, X.float()))
        ]
        gained = [after / before for before, after in found]
        assert gained[1] < 0.99
        assert gained[0] < 0.5 + 0.5 * gained[1]

    def test_a_rate_that_wrecks_it_does_not_spoil_the_next(self, monkeypatch):
        model, X, own = make("residual")
        loud(model)
        before, after = [], []
        for found, rates in ((before, (10.0,)), (after, (10.0, 1e-3))):
            monkeypatch.setattr("skfairft.compression.sampled._RATES", rates)
            small = small_of(model, X, refine="distill_network", parameters=0.3, **LONGER)
            found.append(float(divergences(model, small, X, own).sum()))
        assert after[0] < 0.9 * before[0]

    @pytest.mark.parametrize(
        ("weights", "how"),
        [
            ("auto", {}),
            ("proportional", {}),
            (None, {"importance": "covariance", "sequential": True}),
            ("minimax", {"importance": "covariance", "sequential": True}),
        ],
    )
    @pytest.mark.some(3)
    def test_rows_held_out_are_not_known_to_the_cut(self, weights, how, monkeypatch):
        """Else no training would be a gain on them."""
        monkeypatch.setattr("skfairft.compression.sampled._RATES", ())
        model, X, _ = make("residual")
        rng = np.random.RandomState(0)
        rng.randint(2**31 - 1)  # seeds what torch draws
        held_out = hold_out(groups_of(N).astype(int), np.ones(N), 0.2, rng)
        other = X.clone()
        other[held_out] = 9.0 * torch.randn(other[held_out].shape)
        settings = {"parameters": 0.3, "group_weights": weights, "random_state": 0, **how}
        y = None if how else torch.arange(N) % K
        started, cut = (
            [
                small_of(model, rows, y=y, loss="softmax", refine=refine, **settings)(X)
                for rows in (X, other)
            ]
            for refine in ("distill_network", None)
        )
        assert near(started[1], started[0])
        assert not near(cut[1], cut[0], 0.01)

    @pytest.mark.parametrize(
        ("name", "loss"),
        [
            pytest.param("residual", {}, marks=pytest.mark.slow),
            ("sequences", {"importance": "fisher"}),
            ("sequences", {}),
        ],
    )
    def test_a_batch_may_be_held_out_as_a_whole(self, name, loss, monkeypatch):
        monkeypatch.setattr("skfairft.compression.sampled._RATES", ())
        model, X, own = make(name)
        found = [
            small_of(
                model, X, batch_size=size, refine="distill_network", y=torch.arange(N) % K,
                **DISTILL, **loss, **own,
            )(X)
            for size in (1, N)
        ]  # fmt: skip
        assert near(found[0], found[1], 1e-3)

    def test_the_same_seed_is_the_same_network(self):
        model, X, _ = make("sequences")
        found = [
            small_of(model, X, random_state=seed, refine="distill_network", **DISTILL)(X)
            for seed in (0, 0, 1)
        ]
        assert torch.equal(found[0], found[1])
        assert not torch.equal(found[0], found[2])

    @pytest.mark.parametrize("weights", [None, "minimax", "proportional", [0.5, 0.5]])
    @pytest.mark.some(2)
    def test_rows_are_drawn_by_group(self, weights, monkeypatch):
        """All groups as `drawing_shares` says; by their rows where weights are given."""
        drawn, some = [], ModuleBatches.some
        monkeypatch.setattr(
            ModuleBatches, "some", lambda self, index: drawn.append(index) or some(self, index)
        )
        model, X = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, K)), draw(3).repeat(3, 1)
        s = np.arange(len(X)) % 16 == 0
        small_of(
            model,
            X,
            sensitive_features=s,
            rank={"0": 1},
            refine="distill_network",
            loss="softmax",
            max_epochs=40,
            group_weights=weights,
            borrowed_rows=0,
        )
        index = torch.cat(drawn[2:]).numpy()  # but for the look at how rows come out
        n_train = len(index) // (40 * len(_RATES))
        assert 0.75 * len(X) <= n_train <= 0.85 * len(X)
        assert len(np.unique(index)) <= n_train  # those held out are not drawn
        counts = torch.tensor([(~s).sum(), s.sum()])
        by_rows = (counts / counts.sum())[1].item()
        expected = by_rows if weights in ("proportional", [0.5, 0.5]) else None
        if expected is None:
            expected = float(drawing_shares(counts)[1])
            assert expected == pytest.approx((1 - ALIKE) * by_rows + ALIKE / 2)
        deviation = np.sqrt(expected * (1 - expected) / len(index))
        assert abs(s[index].mean() - expected) < 5 * deviation

    def test_rows_held_out_run_only_to_judge_by(self, monkeypatch):
        model, X, _ = make("sequences")
        of = {}

        def spied(*args, **kwargs):
            of["held out"] = args[5].numpy()
            return distill_sampled(*args, **kwargs)

        def runs(sequential, max_epochs):
            read = np.zeros(N, int)

            def load(numbers):
                np.add.at(read, list(numbers), 1)
                return X[list(numbers)]

            how = {"importance": "covariance", "sequential": sequential, "max_epochs": max_epochs}
            small_of(
                model, list(range(N)), preprocess=load, refine="distill_network", loss="softmax",
                batch_size=N, **how,
            )  # fmt: skip
            return read

        monkeypatch.setattr("skfairft.compression.training.distill_sampled", spied)
        alone, in_turn, longer = runs(False, 1), runs(True, 1), runs(True, 2)
        held_out = of["held out"]
        assert 0 < held_out.sum() < N // 2
        # As often whether layers are cut in turn or not, and once after each epoch.
        assert np.array_equal(in_turn[held_out], alone[held_out])
        assert np.all(in_turn[~held_out] > alone[~held_out])
        assert np.array_equal((longer - in_turn)[held_out], np.full(held_out.sum(), len(_RATES)))
        assert (longer - in_turn)[~held_out].sum() == len(_RATES) * (~held_out).sum()

    def test_takes_rows_of_any_kind(self):
        model, X, _ = make("sequences")
        settings = {"refine": "distill_network", **DISTILL}
        expected = small_of(model, X, **settings)(X)
        for given, preprocess in (
            (X.numpy(), None),
            (list(X), None),
            (list(range(N)), lambda numbers: X[list(numbers)]),
        ):
            assert near(small_of(model, given, preprocess=preprocess, **settings)(X), expected)


class Checkpointed(nn.Module):
    def __init__(self, way=None):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, K)
        self.way = way

    def forward(self, x):
        x = self.a(x)
        inner = self.inner if self.way is None else self.outer
        return self.c(inner(x))

    def inner(self, x):
        return torch.tanh(self.b(torch.relu(x)))

    def outer(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.way == "reentrant")


class Named(nn.Module):
    """Calls its layers by keywords."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv1d(5, 6, 3), nn.Linear(6, K)

    def forward(self, x):
        return self.fc(input=self.conv(input=x).mean(2))


class TestOddModels:
    @pytest.mark.parametrize("refine", [None, "distill", "distill_network"])
    def test_activations_that_are_computed_again_are_seen_once(self, refine):
        X = draw(8)
        found = [
            small_of(Checkpointed(way), X, rank=2, refine=refine, **DISTILL)
            for way in (None, "not reentrant")
        ]
        assert cut_layers(found[1]) == ["a", "b", "c"]
        assert near(found[1](X), found[0](X))

    @pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
    def test_gradients_that_cannot_be_had_are_said(self):
        X, model = draw(8), Checkpointed("reentrant")
        assert cut_layers(small_of(model, X, rank=2, loss="softmax")) == ["a", "b", "c"]
        with pytest.raises(
            ValueError, match=r"gradient of the loss cannot be computed: .*refine=N"
        ):
            small_of(model, X, rank=2, importance="kfac", loss="softmax")

    @pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Sequential])
    def test_wrappers_and_keywords(self, wrap):
        X, model = draw(5, 12), Named()
        plain = small_of(model, X, rank=2)
        assert cut_layers(plain) == ["conv", "fc"]
        assert near(small_of(wrap(model), X, rank=2)(X), plain(X))

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    @pytest.mark.parametrize("refine", [None, "distill_network"])
    def test_under_other_modes_it_is_the_same_and_can_be_trained(self, mode, refine):
        model, X, _ = make("sequences")
        expected = small_of(model, X, refine=refine, **DISTILL)
        with mode():
            small = small_of(model, X.clone(), refine=refine, **DISTILL)
        assert torch.equal(small(X), expected(X))
        small(X).sum().backward()
        assert all(each.grad is not None for each in small.parameters())

    def test_in_half_precision_around_it_is_the_same(self):
        model, X, _ = make("sequences")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            small = small_of(model, X)
        assert torch.equal(small(X), small_of(model, X)(X))

    def test_dropout_and_batch_statistics_take_no_part(self):
        model, X, _ = make("residual")
        model.blocks.append(nn.Dropout(0.5))
        found = [small_of(model.train(flag), X).eval() for flag in (True, False)]
        assert torch.equal(found[0](X), found[1](X))

    @pytest.mark.parametrize("settings", [{}, {"loss": "softmax"}, {"group_weights": "minimax"}])
    def test_groups_of_one_row_and_rows_that_are_all_the_same(self, settings):
        model, X, _ = make("sequences")
        for rows, s in ((X, np.arange(N)), (X[:1].expand(N, 5, 12), groups_of(N)), (X[:1], [0])):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FairnessWarning)
                small = small_of(model, rows, sensitive_features=s, **settings)
            assert near(small(rows).mean(0), model(rows).mean(0), 0.5)

    @pytest.mark.filterwarnings("ignore:.*torch.jit")
    def test_parts_that_are_scripted_are_left_alone(self):
        torch.manual_seed(0)
        front, X = nn.Sequential(nn.Linear(8, 12), nn.ReLU()).eval(), draw(8)
        for part in (torch.jit.script(front), torch.jit.trace(front, X)):
            assert cut_layers(small_of(nn.Sequential(part, nn.Linear(12, K)), X, rank=1)) == ["1"]
            with pytest.raises(ValueError, match="no layer that can be cut"):
                small_of(part, X, rank=1)

    @pytest.mark.parametrize("importance", ["uniform", "covariance"])
    def test_gaps_that_come_to_a_layer_and_are_hidden_behind_it_are_said(self, importance):
        class Hides(nn.Module):
            def forward(self, x):
                return x.nan_to_num()

        torch.manual_seed(0)
        model, X = nn.Sequential(nn.Linear(8, 8), Hides(), nn.Linear(8, K)), draw(8)
        X[17, 3] = torch.nan
        settings = {"importance": importance, "sequential": False, "rank": 2}
        with pytest.raises(ValueError, match="The layer '0' gets NaN or infinity in some rows"):
            small_of(model, X, **settings)
        assert cut_layers(small_of(model, X, layers="2", **settings)) == ["2"]

    def test_dead_units_and_twins(self):
        model, X, _ = make("sequences")
        with torch.no_grad():
            model[0].bias[:4] = -1e4  # dead behind the activation
            model[0].weight[5], model[0].bias[5] = model[0].weight[6], model[0].bias[6]
        small = small_of(model, X, parameters=0.7)
        assert max(float(each.detach().abs().max()) for each in small.parameters()) < 2e4
        assert near(small(X), model(X), 0.5)

    @pytest.mark.parametrize("unit", [1e-6, 1e6])
    def test_units_of_the_inputs_do_not_matter(self, unit):
        model, X, _ = make("sequences")
        model, X = model.double(), X.double()
        expected = small_of(model, X)(X)
        other = copy.deepcopy(model)
        with torch.no_grad():
            other[0].weight.div_(unit)
        assert near(small_of(other, unit * X)(unit * X), expected)

    def test_what_is_not_finite_is_said(self):
        model, X, _ = make("sequences")
        X[3, 0, 0] = torch.nan
        with pytest.raises(ValueError, match="NaN"):
            small_of(model, X)

    @pytest.mark.slow
    @torch.no_grad()
    @pytest.mark.parametrize("ran", [False, True])
    def test_parts_that_are_compiled(self, ran):
        X = draw(8)
        torch.manual_seed(0)
        plain = nn.Sequential(
            nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        )
        model = copy.deepcopy(plain)
        model[1] = torch.compile(model[1], backend="eager")
        if ran:  # what was compiled then calls no hooks
            model.eval()(X)
        small = small_of(model, X, rank=2)
        assert cut_layers(small) == ["0", "1._orig_mod.0", "1._orig_mod.2"]
        assert near(small(X), small_of(plain, X, rank=2)(X))


class Interrupted(nn.Module):
    """Stops in one of its calls."""

    def __init__(self, at):
        super().__init__()
        self.at, self.calls = at, [0]

    def __deepcopy__(self, memo):
        other = Interrupted(self.at)
        other.calls = self.calls
        return other

    def forward(self, x):
        self.calls[0] += 1
        if self.calls[0] == self.at:
            raise KeyboardInterrupt
        return x


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6, 8, 9, 10, 12])
def test_what_is_interrupted_leaves_the_model_as_it_was(at):
    """In calibration, between the cuts, in the look at the copy, and in its training."""
    body, X, _ = make("sequences")
    model = nn.Sequential(Interrupted(at), *body).train()
    model[1].eval()
    model[1].bias.requires_grad_(False)
    state, flags = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    given = X.clone()
    with pytest.raises(KeyboardInterrupt):
        small_of(model, X, refine="distill_network", loss="softmax", group_weights="minimax")
    assert model[0].calls == [at]
    assert all(map(torch.equal, model.state_dict().values(), state.values()))
    assert [part.training for part in model.modules()] == flags
    assert not any(part._forward_hooks for part in model.modules())
    assert [name for name, each in model.named_parameters() if not each.requires_grad] == ["1.bias"]
    assert all(each.grad is None for each in model.parameters())
    assert torch.equal(X, given)
    assert torch.is_grad_enabled()
    # And what was held is let go.
    assert cut_layers(small_of(model, X))


def test_a_bar_counts_the_rows_that_run(capsys):
    model, X, _ = make("residual")
    given = {"refine": "distill_network", "loss": "softmax", "parameters": 0.3, "max_epochs": 2}
    small_of(model, X, **given)
    assert capsys.readouterr().err == ""
    small_of(model, X, **given, verbose=1)
    shown = capsys.readouterr().err
    assert "what layers see" in shown
    assert "epoch 2 of 2" in shown
    assert "row/s]" in shown
