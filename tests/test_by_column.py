"""Each sensitive column by itself: its rates are those of that column, and so is all that follows.

What it does not bring is stated, too: parity between the intersections of the columns.
"""

import re

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    false_negative_rate,
    false_positive_rate,
    selection_rate,
    true_negative_rate,
    true_positive_rate,
)
from oracles import PARITIES, parity_distance, randomized_optimum, worst_optimum
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import zero_one_loss
from sklearn.model_selection import GridSearchCV

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessTradeoffDisplay,
    FairnessWarning,
    GroupRatesDisplay,
    fairness_path,
    load,
    model_report,
)
from skfairft.metrics import (
    constraint_distance,
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    fairness_scorer,
    worst_group_error,
)
from skfairft.parity.checks import check_judged, refuse_alone
from skfairft.parity.constraints import parity
from skfairft.parity.counts import distances_of
from skfairft.parity.demands import Demand
from skfairft.parity.judge import JudgedRows
from skfairft.parity.levels import levels_asked
from skfairft.parity.limits import distance_limits, rows_needed
from skfairft.parity.penalty import ParityPenalty
from skfairft.parity.table import RATES, TABLE
from skfairft.rows.tensor_rows import TensorRows
from skfairft.saving.record import classifier_of, written_classifier
from skfairft.solvers.dual import solve_multipliers
from skfairft.solvers.maximin import MaximinDual
from skfairft.solvers.rule import cell_scores
from skfairft.summary import summarize

DP, EO = "demographic_parity", "equalized_odds"
FAIRLEARN = {
    "selection_rate": selection_rate,
    "tpr": true_positive_rate,
    "fpr": false_positive_rate,
    "fnr": false_negative_rate,
    "tnr": true_negative_rate,
    "error": zero_one_loss,
}
# Groups 0 to 4 of sex and race; of the six pairs one does not occur.
PAIRS = [("f", "x"), ("f", "y"), ("f", "z"), ("m", "x"), ("m", "z")]
UNIONS = [[{0, 1, 2}, {3, 4}], [{0, 3}, {1}, {2, 4}]]


def groups_of(pairs=PAIRS):
    out = np.empty(len(pairs), dtype=object)
    out[:] = pairs
    return out


def levels_of(pairs=PAIRS, names=("sex", "race")):
    frame = pd.DataFrame(pairs, columns=names)
    return levels_asked("columns", groups_of(pairs), frame)


def make_decisions(seed=0, n=900, k=2):
    """Labels, decisions that err by sex and race, two columns, weights."""
    rng = np.random.default_rng(seed)
    s = rng.choice(5, size=n, p=[0.3, 0.2, 0.1, 0.25, 0.15])
    y = rng.choice(k, size=n)
    wrong = rng.random(n) < 0.05 + 0.1 * s
    pred = np.where(wrong, (y + 1 + (s == 2)) % k, y)
    return y, pred, pd.DataFrame(groups_of()[s].tolist(), columns=["sex", "race"]), rng.random(n)


def make_rows(seed=0, n=2000):
    """Features that tell of both columns, and labels that differ by both."""
    rng = np.random.default_rng(seed)
    s = rng.choice(5, size=n, p=[0.3, 0.2, 0.1, 0.25, 0.15])
    frame = pd.DataFrame(groups_of()[s].tolist(), columns=["sex", "race"])
    X = rng.normal(size=(n, 12))
    X[:, 0] += 0.9 * (frame["sex"] == "m")
    X[:, 1] += 0.9 * (frame["race"] == "x")
    X[:, 2] += 0.9 * ((frame["sex"] == "m") ^ (frame["race"] == "x"))
    y = (X[:, :6].sum(axis=1) + rng.normal(size=n) > 1.2).astype(int)
    return X, y, frame


def gerrymandered(n=4000, seed=0):
    """Features and labels of which those of one pair of columns agree, and of no column by itself.

    Sex and race are drawn alike; the label is likely where exactly one of them is "1".
    """
    rng = np.random.default_rng(seed)
    sex, race = rng.integers(2, size=(2, n))
    likely = sex ^ race
    X = rng.normal(size=(n, 4))
    X[:, 0] += 2.0 * likely
    y = (rng.random(n) < np.where(likely, 0.8, 0.2)).astype(int)
    return X, y, pd.DataFrame({"sex": sex, "race": race})


class TestDistances:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("constraint", PARITIES)
    def test_are_the_largest_of_fairlearns_on_each_column_alone(self, constraint, weighted):
        y, pred, s, w = make_decisions()
        w = w if weighted else None
        found = constraint_distance(
            y,
            pred,
            constraint=constraint,
            sensitive_features=s,
            sample_weight=w,
            groups="columns",
        )

        def alone(column):
            total = 0.0
            for name in TABLE[constraint].rates:
                given = {} if w is None else {"sample_params": {"sample_weight": w}}
                frame = MetricFrame(
                    metrics=FAIRLEARN[name],
                    y_true=y,
                    y_pred=pred,
                    sensitive_features=column,
                    **given,
                )
                total += frame.difference(method="between_groups")
            return total

        each = [alone(s[name]) for name in s]
        assert found == pytest.approx(max(each), rel=1e-10)
        crossed = constraint_distance(
            y, pred, constraint=constraint, sensitive_features=s, sample_weight=w
        )
        assert crossed > found + 0.01  # control: another demand

    @pytest.mark.parametrize("k", [2, 3])
    @pytest.mark.parametrize("constraint", TABLE)
    def test_are_the_largest_of_those_of_each_column_alone(self, constraint, k):
        y, pred, s, w = make_decisions(k=k)
        given = {"constraint": constraint, "sample_weight": w}
        found = constraint_distance(y, pred, sensitive_features=s, groups="columns", **given)
        each = [constraint_distance(y, pred, sensitive_features=s[name], **given) for name in s]
        assert found == pytest.approx(max(each), rel=1e-10)
        assert min(each) < max(each) - 1e-3
        turned = s[["race", "sex"]].to_numpy()
        again = constraint_distance(y, pred, sensitive_features=turned, groups="columns", **given)
        assert again == pytest.approx(found, rel=1e-12)
        if w is None:
            oracle = [parity_distance(y, pred, s[name].to_numpy(), constraint, k) for name in s]
            assert found == pytest.approx(max(oracle))

    def test_the_named_ones_take_groups_too(self):
        y, pred, s, _ = make_decisions()
        for metric, settings in (
            (demographic_parity_distance, {}),
            (equalized_odds_distance, {}),
            (worst_group_error, {}),
            (worst_group_error, {"over": "groups"}),
        ):
            each = [metric(y, pred, sensitive_features=s[name], **settings) for name in s]
            found = metric(y, pred, sensitive_features=s, groups="columns", **settings)
            assert found == pytest.approx(max(each))

    def test_of_one_column_are_those_of_its_groups(self):
        y, pred, s, w = make_decisions()
        one = s["race"]
        same = pd.DataFrame({"race": one, "planet": "earth"})  # a column of which nothing differs
        for constraint in TABLE:
            given = {"constraint": constraint, "sample_weight": w}
            plain = constraint_distance(y, pred, sensitive_features=one, **given)
            for frame in (one, one.to_frame()):
                found = constraint_distance(
                    y, pred, sensitive_features=frame, groups="columns", **given
                )
                assert found == plain
            found = constraint_distance(y, pred, sensitive_features=same, groups="columns", **given)
            assert found == pytest.approx(plain, rel=1e-12)

    def test_an_unknown_word_is_refused(self):
        y, pred, s, _ = make_decisions()
        for call in (demographic_parity_distance, fairness_report):
            with pytest.raises(ValueError, match="groups='column'; expected one of"):
                call(y, pred, sensitive_features=s["sex"], groups="column")

    @pytest.mark.parametrize("named", [True, False])
    def test_a_rate_that_a_level_lacks_is_named_by_it(self, named):
        y, pred, s, _ = make_decisions()
        y = np.where(s["race"] == "z", 0, y)
        called = "race" if named else "column 1"
        with pytest.warns(FairnessWarning, match=f"of label 1 in group {called}='z'") as caught:
            found = equalized_odds_distance(
                y, pred, sensitive_features=s if named else s.to_numpy(), groups="columns"
            )
        assert len(caught) == 1
        with pytest.warns(FairnessWarning, match="in group 'z'"):
            alone = equalized_odds_distance(y, pred, sensitive_features=s["race"])
        other = equalized_odds_distance(y, pred, sensitive_features=s["sex"])
        assert found == pytest.approx(max(alone, other))

    def test_levels_of_ordered_categories_keep_their_order(self):
        y, pred, s, _ = make_decisions()
        order = ["z", "x", "y"]
        race = pd.Categorical(s["race"], order, ordered=True)
        report = fairness_report(y, pred, sensitive_features=s.assign(race=race), n_boot=0)
        assert report.of_column["race"].by_group.index.tolist() == order
        plain = fairness_report(y, pred, sensitive_features=s, n_boot=0)
        assert plain.of_column["race"].by_group.index.tolist() == ["x", "y", "z"]

    @pytest.mark.parametrize("chunks", [pytest.param(100, marks=pytest.mark.slow), 333])
    def test_of_columns_of_dask_are_those_of_the_same_rows_here(self, chunks):
        dd = pytest.importorskip("dask.dataframe")
        y, pred, s, w = make_decisions()
        frame = dd.from_pandas(s.assign(y=y, pred=pred, w=w), chunksize=chunks)
        columns = frame["y"], frame["pred"]
        given = {"sensitive_features": frame[["sex", "race"]], "sample_weight": frame["w"]}
        here = {"sensitive_features": s, "sample_weight": w}
        for constraint in TABLE:
            asked = {"constraint": constraint, "groups": "columns"}
            found = constraint_distance(*columns, **given, **asked)
            assert found == pytest.approx(constraint_distance(y, pred, **here, **asked))
        report = fairness_report(*columns, **given, groups="columns", n_boot=0)
        expected = fairness_report(y, pred, **here, groups="columns", n_boot=0)
        pd.testing.assert_frame_equal(report.by_column, expected.by_column)
        pd.testing.assert_frame_equal(report.headline, expected.headline)

    def test_are_scored(self):
        X, y, s = make_rows()
        scorer = fairness_scorer("equalized_odds_distance", groups="columns")
        model = LogisticRegression().fit(X, y)
        with sklearn.config_context(enable_metadata_routing=True):
            found = scorer(model, X, y, sensitive_features=s)
        expected = equalized_odds_distance(
            y, model.predict(X), sensitive_features=s, groups="columns"
        )
        assert -found == pytest.approx(expected)
        with pytest.raises(ValueError, match="weighted_f1_error is one of all rows"):
            fairness_scorer("weighted_f1_error", groups="columns")
        with pytest.raises(ValueError, match="expected one of"):
            fairness_scorer("equalized_odds_distance", groups="sex")


class TestMoments:
    @pytest.mark.parametrize("k", [2, 3, 5])
    @pytest.mark.parametrize("rates", [*({row.rates for row in TABLE.values()}), tuple(RATES)])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_spending_is_the_transpose_of_summing(self, rates, k, weighted):
        from skfairft.parity.moments import moments

        rng = np.random.default_rng(0)
        weight = rng.uniform(0.5, 5.0, size=k) if weighted else None
        rule = moments(rates, k, class_weight=weight, levels=levels_of())
        mass = torch.from_numpy(rng.normal(size=(k, 5, k)))
        sums = rule.sums(mass)
        prices = torch.from_numpy(rng.normal(size=sums.shape))
        found = float((rule.spend(prices) * mass).sum())
        assert found == pytest.approx(float((prices * sums).sum()), rel=1e-9)
        assert sums.shape == rule.present(5).shape == (2 * len(rule.events), 3)

    @pytest.mark.parametrize("k", [2, 3])
    @pytest.mark.parametrize("constraint", TABLE)
    def test_rates_are_those_of_the_unions(self, constraint, k):
        rng = np.random.default_rng(0)
        mass = torch.from_numpy(rng.exponential(size=(k, 5, k)))
        count = mass.sum(dim=2)
        rule, plain = parity(constraint, k, levels=levels_of()), parity(constraint, k)
        found = rule.rates(mass, count)
        for m in range(len(found)):
            event, column = rule.origin(m)
            for place, union in enumerate(UNIONS[column]):
                own = sorted(union)
                merged = mass[:, own].sum(dim=1, keepdim=True)
                alone = plain.rates(merged, merged.sum(dim=2))[event, 0]
                torch.testing.assert_close(found[m, place], alone)
                assert rule.name(m, place, PAIRS) == (
                    f"sex={'fm'[place]!r}" if column == 0 else f"race={'xyz'[place]!r}"
                )
        lacking = ~rule.present(5)
        assert lacking.any()
        assert found[lacking].isnan().all()
        assert not found[~lacking].isnan().any()

    @pytest.mark.parametrize("form", ["squared_gaps", "distance", "worst"])
    @pytest.mark.parametrize("k", [2, 3])
    def test_the_penalty_is_that_of_the_columns_and_its_slope_its_derivative(self, form, k):
        rng = np.random.default_rng(0)
        mass = torch.from_numpy(rng.uniform(0.2, 1.0, size=(k, 5, k))).requires_grad_()
        count = mass.detach().sum(dim=2)
        name = "worst_group" if form == "worst" else EO
        penalty = ParityPenalty(parity(name, k, levels=levels_of()), count, 2.0, form)
        value = penalty.value(mass)
        (expected,) = torch.autograd.grad(value, mass)
        found, slope = penalty.slope(mass)
        torch.testing.assert_close(found, value.detach())
        torch.testing.assert_close(slope, expected)
        each = []
        for unions in UNIONS:
            merged, counts = (
                torch.stack([table[:, sorted(u)].sum(dim=1) for u in unions], dim=1)
                for table in (mass.detach(), count)
            )
            each.append(float(ParityPenalty(parity(name, k), counts, 2.0, form).value(merged)))
        if form == "squared_gaps":
            assert float(found) == pytest.approx(sum(each))
        elif form == "distance":
            assert float(found) == pytest.approx(max(each))
        else:  # smoothed over the cells of both
            assert max(each) <= float(found) <= max(each) + 2.0 * 0.02 * np.log(2.0)


def make_points(k, n=8, seed=2):
    """Points with exact probabilities of label and group (k, 5), and weights."""
    rng = np.random.default_rng(seed)
    group = rng.dirichlet(np.full(5, 0.3), size=n)
    # Labels go with the pair, and are surer of one sex than of the other.
    side, surer = np.array([1.0, -1.0, -0.2, -1.0, 1.0]), np.array([3.0, 3.0, 3.0, 0.8, 0.8])
    logits = side[:, None] * np.linspace(-1.0, 1.0, k) + rng.normal(size=(n, 1, k))
    cells = softmax(surer[:, None] * logits, axis=2) * group[:, :, None]
    p = cells.transpose(0, 2, 1).reshape(n, -1)
    return torch.from_numpy(p), torch.from_numpy(rng.uniform(1.0, 3.0, size=n))


class TestPlugIn:
    @pytest.mark.parametrize("k", [2, 3])
    @pytest.mark.parametrize("constraint", [DP, EO, "error_rate_parity"])
    def test_is_the_optimum_of_the_linear_program(self, constraint, k):
        p, w = make_points(k)
        rule = parity(constraint, k, levels=levels_of())
        removed = np.array([0.0, 0.5, 1.0])
        multipliers, count = solve_multipliers(p, w, rule, n_groups=5, removed=removed)

        def soft(one):
            scores = cell_scores(rule, one, count)
            return torch.softmax(p @ scores.flatten(0, 1) / 0.003, dim=1), scores

        def spread_of(decisions):
            mass = ((p * w[:, None]).T @ decisions).reshape(k, 5, k)
            rates = rule.rates(mass, count).numpy()
            return (np.nanmax(rates, axis=1) - np.nanmin(rates, axis=1)).max()

        before, share = spread_of(soft(multipliers[0])[0]), w / w.sum()
        assert before > 0.1
        for r, one in zip(removed[1:], multipliers[1:], strict=True):
            bound = (1.0 - r) * before
            best = randomized_optimum(p, w, constraint, k, 5, bound, UNIONS)
            decisions, scores = soft(one)
            dual = share @ (p @ scores.flatten(0, 1)).amax(dim=1) + bound * one.clamp_min(0.0).sum()
            assert best - 1e-9 <= dual <= best + 0.004
            accuracy = float(share @ (p.reshape(len(p), k, 5).sum(dim=2) * decisions).sum(dim=1))
            assert accuracy == pytest.approx(best, abs=0.004)
            assert spread_of(decisions) <= bound + 0.004
            assert (one[~rule.present(5)] == 0.0).all()
        # Parity of the intersections is parity of the columns, and costs as much, or more.
        crossed = randomized_optimum(p, w, constraint, k, 5, 0.0)
        assert crossed <= best + 1e-9
        assert constraint != DP or crossed < best - 0.01

    @pytest.mark.parametrize("constraint", ["worst_group", "worst_error_rate"])
    @pytest.mark.parametrize("weight", [0.5, 1.0])
    def test_the_worst_level_is_as_good_as_can_be(self, constraint, weight):
        p, w = make_points(2, n=400)
        rule = parity(constraint, 2, levels=levels_of())
        found = MaximinDual(p, w, rule, n_groups=5).worst(weight)
        best, least = worst_optimum(p, w, constraint, 2, 5, weight, UNIONS)
        reached = (1.0 - weight) * found.accuracy - weight * np.nanmax(found.rates)
        assert best - 0.02 < reached <= best + 1e-9
        assert found.limit == pytest.approx(least, abs=3e-4)
        assert np.isnan(found.rates[~rule.present(5)]).all()
        _, crossed = worst_optimum(p, w, constraint, 2, 5, weight)
        assert crossed >= least - 1e-9  # a harder demand
        assert constraint != "worst_group" or crossed > least + 0.01

    def test_names_the_levels_that_bind(self):
        X, y, s = make_rows()
        clf = FairLowRankHeadClassifier(
            constraint="worst_group", groups="columns", solver="plug_in", random_state=0
        ).fit(X, y, sensitive_features=s)
        names = {"sex='f'", "sex='m'", "race='x'", "race='y'", "race='z'"}
        assert {of for _, of, _ in clf.worst_group_.binding} <= names
        label, of = clf.worst_group_.smallest
        column, level = re.fullmatch(r"(\w+)='(\w)'", of).groups()
        assert clf.worst_group_.rows == ((s[column] == level) & (y == label)).sum()
        smallest = min(((s[c] == v) & (y == k)).sum() for c in s for v in set(s[c]) for k in (0, 1))
        assert clf.worst_group_.rows == smallest
        assert of in str(summarize(clf))


class TestSolvers:
    @pytest.mark.filterwarnings("ignore::skfairft.FairnessWarning")
    @pytest.mark.parametrize("constraint", [DP, EO])
    def test_the_closed_form_makes_the_mean_scores_of_levels_equal(self, constraint):
        X, y, s = make_rows()
        scores = {}
        for groups in ("columns", "intersections"):
            clf = FairLowRankHeadClassifier(
                constraint=constraint,
                fairness_weight=1.0,
                groups=groups,
                solver="closed_form",
                importance="covariance",
            )
            scores[groups] = clf.fit(X, y, sensitive_features=s).decision_function(X)
        events = [np.ones(len(y), bool)] if constraint == DP else [y == 0, y == 1]

        def apart(by, of):
            return max(
                np.ptp(pd.Series(of[e]).groupby([s[c].to_numpy()[e] for c in by]).mean())
                for e in events
            )

        for name in s:
            assert apart([name], scores["columns"]) < 1e-9
        assert apart(["sex", "race"], scores["columns"]) > 0.1  # those are not, nor asked for
        assert apart(["sex", "race"], scores["intersections"]) < 1e-9

    @pytest.mark.parametrize("solver", ["fine_tune", "plug_in"])
    @pytest.mark.parametrize("constraint", [DP, EO])
    @pytest.mark.some(2)
    def test_take_the_distance_by_column_away(self, solver, constraint):
        X, y, s = make_rows(n=3000)

        def distance(weight):
            clf = FairLowRankHeadClassifier(
                constraint=constraint,
                fairness_weight=weight,
                groups="columns",
                solver=solver,
                random_state=0,
            ).fit(X, y, sensitive_features=s)
            if solver == "fine_tune":  # which makes mean probabilities equal
                p = clf.predict_proba(X)[:, 1]
                of = [y >= 0] if constraint == DP else [y == 1, y == 0]
                return max(
                    sum(np.ptp(pd.Series(p[e]).groupby(s[c].to_numpy()[e]).mean()) for e in of)
                    for c in s
                )
            return constraint_distance(
                y, clf.predict(X), constraint=constraint, sensitive_features=s, groups="columns"
            )

        assert distance(0.0) > 0.12
        assert distance(1.0) < 0.4 * distance(0.0)

    @pytest.mark.parametrize("solver", ["fine_tune", "plug_in", "closed_form"])
    def test_of_one_column_are_those_of_its_groups(self, solver):
        X, y, s = make_rows(n=600)
        heads = [
            FairLowRankHeadClassifier(
                constraint=DP, fairness_weight=0.8, groups=groups, solver=solver, random_state=0
            )
            .fit(X, y, sensitive_features=s["race"])
            .head_.state_dict()
            for groups in ("columns", "intersections")
        ]
        for name, values in heads[0].items():
            assert torch.equal(values, heads[1][name])

    @pytest.mark.filterwarnings("ignore:Some groups are too thin:skfairft.FairnessWarning")
    def test_a_pair_may_lack_a_class_that_its_levels_have(self):
        X, y, s = make_rows()
        y = np.where((s["sex"] == "f") & (s["race"] == "z"), 0, y)
        clf = FairLowRankHeadClassifier(
            constraint=EO, fairness_weight=1.0, solver="plug_in", random_state=0
        )
        with pytest.raises(ValueError, match=r"\('f', 'z'\) has no row of class 1.*columns"):
            clf.fit(X, y, sensitive_features=s)
        clf.set_params(groups="columns").fit(X, y, sensitive_features=s)
        found = equalized_odds_distance(y, clf.predict(X), sensitive_features=s, groups="columns")
        assert found < 0.15
        bounded = clf.set_params(fairness_weight=None, difference_bound=0.3)
        assert bounded.fit(X, y, sensitive_features=s).bound_met_

    @pytest.mark.filterwarnings("ignore:Some groups are too thin:skfairft.FairnessWarning")
    def test_a_level_that_lacks_a_class_is_named(self):
        X, y, s = make_rows()
        y = np.where(s["race"] == "z", 0, y)
        clf = FairLowRankHeadClassifier(
            constraint=EO, fairness_weight=1.0, solver="plug_in", groups="columns"
        )
        with pytest.raises(ValueError, match="race='z' has no row of class 1"):
            clf.fit(X, y, sensitive_features=s)
        with pytest.raises(ValueError, match="column 1='z' has no row of class 1"):
            clf.fit(X, y, sensitive_features=s.to_numpy())

    def test_other_words_are_refused(self):
        X, y, s = make_rows(n=100)
        with pytest.raises(ValueError, match="'groups' parameter"):
            FairLowRankHeadClassifier(groups="both").fit(X, y, sensitive_features=s)


class TestJudged:
    @pytest.mark.filterwarnings("ignore::skfairft.FairnessWarning")
    @pytest.mark.parametrize("confidence", [pytest.param(None, marks=pytest.mark.slow), 0.9])
    def test_a_bound_is_one_on_the_distance_by_column(self, confidence):
        X, y, s = make_rows(n=3000)
        other, truth, columns = make_rows(seed=1, n=30000)
        reached, crossed = {}, {}
        for groups in ("columns", "intersections"):
            clf = FairLowRankHeadClassifier(
                constraint=DP,
                difference_bound=0.1,
                confidence=confidence,
                groups=groups,
                solver="plug_in",
                random_state=0,
            )
            clf.fit(X, y, sensitive_features=s)
            assert groups == "intersections" or clf.bound_met_
            pred = clf.predict(other)
            reached[groups], crossed[groups] = (
                demographic_parity_distance(truth, pred, sensitive_features=columns, groups=each)
                for each in ("columns", "intersections")
            )
            weight = clf.fairness_weight_
        assert reached["columns"] < 0.13
        assert crossed["columns"] > reached["columns"] + 0.01
        assert weight > 0.0

    def test_a_path_is_of_the_distance_by_column(self):
        X, y, s = make_rows()
        clf = FairLowRankHeadClassifier(
            constraint=EO, groups="columns", solver="plug_in", random_state=0
        )
        path = fairness_path(clf, X, y, sensitive_features=s, weights=4, thresholds=1, n_boot=0)
        assert path.groups == "columns"
        rule, plain = parity(EO, 2, levels=path.levels), parity(EO, 2)
        mass = path.decisions.swapaxes(-3, -2)
        found = rule.distance(rule.rates(mass, mass.sum(axis=-1)))
        np.testing.assert_allclose(path.table["difference"], found, rtol=1e-12)
        np.testing.assert_allclose(path.table["equalized_odds_distance"], found, rtol=1e-12)
        crossed = plain.distance(plain.rates(mass, mass.sum(axis=-1)))
        assert (crossed > found).all()
        assert (path.limits(0.95) > path.table["difference"]).all()
        assert (path.limits(0.95) > path.limits(0.6)).all()
        best = path.classifiers[path.choose(0.2, confidence=0.8)]
        assert best.groups == "columns"
        assert "each sensitive column by itself" in repr(path)
        display = FairnessTradeoffDisplay.from_path(path)
        assert "each sensitive column by itself" in display.ax_.get_title()

    def test_held_out_rows_and_folds_are_judged_by_level(self):
        X, y, s = make_rows()
        clf = FairLowRankHeadClassifier(
            constraint="true_positive_rate_parity", groups="columns", solver="plug_in"
        )
        given = {"weights": 2, "thresholds": 1, "n_boot": 0}
        few = (s["race"] == "x") | (s["sex"] == "f") & (y == 0)  # of race "x" alone all is known
        few &= (s["sex"] == "f") | (y == 0)
        held_out = X[few], y[few], s[few]
        with pytest.raises(ValueError, match="in 1 of 2 levels of 'sex'"):
            fairness_path(clf, X, y, sensitive_features=s, held_out=held_out, **given)

    def test_refusals_and_warnings_name_levels(self):
        levels = levels_of()
        codes = np.array([0, 1, 2, 3, 3, 4])  # of all groups, but class 1 of race "x" alone
        y = np.array([1, 0, 0, 1, 0, 0])
        with pytest.raises(ValueError, match="in 1 of 3 levels of 'race', among 6 rows"):
            check_judged(
                Demand("true_positive_rate_parity", bound=0.1),
                *(y, codes),
                shape=(2, 5),
                levels=levels,
            )
        given = {"shape": (2, 5), "levels": levels}
        with pytest.raises(ValueError, match="in 1 of 3 levels of 'race', among 6 rows"):
            refuse_alone("true_positive_rate_parity", y, codes, np.ones(6), **given)
        refuse_alone(DP, y, codes, np.ones(6), **given)
        rows = TensorRows(torch.zeros(6, 1), torch.from_numpy(y), None, torch.from_numpy(codes))
        rule = parity("true_positive_rate_parity", 2, levels=levels)
        with pytest.warns(FairnessWarning, match=r"\[race='y', race='z'\] lack a class"):
            JudgedRows(rows, rule, groups_of()).warn_of_empty()
        some = rows.take(np.array([0, 2, 3, 4, 5]))
        with pytest.warns(FairnessWarning, match=r"None .* of the groups \[race='y'\]"):
            JudgedRows(some, parity(DP, 2, levels=levels), groups_of()).warn_of_empty()

    @pytest.mark.parametrize("constraint", [DP, EO, "worst_group"])
    def test_limits_cover(self, constraint):
        """True rates by pair; the true distance is that of the levels, at their true shares."""
        rng = np.random.default_rng(0)
        sizes = np.array([120, 80, 60, 100, 90])
        share = np.array([[0.6, 0.4], [0.5, 0.5], [0.7, 0.3], [0.4, 0.6], [0.5, 0.5]])
        positive = np.array([[0.2, 0.6], [0.3, 0.7], [0.2, 0.75], [0.35, 0.7], [0.3, 0.8]])
        rule = parity(constraint, 2, levels=levels_of())
        cells = share[:, :, None] * np.stack([1.0 - positive, positive], axis=2)
        p = (sizes[:, None, None] * cells / sizes.sum()).ravel()
        tables = rng.multinomial(sizes.sum(), p, size=600).reshape(-1, 5, 2, 2).astype(float)
        mass = p.reshape(5, 2, 2).swapaxes(-3, -2)
        true = float(rule.distance(rule.rates(mass, mass.sum(axis=-1))))
        for tuned in (False, True) if constraint == DP else (False,):
            found = distance_limits(
                rule,
                tables[:200] if tuned else tables,
                tables[:200] if tuned else tables,
                confidence=0.95,
                tuned=tuned,
            )
            assert np.mean(found.high >= true) > 0.93  # 0.95 less two standard errors of 600
            assert np.mean(found.low <= true) > 0.93
            # Control: they are not so wide that they say nothing.
            assert found.high.mean() < true + 0.35
            assert constraint == "worst_group" or (found.low > 0.0).any()
        wanted = rows_needed(rule, tables[0], tables[0], true + 0.2, n_rows=450)
        assert np.isfinite(wanted)
        assert wanted > 0


class TestGerrymandering:
    @pytest.mark.slow
    def test_parity_by_column_does_not_bring_parity_by_intersection(self):
        X, y, s = gerrymandered()
        given = {"constraint": DP, "difference_bound": 0.1, "solver": "plug_in", "random_state": 0}
        clf = FairLowRankHeadClassifier(groups="columns", **given).fit(X, y, sensitive_features=s)
        pred = clf.predict(X)
        assert clf.bound_met_
        assert demographic_parity_distance(y, pred, sensitive_features=s, groups="columns") < 0.1
        for name in s:  # so says fairlearn of each
            assert demographic_parity_difference(y, pred, sensitive_features=s[name]) < 0.1
        assert demographic_parity_distance(y, pred, sensitive_features=s) > 0.5
        # And the reports say so.
        report = model_report(clf, X, y, sensitive_features=s, n_boot=0)
        table = report.fairness.by_column["demographic_parity_distance"]
        assert table.index.tolist() == ["sex", "race", "intersections"]
        assert table[["sex", "race"]].max() < 0.1 < 0.5 < table["intersections"]
        (caveat,) = [each for each in report.caveats if each.topic == "Each column by itself"]
        assert caveat.found
        assert f"{table['intersections']:.3f}" in caveat.text
        page, card = report.to_html(), report.to_markdown()
        for text in (page, card):
            assert "The distances of each sensitive column by itself" in text
            assert f"{table['intersections']:.3f}" in text
            assert "demographic_parity of each column by itself" in text.replace("\\_", "_")
        # Control: asked of the intersections it is brought to them.
        other = FairLowRankHeadClassifier(**given).fit(X, y, sensitive_features=s)
        pred = other.predict(X)
        assert demographic_parity_distance(y, pred, sensitive_features=s) < 0.15
        report = model_report(other, X, y, sensitive_features=s, n_boot=0)
        assert "Each column by itself" not in [each.topic for each in report.caveats]
        assert report.fairness.by_column is not None
        clf.set_params(difference_bound=None)
        path = fairness_path(clf, X, y, sensitive_features=s, weights=2)
        with pytest.raises(ValueError, match="path has groups='columns'"):
            model_report(other, X, y, sensitive_features=s, path=path)


class TestReport:
    @pytest.mark.parametrize("k", [2, 3])
    def test_of_a_column_is_that_of_the_column_alone(self, k):
        y, pred, s, w = make_decisions(k=k)
        given = {"sample_weight": w, "n_boot": 0, "constraint": "error_rate_parity"}
        report = fairness_report(y, pred, sensitive_features=s, groups="columns", **given)
        for name in s:
            alone = fairness_report(y, pred, sensitive_features=s[name], **given)
            own = report.of_column[name]
            for table in ("by_group", "group_intervals", "differences", "ratios", "headline"):
                pd.testing.assert_frame_equal(
                    getattr(own, table), getattr(alone, table), check_index_type=False
                )
            row = report.by_column.loc[name].to_numpy().reshape(-1, 3)
            np.testing.assert_allclose(row, alone.headline.iloc[1:])
        crossed = fairness_report(y, pred, sensitive_features=s, **given)
        last = report.by_column.loc["intersections"].to_numpy().reshape(-1, 3)
        np.testing.assert_array_equal(last, crossed.headline.iloc[1:])
        pd.testing.assert_frame_equal(report.by_column, crossed.by_column)
        pd.testing.assert_frame_equal(report.by_group, crossed.by_group)
        largest = report.by_column.iloc[:-1].filter(regex="(distance|error)$").max()
        np.testing.assert_allclose(report.headline["value"].iloc[1:], largest)
        # The largest of several is limited with all of them in view.
        highest = report.by_column.iloc[:-1].filter(regex="_high$").max()
        assert (report.headline["high"].iloc[1:].to_numpy() >= highest - 1e-12).all()

    def test_shows_both_in_text_markdown_and_html(self):
        y, pred, s, _ = make_decisions()
        report = fairness_report(y, pred, sensitive_features=s, groups="columns", n_boot=0)
        value = report.by_column.loc["race", "equalized_odds_distance"]
        for text in (str(report), report.to_markdown(), report.to_html()):
            assert "by column" in text
            assert f"{value:.3f}" in text
            assert "of each sensitive column by itself, the largest" in text
        plain = str(fairness_report(y, pred, sensitive_features=s, n_boot=0))
        assert "by column" in plain
        assert "the largest" not in plain
        single = fairness_report(y, pred, sensitive_features=s["sex"], groups="columns", n_boot=0)
        assert single.by_column is None
        assert "column" not in str(single)

    def test_columns_without_names_and_one_called_as_the_last_row(self):
        y, pred, s, _ = make_decisions()
        report = fairness_report(y, pred, sensitive_features=s.to_numpy(), n_boot=0)
        assert report.by_column.index.tolist() == ["group_0", "group_1", "intersections"]
        renamed = s.rename(columns={"sex": "intersections"})
        report = fairness_report(y, pred, sensitive_features=renamed, n_boot=0)
        assert report.by_column.index.tolist() == [
            "intersections",
            "race",
            "intersections (all)",
        ]

    def test_a_display_draws_the_rates_of_each_level(self):
        y, pred, s, _ = make_decisions()
        display = GroupRatesDisplay.from_predictions(
            y, pred, sensitive_features=s, groups="columns"
        )
        ticks = [text.get_text() for text in display.ax_.get_yticklabels()]
        counts = [(s[c] == v).sum() for c, v in zip(display.columns, display.groups, strict=True)]
        assert ticks == [
            f"{c}: {v} (n={n})"
            for c, v, n in zip(display.columns, display.groups, counts, strict=True)
        ]
        assert display.columns == ["sex", "sex", "race", "race", "race"]
        rates = [
            pred[s[c] == v].mean() for c, v in zip(display.columns, display.groups, strict=True)
        ]
        np.testing.assert_allclose(display.rates["selection_rate"], rates)
        each = [demographic_parity_distance(y, pred, sensitive_features=s[c]) for c in s]
        assert display.differences["selection_rate"] == pytest.approx(max(each))
        legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert f"in a column {max(each):.3f}" in legend[0]
        (line,) = [line for line in display.ax_.lines if list(line.get_xdata()) == [0, 1]]
        heights = display.ax_.get_yticks()
        assert heights[1] < line.get_ydata()[0] < heights[2]
        crossed = GroupRatesDisplay.from_predictions(y, pred, sensitive_features=s)
        assert crossed.columns is None
        assert len(crossed.groups) == 5
        one = GroupRatesDisplay.from_predictions(
            y, pred, sensitive_features=s["sex"], groups="columns"
        )
        assert one.columns is None

    def test_a_trade_off_of_predictions_is_by_column(self):
        y, pred, s, _ = make_decisions()
        display = FairnessTradeoffDisplay.from_predictions(
            y, {"mine": pred}, sensitive_features=s, groups="columns", random_state=0
        )
        found = demographic_parity_distance(y, pred, sensitive_features=s, groups="columns")
        assert display.disparity == pytest.approx([found])
        assert "each sensitive column by itself" in display.ax_.get_ylabel()


class TestKept:
    def test_is_saved_and_loaded(self, tmp_path):
        X, y, s = make_rows(n=800)
        clf = FairLowRankHeadClassifier(
            constraint="worst_group", groups="columns", solver="plug_in", random_state=0
        ).fit(X, y, sensitive_features=s)
        clf.save(tmp_path)
        loaded = load(tmp_path)
        assert loaded.groups == "columns"
        assert loaded.worst_group_ == clf.worst_group_
        np.testing.assert_array_equal(loaded.predict(X), clf.predict(X))
        # What was saved before there was such a parameter is of intersections.
        content, tensors = written_classifier(clf)
        assert content["parameters"].pop("groups") == "columns"
        assert classifier_of(type(clf), content, tensors).groups == "intersections"

    def test_can_be_searched(self):
        X, y, s = make_rows(n=600)
        clf = FairLowRankHeadClassifier(
            constraint=DP, fairness_weight=1.0, solver="plug_in", random_state=0
        )
        with sklearn.config_context(enable_metadata_routing=True):
            search = GridSearchCV(
                clf.set_fit_request(sensitive_features=True),
                {"groups": ["intersections", "columns"]},
                scoring=fairness_scorer("demographic_parity_distance", groups="columns"),
                cv=2,
            ).fit(X, y, sensitive_features=s)
        assert search.best_params_["groups"] in ("intersections", "columns")
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_metrics_of_tables_are_those_of_rows(self):
        y, pred, s, _ = make_decisions()
        codes = pd.Series(list(zip(s["sex"], s["race"], strict=True))).map(PAIRS.index).to_numpy()
        table = np.zeros((5, 2, 2))
        np.add.at(table, (codes, y, pred), 1.0)
        found = distances_of(table, [EO], None, levels_of())[EO]
        expected = equalized_odds_distance(y, pred, sensitive_features=s, groups="columns")
        assert float(found) == pytest.approx(expected)
