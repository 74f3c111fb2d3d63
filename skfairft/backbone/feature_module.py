"""Which of a module's outputs are its features: a layer's, a named one, pooled."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .calling import arguments_of, call, named_argument
from .pooling import POOLINGS, pool_features

__all__ = ["MIXED_PRECISION", "POOLINGS", "FeatureModule"]

MIXED_PRECISION = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# What a Hugging Face model calls the one vector it has for a whole input.
_POOLED_OUTPUT = "pooler_output"
_MASK = "attention_mask"


class FeatureModule(nn.Module):
    """A module whose output is one tensor of features, picked from those of another.

    Parameters
    ----------
    module : nn.Module
        The backbone; it is shared, not copied.
    layer : str or None
        Name of the submodule whose output is taken, as in ``named_modules``; of
        several calls the first. What would run after it is not run. None is the
        output of the module itself.
    output : str, int or None
        Entry of an output that is a mapping or a tuple. None takes a tensor as it
        is, and the pooled output of a Hugging Face model.
    pool : {"mean", "max", "first"} or None
        Over all positions of maps (n, channels, ...) or of tokens (n, tokens, d);
        an input named ``attention_mask`` says which tokens count. Where the output
        is shorter, as of models for audio, the model's own rule says so. "first" is
        the first token that counts.
    dtype : {"bfloat16", "float16"} or None
        Mixed precision: matrix products and convolutions run in this dtype.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    >>> FeatureModule(module, layer="1", pool="mean")(torch.zeros(5, 3, 4, 4)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        layer: str | None = None,
        output: str | int | None = None,
        pool: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.layer = layer
        self.output = output
        self.pool = pool
        self.dtype = dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the features; something else than one tensor if nothing says which to take."""
        args, kwargs = arguments_of(self.module, args, kwargs)
        mask = None
        if self.pool is not None:  # before the call, which may write into a mapping
            mask = named_argument(self.module, args, kwargs, _MASK)
        with self._precision(args, kwargs):
            output = self._call(args, kwargs)
        picked = _pick(output, self.output)
        if self.pool is None or not isinstance(picked, Tensor):
            return picked
        whole = self.layer is None and isinstance(output, Mapping)
        own_mask = output.get(_MASK) if whole else None
        return pool_features(picked, self.pool, mask, self.module, own_mask=own_mask)

    def _precision(self, args: Any, kwargs: Any) -> AbstractContextManager[Any]:
        if self.dtype is None:
            return nullcontext()
        values = [*args, *kwargs.values()]
        if len(values) == 1 and isinstance(values[0], Mapping):
            values = list(values[0].values())
        tensors = (value for value in values if isinstance(value, Tensor))
        device = next((tensor.device.type for tensor in tensors), "cpu")
        return torch.autocast(device, dtype=MIXED_PRECISION[self.dtype])

    def _call(self, args: Any, kwargs: Any) -> Any:
        if self.layer is None:
            return call(self.module, args, kwargs)

        def stop(part: nn.Module, inputs: Any, output: Any) -> None:
            raise _Reached(output)

        handle = find_layer(self.module, self.layer).register_forward_hook(stop)
        try:
            call(self.module, args, kwargs)
        except _Reached as reached:
            return reached.output
        finally:
            handle.remove()
        raise ValueError(
            f"layer={self.layer!r} of {type(self.module).__name__} is not run by its forward; "
            "name a layer that is."
        )


class _Reached(BaseException):
    """Carries a layer's output out of the forward pass it ends.

    Not an Exception, which a module's own error handling might swallow.
    """

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def find_layer(module: nn.Module, layer: str) -> nn.Module:
    """Return the submodule of that name, or raise a ValueError that names near ones."""
    layers = dict(module.named_modules())
    if layer in layers:
        return layers[layer]
    names = [name for name in layers if name]
    near = difflib.get_close_matches(layer, names, n=5, cutoff=0.5) or names[-10:]
    raise ValueError(
        f"{type(module).__name__} has no layer {layer!r}; expected a name from "
        f"module.named_modules(), such as {', '.join(map(repr, near)) or '(it has none)'}."
    )


def _pick(output: Any, name: str | int | None) -> Any:
    """Return the entry of a module's output that ``output`` names."""
    if name is None:
        if isinstance(output, Mapping) and isinstance(output.get(_POOLED_OUTPUT), Tensor):
            return output[_POOLED_OUTPUT]
        return output
    entries = list(output) if isinstance(output, Mapping) else None
    try:
        return getattr(output, name) if isinstance(name, str) and entries is None else output[name]
    except (KeyError, IndexError, AttributeError, TypeError):
        if isinstance(output, Tensor):
            there = "one tensor; leave output=None"
        elif entries is not None:
            there = f"a {type(output).__name__} with {entries}"
        elif isinstance(output, Sequence):
            there = f"a {type(output).__name__} of {len(output)}; use a number below that"
        else:
            there = f"a {type(output).__name__}"
        raise ValueError(f"output={name!r} is not in what the module returned: {there}.") from None
