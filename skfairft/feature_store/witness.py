"""A few rows that are run again, to see that a module still gives what is stored of it.

A fingerprint does not see everything. So with the features of a module goes a *witness*: up to
four rows as they came, and what the module made of them as a batch of their own. Whoever is given
stored features runs that same batch again. The same batch comes back to the bit on the same
machine, whereas the same row in another batch may differ by much (float32 4e-6 of the columns'
spread, bfloat16 .02, dynamic int8 .7): features are never compared across batches, but for the
look at a new backbone (`BackboneRun.look`), whose limits are of that size.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from xxhash import xxh3_64_hexdigest

from .codec import decode, encode
from .key_index import Numbers
from .row_keys import row_keys

__all__ = [
    "FLOAT_EPS",
    "LARGEST_BYTES",
    "MOST_BYTES",
    "MOST_ROWS",
    "TIGHT",
    "Noise",
    "Witness",
    "WrittenBatch",
    "conditions",
    "distance",
    "noise_of",
    "spread_of",
    "witness_rows",
]

MOST_ROWS = 4
"""Rows of a witness: one of half the batch, so that it is another batch, up to this many."""

MOST_BYTES = 2**24
"""Of larger rows one is enough."""

LARGEST_BYTES = 2**28
"""Larger ones are not read, and none is made of more than half of it."""

TIGHT = 256 * float(np.finfo(np.float32).eps)
"""Distance that the same batch may have under the same conditions."""

FLOAT_EPS = 2.0**-23


@dataclass(frozen=True)
class Noise:
    """How far the features of a row in two batches may lie apart, as a share of the spread."""

    eps: float
    """Relative precision of the numbers that the module computes with."""

    limit: float
    """More than this is no rounding: about a thousand times what was measured in float32, ten
    times in 16 bits. Of integer arithmetic nothing can be said."""


_FLOAT, _HALF, _INTEGER = Noise(FLOAT_EPS, 2.0**-8), Noise(2.0**-8, 2.0**-2), Noise(1.0, np.inf)


def noise_of(module: nn.Module, dtype: Any) -> Noise:
    """Return the noise of a module's features; ``dtype`` is its mixed precision, or None."""
    kinds = {tensor.dtype for tensor in (*module.parameters(), *module.buffers())}
    names = {type(part).__module__ for part in module.modules()}
    whole = any(not each.is_floating_point() for each in module.parameters())
    rounded = any(getattr(part, "is_quantized", False) for part in module.modules())
    if whole or rounded or any("quantized" in name for name in names):
        return _INTEGER
    half = any(kind.is_floating_point and kind.itemsize < 4 for kind in kinds)
    autocast = any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    rough = torch.get_float32_matmul_precision() != "highest"
    return _HALF if half or autocast or rough or dtype is not None else _FLOAT


def conditions(device: torch.device) -> str:
    """Return what decides which kernels run: where the same batch comes back to the bit."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    kernels = torch.backends.cpu.get_cpu_capability()
    machine = xxh3_64_hexdigest(f"{platform.node()} {platform.machine()}".encode())[:8]
    return (
        f"{name} ({kernels}), torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"machine {machine}"
    )


def witness_rows(n_rows: int) -> Numbers:
    """Return which rows of a batch to run by themselves.

    Not in their order, and never all of them: what a module takes from the rows beside a
    row, or from those before it, is then another thing.

    Examples
    --------
    >>> witness_rows(256).tolist(), witness_rows(3).tolist(), witness_rows(1).tolist()
    ([255, 170, 85, 0], [2], [0])
    """
    count = min(MOST_ROWS, max(1, n_rows // 2))
    return np.linspace(n_rows - 1, 0, count).round().astype(np.int64)


def spread_of(features: NDArray[Any], noise: Noise) -> NDArray[np.float64]:
    """Return how much each column of features (n, d) varies, as a standard deviation (d,).

    Columns that vary by less than a thousandth of the others count as varying by that:
    rounding there is the others' rounding. Where rows are all alike nothing varies but that: 64
    times the precision of numbers of the median size is within the limit (measured: 17 times).

    Examples
    --------
    >>> alike = np.full((4, 2), 8.0)
    >>> spread_of(alike, Noise(eps=2.0**-20, limit=2.0**-8)).tolist()
    [0.125, 0.125]
    """
    spread = _floored(features.var(axis=0, dtype=np.float64))
    rounding = 64 * noise.eps * float(np.median(np.abs(features)))
    alike = float(np.ptp(features, axis=0).max()) <= rounding
    return np.maximum(spread, rounding / noise.limit) if alike else spread


def _floored(variance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(variance + 1e-6 * variance.mean()))


def distance(
    found: NDArray[Any], expected: NDArray[Any], spread: NDArray[np.float64], eps: float
) -> float:
    """Return how far the features of a row lie apart at most, as a share of the spread.

    The root mean square over the columns, the largest of the rows; infinite for features of
    another width. ``found`` and ``expected`` are (m, d), ``spread`` (see `spread_of`) is (d,). Some
    of ``eps``, by which numbers are rounded relative to their size, counts as no distance.

    Examples
    --------
    >>> found, expected = np.array([[1.0, 2.0]]), np.array([[1.0, 2.5]])
    >>> round(distance(found, expected, spread=np.array([1.0, 5.0]), eps=0.0), 4)
    0.0707
    """
    if found.shape != expected.shape:
        return float("inf")
    wanted = expected.astype(np.float64)
    beyond = np.maximum(np.abs(found - wanted) - 16 * eps * np.abs(wanted), 0.0)
    if not beyond.any():
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(beyond > 0, beyond / spread, 0.0)
    return float(np.sqrt(np.square(shares).mean(axis=1).max()))


@dataclass(frozen=True)
class Witness:
    """Rows, their features as a batch of their own, and under which conditions."""

    batch: WrittenBatch
    features: NDArray[Any]  # (m, d)
    spread: NDArray[np.float64]  # (d,), over the batch that the rows came with
    where: str  # see `conditions`

    def distance(self, found: NDArray[Any], *, tight: bool) -> float:
        """Return how far the same batch lies apart now.

        Where it comes back to the bit, as under the same conditions, all that is more than the
        last two digits counts, in units of what these rows differ by: others may lie far away.
        """
        with np.errstate(all="ignore"):  # of numbers too large to be features
            if not tight:
                return distance(found, self.features, self.spread, FLOAT_EPS)
            eps = float(np.finfo(self.features.dtype).eps) / 4
            apart = np.abs(self.features - np.median(self.features, axis=0))
            middle = np.square(np.median(apart, axis=0, keepdims=True)).astype(np.float64)
            return distance(found, self.features, _floored(middle[0]), eps)

    def to_bytes(self) -> bytes:
        """Return all of it as bytes."""
        return encode((astuple(self.batch), *list(vars(self).values())[1:]))

    @staticmethod
    def from_bytes(content: bytes) -> Witness:
        """Return the witness that `to_bytes` wrote; an Exception if it cannot be one."""
        batch, features, spread, where = decode(content)
        found = Witness(WrittenBatch(*batch), features, spread, where)
        numbers = features.dtype in (np.float32, np.float64) and spread.dtype == np.float64
        shaped = features.ndim == 2 and 0 < len(features) <= MOST_ROWS
        if not numbers or not shaped or spread.shape != features.shape[1:]:
            raise ValueError(f"features {features.dtype} {features.shape}, spread {spread.shape}")
        if not np.isfinite(features).all() or not np.isfinite(spread).all() or (spread < 0).any():
            raise ValueError("features or a spread that are not finite")
        if not all(type(each) is bytes for each in astuple(found.batch)):
            raise TypeError("rows that are not written down")
        if type(where) is not str or not where.isprintable() or len(where) > 1000:
            raise ValueError("conditions that are no line of text")
        return found


@dataclass(frozen=True)
class WrittenBatch:
    """Rows written down, to be made into the module's input again."""

    rows: bytes
    keys: bytes  # of the rows, which change with the files that they name
    inputs: bytes  # what ``preprocess`` made of them; nothing for numbers

    @classmethod
    def of(cls, rows: Any, inputs: Callable[[Any], Any]) -> WrittenBatch:
        """Write rows down, or raise a CannotEncodeError."""
        written = encode(rows)
        if isinstance(rows, (np.ndarray, torch.Tensor)) and rows.dtype != object:
            return cls(written, b"", b"")
        # Of new rows each time, for preprocess may change them.
        return cls(written, row_keys(decode(written)).tobytes(), encode(inputs(decode(written))))

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return len(self.rows) + len(self.inputs)

    def input(self, inputs: Callable[[Any], Any], n_rows: int) -> Any:
        """Return the module's input: made anew from the rows, if they are still the same."""
        rows = decode(self.rows)
        if len(rows) != n_rows:
            raise ValueError(f"{len(rows)} rows are written down; expected {n_rows}")
        same = not self.inputs or row_keys(rows).tobytes() == self.keys
        return inputs(rows) if same else decode(self.inputs)
