"""The hold-out's rows: how many, from where, and which."""

import numpy as np
import pytest

from skfairft.rows.hold_out import hold_out


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_random_and_alike_in_every_cell(fraction):
    cells = np.repeat([0, 1, 2, 3], [200, 70, 1, 29])
    np.random.default_rng(0).shuffle(cells)
    state = np.random.RandomState(0)
    times, together = np.zeros(300), 0
    for _ in range(400):
        rows = hold_out(cells, np.ones(300), fraction, state)
        assert len(set(rows)) == len(rows) == round(300 * fraction)
        taken = np.bincount(cells[rows], minlength=4)
        # One row of each cell stays; of the others each cell gives the same share.
        share = len(rows) / 296
        assert np.abs(taken - share * np.array([199, 69, 0, 28])).max() < 1 + 1e-9
        times[rows] += 1
        together += np.isin(np.flatnonzero(cells == 0)[:2], rows).all()
    expected = 400 * np.array([199 / 200, 69 / 70, 0, 28 / 29])[cells] * share
    # Five standard deviations of a binomial count.
    assert (np.abs(times - expected) <= 5 * np.sqrt(expected) + 1e-9).all()
    if fraction >= 0.1:
        assert together > 0  # steps without shuffling would never take neighbours


def test_small_cells_take_turns():
    cells = np.arange(120) % 40  # three rows each, of which a tenth is less than one
    state = np.random.RandomState(0)
    times = np.zeros(40)
    for _ in range(400):
        times += np.bincount(cells[hold_out(cells, np.ones(120), 0.1, state)], minlength=40)
    expected = 400 * 12 / 40
    assert np.abs(times - expected).max() < 5 * np.sqrt(expected)


def test_rows_of_weight_zero_stay():
    cells = np.arange(300) % 3
    w = (np.arange(300) < 60).astype(float)
    for seed in range(20):
        rows = hold_out(cells, w, 0.5, np.random.RandomState(seed))
        assert len(rows) == 30
        assert rows.max() < 60
        # Each cell keeps a row that counts.
        assert np.bincount(cells[rows]).max() < 20


def test_the_seed_decides():
    cells = np.arange(100) % 4
    first, again, other = (
        hold_out(cells, np.ones(100), 0.2, np.random.RandomState(seed)).tolist()
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first == sorted(first)


@pytest.mark.parametrize("n", [5, 6, 40])
def test_as_many_as_there_are_to_spare(n):
    """Five cells; whatever is asked for, at least one row and at most those to spare."""
    cells = np.arange(n) % 5
    if n == 5:
        with pytest.raises(ValueError, match="None of 5 rows can be held out"):
            hold_out(cells, np.ones(n), 0.9, np.random.RandomState(0))
        return
    assert len(hold_out(cells, np.ones(n), 0.001, np.random.RandomState(0))) == 1
    assert len(hold_out(cells, np.ones(n), 0.999, np.random.RandomState(0))) == n - 5
