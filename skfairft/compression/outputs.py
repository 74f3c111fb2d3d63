"""What a model's outputs mean: its loss, how far two outputs are apart, labels drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..backbone.batches import NotFiniteError
from ..inputs.warn import warn_user

__all__ = [
    "MEANINGS",
    "Meaning",
    "as_labels",
    "gradients_of",
    "meaning_of",
    "warn_of_probabilities",
]

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Meaning:
    """What a model's outputs (n, ...) mean.

    Parameters
    ----------
    name : str
        How it is called.
    loss : callable
        Of outputs and labels, (n,).
    divergence : callable
        Of outputs and those of the uncut model, (n,): 0 where they say the same.
    labels : callable
        Returns y as the loss takes it, or raises a ValueError; is given y, as `as_labels` returns
        it, and outputs of the same rows.
    draw : callable or None
        Returns labels drawn from what outputs say, given these and a generator.
    decisions : callable or None
        Returns what is decided (n, ...), of which rows agree or not.
    logits : bool, default=False
        Whether outputs are logarithms of odds, which a temperature divides.
    """

    name: str
    loss: Loss
    divergence: Loss
    labels: Callable[[Tensor, Tensor], Tensor]
    draw: Callable[[Tensor, torch.Generator], Tensor] | None = None
    decisions: Callable[[Tensor], Tensor] | None = None
    logits: bool = False


def meaning_of(loss: Any, *, needed_by: str) -> Meaning:
    """Return what ``loss`` stands for.

    Raises
    ------
    ValueError
        If it is None, or not known; it says what needed it.

    Examples
    --------
    >>> meaning_of("softmax", needed_by="refine='distill'").name
    'softmax'
    """
    known = ", ".join(map(repr, MEANINGS))
    if isinstance(loss, str) and loss in MEANINGS:
        return MEANINGS[loss]
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        by_row = partial(_by_row, loss, name)
        return Meaning(name, by_row, by_row, _as_given)
    what = "is not known" if loss is not None else "does not say what the model's outputs mean"
    raise ValueError(
        f"loss={loss!r} {what}, which {needed_by} needs; expected one of {known}, or a function "
        "of outputs and targets that returns a loss for each row."
    )


def as_labels(y: Any) -> Tensor:
    """Return labels of any library as a tensor, of which rows are taken by position.

    Raises
    ------
    ValueError
        If they are no numbers.

    Examples
    --------
    >>> as_labels(np.array([2, 1], dtype="uint16"))
    tensor([2, 1])
    """
    if isinstance(y, Tensor):
        return y
    values = np.asarray(y)
    if values.dtype.kind == "O" and values.ndim:  # numbers, perhaps, as pandas may hold them
        inferred = np.asarray(values.tolist())
        values = inferred if inferred.dtype.kind in "biuf" else values
    if values.dtype.kind not in "biuf" or not values.ndim:
        kind = "text" if values.dtype.kind in "US" else values.dtype.name
        what = kind if values.ndim else type(y).__name__
        such = (
            f", such as {values.ravel()[:1].tolist()[0]!r}" if values.ndim and values.size else ""
        )
        raise ValueError(f"y holds {what}{such}; expected numbers, as the model's loss takes them.")
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:  # as torch has them
        values = values.astype(np.int64)
    elif values.dtype.kind == "f":
        values = values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32)
    # A copy in the machine's order of bytes: torch takes none that must not be written.
    return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("=")))


def gradients_of(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradients of a loss, None of a tensor that it does not depend on.

    Raises
    ------
    ValueError
        If it has none at all, or none that can be computed.
    """
    if not tensors:
        return []
    if not loss.requires_grad:
        raise ValueError(
            "The loss has no gradient: the model's forward, or loss, detaches what it computes or "
            "runs under torch.no_grad() or inference_mode(). Take importance='covariance' and "
            "refine=None, which need none."
        )
    try:
        return list(torch.autograd.grad(loss, list(tensors), allow_unused=True))
    except RuntimeError as error:  # what it needs is written over, or not kept
        raise ValueError(
            f"The gradient of the loss cannot be computed: {error} Take importance='covariance' "
            "and refine=None, which need none."
        ) from error


def _by_row(loss: Loss, name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    half = outputs.dtype in (torch.float16, torch.bfloat16)
    outputs, targets = (
        each.float() if half and each.is_floating_point() else each for each in (outputs, targets)
    )
    found = loss(outputs, targets)
    if not isinstance(found, Tensor) or found.shape != (len(outputs),):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"loss, {name}, returned {shape} for {len(outputs)} rows; expected a loss for each "
            'row, (n,). Those of torch do with reduction="none".'
        )
    if not bool(torch.isfinite(found).all()):
        raise NotFiniteError(f"loss, {name}, returned NaN or infinity.")
    return found


def warn_of_probabilities(meaning: Meaning, outputs: Tensor) -> None:
    """Say that outputs are shares of classes where the loss takes scores.

    Examples
    --------
    >>> warn_of_probabilities(MEANINGS["softmax"], torch.tensor([[2.0, -1.0]]))
    """
    if meaning.name != "softmax" or outputs.ndim != 2 or outputs.shape[1] < 2:
        return
    total = outputs.detach().float().sum(1)
    if bool((outputs >= 0.0).all()) and bool(((total - 1.0).abs() < 1e-2).all()):
        warn_user(
            "The model's outputs are non-negative and add up to 1 in each row, as probabilities "
            "do; loss='softmax' takes scores, before the softmax. Leave the last layer out.",
            UserWarning,
        )


def _scores(outputs: Tensor) -> Tensor:
    """Return scores (n, k) of classes, or refuse what cannot be such."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"loss='softmax' is of scores (n, k) of two classes or more, but the model gives "
            f"{tuple(outputs.shape)}. For one score of two classes use loss='sigmoid'."
        )
    return outputs


def _flat(values: Tensor) -> Tensor:
    return values.flatten(1) if values.ndim > 1 else values[:, None]


def _precise(values: Tensor) -> Tensor:
    """Return numbers in which differences of like outputs keep their digits."""
    return values.float() if values.device.type == "mps" else values.double()


def _as_given(y: Tensor, outputs: Tensor) -> Tensor:
    return y.to(outputs.device)


def _class_numbers(y: Tensor, outputs: Tensor) -> Tensor:
    y, outputs = y.to(outputs.device), _scores(outputs)
    whole = not y.is_floating_point() and not y.is_complex() and y.ndim == 1
    if not whole or (len(y) and not 0 <= int(y.min()) <= int(y.max()) < outputs.shape[1]):
        raise ValueError(
            f"y holds {y.dtype}, {_of_a_row(y)} for each row, from {y.min().item()} to "
            f"{y.max().item()}; expected the classes as the model numbers them, 0 to "
            f"{outputs.shape[1] - 1}, as whole numbers of shape (n,)."
        )
    return y.long()


def _like_outputs(y: Tensor, outputs: Tensor) -> Tensor:
    y = _precise(y.to(outputs.device))
    if not bool(torch.isfinite(y).all()):
        raise ValueError("y holds NaN or infinity; expected numbers. Drop the rows without labels.")
    if y.numel() != outputs.numel():
        raise ValueError(
            f"y has {_of_a_row(y)} for each row, and the model's outputs {_of_a_row(outputs)}; "
            "expected a number for each output."
        )
    return y.reshape(outputs.shape)


def _of_a_row(values: Tensor) -> str:
    """Say how many numbers a row has, of which a batch does not have them all."""
    count = values[0].numel()
    return "a number" if count == 1 else f"{count} numbers"


def _shares(y: Tensor, outputs: Tensor) -> Tensor:
    y = _like_outputs(y, outputs)
    if bool(((y < 0.0) | (y > 1.0)).any()):
        raise ValueError(
            f"y holds {float(y.min()):g} to {float(y.max()):g}; expected 0 or 1 for each output, "
            "or a share of the two."
        )
    return y


def _of_softmax(outputs: Tensor, uncut: Tensor) -> Tensor:
    log_p, log_q = (_precise(_scores(each)).log_softmax(1) for each in (outputs, uncut))
    return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(1)


def _of_sigmoid(outputs: Tensor, uncut: Tensor) -> Tensor:
    outputs, uncut = _precise(outputs), _precise(uncut)
    p = torch.sigmoid(uncut)
    # Of a Bernoulli variable; log sigmoid keeps its digits where sigmoid is 0 or 1.
    apart = p * (F.logsigmoid(uncut) - F.logsigmoid(outputs))
    apart = apart + (1.0 - p) * (F.logsigmoid(-uncut) - F.logsigmoid(-outputs))
    return _flat(apart).mean(1)


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return _flat((_precise(outputs) - _precise(targets)).square()).mean(1)


def _noisy(outputs: Tensor, generator: torch.Generator) -> Tensor:
    # Of uniform numbers, which do not depend on how many are drawn at once.
    uniform = torch.rand(outputs.shape, generator=generator, dtype=torch.float64)
    eps = torch.finfo(torch.float64).eps
    return outputs + torch.special.ndtri(uniform.clamp(eps, 1.0 - eps)).to(outputs.device)


def _classes(outputs: Tensor, generator: torch.Generator) -> Tensor:
    p = _scores(outputs).detach().double().cpu().softmax(1)
    return torch.multinomial(p, 1, generator=generator)[:, 0].to(outputs.device)


def _coins(outputs: Tensor, generator: torch.Generator) -> Tensor:
    p = torch.sigmoid(outputs.detach().double().cpu())
    return torch.bernoulli(p, generator=generator).to(outputs)


MEANINGS = {
    meaning.name: meaning
    for meaning in [
        Meaning(
            "softmax",
            lambda outputs, y: F.cross_entropy(_precise(outputs), y, reduction="none"),
            _of_softmax,
            _class_numbers,
            _classes,
            lambda outputs: _scores(outputs).argmax(1),
            logits=True,
        ),
        Meaning(
            "sigmoid",
            lambda outputs, y: _flat(
                F.binary_cross_entropy_with_logits(_precise(outputs), _precise(y), reduction="none")
            ).mean(1),
            _of_sigmoid,
            _shares,
            _coins,
            lambda outputs: outputs > 0.0,
            logits=True,
        ),
        Meaning("squared", _squared, _squared, _like_outputs, _noisy),
    ]
}
"""By name: scores of classes, of which one is right; log-odds of each output by itself; numbers."""
