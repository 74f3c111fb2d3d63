"""Beyond the paper: where rank can bite, where the start could matter, whose Fisher information.

Functions from a `Bench` to rows, as in `of_paper`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from skfairft.head.modules import split_tail
from skfairft.head.start import StartingHead, starting_head
from skfairft.lowrank.factorization import floor_importance, neutralize
from skfairft.lowrank.fisher import FisherStatistics, GroupFisher, gradient_energy, layer_fisher
from skfairft.lowrank.moments import column_moments
from skfairft.rows.tensor_rows import TensorRows

from .systems import (
    Bench,
    Row,
    as_written,
    by_group,
    choose_C,
    epochs_of,
    fit,
    fitted,
    least_cosine,
    main_three,
    paper,
    svd,
    tl,
)
from .tasks import Part, Task, few_rows, with_train

# Epochs of AdamW; 0 is the factorization untouched, None the end of training.
BUDGETS = (0, 1, 3, 10, 30, None)


def where_rank_bites(bench: Bench) -> Iterator[Row]:
    """More classes or groups: every rank, before and after training, three kinds of importance."""
    task = bench.task
    for epochs in (0, None):
        yield bench.fit("TL", tl() | epochs_of(epochs), trained=epochs is None)
    if task.hidden or task.n_classes == 2:
        ranks = [rank for rank in (1, 2, 4) if rank <= min(task.head_shape)]
    else:
        ranks = [r for r in (1, 2, 3, 4, 8) if r < task.n_classes]
    for rank in ranks:
        for epochs in (0, None):
            columns = {"rank_asked": rank, "trained": epochs is None}
            until = epochs_of(epochs)
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
    for epochs in BUDGETS:
        for system, settings in main_three(bench.task.rank).items():
            yield bench.fit(system, settings | epochs_of(epochs), max_epochs=epochs)
    yield from budget_as_written(bench)


def budget_as_written(bench: Bench) -> Iterator[Row]:
    """Take the same steps of AdamW as Algorithm 1 is written: on Eq. 4's very factors.

    At the finite budgets only. The start is the same head, and the end is the same optimum
    wherever there is one.
    """
    for epochs in BUDGETS:
        for system, settings in main_three(bench.task.rank).items():
            if epochs:
                name, how = as_written(system, settings | epochs_of(epochs))
                yield bench.fit(name, how, max_epochs=epochs)


def other_reading(bench: Bench) -> Iterator[Row]:
    """Section 3.3's other reading: importance from heads that are fitted on each group's rows.

    All systems are cut from a head that is fitted on the features, TL too, for that is what a head
    of one group's rows is; so a task's pre-trained last layer is left aside. With two classes the
    fitted head has rank one, which the cut keeps whatever its weights: there the start and the end
    are run only. A row of the method needs rows of every class in every group.
    """
    task = bench.task
    systems = main_three(task.rank) | {"paper, heads by group": by_group(task.rank)}
    n_cells = task.n_classes * (int(task.train.s.max()) + 1)
    if not np.bincount(task.train.y + task.n_classes * task.train.s, minlength=n_cells).all():
        del systems["paper, heads by group"]
    for epochs in BUDGETS if task.n_classes > 2 else (0, None):
        for system, settings in systems.items():
            how = {"head": None} | settings | epochs_of(epochs)
            yield bench.fit(system, how, rank_asked=settings["rank"], max_epochs=epochs)


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
    # The estimator's own: dead features have no size but 1, and their importance is to be floored.
    mean, scale = column_moments(Z, w)
    size = (mean.square() + scale.square()).sqrt()
    first = starting_head(task.head, TensorRows(Z, y, w), task.n_classes, bench.C)
    layer, tail = split_tail(fitted(task, bench.C, **tl()).head_)
    last = StartingHead(layer.weight.detach().double(), layer.bias.detach().double(), tail)
    n_groups = int(s.max()) + 1
    for at, start in (("pre-trained", first), ("fitted", last)):
        if at == "pre-trained" and task.head is None:
            continue
        here = {"layer": start.output, "tail": start.tail}
        kinds = {
            "empirical": layer_fisher(TensorRows(Z, y, w, s), n_groups=n_groups, **here).importance,
            "true": true_fisher(Z, s, start).importance,
        }
        weights = torch.full((n_groups,), 1 / n_groups, dtype=torch.float64)
        importance = {
            kind: floor_importance(neutralize(groups, weights), size)
            for kind, groups in kinds.items()
        }
        for kind, groups in kinds.items():
            both = torch.stack([importance[kind], importance["empirical"]])
            for epochs in (0, None):
                yield {
                    **_with_importance(bench, first, importance[kind], epochs_of(epochs)),
                    "system": "paper",
                    "fisher": kind,
                    "at": at,
                    "trained": epochs is None,
                    "cosine": least_cosine(groups.numpy()),
                    "cosine with empirical": least_cosine(both.numpy()),
                }
    for epochs in (0, None):
        for system, settings in (("TL", tl()), ("f+SVD", svd(task.rank))):
            yield bench.fit(system, settings | epochs_of(epochs), trained=epochs is None)


def true_fisher(Z: torch.Tensor, s: torch.Tensor, start: StartingHead) -> FisherStatistics:
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
