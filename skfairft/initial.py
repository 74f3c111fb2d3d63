"""The head that is factorized: a fitted linear one, a pre-trained one, or the last fit's."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .head import split_tail

__all__ = ["StartingHead", "column_moments", "fit_linear_head", "previous_head", "starting_head"]

# A feature whose standard deviation is below this share of its largest magnitude is constant.
_CONSTANT = 1e-7


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
        """Return the outputs (n, k0) of the layer for features (n, d), in the features' dtype."""
        return Z @ self.weight.to(Z) + self.bias.to(Z)

    def output_layer_scale(self, Z: Tensor, w: Tensor) -> Tensor | None:
        """Return the scale (k0,) of the output layer's inputs; None where there is no tail."""
        if self.tail is None:
            return None
        with torch.no_grad():
            return column_moments(self.tail[:-1](self.output(Z)), w)[1]


def column_moments(Z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of each feature, in float64.

    Parameters
    ----------
    Z : Tensor of shape (n, d)
        Features.
    w : Tensor of shape (n,), float64
        Sample weights.

    Returns
    -------
    mean, scale : Tensor of shape (d,), float64
        The scale of a constant feature is 1.

    Examples
    --------
    >>> import torch
    >>> column_moments(torch.tensor([[0.0, 5.0], [2.0, 5.0]]), torch.ones(2).double())
    (tensor([1., 5.], dtype=torch.float64), tensor([1., 1.], dtype=torch.float64))
    """
    total = w.sum()
    share = w / total
    mean, square, peak = (torch.zeros(Z.shape[1], dtype=torch.float64) for _ in range(3))
    blocks = list(zip(Z.split(2**14), share.split(2**14), strict=True))
    for rows, weight in blocks:
        mean += weight @ rows.double()
    for rows, weight in blocks:
        centred = rows.double() - mean
        square += weight @ centred.square()
        # Rows of weight zero count for nothing, here either.
        peak = torch.maximum(peak, (rows.double().abs() * (weight > 0)[:, None]).amax(dim=0))
    scale = square.sqrt()
    return mean, torch.where(scale > _CONSTANT * peak, scale, 1.0)


def fit_linear_head(
    Z: Tensor, y: Tensor, w: Tensor, n_classes: int, C: float
) -> tuple[Tensor, Tensor]:
    """Fit scikit-learn's LogisticRegression on standardized features.

    Parameters
    ----------
    Z : Tensor of shape (n, d)
        Features.
    y : Tensor of shape (n,), int64
        Encoded labels 0..k-1.
    w : Tensor of shape (n,), float64
        Sample weights.
    n_classes : int
        Number of classes k.
    C : float
        Inverse strength of the L2 penalty on the standardized weights.

    Returns
    -------
    weight, bias : Tensor of shape (d, k) and (k,), float64
        In raw coordinates. With two classes the columns are ``-w/2`` and ``w/2``.
    """
    # Here, because scikit-learn's linear models would slow down every import of the package.
    from sklearn.linear_model import LogisticRegression

    mean, scale = column_moments(Z, w)
    standardized = ((Z - mean.to(Z)) / scale.to(Z)).numpy()
    # Convex and well scaled: in practice tens of iterations, so the limit is never felt.
    model = LogisticRegression(C=C, max_iter=10_000)
    model.fit(standardized, y.numpy(), sample_weight=w.numpy())
    weight = torch.as_tensor(model.coef_.T.copy(), dtype=torch.float64)
    bias = torch.as_tensor(model.intercept_, dtype=torch.float64)
    if n_classes == 2:
        half = torch.tensor([-0.5, 0.5], dtype=torch.float64)
        weight, bias = weight * half, bias * half
    weight = weight / scale[:, None]
    return weight, bias - mean @ weight


def _parse_head(head: nn.Module, n_features: int) -> tuple[nn.Linear, list[nn.Module]]:
    """Return the linear layer of a pre-trained head and the activations after it."""
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    linear, *after = layers or [head]
    # A buffer is a state that depends on other rows, as in nn.BatchNorm1d.
    if not isinstance(linear, nn.Linear) or any(part.state_dict() for part in after):
        raise ValueError(
            f"head is {type(head).__name__}; expected an nn.Linear, or an nn.Sequential of an "
            "nn.Linear and layers without parameters or buffers such as nn.ReLU. "
            "split_head(model) cuts the last linear layer off a model."
        )
    if linear.in_features != n_features:
        raise ValueError(
            f"head takes {linear.in_features} features but the data has {n_features}: pass the "
            "features that this layer was trained on, or head=None to fit a new one."
        )
    return linear, after


def starting_head(
    head: nn.Module | None, Z: Tensor, y: Tensor, w: Tensor, n_classes: int, C: float
) -> StartingHead:
    """Return the dense head that a ``head`` parameter stands for.

    Parameters
    ----------
    head : nn.Linear, nn.Sequential or None
        None fits a linear head. A pre-trained ``nn.Linear`` whose width is the
        number of classes is taken as it is; one of another width, or with an
        activation after it, is followed by a new output layer, fitted on its
        outputs by logistic regression.
    Z, y, w, n_classes, C
        As for `fit_linear_head`.

    Returns
    -------
    StartingHead
        Copies; the pre-trained layer is not changed.

    Raises
    ------
    ValueError
        For a head that is no linear layer or takes another number of features.
    """
    if head is None:
        weight, bias = fit_linear_head(Z, y, w, n_classes, C)
        return StartingHead(weight, bias, None)
    linear, after = _parse_head(head, Z.shape[1])
    weight = linear.weight.detach().cpu().double().T.contiguous()
    bias = torch.zeros(linear.out_features, dtype=torch.float64)
    if linear.bias is not None:
        bias = linear.bias.detach().cpu().double().clone()
    if linear.out_features == n_classes and not after:
        return StartingHead(weight, bias, None)
    activation = nn.Sequential(*copy.deepcopy(after)).eval()
    with torch.no_grad():
        hidden = activation(StartingHead(weight, bias, None).output(Z))
    output_weight, output_bias = fit_linear_head(hidden, y, w, n_classes, C)
    # skip_init: the usual initialization would draw from torch's global random state.
    output = nn.utils.skip_init(nn.Linear, *output_weight.shape, dtype=torch.float64)
    with torch.no_grad():
        output.weight.copy_(output_weight.T)
        output.bias.copy_(output_bias)
    return StartingHead(weight, bias, nn.Sequential(*activation, output))


def previous_head(fitted: nn.Module) -> StartingHead:
    """Return the head of an earlier fit as a new start (``warm_start``)."""
    first, tail = split_tail(fitted)
    tail = None if tail is None else copy.deepcopy(tail).double()
    return StartingHead(first.weight.detach().double(), first.bias.detach().double(), tail)
