"""Heads as their kinds, settings and numbers: modules of this package, and torch's own layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..head.cells import CellVote, labels_of_cells
from ..inputs.values import CannotWriteError, pack, unpack
from ..lowrank.layer import LowRankHead

__all__ = ["module_of", "written_module"]

Tensors = dict[str, Tensor]

# Layers without numbers, that map rows to rows; their settings are their constants.
_PLAIN: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        *(nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish),
        *(nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.LogSigmoid, nn.LogSoftmax, nn.Mish),
        *(nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softmax, nn.Softmin),
        *(nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold),
        *(
            nn.AlphaDropout,
            nn.Dropout,
            nn.Dropout1d,
            nn.FeatureAlphaDropout,
            nn.Flatten,
            nn.Unflatten,
        ),
    )
}
_STATE = set(vars(nn.Module()))


def written_module(module: nn.Module, name: str, tensors: Tensors) -> dict[str, Any]:
    """Return a head as what JSON holds; its numbers are added to ``tensors`` under its name.

    Raises
    ------
    CannotWriteError
        For a module that is none of those that these files hold.
    """
    kind = type(module)
    hooked = module._forward_hooks or module._forward_pre_hooks
    if hooked or "forward" in vars(module):
        raise CannotWriteError(f"a {kind.__name__} with hooks or a forward of its own")
    if kind is nn.Sequential:
        children = [
            [key, written_module(cast(nn.Module, child), f"{name}.{key}", tensors)]
            for key, child in module._modules.items()
        ]
        return {"Sequential": children}
    if kind in (LowRankHead, CellVote, nn.Linear):
        own = {key: value.detach() for key, value in module.state_dict().items()}
        tensors.update({f"{name}.{key}": value for key, value in own.items()})
        return {kind.__name__: sorted(own)}
    settings = {key: value for key, value in vars(module).items() if key not in _STATE}
    if _PLAIN.get(kind.__name__) is not kind or set(settings) - set(_constants(kind)):
        raise CannotWriteError(f"{kind.__module__}.{kind.__qualname__}")
    return {kind.__name__: {key: pack(value) for key, value in settings.items()}}


def _constants(kind: type[nn.Module]) -> list[str]:
    return [*getattr(kind, "__constants__", ())]


def module_of(written: Any, name: str, tensors: Tensors) -> nn.Module:
    """Return the head that `written_module` was given, in evaluation mode.

    Anything else is a ValueError.
    """
    if not isinstance(written, dict) or len(written) != 1:
        raise ValueError(f"{name} is no module as these files hold them.")
    ((kind, content),) = written.items()
    if kind == "Sequential":
        parts = nn.Sequential()
        for key, child in content:
            parts.add_module(str(key), module_of(child, f"{name}.{key}", tensors))
        return parts.eval()
    if kind in _WITH_NUMBERS:
        own = {key: _tensor(f"{name}.{key}", tensors) for key in content}
        try:
            return _WITH_NUMBERS[kind](own).eval()
        except (KeyError, RuntimeError, IndexError, TypeError) as error:
            raise ValueError(f"{name} is no {kind} ({error}).") from error
    if kind not in _PLAIN or set(content) - set(_constants(_PLAIN[kind])):
        raise ValueError(f"{name} is a {kind}, which these files do not hold.")
    module = _PLAIN[kind].__new__(_PLAIN[kind])
    nn.Module.__init__(module)
    for key, value in content.items():
        setattr(module, key, unpack(value))
    return module.eval()


def _tensor(name: str, tensors: Tensors) -> Tensor:
    if name not in tensors:
        raise ValueError(f"There are no numbers for {name}.")
    return tensors[name]


def _low_rank(own: Tensors) -> nn.Module:
    _check_sizes(own)
    A, B, bias = own["A"], own.get("B"), own["bias"]
    inner, outer = A.shape[1], len(bias)
    if A.ndim != 2 or (inner != outer if B is None else B.shape != (inner, outer)):
        raise ValueError("The factors of a head do not fit each other.")
    return LowRankHead(A, B, bias)


def _check_sizes(own: Tensors) -> None:
    """Refuse sides of no numbers, which cost nothing to write and may be of any length."""
    if not all(tensor.numel() for tensor in own.values()):
        raise ValueError("A tensor of a head holds no numbers.")


def _linear(own: Tensors) -> nn.Module:
    _check_sizes(own)
    weight = own["weight"]
    layer = nn.utils.skip_init(
        nn.Linear, weight.shape[1], weight.shape[0], bias="bias" in own, dtype=weight.dtype
    )
    layer.load_state_dict(own)
    return layer


def _vote(own: Tensors) -> nn.Module:
    _check_sizes(own)
    k = own["vote"].shape[1]
    # Files of before do not say which classes the cells are of.
    own = {"labels": labels_of_cells(own["groups"], k)} | own
    module = CellVote(own["vote"], own["groups"], own["known_vote"], own["labels"])
    module.load_state_dict(own)
    if own["groups"].dtype != torch.int64 or own["known_vote"].shape != own["vote"].shape:
        raise ValueError("The votes of a head do not fit each other.")
    labels = own["labels"]
    if labels.dtype != torch.int64 or labels.shape != own["groups"].shape or int(labels.max()) >= k:
        raise ValueError("The votes of a head do not fit each other.")
    if len(own["groups"]) != len(own["vote"]) or len(own["bias"]) != k:
        raise ValueError("The votes of a head do not fit each other.")
    return module


_WITH_NUMBERS: dict[str, Callable[[Tensors], nn.Module]] = {
    "CellVote": _vote,
    "Linear": _linear,
    "LowRankHead": _low_rank,
}
