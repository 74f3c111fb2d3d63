"""Pooled features are those of a row by itself, whatever it was padded with."""

import numpy as np
import pytest
import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.backbone.feature_module import FeatureModule
from skfairft.backbone.pooling import POOLINGS, pool_features

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
AUDIO = {
    **SMALL,
    "conv_dim": (8, 8),
    "conv_kernel": (4, 2),
    "conv_stride": (4, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    # With the other norm, which is over time, the models themselves see the padding.
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
ADAPTER = {"add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 16}
FRAMES = {**SMALL, "feature_projection_input_dim": 8, "conv_depthwise_kernel_size": 3}
WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "vocab_size": 20,
    "num_mel_bins": 8,
    "max_source_positions": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def build(name, **config):
    kind = getattr(transformers, f"{name}Model")
    model = kind(getattr(transformers, f"{name}Config")(**config))
    return (model.get_encoder() if name == "Whisper" else model).eval()


def padded(lengths, *, channels=None, side="right", total=None):
    """Random rows of these lengths, zeros beside them, and their mask."""
    total = total or max(lengths)
    shape = (total,) if channels is None else (total, channels)
    values, mask = torch.zeros(len(lengths), *shape), torch.zeros(len(lengths), total).long()
    for row, length in enumerate(lengths):
        kept = slice(length) if side == "right" else slice(total - length, None)
        values[row, kept] = torch.randn(length, *shape[1:])
        mask[row, kept] = 1
    return values, mask


def pooled(module, pool, inputs, **picks):
    with torch.no_grad():
        return FeatureModule(module, pool=pool, **picks).eval()(**inputs)


LENGTHS = [60, 90, 200]
STATES = {"output": "last_hidden_state"}
# Gives a tensor in each version of transformers; the layer that it is in gave a tuple before 5.16.
INNER = "encoder.layers.0.final_layer_norm"


class Wrapped(nn.Module):
    """A model inside of another module, as a user would write it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_values, attention_mask=None):
        return self.model(input_values, attention_mask=attention_mask).last_hidden_state


class Strided(nn.Module):
    """Every fourth sample: shorter than its input, and nobody says how."""

    def forward(self, input_values, attention_mask=None):
        return input_values[:, ::4, None].repeat(1, 1, 3)


class Prompted(nn.Module):
    """Tokens behind three trained ones, as in prompt tuning."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 5)
        self.prompt = nn.Parameter(torch.randn(3, 5))

    def forward(self, input_ids, attention_mask=None):
        tokens = self.embedding(input_ids)
        return torch.cat([self.prompt.expand(len(tokens), -1, -1), tokens], dim=1)


class TestShorterOutput:
    @pytest.mark.parametrize("pool", POOLINGS)
    @pytest.mark.parametrize(
        ("name", "config", "picks"),
        [
            ("Wav2Vec2", AUDIO, STATES),
            ("Wav2Vec2", AUDIO, {"layer": INNER}),
            ("Hubert", AUDIO, STATES),
            ("WavLM", AUDIO, STATES),
            ("WavLM", AUDIO, {"layer": "encoder.layers.0", "output": 0}),
            ("UniSpeechSat", AUDIO, STATES),
            ("Wav2Vec2Bert", FRAMES, STATES),
            ("Wav2Vec2Bert", {**FRAMES, **ADAPTER}, STATES),
        ],
    )
    @pytest.mark.filterwarnings("ignore:Support for mismatched:UserWarning")  # of WavLM's attention
    def test_a_row_alone_has_the_features_it_has_in_a_batch(self, name, config, picks, pool):
        model = build(name, **config)
        values, mask = padded(LENGTHS, channels=config.get("feature_projection_input_dim"))
        key = model.main_input_name
        batch = pooled(model, pool, {key: values, "attention_mask": mask}, **picks)
        everything = pooled(model, pool, {key: values}, **picks)
        for row, length in enumerate(LENGTHS):
            only = {key: values[[row], :length], "attention_mask": mask[[row], :length]}
            alone = pooled(model, pool, only, **picks)
            torch.testing.assert_close(batch[[row]], alone, rtol=1e-4, atol=1e-5)
        assert (batch - everything)[0].abs().max() > 1e-3  # control

    def test_the_rule_of_another_output_is_none(self):
        model = build("Wav2Vec2", **AUDIO, **ADAPTER)
        values, mask = padded(LENGTHS)
        inputs = {"input_values": values, "attention_mask": mask}
        assert pooled(model, "mean", inputs, **STATES).shape == (3, 16)
        with pytest.raises(ValueError, match=r"output of shape \(3, 25, 16\).* has no rule"):
            pooled(model, "mean", inputs, layer=INNER)

    @pytest.mark.parametrize("pool", ["mean", "max"])
    def test_of_a_model_that_is_always_padded(self, pool):
        encoder = build("Whisper", **WHISPER)
        values, mask = padded([60, 90, 100], channels=8)
        with torch.no_grad():
            states = encoder(values.mT).last_hidden_state
        found = pooled(
            encoder,
            pool,
            {"input_features": values.mT, "attention_mask": mask},
            **STATES,
        )
        for row, frames in enumerate([30, 45, 50]):  # half as many
            reduce = {"mean": lambda x: x.mean(0), "max": lambda x: x.amax(0)}[pool]
            torch.testing.assert_close(found[row], reduce(states[row, :frames]))
        assert (found[0] - states[0].mean(0)).abs().max() > 0.01  # control

    def test_of_a_model_inside_of_another(self):
        model = build("Wav2Vec2", **AUDIO)
        values, mask = padded(LENGTHS)
        inputs = {"input_values": values, "attention_mask": mask}
        expected = pooled(model, "mean", inputs, **STATES)
        assert torch.equal(pooled(Wrapped(model), "mean", inputs), expected)

    def test_the_model_s_own_mask_of_its_output_goes_first(self):
        class Own(Strided):
            def forward(self, input_values, attention_mask):
                tokens = super().forward(input_values)
                return {"tokens": tokens, "attention_mask": attention_mask[:, ::4].int()}

        values, mask = padded([9, 16])
        found = pooled(
            Own(), "mean", {"input_values": values, "attention_mask": mask}, output="tokens"
        )
        expected = torch.stack([values[0, :9:4].mean(), values[1, ::4].mean()])
        torch.testing.assert_close(found, expected[:, None].repeat(1, 3))

    def test_a_rule_that_gives_the_mask_alone(self):
        class Rule(Strided):
            def _get_feature_vector_attention_mask(self, length, mask):
                return mask[:, ::4][:, :length]

        values, mask = padded([9, 16])
        found = pooled(Rule(), "max", {"input_values": values, "attention_mask": mask})
        assert found[:, 0].tolist() == [values[0, :9:4].max(), values[1, ::4].max()]

    @pytest.mark.parametrize(
        "rule",
        [
            lambda lengths: lengths // 5,  # of another output
            lambda lengths: int(lengths) // 4,  # of one row only
            lambda lengths: {"lengths": lengths // 4},
        ],
    )
    def test_a_rule_that_does_not_fit_is_none(self, rule):
        class Rule(Strided):
            _get_feat_extract_output_lengths = staticmethod(rule)

        values, mask = padded([8, 16])
        with pytest.raises(ValueError, match="Rule has no rule that does"):
            pooled(Rule(), "mean", {"input_values": values, "attention_mask": mask})

    def test_two_rules_that_differ_are_none(self):
        class Rule(Strided):
            def __init__(self, add):
                super().__init__()
                self.add = add

            def _get_feat_extract_output_lengths(self, lengths):
                return (lengths + self.add) // 4

        values, mask = padded([9, 16])
        inputs = {"input_values": values, "attention_mask": mask}
        both = Rule(0)
        found = pooled(both, "max", inputs)
        assert found[0, 0] == values[0, :8:4].max()
        both.inner = Rule(0)
        assert torch.equal(pooled(both, "max", inputs), found)
        both.inner.add = 3  # the same for 16, another for 9
        with pytest.raises(ValueError, match="has no rule"):
            pooled(both, "max", inputs)

    @pytest.mark.parametrize("pool", POOLINGS)
    @pytest.mark.parametrize("module", [Strided(), Prompted()])
    def test_without_a_rule_only_rows_of_one_length_are_pooled(self, module, pool):
        key = "input_ids" if isinstance(module, Prompted) else "input_values"
        values = torch.randint(10, (2, 8)) if key == "input_ids" else torch.randn(2, 8)
        full = torch.ones(2, 8).long()
        found = pooled(module, pool, {key: values, "attention_mask": full})
        assert torch.equal(found, pooled(module, pool, {key: values}))
        full[0, 5:] = 0
        with pytest.raises(
            ValueError,
            match=rf"attention_mask of shape \(2, 8\) .*{type(module).__name__} has no rule.*"
            r"own around it.*one by one",
        ):
            pooled(module, pool, {key: values, "attention_mask": full})

    def test_padding_on_the_left_and_rows_too_short_are_errors(self):
        model = build("Wav2Vec2", **AUDIO)
        values, mask = padded(LENGTHS, side="left")
        inputs = {"input_values": values, "attention_mask": mask}
        with pytest.raises(ValueError, match="Wav2Vec2Model takes padding to be on the right"):
            pooled(model, "mean", inputs, **STATES)
        values, mask = padded([60, 3, 200])  # the first frame needs 8 samples
        inputs = {"input_values": values, "attention_mask": mask}
        # control: the model's own mask of such a row marks everything
        assert model._get_feature_vector_attention_mask(25, mask)[1].all()
        with pytest.raises(ValueError, match="no position of the output in 1 of 3 rows"):
            pooled(model, "first", inputs, **STATES)

    def test_the_deployed_and_the_exported_model_do_the_same(self):
        model = build("Wav2Vec2", **AUDIO)
        values, mask = padded([60, 90, 200, 130, 160, 75])

        def batch(rows):
            kept = mask[rows].sum(1).max()
            return {
                "input_values": values[rows, :kept],
                "attention_mask": mask[rows, :kept],
            }

        extractor = FrozenFeatureExtractor(
            model, preprocess=batch, output="last_hidden_state", pool="mean", memory=False
        )
        rows = np.arange(6)
        clf = FairLowRankHeadClassifier(extractor, rank=1)
        clf.fit(rows, rows % 2, sensitive_features=rows // 3)
        deployed = clf.to_torch()
        exported = torch.export.export(deployed, (), batch(rows)).module()
        for module in (deployed, exported):
            with torch.no_grad():
                scores = module(**batch(rows)).numpy()
            np.testing.assert_allclose(scores, clf.decision_function(rows), rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    return build("Bert", vocab_size=12, **SMALL, initializer_range=0.5)


class TestTokens:
    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32, torch.uint8])
    @pytest.mark.parametrize("side", ["left", "right"])
    @pytest.mark.parametrize("pool", POOLINGS)
    def test_a_row_alone_has_the_features_it_has_in_a_batch(self, bert, pool, side, dtype):
        lengths = [2, 7, 4]
        _, mask = padded(lengths, side=side)
        ids = torch.randint(1, 12, (3, 7)) * mask
        # Positions count from the first token, as models that pad on the left are told.
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        }
        picks = STATES
        everything = pooled(bert, pool, inputs | {"attention_mask": torch.ones_like(mask)}, **picks)
        batch = pooled(bert, pool, inputs | {"attention_mask": mask.to(dtype)}, **picks)
        for row in range(3):
            kept = mask[row].bool()
            only = {name: value[[row]][:, kept] for name, value in inputs.items()}
            alone = pooled(bert, pool, only, **picks)
            torch.testing.assert_close(batch[[row]], alone, rtol=1e-4, atol=1e-5)
        assert (batch - everything)[0].abs().max() > 0.01  # control

    def test_a_mask_by_place_counts_as_one_by_name(self, bert):
        ids, mask = torch.randint(1, 12, (3, 5)), padded([2, 5, 3])[1]
        module = FeatureModule(bert, **STATES, pool="mean").eval()
        with torch.no_grad():
            named = module(input_ids=ids, attention_mask=mask)
            assert torch.equal(module(ids, mask), named)
            assert not torch.equal(module(ids), named)  # control

    def test_padding_may_be_nan(self):
        tokens = torch.tensor([[[1.0], [torch.nan]], [[2.0], [4.0]]])
        mask = torch.tensor([[1, 0], [1, 1]])
        for pool, expected in (("mean", [1, 3]), ("max", [1, 4]), ("first", [1, 2])):
            found = pool_features(tokens, pool, mask, nn.Identity())
            assert found[:, 0].tolist() == expected

    @pytest.mark.parametrize("pool", POOLINGS)
    def test_a_row_without_tokens_is_an_error(self, pool):
        with pytest.raises(ValueError, match=r"marks no token in 1 of 2 rows.*Leave out"):
            pool_features(torch.ones(2, 3, 4), pool, padded([3, 0])[1], nn.Identity())

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            # What is added to the scores has a 0 where others have a 1.
            (
                torch.tensor([[0.0, -1e9], [0.0, 0.0]]),
                "values from -1e[+]09 to 0; expected .n, tok",
            ),
            (torch.tensor([[1, 2], [1, 1]]), "values from 1 to 2"),
            (torch.tensor([[0.5, 1.0], [1.0, 1.0]]), "values from 0.5 to 1"),
            (torch.tensor([[torch.nan, 1.0], [1.0, 1.0]]), "values from nan"),
            ([[1, 1], [1, 0]], "attention_mask is a list; expected"),
            ({"full": torch.ones(2, 2)}, "attention_mask is a dict"),
            (torch.eye(2).expand(2, 2, 2), r"attention_mask of shape \(2, 2, 2\) does not say"),
            (torch.eye(2).expand(2, 1, 2, 2), r"attention_mask of shape \(2, 1, 2, 2\)"),
            (torch.tensor([[1, 0]]), r"attention_mask of shape \(1, 2\)"),
            (torch.tensor([1, 0]), r"attention_mask of shape \(2,\)"),
        ],
    )
    def test_other_masks_are_errors(self, mask, message):
        with pytest.raises(ValueError, match=message):
            pool_features(torch.randn(2, 2, 3), "mean", mask, nn.Identity())

    def test_other_masks_that_mark_everything_are_none(self):
        tokens = torch.randn(2, 2, 3)
        for shape in [(2, 2, 2), (2, 1, 2, 2), (1, 2)]:
            found = pool_features(tokens, "mean", torch.ones(shape), nn.Identity())
            torch.testing.assert_close(found, tokens.mean(1))


def test_maps_have_no_padding_that_a_mask_could_mark():
    maps = torch.randn(2, 3, 4, 4)
    full = torch.ones(2, 16)
    for mask in (None, full, full.bool(), torch.ones(2, 3)):
        for pool, expected in (("mean", maps.mean((2, 3))), ("max", maps.amax((2, 3)))):
            torch.testing.assert_close(pool_features(maps, pool, mask, nn.Identity()), expected)
    for shape in [(2, 16), (2, 4, 4), (2, 3)]:
        mask = torch.ones(shape)
        mask[0, -1] = 0
        with pytest.raises(ValueError, match=r"an output of shape \(2, 3, 4, 4\) are padding"):
            pool_features(maps, "mean", mask, nn.Identity())
