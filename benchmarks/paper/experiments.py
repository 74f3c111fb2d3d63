"""The experiments: for each task and seed, a list of rows. What is computed is settled here.

An experiment has the paper's table or figure it stands for, its tasks, and a function from a
`Bench` to rows. Rows are flat: "system", the settings that were varied, and what `systems.measure`
gives; figures get their points and curves as rows of their own, with lists in them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from torch import nn

from skfairft.factorization import floor_importance, neutralize
from skfairft.fisher import GroupFisher, gradient_energy, layer_fisher
from skfairft.head import split_tail
from skfairft.initial import StartingHead, starting_head

from . import tasks
from .pretrain import retrain
from .systems import (
    Row,
    choose_C,
    constrained,
    estimator,
    fit,
    least_cosine,
    main_three,
    measures,
    network_row,
    paper,
    penalized,
    svd,
    tl,
)
from .tasks import Part, Task, few_rows, with_train


@dataclass
class Bench:
    """What an experiment works on: a task, C for its fits, and whether to be quick about it."""

    task: Task
    C: float
    quick: bool = False

    def fit(self, system: str, settings: dict, **columns) -> Row:
        """Return the row of one fit; ``columns`` may hold its settings, to be found by."""
        return fit(self.task, system, self.C, settings, **columns)


@dataclass(frozen=True)
class Experiment:
    """Rows of one table or figure."""

    name: str
    title: str
    tasks: tuple[str, ...]
    rows: Callable[[Bench], Iterator[Row]]
    fits: bool = True  # whether C is needed


def statistics(bench: Bench) -> Iterator[Row]:
    """Table 1: rows of each part, people of each cell, and the labels' own disparity."""
    task = bench.task
    for part in ("train", "val", "test"):
        rows: Part = getattr(task, part)
        counts = np.zeros((rows.s.max() + 1, task.n_classes), dtype=int)
        np.add.at(counts, (rows.s, rows.y), 1)
        share = (counts / counts.sum(axis=1, keepdims=True)).T
        yield {
            "system": part,
            "rows": len(rows.y),
            "features": rows.Z.shape[1],
            "counts": counts.tolist(),  # (G, k)
            "label DDP": float((share.max(axis=1) - share.min(axis=1)).max()),
        }


def representations(bench: Bench) -> Iterator[Row]:
    """Figure 1: PCA of the test rows that the fine-tuned head predicts as positive, by group.

    The extractor is frozen, so the representation that the head sees is the pre-trained one; what
    fine-tuning changes is which rows are predicted as positive. Beside the points: how well a
    linear probe (5-fold, AUC) tells the groups apart, in all features and in the two drawn.
    """
    task = bench.task
    clf = estimator(task, bench.C, **tl())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.fit(task.train.Z, task.train.y, sensitive_features=task.train.s)
    chosen = clf.predict(task.test.Z) == 1
    Z, s = task.test.Z[chosen], task.test.s[chosen]
    pca = PCA(2).fit(Z)
    points = pca.transform(Z)
    # Both groups alike, at most 300 of each, so that the larger one does not cover the other.
    shown = min(300, *np.bincount(s, minlength=2))
    rng = np.random.default_rng(task.seed)
    rows = np.concatenate([rng.permutation(np.flatnonzero(s == g))[:shown] for g in (0, 1)])
    yield {
        "system": "TL",
        "positives": np.bincount(s, minlength=2).tolist(),
        "explained": float(pca.explained_variance_ratio_.sum()),
        "probe": probe_auc(Z, s),
        "probe of two components": probe_auc(points, s),
        "probe of all rows": probe_auc(task.test.Z, task.test.s),
        # Only the picture of one seed is drawn.
        **(
            {"points": np.round(points[rows], 3).tolist(), "groups": s[rows].tolist()}
            if task.seed == 0
            else {}
        ),
        **measures(task, clf.predict),
    }


def probe_auc(Z: np.ndarray, s: np.ndarray) -> float:
    """Return the cross-validated AUC with which a logistic regression tells two groups apart."""
    if np.bincount(s, minlength=2).min() < 5:
        return float("nan")
    scale = Z.std(axis=0)
    Z = (Z - Z.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    scores = cross_val_predict(
        LogisticRegression(max_iter=1000), Z, s, cv=5, method="decision_function"
    )
    return float(roc_auc_score(s, scores))


def fisher_by_group(bench: Bench) -> Iterator[Row]:
    """Figure 3: the Fisher diagonal of all weights, by group, and what chance alone would give.

    At the pre-trained head, at the head fitted on all rows, and, the other reading of "the model
    trained by D_S=1 or D_S=2", at heads that are each fitted on one group's rows. As a control the
    same with the groups shuffled: the agreement that two random groups of these sizes have.
    """
    task = bench.task
    pre_trained = task.head if task.head is not None else None
    everyone = _fitted_linear(task.train, task, bench.C)
    heads: dict[str, list[nn.Module]] = {"fitted": [everyone] * 2}
    if pre_trained is not None and not task.hidden:
        heads["pre-trained"] = [pre_trained] * 2
    own = [task.train.take(np.flatnonzero(task.train.s == g)) for g in (0, 1)]
    if all(len(np.unique(part.y)) == task.n_classes for part in own):
        heads["fitted on each group"] = [_fitted_linear(part, task, bench.C) for part in own]
    shuffled = np.random.default_rng(task.seed).permutation(task.train.s)
    for at, pair in heads.items():
        for groups, s in (("true", task.train.s), ("shuffled", shuffled)):
            entries = np.stack(
                [_fisher_entries(head, task.train, s == g) for g, head in enumerate(pair)]
            )  # (2, d, k)
            importance = np.sqrt(entries.sum(axis=2))
            yield {
                "system": at,
                "groups": groups,
                "cosine": least_cosine(importance),
                "cosine of entries": least_cosine(np.sqrt(entries.reshape(2, -1))),
                "rank correlation": float(spearmanr(*importance).statistic),
                "ratio": float(importance[1].sum() / importance[0].sum()),
                # All weights are drawn for the small head only.
                **({"fisher": entries.tolist()} if entries.size <= 64 else {}),
            }


def _fitted_linear(part: Part, task: Task, C: float) -> nn.Module:
    """Return a linear head fitted on rows, as in TL."""
    clf = estimator(with_train(task, part), C, **tl())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clf.fit(part.Z, part.y, sensitive_features=part.s).head_


def _fisher_entries(head: nn.Module, part: Part, rows: np.ndarray) -> np.ndarray:
    """Return the mean squared gradient of each weight (d, k) over some rows (Eq. 1)."""
    Z = torch.from_numpy(part.Z[rows]).double()
    y = torch.from_numpy(part.y[rows])
    with torch.no_grad():
        logits = head.double()(Z)
        residual = torch.softmax(logits, 1) - nn.functional.one_hot(y, logits.shape[1])
    return (Z.square().T @ residual.square() / len(Z)).numpy()


def main_comparison(bench: Bench) -> Iterator[Row]:
    """Figure 4: TL, f+SVD and the paper's method."""
    rank = bench.task.rank
    for system, settings in main_three(rank).items():
        yield bench.fit(system, settings, rank_asked=settings["rank"])


def fair_pretraining(bench: Bench) -> Iterator[Row]:
    """Table 2: a pre-trained network as it is, and after fine-tuning its head."""
    yield network_row(bench.task, "pre-trained", bench.task.model)
    yield from main_comparison(bench)


def against_penalties(bench: Bench) -> Iterator[Row]:
    """Table 3: the paper's method, Retrain+DP and +EO, and our constrained heads."""
    task = bench.task
    adult = task.model is not None
    yield from main_comparison(bench)
    if adult:
        yield network_row(task, "pre-trained", task.model)
        yield _retrained(task, "whole network, TL", None, 0.0)
    weights = (0.25, 0.5, 0.75, 0.9, 1.0) if adult else (0.5, 0.9)
    for kind, constraint in tasks.PENALTIES.items():
        for intensity in tasks.INTENSITIES:
            columns = {"constraint": constraint, "intensity": intensity}
            yield bench.fit(f"Retrain+{kind}", penalized(constraint, intensity), **columns)
            if adult:
                yield _retrained(task, f"whole network, Retrain+{kind}", constraint, intensity)
        for solver in ("plug_in", "closed_form", "fine_tune"):
            for weight in weights:
                yield bench.fit(
                    f"ours {kind}, {solver}",
                    constrained(solver, constraint, weight),
                    constraint=constraint,
                    intensity=weight,
                )


def _retrained(task: Task, system: str, constraint: str | None, intensity: float) -> Row:
    train = task.train
    network = retrain(
        task.model,
        train.X,
        train.y,
        train.s,
        constraint=constraint,
        intensity=intensity,
    )
    parameters = sum(p.numel() for p in network.parameters())
    columns = {"constraint": constraint, "intensity": intensity, "parameters": parameters}
    return network_row(task, system, network, **columns)


def group_weights(bench: Bench) -> Iterator[Row]:
    """Ablation: from one group's importance to the other's, before and after training."""
    rank = bench.task.rank
    for epochs in (0, None):
        yield bench.fit("TL", tl() | _epochs(epochs), trained=epochs is None)
        for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
            settings = paper(rank, group_weights=[1 - weight, weight], **_epochs(epochs))
            yield bench.fit("paper", settings, group_weight=weight, trained=epochs is None)


def _epochs(epochs: int | None) -> dict:
    """Return the settings of exactly so many epochs; None is until the training ends itself."""
    if epochs is None:
        return {}
    # Of AdamW for every layer: L-BFGS would be at its optimum after one epoch.
    stop = {"early_stopping": False, "tol": None}
    return {"max_epochs": 0} if epochs == 0 else {"max_epochs": epochs, "lr": 1e-3, **stop}


def rank_sweep(bench: Bench) -> Iterator[Row]:
    """Parameters, seconds and errors by rank, against the full layer."""
    d, k = bench.task.head_shape
    yield bench.fit("TL", tl())
    for rank in _ranks(d, k):
        yield bench.fit("f+SVD", svd(rank), rank_asked=rank)
        yield bench.fit("paper", paper(rank), rank_asked=rank)


def _ranks(d: int, k: int) -> list[int]:
    """Return ranks worth trying for a layer."""
    if k >= 500:
        return [1, 8, 64]
    return [rank for rank in (1, 2, 4, 8, 16, 32) if rank <= min(d, k)]


def where_rank_bites(bench: Bench) -> Iterator[Row]:
    """More classes or groups: every rank, before and after training, three kinds of importance."""
    task = bench.task
    for epochs in (0, None):
        yield bench.fit("TL", tl() | _epochs(epochs), trained=epochs is None)
    if task.hidden or task.n_classes == 2:
        ranks = [rank for rank in (1, 2, 4) if rank <= min(task.head_shape)]
    else:
        ranks = [r for r in (1, 2, 3, 4, 8) if r < task.n_classes]
    for rank in ranks:
        for epochs in (0, None):
            columns = {"rank_asked": rank, "trained": epochs is None}
            until = _epochs(epochs)
            yield bench.fit("f+SVD", svd(rank) | until, **columns)
            yield bench.fit("paper", paper(rank) | until, **columns)
            pooled = paper(rank, group_weights="proportional")
            yield bench.fit("paper, proportional", pooled | until, **columns)


def few_shot(bench: Bench) -> Iterator[Row]:
    """Few training rows, where the start could matter; C is chosen anew for each number."""
    whole = bench.task
    ranks = [whole.rank] if not whole.hidden else [1, 2, 8]
    for n in (50, 200) if bench.quick else (50, 100, 200, 500, 1000):
        task = with_train(whole, few_rows(whole.train, n, whole.seed))
        few = Bench(task, choose_C(task), bench.quick)
        yield few.fit("TL", tl(), rows=n)
        for rank in ranks:
            yield few.fit("f+SVD", svd(rank), rows=n, rank_asked=rank)
            yield few.fit("paper", paper(rank), rows=n, rank_asked=rank)


def training_budget(bench: Bench) -> Iterator[Row]:
    """Training budgets: the start itself, a few epochs of AdamW, and the end of training."""
    for epochs in (0, 1, 3, 10, 30, None):
        for system, settings in main_three(bench.task.rank).items():
            yield bench.fit(system, settings | _epochs(epochs), max_epochs=epochs)


def fisher_choices(bench: Bench) -> Iterator[Row]:
    """Empirical or true Fisher, at the pre-trained or at the fitted layer.

    The true one takes the label's expectation under the head's own probabilities in place of the
    label. The layer that is cut is the pre-trained one each time (where there is none, the fitted
    one); only the importance differs. The estimator takes it as a scale of the features: as
    fine-tuning standardizes them, the plain SVD of diag(I) W on Z / I is the weighted SVD of W.
    """
    task = bench.task
    train = task.train
    Z, y, s = (torch.from_numpy(values) for values in (train.Z, train.y, train.s))
    w = torch.ones(len(Z), dtype=torch.float64)
    first = starting_head(task.head, Z, y, w, task.n_classes, bench.C)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = estimator(task, bench.C, **tl())
        clf.fit(train.Z, train.y, sensitive_features=train.s)
    layer, tail = split_tail(clf.head_)
    fitted = StartingHead(layer.weight.detach().double(), layer.bias.detach().double(), tail)
    found = {}
    for at, start in (("pre-trained", first), ("fitted", fitted)):
        if at == "pre-trained" and task.head is None:
            continue
        for kind in ("empirical", "true"):
            if kind == "empirical":
                statistics = layer_fisher(
                    Z,
                    y,
                    s,
                    w,
                    n_groups=int(s.max()) + 1,
                    layer=start.output,
                    tail=start.tail,
                )
            else:
                statistics = true_fisher(Z, s, start)
            groups = statistics.importance
            found[at, kind] = groups
            weights = torch.full((len(groups),), 1 / len(groups), dtype=torch.float64)
            size = Z.double().square().mean(dim=0).sqrt()
            importance = floor_importance(neutralize(groups, weights), size)
            for epochs in (0, None):
                yield {
                    **_with_importance(bench, first, importance, _epochs(epochs)),
                    "system": "paper",
                    "fisher": kind,
                    "at": at,
                    "trained": epochs is None,
                    "cosine": least_cosine(groups.numpy()),
                    "cosine with empirical": least_cosine(
                        torch.stack(
                            [
                                importance,
                                floor_importance(neutralize(found[at, "empirical"], weights), size),
                            ]
                        ).numpy()
                    ),
                }
    for epochs in (0, None):
        for system, settings in (("TL", tl()), ("f+SVD", svd(task.rank))):
            yield bench.fit(system, settings | _epochs(epochs), trained=epochs is None)


def true_fisher(Z: torch.Tensor, s: torch.Tensor, start: StartingHead):
    """Return Fisher statistics whose labels are drawn from the head's own probabilities."""
    output = start.output(Z)
    logits = output if start.tail is None else start.tail(output)
    probabilities = torch.softmax(logits.detach(), dim=1)
    energy = torch.zeros(len(Z), dtype=torch.float64)
    for label in range(logits.shape[1]):
        labels = torch.full((len(Z),), label)
        energy += probabilities[:, label] * gradient_energy(output, labels, start.tail)
    fisher = GroupFisher(int(s.max()) + 1, Z.shape[1])
    return fisher.update(Z, energy, s).result()


def _with_importance(
    bench: Bench, first: StartingHead, importance: torch.Tensor, until: dict
) -> Row:
    """Fit the paper's method with an importance (d,) of one's own."""
    task = bench.task
    scale = importance.numpy()
    linear = nn.Linear(*first.weight.shape).double()
    with torch.no_grad():
        linear.weight.copy_((importance[:, None] * first.weight).T)
        linear.bias.copy_(first.bias)
    hidden_tail = [] if first.tail is None else list(first.tail)[:-1]
    head = nn.Sequential(linear, *hidden_tail) if hidden_tail else linear
    parts = {
        name: Part((getattr(task, name).Z / scale), getattr(task, name).y, getattr(task, name).s)
        for name in ("train", "val", "test")
    }
    scaled = Task(task.name, task.seed, **parts, head=head, rank=task.rank)
    return fit(scaled, "paper", bench.C, svd(task.rank) | until)


FACES_LAST = tuple(
    f"{what}, {backbone}, last"
    for what in ("lfw-male", "lfw-makeup", "celeba")
    for backbone in ("resnet18", "mobilenet_v2")
)
FACES_LAYER = tuple(f"{what}, resnet18, layer" for what in ("lfw-male", "lfw-makeup", "celeba"))
FAIR = tuple(
    f"adult, f_F {kind} {intensity}" for kind in tasks.PENALTIES for intensity in tasks.INTENSITIES
)
LAYERS = ("adult", "adult, hidden layer", "celeba, resnet18, layer")

EXPERIMENTS = {
    each.name: each
    for each in (
        Experiment(
            "table1",
            "Table 1: the datasets",
            ("adult", *FACES_LAST),
            statistics,
            fits=False,
        ),
        Experiment(
            "figure1",
            "Figure 1: representations by group",
            ("adult", *FAIR),
            representations,
        ),
        Experiment(
            "figure3",
            "Figure 3: Fisher information by group",
            ("adult", *FAIR, *(name for name in FACES_LAST if "resnet18" in name)),
            fisher_by_group,
        ),
        Experiment(
            "figure4",
            "Figure 4: TL, f+SVD and the paper's method",
            ("adult", "adult, hidden layer", *FACES_LAST, *FACES_LAYER),
            main_comparison,
        ),
        Experiment(
            "table2",
            "Table 2: fair pre-trained models",
            ("adult", *FAIR),
            fair_pretraining,
        ),
        Experiment(
            "table3",
            "Table 3: against constraints in fine-tuning",
            ("adult", "lfw-makeup, resnet18, last", "celeba, resnet18, last"),
            against_penalties,
        ),
        Experiment("weights", "Ablation: the groups' weights", LAYERS, group_weights),
        Experiment(
            "ranks",
            "Rank, parameters and seconds",
            (*LAYERS, "lfw-makeup, mobilenet_v2, layer"),
            rank_sweep,
        ),
        Experiment(
            "many",
            "Several classes, several groups",
            (
                "hair, resnet18, last",
                "occupation",
                "separate signals",
                "adult by sex and race",
                "adult by sex and race, hidden layer",
                "celeba by sex and age, resnet18, layer",
            ),
            where_rank_bites,
        ),
        Experiment(
            "few",
            "Few training rows",
            (*LAYERS, "lfw-makeup, resnet18, layer", "lfw-male, resnet18, layer"),
            few_shot,
        ),
        Experiment(
            "budget",
            "The training budget",
            (*LAYERS, "lfw-makeup, resnet18, layer"),
            training_budget,
        ),
        Experiment(
            "fisher",
            "Which Fisher information, where",
            (*LAYERS, "hair, resnet18, last"),
            fisher_choices,
        ),
    )
}
