"""One row of features per input: maps or tokens, pooled over the positions that a mask marks.

Features are (n, channels, ...) or (n, tokens, d). A mask is (n, length): 1 at what counts, 0 at
padding. Where the module shortens its input, as those for audio do, the length is not the number
of tokens, and only the module knows which tokens padding went into.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["POOLINGS", "pool_features"]

POOLINGS = ("mean", "max", "first")

# How models of Hugging Face say which positions of their output come of which of their input.
_LENGTHS_RULE = "_get_feat_extract_output_lengths"
_MASK_RULE = "_get_feature_vector_attention_mask"


def pool_features(
    features: Tensor, pool: str, mask: Any, module: nn.Module, *, own_mask: Any = None
) -> Tensor:
    """Reduce maps (n, channels, ...) or tokens (n, tokens, d) to one row (n, d) per input.

    Features in half precision become float32. "first" is the first token that the mask marks.

    Parameters
    ----------
    mask : Tensor of shape (n, length) or None
        What the module was given as ``attention_mask``. None marks everything.
    module : nn.Module
        It may have a rule for the mask of its output.
    own_mask : Tensor of shape (n, tokens) or None
        What the module returned as ``attention_mask``. It goes before ``mask`` where it fits.

    Raises
    ------
    ValueError
        For features of other dimensions, and for a mask that does not say which positions count.

    Examples
    --------
    >>> tokens = torch.tensor([[[1.0], [3.0]], [[5.0], [9.0]]])
    >>> pool_features(tokens, "mean", torch.tensor([[1, 1], [1, 0]]), nn.Identity()).tolist()
    [[2.0], [5.0]]
    """
    maps = features.ndim > 3
    if features.ndim < 3 or (maps and pool == "first"):
        raise ValueError(
            f"pool={pool!r} does not go with an output of shape {tuple(features.shape)}; expected "
            "(n, tokens, d)"
            + (
                " for 'first'."
                if maps
                else "; leave pool=None, or name the output that holds the tokens, "
                "output='last_hidden_state' of a Hugging Face model."
            )
        )
    # A sum over many positions would lose digits in half precision.
    exact = features.float() if features.dtype in (torch.bfloat16, torch.float16) else features
    counted = _counted(features, pool, mask, own_mask, module)
    if maps:
        exact = exact.flatten(2).transpose(1, 2)  # positions take the place of tokens
    if counted is None:
        if pool == "first":
            return exact[:, 0]
        return exact.amax(1) if pool == "max" else exact.mean(1)
    if pool == "first":
        # Of equal values, argmax is the first one's place.
        return exact[torch.arange(len(exact), device=exact.device), counted.byte().argmax(1)]
    left_out = ~counted[:, :, None]
    if pool == "max":
        return exact.masked_fill(left_out, -torch.inf).amax(1)
    # Filled, not multiplied by zero: padding may be NaN.
    return exact.masked_fill(left_out, 0).sum(1) / counted.sum(1, keepdim=True)


def _counted(
    features: Tensor, pool: str, mask: Any, own_mask: Any, module: nn.Module
) -> Tensor | None:
    """Return which tokens count, (n, tokens) of bool; None is all of them."""
    shape = features.shape[:2]
    tokens = features.ndim == 3
    if tokens and isinstance(own_mask, Tensor) and own_mask.shape == shape:
        mask = own_mask
    if mask is None:
        return None
    _check_mask(mask)
    mask = mask.to(features.device)
    if tokens and mask.shape == shape:
        return _checked(mask.bool(), "token")
    # An exported program is for masks of any content.
    if not torch.compiler.is_exporting() and bool((mask != 0).all()):
        return None
    shapes = (
        f"attention_mask of shape {tuple(mask.shape)} does not say which positions of an output "
        f"of shape {tuple(features.shape)} are padding"
    )
    if tokens and mask.ndim == 2 and len(mask) == len(features):
        counted = _by_rule(module, mask, features.shape[1])
        if counted is not None:
            if not (torch.compiler.is_exporting() or bool((mask.cummin(1).values == mask).all())):
                raise ValueError(
                    f"{shapes}: {type(module).__name__} takes padding to be on the right, and the "
                    "mask has it elsewhere. Pad on the right, padding_side='right'."
                )
            return _checked(counted, "position of the output")
    raise ValueError(
        f"{shapes}, and {type(module).__name__} has no rule that does. pool={pool!r} would count "
        "padding: a row's features would depend on the rows beside it. Pool in a module of your "
        "own around it, give rows of one length or one by one, without padding, or leave "
        "attention_mask out to pool over all positions."
    )


def _check_mask(mask: Any) -> None:
    """Raise unless a mask is a tensor of zeros and ones."""
    expected = "expected (n, tokens) with 1 for a token and 0 for padding"
    if not isinstance(mask, Tensor):
        raise ValueError(f"attention_mask is a {type(mask).__name__}; {expected}, as a tensor.")
    # What is added to scores has zeros where others have ones.
    if mask.dtype == torch.bool or torch.compiler.is_exporting():
        return
    if not bool(((mask == 0) | (mask == 1)).all()):
        low, high = float(mask.min()), float(mask.max())
        raise ValueError(
            f"attention_mask has values from {low:g} to {high:g}; {expected}. Give the module "
            "that one, or pool in a module of your own around it."
        )


def _checked(counted: Tensor, what: str) -> Tensor:
    """Return what counts, if something does in every row."""
    if not torch.compiler.is_exporting():
        empty = ~counted.any(1)
        if bool(empty.any()):
            raise ValueError(
                f"attention_mask marks no {what} in {int(empty.sum())} of {len(empty)} rows; "
                "expected one at least. Leave out rows that are empty or too short, or fill them."
            )
    return counted


def _by_rule(module: nn.Module, mask: Tensor, n_tokens: int) -> Tensor | None:
    """Return which tokens count by the module's own rule; None if none fits, or two differ."""
    # A whole row's tokens must all count: else the rule is that of another output.
    whole = torch.cat([mask, torch.ones_like(mask[:1])]).long()
    found = list(_rules(module, whole, n_tokens))
    if not found or not all(other is found[0] or torch.equal(other, found[0]) for other in found):
        return None
    return found[0][:-1]


def _rules(module: nn.Module, whole: Tensor, n_tokens: int) -> Iterator[Tensor]:
    """Iterate over what the parts of a module make of a mask."""
    for part in module.modules():
        lengths_of, mask_of = getattr(part, _LENGTHS_RULE, None), getattr(part, _MASK_RULE, None)
        if lengths_of is None and mask_of is None:
            continue
        # Private methods, some of which take a number only: what does not work is not a rule.
        try:
            # The lengths first, of which the models' own masks are made: at a length of 0 those
            # mark everything.
            if lengths_of is not None:
                lengths = lengths_of(whole.sum(1))
                # Some give the length before a last pooling layer, too.
                lengths = lengths[-1] if isinstance(lengths, tuple) else lengths
                positions = torch.arange(n_tokens, device=whole.device)
                counted = positions < lengths[:, None]
                fits = torch.compiler.is_exporting() or int(lengths[-1]) == n_tokens
            else:
                assert mask_of is not None
                counted = mask_of(n_tokens, whole).bool()
                fits = torch.compiler.is_exporting() or bool(counted[-1].all())
        except Exception:
            continue
        if fits and counted.shape == (len(whole), n_tokens):
            yield counted
