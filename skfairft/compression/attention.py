"""`split_attention`: attention whose projections are linear layers that are called.

Queries are (n, L, E), keys (n, S, E_k), values (n, S, E_v); of h heads each has E / h features.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone.module_copy import copy_module
from ..inputs.words import joined, listed
from ..lowrank.network import replace_layer
from .checks import check_module

__all__ = ["SplitAttention", "split_attention"]

_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class _NoPackedWeights:
    """What stands where ``nn.MultiheadAttention`` has its packed weights.

    Before an ``nn.TransformerEncoder`` leaves out padding by nested tensors it asks whether one of
    these weights overrides torch's functions; if so, it does not.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise TypeError(
            "A SplitAttention has no packed in_proj_weight; its weights are those of q_proj, "
            "k_proj and v_proj."
        )


class SplitAttention(nn.Module):
    """The function of an ``nn.MultiheadAttention``, by four linear layers that are called.

    Parameters
    ----------
    layer : nn.MultiheadAttention
        Its weights are copied, and its training flag.

    Attributes
    ----------
    q_proj, k_proj, v_proj, out_proj : nn.Linear
        The projections of queries, keys and values, and of what the heads give. Each can be
        replaced by another module of the same widths. They get the batch first, also where
        `batch_first` is False; an input without a batch is a batch of one.
    embed_dim, kdim, vdim, num_heads, head_dim, dropout, batch_first
        As those of `layer`.

    Raises
    ------
    ValueError
        For a layer with ``add_bias_kv`` or ``add_zero_attn``, with hooks or a forward of its own,
        or with parameters that are not the usual ones, such as a pruned one's. In a call, for
        inputs and masks of other shapes or kinds than ``nn.MultiheadAttention`` takes, and for
        nested tensors.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> whole = nn.MultiheadAttention(8, 2, batch_first=True)
    >>> split = SplitAttention(whole)
    >>> split
    SplitAttention(
      embed_dim=8, num_heads=2, dropout=0.0, batch_first=True
      (q_proj): Linear(in_features=8, out_features=8, bias=True)
      (k_proj): Linear(in_features=8, out_features=8, bias=True)
      (v_proj): Linear(in_features=8, out_features=8, bias=True)
      (out_proj): Linear(in_features=8, out_features=8, bias=True)
    )
    >>> x = torch.randn(3, 5, 8)
    >>> bool(torch.allclose(split(x, x, x)[0], whole(x, x, x)[0], atol=1e-6))
    True
    """

    # torch's transformer layers read these of their attention. Such values keep them from a faster
    # way, which takes the packed weights and calls no submodule.
    in_proj_weight = _NoPackedWeights()
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        if reason := _why_not(layer):
            raise ValueError(f"The nn.MultiheadAttention {reason}")
        self.embed_dim, self.kdim, self.vdim = layer.embed_dim, layer.kdim, layer.vdim
        self.num_heads, self.head_dim = layer.num_heads, layer.head_dim
        self.dropout, self.batch_first = layer.dropout, layer.batch_first
        separate = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        packed, bias, out = layer.in_proj_weight, layer.in_proj_bias, layer.out_proj
        weights = [*map(_copied, separate)] if packed is None else _thirds(packed)
        biases = [None] * 3 if bias is None else _thirds(bias)
        self.q_proj, self.k_proj, self.v_proj = map(_linear, weights, biases)
        self.out_proj = _linear(
            _copied(out.weight), None if out.bias is None else _copied(out.bias)
        )
        self.train(layer.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what ``nn.MultiheadAttention`` does of the same arguments."""
        inputs = self._batch_first(query, key, value)
        mask, causal = self._mask(
            inputs, key_padding_mask, attn_mask, is_causal, need_weights, batched=query.dim() == 3
        )
        q, k, v = (
            layer(each).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for layer, each in zip((self.q_proj, self.k_proj, self.v_proj), inputs, strict=True)
        )
        weights = None
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, self.dropout, self.training)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            dropout = self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        out = self.out_proj(mixed.transpose(1, 2).flatten(-2))
        if query.dim() == 2:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _batch_first(self, *given: Tensor) -> list[Tensor]:
        """Return queries, keys and values with the batch first; refuse what does not fit."""
        if any(each.is_nested for each in given):
            raise ValueError(
                "A SplitAttention got a nested tensor; expected padded ones, and a "
                "key_padding_mask."
            )
        dims, inputs = {each.dim() for each in given}, list(given)
        if dims == {2}:
            inputs = [each.unsqueeze(0) for each in given]
        elif dims == {3} and not self.batch_first:
            inputs = [each.transpose(0, 1) for each in given]
        q, k, v = inputs
        # Else one would be broadcast.
        if dims not in ({2}, {3}) or k.shape[:2] != v.shape[:2] or q.shape[0] != k.shape[0]:
            axes = "(n, L, E), (n, S, E_k)" if self.batch_first else "(L, n, E), (S, n, E_k)"
            raise ValueError(
                f"query, key and value have the shapes {_shapes(*(each.shape for each in given))}; "
                f"expected {axes} and as the key's, or all of them without the axis n."
            )
        return inputs

    def _mask(
        self,
        inputs: list[Tensor],
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        is_causal: bool,
        need_weights: bool,
        *,
        batched: bool,
    ) -> tuple[Tensor | None, bool]:
        """Return what is added to the scores (n, h, L, S), and whether they are causal instead."""
        if is_causal and attn_mask is None:
            raise ValueError(
                "is_causal=True says that attn_mask is the causal one, and there is none. Pass it, "
                "too, as to nn.MultiheadAttention."
            )
        dtype, mask = inputs[0].dtype, None
        # Not by len, which would fix the size in an exported program.
        (n, L), S = inputs[0].shape[:2], inputs[1].shape[1]
        # With other masks, or weights to be shown, the causal mask is one like any other.
        causal = is_causal and key_padding_mask is None and not need_weights
        if attn_mask is not None and not causal:
            mask = _added("attn_mask", attn_mask, dtype, (L, S), (n * self.num_heads, L, S))
            mask = mask.unflatten(0, (n, self.num_heads)) if mask.dim() == 3 else mask
        if key_padding_mask is not None:
            shape = (n, S) if batched else (S,)
            padding = _added("key_padding_mask", key_padding_mask, dtype, shape)
            padding = padding.reshape(n, 1, 1, S)
            mask = padding if mask is None else mask + padding
        return mask, causal

    def extra_repr(self) -> str:
        """Return the settings, for torch's repr."""
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}, "
            f"batch_first={self.batch_first}"
        )


def split_attention(model: nn.Module) -> nn.Module:
    """Return a copy of a model whose attention is made of linear layers.

    An ``nn.MultiheadAttention`` holds the weights of queries, keys and values as one matrix that no
    layer is called with, so that what works on ``nn.Linear`` layers does not come to it. The copy
    has four such layers in place of each, and is the same function.

    Parameters
    ----------
    model : nn.Module
        With ``nn.MultiheadAttention`` in it, as in torch's own transformer layers. It is left as it
        was. Subclasses of that are left alone.

    Returns
    -------
    nn.Module
        The copy, with a ``SplitAttention`` in place of each: it is called as the layer was, and has
        ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj``. Training flags, dtypes, devices and
        ``requires_grad`` are those of the model. One layer in two places is one in both.

    Raises
    ------
    ValueError
        If the model has no ``nn.MultiheadAttention`` of that very class; if one has
        ``add_bias_kv``, ``add_zero_attn``, hooks or a forward of its own, unusual parameters, or
        weights that others share; or if the model cannot be copied.

    See Also
    --------
    compress : Cuts linear layers.

    Notes
    -----
    In evaluation mode without gradients torch's encoder layers take a faster way, which calls no
    layer, and which the copy never takes: it may be slower. There an ``nn.TransformerEncoder`` may
    also return zeros, or what its last normalization makes of them, where
    ``src_key_padding_mask`` marks padding; the copy returns there what the model itself does with
    gradients. Elsewhere they agree.

    A ``state_dict`` of the model does not fit the copy, whose weights have other names.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skfairft import split_attention
    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> model = nn.TransformerEncoder(layer, 2).eval()
    >>> split = split_attention(model)
    >>> split.layers[0].self_attn.q_proj
    Linear(in_features=8, out_features=8, bias=True)
    >>> x = torch.randn(3, 5, 8)
    >>> bool(torch.allclose(split(x), model(x), atol=1e-5))
    True
    """
    check_module("model", model)
    title = type(model).__name__
    held = Counter(
        id(parameter)
        for part in model.modules()
        for parameter in part._parameters.values()
        if parameter is not None
    )
    found = {
        name: part for name, part in model.named_modules() if type(part) is nn.MultiheadAttention
    }
    if not found:
        raise ValueError(
            f"The model has no nn.MultiheadAttention (of that very class) in its {title}. Hugging "
            "Face's attention layers are linear layers already and need no split."
        )
    for name, layer in found.items():
        reason = _why_not(layer)
        if any(held[id(parameter)] > 1 for parameter in layer.parameters()):
            reason = "shares its weights with others, which would keep the old ones. Untie them."
        if reason:
            which = f"{name!r} of {title}" if name else "itself"
            raise ValueError(f"The nn.MultiheadAttention {which} {reason}")
    split = copy_module(model, title)
    for name in found:
        own = split.get_submodule(name)
        assert isinstance(own, nn.MultiheadAttention)
        split = replace_layer(split, name, SplitAttention(own))
    for part in split.modules():
        # It looks for weights of out_proj, which another module in its place may not have.
        if isinstance(part, nn.TransformerEncoder) and _holds_split(part):
            part.use_nested_tensor = False
    return split


def _holds_split(module: nn.Module) -> bool:
    return any(isinstance(part, SplitAttention) for part in module.modules())


def _why_not(layer: nn.MultiheadAttention) -> str:
    """Return why four linear layers cannot take a layer's place, or nothing if they can."""
    if layer.bias_k is not None or layer.bias_v is not None:
        return "has bias_k and bias_v, which cannot be split; expected add_bias_kv=False."
    if layer.add_zero_attn:
        return "adds a key of zeros, which cannot be split; expected add_zero_attn=False."
    hooks = [name.strip("_") for name in _HOOKS if getattr(layer, name)]
    if hooks or "forward" in vars(layer):
        return (
            f"has {joined(hooks) or 'a forward of its own'}, which what takes its place would not "
            "have. Remove that."
        )
    usual = {*_WEIGHTS, "out_proj.weight", "out_proj.bias"}
    others = {name for name, _ in layer.named_parameters()} - usual
    if others:
        return (
            f"has the parameters {listed(sorted(others))}, of which its weights are made; expected "
            "weights that are parameters themselves. Undo the pruning or parametrization."
        )
    return ""


def _copied(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone(), parameter.requires_grad)


def _thirds(parameter: Tensor) -> list[nn.Parameter]:
    parts = parameter.detach().chunk(3)
    return [nn.Parameter(part.clone(), parameter.requires_grad) for part in parts]


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    k, d = weight.shape
    # On this device it draws nothing from torch's global random state.
    made = nn.Linear(d, k, bias=bias is not None, device="meta")
    made.weight = weight
    if bias is not None:
        made.bias = bias
    return made


def _shapes(*shapes: tuple[int, ...], separator: str = ", ") -> str:
    return joined([str(tuple(each)) for each in shapes], separator=separator)


def _added(name: str, mask: Tensor, dtype: torch.dtype, *expected: tuple[int, ...]) -> Tensor:
    """Return a mask as what is added to the scores: minus infinity where it is True."""
    # The number of axes first: of sizes that are not known yet, others are not to be compared.
    if not any(len(each) == mask.dim() and each == tuple(mask.shape) for each in expected):
        raise ValueError(
            f"{name} has the shape {tuple(mask.shape)}; expected "
            f"{_shapes(*expected, separator=' or ')}."
        )
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf)
    if not mask.is_floating_point():
        raise ValueError(
            f"{name} is of {mask.dtype}; expected bool, True where nothing is looked at, or "
            "floating point, which is added to the scores."
        )
    return mask
