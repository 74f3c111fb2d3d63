"""`compress`: which layers are cut, by what, and that nothing else changes."""

import copy
import io
import pickle
import sys
from contextlib import nullcontext
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from oracles import group_fisher
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.data import Dataset

from skfairft import FairLowRankHeadClassifier, FairnessWarning, compress, compression_report
from skfairft.backbone.batches import ModuleBatches, NotFiniteError
from skfairft.compression.calibration import calibrate
from skfairft.compression.distill import distill
from skfairft.compression.outputs import MEANINGS
from skfairft.compression.training import Training
from skfairft.datasets import make_biased_classification
from skfairft.lowrank.layer import LowRankLinear
from skfairft.lowrank.maps import layer_maps

# Of small networks and few rows training is often no gain, which a warning says.
pytestmark = pytest.mark.filterwarnings("ignore:refine=.* trained in vain:UserWarning")

N, D, H, K = 200, 8, 12, 6
FISHER = {"importance": "fisher", "loss": "softmax"}
DISTILL = {"refine": "distill", "loss": "softmax", "max_iter": 10}
EACH_WAY = {"covariance": {}, "kfac": FISHER | {"importance": "kfac"}, "distill": DISTILL}


class Gradless(nn.Module):
    """No gradient comes to its first layer, in several ways; to the last one in some."""

    KINDS = ("detach", "no_grad", "inference_mode", "numpy", "in place")

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.kind = nn.Linear(D, H), nn.Linear(H, K), kind

    def forward(self, x):
        if self.kind == "no_grad":
            with torch.no_grad():
                return self.last(self.first(x).relu())
        if self.kind == "inference_mode":
            with torch.inference_mode():
                h = self.first(x).relu()
            return self.last(h)
        h = self.first(x)
        if self.kind == "in place":
            h = h.sigmoid()
            out = self.last(h)
            h.mul_(2.0)
            return out
        h = h.detach() if self.kind == "detach" else torch.from_numpy(h.numpy())
        return self.last(h.relu())


def groups_of(n):
    return np.arange(n) % 5 == 0


def rows(n=N, dtype=torch.float64):
    """Of two groups, one of which is rarer and goes other ways."""
    X, rare = np.random.default_rng(0).normal(size=(n, D)), groups_of(n)
    X[rare] = X[rare] * np.linspace(0.1, 3.0, D) + 1.0
    return torch.from_numpy(X).to(dtype)


def network(*parts):
    return nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, K), *parts).double()


def small_of(model, X=None, **settings):
    X = rows() if X is None else X
    usual = {"sensitive_features": groups_of(len(X)), "rank": 2, "random_state": 0}
    return compress(model, X, **usual | settings)


def network_of(seed):
    torch.manual_seed(seed)
    return network()


def cut_layers(model):
    return [name for name, part in model.named_modules() if isinstance(part, LowRankLinear)]


def same(found, expected, ratio=1e-8):
    found, expected = found.detach(), expected.detach()
    return bool((found - expected).abs().max() <= ratio * expected.abs().max())


class Calls(nn.Module):
    """Two layers whose output a function of them makes."""

    def __init__(self, forward, d=D, k=K):
        super().__init__()
        self.fc, self.out = nn.Linear(d, d).double(), nn.Linear(d, k).double()
        self.own = forward

    def forward(self, x):
        return self.own(self, x)


def twice(model, x):
    return model.out(model.fc(model.fc(x)))


def columns_first(model, x):
    return model.out(model.fc(x.expand(3, *x.shape)).mean(0))


def never(model, x):
    return model.out(x)


def by_weight(model, x):
    return model.out(F.linear(x, model.fc.weight, model.fc.bias))


@torch.no_grad()
def without_gradient(model, x):
    return model.out(model.fc(x))


def at_times(model, x):
    """Leave a layer out of a batch whose first row is of the group."""
    return model.out(model.fc(x) if x[0, 0] < rows()[0, 0] else x)


def listing():
    """A layer that is reached by a list."""
    model = Calls(lambda model, x: model.out(model.steps[0](x)))
    model.steps = [model.fc]
    return model


def hooked():
    model = network()
    model[0].register_forward_hook(lambda part, args, output: 10 * output)
    return model


def tied():
    model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, K)).double()
    model[1].weight = model[0].weight
    return model


class TestModelIsLeftAlone:
    @pytest.mark.parametrize("way", EACH_WAY)
    @pytest.mark.parametrize("training", [True, False])
    def test_in_all_that_it_holds(self, way, training):
        model = network(nn.BatchNorm1d(K), nn.Dropout(0.5)).double().train(training)
        model[1].train(not training)
        model[0].bias.requires_grad_(False)
        model[0].weight.grad = torch.ones(H, D).double()
        noted = []
        model[0].register_forward_hook(lambda *_: noted.append(1))
        X, state = rows(), copy.deepcopy(model.state_dict())
        flags = [part.training for part in model.modules()]
        random = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        given = X.clone()
        small = small_of(model, X, **EACH_WAY[way])
        assert noted  # control: it ran
        assert all(map(torch.equal, model.state_dict().values(), state.values()))
        assert [part.training for part in model.modules()] == flags
        assert [p.requires_grad for p in model.parameters()] == [True, False] + [True] * 4
        assert [p.grad is None for p in model.parameters()] == [False] + [True] * 5
        assert (model[0].weight.grad == 1.0).all()
        assert [len(part._forward_hooks) for part in model.modules()] == [0, 1, 0, 0, 0, 0]
        assert cut_layers(small)
        assert not cut_layers(model)
        assert torch.equal(X, given)
        assert torch.equal(torch.get_rng_state(), random[0])
        np.testing.assert_array_equal(np.random.get_state()[1], random[1])  # noqa: NPY002

    @pytest.mark.parametrize("way", EACH_WAY)
    def test_and_shares_nothing_with_the_copy(self, way):
        model = network(nn.BatchNorm1d(K))
        small, state = small_of(model, **EACH_WAY[way]), copy.deepcopy(model.state_dict())
        with torch.no_grad():
            for tensor in [*small.parameters(), *small.buffers()]:
                tensor.zero_()
        assert all(map(torch.equal, model.state_dict().values(), state.values()))

    def test_also_after_an_error(self):
        model = network().train()
        with torch.no_grad():
            model[2].bias[0] = torch.nan
        with pytest.raises(ValueError, match="returned NaN or infinity"):
            small_of(model, **FISHER)
        assert all(part.training and not part._forward_hooks for part in model.modules())

    @pytest.mark.parametrize("of", ["tensor", "array"])
    def test_rows_are_left_alone_by_models_that_work_in_place(self, of):
        """Also where preprocess hands them on."""
        model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(D, K).double())
        expected = small_of(model, rows())
        for preprocess in (None, torch.as_tensor):
            X = rows() if of == "tensor" else rows().numpy()
            found = small_of(model, X, preprocess=preprocess)
            assert torch.equal(torch.as_tensor(X), rows())
            assert torch.equal(found[1].weight, expected[1].weight)


class TestCopy:
    @pytest.mark.parametrize("way", EACH_WAY)
    @pytest.mark.parametrize("training", [True, False])
    def test_is_in_the_mode_of_the_model(self, way, training):
        small = small_of(network(nn.Dropout(0.5)).train(training), **EACH_WAY[way])
        assert {part.training for part in small.modules()} == {training}

    @pytest.mark.parametrize("way", EACH_WAY)
    def test_comes_without_gradients_and_can_be_trained(self, way):
        model = network(nn.BatchNorm1d(K))
        model[0].requires_grad_(False)
        small = small_of(model, rank={"2": 2}, **EACH_WAY[way])
        found = {name: each.requires_grad for name, each in small.named_parameters()}
        assert {name for name, on in found.items() if not on} == {"0.weight", "0.bias"}
        assert all(each.grad is None for each in small.parameters())

    @pytest.mark.parametrize("way", EACH_WAY)
    def test_a_frozen_layer_stays_frozen(self, way):
        model = network(nn.BatchNorm1d(K))
        model[2].requires_grad_(False)
        small = small_of(model, rank={"2": 2}, **EACH_WAY[way])
        assert [each.requires_grad for each in small[2].parameters()] == [False] * 3
        assert all(each.requires_grad for each in small[0].parameters())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_has_the_dtype_of_the_model(self, dtype):
        small = small_of(network().to(dtype), rows(dtype=torch.float32), **DISTILL)
        assert {each.dtype for each in small.parameters()} == {dtype}

    def test_layers_stand_in_for_linear_ones(self):
        model = network()
        small = small_of(model)
        for before, after in ((model[0], small[0]), (model[2], small[2])):
            assert (after.in_features, after.out_features) == before.weight.shape[::-1]
            assert (after.weight.shape, after.bias.shape) == (
                before.weight.shape,
                before.bias.shape,
            )
            Z = torch.randn(3, 4, after.in_features).double()  # of any number of axes
            torch.testing.assert_close(after(Z), F.linear(Z, after.weight, after.bias))
        assert sum(each.numel() for each in small.parameters()) == 2 * (D + 2 * H + K) + H + K

    @pytest.mark.parametrize("way", ["state_dict", "pickle", "torch.save", "deepcopy"])
    def test_survives(self, way):
        X, small = rows(), small_of(network())
        if way == "state_dict":
            other = small_of(network(), X.flip(1))
            assert not same(other(X), small(X))  # control
            other.load_state_dict(small.state_dict())
        elif way == "pickle":
            other = pickle.loads(pickle.dumps(small))
        elif way == "torch.save":
            torch.save(small, file := io.BytesIO())
            file.seek(0)
            other = torch.load(file, weights_only=False)
        else:
            other = copy.deepcopy(small)
        assert torch.equal(other(X), small(X))

    @pytest.mark.filterwarnings("ignore:.*torch.jit")  # torch 2.13 and later say that it will go
    @pytest.mark.parametrize("way", ["export", "trace"])
    def test_can_be_exported(self, way):
        X, small = rows(), small_of(network()).eval()
        if way == "trace":
            other = torch.jit.trace(small, (X[:3],))
        else:
            other = torch.export.export(
                small, (X[:3],), dynamic_shapes=({0: torch.export.Dim("n")},)
            ).module()
        assert same(other(X), small(X), 1e-6)


class Items(Dataset):
    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], 7


class Scores(nn.Module):
    """Takes its inputs by name, and says what it says as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.embed, self.inner = nn.Embedding(20, D).double(), nn.Linear(D, D).double()
        self.classifier = nn.Linear(D, K).double()

    def forward(self, input_ids, attention_mask=None, return_dict=True):
        hidden = torch.tanh(self.inner(self.embed(input_ids)))
        mask = attention_mask[:, :, None].double()
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        return {"hidden": hidden, "logits": self.classifier(pooled)}


class TestRows:
    @pytest.mark.parametrize("way", EACH_WAY)
    def test_the_size_of_batches_does_not_matter(self, way):
        X, model = rows(), network(nn.Tanh())
        labels = {} if way in ("covariance", "distill") else {"y": np.arange(N) % K}
        settings = EACH_WAY[way] | labels
        found = [small_of(model, batch_size=n, **settings)(X) for n in (1000, 64, 11)]
        # Training goes other ways from other digits.
        ratio = 1e-3 if way == "distill" else 1e-8
        assert all(same(each, found[0], ratio) for each in found)

    @pytest.mark.parametrize("importance", ["covariance", "kfac", "fisher"])
    def test_their_order_does_not_matter(self, importance):
        X, model, y = rows(), network(), np.arange(N) % K
        settings = {"importance": importance, "loss": "softmax"}
        order = np.random.default_rng(0).permutation(N)
        s, graded = groups_of(N)[order], importance != "covariance"
        before, after = ({"y": each} if graded else {} for each in (y, y[order]))
        found = small_of(model, X[order], sensitive_features=s, **after, **settings)
        assert same(found(X), small_of(model, **before, **settings)(X))
        # Control: that of groups beside them does.
        other = small_of(model, X[order], **after, **settings)
        assert not same(other(X), found(X), 1e-3)

    def test_the_loss_weighs_the_outputs_where_it_is_named(self):
        X, model, y = rows(), network(), np.arange(N) % K
        for given, name in (
            ({}, "covariance"),
            ({"loss": "softmax"}, "kfac"),
            ({"loss": "softmax", "y": y}, "kfac"),
            ({"loss": lambda out, targets: (out - targets).square().mean(1)}, "covariance"),
        ):
            found = small_of(model, **given)
            by = small_of(model, importance=name, sequential=True, **given)
            assert torch.equal(found(X), by(X))
        with_y, drawn = (small_of(model, loss="softmax", **own)(X) for own in ({"y": y}, {}))
        assert not same(with_y, drawn, 1e-3)  # control: labels show

    @pytest.mark.parametrize("kind", Gradless.KINDS)
    def test_layers_without_gradients_are_cut_by_their_inputs(self, kind):
        model = Gradless(kind).double()
        alike = {"group_weights": None}
        found = small_of(model, loss="softmax", **alike)
        assert cut_layers(found) == ["first", "last"]
        by_inputs = small_of(model, importance="covariance", sequential=True, **alike)
        first, last = ((m.first.weight, m.last.weight) for m in (found, by_inputs))
        assert torch.equal(first[0], last[0])
        reached = kind == "detach"
        assert torch.equal(first[1], last[1]) is not reached
        with pytest.warns(UserWarning, match="y has no effect") if not reached else nullcontext():
            small_of(model, loss="softmax", y=np.arange(N) % K)

    def test_layers_of_very_many_outputs_are_cut_by_their_inputs(self, monkeypatch):
        monkeypatch.setattr("skfairft.compression.calibration._MOST_OUTPUTS", K)
        model = network()
        found, by_inputs, by_loss = (
            small_of(model, importance=name, loss="softmax", sequential=False)
            for name in ("auto", "covariance", "kfac")
        )
        assert torch.equal(found[0].weight, by_inputs[0].weight)
        assert torch.equal(found[2].weight, by_loss[2].weight)

    def test_small_gradients_fit_in_half_precision(self):
        X, y = rows(dtype=torch.float32), np.arange(N) % 4
        middles = 3.0 * torch.eye(4, D)
        X = 0.1 * X + middles[y]
        model = nn.Sequential(nn.Linear(D, D, bias=False), nn.Linear(D, 4))
        with torch.no_grad():
            model[0].weight.copy_(torch.eye(D) + 0.05 * torch.randn(D, D))
            model[1].weight.copy_(middles * 1.5)  # nearly certain of every row
        half = copy.deepcopy(model).half()
        found = small_of(half, X.half(), rank=3, loss="softmax", layers=["0"])
        largest = [float(part.weight.detach().abs().max()) for part in (found[0].down, found[0].up)]
        assert max(largest) < 100.0
        assert (found(X.half()).argmax(1) == half(X.half()).argmax(1)).float().mean() > 0.95

    def test_labels_that_nothing_takes_are_said(self):
        with pytest.warns(UserWarning, match="y has no effect: importance='covariance'"):
            small_of(network(), y=np.arange(N) % K)

    @pytest.mark.parametrize("kind", ["array", "frame", "dataset", "items", "preprocess"])
    def test_of_any_kind_are_the_same(self, kind):
        X, model = rows(), network()
        numbers = X.numpy()
        given, preprocess = {
            "array": (numbers, None),
            "frame": (pd.DataFrame(numbers, index=np.arange(N) + 0.5), None),
            "dataset": (Items(X), None),
            "items": (list(X), None),
            "preprocess": ([str(i) for i in range(N)], lambda ids: X[[int(i) for i in ids]]),
        }[kind]
        found = small_of(model, given, preprocess=preprocess, batch_size=50)
        assert same(found(X), small_of(model, X)(X))

    @pytest.mark.parametrize("index", ["reversed", "text", "float"])
    def test_labels_are_taken_by_position(self, index):
        y = np.arange(N) % K
        names = {
            "reversed": np.arange(N)[::-1],
            "text": [f"row {i}" for i in range(N)],
            "float": -np.arange(N) / 2.0,
        }[index]
        model, settings = network(), FISHER | {"batch_size": 50}
        expected = small_of(model, y=y, **settings)
        for given in (pd.Series(y, index=names), y.tolist(), torch.from_numpy(y)):
            assert same(small_of(model, y=given, **settings)(rows()), expected(rows()))

    def test_by_name_and_scores_in_a_mapping(self):
        rng = np.random.default_rng(0)
        texts = [" ".join(map(str, rng.integers(1, 20, size=rng.integers(1, 6)))) for _ in range(N)]

        def tokenize(batch):
            ids = [torch.tensor([int(word) for word in text.split()]) for text in batch]
            ids = nn.utils.rnn.pad_sequence(ids, batch_first=True)
            return {"input_ids": ids, "attention_mask": (ids > 0).long(), "return_dict": True}

        model = Scores()
        settings = {"preprocess": tokenize, "batch_size": 50}
        assert cut_layers(small_of(model, texts, **settings)) == ["inner", "classifier"]
        full = small_of(model, texts, rank={"classifier": 3}, **settings, **DISTILL)
        batch = tokenize(texts)
        before, after = (each(**batch)["logits"] for each in (model, full))
        assert (before - after).square().mean() < 0.5 * before.var()


class TestWhichLayers:
    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, ["0", "2"]),
            ({"layers": "0"}, ["0"]),
            ({"layers": ["2", "2"]}, ["2"]),
            ({"rank": {"2": 1}}, ["2"]),
            ({"rank": {"2": 1, "0": 3}, "layers": ["0", "2"]}, ["0", "2"]),
            ({"rank": 4}, ["0"]),  # 4 (12 + 6) parameters are as many as 12 times 6
        ],
    )
    def test_are_cut(self, settings, expected):
        small = small_of(network(), **settings)
        assert cut_layers(small) == expected
        rank = settings.get("rank", 2)
        for name in expected:
            wanted = rank[name] if isinstance(rank, dict) else rank
            assert small.get_submodule(name).rank == wanted

    def test_a_layer_alone_is_a_model(self):
        model, X = nn.Linear(D, K).double(), rows()
        for settings in ({}, {"layers": ""}, {"rank": {"": 2}}):
            small = small_of(model, X, **settings)
            assert isinstance(small, LowRankLinear)
            assert same(small(X).mean(0), small_of(nn.Sequential(model), X)(X).mean(0))

    @pytest.mark.parametrize("importance", ["covariance", "fisher"])
    @pytest.mark.parametrize("forward", [twice, columns_first, never, by_weight])
    def test_by_default_those_that_cannot_be_cut_are_left_out(self, forward, importance):
        model = Calls(forward)
        small = small_of(model, importance=importance, loss="softmax")
        assert cut_layers(small) == ["out"]
        assert torch.equal(small.fc.weight, model.fc.weight)

    def test_by_default_those_with_code_of_their_own_are_left_out(self):
        own = network()
        own[0].forward = lambda x: 2.0 * nn.Linear.forward(own[0], x)
        for model in (own, hooked()):
            assert cut_layers(small_of(model)) == ["2"]

    def test_by_default_those_that_run_at_times_are_left_out(self):
        assert cut_layers(small_of(Calls(at_times), batch_size=100)) == ["out"]

    def test_by_default_complex_ones_are_left_out(self):
        class Real(nn.Module):
            def forward(self, x):
                return x.real

        model = nn.Sequential(network(), nn.Linear(K, K, dtype=torch.complex128), Real())
        model[0].register_forward_hook(lambda part, args, output: output.to(torch.complex128))
        assert cut_layers(small_of(model)) == ["0.0", "0.2"]

    def test_by_default_what_a_new_bias_makes_larger_is_left_out(self):
        """3 (5 + 8) are fewer than 5 times 8, but not with 8 more."""
        layer = nn.Linear(5, 8, bias=False).double()
        with pytest.raises(ValueError, match="No layer of Linear is smaller at rank=3"):
            small_of(layer, rows()[:, :5], rank=3)
        assert small_of(layer, rows()[:, :5], rank=2).rank == 2

    def test_by_default_tied_ones_are_left_out(self):
        assert cut_layers(small_of(tied())) == ["2"]

    @pytest.mark.parametrize("hooked", [nn.utils.spectral_norm, prune.l1_unstructured])
    def test_layers_whose_weights_a_hook_makes_hinder_no_others(self, hooked):
        """Pruned ones, say: their weight is no parameter, but made of some before each call."""
        model = network()
        hooked(model[0], *(["weight", 0.5] if hooked is prune.l1_unstructured else []))
        assert "2" in cut_layers(small_of(model.eval()))

    @pytest.mark.parametrize("order", [("first", "all"), ("all", "first")])
    def test_a_layer_of_two_names_is_cut_under_both(self, order):
        class Aliased(nn.Module):
            def __init__(self):
                super().__init__()
                parts = {"all": network()}
                parts["first"] = parts["all"][0]
                for name in order:
                    setattr(self, name, parts[name])

            def forward(self, x):
                return self.all(x)

        model, X = Aliased(), rows()
        small = small_of(model, X, layers="first" if order[0] == "first" else "all.0")
        assert same(small(X), small_of(model.all, X, layers="0")(X))

    def test_is_called_by_name(self):
        plain = Calls(lambda model, x: model.out(model.fc(x)))
        named = Calls(lambda model, x: model.out(model.fc(input=x)))
        named.load_state_dict(plain.state_dict())
        assert same(small_of(named)(rows()), small_of(plain)(rows()))

    @pytest.mark.parametrize("what", ["input", "output"])
    def test_what_goes_through_a_layer_may_be_written_over(self, what):
        """As by ``x += layer(x)``, or by an activation that works in place."""

        def in_place(model, x):
            x = model.out(x)
            if what == "output":
                return F.relu_(x)
            x += model.fc(x)
            return x

        def in_new_place(model, x):
            x = model.out(x)
            return F.relu(x) if what == "output" else x + model.fc(x)

        models = [Calls(each, k=D) for each in (in_place, in_new_place)]
        models[1].load_state_dict(models[0].state_dict())
        settings = DISTILL | {"loss": "squared"} if what == "output" else {}
        layers = {"output": "out", "input": "fc"}[what]
        before, after = (small_of(each, layers=layers, **settings)(rows()) for each in models)
        assert same(before, after, 1e-6)

    @pytest.mark.parametrize("layers", [None, ["2"]])
    def test_a_named_one_that_is_no_smaller_comes_with_a_warning(self, layers):
        settings = {"layers": layers, "rank": 4 if layers else {"2": 4}}
        with pytest.warns(UserWarning, match="'2', 12 to 6, has no fewer parameters at rank 4"):
            small = small_of(network(), **settings)
        assert cut_layers(small) == ["2"]

    @pytest.mark.parametrize("importance", ["covariance", "kfac", "fisher", "uniform"])
    def test_at_full_rank_it_is_the_model(self, importance):
        model = network()
        settings = {"layers": ["0", "2"], "importance": importance, "loss": "softmax"}
        with pytest.warns(UserWarning, match="has no fewer parameters"):
            small = small_of(model, rank=1.0, **settings)
        assert same(small(rows()), model(rows()))


def callable_loss(outputs, targets):
    return (outputs - targets).square().sum(1)


class Returns(nn.Module):
    """A layer, and something made of its output."""

    def __init__(self, made):
        super().__init__()
        self.fc, self.made = nn.Linear(D, K).double(), made

    def forward(self, x):
        return self.made(self.fc(x))


Y = np.arange(N) % K
ERRORS = {
    "no module": (LogisticRegression(), {}, "LogisticRegression; expected an nn.Module"),
    **{
        f"rank {rank!r}": (None, {"rank": rank}, "expected a whole number from 1, or a share")
        for rank in (0, -1, True, 1.5, 0.0, np.nan, "4", {"0": 2, "2": 0})
    },
    "no size": (None, {"rank": None}, "rank, parameters and flops are None; expected one of"),
    "two sizes": (None, {"parameters": 0.5}, "rank and parameters are given; expected one of"),
    **{
        f"{name} {value!r}": (
            None,
            {"rank": None, name: value},
            f"{name}={value!r}; expected the share in \\(0, 1\\)",
        )
        for name in ("parameters", "flops")
        for value in (0, -0.1, 1.0, 1.1, True, "half", np.nan)
    },
    "too small a budget": (
        None,
        {"rank": None, "parameters": 0.1},
        "budget is 0.1 of what the layers cost whole; rank 1 of each takes 0.301. Pass more, or",
    ),
    "sequential": (None, {"sequential": "yes"}, "sequential='yes'; expected True, False or 'auto'"),
    "sequential by weights": (
        None,
        FISHER | {"sequential": True},
        "sequential=True and importance='fisher'; expected 'auto', 'covariance' or 'kfac'",
    ),
    "max_epochs": (None, {"max_epochs": 0}, "max_epochs=0; expected a whole number from 1"),
    "rank not named": (None, {"rank": {}}, r"layers names \[\]; expected linear layers .*'0'"),
    "rank of others": (
        None,
        {"rank": {"0": 2}, "layers": ["0", "2"]},
        r"rank names the layers \['0'\], and layers \['0', '2'\]",
    ),
    "importance": (None, {"importance": "svd"}, "importance='svd'; expected one of 'auto', 'u"),
    "refine": (None, {"refine": "tune"}, "refine='tune'; expected one of None, 'distill'"),
    "max_iter": (None, {"max_iter": 0}, "max_iter=0; expected a whole number from 1"),
    "max_iter half": (None, {"max_iter": 2.5}, "max_iter=2.5; expected a whole number"),
    "fraction": (None, {"validation_fraction": 1.0}, "validation_fraction=1.0; expected"),
    "borrowed_rows": (None, {"borrowed_rows": -1}, "borrowed_rows=-1; expected a number of at l"),
    "group_weights": (None, {"group_weights": "max"}, "group_weights='max' .*'minimax'"),
    "loss not there": (None, FISHER | {"loss": None}, "loss=None .*importance='fisher' needs"),
    "loss for refine": (None, DISTILL | {"loss": None}, "loss=None .*refine='distill' needs"),
    "loss not known": (None, FISHER | {"loss": "hinge"}, "loss='hinge' is not known.*'softmax'"),
    "loss of no labels": (None, FISHER | {"loss": callable_loss}, "needs labels: .*Pass y, or"),
    "loss of all rows": (
        None,
        FISHER | {"loss": F.cross_entropy, "y": torch.from_numpy(Y)},
        "a loss for each row",
    ),
    "loss of all rows to refine by": (
        None,
        DISTILL | {"loss": F.mse_loss},
        "a loss for each row",
    ),
    "layers not there": (None, {"layers": ["1", "9"]}, r"names \['1', '9'\]; expected linear la"),
    "no layers": (None, {"layers": []}, r"layers names \[\]; expected linear layers"),
    "tied": (tied(), {"layers": "0"}, r"\['0'\] share their weights with others.* Leave them out"),
    **{
        f"{forward.__name__} {way}": (Calls(forward), {"layers": "fc"} | EACH_WAY[way], match)
        for way in EACH_WAY
        for forward, match in [
            (twice, "'fc' is called 2 times for a batch; expected once. Leave it out"),
            (columns_first, r"'fc' gets .* \(3, 200, 8\) for 200 rows; .*200, ..., 8\). Leave it"),
            (never, r"The layers \['fc'\] did not run: .*Leave them out"),
            (by_weight, r"The layers \['fc'\] did not run: .*or uses their weights by itself"),
        ]
    },
    "no smaller": (
        None,
        {"rank": 9},
        "No layer of Sequential is smaller at rank=9; expected .* below 5 for '0'; 4 for '2', or",
    ),
    "y too short": (None, FISHER | {"y": Y[1:]}, r"y has the shape \(199,\), but X has 200 r"),
    "y of floats": (
        None,
        FISHER | {"y": Y / 2},
        "y holds torch.float64, a number for .*the classes as the",
    ),
    "y beyond": (None, FISHER | {"y": Y + 1}, "from 1 to 6; expected .*numbers them, 0 to 5"),
    "y below": (None, FISHER | {"y": Y - 1}, "from -1 to 4; expected .*numbers them, 0 to 5"),
    "y as columns": (
        None,
        FISHER | {"y": np.eye(K)[Y]},
        r"6 numbers for each row.*expected the cl",
    ),
    "y of texts": (
        None,
        FISHER | {"y": np.array(list("abcdef"))[Y]},
        "y holds text, such as .*expected numbers",
    ),
    "y of rows": (
        None,
        FISHER | {"y": Y, "loss": "squared"},
        r"a number for each row, and the model",
    ),
    "y no share": (
        nn.Linear(D, 1).double(),
        FISHER | {"y": Y, "loss": "sigmoid"},
        "y holds 0 to 5; expected 0 or 1",
    ),
    **{
        f"{name} {way}": (Returns(made), EACH_WAY[way], match)
        for way in ("kfac", "distill")
        for name, made, match in [
            (
                "one score",
                lambda x: x[:, :1],
                r"of two classes or more, but the model gives \(.*use loss='sigmoid'",
            ),
            (
                "maps of scores",
                lambda x: x.reshape(-1, 3, 2),
                "'softmax' is of scores .n, k. of two",
            ),
        ]
    },
    "groups too short": (
        None,
        {"sensitive_features": Y[1:]},
        "sensitive_features has 199 rows but X has 200",
    ),
    "a mapping": (
        None,
        {"X": {"input": rows()}},
        r"X is a dict with \['input'\]; expected one entry",
    ),
    "layers by number": (None, {"layers": 2}, "layers=2; expected names of layers"),
    "importance an array": (None, {"importance": np.ones(2)}, "expected one of 'auto', 'uni"),
    **{
        f"group_weights {given}": (None, {"group_weights": given}, "expected None, 'proportional'")
        for given in (["a", "b"], {True: "x", False: 1}, {1.0, 2.0})
    },
    "no layer at all": (nn.Tanh(), {}, "Tanh has no layer that can be cut; expected an nn.Linear"),
    "y missing": (
        None,
        FISHER | {"y": np.full((N, K), np.nan), "loss": "squared"},
        "y holds NaN or infinity; .*Drop the rows",
    ),
    "loss not a number": (
        None,
        FISHER | {"y": Y, "loss": lambda out, y: out.sum(1) * torch.nan},
        "loss, <lambda>, returned NaN or infinity",
    ),
    **{
        f"{name} {way}": (model, EACH_WAY[way], match)
        for way in ("kfac", "distill")
        for name, model, match in [
            ("no gradient", Calls(without_gradient), "loss has no gradient: .*refine=None"),
        ]
    },
    "detached": (
        Calls(lambda model, x: model.out(model.fc(x).detach())),
        EACH_WAY["kfac"],
        "No gradient of the loss comes to the layer 'fc'",
    ),
    "hooks": (hooked(), {"layers": ["0"]}, r"\['0'\] have hooks or a forward of their own"),
    "in a list": (listing(), {}, r"\['fc'\] cannot be replaced: .*list of layers.*Leave them out"),
    "compiled": (
        torch.compile(nn.Linear(D, K).double(), backend="eager"),
        {},
        "cannot be replaced: .*a compiled function",
    ),
    "at times": (
        Calls(at_times),
        {"layers": "fc", "batch_size": 100},
        "'fc' ran for 100 of 200 rows",
    ),
    "too large": (
        nn.Sequential(nn.Linear(D, D), nn.Sigmoid()).double(),
        {"X": 1e160 * rows()},
        "squares overflow",
    ),
    "gradients too large": (
        None,
        {"importance": "kfac", "y": Y, "loss": lambda out, y: 1e160 * out.sum(1)},
        "gradients of a layer of .* squares overflow",
    ),
    "no groups": (None, {"sensitive_features": None}, "sensitive_features is None; expected one"),
    "groups missing": (None, {"sensitive_features": [None, *Y[1:]]}, "features .*missing"),
    "groups of a row": (
        None,
        DISTILL | {"sensitive_features": np.arange(N), "group_weights": "proportional"},
        "holds rows out.*refine=None",
    ),
    "NaN": (Returns(lambda x: x.log()), {}, "Returns returned NaN or infinity. If it is in half"),
    "a tuple": (Returns(lambda x: (x, x)), {}, "Returns returned .*tuple.*; expected one tensor"),
    "integers": (Returns(lambda x: x.argmax(1)), {}, "returned torch.int64 .* floating-point"),
    "one for all": (Returns(lambda x: x.mean(0)), {}, r"shape \(6,\) for 64 rows; expected"),
    "failing": (nn.Linear(D + 1, K).double(), {}, "Linear failed on a batch of 64 rows: .*Check"),
}


class Draws(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x + self.calls


class LessTheOthers(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class TestRowsThatDoNotStandForThemselves:
    """What a cut changes could not be told from what chance, or the other rows, change."""

    CASES = pytest.mark.parametrize(
        ("part", "match"),
        [
            (Draws, "other outputs each time for the same rows: it draws random numbers"),
            (Remembers, "other outputs each time .*running it changes module.3.calls"),
            (LessTheOthers, "for a row depends on the other rows of its batch: 4 of 64"),
            (
                lambda: nn.BatchNorm1d(K, track_running_stats=False),
                "other rows of its batch.*BatchNorm1d '3' normalizes by the batch",
            ),
        ],
    )

    @CASES
    @pytest.mark.parametrize("settings", [{}, DISTILL, {"layers": ["0", "2"]}])
    def test_are_refused(self, part, match, settings):
        with pytest.raises(ValueError, match=match):
            small_of(network(part()).double(), **settings)

    @CASES
    def test_are_refused_by_the_report(self, part, match):
        small, s = small_of(network()), groups_of(N)
        with pytest.raises(ValueError, match=match):
            compression_report(network(part()), small, rows(), sensitive_features=s, loss="squared")

    def test_so_is_a_preprocess_that_draws(self):
        def preprocess(X):
            return X + torch.randn_like(X)

        with pytest.raises(ValueError, match=r"other outputs each time .*or preprocess does"):
            small_of(network(), preprocess=preprocess)


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_says_what_came_and_what_to_do(name):
    model, settings, match = ERRORS[name]
    with pytest.raises(ValueError, match=match):
        small_of(network() if model is None else model, **settings)


def test_gaps_in_the_rows_are_told_from_a_model_that_fails():
    X = rows()
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="infinity, and what it was given contains NaN: X"):
        compress(network(), X, sensitive_features=groups_of(N), rank=2)


def test_probabilities_are_told_from_scores():
    model, X = network(nn.Softmax(1)), rows()
    with pytest.warns(UserWarning, match="add up to 1 .*takes scores, before the softmax"):
        small = small_of(model, X, **DISTILL)
    with pytest.warns(UserWarning, match="add up to 1 .*takes scores, before the softmax"):
        compression_report(model, small, X, sensitive_features=groups_of(N), loss="softmax")


def test_arguments_by_place_are_refused_by_name():
    with pytest.raises(TypeError, match="compress takes model and X by place, but got 3"):
        compress(network(), rows(), groups_of(N), rank=2)


LABELS = {
    "softmax": Y,
    "sigmoid": np.random.default_rng(0).integers(2, size=(N, K)),
    "squared": np.random.default_rng(0).normal(size=(N, K)),
}


def measured(model, X, name, *, y, loss="softmax", batch_size=16, temperature=1.0):
    found = calibrate(
        model,
        ModuleBatches.of(model, X, batch_size=batch_size),
        torch.from_numpy(groups_of(len(X))).long(),
        {name: layer_maps(model)[name]},
        n_groups=2,
        graded={name},
        fisher=True,
        temperature=temperature,
        gradients=MEANINGS[loss],
        y=None if y is None else torch.from_numpy(y),
        keep=False,
        lenient=False,
        generator=torch.Generator().manual_seed(0),
    ).statistics[name]
    return found.fisher.result().fisher, found.gradients.result()


class TestGradients:
    @pytest.mark.parametrize("loss", LABELS)
    @pytest.mark.parametrize("name", ["0", "2"])
    @pytest.mark.parametrize("inner", [nn.Tanh(), nn.ReLU(inplace=True)])
    def test_are_those_of_each_row(self, inner, name, loss):
        """One backward pass a row, of the loss as torch has it."""
        model, X, y = network(nn.BatchNorm1d(K), nn.Dropout(0.5)), rows(40), LABELS[loss][:40]
        model[1] = inner
        model(X)  # so that the statistics of the batches are not 0 and 1
        fisher, moments = measured(model, X, name, y=y, loss=loss)
        model.eval()
        losses = {
            "softmax": F.cross_entropy,
            "sigmoid": lambda out, y: F.binary_cross_entropy_with_logits(out, y.double()),
            "squared": F.mse_loss,
        }
        own = [model.get_parameter(f"{name}.{each}") for each in ("weight", "bias")]
        weights, biases = zip(
            *(
                torch.autograd.grad(losses[loss](model(x[None]), label[None]), own)
                for x, label in zip(X, torch.from_numpy(y), strict=True)
            ),
            strict=True,
        )
        codes = torch.from_numpy(groups_of(40)).long()
        expected = group_fisher(torch.stack(weights).mT, codes, 2)
        torch.testing.assert_close(fisher, expected, rtol=1e-9, atol=0.0)
        h = torch.stack(biases)
        if name == "0":  # whose narrower side is that of the inputs
            h = h @ model[0].weight
        expected = torch.stack(
            [h[codes == g].T @ h[codes == g] / (codes == g).sum() for g in (0, 1)]
        )
        torch.testing.assert_close(moments, expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("loss", LABELS)
    def test_of_drawn_labels_are_in_the_mean_as_expected(self, loss):
        """The variances of labels as the model has them: its true Fisher information."""
        model, x = nn.Linear(D, K).double(), rows()[:5]
        p = model(x)
        expected = {
            "softmax": torch.diag_embed(p.softmax(1))
            - p.softmax(1)[:, :, None] * p.softmax(1)[:, None],
            "sigmoid": torch.diag_embed(torch.sigmoid(p) * torch.sigmoid(-p)) / K**2,
            "squared": torch.diag_embed(torch.full_like(p, (2.0 / K) ** 2)),
        }[loss].detach()
        X = x.repeat(10_000, 1)  # whose group is that of its row: each fifth is of the second
        fisher, moments = measured(nn.Sequential(model), X, "0", y=None, loss=loss, batch_size=5000)
        wanted = torch.stack([expected[1:].mean(0), expected[0]])
        # Five standard errors of a mean of 10,000 products.
        torch.testing.assert_close(moments, wanted, rtol=0.0, atol=0.05 * float(wanted.max()))
        energies = x.square() * expected.diagonal(dim1=1, dim2=2).sum(1)[:, None]
        wanted = torch.stack([energies[1:].mean(0), energies[0]])
        torch.testing.assert_close(fisher, wanted, rtol=0.05, atol=0.0)

    @pytest.mark.parametrize("loss", LABELS)
    def test_a_temperature_divides_log_odds(self, loss):
        """As if the model gave them so; numbers are left as they are."""
        X, y = rows(40), LABELS[loss][:40]
        half = nn.Sequential(*network_of(0))
        with torch.no_grad():
            half[2].weight.mul_(0.5)
            half[2].bias.mul_(0.5)
        cool = half if loss != "squared" else network_of(0)
        found = measured(network_of(0), X, "0", y=y, loss=loss, temperature=2.0)
        expected = measured(cool, X, "0", y=y, loss=loss)
        assert all(map(same, found, expected))
        if loss != "squared":  # control
            assert not same(measured(network_of(0), X, "0", y=y, loss=loss)[1], found[1], 0.01)

    def test_several_layers_are_looked_at_with_one(self, monkeypatch):
        given = []
        module = sys.modules["skfairft.compression.compress"]
        monkeypatch.setattr(
            module,
            "calibrate",
            lambda *args, **own: given.append(own["temperature"]) or calibrate(*args, **own),
        )
        small_of(network(), loss="softmax")
        small_of(network(), loss="softmax", layers="0")
        small_of(network(), **FISHER)
        assert given == [2.0, 1.0, 1.0]

    def test_labels_are_drawn_by_the_random_state(self):
        model, X = network(), rows()
        found = [small_of(model, X, random_state=seed, **FISHER)(X) for seed in (0, 0, 1)]
        assert torch.equal(found[0], found[1])
        assert not same(found[0], found[2], 1e-3)


def divergences(model, small, X, loss="softmax"):
    """By group."""
    with torch.no_grad():
        each, rare = MEANINGS[loss].divergence(small(X), model(X)), groups_of(len(X))
    return torch.stack([each[~rare].mean(), each[rare].mean()])


CALLS = []


class Flip(nn.Module):
    """Names the classes in another order, which no loss tells, and counts its calls."""

    def forward(self, x):
        CALLS.append(1)
        return x.flip(1)


class TestDistill:
    @pytest.mark.parametrize("loss", [*LABELS, callable_loss])
    def test_brings_the_outputs_nearer(self, loss):
        model, X = network(), rows(600)
        settings = {"refine": "distill", "loss": loss, "max_iter": 30, "sequential": False}
        before, after = (
            divergences(model, each, X, loss if isinstance(loss, str) else "squared").mean()
            for each in (small_of(model, X, sequential=False), small_of(model, X, **settings))
        )
        assert after < 0.9 * before

    def test_is_the_same_for_the_same_random_state(self):
        model, X = network(), rows(600)
        found = [small_of(model, X, random_state=seed, **DISTILL)(X) for seed in (0, 0, 1)]
        assert torch.equal(found[0], found[1])
        assert not torch.equal(found[0], found[2])

    @pytest.mark.parametrize("rank", [{"0": 2}, {"2": 2}, {"0": 2, "2": 2}])
    def test_changes_thin_layers_only(self, rank):
        model, X = network(nn.BatchNorm1d(K)).eval(), rows(600)
        start, small = (small_of(model, X, rank=rank, **each) for each in ({}, DISTILL))
        changed = {
            name.split(".")[0]
            for name, values in small.state_dict().items()
            if not torch.equal(values, start.state_dict()[name])
        }
        assert changed == rank.keys()

    @pytest.mark.parametrize("max_iter", [1, 5, 15])
    def test_trains_for_any_number_of_iterations(self, max_iter):
        model, X = network(), rows(600)
        start, small = small_of(model, X), small_of(model, X, **DISTILL | {"max_iter": max_iter})
        assert divergences(model, small, X).mean() < divergences(model, start, X).mean()

    @pytest.mark.parametrize("weights", [None, "minimax", [0.9, 0.1]])
    @pytest.mark.parametrize("loss", LABELS)
    def test_the_last_layer_learns_as_any_other(self, weights, loss):
        """From its inputs alone, which are kept; others through the model, batch by batch."""
        X, body = rows(600), network()
        start = {"importance": "uniform", "group_weights": weights, "rank": {"2": 2}}
        settings = DISTILL | start | {"loss": loss}
        CALLS.clear()
        slow = small_of(nn.Sequential(*body, Flip()), X, **settings)
        assert len(CALLS) > 10  # control: one for each evaluation
        found = small_of(body, X, **settings)
        assert same(found(X).flip(1), slow(X), 1e-3)
        assert not same(found(X), small_of(body, X, **start)(X), 1e-2)  # control

    def test_what_comes_before_the_last_layer_runs_once(self):
        model = nn.Sequential(nn.Sequential(Flip(), nn.Tanh()), nn.Linear(D, K).double())
        CALLS.clear()
        small_of(model, **DISTILL)
        # And once each to see that gradients come and the thin layers run, twice how rows come out.
        assert len(CALLS) == 5

    def test_has_nothing_to_gain_where_the_cut_is_the_least_already(self):
        """Of a linear model and squares, the two have one objective, but for the ridge."""
        model, X, alone = nn.Linear(D, K).double(), rows(), {"borrowed_rows": 0}
        cut, trained = (
            divergences(model, small_of(model, X, **settings), X, "squared").mean()
            for settings in (alone, alone | {"refine": "distill", "loss": "squared"})
        )
        assert cut <= 1.01 * trained

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("how", ["distill", "distill_network"])
    def test_that_is_no_gain_is_said(self, how, monkeypatch):
        """Where it is one, nothing is."""
        settings, X = DISTILL | {"refine": how}, rows(2000)
        small_of(network_of(0), X, **settings)
        monkeypatch.setattr("skfairft.compression.distill._GAIN", 1.0)
        monkeypatch.setattr("skfairft.compression.sampled._RATES", (0.0,))
        with pytest.warns(UserWarning, match="trained in vain: on the 400 rows held out"):
            small_of(network_of(0), X, **settings)

    @pytest.mark.parametrize("refine", [None, "distill"])
    def test_minimax_is_better_for_the_worst_group(self, refine):
        """Of a rare group that has directions of its own, in inputs and outputs."""
        X, model = rows(600), nn.Linear(D, K).double()
        X[groups_of(600), :5], X[~groups_of(600), 5:] = 0.0, 0.0
        with torch.no_grad():
            model.weight[:4, 5:], model.weight[4:, :5] = 0.0, 0.0
        worst = [
            divergences(
                model,
                small_of(model, X, rank=3, group_weights=weights, loss="squared", refine=refine),
                X,
                "squared",
            ).max()
            for weights in ("minimax", "proportional")
        ]
        assert worst[0] < 0.8 * worst[1]


@pytest.mark.parametrize("group_weights", [None, "minimax"])
@pytest.mark.parametrize("of", ["inputs", "outputs"])
class TestUnits:
    """In which units inputs and outputs are does not matter, but for rounding."""

    def test_do_not_change_what_training_gains(self, of, group_weights):
        gains = []
        for unit in (1.0, 1e-4, 1e4):
            model, X = network_of(0), rows()
            with torch.no_grad():
                if of == "inputs":
                    X, model[0].weight.data = X * unit, model[0].weight / unit
                else:
                    model[2].weight.mul_(unit)
                    model[2].bias.mul_(unit)
            settings = {"loss": "squared", "group_weights": group_weights, "rank": 3}
            settings["sequential"] = False
            cuts = [small_of(model, X, refine=refine, **settings) for refine in (None, "distill")]
            before, after = (divergences(model, small, X, "squared").mean() for small in cuts)
            gains.append(float(after / before))
        assert gains[0] < 0.9
        np.testing.assert_allclose(gains, gains[0], rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_that_is_too_far_is_made_smaller(dtype, seed, monkeypatch):
    """What overflows on the way is not where training ends."""
    torch.manual_seed(seed)
    model, X = network().to(dtype), rows(dtype=dtype)
    if dtype == torch.float32:
        with torch.no_grad():
            model[2].weight.mul_(1e12)
    cut = partial(small_of, model, X, rank=3, loss="softmax", refine="distill")
    end = divergences(model, cut(), X).mean()
    monkeypatch.setattr(Training, "in_full_batches", lambda *given: None)
    assert end <= 1.02 * divergences(model, cut(), X).mean()


def test_what_is_not_finite_is_a_step_too_far():
    """The first step, of length 1, goes where the model gives nothing that can be used."""
    number = nn.Parameter(torch.zeros(1).double())
    reached = []

    def outputs():
        reached.append(number.item())
        if number.item() > 0.4:
            raise NotFiniteError
        return iter([(slice(0, 8), number.expand(8, 1))])

    distill(
        [number],
        [1.0],
        outputs,
        torch.full((8, 1), 0.3).double(),
        torch.zeros(8).long(),
        torch.arange(8) < 2,
        lambda out, target: (out - target).square().sum(1),
        torch.ones(1).double(),
        mixing=torch.eye(1).double(),
        max_iter=20,
    )
    assert max(reached) > 0.4
    assert number.item() == pytest.approx(0.3, abs=1e-6)


def test_a_group_of_which_no_row_is_held_out_is_judged():
    """On all its rows: it would seem to lose nothing at the start, which would be kept."""
    codes = torch.arange(40) % 2
    held_out = (torch.arange(40) < 10) & (codes == 0)
    number, uncut = nn.Parameter(torch.zeros(1).double()), codes[:, None].double()
    distill(
        [number],
        [1.0],
        lambda: iter([(slice(0, 40), number.expand(40, 1))]),
        uncut,
        codes,
        held_out,
        lambda out, target: (out - target).square().sum(1),
        None,
        mixing=torch.eye(2).double(),
        max_iter=20,
    )
    assert number.item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", ">i8", "int8", object])
def test_labels_may_be_of_any_whole_type(dtype):
    y = np.arange(N) % K
    expected, found = (small_of(network_of(0), y=each, **FISHER) for each in (y, y.astype(dtype)))
    assert torch.equal(found(rows()), expected(rows()))


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
def test_drawn_labels_do_not_depend_on_the_size_of_batches(loss):
    settings = {"importance": "kfac", "loss": loss}
    found = [small_of(network_of(0), batch_size=size, **settings) for size in (7, 64)]
    assert same(found[0](rows()), found[1](rows()))


class TestWarnings:
    @pytest.mark.parametrize(
        ("s", "words"),
        [
            (np.arange(N) < 29, r"few rows to tell what they need: True has 29"),
            (np.zeros(N), r"constant: all 200 rows belong to the group 0"),
        ],
    )
    def test_of_groups_that_cannot_be_heeded(self, s, words):
        with pytest.warns(FairnessWarning, match=words):
            small_of(network(), sensitive_features=s)
        for settings in ({"group_weights": "proportional"}, {"importance": "uniform"}):
            small_of(network(), sensitive_features=s, **settings)  # which heed none

    def test_of_a_bound_that_the_cut_model_need_not_meet(self):
        X, y, s = make_biased_classification(300, 8, disparity=0.4, random_state=0)
        settings = {"solver": "closed_form", "importance": "covariance", "rank": 1}
        for constraint in ("demographic_parity", None):
            own = {"constraint": constraint, "fairness_weight": constraint and 0.5}
            backbone = nn.Sequential(nn.Linear(8, 8), nn.Tanh()).double()
            clf = FairLowRankHeadClassifier(backbone, **settings, **own)
            model = clf.fit(X, y, sensitive_features=s).to_torch()
            names = [name for name, part in model.named_modules() if type(part) is nn.Linear]
            cut = partial(compress, model, X, sensitive_features=s, rank=2, layers=names[:1])
            if constraint is None:
                cut()
                continue
            with pytest.warns(FairnessWarning, match="constraint='demographic_parity', which a"):
                cut()


def test_a_thin_layer_is_not_cut_again():
    once = small_of(network())
    with pytest.raises(ValueError, match="Sequential has no layer that can be cut"):
        small_of(once)


def test_of_a_model_with_thin_layers_the_others_are_cut_with_a_warning():
    once = small_of(network(), layers=["0"])
    with pytest.warns(UserWarning, match=r"The layers \['0'\] are thin already and stay"):
        twice = small_of(once)
    assert cut_layers(twice) == ["0", "2"]
    assert torch.equal(twice[0].weight, once[0].weight)
    assert cut_layers(small_of(once, layers=["2"])) == ["0", "2"]  # asked for: no warning


class TestBorrowedRows:
    @pytest.mark.parametrize("settings", [{}, DISTILL | {"loss": "squared"}])
    @pytest.mark.parametrize("weights", [None, "minimax"])
    def test_in_great_numbers_make_all_groups_alike(self, weights, settings):
        """What is left are the rows of all, each of which counts the same."""
        model, X = nn.Linear(D, K).double(), rows()
        own = small_of(model, X, group_weights="proportional", **settings)
        found = [
            small_of(model, X, group_weights=weights, borrowed_rows=n, **settings)(X)
            for n in (1e12, 0)
        ]
        assert same(found[0], own(X), 1e-3)
        assert not same(found[1], own(X), 1e-2)  # control

    @pytest.mark.parametrize("weights", ["proportional", [0.3, 0.7], {False: 0.3, True: 0.7}])
    def test_are_none_where_the_weights_are_given(self, weights):
        model, X = network(), rows()
        found = [small_of(model, X, group_weights=weights, borrowed_rows=n)(X) for n in (0, 500)]
        assert same(*found)


class TestObjective:
    """`distill` itself: a linear layer, and squares, whose least is known."""

    @staticmethod
    def train(Z, uncut, codes, held_out, shares, max_iter=100):
        """Return the objective on rows held out before and after, and the groups' means after."""
        layer = nn.Linear(Z.shape[1], uncut.shape[1]).double()

        def means(of):
            each = (layer(Z) - uncut).square().sum(1).detach()
            return torch.stack([each[of & (codes == g)].mean() for g in (0, 1)])

        def objective():
            return float(means(held_out).max() if shares is None else shares @ means(held_out))

        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.zero_()
        before = objective()
        distill(
            list(layer.parameters()),
            [1.0, 1.0],
            lambda: iter([(part, layer(Z[part])) for part in (slice(0, 9), slice(9, len(Z)))]),
            uncut,
            codes,
            held_out,
            lambda out, target: (out - target).square().sum(1),
            shares,
            mixing=torch.eye(2).double(),
            max_iter=max_iter,
        )
        return before, objective(), means(~held_out)

    @staticmethod
    def make(seed, n=24, noise=1.0):
        rng = np.random.default_rng(seed)
        Z, codes = rng.normal(size=(n, 5)), np.arange(n) % 3 // 2
        uncut = np.einsum("nd,ndk->nk", Z, rng.normal(size=(2, 5, 3))[codes])
        uncut = uncut + noise * (1.0 + codes)[:, None] * rng.normal(size=(n, 3))
        return tuple(map(torch.from_numpy, (Z, uncut, codes)))

    @pytest.mark.parametrize("shares", [None, [0.5, 0.5], [0.9, 0.1]])
    def test_on_rows_held_out_it_is_never_above_the_start(self, shares):
        """Of few rows, and noise, which is learned by heart."""
        shares = None if shares is None else torch.tensor(shares).double()
        ends = [
            self.train(*self.make(seed, noise=1.5), torch.arange(24) % 4 == 0, shares, 30)[:2]
            for seed in range(12)
        ]
        assert all(after <= before for before, after in ends)
        # Controls: some learn, and some would have become worse.
        assert any(after < 0.9 * before for before, after in ends)
        assert any(after == before for before, after in ends)

    @staticmethod
    def least_squares(Z, uncut, codes, shares):
        """Return the groups' means at the least for given weights."""
        w = (shares / torch.bincount(codes))[codes].sqrt()[:, None]
        Z = torch.cat([Z, torch.ones(len(Z), 1)], dim=1)
        each = (uncut - Z @ torch.linalg.lstsq(w * Z, w * uncut).solution).square().sum(1)
        return torch.stack([each[codes == g].mean() for g in (0, 1)])

    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_the_least_for_its_weights(self, seed):
        """Rows held out are those that it is trained on, so that the two do not differ."""
        problem = self.make(seed)
        twice = [torch.cat([each, each]) for each in problem]
        held_out = torch.arange(48) < 24
        for share in (0.2, 0.5):
            shares = torch.tensor([1.0 - share, share]).double()
            *_, means = self.train(*twice, held_out, shares)
            least = float(shares @ self.least_squares(*problem, shares))
            assert least <= float(shares @ means) <= 1.01 * least
        *_, means = self.train(*twice, held_out, None)
        grid = torch.linspace(0.0, 1.0, 101).tolist()
        largest = [
            float(self.least_squares(*problem, torch.tensor([1.0 - s, s]).double()).max())
            for s in grid
        ]
        # The smooth maximum is above the largest by at most a tenth of it times the log of 2.
        assert float(means.max()) <= 1.08 * min(largest)
        assert float(means.max()) < 0.95 * largest[50]  # control: equal weights
