"""Several constraints at once, and bounds on ratios: the best rule, its limits, and who tells."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from fairlearn.metrics import demographic_parity_ratio, equalized_odds_ratio
from interrupts import Stops
from oracles import joint_optimum, parity_distance
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    PlugIn,
    fairness_path,
    load,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.inputs.warn import no_warnings
from skfairft.metrics import (
    constraint_distance,
    constraint_ratio,
    fairness_report,
    fairness_scorer,
)
from skfairft.parity.constraints import parity
from skfairft.parity.demands import Demand
from skfairft.parity.judge import REFIT, pareto_front
from skfairft.parity.limits import distance_limits, rows_needed
from skfairft.parity.ratio_limits import ratio_limits
from skfairft.parity.tied import tied_limit
from skfairft.solvers.dual import TEMPERATURES, ParityDual
from skfairft.solvers.joint import JointDual
from skfairft.solvers.maximin import MaximinDual
from skfairft.summary import summarize

DP, EO = "demographic_parity", "equalized_odds"
MISSED, WRONG = "worst_false_negative_rate", "worst_error_rate"


def draw_cells(seed=0, n=600, k=2, G=2):
    """Probabilities of cells that groups make differ, and weights."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    logits = 1.5 * x @ rng.normal(size=(3, k * G))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return torch.from_numpy(p), torch.from_numpy(rng.uniform(0.5, 2.0, size=n))


def dual_of(p, w, *demands, k=2, G=2, **params):
    rules = tuple(each.rule(k) for each in demands)
    return JointDual(p, w, demands, rules, n_groups=G, **params), rules


def reached(dual, rules, t, p, w, k, G):
    """Return expected accuracy, and distances, of the rule that decides each row for certain."""
    scores = dual.scores(t).flatten(0, 1)
    decided = torch.nn.functional.one_hot((p @ scores).argmax(dim=1), k).double()
    mass = ((p * w[:, None]).T @ decided).reshape(k, G, k) / w.sum()
    count = mass.sum(dim=-1)
    accuracy = float(mass.diagonal(dim1=0, dim2=2).sum())
    return accuracy, [float(rule.distance(rule.rates(mass, count))) for rule in rules]


class TestRule:
    @pytest.mark.parametrize(("k", "G"), [(2, 2), (2, 3), (3, 2)])
    @pytest.mark.parametrize(
        "asked",
        [
            [(DP, "ratio")],
            [(EO, "ratio")],
            [(EO, "difference"), (DP, "difference")],
            [(DP, "difference"), (MISSED, "largest rate")],
            [(DP, "ratio"), (EO, "difference"), (WRONG, "largest rate")],
            [("true_positive_rate_parity", "difference"), ("worst_group", "largest rate")],
        ],
    )
    @pytest.mark.some(2)
    def test_is_that_of_the_linear_program(self, asked, k, G):
        p, w = draw_cells(k=k, G=G, seed=1)
        plain, rules = dual_of(p, w, *(Demand(n, ratio=f == "ratio") for n, f in asked), k=k, G=G)
        accuracy, apart = reached(plain, rules, 0.0, p, w, k, G)
        # What is asked for costs something, and can be had.
        limits = [
            (0.5 if form != "largest rate" else 0.93) * each
            for each, (_, form) in zip(apart, asked, strict=True)
        ]
        best = joint_optimum(p, w, asked, k, G, limits)
        assert best < accuracy - 2e-4
        demands = [
            Demand(name, ratio=form == "ratio", bound=1.0 - most if form == "ratio" else most)
            for (name, form), most in zip(asked, limits, strict=True)
        ]
        dual, rules = dual_of(p, w, *demands, k=k, G=G)
        assert dual.limits(0.5) == pytest.approx(limits)
        found, within = reached(dual, rules, 0.5, p, w, k, G)
        # It decides each row for certain, the program some at random: one per limit at most.
        assert found == pytest.approx(best, abs=0.01)
        assert all(a <= most + 0.04 for a, most in zip(within, limits, strict=True))
        # A control: some limit is not kept where only the others are asked for.
        beyond = []
        for i in range(len(demands)):
            others = [each for j, each in enumerate(demands) if j != i] or [Demand(DP)]
            alone, _ = dual_of(p, w, *others, k=k, G=G)
            t = 0.5 if len(demands) > 1 else 0.0
            beyond.append(reached(alone, rules, t, p, w, k, G)[1][i] > limits[i] + 0.01)
        assert any(beyond)

    @pytest.mark.parametrize("constraint", [DP, "error_rate_parity"])
    def test_of_one_difference_is_the_rule_of_one_constraint(self, constraint):
        p, w = draw_cells(G=3)
        dual, (rule,) = dual_of(p, w, Demand(constraint), G=3)
        alone = ParityDual(p, w, rule, n_groups=3)
        for t in (0.3, 0.8):
            decided = [(p @ each.scores(t).flatten(0, 1)).argmax(dim=1) for each in (dual, alone)]
            assert (decided[0] == decided[1]).double().mean() > 0.995

    def test_limits_go_from_none_over_the_bounds_to_the_least(self):
        p, w = draw_cells()
        demands = Demand(DP, bound=0.01), Demand(MISSED, bound=0.9), Demand(EO, weight=0.25)
        dual, rules = dual_of(p, w, *demands)
        _, apart = reached(
            dual_of(p, w, Demand(DP), Demand(MISSED), Demand(EO))[0], rules, 0.0, p, w, 2, 2
        )
        smooth = 2 * TEMPERATURES[-1]
        assert dual.limits(0.0) == pytest.approx([apart[0], 0.9, 0.75 * apart[2]], abs=smooth)
        assert dual.limits(0.5)[:2] == [0.01, 0.9]
        assert dual.limits(1.0)[:2] == pytest.approx([0.0, 0.0], abs=1e-9)
        assert len({dual.limits(t)[2] for t in (0.0, 0.5, 1.0)}) == 1
        # A largest rate is drawn to the least that there is, and not beyond it.
        wrong = Demand(WRONG, bound=0.45)
        alone, (rule,) = dual_of(p, w, wrong)
        least = MaximinDual(p, w, rule, n_groups=2).worst(1.0).limit
        assert alone.limits(1.0) == pytest.approx([least], abs=1e-9)
        assert 0.1 < least < 0.45
        # What a limit takes away: nothing where it is beyond what there is.
        shares = dual.shares(0.5)
        assert shares[1] == 0.0
        assert shares[0] == pytest.approx(1.0 - 0.01 / apart[0], abs=0.01)
        assert shares[2] == pytest.approx(0.25)

    def test_of_limits_that_no_rule_keeps_is_finite(self):
        p, w = draw_cells()
        dual, rules = dual_of(
            p, w, Demand(MISSED, bound=0.01), Demand("worst_false_positive_rate", bound=0.01)
        )
        assert np.isnan(
            joint_optimum(
                p,
                w,
                [(MISSED, "largest rate"), ("worst_false_positive_rate", "largest rate")],
                2,
                2,
                [0.01, 0.01],
            )
        )
        for t in (0.25, 0.5, 1.0):
            assert dual.scores(t).isfinite().all()
            assert max(reached(dual, rules, t, p, w, 2, 2)[1]) < 1.0

    def test_weights_of_rows_and_the_order_of_demands_do_not_matter(self):
        p, w = draw_cells(n=300)
        demands = [Demand(DP, ratio=True, bound=0.9), Demand(MISSED, bound=0.3)]
        once = dual_of(p, w, *demands)[0].scores(0.5)
        twice = dual_of(p.repeat(2, 1), w.repeat(2), *demands)[0].scores(0.5)
        turned = dual_of(p, 3.0 * w, *demands[::-1])[0].scores(0.5)
        for other in (twice, turned):
            same = (p @ other.flatten(0, 1)).argmax(1) == (p @ once.flatten(0, 1)).argmax(1)
            assert same.double().mean() > 0.99


def make_rows(n=2000, k=2, G=2, seed=0):
    return make_biased_classification(
        n_samples=n, n_classes=k, n_groups=G, disparity=0.5, random_state=seed
    )


def make_clf(**params):
    return FairLowRankHeadClassifier(solver="plug_in", random_state=0, **params)


@pytest.fixture(scope="module")
def everything():
    return make_rows(n=5000)


@pytest.fixture(scope="module")
def data(everything):
    return tuple(each[:2000] for each in everything)


@pytest.fixture(scope="module")
def other(everything):
    return tuple(each[2000:] for each in everything)


@pytest.fixture(scope="module")
def both(data):
    """A classifier of two bounds that both bind."""
    X, y, s = data
    return make_clf(
        constraint=[DP, MISSED], ratio_bound=[0.8, None], difference_bound=[None, 0.2]
    ).fit(X, y, sensitive_features=s)


class TestFit:
    def test_all_bounds_are_kept_on_the_judged_rows(self, both):
        ratio, largest = both.bounds_
        assert (ratio.constraint, ratio.form, ratio.bound) == (DP, "ratio", 0.8)
        assert (largest.constraint, largest.form, largest.bound) == (MISSED, "largest rate", 0.2)
        assert (ratio.met, largest.met, both.bound_met_) == (True, True, True)
        assert 0.8 <= ratio.value < 0.9
        assert 0.12 < largest.value <= 0.2
        assert ratio.limit < ratio.value < ratio.interval[1]
        assert largest.interval[0] < largest.value < largest.limit
        assert 0.0 < both.fairness_weight_[0] < 1.0

    def test_on_other_rows_the_decisions_are_near_them(self, data, other, both):
        X, y, s = other
        pred = both.predict(X)
        assert constraint_ratio(y, pred, constraint=DP, sensitive_features=s) > 0.74
        assert parity_distance(y, pred, s, MISSED, 2) < 0.25
        # A control: of each alone the other is not.
        X, y, s = data
        alone = make_clf(constraint=DP, ratio_bound=0.8).fit(X, y, sensitive_features=s)
        assert parity_distance(y, alone.predict(X), s, MISSED, 2) > 0.21
        alone = make_clf(constraint=MISSED, difference_bound=0.2).fit(X, y, sensitive_features=s)
        pred = alone.predict(X)
        assert constraint_ratio(y, pred, constraint=DP, sensitive_features=s) < 0.7

    def test_what_is_said_of_the_only_bound_is_said_of_one(self, data, both):
        X, y, s = data
        one = make_clf(constraint=[DP], difference_bound=[0.1]).fit(X, y, sensitive_features=s)
        same = make_clf(constraint=DP, difference_bound=0.1).fit(X, y, sensitive_features=s)
        for params in (
            {"constraint": DP, "fairness_weight": [0.5]},
            {"constraint": ["worst_group"]},
        ):
            assert make_clf(**params).fit(X, y, sensitive_features=s).fairness_weight_ in (0.5, 0.9)
        assert one.bounds_ == same.bounds_
        assert (one.predict(X) == same.predict(X)).all()
        assert isinstance(one.fairness_weight_, float)
        (bound,) = same.bounds_
        assert same.difference_ == bound.value <= 0.1
        assert tuple(same.difference_interval_) == bound.interval
        assert same.difference_limit_ == bound.limit
        for name in ("difference_", "difference_interval_", "difference_limit_"):
            with pytest.raises(AttributeError, match=r"one bound.*see bounds_"):
                getattr(both, name)
        with pytest.raises(AttributeError, match="after a fit with a bound"):
            _ = make_clf().bound_met_

    def test_a_fit_without_bounds_forgets_them(self, data):
        X, y, s = data
        clf = make_clf(constraint=DP, difference_bound=0.1).fit(X, y, sensitive_features=s)
        clf.set_params(difference_bound=None, fairness_weight=0.5).fit(X, y, sensitive_features=s)
        for name in ("bounds_", "difference_", "bound_met_", "known_groups_"):
            assert not hasattr(clf, name)

    @pytest.mark.parametrize(
        "solver", [pytest.param("fine_tune", marks=pytest.mark.slow), "closed_form"]
    )
    def test_a_ratio_is_reached_by_the_weight_of_other_solvers(self, data, solver):
        X, y, s = data
        more = {"importance": "covariance"} if solver == "closed_form" else {}
        clf = FairLowRankHeadClassifier(
            solver=solver, constraint=DP, ratio_bound=0.8, random_state=0, **more
        ).fit(X, y, sensitive_features=s)
        (bound,) = clf.bounds_
        assert 0.8 <= bound.value < 0.85
        assert 0.3 < clf.fairness_weight_ < 1.0

    def test_a_ratio_by_its_own_rule_is_at_least_as_accurate(self):
        """The most accurate rule of a ratio: another one than that of some difference."""
        p, w = draw_cells(seed=3, n=2000)
        by_ratio, (rule,) = dual_of(p, w, Demand(DP, ratio=True, bound=0.8))
        by_difference = ParityDual(p, w, parity(DP, 2), n_groups=2)
        best, (short,) = reached(by_ratio, (rule,), 0.5, p, w, 2, 2)
        others = [reached(by_difference, (rule,), t, p, w, 2, 2) for t in np.linspace(0, 1, 41)]
        assert short <= 0.2 + 0.003
        assert best >= max(accuracy for accuracy, (apart,) in others if apart <= 0.2) - 1e-3

    def test_confidence_holds_each_limit_to_its_bound(self, data):
        X, y, s = data
        clf = make_clf(
            constraint=[DP, WRONG],
            ratio_bound=[0.8, None],
            difference_bound=[None, 0.35],
            confidence=0.9,
        ).fit(X, y, sensitive_features=s)
        ratio, wrong = clf.bounds_
        assert ratio.value > ratio.limit >= 0.8
        assert wrong.value < wrong.limit <= 0.35
        missed = clone(clf).set_params(ratio_bound=[0.99, None])
        match = r"ratio_bound=0\.99.*cannot be certified"
        with pytest.warns(FairnessWarning, match=match) as caught:
            missed.fit(X, y, sensitive_features=s)
        message = str(caught[0].message)
        assert f"largest bound that can is {missed.bounds_[0].limit:.3f}" in message
        assert "rows like the 2,000" in message or "do not tell how many" in message
        assert not missed.bound_met_

    def test_limits_divide_the_confidence(self, both, data):
        X, y, s = data
        one = make_clf(constraint=DP, ratio_bound=0.8).fit(X, y, sensitive_features=s)
        # Of one bound a limit of 95 % is inside the interval; of two each is one of 97.5 %.
        assert one.bounds_[0].limit > one.bounds_[0].interval[0] + 1e-3
        for bound, end in zip(both.bounds_, (0, 1), strict=True):
            assert bound.limit == pytest.approx(bound.interval[end], abs=1e-9)

    def test_each_limit_is_drawn_no_further_than_it_has_to_be(self, data):
        """Where the estimates are off for one rate, the others do not pay for it."""
        X, y, s = data
        clf = make_clf(
            constraint=[DP, MISSED], ratio_bound=[0.8, None], difference_bound=[None, 0.15]
        ).fit(X, y, sensitive_features=s)
        ratio, largest = clf.bounds_
        assert 0.8 <= ratio.value < 0.806
        assert 0.144 < largest.value <= 0.15

    def test_only_those_that_are_not_met_are_drawn_on(self):
        """Drawn together they end where all rows are decided alike, or nearly."""
        X, y, s = make_rows(seed=2)
        clf = make_clf(constraint=[DP, EO], difference_bound=[0.15, 0.5], confidence=0.95)
        clf.fit(X, y, sensitive_features=s)
        assert clf.bound_met_
        assert np.mean(clf.predict(X) == y) > 0.74

    def test_rates_are_those_of_rows_whatever_their_classes_weigh(self, data):
        X, y, s = data
        clf = make_clf(
            constraint=[DP, WRONG], fairness_weight=[1.0, 0.0], class_weight={0: 1.0, 1: 5.0}
        ).fit(X, y, sensitive_features=s)
        pred = clf.predict(X)
        assert 0.6 < pred.mean() < 0.99
        assert parity_distance(y, pred, s, DP, 2) < 0.02

    def test_what_asks_for_nothing_changes_nothing_to_speak_of(self, data, other):
        """A second bound that is met anyway takes its part of the confidence, and no more."""
        X, y, s = data
        params = {"difference_bound": 0.2, "confidence": 0.9}
        one = make_clf(constraint=DP, **params).fit(X, y, sensitive_features=s)
        two = make_clf(constraint=[DP, EO], **params | {"difference_bound": [0.2, 1.9]})
        two.fit(X, y, sensitive_features=s)
        assert two.fairness_weight_[1] == 0.0
        accuracy = [np.mean(clf.predict(other[0]) == other[1]) for clf in (one, two)]
        assert accuracy[1] > accuracy[0] - 0.02

    @pytest.mark.slow
    @pytest.mark.parametrize("second", [0.3, 0.6])
    def test_bounds_hold_together_as_often_as_they_say(self, second):
        """On all rows of a population, of which each fit sees a few."""
        X, y, s = make_rows(n=40_000)
        rng, beyond = np.random.default_rng(0), []
        clf = make_clf(constraint=[DP, EO], difference_bound=[0.2, second], confidence=0.8, C=1.0)
        for _ in range(60):
            rows = rng.choice(len(y), 1500, replace=False)
            with no_warnings():
                clf.fit(X[rows], y[rows], sensitive_features=s[rows])
            if clf.bound_met_:
                pred = clf.predict(X)
                apart = [parity_distance(y, pred, s, each, 2) for each in (DP, EO)]
                beyond.append(apart[0] > 0.2 or apart[1] > second)
        assert len(beyond) > 30
        assert np.mean(beyond) <= 0.2

    def test_a_ratio_of_rates_of_few_rows_is_said(self):
        """One row in a hundred is positive: what is selected is a handful."""
        X, y, s = make_rows(n=1500, seed=1)
        rare = (y == 1) & (np.arange(len(y)) % 40 > 0)
        X, y, s = X[~rare], y[~rare], s[~rare]
        clf = make_clf(constraint="false_positive_rate_parity", ratio_bound=0.5)
        with pytest.warns(FairnessWarning) as caught:
            clf.fit(X, y, sensitive_features=s)
        (bound,) = clf.bounds_
        said = [str(each.message) for each in caught]
        assert any("too few rows count in the rates" in each for each in said) == bound.met
        assert bound.interval[0] < 0.25

    def test_an_interrupted_search_has_no_answer(self, data):
        X, y, s = data
        clf = make_clf(constraint=[DP, WRONG], difference_bound=[0.2, 0.4], cv=0.3, rank=2)
        clf.set_params(solver=PlugIn(callbacks=[Stops(1)]))
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, y, sensitive_features=s)
        assert not hasattr(clf, "head_")

    def test_what_is_not_met_is_said_of_each(self, data):
        X, y, s = data
        clf = make_clf(
            constraint=[MISSED, "worst_false_positive_rate"], difference_bound=[0.02, 0.05]
        )
        with pytest.warns(FairnessWarning, match="were not met") as caught:
            clf.fit(X, y, sensitive_features=s)
        message = str(caught[0].message)
        assert "difference_bound=0.02 of worst_false_negative_rate and" in message
        assert not clf.bound_met_

    def test_weights_take_away_their_shares(self, data):
        X, y, s = data
        clf = make_clf(constraint=[DP, "error_rate_parity"], fairness_weight=[0.5, 0.0])
        clf.fit(X, y, sensitive_features=s)
        plain = make_clf(constraint=DP, fairness_weight=0.0).fit(X, y, sensitive_features=s)
        before, after = (parity_distance(y, each.predict(X), s, DP, 2) for each in (plain, clf))
        assert after == pytest.approx(before / 2, abs=0.02)
        assert clf.fairness_weight_ == pytest.approx((0.5, 0.0))
        again = make_clf(constraint=[DP, "error_rate_parity"], fairness_weight=0.0)
        again.fit(X, y, sensitive_features=s)
        assert (again.predict(X) == plain.predict(X)).all()

    def test_a_fixed_weight_stays_beside_a_bound(self, data):
        X, y, s = data
        params = {"constraint": [DP, "true_positive_rate_parity"], "fairness_weight": [None, 1.0]}
        clf = make_clf(difference_bound=[0.15, None], **params).fit(X, y, sensitive_features=s)
        assert [each.met for each in clf.bounds_] == [True]
        assert clf.fairness_weight_[1] == pytest.approx(1.0)
        assert parity_distance(y, clf.predict(X), s, "true_positive_rate_parity", 2) < 0.06

    def test_both_bounds_of_one_constraint_hold(self, data):
        X, y, s = data
        clf = make_clf(constraint=DP, difference_bound=0.2, ratio_bound=0.8)
        clf.fit(X, y, sensitive_features=s)
        assert [each.form for each in clf.bounds_] == ["difference", "ratio"]
        assert clf.bound_met_
        assert len(clf.fairness_weight_) == 2

    @pytest.mark.parametrize("k", [2, pytest.param(3, marks=pytest.mark.slow)])
    def test_goes_with_columns_classes_and_groups_on_some_rows(self, k):
        X, y, s = make_rows(k=k)
        rng = np.random.default_rng(0)
        groups = pd.DataFrame({"sex": np.where(s, "f", "m"), "age": rng.choice(["o", "y"], len(s))})
        groups.loc[rng.random(len(s)) < 0.5, "sex"] = None
        clf = make_clf(
            constraint=[DP, WRONG],
            difference_bound=[0.15, 0.5],
            groups="columns",
            missing_groups="estimate",
        ).fit(X, y, sensitive_features=groups)
        assert clf.bound_met_
        by_sex = parity_distance(y, clf.predict(X), s, DP, k)
        plain = make_clf().fit(X, y, sensitive_features=s)
        assert by_sex < 0.8 * parity_distance(y, plain.predict(X), s, DP, k)

    def test_told_groups_meet_the_bounds_by_votes_of_their_own(self, both, data):
        X, y, s = data
        told = both.known_groups_
        assert told.met
        assert len(told.bounds) == len(told.fairness_weight) == 2
        pred = both.predict(X, sensitive_features=s)
        assert (pred != both.predict(X)).any()
        assert constraint_ratio(y, pred, constraint=DP, sensitive_features=s) > 0.75

    @pytest.mark.parametrize("around", [lambda clf: clf, make_pipeline])
    def test_scorers_take_the_positive_class_of_the_classifier(self, data, around):
        X, y, s = data
        risk = np.where(y == 1, "high", "low")
        clf = around(make_clf(pos_label="high"))
        clf = clf.set_params(**{name: "high" for name in clf.get_params() if "pos_label" in name})
        with sklearn.config_context(enable_metadata_routing=True):
            (clf if around is not make_pipeline else clf[-1]).set_fit_request(
                sensitive_features=True
            )
            clf.fit(X, risk, sensitive_features=s)
            name = "true_positive_rate_parity"
            given = {"sensitive_features": s, "constraint": name}
            own = constraint_distance(risk, clf.predict(X), pos_label="high", **given)
            other = constraint_distance(risk, clf.predict(X), pos_label="low", **given)
            found = fairness_scorer(f"{name}_distance")(clf, X, risk, sensitive_features=s)
        assert found == -own != -other

    def test_a_positive_class_may_be_absent_from_the_rows_that_are_scored(self, data):
        X, y, s = data
        risk = np.where(y == 1, "high", "low")
        clf = make_clf(pos_label="high").fit(X, risk, sensitive_features=s)
        rows = np.flatnonzero((clf.predict(X) == "low") & (y == 0))
        with sklearn.config_context(enable_metadata_routing=True):
            for name, score in (("demographic_parity_distance", 0.0), (f"{DP}_ratio", 1.0)):
                found = fairness_scorer(name)(clf, X[rows], risk[rows], sensitive_features=s[rows])
                assert found == score
            with pytest.raises(ValueError, match="occurs neither"):  # one that is asked for may not
                fairness_scorer("demographic_parity_distance", pos_label="hihg")(
                    clf, X, risk, sensitive_features=s
                )

    def test_searches_and_clones_take_lists(self, data):
        X, y, s = data
        clf = make_clf(constraint=[DP, WRONG], fairness_weight=0.5)
        with sklearn.config_context(enable_metadata_routing=True):
            search = GridSearchCV(
                clf.set_fit_request(sensitive_features=True),
                {"fairness_weight": [[0.0, 0.0], [0.9, 0.1]]},
                scoring=fairness_scorer(f"{DP}_ratio"),
                cv=2,
            ).fit(X, y, sensitive_features=s)
        assert search.best_params_ == {"fairness_weight": [0.9, 0.1]}
        assert 0.0 < search.best_score_ <= 1.0


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "said"),
        [
            ({"constraint": [DP, DP], "fairness_weight": 0.5}, "list of different"),
            ({"constraint": [], "fairness_weight": 0.5}, "list of different"),
            ({"constraint": [DP, "parity"], "fairness_weight": 0.5}, "of \\['demographic_parity'"),
            ({"constraint": [DP, EO], "difference_bound": [0.1]}, "list of 2"),
            ({"constraint": [DP, EO], "difference_bound": [0.1, "x"]}, "number in \\[0, 2\\]"),
            ({"constraint": [DP, EO], "fairness_weight": [0.1, True]}, "number in \\[0, 1\\]"),
            ({"constraint": [DP, EO], "ratio_bound": [0.0, 0.5]}, "number in \\(0, 1\\]"),
            ({"constraint": [DP, EO], "ratio_bound": [np.nan, 0.5]}, "number in \\(0, 1\\]"),
            ({"constraint": DP, "ratio_bound": [0.5, 0.5]}, "list of 1"),
            ({"constraint": [DP, EO], "difference_bound": [0.1, None]}, "nothing is set for 'equa"),
            ({"constraint": [DP, EO]}, "nothing is set for 'demographic_parity'"),
            ({"constraint": [DP, EO], "difference_bound": 1.0}, "is at most 1"),
            (
                {"constraint": [DP, EO], "difference_bound": 0.1, "fairness_weight": [0.5, None]},
                "both set",
            ),
            ({"constraint": DP, "ratio_bound": 0.8, "fairness_weight": 0.5}, "both set"),
            ({"constraint": WRONG, "ratio_bound": 0.8}, "largest alone; set difference_bound"),
            ({"constraint": None, "ratio_bound": 0.8}, "nothing to act on"),
            ({"constraint": ["worst_group"], "ratio_bound": 0.5}, "largest alone"),
            ({"constraint": DP, "ratio_bound": 0.0}, "ratio_bound"),
            ({"constraint": DP, "ratio_bound": 1.1}, "ratio_bound"),
            ({"constraint": DP, "fairness_weight": 0.5, "confidence": 0.9}, "ratio_bound is to be"),
        ],
    )
    def test_of_parameters(self, data, params, said):
        X, y, s = data
        with pytest.raises(ValueError, match=said):
            make_clf(**params).fit(X, y, sensitive_features=s)

    @pytest.mark.parametrize("solver", ["fine_tune", "closed_form"])
    def test_of_solvers_that_keep_one(self, data, solver):
        X, y, s = data
        clf = make_clf(constraint=[DP, EO], fairness_weight=0.5).set_params(solver=solver)
        with pytest.raises(ValueError, match=r'keeps one\. Set solver="plug_in"'):
            clf.fit(X, y, sensitive_features=s)
        with pytest.raises(ValueError, match="keeps one"):
            fairness_path(
                clf.set_params(fairness_weight=None), X, y, sensitive_features=s, weights=3
            )

    def test_of_groups_that_lack_what_one_of_them_compares(self, data):
        X, y, s = data
        y = np.where(s == 1, 0, y)
        with pytest.raises(ValueError, match="'equalized_odds' compares rates"), no_warnings():
            make_clf(constraint=[DP, EO], fairness_weight=0.5).fit(X, y, sensitive_features=s)


class TestDistance:
    def test_ratio_is_that_of_fairlearn(self):
        rng = np.random.default_rng(0)
        y, pred, s = (rng.integers(2, size=300) for _ in range(3))
        w = rng.uniform(0.5, 2.0, size=300)
        for constraint, theirs in ((DP, demographic_parity_ratio), (EO, equalized_odds_ratio)):
            given = {"sensitive_features": s, "sample_weight": w}
            found = constraint_ratio(y, pred, constraint=constraint, **given)
            assert found == pytest.approx(theirs(y, pred, **given), abs=1e-12)
            report = fairness_report(y, pred, constraint=constraint, ratio=True, **given)
            value, low, high = report.headline.loc[f"{constraint}_ratio"]
            assert value == pytest.approx(found)
            assert low < value < high

    def test_of_rates_that_are_all_zero_is_parity_of_which_nothing_is_known(self):
        y, s = [0, 1, 0, 1], ["a", "a", "b", "b"]
        assert constraint_ratio(y, [0] * 4, constraint=DP, sensitive_features=s) == 1.0
        table = np.array([[[5.0, 0.0], [5.0, 0.0]], [[9.0, 0.0], [5.0, 0.0]]])
        found = distance_limits(parity(DP, 2, ratio=True), table, table)
        assert (found.distance, found.low, found.high) == (0.0, 0.0, 1.0)

    def test_of_several_classes_is_the_smallest(self):
        rng = np.random.default_rng(1)
        y, pred, s = rng.integers(3, size=200), rng.integers(3, size=200), rng.integers(2, size=200)
        each = [
            constraint_ratio(y == c, pred == c, constraint=DP, sensitive_features=s)
            for c in range(3)
        ]
        assert constraint_ratio(y, pred, constraint=DP, sensitive_features=s) == min(each)

    def test_largest_rates_have_none(self):
        with pytest.raises(ValueError, match="largest rate alone, which has no ratio"):
            constraint_ratio([0, 1], [0, 1], constraint=WRONG, sensitive_features=[0, 1])
        with pytest.raises(ValueError, match="Unknown scorer"):
            fairness_scorer(f"{WRONG}_ratio")

    def test_front_of_several_differences(self):
        error, one, other = [1.0, 1.0, 2.0, 3.0], [0.3, 0.2, 0.2, 0.2], [0.1, 0.3, 0.2, 0.2]
        assert pareto_front(error, one, other).tolist() == [True, True, True, False]


class TestLimits:
    @pytest.mark.parametrize("constraint", [DP, EO])
    def test_are_those_of_the_smallest_ratio(self, constraint):
        rng = np.random.default_rng(0)
        table = rng.integers(20, 200, size=(4, 3, 2, 2)).astype(float)
        rule = parity(constraint, 2, ratio=True)
        found = distance_limits(rule, table, table, confidence=0.95)
        mass = table.swapaxes(-3, -2)
        rates = rule.rates(mass, mass.sum(axis=-1))
        rows = rule.counts(mass.sum(axis=-1))
        low, _ = ratio_limits(rates, rows, confidence=0.95)
        np.testing.assert_allclose(found.high, 1.0 - low.min(axis=-1))
        assert (found.low <= found.distance).all()
        assert (found.distance < found.high).all()
        # The lower limit is the largest of theirs, at the level at which all hold together.
        level = (1.0 + 0.9 ** (1.0 / len(rule.kinds))) / 2.0
        _, high = ratio_limits(rates, rows, confidence=level)
        np.testing.assert_allclose(found.low, (1.0 - high).max(axis=-1))

    @pytest.mark.parametrize("level", [0.8, 0.95])
    def test_of_rates_made_alike_is_the_quantile_of_their_ratio(self, level):
        """Two rates of independent normal errors: an integral over the larger."""
        rate, error = 0.5, 0.03

        def below(most):  # P(1 - min / max <= most)
            def part(x):
                kept = rate + error * x
                return (
                    2.0 * norm.pdf(x) * (norm.cdf(x) - norm.cdf(((1 - most) * kept - rate) / error))
                )

            return quad(part, -8.0, 8.0)[0] - level

        expected = brentq(below, 0.0, 0.9)
        rates = np.full((1, 1, 1, 2), rate)
        rule = parity(DP, 2, ratio=True)
        found = tied_limit(rule, rates, rates - error, rates + error, 1.0, level)
        assert found[0] == pytest.approx(expected, rel=0.02)

    def test_rows_needed_bring_the_limit_within_the_bound(self):
        table = np.array([[[45.0, 50.0], [5.0, 40.0]], [[35.0, 45.0], [5.0, 45.0]]])
        rule = parity(DP, 2, ratio=True)
        n = table.sum()
        wanted = float(rows_needed(rule, table, table, 0.15, n_rows=int(n)))
        assert n < wanted < np.inf
        enough, fewer = (wanted / n * table, 0.5 * wanted / n * table)
        assert distance_limits(rule, enough, enough).high < 0.15
        # In 80 % of samples of so many rows the limit of 95 % is within the bound.
        surer = float(norm.cdf(norm.ppf(0.95) + norm.ppf(0.8)))
        high = distance_limits(rule, enough, enough, confidence=surer).high
        assert high == pytest.approx(0.15, abs=2e-3)
        assert distance_limits(rule, fewer, fewer).high > 0.15 - 0.03
        short = distance_limits(rule, table, table).distance
        assert rows_needed(rule, table, table, 0.9 * float(short), n_rows=int(n)) == np.inf

    @pytest.mark.slow
    @pytest.mark.parametrize("confidence", [0.8, 0.95])
    def test_hold_as_often_as_they_say(self, confidence):
        """Rates whose ratio is exactly 0.8: the limit is above 0.2 as often as it is to be."""
        rng, n = np.random.default_rng(0), 400
        selected = rng.binomial(n, [0.5, 0.4], size=(4000, 2)).astype(float)
        tables = np.stack([n - selected, selected], axis=-1)[:, :, None, :] / 2
        tables = np.repeat(tables, 2, axis=2)
        found = distance_limits(parity(DP, 2, ratio=True), tables, tables, confidence=confidence)
        assert np.mean(found.high >= 0.2) == pytest.approx(confidence, abs=0.02)


@pytest.fixture(scope="module")
def found(data):
    X, y, s = data
    clf = make_clf(constraint=[DP, MISSED])
    return fairness_path(clf, X, y, sensitive_features=s, weights=9, n_boot=0)


class TestPath:
    def test_has_a_column_for_each(self, found):
        table = found.table
        assert (found.constraint, found.others) == (DP, (MISSED,))
        np.testing.assert_allclose(table["difference"], table[f"{DP}_distance"])
        assert (table[f"{MISSED}_low"] <= table[MISSED]).all()
        assert (table[MISSED] <= table[f"{MISSED}_high"]).all()
        # The votes are found on these rows for all that is asked for, and the limits heed that.
        high = distance_limits(
            parity(MISSED, 2),
            *(found.decisions, found.squares),
            confidence=0.975,
            inflation=REFIT,
            tuned=found.tuned,
        ).high
        np.testing.assert_allclose(table[f"{MISSED}_high"], high)
        for i, decisions in enumerate(found.decisions):
            selected = decisions[:, :, 1].sum(axis=1) / decisions.sum(axis=(1, 2))
            assert table["ratio"].iloc[i] == pytest.approx(selected.min() / selected.max())
            missed = decisions[:, 1, 0] / decisions[:, 1].sum(axis=1)
            assert table[MISSED].iloc[i] == pytest.approx(missed.max())

    def test_both_fall_with_the_weight(self, found):
        own = found.table[found.table["positive_share"] == 1.0].sort_values("fairness_weight")
        for name in ("difference", MISSED):
            assert own[name].iloc[-1] < 0.3 * own[name].iloc[0]

    def test_chooses_among_those_within_all_bounds(self, found):
        table = found.table
        row = found.choose([0.2, 0.2])
        within = (table["difference"] <= 0.2) & (table[MISSED] <= 0.2)
        assert within[row]
        assert table.loc[row, "weighted_f1_error"] == table.loc[within, "weighted_f1_error"].min()
        assert found.choose([0.3, None]) != found.choose([0.3, 0.15])
        by_ratio = found.choose(ratio_bound=[0.8, None], difference_bound=[None, 0.25])
        assert table.loc[by_ratio, "ratio"] >= 0.8
        assert table.loc[by_ratio, MISSED] <= 0.25

    def test_chooses_with_confidence_by_all_limits(self, found):
        row = found.choose([0.3, 0.25], confidence=0.9)
        assert found.tuned[row]
        for constraint, bound in ((DP, 0.3), (MISSED, 0.25)):
            limit = distance_limits(
                parity(constraint, 2),
                *(found.decisions[row][None], found.squares[row][None]),
                confidence=0.95,  # of two bounds each has half of what may go wrong
                inflation=REFIT,
                tuned=True,
            ).high[0]
            assert limit <= bound
        # A bound between a point's limits at both levels is not met by it.
        own = np.flatnonzero(found.table["positive_share"] == 1.0)
        at = own[np.argsort(found.table["fairness_weight"].iloc[own])][4]
        weak, strong = (found.limits(each)[at] for each in (0.9, 0.95))
        bound = (weak + strong) / 2.0
        assert found.limits(0.95)[found.choose([bound, 0.99], confidence=0.9)] <= bound < strong
        with pytest.warns(FairnessWarning, match="No point is within difference_bound=0.0 and"):
            found.choose([0.0, 0.0], confidence=0.9)

    def test_refuses_bounds_that_fit_no_constraint(self, found):
        with pytest.raises(ValueError, match=r"ratio_bound=.*number in \(0, 1\]"):
            found.choose(ratio_bound=[1.5, None])
        for given in ([0.1], ["a", 0.1], "ab", [0.1, 0.2, 0.3], [True, 0.1]):
            with pytest.raises(ValueError, match=r"difference_bound=.*list of 2"):
                found.choose(given)
        with pytest.raises(ValueError, match="largest alone"):
            found.choose(ratio_bound=0.8)
        with pytest.raises(ValueError, match="got no difference_bound"):
            found.choose([None, None])
        with pytest.warns(FairnessWarning, match="a difference of at most 0.0; the nearest has"):
            found.choose([0.0, 0.5])

    def test_classifiers_are_those_of_the_weight(self, found, data):
        X, y, s = data
        i = int(np.flatnonzero(found.table["fairness_weight"] == 0.5)[0])
        clf = found.classifiers[i]
        assert clf.fairness_weight == 0.5
        # The votes of the path are found out of fold, those of a fit are not.
        again = make_clf(constraint=[DP, MISSED], fairness_weight=0.5)
        again.fit(X, y, sensitive_features=s)
        assert (clf.predict(X) == again.predict(X)).mean() > 0.97

    def test_of_one_constraint_chooses_by_ratio(self, data):
        X, y, s = data
        path = fairness_path(
            make_clf(constraint=DP), X, y, sensitive_features=s, weights=9, n_boot=0
        )
        row = path.choose(ratio_bound=0.8)
        assert path.table.loc[row, "ratio"] >= 0.8
        assert row == path.choose(0.9, ratio_bound=0.8)
        assert path.table.loc[path.choose(ratio_bound=0.8, confidence=0.95), "ratio"] > 0.8
        with pytest.raises(ValueError, match=r"ratio_bound=0\.8; it draws the whole curve"):
            fairness_path(
                make_clf(constraint=DP, ratio_bound=0.8), X, y, sensitive_features=s, weights=3
            )


class TestTold:
    def test_summary_names_each_with_what_was_reached(self, both):
        line = summarize(both).describe_constraint()
        assert line.startswith(f"{DP}, ratio of at least 0.8; {MISSED}, largest rate of at most")
        for bound in both.bounds_:
            assert f"{bound.value:.3f} on the judged rows" in line
        before = summarize(clone(both)).describe_constraint()
        assert before == f"{DP}, ratio of at least 0.8; {MISSED}, largest rate of at most 0.2"
        # Parameters that are set later are those of the next fit.
        later = copy.copy(both).set_params(constraint=DP, difference_bound=[0.1], ratio_bound=None)
        assert summarize(later).describe_constraint() == line

    def test_report_measures_each_bound(self, both, other):
        X, y, s = other
        report = model_report(both, X, y, sensitive_features=s, n_boot=0)
        headline = report.fairness.headline
        assert {f"{DP}_ratio", f"{DP}_distance", MISSED} <= set(headline.index)
        ratio = constraint_ratio(y, both.predict(X), constraint=DP, sensitive_features=s)
        assert headline.loc[f"{DP}_ratio", "value"] == pytest.approx(ratio)
        for bound, (value, low, high) in zip(
            both.bounds_, headline.loc[[f"{DP}_ratio", MISSED]].to_numpy(), strict=True
        ):
            said = [c.text for c in report.caveats if c.topic.startswith("Bound ")]
            short = low < bound.bound if bound.form == "ratio" else high > bound.bound
            assert short == any(f"{value:.3f} [" in text for text in said)
        later = copy.copy(both).set_params(constraint="error_rate_parity", ratio_bound=None)
        assert report.summary == summarize(later)
        assert (
            model_report(later, X, y, sensitive_features=s, n_boot=0).fairness.headline.index
            == headline.index
        ).all()
        page = report.to_html()
        assert "smallest ratio, demographic parity" in page

    def test_one_decision_for_all_is_a_caveat(self, both, other):
        X, y, s = other
        topics = [c.topic for c in model_report(both, X, y, sensitive_features=s, n_boot=0).caveats]
        assert "One decision for all" not in topics
        alike = both.predict(X) == 1
        report = model_report(both, X[alike], y[alike], sensitive_features=s[alike], n_boot=0)
        assert "One decision for all" in [c.topic for c in report.caveats]

    @pytest.mark.parametrize("told", [False, True])
    def test_a_ratio_that_is_missed_is_a_caveat(self, both, other, told):
        X, y, s = other
        clf = copy.copy(both)
        bound = both.bounds_[0]._replace(bound=0.99, met=False)
        clf.bounds_ = (bound,)
        clf.known_groups_ = both.known_groups_._replace(bounds=(bound,))
        with no_warnings():  # that it was not met when told
            report = model_report(clf, X, y, sensitive_features=s, n_boot=0, known_groups=told)
        topics = {c.topic: c.text for c in report.caveats}
        assert "A bound of 0.99 on the smallest ratio" in topics["Bound missed on these rows"]
        assert f"nearest was {bound.value:.3f}" in topics["Bound not met in the fit"]

    def test_is_saved_and_loaded(self, both, data, tmp_path):
        X = data[0]
        both.save(tmp_path / "clf")
        again = load(tmp_path / "clf")
        assert again.bounds_ == both.bounds_
        assert again.known_groups_ == both.known_groups_
        assert again.demands_ == both.demands_
        assert again.fairness_weight_ == both.fairness_weight_
        assert again.get_params()["constraint"] == [DP, MISSED]
        assert (again.predict(X) == both.predict(X)).all()
        content = json.loads((tmp_path / "clf" / "model.json").read_text())
        assert "ratio of at least 0.8" in content["summary"]["constraint"]

    def test_of_numpy_numbers_is_saved(self, data, tmp_path):
        X, y, s = data
        clf = make_clf(
            constraint=(DP, WRONG), fairness_weight=np.array([0.5, 0.25], dtype=np.float32)
        )
        clf.set_params(solver=PlugIn()).fit(X, y, sensitive_features=s).save(tmp_path / "clf")
        again = load(tmp_path / "clf")
        assert again.demands_ == (Demand(DP, weight=0.5), Demand(WRONG, weight=0.25))
        assert again.fairness_weight_ == pytest.approx(clf.fairness_weight_)
        assert clone(again).fit(X, y, sensitive_features=s).rank_ == clf.rank_
