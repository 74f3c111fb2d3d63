"""What goes wrong, as what error or warning, and with which words of help: one table."""

import copy
import warnings
from decimal import Decimal
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from flat import flat
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring, EpochTimer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    FineTune,
    FrozenFeatureExtractor,
    fairness_path,
    split_head,
)
from skfairft.datasets import make_biased_classification
from skfairft.metrics import fairness_report

X, Y, S = make_biased_classification(60, 8, disparity=0.4, random_state=0)
ROWS = TensorDataset(torch.tensor(X))


def changed(array, **items):
    """A copy of an array with some entries replaced: changed(X, at=(0, 1), by=nan)."""
    array = np.array(array, dtype=object if not isinstance(items["by"], float) else None)
    array[items["at"]] = items["by"]
    return array


def fit(X=X, y=Y, s=S, w=None, **params):
    """Fit a classifier on data of which one thing is bad."""
    params = {"rank": 1, **params}
    return FairLowRankHeadClassifier(**flat(**params)).fit(
        X, y, sample_weight=w, sensitive_features=s
    )


def report(y=Y, s=S, w=None):
    """Measure predictions on data of which one thing is bad."""
    return fairness_report(y, Y, sensitive_features=s, sample_weight=w, n_boot=0)


class Returns(nn.Module):
    """A feature extractor that returns what a function of its input says."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def extract(function, **params):
    return fit(feature_extractor=Returns(function), **params)


def texts(returned):
    extractor = FrozenFeatureExtractor(nn.Identity(), preprocess=lambda texts: returned)
    return fit(["a"] * 60, feature_extractor=extractor)


def predict(new, rows=X, **params):
    return fit(rows, **params).predict(new)


def spoiled(layer):
    with torch.no_grad():
        layer.weight[0, 0] = nan
    return layer


def diverge():
    """Three groups, told apart by a training of cells whose steps are far too large."""
    rng = np.random.default_rng(0)
    y, s = rng.integers(2, size=112), rng.integers(3, size=112)
    rows = 3 * rng.normal(size=(112, 3)) + y[:, None]
    training = {"optimizer": torch.optim.SGD, "lr": 1e3, "max_epochs": 30}
    head = nn.utils.skip_init(nn.Linear, 3, 5)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(rng.normal(size=(5, 3))))
        head.bias.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        held(False, X=rows, y=y, s=s, head=head, rank=None, C=1.0, solver="plug_in", **training)


class Never(nn.Module):
    """A feature extractor that is not to run: what is wrong is to be said before."""

    def forward(self, x):
        raise AssertionError("the feature extractor ran first")


def held(before=True, **params):
    """Fit with a constraint; with ``before`` the extractor must not run."""
    extractor = {"feature_extractor": Never()} if before else {}
    params = {"constraint": "demographic_parity", **params}
    if params["constraint"] and not params.keys() & {"difference_bound", "fairness_weight"}:
        params["fairness_weight"] = 0.5
    return fit(**extractor, **params)


def go_on(first, second):
    """Fit, and go on with other parameters."""
    clf = held(False, warm_start=True, **first)
    return clf.set_params(**second).fit(X, Y, sensitive_features=S)


nan, inf = float("nan"), float("inf")
NO_POSITIVES = np.where((S == 1) | (Y == 1), "a", "b")  # in group b
FRAME = pd.DataFrame({"sex": np.where(S, "f", "m"), "age": np.arange(60) % 2})

# (name, how to provoke it, exact type, all of these words)
LARGE = (ValueError, ["X, or its features, hold", "in column", "1e+100", "other units"])
ERRORS = [
    # --- sensitive features
    ("groups too few", lambda: fit(s=S[:-1]), ValueError, ["59 rows", "X has 60"]),
    ("groups too many", lambda: fit(s=[*S, 0]), ValueError, ["61 rows", "X has 60"]),
    (
        "groups with NaN",
        lambda: fit(s=changed(S.astype(float), at=[1, 2], by=nan)),
        ValueError,
        ["sensitive_features holds 2 missing values", "60 rows", "Drop", "'unknown'"],
    ),
    (
        "groups with None",
        lambda: fit(s=changed(S, at=3, by=None)),
        ValueError,
        ["1 missing", "None"],
    ),
    (
        "groups with pandas' NA",
        lambda: fit(s=pd.Series(changed(S, at=3, by=pd.NA), dtype="Int64")),
        ValueError,
        ["1 missing"],
    ),
    (
        "one column with a missing value",
        lambda: fit(s=FRAME.assign(age=changed(FRAME["age"].astype(float), at=0, by=nan))),
        ValueError,
        ["sensitive_features column 'age' holds 1 missing"],
    ),
    ("groups of three dimensions", lambda: fit(s=S[:, None, None]), ValueError, ["(60, 1, 1)"]),
    ("groups without a column", lambda: fit(s=FRAME[[]]), ValueError, ["(60, 0)", "one row per"]),
    (
        "one group for all",
        lambda: fit(s="female"),
        ValueError,
        ["sensitive_features is 'female'", "60 rows", "column of a frame"],
    ),
    (
        "a dictionary of groups",
        lambda: fit(s={"sex": S}),
        ValueError,
        ["sensitive_features is a mapping (dict)", "['sex']", "pandas.DataFrame"],
    ),
    (
        "ragged groups",
        lambda: fit(s=[["a"]] * 30 + [["b", "c"]] * 30),
        ValueError,
        ["sensitive_features is ragged", "rows of 1 and rows of 2"],
    ),
    (
        "groups of which some are masked",
        lambda: fit(s=np.ma.array(S, mask=np.arange(60) < 2)),
        ValueError,
        ["sensitive_features holds 2 missing"],
    ),
    (
        "groups that mix True and 1",
        lambda: fit(s=[True, 1, 0] * 20),
        ValueError,
        ["sensitive_features mixes", "True == 1"],
    ),
    ("a number as groups", lambda: fit(s=1), ValueError, ["sensitive_features is 1", "60 rows"]),
    # --- group weights
    (
        "weight of an unknown group",
        lambda: fit(group_weights={0: 1, 1: 1, "old": 1}),
        ValueError,
        ["['old']", "do not occur", "groups are [0, 1]"],
    ),
    (
        "weight of a group missing",
        lambda: fit(group_weights={0: 1}),
        ValueError,
        ["no weight for the groups [1]", "0.0"],
    ),
    ("too many weights", lambda: fit(group_weights=[1, 1, 1]), ValueError, ["(3,)", "(2,)"]),
    ("negative weight", lambda: fit(group_weights=[1, -1]), ValueError, ["[1.0, -1.0]", ">= 0"]),
    ("zero weights", lambda: fit(group_weights=[0, 0]), ValueError, ["at least one", "positive"]),
    ("infinite weight", lambda: fit(group_weights=[1, inf]), ValueError, ["finite"]),
    ("NaN weight", lambda: fit(group_weights={0: nan, 1: 1}), ValueError, ["finite"]),
    ("weights by a word", lambda: fit(group_weights="equal"), ValueError, ["'proportional'"]),
    (
        "weights without groups",
        lambda: fit(s=None, group_weights=[1, 1]),
        ValueError,
        ["no sensitive_features", "fit(X, y, sensitive_features=groups)"],
    ),
    # --- labels
    ("one class", lambda: fit(y=np.ones(60)), ValueError, ["one class only", "1.0", "60 rows"]),
    ("NaN in y", lambda: fit(y=changed(Y.astype(float), at=0, by=nan)), ValueError, ["y holds 1"]),
    ("None in y", lambda: fit(y=changed(Y, at=0, by=None)), ValueError, ["y holds 1 missing"]),
    ("infinity in y", lambda: fit(y=changed(Y.astype(float), at=0, by=inf)), ValueError, ["inf"]),
    ("continuous y", lambda: fit(y=X[:, 0]), ValueError, ["continuous", "cut", "BoundedGroupLoss"]),
    ("y of two columns", lambda: fit(y=np.column_stack([Y, Y])), ValueError, ["1d", "(60, 2)"]),
    ("y too short", lambda: fit(y=Y[:-1]), ValueError, ["expected one label per row", "59", "60"]),
    ("no y", lambda: fit(y=None), ValueError, ["requires y", "one label per row"]),
    ("empty", lambda: fit(X[:0], Y[:0], S[:0]), ValueError, ["0"]),
    (
        "y of mixed types",
        lambda: fit(y=changed(Y, at=slice(30), by="a")),
        TypeError,
        ["y mixes", "['int', 'str']", "astype(str)"],
    ),
    (
        "labels in Decimal",
        lambda: fit(y=[Decimal(int(label)) for label in Y]),
        TypeError,
        ["y holds labels", "'Decimal'", "astype(int)"],
    ),
    (
        "labels in bytes",
        lambda: fit(y=np.array([b"no", b"yes"])[Y]),
        TypeError,
        ["y holds labels", "bytes", "label.decode()"],
    ),
    # --- the same in metrics
    *(
        (f"{name} in a report", partial(report, **given), kind, words)
        for name, given, kind, words in [
            ("groups in a dictionary", {"s": {"sex": S}}, ValueError, ["mapping (dict)"]),
            ("ragged groups", {"s": [["a"], ["b", "c"]] * 30}, ValueError, ["ragged"]),
            ("masked labels", {"y": np.ma.array(Y, mask=S)}, ValueError, ["y_true holds"]),
            ("sparse groups", {"s": csr_matrix(S[:, None])}, TypeError, ["toarray()"]),
            ("too few groups", {"s": S[:-1]}, ValueError, ["59 rows but y_true has 60"]),
            ("words as weights", {"w": ["1"] * 60}, ValueError, ["sample_weight holds", "'1'"]),
            ("an iterator of groups", {"s": iter(S)}, ValueError, ["only once", "list("]),
        ]
    ),
    # --- rows
    ("NaN in X", lambda: fit(changed(X, at=(0, 0), by=nan)), ValueError, ["X contains NaN"]),
    ("infinity in X", lambda: fit(changed(X, at=(0, 0), by=inf)), ValueError, ["infinity"]),
    (
        "NaN in a tensor",
        lambda: fit(torch.full((60, 8), nan), feature_extractor=nn.Identity()),
        ValueError,
        ["returned NaN or infinity", "it was given contains NaN", "Fill the gaps"],
    ),
    ("sparse X", lambda: fit(csr_matrix(X)), TypeError, ["dense", "toarray"]),
    ("X of strings", lambda: fit(X.astype(str).astype(object) + "?"), ValueError, ["convert"]),
    ("X of one dimension", lambda: fit(X[:, 0]), ValueError, ["2D array", "reshape"]),
    (
        "tensor of one dimension",
        lambda: fit(torch.zeros(60), feature_extractor=nn.Identity()),
        ValueError,
        ["1-d tensor", "(60,)", "reshape(-1, 1)"],
    ),
    ("images without extractor", lambda: fit(X.reshape(60, 2, 2, 2)), ValueError, ["dim 4"]),
    (
        "texts without preprocess",
        lambda: fit(["a"] * 60),
        ValueError,
        ["holds texts", "'a'", "preprocess"],
    ),
    ("fewer columns at predict", lambda: predict(X[:, :7]), ValueError, ["7 features", "8"]),
    (
        "fewer columns at predict, with an extractor",
        lambda: predict(X[:, :7], feature_extractor=nn.Linear(8, 3)),
        ValueError,
        ["7 features", "8 features"],
    ),
    (
        "fewer columns of a tensor at predict",
        lambda: predict(torch.zeros(3, 7), feature_extractor=nn.Linear(8, 3)),
        ValueError,
        ["7 features", "8 features"],
    ),
    ("NaN at predict", lambda: predict(np.full((1, 8), nan)), ValueError, ["NaN"]),
    (
        "predict before fit",
        lambda: FairLowRankHeadClassifier().predict(X),
        NotFittedError,
        ["not fitted", "fit"],
    ),
    (
        "to_torch before fit",
        lambda: FairLowRankHeadClassifier().to_torch(),
        NotFittedError,
        ["not fitted"],
    ),
    # --- sample and class weights
    ("negative sample weight", lambda: fit(w=-np.ones(60)), ValueError, ["Negative"]),
    ("NaN sample weight", lambda: fit(w=np.full(60, nan)), ValueError, ["NaN"]),
    ("words as sample weights", lambda: fit(w=["1"] * 60), ValueError, ["'1'", "a number per row"]),
    (
        "a masked sample weight",
        lambda: fit(w=np.ma.array(np.ones(60), mask=S)),
        ValueError,
        ["sample_weight holds", "missing", "for example 0"],
    ),
    (
        "too few sample weights",
        lambda: fit(w=np.ones(59)),
        ValueError,
        ["59 rows but X has 60", "one weight"],
    ),
    (
        "sample weights all zero",
        lambda: fit(w=np.zeros(60)),
        ValueError,
        ["zero"],
    ),
    (
        "a class without weight",
        lambda: fit(w=(Y == 0).astype(float)),
        ValueError,
        ["zero for every row of the classes [1]", "drop"],
    ),
    ("class weight of zero", lambda: fit(class_weight={1: 0}), ValueError, ["classes [1]"]),
    (
        "a group without weight",
        lambda: fit(w=(S == 0).astype(float)),
        ValueError,
        ["zero for every row of the groups [1]", "drop"],
    ),
    (
        "class weight of an unknown class",
        lambda: fit(class_weight={7: 2.0}),
        ValueError,
        ["[0, 1], are not in class_weight"],
    ),
    # --- the extractor
    (
        "extractor gives a tuple",
        lambda: extract(lambda x: (x, x)),
        ValueError,
        ["Returns returned a tuple of 2", "one tensor", "output="],
    ),
    (
        "extractor gives a dict",
        lambda: extract(lambda x: {"a": x}),
        ValueError,
        ["a dict with ['a']"],
    ),
    (
        "extractor gives maps",
        lambda: extract(lambda x: x[:, :, None, None]),
        ValueError,
        ["4-d tensor", "(60, 8, 1, 1)", "pool='mean'"],
    ),
    (
        "extractor gives a sequence",
        lambda: extract(lambda x: x[:, :, None]),
        ValueError,
        ["3-d tensor", "(60, 8, 1)"],
    ),
    (
        "extractor gives one number per row",
        lambda: extract(lambda x: x[:, 0]),
        ValueError,
        ["shape (60,)", "60 rows", "expected (60, features)"],
    ),
    (
        "extractor drops a row",
        lambda: extract(lambda x: x[1:]),
        ValueError,
        ["shape (59, 8)", "60 rows"],
    ),
    *(
        (
            f"a DataLoader for the rows, {extractor}",
            lambda extractor=extractor: fit(DataLoader(ROWS), feature_extractor=extractor),
            ValueError,
            ["X is a DataLoader", "in the order of the groups", "X.dataset"],
        )
        for extractor in (None, nn.Identity())
    ),
    (
        "a dataset without an extractor",
        lambda: fit(ROWS),
        ValueError,
        ["X is a TensorDataset, a dataset", "numbers of shape", "feature_extractor"],
    ),
    (
        "extractor gives no feature",
        lambda: extract(lambda x: x[:, :0]),
        ValueError,
        ["(60, 0)", "(60, features)"],
    ),
    (
        "extractor gives NaN",
        lambda: extract(lambda x: x.masked_fill(x[:, :1] > 0, nan)),
        ValueError,
        ["NaN or infinity", "of 60 rows", "module.float()"],
    ),
    (
        "extractor overflows in half precision",
        lambda: fit(1e6 * X, feature_extractor=nn.Linear(8, 3).half().requires_grad_(False)),
        ValueError,
        ["NaN or infinity", "half precision", "module.float()"],
    ),
    (
        "extractor gives integers",
        lambda: extract(lambda x: x.argmax(dim=1, keepdim=True)),
        ValueError,
        ["torch.int64", "floating-point", "layer before"],
    ),
    (
        "extractor of another width",
        lambda: fit(feature_extractor=nn.Linear(5, 3)),
        ValueError,
        ["Linear failed", "(60, 8)", "60x8 and 5x3", "Check that X"],
    ),
    (
        "features of varying number",
        lambda: fit(
            [f"{i}" for i in range(10, 50)] + [f"{i}" for i in range(100, 120)],
            feature_extractor=FrozenFeatureExtractor(
                nn.Identity(),
                preprocess=lambda texts: torch.ones(len(texts), len(texts[0])),
                batch_size=40,
            ),
        ),
        ValueError,
        ["returned 3 features", "but 2 for earlier rows", "pad"],
    ),
    (
        "another number of features at predict",
        lambda: predict(
            ["aa"],
            rows=["a"] * 60,
            feature_extractor=FrozenFeatureExtractor(
                nn.Identity(), preprocess=lambda texts: torch.ones(len(texts), len(texts[0]))
            ),
        ),
        ValueError,
        ["returned 2 features", "but 1 for earlier rows"],
    ),
    (
        "preprocess gives an array",
        lambda: texts(np.zeros((60, 2))),
        ValueError,
        ["preprocess returned ndarray", "tensor"],
    ),
    (
        "preprocess gives a list of numbers",
        lambda: texts([1, 2]),
        ValueError,
        ["preprocess returned int"],
    ),
    (
        "no row for preprocess",
        lambda: FrozenFeatureExtractor(nn.Identity(), preprocess=torch.tensor).transform([]),
        ValueError,
        ["0 rows"],
    ),
    ("extractor is a function", lambda: fit(feature_extractor=abs), ValueError, ["Module"]),
    ("extractor is a class", lambda: fit(feature_extractor=nn.Linear), ValueError, ["Module"]),
    (
        "a batch size of zero",
        lambda: FrozenFeatureExtractor(nn.Identity(), batch_size=0).fit(X),
        ValueError,
        ["batch_size", "[1, inf)"],
    ),
    (
        "a device that is not there",
        lambda: fit(device="cuda:99"),
        ValueError,
        ["device='cuda:99' cannot be used", "'auto'", "'cpu'"],
    ),
    ("a device with a typo", lambda: fit(device="gpu"), ValueError, ["device='gpu'", "'cpu'"]),
    (
        "an extractor's device that is not there",
        lambda: FrozenFeatureExtractor(nn.Identity(), device="gpu").fit(X),
        ValueError,
        ["device='gpu'"],
    ),
    # --- numbers
    ("a cell of 1e200", lambda: fit(changed(X, at=(7, 3), by=1e200)), *LARGE),
    ("X above 1e160", lambda: fit(X * 1e160), *LARGE),
    ("X above 1e160, constrained", lambda: held(False, X=X * 1e160), *LARGE),
    (
        "X below 1e-160",
        lambda: fit(X * 1e-170),
        ValueError,
        ["hold at most", "in column 0", "1e-100", "other units"],
    ),
    (
        "sample weights below 1e-290",
        lambda: fit(w=np.full(60, 1e-300), feature_extractor=Never()),
        ValueError,
        ["sample_weight", "1e-300", "row twice"],
    ),
    (
        "scores beyond all numbers",
        lambda: fit(X * 1e-90, head=None).predict_proba(np.full((2, 8), 1e300)),
        ValueError,
        ["scores of 2 rows", "row 0 first", "beyond double precision"],
    ),
    # --- groups that are no groups
    (
        "continuous groups",
        lambda: fit(s=np.linspace(0.5, 90.5, 60), feature_extractor=Never()),
        ValueError,
        ["60 distinct numbers from 0.5 to 90.5", "among 60 rows", "continuous?", "pandas.cut"],
    ),
    (
        "names as groups",
        lambda: fit(s=[f"name {i}" for i in range(60)], feature_extractor=Never()),
        ValueError,
        ["60 groups among 60 rows", "Merge groups"],
    ),
    (
        "groups in the place of sample weights",
        lambda: FairLowRankHeadClassifier().fit(X, Y, S),
        TypeError,
        ["takes X and y by place", "fit(X, y, sensitive_features=...)", "sample_weight"],
    ),
    # --- the head
    (
        "a head of another width",
        lambda: fit(head=nn.Linear(5, 2)),
        ValueError,
        ["takes 5 features", "data has 8", "head=None"],
    ),
    (
        "a head that is no layer",
        lambda: fit(head=nn.ReLU(), feature_extractor=Never()),
        ValueError,
        ["ReLU", "split_head"],
    ),
    (
        "a head of NaN",
        lambda: fit(head=spoiled(nn.Linear(8, 3))),
        ValueError,
        ["weights of head", "not finite"],
    ),
    (
        "a head whose activation overflows",
        lambda: fit(head=nn.Sequential(nn.Linear(8, 3), Returns(lambda x: x.abs().log() * inf))),
        ValueError,
        ["outputs of the head's hidden layer", "not finite"],
    ),
    # --- the training
    (
        "weight_decay for L-BFGS",
        lambda: fit(solver=FineTune(weight_decay=0.1), feature_extractor=Never()),
        ValueError,
        ["weight_decay=0.1", "LBFGS", "use C", "AdamW"],
    ),
    (
        "an argument that the optimizer does not have",
        lambda: fit(
            solver=FineTune(lr=0.1, optimizer_kwargs={"momentum": 0.9}), feature_extractor=Never()
        ),
        ValueError,
        ["AdamW", "momentum", "optimizer_kwargs"],
    ),
    (
        "an argument that the optimizer refuses",
        lambda: fit(
            solver=FineTune(optimizer=torch.optim.SGD, optimizer_kwargs={"momentum": -1}),
            feature_extractor=Never(),
        ),
        ValueError,
        ["SGD", "momentum", "-1"],
    ),
    (
        "lr in optimizer_kwargs",
        lambda: fit(solver=FineTune(optimizer_kwargs={"lr": 0.1}), feature_extractor=Never()),
        ValueError,
        ["optimizer_kwargs has lr=0.1", "set lr=0.1 there"],
    ),
    (
        "an optimizer that is an instance",
        lambda: fit(
            solver=FineTune(optimizer=torch.optim.SGD([torch.zeros(1)], lr=1)),
            feature_extractor=Never(),
        ),
        ValueError,
        ["optimizer is SGD", "class itself"],
    ),
    (
        "a callback that is none",
        lambda: fit(solver=FineTune(callbacks=["early_stopping"]), feature_extractor=Never()),
        ValueError,
        ["callbacks has 'early_stopping' of type str", "skorch"],
    ),
    *(
        (
            f"a callback that waits for a hold-out, {name}",
            lambda callback=callback: fit(
                solver=FineTune(callbacks=[callback]), feature_extractor=Never()
            ),
            ValueError,
            [f"(monitor='{loss}')", "no rows are held out", "early_stopping=True"],
        )
        for name, callback, loss in (
            ("made", EarlyStopping(), "valid_loss"),
            ("as a class", EarlyStopping, "valid_loss"),
            ("named", ("stop", EarlyStopping()), "valid_loss"),
            ("of another kind", Checkpoint(), "valid_loss_best"),
        )
    ),
    (
        "a score of held-out rows that are none",
        lambda: fit(
            solver=FineTune(callbacks=[EpochScoring("accuracy")]), feature_extractor=Never()
        ),
        ValueError,
        ["EpochScoring of held-out rows", "early_stopping=True", "on_train=True"],
    ),
    (
        "two callbacks of one name",
        lambda: fit(solver=FineTune(callbacks=[("a", EpochTimer()), ("a", EpochTimer())])),
        ValueError,
        ["two of one name", "'a'"],
    ),
    (
        "a callback called as one of ours",
        lambda: fit(solver=FineTune(callbacks=[("convergence", None)]), feature_extractor=Never()),
        ValueError,
        ["'convergence'", "other than those of the training"],
    ),
    (
        "a negative class weight",
        lambda: fit(class_weight={0: -1.0, 1: 2.0}, feature_extractor=Never()),
        ValueError,
        ["class_weight={0: -1.0, 1: 2.0}", "at least 0"],
    ),
    (
        "a callback that waits for what nobody measures",
        lambda: fit(solver=FineTune(callbacks=[EarlyStopping("valid_acc")], early_stopping=True)),
        ValueError,
        ["EarlyStopping", "valid_acc", "train_loss", "valid_loss"],
    ),
    (
        "rows too few for early stopping",
        lambda: fit(
            X[:4],
            Y[[0, 1, 0, 1]],
            [0, 0, 1, 1],
            solver=FineTune(early_stopping=True),
            feature_extractor=Never(),
        ),
        ValueError,
        ["None of 4 rows can be held out"],
    ),
    (
        "a training that diverges",
        lambda: fit(solver=FineTune(optimizer=torch.optim.SGD, lr=1e8)),
        ValueError,
        ["diverged", "SGD", "smaller lr"],
    ),
    (
        "a training of cells that diverges",
        lambda: diverge(),
        ValueError,
        ["no probability on any row", "smaller lr"],
    ),
    (
        "a head of two layers",
        lambda: fit(head=nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))),
        ValueError,
        ["Sequential", "nn.Linear", "without parameters"],
    ),
    ("an empty head", lambda: fit(head=nn.Sequential()), ValueError, ["Sequential", "nn.Linear"]),
    ("cutting a single layer", lambda: split_head(nn.Linear(2, 2)), ValueError, ["head=None"]),
    # --- constraints
    (
        "a constraint without groups",
        lambda: held(s=None),
        ValueError,
        ["constraint='demographic_parity' needs groups", "no sensitive_features", "Pipeline"],
    ),
    (
        "a constraint on one group",
        lambda: held(s=["f"] * 60),
        ValueError,
        ["at least two groups", "all 60 rows", "'f'"],
    ),
    (
        "plug_in without groups",
        lambda: held(s=None, constraint=None, solver="plug_in"),
        ValueError,
        ["solver='plug_in' needs groups", "fit(X, y, sensitive_features=groups)"],
    ),
    *(
        (
            f"{constraint} of a group without the class",
            lambda constraint=constraint: held(s=NO_POSITIVES, constraint=constraint),
            ValueError,
            [constraint, "'b' has no row of class 1", "Merge groups", "demographic_parity and"],
        )
        for constraint in ("equalized_odds", "true_positive_rate_parity")
    ),
    (
        "false positive rates of a group without negatives",
        lambda: held(s=NO_POSITIVES, y=1 - Y, constraint="false_positive_rate_parity"),
        ValueError,
        ["'b' has no row of class 0"],
    ),
    (
        "a class of a group that has no weight",
        lambda: held(w=1.0 - (Y & S), constraint="equalized_odds"),
        ValueError,
        ["1 has no row of class 1", "rows of weight zero"],
    ),
    (
        "a weight without a constraint",
        lambda: held(constraint=None, fairness_weight=0.5),
        ValueError,
        ["fairness_weight=0.5", "constraint is None", 'constraint="demographic_parity"'],
    ),
    (
        "a bound without a constraint",
        lambda: held(constraint=None, difference_bound=0.1),
        ValueError,
        ["difference_bound=0.1", "constraint is None"],
    ),
    (
        "a weight and a bound",
        lambda: held(fairness_weight=0.5, difference_bound=0.1),
        ValueError,
        ["fairness_weight=0.5", "difference_bound=0.1", "both set", "set one of them"],
    ),
    (
        "neither a weight nor a bound",
        lambda: fit(constraint="demographic_parity", feature_extractor=Never()),
        ValueError,
        ["does nothing by itself", "fairness_weight", "difference_bound", "fairness_path"],
    ),
    *(
        (
            f"a bound that every head meets, {constraint}",
            lambda c=constraint, b=bound: held(constraint=c, difference_bound=b),
            ValueError,
            [f"difference_bound={bound} asks for nothing", f"at most {largest}"],
        )
        for constraint, bound, largest in (
            ("demographic_parity", 1.0, 1),
            ("true_positive_rate_parity", 1.5, 1),
        )
    ),
    (
        "a bound beyond equalized odds",
        lambda: held(constraint="equalized_odds", difference_bound=2.0),
        ValueError,
        ["difference_bound", "[0.0, 2.0)"],
    ),
    (
        "a hold-out without a pair to compare",
        lambda: held(difference_bound=0.1, cv=0.001),
        ValueError,
        ["needs rows to judge of at least two groups", "among 1 rows", "cv=5"],
    ),
    (
        "a head of one score with plug_in",
        lambda: held(head=nn.Linear(8, 1), solver="plug_in"),
        ValueError,
        ["head has 1 outputs", "label and group together"],
    ),
    (
        "a weight above 1",
        lambda: held(fairness_weight=1.5),
        ValueError,
        ["fairness_weight", "[0.0, 1.0]", "Got 1.5"],
    ),
    ("a negative weight", lambda: held(fairness_weight=-0.1), ValueError, ["Got -0.1"]),
    ("a weight of NaN", lambda: held(fairness_weight=nan), ValueError, ["fairness_weight"]),
    (
        "a negative bound",
        lambda: held(difference_bound=-0.1),
        ValueError,
        ["difference_bound", "Got -0.1"],
    ),
    (
        "an unknown constraint",
        lambda: held(constraint="equal_opportunity"),
        ValueError,
        ["constraint", "'true_positive_rate_parity'", "'equal_opportunity'"],
    ),
    (
        "an unknown solver",
        lambda: held(solver="exact"),
        ValueError,
        ["solver", "'closed_form'", "'fine_tune'", "'plug_in'", "'exact'"],
    ),
    (
        "calibrate=False without a constraint",
        lambda: fit(solver=FineTune(calibrate=False)),
        ValueError,
        ["calibrate=False", "constraint is None", 'constraint="demographic_parity"'],
    ),
    (
        "a confidence without a bound",
        lambda: FairLowRankHeadClassifier(Never(), confidence=0.95).fit(X, Y),
        ValueError,
        ["confidence=0.95", "difference_bound", "None"],
    ),
    (
        "rates that mean scores do not tell",
        lambda: held(solver="closed_form", constraint="error_rate_parity"),
        ValueError,
        ["'error_rate_parity'", "closed form", 'solver="plug_in"'],
    ),
    (
        "a parameter of the solver that it has not",
        lambda: FairLowRankHeadClassifier().set_params(solver__rate=1),
        ValueError,
        ["'rate'", "FineTune"],
    ),
    (
        "a parameter of a solver that there is not",
        lambda: FairLowRankHeadClassifier().set_params(solver="plugin", solver__lr=1),
        ValueError,
        ["solver='plugin'", "PlugIn()", "Did you mean 'plug_in'?"],
    ),
    (
        "a parameter of a class in place of a solver",
        lambda: FairLowRankHeadClassifier(solver=FineTune).set_params(solver__lr=1),
        ValueError,
        ["solver='FineTune'", "FineTune()"],
    ),
    (
        "a parameter that is the solver's",
        lambda: FairLowRankHeadClassifier(max_epochs=0),
        TypeError,
        ["max_epochs: set these of the solver", "solver=FineTune(max_epochs=...)"],
    ),
    (
        "a parameter set that is the solver's",
        lambda: FairLowRankHeadClassifier().set_params(lr=0.1),
        ValueError,
        ["lr: set these of the solver", "solver__lr"],
    ),
    (
        "going on along a path",
        lambda: fairness_path(
            FairLowRankHeadClassifier(constraint="demographic_parity", warm_start=True),
            X,
            Y,
            sensitive_features=S,
        ),
        ValueError,
        ["warm_start=True", "warm_start=False"],
    ),
    (
        "too few rows held out for a bound",
        lambda: held(
            False,
            s=[*("b" if i < 3 else "a" for i in range(60))],
            difference_bound=0.2,
            cv=0.1,
            random_state=0,
        ),
        ValueError,
        ["difference_bound=0.2", "1 of 2 groups", "cv=5", "merge"],
    ),
    *(
        (
            f"plug_in with {type(head).__name__} as wide as the classes",
            lambda head=head: held(False, solver="plug_in", head=head),
            ValueError,
            ["2 outputs", "solver='plug_in'", "label and group together", "head=None"],
        )
        for head in (nn.Linear(8, 2), nn.Sequential(nn.Linear(8, 2)))
    ),
    *(
        (
            f"going on from {first} with {second}",
            lambda first=first, second=second: go_on({"solver": first}, {"solver": second}),
            ValueError,
            ["warm_start=True", "another solver", "warm_start=False"],
        )
        for first, second in (("fine_tune", "plug_in"), ("plug_in", "closed_form"))
    ),
    # --- parameters
    ("rank 0", lambda: fit(rank=0), ValueError, ["rank", "[1, inf)", "Got 0"]),
    ("negative rank", lambda: fit(rank=-2), ValueError, ["rank", "Got -2"]),
    ("rank 0.0", lambda: fit(rank=0.0), ValueError, ["rank", "(0.0, 1.0]"]),
    ("a share above 1", lambda: fit(rank=1.5), ValueError, ["rank", "(0.0, 1.0]", "Got 1.5"]),
    ("rank as a word", lambda: fit(rank="full"), ValueError, ["rank", "'full'"]),
    ("rank of NaN", lambda: fit(rank=nan), ValueError, ["rank"]),
    ("importance", lambda: fit(importance="hessian"), ValueError, ["'fisher'", "'uniform'"]),
    ("C of zero", lambda: fit(C=0), ValueError, ["C", "[1e-100, inf]"]),
    ("a word as class weight", lambda: fit(class_weight="even"), ValueError, ["'balanced'"]),
    (
        "negative epochs",
        lambda: fit(solver=FineTune(max_epochs=-1)),
        ValueError,
        ["max_epochs", "[0, inf)"],
    ),
    (
        "an optimizer by name",
        lambda: fit(solver=FineTune(optimizer="adam")),
        ValueError,
        ["'adam'", "torch.optim.AdamW", "not its name"],
    ),
    (
        "an optimizer's instance",
        lambda: fit(solver=FineTune(optimizer=torch.optim.SGD([torch.zeros(1)], lr=0.1))),
        ValueError,
        ["subclass of torch.optim.Optimizer", "an instance"],
    ),
    (
        "another class for an optimizer",
        lambda: fit(solver=FineTune(optimizer=nn.Linear)),
        ValueError,
        ["subclass of torch.optim.Optimizer"],
    ),
    (
        "weight decay of L-BFGS",
        lambda: fit(solver=FineTune(weight_decay=0.1)),
        ValueError,
        ["weight_decay=0.1", "LBFGS", "use C"],
    ),
    (
        "too few rows to hold out",
        lambda: fit(X[:4], [0, 0, 1, 1], [0, 1, 0, 1], solver=FineTune(early_stopping=True)),
        ValueError,
        ["None of 4 rows can be held out", "early_stopping"],
    ),
]


@pytest.mark.parametrize(
    ("provoke", "kind", "words"),
    [row[1:] for row in ERRORS],
    ids=[row[0] for row in ERRORS],
)
@pytest.mark.filterwarnings("ignore:fit got no sensitive_features")
@pytest.mark.filterwarnings("ignore:sensitive_features is constant")
@pytest.mark.filterwarnings("ignore:Some groups are too thin")
def test_error(provoke, kind, words):
    with pytest.raises(kind) as caught:
        provoke()
    found = caught.type
    assert found is kind or (found.__name__ == "InvalidParameterError" and kind is ValueError)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert "np.int64(" not in message


def certain():
    """A head that is so sure, and right, that its gradient is zero everywhere."""
    head = nn.Linear(8, 2)
    with torch.no_grad():
        head.weight[:] = torch.tensor([[-1e5], [1e5]]) * torch.eye(8)[0]
        head.bias.zero_()
    rows = np.sign(X) + X
    return fit(rows, (rows[:, 0] > 0).astype(int), head=head, solver=FineTune(max_epochs=0))


# (name, how to provoke it, exact category, all of these words)
WARNINGS = [
    (
        "no groups",
        lambda: fit(s=None),
        FairnessWarning,
        ["no sensitive_features", "pooled", "fit(X, y, sensitive_features=groups)", "Pipeline"],
    ),
    (
        "no groups, but the weights of a word",
        lambda: fit(s=None, group_weights="proportional"),
        FairnessWarning,
        ["no sensitive_features"],
    ),
    (
        "constant groups",
        lambda: fit(s=["f"] * 60),
        FairnessWarning,
        ["constant", "all 60 rows", "'f'", "nothing to neutralize"],
    ),
    (
        "a group without positives",
        lambda: fit(s=np.where((S == 1) | (Y == 1), "a", "b")),
        FairnessWarning,
        ["'b' has no row of class [1] among its", "Merge groups"],
    ),
    (
        "a group of one row",
        lambda: fit(s=[*S[:-1], 7]),
        FairnessWarning,
        ["7 has 1 row", "too thin"],
    ),
    (
        "several thin groups in one warning",
        lambda: fit(s=[*(S[:-2] + 1), 7, 8]),
        FairnessWarning,
        ["7 has 1 row; 8 has 1 row"],
    ),
    (
        "a rank that is too large",
        lambda: fit(rank=3),
        UserWarning,
        ["rank=3", "min(d, k) = 2", "(8, 2)", "using 2"],
    ),
    (
        "groups in another order of the index",
        lambda: fit(pd.DataFrame(X), s=pd.Series(S).sample(frac=1, random_state=0)),
        FairnessWarning,
        ["sensitive_features and X", "index", ".loc[X.index]", ".to_numpy()", "reset_index"],
    ),
    (
        "the group as a column of X",
        lambda: fit(np.column_stack([X[:, :7], 5.0 - 2.0 * S])),
        FairnessWarning,
        ["X has sensitive_features", "[7]", "Drop it"],
    ),
    (
        "the group among the features of an extractor",
        lambda: fit(
            np.column_stack([X[:, :7], S]).astype(np.float32),
            feature_extractor=FrozenFeatureExtractor(nn.Identity(), memory=False),
        ),
        FairnessWarning,
        ["The features have sensitive_features", "[7]"],
    ),
    (
        "many numbers as groups",
        lambda: fit(np.tile(X, (8, 1)), np.tile(Y, 8), np.arange(480) // 16),
        FairnessWarning,
        ["30 distinct numbers from 0 to 29", "continuous?"],
    ),
    (
        "many thin groups, of which some are named",
        lambda: fit(
            np.tile(X, (4, 1)), np.tile(Y, 4), [*np.repeat("rest", 220), *map(str, range(20))]
        ),
        FairnessWarning,
        ["'0' has 1 row", "and 15 more"],
    ),
    (
        "a bound judged on few rows",
        lambda: held(False, difference_bound=0.9, cv=0.2),
        FairnessWarning,
        ["difference_bound=0.9 is judged by 12 rows", "cv=5"],
    ),
    (
        "no penalty and separable rows",
        lambda: fit(np.column_stack([X[:, :7], 9.0 * Y]), C=np.inf),
        ConvergenceWarning,
        ["no optimum", "finite C"],
    ),
    (
        "a learning rate that makes the head worse",
        lambda: fit(
            rank=None,
            solver=FineTune(
                optimizer=torch.optim.SGD, lr=100.0, batch_size=60, max_epochs=40, tol=None
            ),
        ),
        ConvergenceWarning,
        ["made the head worse", "after 40 epochs of SGD", "lr=100.0", "smaller lr"],
    ),
    ("labels as a column", lambda: fit(y=Y[:, None]), DataConversionWarning, ["column-vector"]),
    (
        "a group without positives, held to demographic parity",
        lambda: held(False, s=NO_POSITIVES, fairness_weight=0.5),
        FairnessWarning,
        ["'b' has no row of class [1]"],
    ),
    (
        "a bound that is not met",
        lambda: held(
            False,
            X=np.tile(X, (2, 1)),
            y=np.tile(Y, 2),
            s=np.tile(S, 2),
            difference_bound=0.0,
            cv=0.5,
            random_state=0,
        ),
        FairnessWarning,
        ["difference_bound=0.0 was not met", "judged rows", "cv", "solver"],
    ),
    (
        "an importance where nothing is cut",
        lambda: fit(rank=None, importance="uniform"),
        UserWarning,
        ["importance='uniform' has no effect", "rank=None cuts nothing", "Set a rank"],
    ),
    (
        "weights of groups where nothing is weighted",
        lambda: fit(rank=1, importance="uniform", group_weights="proportional"),
        UserWarning,
        ["group_weights='proportional' has no effect", "importance='uniform'"],
    ),
    (
        "an importance of a head that votes",
        lambda: fit(rank=None, importance="covariance", solver="plug_in"),
        UserWarning,
        ["importance='covariance' has no effect"],
    ),
    *(
        (
            f"{name} where nothing is trained",
            lambda name=name, value=value: fit(
                constraint="demographic_parity",
                fairness_weight=0.0,
                solver=FineTune(max_epochs=0, **{name: value}),
            ),
            UserWarning,
            [f"{name} of FineTune has no effect", "max_epochs=0 trains nothing"],
        )
        for name, value in {
            "lr": 0.1,
            "early_stopping": True,
            "tol": None,
            "calibrate": False,
            "standardize": False,
        }.items()
    ),
    (
        "a share to stop by, without stopping",
        lambda: fit(solver=FineTune(validation_fraction=0.25)),
        UserWarning,
        ["validation_fraction of FineTune", "early_stopping='auto'", "early_stopping=True"],
    ),
    (
        "epochs to wait, without anything to wait for",
        lambda: fit(solver=FineTune(tol=None, n_iter_no_change=3, max_epochs=2)),
        UserWarning,
        ["n_iter_no_change of FineTune", "tol=None", "Set tol"],
    ),
    (
        "C of a head that stays as it is",
        lambda: fit(head=nn.Linear(8, 2), C=0.1, solver="closed_form"),
        UserWarning,
        ["C=0.1 has no effect", "is pre-trained", "closed_form trains nothing"],
    ),
    (
        "class weights of a head that stays as it is",
        lambda: fit(
            rank=None,
            head=nn.Linear(8, 2),
            class_weight="balanced",
            solver=FineTune(max_epochs=0),
        ),
        UserWarning,
        ["class_weight='balanced' has no effect", "FineTune(max_epochs=0) trains nothing"],
    ),
    (
        "an importance along a path that cuts nothing",
        lambda: fairness_path(
            FairLowRankHeadClassifier(
                importance="covariance", constraint="demographic_parity", solver="plug_in"
            ),
            X,
            Y,
            sensitive_features=S,
            weights=2,
            n_boot=0,
        ).classifiers[0],
        UserWarning,
        ["importance='covariance' has no effect"],
    ),
    (
        "factors in units of very different size",
        lambda: fit(X * 10.0 ** np.arange(8), solver=FineTune(standardize=False, max_epochs=2)),
        UserWarning,
        ["standardize=False", "differ in size", "Standardize the features"],
    ),
    ("an importance of zero", certain, FairnessWarning, ["zero for every feature", "certainty"]),
    (
        "not converged",
        lambda: fit(solver=FineTune(lr=1e-5, max_epochs=2)),
        ConvergenceWarning,
        ["max_epochs=2", "raise max_epochs", "tol=None"],
    ),
]


@pytest.mark.parametrize(
    ("provoke", "kind", "words"),
    [row[1:] for row in WARNINGS],
    ids=[row[0] for row in WARNINGS],
)
def test_warning(provoke, kind, words):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = provoke()
    assert [warning.category for warning in caught] == [kind]
    message = str(caught[0].message)
    assert [word for word in words if word not in message] == [], message
    assert "np.int64(" not in message
    if kind is not DataConversionWarning:  # scikit-learn's own
        assert caught[0].filename == __file__  # it names the line that called fit
    assert np.isfinite(clf.decision_function(X)).all()


class TestWorksAnyway:
    @pytest.mark.parametrize("rank", [None, 1])
    @pytest.mark.parametrize("value", [0.0, 3.0])
    @pytest.mark.parametrize("pretrained", [False, True])
    def test_a_feature_that_never_changes(self, rank, value, pretrained):
        rows = changed(X, at=(slice(None), 2), by=value)
        head = nn.Linear(8, 2) if pretrained else None
        clf = fit(rows, rank=rank, head=head)
        assert np.isfinite(clf.predict_proba(rows)).all()
        assert np.isfinite(clf.decision_function(changed(rows, at=(0, 2), by=1.0))).all()
        if not pretrained:  # then it is as if the feature were not there
            without = fit(np.delete(X, 2, axis=1), rank=rank)
            expected = without.predict_proba(np.delete(X, 2, axis=1))
            np.testing.assert_allclose(clf.predict_proba(rows), expected, atol=1e-3)

    def test_all_features_zero(self):
        with pytest.warns(FairnessWarning, match="all features are zero"):
            clf = fit(np.zeros((60, 8)))
        np.testing.assert_allclose(clf.predict_proba(X)[:, 1], Y.mean(), atol=1e-3)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_an_extractor_in_half_precision(self, dtype):
        module = nn.Sequential(nn.Linear(8, 6), nn.Tanh())
        full = fit(feature_extractor=module)
        half = fit(feature_extractor=copy.deepcopy(module).to(dtype))
        assert half.decision_function(X).dtype == np.float64
        np.testing.assert_allclose(half.predict_proba(X), full.predict_proba(X), atol=0.05)
        found = half.to_torch()(torch.from_numpy(X).to(dtype)).detach()
        np.testing.assert_allclose(found, half.decision_function(X), atol=0.05)

    def test_an_extractor_in_training_mode(self):
        module = nn.Sequential(
            nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
        ).train()
        module[1].eval()
        still = copy.deepcopy(module).eval()
        before = copy.deepcopy(module.state_dict())
        clf = fit(feature_extractor=module)
        expected = fit(feature_extractor=still).decision_function(X)
        np.testing.assert_array_equal(clf.decision_function(X), expected)
        np.testing.assert_array_equal(clf.decision_function(X), expected)
        assert [part.training for part in module.modules()] == [True, True, False, True, True, True]
        assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in module.parameters())

    def test_a_huge_and_a_tiny_scale(self):
        scale = np.logspace(-8, 8, 8)
        expected = fit().predict_proba(X)
        np.testing.assert_allclose(fit(X * scale).predict_proba(X * scale), expected, atol=1e-3)

    def test_a_failed_fit_leaves_the_parameters(self):
        clf = FairLowRankHeadClassifier(head=nn.Linear(5, 2), rank=1)
        before = clf.get_params()
        with pytest.raises(ValueError, match="takes 5 features"):
            clf.fit(X, Y, sensitive_features=S)
        assert clf.get_params() == before
        with pytest.raises(NotFittedError):
            clf.predict(X)
