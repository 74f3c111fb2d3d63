"""One batch through a frozen module: numbers in, checked features out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..inputs.warn import warn_user
from .feature_module import contents

__all__ = [
    "Arguments",
    "BatchRunner",
    "ambient",
    "arguments_of_batch",
    "device_of",
    "dtype_of",
    "number_tensor",
    "place",
]

# Of a call, by their places or names.
Arguments = dict[int | str, Any]


def _first_tensor(module: nn.Module) -> Tensor | None:
    tensors = chain(module.parameters(), module.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module lies: the device of its first tensor, the CPU if it has none."""
    first = _first_tensor(module)
    return torch.device("cpu") if first is None else first.device


def dtype_of(module: nn.Module) -> torch.dtype | None:
    """Return what a module computes in: the type of its first floating-point tensor, or None."""
    first = _first_tensor(module)
    if first is None and any("quantized" in type(part).__module__ for part in module.modules()):
        return torch.float32  # whose weights torch does not list
    return None if first is None else first.dtype


def ambient() -> tuple[Any, ...]:
    """Return torch's settings around a call that change what any module gives."""
    autocast = [
        torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        for device in ("cpu", "cuda")
    ]
    return (*autocast, torch.get_default_dtype(), torch.get_float32_matmul_precision())


def number_tensor(batch: Any, module: nn.Module) -> Tensor:
    """Return a batch of numbers as a new tensor; integer arrays become floating point."""
    # A copy, because the module may work in place: nn.ReLU(inplace=True) would write into X.
    if isinstance(batch, Tensor):
        return batch.clone()
    dtype = np.asarray(batch).dtype
    # torch has neither long doubles nor bytes in another order than the machine's.
    dtype = np.dtype(np.float64) if dtype.kind == "f" and dtype.itemsize > 8 else dtype
    tensor = torch.from_numpy(np.array(batch, dtype=dtype.newbyteorder("="), order="C"))
    return tensor if tensor.is_floating_point() else tensor.to(dtype_of(module) or torch.float32)


@dataclass
class BatchRunner:
    """Run batches through a module, in smaller ones where memory is short.

    Examples
    --------
    >>> import torch
    >>> run = BatchRunner(torch.nn.ReLU(), "ReLU", 256, torch.device("cpu"))
    >>> run(torch.tensor([[-1.0, 2.0]]), 1)
    array([[0., 2.]], dtype=float32)
    """

    module: nn.Module  # on the device, in evaluation mode
    name: str  # in error messages
    batch_size: int  # most rows per pass; halved for good each time that memory does not suffice
    device: torch.device
    channels_last: bool = False  # lay out images (n, channels, height, width) like that
    width: int | None = None  # features per row that earlier batches had; None takes any

    def __post_init__(self) -> None:
        self._dtype = dtype_of(self.module)

    def __call__(self, inputs: Any, n_rows: int) -> NDArray[Any]:
        """Return the features (n_rows, d) of one batch, in float64 if the module's are, or float32.

        Parameters
        ----------
        inputs : tensor, or tuple or mapping of tensors
            Positional or keyword arguments. Floating point takes the dtype of the
            module's parameters. A mapping may also hold numbers, texts and None.
        n_rows : int
            Rows in the batch.

        Raises
        ------
        ValueError
            If the module fails, or does not return one row of finite floating-point
            features per row.
        MemoryError
            If memory does not suffice for a single row; batches are halved before, with a warning.
        """
        arguments = arguments_of_batch(inputs)
        parts: list[NDArray[Any]] = []
        start = 0
        while start < n_rows:
            rows = slice(start, min(start + self.batch_size, n_rows))
            size = rows.stop - start
            part = None
            try:
                part = self._run(_cut(arguments, rows, n_rows), size)
            except ValueError:
                raise
            except Exception as error:  # whatever a module raises
                if not _is_memory_error(error):
                    raise ValueError(self._failure(error, arguments)) from error
                if size == 1:
                    raise MemoryError(
                        f"The feature extractor {self.name} ran out of memory on a single row: "
                        f"{error}. Free memory, use smaller inputs, or another device."
                    ) from error
            # Out of the except clause: the error's traceback holds on to the memory.
            if part is None:
                self._halve(size)
            else:
                parts.append(part)
                start = rows.stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, arguments: Arguments, n_rows: int) -> NDArray[Any]:
        """Run the module once."""
        arguments = place(arguments, self.device, self._dtype, channels_last=self.channels_last)
        # Looked at before the call, which may work in place: NaN of its own is not in X.
        gaps = _rows_with_nan(arguments, n_rows)
        args = [value for name, value in arguments.items() if isinstance(name, int)]
        kwargs = {name: value for name, value in arguments.items() if isinstance(name, str)}
        output = self.module(*args, **kwargs)
        features = _check_output(output, gaps, n_rows, self.width, self.name)
        self.width = features.shape[1]
        double = features.dtype == torch.float64
        return features.to(torch.float64 if double else torch.float32).cpu().numpy()

    def _failure(self, error: Exception, arguments: Arguments) -> str:
        tensors = [value for value in arguments.values() if isinstance(value, Tensor)]
        double = self._dtype is None and any(each.dtype == torch.float64 for each in tensors)
        hint = " It was given float64; it may want X.astype('float32')." if double else ""
        return (
            f"The feature extractor {self.name} failed on a batch of shape "
            f"{[tuple(each.shape) for each in tensors]}: {error}. Check that X, or what preprocess "
            f"returns, is what the module takes.{hint}"
        )

    def _halve(self, size: int) -> None:
        """Go on with half the batch."""
        self.batch_size = size // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        warn_user(
            f"Memory was short for {size} rows at once; the feature extractor {self.name} goes on "
            f"with batch_size={self.batch_size}.",
            UserWarning,
        )


_OUT_OF_MEMORY = re.compile(
    r"out of memory|(allocate|enough|insufficient)\b.{0,20}\bmemory|bad_alloc|bad allocation", re.I
)


def _is_memory_error(error: BaseException) -> bool:
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    # On the CPU, and in other runtimes, only the text tells.
    return known or _OUT_OF_MEMORY.search(str(error)) is not None


def _cut(arguments: Arguments, rows: slice, n_rows: int) -> Arguments:
    """Return some rows of the arguments; those that do not have one entry per row stay whole."""
    if rows == slice(0, n_rows):
        return arguments
    return {
        name: value[rows] if _has_rows(value, n_rows) else value
        for name, value in arguments.items()
    }


def _has_rows(value: Any, n_rows: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == n_rows


def arguments_of_batch(inputs: Any) -> Arguments:
    """Return positional and keyword arguments of a module, by their places or names.

    Examples
    --------
    >>> list(arguments_of_batch((torch.zeros(2), torch.ones(2))))
    [0, 1]
    """
    expected: tuple[type, ...] = (Tensor,)
    if isinstance(inputs, Mapping):
        # Settings such as return_dict=True are not of one row.
        arguments, expected = dict(inputs), (Tensor, str, bool, int, float, type(None))
    else:
        arguments = dict(enumerate(inputs if isinstance(inputs, (tuple, list)) else [inputs]))
    for value in arguments.values():
        if not isinstance(value, expected):
            raise ValueError(
                f"preprocess returned {type(value).__name__} where a tensor was expected; return "
                "a tensor, a tuple of tensors, or a mapping of names to tensors."
            )
    return arguments


def place(
    arguments: Arguments,
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    channels_last: bool = False,
) -> Arguments:
    """Return arguments on a device; floating point takes the dtype, images a layout in memory.

    Examples
    --------
    >>> place({0: torch.ones(2), "n": 3}, torch.device("cpu"), torch.float64)
    {0: tensor([1., 1.], dtype=torch.float64), 'n': 3}
    """

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        images = channels_last and value.ndim == 4
        return value.to(
            device,
            dtype if value.is_floating_point() else None,
            memory_format=torch.channels_last if images else torch.preserve_format,
        )

    return {name: placed(value) for name, value in arguments.items()}


def _check_output(output: Any, gaps: int, n_rows: int, width: int | None, name: str) -> Tensor:
    """Return the module's output if it is one row of finite features per input row."""
    if not isinstance(output, Tensor):
        raise ValueError(
            f"The feature extractor {name} returned {contents(output)}; expected one tensor "
            "(batch, features). Name the one you want with output=, or a layer with layer=."
        )
    if output.ndim > 2:
        raise ValueError(
            f"The feature extractor {name} returned a {output.ndim}-d tensor of shape "
            f"{tuple(output.shape)}; expected (batch, features). Pool or flatten it: "
            "FrozenFeatureExtractor(extractor, pool='mean') averages each map, or all tokens; "
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
    # A sum is finite only if every value is (and if it does not overflow); it costs far less
    # than a look at each value.
    if not math.isfinite(output.sum()):
        finite = torch.isfinite(output).all(dim=1)
        if not bool(finite.all()):
            returned = (
                f"The feature extractor {name} returned NaN or infinity for "
                f"{int((~finite).sum())} of {n_rows} rows"
            )
            if gaps:
                raise ValueError(
                    f"{returned}, and what it was given contains NaN in {gaps} rows: X, or what "
                    "preprocess made of it. Fill the gaps, or use a module that deals with them."
                )
            raise ValueError(f"{returned}. If it runs in half precision, try module.float().")
    return output


def _rows_with_nan(arguments: Arguments, n_rows: int) -> int:
    """Return the number of rows of which some input is NaN."""
    missing = np.zeros(n_rows, dtype=bool)
    for value in arguments.values():
        if not (_has_rows(value, n_rows) and value.is_floating_point()):
            continue
        if math.isnan(value.sum()):  # as it is wherever one is; far cheaper than to ask each
            missing |= torch.isnan(value).reshape(n_rows, -1).any(1).cpu().numpy()
    return int(missing.sum())
