"""`compression_report`: its measures by hand, and its intervals beside scipy's."""

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.metrics import demographic_parity_difference
from scipy.special import expit, log_softmax, xlogy
from scipy.stats import binomtest
from scipy.stats import t as student
from torch import nn

from skfairft import CompressionReport, compress, compression_report

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
    """Of means Student's, of shares Wilson's: 95 % both."""
    for name, values in each.items():
        low, high = found[f"{name}_low"], found[f"{name}_high"]
        if name in ("agreement", "accuracy", "accuracy_small"):
            test = binomtest(int(values.sum()), len(values))
            expected = test.proportion_ci(0.95, method="wilson")
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
        assert f"worst: {found.worst}" in text
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
