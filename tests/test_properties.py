"""Properties over shapes, dtypes, groups, weights, solvers and parameters, drawn at random.

A few examples of each in the suite, the same in each run; thousands with ``-m slow``, others each
time. `strategies` says what is drawn.
"""

import copy
import pickle
import tempfile
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from hypothesis import HealthCheck, configuration, given, reject, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from strategies import (
    CONSTRAINTS,
    LINEAR,
    any_params,
    any_rows,
    arguments,
    classifier,
    direct_params,
    made,
    plain_rows,
    powers,
)

import skfairft
from skfairft import FairnessWarning, load
from skfairft.fitting import features_of
from skfairft.head.modules import split_tail
from skfairft.head.optimization import Optimization, resolve_optimizer
from skfairft.lowrank.factorization import neutralize, parity_svd, resolve_rank
from skfairft.rows.hold_out import hold_out
from skfairft.solvers.rule import votes

# Hypothesis keeps what it reads from modules in a folder: not in that of the repository.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")

_SETTINGS = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
_THOUSANDS = settings(max_examples=3000, derandomize=False, **_SETTINGS)

# Who may refuse: this package, and scikit-learn's checks of parameters and data.
_OWN = str(Path(skfairft.__file__).parent)
_CHECKS = str(Path(sklearn.__file__).parent)
_HERE = str(Path(__file__).parent)


def property_of(*drawn, examples):
    """Make a test of a body: some examples in the suite, thousands in the slow run."""
    few = settings(max_examples=examples, derandomize=True, **_SETTINGS)

    def decorate(body):
        @pytest.mark.parametrize(
            "profile",
            [
                pytest.param(few, id="few"),
                pytest.param(_THOUSANDS, id="thousands", marks=pytest.mark.slow),
            ],
        )
        def test(profile):
            profile(given(*drawn)(body))()

        test.__doc__, test.body, test.drawn = body.__doc__, body, drawn
        return test

    return decorate


@contextmanager
def only_own_warnings():
    """Refuse warnings but for those by which the package speaks to its user."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for one in caught:
        own = issubclass(one.category, (FairnessWarning, ConvergenceWarning))
        # Those of the package point to the line of its user; torch's are UserWarnings, too.
        own |= one.category is UserWarning and one.filename.startswith(_HERE)
        assert own, f"{one.category.__name__} in {one.filename}:{one.lineno}: {one.message}"


def documented(error):
    """Tell whether an error is one of those that are documented, raised where that is checked."""
    if not isinstance(error, (ValueError, TypeError)) or isinstance(error, np.linalg.LinAlgError):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return last.startswith((_OWN, _CHECKS)) and len(str(error)) > 30


def fitted(clf, X, y, s, w):
    """Fit, and return whether that went well; what goes wrong must be documented."""
    with only_own_warnings():
        try:
            clf.fit(X, y, sensitive_features=s, sample_weight=w)
        except (ValueError, TypeError) as error:
            if not documented(error):
                raise
            return False
    return True


def same(a, b):
    """Compare two data sets value by value, NaN with NaN."""
    a, b = (x.double() if isinstance(x, torch.Tensor) else x for x in (a, b))
    return repr(np.asarray(a).tolist()) == repr(np.asarray(b).tolist())


def check_predictions(clf, X, y):
    """What predictions must be, whatever was fitted."""
    with only_own_warnings():
        p, log_p, scores = clf.predict_proba(X), clf.predict_log_proba(X), clf.decision_function(X)
        predicted = clf.predict(X)
    k = len(clf.classes_)
    assert p.shape == log_p.shape == (len(y), k)
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    assert np.isfinite(log_p).all()
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-9, atol=1e-300)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(clf.classes_, np.unique(y))
    # Not argmax: probabilities may be equal where scores are not.
    chosen = p[np.arange(len(y)), np.searchsorted(clf.classes_, predicted)]
    np.testing.assert_array_equal(chosen, p.max(axis=1))
    assert scores.shape == ((len(y),) if k == 2 else (len(y), k))


@property_of(any_rows(), any_params(), examples=40)
def test_a_fit_works_or_says_why_not(rows, params):
    X, y, s, w = made(rows)
    before = copy.deepcopy((X, y, s, w))
    state, seed = repr(np.random.mtrand._rand.__getstate__()), torch.get_rng_state()
    clf = classifier(params, rows.d)
    if not fitted(clf, X, y, s, w):
        assert not hasattr(clf, "head_")
        return
    assert all(same(*pair) for pair in zip(before, (X, y, s, w), strict=True))
    assert repr(np.random.mtrand._rand.__getstate__()) == state
    assert torch.equal(torch.get_rng_state(), seed)
    check_predictions(clf, X, y)
    assert clf.n_features_in_ == rows.d
    assert clf.n_iter_ <= params["max_epochs"]
    assert np.isfinite(clf.importance_).all()
    assert np.isfinite(clf.group_importance_).all()
    assert (clf.importance_ > 0).all()
    assert (np.diff(clf.singular_values_) <= 0).all()
    assert 1 <= clf.rank_ <= len(clf.singular_values_)
    assert 0.0 <= clf.fairness_weight_ <= 1.0
    if rows.dtype in ("float64", "list"):
        with only_own_warnings():
            try:
                far = clf.predict_proba(np.asarray(X) * 10.0**9)
            except ValueError as error:
                if not documented(error):
                    raise
            else:
                assert np.isfinite(far).all()
    again = clone(clf)
    assert fitted(again, X, y, s, w)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    with tempfile.TemporaryDirectory() as folder:
        with only_own_warnings():
            clf.save(folder)
        found = load(folder)
    np.testing.assert_array_equal(found.predict_proba(X), clf.predict_proba(X))
    assert same(found.groups_, clf.groups_)


@property_of(any_rows(), any_params(bad=False), examples=10)
def test_rows_are_predicted_one_by_one(rows, params):
    """Neither the other rows nor the way through torch count."""
    X, y, s, w = made(rows)
    clf = classifier(params, rows.d)
    if not fitted(clf, X, y, s, w):
        return
    p, scores = clf.predict_proba(X), clf.decision_function(X)
    few = slice(len(y) // 2, len(y) // 2 + 1)
    part = X.iloc[few] if hasattr(X, "iloc") else X[few]
    # A sum of d terms rounds by their size, which is not that of the sum.
    Z = torch.from_numpy(np.asarray(features_of(clf, X)[:]).astype(np.float64))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), p)
    assert clf._repr_html_()
    with torch.no_grad():
        deployed, first = clf.to_torch()(Z).numpy(), next(split_tail(clf.head_)[0].parameters())
        size = float((Z.abs() @ first.abs()).max())
    if size < 1e3:
        np.testing.assert_allclose(clf.predict_proba(part), p[few], rtol=0, atol=1e-9)
    largest = max(size, np.abs(scores).max())
    np.testing.assert_allclose(deployed, scores, rtol=1e-9, atol=1e-9 * largest)


def distance(one, other):
    return float(np.abs(one - other).max())


def proba(params, X, y, s, w):
    """Return the probabilities of a fit, which must go well."""
    clf = classifier(params, X.shape[1])
    with only_own_warnings(), units_within_bounds(params):
        clf.fit(X, y, sensitive_features=s, sample_weight=w)
    return clf.predict_proba(X)


@contextmanager
def units_within_bounds(params):
    """Leave out columns in units of 1e9 times the others', which a plain SVD cannot bridge."""
    try:
        yield
    except ValueError as error:
        if params.get("importance") != "uniform" or "units are too different" not in str(error):
            raise
        reject()


@st.composite
def direct(draw):
    rows = draw(plain_rows())
    return rows, draw(direct_params(rows.k))


# The linear head ends where no entry of the gradient is above 3e-7, and with C <= 1 the penalty
# curves the objective by 1 / n at least: that allows for 1e-4 in the worst direction. Of thousands
# none was above 2e-6.
TOLERANCE = 1e-5


@property_of(direct(), examples=8)
def test_the_order_of_the_rows_does_not_count(case):
    rows, params = case
    X, y, s, w = made(rows)
    order = np.random.default_rng(1).permutation(rows.n)
    moved = proba(params, X[order], y[order], s[order], None if w is None else w[order])
    assert distance(moved, proba(params, X, y, s, w)[order]) <= TOLERANCE


@property_of(direct(), examples=6)
def test_the_names_of_the_groups_do_not_count(case):
    rows, params = case
    X, y, s, w = made(rows)
    names = np.array(["c", "a", "b"])[s]
    assert distance(proba(params, X, y, names, w), proba(params, X, y, s, w)) <= TOLERANCE


@property_of(direct(), examples=6)
def test_the_order_of_the_labels_does_not_count(case):
    rows, params = case
    X, y, s, w = made(rows)
    turned = dict(params)
    # True positives of one of two classes are true negatives of the other.
    rates = ["true_positive_rate_parity", "false_positive_rate_parity"]
    if rows.k == 2 and params.get("constraint") in rates:
        turned["constraint"] = rates[1 - rates.index(params["constraint"])]
    moved = proba(turned, X, rows.k - 1 - y, s, w)
    assert distance(moved[:, ::-1], proba(params, X, y, s, w)) <= TOLERANCE


@property_of(direct(), examples=6)
def test_a_weight_is_that_many_rows(case):
    rows, params = case
    X, y, s, w = made(rows)
    times = np.random.default_rng(1).integers(0, 3, size=rows.n)
    times[: rows.k * rows.n_groups * 2] += 1
    once = np.ones(rows.n) if w is None else w
    several = np.repeat(np.arange(rows.n), times)
    a = proba(params, X, y, s, once * times)
    b = proba(params, X[several], y[several], s[several], once[several])
    assert distance(a[several], b) <= TOLERANCE


@property_of(direct(), st.integers(-20, 20), examples=4)
def test_the_unit_of_the_weights_is_that_of_C(case, e):
    rows, params = case
    X, y, s, w = made(rows)
    w = np.ones(rows.n) if w is None else w
    other = params | {"C": params["C"] / 2.0**e}
    assert distance(proba(params, X, y, s, w), proba(other, X, y, s, w * 2.0**e)) <= TOLERANCE


@property_of(direct(), st.integers(-40, 40), st.integers(0, 5), examples=6)
def test_the_unit_of_a_feature_does_not_count(case, e, j):
    rows, params = case
    if params["solver"] == "closed_form" and params["importance"] == "uniform":
        params = params | {"importance": "covariance"}  # by name that of the units given
    X, y, s, w = made(rows)
    other = X.copy()
    other[:, j % rows.d] *= 2.0**e
    assert distance(proba(params, X, y, s, w), proba(params, other, y, s, w)) <= TOLERANCE


@property_of(direct(), st.integers(-6, 6), st.integers(0, 5), examples=6)
def test_the_zero_of_a_feature_does_not_count(case, shift, j):
    """Of the Fisher information it does, which is that of a weight times the feature."""
    rows, params = case
    if params["solver"] == "closed_form":
        params = params | {"importance": "covariance"}
    X, y, s, w = made(rows)
    j = j % rows.d
    unit = 2.0 ** np.floor(np.log2(np.abs(X[:, j]).max() or 1.0))
    X[:, j] = np.round(X[:, j] / unit * 2**20) / 2**20 * unit  # so that the sum is exact
    other = X.copy()
    other[:, j] += shift * unit
    assert distance(proba(params, X, y, s, w), proba(params, other, y, s, w)) <= TOLERANCE


@property_of(
    plain_rows(),
    st.fixed_dictionaries(
        {
            "solver": st.sampled_from(["fine_tune", "closed_form", "plug_in"]),
            "importance": st.sampled_from(["fisher", "uniform", "covariance"]),
            "constraint": st.sampled_from(CONSTRAINTS),
            "fairness_weight": st.sampled_from([0.5, 0.8, 1.0]),
            "C": powers(-2, 2),
            "max_epochs": st.sampled_from([5, 20, 100]),
            "rank": st.sampled_from([None, 1]),
        }
    ),
    examples=10,
)
def test_groups_that_are_alike_stay_as_they_are(rows, params):
    """Each row once in each group."""
    X, y, _, w = made(rows)
    if params["solver"] == "closed_form" and params["constraint"] not in LINEAR:
        params = params | {"constraint": "equalized_odds"}
    if rows.k > 2 and params["solver"] != "plug_in":
        params = params | {"rank": None}  # of a lower one the thresholds are fitted anew
    G = rows.n_groups
    s = np.repeat(np.arange(G), rows.n)
    w = None if w is None else np.tile(w, G)
    data = np.tile(X, (G, 1)), np.tile(y, G), s, w
    free = params | {"constraint": None, "fairness_weight": None}
    held, free = proba(params, *data), proba(free, *data)
    assert distance(held, free) <= 0.03
    error, before = (np.average(p.argmax(axis=1) != data[1], weights=w) for p in (held, free))
    assert error <= before + 0.03


@property_of(
    plain_rows(),
    st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    st.sampled_from(["fisher", "uniform", "covariance"]),
    st.sampled_from([None, 1, 2]),
    examples=6,
)
def test_the_closed_form_takes_away_its_share(rows, weight, importance, rank):
    X, y, s, w = made(rows)
    params = {"solver": "closed_form", "constraint": "demographic_parity", "random_state": 0}
    params |= {"importance": importance, "rank": rank, "fairness_weight": weight}
    w = np.ones(rows.n) if w is None else w
    clf = classifier(params, rows.d)
    plain = classifier(params | {"fairness_weight": 0.0, "rank": None}, rows.d)
    with only_own_warnings():
        plain.fit(X, y, sensitive_features=s, sample_weight=w)
        with units_within_bounds(params):
            clf.fit(X, y, sensitive_features=s, sample_weight=w)
    means = np.stack(
        [np.average(X[s == g], axis=0, weights=w[s == g]) for g in range(rows.n_groups)]
    )
    D = means - np.average(X, axis=0, weights=w)
    gap, before = (np.linalg.norm(D @ m.head_.weight.detach().numpy()) for m in (clf, plain))
    # What rounding leaves of a difference of large numbers, and differences that count for none:
    # see `distinct_directions`.
    W = plain.head_.weight.detach().numpy()
    alike = 0.03 * w.size**-0.5 * np.linalg.norm(X.std(axis=0)[:, None] * W)
    slack = 1e-9 * (np.abs(X) @ np.abs(W)).max() + 3 * alike
    assert gap <= slack if weight == 1.0 else gap <= before + slack
    if rank is None or rows.k == 2:
        assert abs(gap - (1.0 - weight) * before) <= slack


@property_of(any_rows(), any_rows(), any_params(), any_params(bad=True), examples=12)
def test_a_fit_that_fails_leaves_the_one_before(rows, other, params, bad):
    X, y, s, w = made(rows)
    clf = classifier(params, rows.d)
    if not fitted(clf, X, y, s, w):
        return
    before, kept = clf.predict_proba(X), set(vars(clf))
    clf.set_params(**arguments(bad, other.d))
    try:
        again = fitted(clf, *made(other))
    except OSError:
        again = False
    if not again:
        np.testing.assert_array_equal(clf.predict_proba(X), before)
        assert set(vars(clf)) == kept


@property_of(plain_rows(), st.sampled_from(["relu", "linear", None]), st.booleans(), examples=3)
def test_training_that_breaks_off_leaves_the_fit_before(rows, head, warm_start):
    X, y, s, w = made(rows)
    params = {"max_epochs": 3, "random_state": 0, "tol": None, "warm_start": warm_start}
    params |= {"head": None if head is None else (head, 4)}
    clf = classifier(params, rows.d)
    with only_own_warnings():
        clf.fit(X, y, sensitive_features=s, sample_weight=w)
    before = clf.predict_proba(X)
    clf.set_params(**arguments(params | {"callbacks": "bomb", "max_epochs": 5}, rows.d))
    with pytest.raises(OSError, match="no space"):
        clf.fit(-X, y, sensitive_features=s, sample_weight=w)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def drawn_tensor(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@property_of(
    st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(0, 6), st.integers(0, 99)),
    st.sampled_from([0.0, 1e-6, 0.3, 0.9, 1.0 - 1e-6, 1.0]),
    st.sampled_from(["importance", "matrix"]),
    st.integers(0, 6),
    examples=10,
)
def test_the_parity_svd_leaves_the_share_it_says(shape, weight, metric, decades):
    d, k, q, seed = shape
    W, D = drawn_tensor(seed, d, k), drawn_tensor(seed + 100, d, q)
    sizes = 10.0 ** (-decades * torch.rand(d, generator=torch.Generator().manual_seed(seed)))
    C = sizes.double()
    if metric == "matrix":
        root = drawn_tensor(seed + 200, d, d) * C
        C = root.T @ root + 1e-4 * C.square().diag()
    found = parity_svd(W, C, D).at(weight)
    assert (found.S.diff() <= 0).all()
    before = float((D.T @ W).norm())
    for rank in range(1, len(found.S) + 1):
        A, B = found.factors(rank)
        left = float((D.T @ A @ B).norm())
        # The way through the metric and back costs the digits of its condition.
        slack = 1e-9 * float((D.abs().T @ A.abs() @ B.abs()).norm() + before)
        if weight == 1.0:
            assert left <= slack
    assert abs(left - (1.0 - weight) * before) <= slack


@property_of(
    st.integers(1, 6), st.integers(1, 12), st.integers(-60, 60), st.integers(0, 99), examples=5
)
def test_neutral_importance_is_between_those_of_the_groups(n_groups, d, e, seed):
    importance = drawn_tensor(seed, n_groups, d).abs() * 10.0**e
    shares = drawn_tensor(seed + 100, n_groups).abs()
    shares /= shares.sum()
    found = neutralize(importance, shares)
    assert (found >= importance.amin(dim=0) * (1 - 1e-12)).all()
    assert (found <= importance.amax(dim=0) * (1 + 1e-12)).all()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n_groups))
    torch.testing.assert_close(neutralize(importance[order], shares[order]), found)


@property_of(
    st.lists(st.integers(-30, 30), min_size=1, max_size=8),
    st.lists(st.sampled_from([1e-12, 0.1, 0.5, 0.9, 0.999, 1.0]), min_size=2, max_size=2),
    examples=5,
)
def test_more_energy_takes_no_lower_rank(exponents, shares):
    S = torch.tensor(sorted((10.0**e for e in exponents), reverse=True), dtype=torch.float64)
    low, high = (resolve_rank(share, S) for share in sorted(shares))
    assert 1 <= low <= high <= len(S)
    energy = S.square().cumsum(0) / S.square().sum()
    assert energy[high - 1] >= max(shares) * (1 - 1e-9)
    assert high == 1 or energy[high - 2] < max(shares)


@property_of(
    st.sampled_from([None, "AdamW", "SGD", "LBFGS", "Adam", "Rprop", "Adagrad", "Muon", 3, "x"]),
    st.dictionaries(
        st.sampled_from(["lr", "momentum", "betas", "weight_decay", "nope", "maximize", "params"]),
        st.sampled_from([0.0, 0.5, -1.0, None, "a", (0.9, 0.99), float("nan")]),
        max_size=2,
    ),
    st.sampled_from([None, 1e-3, 1e300]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([None, 1, 100]),
    st.booleans(),
    examples=20,
)
def test_an_optimizer_is_found_or_refused(optimizer, kwargs, lr, weight_decay, batch_size, deep):
    optimizer = arguments({"optimizer": optimizer}, 1)["solver"].optimizer
    given = dict(kwargs)
    try:
        found = resolve_optimizer(
            optimizer,
            kwargs,
            lr=lr,
            weight_decay=weight_decay,
            batch_size=batch_size,
            nonlinear=deep,
        )
    except ValueError as error:
        if not documented(error):
            raise
    else:
        assert isinstance(found, Optimization)
        assert lr is None or found.lr == lr
        assert weight_decay == 0 or found.settings["weight_decay"] == weight_decay
        assert batch_size is None or found.rows_per_step(1000) == batch_size
    assert repr(kwargs) == repr(given)


@property_of(
    st.integers(1, 6), st.integers(2, 5), st.integers(-12, 12), st.integers(0, 99), examples=5
)
def test_votes_are_shares_in_the_order_of_the_scores(c, k, e, seed):
    scores = torch.eye(k).double().repeat(c, 1) + 10.0**e * drawn_tensor(seed, c * k, k)
    found = votes(scores)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(c * k).double())
    p = drawn_tensor(seed + 100, 50, c * k).abs()
    score, vote = p @ scores, p @ found
    clear = score.topk(2, dim=1).values.diff(dim=1).abs()[:, 0] > 1e-9 * score.abs().amax()
    assert torch.equal(score.argmax(dim=1)[clear], vote.argmax(dim=1)[clear])


@property_of(
    st.lists(st.integers(0, 5), min_size=2, max_size=60),
    st.integers(1, 9),
    st.integers(0, 99),
    examples=5,
)
def test_of_held_out_rows_one_of_each_cell_is_left(cells, tenths, seed):
    cells, w = np.array(cells), np.random.default_rng(seed).integers(0, 3, size=len(cells))
    try:
        rows = hold_out(cells, w * 1.0, tenths / 10, np.random.RandomState(seed))
    except ValueError as error:
        if not documented(error):
            raise
        assert len(np.unique(cells[w > 0])) == (w > 0).sum()
        return
    rest = np.delete(np.arange(len(cells)), rows)
    assert len(rows) == len(set(rows))
    assert (w[rows] > 0).all()
    assert set(cells[w > 0]) == set(cells[rest][w[rest] > 0])
