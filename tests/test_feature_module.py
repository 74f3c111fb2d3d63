"""The features that are picked are those one would pick by hand."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.backbone.feature_module import FeatureModule


class Net(nn.Module):
    """A small convolutional network that says which of its parts ran."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 4)
        self.unused = nn.Linear(2, 2)
        self.ran = []

    def forward(self, x):
        maps = self.stem(x)
        self.ran.append("stem")
        pooled = self.avgpool(maps).flatten(1)
        self.ran.append("avgpool")
        return self.fc(pooled)


class Tokens(nn.Module):
    """Embeddings of token ids, returned in the way of Hugging Face models."""

    def __init__(self, form="mapping"):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = nn.Embedding(10, 5)
        self.form = form

    def forward(self, input_ids, attention_mask=None):
        states = self.embedding(input_ids)
        if self.form == "tuple":
            return states, states[:, 0]
        if self.form == "without pooler":
            return {"last_hidden_state": states, "pooler_output": None}
        return {"last_hidden_state": states, "pooler_output": torch.tanh(states[:, 0])}


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(9, 3, 6, 7)).astype(np.float32)


@pytest.fixture
def tokens():
    ids = torch.randint(0, 10, (7, 4), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(4) < torch.tensor([1, 2, 3, 4, 4, 1, 2])[:, None]).long()
    return ids, mask


def extract(module, X, **settings):
    return FrozenFeatureExtractor(module, memory=False, **settings).fit_transform(X)


class TestLayer:
    def test_gives_that_layer_s_output(self, images):
        net = Net()
        with torch.no_grad():
            expected = net.avgpool(net.stem(torch.from_numpy(images))).flatten(1).numpy()
        found = extract(net, images, layer="avgpool", pool="mean")
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert found.shape == (9, 6)
        assert extract(net, images).shape == (9, 4)  # control: the layer matters

    def test_nested_names_and_the_layers_after_it_do_not_run(self, images):
        net = Net()
        found = extract(net, images, layer="stem.1", pool="max")
        with torch.no_grad():
            expected = net.stem(torch.from_numpy(images)).amax((2, 3)).numpy()
        np.testing.assert_array_equal(found, expected)
        assert net.ran == []
        extract(net, images, layer="fc")
        assert net.ran[:2] == ["stem", "avgpool"]

    def test_leaves_no_hook_behind(self, images):
        net = Net()
        extract(net, images, layer="fc")
        with pytest.raises(ValueError, match="does not go with"):
            extract(net, images, layer="fc", pool="mean")
        assert not any(part._forward_hooks for part in net.modules())

    def test_an_unknown_name_is_an_error_that_knows_near_ones(self, images):
        with pytest.raises(ValueError, match=r"no layer 'avg_pool'.*'avgpool'"):
            extract(Net(), images, layer="avg_pool")

    def test_a_layer_that_is_not_run_is_an_error(self, images):
        with pytest.raises(ValueError, match="layer='unused' of Net is not run"):
            extract(Net(), images, layer="unused")

    @pytest.mark.parametrize("inside", [False, True])
    def test_is_seen_in_what_was_compiled_and_ran_before(self, images, inside):
        net = Net().eval()
        expected = extract(net, images, layer="stem.1", pool="max")
        if inside:
            net.stem.compile(backend="eager")
        else:
            net.stem = torch.compile(net.stem, backend="eager")
        with torch.no_grad():
            net(torch.as_tensor(images))
        layer = "stem.1" if inside else "stem._orig_mod.1"
        np.testing.assert_array_equal(extract(net, images, layer=layer, pool="max"), expected)


class TestOutput:
    def test_the_pooled_output_is_the_default(self, tokens):
        ids, _ = tokens
        module = Tokens()
        expected = torch.tanh(module.embedding(ids[:, :1])[:, 0]).detach().numpy()
        np.testing.assert_array_equal(extract(module, ids), expected)

    @pytest.mark.parametrize(
        ("form", "output"), [("mapping", "last_hidden_state"), ("tuple", 0), ("tuple", -2)]
    )
    def test_a_named_output(self, tokens, form, output):
        ids, _ = tokens
        module = Tokens(form)
        expected = module.embedding(ids)[:, 0].detach().numpy()
        found = extract(module, ids, output=output, pool="first")
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        ("form", "output", "message"),
        [
            ("mapping", "hidden", r"output='hidden' is not in .*\['last_hidden_state', 'pooler"),
            ("tuple", 2, "output=2 is not in .* tuple of 2"),
            ("tuple", "states", "output='states' is not in .* tuple of 2"),
            ("tuple", None, "returned a tuple of 2; expected one tensor .* output="),
            ("without pooler", None, r"returned a dict with \['last_hidden_state', 'pooler_o"),
        ],
    )
    def test_what_cannot_be_picked_is_an_error(self, tokens, form, output, message):
        with pytest.raises(ValueError, match=message):
            extract(Tokens(form), tokens[0], output=output)

    def test_output_of_a_plain_tensor_is_an_error(self, images):
        with pytest.raises(ValueError, match="one tensor; leave output=None"):
            extract(Net(), images, output="pooler_output")


class TestPool:
    @pytest.mark.parametrize("pool", ["mean", "max"])
    def test_counts_only_the_tokens_of_the_mask(self, tokens, pool):
        ids, mask = tokens
        module = Tokens()

        def batch(numbers):
            return {"input_ids": ids[numbers], "attention_mask": mask[numbers]}

        found = extract(
            module, np.arange(7), preprocess=batch, output="last_hidden_state", pool=pool
        )
        reduce = {"mean": lambda part: part.mean(0), "max": lambda part: part.amax(0)}[pool]
        expected = [
            reduce(module.embedding(row[: int(kept.sum())])).detach().numpy()
            for row, kept in zip(ids, mask, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        without = extract(module, ids, output="last_hidden_state", pool=pool)
        assert np.abs(found - without).max() > 0.1  # control: the mask matters

    def test_first_goes_with_tokens_only(self, images):
        with pytest.raises(ValueError, match=r"pool='first' .* \(9, 6, 4, 5\)"):
            extract(Net(), images, layer="stem", pool="first")

    def test_half_precision_maps_are_averaged_in_single(self):
        class Half(nn.Module):
            def forward(self, x):
                return x.to(torch.bfloat16)

        maps = np.random.default_rng(0).uniform(size=(2, 3, 64, 64)).astype(np.float32)
        rounded = torch.from_numpy(maps).to(torch.bfloat16).double().mean((2, 3)).numpy()
        np.testing.assert_allclose(extract(Half(), maps, pool="mean"), rounded, rtol=1e-5)


class TestPrecision:
    @pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
    def test_mixed_precision_is_near_and_not_equal(self, images, dtype):
        net = Net()
        exact = extract(net, images)
        found = extract(net, images, dtype=dtype)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, atol=0.02)
        assert np.abs(found - exact).max() > 0
        assert net.fc.weight.dtype == torch.float32

    def test_channels_last_changes_nothing(self, images):
        net = Net()
        found = extract(net, images, channels_last=True)
        np.testing.assert_allclose(found, extract(net, images), rtol=1e-5, atol=1e-6)

    def test_channels_last_reaches_the_module(self, images):
        class Layout(nn.Module):
            def forward(self, x):
                last = x.is_contiguous(memory_format=torch.channels_last)
                return torch.full((len(x), 1), float(last))

        assert extract(Layout(), images, channels_last=True).all()
        assert not extract(Layout(), images).any()

    @pytest.mark.slow  # torch.compile takes half a minute, and a C++ compiler
    @pytest.mark.filterwarnings("default::DeprecationWarning")  # of torch about itself
    @pytest.mark.parametrize("settings", [{}, {"layer": "avgpool", "pool": "mean"}])
    def test_compiled_features_are_the_same(self, images, settings):
        net = Net()
        found = extract(net, images, compile=True, batch_size=4, **settings)
        np.testing.assert_allclose(found, extract(net, images, **settings), rtol=1e-4, atol=1e-5)


def test_the_deployed_module_picks_the_same_features(images):
    y = np.arange(9) % 2
    extractor = FrozenFeatureExtractor(Net(), layer="avgpool", pool="mean", memory=False)
    clf = FairLowRankHeadClassifier(extractor, rank=1)
    clf.fit(images, y, sensitive_features=np.arange(9) // 5)
    deployed = clf.to_torch()
    with torch.no_grad():
        scores = deployed(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(scores, clf.decision_function(images), rtol=1e-4, atol=1e-5)


def test_the_deployed_module_takes_a_mapping_by_name(tokens):
    ids, mask = tokens

    def batch(numbers):
        return {"input_ids": ids[numbers], "attention_mask": mask[numbers]}

    extractor = FrozenFeatureExtractor(
        Tokens(), preprocess=batch, output="last_hidden_state", pool="mean", memory=False
    )
    rows = np.arange(7)
    clf = FairLowRankHeadClassifier(extractor, rank=1)
    clf.fit(rows, rows % 2, sensitive_features=rows // 4)
    deployed = clf.to_torch()
    exported = torch.export.export(deployed, (), batch(rows)).module()
    for module in (deployed, exported):
        with torch.no_grad():
            scores = module(**batch(rows)).numpy()
            unmasked = deployed(input_ids=ids).numpy()
        np.testing.assert_allclose(scores, clf.decision_function(rows), rtol=1e-4, atol=1e-5)
        assert np.abs(scores - unmasked).max() > 1e-3  # control: the mask got there


def test_copies_and_pickles(images):
    module = FeatureModule(Net(), layer="stem", pool="mean", dtype="bfloat16").eval()
    with torch.no_grad():
        expected = module(torch.from_numpy(images))
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(other(torch.from_numpy(images)), expected)
