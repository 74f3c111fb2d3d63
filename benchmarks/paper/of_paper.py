"""What the paper shows: its tables, figures and ablation, and the ranks that it speaks of.

Functions from a `Bench` to rows, which are flat: "system", the settings that were varied, and what
`systems.measure` gives; figures get their points and curves as rows of their own, with lists in
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from torch import nn

from skfairft.head.measure import forget

from .pretrain import retrain
from .systems import (
    Bench,
    Row,
    constrained,
    epochs_of,
    fitted,
    least_cosine,
    main_three,
    measures,
    network_row,
    paper,
    penalized,
    svd,
    tl,
)
from .tasks import INTENSITIES, PENALTIES, Part, Task, with_train


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
    clf = fitted(task, bench.C, **tl())
    chosen = clf.predict(task.test.Z) == 1
    Z, s = task.test.Z[chosen], task.test.s[chosen]
    points = PCA(2).fit_transform(Z)
    # Both groups alike, at most 300 of each, so that the larger one does not cover the other.
    shown = min(300, *np.bincount(s, minlength=2))
    rng = np.random.default_rng(task.seed)
    rows = np.concatenate([rng.permutation(np.flatnonzero(s == g))[:shown] for g in (0, 1)])
    yield {
        "system": "TL",
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
    train = task.train
    everyone = _fitted_linear(train, task, bench.C)
    heads: dict[str, Callable[[np.ndarray], list[nn.Module]]] = {
        "fitted": lambda s: [everyone] * 2,
        "fitted on each group": lambda s: [
            _fitted_linear(train.take(np.flatnonzero(s == g)), task, bench.C) for g in (0, 1)
        ],
    }
    if task.head is not None:
        heads = {"pre-trained": lambda s: [task.head] * 2} | heads
    shuffled = np.random.default_rng(task.seed).permutation(train.s)
    for at, pair_of in heads.items():
        for groups, s in (("true", train.s), ("shuffled", shuffled)):
            entries = np.stack(
                [_fisher_entries(head, train, s == g) for g, head in enumerate(pair_of(s))]
            )  # (2, d, k)
            importance = np.sqrt(entries.sum(axis=2))
            yield {
                "system": at,
                "groups": groups,
                "cosine": least_cosine(importance),
                "rank correlation": float(spearmanr(*importance).statistic),
                "ratio": float(importance[1].sum() / importance[0].sum()),
                # All weights are drawn for the small head, of one seed.
                **({"fisher": entries.tolist()} if task.seed == 0 and entries.size <= 64 else {}),
            }


def _fitted_linear(part: Part, task: Task, C: float) -> nn.Module:
    """Return a linear head fitted on rows, as in TL."""
    return fitted(with_train(task, part), C, **tl()).head_


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
    for kind, constraint in PENALTIES.items():
        for intensity in INTENSITIES:
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
        yield bench.fit("TL", tl() | epochs_of(epochs), trained=epochs is None)
        for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
            settings = paper(rank, group_weights=[1 - weight, weight], **epochs_of(epochs))
            yield bench.fit("paper", settings, group_weight=weight, trained=epochs is None)


def rank_sweep(bench: Bench) -> Iterator[Row]:
    """Parameters, seconds and errors by rank, against the full layer."""
    systems = [("TL", tl(), {})]
    for rank in _ranks(*bench.task.head_shape):
        systems += [("f+SVD", svd(rank), {"rank_asked": rank})]
        systems += [("paper", paper(rank), {"rank_asked": rank})]
    for system, settings, columns in systems:
        forget()  # else the first fit would pay for the statistics of all
        yield bench.fit(system, settings, **columns)


def _ranks(d: int, k: int) -> list[int]:
    """Return ranks worth trying for a layer."""
    if k >= 500:
        return [1, 8, 64]
    return [rank for rank in (1, 2, 4, 8, 16, 32) if rank <= min(d, k)]
