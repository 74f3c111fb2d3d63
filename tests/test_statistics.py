"""Every statistic of a layer: whatever the cut into batches and the order of merges.

The references are exact: sums of fractions, of which each float64 is one.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch

from skfairft.lowrank import covariance, statistics
from skfairft.lowrank.covariance import GroupCovariance
from skfairft.lowrank.fisher import GroupFisher
from skfairft.lowrank.gaps import CellMeans
from skfairft.lowrank.moments import ColumnMoments, column_moments
from skfairft.lowrank.statistics import Part, fill
from skfairft.rows import mapped
from skfairft.rows.blocks import threads_over_blocks

N, D, K, G = 90, 4, 3, 3
SHARES = torch.tensor([0.5, 0.125, 0.375], dtype=torch.float64)
CONDITIONS = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.5]]).double()


class Rows:
    """Rows of a layer, by number."""

    def __init__(self, Z, y, codes, w):
        self.Z, self.y, self.codes, self.w = Z, y, codes, w

    def __getitem__(self, index):
        return Rows(self.Z[index], self.y[index], self.codes[index], self.w[index])

    @property
    def energy(self):
        """Gradient energies for the Fisher information, functions of the labels."""
        return 0.25 + self.y.double()


def make_rows(kind="plain", seed=0):
    rng = np.random.default_rng(seed)
    codes, y = rng.integers(G, size=N), rng.integers(K, size=N)
    group, label = rng.normal(size=(G, D)), rng.normal(size=(K, D))
    Z = rng.normal(size=(N, D)) @ rng.normal(size=(D, D)) + group[codes] + label[y]
    w = rng.exponential(size=N)
    if kind == "far":
        Z += 1e6
    elif kind == "far and small":
        Z = (Z + 1e6) * np.array([1e-9, 1e-3, 1.0, 1e6])
    elif kind == "sorted":
        Z = np.sort(Z, axis=0) + 1e4
        codes = np.sort(codes)
    elif kind == "some zero":
        w[::4] = 0.0
        Z[::4] = 1e15  # which must not count
    elif kind == "weights of all sizes":
        w = 10.0 ** rng.uniform(-6, 6, size=N)
    return Rows(*map(torch.from_numpy, (Z, y, codes, w)))


KINDS = ["plain", "far", "far and small", "sorted", "some zero", "weights of all sizes"]

EMPTY = {
    "moments": lambda: ColumnMoments(D),
    "covariance": lambda: GroupCovariance(G, D),
    "cells": lambda: CellMeans(K, G, D),
    "fisher": lambda: GroupFisher(G, D),
}
GIVEN = {
    "moments": lambda rows: (rows.Z, rows.w),
    "covariance": lambda rows: (rows.Z, rows.codes, rows.w),
    "cells": lambda rows: (rows.Z, rows.y, rows.codes, rows.w),
    "fisher": lambda rows: (rows.Z, rows.energy, rows.codes, rows.w),
}
NUMBERS = {
    "moments": lambda found: [found.mean, found.scale],
    "covariance": lambda found: [found.covariances, found.about_mean(SHARES), found.means.weights],
    "cells": lambda found: [found.directions(CONDITIONS), found.weights],
    "fisher": lambda found: [found.importance, found.weights],
}


def accumulate(name, rows):
    return EMPTY[name]().update(*GIVEN[name](rows))


def exact(tensor):
    """Return a matrix or vector of float64 as fractions, which can be added without rounding."""
    return np.vectorize(Fraction, otypes=[object])(tensor.numpy())


def rounded(array):
    return torch.from_numpy(np.asarray(array, dtype=object).astype(np.float64))


def mean_of(Z, w):
    return (w[:, None] * Z).sum(axis=0) / w.sum()


def second_moment(Z, w, centre):
    away = Z - centre
    return (away * w[:, None]).T.dot(away) / w.sum()


def slow(name, rows):
    """The same numbers from fractions, each formula as it is written."""
    Z, w = exact(rows.Z), exact(rows.w)
    codes, y = rows.codes.numpy(), rows.y.numpy()
    groups = [codes == group for group in range(G)]
    if name == "moments":
        mean = mean_of(Z, w)
        return [rounded(mean), rounded(np.diag(second_moment(Z, w, mean))).sqrt()]
    if name == "covariance":
        own = [second_moment(Z[g], w[g], mean_of(Z[g], w[g])) for g in groups]
        common = [second_moment(Z[g], w[g], mean_of(Z, w)) for g in groups]
        about_mean = sum(share * C for share, C in zip(exact(SHARES), common, strict=True))
        return [rounded(own), rounded(about_mean), rounded([w[g].sum() for g in groups])]
    if name == "cells":
        columns = []
        for condition in exact(CONDITIONS):
            within = condition[y] * w
            columns += [mean_of(Z[g], within[g]) - mean_of(Z, within) for g in groups]
        weights = [[w[g & (y == label)].sum() for g in groups] for label in range(K)]
        return [rounded(np.stack(columns, axis=1)), rounded(weights)]
    energy = w * exact(rows.energy)
    squares = [(energy[g, None] * Z[g] ** 2).sum(axis=0) / w[g].sum() for g in groups]
    return [rounded(squares).sqrt(), rounded([w[g].sum() for g in groups])]


def assert_close(found, expected, rtol=1e-12, ratio=1e-12):
    """Compare, entry by entry, beside the sizes of the features that an entry is made of."""
    for ours, theirs in zip(found, expected, strict=True):
        if ours.ndim >= 2 and ours.shape[-1] == ours.shape[-2] == D:  # covariances, whose sizes
            size = theirs.diagonal(dim1=-2, dim2=-1).sqrt()  # are products of scales
            atol = ratio * size[..., :, None] * size[..., None, :]
        elif ours.ndim == 2 and len(ours) == D:  # directions
            atol = ratio * theirs.abs().amax(dim=1, keepdim=True)
        else:
            atol = torch.zeros(())
        error = (ours - theirs).abs()
        assert (error <= rtol * theirs.abs() + atol).all(), (error / theirs.abs()).max()


def merged(name, rows, seed):
    """Accumulate a random cut of shuffled rows, some batches at once, merged in a random tree."""
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, N + 1, size=7))  # empty batches among them
    parts = []
    for index in np.split(rng.permutation(N), cuts):
        half = len(index) // 2  # two updates to one accumulator
        part = accumulate(name, rows[index[:half]])
        parts.append(part.update(*GIVEN[name](rows[index[half:]])))
    parts.append(EMPTY[name]())
    while len(parts) > 1:
        i, j = rng.permutation(len(parts))[:2]
        parts[i].merge(parts[j])
        del parts[j]
    return parts[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EMPTY)
class TestAnyOrder:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.some(2)
    def test_any_cut_and_any_order_of_merges_is_exact(self, name, kind, seed):
        rows = make_rows(kind, seed)
        found = NUMBERS[name](merged(name, rows, seed).result())
        counted = rows[rows.w > 0]
        assert_close(found, slow(name, counted))

    def test_one_update_is_exact(self, name, kind):
        rows = make_rows(kind)
        found = NUMBERS[name](accumulate(name, rows).result())
        assert_close(found, slow(name, rows[rows.w > 0]))


@pytest.mark.parametrize("panel", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_covariance_in_panels_is_exact_and_symmetric(monkeypatch, kind, panel):
    monkeypatch.setattr(covariance, "_PANEL", panel)
    rows = make_rows(kind)
    found = merged("covariance", rows, 0).result()
    assert_close(NUMBERS["covariance"](found), slow("covariance", rows[rows.w > 0]))
    assert torch.equal(found.covariances, found.covariances.mT)


class TestControls:
    def test_sums_of_squares_are_not_exact_far_from_zero(self):
        # Controls of the above: what the textbook's formulas leave of the same numbers.
        rows = make_rows("far")
        Z, w = rows.Z, rows.w / rows.w.sum()
        naive = Z.T @ (w[:, None] * Z) - torch.outer(w @ Z, w @ Z)
        one_group = GroupCovariance(1, D).update(Z, torch.zeros_like(rows.codes), rows.w).result()
        spread = one_group.covariances[0].abs().max()
        assert (naive - one_group.covariances[0]).abs().max() > 1e-5 * spread
        of_cells = NUMBERS["cells"](accumulate("cells", rows).result())[0]
        means = torch.stack([rows.w[own] @ Z[own] / rows.w[own].sum() for own in _groups(rows)])
        naive_gaps = means.T - (w @ Z)[:, None]
        assert (naive_gaps - of_cells[:, :G]).abs().max() > 1e-11

    @pytest.mark.parametrize("name", EMPTY)
    def test_each_part_and_the_weights_matter(self, name):
        rows = make_rows()
        whole = NUMBERS[name](accumulate(name, rows).result())
        for other in (rows[10:], Rows(rows.Z, rows.y, rows.codes, torch.ones(N).double())):
            found = NUMBERS[name](accumulate(name, other).result())
            assert not torch.allclose(found[0], whole[0], rtol=1e-3)


def _groups(rows):
    return [rows.codes == group for group in range(G)]


@pytest.mark.parametrize("name", EMPTY)
class TestWeights:
    def test_an_integer_weight_is_the_row_so_many_times(self, name):
        rows = make_rows()
        times = torch.arange(N) % 4
        rows.w = times.double()
        repeated = rows[torch.repeat_interleave(torch.arange(N), times)]
        repeated.w = torch.ones(len(repeated.w)).double()
        found, expected = (
            NUMBERS[name](accumulate(name, each).result()) for each in (rows, repeated)
        )
        assert_close(found, expected)

    def test_no_weights_are_ones(self, name):
        rows = make_rows()
        rows.w = torch.ones(N).double()
        found = EMPTY[name]().update(*GIVEN[name](rows)[:-1]).result()
        assert_close(NUMBERS[name](found), NUMBERS[name](accumulate(name, rows).result()), 0, 0)

    @pytest.mark.parametrize("factor", [2.0**-300, 2.0**300])
    def test_only_their_ratios_matter(self, name, factor):
        rows = make_rows()
        expected = NUMBERS[name](merged(name, rows, 0).result())[:-1]
        rows.w = factor * rows.w
        found = NUMBERS[name](merged(name, rows, 0).result())[:-1]
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs)  # a power of two rounds nothing


@pytest.mark.parametrize("name", EMPTY)
class TestFrozen:
    def test_later_rows_do_not_change_a_result(self, name):
        rows = make_rows()
        accumulator = accumulate(name, rows[:30])
        result = accumulator.result()
        before = [tensor.clone() for tensor in NUMBERS[name](result)]
        accumulator.update(*GIVEN[name](rows[30:60]))
        accumulator.merge(accumulate(name, rows[60:]))
        for now, then in zip(NUMBERS[name](result), before, strict=True):
            assert torch.equal(now, then)
        # Control: they do change what the accumulator says.
        assert not torch.equal(NUMBERS[name](accumulator.result())[0], before[0])

    def test_merging_changes_only_the_receiver_then_and_later(self, name):
        rows = make_rows()
        for ours in (EMPTY[name](), accumulate(name, rows[:30])):
            other = accumulate(name, rows[30:60])
            before = NUMBERS[name](other.result())
            ours.merge(other)
            received = NUMBERS[name](ours.result())
            assert all(map(torch.equal, NUMBERS[name](other.result()), before))
            ours.update(*GIVEN[name](rows[60:75]))
            assert all(map(torch.equal, NUMBERS[name](other.result()), before))
            now = NUMBERS[name](ours.result())
            assert not torch.equal(now[0], received[0])
            other.update(*GIVEN[name](rows[75:]))
            assert all(map(torch.equal, NUMBERS[name](ours.result()), now))

    def test_a_result_cannot_be_edited(self, name):
        result = accumulate(name, make_rows()).result()
        field = next(iter(getattr(result, "_fields", None) or vars(result)))
        with pytest.raises(AttributeError):
            setattr(result, field, None)


class TestNoRows:
    def test_what_is_not_defined_is_nan(self):
        assert ColumnMoments(D).result().mean.isnan().all()
        assert CellMeans(K, G, D).result().means.isnan().all()
        assert GroupCovariance(G, D).result().means.means.isnan().all()
        assert GroupFisher(G, D).result().fisher.isnan().all()
        assert CellMeans(K, G, D).result().directions(CONDITIONS).shape == (D, 0)

    @pytest.mark.parametrize("name", EMPTY)
    def test_rows_without_weight_are_none(self, name):
        rows = make_rows("far")
        expected = NUMBERS[name](accumulate(name, rows).result())
        rest = make_rows(seed=1)
        rest.w = torch.zeros(N).double()
        found = accumulate(name, rest).merge(accumulate(name, rows)).update(*GIVEN[name](rest))
        assert_close(NUMBERS[name](found.result()), expected, 0, 0)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_a_feature_is_constant_beside_its_largest_magnitude_of_all_rows(order):
    # A deviation of 1e-6: much beside most values, which are 1, and nothing beside one of 1000.
    Z = torch.tensor([[1e3], [1.0], [1.0]], dtype=torch.float64)
    w = torch.tensor([1e-18, 1.0, 1.0], dtype=torch.float64)
    moments = ColumnMoments(1)
    for row in order:
        moments.merge(ColumnMoments(1).update(Z[row : row + 1], w[row : row + 1]))
    assert moments.result().scale.tolist() == [1e3]


@pytest.fixture
def passes(monkeypatch):
    """Count the passes over all rows, in blocks of seven."""
    calls, original = [], statistics.reduce_runs

    def counted(*args, **settings):
        calls.append(1)
        return original(*args, **settings)

    monkeypatch.setattr(statistics, "reduce_runs", counted)
    monkeypatch.setattr(mapped, "_BLOCK_ROWS", 7)
    return calls


def parts(rows, names=tuple(EMPTY)):
    """What `fill` makes of a block, by any name."""
    return {("layer", name): Part(EMPTY[name], GIVEN[name](rows)[1:]) for name in names}


class TestFill:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_one_pass_fills_all(self, passes, dtype):
        rows = make_rows()
        rows.Z = rows.Z.to(dtype)
        found = fill(rows.Z, parts(rows))
        assert len(passes) == 1
        rows.Z = rows.Z.double()
        for (_, name), statistic in found.items():
            assert_close(NUMBERS[name](statistic.result()), slow(name, rows))

    def test_each_is_what_it_would_be_alone(self, passes):
        rows = make_rows("far")
        together = fill(rows.Z, parts(rows))
        for name in EMPTY:
            alone = fill(rows.Z, parts(rows, [name]))["layer", name]
            found = together["layer", name].result()
            assert all(map(torch.equal, NUMBERS[name](alone.result()), NUMBERS[name](found)))
        assert len(passes) == 1 + len(EMPTY)

    @pytest.mark.usefixtures("passes")
    def test_the_number_of_threads_changes_no_digit(self):
        rows = make_rows("far")
        expected, before = fill(rows.Z, parts(rows)), torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            with threads_over_blocks():
                found = fill(rows.Z, parts(rows))
        finally:
            torch.set_num_threads(before)
        for key, statistic in expected.items():
            for ours, theirs in zip(
                NUMBERS[key[1]](found[key].result()),
                NUMBERS[key[1]](statistic.result()),
                strict=True,
            ):
                assert torch.equal(ours, theirs)

    def test_blocks_are_shared_out_by_their_number_alone(self, passes):
        # Of 13 blocks of seven rows three share an accumulator, of 100 or more eight do.
        taken = []

        class Rows:
            def __init__(self):
                taken.append(0)

            def update(self, rows):
                taken[-1] += 1

            def merge(self, other):
                pass

        for n, expected in ((90, [3] * 4 + [1]), (7 * 100, [8] * 12 + [4]), (7 * 3, [1] * 3)):
            fill(torch.zeros(n, 2), {"rows": Part(Rows)})
            assert taken == expected
            taken.clear()
        assert len(passes) == 3

    def test_of_no_rows(self):
        rows = make_rows()[:0]
        found = fill(rows.Z, parts(rows))
        assert found["layer", "fisher"].result().counts.tolist() == [0] * G
        assert found["layer", "moments"].result().mean.isnan().all()

    def test_features_are_not_changed(self):
        rows = make_rows()
        before = rows.Z.clone()
        fill(rows.Z, parts(rows))
        assert torch.equal(rows.Z, before)

    @pytest.mark.usefixtures("passes")
    def test_column_moments_are_those_of_one_accumulator(self):
        rows = make_rows("far")
        found = column_moments(rows.Z, rows.w)
        expected = fill(rows.Z, parts(rows))["layer", "moments"].result()
        assert all(map(torch.equal, found, expected))
