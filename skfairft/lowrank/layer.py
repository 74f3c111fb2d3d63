"""The low-rank layer as a torch module.

``A`` is (d, r), ``B`` is (r, k), inputs by outputs: ``outputs = Z A B + b``. An
``nn.Linear`` stores the transpose.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LowRankHead"]


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
        hidden = Z.to(self.A.dtype) @ self.A
        return (hidden if self.B is None else hidden @ self.B) + self.bias

    def extra_repr(self) -> str:
        """Return the three widths, for torch's repr."""
        rank = "full" if self.B is None else self.A.shape[1]
        return f"in_features={len(self.A)}, rank={rank}, out_features={len(self.bias)}"
