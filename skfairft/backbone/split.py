"""From a model to its two parts: extractor and head."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

__all__ = ["split_head"]


def split_head(model: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Cut a model at its last linear layer.

    Parameters
    ----------
    model : nn.Module
        A model that ends in an ``nn.Linear``. It is not changed; the two parts
        share its other layers.

    Returns
    -------
    extractor : nn.Module
        The model with an identity in place of that layer. What follows it in an
        ``nn.Sequential``, nested ones included (a softmax, say), is left out.
    head : nn.Linear
        The layer itself.

    Raises
    ------
    ValueError
        If the model has no ``nn.Linear``, or is one.

    Notes
    -----
    The last layer is the one registered last. A model whose ``forward`` does
    more after that layer (``torch.sigmoid`` or a log-softmax, say) does so on the
    features too, and they are no longer what the layer was trained on: wrap such a
    model yourself.

    Examples
    --------
    >>> from torch import nn
    >>> from skfairft import split_head
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> extractor, head = split_head(model)
    >>> head
    Linear(in_features=8, out_features=2, bias=True)
    """
    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not names or names[-1] == "":
        raise ValueError(
            f"{type(model).__name__} cannot be cut: expected a model with an nn.Linear inside it. "
            "If the model already gives features, use it as feature_extractor with head=None."
        )
    *path, last = names[-1].split(".")
    extractor = part = _shallow_copy(model)
    for name in path:
        _drop_after(part, name)
        part._modules[name] = _shallow_copy(part._modules[name])
        part = part._modules[name]
    _drop_after(part, last)
    head = part._modules[last]
    assert isinstance(head, nn.Linear)
    part._modules[last] = nn.Identity()
    return extractor, head


def _drop_after(part: nn.Module, name: str) -> None:
    """Remove what follows a child from a Sequential; others may run their children in any order."""
    if isinstance(part, nn.Sequential):
        names = list(part._modules)
        for later in names[names.index(name) + 1 :]:
            del part._modules[later]


def _shallow_copy(module: nn.Module | None) -> Any:
    """Copy a module's own attributes but share its parameters and submodules."""
    new = copy.copy(module)
    assert new is not None
    new._modules = dict(new._modules)
    return new
