"""The strength of the L2 penalty, chosen by the log loss of rows that were held out."""

from __future__ import annotations

import operator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..inputs.warn import no_warnings
from ..lowrank.moments import column_moments
from ..rows.blocks import reduce_blocks
from ..rows.folds import stratified_folds
from ..rows.parts import Parts
from ..rows.tensor_rows import TensorRows, effective_rows
from .logistic import fit_logistic, fit_logistic_folds, moments_outside

__all__ = ["choose_strength"]

_FOLDS = 5
# From a tenth, which is faster to fit than 1 and as often right where there is a choice, towards
# stronger and weaker penalties, as long as the loss falls: powers of ten and their range.
_START, _LEAST, _MOST = -1, -5, 5
# Of the gradient: the losses of two strengths that are alike to so many digits are the same.
_TOL = 1e-4
# With so many rows for each weight the penalty has hardly a say.
_ROWS_PER_WEIGHT = 50


def choose_strength(
    rows: TensorRows,
    n_classes: int,
    codes: NDArray[np.int64] | None = None,
    *,
    alike: bool = False,
    parts: Parts | None = None,
) -> float:
    """Return the ``C`` of a linear head by cross-validated log loss, a power of ten.

    Parameters
    ----------
    rows : TensorRows
        Features, weights and what to tell apart.
    n_classes : int
        Number of that, k.
    codes : ndarray of shape (n,), optional
        The fold that each row is held out in, 0, 1, ..., or -1; None divides alike by what to tell
        apart. Of parts it is that of each row that they are parts of.
    alike : bool, default=False
        Whether all of what is told apart counts alike in the loss, however rare, and at even odds.
    parts : Parts, optional
        Of these rows, if some are parts of one: those stay on one side of each fold.

    Returns
    -------
    float
        1 where there are at least 50 rows for each weight: there it hardly matters. All that times
        effective rows by the sum of their weights, so that a common factor of these changes no
        head.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, noise = rng.normal(size=(60, 30)), rng.normal(size=60)
    >>> rows = TensorRows(torch.from_numpy(X), torch.from_numpy(X[:, 0] + noise > 0).long())
    >>> choose_strength(rows, 2) < 1.0
    True
    """
    cells, w, total = rows.y.numpy(), rows.w.numpy(), float(rows.w.sum())
    if parts is not None:
        cells, _, w = parts.whole
    n_rows = effective_rows(torch.from_numpy(w))
    one = n_rows / total  # what 1 is for rows of weight 1
    prior = torch.ones(n_classes, dtype=torch.float64)
    if alike:
        prior = torch.bincount(rows.y, rows.w, minlength=n_classes) / total
    if n_rows >= _ROWS_PER_WEIGHT * (n_classes - 1) * rows.Z.shape[1]:
        return one
    if codes is None:
        try:
            folds = stratified_folds(cells, w, _FOLDS, np.random.RandomState(0))
        except ValueError:  # there are not two of anything
            return one
        codes = folds.codes(w)
        assert codes is not None
    held_out = torch.from_numpy(codes if parts is None else codes[parts.of.numpy()])
    tests = [rows.take(torch.nonzero(held_out == i)[:, 0].numpy()) for i in range(codes.max() + 1)]
    moments = column_moments(rows.Z, rows.w)
    outside = moments_outside(rows, held_out, len(tests))
    whole: tuple[Tensor, Tensor] | None = None
    losses: dict[int, float] = {}

    def loss(power: int) -> float:
        nonlocal whole
        if power not in losses:
            C = one * 10.0**power
            whole = fit_logistic(rows, n_classes, 1.0 / (C * total), moments, whole, _TOL)
            heads = fit_logistic_folds(rows, n_classes, C, held_out, whole, outside, _TOL)
            losses[power] = sum(
                _loss(test, *head, prior) for test, head in zip(tests, heads, strict=True)
            )
        return losses[power]

    with no_warnings():
        for side in (-1, 1):
            at = _START
            while _LEAST < at < _MOST and loss(at + side) < loss(at):
                at += side
            if at != _START:
                break
    return one * 10.0**at


def _loss(rows: TensorRows, weight: Tensor, bias: Tensor, prior: Tensor) -> float:
    """Return the weighted sum of the log loss, without a prior (k,) and divided by it."""

    def part(block: Tensor, y: Tensor, w: Tensor) -> float:
        scores = block @ weight + bias
        if scores.shape[1] == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        log_p = torch.log_softmax(scores - prior.log(), dim=1).gather(1, y[:, None])
        return -float((w / prior[y]) @ log_p[:, 0])

    return reduce_blocks(part, operator.add, rows.Z, rows.y, rows.w) or 0.0
