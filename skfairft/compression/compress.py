"""`compress`: a trained model with thinner layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..backbone.batches import ModuleBatches
from ..backbone.modes import in_training_modes
from ..inputs.by_name import by_name
from ..inputs.checks import check_group_weights, found_weights
from ..inputs.encoding import encode_groups
from ..inputs.index_order import warn_of_index_order
from ..inputs.warn import warn_user
from ..inputs.words import joined, listed
from ..lowrank.cut import borrowing, needs_gradients
from ..lowrank.maps import LayerMap
from ..rows.hold_out import hold_out
from .calibration import calibrate, graded_layers
from .checks import (
    check_labels,
    check_module,
    check_running,
    check_settings,
    choose_layers,
    warn_of_bound,
    warn_of_groups,
)
from .outputs import MEANINGS, meaning_of, warn_of_probabilities
from .plan import Plan
from .sampled import drawing_shares
from .training import Training

__all__ = ["compress"]

# Of gradients that tell which layers of several need their ranks.
_TEMPERATURE = 2.0


@by_name
@in_training_modes
def compress(
    model: nn.Module,
    X: Any,
    *,
    sensitive_features: Any,
    rank: int | float | Mapping[str, int | float] | None = None,
    parameters: float | None = None,
    flops: float | None = None,
    layers: list[str] | str | None = None,
    importance: str = "auto",
    sequential: bool | str = "auto",
    group_weights: Any = "auto",
    borrowed_rows: float = 100.0,
    refine: str | None = None,
    y: Any = None,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    max_iter: int = 100,
    max_epochs: int = 3,
    validation_fraction: float = 0.2,
    preprocess: Callable[[Any], Any] | None = None,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> nn.Module:
    """Return a copy of a trained model in which layers are two thin ones.

    The rows are looked at for what the layers see in each group. A layer is cut such that its
    outputs change least, with all groups counting the same, few rows or many, and its bias takes
    up the change at the mean. No labels are needed. Of several layers each is cut by what it gets
    behind those that are cut already. With ``refine`` the small model is then trained on what
    the uncut one says.

    Parameters
    ----------
    model : nn.Module
        Trained; it is left as it was, but for what its own forward writes into it.
    X : array-like, tensor, DataFrame, list or dataset of n rows
        Inputs of the model, as `FrozenFeatureExtractor` takes them. Some hundred rows of each group
        or more, of the kind that the model is used on.
    sensitive_features : array-like of shape (n,) or (n, c)
        Group of each row.
    rank : int, float or mapping of layer name to int or float, optional
        Width between the two layers: at least 1; at most the narrower side. A float in (0, 1] is
        the share of energy (of the squared singular values, in the metric) to keep.
    parameters, flops : float, optional
        Instead of a rank: the share in (0, 1) of what the layers have whole, of their parameters,
        or of the multiplications that a row takes in them; what is left alone comes on top. Where
        the loss weighs the outputs it is divided rank by rank, to where one spares most for what
        it costs; a layer may stay whole. Else each layer has the same share; a last one that takes
        a tenth of the budget or less stays whole unless it is named.
    layers : list of str or str, optional
        Names of layers, as in ``model.named_modules()``: ``nn.Linear``, on one vector for each row
        or on tokens; ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d`` of one group; ``Conv1D`` of
        transformers. None is every one that runs once for each batch, rows first, and that is
        smaller cut than whole; with a mapping as ``rank``, those that it names. For
        ``nn.MultiheadAttention`` see `split_attention`.
    importance : {"auto", "covariance", "kfac", "fisher", "uniform"}, default="auto"
        What an error in each direction counts. "covariance" is the groups' second moments of the
        layer's inputs; "kfac" these, and at the outputs those of the loss's gradient; "fisher" the
        paper's (Eqs. 1 and 2); "uniform" the plain singular value decomposition (SVD), which
        heeds no group. "auto" is "kfac" where ``loss`` is a name, for the layers to which its
        gradient comes and whose narrower side is at most 2,048 wide, and else "covariance". Of
        several layers "kfac" takes gradients at log-odds divided by 2.
    sequential : bool or "auto", default="auto"
        Whether layers are cut in the order in which they run, each such that on what it gets
        behind those that are cut it gives what it gave: reduced-rank regression. The rows are read
        again for each layer, or all at once that get the same input. "auto" is True with
        ``importance="auto"``. Of "fisher" and "uniform" it must be False.
    group_weights : "auto", None, "minimax", "proportional", dict, Series or array-like
        How much each group counts. None is all alike; "minimax" such that the group with the
        largest error has the least that can be, or where layers are cut in turn the best for that
        group of three cuts: all alike, by their rows, and by how much each group diverged when all
        were alike; "proportional" by their rows, as methods that know no groups; others as in
        `FairLowRankHeadClassifier`. "auto", the default, is None, but for cuts in turn "minimax".
    borrowed_rows : float, default=100
        With weights that are alike or "minimax": how many rows of all groups each group's means
        take in besides its own, so that a group of a few dozen does not have the layer fitted to
        what is so by chance in its rows, at all others' cost. 0 for none.
    refine : {None, "distill", "distill_network"}, default=None
        "distill" trains the thin layers to say what the uncut model does. Where all of them get
        one vector for each row: full batches, L-BFGS, groups weighted as in the cut ("minimax" by
        a smooth maximum), the best iterate on rows of each group that are held out. Else, and for
        "distill_network", which trains all parameters of the model that learn: AdamW in batches of
        64, two fifths of whose rows are drawn with all groups alike (of two groups, the rarer is a
        fifth of what is drawn or more), each of three rates from the same start, the best epoch of
        all on rows held out, or the start where none is better. Needs ``loss``, and no labels.
    y : array-like of n rows, optional
        Labels, as ``loss`` takes them. Of use for "kfac" and "fisher" only: their gradients are of
        these, or else of labels drawn from what the model says.
    loss : {"softmax", "sigmoid", "squared"} or callable, optional
        What the model's outputs mean, where that is needed: scores of classes, one of which is
        right; log-odds, of each output by itself; numbers. A function takes outputs and targets of
        some rows, and returns a loss for each; targets are labels, or the uncut model's outputs.
    max_iter, max_epochs : int, default=100, 3
        Most iterations of L-BFGS, epochs of AdamW at each rate.
    validation_fraction : float, default=0.2
        Share of the rows of each group that ``refine`` holds out, of several layers from the cut,
        too; a group too small for one is judged on the rows it is trained on.
    preprocess, batch_size, device
        As for `FrozenFeatureExtractor`.
    random_state : int, RandomState or None, default=None
        Draws labels, rows that are held out, and batches.
    verbose : int, default=0
        1 shows a bar with the rows that went through the model, and how many in a second: all of
        them once to look at the layers, once for each stage of layers that are cut in turn, as
        deep as these lie, and in training.

    Returns
    -------
    nn.Module
        A copy, in the mode and on the device of the model, with a ``LowRankLinear`` or
        ``LowRankConv`` in place of each layer that was cut, frozen if that was (``refine`` trains
        it all the same). The first has ``in_features``, ``out_features``, ``weight`` and ``bias``
        as ``nn.Linear`` does, the second what convolutions have.

    Raises
    ------
    ValueError
        For parameters, groups or rows that cannot be used, for layers that are not there, do not
        run for all rows, share their weights, have hooks, run more than once a batch, or get what
        is not rows first, or that the model comes to by another way than their names; for a budget
        that is less than rank 1 of each layer; and for a model that fails, or gives a
        row something else in another batch, or each time.

    Warns
    -----
    UserWarning
        If a layer that was named is no smaller cut than whole; if some are thin already; if y has
        no effect; if ``refine`` is no gain; if layers are left out because a batch is as long as
        another axis of their inputs, or because they get nested tensors; if ``loss="softmax"`` and
        outputs are probabilities.
    FairnessWarning
        If there is one group only, or one of less than 30 rows; if the model is a classifier's
        with a constraint (`FairLowRankHeadClassifier.to_torch`), which the cut one need not meet.

    See Also
    --------
    compression_report : What changed, group by group.
    split_attention : Makes the projections of ``nn.MultiheadAttention`` layers that can be cut.
    FairLowRankHeadClassifier : Fits a new head, under constraints.

    Notes
    -----
    With ``C_g`` the second moments of a layer's inputs in group g, a cut ``M`` of weights ``W``
    changes its outputs by ``||C_g^1/2 (W - M)||^2`` in the mean. What is least, weighted over the
    groups, is a principal component analysis of the outputs, and "minimax" is a fair one [1]_:
    exact for two groups, and for more never worse than equal weights. Equal weights are within
    a factor G of that, weights by rows only within one over the smallest group's share
    (:ref:`method <neutral-cuts>`). The paper [2]_ weights by a mean of the groups' Fisher
    information.

    A convolution is cut to one with its kernel and r channels, and one of a single position; with
    more channels before than after, the other way around. Batch normalization behind it stays as it
    is. Of tokens and positions all count, those of padding too.

    References
    ----------
    .. [1] Samadi et al., "The price of fair PCA: one extra dimension", NeurIPS 2018.
    .. [2] Zhang and Zhou, "Bias Mitigation in Fine-tuning Pre-trained Models for Enhanced Fairness
       and Efficiency", arXiv:2403.00625.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skfairft import compress
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
    >>> X, s = torch.randn(500, 20), torch.arange(500) % 10 == 0
    >>> small = compress(model, X, sensitive_features=s, rank=4)
    >>> small[2].rank, small(X).shape
    (4, torch.Size([500, 10]))

    A network within a budget:

    >>> model = nn.Sequential(
    ...     nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
    ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
    ... )
    >>> X = torch.randn(500, 3, 8, 8)
    >>> small = compress(model, X, sensitive_features=s, parameters=0.4, loss="softmax")
    >>> sizes = [sum(each.numel() for each in net.parameters()) for net in (model, small)]
    >>> sizes[0], sizes[1] <= 0.4 * sizes[0]
    (5253, True)
    """
    check_module("model", model)
    budgets = {"parameters": parameters, "flops": flops}
    check_settings(
        rank,
        budgets,
        importance,
        sequential,
        refine,
        max_iter,
        max_epochs,
        validation_fraction,
        borrowed_rows,
    )
    with tqdm(unit="row", unit_scale=True, desc="what layers see", disable=not verbose) as bar:
        batches = ModuleBatches.of(
            model, X, preprocess=preprocess, batch_size=batch_size, device=device, bar=bar
        )
        groups, numbers = encode_groups(sensitive_features, len(batches))
        labels = check_labels(y, len(batches))
        warn_of_index_order(X=X, sensitive_features=sensitive_features, y=y)
        codes = torch.from_numpy(numbers)
        follows = isinstance(group_weights, str) and group_weights == "auto"
        weights, minimax = found_weights(None if follows else group_weights)
        shares = torch.from_numpy(check_group_weights(weights, groups, np.bincount(numbers)))
        auto = importance == "auto"
        graded = needs_gradients(importance) or (auto and loss is not None)
        needed_by = f"refine={refine!r}" if refine is not None else "compress"
        needed_by = f"importance={importance!r}" if graded else needed_by
        meaning = None
        if loss is not None or graded or refine is not None:
            meaning = meaning_of(loss, needed_by=needed_by)
        if graded and not auto and y is None and meaning is not None and meaning.draw is None:
            raise ValueError(
                f"importance={importance!r} needs labels: of a loss that is a function they cannot "
                "be drawn. Pass y, or loss='softmax', 'sigmoid' or 'squared'."
            )
        borrows = minimax or weights is None
        counts = torch.bincount(codes, minlength=len(groups))
        warn_of_groups(groups, counts, borrows and importance != "uniform")
        warn_of_bound(model)
        rng = check_random_state(random_state)
        generator = torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))
        wanted = choose_layers(model, layers, rank)
        held_out = torch.zeros(len(codes), dtype=torch.bool)
        if refine is not None:
            held_out[_held_out(numbers, validation_fraction, rng, refine)] = True
        # Several layers fit the rows that they are cut by much better than others: on such rows no
        # training would seem to be a gain.
        known = codes.masked_fill(held_out, -1) if len(wanted) > 1 else codes
        mixing = borrowing(
            torch.bincount(known[known >= 0], minlength=len(groups)),
            float(borrowed_rows) if borrows else 0.0,
        )
        named = layers is not None or isinstance(rank, Mapping)
        reached = set(wanted) if graded else set()
        if auto and meaning is not None:
            reached = graded_layers(model, batches, wanted, meaning)
        if y is not None and not reached:
            how = "covariance" if auto else importance
            warn_user(
                f"y has no effect: importance={how!r} takes no gradients, and refine no labels. "
                "Leave it out.",
                UserWarning,
            )
        in_turn = auto if sequential == "auto" else bool(sequential)
        found = calibrate(
            model,
            batches,
            known,
            wanted,
            n_groups=len(groups),
            graded=reached,
            gradients=meaning if reached else None,
            fisher=importance == "fisher",
            temperature=_TEMPERATURE if len(wanted) > 1 and importance != "fisher" else 1.0,
            y=labels,
            keep=refine is not None or ((minimax or follows) and in_turn and len(wanted) > 1),
            generator=generator,
            lenient=not named,
        )
        if meaning is not None and len(found.outputs):
            warn_of_probabilities(meaning, found.outputs)
        silent = [name for name in wanted if name not in found.statistics]
        if named and silent:
            raise ValueError(
                f"The layers [{listed(silent)}] did not run: the model's forward does not call "
                "them, or uses their weights by itself. Leave them out."
            )
        plan = Plan(
            model,
            batches,
            known,
            found,
            importances={
                name: ("covariance" if own.gradients is None else "kfac") if auto else importance
                for name, own in found.statistics.items()
            },
            rank=rank,
            budget=next(((n, float(v)) for n, v in budgets.items() if v is not None), None),
            named=named,
            sequential=in_turn,
            mixing=mixing,
        )
        divergence = (meaning or MEANINGS["squared"]).divergence
        if follows and plan.in_turn:
            minimax = True
        if minimax and plan.in_turn:
            small, cut = plan.least_worst(divergence)
        else:
            small, cut = plan.cut(None if minimax else shares)
        if not cut:
            title, seen = type(model).__name__, list(found.statistics)
            raise ValueError(
                f"No layer of {title} is smaller at rank={rank!r}; expected a rank below "
                f"{_limits(wanted, seen)}, or a lower share of energy. Pass a lower one, or name "
                "layers=."
                if seen
                else f"{title} has no layer that can be cut; expected an nn.Linear, a convolution "
                "of one group, or transformers' Conv1D that runs once for a batch, rows first, "
                "without hooks or shared weights. (Of nn.MultiheadAttention, see split_attention.)"
            )
        check_running(small, cut, batches)
        if refine is not None and meaning is not None:
            training = Training(
                small,
                cut,
                batches,
                found,
                codes,
                held_out,
                meaning,
                None if minimax else shares,
                mixing,
            )
            if refine == "distill" and all(after == 1.0 for after in training.positions):
                gained = training.in_full_batches(max_iter)
            else:
                gained = training.in_epochs(
                    max_epochs,
                    # Of weights that are given by rows, or given, groups come as their rows do.
                    drawn=drawing_shares(counts) if borrows else counts / counts.sum(),
                    everything=refine == "distill_network",
                    generator=generator,
                )
            if not gained:
                warn_user(
                    f"refine={refine!r} trained in vain: on the {int(held_out.sum())} rows held "
                    "out the model is best as it was cut, and stays so. More rows may help.",
                    UserWarning,
                )
        return small


def _held_out(
    codes: NDArray[np.int64], fraction: float, rng: np.random.RandomState, refine: str
) -> Tensor:
    """Return the numbers of the rows that are held out."""
    try:
        rows = hold_out(codes, np.ones(len(codes)), fraction, rng)
    except ValueError as error:
        raise ValueError(
            f"refine={refine!r} holds rows out, and none of these {len(codes)} can be such that "
            "one of each group is left. Pass more rows, or refine=None."
        ) from error
    return torch.from_numpy(np.asarray(rows))


def _limits(layers: Mapping[str, LayerMap], names: list[str]) -> str:
    """Return the lowest rank at which each layer is no smaller, in words."""
    of_each = []
    for name in names:
        seen = layers[name]
        room = seen.size - seen.k  # but for the bias, which a cut layer always has
        of_each.append(f"{max(1, -(-room // seen.unit))} for {name!r}")
    return joined(of_each)
