"""What is saved comes back the same; what is damaged, changed or another's does not come back."""

import copy
import datetime
import decimal
import json
import os
import pickle
import re
import shutil
import sys
import threading
import time
import uuid
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from saved_models import make
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold, RepeatedStratifiedKFold, StratifiedShuffleSplit
from torch import nn

import skfairft
from skfairft import (
    FairLowRankHeadClassifier,
    FineTune,
    FrozenFeatureExtractor,
    PlugIn,
    load,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.inputs.values import CannotWriteError, pack, unpack
from skfairft.saving import folder as files
from skfairft.saving.modules import module_of

# Lists within lists that json still reads, but that are deeper than Python's stack.
DEEP = 1000 if sys.version_info >= (3, 12) else 500

VALUES = [
    *(None, True, 0, -1, 2**70, 1.5, -0.0, float("inf"), float("-inf"), "a", "\0\x1b\ud800\u202e"),
    *([], [1, [2]], (), (1, (2.0,)), {}, {1: "a", None: (2,), (3, "b"): [4]}, b"\0a", 1 - 2j),
    pd.Timestamp("2020-01-02", tz=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))),
    *(datetime.date(2020, 1, 2), datetime.time(3, 4, 5, 6), datetime.datetime(2020, 1, 2, 3)),
    datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC),
    *(decimal.Decimal("1.10"), Fraction(1, 3), uuid.UUID(int=5)),
    *(torch.device("cuda:1"), torch.float16, np.dtype("float32")),
    *(np.float32(0.1), np.int8(3), np.bool_(True), np.str_("a"), np.datetime64("2020-01-02")),
    *(pd.Timestamp("2020-01-02 03:04:05.000000006"), pd.Timestamp("2020-01-02", tz="Asia/Tokyo")),
    *(pd.Timedelta("3h"), pd.Period("2020Q3"), pd.Interval(0, 1.5, closed="left")),
]
ARRAYS = [
    *(np.array([True, False]), np.arange(6.0).reshape(2, 3), np.array([np.inf, -0.0, 5e-324])),
    *(np.array([], dtype=np.int16), np.array(3), np.array([0.1], dtype=np.float32)),
    *(np.array(["a", "", "\u00e4bc"]), np.array([2**63], dtype=np.uint64)),
    np.array(["2020-01-02", "NaT"], dtype="M8[D]"),
    np.array([1, 2], dtype="m8[15m]"),
    np.array([("f", 1), None, decimal.Decimal(2)], dtype=object),
    np.array([1 + 2j]),
]


def through_json(value):
    return unpack(json.loads(json.dumps(pack(value), allow_nan=False)))


def test_texts_that_are_much_shorter_than_their_dtype():
    long = np.array(["a", "bc"], dtype="U100000")
    assert through_json(long).tolist() == ["a", "bc"]
    assert through_json(np.array(["a"], dtype="U9")).dtype == "U9"


@pytest.mark.parametrize("name", ["dateutil//etc/passwd", "tzlocal()", "UTC+01:30:20", "../x"])
def test_zones_that_are_no_names_of_zones(name):
    with pytest.raises(ValueError, match=r"."):
        unpack({"Timestamp": [0, "ns", name]})


class TestValues:
    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_any_value_comes_back(self, value):
        found = through_json(value)
        assert type(found) is type(value)
        assert repr(found) == repr(value)
        assert found == value

    @pytest.mark.parametrize("value", ARRAYS, ids=repr)
    def test_any_array_comes_back(self, value):
        found = through_json(value)
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert repr(found) == repr(value)

    def test_a_number_that_is_none(self):
        assert np.isnan(through_json(float("nan")))

    @given(
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
            lambda own: st.one_of(
                st.lists(own),
                st.lists(own).map(tuple),
                st.dictionaries(st.one_of(st.integers(), st.text()), own),
            ),
            max_leaves=20,
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_what_holds_others_comes_back(self, value):
        assert repr(through_json(value)) == repr(value)

    @pytest.mark.parametrize(
        "value",
        [object(), print, np.array([object()]), np.zeros(1, dtype="i4,i4"), {1: {2}}, range(3)],
        ids=lambda value: type(value).__name__,
    )
    def test_nothing_else_is_written(self, value):
        with pytest.raises(CannotWriteError):
            pack(value)

    @pytest.mark.parametrize(
        "written",
        [
            *({"object": 1}, {}, {"tuple": [], "dict": []}, {"float": "1e5"}, {"float": 1}),
            *({"array": ["<i8", [10**12], []]}, {"array": ["<U1000000000", [1], ["a"]]}),
            *(
                {"array": ["O", [2], [1]]},
                {"array": ["V8", [1], [1]]},
                {"array": ["<i8", [-1, -1], [1]]},
            ),
            *({"array": ["<f8", [1], [True]]}, {"array": ["<i8", [1], ["1"]]}, {"array": "ab"}),
            *({"array": ["<U1", [1], ["ab"]]}, {"scalar": ["<i8", [], [10**30]]}),
            *({"torch dtype": "load"}, {"torch dtype": "Tensor"}, {"dtype": "O"}, {"dict": [1]}),
            *({"Decimal": "x"}, {"date": "2020"}, {"bytes": "x"}, {"UUID": 1}, {"Fraction": "1/0"}),
            *(
                {"Timestamp": [1, "ns", "Nowhere/Land"]},
                {"Period": [1, "x"]},
                {"Interval": [2, 1, "left"]},
            ),
            *({"Timedelta": [1]}, {"Timestamp": [1, "parsec", None]}),
        ],
        ids=str,
    )
    def test_nothing_else_is_read(self, written):
        with pytest.raises(ValueError, match=r"."):
            unpack(written)


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(300, 8, disparity=0.4, random_state=0)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU())


def fit(data, sensitive=None, **params):
    X, y, s = data
    sensitive = np.array(["f", "m"])[s] if sensitive is None else sensitive
    params = {"random_state": 0, **params}
    return FairLowRankHeadClassifier(**params).fit(X, y, sensitive_features=sensitive)


def attributes(clf):
    """Return what a fit found, but what trained it and the modules."""
    others = (
        "_metadata_request",
        "net_",
        "head_",
        "head",
        "feature_extractor",
        "feature_extractor_",
        "solver_",
        "solver",
    )
    return {name: value for name, value in vars(clf).items() if name not in others}


def without_addresses(text):
    return re.sub(r"0x[0-9A-F]+", "", text)


def assert_same(found, clf, X):
    for method in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(found, method)(X), getattr(clf, method)(X))
    assert without_addresses(repr(found)) == without_addresses(repr(clf))
    assert repr(found.solver_) == repr(clf.solver_)
    ours, theirs = attributes(found), attributes(clf)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert type(value) is type(theirs[name]) or isinstance(theirs[name], type(value)), name
        if name == "random_state" and isinstance(value, np.random.RandomState):
            value, theirs[name] = value.get_state()[1], theirs[name].get_state()[1]
        compared = name != "cv" or isinstance(value, (int, list))  # else by their text
        if compared and value is not theirs[name]:
            np.testing.assert_equal(value, theirs[name], err_msg=name)
    for mine, other in zip(found.head_.parameters(), clf.head_.parameters(), strict=True):
        assert mine.dtype == other.dtype
        assert torch.equal(mine, other)


CONFIGURATIONS = {
    "features": {},
    "rank": {"rank": 1, "importance": "covariance", "group_weights": {"f": 1, "m": 3}},
    "series": {
        "rank": 1,
        "importance": "covariance",
        "group_weights": pd.Series({"f": 1.0, "m": 3.0}),
        "class_weight": {0: 1, 1: 2.5},
    },
    "pre-trained": {"head": nn.Linear(8, 2), "rank": 1},
    "hidden layer": {
        "head": nn.Sequential(nn.Linear(8, 6), nn.Softplus(2.0), nn.Dropout(0.1)),
        "rank": 2,
        "solver": FineTune(optimizer=torch.optim.Adam, max_epochs=3, tol=None, batch_size=50),
    },
    "closed form": {
        "solver": "closed_form",
        "constraint": "equalized_odds",
        "fairness_weight": 0.5,
    },
    "bound": {
        "solver": "closed_form",
        "constraint": "demographic_parity",
        "difference_bound": 0.3,
        "confidence": 0.9,
        "cv": StratifiedShuffleSplit(1, test_size=0.3, random_state=np.random.RandomState(3)),
    },
    "votes": {
        "solver": PlugIn(max_epochs=5, tol=None),
        "constraint": "demographic_parity",
        "difference_bound": 0.3,
        "cv": RepeatedStratifiedKFold(n_splits=2, n_repeats=1, random_state=0),
    },
    "folds": {
        "solver": "closed_form",
        "constraint": "demographic_parity",
        "difference_bound": 0.3,
        "cv": [
            (train, test)
            for train, test in KFold(2, shuffle=True, random_state=0).split(range(300))
        ],
        "random_state": np.random.RandomState(0),
    },
}
pytestmark = pytest.mark.filterwarnings("ignore:.*difference_bound:skfairft.FairnessWarning")


class TestRoundTrip:
    @pytest.mark.parametrize("name", CONFIGURATIONS)
    def test_all_of_a_classifier_comes_back(self, data, tmp_path, name):
        clf = fit(data, **CONFIGURATIONS[name])
        clf.save(tmp_path)
        found = load(tmp_path)
        if name == "series":  # a Series of weights comes back as a dict of them
            assert found.group_weights == {"f": 1.0, "m": 3.0}
            found.group_weights = clf.group_weights
        assert_same(found, clf, data[0])
        # What came back is fitted as the original is.
        for model in (clf, found):
            model.fit(*data[:2], sensitive_features=np.array(["f", "m"])[data[2]])
        np.testing.assert_array_equal(
            found.decision_function(data[0]), clf.decision_function(data[0])
        )

    def test_told_groups(self, data, tmp_path):
        X, _, s = data
        clf = fit(data, **CONFIGURATIONS["votes"])
        clf.save(tmp_path)
        groups = np.array(["f", "m"])[s]
        np.testing.assert_array_equal(
            load(tmp_path).decision_function(X, sensitive_features=groups),
            clf.decision_function(X, sensitive_features=groups),
        )
        assert load(tmp_path).known_groups_ == clf.known_groups_

    @pytest.mark.parametrize("name", [pytest.param("features", marks=pytest.mark.slow), "votes"])
    def test_the_report_is_the_same(self, data, tmp_path, name):
        clf = fit(data, **CONFIGURATIONS[name])
        clf.save(tmp_path)
        pages = [
            model_report(
                model, *data[:2], sensitive_features=np.array(["f", "m"])[data[2]], random_state=0
            ).to_html()
            for model in (clf, load(tmp_path))
        ]
        assert pages[0] == pages[1]

    @pytest.mark.parametrize(
        "names",
        [
            *(["f", "m"], [True, False], [1.5, -2.0], [2**80, 1], ["f\0", "\u202em"]),
            *([datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)], [decimal.Decimal(1), "b"]),
            *([pd.Interval(0, 1), pd.Interval(1, 2)], [pd.Period("2020"), pd.Period("2021")]),
            *(
                [pd.Timestamp("2020", tz="UTC"), pd.Timestamp("2021", tz="UTC")],
                [("a", 1), ("b", 2)],
            ),
            [np.datetime64("2020-01-01"), np.datetime64("2021-01-01")],
        ],
        ids=repr,
    )
    def test_groups_of_any_kind(self, data, tmp_path, names):
        X, _, s = data
        groups = pd.Series([names[code] for code in s])
        clf = fit(
            data, groups, solver="plug_in", constraint="demographic_parity", fairness_weight=1.0
        )
        clf.save(tmp_path)
        found = load(tmp_path)
        assert found.groups_.tolist() == clf.groups_.tolist()
        assert found.groups_.dtype == clf.groups_.dtype
        np.testing.assert_array_equal(
            found.predict(X, sensitive_features=groups), clf.predict(X, sensitive_features=groups)
        )

    def test_names_of_columns(self, data, tmp_path):
        X, y, s = data
        frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(8)])
        groups = pd.DataFrame({"sex": s, "age": np.arange(300) % 2})
        clf = FairLowRankHeadClassifier().fit(frame, y, sensitive_features=groups)
        clf.save(tmp_path)
        found = load(tmp_path)
        assert_same(found, clf, frame)
        assert found.sensitive_names_in_ == ["sex", "age"]
        with pytest.raises(ValueError, match="feature names"):
            found.predict(frame[frame.columns[::-1]])

    @pytest.mark.usefixtures("routing")
    def test_requests_come_back(self, data, tmp_path):
        clf = FairLowRankHeadClassifier().set_fit_request(
            sensitive_features=True, sample_weight="w"
        )
        clf.fit(*data[:2], sensitive_features=data[2]).save(tmp_path)
        found = load(tmp_path).get_metadata_routing()
        assert found.fit.requests == clf.get_metadata_routing().fit.requests
        assert found.fit.requests["sensitive_features"] is True

    def test_a_model_replaces_another_and_nothing_else(self, data, tmp_path):
        first, second = fit(data), fit(data, rank=1)
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / "other.safetensors").write_bytes(b"mine")
        first.save(tmp_path)
        first.save(tmp_path)
        second.save(tmp_path)
        assert_same(load(tmp_path), second, data[0])
        assert len(list(tmp_path.iterdir())) == 4

    @pytest.mark.parametrize("step", range(4))
    def test_an_interrupted_save_leaves_the_model_before(self, data, tmp_path, monkeypatch, step):
        first, second = fit(data), fit(data, rank=1)
        first.save(tmp_path)
        calls = []

        def stop(real):
            def call(*args):
                calls.append(real)
                if len(calls) > step:
                    raise KeyboardInterrupt
                return real(*args)

            return call

        monkeypatch.setattr(files.os, "replace", stop(os.replace))
        monkeypatch.setattr(files.os, "fsync", stop(os.fsync))
        with pytest.raises(KeyboardInterrupt):
            second.save(tmp_path)
        monkeypatch.undo()
        assert_same(load(tmp_path), first, data[0])
        assert not list(tmp_path.glob("*.part"))

    def test_two_at_a_time_leave_a_whole_model(self, data, tmp_path, monkeypatch):
        """The second is written whole just before the first clears up."""
        first, second = fit(data), fit(data, rank=1)
        fit(data, rank=1, importance="covariance").save(tmp_path)
        real = files._put

        def put(path, content):
            if path.name == "model.json":
                monkeypatch.undo()
                second.save(tmp_path)
            real(path, content)

        monkeypatch.setattr(files, "_put", put)
        first.save(tmp_path)
        assert_same(load(tmp_path), first, data[0])

    def test_what_another_program_calls_so_is_neither_read_nor_written_over(self, data, tmp_path):
        (tmp_path / "model.json").write_text('{"columns": []}')
        with pytest.raises(ValueError, match=r"not written by the save method.*another folder"):
            fit(data).save(tmp_path)
        with pytest.raises(ValueError, match="was not written by the save method"):
            load(tmp_path)
        assert (tmp_path / "model.json").read_text() == '{"columns": []}'

    def test_a_file_in_place_of_a_folder(self, data, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="is a file; expected a folder"):
            fit(data).save(tmp_path / "file")

    def test_classifiers_of_a_path(self, data, tmp_path):
        X, y, s = data
        path = skfairft.fairness_path(
            FairLowRankHeadClassifier(constraint="demographic_parity", solver="plug_in"),
            X,
            y,
            sensitive_features=s,
            weights=3,
        )
        for i in (0, len(path.table) - 1):
            path.classifiers[i].save(tmp_path)
            assert_same(load(tmp_path), path.classifiers[i], X)

    def test_before_fit(self, tmp_path):
        with pytest.raises(NotFittedError):
            FairLowRankHeadClassifier().save(tmp_path)

    def test_the_rows_stay_behind(self, data, backbone, tmp_path):
        X = data[0]
        fit(data, feature_extractor=backbone).save(tmp_path, backbone=True)
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        for numbers in (X, X.astype(np.float32)):
            assert numbers[3].tobytes() not in content
        assert str(X[3, 0]).encode() not in content


class TestNotSaved:
    class Silent:
        """A callback of the user's own."""

        def initialize(self):
            return self

        def notify(self, *args, **kwargs):
            pass

    def test_callbacks_are_named_and_missed(self, data, tmp_path):
        from skorch.callbacks import EpochScoring

        clf = fit(data, solver=FineTune(callbacks=[EpochScoring("accuracy", on_train=True)]))
        with pytest.warns(UserWarning, match=r"Not saved.*solver\.callbacks"):
            clf.save(tmp_path)
        found = load(tmp_path)
        np.testing.assert_array_equal(found.predict(data[0]), clf.predict(data[0]))
        assert (
            "FineTune"
            in model_report(
                found, *data[:2], sensitive_features=np.array(["f", "m"])[data[2]], n_boot=0
            ).to_html()
        )
        with pytest.raises(ValueError, match="not saved"):
            found.fit(*data[:2], sensitive_features=data[2])
        found.set_params(solver__callbacks=None).fit(*data[:2], sensitive_features=data[2])

    def test_what_a_user_set(self, data, tmp_path):
        clf = fit(data)
        clf.note = "mine"
        with pytest.warns(UserWarning, match=r"Not saved.*note"):
            clf.save(tmp_path)

    @pytest.mark.parametrize("when", ["at fit", "later"])
    def test_a_solver_of_one_s_own_is_refused(self, data, tmp_path, when):
        class Own(FineTune):
            pass

        clf = fit(data, solver=Own() if when == "at fit" else "fine_tune")
        if when == "later":
            clf.set_params(solver=Own())
        with pytest.raises(ValueError, match=r"The solver .*Own is none of skfairft's"):
            clf.save(tmp_path)

    def test_a_generator_of_folds(self, data, tmp_path):
        folds = KFold(2, shuffle=True, random_state=0).split(range(300))
        clf = fit(
            data,
            solver="closed_form",
            constraint="demographic_parity",
            difference_bound=0.3,
            cv=iter(list(folds)),
        )
        with pytest.warns(UserWarning, match=r"Not saved.*cv"):
            clf.save(tmp_path)
        with pytest.raises(ValueError, match="not saved"):
            load(tmp_path).fit(*data[:2], sensitive_features=data[2])

    def test_code_in_the_head_is_refused(self, data, tmp_path):
        class Square(nn.Module):
            def forward(self, x):
                return x**2

        clf = fit(data, head=nn.Sequential(nn.Linear(8, 3), Square()))
        with pytest.raises(ValueError, match=r"head_ holds .*Square.*joblib"):
            clf.save(tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_hook_on_the_head_is_refused(self, data, tmp_path):
        clf = fit(data)
        clf.head_.register_forward_hook(lambda module, inputs, output: output * 2)
        with pytest.raises(ValueError, match="LowRankHead with hooks"):
            clf.save(tmp_path)

    def test_a_subclass_is_refused(self, data, tmp_path):
        class Mine(FairLowRankHeadClassifier):
            pass

        clf = Mine().fit(*data[:2], sensitive_features=data[2])
        with pytest.raises(TypeError, match="Mine is a class of your own"):
            clf.save(tmp_path)

    def test_groups_of_an_unknown_kind_are_refused(self, data, tmp_path):
        class Sex(str):
            __slots__ = ()

        clf = fit(data)
        clf.groups_ = np.array([Sex("f"), Sex("m")], dtype=object)
        with pytest.raises(ValueError, match=r"groups_ holds .*Sex.*to text"):
            clf.save(tmp_path)


class Doubled(nn.Sequential):
    """A network whose code tests replace."""

    def forward(self, x):
        return 2 * super().forward(x)


class Halved(nn.Sequential):
    def forward(self, x):
        return super().forward(x) / 2


Halved.__name__ = Halved.__qualname__ = "Doubled"


def scaled(rows):
    return torch.as_tensor(np.asarray(rows), dtype=torch.float32) * 3


def scaled_otherwise(rows):
    return torch.as_tensor(np.asarray(rows), dtype=torch.float32) * 4


scaled_otherwise.__qualname__ = "scaled"


class TestBackbone:
    @pytest.mark.parametrize("wrapped", [False, True])
    @pytest.mark.parametrize("weights", [False, True])
    def test_comes_back(self, data, backbone, tmp_path, wrapped, weights):
        extractor = FrozenFeatureExtractor(backbone, layer="1", batch_size=64, memory=False)
        clf = fit(data, feature_extractor=extractor if wrapped else backbone, rank=1)
        clf.save(tmp_path, backbone=weights)
        for passed in (backbone, extractor if wrapped else backbone):
            found = load(tmp_path, passed)
            assert repr(found.feature_extractor) == repr(clf.feature_extractor)
            assert_same(found, clf, data[0])
            assert found.feature_extractor_.module is backbone
        found.fit(*data[:2], sensitive_features=np.array(["f", "m"])[data[2]])
        np.testing.assert_array_equal(found.head_.A.detach(), clf.head_.A.detach())

    def test_weights_that_were_saved_go_to_a_copy(self, data, backbone, tmp_path):
        clf = fit(data, feature_extractor=backbone)
        clf.save(tmp_path, backbone=True)
        torch.manual_seed(1)
        other = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU())
        before = other[0].weight.clone()
        found = load(tmp_path, other)
        np.testing.assert_array_equal(found.predict_proba(data[0]), clf.predict_proba(data[0]))
        assert torch.equal(other[0].weight, before)
        assert other.training
        assert not torch.equal(found.feature_extractor_.module[0].weight, before)
        found = load(tmp_path, FrozenFeatureExtractor(other, batch_size=3))
        np.testing.assert_allclose(
            found.predict_proba(data[0]), clf.predict_proba(data[0]), atol=1e-6
        )
        with pytest.raises(ValueError, match="do not fit"):
            load(tmp_path, nn.Sequential(nn.Linear(8, 13), nn.BatchNorm1d(13), nn.ReLU()))

    def test_tied_and_missing_weights(self, data, tmp_path):
        tied = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        tied[2].weight = tied[0].weight
        clf = fit(data, feature_extractor=tied)
        clf.save(tmp_path, backbone=True)
        other = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        other[2].weight = other[0].weight
        found = load(tmp_path, other)
        np.testing.assert_array_equal(found.predict_proba(data[0]), clf.predict_proba(data[0]))

    @pytest.mark.parametrize(
        ("other", "why"),
        [
            (lambda b: nn.Sequential(nn.Linear(8, 12), *b[1:]), "weights, or buffers"),
            (lambda b: nn.Sequential(b[0]), "it is a Sequential with 108 parameters"),
            (lambda b: nn.Sequential(b[0], b[1]), "its submodules, or names"),
            (lambda b: nn.Sequential(*b[:2], nn.Tanh()), "its submodules, or names"),
            (lambda b: nn.Sequential(*b[:2], nn.ReLU6()), "its submodules, or names"),
            (lambda b: FrozenFeatureExtractor(b, layer="1"), r"layer is '1', and None"),
            (lambda b: FrozenFeatureExtractor(b, dtype="bfloat16"), "dtype is 'bfloat16'"),
            (
                lambda b: FrozenFeatureExtractor(b, preprocess=scaled),
                "preprocess is scaled, and None",
            ),
        ],
    )
    def test_another_one_is_refused(self, data, backbone, tmp_path, other, why):
        fit(data, feature_extractor=backbone).save(tmp_path)
        torch.manual_seed(1)
        with pytest.raises(ValueError, match=why) as refused:
            load(tmp_path, other(backbone))
        assert "Sequential with 132 parameters" in str(refused.value)

    def test_one_that_was_trained_on_is_refused(self, data, tmp_path):
        network = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
        fit(data, feature_extractor=network).save(tmp_path)
        load(tmp_path, network)
        with torch.no_grad():
            network[1].running_mean[0] += 1e-6
        with pytest.raises(ValueError, match="weights, or buffers, have other values"):
            load(tmp_path, network)

    def test_other_code_with_the_same_weights_is_refused(self, data, tmp_path):
        network = Doubled(nn.Linear(8, 4))
        fit(data, feature_extractor=network).save(tmp_path)
        load(tmp_path, Doubled(network[0]))
        with pytest.raises(ValueError, match="code or settings of the module are others"):
            load(tmp_path, Halved(network[0]))

    def test_other_settings_with_the_same_weights_are_refused(self, data, tmp_path):
        fit(data, feature_extractor=nn.Sequential(nn.Linear(8, 4), nn.LeakyReLU(0.1))).save(
            tmp_path
        )
        network = nn.Sequential(nn.Linear(8, 4), nn.LeakyReLU(0.1))
        fit(data, feature_extractor=network).save(tmp_path)
        network[1].negative_slope = 0.2
        with pytest.raises(ValueError, match="code or settings of the module are others"):
            load(tmp_path, network)

    def test_other_preparation_is_refused(self, data, backbone, tmp_path):
        extractor = FrozenFeatureExtractor(backbone, preprocess=scaled)
        clf = fit(data, feature_extractor=extractor)
        clf.save(tmp_path)
        np.testing.assert_array_equal(
            load(tmp_path, FrozenFeatureExtractor(backbone, preprocess=scaled)).predict(data[0]),
            clf.predict(data[0]),
        )
        with pytest.raises(ValueError, match=r"preprocess \(scaled\) made the inputs"):
            load(tmp_path, backbone)
        with pytest.raises(ValueError, match="code or settings of preprocess are others"):
            load(tmp_path, FrozenFeatureExtractor(backbone, preprocess=scaled_otherwise))
        with pytest.raises(ValueError, match="preprocess is None, and scaled"):
            load(tmp_path, FrozenFeatureExtractor(backbone))

    def test_code_of_other_versions_is_said_not_to_be_compared(self, data, tmp_path):
        network = Doubled(nn.Linear(8, 4))
        fit(data, feature_extractor=network).save(tmp_path)
        edit(tmp_path, lambda content: content["backbone"]["reference"].update(torch="1.0"))
        load(tmp_path, network)  # nothing differs, whatever the versions
        with pytest.warns(UserWarning, match=r"torch 1\.0, and here"):
            load(tmp_path, Halved(network[0]))

    def test_missing_or_needless(self, data, backbone, tmp_path):
        fit(data, feature_extractor=backbone).save(tmp_path / "a")
        with pytest.raises(TypeError, match=r"Sequential, and feature_extractor is None.*load\("):
            load(tmp_path / "a")
        with pytest.raises(TypeError, match="is a str; expected"):
            load(tmp_path / "a", "resnet18")
        fit(data).save(tmp_path / "b")
        with pytest.raises(ValueError, match="has none: its X holds features"):
            load(tmp_path / "b", backbone)
        with pytest.raises(ValueError, match="backbone=True, but"):
            fit(data).save(tmp_path / "b", backbone=True)

    def test_one_that_was_exchanged_after_the_fit(self, data, backbone, tmp_path):
        clf = fit(data, feature_extractor=backbone)
        clf.feature_extractor = nn.Linear(8, 4)
        with pytest.raises(ValueError, match="set to another one after fit"):
            clf.save(tmp_path)

    def test_no_folder_of_features_is_brought_along(self, data, backbone, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        extractor = FrozenFeatureExtractor(backbone, memory="features")
        fit(data, feature_extractor=extractor).save("model")
        assert (
            "features"
            not in Path("model/model.json").read_text().split('"seen"')[0].split('"backbone"')[-1]
        )
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        load("../model", backbone).predict(data[0])
        assert not list(Path().iterdir())


def edit(folder, change):
    """Change what ``model.json`` says, with its checksum."""
    path = folder / "model.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    import hashlib

    content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def saved(data, backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    clf = fit(data, feature_extractor=backbone, rank=1)
    clf.save(folder, backbone=True)
    return clf, folder


class TestSameBackbone:
    """What is the same is not refused: in another place, by another name, after it ran."""

    def test_compiled_or_not(self, data, backbone, tmp_path):
        X = data[0].astype(np.float32)
        compiled = torch.compile(copy.deepcopy(backbone), backend="eager")
        clf = fit((X, *data[1:]), feature_extractor=compiled)
        expected = clf.predict_proba(X)
        clf.save(tmp_path, backbone=True)
        for again in (backbone, torch.compile(copy.deepcopy(backbone), backend="eager")):
            np.testing.assert_allclose(load(tmp_path, again).predict_proba(X), expected, atol=1e-6)
        torch.manual_seed(1)
        fresh = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU())
        for again in (fresh, torch.compile(fresh, backend="eager")):
            np.testing.assert_allclose(load(tmp_path, again).predict_proba(X), expected, atol=1e-6)
        hooked = torch.compile(copy.deepcopy(backbone), backend="eager")
        hooked.register_forward_hook(lambda module, inputs, output: output * 2)
        with pytest.raises(ValueError, match="code or settings of the module"):
            load(tmp_path, hooked)

    def test_a_checkpoint_in_another_folder(self, data, tmp_path):
        transformers = pytest.importorskip("transformers")
        settings = {"vocab_size": 11, "hidden_size": 8, "num_attention_heads": 2}
        config = transformers.BertConfig(**settings, num_hidden_layers=1, intermediate_size=8)
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(tmp_path / "a")
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        first, second = (
            transformers.BertModel.from_pretrained(tmp_path / name, local_files_only=True)
            for name in "ab"
        )
        ids = torch.arange(300 * 5).reshape(300, 5) % 11
        clf = fit((ids, *data[1:]), feature_extractor=first)
        clf.save(tmp_path / "model", backbone=True)
        expected = clf.predict_proba(ids)
        # A model that is made of the configuration holds that otherwise than one of a checkpoint.
        for again, check_code in ((second, True), (transformers.BertModel(config), False)):
            found = load(tmp_path / "model", again, check_code=check_code)
            np.testing.assert_allclose(found.predict_proba(ids), expected, atol=1e-6)

    def test_functions_by_what_they_do(self, data, backbone, tmp_path):
        def made():
            return lambda rows: torch.as_tensor(np.asarray(rows), dtype=torch.float32)

        one = made()
        other = lambda rows: torch.as_tensor(np.asarray(rows), dtype=torch.float32)  # noqa: E731
        fit(data, feature_extractor=FrozenFeatureExtractor(backbone, preprocess=one)).save(tmp_path)
        load(tmp_path, FrozenFeatureExtractor(backbone, preprocess=other))

    def test_what_keeps_something_as_it_runs_by_your_word(self, data, tmp_path):
        class Keeps(nn.Linear):
            def forward(self, x):
                self.last = x[:1].clone()
                return super().forward(x)

        network = Keeps(8, 4)
        with pytest.warns(UserWarning, match="running it changes"):
            clf = fit(data, feature_extractor=network)
        clf.save(tmp_path)
        expected = clf.predict_proba(data[0])
        clf.predict(data[0][5:])
        with pytest.raises(ValueError, match="load with check_code=False"):
            load(tmp_path, network)
        found = load(tmp_path, network, check_code=False)
        np.testing.assert_array_equal(found.predict_proba(data[0]), expected)
        network.weight.data += 1.0
        with pytest.raises(ValueError, match="weights, or buffers"):
            load(tmp_path, network, check_code=False)

    def test_where_there_is_no_data_yet(self, data, backbone, tmp_path):
        clf = fit(data, feature_extractor=backbone)
        clf.save(tmp_path, backbone=True)
        with torch.device("meta"):
            empty = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU())
        np.testing.assert_array_equal(
            load(tmp_path, empty).predict_proba(data[0]), clf.predict_proba(data[0])
        )

    @pytest.mark.parametrize(
        "odd", [torch.ones(2, dtype=torch.complex128), torch.eye(2).to_sparse()]
    )
    def test_tensors_that_cannot_be_written(self, data, tmp_path, odd):
        network = nn.Linear(8, 4)
        network.register_buffer("odd", odd)
        clf = fit(data, feature_extractor=network)
        with pytest.raises(ValueError, match="safetensors does not hold"):
            clf.save(tmp_path, backbone=True)
        assert not list(tmp_path.iterdir())
        clf.save(tmp_path)
        load(tmp_path, network)

    def test_a_buffer_that_is_made_as_it_runs_by_your_word(self, data, tmp_path):
        class Lazily(nn.Linear):
            def forward(self, x):
                self.register_buffer("table", torch.arange(len(x)), persistent=False)
                return super().forward(x)

        network = Lazily(8, 4)
        with pytest.warns(UserWarning, match="running it changes"):
            clf = fit(data, feature_extractor=network)
        clf.save(tmp_path, backbone=True)
        expected = clf.predict_proba(data[0])
        torch.manual_seed(1)
        found = load(tmp_path, Lazily(8, 4), check_code=False)
        with pytest.warns(UserWarning, match="running it changes"):
            np.testing.assert_allclose(found.predict_proba(data[0]), expected, atol=1e-6)

    def test_what_remembers_nothing_does_not_begin_to(self, data, backbone, tmp_path):
        extractor = FrozenFeatureExtractor(backbone, memory=False)
        fit(data, feature_extractor=extractor).save(tmp_path)
        found = load(tmp_path, backbone)
        assert found.feature_extractor_.memory is found.feature_extractor.memory is False

        def folder(content):
            content["backbone"]["settings"]["memory"] = str(tmp_path / "elsewhere")

        edit(tmp_path, folder)
        with pytest.raises(ValueError, match="Nothing was loaded"):
            load(tmp_path, backbone)

    def test_a_relative_folder_of_features_stays_where_it_was(
        self, data, backbone, tmp_path, monkeypatch
    ):
        fit(data, feature_extractor=backbone).save(tmp_path / "model")
        monkeypatch.chdir(tmp_path)
        found = load("model", FrozenFeatureExtractor(backbone, memory="features"))
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        found.predict(data[0])
        assert (tmp_path / "features").is_dir()
        assert not list(Path().iterdir())


def test_a_layer_that_stands_twice_in_a_head_stays_twice(data, tmp_path):
    twice = nn.Hardshrink(0.1)
    head = nn.Sequential(nn.Linear(8, 6), twice, nn.Softplus(), twice)
    clf = fit(data, head=head, solver=FineTune(max_epochs=2, tol=None))
    expected = clf.decision_function(data[0])
    assert len(clf.head_) == 5
    with torch.no_grad():
        np.testing.assert_allclose(clf.to_torch()(torch.from_numpy(data[0])), expected, atol=1e-9)
    clf.save(tmp_path)
    found = load(tmp_path)
    np.testing.assert_array_equal(found.decision_function(data[0]), expected)
    assert len(found.head) == 4
    assert "head" in clf._repr_html_()


class TestManyAtOnce:
    def test_who_reads_while_others_save_reads_a_whole_model(self, data, tmp_path):
        models = [fit(data), fit(data, rank=1)]
        expected = [model.decision_function(data[0][:3]).tolist() for model in models]
        models[0].save(tmp_path)
        ends = time.monotonic() + 1.0

        def write(model):
            while time.monotonic() < ends:
                model.save(tmp_path)

        threads = [threading.Thread(target=write, args=(model,)) for model in models]
        for thread in threads:
            thread.start()
        reads = 0
        try:
            while time.monotonic() < ends:
                assert load(tmp_path).decision_function(data[0][:3]).tolist() in expected
                reads += 1
        finally:
            for thread in threads:
                thread.join()
        assert reads
        assert load(tmp_path).decision_function(data[0][:3]).tolist() in expected

    def test_a_save_that_fails_leaves_nothing(self, data, tmp_path, monkeypatch):
        clf = fit(data)
        clf.save(tmp_path)
        before = sorted(path.name for path in tmp_path.iterdir())
        real = files._put

        def put(path, content):
            if path.name == "model.json":
                raise OSError("No space left on device")
            real(path, content)

        monkeypatch.setattr(files, "_put", put)
        with pytest.raises(OSError, match="No space"):
            fit(data, rank=1).save(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
    def test_a_pipe_is_no_model(self, data, tmp_path):
        os.mkfifo(tmp_path / "model.json")
        with pytest.raises(ValueError, match="it is no file"):
            fit(data).save(tmp_path)
        with pytest.raises(FileNotFoundError):
            load(tmp_path)


class TestDamage:
    @pytest.mark.parametrize("kind", ["model", "head", "backbone"])
    def test_no_flipped_bit_changes_a_prediction(self, saved, data, backbone, tmp_path, kind):
        clf, folder = saved
        expected = clf.predict_proba(data[0][:20])
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (path,) = tmp_path.glob(f"{kind}*")
        content = path.read_bytes()
        rng = np.random.default_rng(0)
        refused = 0
        for bit in rng.choice(8 * len(content), size=80, replace=False):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(changed)
            try:
                found = load(tmp_path, backbone)
            except (ValueError, FileNotFoundError):
                refused += 1
            else:
                np.testing.assert_array_equal(found.predict_proba(data[0][:20]), expected)
        # A space between two words of JSON may become a line, and nothing else.
        assert refused >= (70 if kind == "model" else 80)

    @pytest.mark.parametrize("kind", ["model", "head", "backbone"])
    def test_no_part_of_a_file_is_taken_for_it(self, saved, backbone, tmp_path, kind):
        _, folder = saved
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (path,) = tmp_path.glob(f"{kind}*")
        content = path.read_bytes()
        for length in [*range(0, len(content), 97), len(content) - 1]:
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match="damaged or was changed"):
                load(tmp_path, backbone)
            if kind == "model":  # nor is what may be another's written over
                with pytest.raises(ValueError, match="not written by the save method"):
                    saved[0].save(tmp_path)
        path.unlink()
        with pytest.raises((ValueError, FileNotFoundError), match=r"is missing|has no model\.json"):
            load(tmp_path, backbone)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="is no folder"):
            load(tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError, match=r"has no model\.json"):
            load(tmp_path)

    def test_a_later_format(self, saved, backbone, tmp_path):
        for path in saved[1].iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        edit(tmp_path, lambda content: content.update(format=99, skfairft="7.0"))
        with pytest.raises(ValueError, match=r"format 99, written by skfairft 7\.0.*Upgrade"):
            load(tmp_path, backbone)

    def test_numbers_of_another_model(self, data, tmp_path):
        for name, rank in (("a", None), ("b", 1)):
            fit(data, rank=rank).save(tmp_path / name)
        (a,), (b,) = (list((tmp_path / name).glob("head*")) for name in "ab")
        a.write_bytes(b.read_bytes())
        with pytest.raises(ValueError, match="checksum"):
            load(tmp_path / "a")

    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c.pop("fitted"),
            lambda c: c["fitted"].pop("classes_"),
            lambda c: c["fitted"].update(classes_=pack(np.array(["a", "a"]))),
            lambda c: c["fitted"].update(classes_=pack(np.array(["a", "b", "c"]))),
            lambda c: c["fitted"].update(groups_=pack(np.array([[1, 2]]))),
            lambda c: c["fitted"].update(rank_="1"),
            lambda c: c["fitted"].update(n_iter_=True),
            lambda c: c["fitted"].update(head_={"LowRankHead": ["A", "B"]}),
            lambda c: c["fitted"].update(head_={"Sequential": []}),
            lambda c: c["fitted"].update(head_={"Bilinear": {}}),
            lambda c: c["fitted"].update(head_={"ReLU": {"forward": 1}}),
            lambda c: c["fitted"].update(head_={"Identity": {}}),
            lambda c: c["parameters"].update(rank=-3),
            lambda c: c["parameters"].update(unknown=1),
            lambda c: c["parameters"].update(constraint="none of them"),
            lambda c: c["parameters"].update(solver={"Solver": {}}),
            lambda c: c["parameters"].update(solver={"FineTune": {"lr": -1}}),
            lambda c: c.update(solver_={"optimizer": "SGD"}),
            lambda c: c.update(solver_={"FineTune": {"optimizer": {"optimizer": "system"}}}),
            lambda c: c["requests"].update(save={"X": True}),
            lambda c: c["files"]["head"].update(file="../../../etc/passwd"),
            lambda c: c["files"].pop("head"),
            lambda c: c["fitted"].update(
                sensitive_names_in_=[{"array": ["<U4194304", [1], ["a"]]}] * 100
            ),
            lambda c: c["parameters"].update(
                random_state={
                    "RandomState": pack(np.random.RandomState(0).get_state(legacy=False))
                    | {
                        "dict": [
                            ["bit_generator", "MT19937"],
                            [
                                "state",
                                {
                                    "dict": [
                                        ["key", pack(np.zeros(624, np.uint32))],
                                        ["pos", 2**31 - 1000],
                                    ]
                                },
                            ],
                            ["has_gauss", 0],
                            ["gauss", 0.0],
                        ]
                    }
                }
            ),
            lambda c: c["fitted"].update(
                groups_=pack(np.array(["f", "m"], dtype=object))
                | {"array": ["O", [2], [{"Timestamp": [0, "ns", "/etc/passwd"]}, 1]]}
            ),
            lambda c: c["fitted"].update(history_=json.loads("[" * DEEP + "]" * DEEP)),
        ],
    )
    def test_a_forged_file_is_refused(self, data, tmp_path, change):
        """With the right checksum, but not as save writes it."""
        fit(data, rank=1).save(tmp_path)
        edit(tmp_path, change)
        with pytest.raises(ValueError, match="Nothing was loaded"):
            load(tmp_path)

    def test_no_file_elsewhere_is_read(self, data, tmp_path):
        """Also one that is whole, and whose checksum is the one that is named."""
        fit(data).save(tmp_path / "model")
        (path,) = (tmp_path / "model").glob("head*")
        path.rename(tmp_path / path.name)
        for name in (f"../{path.name}", str(tmp_path / path.name)):
            edit(tmp_path / "model", lambda c, name=name: c["files"]["head"].update(file=name))
            with pytest.raises(ValueError, match="is missing"):
                load(tmp_path / "model")

    @pytest.mark.parametrize("kind", ["Linear", "LowRankHead", "CellVote"])
    def test_sides_of_no_numbers_are_refused(self, kind):
        """They cost nothing to write, and may make a layer of any width."""
        empty = torch.zeros(2**40, 0)
        names = {"Linear": ["weight"], "LowRankHead": ["A", "B", "bias"], "CellVote": ["vote"]}[
            kind
        ]
        with pytest.raises(ValueError, match="holds no numbers"):
            module_of({kind: names}, "x", {f"x.{name}": empty for name in names})

    def test_forged_numbers_are_refused(self, data, tmp_path):
        import hashlib

        fit(data, rank=1).save(tmp_path)
        (path,) = tmp_path.glob("head*")
        tensors = load_file(path)
        tensors["head_.A"] = tensors["head_.A"][:-1].clone()
        save_file(tensors, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        edit(tmp_path, lambda content: content["files"]["head"].update(sha256=digest))
        with pytest.raises(ValueError, match="Nothing was loaded"):
            load(tmp_path)


FORBIDDEN = {
    *("pickle.find_class", "exec", "compile", "marshal.loads", "os.system", "subprocess.Popen"),
    *("socket.connect", "os.remove", "os.mkdir", "os.rename", "os.fork"),
}


@pytest.fixture(scope="module")
def events():
    """Return what Python's audit sees of what reading a model must not do."""
    found, active = [], [True]
    # A hook stays as long as the process: this one does nothing then.
    sys.addaudithook(lambda event, args: active[0] and event in FORBIDDEN and found.append(event))
    yield found
    active[0] = False


def test_nothing_is_run_and_nothing_is_unpickled(data, backbone, tmp_path, events):
    clf = fit(data, feature_extractor=backbone, **CONFIGURATIONS["votes"])
    clf.save(tmp_path, backbone=True)
    load(tmp_path, backbone)  # imports what it needs
    events.clear()
    load(tmp_path, backbone)
    assert not events
    pickle.loads(pickle.dumps(clf))
    assert "pickle.find_class" in events  # control


MODELS = sorted((Path(__file__).parent / "saved_models").glob("format_*/*"))


class TestEarlierFiles:
    """Models that earlier versions wrote, as they are in the repository."""

    @pytest.mark.parametrize("folder", MODELS, ids=lambda path: f"{path.parent.name}-{path.name}")
    def test_are_read_and_say_the_same(self, folder):
        network = None
        if folder.name in ("backbone", "layer"):
            network = make.backbone()
        if folder.name == "backbone":
            torch.nn.init.zeros_(network[0].weight)  # its own are in the folder
        found = load(folder, network)
        X = make.rows()[0]
        expected = json.loads((folder / "scores.json").read_text())
        # Of numbers of size 1 in single precision, on another processor.
        np.testing.assert_allclose(found.decision_function(X[:5]), expected, rtol=0, atol=1e-5)
        assert found.classes_.tolist() == ["no", "perhaps", "yes"]
        assert found.groups_given_

    def test_are_of_all_kinds_that_this_version_writes(self):
        of_this = {path.name for path in MODELS if path.parent.name == f"format_{files.FORMAT}"}
        assert of_this == set(make.MODELS)
