"""Columns of labels and groups as codes, by themselves."""

import collections
import datetime
import enum
import fractions
import itertools
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import coo_array, csr_matrix
from sklearn.exceptions import DataConversionWarning

from skfairft.inputs.encoding import column_names, encode_groups, encode_labels, to_label_array
from skfairft.inputs.exceptions import FairnessWarning
from skfairft.inputs.tables import number_column
from skfairft.inputs.tensors import to_array

RNG = np.random.default_rng(0)
NAN = float("nan")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class ByIdentity:
    """Two of them differ, whatever they hold."""


def text(values, na):
    """NumPy's text of variable width, with what stands for a missing value."""
    return np.array(values, dtype=np.dtypes.StringDType(na_object=na))


def objects(values):
    """An object array with a list, a tuple or an array in each place."""
    return np.fromiter(values, dtype=object, count=len(values))


def nested(layout):
    return torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=layout)


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

    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
    def test_floats_that_numpy_has_not(self, dtype):
        assert to_array(torch.tensor([1.5, -2.0]).to(dtype)).tolist() == [1.5, -2.0]

    @pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
    def test_complex_numbers_that_numpy_has_not(self):
        assert to_array(torch.tensor([1.5 - 2j]).to(torch.complex32)).tolist() == [1.5 - 2j]

    def test_views_that_numpy_has_not(self):
        tensor = torch.tensor([1 + 2j, 3 - 4j])
        assert to_array(tensor.conj()).tolist() == [1 - 2j, 3 + 4j]
        assert to_array(tensor.conj().imag).tolist() == [-2.0, 4.0]

    @pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype:UserWarning")
    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: torch.eye(2).to_sparse(), ["sparse", "w.to_dense()"]),
            (lambda: torch.eye(2).to_sparse_csr(), ["sparse", "w.to_dense()"]),
            (lambda: nested(torch.strided), ["nested", "to_padded_tensor(w, 0.0)"]),
            (lambda: nested(torch.jagged), ["nested", "to_padded_tensor(w, 0.0)"]),
            (lambda: torch.ones(2, device="meta"), ["meta", "holds its numbers"]),
            (
                lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
                ["quantized", "w.dequantize()"],
            ),
        ],
    )
    def test_what_holds_no_plain_numbers(self, make, words):
        with pytest.raises(TypeError) as caught:
            to_array(make(), "w")
        message = str(caught.value)
        assert [word for word in ["w is a", *words] if word not in message] == [], message

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

    def test_text_keeps_what_numpys_text_would_lose(self):
        classes, codes = encode_labels(["a", "a\0", "a", "b"])
        assert classes[codes].tolist() == ["a", "a\0", "a", "b"]
        assert encode_labels(["a", "b"])[0].dtype == "<U1"  # as elsewhere in scikit-learn

    @pytest.mark.parametrize(
        ("values", "kind", "words"),
        [
            ([Decimal(1), Decimal(2)], TypeError, ["'Decimal'", "astype(int)"]),
            ([fractions.Fraction(1, 2), 1], TypeError, ["'Fraction', 'int'"]),
            ([b"a", b"b"], TypeError, ["type bytes", "label.decode()"]),
            (np.array([b"a", b"b"]), TypeError, ["type bytes", "label.decode()"]),
            ([b"a", "a", "b", b"b"], TypeError, ["type bytes"]),
            ([1, "1", 2, "2"], TypeError, ["mixes", "'int', 'str'"]),
            ([True, "True"], TypeError, ["mixes", "'bool', 'str'"]),
            ([True, 1, 0, False], ValueError, ["True == 1", "astype(int)"]),
            ([1j, 2], ValueError, ["Complex data not supported"]),
            ([Colour.RED, Colour.BLUE], TypeError, ["'Colour'", "astype(str)"]),
            ([2**70, 1], TypeError, ["at most 64 bits"]),
            (pd.interval_range(0, 2), TypeError, ["'Interval'"]),
            (csr_matrix([[1], [0]]), TypeError, ["sparse", "y.toarray()"]),
            ([["a"], ["b", "c"]], ValueError, ["ragged", "rows of 1 and rows of 2"]),
            (np.zeros(2, dtype=[("a", int), ("b", int)]), ValueError, ["1d array", "(2, 2)"]),
            ({"y": [0, 1]}, ValueError, ["mapping (dict)", "['y']"]),
            (np.ma.array([0, 1, 1], mask=[0, 0, 1]), ValueError, ["y holds 1 missing"]),
        ],
    )
    def test_labels_that_scikit_learn_would_not_take(self, values, kind, words):
        with pytest.raises(kind) as caught:
            encode_labels(values)
        message = str(caught.value)
        assert [word for word in words if word not in message] == [], message

    def test_text_that_looks_missing_is_text(self):
        with pytest.warns(FairnessWarning, match="y holds the text 'nan' in 2 of 4 rows"):
            found = encode_labels(["nan", "None", "", "nan"])
        assert found[0].tolist() == ["", "None", "nan"]


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
        ("values", "expected"),
        [
            # of several types, and numbers of every kind
            ([Decimal(1), 1, Decimal("1.0"), 2], [Decimal(1), 2]),
            (
                [fractions.Fraction(2, 4), fractions.Fraction(1, 2), 1],
                [fractions.Fraction(1, 2), 1],
            ),
            ([1, 1.0, np.int8(1), np.float32(2)], [1.0, 2.0]),
            ([2**53 + 1, float(2**53), 1], [1, float(2**53), 2**53 + 1]),
            ([2**70, 2**70 + 1], [2**70, 2**70 + 1]),
            (np.array([-0.0, 0.0, 1.0]), [0.0, 1.0]),
            ([b"a", "a", b"a"], [b"a", "a"]),
            ([True, "True", False], [False, True, "True"]),
            (["a\0", "a", "a\ud800"], ["a", "a\0", "a\ud800"]),
            ([*np.array(["a", "b"])], ["a", "b"]),
            ([Colour.RED, Colour.BLUE, Colour.RED], [Colour.BLUE, Colour.RED]),
            ([uuid.UUID(int=2), uuid.UUID(int=1)], [uuid.UUID(int=1), uuid.UUID(int=2)]),
            # scalars of other libraries are their values
            ([torch.tensor(1), torch.tensor(1), torch.tensor(0)], [0, 1]),
            ([np.array("a"), np.array("a")], ["a"]),
            # of every dtype of NumPy
            (np.array([1, 2, 1], dtype=">i4"), [1, 2]),
            (np.array([1, 2, 1], dtype=np.longdouble), [1.0, 2.0]),
            (np.array(["a", "b"], dtype=">U1"), ["a", "b"]),
            (text(["a", "b"], None), ["a", "b"]),
            (np.array([b"ab", b"cd"], dtype="V2"), [b"ab", b"cd"]),
            (np.ma.array([1, 2], mask=[0, 0]), [1, 2]),
            (
                np.array(["2020", "2021"], dtype="M8[D]"),
                [datetime.date(2020 + i, 1, 1) for i in (0, 1)],
            ),
            # of pandas
            (pd.Series(pd.period_range("2020", periods=2)), [*pd.period_range("2020", periods=2)]),
            (
                pd.Series([pd.Period("2020", "Y"), pd.Period("2020", "D")], dtype=object),
                [pd.Period("2020", "Y"), pd.Period("2020", "D")],
            ),
            (pd.cut(pd.Series([1, 5]), [0, 2, 6]), [pd.Interval(0, 2), pd.Interval(2, 6)]),
            (pd.Series([0, 1]).astype(pd.SparseDtype("int", 0)), [0, 1]),
            # containers
            (collections.deque("ba"), ["a", "b"]),
            ({0: "b", 1: "a"}.values(), ["a", "b"]),
            (range(2), [0, 1]),
        ],
    )
    def test_values_of_every_kind(self, values, expected):
        groups, codes = encode_groups(values, len(values))
        assert groups.tolist() == expected
        assert [type(group) for group in groups.tolist()] == [type(group) for group in expected]
        plain = [value.item() if hasattr(value, "item") else value for value in values]
        assert groups[codes].tolist() == plain

    def test_nanoseconds_do_not_make_a_date_a_number(self):
        days = pd.to_datetime(["2020-01-02", "2020-01-01"]).as_unit("ns")
        expected = [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 2)]
        for values in (days, pd.Series(days), days.to_numpy(), [*days], [*days.to_numpy()]):
            groups, codes = encode_groups(values, 2)
            assert groups.tolist() == expected
            assert codes.tolist() == [1, 0]
        spans = encode_groups((days - days[1]).to_numpy(), 2)[0].tolist()
        assert spans == [datetime.timedelta(0), datetime.timedelta(days=1)]

    @pytest.mark.parametrize(
        "make",
        [
            lambda a, b: list(zip(a, b, strict=True)),
            lambda a, b: [*map(list, zip(a, b, strict=True))],
            lambda a, b: objects([*zip(a, b, strict=True)]),
            lambda a, b: pd.Series([*zip(a, b, strict=True)]),
            lambda a, b: pd.Series([*map(list, zip(a, b, strict=True))]),
            lambda a, b: [pd.Series(row) for row in zip(a, b, strict=True)],
            lambda a, b: np.array([*zip(a, b, strict=True)], dtype=[("a", "U1"), ("b", int)]),
            lambda a, b: np.rec.array([*zip(a, b, strict=True)], dtype=[("a", "U1"), ("b", int)]),
            lambda a, b: np.ma.array(np.column_stack([objects(a), objects(b)])),
            lambda a, b: pd.MultiIndex.from_arrays([a, b]),
            lambda a, b: pd.DataFrame(zip(a, b, strict=True), columns=["x", "x"]),
            lambda a, b: pytest.importorskip("polars").DataFrame({"a": a, "b": b}),
            lambda a, b: pytest.importorskip("polars").DataFrame({"a": a, "b": b}).to_struct(),
            lambda a, b: pytest.importorskip("pyarrow").table({"a": a, "b": b}),
            lambda a, b: pytest.importorskip("pyarrow").record_batch({"a": a, "b": b}),
        ],
    )
    def test_tables_of_every_kind(self, make):
        rows = list(itertools.product("ab", [1, 2])) * 3
        groups, codes = encode_groups(make(*map(list, zip(*rows, strict=True))), 12)
        assert groups.tolist() == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
        assert [groups[code] for code in codes] == rows

    def test_vectors_of_one_length_are_rows(self):
        pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
        rows = [[1, 2], [3, 4], [1, 2]]
        for table in (
            objects([np.array(row) for row in rows]),
            [torch.tensor(row) for row in rows],
            pl.Series(rows),
            pl.Series(rows, dtype=pl.Array(pl.Int64, 2)),
            pa.array(rows),
            pd.Series(pd.arrays.ArrowExtensionArray(pa.array(rows))),
        ):
            groups, codes = encode_groups(table, 3)
            assert groups.tolist() == [(1, 2), (3, 4)]
            assert codes.tolist() == [0, 1, 0]

    def test_columns_of_polars_and_arrow(self):
        pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
        day = datetime.date(2020, 1, 1)
        for values, expected in (
            (["b", "a", "b"], ["a", "b"]),
            ([2, 1, 2], [1, 2]),
            ([True, False, True], [False, True]),
            ([0.5, 0.25, 0.5], [0.25, 0.5]),
            ([b"b", b"a", b"b"], [b"a", b"b"]),
            ([Decimal("2.5"), Decimal(1), Decimal("2.5")], [1, Decimal("2.5")]),
            ([day.replace(year=2021), day, day.replace(year=2021)], [day, day.replace(year=2021)]),
        ):
            columns = [pl.Series(values), pa.array(values), pa.chunked_array([values])]
            if isinstance(values[0], str):
                columns += [
                    pl.Series(values, dtype=pl.Categorical),
                    pl.Series(values, dtype=pl.Enum(["a", "b"])),  # which is an order
                    pa.array(values).dictionary_encode(),
                    list(pa.array(values)),
                ]
            for column in columns:
                groups, codes = encode_groups(column, 3)
                assert groups.tolist() == expected
                assert codes.tolist() == [1, 0, 1]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (pd.DataFrame({"sex": [0], "age": [1]}), ["sex", "age"]),
            (pd.Series([0], name="sex"), ["sex"]),
            (pd.Series([0]), []),
            (pd.MultiIndex.from_arrays([[0], [1]], names=["sex", None]), ["sex"]),
            (np.zeros(1, dtype=[("sex", int), ("age", int)]), ["sex", "age"]),
            (np.zeros((1, 2)), []),
            ([(0, 1)], []),
        ],
    )
    def test_names_of_columns(self, values, expected):
        assert column_names(values) == expected

    def test_names_of_columns_of_polars_and_arrow(self):
        pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
        assert column_names(pl.DataFrame({"sex": [0], "age": [1]})) == ["sex", "age"]
        assert column_names(pa.table({"sex": [0], "age": [1]})) == ["sex", "age"]
        assert column_names(pl.Series("sex", [0])) == ["sex"]
        assert column_names(pl.Series([0])) == []

    @pytest.mark.parametrize(
        ("values", "n_missing"),
        [
            ([1.0, np.nan, 2.0], 1),
            (["a", None, None], 2),
            (pd.Series([True, pd.NA, False], dtype="boolean"), 1),
            (pd.Categorical(["a", None, "b"]), 1),
            (np.array([[1.0, 2.0], [np.nan, 1.0], [1.0, 1.0]]), 1),
            (torch.tensor([1.0, float("nan"), 0.0]), 1),
            (text(["a", NAN, "b"], NAN), 1),
            (text(["a", None, "b"], None), 1),
            (text(["a", pd.NA, "b"], pd.NA), 1),
            (text(["a", "?", "b"], "?"), 1),
            ([*np.array([("a", NAN), ("b", 1), ("b", 2)], dtype=[("s", "U1"), ("t", float)])], 1),
            (np.ma.array([1, 2, 1], mask=[0, 1, 1]), 2),
            (np.ma.array([[1, 2], [1, 1], [2, 1]], mask=[[0, 0], [0, 1], [0, 0]]), 1),
            ([np.ma.masked, 1, 2], 1),
            ([Decimal(1), Decimal("NaN"), Decimal("sNaN")], 2),
            ([complex(NAN, 1), 1j, 2], 1),
            (pd.arrays.FloatingArray(np.array([1, NAN, 2]), np.zeros(3, bool)), 1),
            (pd.Series(["a", pd.NaT, "b"], dtype=object), 1),
            (pd.PeriodIndex(["2020", None, "2021"], freq="Y"), 1),
            (np.array(["2020", "NaT", "2021"], dtype="M8[D]"), 1),
            (pd.MultiIndex.from_arrays([["a", None, "b"], [1, 2, 3]]), 1),
            ([("a", 1), (None, 1), ("b", 2)], 1),
            (pd.DataFrame({"a": [("a", 1), ("b", NAN), ("b", 1)], "b": [1, 1, 1]}), 1),
        ],
    )
    def test_missing_values_are_counted(self, values, n_missing):
        with pytest.raises(ValueError, match=rf"who.* holds {n_missing} missing .* in 3 rows"):
            encode_groups(values, 3, name="who")

    def test_missing_values_of_polars_and_arrow_are_counted(self):
        pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
        for values in (["a", None, "b"], [1, None, 2], [True, None, False], [1.0, NAN, 2.0]):
            columns = [pl.Series(values), pa.array(values), pd.Series(pa.array(values).to_pandas())]
            columns.append(pd.Series(pd.arrays.ArrowExtensionArray(pa.array(values))))
            columns.append(pl.DataFrame({"a": [1, 2, 3], "b": values}))
            columns.append(pa.table({"a": [1, 2, 3], "b": values}))
            for column in columns:
                with pytest.raises(ValueError, match=r"who.* holds 1 missing .* in 3 rows"):
                    encode_groups(column, 3, name="who")

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ([["a"], ["b", "c"]], ["ragged", "rows of 1 and rows of 2"]),
            ([("a",), "b"], ["ragged", "single values and rows of 1"]),
            (objects([[1], [1, 2]]), ["ragged"]),
            ([[["a"]], [["b"]]], ["a vector in each row"]),
            (pd.DataFrame({"a": [1, 2], "b": [[1], [2]]}), ["column 'b'", "a vector in each row"]),
            ({"sex": ["a", "b"]}, ["mapping (dict)", "['sex']", "pandas.DataFrame"]),
            ({"a", "b"}, ["a set", "no order"]),
            ((c for c in "ab"), ["a generator", "only once", "list("]),
            (iter("ab"), ["only once", "list("]),
            (bytearray(b"ab"), ["bytearray", "one value for each of the 2 rows"]),
            (list, ["<class 'list'>"]),
            (np.array("a"), ["has shape ()"]),
            ([{"a": 1}, {"a": 2}], ["type dict", "text"]),
            ([{1}, {2}], ["type set"]),
            ([frozenset("ab"), frozenset("ba")], ["type frozenset"]),
            ([ByIdentity(), ByIdentity()], ["type ByIdentity"]),
            (pd.DataFrame({"a": [1, 2], "b": [(1, {}), (2, {})]}), ["column 'b'", "type dict"]),
            ([True, 1], ["True == 1", "astype(int)"]),
            ([np.True_, 2.0], ["True == 1"]),
            (
                np.array([1, np.nextafter(np.longdouble(1), 2)]),
                ["double precision", "astype(float)"],
            ),
        ],
    )
    def test_what_cannot_be_told_apart_or_put_in_order(self, values, words):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            encode_groups(values, 2)
        message = str(caught.value)
        missing = [word for word in ["sensitive_features", *words] if word not in message]
        assert missing == [], message

    @pytest.mark.parametrize("values", [csr_matrix([[1], [0]]), coo_array([1, 0])])
    def test_sparse_matrices(self, values):
        with pytest.raises(TypeError, match=r"sparse matrix .* sensitive_features.toarray\(\)"):
            encode_groups(values, 2)

    def test_a_lazy_frame(self):
        pl = pytest.importorskip("polars")
        with pytest.raises(ValueError, match=r"LazyFrame.*sensitive_features.collect\(\)"):
            encode_groups(pl.DataFrame({"a": [1, 2]}).lazy(), 2)

    def test_a_long_name_is_shortened_in_messages(self):
        with pytest.raises(ValueError, match="sensitive_features is") as caught:
            encode_groups("a" * 10_000, 2)
        assert len(str(caught.value)) < 400


class TestNumbers:
    @pytest.mark.parametrize(
        "values",
        [
            [1, 2.0],
            [Decimal(1), fractions.Fraction(2)],
            np.array([1, 2], dtype=">f4"),
            np.array([1, 2], dtype=np.longdouble),
            torch.tensor([1.0, 2.0], requires_grad=True),
            torch.tensor([1.0, 2.0]).bfloat16(),
            pd.Series([1, 2], dtype="Float64"),
            pd.Categorical([1.0, 2.0]),
            np.ma.array([1, 2]),
        ],
    )
    def test_containers_and_dtypes(self, values):
        found = number_column(values, "w")
        assert found.dtype == np.dtype(float)
        assert found.tolist() == [1.0, 2.0]

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (["1", "2"], ["'1'", "a number per row"]),
            (np.array(["2020", "2021"], dtype="M8[D]"), ["date(2020, 1, 1)"]),
            (np.array([1, 2], dtype="m8[D]"), ["timedelta"]),
            ([1, 2j], ["a number per row"]),
            (np.ones((2, 1)), ["shape (2, 1)", "one number per row"]),
            (np.array(1.0), ["shape ()"]),
            (np.ma.array([1, 2], mask=[0, 1]), ["1 missing", "for example 0."]),
            ({"w": [1, 2]}, ["mapping"]),
        ],
    )
    def test_what_is_no_number(self, values, words):
        with pytest.raises(ValueError, match="w ") as caught:
            number_column(values, "w")
        message = str(caught.value)
        assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("text", ["nan", "NaN", "<NA>", "NaT"])
@pytest.mark.parametrize("form", [list, np.array, lambda s: np.array(s, dtype=object)])
def test_missing_values_that_were_made_text_are_told(text, form):
    with pytest.warns(FairnessWarning, match=f"the text '{text}' in 2 of 4 rows"):
        groups, _ = encode_groups(form(["a", text, "b", text]), 4)
    assert set(groups.tolist()) == {"a", "b", text}  # and are a group, as they are passed
    with pytest.warns(FairnessWarning, match="sensitive_features column 1 holds the text"):
        encode_groups([["a", text], ["b", "c"]], 2)


def test_names_that_are_like_them_are_not():
    encode_groups(["None", "nancy", "NA", "Nan"], 4)
    encode_labels(["None", "nancy", "NA", "Nan"])


def test_names_of_columns_in_place_of_columns_are_told():
    with pytest.raises(ValueError, match=r"the columns themselves: frame\[\['sex', 'age'\]\]"):
        encode_groups(["sex", "age"], 720)
    with pytest.raises(ValueError, match=r"row of X\.$"):
        encode_groups(["f", "m"] * 100, 720)
