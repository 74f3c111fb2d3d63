"""`initialize_lora`: adapters that begin in the directions that every group uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ..backbone.batches import ModuleBatches
from ..inputs.by_name import by_name
from ..inputs.checks import check_group_weights, found_weights
from ..inputs.encoding import encode_groups
from ..inputs.index_order import warn_of_index_order
from ..inputs.words import listed
from ..lowrank.importance import gaps_of
from ..lowrank.maps import ConvMap, LayerMap, as_map
from .calibration import calibrate
from .checks import check_module, warn_of_groups

__all__ = ["initialize_lora"]


@by_name
def initialize_lora(
    model: nn.Module,
    X: Any,
    *,
    sensitive_features: Any,
    group_weights: Any = None,
    adapter: str = "default",
    preprocess: Callable[[Any], Any] | None = None,
    batch_size: int = 256,
    device: str | torch.device | None = None,
) -> None:
    """Begin the LoRA adapters of a peft model in directions of its inputs that every group uses.

    An adapter of rank r sees its layer's inputs in r directions, the rows of A. They are set to
    those in which the inputs vary most, with all groups counting the same; B, which must be zero,
    stays, and so does what the model says. EVA [1]_ takes the directions of all rows, in which a
    rare group hardly counts; it is ``group_weights="proportional"``. No labels are needed.

    Parameters
    ----------
    model : nn.Module
        What ``peft.get_peft_model`` made with a ``LoraConfig``; its adapters are changed in place.
    X : array-like, tensor, DataFrame, list or dataset of n rows
        Inputs of the model, as `FrozenFeatureExtractor` takes them; some hundred of each group.
    sensitive_features : array-like of shape (n,) or (n, c)
        Group of each row.
    group_weights : None, "proportional", dict, Series or array-like, default=None
        How much each group counts. None is all alike; others as in `FairLowRankHeadClassifier`.
    adapter : str, default="default"
        Name of the adapter.
    preprocess, batch_size, device
        As for `FrozenFeatureExtractor`.

    Raises
    ------
    ImportError
        Without the package peft.
    ValueError
        If the model has no such adapters on linear layers, or has some on others, if B of one is
        not zero, if a layer has fewer inputs than its adapter has ranks, and for what `compress`
        refuses of layers and rows.

    Warns
    -----
    FairnessWarning
        If there is one group only, or one of less than 30 rows.

    See Also
    --------
    compress : Makes layers thin, such that every group counts.

    References
    ----------
    .. [1] F. Paischer et al., "Parameter efficient fine-tuning via explained variance adaptation",
       NeurIPS 2025.

    Examples
    --------
    >>> import torch
    >>> from peft import LoraConfig, get_peft_model
    >>> from torch import nn
    >>> from skfairft import initialize_lora
    >>> network = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
    >>> X, s = torch.randn(500, 20), torch.arange(500) % 10 == 0
    >>> model = get_peft_model(network, LoraConfig(r=4, target_modules=["0"]))
    >>> initialize_lora(model, X, sensitive_features=s)
    """
    try:
        from peft.tuners.lora import LoraLayer
    except ImportError as error:
        raise ImportError("initialize_lora needs the package peft: pip install peft") from error
    check_module("model", model)
    adapted: dict[str, Any] = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, LoraLayer)
        and (adapter in part.lora_A or adapter in part.lora_embedding_A)
    }
    if not adapted:
        named = {
            each for part in model.modules() if isinstance(part, LoraLayer) for each in part.lora_A
        }
        raise ValueError(
            f"{type(model).__name__} has no LoRA adapter named {adapter!r}; expected what "
            "peft.get_peft_model makes with a LoraConfig."
            + (f" There are [{listed(sorted(named))}]." if named else "")
        )
    begun = [
        name
        for name, part in adapted.items()
        if adapter in part.lora_B and part.lora_B[adapter].weight.any()
    ]
    if begun:
        raise ValueError(
            f"The adapters of [{listed(begun)}] are in use: B is not zero, and to begin anew would "
            "change what the model says. Pass one that was not trained, of a LoraConfig whose "
            "init_lora_weights leaves B at zero (True or 'gaussian')."
        )
    maps: dict[str, LayerMap] = {}
    others = []
    for name, part in adapted.items():
        seen = as_map(part.get_base_layer())
        if seen is None or isinstance(seen, ConvMap):
            others.append(name)
            continue
        seen.side = "inputs"  # whose directions they are, however wide
        if seen.d < part.r[adapter]:
            raise ValueError(
                f"The adapter of {name!r} has rank {part.r[adapter]}, more than the layer's "
                f"{seen.d} inputs; take a lower r."
            )
        maps[f"{name}.base_layer"] = seen
    if others:
        raise ValueError(
            f"The adapters of [{listed(others)}] are not on linear layers; expected "
            "target_modules of linear layers only."
        )
    batches = ModuleBatches.of(
        model, X, preprocess=preprocess, batch_size=batch_size, device=device
    )
    groups, numbers = encode_groups(sensitive_features, len(batches))
    warn_of_index_order(X=X, sensitive_features=sensitive_features)
    codes = torch.from_numpy(numbers)
    weights, minimax = found_weights(group_weights)
    if minimax:
        raise ValueError("group_weights='minimax' is of cuts; expected None, or weights.")
    counts = np.bincount(numbers)
    shares = torch.from_numpy(check_group_weights(weights, groups, counts))
    warn_of_groups(groups, torch.from_numpy(counts), weights is None)
    found = calibrate(
        model,
        batches,
        codes,
        maps,
        n_groups=len(groups),
        graded=set(),
        gradients=None,
        y=None,
        keep=False,
        lenient=False,
        generator=torch.Generator(),
    )
    silent = [name for name in maps if name not in found.statistics]
    if silent:
        raise ValueError(f"The layers [{listed(silent)}] did not run: name others.")
    for name, part in adapted.items():
        moments = found.statistics[f"{name}.base_layer"].moments.result()
        gaps = gaps_of(moments.means, shares)
        within = torch.einsum("g,gij->ij", shares, moments.covariances)
        vectors = torch.linalg.eigh(within + gaps.T @ (gaps * shares[:, None])).eigenvectors
        A = part.lora_A[adapter].weight
        with torch.no_grad():
            A.copy_(vectors[:, -len(A) :].flip(1).T)
