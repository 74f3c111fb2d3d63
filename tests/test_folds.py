"""Folds: each row is judged once at most, by a head that has not seen it."""

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, StratifiedKFold

from skfairft.rows.folds import read_folds, stratified_folds


def read(cv, cells, w=None, seed=0):
    w = np.ones(len(cells)) if w is None else w
    return read_folds(cv, cells, cells % 2, w, np.random.RandomState(seed))


@pytest.mark.parametrize("n_folds", [2, 3, 5, 10])
def test_each_cell_is_divided_alike(n_folds):
    cells = np.repeat([0, 1, 2, 3], [200, 70, 31, 10])
    np.random.default_rng(0).shuffle(cells)
    folds = stratified_folds(cells, np.ones(len(cells)), n_folds, np.random.RandomState(0))
    assert folds.refit
    assert len(folds.parts) == n_folds
    np.testing.assert_array_equal(folds.judged, np.arange(len(cells)))
    counts = np.array([np.bincount(cells[part.test], minlength=4) for part in folds.parts])
    assert np.ptp(counts, axis=0).max() <= 1
    for part in folds.parts:
        assert not np.intersect1d(part.train, part.test).size
        assert len(part.train) + len(part.test) == len(cells)


def test_rows_are_drawn_at_random():
    cells = np.repeat([0, 1], 50)
    first, again, other = (
        [part.test.tolist() for part in read(5, cells, seed=seed).parts] for seed in (0, 0, 1)
    )
    assert first == again != other
    together = np.zeros((100, 100))
    for seed in range(300):
        for part in read(2, cells, seed=seed).parts:
            together[np.ix_(part.test, part.test)] += 1
    # Two rows of a cell are together in 24 of 49 cases, of two cells in half.
    assert abs(together[0, 1] / 300 - 24 / 49) < 0.1
    assert abs(together[0, 99] / 300 - 0.5) < 0.1


def test_what_cannot_be_judged_is_fitted_in_all():
    cells = np.array([0] * 10 + [1] + [2] * 9)
    w = np.ones(20)
    w[3] = 0.0
    folds = read(3, cells, w)
    assert set(folds.judged) == set(range(20)) - {3, 10}
    assert all({3, 10} <= set(part.train) for part in folds.parts)
    codes = folds.codes(w)
    assert codes[10] == codes[3] == -1  # in no fold
    for i, part in enumerate(folds.parts):
        assert (codes[part.test] == i).all()


@pytest.mark.parametrize("seed", range(5))
def test_of_classes_and_groups_apart_all_are_judged_that_a_head_can_do_without(seed):
    """Rows alone in their cell, but not in their class, nor in their group."""
    rng = np.random.default_rng(seed)
    labels, codes = rng.integers(4, size=60), rng.integers(2, size=60)
    codes[labels.argsort(kind="stable")[[0, 1, 20, 40, 59]]] = 2  # two of one class
    codes[0], labels[1] = 3, 4  # a group and a class of one row each
    cells, w = 5 * codes + labels, np.ones(60)
    given = {"n_folds": 5, "random_state": np.random.RandomState(seed)}
    folds = stratified_folds(cells, w, **given, kept=[labels, codes])
    assert set(range(60)) - set(folds.judged) <= {0, 1}
    assert len(folds.judged) > len(stratified_folds(cells, w, **given).judged)
    for part in folds.parts:
        assert not np.intersect1d(part.train, part.test).size
        for column in (labels, codes):
            assert set(column[part.train]) == set(column)


def test_few_rows_make_fewer_folds():
    assert len(read(5, np.array([0, 0, 0, 1])).parts) == 3
    with pytest.raises(ValueError, match="cv=5 cannot divide 0 rows"):
        read(5, np.array([0, 1, 2]))


def test_a_share_is_held_out_and_not_fitted():
    cells = np.arange(100) % 4
    folds = read(0.25, cells)
    assert not folds.refit
    ((train, test),) = folds.parts
    assert np.bincount(cells[test]).tolist() in (
        [6, 6, 6, 7],
        [7, 6, 6, 6],
        [6, 7, 6, 6],
        [6, 6, 7, 6],
    )
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(100))


@pytest.mark.parametrize(
    "cv",
    [KFold(4), StratifiedKFold(4, shuffle=True, random_state=3), ShuffleSplit(1, random_state=0)],
)
def test_splitters_are_taken_as_they_are(cv):
    cells = np.arange(40) % 4
    folds = read(cv, cells)
    expected = list(cv.split(np.zeros((40, 1)), cells % 2))
    assert len(folds.parts) == len(expected)
    for part, (train, test) in zip(folds.parts, expected, strict=True):
        np.testing.assert_array_equal(part.train, np.sort(train))
        np.testing.assert_array_equal(part.test, np.sort(test))


def test_splits_of_people_and_masks():
    people = np.arange(40) // 4
    splits = list(GroupKFold(5).split(np.zeros((40, 1)), groups=people))
    folds = read(splits, np.arange(40) % 4)
    for part in folds.parts:
        assert not np.intersect1d(people[part.train], people[part.test]).size
    mask = np.arange(40) < 20
    halves = read([(mask, ~mask), (~mask, mask)], np.arange(40) % 4)
    np.testing.assert_array_equal(halves.parts[0].test, np.arange(20, 40))
    # A fold that leaves out rows that it does not judge is none of those fitted all at once.
    assert halves.codes(np.ones(40)) is not None
    later = read([(np.arange(10), np.arange(20, 30))], np.arange(40) % 4)
    assert later.codes(np.ones(40)) is None


ROWS = np.arange(8)


@pytest.mark.parametrize(
    ("cv", "words"),
    [
        ([(ROWS[:4], ROWS[4:]), (ROWS[:4], ROWS[4:])], r"judges row 4 2 times"),
        ([(ROWS[:4], [4, 5, 4])], r"split 0 names row 4 more than once"),
        ([([0, 1, 1], ROWS[4:])], r"split 0 names row 1 more than once"),
        ([(ROWS, ROWS[4:])], r"split 0 has 4 rows, 4 first, on both sides"),
        ([(ROWS[:0], ROWS)], r"split 0 has 0 rows to fit and 8 to judge"),
        ([(ROWS, [])], r"split 0 has 8 rows to fit and 0 to judge"),
        ([0], r"does not split 8 rows"),
        ([(ROWS[:4], [9])], r"split 0 does not name rows of 8"),
        ([(ROWS[:4], "ab")], r"split 0 does not name rows of 8"),
        ([(ROWS[:4], ROWS[4:], ROWS)], r"does not split 8 rows: .*pairs of row numbers"),
        (GroupKFold(2), r"does not split 8 rows: .*groups.*needs no groups"),
        ([], r"cv gives no split.*pass a list"),
    ],
)
def test_splits_that_judge_by_what_was_fitted_are_refused(cv, words):
    with pytest.raises(ValueError, match=words):
        read(cv, ROWS % 4)
