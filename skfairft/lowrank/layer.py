"""The low-rank layer as a torch module.

``A`` is (d, r), ``B`` is (r, k), inputs by outputs: ``outputs = Z A B + b``. An
``nn.Linear`` stores the transpose.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LowRankConv", "LowRankHead", "LowRankLinear"]


class LowRankHead(nn.Module):
    """Linear layer held as two small factors, or as one matrix.

    Parameters
    ----------
    A : Tensor of shape (d, r)
        First factor, or the whole weight matrix (d, k) where ``B`` is None.
    B : Tensor of shape (r, k) or None
        Second factor.
    bias : Tensor of shape (k,)
        Bias of the outputs.

    Examples
    --------
    >>> import torch
    >>> head = LowRankHead(torch.ones(3, 1), torch.tensor([[1.0, -1.0]]), torch.zeros(2))
    >>> head(torch.ones(1, 3)).tolist()
    [[3.0, -3.0]]
    >>> head
    LowRankHead(in_features=3, rank=1, out_features=2)
    """

    def __init__(self, A: Tensor, B: Tensor | None, bias: Tensor) -> None:
        super().__init__()
        # L-BFGS flattens parameters with view(), which needs them contiguous.
        self.A = nn.Parameter(A.detach().clone(memory_format=torch.contiguous_format))
        self.B = None
        if B is not None:
            self.B = nn.Parameter(B.detach().clone(memory_format=torch.contiguous_format))
        self.bias = nn.Parameter(bias.detach().clone())

    @property
    def weight(self) -> Tensor:
        """The weight matrix ``A B``, shape (d, k)."""
        return self.A if self.B is None else self.A @ self.B

    def forward(self, Z: Tensor) -> Tensor:
        """Map features (n, d) to outputs (n, k); features take the head's dtype."""
        # In nn.Linear's layout a product with few columns takes a quarter of the time.
        hidden = F.linear(Z.to(self.A.dtype), self.A.T.contiguous())
        return (hidden if self.B is None else hidden @ self.B) + self.bias

    def extra_repr(self) -> str:
        """Return the three widths, for torch's repr."""
        rank = "full" if self.B is None else self.A.shape[1]
        return f"in_features={len(self.A)}, rank={rank}, out_features={len(self.bias)}"


class LowRankLinear(nn.Module):
    """Two thin linear layers in the place of an ``nn.Linear``.

    Parameters
    ----------
    A : Tensor of shape (d, r)
        First factor, inputs by rank.
    B : Tensor of shape (r, k)
        Second factor.
    bias : Tensor of shape (k,) or None
        Bias of the outputs.

    Attributes
    ----------
    in_features, out_features, rank : int
        Widths d and k, and r.
    down, up : nn.Linear
        The two layers: d to r, without bias, and r to k.
    weight : Tensor of shape (k, d)
        Their product, as ``nn.Linear`` has it; computed when asked for.
    bias : Tensor of shape (k,) or None
        Of `up`.

    Examples
    --------
    >>> import torch
    >>> layer = LowRankLinear(torch.ones(3, 1), torch.tensor([[1.0, -1.0]]), torch.zeros(2))
    >>> layer(torch.ones(1, 3)).tolist(), layer.weight.shape
    ([[3.0, -3.0]], torch.Size([2, 3]))
    >>> layer
    LowRankLinear(
      in_features=3, rank=1, out_features=2, bias=True
      (down): Linear(in_features=3, out_features=1, bias=False)
      (up): Linear(in_features=1, out_features=2, bias=True)
    )
    """

    def __init__(self, A: Tensor, B: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        # skip_init: the usual initialization would draw from torch's global random state.
        made = {"device": A.device, "dtype": A.dtype}
        self.down = nn.utils.skip_init(nn.Linear, *A.shape, bias=False, **made)
        self.up = nn.utils.skip_init(nn.Linear, *B.shape, bias=bias is not None, **made)
        with torch.no_grad():
            self.down.weight.copy_(A.T)
            self.up.weight.copy_(B.T)
            if bias is not None:
                self.up.bias.copy_(bias)

    @property
    def in_features(self) -> int:
        """Width of the input, d."""
        return self.down.in_features

    @property
    def out_features(self) -> int:
        """Width of the output, k."""
        return self.up.out_features

    @property
    def rank(self) -> int:
        """Width between the two layers, r."""
        return self.down.out_features

    @property
    def weight(self) -> Tensor:
        """The weight matrix, shape (k, d), as ``nn.Linear`` has it."""
        return self.up.weight @ self.down.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias, shape (k,), or None."""
        return self.up.bias

    def forward(self, input: Tensor) -> Tensor:
        """Map inputs (..., d) to outputs (..., k)."""
        out: Tensor = self.up(self.down(input))
        return out

    def extra_repr(self) -> str:
        """Return the widths, for torch's repr."""
        return (
            f"in_features={self.in_features}, rank={self.rank}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class LowRankConv(nn.Module):
    """Two thin convolutions in the place of one; see `skfairft.compress`.

    Parameters
    ----------
    layer : nn.Conv1d, nn.Conv2d or nn.Conv3d
        The one; its stride, padding and dilation go to that of the two which has its kernel.
    down : Tensor of shape (r, c, ...)
        Weights of the first: with the kernel of the layer, or 1 x 1.
    up : Tensor of shape (k, r, ...)
        Weights of the second: 1 x 1, or with the kernel of the layer.
    bias : Tensor of shape (k,)
        Bias of the outputs.

    Attributes
    ----------
    in_channels, out_channels, rank : int
        Channels before and after, and between the two.
    kernel_size, stride, padding, dilation, groups, padding_mode
        As the layer has them.
    down, up : nn.Conv1d, nn.Conv2d or nn.Conv3d
        The two layers; the first has no bias.
    weight : Tensor of shape (k, c, ...)
        The kernel that both are together; computed when asked for.
    bias : Tensor of shape (k,)
        Of `up`.

    Examples
    --------
    >>> import torch
    >>> whole = nn.Conv2d(3, 4, 5, stride=2)
    >>> layer = LowRankConv(whole, torch.ones(2, 3, 5, 5), torch.ones(4, 2, 1, 1), torch.zeros(4))
    >>> layer(torch.ones(1, 3, 9, 9)).shape, layer.weight.shape
    (torch.Size([1, 4, 3, 3]), torch.Size([4, 3, 5, 5]))
    >>> layer
    LowRankConv(
      in_channels=3, rank=2, out_channels=4
      (down): Conv2d(3, 2, kernel_size=(5, 5), stride=(2, 2), bias=False)
      (up): Conv2d(2, 4, kernel_size=(1, 1), stride=(1, 1))
    )
    """

    def __init__(self, layer: nn.Module, down: Tensor, up: Tensor, bias: Tensor) -> None:
        super().__init__()
        whole: Any = layer
        own = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        for name in (*own, "groups"):
            setattr(self, name, getattr(whole, name))
        kernel = {name: getattr(whole, name) for name in own}
        # With a kernel of one position both have the first's.
        first = down.shape[2:] == torch.Size(whole.kernel_size)
        self.down: Any
        self.up: Any
        made = {"device": down.device, "dtype": down.dtype}
        for name, weight, has_kernel in (("down", down, first), ("up", up, not first)):
            part = nn.utils.skip_init(
                type(whole),
                weight.shape[1],
                weight.shape[0],
                **(kernel if has_kernel else {"kernel_size": 1}),
                bias=name == "up",
                **made,
            )
            with torch.no_grad():
                part.weight.copy_(weight)
            self.add_module(name, part)
        with torch.no_grad():
            self.up.bias.copy_(bias)

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return int(self.down.in_channels)

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return int(self.up.out_channels)

    @property
    def rank(self) -> int:
        """Channels between the two layers, r."""
        return int(self.down.out_channels)

    @property
    def weight(self) -> Tensor:
        """The kernel, shape (k, c, ...), as the one layer would have it."""
        down, up = self.down.weight, self.up.weight
        if down[0, 0].numel() == 1:
            return torch.einsum("kr...,rc->kc...", up, down.flatten(1))
        return torch.einsum("kr,rc...->kc...", up.flatten(1), down)

    @property
    def bias(self) -> Tensor:
        """The bias, shape (k,)."""
        found: Tensor = self.up.bias
        return found

    def forward(self, input: Tensor) -> Tensor:
        """Map inputs (n, c, ...) to outputs (n, k, ...)."""
        out: Tensor = self.up(self.down(input))
        return out

    def extra_repr(self) -> str:
        """Return the channels, for torch's repr."""
        return f"in_channels={self.in_channels}, rank={self.rank}, out_channels={self.out_channels}"
