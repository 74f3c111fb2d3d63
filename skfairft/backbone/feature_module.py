"""Which of a module's outputs are its features: a layer's, a named one, pooled."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .calling import arguments_of, call, named_argument
from .pooling import POOLINGS, pool_features

__all__ = ["MIXED_PRECISION", "POOLINGS", "FeatureModule", "contents", "find_layer", "picks_of"]

MIXED_PRECISION = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# What a Hugging Face model calls the one vector it has for a whole input.
_POOLED_OUTPUT = "pooler_output"
_MASK = "attention_mask"


class FeatureModule(nn.Module):
    """A module whose output is one tensor of features, picked from those of another.

    The module is shared, not copied. Of a layer that is called several times the first output
    counts; what would run after it is not run. The settings are those of `FrozenFeatureExtractor`.

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
        # Code that was compiled before there was a hook calls none.
        compiled = any(_is_compiled(part) for part in self.module.modules())
        try:
            with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
                call(self.module, args, kwargs)
        except _Reached as reached:
            return reached.output
        finally:
            handle.remove()
        raise ValueError(
            f"layer={self.layer!r} of {type(self.module).__name__} is not run by its forward; "
            "name a layer that is."
        )


def _is_compiled(part: nn.Module) -> bool:
    # By torch.compile(part), or by part.compile().
    return hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None


class _Reached(BaseException):
    """Carries a layer's output out of the forward pass it ends.

    Not an Exception, which a module's own error handling might swallow.
    """

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def picks_of(extractor: Any) -> dict[str, Any]:
    """Return the settings that features depend on besides module and preprocess."""
    dtype = next(
        (name for name, value in MIXED_PRECISION.items() if value is extractor.dtype), None
    )
    return {
        "layer": extractor.layer,
        "output": extractor.output,
        "pool": extractor.pool,
        "dtype": dtype or extractor.dtype,
    }


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
    try:
        by_attribute = isinstance(name, str) and not isinstance(output, Mapping)
        return getattr(output, str(name)) if by_attribute else output[name]
    except (KeyError, IndexError, AttributeError, TypeError):
        there = contents(output)
        if isinstance(output, Tensor):
            there = "one tensor; leave output=None"
        elif isinstance(output, (tuple, list)):
            there += "; use a number below that"
        raise ValueError(f"output={name!r} is not in what the module returned: {there}.") from None


def contents(output: Any) -> str:
    """Describe what a module returned."""
    kind = f"a {type(output).__name__}"
    if isinstance(output, Mapping):
        return f"{kind} with {list(output)}"
    return f"{kind} of {len(output)}" if isinstance(output, (tuple, list)) else kind
