"""The low-rank head as a torch module.

``A`` is (d, r), ``B`` is (r, k), inputs by outputs: ``logits = Z A B + b``. An
``nn.Linear`` stores the transpose.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..lowrank.layer import LowRankHead
from ..rows.blocks import Features, map_blocks
from .cells import CellVote

__all__ = [
    "DeployedModel",
    "DeployedModelWithGroups",
    "HeadWithGroups",
    "RawHead",
    "StandardizedHead",
    "cell_probabilities",
    "head_scores",
    "label_head",
    "shift_scores",
    "single_score_head",
    "split_tail",
]

# Least size of a direction of B, as a share of the largest.
_LEAST_SIZE = 0.01


class StandardizedHead(nn.Module):
    """A head as it is trained: in standardized coordinates of its input.

    The parameters are ``A' = diag(scale) A``, ``B`` and ``b' = b + shift A B``, so
    that one learning rate and one penalty suit features of any scale. The function
    is the same: ``((Z - shift) / scale) A' B + b' = Z A B + b``. The features are
    never copied; the small factor is rescaled instead.

    Parameters
    ----------
    head : LowRankHead
        Head in raw coordinates; it is not changed.
    tail : nn.Sequential or None
        What follows the head, its last module an ``nn.Linear``; a copy is trained.
    shift, scale : Tensor of shape (d,), float64
        Centre and positive scale of each feature.
    output_scale : Tensor of shape (k0,) or None
        Scale of the inputs of the tail's last layer.
    dtype : torch.dtype
        Of all parameters.

    Examples
    --------
    >>> import torch
    >>> head = LowRankHead(torch.ones(1, 2), None, torch.zeros(2))
    >>> shift, scale = torch.tensor([5.0]), torch.tensor([2.0])
    >>> standardized = StandardizedHead(head, None, shift, scale, None, torch.float32)
    >>> standardized.head.A.tolist(), standardized(torch.ones(1, 1)).tolist()
    ([[2.0, 2.0]], [[1.0, 1.0]])
    """

    shift: Tensor
    scale: Tensor
    output_scale: Tensor | None

    def __init__(
        self,
        head: LowRankHead,
        tail: nn.Sequential | None,
        shift: Tensor,
        scale: Tensor,
        output_scale: Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        A, weight = head.A.detach().double(), head.weight.detach().double()
        A, B = _balanced(A * scale[:, None], head.B)
        self.head = LowRankHead(A, B, head.bias + shift.to(weight) @ weight)
        self.tail = copy.deepcopy(tail)
        self.register_buffer("shift", shift.clone())
        self.register_buffer("scale", scale.clone())
        self.register_buffer("output_scale", output_scale)
        self.to(dtype)

    def forward(self, Z: Tensor) -> Tensor:
        """Map raw features (n, d) to logits (n, k); features take the head's dtype."""
        A = self.head.A / self.scale[:, None]
        # Z @ A, transposed: its gradient for a narrow A is then formed in half the time.
        hidden = (A.T.contiguous() @ Z.to(A.dtype).T).T - self.shift @ A
        if self.head.B is not None:
            hidden = hidden @ self.head.B
        output = hidden + self.head.bias
        return output if self.tail is None else self.tail(output)

    def squared_norm(self) -> Tensor:
        """Squared Frobenius norm of the classification weights on standardized inputs."""
        return _squared_norm(self.head.A, self)

    def fold(self) -> nn.Module:
        """Return the head in raw coordinates on the CPU, its tail behind it, for prediction."""
        dtype = self.head.A.dtype
        raw = copy.deepcopy(self).cpu().double()
        A = raw.head.A / raw.scale[:, None]
        weight = A if raw.head.B is None else A @ raw.head.B
        head = LowRankHead(A, raw.head.B, raw.head.bias - raw.shift @ weight)
        folded = head if raw.tail is None else nn.Sequential(head, *raw.tail)
        return folded.to(dtype).eval()


class RawHead(nn.Module):
    """A head trained in the coordinates of its features, with the very factors that it has.

    Its L2 penalty is that of `StandardizedHead`, as a function of the weights. Parameters are as
    there; ``scale`` (d,) is for the penalty alone.

    Examples
    --------
    >>> import torch
    >>> head = LowRankHead(torch.ones(1, 2), None, torch.zeros(2))
    >>> raw = RawHead(head, None, torch.tensor([3.0]), None, torch.float64)
    >>> raw.head.A.tolist(), raw.squared_norm().item()
    ([[1.0, 1.0]], 18.0)
    """

    scale: Tensor
    output_scale: Tensor | None

    def __init__(
        self,
        head: LowRankHead,
        tail: nn.Sequential | None,
        scale: Tensor,
        output_scale: Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.head, self.tail = copy.deepcopy(head), copy.deepcopy(tail)
        self.register_buffer("scale", scale.clone())
        self.register_buffer("output_scale", output_scale)
        self.to(dtype)

    def forward(self, Z: Tensor) -> Tensor:
        """Map raw features (n, d) to logits (n, k); features take the head's dtype."""
        output = self.head(Z)
        return output if self.tail is None else self.tail(output)

    def squared_norm(self) -> Tensor:
        """Squared Frobenius norm of the classification weights on standardized inputs."""
        return _squared_norm(self.head.A * self.scale[:, None], self)

    def fold(self) -> nn.Module:
        """Return the head on the CPU, its tail behind it, for prediction."""
        raw = copy.deepcopy(self).cpu()
        folded = raw.head if raw.tail is None else nn.Sequential(raw.head, *raw.tail)
        return folded.eval()


def _squared_norm(A: Tensor, module: StandardizedHead | RawHead) -> Tensor:
    """Return that of ``A B``, or of the tail's output layer, times the scale of its inputs.

    The first costs (d + k) r^2: ``||A B||^2 = <A^T A, B B^T>``.
    """
    if module.tail is not None:
        output = module.tail[-1]
        assert isinstance(output, nn.Linear)
        assert module.output_scale is not None
        return (output.weight * module.output_scale).square().sum()
    B = module.head.B
    return A.square().sum() if B is None else ((A.T @ A) * (B @ B.T)).sum()


def _balanced(A: Tensor, B: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return factors of the same product that are equally large, direction by direction.

    How fast a gradient method moves one factor depends on the size of the other. ``A B`` alone
    does not fix their sizes; Eq. 4 gives A all of it, stretched by the importance.
    """
    if B is None:
        return A, None
    Q, R = torch.linalg.qr(A)
    U, S, Vt = torch.linalg.svd(R @ B.detach().to(R), full_matrices=False)
    # Where S is zero B must not be: a direction in which both are zero would stay so.
    size = S.clamp_min(_LEAST_SIZE * float(S[0]) or 1.0).sqrt()
    return Q @ (U * (S / size)), size[:, None] * Vt


def split_tail(head: nn.Module) -> tuple[LowRankHead, nn.Sequential | None]:
    """Return the low-rank layer of a fitted head, and what follows it (None if nothing)."""
    if isinstance(head, LowRankHead):
        return head, None
    assert isinstance(head, nn.Sequential)
    first, *rest = head  # children() would name a layer once that stands in it twice
    assert isinstance(first, LowRankHead)
    return first, nn.Sequential(*rest)


def head_scores(head: nn.Module, Z: Features, codes: Tensor | None = None) -> Tensor:
    """Apply a fitted head in float64: features (n, d) of any dtype -> logits (n, k).

    A row's score then does not depend, to about 1e-15, on the rows beside it,
    which in float32 change the order of summation. With codes (n,) of the rows' groups, -1 where
    one is not known, the head is one whose cells vote.
    """
    exact = head
    if any(
        tensor.is_floating_point() and tensor.dtype != torch.float64
        for tensor in head.state_dict().values()
    ):
        exact = copy.deepcopy(head).double()

    def of(block: Tensor) -> Tensor:
        with torch.no_grad():
            scores: Tensor = exact(block)
            return scores

    if codes is None:
        scores = [*map_blocks(of, Z)]
        return torch.cat(scores) if scores else of(Z[:].double())
    assert isinstance(exact, nn.Sequential)
    *layers, vote = exact
    assert isinstance(vote, CellVote)
    with torch.no_grad():
        return vote.with_groups(head_scores(nn.Sequential(*layers), Z), codes)


def label_head(head: nn.Module) -> nn.Module:
    """Return the head whose probabilities are estimates of the label: of cells, their sums.

    A head without cells is its own; none is changed.
    """
    if not isinstance(head, nn.Sequential):
        return head
    *layers, last = head
    return nn.Sequential(*layers, last.by_label()) if isinstance(last, CellVote) else head


def cell_probabilities(head: nn.Module, Z: Features) -> Tensor:
    """Return the probabilities (n, c) of the cells of a head whose cells vote."""
    assert isinstance(head, nn.Sequential)
    *layers, _ = head
    return torch.softmax(head_scores(nn.Sequential(*layers), Z), dim=1)


class DeployedModel(nn.Sequential):
    """Extractor and head as one module; it takes a batch, or the batch's parts by name.

    A mapping is its entries, by name: `torch.export` can leave the number of rows free in the one
    form only, ``model(batch)``, and not in the other, ``model(**batch)``.

    Examples
    --------
    >>> import torch
    >>> model = DeployedModel(nn.Bilinear(2, 3, 4), nn.Linear(4, 1))
    >>> model(torch.zeros(5, 2), input2=torch.zeros(5, 3)).shape
    torch.Size([5, 1])
    """

    def __init__(self, extractor: nn.Module, head: nn.Module) -> None:
        super().__init__(OrderedDict(extractor=extractor, head=head))

    # One input by place, which is how torch.export describes shapes; the others by name.
    def forward(self, input: Any = None, /, **named: Any) -> Any:
        """Return the head's output for the extractor's inputs, such as a tokenizer's by name."""
        extractor, head = self
        return head(_features(extractor, input, named))


def _features(extractor: nn.Module, input: Any, named: dict[str, Any]) -> Any:
    if isinstance(input, Mapping):
        return extractor(**input, **named)
    return extractor(**named) if input is None else extractor(input, **named)


class HeadWithGroups(nn.Sequential):
    """A head whose cells vote, which takes the groups of the rows, too.

    Examples
    --------
    >>> import torch
    >>> vote = CellVote(torch.eye(2), torch.tensor([0, 1]))
    >>> head = HeadWithGroups(nn.Identity(), vote)
    >>> head(torch.zeros(2, 2)).exp().tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    >>> head(torch.zeros(2, 2), torch.tensor([1, -1])).exp()[:, 1].tolist()
    [1.0, 0.5]
    """

    def forward(self, Z: Tensor, groups: Tensor | None = None) -> Tensor:
        """Map features (n, d) to scores, with the codes of the rows' groups (n,) if given."""
        for layer in self:
            if groups is not None and isinstance(layer, CellVote):
                Z = layer.with_groups(Z, groups)
            else:
                Z = layer(Z)
        return Z


class DeployedModelWithGroups(DeployedModel):
    """A `DeployedModel` that takes the codes of the rows' groups, too; its head can use them.

    Examples
    --------
    >>> import torch
    >>> head = HeadWithGroups(CellVote(torch.eye(2), torch.tensor([0, 1])))
    >>> model = DeployedModelWithGroups(nn.Linear(3, 2), head)
    >>> model(torch.ones(1, 3), groups=torch.tensor([0])).exp()[:, 0].tolist()
    [1.0]
    """

    def forward(self, input: Any = None, /, groups: Tensor | None = None, **named: Any) -> Any:
        """Return the head's output for the extractor's inputs and, if known, the groups."""
        extractor, head = self
        return head(_features(extractor, input, named), groups)


def single_score_head(head: nn.Module) -> nn.Module:
    """Return a two-class head as one that gives the difference of its logits, shape (n,).

    Positive scores mean the second class. The head is not changed.
    """
    difference = torch.tensor([[-1.0], [1.0]])
    first, tail = split_tail(copy.deepcopy(head))
    with torch.no_grad():
        if tail is None:
            column = difference.to(first.A)
            A, B = (first.A @ column, None) if first.B is None else (first.A, first.B @ column)
            return nn.Sequential(LowRankHead(A, B, first.bias @ column), nn.Flatten(0))
        *activation, output = tail
        if isinstance(output, CellVote):
            return nn.Sequential(first, *tail, _Difference())
        assert isinstance(output, nn.Linear)
        single = nn.utils.skip_init(nn.Linear, output.in_features, 1, dtype=output.weight.dtype)
        single.weight.copy_(difference.to(output.weight).T @ output.weight)
        single.bias.copy_(output.bias @ difference.to(output.bias))
        return nn.Sequential(first, *activation, single, nn.Flatten(0))


class _Difference(nn.Module):
    """The second score minus the first."""

    def forward(self, scores: Tensor) -> Tensor:
        return scores[:, 1] - scores[:, 0]


def shift_scores(head: nn.Module, shift: Tensor, *, known: bool = False) -> nn.Module:
    """Return a copy of a fitted head with numbers (k,) added to its scores: moved thresholds.

    With ``known`` those of rows whose groups are known, of a head whose cells vote.
    """
    out = copy.deepcopy(head)
    last = out[-1] if isinstance(out, nn.Sequential) else out
    assert isinstance(last, (LowRankHead, CellVote, nn.Linear))
    with torch.no_grad():
        if known:
            assert isinstance(last, CellVote)
            last.known_bias += shift.to(last.known_bias)
        else:
            last.bias += shift.to(last.bias)
    return out
