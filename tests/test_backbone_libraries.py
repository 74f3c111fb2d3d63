"""The snippets of the page on backbones run as they stand, where their library is installed.

Each is compared with what its library itself makes of the same rows. Nothing is downloaded: models
are small, of random weights, in a folder or in place of those that the snippet would fetch.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier, split_head

PAGE = Path(__file__).resolve().parents[1] / "docs" / "guide" / "backbones.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("\n## In one line\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```py\n(.+?)^```$", SECTION, flags=re.M | re.S)
HELPER, *SNIPPETS = BLOCKS
TEXTS = ["a short text", "text", "a long long long text", "short"]

# Of a snippet: what would fetch weights, and what is run in its place.
RANDOM = {
    "pretrained=True": "pretrained=False",
    "weights=weights": "weights=None",
    'pretrained="openai"': "pretrained=None",
}


def snippet(library):
    """Return the snippet that imports a library; ``a.b`` is imported from a."""
    (found,) = (each for each in SNIPPETS if re.search(library, each))
    return found


def run(source, **given):
    """Run the helper and a snippet; return the names that they make."""
    names = dict(given)
    exec(HELPER, names)
    for fetched, instead in RANDOM.items():
        source = source.replace(fetched, instead)
    exec(source, names)
    return names


@pytest.fixture
def pictures(tmp_path):
    """Paths of four pictures of different sizes."""
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{row}.png" for row in range(4)]
    for row, path in enumerate(paths):
        noise = rng.integers(0, 256, (40 + row, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return [str(path) for path in paths]


@pytest.fixture
def bert(tmp_path):
    """A folder with a tiny language model and its tokenizer."""
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "short", "text", "long"]
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path)
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def check(extractor, X, expected):
    """The features are those expected, whatever the batch, and a head can be fitted to them."""
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    scale = np.abs(expected).max()
    for rows in (X, X[::-1]):
        features = extractor.fit_transform(rows)
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4 * scale)
        expected = expected[::-1]
    assert np.ptp(expected, axis=0).max() > 1e-3 * scale  # else any row would do
    rows, y, s = X * 3, [0, 1] * 2 * len(X), [0, 0, 1, 1] * 3
    clf = FairLowRankHeadClassifier(extractor, random_state=0)
    clf.fit(rows, y[: len(rows)], sensitive_features=s)
    assert clf.predict(X).shape == (len(X),)


def one_by_one(module, transform, paths):
    """Return what a module makes of pictures, each by itself."""
    from PIL import Image

    module.eval()
    with torch.no_grad():
        return [module(transform(Image.open(path).convert("RGB"))[None]) for path in paths]


def test_each_snippet_has_a_test_and_each_row_a_snippet():
    libraries = ["timm", "torchvision", "AutoImageProcessor", "AutoTokenizer"]
    libraries += ["sentence_transformers", "open_clip", "OnnxModule"]
    assert sorted(map(snippet, libraries)) == sorted(SNIPPETS)
    assert len(re.findall(r"^\| [a-zA-Z]", SECTION, flags=re.M)) == 1 + len(SNIPPETS)  # the heading


def test_nothing_is_fetched():
    """The control: what would be fetched is in the snippets, or else in a folder."""
    for fetched in RANDOM:
        assert sum(fetched in each for each in SNIPPETS) == 1


def test_timm(pictures):
    pytest.importorskip("timm")
    names = run(snippet("timm"))
    expected = torch.cat(one_by_one(names["model"], names["transform"], pictures))
    assert expected.shape == (4, 512)
    check(names["extractor"], pictures, expected)


def test_torchvision(pictures):
    pytest.importorskip("torchvision")
    names = run(snippet("torchvision"))
    body, head = split_head(names["extractor"].module)
    assert head.in_features == 512
    expected = torch.cat(one_by_one(body, names["weights"].transforms(), pictures))
    check(names["extractor"], pictures, expected)


def test_a_vision_model_of_transformers(pictures, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8, initializer_range=0.5,
    )  # fmt: skip
    transformers.ViTModel(config).save_pretrained(tmp_path)
    sizes = {"size": {"height": 32, "width": 32}}
    transformers.ViTImageProcessor(**sizes).save_pretrained(tmp_path)
    names = run(snippet("AutoImageProcessor"), folder=str(tmp_path))
    extractor, model = names["extractor"], names["extractor"].module
    outputs = one_by_one(model, names["transform"], pictures)
    assert outputs[0].pooler_output.shape == (1, 16)
    check(extractor, pictures, torch.cat([each.pooler_output for each in outputs]))
    first = torch.cat([each.last_hidden_state[:, 0] for each in outputs])
    check(extractor.set_params(output="last_hidden_state", pool="first"), pictures, first)


def test_a_language_model_of_transformers(bert):
    extractor = run(snippet("AutoTokenizer"), folder=bert)["extractor"]
    with torch.no_grad():
        alone = [extractor.module(**extractor.preprocess([text])) for text in TEXTS]
    check(extractor, TEXTS, torch.stack([each.last_hidden_state[0].mean(0) for each in alone]))


def test_sentence_transformers(bert, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(bert), Pooling(8)]
    folder = str(tmp_path / "model")
    library.SentenceTransformer(modules=modules, device="cpu").save(folder)
    names = run(snippet("sentence_transformers"), folder=folder)
    check(names["extractor"], TEXTS, names["model"].encode(TEXTS))


def test_open_clip(pictures):
    pytest.importorskip("open_clip")
    names = run(snippet("open_clip"))
    expected = torch.cat(one_by_one(names["model"].visual, names["transform"], pictures))
    with torch.no_grad():
        torch.testing.assert_close(
            expected, names["model"].encode_image(names["extractor"].preprocess(pictures))
        )
    check(names["extractor"], pictures, expected)


def test_onnx(pictures, tmp_path):
    for library in ("onnxruntime", "onnxscript"):
        pytest.importorskip(library)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 4),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about its own code
        names = run(snippet("OnnxModule"), file=str(tmp_path / "model.onnx"), model=model)
    extractor = names["extractor"]
    with torch.no_grad():
        check(extractor, pictures, model[:4](extractor.preprocess(pictures)))
