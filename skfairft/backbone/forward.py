"""One batch through a frozen module: numbers in, checked features out."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .module_copy import switch_to_evaluation

__all__ = ["BatchRunner", "ambient", "device_of", "frozen", "number_tensor"]


def _first_tensor(module: nn.Module) -> Tensor | None:
    tensors = [*module.parameters(), *module.buffers()]
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module lies: the device of its first tensor, the CPU if it has none."""
    first = _first_tensor(module)
    return torch.device("cpu") if first is None else first.device


def _dtype_of(module: nn.Module) -> torch.dtype | None:
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


@contextmanager
def frozen(module: nn.Module, source: torch.device, device: torch.device) -> Iterator[None]:
    """Hold a module in evaluation mode on a device, then leave it as it was.

    Parameters
    ----------
    module : nn.Module
        The module; its training flags, values and device are restored on leaving.
    source, device : torch.device
        Where it lies, and where to run it.
    """
    # What torch.jit.freeze returns has no flag.
    training = {part: getattr(part, "training", False) for part in module.modules()}
    # Some do more in train() and eval() than to set a flag: merge an adapter, say.
    own = [part for part in training if _has_modes_of_its_own(part)]
    kept = [(tensor, tensor.detach().clone()) for part in own for tensor in _tensors_of(part)]
    moved = device != source
    try:
        switch_to_evaluation(module)
        if moved:
            module.to(device)
        # no_grad, not inference_mode: tensors a module caches must stay usable in training.
        with torch.no_grad():
            yield
    finally:
        if moved:
            module.to(source)
        for part in own:
            if training[part]:
                part.train()
        for part, flag in training.items():
            if hasattr(part, "training"):
                part.training = flag
        with torch.no_grad():
            for tensor, values in kept:  # what was added and taken away again is rounded
                if not torch.equal(tensor, values):
                    tensor.data.copy_(values)


def _has_modes_of_its_own(part: nn.Module) -> bool:
    kind = type(part)
    return kind.train is not nn.Module.train or kind.eval is not nn.Module.eval


def _tensors_of(part: nn.Module) -> list[Tensor]:
    tensors = [*part.parameters(), *part.buffers()]
    return [tensor for tensor in tensors if not is_lazy(tensor)]


def number_tensor(batch: Any, module: nn.Module) -> Tensor:
    """Return a batch of numbers as a new tensor; integer arrays become floating point."""
    # A copy, because the module may work in place: nn.ReLU(inplace=True) would write into X.
    if isinstance(batch, Tensor):
        return batch.clone()
    dtype = np.asarray(batch).dtype
    # torch has neither long doubles nor bytes in another order than the machine's.
    dtype = np.dtype(np.float64) if dtype.kind == "f" and dtype.itemsize > 8 else dtype
    tensor = torch.from_numpy(np.array(batch, dtype=dtype.newbyteorder("="), order="C"))
    return tensor if tensor.is_floating_point() else tensor.to(_dtype_of(module) or torch.float32)


class BatchRunner:
    """Run batches through a module, in smaller ones where memory is short.

    Parameters
    ----------
    module : nn.Module
        Maps a batch to features. On ``device``, in evaluation mode.
    name : str
        What error messages call it.
    batch_size : int
        Most rows per pass; halved for good each time that memory does not suffice.
    device : torch.device
        Where to run.
    channels_last : bool, default=False
        Lay out images (n, channels, height, width) channels last.
    width : int or None, default=None
        Features per row that earlier batches had; None takes any.

    Examples
    --------
    >>> import torch
    >>> run = BatchRunner(torch.nn.ReLU(), "ReLU", 256, torch.device("cpu"))
    >>> run(torch.tensor([[-1.0, 2.0]]), 1)
    array([[0., 2.]], dtype=float32)
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        batch_size: int,
        device: torch.device,
        *,
        channels_last: bool = False,
        width: int | None = None,
    ) -> None:
        self.module = module
        self.name = name
        self.batch_size = batch_size
        self.device = device
        self.channels_last = channels_last
        self.width = width
        self._dtype = _dtype_of(module)

    def __call__(self, inputs: Any, n_rows: int) -> NDArray[Any]:
        """Return the features of one batch.

        Parameters
        ----------
        inputs : tensor, or tuple or mapping of tensors
            Positional or keyword arguments. Floating point takes the dtype of the
            module's parameters. A mapping may also hold numbers, texts and None.
        n_rows : int
            Rows in the batch.

        Returns
        -------
        ndarray of shape (n_rows, d), float32 or float64
            float64 only from float64 modules.

        Raises
        ------
        ValueError
            If the module fails, or does not return one row of finite floating-point
            features per row.
        MemoryError
            If memory does not suffice for a single row.

        Warns
        -----
        UserWarning
            Where the batch size was halved.
        """
        args, kwargs = _call_arguments(inputs)
        parts: list[NDArray[Any]] = []
        start = 0
        while start < n_rows:
            rows = slice(start, min(start + self.batch_size, n_rows))
            size = rows.stop - start
            short = False
            try:
                parts.append(self._run(*_cut(args, kwargs, rows, n_rows), size))
            except ValueError:
                raise
            except Exception as error:  # whatever a module raises
                if not _is_memory_error(error):
                    values = (*args, *kwargs.values())
                    shapes = [tuple(value.shape) for value in values if isinstance(value, Tensor)]
                    double = any(getattr(value, "dtype", None) == torch.float64 for value in values)
                    hint = " It was given float64; it may want X.astype('float32')."
                    raise ValueError(
                        f"The feature extractor {self.name} failed on a batch of shape {shapes}: "
                        f"{error}. Check that X, or what preprocess returns, is what the module "
                        f"takes.{hint if double and self._dtype is None else ''}"
                    ) from error
                if size == 1:
                    raise MemoryError(
                        f"The feature extractor {self.name} ran out of memory on a single row: "
                        f"{error}. Free memory, use smaller inputs, or another device."
                    ) from error
                short = True
            # Out of the except clause: the error's traceback holds on to the memory.
            if short:
                self._halve(size)
            else:
                start = rows.stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, args: Any, kwargs: Any, n_rows: int) -> NDArray[Any]:
        """Run the module once."""
        args = [self._place(value) for value in args]
        kwargs = {name: self._place(value) for name, value in kwargs.items()}
        # Looked at before the call, which may work in place: NaN of its own is not in X.
        gaps = _rows_with_nan((*args, *kwargs.values()), n_rows)
        output = self.module(*args, **kwargs)
        features = _check_output(output, gaps, n_rows, self.width, self.name)
        self.width = features.shape[1]
        double = features.dtype == torch.float64
        return features.to(torch.float64 if double else torch.float32).cpu().numpy()

    def _place(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        images = self.channels_last and value.ndim == 4
        return value.to(
            self.device,
            self._dtype if value.is_floating_point() else None,
            memory_format=torch.channels_last if images else torch.preserve_format,
        )

    def _halve(self, size: int) -> None:
        """Go on with half the batch."""
        self.batch_size = size // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"Memory was short for {size} rows at once; the feature extractor {self.name} goes on "
            f"with batch_size={self.batch_size}.",
            UserWarning,
            stacklevel=2,
        )


_OUT_OF_MEMORY = re.compile(
    r"out of memory|(allocate|enough|insufficient)\b.{0,20}\bmemory|bad_alloc|bad allocation", re.I
)


# What a mapping may hold besides tensors.
_SETTINGS = (str, bool, int, float, type(None))


def _is_memory_error(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # On the CPU, and in other runtimes, only the text tells.
    return _OUT_OF_MEMORY.search(str(error)) is not None


def _cut(args: Any, kwargs: Any, rows: slice, n_rows: int) -> tuple[Any, Any]:
    """Return some rows of the arguments; those that do not have one entry per row stay whole."""
    if rows == slice(0, n_rows):
        return args, kwargs

    def cut(value: Any) -> Any:
        return value[rows] if _has_rows(value, n_rows) else value

    return [cut(value) for value in args], {name: cut(value) for name, value in kwargs.items()}


def _has_rows(value: Any, n_rows: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == n_rows


def _call_arguments(inputs: Any) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Return positional and keyword arguments of the module."""

    def check(value: Any) -> Any:
        if not isinstance(value, Tensor):
            raise ValueError(
                f"preprocess returned {type(value).__name__} where a tensor was expected; return "
                "a tensor, a tuple of tensors, or a mapping of names to tensors."
            )
        return value

    if isinstance(inputs, Mapping):
        # Settings such as return_dict=True are not of one row.
        return (), {
            name: value if isinstance(value, _SETTINGS) else check(value)
            for name, value in inputs.items()
        }
    if isinstance(inputs, (tuple, list)):
        return tuple(check(value) for value in inputs), {}
    return (check(inputs),), {}


def _contents(output: Any) -> str:
    """Describe an output that is not a tensor."""
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with {list(output)}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {len(output)}"
    return type(output).__name__


def _check_output(output: Any, gaps: int, n_rows: int, width: int | None, name: str) -> Tensor:
    """Return the module's output if it is one row of finite features per input row."""
    if not isinstance(output, Tensor):
        raise ValueError(
            f"The feature extractor {name} returned {_contents(output)}; expected one tensor "
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


def _rows_with_nan(inputs: tuple[Any, ...], n_rows: int) -> int:
    """Return the number of rows of which some input is NaN."""
    missing = np.zeros(n_rows, dtype=bool)
    for value in inputs:
        if not (_has_rows(value, n_rows) and value.is_floating_point()):
            continue
        if math.isnan(value.sum()):  # as it is wherever one is; far cheaper than to ask each
            missing |= torch.isnan(value).reshape(n_rows, -1).any(1).cpu().numpy()
    return int(missing.sum())
