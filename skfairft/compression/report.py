"""`compression_report`: what a smaller model says otherwise, group by group."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches
from ..backbone.forward import Arguments, dtype_of, place
from ..backbone.frozen import frozen, locked
from ..backbone.modules import count_parameters
from ..inputs.by_name import by_name
from ..inputs.encoding import encode_groups
from ..inputs.index_order import warn_of_index_order
from ..inputs.words import group_name
from ..parity.rate_limits import wilson_limits
from .checks import check_labels, check_module
from .layers import layers_table
from .outputs import Meaning, meaning_of, warn_of_probabilities

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CompressionReport", "compression_report"]

_LEVEL = 0.95
_RATES = ("selection_rate", "selection_rate_small")
_SHARES = ("agreement", "accuracy", "accuracy_small", *_RATES)
# What is printed, of what there is.
_SHOWN = ("divergence", "agreement", "loss_rise", "accuracy_rise")


@dataclass(frozen=True, repr=False)
class CompressionReport:
    """What a smaller model changes for each group; made by `compression_report`.

    Parameters
    ----------
    by_group : DataFrame
        A row for each group and one for all rows, "overall"; for each measure three columns, of
        its value and of the ends of its 95 % interval ("_low", "_high"). ``n`` is the number of
        rows.
    parameters : tuple of int
        Of the model and of the smaller one.
    seconds : tuple of float
        That the rows took with the model and with the smaller one in this run, batch by batch in
        turn: of few rows mostly chance.
    layers : DataFrame or None, default=None
        A row for each layer of the model that maps features or channels (linear layers,
        convolutions, recurrent layers, attention), by its name in ``model.named_modules()``.
        ``kind`` is its class; ``inputs`` and ``outputs`` are its widths; ``parameters`` and
        ``parameters_small`` are those of the layer and of what has its name in the smaller model,
        missing where nothing has; weights that two layers share count in both, those of attention's
        ``out_proj`` only in its own row. ``rank`` is that of the thin layer, missing where there is
        none, or where attention was split in several. ``left`` says why the layer is whole, or "";
        it is "whole" of one that could be cut: not named, spared by the budget, or no smaller.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skfairft import compress, compression_report
    >>> model, X, s = nn.Linear(20, 10), torch.eye(20).repeat(10, 1), torch.arange(200) % 4 == 0
    >>> small = compress(model, X, sensitive_features=s, rank=5)
    >>> report = compression_report(model, small, X, sensitive_features=s, loss="softmax")
    >>> report.parameters
    (210, 160)
    >>> list(report.by_group.index), report.worst in (False, True)
    ([False, True, 'overall'], True)
    >>> report.layers[["kind", "inputs", "outputs", "rank", "left"]].values.tolist()
    [['Linear', 20, 10, 5, '']]
    """

    by_group: pd.DataFrame
    parameters: tuple[int | None, int | None]
    seconds: tuple[float, float]
    layers: pd.DataFrame | None = None

    @property
    def worst(self) -> Any:
        """The group whose loss rises most, or without labels that diverges most.

        With labels these may be two: of a group that the model served badly the loss may fall where
        what the model says of it changes most.
        """
        groups = self.by_group.iloc[:-1]  # a group may be called "overall", too
        measure = "loss_rise" if "loss_rise" in groups else "divergence"
        return groups[measure].idxmax()

    def __str__(self) -> str:
        before, after = self.parameters
        slow, fast = self.seconds
        lines = [
            f"parameters: {before:,} -> {after:,}" if before and after else "parameters: unknown",
            f"seconds: {slow:.2g} -> {fast:.2g}, in this run",
            *self._of_layers(),
        ]
        groups = self.by_group.iloc[:-1]
        if len(groups) > 1 and "selection_rate" in groups:
            apart = [groups[name].max() - groups[name].min() for name in _RATES]
            lines.append(f"demographic parity distance: {apart[0]:.3f} -> {apart[1]:.3f}")
        if len(groups) > 1:
            worst: dict[str, list[str]] = {}
            for name in ("loss_rise", "divergence"):
                if name in groups:
                    worst.setdefault(group_name(groups[name].idxmax()), []).append(name)
            parts = [f"by {' and '.join(names)} {group}" for group, names in worst.items()]
            lines.append(f"worst: {', '.join(parts)}")
        shown = self.by_group[["n"]].astype(str)
        shown.index = [group_name(group) for group in shown.index]
        for name in [name for name in _SHOWN if name in self.by_group]:
            columns = (self.by_group[f"{name}{end}"] for end in ("", "_low", "_high"))
            shown[name] = [
                f"{value:.3g} [{low:.3g}, {high:.3g}]"
                for value, low, high in zip(*columns, strict=True)
            ]
        return "\n".join([*lines, shown.to_string()])

    def _of_layers(self) -> list[str]:
        """Return a line on the layers, if any is cut."""
        if self.layers is None or not (self.layers["left"] == "").any():
            return []
        cut = int((self.layers["left"] == "").sum())
        both = self.layers[["parameters", "parameters_small"]].dropna().sum()
        return [
            f"layers: {cut:,} of {len(self.layers):,} cut, "
            f"{both['parameters']:,} -> {both['parameters_small']:,} parameters"
        ]

    __repr__ = __str__


@by_name
def compression_report(
    model: nn.Module,
    small: nn.Module,
    X: Any,
    y: Any = None,
    *,
    sensitive_features: Any,
    loss: str | Callable[[Tensor, Tensor], Tensor],
    preprocess: Callable[[Any], Any] | None = None,
    batch_size: int = 256,
    device: str | torch.device | None = None,
) -> CompressionReport:
    """Compare a model with a smaller one on rows that neither has seen, group by group.

    Parameters
    ----------
    model, small : nn.Module
        The two, of one kind of output; such as a model and what `compress` made of it.
    X : array-like, tensor, DataFrame, list or dataset of n rows
        Inputs, as for `compress`. Other rows than it was given: on those the cut looks better.
    y : array-like of n rows, optional
        Labels, as ``loss`` takes them.
    sensitive_features : array-like of shape (n,) or (n, c)
        Group of each row.
    loss : {"softmax", "sigmoid", "squared"} or callable
        What the outputs mean, as for `compress`.
    preprocess, batch_size, device
        As for `FrozenFeatureExtractor`.

    Returns
    -------
    CompressionReport
        With these measures, means over the rows of a group: ``divergence`` of the outputs (for
        scores of classes and for log-odds the Kullback-Leibler divergence, in nats; for numbers
        the squared difference); ``agreement``, the share of decisions that are the same; with
        labels ``loss_rise``, the smaller model's loss minus the model's, and where there are
        decisions ``accuracy``, ``accuracy_small`` and ``accuracy_rise``, the second minus the
        first. Of two classes also ``selection_rate`` and ``selection_rate_small``, the shares of
        positive decisions. Intervals are Student's, which are too narrow for few rows of skewed
        values, those of shares Wilson's [1]_, and of ``accuracy_rise`` that of Agresti and Min
        [2]_, which has a width where no row changed, too.

    Raises
    ------
    ValueError
        As `compress`; and if the two give outputs of different shapes.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
       Journal of the American Statistical Association 22, 1927.
    .. [2] A. Agresti and Y. Min, "Simple improved confidence intervals for comparing matched
       proportions", Statistics in Medicine 24, 2005.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skfairft import compress, compression_report
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Linear(20, 10)
    >>> X, s = torch.randn(800, 20), torch.arange(800) % 10 == 0
    >>> small = compress(model, X[:400], sensitive_features=s[:400], rank=6)
    >>> report = compression_report(
    ...     model, small, X[400:], sensitive_features=s[400:], loss="softmax"
    ... )
    >>> report.by_group["n"].to_dict(), bool((report.by_group["agreement"] > 0.5).all())
    ({False: 360, True: 40, 'overall': 400}, True)
    """
    meaning = meaning_of(loss, needed_by="compression_report")
    for name, each in (("model", model), ("small", small)):
        check_module(name, each)
    batches = ModuleBatches.of(
        model, X, preprocess=preprocess, batch_size=batch_size, device=device
    )
    groups, codes = encode_groups(sensitive_features, len(batches))
    labels = check_labels(y, len(batches))
    warn_of_index_order(X=X, y=y, sensitive_features=sensitive_features)
    measured, seconds = _measure(model, small, batches, meaning, labels)
    import pandas as pd

    index = pd.Index([*groups.tolist(), "overall"], dtype=object, tupleize_cols=False)
    rows = []
    for own in [*(codes == g for g in range(len(groups))), np.ones(len(codes), dtype=bool)]:
        row: dict[str, Any] = {"n": int(own.sum())}
        for name, values in measured.items():
            row[name], row[f"{name}_low"], row[f"{name}_high"] = _mean(name, values[own])
        rows.append(row)
    return CompressionReport(
        pd.DataFrame(rows, index=index),
        (count_parameters(model), count_parameters(small)),
        seconds,
        layers_table(model, small),
    )


def _measure(
    model: nn.Module, small: nn.Module, batches: ModuleBatches, meaning: Meaning, y: Tensor | None
) -> tuple[dict[str, NDArray[np.float64]], tuple[float, float]]:
    """Return each measure (n,), and the seconds that the two models took."""
    found: dict[str, list[Tensor]] = {}
    seconds = [0.0, 0.0]

    def note(name: str, values: Tensor) -> None:
        found.setdefault(name, []).append(values.double().cpu())

    def run(each: nn.Module, arguments: Arguments, n_rows: int) -> tuple[Tensor, float]:
        given = {k: v.clone() if isinstance(v, Tensor) else v for k, v in arguments.items()}
        given = place(given, batches.device, dtype_of(each))
        start = time.perf_counter()
        out = batches.run(each, given, n_rows)
        return out, time.perf_counter() - start

    pair = (model, small)
    with ExitStack() as stack:
        for each in pair:
            stack.enter_context(locked(each))
            stack.enter_context(frozen(each, batches.device))
            batches.look(each)
        for at, (rows, arguments) in enumerate(batches):
            size, ran = rows.stop - rows.start, {}
            # The first batch once before the clock runs, and then each first in turn.
            for i in [0, 1, 0, 1] if at == 0 else [at % 2, 1 - at % 2]:
                ran[i] = run(pair[i], arguments, size)
            seconds = [total + ran[i][1] for i, total in enumerate(seconds)]
            before, after = outputs = [ran[i][0] for i in (0, 1)]
            if before.shape != after.shape:
                raise ValueError(
                    f"model gives outputs of shape {tuple(before.shape)} and small "
                    f"{tuple(after.shape)}; expected the same of both."
                )
            note("divergence", meaning.divergence(after, before))
            if at == 0:
                warn_of_probabilities(meaning, before)
            if meaning.decisions is not None:
                decided = [meaning.decisions(out).reshape(len(out), -1) for out in outputs]
                note("agreement", (decided[0] == decided[1]).double().mean(1))
                if before[0].numel() == (2 if meaning.name == "softmax" else 1):
                    for name, decision in zip(_RATES, decided, strict=True):
                        note(name, decision[:, 0] == 1)
            if y is None:
                continue
            labels = meaning.labels(y[rows], before)
            note("loss_rise", meaning.loss(after, labels) - meaning.loss(before, labels))
            if meaning.decisions is not None:
                right = labels.reshape(len(labels), -1)
                right = right > 0.5 if right.is_floating_point() else right
                hits = [(each == right).double().mean(1) for each in decided]
                note("accuracy", hits[0])
                note("accuracy_small", hits[1])
                note("accuracy_rise", hits[1] - hits[0])
    return (
        {name: torch.cat(parts).numpy() for name, parts in found.items()},
        (seconds[0], seconds[1]),
    )


def _mean(name: str, values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean of a measure with its interval."""
    n, mean, level = len(values), float(values.mean()), (1.0 + _LEVEL) / 2
    if name in _SHARES:
        low, high = wilson_limits(np.array(mean), np.array(n), float(norm.ppf(level)))
        return mean, float(low), float(high)
    if name == "accuracy_rise":
        # Of two more rows, a half of each of which rises, and falls: else that of rows none of
        # which changed had no width.
        center = float(values.sum()) / (n + 2)
        variance = (float(np.square(values).sum()) + 1.0) / (n + 2) - center**2
        half = float(norm.ppf(level)) * float(np.sqrt(variance / (n + 2)))
        return mean, max(-1.0, min(mean, center - half)), min(1.0, max(mean, center + half))
    if n == 1:
        return mean, np.nan, np.nan
    half = float(student.ppf(level, n - 1)) * float(values.std(ddof=1)) / np.sqrt(n)
    return mean, mean - half, mean + half
