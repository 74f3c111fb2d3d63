"""Fair classifiers of other packages, each as a curve of candidates from accurate to fair.

A method is a function ``method(split, constraint, seed) -> Curve``; `METHODS` lists all, the cheap
ones first, with whether they need the group of each row at prediction. All work on the same
standardized features, and the linear model inside is the same: scikit-learn's logistic regression,
with its default ``C=1``, but 0.01 for the faces and 0.1 for the tasks of few rows, and the solver
that is faster for the number of features. With the default, 512 features overfit: on LFW Err is a
fifth higher, and all that regularizes would look fair at no cost; of few rows the log loss on val
is lower with 0.1. On Adult Err hardly depends on C, but with less than 1 the constrained models of
most methods get worse, as they need larger weights.

`bounds` are shared by the methods that take a bound on the disparity. What needs thresholds fits
them on val. Everything else is fitted on train. Settings not mentioned are the packages' defaults.

LinearPost, FairProjection and the FRAPPÉ-like method are in no package: here they are short
versions of what their papers say.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from torch import nn

from .data import TASKS, Part, Split
from .synthetic import decide, fair_prices

DEMOGRAPHIC_PARITY, EQUALIZED_ODDS = "demographic_parity", "equalized_odds"
CONSTRAINTS = [DEMOGRAPHIC_PARITY, EQUALIZED_ODDS]

# For Adult, whose labels differ by 0.195 between women and men.
ADULT_BOUNDS, ADULT_DISPARITY = [0.002, 0.01, 0.02, 0.04, 0.06, 0.09, 0.12, 0.16], 0.195

Predict = Callable[[Part], np.ndarray]
Candidates = Iterator[tuple[str, Predict]]


@dataclass
class Curve:
    """Candidates with their predictions on val and test, and the time of all of them."""

    labels: list[str] = field(default_factory=list)
    val: list[np.ndarray] = field(default_factory=list)  # (n_val,) each
    test: list[np.ndarray] = field(default_factory=list)  # (n_test,) each
    seconds: float = 0.0
    counts: list[Any] | None = None  # in place of val: (G, k, k) each, of rows out of fold


@dataclass(frozen=True)
class Method:
    """A method's function and what it asks for."""

    run: Callable[[Split, str, int], Curve]
    needs_group: bool = False  # at prediction
    constraints: tuple[str, ...] = tuple(CONSTRAINTS)
    datasets: tuple[str, ...] | None = None  # all, if None
    classes: tuple[int, ...] = (2,)  # how many there may be
    slow: bool = False  # comes after the others


METHODS: dict[str, Method] = {}


def method(name: str, **settings: Any) -> Callable[[Callable[..., Candidates]], Any]:
    """Register a generator of (label, prediction function) as a method that makes a curve."""

    def register(generator: Callable[..., Candidates]) -> Callable[[Split, str, int], Curve]:
        @functools.wraps(generator)
        def run(split: Split, constraint: str, seed: int) -> Curve:
            curve = Curve()
            start = time.perf_counter()
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                for label, predict in generator(split, constraint, seed):
                    curve.labels.append(label)
                    curve.val.append(np.asarray(predict(split.val)).ravel().astype(int))
                    curve.test.append(np.asarray(predict(split.test)).ravel().astype(int))
            curve.seconds = time.perf_counter() - start
            return curve

        METHODS[name] = Method(run, **settings)
        return run

    return register


def together(split: Split) -> Part:
    """Return the rows of train and val."""
    parts = split.train, split.val
    return Part(*(np.concatenate([getattr(part, a) for part in parts]) for a in ("Z", "y", "s")))


def strength(split: Split) -> float:
    """Return the C of the linear models, 1 for tasks that are not listed."""
    return TASKS[split.name].C if split.name in TASKS else 1.0


def linear(split: Split) -> LogisticRegression:
    """Return the linear model that all methods share."""
    solver = "newton-cholesky" if split.train.Z.shape[1] <= 128 else "lbfgs"
    return LogisticRegression(C=strength(split), solver=solver, max_iter=1000)


def bounds(split: Split) -> list[float]:
    """Return 8 bounds on the disparity, rising to just under that of the labels on train.

    With three classes, that of the class of which it is the largest.
    """
    labels = one_hot(split.train.y, split.n_classes)
    rates = [labels[split.train.s == g].mean(axis=0) for g in range(split.n_groups)]
    scale = np.ptp(rates, axis=0).max() / ADULT_DISPARITY
    return [round(bound * scale, 4) for bound in ADULT_BOUNDS]


def one_hot(codes: np.ndarray, n: int) -> np.ndarray:
    """Return (rows, n) floats."""
    return np.eye(n)[codes]


# Without the group at prediction


@method("logistic regression", classes=(2, 3))
def logistic_regression(split: Split, constraint: str, seed: int) -> Candidates:
    """Unconstrained: the point that the others start from."""
    model = linear(split).fit(split.train.Z, split.train.y)
    yield f"C={model.C}", lambda part: model.predict(part.Z)


@method("reweighing", classes=(2, 3))
def reweighing(split: Split, constraint: str, seed: int) -> Candidates:
    """Weights P(s)P(y) / P(s, y) of Kamiran & Calders, to powers from 0.25 to 2."""
    train = split.train
    joint = np.zeros((split.n_groups, split.n_classes))
    np.add.at(joint, (train.s, train.y), 1 / len(train.y))
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    weight = (product / np.maximum(joint, 1 / len(train.y)))[train.s, train.y]
    for power in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0):
        model = linear(split).fit(train.Z, train.y, sample_weight=weight**power)
        yield f"power={power}", lambda part, model=model: model.predict(part.Z)


@method("LEACE", classes=(2, 3))
def leace(split: Split, constraint: str, seed: int) -> Candidates:
    """Features moved towards their erasure, then logistic regression; for equalized odds the same.

    What is erased is everything by which a linear model could tell the group.
    """
    from concept_erasure import LeaceEraser

    groups = torch.from_numpy(one_hot(split.train.s, split.n_groups))
    eraser = LeaceEraser.fit(torch.from_numpy(split.train.Z).double(), groups)
    erased = {}
    for name in ("train", "val", "test"):
        part = getattr(split, name)
        erased[id(part)] = eraser(torch.from_numpy(part.Z).double()).numpy()

    def features(part: Part, share: float) -> np.ndarray:
        return part.Z + share * (erased[id(part)] - part.Z)

    for share in (0.25, 0.5, 0.7, 0.85, 0.95, 1.0):
        model = linear(split).fit(features(split.train, share), split.train.y)
        yield (
            f"erased={share}",
            lambda part, model=model, share=share: model.predict(features(part, share)),
        )


@method("GridSearch")
def grid_search(split: Split, constraint: str, seed: int) -> Candidates:
    """Take fairlearn's grid over the multipliers: 50 classifiers for two groups, 100 for more."""
    from fairlearn.reductions import GridSearch

    size = 50 if split.n_groups == 2 else 100
    search = GridSearch(linear(split), moments(constraint), grid_size=size)
    search.fit(split.train.Z, split.train.y, sensitive_features=split.train.s)
    for i, model in enumerate(search.predictors_):
        yield f"predictor={i}", lambda part, model=model: model.predict(part.Z)


@method("ExponentiatedGradient", slow=True)
def exponentiated_gradient(split: Split, constraint: str, seed: int) -> Candidates:
    """Take fairlearn's reduction, which predicts with a random member of an ensemble.

    As the slowest by far it gets six of the bounds. The largest would not bind: fairlearn bounds
    the distance of each group from all rows, not that between groups.
    """
    from fairlearn.reductions import ExponentiatedGradient

    for bound in np.delete(bounds(split), [1, 7]):
        model = ExponentiatedGradient(linear(split), moments(constraint, bound))
        model.fit(split.train.Z, split.train.y, sensitive_features=split.train.s)
        yield (
            f"difference_bound={bound}",
            lambda part, model=model: model.predict(part.Z, random_state=seed),
        )


def moments(constraint: str, bound: float | None = None) -> Any:
    """Return fairlearn's object of a constraint."""
    from fairlearn.reductions import DemographicParity, EqualizedOdds

    kind = DemographicParity if constraint == DEMOGRAPHIC_PARITY else EqualizedOdds
    return kind() if bound is None else kind(difference_bound=bound)


@method("AdversarialFairnessClassifier", slow=True)
def adversarial(split: Split, constraint: str, seed: int) -> Candidates:
    """Let fairlearn train a linear predictor against an adversary with 16 hidden units.

    The predictor starts as the logistic regression: from a random start it hardly learns, as each
    step leaves out the direction that helps the adversary. Learning rates fall to 0.
    """
    from fairlearn.adversarial import AdversarialFairnessClassifier

    start = linear(split).fit(split.train.Z, split.train.y)
    epochs, batch_size = 15, 256
    n_steps = epochs * -(-len(split.train.y) // batch_size)
    for alpha in (0.02, 0.05, 0.1, 0.2, 0.4, 1.0):
        predictor = nn.Linear(*start.coef_.T.shape)
        with torch.no_grad():
            predictor.weight.copy_(torch.from_numpy(start.coef_))
            predictor.bias.copy_(torch.from_numpy(start.intercept_))
        schedules: list[Any] = []

        def adam(model, rate, schedules=schedules):
            optimizer = torch.optim.Adam(model.parameters(), lr=rate)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
            schedules.append(falling)
            return optimizer

        def after_step(*args, schedules=schedules, **kwargs):
            for schedule in schedules:
                schedule.step()

        model = AdversarialFairnessClassifier(
            backend="torch",
            predictor_model=nn.Sequential(predictor, nn.Sigmoid()),
            adversary_model=[16, "leaky_relu"],
            predictor_optimizer=functools.partial(adam, rate=1e-3),
            adversary_optimizer=functools.partial(adam, rate=1e-2),
            constraints=constraint,
            alpha=alpha,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=True,
            callbacks=after_step,
            random_state=seed,
        )
        model.fit(split.train.Z, split.train.y, sensitive_features=split.train.s)
        yield f"alpha={alpha}", lambda part, model=model: model.predict(part.Z)


@method("fairret", slow=True)
def fairret(split: Split, constraint: str, seed: int) -> Candidates:
    """Train a linear head on cross-entropy plus fairret's NormLoss; Adam on all rows at once."""
    from fairret.loss import NormLoss
    from fairret.statistic import (
        FalsePositiveRate,
        PositiveRate,
        StackedLinearFractionalStatistic,
        TruePositiveRate,
    )

    Z, y = torch.from_numpy(split.train.Z), torch.from_numpy(split.train.y).float()[:, None]
    groups = torch.from_numpy(one_hot(split.train.s, split.n_groups)).float()
    if constraint == DEMOGRAPHIC_PARITY:
        penalty, given = NormLoss(PositiveRate()), ()
    else:
        both = StackedLinearFractionalStatistic(TruePositiveRate(), FalsePositiveRate())
        penalty, given = NormLoss(both), (y,)
    for weight in np.logspace(-2, -0.25, 10):
        head = nn.Linear(Z.shape[1], 1)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
        for _ in range(400):
            optimizer.zero_grad()
            logits = head(Z)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, y)
            (loss + weight * penalty(logits, groups, *given)).backward()
            optimizer.step()
            schedule.step()
        yield f"weight={weight:.3g}", functools.partial(_positive, head)


def _positive(head: nn.Module, part: Part) -> np.ndarray:
    with torch.no_grad():
        return (head(torch.from_numpy(part.Z)) > 0).numpy()


@method("OxonFair, inferred group")
def oxonfair_inferred(split: Split, constraint: str, seed: int) -> Candidates:
    """Thresholds for y by the group that a second logistic regression infers."""
    model = linear(split).fit(split.train.Z, split.train.y)
    inferred = linear(split).fit(split.train.Z, split.train.s)
    settings: dict[str, Any] = {"inferred_groups": inferred}
    if split.n_groups > 2:
        # The extra class "uncertain" would need 24 million grid points; and a group that is
        # inferred for no row, the small ones, is an error there.
        found = np.unique(inferred.predict_proba(split.val.Z).argmax(axis=1))
        settings["inferred_groups"] = lambda Z: inferred.predict_proba(Z)[:, found]
        settings["threshold"] = 0
    yield from _oxonfair(split, constraint, model, **settings)


@method("LinearPost", classes=(2, 3))
def linear_post(split: Split, constraint: str, seed: int) -> Candidates:
    """Xian & Zhao 2024 (arXiv:2405.04025): the best rule of P(y, g | x), a linear program on val.

    The probabilities are those of a logistic regression of label and group together.
    """
    cells = linear(split).fit(split.train.Z, split.train.y * split.n_groups + split.train.s)

    def posterior(part: Part) -> np.ndarray:
        p = probabilities(cells, part.Z, split.n_classes * split.n_groups)
        return p.reshape(-1, split.n_classes, split.n_groups)

    known = {id(part): posterior(part) for part in (split.val, split.test)}
    for bound in bounds(split):
        prices, _ = fair_prices(known[id(split.val)], constraint, bound, together=False)
        yield f"bound={bound}", lambda part, prices=prices: decide(known[id(part)], prices)


def probabilities(model: LogisticRegression, Z: np.ndarray, n: int) -> np.ndarray:
    """Return (rows, n) probabilities of the codes 0..n-1: zeros for those it never saw."""
    out = np.zeros((len(Z), n))
    out[:, model.classes_] = model.predict_proba(Z)
    return out


@method("FairProjection", classes=(2, 3))
def fair_projection(split: Split, constraint: str, seed: int) -> Candidates:
    """Alghamdi et al. 2022 (arXiv:2206.07801): the probabilities nearest in KL that are fair.

    Their rates differ from those of all groups together by at most a share of the latter, here from
    0.02 to 0.9 of the largest share that is found without constraint. As in the paper the
    multipliers are fitted on train, where each row's group is as likely as a second logistic
    regression says, of features and label; and what is predicted is the most likely label.
    """
    k, n_groups, train = split.n_classes, split.n_groups, split.train
    base = linear(split).fit(train.Z, train.y)
    group = linear(split).fit(np.hstack([train.Z, one_hot(train.y, k)]), train.s)

    def joint(Z: np.ndarray) -> np.ndarray:
        """Return P(y | x) P(g | x, y), (n, k, G)."""
        labels = [np.hstack([Z, np.tile(row, (len(Z), 1))]) for row in np.eye(k)]
        of_group = np.stack([probabilities(group, each, n_groups) for each in labels], axis=1)
        return probabilities(base, Z, k)[:, :, None] * of_group

    mass = joint(train.Z)
    events = np.ones((1, k)) if constraint == DEMOGRAPHIC_PARITY else np.eye(k)
    share = np.einsum("ey,iyg->eg", events, mass) / len(mass)

    def terms(mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what a positive adds to all rows' rate, (n, e), and to a group's less that."""
        within = np.einsum("ey,iyg->ieg", events, mass)
        level = within.sum(axis=2) / share.sum(axis=1)
        return level, within / share - level[:, :, None]

    known = {id(part): terms(joint(part.Z)) for part in (split.val, split.test)}
    level, off = terms(mass)
    p = mass.sum(axis=2)
    rates = np.einsum("ie,ic->ec", level, p)[:, None]
    largest = np.abs(np.einsum("ieg,ic->egc", off, p) / rates).max()

    def projected(x: np.ndarray, alpha: float, p: np.ndarray, level: np.ndarray, off: np.ndarray):
        """Return the projection's log normalizer (n,) and its probabilities (n, k)."""
        up, down = x.reshape(2, *share.shape, k)
        cost = np.einsum("ieg,egc->ic", off, up - down) - alpha * level @ (up + down).sum(axis=1)
        logits = np.log(p) - cost
        total = logsumexp(logits, axis=1, keepdims=True)
        return total[:, 0], np.exp(logits - total)

    x = np.zeros(2 * share.size * k)
    for part in (0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.02):
        alpha = part * largest

        def dual(x: np.ndarray, alpha: float = alpha) -> tuple[float, np.ndarray]:
            total, h = projected(x, alpha, p, level, off)
            differ = np.einsum("ieg,ic->egc", off, h)
            allowed = alpha * np.einsum("ie,ic->ec", level, h)[:, None]
            gradient = np.stack([allowed - differ, allowed + differ]) / len(h)
            return total.mean(), gradient.ravel()

        x = minimize(dual, x, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(x)).x

        def predict(part: Part, x: np.ndarray = x, alpha: float = alpha) -> np.ndarray:
            p = probabilities(base, part.Z, k)
            return projected(x, alpha, p, *known[id(part)])[1].argmax(axis=1)

        yield f"alpha={alpha:.3g}", predict


@method("FRAPPÉ-like", slow=True)
def frappe_like(split: Split, constraint: str, seed: int) -> Candidates:
    """Tifrea et al. 2023 (arXiv:2312.02592): a linear module added to the base model's logits.

    It is trained to stay near the base model's probabilities (cross-entropy) and to give all groups
    alike ones: MinDiff's kernel distance between each group's and the others', 128 rows of each in
    a step, among all rows or among those of a label. The kernel's length is the best on val of
    adult-64, seed 1, of 0.1, 0.3 and 1.
    """
    train, rng = split.train, np.random.default_rng(seed)
    base = linear(split).fit(train.Z, train.y)
    Z = torch.from_numpy(train.Z)
    logits = torch.from_numpy(base.decision_function(train.Z)).float()
    target = logits.sigmoid()
    among = [train.y >= 0] if constraint == DEMOGRAPHIC_PARITY else [train.y == 0, train.y == 1]
    groups = range(1, 2) if split.n_groups == 2 else range(split.n_groups)
    pairs = [
        (np.flatnonzero(rows & (train.s == g)), np.flatnonzero(rows & (train.s != g)))
        for rows in among
        for g in groups
    ]
    for weight in np.logspace(-1.5, 1.0, 8):
        module = nn.Linear(Z.shape[1], 1)
        nn.init.zeros_(module.weight), nn.init.zeros_(module.bias)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
        for _ in range(300):
            optimizer.zero_grad()
            scores = logits + module(Z)[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(scores, target)
            p = scores.sigmoid()
            for one, others in pairs:
                if len(one) and len(others):
                    drawn = (torch.from_numpy(rng.choice(rows, 128)) for rows in (one, others))
                    loss = loss + weight / len(pairs) * _kernel_distance(*(p[d] for d in drawn))
            loss.backward()
            optimizer.step()
            schedule.step()
        weights = (base.coef_[0] + module.weight.detach().numpy()[0]).astype(np.float64)
        constant = base.intercept_[0] + module.bias.item()
        yield (
            f"weight={weight:.3g}",
            lambda part, weights=weights, constant=constant: part.Z @ weights + constant > 0,
        )


def _kernel_distance(a: torch.Tensor, b: torch.Tensor, length: float = 0.3) -> torch.Tensor:
    """Return the squared maximum mean discrepancy of two samples of numbers, Gaussian kernel."""
    both = torch.cat([a, b])
    sign = torch.cat([torch.full_like(a, 1 / len(a)), torch.full_like(b, -1 / len(b))])
    kernel = torch.exp(-((both[:, None] - both) ** 2) / (2 * length**2))
    return sign @ kernel @ sign


ADULT_BY_SEX = ("adult-10", "adult-64", "adult-128")


@method("aif360 MetaFairClassifier", datasets=ADULT_BY_SEX)
def meta_fair(split: Split, constraint: str, seed: int) -> Candidates:
    """Of aif360, for two groups; it has nothing nearer to equalized odds than statistical rate.

    Its Gaussian densities need features that vary and are not the group itself; with the 512
    features of the faces they underflow.
    """
    from aif360.algorithms.inprocessing import MetaFairClassifier

    varies = split.train.Z.std(axis=0) > 1e-3
    train = _aif360(split.train, varies)
    for tau in (0.2, 0.8):
        model = MetaFairClassifier(tau=tau, sensitive_attr="s", type="sr", seed=seed)
        with np.errstate(all="ignore"):
            model.fit(train)
            yield (
                f"tau={tau}",
                lambda part, model=model: model.predict(_aif360(part, varies)).labels,
            )


def _aif360(part: Part, columns: np.ndarray, with_group: bool = False) -> Any:
    """Return aif360's data set, in which the group is a feature unless it is taken out."""
    import pandas as pd
    from aif360.datasets import BinaryLabelDataset

    Z = part.Z[:, columns].astype(np.float64)
    names = [f"z{j}" for j in range(Z.shape[1])]
    data = BinaryLabelDataset(
        df=pd.DataFrame(Z, columns=names).assign(s=part.s.astype(float), y=part.y.astype(float)),
        label_names=["y"],
        protected_attribute_names=["s"],
    )
    if not with_group:
        data.features, data.feature_names = Z, names
    return data


# With the group at prediction


@method("ThresholdOptimizer", needs_group=True)
def threshold_optimizer(split: Split, constraint: str, seed: int) -> Candidates:
    """Take fairlearn's thresholds by group, randomized; only one constraint has a tolerance."""
    from fairlearn.postprocessing import ThresholdOptimizer

    # In float64: it fails on the float32 probabilities that float32 features lead to.
    def wide(part: Part) -> np.ndarray:
        return part.Z.astype(np.float64)

    base = linear(split).fit(wide(split.train), split.train.y)
    for tol in [None, *bounds(split)] if constraint == DEMOGRAPHIC_PARITY else [None]:
        model = ThresholdOptimizer(
            estimator=base,
            constraints=constraint,
            prefit=True,
            predict_method="predict_proba",
            tol=tol,
        )
        model.fit(wide(split.val), split.val.y, sensitive_features=split.val.s)
        yield (
            f"tol={tol}",
            lambda part, model=model: model.predict(
                wide(part), sensitive_features=part.s, random_state=seed
            ),
        )


@method("OxonFair, group known", needs_group=True)
def oxonfair_known(split: Split, constraint: str, seed: int) -> Candidates:
    """Thresholds for y by group."""
    if split.n_groups > 4:
        raise MemoryError(
            "not run: its grid of so many groups' thresholds takes 12 GB and five minutes"
        )
    yield from _oxonfair(split, constraint, linear(split).fit(split.train.Z, split.train.y))


def _oxonfair(split: Split, constraint: str, model: Any, **settings: Any) -> Candidates:
    """Fit thresholds on val: most accurate under each of the bounds.

    With more than two groups, OxonFair's own measures are means over the pairs of groups; here
    they are the largest differences, as in the scores. Its equalized odds is the mean of the
    differences in true and false positive rate.
    """
    from oxonfair import FairPredictor
    from oxonfair.utils import group_metrics as gm
    from oxonfair.utils.group_metric_classes import AddGroupMetrics

    def data(part: Part) -> dict[str, Any]:
        return {"data": part.Z, "target": part.y, "groups": part.s}

    if constraint == DEMOGRAPHIC_PARITY:
        measure = gm.demographic_parity if split.n_groups == 2 else gm.pos_pred_rate.max_diff
    elif split.n_groups == 2:
        measure = gm.equalized_odds
    else:
        largest = gm.true_pos_rate.max_diff, gm.true_neg_rate.max_diff
        measure = AddGroupMetrics(*largest, "equalized odds, largest differences")
    fair = FairPredictor(model, data(split.val), **settings)
    for i, bound in enumerate(bounds(split)):
        fair.fit(gm.accuracy, measure, bound, recompute=i == 0)
        # Later bounds change the thresholds, so a candidate keeps its own.
        yield f"bound={bound}", functools.partial(_oxonfair_predict, fair, fair.offset, data)


def _oxonfair_predict(fair: Any, offset: np.ndarray, data: Any, part: Part) -> np.ndarray:
    fair.set_threshold(offset)
    return fair.predict(data(part))


@method("error-parity", needs_group=True)
def error_parity(split: Split, constraint: str, seed: int) -> Candidates:
    """Cruz & Hardt 2024: thresholds by group, randomized, the most accurate within a tolerance.

    For equalized odds the tolerance is on the sum of both differences, as in the scores. Some of
    its draws are numpy's global ones, whatever its seed; they are seeded here.
    """
    from error_parity import RelaxedThresholdOptimizer

    base = linear(split).fit(split.train.Z, split.train.y)
    norm = {} if constraint == DEMOGRAPHIC_PARITY else {"l_p_norm": 1}
    for bound in bounds(split):
        model = RelaxedThresholdOptimizer(
            predictor=lambda Z: base.predict_proba(Z)[:, 1],
            constraint=constraint,
            tolerance=bound,
            seed=seed,
            **norm,
        )
        model.fit(split.val.Z, split.val.y, group=split.val.s)
        yield f"tolerance={bound}", functools.partial(_error_parity_predict, model, seed)


def _error_parity_predict(model: Any, seed: int, part: Part) -> np.ndarray:
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        return model.predict(part.Z, group=part.s)
    finally:
        np.random.set_state(state)  # noqa: NPY002


@method("CorrelationRemover", needs_group=True, classes=(2, 3))
def correlation_remover(split: Split, constraint: str, seed: int) -> Candidates:
    """Take fairlearn's linear removal of the group; its transform takes the group's columns."""
    from fairlearn.preprocessing import CorrelationRemover

    n_columns = split.n_groups - 1

    def table(part: Part) -> np.ndarray:
        return np.column_stack([one_hot(part.s, split.n_groups)[:, 1:], part.Z])

    train = table(split.train)
    for alpha in np.arange(1, 9) / 8:
        remover = CorrelationRemover(sensitive_feature_ids=list(range(n_columns)), alpha=alpha)
        model = linear(split).fit(remover.fit_transform(train), split.train.y)
        yield (
            f"alpha={alpha}",
            lambda part, model=model, remover=remover: model.predict(
                remover.transform(table(part))
            ),
        )


@method(
    "aif360 PrejudiceRemover",
    needs_group=True,
    datasets=("adult-10", "adult-64"),
    constraints=(DEMOGRAPHIC_PARITY,),
    slow=True,
)
def prejudice_remover(split: Split, constraint: str, seed: int) -> Candidates:
    """Of aif360: a weight vector for each of two groups; its penalty is for demographic parity.

    It writes text files, loops over rows in Python and takes minutes where others take seconds,
    so it gets the narrow tasks only.
    """
    from aif360.algorithms.inprocessing import PrejudiceRemover

    # It starts "python", which must be this one, and does not pass on what is ignored here.
    folder = os.path.dirname(sys.executable)
    if os.environ["PATH"].split(os.pathsep)[0] != folder:
        os.environ["PATH"] = folder + os.pathsep + os.environ["PATH"]
    os.environ["PYTHONWARNINGS"] = "ignore"
    varies = np.full(split.train.Z.shape[1], True)
    train = _aif360(split.train, varies, with_group=True)
    for eta in (1.0, 5.0, 8.0, 12.0, 20.0, 50.0):
        model = PrejudiceRemover(eta=eta, sensitive_attr="s", class_attr="y").fit(train)
        yield (
            f"eta={eta}",
            lambda part, model=model: model.predict(_aif360(part, varies, True)).labels,
        )


def quiet() -> None:
    """Silence what the packages say of settings and of groups with few rows."""
    import logging

    warnings.filterwarnings("ignore")
    logging.getLogger("oxonfair").setLevel(logging.ERROR)
