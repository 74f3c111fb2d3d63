"""Columns of labels and groups as codes, by themselves."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import DataConversionWarning

from skfairft._encoding import encode_groups, encode_labels, to_label_array
from skfairft._tensors import to_array

RNG = np.random.default_rng(0)


class TestToArray:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int8])
    def test_tensors(self, dtype):
        tensor = torch.tensor([[1.5, -2.0]]).to(dtype)
        found = to_array(tensor)
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, tensor.double().numpy())
        assert found.dtype == (np.float32 if dtype == torch.bfloat16 else found.dtype)

    def test_a_tensor_with_gradient(self):
        assert to_array(torch.ones(2, requires_grad=True)).tolist() == [1.0, 1.0]

    @pytest.mark.parametrize("value", [[1, 2], "ab", None, pd.DataFrame({"a": [1]})])
    def test_anything_else_is_handed_through(self, value):
        assert to_array(value) is value


class TestLabels:
    @pytest.mark.parametrize(
        "values",
        [
            RNG.integers(-3, 3, size=50),
            RNG.integers(0, 2, size=50).astype(bool),
            RNG.integers(0, 4, size=50).astype(float),
            np.array(["b", "a", "cc"])[RNG.integers(3, size=50)],
            pd.Categorical(np.array(["b", "a", "cc"])[RNG.integers(3, size=50)]),
            pd.array(RNG.integers(3, size=50), dtype="Int8"),
        ],
    )
    def test_classes_at_codes_are_the_labels(self, values):
        classes, codes = encode_labels(values)
        assert codes.dtype == np.int64
        assert sorted(classes) == classes.tolist()
        assert classes[codes].tolist() == list(values)
        assert set(codes.tolist()) == set(range(len(classes)))

    def test_a_column_vector_is_flattened_with_scikit_learns_warning(self):
        with pytest.warns(DataConversionWarning, match="column-vector"):
            assert to_label_array(np.array([[1], [0]])).tolist() == [1, 0]

    def test_the_name_is_in_the_error(self):
        with pytest.raises(ValueError, match="y_pred holds 1 missing"):
            to_label_array([None, "a"], name="y_pred")

    def test_text_that_looks_missing_is_text(self):
        assert encode_labels(["nan", "None", "", "nan"])[0].tolist() == ["", "None", "nan"]


class TestGroups:
    def test_codes_name_the_groups(self):
        values = np.array(["x", "y", "z"])[RNG.integers(3, size=40)]
        groups, codes = encode_groups(values, 40)
        assert groups[codes].tolist() == values.tolist()

    @pytest.mark.parametrize("n_columns", [2, 3])
    def test_intersections(self, n_columns):
        table = RNG.integers(3, size=(60, n_columns))
        groups, codes = encode_groups(table, 60)
        assert [groups[code] for code in codes] == [tuple(row) for row in table.tolist()]
        assert sorted(groups) == groups.tolist()
        assert len(groups) == len({tuple(row) for row in table.tolist()})
        assert all(type(part) is int for group in groups for part in group)

    def test_one_column_of_a_table_is_no_tuple(self):
        for table in (np.array([[1], [0]]), pd.DataFrame({"a": [1, 0]}), [[1], [0]]):
            assert encode_groups(table, 2)[0].tolist() == [0, 1]

    def test_columns_of_different_types(self):
        frame = pd.DataFrame(
            {
                "sex": pd.Categorical(["f", "m", "f"]),
                "old": pd.array([True, False, False], dtype="boolean"),
                "region": [1.5, 2.5, 1.5],
            }
        )
        groups, codes = encode_groups(frame, 3)
        assert groups.tolist() == [("f", False, 1.5), ("f", True, 1.5), ("m", False, 2.5)]
        assert codes.tolist() == [1, 2, 0]

    def test_values_without_an_order_are_ordered_by_type_and_text(self):
        values = np.array([2, "b", 10, "a", 2], dtype=object)
        groups, codes = encode_groups(values, 5)
        assert groups.tolist() == [10, 2, "a", "b"]
        assert groups[codes].tolist() == values.tolist()
        groups, _ = encode_groups([(1, "a"), ("x", "a")], 2)
        assert groups.tolist() == [(1, "a"), ("x", "a")]

    def test_arrow_arrays(self):
        pa = pytest.importorskip("pyarrow")
        for values in (pa.array(["b", "a", "b"]), pa.chunked_array([["b"], ["a", "b"]])):
            groups, codes = encode_groups(values, 3)
            assert groups.tolist() == ["a", "b"]
            assert codes.tolist() == [1, 0, 1]

    @pytest.mark.parametrize(
        ("values", "n_missing"),
        [
            ([1.0, np.nan, 2.0], 1),
            (["a", None, None], 2),
            (pd.Series([True, pd.NA, False], dtype="boolean"), 1),
            (pd.Categorical(["a", None, "b"]), 1),
            (np.array([[1.0, 2.0], [np.nan, 1.0], [1.0, 1.0]]), 1),
            (torch.tensor([1.0, float("nan"), 0.0]), 1),
        ],
    )
    def test_missing_values_are_counted(self, values, n_missing):
        with pytest.raises(ValueError, match=rf"who.* holds {n_missing} missing .* in 3 rows"):
            encode_groups(values, 3, name="who")
