"""One batch through a frozen module: numbers in, checked features out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["device_of", "forward", "frozen", "number_tensor"]


def _first_tensor(module: nn.Module) -> Tensor | None:
    tensors = [*module.parameters(), *module.buffers()]
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module lies: the device of its first tensor, the CPU if it has none."""
    first = _first_tensor(module)
    return torch.device("cpu") if first is None else first.device


def _dtype_of(module: nn.Module) -> torch.dtype | None:
    first = _first_tensor(module)
    return None if first is None else first.dtype


@contextmanager
def frozen(module: nn.Module, source: torch.device, device: torch.device) -> Iterator[None]:
    """Hold a module in evaluation mode on a device, then leave it as it was.

    Parameters
    ----------
    module : nn.Module
        The module; its training flags and device are restored on leaving.
    source, device : torch.device
        Where it lies, and where to run it.
    """
    training = {part: part.training for part in module.modules()}
    moved = device != source
    try:
        module.eval()
        if moved:
            module.to(device)
        # no_grad, not inference_mode: tensors a module caches must stay usable in training.
        with torch.no_grad():
            yield
    finally:
        for part, flag in training.items():
            part.training = flag
        if moved:
            module.to(source)


def number_tensor(batch: Any, module: nn.Module) -> Tensor:
    """Return a batch of numbers as a new tensor; integer arrays become floating point."""
    # A copy, because the module may work in place: nn.ReLU(inplace=True) would write into X.
    if isinstance(batch, Tensor):
        return batch.clone()
    tensor = torch.from_numpy(np.array(batch, order="C"))
    return tensor if tensor.is_floating_point() else tensor.to(_dtype_of(module) or torch.float32)


def forward(
    module: nn.Module, inputs: Any, n_rows: int, device: torch.device, width: int | None
) -> NDArray[Any]:
    """Return the features of one batch.

    Parameters
    ----------
    module : nn.Module
        On ``device``, in evaluation mode.
    inputs : tensor, or tuple or mapping of tensors
        Positional or keyword arguments. Floating point takes the dtype of the
        module's parameters.
    n_rows : int
        Rows in the batch.
    device : torch.device
        Where to run.
    width : int or None
        Features per row that earlier batches had; None takes any.

    Returns
    -------
    ndarray of shape (n_rows, d), float32 or float64
        float64 only from float64 modules.

    Raises
    ------
    ValueError
        If the module fails, or does not return one row of finite floating-point
        features per row.

    Examples
    --------
    >>> import torch
    >>> forward(torch.nn.ReLU(), torch.tensor([[-1.0, 2.0]]), 1, torch.device("cpu"), None)
    array([[0., 2.]], dtype=float32)
    """
    dtype = _dtype_of(module)
    args, kwargs = _call_arguments(inputs, dtype, device)
    try:
        output = module(*args, **kwargs)
    except RuntimeError as error:
        shapes = [tuple(value.shape) for value in (*args, *kwargs.values())]
        raise ValueError(
            f"The feature extractor {type(module).__name__} failed on a batch of shape {shapes}: "
            f"{error}. Check that X, or what preprocess returns, is what the module takes."
        ) from error
    features = _check_output(output, n_rows, width, type(module).__name__)
    double = features.dtype == torch.float64
    return features.to(torch.float64 if double else torch.float32).cpu().numpy()


def _call_arguments(
    inputs: Any, dtype: torch.dtype | None, device: torch.device
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Return positional and keyword arguments of the module, on its device and of its dtype."""

    def place(value: Any) -> Any:
        if not isinstance(value, Tensor):
            raise ValueError(
                f"preprocess returned {type(value).__name__} where a tensor was expected; return "
                "a tensor, a tuple of tensors, or a mapping of names to tensors."
            )
        return value.to(device, dtype if value.is_floating_point() else None)

    if isinstance(inputs, Mapping):
        return (), {name: place(value) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return tuple(place(value) for value in inputs), {}
    return (place(inputs),), {}


def _check_output(output: Any, n_rows: int, width: int | None, name: str) -> Tensor:
    """Return the module's output if it is one row of finite features per input row."""
    if not isinstance(output, Tensor):
        raise ValueError(
            f"The feature extractor {name} returned {type(output).__name__}; expected one tensor "
            "(batch, features). Wrap it in a module whose forward picks the tensor you want."
        )
    if output.ndim > 2:
        raise ValueError(
            f"The feature extractor {name} returned a {output.ndim}-d tensor of shape "
            f"{tuple(output.shape)}; expected (batch, features). Pool or flatten it: "
            "nn.Sequential(extractor, nn.AdaptiveAvgPool2d(1), nn.Flatten()) averages each map, "
            "nn.Sequential(extractor, nn.Flatten()) keeps every value."
        )
    if output.ndim < 2 or len(output) != n_rows or output.shape[1] == 0:
        raise ValueError(
            f"The feature extractor {name} returned shape {tuple(output.shape)} for a batch of "
            f"{n_rows} rows; expected ({n_rows}, features)."
        )
    if width is not None and output.shape[1] != width:
        raise ValueError(
            f"The feature extractor {name} returned {output.shape[1]} features per row but {width} "
            "for earlier rows. Pool over what varies in length, or pad it to one length."
        )
    if not output.is_floating_point():
        raise ValueError(
            f"The feature extractor {name} returned {output.dtype}; expected floating-point "
            "features. Class numbers or token ids are not features: take the layer before."
        )
    finite = torch.isfinite(output).all(dim=1)
    if not bool(finite.all()):
        raise ValueError(
            f"The feature extractor {name} returned NaN or infinity for "
            f"{int((~finite).sum())} of {n_rows} rows. If it runs in half precision, try "
            "module.float()."
        )
    return output
