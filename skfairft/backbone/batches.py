"""Rows of any kind through a module in batches, for what looks into the module meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..feature_store.witness import distance, noise_of, spread_of, witness_rows
from .alone import why_other
from .calling import arguments_of, call
from .extractor import FrozenFeatureExtractor
from .feature_module import contents
from .forward import Arguments, arguments_of_batch, device_of, dtype_of, place
from .frozen import frozen, locked
from .items import Index, InputRows, check_rows
from .modules import resolve_device

__all__ = ["ModuleBatches", "NotFiniteError"]

# What a Hugging Face model calls the scores of its classes.
_SCORES = "logits"
# Rows that are looked at together, of which some run by themselves.
_MOST_LOOKED_AT = 64


class NotFiniteError(ValueError):
    """What a module or a loss gives is NaN or infinity."""


@dataclass(frozen=True)
class ModuleBatches:
    """The rows of X as batches of a module's arguments, in order.

    Parameters
    ----------
    rows : InputRows
        Of X.
    batch_size : int
        Most rows of a batch.
    device : torch.device
        Where the module is to run.
    dtype : torch.dtype or None
        What floating point becomes.
    bar : tqdm, optional
        That counts the rows as they are handed out.
    index : Tensor, optional
        Numbers of the rows that are meant, if not all are.

    Examples
    --------
    >>> batches = ModuleBatches.of(nn.Linear(2, 1), torch.ones(5, 2), batch_size=3)
    >>> [(rows, arguments[0].shape) for rows, arguments in batches]
    [(slice(0, 3, None), torch.Size([3, 2])), (slice(3, 5, None), torch.Size([2, 2]))]
    """

    rows: InputRows
    batch_size: int
    device: torch.device
    dtype: torch.dtype | None
    bar: Any = None
    index: Tensor | None = None

    @classmethod
    def of(
        cls,
        module: nn.Module,
        X: Any,
        *,
        preprocess: Callable[[Any], Any] | None = None,
        batch_size: int = 256,
        device: str | torch.device | None = None,
        bar: Any = None,
    ) -> ModuleBatches:
        """Check X as `FrozenFeatureExtractor` does, whose parameters these are."""
        own = FrozenFeatureExtractor(
            module, preprocess=preprocess, batch_size=batch_size, device=device, memory=False
        )
        own._validate_params()
        rows = check_rows(own, X, reset=True)
        where = resolve_device(device, device_of(module))
        return cls(rows, batch_size, where, dtype_of(module), bar)

    def __len__(self) -> int:
        return len(self.rows if self.index is None else self.index)

    def __iter__(self) -> Iterator[tuple[slice, Arguments]]:
        for start in range(0, len(self), self.batch_size):
            rows = slice(start, min(start + self.batch_size, len(self)))
            arguments = self._loaded(rows if self.index is None else self.index[rows].numpy())
            yield rows, arguments
            self._count(rows.stop - rows.start)

    def only(self, mask: Tensor) -> ModuleBatches:
        """Return those rows alone of which a mask (n,) is true.

        Examples
        --------
        >>> batches = ModuleBatches.of(nn.Linear(2, 1), torch.arange(6.0).reshape(3, 2))
        >>> [rows[0] for _, rows in batches.only(torch.tensor([True, False, True]))]
        [tensor([[0., 1.],
                [4., 5.]])]
        """
        if bool(mask.all()):
            return self
        index = torch.where(mask)[0]
        return replace(self, index=index if self.index is None else self.index[index])

    def begin(self, what: str) -> None:
        """Say beside the bar what the rows are for now."""
        if self.bar is not None:
            self.bar.set_description_str(what)  # tqdm adds the colon

    def _count(self, n_rows: int) -> None:
        if self.bar is not None:
            self.bar.update(n_rows)

    def some(self, index: Tensor) -> Arguments:
        """Return rows by their numbers (m,) as a batch."""
        arguments = self._loaded((index if self.index is None else self.index[index]).numpy())
        self._count(len(index))
        return arguments

    def _loaded(self, index: Index) -> Arguments:
        arguments = arguments_of_batch(self.rows.made(self.rows.load(index)))
        return place(arguments, self.device, self.dtype)

    def look(self, module: nn.Module) -> None:
        """Run some rows together and by themselves; refuse what gives others then.

        Raises
        ------
        ValueError
            If what the module gives for a row depends on the other rows of its batch, or is
            another each time. Nothing can be said where the shape depends on the batch, too.

        Examples
        --------
        >>> batches = ModuleBatches.of(nn.Softmax(0), torch.eye(5))
        >>> batches.look(nn.Softmax(1))
        >>> batches.look(nn.Softmax(0))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: What Softmax gives for a row depends on the other rows of its batch: ...
        """
        n_rows = min(len(self), self.batch_size, _MOST_LOOKED_AT)
        chosen = witness_rows(n_rows)

        def run(index: Tensor) -> NDArray[np.float64]:
            arguments = place(self.some(index), self.device, dtype_of(module))
            out = self.run(module, arguments, len(index))
            found: NDArray[np.float64] = out.reshape(len(out), -1).double().cpu().numpy()
            return found

        def alone() -> NDArray[np.float64]:
            return run(torch.from_numpy(chosen))

        eager = torch.compiler.set_stance("force_eager")  # to compile it takes longer
        with locked(module), frozen(module, self.device), eager:
            together, found = run(torch.arange(n_rows)), alone()
            if found.shape[1] != together.shape[1]:
                return
            noise = noise_of(module, None)
            spread = spread_of(together, noise)
            if distance(found, together[chosen], spread, noise.eps) <= noise.limit:
                return
            each_time, why = why_other(found, alone, module, self.rows.inputs)
        title = type(module).__name__
        if each_time:
            raise ValueError(
                f"{title} gives other outputs each time for the same rows: {why}, or preprocess "
                "does. Outputs must be the same each time, or what is changed in a model cannot be "
                "told from chance."
            )
        raise ValueError(
            f"What {title} gives for a row depends on the other rows of its batch: {len(found)} of "
            f"{n_rows} rows, run by themselves, come out otherwise. Each row must stand for "
            f"itself. Likely cause: {why}."
        )

    def outputs(self, module: nn.Module) -> Iterator[tuple[slice, Tensor]]:
        """Yield what a module gives for each batch, in order."""
        for rows, arguments in self:
            yield rows, self.run(module, arguments, rows.stop - rows.start)

    def run(self, module: nn.Module, arguments: Arguments, n_rows: int) -> Tensor:
        """Return what a module gives for a batch: one tensor, a row of numbers for each row.

        Raises
        ------
        ValueError
            If the module fails, or gives something else.
        """
        args = tuple(value for name, value in arguments.items() if isinstance(name, int))
        named = {name: value for name, value in arguments.items() if isinstance(name, str)}
        title = type(module).__name__
        try:
            output = call(module, *arguments_of(module, args, named))
        except (RuntimeError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(
                f"{title} failed on a batch of {n_rows} rows: {error}. Check that X, or what "
                "preprocess returns, is what the model takes."
            ) from error
        if isinstance(output, Mapping) and isinstance(output.get(_SCORES), Tensor):
            output = output[_SCORES]
        if not isinstance(output, Tensor):
            raise ValueError(
                f"{title} returned {contents(output)}; expected one tensor, or a mapping with "
                f"{_SCORES!r}. Wrap the model in one that returns the tensor."
            )
        if not (output.is_floating_point() and output.ndim and len(output) == n_rows):
            raise ValueError(
                f"{title} returned {output.dtype} of shape {tuple(output.shape)} for {n_rows} "
                "rows; expected floating-point numbers, one row each."
            )
        if not bool(torch.isfinite(output).all()):
            gaps = any(
                isinstance(value, Tensor) and bool(torch.isnan(value).any())
                for value in arguments.values()
            )
            raise NotFiniteError(
                f"{title} returned NaN or infinity"
                + (
                    ", and what it was given contains NaN: X, or what preprocess made of it. Fill "
                    "the gaps."
                    if gaps
                    else ". If it is in half precision, try model.float()."
                )
            )
        return output
