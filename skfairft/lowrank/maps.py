"""Layers as linear maps of what is at each position: the one thing that a cut knows of them.

========== ==================== =============================== ================================
layer      d, k                 positions T                     cut to rank r
========== ==================== =============================== ================================
Linear     features             tokens, or 1                    d to r, r to k
Conv1D     the same; transformers' name of a linear layer, whose weights are (d, k)
Conv1d/2d  channels x kernel,   of the output                   the kernel to r, 1 x 1 to k; or
/3d        channels                                             1 x 1 to r, the kernel to k
========== ==================== =============================== ================================

A cut is made of second moments on one side of the layer, the narrower one, which are (m, m):

- "outputs": m = k. Of a convolution, too: no patch of its input is ever laid out.
- "inputs": m = d < k.
- "channels": of convolutions with more channels before than after, which come out smaller where
  channels are mixed first. Moments are those of single positions of the input, so that errors at
  neighbouring positions are taken to be unrelated.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .factorization import METRIC_RIDGE
from .layer import LowRankConv, LowRankLinear

__all__ = ["ConvMap", "LayerMap", "as_map", "does_more", "layer_maps", "root_of"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LayerMap:
    """An ``nn.Linear``, or a layer like it, as a map of (n, T, d) to (n, T, k).

    Parameters
    ----------
    layer : nn.Module
        It is left as it was.
    transposed : bool, default=False
        Whether its weights are stored as (d, k).

    Attributes
    ----------
    d, k : int
        Widths.
    side : {"inputs", "outputs", "channels"}
        Where second moments are taken.

    Examples
    --------
    >>> seen = LayerMap(nn.Linear(2, 3))
    >>> seen.d, seen.k, seen.side, seen.width, seen.size, seen.thin_size(1)
    (2, 3, 'inputs', 2, 9, 8)
    """

    def __init__(self, layer: nn.Module, *, transposed: bool = False) -> None:
        self.layer, self._transposed = layer, transposed
        self.d, self.k = self.stored.shape[:2] if transposed else self.stored.shape[1::-1]
        self.side = "inputs" if self.d < self.k else "outputs"

    @property
    def stored(self) -> Tensor:
        """The weights, as the layer has them."""
        found = self.layer.weight
        assert isinstance(found, Tensor)
        return found.detach()

    @property
    def weight(self) -> Tensor:
        """The weights W (d, k), float64 on the CPU."""
        W = self.stored.double().cpu()
        return W if self._transposed else W.T

    @property
    def bias(self) -> Tensor:
        """The bias (k,), float64 on the CPU; zeros where there is none."""
        found = self.layer.bias
        if not isinstance(found, Tensor):
            return torch.zeros(self.k, dtype=torch.float64)
        return found.detach().double().cpu()

    @property
    def width(self) -> int:
        """Numbers at each position of the side, m."""
        return self.k if self.side == "outputs" else self.columns

    @property
    def columns(self) -> int:
        """Features of the input."""
        return self.d

    @property
    def most(self) -> int:
        """The highest rank: at it the layer can be cut without any change."""
        return min(self.d, self.k)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.layer.parameters())

    @property
    def unit(self) -> int:
        """Number of weights that one more rank takes."""
        return self.d + self.k

    def work(self, before: float, after: float) -> tuple[float, float]:
        """Return multiplications for a row, of one more rank and of the layer whole.

        Before and after are the positions of its input and its output.
        """
        return self.unit * after, self.d * self.k * after

    def side_positions(self, before: float, after: float) -> float:
        """Return how many positions the side has."""
        return before if self.side == "channels" else after

    def thin_size(self, rank: int) -> int:
        """Return the number of parameters of the layer cut to a rank."""
        return rank * self.unit + self.k

    def expected(self, n_rows: int) -> str:
        """Return the shape that an input of a batch has, in words."""
        return f"({n_rows}, ..., {self.d})"

    def takes(self, Z: Tensor, n_rows: int) -> bool:
        """Tell whether an input of a batch has such a shape."""
        return Z.ndim >= 2 and len(Z) == n_rows

    def is_ambiguous(self, Z: Tensor) -> bool:
        """Tell whether another axis than the first could be that of the rows."""
        return len(Z) > 1 and len(Z) in Z.shape[1:-1]

    def features(self, Z: Tensor) -> Tensor:
        """Return the features at each position of an input, (n, S, columns)."""
        return Z.reshape(len(Z), -1, self.d)

    def unfold(self, Z: Tensor) -> Tensor:
        """Return what each position of the output is made of, (n, T, d)."""
        return Z.reshape(len(Z), -1, self.d)

    def positions(self, output: Tensor) -> Tensor:
        """Return an output, or a gradient of that shape, as (n, T, k)."""
        return output.reshape(len(output), -1, self.k)

    def seen(self, Z: Tensor, output: Tensor) -> Tensor:
        """Return the side's numbers at each position, (n, T, m)."""
        if self.side == "outputs":
            return self.positions(output)
        return self.unfold(Z) if self.side == "inputs" else self.features(Z)

    def graded(self, h: Tensor) -> Tensor:
        """Return a gradient at the output as `root` takes its moments, (n, T, m) or (n, T, k)."""
        h = self.positions(h)
        if self.side != "inputs":
            return h
        W = self.stored.flatten(1)
        W = W.float() if W.element_size() < 4 else W  # squares of gradients are small
        return h.to(W) @ (W.T if self._transposed else W)

    def root(self, gradients: Tensor | None) -> Tensor:
        """Return a root N (m, m), see `root_of`, of what an error on the side counts.

        By moments of `graded` gradients; where these are None errors of all outputs count alike.
        """
        if self.side == "outputs":
            return torch.eye(self.k).double() if gradients is None else root_of(gradients)
        W = self.weight
        return root_of(W @ W.T if gradients is None else gradients)

    def moments_of(self, squares: Tensor) -> Tensor:
        """Return the side's moments (m, m) where inputs are unrelated, of their squares (d,)."""
        if self.side == "inputs":
            return squares.diag()
        return (self.weight * squares[:, None]).T @ self.weight

    def spread(self, values: Tensor) -> Tensor:
        """Return numbers of each feature (..., columns) as of each input, (..., d)."""
        return values.repeat_interleave(self.d // self.columns, dim=-1)

    def cut(self, down: Tensor, up: Tensor, u: Tensor, v: Tensor) -> nn.Module:
        """Return the thin layer that does on the side what a projection does.

        Parameters
        ----------
        down, up : Tensor of shape (m, r) and (r, m)
            The projection, from the side as it is now to what it was.
        u, v : Tensor of shape (m,)
            Means of what the side was, and of what it is now; the first becomes the mean of what
            the thin layer gives.
        """
        if self.side == "outputs":
            bias = u - (v - self.bias) @ down @ up
            return self._made(self.weight @ down, up, bias)
        bias = self.bias + (u - v @ down @ up) @ self.weight
        return self._made(down, up @ self.weight, bias)

    def _made(self, A: Tensor, B: Tensor, bias: Tensor) -> nn.Module:
        return LowRankLinear(*(each.to(self.stored) for each in (A, B, bias)))


class ConvMap(LayerMap):
    """A convolution of one group as such a map; its d are channels times the kernel's positions.

    Examples
    --------
    >>> seen = ConvMap(nn.Conv2d(3, 8, 5))
    >>> seen.d, seen.k, seen.side, seen.width, seen.columns, seen.unit
    (75, 8, 'outputs', 8, 3, 83)
    >>> ConvMap(nn.Conv2d(16, 4, 3)).side, ConvMap(nn.Conv2d(4, 16, 1)).side
    ('channels', 'inputs')
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        channels, positions = self.stored.shape[1], prod(self.stored.shape[2:])
        self.d = channels * positions
        if positions > 1:
            self.side = "channels" if channels > self.k else "outputs"

    @property
    def weight(self) -> Tensor:
        """The weights W (d, k), float64 on the CPU."""
        return self.stored.double().cpu().flatten(1).T

    @property
    def columns(self) -> int:
        """Channels of the input."""
        return self.stored.shape[1]

    @property
    def most(self) -> int:
        """The highest rank: at it the layer can be cut without any change."""
        if self.side == "channels":
            return min(self.columns, self.k * (self.d // self.columns))
        return super().most

    @property
    def unit(self) -> int:
        """Number of weights that one more rank takes."""
        if self.side == "channels":
            return self.columns + self.k * (self.d // self.columns)
        return super().unit

    def work(self, before: float, after: float) -> tuple[float, float]:
        """Return multiplications for a row, of one more rank and of the layer whole."""
        unit, whole = super().work(before, after)
        if self.side == "channels":
            unit = self.columns * before + self.k * (self.d // self.columns) * after
        return unit, whole

    def expected(self, n_rows: int) -> str:
        """Return the shape that an input of a batch has, in words."""
        return f"({n_rows}, {self.columns}, ...) of {self.stored.ndim} axes"

    def takes(self, Z: Tensor, n_rows: int) -> bool:
        """Tell whether an input of a batch has such a shape."""
        return Z.ndim == self.stored.ndim and len(Z) == n_rows

    def is_ambiguous(self, Z: Tensor) -> bool:
        """Tell whether another axis than the first could be that of the rows: never."""
        return False

    def features(self, Z: Tensor) -> Tensor:
        """Return the features at each position of an input, (n, S, columns)."""
        return Z.flatten(2).mT

    def unfold(self, Z: Tensor) -> Tensor:
        """Return what each position of the output is made of, (n, T, d)."""
        layer: Any = self.layer
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        out = F.pad(Z, layer._reversed_padding_repeated_twice, mode=mode)
        for axis, (size, stride, step) in enumerate(
            zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), start=2
        ):
            out = out.unfold(axis, step * (size - 1) + 1, stride)[..., ::step]
        spatial = Z.ndim - 2  # now (n, channels, positions, kernel)
        return out.flatten(2 + spatial).flatten(2, 1 + spatial).transpose(1, 2).flatten(2)

    def positions(self, output: Tensor) -> Tensor:
        """Return an output, or a gradient of that shape, as (n, T, k)."""
        return output.flatten(2).mT

    def root(self, gradients: Tensor | None) -> Tensor:
        """Return a root N (m, m) of what an error on the side counts."""
        if self.side != "channels":
            return super().root(gradients)
        W = self._by_channel
        return root_of(torch.einsum("cik,eik->ce", W if gradients is None else W @ gradients, W))

    def moments_of(self, squares: Tensor) -> Tensor:
        """Return the side's moments (m, m) where inputs are unrelated, of their squares (d,)."""
        if self.side != "channels":
            return super().moments_of(squares)
        return squares.reshape(self.columns, -1).mean(1).diag()

    @property
    def _by_channel(self) -> Tensor:
        """The weights as (channels, positions of the kernel, k)."""
        return self.weight.reshape(self.columns, -1, self.k)

    def cut(self, down: Tensor, up: Tensor, u: Tensor, v: Tensor) -> nn.Module:
        """Return the thin layer that does on the side what a projection does."""
        if self.side != "channels":
            return super().cut(down, up, u, v)
        bias = self.bias + (u - v @ down @ up) @ self._by_channel.sum(1)
        return self._made(down, (up @ self._by_channel.flatten(1)), bias)

    def _made(self, A: Tensor, B: Tensor, bias: Tensor) -> nn.Module:
        A, B, bias = (each.to(self.stored) for each in (A, B, bias))
        kernel = self.stored.shape[2:]
        ones = [1] * len(kernel)
        if self.side == "channels":
            down = A.T.reshape(-1, self.columns, *ones)
            up = B.reshape(len(B), -1, self.k).permute(2, 0, 1).reshape(self.k, -1, *kernel)
        else:
            down = A.T.reshape(-1, self.columns, *kernel)
            up = B.T.reshape(self.k, -1, *ones)
        return LowRankConv(self.layer, down, up, bias)


def as_map(part: nn.Module) -> LayerMap | None:
    """Return a layer as a map; None of what is none, or has no weights of its own.

    Only of the very classes, whose forward is known, and of weights that are real numbers.

    Examples
    --------
    >>> as_map(nn.ReLU()), as_map(nn.Conv2d(4, 4, 3, groups=2))
    (None, None)
    """
    kind = type(part)
    if isinstance(part, torch.jit.ScriptModule):
        return None
    stored = part._parameters.get("weight")  # of a pruned layer it is made of others
    if not isinstance(stored, Tensor) or not stored.is_floating_point():
        return None
    if kind is nn.Linear:
        return LayerMap(part)
    if kind in _CONVOLUTIONS and part.groups == 1:
        return ConvMap(part)
    if kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils":
        return LayerMap(part, transposed=True)
    return None


def layer_maps(model: nn.Module) -> dict[str, LayerMap]:
    """Return the layers of a model that can be cut, by name, each once.

    Not the two thin layers of one that is cut already.

    Examples
    --------
    >>> list(layer_maps(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3, 1))))
    ['0', '2']
    """
    thin = {
        part
        for whole in model.modules()
        if isinstance(whole, (LowRankLinear, LowRankConv))
        for part in whole.children()
    }
    found = {name: as_map(part) for name, part in model.named_modules() if part not in thin}
    return {name: seen for name, seen in found.items() if seen is not None}


def does_more(layer: nn.Module) -> bool:
    """Tell whether a layer has hooks or a forward of its own, which another would not have.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> handle = layer.register_forward_hook(lambda part, args, output: 2 * output)
    >>> does_more(layer), does_more(nn.Linear(2, 2))
    (True, False)
    """
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(layer) or any(getattr(layer, name) for name in hooks)


def root_of(moments: Tensor) -> Tensor:
    """Return an invertible root N of a positive semidefinite matrix (m, m): N N^T is the matrix.

    What is nothing in it is little in the root, each row in its own unit.

    Examples
    --------
    >>> root_of(torch.tensor([[4.0]]).double())
    tensor([[2.]], dtype=torch.float64)
    """
    sizes = moments.diagonal().clamp_min(0.0).sqrt()
    sizes = torch.where(sizes > 0.0, sizes, METRIC_RIDGE**0.5 * float(sizes.max()) or 1.0)
    values, vectors = torch.linalg.eigh(moments / sizes / sizes[:, None])
    least = METRIC_RIDGE * float(values[-1]) or 1.0
    return sizes[:, None] * ((vectors * values.clamp_min(least).sqrt()) @ vectors.T)
