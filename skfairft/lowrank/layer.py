"""The low-rank layer as a torch module.

``A`` is (d, r), ``B`` is (r, k), inputs by outputs: ``outputs = Z A B + b``. An
``nn.Linear`` stores the transpose.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LowRankHead", "LowRankLinear"]


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
