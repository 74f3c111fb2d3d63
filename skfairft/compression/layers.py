"""Which layers of a model are thinner in a smaller one, and why the others are whole."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy

from ..lowrank.layer import LowRankConv, LowRankLinear
from ..lowrank.maps import as_map, does_more
from .attention import SplitAttention

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["layers_table"]

_THIN = (LowRankLinear, LowRankConv)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
# Where each kind has its widths.
_WIDTHS: list[tuple[Any, tuple[str, str]]] = [
    ((nn.Linear, LowRankLinear), ("in_features", "out_features")),
    ((_ConvNd, LowRankConv), ("in_channels", "out_channels")),
    (nn.MultiheadAttention, ("embed_dim", "embed_dim")),
    (_RECURRENT, ("input_size", "hidden_size")),
]
# Of attention that is split: what took the place of the packed projections.
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def layers_table(model: nn.Module, small: nn.Module) -> pd.DataFrame:
    """Return a row for each layer of a model, with what became of it in a smaller one.

    Layers are those with weights that map channels or features. What is compared has one name in
    both; the two may have nothing in common.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv1d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(18, 9))
    >>> found = layers_table(model, nn.Sequential(*model[:2], nn.Linear(18, 8)))
    >>> found[["parameters", "parameters_small", "left"]].values.tolist()
    [[42, 42, 'grouped convolution'], [171, 152, 'another layer']]
    """
    import pandas as pd

    parts, theirs = _layers(model), dict(small.named_modules(remove_duplicate=False))
    held = Counter(
        id(parameter)
        for part in model.modules()
        for parameter in part._parameters.values()
        if parameter is not None
    )
    attended = {
        part.out_proj for part in model.modules() if isinstance(part, nn.MultiheadAttention)
    }
    rows = []
    for name, part in parts.items():
        own = theirs.get(name)
        # What is in a layer and has a row of its own counts there.
        inside = [f"{name}.{below}".strip(".") for below, _ in part.named_modules() if below]
        inner = [each for each in inside if each in parts]
        inputs, outputs = _widths(part)
        rank, left = _compared(part, own)
        around = theirs.get(name.rpartition(".")[0])
        if left == "whole" and not any(isinstance(e, SplitAttention) for e in (own, around)):
            shared = any(held[id(parameter)] > 1 for parameter in part.parameters())
            left = _why_whole(part, shared=shared, attended=part in attended)
        rows.append(
            {
                "kind": type(part).__name__,
                "inputs": inputs,
                "outputs": outputs,
                "parameters": _size(part, [parts[each] for each in inner]),
                "parameters_small": _size(own, [theirs[each] for each in inner if each in theirs]),
                "rank": rank,
                "left": left,
            }
        )
    kinds = dict.fromkeys(("inputs", "outputs", "parameters", "parameters_small", "rank"), "Int64")
    columns = ["kind", "inputs", "outputs", "parameters", "parameters_small", "rank", "left"]
    index = pd.Index(list(parts), dtype=object)
    return pd.DataFrame(rows, index=index, columns=columns).astype(kinds)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers by name, thin ones as one."""
    inside = {
        part for thin in model.modules() if isinstance(thin, _THIN) for part in thin.children()
    }
    return {
        name: part
        for name, part in model.named_modules()
        if part not in inside and _widths(part)[0] is not None
    }


def _form(part: nn.Module) -> tuple[Any, ...]:
    """Return what a layer has in common with a thin one in its place."""
    return *_widths(part), getattr(part, "kernel_size", None), getattr(part, "groups", None)


def _widths(part: nn.Module) -> tuple[int | None, int | None]:
    for kinds, (before, after) in _WIDTHS:
        if isinstance(part, kinds):
            return getattr(part, before), getattr(part, after)
    if _is_conv1d(part):
        weight: Any = part.weight
        return weight.shape[0], weight.shape[1]
    return None, None


def _is_conv1d(part: nn.Module) -> bool:
    """Tell whether a layer is transformers' Conv1D, which is linear."""
    return any(
        kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"
        for kind in type(part).__mro__
    )


def _size(part: nn.Module | None, but: list[nn.Module]) -> int | None:
    """Return the number of parameters of a layer, but for those of others in it."""
    if part is None:
        return None
    others = {id(parameter) for each in but for parameter in each.parameters()}
    own = [parameter for parameter in part.parameters() if id(parameter) not in others]
    if any(is_lazy(parameter) for parameter in own):
        return None
    return sum(parameter.numel() for parameter in own)


def _compared(part: nn.Module, own: nn.Module | None) -> tuple[int | None, str]:
    """Return the rank of what has a layer's name in the smaller model, and what that is.

    Nothing where the layer is cut.
    """
    if own is None:
        return None, "not in the smaller model"
    if isinstance(part, nn.MultiheadAttention) and isinstance(own, SplitAttention):
        cut = any(isinstance(getattr(own, name), _THIN) for name in _PROJECTIONS)
        return None, "" if cut else "whole"
    if _form(part) != _form(own):
        return None, "another layer"
    if isinstance(own, _THIN):
        return own.rank, "thin already" if isinstance(part, _THIN) else ""
    return None, "another layer" if isinstance(part, _THIN) else "whole"


def _why_whole(part: nn.Module, *, shared: bool, attended: bool) -> str:
    """Return why a layer could not be cut, or that it merely was not."""
    seen = as_map(part)
    for holds, reason in [
        (isinstance(part, nn.MultiheadAttention), "packed projections: see split_attention"),
        (attended, "run by its attention: see split_attention"),
        (isinstance(part, _RECURRENT), "recurrent"),
        (isinstance(part, _ConvTransposeNd), "transposed"),
        (getattr(part, "groups", 1) != 1, "grouped convolution"),
        ("weight" not in part._parameters, "weights that are made of others"),
        (seen is None, "a class of its own, or weights of another kind"),
        (shared, "shared weights"),
        (does_more(part), "hooks or a forward of its own"),
        (seen is not None and seen.thin_size(1) >= seen.size, "no smaller at any rank"),
    ]:
        if holds:
            return reason
    return "whole"
