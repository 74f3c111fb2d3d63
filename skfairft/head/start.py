"""The head that is factorized: a fitted linear one, a pre-trained one, or the last fit's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..inputs.checks import LARGEST
from ..lowrank.moments import Moments, column_moments
from ..rows.blocks import Features, map_blocks
from ..rows.dask import DaskFeatures
from ..rows.mapped import allocate_features, as_features, double_blocks, release_pages
from ..rows.number_range import check_range
from ..rows.tensor_rows import TensorRows
from .modules import split_tail
from .outputs import HALVES, fit_linear_head

__all__ = [
    "StartingHead",
    "check_head",
    "has_activation",
    "hidden_rows",
    "parse_head",
    "previous_head",
    "refit_output",
    "scores_classes",
    "starting_head",
]

# Outputs of a hidden layer up to this size are held in memory, larger ones in a temporary file.
_HIDDEN_BYTES = 2**28


@dataclass(frozen=True)
class StartingHead:
    """The dense layer to factorize and what follows it.

    Parameters
    ----------
    weight : Tensor of shape (d, k0), float64
        Inputs by outputs.
    bias : Tensor of shape (k0,), float64
        Bias of the layer.
    tail : nn.Sequential or None
        Maps (n, k0) to logits (n, k), float64; None where k0 is the number of
        classes and the layer's outputs are the logits.
    """

    weight: Tensor
    bias: Tensor
    tail: nn.Sequential | None

    def output(self, Z: Tensor) -> Tensor:
        """Return the outputs (n, k0) of the layer for features (n, d), in float64."""
        return Z.double() @ self.weight + self.bias

    def output_layer_scale(self, Z: Features, w: Tensor) -> Tensor | None:
        """Return the scale (k0,) of the output layer's inputs; None where there is no tail."""
        if self.tail is None:
            return None
        hidden = self.tail[:-1]
        return column_moments(_mapped_rows(lambda block: hidden(self.output(block)), Z), w)[1]


def _mapped_rows(function: Callable[[Tensor], Tensor], Z: Features) -> Features:
    """Return a function (m, d) -> (m, k0) of all rows, in float64."""

    def outputs(block: Tensor) -> Tensor:
        with torch.no_grad():
            return function(block)

    width = outputs(Z[:1].double()).shape[1]
    if isinstance(Z, DaskFeatures):

        def of_chunk(Z: Features, columns: Any) -> Any:
            blocks = [block.numpy() for block in map_blocks(outputs, Z)]
            return np.concatenate([np.empty((0, width)), *blocks])

        return Z.apply(of_chunk, width)
    values = allocate_features((len(Z), width), "float64", limit=_HIDDEN_BYTES)
    for rows, block in double_blocks(Z):
        values[rows] = outputs(block).numpy()
        release_pages(values)
    return as_features(values)


def parse_head(head: nn.Module) -> tuple[nn.Linear, list[nn.Module]]:
    """Return the linear layer of a pre-trained head and the activations after it.

    A head that is no linear layer, with or without activations behind it, or one that does more
    than its layers say, is a ValueError.

    Examples
    --------
    >>> parse_head(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    (Linear(in_features=4, out_features=3, bias=True), [ReLU()])
    """
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    linear, *after = layers or [head]
    # A buffer is a state that depends on other rows, as in nn.BatchNorm1d.
    if not isinstance(linear, nn.Linear) or any(part.state_dict() for part in after):
        raise ValueError(
            f"head is {type(head).__name__}; expected an nn.Linear, or an nn.Sequential of an "
            "nn.Linear and layers without parameters or buffers such as nn.ReLU. "
            "split_head(model) cuts the last linear layer off a model."
        )
    own = type(linear).forward is not nn.Linear.forward
    own |= isinstance(head, nn.Sequential) and type(head).forward is not nn.Sequential.forward
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in head.modules())
    weight = linear.weight
    if own or hooked or not weight.is_floating_point() or weight.is_meta or not weight.numel():
        raise ValueError(
            f"head, {head}, does more than its layers say (a forward of its own, or hooks), or has "
            "no real weights; expected a plain nn.Linear with numbers, and activations. Of a layer "
            "with weight_norm or the like pass an nn.Linear with its weights."
        )
    return linear, after


def check_head(head: nn.Module) -> None:
    """Refuse what cannot be factorized and trained as a head.

    It is a ValueError as of `parse_head`, and for activations that do not map rows to rows, each by
    itself.

    Examples
    --------
    >>> check_head(nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=0)))
    Traceback (most recent call last):
    ...
    ValueError: Behind the head's linear layer Sequential( (0): Softmax(dim=0) ) gives rows that
    depend on each other, or no row of numbers for each; expected layers such as nn.ReLU, which
    act on each row by itself.
    """
    linear, after = parse_head(head)
    tail = nn.Sequential(*copy.deepcopy(after)).double().eval()
    size = linear.out_features
    rows = torch.linspace(-2.0, 2.0, 3 * size, dtype=torch.float64).reshape(3, size)
    try:
        with torch.no_grad():
            out = tail(rows.clone())
            alone = torch.cat([tail(rows[i : i + 1].clone()) for i in range(3)])
        right = out.ndim == 2 and out.is_floating_point() and out.shape == alone.shape
        right = right and len(out) == 3 and torch.allclose(out, alone, equal_nan=True)
    except Exception as error:
        raise ValueError(
            f"Behind the head's linear layer {tail} failed on three rows of {size} numbers: "
            f"{type(error).__name__}: {error}. Expected layers such as nn.ReLU."
        ) from error
    if not right:
        shown = " ".join(str(tail).split())
        raise ValueError(
            f"Behind the head's linear layer {shown} gives rows that depend on each other, or no "
            "row of numbers for each; expected layers such as nn.ReLU, which act on each row by "
            "itself."
        )


def scores_classes(head: nn.Module, n_classes: int) -> bool:
    """Tell whether a pre-trained head gives scores of the classes, one each or one for two.

    Examples
    --------
    >>> [scores_classes(nn.Linear(4, width), 2) for width in (1, 2, 3)]
    [True, True, False]
    >>> scores_classes(nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()), 2)
    True
    """
    linear, after = parse_head(head)
    if linear.out_features == 1 and n_classes == 2:  # whose score a sigmoid makes a probability
        return not after or (len(after) == 1 and isinstance(after[0], nn.Sigmoid))
    return not after and linear.out_features == n_classes


def has_activation(head: nn.Module | None, n_classes: int) -> bool:
    """Tell whether a classifier with a pre-trained head has an activation inside.

    Examples
    --------
    >>> has_activation(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), 2), has_activation(None, 2)
    (True, False)
    """
    if not isinstance(head, nn.Sequential) or len(head) < 2:
        return False
    return not scores_classes(head, n_classes)


def starting_head(
    head: nn.Module | None,
    rows: TensorRows,
    n_classes: int,
    C: float,
    moments: Moments | None = None,
    *,
    hidden: bool = False,
) -> StartingHead:
    """Return the dense head that a ``head`` parameter stands for.

    None fits a linear head, see `fit_linear_head`. A pre-trained ``nn.Linear`` whose width is the
    number of classes, or 1 for two classes, is taken as it is; one of another width, with an
    activation after it, or that is ``hidden``, is followed by a new output layer, fitted on its
    outputs by logistic regression. All are copies; the pre-trained layer is not changed.

    Raises
    ------
    ValueError
        For a head that is no linear layer, takes another number of features, has weights that
        are not finite, or an activation that gives numbers which are not.
    """
    if head is None:
        weight, bias = fit_linear_head(rows, n_classes, C, moments)
        return StartingHead(weight, bias, None)
    linear, after = parse_head(head)
    if linear.in_features != rows.Z.shape[1]:
        raise ValueError(
            f"head takes {linear.in_features} features but the data has {rows.Z.shape[1]}: pass "
            "the features that this layer was trained on, or head=None to fit a new one."
        )
    weight = linear.weight.detach().cpu().double().T.contiguous().clone()
    bias = torch.zeros(linear.out_features, dtype=torch.float64)
    if linear.bias is not None:
        bias = linear.bias.detach().cpu().double().clone()
    check_range(torch.cat([weight, bias[None]]), f"The weights of head, {linear},")
    if scores_classes(head, n_classes) and not hidden:
        if linear.out_features == 1:
            weight, bias = weight * HALVES, bias * HALVES
        return StartingHead(weight, bias, None)
    activation = nn.Sequential(*copy.deepcopy(after)).eval()
    layer = StartingHead(weight, bias, None)
    return StartingHead(weight, bias, _output_layer(layer, activation, rows, n_classes, C))


def hidden_rows(head: nn.Module, rows: TensorRows) -> TensorRows:
    """Return rows with the outputs of a pre-trained hidden layer as features."""
    linear, after = parse_head(head)
    weight = linear.weight.detach().cpu().double().T
    bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach().cpu()
    layer = StartingHead(weight, bias.double(), None)
    activation = nn.Sequential(*copy.deepcopy(after)).eval()
    return TensorRows(_hidden(layer, activation, rows), rows.y, rows.w)


def refit_output(start: StartingHead, rows: TensorRows, n_classes: int, C: float) -> nn.Sequential:
    """Return the tail of a head with a new output layer, fitted on the hidden layer's outputs."""
    assert start.tail is not None
    activation = nn.Sequential(*copy.deepcopy(list(start.tail)[:-1]))
    return _output_layer(start, activation, rows, n_classes, C)


def _output_layer(
    layer: StartingHead,
    activation: nn.Sequential,
    rows: TensorRows,
    n_classes: int,
    C: float,
) -> nn.Sequential:
    """Return an activation and a linear layer fitted behind it."""
    behind = TensorRows(_hidden(layer, activation, rows), rows.y, rows.w)
    output_weight, output_bias = fit_linear_head(behind, n_classes, C)
    # skip_init: the usual initialization would draw from torch's global random state.
    output = nn.utils.skip_init(nn.Linear, *output_weight.shape, dtype=torch.float64)
    with torch.no_grad():
        output.weight.copy_(output_weight.T)
        output.bias.copy_(output_bias)
    return nn.Sequential(*activation, output)


def _hidden(layer: StartingHead, activation: nn.Sequential, rows: TensorRows) -> Features:
    """Return what comes out of a hidden layer."""

    def outputs(block: Tensor) -> Tensor:
        values: Tensor = activation(layer.output(block))
        # What dead units give may be too small to be squared.
        return torch.where(values.abs() < 1.0 / LARGEST, 0.0, values)

    hidden = _mapped_rows(outputs, rows.Z)
    check_range(hidden, "The outputs of the head's hidden layer")
    return hidden


def previous_head(fitted: nn.Module) -> StartingHead:
    """Return the head of an earlier fit as a new start (``warm_start``)."""
    first, tail = split_tail(fitted)
    tail = None if tail is None else copy.deepcopy(tail).double()
    return StartingHead(first.weight.detach().double(), first.bias.detach().double(), tail)
