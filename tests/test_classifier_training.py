"""How the classifier trains: reproducibly, afresh or not, with a hold-out, interrupted."""

import itertools
import random

import numpy as np
import pytest
import skorch
import torch
from flat import flat
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler
from skorch.history import History
from torch import nn

from skfairft import FairLowRankHeadClassifier, FineTune
from skfairft.datasets import make_biased_classification

# Everything that draws random numbers: hold-out, minibatches, dropout.
RANDOM = {
    "rank": 2,
    "batch_size": 32,
    "max_epochs": 3,
    "early_stopping": True,
    "tol": None,
}


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(
        300, 8, n_classes=3, n_groups=3, disparity=0.5, random_state=0
    )


# Made inside a test, where their weights are the same in each run.
HEADS = {
    "fitted": lambda: None,
    "pretrained": lambda: nn.Linear(8, 3),
    "hidden": lambda: nn.Linear(8, 5),
    "hidden in a Sequential": lambda: nn.Sequential(nn.Linear(8, 5)),
    "activation": lambda: nn.Sequential(nn.Linear(8, 5), nn.ReLU()),
    "dropout": lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Dropout(0.3)),
}


class TestRandomness:
    @pytest.mark.parametrize("head", ["fitted", "dropout"])
    def test_same_seed_same_bits(self, data, head):
        X, y, s = data
        head = HEADS[head]()
        runs = []
        for seed in (0, 0, 1):
            torch.rand(3)  # the global state is another one
            clf = FairLowRankHeadClassifier(**flat(head=head, **RANDOM, random_state=seed))
            runs.append(clf.fit(X, y, sensitive_features=s).decision_function(X))
        np.testing.assert_array_equal(runs[0], runs[1])
        assert not np.allclose(runs[0], runs[2])

    @pytest.mark.parametrize("head", ["fitted", "dropout"])
    def test_the_order_of_minibatches_follows_the_seed(self, data, head):
        X, y, s = data
        settings = {**RANDOM, "early_stopping": False, "head": HEADS[head]()}
        first, second = (
            FairLowRankHeadClassifier(**flat(**settings, random_state=seed))
            .fit(X, y, sensitive_features=s)
            .decision_function(X)
            for seed in (0, 1)
        )
        assert not np.array_equal(first, second)

    def test_the_default_training_draws_nothing(self, data):
        X, y, s = data
        runs = [
            FairLowRankHeadClassifier(rank=2, random_state=seed)
            .fit(X, y, sensitive_features=s)
            .decision_function(X)
            for seed in (None, 0, 1)
        ]
        np.testing.assert_array_equal(runs[0], runs[1])
        np.testing.assert_array_equal(runs[0], runs[2])

    def test_a_second_fit_starts_afresh(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(**flat(**RANDOM, head=HEADS["dropout"](), random_state=0))
        first = clf.fit(X, y, sensitive_features=s).decision_function(X)
        other = y[::-1].copy()
        assert not np.array_equal(
            clf.fit(X, other, sensitive_features=s).decision_function(X), first
        )
        again = clf.fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(again.decision_function(X), first)
        assert len(again.history_) == 3
        np.testing.assert_array_equal(
            clone(clf).fit(X, y, sensitive_features=s).decision_function(X), first
        )

    def test_a_random_state_object_goes_on(self, data):
        X, y, s = data
        state = np.random.RandomState(0)
        clf = FairLowRankHeadClassifier(**flat(**RANDOM, random_state=state))
        first = clf.fit(X, y, sensitive_features=s).decision_function(X)
        second = clf.fit(X, y, sensitive_features=s).decision_function(X)
        assert not np.array_equal(first, second)

    @pytest.mark.parametrize("seed", [0, None])
    @pytest.mark.parametrize("head", HEADS)
    @pytest.mark.parametrize("settings", [{"rank": 2, "max_epochs": 2, "tol": None}, RANDOM])
    @pytest.mark.some(2)
    def test_global_states_are_untouched(self, data, head, settings, seed):
        X, y, s = data
        head = HEADS[head]()
        module = nn.Sequential(nn.Linear(8, 8), nn.Dropout())
        legacy = np.random.mtrand._rand  # NumPy's global state
        before = legacy.get_state()[1].copy(), torch.get_rng_state(), random.getstate()
        clf = FairLowRankHeadClassifier(module, **flat(head=head, **settings, random_state=seed))
        clf.fit(X, y, sensitive_features=s)
        clf.predict(X)
        clf.to_torch()
        np.testing.assert_array_equal(legacy.get_state()[1], before[0])
        assert torch.equal(torch.get_rng_state(), before[1])
        assert random.getstate() == before[2]


class TestWarmStart:
    def test_goes_on_from_where_it_was(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(
            head=nn.Linear(8, 3), rank=2, solver=FineTune(max_epochs=1, tol=None), warm_start=True
        )
        losses = [clf.fit(X, y, sensitive_features=s).history_[-1]["train_loss"] for _ in range(5)]
        assert all(after < before + 1e-9 for before, after in itertools.pairwise(losses))
        # Control: without warm_start each fit is the first one again.
        clf.set_params(warm_start=False)
        assert clf.fit(X, y, sensitive_features=s).history_[0]["train_loss"] > losses[-1] + 0.01

    @pytest.mark.parametrize("head", HEADS)
    def test_untrained_it_changes_nothing(self, data, head):
        """Factorizing what has that rank already gives it back."""
        X, y, s = data
        clf = FairLowRankHeadClassifier(
            head=HEADS[head](), rank=2, solver=FineTune(max_epochs=3, tol=None)
        )
        before = clf.fit(X, y, sensitive_features=s).decision_function(X)
        clf.set_params(warm_start=True, solver=FineTune(max_epochs=0))
        after = clf.fit(X, y, sensitive_features=s).decision_function(X)
        np.testing.assert_allclose(after, before, atol=1e-9)

    def test_rank_may_change(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        loss = clf.history_[-1]["train_loss"]
        for rank in (2, None):
            clf.set_params(rank=rank, warm_start=True).fit(X, y, sensitive_features=s)
            assert (clf.head_.B is None) == (rank is None)
            # Also one that its rank-1 start cannot see: the second dimension is used.
            assert clf.history_[-1]["train_loss"] < loss - 0.01
        clf.set_params(rank=1).fit(X, y, sensitive_features=s)
        assert clf.history_[-1]["train_loss"] == pytest.approx(loss, abs=1e-4)

    def test_other_classes_or_features_are_refused(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(rank=1, warm_start=True).fit(X, y, sensitive_features=s)
        with pytest.raises(ValueError, match=r"classes \[0, 1, 2\] but y has \[0, 1\]; set warm"):
            clf.fit(X[y < 2], y[y < 2], sensitive_features=s[y < 2])
        with pytest.raises(ValueError, match="8 features but the data has 7; set warm_start=False"):
            clf.fit(X[:, :7], y, sensitive_features=s)
        clf.set_params(warm_start=False).fit(X[:, :7], y, sensitive_features=s)


class TestHoldOut:
    @pytest.mark.parametrize("head", HEADS)
    def test_is_stratified_and_used_for_nothing_else(self, head):
        X, y, s = make_biased_classification(100, 8, n_classes=3, disparity=0.6, random_state=0)
        seen = []

        class Watch(Callback):
            def on_train_begin(self, net, X=None, **kwargs):
                seen[:] = [X.Z.numpy(), net.get_split_datasets(X)[1].Z.numpy()]

        clf = FairLowRankHeadClassifier(
            head=HEADS[head](),
            rank=2,
            solver=FineTune(
                max_epochs=1,
                tol=None,
                early_stopping=True,
                validation_fraction=0.2,
                callbacks=[Watch()],
            ),
            random_state=0,
        )
        clf.fit(X, y, sensitive_features=s)
        train, held_out = (np.isin(X[:, 0], part[:, 0]) for part in seen)
        np.testing.assert_array_equal(train, ~held_out)
        assert held_out.sum() == 20
        cells = 2 * y + s
        sizes, taken = np.bincount(cells), np.bincount(cells[held_out])
        assert np.ptp(sizes) > 10
        assert np.abs(taken - 0.2 * sizes).max() <= 1

        # Poison the held-out rows: only their own loss changes.
        clean, poisoned = clone(clf), clone(clf)
        clean.fit(X, y, sensitive_features=s)
        X = X.copy()
        X[held_out] *= 1e3
        poisoned.fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(poisoned.group_importance_, clean.group_importance_)
        np.testing.assert_array_equal(poisoned.singular_values_, clean.singular_values_)
        assert poisoned.history_[-1]["train_loss"] == clean.history_[-1]["train_loss"]
        assert poisoned.history_[-1]["valid_loss"] > 10 * clean.history_[-1]["valid_loss"]
        np.testing.assert_array_equal(
            poisoned.decision_function(X[train]), clean.decision_function(X[train])
        )
        # Control: any other row matters.
        X[np.flatnonzero(train)[0]] *= 1e3
        poisoned.fit(X, y, sensitive_features=s)
        assert not np.allclose(poisoned.group_importance_, clean.group_importance_)

    def test_auto_means_with_an_activation(self, data):
        X, y, s = data
        settings = {"rank": 2, "max_epochs": 2, "tol": None}
        for name, make in HEADS.items():
            head, expected = make(), name in ("activation", "dropout")
            clf = FairLowRankHeadClassifier(**flat(head=head, **settings)).fit(
                X, y, sensitive_features=s
            )
            assert ("valid_loss" in clf.history_[-1]) == expected
            clf.set_params(solver__early_stopping=not expected).fit(X, y, sensitive_features=s)
            assert ("valid_loss" in clf.history_[-1]) != expected

    def test_keeps_the_best_epoch(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(
            head=nn.Sequential(nn.Linear(8, 64), nn.ReLU()),
            solver=FineTune(lr=0.05, validation_fraction=0.3),
            random_state=0,
        ).fit(X, y, sensitive_features=s)
        losses = clf.history_[:, "valid_loss"]
        best = int(np.argmin(losses))
        assert best < len(losses) - 1  # it went on for some epochs that did not help
        shorter = clone(clf).set_params(solver__max_epochs=best + 1, solver__tol=None)
        shorter.fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(shorter.decision_function(X), clf.decision_function(X))

    def test_many_small_cells_and_single_rows(self):
        """Any number of groups, and none of them lost to the hold-out."""
        X, y, s = make_biased_classification(
            200, 12, n_classes=5, n_groups=8, n_informative=6, random_state=0
        )
        for seed in range(5):
            clf = FairLowRankHeadClassifier(
                rank=2,
                solver=FineTune(early_stopping=True, max_epochs=1, tol=None),
                random_state=seed,
            )
            clf.fit(X, y, sensitive_features=s)
            assert len(clf.groups_) == 8
            lonely = np.where(np.arange(200) == 7, 1, 0)
            with pytest.warns(match="1 has 1 row"):
                clf.fit(X, y, sensitive_features=lonely)
            assert np.isfinite(clf.importance_).all()

    def test_rows_of_weight_zero_are_not_held_out(self, data):
        X, y, s = data
        w = (np.arange(len(X)) < 50).astype(float)
        seen = []

        class Watch(Callback):
            def on_train_begin(self, net, X=None, **kwargs):
                seen.append(net.get_split_datasets(X)[1].Z.numpy())

        clf = FairLowRankHeadClassifier(
            solver=FineTune(
                early_stopping=True,
                validation_fraction=0.2,
                max_epochs=1,
                tol=None,
                callbacks=[Watch()],
            ),
            random_state=0,
        ).fit(X, y, sample_weight=w, sensitive_features=s)
        # A fifth of those that count.
        assert np.isin(X[:, 0], seen[0][:, 0]).nonzero()[0].max() < 50
        assert len(seen[0]) == 10
        assert np.isfinite(clf.history_[-1]["valid_loss"])


class StopAt(Callback):
    """Raises KeyboardInterrupt as Ctrl-C does."""

    def __init__(self, epoch, batch=None):
        self.epoch = epoch
        self.batch = batch

    def on_epoch_end(self, net, **kwargs):
        if self.batch is None and len(net.history) == self.epoch:
            raise KeyboardInterrupt

    def on_batch_end(self, net, training=False, **kwargs):
        here = len(net.history) - 1, len(net.history[-1, "batches"])
        if training and here == (self.epoch, self.batch):
            raise KeyboardInterrupt


class TestTraining:
    @pytest.mark.parametrize("batch", [None, 2])
    def test_an_interruption_keeps_what_is_trained_and_says_so(self, data, batch):
        X, y, s = data
        settings = {
            "head": nn.Linear(8, 3),
            "rank": 2,
            "batch_size": 32,
            "tol": None,
            "random_state": 0,
        }
        clf = FairLowRankHeadClassifier(
            **flat(**settings, solver=FineTune(callbacks=[StopAt(3, batch)]))
        )
        with pytest.warns(
            UserWarning, match="interrupted; the head holds.* whole epochs"
        ) as record:
            clf.fit(X, y, sensitive_features=s)
        assert record[0].filename == __file__
        whole = len(clf.history_)
        assert whole in (2, 3)
        shorter = FairLowRankHeadClassifier(**flat(**settings, solver=FineTune(max_epochs=whole)))
        shorter.fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(clf.decision_function(X), shorter.decision_function(X))

    def test_history_and_net_are_skorch_s(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(rank=2, solver=FineTune(max_epochs=2, tol=None))
        clf.fit(X, y, sensitive_features=s)
        assert isinstance(clf.net_, skorch.NeuralNetClassifier)
        assert isinstance(clf.history_, History)
        assert len(clf.history_) == 2
        assert {"epoch", "train_loss", "dur"} <= set(clf.history_[0])
        untrained = FairLowRankHeadClassifier(rank=2, solver=FineTune(max_epochs=0))
        assert len(untrained.fit(X, y, sensitive_features=s).history_) == 0
        # The net holds the same head, in standardized features.
        with torch.no_grad():
            found = clf.net_.module_.cpu()(torch.from_numpy(X).to(clf.net_.module_.head.A.dtype))
        np.testing.assert_allclose(found, clf.decision_function(X), atol=1e-5)

    def test_callbacks_and_optimizer_reach_skorch(self, data):
        X, y, s = data
        seen = []

        class Watch(Callback):
            def on_epoch_end(self, net, **kwargs):
                seen.append(net.optimizer_)

        clf = FairLowRankHeadClassifier(
            rank=2,
            solver=FineTune(
                optimizer=torch.optim.SGD,
                optimizer_kwargs={"momentum": 0.9},
                lr=0.02,
                weight_decay=0.3,
                max_epochs=2,
                batch_size=50,
                tol=None,
                callbacks=[Watch(), ("mine", LRScheduler("StepLR", step_size=1, gamma=0.5))],
            ),
        ).fit(X, y, sensitive_features=s)
        assert isinstance(seen[0], torch.optim.SGD)
        group = seen[0].param_groups[0]
        assert (group["momentum"], group["lr"], group["weight_decay"]) == (0.9, 0.005, 0.3)
        assert len(seen) == 2
        assert clf.history_[:, "event_lr"] == [0.02, 0.01]
        assert len(clf.history_[0, "batches"]) == 6

    @pytest.mark.parametrize("batch_size", [None, 32])
    def test_skorch_s_scoring_callbacks(self, data, batch_size):
        X, y, s = data
        seen = []

        class Watch(Callback):
            def on_train_begin(self, net, X=None, **kwargs):
                seen.append(net.get_split_datasets(X)[1].Z.numpy())

        clf = FairLowRankHeadClassifier(
            head=nn.Linear(8, 3),
            rank=2,
            solver=FineTune(
                batch_size=batch_size,
                early_stopping=True,
                max_epochs=1,
                tol=None,
                callbacks=[
                    Watch(),
                    EpochScoring("accuracy", lower_is_better=False),
                    EpochScoring("accuracy", lower_is_better=False, on_train=True, name="train"),
                ],
            ),
            random_state=0,
        ).fit(X, y, sensitive_features=s)
        held_out = np.isin(X[:, 0], seen[0][:, 0])
        assert clf.history_[0, "accuracy"] == clf.score(X[held_out], y[held_out])
        assert 0 <= clf.history_[0, "train"] <= 1

    @pytest.mark.parametrize("early_stopping", [False, True])
    @pytest.mark.parametrize("patience", [1, 4])
    def test_patience(self, data, early_stopping, patience):
        X, y, s = data
        clf = FairLowRankHeadClassifier(
            rank=2,
            solver=FineTune(
                lr=1e-3, tol=0.5, early_stopping=early_stopping, n_iter_no_change=patience
            ),
            random_state=0,
        )
        assert len(clf.fit(X, y, sensitive_features=s).history_) == 1 + patience

    def test_a_user_s_early_stopping_is_no_lack_of_convergence(self, data):
        X, y, s = data
        stop = EarlyStopping("train_loss", patience=1, threshold=0.5)
        clf = FairLowRankHeadClassifier(
            rank=2, solver=FineTune(lr=1e-3, callbacks=[stop], max_epochs=50)
        )
        assert len(clf.fit(X, y, sensitive_features=s).history_) == 2

    def test_an_undertrained_head_is_reported(self, data):
        X, y, s = data
        clf = FairLowRankHeadClassifier(
            head=nn.Linear(8, 3), rank=2, solver=FineTune(lr=1e-4, max_epochs=3)
        )
        with pytest.warns(
            ConvergenceWarning, match="max_epochs=3 before the loss settled"
        ) as record:
            clf.fit(X, y, sensitive_features=s)
        assert [warning.filename for warning in record] == [__file__]
        clf.set_params(solver__tol=None).fit(X, y, sensitive_features=s)  # as asked for: no warning

    def test_verbose(self, data, capsys):
        X, y, s = data
        for verbose, out, err in ((0, "", ""), (1, "", "epoch"), (2, "train_loss", "")):
            clf = FairLowRankHeadClassifier(
                nn.Linear(8, 8), rank=2, solver=FineTune(max_epochs=2, tol=None), verbose=verbose
            )
            clf.fit(X, y, sensitive_features=s)
            shown = capsys.readouterr()
            assert out in shown.out
            assert err in shown.err
            assert (shown.out == "") == (out == "")
            assert ("features" in shown.err) == (verbose > 0)

    def test_devices_by_name(self, data):
        X, y, s = data
        auto = FairLowRankHeadClassifier(rank=2).fit(X, y, sensitive_features=s)
        for device in ("cpu", torch.device("cpu")):
            clf = FairLowRankHeadClassifier(nn.Identity(), rank=2, device=device)
            clf.fit(X, y, sensitive_features=s)
            np.testing.assert_allclose(clf.predict_proba(X), auto.predict_proba(X), atol=1e-4)
            assert clf.feature_extractor_.device == device

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    @pytest.mark.parametrize("head", HEADS)
    @pytest.mark.parametrize("settings", [{"rank": 2, "max_epochs": 2, "tol": None}, RANDOM])
    def test_cuda_trains_the_same_head(self, data, head, settings):
        X, y, s = data
        dropout = head == "dropout"
        head = HEADS[head]()
        runs = {}
        state = torch.cuda.get_rng_state()
        for device in ("cpu", "cuda", "auto"):
            module = nn.Linear(8, 8)
            with torch.no_grad():
                module.weight.copy_(torch.eye(8))
                module.bias.zero_()
            clf = FairLowRankHeadClassifier(
                module, **flat(head=head, **settings, device=device, random_state=0)
            )
            clf.fit(X, y, sensitive_features=s)
            runs[device] = clf.decision_function(X)
            assert module.weight.device.type == "cpu"
            assert next(clf.head_.parameters()).device.type == "cpu"
            assert clf.net_.device == torch.device("cpu" if device == "cpu" else "cuda")
        np.testing.assert_array_equal(runs["cuda"], runs["auto"])
        assert torch.equal(torch.cuda.get_rng_state(), state)
        if not dropout:  # which draws other numbers there
            np.testing.assert_allclose(runs["cuda"], runs["cpu"], atol=1e-2)


def test_products_use_one_thread_and_the_number_of_threads_is_left_alone(data):
    class Count(Callback):
        def on_batch_end(self, net, **kwargs):
            seen.add(torch.get_num_threads())

    X, y, s = data
    seen = set()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        FairLowRankHeadClassifier(solver=FineTune(callbacks=[Count()])).fit(
            X, y, sensitive_features=s
        )
        assert seen == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("settings", "groups", "message"),
    [
        ({}, None, "no sensitive_features"),
        ({}, "constant", "is constant"),
        ({"rank": 9}, "all", "above min"),
        ({"max_epochs": 1}, "all", "before the loss settled"),
    ],
)
def test_warnings_point_to_the_line_that_called_fit(data, settings, groups, message):
    X, y, s = data
    s = {None: None, "constant": np.zeros_like(y), "all": s}[groups]
    with pytest.warns(UserWarning, match=message) as caught:
        FairLowRankHeadClassifier(**flat(**settings)).fit(X, y, sensitive_features=s)
    assert {record.filename for record in caught} == {__file__}


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_net_predicts_what_the_classifier_does(n_classes, dtype):
    X, y, s = make_biased_classification(200, 8, n_classes=n_classes, random_state=0)
    X = X.astype(dtype)
    clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
    np.testing.assert_allclose(clf.net_.predict_proba(X), clf.predict_proba(X), rtol=1e-9)
    assert (clf.net_.predict(X) == clf.predict(X)).all()


def test_without_penalty_it_is_unpenalized_logistic_regression():
    X, y, s = make_biased_classification(400, 6, n_classes=3, class_sep=0.5, random_state=0)
    ours = FairLowRankHeadClassifier(C=np.inf, solver=FineTune(tol=1e-9)).fit(
        X, y, sensitive_features=s
    )
    theirs = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    penalized = FairLowRankHeadClassifier(C=0.01).fit(X, y, sensitive_features=s)
    assert np.abs(penalized.predict_proba(X) - theirs.predict_proba(X)).max() > 0.05
