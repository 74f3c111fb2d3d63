"""Constraints are rows of one table: its rates are those of others, and all else reads it."""

import itertools
import pickle
from functools import partial

import numpy as np
import pytest
import sklearn
import torch
from fairlearn.metrics import (
    MetricFrame,
    false_negative_rate,
    false_negative_rate_difference,
    false_positive_rate,
    selection_rate,
    true_negative_rate,
    true_negative_rate_difference,
    true_positive_rate,
)
from oracles import PARITIES, group_rate, parity_distance
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import zero_one_loss
from sklearn.utils._param_validation import StrOptions

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessTradeoffDisplay,
    FairnessWarning,
    GroupRatesDisplay,
    fairness_path,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.metrics import (
    constraint_distance,
    fairness_report,
    fairness_scorer,
    worst_group_error,
)
from skfairft.parity.constraints import CONSTRAINTS, largest_distance, parity
from skfairft.parity.counts import distances_of
from skfairft.parity.judge import JudgedRows
from skfairft.parity.moments import moments
from skfairft.parity.penalty import ParityPenalty
from skfairft.parity.sums import mass_table
from skfairft.parity.table import RATES, REPORTED, STATED, TABLE, Constraint, Rate, metric_of
from skfairft.rows.tensor_rows import TensorRows
from skfairft.solvers.dual import solve_multipliers
from skfairft.solvers.rule import cell_scores

FAIRLEARN = {
    "selection_rate": selection_rate,
    "tpr": true_positive_rate,
    "fpr": false_positive_rate,
    "fnr": false_negative_rate,
    "tnr": true_negative_rate,
    "error": zero_one_loss,
}
# Each asks for the same as the other: their rates add up to 1.
SAME = [
    ("true_positive_rate_parity", "false_negative_rate_parity"),
    ("false_positive_rate_parity", "true_negative_rate_parity"),
]
SIZES = {"of one size": [0.5, 0.5], "of very different sizes": [0.96, 0.04]}


def make_decisions(seed=0, n=600, k=2, groups=(0.6, 0.3, 0.1)):
    """Labels, decisions that err in some groups more than in others, groups, weights."""
    rng = np.random.default_rng(seed)
    s = rng.choice(len(groups), size=n, p=groups)
    y = rng.choice(k, size=n, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    wrong = rng.random(n) < 0.05 + np.where(y == k - 1, 0.5, 0.25) * s / (len(groups) - 1)
    return y, np.where(wrong, (y + 1) % k, y), s, rng.exponential(size=n)


class TestRows:
    @pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
    def test_name_rates_that_are_there(self, row):
        assert row.rates
        assert set(row.rates) <= set(RATES)
        assert len(set(row.rates)) == len(row.rates)

    def test_have_words_of_their_own(self):
        for rows, words in ((TABLE, ("title", "distance")), (RATES, ("name", "short"))):
            for word in words:
                said = [getattr(row, word) for row in rows.values()]
                assert all(said)
                assert len(set(said)) == len(rows)

    def test_of_every_report_are_there(self):
        assert set(REPORTED) < set(RATES)
        assert set(STATED) < set(TABLE) == set(CONSTRAINTS)
        assert largest_distance("error_rate_parity") == 1

    def test_that_ask_whether_a_decision_is_right_have_no_conditions(self):
        for constraint, k in itertools.product(TABLE, (2, 3)):
            asks = parity(constraint, k).conditions is None
            # The share of right predictions depends on what is predicted for whom.
            pooled = any(RATES[rate].pooled for rate in TABLE[constraint].rates)
            assert asks == (pooled or TABLE[constraint].largest)

    @pytest.mark.parametrize("pair", SAME)
    @pytest.mark.parametrize("k", [2, 3])
    def test_of_the_same_rows_have_the_same_conditions(self, pair, k):
        first, second = (parity(constraint, k).conditions for constraint in pair)
        assert np.array_equal(first, second)

    def test_of_moments_can_be_pickled(self):
        rule = parity("error_rate_parity", 3, np.array([1.0, 2.0, 3.0]))
        loaded = pickle.loads(pickle.dumps(rule))
        assert loaded.kinds == rule.kinds
        assert np.array_equal(loaded.events, rule.events)


def coefficients(kind, k, c):
    """C (k, k) and E (k,) by definition, of class c against the rest or of all classes."""
    C, E = np.zeros((k, k)), np.zeros(k)
    for each in range(k) if kind.pooled else [c]:
        for y in range(k):
            E[y] += kind.of[y == each]
            for j in range(k):
                C[y, j] += kind.counted[y == each][j == each]
    return C, E


class TestMoments:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("k", [2, 3, 4])
    @pytest.mark.parametrize("constraint", TABLE)
    def test_are_sums_with_the_coefficients_of_the_table(self, constraint, k, weighted):
        rng = np.random.default_rng(0)
        mass = rng.exponential(size=(k, 3, k))
        count, factors = mass.sum(axis=2), rng.uniform(0.5, 5.0, size=k) if weighted else np.ones(k)
        rule = parity(constraint, k, factors if weighted else None)
        found = rule.rates(factors[:, None, None] * mass, factors[:, None] * count)
        kinds = [RATES[name] for name in TABLE[constraint].rates]
        if all(kind.pooled for kind in kinds):
            classes = [0]
        else:
            classes = [1] if k == 2 and not TABLE[constraint].each_class else range(k)
        each = [coefficients(kind, k, c) for c in classes for kind in kinds]
        expected = [np.einsum("yj,ygj->g", C, mass) / (E @ count) for C, E in each]
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("k", [2, 3, 5])
    @pytest.mark.parametrize("rates", [*({row.rates for row in TABLE.values()}), tuple(RATES)])
    def test_spending_is_the_transpose_of_summing(self, rates, k, weighted):
        rng = np.random.default_rng(0)
        weight = rng.uniform(0.5, 5.0, size=k) if weighted else None
        rule = moments(rates, k, class_weight=weight)
        mass = torch.from_numpy(rng.normal(size=(k, 3, k)))
        prices = torch.from_numpy(rng.normal(size=(len(rule.events), 3)))
        found = float((rule.spend(prices) * mass).sum())
        assert found == pytest.approx(float((prices * rule.sums(mass)).sum()), rel=1e-11)
        assert abs(found) > 0.01

    @pytest.mark.parametrize("pair", SAME)
    @pytest.mark.parametrize("k", [2, 3])
    def test_of_two_rates_that_add_up_to_1_have_opposite_gaps(self, pair, k):
        rng = np.random.default_rng(0)
        y, s = (torch.from_numpy(rng.integers(n, size=90)) for n in (k, 3))
        p = torch.from_numpy(rng.dirichlet(np.ones(k), size=90))
        mass, count = mass_table(
            p, TensorRows(p, y, torch.from_numpy(rng.random(90)), s), n_groups=3
        )
        first, second = (parity(constraint, k) for constraint in pair)
        rates = [rule.rates(mass, count) for rule in (first, second)]
        torch.testing.assert_close(rates[0] + rates[1], torch.ones_like(rates[0]))
        gaps = [rule.gaps(r, count) for rule, r in zip((first, second), rates, strict=True)]
        torch.testing.assert_close(gaps[0], -gaps[1])
        # So training with one penalty is training with the other: what they do to probabilities,
        # whose sum in a row is 1, is the same.
        for form in ("squared_gaps", "distance"):
            values, slopes = zip(
                *(ParityPenalty(rule, count, 2.0, form).slope(mass) for rule in (first, second)),
                strict=True,
            )
            torch.testing.assert_close(values[0], values[1])
            apart = slopes[0] - slopes[1]
            torch.testing.assert_close(apart, apart[..., :1].expand_as(apart))
            assert apart.abs().max() > 1e-3


class TestDistance:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("sizes", SIZES)
    @pytest.mark.parametrize("constraint", PARITIES)
    @pytest.mark.some(3)
    def test_is_fairlearns(self, constraint, sizes, weighted, seed):
        y, pred, s, w = make_decisions(seed, n=2000, groups=SIZES[sizes])
        w = w if weighted else None
        frames = {
            name: MetricFrame(
                metrics=FAIRLEARN[name],
                y_true=y,
                y_pred=pred,
                sensitive_features=s,
                sample_params=None if w is None else {"sample_weight": w},
            )
            for name in TABLE[constraint].rates
        }
        expected = sum(frame.difference() for frame in frames.values())
        found = constraint_distance(
            y, pred, constraint=constraint, sensitive_features=s, sample_weight=w
        )
        assert found == pytest.approx(expected, abs=1e-12)
        assert expected > 0.02

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("sizes", SIZES)
    def test_of_the_worst_is_fairlearns_largest(self, sizes, weighted):
        y, pred, s, w = make_decisions(n=2000, k=3, groups=SIZES[sizes])
        w = w if weighted else None
        given = {"sensitive_features": s, "sample_weight": w}
        for over, features in (("groups", s), ("cells", np.column_stack([y, s]))):
            frame = MetricFrame(
                metrics=zero_one_loss,
                y_true=y,
                y_pred=pred,
                sensitive_features=features,
                sample_params=None if w is None else {"sample_weight": w},
            )
            found = worst_group_error(y, pred, over=over, **given)
            assert found == pytest.approx(frame.group_max(), abs=1e-12)
            assert found > frame.overall + 0.02

    def test_of_the_new_rates_is_fairlearns_difference(self):
        y, pred, s, w = make_decisions()
        given = {"sensitive_features": s, "sample_weight": w}
        for constraint, difference in (
            ("false_negative_rate_parity", false_negative_rate_difference),
            ("true_negative_rate_parity", true_negative_rate_difference),
        ):
            found = constraint_distance(y, pred, constraint=constraint, **given)
            assert found == pytest.approx(difference(y, pred, **given), abs=1e-12)

    @pytest.mark.parametrize("k", [2, 3, 4])
    @pytest.mark.parametrize("constraint", TABLE)
    def test_of_several_classes_is_that_of_the_definition(self, constraint, k):
        y, pred, s, _ = make_decisions(k=k)
        found = constraint_distance(y, pred, constraint=constraint, sensitive_features=s)
        assert found == pytest.approx(parity_distance(y, pred, s, constraint, k), abs=1e-12)
        assert found > 0.05

    @pytest.mark.parametrize("constraint", TABLE)
    def test_counts_an_integer_weight_as_the_row_so_often(self, constraint):
        y, pred, s, _ = make_decisions(k=3)
        times = np.random.default_rng(0).integers(0, 4, size=len(y))
        distance = partial(constraint_distance, constraint=constraint)
        weighted = distance(y, pred, sensitive_features=s, sample_weight=times)
        y2, pred2, s2 = (np.repeat(each, times) for each in (y, pred, s))
        assert weighted == pytest.approx(distance(y2, pred2, sensitive_features=s2), abs=1e-12)
        assert weighted != pytest.approx(distance(y, pred, sensitive_features=s), abs=1e-4)

    @pytest.mark.parametrize("constraint", TABLE)
    def test_of_the_judge_and_of_its_resamples_is_the_same(self, constraint):
        y, pred, s, w = make_decisions(k=3)
        rows = TensorRows(torch.zeros(len(y), 1), *map(torch.from_numpy, (y, w, s)))
        judge = JudgedRows(rows, parity(constraint, 3), np.arange(3))
        cells = judge.cells(torch.eye(3)[pred])
        (block,) = judge.resampled(cells, 20, 0)
        tables = np.concatenate([judge.table(cells)[None], block])
        found = judge.distances(tables)
        np.testing.assert_allclose(
            found, distances_of(tables, [constraint])[constraint], rtol=1e-12
        )
        np.testing.assert_array_equal(judge.metrics(tables)["difference"], found)
        expected = constraint_distance(
            y, pred, constraint=constraint, sensitive_features=s, sample_weight=w
        )
        assert found[0] == pytest.approx(expected, abs=1e-12)
        assert np.ptp(found) > 0.01

    def test_of_two_labels_changes_with_the_positive_one_as_the_rates_do(self):
        y, pred, s, _ = make_decisions()

        def distance(rate, positive):
            return constraint_distance(
                y, pred, constraint=f"{rate}_parity", sensitive_features=s, pos_label=positive
            )

        for ours, theirs in (
            ("true_positive_rate", "true_negative_rate"),
            ("false_positive_rate", "false_negative_rate"),
            ("error_rate", "error_rate"),
        ):
            assert distance(ours, 1) == pytest.approx(distance(theirs, 0), abs=1e-12)
        assert distance("true_positive_rate", 1) != pytest.approx(
            distance("true_positive_rate", 0), abs=1e-3
        )

    def test_names_a_group_without_rows_to_compare(self):
        y, pred, s = np.array([1, 1, 0, 0, 0, 1, 1, 0]), np.array([1, 0] * 4), list("aaabbccc")
        for constraint, behind in (
            ("false_negative_rate_parity", r"false negative rate of label 1 .*, 0 with it"),
            ("true_negative_rate_parity", None),
            ("error_rate_parity", None),
        ):
            distance = partial(constraint_distance, constraint=constraint, sensitive_features=s)
            if behind is None:
                assert distance(y, pred) >= 0.0
                continue
            with pytest.warns(FairnessWarning, match=behind) as caught:
                assert distance(y, pred) == pytest.approx(0.0)
            assert caught[0].filename == __file__
        weight = np.array([1.0, 1, 1, 0, 0, 1, 1, 1])
        with pytest.warns(FairnessWarning, match=r"error rate in group 'b' \(2 rows, weight 0\)"):
            constraint_distance(
                y, pred, constraint="error_rate_parity", sensitive_features=s, sample_weight=weight
            )
        with pytest.warns(FairnessWarning, match=r"error rate in group 'b' \(2 rows, weight 0\)"):
            report = fairness_report(y, pred, sensitive_features=s, sample_weight=weight, n_boot=0)
        assert report.by_group["error"].isna().tolist() == [False, True, False]

    def test_refuses_what_is_no_constraint(self):
        for call in (constraint_distance, fairness_report):
            with pytest.raises(ValueError, match=r"Did you mean 'error_rate_parity'\?.*'equalized"):
                call([0, 1], [0, 1], constraint="error_rates_parity", sensitive_features=[0, 1])


class TestReport:
    @pytest.mark.parametrize("constraint", TABLE)
    def test_states_the_distance_that_is_asked_for(self, constraint):
        y, pred, s, w = make_decisions(k=3)
        given = {"sensitive_features": s, "sample_weight": w}
        report = fairness_report(
            y, pred, constraint=constraint, n_boot=200, random_state=0, **given
        )
        plain = fairness_report(y, pred, n_boot=200, random_state=0, **given)
        row = report.headline.loc[metric_of(constraint)]
        distance = constraint_distance(y, pred, constraint=constraint, **given)
        assert row["value"] == pytest.approx(distance, abs=1e-12)
        assert 0.0 <= row["low"] < row["value"] < row["high"]
        assert len(report.headline) == 4 + (constraint not in STATED)
        assert report.headline[:4].equals(plain.headline)

    def test_has_the_error_rate_of_each_group_and_how_many_rows_are_behind_it(self):
        y, pred, s, _ = make_decisions(k=3)
        report = fairness_report(y, pred, sensitive_features=s, n_boot=0)
        expected = [np.mean((y != pred)[s == g]) for g in range(3)]
        np.testing.assert_allclose(report.by_group["error"], expected, rtol=1e-12)
        assert report.support["error"].tolist() == np.bincount(s).tolist()


class TestSolvers:
    @pytest.mark.parametrize("solver", ["fine_tune", "closed_form", "plug_in"])
    @pytest.mark.parametrize("pair", SAME)
    @pytest.mark.some(2)
    def test_two_rates_that_add_up_to_1_give_the_same_head(self, pair, solver):
        X, y, s = make_biased_classification(600, disparity=0.6, random_state=0)
        given = {
            "solver": solver,
            "importance": "covariance",
            "rank": 1 if solver != "plug_in" else 3,
        }
        first, second, other = (
            FairLowRankHeadClassifier(
                constraint=constraint, fairness_weight=0.8, random_state=0, **given
            )
            .fit(X, y, sensitive_features=s)
            .predict_proba(X)
            for constraint in (*pair, "demographic_parity")
        )
        # The rule's search ends at a relative improvement of 1e-13, from where its steps lead.
        np.testing.assert_allclose(first, second, atol=1e-3 if solver == "plug_in" else 1e-5)
        assert np.abs(first - other).max() > 0.02

    @pytest.mark.parametrize("sizes", SIZES)
    @pytest.mark.parametrize("k", [2, 3])
    def test_the_rule_of_weight_1_errs_alike_by_its_own_probabilities(self, k, sizes):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(3000, 1))
        group = np.array(SIZES[sizes]) * softmax(x * [-0.5, 0.5], axis=1)
        sure = np.array([0.5, 2.0])[:, None] * rng.normal(size=(3000, 1, k))
        cells = softmax(sure, axis=2) * (group / group.sum(axis=1, keepdims=True))[:, :, None]
        p = torch.from_numpy(cells.transpose(0, 2, 1).reshape(3000, -1))
        w, rule = torch.from_numpy(rng.exponential(size=3000)), parity("error_rate_parity", k)
        multipliers, count = solve_multipliers(
            p, w, rule, n_groups=2, removed=np.array([0.0, 0.5, 1.0])
        )
        apart, right = [], []
        for each in multipliers:
            scores = p @ cell_scores(rule, each, count).flatten(0, 1)
            decided = torch.softmax(scores / 0.003, dim=1)  # points of equal scores split
            mass = (p * w[:, None]).T @ decided
            rates = rule.rates(mass.reshape(k, 2, k), count)
            apart.append(float(rates[0, 0] - rates[0, 1]))
            right.append(float((p.reshape(3000, k, 2).sum(dim=2) * decided).sum(dim=1) @ w))
        assert apart[0] > 0.15
        np.testing.assert_allclose(apart, [apart[0], 0.5 * apart[0], 0.0], atol=0.005)
        # The price: it errs more, and as the theorem says ever faster.
        assert right[0] > right[1] > right[2]
        assert right[0] - right[1] < right[1] - right[2]

    def test_a_path_measures_errors_and_lessens_their_difference(self):
        rng = np.random.default_rng(0)
        s = np.arange(4000) % 2
        X = rng.normal(size=(4000, 5)) + s[:, None] * [0, 0, 0, 0, 3.0]
        y = (X[:, 0] + np.where(s == 1, 2.0, 0.3) * rng.normal(size=4000) > 0).astype(int)
        clf = FairLowRankHeadClassifier(constraint="error_rate_parity", random_state=0)
        path = fairness_path(
            clf,
            X,
            y,
            sensitive_features=s,
            weights=3,
            solvers=["plug_in", "fine_tune"],
            thresholds=1,
            held_out=(X, y, s),
            n_boot=20,
        )
        for row, one in zip(path.table.to_dict("records"), path.classifiers, strict=True):
            expected = parity_distance(y, one.predict(X), s, "error_rate_parity", 2)
            assert row["difference"] == pytest.approx(expected, abs=1e-12)
        first, last = path.table[:3], path.table[3:]
        for points in (first, last):
            assert points["difference"].iloc[0] > 0.2
            assert points["difference"].iloc[2] < 0.6 * points["difference"].iloc[0]


MADE_UP = "false_alarm_parity"


@pytest.fixture
def made_up(monkeypatch):
    """A constraint that is not in the table: who is wrongly accepted, of all, and who is found."""
    monkeypatch.setitem(
        RATES, "alarms", Rate("false alarm rate", "alarms", ((0, 1), (0, 0)), of=(1, 1))
    )
    row = Constraint("false alarm parity", ("alarms", "tpr"), "false alarm distance", "made up")
    monkeypatch.setitem(TABLE, MADE_UP, row)
    monkeypatch.setitem(
        FairLowRankHeadClassifier._parameter_constraints, "constraint", [StrOptions({MADE_UP})]
    )


class TestARowMore:
    def made(self, k, n_groups=2, n=60):
        rng = np.random.default_rng(0)
        y, s = (torch.from_numpy(rng.integers(m, size=n)) for m in (k, n_groups))
        return torch.from_numpy(rng.dirichlet(np.ones(k), size=n)), y, s, torch.ones(n).double()

    def moments(self, k):
        """As the tests' definitions have them; see oracles.parity_moments."""

        def alarm(c, true, predicted):
            return predicted == c and true != c

        def found(c, true, predicted):
            return predicted == c

        classes = [1] if k == 2 else range(k)
        return [[(partial(alarm, c), set(range(k))), (partial(found, c), {c})] for c in classes]

    @pytest.mark.parametrize("k", [2, 3])
    def test_is_penalized(self, made_up, k):
        p, y, s, w = self.made(k)
        mass, count = mass_table(p, TensorRows(p, y, w, s), n_groups=2)
        squares, distances = 0.0, []
        for of_class in self.moments(k):
            distances.append(0.0)
            for counted, event in of_class:
                pooled = group_rate(p, y, s, w, counted, event, {0, 1})
                rates = [group_rate(p, y, s, w, counted, event, {g}) for g in (0, 1)]
                squares += sum(float((rate - pooled) ** 2) for rate in rates)
                distances[-1] += float(abs(rates[0] - rates[1]))
        rule = parity(MADE_UP, k)
        assert ParityPenalty(rule, count, 3.0).value(mass).item() == pytest.approx(3 * squares)
        assert rule.distance(rule.rates(mass, count)).item() == pytest.approx(max(distances))
        assert largest_distance(MADE_UP) == 2

    @pytest.mark.parametrize("k", [2, 3])
    def test_is_what_the_rule_brings(self, made_up, k):
        rng = np.random.default_rng(0)
        towards = rng.normal(size=(2000, 1, 1))
        logits = rng.normal(size=(2000, k, 1)) + towards * np.linspace(-1, 1, k)[:, None]
        group = softmax(1.5 * towards * [-1.0, 1.0], axis=2)
        p = torch.from_numpy((softmax(logits, axis=1) * group).reshape(2000, -1))
        rule, w = parity(MADE_UP, k), torch.ones(2000).double()
        multipliers, count = solve_multipliers(p, w, rule, n_groups=2, removed=np.array([0.0, 1.0]))
        distances = []
        for each in multipliers:
            decided = torch.softmax(p @ cell_scores(rule, each, count).flatten(0, 1) / 0.003, dim=1)
            rates = rule.rates((p.T @ decided).reshape(k, 2, k), count)
            distances.append(float(rule.distance(rates)))
        assert distances[0] > 0.2
        assert distances[1] < 0.02

    def test_is_measured_scored_and_shown(self, made_up):
        y, pred, s, _ = make_decisions()
        given = {"sensitive_features": s}

        def rate(counts, rows):
            return np.ptp([np.mean(counts[rows & (s == g)]) for g in range(3)])

        expected = rate((pred == 1) & (y == 0), y >= 0) + rate(pred == 1, y == 1)
        assert constraint_distance(y, pred, constraint=MADE_UP, **given) == pytest.approx(expected)
        report = fairness_report(y, pred, constraint=MADE_UP, n_boot=50, random_state=0, **given)
        row = report.headline.loc[f"{MADE_UP}_distance"]
        assert row["value"] == pytest.approx(expected)
        assert 0.0 < row["low"] < row["high"]
        assert f"{MADE_UP}_distance" in str(report)
        display = FairnessTradeoffDisplay.from_predictions(
            y, {"one": pred}, metric=f"{MADE_UP}_distance", **given
        )
        assert display.disparity == pytest.approx([expected])
        assert display.ax_.get_ylabel() == "false alarm distance"
        rates = {"alarms": [0.1, 0.3], "tpr": [0.5, 0.6]}
        drawn = GroupRatesDisplay(groups=["a", "b"], counts=[50, 50], rates=rates).plot()
        legend = [text.get_text() for text in drawn.ax_.get_legend().get_texts()]
        assert "false alarm rate" in legend
        model = LogisticRegression().fit(np.c_[pred, s], y)
        scorer = fairness_scorer(f"{MADE_UP}_distance")
        with sklearn.config_context(enable_metadata_routing=True):
            scored = scorer(model, np.c_[pred, s], y, **given)
        decided = model.predict(np.c_[pred, s])
        assert scored == -constraint_distance(y, decided, constraint=MADE_UP, **given)

    def test_goes_through_fit_bound_path_and_report(self, made_up):
        X, y, s = make_biased_classification(1200, disparity=0.6, random_state=0)
        clf = FairLowRankHeadClassifier(constraint=MADE_UP, random_state=0)
        path = fairness_path(
            clf,
            X,
            y,
            sensitive_features=s,
            weights=3,
            solvers=["plug_in", "fine_tune"],
            thresholds=1,
            n_boot=20,
        )
        for solver, points in path.table.groupby("solver"):
            difference = points["difference"].to_numpy()
            assert difference[-1] < 0.7 * difference[0], solver
        display = FairnessTradeoffDisplay.from_path(path)
        assert display.ax_.get_ylabel() == "false alarm distance\n(made up)"
        bounded = clf.set_params(solver="plug_in", difference_bound=0.3, cv=0.3).fit(
            X, y, sensitive_features=s
        )
        report = model_report(bounded, X, y, sensitive_features=s, n_boot=20, random_state=0)
        assert "false alarm distance" in report.to_html()
        with pytest.raises(ValueError, match="closed form"):
            clf.set_params(solver="closed_form").fit(X, y, sensitive_features=s)
