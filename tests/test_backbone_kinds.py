"""Backbones of every kind, and inputs of every type: the same features, deployed or not."""

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.backbone.feature_module import FeatureModule
from skfairft.backbone.module_copy import copy_module, switch_to_evaluation

N, D = 60, 5


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int), np.arange(N) % 2


def fitted(module, data, **settings):
    X, y, s = data
    extractor = FrozenFeatureExtractor(module, memory=False, device=None, **settings)
    return FairLowRankHeadClassifier(extractor, rank=1, random_state=0).fit(
        X, y, sensitive_features=s
    )


def network():
    # With dropout, which would show a training mode that is left on.
    return nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))


class Keeping(nn.Module):
    """Keeps its activations, as some do for a look at them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(D, 4)
        self.tied = self.layer.weight
        self.again = nn.Linear(D, 4)
        self.again.weight = self.layer.weight
        self.seen = {}

    def forward(self, x):
        self.last = self.layer(x)
        self.half = self.layer.weight[:2]  # a view with a history
        self.seen["all"] = [self.last.relu(), (self.last.tanh(), {"first": self.last[:1]})]
        return self.last.relu() + self.again(x)


def keeping():
    module = Keeping()
    module(torch.ones(2, D))
    return module


def in_inference_mode():
    with torch.inference_mode():
        return network()


def hooked():
    module = network()
    module[0].register_forward_hook(lambda part, inputs, output: 2 * output)
    module[3].register_forward_pre_hook(lambda part, inputs: inputs[0] + 1)
    return module


def weighted(norm):
    def make():
        module = nn.Sequential(norm(nn.Linear(D, 4)))
        module(torch.ones(2, D))
        return module

    return make


def pruned():
    module = nn.Linear(D, 4)
    prune.l1_unstructured(module, "weight", 0.4)
    module(torch.ones(2, D))
    return module


def exported():
    rows = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(
        network().eval(), (torch.zeros(4, D),), dynamic_shapes={"input": rows}
    )
    return program.module()


KINDS = {
    "plain": network,
    "keeps its activations": keeping,
    "made in inference mode": in_inference_mode,
    "with hooks": hooked,
    "old weight norm": weighted(nn.utils.weight_norm),
    "old spectral norm": weighted(nn.utils.spectral_norm),
    "weight norm": weighted(parametrizations.weight_norm),
    "spectral norm": weighted(parametrizations.spectral_norm),
    "pruned": pruned,
    "quantized": lambda: torch.ao.quantization.quantize_dynamic(network().eval(), {nn.Linear}),
    "scripted": lambda: torch.jit.script(network()),
    "traced": lambda: torch.jit.trace(network().eval(), torch.zeros(2, D)),
    "compiled": lambda: torch.compile(network(), backend="eager"),
    "exported": exported,
    "symbolically traced": lambda: torch.fx.symbolic_trace(network()),
    "lazy": lambda: nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Dropout(0.5)),
}


def tensors(held, found=None):
    """All tensors that an object holds, as deep as it goes."""
    found = {} if found is None else found
    if isinstance(held, torch.Tensor):
        found[id(held)] = held
    elif isinstance(held, dict):
        for value in held.values():
            tensors(value, found)
    elif isinstance(held, (list, tuple)):
        for value in held:
            tensors(value, found)
    elif isinstance(held, nn.Module):
        tensors(held.__dict__, found)
        tensors([*held.parameters(), *held.buffers()], found)  # those of scripted modules
    return list(found.values())


# Of torch about its own parts, which users have nonetheless.
@pytest.mark.filterwarnings("ignore:.*(deprecated|jit|torch.ao|TypedStorage).*")
class TestToTorch:
    @pytest.mark.parametrize("kind", KINDS)
    def test_gives_the_same_scores_and_shares_nothing(self, data, kind):
        module = KINDS[kind]()
        X, y, _ = data
        training = [part.training for part in module.modules()]
        clf = fitted(module, data)
        assert [part.training for part in module.modules()] == training
        if kind == "keeps its activations":
            module(torch.ones(2, D))  # with gradients, after fit
        deployed = clf.to_torch()
        with torch.no_grad():
            scores = [deployed(torch.from_numpy(X)).numpy() for _ in range(2)]
        np.testing.assert_allclose(scores[0], clf.decision_function(X), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(*scores)
        theirs = {tensor.untyped_storage().data_ptr() for tensor in tensors(module)} - {0}
        mine = {tensor.untyped_storage().data_ptr() for tensor in tensors(deployed)}
        assert theirs or kind == "quantized"
        assert not theirs & mine
        assert np.mean((scores[0] > 0) == y) > 0.6

    def test_copies_what_has_a_history_without_it(self):
        module = keeping()
        with pytest.raises(RuntimeError, match="deepcopy"):  # control
            copy.deepcopy(module)
        copied = copy_module(module, "Keeping")
        assert copied.layer.weight is copied.tied is copied.again.weight
        assert copied.layer.weight is not module.layer.weight
        assert copied.layer.weight.requires_grad
        nested = copied.seen["all"]
        assert not any(t.requires_grad for t in (copied.last, copied.half, *tensors(nested)))
        assert torch.equal(nested[1][1]["first"], module.last[:1])
        assert module.last.requires_grad  # the original keeps its own

    def test_a_tensor_held_twice_stays_one(self):
        module = keeping()
        module.other = [module.last]
        copied = copy_module(module, "Keeping")
        assert copied.other[0] is copied.last

    def test_what_cannot_be_copied_is_named(self, data):
        class Locked(nn.Linear):
            def __init__(self):
                super().__init__(D, 4)
                self.lock = threading.Lock()

        clf = fitted(Locked(), data)
        with pytest.raises(ValueError, match=r"Locked holds something that cannot.*lock.*Delete"):
            clf.to_torch()

    def test_around_an_exported_program_all_else_is_in_evaluation_mode(self):
        inner = exported()
        with pytest.raises(NotImplementedError):  # control
            inner.eval()
        module = nn.Sequential(nn.Dropout(0.5), inner, nn.Dropout(0.5))
        switch_to_evaluation(module)
        assert not module[0].training
        assert not module[2].training


class OneDict(nn.Module):
    """Takes its inputs as one dict and writes into it, as SentenceTransformer does."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(64, 6)

    def forward(self, input, **kwargs):
        input["token_embeddings"] = self.embedding(input["input_ids"])
        mask = input["attention_mask"][:, :, None]
        states = input["token_embeddings"] * mask
        input["sentence_embedding"] = states.sum(1) / mask.sum(1)
        return input


class ByName(OneDict):
    def forward(self, input_ids, attention_mask):
        return super().forward({"input_ids": input_ids, "attention_mask": attention_mask})


def letters(rows):
    longest = max(map(len, rows))
    ids = [[ord(letter) - 64 for letter in row.ljust(longest, "@")] for row in rows]
    ids = torch.tensor(ids)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


TEXTS = ["".join("ABCDEFGH"[:length]) for length in (1, 5, 3, 8, 2, 4)] * 3


class TestOneMapping:
    @pytest.mark.parametrize(
        "picks",
        [
            {"output": "sentence_embedding"},
            {"output": "token_embeddings", "pool": "mean"},
            {"layer": "embedding", "pool": "mean", "dtype": "bfloat16"},
        ],
    )
    def test_gives_what_it_would_give_by_name(self, picks):
        module, by_name = OneDict(), ByName()
        by_name.load_state_dict(module.state_dict())
        settings = {"preprocess": letters, "memory": False, "batch_size": 4, **picks}
        found = FrozenFeatureExtractor(module, **settings).fit_transform(TEXTS)
        expected = FrozenFeatureExtractor(by_name, **settings).fit_transform(TEXTS)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        # control: without the mask it would be another
        inputs = letters(TEXTS)
        plain = module.embedding(inputs["input_ids"]).mean(1).detach().numpy()
        assert np.abs(plain - found).max() > 0.01

    def test_the_deployed_module_takes_it_both_ways_and_leaves_it(self):
        extractor = FrozenFeatureExtractor(
            OneDict(), preprocess=letters, output="sentence_embedding", memory=False
        )
        y = np.arange(18) % 2
        s = np.arange(18) // 9
        clf = FairLowRankHeadClassifier(extractor, rank=1).fit(TEXTS, y, sensitive_features=s)
        deployed, inputs = clf.to_torch(), letters(TEXTS)
        exported = torch.export.export(deployed, (), inputs).module()
        for scores in (deployed(**inputs), deployed(inputs), exported(**inputs)):
            np.testing.assert_allclose(
                scores.detach().numpy(), clf.decision_function(TEXTS), rtol=1e-4, atol=1e-5
            )
        assert list(inputs) == ["input_ids", "attention_mask"]

    def test_what_binds_by_name_is_given_by_name(self):
        class Both(nn.Module):
            def forward(self, input=None, **more):
                return torch.full((2, 1), float(sorted(more) == ["x", "y"]))

        inputs = {"x": torch.ones(2, 1), "y": torch.ones(2, 1)}
        assert FeatureModule(Both())(**inputs).all()

    def test_settings_may_stand_beside_tensors(self):
        class Scaled(nn.Module):
            def forward(self, x, factor, name, *, flag=False):
                assert (name, flag) == ("text", True)
                return x * factor

        def preprocess(rows):
            return {"x": torch.tensor(rows), "factor": 2.0, "name": "text", "flag": True}

        extractor = FrozenFeatureExtractor(Scaled(), preprocess=preprocess, memory=False)
        found = extractor.set_params(batch_size=2).fit_transform([[1.0], [2.0], [5.0]])
        assert found.ravel().tolist() == [2, 4, 10]

    @pytest.mark.parametrize(
        ("names", "takes"),
        [
            (["input_ids", "token_type_ids", "attention_mask"], r"\(input_ids, attention_mask\)"),
            (["input_ids"], r"\(input_ids, attention_mask\)"),
            (["ids"], r"\(input_ids, attention_mask\)"),
        ],
    )
    def test_what_binds_in_neither_way_is_an_error(self, names, takes):
        inputs = dict.fromkeys(names, torch.ones(2, 3).long())
        with pytest.raises(
            ValueError, match=rf"mapping with \['{names[0]}'.*ByName.forward takes {takes}.*wrap"
        ):
            FeatureModule(ByName())(**inputs)

    @pytest.mark.parametrize(
        ("module", "names", "message"),
        [
            (nn.Linear(3, 2), ["x"], r"mapping with \['x'\], but Linear.forward takes \(input"),
            (OneDict(), ["ids"], "KeyError: 'input_ids'.*wrap"),
            (nn.Sequential(nn.Linear(3, 2)), ["x"], "Sequential.*as its one argument, and failed"),
        ],
    )
    def test_a_module_that_cannot_do_with_one_says_so(self, module, names, message):
        inputs = dict.fromkeys(names, torch.ones(2, 3))
        with pytest.raises(ValueError, match=message):
            FeatureModule(module)(**inputs)

    @pytest.mark.parametrize("pool", [None, "mean"])
    def test_of_sentence_transformers(self, pool, tmp_path):
        st = pytest.importorskip("sentence_transformers")
        transformers = pytest.importorskip("transformers")
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "short", "text", "long"]
        config = transformers.BertConfig(
            vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, initializer_range=0.5,
        )  # fmt: skip
        transformers.BertModel(config).save_pretrained(tmp_path)
        tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
        tokenizer.save_pretrained(tmp_path)
        bert = Transformer(str(tmp_path))
        model = st.SentenceTransformer(modules=[bert, Pooling(8)], device="cpu")
        texts = ["a short text", "text", "a long long long text", "short"] * 3
        output = "sentence_embedding" if pool is None else "token_embeddings"
        extractor = FrozenFeatureExtractor(
            model, preprocess=model.preprocess, output=output, pool=pool, memory=False,
            batch_size=4,
        )  # fmt: skip
        expected = model.encode(texts)
        np.testing.assert_allclose(extractor.fit_transform(texts), expected, rtol=1e-4, atol=1e-5)
        y = np.arange(12) % 2
        s = np.arange(12) // 6
        clf = FairLowRankHeadClassifier(extractor, rank=1).fit(texts, y, sensitive_features=s)
        scores = clf.to_torch()(**model.preprocess(texts)).detach().numpy()
        np.testing.assert_allclose(scores, clf.decision_function(texts), rtol=1e-3, atol=1e-4)


class TestNumbers:
    @pytest.mark.parametrize(
        "dtype",
        [">f4", "<f4", ">f8", ">f2", "longdouble", "float16", ">i4", "int8", "uint8", "uint16",
         ">u4", "uint64", "bool"],
    )  # fmt: skip
    @pytest.mark.parametrize("make", [lambda: nn.Linear(D, 3), lambda: nn.Linear(D, 3).double()])
    def test_of_every_type_are_the_same_numbers(self, dtype, make):
        module = make()
        X = np.arange(4 * D).reshape(4, D).astype(dtype)
        with torch.no_grad():
            rows = torch.tensor(X.astype(np.float64)).to(module.weight.dtype)
            expected = module(rows).numpy()
        extractor = FrozenFeatureExtractor(module, memory=False)
        for rows in (X, X[::-1][::-1], np.asfortranarray(X)):
            np.testing.assert_array_equal(extractor.fit_transform(rows), expected)

    @pytest.mark.parametrize("dtype", [">f4", "longdouble", "float16", "uint16", "bool"])
    def test_reach_a_module_without_parameters(self, dtype):
        X = np.eye(3, dtype=dtype)
        found = FrozenFeatureExtractor(nn.Identity(), memory=False).fit_transform(X)
        np.testing.assert_array_equal(found, np.eye(3))


class TestGaps:
    @staticmethod
    def gaps(rows):
        x = torch.ones(len(rows), D)
        x[torch.tensor(rows) % 3 == 0, 1] = torch.nan
        return x, torch.ones(len(rows))

    class Adding(nn.Module):
        def forward(self, x, y):
            return x + y[:, None]

    def test_that_the_module_hands_on_are_said_to_be_in_x(self):
        with pytest.raises(
            ValueError,
            match=r"Adding .*NaN or infinity for 4 of 12 rows.* contains NaN in 4 rows: X",
        ):
            FrozenFeatureExtractor(self.Adding(), preprocess=self.gaps, memory=False).fit_transform(
                list(range(12))
            )

    def test_that_the_module_makes_itself_are_not(self):
        class Dividing(nn.Module):
            def forward(self, x):
                return x / 0

        with pytest.raises(ValueError, match=r"for 4 of 4 rows\. If it runs in half precision"):
            FrozenFeatureExtractor(Dividing(), memory=False).fit_transform(np.ones((4, 2)))

    def test_that_the_module_makes_in_place_are_not_either(self):
        class Logarithm(nn.Module):
            def forward(self, x):
                return x.sub_(5).log_()  # NaN, written over its input

        with pytest.raises(ValueError, match=r"for 4 of 4 rows\. If it runs in half precision"):
            FrozenFeatureExtractor(Logarithm(), memory=False).fit_transform(np.ones((4, 2)))

    def test_that_the_module_masks_are_no_error(self):
        class Masking(self.Adding):
            def forward(self, x, y):
                return torch.nan_to_num(x) + y[:, None]

        extractor = FrozenFeatureExtractor(Masking(), preprocess=self.gaps, memory=False)
        assert extractor.fit_transform(list(range(12)))[::3, 1].tolist() == [1] * 4
