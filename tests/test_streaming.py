"""Features in a mapped file: the same fit as in memory, with little of them in memory."""

import gc
import itertools
import json
import os
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from flat import flat
from oracles import logistic_objective
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EpochScoring
from torch import nn
from torch.nn import functional as F

from skfairft import FairLowRankHeadClassifier, FineTune
from skfairft.datasets import make_biased_classification
from skfairft.head.modules import head_scores
from skfairft.head.training import TensorRows, fine_tune
from skfairft.rows import mapped
from skfairft.rows.mapped import MappedFeatures, allocate_features, block_rows

N, D, BLOCK = 300, 8, 37  # 8 blocks and 4 rows

needs_maps = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux's /proc")


def map_file(X, tmp_path, mode="r"):
    np.save(tmp_path / "features.npy", X)
    return np.load(tmp_path / "features.npy", mmap_mode=mode)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", BLOCK * D)
    monkeypatch.setattr(mapped, "_RESIDENT_BYTES", 1000)


@pytest.fixture
def reads(monkeypatch):
    """Fail on every read of more rows than a block; return the sizes of the reads."""
    sizes, read = [], MappedFeatures._read

    def watched(self, rows, out):
        assert len(out) <= block_rows(self.shape[1]), "more than a block at once"
        sizes.append(len(out))
        return read(self, rows, out)

    monkeypatch.setattr(MappedFeatures, "_read", watched)
    monkeypatch.setattr(MappedFeatures, "__iter__", None, raising=False)
    monkeypatch.setattr(MappedFeatures, "__array__", None, raising=False)
    return sizes


def hidden(*after):
    layer = nn.Linear(D, 6)
    generator = torch.Generator().manual_seed(3)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=generator)
    return nn.Sequential(layer, *after)


SETTINGS = {
    "full rank": {},
    "int rank": {"rank": 1},
    "float rank": {"rank": 0.9},
    "uniform": {"rank": 1, "importance": "uniform"},
    "group weights": {"rank": 1, "group_weights": "proportional"},
    "balanced": {"class_weight": "balanced", "rank": 1},
    "untrained": {"rank": 1, "max_epochs": 0},
    "early stopping": {"rank": 1, "early_stopping": True},
    "hidden": {"head": hidden(), "rank": 2, "max_epochs": 4, "tol": None},
    "activation": {"head": hidden(nn.ReLU()), "rank": 2, "max_epochs": 4, "tol": None},
    "activation, L-BFGS": {
        "head": hidden(nn.Tanh()),
        "optimizer": torch.optim.LBFGS,
        "max_epochs": 2,
        "tol": None,
    },
    "dropout": {"head": hidden(nn.ReLU(), nn.Dropout(0.3)), "max_epochs": 3, "tol": None},
    "minibatches": {"rank": 1, "batch_size": 32, "lr": 0.01, "max_epochs": 3, "tol": None},
    "minibatches of blocks": {"rank": 1, "batch_size": 100, "max_epochs": 3, "tol": None},
    "minibatches, early stopping": {
        "rank": 1,
        "batch_size": 50,
        "early_stopping": True,
        "max_epochs": 3,
        "tol": None,
    },
}


def fit_both(X, y, s, tmp_path, w=None, **settings):
    """Fit to features in memory and to the same in a mapped file."""
    return [
        FairLowRankHeadClassifier(**flat(**settings, random_state=0)).fit(
            features, y, sample_weight=w, sensitive_features=s
        )
        for features in (X, map_file(X, tmp_path))
    ]


def assert_same(ours, theirs, X):
    for name in ("group_importance_", "importance_", "singular_values_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)
    state = theirs.head_.state_dict()
    for name, value in ours.head_.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=1e-9, atol=1e-12)
    for name in ("train_loss", "valid_loss"):
        if theirs.history_ and name in theirs.history_[0]:
            np.testing.assert_allclose(ours.history_[:, name], theirs.history_[:, name], rtol=1e-9)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)


def spread(net, X, y=None):
    """A score of predictions alone."""
    return float(np.var(net.predict_proba(X)[:, 1]))


class TestSameAsInMemory:
    @pytest.mark.parametrize(("n_classes", "dtype"), [(2, np.float32), (3, np.float64)])
    @pytest.mark.parametrize("settings", SETTINGS)
    @pytest.mark.some(2)
    def test_for_every_setting(self, settings, dtype, n_classes, tmp_path, reads):
        X, y, s = make_biased_classification(
            N, D, n_classes=n_classes, n_groups=3, disparity=0.5, random_state=0
        )
        X = X.astype(dtype)
        memory, file = fit_both(X, y, s, tmp_path, **SETTINGS[settings])
        assert_same(file, memory, X)
        assert max(reads) == BLOCK
        del reads[:]
        X = map_file(X, tmp_path)
        np.testing.assert_allclose(file.predict_proba(X), memory.predict_proba(X), rtol=1e-12)
        assert sum(reads) >= N

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_with_sample_weights(self, early_stopping, tmp_path, reads):
        X, y, s = make_biased_classification(N, D, disparity=0.5, random_state=0)
        w = np.random.default_rng(0).exponential(size=N)
        w[40:120] = 0.0  # a whole block
        settings = {"rank": 1, "early_stopping": early_stopping}
        memory, file = fit_both(X, y, s, tmp_path, w, **settings)
        assert_same(file, memory, X)
        plain = FairLowRankHeadClassifier(**flat(**settings, random_state=0))
        plain.fit(X, y, sensitive_features=s)
        assert np.abs(plain.predict_proba(X) - file.predict_proba(X)).max() > 1e-3

    def test_with_warm_start(self, tmp_path, reads):
        X, y, s = make_biased_classification(N, D, n_classes=3, random_state=0)
        both = fit_both(X, y, s, tmp_path, rank=1)
        first = both[0].predict_proba(X)
        for clf, features in zip(both, (X, map_file(X, tmp_path)), strict=True):
            clf.set_params(warm_start=True, rank=2).fit(features, y, sensitive_features=s)
        assert_same(both[1], both[0], X)
        assert np.abs(both[0].predict_proba(X) - first).max() > 1e-3

    @pytest.mark.parametrize("batch_size", [None, 16, 64])
    @pytest.mark.parametrize("use_caching", [True, False])
    def test_with_scoring_callbacks(self, batch_size, use_caching, tmp_path, reads):
        X, y, s = make_biased_classification(N, D, random_state=0)
        # Without its cache, skorch has the net predict all rows again.
        callbacks = [
            EpochScoring(spread, name="valid", use_caching=use_caching),
            EpochScoring(spread, on_train=True, name="train", use_caching=use_caching),
        ]
        memory, file = fit_both(
            X,
            y,
            s,
            tmp_path,
            rank=1,
            early_stopping=True,
            batch_size=batch_size,
            max_epochs=2,
            tol=None,
            callbacks=callbacks,
        )
        for name in ("valid", "train"):
            expected = memory.history_[:, name]
            assert min(expected) > 0
            np.testing.assert_allclose(file.history_[:, name], expected, rtol=1e-9)

    def test_after_an_interruption(self, tmp_path, reads):
        class Interrupt(Callback):
            def on_epoch_begin(self, net, **kwargs):
                if len(net.history) == 3:
                    raise KeyboardInterrupt

        X, y, s = make_biased_classification(N, D, n_classes=3, random_state=0)
        with pytest.warns(UserWarning, match="interrupted"):
            memory, file = fit_both(X, y, s, tmp_path, rank=1, callbacks=[Interrupt()])
        assert_same(file, memory, X)

    def test_of_the_net_on_its_own(self, tmp_path, reads):
        X, y, s = make_biased_classification(N, D, random_state=0)
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        found = clf.net_.predict_proba(map_file(X, tmp_path))
        np.testing.assert_allclose(found, clf.predict_proba(X), rtol=1e-9)

    @pytest.mark.parametrize("mode", ["r", "r+", "c"])
    def test_for_every_kind_of_mapping(self, mode, tmp_path, reads):
        X, y, s = make_biased_classification(N, D, random_state=0)
        changed = X.copy()
        changed[::3] += 1.0
        features = map_file(X, tmp_path, mode)
        if mode != "r":
            features[::3] += 1.0
        clf = FairLowRankHeadClassifier(rank=1).fit(features, y, sensitive_features=s)
        expected = FairLowRankHeadClassifier(rank=1)
        expected.fit(X if mode == "r" else changed, y, sensitive_features=s)
        assert_same(clf, expected, X)
        assert len(reads) > 0

    def test_for_views_of_a_mapping(self, tmp_path, reads):
        X, y, s = make_biased_classification(N, 2 * D, random_state=0)
        for view in (np.s_[50:, :D], np.s_[::-1, ::2]):
            features = map_file(X, tmp_path)[view]
            rows = view[0]
            clf = FairLowRankHeadClassifier(rank=1).fit(
                features, y[rows], sensitive_features=s[rows]
            )
            expected = FairLowRankHeadClassifier(rank=1)
            expected.fit(X[view], y[rows], sensitive_features=s[rows])
            assert_same(clf, expected, X[view])


class TestValidation:
    def errors(self, X, tmp_path):
        """The errors for features in memory and in a mapped file, in fit and in predict."""
        _, y, s = make_biased_classification(N, D, random_state=0)
        good, _, _ = make_biased_classification(N, D, random_state=0)
        found = []
        for features in (X, map_file(X, tmp_path)):
            clf = FairLowRankHeadClassifier(rank=1)
            with pytest.raises(ValueError) as in_fit:  # noqa: PT011
                clf.fit(features, y, sensitive_features=s)
            with pytest.raises(ValueError) as in_predict:  # noqa: PT011
                clf.fit(good, y, sensitive_features=s).predict(features)
            found.append((str(in_fit.value), str(in_predict.value)))
        return found

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("row", [0, BLOCK, N - 1])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.some(2)
    def test_of_finiteness_says_the_same(self, value, row, dtype, tmp_path):
        X, _, _ = make_biased_classification(N, D, random_state=0)
        X = X.astype(dtype)
        X[row, 3] = value
        memory, file = self.errors(X, tmp_path)
        assert file == memory
        assert ("NaN" if np.isnan(value) else "infinity") in file[0]

    def test_of_the_number_of_features_says_the_same(self, tmp_path):
        X, y, s = make_biased_classification(N, D, random_state=0)
        clf = FairLowRankHeadClassifier(rank=1)
        clf.fit(map_file(X, tmp_path), y, sensitive_features=s)
        assert clf.n_features_in_ == D
        messages = []
        for features in (X[:, 1:], map_file(X[:, 1:], tmp_path)):
            with pytest.raises(ValueError, match=r"7 features.* 8 features") as caught:
                clf.predict(features)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]

    @pytest.mark.parametrize("shape", [(N * D,), (N, 2, D // 2)])
    def test_of_the_dimensions_says_the_same(self, shape, tmp_path):
        X, _, _ = make_biased_classification(N, D, random_state=0)
        memory, file = self.errors(X.reshape(shape), tmp_path)
        for ours, theirs in zip(file, memory, strict=True):
            # The first line; the others may hold the array's repr.
            assert ours.splitlines()[0] == theirs.splitlines()[0]

    @pytest.mark.parametrize("dtype", [np.int64, np.float16, bool])
    def test_other_dtypes_are_converted_in_memory(self, dtype, tmp_path):
        X, y, s = make_biased_classification(N, D, random_state=0)
        X = (10 * X).astype(dtype)
        memory, file = fit_both(X, y, s, tmp_path, rank=1)
        assert_same(file, memory, X)


def make_net(Z, y, w, head, n_classes, l2):
    return fine_tune(
        head,
        TensorRows(Z, y, w),
        None,
        n_classes=n_classes,
        l2=l2,
        optimizer=None,
        optimizer_kwargs=None,
        lr=None,
        weight_decay=0.0,
        batch_size=None,
        max_epochs=0,
        tol=None,
        patience=5,
        callbacks=None,
        device=torch.device("cpu"),
        seed=0,
        verbose=0,
    )


class TestBlocksAddUp:
    @pytest.mark.parametrize("rows", [1, 7, BLOCK, N - 1, N])
    @pytest.mark.parametrize("tail", [False, True])
    @pytest.mark.some(2)
    def test_to_the_loss_and_gradient_of_all_rows(self, rows, tail, monkeypatch, tmp_path):
        X, y, s = make_biased_classification(N, D, n_classes=3, random_state=0)
        w = np.random.default_rng(0).exponential(size=N)
        clf = FairLowRankHeadClassifier(
            head=hidden(nn.Tanh()) if tail else None,
            rank=2,
            solver=FineTune(max_epochs=1, tol=None),
        ).fit(X, y, sensitive_features=s)
        module = clf.net_.module_
        Z, labels = torch.from_numpy(X), torch.from_numpy(y)
        weights = torch.from_numpy(w / w.mean())
        net = make_net(Z, labels, weights, module, 3, l2=0.3)
        each = F.cross_entropy(module(Z), labels, reduction="none")
        expected = (weights * each).mean() + 0.15 * module.squared_norm()
        oracle = torch.autograd.grad(expected, list(module.parameters()))
        monkeypatch.setattr(mapped, "_BLOCK_ROWS", rows)
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", N * D)
        for features in (Z, MappedFeatures(map_file(X, tmp_path))):
            net.module_.zero_grad()
            ((inputs, target),) = list(net.get_iterator(TensorRows(features, labels, weights)))
            step = net.train_step_single((inputs, target))
            assert step["loss"].item() == pytest.approx(expected.item(), rel=1e-13)
            torch.testing.assert_close(
                step["y_pred"].detach(), module(Z).detach(), rtol=1e-11, atol=1e-12
            )
            for parameter, gradient in zip(module.parameters(), oracle, strict=True):
                torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-13)
            # Of several blocks no graph is held.
            assert step["y_pred"].requires_grad == (rows == N)
            # Without training: no penalty, and no gradient.
            step = net.validation_step((inputs, target))
            assert step["loss"].item() == pytest.approx((weights * each).mean().item(), rel=1e-13)
            assert not step["y_pred"].requires_grad

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_the_fit_minimizes_the_objective_over_all_rows(self, n_classes, tmp_path):
        """A slow, obvious gradient in float64 at the end of a fit from a file."""
        X, y, s = make_biased_classification(N, D, n_classes=n_classes, random_state=0)
        clf = FairLowRankHeadClassifier(solver=FineTune(tol=1e-10))
        clf.fit(map_file(X, tmp_path), y, sensitive_features=s)
        scaler = StandardScaler().fit(X)
        weight, bias = clf.head_.weight.detach().numpy(), clf.head_.bias.detach().numpy()
        coef = weight.T * scaler.scale_
        intercept = bias + scaler.mean_ @ weight
        if n_classes == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]

        def loss(coef, intercept):
            args = scaler.transform(X), y, np.ones(N), 1.0
            return logistic_objective(coef, intercept, *args) / N

        for i, j in itertools.product(range(len(coef)), range(D)):
            step = np.zeros_like(coef)
            step[i, j] = 1e-4
            slope = (loss(coef + step, intercept) - loss(coef - step, intercept)) / 2e-4
            assert abs(slope) < 1e-5
        # Control: elsewhere the slope shows.
        step = np.zeros_like(coef)
        step[0, 0] = 1e-4
        assert abs(loss(1.1 * coef + step, intercept) - loss(1.1 * coef - step, intercept)) > 2e-7


class TestWhatIsLeftBehind:
    @pytest.mark.parametrize(
        "settings", ["int rank", "early stopping", "minibatches", "activation"]
    )
    def test_the_features_are_gone_when_the_user_lets_go(self, settings, tmp_path):
        X, y, s = make_biased_classification(N, D, random_state=0)
        features = allocate_features(X.shape, X.dtype, limit=0, folder=tmp_path)
        features[:] = X
        gone = weakref.ref(features)
        callbacks = [
            EpochScoring("accuracy", lower_is_better=False, on_train=True),
            EpochScoring(spread, on_train=True, name="train", use_caching=False),
        ]
        clf = FairLowRankHeadClassifier(
            **flat(**SETTINGS[settings], solver=FineTune(callbacks=callbacks), random_state=0)
        )
        clf.fit(features, y, sensitive_features=s)
        clf.predict(features)
        assert np.array_equal(features, X)
        del features
        gc.collect()
        assert gone() is None
        assert len(pickle.dumps(clf)) < 60_000

    @needs_maps
    def test_disk_space_is_freed_after_the_fit(self, tmp_path):
        def mapped_bytes():
            total = 0
            with open("/proc/self/maps") as maps:
                for line in maps:
                    if str(tmp_path) in line:
                        low, high = (int(end, 16) for end in line.split()[0].split("-"))
                        total += high - low
            return total

        X, y, s = make_biased_classification(N, D, random_state=0)
        features = allocate_features(X.shape, X.dtype, limit=0, folder=tmp_path)
        features[:] = X
        assert mapped_bytes() >= X.nbytes
        clf = FairLowRankHeadClassifier(rank=1, solver=FineTune(early_stopping=True))
        clf.fit(features, y, sensitive_features=s)
        del features
        gc.collect()
        assert mapped_bytes() == 0
        assert clf.predict(X).shape == (N,)

    def test_outputs_of_a_hidden_layer_are_gone_too(self, tmp_path, monkeypatch):
        X, y, s = make_biased_classification(N, D, random_state=0)
        monkeypatch.setattr("skfairft.head.start._HIDDEN_BYTES", 0)
        monkeypatch.setattr(mapped.tempfile, "gettempdir", lambda: str(tmp_path))
        made, allocate = [], mapped.allocate_features

        def watched(*args, **kwargs):
            array = allocate(*args, **kwargs)
            made.append(weakref.ref(array))
            return array

        monkeypatch.setattr("skfairft.head.start.allocate_features", watched)
        clf = FairLowRankHeadClassifier(**flat(**SETTINGS["activation"], random_state=0))
        file = clf.fit(map_file(X, tmp_path), y, sensitive_features=s)
        gc.collect()
        assert len(made) == 2
        assert all(gone() is None for gone in made)
        monkeypatch.undo()
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", BLOCK * D)
        memory = FairLowRankHeadClassifier(**flat(**SETTINGS["activation"], random_state=0))
        assert_same(file, memory.fit(X, y, sensitive_features=s), X)


def test_scores_of_no_rows():
    clf = FairLowRankHeadClassifier(rank=1)
    X, y, s = make_biased_classification(N, D, random_state=0)
    clf.fit(X, y, sensitive_features=s)
    assert head_scores(clf.head_, torch.ones(0, D)).shape == (0, 2)


MEMORY_SCRIPT = """
import json, sys
import numpy as np
from skfairft import FairLowRankHeadClassifier, FineTune

def status(name):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

def growth(function, *args, **kwargs):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is the present from now on
    before = status("VmRSS")
    function(*args, **kwargs)
    return status("VmHWM") - before

def fit(X, **settings):
    rng = np.random.default_rng(0)
    y, s = rng.integers(2, size=(2, len(X)))
    solver = FineTune(max_epochs=1, tol=None, **settings)
    # A strong penalty: few passes of the first head.
    clf = FairLowRankHeadClassifier(rank=1, solver=solver, C=1e-5, random_state=0)
    clf.fit(X, y, sensitive_features=s)
    clf.predict_proba(X)

fit(np.random.default_rng(0).normal(size=(600, 512)))
X = np.load(sys.argv[1], mmap_mode="r")
full = growth(fit, X)
batches = growth(fit, X, batch_size=1024, early_stopping=True)
# Control: were the pages to stay resident, it would show.
print(json.dumps([full, batches, growth(X.sum)]))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.slow
def test_resident_memory_stays_far_below_the_size_of_the_features(tmp_path):
    rows, width, limit = 70_000, 512, 70e6
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (rows, width))
    block = np.random.default_rng(0).normal(size=(10_000, width))
    for start in range(0, rows, 10_000):
        X[start : start + 10_000] = block + 1e-3 * start
    assert X.nbytes > 2 * limit
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(tmp_path / "X.npy")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    full, batches, control = json.loads(done.stdout)
    assert full < limit
    assert batches < limit
    assert control > 0.9 * X.nbytes
