"""X that already is the features, from every library."""

import datetime
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from skfairft import FairLowRankHeadClassifier, fairness_path
from skfairft.datasets import make_biased_classification
from skfairft.fitting import features_of

X, Y, S = make_biased_classification(60, 6, disparity=0.4, random_state=0)
FRAME = pd.DataFrame(X, columns=list("abcdef"))
DAYS = pd.Timestamp("2020") + pd.to_timedelta(range(60), "D")


def polars():
    return pytest.importorskip("polars")


def arrow():
    return pytest.importorskip("pyarrow")


def fit(rows):
    return FairLowRankHeadClassifier(rank=1).fit(rows, Y, sensitive_features=S)


def objects(rows):
    return np.fromiter(rows, dtype=object, count=len(rows))


def masked(n):
    return np.ma.array(X, mask=np.arange(X.size).reshape(X.shape) < n)


def nested(layout):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype
        return torch.nested.nested_tensor([torch.ones(6)] * 60, layout=layout)


# (name, X, exact type, all of these words)
REFUSED = [
    ("sparse tensor", lambda: torch.tensor(X).to_sparse(), TypeError, ["sparse", "X.to_dense()"]),
    ("nested", lambda: nested(torch.strided), TypeError, ["nested", "to_padded_tensor(X"]),
    ("jagged", lambda: nested(torch.jagged), TypeError, ["nested", "to_padded_tensor(X"]),
    ("meta", lambda: torch.ones(60, 6, device="meta"), TypeError, ["meta tensor"]),
    (
        "sparse matrix",
        lambda: csr_matrix(X),
        TypeError,
        ["csr_matrix of shape", "dense data is required", "toarray", "sparse_output=False"],
    ),
    (
        "sparse frame",
        lambda: FRAME.astype(pd.SparseDtype("float", 0.0)),
        TypeError,
        ["sparse columns", "'a'", "X.sparse.to_dense()"],
    ),
    (
        "one sparse column",
        lambda: FRAME.assign(b=FRAME["b"].astype(pd.SparseDtype("float", 0.0))),
        TypeError,
        ["sparse columns", "'b'", "X[name].sparse.to_dense()"],
    ),
    ("masked values", lambda: masked(2), ValueError, ["2 masked values", "X.filled(0)"]),
    ("a lazy frame", lambda: polars().from_numpy(X).lazy(), ValueError, ["X.collect()"]),
    ("a generator", lambda: (row for row in X), ValueError, ["a generator", "list(X)"]),
    *(
        (name, make, ValueError, ["column of vectors", "np.stack(list(column))"])
        for name, make in {
            "Series of arrays": lambda: pd.Series([*X]),
            "Series of tensors": lambda: pd.Series([*torch.tensor(X)]),
            "Series of lists": lambda: pd.Series(X.tolist()),
            "object array of arrays": lambda: objects(X),
            "a frame's column": lambda: FRAME.assign(a=[*X]),
            "polars lists": lambda: polars().Series(X.tolist()),
            "polars frame's lists": lambda: polars().DataFrame({"v": X.tolist()}),
            "arrow lists": lambda: arrow().array(X.tolist()),
            "arrow table's lists": lambda: arrow().table({"v": X.tolist()}),
        }.items()
    ),
    (
        "ragged lists",
        lambda: [[1.0, 2.0], *X[1:].tolist()],
        ValueError,
        ["rows of 2 and of 6 values"],
    ),
    (
        "ragged vectors",
        lambda: pd.Series([X[0, :2], *X[1:]]),
        ValueError,
        ["rows of 2 and of 6 values"],
    ),
    ("a date", lambda: FRAME.assign(c=DAYS), ValueError, ["'c' of X holds times", "numbers"]),
    ("dates only", lambda: pd.DataFrame({"c": DAYS}), ValueError, ["'c' of X holds times"]),
    (
        "dates with a zone",
        lambda: pd.DataFrame({"c": DAYS.tz_localize("UTC")}),
        ValueError,
        ["'c' of X holds times"],
    ),
    ("durations", lambda: FRAME.assign(c=DAYS - DAYS[0]), ValueError, ["'c' of X holds times"]),
    (
        "NumPy's dates",
        lambda: DAYS.to_numpy()[:, None],
        ValueError,
        ["X holds times (dtype datetime64"],
    ),
    (
        "polars dates",
        lambda: polars().DataFrame({"c": [datetime.date(2020, 1, 1)] * 60}),
        ValueError,
        ["'c' of X holds times (dtype Date)"],
    ),
    (
        "arrow dates",
        lambda: arrow().table({"c": [datetime.datetime(2020, 1, 1)] * 60}),
        ValueError,
        ["'c' of X holds times (dtype timestamp"],
    ),
    (
        "periods",
        lambda: FRAME.assign(c=pd.period_range("2020", periods=60)),
        TypeError,
        ["X is a DataFrame", "Period", "numbers", "feature_extractor"],
    ),
    (
        "text",
        lambda: FRAME.assign(a="x"),
        ValueError,
        ["The column 'a' of X holds texts", "'x'", "OneHotEncoder"],
    ),
    ("mappings", lambda: [{"a": 1}] * 60, TypeError, ["X is a list", "dict"]),
    (
        "structured",
        lambda: np.zeros(60, dtype=[("a", float), ("b", float)]),
        TypeError,
        ["X is a ndarray", "numbers of shape (n, features)"],
    ),
    ("NA", lambda: FRAME.astype("Float64").where(FRAME > 0), ValueError, ["X contains NaN"]),
    ("polars null", lambda: polars().DataFrame({"a": [None] + [1.0] * 59}), ValueError, ["NaN"]),
    ("complex", lambda: X + 1j, ValueError, ["Complex data not supported"]),
]
refused = pytest.mark.parametrize(
    ("make", "kind", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)


@refused
def test_one_sentence_on_what_cannot_be_features(make, kind, words):
    with pytest.raises(kind) as caught:
        fit(make())
    assert caught.type is kind
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message


@refused
@pytest.mark.filterwarnings("ignore:X has feature names")
def test_the_same_at_predict(make, kind, words):
    rows = make()
    with pytest.raises(kind) as caught:
        fit(X).predict(rows)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message


def test_held_out_rows_are_checked_first():
    fitted = FairLowRankHeadClassifier(
        constraint="demographic_parity", fairness_weight=0.5, solver="closed_form"
    ).fit(X, Y, sensitive_features=S)
    rows = torch.tensor(X).to_sparse()
    with pytest.raises(TypeError, match="X is a sparse tensor"):
        fairness_path(fitted, X, Y, sensitive_features=S, held_out=(rows, Y, S))


@pytest.mark.parametrize("scale", [1.0, 1 / 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda rows: rows.astype(np.longdouble),
        lambda rows: rows.astype(">f8"),
        lambda rows: rows.astype(object),
        lambda rows: np.vectorize(Decimal, otypes=[object])(rows),
        lambda rows: np.ma.array(rows),
        lambda rows: pd.DataFrame(rows),
        lambda rows: polars().from_numpy(rows),
        lambda rows: arrow().table({f"{j}": column for j, column in enumerate(rows.T)}),
        lambda rows: torch.tensor(rows, requires_grad=True),
    ],
)
def test_double_precision_is_kept(make, scale):
    rows = X * scale
    found, expected = fit(make(rows)), fit(rows)
    np.testing.assert_array_equal(
        found.decision_function(make(rows)), expected.decision_function(rows)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, bool, "<i2", ">f2"])
def test_small_numbers_are_not_blown_up(dtype):
    """Four bytes hold each of them: features in half precision often fill the memory."""
    rows = np.abs(X).astype(dtype)
    found = features_of(fit(X), rows)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), rows)


@pytest.mark.parametrize("library", [polars, arrow])
def test_columns_by_name(library):
    table = library().DataFrame(X, schema=list("abcdef")) if library is polars else None
    if table is None:
        table = library().table(dict(zip("abcdef", X.T, strict=True)))
    clf = fit(table)
    assert clf.feature_names_in_.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(table.select(list("fedcba")))
