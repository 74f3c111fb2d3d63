"""Image files and texts become the tensors that a slow oracle, or the model alone, expects."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.preprocessing import ImageFiles, Texts

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def triangle_weights(before, after):
    """Antialiased linear interpolation as a matrix (after, before), in float64."""
    scale = before / after
    width = max(scale, 1.0)
    centres = (np.arange(after) + 0.5) * scale
    distance = np.abs(np.arange(before) + 0.5 - centres[:, None]) / width
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def resized(pixels, short):
    """An array (height, width, channels), upright, with this shorter side."""
    height, width = pixels.shape[:2]
    rows = triangle_weights(height, int(short * height / min(height, width)))
    columns = triangle_weights(width, int(short * width / min(height, width)))
    return np.einsum("ah,bw,hwc->abc", rows, columns, pixels.astype(np.float64))


def cropped(pixels, size):
    top, left = (round((side - size) / 2) for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size].transpose(2, 0, 1)


def in_levels(images):
    """Undo the normalization: 0..255, exact in Pillow up to its rounding after each pass."""
    return np.asarray(images, dtype=np.float64) * 255


def noise(height, width, channels=3, seed=0):
    """Pixels in which a shift by one, or a flip, is far from the original."""
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def plain(size, **kwargs):
    return ImageFiles(size, mean=None, std=None, **kwargs)


class TestPixels:
    @pytest.mark.parametrize("shape", [(40, 61), (61, 40), (33, 33), (9, 14), (17, 200)])
    @pytest.mark.parametrize("resize", [None, 19, 24])
    def test_are_those_of_the_oracle(self, tmp_path, shape, resize):
        pixels = noise(*shape)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        found = plain(16, resize=resize)([tmp_path / "a.png"])
        assert found.shape == (1, 3, 16, 16)
        assert found.dtype == torch.float32
        assert found.is_contiguous()
        levels = resized(pixels, resize or 16)
        np.testing.assert_allclose(in_levels(found[0]), cropped(levels, 16), rtol=0, atol=1.01)
        if max(levels.shape) > 17:  # control: another crop would not do
            moved = cropped(np.roll(levels, 1, axis=int(shape[1] > shape[0])), 16)
            assert np.abs(in_levels(found[0]) - moved).max() > 10

    def test_are_normalized_by_channel(self):
        pixels = noise(20, 20)
        raw = plain(20)([pixels])[0].numpy().astype(np.float64)
        np.testing.assert_allclose(raw, pixels.transpose(2, 0, 1) / 255, atol=1e-7)
        for given, mean, std in (
            ({}, MEAN, STD),
            ({"mean": [0, 0, 1], "std": np.array([1, 2, 3])}, (0, 0, 1), (1, 2, 3)),
        ):
            expected = (raw - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
            found = ImageFiles(20, **given)([pixels])[0]
            assert found.dtype == torch.float32
            np.testing.assert_allclose(found, expected, atol=1e-6)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_are_upright(self, tmp_path, orientation):
        upright = {
            1: lambda a: a,
            2: np.fliplr,
            3: lambda a: np.rot90(a, 2),
            4: np.flipud,
            5: lambda a: a.swapaxes(0, 1),
            6: lambda a: np.rot90(a, -1),
            7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
            8: np.rot90,
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(noise(24, 37)).save(tmp_path / "a.jpg", quality=95, exif=exif)
        with Image.open(tmp_path / "a.jpg") as image:
            stored = np.asarray(image)  # as it lies in the file
            again = plain(16, resize=20)([image])  # and given as an image
        found = plain(16, resize=20)([str(tmp_path / "a.jpg")])
        expected = cropped(resized(upright(stored), 20), 16)
        np.testing.assert_allclose(in_levels(found[0]), expected, rtol=0, atol=1.01)
        assert torch.equal(found, again)

    @pytest.mark.parametrize("kind", ["L", "RGBA", "P", "transparent", "1", "CMYK"])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_are_of_the_mode(self, tmp_path, kind, mode):
        name = tmp_path / ("a.tiff" if kind == "CMYK" else "a.png")
        if kind == "L":
            grey = noise(20, 30, 0)
            pixels = np.stack([grey] * 3, axis=2)
            image = Image.fromarray(grey)
        elif kind == "RGBA":
            pixels = noise(20, 30, 4)
            image = Image.fromarray(pixels)
            pixels = pixels[..., :3]
        elif kind == "1":
            pixels = np.stack([noise(20, 30, 0) // 128 * 255] * 3, axis=2)
            image = Image.fromarray(pixels).convert("1", dither=Image.Dither.NONE)
        elif kind == "CMYK":
            ink = noise(20, 30, 4)
            image = Image.frombytes("CMYK", (30, 20), ink.tobytes())
            white, black = 255 - ink[..., :3].astype(float), 1 - ink[..., 3:] / 255
            pixels = white * black
        else:
            palette = noise(16, 3, 0)
            index = noise(20, 30, 0, seed=1) % 16
            image = Image.fromarray(index, mode=None).convert("L")
            image = Image.frombytes("P", (30, 20), index.tobytes())
            image.putpalette(palette.tobytes())
            if kind == "transparent":
                image.info["transparency"] = bytes(range(0, 160, 10))
            pixels = palette[index]
        image.save(name)
        with Image.open(name) as stored:
            assert stored.mode == ("P" if kind == "transparent" else kind)
            assert ("transparency" in stored.info) == (kind == "transparent")
        found = plain(12, resize=15, mode=mode)([name])
        if mode == "L":
            pixels = pixels @ np.array([[0.299], [0.587], [0.114]])
        assert found.shape == (1, {"RGB": 3, "L": 1}[mode], 12, 12)
        expected = cropped(resized(pixels, 15), 12)
        # Conversion to grey, and of ink, rounds once more.
        np.testing.assert_allclose(in_levels(found[0]), expected, rtol=0, atol=2.01)

    def test_of_one_channel_are_normalized(self):
        pixels = noise(8, 8, 0)
        found = ImageFiles(8, mode="L", mean=[0.5], std=[0.25])([pixels])
        np.testing.assert_allclose(found[0, 0], (pixels / 255 - 0.5) / 0.25, atol=1e-6)


class TestRows:
    @pytest.fixture
    def folder(self, tmp_path):
        for row in range(5):
            Image.fromarray(noise(20 + row, 30, seed=row)).save(tmp_path / f"{row}.png")
        return tmp_path

    def test_of_any_kind_give_the_same(self, folder, monkeypatch):
        names = [f"{row}.png" for row in range(5)]
        full = [folder / name for name in names]
        expected = ImageFiles(16)(full)
        assert expected.shape == (5, 3, 16, 16)
        assert len({tuple(image.flatten().tolist()) for image in expected}) == 5
        monkeypatch.chdir(folder)
        prepare = ImageFiles(16)
        arrays = [np.asarray(Image.open(path)) for path in full]
        for rows in (
            names,
            np.array(names),
            pd.Series(names, index=range(7, 12)),
            pd.Series(names, dtype="string"),
            np.array(full, dtype=object),
            [str(path) for path in full],
            [Image.open(path) for path in full],
            arrays,
            [names[0], full[1], arrays[2], Image.open(full[3]), np.str_(names[4])],
        ):
            assert torch.equal(prepare(rows), expected)
        cube = noise(4, 16 * 16 * 3, 0).reshape(4, 16, 16, 3)
        np.testing.assert_allclose(
            in_levels(plain(16)(cube)), cube.transpose(0, 3, 1, 2), atol=1e-4
        )

    def test_that_are_one_image_are_decoded_once(self, folder):
        """A bootstrap sample of lazily opened images: two threads want the same file."""
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(noise(600, 600)).save(folder / "big.png", exif=exif)
        expected = ImageFiles(16)([folder / "big.png"])
        for _ in range(5):  # without the lock, each goes wrong in two of three cases
            with Image.open(folder / "big.png") as image, ThreadPoolExecutor(8) as pool:
                found = list(pool.map(ImageFiles(16), [[image]] * 8))
            assert all(torch.equal(each, expected) for each in found)

    def test_are_left_as_they_are(self, folder):
        pixels = noise(20, 30)
        before = pixels.copy()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(folder / "turned.png", exif=exif)
        with Image.open(folder / "turned.png") as image:
            ImageFiles(16, mode="L", mean=None, std=None)([image, pixels])
            assert image.size == (30, 20)
            assert image.mode == "RGB"
            assert image.getexif()[0x0112] == 6
        np.testing.assert_array_equal(pixels, before)


class TestImageErrors:
    def test_missing_file(self, tmp_path):
        Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")
        rows = [tmp_path / "a.png", "cat.jpg"]
        with pytest.raises(ValueError, match=r"Row 1 .*no file 'cat.jpg' in .*full") as raised:
            ImageFiles(8)(rows)
        assert isinstance(raised.value.__cause__, FileNotFoundError)

    @pytest.mark.parametrize(
        "damage", ["truncated.jpg", "truncated.png", "text", "empty", "folder"]
    )
    def test_broken_file(self, tmp_path, damage):
        path = tmp_path / damage
        if damage.startswith("truncated"):
            Image.fromarray(noise(64, 64)).save(path)
            path.write_bytes(path.read_bytes()[:-2000])
        elif damage == "folder":
            path.mkdir()
        else:
            path.write_text("no image" if damage == "text" else "")
        good = noise(8, 8)
        with pytest.raises(
            ValueError, match=r"Row 2 .*cannot be read .*Leave the row out"
        ) as raised:
            ImageFiles(8)([good, good, path, tmp_path / "later.jpg"])
        assert str(path) in str(raised.value)
        assert isinstance(raised.value.__cause__, OSError)

    def test_more_than_eight_bits_are_not_clipped(self, tmp_path):
        deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
        deep.save(tmp_path / "deep.png")
        assert np.asarray(deep.convert("L")).min() == 255  # control: what Pillow would do
        with pytest.raises(ValueError, match=r"deep.png.*mode I(;16)? has more than 8 bits"):
            ImageFiles(8)([tmp_path / "deep.png"])
        with pytest.raises(ValueError, match=r"a Image'?.*mode F has more"):
            ImageFiles(8)([Image.new("F", (8, 8))])

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (None, r"Row 1 .*is None \(NoneType\); expected the path"),
            (float("nan"), r"Row 1 .*is nan \(float\)"),
            (pd.NA, r"Row 1 .*NAType"),
            (np.zeros((8, 8, 3)), r"shape \(8, 8, 3\) and dtype float64; expected uint8"),
            (np.zeros((8, 8, 2), np.uint8), r"shape \(8, 8, 2\)"),
            (np.zeros(8, np.uint8), r"shape \(8,\)"),
            (np.array(["a.png"]), r"shape \(1,\) and dtype <U5"),
        ],
    )
    def test_odd_rows(self, row, message):
        with pytest.raises(ValueError, match=message):
            ImageFiles(8)([noise(8, 8), row])

    def test_tables_and_single_names(self):
        with pytest.raises(ValueError, match=r"columns \['path'\].*not by \['name'\]"):
            ImageFiles(8)(pd.DataFrame({"path": ["a.png"]}))
        with pytest.raises(ValueError, match=r"one string, 'a.png'"):
            ImageFiles(8)("a.png")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"size": 0}, "size=0; expected a positive int"),
            ({"size": 8.0}, "size=8.0"),
            ({"size": None}, "size=None"),
            ({"resize": 7}, "resize=7 is less than size=8"),
            ({"resize": "9"}, "resize='9'.* or None"),
            ({"mode": "RGBA"}, "mode='RGBA'"),
            ({"mode": "L"}, r"mean=.* has 3 values, but mode='L' has 1 channels"),
            ({"mode": "L", "mean": [0.5]}, r"std=.* has 3 values"),
            ({"mean": None}, "mean=None and std=.*both"),
            ({"std": None}, "mean=.* and std=None"),
            ({"std": (1, 1, 0)}, r"std=\(1, 1, 0\); expected positive"),
        ],
    )
    def test_parameters(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            ImageFiles(**{"size": 8, **arguments})

    def test_pillow_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(ImportError, match=r"pip install 'skfairft\[images\]'"):
            ImageFiles(8)([noise(8, 8)])


def test_image_files_pickle_copy_and_print(tmp_path):
    prepare = ImageFiles(16, resize=20)
    assert repr(prepare).startswith("ImageFiles(size=16, resize=20, mean=(0.485")
    rows = [noise(20, 30)]
    for again in (pickle.loads(pickle.dumps(prepare)), copy.deepcopy(prepare)):
        assert repr(again) == repr(prepare)
        assert torch.equal(again(rows), prepare(rows))


class TestInAnEstimator:
    @pytest.fixture
    def photos(self, tmp_path):
        """Bright and dark noise, in two tints that are the groups."""
        rng = np.random.default_rng(0)
        y, s = rng.integers(0, 2, (2, 60))
        for row in range(60):
            pixels = noise(24, 20 + row % 9, seed=row) // 2
            pixels[..., s[row]] //= 2
            Image.fromarray(pixels + np.uint8(60 * y[row])).save(tmp_path / f"{row}.png")
        return pd.Series([f"{tmp_path}/{row}.png" for row in range(60)]), y, s

    @staticmethod
    def backbone():
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def test_features(self, photos):
        names, _, _ = photos
        backbone, prepare = self.backbone(), ImageFiles(16)
        with torch.no_grad():
            expected = backbone(prepare(names)).numpy()
        for batch_size in (7, 256):
            extractor = FrozenFeatureExtractor(
                backbone, preprocess=prepare, batch_size=batch_size, memory=False
            )
            for rows in (names, names.tolist(), names.to_numpy(dtype=object)):
                found = extractor.fit_transform(rows)
                np.testing.assert_allclose(found, expected, atol=1e-6)

    @pytest.mark.usefixtures("routing")
    def test_pipeline_and_search(self, photos):
        names, y, s = photos
        extractor = FrozenFeatureExtractor(self.backbone(), preprocess=ImageFiles(8), device=None)
        clf = FairLowRankHeadClassifier().set_fit_request(sensitive_features=True)
        search = GridSearchCV(
            make_pipeline(extractor, StandardScaler(), clf),
            {
                "frozenfeatureextractor__preprocess": [
                    ImageFiles(8),
                    ImageFiles(16),
                ],
            },
            cv=2,
            error_score="raise",
        ).fit(names, y, sensitive_features=s)
        assert len(search.cv_results_["params"]) == 2
        assert search.score(names, y) > 0.95
        shuffled = names.sample(frac=1, random_state=0)
        np.testing.assert_array_equal(
            search.predict(shuffled), search.predict(names)[shuffled.index]
        )

    @pytest.mark.usefixtures("routing")
    def test_as_the_classifier_s_own_extractor(self, photos):
        names, y, s = photos
        extractor = FrozenFeatureExtractor(self.backbone(), preprocess=ImageFiles(16), device=None)
        clf = FairLowRankHeadClassifier(extractor, rank=1).fit(names, y, sensitive_features=s)
        again = pickle.loads(pickle.dumps(clf))
        np.testing.assert_array_equal(again.predict_proba(names), clf.predict_proba(names))
        with pytest.raises(ValueError, match=r"Row 0 .*no file .*60.png"):
            clf.predict(["60.png"])


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film", "very", "long", "one"]


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tokenizer(transformers):
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(
            {word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"
        )
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


TEXTS = [
    "a good film",
    "bad",
    "a very very very long film",
    "one bad film",
    "good",
    "a very good one",
    "",
]


class Pooled(nn.Module):
    """The model's pooler, or the mean of its tokens with or without the mask."""

    def __init__(self, model, pooling):
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, input_ids, attention_mask):
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        if self.pooling == "pooler":
            return output.pooler_output
        tokens = output.last_hidden_state
        if self.pooling == "careless":
            return tokens.mean(dim=1)
        weights = attention_mask.unsqueeze(2).to(tokens.dtype)
        return (weights * tokens).sum(dim=1) / weights.sum(dim=1)


@pytest.fixture(scope="module")
def bert(transformers):
    torch.manual_seed(0)
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            initializer_range=0.5,  # by default, random weights see little of the text
        )
    ).eval()


class TestTexts:
    def test_are_padded_and_cut(self, tokenizer):
        prepare = Texts(tokenizer, max_length=5, return_token_type_ids=False)
        found = prepare(TEXTS[:3])
        assert type(found) is dict
        assert found["input_ids"].tolist() == [
            [2, 4, 5, 7, 3],
            [2, 6, 3, 0, 0],
            [2, 4, 8, 8, 3],
        ]
        assert found["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0], [1] * 5]
        assert set(found) == {"input_ids", "attention_mask"}
        more = Texts(tokenizer, max_length=5, return_token_type_ids=True)(TEXTS[:3])
        assert set(more) == {*found, "token_type_ids"}

    def test_without_a_length_are_cut_at_the_tokenizer_s(self, tokenizer, caplog):
        limited = copy.deepcopy(tokenizer)
        limited.model_max_length = 4
        assert Texts(limited)(TEXTS)["input_ids"].shape == (7, 4)
        assert Texts(limited, max_length=3)(TEXTS)["input_ids"].shape == (7, 3)
        assert tokenizer.model_max_length > 1e6
        assert Texts(tokenizer)(TEXTS)["input_ids"].shape == (7, 8)
        padded = Texts(tokenizer, max_length=10, padding="max_length")(TEXTS)
        assert padded["input_ids"].shape == (7, 10)

    def test_of_any_sequence(self, tokenizer):
        expected = Texts(tokenizer)(TEXTS)
        for rows in (
            tuple(TEXTS),
            np.array(TEXTS),
            np.array(TEXTS, dtype=object),
            pd.Series(TEXTS, index=range(3, 10)),
            pd.Series(TEXTS, dtype="string"),
        ):
            found = Texts(tokenizer)(rows)
            assert all(torch.equal(found[name], expected[name]) for name in expected)

    @pytest.mark.parametrize("pooling", ["mean", "pooler"])
    def test_features_do_not_depend_on_the_batch(self, tokenizer, bert, pooling):
        prepare = Texts(tokenizer, return_token_type_ids=False)
        features = [
            FrozenFeatureExtractor(
                Pooled(bert, pooling), preprocess=prepare, batch_size=batch_size, memory=False
            ).fit_transform(TEXTS)
            for batch_size in (1, 3, 7)
        ]
        assert features[0].shape == (7, 16)
        assert np.ptp(features[0], axis=0).max() > 0.01
        for found in features[1:]:
            np.testing.assert_allclose(found, features[0], atol=1e-5)
        # control: without the mask, padding shows
        careless = Pooled(bert, "careless")
        with torch.no_grad():
            apart = careless(**prepare(TEXTS))[:1] - careless(**prepare(TEXTS[:1]))
        assert apart.abs().max() > 1e-2

    def test_features_pooled_by_the_extractor(self, tokenizer, bert):
        prepare = Texts(tokenizer, return_token_type_ids=False)
        expected = FrozenFeatureExtractor(
            Pooled(bert, "mean"), preprocess=prepare, batch_size=1, memory=False
        )
        found = FrozenFeatureExtractor(
            bert,
            preprocess=prepare,
            output="last_hidden_state",
            pool="mean",
            num_workers=2,
            batch_size=3,
            memory=False,
        )
        np.testing.assert_allclose(
            found.fit_transform(TEXTS), expected.fit_transform(TEXTS), atol=1e-5
        )

    def test_of_two_lengths_share_a_tokenizer(self, tokenizer):
        """It keeps the length as a state, which another thread could change in between."""
        shared = copy.deepcopy(tokenizer)
        both = [Texts(shared, max_length=length) for length in (5, 7)]
        long = ["a very good film " * 50] * 40
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda call: both[call % 2](long)["input_ids"].shape[1], range(10))
        assert [*found] == [5, 7] * 5

    @pytest.mark.parametrize(
        "prepare",
        [
            lambda backend: None,
            lambda backend: backend.enable_padding(length=12, pad_id=0, pad_token="[PAD]"),
            lambda backend: backend.enable_truncation(4, stride=1, strategy="only_first"),
            lambda backend: setattr(backend, "encode_special_tokens", True),
        ],
    )
    def test_leave_the_tokenizer_as_it_came(self, tokenizer, prepare):
        own = copy.deepcopy(tokenizer)
        backend = own.backend_tokenizer
        prepare(backend)
        own.deprecation_warnings["long"] = True
        own.model_max_length = 6

        def state():
            return (
                backend.to_str(),
                backend.encode_special_tokens,
                {
                    name: copy.copy(value)
                    for name, value in vars(own).items()
                    if value is not backend
                },
                backend.encode("a very very long film").ids,
            )

        before = state()
        expected = tokenizer(TEXTS, padding=True, truncation=True, max_length=6)["input_ids"]
        assert Texts(own)(TEXTS)["input_ids"].tolist() == expected
        assert state() == before
        with pytest.raises(TypeError):
            Texts(own, unknown=1, text=3)(TEXTS)
        assert state() == before
        own(TEXTS, padding=True, truncation=True, max_length=5)  # control
        assert state() != before

    def test_leave_what_the_tokenizer_notes_as_it_came(self, transformers):
        """Some versions note in a call which warnings they gave, and which language is meant."""

        class Noting(transformers.BertTokenizer):
            def __call__(self, texts, **kwargs):
                self.deprecation_warnings["long"] = True
                self._in_target_context_manager = True
                return super().__call__(texts, **kwargs)

        noting = Noting(vocab={word: number for number, word in enumerate([*WORDS, "[MASK]"])})
        noted = noting.deprecation_warnings
        noted["short"] = True
        Texts(noting)(TEXTS)
        assert noting.deprecation_warnings is noted
        assert noted == {"short": True}
        assert noting._in_target_context_manager is False
        noting(TEXTS)  # control
        assert noted["long"]
        assert noting._in_target_context_manager

    def test_in_a_classifier(self, tokenizer, bert):
        texts = pd.Series(TEXTS[:6] * 5)
        y = texts.str.contains("good")
        extractor = FrozenFeatureExtractor(
            Pooled(bert, "mean"),
            preprocess=Texts(tokenizer, return_token_type_ids=False),
            memory=False,
        )
        s = np.arange(30) // 3 % 2
        clf = FairLowRankHeadClassifier(extractor, rank=1).fit(texts, y, sensitive_features=s)
        assert clf.score(texts, y) == 1
        with pytest.raises(ValueError, match=r"Row \d of the batch is None"):
            clf.predict(["good", None])

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (None, r"Row 1 of the batch is None \(NoneType\); expected a str"),
            (float("nan"), r"is nan \(float\)"),
            (pd.NA, "<NA>"),
            (3, r"is 3 \(int\).*convert numbers by str"),
            (b"good", r"is b'good' \(bytes\)"),
            (["good"], r"is \['good'\] \(list\)"),
        ],
    )
    def test_odd_rows(self, value, message):
        with pytest.raises(ValueError, match=message):
            Texts(lambda texts, **kwargs: {})(["good", value])

    def test_tables_and_single_strings(self):
        prepare = Texts(lambda texts, **kwargs: {})
        with pytest.raises(ValueError, match=r"columns \['text'\]"):
            prepare(pd.DataFrame({"text": ["good"]}))
        with pytest.raises(ValueError, match="one string, 'good'"):
            prepare("good")

    def test_parameters(self):
        with pytest.raises(ValueError, match=r"tokenizer is str.*from_pretrained"):
            Texts("bert-base-uncased")
        for length in (0, 2.5, "3"):
            with pytest.raises(ValueError, match=r"max_length=.*positive int or None"):
                Texts(str, max_length=length)
        for returned in ([[1, 2]], {"input_ids": [[1, 2]]}):
            with pytest.raises(ValueError, match="expected a mapping of names to tensors"):
                Texts(lambda texts, returned=returned, **kwargs: returned)(["good"])

    def test_pickle_copy_and_print(self, tokenizer):
        prepare = Texts(tokenizer, max_length=5, padding="max_length")
        text = f"Texts({type(tokenizer).__name__}, max_length=5, padding='max_length')"
        for again in (prepare, pickle.loads(pickle.dumps(prepare)), copy.deepcopy(prepare)):
            assert repr(again) == text
            assert torch.equal(again(TEXTS)["input_ids"], prepare(TEXTS)["input_ids"])
