import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from oracles import logistic_objective
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.nn import functional as F

from skfairft import FairLowRankHeadClassifier, FineTune
from skfairft.head.modules import StandardizedHead
from skfairft.head.outputs import fit_linear_head
from skfairft.head.training import TensorBatches, TensorRows, fine_tune
from skfairft.lowrank.factorization import weighted_svd
from skfairft.lowrank.layer import LowRankHead
from skfairft.lowrank.moments import column_moments

D = 6


def make_rows(n_classes=2, n=300, seed=0):
    """Rows of one distribution, with features of different scales and noisy labels."""
    truth, rng = np.random.default_rng(99), np.random.default_rng(seed)
    weight, scale, shift = truth.normal(size=(D, n_classes)), *truth.exponential(size=(2, D))
    base = rng.normal(size=(n, D))
    logits = base @ weight + rng.gumbel(size=(n, n_classes))
    Z = base * scale + shift
    tensors = Z, logits.argmax(axis=1), rng.exponential(size=n)
    return TensorRows(*map(torch.from_numpy, tensors))


def groups_of(rows):
    """Two groups in which every class is frequent, so that fit has nothing to warn of."""
    return np.arange(len(rows)) % 2


def make_module(rows, n_classes=2, rank=None, C=1.0):
    """A fitted head, cut to a rank, as the classifier hands it over."""
    weight, bias = fit_linear_head(rows, n_classes, C)
    head = LowRankHead(weight, None, bias)
    if rank is not None:
        head = LowRankHead(*weighted_svd(weight, torch.ones(D)).factors(rank), bias)
    return StandardizedHead(head, None, *column_moments(rows.Z, rows.w), None, torch.float64)


def make_untrained(rows, n_classes=2):
    head = LowRankHead(torch.zeros(D, n_classes).double(), None, torch.zeros(n_classes).double())
    return StandardizedHead(head, None, *column_moments(rows.Z, rows.w), None, torch.float64)


def train(module, rows, valid=None, **changes):
    """Fine-tune with the classifier's defaults, except for what is given."""
    settings = {
        "n_classes": len(module.head.bias),
        "l2": 2.0 / float(rows.w.sum()),
        "optimizer": None,
        "optimizer_kwargs": None,
        "lr": None,
        "weight_decay": 0.0,
        "batch_size": None,
        "max_epochs": 100,
        "tol": 1e-4,
        "patience": 5,
        "callbacks": None,
        "device": torch.device("cpu"),
        "seed": 0,
        "verbose": 0,
    }
    unit_mean = rows.with_unit_mean_weights()
    held_out = None if valid is None else valid.with_unit_mean_weights()
    return fine_tune(module, unit_mean, held_out, **{**settings, **changes})


def train_hidden(module, rows, **changes):
    return train(module, rows, n_classes=2, **changes)


ADAMW = {"optimizer": torch.optim.AdamW, "lr": 0.05, "batch_size": 32, "tol": None}
LBFGS = {"optimizer": torch.optim.LBFGS, "optimizer_kwargs": {"max_iter": 2}, "tol": None}


def assert_same_parameters(ours, theirs):
    state = theirs.state_dict()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, state[name]), name


def same_parameters(ours, theirs):
    state = theirs.state_dict()
    return all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())


class TestTensorRows:
    def test_unit_mean_weights_keep_their_proportions(self):
        rows = TensorRows(torch.zeros(4, 2), None, torch.tensor([1.0, 2.0, 3.0, 6.0]).double())
        scaled = rows.with_unit_mean_weights()
        assert scaled.w.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0, 2.0])
        assert scaled.w.dtype == torch.float64
        assert rows.w.tolist() == [1.0, 2.0, 3.0, 6.0]

    def test_features_alone_have_weight_one(self):
        inputs, _ = TensorRows(np.ones((3, 2)))[:]
        assert inputs["Z"].dtype == inputs["w"].dtype == torch.float64
        assert inputs["w"].tolist() == [1.0, 1.0, 1.0]

    def test_groups_stay_with_their_rows(self):
        Z, y, w = torch.zeros(5, 2), torch.arange(5), torch.arange(1.0, 6.0).double()
        rows = TensorRows(Z, y, w, 10 * y)
        chosen = rows.take(np.array([4, 0, 2])).with_unit_mean_weights().to(torch.device("cpu"))
        assert chosen.codes.tolist() == [40, 0, 20]
        inputs, labels = chosen[torch.tensor([2, 1])]
        assert inputs["codes"].tolist() == (10 * labels).tolist() == [20, 0]
        # Numbers are those of the rows it has, not of those it was taken from.
        assert inputs["numbers"].tolist() == [2, 1]

    def test_without_groups_has_no_numbers(self):
        assert set(TensorRows(torch.zeros(3, 2))[:][0]) == {"Z", "w"}


class TestTensorBatches:
    N = 103

    def rows(self):
        index = torch.arange(self.N)
        return TensorRows(index[:, None].float(), index, 2.0 * index)

    def epoch(self, batches):
        """The order of the rows in an epoch, having checked that rows stay together."""
        order = []
        for inputs, y in batches:
            assert torch.equal(inputs["Z"][:, 0], y.float())
            assert torch.equal(inputs["w"], 2.0 * y)
            order.append(y)
        return order

    @pytest.mark.parametrize("seed", [None, 0])
    @pytest.mark.parametrize("batch_size", [10, 103])
    def test_rows_know_their_numbers(self, batch_size, seed):
        rows, codes = self.rows(), torch.arange(self.N) % 3
        rows = TensorRows(rows.Z, rows.y, rows.w, codes)
        for inputs, y in TensorBatches(rows, batch_size, seed):
            assert torch.equal(inputs["numbers"], y)
            assert torch.equal(inputs["codes"], y % 3)

    @pytest.mark.parametrize("seed", [None, 0])
    @pytest.mark.parametrize("batch_size", [1, 10, 102, 103, 1000])
    def test_an_epoch_has_each_row_once(self, batch_size, seed):
        batches = TensorBatches(self.rows(), batch_size, seed)
        for _ in range(2):
            epoch = self.epoch(batches)
            assert torch.equal(torch.cat(epoch).sort().values, torch.arange(self.N))
            assert all(len(batch) == min(batch_size, self.N) for batch in epoch[:-1])
            assert 1 <= len(epoch[-1]) <= batch_size

    def test_without_seed_the_order_is_kept(self):
        epoch = torch.cat(self.epoch(TensorBatches(self.rows(), 10)))
        assert torch.equal(epoch, torch.arange(self.N))

    def test_each_epoch_is_shuffled_anew(self):
        batches = TensorBatches(self.rows(), 10, seed=0)
        orders = [torch.cat(self.epoch(batches)) for _ in range(3)]
        for i, order in enumerate(orders):
            assert not torch.equal(order, torch.arange(self.N))
            assert not torch.equal(order, orders[i - 1])

    def test_the_seed_decides_the_order(self):
        def orders(seed):
            batches = TensorBatches(self.rows(), 10, seed)
            return torch.stack([torch.cat(self.epoch(batches)) for _ in range(2)])

        assert torch.equal(orders(7), orders(7))
        assert not torch.equal(orders(7), orders(8))

    def test_shuffling_leaves_the_global_random_state_alone(self):
        state = torch.get_rng_state()
        self.epoch(TensorBatches(self.rows(), 10, seed=0))
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("batch_size", [103, 1000])
    def test_a_full_batch_is_not_copied(self, batch_size):
        rows = self.rows()
        ((inputs, y),) = TensorBatches(rows, batch_size, seed=0)
        for ours, theirs in ((inputs["Z"], rows.Z), (y, rows.y), (inputs["w"], rows.w)):
            assert ours.data_ptr() == theirs.data_ptr()
        assert torch.equal(y, torch.arange(self.N))


class TestLoss:
    @pytest.mark.parametrize("C", [0.01, 1.0, 10.0])
    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_is_the_objective_of_logistic_regression_per_row(self, n_classes, C):
        rows = make_rows(n_classes)
        y, w = rows.y.numpy(), rows.w.numpy()
        clf = FairLowRankHeadClassifier(C=C, solver=FineTune(max_epochs=0))
        clf.fit(rows.Z.numpy(), y, sample_weight=w, sensitive_features=groups_of(rows))
        net = clf.net_
        X = StandardScaler().fit(rows.Z.numpy(), sample_weight=w).transform(rows.Z.numpy())
        rng = np.random.default_rng(0)
        for _ in range(3):
            coef = rng.normal(size=(1 if n_classes == 2 else n_classes, D))
            intercept = rng.normal(size=len(coef))
            # Two classes have the margin as the difference of their columns -w/2 and w/2.
            columns = np.array([[-0.5], [0.5]]) if n_classes == 2 else np.eye(n_classes)
            with torch.no_grad():
                net.module_.head.A.copy_(torch.from_numpy((columns @ coef).T))
                net.module_.head.bias.copy_(torch.from_numpy(columns @ intercept))
            inputs, y_true = rows.with_unit_mean_weights()[:]
            loss = net.get_loss(net.infer(inputs), y_true, X=inputs, training=True).item()
            expected = logistic_objective(coef, intercept, X, y, w, C) / (C * w.sum())
            assert loss == pytest.approx(expected, rel=1e-10)
            # The penalty is a part of it that shows, and only in training.
            penalty = 0.5 * (coef**2).sum() / (C * w.sum())
            assert penalty > 1e-4 * loss
            evaluated = net.get_loss(net.infer(inputs), y_true, X=inputs).item()
            assert evaluated == pytest.approx(expected - penalty, rel=1e-8)

    def test_of_an_epoch_counts_a_smaller_last_batch_as_such(self):
        # A learning rate of 1e-300 holds the parameters, so that all batches see the same head.
        rows = make_rows(n=100)
        net = train(make_module(rows), rows, **{**ADAMW, "lr": 1e-300, "max_epochs": 1})
        inputs, y = rows.with_unit_mean_weights()[:]
        whole = net.get_loss(net.infer(inputs), y, X=inputs, training=True).item()
        assert net.history[0, "batches", :, "train_batch_size"] == [32, 32, 32, 4]
        assert net.history[0, "train_loss"] == pytest.approx(whole, rel=1e-12)

    def test_of_the_hold_out_is_weighted_and_unpenalized(self):
        rows, valid = make_rows(), make_rows(n=50, seed=1)
        net = train(make_untrained(rows), rows, valid, l2=10.0, max_epochs=1, tol=None)
        with torch.no_grad():
            each = F.cross_entropy(net.module_(valid.Z), valid.y, reduction="none")
        expected = float((valid.w * each).sum() / valid.w.sum())
        assert net.history[0, "valid_loss"] == pytest.approx(expected, rel=1e-12)
        assert expected != pytest.approx(float(each.mean()), rel=1e-3)


class TestOptimum:
    @pytest.mark.parametrize("rank", [None, "full"])
    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_lbfgs_stays_at_that_of_logistic_regression(self, n_classes, rank):
        rows = make_rows(n_classes)
        l2 = (2.0 if n_classes == 2 else 1.0) / float(rows.w.sum())
        module = make_module(rows, n_classes, rank=None if rank is None else n_classes)
        before = module(rows.Z).detach()
        net = train(module, rows, l2=l2)
        unit = rows.with_unit_mean_weights()
        inputs, y = unit[:]
        loss = net.get_loss(module(unit.Z), y, X=inputs, training=True)
        assert loss.item() <= net.history[0, "train_loss"] + 1e-15
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        assert max(float(g.abs().max()) for g in gradients) < 1e-4
        torch.testing.assert_close(module(rows.Z).detach(), before, rtol=1e-3, atol=2e-3)
        # And this is scikit-learn's own optimum.
        X = StandardScaler().fit(rows.Z, sample_weight=rows.w).transform(rows.Z)
        model = LogisticRegression(tol=1e-8, max_iter=1000).fit(X, rows.y, sample_weight=rows.w)
        proba = torch.softmax(module(rows.Z), dim=1).detach().numpy()
        np.testing.assert_allclose(proba, model.predict_proba(X), atol=1e-3)

    @pytest.mark.parametrize("n_classes", [2, 4])
    def test_lbfgs_finds_it_from_anywhere(self, n_classes):
        # Otherwise staying there would say nothing.
        rows = make_rows(n_classes)
        l2 = (2.0 if n_classes == 2 else 1.0) / float(rows.w.sum())
        net = train(make_untrained(rows, n_classes), rows, l2=l2, tol=1e-9)
        optimum = train(make_module(rows, n_classes), rows, l2=l2, tol=1e-9)
        assert net.history[0, "train_loss"] == pytest.approx(np.log(n_classes))
        assert net.history[-1, "train_loss"] == pytest.approx(
            optimum.history[-1, "train_loss"], rel=1e-8
        )

    @pytest.mark.parametrize("rank", [1, 2])
    def test_training_recovers_loss_that_truncation_cost(self, rank):
        rows = make_rows(4)
        l2 = 1.0 / float(rows.w.sum())
        losses = train(make_module(rows, 4, rank), rows, l2=l2).history[:, "train_loss"]
        full = train(make_module(rows, 4), rows, l2=l2).history[-1, "train_loss"]
        assert (np.diff(losses) <= 1e-12).all()
        assert full < losses[-1] < losses[0] - 1e-3

    def test_integer_weights_stand_for_repeated_rows(self):
        rows = make_rows()
        times = rows.w.ceil().long().clamp(max=3)
        weighted = TensorRows(rows.Z, rows.y, times.double())
        Z, y = rows.Z.repeat_interleave(times, dim=0), rows.y.repeat_interleave(times)
        repeated = TensorRows(Z, y, torch.ones(len(y)).double())
        ours, theirs, plain = (
            train(make_untrained(weighted), some, tol=1e-12).module_(rows.Z)
            for some in (weighted, repeated, TensorRows(rows.Z, rows.y))
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(ours, plain, rtol=1e-2, atol=1e-2)


class Interrupt(Callback):
    """Raise KeyboardInterrupt at the n-th call of a hook, as Ctrl-C would."""

    def __init__(self, hook, after):
        self.hook, self.left = hook, after

    def count(self, hook, training=True):
        if hook == self.hook and training:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def on_batch_end(self, net, training=True, **kwargs):
        self.count("on_batch_end", training)

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.count("on_grad_computed")

    def on_epoch_end(self, net, **kwargs):
        self.count("on_epoch_end")


class TestInterruption:
    # Rows are 10 batches of 32; with max_iter=2 L-BFGS takes 2 to 4 gradients per epoch.
    @pytest.mark.parametrize(
        ("settings", "hook", "after", "whole_epochs"),
        [
            (ADAMW, "on_batch_end", 3, 0),
            (ADAMW, "on_batch_end", 23, 2),
            (ADAMW, "on_grad_computed", 30, 2),
            (LBFGS, "on_grad_computed", 2, 0),
            (LBFGS, "on_batch_end", 3, 2),
        ],
    )
    @pytest.mark.parametrize("hold_out", [False, True])
    def test_keeps_the_last_whole_epoch(self, settings, hook, after, whole_epochs, hold_out):
        rows = make_rows(n=320)
        valid = make_rows(n=50, seed=1) if hold_out else None
        module = make_untrained(rows)
        net = train(module, rows, valid, callbacks=[Interrupt(hook, after)], **settings)
        assert net.interrupted_
        whole = train(make_untrained(rows), rows, valid, max_epochs=whole_epochs, **settings)
        assert_same_parameters(module, whole.module_)
        assert len(net.history) == whole_epochs
        if whole_epochs:
            losses = net.history[:, "train_loss"]
            assert losses == whole.history[:, "train_loss"]
            # Control: the epochs differ, and each did something.
            shorter = train(
                make_untrained(rows), rows, valid, max_epochs=whole_epochs - 1, **settings
            )
            assert not same_parameters(module, shorter.module_)

    @pytest.mark.parametrize("settings", [ADAMW, LBFGS])
    def test_at_the_end_of_an_epoch_keeps_it(self, settings):
        rows = make_rows(n=320)
        module = make_untrained(rows)
        net = train(module, rows, callbacks=[Interrupt("on_epoch_end", 2)], **settings)
        whole = train(make_untrained(rows), rows, max_epochs=2, **settings)
        assert_same_parameters(module, whole.module_)
        assert net.history[:, "train_loss"] == whole.history[:, "train_loss"]

    def test_in_a_line_search_of_lbfgs_keeps_the_last_whole_epoch(self):
        rows = make_rows()
        evaluations = []

        class Count(Callback):
            def on_grad_computed(self, net, named_parameters, **kwargs):
                evaluations.append(len(net.history))

        train(make_untrained(rows), rows, max_epochs=3, callbacks=[Count()], **LBFGS)
        # The last evaluation of the third epoch, when the parameters have moved already.
        middle = Interrupt("on_grad_computed", len(evaluations))
        assert evaluations.count(3) > 1
        module = make_untrained(rows)
        train(module, rows, callbacks=[middle], **LBFGS)
        whole = train(make_untrained(rows), rows, max_epochs=2, **LBFGS)
        assert_same_parameters(module, whole.module_)

    def test_with_early_stopping_keeps_the_best_epoch(self):
        rows, valid = overfitting()
        whole = train(make_untrained(rows), rows, valid, **OVERFIT)
        best = int(np.argmin(whole.history[:, "valid_loss"])) + 1
        module = make_untrained(rows)
        batches = -(-len(rows) // OVERFIT["batch_size"])
        interrupt = Interrupt("on_batch_end", batches * (best + 2) + 1)
        train(module, rows, valid, callbacks=[interrupt], **OVERFIT)
        assert_same_parameters(module, whole.module_)

    def test_the_bar_is_closed(self, capsys):
        rows = make_rows()
        interrupt = Interrupt("on_batch_end", 15)
        net = train(make_untrained(rows), rows, callbacks=[interrupt], verbose=1, **ADAMW)
        assert "1/100" in capsys.readouterr().err
        pickle.dumps(net)

    def test_early_stopping_is_none(self):
        rows, valid = overfitting()
        ours = train(make_untrained(rows), rows, valid, **OVERFIT)
        theirs = train(
            make_module(rows),
            rows,
            callbacks=[EarlyStopping("train_loss", patience=2)],
            **{**LBFGS, "max_epochs": 50},
        )
        converged = train(make_module(rows), rows)
        for net in (ours, theirs, converged):
            assert not net.interrupted_
            assert net.stopped_early()
            assert 1 < len(net.history) < 50

    def test_errors_of_callbacks_are_not_swallowed(self):
        class Fail(Callback):
            def on_batch_end(self, net, **kwargs):
                raise RuntimeError("from a callback")

        rows = make_rows()
        with pytest.raises(RuntimeError, match="from a callback"):
            train(make_untrained(rows), rows, callbacks=[Fail()])


OVERFIT = {
    "optimizer": torch.optim.AdamW,
    "lr": 0.3,
    "batch_size": 8,
    "l2": 0.0,
    "patience": 6,
    "max_epochs": 49,
}


def overfitting():
    """Few rows with noisy labels, and a hold-out whose loss soon rises."""
    return make_rows(n=30, seed=3), make_rows(n=200, seed=4)


class TestEarlyStopping:
    @pytest.mark.parametrize("tol", [1e-4, None])
    def test_restores_the_epoch_with_the_best_hold_out_loss(self, tol):
        rows, valid = overfitting()
        module = make_untrained(rows)
        net = train(module, rows, valid, **OVERFIT, tol=tol)
        losses = net.history[:, "valid_loss"]
        best = int(np.argmin(losses)) + 1
        assert len(losses) == best + 6
        at_best = train(
            make_untrained(rows), rows, **{**OVERFIT, "max_epochs": best, "tol": None}
        ).module_
        assert_same_parameters(module, at_best)
        # Control: the training went on, to worse on the hold-out and better on its own rows.
        assert losses[-1] > 1.01 * losses[best - 1]
        assert net.history[-1, "train_loss"] < net.history[best - 1, "train_loss"]

    def test_without_hold_out_watches_the_training_loss(self):
        rows, _ = overfitting()
        net = train(make_untrained(rows), rows, **{**OVERFIT, "max_epochs": 25, "tol": None})
        assert "valid_loss" not in net.history[0]
        assert len(net.history) == 25

    def test_the_net_does_not_hold_the_rows(self):
        rows, valid = make_rows(), make_rows(n=20_000, seed=1)
        net = train(make_untrained(rows), rows, valid)
        assert net.train_split is None
        size = len(pickle.dumps(net))
        assert size < 0.1 * valid.Z.numel() * 8
        # Nor the training rows.
        assert len(pickle.dumps(train(make_untrained(rows), valid))) < 0.1 * valid.Z.numel() * 8


class TestConvergenceWarning:
    def test_tells_that_max_epochs_was_too_small(self):
        rows = make_rows()
        with pytest.warns(ConvergenceWarning, match=r"max_epochs=2 .*tol=0\.0001.*look fairer"):
            train(make_untrained(rows), rows, **{**ADAMW, "lr": 1e-3, "tol": 1e-4, "max_epochs": 2})

    def test_is_absent_without_tolerance(self):
        # Warnings are errors here.
        rows = make_rows()
        net = train(make_untrained(rows), rows, **{**ADAMW, "lr": 1e-3, "max_epochs": 2})
        assert len(net.history) == 2

    def test_is_absent_after_convergence_in_the_last_epoch(self):
        rows = make_rows()
        epochs = len(train(make_module(rows), rows).history)
        assert len(train(make_module(rows), rows, max_epochs=epochs).history) == epochs

    def test_points_at_the_call_of_fit(self):
        rows = make_rows()
        clf = FairLowRankHeadClassifier(solver=FineTune(lr=1e-3, max_epochs=1))
        with pytest.warns(ConvergenceWarning) as caught:
            clf.fit(rows.Z.numpy(), rows.y.numpy(), sensitive_features=groups_of(rows))
        assert caught[0].filename == __file__

    def test_of_an_interruption_points_at_the_call_of_fit(self):
        rows = make_rows()
        clf = FairLowRankHeadClassifier(solver=FineTune(callbacks=[Interrupt("on_batch_end", 2)]))
        with pytest.warns(UserWarning, match="interrupted") as caught:
            clf.fit(rows.Z.numpy(), rows.y.numpy(), sensitive_features=groups_of(rows))
        assert caught[0].filename == __file__


@pytest.mark.parametrize("hold_out", [False, True])
def test_a_head_that_diverged_is_an_error(hold_out):
    # EarlyStopping takes the NaN of its losses for a loss that settled.
    rows = make_rows()
    valid = make_rows(n=50, seed=1) if hold_out else None
    settings = {"optimizer": torch.optim.SGD, "lr": 1e200}
    with pytest.raises(ValueError, match=r"diverged: after 5 epochs of SGD with lr=1e\+200 .*lr"):
        train(make_untrained(rows), rows, valid, **settings)


class TestOptimizer:
    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, torch.optim.LBFGS),
            ({"lr": 0.01}, torch.optim.AdamW),
            ({"batch_size": 50}, torch.optim.AdamW),
            ({"lr": 0.01, "batch_size": 50}, torch.optim.AdamW),
            ({"optimizer": torch.optim.SGD}, torch.optim.SGD),
            ({"optimizer": torch.optim.Rprop}, torch.optim.Rprop),  # has no weight_decay
            ({"optimizer": torch.optim.LBFGS, "lr": 0.5}, torch.optim.LBFGS),
        ],
    )
    def test_choice(self, settings, expected):
        rows = make_rows()
        net = train(make_untrained(rows), rows, max_epochs=1, tol=None, **settings)
        assert type(net.optimizer_) is expected
        (group,) = net.optimizer_.param_groups
        if "lr" in settings:
            assert group["lr"] == settings["lr"]
        if expected is torch.optim.LBFGS:
            assert group["line_search_fn"] == "strong_wolfe"

    @pytest.mark.parametrize(
        ("n", "settings", "sizes"),
        [
            (300, {}, [300]),
            (300, {"batch_size": 200, "optimizer": torch.optim.LBFGS}, [200, 100]),
            (300, {"batch_size": 1000, "lr": 0.1}, [300]),
            (300, {"batch_size": 120}, [120, 120, 60]),
        ],
    )
    def test_batches(self, n, settings, sizes):
        rows = make_rows(n=n)
        net = train(make_untrained(rows), rows, max_epochs=1, tol=None, **settings)
        assert net.history[0, "batches", :, "train_batch_size"] == sizes

    @pytest.mark.parametrize(("n", "size"), [(20, 20), (50, 32), (500, 50), (20_000, 1024)])
    def test_default_batch_is_a_tenth_of_the_rows_within_bounds(self, n, size):
        rows = make_rows(n=n)
        net = train(make_untrained(rows), rows, max_epochs=1, tol=None, lr=0.01)
        assert net.history[0, "batches", 0, "train_batch_size"] == size

    def test_arguments_arrive(self):
        rows = make_rows()
        net = train(
            make_untrained(rows),
            rows,
            max_epochs=0,
            optimizer=torch.optim.SGD,
            optimizer_kwargs={"momentum": 0.9, "nesterov": True},
            lr=0.2,
            weight_decay=0.3,
        )
        (group,) = net.optimizer_.param_groups
        assert (group["momentum"], group["nesterov"]) == (0.9, True)
        assert (group["lr"], group["weight_decay"]) == (0.2, 0.3)

    def test_torchs_own_weight_decay_is_not_let_in(self):
        rows = make_rows()
        assert torch.optim.AdamW([torch.zeros(1)]).param_groups[0]["weight_decay"] > 0
        net = train(make_untrained(rows), rows, max_epochs=0, lr=0.1)
        assert net.optimizer_.param_groups[0]["weight_decay"] == 0

    def test_arguments_override_ours(self):
        rows = make_rows()
        kwargs = {"line_search_fn": None, "max_iter": 3}
        net = train(make_untrained(rows), rows, max_epochs=0, optimizer_kwargs=kwargs)
        (group,) = net.optimizer_.param_groups
        assert (group["line_search_fn"], group["max_iter"]) == (None, 3)
        assert kwargs == {"line_search_fn": None, "max_iter": 3}

    @pytest.mark.parametrize("optimizer", [None, torch.optim.LBFGS, torch.optim.Rprop])
    def test_weight_decay_needs_an_optimizer_that_has_it(self, optimizer):
        rows = make_rows()
        name = "LBFGS" if optimizer is None else optimizer.__name__
        with pytest.raises(ValueError, match=rf"weight_decay=0\.1 .*{name}.*use C .*AdamW"):
            train(make_untrained(rows), rows, optimizer=optimizer, weight_decay=0.1)


class TestReproducibility:
    def test_minibatches_follow_the_seed(self):
        rows = make_rows()

        def run(seed):
            return train(make_untrained(rows), rows, max_epochs=2, seed=seed, **ADAMW).module_

        assert_same_parameters(run(3), run(3))
        assert not same_parameters(run(3), run(4))

    def test_dropout_follows_the_seed_too(self):
        rows = make_rows()
        whole = {**ADAMW, "batch_size": len(rows), "max_epochs": 2}

        def run(seed):
            module = make_hidden(rows, [nn.Dropout(0.5)])
            state = torch.get_rng_state()
            train_hidden(module, rows, seed=seed, **whole)
            assert torch.equal(torch.get_rng_state(), state)
            return module

        ours = run(3)
        torch.rand(1)  # the global random state moves on
        assert_same_parameters(ours, run(3))
        assert not same_parameters(ours, run(4))

    def test_full_batches_need_no_seed(self):
        rows = make_rows()

        def run(seed):
            return train(make_untrained(rows), rows, seed=seed).module_

        assert_same_parameters(run(3), run(4))

    @pytest.mark.parametrize("settings", [ADAMW, LBFGS])
    def test_the_global_random_state_is_left_alone(self, settings):
        rows = make_rows()
        state = torch.get_rng_state()
        train(make_untrained(rows), rows, make_rows(n=20, seed=1), max_epochs=2, **settings)
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_rows_and_the_list_of_callbacks_are_left_alone(self):
        rows, callbacks = make_rows(), [Callback()]
        before = copy.deepcopy(rows)
        train(make_untrained(rows), rows, callbacks=callbacks)
        assert all(torch.equal(getattr(rows, name), getattr(before, name)) for name in "Zyw")
        assert len(callbacks) == 1


def make_hidden(rows, tail):
    rng = np.random.default_rng(0)
    weight, bias = torch.from_numpy(rng.normal(size=(D, 4))), torch.zeros(4).double()
    output = nn.utils.skip_init(nn.Linear, 4, 2, dtype=torch.float64)
    with torch.no_grad():
        output.weight.copy_(torch.from_numpy(rng.normal(size=(2, 4))))
        output.bias.zero_()
    return StandardizedHead(
        LowRankHead(weight, None, bias),
        nn.Sequential(*tail, output),
        *column_moments(rows.Z, rows.w),
        torch.ones(4).double(),
        torch.float64,
    )


class TestHiddenLayer:
    @pytest.mark.parametrize("settings", [ADAMW, LBFGS])
    @pytest.mark.parametrize("tail", [[], [nn.Tanh()], [nn.ReLU()]])
    def test_all_of_it_is_trained(self, tail, settings):
        rows = make_rows()
        module = make_hidden(rows, tail)
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        net = train_hidden(module, rows, max_epochs=8, **settings)
        assert net.history[-1, "train_loss"] < 0.9 * net.history[0, "train_loss"]
        for name, parameter in module.named_parameters():
            assert not torch.equal(parameter, before[name]), name


class TestVerbosity:
    def run(self, verbose, valid=None):
        rows = make_rows()
        train(make_untrained(rows), rows, valid, max_epochs=3, tol=None, verbose=verbose)

    def test_zero_is_silent(self, capsys):
        self.run(0)
        self.run(0, valid=make_rows(n=20, seed=1))
        assert capsys.readouterr() == ("", "")

    def test_one_is_a_bar_with_the_losses(self, capsys):
        self.run(1, valid=make_rows(n=20, seed=1))
        out, err = capsys.readouterr()
        assert out == ""
        assert "fine-tuning: 100%" in err
        assert "3/3" in err
        assert "train_loss=" in err
        assert "valid_loss=" in err

    def test_two_is_the_table_of_skorch(self, capsys):
        self.run(2)
        out, err = capsys.readouterr()
        header, _, *rows = out.strip().splitlines()
        assert header.split() == ["epoch", "train_loss", "dur"]
        assert [row.split()[0] for row in rows] == ["1", "2", "3"]
        assert err == ""


class TestNet:
    def test_predicts_the_probabilities_of_its_module(self):
        rows = make_rows(4)
        net = train(make_module(rows, 4), rows, l2=0.01)
        expected = torch.softmax(net.module_(rows.Z), dim=1).detach().numpy()
        for Z in (rows.Z, rows.Z.numpy(), rows):
            np.testing.assert_allclose(net.predict_proba(Z), expected, rtol=1e-12)
        np.testing.assert_array_equal(net.predict(rows.Z), expected.argmax(axis=1))
        assert list(net.classes_) == [0, 1, 2, 3]

    def test_predicts_the_same_after_pickling(self):
        rows = make_rows()
        net = train(make_untrained(rows), rows, make_rows(n=20, seed=1), verbose=0)
        again = pickle.loads(pickle.dumps(net))
        np.testing.assert_array_equal(again.predict_proba(rows.Z), net.predict_proba(rows.Z))
        assert again.history == net.history

    def test_zero_epochs_leave_the_module_alone(self):
        rows = make_rows()
        module = make_module(rows)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net = train(module, rows, max_epochs=0)
        assert_same_parameters(module, make_module(rows))
        assert len(net.history) == 0
        assert net.module_ is module


def test_an_optimizer_that_draws_leaves_the_global_generators_as_they_were():
    class Noisy(torch.optim.SGD):
        def step(self, closure=None):
            loss = super().step(closure)
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data += 1e-6 * torch.randn_like(parameter)
            return loss

    rows, state = make_rows(n=200), torch.get_rng_state()
    clf = FairLowRankHeadClassifier(
        solver=FineTune(optimizer=Noisy, max_epochs=2, tol=None), random_state=0
    )
    first, second = (
        clf.fit(rows.Z.numpy(), rows.y.numpy(), sensitive_features=groups_of(rows)).head_.weight
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_in_several_threads_at_once_is_that_of_each_seed():
    rows = make_rows(n=200)
    head = nn.Sequential(nn.Linear(rows.Z.shape[1], 8), nn.ReLU(), nn.Dropout(0.5))
    state = torch.get_rng_state()

    def scores(seed):
        clf = FairLowRankHeadClassifier(
            head=head, solver=FineTune(max_epochs=3, tol=None), random_state=seed
        )
        clf.fit(rows.Z.numpy(), rows.y.numpy(), sensitive_features=groups_of(rows))
        return clf.decision_function(rows.Z.numpy())

    alone = [scores(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(scores, range(4)))
    np.testing.assert_array_equal(together, alone)
    assert torch.equal(torch.get_rng_state(), state)
