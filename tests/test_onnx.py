"""An ONNX model as a module gives what the same computation gives in torch."""

import copy
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

import skfairft.onnx
from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.datasets import make_biased_classification
from skfairft.onnx import OnnxModule

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def graph(text, **weights):
    """An ONNX model from onnx's own notation, with weights from arrays or torch tensors."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    for name, value in weights.items():
        array = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def encoded(text, **weights):
    return graph(text, **weights).SerializeToString()


def mlp_graph(mlp, kind="float"):
    return encoded(
        f"""mlp ({kind}[N, {mlp[0].in_features}] x) => ({kind}[N, {mlp[2].out_features}] y) {{
            a = Gemm <transB = 1> (x, w, b)
            h = Tanh(a)
            y = Gemm <transB = 1> (h, v, c)
        }}""",
        w=mlp[0].weight,
        b=mlp[0].bias,
        v=mlp[2].weight,
        c=mlp[2].bias,
    )


@pytest.fixture
def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).requires_grad_(False)


@pytest.fixture
def path(mlp, tmp_path):
    (tmp_path / "mlp.onnx").write_bytes(mlp_graph(mlp))
    return tmp_path / "mlp.onnx"


class TestOutput:
    @pytest.mark.parametrize(
        ("kind", "dtype", "tolerance"),
        [
            ("float", torch.float32, 1e-6),
            ("double", torch.float64, 1e-14),
            ("float16", torch.float16, 5e-3),
        ],
    )
    def test_is_that_of_torch(self, mlp, kind, dtype, tolerance):
        x = torch.randn(9, 4, dtype=torch.float64)
        module = OnnxModule(mlp_graph(mlp.to(dtype), kind))
        mlp.double()
        for given in (x, x.float(), x.to(dtype)):
            found = module(given)
            assert found.dtype == dtype
            exact = mlp(given.to(dtype).double())
            torch.testing.assert_close(found.double(), exact, rtol=0, atol=tolerance)
        columns = x.T.contiguous().T
        torch.testing.assert_close(module(columns), module(x), rtol=0, atol=tolerance)

    def test_of_a_convolution(self):
        conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        module = OnnxModule(
            encoded(
                """conv (float[N, 3, H, W] x) => (float[N, F] y) {
                    a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b)
                    r = Relu(a)
                    g = GlobalAveragePool(r)
                    y = Flatten(g)
                }""",
                w=conv.weight,
                b=conv.bias,
            )
        )
        x = torch.randn(4, 3, 9, 12)
        expected = conv(x).relu().mean(dim=(2, 3))
        assert expected.requires_grad
        for given in (x, x.to(memory_format=torch.channels_last), x.clone().requires_grad_()):
            found = module(given)
            assert not found.requires_grad
            torch.testing.assert_close(found, expected.detach())
        features = FrozenFeatureExtractor(module, batch_size=3).fit_transform(x.numpy())
        np.testing.assert_allclose(features, expected.detach(), atol=1e-6)

    def test_can_be_written_to(self, mlp):
        """Also where the graph passes its input on, which must not change."""
        module = OnnxModule(encoded("same (float[N, 2] x) => (float[N, 2] y) {y = Identity(x)}"))
        x = torch.ones(3, 2)
        module(x).add_(1)
        assert torch.equal(x, torch.ones(3, 2))


class TestInputs:
    TWO = """two (int64[N, T] ids, float[N, T] weights) => (float[N, D] mean, float[N, D] half) {
        tokens = Gather(table, ids)
        w = Unsqueeze(weights, axis)
        weighted = Mul(tokens, w)
        mean = ReduceSum <keepdims = 0> (weighted, middle)
        half = Mul(mean, factor)
    }"""

    @pytest.fixture
    def table(self):
        return torch.randn(7, 4)

    @pytest.fixture
    def two(self, table):
        return encoded(
            self.TWO,
            table=table,
            axis=np.array([2]),
            middle=np.array([1]),
            factor=np.array(0.5, dtype=np.float32),
        )

    def test_by_position_and_name(self, two, table):
        ids, weights = torch.randint(0, 7, (5, 3)), torch.rand(5, 3)
        expected = (table[ids] * weights[..., None]).sum(dim=1)
        mean, half = OnnxModule(two, output="mean"), OnnxModule(two, output="half")
        torch.testing.assert_close(mean(ids, weights), expected)
        torch.testing.assert_close(half(ids, weights), expected / 2)
        torch.testing.assert_close(mean(weights=weights, ids=ids), expected)
        torch.testing.assert_close(mean(ids, weights=weights), expected)
        torch.testing.assert_close(mean(ids.int(), weights.double()), expected)
        torch.testing.assert_close(mean(ids.double(), weights), expected)

    def test_through_preprocess(self, two, table):
        texts = ["ab", "c", "abc", "cab"]

        def tokenize(batch):
            ids = torch.zeros(len(batch), 3, dtype=torch.int64)
            for row, text in enumerate(batch):
                ids[row, : len(text)] = torch.tensor([ord(letter) - 96 for letter in text])
            mask = ids > 0
            return {"ids": ids, "weights": mask / mask.sum(dim=1, keepdim=True)}

        extractor = FrozenFeatureExtractor(
            OnnxModule(two, output="mean"), preprocess=tokenize, batch_size=3
        )
        letters = [table[[ord(letter) - 96 for letter in text]].mean(dim=0) for text in texts]
        np.testing.assert_allclose(extractor.fit_transform(texts), torch.stack(letters), atol=1e-6)

    @pytest.mark.parametrize(
        ("kind", "dtype"),
        [
            ("int64", torch.int64),
            ("int32", torch.int32),
            ("uint8", torch.uint8),
            ("bool", torch.bool),
        ],
    )
    def test_of_integers(self, kind, dtype):
        module = OnnxModule(
            encoded(f"cast ({kind}[N, 2] x) => (float[N, 2] y) {{y = Cast <to = 1> (x)}}")
        )
        x = torch.tensor([[0, 1], [1, 0]])
        for given in (x, x.to(dtype), x.float()):
            assert torch.equal(module(given), x.float())
        # As an array without preprocess: the extractor makes it floating point on the way.
        features = FrozenFeatureExtractor(module).fit_transform(x.numpy())
        np.testing.assert_array_equal(features, x)
        for wrong in ([[0.5, 1.0]], [[float("nan"), 1.0]]):
            with pytest.raises(ValueError, match=f"'x'.*float32 that are no torch.{kind}"):
                module(torch.tensor(wrong))
        if dtype != torch.int64:
            with pytest.raises(ValueError, match=r"int64 that are no.*too large"):
                module(torch.tensor([[2**40, 0]]))

    @pytest.mark.parametrize(
        ("args", "kwargs", "arrived"),
        [
            (0, [], "none"),
            (1, [], "1 positional"),
            (3, [], "3 positional"),
            (0, ["ids"], "ids"),
            (0, ["ids", "weights", "token_type_ids"], "ids, weights, token_type_ids"),
            (1, ["ids"], "1 positional, ids"),
            (0, ["input_ids", "weights"], "input_ids, weights"),
        ],
    )
    def test_of_other_names(self, two, args, kwargs, arrived):
        one = torch.ones(2, 3)
        module = OnnxModule(two, output="mean")
        with pytest.raises(ValueError, match="got as inputs") as raised:
            module(*[one] * args, **dict.fromkeys(kwargs, one))
        assert f"got as inputs: {arrived}; expected: " in str(raised.value)
        assert "ids: int64 (N, T), weights: float32 (N, T)" in str(raised.value)

    def test_of_other_shapes(self, path):
        module = OnnxModule(path)
        for shape in [(2, 5), (4,), (2, 4, 1), ()]:
            with pytest.raises(
                ValueError, match=r"shape \(.*expected x: float32 \(N, 4\)"
            ) as raised:
                module(torch.zeros(shape))
            assert str(shape) in str(raised.value)
        with pytest.raises(ValueError, match=r"shape \(1, 5\); expected x: float32 \(N, 4\)"):
            FrozenFeatureExtractor(module).fit(np.zeros((3, 5)))
        with pytest.raises(ValueError, match="'x' of the ONNX model is ndarray; expected a tensor"):
            module(np.zeros((2, 4), dtype=np.float32))

    def test_of_unknown_rank_and_none(self):
        model = graph("any (float[N] x) => (float[M] y) {y = Relu(x)}")
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.ClearField("shape")
        module = OnnxModule(model.SerializeToString())
        assert repr(module) == "OnnxModule(x: float32 -> y: float32)"
        for shape in [(2,), (2, 3), ()]:
            assert module(-torch.ones(shape)).shape == shape
        constant = OnnxModule(encoded("c () => (float[1] y) {y = Constant <value_float = 2.0> ()}"))
        assert constant().sum() == 2

    def test_of_a_fixed_batch(self):
        def fixed(size):
            return OnnxModule(
                encoded(f"fixed (float[{size}, 2] x) => (float[{size}, 2] y) {{y = Relu(x)}}")
            )

        rows = np.array([[1.0, -1.0], [2.0, 3.0], [-1.0, 4.0]])
        with pytest.raises(ValueError, match=r"fixed to 1: .*or use batch_size=1 in Frozen"):
            FrozenFeatureExtractor(fixed(1)).fit_transform(rows)
        found = FrozenFeatureExtractor(fixed(1), batch_size=1).fit_transform(rows)
        np.testing.assert_array_equal(found, np.maximum(rows, 0))
        with pytest.raises(ValueError, match=r"fixed to 2: .*dynamic batch axis\.$"):
            fixed(2)(torch.zeros(3, 2))
        with pytest.raises(ValueError, match=r"expected x: float32 \(1, 2\)\.$"):
            fixed(1)(torch.zeros(3, 3))  # the batch is not all that is wrong


class TestCopies:
    @pytest.fixture
    def check(self, mlp):
        x = torch.randn(5, 4)
        expected = mlp(x)
        return lambda module: torch.testing.assert_close(module(x), expected)

    def test_need_no_file(self, path, check):
        module = OnnxModule(str(path))
        content = path.read_bytes()
        path.unlink()
        for again in (
            module,
            pickle.loads(pickle.dumps(module)),
            copy.deepcopy(module),
            copy.copy(module),
            pickle.loads(pickle.dumps(FrozenFeatureExtractor(nn.Sequential(module)))).module,
            OnnxModule(content),
        ):
            check(again)
            assert again.state_dict().keys() in ({"file"}, {"0.file"})
            assert next(again.buffers()).numpy().tobytes() == content
        with pytest.raises(FileNotFoundError, match=r"mlp\.onnx"):
            OnnxModule(path)

    def test_have_their_own_session_when_first_needed(self, path, check, monkeypatch):
        module = OnnxModule(path, threads=1)
        made = []
        monkeypatch.setattr(
            skfairft.onnx, "_open", lambda *a, real=skfairft.onnx._open: made.append(a) or real(*a)
        )
        again = pickle.loads(pickle.dumps(module))
        assert repr(again) == repr(module) == "OnnxModule(x: float32 (N, 4) -> y: float32 (N, 3))"
        assert not made
        check(again)
        check(again)
        assert [a[1:] for a in made] == [(["CPUExecutionProvider"], 1)]
        # In a forked process, another one; the parent's is not closed, its threads are not here.
        (parent,) = again._sessions.values()
        monkeypatch.setattr(os, "getpid", lambda: -1)
        check(again)
        assert len(made) == 2
        assert again._sessions[-1] is not parent
        assert parent in again._sessions.values()

    def test_of_a_state_are_run(self, mlp, path):
        """Models of one architecture have the same size, and so load into each other."""
        other = copy.deepcopy(mlp)
        other[2].weight.neg_()
        module, x = OnnxModule(path), torch.randn(5, 4)
        assert not torch.allclose(mlp(x), other(x))  # control
        module.load_state_dict(OnnxModule(mlp_graph(other)).state_dict())
        torch.testing.assert_close(module(x), other(x))

    def test_modes_dtypes_and_devices_do_not_matter(self, path, check):
        module = OnnxModule(path)
        content = module.file.clone()
        assert nn.Linear(4, 3).to("meta").weight.is_meta  # control: it then has no data to run
        for change in (
            module.eval,
            module.train,
            module.half,
            module.double,
            module.float,
            lambda: module.requires_grad_(False),
            lambda: module.to("meta"),
            lambda: nn.Sequential(module).to("meta"),
        ):
            change()
            check(module)
        assert torch.equal(module.file, content)
        if torch.cuda.is_available():
            module.to("cuda")
            assert module(torch.zeros(2, 4, device="cuda")).device.type == "cuda"

    def test_two_threads_at_once(self, path, mlp, monkeypatch):
        module = pickle.loads(pickle.dumps(OnnxModule(path)))
        made = []
        monkeypatch.setattr(
            skfairft.onnx, "_open", lambda *a, real=skfairft.onnx._open: made.append(a) or real(*a)
        )
        batches = [torch.randn(50 + row, 4) for row in range(40)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(module, batches))
        for x, y in zip(batches, found, strict=True):
            torch.testing.assert_close(y, mlp(x))
        assert len(made) == 1


class TestErrors:
    def test_several_outputs(self):
        text = "two (float[N, 2] x) => (float[N, 2] y, float[N, 2] z) {y = Relu(x)\nz = Neg(x)}"
        for output, arrived in ((None, "several outputs"), ("w", "no output 'w'")):
            with pytest.raises(ValueError, match=f"{arrived}; choose .*: y: float32") as raised:
                OnnxModule(encoded(text), output=output)
            assert "y: float32 (N, 2), z: float32 (N, 2)" in str(raised.value)
        assert OnnxModule(encoded(text), output="z")(torch.ones(1, 2)).tolist() == [[-1, -1]]

    def test_not_a_model(self, tmp_path):
        (tmp_path / "a.onnx").write_bytes(b"no model")
        for given in (tmp_path / "a.onnx", b"no model", b""):
            with pytest.raises(ValueError, match=r"onnxruntime [\d.]+ cannot load") as raised:
                OnnxModule(given)
            assert raised.value.__cause__ is not None
        model = graph("same (float[N, 2] x) => (float[N, 2] y) {y = Relu(x)}")
        with pytest.raises(ValueError, match=r"model is ModelProto.*SerializeToString"):
            OnnxModule(model)
        with pytest.raises(ValueError, match="threads=0; expected a positive int"):
            OnnxModule(model.SerializeToString(), threads=0)

    def test_types_that_torch_has_not(self):
        text = "s (string[N] x) => (string[N] y, float[1] z) {y = Identity(x)\n%s}"
        with pytest.raises(ValueError, match=r"x: tensor\(string\) \(N\).*Expected tensor\(float"):
            OnnxModule(encoded(text % "z = Constant <value_floats = [2.0]> ()"), output="z")

    def test_external_data(self, tmp_path, monkeypatch):
        weight = np.ones((40, 40), dtype=np.float32)
        model = graph("m (float[N, 40] x) => (float[N, 40] y) {y = MatMul(x, w)}", w=weight)
        inside = model.SerializeToString()
        for name in ("data", "d" * 150):  # lengths of one and two bytes
            onnx.save_model(
                copy.deepcopy(model),
                tmp_path / "m.onnx",
                save_as_external_data=True,
                location=name,
                size_threshold=0,
            )
            monkeypatch.chdir(tmp_path)
            # Control: here, onnxruntime would find the file, and a copy elsewhere would not.
            onnxruntime.InferenceSession(
                (tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"]
            )
            with pytest.raises(ValueError, match=r"weights in other files.*external_data=False"):
                OnnxModule(tmp_path / "m.onnx")
        assert OnnxModule(inside)(torch.ones(1, 40)).mean() == 40
        # A note of the same name in the model's own metadata is no weight.
        entry = model.metadata_props.add()
        entry.key, entry.value = "location", "Oslo"
        OnnxModule(model.SerializeToString())

    def test_too_large(self, path, monkeypatch):
        size = len(path.read_bytes())
        monkeypatch.setattr(skfairft.onnx, "_MAX_BYTES", size)
        OnnxModule(path)
        monkeypatch.setattr(skfairft.onnx, "_MAX_BYTES", size - 1)
        with pytest.raises(ValueError, match=f"has {size} bytes; at most {size - 1}"):
            OnnxModule(path)

    def test_onnxruntime_s_own_stay_readable(self, capfd):
        grows = OnnxModule(
            encoded(
                """grow (int64[N] x) => (float[M] y) {
                    z = ConstantOfShape(x)
                    y = Relu(z)
                }"""
            )
        )
        with pytest.raises(RuntimeError, match=r"inputs of shape \{'x': \(1,\)\}.*allocate memory"):
            grows(torch.tensor([2**46]))
        free = OnnxModule(
            encoded(
                "free (float[N, M] x) => (float[N, 2] y) {y = MatMul(x, w)}",
                w=np.ones((3, 2), dtype=np.float32),
            )
        )
        with pytest.raises(ValueError, match=r"failed on a batch.*, 5\).*MatMul"):
            FrozenFeatureExtractor(free).fit_transform(np.ones((2, 5)))
        assert capfd.readouterr().err == ""  # the errors are raised, not printed as well

    def test_onnxruntime_is_missing(self, path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(ImportError, match=r"pip install 'skfairft\[onnx\]'"):
            OnnxModule(path)


def test_threads_are_torch_s_by_default(path, monkeypatch):
    def of(module):
        return module._session().get_session_options().intra_op_num_threads

    assert torch.get_num_threads() == 1
    assert of(OnnxModule(path)) == 1
    assert of(OnnxModule(path, threads=2)) == 2


def test_providers(path):
    assert OnnxModule(path)._session().get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(ValueError, match="NoSuchExecutionProvider"):
        OnnxModule(path, providers=["NoSuchExecutionProvider"])


class TestInAnEstimator:
    @pytest.fixture
    def data(self):
        return make_biased_classification(
            200, 4, n_informative=3, n_proxies=1, n_classes=3, random_state=0
        )

    @pytest.mark.usefixtures("routing")
    def test_search_over_ranks(self, data, mlp, path):
        X, y, s = data
        module = OnnxModule(path)

        def search(extractor):
            clf = FairLowRankHeadClassifier(extractor)
            return GridSearchCV(
                clf.set_fit_request(sensitive_features=True),
                {"rank": [1, 2, None]},
                cv=3,
                error_score="raise",
            ).fit(X, y, sensitive_features=s)

        found, expected = search(module), search(mlp)
        np.testing.assert_allclose(
            found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
        )
        np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-4)
        assert found.best_estimator_.feature_extractor is module  # shared, not copied
        assert clone(found.best_estimator_).feature_extractor is module
        again = pickle.loads(pickle.dumps(found))
        np.testing.assert_array_equal(again.predict_proba(X), found.predict_proba(X))
        assert "OnnxModule(x: float32 (N, 4) -> y: float32 (N, 3))" in repr(found.best_estimator_)
