"""What `compress` may be asked for, and which layers it may cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..backbone.batches import ModuleBatches
from ..backbone.frozen import frozen
from ..inputs.encoding import python_value
from ..inputs.exceptions import FairnessWarning
from ..inputs.warn import warn_user
from ..inputs.words import joined, listed, shown
from ..lowrank.cut import CUTS
from ..lowrank.layer import LowRankConv, LowRankLinear
from ..lowrank.maps import LayerMap, does_more, layer_maps
from ..parity.table import TABLE
from .outputs import as_labels
from .watching import hooked

__all__ = [
    "check_labels",
    "check_module",
    "check_running",
    "check_settings",
    "choose_layers",
    "warn_of_bound",
    "warn_of_groups",
]

# Below which a group's means are mostly what is so by chance.
_FEW_ROWS = 30


def check_module(name: str, module: Any) -> None:
    """Refuse what is no module."""
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"{name} is {type(module).__name__}; expected an nn.Module. Of a fitted classifier "
            "pass clf.to_torch()."
        )


def warn_of_groups(groups: NDArray[Any], counts: Tensor, alike: bool) -> None:
    """Say which groups have too few rows to tell what they need, or that there is one only."""
    if not alike:
        return
    if len(groups) == 1:
        warn_user(
            f"sensitive_features is constant: all {int(counts.sum())} rows belong to the group "
            f"{shown(python_value(groups[0]))}, so that no group is protected from another.",
            FairnessWarning,
        )
    few = [
        f"{shown(python_value(group))} has {n}"
        for group, n in zip(groups, counts.tolist(), strict=True)
        if n < _FEW_ROWS
    ]
    if few and len(groups) > 1:
        warn_user(
            f"Some groups have few rows to tell what they need: {joined(few)}. Pass more of them, "
            "some hundred if they can be had.",
            FairnessWarning,
        )


def warn_of_bound(model: nn.Module) -> None:
    """Say that a cut model need not meet the constraint of the classifier that it is of."""
    constraint = vars(model).get("constraint")
    if isinstance(constraint, str) and constraint in TABLE:
        warn_user(
            f"The model is a classifier's with constraint={constraint!r}, which a cut model need "
            "not meet: low ranks lean towards the decisions without it. Compress the backbone and "
            "fit the classifier on that, or measure the smaller model on other rows.",
            FairnessWarning,
        )


def check_labels(y: Any, n_rows: int) -> Tensor | None:
    """Return labels as a tensor, a row for each of X; None of None."""
    if y is None:
        return None
    labels = as_labels(y)
    if not labels.ndim or len(labels) != n_rows:
        raise ValueError(
            f"y has the shape {tuple(labels.shape)}, but X has {n_rows} rows; expected a label for "
            "each."
        )
    return labels


def check_settings(
    rank: Any,
    budgets: Mapping[str, Any],
    importance: Any,
    sequential: Any,
    refine: Any,
    max_iter: Any,
    max_epochs: Any,
    fraction: Any,
    borrowed: Any,
) -> None:
    """Refuse parameters that cannot be used, whatever the data."""
    given = [name for name, value in {"rank": rank, **budgets}.items() if value is not None]
    if len(given) != 1:
        what = (
            f"{' and '.join(given)} are given" if given else "rank, parameters and flops are None"
        )
        raise ValueError(f"{what}; expected one of the three, which says how small to make it.")
    for name, value in budgets.items():
        if value is not None and not (
            isinstance(value, Real) and not isinstance(value, bool) and 0.0 < float(value) < 1.0
        ):
            raise ValueError(
                f"{name}={value!r}; expected the share in (0, 1) of what the layers have whole."
            )
    for own in rank.values() if isinstance(rank, Mapping) else [] if rank is None else [rank]:
        whole = isinstance(own, Integral) and not isinstance(own, bool) and int(own) >= 1
        share = isinstance(own, Real) and not isinstance(own, Integral) and 0.0 < float(own) <= 1.0
        if not (whole or share):
            raise ValueError(
                f"rank={own!r}; expected a whole number from 1, or a share of energy in (0, 1]."
            )
    for name, value, known in [
        ("importance", importance, ("auto", *CUTS)),
        ("refine", refine, (None, "distill", "distill_network")),
    ]:
        if not (value is None or isinstance(value, str)) or value not in known:
            raise ValueError(f"{name}={value!r}; expected one of {', '.join(map(repr, known))}.")
    if not isinstance(borrowed, Real) or not 0.0 <= float(borrowed) < np.inf:
        raise ValueError(f"borrowed_rows={borrowed!r}; expected a number of at least 0.")
    auto = isinstance(sequential, str) and sequential == "auto"
    if not (auto or isinstance(sequential, (bool, np.bool_))):
        raise ValueError(f"sequential={sequential!r}; expected True, False or 'auto'.")
    if not auto and sequential and importance in ("uniform", "fisher"):
        raise ValueError(
            f"sequential=True and importance={importance!r}; expected 'auto', 'covariance' or "
            "'kfac', which are of what the layers see."
        )
    for name, value in (("max_iter", max_iter), ("max_epochs", max_epochs)):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name}={value!r}; expected a whole number from 1.")
    if not isinstance(fraction, Real) or not 0.0 < float(fraction) < 1.0:
        raise ValueError(f"validation_fraction={fraction!r}; expected a number between 0 and 1.")


def choose_layers(model: nn.Module, layers: Any, rank: Any) -> dict[str, LayerMap]:
    """Return the layers that may be cut, by name.

    Raises
    ------
    ValueError
        If layers or rank name others, or there is none.
    """
    known = layer_maps(model)
    holders: dict[int, list[str]] = {}
    for name, part in model.named_modules():
        for parameter in part._parameters.values():
            if parameter is not None:
                holders.setdefault(id(parameter), []).append(name)
    shared = {name for name, seen in known.items() if len(holders[id(seen.layer.weight)]) > 1}
    if layers is None and isinstance(rank, Mapping):
        layers = list(rank)
    if layers is None:
        thin = [
            name
            for name, each in model.named_modules()
            if isinstance(each, (LowRankConv, LowRankLinear))
        ]
        if thin and known:
            warn_user(
                f"The layers [{listed(thin)}] are thin already and stay as they are; rank or "
                "budget are of the others. To make the model smaller still, cut the whole one "
                "anew.",
                UserWarning,
            )
        return {
            name: seen
            for name, seen in known.items()
            if name not in shared and not does_more(seen.layer)
        }
    if not isinstance(layers, (str, Iterable)):
        raise ValueError(f"layers={layers!r}; expected names of layers, or None for all.")
    layers = [layers] if isinstance(layers, str) else list(layers)
    absent = [name for name in layers if name not in known]
    if absent or not layers:
        parts = dict(model.named_modules())
        grouped = [name for name in absent if getattr(parts.get(name), "groups", 1) != 1]
        packed = [
            name
            for name in absent
            if isinstance(parts.get(name), nn.MultiheadAttention)
            or isinstance(parts.get(name.rpartition(".")[0]), nn.MultiheadAttention)
        ]
        hint = ""
        if grouped:
            hint = f" [{listed(grouped)}] are grouped convolutions: thin already."
        if packed:
            hint += (
                f" [{listed(packed)}] hold their projections as one parameter: pass "
                "split_attention(model)."
            )
        raise ValueError(
            f"layers names [{listed(absent)}]; expected linear layers or convolutions of the "
            f"model: [{listed(known)}].{hint}"
        )
    more = [name for name in layers if does_more(known[name].layer)]
    if more:
        raise ValueError(
            f"The layers [{listed(more)}] have hooks or a forward of their own, which layers in "
            "their place would not have. Remove those, or leave the layers out."
        )
    tied = [name for name in layers if name in shared]
    if tied:
        raise ValueError(
            f"The layers [{listed(tied)}] share their weights with others, which would keep the "
            "old ones. Leave them out."
        )
    if isinstance(rank, Mapping) and set(rank) != set(layers):
        raise ValueError(
            f"rank names the layers [{listed(rank)}], and layers [{listed(layers)}]; expected the "
            "same. Leave layers out."
        )
    return {name: known[name] for name in layers}


def check_running(small: nn.Module, names: Iterable[str], batches: ModuleBatches) -> None:
    """Refuse a copy whose forward comes to the old layers by another way than their names."""
    silent = set(names)
    rows, arguments = next(iter(batches))

    def note(name: str) -> Any:
        return lambda given, output: silent.discard(name)

    notes = {name: note(name) for name in silent}
    with frozen(small, batches.device), torch.no_grad(), hooked(small, notes):
        batches.run(small, arguments, rows.stop - rows.start)
    if silent:
        raise ValueError(
            f"The layers [{listed(sorted(silent))}] cannot be replaced: the model comes to them by "
            "another way than as its submodules of these names, such as a list of layers or a "
            "compiled function, and would go on with the old ones. Leave them out: pass layers= "
            "without them."
        )
