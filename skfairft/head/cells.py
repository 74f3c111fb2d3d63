"""Cells of label and group, which vote for classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CellVote", "labels_of_cells", "safe_log"]


class CellVote(nn.Module):
    """Class scores from those of cells of label and group, each of which votes for classes.

    ``log(softmax(scores) @ vote) + bias``: the probabilities of the classes are those of the
    cells times their votes. See `skfairft.solvers.rule`.

    Parameters
    ----------
    vote : Tensor of shape (c, k)
        Rows are non-negative with sum 1.
    groups : Tensor of shape (c,), int64, optional
        Of the cells, for `with_groups`.
    known_vote : Tensor of shape (c, k), optional
        Votes for rows whose group is known; None is ``vote``.
    labels : Tensor of shape (c,), int64, optional
        Codes of the cells' classes, for `by_label`; None is -1, not known.

    Examples
    --------
    >>> vote = CellVote(torch.tensor([[1.0, 0.0], [0.25, 0.75]]), torch.tensor([0, 1]))
    >>> vote(torch.zeros(1, 2)).exp()
    tensor([[0.6250, 0.3750]])
    >>> vote.with_groups(torch.zeros(2, 2), torch.tensor([1, -1])).exp()
    tensor([[0.2500, 0.7500],
            [0.6250, 0.3750]])
    """

    vote: Tensor
    bias: Tensor
    groups: Tensor
    known_vote: Tensor
    known_bias: Tensor
    labels: Tensor

    def __init__(
        self,
        vote: Tensor,
        groups: Tensor | None = None,
        known_vote: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        super().__init__()
        vote = vote.detach()
        groups = torch.zeros(len(vote), dtype=torch.int64) if groups is None else groups
        known_vote = vote if known_vote is None else known_vote.detach()
        for name, value in (("vote", vote), ("groups", groups), ("known_vote", known_vote)):
            self.register_buffer(name, value.clone())
        for name in ("bias", "known_bias"):
            self.register_buffer(name, vote.new_zeros(vote.shape[1]))
        labels = torch.full_like(groups, -1) if labels is None else labels
        self.register_buffer("labels", labels.clone())

    def forward(self, scores: Tensor) -> Tensor:
        """Map scores of cells (n, c) to scores of classes (n, k)."""
        return safe_log(torch.softmax(scores, dim=1) @ self.vote) + self.bias

    def with_groups(self, scores: Tensor, codes: Tensor) -> Tensor:
        """Map scores (n, c) of rows of known groups (n,) to scores of classes.

        A code that no cell has, such as -1, is of a row whose group is not known.
        """
        if codes.ndim != 1 or codes.shape[0] != scores.shape[0]:
            raise ValueError(
                f"The groups have shape {tuple(codes.shape)}, for {scores.shape[0]} rows; expected "
                f"one number for each row, shape ({scores.shape[0]},), -1 where its group is not "
                "known."
            )
        own = self.groups == codes[:, None]
        known = own.any(dim=1, keepdim=True)
        # Both ways for all rows, so that no shape depends on the codes, which torch.export refuses.
        # Where no cell is a row's own all are left in: a softmax of nothing but -inf is NaN.
        p = torch.softmax(scores.masked_fill(known & ~own, -torch.inf), dim=1)
        told = safe_log(p @ self.known_vote) + self.known_bias
        return torch.where(known, told, self(scores))

    def by_label(self) -> CellVote:
        """Return the module in which each cell votes for its own class alone, and no bias is.

        Its probabilities of the classes are the sums of those of their cells.

        Examples
        --------
        >>> vote = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]])
        >>> groups, labels = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])
        >>> CellVote(vote, groups, labels=labels).by_label().vote.tolist()
        [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
        """
        if (self.labels < 0).any():
            raise ValueError(
                "This head does not know the classes of its cells: it was saved by a version that "
                "did not write them, and not each class has rows of each group. Fit it again."
            )
        own = nn.functional.one_hot(self.labels, self.vote.shape[1]).to(self.vote)
        return CellVote(own, self.groups, labels=self.labels)

    def extra_repr(self) -> str:
        """Return both widths, for torch's repr."""
        return f"cells={len(self.vote)}, out_features={self.vote.shape[1]}"


def labels_of_cells(groups: Tensor, n_classes: int) -> Tensor:
    """Return the classes (c,) of cells that are in the order of class, then group (c,).

    A class begins where the groups do not go up. Where a class may also begin elsewhere, because
    cells are lacking, all are -1: not known.

    Examples
    --------
    >>> labels_of_cells(torch.tensor([0, 1, 0, 1]), 2).tolist()
    [0, 0, 1, 1]
    >>> labels_of_cells(torch.tensor([0, 1, 2]), 2).tolist()
    [-1, -1, -1]
    """
    labels = torch.zeros_like(groups)
    labels[1:] = (groups[1:] <= groups[:-1]).cumsum(0)
    return labels if int(labels[-1]) == n_classes - 1 else torch.full_like(groups, -1)


def safe_log(p: Tensor) -> Tensor:
    """Return logarithms of probabilities, finite also where these have rounded to 0.

    Examples
    --------
    >>> bool(safe_log(torch.zeros(1)).isfinite())
    True
    """
    # No class is impossible: where rounding says so, a score of -inf would only spread NaN.
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()
