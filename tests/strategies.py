"""What the properties draw: rows of any shape, dtype and degeneracy, and parameters.

A strategy draws words and small whole numbers, of which `made` and `classifier` make arrays and
modules: so a failure prints something that can be read and run again. Small whole numbers, too,
because of others Hypothesis tries constants that it finds in the modules that happen to be
imported, and the examples would depend on what ran before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from flat import OF_TRAINING, flat
from hypothesis import strategies as st
from skorch.callbacks import Callback
from torch import nn

from skfairft import FairLowRankHeadClassifier

CONSTRAINTS = (
    "demographic_parity",
    "true_positive_rate_parity",
    "false_positive_rate_parity",
    "equalized_odds",
    "error_rate_parity",
    "worst_group",
    "worst_error_rate",
)


@dataclass(frozen=True)
class Rows:
    """What rows are made of; see `made`."""

    n: int
    d: int
    k: int
    n_groups: int
    seed: int = 0
    layout: str = "complete"
    columns: tuple[tuple[str, int], ...] = ()
    dtype: str = "float64"
    labels: str = "numbers"
    groups: str = "numbers"
    weights: str = "none"


def cells(rows: Rows, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return codes of labels and groups."""
    n, k, n_groups = rows.n, rows.k, rows.n_groups
    if rows.layout == "complete":  # each cell has rows, if there are enough
        code = rng.permutation(np.arange(n) % (k * n_groups))
        return code // n_groups, code % n_groups
    y, s = rng.integers(k, size=n), rng.integers(n_groups, size=n)
    if rows.layout == "rare":
        y, s = np.where(rng.random(n) < 0.9, 0, y), np.where(rng.random(n) < 0.9, 0, s)
    elif rows.layout == "together":
        y = s % k
    return y, s


def features(rows: Rows, y: np.ndarray, s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return features that know a little of label and group, with the oddities of ``columns``."""
    n, d = rows.n, rows.d
    X = rng.normal(size=(n, d)) + np.outer(y, rng.normal(size=d))
    X += np.outer(s, rng.normal(size=d)) / 2
    with np.errstate(over="ignore", invalid="ignore"):
        for kind, number in rows.columns:
            j = number % d
            if kind == "constant":
                X[:, j] = number
            elif kind == "twice":
                X[:, j] = X[:, (j + 1) % d]
            elif kind == "nearly twice":
                X[:, j] = X[:, (j + 1) % d] * (1 + 1e-9 * rng.normal(size=n))
            elif kind == "zeros":
                X[:] = 0.0
            elif kind == "one line":
                X = X[:, :1] @ rng.normal(size=(1, d))
            elif kind == "scale of one":
                X[:, j] *= 10.0**number
            elif kind == "scale of all":
                X *= 10.0**number
            elif kind == "away from zero":
                X[:, j] += 10.0**number
            elif kind == "outlier":
                X[number % n, j] = 10.0**number
            elif kind == "separable":
                X[:, j] = 10.0 * y
            elif kind == "group":
                X[:, j] = s
            elif kind == "whole":
                X = np.round(X)
            elif kind == "seldom":
                X[:, j] = np.arange(n) == number % n
            elif kind == "gap":
                X[number % n, j] = np.nan
    return X


def weights(rows: Rows, rng: np.random.Generator) -> np.ndarray | list[float] | None:
    n = rows.n
    return {
        "none": lambda: None,
        "whole": lambda: rng.integers(1, 4, size=n),
        "some zero": lambda: rng.integers(0, 3, size=n),
        "narrow": lambda: rng.uniform(0.5, 2.0, size=n),
        "wide": lambda: 10.0 ** rng.uniform(-6, 6, size=n),
        "wider": lambda: 10.0 ** rng.uniform(-60, 60, size=n),
        "one heavy": lambda: np.where(np.arange(n) == n // 2, 1e9, 1.0),
        "tiny": lambda: np.full(n, 1e-90),
        "negative": lambda: np.arange(n) - 1.0,
        "short": lambda: np.ones(n - 1),
        "list": lambda: [1.0] * n,
    }[rows.weights]()


def typed(X: np.ndarray, dtype: str) -> Any:
    """Return features in the dtype and container of a name."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "list":
            return X.tolist()
        if dtype == "frame":
            return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
        if dtype == "mixed frame":
            kinds = ["float32", "bool", "Float64"]
            return pd.DataFrame(
                {f"x{j}": pd.Series(X[:, j]).astype(kinds[j % 3]) for j in range(X.shape[1])}
            )
        if dtype.startswith("torch."):
            return torch.from_numpy(X).to(getattr(torch, dtype.removeprefix("torch.")))
        if dtype == "fortran":
            return np.asfortranarray(X)
        if dtype == "big endian":
            return X.astype(">f8")
        if dtype in ("int8", "int64"):
            limit = {"int8": 127, "int64": 2.0**62}[dtype]
            return np.clip(np.nan_to_num(X), -limit, limit).astype(dtype)
        return X.astype(dtype)


def spelled_labels(y: np.ndarray, how: str) -> np.ndarray:
    names = {
        "numbers": np.arange(6),
        "other numbers": np.array([7, -3, 0, 12, 5, -8]),
        "words": np.array(["no", "yes", "maybe", "never", "b", "a"]),
        "floats": np.array([0.0, 1.0, 2.0, 3.0, -1.0, -2.0]),
        "objects": np.array(["no", "yes", "maybe", "never", "b", "a"], dtype=object),
        "truth": np.array([False, True]),
    }[how]
    return names[y % len(names)]


def spelled_groups(s: np.ndarray, how: str) -> Any:
    names = np.array(["m", "f", "x", "other", "b", "a"])
    return {
        "numbers": lambda: s,
        "words": lambda: names[s],
        "truth": lambda: s % 2 == 1,
        "series": lambda: pd.Series(names[s], dtype="category"),
        "two columns": lambda: np.column_stack([s % 2, s // 2]),
        "frame": lambda: pd.DataFrame({"sex": names[s % 2], "old": s // 2}),
        "none": lambda: None,
        "gap": lambda: np.where(np.arange(len(s)) == 0, np.nan, s),
    }[how]()


def made(rows: Rows) -> tuple[Any, np.ndarray, Any, Any]:
    """Return X, y, sensitive_features and sample_weight."""
    rng = np.random.default_rng(rows.seed)
    y, s = cells(rows, rng)
    X = typed(features(rows, y, s, rng), rows.dtype)
    return X, spelled_labels(y, rows.labels), spelled_groups(s, rows.groups), weights(rows, rng)


class Bomb(Callback):
    """Ends the training with an error of its own."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) == 2:
            raise OSError("no space left")


def head_of(how: tuple[str, int] | None, d: int) -> nn.Module | None:
    """Return a head by its kind and width, with weights that do not depend on what ran before."""
    if how is None:
        return None
    kind, width = how
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(width)
        linear = nn.Linear(d + (kind == "wrong"), width, bias=kind != "no bias")
    if kind == "not finite":
        nn.init.constant_(linear.weight, math.nan)
    if kind == "zero":
        nn.init.zeros_(linear.weight)
    if kind == "double":
        linear = linear.double()
    after = {
        "relu": [nn.ReLU()],
        "tanh": [nn.Tanh(), nn.Identity()],
        "dropout": [nn.ReLU(), nn.Dropout(0.2)],
        "sigmoid": [nn.Sigmoid()],
        "norm": [nn.BatchNorm1d(width)],
    }.get(kind)
    return linear if after is None else nn.Sequential(linear, *after)


# Those that the closed form can hold.
LINEAR = CONSTRAINTS[:4]


def classifier(params: dict[str, Any], d: int) -> FairLowRankHeadClassifier:
    """Return the classifier of drawn parameters for d features."""
    return FairLowRankHeadClassifier(**arguments(params, d))


def arguments(params: dict[str, Any], d: int) -> dict[str, Any]:
    """Return drawn parameters with the modules and classes that their words stand for."""
    params = dict(params)
    if isinstance(params.get("head"), tuple):
        params["head"] = head_of(params["head"], d)
    if params.get("optimizer") in ("AdamW", "SGD", "LBFGS", "Adam", "Rprop", "Adagrad"):
        params["optimizer"] = getattr(torch.optim, params["optimizer"])
    if params.get("callbacks") == "bomb":
        params["callbacks"] = [Bomb()]
    return flat(**params)


def powers(least: int, most: int) -> st.SearchStrategy[float]:
    return st.integers(least, most).map(lambda e: 10.0**e)


_ODDITIES = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                "constant",
                "twice",
                "nearly twice",
                "zeros",
                "one line",
                "separable",
                "group",
                "whole",
                "seldom",
            ]
        ),
        st.integers(0, 11),
    ),
    st.tuples(
        st.sampled_from(["scale of one", "scale of all", "away from zero", "outlier"]),
        st.one_of(st.integers(-8, 8), st.integers(-30, 30)),
    ),
    st.tuples(
        st.sampled_from(["scale of one", "scale of all", "away from zero", "outlier"]),
        st.sampled_from([-300, -160, -101, -99, -60, -45, -39, 37, 45, 60, 76, 99, 101, 160, 300]),
    ),
)

_DTYPES = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int8",
    "bool",
    "list",
    "frame",
    "mixed frame",
    "fortran",
    "big endian",
    "torch.float32",
    "torch.float64",
    "torch.float16",
    "torch.bfloat16",
    "torch.int64",
]


@st.composite
def any_rows(draw: Any) -> Rows:
    """Draw rows of any kind; some of them no classifier could take."""
    n_groups = draw(st.sampled_from([2, 2, 2, 3, 3, 1, 4, 5, 6, 2]))
    truth = ["truth"] if n_groups <= 2 else []
    rows = Rows(
        n=draw(st.one_of(st.integers(16, 60), st.integers(2, 20), st.integers(40, 150))),
        d=draw(st.one_of(st.integers(1, 3), st.integers(1, 12))),
        k=draw(st.sampled_from([2, 2, 2, 3, 4, 5])),
        n_groups=n_groups,
        seed=draw(st.integers(0, 99)),
        layout=draw(st.sampled_from([*["complete"] * 5, "random", "random", "rare", "together"])),
        columns=tuple(draw(st.lists(_ODDITIES, max_size=3))),
        dtype=draw(st.sampled_from(_DTYPES)),
        labels=draw(st.sampled_from(["numbers", "other numbers", "words", "floats", "objects"])),
        groups=draw(
            st.sampled_from(["numbers", "words", "series", "two columns", "frame", *truth])
        ),
        weights=draw(
            st.sampled_from(
                ["none", "none", "list", "whole", "some zero", "wide", "wider", "one heavy", "tiny"]
            )
        ),
    )
    bad = draw(st.integers(0, 40))
    changes: dict[int, dict[str, Any]] = {  # none at the ends, which are drawn more often
        7: {"columns": (*rows.columns, ("gap", 0)), "dtype": "float32"},
        8: {"groups": "gap"},
        9: {"groups": "none"},
        10: {"weights": "negative"},
        11: {"weights": "short"},
    }
    rows = replace(rows, **changes.get(bad, {}))
    return rows


@st.composite
def plain_rows(draw: Any) -> Rows:
    """Draw rows with some of each cell, of ordinary sizes, whose features may be redundant."""
    oddities = st.one_of(
        st.tuples(st.sampled_from(["constant", "twice", "one line", "whole"]), st.integers(0, 5)),
        st.tuples(st.just("scale of one"), st.integers(-6, 6)),
    )
    return Rows(
        n=draw(st.integers(24, 90)),
        d=draw(st.integers(1, 6)),
        k=draw(st.integers(2, 3)),
        n_groups=draw(st.integers(2, 3)),
        seed=draw(st.integers(0, 99)),
        columns=tuple(draw(st.lists(oddities, max_size=2))),
        weights=draw(st.sampled_from(["none", "whole", "narrow"])),
    )


_BAD = [
    {"fairness_weight": 1.5},
    {"fairness_weight": math.nan},
    {"difference_bound": 3.0},
    {"difference_bound": 0.1},
    {"rank": 0},
    {"rank": 1.5},
    {"rank": "2"},
    {"rank": math.nan},
    {"C": 0.0},
    {"C": math.nan},
    {"constraint": "parity"},
    {"constraint": "equalized_odds"},
    {"solver": "svd"},
    {"importance": "fisherman"},
    {"group_weights": [1.0]},
    {"group_weights": {"nobody": 1.0}},
    {"group_weights": [0.0] * 4},
    {"group_weights": "equal"},
    {"class_weight": {99: 1.0}},
    {"class_weight": {0: 0.0, 1: 1.0}},
    {"max_epochs": -1},
    {"max_epochs": 1.5},
    {"lr": 0.0},
    {"lr": 1e300},
    {"lr": math.inf},
    {"lr": 1e6, "optimizer": "SGD"},
    {"lr": 1e30, "optimizer": "AdamW"},
    {"batch_size": 0},
    {"optimizer": "Adam?"},
    {"optimizer_kwargs": {"nope": 1}},
    {"optimizer_kwargs": {"lr": 1.0}, "lr": 1.0},
    {"weight_decay": 0.1, "optimizer": "LBFGS"},
    {"weight_decay": 1e300, "optimizer": "SGD"},
    {"tol": -1.0},
    {"n_iter_no_change": 0},
    {"validation_fraction": 1.0},
    {"early_stopping": "yes"},
    {"callbacks": ["bell"]},
    {"device": "abacus"},
    {"random_state": "seed"},
    {"head": ("wrong", 2)},
    {"head": ("not finite", 2)},
    {"head": ("norm", 3)},
    {"warm_start": True, "solver": "closed_form"},
    {"calibrate": False, "constraint": None, "solver": "fine_tune"},
    {"constraint": "error_rate_parity", "fairness_weight": 0.5, "solver": "closed_form"},
    {"max_epochs": 0, "lr": 0.1, "solver": "fine_tune"},
    {"constraint": None, "fairness_weight": 0.5},
]


@st.composite
def any_params(draw: Any, bad: bool | None = None) -> dict[str, Any]:
    """Draw parameters: mostly such as go together, sometimes one that does not."""

    def choose(*values: Any) -> Any:
        return draw(st.sampled_from(values))

    params: dict[str, Any] = {
        "solver": choose("fine_tune", "closed_form", "plug_in"),
        "constraint": choose(None, *CONSTRAINTS),
        "random_state": draw(st.integers(0, 3)),
    }
    if params["solver"] == "closed_form" and params["constraint"] not in (None, *LINEAR):
        params["constraint"] = "equalized_odds"
    if params["constraint"] is not None:
        if draw(st.integers(0, 8)) != 4:
            params["fairness_weight"] = choose(0.0, 1e-9, 0.3, 0.5, 0.8, 1.0 - 1e-9, 1.0)
        else:
            params["difference_bound"] = choose(0.0, 0.05, 0.3, 0.99)
            params["cv"] = choose(0.1, 0.3, 0.5, 2, 3)
            params["confidence"] = choose(None, 0.5, 0.95)
    optional: dict[str, Any] = {
        "rank": st.sampled_from([1, 2, 3, 20, 0.3, 0.9, 1.0, 1e-12]),
        "importance": st.sampled_from(["uniform", "covariance"]),
        "group_weights": st.just("proportional"),
        "C": st.one_of(powers(-4, 4), st.sampled_from([math.inf, 1e-30, 1e30])),
        "class_weight": st.just("balanced"),
        "max_epochs": st.sampled_from([0, 1, 5]),
        "lr": powers(-6, 1),
        "batch_size": st.sampled_from([1, 7, 64, 1000]),
        "optimizer": st.sampled_from(["AdamW", "SGD", "LBFGS", "Adam", "Rprop", "Adagrad"]),
        "weight_decay": st.sampled_from([0.01, 10.0]),
        "early_stopping": st.booleans(),
        "tol": st.sampled_from([None, 0.0, 0.1]),
        "n_iter_no_change": st.sampled_from([1, 3]),
        "head": st.tuples(
            st.sampled_from(
                ["linear", "no bias", "zero", "double", "relu", "tanh", "dropout", "sigmoid"]
            ),
            st.integers(1, 6),
        ),
        "warm_start": st.just(True),
        "calibrate": st.just(False),
    }
    named = draw(st.lists(st.sampled_from(sorted(optional)), unique=True, max_size=6))
    params |= {name: draw(optional[name]) for name in named}
    if params["solver"] == "closed_form":
        params.pop("warm_start", None)
    if params["solver"] != "fine_tune" or params["constraint"] is None:
        params.pop("calibrate", None)
    if params.get("tol", 1.0) is None and not params.get("early_stopping"):
        params.pop("n_iter_no_change", None)
    if params.get("max_epochs") == 0:
        params = {name: params[name] for name in params if name not in OF_TRAINING - {"max_epochs"}}
        if params["constraint"] not in (None, *LINEAR):
            params["max_epochs"] = 5
        if params["constraint"] is not None:
            params.pop("warm_start", None)
    if params.get("optimizer", "LBFGS") == "LBFGS":
        params.pop("weight_decay", None)
    params.setdefault("max_epochs", 20)
    spoil = draw(st.integers(0, 20)) == 7 if bad is None else bad
    if not spoil:
        return params
    wrong = draw(st.sampled_from(_BAD))
    return params | ({"solver": "fine_tune"} if wrong.keys() & OF_TRAINING else {}) | wrong


@st.composite
def direct_params(draw: Any, k: int) -> dict[str, Any]:
    """Draw parameters whose head is a continuous function of the rows.

    It is the minimum of a convex objective, or computed from it: the linear head that is trained at
    full rank without a constraint, the closed form, and the head of the plug-in rule. Not the
    others: a penalty on probabilities is not convex, and neither are factors or hidden layers; a
    low rank of several classes cuts between singular values that may be equal; and of the plug-in
    rule's dual any minimum will do, where there are several.
    """

    def choose(*values: Any) -> Any:
        return draw(st.sampled_from(values))

    params: dict[str, Any] = {
        "solver": choose("fine_tune", "closed_form", "plug_in"),
        "importance": choose("fisher", "uniform", "covariance"),
        "C": draw(powers(-2, 0)),
        "max_epochs": choose(0, 1, 5, 20),
        "class_weight": choose(None, "balanced"),
        "random_state": 0,
    }
    if params["solver"] == "closed_form":
        params["constraint"] = choose(*LINEAR)
        params["fairness_weight"] = choose(0.0, 0.3, 0.8, 1.0)
        params["rank"] = choose(None, 1) if k == 2 else None
    return params
