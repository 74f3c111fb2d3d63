"""Layers of a network: what is noted of each in a pass, and what takes its place.

Must not know the groups' names: they are codes here, as everywhere in this room.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .covariance import CovarianceStatistics, GroupCovariance
from .fisher import GroupFisher
from .maps import LayerMap
from .variance import GroupVariance

__all__ = ["GradientMoments", "LayerPairs", "LayerStatistics", "replace_layer"]

# What is in double precision, and gradients of weights, a matrix for each row, come in blocks of
# about this many numbers.
_BLOCK_ELEMENTS = 2**22


def _blocks(rows: Tensor) -> Iterator[slice]:
    """Yield parts of rows (n, T, m), of a few numbers each."""
    size = max(1, _BLOCK_ELEMENTS // max(1, rows[0].numel()))
    for start in range(0, len(rows), size):
        yield slice(start, start + size)


def _counted(codes: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
    """Return codes (n,) and rows without those of no group, whose code is negative."""
    kept = codes >= 0
    return (codes, *rows) if bool(kept.all()) else (codes[kept], *(each[kept] for each in rows))


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """Put a layer in the place of another, wherever that is, and return the model.

    The layer itself, if that is all of it.

    Examples
    --------
    >>> replace_layer(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "0", nn.Identity())
    Sequential(
      (0): Identity()
      (1): ReLU()
    )
    """
    if not name:
        return layer
    old = model.get_submodule(name)
    for part in model.modules():
        for own, child in part._modules.items():
            if child is old:
                part._modules[own] = layer
    return model


class GradientMoments:
    """Accumulate the second moments of the loss's gradient at a layer, by group.

    Of several positions they are summed over those of a row, and then a mean over rows.

    Examples
    --------
    >>> moments = GradientMoments(1, 2)
    >>> h = torch.tensor([[[1.0, -1.0]], [[3.0, 0.0]]])
    >>> moments.update(h, torch.tensor([0, 0])).result()
    tensor([[[ 5.0000, -0.5000],
             [-0.5000,  0.5000]]], dtype=torch.float64)
    """

    def __init__(self, n_groups: int, width: int) -> None:
        self._sums = torch.zeros(n_groups, width, width, dtype=torch.float64)
        self._counts = torch.zeros(n_groups, dtype=torch.float64)

    def update(self, h: Tensor, codes: Tensor) -> GradientMoments:
        """Add gradients (n, T, m) of rows of groups (n,), and return itself."""
        h = h.double()
        for group in torch.unique(codes).tolist():
            own = h[codes == group]
            self._counts[group] += len(own)
            own = own.flatten(0, 1)
            self._sums[group] += (own.T @ own).cpu()
        return self

    def merge(self, other: GradientMoments) -> GradientMoments:
        """Add another accumulator's rows to this one's and return itself."""
        self._sums += other._sums
        self._counts += other._counts
        return self

    def result(self) -> Tensor:
        """Return the mean of each group, shape (G, m, m); zero for a group without rows."""
        return self._sums / self._counts.clamp_min(1.0)[:, None, None]


class LayerStatistics:
    """All that a cut of a layer is made of: moments of what goes through it, and of gradients.

    Parameters
    ----------
    seen : LayerMap
        The layer.
    n_groups : int
        Number of groups.
    gradients : bool
        Whether gradients come, too.
    fisher : bool, default=False
        Whether the Fisher information is wanted, for which a matrix is formed of each row.
    """

    def __init__(
        self, seen: LayerMap, n_groups: int, *, gradients: bool, fisher: bool = False
    ) -> None:
        self.seen = seen
        self.inputs = GroupVariance(n_groups, seen.columns)
        self.moments = GroupCovariance(n_groups, seen.width)
        width = seen.width if seen.side == "inputs" else seen.k
        self.gradients = GradientMoments(n_groups, width) if gradients else None
        self.fisher = GroupFisher(n_groups, seen.d) if fisher else None

    @torch.no_grad()
    def update(self, Z: Tensor, output: Tensor, codes: Tensor) -> LayerStatistics:
        """Add inputs, outputs without hooks, and groups (n,) of some rows; return itself.

        Rows whose group is negative are not counted.
        """
        codes, Z, output = _counted(codes.to(Z.device), Z, output)
        if len(codes) == 0:
            return self
        for statistic, rows in (
            (self.inputs, self.seen.features(Z)),
            (self.moments, self.seen.seen(Z, output)),
        ):
            for part in _blocks(rows):
                own = codes[part].repeat_interleave(rows.shape[1])
                statistic.update(rows[part].flatten(0, 1), own)
        return self

    @torch.no_grad()
    def update_gradients(self, Z: Tensor | None, h: Tensor, codes: Tensor) -> LayerStatistics:
        """Add gradients of the loss at the outputs of some rows; return itself.

        Inputs are needed for the Fisher information alone. Rows whose group is negative are not
        counted.
        """
        codes = codes.to(h.device)
        if not bool((codes >= 0).any()):
            return self
        if self.gradients is not None:
            self.gradients.update(*reversed(_counted(codes, self.seen.graded(h))))
        if self.fisher is not None:
            assert Z is not None
            codes, Z, h = _counted(codes, Z, h)
            one = torch.ones(len(h), device=h.device)
            self.fisher.update(self._gradient_sizes(Z, h), one, codes)
        return self

    def _gradient_sizes(self, Z: Tensor, h: Tensor) -> Tensor:
        """Return the norm (n, d) of each row of each sample's gradient of the weights."""
        Z, h = self.seen.unfold(Z).double(), self.seen.positions(h).double()
        if Z.shape[1] < self.seen.k:
            # With S the sum of outer products z_t h_t^T: diag(S S^T), by products of positions.
            return ((h @ h.mT @ Z) * Z).sum(1).clamp_min(0.0).sqrt()
        size = max(1, _BLOCK_ELEMENTS // (self.seen.d * self.seen.k))
        parts = zip(Z.split(size), h.split(size), strict=True)
        return torch.cat([(z.mT @ g).norm(dim=2) for z, g in parts])

    def merge(self, other: LayerStatistics) -> LayerStatistics:
        """Add another accumulator's rows to this one's and return itself."""
        self.inputs.merge(other.inputs)
        self.moments.merge(other.moments)
        for own, its in ((self.gradients, other.gradients), (self.fisher, other.fisher)):
            if own is not None:
                own.merge(its)  # type: ignore[arg-type]
        return self


class LayerPairs:
    """Moments of what a layer's side was and of what it is behind layers that are cut already.

    Examples
    --------
    >>> from skfairft.lowrank.maps import LayerMap
    >>> pairs = LayerPairs(LayerMap(nn.Linear(2, 1)), 1)
    >>> u, v = torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[[2.0]], [[2.0]]])
    >>> pairs.update(u, v, torch.tensor([0, 0])).result().covariances
    tensor([[[1., 0.],
             [0., 0.]]], dtype=torch.float64)
    """

    def __init__(self, seen: LayerMap, n_groups: int) -> None:
        self._moments = GroupCovariance(n_groups, 2 * seen.width)

    @torch.no_grad()
    def update(self, u: Tensor, v: Tensor, codes: Tensor) -> LayerPairs:
        """Add what the side was and is, (n, T, m) each, of rows of groups (n,).

        Rows whose group is negative are not counted.
        """
        codes, u, v = _counted(codes.to(u.device), u, v)
        if len(codes) == 0:
            return self
        for part in _blocks(u):
            both = torch.cat([u[part].double(), v[part].double()], dim=2)
            own = codes[part].repeat_interleave(both.shape[1])
            self._moments.update(both.flatten(0, 1), own)
        return self

    def merge(self, other: LayerPairs) -> LayerPairs:
        """Add another accumulator's rows to this one's and return itself."""
        self._moments.merge(other._moments)
        return self

    def result(self) -> CovarianceStatistics:
        """Return means and covariances of both side by side, 2 m wide."""
        return self._moments.result()
