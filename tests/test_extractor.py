"""Features are those of the module, and the module is left as it was."""

import copy
import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor, load, split_head
from skfairft.feature_store import FeatureStoreWarning

# What happens when the module runs; test_once.py is about rows that need not run.
extractor_of = partial(FrozenFeatureExtractor, memory=False)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)


@pytest.fixture
def restless():
    """A network that is another one in training mode, with flags, statistics and a gradient."""
    module = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 5)
    )
    module(torch.randn(64, 4)).square().sum().backward()
    module.train()
    module[2].eval()
    module[0].weight.requires_grad_(False)
    return module


def snapshot(module):
    """Everything about a module that using it might change."""
    return {
        "training": [part.training for part in module.modules()],
        "tensors": [tensor.clone() for tensor in module.state_dict().values()],
        "identities": [id(parameter) for parameter in module.parameters()],
        "requires_grad": [parameter.requires_grad for parameter in module.parameters()],
        "grad": [
            None if parameter.grad is None else parameter.grad.clone()
            for parameter in module.parameters()
        ],
        "devices": [tensor.device for tensor in module.state_dict().values()],
        "dtypes": [tensor.dtype for tensor in module.state_dict().values()],
        "hooks": [
            len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()
        ],
    }


def same(first, second):
    def equal(a, b):
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

    return all(all(map(equal, first[key], second[key])) for key in first)


def in_eval_mode(module, X):
    module = copy.deepcopy(module).eval()
    with torch.no_grad():
        return module(torch.as_tensor(X)).numpy()


class TestFeatures:
    @pytest.mark.parametrize("batch_size", [1, 7, 22, 23, 256])
    def test_are_the_module_s_in_evaluation_mode(self, X, restless, batch_size):
        expected = in_eval_mode(restless, X)
        with torch.no_grad():
            training = copy.deepcopy(restless)(torch.from_numpy(X)).numpy()
        assert np.abs(training - expected).max() > 0.1  # control: the mode matters
        before = snapshot(restless)
        assert any(before["training"])
        assert not all(before["training"])
        extractor = extractor_of(restless, batch_size=batch_size)
        for found in (
            extractor.fit_transform(X),
            extractor.fit(X).transform(X),
            extractor_of(restless, batch_size=batch_size).transform(X),
        ):
            np.testing.assert_allclose(found, expected, atol=1e-6)
        assert same(before, snapshot(restless))

    def test_the_snapshot_sees_changes(self, X, restless):
        """Control of `same`: one forward pass in training mode moves the running mean."""
        before = snapshot(restless)
        restless(torch.from_numpy(X))
        assert not same(before, snapshot(restless))
        before = snapshot(restless)
        restless[3].eval()
        assert not same(before, snapshot(restless))

    @pytest.mark.parametrize("failure", ["error", "interrupt", "NaN", "shape"])
    def test_the_module_is_as_it_was_after_a_failure(self, X, restless, failure):
        class Fails(nn.Module):
            def forward(self, x):
                if failure == "error":
                    raise RuntimeError("no")
                if failure == "interrupt":
                    raise KeyboardInterrupt
                return x * np.nan if failure == "NaN" else x[:, :, None, None]

        module = nn.Sequential(restless, Fails())
        before = snapshot(module)
        with pytest.raises(KeyboardInterrupt if failure == "interrupt" else ValueError):
            extractor_of(module, batch_size=10).transform(X)
        assert same(before, snapshot(module))
        assert torch.is_grad_enabled()

    def test_what_the_module_keeps_can_be_used_in_training(self, X):
        class Caches(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(4, 2))

            def forward(self, x):
                self.last = x @ self.weight
                return self.last

        module = Caches()
        extractor_of(module).transform(X)
        assert not module.last.requires_grad
        (module.last @ module.weight.T).sum().backward()  # inference tensors would raise here
        assert module.weight.grad is not None

    @pytest.mark.parametrize(
        ("dtype", "expected", "tolerance"),
        [
            (torch.float64, np.float64, 1e-12),
            (torch.float32, np.float32, 1e-6),
            (torch.bfloat16, np.float32, 0.05),
            (torch.float16, np.float32, 0.005),
        ],
    )
    @pytest.mark.parametrize("input_dtype", [np.float64, np.float32, np.float16, np.int64])
    def test_dtypes(self, X, dtype, expected, tolerance, input_dtype):
        module = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).to(dtype)
        rows = (4 * X).astype(input_dtype)
        for given in (rows, torch.from_numpy(rows)):
            if isinstance(given, torch.Tensor) and not given.is_floating_point():
                continue  # token ids, see below
            found = extractor_of(module).fit_transform(given)
            assert found.dtype == expected
            exact = in_eval_mode(copy.deepcopy(module).double(), rows.astype(np.float64))
            np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance)
        assert module[0].weight.dtype == dtype

    def test_integer_tensors_are_token_ids_and_integer_arrays_are_numbers(self):
        ids = np.array([[1, 2], [3, 0]])
        embedding = nn.Sequential(nn.Embedding(4, 3), nn.Flatten())
        found = extractor_of(embedding).fit_transform(torch.from_numpy(ids))
        np.testing.assert_array_equal(found, in_eval_mode(embedding, torch.from_numpy(ids)))
        linear = nn.Linear(2, 3)
        found = extractor_of(linear).fit_transform(ids)
        np.testing.assert_allclose(found, in_eval_mode(linear, ids.astype(np.float32)), atol=1e-6)

    @pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
    def test_images(self, make):
        images = np.random.default_rng(0).normal(size=(5, 3, 6, 6)).astype(np.float32)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        extractor = extractor_of(module, batch_size=2)
        found = extractor.fit_transform(make(images))
        np.testing.assert_allclose(found, in_eval_mode(module, images), atol=1e-6)
        assert extractor.n_features_in_ == 3
        assert extractor.get_feature_names_out().shape == (4,)

    def test_each_row_runs_once_and_a_few_by_themselves(self, X):
        seen = []
        module = nn.Linear(4, 2)
        module.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
        extractor = extractor_of(module, batch_size=10)
        extractor.fit_transform(X)
        assert seen == [10, 4, 10, 3]
        seen.clear()
        extractor.transform(X)
        assert seen == [10, 10, 3]
        seen.clear()
        extractor.fit(X)
        assert seen == [8, 4]  # the shape of one row, and whether rows stand for themselves

    def test_input_is_not_changed(self, X):
        # An in-place first layer would write into the caller's memory.
        module = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))
        expected = in_eval_mode(module, X.copy())
        for rows in (X, torch.from_numpy(X), pd.DataFrame(X), X[::-1]):
            before = np.asarray(rows).copy()
            extractor_of(module).fit_transform(rows)
            np.testing.assert_array_equal(np.asarray(rows), before)
        found = extractor_of(module).transform(X[::-1])  # negative strides
        np.testing.assert_allclose(found[::-1], expected, atol=1e-6)


class TwoInputs(nn.Module):
    def forward(self, ids, mask):
        return torch.stack([(ids * mask).sum(1), mask.sum(1)], dim=1)


class TestPreprocess:
    texts = ("a", "bb", "ccc", "dddd", "e")
    expected = ((1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0), (1.0, 1.0))

    @pytest.mark.parametrize("container", [list, np.array, pd.Series, tuple])
    @pytest.mark.parametrize("kind", ["tensor", "tuple", "list", "dict"])
    def test_what_it_may_return(self, container, kind):
        calls = []

        def preprocess(texts):
            calls.append(len(texts))
            ids = torch.ones(len(texts), 4)
            mask = torch.tensor([[i < len(text) for i in range(4)] for text in texts]).float()
            if kind == "tensor":
                return torch.stack([mask.sum(1), mask.sum(1)], dim=1)
            if kind == "dict":
                return {"mask": mask, "ids": ids}
            return (ids, mask) if kind == "tuple" else [ids, mask]

        module = nn.Identity() if kind == "tensor" else TwoInputs()
        extractor = extractor_of(module, preprocess=preprocess, batch_size=2)
        found = extractor.fit_transform(container(self.texts))
        np.testing.assert_array_equal(found, self.expected)
        assert calls == [2, 1, 2, 1]  # a row of the first batch by itself
        assert not hasattr(extractor, "n_features_in_")

    def test_frames_are_cut_by_rows(self):
        frame = pd.DataFrame({"width": [1, 2, 3], "word": ["x", "yy", "zzz"]})
        frame.index = [9.5, 7.5, 8.5]

        def preprocess(rows):
            return torch.tensor([[w, len(word)] for w, word in rows.to_numpy()]).float()

        extractor = extractor_of(nn.Identity(), preprocess=preprocess, batch_size=2)
        np.testing.assert_array_equal(extractor.fit_transform(frame), [[1, 1], [2, 2], [3, 3]])
        assert extractor.feature_names_in_.tolist() == ["width", "word"]

    def test_floats_take_the_module_s_dtype_and_integers_stay(self):
        class Embeds(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = nn.Embedding(5, 2).bfloat16()

            def forward(self, ids, scale):
                assert ids.dtype == torch.int64
                assert scale.dtype == torch.bfloat16
                return self.table(ids) * scale

        def preprocess(texts):
            ids = torch.tensor([len(text) for text in texts])
            return ids, torch.ones(len(texts), 1, dtype=torch.float64)

        extractor = extractor_of(Embeds(), preprocess=preprocess)
        assert extractor.fit_transform(list(self.texts)).shape == (5, 2)


class TestEstimator:
    def test_clones_share_the_module(self):
        module = nn.Linear(4, 2)
        extractor = extractor_of(module, batch_size=3)
        assert clone(extractor).module is module
        assert clone(extractor).batch_size == 3
        assert extractor.get_params()["module"] is module

    def test_output_of_pandas(self, X):
        extractor = extractor_of(nn.Linear(4, 2)).set_output(transform="pandas")
        frame = clone(extractor).fit_transform(pd.DataFrame(X, columns=list("abcd")))
        assert frame.columns.tolist() == ["frozenfeatureextractor0", "frozenfeatureextractor1"]

    def test_in_a_pipeline_of_scikit_learn_alone(self, X):
        y = (X[:, 0] > 0).astype(int)
        model = make_pipeline(extractor_of(nn.Linear(4, 8)), LogisticRegression())
        assert model.fit(X, y).score(X, y) > 0.8

    def test_pickles(self, X, restless):
        extractor = extractor_of(restless).fit(X)
        again = pickle.loads(pickle.dumps(extractor))
        np.testing.assert_array_equal(again.transform(X), extractor.transform(X))

    def test_verbose(self, X, capsys):
        for verbose in (0, 1):
            extractor_of(nn.Linear(4, 2), verbose=verbose).transform(X)
            assert ("23/23" in capsys.readouterr().err) == bool(verbose)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    def test_a_gpu_is_used_and_the_module_comes_back(self, X, restless):
        expected = in_eval_mode(restless, X)
        seen = []
        restless.register_forward_pre_hook(lambda module, args: seen.append(args[0].device.type))
        before = snapshot(restless)
        for device, used in (("auto", "cuda"), ("cuda:0", "cuda"), (None, "cpu"), ("cpu", "cpu")):
            seen.clear()
            found = extractor_of(restless, device=device).transform(X)
            np.testing.assert_allclose(found, expected, atol=1e-4)
            assert set(seen) == {used}
            assert same(before, snapshot(restless))


class TinyResNet(nn.Module):
    """Registers its head last, as torchvision does, but runs a custom forward."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.block = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        self.norm = nn.BatchNorm1d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.fc(torch.relu(self.norm(x + self.block(x))))


class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = nn.ModuleDict({"net": inner})

    def forward(self, x):
        return self.inner["net"](x)


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


# Models whose logits are the output of their last linear layer.
MODELS = {
    "sequential": mlp,
    "one layer": lambda: nn.Sequential(nn.Linear(4, 3)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), mlp_tail()),
    "residual": TinyResNet,
    "wrapped": lambda: Wrapper(TinyResNet()),
    "wrapped sequential": lambda: Wrapper(mlp()),
    "in the middle of a Sequential": lambda: nn.Sequential(nn.Linear(4, 4), TinyResNet()),
}
# The same with a softmax behind it.
SOFTMAX = {
    "sequential": lambda: nn.Sequential(*mlp(), nn.Softmax(dim=1)),
    "nested": lambda: nn.Sequential(mlp(), nn.Softmax(dim=1)),
    "residual": lambda: nn.Sequential(TinyResNet(), nn.Dropout(0.0), nn.Softmax(dim=1)),
    "wrapped": lambda: Wrapper(nn.Sequential(TinyResNet(), nn.Softmax(dim=1))),
}


def mlp_tail():
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))


class TestSplitHead:
    @pytest.mark.parametrize("name", MODELS)
    def test_extractor_then_head_is_the_model(self, X, name):
        model = MODELS[name]().eval()
        extractor, head = split_head(model)
        rows = torch.from_numpy(X)
        features = extractor(rows)
        assert features.shape == (23, head.in_features)
        torch.testing.assert_close(head(features), model(rows))

    @pytest.mark.parametrize("name", SOFTMAX)
    def test_a_softmax_behind_the_head_is_left_out(self, X, name):
        model = SOFTMAX[name]().eval()
        extractor, head = split_head(model)
        rows = torch.from_numpy(X)
        torch.testing.assert_close(torch.softmax(head(extractor(rows)), dim=1), model(rows))

    @pytest.mark.parametrize("model", [*MODELS.values(), *SOFTMAX.values()])
    def test_the_model_is_not_changed_but_shared(self, X, model):
        model = model().eval()
        before, text, output = snapshot(model), repr(model), model(torch.from_numpy(X))
        parts = dict(model.named_modules())
        extractor, head = split_head(model)
        extractor.train()
        extractor.custom = 1
        assert not hasattr(model, "custom")
        extractor.eval()
        assert same(before, snapshot(model))
        assert repr(model) == text
        assert dict(model.named_modules()) == parts
        torch.testing.assert_close(model(torch.from_numpy(X)), output)
        assert any(part is head for part in parts.values())
        shared = {id(parameter) for parameter in model.parameters()}
        assert {id(p) for p in (*extractor.parameters(), *head.parameters())} <= shared

    def test_the_parts_go_into_the_classifier_s_pieces(self, X):
        model = TinyResNet().train()
        extractor, head = split_head(model)
        features = extractor_of(extractor, batch_size=5).fit_transform(X)
        found = head(torch.from_numpy(features)).detach()
        np.testing.assert_allclose(found, in_eval_mode(model, X), atol=1e-5)
        assert all(part.training for part in model.modules())

    @pytest.mark.parametrize("model", [nn.Linear(4, 2), nn.Conv2d(3, 4, 3), nn.Sequential()])
    def test_what_cannot_be_cut(self, model):
        with pytest.raises(ValueError, match=r"cannot be cut: expected a model with an nn\.Linear"):
            split_head(model)


class TestWeightsThatChangeAfterFit:
    @pytest.fixture
    def fitted(self):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
        X = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
        return FrozenFeatureExtractor(module).fit(X), X

    @pytest.mark.parametrize("later", [lambda each: each, lambda e: pickle.loads(pickle.dumps(e))])
    def test_are_said_and_their_return_is_not(self, fitted, later):
        extractor, X = later(fitted[0]), fitted[1]
        before = extractor.transform(X)
        for tensor in (extractor.module[0].weight, extractor.module[1].running_mean):
            kept = tensor.detach().clone()
            tensor.data += 1.0
            with pytest.warns(UserWarning, match="weights of Sequential are others than at fit"):
                assert np.abs(extractor.transform(X) - before).max() > 0.1
            tensor.data.copy_(kept)
            np.testing.assert_array_equal(extractor.transform(X), before)

    def test_are_not_said_of_a_new_fit_or_of_no_memory(self, fitted):
        extractor, X = fitted
        extractor.module[0].weight.data += 1.0
        extractor.fit(X).transform(X)
        silent = FrozenFeatureExtractor(extractor.module, memory=False).fit(X)
        extractor.module[0].weight.data += 1.0
        silent.transform(X)  # nothing is looked at

    def test_what_is_filled_in_as_a_module_runs_is_no_weight(self, fitted):
        class Cached(nn.Linear):
            def forward(self, x):
                self.register_buffer("table", torch.arange(len(x)), persistent=False)
                return super().forward(x)

        _, X = fitted
        extractor = FrozenFeatureExtractor(Cached(5, 3), memory=False).fit(X)
        extractor.set_params(memory=None)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", FeatureStoreWarning)
            extractor.transform(X[:20])

    def test_a_classifier_says_so_and_does_not_save(self, fitted, tmp_path):
        extractor, X = fitted
        y, s = np.arange(30) % 2, np.arange(30) // 2 % 2
        clf = FairLowRankHeadClassifier(extractor.module).fit(X, y, sensitive_features=s)
        clf.save(tmp_path)
        before = extractor.module[0].weight.detach().clone()
        extractor.module[0].weight.data += 1.0
        with pytest.warns(UserWarning, match="others than at fit"):
            clf.predict(X)
        with pytest.warns(UserWarning, match="others than at fit"):
            clf.to_torch()
        with pytest.raises(ValueError, match="others than at fit"):
            clf.save(tmp_path)
        extractor.module[0].weight.data.copy_(before)
        found = load(tmp_path, extractor.module)
        extractor.module[0].weight.data *= 2.0
        with pytest.raises(ValueError, match="others than at fit"):
            found.save(tmp_path)
