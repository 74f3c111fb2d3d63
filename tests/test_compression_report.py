"""`compression_report`: its measures by hand, and its intervals beside scipy's."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.metrics import demographic_parity_difference
from scipy.special import expit, log_softmax, xlogy
from scipy.stats import binomtest, norm
from scipy.stats import t as student
from torch import nn
from torch.nn.utils import prune

from skfairft import CompressionReport, compress, compression_report, split_attention
from skfairft.compression.layers import layers_table

N, D, K = 90, 6, 4
S = np.array(["a", "b", "c"])[np.arange(N) % 10 // 4]
X = torch.from_numpy(np.random.default_rng(0).normal(size=(N, D)))
LABELS = {
    "softmax": np.random.default_rng(1).integers(K, size=N),
    "sigmoid": np.random.default_rng(1).integers(2, size=(N, K)),
    "squared": np.random.default_rng(1).normal(size=(N, K)),
}


@pytest.fixture
def models():
    """Two that say different things."""
    return tuple(nn.Sequential(nn.Linear(D, K), nn.Dropout(0.5)).double() for _ in range(2))


def report_of(models, y=None, *, loss="softmax", s=S, rows=X, **settings):
    return compression_report(*models, rows, y, sensitive_features=s, loss=loss, **settings)


def outputs_of(models):
    with torch.no_grad():
        return [model[0](X).numpy() for model in models]


def row_by_row(loss, before, after, y):
    """Each measure of one row, by the formulas as they are written."""
    if loss == "squared":
        rise = ((after - y) ** 2).mean() - ((before - y) ** 2).mean()
        return {"divergence": ((before - after) ** 2).mean(), "loss_rise": rise}
    if loss == "softmax":
        p, q = np.exp(log_softmax(before)), np.exp(log_softmax(after))
        decided = [before.argmax(), after.argmax()]
        return {
            "divergence": (p * np.log(p / q)).sum(),
            "agreement": float(decided[0] == decided[1]),
            "loss_rise": np.log(p[y]) - np.log(q[y]),
            "accuracy": float(decided[0] == y),
            "accuracy_small": float(decided[1] == y),
            "accuracy_rise": float(decided[1] == y) - float(decided[0] == y),
        }
    p, q = expit(before), expit(after)
    loss_of = [-(xlogy(y, each) + xlogy(1 - y, 1 - each)).mean() for each in (p, q)]
    right = [((each > 0.5) == (y == 1)).mean() for each in (p, q)]
    return {
        "divergence": (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(),
        "agreement": ((p > 0.5) == (q > 0.5)).mean(),
        "loss_rise": loss_of[1] - loss_of[0],
        "accuracy": right[0],
        "accuracy_small": right[1],
        "accuracy_rise": right[1] - right[0],
    }


@pytest.mark.parametrize("loss", LABELS)
class TestMeasures:
    @pytest.mark.parametrize("batch_size", [1000, 7])
    def test_are_means_of_those_of_each_row(self, models, loss, batch_size):
        found = report_of(models, LABELS[loss], loss=loss, batch_size=batch_size).by_group
        each = pd.DataFrame(
            [row_by_row(loss, *row) for row in zip(*outputs_of(models), LABELS[loss], strict=True)]
        )
        measures = [name for name in found if not name.endswith(("_low", "_high"))]
        assert measures == ["n", *each]
        assert list(found.index) == ["a", "b", "c", "overall"]
        for group in found.index:
            own = (group == S) | (group == "overall")
            assert found.loc[group, "n"] == own.sum()
            np.testing.assert_allclose(
                found.loc[group, each.columns].astype(float), each[own].mean()
            )
            if loss != "sigmoid":  # where a share is of rows and outputs
                assert_limits(found.loc[group], each[own])

    def test_of_a_model_and_itself_nothing_changes(self, models, loss):
        found = report_of(models[:1] * 2, LABELS[loss], loss=loss).by_group
        np.testing.assert_allclose(found["divergence"], 0.0, atol=1e-15)
        np.testing.assert_allclose(found["loss_rise"], 0.0, atol=1e-15)
        if loss != "squared":
            assert (found["agreement"] == 1.0).all()
            assert (found["agreement_low"] < 1.0).all()  # of so few rows
            assert found["accuracy"].equals(found["accuracy_small"])
            assert (found["accuracy_rise"] == 0.0).all()
            assert (found["accuracy_rise_low"] < 0.0).all()
            assert (found["accuracy_rise_high"] > 0.0).all()

    def test_without_labels_there_are_those_that_need_none(self, models, loss):
        found = report_of(models, loss=loss).by_group
        whole = report_of(models, LABELS[loss], loss=loss).by_group
        expected = [name for name in whole if name.startswith(("n", "divergence", "agreement"))]
        pd.testing.assert_frame_equal(found, whole[expected])

    def test_a_far_output_is_still_finite(self, models, loss):
        """Where probabilities are 0 and 1 to the last digit, their logarithms are not."""
        with torch.no_grad():
            models[0][0].weight.mul_(1e4)
        found = report_of(models, LABELS[loss], loss=loss).by_group.drop(columns="n")
        assert np.isfinite(found.to_numpy(dtype=float)).all()
        assert (found["divergence"] > 0.0).all()


def assert_limits(found, each):
    """Of means Student's, of shares Wilson's, of their difference that of Agresti and Min: 95 %."""
    for name, values in each.items():
        low, high = found[f"{name}_low"], found[f"{name}_high"]
        if name in ("agreement", "accuracy", "accuracy_small"):
            test = binomtest(int(values.sum()), len(values))
            expected = test.proportion_ci(0.95, method="wilson")
        elif name == "accuracy_rise":
            up, down, n = sum(values > 0) + 0.5, sum(values < 0) + 0.5, len(values) + 2
            half = norm.ppf(0.975) * np.sqrt(up + down - (up - down) ** 2 / n) / n
            expected = (up - down) / n - half, (up - down) / n + half
        else:
            expected = student.interval(0.95, len(values) - 1, values.mean(), values.sem())
        np.testing.assert_allclose([low, high], expected, rtol=1e-6, atol=1e-12)


class TestGroups:
    def test_the_worst_is_that_whose_loss_rises_most(self, models):
        y = LABELS["softmax"]
        found = report_of(models, y)
        by_group = found.by_group.iloc[:-1]
        assert found.worst == by_group["loss_rise"].idxmax()
        assert report_of(models).worst == by_group["divergence"].idxmax()

    @pytest.mark.parametrize("name", ["overall", "z", 7])
    def test_may_have_any_name(self, models, name):
        """Where the models differ in what nobody else has, that is the worst group."""
        s, rows = np.where(S == "a", name, S.astype(object)), X.clone()
        rows[S != "a", 0] = 0.0
        with torch.no_grad():
            models[1].load_state_dict(models[0].state_dict())
            models[1][0].weight[0, 0] += 1.0
        assert report_of(models, s=s, rows=rows).worst == name

    def test_of_several_columns_are_their_combinations(self, models):
        s = pd.DataFrame({"one": S, "other": np.arange(N) % 2})
        found = report_of(models, s=s)
        assert list(found.by_group.index) == [(g, o) for g in "abc" for o in (0, 1)] + ["overall"]
        assert found.worst in set(found.by_group.index[:-1])

    def test_of_one_row_have_no_interval_of_a_mean(self, models):
        s = np.where(np.arange(N) == 0, "alone", "rest")
        alone = report_of(models, s=s).by_group.loc["alone"]
        assert np.isnan([alone["divergence_low"], alone["divergence_high"]]).all()
        assert alone["divergence"] > 0.0
        assert alone["agreement_high"] - alone["agreement_low"] > 0.7

    def test_do_not_change_what_all_rows_together_say(self, models):
        found = [report_of(models, s=s).by_group.loc[["overall"]] for s in (S, np.arange(N) % 2)]
        pd.testing.assert_frame_equal(*found)


class TestSettings:
    def test_a_function_is_divergence_and_loss(self, models):
        def cubes(outputs, targets):
            return (outputs - targets).abs().pow(3).sum(1)

        y = LABELS["squared"]
        found = report_of(models, y, loss=cubes).by_group.loc["overall"]
        before, after = outputs_of(models)
        assert found["divergence"] == pytest.approx((abs(after - before) ** 3).sum(1).mean())
        rise = (abs(after - y) ** 3 - abs(before - y) ** 3).sum(1).mean()
        assert found["loss_rise"] == pytest.approx(rise)
        assert "agreement" not in found

    def test_labels_that_are_shares_are_right_where_they_lean(self, models):
        y = LABELS["sigmoid"]
        soft = report_of(models, 0.2 + 0.6 * y, loss="sigmoid").by_group
        hard = report_of(models, y, loss="sigmoid").by_group
        assert soft["accuracy"].tolist() == hard["accuracy"].tolist()

    @pytest.mark.parametrize("kind", ["array", "list", "tensor", "series"])
    def test_labels_may_be_of_any_kind(self, models, kind):
        y = LABELS["softmax"]
        given = {
            "array": y,
            "list": y.tolist(),
            "tensor": torch.from_numpy(y),
            "series": pd.Series(y, index=np.arange(N)[::-1]),
        }[kind]
        found = report_of(models, given, batch_size=40).by_group
        pd.testing.assert_frame_equal(found, report_of(models, y.copy()).by_group)

    def test_models_are_left_as_they_were(self, models):
        models[0].train()
        models[1].eval()
        given = X.clone()
        first = nn.Sequential(nn.ReLU(inplace=True), models[0])  # which must not reach the other
        found = report_of((first, models[1]), LABELS["softmax"], rows=given)
        assert torch.equal(given, X)
        assert [part.training for part in first.modules()] == [True] * 5
        assert not any(part.training for part in models[1].modules())
        plain = nn.Sequential(nn.ReLU(), models[0])
        expected = report_of((plain, models[1]), LABELS["softmax"])
        pd.testing.assert_frame_equal(found.by_group, expected.by_group)

    def test_of_the_worst_it_says_by_what(self):
        """Of a group that the model serves badly the loss may fall while what it says changes."""
        model, small = nn.Linear(1, 1).double(), nn.Linear(1, 1).double()
        with torch.no_grad():
            for part, weight in ((model, 2.0), (small, 0.5)):
                part.weight.fill_(weight)
                part.bias.zero_()
        rows, s = torch.tensor([[2.0], [1.0]] * 20).double(), ["wrong", "right"] * 20
        y = np.array([[0.0], [1.0]] * 20)
        found = report_of((model, small), y, loss="sigmoid", s=s, rows=rows)
        assert found.worst == "right"
        assert "worst: by loss_rise right, by divergence wrong\n" in str(found)
        rows[1::2] = 0.1
        found = report_of((model, small), y**0, loss="sigmoid", s=s, rows=rows)
        assert "worst: by loss_rise and divergence wrong\n" in str(found)

    def test_is_about_what_compress_made(self):
        model = nn.Linear(D, K)
        small = compress(model, X, sensitive_features=S, rank=1, group_weights="proportional")
        found = report_of((model, small))
        assert isinstance(found, CompressionReport)
        assert found.parameters == (D * K + K, D + K + K)
        assert min(found.seconds) > 0.0
        text = str(found)
        assert "parameters: 28 -> 14" in text
        assert f"seconds: {found.seconds[0]:.2g} -> {found.seconds[1]:.2g}" in text
        assert f"worst: by divergence {found.worst}\n" in text
        for row in found.by_group.itertuples():
            line = next(line for line in text.splitlines() if line.startswith(f"{row.Index} "))
            assert line.split(maxsplit=2)[1] == str(row.n)
            for name in ("divergence", "agreement"):
                ends = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
                assert "{:.3g} [{:.3g}, {:.3g}]".format(*ends) in line
        assert "_low" not in text

    def test_of_two_classes_says_how_many_are_selected(self):
        """However the two are scored; and how far apart the groups are."""
        torch.manual_seed(0)
        one = [nn.Linear(D, 1).double() for _ in range(2)]
        two = [nn.Linear(D, 2).double() for _ in range(2)]
        with torch.no_grad():
            for single, double in zip(one, two, strict=True):
                for p, q in zip(single.parameters(), double.parameters(), strict=True):
                    q.copy_(torch.cat([-p, p]) / 2)
        scores = [model(X)[:, 0].detach().numpy() for model in one]
        reports = [report_of(one, loss="sigmoid"), report_of(two, loss="softmax")]
        for found in reports:
            for name, score in zip(("selection_rate", "selection_rate_small"), scores, strict=True):
                for group in ("a", "b", "c"):
                    expected = (score[group == S] > 0).mean()
                    assert found.by_group.loc[group, name] == pytest.approx(expected)
            apart = [demographic_parity_difference(S, z > 0, sensitive_features=S) for z in scores]
            line = f"demographic parity distance: {apart[0]:.3f} -> {apart[1]:.3f}"
            assert line in str(found)
        assert "selection_rate" not in report_of([nn.Linear(D, 3).double()] * 2).by_group

    def test_parameters_that_cannot_be_counted_are_not_told(self):
        found = CompressionReport(pd.DataFrame({"n": [1]}), (None, 3), (1.0, 1.0))
        assert "parameters: unknown" in str(found)


ERRORS = {
    "no loss": ({"loss": None}, "loss=None .*which compression_report needs; expected one of"),
    "loss not known": ({"loss": "hinge"}, "loss='hinge' is not known"),
    "loss of all rows": ({"loss": nn.MSELoss()}, "a loss for each row"),
    "y of floats": (
        {"y": np.zeros(N)},
        "y holds torch.float64, a number for .*expected the classes",
    ),
    "y beyond": ({"y": np.full(N, K)}, "from 4 to 4; expected the classes .* 0 to 3"),
    "y of texts": ({"y": S}, "y holds text, such as .*expected numbers"),
    "y of rows": ({"y": np.zeros(N), "loss": "sigmoid"}, "expected a number for each output"),
    "y no share": ({"y": np.full((N, K), 2), "loss": "sigmoid"}, "y holds 2 to 2; expected 0 or 1"),
    "y too short": ({"y": np.zeros(3, int)}, r"y has the shape \(3,\), but X has 90 rows"),
    "groups too short": ({"s": S[1:]}, "sensitive_features has 89 rows but X has 90"),
    "no groups": ({"s": None}, "sensitive_features is None"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_says_what_came_and_what_to_do(models, name):
    settings, match = ERRORS[name]
    with pytest.raises(ValueError, match=match):
        report_of(models, **settings)


@pytest.mark.parametrize("small", [None, nn.Linear, "model"])
def test_what_is_no_module_is_refused(models, small):
    with pytest.raises(ValueError, match=r"small is .*; expected an nn.Module"):
        report_of((models[0], small))


def test_half_precision_is_measured_in_double():
    """What the outputs are is rounded, what is computed of them is not."""
    torch.manual_seed(0)
    model, small = (nn.Linear(D, 10).bfloat16() for _ in range(2))
    with torch.no_grad():
        for p, q in zip(small.parameters(), model.parameters(), strict=True):
            p.copy_(q + 0.02 * torch.randn_like(q))
    found = report_of((model, small)).by_group["divergence"]
    Z = torch.as_tensor(X).bfloat16()
    p, q = (each(Z).detach().double().log_softmax(1) for each in (model, small))
    each = (p.exp() * (p - q)).sum(1)
    assert found["overall"] == pytest.approx(float(each.mean()), rel=1e-9)
    assert report_of((model.float(), small)).by_group["divergence"]["overall"] > 0.0


def test_models_that_say_different_things_are_refused(models):
    other = nn.Linear(D, K + 1).double()
    match = rf"model gives outputs of shape \({N}, 4\) and small \({N}, 5\); expected the same"
    with pytest.raises(ValueError, match=match):
        report_of((models[0], other))
    one = nn.Linear(D, 1).double()
    with pytest.raises(ValueError, match=r"'softmax' is of scores .*use loss='sigmoid'"):
        report_of((one, one))


def layers_of(model, small):
    return layers_table(model, small).astype(object).where(lambda found: found.notna(), None)


def numbers(*parts):
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


class Conv1D(nn.Module):
    """As that of transformers, by whose place it is known."""

    __module__ = "transformers.pytorch_utils"

    def __init__(self, nf, nx):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, Z):
        return Z @ self.weight + self.bias


class Network(nn.Module):
    """With layers of each kind."""

    def __init__(self):
        super().__init__()
        self.conv, self.deep = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
        self.token = Conv1D(12, 16)
        self.head = nn.ModuleDict({"wide": nn.Linear(12, 8), "norm": nn.BatchNorm1d(8)})
        self.last = nn.Linear(8, 1)

    def forward(self, Z):
        Z = self.deep(self.conv(Z)).relu().flatten(2).mT
        Z = self.token(self.block(Z)).mean(1).relu()
        return self.last(self.head["norm"](self.head["wide"](Z)))


@pytest.fixture(scope="module")
def cut():
    torch.manual_seed(0)
    model, Z = Network().eval(), torch.randn(120, 3, 7, 7)
    s = np.arange(120) % 2
    small = compress(model, Z, sensitive_features=s, parameters=0.5)
    report = compression_report(model, small, Z, sensitive_features=s, loss="squared")
    return model, small, report


class TestLayers:
    def test_are_told_of_what_was_cut_and_what_was_left(self, cut):
        model, small, report = cut
        found = report.layers
        see = "see split_attention"
        inner = "NonDynamicallyQuantizableLinear"
        expected = {
            "conv": ("Conv2d", 3, 16, ""),
            "deep": ("Conv2d", 16, 16, "grouped convolution"),
            "block.self_attn": ("MultiheadAttention", 16, 16, f"packed projections: {see}"),
            "block.self_attn.out_proj": (inner, 16, 16, f"run by its attention: {see}"),
            "block.linear1": ("Linear", 16, 32, ""),
            "block.linear2": ("Linear", 32, 16, ""),
            "token": ("Conv1D", 16, 12, ""),
            "head.wide": ("Linear", 12, 8, ""),
            "last": ("Linear", 8, 1, "no smaller at any rank"),
        }
        said = found[["kind", "inputs", "outputs", "left"]].itertuples()
        assert {name: tuple(rest) for name, *rest in said} == expected
        for name, row in found.iterrows():
            before, after = model.get_submodule(name), small.get_submodule(name)
            of_others = 16 * 16 + 16 if name == "block.self_attn" else 0
            assert row["parameters"] == numbers(before) - of_others
            assert row["parameters_small"] == numbers(after) - of_others
            if row["left"]:
                assert row["rank"] is pd.NA
                assert row["parameters"] == row["parameters_small"]
            else:
                assert row["rank"] == after.rank
                assert row["parameters_small"] < row["parameters"]
        others = numbers(model.block.norm1, model.block.norm2, model.head["norm"])
        assert found["parameters"].sum() == report.parameters[0] - others
        assert found["parameters_small"].sum() == report.parameters[1] - others

    def test_are_in_the_text(self, cut):
        report = cut[2]
        before, after = report.layers[["parameters", "parameters_small"]].sum()
        assert f"\nlayers: 5 of 9 cut, {before:,} -> {after:,} parameters\n" in str(report)
        assert repr(report) == str(report)
        again = pickle.loads(pickle.dumps(report))
        pd.testing.assert_frame_equal(again.layers, report.layers)
        assert str(again) == str(report)

    def test_of_models_that_are_whole_are_not_in_the_text(self, models):
        report = report_of(models)
        assert report.layers["left"].tolist() == ["whole"]
        assert "layers:" not in str(report)
        assert "layers:" not in str(report_of(models[:1] * 2))

    def test_reports_of_before_have_none(self, cut):
        """Neither those that are made with three arguments, nor those of old pickles."""
        _, _, report = cut
        three = CompressionReport(report.by_group, report.parameters, report.seconds)
        assert three.layers is None
        old = pickle.loads(pickle.dumps(report))
        del old.__dict__["layers"]
        old = pickle.loads(pickle.dumps(old))
        assert old.layers is None
        lines = str(report).splitlines()
        without = "\n".join(line for line in lines if not line.startswith("layers:"))
        assert str(three) == str(old) == without

    def test_of_attention_that_is_split_are_one_still(self, cut):
        model = cut[0]
        split, s = split_attention(model), np.arange(120) % 2
        small = compress(split, torch.randn(120, 3, 7, 7), sensitive_features=s, parameters=0.5)
        attention = small.block.self_attn
        found = layers_of(model, small)
        row = found.loc["block.self_attn"]
        assert (row["left"], row["rank"]) == ("", None)
        assert row["parameters"] == 3 * 16 * 17
        thin = (attention.q_proj, attention.k_proj, attention.v_proj)
        assert row["parameters_small"] == numbers(*thin) < row["parameters"]
        assert found.loc["block.self_attn.out_proj", "rank"] == attention.out_proj.rank
        own = layers_of(split, small)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            part = getattr(attention, name)
            assert own.loc[f"block.self_attn.{name}", "rank"] == part.rank
        assert "block.self_attn" not in own.index
        whole = layers_of(model, split)["left"]
        assert whole[["block.self_attn", "block.self_attn.out_proj"]].tolist() == ["whole"] * 2

    def test_that_were_thin_already_are_no_news(self, cut):
        _, small, _ = cut
        found = layers_of(small, small)
        assert "conv.down" not in found.index
        assert found.loc["conv", ["kind", "left"]].tolist() == ["LowRankConv", "thin already"]
        assert found.loc["conv", "rank"] == small.conv.rank
        assert found["parameters"].equals(found["parameters_small"])
        assert not (found["left"] == "").any()

    def test_of_models_that_have_nothing_in_common(self):
        """Names say which layers are compared; what is there by chance is another layer."""
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Conv1d(2, 3, 3))
        other = nn.Sequential(nn.Linear(6, 9), nn.ReLU())
        found = layers_of(model, other)
        left = ["another layer", *["not in the smaller model"] * 2]
        assert found["left"].tolist() == left
        assert found["parameters_small"].tolist() == [63, None, None]
        assert found["rank"].tolist() == [None] * 3
        larger = nn.Sequential(*model[:3], nn.Conv1d(2, 3, 5))
        assert layers_of(model, larger)["left"].tolist() == ["whole", "whole", "another layer"]
        report = report_of(
            (nn.Sequential(nn.Linear(D, K)).double(), nn.Linear(D, K).double())
        ).layers
        assert report["parameters_small"].isna().all()

    def test_of_a_model_without_layers_are_none(self):
        table = layers_table(nn.Sequential(nn.ReLU()), nn.ReLU())
        assert len(table) == 0
        assert list(table) == [
            *("kind", "inputs", "outputs", "parameters", "parameters_small", "rank", "left")
        ]

    def test_of_a_layer_that_has_not_run_have_no_number(self):
        lazy = nn.Sequential(nn.LazyLinear(3))
        assert layers_of(lazy, lazy)["parameters"].tolist() == [None]

    def test_say_why_they_are_whole(self):
        class Own(nn.Linear):
            pass

        def tied():
            pair = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
            pair[1].weight = pair[0].weight
            return pair

        hooked = nn.Linear(6, 6)
        hooked.register_forward_hook(lambda part, given, output: output)
        reasons = {
            "whole": nn.Linear(6, 6),
            "grouped convolution": nn.Conv1d(6, 6, 3, groups=2),
            "transposed": nn.ConvTranspose2d(6, 6, 3),
            "recurrent": nn.GRU(6, 6),
            "weights that are made of others": prune.identity(nn.Linear(6, 6), "weight"),
            "hooks or a forward of its own": hooked,
            "a class of its own, or weights of another kind": Own(6, 6),
            "shared weights": tied(),
            "no smaller at any rank": nn.Conv1d(1, 6, 1),
        }
        for reason, part in reasons.items():
            assert set(layers_of(part, part)["left"]) == {reason}
