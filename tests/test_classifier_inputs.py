"""Labels, groups and rows of every kind give what plain ones give; and what comes out."""

import copy
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    FineTune,
    FrozenFeatureExtractor,
)
from skfairft.datasets import make_biased_classification
from skfairft.feature_store import get_store


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(200, 8, disparity=0.5, random_state=0)


# How codes 0 and 1 may arrive, and as what they come back: (make, values in ascending order).
ENCODINGS = {
    "int list": (lambda c: c.tolist(), [0, 1]),
    "int8": (lambda c: c.astype(np.int8), [0, 1]),
    "uint64": (lambda c: c.astype(np.uint64), [0, 1]),
    "negative": (lambda c: c - 7, [-7, -6]),
    "float": (lambda c: c.astype(float), [0.0, 1.0]),
    "float16": (lambda c: c.astype(np.float16), [0.0, 1.0]),
    "bool": (lambda c: c.astype(bool), [False, True]),
    "bool list": (lambda c: c.astype(bool).tolist(), [False, True]),
    "str": (lambda c: np.array(["no", "yes"])[c], ["no", "yes"]),
    "str list": (lambda c: np.array(["no", "yes"])[c].tolist(), ["no", "yes"]),
    "object str": (lambda c: np.array(["no", "yes"], dtype=object)[c], ["no", "yes"]),
    "object int": (lambda c: c.astype(object), [0, 1]),
    "object bool": (lambda c: c.astype(bool).astype(object), [False, True]),
    "numpy StringDType": (
        lambda c: np.array(["no", "yes"], dtype=np.dtypes.StringDType())[c],
        ["no", "yes"],
    ),
    "Series": (lambda c: pd.Series(c, index=c[::-1] * 5), [0, 1]),
    "Series str": (lambda c: pd.Series(np.array(["no", "yes"])[c]), ["no", "yes"]),
    "Series object": (lambda c: pd.Series(np.array(["no", "yes"])[c], dtype=object), ["no", "yes"]),
    "categorical str": (
        lambda c: pd.Series(np.array(["no", "yes"])[c]).astype(
            pd.CategoricalDtype(["yes", "unused", "no"], ordered=True)
        ),
        ["no", "yes"],
    ),
    "categorical int": (lambda c: pd.Series(c).astype("category"), [0, 1]),
    "Categorical": (lambda c: pd.Categorical.from_codes(c, ["no", "yes"]), ["no", "yes"]),
    "nullable Int64": (lambda c: pd.Series(c, dtype="Int64"), [0, 1]),
    "nullable Float64": (lambda c: pd.Series(c, dtype="Float64"), [0.0, 1.0]),
    "nullable boolean": (lambda c: pd.Series(c.astype(bool), dtype="boolean"), [False, True]),
    "nullable string": (
        lambda c: pd.Series(np.array(["no", "yes"])[c], dtype="string"),
        ["no", "yes"],
    ),
    "Index": (lambda c: pd.Index(np.array(["no", "yes"])[c]), ["no", "yes"]),
    "tensor": (lambda c: torch.from_numpy(c), [0, 1]),
    "tensor bool": (lambda c: torch.from_numpy(c).bool(), [False, True]),
    "tensor bfloat16": (lambda c: torch.from_numpy(c).bfloat16(), [0.0, 1.0]),
    "big-endian": (lambda c: c.astype(">i4"), [0, 1]),
    "longdouble": (lambda c: c.astype(np.longdouble), [0.0, 1.0]),
    "masked without a mask": (lambda c: np.ma.array(c), [0, 1]),
    "polars": (lambda c: pytest.importorskip("polars").Series(c), [0, 1]),
    "polars str": (
        lambda c: pytest.importorskip("polars").Series(np.array(["no", "yes"])[c].tolist()),
        ["no", "yes"],
    ),
    "polars Enum": (
        lambda c: (pl := pytest.importorskip("polars")).Series(
            np.array(["no", "yes"])[c].tolist(), dtype=pl.Enum(["yes", "no"])
        ),
        ["no", "yes"],
    ),
    "arrow": (lambda c: pytest.importorskip("pyarrow").array(c), [0, 1]),
}
for kind, values in {
    "int64": [0, 1],
    "double": [0.0, 1.0],
    "bool": [False, True],
    "string": ["no", "yes"],
}.items():
    ENCODINGS[f"pyarrow {kind}"] = (
        lambda c, kind=kind, values=values: pd.Series(
            np.array(values)[c], dtype=f"{kind}[pyarrow]"
        ),
        values,
    )
# The classifier takes these, but scikit-learn's accuracy does not.
REFUSED_BY_METRICS = ["object int", "object bool", "tensor bfloat16", "numpy StringDType"]
encodings = pytest.mark.parametrize("encoding", ENCODINGS)


def needs_pyarrow(encoding):
    if "pyarrow" in encoding:
        pytest.importorskip("pyarrow")


class TestLabelsAndGroups:
    @encodings
    def test_labels(self, data, encoding):
        needs_pyarrow(encoding)
        X, y, s = data
        make, values = ENCODINGS[encoding]
        plain = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        clf = FairLowRankHeadClassifier(rank=1).fit(X, make(y), sensitive_features=s)
        assert clf.classes_.tolist() == values
        assert [type(value) for value in clf.classes_.tolist()] == [type(v) for v in values]
        np.testing.assert_array_equal(clf.decision_function(X), plain.decision_function(X))
        np.testing.assert_array_equal(clf.predict(X), clf.classes_[plain.predict(X)])
        if encoding not in REFUSED_BY_METRICS:
            assert clf.score(X, make(y)) == plain.score(X, y)

    @encodings
    def test_groups(self, data, encoding):
        needs_pyarrow(encoding)
        X, y, s = data
        make, values = ENCODINGS[encoding]
        plain = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        weights = dict(zip(values, (1.0, 3.0), strict=True))
        clf = FairLowRankHeadClassifier(rank=1, group_weights=weights)
        clf.fit(X, y, sensitive_features=make(s))
        # Those of ordered categories, here from yes to no, stand in their order.
        is_ordered = encoding in ("categorical str", "polars Enum")
        assert clf.groups_.tolist() == (values[::-1] if is_ordered else values)
        own = clf.group_importance_[::-1] if is_ordered else clf.group_importance_
        np.testing.assert_array_equal(own, plain.group_importance_)
        expected = [0.25, 0.75] @ plain.group_importance_
        np.testing.assert_allclose(clf.importance_, expected, rtol=1e-12)

    @pytest.mark.parametrize(
        "make",
        [
            lambda s, t: pd.DataFrame({"s": s, "t": t}),
            lambda s, t: pd.DataFrame({"s": s.astype("str"), "t": t.astype(bool)}),
            lambda s, t: pd.DataFrame({"s": s, "t": t}).astype("category"),
            lambda s, t: pd.DataFrame({"s": s, "t": t}).astype("Int64"),
            lambda s, t: np.column_stack([s, t]),
            lambda s, t: np.column_stack([s.astype(object), np.array(["a", "b"])[t]]),
            lambda s, t: torch.from_numpy(np.column_stack([s, t])),
            lambda s, t: list(zip(s.tolist(), t.tolist(), strict=True)),
        ],
    )
    def test_several_columns(self, data, make):
        X, y, s = data
        t = (X[:, 0] > 0).astype(int)
        plain = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=2 * s + t)
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=make(s, t))
        assert len(clf.groups_) == 4
        assert all(isinstance(group, tuple) for group in clf.groups_)
        np.testing.assert_array_equal(clf.group_importance_, plain.group_importance_)

    def test_rows_belong_together_by_position(self, data):
        """As in all of scikit-learn; that an index says otherwise is not silent."""
        X, y, s = data
        shuffled = np.random.default_rng(0).permutation(len(y))
        with pytest.warns(FairnessWarning, match="y and sensitive_features and X hold the same"):
            clf = FairLowRankHeadClassifier(rank=1).fit(
                pd.DataFrame(X, columns=list("abcdefgh")),
                pd.Series(y, index=shuffled),
                sensitive_features=pd.Series(s, index=shuffled[::-1]),
            )
        plain = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(clf.group_importance_, plain.group_importance_)

    def test_groups_of_mixed_types_are_kept_apart(self, data):
        X, y, s = data
        mixed = np.array([1, "1"], dtype=object)[s]
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=mixed)
        assert clf.groups_.tolist() == [1, "1"]


class PlainLinear(nn.Module):
    """Flattens inputs of any shape and maps them linearly."""

    def __init__(self, n_in):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 6 * n_in).reshape(n_in, 6).sin())

    def forward(self, x):
        return x.flatten(1) @ self.weight


ROWS = {
    "float32": lambda X: X.astype(np.float32),
    "Fortran order": np.asfortranarray,
    "read-only": lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
    "list": lambda X: X.tolist(),
    "object": lambda X: X.astype(object),
    "DataFrame": lambda X: pd.DataFrame(X),
    "DataFrame Float64": lambda X: pd.DataFrame(X).astype("Float64"),
    "DataFrame pyarrow": lambda X: pd.DataFrame(X).astype("double[pyarrow]"),
    "tensor": torch.from_numpy,
    "tensor float32": lambda X: torch.from_numpy(X).float(),
    "tensor bfloat16": lambda X: torch.from_numpy(X).bfloat16(),
    "tensor float16": lambda X: torch.from_numpy(X).half(),
    "longdouble": lambda X: X.astype(np.longdouble),
    "big-endian": lambda X: X.astype(">f8"),
    "Decimal": lambda X: np.vectorize(Decimal, otypes=[object])(X),
    "polars": lambda X: pytest.importorskip("polars").DataFrame(X),
    "arrow": lambda X: pytest.importorskip("pyarrow").table(
        dict(zip("abcdefgh", X.T, strict=True))
    ),
    "tensor with gradient": lambda X: torch.from_numpy(X.copy()).requires_grad_(),
}


class TestRows:
    @pytest.mark.filterwarnings("ignore:X has feature names")
    @pytest.mark.parametrize("kind", ROWS)
    @pytest.mark.parametrize("with_extractor", [False, True])
    @pytest.mark.some(2)
    def test_containers(self, data, kind, with_extractor):
        needs_pyarrow(kind)
        X, y, s = data
        # Numbers that every dtype holds exactly, so that only the container differs.
        X = np.round(X * 8) / 8
        extractor = PlainLinear(8) if with_extractor else None
        plain = FairLowRankHeadClassifier(extractor, rank=1).fit(X, y, sensitive_features=s)
        clf = FairLowRankHeadClassifier(extractor, rank=1)
        clf.fit(ROWS[kind](X), y, sensitive_features=s)
        found = clf.decision_function(ROWS[kind](X))
        np.testing.assert_allclose(found, plain.decision_function(X), atol=1e-4)
        np.testing.assert_allclose(plain.decision_function(ROWS[kind](X)), found, atol=1e-4)
        assert clf.n_features_in_ == 8

    @pytest.mark.parametrize("shape", [(4, 2), (2, 2, 2)])
    @pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
    def test_arrays_of_any_dimension(self, data, shape, make):
        X, y, s = data
        deep = make(X.reshape(-1, *shape))
        clf = FairLowRankHeadClassifier(PlainLinear(8), rank=1).fit(deep, y, sensitive_features=s)
        flat = FairLowRankHeadClassifier(PlainLinear(8), rank=1).fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(clf.decision_function(deep), flat.decision_function(X))
        assert clf.n_features_in_ == shape[0]

    def test_texts_through_preprocess(self, data):
        _, y, s = data
        texts = [("good " if label else "bad ") * (2 + i % 3) for i, label in enumerate(y)]

        def count_letters(texts):
            counts = [[text.count(letter) for letter in "abdgo "] for text in texts]
            return torch.tensor(counts, dtype=torch.float32)

        extractor = FrozenFeatureExtractor(PlainLinear(6), preprocess=count_letters, batch_size=64)
        for rows in (texts, np.array(texts), np.array(texts, dtype=object), pd.Series(texts)):
            clf = FairLowRankHeadClassifier(extractor, rank=1)
            assert clf.fit(rows, y, sensitive_features=s).score(rows, y) == 1.0
            assert not hasattr(clf, "n_features_in_")

    def test_token_ids(self, data):
        _, y, s = data
        ids = torch.from_numpy(np.column_stack([y, 1 - y, y])) + 5
        module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten())
        clf = FairLowRankHeadClassifier(module, rank=1).fit(ids, y, sensitive_features=s)
        assert clf.score(ids, y) == 1.0

    def test_columns_by_name(self, data):
        X, y, s = data
        frame = pd.DataFrame(X, columns=list("abcdefgh"))
        for extractor in (None, PlainLinear(8)):
            clf = FairLowRankHeadClassifier(extractor, rank=1).fit(frame, y, sensitive_features=s)
            assert clf.feature_names_in_.tolist() == list("abcdefgh")
            with pytest.raises(ValueError, match="feature names should match"):
                clf.predict(frame[list("hgfedcba")])
            clf.fit(X, y, sensitive_features=s)
            assert not hasattr(clf, "feature_names_in_")

    @pytest.mark.parametrize("explicit", [False, True])
    def test_each_row_runs_through_the_extractor_once(self, data, explicit):
        X, y, s = data
        module = PlainLinear(8)
        extractor = FrozenFeatureExtractor(module, batch_size=64) if explicit else module
        store = get_store()
        clf = FairLowRankHeadClassifier(extractor, rank=1).fit(X, y, sensitive_features=s)
        assert store.info().misses == len(X)
        for method in (clf.predict, clf.predict_proba, clf.decision_function):
            method(X)
            assert store.info().misses == len(X)


class TestOutputs:
    @pytest.mark.parametrize("n_classes", [2, 4])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_shapes_and_consistency(self, n_classes, dtype):
        X, y, s = make_biased_classification(
            200, 8, n_classes=n_classes, disparity=0.5, random_state=0
        )
        X = X.astype(dtype)
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        proba, scores, predicted = clf.predict_proba(X), clf.decision_function(X), clf.predict(X)
        assert proba.dtype == scores.dtype == np.float64
        assert proba.shape == (200, n_classes)
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)
        np.testing.assert_array_equal(predicted, proba.argmax(axis=1))
        if n_classes == 2:
            assert scores.shape == (200,)
            np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-9)
            np.testing.assert_array_equal(predicted, scores > 0)
        else:
            assert scores.shape == (200, n_classes)
            np.testing.assert_array_equal(predicted, scores.argmax(axis=1))
        assert clf.score(X, y) == (predicted == y).mean()

    def test_extreme_scores_stay_finite(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        proba = clf.predict_proba(X * 1e6)
        assert np.isfinite(proba).all()
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)

    def test_predictions_of_a_row_do_not_depend_on_the_others(self, data):
        X, y, s = data
        X = X.astype(np.float32)
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        single = np.concatenate([clf.decision_function(row[None]) for row in X[:50]])
        np.testing.assert_allclose(single, clf.decision_function(X)[:50], rtol=1e-12, atol=1e-13)

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("rank", [None, 1])
    @pytest.mark.parametrize("head", [None, "pretrained", "hidden", "activation"])
    @pytest.mark.parametrize("extractor", [None, "module"])
    @pytest.mark.some(4)
    def test_to_torch_is_decision_function(self, n_classes, rank, head, extractor):
        X, y, s = make_biased_classification(
            120, 8, n_classes=n_classes, disparity=0.5, random_state=0
        )
        width = 8 if extractor is None else 6
        extractor = None if extractor is None else PlainLinear(8)
        head = {
            None: None,
            "pretrained": nn.Linear(width, n_classes),
            "hidden": nn.Linear(width, 5),
            "activation": nn.Sequential(nn.Linear(width, 5), nn.ReLU(), nn.Dropout(0.5)),
        }[head]
        clf = FairLowRankHeadClassifier(
            extractor, head=head, rank=rank, solver=FineTune(max_epochs=2, tol=None)
        )
        clf.fit(X, y, sensitive_features=s)
        module = clf.to_torch()
        expected = clf.decision_function(X)
        with torch.no_grad():
            found = module(torch.from_numpy(X).float()).double().numpy()
        assert found.shape == expected.shape
        # The inputs were rounded to float32; its epsilon is 1.2e-7.
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
        assert not any(part.training for part in module.modules())

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("head", [None, "hidden"])
    def test_to_torch_shares_nothing(self, n_classes, head):
        X, y, s = make_biased_classification(
            120, 8, n_classes=n_classes, disparity=0.5, random_state=0
        )
        backbone = PlainLinear(8)
        head = None if head is None else nn.Linear(6, 5)
        clf = FairLowRankHeadClassifier(backbone, head=head, rank=1)
        clf.fit(X, y, sensitive_features=s)
        before = clf.decision_function(X)
        weights = copy.deepcopy(backbone.state_dict())
        module = clf.to_torch()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(7.0)
        np.testing.assert_array_equal(clf.decision_function(X), before)
        assert torch.equal(backbone.weight, weights["weight"])

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    def test_to_torch_lies_where_the_extractor_lies(self, data):
        X, y, s = data
        for head in (None, nn.Linear(6, 5)):
            clf = FairLowRankHeadClassifier(PlainLinear(8).cuda(), head=head, rank=1)
            clf.fit(X, y, sensitive_features=s)
            found = clf.to_torch()(torch.from_numpy(X).float().cuda())
            np.testing.assert_allclose(found.detach().cpu(), clf.decision_function(X), atol=1e-4)
