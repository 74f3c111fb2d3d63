"""Groups and weights that `fit` checks before it starts, by themselves."""

import warnings

import numpy as np
import pandas as pd
import pytest

from skfairft.inputs.checks import check_group_weights, check_groups, check_weights
from skfairft.inputs.exceptions import FairnessWarning


class TestGroupWeights:
    groups = np.array(["a", "b", "c"], dtype=object)
    counts = np.array([1.0, 3.0, 4.0])

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, [1 / 3, 1 / 3, 1 / 3]),
            ("proportional", [1 / 8, 3 / 8, 4 / 8]),
            ({"c": 1, "a": 3, "b": 0}, [0.75, 0.0, 0.25]),
            (pd.Series({"c": 1, "a": 3, "b": 0}), [0.75, 0.0, 0.25]),
            ([3, 0, 1], [0.75, 0.0, 0.25]),
            (np.array([300.0, 0.0, 100.0]), [0.75, 0.0, 0.25]),
        ],
    )
    def test_sum_to_one(self, given, expected):
        found = check_group_weights(given, self.groups, self.counts)
        np.testing.assert_allclose(found, expected, rtol=1e-15)
        assert found.sum() == pytest.approx(1.0, abs=1e-15)

    def test_numpy_s_scalars_and_python_s_are_the_same_keys(self):
        for groups, keys in (
            (np.array([0, 1]), (np.int64(0), 1)),
            (np.array([False, True]), (False, np.True_)),
            (np.array([0.5, 1.5]), (np.float64(0.5), 1.5)),
        ):
            found = check_group_weights(dict(zip(keys, (1, 3), strict=True)), groups, np.ones(2))
            np.testing.assert_allclose(found, [0.25, 0.75])


class TestThinGroups:
    def report(self, s, labels):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.fit(s, labels)
        assert all(warning.category is FairnessWarning for warning in caught)
        assert all(warning.filename == __file__ for warning in caught)
        return [str(warning.message) for warning in caught]

    def fit(self, s, labels):
        check_groups(s, None, np.array(["n", "p"]), np.array(labels))

    def test_says_nothing_of_full_cells(self):
        assert self.report(["f", "f", "m", "m"], [0, 1, 0, 1]) == []

    def test_counts(self):
        (message,) = self.report(list("fffmxx"), [0, 0, 0, 1, 0, 1])
        assert "'f' has no row of class ['p'] among its 3; 'm' has 1 row." in message
        assert "'x'" not in message

    def test_constant(self):
        (message,) = self.report(["f", "f"], [0, 1])
        assert "all 2 rows belong to the group 'f'" in message


class TestWeights:
    classes, labels = np.array(["n", "p"]), np.array([0, 0, 0, 1])

    def test_the_product_of_both(self):
        found = check_weights([1, 2, 3, 4], {"n": 0.5, "p": 3}, self.classes, self.labels)
        np.testing.assert_array_equal(found, [0.5, 1.0, 1.5, 12.0])
        assert check_weights(None, None, self.classes, self.labels).tolist() == [1.0] * 4
        balanced = check_weights(None, "balanced", self.classes, self.labels)
        np.testing.assert_allclose(balanced, [2 / 3, 2 / 3, 2 / 3, 2.0])

    def test_the_callers_array_is_not_changed(self):
        w = np.ones(4)
        check_weights(w, {"n": 2, "p": 2}, self.classes, self.labels)
        assert w.tolist() == [1.0] * 4
